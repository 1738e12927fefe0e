"""How good predictions are, from scores: each figure once. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Counts: rows are true classes, columns predicted ones."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, predicted), 1)
    return [[int(n) for n in row] for row in table]


def accuracy(table: Sequence[Sequence[int]]) -> float:
    """Share of right predictions of a confusion table. Raises ValueError for an empty one."""
    counts = _counts(table)
    return float(np.trace(counts) / counts.sum())


def balanced_accuracy(table: Sequence[Sequence[int]]) -> float:
    """Mean recall over the classes that occur. Raises ValueError for an empty table."""
    counts = _counts(table)
    rows = counts.sum(1)
    there = rows > 0
    return float((np.diag(counts)[there] / rows[there]).mean())


def _counts(table: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    counts = np.asarray(table, dtype=np.float64)
    if not counts.sum():
        raise ValueError("no predictions: there is nothing to judge")
    return counts


def auc(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float | None:
    """Area under the ROC curve; ties count half. None where a class is missing altogether.

    Two classes: ``scores`` (N,) of class 1. More: ``scores`` (N, classes), the mean over classes that occur, each
    against the rest.
    """
    if scores.ndim == 1:
        return _binary_auc(truth == 1, scores)
    areas = [_binary_auc(truth == label, scores[:, label]) for label in range(scores.shape[1])]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None


def _binary_auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place.reshape(-1)]  # mean rank of equal scores
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2.0) / (n_positive * n_negative))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Class probabilities (N, classes)."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def agreement(
    predicted: NDArray[np.int64], reference: NDArray[np.int64], truth: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, object]:
    """Share of equal predictions: ``overall``, and ``per_class`` by true class (None where a class has no image)."""
    equal = predicted == reference
    per_class = {name: float(equal[truth == i].mean()) if (truth == i).any() else None for i, name in enumerate(labels)}
    return {"overall": float(equal.mean()), "per_class": per_class}


# streams ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Smoothing:
    """How scores of overlapping windows become detections."""

    windows: int
    """So many of the last ones are averaged."""
    threshold: float
    """From which average on it is a detection, as a share."""
    refractory: float
    """Seconds after a detection in which there is no other one of the class."""


@dataclass(frozen=True)
class StreamCount:
    """Of a class in some recordings."""

    events: int
    missed: int
    false_alarms: int

    def __add__(self, other: StreamCount) -> StreamCount:
        return StreamCount(self.events + other.events, self.missed + other.missed, self.false_alarms + other.false_alarms)


def moving_average(scores: NDArray[np.float64], windows: int) -> NDArray[np.float64]:
    """(T, ...): each row the mean of itself and the ``windows`` - 1 before it, of fewer at the beginning."""
    sums = np.cumsum(scores, axis=0)
    sums[windows:] = sums[windows:] - sums[:-windows]
    counts = np.minimum(np.arange(1, len(scores) + 1), windows)
    return np.asarray(sums / counts.reshape(-1, *[1] * (scores.ndim - 1)))


def detections(scores: NDArray[np.float64], times: NDArray[np.float64], threshold: float, refractory: float) -> list[float]:
    """The times (T,) in seconds at which ``scores`` (T,) reach ``threshold``; none within ``refractory`` seconds of the one before."""
    found: list[float] = []
    for time in times[scores >= threshold].tolist():
        if not found or time - found[-1] >= refractory:
            found.append(time)
    return found


def count_stream(found: Sequence[float], events: Sequence[tuple[float, float]], late: float) -> StreamCount:
    """``found`` times against ``events`` (start, end), all in seconds: an event is met by any time in it, or ``late`` seconds after its
    end; a time that meets none is a false alarm."""
    met = {i for time in found for i, (start, end) in enumerate(events) if start <= time <= end + late}
    false = sum(not any(start <= time <= end + late for start, end in events) for time in found)
    return StreamCount(len(events), len(events) - len(met), false)
