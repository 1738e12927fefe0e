"""Learned step sizes of weights of few bits (LSQ, arXiv 1902.08153): rounding that gradients pass, and grids that they move.

A weight lies on ``step * q`` with the integer ``q`` within +-(2^(bits-1) - 1); a step belongs to an output channel (to the
whole layer where it is fully connected), as it does in the file. What is trained is the logarithm of the step: the
optimisers move every parameter by about the learning rate, which is a share of a step there and not a multiple of it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tinynas.arch import WeightBits
from tinynas.graph import largest

#: Step of a channel whose weights are all zero.
LEAST_STEP = 1e-12
#: Shares of a channel's largest weight among which its grid's end is chosen.
SHARES = tuple(1.0 - i / 100 for i in range(41))
#: With 4 bits or fewer: the fewer levels there are, the more of the largest weights is better cut off.
SHARES_OF_FEW = tuple(1.0 - i / 100 for i in range(81))


class _OnGrid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, most: int) -> Tensor:
        steps = step.reshape(-1, *[1] * (weight.ndim - 1))
        ratio = weight / steps
        whole = ratio.round().clamp_(-most, most)
        ctx.save_for_backward(ratio, whole)
        ctx.most, ctx.steps = most, step.numel()
        return whole * steps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        ratio, whole = ctx.saved_tensors
        inside = ratio.abs() <= ctx.most
        # Of a step: the rounding error inside the grid, the grid's end beyond it.
        slope = torch.where(inside, whole - ratio, whole)
        scale = 1.0 / math.sqrt(ratio.numel() / ctx.steps * ctx.most)
        return gradient * inside, (gradient * slope).reshape(ctx.steps, -1).sum(1) * scale, None


def on_grid(weight: Tensor, step: Tensor, most: int) -> Tensor:
    """``weight`` (out, ...) rounded to multiples of ``step``, (out,) or (1,) for all, within +-``most`` of them.

    Gradients of weights pass where the weight lies inside the grid; those of a step are LSQ's, scaled by 1 / sqrt(weights of a
    step * ``most``).
    """
    result: Tensor = _OnGrid.apply(weight, step, most)  # type: ignore[no-untyped-call]
    return result


@torch.no_grad()
def least_error_step(weight: Tensor, most: int, *, whole: bool = False) -> Tensor:
    """Steps (out,), or (1,) where ``whole``, of least squared rounding error of ``weight`` (out, ...) on grids of +-``most``.

    The best of many is taken: none is above the largest weight / ``most``.
    """
    rows = weight.reshape(1 if whole else len(weight), -1).double()
    ends = (rows.abs().amax(1, keepdim=True) / most).clamp_(min=LEAST_STEP)
    best, least = ends.clone(), torch.full_like(ends, math.inf)
    for share in SHARES_OF_FEW if most <= largest(4) else SHARES:
        step = ends * share
        error = (rows - (rows / step).round().clamp_(-most, most) * step).square().sum(1, keepdim=True)
        best = torch.where(error < least, step, best)
        least = torch.minimum(error, least)
    return best[:, 0].to(weight.dtype)


class WeightGrid(nn.Module):
    """The grid that a layer's weights are trained on. ``on`` False leaves them as they are, and trains no step."""

    def __init__(self, outputs: int, bits: WeightBits, *, whole: bool = False) -> None:
        super().__init__()
        self.bits, self.whole, self.on = bits, whole, True
        self.log_step = nn.Parameter(torch.zeros(1 if whole else outputs))

    @property
    def step(self) -> Tensor:
        """(outputs,), or (1,) of a whole layer."""
        return self.log_step.exp()

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Set the steps to those of least squared error for ``weight`` (outputs, ...)."""
        self.log_step.copy_(least_error_step(weight, largest(self.bits), whole=self.whole).log())

    def forward(self, weight: Tensor) -> Tensor:
        """``weight`` (outputs, ...), on the grid."""
        return on_grid(weight, self.step, largest(self.bits)) if self.on else weight
