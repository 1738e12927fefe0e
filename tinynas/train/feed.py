"""Feeds: augmented training batches on the device, by image numbers.

On a CPU inputs come from the memory map and go through numpy and OpenCV. On a GPU the whole split lies in its memory and is
augmented there: a step of a tiny network takes about as long as one copy from the host, so nothing is copied but numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinynas.data import Split
from tinynas.data.images.augment import make_augmenter
from tinynas.data.images.gpu import TensorAugmenter, make_gpu_augmenter
from tinynas.data.sounds.augment import make_sound_augmenter
from tinynas.data.split import Augmenter
from tinynas.errors import DataError
from tinynas.recipe import Augment

Feed = Callable[[int, NDArray[np.int64]], tuple[Tensor, Tensor]]
"""(epoch, input numbers) -> uint8 inputs (B, H, W, C) and labels on the device: int64 (B,), or shares of classes (B, classes)."""

#: Share of a GPU's free memory that the inputs may take; the rest is for activations and for other candidates.
RESIDENT_SHARE = 0.4


@dataclass(frozen=True)
class Augmenters:
    """How training may change inputs of one kind; each maker takes (settings, inputs, seed)."""

    host: Callable[[Augment, Split, int], Augmenter]
    tensors: Callable[[Augment, Split, int], TensorAugmenter] | None
    """None where the host alone can."""
    asked: bool = False
    """Whether it may change labels, so that the data is asked about it."""
    mixes: bool = False
    """Whether inputs may be mixed with each other."""


def _images(augment: Augment, split: Split, seed: int) -> Augmenter:
    return make_augmenter(augment, *_shape(split), seed)


def _image_tensors(augment: Augment, split: Split, seed: int) -> TensorAugmenter:
    return make_gpu_augmenter(augment, *_shape(split), seed)


def _shape(split: Split) -> tuple[int, int, int]:
    _, height, width, channels = split.inputs.shape
    return height, width, channels


AUGMENTERS: dict[str, Augmenters] = {
    "image": Augmenters(_images, _image_tensors, asked=True),
    "sound": Augmenters(make_sound_augmenter, None, mixes=True),
    "sequence": Augmenters(make_sound_augmenter, None, mixes=True),
}
"""By the kind of a split. A kind without a row is trained on as it is, with ``recipe.augment.kind`` none."""
UNCHANGED = Augmenters(lambda *_: lambda inputs, epoch, indices: inputs, lambda *_: lambda inputs, epoch, indices: inputs)


def augmenters_for(split: Split, augment: Augment) -> Augmenters:
    """The augmenters for the kind of ``split``. Raises DataError where ``augment`` says nothing sensible of it."""
    if augment.kind == "none":
        return UNCHANGED
    if split.kind not in AUGMENTERS:
        known = ", ".join(f"{kind}s" for kind in AUGMENTERS)
        raise DataError(
            f"recipe.augment.kind {augment.kind!r} changes {known}, and these inputs are {split.kind}s",
            "train on them as they are: --set recipe.augment.kind=none",
        )
    return AUGMENTERS[split.kind]


def make_feed(
    split: Split, augment: Augment, seed: int, device: torch.device, resident: bool | None = None, *, classes: int | None = None
) -> Feed:
    """The feed for ``split`` on ``device``; ``resident`` None lets the device and the size decide. ``classes``: how many there are,
    where labels may be mixed.

    Raises DataError where inputs of this kind cannot be augmented so.
    """
    if resident is None:
        resident = device.type == "cuda" and split.inputs.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
    if resident and augmenters_for(split, augment).tensors is not None:
        return _Resident(split, augment, seed, device)
    return _Host(split, augment, seed, device, classes)


class _Host:
    def __init__(self, split: Split, augment: Augment, seed: int, device: torch.device, classes: int | None) -> None:
        self.split, self.seed, self.device, self.classes = split, seed, device, classes
        chosen = augmenters_for(split, augment)
        self.augmenter = chosen.host(augment, split, seed)
        self.mixup = augment.sound.mixup if chosen.mixes and classes is not None else 0.0

    def __call__(self, epoch: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        inputs = torch.from_numpy(self.augmenter(self.split.inputs[indices], epoch, indices))
        labels = torch.from_numpy(self.split.labels[indices])
        if self.mixup and self.classes is not None:
            inputs, labels = mixed(inputs, labels, self.classes, self.mixup, np.random.default_rng((self.seed, epoch, int(indices[0]))))
        if self.device.type == "cuda":
            inputs, labels = inputs.pin_memory(), labels.pin_memory()
        return inputs.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


class _Resident:
    def __init__(self, split: Split, augment: Augment, seed: int, device: torch.device) -> None:
        self.inputs = torch.from_numpy(np.array(split.inputs)).to(device)
        self.labels = torch.from_numpy(np.array(split.labels)).to(device)
        tensors = augmenters_for(split, augment).tensors
        assert tensors is not None, "these are changed on the host"
        self.augmenter = tensors(augment, split, seed)

    def __call__(self, epoch: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(indices).to(self.inputs.device, non_blocking=True)
        return self.augmenter(self.inputs[rows], epoch, indices), self.labels[rows]


def mixed(inputs: Tensor, labels: Tensor, classes: int, alpha: float, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Each input (B, H, W, C) with another of the batch by a share from Beta(alpha, alpha): mixup, arXiv 1710.09412."""
    other = torch.from_numpy(draw.permutation(len(labels)))
    share = torch.from_numpy(draw.beta(alpha, alpha, len(labels)).astype(np.float32))
    wide = share[:, None, None, None]
    blend = torch.round(inputs.float() * wide + inputs[other].float() * (1 - wide)).to(torch.uint8)
    truth = labels.float() if labels.ndim == 2 else torch.nn.functional.one_hot(labels, classes).float()
    return blend, truth * share[:, None] + truth[other] * (1 - share[:, None])
