"""The child process that runs a model file in native interpreters; see :mod:`tinynas.export.sandbox`.

Started as a script. Standard input: a line of JSON (the request), then the model, then the images. Standard output:
a line of JSON (the answer), then the outputs. A comparison reads two models, then inputs as they are, and answers with one line.
Imports nothing of tinynas.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOTALS = re.compile(rb"Arena allocation (head|tail) (\d+) bytes")


@dataclass(frozen=True)
class Inputs:
    """The images as the model's input: one after the other, with its dimensions."""

    images: NDArray[np.uint8]
    """(N, H, W, C)."""
    table: NDArray[Any]
    """(256,) or (256, C): the element of each byte."""
    layout: str
    """nhwc, nchw or nhw."""
    variables: bool
    """Whether the model has state, which must not pass from one image to the next."""

    def __iter__(self) -> Iterator[NDArray[Any]]:
        channels = np.arange(self.images.shape[3])
        for image in self.images:
            elements = self.table[image] if self.table.ndim == 1 else self.table[image, channels]
            if self.layout == "nchw":
                elements = np.ascontiguousarray(elements.transpose(2, 0, 1))
            yield elements[None, :, :, 0] if self.layout == "nhw" else elements[None]


def main() -> None:
    """Answer the request on standard input."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever native code prints must not get between the answers
    request = json.loads(sys.stdin.buffer.readline())
    _limit_memory(request["memory_bytes"])
    if request["runtime"] == "compare":
        answers.write(json.dumps(_compared(request)).encode() + b"\n")
        return answers.flush()
    model = sys.stdin.buffer.read(request["model_bytes"])
    shape = tuple(request["images"])
    images = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(shape)
    inputs = Inputs(images, np.array(request["table"], dtype=request["dtype"]), request["layout"], request["variables"])
    answer: dict[str, Any] = {}
    outputs = np.zeros((0,))
    try:
        if request["runtime"] == "tflm":
            answer, outputs = _tflm(model, inputs, request["arena_bytes"])
        elif request["runtime"] == "load":
            answer = {"loaded": _load(model, inputs, request["resolvers"])}
        else:
            outputs = _litert(model, inputs, request["runtime"])
    except Exception as error:  # a broken file makes the interpreters' Python parts raise anything
        answer = {"error": str(error)[:500] or type(error).__name__}
    answer |= {"shape": outputs.shape, "dtype": str(outputs.dtype)}
    answers.write(json.dumps(answer).encode() + b"\n" + np.ascontiguousarray(outputs).tobytes())
    return answers.flush()


def _limit_memory(limit: int) -> None:
    # A broken file may ask for any amount of memory; it must not get this machine's. Windows has no such limit.
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _started(model: bytes, arena_sizes: list[int]) -> Any:
    """tflite-micro's interpreter, in the first of these arenas in which it starts."""
    from tflite_micro import runtime

    for size in arena_sizes[:-1]:
        with contextlib.suppress(RuntimeError):
            return runtime.Interpreter.from_bytes(model, arena_size=size)
    return runtime.Interpreter.from_bytes(model, arena_size=arena_sizes[-1])


def _tflm(model: bytes, inputs: Inputs, arena_sizes: list[int]) -> tuple[dict[str, Any], NDArray[Any]]:
    interpreter = _started(model, arena_sizes)
    results = []
    for element in inputs:
        if inputs.variables:
            interpreter.reset()
        interpreter.set_input(element, 0)
        interpreter.invoke()
        results.append(np.array(interpreter.get_output(0)).reshape(-1))
    printed = _printed(interpreter.print_allocations)
    totals = {key.decode(): int(value) for key, value in _TOTALS.findall(printed)}
    if totals.keys() != {"head", "tail"}:
        raise RuntimeError("tflite-micro did not report its arena")
    return {"arena": [totals["head"], totals["tail"]]}, np.stack(results) if results else np.zeros((0,))


def _printed(call: Callable[[], None]) -> bytes:
    # TFLM writes to the file descriptor of standard error, past Python.
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 2)
            call()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return file.read()


def _compared(request: dict[str, Any]) -> dict[str, Any]:
    """Two models on the same inputs, byte by byte: given ones, then extremes, then random ones until the count or the time is up."""
    models = [sys.stdin.buffer.read(size) for size in request["models_bytes"]]
    given = np.frombuffer(sys.stdin.buffer.read(), request["given_dtype"]).reshape(request["given"])
    try:
        runs: list[_Runner]
        if request["kernels"] == "tflm":
            runs = [_TflmRunner(*pair, request["outputs"]) for pair in zip(models, request["arena_bytes"], strict=True)]
        else:
            runs = [_LitertRunner(model, request["kernels"]) for model in models]
        return _run_both(runs, request, given)
    except Exception as error:  # a broken file makes the interpreters' Python parts raise anything
        return {"error": str(error)[:500] or type(error).__name__}


def _run_both(runs: list[_Runner], request: dict[str, Any], given: NDArray[Any]) -> dict[str, Any]:
    rng = np.random.default_rng(request["seed"])
    end = time.monotonic() + request["seconds"]
    compared, different, first = 0, 0, None
    for index in range(request["count"]):
        if compared and time.monotonic() > end:
            break
        values = [_drawn(spec, index - len(given), rng) for spec in request["inputs"]]
        if index < len(given):
            values[0] = given[index]
        outputs = [[np.asarray(output).tobytes() for output in run.outputs_of(values)] for run in runs]
        compared += 1
        if outputs[0] != outputs[1]:
            different += 1
            first = index if first is None else first
    return {"compared": compared, "different": different, "first": first, "arena": [run.arena() for run in runs]}


def _drawn(spec: dict[str, Any], index: int, rng: np.random.Generator) -> NDArray[Any]:
    """Input number ``index`` of a comparison: extremes first, then noise of several kinds in turn."""
    shape, low, high, middle = spec["shape"], spec["low"], spec["high"], spec["middle"]
    dtype = np.dtype(spec["dtype"])
    ends = np.array([low, high])
    places = np.indices(shape).sum(0) if shape else np.zeros(())
    if index < 0:  # a given input takes its place
        return np.full(shape, middle, dtype)
    if index < 5:
        fixed = [np.full(shape, low), np.full(shape, high), np.full(shape, middle), ends[places % 2], ends[(places + 1) % 2]]
        return np.asarray(fixed[index]).astype(dtype)
    match index % 4:
        case 0:  # any element anything
            found = rng.uniform(low, high + (dtype.kind != "f"), shape)
        case 1:  # the ends alone
            found = ends[rng.integers(0, 2, shape)]
        case 2:  # areas of one colour, as pictures have them
            coarse = rng.uniform(low, high, [-(-size // 8) if 0 < axis < len(shape) - 1 else size for axis, size in enumerate(shape)])
            for axis in range(1, len(shape) - 1):
                coarse = coarse.repeat(8, axis).take(range(shape[axis]), axis)
            found = coarse
        case _:  # dark or bright, of high or low contrast
            found = rng.normal(rng.uniform(low, high), (high - low) * rng.uniform(0, 0.3), shape)
    whole = found if dtype.kind == "f" else np.floor(found)
    return np.asarray(np.clip(whole, low, high), dtype)


class _Runner(ABC):
    """A model in an interpreter: every output of a list of inputs."""

    @abstractmethod
    def outputs_of(self, values: list[NDArray[Any]]) -> list[NDArray[Any]]: ...

    def arena(self) -> list[int] | None:
        return None


class _TflmRunner(_Runner):
    def __init__(self, model: bytes, arena_sizes: list[int], outputs: int) -> None:
        self.interpreter, self.count = _started(model, arena_sizes), outputs

    def outputs_of(self, values: list[NDArray[Any]]) -> list[NDArray[Any]]:
        for number, value in enumerate(values):
            self.interpreter.set_input(value, number)
        self.interpreter.invoke()
        return [self.interpreter.get_output(number) for number in range(self.count)]

    def arena(self) -> list[int] | None:
        totals = {key.decode(): int(value) for key, value in _TOTALS.findall(_printed(self.interpreter.print_allocations))}
        return [totals["head"], totals["tail"]]


class _LitertRunner(_Runner):
    def __init__(self, model: bytes, resolver: str) -> None:
        self.interpreter = _interpreter(model, resolver)

    def outputs_of(self, values: list[NDArray[Any]]) -> list[NDArray[Any]]:
        for details, value in zip(self.interpreter.get_input_details(), values, strict=True):
            self.interpreter.set_tensor(details["index"], value)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(details["index"]) for details in self.interpreter.get_output_details()]


def _interpreter(model: bytes, resolver: str) -> Any:
    from ai_edge_litert import interpreter as litert

    kind = litert.OpResolverType[resolver]
    interpreter = litert.Interpreter(model_content=model, experimental_op_resolver_type=kind, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _litert(model: bytes, inputs: Inputs, resolver: str) -> NDArray[Any]:
    interpreter = _interpreter(model, resolver)
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    results = []
    for element in inputs:
        if inputs.variables:
            interpreter.reset_all_variables()
        interpreter.set_tensor(source, element)
        interpreter.invoke()
        results.append(interpreter.get_tensor(target).reshape(-1))
    return np.stack(results) if results else np.zeros((0,))


def _load(model: bytes, inputs: Inputs, resolvers: list[str]) -> dict[str, str]:
    # resolver -> "" where it loads and runs, else why not
    found = {}
    for resolver in resolvers:
        try:
            _litert(model, replace(inputs, images=inputs.images[:1]), resolver)
            found[resolver] = ""
        except Exception as error:
            found[resolver] = str(error)[:500] or type(error).__name__
    return found


if __name__ == "__main__":
    main()
