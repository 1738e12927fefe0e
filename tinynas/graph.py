"""Graph: the one description of a network that everything reads; ``lower(Arch)`` makes it.

This is the only place where shapes, padding and operator order are computed. Shapes are (height, width,
channels) without the batch of 1, or (channels,) after global pooling. Padding is per side and follows
TFLite's SAME rule, so the PyTorch module, the costs and the .tflite agree pixel for pixel.

Sizes (heights, widths, channels) may be integer arrays of one shape: then a Graph stands for as many networks of one
structure, which is how the batch estimator tabulates blocks with the builder that lowers a network.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias, assert_never

from tinynas.arch import Activation, Arch, Attention, ConvLayer, LayerActivation, MBConv, Pool, Separable, WeightBits, pair, reach
from tinynas.errors import ArchError
from tinynas.inputs import Input

DType = Literal["int8", "uint8", "int16", "int32", "float32"]
Shape: TypeAlias = tuple[int, ...]
Kind = Literal["conv", "dw", "fc", "add", "mul", "mean", "max_pool", "avg_pool", "hard_swish", "resize"]
"""What an operator is called in every table of costs, files and pictures; one an operator, two for pooling."""


@dataclass(frozen=True, slots=True)
class Padding:
    """Zero padding in pixels, per side."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @property
    def none(self) -> bool:
        """True where nothing is padded."""
        return not (self.top or self.bottom or self.left or self.right)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """(before, after) in pixels by TFLite's SAME rule; the odd pixel goes after."""
    total = (-(-size // stride) - 1) * stride + kernel - size
    total = total * (total > 0)  # at least 0, for arrays too
    return total // 2, total - total // 2


def causal_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """(before, after) in pixels where all that :func:`same_padding` adds goes before: the last window ends with the last pixel, or
    before it."""
    return sum(same_padding(size, kernel, stride)), 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """An activation tensor; ``shape`` is (h, w, c) or (c,), batch left out."""

    name: str
    shape: Shape
    dtype: DType = "int8"

    @property
    def elements(self) -> int:
        """Number of elements (batch 1)."""
        n = 1
        for size in self.shape:
            n = n * size
        return n


@dataclass(frozen=True, slots=True)
class Conv2D:
    """Dense convolution + folded batch norm + activation. Weights (out, kh, kw, in)."""

    name: str
    inputs: tuple[int, ...]
    """Tensor ids read."""
    output: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    act: Activation
    bn: bool = True
    weight_bits: WeightBits = 8
    start: float = 0.0
    """What its biases begin training at."""
    dilation: tuple[int, int] = (1, 1)
    """Pixels from one tap of the kernel to the next."""
    kind: ClassVar[Kind] = "conv"

    @property
    def reach(self) -> tuple[int, int]:
        """(height, width) in pixels that a window spans."""
        return reach(self.kernel, self.dilation)


@dataclass(frozen=True, slots=True)
class DepthwiseConv2D:
    """Depthwise convolution (multiplier 1) + folded batch norm + activation. Weights (1, kh, kw, c)."""

    name: str
    inputs: tuple[int, ...]
    """Tensor ids read."""
    output: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    act: Activation
    bn: bool = True
    weight_bits: WeightBits = 8
    dilation: tuple[int, int] = (1, 1)
    """Pixels from one tap of the kernel to the next."""
    kind: ClassVar[Kind] = "dw"

    @property
    def reach(self) -> tuple[int, int]:
        """(height, width) in pixels that a window spans."""
        return reach(self.kernel, self.dilation)


@dataclass(frozen=True, slots=True)
class Add:
    """Elementwise sum of two tensors of one shape."""

    name: str
    inputs: tuple[int, ...]
    """Tensor ids read, the block's input first."""
    output: int
    act: Activation = "none"
    kind: ClassVar[Kind] = "add"


@dataclass(frozen=True, slots=True)
class Mul:
    """Elementwise product: of two tensors of one shape, or of a map (h, w, c) and a gate (c,) that serves every pixel."""

    name: str
    inputs: tuple[int, ...]
    """Tensor ids read, the map first."""
    output: int
    act: Activation = "none"
    kind: ClassVar[Kind] = "mul"


@dataclass(frozen=True, slots=True)
class Pool2D:
    """Max or average pooling: VALID, or maxima with SAME padding, of which the padding is never the largest."""

    name: str
    op: Literal["max", "avg"]
    inputs: tuple[int, ...]
    """Tensor ids read."""
    output: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = field(default_factory=Padding)

    @property
    def kind(self) -> Kind:
        """max_pool or avg_pool."""
        return "max_pool" if self.op == "max" else "avg_pool"

    @property
    def reach(self) -> tuple[int, int]:
        """(height, width) in pixels that a window spans: its kernel."""
        return self.kernel


@dataclass(frozen=True, slots=True)
class Mean:
    """Global average pooling: (h, w, c) -> (c,)."""

    name: str
    inputs: tuple[int, ...]
    """Tensor ids read."""
    output: int
    kind: ClassVar[Kind] = "mean"


@dataclass(frozen=True, slots=True)
class FullyConnected:
    """A matrix product with bias: (in,) -> (out,). Weights (out, in)."""

    name: str
    inputs: tuple[int, ...]
    """Tensor ids read."""
    output: int
    in_features: int
    out_features: int
    act: Activation = "none"
    weight_bits: WeightBits = 8
    start: float = 0.0
    """What its biases begin training at."""
    kind: ClassVar[Kind] = "fc"


@dataclass(frozen=True, slots=True)
class HardSwish:
    """Elementwise x * relu6(x + 3) / 6."""

    name: str
    inputs: tuple[int, ...]
    """Tensor ids read."""
    output: int
    kind: ClassVar[Kind] = "hard_swish"


@dataclass(frozen=True, slots=True)
class Resize:
    """A map spread over a larger one: the pixel at (y, x) is that at :func:`nearest` of y and of x."""

    name: str
    inputs: tuple[int, ...]
    """Tensor ids read."""
    output: int
    kind: ClassVar[Kind] = "resize"


def nearest(size: int, out: int) -> tuple[int, ...]:
    """For each of ``out`` places the one of ``size`` that RESIZE_NEAREST_NEIGHBOR takes, which TFLM works out in float32."""
    scale = _float32(size / out)
    return tuple(min(int(_float32(place * scale)), size - 1) for place in range(out))


def _float32(value: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


Op: TypeAlias = Conv2D | DepthwiseConv2D | Add | Mul | Pool2D | Mean | FullyConnected | HardSwish | Resize
Weighted: TypeAlias = Conv2D | DepthwiseConv2D | FullyConnected
"""Operators with weights and biases."""
Windowed: TypeAlias = Conv2D | DepthwiseConv2D | Pool2D
"""Operators that slide a window: kernel, stride, padding."""
#: The same for ``isinstance``.
WEIGHTED, WINDOWED = (Conv2D, DepthwiseConv2D, FullyConnected), (Conv2D, DepthwiseConv2D, Pool2D)


@dataclass(frozen=True)
class Graph:
    """Typed operators in execution order over numbered activation tensors. Frozen; batch is 1."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    input: Input
    """What the network reads."""
    inputs: tuple[int, ...]
    """Tensor ids that come from outside; the first is :attr:`input`'s."""
    outputs: tuple[int, ...]
    """Tensor ids that are kept to the end."""
    arch: Arch | None = None
    """What it was lowered from, where it was; nothing is computed from it."""

    def shape(self, tensor: int) -> Shape:
        """Shape of tensor ``tensor``: (h, w, c) or (c,)."""
        return self.tensors[tensor].shape

    @cached_property
    def lifetimes(self) -> tuple[tuple[int, int], ...]:
        """(first, last) operator index at which each tensor must be in memory; the input from operator 0."""
        first = [0] * len(self.tensors)
        last = [0] * len(self.tensors)
        for index, op in enumerate(self.ops):
            first[op.output] = index
            last[op.output] = index
            for tensor in op.inputs:
                last[tensor] = index
        for tensor in self.outputs:
            last[tensor] = len(self.ops) - 1
        return tuple(zip(first, last, strict=True))

    @cached_property
    def dying(self) -> tuple[tuple[int, ...], ...]:
        """For each operator the tensors that nothing reads after it; outputs are kept."""
        kept = set(self.outputs)
        return tuple(tuple(sorted({t for t in op.inputs if self.lifetimes[t][1] == i} - kept)) for i, op in enumerate(self.ops))

    @property
    def logits(self) -> int:
        """The output of a classifier. Raises ArchError where the graph has several outputs."""
        if len(self.outputs) != 1:
            raise ArchError(f"the network has {len(self.outputs)} outputs; a classifier has one")
        return self.outputs[0]

    @property
    def classes(self) -> int:
        """Number of a classifier's outputs."""
        return self.shape(self.logits)[-1]


class Builder:
    """Makes a graph operator by operator: ids, shapes and padding. Each method answers with the id of its output."""

    def __init__(self, shape: Shape, *, causal: bool = False) -> None:
        self.tensors = [Tensor("input", shape)]
        self._down = causal_padding if causal else same_padding
        self.ops: list[Op] = []

    def tensor(self, name: str, shape: Shape) -> int:
        """A new tensor."""
        self.tensors.append(Tensor(name, shape))
        return len(self.tensors) - 1

    def shape(self, tensor: int) -> Shape:
        """Its shape."""
        return self.tensors[tensor].shape

    def _window(self, x: int, spans: tuple[int, int], stride: tuple[int, int]) -> tuple[Padding, int, int, int]:
        height, width, channels = self.shape(x)
        padding = Padding(*self._down(height, spans[0], stride[0]), *same_padding(width, spans[1], stride[1]))
        return padding, -(-height // stride[0]), -(-width // stride[1]), channels

    def conv(
        self,
        name: str,
        x: int,
        out: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        act: LayerActivation,
        bits: WeightBits = 8,
        *,
        start: float = 0.0,
        dilation: tuple[int, int] = (1, 1),
    ) -> int:
        """A dense convolution, SAME."""
        padding, height, width, channels = self._window(x, reach(kernel, dilation), stride)
        y = self.tensor(name, (height, width, out))
        op = Conv2D(name, (x,), y, channels, out, kernel, stride, padding, _fused(act), weight_bits=bits, start=start, dilation=dilation)
        self.ops.append(op)
        return self._activated(name, y, act)

    def pointwise(self, name: str, x: int, out: int, act: LayerActivation, bits: WeightBits = 8, *, start: float = 0.0) -> int:
        """A 1x1 convolution."""
        return self.conv(name, x, out, (1, 1), (1, 1), act, bits, start=start)

    def depthwise(
        self,
        name: str,
        x: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        act: LayerActivation,
        bits: WeightBits = 8,
        *,
        dilation: tuple[int, int] = (1, 1),
    ) -> int:
        """A depthwise convolution, SAME."""
        padding, height, width, channels = self._window(x, reach(kernel, dilation), stride)
        y = self.tensor(name, (height, width, channels))
        op = DepthwiseConv2D(name, (x,), y, channels, kernel, stride, padding, _fused(act), weight_bits=bits, dilation=dilation)
        self.ops.append(op)
        return self._activated(name, y, act)

    def _activated(self, name: str, x: int, act: LayerActivation) -> int:
        return self.hard_swish(f"{name}.act", x) if act == "h_swish" else x

    def hard_swish(self, name: str, x: int) -> int:
        """x * relu6(x + 3) / 6 of each element."""
        y = self.tensor(name, self.shape(x))
        self.ops.append(HardSwish(name, (x,), y))
        return y

    def resize(self, name: str, x: int, shape: Shape) -> int:
        """A map spread over the height and width of ``shape``."""
        y = self.tensor(name, (*shape[:2], self.shape(x)[-1]))
        self.ops.append(Resize(name, (x,), y))
        return y

    def largest(self, name: str, x: int, kernel: tuple[int, int], stride: tuple[int, int]) -> int:
        """Max pooling, SAME."""
        padding, height, width, channels = self._window(x, kernel, stride)
        y = self.tensor(name, (height, width, channels))
        self.ops.append(Pool2D(name, "max", (x,), y, kernel, stride, padding))
        return y

    def pool(self, name: str, x: int, op: Literal["max", "avg"], kernel: tuple[int, int], stride: tuple[int, int]) -> int:
        """Pooling, VALID. Raises ArchError where the window does not fit the map."""
        height, width, channels = self.shape(x)
        if _anywhere((height < kernel[0]) | (width < kernel[1])):
            raise ArchError(
                f"{name}: a {kernel[0]}x{kernel[1]} pooling window does not fit a {height}x{width} map",
                "raise the resolution or drop the block",
            )
        y = self.tensor(name, ((height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1, channels))
        self.ops.append(Pool2D(name, op, (x,), y, kernel, stride))
        return y

    def add(self, name: str, x: int, other: int) -> int:
        """The sum of two tensors of one shape."""
        y = self.tensor(name, self.shape(other))
        self.ops.append(Add(name, (x, other), y))
        return y

    def mul(self, name: str, x: int, gate: int) -> int:
        """The product of a map and a gate, or of two tensors of one shape."""
        y = self.tensor(name, self.shape(x))
        self.ops.append(Mul(name, (x, gate), y))
        return y

    def mean(self, name: str, x: int) -> int:
        """Global average pooling."""
        y = self.tensor(name, self.shape(x)[-1:])
        self.ops.append(Mean(name, (x,), y))
        return y

    def dense(
        self,
        name: str,
        x: int,
        out: int,
        act: Activation = "none",
        bits: WeightBits = 8,
        *,
        output: str | None = None,
        start: float = 0.0,
    ) -> int:
        """A matrix product; ``output`` names the tensor where it is not called as the operator."""
        y = self.tensor(output or name, (out,))
        self.ops.append(FullyConnected(name, (x,), y, self.shape(x)[-1], out, act, bits, start))
        return y


def _fused(act: LayerActivation) -> Activation:
    return "none" if act == "h_swish" else act


def _anywhere(condition: Any) -> bool:
    return bool(condition.any()) if hasattr(condition, "any") else bool(condition)


def largest(bits: int) -> int:
    """Largest weight of a symmetric grid of ``bits``: 127 for 8, 7 for 4, 1 for 2."""
    return (1 << (bits - 1)) - 1


def zeros_behind(graph: Graph) -> dict[str, int]:
    """Rows of zeros that a kernel needs behind its last one so that SAME pads in front as ``graph`` does, by operator that pads along the
    height in front alone and not as SAME: TFLite knows SAME and VALID. The window then moves as before, and what it sees more counts 0.
    """
    found = {op.name: _rows_behind(op, graph.shape(op.inputs[0])) for op in graph.ops}
    return {name: rows for name, rows in found.items() if rows}


def _rows_behind(op: Op, shape: Shape) -> int:
    """Rows of zeros that the kernel of ``op``, which reads a map of ``shape``, needs behind; 0 where it needs none."""
    # Of a kernel of one row nothing is padded, whatever the heights.
    if not isinstance(op, (Conv2D, DepthwiseConv2D)) or op.kernel[0] == 1 or op.padding.top == 0 or op.padding.bottom > 0:
        return 0
    same = same_padding(shape[0], op.reach[0], op.stride[0]) == (op.padding.top, 0)
    # Twice the padding is halved. Dilated kernels have stride 1, and so a whole number of rows: see tinynas.arch.
    return 0 if same else op.padding.top // op.dilation[0]


def as_same(op: Op, shape: Shape) -> Op:
    """``op``, which reads a map of ``shape``, with a kernel that SAME pads; its height is a number, other sizes may be arrays."""
    behind = _rows_behind(op, shape)
    if not behind or not isinstance(op, (Conv2D, DepthwiseConv2D)):
        return op
    return replace(op, kernel=(op.kernel[0] + behind, op.kernel[1]), padding=replace(op.padding, bottom=op.padding.top))


def padded_as_same(graph: Graph) -> Graph:
    """``graph`` with kernels that SAME pads, see :func:`zeros_behind`: what a .tflite of it holds; itself where nothing changes."""
    if not zeros_behind(graph):
        return graph
    return replace(graph, ops=tuple(as_same(op, graph.shape(op.inputs[0])) for op in graph.ops))


def few_bits(graph: Graph) -> dict[str, int]:
    """Bits of the weights of each operator that has fewer than 8, by its name."""
    return {op.name: op.weight_bits for op in graph.ops if isinstance(op, WEIGHTED) and op.weight_bits < 8}


def outputs_of(op: Weighted) -> int:
    """Output channels of ``op``: rows of its weights."""
    match op:
        case Conv2D():
            return op.out_channels
        case DepthwiseConv2D():
            return op.channels
        case FullyConnected():
            return op.out_features
        case _:
            assert_never(op)


def tied_channels(graph: Graph) -> list[int]:
    """For each tensor the lowest number among those that have its channels: what an addition ties, or a depthwise convolution passes on."""
    first = list(range(len(graph.tensors)))
    for op in graph.ops:
        match op:
            case Conv2D() | FullyConnected():
                continue
            case DepthwiseConv2D() | Add() | Mul() | Mean() | Pool2D() | HardSwish() | Resize():
                groups = {first[tensor] for tensor in (*op.inputs, op.output)}
                first = [min(groups) if group in groups else group for group in first]
            case _:
                assert_never(op)
    return first


def lower(arch: Arch) -> Graph:
    """The graph of ``arch``: every shape, every pad, the operator order.

    Raises ArchError where a block cannot be built on what comes in.
    """
    build = Builder(arch.input.shape, causal=arch.causal)
    x = 0
    if arch.stem is not None:
        x = conv(build, "stem", x, arch.stem)
    for name, block in zip(arch.block_names, arch.blocks, strict=True):
        match block:
            case MBConv():
                x = mbconv(build, name, x, MBSizes.of(name, block, build.shape(x)[-1]))
            case Separable():
                x = separable(build, name, x, SeparableSizes.of(block))
            case ConvLayer():
                x = conv(build, f"{name}.conv", x, block)
            case Pool():
                x = build.pool(f"{name}.pool", x, block.op, pair(block.kernel), pair(block.stride))
            case _:
                assert_never(block)
    if arch.head is not None:
        x = conv(build, "head", x, arch.head)
    logits = classifier(build, x, arch.classes, arch.classifier_bits)
    return Graph(tuple(build.tensors), tuple(build.ops), arch.input, (0,), (logits,), arch)


def conv(build: Builder, name: str, x: int, layer: ConvLayer) -> int:
    """The operators of a convolution behind ``x``."""
    kernel, stride, dilation = pair(layer.kernel), pair(layer.stride), pair(layer.dilation)
    return build.conv(name, x, layer.out, kernel, stride, layer.act, layer.weight_bits, dilation=dilation)


def classifier(build: Builder, x: int, classes: int, bits: WeightBits = 8) -> int:
    """Global average pooling and the fully connected layer behind ``x``."""
    return build.dense("fc", build.mean("pool", x), classes, bits=bits, output="logits")


def mid_channels(block: MBConv, in_channels: int) -> int:
    """Mid channels of ``block``: ``mid`` where given, else round(in * expand); in channels where expand is 1."""
    if block.expand == 1 and (block.mid is None or block.mid == in_channels):
        return in_channels
    return block.mid if block.mid is not None else max(1, round(in_channels * block.expand))


@dataclass(frozen=True, slots=True)
class MBSizes:
    """An inverted residual block with all sizes known: its structure, and channel counts that may be arrays."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    expands: bool
    """Whether there is an expand convolution."""
    residual: bool
    act: LayerActivation
    mid: int
    out: int
    weight_bits: WeightBits = 8
    depthwise_bits: WeightBits = 8
    attention: Attention = "none"
    squeeze: int = 4
    dilation: tuple[int, int] = (1, 1)

    @staticmethod
    def of(name: str, block: MBConv, channels: int) -> MBSizes:
        """``block`` on ``channels`` input channels. Raises ArchError where it cannot be built on them."""
        mid = mid_channels(block, channels)
        if block.residual and block.out != channels:
            raise ArchError(
                f"{name}: a residual needs as many output as input channels ({block.out} and {channels})", "drop the residual or change out"
            )
        expands = block.expand != 1 or mid != channels
        return MBSizes(
            pair(block.kernel),
            pair(block.stride),
            expands,
            block.residual,
            block.act,
            mid,
            block.out,
            block.weight_bits,
            block.depthwise_bits,
            block.attention,
            block.squeeze,
            pair(block.dilation),
        )


@dataclass(frozen=True, slots=True)
class SeparableSizes:
    """A depthwise separable convolution with all sizes known: its structure, and output channels that may be an array."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    act: LayerActivation
    out: int
    weight_bits: WeightBits = 8
    depthwise_bits: WeightBits = 8
    dilation: tuple[int, int] = (1, 1)

    @staticmethod
    def of(block: Separable) -> SeparableSizes:
        """``block``, which can be built on any channels."""
        return SeparableSizes(
            pair(block.kernel),
            pair(block.stride),
            block.act,
            block.out,
            block.weight_bits,
            block.depthwise_bits,
            pair(block.dilation),
        )


def separable(build: Builder, name: str, x: int, block: SeparableSizes) -> int:
    """The operators of a depthwise separable convolution behind ``x``."""
    x = build.depthwise(f"{name}.dw", x, block.kernel, block.stride, block.act, block.depthwise_bits, dilation=block.dilation)
    return build.pointwise(f"{name}.pw", x, block.out, block.act, block.weight_bits)


#: A gate is relu6 of what is worked out: six times hard-sigmoid where the biases hold its 3. The sixth is in the weights that follow.
GATE_START = 3.0
#: A gate is worked out from a multiple of so many channels.
GATE_DIVISOR = 8


def mbconv(build: Builder, name: str, x: int, block: MBSizes) -> int:
    """The operators of an inverted residual block behind ``x``."""
    shortcut, gate = x, None
    if block.attention == "spatial":
        gate = spatial_gate(build, name, x, block)
    if block.expands:
        x = build.pointwise(f"{name}.expand", x, block.mid, block.act, block.weight_bits)
    x = build.depthwise(f"{name}.dw", x, block.kernel, block.stride, block.act, block.depthwise_bits, dilation=block.dilation)
    if block.attention == "se":
        x = build.mul(f"{name}.mul", x, channel_gate(build, name, x, block))
    x = build.pointwise(f"{name}.project", x, block.out, "none", block.weight_bits)
    if gate is not None:
        x = build.mul(f"{name}.mul", x, build.resize(f"{name}.spread", gate, build.shape(x)))
    return build.add(f"{name}.add", shortcut, x) if block.residual else x


def channel_gate(build: Builder, name: str, x: int, block: MBSizes) -> int:
    """Squeeze-and-excite's gate (channels,) of map ``x``: 0 to 6."""
    channels = build.shape(x)[-1]
    squeezed = -(-channels // (GATE_DIVISOR * block.squeeze)) * GATE_DIVISOR
    gate = build.dense(f"{name}.squeeze", build.mean(f"{name}.mean", x), squeezed, "relu", block.weight_bits)
    return build.dense(f"{name}.gate", gate, channels, "relu6", block.weight_bits, start=GATE_START)


def spatial_gate(build: Builder, name: str, x: int, block: MBSizes) -> int:
    """coco_mcu's gate of a block that reads ``x``: a map of a quarter of its sides (or less, with the block's stride), 0 to 6."""
    x = build.largest(f"{name}.largest", x, (3, 3), (2, 2))
    x = build.pointwise(f"{name}.widen", x, 2 * block.out, block.act, block.weight_bits)
    x = build.depthwise(f"{name}.look", x, (3, 3), (2, 2), block.act, block.depthwise_bits)
    return build.pointwise(f"{name}.gate", x, block.out, "relu6", block.weight_bits, start=GATE_START)
