"""Export as a whole: what is written is checked, broken files are refused, evaluation is right."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from corrupt import broken_files
from int8_cases import random_graph

from tinynas.arch import Arch, ConvLayer, MBConv, load_arch
from tinynas.cost import estimate, plan_offline
from tinynas.cost.flash import file_bytes
from tinynas.data import Split
from tinynas.errors import DataError, ModelFileError, TinynasError, UserError
from tinynas.export import EXPORTERS, ExportOptions, build_model, export_model
from tinynas.export.check import check, expected_operators, measure_arena, run_tflm
from tinynas.export.evaluate import evaluate, input_shape, score
from tinynas.export.sandbox import inspect, run_litert
from tinynas.export.sandbox import run_tflm as run_measured
from tinynas.export.tflite import ModelMeta, dummy_file, serialize
from tinynas.graph import lower
from tinynas.model import Network
from tinynas.quantize import fold, quantize
from tinynas.quantize.norms import reestimate_norms
from tinynas.quantize.qat import finish_qat, prepare_qat

LABELS = ("across", "down", "neither")


def stripes(count: int, height: int, width: int, channels: int, seed: int = 0) -> Split:
    """Three classes that a small network learns in seconds: stripes across, stripes down, noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 110, (count, height, width, channels))
    for image, label in zip(images, labels, strict=True):
        step = int(rng.integers(3, 7))
        if label == 0:
            image[::step] += 90
        elif label == 1:
            image[:, ::step] += 90
    return Split(images.astype(np.uint8), labels.astype(np.int64), tuple(map(str, range(count))))


def trained(arch: Arch, split: Split, steps: int = 60) -> Network:
    network = Network(lower(arch), seed=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    x = torch.from_numpy(np.array(split.inputs)).permute(0, 3, 1, 2).float().sub(128).div(128)
    y = torch.from_numpy(split.labels)
    network.train()
    for step in range(steps):
        rows = slice(step * 48 % len(y), step * 48 % len(y) + 48)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()
    reestimate_norms(network, split.inputs)
    return network.eval()


ARCH = Arch(height=20, width=28, channels=1, classes=3, stem=ConvLayer(out=8, stride=2), blocks=(MBConv(out=8, expand=2, residual=True),))


@pytest.fixture(scope="module")
def network() -> Network:
    return trained(ARCH, stripes(384, 20, 28, 1))


@pytest.fixture(scope="module")
def held_out() -> Split:
    return stripes(120, 20, 28, 1, seed=1)


@pytest.mark.parametrize(("io", "flavour"), [("int8", "full"), ("int8", "lean"), ("uint8", "full"), ("float", "lean")])
def test_export_keeps_its_promises(network: Network, held_out: Split, tmp_path: Path, io: Any, flavour: Any) -> None:
    calibration = stripes(128, 20, 28, 1, seed=2).inputs
    options = ExportOptions(io=io, flavour=flavour)
    artifact = export_model(
        network, calibration=calibration, labels=LABELS, out=tmp_path, evaluation=held_out, split_name="test", options=options
    )
    report = json.loads(json.dumps(artifact.to_json(), allow_nan=False))["report"]
    model = (tmp_path / artifact.file).read_bytes()
    assert report["ok"] and report["problems"] == []
    assert artifact.id == ARCH.id and artifact.sha256 == hashlib.sha256(model).hexdigest()
    assert report["flash_bytes"] == {"estimated": len(model), "measured": len(model)}
    assert report["arena_bytes"]["estimated"] == report["arena_bytes"]["measured"] == sum(measure_arena(model))
    assert report["accuracy"]["split"] == "test" and report["accuracy"]["int8"] > 0.9
    assert abs(report["accuracy"]["int8"] - report["accuracy"]["float"]) < 0.05 and report["agreement"]["overall"] > 0.95
    assert set(report["agreement"]["per_class"]) == set(LABELS)
    assert "tflite-micro" in report["kernels"] and set(report["loads"].values()) == {""}
    assert not {"PAD", "TRANSPOSE"} & set(report["operators"]) and ("QUANTIZE" in report["operators"]) == (io != "int8")
    evaluated = evaluate(tmp_path / artifact.file, held_out, LABELS)
    assert set(evaluated) == {"accuracy", "balanced_accuracy", "auc", "n", "confusion", "kernels"}
    assert evaluated["accuracy"] == report["accuracy"]["int8"] and evaluated["n"] == 120
    assert input_shape(tmp_path / artifact.file) == (20, 28, 1)


def test_estimate_before_training_is_the_file_after_it(network: Network) -> None:
    exported = build_model(network, stripes(16, 20, 28, 1).inputs, labels=LABELS)
    cost = estimate(lower(ARCH))
    head, tail = measure_arena(exported.model)
    assert cost.flash_bytes == len(exported.model) == exported.estimated_bytes
    assert cost.head_bytes == head and cost.host_arena_bytes == head + tail


def test_same_weights_same_bytes(network: Network) -> None:
    images = stripes(64, 20, 28, 1).inputs
    assert build_model(network, images, labels=LABELS).model == build_model(fold(network), images, labels=LABELS).model


def test_quantisation_aware_training_is_exported_as_trained(network: Network, held_out: Split, tmp_path: Path) -> None:
    images = stripes(64, 20, 28, 1).inputs
    module = prepare_qat(network, images)
    qgraph = finish_qat(module)
    artifact = export_model(
        module.floats(), calibration=images, labels=LABELS, out=tmp_path, evaluation=held_out, split_name="val", qgraph=qgraph
    )
    assert artifact.report["ok"] and artifact.report["quantization"]["trained"]
    assert (tmp_path / artifact.file).read_bytes() == serialize(qgraph, ModelMeta(ARCH.id, LABELS), plan_offline(qgraph.graph))


def test_what_is_wrong_with_a_file_is_said(network: Network, held_out: Split) -> None:
    graph = network.graph
    model = build_model(network, held_out.inputs[:16], labels=LABELS).model
    other = lower(Arch(height=20, width=28, channels=1, classes=3, stem=ConvLayer(out=8, stride=2)))
    assert "operators differ" in " ".join(check(model, other).problems)
    assert "were promised" in " ".join(check(model, graph, estimated_bytes=1).problems)
    wrong = np.zeros((2, 3), np.int8)
    grid = quantize(fold(network), held_out.inputs[:16]).tensors[graph.logits]
    report = check(model, graph, split=held_out, labels=LABELS, split_name="val", expected=(wrong, grid))
    assert any("outputs differ" in problem for problem in report.problems) and not report.ok
    assert any("does not fit" in problem for problem in check(model, graph, arena_limit=1000).problems)
    plain = dummy_file(graph)
    assert any("promised" in problem for problem in check(plain, graph, planned=True).problems) == (
        measure_arena(plain)[0] > estimate(graph).head_bytes
    )
    with pytest.raises(ModelFileError, match="reads images"):
        check(dummy_file(lower(Arch(height=8, width=8, classes=3, stem=ConvLayer(out=8)))), graph)


def test_expected_operators_name_each_kind() -> None:
    names = {name for seed in range(30) for name in expected_operators(random_graph(seed))}
    assert names == {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "MAX_POOL_2D", "AVERAGE_POOL_2D"}
    assert expected_operators(random_graph(0), "float")[-2:] == ["QUANTIZE", "DEQUANTIZE"]


@pytest.mark.parametrize("name", sorted(EXPORTERS))
def test_exporters_contract(name: str, network: Network, held_out: Split, tmp_path: Path) -> None:
    options = ExportOptions(exporter=name)
    try:
        artifact = export_model(
            network, calibration=held_out.inputs, labels=LABELS, out=tmp_path, evaluation=held_out, split_name="val", options=options
        )
    except UserError as error:
        assert error.hint, "what is missing comes with the line that installs it"
        pytest.skip(f"{name}: {error.message}")
    assert artifact.report["ok"], artifact.report["problems"]
    assert artifact.report["exporter"] == name and artifact.report["agreement"]["overall"] > 0.9


def test_unknown_exporters_and_misfits_are_the_users_fault(network: Network, held_out: Split) -> None:
    with pytest.raises(UserError, match="known: tinynas, tensorflow"):
        build_model(network, held_out.inputs, options=ExportOptions(exporter="onnx"))
    with pytest.raises(DataError, match="calibration images"):
        build_model(network, held_out.inputs[:, :10])


def test_export_module_is_light() -> None:
    code = "import sys, tinynas.export; print([m for m in ('torch', 'numpy', 'tflite_micro') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert done.stdout.strip() == "[]"


# Broken and foreign files


def survive(model: bytes) -> str:
    """What becomes of a file: never anything but a TinynasError or outputs."""
    try:
        inspected = inspect(model)
        images = np.full((1, *inspected.facts.input_shape), 128, np.uint8)
        run_measured(inspected, images)
        run_litert(inspected, images)
    except TinynasError as error:
        assert error.message and "Traceback" not in str(error)
        return "refused"
    return "ran"


def test_broken_files_are_refused_or_run_safely() -> None:
    good = dummy_file(lower(load_arch("mcunet-tiny2")), plan=plan_offline(lower(load_arch("mcunet-tiny2"))))
    results = [survive(model) for _, model in broken_files(good, count=40, seed=1)]
    assert results.count("refused") > 20


@pytest.mark.slow
def test_200_broken_files_are_refused_or_run_safely() -> None:
    graph = lower(ARCH)
    results = [survive(model) for _, model in broken_files(dummy_file(graph, plan=plan_offline(graph)), count=200, seed=2)]
    assert results.count("refused") > 100


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed on the model \(SIGSEGV\)"),
        ("import sys; sys.exit(3)", r"crashed on the model \(exit 3\)"),
        ("import time; time.sleep(60)", "did not finish"),
    ],
)
def test_a_crash_of_the_interpreter_is_contained(script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # About one in 200 broken files gets past all checks and crashes the interpreter; which one depends on its version.
    worker = tmp_path / "worker.py"
    worker.write_text(script)
    sandbox = import_module("tinynas.export.sandbox")
    monkeypatch.setattr(sandbox, "_WORKER", worker)
    monkeypatch.setattr(sandbox, "START_SECONDS", 2.0)
    monkeypatch.setattr(sandbox, "IMAGE_SECONDS", 0.0)
    with pytest.raises(ModelFileError, match=said):
        measure_arena(dummy_file(lower(ARCH)))


def test_images_that_do_not_fit_the_model(held_out: Split, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(dummy_file(lower(ARCH)))
    with pytest.raises(DataError, match="the model reads"):
        evaluate(path, stripes(4, 8, 8, 1), LABELS)
    with pytest.raises(DataError, match="3 outputs, the data 2 classes"):
        evaluate(path, held_out, ("a", "b"))
    with pytest.raises(DataError, match="no image"):
        evaluate(path, held_out.take([]), LABELS)
    with pytest.raises(ModelFileError, match="none"):
        evaluate(tmp_path / "none.tflite", held_out, LABELS)
    (tmp_path / "text.tflite").write_text("not a model")
    with pytest.raises(ModelFileError, match=r"text\.tflite"):
        evaluate(tmp_path / "text.tflite", held_out, LABELS)


# Evaluation


def test_rotated_models_see_rotated_images(network: Network, held_out: Split, tmp_path: Path) -> None:
    quantized = quantize(fold(network), held_out.inputs)
    upright, turned = tmp_path / "upright.tflite", tmp_path / "turned.tflite"
    upright.write_bytes(serialize(quantized, ModelMeta(ARCH.id, LABELS)))
    turned.write_bytes(serialize(quantized, ModelMeta(ARCH.id, LABELS, input_rotation=180)))
    labels = np.random.default_rng(0).integers(0, 3, len(held_out))  # with random labels the AUC tells any two models apart
    split = Split(held_out.inputs, labels, held_out.names)
    rotated = Split(np.ascontiguousarray(held_out.inputs[:, ::-1, ::-1]), labels, held_out.names)
    assert evaluate(upright, split, LABELS) == evaluate(turned, rotated, LABELS)
    assert evaluate(turned, split, LABELS)["auc"] != evaluate(upright, split, LABELS)["auc"]


def test_several_processes_give_the_same() -> None:
    graph = lower(ARCH)
    images = stripes(30, 20, 28, 1).inputs
    model = dummy_file(graph)
    np.testing.assert_array_equal(run_tflm(model, images, workers=3), run_tflm(model, images))


def test_scores_of_one_output_and_of_probabilities() -> None:
    truth = np.array([0, 1, 1, 0])
    single = score(np.array([[-1.0], [2.0], [-0.5], [0.3]]), truth, ("no", "yes"))
    assert single["accuracy"] == 0.5 and single["confusion"] == [[1, 1], [1, 1]] and single["auc"] == 0.75
    double = score(np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]]), truth, ("no", "yes"))
    assert double["accuracy"] == 1.0 and double["auc"] == 1.0 and double["balanced_accuracy"] == 1.0
    with pytest.raises(ModelFileError, match="not finite"):
        score(np.array([[np.nan, 1.0]]), np.array([0]), ("no", "yes"))


# Real models


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlcommons-tiny__vww_96_int8.tflite", (96, 96, 3)),
        ("tflite-micro__person_detect.tflite", (96, 96, 1)),
        ("wake-vision-zoo__wv_quality_k_4_c_5.tflite", None),
        ("st-modelzoo-v2__mobilenet_v1_0.25_96_tfs_int8.tflite", None),
    ],
)
def test_models_of_others_are_evaluated(test_data: Path, name: str, shape: tuple[int, int, int] | None) -> None:
    path = test_data / "models" / name
    found = input_shape(path)
    assert shape is None or found == shape
    classes = inspect(path.read_bytes()).facts.classes
    images = np.random.default_rng(0).integers(0, 256, (4, *found), dtype=np.uint8)
    result = evaluate(path, Split(images, np.array([0, 1, 1, 0]), ("a", "b", "c", "d")), tuple(map(str, range(max(2, classes)))))
    assert result["n"] == 4 and 0 <= result["accuracy"] <= 1 and "tflite-micro" in result["kernels"]


def test_person_detection_sees_the_person(test_data: Path) -> None:
    folder = test_data / "images" / "tflm_bmp_96x96_gray"
    images = np.stack([cv2.imread(str(folder / f"{name}.bmp"), cv2.IMREAD_GRAYSCALE) for name in ("no_person", "person")])
    # TFLM's own test takes the bitmap's bytes for int8 as they are; adding 128 undoes our pixel - 128.
    split = Split((images.astype(np.int64) + 128).astype(np.uint8)[..., None], np.array([0, 1]), ("no_person", "person"))
    result = evaluate(test_data / "models" / "tflite-micro__person_detect.tflite", split, ("no_person", "person"))
    assert result["accuracy"] == 1.0 and result["auc"] == 1.0


def test_file_size_is_pure_arithmetic_and_fast() -> None:
    import time

    graph = lower(load_arch("mcunet-tiny2"))
    file_bytes(graph)
    started = time.process_time()
    for _ in range(1000):
        file_bytes(graph)
    assert time.process_time() - started < 0.5  # 20,000 a second and more on a quiet core
