"""Files of a kind in folders: the tree is walked, read as classes and splits, and labelled. What images and sounds share."""

from __future__ import annotations

import hashlib
import stat
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinynas.data.foreign import describe_files, ending, kind_of, looks_like, other_files
from tinynas.data.labelling import label_files
from tinynas.data.labels import MAX_CLASSES, joined_labels, parts_of, unify
from tinynas.data.layout import Found, Reading, few, may_be_class, read_layout, shown
from tinynas.data.options import DataOptions
from tinynas.data.records import BadInput, plural
from tinynas.data.table import ENDINGS
from tinynas.data.walk import Folder, Tree, Wanted, walk
from tinynas.errors import DataError, printable


@dataclass(frozen=True)
class Labelled:
    """What folders, tables and file names say."""

    name: str
    """What was opened, for people."""
    base: Path
    """The folder that paths are inside of."""
    reading: Reading
    files: list[Found]
    """Those with a label."""
    labels: list[str]
    """The label of each, as it is called everywhere."""
    names: list[str]
    """A name for each that can be shown and written everywhere, no two the same."""
    several: bool = False
    """Whether a label may be several, as :func:`tinynas.data.labels.joined_labels` has them."""

    @property
    def label_order(self) -> list[str] | None:
        """The numbering of the classes, where folders are classes."""
        return self.order_of(self.labels)

    def order_of(self, labels: Iterable[str]) -> list[str] | None:
        """The numbering of classes of these ``labels``, where folders are classes."""
        if not self.reading.classes:
            return None
        return sorted({part for label in labels for part in parts_of(label)} if self.several else {*labels})

    def index(self, cache: Path) -> Path:
        """Where the scan of these files is remembered."""
        kind = "" if self.reading.wanted.kind == "image" else f"-{self.reading.wanted.kind}"
        digest = hashlib.sha256(str(self.base.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return cache / "index" / f"{digest}{kind}.json.gz"

    def read(self, file: int) -> bytes:
        """The bytes of a file. Raises BadInput where it is none that ends, or too large, and OSError."""
        return read_file(self.base / self.files[file].path, self.reading.wanted.max_bytes)


def read_folder(root: Path, options: DataOptions, wanted: Wanted) -> Labelled:
    """The files below ``root``, or those that a table of labels names, with their labels.

    Faults that leave something to look at are in the reading; raises DataError for others.
    """
    name = printable(root)
    base, given, tree = _place(root, name, wanted)
    reading = read_layout(
        name if given is None else printable(base), tree, {str(split): folder for split, folder in options.splits.items()}
    )
    label_files(printable(base), base, tree.root, reading, options, given)
    labelled = [found for found in reading.files if found.label is not None]
    # One label each is the common case: as it is written; several are parts that are named each by itself.
    parts = [parts_of(str(found.label)) if options.multilabel else [str(found.label)] for found in labelled]
    _check_classes(name, base, tree, reading, {part for some in parts for part in some})
    _say_left_out(tree, reading)
    each = [(part, found.split) for found, some in zip(labelled, parts, strict=True) for part in some]
    called = unify(name, [part for part, _ in each], [split for _, split in each], options, reading.notes, reading.faults, wanted.kind)
    labels = [joined_labels(called[part] for part in some) if options.multilabel else called[some[0]] for some in parts]
    return Labelled(name, base, reading, labelled, labels, _names([found.path for found in labelled]), options.multilabel)


def _place(root: Path, name: str, wanted: Wanted) -> tuple[Path, str | None, Tree]:
    """The folder of the files, the table in it that was given (None where a folder was), and all that lies in the folder."""
    try:
        status = root.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{name}: does not exist", f'give a folder of {wanted.kinds}, or use the built-in set "synthetic"') from None
        raise DataError(f"{name}: cannot be read: {error.strerror or error}", "check its permissions") from None
    if stat.S_ISDIR(status.st_mode):
        return root, None, walk(root, wanted)
    kind = kind_of(root.name)
    if not stat.S_ISREG(status.st_mode) or ending(root.name) not in ENDINGS:
        what = f" ({kind.what} are not read)" if kind is not None else ""
        remedy = f"{kind.remedy}; then give" if kind is not None else "give"
        raise DataError(
            f"{name}: is a file, not a folder{what}",
            f"{remedy} the folder that holds one sub-folder of {wanted.kinds} for each class, or a table of labels (CSV)",
        )
    base = root.parent
    tree = walk(base, wanted)
    outer = base.resolve().parent
    if tree.root.total or outer in (Path.home(), Path(outer.anchor)):
        return base, root.name, tree
    return outer, f"{base.resolve().name}/{root.name}", walk(outer, wanted)  # annotations/labels.csv beside images/


# what is left out -------------------------------------------------------------------------------------


def _check_classes(name: str, base: Path, tree: Tree, reading: Reading, labels: Collection[str]) -> None:
    """Add a fault for what holds no files; raises DataError where looking on would tell nothing."""
    kind, kinds = tree.wanted.kind, tree.wanted.kinds
    count = len(labels)
    if count > MAX_CLASSES:
        raise DataError(f"{name}: {count:,} classes", f"at most {MAX_CLASSES:,} are supported: is each {kind} its own class?")
    unreadable = "".join(f"; {shown(path)}/ cannot be read: {reason}" for path, reason in tree.unreadable[:3])
    if not reading.files:
        inside = f" (its folders {few([shown(label) for label in sorted(reading.classes)])} hold none)" if reading.classes else ""
        told = _unread(base, [tree.root], tree.wanted)
        if told:
            what, remedy = "; ".join(what for what, _ in told), "; ".join(remedy for _, remedy in told)
            raise DataError(f"{name}: holds no {kinds} that are read: {what}{unreadable}", remedy)
        example = "such as " + " and ".join(f"{tree.root.name or 'data'}/{files}" for files in tree.wanted.examples)
        remedy = "check the permissions" if tree.unreadable else f"put them into one sub-folder for each class, {example}"
        raise DataError(f"{name}: holds no {kinds}{inside}{unreadable}", remedy)
    empty = {label: folders for label, folders in sorted(reading.classes.items()) if not any(folder.total for folder in folders)}
    told = _unread(base, [folder for folders in empty.values() for folder in folders], tree.wanted)
    bare = [label for label, folders in empty.items() if not _unread(base, folders, tree.wanted)]
    other = [label for label in empty if label not in bare]
    if bare:
        reading.faults.append(
            DataError(
                f"{name}: no {kinds} in {_class_folders(bare)}{unreadable}",
                f"add {kinds} ({', '.join(sorted(tree.wanted.endings)[:6])} ...) or remove the folder",
            )
        )
    reading.faults += [DataError(f"{name}: no {kinds} that are read in {_class_folders(other)}: {what}", remedy) for what, remedy in told]


def _class_folders(labels: Sequence[str]) -> str:
    return f"class folder{'' if len(labels) == 1 else 's'} {few([shown(label) for label in labels])}"


def _unread(base: Path, folders: Sequence[Folder], wanted: Wanted) -> list[tuple[str, str]]:
    """What files in folders without wanted ones are, with what to do about them."""
    told = describe_files(_files(folders))
    unknown = [inner.inside(file) for folder in folders for inner in folder.below() for file in inner.others if kind_of(file) is None]
    end = looks_like(base, unknown, wanted.magics)
    if end is not None:
        told.append(
            (
                f"{plural(len(unknown), 'file')} not named as {wanted.kinds}, such as {shown(unknown[0])}, begin as {end[1:].upper()} does",
                f"name them *{end}",
            )
        )
    return told


def _files(folders: Sequence[Folder]) -> list[str]:
    return [file for folder in folders for inner in folder.below() for file in inner.others]


def _say_left_out(tree: Tree, reading: Reading) -> None:
    notes = reading.notes
    loose = [found.path for found in reading.files if found.label is None]
    if loose and len(loose) < len(reading.files):
        have = "has no label and is" if len(loose) == 1 else "have no label and are"
        notes.append(f"{plural(len(loose), tree.wanted.kind)} {have} left out, such as {shown(loose[0])}")
    others = [file for folder in tree.root.below() for file in folder.others if folder.inside(file) not in reading.tables]
    notes += [f"{what} -> {remedy}" for what, remedy in describe_files(others)]
    strange = other_files(others)
    if strange:
        ends = printable(", ".join(f"{count:,} {end}" for end, count in strange.most_common(4)))
        are = f"is no {tree.wanted.kind} is" if strange.total() == 1 else f"are no {tree.wanted.kinds} are"
        notes.append(f"{plural(strange.total(), 'file')} that {are} ignored ({ends})")
    aside = [shown(folder.path) for folder in reading.aside if not folder.total and not may_be_class(folder)]
    if aside:
        notes.append(f"no {tree.wanted.kinds}, and so no class: {few(aside)}")
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


def read_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file. Raises BadInput where it is none that ends, or larger than ``max_bytes``, and OSError."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BadInput("not a regular file")  # reading a pipe would wait for ever
    if found.st_size > max_bytes:
        raise BadInput(f"larger than {max_bytes // 2**20} MiB")
    return path.read_bytes()
