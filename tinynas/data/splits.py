"""Carving validation and test records out of a training set: seeded, stratified by class, groups kept together."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tinynas.data.split import order_key

FEW_GROUPS = 200
"""Of so many groups and fewer, one draw may be far off the shares that are asked for: the best of several is taken."""
DRAWS = 50

Group = Mapping[int, int]
"""How many records a group has of each of its classes. Most groups are small: plain numbers are faster than arrays."""


def carve(labels: NDArray[np.int64], groups: Sequence[str], shares: Mapping[str, float], seed: int) -> NDArray[np.object_]:
    """The split of each record: a name of ``shares``, or ``"train"`` for the rest.

    ``labels`` (N,) are class numbers; records with equal ``groups`` (N) go to the same split. Every class gets its share
    of each split to within a group; of a class with at least three groups every split holds one (as long as its groups
    are not shared with other classes), of two the first split does. The draw orders groups by a hash of (seed, group),
    so adding records moves few of the others, except of at most :data:`FEW_GROUPS` groups, where the draw of
    :data:`DRAWS` that is nearest to the shares wins.
    """
    names = list(shares)
    keys = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    classes = int(labels.max()) + 1 if len(labels) else 0
    asked = np.outer(list(shares.values()), np.bincount(labels, minlength=classes))
    # A class of few records gives one to each split all the same.
    wanted = np.maximum(np.rint(asked), 1).astype(np.int64)
    if len(keys) == len(labels):
        return _carve_singles(labels, groups, wanted, names, seed)
    group_of = np.array([keys[group] for group in groups])
    parts = [Counter[int]() for _ in keys]
    for group, label in zip(group_of.tolist(), labels.tolist(), strict=True):
        parts[group][label] += 1
    draws = [_fill(parts, wanted, order) for order in _orders(list(keys), seed)]
    best = draws[0] if len(draws) == 1 else min(draws, key=lambda assigned: _deviation(assigned[group_of], labels, asked))
    result: NDArray[np.object_] = np.array([*names, "train"], dtype=object)[best[group_of]]  # -1 is the last
    return result


def _orders(groups: Sequence[str], seed: int) -> list[list[int]]:
    """Orders of the positions of ``groups``, each drawn by itself."""
    # Not by size: taking big groups first would make scenes with many records the test's and those with few training's.
    orders = [sorted(range(len(groups)), key=lambda i: order_key(seed, groups[i]))]
    for draw in range(1, DRAWS if len(groups) <= FEW_GROUPS else 1):
        orders.append(sorted(range(len(groups)), key=lambda i: order_key(seed, f"{draw}\0{groups[i]}")))
    return orders


def _deviation(assigned: NDArray[np.int64], labels: NDArray[np.int64], asked: NDArray[np.float64]) -> float:
    """How far splits (N,) are from what was asked: the share of all records, and the mean share of a class, added up."""
    totals = np.bincount(labels)
    present = totals > 0
    off = np.array([np.bincount(labels[assigned == position], minlength=len(totals)) for position in range(len(asked))]) - asked
    return float((np.abs(off.sum(1)) / totals.sum()).sum() + (np.abs(off[:, present]) / totals[present]).mean(1).sum())


def _fill(groups: Sequence[Group], wanted: NDArray[np.int64], order: Sequence[int]) -> NDArray[np.int64]:
    """The split of each group, as a position in ``wanted``, -1 for training; groups are taken in ``order``."""
    kept = Counter(label for group in groups for label in group)  # groups of each class that are not given away
    # A class's last group is for training; with two groups only the first split gets one.
    left = [[n if kept[label] >= position + 2 else 0 for label, n in enumerate(row)] for position, row in enumerate(wanted.tolist())]
    assigned = np.full(len(groups), -1, dtype=np.int64)
    due = {(position, label) for position, open_ in enumerate(left) for label, n in enumerate(open_) if n}

    def spares(position: int, label: int) -> bool:
        """Whether enough groups are kept for training and for the later splits that still have none of this class."""
        return kept[label] > 1 + sum((later, label) in due for later in range(position + 1, len(left)))

    for number in order:
        group = groups[number]
        # The first split that the group fills by at least as much as it overshoots: one is filled after the other, so
        # that a few more records shift only the ends.
        for position, open_ in enumerate(left):
            fills = sum(min(max(open_[label], 0), count) for label, count in group.items())
            if fills and 2 * fills >= sum(group.values()) and all(spares(position, label) for label in group):
                for label, count in group.items():
                    open_[label] -= count
                    kept[label] -= 1
                    due.discard((position, label))
                assigned[number] = position
                break
    _spare(assigned, groups, kept, order, len(left))
    return assigned


def _spare(assigned: NDArray[np.int64], groups: Sequence[Group], kept: Counter[int], order: Sequence[int], splits: int) -> None:
    """Give a split that nothing small enough was found for the last group that training can spare."""
    for position in range(splits):
        if (assigned == position).any():
            continue
        for number in reversed(order):
            if assigned[number] < 0 and all(kept[label] > 1 for label in groups[number]):
                assigned[number] = position
                kept.subtract(groups[number].keys())
                break


def _carve_singles(
    labels: NDArray[np.int64], groups: Sequence[str], wanted: NDArray[np.int64], names: Sequence[str], seed: int
) -> NDArray[np.object_]:
    """The same for groups of one record each, class by class: much faster on a million records."""
    result = np.full(len(labels), "train", dtype=object)
    # Hexadecimal: numpy strips trailing zero bytes off byte strings.
    keys = np.array([order_key(seed, group).hex() for group in groups])
    for label in range(wanted.shape[1]):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(keys[rows])]
        start = 0
        for position, name in enumerate(names):
            if len(rows) >= position + 2:
                later = min(len(names) - position, len(rows) - position - 1)  # training and the splits that still get one
                stop = min(start + int(wanted[position, label]), len(rows) - later)
                result[rows[start:stop]] = name
                start = stop
    return result


def splits_digest(members: Mapping[str, NDArray[np.int64]]) -> str:
    """Of which records are in which split (name to positions): what the data's fingerprint says nothing of, where splits are made here."""
    digest = hashlib.sha256()
    for name in sorted(members):
        digest.update(f"{name} {len(members[name])} ".encode() + np.sort(members[name]).astype("<i8").tobytes())
    return digest.hexdigest()[:16]
