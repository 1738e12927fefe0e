"""What the command line says: one of a thing is one thing; of several processes the first one speaks."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import make_run
from rich.console import Console
from rich.text import Text
from test_report_pace import run_of

from tinynas import report
from tinynas.api import PreparedSearch
from tinynas.arch import Arch, ConvLayer
from tinynas.budget import load_budget
from tinynas.cli import run as tinynas
from tinynas.cli.common import session
from tinynas.cli.search import MORE, _finish, _first_line, _prose, _run
from tinynas.config import load, shipped
from tinynas.errors import ConfigError, Fault, counted
from tinynas.report.page import document, render
from tinynas.report.source import Source
from tinynas.runs import Run
from tinynas.search.settings import Counts, SearchEvent, SearchResult, SearchSettings
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
    assert _first_line("b", None, "d", 40.0, None) == "searching for b on d, 40 seconds"
    assert _first_line("b", None, "d", 5400.0, None) == "searching for b on d, 1.5 hours"
    assert _first_line("b", "tiny", "d", None, 1) == "searching tiny for b on d, 1 network"
    assert _first_line("b", "tiny", "d", None, 3) == "searching tiny for b on d, 3 networks"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "json_mode", False)  # whatever ran before
    monkeypatch.delenv("COLUMNS", raising=False)  # distributed tests have it: lines would be folded
    monkeypatch.setattr(report, "write_report", lambda run: run.path / "report.html")


@pytest.mark.parametrize(("size", "words"), [(1, "1 network on the front of 2 trained"), (2, "2 networks on the front of 2 trained")])
@pytest.mark.usefixtures("told")
def test_the_last_lines_of_a_search(size: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "a run", dict(list({"a" * 10: (1e6, 0.6), "b" * 10: (3e7, 0.7)}.items())[:size]))
    run.append_log("times", {"number": 0, "id": "a" * 10, "epochs": 1, "images": 100, "seconds": (100 + 30) * 2 * 2e-3})
    result = SearchResult("r", Counts(trained=2, infeasible=1), 0.5, tuple(run.front()), "", 60.0)
    prepared: Any = SimpleNamespace(run=run, traded=True)
    _finish(prepared, result, False)
    said = capsys.readouterr().out
    assert words in said, said
    assert "1 proposal did not fit, 0 known already" in said, said
    # Twice the plan's guess of 1 ms an image and 1 ns a MAC; 60 epochs of 3,200 images (600 passed over more often), and 660 looked at.
    ends = said.splitlines()[-size:]
    minutes = [60 * (3200 + 220) * 2 * (1e-3 + 1e-9 * macs) / 60 for macs in (3e7, 1e6)]
    assert [round(number) for number in minutes] == [212, 14]
    assert [re.sub(" +", " ", line).partition(" best ")[2] or line.partition(" knee ")[2].strip() for line in ends] == [
        "# about 3.5 h, 30.0 M MACs",
        "# about 14 min, 1.00 M MACs",
    ][-size:]
    commands = [shlex.split(line.removeprefix("next: "), comments=True) for line in ends]
    assert commands == [["tinynas", "promote", str(run.path), name] for name in ("best", "knee")[:size]]


@pytest.mark.usefixtures("told")
def test_a_search_for_the_best_alone_speaks_of_no_front(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", {"a" * 10: (1e6, 0.6)}, objectives=("accuracy",))
    prepared: Any = SimpleNamespace(run=run, traded=False)
    _finish(prepared, SearchResult("r", Counts(trained=7), 0.5, tuple(run.front()), "", 60.0), False)
    said = capsys.readouterr().out
    assert "the best of 7 trained in 1m00s; 0 proposals did not fit" in said
    assert "front" not in said.replace(str(run.path), "") and "knee" not in said and "hypervolume" not in said


@pytest.mark.parametrize("traded", [True, False])
@pytest.mark.usefixtures("told")
def test_what_runs_on_counts_the_front_where_there_is_one(traded: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def go(show: Callable[[SearchEvent], None]) -> None:
        show(SearchEvent("trial", counts=Counts(trained=3), front_size=2, elapsed=5.0, best_accuracy=0.5))

    prepared: Any = SimpleNamespace(settings=SearchSettings(timeout=60.0), go=go, traded=traded)
    _run(prepared, False)
    said = "".join(capsys.readouterr())
    assert "3 trained" in said and "best 50.0 %" in said
    assert ("front 2" in said) == traded and ("front" in said) == traded and ("hypervolume" in said) == traded


def test_a_front_is_wanted_where_a_cost_is_named() -> None:
    for names, wanted in ((("accuracy", "macs"), True), (("accuracy",), False), (("worst_subset_accuracy",), False)):
        prepared = PreparedSearch(*[cast(Any, None)] * 4, SearchSettings(timeout=60.0, objectives=names))
        assert prepared.traded == wanted


@pytest.mark.usefixtures("told")
def test_an_older_run_says_no_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", {"a" * 10: (1e6, 0.6), "b" * 10: (4e6, 0.69), "c" * 10: (3e7, 0.7)}, images=None)
    assert tinynas(["pareto", str(run.path)]) == 0
    table, lines = capsys.readouterr().out.split("next: ")
    assert [row.split()[-1] for row in table.splitlines()[1:3]] == ["best", "knee"]
    assert lines.splitlines() == [
        f"tinynas promote {run.path} best  # 30.0 M MACs",
        f"      tinynas promote {run.path} knee  # 4.00 M MACs",
    ]


def test_before_the_bar_there_are_four_lines_at_most() -> None:
    notes = ["a" * 30, "b" * 90, "c" * 10]
    assert _prose("first", notes, 80) == [notes[0], MORE], "what has no room is left out, and what comes behind it"
    assert _prose("first", notes, 100) == [*notes[:2], MORE]
    assert _prose("first", [], 80) == [MORE]
    for width in (40, 80, 120):
        lines = ["word " * 20, *_prose("word " * 20, ["note " * 7] * 5, width)]
        assert sum(len(Text(line).wrap(Console(), width)) for line in lines) <= 4


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


#: One of what there would be several of.
ONE_OF_MANY = re.compile(
    r"(?<![\d.,x:/-])1 (networks|images|minutes|hours|seconds|epochs|classes|proposals|trials|trainings|cores|groups|stages|operators)\b"
)


@pytest.mark.usefixtures("told")
def test_a_page_of_one_network_and_the_words_of_one_of_everything(tmp_path: Path) -> None:
    assert ONE_OF_MANY.search("in 1 minutes") and not ONE_OF_MANY.search("0.1 minutes, 11 images, 3x1 images, 1 image")
    run = make_run(tmp_path / "run", networks=1, promoted=1, labels=["a", "b"])
    run.write_json("plan", {**run.read_json("plan"), "rungs": [1], "epoch_images": 1})
    wrong = ONE_OF_MANY.search(html.unescape(re.sub("<script.*?</script>", "", render(run), flags=re.S)))
    assert wrong is None, wrong
    words = json.dumps(document(Source(run, False)), default=str)
    wrong = ONE_OF_MANY.search(re.sub("<[^>]*>", "", words))
    assert wrong is None, words[max(0, wrong.start() - 80) : wrong.end() + 20] if wrong else ""


@given(number=st.integers(0, 3) | st.floats(0.4, 3.0), noun=st.sampled_from(["minute", "image", "network"]))
def test_one_alone_is_singular(number: float, noun: str) -> None:
    shown, word = counted(number, noun).split()
    assert (word == noun) == (shown == "1")
    assert float(shown) == pytest.approx(number, abs=0.006)


@pytest.mark.parametrize(
    ("number", "text"), [(1500.4, "1,500 minutes"), (1e6, "1,000,000 minutes"), (1.004, "1 minute"), (0.667, "0.667 minutes")]
)
def test_counts_are_never_written_with_exponents(number: float, text: str) -> None:
    assert counted(number, "minute") == text
