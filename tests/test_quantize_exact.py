"""The quantiser's numbers by hand: ranges, grids, scales, biases, factors, each from arithmetic that can be done on paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tinynas.arch import Activation, Arch, ConvLayer, MBConv, Pool
from tinynas.errors import DataError
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Pool2D, lower
from tinynas.model import Network, normalise
from tinynas.quantize import FakeQuantNetwork, FloatGraph, QuantizedGraph, QuantOptions, TensorQuant, fold, predict, quantize
from tinynas.quantize.calibrate import assemble, correct_biases, find_ranges, grids, quantize_weights
from tinynas.quantize.equalize import MAX_FACTOR, equalize
from tinynas.quantize.fake import activation_range
from tinynas.quantize.floats import FloatRunner, pixels
from tinynas.quantize.grid import largest, random_quantized, weight_shape
from tinynas.quantize.integer import fixed_point
from tinynas.quantize.qat import QatNetwork, finish_qat, prepare_qat
from tinynas.train.norms import reestimate_norms

#: The grid of an input: pixel - 128, as 128ths.
INPUT_QUANT = TensorQuant(1 / 128, 0)


def chain(*, act: Activation = "none", out: int = 2, channels: int = 1, side: int = 4, classes: int = 2) -> Graph:
    """image -> 1x1 convolution ("stem") -> mean -> classifier."""
    return lower(Arch(height=side, width=side, channels=channels, classes=classes, stem=ConvLayer(out=out, kernel=1, act=act)))


def made(graph: Graph, weights: dict[str, object], biases: dict[str, object] | None = None) -> FloatGraph:
    """Float graph with these weights, given flat; biases 0 where not given."""
    filled, zero = {}, {}
    for op in graph.ops:
        if isinstance(op, (Conv2D, DepthwiseConv2D, FullyConnected)):
            filled[op.name] = np.asarray(weights[op.name], np.float32).reshape(weight_shape(op))
            out = weight_shape(op)[-1 if isinstance(op, DepthwiseConv2D) else 0]
            zero[op.name] = np.asarray((biases or {}).get(op.name, np.zeros(out)), np.float32)
    return FloatGraph(graph, filled, zero)


def grey(*values: int, side: int = 4) -> np.ndarray:
    """Images of one value each."""
    return np.asarray(values, np.uint8)[:, None, None, None] * np.ones((1, side, side, 1), np.uint8)


def f32(value: float) -> float:
    return float(np.float32(value))


# Grids


@pytest.mark.parametrize(
    ("low", "high", "bits", "scale", "zero_point"),
    [
        (0.0, 6.0, 8, 6 / 255, -128),
        (-1.0, 3.0, 8, 4 / 255, -64),  # -128 + 63.75 rounds to -64
        (1.0, 3.0, 8, 3 / 255, -128),  # 0 is always on the grid
        (-3.0, -1.0, 8, 3 / 255, 127),
        (-1.0, 2.0, 8, 3 / 255, -43),
        (0.0, 3.0, 4, 3 / 15, -8),
        (-1.0, 2.0, 2, 1.0, -1),
    ],
)
def test_a_grid_covers_its_range(low: float, high: float, bits: int, scale: float, zero_point: int) -> None:
    assert TensorQuant.covering(low, high, bits=bits) == TensorQuant(f32(scale), zero_point)


def test_narrow_ranges_are_widened_upwards_to_the_floor() -> None:
    assert TensorQuant.covering(0.0, 0.0) == TensorQuant(f32(1e-5 / 255), -128)
    assert TensorQuant.covering(-0.2, 0.4, floor=1.0) == TensorQuant(f32(1 / 255), -77)  # [-0.2, 0.8]
    assert TensorQuant.covering(-0.2, 0.4, floor=0.5) == TensorQuant(f32(0.6 / 255), -43)


def test_largest_weights_and_bias_scales() -> None:
    assert [largest(bits) for bits in (2, 3, 4, 8)] == [1, 3, 7, 127]
    graph = chain()
    tensors = (INPUT_QUANT, TensorQuant(0.25, 3), TensorQuant(0.5, 0), TensorQuant(1.0, 0))
    scales = {"stem": np.asarray([0.5, 2.0], np.float32), "fc": np.asarray([3.0], np.float32)}
    names = [op.name for op in graph.ops]
    scales = {names[0]: scales["stem"], names[-1]: scales["fc"]}
    qgraph = QuantizedGraph(graph, tensors, {}, scales, {})
    assert qgraph.bias_scales(names[0]).tolist() == [0.5 / 128, 2.0 / 128]
    assert qgraph.bias_scales(names[-1]).tolist() == [1.5]


def test_shapes_of_weights() -> None:
    graph = lower(
        Arch(
            height=8, width=8, channels=3, classes=5, stem=ConvLayer(out=6, kernel=3), blocks=(MBConv(out=4, kernel=5, expand=2, stride=1),)
        )
    )
    shapes = {op.name: weight_shape(op) for op in graph.ops if isinstance(op, (Conv2D, DepthwiseConv2D, FullyConnected))}
    assert list(shapes.values()) == [(6, 3, 3, 3), (12, 1, 1, 6), (1, 5, 5, 12), (4, 1, 1, 12), (5, 4)]


def test_random_networks_keep_their_activations_spread() -> None:
    blocks = (MBConv(out=64, expand=2, residual=True), Pool(op="avg", kernel=2, stride=2), MBConv(out=64, expand=2, residual=True))
    graph = lower(Arch(height=8, width=8, classes=40, stem=ConvLayer(out=64, kernel=3), blocks=blocks))
    lows: dict[str, list[float]] = {}
    highs: dict[str, list[float]] = {}
    spreads, biases = [], []
    for seed in range(40):
        qgraph = random_quantized(graph, seed=seed)
        assert qgraph.bits == 8 and qgraph.tensors[graph.inputs[0]] == INPUT_QUANT
        for op in graph.ops:
            grid = qgraph.tensors[op.output]
            kind = type(op).__name__ if not hasattr(op, "act") or isinstance(op, Add) else op.act
            lows.setdefault(kind, []).append((-128 - grid.zero_point) * grid.scale)
            highs.setdefault(kind, []).append((127 - grid.zero_point) * grid.scale)
            if isinstance(op, Pool2D):
                assert grid == qgraph.tensors[op.inputs[0]]
            if isinstance(op, (Conv2D, DepthwiseConv2D, FullyConnected)):
                weights = qgraph.weights[op.name]
                assert weights.min() >= -127 and weights.max() <= 127
                fan_in = weights.size // (weights.shape[-1] if isinstance(op, DepthwiseConv2D) else weights.shape[0])
                spreads += list(qgraph.weight_scales[op.name] * 127 * np.sqrt(fan_in) / 2)
                assert qgraph.weight_scales[op.name].shape == ((1,) if isinstance(op, FullyConnected) else (len(qgraph.biases[op.name]),))
                biases += list(qgraph.biases[op.name] * qgraph.bias_scales(op.name).astype(np.float64))
    wanted = {
        "relu6": ((0.0, 0.0), (4.2, 6.0)),
        "none": ((-4.0, -2.0), (2.8, 4.0)),
        "Add": ((-6.0, -3.0), (3.0, 6.0)),
        "Mean": ((-1.0, -0.5), (0.5, 2.0)),
    }
    step = 0.06  # an end lies on the grid: up to half a step from where it was drawn
    for kind, (low, high) in wanted.items():
        for found, (least, most) in ((lows[kind], low), (highs[kind], high)):
            assert least - step <= min(found) <= least + 0.2 * (most - least) + step, kind
            assert most + step >= max(found) >= most - 0.2 * (most - least) - step, kind
    assert 0.5 <= min(spreads) < 0.51 and 1.49 < max(spreads) <= 1.5001
    assert np.mean(biases) == pytest.approx(0, abs=0.02) and np.std(biases) == pytest.approx(0.5, abs=0.02)
    weights = np.concatenate([w.reshape(-1) for w in random_quantized(graph).weights.values()])
    assert set(range(-127, 128)) == set(weights.tolist())


# Integer arithmetic


@pytest.mark.parametrize(("exponent", "wanted"), [(-32, (1 << 30, -31)), (-33, (0, 0)), (-1, (1 << 30, 0)), (7, (1 << 30, 8))])
def test_powers_of_two_as_fixed_point(exponent: int, wanted: tuple[int, int]) -> None:
    assert fixed_point(2.0**exponent) == wanted


def test_activation_ranges_of_other_bits_and_halves() -> None:
    assert activation_range("none", TensorQuant(1.0, 0), bits=4) == (-8, 7)
    assert activation_range("relu", TensorQuant(1.0, 2), bits=4) == (2, 7)
    assert activation_range("relu6", TensorQuant(4.0, -128)) == (-128, -126)  # 1.5 steps: halves away from zero
    assert activation_range("relu6", TensorQuant(0.75, -100)) == (-100, -92)
    assert activation_range("relu6", TensorQuant(1.0, -130)) == (-128, -124)


def test_sums_are_float32_only_where_that_is_exact() -> None:
    graph = chain(out=1)
    stem = graph.ops[0]
    tensors = tuple([INPUT_QUANT] * len(graph.tensors))
    for zero_point, reach in ((0, 128), (-128, 255), (100, 228)):
        tensors = (TensorQuant(1 / 128, zero_point), *tensors[1:])
        for excess, dtype in ((-1, torch.float32), (0, torch.float64)):
            bias = (1 << 24) + excess - 3 * reach
            qgraph = QuantizedGraph(
                graph,
                tensors,
                {"stem": np.asarray([[[[-3]]]], np.int8)},
                {"stem": np.ones(1, np.float32)},
                {"stem": np.asarray([-bias], np.int32)},
            )
            step = FakeQuantNetwork.operator(qgraph, stem)
            assert (step.bound, step.dtype) == ((1 << 24) + excess, dtype), (zero_point, excess)


def test_oblong_windows_average_the_stored_integers() -> None:
    graph = lower(
        Arch(height=8, width=12, channels=1, classes=2, stem=ConvLayer(out=1, kernel=1), blocks=(Pool(op="avg", kernel=2, stride=2),))
    )
    pool = next(op for op in graph.ops if isinstance(op, Pool2D))
    for zero_point in (0, 10):
        qgraph = QuantizedGraph(graph, tuple([TensorQuant(1.0, zero_point)] * len(graph.tensors)), {}, {}, {})
        step = FakeQuantNetwork.operator(qgraph, replace(pool, kernel=(2, 3), stride=(2, 3)))
        stored = torch.tensor([[7, 1, 1, -7, -1, -1], [1, 1, -2, -1, -1, 2]], dtype=torch.float32)
        # sums 9 and -9 of six: halves away from zero
        assert (step((stored - zero_point)[None, None]) + zero_point).flatten().tolist() == [2.0, -2.0]


# Ranges


def test_ranges_by_least_and_most_over_every_image() -> None:
    graph = chain()
    floats = made(graph, {"stem": [4, -2], graph.ops[-1].name: [1, 0, 0, 1]}, {"stem": [0, 0.25]})
    options = QuantOptions(calibration="minmax")
    for extreme in (0, 63, 64, 127, 128, 129):
        images = grey(*[144] * 130)  # 0.125
        images[extreme] = 192  # 0.5
        found = find_ranges(floats, images, options)
        # input; stem 4x = 0.5..2 and 0.25 - 2x = 0..-0.75; its mean, alike; the classifier passes both through.
        assert found == [(0.0, 0.5), (-0.75, 2.0), (-0.75, 2.0), (-0.75, 2.0)], extreme
    found = find_ranges(floats, grey(64, 96), options)  # -0.5, -0.25
    assert found == [(-0.5, 0.0), (-2.0, 1.25), (-2.0, 1.25), (-2.0, 1.25)]


def pixels_of(shares: dict[int, int]) -> np.ndarray:
    """One square image whose pixels have these counts."""
    values = np.repeat(list(shares), list(shares.values())).astype(np.uint8)
    side = round(len(values) ** 0.5)
    assert side * side == len(values)
    return values.reshape(1, side, side, 1)


@pytest.mark.parametrize(
    ("percentile", "low", "high"),
    [
        # -1: 2 %, -0.5: 3 %, 0.25: 90 %, 0.75: 5 %. Bins are 1.75 / 2048 wide; a value lies in bin (value + 1) / width.
        (99.0, -1.0, 0.75),
        (97.0, -1.0 + 585 * 1.75 / 2048, 0.75),  # 3 % lie left of bin 585, which holds -0.5
        (94.0, 0.0, -1.0 + 1463 * 1.75 / 2048),  # 0.25 is in bin 1462 on both ends; the low one is no less than 0
    ],
)
def test_percentiles_by_counting(percentile: float, low: float, high: float) -> None:
    images = pixels_of({0: 200, 64: 300, 160: 9000, 224: 500})
    side = images.shape[1]
    graph = chain(side=side)
    floats = made(graph, {"stem": [1, 1], graph.ops[-1].name: [1, 0, 0, 1]})
    found = find_ranges(floats, images, QuantOptions(calibration="percentile", percentile=percentile))
    assert found[graph.inputs[0]] == pytest.approx((low, high), abs=1e-9)


def test_percentiles_leave_an_end_at_zero_alone() -> None:
    graph = chain(side=10)
    floats = made(graph, {"stem": [1, 1], graph.ops[-1].name: [1, 0, 0, 1]})
    options = QuantOptions(calibration="percentile", percentile=90.0)
    above = find_ranges(floats, pixels_of({128: 50, 192: 45, 255: 5}), options)[0]
    assert above[0] == 0.0 and above[1] == pytest.approx(1033 * 0.9921875 / 2048)  # 0.5 is in bin 1032
    below = find_ranges(floats, pixels_of({128: 50, 64: 45, 0: 5}), options)[0]
    assert below[1] == 0.0 and below[0] == pytest.approx(-0.5, abs=1e-3)


def least_error(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Both ends by trying every share, the error counted value by value (all at their bins' centres)."""

    def error(a: float, b: float) -> float:
        grid = TensorQuant.covering(a, b)
        total = 0.0
        for value, count in zip(*np.unique(values, return_counts=True), strict=True):
            width = (high - low) / 2048
            centre = low + (min(int((value - low) / width), 2047) + 0.5) * width
            nearest = (min(max(round(centre / grid.scale) + grid.zero_point, -128), 127) - grid.zero_point) * grid.scale
            away = abs(centre - nearest)
            total += count * (away**2 if away > grid.scale else grid.scale**2 / 12)
        return total

    shares = [1 - 0.01 * i for i in range(71)]
    least, most = low, high
    for _ in range(2):
        most = min((high * s for s in shares), key=lambda b: error(least, b))
        least = min((low * s for s in shares), key=lambda a: error(a, most))
    return least, most


@pytest.mark.parametrize("seed", range(4))
def test_least_error_by_a_second_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.clip(rng.normal(120 + 4 * seed, 4, (1, 60, 60, 1)), 0, 255).astype(np.uint8)
    values[0, 0, : seed % 3, 0] = [0, 255][: seed % 3]
    graph = chain(side=60)
    floats = made(graph, {"stem": [1, 1], graph.ops[-1].name: [1, 0, 0, 1]})
    found = find_ranges(floats, values, QuantOptions(calibration="mse"))[0]
    real = (values.astype(np.float64) - 128) / 128
    wanted = least_error(real, min(real.min(), 0.0), max(real.max(), 0.0))
    assert found == pytest.approx(wanted, rel=1e-9)


def test_activations_that_are_infinite_one_way_are_refused() -> None:
    graph = chain()
    for bias in (np.inf, -np.inf):
        with pytest.raises(DataError, match="not finite"):
            find_ranges(made(graph, {"stem": [1, 1], graph.ops[-1].name: [1, 0, 0, 1]}, {"stem": [bias, 0]}), grey(9), QuantOptions())


def test_a_sum_is_no_finer_than_the_runtime_can_add() -> None:
    graph = lower(Arch(height=4, width=4, classes=2, stem=ConvLayer(out=8), blocks=(MBConv(out=8, expand=1, residual=True),)))
    add = next(op for op in graph.ops if isinstance(op, Add))
    least = 2 * f32(1000 / 255) / (2**20 - 1)
    for reads in add.inputs:
        ranges = [(0.0, 1.0)] * len(graph.tensors)
        ranges[reads] = (0.0, 1000.0)
        ranges[add.output] = (-1e-5, 0.0)
        assert grids(graph, ranges)[add.output] == TensorQuant(f32(least * 1.01), 127)
        ranges[add.output] = (0.0, 255 * least * 1.005)
        kept = grids(graph, ranges)[add.output]
        assert kept == TensorQuant.covering(0.0, 255 * least * 1.005) and kept.scale > least


# Weights and biases


def layer(graph: Graph, kind: type) -> Conv2D | DepthwiseConv2D | FullyConnected:
    found = next(op for op in graph.ops if isinstance(op, kind))
    assert isinstance(found, (Conv2D, DepthwiseConv2D, FullyConnected))
    return found


WIDE = lower(Arch(height=4, width=4, channels=1, classes=2, stem=ConvLayer(out=2, kernel=1), blocks=(MBConv(out=2, kernel=3, expand=1),)))


def test_weights_and_biases_of_a_convolution() -> None:
    weight = np.asarray([127.0, -254.0], np.float32).reshape(2, 1, 1, 1)
    integers, scales, bias = quantize_weights(layer(WIDE, Conv2D), weight, np.asarray([3.0, -5.0], np.float32), 0.5, 1.0)
    assert integers.reshape(-1).tolist() == [127, -127] and scales.tolist() == [1.0, 2.0] and bias.tolist() == [6, -5]
    assert (integers.dtype, scales.dtype, bias.dtype) == (np.int8, np.float32, np.int32)


def test_weights_of_a_depthwise_convolution_have_scales_by_their_last_axis() -> None:
    weight = np.zeros((1, 3, 3, 2), np.float32)
    weight[0, 0, 0] = [127.0, 1.0]
    weight[0, 2, 1] = [63.4, 12.7]
    integers, scales, _ = quantize_weights(layer(WIDE, DepthwiseConv2D), weight, np.zeros(2, np.float32), 1.0, 1.0)
    assert scales.tolist() == [1.0, f32(0.1)]
    assert integers[0, 0, 0].tolist() == [127, 10] and integers[0, 2, 1].tolist() == [63, 127] and np.count_nonzero(integers) == 4


def test_weights_of_a_classifier_have_one_scale_and_fewer_bits_fewer_steps() -> None:
    weight = np.asarray([[7.0, 0.4], [-3.0, 1.6]], np.float32)
    op = layer(WIDE, FullyConnected)
    integers, scales, bias = quantize_weights(op, weight, np.asarray([4.0, 1.0], np.float32), 2.0, 1.0, most=7)
    assert scales.tolist() == [1.0] and integers.tolist() == [[7, 0], [-3, 2]] and bias.tolist() == [2, 0]
    # The largest bias sets the floor: 2^30 / (2^29 * 2) = 1.
    integers, scales, bias = quantize_weights(op, weight / 1000, np.asarray([2.0**30, -4.0], np.float32), 2.0, 1.0)
    assert scales.tolist() == [1.0] and not integers.any() and bias.tolist() == [2**29, -2]


def test_channels_without_weights_have_a_usable_scale() -> None:
    weight = np.zeros((2, 1, 1, 1), np.float32)
    _, scales, bias = quantize_weights(layer(WIDE, Conv2D), weight, np.asarray([0.0, 8.0], np.float32), 2.0**-7, 2.0**-4)
    # 2^-24 * output / input scale; and 8 / (2^29 * 2^-7), where the bias becomes 2^29.
    assert scales.tolist() == [2.0**-21, 2.0**-19] and bias.tolist() == [0, 2**29]


@pytest.mark.parametrize("kind", [Conv2D, DepthwiseConv2D, FullyConnected])
@pytest.mark.parametrize("most", [1, 7])
def test_scales_of_least_error_by_trying_all(kind: type, most: int) -> None:
    op = layer(WIDE, kind)
    rng = np.random.default_rng(most)
    weight = rng.normal(0, 1, {Conv2D: (2, 3, 3, 2), DepthwiseConv2D: (1, 3, 3, 2), FullyConnected: (2, 9)}[kind]).astype(np.float32)
    integers, scales, _ = quantize_weights(op, weight, np.zeros(2, np.float32), 1.0, 1.0, most=most, least_error=True)
    if kind is FullyConnected:
        channels, rounded = [weight.reshape(-1)], [integers.reshape(-1)]
    else:
        axis = -1 if kind is DepthwiseConv2D else 0
        channels = [np.take(weight, c, axis).reshape(-1) for c in (0, 1)]
        rounded = [np.take(integers, c, axis).reshape(-1) for c in (0, 1)]
    assert len(scales) == len(channels)
    for scale, channel, whole in zip(scales, channels, rounded, strict=True):
        tried = {}
        for share in [1 - 0.01 * i for i in range(41 if most > 7 else 81)]:
            step = float(np.abs(channel).max()) / most * share
            tried[sum((min(max(round(float(w) / step), -most), most) * step - float(w)) ** 2 for w in channel)] = step
        assert scale == pytest.approx(tried[min(tried)], rel=1e-6)
        assert whole.tolist() == [min(max(round(float(w) / float(scale)), -most), most) for w in channel]


def test_options_reach_the_weights() -> None:
    graph = chain(out=3)
    rng = np.random.default_rng(3)
    floats = made(graph, {"stem": rng.normal(0, 1, 3), graph.ops[-1].name: rng.normal(0, 1, 6)})
    tensors = (INPUT_QUANT, *[TensorQuant(0.05, 0)] * (len(graph.tensors) - 1))
    for options in (QuantOptions(weights="max"), QuantOptions(weights="mse", bits=3), QuantOptions(bits=2)):
        found = assemble(floats, tensors, options)
        assert found.bits == options.bits and found.tensors == tensors
        for op in graph.ops:
            if isinstance(op, (Conv2D, FullyConnected)):
                wanted = quantize_weights(
                    op,
                    floats.weights[op.name],
                    floats.biases[op.name],
                    tensors[op.inputs[0]].scale,
                    tensors[op.output].scale,
                    most=2 ** (options.bits - 1) - 1,
                    least_error=options.weights == "mse",
                )
                for mine, theirs in zip((found.weights, found.weight_scales, found.biases), wanted, strict=True):
                    np.testing.assert_array_equal(mine[op.name], theirs)


def lively_floats(seed: int = 0) -> FloatGraph:
    blocks = (MBConv(out=6, kernel=3, expand=2, residual=True), Pool(op="max", kernel=2, stride=2))
    graph = lower(Arch(height=8, width=8, channels=1, classes=3, stem=ConvLayer(out=6, kernel=3, act="relu"), blocks=blocks))
    rng = np.random.default_rng(seed)
    shapes = {op.name: weight_shape(op) for op in graph.ops if isinstance(op, (Conv2D, DepthwiseConv2D, FullyConnected))}
    weights = {name: rng.normal(0, 1.5 / np.sqrt(np.prod(shape) / max(shape)), shape) for name, shape in shapes.items()}
    return made(graph, dict(weights), {"stem": rng.normal(0.3, 0.3, 6)})


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def test_corrected_biases_take_the_mean_error_to_half_a_step() -> None:
    floats = lively_floats()
    images = noise(130)
    images[128:] = 255  # beyond the first 128: not looked at
    tensors = grids(floats.graph, find_ranges(floats, images, QuantOptions(calibration="minmax")))
    plain = assemble(floats, tensors, QuantOptions(bits=3))
    corrected = correct_biases(floats, plain, images)
    first = correct_biases(floats, plain, images[:128])
    assert all(np.array_equal(corrected.biases[name], first.biases[name]) for name in first.biases)
    assert any(not np.array_equal(corrected.biases[name], plain.biases[name]) for name in plain.biases)
    assert all(corrected.weights[name] is plain.weights[name] for name in plain.weights)
    network = FakeQuantNetwork(corrected)
    real: dict[int, torch.Tensor] = {}
    runner = FloatRunner(floats)
    x = pixels(images[:128], floats.graph.input)
    runner.run(x, lambda tensor, values: real.__setitem__(tensor, values))
    whole = {floats.graph.inputs[0]: torch.round(x * 128)}
    with torch.inference_mode():
        for op, step in zip(floats.graph.ops, network.steps, strict=True):
            if isinstance(op, (Conv2D, DepthwiseConv2D, FullyConnected)):
                axes = (0,) if isinstance(op, FullyConnected) else (0, 2, 3)
                linear = real_linear(op, floats, real[op.inputs[0]]).double().mean(axes).numpy()
                grid = corrected.bias_scales(op.name).astype(np.float64)
                mine = (step.sums(whole[op.inputs[0]], None).double().mean(axes).numpy() + corrected.biases[op.name]) * grid
                assert (np.abs(mine - linear) <= 0.5001 * grid + 1e-6).all(), op.name
            whole[op.output] = step(*[whole[t] for t in op.inputs])


def real_linear(op: Conv2D | DepthwiseConv2D | FullyConnected, floats: FloatGraph, x: torch.Tensor) -> torch.Tensor:
    """The layer before its activation, by PyTorch's own modules."""
    weight, bias = torch.from_numpy(floats.weights[op.name]), torch.from_numpy(floats.biases[op.name])
    if isinstance(op, FullyConnected):
        return x @ weight.T + bias
    pad = op.padding
    x = torch.nn.functional.pad(x, (pad.left, pad.right, pad.top, pad.bottom))
    kernel = weight.permute(3, 0, 1, 2) if isinstance(op, DepthwiseConv2D) else weight.permute(0, 3, 1, 2)
    return torch.nn.functional.conv2d(x, kernel, bias, op.stride, groups=op.channels if isinstance(op, DepthwiseConv2D) else 1)


def test_only_the_first_images_calibrate_and_the_steps_follow_the_options() -> None:
    floats = lively_floats(1)
    images = noise(40, 1)
    other = images.copy()
    other[16:] = 255 - other[16:] // 2
    for options in (QuantOptions(images=16), QuantOptions(images=16, equalize=False, bias_correction=False, calibration="minmax")):
        a, b = quantize(floats, images, options), quantize(floats, other, options)
        c = quantize(floats, images[:16], options)
        for name in a.weights:
            assert np.array_equal(a.weights[name], b.weights[name]) and np.array_equal(a.biases[name], b.biases[name])
            assert np.array_equal(a.weights[name], c.weights[name])
        assert a.tensors == b.tensors == c.tensors
    plain = quantize(floats, images, options)
    by_hand = assemble(floats, grids(floats.graph, find_ranges(floats, images[:16], options)), options)
    assert plain.tensors == by_hand.tensors
    assert all(np.array_equal(plain.biases[name], by_hand.biases[name]) for name in by_hand.biases)
    assert QuantOptions().model_dump() == {
        "calibration": "mse",
        "percentile": 99.99,
        "weights": "max",
        "equalize": True,
        "bias_correction": True,
        "bits": 8,
        "images": 256,
    }


# Equalisation


@pytest.mark.parametrize(
    ("strength", "factor"),
    [(None, [1.0, 0.5]), (0.5, [1.0, 0.5]), (1.0, [1.0, 0.25]), (0.0, [1.0, 1.0])],
)
def test_factors_of_two_channels(strength: float | None, factor: list[float]) -> None:
    graph = chain()
    head = graph.ops[-1].name
    floats = made(graph, {"stem": [4, 1], head: [1, 2, 3, 4]}, {"stem": [0, 0], head: [5, 6]})
    images = grey(128, *[129] * 70, 64)  # the largest |pixel| is 0.5, in the last image: reach 2 and 0.5
    found = equalize(floats, images) if strength is None else equalize(floats, images, strength=strength)
    assert found.weights["stem"].reshape(-1).tolist() == pytest.approx([4 / factor[0], 1 / factor[1]])
    assert found.weights[head].tolist() == [pytest.approx([1 * factor[0], 2 * factor[1]]), pytest.approx([3 * factor[0], 4 * factor[1]])]
    assert found.biases[head].tolist() == [5.0, 6.0]
    backwards = equalize(floats, images[::-1].copy(), strength=1.0 if strength is None else strength)
    assert backwards.weights["stem"].reshape(-1).tolist() == pytest.approx([4, 1 / (0.25 if strength is None else factor[1])])


def test_biases_follow_their_channel_and_silent_channels_stay_within_the_limit() -> None:
    graph = chain(out=3)
    head = graph.ops[-1].name
    floats = made(graph, {"stem": [2, 0.001, 0], head: [1, 1, 1, 1, 1, 1]}, {"stem": [1, 0, 0]})
    found = equalize(floats, grey(192), strength=1.0)  # 0.5: reach 2, 0.0005, 0
    assert MAX_FACTOR == 32.0
    assert found.weights["stem"].reshape(-1).tolist() == pytest.approx([2, 0.032, 0])
    assert found.biases["stem"].tolist() == [1.0, 0.0, 0.0]
    assert found.weights[head].tolist() == [[1, 1 / 32, 1 / 32]] * 2
    uneven = made(graph, {"stem": [2, 1, 1], head: [1] * 6}, {"stem": [0, 0.5, 1.5]})
    assert equalize(uneven, grey(192), strength=1.0).biases["stem"].tolist() == pytest.approx([0, 1.0, 1.5])  # reach 1, 1, 2


def test_where_nothing_is_alive_nothing_changes() -> None:
    graph = chain()
    floats = made(graph, {"stem": [0, 0], graph.ops[-1].name: [1, 2, 3, 4]})
    found = equalize(floats, grey(1, 255))
    assert all(np.array_equal(found.weights[name], floats.weights[name]) for name in floats.weights)


@pytest.mark.parametrize("strength", [0.3, 0.5, 1.0])
def test_clipped_channels_that_share_with_a_loud_sum_stay_below_their_clip(strength: float) -> None:
    # The stem clips at 6 and is added to something forty times as loud: its channels may not be scaled past their clip.
    blocks = (MBConv(out=4, kernel=3, expand=2, residual=True),)
    graph = lower(Arch(height=6, width=6, channels=1, classes=3, stem=ConvLayer(out=4, kernel=3, act="relu6"), blocks=blocks))
    rng = np.random.default_rng(0)
    shapes = {op.name: weight_shape(op) for op in graph.ops if isinstance(op, (Conv2D, DepthwiseConv2D, FullyConnected))}
    weights = {name: rng.normal(0, 1, shape) for name, shape in shapes.items()}
    weights["s0.b0.project"] = weights["s0.b0.project"] * np.asarray([40.0, 1.0, 1.0, 1.0])[:, None, None, None]
    floats = made(graph, dict(weights), {"stem": np.asarray([6.0, 5.0, 4.0, 3.0])})
    images = np.random.default_rng(1).integers(0, 256, (70, 6, 6, 1), dtype=np.uint8)
    found = equalize(floats, images, strength=strength)
    assert not np.array_equal(found.weights["stem"], floats.weights["stem"])
    wanted = predict(floats, images)
    np.testing.assert_allclose(predict(found, images), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


# Batch norm, quantisation in the loop


def test_norms_are_the_mean_over_whole_batches() -> None:
    graph = chain()
    network = Network(graph)
    weight, norm = network.named_op("stem")[0].weight, network.named_op("stem")[1]
    assert norm is not None and norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        weight.copy_(torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1))
    images = grey(128, 192, 64, 64)  # 0, 0.5 | -0.5, -0.5
    for training in (True, False):
        network.train(training)
        norm.momentum = 0.3
        reestimate_norms(network, pixels(images, network.graph.input).split(2))
        assert network.training is training and norm.momentum == 0.3
        # means 0.25 and -0.5; variances over 32 values (unbiased): 32 * 0.0625 / 31 and 0
        assert norm.running_mean.tolist() == pytest.approx([-0.125, -0.25])
        assert norm.running_var.tolist() == pytest.approx([1 / 31, 4 / 31])
    reestimate_norms(network, [pixels(images[:1], network.graph.input)])
    assert norm.running_mean.tolist() == [0.0, 0.0]
    reestimate_norms(network, [pixels(images, network.graph.input)])
    assert norm.running_mean.tolist() == pytest.approx([-0.125, -0.25])


def test_weights_in_the_loop_lie_on_the_grids_of_the_file() -> None:
    floats = lively_floats(2)
    for bits in (8, 3):
        options = QuantOptions(bits=bits)
        tensors = grids(floats.graph, find_ranges(floats, noise(16), options))
        module = QatNetwork(floats, tensors, options)
        finished = finish_qat(module)
        assert finished.tensors == tensors and finished.bits == bits
        for op in floats.graph.ops:
            if isinstance(op, (Conv2D, DepthwiseConv2D, FullyConnected)):
                scales = finished.weight_scales[op.name]
                shape = (-1,) if isinstance(op, DepthwiseConv2D) else (-1, *[1] * (finished.weights[op.name].ndim - 1))
                on_grid = finished.weights[op.name] * scales.reshape(shape)
                kernel = module._weight(op).detach().numpy()
                order = {Conv2D: (0, 2, 3, 1), DepthwiseConv2D: (1, 2, 3, 0), FullyConnected: (0, 1)}[type(op)]
                np.testing.assert_allclose(kernel.transpose(order), on_grid, atol=1e-6)


def test_activations_in_the_loop_lie_on_their_grids() -> None:
    floats = lively_floats(3)
    images = noise(4, 3)
    tensors = grids(floats.graph, find_ranges(floats, images, QuantOptions(calibration="minmax")))
    module = QatNetwork(floats, tensors, QuantOptions())
    with torch.no_grad():
        steps = (
            module(normalise(torch.from_numpy(images), floats.graph.input)).numpy() / tensors[floats.graph.logits].scale
            + tensors[floats.graph.logits].zero_point
        )
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert steps.min() >= -128 and steps.max() <= 127
    integers = FakeQuantNetwork(finish_qat(module))(normalise(torch.from_numpy(images), floats.graph.input)).numpy()
    assert np.abs(steps - integers).max() < 3.5


def test_channels_that_died_train_on() -> None:
    floats = lively_floats(4)
    weights = {name: np.array(value) for name, value in floats.weights.items()}
    weights["stem"][0] = 0
    module = QatNetwork(
        FloatGraph(floats.graph, weights, floats.biases),
        tuple([INPUT_QUANT] * len(floats.graph.tensors)),
        QuantOptions(),
    )
    out = module(normalise(torch.from_numpy(noise(2)), floats.graph.input))
    out.sum().backward()
    assert torch.isfinite(out).all() and all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


def test_preparing_equalises_once_with_the_first_images() -> None:
    floats = lively_floats(5)
    images = noise(24, 5)
    options = QuantOptions(images=8, weights="mse")
    module = prepare_qat(floats, images, options)
    equal = equalize(floats, images[:8])
    assert module.options.weights == "max" and module.options.images == 8
    found = module.floats()
    assert all(np.array_equal(found.weights[name], equal.weights[name]) for name in equal.weights)
    assert module.tensors == quantize(equal, images, options.model_copy(update={"equalize": False})).tensors
    plain = prepare_qat(floats, images, QuantOptions(equalize=False)).floats()
    assert all(np.array_equal(plain.weights[name], floats.weights[name]) for name in floats.weights)


def test_folding_by_hand() -> None:
    graph = chain()
    network = Network(graph)
    layer_, norm = network.named_op("stem")
    assert norm is not None and norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        layer_.weight.copy_(torch.tensor([1.0, -3.0]).reshape(2, 1, 1, 1))
        norm.running_mean.copy_(torch.tensor([0.5, 1.0]))
        norm.running_var.copy_(torch.tensor([4.0, 0.25]) - norm.eps)
        norm.weight.copy_(torch.tensor([3.0, -2.0]))
        norm.bias.copy_(torch.tensor([0.25, 7.0]))
    floats = fold(network)
    # gamma / sqrt(var): 1.5 and -4
    assert floats.weights["stem"].reshape(-1).tolist() == pytest.approx([1.5, 12.0])
    assert floats.biases["stem"].tolist() == pytest.approx([0.25 - 0.75, 7.0 + 4.0])
    assert [n.tolist() for n in floats.norms["stem"]] == [[0.25, 7.0], [3.0, 2.0]]


def test_predictions_do_not_depend_on_batches() -> None:
    floats = lively_floats(6)
    images = noise(10, 6)
    whole = predict(floats, images)
    assert whole.shape == (10, 3)
    for batch in (1, 3, 9, 10, 11):
        np.testing.assert_allclose(predict(floats, images, batch=batch), whole, atol=1e-5)
