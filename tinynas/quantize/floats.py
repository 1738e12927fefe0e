"""The float network the quantiser starts from: batch norm folded into weights and biases, in TFLite's layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tinynas.arch import Activation
from tinynas.graph import (
    WEIGHTED,
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    HardSwish,
    Mean,
    Mul,
    Op,
    Pool2D,
    Resize,
    Weighted,
    nearest,
)
from tinynas.inputs import Input
from tinynas.lsq import LEAST_STEP
from tinynas.model import Network, convolve, normalise, per_pixel, spread


@dataclass(frozen=True)
class FloatGraph:
    """A graph with float32 weights and biases, batch norm folded in."""

    graph: Graph
    weights: Mapping[str, NDArray[np.float32]]
    """Per operator name, TFLite's layout: OHWI, 1HWC, OI."""
    biases: Mapping[str, NDArray[np.float32]]
    """Per operator name: (output channels,)."""
    norms: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=dict)
    """Per operator with batch norm: (beta, |gamma|), the mean and deviation of its output before the activation."""
    steps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Per operator whose weights were trained on a grid of few bits, and lie on it: its steps, (output channels,), or (1,)."""


def fold(network: Network) -> FloatGraph:
    """The weights of ``network`` with batch norm folded in; computed in float64.

    Weights that are trained on grids of few bits are rounded to them: a positive or negative factor for a channel changes its
    step and its signs, not the size of its integers.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    biases: dict[str, NDArray[np.float32]] = {}
    norms: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    steps: dict[str, NDArray[np.float32]] = {}
    for op in network.graph.ops:
        if not isinstance(op, WEIGHTED):
            continue
        layer, norm = network.named_op(op.name)
        grid = network.grid_of(op.name)
        weight = (layer.weight if grid is None else grid(layer.weight)).detach().cpu().double().numpy()
        step = None if grid is None or not grid.on else grid.step.detach().cpu().double().numpy()
        out = weight.shape[0]
        bias = np.zeros(out) if layer.bias is None else layer.bias.detach().cpu().double().numpy()
        if norm is not None:
            mean, var, gamma, beta = (
                t.detach().cpu().double().numpy() for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias) if t is not None
            )
            factor = gamma / np.sqrt(var + norm.eps)
            weight = weight * factor.reshape(-1, *([1] * (weight.ndim - 1)))
            bias = beta + (bias - mean) * factor
            norms[op.name] = (beta.astype(np.float32), np.abs(gamma).astype(np.float32))
            step = None if step is None else step * np.abs(factor)
        if step is not None:
            steps[op.name] = np.maximum(step, LEAST_STEP).astype(np.float32)
        weights[op.name] = tflite_layout(op, weight.astype(np.float32))
        biases[op.name] = bias.astype(np.float32)
    return FloatGraph(network.graph, weights, biases, norms, steps)


def tflite_layout(op: Weighted, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights from PyTorch's layout to TFLite's: OHWI, 1HWC, OI."""
    order = {Conv2D: (0, 2, 3, 1), DepthwiseConv2D: (1, 2, 3, 0), FullyConnected: (0, 1)}[type(op)]
    return np.ascontiguousarray(weights.transpose(order), dtype=np.float32)


def torch_layout(op: Weighted, weights: NDArray[np.generic]) -> NDArray[np.generic]:
    """Weights from TFLite's layout to PyTorch's: (O, I, H, W), (C, 1, H, W), (O, I)."""
    order = {Conv2D: (0, 3, 1, 2), DepthwiseConv2D: (3, 0, 1, 2), FullyConnected: (0, 1)}[type(op)]
    return np.ascontiguousarray(weights.transpose(order))


def pixels(images: NDArray[np.uint8], source: Input) -> Tensor:
    """:func:`tinynas.model.normalise` of numpy's uint8 (B, H, W, C)."""
    return normalise(torch.from_numpy(np.array(images)), source)


def activate(x: Tensor, act: Activation) -> Tensor:
    """``x`` through the activation, in place."""
    match act:
        case "relu6":
            return x.clamp_(0.0, 6.0)
        case "relu":
            return x.relu_()
        case "none":
            return x
    assert_never(act)


def linear_part(op: Weighted, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The operator without its activation; ``weight`` in PyTorch's layout."""
    if isinstance(op, FullyConnected):
        return F.linear(x, weight, bias)
    pad = op.padding
    if not pad.none:
        x = F.pad(x, (pad.left, pad.right, pad.top, pad.bottom))
    groups = op.channels if isinstance(op, DepthwiseConv2D) else 1
    return convolve(x, weight, bias, op.stride, dilation=op.dilation, groups=groups)


class FloatRunner:
    """Runs a float graph operator by operator, showing every tensor."""

    def __init__(self, floats: FloatGraph) -> None:
        self.graph = floats.graph
        self.parameters: dict[str, tuple[Tensor, Tensor]] = {}
        for op in floats.graph.ops:
            if isinstance(op, WEIGHTED):
                weight = torch.from_numpy(torch_layout(op, floats.weights[op.name]))
                self.parameters[op.name] = (weight, torch.from_numpy(floats.biases[op.name]))

    @torch.inference_mode()
    def run(self, x: Tensor, see: Callable[[int, Tensor], None] | None = None) -> Tensor:
        """Logits of normalised images (B, C, H, W); ``see`` gets every (tensor id, values), the input included."""
        return walk(self.graph, x, self.step, see)

    def step(self, op: Op, read: list[Tensor]) -> Tensor:
        """The output of one operator from its inputs."""
        return apply(self.graph, op, read, lambda weighted: self.parameters[weighted.name])


def walk(graph: Graph, x: Tensor, step: Callable[[Op, list[Tensor]], Tensor], see: Callable[[int, Tensor], None] | None = None) -> Tensor:
    """The graph's output from its input ``x``, operator by operator; a tensor is dropped after its last use."""
    values = {graph.inputs[0]: x}
    if see is not None:
        see(graph.inputs[0], x)
    for index, op in enumerate(graph.ops):
        values[op.output] = step(op, [values[t] for t in op.inputs])
        if see is not None:
            see(op.output, values[op.output])
        for tensor in graph.dying[index]:
            del values[tensor]
    return values[graph.logits]


def pooled(op: Pool2D, x: Tensor) -> Tensor:
    """Maxima or averages of windows."""
    if op.op == "avg":
        return F.avg_pool2d(x, op.kernel, op.stride)
    pad = op.padding
    if not pad.none:
        x = F.pad(x, (pad.left, pad.right, pad.top, pad.bottom), value=-math.inf)
    return F.max_pool2d(x, op.kernel, op.stride)


def resized(graph: Graph, op: Resize, x: Tensor) -> Tensor:
    """The nearest pixels."""
    source, target = graph.shape(op.inputs[0]), graph.shape(op.output)
    rows, columns = (torch.tensor(nearest(source[axis], target[axis]), device=x.device) for axis in (0, 1))
    return spread(x, rows, columns)


def apply(graph: Graph, op: Op, read: list[Tensor], parameters: Callable[[Weighted], tuple[Tensor, Tensor]]) -> Tensor:
    """The real-valued output of ``op``; ``parameters`` gives its weight (PyTorch's layout) and bias."""
    match op:
        case Conv2D() | DepthwiseConv2D() | FullyConnected():
            return activate(linear_part(op, read[0], *parameters(op)), op.act)
        case Add():
            return activate(read[0] + read[1], op.act)
        case Mul():
            return activate(read[0] * per_pixel(read[1], read[0]), op.act)
        case Mean():
            return read[0].mean((2, 3))
        case Pool2D():
            return pooled(op, read[0])
        case HardSwish():
            return F.hardswish(read[0])
        case Resize():
            return resized(graph, op, read[0])
    assert_never(op)


def predict(floats: FloatGraph, images: NDArray[np.uint8], *, batch: int = 128) -> NDArray[np.float32]:
    """Float logits (N, classes) of uint8 images (N, H, W, C)."""
    runner = FloatRunner(floats)
    return np.concatenate([runner.run(pixels(images[i : i + batch], floats.graph.input)).numpy() for i in range(0, len(images), batch)])
