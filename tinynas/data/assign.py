"""Which split each record is in: the one its source gives, or one that is carved out of the training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinynas.data.groups import Groups, joined
from tinynas.data.options import DataOptions
from tinynas.data.records import Record
from tinynas.data.split import SPLITS, strata_of
from tinynas.data.splits import carve
from tinynas.errors import DataError


@dataclass(frozen=True)
class Plan:
    """What is to be done about the splits of a source."""

    given: list[str]
    """The split of each record before anything is carved: "train" where the source gives none."""
    shares: dict[str, float]
    """What is carved out of "train", in this order; empty for nothing."""
    why: str
    """For the note."""


def assign(
    name: str,
    records: Sequence[Record],
    targets: NDArray[np.int64],
    groups: Groups | None,
    options: DataOptions,
    seed: int,
    said: list[str],
    kind: str,
) -> list[str]:
    """The split of each record. Records with equal content or of one group are carved to the same side.

    Raises DataError where there is nothing to train on.
    """
    if not records:
        return []
    plan = plan_splits(name, [record.split for record in records], options, kind)
    if not plan.shares:
        return plan.given
    rows = np.array([i for i, split in enumerate(plan.given) if split == "train"], dtype=np.int64)
    keys = joined([records[i].digest for i in rows], None if groups is None else groups.of[rows].tolist(), [records[i].name for i in rows])
    found = carve(strata_of(targets)[rows], keys, plan.shares, seed)
    result = list(plan.given)
    for i, split in zip(rows, found, strict=True):
        result[i] = str(split)
    made = ", ".join(f"{100 * share:g} % {split}" for split, share in plan.shares.items())
    how = f"stratified, seed {seed}"
    if groups is not None:
        got = ", ".join(f"{100 * np.mean(found == split):.1f} % {split}" for split in plan.shares)
        how = f"stratified in {len(set(keys)):,} groups: {got}; seed {seed}"
    said.append(f"{plan.why}; carved from the training {kind}s: {made} ({how})")
    return result


def plan_splits(name: str, given: Sequence[str | None], options: DataOptions, kind: str) -> Plan:
    """Which splits are missing, and how they come about. Raises DataError where there is nothing to train on."""
    splits = [split or "train" for split in given]
    has = set(splits) & set(SPLITS)
    if has == {"train"} or not splits:
        return Plan(splits, {"test": options.test_share, "val": options.val_share}, f"no test or validation {kind}s given")
    if "train" not in has and options.judged:
        return Plan(splits, {}, "")
    if "train" not in has:
        found = " and ".join(sorted(has or set(splits)))
        raise DataError(f"{name}: there are {found} {kind}s but no training {kind}s", "add a train/ folder or split")
    if "val" not in has:
        return Plan(splits, {"val": options.val_share}, f"no validation {kind}s given")
    if "test" not in has:
        # The validation part of a set without a test split is usually its published yardstick: it becomes the test.
        splits = ["test" if split == "val" else split for split in splits]
        return Plan(splits, {"val": options.val_share}, "val/ is the test split (read once, at the end)")
    return Plan(splits, {}, "")
