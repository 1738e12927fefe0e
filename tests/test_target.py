"""Emulated cores: what is built runs there, instructions are counted exactly, and what is missing is named."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tinynas.errors import UserError
from tinynas.target.cores import CORES, core_named
from tinynas.target.library import COMPILER, Tree, compile_source, compiler_version
from tinynas.target.probe import _SOURCES, ICOUNT_SHIFT, _answers, instructions, link

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
    flags = (*core.flags, f"-DTINYNAS_FLOAT_UNIT={int(core.float_unit)}")
    compile_source(tmp_path / "main.cc", tmp_path / "main.o", flags)
    compile_source(_SOURCES / "startup.cc", tmp_path / "startup.o", flags)
    link(core, [tmp_path / "main.o", tmp_path / "startup.o"], tmp_path / "main.elf")
    command = ["qemu-system-arm", "-M", core.machine, "-nographic", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(tmp_path / "main.elf")]
    command += ["-icount", f"shift={ICOUNT_SHIFT},sleep=off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 7, done.stderr
    ticks, four = map(int, done.stdout.split())
    assert four == 4
    assert 200_000 <= instructions(ticks, core) <= 200_000 + 10


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
