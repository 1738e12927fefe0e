"""Children forked of one process are as apart as if each were started anew: by what they say, how they end, and who goes down with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tinynas.arch import Arch, ConvLayer
from tinynas.export import forked, sandbox
from tinynas.export.forked import ForkServer, run_forked
from tinynas.export.tflite import dummy_file
from tinynas.graph import lower

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")

WORKER = """
import os, signal, sys, time
kept = []
def main():
    word = sys.stdin.buffer.read().decode()
    kept.append(word)
    print(os.getpid(), len(kept), "json" in sys.modules, word[:20])
    print("aside", file=sys.stderr)
    sys.stdout.flush()
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "sleep":
        time.sleep(60)
    if word == "leave":
        sys.exit(7)
    if word == "raise":
        raise ValueError("as said")
    if word == "long":
        os.write(1, bytes(3_000_000))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    script = tmp_path_factory.mktemp("forked") / "worker.py"
    script.write_text(WORKER)
    one = ForkServer(script)
    yield one
    one.close()


def said(server: ForkServer, word: str, module: str = "json") -> tuple[int, list[str], str]:
    found = server.run(word.encode(), 30, module)
    assert found is not None
    return found[0], found[1].decode(errors="replace").split()[:4], found[2].decode()


def test_each_is_a_process_of_its_own_that_finds_nothing_of_the_others(server: ForkServer) -> None:
    first, second = said(server, "one"), said(server, "two")
    assert first == (0, [first[1][0], "1", "True", "one"], "aside\n")
    assert second == (0, [second[1][0], "1", "True", "two"], "aside\n")
    assert len({first[1][0], second[1][0], str(os.getpid())}) == 3


def test_how_one_ends_is_known_and_harms_no_other(server: ForkServer) -> None:
    assert said(server, "crash")[0] == -signal.SIGSEGV
    assert said(server, "leave")[0] == 7
    code, _, errors = said(server, "raise")
    assert code == 1 and errors.endswith("ValueError: as said\n") and "Traceback" in errors
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        server.run(b"sleep", 0.5, "json")
    assert time.monotonic() - begun < 30  # it sleeps for 60
    assert said(server, "after", "no.such.module")[1][3] == "after"


def test_much_is_sent_and_said(server: ForkServer) -> None:
    found = server.run(b"x" * 5_000_000, 30, "json")
    assert found is not None and found[0] == 0 and found[1].endswith(b" " + b"x" * 20 + b"\n")
    found = server.run(b"long", 30, "json")
    assert found is not None and len(found[1]) > 3_000_000


def test_several_at_once_do_not_mix(server: ForkServer) -> None:
    words = [f"word{number}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert [found[1][3] for found in pool.map(lambda word: said(server, word), words)] == words


def test_a_server_that_is_gone_says_so_and_another_process_has_its_own(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    server = ForkServer(script)
    assert server.good
    server._process.kill()
    server._process.wait()
    assert not server.good and server.run(b"one", 30, "json") is None
    server.close()
    server.owner = -1
    assert not server.good


def test_a_worker_that_cannot_be_served_is_left_to_the_caller(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import sys\nsys.exit(3)\n")
    assert run_forked(script, b"", 30, "json") is None and run_forked(script, b"", 30, "json") is None
    forked._servers.pop(script).close()
    threads = tmp_path / "threads.py"
    threads.write_text("import threading, time\nthreading.Thread(target=time.sleep, args=(20,), daemon=True).start()\ndef main(): pass\n")
    assert run_forked(threads, b"", 30, "json") is None, "a process with threads is not forked"
    forked._servers.pop(threads).close()


MODEL = dummy_file(lower(Arch(height=8, width=8, channels=1, classes=3, stem=ConvLayer(out=4))))
IMAGES = np.full((2, 8, 8, 1), 128, np.uint8)


def test_models_run_the_same_in_processes_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    here = sandbox.run_tflm(MODEL, IMAGES)
    assert sandbox._WORKER in forked._servers and forked._servers[sandbox._WORKER].good
    monkeypatch.setattr(sandbox, "run_forked", lambda *_: None)
    anew = sandbox.run_tflm(MODEL, IMAGES)
    assert (here.outputs == anew.outputs).all() and (here.head_bytes, here.tail_bytes) == (anew.head_bytes, anew.tail_bytes)
