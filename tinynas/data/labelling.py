"""Which label each file of a tree has: its class folder's, a table's, or its file name's, and what is said where these differ."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tinynas.data.foreign import CROP, box_layout
from tinynas.data.labels import parts_of
from tinynas.data.layout import Found, Reading, few, shown
from tinynas.data.options import DataOptions
from tinynas.data.partnames import HOLDERS, only, words
from tinynas.data.records import plural
from tinynas.data.table import Finder, Table, TableFault, candidates, is_meant, missing_note, read_table, splits_by_name
from tinynas.data.walk import Folder, regular
from tinynas.errors import DataError

AGREES = 0.95
"""Share of the images with a label of both kinds at which folders and table say the same."""
COVERS = 0.9
"""A table that says otherwise than the folders is believed where it is about this share of all images."""
ASIDE_BYTES = 32 * 1024 * 1024
"""Larger tables are not looked at where folders say the classes."""
MOST_NAMES = 1000
"""Classes that file names may give."""
CAMERA = HOLDERS | words(
    "dsc dscn dscf img pxl mvimg dcim gopr dji vid video frame frames screenshot screen shot whatsapp capture cam camera scan page p "
    "untitled download unnamed sdc cimg pict left right front back rgb depth ir copy date time"
)
"""What cameras and programs call files: no classes."""
_DOTTED = re.compile(r"^([^\W\d][^.]*)\.[^.]+(\.[^/]*)?\.[^.]+$")
_NUMBERED = re.compile(r"^([^\W\d_](?:[^\d/]*[^\W\d_])?)[\s_\-.]*[(\[]?\d+[)\]]?\.[^.]+$")


def label_files(name: str, root: Path, tree: Folder, reading: Reading, options: DataOptions, given: str | None) -> None:
    """Give every file of ``reading`` that has one its label; decisions go to its notes, what is wrong to its faults.

    ``given`` is the one table that was asked for (a path inside ``root``), None to look for some. Raises DataError where that
    cannot be read.
    """
    if options.label_pattern is not None:
        _by_pattern(name, reading, options.label_pattern)
        return
    if given is not None:
        table = read_table(name, root, given, Finder(reading.files, reading.wanted), options, given=True)
        if table is None or not table.files:
            example = f", such as {shown(table.rows[0].file)}" if table is not None and table.rows else ""
            near = f"; {reading.wanted.one} there is called {shown(reading.files[0].path)}" if reading.files else ""
            raise DataError(
                f"{name}/{shown(given)}: no row names {reading.wanted.one} below {name}{example}",
                f"give a file with a header such as file_name,label and a line for each {reading.wanted.kind}, "
                f"beside or above the {reading.wanted.kinds}{near}",
            )
        _apply(name, [table], reading, believed=True)
        _say_several(reading, options)
        return
    refused: list[DataError] = []
    tables = _tables(name, root, tree, reading, options, refused)
    if tables:
        # Folders have one label each: where there may be several, a table is what says them.
        _apply(name, tables, reading, believed=options.multilabel)
        _say_several(reading, options)
    if reading.alone is not None and only(Path(reading.alone).name, HOLDERS):
        _nothing_says(reading)
    if (reading.alone is None and reading.labelled()) or _by_names(reading):
        return
    if refused:
        _nothing_says(reading)
        reading.faults += refused
    else:
        _say_unlabelled(name, root, tree, reading)


def _nothing_says(reading: Reading) -> None:
    """A folder called ``images`` is no class."""
    if reading.alone is not None:
        for found in reading.files:
            found.label = None
        reading.classes = {}


# an expression ----------------------------------------------------------------------------------------


def _by_pattern(name: str, reading: Reading, pattern: str) -> None:
    search = re.compile(pattern).search
    for found in reading.files:
        match = search(found.path)
        found.label = (match[1] or None) if match else None
    _forget_folders(reading)
    labels = {found.label for found in reading.files if found.label is not None}
    if not labels:
        example = f"a name looks like this: {shown(reading.files[0].path)}" if reading.files else f"there are no {reading.wanted.kinds}"
        raise DataError(f"{name}: label_pattern: {pattern!r} matches none of the names", example)
    reading.notes.append(f"labels by label_pattern {pattern!r}: {len(labels):,} classes")


def _forget_folders(reading: Reading) -> None:
    """Folders are no classes any more: others say it."""
    reading.classes, reading.alone = {}, None


# tables -----------------------------------------------------------------------------------------------


def _tables(name: str, root: Path, tree: Folder, reading: Reading, options: DataOptions, refused: list[DataError]) -> list[Table]:
    """The tables that are about the images; why others cannot be used goes to ``refused``."""
    found = []
    paths = candidates(tree)
    if reading.alone is None and reading.labelled():
        paths = [path for path in paths if regular(root / path) and (root / path).stat().st_size <= ASIDE_BYTES]
    if not paths:
        return []
    finder = Finder(reading.files, reading.wanted)
    for path in paths:
        try:
            table = read_table(name, root, path, finder, options, given=False)
        except TableFault:
            raise
        except DataError as error:
            refused.append(error)
            continue
        if table is not None and table.files and is_meant(table, len(reading.files)):
            found.append(table)
    return found


def _apply(name: str, tables: Sequence[Table], reading: Reading, *, believed: bool) -> None:
    reading.tables = {table.path for table in tables}
    splits = splits_by_name(tables)
    labels: dict[int, str] = {}
    parts: dict[int, str | None] = {}
    for table in tables:
        for i, row in table.files.items():
            if row.label is None:
                continue
            if labels.setdefault(i, row.label) != row.label and not table.faults:
                table.faults.append(
                    DataError(
                        f"{shown(table.path)}: line {row.line}: {shown(row.file)} is {shown(row.label)} here and "
                        f"{shown(labels[i])} in another table",
                        f"give one of them: --data {name}/{shown(tables[0].path)}",
                    )
                )
            parts.setdefault(i, row.split or splits.get(table.path))
            reading.files[i].rows = tuple(table.parts.get(i, (row,)))
    names = few([shown(table.path) for table in tables], 3)
    both = Counter((str(found.label), labels[i]) for i, found in enumerate(reading.files) if found.label is not None and i in labels)
    if believed or reading.alone is not None or not reading.labelled():
        _take(tables, labels, parts, reading)
        reading.notes.append(f"labels from {names} ({tables[0].said})")
        return
    to_folder = _one_to_one(both)
    agree = sum(count for (folder, label), count in both.items() if to_folder.get(label) == folder)
    if both and agree < AGREES * both.total():
        if len(labels) >= COVERS * len(reading.files):
            _take(tables, labels, parts, reading)
            reading.notes.append(
                f"labels from {names} ({tables[0].said}), which are others than the folders' names: "
                "to go by the folders, take the table away"
            )
        else:
            reading.notes.append(
                f"{names} says other labels for {plural(both.total() - agree, reading.wanted.kind)}: the folders are believed"
            )
        return
    filled = 0
    for i, found in enumerate(reading.files):
        if i in labels and found.label is None:
            found.label = to_folder.get(labels[i], labels[i])
            filled += 1
        if found.split is None and parts.get(i) is not None:
            found.split = parts[i]
    if filled:
        reading.notes.append(f"labels of {plural(filled, reading.wanted.kind)} in no class folder are from {names}")


def _say_several(reading: Reading, options: DataOptions) -> None:
    """A note where labels look like several in one, and nobody said that they are."""
    like = [str(found.label) for found in reading.files if found.label is not None and len(parts_of(found.label)) > 1]
    if like and not options.multilabel:
        reading.notes.append(
            f"labels such as {shown(like[0])} ({len(like):,}) are one class each; if they are several at once: --set data.multilabel=true"
        )


def _one_to_one(both: Counter[tuple[str, str]]) -> dict[str, str]:
    """The folder of each label of a table, where each is most often with the other."""
    of_label: dict[str, Counter[str]] = defaultdict(Counter)
    of_folder: dict[str, Counter[str]] = defaultdict(Counter)
    for (folder, label), count in both.items():
        of_label[label][folder] += count
        of_folder[folder][label] += count
    best = {label: found.most_common(1)[0][0] for label, found in of_label.items()}
    return {label: folder for label, folder in best.items() if of_folder[folder].most_common(1)[0][0] == label}


def _take(tables: Sequence[Table], labels: dict[int, str], parts: dict[int, str | None], reading: Reading) -> None:
    _forget_folders(reading)
    for i, found in enumerate(reading.files):
        found.label = labels.get(i)
        found.split = parts.get(i) or found.split
    for table in tables:
        reading.faults += table.faults
        note = missing_note(table, reading.wanted.kind)
        if note is not None:
            reading.notes.append(note)


# file names -------------------------------------------------------------------------------------------


def _by_names(reading: Reading) -> bool:
    """Labels from names such as cat.0.jpg and american_bulldog_12.jpg, where nearly all training images are called so."""
    names = [found.path.rpartition("/")[2] for found in reading.files]
    train = [i for i, found in enumerate(reading.files) if found.split in (None, "train")]
    for rule in (_DOTTED, _NUMBERED):
        labels = {i: match[1] for i, text in enumerate(names) if (match := rule.match(text))}
        counts = Counter(labels[i] for i in train if i in labels)
        if (
            counts.total() >= AGREES * max(1, len(train))
            and 2 <= len(counts) <= MOST_NAMES
            and min(counts.values()) >= 2
            and counts.total() >= 4 * len(counts)
            and not any(only(label, CAMERA) for label in counts)
        ):
            first = next(i for i in train if i in labels)
            for i, found in enumerate(reading.files):
                found.label = labels[i] if labels.get(i) in counts else None
            _forget_folders(reading)
            reading.notes.append(
                f"labels from the file names ({shown(names[first])} is of {shown(labels[first])}); "
                "another rule: --set data.label_pattern=EXPRESSION"
            )
            return True
    return False


# nothing says it --------------------------------------------------------------------------------------


def _say_unlabelled(name: str, root: Path, tree: Folder, reading: Reading) -> None:
    if not reading.files or reading.faults:
        return
    layout, count = box_layout(root, tree), plural(len(reading.files), reading.wanted.kind)
    if layout is not None:
        _nothing_says(reading)
        vww = "; for person or no person: tinynas data prepare vww --coco FOLDER" if layout.startswith("COCO") else ""
        reading.faults.append(
            DataError(
                f"{name}: {shown(layout)} says where things are in the {count}, not what each shows",
                CROP + vww,
            )
        )
        return
    if reading.labelled():
        return
    splits = [*dict.fromkeys(found.path.split("/")[0] for found in sorted(reading.files, key=_train_first) if found.split is not None)]
    where = f" in {few([shown(split) + '/' for split in splits], 3)}" if splits else ""
    example = f"{name}/{shown(splits[0])}" if splits else name
    above = [path.name for path in _tables_above(root)]
    matlab = [folder.inside(other) for folder in tree.below() for other in folder.others if other.lower().endswith(".mat")]
    remedy = (
        f"sort them into folders, such as {example}/{reading.wanted.examples[0]} and {example}/{reading.wanted.examples[1]}; "
        f"or write a table {name}/labels.csv with the columns file_name,label"
    )
    if above:
        remedy = f"if {shown(above[0])} beside the folder says it: --data {shown(str(root.parent / above[0]))}; or {remedy}"
    if matlab:
        remedy = f"{shown(matlab[0])} may say it, but MATLAB files are not read: write it as a table; {remedy}"
    reading.faults.append(
        DataError(
            f"{name}: holds {count}{where} but no class folders, so nothing says what they show "
            f"(the first: {shown(reading.files[0].path)})",
            f"{remedy}; or, where the file names say it: {_pattern_for(reading.files[0].path.rpartition('/')[2])}",
        )
    )


def _pattern_for(name: str) -> str:
    """A pattern that takes the first part of names like this one, with what it makes of it; letters where it has no parts."""
    parts = re.match(r"[^_\-. ]+([_\-. ])(?=.*[_\-. ])", name)
    expression = "([a-z]+)" if parts is None else f"^([^{parts[1]}]+)" + parts[1].replace(".", r"\.")
    found = re.search(expression, name)
    told = f" ({shown(name)} is then of {shown(found[1])}; another part, another expression)" if found is not None else ""
    return f"--set 'data.label_pattern={expression}'{told}"


def _train_first(found: Found) -> bool:
    return found.split != "train"


def _tables_above(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.resolve().parent.iterdir() if path.suffix.lower() in (".csv", ".tsv", ".jsonl"))
    except OSError:
        return []
