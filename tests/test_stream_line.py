"""By the command line: a search under a budget whose runtime takes a stream of frames, its front, and what promote writes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_sound_firmware import needs_board
from test_sounds import words

from tinynas import api
from tinynas.api import load_budget
from tinynas.cli import run as tinynas
from tinynas.cost import estimate
from tinynas.export.stepwise import compile_stream
from tinynas.graph import lower
from tinynas.quantize.grid import random_quantized
from tinynas.runs import Run

SPACE = """\
name: streamed
front_end: {sample_rate: 8000, clip_ms: 400, window_ms: 30, stride_ms: [20, 30], bins: [16, 24]}
divisor: 4
causal: true
stem: {out: 8, kernel: [[5, 3]], stride: [2, [1, 2]]}
stages:
  - {kind: [mbconv, separable], out: [8, 12], depth: [1, 2], kernel: [3, [5, 3]], expand: [1, 2], stride: [1, [2, 1]]}
"""
BUDGET = """\
name: listener
core: cortex-m4
runtime: compiled-stream
sram: 12 KiB
flash: 256 KiB
reserves: {sram: {stack: 0}}
"""


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = tinynas([*arguments, "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def test_a_stream_is_searched_promoted_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "budget.yaml").write_text(BUDGET)
    data = str(words(tmp_path / "data"))
    run = str(tmp_path / "run")
    inputs = ["--budget", str(tmp_path / "budget.yaml"), "--space", str(tmp_path / "space.yaml"), "--data", data]
    small = ["--trials", "3", "--workers", "1", "--set", "epoch_images=20", "--set", "rungs=[1]", "--set", "pool=60"]
    answer(capsys, "search", *inputs, *small, "--out", run)
    budget = load_budget(str(tmp_path / "budget.yaml"))
    front = answer(capsys, "pareto", run)
    assert front
    for trial in Run.open(Path(run)).trials():
        arch = Run.open(Path(run)).arch(trial.id)
        cost = estimate(lower(arch), "compiled-stream", core="cortex-m4")
        assert arch.causal and cost.stream is not None
        assert trial.costs["sram_bytes"] == cost.values()["sram_bytes"] <= budget.limits["sram_bytes"]
    verify = [] if needs_board.args[0] else ["--verify", "cortex-m4"]
    (row,) = answer(capsys, "promote", run, "best", "--epochs", "1", "--set", "epoch_images=20", *verify)["promoted"]
    assert row["problems"] == []
    if verify:
        found = row["verified"]
        assert found["good"] and found["firmware"]["failed"] == "" and found["static_bytes"] <= found["promised_static_bytes"]
    folder = tmp_path / "run" / "nets" / row["id"]
    plan = compile_stream(random_quantized(lower(Run.open(Path(run)).arch(row["id"])))).plan
    assert f"#define NETWORK_WORK_BYTES {plan.work_bytes}\n" in (folder / "stream" / "network_stream.h").read_text()
    name = (folder / "c" / "network.h").read_text().partition("#ifndef ")[2].partition("_H_")[0]
    assert f"#define {name}_WORK_BYTES {plan.work_bytes}\n" in (folder / "c" / "network.h").read_text()
    card = (folder / "MODEL_CARD.md").read_text()
    assert "for compiled-stream" in card
    answer(capsys, "export", run, row["id"], "--format", "stream", "--out", str(tmp_path / "again"))
    for name in ("network_stream.h", "network_stream.c"):
        assert (tmp_path / "again" / "stream" / name).read_bytes() == (folder / "stream" / name).read_bytes()


def test_without_a_space_a_stream_is_searched_in_the_shipped_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "budget.yaml").write_text(BUDGET)
    inputs = ["--budget", str(tmp_path / "budget.yaml"), "--data", str(words(tmp_path / "data"))]
    short = {"sample_rate": 8000, "clip_ms": 400, "bins": 32, "stride_ms": 20, "kind": "mfcc", "coefficients": 16}
    narrow = [f"space.front_end.{name}={value}" for name, value in short.items()] + ["space.width_mult=0.25"]
    small = ["epoch_images=20", "rungs=[1]", "pool=60", *narrow]
    run = tmp_path / "run"
    sets = [word for one in small for word in ("--set", one)]
    answer(capsys, "search", *inputs, *sets, "--trials", "2", "--workers", "1", "--out", str(run))
    opened = Run.open(run)
    assert opened.space.name == "listen-stream" and opened.space.causal
    assert {gene.name.rsplit(".", 1)[-1] for gene in opened.space.genes} >= {"dilation", "kind"}
    assert len(opened.trials()) == 2
    for trial in opened.trials():
        cost = estimate(lower(opened.arch(trial.id)), "compiled-stream", core="cortex-m4")
        assert trial.costs["sram_bytes"] == cost.values()["sram_bytes"]


def test_the_shipped_space_of_streams_leads_under_their_budgets_alone() -> None:
    assert [space.name for space in api._shipped_spaces(sounds="series", stream=True)] == ["listen-stream"]
    assert [space.name for space in api._shipped_spaces(sounds="series")] == ["listen-1d"]
    assert "listen-stream" not in [space.name for space in api._shipped_spaces()]
