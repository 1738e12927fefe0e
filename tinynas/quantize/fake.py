"""FakeQuantNetwork: a PyTorch forward whose outputs are the .tflite's integers.

Batched, so int8 accuracy is had during training and search without a file and without an interpreter.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinynas.arch import Activation
from tinynas.errors import InternalError
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, HardSwish, Mean, Mul, Op, Pool2D, Resize
from tinynas.graph import Weighted as WeightedOp
from tinynas.model import per_pixel
from tinynas.quantize.floats import linear_part, pooled, resized, torch_layout
from tinynas.quantize.grid import QuantizedGraph, TensorQuant
from tinynas.quantize.integer import EXACT_FLOAT32, Requantize, fixed_point, mean_pair, multipliers, rescale_int64

#: ADD brings both inputs to a common scale with this many extra bits.
ADD_SHIFT = 20
#: Elements of the largest tensor of a piece of a batch: more than the processor's caches hold runs slower.
PIECE_ELEMENTS = 1 << 18


def activation_range(act: Activation, quant: TensorQuant, *, bits: int = 8) -> tuple[int, int]:
    """(least, most) integer that a fused activation lets through, as the runtime computes it: ends of the grid or of the activation."""
    least, most = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if act in ("relu", "relu6"):
        least = max(least, quant.zero_point)
    if act == "relu6":
        # The runtime divides in float32 and rounds halves away from zero.
        steps = float(np.float32(6.0) / np.float32(quant.scale))
        most = min(most, quant.zero_point + int(np.floor(steps + 0.5)))
    return least, most


class Weighted(nn.Module):
    """Convolution or fully connected layer: exact sums, then the rescale per channel."""

    weight: Tensor
    bias: Tensor

    def __init__(self, qgraph: QuantizedGraph, op: WeightedOp) -> None:
        super().__init__()
        self.op = op
        source, target = qgraph.tensors[op.inputs[0]], qgraph.tensors[op.output]
        scales, bias = qgraph.weight_scales[op.name], qgraph.biases[op.name].astype(np.float64)
        weight = torch_layout(op, qgraph.weights[op.name])
        reach = max(127 - source.zero_point, 128 + source.zero_point)
        #: no accumulator, partial sums included, is larger
        self.bound = float((np.abs(weight.astype(np.float64)).reshape(len(weight), -1).sum(1) * reach + np.abs(bias)).max())
        self.dtype = torch.float32 if self.bound < EXACT_FLOAT32 else torch.float64
        self.register_buffer("weight", torch.from_numpy(weight).to(self.dtype))
        self.register_buffer("bias", torch.from_numpy(bias).to(self.dtype))
        if isinstance(op, FullyConnected):
            # TFLM multiplies input and weight scale in float32 here.
            real = np.asarray(np.float64(np.float32(source.scale) * scales[0]) / target.scale)
        else:
            real = np.float64(source.scale) * scales.astype(np.float64) / np.float64(target.scale)
        low, high = activation_range(op.act, target)
        dims = 2 if isinstance(op, FullyConnected) else 4
        self.requantize = Requantize(multipliers(real), dims, low - target.zero_point, high - target.zero_point)

    def sums(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The accumulators, with ``bias``."""
        if x.is_cuda and isinstance(self.op, Conv2D) and self.op.kernel != (1, 1):
            # cuDNN may take Winograd's or Fourier's way, which is not exact in float32.
            return linear_part(self.op, x.double(), self.weight.double(), None if bias is None else bias.double())
        return linear_part(self.op, x.to(self.dtype), self.weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """``q - zero_point`` of the input -> that of the output."""
        result: Tensor = self.requantize(self.sums(x, self.bias))
        return result


class _Add(nn.Module):
    first: Tensor
    second: Tensor

    def __init__(self, qgraph: QuantizedGraph, op: Add) -> None:
        super().__init__()
        first, second, target = (qgraph.tensors[t] for t in (op.inputs[0], op.inputs[1], op.output))
        twice = 2.0 * max(first.scale, second.scale)
        low, high = activation_range(op.act, target)
        self.zero_points = first.zero_point, second.zero_point
        # An input has 256 values: what becomes of each is worked out here.
        for name, quant in (("first", first), ("second", second)):
            values = (torch.arange(-128, 128, dtype=torch.int64) - quant.zero_point) << ADD_SHIFT
            m, shift = fixed_point(quant.scale / twice)
            self.register_buffer(name, rescale_int64(values, torch.tensor(m), torch.tensor(shift)))
        pairs = [fixed_point(twice / ((1 << ADD_SHIFT) * target.scale))]
        self.requantize = Requantize(pairs, 4, low - target.zero_point, high - target.zero_point)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        first, second = (
            table[(value + (zero_point + 128)).long()]
            for value, zero_point, table in zip((x, other), self.zero_points, (self.first, self.second), strict=True)
        )
        result: Tensor = self.requantize(first + second)
        return result


class _Mul(nn.Module):
    def __init__(self, qgraph: QuantizedGraph, op: Mul) -> None:
        super().__init__()
        first, second, target = (qgraph.tensors[t] for t in (*op.inputs, op.output))
        low, high = activation_range(op.act, target)
        pairs = [fixed_point(first.scale * second.scale / target.scale)]
        self.requantize = Requantize(pairs, 4, low - target.zero_point, high - target.zero_point)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        # A product of two such integers is below 2^17: exact in float32.
        result: Tensor = self.requantize(x * per_pixel(gate, x))
        return result


class _Mean(nn.Module):
    def __init__(self, qgraph: QuantizedGraph, op: Mean) -> None:
        super().__init__()
        source, target = qgraph.tensors[op.inputs[0]], qgraph.tensors[op.output]
        height, width, _ = qgraph.graph.shape(op.inputs[0])
        pair = mean_pair(source.scale / target.scale, height * width)
        self.requantize = Requantize([pair], 2, -128 - target.zero_point, 127 - target.zero_point)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.requantize(x.sum((2, 3), dtype=torch.float64))
        return result


class _Pool(nn.Module):
    def __init__(self, qgraph: QuantizedGraph, op: Pool2D) -> None:
        super().__init__()
        self.op = op
        self.zero_point = qgraph.tensors[op.inputs[0]].zero_point

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        if op.op == "max":
            return pooled(op, x)
        # The runtime averages the stored integers, halves away from zero.
        count = op.kernel[0] * op.kernel[1]
        stored = F.avg_pool2d(x.to(torch.float64) + self.zero_point, op.kernel, op.stride, divisor_override=1)
        half = torch.full((), float(count // 2), dtype=torch.float64, device=x.device)
        total = torch.where(stored > 0, stored + half, stored - half)
        return (total / count).trunc_().sub_(self.zero_point).to(torch.float32)


class _HardSwish(nn.Module):
    table: Tensor

    def __init__(self, qgraph: QuantizedGraph, op: HardSwish) -> None:
        super().__init__()
        source, target = qgraph.tensors[op.inputs[0]], qgraph.tensors[op.output]
        self.zero_point = source.zero_point
        values = np.array(swished(source, target), dtype=np.float32) - target.zero_point
        self.register_buffer("table", torch.from_numpy(values.astype(np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        return self.table[(x + (self.zero_point + 128)).long()]


class _Resize(nn.Module):
    def __init__(self, qgraph: QuantizedGraph, op: Resize) -> None:
        super().__init__()
        self.graph, self.op = qgraph.graph, op

    def forward(self, x: Tensor) -> Tensor:
        return resized(self.graph, self.op, x)


def swished(source: TensorQuant, target: TensorQuant) -> list[int]:
    """What TFLM's HARD_SWISH makes of -128 to 127, in its 16-bit fixed point."""
    fine = np.float32(np.float32(1.0 / 128.0) * np.float32(source.scale))
    m_out, shift_out = fixed_point(float(fine / np.float32(target.scale)))
    m_relu, shift_relu = fixed_point(float(fine / np.float32(3.0 / 32768.0)))
    if shift_out > 0:
        raise InternalError(f"HARD_SWISH from scale {source.scale} to {target.scale}: TFLM needs more than a 128th of the former")
    m_out, m_relu = (32767 if m >= (1 << 31) - 1 - (1 << 15) else (m + (1 << 15)) >> 16 for m in (m_out, m_relu))
    found = []
    for value in range(-128, 128):
        high = (value - source.zero_point) << 7
        linear = _doubled(high, m_out)
        gate = high
        if shift_relu > 0:
            gate = _within_16(gate << (shift_relu - 1))
        gate = _doubled(gate, m_relu)
        if shift_relu > 0:
            gate = _within_16(gate << 1)
        elif shift_relu < 0:
            gate = _rounded_16(gate, -shift_relu)
        gate = (gate + (1 << 15)) >> 1
        product = gate * linear
        scaled = _rounded_16((abs(product) >> 15) * (1 if product >= 0 else -1), -shift_out)
        found.append(min(max(scaled + target.zero_point, -128), 127))
    return found


def _doubled(a: int, b: int) -> int:
    """gemmlowp's SaturatingRoundingDoublingHighMul of 16 bits: a * b / 2^15, halves away from zero but for the last negative one."""
    product = a * b + (1 << 14 if a * b >= 0 else 1 - (1 << 14))
    return min((abs(product) >> 15) * (1 if product >= 0 else -1), 32767)


def _within_16(value: int) -> int:
    return min(max(value, -32768), 32767)


def _rounded_16(value: int, shift: int) -> int:
    """gemmlowp's RoundingDivideByPOT of 16 bits, whose mask has no more of them."""
    mask = ((1 << shift) - 1) & 0xFFFF
    mask -= (mask & 0x8000) << 1
    return (value >> shift) + ((value & mask) > (mask >> 1) + (value < 0))


class FakeQuantNetwork(nn.Module):
    """The integer network. ``forward`` takes what :class:`tinynas.model.Network` takes and gives the output's integers.

    Output (B, classes): float32 holding int8 values; :meth:`real` turns them into logits. For inference only: there
    are no gradients (see :mod:`tinynas.quantize.qat` for training).
    """

    def __init__(self, qgraph: QuantizedGraph) -> None:
        super().__init__()
        self.qgraph = qgraph
        self.steps = nn.ModuleList()
        for op in qgraph.graph.ops:
            self.steps.append(self.operator(qgraph, op))

    @staticmethod
    def operator(qgraph: QuantizedGraph, op: Op) -> nn.Module:
        """One operator of the integer network: ``q - zero_point`` in, ``q - zero_point`` out."""
        match op:
            case Conv2D() | DepthwiseConv2D() | FullyConnected():
                return Weighted(qgraph, op)
            case Add():
                return _Add(qgraph, op)
            case Mul():
                return _Mul(qgraph, op)
            case Mean():
                return _Mean(qgraph, op)
            case Pool2D():
                return _Pool(qgraph, op)
            case HardSwish():
                return _HardSwish(qgraph, op)
            case Resize():
                return _Resize(qgraph, op)
        assert_never(op)

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        """int8 outputs (B, classes) from normalised images (B, C, H, W)."""
        graph = self.qgraph.graph
        source, target = self.qgraph.tensors[graph.inputs[0]], self.qgraph.tensors[graph.logits]
        piece = max(1, PIECE_ELEMENTS // max(t.elements for t in graph.tensors)) if x.device.type == "cpu" else len(x)
        outputs = [self.integers(torch.round(part / source.scale))[graph.logits] for part in torch.split(x, piece)]
        return torch.cat(outputs) + target.zero_point

    def integers(self, x: Tensor) -> dict[int, Tensor]:
        """Every tensor still needed at the end: id -> ``q - zero_point``, from the input's integers (B, C, H, W)."""
        graph = self.qgraph.graph
        values = {graph.inputs[0]: x}
        for index, (op, step) in enumerate(zip(graph.ops, self.steps, strict=True)):
            values[op.output] = step(*[values[t] for t in op.inputs])
            for tensor in graph.dying[index]:
                del values[tensor]
        return values

    def real(self, integers: Tensor) -> Tensor:
        """Logits of the output's integers."""
        quant = self.qgraph.tensors[self.qgraph.graph.logits]
        return (integers.to(torch.float32) - quant.zero_point) * quant.scale
