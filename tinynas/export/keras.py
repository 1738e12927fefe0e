"""A second opinion on the int8 file: the same folded weights through Keras and TensorFlow's own converter.

TensorFlow runs in a process of its own: it needs a gigabyte and seconds to load, and it may live in another
virtual environment (``TINYNAS_TENSORFLOW_PYTHON``). Images and weights travel as .npz files in a temporary
folder, without pickle.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, assert_never

import numpy as np
import numpy.typing as npt

from tinynas.errors import InternalError, MissingExtraError, UserError
from tinynas.graph import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    HardSwish,
    Mean,
    Mul,
    Op,
    Padding,
    Pool2D,
    Resize,
    Windowed,
    same_padding,
)

#: Which Python has TensorFlow; the running one where unset.
PYTHON_VARIABLE = "TINYNAS_TENSORFLOW_PYTHON"
INSTALL_LINE = "pip install 'tinynas[tensorflow]'"
#: A network of the largest budget converts in well under a minute; a loaded machine may need several.
TIMEOUT_SECONDS = 600.0
#: Operators that TensorFlow's converter may add around the same network, and what for.
KNOWN_EXTRAS: dict[str, str] = {
    "PAD": "explicit padding",
    "QUANTIZE": "another grid for one tensor",
    "DEQUANTIZE": "float output",
    "RESHAPE": "flattening after global pooling",
    "SHAPE": "flattening after global pooling",
    "STRIDED_SLICE": "flattening after global pooling",
    "PACK": "flattening after global pooling",
}


class Folded(Protocol):
    """A graph with float weights, batch norm folded (:func:`tinynas.quantize.fold` gives one)."""

    @property
    def graph(self) -> Graph:
        """The network."""

    @property
    def weights(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Operator name -> weights in TFLite's layout: OHWI, 1HWC or OI."""

    @property
    def biases(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Operator name -> (out,)."""


@dataclass(frozen=True)
class KerasExport:
    """What TensorFlow's converter made."""

    model: bytes
    seconds: float
    """Building and converting, without TensorFlow's import."""
    wall_seconds: float
    """The whole process."""
    peak_rss_bytes: int | None
    tensorflow: str
    keras: str


def tensorflow_python() -> str:
    """The Python interpreter that TensorFlow is looked for in."""
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


def export_keras(
    folded: Folded, calibration: npt.NDArray[np.uint8], *, python: str | None = None, timeout: float = TIMEOUT_SECONDS
) -> KerasExport:
    """The int8 .tflite that TensorFlow's converter makes of ``folded``, calibrated on uint8 (N, H, W, C) images.

    Raises MissingExtraError with the install line where TensorFlow is not installed, UserError where it does not
    finish within ``timeout`` seconds.
    """
    python = python or tensorflow_python()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tinynas-keras-") as name:
        folder = Path(name)
        (folder / "graph.json").write_text(json.dumps(describe(folded.graph)), encoding="utf-8")
        arrays: dict[str, npt.NDArray[np.float32]] = {}
        for index, op in enumerate(folded.graph.ops):
            if op.name in folded.weights:
                arrays[f"w{index}"], arrays[f"b{index}"] = folded.weights[op.name], folded.biases[op.name]
        np.savez(folder / "weights.npz", allow_pickle=False, **arrays)
        np.savez(folder / "calibration.npz", allow_pickle=False, images=np.asarray(calibration, dtype=np.uint8))
        _run_worker(python, folder, timeout)
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        model = (folder / "model.tflite").read_bytes()
    wall = time.perf_counter() - started
    return KerasExport(model, report["seconds"], wall, report["peak_rss_bytes"], report["tensorflow"], report["keras"])


def _run_worker(python: str, folder: Path, timeout: float) -> None:
    from tinynas.export.keras_worker import NO_TENSORFLOW

    worker = Path(__file__).with_name("keras_worker.py")
    # Quiet, on the CPU: a GPU would take seconds to wake for a network of kilobytes.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONDONTWRITEBYTECODE": "1"}
    missing = f"{INSTALL_LINE}, or set {PYTHON_VARIABLE} to a Python that has it"
    try:
        done = subprocess.run(
            [python, str(worker), str(folder)], env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"TensorFlow did not convert the network within {timeout:.0f} s", "try again on a less loaded machine") from None
    except OSError as error:
        raise MissingExtraError(f"{python} cannot be run: {error.strerror}", missing) from None
    if done.returncode == NO_TENSORFLOW:
        raise MissingExtraError(f"the TensorFlow exporter needs tensorflow, and {python} has none: {done.stderr.strip()[-200:]}", missing)
    if done.returncode != 0:
        raise InternalError(f"TensorFlow's converter failed (status {done.returncode}):\n{done.stderr.strip()[-2000:]}")


def describe(graph: Graph) -> dict[str, Any]:
    """``graph`` as JSON for the worker."""
    return {
        "input": graph.inputs[0],
        "shape": list(graph.input.shape),
        "scale": graph.input.scale,
        "zero_point": graph.input.zero_point,
        "output": graph.logits,
        "ops": [_describe_op(graph, op) for op in graph.ops],
    }


def _describe_op(graph: Graph, op: Op) -> dict[str, Any]:
    # Keras forbids some characters in layer names; dots are allowed there but not in its saved variables.
    common: dict[str, Any] = {"name": op.name.replace(".", "_"), "inputs": list(op.inputs), "output": op.output}
    match op:
        case Conv2D():
            return {"kind": "conv", **common, **_window(graph, op), "out": op.out_channels, "act": op.act}
        case DepthwiseConv2D():
            return {"kind": "depthwise", **common, **_window(graph, op), "act": op.act}
        case Pool2D():
            return {"kind": "pool", **common, **_window(graph, op), "op": op.op}
        case Add():
            return {"kind": "add", **common, "act": op.act}
        case Mul():
            gate = len(graph.shape(op.inputs[1])) != len(graph.shape(op.output))
            return {"kind": "mul", **common, "act": op.act, "gate": gate}
        case Mean():
            return {"kind": "mean", **common}
        case FullyConnected():
            return {"kind": "fc", **common, "out": op.out_features, "act": op.act}
        case HardSwish():
            return {"kind": "hard_swish", **common}
        case Resize():
            return {"kind": "resize", **common, "size": list(graph.shape(op.output)[:2])}
    assert_never(op)


def _window(graph: Graph, op: Windowed) -> dict[str, Any]:
    height, width = graph.shape(op.inputs[0])[:2]
    same = Padding(*same_padding(height, op.kernel[0], op.stride[0]), *same_padding(width, op.kernel[1], op.stride[1]))
    pixels = op.padding
    padding = "valid" if pixels.none else "same" if pixels == same else "explicit"
    if op.reach != op.kernel:
        raise UserError(f"--exporter keras: {op.name} is dilated, which is not handed to TensorFlow here", "use the exporter tinynas")
    return {
        "kernel": list(op.kernel),
        "stride": list(op.stride),
        "padding": padding,
        "pixels": [pixels.top, pixels.bottom, pixels.left, pixels.right],
    }


# the comparison ------------------------------------------------------------------------------------------


def second_opinion(
    folded: Folded,
    calibration: npt.NDArray[np.uint8],
    ours: bytes,
    images: npt.NDArray[np.uint8],
    *,
    truth: npt.NDArray[np.int64] | None = None,
    float_logits: npt.NDArray[np.float32] | None = None,
    our_seconds: float | None = None,
    python: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> dict[str, Any]:
    """Our file and TensorFlow's of the same weights, side by side, JSON-ready.

    ``images`` uint8 (N, H, W, C) are run through both files by TFLM's kernels. ``truth`` (N,) class indices add the
    accuracies, ``float_logits`` (N, classes) each file's distance from the float network. See :func:`compare`.
    """
    theirs = export_keras(folded, calibration, python=python, timeout=timeout)
    report = compare(ours, theirs.model, images, truth=truth, float_logits=float_logits)
    report["tinynas"]["seconds"] = our_seconds
    report["tensorflow"] |= {"seconds": theirs.seconds, "wall_seconds": theirs.wall_seconds, "peak_rss_bytes": theirs.peak_rss_bytes}
    report["versions"] = {"tensorflow": theirs.tensorflow, "keras": theirs.keras}
    return report


def compare(
    ours: bytes,
    theirs: bytes,
    images: npt.NDArray[np.uint8],
    *,
    truth: npt.NDArray[np.int64] | None = None,
    float_logits: npt.NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Two .tflite files of one network: sizes, arenas, operators, and how their outputs agree on ``images``.

    ``operators_equal`` leaves :data:`KNOWN_EXTRAS` out. ``agreement``: share of equal predictions, and the distance
    of the logits in real units and in steps of the coarser of the two output grids.
    """
    from tinynas.export.facts import input_table, read_facts, real_outputs
    from tinynas.export.sandbox import run_tflm

    facts = {"tinynas": read_facts(ours), "tensorflow": read_facts(theirs)}
    source = facts["tinynas"].input  # one network: theirs says nothing of what its numbers mean
    logits = {}
    report: dict[str, Any] = {"images": len(images)}
    for side, model in (("tinynas", ours), ("tensorflow", theirs)):
        fact = facts[side]
        measured = run_tflm(model, images, table=input_table(fact, source))
        logits[side] = real_outputs(measured.outputs, fact)
        report[side] = {
            "file_bytes": len(model),
            "arena_bytes": {"head": measured.head_bytes, "tail": measured.tail_bytes},
            "operators": dict(sorted(Counter(fact.operators).items())),
            "input_grid": {"scale": fact.input_scale, "zero_point": fact.input_zero_point},
        }
        if truth is not None:
            report[side]["accuracy"] = float(np.mean(logits[side].argmax(1) == truth))
        if float_logits is not None:
            error = logits[side] - float_logits
            report[side]["float_agreement"] = float(np.mean(logits[side].argmax(1) == float_logits.argmax(1)))
            report[side]["rms_error"] = float(np.sqrt(np.mean(error**2)))
    difference = np.abs(logits["tinynas"] - logits["tensorflow"])
    step = max(fact.output_scale for fact in facts.values())
    report["agreement"] = {
        "argmax": float(np.mean(logits["tinynas"].argmax(1) == logits["tensorflow"].argmax(1))),
        "max_difference": float(difference.max()),
        "max_steps": float(difference.max() / step),
        "mean_steps": float(difference.mean() / step),
    }
    extras = {side: _extras(facts[side].operators) for side in facts}
    report["extra_operators"] = extras
    report["operators_equal"] = _core(facts["tinynas"].operators) == _core(facts["tensorflow"].operators)
    return report


def _core(operators: Sequence[str]) -> list[str]:
    # Sorted: both run the branches of a residual in an order of their own.
    return sorted(name for name in operators if name not in KNOWN_EXTRAS)


def _extras(operators: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(name for name in operators if name in KNOWN_EXTRAS).items()))
