"""Who is served badly: how a model does on parts of the test, such as distance, light, or what a CSV of attributes says of own images.

Wake Vision's benchmark compares, for each part, people of that part with images without a person (for light: without a
person in the same light; for depictions: with real people), as an F1 score. Accuracy, recall and false alarms stand beside it with
their intervals, and whether the parts of a group differ by more than chance, because an F1 of 30 images says little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas import metrics
from tinynas.data.attributes import group_of, part_name
from tinynas.data.dataset import DataSet
from tinynas.errors import DataError


@dataclass(frozen=True)
class Subset:
    """One part: its images have ``flag`` (and the person label, where ``person`` says so); compared with ``against``."""

    flag: str
    person: bool | None
    """Label its images must have; None for any (the benchmark takes the flag alone)."""
    against: str
    """``no_person``; ``same``, no person with the same flag; or ``person``, real people (for depictions)."""


GROUPS: dict[str, dict[str, Subset]] = {
    "distance": {
        "near": Subset("near", None, "no_person"),
        "medium": Subset("medium_distance", None, "no_person"),
        "far": Subset("far", None, "no_person"),
    },
    "lighting": {
        "dark": Subset("dark", True, "same"),
        "normal": Subset("normal_lighting", True, "same"),
        "bright": Subset("bright", True, "same"),
    },
    "depiction": {
        "of a person": Subset("person_depiction", None, "person"),
        "of something else": Subset("non-person_depiction", None, "person"),
        "none": Subset("non-person_non-depiction", None, "person"),
    },
    "perceived gender": {
        "female": Subset("predominantly_female", None, "no_person"),
        "male": Subset("predominantly_male", None, "no_person"),
        "unknown": Subset("gender_unknown", None, "no_person"),
    },
    "perceived age": {
        "young": Subset("young", None, "no_person"),
        "middle": Subset("middle_age", None, "no_person"),
        "older": Subset("older", None, "no_person"),
        "unknown": Subset("age_unknown", None, "no_person"),
    },
}
"""The groups of Wake Vision's fine-grained benchmark."""


def has_parts(data: DataSet) -> bool:
    """Whether :func:`subset_report` knows parts of ``data``."""
    theirs = PERSON in data.labels and any(subset.flag in data.attributes for subsets in GROUPS.values() for subset in subsets.values())
    return theirs or any(group_of(name) is not None for name in data.attributes)


def splits_for(data: DataSet, split: str) -> tuple[str, ...]:
    """The splits whose predictions :func:`subset_report` needs: ``split``, and ``far`` with the test where there is one."""
    return (split, "far") if split == "test" and "far" in data.members else (split,)


@dataclass(frozen=True)
class Part:
    """One part of the images that are judged; arrays (N,) say of each image whether it counts."""

    group: str
    name: str
    inside: NDArray[np.bool_]
    """What its accuracy is of."""
    flag: NDArray[np.bool_]
    """Where its recall and its false alarms are looked for."""
    against: NDArray[np.bool_] | None
    """Of Wake Vision's parts the images that its F1 compares with."""


def subset_report(data: DataSet, predicted: Mapping[str, NDArray[np.int64]]) -> dict[str, dict[str, Any]]:
    """How the parts that the attributes of ``data`` make are served; {"light: dark": {...}, ...}, parts without an image left out.

    ``predicted`` holds class numbers for each split of :func:`splits_for`, in its order. Of each part: ``group``, ``part``, ``n`` and
    ``accuracy``; of two classes (see :attr:`DataSet.positive`) ``recall`` and ``false_alarms`` over its positive and its negative images,
    None without one; each with ``_interval``, [low, high] (95 %), and the two also with ``_n``. ``behind``: points of accuracy below the
    best part of its group. Wake Vision's parts also have the benchmark's ``f1`` (None where there is nothing to compare with) and
    ``against_n``. Raises DataError where the data have no attributes of which parts can be made.
    """
    rows = np.concatenate([data.rows(split) for split in predicted])
    answers = np.concatenate([np.asarray(values) for values in predicted.values()])
    if len(answers) != len(rows):
        raise DataError(f"{len(answers)} predictions for {len(rows)} images", "predict every image of the split, in its order")
    truth, positive = data.targets[rows], data.positive
    found: dict[str, dict[str, Any]] = {}
    for part in _parts(data, rows):
        if part.inside.any():
            found[part_name(part.group, part.name)] = _judged(part, truth, answers, positive)
    for entry in found.values():
        best = max(other["accuracy"] for other in found.values() if other["group"] == entry["group"])
        entry["behind"] = 100 * (best - entry["accuracy"])
    return found


#: Figure -> whether more of it is better.
FIGURES = {"accuracy": True, "recall": True, "false_alarms": False}


def gap_report(report: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each group of :func:`subset_report`, and each figure, the pair of parts that are furthest apart, and whether that is noise.

    ``group``, ``figure``, ``best`` and ``worst`` part, ``points`` between them, ``p`` (Fisher's exact test, two-sided, corrected by Holm's
    method over all pairs of parts and all figures that were compared), and ``more_than_noise``: p below 0.05.
    """
    pairs: list[tuple[str, str, str, str, float, float]] = []
    for figure, higher in FIGURES.items():
        shares = {name: share for name, entry in report.items() if (share := _share(entry, figure)) is not None}
        for one, other in combinations(shares, 2):
            if report[one]["group"] != report[other]["group"]:
                continue
            good, bad = (one, other) if (shares[one].value >= shares[other].value) == higher else (other, one)
            distance = 100 * abs(shares[one].value - shares[other].value)
            pairs.append((report[one]["group"], figure, good, bad, distance, metrics.fisher(shares[one], shares[other])))
    corrected = metrics.holm([pair[-1] for pair in pairs])
    largest: dict[tuple[str, str], dict[str, Any]] = {}
    for (group, figure, good, bad, points, _), p in zip(pairs, corrected, strict=True):
        if (group, figure) not in largest or points > largest[group, figure]["points"]:
            best, worst = report[good]["part"], report[bad]["part"]
            more = p < 1 - metrics.CONFIDENCE
            gap = {"group": group, "figure": figure, "best": best, "worst": worst, "points": points, "p": p, "more_than_noise": more}
            largest[group, figure] = gap
    return list(largest.values())


def worst_accuracy(report: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The accuracy of the part that is served worst; None without parts. Parts of fewer images than :data:`FEWEST` do not count."""
    return min((entry["accuracy"] for entry in report.values() if entry["n"] >= FEWEST), default=None)


FEWEST = 10
"""Images of a part below which its accuracy decides nothing: one more or less is ten points."""


def _share(entry: Mapping[str, Any], figure: str) -> metrics.Share | None:
    n = entry["n"] if figure == "accuracy" else entry[f"{figure}_n"]
    return metrics.Share(round(entry[figure] * n), n) if n else None


def _parts(data: DataSet, rows: NDArray[np.int64]) -> list[Part]:
    """The parts that the attributes of ``data`` make of the images ``rows``: Wake Vision's, and those of ``data.attributes``."""
    if not data.attributes:
        raise DataError(
            f"{data.name}: its images have no attributes",
            "say them in a CSV file: --set data.attributes=FILE; Wake Vision has its own: tinynas data prepare wake-vision",
        )
    flags = {name: values[rows] == 1 for name, values in data.attributes.items()}
    found = []
    if PERSON in data.labels:
        is_person = data.targets[rows] == data.labels.index(PERSON)
        for group, subsets in GROUPS.items():
            for name, subset in subsets.items():
                if subset.flag in flags:
                    found.append(_benchmarked(group, name, subset, flags[subset.flag], is_person))
    for attribute, flag in flags.items():
        if (named := group_of(attribute)) is not None:
            found.append(Part(*named, flag, flag, None))
    if not found:
        raise DataError(
            f"{data.name}: no parts can be made of its attributes ({', '.join(data.attributes)})",
            f"Wake Vision's are of data with a class {PERSON!r}; its classes: {', '.join(data.labels)}",
        )
    return found


PERSON = "person"
"""The class that Wake Vision's benchmark looks for."""


def _benchmarked(group: str, name: str, subset: Subset, flag: NDArray[np.bool_], is_person: NDArray[np.bool_]) -> Part:
    inside = flag & is_person if subset.person else flag
    against = {"no_person": ~is_person, "same": ~is_person & flag, "person": is_person}[subset.against] & ~inside
    return Part(group, name, inside, flag, against)


def _judged(part: Part, truth: NDArray[np.int64], answers: NDArray[np.int64], positive: int | None) -> dict[str, Any]:
    right = answers == truth
    accuracy = metrics.share(right[part.inside])
    assert accuracy is not None
    entry: dict[str, Any] = {"group": part.group, "part": part.name, "n": accuracy.of} | metrics.named("accuracy", accuracy)
    yes = None if positive is None else (truth[part.flag] == positive, answers[part.flag] == positive)
    for name, count in (("recall", metrics.recall), ("false_alarms", metrics.false_alarms)):
        share = None if yes is None else count(*yes)
        entry |= metrics.named(name, share) | {f"{name}_n": 0 if share is None else share.of}
    if part.against is not None:
        entry |= {"against_n": int(part.against.sum()), "f1": _f1(accuracy.value, right[part.against])}
    return entry


def _f1(hit: float, right: NDArray[np.bool_]) -> float | None:
    if not len(right):
        return None
    false = 1 - float(right.mean())
    return 2 * hit / (2 * hit + false + (1 - hit)) if hit or false else 0.0
