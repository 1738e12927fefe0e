"""Stages: one network on one data set after the other; killed in the second it goes on there, with the same bits."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_data_prepare import row, write_shard
from test_promote import NET, Images, new_run

from tinynas import api
from tinynas.config import ConfigError, shipped
from tinynas.data.prepare import WakeVisionOptions, wake_vision
from tinynas.errors import DataError, UserError
from tinynas.promote import PromoteEvent
from tinynas.runs import Run
from tinynas.stages import Stages, load_stages, promote_stages

DOCUMENT: dict[str, Any] = {
    "stages": [
        {"name": "first", "data": "a", "recipe": {"epochs": 3, "batch_size": 32, "warmup_epochs": 1}, "stop": {"patience": 1}},
        {"name": "second", "data": "b", "recipe": {"epochs": 3, "batch_size": 32, "warmup_epochs": 1, "old_lr": 0.5}},
        {"name": "third", "data": "c", "recipe": {"epochs": 2, "batch_size": 32, "warmup_epochs": 1, "freeze": 1}},
    ]
}


class Other(Images):
    """The same pictures under other names of classes."""

    labels = ("night", "day")
    fingerprint = "beef"


def go(run: Run, stop: tuple[str, int] | None = None) -> list[PromoteEvent]:
    events: list[PromoteEvent] = []

    def hear(event: PromoteEvent) -> None:
        events.append(event)
        at = [e.note for e in events if e.note]
        if stop is not None and event.kind == "epoch" and (at[-1].split(" of")[0], event.epoch) == stop:
            raise KeyboardInterrupt

    stages = Stages.model_validate(DOCUMENT)
    promote_stages(run, NET, stages, [Other(), Images(), Images()], on_event=hear)  # type: ignore[list-item]
    return events


def test_killed_in_the_second_stage_it_goes_on_there_and_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, killed = new_run(tmp_path / "whole"), new_run(tmp_path / "killed")
    events = go(whole)
    started = [e for e in events if e.kind == "started"]
    assert [e.note.split(";")[0] for e in started if e.note] == ["stage 1 of 3 (first)", "stage 2 of 3 (second)", "stage 3 of 3 (third)"]
    begun = [e.begun for e in started]
    assert begun[0] is None and begun[1] is not None and begun[2] is not None
    assert begun[1].rows[-1].fate == "new" and begun[1].source == "stage 1 (first)", "other classes: another classifier"
    assert begun[2].rows[-1].fate == "taken" and begun[2].rows[0].frozen
    with pytest.raises(KeyboardInterrupt):
        go(killed, ("stage 2", 1))
    again = go(killed)
    assert [e.kind for e in again if e.kind not in ("epoch", "done")] == ["known", "resumed", "started"]
    assert killed.weights_file(NET.id).read_bytes() == whole.weights_file(NET.id).read_bytes()
    records = [run.promoted(NET.id) for run in (whole, killed)]
    assert records[0] is not None and records[1] is not None
    untimed = [json.loads(json.dumps(record.to_json())) for record in records]
    for record in untimed:
        for part in (record, *record["stages"]):
            part["seconds"] = 0
    assert untimed[0] == untimed[1]
    assert [stage["name"] for stage in untimed[0]["stages"]] == ["first", "second"]
    rows = list(csv.DictReader((whole.training(NET.id) or "").splitlines()))
    epochs = untimed[0]["stages"][0]["epochs"]
    assert [int(r["epoch"]) for r in rows] == list(range(1, epochs + 6)), "one history, numbered through"
    assert [r["stage"] for r in rows] == ["1"] * epochs + ["2"] * 3 + ["3"] * 2
    assert [e.kind for e in go(whole) if e.kind != "epoch"] == ["known", "known", "known"]


def test_a_rule_to_stop_ends_a_stage(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    document = {"stages": [{**DOCUMENT["stages"][0], "stop": {"accuracy": 0.1}}]}
    promoted = promote_stages(run, NET, Stages.model_validate(document), [Images()])  # type: ignore[list-item]
    assert promoted.epochs == 1 and promoted.recipe["stop"] == {"accuracy": 0.1, "patience": None}


def test_faults_of_a_file_of_stages_are_told_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("stages:\n  - {name: a, data: x, recipe: {epoch: 3}}\n  - {name: b, dat: y}\n")
    with pytest.raises(ConfigError) as caught:
        load_stages(str(path))
    assert "epoch" in str(caught.value) and "dat" in str(caught.value) and "line 2" in str(caught.value)
    path.write_text("stages:\n  - {name: a, data: x}\n  - {name: a, data: y}\n")
    with pytest.raises(ConfigError, match="a name of its own"):
        load_stages(str(path))
    path.write_text("stages:\n  - {name: a, data: x, recipe: {init: previous}}\n")
    with pytest.raises(ConfigError, match="no weights of before"):
        load_stages(str(path))


@pytest.mark.parametrize("name", sorted(shipped("stages")))
def test_every_shipped_file_of_stages_loads(name: str) -> None:
    stages = load_stages(name)
    assert [stage.recipe.init for stage in stages.stages[1:]] == ["previous"] * (len(stages.stages) - 1)


def test_the_wake_vision_entrys_three_stages_run_on_files_of_the_real_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    source, seed = tmp_path / "parquet", iter(range(100_000))
    for split, large in (("train_quality", False), ("train_large", True)):
        rows = [row(next(seed), i % 2) for i in range(48)]
        write_shard(source / split / f"{split}-00000-of-00001.parquet", rows, large)
        for part in ("validation", "test"):
            write_shard(source / split / f"{part}-00000-of-00001.parquet", [row(next(seed), i % 2) for i in range(12)])
        part_ = split.removeprefix("train_")
        out = tmp_path / "data" / f"wake-vision-{part_}"
        wake_vision(WakeVisionOptions(source=source / split, out=out, size=48, parts=(part_, "validation", "test")))  # type: ignore[arg-type]
    from data_cases import make_folder

    make_folder(tmp_path / "data" / "vww", {"person": 30, "no_person": 30})
    text = shipped("stages")["wake-vision"].read_text()
    for old in ("epochs: 30", "epochs: 20"):
        text = text.replace(old, "epochs: 1")
    (tmp_path / "small.yaml").write_text(text.replace("batch_size: 256", "batch_size: 16"))
    rows_ = api.promote("mcunet-tiny2", stages="small.yaml", budget="stm32f746", out=tmp_path / "run", formats=["tflite"])
    training = rows_[0].promoted
    assert training is not None and [stage["name"] for stage in training["stages"]] == ["vww", "large"]
    assert training["init"]["taken"] >= 24 and training["recipe"]["init"] == "previous"
    card = next(rows_[0].folder.glob("*.md")).read_text()
    assert "Stage 2, large" in card and "Began with" in card
    again = api.promote("mcunet-tiny2", stages="small.yaml", budget="stm32f746", out=tmp_path / "run", formats=["tflite"])
    assert again[0].promoted == training


def test_a_network_without_a_run_needs_a_board_and_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--budget is missing"):
        api.promote("mcunet-tiny2", data=str(tmp_path))
    with pytest.raises(UserError, match="--data is missing"):
        api.promote("mcunet-tiny2", budget="stm32f746")
    with pytest.raises(UserError, match="each stage has its own recipe"):
        api.promote(new_run(tmp_path / "run"), stages="wake-vision", epochs=3)


def test_all_stages_without_data_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "wake-vision-large").mkdir(parents=True)
    lacking = "2 stages of 3 without data:\n  - stage 1 (vww): data/vww\n  - stage 3 (quality): data/wake-vision-quality"
    with pytest.raises(DataError, match=re.escape(lacking)) as caught:
        api.promote("mcunet-tiny2", budget="stm32f746", stages="wake-vision", out=tmp_path / "run")
    assert "tinynas data prepare" in str(caught.value) and not (tmp_path / "run").exists()


def test_a_file_is_tuned_from_its_own_weights(stripes: str, tmp_path: Path) -> None:
    from test_weights import grown, write_file

    path = write_file(tmp_path, grown())
    heard: list[PromoteEvent] = []
    rows_ = api.promote(
        str(path), data=stripes, budget="stm32f746", out=tmp_path / "run", epochs=1, formats=["tflite"], on_event=heard.append
    )
    assert heard[0].begun is not None and heard[0].begun.count("taken") == 13 and heard[0].begun.source == str(path)
    assert rows_[0].promoted is not None and rows_[0].promoted["recipe"]["init_sha256"]
    with pytest.raises(UserError, match="this is a run"):
        api.promote(tmp_path / "run", [rows_[0].id], budget="stm32f746")
