"""Anatomy: what a search looks at in a network beside its costs, because it tells how much the network can learn.

Three figures of its convolutions, depthwise ones included: the activations that they write, the mean of the logarithms of their
MACs, and the fewest channels that any of them writes. With the costs they predict accuracies better than sums and means of what was
chosen do (results/benchmarks/search_belief.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinynas.cost.work import Piece, Work
from tinynas.graph import Shape

#: Operators that are looked at.
LAYERS = ("conv", "dw")
#: Logarithms are kept as whole numbers of this many to one, so that they add up the same in any order.
PER_NAT = 1000
#: More channels than any convolution has: ``narrowing`` is this less the channels, so that the narrowest is a maximum.
WIDEST = 1 << 20


class Anatomy(NamedTuple):
    """Of a run of operators; each an integer or an integer array. All add up but ``narrowing``, of which the largest counts."""

    layers: Any
    """Convolutions."""
    activations: Any
    """Elements that they write."""
    log_macs: Any
    """Sum of the natural logarithms of their MACs, each in thousandths."""
    narrowing: Any
    """:data:`WIDEST` less the fewest channels that one writes; 0 where there is none."""


class Figures(NamedTuple):
    """Of whole networks; each a number, or an array of N."""

    activations: Any
    """Elements that the convolutions write."""
    mean_log_macs: Any
    """Mean of the natural logarithms of their MACs."""
    narrowest: Any
    """Fewest channels that one of them writes."""


def anatomy(pieces: Sequence[Piece], shapes: Sequence[Shape]) -> Anatomy:
    """The anatomy of operators over tensors of ``shapes``; sizes may be integer arrays, one for each of as many networks."""
    layers = [piece for piece in pieces if piece.kind in LAYERS]
    narrowing: Any = 0
    for piece in layers:
        narrowing = np.maximum(narrowing, WIDEST - np.asarray(piece.out_channels))
    return Anatomy(
        len(layers),
        sum(prod(shapes[piece.outputs[0]]) for piece in layers),
        sum(np.rint(PER_NAT * np.log(piece.macs)).astype(np.int64) for piece in layers),
        narrowing,
    )


def figures_of(parts: Anatomy) -> Figures:
    """Of whole networks, each of which has a convolution, from their anatomy."""
    return Figures(parts.activations, parts.log_macs / (PER_NAT * parts.layers), WIDEST - parts.narrowing)


def figures(work: Work) -> Figures:
    """Of the network of ``work``."""
    return figures_of(anatomy(work.pieces, work.shapes))
