"""Fitting images, and the cache they are kept in."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from data_cases import make_folder, picture, write_image

from tinynas import files
from tinynas.data import DataOptions, open_data
from tinynas.data import cache as cache_module
from tinynas.data.cache import mapped
from tinynas.data.images import decode, resize
from tinynas.errors import DataError, DiskError, UserError
from tinynas.files import cache_dir, locked


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
    import tinynas.data.folder as folder

    monkeypatch.setattr(folder, "read_file", lambda path, most: pytest.fail(f"read {path}"))
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


def bands(height: int, width: int) -> np.ndarray:
    """Red from top to bottom and green from left to right, in steps of 4; blue is full."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * rows, 4 * columns, np.full_like(rows, 255)], -1).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(44, 24), (24, 44)])
def test_fit_to_portrait_and_landscape_by_hand(height: int, width: int) -> None:
    image = bands(height, width)
    # Of its own shape nothing is lost, whatever the fit.
    for fit in ("crop", "squash", "pad"):
        assert np.array_equal(resize(image, height, width, 3, fit), image)  # type: ignore[arg-type]
    # A square crop of 24 is the middle: rows (or columns) 10 to 33.
    cropped = resize(image, 24, 24, 3, "crop")
    assert np.array_equal(cropped, image[10:34] if height > width else image[:, 10:34])
    # Half of each side: means of 2 x 2 pixels.
    means = image.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    for fit in ("crop", "squash", "pad"):
        assert np.abs(resize(image, height // 2, width // 2, 3, fit) - means).max() <= 0.5  # type: ignore[arg-type]
    # Squashed to the other way round: both ends are still there.
    squashed = resize(image, width, height, 3, "squash").astype(int)
    assert squashed.shape == (width, height, 3)
    assert squashed[0, 0, 0] < 8 and squashed[-1, 0, 0] > 4 * height - 12 and squashed[0, 0, 1] < 8 and squashed[0, -1, 1] > 4 * width - 12
    # Padded to a square of 44: the whole image, 10 rows (or columns) of mid gray on each side.
    padded = resize(image, 44, 44, 3, "pad")
    inside = padded[:, 10:34] if height > width else padded[10:34]
    assert np.array_equal(inside, image) and (np.delete(padded, np.s_[10:34], 1 if height > width else 0) == 128).all()
    # Half as high only: the ratio is kept, so pads appear on the other sides.
    low = resize(bands(40, 20), 20, 20, 3, "pad")
    assert (low[:, :5] == 128).all() and (low[:, 15:] == 128).all() and (low[:, 5:15, 2] == 255).all()


def test_a_portrait_set_is_read_portrait(tmp_path: Path) -> None:
    for label in "ab":
        for i in range(12):
            write_image(tmp_path / "set" / label / f"{i}.png", i + 50 * (label == "b"), height=44, width=24)
    data = open_data(tmp_path / "set", cache_dir=tmp_path / "cache", options=DataOptions(fit="squash"))
    assert {record.size for record in data.records} == {(44, 24)} and data.native_size == (44, 24)
    split = data.split("train", 32, 20, 1)
    assert split.inputs.shape == (len(split), 32, 20, 1)
    row = decode((tmp_path / "set" / split.names[3]).read_bytes())
    assert np.array_equal(split.inputs[3], resize(row, 32, 20, 1, "squash"))
    assert [path.name[:26] for path in (tmp_path / "cache" / "inputs").rglob("*.npy")] == ["train-32x20x1-image-squash"]
    other = open_data(tmp_path / "set", cache_dir=tmp_path / "cache", options=DataOptions(fit="pad"))
    assert not np.array_equal(other.split("train", 32, 20, 1).inputs, split.inputs)  # another fit is another file


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(44, 24)] * 3, (44, 24)),
        ([(24, 44)] * 2, (24, 44)),
        ([(64, 64), (100, 100), (32, 32)], (64, 64)),
        ([(100, 200), (200, 100)], (100, 100)),  # as many portraits as landscapes
        ([(40, 20), (60, 30), (90, 30)], (60, 30)),  # short sides 20, 30, 30; ratios 2, 2, 3
        ([(10, 30), (40, 20), (50, 25)], (40, 20)),
        ([], (0, 0)),
    ],
)
def test_the_native_size_by_hand(tmp_path: Path, sizes: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    data = open_data(make_folder(tmp_path / "set", {"a": 3, "b": 3}), cache_dir=tmp_path)
    assert replace(data, records=tuple(data.records[0]._replace(size=size) for size in sizes)).native_size == expected


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
    opened = os.open
    monkeypatch.setattr(
        files.os, "open", lambda path, flags, *mode: opened(full, os.O_WRONLY) if flags & os.O_EXCL else opened(path, flags, *mode)
    )
    with pytest.raises(DiskError, match="No space left"):
        data.split("train", 8, 8, 3)
    assert not list((tmp_path / "cache" / "inputs").rglob("*.npy"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions stop")
def test_a_cache_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    locked_folder = tmp_path / "cache"
    locked_folder.mkdir(mode=0o500)
    with pytest.raises(DiskError, match="cannot be written"):
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
        "import os, signal; from pathlib import Path; from tinynas.files import locked\n"
        f"with locked(Path({str(tmp_path / 'l')!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parent.parent)
    assert done.returncode == -9
    with locked(tmp_path / "l", wait=False), pytest.raises(UserError, match="another process"), locked(tmp_path / "l", wait=False):
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
