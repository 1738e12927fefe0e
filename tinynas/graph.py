"""Graph: the one description of a network that everything reads; ``lower(Arch)`` makes it.

This is the only place where shapes, padding and operator order are computed. Shapes are (height, width,
channels) without the batch of 1, or (channels,) after global pooling. Padding is per side and follows
TFLite's SAME rule, so the PyTorch module, the costs and the .tflite agree pixel for pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

from tinynas.arch import Activation, Arch, ConvLayer, MBConv, Pool, Separable
from tinynas.errors import ArchError

DType = Literal["int8", "uint8", "int16", "int32", "float32"]
Shape: TypeAlias = tuple[int, ...]


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
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


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
            n *= size
        return n


@dataclass(frozen=True, slots=True)
class Conv2D:
    """Dense convolution + folded batch norm + activation. Weights (out, kh, kw, in)."""

    name: str
    input: int
    output: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    act: Activation
    bn: bool = True

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tensor ids read."""
        return (self.input,)


@dataclass(frozen=True, slots=True)
class DepthwiseConv2D:
    """Depthwise convolution (multiplier 1) + folded batch norm + activation. Weights (1, kh, kw, c)."""

    name: str
    input: int
    output: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    act: Activation
    bn: bool = True

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tensor ids read."""
        return (self.input,)


@dataclass(frozen=True, slots=True)
class Add:
    """Elementwise sum of two tensors of one shape."""

    name: str
    input: int
    other: int
    output: int
    act: Activation = "none"

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tensor ids read, the block's input first."""
        return (self.input, self.other)


@dataclass(frozen=True, slots=True)
class Pool2D:
    """Max or average pooling, VALID."""

    name: str
    op: Literal["max", "avg"]
    input: int
    output: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = field(default_factory=Padding)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tensor ids read."""
        return (self.input,)


@dataclass(frozen=True, slots=True)
class Mean:
    """Global average pooling: (h, w, c) -> (c,)."""

    name: str
    input: int
    output: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tensor ids read."""
        return (self.input,)


@dataclass(frozen=True, slots=True)
class FullyConnected:
    """The classifier: (in,) -> (out,), with bias. Weights (out, in)."""

    name: str
    input: int
    output: int
    in_features: int
    out_features: int
    act: Activation = "none"

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tensor ids read."""
        return (self.input,)


Op: TypeAlias = Conv2D | DepthwiseConv2D | Add | Pool2D | Mean | FullyConnected


@dataclass(frozen=True)
class Graph:
    """Typed operators in execution order over numbered activation tensors. Frozen; batch is 1."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    input: int
    output: int
    arch: Arch | None = None

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
        last[self.output] = len(self.ops) - 1
        return tuple(zip(first, last, strict=True))

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.shape(self.output)[-1]

    def reordered(self, order: tuple[int, ...]) -> Graph:
        """The same graph with its operators in another (topologically valid) order."""
        return replace(self, ops=tuple(self.ops[i] for i in order))


class _Builder:
    def __init__(self, arch: Arch) -> None:
        self.tensors = [Tensor("input", (arch.height, arch.width, arch.channels))]
        self.ops: list[Op] = []

    def tensor(self, name: str, shape: Shape) -> int:
        self.tensors.append(Tensor(name, shape))
        return len(self.tensors) - 1

    def _window(self, x: int, kernel: int, stride: int) -> tuple[Padding, int, int, int]:
        height, width, channels = self.tensors[x].shape
        padding = Padding(*same_padding(height, kernel, stride), *same_padding(width, kernel, stride))
        return padding, -(-height // stride), -(-width // stride), channels

    def conv(self, name: str, x: int, out: int, kernel: int, stride: int, act: Activation) -> int:
        padding, height, width, channels = self._window(x, kernel, stride)
        y = self.tensor(name, (height, width, out))
        self.ops.append(Conv2D(name, x, y, channels, out, (kernel, kernel), (stride, stride), padding, act))
        return y

    def depthwise(self, name: str, x: int, kernel: int, stride: int, act: Activation) -> int:
        padding, height, width, channels = self._window(x, kernel, stride)
        y = self.tensor(name, (height, width, channels))
        self.ops.append(DepthwiseConv2D(name, x, y, channels, (kernel, kernel), (stride, stride), padding, act))
        return y

    def pool(self, name: str, x: int, block: Pool) -> int:
        height, width, channels = self.tensors[x].shape
        if height < block.kernel or width < block.kernel:
            raise ArchError(
                f"{name}: a {block.kernel}x{block.kernel} pooling window does not fit a {height}x{width} map",
                "raise the resolution or drop the block",
            )
        y = self.tensor(name, ((height - block.kernel) // block.stride + 1, (width - block.kernel) // block.stride + 1, channels))
        self.ops.append(Pool2D(name, block.op, x, y, (block.kernel, block.kernel), (block.stride, block.stride)))
        return y

    def add(self, name: str, x: int, other: int) -> int:
        y = self.tensor(name, self.tensors[other].shape)
        self.ops.append(Add(name, x, other, y))
        return y


def lower(arch: Arch) -> Graph:
    """The graph of ``arch``: every shape, every pad, the operator order.

    Raises ArchError where a block cannot be built on what comes in.
    """
    build = _Builder(arch)
    x = 0
    if arch.stem is not None:
        x = build.conv("stem", x, arch.stem.out, arch.stem.kernel, arch.stem.stride, arch.stem.act)
    for index, block in enumerate(arch.blocks):
        name = f"b{index}"
        match block:
            case MBConv():
                x = _mbconv(build, name, x, block)
            case Separable():
                x = build.depthwise(f"{name}.dw", x, block.kernel, block.stride, block.act)
                x = build.conv(f"{name}.pw", x, block.out, 1, 1, block.act)
            case ConvLayer():
                x = build.conv(f"{name}.conv", x, block.out, block.kernel, block.stride, block.act)
            case Pool():
                x = build.pool(f"{name}.pool", x, block)
    if arch.head is not None:
        x = build.conv("head", x, arch.head.out, arch.head.kernel, arch.head.stride, arch.head.act)
    channels = build.tensors[x].shape[-1]
    pooled = build.tensor("pool", (channels,))
    build.ops.append(Mean("pool", x, pooled))
    logits = build.tensor("logits", (arch.classes,))
    build.ops.append(FullyConnected("fc", pooled, logits, channels, arch.classes))
    return Graph(tuple(build.tensors), tuple(build.ops), 0, logits, arch)


def mid_channels(block: MBConv, in_channels: int) -> int:
    """Mid channels of ``block``: ``mid`` where given, else round(in * expand); in channels where expand is 1."""
    if block.expand == 1 and (block.mid is None or block.mid == in_channels):
        return in_channels
    return block.mid if block.mid is not None else max(1, round(in_channels * block.expand))


def _mbconv(build: _Builder, name: str, x: int, block: MBConv) -> int:
    shortcut, channels = x, build.tensors[x].shape[-1]
    mid = mid_channels(block, channels)
    if block.expand != 1 or mid != channels:
        x = build.conv(f"{name}.expand", x, mid, 1, 1, block.act)
    x = build.depthwise(f"{name}.dw", x, block.kernel, block.stride, block.act)
    x = build.conv(f"{name}.project", x, block.out, 1, 1, "none")
    if not block.residual:
        return x
    if block.out != channels:
        raise ArchError(
            f"{name}: a residual needs as many output as input channels ({block.out} and {channels})", "drop the residual or change out"
        )
    return build.add(f"{name}.add", shortcut, x)
