"""Grids: which real numbers an integer tensor can hold, and the network whose tensors all lie on them.

real = scale * (q - zero_point). Weights are symmetric (zero point 0) with a scale per output channel; activations
have one scale and zero point per tensor. Scales are float32, because the file's are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Mean, Mul, Pool2D, Resize, Weighted
from tinynas.graph import largest as largest
from tinynas.inputs import Input


@dataclass(frozen=True, slots=True)
class TensorQuant:
    """The grid of an activation tensor. ``scale`` is exactly representable in float32."""

    scale: float
    zero_point: int

    @staticmethod
    def covering(low: float, high: float, *, bits: int = 8, floor: float = 1e-5) -> TensorQuant:
        """The grid of ``bits`` whose ends reach ``low`` and ``high`` (0 always lies on it, exactly).

        A range narrower than ``floor`` is widened to it, so a tensor that was constant in calibration has a
        usable grid.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        if high - low < floor:
            high = low + floor
        least, most = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        scale = float(np.float32((high - low) / (most - least)))
        zero_point = int(np.clip(np.rint(least - low / scale), least, most))
        return TensorQuant(scale, zero_point)


def input_quant(source: Input) -> TensorQuant:
    """The grid of a network's input: its bytes, stored as byte - 128, so that 8-bit inputs lose nothing."""
    return TensorQuant(source.scale, source.int8_zero_point)


@dataclass(frozen=True)
class QuantizedGraph:
    """A graph with integer weights and a grid for each activation: all that a .tflite needs."""

    graph: Graph
    tensors: tuple[TensorQuant, ...]
    """Per tensor id."""
    weights: Mapping[str, NDArray[np.int8]]
    """Per operator name, TFLite's layout: OHWI, 1HWC, OI."""
    weight_scales: Mapping[str, NDArray[np.float32]]
    """Per operator name: (output channels,); (1,) for a fully connected layer."""
    biases: Mapping[str, NDArray[np.int32]]
    """Per operator name: (output channels,), on the grid input scale * weight scale."""
    bits: int = 8
    """Most bits of a weight; see :meth:`weight_bits`."""

    def weight_bits(self, op: Weighted) -> int:
        """Bits of the grid of ``op``: its integers lie within +-(2^(bits-1) - 1), whatever type stores them."""
        return min(self.bits, op.weight_bits)

    def bias_scales(self, op_name: str) -> NDArray[np.float32]:
        """The biases' grid of operator ``op_name``: the product of its input's scale and its weights', as a file states it."""
        op = next(op for op in self.graph.ops if op.name == op_name)
        return np.float32(self.tensors[op.inputs[0]].scale) * self.weight_scales[op_name]


def random_quantized(graph: Graph, *, seed: int = 0) -> QuantizedGraph:
    """``graph`` with random weights, on grids that keep its activations spread over their range."""
    rng = np.random.default_rng(seed)
    tensors = [input_quant(graph.input)] * len(graph.tensors)
    weights: dict[str, NDArray[np.int8]] = {}
    scales: dict[str, NDArray[np.float32]] = {}
    biases: dict[str, NDArray[np.int32]] = {}
    for op in graph.ops:
        source = tensors[op.inputs[0]]
        match op:
            case Conv2D() | DepthwiseConv2D() | FullyConnected():
                shape = weight_shape(op)
                out = op.channels if isinstance(op, DepthwiseConv2D) else shape[0]
                most = largest(op.weight_bits)
                weights[op.name] = rng.integers(-most, most + 1, shape, dtype=np.int8)
                fan_in = int(np.prod(shape)) // out
                spread = rng.uniform(0.5, 1.5, 1 if isinstance(op, FullyConnected) else out)
                scales[op.name] = (spread * 2.0 / (most * np.sqrt(fan_in))).astype(np.float32)
                bias = rng.normal(0.0, 0.5, out) / (source.scale * scales[op.name])
                biases[op.name] = np.clip(np.rint(bias), -(2**30), 2**30).astype(np.int32)
                high = 6.0 if op.act == "relu6" else 4.0
                tensors[op.output] = TensorQuant.covering(0.0 if op.act != "none" else -rng.uniform(2.0, 4.0), high * rng.uniform(0.7, 1.0))
            case Add() | Mul():
                tensors[op.output] = TensorQuant.covering(-rng.uniform(3.0, 6.0), rng.uniform(3.0, 6.0))
            case Mean():
                tensors[op.output] = TensorQuant.covering(-rng.uniform(0.5, 1.0), rng.uniform(0.5, 2.0))
            case HardSwish():
                tensors[op.output] = TensorQuant.covering(-0.375, rng.uniform(2.0, 4.0))
            case Pool2D() | Resize():
                tensors[op.output] = source
            case _:
                assert_never(op)
    return QuantizedGraph(graph, tuple(tensors), weights, scales, biases)


def weight_shape(op: Weighted) -> tuple[int, ...]:
    """Shape of the weights in TFLite's layout: OHWI, 1HWC, OI."""
    match op:
        case Conv2D():
            return (op.out_channels, *op.kernel, op.in_channels)
        case DepthwiseConv2D():
            return (1, *op.kernel, op.channels)
        case FullyConnected():
            return (op.out_features, op.in_features)
    assert_never(op)
