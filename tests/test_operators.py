"""Every operator is in every table, and what no table knows is refused by each: nothing answers with nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tinynas.cost import RUNTIMES, estimate
from tinynas.cost.builds import BUILDS
from tinynas.cost.flash import OP_FORMS, file_bytes, op_terms
from tinynas.cost.latency import KINDS as LATENCY_KINDS
from tinynas.cost.latency import kind_of, macs_by_kind
from tinynas.cost.patches import _back
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.tail import graph_options, kernel_data, unknown_tails
from tinynas.cost.tally import tally
from tinynas.cost.tflite import parse_model
from tinynas.cost.work import from_graph
from tinynas.errors import InternalError, TinynasError
from tinynas.export import keras_worker
from tinynas.export.firmware import RESOLVER_METHODS
from tinynas.export.keras import describe
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.graph import WEIGHTED, Builder, Graph, Kind, Op
from tinynas.inputs import Input
from tinynas.model import Network
from tinynas.quantize.calibrate import grids, quantize
from tinynas.quantize.equalize import _carries, equalize
from tinynas.quantize.fake import FakeQuantNetwork
from tinynas.quantize.floats import FloatRunner, fold
from tinynas.quantize.grid import QuantizedGraph, random_quantized
from tinynas.report.net_figures import KINDS, draw_strip, strip_info

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 12, 3), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Negate:
    """No operator of ours, but with every field that one may have."""

    name: str
    inputs: tuple[int, ...]
    output: int
    act: str = "none"
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    in_channels: int = 8
    out_channels: int = 8
    channels: int = 8
    in_features: int = 8
    out_features: int = 8
    bn: bool = False
    kind: str = "negate"


def everything(*, stranger: bool = False) -> Graph:
    """A small graph that holds every operator, and a ``stranger``; not square, so that no axis can stand for the other."""
    build = Builder((16, 12, 3))
    x = build.conv("stem", 0, 8, (3, 5), (2, 2), "relu6")
    wide = build.depthwise("dw", x, (5, 3), (1, 1), "relu")
    summed = build.add("add", x, build.pointwise("project", wide, 8, "none"))
    if stranger:
        negated = build.tensor("negate", build.shape(summed))
        build.ops.append(Negate("negate", (summed,), negated))  # type: ignore[arg-type]
        summed = negated
    gate = build.dense("gate", build.mean("squeeze", summed), 8, "relu6")
    gated = build.mul("mul", summed, gate)
    wide = build.resize("wide", build.hard_swish("swish", build.largest("largest", gated, (3, 2), (3, 2))), build.shape(gated))
    small = build.pool("average", build.mul("equal", gated, wide), "avg", (2, 2), (1, 1))
    logits = build.dense("fc", build.mean("pool", small), 3)
    return Graph(tuple(build.tensors), tuple(build.ops), Input(16, 12, 3, "rgb"), (0,), (logits,))


GRAPH = everything()
OPS = [pytest.param(op, id=op.name) for op in GRAPH.ops]


def test_the_graph_holds_every_operator_and_every_kind() -> None:
    assert {type(op) for op in GRAPH.ops} == set(get_args(Op))
    assert {op.kind for op in GRAPH.ops} == set(get_args(Kind))


# every operator is in every table ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_is_in_every_table(kind: Kind) -> None:
    assert RESOLVER_METHODS[OP_FORMS[kind].builtin].startswith("Add")
    assert KINDS[kind]
    for build in BUILDS:
        size, alignment = graph_options(kind, build)
        assert (size > 0) == (kind != "hard_swish") and alignment > 0  # which has none
        assert (kernel_data(kind, build) > 0) == (kind != "resize")  # whose kernel keeps nothing


def test_no_table_of_ours_has_a_kind_that_no_operator_has() -> None:
    assert set(OP_FORMS) == set(get_args(Kind))
    assert set(KINDS) == {*get_args(Kind), "input"}


@pytest.mark.parametrize("op", OPS)
def test_every_operator_is_known_to(op: Op) -> None:
    work = from_graph(GRAPH)
    index = GRAPH.ops.index(op)
    piece = work.pieces[index]
    assert (piece.kind, piece.name, piece.inputs, piece.outputs) == (op.kind, op.name, op.inputs, (op.output,))
    assert (piece.macs > 0) == isinstance(op, WEIGHTED) == (piece.weights > 0)
    if piece.macs:
        assert kind_of(piece.kind, piece.kernel) in LATENCY_KINDS
    terms = op_terms(op, GRAPH.shape(op.inputs[0]), GRAPH.shape(op.output), op.name, full=True, shares_shape=False)
    assert terms.terms.front > 0
    assert all((kernel_data(piece.kind, build) > 0) == (piece.kind != "resize") for build in BUILDS)
    assert isinstance(_carries(op), bool)
    if len(GRAPH.shape(op.inputs[0])) == 3 and len(GRAPH.shape(op.output)) == 3 and op.kind != "resize":  # which no patch plan takes
        least, most = _back(op, (0, 1), GRAPH.shape(op.inputs[0])[0], 0)
        assert 0 <= least < most


@pytest.mark.parametrize("runtime", [name for name, runtime in RUNTIMES.items() if not runtime.stream])
def test_all_operators_together_are_costed(runtime: str) -> None:
    cost = estimate(GRAPH, runtime, core="cortex-m7", clock_mhz=100.0)
    assert len(cost.layers) == len(GRAPH.ops)
    assert cost.macs == sum(macs_by_kind(cost.work.pieces)) > 0
    assert cost.unknown == ()
    assert unknown_tails(cost.work) == ()
    info = strip_info(GRAPH, cost)
    assert [segment.kind for segment in info.segments[1:]] == [op.kind for op in GRAPH.ops]
    assert draw_strip(info)["data"]


def test_all_operators_together_are_quantized_alike_by_every_route() -> None:
    floats = fold(Network(GRAPH, seed=0).eval())
    x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float().sub(128).div(128)
    logits = FloatRunner(floats).run(x)
    assert torch.allclose(logits, Network(GRAPH, seed=0).eval()(x), atol=1e-4)
    moved = FloatRunner(equalize(floats, IMAGES)).run(x)
    assert torch.allclose(moved, logits, atol=1e-3)
    quantized = quantize(floats, IMAGES)
    fake = FakeQuantNetwork(quantized)
    step = quantized.tensors[GRAPH.logits].scale
    assert float((fake.real(fake(x)) - logits).abs().max()) < max(24 * step, 0.3 * float(logits.abs().max()))
    model = serialize(quantized, ModelMeta("0", labels=("a", "b", "c")), None)
    assert [op.kind for op in parse_model(model).ops] == [OP_FORMS[op.kind].builtin for op in GRAPH.ops]


def test_random_integers_know_every_operator() -> None:
    quantized = random_quantized(GRAPH)
    assert set(quantized.weights) == {op.name for op in GRAPH.ops if isinstance(op, WEIGHTED)}
    assert len(quantized.tensors) == len(GRAPH.tensors)


class _Layers:
    """Keras's layers by name: each answers with a record of how it was made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def make(*_: Any, **options: Any) -> Any:
            self.made.append(name)
            return _Layer()

        return make


class _Layer:
    shape = (1, 8)

    def __call__(self, *_: Any) -> _Layer:
        return self

    def set_weights(self, arrays: list[Any]) -> None:
        assert all(array.size for array in arrays)


class _Keras:
    def __init__(self) -> None:
        self.layers = _Layers()

    def Input(self, **_: Any) -> _Layer:
        return _Layer()

    def Model(self, *_: Any) -> _Layer:
        return _Layer()


def test_the_worker_for_tensorflow_makes_a_layer_of_every_operator() -> None:
    floats = fold(Network(GRAPH).eval())
    weights = {
        f"{letter}{i}": table[op.name]
        for i, op in enumerate(GRAPH.ops)
        for letter, table in (("w", floats.weights), ("b", floats.biases))
        if op.name in table
    }
    keras = _Keras()
    keras_worker.build(keras, np, describe(GRAPH), weights)
    layers = {"Conv2D", "DepthwiseConv2D", "Add", "Multiply", "Dense", "GlobalAveragePooling2D", "MaxPooling2D", "AveragePooling2D"}
    layers |= {"Activation", "Lambda"}
    assert layers <= set(keras.layers.made)
    odd = describe(GRAPH)
    odd["ops"][0]["kind"] = "negate"
    with pytest.raises(ValueError, match="unknown operator negate"):
        keras_worker.build(_Keras(), np, odd, weights)


# what no table knows is refused -------------------------------------------------------------------------


STRANGE = everything(stranger=True)
NEGATE: Any = next(op for op in STRANGE.ops if op.name == "negate")


def _integers() -> QuantizedGraph:
    known = random_quantized(GRAPH)
    tensors = list(known.tensors)
    tensors.insert(NEGATE.output, tensors[NEGATE.inputs[0]])
    return replace(known, graph=STRANGE, tensors=tuple(tensors))


def _tally() -> None:
    build = Builder(GRAPH.input.shape)
    build.tensors, build.ops = list(STRANGE.tensors), list(STRANGE.ops)
    tally(build, STRANGE.logits, runtime_named("tflm"))


REFUSALS: dict[str, Callable[[], object]] = {
    "work": lambda: from_graph(STRANGE),
    "estimate": lambda: estimate(STRANGE),
    "tally": _tally,
    "file size": lambda: file_bytes(STRANGE),
    "terms": lambda: op_terms(NEGATE, (8, 6, 8), (8, 6, 8), "negate", full=True, shares_shape=False),
    "latency": lambda: macs_by_kind([replace(from_graph(GRAPH).pieces[0], kind="negate")]),
    "patches": lambda: _back(NEGATE, (0, 1), 8, 0),
    "model": lambda: Network(STRANGE),
    "float arithmetic": lambda: FloatRunner(replace(fold(Network(GRAPH)), graph=STRANGE)).run(torch.zeros(1, 3, 16, 12)),
    "equalization": lambda: equalize(replace(fold(Network(GRAPH)), graph=STRANGE), IMAGES),
    "what carries a factor": lambda: _carries(NEGATE),
    "activation grids": lambda: grids(STRANGE, [(-1.0, 1.0)] * len(STRANGE.tensors)),
    "quantizer": lambda: quantize(replace(fold(Network(GRAPH)), graph=STRANGE), IMAGES),
    "random integers": lambda: random_quantized(STRANGE),
    "integer arithmetic": lambda: FakeQuantNetwork(_integers()),
    "file": lambda: serialize(_integers(), ModelMeta("0"), None),
    "keras": lambda: describe(STRANGE),
    "pictures": lambda: strip_info(STRANGE, _cost_of_the_stranger()),
}


def _cost_of_the_stranger() -> Any:
    # The cost refuses it already: the picture must too, whatever rows it gets.
    return type("Rows", (), {"layers": estimate(GRAPH).layers + estimate(GRAPH).layers[:1]})()


def test_the_tail_of_an_unknown_operator_is_named_as_not_known() -> None:
    # Files of others may hold anything: what their operators add to the tail is not guessed, and not passed over.
    work = from_graph(GRAPH)
    strange = replace(work, pieces=(*work.pieces, replace(work.pieces[0], kind="negate")))
    assert unknown_tails(strange) == ("negate",)


@pytest.mark.parametrize("where", REFUSALS)
def test_an_unknown_operator_is_refused_by(where: str) -> None:
    # A match that ends, an error of ours, or a table that has no such key; each names it.
    with pytest.raises((AssertionError, KeyError, TinynasError)) as caught:
        REFUSALS[where]()
    said = str(caught.value)
    assert "negate" in said.lower(), said
    expected = isinstance(caught.value, InternalError) or said == "'negate'" or "Expected code to be unreachable" in said
    assert expected, said
