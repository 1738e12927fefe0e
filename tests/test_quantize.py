"""The quantiser, and the integer forward that must equal tflite-micro to the bit."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from int8_cases import random_arch, random_graph

from tinynas.arch import Arch, ConvLayer, MBConv, Pool
from tinynas.errors import DataError
from tinynas.export.sandbox import run_tflm
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.graph import Graph, lower
from tinynas.model import Network, normalise
from tinynas.quantize import FakeQuantNetwork, FloatGraph, QuantizedGraph, QuantOptions, TensorQuant, fold, predict, quantize
from tinynas.quantize.calibrate import find_ranges
from tinynas.quantize.equalize import equalize
from tinynas.quantize.fake import activation_range
from tinynas.quantize.grid import INPUT_QUANT, random_quantized
from tinynas.quantize.integer import Requantize, fixed_point, rescale_int64
from tinynas.quantize.norms import reestimate_norms
from tinynas.quantize.qat import finish_qat, prepare_qat

ARCH = Arch(
    height=24,
    width=24,
    classes=4,
    stem=ConvLayer(out=8, stride=2),
    blocks=(
        MBConv(out=8, expand=3, residual=True),
        MBConv(out=12, kernel=5, expand=2, stride=2),
        MBConv(out=12, expand=3, residual=True),
    ),
)


def images_like(graph: Graph, count: int, seed: int = 0) -> np.ndarray:
    """Smooth random images: pixels that neighbours resemble, as in photographs."""
    rng = np.random.default_rng(seed)
    height, width, channels = graph.input.shape
    coarse = rng.uniform(0, 255, (count, -(-height // 4), -(-width // 4), channels))
    fine = np.kron(coarse, np.ones((1, 4, 4, 1)))[:, :height, :width] + rng.normal(0, 12, (count, height, width, channels))
    return np.clip(fine, 0, 255).astype(np.uint8)


def lively(graph: Graph, seed: int = 0) -> Network:
    """A network with batch norm statistics and parameters that are not at their start."""
    network = Network(graph, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0.2, 0.3, generator=generator)
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 0.5, generator=generator)
    reestimate_norms(network, images_like(graph, 64, seed))
    return network.eval()


def outputs_of(qgraph: QuantizedGraph, images: np.ndarray) -> np.ndarray:
    return FakeQuantNetwork(qgraph)(normalise(torch.from_numpy(images))).numpy().astype(np.int8)


def written(qgraph: QuantizedGraph) -> bytes:
    return serialize(qgraph, ModelMeta("0123456789", tuple(map(str, range(qgraph.graph.classes)))))


# The integer arithmetic


def doubled_high_multiply(x: int, m: int) -> int:
    # The runtime's first step in Python's integers: rounded high word of 2 * x * m.
    product = x * m
    nudge = (1 << 30) if product >= 0 else 1 - (1 << 30)
    quotient = abs(product + nudge) >> 31
    return quotient if product + nudge >= 0 else -quotient


def runtime_rescale(x: int, m: int, shift: int) -> int:
    high = doubled_high_multiply(x << max(shift, 0), m)
    right = max(-shift, 0)
    mask = (1 << right) - 1
    remainder = high & mask
    return (high >> right) + (1 if remainder > (mask >> 1) + (1 if high < 0 else 0) else 0)


def test_rescaling_equals_the_definition_on_random_values_and_ties() -> None:
    draw = random.Random(0)
    for _ in range(300):
        shift = draw.randint(-12, 2)
        m = draw.choice([1 << 30, (1 << 31) - 1, draw.randrange(1 << 30, 1 << 31), 3 << 29])
        reach = min(300 << max(-shift, 0), 1 << 23)
        values = [draw.randrange(-reach, reach) for _ in range(40)] + [0, 1, -1, (1 << max(-shift, 0)) // 2, -((1 << max(-shift, 0)) // 2)]
        wanted = [runtime_rescale(x, m, shift) for x in values]
        exact = rescale_int64(torch.tensor(values), torch.tensor(m), torch.tensor(shift))
        assert exact.tolist() == wanted
        step = Requantize([(m, shift)], 2, -128, 127)
        assert step.fast
        fast = step(torch.tensor(values, dtype=torch.float32).reshape(1, -1).T)
        assert fast.reshape(-1).tolist() == [min(max(x, -128), 127) for x in wanted]
        relu = Requantize([(m, shift)], 2, 0, 255)
        assert relu(torch.tensor(values, dtype=torch.float64).reshape(-1, 1)).reshape(-1).tolist() == [min(max(x, 0), 255) for x in wanted]


def test_rescaling_with_large_shifts_takes_the_exact_path() -> None:
    m, shift = fixed_point(2.0**-20 * 1.37)
    step = Requantize([(m, shift)], 2, -128, 127)
    assert not step.fast
    values = [random.Random(1).randrange(-(1 << 27), 1 << 27) for _ in range(200)]
    got = step(torch.tensor(values, dtype=torch.float64).reshape(-1, 1)).reshape(-1).tolist()
    assert got == [min(max(runtime_rescale(x, m, shift), -128), 127) for x in values]


@pytest.mark.parametrize(
    ("multiplier", "wanted"),
    [
        (0.5, (1 << 30, 0)),
        (1.0, (1 << 30, 1)),
        (0.75, (3 << 29, 0)),
        (3.0, (3 << 29, 2)),
        (2.0**-31, (1 << 30, -30)),
        (1 - 2.0**-33, (1 << 30, 1)),  # rounds up to 2^31, which does not fit: halved
        (0.1, (1717986918, -3)),  # 0.8 * 2^31 = 1717986918.4
    ],
)
def test_fixed_point_multipliers(multiplier: float, wanted: tuple[int, int]) -> None:
    assert fixed_point(multiplier) == wanted


@pytest.mark.parametrize("multiplier", [0.0, 1e-12])
def test_multipliers_below_the_grid_are_zero(multiplier: float) -> None:
    assert fixed_point(multiplier) == (0, 0)


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100, 300))])
def test_forward_equals_tflite_micro_to_the_bit(seed: int) -> None:
    graph = random_graph(seed)
    qgraph = random_quantized(graph, seed=seed)
    images = np.random.default_rng(seed).integers(0, 256, (6, *graph.input.shape), dtype=np.uint8)
    assert np.array_equal(outputs_of(qgraph, images), run_tflm(written(qgraph), images).outputs)


def test_large_sums_stay_exact() -> None:
    # 5x5 over 200 channels of full-scale weights: sums beyond float32's 2^24.
    arch = Arch(height=8, width=8, classes=2, stem=ConvLayer(out=200, act="none"), head=ConvLayer(out=6, kernel=5, act="none"))
    graph = lower(arch)
    qgraph = random_quantized(graph, seed=1)
    weights = dict(qgraph.weights)
    weights["head"] = np.full_like(weights["head"], 127)
    scales = dict(qgraph.weight_scales)
    scales["head"] = scales["head"] / 50
    qgraph = QuantizedGraph(graph, qgraph.tensors, weights, scales, qgraph.biases)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    step = FakeQuantNetwork.operator(qgraph, graph.ops[1])
    assert step.dtype == torch.float64
    np.testing.assert_array_equal(outputs_of(qgraph, images), run_tflm(written(qgraph), images).outputs)


def test_batches_and_pieces_do_not_matter() -> None:
    graph = lower(ARCH)
    qgraph = random_quantized(graph)
    images = images_like(graph, 80)
    whole = outputs_of(qgraph, images)
    np.testing.assert_array_equal(whole, np.concatenate([outputs_of(qgraph, images[i : i + 7]) for i in range(0, 80, 7)]))


def test_relu6_and_relu_ranges() -> None:
    quant = TensorQuant.covering(0.0, 6.0)
    assert quant.zero_point == -128 and activation_range("relu6", quant) == (-128, 127)
    wide = TensorQuant.covering(-3.0, 12.0)
    low, high = activation_range("relu6", wide)
    assert low == wide.zero_point and high == wide.zero_point + round(6 / wide.scale)
    assert activation_range("relu", wide) == (wide.zero_point, 127) and activation_range("none", wide) == (-128, 127)


# Folding and calibrating


@pytest.mark.parametrize("seed", range(6))
def test_folding_keeps_the_function(seed: int) -> None:
    graph = random_graph(seed + 40)
    network = lively(graph, seed)
    images = images_like(graph, 5, seed)
    with torch.no_grad():
        wanted = network(normalise(torch.from_numpy(images))).numpy()
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(predict(fold(network), images) / scale, wanted / scale, atol=2e-5)


def test_quantised_network_is_near_the_float_one_and_equals_its_file() -> None:
    graph = lower(ARCH)
    floats = fold(lively(graph))
    qgraph = quantize(floats, images_like(graph, 96))
    images = images_like(graph, 64, seed=1)
    integers = outputs_of(qgraph, images)
    np.testing.assert_array_equal(integers, run_tflm(written(qgraph), images).outputs)
    logits, wanted = FakeQuantNetwork(qgraph).real(torch.from_numpy(integers)).numpy(), predict(floats, images)
    noise = ((logits - wanted) ** 2).mean() / (wanted**2).mean()
    assert 10 * np.log10(1 / noise) > 25, "decibels above the quantisation noise"


def test_input_is_lossless_whatever_was_seen() -> None:
    graph = lower(ARCH)
    qgraph = quantize(fold(lively(graph)), np.full((4, 24, 24, 3), 99, np.uint8))
    assert qgraph.tensors[graph.inputs[0]] == INPUT_QUANT == TensorQuant(1 / 128, 0)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert (normalise(torch.from_numpy(pixels)) * 128).reshape(-1).tolist() == list(range(-128, 128))


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_constant_tensors_have_usable_grids(method: str) -> None:
    graph = lower(ARCH)
    floats = fold(lively(graph))
    dead = dict(floats.weights)
    biases = dict(floats.biases)
    dead["s0.b0.project"], biases["s0.b0.project"] = np.zeros_like(dead["s0.b0.project"]), np.zeros_like(biases["s0.b0.project"])
    dead["s1.b0.dw"], biases["s1.b0.dw"] = np.zeros_like(dead["s1.b0.dw"]), np.full_like(biases["s1.b0.dw"], 0.3)
    qgraph = quantize(FloatGraph(graph, dead, biases), np.zeros((3, 24, 24, 3), np.uint8), QuantOptions(calibration=method))
    for scales in qgraph.weight_scales.values():
        assert np.isfinite(scales).all() and (scales > 0).all()
    assert all(np.isfinite(t.scale) and t.scale > 0 for t in qgraph.tensors)
    images = images_like(graph, 4)
    np.testing.assert_array_equal(outputs_of(qgraph, images), run_tflm(written(qgraph), images).outputs)


def test_a_bias_that_32_bits_could_not_hold_widens_its_weights_grid() -> None:
    graph = lower(ARCH)
    floats = fold(lively(graph))
    weights = {**floats.weights, "stem": np.array(floats.weights["stem"])}
    weights["stem"][0] = 1e-12
    biases = {**floats.biases, "stem": np.array(floats.biases["stem"])}
    biases["stem"][0] = 5.0
    qgraph = quantize(FloatGraph(graph, weights, biases), images_like(graph, 8))
    real = qgraph.biases["stem"][0] * np.float64(1 / 128) * qgraph.weight_scales["stem"][0]
    assert real == pytest.approx(5.0, rel=1e-2)


def test_outliers_are_clipped_by_percentile_and_mse() -> None:
    graph = lower(Arch(height=16, width=16, classes=2, stem=ConvLayer(out=4, kernel=1, act="none")))
    floats = fold(lively(graph))
    images = images_like(graph, 40)
    weights = {**floats.weights, "stem": np.array(floats.weights["stem"])}
    images[0, 0, 0] = 255
    weights["stem"] *= 0.01
    biases = {**floats.biases, "stem": np.zeros(4, np.float32)}
    spiky = FloatGraph(graph, weights, biases)
    plain = find_ranges(spiky, images, QuantOptions(calibration="minmax"))[1]
    for method in ("percentile", "mse"):
        options = QuantOptions(calibration=method, percentile=99.0)
        low, high = find_ranges(spiky, images, options)[1]
        assert plain[0] <= low <= 0 <= high <= plain[1] and (high - low) < (plain[1] - plain[0])


def test_least_squares_range_has_the_least_error() -> None:
    graph = lower(ARCH)
    floats = fold(lively(graph, 3))
    calibration, images = images_like(graph, 96), images_like(graph, 64, 1)
    wanted = predict(floats, images)
    errors = {}
    for correction in (False, True):
        qgraph = quantize(floats, calibration, QuantOptions(calibration="minmax", bias_correction=correction))
        logits = FakeQuantNetwork(qgraph).real(torch.from_numpy(outputs_of(qgraph, images))).numpy()
        errors[correction] = np.abs((logits - wanted).mean(0)).max()
    assert errors[True] <= errors[False] * 1.05, "bias correction takes the mean error out"


def test_equalisation_keeps_the_function_and_evens_the_channels() -> None:
    graph = lower(ARCH)
    floats = fold(lively(graph, 5))
    uneven = {**floats.weights}
    factor = np.geomspace(0.05, 1.0, 8).astype(np.float32)
    uneven["s0.b0.project"] = uneven["s0.b0.project"] * factor[:, None, None, None]
    floats = FloatGraph(graph, uneven, floats.biases)
    images = images_like(graph, 32)
    equal = equalize(floats, images, strength=1.0)
    np.testing.assert_allclose(predict(equal, images), predict(floats, images), rtol=2e-3, atol=2e-3)
    assert any(not np.array_equal(equal.weights[name], floats.weights[name]) for name in floats.weights)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bits_are_a_parameter_of_the_grid(bits: int) -> None:
    graph = lower(ARCH)
    qgraph = quantize(fold(lively(graph)), images_like(graph, 16), QuantOptions(bits=bits))
    most = (1 << (bits - 1)) - 1
    assert qgraph.bits == bits
    assert all(np.abs(w).max() == most for w in qgraph.weights.values())
    images = images_like(graph, 3, 2)
    np.testing.assert_array_equal(outputs_of(qgraph, images), run_tflm(written(qgraph), images).outputs)


def test_pooling_keeps_its_inputs_grid() -> None:
    arch = Arch(height=24, width=20, classes=3, stem=ConvLayer(out=8), blocks=(Pool(op="avg", kernel=3, stride=2), Pool()))
    graph = lower(arch)
    qgraph = quantize(fold(lively(graph)), images_like(graph, 16))
    assert qgraph.tensors[1] == qgraph.tensors[2] == qgraph.tensors[3]


def test_images_that_do_not_fit_are_refused() -> None:
    graph = lower(ARCH)
    floats = fold(lively(graph))
    for images in (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((0, 24, 24, 3), np.uint8), np.zeros((24, 24, 3), np.uint8)):
        with pytest.raises(DataError, match="calibration images"):
            quantize(floats, images)


def test_networks_that_diverged_are_refused() -> None:
    graph = lower(ARCH)
    floats = fold(lively(graph))
    weights = {**floats.weights, "stem": np.full_like(floats.weights["stem"], np.nan)}
    with pytest.raises(DataError, match="not finite"):
        quantize(FloatGraph(graph, weights, floats.biases), images_like(graph, 4))


# Batch norm and training


def test_norms_are_measured_anew() -> None:
    graph = lower(ARCH)
    network = Network(graph)
    images = images_like(graph, 64)
    reestimate_norms(network, images, batch=64)
    layer, norm = network.named_op("stem")
    with torch.no_grad():
        x = normalise(torch.from_numpy(images))
        raw = layer(torch.nn.functional.pad(x, (0, 1, 0, 1)))
    torch.testing.assert_close(norm.running_mean, raw.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, raw.var((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert norm.momentum == 0.1 and network.training


def test_training_on_the_grids_goes_into_the_file_unchanged() -> None:
    graph = lower(ARCH)
    network = lively(graph)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = images_like(graph, 64)
    labels = torch.from_numpy((images.mean((1, 2))[:, 0] // 64).astype(np.int64))
    module = prepare_qat(network, images)
    grids = module.tensors
    x = normalise(torch.from_numpy(images))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items()), "the float network is left alone"
    qgraph = finish_qat(module)
    assert qgraph.tensors == grids
    integers = outputs_of(qgraph, images)
    np.testing.assert_array_equal(integers, run_tflm(written(qgraph), images).outputs)
    with torch.no_grad():
        steps = (module(x) / qgraph.tensors[graph.logits].scale).numpy() + qgraph.tensors[graph.logits].zero_point
    assert np.abs(steps - integers).mean() < 1.5, "what was trained is what the file computes, up to rounding"
    assert (steps.argmax(1) == integers.argmax(1)).mean() > 0.9


def test_state_of_a_quantised_training_is_plain_tensors() -> None:
    graph = lower(ARCH)
    module = prepare_qat(lively(graph), images_like(graph, 16))
    state = module.state_dict()
    assert len(state) == 2 * len(fold(Network(graph)).weights)
    other = prepare_qat(lively(graph, 9), images_like(graph, 16))
    other.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_random_arch_covers_every_operator() -> None:
    kinds = {type(op).__name__ for seed in range(60) for op in lower(random_arch(seed)).ops}
    assert kinds == {"Conv2D", "DepthwiseConv2D", "Add", "Mean", "FullyConnected", "Pool2D"}
