"""Names as people and attackers choose them: commands show them as they are, obey nothing in them, and print what can be pasted."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from report_runs import make_run

from tinynas.cli import run as tinynas
from tinynas.cli.common import report_error, session
from tinynas.config import CONTROLS
from tinynas.errors import UserError, printable, shell_line
from tinynas.runs import Run

NAMES = {
    "markup that closes nothing": "x[/y]",  # two folders
    "markup": "[cats] photos",
    "a link of markup": "[link=http:x]a[bold]",
    "an emoji's code": "a :smile: b",
    "quotes": "a b'c\"d",
    "a shell's signs": "$(touch x) `y` & z; *",
    "a backslash": "a\\nb",
    "colors": "x\x1b[31my",
    "the title of the window": "\x1b]0;pwned\x07",
    "lines": "two\nlines\r\tand a tab",
    "the other way round": "abc\u202egnp.exe",
    "nothing seen": "a\u200bb\u2066c\xad",
    "the C1 way": "a\x9b31mb",
    "bytes that are not UTF-8": os.fsdecode(b"caf\xe9"),
    "other scripts": "کتاب\u200cها 日本語 é ñ 👩\u200d🔬",
    "an option": "--json=x",
}
names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def pasted(line: str) -> list[str]:
    """The words that a shell makes of ``line``."""
    done = subprocess.run(
        ["bash", "--norc", "-c", f"set -- {line}\nprintf '%s\\0' \"$@\""],
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


def commands(said: str) -> list[list[str]]:
    """The commands that a text offers, as a shell reads them, without their first word."""
    starts = ("next: tinynas ", "      tinynas ", "  -> tinynas ")
    return [pasted(line.partition("tinynas ")[2]) for line in said.splitlines() if line.startswith(starts)]


@names
def test_what_cannot_be_seen_is_written_out_and_the_rest_stays(name: str) -> None:
    seen = printable(name)
    assert seen.isprintable() or "\u200c" in name or "\u200d" in name
    assert (seen == name) == (name.isprintable() or "\u200c" in name)
    assert printable(seen) == seen


def test_the_words_for_what_cannot_be_seen() -> None:
    assert printable("a\x1b[0m\n\t\x7f") == "a\\x1b[0m\\n\\t\\x7f"
    assert printable("a\nb\rc", lines=True) == "a\nb\\rc"
    # A byte and the character of that number are told apart, as a shell does.
    assert printable("\udce9 \x9b é") == "\\xe9 \\u009b é"
    assert printable("\udc80\x80\udcff") == "\\x80\\u0080\\xff"
    assert printable("\ud800\U000e0041") == "\\ud800\\U000e0041"
    assert printable(Path("x")) == "x"


@names
def test_a_shell_reads_back_the_words_of_a_command(name: str) -> None:
    assert pasted(shell_line("tinynas", name, Path(name), "plain")) == ["tinynas", name, f"./{name}" if name[0] == "-" else name, "plain"]


def test_plain_words_are_not_quoted() -> None:
    assert shell_line("tinynas", "promote", Path("results/run-2"), "best") == "tinynas promote results/run-2 best"
    assert shell_line("a b", "~x", "") == shlex.join(["a b", "~x", ""])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a front, of images whose classes have the names too."""
    run = make_run(tmp_path_factory.mktemp("made") / "run", networks=6, promoted=1, labels=list(NAMES.values()))
    rows = [{"id": t.id, "accuracy": t.accuracy, **t.costs} for t in run.trials() if t.accuracy is not None]
    run.write_front(sorted(rows, key=lambda row: float(row["macs"] or 0))[-3:])
    return run.path


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], name: str) -> Iterator[Callable[..., tuple[int, str]]]:
    def run(*arguments: str) -> tuple[int, str]:
        code = tinynas(arguments)
        shown = capsys.readouterr()
        said = shown.out + shown.err
        assert code != 1 and "internal error" not in said, said
        assert printable(said, lines=True) == said, "nothing of it is obeyed"
        return code, said

    yield run


def write_images(folder: Path, classes: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for index in range(12):
            _, data = cv2.imencode(".png", rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            (folder / label / f"{index}.png").write_bytes(data.tobytes())


@pytest.mark.parametrize("name", [name for name in NAMES.values() if name.isprintable() or name.isascii()])
def test_data_info(name: str, place: Path, tell: Callable[..., tuple[int, str]]) -> None:
    write_images(place / "images" / name, ("a", name))
    code, said = tell("data", "info", f"images/{name}", "--samples", f"{name}.png")
    assert code == 0
    assert f"picture: {printable(name)}.png" in said
    assert f" {printable(name)}" in said
    assert commands(said) == [["search", "--budget", "stm32f746", "--data", f"images/{name}"]]


@names
def test_runs(name: str, place: Path, finished: Path, tell: Callable[..., tuple[int, str]]) -> None:
    path = Path("runs") / name
    path.parent.mkdir(parents=True)
    path.symlink_to(finished)
    shown = printable(name)
    code, said = tell("pareto", str(path))
    assert code == 0
    assert commands(said) in (
        [["promote", str(path), "best"], ["promote", str(path), "knee"]],
        [["promote", str(path), "best"]],
    )
    code, said = tell("report", str(path))
    assert code == 0 and f"wrote runs/{shown}/report.html" in said
    run = Run(path)
    assert tell("estimate", f"{path}:{run.knee}", "--layers")[0] == 0
    assert tell("estimate", f"{path}:knee")[0] == 0
    for arguments in (["promote", str(path), "--", name], ["export", str(path), "--out", "o", "--", name], ["worker", str(path)]):
        code, said = tell(*arguments)
        assert code == 2 and (f"runs/{shown}" in said or arguments[0] != "export" or "\n" in name)
    other = next(net_id for net_id in run.ids() if run.promoted(net_id) is None)
    code, said = tell("export", str(path), other, "--out", "o")
    assert code == 2
    assert commands(said) == [["promote", str(path), other]], "the remedy can be pasted too"


@names
def test_files(name: str, place: Path, tell: Callable[..., tuple[int, str]]) -> None:
    folder = Path("files") / name
    code, said = tell("init", str(folder))
    assert code == 0
    assert commands(said) == [["search", "--budget", f"{folder}/budget.yaml", "--space", f"{folder}/space.yaml"]]
    code, said = tell("spaces", "--budget", f"{folder}/budget.yaml", "--space", f"{folder}/space.yaml")
    assert code == 0
    assert commands(said) == [["search", "--budget", f"{folder}/budget.yaml", "--space", f"{folder}/space.yaml"]]
    if "\ud800" < max(name) < "\ue000":
        return  # a file of text holds no such bytes
    board = {"name": name, "board": name, "sram": "64 KiB", "flash": "256 KiB"}
    (folder / "budget.yaml").write_text(yaml.safe_dump(board, allow_unicode=True), encoding="utf-8")
    code, said = tell("estimate", "mcunet-tiny2", "--budget", f"{folder}/budget.yaml")
    if CONTROLS.search(name):  # neither text nor escapes of YAML may hold them
        assert code == 2 and "control character" in said
    else:
        assert code == 0 and f"fits {printable(name)}" in said


@pytest.mark.parametrize("name", [NAMES[key] for key in ("markup that closes nothing", "colors", "bytes that are not UTF-8")])
def test_what_is_not_there(name: str, place: Path, tell: Callable[..., tuple[int, str]]) -> None:
    path = f"none/{name}"
    for arguments in (
        ["estimate", path],
        ["estimate", f"{path}.tflite"],
        ["estimate", "mcunet-tiny2", "--budget", path],
        ["search", "--budget", path],
        ["search", "--budget", "stm32f746", "--space", path],
        ["search", "--budget", "stm32f746", "--data", path],
        ["search", "--resume", "--out", path],
        ["evaluate", f"{path}.tflite", "--data", "synthetic"],
        ["evaluate", "x.tflite", "--data", path],
        ["data", "info", path],
        ["data", "prepare", "vww", "--coco", path],
        ["data", "prepare", "wake-vision", "--source", path],
        ["pareto", path],
        ["promote", path],
        ["worker", path],
        ["report", path],
        ["export", path, "abc", "--out", "o"],
        ["init", "x", "--board", name],
        ["search", "--budget", "stm32f746", "--objective", name],
        ["search", "--budget", "stm32f746", "--timeout", name],
        ["search", "--budget", "stm32f746", "--set", name],
        ["search", "--budget", "stm32f746", "--set", f"{name}=1"],
        ["schema", path],
        [path],
    ):
        code, said = tell(*arguments)
        assert code == 2, arguments
        assert "Traceback" not in said


def test_a_name_cannot_begin_a_line_of_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "json_mode", False)
    report_error(UserError("x\nnext: rm -rf /\n  - a fault of ours", "two\nlines"))
    assert capsys.readouterr().err == "error: x\n  next: rm -rf /\n  - a fault of ours\n  -> two\n  lines\n"


@pytest.mark.parametrize("name", [NAMES[key] for key in ("markup", "lines", "bytes that are not UTF-8", "other scripts")])
def test_json_is_exact(name: str, place: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = Path("runs") / name
    link.parent.mkdir(parents=True)
    link.symlink_to(finished)
    assert tinynas(["report", f"runs/{name}", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.out.isascii()
    assert json.loads(shown.out)["run"] == f"runs/{name}"
    assert tinynas(["estimate", f"none/{name}", "--json"]) == 2
    assert f"none/{name.partition(':')[0]}" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["adapt", "export", "mcunet-tiny2"], "tinynas adapt export"),
        (["data", "prepare", "wake-vision", "--n", "many"], "tinynas data prepare wake-vision"),
        (["estimate"], "tinynas estimate"),
    ],
)
def test_a_usage_error_points_to_the_command_that_was_typed(words: list[str], place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tinynas(words) == 2
    said = capsys.readouterr().err
    assert f"{place}: " in said and f"see: {place} --help" in said
