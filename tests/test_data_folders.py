"""Folders as people have them: which are splits, which are classes, what is left out, and that all of it is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_cases import make_folder, names, write_image

from tinynas.cli import run
from tinynas.data import DataOptions, DataSet, open_data
from tinynas.data import walk as walking
from tinynas.data.dataset import UnusableData
from tinynas.data.foreign import describe_files
from tinynas.data.images.folder import IMAGES
from tinynas.data.images.signal import SLIVER, span_of
from tinynas.data.info import describe
from tinynas.data.partnames import Part, part_of
from tinynas.data.walk import walk
from tinynas.errors import DataError


def tops(data: DataSet, split: str) -> set[str]:
    """The outermost folders of a split's images."""
    return {name.split("/")[0] for name in names(data, split)}


def said(data: DataSet, *words: str) -> bool:
    """Whether one note has all the words."""
    return any(all(word in note for word in words) for note in data.notes)


def refused(root: Path, *words: str, options: DataOptions | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        open_data(root, options=options)
    assert caught.value.hint and caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value), str(caught.value)
    return caught.value


# names of splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(
            (name, Part("train", ()))
            for name in ("train", "Train", "TRAIN", "training_set", "TrainImages", "train-data", "trainset", "train2017")
        ),
        *((name, Part("val", ())) for name in ("val", "valid", "Validation", "validation_images", "dev", "val_data", "valset")),
        *((name, Part("test", ())) for name in ("test", "testing", "test_images", "Testing Data", "test1", "hold-out", "TestSet")),
        *((name, Part("eval", ())) for name in ("eval", "evaluation_set")),
        ("seg_train", Part("train", ("seg",))),
        ("test_tube", Part("test", ("tube",))),
        ("train_val", Part("train", ())),
        *((name, None) for name in ("trains", "contest", "latest", "devil", "evaluator", "valley", "train_test", "cats", "1")),
    ],
)
def test_what_a_name_means(name: str, meant: Part | None) -> None:
    assert part_of(name) == meant


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("training_set", "validation_set", "test_set"),
        ("train_images", "valid_images", "test_images"),
        ("Train", "Valid", "Test"),
        ("TRAINING", "DEV", "TESTING"),
        ("seg_train", "seg_val", "seg_test"),
        ("train", "val", "eval"),
        ("train", "eval", "test"),
        ("x-train", "x-validation", "x-holdout"),
    ],
)
def test_splits_by_their_names(tmp_path: Path, train: str, val: str, test: str) -> None:
    root = make_folder(tmp_path / "set", {f"{s}/{c}": n for s, n in ((train, 5), (val, 3), (test, 2)) for c in ("cats", "dogs")})
    data = open_data(root)
    assert data.labels == ("cats", "dogs")
    for split, folder, count in (("train", train, 5), ("val", val, 3), ("test", test, 2)):
        assert tops(data, split) == {folder} and data.counts(split) == {"cats": count, "dogs": count}


def test_what_lies_beside_splits_that_share_classes_is_ignored_and_said(tmp_path: Path) -> None:
    root = make_folder(
        tmp_path / "set", {"training_set/a": 8, "training_set/b": 8, "test_set/a": 3, "test_set/b": 3, "extra": 4, "seg_pred": 2}
    )
    data = open_data(root)
    assert data.labels == ("a", "b") and tops(data, "train") == {"training_set"} and tops(data, "test") == {"test_set"}
    assert said(data, "ignored beside test_set, training_set", "extra", "seg_pred")


def test_of_two_folders_for_one_split_the_plainer_name_is_meant(tmp_path: Path) -> None:
    counts = {f"{folder}/{label}": 8 for folder in ("train_images", "train_depth", "test_images") for label in "ab"}
    data = open_data(make_folder(tmp_path / "set", counts))
    assert tops(data, "train") == {"train_images"} and said(data, "ignored beside test_images, train_images: train_depth")


@pytest.mark.parametrize("inner", [{"train/steam": 5, "train/diesel": 5}, {"train": 10}, {"train/x": 10}])
def test_trains_among_vehicles_are_a_class(tmp_path: Path, inner: dict[str, int]) -> None:
    data = open_data(make_folder(tmp_path / "set", {"car": 10, "plane": 10, **inner}))
    assert data.labels == ("car", "plane", "train") and data.counts("train") == {"car": 6, "plane": 6, "train": 6}
    assert said(data, "train/ is taken for a class", "data.splits.train=train") == ("train/steam" in inner)


def test_the_options_say_which_folder_is_which_split(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {f"{s}/{c}": 6 for s in ("monday", "train", "friday") for c in "ab"})
    by_itself = open_data(root)
    assert by_itself.labels == ("friday", "monday", "train") and said(by_itself, "train/ is taken for a class")
    data = open_data(root, options=DataOptions(splits={"train": "monday", "test": "friday"}))
    assert data.labels == ("a", "b") and tops(data, "train") == {"monday"} and tops(data, "test") == {"friday"}
    refused(root, "there is no folder 'sunday'", "friday, monday, train", options=DataOptions(splits={"train": "sunday"}))


def test_a_split_that_no_option_names_is_the_folder_called_so(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {f"{s}/{c}": 6 for s in ("train", "val") for c in "ab"})
    data = open_data(root, options=DataOptions(splits={"test": "val"}))
    assert tops(data, "train") == {"train"} == tops(data, "val") and tops(data, "test") == {"val"}
    other = make_folder(tmp_path / "other", {f"{s}/{c}": 6 for s in ("train", "test", "testing", "monday") for c in "ab"})
    two = "test, testing: two of these mean the same split, test"
    refused(other, two, "--set data.splits.test=test", options=DataOptions(splits={"train": "monday"}))
    data = open_data(other, options=DataOptions(splits={"train": "monday", "test": "testing"}))
    assert tops(data, "train") == {"monday"} and tops(data, "test") == {"testing"}
    third = make_folder(tmp_path / "third", {f"{s}/{c}": 6 for s in ("train", "eval", "monday") for c in "ab"})
    data = open_data(third, options=DataOptions(splits={"test": "monday"}))
    assert (tops(data, "train"), tops(data, "val"), tops(data, "test")) == ({"train"}, {"eval"}, {"monday"})


def test_folders_with_the_same_folders_in_each_are_told(tmp_path: Path) -> None:
    data = open_data(make_folder(tmp_path / "set", {f"{s}/{c}": 6 for s in ("fold1", "fold2") for c in ("cat", "dog")}))
    assert data.labels == ("fold1", "fold2") and said(
        data, "each of the folders fold1, fold2 has the folders cat, dog", "data.splits.train=fold1"
    )


@pytest.mark.parametrize("outer", ["photos", "photos/photos", "photos/data/images"])
@pytest.mark.parametrize("inner", [{"a": 10, "b": 10}, {"train/a": 10, "train/b": 10, "test/a": 2, "test/b": 2}])
def test_folders_that_hold_one_folder_are_passed_through(tmp_path: Path, outer: str, inner: dict[str, int]) -> None:
    root = make_folder(tmp_path / "set", {f"{outer}/{folder}": count for folder, count in inner.items()})
    (root / "LICENSE.txt").write_text("mine")
    data = open_data(root)
    assert data.labels == ("a", "b") and said(data, f"read from {outer}/")
    assert data.fingerprint == open_data(root / outer).fingerprint
    assert len(data.members["test"]) == 4


def test_a_split_may_repeat_its_name_or_hold_images_flat(tmp_path: Path) -> None:
    counts = {f"{s}/{s}/{c}": 8 for s in ("seg_train", "seg_test") for c in ("sea", "street")}
    data = open_data(make_folder(tmp_path / "set", {**counts, "seg_pred/seg_pred": 3}))
    assert data.labels == ("sea", "street") and data.counts("test") == {"sea": 8, "street": 8}
    data = open_data(make_folder(tmp_path / "flat", {"train/a": 10, "train/b": 10, "test1": 3}, start=100))
    assert data.counts("train") == {"a": 6, "b": 6} and said(data, "3 images have no label and are left out, such as test1/000.png")


def test_masks_beside_images_are_no_class_but_no_mask_is(tmp_path: Path) -> None:
    data = open_data(make_folder(tmp_path / "set", {"images/cat": 9, "images/dog": 9, "masks/cat": 9, "masks/dog": 9}))
    assert data.labels == ("cat", "dog") and len(data.records) == 18
    assert open_data(make_folder(tmp_path / "faces", {"mask": 9, "no_mask": 9})).labels == ("mask", "no_mask")


# classes -----------------------------------------------------------------------------------------------


def test_names_differ_by_unicode_form_only(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"caf\u00e9": 8, "cafe\u0301": 8, "tea ": 8, "tea": 8})
    data = open_data(root)
    assert data.labels == ("caf\u00e9", "tea") and data.counts("train") == {"caf\u00e9": 12, "tea": 12}
    assert said(data, "caf\u00e9, tea", "look alike") and len({record.name for record in data.records}) == 32


def test_names_in_nfd_give_the_splits_of_nfc(tmp_path: Path) -> None:
    made = [open_data(make_folder(tmp_path / str(i), {name: 20, "b": 20})) for i, name in enumerate(("\u00e4", "a\u0308"))]
    assert made[0].fingerprint == made[1].fingerprint and names(made[0], "test") == names(made[1], "test")


def test_names_that_differ_by_case_only(tmp_path: Path) -> None:
    apart = open_data(make_folder(tmp_path / "apart", {"train/Cat": 20, "train/dog": 20, "test/cat": 5, "test/Dog": 5}))
    assert apart.labels == ("Cat", "dog") and apart.counts("test") == {"Cat": 5, "dog": 5}
    assert said(apart, "Cat and cat differ by case only", "one class, Cat")
    root = make_folder(tmp_path / "set", {"Cat": 8, "cat": 9, "dog": 8}, start=100)
    refused(root, "Cat and cat differ by case only (8 images Cat, 9 images cat)", "data.label_map={Cat: cat}")
    assert open_data(root, options=DataOptions(label_map={"Cat": "cat"})).counts("train") == {"cat": 11, "dog": 6}
    assert open_data(root, options=DataOptions(labels=("Cat", "cat", "dog"))).labels == ("Cat", "cat", "dog")
    assert open_data(make_folder(tmp_path / "letters", {"A": 8, "a": 8}, start=200)).labels == ("A", "a")


def test_class_folders_that_are_not_utf8_are_written_out(tmp_path: Path) -> None:
    for number, label in enumerate((b"caf\xe9", b"th\xe9")):
        folder = os.path.join(os.fsencode(tmp_path), b"set", label)  # noqa: PTH118
        os.makedirs(folder)  # noqa: PTH103
        for i in range(9):
            done = cv2.imencode(".png", np.full((8, 8), 20 * i + number, np.uint8))[1].tobytes()
            with open(os.path.join(folder, b"\xff%d.png" % i), "wb") as file:  # noqa: PTH118, PTH123
                file.write(done)
    data = open_data(tmp_path / "set", cache_dir=tmp_path / "cache")
    assert data.labels == ("caf\\xe9", "th\\xe9") and len(data.records) == 18
    assert said(data, "written out", "caf\\xe9, th\\xe9")
    assert data.split("train", 8, 8, 1).inputs.shape == (14, 8, 8, 1)
    json.dumps(describe(data)).encode()
    assert all(record.name.isascii() and "\\xff" in record.name for record in data.records)
    again = open_data(tmp_path / "set", cache_dir=tmp_path / "cache")
    assert again.fingerprint == data.fingerprint


def test_control_characters_never_leave_the_names(tmp_path: Path) -> None:
    data = open_data(make_folder(tmp_path / "set", {"a\x1b[31mred": 8, "b\nc": 8, "d\u202ee": 8}))
    assert data.labels == ("a\\x1b[31mred", "b\\nc", "d\\u202ee")
    assert all(record.name.isprintable() for record in data.records) and all(note.isprintable() for note in data.notes)


def test_two_hundred_small_classes_are_one_line(tmp_path: Path) -> None:
    found = describe(open_data(make_folder(tmp_path / "set", {f"c{i:03d}": 3 for i in range(200)})))
    lines = [line for line in found["warnings"] if "luck" in line]
    assert lines == [
        "200 of 200 classes have fewer than 50 training images (the fewest: c000: 1, c001: 1, c002: 1, c003: 1, c004: 1 ...): "
        "accuracy on them will be luck"
    ]
    one = describe(
        open_data(make_folder(tmp_path / "one", {"train/a": 60, "train/b": 2, "val/a": 2, "val/b": 2, "test/a": 1, "test/b": 1}))
    )
    assert "class b has 2 training images: accuracy on it will be luck" in one["warnings"]


def test_a_class_that_the_test_lacks_is_said(tmp_path: Path) -> None:
    data = open_data(make_folder(tmp_path / "set", {"train/a": 9, "train/b": 9, "train/c": 1, "test/a": 9}))
    assert data.counts("test") == {"a": 9, "b": 0, "c": 0} and said(data, "test: no image of class b, c")


def test_too_many_classes_are_refused_before_an_image_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinynas.data.folder.MAX_CLASSES", 3)
    monkeypatch.setattr("tinynas.data.folder.read_file", lambda path, most: pytest.fail(f"read {path}"))
    refused(make_folder(tmp_path / "set", dict.fromkeys("abcd", 1)), "4 classes", "at most 3 are supported")


# file names --------------------------------------------------------------------------------------------


def named(root: Path, files: list[str], start: int = 0) -> Path:
    for i, file in enumerate(files):
        write_image(root / file, start + i, height=8, width=8)
    return root


def test_cats_and_dogs_by_file_name(tmp_path: Path) -> None:
    files = [f"train/{c}.{i}.jpg" for c in ("cat", "dog") for i in range(10)] + [f"test1/{i}.jpg" for i in range(4)]
    data = open_data(named(tmp_path / "set", files))
    assert data.labels == ("cat", "dog") and data.counts("train") == {"cat": 6, "dog": 6} and len(data.records) == 20
    assert said(data, "labels from the file names (cat.0.jpg is of cat)", "data.label_pattern")
    assert said(data, "4 images have no label")


def test_pets_by_file_name(tmp_path: Path) -> None:
    files = [f"images/{c}_{i}.jpg" for c in ("american_bulldog", "Abyssinian", "pug") for i in range(8)]
    root = named(tmp_path / "set", [*files, "annotations/trimaps/pug_1.png"])
    (root / "annotations" / "list.txt").write_text("#Image CLASS-ID SPECIES BREED ID\npug_1 1 1 1\npug_2 1 1 1\n")
    data = open_data(root)
    assert data.labels == ("Abyssinian", "american_bulldog", "pug") and len(data.records) == 24


@pytest.mark.parametrize(
    "files",
    [
        [f"IMG_{i}.jpg" if i % 2 else f"DSC_{i}.jpg" for i in range(20)],  # two cameras are no classes
        [f"{i:04d}.jpg" for i in range(20)],
        [f"cat.{i}.jpg" for i in range(20)],  # one class
        [f"cat.{i}.jpg" if i % 2 else f"x{i}y.jpg" for i in range(20)],  # half of them
        [f"{chr(97 + i)}_{i}.jpg" for i in range(20)],  # each its own
        [f"{chr(97 + i // 2)}_{i}.jpg" for i in range(20)],  # two of each
        [f"{'dog' if i == 7 else 'cat'}_{i}.jpg" for i in range(20)],  # one stray
    ],
)
def test_file_names_that_say_no_class(tmp_path: Path, files: list[str]) -> None:
    refused(named(tmp_path / "set", files), "holds 20 images but no class folders", "labels.csv", "data.label_pattern", "/person/")


@pytest.mark.parametrize(
    ("form", "expression", "label"),
    [
        ("{digit}_speaker_{i:03d}.jpg", "^([^_]+)_", "0"),  # its speakers would be the letters
        ("{digit}.{i:03d}.take.jpg", r"^([^.]+)\.", "0"),
        ("IMG{i:03d}.jpg", "([a-z]+)", "jpg"),
    ],
)
def test_the_expression_that_is_suggested_reads_a_part_of_the_names_at_hand(tmp_path: Path, form: str, expression: str, label: str) -> None:
    files = [form.format(i=i, digit=i % 10) for i in range(60)]
    refused(named(tmp_path / "set", files), f"label_pattern={expression}'", f"({files[0]} is then of {label};")
    if "{digit}" in form:
        assert open_data(tmp_path / "set", options=DataOptions(label_pattern=expression)).labels == tuple("0123456789")


def test_an_expression_reads_the_class(tmp_path: Path) -> None:
    root = named(tmp_path / "set", [f"all/{i:02d}-{'left' if i % 2 else 'right'}.jpg" for i in range(20)] + ["all/x.jpg"])
    data = open_data(root, options=DataOptions(label_pattern=r"-([a-z]+)\.jpg$"))
    assert data.labels == ("left", "right") and len(data.records) == 20 and said(data, "1 image has no label and is left out")
    refused(root, "matches none of the names", "all/00-right.jpg", options=DataOptions(label_pattern="(zebra)"))
    for bad in ("(", "no_part"):
        with pytest.raises(ValueError, match="label_pattern"):
            DataOptions(label_pattern=bad)


def test_splits_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    refused(make_folder(tmp_path / "set", {"train": 9, "test": 9}), "18 images in train/, test/", "nothing says what they show")


# what is not read --------------------------------------------------------------------------------------


def test_photos_of_phones_are_named_and_counted(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"cat": 0, "dog": 0})
    for i in range(5):
        (root / "cat" / f"IMG_{i}.HEIC").write_bytes(b"x")
        (root / "dog" / f"IMG_{i}.HEIC").write_bytes(b"x")
    refused(root, "10 files .HEIC", "not read", "convert", "JPEG")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.tga", "b.tga"], ("2 files .tga are", "PNG")),
        (["a.CR2", "b.nef", "c.nef"], ("3 files .nef (2), .CR2 (1) are", "raw photos", "develop")),
        (["a.mp4"], ("1 file .mp4 is", "videos", "ffmpeg")),
        (["a.pdf"], ("1 file .pdf is", "documents", "pdfimages")),
        (["a.zip"], ("1 file .zip is", "unpack")),
        (["train-images-idx3-ubyte"], ("1 file train-images-idx3-ubyte is", "PNG")),
        (["data_batch_1"], ("1 file data_batch_1 is", "PNG")),
        (["a.svg"], ("drawings",)),
        (["a.dcm"], ("medical",)),
    ],
)
def test_formats_by_name(files: list[str], words: tuple[str, ...]) -> None:
    ((what, remedy),) = describe_files([*files, "notes.txt", "x.unknown"])
    for word in words:
        assert word in f"{what} {remedy}"


def test_one_class_of_another_format_is_a_fault_and_the_rest_is_shown(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"cat": 9, "dog": 9, "bird": 0, "fish": 0})
    (root / "bird" / "1.heic").write_bytes(b"x")
    (root / "cat" / "2.tga").write_bytes(b"x")
    error = refused(root, "2 faults", "class folder bird: 1 file .heic", "no images in class folder fish", "magick")
    assert isinstance(error, UnusableData) and error.data.labels == ("cat", "dog") and len(error.faults) == 2
    assert any("1 file .tga is" in note for note in error.data.notes) and describe(error.data)["images"] == 18


def test_images_without_an_ending_are_recognised(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 5, "b": 5})
    for path in list((root / "a").iterdir()):
        path.rename(path.with_suffix(""))
    refused(root, "class folder a: 5 files not named as images, such as a/000, begin as PNG does", "*.png")


def test_system_files_are_nothing(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 8, "b": 8, "__MACOSX/a": 2, ".git/x": 2, "a/@eaDir": 1})
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._000.png"):
        (root / "a" / name).write_bytes(b"x")
    data = open_data(root)
    assert len(data.records) == 16 and not data.bad and not any("ignored" in note for note in data.notes)


def test_a_folder_of_texts_is_no_class(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 8, "b": 8, "docs": 0})
    (root / "docs" / "readme.txt").write_text("x")
    data = open_data(root)
    assert data.labels == ("a", "b") and said(data, "no images, and so no class: docs")


BOX = "0 0.5 0.5 0.25 0.25\n"


@pytest.mark.parametrize("texts", [{"train/labels/000.txt": BOX}, {"data.yaml": "train: train/images\nnames: [cat, dog]\n"}])
def test_yolo_is_recognised(tmp_path: Path, texts: dict[str, str]) -> None:
    root = make_folder(tmp_path / "set", {"train/images": 6, "valid/images": 3})
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    refused(root, "YOLO", next(iter(texts)), "9 images", "cut the boxes out")


@pytest.mark.parametrize(
    ("folder", "name", "text", "words"),
    [
        ("images/train", "labels/train/000.txt", BOX, "YOLO"),
        ("train2017", "annotations/instances.json", '{"images": [], "annotations": [], "categories": []}', "COCO"),
        ("train", "train/_annotations.coco.json", '{"images": [], "annotations": [], "categories": []}', "COCO"),
        ("JPEGImages", "Annotations/000.xml", "<annotation><object><name>x</name></object></annotation>", "Pascal VOC"),
        ("images", "images/000.json", '{"shapes": [{"points": []}]}', "labelme"),
        ("images", "via.json", '{"a": {"regions": [{"shape_attributes": {}}]}}', "VIA"),
    ],
)
def test_boxes_are_recognised(tmp_path: Path, folder: str, name: str, text: str, words: str) -> None:
    root = make_folder(tmp_path / "set", {folder: 6})
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    refused(root, words, name, "cut the boxes out", "prepare vww" if words == "COCO" else "classification")


def test_boxes_beside_class_folders_do_no_harm(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 8, "b": 8})
    (root / "a" / "000.txt").write_text(BOX)
    assert open_data(root).labels == ("a", "b")


@pytest.mark.parametrize(("name", "words"), [("x.zip", "unpack"), ("x.mp4", "ffmpeg"), ("x.h5", "PNG"), ("x.jpg", "sub-folder")])
def test_a_file_says_what_it_is(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    refused(tmp_path / name, "is a file, not a folder", words)


# walking -----------------------------------------------------------------------------------------------


def test_links_that_turn_back_end(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 4, "b": 4})
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "b" / "twin").symlink_to(root / "a")
    assert [(folder.path, folder.total) for folder in walk(root, IMAGES).root.below()] == [("", 12), ("a", 4), ("b", 8), ("b/twin", 4)]


def test_links_that_multiply_are_bounded(tmp_path: Path) -> None:
    for level in range(12):  # 2 ** 12 ways down
        (tmp_path / str(level)).mkdir()
    for level in range(11):
        for side in "xy":
            (tmp_path / str(level) / side).symlink_to(tmp_path / str(level + 1))
    visited = sum(1 for _ in walk(tmp_path, IMAGES).root.below())
    assert visited <= 1 + 12 + 11 * walking.MAX_VISITS


def test_deep_and_large_trees_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MAX_DEPTH", 3)
    root = make_folder(tmp_path / "set", {"a": 4, "b": 4, "a/1/2/3": 2, "a/1/2": 1})
    tree = walk(root, IMAGES)
    assert tree.deep == ["a/1/2/3"] and tree.root.total == 9
    assert said(open_data(root), "too deep", "a/1/2/3")
    monkeypatch.setattr(walking, "MAX_ENTRIES", 8)
    refused(root, "more than 8 files and folders")


def test_folders_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "set", {"a": 8, "b": 8, "a/private": 3, "c": 2})
    listed = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith(("private", "/c")):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr("tinynas.data.walk.os.scandir", scandir)
    error = refused(root, "no images in class folder c", "a/private/ cannot be read: Permission denied", "c/ cannot be read")
    assert isinstance(error, UnusableData)
    assert any("2 folders cannot be read and are missing: a/private, c (Permission denied)" in note for note in error.data.notes)
    monkeypatch.setattr("tinynas.data.walk.os.scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    refused(root, "cannot be read: Permission denied", "permissions")


# the range of pixels -----------------------------------------------------------------------------------


def test_span_by_hand() -> None:
    image = np.full((50, 50, 3), 100, np.uint8)
    assert span_of(image) == 0
    image[10:20, 10:20, 1] = 130
    assert span_of(image) == 30
    image[0, :2] = 255  # two dead pixels of 2,500
    assert span_of(image) == 30
    image[0, :10] = 255
    assert span_of(image) == 155


@pytest.mark.parametrize(("low", "high", "warned"), [(29000, 31000, True), (0, 65535, False), (0, 255, True), (0, 33 * 256, False)])
def test_a_sliver_of_sixteen_bits_is_warned_about(tmp_path: Path, low: int, high: int, warned: bool) -> None:
    for number, label in enumerate(("cold", "hot")):
        (tmp_path / label).mkdir()
        for i in range(6):
            draw = np.random.default_rng((number, i)).permuted(np.linspace(low, high, 576)).reshape(24, 24)
            cv2.imwrite(str(tmp_path / label / f"{i}.png"), draw.astype(np.uint16))
    data = open_data(tmp_path)
    assert any("of the 256 levels" in line and "16-bit" in line for line in describe(data)["warnings"]) == warned
    spans = {record.span for record in data.records}
    assert max(span for span in spans if span is not None) in range((high >> 8) - (low >> 8) - 1, (high >> 8) - (low >> 8) + 1)
    assert SLIVER == 32


def test_some_flat_images_are_counted(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 20, "b": 20})
    cv2.imwrite(str(root / "a" / "black.png"), np.zeros((8, 8), np.uint8))
    assert "1 image of a single colour" in describe(open_data(root))["warnings"]
    for i in range(5):
        cv2.imwrite(str(root / "b" / f"dark{i}.png"), np.arange(64, dtype=np.uint8).reshape(8, 8) // 3 + i)
    assert any(line.startswith("6 of 46 images use at most 33 of the 256 levels") for line in describe(open_data(root))["warnings"])


# data info ---------------------------------------------------------------------------------------------


def test_data_info_lists_all_faults_and_shows_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path / "set", {"train/Cat": 4, "train/cat": 4, "val/cat": 2, "test/bird": 3, "train/fish": 0})
    (root / "train" / "Cat" / "bad.png").write_bytes(b"junk")
    assert run(["data", "info", str(root)]) == 2
    out, err = capsys.readouterr()
    assert "13 images of 3 classes" in out and "left out: 1 image (1 cannot be decoded)" in out and "warning" in out
    assert "next:" not in out
    for fault in ("3 faults", "Cat and cat differ by case only", "no images in class folder fish", "no training image of class bird"):
        assert fault in err
    assert run(["data", "info", str(root), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == 13 and document["splits"]["test"] == {"Cat": 0, "bird": 3, "cat": 0}
    assert len(document["error"]["faults"]) == 3 and all(fault["message"] and fault["hint"] for fault in document["error"]["faults"])


def test_data_info_quotes_the_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "info", str(make_folder(tmp_path / "my set", {"a": 8, "b": 8}))]) == 0
    assert f"--data '{tmp_path}/my set'" in capsys.readouterr().out


def test_one_fault_is_told_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path / "set", {"a": 9})
    assert run(["data", "info", str(root)]) == 2
    out, err = capsys.readouterr()
    assert "9 images of 1 class" in out and err.startswith(f"error: {root}: all images have the one class 'a'")
    assert run(["data", "info", str(root / "a")]) == 2
    out, err = capsys.readouterr()
    assert "0 images of 0 classes" in out and "carved" not in out and "holds 9 images but no class folders" in err
