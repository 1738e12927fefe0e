"""Image folders, splits, the cache, the synthetic set, samples as a picture."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tinynas.data import DATASETS, DataOptions, DataSet, Split, SyntheticOptions, batches, open_data
from tinynas.data import cache as cache_module
from tinynas.data.cache import cache_dir, locked, mapped
from tinynas.data.images import decode, resize
from tinynas.data.images.sheet import sample_sheet
from tinynas.data.images.synthetic import label_of, render
from tinynas.data.info import describe
from tinynas.data.noise import confident_disagreement, estimate_noise
from tinynas.data.split import apportion
from tinynas.data.splits import carve
from tinynas.errors import DataError

SMALL = SyntheticOptions(train=64, val=32, test=32, size=32)


def picture(seed: int, height: int = 24, width: int = 24, channels: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)


def write_image(path: Path, seed: int, **shape: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, picture(seed, **shape))
    assert done
    path.write_bytes(data.tobytes())


def make_folder(root: Path, counts: Mapping[str, int], start: int = 0, suffix: str = ".png") -> Path:
    """``counts`` maps sub-folders (class, or split/class) to their number of images, all different."""
    seed = start
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            write_image(root / folder / f"{i:03d}{suffix}", seed)
            seed += 1
    return root


def names(data: DataSet, split: str) -> set[str]:
    return {data.records[int(i)].name for i in data.members[split]}


# folders -----------------------------------------------------------------------------------------------


def test_a_folder_without_splits_is_split_70_15_15_by_class(tmp_path: Path) -> None:
    data = open_data(make_folder(tmp_path / "set", {"no": 40, "yes": 20}))
    assert data.labels == ("no", "yes")
    assert [data.counts(s) for s in ("train", "val", "test")] == [{"no": 28, "yes": 14}, {"no": 6, "yes": 3}, {"no": 6, "yes": 3}]
    assert not names(data, "train") & names(data, "val") and not names(data, "val") & names(data, "test")
    assert any("15 % test, 15 % val" in note for note in data.notes)


def test_train_and_val_alone_make_val_the_test_and_carve_validation(tmp_path: Path) -> None:
    data = open_data(make_folder(tmp_path / "set", {"train/a": 20, "train/b": 20, "val/a": 5, "val/b": 7}))
    assert data.counts("test") == {"a": 5, "b": 7} and all(name.startswith("val/") for name in names(data, "test"))
    assert data.counts("val") == {"a": 3, "b": 3} and all(name.startswith("train/") for name in names(data, "val"))
    assert data.counts("train") == {"a": 17, "b": 17}
    assert any("val/ is the test split" in note for note in data.notes)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev"])
def test_three_given_splits_are_kept(tmp_path: Path, val: str) -> None:
    data = open_data(make_folder(tmp_path / "set", {f"{s}/{c}": 4 for s in ("train", val, "test") for c in "ab"}))
    for split, folder in (("train", "train"), ("val", val), ("test", "test")):
        assert data.counts(split) == {"a": 4, "b": 4} and all(name.startswith(f"{folder}/") for name in names(data, split))


def test_train_and_test_carve_validation_only(tmp_path: Path) -> None:
    data = open_data(make_folder(tmp_path / "set", {"train/a": 20, "train/b": 20, "test/a": 5, "test/b": 5}))
    assert data.counts("val") == {"a": 3, "b": 3} and data.counts("test") == {"a": 5, "b": 5}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert open_data(make_folder(tmp_path / "set", {"train": 10, "car": 10})).labels == ("car", "train")


def test_nested_hidden_foreign_and_linked_files(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a/deep/er": 6, "a": 3, "b": 8})
    (root / "b" / "notes.txt").write_text("no image")
    (root / "b" / ".hidden.png").write_bytes(b"junk")
    (root / "__MACOSX" / "b").mkdir(parents=True)
    (root / "a" / "loop").symlink_to(root / "a")
    (root / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(root / "b" / "pipe.png")
    data = open_data(root)
    assert len(data.records) == 17
    assert [(b.name, b.reason) for b in data.bad] == [
        ("b/gone.png", "cannot be read: No such file or directory"),
        ("b/pipe.png", "not a regular file"),
    ]
    assert any("1 files that are no images" in note for note in data.notes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "nowhere", ["does not exist", "synthetic"]),
        (lambda p: make_folder(p / "s", {}) if (p / "s").mkdir() is None else p, ["no images", "person"]),
        (lambda p: make_folder(p / "s", {"a": 3}), ["one class", "'a'"]),
        (lambda p: make_folder(p / "s", {"a": 3, "b": 0, "c": 0}), ["b, c"]),
        (lambda p: make_folder(p / "s", {".": 4}), ["4 images but no class folders"]),
        (lambda p: make_folder(p / "s", {"val/a": 3, "test/a": 3, "val/b": 1, "test/b": 1}), ["train"]),
        (lambda p: make_folder(p / "s", {"train/a": 3, "train/b": 3, "test/c": 3}), ["training image", "c"]),
        (lambda p: make_folder(p / "s", {"train/a": 3, "training/a": 3}), ["same split"]),
        (lambda p: make_folder(p / "s", {"a": 1, "b": 1}), ["empty"]),
    ],
)
def test_folders_that_cannot_be_used_say_what_to_do(tmp_path: Path, make: Callable[[Path], Path], words: list[str]) -> None:
    root = make(tmp_path)
    with pytest.raises(DataError) as caught:
        open_data(root)
    assert caught.value.hint
    for word in words:
        assert word in str(caught.value)


def test_a_file_or_an_unknown_name_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        open_data(tmp_path / "file")
    with pytest.raises(DataError, match='did you mean "synthetic"'):
        open_data("synthetc")
    with pytest.raises(DataError, match="no data"):
        open_data("")


@pytest.mark.parametrize("classes", [2, 30, 1000])
def test_two_to_a_thousand_unbalanced_classes(tmp_path: Path, classes: int) -> None:
    root = tmp_path / "set"
    for k in range(classes):
        (root / f"class{k:04d}").mkdir(parents=True)
        for i in range(1 + (k % 5) * 2 if classes > 2 else 3 + 9 * k):
            (root / f"class{k:04d}" / f"{i}.bmp").write_bytes(bmp(k, i))
    data = open_data(root)
    assert len(data.labels) == classes
    train = data.counts("train")
    assert min(train.values()) >= 1
    assert len(data.members["train"]) + len(data.members["val"]) + len(data.members["test"]) == len(data.records)


def bmp(a: int, b: int) -> bytes:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 0] = (a % 256, a // 256, b)
    return bytes(cv2.imencode(".bmp", pixels)[1].tobytes())


def test_labels_map_merge_select_and_binary(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"man": 12, "woman": 12, "dog": 12, "cat": 12})
    merged = open_data(root, options=DataOptions(label_map={"man": "person", "woman": "person"}))
    assert merged.labels == ("cat", "dog", "person") and sum(merged.counts("train").values()) == 4 * 12 - 2 * sum(
        merged.counts("val").values()
    )
    chosen = open_data(root, options=DataOptions(labels=("dog", "cat")))
    assert chosen.labels == ("dog", "cat") and len(chosen.records) == 24
    assert any("24 images of other classes left out" in note for note in chosen.notes)
    binary = open_data(root, options=DataOptions(binary={"person": ("man", "woman")}))
    assert binary.labels == ("no_person", "person") and set(binary.counts("train").values()) == {16}
    assert len({d.fingerprint for d in (merged, chosen, binary, open_data(root))}) == 4
    for options, near in ((DataOptions(labels=("dgo", "cat")), '"dog"'), (DataOptions(binary={"x": ("mann",)}), '"man"')):
        with pytest.raises(DataError, match="did you mean " + near):
            open_data(root, options=options)


def test_options_refuse_nonsense() -> None:
    for bad in (
        {"groups": "("},
        {"labels": ("a", "a")},
        {"binary": {}},
        {"binary": {"a": ("b",)}, "labels": ("a", "b")},
        {"val_share": 0.9},
    ):
        with pytest.raises(ValidationError):
            DataOptions.model_validate(bad)


# groups, duplicates, leaks -----------------------------------------------------------------------------


def test_groups_stay_together(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for label in ("no", "yes"):
        for i in range(60):
            write_image(root / label / f"crop{i // 3:03d}{'abc'[i % 3]}.png", hash((label, i)) % 2**31)
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


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=120), st.integers(0, 5))
def test_carving_is_a_partition_that_keeps_groups(images: list[tuple[int, int]], seed: int) -> None:
    labels = np.array([label for label, _ in images])
    groups = [str(group) for _, group in images]
    splits = carve(labels, groups, {"test": 0.2, "val": 0.2}, seed)
    for group in set(groups):
        assert len({splits[i] for i, g in enumerate(groups) if g == group}) == 1
    for label in set(labels):  # every class can be trained on
        assert "train" in {splits[i] for i in np.flatnonzero(labels == label)}
    order = np.random.default_rng(seed).permutation(len(images))
    again = carve(labels[order], [groups[i] for i in order], {"test": 0.2, "val": 0.2}, seed)
    assert list(again) == [splits[i] for i in order]


def test_adding_images_moves_few_others() -> None:
    def split(n: int) -> dict[str, str]:
        found = carve(np.zeros(n, np.int64), [f"image{i}" for i in range(n)], {"test": 0.15, "val": 0.15}, 0)
        return {f"image{i}": str(found[i]) for i in range(n)}

    before, after = split(1000), split(1050)
    assert sum(before[name] != after[name] for name in before) < 60


# options -----------------------------------------------------------------------------------------------


def test_the_search_seed_does_not_move_the_test_images(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 30, "b": 30})
    first, second = open_data(root, seed=0), open_data(root, seed=1)
    assert names(first, "test") == names(second, "test")
    other = open_data(root, seed=1, options=DataOptions(seed=None))
    assert names(first, "test") != names(other, "test")
    assert names(other, "test") == names(open_data(root, options=DataOptions(seed=1)), "test")


def test_limit_keeps_the_shares(tmp_path: Path) -> None:
    data = open_data(make_folder(tmp_path / "set", {"a": 60, "b": 20}), options=DataOptions(limit=8))
    assert data.counts("train") == {"a": 6, "b": 2}


def test_fingerprint_is_of_content_not_of_place(tmp_path: Path) -> None:
    a = open_data(make_folder(tmp_path / "one", {"a": 10, "b": 10})).fingerprint
    root = make_folder(tmp_path / "two", {"a": 10, "b": 10})
    assert open_data(root).fingerprint == a
    os.utime(root / "a" / "000.png", (1, 1))
    assert open_data(root).fingerprint == a
    write_image(root / "a" / "000.png", 999)
    assert open_data(root).fingerprint != a
    assert len(a) == 64 and int(a, 16) >= 0


# pixels and the cache ----------------------------------------------------------------------------------


def test_a_split_is_mapped_and_its_pixels_are_the_resized_images(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 12, "b": 12})
    data = open_data(root, cache_dir=tmp_path / "cache")
    split = data.split("train", 12, 16, 3)
    assert isinstance(split.inputs, np.memmap) and split.inputs.shape == (len(split), 12, 16, 3)
    for image, label, name in zip(split.inputs, split.labels, split.names, strict=True):
        assert name.split("/")[0] == data.labels[label]
        assert np.array_equal(image, resize(decode((root / name).read_bytes()), 12, 16, 3))
    grey = data.split("train", 12, 16, 1)
    luma = np.rint(np.asarray(split.inputs) @ [0.299, 0.587, 0.114])
    assert np.abs(grey.inputs[..., 0].astype(int) - luma).max() <= 1
    with pytest.raises(ValueError, match="read-only"):
        split.inputs[0] = 0
    for wrong in (("tset", 8, 8, 3), ("test", 0, 8, 3), ("test", 8, 8, 2)):
        with pytest.raises(DataError):
            data.split(*wrong)


def test_the_second_reading_needs_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "set", {"a": 8, "b": 8})
    first = open_data(root, cache_dir=tmp_path / "cache").split("train", 8, 8, 3)
    import tinynas.data.images.folder as folder

    monkeypatch.setattr(folder, "_read", lambda path: pytest.fail(f"read {path}"))
    second = open_data(root, cache_dir=tmp_path / "cache").split("train", 8, 8, 3)
    assert np.array_equal(first.inputs, second.inputs) and first.names == second.names


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_fit(fit: str) -> None:
    image = np.full((20, 40, 3), 200, np.uint8)
    image[:, :10] = image[:, 30:] = 0  # the sides are black
    made = resize(image, 10, 10, 3, fit)  # type: ignore[arg-type]
    if fit == "crop":
        assert (made == 200).all()
    elif fit == "squash":
        assert (made[:, 0] == 0).all() and (made[:, 4:6] == 200).all()
    else:
        assert (made[0] == 128).all() and (made[5, 0] == 0).all() and (made[5, 5] == 200).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 50), (50, 3), (7, 7)])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_extreme_shapes_resize(height: int, width: int, fit: str) -> None:
    for shape in ((4, 100), (100, 4), (5, 5)):
        assert resize(picture(0, *shape), height, width, 1, fit).shape == (height, width, 1)  # type: ignore[arg-type]


def test_a_cut_off_cache_file_is_made_again(tmp_path: Path) -> None:
    path, made = tmp_path / "a.npy", []

    def make() -> list[np.ndarray]:
        made.append(1)
        return [np.arange(12, dtype=np.uint8).reshape(4, 3)]

    assert mapped(path, (4, 3), make)[3, 2] == 11
    assert mapped(path, (4, 3), make)[3, 2] == 11 and len(made) == 1
    path.write_bytes(path.read_bytes()[:-5])
    assert mapped(path, (4, 3), make)[3, 2] == 11 and len(made) == 2
    with pytest.raises(DataError, match="changed while"):
        mapped(tmp_path / "b.npy", (5, 3), make)
    assert not list(tmp_path.glob("b.npy")) and not list(tmp_path.glob(".b*"))


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(make_folder(tmp_path / "set", {"a": 8, "b": 8}), cache_dir=tmp_path / "cache")
    monkeypatch.setattr(cache_module, "SPARE_BYTES", 10**18)
    with pytest.raises(DataError, match=r"are needed and .* are free") as caught:
        data.split("train", 8, 8, 3)
    assert "TINYNAS_CACHE" in str(caught.value)
    monkeypatch.undo()
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    monkeypatch.setattr(cache_module.tempfile, "mkstemp", lambda **_: (os.open(full, os.O_WRONLY), str(tmp_path / "gone")))
    with pytest.raises(DataError, match="disk is full"):
        data.split("train", 8, 8, 3)
    assert not list((tmp_path / "cache" / "inputs").rglob("*.npy"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions stop")
def test_a_cache_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    locked_folder = tmp_path / "cache"
    locked_folder.mkdir(mode=0o500)
    with pytest.raises(DataError, match="cannot be written"):
        open_data(make_folder(tmp_path / "set", {"a": 8, "b": 8}), cache_dir=locked_folder).split("train", 8, 8, 3)


def _open_and_hash(arguments: tuple[str, str]) -> str:
    data = open_data(arguments[0], cache_dir=Path(arguments[1]))
    split = data.split("train", 10, 10, 3)
    return hashlib.sha256(split.inputs.tobytes() + "".join(split.names).encode()).hexdigest()


def test_several_processes_may_ask_at_once(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 40, "b": 40})
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        found = set(pool.map(_open_and_hash, [(str(root), str(tmp_path / "cache"))] * 8))
    assert len(found) == 1
    assert not [p for p in (tmp_path / "cache").rglob(".*") if p.is_file()]


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    script = (
        "import os, signal; from pathlib import Path; from tinynas.data.cache import locked\n"
        f"with locked(Path({str(tmp_path / 'l')!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parent.parent)
    assert done.returncode == -9
    with locked(tmp_path / "l", wait=False), pytest.raises(DataError, match="another process"), locked(tmp_path / "l", wait=False):
        pass


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYNAS_CACHE", "~/x")
    assert cache_dir() == Path.home() / "x"
    monkeypatch.delenv("TINYNAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/tinynas")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "tinynas"


def test_images_that_vanish_are_one_clear_error(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"a": 8, "b": 8})
    data = open_data(root, cache_dir=tmp_path / "cache")
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="cannot now"):
        data.split("train", 8, 8, 3)


# splits and batches ------------------------------------------------------------------------------------


def toy(n: int = 90) -> Split:
    labels = np.arange(n) % 3 // 2
    return Split(np.arange(n * 12, dtype=np.uint32).astype(np.uint8).reshape(n, 2, 2, 3), labels, tuple(map(str, range(n))))


def test_subset_is_stratified_seeded_and_nested() -> None:
    split = toy()
    small, large = split.subset(15, 3), split.subset(30, 3)
    assert np.bincount(small.labels).tolist() == [10, 5] and np.bincount(large.labels).tolist() == [20, 10]
    assert set(small.names) < set(large.names)
    assert small.names == split.subset(15, 3).names != split.subset(15, 4).names
    assert split.subset(0, 3) is split and split.subset(500, 3) is split
    assert np.array_equal(small.inputs[0], split.inputs[int(small.names[0])])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(lambda c: sum(c) > 0), st.data())
def test_apportion_is_exact_and_fair(counts: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, sum(counts)))
    quotas = apportion(np.array(counts), n)
    assert all(0 <= q <= c for q, c in zip(quotas, counts, strict=True))
    nonempty = sum(c > 0 for c in counts)
    assert sum(quotas) == max(n, nonempty) if n < nonempty else sum(quotas) == n
    assert all(q >= 1 for q, c in zip(quotas, counts, strict=True) if c)


def test_batches_cover_all_once_and_follow_from_seed_and_epoch() -> None:
    split = toy(50)
    seen = [(images, labels) for images, labels in batches(split, 16, seed=1, epoch=2)]
    assert [len(labels) for _, labels in seen] == [16, 16, 16, 2]
    everything = np.concatenate([images.reshape(len(images), -1) for images, _ in seen])
    assert np.array_equal(np.sort(everything, 0), np.sort(split.inputs.reshape(50, -1), 0))
    again = list(batches(split, 16, seed=1, epoch=2))
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(seen, again, strict=True))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(seen, batches(split, 16, seed=1, epoch=3), strict=True))
    plain = np.concatenate([labels for _, labels in batches(split, 7, seed=1, epoch=0, shuffle=False)])
    assert np.array_equal(plain, split.labels)
    with pytest.raises(DataError):
        next(batches(split, 0, seed=0, epoch=0))
    with pytest.raises(DataError):
        Split(split.inputs, split.labels[:3], split.names)


# the synthetic set -------------------------------------------------------------------------------------


def test_synthetic_is_balanced_seeded_and_sized() -> None:
    data = open_data("synthetic", options=DataOptions(synthetic=SMALL))
    assert data.labels == ("no_person", "person") and data.counts("train") == {"no_person": 32, "person": 32}
    split = data.split("train", 32, 32, 3)
    assert split.inputs.shape == (64, 32, 32, 3) and data.native_size == (32, 32)
    assert np.array_equal(split.inputs[5], render(0, "train", 5, SMALL)) and split.labels[5] == label_of(5)
    assert len({image.tobytes() for s in ("train", "val", "test") for image in data.split(s, 32, 32, 3).inputs}) == 128
    other = open_data("synthetic", options=DataOptions(seed=1, synthetic=SMALL))
    assert other.fingerprint != data.fingerprint and not np.array_equal(other.split("train", 32, 32, 3).inputs, split.inputs)
    assert open_data("synthetic", seed=7, options=DataOptions(synthetic=SMALL)).fingerprint == data.fingerprint


def test_synthetic_label_noise_is_in_training_only() -> None:
    noisy = open_data("synthetic", options=DataOptions(synthetic=SMALL.model_copy(update={"label_noise": 0.25})))
    for split in ("train", "val", "test"):
        wrong = (noisy.split(split, 16, 16, 3).labels != np.array([label_of(i) for i in range(len(noisy.members[split]))])).mean()
        assert 0.1 < wrong < 0.4 if split == "train" else wrong == 0


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_synthetic_pictures_differ_and_use_the_range(difficulty: float) -> None:
    settings_ = SyntheticOptions(size=48, difficulty=difficulty)
    pictures = np.stack([render(0, "train", i, settings_) for i in range(40)])
    assert pictures.std() > 25 and len({p.tobytes() for p in pictures}) == 40
    # The mean colour of the two classes is about the same: colour alone must not give the label away.
    means = [pictures[label::2].mean((1, 2)) for label in (0, 1)]
    assert abs(means[0].mean() - means[1].mean()) < 25


# contract of every named data set ----------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_every_named_data_set_opens_or_says_how_to_prepare_it(name: str, tmp_path: Path) -> None:
    assert DATASETS[name].summary
    try:
        data = open_data(name, cache_dir=tmp_path, options=DataOptions(synthetic=SMALL))
    except DataError as error:
        assert f"tinynas data prepare {name.removesuffix('-large')}" in str(error)
        return
    assert len(data.labels) >= 2 and len(data.fingerprint) == 64
    for split in ("train", "val", "test"):
        found = data.split(split, 8, 8, 1)
        assert len(found) > 0 and found.inputs.dtype == np.uint8 and found.labels.dtype == np.int64
        assert set(found.labels) <= set(range(len(data.labels)))


# looking into data -------------------------------------------------------------------------------------


def test_describe_and_sheet(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "set", {"train/a": 30, "train/b": 3, "test/a": 10, "test/b": 10})
    (root / "train" / "a" / "copy.png").write_bytes((root / "test" / "a" / "000.png").read_bytes())
    (root / "train" / "a" / "bad.png").write_bytes(b"junk")
    write_image(root / "train" / "a" / "wide.png", 77, height=10, width=100)
    data = open_data(root)
    found = describe(data)
    assert found["images"] == 55 and found["splits"]["test"] == {"a": 10, "b": 10}
    assert found["bad"] == {"count": 1, "reasons": {"cannot be decoded": 1}, "images": [["train/a/bad.png", "cannot be decoded"]]}
    assert found["sizes"]["short_side"] == {"min": 10, "median": 24, "max": 24} and found["imbalance"] > 5
    assert len(found["leaks"]) == 1 and any("class b has" in warning for warning in found["warnings"])
    sheet = sample_sheet(data, tmp_path / "sheet.png", size=32, columns=4)
    picture_ = cv2.imread(str(sheet))
    assert picture_ is not None and picture_.shape[0] >= 3 * 32 and picture_.std() > 10
    with pytest.raises(DataError, match="PNG"):
        sample_sheet(data, tmp_path / "sheet.pdf")


def test_label_noise_is_found_where_it_was_put() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 900)
    pixels = (rng.normal(0, 30, (900, 2, 2, 1)) + 40 + 80 * truth[:, None, None, None]).clip(0, 255).astype(np.uint8)
    given = truth.copy()
    wrong = rng.choice(900, 90, replace=False)
    given[wrong] = (given[wrong] + 1) % 3
    split = Split(pixels, given, tuple(f"image{i}" for i in range(900)))
    folds: list[set[str]] = []

    def scorer(train: Split, held_out: Split, fold: int) -> np.ndarray:
        folds.append(set(held_out.names))
        assert not set(train.names) & set(held_out.names)
        centres = np.array([train.inputs[train.labels == k].mean() for k in range(3)])
        distance = (held_out.inputs.mean((1, 2, 3))[:, None] - centres[None]) ** 2 / 800
        score = np.exp(-distance)
        return np.asarray(score / score.sum(1, keepdims=True))

    found = estimate_noise(split, ("a", "b", "c"), scorer, folds=3)
    assert len(folds) == 3 and set().union(*folds) == set(split.names) and found.judged == 900
    assert 0.07 < found.share < 0.14 and found.accuracy > 0.8
    truly = {f"image{i}" for i in wrong}
    assert sum(s.name in truly for s in found.suspects[:60]) >= 55
    assert all(a.probability - a.own >= b.probability - b.own - 1e-9 for a, b in zip(found.suspects, found.suspects[1:], strict=False))
    clean = confident_disagreement(np.eye(3)[truth] * 0.9 + 0.03, truth, split.names, ("a", "b", "c"))
    assert clean.share == 0 and clean.suspects == ()
    with pytest.raises(DataError, match="at least 5"):
        estimate_noise(toy(6), ("a", "b"), scorer, folds=5)


# real images -------------------------------------------------------------------------------------------


def test_person64(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "images" / "person64"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    data = open_data(root, cache_dir=tmp_path)
    assert data.labels == ("no_person", "person") and not data.bad and data.native_size == (64, 64)
    assert data.counts("test") == {"no_person": 460, "person": 500}
    assert data.counts("val") == {"no_person": 552, "person": 600}
    assert data.split("test", 48, 48, 3).inputs.shape == (960, 48, 48, 3)


def test_inria_mirror_images_stay_with_their_originals(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "images" / "inria_64x128"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    pattern = r"(\D*\d+)[a-z]?(?:_\d+)?\.jpg$"
    data = open_data(root, cache_dir=tmp_path, options=DataOptions(groups=pattern, limit=600))
    full = open_data(root, cache_dir=tmp_path, options=DataOptions(groups=pattern))
    where: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        for name in names(full, split):
            match = re.search(pattern, name)
            assert match is not None
            where.setdefault(match[1], set()).add(split)
    assert all(len(splits) == 1 for splits in where.values())
    assert abs(full.counts("test")["person"] - 0.15 * 2416) < 20 and abs(full.counts("test")["no_person"] - 0.15 * 4872) < 20
    assert data.split("test", 32, 32, 1).inputs.shape == (600, 32, 32, 1)
