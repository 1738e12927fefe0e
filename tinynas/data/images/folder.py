"""Images in folders: the tree is walked, read as classes and splits, labelled, and each image looked at once."""

from __future__ import annotations

import hashlib
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tinynas.data.assemble import Source, assemble
from tinynas.data.cache import cache_dir
from tinynas.data.dataset import DataSet
from tinynas.data.images.decode import EXTENSIONS, MAX_BYTES
from tinynas.data.images.foreign import describe_files, ending, kind_of, looks_like, other_files
from tinynas.data.images.labelling import label_images
from tinynas.data.images.layout import Found, Reading, few, may_be_class, read_layout, shown
from tinynas.data.images.signal import image_signal, measure
from tinynas.data.images.table import ENDINGS
from tinynas.data.images.walk import Folder, Tree, walk
from tinynas.data.labels import MAX_CLASSES, unify
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import BadInput, plural
from tinynas.data.scan import scan, sort_out
from tinynas.errors import DataError, printable


def open_folder(
    root: Path, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> DataSet:
    """The images below ``root``, or those that a table of labels names. Raises DataError: all that is wrong with them at once."""
    name = printable(root)
    base, given, tree = _place(root, name)
    reading = read_layout(
        name if given is None else printable(base), tree, {str(split): folder for split, folder in options.splits.items()}
    )
    label_images(printable(base), base, tree.root, reading, options, given)
    labelled = [found for found in reading.images if found.label is not None]
    _check_classes(name, base, tree, reading, labelled)
    _say_left_out(tree, reading)
    paths = [found.path for found in labelled]
    splits = [found.split for found in labelled]
    called = unify(name, [str(found.label) for found in labelled], splits, options, reading.notes, reading.faults, "image")
    labels = [called[str(found.label)] for found in labelled]
    store = cache or cache_dir()
    index = store / "index" / f"{hashlib.sha256(str(base.resolve()).encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.json.gz"
    names = _names(paths)
    seen = scan(names, [found.stamp for found in labelled], lambda i: _read(base / paths[i]), measure, index, on_progress, kind="image")
    records, rows, bad = sort_out(names, labels, splits, seen)
    source = Source(
        name,
        image_signal(options),
        records,
        lambda i: _read(base / paths[rows[i]]),
        bad=bad,
        notes=reading.notes,
        faults=reading.faults,
        label_order=sorted({*labels}) if reading.classes else None,
    )
    return assemble(source, options, seed=seed, cache=store, on_progress=on_progress)


def _place(root: Path, name: str) -> tuple[Path, str | None, Tree]:
    """The folder of the images, the table in it that was given (None where a folder was), and all that lies in the folder."""
    try:
        status = root.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{name}: does not exist", 'give an image folder, or use the built-in set "synthetic"') from None
        raise DataError(f"{name}: cannot be read: {error.strerror or error}", "check its permissions") from None
    if stat.S_ISDIR(status.st_mode):
        return root, None, walk(root)
    kind = kind_of(root.name)
    if not stat.S_ISREG(status.st_mode) or ending(root.name) not in ENDINGS:
        what = f" ({kind.what} are not read)" if kind is not None else ""
        remedy = f"{kind.remedy}; then give" if kind is not None else "give"
        raise DataError(
            f"{name}: is a file, not a folder{what}",
            f"{remedy} the folder that holds one sub-folder of images for each class, or a table of labels (CSV)",
        )
    base = root.parent
    tree = walk(base)
    outer = base.resolve().parent
    if tree.root.total or outer in (Path.home(), Path(outer.anchor)):
        return base, root.name, tree
    return outer, f"{base.resolve().name}/{root.name}", walk(outer)  # annotations/labels.csv beside images/


# what is left out -------------------------------------------------------------------------------------


def _check_classes(name: str, base: Path, tree: Tree, reading: Reading, labelled: Sequence[Found]) -> None:
    """Add a fault for what holds no images; raises DataError where looking on would tell nothing."""
    count = len({found.label for found in labelled})
    if count > MAX_CLASSES:
        raise DataError(f"{name}: {count:,} classes", f"at most {MAX_CLASSES:,} are supported: is each image its own class?")
    unreadable = "".join(f"; {shown(path)}/ cannot be read: {reason}" for path, reason in tree.unreadable[:3])
    if not reading.images:
        inside = f" (its folders {few([shown(label) for label in sorted(reading.classes)])} hold none)" if reading.classes else ""
        told = _unread(base, [tree.root])
        if told:
            what, remedy = "; ".join(what for what, _ in told), "; ".join(remedy for _, remedy in told)
            raise DataError(f"{name}: holds no images that are read: {what}{unreadable}", remedy)
        example = f"such as {tree.root.name or 'data'}/person/*.jpg and {tree.root.name or 'data'}/no_person/*.jpg"
        remedy = "check the permissions" if tree.unreadable else f"put them into one sub-folder for each class, {example}"
        raise DataError(f"{name}: holds no images{inside}{unreadable}", remedy)
    empty = {label: folders for label, folders in sorted(reading.classes.items()) if not any(folder.total for folder in folders)}
    told = _unread(base, [folder for folders in empty.values() for folder in folders])
    bare = [label for label, folders in empty.items() if not _unread(base, folders)]
    other = [label for label in empty if label not in bare]
    if bare:
        reading.faults.append(
            DataError(
                f"{name}: no images in {_class_folders(bare)}{unreadable}",
                f"add images ({', '.join(sorted(EXTENSIONS)[:6])} ...) or remove the folder",
            )
        )
    reading.faults += [DataError(f"{name}: no images that are read in {_class_folders(other)}: {what}", remedy) for what, remedy in told]


def _class_folders(labels: Sequence[str]) -> str:
    return f"class folder{'' if len(labels) == 1 else 's'} {few([shown(label) for label in labels])}"


def _unread(base: Path, folders: Sequence[Folder]) -> list[tuple[str, str]]:
    """What files in folders without images are, with what to do about them."""
    told = describe_files(_files(folders))
    unknown = [inner.inside(file) for folder in folders for inner in folder.below() for file in inner.others if kind_of(file) is None]
    end = looks_like(base, unknown)
    if end is not None:
        told.append(
            (
                f"{plural(len(unknown), 'file')} not named as images, such as {shown(unknown[0])}, begin as {end[1:].upper()} does",
                f"name them *{end}",
            )
        )
    return told


def _files(folders: Sequence[Folder]) -> list[str]:
    return [file for folder in folders for inner in folder.below() for file in inner.others]


def _say_left_out(tree: Tree, reading: Reading) -> None:
    notes = reading.notes
    loose = [found.path for found in reading.images if found.label is None]
    if loose and len(loose) < len(reading.images):
        have = "has no label and is" if len(loose) == 1 else "have no label and are"
        notes.append(f"{plural(len(loose), 'image')} {have} left out, such as {shown(loose[0])}")
    others = [file for folder in tree.root.below() for file in folder.others if folder.inside(file) not in reading.tables]
    notes += [f"{what} -> {remedy}" for what, remedy in describe_files(others)]
    strange = other_files(others)
    if strange:
        ends = printable(", ".join(f"{count:,} {end}" for end, count in strange.most_common(4)))
        are = "is no image is" if strange.total() == 1 else "are no images are"
        notes.append(f"{plural(strange.total(), 'file')} that {are} ignored ({ends})")
    aside = [shown(folder.path) for folder in reading.aside if not folder.total and not may_be_class(folder)]
    if aside:
        notes.append(f"no images, and so no class: {few(aside)}")
    if tree.unreadable:
        _, reason = tree.unreadable[0]
        notes.append(
            f"{plural(len(tree.unreadable), 'folder')} cannot be read and {'is' if len(tree.unreadable) == 1 else 'are'} missing: "
            f"{few([shown(path) for path, _ in tree.unreadable])} ({reason}) -> check permissions"
        )
    if tree.deep:
        notes.append(f"folders too deep to be entered: {few(list(map(shown, tree.deep)))}")


# records ----------------------------------------------------------------------------------------------


def _names(paths: Sequence[str]) -> list[str]:
    """A name for each path that can be shown and written everywhere, no two the same."""
    names, used = [], set[str]()
    for path in paths:
        text = path if path.isascii() and path.isprintable() else printable(unicodedata.normalize("NFC", path))
        while text in used:  # of another Unicode form than the one before
            text += "'"
        used.add(text)
        names.append(text)
    return names


def _read(path: Path) -> bytes:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BadInput("not a regular file")  # reading a pipe would wait for ever
    if found.st_size > MAX_BYTES:
        raise BadInput(f"larger than {MAX_BYTES // 2**20} MiB")
    return path.read_bytes()
