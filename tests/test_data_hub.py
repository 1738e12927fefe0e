"""``hf:owner/name`` and parquet files: columns guessed or given, splits mapped, labels named; offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tinynas.data import DataOptions, open_data
from tinynas.errors import DataError


def png(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".png", cv2.resize(noise, (20, 20)))[1].tobytes())


def write(path: Path, columns: dict[str, Sequence[Any]], features: dict[str, Any] | None = None) -> Path:
    import pyarrow
    import pyarrow.parquet
    from datasets import Features

    path.parent.mkdir(parents=True, exist_ok=True)
    schema = None if features is None else Features(features).arrow_schema
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), path)
    return path


def image_column(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"bytes": png(start + i), "path": None} for i in range(count)]


def standard(path: Path, count: int = 40, start: int = 0, names: Sequence[str] = ("cat", "dog")) -> Path:
    from datasets import ClassLabel, Image

    labels = [i % len(names) for i in range(count)]
    return write(path, {"image": image_column(count, start), "label": labels}, {"image": Image(), "label": ClassLabel(names=list(names))})


def test_a_parquet_file_is_split_and_its_class_names_are_kept(tmp_path: Path) -> None:
    data = open_data(standard(tmp_path / "photos.parquet", names=("zebra", "ant")), cache_dir=tmp_path / "cache")
    assert data.labels == ("zebra", "ant")  # the order of the class numbers, not of the alphabet
    assert data.counts("train") == {"zebra": 14, "ant": 14} and data.counts("test") == {"zebra": 3, "ant": 3}
    split = data.split("train", 20, 20, 3)
    row = int(split.names[0].split("/")[1])
    expected = cv2.imdecode(np.frombuffer(png(row), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.array_equal(split.inputs[0], expected) and split.labels[0] == row % 2
    assert any("image column 'image', label column 'label'" in note for note in data.notes)


def test_a_folder_of_parquet_files_tells_its_splits_by_their_names(tmp_path: Path) -> None:
    for k in range(2):
        standard(tmp_path / "set" / "data" / f"train-{k:05d}-of-00002.parquet", 20, 100 * k)
    standard(tmp_path / "set" / "data" / "validation-00000-of-00001.parquet", 6, 300)
    standard(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", 8, 400)
    data = open_data(tmp_path / "set", cache_dir=tmp_path / "cache")
    assert [sum(data.counts(split).values()) for split in ("train", "val", "test")] == [40, 6, 8]


@pytest.mark.parametrize("column", ["string", "int64", "bool"])
def test_labels_may_be_words_numbers_or_truths(tmp_path: Path, column: str) -> None:
    values = {"string": ["b", "a"], "int64": [10, 9], "bool": [True, False]}[column]
    path = write(tmp_path / "x.parquet", {"img": [png(i) for i in range(24)], "label": [values[i % 2] for i in range(24)]})
    data = open_data(path, cache_dir=tmp_path / "cache")
    assert data.labels == {"string": ("a", "b"), "int64": ("9", "10"), "bool": ("False", "True")}[column]
    assert len(data.records) == 24 and data.split("val", 8, 8, 1).inputs.shape[1:] == (8, 8, 1)


def test_rows_without_label_and_bad_images_are_left_out_and_counted(tmp_path: Path) -> None:
    from datasets import ClassLabel, Image

    images = image_column(30)
    images[4] = {"bytes": b"junk", "path": None}
    images[5] = {"bytes": None, "path": None}
    labels = [i % 2 for i in range(30)]
    labels[7] = labels[8] = -1
    path = write(tmp_path / "x.parquet", {"image": images, "label": labels}, {"image": Image(), "label": ClassLabel(names=["no", "yes"])})
    data = open_data(path, cache_dir=tmp_path / "cache")
    assert len(data.records) == 26 and sorted(b.reason for b in data.bad) == ["cannot be decoded", "missing"]
    assert any("2 rows without a label" in note for note in data.notes)


def test_columns_are_guessed_from_types_and_can_be_given(tmp_path: Path) -> None:
    from datasets import ClassLabel, Image, Value

    columns = {
        "picture": image_column(24),
        "id": [f"n{i}" for i in range(24)],
        "kind": [i % 2 for i in range(24)],
        "size": [i % 3 for i in range(24)],
    }
    path = write(
        tmp_path / "x.parquet",
        columns,
        {"picture": Image(), "id": Value("string"), "kind": ClassLabel(names=["p", "q"]), "size": Value("int64")},
    )
    assert open_data(path, cache_dir=tmp_path / "cache").labels == ("p", "q")  # the only class label
    assert open_data(path, cache_dir=tmp_path / "cache", options=DataOptions(label_column="size")).labels == ("0", "1", "2")
    with pytest.raises(DataError, match='did you mean "size"'):
        open_data(path, cache_dir=tmp_path / "cache", options=DataOptions(label_column="sise"))
    bare = write(tmp_path / "y.parquet", {"photo": [png(i) for i in range(9)], "a": ["x"] * 9, "b": ["y"] * 9})
    with pytest.raises(DataError, match="which column is the label") as caught:
        open_data(bare, cache_dir=tmp_path / "cache")
    assert "data.label_column" in str(caught.value)
    with pytest.raises(DataError, match="no image column"):
        open_data(write(tmp_path / "z.parquet", {"label": ["x", "y"]}), cache_dir=tmp_path / "cache")


def test_class_subset_label_map_and_binary_from_many(tmp_path: Path) -> None:
    path = standard(tmp_path / "x.parquet", 60, names=("man", "woman", "dog"))
    cache = tmp_path / "cache"
    binary = open_data(path, cache_dir=cache, options=DataOptions(binary={"person": ("man", "woman")}))
    assert binary.labels == ("no_person", "person") and sum(binary.targets) == 40
    assert open_data(path, cache_dir=cache, options=DataOptions(labels=("dog", "man"))).labels == ("dog", "man")
    assert open_data(path, cache_dir=cache, options=DataOptions(label_map={"man": "human", "woman": "human"})).labels == ("human", "dog")


def test_parquet_that_is_broken_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 but not really" * 40)
    with pytest.raises(DataError, match="cannot be read as parquet"):
        open_data(path, cache_dir=tmp_path / "cache")


# the hub, with its loader replaced by local files -------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """``datasets.load_dataset`` answers hub names from local parquet files; the calls are recorded."""
    import datasets

    files = {
        split: str(standard(tmp_path / "hub" / f"{split}.parquet", count, start))
        for split, count, start in (("train", 30, 0), ("dev", 8, 100), ("test_clean", 10, 200), ("unlabelled_extra", 4, 300))
    }
    original, calls = datasets.load_dataset, []

    def load(path: str, *arguments: Any, **keywords: Any) -> Any:
        if path == "parquet":
            return original(path, *arguments, **keywords)
        calls.append((path, *arguments, keywords))
        return original("parquet", data_files=files, cache_dir=str(tmp_path / "hf"))

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_hf_names_splits_and_revision(hub: list[tuple[Any, ...]], tmp_path: Path) -> None:
    data = open_data("hf:someone/pets", cache_dir=tmp_path / "cache", options=DataOptions(revision="v1", subset="small"))
    assert hub == [("someone/pets", "small", {"revision": "v1"})] and data.name == "hf:someone/pets"
    assert [sum(data.counts(split).values()) for split in ("train", "val", "test")] == [30, 8, 10]
    assert any("splits not used: unlabelled_extra" in note for note in data.notes)
    chosen = open_data("hf:someone/pets", cache_dir=tmp_path / "cache", options=DataOptions(splits={"train": "train", "test": "dev"}))
    assert sum(chosen.counts("test").values()) == 8 and sum(chosen.counts("train").values()) == 26
    with pytest.raises(DataError, match='did you mean "dev"'):
        open_data("hf:someone/pets", cache_dir=tmp_path / "cache", options=DataOptions(splits={"train": "dve"}))
    with pytest.raises(DataError, match="owner/name"):
        open_data("hf:")


def test_no_network_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="hf:nobody/nothing-at-all: cannot be loaded") as caught:
        open_data("hf:nobody/nothing-at-all", cache_dir=tmp_path)
    assert "connection" in str(caught.value)
