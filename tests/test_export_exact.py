"""The exporter's small arithmetic by hand: tables of pixels, scores, metrics, arenas, turned images."""

from __future__ import annotations

import numpy as np
import pytest

from tinynas import metrics
from tinynas.arch import Arch, ConvLayer, MBConv, Pool
from tinynas.errors import ModelFileError, UserError
from tinynas.export.check import expected_operators
from tinynas.export.facts import ModelFacts, input_table, real_outputs
from tinynas.export.firmware import ARENA_MARGIN, ArenaFigures
from tinynas.export.folder import pick_images
from tinynas.export.judge import Rule
from tinynas.export.manifests import identifier
from tinynas.export.pixels import read_pixels
from tinynas.export.rotate import rotate_images
from tinynas.graph import Conv2D, DepthwiseConv2D, Pool2D, lower
from tinynas.inputs import Input

PIXELS = np.arange(256)


def facts(dtype: str, scale: float = 1 / 128, zero_point: int = 0, **metadata: object) -> ModelFacts:
    return ModelFacts((4, 4, 1), dtype, scale, zero_point, 2, "int8", 0.5, -3, (), dict(metadata))  # type: ignore[arg-type]


# Tables of pixels


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "wanted"),
    [
        ("int8", 1 / 128, 0, PIXELS - 128),
        ("uint8", 1 / 128, 128, PIXELS),
        ("int8", 1 / 64, 0, np.rint((PIXELS - 128) / 2)),
        ("int8", 1 / 256, 0, np.clip(2 * (PIXELS - 128), -128, 127)),
        ("uint8", 1 / 256, 128, np.clip(2 * (PIXELS - 128) + 128, 0, 255)),
        ("int8", 1 / 128, 5, np.minimum(PIXELS - 123, 127)),
    ],
)
def test_pixels_on_the_grid_of_the_file(dtype: str, scale: float, zero_point: int, wanted: np.ndarray) -> None:
    table = input_table(facts(dtype, scale, zero_point), Input(4, 4, 1))
    assert table.dtype == dtype and table.tolist() == wanted.tolist()


def test_pixels_of_float_inputs_as_told() -> None:
    plain = facts("float32", 1.0)
    tables = {way: read_pixels(plain, way).table for way in ("auto", "-1..1", "0..1", "0..255", "-128..127")}
    assert tables["auto"].tolist() == tables["-1..1"].tolist() == pytest.approx([p / 127.5 - 1 for p in range(256)], abs=1e-6)
    assert tables["0..255"].tolist() == list(range(256)) and tables["-128..127"].tolist() == list(range(-128, 128))
    assert tables["0..1"].tolist() == pytest.approx([p / 255 for p in range(256)], rel=1e-6)
    assert {table.dtype for table in tables.values()} == {np.dtype(np.float32)}
    # Of a quantised input whose scale is no range of pixels each step is one; that is an assumption.
    for dtype, wanted in (("uint8", range(256)), ("int8", range(-128, 128))):
        odd = read_pixels(facts(dtype, 0.7, 3))
        assert input_table(facts(dtype, 0.7, 3)).tolist() == odd.table.tolist() == list(wanted) and not odd.known


def test_formulas_are_read_back() -> None:
    for source in (Input(4, 6, 3), Input(4, 6, 1, "gray", 1 / 64, 3), Input(4, 6, 2, "features"), Input(4, 6, 1, "features", 0.5, 0)):
        assert Input.read(source.formula, source.shape) == source
    for text in ("(pixel-128)/0", "(pixel-128)/0.0", "(pixel-128)/0e5", "(pixel-1280)/128", "pixel/255", "(pixel-128)/128 ", "", "(x-1)/2"):
        assert Input.read(text, (4, 6, 3)) is None
    assert Input.read("(pixel-128)/1e+02", (4, 6, 3)) == Input(4, 6, 3, "rgb", 0.01, 128)
    assert Input.read("(pixel-0)/0.5", (4, 6, 3)) == Input(4, 6, 3, "rgb", 2.0, 0)
    # What the file says goes before what its grid may mean.
    assert facts("int8", 1 / 64, 0, input="(pixel-128)/128").input == Input(4, 4, 1, "gray")
    assert facts("int8", 1 / 64, 7, input="?").input == Input(4, 4, 1, "gray", 1 / 64, 135)
    assert facts("uint8", 1 / 64, 7, input=3).input == Input(4, 4, 1, "gray", 1 / 64, 7)


def test_what_the_metadata_says() -> None:
    assert facts("int8").input_rotation == 0 and facts("int8").labels == ()
    told = facts("int8", input_rotation=180, labels=["a", 7])
    assert told.input_rotation == 180 and told.labels == ("a", "7")
    odd = facts("int8", input_rotation="180", labels="ab")
    assert odd.input_rotation == 0 and odd.labels == ()


# Scores


def test_outputs_in_real_units() -> None:
    assert real_outputs(np.asarray([[-3, 1, -128]], np.int8), facts("int8")).tolist() == [[0.0, 2.0, -62.5]]


def score(outputs: np.ndarray, truth: np.ndarray, labels: str | tuple[str, ...], above: float = 0.0) -> dict:
    """By the data's order, and a threshold where there is a single output."""
    columns = tuple(range(len(labels)))
    return Rule(tuple(labels), columns, "", threshold=above if outputs.shape[1] == 1 < len(labels) else None).score(outputs, truth)


TRUTH = np.asarray([0, 0, 1, 1, 1], np.int64)


def test_scores_of_two_outputs_by_hand() -> None:
    outputs = np.asarray([[5.0, 4.0], [1.0, 9.0], [0.0, 3.0], [7.0, 6.5], [2.0, 4.0]])
    found = score(outputs, TRUTH, ("no", "yes"))
    # predicted 0 1 1 0 1; differences -1, 8 against 3, -0.5, 2: of 6 pairs 3 are the right way round
    assert found == {
        "accuracy": 0.6,
        "accuracy_interval": list(metrics.wilson(3, 5)),
        "balanced_accuracy": pytest.approx((1 / 2 + 2 / 3) / 2),
        "auc": 0.5,
        "n": 5,
        "confusion": [[1, 1], [1, 2]],
    }


def test_scores_of_one_output_by_hand() -> None:
    logits = np.asarray([[-1.0], [0.0], [0.1], [2.0], [-0.5]])
    found = score(logits, TRUTH, ("no", "yes"))
    assert found["confusion"] == [[2, 0], [1, 2]] and found["accuracy"] == 0.8 and found["auc"] == pytest.approx(5 / 6)
    for bad in (np.nan, np.inf):
        with pytest.raises(ModelFileError, match="not finite"):
            score(np.where(logits == 2.0, bad, logits), TRUTH, ("no", "yes"))


def test_logits_are_made_comparable_and_probabilities_are_left() -> None:
    truth = np.asarray([0, 1, 2], np.int64)
    logits = np.asarray([[9.0, 8.0, 8.0], [0.0, 2.0, 1.0], [0.0, 0.0, 5.0]])
    probabilities = metrics.softmax(logits)
    assert probabilities[1].tolist() == pytest.approx([v / (1 + np.e + np.e**2) for v in (1, np.e**2, np.e)])
    assert score(logits, truth, "abc")["auc"] == 1.0 == score(probabilities, truth, "abc")["auc"]
    # Taken as they are, class 1 would be outscored by image 0: 8 against 2.
    assert metrics.auc(truth, logits) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    # Sums within 0.05 of 1 are probabilities (rounded ones); beyond that, or with a negative value, they are logits.
    near = np.asarray([[0.5, 0.3, 0.24], [0.3, 0.4, 0.34], [0.2, 0.2, 0.6]])
    # As they are: class 1 has 0.4 against 0.3, 0.2; class 0 0.5; class 2 0.6.
    assert score(near, truth, "abc")["auc"] == 1.0
    # Softmax of what already is a probability puts row 1 before row 0 for class 0.
    ranked = np.asarray([[0.5, 0.5, 0.0], [0.48, 0.26, 0.26], [0.0, 0.1, 0.9]])
    assert _areas(metrics.softmax(ranked)) < _areas(ranked)
    for last, taken in (([0.0, 0.1, 0.9], True), ([0.0, 0.1, 0.94], True), ([0.0, 0.1, 0.86], True), ([0.0, 0.1, 0.96], False)):
        rows = np.asarray([*ranked[:2], last])
        assert score(rows, truth, "abc")["auc"] == pytest.approx(_areas(rows if taken else metrics.softmax(rows))), last
    negative = np.asarray([*ranked[:2], [-0.01, 0.11, 0.9]])
    assert score(negative, truth, "abc")["auc"] == pytest.approx(_areas(metrics.softmax(negative)))


def _areas(scores: np.ndarray) -> float:
    """Mean over the classes of the share of pairs that are the right way round, ties half; image i is of class i."""
    areas = []
    for label in range(3):
        pairs = [(scores[label, label], scores[other, label]) for other in range(3) if other != label]
        areas.append(sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs))
    return sum(areas) / 3


def test_metrics_where_a_class_is_missing() -> None:
    table = metrics.confusion(np.asarray([0, 0, 2, 2, 2]), np.asarray([0, 1, 2, 2, 0]), 3)
    assert table == [[1, 1, 0], [0, 0, 0], [1, 0, 2]]
    assert metrics.accuracy(table) == 0.6 and metrics.balanced_accuracy(table) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (
        metrics.auc(np.asarray([1, 1]), np.asarray([0.1, 0.2])) is None and metrics.auc(np.asarray([0, 0]), np.asarray([0.1, 0.2])) is None
    )
    truth, scores = np.asarray([0, 0, 1, 1]), np.asarray([1.0, 2.0, 2.0, 3.0])
    assert metrics.auc(truth, scores) == pytest.approx(3.5 / 4)
    # Three columns, class 2 unseen: the mean of classes 0 and 1.
    three = np.asarray([[3.0, 0.0, 1.0], [2.0, 1.0, 1.0], [1.0, 0.5, 1.0], [2.0, 2.0, 1.0]])
    assert metrics.auc(truth, three) == pytest.approx(((3.5 / 4) + (3 / 4)) / 2)
    assert metrics.auc(np.zeros(2, np.int64), np.ones((2, 3))) is None


def test_agreement_by_class() -> None:
    found = metrics.agreement(np.asarray([0, 1, 1, 2]), np.asarray([0, 0, 1, 2]), np.asarray([0, 0, 1, 1]), ("a", "b", "c"))
    assert found == {"overall": 0.75, "per_class": {"a": 0.5, "b": 1.0, "c": None}}


# Arenas and words of the firmware


def test_arenas_are_rounded_up_with_their_margin() -> None:
    assert ARENA_MARGIN % 16 == 0
    for head, tail, wanted in ((1000, 24, 1024), (1000, 25, 1040), (1000, 39, 1040), (1000, 40, 1040), (0, 1, 16)):
        figures = ArenaFigures(head, tail)
        assert figures.host_bytes == head + tail and figures.host_arena == figures.mcu_arena == wanted + ARENA_MARGIN
    assert ArenaFigures(5000, 10, 33).mcu_arena == 48 + ARENA_MARGIN
    assert ArenaFigures(5000, 10, 33, 64).mcu_arena == 64 + ARENA_MARGIN == ArenaFigures(5000, 10, 64, 33).mcu_arena
    assert ArenaFigures(5000, 10, None, 65).mcu_arena == 80 + ARENA_MARGIN
    words = " ".join(ArenaFigures(5000, 10, 33).explained())
    assert "reference kernels: 5010 (5000 activations" in words and "10 persistent" in words and "33 with reference" in words
    assert "unknown with CMSIS-NN" in words


def test_two_images_for_the_self_test() -> None:
    images = np.arange(4 * 2 * 3).reshape(4, 2, 3, 1).astype(np.uint8)
    two = pick_images(images, np.asarray([1, 1, 0, 0]))
    assert np.array_equal(two, images[[0, 2]]) and two.flags["C_CONTIGUOUS"]
    assert np.array_equal(pick_images(images, np.asarray([1, 0, 0, 1])), images[:2])
    alike = pick_images(images, np.asarray([1, 1, 1, 1]))
    assert np.array_equal(alike[0], images[0]) and alike[1, :, :, 0].tolist() == [[2, 1, 0], [5, 4, 3]], "mirrored left to right"
    with pytest.raises(UserError, match="no images"):
        pick_images(images[:0], np.asarray([], np.int64))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("net", "net_model"), ("model_a", "model_a"), ("a_model", "a_model"), ("7up", "model_7up"), ("", "model")],
)
def test_identifiers(name: str, wanted: str) -> None:
    assert identifier(name) == wanted


# Turning images


def test_turned_images() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    assert rotate_images(image)[:, :, 0].tolist() == [[5, 4, 3], [2, 1, 0]]
    assert rotate_images(image[None])[0, :, :, 0].tolist() == [[5, 4, 3], [2, 1, 0]]


def test_operators_that_a_file_must_hold() -> None:
    blocks = (Pool(op="max", kernel=2, stride=2), Pool(op="avg", kernel=2, stride=2), MBConv(out=8, expand=2, residual=True))
    graph = lower(Arch(height=16, width=16, classes=2, stem=ConvLayer(out=8), blocks=blocks))
    plain = ["CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED"]
    assert expected_operators(graph) == plain
    assert expected_operators(graph, "uint8") == [*plain, "QUANTIZE", "QUANTIZE"]
    assert expected_operators(graph, "float") == [*plain, "QUANTIZE", "DEQUANTIZE"]


# Files


def test_options_in_the_file_are_the_graph_s() -> None:
    from ai_edge_litert import schema_py_generated as schema

    from tinynas.export.tflite import dummy_file

    blocks = (
        MBConv(out=8, kernel=3, expand=2, residual=True),
        MBConv(out=12, kernel=5, expand=2, stride=2),
        Pool(op="max", kernel=2, stride=2),
        Pool(op="avg", kernel=2, stride=1),
    )
    for act in ("relu6", "relu", "none"):
        plain = [block.model_copy(update={"act": act}) if isinstance(block, MBConv) else block for block in blocks]
        arch = Arch(height=16, width=20, classes=3, stem=ConvLayer(out=8, kernel=3, stride=2, act=act), blocks=tuple(plain))
        graph = lower(arch)
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(dummy_file(graph), 0))
        assert model.version == 3 and len(model.subgraphs) == 1
        acts = {"none": 0, "relu": 1, "relu6": 3}
        versions = {}
        for op, written in zip(graph.ops, model.subgraphs[0].operators, strict=True):
            code, options = model.operatorCodes[written.opcodeIndex], written.builtinOptions
            versions[code.deprecatedBuiltinCode] = code.version
            assert max(code.builtinCode, code.deprecatedBuiltinCode) == code.deprecatedBuiltinCode
            if hasattr(op, "act"):
                assert options.fusedActivationFunction == acts[op.act]
            if hasattr(op, "stride"):
                assert (options.strideH, options.strideW) == op.stride
            if isinstance(op, DepthwiseConv2D):
                assert options.depthMultiplier == 1 and (options.dilationHFactor, options.dilationWFactor) == (1, 1)
            if isinstance(op, (Conv2D, DepthwiseConv2D)) and op.kernel != (1, 1):
                assert options.padding == 0, "SAME"
            if isinstance(op, Pool2D):
                assert (options.filterHeight, options.filterWidth) == op.kernel and options.padding == 1, "VALID"
        # conv 3, dw 3, add 2, mean 2, fully connected 4, max pool 2, average pool 2
        assert versions == {3: 3, 4: 3, 0: 2, 40: 2, 9: 4, 17: 2, 1: 2}


def test_a_file_is_held_against_its_integers_and_its_promises() -> None:
    import torch

    from tinynas.cost import estimate, plan_offline
    from tinynas.data import Split
    from tinynas.export.check import Promise, check
    from tinynas.export.sandbox import inspect
    from tinynas.export.tflite import ModelMeta, serialize
    from tinynas.model import normalise
    from tinynas.quantize import FakeQuantNetwork
    from tinynas.quantize.grid import random_quantized

    graph = lower(Arch(height=8, width=8, classes=3, stem=ConvLayer(out=8, kernel=3, stride=2)))
    qgraph = random_quantized(graph, seed=3)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    integers = FakeQuantNetwork(qgraph)(normalise(torch.from_numpy(pixels), graph.input)).numpy().astype(np.int8)
    grid = qgraph.tensors[graph.logits]
    labels = ("a", "b", "c")
    split = Split(pixels, integers.argmax(1).astype(np.int64), tuple("123456"))
    wrong = integers[:4].copy()
    wrong[1, 2] = wrong[1, 2] + 1 if wrong[1, 2] < 127 else 126
    for io in ("int8", "uint8", "float"):
        model = serialize(qgraph, ModelMeta("0" * 10, labels, io=io), plan_offline(graph))
        limit = inspect(model).file.estimate("tflm").sram_bytes
        bad = check(
            model, Promise(graph, io, outputs=(wrong, grid), file_bytes=len(model) + 1, arena_limit=limit - 1), split=split, labels=labels
        )
        assert [problem.split(" ")[0] for problem in bad.problems] == ["1", "the", "the"], bad.problems
        assert bad.problems[0].startswith("1 of 12 outputs differ") and bad.accuracy["int8"] == 1.0 and bad.figures["n"] == 6
        if io == "int8":
            promise = Promise(graph, outputs=(integers, grid), file_bytes=len(model), arena_limit=limit)
            good = check(model, promise, split=split, labels=labels)
            assert good.ok, good.problems
            assert good.arena_bytes["estimated"] == estimate(graph).host_arena_bytes == good.arena_bytes["head"] + good.arena_bytes["tail"]


def test_layers_that_are_not_padded_are_written_as_valid() -> None:
    from dataclasses import replace

    import torch

    from tinynas.export.sandbox import run_tflm
    from tinynas.export.tflite import ModelMeta, serialize
    from tinynas.graph import Padding
    from tinynas.model import normalise
    from tinynas.quantize import FakeQuantNetwork
    from tinynas.quantize.grid import random_quantized

    padded = lower(Arch(height=9, width=8, classes=3, stem=ConvLayer(out=8, kernel=3), blocks=(MBConv(out=6, kernel=3, expand=2),)))
    ops = tuple(replace(op, padding=Padding()) if isinstance(op, (Conv2D, DepthwiseConv2D)) else op for op in padded.ops)
    # stem 9x8 -> 7x6, expand, depthwise -> 5x4, project
    shapes = {ops[0].output: (7, 6, 8), ops[1].output: (7, 6, 16), ops[2].output: (5, 4, 16), ops[3].output: (5, 4, 6)}
    tensors = tuple(replace(tensor, shape=shapes.get(index, tensor.shape)) for index, tensor in enumerate(padded.tensors))
    graph = replace(padded, tensors=tensors, ops=ops, arch=None)
    qgraph = random_quantized(graph, seed=5)
    pixels = np.random.default_rng(5).integers(0, 256, (3, 9, 8, 3), dtype=np.uint8)
    wanted = FakeQuantNetwork(qgraph)(normalise(torch.from_numpy(pixels), graph.input)).numpy()
    assert np.array_equal(run_tflm(serialize(qgraph, ModelMeta("0" * 10, tuple("abc"))), pixels).outputs, wanted)


@pytest.mark.parametrize(
    ("io", "ends", "source", "target"),
    [
        ("int8", [], ("int8", 1 / 128, 0), "int8"),
        ("uint8", ["QUANTIZE", "QUANTIZE"], ("uint8", 1 / 128, 128), "uint8"),
        ("float", ["QUANTIZE", "DEQUANTIZE"], ("float32", 1.0, 0), "float32"),
    ],
)
@pytest.mark.parametrize("flavour", ["full", "lean"])
def test_what_a_file_says_of_itself(flavour: str, io: str, ends: list[str], source: tuple[str, float, int], target: str) -> None:
    from tinynas.export.facts import read_facts
    from tinynas.export.tflite import ModelMeta, serialize
    from tinynas.quantize.grid import random_quantized

    graph = lower(Arch(height=8, width=12, channels=1, classes=3, stem=ConvLayer(out=8, kernel=3, stride=2)))
    qgraph = random_quantized(graph, seed=2)
    meta = ModelMeta("0123456789", ("a", "b", "c"), io=io, flavour=flavour, input_rotation=180)  # type: ignore[arg-type]
    found = read_facts(serialize(qgraph, meta))
    assert found.input_shape == (8, 12, 1) and (found.input_dtype, found.input_scale, found.input_zero_point) == source
    assert found.classes == 3 and found.output_dtype == target
    grid = qgraph.tensors[graph.logits]
    outside = {"int8": (grid.scale, grid.zero_point), "uint8": (grid.scale, grid.zero_point + 128), "float32": (1.0, 0)}[target]
    assert (found.output_scale, found.output_zero_point) == outside
    inner = ["CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert list(found.operators) == (inner if not ends else [ends[0], *inner, ends[1]])
    assert (found.labels, found.input_rotation) == ((("a", "b", "c"), 180) if flavour == "full" else ((), 0))


def test_an_interval_of_one_image_is_wide_and_of_none_unknown() -> None:
    from tinynas.export.card import UNKNOWN, _interval

    # Wilson's interval at 95 %: one right of one is 1 / (1 + 1.96^2) = 20.7 % to 100 %.
    assert _interval(1.0, 1) == "20.7 % to 100.0 %"
    assert _interval(0.5, 0) == _interval(None, 10) == UNKNOWN


def test_the_converter_gets_a_gate_for_every_pixel() -> None:
    from types import SimpleNamespace
    from typing import Any

    from tinynas.export.keras import describe
    from tinynas.export.keras_worker import build
    from tinynas.graph import Builder, Graph, classifier
    from tinynas.inputs import Input

    builder = Builder((6, 4, 3))
    x = builder.pointwise("x", 0, 5, "none")
    y = builder.mul("gate", x, builder.dense("g", builder.mean("m", x), 5, "relu6"))
    logits = classifier(builder, builder.mul("square", y, y), 2)
    graph = Graph(tuple(builder.tensors), tuple(builder.ops), Input(6, 4, 3), (0,), (logits,))
    made: list[tuple[str, tuple[Any, ...]]] = []

    def layer(kind: str) -> Any:
        def make(*arguments: Any, **_: Any) -> Any:
            made.append((kind, arguments))
            value = SimpleNamespace(shape=(1, 5), set_weights=lambda arrays: None)

            class Called:
                shape = (1, 5)

                def __call__(self, read: Any) -> Any:
                    made.append((f"{kind} of", tuple(read) if isinstance(read, list) else (read,)))
                    return value

                def set_weights(self, arrays: Any) -> None:
                    return None

            return Called()

        return make

    names = ("Conv2D", "DepthwiseConv2D", "Dense", "GlobalAveragePooling2D", "Multiply", "Reshape", "ReLU", "Add")
    keras = SimpleNamespace(
        layers=SimpleNamespace(**{name: layer(name) for name in names}), Input=lambda **_: "image", Model=lambda *ends: ends
    )
    weights = {f"{letter}{i}": np.zeros((1, 1, 1, 1) if op.kind == "conv" else (1, 1)) for i, op in enumerate(graph.ops) for letter in "wb"}
    build(keras, np, describe(graph), weights)
    assert [arguments for kind, arguments in made if kind == "Reshape"] == [((1, 1, 5),)]
    products = [read for kind, read in made if kind == "Multiply of"]
    assert len(products) == 2 and all(len(read) == 2 for read in products)


def test_a_file_that_ends_behind_its_mark_is_read_by_the_parser() -> None:
    from tinynas.export.facts import read_facts

    with pytest.raises(ModelFileError, match="no TFL3 identifier"):
        read_facts(b"\0\0\0\0TFL")
    with pytest.raises(ModelFileError, match="no TFL3 mark at byte 4"):
        read_facts(b"\0\0\0\0TFL3")


def test_of_one_class_everything_is_that_class() -> None:
    assert score(np.array([[5.0], [-1.0]]), np.array([0, 0]), ("only",))["confusion"] == [[2]]
