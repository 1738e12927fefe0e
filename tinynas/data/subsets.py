"""How a model does on parts of the test: distance, light, depictions, perceived age and gender. The fairness view.

Wake Vision's benchmark compares, for each part, people of that part with images without a person (for light: without a
person in the same light; for depictions: with real people), as an F1 score. Counts, plain accuracies and the gap between
the best and the worst part of a group stand beside it here, because an F1 of 30 images says little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def splits_for(data: DataSet, split: str) -> tuple[str, ...]:
    """The splits whose predictions :func:`subset_report` needs: ``split``, and ``far`` with the test where there is one."""
    return (split, "far") if split == "test" and "far" in data.members else (split,)


def subset_report(data: DataSet, predicted: Mapping[str, NDArray[np.int64]], *, person: str = "person") -> dict[str, Any]:
    """Accuracy and F1 on each part, with counts, and how far it is behind the best part of its group.

    ``predicted`` holds class numbers for each split of :func:`splits_for`, in its order. The result is
    {"distance: near": {"group", "n", "accuracy", "behind", "against_n", "f1"}, ...}: ``behind`` in points of accuracy; F1
    is None where there is nothing to compare with; parts without an image are left out. Raises DataError where the data
    has no attributes or no class ``person``.
    """
    if person not in data.labels:
        raise DataError(f"{data.name}: has no class {person!r}", f"its classes: {', '.join(data.labels)}")
    if not data.attributes:
        raise DataError(
            f"{data.name}: its images have no attributes", "subsets are known for Wake Vision: tinynas data prepare wake-vision"
        )
    number = data.labels.index(person)
    rows = np.concatenate([data.rows(split) for split in predicted])
    answers = np.concatenate([np.asarray(values) for values in predicted.values()])
    if len(answers) != len(rows):
        raise DataError(f"{len(answers)} predictions for {len(rows)} images", "predict every image of the split, in its order")
    is_person = data.targets[rows] == number
    says_person = answers == number
    flags = {name: values[rows] == 1 for name, values in data.attributes.items()}
    report: dict[str, Any] = {}
    for group, parts in GROUPS.items():
        found = {}
        for part, subset in parts.items():
            if subset.flag not in flags:
                continue
            inside = flags[subset.flag] & (is_person if subset.person else True)
            if inside.any():
                found[part] = _compare(subset, inside, flags[subset.flag], is_person, says_person)
        best = max((entry["accuracy"] for entry in found.values()), default=0.0)
        for part, entry in found.items():
            report[f"{group}: {part}"] = {"group": group, **entry, "behind": 100 * (best - entry["accuracy"])}
    return report


def _compare(
    subset: Subset, inside: NDArray[np.bool_], flag: NDArray[np.bool_], is_person: NDArray[np.bool_], says_person: NDArray[np.bool_]
) -> dict[str, Any]:
    against = {"no_person": ~is_person, "same": ~is_person & flag, "person": is_person}[subset.against] & ~inside
    right = says_person == is_person
    accuracy = float(right[inside].mean())
    f1 = None
    if against.any():
        hit, false = accuracy, 1 - float(right[against].mean())
        f1 = 2 * hit / (2 * hit + false + (1 - hit)) if hit or false else 0.0
    return {"n": int(inside.sum()), "accuracy": accuracy, "against_n": int(against.sum()), "f1": f1}
