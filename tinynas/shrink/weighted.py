"""Convolutions, depthwise convolutions and fully connected layers as what they multiply: weights by row, tap and column.

A row is an output channel, a column an input channel, a tap a place of the kernel (of a fully connected layer that reads a flattened
image: a pixel). Which taps lie in the image depends on where the output is: the kinds of places are the rows of ``reach``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.cost.schema import SAME, VALID
from tinynas.quantize.integer import multipliers
from tinynas.shrink.arithmetic import Ints, Range, from_sums
from tinynas.shrink.model import Op, Subgraph, Tensor

WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_INT32 = 1 << 31
#: Outputs along one axis, beyond which no kinds of places are looked for.
_MOST_PLACES = 1 << 16


@dataclass
class Weighted:
    """A weighted operator whose arithmetic is known."""

    op: Op
    source: int
    output: int
    weight: int
    bias: int
    """Its tensor; -1 where it has none."""
    values: Ints
    """(rows, taps, columns); of a depthwise convolution (rows, taps, 1), whose column is ``row // multiplier``."""
    biases: Ints
    """(rows,)."""
    reach: NDArray[np.bool_]
    """(kinds of places, taps): whether a tap lies in the image."""
    scales: NDArray[np.float64]
    """(rows,): of the weights."""
    pairs: list[tuple[int, int]]
    act: int
    multiplier: int = 0
    """Rows a column of a depthwise convolution; 0 for others."""
    largest: int = 127
    """The largest weight that the type holds symmetrically."""

    @property
    def rows(self) -> int:
        """Output channels."""
        return len(self.values)

    def sums(self, source: Range, zero: int) -> tuple[Ints, Ints] | None:
        """(least, most) accumulator of each row at each kind of place, (P, rows); None where int32 might overflow on the way."""
        low, high = self._columns(source.low - zero), self._columns(source.high - zero)
        weights = self.values.astype(np.float64)
        reach = self.reach.astype(np.float64)
        above, below = np.maximum(weights, 0), np.minimum(weights, 0)
        least = reach @ ((above * low).sum(2) + (below * high).sum(2)).T + self.biases
        most = reach @ ((above * high).sum(2) + (below * low).sum(2)).T + self.biases
        largest = (np.abs(weights) * np.maximum(np.abs(low), np.abs(high))).sum((1, 2)) + np.abs(self.biases)
        return None if (largest >= _INT32).any() else (least.astype(np.int64), most.astype(np.int64))

    def _columns(self, values: Ints) -> NDArray[np.float64]:
        # (rows or 1, 1, columns): what stands beside the weights.
        if self.multiplier:
            return np.repeat(values, self.multiplier).astype(np.float64)[:, None, None]
        return values.astype(np.float64)[None, None]

    def contribution(self, column: int, value: int) -> Ints:
        """(P, rows): what ``column`` adds to the accumulators when it holds ``value`` beside its zero point."""
        return (self.reach.astype(np.int64) @ self.values[:, :, column].T) * value

    def range(self, source: Range, graph: Subgraph) -> Range | None:
        """What its output can hold; None where nothing is known."""
        sums = self.sums(source, graph.tensors[self.source].zero)
        return None if sums is None else from_sums(*sums, self.pairs, self.act, graph.tensors[self.output].grid)

    def store(self, graph: Subgraph) -> None:
        """Write weights and biases back into the graph's tensors."""
        weight = graph.tensors[self.weight]
        values = self.values.astype(np.int8)
        if self.multiplier:
            values = values[:, :, 0].T
        weight.data = np.ascontiguousarray(values.reshape(weight.dims))
        if self.bias >= 0:
            graph.tensors[self.bias].data = self.biases.astype(np.int32)
        elif self.biases.any():
            grid = Tensor(b"", (self.rows,), "int32", self.biases.astype(np.int32), quantized=True)
            grid.scale = (np.float32(graph.tensors[self.source].real_scale) * weight.scale).astype(np.float32)
            grid.zero_point = np.zeros(weight.scale.size, np.int64)
            graph.tensors.append(grid)
            self.bias = len(graph.tensors) - 1
            self.op.inputs[2:] = [self.bias]


def weighted(graph: Subgraph, op: Op) -> Weighted | None:
    """``op`` as what it multiplies; None where something about it is not known here (its tensors then stay as they are)."""
    if op.kind not in WEIGHTED or op.options is None or len(op.inputs) not in {2, 3} or len(op.outputs) != 1:
        return None
    inputs = [*op.inputs, -1][:3]
    if any(t in graph.ends or (t >= 0 and graph.tensors[t].is_variable) for t in inputs[1:]):
        return None  # weights that the outside sees, or that change
    source, weight, output = (graph.tensors[t] for t in (inputs[0], inputs[1], op.outputs[0]))
    filters = weight.array
    if min(inputs[:2]) < 0 or not (source.int8 and output.int8) or filters is None or weight.dtype not in {"int8", "int4"}:
        return None
    if source.constant or weight.zero_point.any() or weight.details[0] or not weight.scale.size or not source.dims or not output.dims:
        return None
    biases = np.zeros(output.channels, np.int64)
    if inputs[2] >= 0:
        given = graph.tensors[inputs[2]]
        if given.dtype != "int32" or given.array is None or given.elements != output.channels:
            return None
        biases = given.array.reshape(-1).astype(np.int64)
    rows = output.channels
    if weight.scale.size not in {1, rows} or not (weight.scale > 0).all() or not np.isfinite(weight.scale).all():
        return None
    found = _dense(op, source, weight, output, filters) if op.kind == "FULLY_CONNECTED" else _windowed(op, source, weight, output, filters)
    if found is None:
        return None
    values, reach, multiplier = found
    scales = np.broadcast_to(weight.scale.astype(np.float64), (rows,))
    if op.kind == "FULLY_CONNECTED" and weight.scale.size == 1:
        # TFLM multiplies input and weight scale in float32 here.
        real = np.full(rows, np.float64(np.float32(source.real_scale) * weight.scale[0]) / output.real_scale)
    else:
        real = source.real_scale * scales / output.real_scale
    largest = 127 if weight.dtype == "int8" else 7
    return Weighted(
        op, inputs[0], op.outputs[0], inputs[1], inputs[2], values, biases, reach, scales, multipliers(real),
        int(op.options.fusedActivationFunction), multiplier, largest,
    )  # fmt: skip


_Found = tuple[NDArray[Any], NDArray[np.bool_], int] | None


def _dense(op: Op, source: Tensor, weight: Tensor, output: Tensor, filters: NDArray[Any]) -> _Found:
    if filters.ndim != 2 or filters.shape[0] != output.channels or op.options.weightsFormat or op.options.asymmetricQuantizeInputs:
        return None
    rows, depth = filters.shape
    columns = source.channels
    if not columns or depth % columns or source.elements % depth or source.elements // depth != output.elements // rows:
        return None
    if weight.scale.size > 1 and weight.axis != 0:
        return None
    taps = depth // columns
    return filters.astype(np.int64).reshape(rows, taps, columns), np.ones((1, taps), np.bool_), 0


def _windowed(op: Op, source: Tensor, weight: Tensor, output: Tensor, filters: NDArray[Any]) -> _Found:
    depthwise = op.kind == "DEPTHWISE_CONV_2D"
    if filters.ndim != 4 or len(source.dims) != 4 or len(output.dims) != 4 or source.dims[0] != output.dims[0]:
        return None
    if weight.scale.size > 1 and weight.axis != (3 if depthwise else 0):
        return None
    reach = _reach(op, source.dims, output.dims, filters.shape[1:3])
    if reach is None:
        return None
    taps, rows = filters.shape[1] * filters.shape[2], output.channels
    if not depthwise:
        fits = filters.shape[0] == rows and filters.shape[3] == source.channels
        return (filters.astype(np.int64).reshape(rows, taps, -1), reach, 0) if fits else None
    multiplier = int(op.options.depthMultiplier)
    if filters.shape[0] != 1 or filters.shape[3] != rows or multiplier < 1 or multiplier * source.channels != rows:
        return None
    return filters.astype(np.int64).reshape(taps, rows).T[:, :, None].copy(), reach, multiplier


def _reach(op: Op, source: tuple[int, ...], output: tuple[int, ...], kernel: tuple[int, ...]) -> NDArray[np.bool_] | None:
    # (kinds of places, taps); None where the output's shape is not the one that the options give.
    options = op.options
    if options.padding not in {SAME, VALID}:
        return None
    axes = []
    steps = ((options.strideH, options.dilationHFactor), (options.strideW, options.dilationWFactor))
    for axis, (stride, dilation) in enumerate(steps):
        size, out, taps = source[1 + axis], output[1 + axis], kernel[axis]
        if stride < 1 or dilation < 1 or size < 1 or taps < 1 or out > _MOST_PLACES:
            return None
        wide = (taps - 1) * dilation + 1
        if out != (-(-size // stride) if options.padding == SAME else (size - wide + stride) // stride) or out < 1:
            return None
        before = max((out - 1) * stride + wide - size, 0) // 2
        places = np.arange(out)[:, None] * stride - before + np.arange(taps) * dilation
        axes.append(np.unique((places >= 0) & (places < size), axis=0))
    return np.array([np.outer(down, across).reshape(-1) for down, across in product(*axes)])
