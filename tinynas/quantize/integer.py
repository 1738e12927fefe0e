"""TFLM's int8 arithmetic, exactly, on batches of PyTorch tensors.

A tensor on an integer grid is carried as ``q - zero_point`` in float32, where all integers up to 2^24 are exact;
sums that could be larger are computed in float64. The kernels' rounding is that of tflite-micro's reference
kernels (and of CMSIS-NN, which equals them). A rescale by m * 2^(shift - 31) rounds twice: first x * m / 2^31 to
the nearest integer, halves upwards, then the division by 2^e (e = -shift), halves away from zero.

Both roundings in one: with t = x * m / 2^(31 + e), whose granularity is 2^-(31 + e), the result is
trunc(u + copysign(1/2 + 2^-(e+1), u)) for u = t + 2^-(32+e). The first rounding lifts |t| by at most 2^-(e+1) onto
the half that the second rounds away from zero; half a grain upwards decides its ties; without a
right shift there is no second rounding and no lift. For results within +-256
all of this fits the 53 bits of a float64 while e <= 12, and larger results are clamped anyway.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

#: Integers are exact in float32 up to here.
EXACT_FLOAT32 = 1 << 24
#: Largest right shift for which one rounding in float64 equals the two of the runtime, for clamped results.
MAX_FAST_SHIFT = 12


def fixed_point(multiplier: float) -> tuple[int, int]:
    """(m, shift): ``multiplier`` as m * 2^(shift - 31) with m in [2^30, 2^31), rounded as the runtime does at start."""
    if multiplier == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(multiplier)
    m = math.floor(mantissa * (1 << 31) + 0.5)
    if m == 1 << 31:
        m, shift = m // 2, shift + 1
    return (0, 0) if shift < -31 else (m, shift)


def mean_pair(ratio: float, count: int) -> tuple[int, int]:
    """(m, shift) by which MEAN multiplies the sum of ``count`` elements; ``ratio``: scale of the input by that of the output.

    The division by the count goes into the multiplier, truncated; its bits go into the shift.
    """
    m, shift = fixed_point(ratio)
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return (m << extra) // count, shift - extra


def rescale_int64(values: Tensor, m: Tensor, shift: Tensor) -> Tensor:
    """int64 ``values`` times m * 2^(shift - 31), rounded as the runtime, for int64 ``m`` and ``shift`` that broadcast."""
    left, right = shift.clamp(min=0), (-shift).clamp(min=0)
    high = ((values << left) * m + (1 << 30)) >> 31
    half = torch.where(right > 0, torch.ones_like(right) << (right - 1).clamp(min=0), torch.zeros_like(right))
    magnitude = (high.abs() + half) >> right
    return torch.where(high < 0, -magnitude, magnitude)


class Requantize(nn.Module):
    """The last step of an operator: sums times fixed-point multipliers, clamped to [low, high], as float32 integers.

    ``pairs`` are (m, shift), one for all channels or one each, for values of ``dims`` dimensions, channels second.
    """

    factor: Tensor
    grain: Tensor
    nudge: Tensor
    m: Tensor
    shift: Tensor

    def __init__(self, pairs: list[tuple[int, int]], dims: int, low: int, high: int) -> None:
        super().__init__()
        shape = (1, -1) + (1,) * (dims - 2)
        m = torch.tensor([m for m, _ in pairs], dtype=torch.int64).reshape(shape)
        shift = torch.tensor([shift for _, shift in pairs], dtype=torch.int64).reshape(shape)
        right = (-shift).clamp(min=0).double()
        self.low, self.high = low, high
        self.fast = bool((right <= MAX_FAST_SHIFT).all())
        #: without negative results one end of the symmetric rounding is enough
        self.positive = low >= 0
        grain = torch.exp2(-(32 + right))
        half = 0.5 + torch.where(right > 0, torch.exp2(-(right + 1)), torch.zeros_like(right))
        self.register_buffer("factor", m.double() * torch.exp2((shift - 31).double()))
        self.register_buffer("grain", grain + half if self.positive else grain)
        self.register_buffer("nudge", half)
        self.register_buffer("m", m)
        self.register_buffer("shift", shift)

    def forward(self, sums: Tensor) -> Tensor:
        """Integers of any float type -> float32 integers within [low, high]."""
        if not self.fast:
            return rescale_int64(sums.to(torch.int64), self.m, self.shift).clamp_(self.low, self.high).to(torch.float32)
        u = sums.to(torch.float64, copy=True).mul_(self.factor).add_(self.grain)
        if self.positive:
            return u.floor_().clamp_(self.low, self.high).to(torch.float32)
        return u.add_(torch.copysign(self.nudge, u)).trunc_().clamp_(self.low, self.high).to(torch.float32)


def multipliers(real: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The fixed-point multipliers of real ones."""
    return [fixed_point(float(value)) for value in real.reshape(-1)]
