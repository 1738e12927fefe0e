"""data.attributes: a CSV file that says of each image what it shows besides its class, so that results can be told apart by it.

::

    name,light,mirror
    cat/001.jpg,dark,yes
    cat/002.jpg,bright,no

A column whose cells are yes and no (true, false, 1, 0) has the parts ``mirror: yes`` and ``mirror: no``; any other has a part a word, such
as ``light: dark``. A blank cell says nothing of that image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinynas.data.listed import Listed, file_name, name_key, read_listed
from tinynas.data.records import Record, plural
from tinynas.errors import DataError, counted

_SAID = {"yes": "yes", "y": "yes", "true": "yes", "1": "yes", "no": "no", "n": "no", "false": "no", "0": "no"}
#: Of more words than this a column is no attribute: a name, a time or a measurement of which every image has its own.
MOST_PARTS = 20
_BETWEEN = ": "
_WHAT = "data.attributes"
_REMEDY = "give a CSV file with a first line such as name,light and a line for each image"


def part_name(group: str, part: str) -> str:
    """The name of an attribute that is one part of a group: ``light: dark``."""
    return f"{group}{_BETWEEN}{part}"


def group_of(attribute: str) -> tuple[str, str] | None:
    """(group, part) of an attribute that a CSV file gave; None for one that the data have by themselves."""
    group, between, part = attribute.partition(_BETWEEN)
    return (group, part) if between else None


def read_attributes(name: str, place: str, records: Sequence[Record], said: list[str]) -> dict[str, NDArray[np.int8]]:
    """Attributes of ``records`` by the CSV file at ``place``: ``light: dark`` to 1 yes, 0 no, -1 nothing said.

    What is listed and is no record, and records that are not listed, are counted in ``said``. Raises DataError for a file that cannot be
    used, with its line.
    """
    path = Path(place).expanduser()
    listed = read_listed(path, what=_WHAT, needed=("name",), remedy=_REMEDY)
    columns = _columns(path, listed)
    row_of = _rows(path, listed, records, said)
    if not any(row >= 0 for row in row_of):
        example = f"; a name looks like this: {records[0].name}" if records else ""
        raise DataError(f"{name}: {_WHAT}: {path}: names none of the {plural(len(records), 'image')}", f"{_REMEDY}{example}")
    found: dict[str, NDArray[np.int8]] = {}
    for group, column in columns.items():
        words = [cells[column] for _, cells in listed.rows]
        for part, own in _parts(path, group, words).items():
            values = np.array([-1 if not word else int(word in own) for word in words] + [-1], np.int8)
            found[part_name(group, part)] = values[np.array(row_of)]
    return found


def _columns(path: Path, listed: Listed) -> dict[str, int]:
    """Name and position of every column of attributes; checks that the lines have a cell for each."""
    place = f"{_WHAT}: {path}: line {listed.head_line}"
    columns: dict[str, int] = {}
    for position, head in enumerate(listed.head):
        if head.lower() == "name":
            continue
        if not head or _BETWEEN.strip() in head:
            raise DataError(
                f"{place}: column {position + 1} has {'no name' if not head else f'the name {head!r}'}", "name it, without a colon"
            )
        if head in columns:
            raise DataError(f"{place}: has the column {head} twice", "give each attribute one column")
        columns[head] = position
    if not columns:
        raise DataError(f"{place}: has no column of an attribute", _REMEDY)
    for number, cells in listed.rows:
        if len(cells) != len(listed.head):
            raise DataError(
                f"{_WHAT}: {path}: line {number}: has {counted(len(cells), 'cell')}, the first line {len(listed.head)}",
                "give each line a cell for each column; a blank one says nothing",
            )
    return columns


def _parts(path: Path, group: str, words: Sequence[str]) -> dict[str, frozenset[str]]:
    """Part to the words that mean it, of one column."""
    different = sorted({word for word in words if word})
    if all(word.lower() in _SAID for word in different):
        return {part: own for part in ("yes", "no") if (own := frozenset(word for word in different if _SAID[word.lower()] == part))}
    if len(different) > MOST_PARTS:
        raise DataError(
            f"{_WHAT}: {path}: the column {group} has {len(different)} different words ({', '.join(different[:3])}, ...)",
            f"an attribute has at most {MOST_PARTS} parts: put values into ranges, such as near and far, or leave the column out",
        )
    return {word: frozenset({word}) for word in different}


def _rows(path: Path, listed: Listed, records: Sequence[Record], said: list[str]) -> list[int]:
    """The row of each record, by its name, else by its file name; -1 where it has none."""
    names = [name_key(record.name) for record in records]
    short = Counter(map(file_name, names))
    of_name, of_short = {name: i for i, name in enumerate(names)}, defaultdict(list)
    for i, name in enumerate(names):
        of_short[file_name(name)].append(i)
    column = [head.lower() for head in listed.head].index("name")
    row_of = [-1] * len(records)
    unknown: list[str] = []
    for row, (number, cells) in enumerate(listed.rows):
        key = name_key(cells[column])
        place = f"{_WHAT}: {path}: line {number}"
        if not key:
            raise DataError(f"{place}: has no name", _REMEDY)
        if key not in of_name and short[key] > 1:
            first, second = (records[i].name for i in of_short[key][:2])
            raise DataError(f"{place}: {cells[column]} is the file name of {first} and of {second}", "give the path inside the folder")
        i = of_name[key] if key in of_name else of_short[key][0] if key in of_short else -1
        if i < 0:
            unknown.append(cells[column])
        elif row_of[i] >= 0:
            before = listed.rows[row_of[i]]
            if [c for k, c in enumerate(before[1]) if k != column] != [c for k, c in enumerate(cells) if k != column]:
                raise DataError(f"{place}: says other things of {records[i].name} than line {before[0]}", "give each image one line")
        else:
            row_of[i] = row
    if unknown:
        verb = "is" if len(unknown) == 1 else "are"
        said.append(f"attributes: {plural(len(unknown), 'name')} of {path.name} {verb} no image here: {_few(unknown)}")
    if without := row_of.count(-1):
        lacking = [record.name for record, row in zip(records, row_of, strict=True) if row < 0]
        said.append(f"attributes: nothing is said of {plural(without, 'image')} of {len(records):,}: {_few(lacking)}")
    return row_of


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
