"""Emulated cores: what is built runs there, instructions are counted exactly, and what is missing is named."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from search_runs import wait_until

from tinynas import api
from tinynas.cli import run
from tinynas.errors import DiskError, UserError
from tinynas.export.tflite import dummy_file
from tinynas.graph import lower
from tinynas.target.cores import CORES, core_named
from tinynas.target.emulator import emulate
from tinynas.target.library import COMPILER, Library, Tree, build_library, compile_source, compiler_version
from tinynas.target.probe import _SOURCES, Job, _answers, instructions, link, run_probe

needs_tools = pytest.mark.skipif(
    shutil.which(COMPILER) is None or shutil.which("qemu-system-arm") is None, reason=f"{COMPILER} or qemu-system-arm is not installed"
)
#: A loop of two instructions, timed by the machine's clock.
SPIN = r"""
#include <stdint.h>
#include <stdio.h>
static uint32_t Now() { return *reinterpret_cast<volatile uint32_t*>(0xE000E018u); }
__attribute__((noinline)) void Spin(uint32_t n) { asm volatile(".syntax unified\n 1: subs %0, #1\n bne 1b" : "+l"(n)::"cc"); }
int main() {
  *reinterpret_cast<volatile uint32_t*>(0xE000E014u) = 0xFFFFFFu;
  *reinterpret_cast<volatile uint32_t*>(0xE000E018u) = 0;
  *reinterpret_cast<volatile uint32_t*>(0xE000E010u) = 5;
  float half = 0.5f;
  const uint32_t begun = Now();
  Spin(100000);
  const uint32_t spent = (begun - Now()) & 0xFFFFFFu;
  asm volatile("" : "+g"(half));
  printf("%lu %d\n", static_cast<unsigned long>(spent), static_cast<int>(half * 8));
  return 7;
}
"""


@needs_tools
@pytest.mark.parametrize("name", CORES)
def test_every_core_runs_and_counts_each_instruction(name: str, tmp_path: Path) -> None:
    core = CORES[name]
    (tmp_path / "main.cc").write_text(SPIN)
    compile_source(tmp_path / "main.cc", tmp_path / "main.o", core.flags)
    compile_source(_SOURCES / "startup.cc", tmp_path / "startup.o", core.flags)
    link(core, [tmp_path / "main.o", tmp_path / "startup.o"], tmp_path / "main.elf")
    ended = emulate(tmp_path / "main.elf", core, seconds=60, counting=True)
    assert ended.status == 7, ended.said
    ticks, four = map(int, ended.said.split())
    assert four == 4
    assert 200_000 <= instructions(ticks, core) <= 200_000 + 10


@needs_tools
def test_a_program_that_hangs_is_stopped_and_what_dies_says_its_last_words(tmp_path: Path) -> None:
    core = CORES["cortex-m4"]
    compile_source(_SOURCES / "startup.cc", tmp_path / "startup.o", core.flags)
    for name, body in (
        ("hangs", 'printf("model 0\\narena 5\\n"); for (;;) {}'),
        ("dies", 'printf("model 0\\noh no\\n"); asm volatile("udf #0");'),
    ):
        (tmp_path / f"{name}.cc").write_text(f"#include <stdio.h>\nint main() {{ {body} return 0; }}\n")
        compile_source(tmp_path / f"{name}.cc", tmp_path / f"{name}.o", core.flags)
        link(core, [tmp_path / f"{name}.o", tmp_path / "startup.o"], tmp_path / f"{name}.elf")
    (hung,) = run_probe(tmp_path / "hangs.elf", core, [Job(b"m")], seconds=1)
    assert (hung.arena_bytes, hung.refused) == (None, "did not finish in 1 s")
    (died,) = run_probe(tmp_path / "dies.elf", core, [Job(b"m")])
    assert (died.arena_bytes, died.refused, died.log) == (None, "the program died", ("oh no",))


# building -----------------------------------------------------------------------------------------------------------


def tools_that_do(folder: Path, compiling: str) -> str:
    """A PATH on which the tool chain is a script: it tells its version, and to compile does ``compiling`` ($out is what it shall make)."""
    script = f"""#!/bin/sh
case "$1" in --version) echo "tool 1"; exit 0;; rcs) echo packed > "$2"; exit 0;; esac
while [ $# -gt 0 ]; do [ "$1" = -o ] && out="$2"; shift; done
{compiling}
"""
    folder.mkdir()
    for name in ("arm-none-eabi-g++", "arm-none-eabi-gcc", "arm-none-eabi-ar", "qemu-system-arm"):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    micro = tmp_path / "tree" / "tensorflow/lite/micro"
    (micro / "kernels").mkdir(parents=True)
    (micro / "micro_interpreter.h").touch()
    for number in range(30):
        (micro / "kernels" / f"k{number}.cc").write_text(f"int k{number};")
    return Tree.find(tmp_path / "tree")


def test_a_build_that_was_stopped_goes_on(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core, log = CORES["cortex-m4"], tmp_path / "log"
    monkeypatch.setenv("PATH", tools_that_do(tmp_path / "bin", f'echo "$out" >> {log}; echo o > "$out"'))
    wanted = Library.of(tree, core, "reference", tmp_path / "cache")
    assert len(wanted.left) == 30

    def stop(_what: str, done: int, _of: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_library(tree, core, "reference", tmp_path / "cache", jobs=1, on_step=stop)
    left = len(wanted.left)
    assert 0 < left <= 18 and not list(wanted.folder.glob(".*.o"))
    log.unlink()
    seen: list[tuple[int, int]] = []
    made = build_library(tree, core, "reference", tmp_path / "cache", jobs=2, on_step=lambda _, done, of: seen.append((done, of)))
    assert made == wanted.file and made.read_text() == "packed\n" and len(log.read_text().split()) == left
    assert max(seen) == (30, 30) and sorted(path.name for path in wanted.folder.iterdir()) == ["build.lock", "libtflm.a"]
    log.write_text("")
    assert build_library(tree, core, "reference", tmp_path / "cache") == made and log.read_text() == "" and wanted.left == []


def test_ctrl_c_in_a_build_says_how_to_go_on(tree: Tree, tmp_path: Path) -> None:
    path = tools_that_do(tmp_path / "bin", 'sleep 0.3; echo o > "$out"')
    model = tmp_path / "net.tflite"
    model.write_bytes(dummy_file(lower(api.load_net("mcunet-tiny2"))))
    command = [sys.executable, "-m", "tinynas", "verify", str(model), "--tflm", str(tree.path), "--kernels", "reference", "--jobs", "1"]
    environment = {**os.environ, "PATH": path, "TINYNAS_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(list((tmp_path / "cache").glob("tflm/*/[0-9a-f]*.o"))) >= 2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "30 sources, about 1 minute with 1 compiler at once" in out
    assert "nothing finished is lost; continue with: tinynas verify" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("compiling", "said"),
    [
        ('echo "x.cc: fatal error: error writing to /tmp/a.s: No space left on device" >&2; exit 1', "cannot be written: No space left"),
        ('echo "x.cc:3: error: no such type" >&2; exit 1', "cannot compile k0.cc: x.cc:3: error: no such type"),
    ],
)
def test_what_keeps_a_build_from_ending_is_said_in_one_message(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compiling: str, said: str
) -> None:
    compiling = f'case "$out" in *.gch) echo o > "$out"; exit 0;; esac; {compiling}'
    monkeypatch.setenv("PATH", tools_that_do(tmp_path / "bin", compiling))
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "net.tflite"
    model.write_bytes(dummy_file(lower(api.load_net("mcunet-tiny2"))))
    assert run(["verify", str(model), "--tflm", str(tree.path), "--kernels", "reference", "--jobs", "1"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("error: ") and err.count("\n") == 2 and "  -> " in err


def test_a_cache_that_cannot_be_written_is_named(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", tools_that_do(tmp_path / "bin", 'echo o > "$out"'))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tflm").touch()
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DiskError, match=r"cache/tflm/.*cannot be written.*\n.*TINYNAS_CACHE"):
        build_library(tree, CORES["cortex-m4"], "reference", tmp_path / "cache")


# what is missing ----------------------------------------------------------------------------------------------------


def test_cores_are_found_by_short_names() -> None:
    assert core_named("m4") is core_named("Cortex-M4") is CORES["cortex-m4"]
    assert core_named("M0+") is CORES["cortex-m0plus"]
    with pytest.raises(UserError, match=r"unknown target 'm5'.*\n.*cortex-m55"):
        core_named("m5")


def test_memories_do_not_overlap() -> None:
    for core in CORES.values():
        places = sorted((core.code, core.data, core.heap))
        assert all(at + size <= following for (at, size), (following, _) in pairwise(places))


def test_a_missing_tree_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFLM_DIR", raising=False)
    with pytest.raises(UserError, match=r"no tree is given.*\n.*--tflm"):
        Tree.find(None)
    with pytest.raises(UserError, match="holds no tensorflow/lite/micro"):
        Tree.find(tmp_path)


def test_a_missing_compiler_is_named_with_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match=r"not installed\n.*gcc-arm-none-eabi"):
        compiler_version()


def test_answers_are_read_model_by_model_and_the_last_of_a_dead_program_is_not_believed() -> None:
    core = CORES["cortex-m4"]
    first = "model 0\narena 1000\nop 0 CONV_2D 160\nop 1 SOFTMAX 16\n"
    first += "output 0 0 ff01\noutput 0 1 02\noutput 1 0 0304\noutput 1 1 05\n"
    said = first + "model 1\nDidn't find op\nrefused prepare\nmodel 2\narena 12"
    one, two, three = _answers(said, 3, core)
    assert one is not None and two is not None and three is None
    assert (one.arena_bytes, one.refused) == (1000, "")
    assert one.outputs == ((b"\xff\x01", b"\x02"), (b"\x03\x04", b"\x05"))
    assert one.instructions == (("CONV_2D", 100), ("SOFTMAX", 10))
    assert (two.arena_bytes, two.refused, two.log) == (None, "prepare", ("Didn't find op",))
    assert _answers(said + "\ndone\n", 3, core)[2] is not None
