"""Runs many .tflite files in tflite-micro's interpreter, all in one child process: seconds for a thousand of them."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

ARENA_BYTES = 1 << 20


@dataclass(frozen=True)
class Ran:
    """What tflite-micro did with a file."""

    head: int
    tail: int
    """Bytes of its arena, by the recording allocator; 0 where it refuses."""
    error: str
    """Why it refuses; "crashed" where the process died of it."""
    smallest: int = 0
    """The smallest arena with which it starts, in steps of 16 bytes, where that was asked for."""
    printed: str = ""
    """The recording allocator's report."""


def run_many(files: Sequence[bytes], *, smallest: bool = False, arena_bytes: int = ARENA_BYTES) -> list[Ran]:
    """Each of ``files`` set up and run once on zeros, in a child process that is begun anew behind a file that crashes it."""
    done: list[Ran] = []
    while len(done) < len(files):
        left = files[len(done) :]
        request = {"smallest": smallest, "arena_bytes": arena_bytes, "sizes": [len(f) for f in left]}
        sent = json.dumps(request).encode() + b"\n" + b"".join(left)
        child = subprocess.run([sys.executable, __file__], input=sent, capture_output=True, check=False)
        lines = [json.loads(line) for line in child.stdout.splitlines()]
        done += [Ran(**line) for line in lines]
        if len(lines) < len(left):
            said = child.stderr.decode(errors="replace")
            assert child.returncode < 0, said[-2000:]
            done.append(Ran(0, 0, "crashed: " + said[-300:].strip()))
    return done


# The child ------------------------------------------------------------------------------------------------


def _heard(call: Callable[[], Any], errors: BinaryIO, kept: int) -> tuple[Any, str, bool]:
    """(answer, what was written to the file descriptor of standard error, whether it raised)."""
    errors.seek(0)
    errors.truncate()
    os.dup2(errors.fileno(), 2)
    value, failed = None, False
    try:
        value = call()
    except Exception as error:
        failed = True
        os.write(2, f"\n{type(error).__name__}: {error}".encode())
    finally:
        os.dup2(kept, 2)
    errors.seek(0)
    return value, errors.read().decode(errors="replace"), failed


def _run(interpreter: Any) -> None:
    for number in range(64):
        try:
            details = interpreter.get_input_details(number)
        except Exception:
            break
        interpreter.set_input(np.zeros(details["shape"], details["dtype"]), number)
    interpreter.invoke()


def _measured(model: bytes, request: dict[str, Any], hear: Callable[[Callable[[], Any]], tuple[Any, str, bool]]) -> dict[str, Any]:
    from tflite_micro import runtime

    def make(arena_bytes: int) -> Any:
        return runtime.Interpreter.from_bytes(model, arena_size=arena_bytes)

    interpreter, said, failed = hear(lambda: make(request["arena_bytes"]))
    if not failed:
        _, said, failed = hear(lambda: _run(interpreter))
    if failed:
        return {"head": 0, "tail": 0, "error": said.strip()[-300:]}
    _, printed, _ = hear(interpreter.print_allocations)
    found = dict(re.findall(r"Arena allocation (head|tail) (\d+)", printed))
    answer = {"head": int(found["head"]), "tail": int(found["tail"]), "error": "", "printed": printed}
    if request["smallest"]:
        fails, starts = int(found["tail"]) - 16, request["arena_bytes"]
        while starts - fails > 16:
            middle = (fails + starts) // 32 * 16
            fails, starts = (middle, starts) if hear(lambda size=middle: make(size))[2] else (fails, middle)  # type: ignore[misc]
        answer["smallest"] = starts
    return answer


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    request = json.loads(sys.stdin.buffer.readline())
    kept = os.dup(2)
    with tempfile.TemporaryFile() as errors:
        for size in request["sizes"]:
            answer = _measured(sys.stdin.buffer.read(size), request, lambda call: _heard(call, errors, kept))
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()


if __name__ == "__main__":
    _main()
