"""assemble: from what an opener found to a DataSet: labels numbered, splits carved, leaks found."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tinynas.data.assign import assign
from tinynas.data.attributes import read_attributes
from tinynas.data.dataset import DataSet, UnusableData
from tinynas.data.groups import find_groups
from tinynas.data.labels import joined_labels, number_labels, number_several, parts_of
from tinynas.data.leaks import find_leaks
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import Bad, Record, Recording, plural
from tinynas.data.signal import Decoded, Signal
from tinynas.data.split import SPLITS, apportion, class_counts, order_key, strata_of
from tinynas.errors import DataError
from tinynas.files import cache_dir

T = TypeVar("T")
FINGERPRINT = 1
"""Version of the fingerprint; part of what is hashed."""


@dataclass(frozen=True)
class Source:
    """What an opener found."""

    name: str
    """What was opened, for people."""
    signal: Signal
    records: Sequence[Record]
    read: Callable[[int], bytes | Decoded] = field(repr=False)
    """The encoded bytes, or the decoded input, of record ``i``."""
    bad: Sequence[Bad] = ()
    notes: Sequence[str] = ()
    faults: Sequence[DataError] = ()
    """What makes it unusable, where there is something to look at all the same."""
    label_order: Sequence[str] | None = None
    """Its own numbering of classes; alphabetical where None."""
    attributes: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    """Further facts: name to one number a record: 1 yes, 0 no, -1 does not apply."""
    recordings: Mapping[str, Recording] = field(default_factory=dict, repr=False)
    """Of sounds: what records were cut out of, by :attr:`tinynas.data.records.Record.file`."""
    several: bool = False
    """Whether records have all their labels in one text, as :func:`tinynas.data.labels.joined_labels` makes it, where the options say
    ``multilabel``."""


def assemble(
    source: Source, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> DataSet:
    """The :class:`DataSet` of ``source``.

    ``seed`` counts only where ``options.seed`` is None. Raises UnusableData, a DataError that names all that is wrong or missing
    (records, classes, records of a class), and holds what there is.
    """
    name, kind = source.name, source.signal.kind
    draw = seed if options.seed is None else options.seed
    said, faults = list(source.notes), list(source.faults)
    _check_any(source, said, faults)
    if options.multilabel and not source.several:
        raise one_label_each(name, kind)
    labels, numbers = _numbered(source, options, said, faults)
    keep = np.arange(len(numbers)) if options.multilabel else np.flatnonzero(numbers >= 0)
    records, targets = tuple(source.records[int(i)] for i in keep), numbers[keep]
    groups = _tried(lambda: find_groups(name, records, options, said), faults) if records else None
    assigned = _tried(lambda: assign(name, records, targets, groups, options, draw, said, kind), faults)
    split_of = [record.split or "train" for record in records] if assigned is None else assigned
    leaks = find_leaks(records, split_of, groups, options, said, kind)
    own = None
    if options.attributes is not None and records:
        place = options.attributes
        own = _tried(lambda: read_attributes(name, place, records, said), faults)
    if options.positive is not None and (options.positive not in labels or len(labels) != 2):
        rule = f"{options.positive!r} is none of its classes" if len(labels) == 2 else f"is for two classes, and it has {len(labels)}"
        faults.append(DataError(f"{name}: data.positive: {rule}", f"its classes: {', '.join(labels[:5])}"))
    members = _members(records, targets, split_of, leaks.dropped, options.limit, draw, said, kind)
    if assigned is not None and records and not options.judged:
        _check_splits(name, members, targets, labels, said, faults, kind)

    def read(i: int) -> bytes | Decoded:
        return source.read(int(keep[i]))

    data = DataSet(
        name=name,
        signal=source.signal,
        labels=tuple(labels),
        fingerprint=_fingerprint(records, targets, labels),
        notes=tuple(said),
        records=records,
        targets=targets,
        members=members,
        bad=tuple(source.bad),
        leaks=leaks.leaks,
        straddles=leaks.straddles,
        duplicates=leaks.duplicates,
        read=read,
        options=options,
        cache=cache or cache_dir(),
        groups=groups,
        attributes={key: values[keep] for key, values in source.attributes.items()} | (own or {}),
        recordings=source.recordings,
        on_progress=on_progress,
    )
    if faults:
        raise UnusableData(name, faults, data)
    return data


def one_label_each(name: str, kind: str) -> DataError:
    """What to raise where the options say ``multilabel`` of data that cannot be so."""
    return DataError(f"{name}: multilabel: here each {kind} has one label", "leave it out, or write a table of labels (CSV) for a folder")


def _tried(step: Callable[[], T], faults: list[DataError]) -> T | None:
    """What ``step`` gives, None where it finds a fault, which is noted: the next step may find another."""
    try:
        return step()
    except DataError as error:
        faults.append(error)
        return None


def _check_any(source: Source, said: list[str], faults: list[DataError]) -> None:
    kind, bad = source.signal.kind, source.bad
    if bad:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(entry.reason for entry in bad).most_common())
        said.append(f"{len(bad)} bad {kind}{'' if len(bad) == 1 else 's'} left out: {reasons}")
    if not source.records and (bad or not faults):
        faults.append(
            DataError(
                f"{source.name}: none of {plural(len(bad), kind)} can be decoded" if bad else f"{source.name}: holds no {kind}s",
                f"the first: {bad[0].name}: {bad[0].reason}" if bad else f"give a folder with one sub-folder of {kind}s for each class",
            )
        )


def _numbered(source: Source, options: DataOptions, said: list[str], faults: list[DataError]) -> tuple[list[str], NDArray[np.int64]]:
    """Class names and numbers as the options say, or, where those are at fault, as they are found."""
    found, number_all = [record.label for record in source.records], number_several if options.multilabel else number_labels
    if found:
        numbered = _tried(lambda: number_all(source.name, found, options, source.label_order, said, source.signal.kind), faults)
        if numbered is not None:
            return numbered
    if options.multilabel:
        labels = sorted({label for text in found for label in parts_of(text)})
        return labels, np.array([[label in parts_of(text) for label in labels] for text in found], np.int64).reshape(
            len(found), len(labels)
        )
    labels = sorted(set(found))
    number = {label: i for i, label in enumerate(labels)}
    return labels, np.array([number[label] for label in found], dtype=np.int64)


def _members(
    records: Sequence[Record],
    targets: NDArray[np.int64],
    assigned: Sequence[str],
    dropped: frozenset[int],
    limit: int,
    seed: int,
    said: list[str],
    kind: str,
) -> dict[str, NDArray[np.int64]]:
    """The positions of each split's records, in an order that says nothing about the class, the same on every machine."""
    rows: dict[str, list[int]] = {split: [] for split in (*SPLITS, *sorted(set(assigned) - set(SPLITS)))}
    for i, split in enumerate(assigned):
        if i not in dropped:
            rows[split].append(i)
    members = {}
    for split, part in rows.items():
        ordered = np.array(sorted(part, key=lambda i: order_key(seed, records[i].name)), dtype=np.int64)
        if limit and len(ordered) > limit:
            ordered = _limited(ordered, targets, limit)
            said.append(f"{split}: limited to {limit:,} {kind}s")
        members[split] = ordered
    return members


def _limited(rows: NDArray[np.int64], targets: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """The first of ``rows`` of each class, in its share of ``limit``."""
    strata = strata_of(targets[rows])
    quotas = apportion(np.bincount(strata), limit)
    taken = [0] * len(quotas)
    chosen = []
    for row, label in zip(rows, strata.tolist(), strict=True):
        if taken[label] < quotas[label]:
            taken[label] += 1
            chosen.append(row)
    return np.array(chosen, dtype=np.int64)


def _check_splits(
    name: str,
    members: Mapping[str, NDArray[np.int64]],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    said: list[str],
    faults: list[DataError],
    kind: str,
) -> None:
    empty = []
    for split in SPLITS:  # a further one, such as far, may be of one class
        counts = class_counts(targets[members[split]], len(labels))
        missing = [label for label, count in zip(labels, counts, strict=True) if not count]
        if not missing:
            continue
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        if split == "train":
            total = class_counts(targets, len(labels))
            everywhere = not any(total[labels.index(label)] for label in missing)
            faults.append(
                DataError(
                    f"{name}: no {'usable' if everywhere else 'training'} {kind} of class {shown}",
                    f"add {kind}s, or leave the class out with --set data.labels=[...]",
                )
            )
        elif not len(members[split]):
            empty.append(split)
        elif len(missing) == len(labels):
            faults.append(
                DataError(f"{name}: {split}: no {kind} is of any class: nothing could be judged by them", f"add {kind}s with labels")
            )
        else:
            said.append(f"{split}: no {kind} of class {shown}")
    if empty:
        splits = f"the {empty[0]} split" if len(empty) == 1 else f"the splits {' and '.join(empty)}"
        faults.append(DataError(f"{name}: {splits} would be empty", _remedy_empty(kind)))


def _remedy_empty(kind: str) -> str:
    return f"add {kind}s: three of each class are the least that can be split, and three groups where there are groups"


def _fingerprint(records: Sequence[Record], targets: NDArray[np.int64], labels: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([FINGERPRINT, labels]).encode())

    def named(target: NDArray[np.int64]) -> str:
        # Several labels: in brackets, so that a record of one is another thing than a record of a set of one.
        if target.ndim == 0:
            return labels[int(target)]
        return f"[{joined_labels(label for label, there in zip(labels, target, strict=True) if there)}]"

    for line in sorted(f"{r.digest} {named(t)} {r.split}" for r, t in zip(records, targets, strict=True)):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
