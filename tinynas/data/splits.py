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
    groups_left = np.zeros(classes, dtype=np.int64)
    counts = (
        {group: np.bincount(labels[rows], minlength=classes) for group, rows in members.items()} if len(members) < len(labels) else None
    )

    def count_of(group: str) -> NDArray[np.int64]:
        if counts is not None:
            return counts[group]
        single = np.zeros(classes, dtype=np.int64)
        single[labels[members[group][0]]] = 1
        return single

    for group in members:
        groups_left += count_of(group) > 0
    result = np.full(len(labels), "train", dtype=object)
    # A class's last group is for training; with two groups only the first split gets one.
    for position in range(len(names)):
        wanted[position, groups_left < position + 2] = 0
    # Big groups first: they are hardest to place without overshooting.
    order = sorted(members, key=lambda group: (-len(members[group]), order_key(seed, group)))
    for group in order:
        count = count_of(group)
        present = np.flatnonzero(count)
        if (groups_left[present] <= 1).any():
            groups_left[present] -= 1
            continue
        # The split that wants this group most, if taking it does not overshoot by more than it fills.
        gains = np.minimum(wanted, count).sum(axis=1) - np.maximum(count - np.maximum(wanted, 0), 0).sum(axis=1)
        need = np.where(gains > 0, np.maximum(wanted[:, present], 0).sum(axis=1), 0)
        best = int(np.argmax(need)) if len(names) else 0
        if len(names) and need[best] > 0:
            wanted[best] -= count
            groups_left[present] -= 1
            result[members[group]] = names[best]
    # A split that nothing small enough could be found for takes the smallest group there is.
    for position, name in enumerate(names):
        if not (result == name).any():
            free = [g for g in reversed(order) if result[members[g][0]] == "train"]
            if len(free) > 1:
                result[members[free[0]]] = names[position]
    return result
