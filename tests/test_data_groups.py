"""What belongs together stays together; what is on both sides of a split is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_cases import make_folder, names, write_image

from tinynas.data import DataOptions, open_data
from tinynas.errors import DataError


def test_groups_stay_together(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for label in ("no", "yes"):
        for i in range(60):
            write_image(root / label / f"crop{i // 3:03d}{'abc'[i % 3]}.png", i + 100 * (label == "yes"))
    data = open_data(root, options=DataOptions(groups=r"crop(\d+)"))
    where: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        for name in names(data, split):
            where.setdefault(name.split("crop")[1][:3], set()).add(split)
    assert len(where) == 20 and all(len(splits) == 1 for splits in where.values())
    assert data.counts("test") == {"no": 9, "yes": 9}
    with pytest.raises(DataError, match="matches none"):
        open_data(root, options=DataOptions(groups=r"frame(\d+)"))


def test_exact_duplicates_are_kept_on_one_side_of_a_carved_split(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 40, "b": 40})
    for i in range(40):
        (root / "a" / f"copy{i}.png").write_bytes((root / "a" / f"{i:03d}.png").read_bytes())
    data = open_data(root)
    assert data.leaks == () and data.duplicates == 40
    assert any("40 exact duplicates" in note for note in data.notes)


def test_given_splits_that_leak_are_reported_and_can_be_mended(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"train/a": 12, "train/b": 12, "test/a": 6, "test/b": 6})
    (root / "train" / "a" / "stolen.png").write_bytes((root / "test" / "a" / "000.png").read_bytes())
    (root / "train" / "b" / "wrong.png").write_bytes((root / "test" / "a" / "001.png").read_bytes())
    data = open_data(root)
    assert {frozenset(leak.splits) for leak in data.leaks} <= {frozenset({"train", "test"}), frozenset({"val", "test"})}
    assert len(data.leaks) == 2 and any("leakage: 2 images" in note for note in data.notes)
    assert any("under more than one label" in note for note in data.notes)
    mended = open_data(root, options=DataOptions(leaks="drop"))
    left = names(mended, "train") | names(mended, "val")
    assert not left & {"train/a/stolen.png", "train/b/wrong.png"} and len(names(mended, "test")) == 12


def test_groups_across_given_splits_are_reported(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for i in range(12):
        for split in ("train", "test"):
            for label in ("a", "b"):
                write_image(root / split / label / f"shot{i:02d}{split}.png", i * 4 + len(split) + ord(label))
    data = open_data(root, options=DataOptions(groups=r"shot(\d+)"))
    assert any("12 groups in more than one split" in note and "24 images" in note for note in data.notes)
