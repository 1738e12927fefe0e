"""Which records belong together: the digits of one meter, the frames of one track, the words of one speaker.

A group never straddles splits that are carved here: a network would be asked about a thing that it has learnt by heart.
``data.groups`` says how to tell::

    prefix:__           what stands before the first __ of the file name
    csv:groups.csv      a file with the columns name and group
    ([^/]+/\\d+)_        anything else is a regular expression, searched in the name (the path inside the folder)

A record of which nothing is said is a group of its own.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinynas.data.options import GROUPS_CSV, GROUPS_PREFIX, DataOptions
from tinynas.data.records import Record
from tinynas.errors import DataError


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of a data set, in order of their names."""

    names: tuple[str, ...]
    of: NDArray[np.int64]
    """The position in ``names`` of each record's group."""

    def __len__(self) -> int:
        return len(self.names)

    def sizes(self) -> NDArray[np.int64]:
        """Records of each group."""
        return np.bincount(self.of, minlength=len(self.names))


def find_groups(name: str, records: Sequence[Record], options: DataOptions, said: list[str]) -> Groups | None:
    """The groups of ``records``, None where neither the options nor the source know any.

    Raises DataError: a CSV file that cannot be used, or a rule that fits none of the names.
    """
    if options.groups is None:
        found = [record.group for record in records]
        if all(group is None for group in found):
            return None
        return _numbered(records, found)
    rule = _rule(options.groups)
    found = [rule(record.file or record.name) for record in records]
    missed = sum(group is None for group in found)
    if missed == len(records):
        raise DataError(f"{name}: groups: {options.groups!r} matches none of the names", f"a name looks like this: {records[0].name}")
    if missed:
        said.append(f"groups: {missed:,} of {len(records):,} names do not match {options.groups!r}; each of those is {_by_itself(records)}")
    # Parts of one recording stay together whatever the rule says of it.
    return _numbered(records, [record.group if group is None else group for group, record in zip(found, records, strict=True)])


def joined(digests: Sequence[Hashable], groups: Sequence[Hashable] | None, names: Sequence[str]) -> list[str]:
    """One key for each record such that records with equal digest or equal group have equal keys (union-find)."""
    parent = list(range(len(digests)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column in (digests, groups):
        first: dict[Hashable, int] = {}
        for i, value in enumerate(column or ()):
            a, b = root(first.setdefault(value, i)), root(i)
            parent[max(a, b)] = min(a, b)
    least: dict[int, str] = {}
    for i, name in enumerate(names):
        r = root(i)
        least[r] = min(least.get(r, name), name)
    return [least[root(i)] for i in range(len(digests))]


def _by_itself(records: Sequence[Record]) -> str:
    return "a group of its own" if all(record.group is None for record in records) else "in the group that its source says"


def _numbered(records: Sequence[Record], found: Sequence[str | None]) -> Groups:
    # The flag keeps a record without a group apart from a group that has its name.
    keys = [(group is None, record.name if group is None else group) for record, group in zip(records, found, strict=True)]
    ordered = sorted(set(keys))
    number = {key: i for i, key in enumerate(ordered)}
    return Groups(tuple(text for _, text in ordered), np.array([number[key] for key in keys], dtype=np.int64))


# rules ------------------------------------------------------------------------------------------------


def _rule(spec: str) -> Callable[[str], str | None]:
    """A function from a record's name to its group, None where it has none."""
    if spec.startswith(GROUPS_PREFIX):
        return _Prefix(spec.removeprefix(GROUPS_PREFIX))
    if spec.startswith(GROUPS_CSV):
        return _Listed(Path(spec.removeprefix(GROUPS_CSV)).expanduser())
    return _Pattern(spec)


class _Prefix:
    def __init__(self, separator: str) -> None:
        self.separator = separator

    def __call__(self, name: str) -> str | None:
        before, found, _ = name.rsplit("/", 1)[-1].partition(self.separator)
        return before if found else None


class _Pattern:
    def __init__(self, pattern: str) -> None:
        self.pattern = re.compile(pattern)

    def __call__(self, name: str) -> str | None:
        match = self.pattern.search(name)
        if match is None:
            return None
        # Parts are kept apart by a character that no file name has.
        return "\0".join(part or "" for part in match.groups()) if match.groups() else match.group()


class _Listed:
    """The groups that a CSV file gives by name, or by file name alone."""

    def __init__(self, path: Path) -> None:
        self.groups = _read_csv(path)

    def __call__(self, name: str) -> str | None:
        key = _key(name)
        return self.groups.get(key, self.groups.get(key.rsplit("/", 1)[-1]))


def _read_csv(path: Path) -> dict[str, str]:
    remedy = "give a CSV file with a first line name,group and a line for each name"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"groups: {path}: cannot be read as CSV: {error}", remedy) from None
    if not lines:
        raise DataError(f"groups: {path}: is empty", remedy)
    head = [cell.strip().lower() for cell in lines[0][1]]
    missing = [column for column in ("name", "group") if column not in head]
    if missing:
        raise DataError(f"groups: {path}: line {lines[0][0]}: has no column {' and no column '.join(missing)}", remedy)
    name, group = head.index("name"), head.index("group")
    groups: dict[str, str] = {}
    for number, row in lines[1:]:
        cells = [cell.strip() for cell in row]
        if len(cells) <= max(name, group) or not cells[name] or not cells[group]:
            raise DataError(f"groups: {path}: line {number}: name or group is missing", remedy)
        before = groups.setdefault(_key(cells[name]), cells[group])
        if before != cells[group]:
            raise DataError(
                f"groups: {path}: line {number}: {cells[name]} is of group {cells[group]!r} here and of {before!r} above",
                "give each name one group",
            )
    if not groups:
        raise DataError(f"groups: {path}: lists no names", remedy)
    return groups


def _key(name: str) -> str:
    """A name as it is compared: files of Windows have backslashes, those of macOS letters and accents apart."""
    return unicodedata.normalize("NFC", name).replace("\\", "/")


def shown(group: str) -> str:
    """A group's name for people."""
    return group.replace("\0", " ")
