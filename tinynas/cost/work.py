"""Work: one operator list that the cost models read, whether it came from a Graph or from a .tflite file.

Counting convention. One MAC is one multiply and its addition; only convolutions and matrix products have
MACs (adds, pooling, means and activations have none; biases are folded into the accumulator and are not
counted). A convolution costs output height * output width * output channels * kernel height * kernel width
* input channels per group. Worked example, the first layer of mcunet-tiny2: 24 * 24 * 12 * 3 * 3 * 3 =
186,624 MACs, 324 weights, 12 biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import assert_never

from tinynas.cost.builds import ScratchByBuild, conv_scratches, dense_scratches, depthwise_scratches, mean_scratches, pool_scratches
from tinynas.cost.esp import Window
from tinynas.cost.kernel import Build, Needs
from tinynas.cost.schema import packed_bytes
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Kind, Mean, Mul, Op, Pool2D, Resize, Shape, Tensor
from tinynas.target.registrations import Alone

DTYPE_BYTES = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int32": 4, "float32": 4, "int64": 8, "float64": 8}


@dataclass(frozen=True, slots=True)
class Piece:
    """One operator as the cost models see it; tensors are numbers into :attr:`Work.sizes`."""

    kind: str
    """Of :data:`tinynas.graph.Kind`, or, in a file of others, a TFLite operator name in lower case."""
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int = 0
    weights: int = 0
    biases: int = 0
    weights_bytes: int = 0
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    in_channels: int = 0
    out_channels: int = 0
    scratch: ScratchByBuild = field(default_factory=dict, hash=False)
    """Bytes of each scratch buffer that TFLM's kernel asks for, of a Graph's operator; see :meth:`scratch_of`."""
    weight_bits: int = 8
    """Bits of each weight in the file, where it has weights."""
    arithmetic: str = "int8"
    """Element type of what is multiplied, where it has MACs; such as ``float32``, or ``int16 with int8 weights``."""
    alone: Alone = "int8"
    """What a kernel that computes it may be for alone, where there is one."""
    needs: Mapping[Build, Needs] | None = None
    """What TFLM's kernel of a file's operator takes in the arena; None for the operators of a Graph, which are int8, and for those
    that the table of kernels does not have."""

    def scratch_of(self, build: Build) -> tuple[int, ...]:
        """Bytes of each scratch buffer that the kernel of ``build`` asks for, live during this operator only."""
        return self.scratch.get(build, ()) if self.needs is None else self.needs[build].scratch


@dataclass(frozen=True, slots=True)
class Work:
    """Operators in execution order over activation tensors."""

    sizes: tuple[int, ...]
    """Bytes of each tensor; 0 where the runtime plans no memory for it (constants)."""
    shapes: tuple[Shape, ...]
    pieces: tuple[Piece, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tensor_count: int
    """Tensors of the .tflite file, constants included."""
    input_scales: tuple[int, ...] = (1,)
    """Number of quantisation scales of each input; 0 for float."""
    output_scales: tuple[int, ...] = (1,)
    """The same of each output."""
    spans: tuple[list[int], list[int]] | None = None
    """First and last scope in which each tensor is in memory (:mod:`tinynas.cost.scopes`); None where that follows from the
    operators, each of which is a scope then."""
    moments: tuple[tuple[int, int], ...] | None = None
    """First and last scope of each operator, with ``spans``."""
    subgraphs: int = 1
    variables: tuple[int, ...] = ()
    """Bytes of each tensor that keeps its content between inferences, beside the plan."""
    resources: tuple[int, ...] = ()
    """Bytes of each resource variable (VAR_HANDLE); 0 where nothing is assigned to it."""
    uncounted: tuple[str, ...] = ()
    """Operators whose MACs are not known: the MACs are *at least* what is said."""
    notes: tuple[str, ...] = ()
    """What must be said beside the figures."""
    reasons: tuple[str, ...] | None = ()
    """Why the runtime does not run it; empty where it does, None where that is not known."""


#: Bits of weights -> what a kernel may be for alone.
_ALONE: dict[int, Alone] = {8: "int8", 4: "int4", 2: ""}
#: The same the other way, of the operators of a Graph.
WEIGHT_BITS: dict[Alone, int] = {alone: bits for bits, alone in _ALONE.items()}


def _arithmetic(bits: int) -> str:
    return "int8" if bits == 8 else f"int8 with int{bits} weights"


def _conv(name: str, x: int, y: int, window: Window, out: int, bits: int) -> Piece:
    weights = window.channels * out * window.area
    return Piece(
        "conv",
        name,
        (x,),
        (y,),
        window.out_height * window.out_width * weights,
        weights,
        out,
        packed_bytes(weights, bits) + 4 * out,
        window.kernel,
        window.stride,
        window.dilation,
        window.channels,
        out,
        conv_scratches(window, out, bits),
        bits,
        _arithmetic(bits),
        _ALONE[bits],
    )


def _depthwise(name: str, x: int, y: int, window: Window, bits: int) -> Piece:
    channels = window.channels
    weights = channels * window.area
    return Piece(
        "dw",
        name,
        (x,),
        (y,),
        window.out_height * window.out_width * weights,
        weights,
        channels,
        packed_bytes(weights, bits) + 4 * channels,
        window.kernel,
        window.stride,
        window.dilation,
        channels,
        channels,
        depthwise_scratches(window, bits),
        bits,
        _arithmetic(bits),
        _ALONE[bits],
    )


def _dense(name: str, x: int, y: int, inputs: int, outputs: int, bits: int) -> Piece:
    weights = inputs * outputs
    return Piece(
        "fc",
        name,
        (x,),
        (y,),
        weights,
        weights,
        outputs,
        packed_bytes(weights, bits) + 4 * outputs,
        in_channels=inputs,
        out_channels=outputs,
        scratch=dense_scratches(inputs, outputs, bits),
        weight_bits=bits,
        arithmetic=_arithmetic(bits),
        alone=_ALONE[bits],
    )


def _mean(name: str, x: int, y: int, channels: int) -> Piece:
    return Piece("mean", name, (x,), (y,), in_channels=channels, out_channels=channels, scratch=mean_scratches(channels))


def _elementwise(kind: Kind, name: str, x: int, other: int, y: int, channels: int) -> Piece:
    return Piece(kind, name, (x, other), (y,), in_channels=channels, out_channels=channels)


_cached_conv = lru_cache(maxsize=65536)(_conv)
_cached_depthwise = lru_cache(maxsize=65536)(_depthwise)
_cached_dense = lru_cache(maxsize=4096)(_dense)
_cached_mean = lru_cache(maxsize=4096)(_mean)
_cached_elementwise = lru_cache(maxsize=16384)(_elementwise)


def from_graph(graph: Graph) -> Work:
    """The work of ``graph``: weights packed as a file packs them, int32 biases (4 B each), batch norm folded."""
    pieces, constants = pieces_of(graph.ops, graph.tensors, looked_up=True)
    shapes = tuple([t.shape for t in graph.tensors])
    sizes = tuple([tensor_bytes(t) for t in graph.tensors])
    return Work(sizes, shapes, pieces, graph.inputs, graph.outputs, len(sizes) + constants, output_scales=(1,) * len(graph.outputs))


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of an activation tensor, unaligned."""
    return prod(tensor.shape) * DTYPE_BYTES[tensor.dtype]


def _window(op: Conv2D | DepthwiseConv2D, tensors: Sequence[Tensor]) -> Window:
    height, width, channels = tensors[op.inputs[0]].shape
    out_height, out_width, _ = tensors[op.output].shape
    before = op.padding.top, op.padding.left
    return Window(height, width, channels, out_height, out_width, op.kernel, op.stride, *before, op.dilation)


def pieces_of(ops: Sequence[Op], tensors: Sequence[Tensor], *, looked_up: bool = False) -> tuple[tuple[Piece, ...], int]:
    """(what the cost models see of ``ops``, constant tensors that they bring into a file).

    Sizes may be integer arrays, unless pieces are ``looked_up`` among those made before.
    """
    conv, depthwise, dense = (_cached_conv, _cached_depthwise, _cached_dense) if looked_up else (_conv, _depthwise, _dense)
    mean, elementwise = (_cached_mean, _cached_elementwise) if looked_up else (_mean, _elementwise)
    pieces: list[Piece] = []
    constants = 0
    for op in ops:
        match op:
            case Conv2D():
                pieces.append(conv(op.name, op.inputs[0], op.output, _window(op, tensors), op.out_channels, op.weight_bits))
                constants += 2
            case DepthwiseConv2D():
                pieces.append(depthwise(op.name, op.inputs[0], op.output, _window(op, tensors), op.weight_bits))
                constants += 2
            case FullyConnected():
                pieces.append(dense(op.name, op.inputs[0], op.output, op.in_features, op.out_features, op.weight_bits))
                constants += 2
            case Add() | Mul():
                x, other = op.inputs
                pieces.append(elementwise(op.kind, op.name, x, other, op.output, tensors[op.output].shape[-1]))
            case Mean():
                pieces.append(mean(op.name, op.inputs[0], op.output, tensors[op.output].shape[-1]))
                constants += 1  # the axes
            case Pool2D():
                channels = tensors[op.output].shape[-1]
                pieces.append(
                    Piece(
                        op.kind,
                        op.name,
                        op.inputs,
                        (op.output,),
                        kernel=op.kernel,
                        stride=op.stride,
                        in_channels=channels,
                        out_channels=channels,
                        scratch=pool_scratches(op.kind, channels),
                    )
                )
            case HardSwish() | Resize():
                channels = tensors[op.output].shape[-1]
                pieces.append(Piece(op.kind, op.name, op.inputs, (op.output,), in_channels=channels, out_channels=channels))
                constants += isinstance(op, Resize)  # the size
            case _:
                assert_never(op)
    return tuple(pieces), constants
