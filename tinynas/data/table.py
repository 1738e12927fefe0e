"""Labels in a file: CSV of any kind, JSON lines, Edge Impulse's info.labels; read into rows, and the rows found among the files.

Columns are found by name (``file_name``, ``image``, ``id`` ...; ``label``, ``class``, ``target`` ...; ``split``), by what is in them
where there is no header (Vertex AI: ``TRAIN,gs://bucket/a.jpg,daisy``), or as one column of 0 and 1 for each class.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tinynas.data.labels import joined_labels, parts_of
from tinynas.data.layout import Found, Row, few, shown
from tinynas.data.options import DataOptions
from tinynas.data.partnames import part_of, value_of
from tinynas.data.records import plural
from tinynas.data.walk import Folder, Wanted, regular
from tinynas.errors import DataError

ENDINGS = frozenset({".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".manifest", ".txt", ".lst", ".labels"})
"""Files that can be given as a table."""
MAX_BYTES = 512 * 1024 * 1024
FEW_NAMED = 0.05
"""A table that names a smaller share of the images is about something else,"""
MANY_NAMED = 1000
"""but for one that names so many."""
MANY = 20
"""With more labels than this there must be two images of each, on average."""
ENOUGH = 0.5
"""A table whose rows name images that are there to this share is meant for them."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


IMAGE_COLUMNS = _words(
    "filename filenames file files filepath filepaths path paths imagepath imagename imagefile imagefilename imgpath imgname imgfile image "
    "images img relativeimpath relativepath imagegcsuri sourceref "
    "imageid imgid imagekey photo picture uri imageuri gcsuri url id uuid name fname "
    "recording recordings audio audiofile audiofilename audiopath wav wavfile sound soundfile clip"
)
LABEL_COLUMNS = _words(
    "label labels labelname class classes classname classlabel category categoryname categories target targets classification classid "
    "labelid categoryid y breed species tag tags diagnosis dx finding groundtruth gt annotation emotion variety cultivar "
    "classificationannotationdisplayname displayname choice kind type"
)
SPLIT_COLUMNS = _words(
    "split splits set subset partition usage phase mluse dataset fold dataitemresourcelabelsaiplatformgoogleapiscommluse"
)
START_COLUMNS = _words("start starttime starts startseconds begin begintime begintimes onset from")
END_COLUMNS = _words("end endtime endtimes ends endseconds offset stop to")
FOLD_COLUMNS = _words("fold folds")
GROUP_COLUMNS = _words("speaker speakerid group groups session recordingid srcfile source device clientid")
MULTILABEL = "--set data.multilabel=true"
_TRUTHS = {"0": False, "0.0": False, "false": False, "no": False, "": False, "1": True, "1.0": True, "true": True, "yes": True}
#: What tells folds apart, which ``data.folds`` assigns: no split.
_FOLD = re.compile(r"(fold[ _-]?)?\d+", re.IGNORECASE)
_WHOLE = re.compile(r"^(-?\d+)\.0+$")  # a spreadsheet's numbers
_LISTS = re.compile(r"^(labels?|annotations?|list|files|images|classes|gt|truth|index|meta(data)?|data)$", re.IGNORECASE)


@dataclass(slots=True)
class Table:
    """The rows of one file."""

    path: str
    """Inside the root."""
    rows: list[Row]
    said: str = ""
    """Which columns were read, for people."""
    files: dict[int, Row] = field(default_factory=dict)
    """Row of each file, by its position; the first where several are about parts of it."""
    parts: dict[int, list[Row]] = field(default_factory=dict)
    """The rows of each file that is named by some with a start."""
    faults: list[DataError] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What rows name that is not there."""


def candidates(root: Folder) -> list[str]:
    """Paths of files below ``root`` that may hold labels: beside images or above them, or in folders such as annotations/."""
    found = []
    for folder in root.below():
        for name in folder.others:
            lower = name.lower()
            end = Path(lower).suffix
            if end not in ENDINGS or "submission" in lower:
                continue
            if end in (".txt", ".lst") and not (_LISTS.match(Path(lower).stem) or part_of(Path(lower).stem)):
                continue
            found.append(folder.inside(name))
            if len(found) == 50:
                return found
    return found


class Finder:
    """Finds files by what a table calls them."""

    def __init__(self, files: Sequence[Found], wanted: Wanted) -> None:
        self.files, self.wanted = files, wanted
        self.parts = [tuple(_key(found.path).split("/")) for found in files]
        self.folders = {part for parts in self.parts for part in parts[:-1]}
        self.by_path = {"/".join(parts): i for i, parts in enumerate(self.parts)}
        self.by_name: dict[str, list[int]] = defaultdict(list)
        self.by_stem: dict[str, list[int]] = defaultdict(list)
        for i, parts in enumerate(self.parts):
            self.by_name[parts[-1]].append(i)
            stem = parts[-1].rsplit(".", 1)[0]
            self.by_stem[stem].append(i)
            if stem.isdecimal():
                self.by_stem[f"#{int(stem)}"].append(i)

    def find(self, text: str, near: Sequence[str]) -> int | None:
        """The file that ``text`` names: its path, its name, or its name without the ending; None for none or several.

        ``near`` are folders (keys of their parts) in whose favour equal names are decided; then the training files are.
        """
        if "://" in text:
            text = unquote(text.partition("?")[0])
        parts = tuple(part for part in _key(text).split("/") if part not in ("", "."))
        if not parts:
            return None
        path = "/".join(parts)
        for folder in ("", *near):
            exact = self.by_path.get(f"{folder}/{path}" if folder else path)
            if exact is not None:
                return exact
        last = parts[-1]
        found = self.by_name.get(last) or self.by_stem.get(last)
        if not found and os.path.splitext(last)[1] in self.wanted.endings:  # noqa: PTH122
            found = self.by_stem.get(last.rsplit(".", 1)[0])  # converted since
        number = _WHOLE.sub(r"\1", last)
        if not found and number.isdecimal():
            found = self.by_stem.get(f"#{int(number)}")  # a spreadsheet has dropped the zeros
        if not found:
            return None
        if len(found) == 1 and len(parts) == 1:
            return found[0]
        above = [tuple(folder.split("/")) for folder in near]
        scores = [
            (
                _common_end(self.parts[i][:-1], parts[:-1]),
                *(self.parts[i][: len(folder)] == folder for folder in above),
                self.files[i].split == "train",
            )
            for i in found
        ]
        best = max(scores)
        if scores.count(best) > 1 or (len(parts) > 1 and not best[0] and parts[-2] in self.folders):
            return None  # of several, or in another folder that is there
        return found[scores.index(best)]

    def near(self, path: str) -> list[str]:
        """Folders whose files the table at ``path`` means first: those it is called after (train.csv, train_images/), then its own."""
        folder, _, name = path.rpartition("/")
        stem = name.rsplit(".", 1)[0]
        called, part = [_key(f"{folder}/{stem}" if folder else stem)], part_of(stem)
        if part is not None:
            tops = dict.fromkeys(parts[0] for parts in self.parts if len(parts) > 1)
            called += [top for top in tops if (other := part_of(top)) and other.word == part.word]
        return [*called, *([_key(folder)] if folder else [])]


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).replace("\\", "/").casefold()


# reading ----------------------------------------------------------------------------------------------


#: Files of these names are tables, whatever is in them.
TABLES = ("labels", "metadata")


def read_table(name: str, root: Path, path: str, finder: Finder, options: DataOptions, *, given: bool) -> Table | None:
    """The table at ``path`` below ``root`` with its rows found among the files; None where it holds nothing about them.

    One that was ``given`` is read even if none of its rows is found.

    Raises DataError where it cannot be read, or is about the files and does not say which column is the label.
    """
    place = f"{name}/{shown(path)}" if path else name
    data = _bytes(root / path, place, finder.wanted.kind)
    end = Path(path).suffix.lower()
    if end == ".labels" or (end == ".json"):
        lines = _edge_impulse(data)
        return None if lines is None else _matched(Table(path, lines, "Edge Impulse's list"), finder, options.multilabel)
    try:
        cells = _json_lines(data) if end in (".jsonl", ".ndjson", ".manifest") else _csv(_text(data), spaced=end in (".txt", ".lst"))
        if len(cells) < 2 and not (cells and len(cells[0][1]) > 1):
            return None
        read = _Columns(place, cells, finder, options, finder.near(path), given)
        if read.file is None:
            return None
        read.check_labels()
        return _matched(Table(path, read.rows(), read.said), finder, options.multilabel)
    except _Damaged as error:
        # A file of another name need not be a table: what is wrong is told where nothing else has labels.
        kind = TableFault if given or Path(path).stem.lower() in TABLES else DataError
        raise kind(f"{place}: line {error.line}: {error}", error.remedy) from None


def _bytes(path: Path, place: str, kind: str) -> bytes:
    try:
        if not regular(path):
            raise DataError(f"{place}: is not a file", "give a CSV file")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{place}: is larger than {MAX_BYTES // 2**20} MiB", f"leave the columns with {kind} and label only")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{place}: cannot be read: {error.strerror or error}", "check its permissions") from None


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")  # what spreadsheets of Western Europe write


class TableFault(DataError):
    """A fault in a line of a table: no other source of labels may take its place."""


class _Damaged(Exception):
    """A line that cannot be used, behind lines that can."""

    def __init__(self, line: int, why: str, remedy: str = "mend the line, or take it out") -> None:
        super().__init__(why)
        self.line, self.remedy = line, remedy


def _csv(text: str, spaced: bool) -> list[tuple[int, list[str]]]:
    """Line number and cells of each line that has any. Raises _Damaged."""
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    head = [line for line in text.splitlines()[:50] if line.strip() and not line.startswith("#")]
    if head and re.fullmatch(r"sep=.", head[0].strip()):  # a line for Excel
        head = head[1:]
    signs = ",;\t|" + (" " if spaced else "")
    delimiter = max(signs, key=lambda sign: (_even(head, sign), -signs.index(sign)))
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=delimiter != "\t")
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            # Behind the header a file may be called #1.png; a remark is alone on its line.
            remark = cells[0].startswith("#") and (not rows or len(cells) == 1) if cells else True
            if any(cells) and not remark and not (len(cells) <= 2 and cells[0].startswith("sep=")):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        if not rows:
            return []
        raise _Damaged(rows[-1][0] + 1, f"{error}; is a quotation mark not closed?") from None
    return rows


def _even(lines: Sequence[str], sign: str) -> float:
    """How well ``sign`` parts all lines into as many cells."""
    try:
        counts = Counter(len(row) for row in csv.reader(lines, delimiter=sign))
    except csv.Error:
        return 0.0
    if not counts:
        return 0.0
    cells, times = max(counts.items(), key=lambda pair: (pair[0] > 1, pair[1]))
    return times / counts.total() if cells > 1 else 0.0


def _json_lines(data: bytes) -> list[tuple[int, list[str]]]:
    """Line number and values of each line, the keys first. Raises _Damaged."""
    documents: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        try:
            document = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            if not documents:
                return []
            raise _Damaged(number, "is no JSON") from None
        if isinstance(document, dict):
            documents.append((number, _flat(document)))
    columns = [*dict.fromkeys(key for _, document in documents for key in document)]
    if not columns:
        return []
    return [
        (0, columns),
        *((number, ["" if document.get(key) is None else str(document[key]) for key in columns]) for number, document in documents),
    ]


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Vertex AI: ``{"imageGcsUri": ..., "classificationAnnotation": {"displayName": ...}}``. Lists (boxes) are no cells."""
    cells = {key: value for key, value in document.items() if not isinstance(value, dict | list)}
    for key, inner in document.items():
        if isinstance(inner, dict):
            cells |= {f"{key}.{name}": value for name, value in inner.items() if not isinstance(value, dict | list)}
    return cells


def _edge_impulse(data: bytes) -> list[Row] | None:
    try:
        files = json.loads(data.decode("utf-8-sig"))["files"]
        rows = []
        for number, file in enumerate(files, 1):
            label = file["label"]
            text = str(label["label"]) if isinstance(label, Mapping) and label.get("type") == "label" else None
            rows.append(Row(number, str(file["path"]), text, value_of(str(file.get("category", "")))))
        return rows
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


class _Columns:
    """Which columns of a table hold what."""

    def __init__(
        self, place: str, cells: list[tuple[int, list[str]]], finder: Finder, options: DataOptions, near: Sequence[str], given: bool
    ) -> None:
        self.place, self.near = place, near
        self.width = max(len(row) for _, row in cells)
        self.find: Callable[[str], int | None] = lambda text: finder.find(text, near)
        self.head = self._header(cells[0][1], options)
        self.cells = cells[1:] if self.head is not None else cells
        self.said = ""
        self.several, self.between = options.multilabel, options.label_separator
        self.wanted = finder.wanted
        self.file = self._file(options.image_column, given)
        if self.file is not None and self.head is None and self.find(_cell(cells[0][1], self.file)) is None:
            self.head, self.cells = cells[0][1], cells[1:]  # a header in words of its own
        self.label: int | None = None
        self.hot: list[int] = []
        self.split = self._named(SPLIT_COLUMNS, lambda column: True)
        timed = (START_COLUMNS, END_COLUMNS, FOLD_COLUMNS, GROUP_COLUMNS) if finder.wanted.timed else ()
        self.further = [self._named(words, lambda column: column != self.file) for words in timed]
        if self.file is None:
            return
        if self.head is None and self.split is None:
            self.split = next(
                (
                    c
                    for c in range(self.width)
                    if c != self.file and self._all(c, lambda v: value_of(v) is not None or v.lower() == "unassigned")
                ),
                None,
            )
        self._labels(options.label_column)
        self.said = ", ".join(
            f"{what} {self._title(column)}"
            for what, column in ((self.wanted.kinds, self.file), ("labels", self.label), ("splits", self.split))
            if column is not None
        ) + (f", a column for each of {len(self.hot)} classes" if self.hot else "")

    def rows(self) -> list[Row]:
        """The rows that name a file. Raises _Damaged."""
        found = []
        for number, row in self.cells:
            name = _cell(row, self.file)
            if "\n" in name:
                first, *more = name.split("\n")
                raise _Damaged(number, f"{shown(first)} ends {len(more)} lines further down: is a quotation mark not closed?")
            if name:
                split = self._split_of(number, _cell(row, self.split))
                found.append(Row(number, name, self._label_of(row), split, *(_cell(row, column) for column in self.further)))
        return found

    def _split_of(self, number: int, cell: str) -> str | None:
        """None where the row is to be assigned: an empty cell, ``unassigned``, the number of a fold. Raises _Damaged at another word."""
        split = value_of(cell) if cell else None
        if split is not None or self.split is None or not cell or cell.lower() == "unassigned" or _FOLD.fullmatch(cell):
            return split
        raise _Damaged(
            number,
            f"{shown(cell)} in the column {self._title(self.split)} is none of train, val, test",
            "write one of these, leave the cell empty to have the row assigned, or take the row out",
        )

    def check_labels(self) -> None:
        """Raise DataError where the labels are hardly classes."""
        labels = [label for _, row in self.cells if (text := self._label_of(row)) is not None for label in self._parts(text)]
        if self.label is not None and _too_many(labels):
            raise DataError(
                f"{self.place}: the column {self._title(self.label)} has {len(set(labels)):,} different values in {len(labels):,} rows, "
                f"such as {shown(labels[0])}: those are no classes",
                f"say which column is the label: --set data.label_column=NAME (columns: {self._titles()})",
            )

    def _parts(self, cell: str) -> list[str]:
        return [_WHOLE.sub(r"\1", part) for part in parts_of(cell, self.between)] if self.several else [cell]

    def _label_of(self, row: Sequence[str]) -> str | None:
        if self.label is not None and self.several:
            return joined_labels(self._parts(_cell(row, self.label)))
        if self.label is not None:
            return _WHOLE.sub(r"\1", _cell(row, self.label)) or None
        hot = [column for column in self.hot if _TRUTHS[_cell(row, column).lower()]]
        if self.several:
            return joined_labels(self._title(column) for column in hot)
        return self._title(hot[0]) if len(hot) == 1 else None

    def _header(self, row: list[str], options: DataOptions) -> list[str] | None:
        words = [_word(cell) for cell in row]
        known = {*IMAGE_COLUMNS, *LABEL_COLUMNS, *SPLIT_COLUMNS}
        asked = {options.image_column, options.label_column} - {None}
        named = any(word in known for word in words) or asked & set(row)
        return row if named and not any(self.find(cell) is not None and "." in cell for cell in row) else None

    def _title(self, column: int) -> str:
        if self.head is not None and column < len(self.head) and self.head[column]:
            return shown(self.head[column])
        return f"in column {column + 1}"

    def _named(self, words: Sequence[str], fits: Callable[[int], bool]) -> int | None:
        if self.head is None:
            return None
        titles = [_word(cell) for cell in self.head]
        return next((titles.index(word) for word in words if word in titles and fits(titles.index(word))), None)

    def _asked(self, column: str) -> int | None:
        if self.head is not None and column in self.head:
            return self.head.index(column)
        if column.isdecimal() and 1 <= int(column) <= self.width:
            return int(column) - 1
        return None

    def _file(self, asked: str | None, given: bool) -> int | None:
        if asked is not None:
            column = self._asked(asked)
            if column is None and given:
                raise DataError(f"{self.place}: image_column: there is no column {asked!r}", f"it has: {self._titles()}")
            return column
        column = self._named(IMAGE_COLUMNS, lambda c: self._share(c) >= ENOUGH)
        if column is not None:
            return column
        best = max(range(self.width), key=lambda c: self._share(c, 50))
        return best if self._share(best, 50) >= ENOUGH else self._named(IMAGE_COLUMNS, lambda c: given or self._share(c) > 0)

    def _share(self, column: int, most: int = 500) -> float:
        """Share of rows, evenly taken, whose cell in ``column`` names a file."""
        some = self.cells[:: max(1, len(self.cells) // most)]
        return sum(self.find(_cell(row, column)) is not None for _, row in some) / max(1, len(some))

    def _all(self, column: int, holds: Callable[[str], bool]) -> bool:
        values = {_cell(row, column) for _, row in self.cells} - {""}
        return bool(values) and all(map(holds, values))

    def _labels(self, asked: str | None) -> None:
        if asked is not None:
            self.label = self._asked(asked)
            if self.label is None:
                raise DataError(f"{self.place}: label_column: there is no column {asked!r}", f"it has: {self._titles()}")
            return
        rest = [column for column in range(self.width) if column not in (self.file, self.split, *self.further)]
        self.label = self._named(LABEL_COLUMNS, lambda c: c in rest)
        if self.label is not None:
            self.label = self._in_words(self.label, rest)
            return
        hot = [column for column in rest if self._all(column, lambda value: value.lower() in _TRUTHS)]
        if len(hot) > 1 and self.head is not None:
            sums = Counter(sum(_TRUTHS[_cell(row, column).lower()] for column in hot) for _, row in self.cells)
            if self.several or sums[1] == sums.total():
                self.hot = hot
                return
            raise DataError(
                f"{self.place}: {sums.total() - sums[1]:,} of {sums.total():,} rows have several labels or none "
                f"in the columns {few([self._title(c) for c in hot], 4)}",
                f"a classifier learns one label {self.wanted.one}: say which column is it with --set data.label_column=NAME, or that there "
                f"may be several at once: {MULTILABEL}",
            )
        if self.head is None:
            rest = [column for column in rest if not self._all(column, _is_number)] or rest
        classes = rest if len(rest) == 1 else [column for column in rest if self._may_be_classes(column)]
        if len(classes) == 1:
            self.label = classes[0]
            return
        raise DataError(
            f"{self.place}: cannot tell which column is the label (columns: {self._titles()})",
            f"say which: --set data.label_column={'NAME' if self.head is not None else 'its number, from 1'}",
        )

    def _may_be_classes(self, column: int) -> bool:
        values = [value for _, row in self.cells for value in self._parts(_cell(row, column)) if value]
        return len(set(values)) > 1 and not _too_many(values)

    def _in_words(self, label: int, rest: Sequence[int]) -> int:
        """The column that says in words what ``label`` says in numbers, where there is one; else ``label``."""
        if not self._all(label, _is_number):
            return label
        numbers = [_cell(row, label) for _, row in self.cells]
        for column in rest:
            if (
                self.head is not None
                and column < len(self.head)
                and _word(self.head[column]) in LABEL_COLUMNS
                and not self._all(column, _is_number)
            ):
                words = [_cell(row, column) for _, row in self.cells]
                if len(set(zip(numbers, words, strict=True))) == len(set(numbers)) == len(set(words)):
                    return column
        return label

    def _titles(self) -> str:
        return few([self._title(column) for column in range(self.width)], 12)


def _cell(row: Sequence[str], column: int | None) -> str:
    return row[column] if column is not None and column < len(row) else ""


def _too_many(labels: Sequence[str]) -> bool:
    return len(set(labels)) > MANY and 2 * len(set(labels)) > len(labels)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _word(title: str) -> str:
    return re.sub(r"[\W_]+", "", title).lower()


# rows and files --------------------------------------------------------------------------------------


def _matched(table: Table, finder: Finder, several: bool) -> Table:
    near = finder.near(table.path)
    conflicts = []
    for row in table.rows:
        i = finder.find(row.file, near)
        if i is None:
            table.missing.append(row.file)
            continue
        if several:  # what begins somewhere in the file is not said of all of it
            seen = table.files.get(i)
            whole = [one.label for one in (seen, row) if one is not None and one.label is not None and (one is seen or not row.start)]
            nothing = not whole and not row.start
            together = joined_labels(label for text in whole for label in parts_of(text))
            table.files[i] = replace(seen or row, label=None if nothing else together)
            if row.start:
                table.parts.setdefault(i, []).append(row)
            continue
        before = table.files.setdefault(i, row)
        if row.start:
            table.parts.setdefault(i, []).append(row)
        elif before.label != row.label:
            conflicts.append((row, before))
    if conflicts:
        row, before = conflicts[0]
        table.faults.append(
            DataError(
                f"{shown(table.path)}: line {row.line}: {shown(row.file)} is {shown(row.label or 'without a label')} here and "
                f"{shown(before.label or 'without one')} in line {before.line}"
                + (f"; so are {len(conflicts) - 1:,} further lines" if len(conflicts) > 1 else ""),
                f"give each {finder.wanted.kind} one label; {finder.wanted.parts}; if it has several at once: {MULTILABEL}",
            )
        )
    return table


def missing_note(table: Table, kind: str) -> str | None:
    """What to say about rows without a file."""
    if not table.missing:
        return None
    rows = f"{len(table.missing):,} of {plural(len(table.rows), 'row')}"
    return f"{shown(table.path)}: {rows} name no {kind} that is there, such as {shown(table.missing[0])}"


def is_meant(table: Table, files: int) -> bool:
    """Whether enough of its rows name a file, and enough of all ``files`` are named: a list of classes has numbers too."""
    named = len(table.files)
    return named >= MANY_NAMED or (named >= ENOUGH * max(1, len(table.rows)) and named >= FEW_NAMED * files)


def splits_by_name(tables: Iterable[Table]) -> dict[str, str]:
    """The split of each table that is called after one, where they are called after several."""
    named = {table.path: value for table in tables if (value := value_of(Path(table.path).stem))}
    return named if len(set(named.values())) > 1 else {}
