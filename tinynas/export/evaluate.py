"""evaluate: how good a .tflite is on labelled images, computed with TFLM's own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinynas import metrics
from tinynas.data import Split
from tinynas.errors import DataError, ModelFileError
from tinynas.export.facts import ModelFacts, pixel_table
from tinynas.export.rotate import rotate_images
from tinynas.export.sandbox import Inspected, inspect, kernels_name, run_litert, run_tflm

Pixels = Literal["auto", "-1..1", "0..1", "0..255"]
"""What a float input is made of: (pixel - 128) / 128, pixel / 255, or the pixel itself. ``auto`` is the first."""


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
    """(height, width, channels) of the images that the model in ``path`` reads. Raises ModelFileError."""
    return read_file(path).facts.input_shape


def input_table(facts: ModelFacts, pixels: Pixels = "auto") -> NDArray[Any]:
    """The input element (256,) of each pixel value.

    A quantised image input covers the 256 pixel values with its 256 steps, whatever its scale says they mean: uint8
    gets the pixel, int8 the pixel - 128. A float input needs to be told (``pixels``).
    """
    values = np.arange(256)
    if facts.input_dtype == "uint8":
        return values.astype(np.uint8)
    if facts.input_dtype == "int8":
        return (values - 128).astype(np.int8)
    if pixels == "0..1":
        return (values / 255.0).astype(np.float32)
    return values.astype(np.float32) if pixels == "0..255" else pixel_table(facts)


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
    facts = inspected.facts
    if not len(split):
        raise DataError("the split holds no image to evaluate on", "choose another split or give more images")
    if split.inputs.shape[1:] != facts.input_shape:
        raise DataError(f"the images are {split.inputs.shape[1:]}, the model reads {facts.input_shape}")
    images = np.asarray(split.inputs)
    if facts.input_rotation:
        images = rotate_images(images).astype(np.uint8)
    table = input_table(facts, pixels)
    kernels = kernels_name()
    try:
        outputs = run_tflm(inspected, images, workers=workers, table=table).outputs
    except ModelFileError as refusal:
        try:
            outputs = run_litert(inspected, images, table=table)
        except ModelFileError:
            raise refusal from None
        kernels = f"LiteRT reference kernels (BUILTIN_REF), because tflite-micro refused: {refusal.message}"
    return {**score(real_outputs(outputs, facts), split.labels, labels, inspected), "kernels": kernels}


def real_outputs(outputs: NDArray[Any], facts: ModelFacts) -> NDArray[np.float64]:
    """Outputs (N, classes) in real units."""
    return (outputs.astype(np.float64) - facts.output_zero_point) * facts.output_scale


def score(outputs: NDArray[np.float64], truth: NDArray[np.int64], labels: Sequence[str], model: Inspected | None = None) -> dict[str, Any]:
    """accuracy, balanced_accuracy, auc, n and confusion of real outputs (N, classes), or (N, 1) for two classes."""
    classes = len(labels)
    last = model.file.ops[-1].kind if model is not None else ""
    if not np.isfinite(outputs).all():
        raise ModelFileError("the model's outputs are not finite", "the file is broken or was trained badly")
    if outputs.shape[1] == 1 and classes == 2:
        # One output is class 1's: a probability where the model ends in a sigmoid, else a logit.
        wanted = outputs[:, 0]
        ends_in_sigmoid = last == "LOGISTIC" or (model is not None and "LOGISTIC" in [op.kind for op in model.file.ops[-2:]])
        predicted = (wanted > (0.5 if ends_in_sigmoid else 0.0)).astype(np.int64)
        scores = wanted
    elif outputs.shape[1] == classes:
        predicted = outputs.argmax(1)
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
