"""What the command line says: one of a thing is one thing; of several processes the first one speaks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tinynas import report
from tinynas.arch import Arch, ConvLayer
from tinynas.budget import load_budget
from tinynas.cli import run as tinynas
from tinynas.cli.common import session
from tinynas.cli.search import _finish, _first_line
from tinynas.config import load, shipped
from tinynas.errors import ConfigError, Fault, counted
from tinynas.runs import Run
from tinynas.search.settings import Counts, SearchResult
from tinynas.space import Space


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "network", "0 networks"),
        (1, "network", "1 network"),
        (2, "network", "2 networks"),
        (12_345, "image", "12,345 images"),
        (1.0, "minute", "1 minute"),
        (0.5, "minute", "0.5 minutes"),
        (8.0, "minute", "8 minutes"),
    ],
)
def test_one_is_singular(number: float, noun: str, words: str) -> None:
    assert counted(number, noun) == words


def test_a_plural_of_its_own_and_the_words_of_faults() -> None:
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
    assert ConfigError("x.yaml", [Fault("a", None, "is wrong")]).message.startswith("x.yaml: 1 fault\n")
    assert ConfigError("x.yaml", [Fault("a", None, "is wrong")] * 2).message.startswith("x.yaml: 2 faults\n")


def test_the_first_line_of_a_search() -> None:
    assert _first_line("b", "tiny", "d", 60.0, None) == "searching tiny for b on d, 1 minute"
    assert _first_line("b", "tiny", "d", 480.0, 1) == "searching tiny for b on d, 8 minutes"
    assert _first_line("b", "tiny", "d", None, 1) == "searching tiny for b on d, 1 network"
    assert _first_line("b", "tiny", "d", None, 3) == "searching tiny for b on d, 3 networks"


@pytest.mark.parametrize(("size", "words"), [(1, "1 network on the front of 2 trained"), (2, "2 networks on the front of 2 trained")])
def test_the_last_lines_of_a_search(
    size: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "json_mode", False)  # whatever ran before
    monkeypatch.setattr(report, "write_report", lambda run: run.path / "report.html")
    front = tuple({"id": f"{i}", "accuracy": 0.5, "macs": 1000, "sram_bytes": 10, "flash_bytes": 10, "epochs": 1} for i in range(size))
    result = SearchResult("r", Counts(trained=2, infeasible=1), 0.5, front, "", 60.0)
    prepared: Any = SimpleNamespace(run=Run(tmp_path))
    _finish(prepared, result, False)
    said = capsys.readouterr().out
    assert words in said and "1 proposal did not fit, 0 known already" in said


@pytest.mark.parametrize(("number", "world", "speaks"), [("0", "2", True), ("1", "2", False), ("1", "1", True)])
def test_of_several_processes_the_first_speaks(
    number: str, world: str, speaks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", number)
    monkeypatch.setenv("WORLD_SIZE", world)
    for arguments in (["budgets"], ["budgets", "--json"]):
        assert tinynas(arguments) == 0
        out, err = capsys.readouterr()
        assert bool(out) == speaks and not err
    assert tinynas(["estimate", "nonsense", "--json"]) == 2
    out, err = capsys.readouterr()
    assert bool(out) == speaks, "one JSON document, also of a fault"
    assert err.startswith("error:" if speaks else "process 1: error:"), "what went wrong elsewhere is said, and where"


@pytest.mark.parametrize(("number", "world", "expected"), [("1", "2", 1), ("0", "2", 0), ("1", "1", 0)])
def test_a_process_keeps_its_number_when_its_group_is_gone(number: str, world: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two networks there is no group: were the others 0 then, all would export."""
    from tinynas.train.group import rank

    monkeypatch.setenv("RANK", number)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert rank() == expected


@pytest.mark.slow
def test_torchrun_promotes_with_two_processes_and_says_every_line_once(tmp_path: Path) -> None:
    options = {"synthetic": {"train": 64, "val": 32, "test": 32}}
    run = Run.create(
        tmp_path / "run",
        config={"data": "synthetic", "data_options": options, "settings": {"seed": 0}},
        space=load(shipped("search_spaces")["tiny"], Space),
        budget=load_budget("stm32f746"),
        env={},
    )
    net = Arch(height=16, width=16, channels=3, classes=2, stem=ConvLayer(out=8, kernel=3, stride=2), blocks=())
    (tmp_path / "net.yaml").write_text(net.to_yaml())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "TINYNAS_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    command = [sys.executable, "-m", "tinynas", "promote", str(run.path), str(tmp_path / "net.yaml"), "--epochs", "2"]
    children = [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for rank in range(2)
    ]
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert "files of" in outputs[0][0] and "picture:" in outputs[0][0]
    assert outputs[1][0] == "" and "epoch" not in outputs[1][1]
    assert (run.path / "report.html").is_file()
