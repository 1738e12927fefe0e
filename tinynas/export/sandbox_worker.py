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
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOTALS = re.compile(rb"Arena allocation (head|tail) (\d+) bytes")


def main() -> None:
    """Answer the request on standard input."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever native code prints must not get between the answers
    request = json.loads(sys.stdin.buffer.readline())
    _limit_memory(request["memory_bytes"])
    model = sys.stdin.buffer.read(request["model_bytes"])
    shape = tuple(request["images"])
    images = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(shape)
    table = np.array(request["table"], dtype=request["dtype"])
    answer: dict[str, Any] = {}
    outputs = np.zeros((0,))
    try:
        if request["runtime"] == "tflm":
            answer, outputs = _tflm(model, images, table, request["arena_bytes"])
        elif request["runtime"] == "load":
            answer = {"loaded": _load(model, images, table, request["resolvers"])}
        else:
            outputs = _litert(model, images, table, request["runtime"])
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


def _tflm(model: bytes, images: NDArray[np.uint8], table: NDArray[Any], arena_sizes: list[int]) -> tuple[dict[str, Any], NDArray[Any]]:
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
    for image in images:
        interpreter.set_input(table[image][None], 0)
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


def _litert(model: bytes, images: NDArray[np.uint8], table: NDArray[Any], resolver: str) -> NDArray[Any]:
    interpreter = _interpreter(model, resolver)
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    results = []
    for image in images:
        interpreter.set_tensor(source, table[image][None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(target).reshape(-1))
    return np.stack(results) if results else np.zeros((0,))


def _load(model: bytes, images: NDArray[np.uint8], table: NDArray[Any], resolvers: list[str]) -> dict[str, str]:
    # resolver -> "" where it loads and runs, else why not
    found = {}
    for resolver in resolvers:
        try:
            _litert(model, images[:1], table, resolver)
            found[resolver] = ""
        except Exception as error:
            found[resolver] = str(error)[:500] or type(error).__name__
    return found


if __name__ == "__main__":
    main()
