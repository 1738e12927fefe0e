"""Which folders are splits, which are classes, and which files have no label: what a tree of folders says by itself.

::

    photos/cat/*.jpg  photos/dog/*.jpg              classes
    photos/training_set/cat/*.jpg  photos/test_set/ ...   splits (Train, valid, test_images, seg_test, ...), then classes
    download/photos/photos/train/cat/*.jpg          folders that hold nothing but one folder are passed through
    photos/train/cat.0.jpg  photos/images/7.jpg     no class folders: a table or the file names have to say it

A folder called ``train`` is a split where its sub-folders are another split's too, or where nothing else lies beside it: among
classes it is a class (trains).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tinynas.data.foreign import ending, is_foreign
from tinynas.data.partnames import ANNOTATIONS, HOLDERS, UNLABELLED, Part, Word, only, part_of, resolve
from tinynas.data.walk import Folder, Tree, Wanted
from tinynas.errors import DataError, printable


@dataclass(frozen=True, slots=True)
class Row:
    """One line that says something about a file."""

    line: int
    file: str
    label: str | None
    split: str | None
    start: str = ""
    """Where in the file it begins, as it is written; empty where nothing is said of it."""
    end: str = ""
    fold: str = ""
    group: str = ""
    """What it belongs with: a speaker, a session."""


@dataclass(slots=True)
class Found:
    """One wanted file of the tree."""

    path: str
    """Inside the root, as the system gives it."""
    stamp: str
    label: str | None
    """Name of its class folder; None where it lies in none."""
    split: str | None
    rows: tuple[Row, ...] = ()
    """What a table says about it: several rows where they are about parts of it."""


@dataclass(slots=True)
class Reading:
    """What the folders say."""

    wanted: Wanted
    files: list[Found] = field(default_factory=list)
    classes: dict[str, list[Folder]] = field(default_factory=dict)
    """The folders of each class; also those without a file."""
    alone: str | None = None
    """The folder that holds all files, where there is but one: hardly a class."""
    tables: set[str] = field(default_factory=set)
    """Files that labels were taken from."""
    aside: list[Folder] = field(default_factory=list)
    """Folders that are neither a split nor a class."""
    notes: list[str] = field(default_factory=list)
    faults: list[DataError] = field(default_factory=list)

    def labelled(self) -> bool:
        """Whether any file lies in a class folder."""
        return any(found.label is not None for found in self.files)


def read_layout(name: str, tree: Tree, splits: Mapping[str, str]) -> Reading:
    """The classes and splits of ``tree``; ``splits`` says which folder is which split where the names do not.

    Faults that leave something to look at are in the reading. Raises DataError where ``splits`` names no folder.
    """
    reading = Reading(tree.wanted)
    base = tree.root
    while True:
        parts = _given(name, base, splits) if splits else _parts(name, base, reading)
        if parts or not (inner := _through(base)):
            break
        base = inner
    if base is not tree.root:
        reading.notes.append(f"read from {shown(base.path)}/, the only folder in it with {tree.wanted.kinds}")
    if not parts:
        _classes(base, None, reading)
        return reading
    used = {folder.path for folder, _ in parts}
    aside = [folder for folder in base.folders if folder.path not in used]
    if aside:
        beside = ", ".join(sorted(shown(folder.name) for folder, _ in parts))
        reading.notes.append(f"ignored beside {beside}: {few([shown(folder.name) for folder in aside])}")
    _loose(base, None, reading)
    for folder, split in parts:
        _classes(_level(folder), split, reading)
    return reading


def shown(path: str) -> str:
    """A path or name for people."""
    return printable(path)


def few(names: Sequence[str], most: int = 5) -> str:
    """The first of ``names``, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


# from the root to where classes or splits lie ---------------------------------------------------------


def _through(base: Folder) -> Folder | None:
    """The one folder of ``base`` with files, where what lies below it says more than ``base`` does."""
    holding = base.holding()
    if len(holding) > 1:  # images/ beside masks/: only the first holds what is to be learnt
        holders = [folder for folder in holding if only(folder.name, HOLDERS)]
        if len(holders) != 1 or not all(only(folder.name, ANNOTATIONS) for folder in holding if folder is not holders[0]):
            return None
        holding = holders
    if base.files or len(holding) != 1:
        return None
    inner = holding[0]
    below = inner.holding()
    if len(below) > 1 or (only(inner.name, HOLDERS) and not below):
        return inner
    return inner if len(below) == 1 and (_through(inner) or part_of(below[0].name)) else None


def _level(part: Folder) -> Folder:
    """Where the classes of a split lie: ``train/train/cat`` and ``train/images/cat`` are usual."""
    while not part.files and len(holding := part.holding()) == 1:
        inner = holding[0]
        if not (inner.holding() or only(inner.name, HOLDERS | UNLABELLED) or part_of(inner.name)):
            break
        part = inner
    return part


# splits -----------------------------------------------------------------------------------------------


def _given(name: str, base: Folder, splits: Mapping[str, str]) -> list[tuple[Folder, str | None]]:
    by_name = {folder.name: folder for folder in base.folders}
    missing = [folder for folder in splits.values() if folder not in by_name]
    if missing and _through(base):
        return []
    if missing:
        there = f"its folders: {few(sorted(map(shown, by_name)), 10)}" if by_name else "it has no folders"
        raise DataError(f"{name}: splits: there is no folder {shown(missing[0])!r}", there)
    said: list[tuple[Folder, str | None]] = [(by_name[folder], str(split)) for split, folder in splits.items()]
    # A split that nobody named is the folder that is called so, where that is not another split already.
    plain = [(folder, part.word) for folder in base.holding() if (part := part_of(folder.name)) and not part.rest]
    usual = [(folder, word) for folder, word in plain if folder.name not in splits.values()]
    words = {str(word) for _, word in usual} | {*splits}
    guessed: dict[str, list[Folder]] = {}
    for folder, word in usual:
        guessed.setdefault(resolve(word, words), []).append(folder)
    for split in splits:
        guessed.pop(split, None)
    for split, folders in guessed.items():
        if len(folders) > 1:
            raise _same_split(name, [shown(folder.name) for folder in folders], split)
    return said + [(folder, split) for split, [folder] in guessed.items()]


def _parts(name: str, base: Folder, reading: Reading) -> list[tuple[Folder, str | None]]:
    """The folders of ``base`` that are splits, with their split."""
    holding = base.holding()
    named = [(folder, part) for folder in holding if (part := part_of(folder.name))]
    others = [folder for folder in holding if not part_of(folder.name) and not only(folder.name, UNLABELLED | ANNOTATIONS)]
    if not named:
        return []
    chosen = _sharing(named) if others or not _alike(named) else named
    if not chosen:
        _say_class(named, others, reading)
        return []
    # train_images beside train_masks: the name with fewer other words is meant
    least = {word: min(len(part.rest) for _, part in chosen if part.word == word) for word in {part.word for _, part in chosen}}
    chosen = [(folder, part) for folder, part in chosen if len(part.rest) == least[part.word]]
    words: set[Word] = {part.word for _, part in chosen}
    result: list[tuple[Folder, str | None]] = [(folder, resolve(part.word, words)) for folder, part in chosen]
    for split in ("train", "val", "test"):
        same = [shown(folder.name) for folder, word in result if word == split]
        if len(same) > 1:
            reading.faults.append(_same_split(name, same, split))
    return result


def _same_split(name: str, same: Sequence[str], split: str) -> DataError:
    return DataError(
        f"{name}: {', '.join(same)}: two of these mean the same split, {split}",
        f"merge or rename one of them, or say which it is: --set data.splits.{split}={same[0]}",
    )


def _alike(named: Sequence[tuple[Folder, Part]]) -> bool:
    """Whether names say splits and nothing else, or all the same beside it (``seg_train``, ``seg_test``)."""
    if all(not part.rest for _, part in named):
        return True
    return len({part.rest for _, part in named}) == 1 and len({part.word for _, part in named}) > 1


def _sharing(named: Sequence[tuple[Folder, Part]]) -> list[tuple[Folder, Part]]:
    """Those that have sub-folders of the same names as one that means another split."""
    inner = [{folder.name.casefold() for folder in _level(folder).holding()} for folder, _ in named]
    return [
        pair
        for i, pair in enumerate(named)
        if any(_common(inner[i], inner[j]) for j, (_, part) in enumerate(named) if part.word != pair[1].word)
    ]


def _common(one: set[str], other: set[str]) -> bool:
    return bool(one & other) and 2 * len(one & other) >= min(len(one), len(other))


def _say_class(named: Sequence[tuple[Folder, Part]], others: Sequence[Folder], reading: Reading) -> None:
    for folder, part in named:
        inner = [shown(sub.name) for sub in folder.holding()]
        if not part.rest and len(inner) > 1:
            beside = few([shown(other.name) for other in others], 3)
            reading.notes.append(
                f"{shown(folder.name)}/ is taken for a class, as {beside} beside it are, "
                f"though it has the folders {few(inner, 3)}: "
                f"if it is the {part.word} split, move the others away "
                f"or say --set data.splits.{resolve(part.word, ())}={shown(folder.name)}"
            )


# classes ----------------------------------------------------------------------------------------------


def _classes(base: Folder, split: str | None, reading: Reading) -> None:
    """Add the class folders of ``base``."""
    holding = base.holding()
    _loose(base, split, reading)
    if split is None and not base.files and len(holding) == 1 and not holding[0].holding():
        reading.alone = holding[0].path
    shared = set.intersection(*({sub.name for sub in folder.holding()} for folder in holding)) if len(holding) > 1 else set()
    if len(shared) > 1 and not any(map(part_of, (folder.name for folder in holding))):
        reading.notes.append(
            f"each of the folders {few([shown(folder.name) for folder in holding], 3)} "
            f"has the folders {few(sorted(map(shown, shared)), 3)}: "
            f"if those are the classes, say what the outer ones are: --set data.splits.train={shown(holding[0].name)} "
            f"--set data.splits.test={shown(holding[1].name)}"
        )
    for folder in base.folders:
        if not folder.total and not may_be_class(folder):
            reading.aside.append(folder)
            continue
        reading.classes.setdefault(folder.name, []).append(folder)
        for path, stamp in _files(folder):
            reading.files.append(Found(path, stamp, folder.name, split))


def _loose(base: Folder, split: str | None, reading: Reading) -> None:
    reading.files += [Found(base.inside(name), stamp, None, split) for name, stamp in base.files]


def _files(folder: Folder) -> Iterator[tuple[str, str]]:
    for inner in folder.below():
        for name, stamp in inner.files:
            yield inner.inside(name), stamp


def may_be_class(folder: Folder) -> bool:
    """Whether a folder without a wanted file could be meant as a class: it is empty, or holds what could be such a file of another name."""
    others = [name for inner in folder.below() for name in inner.others]
    return any(map(is_foreign, others)) or not any(map(ending, others))
