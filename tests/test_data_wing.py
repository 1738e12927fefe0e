"""A wing that is not of images: what it gives, and that the shared files take it as it is."""

from __future__ import annotations

import ast
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinynas.data import BadInput, DataOptions, DataSet, Record, Signal, open_data, sources
from tinynas.data.assemble import Source, assemble
from tinynas.data.images.sheet import sample_sheet
from tinynas.data.info import describe
from tinynas.data.noise import estimate_noise
from tinynas.data.scan import Measured, scan, sort_out
from tinynas.data.sources import Place
from tinynas.errors import DataError
from tinynas.inputs import Input
from tinynas.recipe import Augment

PACKAGE = Path(__file__).parent.parent / "tinynas"
FRAMES, BINS = 49, 10
WINGS = ("cv2", "soundfile", "soxr")
ROOMS = ("tinynas.data.images", "tinynas.data.sounds")


# the wing: everything that features need, and the line in the table ---------------------------------------


def decode(data: bytes) -> np.ndarray:
    """49 frames of 10 coefficients, int8, as uint8 (49, 10, 1)."""
    if len(data) != FRAMES * BINS:
        raise BadInput("not of 490 bytes")
    return (np.frombuffer(data, np.int8).astype(np.int16) + 128).astype(np.uint8).reshape(FRAMES, BINS, 1)


def first_frames(feature: np.ndarray, network: Input) -> np.ndarray:
    height, width, _ = network.shape
    if height > FRAMES or width != BINS:
        raise DataError(f"features of {height}x{width} cannot be made of {FRAMES}x{BINS}", "use fewer frames")
    return feature[:height]


FEATURE = Signal(kind="feature", version=1, how="first", channels=(1,), decode=decode, fit=first_frames)


def open_features(place: str, options: DataOptions, *, seed: int, cache: Path | None, on_progress: Any) -> DataSet:
    root = Path(place)
    paths = sorted(root.glob("*/*.bin"))
    names = [path.relative_to(root).as_posix() for path in paths]
    labels = [path.parent.name for path in paths]
    seen = scan(
        names,
        [str(path.stat().st_mtime_ns) for path in paths],
        lambda i: paths[i].read_bytes(),
        lambda data: Measured(*decode(data).shape[:2]),
        (cache or root) / "index.gz",
        on_progress,
        kind="feature",
    )
    records, rows, bad = sort_out(names, labels, [None] * len(names), seen)
    speakers = [record._replace(group=record.name.split("/")[1].split("_")[0]) for record in records]
    source = Source(str(root), FEATURE, speakers, lambda i: paths[rows[i]].read_bytes(), bad=bad)
    return assemble(source, options, seed=seed, cache=cache, on_progress=on_progress)


def is_features(place: str) -> bool:
    return any(Path(place).glob("*/*.bin"))


@pytest.fixture
def spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two words of 20 speakers, three times each; one file is cut off."""
    monkeypatch.setattr(sources, "PLACES", (Place("a folder of features", is_features, open_features), *sources.PLACES))
    root = tmp_path / "spoken"
    for number, word in enumerate(("no", "yes")):
        (root / word).mkdir(parents=True)
        for speaker in range(20):
            for take in range(3):
                draw = np.random.default_rng((number, speaker, take))
                feature = draw.integers(-128, 128, FRAMES * BINS).astype(np.int8)
                (root / word / f"s{speaker:02d}_{take}.bin").write_bytes(feature.tobytes())
    (root / "no" / "s00_9.bin").write_bytes(bytes(7))
    return root


def speakers(data: DataSet, split: str) -> set[str]:
    return {data.records[i].name.split("/")[1][:3] for i in data.members[split]}


# what the shared files do with it -------------------------------------------------------------------------


def test_features_are_opened_labelled_split_by_speaker_and_described(spoken: Path, tmp_path: Path) -> None:
    data = open_data(spoken, cache_dir=tmp_path / "cache")
    assert data.labels == ("no", "yes") and data.native_size == (49, 10)
    assert [sum(data.counts(split).values()) for split in ("train", "val", "test")] == [84, 18, 18]  # 14, 3 and 3 speakers of 6
    assert data.counts("val") == {"no": 9, "yes": 9}
    assert not speakers(data, "train") & speakers(data, "val") and not speakers(data, "test") & speakers(data, "val")
    assert [(bad.name, bad.reason) for bad in data.bad] == [("no/s00_9.bin", "not of 490 bytes")]
    assert data.groups is not None and data.groups.names[:2] == ("s00", "s01") and data.straddles == ()
    facts = describe(data)
    assert facts["kind"] == "feature" and facts["groups"]["count"] == 20 and facts["groups"]["splits"] == {"train": 14, "val": 3, "test": 3}
    assert facts["sizes"]["native"] == {"height": 49, "width": 10}
    assert not any("image" in line for line in (*facts["notes"], *facts["warnings"]))
    by_name = open_data(spoken, cache_dir=tmp_path / "cache", options=DataOptions(groups="prefix:_"))
    assert by_name.groups is not None and by_name.groups.names == data.groups.names
    assert {s: speakers(by_name, s) for s in data.members} == {s: speakers(data, s) for s in data.members}


def test_features_are_decoded_once_and_mapped_from_the_cache(spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(spoken, cache_dir=tmp_path / "cache")
    split = data.split("train", FRAMES, BINS, 1)
    assert split.inputs.shape == (84, 49, 10, 1) and split.kind == "feature" and isinstance(split.inputs, np.memmap)
    for feature, name, label, group in zip(split.inputs, split.names, split.labels, split.groups, strict=True):  # type: ignore[arg-type]
        assert np.array_equal(feature.astype(int).ravel() - 128, np.fromfile(spoken / name, np.int8))
        assert name.startswith(f"{data.labels[label]}/{data.groups.names[group]}_")  # type: ignore[union-attr]
    assert data.split("train", 20, BINS, 1).inputs.shape == (84, 20, 10, 1)
    again = open_data(spoken, cache_dir=tmp_path / "cache")
    for path in spoken.rglob("*.bin"):
        path.write_bytes(b"")
    assert np.array_equal(again.split("train", FRAMES, BINS, 1).inputs, split.inputs)
    with pytest.raises(DataError, match=r"changed while|cannot now"):
        again.split("val", FRAMES, BINS, 1)
    with pytest.raises(DataError, match=r"features of 49x10x3 .*\n?.*1 channel"):
        data.split("val", FRAMES, BINS, 3)


def test_training_takes_features_as_they_are_and_refuses_to_change_them_as_images(spoken: Path, tmp_path: Path) -> None:
    import torch

    from tinynas.train.feed import make_feed

    split = open_data(spoken, cache_dir=tmp_path / "cache").split("train", FRAMES, BINS, 1)
    rows = np.array([5, 0, 83])
    for resident in (False, True):
        inputs, labels = make_feed(split, Augment(kind="none"), 0, torch.device("cpu"), resident)(3, rows)
        assert np.array_equal(inputs.numpy(), split.inputs[rows]) and labels.tolist() == split.labels[rows].tolist()
        for kind in ("light", "wake-vision"):
            with pytest.raises(DataError, match=r"changes images, sounds, .*and these inputs are features"):
                make_feed(split, Augment(kind=kind), 0, torch.device("cpu"), resident)
    with pytest.raises(DataError, match="these are features"):
        sample_sheet(open_data(spoken, cache_dir=tmp_path / "cache"), tmp_path / "sheet.png")


def test_wrong_labels_are_judged_by_speakers_not_heard_before(spoken: Path, tmp_path: Path) -> None:
    split = open_data(spoken, cache_dir=tmp_path / "cache").split("train", FRAMES, BINS, 1)
    heard: list[int] = []

    def scorer(train: Any, held_out: Any, fold: int) -> np.ndarray:
        assert not set(train.groups.tolist()) & set(held_out.groups.tolist())
        heard.append(len(held_out))
        return np.full((len(held_out), 2), 0.5)

    estimate_noise(split, ("no", "yes"), scorer, folds=3)
    assert sum(heard) == len(split) == 84 and min(heard) >= 24  # 14 speakers of 6: four, five and five


def test_the_shared_files_know_nothing_of_images() -> None:
    doors = {"sources.py", "prepare.py", "sheets.py"}  # the tables, which load a wing when it is asked for
    for path in sorted((PACKAGE / "data").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            if isinstance(node, ast.Import | ast.ImportFrom) and path.name not in doors:
                assert not any(name in WINGS or name.startswith(ROOMS) for name in found), f"{path.name}: {found}"


def test_keyword_features_of_a_benchmark(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "audio" / "kws01_bin"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    with (root / "y_labels.csv").open(newline="") as file:
        listed = [(row[0], row[2]) for row in csv.reader(file) if row and (root / row[0]).is_file()]
    read: Callable[[int], bytes] = lambda i: (root / listed[i][0]).read_bytes()  # noqa: E731
    records = [Record(name, label.strip(), None, name, decode(read(i)).shape[:2]) for i, (name, label) in enumerate(listed)]
    data = assemble(Source("kws01", FEATURE, records, read), DataOptions(), cache=tmp_path)
    assert len(data.records) >= 490 and len(data.labels) == 12 and data.groups is None
    split = data.split("test", FRAMES, BINS, 1)
    assert split.inputs.shape[1:] == (49, 10, 1) and split.inputs.std() > 10
