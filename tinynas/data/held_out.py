"""Classes that are held out of a data set: networks are trained without them, and learn them later."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinynas.data.dataset import DataSet
from tinynas.errors import DataError, counted


def of_classes(data: DataSet, labels: Sequence[str]) -> DataSet:
    """``data`` with the classes ``labels`` alone; its splits are those that they have in ``data``."""
    numbers = np.full(len(data.labels), -1, dtype=np.int64)
    for number, label in enumerate(labels):
        numbers[data.labels.index(label)] = number
    targets = numbers[data.targets]
    members = {split: rows[targets[rows] >= 0] for split, rows in data.members.items()}
    digest = hashlib.sha256("\n".join([data.fingerprint, *labels]).encode()).hexdigest()
    return replace(data, labels=tuple(labels), targets=targets, members=members, fingerprint=digest)


def hold_out(data: DataSet, labels: Sequence[str]) -> DataSet:
    """``data`` without the classes ``labels``, which it keeps aside as :attr:`tinynas.data.DataSet.held_out`.

    Raises DataError where there is no such class, or fewer than two are left.
    """
    if unknown := [label for label in labels if label not in data.labels]:
        raise DataError(f"{data.name}: data.held_out: there is no class {unknown[0]!r}", f"its classes: {', '.join(data.labels[:20])}")
    rest = [label for label in data.labels if label not in labels]
    if len(rest) < 2:
        raise DataError(f"{data.name}: data.held_out leaves {counted(len(rest), 'class', 'classes')}", "hold out fewer: two must be left")
    note = f"held out, for learning on the board: {', '.join(labels)}"
    return replace(of_classes(data, rest), held_out=of_classes(data, labels), notes=(*data.notes, note))
