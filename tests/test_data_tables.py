"""Labels in a table: CSV as people and programs write it, beside, above or apart from the images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from data_cases import make_folder, names, write_image

from tinynas.cli import run
from tinynas.data import DataOptions, DataSet, open_data
from tinynas.data.images.folder import IMAGES
from tinynas.data.layout import Found
from tinynas.data.table import Finder
from tinynas.errors import DataError

N = 24
Line = Callable[[int, str, str], str]
"""Of the number of an image, its path and its label."""


def pet(i: int) -> str:
    return "dog" if i % 2 else "cat"


def table(
    root: Path,
    header: str | None,
    line: Line,
    *,
    name: str = "metadata.csv",
    folder: str = "images",
    encoding: str = "utf-8",
    end: str = "\n",
) -> Path:
    """24 images in ``folder``, and a table of their labels."""
    make_folder(root, {folder: N}, suffix=".jpg")
    lines = [] if header is None else [header]
    lines += [line(i, f"{folder}/{i:03d}.jpg", pet(i)) for i in range(N)]
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes("".join(text + end for text in lines).encode(encoding))
    return root


def labels_are_right(data: DataSet) -> bool:
    """Whether every image has the label of its number, and none is missing."""
    found = {record.name: record.label for record in data.records}
    return len(found) == N and all(label == pet(int(Path(name).stem)) for name, label in found.items())


def said(data: DataSet, *words: str) -> bool:
    return any(all(word in note for word in words) for note in data.notes)


def refused(place: Path, *words: str, options: DataOptions | None = None) -> None:
    with pytest.raises(DataError) as caught:
        open_data(place, options=options)
    assert caught.value.hint
    for word in words:
        assert word in str(caught.value), str(caught.value)


WAYS: dict[str, tuple[str | None, Line, dict[str, str]]] = {
    "hugging face": ("file_name,label", lambda i, p, c: f"{p},{c}", {}),
    "backslashes": ("file_name,label", lambda i, p, c: p.replace("/", "\\") + f",{c}", {"name": "labels.csv"}),
    "kaggle, ids without ending": ("id,breed", lambda i, p, c: f"{i:03d},{c}", {"name": "train.csv", "folder": "train"}),
    "ids without zeros": ("image_id,class", lambda i, p, c: f"{i},{c}", {}),
    "ids of a spreadsheet": ("ID,Category", lambda i, p, c: f"{i}.0,{c}", {}),
    "semicolons and BOM": ("Filename;Target", lambda i, p, c: f"{i:03d}.jpg;{c}", {"encoding": "utf-8-sig"}),
    "tabs": ("path\tlabel", lambda i, p, c: f"{p}\t{c}", {"name": "labels.tsv"}),
    "pipes, Windows line ends": ("path|label", lambda i, p, c: f"{p}|{c}", {"end": "\r\n"}),
    "UTF-16": ("path\tlabel", lambda i, p, c: f"{p}\t{c}", {"encoding": "utf-16"}),
    "quoted, with commas": ('"label","note","image"', lambda i, p, c: f'"{c}","a, ""b"", c","{p}"', {}),
    "spaces behind commas": ("file_name, label", lambda i, p, c: f"{p}, {c}", {}),
    "sep line": ("sep=;\nfile;label", lambda i, p, c: f"{p};{c}", {}),
    "no header": (None, lambda i, p, c: f"{i:03d}.jpg,{c}", {"name": "labels.csv"}),
    "no header, label first": (None, lambda i, p, c: f"{c},{p}", {"name": "labels.csv"}),
    "a list with spaces": (None, lambda i, p, c: f"{p} {c}", {"name": "train.txt"}),
    "a header in other words": ("Datei;Tier", lambda i, p, c: f"{i:03d}.jpg;{c}", {}),
    "absolute paths": ("file,label", lambda i, p, c: f"/home/me/set/{p},{c}", {}),
    "paths of Windows": ("file,label", lambda i, p, c: "C:\\set\\" + p.replace("/", "\\") + f",{c}", {}),
    "converted since": ("file,label", lambda i, p, c: f"{i:03d}.png,{c}", {}),
    "capitals": ("FILE_NAME,LABEL", lambda i, p, c: f"{p.upper()},{c}", {}),
    "addresses": ("url,label", lambda i, p, c: f"https://example.org/my%20set/{p}?alt=media,{c}", {}),
    "in a folder of its own": ("file,label", lambda i, p, c: f"{i:03d}.jpg,{c}", {"name": "annotations/all.csv"}),
    "in the folder of the images": ("file,label", lambda i, p, c: f"{i:03d}.jpg,{c}", {"name": "images/metadata.csv"}),
    "words beside numbers": ("file,label,label_name", lambda i, p, c: f"{p},{i % 2},{c}", {}),
    "many columns": ("width,filename,height,class,xmin", lambda i, p, c: f"3,{i:03d}.jpg,4,{c},1", {"name": "_annotations.csv"}),
    "numbered rows": (",image,label", lambda i, p, c: f"{i},{p},{c}", {}),
    "JSON lines": (None, lambda i, p, c: json.dumps({"file_name": p, "label": c, "tags": ["x"]}), {"name": "metadata.jsonl"}),
    "one column a class": ("image,cat,dog", lambda i, p, c: f"{i:03d},{int(c == 'cat')}.0,{int(c == 'dog')}.0", {"name": "train.csv"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_table_gives_the_labels(way: str, tmp_path: Path) -> None:
    header, line, how = WAYS[way]
    root = table(tmp_path / "set", header, line, **how)  # type: ignore[arg-type]
    data = open_data(root)
    assert data.labels == ("cat", "dog") and labels_are_right(data) and said(data, f"labels from {how.get('name', 'metadata.csv')}")
    given = open_data(root / how.get("name", "metadata.csv"))
    assert given.fingerprint == data.fingerprint and labels_are_right(given)


def test_columns_of_splits(tmp_path: Path) -> None:
    part = ("train", "Validation", "TEST", "train_set")
    root = table(tmp_path / "set", "file,label,split", lambda i, p, c: f"{p},{c},{part[i // 2 % 4]}")
    data = open_data(root)
    for split, wanted in (("train", {0, 3}), ("val", {1}), ("test", {2})):
        assert {int(Path(name).stem) // 2 % 4 for name in names(data, split)} == wanted


def test_a_split_that_is_none_is_refused_and_not_trained_on(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "file,label,split", lambda i, p, c: f"{p},{c},{'exclude' if i == 4 else 'train'}")
    refused(root, "metadata.csv", "line 6", "exclude", "train, val, test")
    # Empty cells, the word for it, and numbers of folds leave the row to be assigned.
    for number, free in enumerate(("", "unassigned", "UNASSIGNED", "3", "Fold_2")):
        assert labels_are_right(
            open_data(table(tmp_path / f"{number}", "file,label,split", lambda i, p, c, free=free: f"{p},{c},{free if i > 15 else 'test'}"))
        )


def test_a_damaged_line_of_a_table_is_refused_and_the_folders_do_not_take_its_place(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"cat": 6, "dog": 6}, suffix=".jpg")
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    lines = [json.dumps({"file_name": name, "label": "xy"[i % 2]}) for i, name in enumerate(files)]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    assert open_data(root).labels == ("x", "y")
    (root / "metadata.jsonl").write_text("\n".join([*lines[:4], lines[4][:-1], *lines[5:]]))
    refused(root, "metadata.jsonl", "line 5", "no JSON")
    (root / "metadata.jsonl").rename(root / "log.jsonl")
    assert open_data(root).labels == ("cat", "dog"), "another file need not be a table"
    refused(root / "log.jsonl", "line 5")
    (root / "log.jsonl").rename(root / "notes.csv")
    (root / "notes.csv").write_text(
        "file_name,label,split\n" + "".join(f"{name},{'xy'[i % 2]},{'later' if i == 1 else 'train'}\n" for i, name in enumerate(files))
    )
    assert open_data(root).labels == ("cat", "dog")
    (root / "notes.csv").rename(root / "metadata.csv")
    refused(root, "metadata.csv", "line 3", "later")


def test_quotation_marks_that_are_not_closed(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "file,label", lambda i, p, c: f'"{p},{c}' if i == 3 else f"{p},{c}")
    refused(root, "metadata.csv", "further down")
    long = table(tmp_path / "long", "file,label", lambda i, p, c: f'"{p},{c}' + "," * 140_000 if i == 3 else f"{p},{c}")
    refused(long, "metadata.csv", "line 5", "quotation mark")


def test_lines_that_end_as_on_old_macs_and_files_that_begin_with_a_number_sign(tmp_path: Path) -> None:
    assert labels_are_right(open_data(table(tmp_path / "mac", "file,label", lambda i, p, c: f"{p},{c}", end="\r")))
    root = make_folder(tmp_path / "set", {"images": 12}, suffix=".jpg")
    names_of = sorted(path.name for path in (root / "images").iterdir())
    (root / "images" / names_of[0]).rename(root / "images" / "#1.jpg")
    lines = [
        "# who labelled this",
        "file,label",
        *(f"{name},{'ab'[i % 2]}" for i, name in enumerate(["#1.jpg", *names_of[1:]])),
        "# the end",
    ]
    (root / "images" / "labels.csv").write_text("\n".join(lines))
    data = open_data(root / "images")
    assert len(data.records) == 12 and any(record.name.endswith("#1.jpg") for record in data.records)


def test_vertex_ai(tmp_path: Path) -> None:
    part = ("TRAIN", "TRAIN", "VALIDATION", "TEST")
    root = table(tmp_path / "set", None, lambda i, p, c: f"{part[i % 4]},gs://bucket/some/{p},{c}", name="import.csv")
    data = open_data(root)
    assert labels_are_right(data) and {int(Path(name).stem) % 4 for name in names(data, "test")} == {3}
    assert said(data, "images in column 2, labels in column 3, splits in column 1")


def test_vertex_ai_in_json(tmp_path: Path) -> None:
    part = ("training", "training", "validation", "test")
    root = table(
        tmp_path / "set",
        None,
        lambda i, p, c: json.dumps(
            {
                "imageGcsUri": f"gs://bucket/{p}",
                "classificationAnnotation": {"displayName": c},
                "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": part[i % 4]},
                "boxes": [1],
            }
        ),
        name="import.jsonl",
    )
    data = open_data(root)
    assert labels_are_right(data) and {int(Path(name).stem) % 4 for name in names(data, "test")} == {3}


def test_hugging_face_with_a_table_in_each_split(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("test", 100)):
        make_folder(tmp_path, {part: 12}, start=start)
        (tmp_path / part / "metadata.csv").write_text("file_name,label\n" + "\n".join(f"{i:03d}.png,{pet(i)}" for i in range(12)))
    data = open_data(tmp_path)
    assert data.counts("test") == {"cat": 6, "dog": 6} and data.counts("train") == {"cat": 5, "dog": 5}


def test_roboflow_with_a_column_for_each_class(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("valid", 100), ("test", 200)):
        make_folder(tmp_path, {part: 8}, start=start)
        lines = [f"{i:03d}.png, {i % 2}, {1 - i % 2}" for i in range(8)]
        (tmp_path / part / "_classes.csv").write_text("filename, dog, cat\n" + "\n".join(lines))
    data = open_data(tmp_path)
    assert [data.counts(split) for split in ("train", "val", "test")] == [{"cat": 4, "dog": 4}] * 3


def test_a_list_of_classes_is_no_table(tmp_path: Path) -> None:
    for i in range(60):
        write_image(tmp_path / "images" / f"{i}.png", i)
    (tmp_path / "labels.txt").write_text("0 cat\n1 dog\n")
    refused(tmp_path, "holds 60 images but no class folders")


def test_tables_called_after_splits(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "file,label", lambda i, p, c: f"{p},{c}", name="train.csv")
    lines = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join(lines[:17]))
    (root / "test.csv").write_text("\n".join([lines[0], *lines[17:]]))
    data = open_data(root)
    assert labels_are_right(data) and {int(Path(name).stem) for name in names(data, "test")} == set(range(16, N))


def test_edge_impulse(tmp_path: Path) -> None:
    files = []
    for i in range(N):
        part = "testing" if i % 6 > 3 else "training"
        write_image(tmp_path / part / f"{i:03d}.jpg", i)
        label = {"type": "label", "label": pet(i)}
        files.append({"path": f"{part}/{i:03d}.jpg", "name": f"{i:03d}", "category": part, "label": label, "boundingBoxes": []})
    (tmp_path / "info.labels").write_text(json.dumps({"version": 1, "files": files}))
    data = open_data(tmp_path)
    assert labels_are_right(data) and {name.split("/")[0] for name in names(data, "test")} == {"testing"} and len(data.members["test"]) == 8


def test_kaggle_folders_with_a_table_for_the_test(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"Train/0": 8, "Train/1": 8, "Test": 6})
    rows = [f"9,{c},Train/{c}/{i:03d}.png" for c in (0, 1) for i in range(8)]
    (root / "Train.csv").write_text("Width,ClassId,Path\n" + "\n".join(rows))
    (root / "Test.csv").write_text("Width,ClassId,Path\n" + "\n".join(f"9,{i % 2},Test/{i:03d}.png" for i in range(6)))
    data = open_data(root)
    assert data.labels == ("0", "1") and data.counts("test") == {"0": 3, "1": 3} and said(data, "labels of 6 images in no class folder")


def test_numbers_of_a_table_are_read_as_the_names_of_folders(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"train/cat": 8, "train/dog": 8, "val/images": 6})
    rows = [f"train/{pet(c)}/{i:03d}.png,{c}" for c in (0, 1) for i in range(8)] + [f"val/images/{i:03d}.png,{i % 2}" for i in range(6)]
    (root / "labels.csv").write_text("file,label\n" + "\n".join(rows))
    data = open_data(root)
    assert data.labels == ("cat", "dog") and data.counts("test") == {"cat": 3, "dog": 3}


def test_folders_and_table_that_say_the_same(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"train/cat": 9, "train/dog": 9, "val/cat": 3, "val/dog": 3})
    lines = [f"{path.relative_to(root).as_posix()},{path.parent.name},train" for path in sorted(root.rglob("*.png"))]
    alone = open_data(root)
    (root / "labels.csv").write_text("file,label,split\n" + "\n".join(lines))
    assert open_data(root).fingerprint == alone.fingerprint


def test_a_table_goes_before_folders_that_are_no_classes(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"batch1": 12, "batch2": 12})
    rows = [f"batch{k}/{i:03d}.png,{pet(i)}" for k in (1, 2) for i in range(12)]
    (root / "metadata.csv").write_text("file_name,label\n" + "\n".join(rows))
    data = open_data(root)
    assert data.labels == ("cat", "dog") and said(data, "labels from metadata.csv", "take the table away")
    (root / "metadata.csv").write_text("file_name,label\n" + "\n".join(rows[:14]))
    data = open_data(root)
    assert data.labels == ("batch1", "batch2") and said(data, "metadata.csv says other labels for", "the folders are believed")


def test_a_table_that_cannot_be_opened_does_no_harm_beside_classes(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 8, "b": 8})
    (root / "labels.csv").symlink_to(tmp_path / "nowhere.csv")
    assert open_data(root).labels == ("a", "b")
    bare = make_folder(tmp_path / "bare", {"images": 8})
    (bare / "labels.csv").symlink_to(tmp_path / "nowhere.csv")
    refused(bare, "labels.csv: is not a file")


def test_a_sample_submission_says_nothing(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "id,label", lambda i, p, c: f"{i:03d},{c}", name="sample_submission.csv")
    refused(root, "holds 24 images but no class folders")


def test_rows_and_images_without_each_other_are_counted(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "file,label", lambda i, p, c: f"{p},{c}" if i < 20 else f"gone{i}.jpg,{c}")
    data = open_data(root)
    assert said(data, "metadata.csv: 4 of 24 rows name no image that is there, such as gone20.jpg")
    assert said(data, "4 images have no label and are left out, such as images/020.jpg") and len(data.records) == 20


@pytest.mark.parametrize(
    ("header", "line", "words"),
    [
        (
            "file,label",
            lambda i, p, c: f"{p},{c}\n{p},bird",
            ("line 3: images/000.jpg is bird here and cat in line 2", "one label", "boxes"),
        ),
        (
            "file,a,b",
            lambda i, p, c: f"{p},x{i % 3},y{i % 4}",
            ("cannot tell which column is the label (columns: file, a, b)", "data.label_column"),
        ),
        (
            "file,a,b",
            lambda i, p, c: f"{p},1,{i % 2}",
            ("12 of 24 rows have several labels or none in the columns a, b", "data.label_column"),
        ),
        ("file,label", lambda i, p, c: f"{p},{i / 7}", ("the column label has 24 different values in 24 rows", "no classes")),
        ("file,label", lambda i, p, c: f"{p},cat", ("one class 'cat'",)),
        ("file,label", lambda i, p, c: f"{p},{'Cat' if i % 2 else 'cat'}", ("Cat and cat differ by case only",)),
    ],
)
def test_tables_that_cannot_be_used_say_why(tmp_path: Path, header: str, line: Line, words: tuple[str, ...]) -> None:
    root = table(tmp_path / "set", header, line)
    refused(root, *words)
    refused(root / "metadata.csv", *words)


def test_a_table_that_is_given_is_about_images_below_it(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "file,label", lambda i, p, c: f"other{i}.jpg,{c}")
    refused(root / "metadata.csv", "no row names an image below", "such as other0.jpg", "images/000.jpg")
    (root / "empty.csv").write_text("")
    refused(root / "empty.csv", "no row names an image")
    (root / "binary.csv").write_bytes(bytes(range(256)) * 9)
    refused(root / "binary.csv", "no row names an image")
    (root / "broken.jsonl").write_text("{")
    refused(root / "broken.jsonl", "no row names an image")


def test_a_table_above_the_folder_is_pointed_to(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "file,label", lambda i, p, c: f"{p},{c}", name="labels.csv")
    refused(root / "images", f"--data {root}/labels.csv")


def test_columns_may_be_named(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "file,a,b", lambda i, p, c: f"{p},x{i % 3},{c}")
    assert labels_are_right(open_data(root, options=DataOptions(label_column="b")))
    assert open_data(root, options=DataOptions(label_column="2")).labels == ("x0", "x1", "x2")
    refused(root, "there is no column 'c'", "file, a, b", options=DataOptions(label_column="c"))
    refused(root / "metadata.csv", "image_column: there is no column 'c'", "file, a, b", options=DataOptions(image_column="c"))
    bare = table(tmp_path / "bare", None, lambda i, p, c: f"{p},x{i % 3},{c}", name="labels.csv")
    assert labels_are_right(open_data(bare, options=DataOptions(label_column="3")))


def test_one_column_of_0_and_1_is_the_label(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "file,defect", lambda i, p, c: f"{p},{i % 2}")
    assert open_data(root).labels == ("0", "1")


def test_labels_of_a_table_are_numbers_in_order(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "file,label", lambda i, p, c: f"{p},{i % 8 + 4}.0")
    assert open_data(root).labels == tuple(map(str, range(4, 12)))


def test_names_with_spaces_and_accents(tmp_path: Path) -> None:
    for i in range(8):
        write_image(tmp_path / "images" / f"cafe\u0301 {i}.png", i)
    (tmp_path / "labels.csv").write_bytes(
        "file,label\n".encode("cp1252") + "".join(f"caf\u00e9 {i}.png,th\u00e9{i % 2}\n" for i in range(8)).encode("cp1252")
    )
    data = open_data(tmp_path)
    assert data.labels == ("th\u00e90", "th\u00e91") and len(data.records) == 8


def test_equal_names_in_several_folders(tmp_path: Path) -> None:
    finder = Finder([Found(path, "", None, None) for path in ("a/x/1.png", "b/x/1.png", "train/2.png", "test/2.png", "c/3.png")], IMAGES)
    assert [finder.find(text, []) for text in ("a/x/1.png", "/data/b/x/1.png", "x/1.png", "1.png", "c/3", "3.jpg", "nothing", "")] == [
        0, 1, None, None, 4, 4, None, None,
    ]  # fmt: skip
    assert [finder.find("2", near) for near in (["train"], ["test"], ["c"])] == [2, 3, None]
    assert finder.find("train/3.png", []) is None and finder.find("elsewhere/3.png", []) == 4  # train is there, and has none of that name
    assert finder.near("train.csv") == ["train", "train"] and finder.near("x/test_labels.csv") == ["x/test_labels", "test", "x"]
    split = Finder([Found(f"{part}/2.png", "", None, part) for part in ("test", "train")], IMAGES)
    assert split.find("2.png", []) == 1


def test_numbers_that_occur_in_training_and_test(tmp_path: Path) -> None:
    for part, name in (("train_images", "train"), ("test_images", "test")):
        make_folder(tmp_path, {part: N}, suffix=".jpg", start=1000 * (name == "test"))
    (tmp_path / "train.csv").write_text("id,label\n" + "\n".join(f"{i},{pet(i)}" for i in range(N)))
    (tmp_path / "test.csv").write_text("id\n" + "\n".join(map(str, range(N))))
    data = open_data(tmp_path)
    assert {record.name.split("/")[0] for record in data.records} == {"train_images"} and labels_are_right(data)
    (tmp_path / "test.csv").write_text("id,label\n" + "\n".join(f"{i},{pet(i + 1)}" for i in range(N)))
    data = open_data(tmp_path)
    assert len(data.members["test"]) == N and {record.label for record in data.records if record.name == "test_images/001.jpg"} == {"cat"}


def test_data_info_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = table(tmp_path / "set", "file,label", lambda i, p, c: f"{p},{c}")
    assert run(["data", "info", str(root / "metadata.csv")]) == 0
    assert f"{root}/metadata.csv: 24 images of 2 classes" in capsys.readouterr().out
