"""What the firmware of a stream tells, in its own integers: chances of each answer, averages, the class that is told, the quiet behind it.

``judged_chances.c``, ``judged_one.c`` and ``judged_several.c`` of ``templates/sound`` say the same in C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinynas.export.sound_firmware import falling

#: All of a chance.
WHOLE = 255


def chances(outputs: NDArray[np.int8], scale: float) -> NDArray[np.int64]:
    """(T, classes), 0 to 255: the probability that each of ``outputs`` (T, classes), in steps of ``scale``, gives each class."""
    table = np.zeros(256, np.int64)
    values = falling(scale)
    table[: len(values)] = values
    drops = outputs.max(1, keepdims=True).astype(np.int64) - outputs
    shares = table[drops]
    sums = shares.sum(1, keepdims=True)
    return np.asarray((WHOLE * shares + sums // 2) // sums)


def moving_sums(scores: NDArray[np.int64], smoothed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """((T, classes) sums of the last ``smoothed`` rows of ``scores``, (T,) of how many: of fewer at the beginning)."""
    sums = np.cumsum(scores, axis=0)
    sums[smoothed:] = sums[smoothed:] - sums[:-smoothed]
    return sums, np.minimum(np.arange(1, len(scores) + 1), smoothed)


@dataclass(frozen=True)
class OneTold:
    """Of classes of which one is told at a time: the surest, where its average reaches a share; then nothing for a while."""

    every: int
    """Frames from answer to answer."""
    refractory: int
    """Frames for which nothing is told after something was."""
    passive: tuple[int, ...] = ()
    """Classes that are no events: never told, and nothing is quiet after them."""

    def told(self, scores: NDArray[np.int64], smoothed: int, percent: int) -> list[tuple[int, int]]:
        """(answer, class) of each time that a class is told, by the :func:`chances` of all answers."""
        if not len(scores):
            return []
        sums, counts = moving_sums(scores, smoothed)
        best = sums.argmax(1)  # of equal ones the first
        events = ~np.isin(best, self.passive)
        found: list[tuple[int, int]] = []
        for at in np.flatnonzero(events & (100 * sums.max(1) >= percent * WHOLE * counts)).tolist():
            if not found or (at - found[-1][0]) * self.every >= self.refractory:
                found.append((at, int(best[at])))
        return found

    def times(self, scores: NDArray[np.int64], times: NDArray[np.float64], smoothed: int, percent: int) -> Mapping[int, Sequence[float]]:
        """Class -> the ``times`` (T,) of the answers at which it is told."""
        found: dict[int, list[float]] = {number: [] for number in range(scores.shape[1])}
        for at, number in self.told(scores, smoothed, percent):
            found[number].append(float(times[at]))
        return found
