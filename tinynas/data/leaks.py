"""What is on both sides of a split: equal records, and groups that straddle."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from tinynas.data.groups import Groups, shown
from tinynas.data.options import DataOptions
from tinynas.data.records import Leak, Record, Straddle, plural
from tinynas.data.split import SPLITS


@dataclass(frozen=True)
class Leaks:
    """What was found, and the positions of the records that the options leave out for it."""

    leaks: tuple[Leak, ...]
    straddles: tuple[Straddle, ...]
    duplicates: int
    """Records that repeat another one of the same split."""
    dropped: frozenset[int]


def find_leaks(
    records: Sequence[Record], assigned: Sequence[str], groups: Groups | None, options: DataOptions, said: list[str], kind: str
) -> Leaks:
    """Leaks between the splits ``assigned`` to ``records``; what was found is appended to ``said``."""
    equal = _alike([record.digest for record in records])
    leaks, duplicates, conflicting = [], 0, 0
    dropped: set[int] = set()
    for rows in equal:
        where = _by_split(rows, assigned)
        duplicates += sum(len(part) - 1 for part in where.values())
        conflicting += len({records[i].label for i in rows}) > 1
        if len(where) > 1:
            leaks.append(Leak({split: tuple(sorted(records[i].name for i in part)) for split, part in where.items()}))
            dropped |= _learnt(where)
    straddles = []
    of_groups: set[int] = set()
    for rows in [] if groups is None else _alike(groups.of.tolist()):
        where = _by_split(rows, assigned)
        if groups is not None and len(where) > 1:
            straddles.append(Straddle(shown(groups.names[groups.of[rows[0]]]), {split: len(part) for split, part in where.items()}))
            of_groups |= _learnt(where)
    straddles.sort(key=lambda straddle: straddle.group)
    drops = options.leaks == "drop"
    if leaks:
        said.append(f"leakage: {plural(len(leaks), kind)} in more than one split, byte for byte; {_advice(drops, dropped)}")
    if straddles:
        first = straddles[0]
        example = ", ".join(f"{count:,} in {split}" for split, count in first.splits.items())
        said.append(
            f"leakage: {plural(len(straddles), 'group')} in more than one split, such as {first.group} ({example}): "
            f"{plural(len(of_groups), kind)}; {_advice(drops, of_groups)}"
        )
    if duplicates:
        said.append(f"{plural(duplicates, 'exact duplicate')} inside splits")
    if conflicting:
        said.append(f"{plural(conflicting, kind)} occur under more than one label")
    return Leaks(tuple(leaks), tuple(straddles), duplicates, frozenset(dropped | of_groups) if drops else frozenset())


def _alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """The positions of equal keys, where there are at least two."""
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return [rows for rows in found.values() if len(rows) > 1]


def _by_split(rows: Sequence[int], assigned: Sequence[str]) -> dict[str, list[int]]:
    """``rows`` by split, of the three only: the far set of Wake Vision may repeat anything."""
    return {split: part for split in SPLITS if (part := [i for i in rows if assigned[i] == split])}


def _learnt(where: dict[str, list[int]]) -> set[int]:
    """What has to go for the later splits to be unseen: training for validation and test, validation for the test."""
    return {*where.get("train", ()), *(where.get("val", ()) if "test" in where else ())}


def _advice(drops: bool, rows: set[int]) -> str:
    return f"{len(rows):,} left out" if drops else "--set data.leaks=drop leaves them out of training"
