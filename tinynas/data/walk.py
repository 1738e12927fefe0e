"""What lies below a folder: files of a kind (images, sounds), others, folders; links that turn back and endless trees are bounded."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tinynas.errors import DataError

IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini", "lost+found", "$recycle.bin", "system volume information", "@eadir", "icon\r"})
"""Files and folders that systems leave behind; so are those whose name begins with a dot."""
MAX_DEPTH = 24
"""Folders below each other; deeper ones are not entered."""
MAX_ENTRIES = 20_000_000
"""Files and folders of one tree."""
MAX_VISITS = 20
"""So often one real folder is entered through links."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files are looked for."""

    kind: str
    """What one is, in the singular: "image"."""
    endings: frozenset[str]
    """In small letters, with their dot."""
    max_bytes: int
    """A larger file is not read."""
    magics: tuple[tuple[bytes, str], ...] = ()
    """How files begin, and the ending that they should have then."""

    examples: tuple[str, str] = ("cat/*", "dog/*")
    """How two class folders may look, for people."""
    parts: str = ""
    """What to do where rows are about parts of a file."""
    timed: bool = False
    """Whether tables may say where in a file something is, and of whom."""

    @property
    def one(self) -> str:
        """:attr:`kind` with its article."""
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"

    @property
    def kinds(self) -> str:
        """The plural of :attr:`kind`."""
        return f"{self.kind}s"


@dataclass(slots=True)
class Folder:
    """One folder. Paths and names are as the system gives them; bytes that are not UTF-8 are surrogates."""

    path: str
    """Inside the root, with ``/``; empty for the root itself."""
    name: str
    folders: list[Folder] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    """Name and stamp (size and time of change) of each file that ends as the wanted ones do."""
    others: list[str] = field(default_factory=list)
    """Names of the other files."""
    total: int = 0
    """Wanted files in it and below."""

    def below(self) -> Iterator[Folder]:
        """This folder and all below it, outer ones first."""
        yield self
        for folder in self.folders:
            yield from folder.below()

    def holding(self) -> list[Folder]:
        """Its folders that have wanted files in them or below."""
        return [folder for folder in self.folders if folder.total]

    def inside(self, name: str) -> str:
        """The path of one of its files or folders inside the root."""
        return f"{self.path}/{name}" if self.path else name


@dataclass(slots=True)
class Tree:
    """A folder and what could not be looked into."""

    root: Folder
    wanted: Wanted
    unreadable: list[tuple[str, str]]
    """Path inside the root and reason, for each folder that could not be listed."""
    deep: list[str]
    """Folders that lie too deep, and were not entered."""


def walk(root: Path, wanted: Wanted) -> Tree:
    """All below ``root``, in a fixed order. Raises DataError where ``root`` itself cannot be listed, or has no end."""
    tree = Tree(Folder("", root.name), wanted, [], [])
    _Walk(str(root), tree).fill(tree.root, str(root), (), 0)
    return tree


class _Walk:
    def __init__(self, root: str, tree: Tree) -> None:
        self.root, self.tree = root, tree
        self.entries = 0
        self.visits: dict[tuple[int, int], int] = {}

    def fill(self, folder: Folder, path: str, above: tuple[tuple[int, int], ...], depth: int) -> None:
        try:
            with os.scandir(path) as found:
                entries = sorted((entry for entry in found if not _hidden(entry.name)), key=lambda entry: entry.name)
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            reason = error.strerror or str(error)
            if not depth:
                raise DataError(f"{self.root}: cannot be read: {reason}", "check its permissions") from None
            self.tree.unreadable.append((folder.path, reason))
            return
        self.entries += len(entries)
        if self.entries > MAX_ENTRIES:
            raise DataError(
                f"{self.root}: holds more than {MAX_ENTRIES:,} files and folders",
                f"give the folder that holds the {self.tree.wanted.kinds} alone",
            )
        here = (status.st_dev, status.st_ino)
        for entry in entries:
            if not _is_folder(entry):
                self._file(folder, entry)
                continue
            inner = Folder(folder.inside(entry.name), entry.name)
            if depth == MAX_DEPTH:
                self.tree.deep.append(inner.path)
            elif not entry.is_symlink() or self._enters(entry, (*above, here)):
                folder.folders.append(inner)
                self.fill(inner, entry.path, (*above, here), depth + 1)
        folder.total = len(folder.files) + sum(inner.total for inner in folder.folders)

    def _enters(self, entry: os.DirEntry[str], above: tuple[tuple[int, int], ...]) -> bool:
        """Whether a link to a folder is followed: not to one that it lies in, and to no other without end."""
        status = entry.stat()
        target = (status.st_dev, status.st_ino)
        self.visits[target] = self.visits.get(target, 0) + 1
        return target not in above and self.visits[target] <= MAX_VISITS

    def _file(self, folder: Folder, entry: os.DirEntry[str]) -> None:
        if os.path.splitext(entry.name)[1].lower() not in self.tree.wanted.endings:  # noqa: PTH122 (a Path for each file takes longer than all the rest)
            folder.others.append(entry.name)
            return
        try:
            found = entry.stat()
            stamp = f"{found.st_size}:{found.st_mtime_ns}"
        except OSError:
            stamp = "gone"  # a dangling link: counted as bad when it is read
        folder.files.append((entry.name, stamp))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in IGNORED


def regular(path: Path) -> bool:
    """Whether ``path`` is a file that ends: reading a pipe would wait for ever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
