"""Bad input: each fault gives one clear message with place and remedy, exit code 2, and no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tinynas.cli import run
from tinynas.config import shipped

BUDGET = """\
name: test
sram: 64 KiB
flash: 256 KiB
"""
SPACE = """\
name: test
resolution: [16]
stem: {out: 8}
stages:
  - {out: 8, depth: 1, kernel: [3], expand: [1]}
"""


class Place:
    """A scratch folder with helpers that make good and bad inputs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str, content: str | bytes) -> str:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(target)

    def budget(self, extra: str = "", base: str = BUDGET) -> str:
        return self.file("budget.yaml", base + extra)

    def space(self, text: str = SPACE) -> str:
        return self.file("space.yaml", text)

    def images(self, classes: dict[str, int], broken: bool = False) -> str:
        rng = np.random.default_rng(0)
        root = self.path / "images"
        root.mkdir()
        for name, count in classes.items():
            (root / name).mkdir()
            for index in range(count):
                _, data = cv2.imencode(".png", rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
                (root / name / f"{index}.png").write_bytes(b"not an image" if broken else data.tobytes())
        return str(root)

    def net(self, change: Callable[[dict[str, Any]], None]) -> str:
        document = json.loads(shipped("zoo")["mcunet-tiny2"].read_text(encoding="utf-8"))
        change(document)
        return self.file("net.json", json.dumps(document))


def set_block_input(document: dict[str, Any]) -> None:
    document["blocks"][2]["mobile_inverted_conv"]["in_channels"] = 99


def set_shortcut(document: dict[str, Any]) -> None:
    document["blocks"][1]["shortcut"] = {"name": "IdentityLayer"}


def set_act(document: dict[str, Any]) -> None:
    document["first_conv"]["act_func"] = "swish"


FAULTS: dict[str, tuple[Callable[[Place], list[str]], list[str]]] = {
    # budgets
    "budget missing": (lambda p: ["estimate", "mcunet-tiny2", "-b", "stm32f764"], ["stm32f764", 'did you mean "stm32f746"']),
    "budget is a folder": (lambda p: ["estimate", "mcunet-tiny2", "-b", f"{p.path}"], ["/in"]),
    "budget unknown key": (lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget("flsh: 1 MiB\n")], ["line 4", "flsh", '"flash"']),
    "budget KB": (
        lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget(base="name: a\nsram: 320 KB\nflash: 1 MiB\n")],
        ["320,000", "327,680"],
    ),
    "budget without unit": (
        lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget(base="name: a\nsram: 320\nflash: 1 MiB\n")],
        ["line 2", "unit"],
    ),
    "budget negative": (
        lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget(base="name: a\nsram: -5 KiB\nflash: 1 MiB\n")],
        ["line 2", "sram"],
    ),
    "budget all reserved": (
        lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget("reserves: {sram: {stack: 64 KiB}}\n")],
        ["nothing is left"],
    ),
    "budget two faults at once": (
        lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget(base="name: a\nsram: 1\nflsh: 2\n")],
        ["3 faults", "sram", "flsh"],
    ),
    "budget not YAML": (lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget(base="name: [a\nsram: ]")], ["not valid YAML", "line"]),
    "budget duplicate key": (lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget("sram: 1 KiB\n")], ["line 4", "twice"]),
    "budget is binary": (lambda p: ["estimate", "mcunet-tiny2", "-b", p.file("b.yaml", b"\xff\xfe\x00\x01")], ["UTF-8"]),
    "budget is a list": (lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget(base="- 1\n- 2\n")], ["mapping"]),
    "--set without =": (lambda p: ["estimate", "mcunet-tiny2", "-b", "stm32f746", "--set", "sram"], ["a.b=value"]),
    "--set unknown": (lambda p: ["estimate", "mcunet-tiny2", "-b", "stm32f746", "--set", "rserves.sram.stack='1 KiB'"], ['"reserves"']),
    # networks
    "net unknown": (lambda p: ["estimate", "mcunet-tiny3"], ['did you mean "mcunet-tiny2"']),
    "net JSON broken": (lambda p: ["estimate", p.file("a.json", '{"first_conv": ')], ["line 1", "JSON"]),
    "net channels do not chain": (lambda p: ["estimate", p.net(set_block_input)], ["blocks[2]", "99", "16"]),
    "net wrong shortcut": (lambda p: ["estimate", p.net(set_shortcut)], ["blocks[1].shortcut", "stride"]),
    "net unknown activation": (lambda p: ["estimate", p.net(set_act)], ["first_conv.act_func", "swish", "relu6"]),
    "runtime unknown": (lambda p: ["estimate", "mcunet-tiny2", "--runtime", "tflite"], ["tflm-cmsis-nn"]),
    "tflite missing": (lambda p: ["estimate", str(p.path / "no.tflite")], ["no.tflite"]),
    "tflite empty": (lambda p: ["estimate", p.file("a.tflite", b"")], ["a.tflite"]),
    "tflite is text": (lambda p: ["estimate", p.file("a.tflite", b"hello " * 100)], ["a.tflite"]),
    # spaces
    "space empty choice": (
        lambda p: ["search", "-b", "stm32f746", "-s", p.space(SPACE.replace("[16]", "[]"))],
        ["line 2", "resolution", "at least one"],
    ),
    "space bad kernel": (lambda p: ["search", "-b", "stm32f746", "-s", p.space(SPACE.replace("kernel: [3]", "kernel: [4]"))], ["kernel"]),
    "space unknown key": (lambda p: ["search", "-b", "stm32f746", "-s", p.space(SPACE.replace("depth", "dpth"))], ["line 5", '"depth"']),
    "space choice twice": (lambda p: ["search", "-b", "stm32f746", "-s", p.space(SPACE.replace("[16]", "[16, 16]"))], ["twice"]),
    "space unknown": (lambda p: ["search", "-b", "stm32f746", "-s", "mcunett"], ['"mcunet"']),
    # data
    "data folder missing": (lambda p: ["search", "-b", "stm32f746", "-d", str(p.path / "none")], ["none"]),
    "data folder empty": (lambda p: ["search", "-b", "stm32f746", "-d", f"{p.path}"], ["/in"]),
    "data one class": (lambda p: ["search", "-b", "stm32f746", "-d", p.images({"cat": 12})], ["class"]),
    "data empty class": (lambda p: ["search", "-b", "stm32f746", "-d", p.images({"cat": 12, "dog": 0})], ["dog"]),
    "data all broken": (lambda p: ["search", "-b", "stm32f746", "-d", p.images({"cat": 12, "dog": 12}, broken=True)], ["image"]),
    # search arguments
    "no budget": (lambda p: ["search"], ["--budget"]),
    "trials 0": (lambda p: ["search", "-b", "stm32f746", "--trials", "0"], ["--trials"]),
    "timeout nonsense": (lambda p: ["search", "-b", "stm32f746", "--timeout", "soon"], ["10m"]),
    "objective unknown": (lambda p: ["search", "-b", "stm32f746", "--objective", "mcas"], ["macs"]),
    "out is a file": (lambda p: ["search", "-b", "stm32f746", "--out", p.file("taken", "x"), "--trials", "1"], ["taken"]),
    "resume nothing": (lambda p: ["search", "--resume", "--out", str(p.path / "none")], ["none"]),
    "nothing fits": (
        lambda p: [
            "search",
            "-b",
            p.budget(base="name: a\nsram: 1 KiB\nflash: 1 KiB\n"),
            "-s",
            p.space(),
            "--out",
            str(p.path / "run"),
            "--trials",
            "1",
        ],
        ["sram_bytes"],
    ),
    # runs
    "run missing": (lambda p: ["pareto", str(p.path / "none")], ["none"]),
    "promote a missing run": (lambda p: ["promote", str(p.path / "none"), "abc"], ["none"]),
    "report of no run": (lambda p: ["report", f"{p.path}"], ["/in"]),
    # files and commands
    "evaluate a corrupt file": (lambda p: ["evaluate", p.file("a.tflite", b"TFL3" * 9), "--data", "synthetic"], ["a.tflite"]),
    "export format unknown": (lambda p: ["export", "mcunet-tiny2", "--out", str(p.path / "o"), "--format", "onnx"], ["onnx"]),
    "command unknown": (lambda p: ["serach"], ["serach"]),
    "option unknown": (lambda p: ["search", "--bugdet", "x"], ["--bugdet"]),
    "schema unknown": (lambda p: ["schema", "budgets"], ["'budgets' is not one of 'budget'"]),
    "kernels of no check": (lambda p: ["promote", "mcunet-tiny2", "--kernels", "nonsense"], ["--kernels nonsense", "add --verify CORE"]),
    "tree of no check": (lambda p: ["promote", "mcunet-tiny2", "--tflm", "/none"], ["--tflm /none", "add --verify CORE"]),
    "a folder with a budget": (
        lambda p: ["estimate", "mcunet-tiny2", "-b", str(Path(p.budget(base="name: a\nsram: 1 KiB\nflash: 1 KiB\n")).parent)],
        ["is a folder", ".yaml"],
    ),
    "verify of a text": (lambda p: ["verify", p.file("notes.txt", b"hello"), "--target", "cortex-m4"], ["neither a run nor a .tflite"]),
    "verify of an export's folder": (
        lambda p: ["verify", str(Path(p.file("model_int8.tflite", b"TFL3")).parent), "--target", "cortex-m4"],
        ["is no run", "model_int8.tflite"],
    ),
    "a number in words": (
        lambda p: ["estimate", "mcunet-tiny2", "-b", p.budget(base="name: a\nsram: 9 KiB\nflash: 1 KiB\nmacs: 5M\n")],
        ["macs: must be a whole number in digits", "it is: Limit on multiply-accumulates"],
    ),
    "seconds for milliseconds": (lambda p: ["data", "info", "synthetic", "--set", "data.clip=0.5"], ["whole number", "in milliseconds"]),
    "a limit beside the budget": (
        lambda p: ["search", "-b", "rp2040", "--data", "synthetic", "--set", "reserves.flash.runtime=1 KiB"],
        ["of the budget", "--set budget.reserves.flash.runtime=1 KiB"],
    ),
    "learning that nothing asks for": (
        lambda p: ["search", "-b", "rp2040", "--data", "synthetic", "--adapt-data", "synthetic"],
        ["--adapt-data", "adapted_accuracy"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_clear_message(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, expected = FAULTS[name]
    (tmp_path / "in").mkdir()
    code = run(make(Place(tmp_path / "in")))
    shown = capsys.readouterr()
    assert code == 2, shown
    assert "Traceback" not in shown.err
    assert "internal error" not in shown.err
    for words in expected:
        assert words in shown.err, f"{words!r} is not in:\n{shown.err}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "nope"], "error: nope"),
        (["--budget", "rp2040", "--space", "nope"], "error: nope"),
        ([], "error: no budget given"),
        (["--budget", "rp2040", "--data", "nowhere"], "error: nowhere: does not exist"),
        (["--budget", "rp2040", "-o", "nope"], "error: unknown objective 'nope'"),
        (["--budget", "rp2040", "--set", "nope=1"], "error: search settings: 1 fault"),
        (["--budget", "rp2040", "--storage", "nope"], "error: --storage nope: Could not parse"),
        (["--budget", "rp2040", "--storage", "nope://host/db"], "error: --storage nope://host/db: Can't load plugin"),
        (["--budget", "rp2040", "--storage", "mysql://host/db"], "error: --storage mysql://host/db: No module named"),
        (["--budget", "rp2040", "--storage", "mysql+nope://host/db"], "error: --storage mysql+nope://host/db: "),
        (["--resume", "--out", "nope"], "error: nope: no run there"),
        (["--resume"], "error: results: holds no run"),
    ],
)
def test_a_search_of_what_is_not_there_is_not_announced(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["search", *words]) == 2
    shown = capsys.readouterr()
    assert "searching" not in shown.out + shown.err and "continuing" not in shown.out + shown.err
    assert shown.err.startswith(said)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.parametrize("arguments", [["estimate", "nope", "--json"], ["pareto", "nope", "--json"]])
def test_json_mode_prints_one_document_for_a_fault_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["message"]
