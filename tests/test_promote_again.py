"""What is promoted a second time, beside another, or without a search: nothing is lost, nothing is taken for what it is not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_promote import NET, RECIPE, Images, go, new_run

from tinynas import api
from tinynas.cli import run as cli
from tinynas.errors import RunError, UserError
from tinynas.promote import promote
from tinynas.records import Trial
from tinynas.report.page import search_is_running
from tinynas.report.run_words import _headline
from tinynas.report.source import Source
from tinynas.runs import Run

SHORT = RECIPE.model_copy(update={"epochs": 2})
SHORTER = RECIPE.model_copy(update={"epochs": 3, "lr": 0.01})


def _stopped(run: Run, recipe: Any, after: int) -> None:
    """A training that is interrupted after so many epochs."""

    def stop(event: Any) -> None:
        if event.kind == "epoch" and event.epoch == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(run, [NET.id], data=Images(), recipe=recipe, on_event=stop)  # type: ignore[arg-type]


def test_other_splits_of_the_same_images_are_another_training(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    go(run, recipe=SHORT)
    other = Images()
    other.members = {**other.members, "test": np.arange(1, 81)}
    events, _ = go(run, recipe=SHORT, data=other)
    assert events[0].kind == "started" and "is kept in" in str(events[0].note)
    turned = Images()
    turned.members = {name: rows[::-1] for name, rows in turned.members.items()}
    assert [e.kind for e in go(run, recipe=SHORT, data=turned)[0]][:1] == ["started"], "the first splits again"
    assert go(run, recipe=SHORT)[0][0].kind == "known", "their order says nothing"


def test_one_training_that_ends_leaves_anothers_state(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    _stopped(run, RECIPE, after=3)
    go(run, recipe=SHORT)
    events, _ = go(run)
    assert (events[0].kind, events[0].epoch) == ("resumed", 3)
    assert not run.checkpoint_dir(NET.id).exists(), "nothing is unfinished any more"


def test_the_history_is_that_of_what_was_promoted(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    go(run)
    history = run.train_csv(NET.id).read_bytes()
    _stopped(run, SHORT, after=1)
    assert run.train_csv(NET.id).read_bytes() != history
    assert go(run)[0][0].kind == "known" and run.train_csv(NET.id).read_bytes() == history
    _stopped(run, SHORT, after=2)
    go(run, recipe=SHORTER)
    (kept,) = (run.net_dir(NET.id) / "earlier").iterdir()
    assert (kept / "train.csv").read_bytes() == history, "what another one had begun to write is not what was promoted"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``stripes/`` of two classes and a small network, ``net.yaml``."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "stripes" / label).mkdir(parents=True)
        for number in range(60):
            image = rng.integers(0, 120, (16, 16, 3)).astype(np.uint8)
            image[:: 2 if label == "a" else 3] += 100
            cv2.imwrite(str(tmp_path / "stripes" / label / f"{number}.png"), image)
    (tmp_path / "net.yaml").write_text("height: 16\nwidth: 16\nclasses: 2\nstem: {out: 8, stride: 2}\nblocks: [{kind: mbconv, out: 8}]\n")
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


LINE = ("promote", "net.yaml", "--budget", "stm32f746", "--data", "stripes", "--format", "tflite")
BRIEF = ("--epochs", "1", "--set", "recipe.augment.kind=none")


def _answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli([*words, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_the_same_command_goes_on_in_the_run_it_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _answer(capsys, *LINE, *BRIEF)
    assert first["run"] == "results/net-stripes"
    assert _answer(capsys, *LINE, *BRIEF)["run"] == first["run"], "and nothing is trained again"
    # Another board, other splits, another seed: another run.
    for number, more in enumerate((("--budget", "rp2040"), ("--set", "data.val_share=0.3"), ("--seed", "1")), 2):
        words = [*LINE, *BRIEF, *more] if more[0] != "--budget" else [*LINE[:2], *more, *LINE[4:], *BRIEF]
        assert _answer(capsys, *words)["run"] == f"results/net-stripes-{number}"


def test_a_run_without_a_search_is_not_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = _answer(capsys, *LINE, *BRIEF)
    run, net_id = Run.open(document["run"]), document["promoted"][0]["id"]
    assert not run.searched and not search_is_running(run)
    assert run.best == run.knee == run.resolve_id("best") == net_id
    headline = _headline(Source(run))
    assert f"{net_id}, fits" in headline and "Nothing trained" not in headline
    for out in (run.path, None):
        with pytest.raises(RunError, match="nothing was searched in it"):
            api.prepare_search(None, resume=True, out=out)
    # A budget that it does not fit: the page does not say that it does.
    text = (run.path / "budget.yaml").read_text()
    (run.path / "budget.yaml").write_text(text + "macs: 10\n")
    assert f"{net_id}, does not fit" in _headline(Source(Run.open(run.path)))


def test_what_promote_is_told_is_done_or_refused(folder: Path) -> None:
    def refused(*said: Any, **more: Any) -> str:
        with pytest.raises(UserError) as caught:
            api.promote(*said, **{"epochs": 1, "formats": ["tflite"], "overrides": ["recipe.augment.kind=none"], **more})
        return f"{caught.value} -> {caught.value.hint}"

    new: dict[str, Any] = {"budget": "stm32f746", "data": "stripes"}
    assert "one at a time" in refused("net.yaml", ["mcunet-tiny2"], **new)
    assert "nothing is searched" in refused("net.yaml", **new, overrides=["space.resolution=[16]"])
    api.promote("net.yaml", **new, out="run", epochs=1, formats=["tflite"], overrides=["recipe.augment.kind=none"])
    for text in ("budget.sram=1 KiB", "space.resolution=[16]"):
        assert "a run has its own" in refused("run", overrides=[text])
    assert "another budget" in refused("net.yaml", budget="rp2040", out="run")
    assert "has its own budget" in refused("net.yaml", out="run", overrides=["budget.sram=1 KiB"])
    (folder / "stripes" / "a" / "0.png").unlink()
    assert "not what run was begun with" in refused("net.yaml", **new, out="run")


def test_what_export_is_told_is_read_or_refused(folder: Path) -> None:
    def refused(*said: Any, **more: Any) -> str:
        with pytest.raises(UserError) as caught:
            api.export(*said, **{"out": "files", "formats": ["tflite"], **more})
        assert not Path("files").exists()
        return f"{caught.value} -> {caught.value.hint}"

    (row,) = api.promote("net.yaml", budget="stm32f746", data="stripes", out="run", epochs=1, formats=["tflite"])
    for text in ("budget.sram=1 KiB", "space.resolution=[16]"):
        assert f"--set {text}: a run has its own budget and space" in refused("run", row.id, overrides=[text])
        assert f"--set {text}: net.yaml is a network without a run" in refused("net.yaml", overrides=[text])
    assert "--data nowhere: net.yaml is a network without a run" in refused("net.yaml", data="nowhere")
    assert "--set data.limit=3: net.yaml is a network" in refused("net.yaml", overrides=["data.limit=3"])
    assert "add c to --format" in refused("net.yaml", overrides=["package.license=MIT"])
    assert "--flavour: the tensorflow exporter" in refused("net.yaml", exporter="tensorflow", flavour="lean")
    assert "quantization: the tensorflow exporter" in refused("net.yaml", exporter="tensorflow", overrides=["quantization.weights=mse"])


def test_what_was_edited_in_a_runs_own_folder_is_said_before_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"overrides": ["recipe.augment.kind=none"]}
    (row,) = api.promote("net.yaml", budget="stm32f746", data="stripes", out="run", epochs=1, **asked)
    main = row.folder / "c" / "example_main.cc"
    main.write_text(main.read_text() + "// mine\n")
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"example_main.cc: changed since tinynas wrote it"):
        patch.setattr("tinynas.promote.promote", lambda *_, **__: pytest.fail("it trains"))
        api.promote("run", epochs=2, **asked)
    main.unlink()
    notes: list[str] = []
    api.promote("run", epochs=2, formats=["tflite"], on_note=notes.append, **asked)
    assert any("of an earlier export that this one does not write: c/" in note for note in notes)
    assert not (row.folder / "c").exists(), "of weights that are promoted no longer"
    # What a tinynas without records promoted is written over.
    (row.folder / ".tinynas-export.json").unlink()
    (again,) = api.promote("run", epochs=1, **asked)
    assert set(again.files) == {"tflite", "c", "card"}


def test_splits_that_were_not_trained_on_are_told_by_export(folder: Path) -> None:
    (row,) = api.promote("net.yaml", budget="stm32f746", data="stripes", out="run", epochs=1, formats=["tflite"])
    notes: list[str] = []
    api.export("run", row.id, out="files", formats=["tflite"], on_note=notes.append)
    assert not notes
    api.export("run", row.id, out="files", formats=["tflite"], overrides=["data.test_share=0.5"], on_note=notes.append)
    assert any("the splits are not those that" in note for note in notes)


def test_a_length_with_blanks_is_a_length(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def train(run: Run, ids: Any, *, recipe: Any, **more: Any) -> Any:
        seen.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr("tinynas.promote.promote", train)
    ask: Callable[[str], Any] = lambda text: api.promote("net.yaml", budget="stm32f746", data="stripes", overrides=[text])  # noqa: E731
    for text in ("recipe.epochs = 2", "recipe.epochs=2", "recipe.lr=0.01"):
        with pytest.raises(KeyboardInterrupt):
            ask(text)
    assert [(r.epochs, r.epoch_images > 0) for r in seen] == [(2, False), (2, False), (60, True)]


def test_the_front_of_a_search_that_goes_on_is_not_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = new_run(tmp_path / "run")
    assert cli(["pareto", str(run.path)]) == 0 and "nothing was trained yet" in capsys.readouterr().out
    run.append_trial(Trial(0, NET.id, "trained", "model", scores={"accuracy": 0.8}, images=64_000))
    assert cli(["pareto", str(run.path)]) == 0
    said = capsys.readouterr().out
    assert "1 network trained so far" in said and "tinynas report" in said


def test_several_processes_train_a_network_in_the_run_that_the_first_makes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **group, "TINYNAS_CACHE": str(folder / "cache"), "PYTHONPATH": str(Path(__file__).parent.parent)}
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tinynas", *LINE, *BRIEF, "--out", "run", "--json"],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (1, 0)
    ]
    said = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert said[0][0] == "" and json.loads(said[1][0])["run"] == "run"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match="none is named"):
        api.promote("net.yaml", budget="stm32f746", data="stripes")
    monkeypatch.setattr("tinynas.api.MADE_WITHIN_S", 0.1)
    with pytest.raises(RunError, match="made no run"):
        api.promote("net.yaml", budget="stm32f746", data="stripes", out="elsewhere")


def _beside(run: Run, after: int, *, recipe: Any, other: Any) -> list[Any]:
    """Events of a training with ``recipe`` while which, after so many epochs, one with ``other`` is begun and ended."""
    events: list[Any] = []

    def hear(event: Any) -> None:
        events.append(event)
        if event.kind == "epoch" and event.epoch == after:
            go(run, recipe=other)

    promote(run, [NET.id], data=Images(), recipe=recipe, on_event=hear)  # type: ignore[arg-type]
    return events


@pytest.mark.parametrize("after", [1, 4, 5])
def test_of_two_trainings_side_by_side_both_are_kept(tmp_path: Path, after: int) -> None:
    alone = new_run(tmp_path / "alone")
    go(alone, recipe=SHORT)
    run = new_run(tmp_path / "run")
    events = _beside(run, after, recipe=RECIPE, other=SHORT)
    (kept,) = (run.net_dir(NET.id) / "earlier").iterdir()
    assert f"is kept in {kept.relative_to(run.path)}" in str(events[-1].note) and "2 epochs" in str(events[-1].note)
    homes = (run.net_dir(NET.id), kept, alone.net_dir(NET.id))
    now, before, first = ((home / "weights.safetensors").read_bytes() for home in homes)
    assert before == first != now
    rows = [len((home / "train.csv").read_text().splitlines()) - 1 for home in homes]
    assert rows == [5, 2, 2], "each has the history of its own"
    assert [json.loads((home / "metrics.json").read_text())["epochs"] for home in homes] == rows


def test_what_is_exported_is_of_what_is_promoted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that ended between another's end and its export takes its place: neither's files are taken for the other's."""
    words: dict[str, Any] = {"formats": ["tflite"], "overrides": ["recipe.augment.kind=none"]}
    api.promote("net.yaml", budget="stm32f746", data="stripes", epochs=1, out="run", **words)
    run = Run.open("run")
    (net_id,) = (path.name for path in (run.path / "nets").iterdir())
    first = (run.net_dir(net_id) / "model_int8.tflite").read_bytes()

    def train(*said: Any, **more: Any) -> Any:
        found = promote(*said, **more)
        promote(run, [net_id], data=more["data"], recipe=more["recipe"].model_copy(update={"lr": 0.001}))
        return found

    monkeypatch.setattr("tinynas.promote.promote", train)
    with pytest.raises(RunError, match=r"another training of .* has ended meanwhile") as caught:
        api.promote("run", [net_id], epochs=2, **words)
    assert "2 epochs, is kept in" in str(caught.value)
    assert run.artifact(net_id) is None, "what lies there is of the first one"
    kept = {json.loads((path / "metrics.json").read_text())["epochs"]: path for path in (run.net_dir(net_id) / "earlier").iterdir()}
    assert sorted(kept) == [1, 2] and (kept[1] / "model_int8.tflite").read_bytes() == first
    assert not (kept[2] / "model_int8.tflite").exists(), "it was never exported"


def test_what_was_exported_after_a_copy_was_made_is_added_to_it(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    go(run, recipe=SHORT)
    home = run.net_dir(NET.id)
    (home / "model_int8.tflite").write_bytes(b"of another training")
    copy = run.set_aside(NET.id, "0")
    assert {path.name for path in copy.iterdir()} == {"weights.safetensors", "train.csv", "metrics.json"}
    (home / "train.csv").write_text("of another training")
    (home / "model_int8.tflite").write_bytes(b"its own")
    (home / "export.json").write_text("{}")
    run.set_aside(NET.id, "0")
    assert (copy / "model_int8.tflite").read_bytes() == b"its own" and (copy / "train.csv").read_text() != "of another training"
