"""The child process that runs a model file in native interpreters; see :mod:`tinynas.export.sandbox`.

Started as a script. Standard input: a line of JSON (the request), then the model, then the images. Standard output:
a line of JSON (the answer), then the outputs. Imports nothing of tinynas.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
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
    answers.flush()


def _limit_memory(limit: int) -> None:
    # A broken file may ask for any amount of memory; it must not get this machine's. Windows has no such limit.
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tflm(model: bytes, inputs: Inputs, arena_sizes: list[int]) -> tuple[dict[str, Any], NDArray[Any]]:
    from tflite_micro import runtime

    interpreter = None
    for size in arena_sizes:
        try:
            interpreter = runtime.Interpreter.from_bytes(model, arena_size=size)
            break
        except RuntimeError:
            if size == arena_sizes[-1]:
                raise
    assert interpreter is not None
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
