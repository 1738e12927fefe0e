"""Carving validation and test images out of a training set: seeded, stratified by class, groups kept together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tinynas.data.split import order_key


def carve(labels: NDArray[np.int64], groups: Sequence[str], shares: Mapping[str, float], seed: int) -> NDArray[np.object_]:
    """The split of each image: a name of ``shares``, or ``"train"`` for the rest.

    ``labels`` (N,) are class numbers; images with equal ``groups`` (N) go to the same split. Every class gets its share
    of each split to within a group; of a class with at least three groups every split holds one (as long as its groups
    are not shared with other classes), of two the first split does. The draw orders groups by a hash of (seed, group),
    so adding images moves few of the others.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    classes = int(labels.max()) + 1 if len(labels) else 0
    names = list(shares)
    # How many images of each class each split still wants; the rest is training.
    totals = np.bincount(labels, minlength=classes)
    wanted = np.array([np.maximum(np.rint(totals * share), 1) for share in shares.values()]).reshape(len(names), classes)
    if len(members) == len(labels):
        return _carve_singles(labels, groups, wanted, names, seed)
    counts = {group: np.bincount(labels[rows], minlength=classes) for group, rows in members.items()}
    groups_left = np.zeros(classes, dtype=np.int64)
    for count in counts.values():
        groups_left += count > 0
    result = np.full(len(labels), "train", dtype=object)
    # A class's last group is for training; with two groups only the first split gets one.
    for position in range(len(names)):
        wanted[position, groups_left < position + 2] = 0
    # Not by size: taking big groups first would make scenes with many images the test's and those with few training's.
    order = sorted(members, key=lambda group: order_key(seed, group))
    for group in order:
        count = counts[group]
        present = np.flatnonzero(count)
        if (groups_left[present] <= 1).any():
            groups_left[present] -= 1
            continue
        # The first split that the group fills by at least as much as it overshoots: one is filled after the other, so
        # that a few more images shift only the ends.
        for position, name in enumerate(names):
            fills = np.minimum(np.maximum(wanted[position], 0), count).sum()
            if 2 * fills >= count.sum() and fills:
                wanted[position] -= count
                groups_left[present] -= 1
                result[members[group]] = name
                break
    # A split that nothing small enough was found for takes the smallest group that training can spare.
    for name in names:
        if not (result == name).any():
            left = np.bincount(labels[result == "train"], minlength=classes)
            for group in reversed(order):
                count = counts[group]
                if result[members[group][0]] == "train" and (left - count)[count > 0].all():
                    result[members[group]] = name
                    break
    return result


def _carve_singles(
    labels: NDArray[np.int64], groups: Sequence[str], wanted: NDArray[np.float64], names: Sequence[str], seed: int
) -> NDArray[np.object_]:
    """The same for groups of one image each, class by class: much faster on a million images."""
    result = np.full(len(labels), "train", dtype=object)
    # Hexadecimal: numpy strips trailing zero bytes off byte strings.
    keys = np.array([order_key(seed, group).hex() for group in groups])
    for label in range(wanted.shape[1]):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(keys[rows])]
        start = 0
        for position, name in enumerate(names):
            if len(rows) >= position + 2:
                stop = min(start + int(wanted[position, label]), len(rows) - 1)
                result[rows[start:stop]] = name
                start = stop
    return result
