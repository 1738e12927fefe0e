"""What TFLM's int8 kernels make of ranges: the least and the most of each channel of an output, from those of the inputs.

All of these kernels are monotone in each input once the sign of a weight is known, so the ends of a range go through the kernels'
own arithmetic (:mod:`tinynas.quantize.integer`) and give the ends of the output's: a channel whose two ends are equal is
constant, with that value, whatever the network reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from tinynas.cost.schema import ACTIVATIONS
from tinynas.quantize.fake import ADD_SHIFT, activation_range
from tinynas.quantize.grid import TensorQuant
from tinynas.quantize.integer import fixed_point, mean_pair, rescale_int64

Ints: TypeAlias = NDArray[np.int64]
Grid: TypeAlias = tuple[float, int]
"""(scale, zero point)."""

#: The least and the most of an int8 element.
LEAST, MOST = -128, 127
_INT32 = 1 << 31
_MOST_LEFT = 30


@dataclass(frozen=True)
class Range:
    """What each channel (last dimension) of a tensor can hold: from ``low`` to ``high``, both (C,)."""

    low: Ints
    high: Ints

    @staticmethod
    def full(channels: int) -> Range:
        """Anything that int8 holds."""
        return Range(np.full(channels, LEAST, np.int64), np.full(channels, MOST, np.int64))

    @staticmethod
    def of(values: NDArray[np.int8]) -> Range:
        """What a constant holds."""
        flat = values.reshape(-1, values.shape[-1] if values.ndim else 1).astype(np.int64)
        return Range(flat.min(0), flat.max(0))

    @property
    def constant(self) -> NDArray[np.bool_]:
        """(C,): whether a channel holds one value alone."""
        return np.asarray(self.low == self.high)

    def hull(self, value: int) -> Range:
        """With ``value`` beside it."""
        return Range(np.minimum(self.low, value), np.maximum(self.high, value))

    def clamped(self, low: int, high: int) -> Range:
        """Cut to ``low`` .. ``high``."""
        return Range(np.clip(self.low, low, high), np.clip(self.high, low, high))


def rescale(values: Ints, pairs: list[tuple[int, int]]) -> Ints | None:
    """``values`` times fixed-point multipliers (one, or one for each of the last dimension) as the runtime rounds; None where the
    runtime's int32 would overflow on the way."""
    m = torch.tensor([pair[0] for pair in pairs], dtype=torch.int64)
    shift = torch.tensor([pair[1] for pair in pairs], dtype=torch.int64)
    left = np.maximum([pair[1] for pair in pairs], 0)
    if left.max() > _MOST_LEFT or (np.abs(values).astype(np.float64) * 2.0**left >= _INT32).any():
        return None
    return rescale_int64(torch.from_numpy(np.ascontiguousarray(values)), m, shift).numpy()


def limits(act: int, grid: Grid) -> tuple[int, int] | None:
    """(least, most) that the fused activation of this number lets through; None for one that is not known here."""
    if act not in ACTIVATIONS:
        return None
    return activation_range(ACTIVATIONS[act], TensorQuant(*grid))


def from_sums(low: Ints, high: Ints, pairs: list[tuple[int, int]], act: int, grid: Grid) -> Range | None:
    """The outputs (C,) of accumulators between ``low`` and ``high`` (P, C) at P kinds of places; None where nothing is known."""
    ends = limits(act, grid)
    least, most = rescale(low, pairs), rescale(high, pairs)
    if ends is None or least is None or most is None:
        return None
    found = Range(least.min(0) + grid[1], most.max(0) + grid[1])
    return found.clamped(*ends)


def add(first: Range, second: Range, grids: tuple[Grid, Grid, Grid], act: int, *, minus: bool = False) -> Range | None:
    """ADD, or SUB with ``minus``."""
    (scale_a, zero_a), (scale_b, zero_b), (scale, _) = grids
    twice = 2.0 * max(scale_a, scale_b)
    if minus:
        second = Range(second.high, second.low)
    ends = []
    for a, b in ((first.low, second.low), (first.high, second.high)):
        one = rescale((a - zero_a) << ADD_SHIFT, [fixed_point(scale_a / twice)])
        other = rescale((b - zero_b) << ADD_SHIFT, [fixed_point(scale_b / twice)])
        if one is None or other is None:
            return None
        ends.append(np.atleast_2d(one - other if minus else one + other))
    return from_sums(ends[0], ends[1], [fixed_point(twice / ((1 << ADD_SHIFT) * scale))], act, grids[2])


def mul(first: Range, second: Range, grids: tuple[Grid, Grid, Grid], act: int) -> Range | None:
    """MUL."""
    (scale_a, zero_a), (scale_b, zero_b), (scale, _) = grids
    products = np.stack([(a - zero_a) * (b - zero_b) for a in (first.low, first.high) for b in (second.low, second.high)])
    pairs = [fixed_point(scale_a * scale_b / scale)]
    return from_sums(products.min(0, keepdims=True), products.max(0, keepdims=True), pairs, act, grids[2])


def mean(source: Range, count: int, grids: tuple[Grid, Grid]) -> Range | None:
    """MEAN of ``count`` elements of each channel."""
    (scale_in, zero_in), (scale_out, _) = grids
    pairs = [mean_pair(scale_in / scale_out, count)]
    return from_sums((source.low - zero_in)[None] * count, (source.high - zero_in)[None] * count, pairs, 0, grids[1])


def requantize(source: Range, grids: tuple[Grid, Grid], act: int = 0, *, single: bool = False) -> Range | None:
    """QUANTIZE from int8 to int8, and RELU (which divides the scales in float32: ``single``)."""
    (scale_in, zero_in), (scale_out, _) = grids
    ratio = float(np.float32(scale_in) / np.float32(scale_out)) if single else scale_in / scale_out
    return from_sums((source.low - zero_in)[None], (source.high - zero_in)[None], [fixed_point(ratio)], act, grids[1])
