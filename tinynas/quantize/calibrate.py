"""From a float graph and sample images to a quantised graph: ranges, grids, corrections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from tinynas.config import Config
from tinynas.errors import DataError
from tinynas.graph import WEIGHTED, Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Mean, Mul, Pool2D, Resize
from tinynas.graph import Weighted as WeightedOp
from tinynas.lsq import least_error_step
from tinynas.quantize.equalize import equalize
from tinynas.quantize.fake import FakeQuantNetwork, Weighted
from tinynas.quantize.floats import FloatGraph, FloatRunner, activate, linear_part, pixels, torch_layout
from tinynas.quantize.grid import QuantizedGraph, TensorQuant, input_quant, largest

Method = Literal["minmax", "percentile", "mse"]

#: Bins of an activation's histogram.
BINS = 2048
BATCH = 64
#: Images whose mean error is corrected.
CORRECTION_IMAGES = 128


class QuantOptions(Config):
    """How a float network is put on integer grids. The defaults follow from results/benchmarks/int8_choices."""

    calibration: Method = "mse"
    """Range of an activation: all values seen; all but the outermost; or the range of least squared error."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    """With ``percentile``: share of values inside, in percent."""
    weights: Literal["max", "mse"] = "max"
    """Scale of an output channel's weights: the largest weight, or the scale of least squared error, which operators whose own bits are
    fewer than 8 always have."""
    equalize: bool = True
    """Balance the channels of linear bottlenecks before quantising (cross-layer equalisation)."""
    bias_correction: bool = True
    """Take the mean error that quantisation makes in a channel out of its bias."""
    bits: Annotated[int, Field(ge=2, le=8)] = 8
    """Most bits of a weight; an operator whose own are fewer keeps to those."""
    images: Annotated[int, Field(ge=1)] = 256
    """Calibration images used, the first of those given."""


def quantize(floats: FloatGraph, calibration: NDArray[np.uint8], options: QuantOptions | None = None) -> QuantizedGraph:
    """``floats`` on int8 grids, ranges taken from ``calibration`` (N, H, W, C) uint8.

    Raises DataError for images that do not fit the network.
    """
    options = options or QuantOptions()
    check_images(floats, calibration)
    images = np.asarray(calibration[: options.images])
    if options.equalize:
        floats = equalize(floats, images)
    ranges = find_ranges(floats, images, options)
    quantized = assemble(floats, grids(floats.graph, ranges), options)
    return correct_biases(floats, quantized, images) if options.bias_correction else quantized


def check_images(floats: FloatGraph, images: NDArray[np.uint8]) -> None:
    """Raise DataError unless ``images`` are some images that ``floats`` can read."""
    expected = floats.graph.input.shape
    if images.ndim != 4 or images.shape[1:] != expected or not len(images):
        raise DataError(
            f"calibration images are {images.shape}, the network reads (N, {', '.join(map(str, expected))})",
            "give training images of the network's own size",
        )


# Ranges


@dataclass
class _Histogram:
    low: float
    high: float
    counts: NDArray[np.float64]

    @property
    def centres(self) -> NDArray[np.float64]:
        step = (self.high - self.low) / len(self.counts)
        return self.low + step * (np.arange(len(self.counts), dtype=np.float64) + 0.5)


def find_ranges(floats: FloatGraph, images: NDArray[np.uint8], options: QuantOptions) -> list[tuple[float, float]]:
    """(low, high) of every activation by the options' method."""
    runner = FloatRunner(floats)
    lows = [np.inf] * len(floats.graph.tensors)
    highs = [-np.inf] * len(floats.graph.tensors)

    def widen(tensor: int, values: Tensor) -> None:
        low, high = torch.aminmax(values)
        lows[tensor], highs[tensor] = min(lows[tensor], float(low)), max(highs[tensor], float(high))

    for start in range(0, len(images), BATCH):
        runner.run(pixels(images[start : start + BATCH], floats.graph.input), widen)
    if not np.isfinite([*lows, *highs]).all():
        raise DataError("the network's activations are not finite", "train it again with a lower learning rate")
    ranges = [(min(low, 0.0), max(high, 0.0)) for low, high in zip(lows, highs, strict=True)]
    if options.calibration == "minmax":
        return ranges
    counts = [torch.zeros(BINS, dtype=torch.float64) for _ in ranges]

    def count(tensor: int, values: Tensor) -> None:
        low, high = ranges[tensor]
        if high > low:
            counts[tensor] += torch.histc(values.float(), BINS, low, high).double()

    for start in range(0, len(images), BATCH):
        runner.run(pixels(images[start : start + BATCH], floats.graph.input), count)
    histograms = [_Histogram(low, high, c.numpy()) for (low, high), c in zip(ranges, counts, strict=True)]
    find = _percentile if options.calibration == "percentile" else _least_error
    return [find(h, options) if h.high > h.low else (h.low, h.high) for h in histograms]


def _percentile(histogram: _Histogram, options: QuantOptions) -> tuple[float, float]:
    shares = np.cumsum(histogram.counts) / histogram.counts.sum()
    outside = (100.0 - options.percentile) / 100.0
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    # Each end may lose the share; an end at 0 is an activation's and loses nothing that way.
    low = edges[np.searchsorted(shares, outside)] if histogram.low < 0 else 0.0
    high = edges[np.searchsorted(shares, 1.0 - outside) + 1] if histogram.high > 0 else 0.0
    return min(float(low), 0.0), max(float(min(high, histogram.high)), 0.0)


def _least_error(histogram: _Histogram, options: QuantOptions) -> tuple[float, float]:
    # Coordinate search over both ends: each end shrinks alone while the squared error falls.
    x, weight = histogram.centres, histogram.counts
    shares = np.linspace(1.0, 0.3, 71)

    def error(low: float, high: float) -> float:
        quant = TensorQuant.covering(low, high)
        q = np.clip(np.rint(x / quant.scale) + quant.zero_point, -128, 127)
        rounding = quant.scale * quant.scale / 12.0  # inside a bin values spread over the step
        distance = x - (q - quant.zero_point) * quant.scale
        clipped = np.abs(distance) > quant.scale
        return float((weight * np.where(clipped, distance * distance, rounding)).sum())

    low, high = histogram.low, histogram.high
    for _ in range(2):
        high = min((histogram.high * s for s in shares), key=lambda value: error(low, value))
        low = min((histogram.low * s for s in shares), key=lambda value: error(value, high))
    return low, high


def grids(graph: Graph, ranges: list[tuple[float, float]]) -> tuple[TensorQuant, ...]:
    """The grid of every activation; the input's is fixed, outputs of pooling and resizing have their input's."""
    found = [TensorQuant.covering(low, high) for low, high in ranges]
    found[graph.inputs[0]] = input_quant(graph.input)
    for op in graph.ops:
        match op:
            case Pool2D() | Resize():
                found[op.output] = found[op.inputs[0]]
            case Add():
                found[op.output] = _addable(found[op.inputs[0]], found[op.inputs[1]], found[op.output])
            case HardSwish():
                found[op.output] = _swished(found[op.inputs[0]], found[op.output])
            case Conv2D() | DepthwiseConv2D() | FullyConnected() | Mul() | Mean():
                pass  # the range that was seen is its grid
            case _:
                assert_never(op)
    return tuple(found)


def _addable(first: TensorQuant, second: TensorQuant, out: TensorQuant) -> TensorQuant:
    # The runtime's ADD needs twice the larger input scale to be below 2^20 output scales.
    least = 2.0 * max(first.scale, second.scale) / ((1 << 20) - 1)
    return out if out.scale > least else TensorQuant(float(np.float32(least * 1.01)), out.zero_point)


def _swished(source: TensorQuant, out: TensorQuant) -> TensorQuant:
    # The runtime's HARD_SWISH needs more than a 128th of the input's scale.
    least = source.scale / 128.0
    return out if out.scale > least * 1.001 else TensorQuant(float(np.float32(least * 1.01)), out.zero_point)


# Weights and biases


def assemble(floats: FloatGraph, tensors: tuple[TensorQuant, ...], options: QuantOptions) -> QuantizedGraph:
    """The quantised graph with these activation grids."""
    weights: dict[str, NDArray[np.int8]] = {}
    scales: dict[str, NDArray[np.float32]] = {}
    biases: dict[str, NDArray[np.int32]] = {}
    for op in floats.graph.ops:
        if isinstance(op, WEIGHTED):
            source, target = tensors[op.inputs[0]], tensors[op.output]
            weights[op.name], scales[op.name], biases[op.name] = quantize_weights(
                op,
                floats.weights[op.name],
                floats.biases[op.name],
                source.scale,
                target.scale,
                most=largest(min(options.bits, op.weight_bits)),
                least_error=options.weights == "mse" or op.weight_bits < 8,
                step=floats.steps.get(op.name),
            )
    return QuantizedGraph(floats.graph, tensors, weights, scales, biases, options.bits)


def quantize_weights(
    op: WeightedOp,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    input_scale: float,
    output_scale: float,
    *,
    most: int = 127,
    least_error: bool = False,
    step: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32]]:
    """(integers, scales, integer biases) of a layer: symmetric, a scale per output channel, one for a fully connected layer.

    ``step``: the scales that it was trained with.
    """
    axes = (0, 1) if isinstance(op, FullyConnected) else (0, 1, 2) if isinstance(op, DepthwiseConv2D) else (1, 2, 3)
    reach = np.abs(weight).max(axes, keepdims=True).astype(np.float64)
    scale = reach / most
    if step is not None:
        scale = step.astype(np.float64).reshape(scale.shape)
    elif least_error:
        rows = torch.from_numpy(torch_layout(op, weight)).double()
        scale = least_error_step(rows, most, whole=isinstance(op, FullyConnected)).numpy().reshape(scale.shape)
    flat_bias = np.abs(bias.astype(np.float64)).reshape(-1)
    # An all-zero channel still has a usable scale; a bias has to fit 32 bits with room for the sum; and the
    # multiplier input * weight / output scale must neither vanish nor overflow.
    floor = np.maximum(flat_bias / (2.0**29 * input_scale), 2.0**-24 * output_scale / input_scale)
    scale = np.maximum(scale, floor.max() if isinstance(op, FullyConnected) else floor.reshape(scale.shape))
    scale32 = scale.astype(np.float32)
    integers = np.clip(np.rint(weight / scale32.astype(np.float64)), -most, most).astype(np.int8)
    flat = scale32.reshape(-1)
    integer_bias = np.rint(bias.astype(np.float64) / (np.float64(input_scale) * flat.astype(np.float64)))
    return integers, flat, np.clip(integer_bias, -(2**30), 2**30).astype(np.int32)


def correct_biases(floats: FloatGraph, quantized: QuantizedGraph, images: NDArray[np.uint8]) -> QuantizedGraph:
    """``quantized`` with each channel's mean error over ``images`` taken out of its bias, operator by operator.

    The means are those before the activation; the integer network runs on what was already corrected.
    """
    graph = floats.graph
    runner = FloatRunner(floats)
    x = pixels(images[:CORRECTION_IMAGES], graph.input)
    real: dict[int, Tensor] = {graph.inputs[0]: x}
    whole: dict[int, Tensor] = {graph.inputs[0]: torch.round(x / graph.input.scale)}
    biases: dict[str, NDArray[np.int32]] = dict(quantized.biases)
    with torch.inference_mode():
        for index, op in enumerate(graph.ops):
            step = FakeQuantNetwork.operator(quantized, op)
            if isinstance(op, WEIGHTED):
                assert isinstance(step, Weighted)
                axes = (0,) if isinstance(op, FullyConnected) else (0, 2, 3)
                wanted = linear_part(op, real[op.inputs[0]], *runner.parameters[op.name])
                sums = step.sums(whole[op.inputs[0]], None)
                grid = np.float64(quantized.tensors[op.inputs[0]].scale) * quantized.weight_scales[op.name].astype(np.float64)
                exact = wanted.mean(axes).double().numpy() / grid - sums.mean(axes, dtype=torch.float64).numpy()
                biases[op.name] = np.clip(np.rint(exact), -(2**30), 2**30).astype(np.int32)
                bias = torch.from_numpy(biases[op.name]).to(torch.float64)
                real[op.output] = activate(wanted, op.act)
                whole[op.output] = step.requantize(sums.double() + bias.reshape(1, -1, *[1] * (sums.ndim - 2)))
            else:
                real[op.output] = runner.step(op, [real[t] for t in op.inputs])
                whole[op.output] = step(*[whole[t] for t in op.inputs])
            for tensor in graph.dying[index]:
                del real[tensor], whole[tensor]
    return replace(quantized, biases=biases)
