"""Split: the inputs a stage reads, as one array; and the order of an epoch. numpy only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tinynas.errors import DataError
from tinynas.recipe import SoundAugment

SPLITS = ("train", "val", "test")
"""The names of the three splits: train fits weights, val makes every choice, test is read once at the end."""
ALL = "all"
"""What is asked for where all three are wanted: to judge a model that none of them trained."""


Augmenter = Callable[[NDArray[np.uint8], int, NDArray[np.int64]], NDArray[np.uint8]]
"""Changes inputs (B, H, W, C) in an epoch; input ``b`` is number ``indices[b]`` of its split."""


@dataclass(frozen=True, eq=False)
class Anew:
    """How inputs are made anew from changed sounds: what cannot be done to finished features."""

    variant: Callable[[SoundAugment, int], NDArray[np.uint8]]
    """All inputs of the part of the data in one variant, made once and mapped from the cache from then on."""
    rows: NDArray[np.int64]
    """(N,): which of those each input is."""


@dataclass(frozen=True, eq=False)
class Split:
    """Decoded, fitted inputs and their labels."""

    inputs: NDArray[np.uint8]
    """(N, H, W, C), often a read-only memory map."""
    labels: NDArray[np.int64]
    """(N,): the class of each; or (N, classes), 1 where it is of the class, where there may be several or none."""
    names: tuple[str, ...]
    """One for each input."""
    groups: NDArray[np.int64] | None = None
    """(N,): inputs with equal numbers belong together; None where nothing is known of it."""
    kind: str = "image"
    """What one input is; it decides how training may change them."""
    anew: Anew | None = field(default=None, repr=False)
    """Of sounds."""

    def __post_init__(self) -> None:
        groups = len(self.labels) if self.groups is None else len(self.groups)
        if not len(self.inputs) == len(self.labels) == len(self.names) == groups:
            counts = f"{len(self.inputs)} inputs, {len(self.labels)} labels, {len(self.names)} names"
            raise DataError(f"{counts} and {groups} group numbers do not belong together")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def several(self) -> bool:
        """Whether an input may be of several classes at once."""
        return self.labels.ndim == 2

    def of_class(self, number: int) -> NDArray[np.int64]:
        """Positions of the inputs of class ``number``."""
        return np.flatnonzero(self.labels[:, number] if self.several else self.labels == number)

    def take(self, indices: NDArray[np.int64] | Sequence[int]) -> Split:
        """The inputs at ``indices``, copied, in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        groups = None if self.groups is None else self.groups[rows]
        anew = None if self.anew is None else replace(self.anew, rows=self.anew.rows[rows])
        return Split(self.inputs[rows], self.labels[rows], tuple(self.names[row] for row in rows), groups, self.kind, anew)

    def subset(self, n: int, seed: int) -> Split:
        """``n`` inputs, each class in its share (rounded, at least one), the same for the same ``seed``.

        All of the split where ``n`` is 0 or at least its size. Growing ``n`` keeps the inputs of a smaller subset of
        the same seed, give or take rounding.
        """
        if n <= 0 or n >= len(self):
            return self
        rng = np.random.default_rng((seed, 0x5EED))
        rank = rng.permutation(len(self))
        strata = strata_of(self.labels)
        quotas = apportion(np.bincount(strata), n)
        chosen = []
        for stratum, quota in enumerate(quotas):
            rows = np.flatnonzero(strata == stratum)
            chosen.append(rows[np.argsort(rank[rows], kind="stable")][:quota])
        return self.take(np.sort(np.concatenate(chosen)))


def strata_of(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,): what is to be shared out evenly over splits: the class of each input; of several (N, classes) the rarest that it is of, and
    the number of classes where it is of none."""
    if labels.ndim == 1:
        return labels
    classes = labels.shape[1]
    rank = np.argsort(np.argsort(labels.sum(0), kind="stable"), kind="stable")  # 0: the rarest
    of_rarest = np.where(labels > 0, rank[None], classes).min(1, initial=classes)
    return np.asarray(np.append(np.argsort(rank, kind="stable"), classes)[of_rarest], np.int64)


def class_counts(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(classes,): inputs of each class; of several labels at once each counts for all of its classes."""
    return labels.sum(0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def apportion(counts: NDArray[np.int64], n: int) -> list[int]:
    """``n`` places shared out in proportion to ``counts`` by largest remainder, at least one for each non-empty class."""
    total = int(counts.sum())
    shares = [int(count) * n / total for count in counts]
    quotas = [min(int(count), max(int(share), 1 if count else 0)) for count, share in zip(counts, shares, strict=True)]
    by_remainder = sorted(range(len(quotas)), key=lambda i: (quotas[i] - shares[i], i))
    while sum(quotas) < n:
        for i in by_remainder:
            if sum(quotas) < n and quotas[i] < counts[i]:
                quotas[i] += 1
    while sum(quotas) > n and max(quotas) > 1:
        quotas[int(np.argmax(quotas))] -= 1
    return quotas


def epoch_order(n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of ``n`` inputs in ``epoch``: a permutation that follows from (seed, epoch) alone."""
    return np.random.default_rng((seed, epoch)).permutation(n)


def order_key(seed: int, text: str) -> bytes:
    """A key that sorts texts in an order drawn by ``seed``; adding a text moves no other."""
    return hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogateescape")).digest()
