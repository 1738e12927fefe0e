"""A teacher: another network's answers on the very images that are learnt from, on their device, in float."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tinynas.errors import UserError
from tinynas.export.pixels import Pixels
from tinynas.foreign import what_is
from tinynas.inputs import Input
from tinynas.train.quantised import Trained
from tinynas.weights.layers import OURS, class_words
from tinynas.weights.nets import network_of
from tinynas.weights.source import ZOO, open_source, run_of, trained_of

_GRAY = (0.299, 0.587, 0.114)


class NetTeacher:
    """See :class:`tinynas.train.start.Teacher`. Images of another size are resized, colours made gray or the reverse."""

    def __init__(
        self, network: Trained, pixels: Pixels, order: Sequence[int], learner: Input, sha256: str, title: str, notes: Sequence[str] = ()
    ) -> None:
        self.network, self.learner, self.sha256, self.title, self.notes = network.eval(), learner, sha256, title, tuple(notes)
        self.shape = network.graph.input.shape
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        channels = self.shape[2]
        mean, std = (np.broadcast_to(np.asarray(part, np.float32), (channels,)).copy() for part in (pixels.mean, pixels.std))
        self._mean, self._std = (torch.from_numpy(part).reshape(1, -1, 1, 1) for part in (mean, std))
        self._bgr = pixels.bgr
        self._order = torch.tensor(list(order))

    def to(self, device: torch.device) -> None:
        """Move it to ``device``."""
        self.network.to(device)
        self._mean, self._std, self._order = (tensor.to(device) for tensor in (self._mean, self._std, self._order))

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """(B, classes) in the learner's order, of what the learner reads."""
        x = images.float() / self.learner.scale + self.learner.zero_point
        height, width, channels = self.shape
        if x.shape[1] == 3 and channels == 1:
            x = (x * torch.tensor(_GRAY, device=x.device).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
        elif x.shape[1] == 1 and channels == 3:
            x = x.expand(-1, 3, -1, -1)
        if tuple(x.shape[2:]) != (height, width):
            x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=True)
        if self._bgr:
            x = x.flip(1)
        said: Tensor = self.network((x - self._mean) / self._std)
        return said.float().index_select(1, self._order)


def open_teacher(text: str, labels: Sequence[str], learner: Input, *, pixels: str = "auto") -> NetTeacher:
    """The teacher ``text``: a .tflite, ``RUN:ID``, or ``zoo:NAME`` whose .tflite is there; for data with the classes ``labels``.

    Raises UserError where it cannot be read or run, or tells other classes apart: both lists are named then.
    """
    notes: list[str] = []
    if not text.startswith(ZOO) and (found := run_of(text)) is not None:
        _, network, digest, names = trained_of(text, *found)
        chosen, trained = OURS, network
        classes = network.graph.classes
    else:
        path = Path(text).expanduser()
        if path.is_file() and not what_is(path).is_tflite:
            raise UserError(f"{text}: is {what_is(path).title or 'no model'}: a teacher is a whole network", "give a .tflite, or RUN:ID")
        known = open_source(text, pixels=pixels)
        trained, digest, names, chosen, classes = network_of(known), known.sha256, known.labels, known.pixels, known.classes
        notes += [f"the teacher {text} reads {known.pixels.formula}: {known.pixels_from}"] if "assumed" in known.pixels_from else []
    if {learner.channels, trained.graph.input.channels} - {1, 3} and learner.channels != trained.graph.input.channels:
        raise UserError(
            f"recipe.teacher: {text} reads {trained.graph.input.channels} channels, the learner {learner.channels}",
            "a teacher reads the same kind of input",
        )
    order = _order(text, names, classes, tuple(labels), notes)
    return NetTeacher(trained, chosen, order, learner, digest, text, notes)


def _order(text: str, names: tuple[str, ...], classes: int, labels: tuple[str, ...], notes: list[str]) -> list[int]:
    """Where each of ``labels`` is among the teacher's classes."""
    if names and len(names) == classes and set(names) == set(labels):
        return [names.index(label) for label in labels]
    if not names and classes == len(labels):
        notes.append(f"the teacher {text} does not name its {classes} classes: they are taken to be {', '.join(labels)}, in this order")
        return list(range(classes))
    theirs, ours = class_words(names, classes), class_words(labels, len(labels))
    raise UserError(
        f"recipe.teacher: {text} tells other classes apart: {theirs}; the data have {ours}",
        "a teacher must know the same classes: promote one on these data, or begin from its weights instead (--init)",
    )
