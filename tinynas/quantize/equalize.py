"""Cross-layer equalisation: rescale channels so that an activation tensor's one grid serves them all alike.

A positive factor per channel moves through everything that is linear in a channel: out of the weights that produce
it, into the weights that consume it. ReLU lets it through; ReLU6 does too as long as the channel stays below its
calibrated maximum, which scaling *up* to the tensor's range keeps: its clip moves from 6 to no less than that
maximum. Tensors joined by an addition share their factors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tinynas.graph import WEIGHTED, Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Mean, Mul, Op, Pool2D, Resize, Weighted
from tinynas.quantize.floats import FloatGraph, FloatRunner, pixels

BATCH = 64
#: A channel is scaled up by at most this factor: one that was nearly silent in calibration may be loud later.
MAX_FACTOR = 32.0


def equalize(floats: FloatGraph, images: NDArray[np.uint8], *, strength: float = 0.5) -> FloatGraph:
    """``floats`` with equalised channels; the same function on ``images``, up to float rounding.

    ``strength`` 1 gives every channel of a tensor the same range, 0.5 shares the gain between activation and
    consuming weights.
    """
    graph = floats.graph
    groups = _groups(graph)
    if not groups:
        return floats
    reach = _reach(floats, images)
    clipped = {op.output for op in graph.ops if getattr(op, "act", "none") == "relu6"}
    weights = {name: value.astype(np.float64) for name, value in floats.weights.items()}
    biases = {name: value.astype(np.float64) for name, value in floats.biases.items()}
    steps = {name: value.astype(np.float64) for name, value in floats.steps.items()}
    for group in groups:
        if any(isinstance(op, WEIGHTED) and op.name in steps and not _scales(op, group) for op in graph.ops):
            continue
        largest = np.max([reach[t] for t in group], axis=0)
        if largest.max() <= 0:
            continue
        factor = np.maximum(largest / largest.max(), 1.0 / MAX_FACTOR) ** strength
        for tensor in group & clipped:
            factor = np.maximum(factor, reach[tensor] / 6.0)  # scaled up, it must stay below its clip
        for op in graph.ops:
            if isinstance(op, WEIGHTED):
                if op.output in group:
                    out_axis = -1 if isinstance(op, DepthwiseConv2D) else 0
                    weights[op.name] = weights[op.name] / _along(factor, weights[op.name].ndim, out_axis)
                    biases[op.name] = biases[op.name] / factor
                    if op.name in steps:
                        steps[op.name] = steps[op.name] / factor
                if op.inputs[0] in group:
                    if op.name in steps:
                        steps[op.name] = steps[op.name] * factor
                    weights[op.name] = weights[op.name] * _along(factor, weights[op.name].ndim, -1)
    return replace(
        floats,
        weights={name: value.astype(np.float32) for name, value in weights.items()},
        biases={name: value.astype(np.float32) for name, value in biases.items()},
        steps={name: value.astype(np.float32) for name, value in steps.items()},
    )


def _scales(op: Weighted, group: set[int]) -> bool:
    """Whether a learned grid of ``op`` can take up the factors of ``group``: those of output channels go into its steps."""
    if isinstance(op, DepthwiseConv2D):
        return True
    return op.inputs[0] not in group and not (isinstance(op, FullyConnected) and op.output in group)


def _along(factor: NDArray[np.float64], dims: int, axis: int) -> NDArray[np.float64]:
    shape = [1] * dims
    shape[axis] = -1
    return factor.reshape(shape)


def _groups(graph: Graph) -> list[set[int]]:
    # Tensors whose channels carry one common factor; those that the graph's input or output belong to stay.
    parent = list(range(len(graph.tensors)))

    def find(tensor: int) -> int:
        while parent[tensor] != tensor:
            tensor = parent[tensor]
        return tensor

    fixed_tensors = {*graph.inputs, *graph.outputs}
    # What carries no factor and has no weights to take it up holds its tensors where they are.
    for op in graph.ops:
        if _carries(op):
            for tensor in op.inputs:
                parent[find(tensor)] = find(op.output)
        elif not isinstance(op, WEIGHTED):
            fixed_tensors |= {*op.inputs, op.output}
    groups: dict[int, set[int]] = {}
    for tensor in range(len(graph.tensors)):
        groups.setdefault(find(tensor), set()).add(tensor)
    fixed = {find(tensor) for tensor in fixed_tensors}
    return [group for root, group in groups.items() if root not in fixed]


def _carries(op: Op) -> bool:
    """Whether a positive factor on a channel of every input is the same factor on that channel of the output."""
    match op:
        case Add() | Mean() | Pool2D() | Resize():
            return True
        case Mul():
            return False  # factors of both sides would multiply
        case HardSwish():
            return False  # bends at -3 and 3
        case Conv2D() | DepthwiseConv2D() | FullyConnected():
            return False  # where factors end and begin
    assert_never(op)


def _reach(floats: FloatGraph, images: NDArray[np.uint8]) -> dict[int, NDArray[np.float64]]:
    found: dict[int, NDArray[np.float64]] = {}

    def see(tensor: int, values: Tensor) -> None:
        axes = (0, 2, 3) if values.ndim == 4 else (0,)
        here = values.abs().amax(axes).double().numpy()
        found[tensor] = np.maximum(found[tensor], here) if tensor in found else here

    runner = FloatRunner(floats)
    for start in range(0, len(images), BATCH):
        runner.run(pixels(images[start : start + BATCH], floats.graph.input), see)
    return found
