"""Where the output goes: any encoding, a reader that leaves, a closed or full device, a narrow terminal, Ctrl-C."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from test_report_pace import run_of

from tinynas import api
from tinynas.budget import load_budget
from tinynas.cli.streams import STAND_INS
from tinynas.report import terminal
from tinynas.report.console import PlainConsole
from tinynas.report.small_plot import FrontPlot, staircase

COMMAND = [sys.executable, "-m", "tinynas"]
ROOT = Path(__file__).parent.parent


def environment(**more: str) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")},
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        **more,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(
        tmp_path_factory.mktemp("runs") / "grün 日本 – x", {"a" * 10: (1e6, 0.6), "b" * 10: (4e6, 0.69), "c" * 10: (3e7, 0.7)}
    ).path


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_every_encoding_will_do(encoding: str, run: Path) -> None:
    said = subprocess.run([*COMMAND, "pareto", str(run)], env=environment(PYTHONIOENCODING=encoding), capture_output=True, check=True)
    text = said.stdout.decode(encoding)
    assert not said.stderr
    shown = {"ascii": "gr\\xfcn \\u65e5\\u672c - x", "cp1252": "grün \\u65e5\\u672c – x"}
    assert shown.get(encoding, "grün 日本 – x") in text
    assert ("█" if encoding == "utf-8" else "##########") in text
    assert text.count("best") == 2
    broken = subprocess.run([*COMMAND, "pareto", "nö – 日"], env=environment(PYTHONIOENCODING=encoding), capture_output=True, check=False)
    assert broken.returncode == 2 and b"Traceback" not in broken.stderr


def test_stand_ins_take_as_much_room_as_what_they_stand_for() -> None:
    assert all(text.isascii() and (len(text) == 1 or char in "≤≥") for char, text in STAND_INS.items())


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        # Each command once, and one of them both ways; a process takes a second to start.
        (["budgets"], 0),
        (["budgets"], 1),
        (["budgets", "--json"], 1),
        (["--help"], 0),
        (["init", "--boards"], 1),
        *(pytest.param(*way, marks=pytest.mark.slow) for way in ((["budgets", "--json"], 0), (["--help"], 1), (["init", "--boards"], 0))),
    ],
)
def test_a_reader_that_leaves_is_no_fault(arguments: list[str], lines: int) -> None:
    with subprocess.Popen([*COMMAND, *arguments], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)


@pytest.mark.parametrize("arguments", [["budgets"], ["budgets", "--json"], ["estimate", "none", "--json"]])
def test_output_that_goes_nowhere(arguments: list[str]) -> None:
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *COMMAND, *arguments], env=environment(), capture_output=True, check=False)
    assert (closed.returncode, b"Traceback" in closed.stderr) == (2 if "none" in arguments else 0, False)
    if not Path("/dev/full").exists():
        return
    full = subprocess.run(["sh", "-c", '"$@" >/dev/full', "sh", *COMMAND, *arguments], env=environment(), capture_output=True, check=False)
    assert (full.returncode, b"Traceback" in full.stderr) == (2, False)
    assert full.stderr.count(b"error:") == 1


# narrow terminals ---------------------------------------------------------------------------------------


def lines_of(renderable: object, width: int) -> list[str]:
    file = io.StringIO()
    PlainConsole(file=file, width=width, force_terminal=True, no_color=True, legacy_windows=False).print(renderable)
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in file.getvalue().splitlines()]


ROWS = [
    {"id": "aaaaaaaaaa", "accuracy": 0.8, "macs": 2.53e6, "sram_bytes": 51_556, "flash_bytes": 89_596, "latency_ms": 547.0},
    {"id": "bbbbbbbbbb", "accuracy": 0.7, "macs": 385e3, "sram_bytes": 15_972, "flash_bytes": 22_076, "latency_ms": 83.1},
]


@pytest.mark.parametrize("width", [20, 30, 40, 50, 66, 80, 120])
def test_tables_say_everything_at_any_width(width: int) -> None:
    cost = api.estimate("mcunet-tiny2")
    for table in (
        terminal.front_table(ROWS, {"aaaaaaaaaa": "best", "bbbbbbbbbb": "knee"}),
        terminal.cost_table(cost, load_budget("stm32f746"), name="mcunet-tiny2"),
        terminal.layers_table(cost),
    ):
        lines = lines_of(table, width)
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)
        # Nothing is lost: every word of the wide table is in the narrow one, but titles of what names a row; bars say what words say.
        wide, narrow = (set(re.sub("[,█▉▊▋▌▍▎▏·]", " ", " ".join(text)).split()) for text in (lines_of(table, 200), lines))
        assert wide - narrow <= {"network", "#", "operator"}


def test_a_table_first_loses_its_bars_then_is_stacked() -> None:
    table = terminal.front_table(ROWS)
    assert any("█" in line for line in lines_of(table, 69))
    without = lines_of(table, 60)
    assert len(without) == 3 and not any("█" in line for line in without)
    assert lines_of(table, 40) == [
        "aaaaaaaaaa",
        "  accuracy 80.0 %, MACs 2.53 M",
        "  flash 87.5 KiB, SRAM 50.3 KiB",
        "  latency 547 ms",
        "bbbbbbbbbb",
        "  accuracy 70.0 %, MACs 385 k",
        "  flash 21.6 KiB, SRAM 15.6 KiB",
        "  latency 83.1 ms",
    ]


def test_stacked_lines_use_all_their_room() -> None:
    table = terminal.front_table(ROWS)
    whole = "  accuracy 80.0 %, MACs 2.53 M, flash 87.5 KiB"
    assert whole in lines_of(table, len(whole)) and whole not in lines_of(table, len(whole) - 1)


def test_words_take_a_second_line_before_figures_are_stacked() -> None:
    limits = {"sram_bytes": 1024, "flash_bytes": 2048}
    row = {"name": "x", "board": "a board of many words", "core": "m4", "clock_mhz": 64.0, "limits": limits}
    table = terminal.budgets_table([row])
    assert len(lines_of(table, 80)) == 2
    folded = lines_of(table, 60)
    assert len(folded) == 3 and folded[1].split()[0] == "x" and folded[1].split()[-2:] == ["2.0", "KiB"]
    assert lines_of(table, 40)[0] == "x"


def test_a_file_has_room_for_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    file = io.StringIO()
    PlainConsole(file=file).print("word " * 100)
    assert len(file.getvalue().splitlines()) == 1
    monkeypatch.setenv("COLUMNS", "40")
    narrow = io.StringIO()
    PlainConsole(file=narrow).print("word " * 100)
    assert len(narrow.getvalue().splitlines()) == 13


def test_a_file_gets_no_blanks_behind_its_lines() -> None:
    table = Table("name", "what it is", box=None)
    table.add_row("a", "short")
    table.add_row("b", "longer  than that")
    file, terminal = io.StringIO(), io.StringIO()
    PlainConsole(file=file).print(table)
    PlainConsole(file=terminal, width=40, force_terminal=True, no_color=True).print(table)
    assert all(line == line.rstrip() for line in file.getvalue().splitlines()) and "longer  than that" in file.getvalue()
    assert any(line != line.rstrip() for line in terminal.getvalue().splitlines()), "else this tests nothing"


def test_the_console_reads_no_markup_no_emoji_and_no_escapes() -> None:
    assert lines_of("[red]x[/y] :smile: \x1b[2J", 80) == ["[red]x[/y] :smile: \\x1b[2J"]
    assert lines_of(Text("a\x1b[2J\u202e"), 80) == ["a\\x1b[2J\\u202e"]
    table = terminal.front_table([{**ROWS[0], "id": "[b]\x1b]0;x\x07[/]"}])
    assert "[b]\\x1b]0;x\\x07[/]" in lines_of(table, 100)[1]


# the small plot -------------------------------------------------------------------------------------------

POINTS = [(1e6, 0.5, True), (2e6, 0.45, False), (1e7, 0.7, True), (3e6, 0.6, True)]


def test_the_front_is_a_staircase() -> None:
    assert staircase(POINTS) == ([1e6, 3e6, 3e6, 1e7, 1e7], [0.5, 0.5, 0.6, 0.6, 0.7])
    assert staircase([(1.0, 2.0, False)]) == ([], [])


@pytest.mark.parametrize("width", [40, 60, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_plot_keeps_to_its_room(width: int, encoding: str) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    PlainConsole(file=file, width=width, height=30, no_color=True).print(FrontPlot(POINTS, "macs"))
    file.flush()
    lines = raw.getvalue().decode(encoding).splitlines()
    assert lines[0].startswith("accuracy over MACs")
    assert max(len(line.rstrip()) for line in lines) <= min(width, 76)
    picture = "\n".join(lines[1:])
    assert picture.count("o") == 3 and picture.count("." if encoding == "ascii" else "·") >= 1
    assert "70.0 %" in lines[1] + lines[2] and "45.0 %" in picture
    assert re.search(r"1\.00 M +10\.0 M", picture)
    # Up is more accurate, right is dearer: the front rises to the right.
    places = [(x, -y) for y, line in enumerate(lines[1:]) for x, char in enumerate(line) if char == "o"]
    assert [y for _, y in sorted(places)] == sorted(y for _, y in places)


def test_where_there_is_no_room_there_is_no_plot() -> None:
    assert lines_of(FrontPlot(POINTS[:1], "macs"), 80) == []
    assert lines_of(FrontPlot(POINTS, "macs"), 39) == []
    file = io.StringIO()
    PlainConsole(file=file, width=80, height=19).print(FrontPlot(POINTS, "macs"))
    assert file.getvalue() == ""
    PlainConsole(file=file, width=80, height=20).print(FrontPlot(POINTS, "macs"))
    assert file.getvalue()
    assert lines_of(FrontPlot([(5.0, 0.5, True), (5.0, 0.5, False)], "macs"), 80), "all alike is no fault"


# Ctrl-C ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["spaces", "--budget", "stm32f746"], ["estimate", "mcunet-tiny2"]])
@pytest.mark.parametrize("delay", [0.15, 0.4, 0.9])
def test_ctrl_c_is_one_line_at_any_moment(arguments: list[str], delay: float) -> None:
    process = subprocess.Popen([*COMMAND, *arguments], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    early = process.poll() is None
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    # Before Python runs a line of ours, and behind the last, its own answer is that of any program: ended by the signal.
    assert process.returncode in ((130, -signal.SIGINT, 0, 1) if early else (0,))
    assert process.returncode != 1 or "tinynas/cli" not in told
    assert process.returncode != 130 or told.strip().splitlines()[-1].startswith("interrupted")
    assert process.returncode not in (0, 130) or len(told.strip().splitlines()) <= 1


@pytest.mark.parametrize("where", ["register", "app"])
def test_ctrl_c_that_python_made_another_error_of_is_ctrl_c(where: str) -> None:
    # Before 3.12 what is raised in a __set_name__, while a class of an imported module is made, becomes a RuntimeError.
    script = f"""
import os, signal, sys
from tinynas.cli import app, main
class Field:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 0)
def load(*_, **__):
    try:
        type("Module", (), {{"field": Field()}})
    except KeyboardInterrupt as error:
        raise RuntimeError("Error calling __set_name__") from error
app.register = lambda: None
app.{where} = load
main(["zoo"])
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and done.stdout == ""
    assert len(done.stderr.split("\n")) == 3 and done.stderr.startswith("\ninterrupted")
