"""evaluate: how good a .tflite is on labelled images, computed with TFLM's own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinynas import metrics
from tinynas.data import DataSet, Split
from tinynas.errors import DataError, ModelFileError
from tinynas.export.facts import ModelFacts, input_table, real_outputs
from tinynas.export.rotate import rotate_images
from tinynas.export.sandbox import Inspected, inspect, kernels_name, run_litert, run_tflm
from tinynas.inputs import Input, kind_of_channels

Pixels = Literal["auto", "-1..1", "0..1", "0..255"]
"""What a float input of a file that does not say so is made of: (pixel - 128) / 128, pixel / 255, or the pixel itself."""
#: Scale and zero point of each; ``auto`` is what the file says, and the first where it says nothing.
_PIXELS: dict[Pixels, tuple[float, int]] = {"-1..1": (1.0 / 128.0, 128), "0..1": (1.0 / 255.0, 0), "0..255": (1.0, 0)}
#: Operators that may stand behind the last one that decides what an output means.
_RETYPED = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE"})


def read_file(path: str | Path) -> Inspected:
    """The model in a file, its structure checked. Raises ModelFileError naming the file."""
    path = Path(path)
    try:
        return inspect(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}", "give the path of a .tflite file") from None
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error.message}", error.hint) from None


def input_shape(path: str | Path) -> tuple[int, int, int]:
    """(height, width, channels) of what the model in ``path`` reads. Raises ModelFileError."""
    return read_file(path).facts.input_shape


def evaluate(
    model: str | Path | Inspected, split: Split, labels: Sequence[str], *, pixels: Pixels = "auto", workers: int = 1
) -> dict[str, Any]:
    """The document of ``tinynas evaluate --json``: accuracy, balanced_accuracy, auc, n, confusion, kernels.

    Works with int8, uint8 and float classifiers with one output per class, or one output for two classes. Images are
    turned first where the file's metadata asks for it. Kernels are tflite-micro's; a model that they lack operators
    for runs on LiteRT's reference kernels, and ``kernels`` says so.
    Raises ModelFileError for broken files and DataError for images and labels that do not fit the model.
    """
    inspected = model if isinstance(model, Inspected) else read_file(model)
    outputs, kernels = _run(inspected, split, pixels, workers)
    return {**score(outputs, split.labels, labels, threshold(inspected)), "kernels": kernels}


def evaluate_splits(
    path: str | Path, data: DataSet, split: str, *, subsets: bool = False, pixels: Pixels = "auto", workers: int = 1
) -> dict[str, Any]:
    """:func:`evaluate` of the model in ``path`` on the part ``split`` of ``data``, named; with ``subsets`` also by its attributes."""
    from tinynas.data.subsets import splits_for, subset_report

    inspected = read_file(path)
    shape = inspected.facts.input_shape
    document: dict[str, Any] = {"model": str(path), "data": data.name, "split": split}
    document |= evaluate(inspected, data.split(split, *shape), data.labels, pixels=pixels, workers=workers)
    if subsets:
        above = threshold(inspected)
        parts = {name: _run(inspected, data.split(name, *shape), pixels, workers)[0] for name in splits_for(data, split)}
        document["subsets"] = subset_report(data, {name: predictions(outputs, above) for name, outputs in parts.items()})
    return document


def _run(inspected: Inspected, split: Split, pixels: Pixels, workers: int) -> tuple[NDArray[np.float64], str]:
    # (real outputs (N, outputs), what computed them)
    facts = inspected.facts
    if not len(split):
        raise DataError("the split holds no image to evaluate on", "choose another split or give more images")
    if split.inputs.shape[1:] != facts.input_shape:
        raise DataError(f"the images are {split.inputs.shape[1:]}, the model reads {facts.input_shape}")
    images = np.asarray(split.inputs)
    if facts.input_rotation:
        images = rotate_images(images).astype(np.uint8)
    table = input_table(facts, _source(facts, pixels))
    try:
        return real_outputs(run_tflm(inspected, images, workers=workers, table=table).outputs, facts), kernels_name()
    except ModelFileError as refusal:
        try:
            outputs = run_litert(inspected, images, table=table)
        except ModelFileError:
            raise refusal from None
        return real_outputs(outputs, facts), f"LiteRT reference kernels (BUILTIN_REF), because tflite-micro refused: {refusal.message}"


def _source(facts: ModelFacts, pixels: Pixels) -> Input:
    if facts.input_dtype != "float32" or pixels == "auto":
        return facts.input
    return Input(*facts.input_shape, kind_of_channels(facts.input_shape[2]), *_PIXELS[pixels])


def threshold(model: Inspected) -> float:
    """Above which a single output says class 1: 0.5 where the model ends in a sigmoid (its type may change behind that); 0 for a logit."""
    meaning = [op.kind for op in model.file.ops if op.kind not in _RETYPED]
    return 0.5 if meaning and meaning[-1] == "LOGISTIC" else 0.0


def predictions(outputs: NDArray[np.float64], above: float) -> NDArray[np.int64]:
    """Classes (N,) that real outputs say: the largest of (N, classes), or 1 where the only one of (N, 1) is ``above``."""
    return outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > above).astype(np.int64)


def score(outputs: NDArray[np.float64], truth: NDArray[np.int64], labels: Sequence[str], above: float = 0.0) -> dict[str, Any]:
    """accuracy, balanced_accuracy, auc, n and confusion of real outputs (N, classes), or (N, 1) for two classes.

    ``above``: :func:`threshold` of the model; it matters for a single output only.
    """
    classes = len(labels)
    if not np.isfinite(outputs).all():
        raise ModelFileError("the model's outputs are not finite", "the file is broken or was trained badly")
    predicted = predictions(outputs, above) if classes > 1 else np.zeros(len(outputs), np.int64)
    if outputs.shape[1] == 1 and classes == 2:
        scores = outputs[:, 0]
    elif outputs.shape[1] == classes:
        scores = outputs[:, 1] - outputs[:, 0] if classes == 2 else _probabilities(outputs)
    else:
        shown = ", ".join(labels[:5]) + (", ..." if classes > 5 else "")
        raise DataError(
            f"the model has {outputs.shape[1]} outputs, the data {classes} classes ({shown})", "evaluate it on data with its own classes"
        )
    table = metrics.confusion(truth, predicted, classes)
    area = metrics.auc(truth, scores) if classes > 1 else None
    return {
        "accuracy": metrics.accuracy(table),
        "balanced_accuracy": metrics.balanced_accuracy(table),
        "auc": area,
        "n": len(truth),
        "confusion": table,
    }


def _probabilities(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    # Already probabilities (a model that ends in softmax) or logits: an image's scores must be comparable with another's.
    sums = outputs.sum(1)
    if outputs.min() >= 0 and np.abs(sums - 1).max() < 0.05:
        return outputs
    return metrics.softmax(outputs)
