"""The .tflite writer: exact size before training, canonical bytes, a layout that every runtime loads."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from int8_cases import random_graph

from tinynas.arch import Arch, ConvLayer, load_arch
from tinynas.cost import plan_greedy, plan_offline
from tinynas.cost.flash import LABEL_BYTES, constant_bytes, file_bytes, houses_table, metadata_json, total_bytes, weighted_terms
from tinynas.errors import ArchError
from tinynas.export.sandbox import load_litert, run_tflm
from tinynas.export.tflite import ModelMeta, dummy_file, serialize
from tinynas.graph import Conv2D, FullyConnected, Graph, Mean, Padding, Tensor, lower
from tinynas.inputs import Input
from tinynas.quantize.grid import random_quantized

FORMS = list(product(("int8", "uint8", "float"), ("full", "lean"), (True, False)))


@pytest.mark.parametrize("seed", range(60))
def test_size_is_known_before_training(seed: int) -> None:
    graph = random_graph(seed)
    quantized, plan, labels = random_quantized(graph, seed=seed), plan_offline(graph), tuple(map(str, range(graph.classes)))
    for io, flavour, planned in FORMS:
        meta = ModelMeta("0" * 10, labels, io=io, flavour=flavour)  # type: ignore[arg-type]
        written = len(serialize(quantized, meta, plan if planned else None))
        assert written == file_bytes(graph, io=io, flavour=flavour, plan=planned), (io, flavour, planned)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_size_is_known_before_training_300(seed: int) -> None:
    graph = random_graph(seed, small=False)
    assert len(dummy_file(graph, plan=plan_offline(graph), seed=seed)) == file_bytes(graph)


@pytest.mark.parametrize("name", ["mcunet-tiny2", "mcunet-vww1", "mobilenetv2-1.0", "colabnas-k8c5", "mobilenetv1-0.25"])
def test_size_of_the_zoo(name: str) -> None:
    graph = lower(load_arch(name))
    assert len(dummy_file(graph, plan=plan_offline(graph))) == file_bytes(graph)


def test_labels_count_only_where_they_are_long() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    unknown = file_bytes(graph, plan=False)
    for labels in (("no", "yes"), ("no_person", "person"), ("é", "ü" * 3)):
        assert len(dummy_file(graph, labels=labels)) == file_bytes(graph, labels=labels, plan=False) == unknown
    long = ("a label of more than twelve characters", "x")
    assert len(dummy_file(graph, labels=long)) == file_bytes(graph, labels=long, plan=False) > unknown
    formula = graph.input.formula
    short, full = ("a",) * 5, ("b" * (LABEL_BYTES - 3),) * 5
    assert len(metadata_json(short, classes=5, formula=formula)) == len(metadata_json(full, classes=5, formula=formula))


def test_size_functions_work_on_arrays() -> None:
    weights = np.array([27 * 8, 144, 17, 64])
    out = np.array([8, 16, 1, 4])
    arrays = weighted_terms("conv", weights, out, 9, full=True)
    for row in range(4):
        single = weighted_terms("conv", int(weights[row]), int(out[row]), 9, full=True)
        assert [int(np.broadcast_to(term, 4)[row]) for term in arrays] == list(single)
    constants = np.arange(1, 100)
    assert [constant_bytes(int(n)) for n in constants] == constant_bytes(constants).tolist()
    assert [houses_table(int(n)) for n in constants] == houses_table(constants).tolist()
    assert (constant_bytes(constants) % 16 == 0).all()
    assert total_bytes(arrays).tolist() == [
        total_bytes(weighted_terms("conv", int(w), int(o), 9, full=True)) for w, o in zip(weights, out, strict=True)
    ]


def test_same_input_same_bytes() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    quantized = random_quantized(graph, seed=3)
    meta = ModelMeta("0123456789", ("no", "yes"))
    first = serialize(quantized, meta, plan_offline(graph))
    assert first == serialize(quantized, meta, plan_offline(graph))
    code = (
        "from tinynas.arch import load_arch; from tinynas.graph import lower; from tinynas.cost import plan_offline\n"
        "from tinynas.export.tflite import ModelMeta, serialize; from tinynas.quantize.grid import random_quantized\n"
        "import hashlib; g = lower(load_arch('mcunet-tiny2'))\n"
        "f = serialize(random_quantized(g, seed=3), ModelMeta('0123456789', ('no', 'yes')), plan_offline(g))\n"
        "print(hashlib.sha256(f).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert done.stdout.strip() == hashlib.sha256(first).hexdigest()


def test_writing_needs_no_torch_and_no_interpreter() -> None:
    code = (
        "import sys; from tinynas.export.tflite import dummy_file; from tinynas.arch import load_arch; from tinynas.graph import lower\n"
        "dummy_file(lower(load_arch('mcunet-tiny2')))\n"
        "print([m for m in ('torch', 'flatbuffers', 'ai_edge_litert', 'tflite_micro', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert done.stdout.strip() == "[]"


def parsed(model: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))


def test_contents_are_what_was_given() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    quantized = random_quantized(graph, seed=1)
    model = parsed(serialize(quantized, ModelMeta(graph.arch.id, ("no", "yes")), plan_offline(graph)))
    body = model.subgraphs[0]
    assert model.version == 3
    assert list(body.inputs) == [graph.inputs[0]] and list(body.outputs) == [graph.logits]
    for tensor, spec in enumerate(graph.tensors):
        written = body.tensors[tensor]
        assert list(written.shape) == [1, *spec.shape] and written.name.decode() == spec.name
        assert written.quantization.scale[0] == np.float32(quantized.tensors[tensor].scale)
        assert written.quantization.zeroPoint[0] == quantized.tensors[tensor].zero_point
    names = {t.name.decode(): t for t in body.tensors}
    assert len(names) == len(body.tensors), "names are unique"
    for op in graph.ops:
        if op.name in quantized.weights:
            weights, bias = names[f"{op.name}.w"], names[f"{op.name}.b"]
            data = model.buffers[weights.buffer].data.astype(np.int8).reshape(weights.shape)
            np.testing.assert_array_equal(data, quantized.weights[op.name])
            np.testing.assert_array_equal(model.buffers[bias.buffer].data.view(np.int32), quantized.biases[op.name])
            np.testing.assert_array_equal(weights.quantization.scale, quantized.weight_scales[op.name])
            np.testing.assert_array_equal(bias.quantization.scale, quantized.bias_scales(op.name))
            assert len(weights.quantization.zeroPoint) == len(weights.quantization.scale)
            assert not weights.quantization.zeroPoint.any() and not bias.quantization.zeroPoint.any()
    entries = {m.name.decode(): bytes(model.buffers[m.buffer].data) for m in model.metadata}
    document = json.loads(entries["tinynas"])
    assert document["labels"] == ["no", "yes"] and document["arch"] == graph.arch.id and document["input"] == "(pixel-128)/128"
    plan = np.frombuffer(entries["OfflineMemoryAllocation"], np.int32)
    assert plan[:3].tolist() == [1, 0, len(body.tensors)] and len(plan) == 3 + len(body.tensors)
    assert plan[3 : 3 + len(graph.tensors)].tolist() == list(plan_offline(graph).offsets) and (plan[3 + len(graph.tensors) :] == -1).all()


@pytest.mark.parametrize("seed", range(8))
def test_contents_of_constants_are_aligned(seed: int) -> None:
    from ai_edge_litert import schema_py_generated as schema

    data = dummy_file(random_graph(seed), seed=seed)
    model = schema.Model.GetRootAs(data, 0)
    seen = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            at = buffer._tab.Vector(buffer._tab.Offset(4))
            assert at % 16 == 0
            seen.append((at, at + buffer.DataLength()))
    seen.sort()
    assert all(end <= begin for (_, end), (begin, _) in pairwise(seen)), "contents overlap"
    assert len(data) - seen[-1][1] < 32


def test_lean_has_no_names_and_no_metadata() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    lean, full = dummy_file(graph, flavour="lean"), dummy_file(graph)
    model = parsed(lean)
    assert not model.metadata and all(not t.name for t in model.subgraphs[0].tensors)
    assert len(lean) < 0.9 * len(full)
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    np.testing.assert_array_equal(run_tflm(lean, images).outputs, run_tflm(full, images).outputs)


@pytest.mark.parametrize(("io", "flavour"), [("int8", "full"), ("int8", "lean"), ("uint8", "full"), ("float", "full")])
def test_loads_everywhere_and_types_agree(io: str, flavour: str) -> None:
    arch = Arch(height=20, width=33, channels=1, classes=3, stem=ConvLayer(out=8, stride=2), head=ConvLayer(out=12, kernel=1))
    graph = lower(arch)
    model = dummy_file(graph, io=io, flavour=flavour, seed=5)
    assert load_litert(model) == {"AUTO": "", "BUILTIN_REF": "", "BUILTIN_WITHOUT_DEFAULT_DELEGATES": ""}
    images = np.random.default_rng(1).integers(0, 256, (8, 20, 33, 1), dtype=np.uint8)
    outputs = run_tflm(model, images).outputs
    integers = run_tflm(dummy_file(graph, seed=5), images).outputs.astype(np.int64)
    if io == "float":
        grid = random_quantized(graph, seed=5).tensors[graph.logits]
        np.testing.assert_allclose(outputs, (integers - grid.zero_point) * grid.scale, rtol=1e-6)
    else:
        np.testing.assert_array_equal(outputs.astype(np.int64) - (128 if io == "uint8" else 0), integers)


@pytest.mark.parametrize("seed", [2, 5, 11, 17])
def test_offline_plan_changes_no_output_and_never_needs_more(seed: int) -> None:
    graph = random_graph(seed)
    images = np.random.default_rng(seed).integers(0, 256, (4, *graph.input.shape), dtype=np.uint8)
    planned = run_tflm(dummy_file(graph, plan=plan_offline(graph), seed=seed), images)
    greedy = run_tflm(dummy_file(graph, seed=seed), images)
    np.testing.assert_array_equal(planned.outputs, greedy.outputs)
    assert planned.head_bytes == plan_offline(graph).head_bytes <= greedy.head_bytes == plan_greedy(graph).head_bytes


def conv_graph(padding: Padding, out: tuple[int, int], *, kernel: int = 3, stride: int = 2) -> Graph:
    tensors = (Tensor("input", (9, 9, 3)), Tensor("conv", (*out, 4)), Tensor("pool", (4,)), Tensor("logits", (2,)))
    ops = (
        Conv2D("conv", (0,), 1, 3, 4, (kernel, kernel), (stride, stride), padding, "relu6"),
        Mean("pool", (1,), 2),
        FullyConnected("fc", (2,), 3, 4, 2),
    )
    return Graph(tensors, ops, Input(9, 9, 3), (0,), (3,))


def test_unpadded_convolutions_are_valid_ones() -> None:
    graph = conv_graph(Padding(), (4, 4))
    model = dummy_file(graph)
    assert len(model) == file_bytes(graph, plan=False)
    assert parsed(model).subgraphs[0].operators[0].builtinOptions.padding == 1
    images = np.zeros((1, 9, 9, 3), np.uint8)
    assert run_tflm(model, images).outputs.shape == (1, 2)


def test_paddings_that_tflite_lacks_are_refused() -> None:
    with pytest.raises(ArchError, match="conv: its padding"):
        dummy_file(conv_graph(Padding(2, 2, 2, 2), (5, 5)))


def test_rotation_is_written_at_no_cost() -> None:
    quantized = random_quantized(lower(load_arch("mcunet-tiny2")))
    plain, turned = (serialize(quantized, ModelMeta("0123456789", ("no", "yes"), input_rotation=degrees)) for degrees in (0, 180))
    assert len(plain) == len(turned)
    entry = parsed(turned).metadata[0]
    assert json.loads(bytes(parsed(turned).buffers[entry.buffer].data))["input_rotation"] == 180
