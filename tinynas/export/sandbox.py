"""Runs model files in native interpreters, in a child process.

The interpreters are C++ and trust the file they are given: a broken one can crash them. A child process is
lost then, with a clear error, and nothing else. A file is first checked in pure Python (:func:`inspect`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.cost.tflite import ModelFile, parse_model
from tinynas.errors import InternalError, ModelFileError
from tinynas.export.facts import ModelFacts, input_table, read_facts
from tinynas.export.forked import run_forked

_WORKER = Path(__file__).with_name("sandbox_worker.py")
#: What a child loads for a model.
_TFLM, _LITERT = "tflite_micro", "ai_edge_litert.interpreter"
#: Address space of the child, libraries included.
MEMORY_BYTES = 6 << 30
#: A model whose activations need more than this is no microcontroller's.
MAX_ARENA_BYTES = 512 << 20
#: Seconds for starting, and for each image at the latest.
START_SECONDS, IMAGE_SECONDS = 60.0, 10.0
RESOLVERS = ("AUTO", "BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")


@dataclass(frozen=True)
class Measured:
    """What TFLM did with a model."""

    outputs: NDArray[Any]
    """(N, classes) in the file's output type."""
    head_bytes: int
    """Arena: activations and scratch."""
    tail_bytes: int
    """Arena: persistent structures, on this (64-bit) machine."""


@dataclass(frozen=True)
class Inspected:
    """A model file whose structure was found sound."""

    data: bytes
    file: ModelFile
    facts: ModelFacts


def inspect(model: bytes, *, kept: bool = False) -> Inspected:
    """Read ``model`` in pure Python; ``kept``: see :func:`tinynas.export.facts.read_facts`.

    Raises ModelFileError for broken files and for those that classify no single input.
    """
    file = parse_model(model)
    facts = read_facts(model, kept=kept)
    if sum(t.size_bytes for t in file.tensors if not t.constant) > MAX_ARENA_BYTES:
        raise ModelFileError(
            f"the model's tensors need more than {MAX_ARENA_BYTES >> 20} MiB", "the file is broken, or made for another class of device"
        )
    return Inspected(model, file, facts)


def run_tflm(model: bytes | Inspected, images: NDArray[np.uint8], *, workers: int = 1, table: NDArray[Any] | None = None) -> Measured:
    """Run uint8 ``images`` (N, H, W, C), as the network sees them, through tflite-micro's reference kernels.

    The one way by which tinynas runs a model on TFLM: in child processes, ``workers`` of which share the images. ``table`` (256,),
    or (256, C) for each channel, is the input element of each byte (default: :func:`tinynas.export.facts.input_table`).
    Raises ModelFileError where the file is broken or the interpreter cannot run it.
    """
    inspected = _inspected(model, images)
    parts = [part for part in np.array_split(images, max(1, min(workers, len(images)))) if len(part) or workers == 1]

    def run(part: NDArray[np.uint8]) -> Measured:
        answer, outputs = _ask(inspected, part, table, {"runtime": "tflm", "arena_bytes": _arena_sizes(inspected.file)})
        head, tail = answer["arena"]
        return Measured(outputs.reshape(len(part), -1), head, tail)

    if len(parts) == 1:
        return run(parts[0])
    with ThreadPoolExecutor(len(parts)) as pool:
        measured = list(pool.map(run, parts))
    return Measured(np.concatenate([m.outputs for m in measured]), measured[0].head_bytes, measured[0].tail_bytes)


def measure_arena(model: bytes | Inspected) -> tuple[int, int]:
    """(head, tail) bytes of TFLM's arena on this machine: activations and scratch, persistent structures.

    Raises ModelFileError where the file is broken.
    """
    inspected = model if isinstance(model, Inspected) else inspect(model)
    measured = run_tflm(inspected, np.full((1, *inspected.facts.input_shape), 128, np.uint8))
    return measured.head_bytes, measured.tail_bytes


def run_litert(
    model: bytes | Inspected, images: NDArray[np.uint8], *, resolver: str = "BUILTIN_REF", table: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Outputs (N, classes) of uint8 ``images`` by LiteRT with one of :data:`RESOLVERS`. Raises as :func:`run_tflm`."""
    inspected = _inspected(model, images)
    _, outputs = _ask(inspected, images, table, {"runtime": resolver})
    return outputs.reshape(len(images), -1)


def load_litert(model: bytes | Inspected) -> dict[str, str]:
    """For each of :data:`RESOLVERS`: "" where LiteRT loads and runs the model with it, else the reason why not."""
    shape = (model if isinstance(model, Inspected) else inspect(model)).facts.input_shape
    images = np.full((1, *shape), 128, np.uint8)
    answer, _ = _ask(_inspected(model, images), images, None, {"runtime": "load", "resolvers": list(RESOLVERS)})
    found: dict[str, str] = answer["loaded"]
    return found


@dataclass(frozen=True)
class Compared:
    """Two models on the same inputs."""

    compared: int
    """Inputs on which all outputs were compared."""
    different: int
    """Those for which a byte of an output differs."""
    arenas: tuple[int, int] | None
    """Bytes of TFLM's arena of each, head and tail; None where another runtime ran them."""


def compare_models(
    before: bytes, after: bytes, count: int, *, seconds: float, kernels: str = "tflm", given: NDArray[Any] | None = None, seed: int = 0
) -> Compared:
    """Every byte of every output of two models with the same inputs and outputs, in a child process: on ``given`` ones (N, *shape of
    the first input), then on extremes and random ones, up to ``count`` or for about ``seconds``.

    ``kernels``: ``tflm``, or a resolver of LiteRT. Raises ModelFileError where the file is broken or the interpreter does not run it.
    """
    files = [parse_model(model) for model in (before, after)]
    first = files[0]
    specs = [_spec(first, number) for number in first.inputs]
    images = np.zeros((0, *specs[0]["shape"]), specs[0]["dtype"]) if given is None else given
    request = {
        "runtime": "compare",
        "kernels": kernels,
        "memory_bytes": MEMORY_BYTES,
        "models_bytes": [len(before), len(after)],
        "arena_bytes": [_arena_sizes(file) for file in files],
        "inputs": specs,
        "outputs": len(first.outputs),
        "given": images.shape,
        "given_dtype": str(images.dtype),
        "count": count,
        "seconds": seconds,
        "seed": seed,
    }
    sent = json.dumps(request).encode() + b"\n" + before + after + np.ascontiguousarray(images).tobytes()
    answer, _ = _child(sent, START_SECONDS + seconds + 10 * IMAGE_SECONDS, _TFLM if kernels == "tflm" else _LITERT)
    arenas = answer["arena"]
    return Compared(answer["compared"], answer["different"], None if arenas[0] is None else (sum(arenas[0]), sum(arenas[1])))


def _spec(file: ModelFile, number: int) -> dict[str, Any]:
    """What an input may hold: all of an 8- or 16-bit type; of floats, what the QUANTIZE that reads them tells apart."""
    tensor = file.tensors[number]
    spec: dict[str, Any] = {"shape": list(tensor.shape), "dtype": tensor.dtype, "middle": 0}
    if tensor.dtype in {"int8", "uint8", "int16"}:
        limits = np.iinfo(tensor.dtype)
        return {**spec, "low": int(limits.min), "high": int(limits.max), "middle": int(np.clip(tensor.zero_point, limits.min, limits.max))}
    if tensor.dtype != "float32":
        return {**spec, "low": 0, "high": 1}  # indices and truth values: others may be read out of bounds
    grids = [file.tensors[op.outputs[0]] for op in file.ops if op.kind == "QUANTIZE" and op.inputs[:1] == (number,)]
    if not grids or grids[0].dtype not in {"int8", "uint8"} or not 0 < grids[0].scale < 1e6:
        return {**spec, "low": -1.0, "high": 1.0}
    ends = np.iinfo(grids[0].dtype)
    low, high = ((int(end) - grids[0].zero_point) * grids[0].scale for end in (ends.min, ends.max))
    return {**spec, "low": low, "high": high}


def kernels_name() -> str:
    """What computed figures that come from :func:`run_tflm`."""
    return f"tflite-micro {metadata.version('tflite-micro')} (TFLM reference kernels)"


def _inspected(model: bytes | Inspected, images: NDArray[np.uint8]) -> Inspected:
    inspected = model if isinstance(model, Inspected) else inspect(model)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != inspected.facts.input_shape:
        raise ModelFileError(f"the model reads uint8 images {inspected.facts.input_shape}, these are {images.dtype} {images.shape[1:]}")
    return inspected


def _arena_sizes(file: ModelFile) -> list[int]:
    # All activations at once, scratch of the same order, and structures; should that not do, four times as much.
    activations = sum((t.size_bytes + 31) & ~15 for t in file.tensors if not t.constant)
    structures = 65536 + 512 * (len(file.tensors) + len(file.ops)) + 32 * sum(t.scales for t in file.tensors)
    size = 2 * activations + structures
    return [min(size, MAX_ARENA_BYTES), min(4 * size, MAX_ARENA_BYTES)]


def _ask(
    inspected: Inspected, images: NDArray[np.uint8], table: NDArray[Any] | None, request: dict[str, Any]
) -> tuple[dict[str, Any], NDArray[Any]]:
    inputs = input_table(inspected.facts) if table is None else table
    request |= {
        "memory_bytes": MEMORY_BYTES,
        "model_bytes": len(inspected.data),
        "images": images.shape,
        "table": inputs.tolist(),
        "dtype": str(inputs.dtype),
        "layout": inspected.facts.layout,
        "variables": inspected.facts.variables,
    }
    sent = json.dumps(request).encode() + b"\n" + inspected.data + np.ascontiguousarray(images).tobytes()
    module = _TFLM if request["runtime"] == "tflm" else _LITERT
    answer, data = _child(sent, START_SECONDS + IMAGE_SECONDS * len(images), module)
    return answer, np.frombuffer(data, np.dtype(answer["dtype"])).reshape(answer["shape"])


def _child(sent: bytes, seconds: float, module: str) -> tuple[dict[str, Any], bytes]:
    """(the answer, what follows it) of a child process to ``sent``, for which it will want ``module``. Raises ModelFileError where the
    model is at fault."""
    try:
        code, stdout, stderr = run_forked(_WORKER, sent, seconds, module) or _started(sent, seconds)
    except subprocess.TimeoutExpired:
        raise ModelFileError("the interpreter did not finish with the model", "the file is probably broken; export it again") from None
    said = stderr.decode("utf-8", "replace").strip()
    if code < 0 or not stdout:
        if code > 0 and "Traceback" in said:
            raise InternalError(f"the interpreter process failed: {said.splitlines()[-1]}")
        cause = signal.Signals(-code).name if code < 0 else f"exit {code}"
        raise ModelFileError(f"the interpreter crashed on the model ({cause})", "the file is broken; copy or export it again")
    line, _, data = stdout.partition(b"\n")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        reason = _reason(answer["error"], said)
        raise ModelFileError(f"the interpreter refuses the model: {reason}", "the file is broken or uses what this runtime lacks")
    return answer, data


def _started(sent: bytes, seconds: float) -> tuple[int, bytes, bytes]:
    """(return code, standard output, standard error) of a child process that is started anew. Raises subprocess.TimeoutExpired."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", str(_WORKER)]
    done = subprocess.run(command, input=sent, capture_output=True, timeout=seconds, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


def _reason(error: str, said: str) -> str:
    lines: Sequence[str] = [line for line in said.splitlines() if line and not line.startswith("INFO")]
    return f"{error} ({lines[-1][:200]})" if lines else error
