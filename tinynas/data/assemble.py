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
from tinynas.data.cache import cache_dir
from tinynas.data.dataset import DataSet, UnusableData
from tinynas.data.groups import find_groups
from tinynas.data.labels import number_labels
from tinynas.data.leaks import find_leaks
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import Bad, Record, Recording, plural
from tinynas.data.signal import Decoded, Signal
from tinynas.data.split import SPLITS, apportion, order_key
from tinynas.errors import DataError

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
    labels, numbers = _numbered(source, options, said, faults)
    keep = np.flatnonzero(numbers >= 0)
    records, targets = tuple(source.records[int(i)] for i in keep), numbers[keep]
    groups = _tried(lambda: find_groups(name, records, options, said), faults) if records else None
    assigned = _tried(lambda: assign(name, records, targets, groups, options, draw, said, kind), faults)
    split_of = [record.split or "train" for record in records] if assigned is None else assigned
    leaks = find_leaks(records, split_of, groups, options, said, kind)
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
        attributes={key: values[keep] for key, values in source.attributes.items()},
        recordings=source.recordings,
        on_progress=on_progress,
    )
    if faults:
        raise UnusableData(name, faults, data)
    return data


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
    found = [record.label for record in source.records]
    if found:
        numbered = _tried(lambda: number_labels(source.name, found, options, source.label_order, said, source.signal.kind), faults)
        if numbered is not None:
            return numbered
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
    quotas = apportion(np.bincount(targets[rows]), limit)
    taken = [0] * len(quotas)
    chosen = []
    for row in rows:
        label = int(targets[row])
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
        counts = np.bincount(targets[members[split]], minlength=len(labels))
        missing = [label for label, count in zip(labels, counts, strict=True) if not count]
        if not missing:
            continue
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        if split == "train":
            everywhere = not any((targets == labels.index(label)).any() for label in missing)
            faults.append(
                DataError(
                    f"{name}: no {'usable' if everywhere else 'training'} {kind} of class {shown}",
                    f"add {kind}s, or leave the class out with --set data.labels=[...]",
                )
            )
        elif not len(members[split]):
            empty.append(split)
        else:
            said.append(f"{split}: no {kind} of class {shown}")
    if empty:
        splits = f"the {empty[0]} split" if len(empty) == 1 else f"the splits {' and '.join(empty)}"
        faults.append(DataError(f"{name}: {splits} would be empty", _remedy_empty(kind)))


def _remedy_empty(kind: str) -> str:
    return f"add {kind}s: three of each class are the least that can be split, and three groups where there are groups"


def _fingerprint(records: Sequence[Record], targets: NDArray[np.int64], labels: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([FINGERPRINT, labels]).encode())
    for line in sorted(f"{r.digest} {labels[int(t)]} {r.split}" for r, t in zip(records, targets, strict=True)):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
