"""What belongs together stays together; what is on both sides of a split is found."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from data_cases import make_folder, names, write_image
from pydantic import ValidationError

from tinynas.data import DataOptions, Record, open_data
from tinynas.data.groups import find_groups, shown
from tinynas.data.info import describe
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


# how groups are told -----------------------------------------------------------------------------------


def meters(root: Path, counts: dict[str, int]) -> Path:
    """Digits named as in collections of meter readings: METER__n.png, portrait; the same meters in both classes."""
    for number, (path, count) in enumerate(counts.items()):
        folder, meter = path.rsplit("/", 1)
        for i in range(count):
            write_image(root / folder / f"{meter}__{i}.png", 1000 * number + i, height=44, width=24)
    return root


@pytest.mark.parametrize("rule", ["prefix:__", r"/([^/]+)__\d", "csv"])
def test_three_ways_to_tell_the_same_groups(tmp_path: Path, rule: str) -> None:
    root = meters(tmp_path / "set", {f"{label}/m{k}": 4 for label in "01" for k in range(10)})
    if rule == "csv":
        names_ = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.png"))]
        # By path in one class, by file name in the other; further columns and a byte order mark do not matter.
        rows = [f"{name if name[0] == '0' else name[2:]},x,{name[2:].split('__')[0]}" for name in names_]
        (tmp_path / "groups.csv").write_text("\n".join(["name,note,group", *rows]) + "\n", encoding="utf-8-sig")
        rule = f"csv:{tmp_path / 'groups.csv'}"
    data = open_data(root, options=DataOptions(groups=rule))
    assert data.groups is not None and data.groups.names == tuple(f"m{k}" for k in range(10)) and data.groups.sizes().tolist() == [8] * 10
    for split, count in (("train", 6), ("val", 2), ("test", 2)):  # 15 % of 80 are 12: a second group fills 4 and overshoots by 4
        assert len({name[2:4] for name in names(data, split)}) == count and len(names(data, split)) == 8 * count
    assert data.straddles == ()
    facts = describe(data)["groups"]
    assert facts == {
        "count": 10,
        "splits": {"train": 6, "val": 2, "test": 2},
        "largest": {"group": "m0", "images": 8},
        "in_several_splits": [],
    }
    assert [data.records[i].name[2:].split("__")[0] for i in data.members["val"]] == [
        data.groups.names[g]
        for g in data.split("val", 8, 4, 1).groups.tolist()  # type: ignore[union-attr]
    ]


def test_a_name_that_no_rule_fits_is_a_group_of_its_own_whatever_groups_are_called(tmp_path: Path) -> None:
    records = [Record(name, "a", None, name, (4, 4)) for name in ("a/x__1", "a/x__2", "a/y", "x")]
    said: list[str] = []
    found = find_groups("set", records, DataOptions(groups="prefix:__"), said)
    assert found is not None and found.names == ("x", "a/y", "x") and found.of.tolist() == [0, 0, 1, 2]
    assert said == ["groups: 2 of 4 names do not match 'prefix:__'; each of those is a group of its own"]
    assert find_groups("set", records, DataOptions(), []) is None
    given = [record._replace(group=group) for record, group in zip(records, ("p", "p", None, "q"), strict=True)]
    own = find_groups("set", given, DataOptions(), [])
    assert own is not None and own.names == ("p", "q", "a/y") and own.of.tolist() == [0, 0, 2, 1]
    two = find_groups("set", records, DataOptions(groups=r"(.)/(.)?__"), [])
    assert two is not None and shown(two.names[0]) == "a x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read as CSV"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("name,kind\na,b\n", "line 1: has no column group"),
        ("\nfile,kind\na,b\n", "line 2: has no column name and no column group"),
        ("name,group\na,1\nb\n", "line 3: name or group is missing"),
        ("name,group\na,1\nb,\n", "line 3: name or group is missing"),
        ("name,group\na,1\na,1\na,2\n", "line 4: a is of group '2' here and of '1' above"),
        ("name,group\n", "lists no names"),
        ("name,group\nnowhere.png,1\n", "matches none of the names"),
        ("name,group\n\xff,1\n", "cannot be read as CSV"),
    ],
)
def test_a_csv_file_that_cannot_be_used_says_where_and_why(tmp_path: Path, text: str | None, words: str) -> None:
    root = make_folder(tmp_path / "set", {"a": 4, "b": 4})
    path = tmp_path / "groups.csv"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        open_data(root, options=DataOptions(groups=f"csv:{path}"))
    assert words in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("(", "nor a regular expression"),
        ("prefix:", "needs the separator"),
        ("csv:", "needs a file"),
        ({"prefix": "__"}, "without a space"),
    ],
)
def test_a_rule_that_is_none_is_refused(rule: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DataOptions.model_validate({"groups": rule})


# groups that are on both sides of given splits ---------------------------------------------------------


def test_groups_that_straddle_given_splits_are_counted_named_and_can_be_dropped(tmp_path: Path) -> None:
    counts = {f"{split}/{label}/m{k}": 2 for split, label, k in product(("train", "val", "test"), "01", range(3))}
    # n0 is in all three; n1 in training and test; n2 in validation and test; far groups of their own are whole.
    counts |= {"train/0/n0": 3, "val/1/n0": 1, "test/0/n0": 1, "train/0/n1": 2, "test/1/n1": 5, "val/0/n2": 4, "test/0/n2": 1}
    root = meters(tmp_path / "set", {path.replace("/m", f"/{path.split('/')[0]}m"): count for path, count in counts.items()})
    data = open_data(root, options=DataOptions(groups="prefix:__"))
    assert [(s.group, s.splits) for s in data.straddles] == [
        ("n0", {"train": 3, "val": 1, "test": 1}),
        ("n1", {"train": 2, "test": 5}),
        ("n2", {"val": 4, "test": 1}),
    ]
    note = next(note for note in data.notes if "leakage" in note)
    assert "3 groups in more than one split, such as n0 (3 in train, 1 in val, 1 in test): 10 images" in note and "leaks=drop" in note
    assert any("3 groups are in more than one split" in line for line in describe(data)["warnings"])
    assert describe(data)["groups"]["in_several_splits"][2] == {"group": "n2", "splits": {"val": 4, "test": 1}}
    mended = open_data(root, options=DataOptions(groups="prefix:__", leaks="drop"))
    gone = {s: {n.split("/")[2] for n in names(data, s)} - {n.split("/")[2] for n in names(mended, s)} for s in data.members}
    assert gone["test"] == set() and {n[:2] for n in gone["val"]} == {"n0", "n2"} and {n[:2] for n in gone["train"]} == {"n0", "n1"}
    assert sum(map(len, gone.values())) == 3 + 2 + 1 + 4
    assert any("10 left out" in note for note in mended.notes)


def test_real_meters_are_never_on_two_sides(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "images" / "meter"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    data = open_data(root, cache_dir=tmp_path, options=DataOptions(groups="prefix:__"))
    where = {split: {name.split("/")[-1].split("__")[0] for name in names(data, split)} for split in ("train", "val", "test")}
    assert not where["train"] & where["val"] and not where["val"] & where["test"] and not where["train"] & where["test"]
    assert sum(map(len, where.values())) == 26 and data.straddles == () and data.native_size == (44, 24)
    counts = {split: data.counts(split) for split in ("train", "val")}
    share = sum(counts["val"].values()) / (sum(counts["val"].values()) + sum(counts["train"].values()))
    assert abs(share - 0.15) < 0.02
    for label in data.labels:
        assert abs(counts["val"][label] / (counts["val"][label] + counts["train"][label]) - 0.15) < 0.05, label


def test_real_tracks_of_signs_stay_whole(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "images" / "gtsrb48"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    data = open_data(root, cache_dir=tmp_path, options=DataOptions(groups=r"([^/]+/\d+)_"))  # tracks are counted within a class
    assert data.groups is not None and len(data.groups) == 1307 and data.straddles == ()
    for split in ("val", "test"):
        assert abs(len(data.members[split]) / 13069 - 0.15) < 0.005 and min(data.counts(split).values()) > 0
