"""Preparing Wake Vision and VWW: against parquet files of the real schema, through ``datasets`` itself, offline."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from tinynas.data import DataOptions, open_data
from tinynas.data.images import decode
from tinynas.data.images.wake_vision import ATTRIBUTES, Relabelling, to_row
from tinynas.data.prepare import PrepareProgress, VwwOptions, WakeVisionOptions, expect, vww, wake_vision
from tinynas.data.store import Store
from tinynas.data.subsets import splits_for, subset_report
from tinynas.errors import DataError, UserError

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")


def jpeg(seed: int, height: int = 60, width: int = 80) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", cv2.resize(noise, (width, height)))[1].tobytes())


def features(large: bool = False) -> Any:
    """The columns of Harvard-Edge/Wake-Vision, in their order: 21; of the large set: 3."""
    from datasets import ClassLabel, Features, Image, Value

    columns: dict[str, Any] = {"image": Image(), "filename": Value("string"), "person": ClassLabel(names=["No", "Yes"])}
    if not large:
        columns |= {name: ClassLabel(names=["No", "Yes"]) for name in ATTRIBUTES}
    return Features(columns)


def row(seed: int, person: int, *yes: str, data: bytes | None = None, name: str | None = None) -> dict[str, Any]:
    flags = {column: -1 if person == -1 and column not in yes else int(column in yes) for column in ATTRIBUTES}
    return {
        "image": {"bytes": jpeg(seed) if data is None else data, "path": None},
        "filename": name or f"{seed:016x}.jpg",
        "person": person,
    } | flags


def write_shard(path: Path, rows: Sequence[Mapping[str, Any]], large: bool = False) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    schema = features(large).arrow_schema  # carries the Hugging Face metadata: ClassLabel names, Image
    columns = {name: [r[name] for r in rows] for name in schema.names}
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), path, row_group_size=7)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four shards of train_quality, one of validation, two of test; bad images and far people among them."""
    folder = tmp_path / "parquet"
    seed = iter(range(10_000))
    for shard in range(4):
        rows = [row(next(seed), i % 2, "near" if i % 4 == 1 else "bright") for i in range(20)]
        rows[3]["image"]["bytes"] = rows[3]["image"]["bytes"][:300]  # truncated
        rows[11]["image"]["bytes"] = b""
        write_shard(folder / f"train_quality-{shard:05d}-of-00004.parquet", rows)
    write_shard(folder / "validation-00000-of-00001.parquet", [row(next(seed), i % 2) for i in range(12)])
    for shard in range(2):
        rows = [
            row(next(seed), i % 2, *(["near", "dark"] if i % 4 == 1 else ["medium_distance"] if i % 2 else ["dark"])) for i in range(16)
        ]
        rows += [row(next(seed), -1, "far") for _ in range(3)] + [row(next(seed), -1)]
        write_shard(folder / f"test-{shard:05d}-of-00002.parquet", rows)
    return folder


def options(source: Path, out: Path, **changes: Any) -> WakeVisionOptions:
    return WakeVisionOptions(**{"source": source, "out": out, "size": 32, **changes})


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")}


def test_the_schema_has_21_columns() -> None:
    assert len(features()) == 21
    assert [name for name in features() if "-" in name] == ["non-person_depiction", "non-person_non-depiction"]


def test_prepared_rows_labels_drops_and_bad_images(source: Path, tmp_path: Path) -> None:
    seen: list[PrepareProgress] = []
    report = wake_vision(options(source, tmp_path / "out"), seen.append)
    # Every shard of 20 lost 2 bad images, both of label person (odd rows).
    assert report.images == {
        "train": {"no_person": 40, "person": 32},
        "val": {"no_person": 6, "person": 6},
        "test": {"no_person": 16, "person": 16},
    }
    assert report.dropped == {"person does not apply (-1)": 8} and report.rows == 4 * 20 + 12 + 2 * 20
    assert sorted(reason for _, reason in report.bad) == ["empty file"] * 4 + ["truncated"] * 4
    assert report.shards_done == report.shards == report.shards_new == 7
    assert seen[-1].shards_done == 7 and seen[-1].images == 116 and seen[-1].bad == 8 and seen[-1].eta_seconds == 0
    document = report.to_json()
    assert document["bad"]["reasons"] == {"empty file": 4, "truncated": 4} and json.dumps(document)

    data = open_data(tmp_path / "out")
    assert data.labels == ("no_person", "person") and data.counts("train") == report.images["train"]
    assert data.split("val", 16, 16, 3).inputs.shape == (12, 16, 16, 3) and len(data.bad) == 8
    assert data.native_size == (32, 32)
    assert set(data.attributes) == {"near", "bright", "dark", "medium_distance"}
    near = data.values("near", "train")
    assert near.sum() > 0 and set(data.targets[data.members["train"]][near == 1]) == {1}
    with pytest.raises(DataError, match="no attribute"):
        data.values("purple", "train")


def test_images_are_the_centre_square_of_the_source(source: Path, tmp_path: Path) -> None:
    wake_vision(options(source, tmp_path / "out", parts=("validation",), jpeg_quality=100))
    data = Store(tmp_path / "out")
    line = next(data.lines())
    kept = decode(data.read(line["source"], line["offset"], line["bytes"]))
    assert kept.shape == (32, 32, 3) and (line["height"], line["width"]) == (32, 32)
    assert hashlib.sha256(data.read(line["source"], line["offset"], line["bytes"])).hexdigest() == line["sha256"]
    original = decode(jpeg(int(Path(line["id"]).stem, 16)))
    square = cv2.resize(original[:, 10:70], (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(kept.astype(int) - square).mean() < 5


def test_names_open_what_was_prepared_into_the_cache(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="tinynas data prepare wake-vision"):
        open_data("wake-vision")
    report = wake_vision(WakeVisionOptions(source=source, size=16))
    assert report.path == tmp_path / "cache" / "prepared" / "wake-vision"
    assert len(open_data("wake-vision").members["val"]) == 12


# kill and resume ---------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
import tinynas.data.images.shards as shards
from tinynas.data.prepare import WakeVisionOptions, wake_vision
from tinynas.data.store import Store
rows, deadly = 0, int(sys.argv[3])
original = shards._shrink
def shrink(*arguments):
    global rows
    rows += 1
    if rows == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
shards._shrink = shrink
wake_vision(WakeVisionOptions(source=Path(sys.argv[1]), out=Path(sys.argv[2]), size=32))
"""


def test_killed_anywhere_and_resumed_equals_uninterrupted_byte_for_byte(source: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    wake_vision(options(source, whole))
    kills = 0
    for deadly in (5, 45):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(source), str(cut), str(deadly)], check=False, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        if not Store(cut).manifest.exists():
            with pytest.raises(DataError, match="not prepared to the end"):
                open_data(cut)
    finished = len(list((cut / "shards").glob("*.json")))
    assert 0 < finished < 7 and kills == 2
    report = wake_vision(options(source, cut))
    assert report.shards_new == 7 - finished and report.shards_done == 7
    assert (cut / "manifest.jsonl").read_bytes() == (whole / "manifest.jsonl").read_bytes()
    assert tree(cut) == tree(whole)
    assert not list((cut / "shards").glob(".*"))


@pytest.mark.slow
def test_killed_by_the_clock_and_resumed(source: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    wake_vision(options(source, whole))
    slow = KILLED.replace("rows += 1", "rows += 1; __import__('time').sleep(0.02)")
    process = subprocess.Popen([sys.executable, "-c", slow, str(source), str(cut), "999999"], cwd=ROOT)
    deadline = time.monotonic() + 60
    while len(list(cut.glob("shards/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wake_vision(options(source, cut))
    assert tree(cut) == tree(whole)


def test_an_interrupted_call_leaves_a_manifest_of_what_is_finished(source: Path, tmp_path: Path) -> None:
    def stop(progress: PrepareProgress) -> None:
        if progress.shards_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wake_vision(options(source, tmp_path / "out", parts=("quality",)), stop)
    data = open_data(tmp_path / "out")
    assert len(data.records) == 3 * 18 and any("1 of 4 shards are not prepared yet" in note for note in data.notes)


def test_a_second_call_with_other_settings_is_refused_and_with_the_same_does_nothing(source: Path, tmp_path: Path) -> None:
    wake_vision(options(source, tmp_path / "out"))
    before = tree(tmp_path / "out")
    assert wake_vision(options(source, tmp_path / "out")).shards_new == 0
    assert tree(tmp_path / "out") == before
    with pytest.raises(DataError, match="size was 32, now 48"):
        wake_vision(options(source, tmp_path / "out", size=48))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        wake_vision(options(source, tmp_path / "other"))


def test_two_processes_may_not_prepare_the_same_share(source: Path, tmp_path: Path) -> None:
    from tinynas.files import locked

    (tmp_path / "out").mkdir()
    with locked(tmp_path / "elsewhere"):
        pass
    wake_vision(options(source, tmp_path / "out2", parts=("validation",)))
    with locked(tmp_path / "out2" / ".prepare.lock"), pytest.raises(UserError, match="another process"):
        wake_vision(options(source, tmp_path / "out2", parts=("validation",)))


# parts of the data -------------------------------------------------------------------------------------


def test_n_takes_that_many_and_more_later_equals_more_at_once(source: Path, tmp_path: Path) -> None:
    first = wake_vision(options(source, tmp_path / "out", n=25))
    assert {split: sum(counts.values()) for split, counts in first.images.items()} == {"train": 25, "val": 12, "test": 25}
    assert first.shards_done < first.shards
    again = wake_vision(options(source, tmp_path / "out", n=40))
    at_once = wake_vision(options(source, tmp_path / "once", n=40))
    assert again.images == at_once.images and sum(again.images["train"].values()) == 40
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == (tmp_path / "once" / "manifest.jsonl").read_bytes()
    fewer = wake_vision(options(source, tmp_path / "out", n=25))
    assert fewer.images == first.images


def test_the_seed_draws_the_order_of_shards(source: Path, tmp_path: Path) -> None:
    def shards(seed: int) -> list[str]:
        wake_vision(options(source, tmp_path / f"out{seed}", seed=seed, parts=("quality",)))
        return list(dict.fromkeys(line["source"] for line in Store(tmp_path / f"out{seed}").lines()))

    orders = [shards(seed) for seed in range(4)]
    assert len({tuple(order) for order in orders}) > 1 and len({frozenset(order) for order in orders}) == 1
    assert orders[0] != sorted(orders[0]) or orders[1] != sorted(orders[1])


def test_machines_share_the_work_in_any_order(source: Path, tmp_path: Path) -> None:
    for machine in (2, 0, 1):
        report = wake_vision(options(source, tmp_path / "out", num_shards=3, shard_id=machine))
    assert report.shards_done == 7 and sum(report.images["train"].values()) == 72
    for machine in (0, 1, 2):
        wake_vision(options(source, tmp_path / "other", num_shards=3, shard_id=machine))
    assert tree(tmp_path / "out") == tree(tmp_path / "other")


def test_the_large_part(source: Path, tmp_path: Path) -> None:
    write_shard(source / "train_large-00000-of-00001.parquet", [row(5000 + i, i % 2) for i in range(10)], large=True)
    report = wake_vision(options(source, tmp_path / "out", parts=("large", "validation")))
    assert sum(report.images["train"].values()) == 10


# relabelling -------------------------------------------------------------------------------------------


def write_names(path: Path, names: Sequence[str], header: Sequence[str] = ("image_name",)) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *([name, *["7"] * (len(header) - 1)] for name in names)])
    return path


def test_relabelling_is_counted_and_both_labels_can_be_kept(source: Path, tmp_path: Path) -> None:
    wake_vision(options(source, tmp_path / "plain"))
    lines = list(Store(tmp_path / "plain").lines())
    people = [line["id"] for line in lines if line["label"] == "person"][:3]
    others = [line["id"] for line in lines if line["label"] == "no_person"][:2]
    positives = write_names(tmp_path / "fp.csv", [*people, "unknown.jpg"])
    negatives = write_names(tmp_path / "fn.csv", [f"folder/{name}" for name in others], ("image_name", "largest_person_area"))
    changes = {"false_positives": positives, "false_negatives": negatives}
    report = wake_vision(options(source, tmp_path / "new", **changes))
    assert report.relabelled == {"person -> no_person": 3, "no_person -> person": 2}
    assert report.notes == ["relabelled 5 images; 1 of 6 listed names are not here or had that label"]
    new = {line["id"]: line for line in Store(tmp_path / "new").lines()}
    assert all(new[name]["label"] == "no_person" for name in people) and all(new[name]["label"] == "person" for name in others)
    assert not any("original" in line for line in new.values())

    both = wake_vision(options(source, tmp_path / "both", dual_save=True, export_imagefolder=tmp_path / "tree", **changes))
    assert both.images == report.images
    lines = list(Store(tmp_path / "both").lines())
    assert {line["id"] for line in lines if "original" in line} == {*people, *others}
    old, now = (open_data(tmp_path / "both", options=DataOptions(original_labels=flag)) for flag in (True, False))
    assert (
        sum(old.counts(s)["person"] for s in ("train", "val", "test")) == sum(now.counts(s)["person"] for s in ("train", "val", "test")) + 1
    )
    assert old.fingerprint != now.fingerprint and any("5 images are relabelled" in note for note in now.notes)
    for which, label in (("original", "person"), ("relabelled", "no_person")):
        assert any(Path(people[0]).stem in path.name for path in (tmp_path / "tree" / which).rglob(f"{label}/*.jpg"))


def test_relabelling_faults(tmp_path: Path, source: Path) -> None:
    empty, both = write_names(tmp_path / "empty.csv", []), write_names(tmp_path / "a.csv", ["x.jpg"])
    for changes, words in (
        ({"false_positives": tmp_path / "missing.csv"}, "missing.csv"),
        ({"false_positives": empty}, "lists no file names"),
        ({"false_positives": both, "false_negatives": both}, "in both"),
    ):
        with pytest.raises(DataError, match=words):
            wake_vision(options(source, tmp_path / "out", **changes))
    with pytest.raises(ValidationError):
        options(source, tmp_path / "out", dual_save=True)
    with pytest.raises(ValidationError):
        options(source, tmp_path / "out", shard_id=3, num_shards=3)


def test_export_opens_as_an_image_folder(source: Path, tmp_path: Path) -> None:
    report = wake_vision(options(source, tmp_path / "out", export_imagefolder=tmp_path / "tree"))
    store, folder = open_data(tmp_path / "out"), open_data(tmp_path / "tree")
    for split in ("train", "val", "test"):
        assert folder.counts(split) == store.counts(split)
    assert report.exported == tmp_path / "tree"
    assert {r.digest for r in folder.records} == {r.digest for r in store.records}


# the far set and subsets -------------------------------------------------------------------------------


def test_the_far_set_is_a_split_of_its_own(source: Path, tmp_path: Path) -> None:
    report = wake_vision(options(source, tmp_path / "out", far="keep"))
    assert report.images["far"] == {"person": 6} and report.dropped == {"person does not apply (-1)": 2}
    data = open_data(tmp_path / "out")
    assert len(data.members["test"]) == 32 and len(data.split("far", 16, 16, 3)) == 6
    assert splits_for(data, "test") == ("test", "far") and splits_for(data, "val") == ("val",)


def test_subsets_by_hand(source: Path, tmp_path: Path) -> None:
    wake_vision(options(source, tmp_path / "out", far="keep"))
    data = open_data(tmp_path / "out")
    test, far = data.targets[data.members["test"]], data.targets[data.members["far"]]
    near = data.values("near", "test") == 1
    predicted = test.copy()
    predicted[np.flatnonzero(near)[:2]] = 0  # two of the 8 near people are missed
    predicted[np.flatnonzero(test == 0)[:4]] = 1  # four of the 16 others are taken for people
    subsets = subset_report(data, {"test": predicted, "far": np.array([1, 1, 0, 0, 0, 0])})
    assert {name: subset["n"] for name, subset in subsets.items()} == {
        "distance: near": 8,
        "distance: medium": 8,
        "distance: far": 6,
        "lighting: dark": 8,
    }
    assert subsets["distance: near"]["accuracy"] == 6 / 8 and subsets["distance: medium"]["accuracy"] == 1
    assert subsets["distance: far"]["accuracy"] == pytest.approx(2 / 6)
    assert subsets["distance: near"]["f1"] == pytest.approx(2 * 0.75 / (2 * 0.75 + 0.25 + 0.25))
    assert subsets["distance: near"]["against_n"] == 16 and subsets["distance: far"]["behind"] == pytest.approx(100 * (1 - 2 / 6))
    assert subsets["lighting: dark"]["against_n"] == 16  # dark, without a person
    assert far.tolist() == [1] * 6
    with pytest.raises(DataError, match="predictions for"):
        subset_report(data, {"test": predicted[:-1]})
    with pytest.raises(DataError, match="no attributes"):
        subset_report(open_data("synthetic"), {"test": np.zeros(1500, np.int64)})


@pytest.mark.parametrize("person", [-1, None])
def test_rows_without_a_label_are_dropped_whatever_the_reason(person: int | None) -> None:
    plain = Relabelling(None, None, False)
    assert to_row({"image": {"bytes": b"x"}, "filename": "a", "person": person, "far": 0}, "test", "keep", plain).drop is not None
    assert to_row({"image": b"x", "filename": None, "person": 1}, "quality", "keep", plain).label == "person"


# trouble -----------------------------------------------------------------------------------------------


def test_reading_is_tried_again_with_growing_pauses(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    wake_vision(options(source, tmp_path / "whole"))
    original, failures, pauses, messages = datasets.load_dataset, iter(range(100)), [], []

    def flaky(*arguments: Any, **keywords: Any) -> Any:
        stream = original(*arguments, **keywords)
        if next(failures) % 3 == 2:
            return stream

        class Broken:
            def decode(self, enable: bool) -> Any:
                yield from (r for _, r in zip(range(5), stream.decode(enable), strict=False))
                raise ConnectionResetError("peer reset the connection")

        return Broken()

    monkeypatch.setattr(datasets, "load_dataset", flaky)
    wake_vision(options(source, tmp_path / "out"), lambda p: messages.append(p.message), sleep=pauses.append)
    assert pauses[:4] == [1, 2, 1, 2] and len(pauses) == 14
    assert sum("trying again in 2 s" in (m or "") for m in messages) == 7
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_shard_that_stays_broken_is_one_clear_error_and_the_rest_is_kept(source: Path, tmp_path: Path) -> None:
    victim = sorted(source.glob("train_quality*"))[1]
    data = victim.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    victim.write_bytes(bytes(len(data) - footer) + data[-footer:])  # the footer is whole, the rows are gone
    pauses: list[float] = []
    with pytest.raises(DataError, match=r"cannot be read after 3 attempts") as caught:
        wake_vision(options(source, tmp_path / "out", retries=2), sleep=pauses.append)
    assert victim.stem in str(caught.value) and pauses == [1, 2] and "again later" in str(caught.value)
    victim.write_bytes(data)
    assert wake_vision(options(source, tmp_path / "out", retries=2)).shards_done == 7


def test_no_network_no_source_and_no_room_are_clear_errors(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="Harvard-Edge/Wake-Vision: cannot be listed") as caught:
        wake_vision(WakeVisionOptions(out=tmp_path / "out"))
    assert "--source" in str(caught.value)
    with pytest.raises(DataError, match="is no folder"):
        wake_vision(options(tmp_path / "nowhere", tmp_path / "out"))
    with pytest.raises(DataError, match="train_large"):
        wake_vision(options(source, tmp_path / "out", parts=("large",)))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"needed and 1000 B are free") as caught:
        wake_vision(options(source, tmp_path / "out"))
    assert "--n" in str(caught.value)


def test_the_expectation_before_it_starts(source: Path, tmp_path: Path) -> None:
    before = expect(options(source, tmp_path / "out"))
    assert (before.shards, before.images, before.transfer_bytes) == (7, 132, 0) and "nothing to transfer" in str(before)
    report = wake_vision(options(source, tmp_path / "out"))
    written = sum(p.stat().st_size for p in (tmp_path / "out" / "shards").glob("*.pack"))
    assert 0.3 < written / before.disk_bytes < 3
    assert expect(options(source, tmp_path / "out")).shards == 0 and report.shards_done == 7
    few = expect(options(source, tmp_path / "fresh", n=25))
    assert few.images == 25 + 12 + 25


def test_hub_shards_are_streamed_by_url(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, the hub is a builder whose data files are local: the rest of the way is the real one."""
    import datasets

    asked = []

    class Builder:
        class config:
            data_files = {  # noqa: RUF012
                split: sorted(map(str, source.glob(f"{split}-*.parquet"))) for split in ("train_quality", "validation", "test")
            }

    def builder(name: str, revision: str | None) -> type[Builder]:
        asked.append((name, revision))
        return Builder

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    report = wake_vision(WakeVisionOptions(out=tmp_path / "out", size=32, revision="abc"))
    assert set(asked) == {("Harvard-Edge/Wake-Vision", "abc")} and report.shards_done == 7
    local = wake_vision(options(source, tmp_path / "local"))
    assert report.images == local.images
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == (tmp_path / "local" / "manifest.jsonl").read_bytes()
    with pytest.raises(DataError, match="no split 'train_large'"):
        wake_vision(WakeVisionOptions(out=tmp_path / "x", parts=("large",)))


# Visual Wake Words -------------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A COCO-format set: 100x80 images, so that a person box counts above 40 square pixels."""
    root = tmp_path / "coco"
    number, box = 0, 0
    for subset, count in (("train2014", 24), ("val2014", 12)):
        images, annotations = [], []
        (root / subset).mkdir(parents=True)
        for i in range(count):
            number += 1
            name = f"COCO_{subset}_{number:012d}.jpg"
            (root / subset / name).write_bytes(jpeg(number, 80, 100))
            images.append({"id": number, "file_name": name, "width": 100, "height": 80})
            boxes = {0: [], 1: [[0, 0, 8, 5]], 2: [[0, 0, 8.02, 5]], 3: [[3, 3, 2, 2], [10, 10, 50, 50]]}[i % 4]
            for bbox in boxes:
                box += 1
                annotations.append({"id": box, "image_id": number, "category_id": 1, "bbox": bbox, "iscrowd": 0})
            box += 1
            annotations.append({"id": box, "image_id": number, "category_id": 18, "bbox": [0, 0, 90, 70], "iscrowd": 0})
        (root / "annotations").mkdir(exist_ok=True)
        document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]}
        (root / "annotations" / f"instances_{subset}.json").write_text(json.dumps(document))
    return root


def test_vww_area_rule_and_splits(coco: Path, tmp_path: Path) -> None:
    report = vww(VwwOptions(coco=coco, out=tmp_path / "out", size=40))
    # Exactly 0.5 % (8x5 of 100x80) is not more than 0.5 %; a little more is.
    assert report.images == {"train": {"no_person": 12, "person": 12}, "test": {"no_person": 6, "person": 6}}
    assert any("minival" in note for note in report.notes)
    data = open_data(tmp_path / "out")
    assert data.labels == ("no_person", "person") and len(data.members["val"]) == 4
    assert {r.size for r in data.records} == {(40, 50)}  # the aspect ratio stays: the rule is about the whole image
    label = {r.name.rsplit("/", 1)[1]: r.label for r in data.records}
    assert [label[f"COCO_train2014_{i:012d}.jpg"] for i in (1, 2, 3, 4)] == ["no_person", "no_person", "person", "person"]
    everything = vww(VwwOptions(coco=coco, out=tmp_path / "dogs", category="dog", area=0.5))
    assert everything.images["train"] == {"dog": 24}


def test_a_set_prepared_in_format_1_is_read_and_continued(coco: Path, tmp_path: Path) -> None:
    settings = VwwOptions(coco=coco, out=tmp_path / "out", size=40)
    vww(settings)
    store = Store(tmp_path / "out")
    new = open_data(store.root, cache_dir=tmp_path / "cache").records
    for path in (store.manifest, *store.shards.glob("*.jsonl")):  # width first, as format 1 had it
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        old = [{"size": [line.pop("width"), line.pop("height")], **line} for line in lines]
        path.write_text("".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in old))
    header = json.loads((store.root / "dataset.json").read_text())
    (store.root / "dataset.json").write_text(json.dumps({**header, "format": 1}))
    assert open_data(store.root, cache_dir=tmp_path / "cache").records == new
    assert vww(settings).shards_new == 0 and open_data(store.root, cache_dir=tmp_path / "cache").records == new
    assert {record.size for record in new} == {(40, 50)}
    (store.root / "dataset.json").write_text(json.dumps({**header, "format": 3}))
    with pytest.raises(DataError, match="is of format 3, this version reads 1 and 2"):
        open_data(store.root, cache_dir=tmp_path / "cache")


def test_vww_minival_list_resume_and_bad_files(coco: Path, tmp_path: Path) -> None:
    (coco / "train2014" / "COCO_train2014_000000000003.jpg").unlink()
    (coco / "val2014" / "COCO_val2014_000000000030.jpg").write_bytes(b"junk")
    listing = tmp_path / "minival.txt"  # with an editor's mark before it
    listing.write_text("\ufeff25\n26\nCOCO_val2014_000000000027.jpg\n000000000028\n".replace("000000000028", "28"))
    report = vww(VwwOptions(coco=coco, out=tmp_path / "out", size=40, minival=listing))
    assert {s: sum(c.values()) for s, c in report.images.items()} == {"train": 36 - 4 - 2, "test": 4}
    assert sorted(reason for _, reason in report.bad) == ["cannot be decoded", "empty file"] and not report.notes
    assert vww(VwwOptions(coco=coco, out=tmp_path / "out", size=40, minival=listing)).shards_new == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda coco: {"coco": coco / "nowhere"}, "is no folder"),
        (lambda coco: shutil.rmtree(coco / "annotations") or {}, "instances_"),
        (lambda coco: {"category": "persom"}, "no category"),
        (lambda coco: (coco / "annotations" / "instances_val2014.json").write_text("{}") and {}, "no COCO instances"),
        (lambda coco: dict([shutil.rmtree(coco / name) for name in ("train2014", "val2014")][:0]), "is nowhere"),
        (lambda coco: (coco / "annotations" / "instances_val2014.json").unlink() or {}, "no test images"),
        (lambda coco: {"minival": coco / "missing.txt"}, "missing.txt"),
        (lambda coco: (coco / "ids.txt").write_text("999999") and {"minival": coco / "ids.txt"}, "none of its 1 ids"),
    ],
)
def test_vww_faults(coco: Path, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        vww(VwwOptions(**{"coco": coco, "out": tmp_path / "out", **change(coco)}))
    assert caught.value.hint


def test_tests_are_offline() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
