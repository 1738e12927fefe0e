"""How good predictions are, from scores, and how well that is known: each figure once. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

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


# Several labels at once -------------------------------------------------------------------------------


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of each class by itself, from its logit; any shape."""
    small = np.exp(-np.abs(logits))  # never overflows
    return np.asarray(np.where(logits >= 0, 1.0, small) / (1.0 + small))


def average_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """Area under precision over recall, as steps: the mean, over the positives, of the precision at the score of each.

    ``positive`` (N,), ``scores`` (N,): the higher, the surer. Equal scores are one step. None without a positive.
    """
    _, found, said = _levels(positive, scores)
    if not found[-1]:
        return None
    return float((np.diff(found, prepend=0) * (found / said)).sum() / found[-1])


def mean_average_precision(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Mean of :func:`average_precision` over the classes that have a positive; ``truth`` and ``scores`` (N, classes).

    Raises ValueError where none has one.
    """
    each = [average_precision(truth[:, k] > 0, scores[:, k]) for k in range(truth.shape[1])]
    known = [value for value in each if value is not None]
    if not known:
        raise ValueError("no input is of any class: there is nothing to judge")
    return float(np.mean(known))


def best_cut(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[float, float] | None:
    """(threshold, F1 there): where saying yes from it on gives the highest F1; of equal ones the highest threshold.

    It lies in the middle between the lowest score that is said yes to and the next one below it. None without a positive.
    """
    levels, found, said = _levels(positive, scores)
    if not found[-1]:
        return None
    f1 = 2 * found / (said + found[-1])
    best = int(np.argmax(f1))
    below = levels[best + 1] if best + 1 < len(levels) else levels[best]
    return float((levels[best] + below) / 2), float(f1[best])


def _levels(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The different scores, from the highest on; how many positives, and how many in all, have at least each."""
    if not len(scores):
        raise ValueError("no scores: there is nothing to judge")
    levels, place = np.unique(-scores, return_inverse=True)
    said = np.bincount(place.reshape(-1), minlength=len(levels))
    found = np.bincount(place.reshape(-1)[positive], minlength=len(levels))
    return -levels, np.cumsum(found), np.cumsum(said)


def score_of(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """What networks are ranked by: accuracy where ``truth`` (N,) is the class of each; mean average precision where it is (N, classes).

    Raises ValueError where there is nothing to judge.
    """
    if truth.ndim == 2:
        return mean_average_precision(truth, scores)
    if not len(truth):
        raise ValueError("no predictions: there is nothing to judge")
    return int((scores.argmax(1) == truth).sum()) / len(truth)


# streams ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Smoothing:
    """How scores of overlapping windows become detections."""

    windows: int
    """So many of the last ones are averaged."""
    threshold: float | tuple[float, ...]
    """From which average on it is a detection, as a share: of every class, or of each by itself."""
    refractory: float
    """Seconds after a detection in which there is no other one of the class."""

    def of(self, number: int) -> float:
        """The threshold of class ``number``."""
        return self.threshold[number] if isinstance(self.threshold, tuple) else self.threshold


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


# How well a share is known ----------------------------------------------------------------------------

CONFIDENCE = 0.95
"""Of every interval that is reported."""


def wilson(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval (low, high) of the share ``hits`` of ``n``, 0..1: it holds for few images and for shares near 0 or 1.

    Raises ValueError without an image, and for hits that are none of ``n``.
    """
    _check_share(hits, n)
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = hits + z2 / 2
    half = math.sqrt(z2 * (hits * (n - hits) / n + z2 / 4))
    # At the ends the exact bound is 0 or 1; rounding must not put the share itself outside.
    low = 0.0 if hits == 0 else (middle - half) / (n + z2)
    high = 1.0 if hits == n else (middle + half) / (n + z2)
    return low, high


@dataclass(frozen=True, slots=True)
class Share:
    """A share of images, counted: the accuracy of a part, the recall of a class, the rate of false alarms."""

    hits: int
    of: int

    def __post_init__(self) -> None:
        _check_share(self.hits, self.of)

    @property
    def value(self) -> float:
        """0..1."""
        return self.hits / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) by :func:`wilson`, 0..1."""
        return wilson(self.hits, self.of)

    def to_json(self) -> dict[str, Any]:
        """``value``, ``low`` and ``high`` (95 %), ``hits``, ``of``."""
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high, "hits": self.hits, "of": self.of}


def share(hits: NDArray[np.bool_]) -> Share | None:
    """The share of ``hits`` (N,) that are true; None where there is nothing to count."""
    return Share(int(hits.sum()), len(hits)) if len(hits) else None


def named(name: str, found: Share | None) -> dict[str, Any]:
    """``name`` and ``name_interval``, [low, high] (95 %), as reports have them; both None where nothing was counted."""
    return {name: None if found is None else found.value, f"{name}_interval": None if found is None else list(found.interval)}


def recall(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> Share | None:
    """How many of the positive images (N,) are said to be; None without one."""
    return share(said[truth])


def false_alarms(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> Share | None:
    """How many of the negative images (N,) are said to be positive; None without one."""
    return share(said[~truth])


def fisher(one: Share, other: Share) -> float:
    """Fisher's exact test, two-sided: how probable a difference at least so unlikely is where both shares are one.

    The sum of the hypergeometric probabilities of all tables with the same sums that are no more probable than the one seen.
    """
    hits, total = one.hits + other.hits, one.of + other.of
    possible = range(max(0, hits - other.of), min(hits, one.of) + 1)
    if total <= _EXACT:
        ways = [math.comb(one.of, k) * math.comb(other.of, hits - k) for k in possible]
        seen = ways[one.hits - possible.start]
        return sum(way for way in ways if way <= seen) / sum(ways)
    logs = np.array([_log_comb(one.of, k) + _log_comb(other.of, hits - k) for k in possible])
    weights = np.exp(logs - logs.max())
    # Equally probable tables differ by rounding here: they count as equal.
    return float(min(1.0, weights[weights <= weights[one.hits - possible.start] * (1 + 1e-7)].sum() / weights.sum()))


def holm(probabilities: Sequence[float]) -> list[float]:
    """Holm's correction: of several tests, each one's probability as if it were the only one (in the order given).

    Below 0.05 for one of them by chance alone in at most one of twenty such families, however many tests there are.
    """
    found = [0.0] * len(probabilities)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(probabilities)), key=lambda i: probabilities[i])):
        largest = max(largest, min(1.0, (len(probabilities) - rank) * probabilities[i]))
        found[i] = largest
    return found


_EXACT = 2000
"""Images up to which Fisher's test counts in whole numbers; above, in logarithms."""


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _check_share(hits: int, n: int) -> None:
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is no share")


# Several classes, and thresholds ----------------------------------------------------------------------

TOP = 5
"""Of more than :data:`TOP_FROM` classes, an image counts as found where its class is among so many of the best."""
TOP_FROM = 10


def top(truth: NDArray[np.int64], scores: NDArray[np.float64], k: int = TOP) -> Share | None:
    """How often the true class is among the ``k`` best of ``scores`` (N, classes); None without an image.

    Of equal scores the lower class number goes first, as in ``argmax``: a network that says nothing gets no credit for ties.
    """
    own = np.take_along_axis(scores, truth[:, None], 1)
    before = (scores > own).sum(1) + ((scores == own) & (np.arange(scores.shape[1]) < truth[:, None])).sum(1)
    return share(before < k)


def roc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[list[float], list[float], list[float]]:
    """(false-alarm rate, recall, threshold) at every level of ``scores`` (N,): positive is what is *above* the threshold.

    From (0, 0, the highest score) to (1, 1, -inf). Raises ValueError without a positive or a negative image.
    """
    if positive.all() or not positive.any():
        raise ValueError("a curve needs images of both classes")
    levels = np.unique(scores)[::-1]
    yes, no = np.sort(scores[positive]), np.sort(scores[~positive])
    found = 1 - np.searchsorted(yes, levels, side="right") / len(yes)
    alarms = 1 - np.searchsorted(no, levels, side="right") / len(no)
    return [*alarms.tolist(), 1.0], [*found.tolist(), 1.0], [*levels.tolist(), -math.inf]
