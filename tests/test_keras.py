"""The second opinion: TensorFlow's converter on the same folded weights, and its faults.

Tests that convert need TensorFlow: in this interpreter, or in the one that TINYNAS_TENSORFLOW_PYTHON names.
"""

from __future__ import annotations

import functools
import json
import stat
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable
from tinynas.errors import InternalError, MissingExtraError, UserError
from tinynas.export import keras as second
from tinynas.graph import Conv2D, DepthwiseConv2D, FullyConnected, Graph, Padding, lower
from tinynas.model import Network, normalise

ARCH = Arch(
    height=20,
    width=27,
    channels=3,
    classes=4,
    stem=ConvLayer(out=8, stride=2),
    blocks=(
        MBConv(out=8, kernel=5, expand=3, residual=True),
        MBConv(out=12, kernel=3, stride=2, expand=2, act="relu"),
        Separable(out=16, kernel=3, stride=1),
        Pool(op="avg", kernel=2, stride=2),
    ),
    head=ConvLayer(out=24, kernel=1),
)


@functools.cache
def tensorflow_available() -> bool:
    code = "import importlib.util as u, sys; sys.exit(u.find_spec('tensorflow') is None)"
    return subprocess.run([second.tensorflow_python(), "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


needs_tensorflow = pytest.mark.skipif(
    not tensorflow_available(), reason=f"tensorflow is not installed ({second.INSTALL_LINE}, or set {second.PYTHON_VARIABLE})"
)


def trained(graph: Graph, seed: int = 0) -> Network:
    """A network with statistics that real batches gave, so that its activations are in range."""
    network = Network(graph, seed=seed)
    network.train()
    images = pictures(graph, 64, seed)
    with torch.no_grad():
        for _ in range(20):
            network(normalise(torch.from_numpy(images), graph.input))
        network.eval()
        # A classifier whose answers differ: logits of mean 0 and deviation 1 in every class.
        fc = network.named_op("fc")[0]
        logits = network(normalise(torch.from_numpy(pictures(graph, 200, seed + 1)), graph.input))
        assert fc.bias is not None
        fc.bias.sub_(logits.mean(0)).div_(logits.std(0))
        fc.weight.div_(logits.std(0)[:, None])
    return network


def pictures(graph: Graph, count: int, seed: int) -> np.ndarray:
    """Smooth random images (N, H, W, C) that use the whole range."""
    import cv2

    rng = np.random.default_rng(seed)
    height, width, channels = graph.input.shape
    coarse = rng.integers(0, 256, (count, 5, 6, channels), dtype=np.uint8)
    fine = np.stack(
        [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels) for image in coarse]
    )
    fine[:, 0, 0], fine[:, 0, 1] = 0, 255
    return fine


def folded(network: Network) -> Any:
    """Batch norm folded by hand, in TFLite's layouts."""
    weights, biases = {}, {}
    for op in network.graph.ops:
        if not isinstance(op, (Conv2D, DepthwiseConv2D, FullyConnected)):
            continue
        layer, bn = network.named_op(op.name)
        weight = layer.weight.detach().double()
        bias = torch.zeros(weight.shape[0]).double() if layer.bias is None else layer.bias.detach().double()
        if bn is not None:
            assert bn.running_mean is not None
            assert bn.running_var is not None
            scale = bn.weight.detach().double() / torch.sqrt(bn.running_var.double() + bn.eps)
            weight = weight * scale[:, None, None, None]
            bias = bn.bias.detach().double() + (bias - bn.running_mean.double()) * scale
        array = weight.float().numpy()
        if isinstance(op, Conv2D):
            array = array.transpose(0, 2, 3, 1)
        elif isinstance(op, DepthwiseConv2D):
            array = array.transpose(1, 2, 3, 0)
        weights[op.name], biases[op.name] = np.ascontiguousarray(array), bias.float().numpy()
    return types.SimpleNamespace(graph=network.graph, weights=weights, biases=biases)


# without TensorFlow ------------------------------------------------------------------------------------------


def test_the_description_names_every_window() -> None:
    graph = lower(ARCH)
    ops = {op["name"]: op for op in json.loads(json.dumps(second.describe(graph)))["ops"]}
    assert ops["stem"] | {"inputs": [0]} == ops["stem"] | {
        "kind": "conv",
        "inputs": [0],
        "out": 8,
        "act": "relu6",
        "kernel": [3, 3],
        "stride": [2, 2],
        "padding": "same",
        "pixels": [0, 1, 1, 1],
    }
    assert ops["s3_b0_pool"]["padding"] == "valid"
    assert ops["s3_b0_pool"]["op"] == "avg"
    assert ops["s0_b0_add"]["kind"] == "add"
    assert len(ops["s0_b0_add"]["inputs"]) == 2
    assert ops["fc"]["out"] == 4
    assert [op["kind"] for op in ops.values()].count("depthwise") == 3


def test_explicit_padding_is_described_as_such() -> None:
    import dataclasses

    graph = lower(ARCH)
    ops = (dataclasses.replace(graph.ops[0], padding=Padding(1, 1, 1, 1)), *graph.ops[1:])
    described = second.describe(dataclasses.replace(graph, ops=ops))["ops"][0]
    assert (described["padding"], described["pixels"]) == ("explicit", [1, 1, 1, 1])


def fake_python(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_faults_each_have_one_clear_message(tmp_path: Path) -> None:
    graph = lower(ARCH)
    net = folded(Network(graph))
    images = pictures(graph, 2, 0)
    with pytest.raises(MissingExtraError, match="cannot be run") as caught:
        second.export_keras(net, images, python=str(tmp_path / "nowhere"))
    assert second.INSTALL_LINE in (caught.value.hint or "")
    lacking = fake_python(tmp_path / "lacking", 'echo "No module named tensorflow" >&2; exit 3')
    with pytest.raises(MissingExtraError, match="needs tensorflow") as caught:
        second.export_keras(net, images, python=lacking)
    assert "pip install 'tinynas[tensorflow]'" in (caught.value.hint or "")
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match="within 1 s"):
        second.export_keras(net, images, python=fake_python(tmp_path / "slow", "exec sleep 20"), timeout=1)
    with pytest.raises(InternalError, match=r"\nboom$"):
        second.export_keras(net, images, python=fake_python(tmp_path / "crash", "echo boom >&2; exit 1"))


@pytest.mark.skipif(tensorflow_available(), reason="tensorflow is installed")
def test_without_tensorflow_the_install_line_is_named() -> None:
    graph = lower(ARCH)
    with pytest.raises(MissingExtraError, match="needs tensorflow"):
        second.export_keras(folded(Network(graph)), pictures(graph, 2, 0))


def test_the_interpreter_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(second.PYTHON_VARIABLE, raising=False)
    assert second.tensorflow_python() == sys.executable
    monkeypatch.setenv(second.PYTHON_VARIABLE, "/opt/tf/bin/python")
    assert second.tensorflow_python() == "/opt/tf/bin/python"


def test_the_worker_imports_nothing_of_tinynas() -> None:
    import ast

    tree = ast.parse((Path(second.__file__).with_name("keras_worker.py")).read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert names
    assert not any(name.startswith("tinynas") for name in names)


# with TensorFlow ---------------------------------------------------------------------------------------------


@needs_tensorflow
def test_the_two_files_are_one_network() -> None:
    """Same operators, outputs within quantisation error, our file and arena not larger."""
    from tinynas.cost import plan_offline
    from tinynas.export.tflite import ModelMeta, serialize
    from tinynas.quantize import QuantOptions, fold, quantize

    graph = lower(ARCH)
    network = trained(graph)
    calibration, images = pictures(graph, 100, 1), pictures(graph, 200, 2)
    with torch.no_grad():
        logits = network(normalise(torch.from_numpy(images), graph.input)).numpy()
    net = fold(network)
    for name, weights in folded(network).weights.items():
        assert np.allclose(net.weights[name], weights, rtol=1e-5, atol=1e-6), name  # two foldings, one result
    started = time.perf_counter()
    ours = serialize(quantize(net, calibration, QuantOptions()), ModelMeta(arch_id=ARCH.id, labels=tuple("abcd")), plan_offline(graph))
    seconds = time.perf_counter() - started

    assert len(set(logits.argmax(1))) == 4
    report = second.second_opinion(net, calibration, ours, images, truth=logits.argmax(1), float_logits=logits, our_seconds=seconds)
    assert report["tinynas"]["seconds"] < report["tensorflow"]["wall_seconds"]
    assert report["operators_equal"], report
    assert report["extra_operators"]["tinynas"] == {}
    mine, theirs = report["tinynas"], report["tensorflow"]
    assert mine["file_bytes"] < theirs["file_bytes"]
    assert sum(mine["arena_bytes"].values()) <= sum(theirs["arena_bytes"].values())
    assert theirs["input_grid"] == {"scale": 1 / 128, "zero_point": 0}
    # Each file is an int8 approximation of one float network whose random weights make its answers close calls:
    # ours may be no further off than a converter's usually is, and the two must agree where it matters.
    spread = float(logits.std())
    assert mine["rms_error"] < 0.25 * spread
    assert theirs["rms_error"] < 0.25 * spread
    assert mine["rms_error"] < 1.5 * theirs["rms_error"]
    assert report["agreement"]["argmax"] > 0.88
    assert report["agreement"]["max_difference"] < 1.0 * spread
    assert mine["float_agreement"] > 0.88


@needs_tensorflow
def test_grey_and_explicit_padding_convert() -> None:
    import dataclasses

    from tinynas.export.facts import read_facts

    arch = Arch(height=12, width=12, channels=1, classes=1, stem=ConvLayer(out=4, kernel=3, stride=1))
    graph = lower(arch)
    padded = dataclasses.replace(graph, ops=(dataclasses.replace(graph.ops[0], padding=Padding(2, 0, 2, 0)), *graph.ops[1:]))
    made = second.export_keras(folded(Network(padded)), pictures(graph, 20, 0))
    facts = read_facts(made.model)
    assert facts.input_shape == (12, 12, 1)
    assert facts.operators.count("PAD") == 1
    assert made.tensorflow.startswith("2.")
    assert made.seconds < made.wall_seconds
