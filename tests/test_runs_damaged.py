"""A run of which one file is damaged: every command that reads it names the file and what to do; none fails by itself."""

from __future__ import annotations

import io
import json
import random
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save
from search_runs import small_search

from tinynas import api
from tinynas.cli import run as cli
from tinynas.runs import Run

#: A file of a run by its name here, and the commands that read it.
READERS = {
    "config.yaml": ("report", "pareto", "estimate", "promote", "export", "search", "worker"),
    "space.yaml": ("report", "search", "worker"),
    "budget.yaml": ("report", "promote", "export", "search", "worker"),
    "env.json": ("report", "promote", "export", "search", "worker"),
    "plan.json": ("report", "search", "worker"),
    "spaces.json": ("report", "search"),
    "front.json": ("report", "pareto", "promote"),
    "summary.json": ("report",),
    "clock.json": ("worker",),
    "trials.jsonl": ("report", "search"),
    "times.jsonl": ("report", "search"),
    "state/pool.npz": ("search", "worker"),
    "study.journal": ("search", "worker"),
    "nets/*/arch.yaml": ("estimate", "promote", "export"),
    "nets/*/metrics.json": ("report", "export"),
    "nets/*/export.json": ("report",),
    "nets/*/train.csv": ("report", "tensorboard"),
    "nets/*/weights.safetensors": ("export",),
}
#: What a command makes anew, whatever lies in its place; the message about each names that command.
MAKES = (
    ("search", "front.json"),
    ("search", "summary.json"),
    ("search", "clock.json"),
    ("promote", "nets/*/metrics.json"),
    ("promote", "nets/*/weights.safetensors"),
    ("export", "nets/*/export.json"),
)
#: What a command makes anew where it was removed.
REMOVED = (("search", "trials.jsonl"), ("search", "plan.json"))


def _wrong(name: str) -> bytes:
    """A whole file of that format that holds something else."""
    if name.endswith(".npz"):
        memory = io.BytesIO()
        np.savez(memory, genotypes=np.zeros((2, 3)), facts=np.zeros(3))
        return memory.getvalue()
    if name.endswith(".safetensors"):
        return save({"stem.weight": np.zeros((2, 2), np.float32)}, {"tinynas": "[5]"})
    if name.endswith(".journal"):
        return b'{"op_code":"x"}\n[5]\n'
    return {".yaml": b"- 5\n", ".json": b"[5]\n", ".jsonl": b"[5]\n", ".csv": b"epoch,loss\n1,two\n"}[Path(name).suffix]


DAMAGE: dict[str, Callable[[bytes, str], bytes | None]] = {
    "cut off": lambda content, _: content[: len(content) // 2],
    "empty": lambda _content, _: b"",
    "of another kind": lambda _, name: _wrong(name),
    "not UTF-8": lambda content, _: b"\xff\xfe\x00" + content,
    "missing": lambda *_: None,
}
#: Damage that a file of lines, or an absent one, does not show: it is as if a search were young.
UNSEEN = {
    ("study.journal", "not UTF-8"),  # what lies before its first line is cut off
    *(("trials.jsonl", kind) for kind in ("cut off", "empty", "missing")),
    *(("times.jsonl", kind) for kind in ("cut off", "empty", "missing")),
    *((name, "missing") for name in ("plan.json", "spaces.json", "front.json", "summary.json", "clock.json")),
    *((f"nets/*/{name}", "missing") for name in ("metrics.json", "export.json", "train.csv")),
}


@pytest.fixture(scope="module")
def whole(stripes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two networks, one of them trained in full and exported."""
    prepared = small_search(stripes, tmp_path_factory.mktemp("whole") / "run", trials=2, timeout=600, rungs=[1], epoch_images=64)
    prepared.go()
    api.promote(prepared.run, epochs=1, formats=["tflite"])
    return prepared.run.path


def command(name: str, run: Path) -> list[str]:
    return {
        "report": ["report", str(run)],
        "tensorboard": ["report", str(run), "--tensorboard"],
        "pareto": ["pareto", str(run)],
        "estimate": ["estimate", f"{run}:{_promoted(run)}"],
        "promote": ["promote", str(run), "--epochs", "1", "--format", "tflite"],
        "export": ["export", str(run), _promoted(run), "--out", str(run.parent / "out"), "--format", "tflite"],
        "search": ["search", "--resume", "--out", str(run)],
        "worker": ["worker", str(run)],
    }[name]


def _promoted(run: Path) -> str:
    return next(run.glob("nets/*/checked")).parent.name


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Iterator[Callable[[str, str], tuple[Path, Path]]]:
    def make(name: str, kind: str) -> tuple[Path, Path]:
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        promoted = next(run.glob("nets/*/metrics.json")).parent
        (promoted / "checked").write_text("")
        path = promoted / name.rpartition("/")[2] if "*" in name else run / name
        content = DAMAGE[kind](path.read_bytes(), name)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        return run, path

    yield make


CASES = [
    # The first command that reads a file stands for all in the quick tests.
    pytest.param(name, kind, reader, marks=[pytest.mark.slow] if reader != readers[0] else [], id=f"{name}-{kind}-{reader}")
    for name, readers in READERS.items()
    for kind in DAMAGE
    if (name, kind) not in UNSEEN
    for reader in readers
]


@pytest.mark.parametrize(("name", "kind", "reader"), CASES)
def test_a_damaged_file_is_named_with_what_to_do(
    name: str, kind: str, reader: str, damaged: Callable[[str, str], tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, path = damaged(name, kind)
    code = cli(command(reader, run))
    shown = capsys.readouterr().err
    assert code == 2, shown
    assert path.name in shown
    assert "internal error" not in shown
    assert "restore" in shown or "tinynas " in shown, shown


@pytest.mark.parametrize(("maker", "name"), [*MAKES, *REMOVED], ids=lambda part: part)
def test_the_command_that_a_message_names_makes_it_anew(
    maker: str, name: str, damaged: Callable[[str, str], tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, path = damaged(name, "of another kind")
    said = str(Run.open(run).damaged(path, "x"))
    if (maker, name) in REMOVED:
        assert "remove it" in said
        path.unlink()
    arguments = command(maker, run)
    if maker == "export":
        arguments[arguments.index("--out") + 1] = str(path.parent)
    assert shlex.join(["tinynas", *arguments[: 3 if maker == "promote" else 5]]).replace(" --epochs", "") in said
    assert cli(arguments) == 0, capsys.readouterr().err
    assert cli(command("report", run)) == 0, capsys.readouterr().err
    assert cli(command("export", run)) == 0, capsys.readouterr().err
    trials = Run.open(run).trials()
    assert [trial.number for trial in trials] == [0, 1]
    assert all(trial.was_trained and trial.expected_accuracy is not None for trial in trials)


VALUES = (None, True, 0, -1, 10**30, 2.5, "x", "../../x", "\x1b[31m", [], [[1]], {"a": 1}, "hf:a/b")


def _places(node: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [*([path] if path else []), *(place for key, value in inner for place in _places(value, (*path, key)))]


@pytest.mark.parametrize("seed", range(8))
def test_a_value_of_another_kind_anywhere_is_no_fault_of_ours(
    seed: int, damaged: Callable[[str, str], tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(seed)
    name = draw.choice([name for name in READERS if name.endswith((".json", ".yaml"))])
    run, _ = damaged("times.jsonl", "empty")
    path = next(run.glob(name))
    node = document = yaml.safe_load(path.read_text())
    place = draw.choice(_places(document))
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = draw.choice(VALUES)
    path.write_text(json.dumps(document) if name.endswith(".json") else yaml.safe_dump(document))
    for reader in ("pareto", "report", "search"):
        code = cli(command(reader, run))
        shown = capsys.readouterr().err
        assert code in (0, 2), (reader, path.name, place, shown)
        assert "internal error" not in shown, (reader, path.name, place, shown)


@pytest.mark.parametrize("change", [{"epochs": float("nan")}, {"epochs": "1"}, {"seconds": -1.0}, {"images": None}, {"number": 0.5}])
@pytest.mark.parametrize("reader", ["report", "pareto"])
def test_a_time_that_is_none_is_named(
    change: dict[str, Any], reader: str, damaged: Callable[[str, str], tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, path = damaged("times.jsonl", "empty")
    row = {"number": 0, "id": "x", "rung": 0, "epochs": 1, "images": 60, "seconds": 1.0, "finished": 1.0, "worker": "w"}
    path.write_text(json.dumps(row) + "\n")
    assert cli(command(reader, run)) == 0, capsys.readouterr().err
    path.write_text(json.dumps({**row, **change}) + "\n")
    assert cli(command(reader, run)) == 2
    assert "times.jsonl" in capsys.readouterr().err
