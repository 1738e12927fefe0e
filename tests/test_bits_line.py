"""From the command line to a flashed file: a search with mixed bits and attention, promoted, exported and verified on an emulated core."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tinynas.cli import run as tinynas
from tinynas.graph import Mul, few_bits, lower
from tinynas.runs import Run
from tinynas.target.library import COMPILER

SPACE = """\
name: bits
resolution: [16, 24]
width_mult: [0.5, 1.0]
divisor: 4
weight_bits: {bits}
stem: {{out: 8}}
stages:
  - {{out: 8,  depth: 1, kernel: [3], expand: 1, stride: 1}}
  - {{out: 16, depth: 1, kernel: [3, 5], expand: [2, 3], stride: 2, attention: [se, spatial], weight_bits: [{least}]}}
  - {{out: 24, depth: 1, kernel: [3, 5], expand: [2, 3], stride: 2, act: [relu6, h_swish]}}
"""
BUDGET = """\
name: test board
core: cortex-m4
runtime: {runtime}
sram: 32 KiB
flash: 256 KiB
"""

needs_tools = pytest.mark.skipif(
    shutil.which(COMPILER) is None or shutil.which("qemu-system-arm") is None, reason=f"{COMPILER} or qemu-system-arm is not installed"
)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = tinynas([*arguments, "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def searched(folder: Path, runtime: str, bits: str, least: int) -> list[str]:
    """The arguments of a search with these choices."""
    (folder / "space.yaml").write_text(SPACE.format(bits=bits, least=least))
    (folder / "budget.yaml").write_text(BUDGET.format(runtime=runtime))
    inputs = ["--budget", str(folder / "budget.yaml"), "--space", str(folder / "space.yaml"), "--data", "synthetic"]
    small = ["--trials", "1", "--workers", "1", "--set", "epoch_images=60", "--set", "rungs=[1]"]
    return ["search", *inputs, *small, "--out", str(folder / "run")]


@needs_tools
def test_compiled_with_two_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, *searched(tmp_path, "compiled", "[8, 4, 2]", 2))
    (row,) = answer(capsys, "promote", str(tmp_path / "run"), "best", "--epochs", "1", "--set", "epoch_images=200", "--verify", "m4")[
        "promoted"
    ]
    run = Run.open(tmp_path / "run")
    graph = lower(run.arch(row["id"]))
    assert 2 in few_bits(graph).values() and any(isinstance(op, Mul) for op in graph.ops)
    verified = row["verified"]
    assert verified["good"] and verified["firmware"]["failed"] == "" and verified["equal_outputs"] == verified["compared_outputs"] > 0
    assert row["problems"] == [] and "2 in the compiled network" in run.artifact(row["id"]).report["weights"]  # type: ignore[union-attr]
    assert "2 bits" in (tmp_path / "run" / "nets" / row["id"] / "MODEL_CARD.md").read_text()


@needs_tools
@pytest.mark.skipif("TINYNAS_TARGET_CACHE" not in os.environ, reason="TINYNAS_TARGET_CACHE names no cache with built libraries")
def test_tflm_with_four_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Path(__file__).parents[2] / "shared" / "tflm"
    if not tree.is_dir():
        pytest.skip(f"{tree}: no sources of TFLM")
    monkeypatch.setenv("TINYNAS_CACHE", os.environ["TINYNAS_TARGET_CACHE"])
    answer(capsys, *searched(tmp_path, "tflm-cmsis-nn", "[8, 4]", 4))
    arguments = ["--epochs", "1", "--set", "epoch_images=200", "--verify", "m4", "--tflm", str(tree)]
    (row,) = answer(capsys, "promote", str(tmp_path / "run"), "best", *arguments)["promoted"]
    graph = lower(Run.open(tmp_path / "run").arch(row["id"]))
    assert 4 in few_bits(graph).values() and any(isinstance(op, Mul) for op in graph.ops)
    assert row["verified"]["good"] and row["verified"]["firmware"]["failed"] == ""
