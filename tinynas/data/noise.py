"""How many labels are wrong? An estimate from confident disagreement of a cross-validated small network.

Each image is judged by a network that was not trained on it. The estimate is that of confident learning (Northcutt et
al., arXiv 1911.00068): a class's threshold is the mean probability the network gives it on images labelled so; an image
whose probability for *another* class is above that class's threshold probably belongs there. What trains and judges is passed
in, because training lies above the data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.data.groups import joined
from tinynas.data.split import Split
from tinynas.data.splits import carve
from tinynas.errors import DataError, counted

Scorer = Callable[[Split, Split, int], NDArray[np.float64]]
"""Trains on the first split, judges the second: probabilities (N, classes). The number is the fold, for the seed."""


@dataclass(frozen=True)
class Suspect:
    """An image whose label is probably wrong."""

    name: str
    label: str
    suggested: str
    probability: float
    """What the network gives the suggested class."""
    own: float
    """What it gives the label."""


@dataclass(frozen=True)
class NoiseEstimate:
    """Share of wrong labels, and which images."""

    share: float
    """Of all judged images: an upper estimate, because a small network takes hard images for wrong labels too."""
    by_class: dict[str, float]
    """Of each class's images."""
    accuracy: float
    """Of the cross-validated network by the labels as they are: below about 0.8 the estimate is worth little."""
    judged: int
    suspects: tuple[Suspect, ...]
    """All of them, the surest first."""

    def to_json(self, limit: int = 50) -> dict[str, Any]:
        """Plain data, with the ``limit`` surest suspects."""
        return {
            "share": self.share,
            "by_class": self.by_class,
            "accuracy": self.accuracy,
            "judged": self.judged,
            "suspects": [vars(suspect) for suspect in self.suspects[:limit]],
        }


def estimate_noise(split: Split, labels: Sequence[str], scorer: Scorer, *, folds: int = 3, seed: int = 0) -> NoiseEstimate:
    """Judge every image of ``split`` by a network trained on the other folds.

    Raises DataError where a class has fewer images than ``folds``, groups leave a fold empty, or the scorer returns another shape.
    """
    if split.several:
        raise DataError("the noise of labels is estimated where each input has one, and here it may have several", "leave --noise out")
    counts = np.bincount(split.labels, minlength=len(labels))
    if folds < 2 or counts.min() < folds:
        raise DataError(
            f"class {labels[int(counts.argmin())]!r} has {counted(int(counts.min()), 'image')}; "
            f"judging in {folds} folds needs at least {max(folds, 2)}",
            "add images, or use fewer folds",
        )
    fold = _folds(split, folds, seed)
    if len(set(fold.tolist())) < folds:
        raise DataError(f"the groups are too few or too large for {folds} folds that each hold some", "use fewer folds")
    probabilities = np.zeros((len(split), len(labels)))
    for number in range(folds):
        inside = np.flatnonzero(fold == number)
        found = np.asarray(scorer(split.take(np.flatnonzero(fold != number)), split.take(inside), number), dtype=np.float64)
        if found.shape != (len(inside), len(labels)):
            raise DataError(f"the scorer returned {found.shape}, not {(len(inside), len(labels))}")
        probabilities[inside] = found
    return confident_disagreement(probabilities, split.labels, split.names, labels)


def confident_disagreement(
    probabilities: NDArray[np.float64], given: NDArray[np.int64], names: Sequence[str], labels: Sequence[str]
) -> NoiseEstimate:
    """The estimate from out-of-fold ``probabilities`` (N, classes) and the labels ``given`` (N,)."""
    rows = np.arange(len(given))
    thresholds = np.array([probabilities[given == k, k].mean() if (given == k).any() else 1.0 for k in range(len(labels))])
    above = probabilities >= thresholds[None]
    best = np.where(above.any(axis=1), np.where(above, probabilities, -1.0).argmax(axis=1), given)
    wrong = best != given
    order = np.argsort(-(probabilities[rows, best] - probabilities[rows, given]) * wrong, kind="stable")[: int(wrong.sum())]
    suspects = tuple(
        Suspect(names[i], labels[int(given[i])], labels[int(best[i])], float(probabilities[i, best[i]]), float(probabilities[i, given[i]]))
        for i in order
    )
    return NoiseEstimate(
        share=float(wrong.mean()),
        by_class={label: float(wrong[given == k].mean()) if (given == k).any() else 0.0 for k, label in enumerate(labels)},
        accuracy=float((probabilities.argmax(axis=1) == given).mean()),
        judged=len(given),
        suspects=suspects,
    )


def _folds(split: Split, folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each input: stratified, exact duplicates and groups together (or a network would be asked what it has learnt)."""
    digests = [hashlib.sha256(one.tobytes()).hexdigest() for one in split.inputs]
    groups = joined(digests, None if split.groups is None else split.groups.tolist(), split.names)
    shares = {str(k): 1 / folds for k in range(1, folds)}
    assigned = carve(split.labels, groups, shares, seed)
    return np.array([0 if name == "train" else int(name) for name in assigned], dtype=np.int64)
