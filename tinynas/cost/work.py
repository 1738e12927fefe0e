"""Work: one operator list that the cost models read, whether it came from a Graph or from a .tflite file.

Counting convention. One MAC is one multiply and its addition; only convolutions and matrix products have
MACs (adds, pooling, means and activations have none; biases are folded into the accumulator and are not
counted). A convolution costs output height * output width * output channels * kernel height * kernel width
* input channels per group. Worked example, the first layer of mcunet-tiny2: 24 * 24 * 12 * 3 * 3 * 3 =
186,624 MACs, 324 weights, 12 biases.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mean, Pool2D, Shape

DTYPE_BYTES = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int32": 4, "float32": 4, "int64": 8, "float64": 8}


@dataclass(frozen=True, slots=True)
class Piece:
    """One operator as the cost models see it; tensors are numbers into :attr:`Work.sizes`."""

    kind: str
    """conv, dw, fc, add, mean, max_pool, avg_pool, or a TFLite operator name in lower case."""
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int
    weights: int
    biases: int
    weights_bytes: int
    kernel: int = 1
    """Kernel height * width."""
    stride: int = 1
    in_channels: int = 0
    out_channels: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """Operators in execution order over activation tensors."""

    sizes: tuple[int, ...]
    """Bytes of each activation tensor; 0 where the runtime plans no memory for it (constants)."""
    shapes: tuple[Shape, ...]
    pieces: tuple[Piece, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@lru_cache(maxsize=65536)
def _conv(name: str, x: int, y: int, in_channels: int, out: int, kernel: int, stride: int, pixels: int) -> Piece:
    weights = in_channels * out * kernel
    return Piece("conv", name, (x,), (y,), pixels * weights, weights, out, weights + 4 * out, kernel, stride, in_channels, out)


@lru_cache(maxsize=65536)
def _depthwise(name: str, x: int, y: int, channels: int, kernel: int, stride: int, pixels: int) -> Piece:
    weights = channels * kernel
    return Piece("dw", name, (x,), (y,), pixels * weights, weights, channels, weights + 4 * channels, kernel, stride, channels, channels)


def from_graph(graph: Graph) -> Work:
    """The work of ``graph``: int8 weights (1 B each), int32 biases (4 B each), batch norm folded."""
    tensors = graph.tensors
    pieces = []
    for op in graph.ops:
        match op:
            case Conv2D():
                height, width, _ = tensors[op.output].shape
                kernel = op.kernel[0] * op.kernel[1]
                pieces.append(_conv(op.name, op.input, op.output, op.in_channels, op.out_channels, kernel, op.stride[0], height * width))
            case DepthwiseConv2D():
                height, width, _ = tensors[op.output].shape
                kernel = op.kernel[0] * op.kernel[1]
                pieces.append(_depthwise(op.name, op.input, op.output, op.channels, kernel, op.stride[0], height * width))
            case FullyConnected():
                weights = op.in_features * op.out_features
                pieces.append(
                    Piece(
                        "fc",
                        op.name,
                        (op.input,),
                        (op.output,),
                        weights,
                        weights,
                        op.out_features,
                        weights + 4 * op.out_features,
                        1,
                        1,
                        op.in_features,
                        op.out_features,
                    )
                )
            case Add():
                channels = tensors[op.output].shape[-1]
                pieces.append(Piece("add", op.name, (op.input, op.other), (op.output,), 0, 0, 0, 0, 1, 1, channels, channels))
            case Mean():
                channels = tensors[op.output].shape[-1]
                pieces.append(Piece("mean", op.name, (op.input,), (op.output,), 0, 0, 0, 0, 1, 1, channels, channels))
            case Pool2D():
                channels = tensors[op.output].shape[-1]
                kernel = op.kernel[0] * op.kernel[1]
                pieces.append(
                    Piece(f"{op.op}_pool", op.name, (op.input,), (op.output,), 0, 0, 0, 0, kernel, op.stride[0], channels, channels)
                )
            case _:
                assert_never(op)
    sizes = tuple([t.elements * DTYPE_BYTES[t.dtype] for t in tensors])
    return Work(sizes, tuple([t.shape for t in tensors]), tuple(pieces), (graph.input,), (graph.output,))
