"""shrink, with proof: a model without what changes no output, both run on the same inputs, and what was saved."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.cost.tflite import parse_model
from tinynas.data import DataSet
from tinynas.errors import DataError, InternalError, ModelFileError
from tinynas.export.pixels import read_pixels
from tinynas.export.sandbox import compare_models, inspect, kernels_name
from tinynas.shrink import Shrunk, shrink_model

#: Inputs on which outputs are compared, and seconds that it may take.
INPUTS, SECONDS = 10_000, 60.0


@dataclass(frozen=True)
class Proof:
    """The original and the shrunk model on the same inputs."""

    compared: int
    """Inputs; every byte of every output was compared."""
    different: int
    images: int
    """How many of the inputs are images of a data set."""
    kernels: str
    seconds: float
    why_not: str = ""
    """Why nothing was compared; empty where something was."""
    arenas: tuple[int, int] | None = None
    """Bytes of TFLM's arena on this machine, before and after."""


@dataclass(frozen=True)
class ShrinkReport:
    """What was found, what it saves, and how it was checked."""

    shrunk: Shrunk
    before: bytes
    proof: Proof
    seconds: float
    """Of looking and writing, without the comparison."""

    def to_json(self) -> dict[str, Any]:
        """The document of ``tinynas shrink --json``, without file names. Sizes in bytes, [before, after]."""
        shrunk, proof = self.shrunk, self.proof
        costs = [_costs(model) for model in (self.before, shrunk.model)]
        return {
            "changed": shrunk.changed,
            "bytes": [len(self.before), len(shrunk.model)],
            "form_bytes": shrunk.written_bytes,
            "macs": [cost.get("macs") for cost in costs],
            "sram_bytes": [cost.get("sram_bytes") for cost in costs],
            "arena_bytes": {
                "estimated": [cost.get("arena_bytes") for cost in costs],
                "measured": None if proof.arenas is None else list(proof.arenas),
            },
            "channels": {**shrunk.removed, "all": shrunk.channels},
            "layers": [{"op": row.number, "kind": row.kind, "channels": [row.before, row.after], **row.removed} for row in shrunk.layers],
            "operators": [{"op": number, "kind": kind} for number, kind in shrunk.operators],
            "left": list(shrunk.left),
            "notes": list(shrunk.notes),
            "equal": {
                "compared": proof.compared,
                "different": proof.different,
                "images": proof.images,
                "kernels": proof.kernels,
                "seconds": round(proof.seconds, 1),
                "why_not": proof.why_not,
            },
            "seconds": round(self.seconds, 2),
        }


def _costs(model: bytes) -> dict[str, int]:
    try:
        cost = parse_model(model).estimate("tflm")
    except ModelFileError:  # an operator whose costs nobody knows
        return {}
    return {"macs": cost.macs, "sram_bytes": cost.sram_bytes, "arena_bytes": cost.host_arena_bytes}


def shrink(
    model: bytes,
    *,
    strip_metadata: bool = False,
    keep_names: bool = False,
    litert: bool = False,
    inputs: int = INPUTS,
    seconds: float = SECONDS,
    images: NDArray[Any] | None = None,
) -> ShrinkReport:
    """``model`` without what provably changes no output bit, compared with it on ``inputs`` inputs, for no longer than ``seconds``.

    ``litert``: LiteRT is to load it too. ``images``: elements (N, *input shape) of the first input that are compared first. Raises
    ModelFileError for broken files and those without int8 operators, InternalError where an output differs: nothing must be written then.
    """
    started = time.perf_counter()
    shrunk = shrink_model(model, strip_metadata=strip_metadata, keep_names=keep_names, litert=litert)
    took = time.perf_counter() - started
    if not shrunk.changed:
        return ShrinkReport(shrunk, model, Proof(0, 0, 0, "", 0.0, "nothing was changed"), took)
    proof = prove(model, shrunk.model, inputs=inputs, seconds=seconds, images=images)
    if proof.different:
        raise InternalError(
            f"{proof.different} of {proof.compared} inputs give other outputs once the model is shrunk",
            "nothing was written; please report this with the model",
        )
    return ShrinkReport(shrunk, model, proof, took)


def prove(before: bytes, after: bytes, *, inputs: int = INPUTS, seconds: float = SECONDS, images: NDArray[Any] | None = None) -> Proof:
    """Both models on the same inputs: in tflite-micro, or in LiteRT's reference kernels where tflite-micro refuses the original.

    Raises InternalError where a runtime runs the one and not the other.
    """
    file = parse_model(before)
    shapes = [file.tensors[number] for number in file.inputs]
    if not shapes or any(tensor.unknown_shape for tensor in shapes):
        return Proof(0, 0, 0, "", 0.0, "an input has no fixed shape")
    given = None if images is None else np.ascontiguousarray(images[:inputs])
    refusals = []
    for kernels, name in (("tflm", kernels_name()), ("BUILTIN_REF", "LiteRT reference kernels (BUILTIN_REF)")):
        started = time.perf_counter()
        try:
            compare_models(before, before, 1, seconds=1.0, kernels=kernels)
        except ModelFileError as refusal:
            refusals.append(f"{name}: {refusal.message}")
            continue
        try:
            found = compare_models(before, after, inputs, seconds=seconds, kernels=kernels, given=given)
        except ModelFileError as error:
            reason = f"{name} runs the model, and not once it is shrunk: {error.message}"
            raise InternalError(reason, "nothing was written; please report this with the model") from None
        shown = 0 if given is None else min(len(given), found.compared)
        return Proof(found.compared, found.different, shown, name, time.perf_counter() - started, "", found.arenas)
    return Proof(0, 0, 0, "", 0.0, f"no runtime here runs the model: {'; '.join(refusals)}")


def image_inputs(model: bytes, data: DataSet, pixels: str, count: int) -> NDArray[Any]:
    """Up to ``count`` test images of ``data`` as elements of the model's input, (N, *input shape).

    Raises ModelFileError for models that read no single image, DataError where they read other channels than the images have.
    """
    inspected = inspect(model)
    facts, reading = inspected.facts, read_pixels(inspected.facts, pixels)
    split = data.split("test", *facts.input_shape)
    images = np.asarray(split.inputs[:count])
    if images.shape[1:] != facts.input_shape:
        raise DataError(f"the images are {images.shape[1:]}, the model reads {facts.input_shape}", "leave --data out")
    if reading.bgr:
        images = images[..., ::-1]
    table = reading.table
    elements = table[images] if table.ndim == 1 else table[images, np.arange(images.shape[3])]
    if facts.layout == "nchw":
        elements = elements.transpose(0, 3, 1, 2)
    return np.ascontiguousarray((elements[..., 0] if facts.layout == "nhw" else elements)[:, None])
