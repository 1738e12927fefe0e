"""shrink: what changes no output goes, by hand on networks with planted dead channels; what might change one stays; outputs are equal."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corrupt import broken_files
from int8_cases import random_graph
from one_op import Net, T, options
from op_files import KINDS, TYPES, op_file
from tflite_files import Graph as FileGraph
from tflite_files import file as subgraphs_file
from tflite_files import schema
from tflm_many import run_many

from tinynas import api
from tinynas.arch import Arch, ConvLayer, MBConv, load_arch
from tinynas.cli import run
from tinynas.cost.memory import apart, lifetimes, plan_offline
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.tflite import parse_model
from tinynas.cost.work import from_graph
from tinynas.errors import InternalError, ModelFileError
from tinynas.export.sandbox import compare_models
from tinynas.export.shrunk import prove, shrink
from tinynas.export.tflite import ModelMeta, dummy_file, serialize
from tinynas.graph import Conv2D, DepthwiseConv2D, lower
from tinynas.quantize.grid import QuantizedGraph, random_quantized
from tinynas.shrink import Shrunk, dead_channels, shrink_model
from tinynas.shrink.model import PLAN_NAME, content, read
from tinynas.shrink.writer import write

RNG = np.random.default_rng(5)
NONE, RELU = 0, 1
SAME, VALID = 0, 1


class Small:
    """A network under construction; activations have scale 1/16, weights 1/16: an accumulator of 16 is one step of the output."""

    def __init__(self, shape: Sequence[int], zero: int = -128) -> None:
        self.net = Net()
        self.input = self.made(shape, zero)

    def made(self, shape: Sequence[int], zero: int = -128) -> int:
        return self.net.tensor(T(tuple(shape), zero=zero))

    def shape(self, tensor: int) -> tuple[int, ...]:
        return self.net.tensors[tensor].shape

    def conv(
        self,
        x: int,
        weights: np.ndarray[Any, Any],
        bias: Sequence[int] | None = None,
        *,
        zero: int = -128,
        act: int = RELU,
        padding: int = SAME,
        depthwise: bool = False,
        scale: float = 1 / 16,
    ) -> int:
        rows = weights.shape[3] if depthwise else weights.shape[0]
        batch, height, width, channels = self.shape(x)
        if padding == VALID:
            height, width = height - weights.shape[1] + 1, width - weights.shape[2] + 1
        kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        chosen = options(
            "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
            padding=padding,
            strideW=1,
            strideH=1,
            dilationWFactor=1,
            dilationHFactor=1,
            fusedActivationFunction=act,
        )
        if depthwise:
            chosen.depthMultiplier = rows // channels
        filters = T(weights.shape, data=weights, scale=[scale] * rows, axis=3 if depthwise else 0)
        inputs: list[Any] = [x, filters]
        if bias is not None:
            inputs.append(T((rows,), "int32", data=list(bias), scale=[scale / 16] * rows))
        (out,) = self.net.op(kind, inputs, [self.made((batch, height, width, rows), zero)], chosen)
        return out

    def op(self, kind: str, inputs: Sequence[Any], shape: Sequence[int], chosen: Any = None, *, zero: int = -128) -> int:
        (out,) = self.net.op(kind, inputs, [self.made(shape, zero)], chosen)
        return out

    def add(self, a: int, b: int, *, zero: int = -128) -> int:
        return self.op("ADD", [a, b], self.shape(a), options("AddOptions"), zero=zero)

    def dense(self, x: int, weights: np.ndarray[Any, Any]) -> int:
        made = T(weights.shape, data=weights)
        return self.op("FULLY_CONNECTED", [x, made], (1, len(weights)), options("FullyConnectedOptions"), zero=0)

    def file(self, *outputs: int) -> bytes:
        return self.net.file(outputs or None)


def some(*shape: int, most: int = 40) -> np.ndarray[Any, Any]:
    return RNG.integers(-most, most + 1, shape)


def alive(*shape: int, most: int = 11) -> np.ndarray[Any, Any]:
    """Weights of which no row is constant: an input at its zero point gives the bias, others more."""
    return RNG.integers(1, most + 1, shape)


def equal(before: bytes, after: bytes, count: int = 40) -> None:
    found = compare_models(before, after, count, seconds=30)
    assert (found.compared, found.different) == (count, 0)


def shrunk(model: bytes, **more: Any) -> Shrunk:
    """What shrink makes of ``model``; its outputs equal, its arena is the one that the estimate says."""
    made = shrink_model(model, **more)
    equal(model, made.model)
    assert len(made.model) <= len(model)
    assert shrink_model(made.model).channels == 0  # nothing is left for a second time
    return made


def tensors_of(model: bytes) -> dict[str, Any]:
    """(weights, biases) of each weighted operator, by its number."""
    graph = read(model).main
    return {
        str(op.number): [graph.tensors[t].array for t in op.inputs[1:]]
        for op in graph.ops
        if op.kind in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    }


def test_a_constant_channel_is_folded_into_the_bias_that_reads_it() -> None:
    net = Small((1, 4, 4, 2))
    weights, bias = alive(3, 1, 1, 2), [0, 160, 0]
    weights[1] = 0  # 160 / 16 = 10 steps above the zero point, whatever is read
    middle = net.conv(net.input, weights, bias)
    last = some(4, 1, 1, 3)
    net.conv(middle, last, [1, 2, 3, 4], act=NONE, zero=0)
    model = net.file()
    made = shrunk(model)
    assert [(row.number, row.before, row.after, row.removed) for row in made.layers] == [(0, 3, 2, {"constant": 1})]
    (first, _), (second, biases) = tensors_of(made.model).values()
    assert first.tolist() == weights[[0, 2]].tolist()
    assert second.tolist() == last[..., [0, 2]].tolist()
    assert biases.tolist() == [n + 10 * int(w) for n, w in zip([1, 2, 3, 4], last[:, 0, 0, 1], strict=True)]


def test_a_channel_that_always_saturates_is_constant() -> None:
    net = Small((1, 4, 4, 2))
    weights = alive(3, 1, 1, 2)
    weights[0], weights[2] = [20, -10], [20, 10]
    # 255 x 10 below, 5,100 above: with this bias at least 4,080 (255 steps) is left, always; row 2 falls short by one step.
    bias = [4080 + 2550, 0, 4080 - 16]
    middle = net.conv(net.input, weights, bias, act=NONE)
    net.conv(middle, alive(2, 1, 1, 3, most=3), act=NONE, zero=0)
    made = shrunk(net.file())
    assert made.removed == {"constant": 1, "duplicate": 0, "unread": 0}
    assert tensors_of(made.model)["0"][0].tolist() == weights[[1, 2]].tolist()
    # The convolution that had no bias got one: 255 steps times its weights.
    assert tensors_of(made.model)["1"][1].tolist() == [255 * int(w) for w in net.net.tensors[5].data[:, 0, 0, 0]]


@pytest.mark.parametrize(("padding", "kernel", "goes"), [(VALID, 3, 1), (SAME, 1, 1), (SAME, 3, 0)])
def test_what_padding_touches_is_no_bias(padding: int, kernel: int, goes: int) -> None:
    net = Small((1, 5, 5, 2))
    weights = alive(3, 1, 1, 2)
    weights[1] = 0
    middle = net.conv(net.input, weights, [0, 320, 0])
    net.conv(middle, alive(2, kernel, kernel, 3), [0, 0], padding=padding, act=NONE, zero=0)
    made = shrink_model(net.file())
    equal(net.file(), made.model)
    assert made.channels == goes


def test_padding_does_not_matter_where_it_is_not_read_or_adds_nothing() -> None:
    net = Small((1, 5, 5, 2))
    weights = alive(4, 1, 1, 2)
    weights[1] = weights[2] = 0
    middle = net.conv(net.input, weights, [0, 320, 0, 0])  # 20 steps; and the zero point itself
    last = alive(2, 3, 3, 4)
    last[..., 1] = 0
    last[:, 1, 1, 1] = 7  # the middle of the kernel never lies outside
    net.conv(middle, last, [0, 0], act=NONE, zero=0)
    assert shrunk(net.file()).removed["constant"] == 2


def test_a_depthwise_convolution_of_a_constant_is_constant_where_no_padding_shows() -> None:
    for value, goes in ((0, 2), (320, 0)):
        net = Small((1, 5, 5, 2))
        weights = alive(3, 1, 1, 2)
        weights[1] = 0
        middle = net.conv(net.input, weights, [0, value, 0])
        deep = net.conv(middle, alive(1, 3, 3, 3), [0, 50, 0], depthwise=True)
        net.conv(deep, alive(2, 1, 1, 3), [0, 0], act=NONE, zero=0)
        assert shrunk(net.file()).channels == goes


def test_dead_channels_die_backwards() -> None:
    net = Small((1, 4, 4, 2))
    one = net.conv(net.input, alive(5, 1, 1, 2), [9] * 5)
    deep = net.conv(one, alive(1, 3, 3, 5), [3] * 5, depthwise=True)
    weights = alive(4, 1, 1, 5)
    weights[:3, ..., 2] = 0
    weights[3, ..., 2] = 60  # channel 2 is read by row 3 alone
    two = net.conv(deep, weights, [9] * 4)
    last = alive(3, 1, 1, 4)
    last[..., 3] = 0  # which nobody reads
    net.conv(two, last, [0] * 3, act=NONE, zero=0)
    made = shrunk(net.file())
    assert [(row.number, row.after, row.removed) for row in made.layers] == [
        (0, 4, {"unread": 1}),
        (1, 4, {"unread": 1}),
        (2, 3, {"unread": 1}),
    ]


def test_a_residual_ties_its_branches() -> None:
    def block(dead: Sequence[int]) -> bytes:
        net = Small((1, 4, 4, 2))
        a, b = alive(4, 1, 1, 2), alive(4, 1, 1, 4)
        biases = [[40] * 4, [40] * 4]
        for number in dead:
            (a, b)[number][1] = 0
        first = net.conv(net.input, a, biases[0])
        second = net.conv(first, b, biases[1], act=NONE, zero=0)
        both = net.add(first, second)
        net.conv(both, alive(2, 1, 1, 4), [0, 0], act=NONE, zero=0)
        return net.file()

    assert shrunk(block([])).channels == 0
    assert shrunk(block([0])).channels == 0
    assert shrunk(block([1])).channels == 0
    assert shrunk(block([0, 1])).removed == {"constant": 2, "duplicate": 0, "unread": 0}


@pytest.mark.parametrize(("most", "goes"), [(60, 1), (64, 0)])
def test_equal_channels_are_merged_where_the_sum_of_their_weights_fits(most: int, goes: int) -> None:
    net = Small((1, 4, 4, 2))
    weights = alive(4, 1, 1, 2)
    weights[3] = weights[1]
    middle = net.conv(net.input, weights, [5, 6, 7, 6])
    deep_weights = alive(1, 3, 3, 4)
    deep_weights[..., 3] = deep_weights[..., 1]
    deep = net.conv(middle, deep_weights, [0] * 4, depthwise=True)
    last = alive(2, 1, 1, 4, most=30)
    last[1, 0, 0, 1] = last[1, 0, 0, 3] = most
    net.conv(deep, last, [0, 0], act=NONE, zero=0)
    made = shrunk(net.file())
    assert made.removed == {"constant": 0, "duplicate": 2 * goes, "unread": 0}
    if goes:
        merged = last[..., :3].copy()
        merged[..., 1] += last[..., 3]
        assert tensors_of(made.model)["2"][0].tolist() == merged.tolist()


def test_channels_that_differ_in_a_bias_or_a_scale_are_not_equal() -> None:
    net = Small((1, 4, 4, 2))
    weights = alive(2, 1, 1, 2)
    weights[1] = weights[0]
    middle = net.conv(net.input, weights, [5, 21], act=NONE)
    net.conv(middle, alive(2, 1, 1, 2), [0, 0], act=NONE, zero=0)
    assert shrunk(net.file()).channels == 0


def test_a_dense_layer_behind_a_flattened_image_loses_the_right_columns() -> None:
    net = Small((1, 2, 3, 2))
    weights = alive(4, 1, 1, 2)
    weights[2] = 0
    middle = net.conv(net.input, weights, [0, 0, 48, 0])  # 3 steps
    flat = net.op("RESHAPE", [middle, T((2,), "int32", data=[1, 24])], (1, 24), options("ReshapeOptions", newShape=[1, 24]))
    dense = some(3, 24)
    net.dense(flat, dense)
    made = shrunk(net.file())
    assert made.removed["constant"] == 1
    kept, biases = tensors_of(made.model)["2"]
    assert kept.tolist() == dense.reshape(3, 6, 4)[:, :, [0, 1, 3]].reshape(3, 18).tolist()
    assert biases.tolist() == [3 * int(n) for n in dense.reshape(3, 6, 4)[:, :, 2].sum(1)]
    graph = read(made.model).main
    (reshape,) = [op for op in graph.ops if op.kind == "RESHAPE"]
    shape = graph.tensors[reshape.inputs[1]].array
    assert shape is not None and shape.tolist() == list(reshape.options.newShape) == [1, 18]


def test_concatenation_pooling_padding_and_mean_pass_channels_on() -> None:
    net = Small((1, 6, 6, 2))
    a, b = alive(3, 1, 1, 2), alive(2, 1, 1, 2)
    a[0] = b[1] = 0
    joined = net.op(
        "CONCATENATION",
        [net.conv(net.input, a, [0] * 3), net.conv(net.input, b, [0] * 2)],
        (1, 6, 6, 5),
        options("ConcatenationOptions", axis=3),
    )
    padded = net.op("PAD", [joined, T((4, 2), "int32", data=[[0, 0], [1, 1], [1, 1], [0, 0]])], (1, 8, 8, 5), options("PadOptions"))
    window = options("Pool2DOptions", padding=VALID, strideW=2, strideH=2, filterWidth=2, filterHeight=2)
    pooled = net.op("AVERAGE_POOL_2D", [padded], (1, 4, 4, 5), window)
    mean = net.op("MEAN", [pooled, T((2,), "int32", data=[1, 2])], (1, 5), options("ReducerOptions"))
    net.dense(mean, alive(3, 5))
    made = shrunk(net.file())
    assert [(row.number, row.removed) for row in made.layers] == [(0, {"constant": 1}), (1, {"constant": 1})]


def test_the_first_depthwise_convolution_of_a_gray_image_loses_rows() -> None:
    net = Small((1, 6, 6, 1))
    weights = alive(1, 3, 3, 4)
    weights[..., 1] = 0
    deep = net.conv(net.input, weights, [0] * 4, depthwise=True)
    net.conv(deep, alive(2, 1, 1, 4), [0, 0], act=NONE, zero=0)
    made = shrunk(net.file())
    assert made.removed["constant"] == 1
    assert read(made.model).main.ops[0].options.depthMultiplier == 3


def test_a_multiplier_ties_all_rows_of_a_channel() -> None:
    net = Small((1, 6, 6, 2))
    weights = alive(1, 3, 3, 4)
    weights[..., 1] = 0  # rows 0 and 1 read channel 0
    deep = net.conv(net.conv(net.input, alive(2, 1, 1, 2), [0, 0]), weights, [0] * 4, depthwise=True)
    net.conv(deep, alive(2, 1, 1, 4), [0, 0], act=NONE, zero=0)
    assert shrunk(net.file()).channels == 0


def test_no_tensor_loses_its_last_channel() -> None:
    net = Small((1, 4, 4, 2))
    middle = net.conv(net.input, np.zeros((3, 1, 1, 2), int), [16, 32, 48])
    net.conv(middle, alive(2, 1, 1, 3), [0, 0], act=NONE, zero=0)
    made = shrunk(net.file())
    assert [(row.before, row.after) for row in made.layers] == [(3, 1)]


def test_operators_that_do_nothing_go() -> None:
    net = Small((1, 4, 4, 3))
    x = net.conv(net.input, alive(3, 1, 1, 3), [0] * 3)
    x = net.op("PAD", [x, T((4, 2), "int32", data=0)], (1, 4, 4, 3), options("PadOptions"))
    x = net.op("RESHAPE", [x, T((4,), "int32", data=[1, 4, 4, 3])], (1, 4, 4, 3), options("ReshapeOptions"))
    x = net.op("QUANTIZE", [x], (1, 4, 4, 3), options("QuantizeOptions"))
    x = net.op("MUL", [x, T((3,), data=16)], (1, 4, 4, 3), options("MulOptions"))  # 16/16 = 1
    x = net.op("MAXIMUM", [x, T((1,), data=-128, zero=-128)], (1, 4, 4, 3), options("MaximumMinimumOptions"))
    x = net.op("RELU", [x], (1, 4, 4, 3))
    window = options("Pool2DOptions", padding=VALID, strideW=1, strideH=1, filterWidth=1, filterHeight=1)
    net.op("AVERAGE_POOL_2D", [x], (1, 4, 4, 3), window)
    made = shrunk(net.file())
    assert [kind for _, kind in made.operators] == ["PAD", "RESHAPE", "QUANTIZE", "MUL", "MAXIMUM", "RELU", "AVERAGE_POOL_2D"]
    graph = read(made.model).main
    assert [op.kind for op in graph.ops] == ["CONV_2D"]
    assert graph.ops[0].outputs == graph.outputs and graph.tensors[graph.outputs[0]].name == f"t{net.net.ops[-1].outputs[0]}".encode()


def test_operators_that_do_something_stay() -> None:
    net = Small((1, 4, 4, 3), zero=0)
    x = net.op("MUL", [net.input, T((3,), data=[16, 16, 15])], (1, 4, 4, 3), options("MulOptions"), zero=0)
    x = net.op("RELU", [x], (1, 4, 4, 3), zero=0)
    x = net.op("QUANTIZE", [x], (1, 4, 4, 3), options("QuantizeOptions"), zero=1)
    net.op("ADD", [x, T((1,), data=1)], (1, 4, 4, 3), options("AddOptions"), zero=1)
    made = shrunk(net.file())
    assert made.operators == ()


def test_a_shape_that_is_computed_becomes_a_constant() -> None:
    graph = FileGraph()
    x = graph.tensor([1, 2, 2, 3])
    shape, size, packed = graph.tensor([4], "int32"), graph.tensor([], "int32"), graph.tensor([2], "int32")
    begin, end, step = (graph.tensor([1], "int32", data=[n]) for n in (0, 1, 1))
    rest = graph.tensor([], "int32", data=-1)
    y = graph.tensor([1, 12])
    graph.op("SHAPE", [x], [shape], options("ShapeOptions", outType=2))
    graph.op("STRIDED_SLICE", [shape, begin, end, step], [size], options("StridedSliceOptions", shrinkAxisMask=1))
    graph.op("PACK", [size, rest], [packed], options("PackOptions", valuesCount=2))
    graph.op("RESHAPE", [x, packed], [y], options("ReshapeOptions"))
    model = subgraphs_file(graph.ends([x], [y]))
    made = shrunk(model)
    assert [kind for _, kind in made.operators] == ["SHAPE", "STRIDED_SLICE", "PACK"]


def test_what_is_not_known_is_left_with_all_that_it_touches() -> None:
    net = Small((1, 4, 4, 2))
    weights = alive(3, 1, 1, 2)
    weights[1] = 0
    middle = net.conv(net.input, weights, [0] * 3)
    net.net.op("CUSTOM", [middle], [net.made((1, 4, 4, 3))], custom="Mystery", custom_options=b"any bytes")
    model = net.file()
    made = shrink_model(model)
    assert made.channels == 0 and made.left == ("CUSTOM Mystery",)
    (op,) = [op for op in read(made.model).main.ops if op.kind == "CUSTOM"]
    assert op.custom == b"any bytes" and op.code[1] == b"Mystery"


def planted(qgraph: QuantizedGraph, seed: int) -> QuantizedGraph:
    """With dead rows of every kind: without weights, saturated, equal to others, or read by nobody."""
    draw = random.Random(seed)
    weights = {name: values.copy() for name, values in qgraph.weights.items()}
    biases = {name: values.copy() for name, values in qgraph.biases.items()}
    for op in qgraph.graph.ops[:-1]:
        if not isinstance(op, Conv2D | DepthwiseConv2D):
            continue
        rows = np.moveaxis(weights[op.name], 3 if isinstance(op, DepthwiseConv2D) else 0, 0)
        for row in range(len(rows)):
            fate = draw.random()
            if fate < 0.25:
                rows[row], biases[op.name][row] = 0, draw.choice([0, -(10**6), 10**6, draw.randint(-2000, 2000)])
            elif fate < 0.4:
                biases[op.name][row] = draw.choice([-1, 1]) * 2**28
            elif fate < 0.5 and row:
                rows[row], biases[op.name][row] = rows[row - 1], biases[op.name][row - 1]
                qgraph.weight_scales[op.name][row] = qgraph.weight_scales[op.name][row - 1]
        if isinstance(op, Conv2D):
            weights[op.name] //= draw.choice([1, 3])
            for column in range(rows.shape[-1]):
                if draw.random() < 0.15:
                    weights[op.name][..., column] = 0
    return QuantizedGraph(qgraph.graph, qgraph.tensors, weights, qgraph.weight_scales, biases)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_give_the_same_outputs(seed: int) -> None:
    qgraph = planted(random_quantized(random_graph(seed), seed=seed), seed)
    model = serialize(qgraph, ModelMeta("0" * 10, ()))
    made = shrunk(model)
    assert made.channels == dead_channels(model)
    (before, after) = run_many([model, made.model])
    assert not before.error and not after.error and after.head <= before.head
    cost = parse_model(made.model).estimate("tflm")
    assert (after.head + after.tail, cost.macs) == (cost.host_arena_bytes, cost.macs)
    assert cost.macs <= parse_model(model).estimate("tflm").macs


def test_random_networks_lose_something() -> None:
    models = [serialize(planted(random_quantized(random_graph(seed), seed=seed), seed), ModelMeta("0" * 10)) for seed in range(12)]
    removed = [shrink_model(model).removed for model in models]
    assert all(sum(row[reason] for row in removed) > 10 for reason in ("constant", "unread"))
    assert sum(row["duplicate"] for row in removed) > 0


def test_a_difference_is_found_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Small((1, 4, 4, 2))
    net.conv(net.input, alive(3, 1, 1, 2), [0] * 3, act=NONE, zero=0)
    model = net.file()
    other = read(model)
    biases = other.main.tensors[other.main.ops[0].inputs[2]]
    assert isinstance(biases.data, np.ndarray)
    biases.data[1] += 16
    assert 0 < prove(model, write(other), inputs=20).different <= 20
    monkeypatch.setattr("tinynas.export.shrunk.shrink_model", lambda *a, **k: Shrunk(write(other), True, (), (), 0))
    (tmp_path / "a.tflite").write_bytes(model)
    with pytest.raises(InternalError, match="of 20 inputs give other outputs"):
        api.shrink(tmp_path / "a.tflite", tmp_path / "b.tflite", inputs=20)
    assert not (tmp_path / "b.tflite").exists()


ONE_GRID: dict[str, tuple[list[Any], tuple[int, ...], Any, str]] = {
    "MAX_POOL_2D": (
        [],
        (1, 4, 4, 3),
        options("Pool2DOptions", strideW=1, strideH=1, filterWidth=2, filterHeight=2),
        "an output of another",
    ),
    "AVERAGE_POOL_2D": (
        [],
        (1, 4, 4, 3),
        options("Pool2DOptions", strideW=1, strideH=1, filterWidth=2, filterHeight=2),
        "an output of anoth",
    ),
    "CONCATENATION": (
        [T((1, 4, 4, 2), data=1, scale=0.5)],
        (1, 4, 4, 5),
        options("ConcatenationOptions", axis=3),
        "an input of another scale",
    ),
    "PADV2": (
        [T((4, 2), "int32", data=0), T((1,), data=1, scale=0.5)],
        (1, 4, 4, 3),
        options("PadV2Options"),
        "a padding value of another",
    ),
    "ADD_N": ([T((1, 4, 4, 3), data=1, scale=0.5)], (1, 4, 4, 3), options("AddNOptions"), "inputs of several scales"),
}


@pytest.mark.parametrize("zero", [-128, -100])
@pytest.mark.parametrize("kind", ONE_GRID)
def test_unequal_scales_where_the_format_demands_one_are_the_models_fault(
    kind: str, zero: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, shape, chosen, said = ONE_GRID[kind]
    pools = "POOL" in kind
    net = Small((1, 4, 4, 3))
    x = net.conv(net.input, np.array([[1, 0, 0], [0, 0, 0], [0, 1, 1]]).reshape(3, 1, 1, 3), [0, 32, 0])
    out = net.op(kind, [x, *more], shape, chosen, zero=zero)
    if pools and zero == -128:
        net.net.tensors[out] = T(shape, scale=1 / 11, zero=zero)
    (tmp_path / "a.tflite").write_bytes(net.file())
    assert run(["shrink", str(tmp_path / "a.tflite"), "--out", str(tmp_path / "b.tflite")]) == 2
    told = capsys.readouterr().err
    assert f"its operator 1 ({kind}) has {said}" in told and "convert the model again" in told and not (tmp_path / "b.tflite").exists()
    assert (f"(0.0625 around {zero} and 0.0625 around -128)" in told) == (pools and zero == -100)


def test_what_litert_alone_runs_is_written_for_it() -> None:
    """TFLM, which has no TILE, takes one zero point for all channels; LiteRT wants as many as scales."""
    net = Small((1, 4, 4, 3))
    x = net.conv(net.input, np.array([[1, 0, 0], [0, 0, 0], [0, 1, 1]]).reshape(3, 1, 1, 3), [0, 32, 0])
    plain = net.conv(x, alive(4, 1, 1, 3), [1, 2, 3, 4], zero=0)
    assert shrunk(net.file(plain)).removed["constant"] == 1
    net.op("TILE", [plain, T((4,), "int32", data=[1, 1, 1, 2])], (1, 4, 4, 8), options("TileOptions"), zero=0)
    report = shrink(net.file(), inputs=20)
    assert "LiteRT" in report.proof.kernels and (report.proof.compared, report.proof.different) == (20, 0)
    assert report.shrunk.removed["constant"] == 1


def test_litert_loads_what_is_written_for_it_and_is_told_of_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Small((1, 4, 4, 3))
    x = net.conv(net.input, np.array([[1, 0, 0], [0, 0, 0], [0, 1, 1]]).reshape(3, 1, 1, 3), [0, 32, 0])
    content = net.file(net.conv(x, alive(4, 1, 1, 3), [1, 2, 3, 4], zero=0))
    (tmp_path / "a.tflite").write_bytes(content)
    words = ["shrink", str(tmp_path / "a.tflite"), "--out", str(tmp_path / "b.tflite")]
    assert run([*words, "--json"]) == 0
    document, plain = json.loads(capsys.readouterr().out), (tmp_path / "b.tflite").read_bytes()
    with pytest.raises(ModelFileError):
        compare_models(content, plain, 5, seconds=5.0, kernels="BUILTIN_REF")
    assert run([*words, "--json", "--litert"]) == 0
    for_both, both = json.loads(capsys.readouterr().out), (tmp_path / "b.tflite").read_bytes()
    for kernels in ("BUILTIN_REF", "tflm"):
        found = compare_models(content, both, 5, seconds=5.0, kernels=kernels)
        assert (found.compared, found.different) == (5, 0)
    more = len(both) - len(plain)
    assert more > 0 and document["notes"] == [
        f"LiteRT does not load it: one zero point stands for all channels, which TFLM takes; --litert writes all, {more} B more"
    ]
    assert for_both["notes"] == [] and for_both["channels"] == document["channels"]


# The writer


@pytest.mark.parametrize("dtype", TYPES)
def test_the_writer_keeps_operators_of_every_kind(dtype: str) -> None:
    files = []
    for kind in KINDS:
        try:
            files.append(op_file(kind, dtype))
        except (KeyError, ValueError):
            continue
    again = [write(read(model), names=True) for model in files]
    for before, after in zip(files, again, strict=True):
        one, two = read(before), read(after)
        for old, new in zip(one.main.ops, two.main.ops, strict=True):
            assert (old.code, old.custom, old.intermediates) == (new.code, new.custom, new.intermediates)
            assert repr_of(old.options) == repr_of(new.options)
        for old, new in ((one.main.inputs, two.main.inputs), (one.main.outputs, two.main.outputs)):
            assert [content_of(one, t) for t in old] == [content_of(two, t) for t in new]
    assert [(r.head, r.tail, bool(r.error)) for r in run_many(files)] == [(r.head, r.tail, bool(r.error)) for r in run_many(again)]


def repr_of(table: Any) -> Any:
    return None if table is None else {name: np.asarray(value).tolist() for name, value in vars(table).items()}


def content_of(model: Any, tensor: int) -> Any:
    made = model.main.tensors[tensor]
    return made.name, made.shape, made.dtype, content(made), made.scale.tolist()


def with_table(model: bytes, change: Any) -> bytes:
    """``model`` with ``change`` done to the schema's object of it."""
    import flatbuffers

    table = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    change(table)
    builder = flatbuffers.Builder(1024)
    builder.Finish(table.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def entry(model: Any, name: str, data: bytes) -> None:
    buffer, made = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(data, np.uint8)
    model.buffers.append(buffer)
    made.name, made.buffer = name, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), made]


def dead_net() -> bytes:
    net = Small((1, 4, 4, 2))
    weights = alive(3, 1, 1, 2)
    weights[1] = 0
    net.conv(net.conv(net.input, weights, [0] * 3), alive(2, 1, 1, 3), [0, 0], act=NONE, zero=0)
    return net.file()


def test_metadata_signatures_and_attached_files_are_kept_unless_they_are_to_go() -> None:
    def change(table: Any) -> None:
        entry(table, "TFLITE_METADATA", b"about labels")
        entry(table, "CONVERSION_METADATA", b"how it was called")
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
        signature.inputs[0].name, signature.inputs[0].tensorIndex = "image", table.subgraphs[0].inputs[0]
        signature.outputs[0].name, signature.outputs[0].tensorIndex = "scores", table.subgraphs[0].outputs[0]
        table.signatureDefs = [signature]

    packed = io.BytesIO(with_table(dead_net(), change))
    packed.seek(0, io.SEEK_END)
    with zipfile.ZipFile(packed, "a") as attached:
        attached.writestr("labels.txt", "cat\ndog\n")
    model = packed.getvalue()
    made = shrunk(model)
    again = read(made.model)
    assert again.metadata == [(b"TFLITE_METADATA", b"about labels")]
    assert "metadata dropped: CONVERSION_METADATA" in made.notes
    (signature,) = again.signatures
    assert (signature.key, signature.inputs, signature.outputs) == (
        b"serving_default",
        [(b"image", again.main.inputs[0])],
        [(b"scores", again.main.outputs[0])],
    )
    with zipfile.ZipFile(io.BytesIO(made.model)) as attached:
        assert attached.read("labels.txt") == b"cat\ndog\n"
    bare = shrunk(model, strip_metadata=True)
    assert read(bare.model).metadata == [] and len(bare.model) < len(made.model) and not zipfile.is_zipfile(io.BytesIO(bare.model))


def test_names_are_kept_where_they_are_asked_for() -> None:
    model = dead_net()
    assert {t.name for t in read(shrink_model(model, keep_names=True).model).main.tensors} >= {b"t0", b"t1"}
    named = [t.name for t in read(shrink_model(model).model).main.tensors if t.name]
    assert named == [read(model).main.tensors[t].name for t in (*read(model).main.inputs, *read(model).main.outputs)]


def test_a_memory_plan_is_made_again() -> None:
    arch = Arch(height=24, width=24, channels=1, classes=3, stem=ConvLayer(out=8, kernel=3, stride=1),
                blocks=(MBConv(out=8, kernel=3, stride=1, expand=3), MBConv(out=12, kernel=3, stride=2, expand=4)))  # fmt: skip
    graph = lower(arch)
    qgraph = planted(random_quantized(graph, seed=3), 3)
    plan = plan_offline(graph)
    model = serialize(qgraph, ModelMeta("0" * 10, ()), plan)
    made = shrunk(model)
    assert made.channels and any("memory plan was" in note for note in made.notes)
    before, after = run_many([model, made.model])
    assert after.head <= before.head
    assert (parse_model(made.model).plan is not None) != any("was dropped" in note for note in made.notes)


def test_a_plan_that_writes_over_what_is_read_is_kept_where_no_other_takes_as_little() -> None:
    act: Any = {"act": "h_swish", "attention": "se"}
    arch = Arch(height=48, width=48, classes=2, stem=ConvLayer(out=16, stride=2, act="h_swish"),
                blocks=(MBConv(out=16, expand=2, stride=2, **act), MBConv(out=16, expand=3, residual=True, **act)))  # fmt: skip
    graph = lower(arch)
    model = serialize(planted(random_quantized(graph, seed=1), 1), ModelMeta("0" * 10, ()), plan_offline(graph))
    made = shrunk(model)
    assert made.channels and "its memory plan was kept: what is left stays where it was" in made.notes
    before, after = (parse_model(data).estimate("tflm").sram_bytes for data in (model, made.model))
    assert after <= before < parse_model(shrink_model(unplanned(model)).model).estimate("tflm").sram_bytes
    used = run_many([model, made.model])
    assert used[1].head <= used[0].head


def unplanned(model: bytes) -> bytes:
    """``model`` without its memory plan."""
    found = read(model)
    found.metadata = [entry for entry in found.metadata if entry[0] != PLAN_NAME]
    return write(found)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_gives_no_byte_to_two_at_once(seed: int) -> None:
    graph = random_graph(seed)
    runtime, work = runtime_named("tflm"), from_graph(graph)
    plan = plan_offline(graph).offsets
    assert apart(work, runtime, plan)
    first, last = lifetimes(work)
    placed = [t for t, at in enumerate(plan) if at >= 0 and work.sizes[t]]
    for one, other in itertools.combinations(placed, 2):
        if first[other] <= last[one] and first[one] <= last[other] and plan[one] != plan[other]:
            assert not apart(work, runtime, [*plan[:other], plan[one], *plan[other + 1 :]])


def test_further_subgraphs_stay_as_they_are() -> None:
    main, other = FileGraph(), FileGraph()
    state = main.tensor([1, 4], "int8")
    main.op("CALL_ONCE", [], [], options("CallOnceOptions", initSubgraphIndex=1))
    out = main.tensor([1, 4], "int8")
    main.op("RELU", [state], [out])
    x = other.tensor([1, 4], "int8", data=3)
    other.op("RELU", [x], [other.tensor([1, 4], "int8")])
    model = subgraphs_file(main.ends([state], [out]), other.ends([], []))
    made = shrunk(model)
    assert [op.kind for op in read(made.model).subgraphs[1].ops] == ["RELU"]


# What is refused


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_files_without_int8_operators_are_refused_in_one_message(dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(op_file("ADD", dtype))
    assert run(["shrink", str(path), "--out", str(tmp_path / "o.tflite")]) == 2
    said = capsys.readouterr().err
    assert f"computes with {dtype}" in said and "int8" in said and "Traceback" not in said
    assert not (tmp_path / "o.tflite").exists()


def test_constants_that_the_outside_sees_or_that_change_stay() -> None:
    def change(variable: bool) -> Any:
        def done(table: Any) -> None:
            graph = table.subgraphs[0]
            if variable:
                graph.tensors[graph.operators[0].inputs[1]].isVariable = True
            else:
                graph.outputs = [*graph.outputs, graph.operators[0].inputs[1]]

        return done

    assert shrink_model(dead_net()).channels == 1
    for variable in (True, False):
        made = shrink_model(with_table(dead_net(), change(variable)))
        assert made.channels == 0


def test_a_network_of_a_million_channels_is_refused() -> None:
    net = Small((1, 1, 1, 1_000_001))
    net.op("RELU", [net.input], (1, 1, 1, 1_000_001))
    with pytest.raises(ModelFileError, match="more than 1,000,000 channels"):
        shrink_model(net.file())


def test_broken_files_end_in_a_message() -> None:
    qgraph = planted(random_quantized(random_graph(4), seed=4), 4)
    good = with_table(serialize(qgraph, ModelMeta("0" * 10, ())), lambda table: None)
    outcomes = {"fine": 0, "refused": 0}
    for what, data in broken_files(good, count=96, seed=1):
        try:
            shrink_model(data)
            outcomes["fine"] += 1
        except ModelFileError:
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert min(outcomes.values()) > 8


def test_a_cut_file_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(dead_net()[:-100])
    assert run(["shrink", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: the file is broken") and said.count("\n") == 2


# The command


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "m.tflite", tmp_path / "small.tflite"
    path.write_bytes(dead_net())
    assert run(["shrink", str(path), "--inputs", "30", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert not out.exists() and document["out"] is None
    assert document["channels"] == {"constant": 1, "duplicate": 0, "unread": 0, "all": 1}
    assert document["layers"] == [{"op": 0, "kind": "CONV_2D", "channels": [3, 2], "constant": 1}]
    assert document["equal"]["compared"] == 30 and document["equal"]["different"] == 0
    assert document["macs"] == [16 * (6 + 6), 16 * (4 + 4)]
    assert document["arena_bytes"]["estimated"] == document["arena_bytes"]["measured"]
    assert run(["shrink", str(path), "--out", str(out), "--inputs", "30"]) == 0
    said = capsys.readouterr().out
    assert "3 -> 2" in said and "all outputs equal on 30 inputs" in said and str(out) in said
    assert document["bytes"] == [len(path.read_bytes()), len(out.read_bytes())]
    # What is shrunk already is copied where --out asks for it, and not written anew.
    again = tmp_path / "again.tflite"
    assert run(["shrink", str(out), "--out", str(again), "--inputs", "30"]) == 0
    assert "nothing was found" in capsys.readouterr().out
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.tflite"], "there is no such file"),
        (["m.tflite", "--out", "m.tflite"], "is the model itself"),
        (["m.tflite", "--out", "."], "is a folder"),
        (["m.tflite", "--out", "m.tflite/x"], "cannot be written"),
        (["m.tflite", "--inputs", "0"], "--inputs"),
        (["m.tflite", "--pixels", "0..1"], "--pixels 0..1: says how images are read, and none are"),
        (["m.tflite", "--set", "data.limit=3"], "--set data.limit=3: says how images are read"),
        (["m.tflite", "--data", "nowhere", "--pixels", "bogus"], "--pixels bogus: is not understood"),
    ],
)
def test_faults_of_the_command(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.tflite").write_bytes(dead_net())
    assert run(["shrink", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_images_are_compared_first(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    graph = lower(Arch(height=16, width=16, channels=3, classes=2, stem=ConvLayer(out=8, kernel=3, stride=2)))
    path.write_bytes(serialize(planted(random_quantized(graph, seed=1), 1), ModelMeta("0" * 10, ("a", "b"))))
    document = api.shrink(path, data="synthetic", inputs=25, overrides=["data.limit=60"])
    assert document["equal"]["images"] > 0 and document["equal"]["compared"] == 25 and document["equal"]["different"] == 0


def test_exports_count_their_dead_channels(tmp_path: Path) -> None:
    row = api.export("mcunet-tiny2", out=tmp_path, formats=("tflite",))
    assert row.report["dead_channels"] == dead_channels((tmp_path / "model_int8.tflite").read_bytes())
    assert row.to_json()["dead_channels"] == row.report["dead_channels"]


def test_of_random_weights_nobody_is_told_to_shrink(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "mobilenetv1-0.1", "--out", str(tmp_path), "--format", "tflite"]) == 0
    assert dead_channels((tmp_path / "model_int8.tflite").read_bytes()) > 0
    assert "tinynas shrink" not in capsys.readouterr().err


# Models of others


@pytest.mark.parametrize(("name", "most", "channels"), [("mlcommons-tiny__vww_96_int8", 50_000, 1_724), ("tinyengine__vww", 479_000, 352)])
def test_models_of_others(name: str, most: int, channels: int, test_data: Path) -> None:
    model = (test_data / "models" / f"{name}.tflite").read_bytes()
    made = shrink_model(model)
    assert made.channels == channels and len(made.model) <= most
    equal(model, made.model, 6)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "m.tflite", tmp_path / "o.tflite"
    path.write_bytes(dummy_file(lower(load_arch("mcunet-tiny2"))))
    out.write_bytes(b"before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tinynas.files.os.fsync", full)
    assert run(["shrink", str(path), "--out", str(out), "--inputs", "1", "--strip-metadata"]) == 2
    said = capsys.readouterr().err
    assert str(out) in said.replace("\n", "") and "No space left" in said and "Traceback" not in said
    assert out.read_bytes() == b"before" and sorted(file.name for file in tmp_path.iterdir()) == ["m.tflite", "o.tflite"]
