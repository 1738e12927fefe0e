"""The random numbers that all changes of training inputs draw. (The settings are in :mod:`tinynas.recipe`.)

Every random number follows from (seed, epoch, index of the input) by hashing, not from a generator's state: an input is
augmented alike whatever batch, process or resumed run it is in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Batch = NDArray[np.uint8]


def words(seed: int, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """Random 64-bit words, (B, count), that follow from (seed, epoch, index): splitmix64 (Steele et al., OOPSLA 2014) as a hash."""
    step = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        base = _mix(_mix(np.array([seed], np.uint64) + step) ^ np.uint64(epoch))
        stream = _mix(base ^ np.asarray(indices).astype(np.uint64))
        return _mix(stream[:, None] + (np.arange(1, count + 1, dtype=np.uint64) * step)[None])


def uniforms(seed: int, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), (B, count), that follow from (seed, epoch, index)."""
    return (words(seed, epoch, indices, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
