"""Task: a network, the classes that it knows, and the images of what it is to learn; both on one list of classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinynas.adapt.budget import Learning
from tinynas.adapt.learner import with_classes
from tinynas.data import DataSet, Split
from tinynas.data.split import epoch_order
from tinynas.errors import DataError, UserError
from tinynas.inputs import Input
from tinynas.quantize.floats import FloatGraph
from tinynas.runs import Run


@dataclass(frozen=True)
class Learnable:
    """A trained network, batch norm folded in."""

    title: str
    floats: FloatGraph = field(repr=False)
    labels: tuple[str, ...]
    """Its classes, in the order of its outputs; numbered where nothing names them."""
    sha256: str
    """Of the file with its weights."""
    run: Run | None = None
    """The run that it is of."""
    notes: tuple[str, ...] = ()

    @property
    def input(self) -> Input:
        """What it reads."""
        return self.floats.graph.input


@dataclass(frozen=True, eq=False)
class Task:
    """Images on one list of classes, and the network with an output for each."""

    net: Learnable
    floats: FloatGraph = field(repr=False)
    labels: tuple[str, ...]
    old: int
    """The first so many of them the network knew."""
    train: Split
    """What is learned from: new images, and old ones that are learned again."""
    val: Split
    """New images that say how the learning goes on."""
    test: Split
    """New images that are read once, at the end."""
    old_test: Split | None
    """The same of what the network knew; None where nothing is at hand."""
    replayed: int
    fingerprint: str
    """Of all that decides the task."""
    notes: tuple[str, ...] = ()

    def rows_of(self, epoch: int, *, again: int, seed: int) -> NDArray[np.int64]:
        """Positions in ``train`` of what is learned in ``epoch``: all new images, and ``again`` of the old ones of each class (0: all)."""
        count = len(self.train.labels)
        rows = np.arange(count, dtype=np.int64)
        if not again:
            return rows
        new, old = rows[: count - self.replayed], rows[count - self.replayed :]
        drawn = old[epoch_order(len(old), seed=seed + 1, epoch=epoch)]
        labels = self.train.labels[drawn]
        return np.sort(np.concatenate([new, *(drawn[labels == label][:again] for label in np.unique(labels))]))


def make_task(
    net: Learnable, data: DataSet, old: DataSet | None, learning: Learning, *, seed: int, judged: Literal["test", "val"] = "test"
) -> Task:
    """The task of learning ``data``, with the images ``old`` of what ``net`` knew where they are at hand.

    Classes are known by their names. ``judged``: the split that says at the end how good old and new classes are; a search, which
    chooses by it, takes ``val``. Raises UserError where nothing fits together.
    """
    for images in (data, old):
        if images is not None and images.several:
            raise DataError(
                f"{images.name}: a board learns one class for each {images.signal.kind}, and here there may be several at once",
                "leave data.multilabel out, or give other data",
            )
    replace_head, noun = learning.head == "replace", net.input.noun
    before = () if replace_head else net.labels
    fresh = [label for label in data.labels if label not in before]
    labels = (*before, *fresh)
    if learning.outputs == "new" and not fresh:
        raise UserError("learning.outputs=new: the new data has no class that the network does not know", "leave it out")
    floats = with_classes(net.floats, len(before), len(fresh), head=learning.head, seed=seed)
    notes = list(net.notes)

    def split(images: DataSet, name: str) -> Split:
        found = images.read_by(net.input, name)
        numbers = np.array([labels.index(label) if label in labels else -1 for label in images.labels])
        return replace(found, labels=numbers[found.labels])

    train = _per_class(split(data, "train"), learning.images, seed)
    if not len(train.labels):
        raise DataError(f"{data.name}: has no training {noun}s", f"give a folder with {noun}s to learn from")
    old_test, replayed = None, 0
    if old is not None and not replace_head:
        unknown = [label for label in old.labels if label not in net.labels]
        if unknown:
            raise UserError(
                f"{old.name}: the network does not know the class {unknown[0]!r}",
                f"old {noun}s are of its classes: {', '.join(net.labels[:12])}",
            )
        old_test = split(old, judged)
        if learning.replay:
            again = _per_class(split(old, "train"), learning.replay, seed)
            replayed = len(again.labels)
            train = _joined(train, again)
    elif learning.replay:
        raise UserError(f"learning.replay: there are no old {noun}s to learn again", "say where they are with --old D, or leave replay out")
    if old is None and not replace_head:
        notes.append(f"what becomes of the old classes is not measured: no {noun}s of them (--old D)")
    content = [net.sha256, data.fingerprint, "" if old is None else old.fingerprint, *labels]
    content += [judged] if judged != "test" else []
    digest = hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]
    return Task(net, floats, labels, len(before), train, split(data, "val"), split(data, judged), old_test, replayed, digest, tuple(notes))


def _per_class(split: Split, count: int, seed: int) -> Split:
    """At most ``count`` inputs of each class (0: all), drawn by ``seed``."""
    if not count:
        return split
    order = epoch_order(len(split.labels), seed=seed, epoch=0)
    chosen = [row for label in np.unique(split.labels) for row in order[split.labels[order] == label][:count]]
    return split.take(np.sort(np.array(chosen, np.int64)))


def _joined(one: Split, other: Split) -> Split:
    return Split(
        np.concatenate([one.inputs, other.inputs]), np.concatenate([one.labels, other.labels]), (*one.names, *other.names), kind=one.kind
    )
