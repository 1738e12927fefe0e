"""Image folders: one sub-folder for each class, below optional train/, val/ and test/."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tinynas.data.assemble import Source, assemble
from tinynas.data.cache import cache_dir
from tinynas.data.dataset import DataSet
from tinynas.data.images.decode import EXTENSIONS, MAX_BYTES
from tinynas.data.images.signal import image_signal, measure
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import BadInput
from tinynas.data.scan import scan, sort_out
from tinynas.errors import DataError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Folder names that mean a split."""
IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini", "lost+found"})


def open_folder(
    root: Path, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> DataSet:
    """The images below ``root``; a class may hold further sub-folders. Raises DataError."""
    if not root.exists():
        raise DataError(f"{root}: does not exist", 'give an image folder, or use the built-in set "synthetic"')
    if not root.is_dir():
        raise DataError(f"{root}: is a file, not a folder", "give the folder that holds one sub-folder of images for each class")
    top = _folders(root)
    parts: list[tuple[Path, str | None]]
    notes: list[str] = []
    splits = {folder.name: SPLIT_NAMES[folder.name.lower()] for folder in top if folder.name.lower() in SPLIT_NAMES}
    if splits and any(_folders(root / name) for name in splits):
        if len(set(splits.values())) < len(splits):
            raise DataError(f"{root}: {', '.join(sorted(splits))}: two of these mean the same split", "merge or rename one of them")
        parts = [(root / name, split) for name, split in sorted(splits.items())]
        others = sorted(folder.name for folder in top if folder.name not in splits)
        if others:
            notes.append(f"ignored beside {', '.join(sorted(splits))}: {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}")
    else:
        parts = [(root, None)]
    names, labels, split_of, stamps = [], [], [], []
    classes: dict[str, set[str | None]] = {}
    skipped = loose = 0
    for base, split in parts:
        if any(_is_image(entry) for entry in _files(base)):
            loose += sum(_is_image(entry) for entry in _files(base))
        for folder in _folders(base):
            classes.setdefault(folder.name, set())
            for path, is_image, stamp in _walk(folder):
                if not is_image:
                    skipped += 1
                    continue
                classes[folder.name].add(split)
                names.append(path.relative_to(root).as_posix())
                labels.append(folder.name)
                split_of.append(split)
                stamps.append(stamp)
    _check_classes(root, classes, loose)
    if loose:
        notes.append(f"{loose} images beside the class folders have no label and are left out")
    if skipped:
        notes.append(f"{skipped} files that are no images are ignored")
    store = cache or cache_dir()
    index = store / "index" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]}.json.gz"
    seen = scan(names, stamps, lambda i: _read(root / names[i]), measure, index, on_progress, kind="image")
    records, rows, bad = sort_out(names, labels, split_of, seen)
    source = Source(
        str(root),
        image_signal(options),
        records,
        lambda i: _read(root / names[rows[i]]),
        bad=bad,
        notes=notes,
        label_order=sorted(classes),
    )
    return assemble(source, options, seed=seed, cache=store, on_progress=on_progress)


def _check_classes(root: Path, classes: dict[str, set[str | None]], loose: int) -> None:
    example = f"such as {root.name or 'data'}/person/*.jpg and {root.name or 'data'}/no_person/*.jpg"
    if not any(classes.values()):
        if loose:
            raise DataError(f"{root}: holds {loose} images but no class folders, so nothing says what they show", f"sort them, {example}")
        inside = f" (its folders {', '.join(sorted(classes)[:5])} hold none)" if classes else ""
        raise DataError(f"{root}: holds no images{inside}", f"put them into one sub-folder for each class, {example}")
    empty = sorted(name for name, splits in classes.items() if not splits)
    if empty:
        raise DataError(
            f"{root}: no images in class folder{'' if len(empty) == 1 else 's'} {', '.join(empty[:5])}",
            f"add images ({', '.join(sorted(EXTENSIONS)[:6])} ...) or remove the folder",
        )


def _read(path: Path) -> bytes:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BadInput("not a regular file")  # reading a pipe would wait for ever
    if found.st_size > MAX_BYTES:
        raise BadInput(f"larger than {MAX_BYTES // 2**20} MiB")
    return path.read_bytes()


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in IGNORED


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in _entries(root) if entry.is_dir())


def _files(root: Path) -> list[Path]:
    return [entry for entry in _entries(root) if not entry.is_dir()]


def _entries(root: Path) -> list[Path]:
    try:
        return [entry for entry in root.iterdir() if not _hidden(entry.name)]
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror or error}", "check its permissions") from None


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS


def _walk(folder: Path) -> Iterator[tuple[Path, bool, str]]:
    """Files below ``folder`` in a fixed order with their stamp (size and time); links to folders are followed once."""
    entered: set[tuple[int, int]] = set()
    for base, folders, files in os.walk(folder, followlinks=True):
        status = Path(base).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders[:] = []
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in sorted(files):
            if _hidden(name):
                continue
            path = Path(base, name)
            try:
                found = path.stat()
                stamp = f"{found.st_size}:{found.st_mtime_ns}"
            except OSError:
                stamp = "gone"  # a dangling link: counted as bad when it is read
            yield path, _is_image(path), stamp
