"""data.attributes: a CSV of what images show besides their class; and which of two classes is the one that is looked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from data_cases import make_folder

from tinynas.data import DataOptions, DataSet, open_data
from tinynas.data.attributes import group_of, part_name
from tinynas.data.info import describe
from tinynas.data.labels import positive_of
from tinynas.errors import DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("attributes") / "set", {"a": 6, "b": 6})


def _said(data: DataSet) -> dict[str, dict[str, int]]:
    """{attribute: {name: value}} of every image."""
    names = [record.name for record in data.records]
    return {key: dict(zip(names, map(int, values), strict=True)) for key, values in data.attributes.items()}


def test_columns_of_yes_and_no_and_of_words_become_parts(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes(
        "Name,mirror,light\r\na/000.png,Yes,dark\r\na\\001.png,0,bright\r\nb/000.png,,dark\r\nb/001.png,1,\r\n".encode("utf-8-sig")
    )
    data = open_data(root, options=DataOptions(attributes=str(path)))
    said = _said(data)
    assert list(said) == ["mirror: yes", "mirror: no", "light: bright", "light: dark"]
    named = ("a/000.png", "a/001.png", "b/000.png", "b/001.png")
    assert {key: [values[name] for name in named] for key, values in said.items()} == {
        "mirror: yes": [1, 0, -1, 1],
        "mirror: no": [0, 1, -1, 0],
        "light: bright": [0, 1, 0, -1],
        "light: dark": [1, 0, 1, -1],
    }
    assert all(values["a/005.png"] == -1 for values in said.values()), "nothing is said of it"
    assert any("nothing is said of 8 images of 12: a/002.png, " in note for note in data.notes)
    assert describe(data)["attributes"] == {"mirror: yes": 2, "mirror: no": 1, "light: bright": 1, "light: dark": 2}
    assert group_of("light: dark") == ("light", "dark") and group_of("near") is None and part_name("a", "b") == "a: b"


def test_names_that_are_no_image_are_counted_and_a_file_name_is_enough_where_it_is_the_only_one(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 4, "b": 5})
    path = tmp_path / "facts.csv"
    path.write_text("name,dark\n004.png,yes\na/000.png,no\nb/009.png,no\nc/000.png,yes\n")  # 004.png is there in b alone
    data = open_data(root, options=DataOptions(attributes=str(path)))
    assert _said(data)["dark: yes"]["b/004.png"] == 1 and _said(data)["dark: no"]["a/000.png"] == 1
    assert any(note == "attributes: 2 names of facts.csv are no image here: b/009.png, c/000.png" for note in data.notes)


def test_what_is_said_does_not_depend_on_order_and_is_no_part_of_what_the_images_are(root: Path, tmp_path: Path) -> None:
    lines = ["a/000.png,yes", "a/001.png,no", "b/000.png,yes"]

    def opened(*rows: str) -> DataSet:
        path = tmp_path / "facts.csv"
        path.write_text("\n".join(["name,dark", *rows]) + "\n")
        return open_data(root, options=DataOptions(attributes=str(path)))

    one, other = opened(*lines), opened(*lines[::-1])
    changed = opened("a/000.png,no", *lines[1:])
    plain = open_data(root)
    assert one.attributes_digest == other.attributes_digest != changed.attributes_digest
    assert plain.attributes_digest is None
    assert one.fingerprint == changed.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read as CSV"),
        ("", "is empty"),
        ("name,dark\n", "lists no names"),
        ("file,dark\na,yes\n", "line 1: has no column name"),
        ("name\na/000.png\n", "line 1: has no column of an attribute"),
        ("name,\na/000.png,x\n", "line 1: column 2 has no name"),
        ("name,a: b\na/000.png,x\n", "line 1: column 2 has the name 'a: b'"),
        ("name,dark,dark\na/000.png,1,0\n", "line 1: has the column dark twice"),
        ("name,dark\na/000.png,1\na/001.png\n", "line 3: has 1 cell, the first line 2"),
        ("name,dark\na/000.png,1\n,1\n", "line 3: has no name"),
        ("name,dark\n000.png,1\n", "line 2: 000.png is the file name of a/000.png and of b/000.png"),
        ("name,dark\na/000.png,1\na/000.png,0\n", "line 3: says other things of a/000.png than line 2"),
        ("name,dark\nnowhere.png,1\n", "names none of the 12 images"),
        ("name,id\n" + "".join(f"x{i},{i + 2}\n" for i in range(21)), "names none"),
        (
            "name,id\na/000.png,2\n" + "".join(f"x{i},{i + 3}\n" for i in range(20)),
            "the column id has 21 different words (10, 11, 12, ...)",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(root: Path, tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "facts.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError) as caught:
        open_data(root, options=DataOptions(attributes=str(path)))
    assert words in str(caught.value) and str(path) in str(caught.value) and caught.value.hint


def test_twenty_words_are_an_attribute_and_the_same_line_twice_is_none_too_many(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("name,id\na/000.png,2\na/000.png,2\n" + "".join(f"x{i},{i + 3}\n" for i in range(19)))
    assert len(open_data(root, options=DataOptions(attributes=str(path))).attributes) == 20


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (("no_person", "person"), 1),
        (("person", "not person"), 0),
        (("cat", "dog"), 1),
        (("car", "nocar"), 0),
        (("background", "sign"), 1),
        (("fire", "none"), 0),
        (("none", "other"), 1),
        (("north", "south"), 1),
        (("a", "b", "c"), None),
    ],
)
def test_the_class_that_is_looked_for(labels: tuple[str, ...], positive: int | None) -> None:
    assert positive_of(labels) == positive


def test_the_class_that_is_looked_for_can_be_said(root: Path) -> None:
    assert open_data(root).positive == 1
    assert open_data(root, options=DataOptions(positive="a")).positive == 0
    with pytest.raises(DataError, match=r"data\.positive: 'c' is none of its classes"):
        open_data(root, options=DataOptions(positive="c"))
    three = replace(open_data(root), labels=("a", "b", "c"))
    assert three.positive is None
