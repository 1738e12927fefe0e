"""What a CSV file says of records by their names: the groups they are of, the attributes they have."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinynas.errors import DataError


@dataclass(frozen=True)
class Listed:
    """The lines of a CSV file with a first line of column names."""

    head: tuple[str, ...]
    """As they are written, without spaces around."""
    head_line: int
    """Its number, from 1."""
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    """(number of the line, cells without spaces around) of every line that is not blank."""


def read_listed(path: Path, *, what: str, needed: Sequence[str], remedy: str) -> Listed:
    """The file in ``path``; ``needed`` columns are there, whatever their case. ``what`` (an option) begins the message.

    Raises DataError for a file that cannot be read, is empty, lacks a column, or lists nothing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{what}: {path}: cannot be read as CSV: {error}", remedy) from None
    if not lines:
        raise DataError(f"{what}: {path}: is empty", remedy)
    (head_line, head), *rest = [(number, tuple(cell.strip() for cell in row)) for number, row in lines]
    known = {cell.lower() for cell in head}
    if missing := [column for column in needed if column not in known]:
        raise DataError(f"{what}: {path}: line {head_line}: has no column {' and no column '.join(missing)}", remedy)
    if not rest:
        raise DataError(f"{what}: {path}: lists no names", remedy)
    return Listed(head, head_line, tuple(rest))


def name_key(name: str) -> str:
    """A name as it is compared: files of Windows have backslashes, those of macOS letters and accents apart."""
    return unicodedata.normalize("NFC", name).replace("\\", "/")


def file_name(key: str) -> str:
    """The last part of a name's key."""
    return key.rsplit("/", 1)[-1]
