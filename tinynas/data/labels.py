"""Which class each record is of: the source's labels, renamed, merged, chosen as the options say."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinynas.data.options import DataOptions
from tinynas.errors import DataError

MAX_CLASSES = 10_000


def number_labels(
    name: str, found: Sequence[str], options: DataOptions, order: Sequence[str] | None, said: list[str], kind: str
) -> tuple[list[str], NDArray[np.int64]]:
    """The class names in order, and the class number of each record, -1 for those of classes that are left out.

    ``found`` are the records' labels; ``order`` the source's own numbering, alphabetical where it has none. What was decided
    is appended to ``said``, in words for a record of ``kind``. Raises DataError: unknown labels, too few or too many classes.
    """
    ordered = _in_order(found, order)
    _check_names(name, ordered, options)
    translate = {label: options.label_map.get(label, label) for label in ordered}
    if options.binary is not None:
        ((positive, parts),) = options.binary.items()
        translate = {label: positive if new in parts else f"no_{positive}" for label, new in translate.items()}
        classes = [f"no_{positive}", positive]
        said.append(f"{positive}: {', '.join(parts)}; everything else is no_{positive}")
    else:
        classes = [*dict.fromkeys(translate.values())]
    if options.labels is not None:
        for label in options.labels:
            _known(name, "labels", label, classes)
        classes = list(options.labels)
    _check_count(name, classes, kind)
    number = {label: i for i, label in enumerate(classes)}
    numbers = np.array([number.get(translate[label], -1) for label in found], dtype=np.int64)
    out = int((numbers < 0).sum())
    if out:
        said.append(f"{out} {kind}s of other classes left out")
    return classes, numbers


def _in_order(found: Sequence[str], order: Sequence[str] | None) -> list[str]:
    present = set(found) | set(order or ())
    # Numbers are classes of that number: "10" comes after "9".
    ranked = sorted(present, key=int) if all(label.isdecimal() for label in present) else sorted(present)
    return [*dict.fromkeys([*(order or ()), *ranked])]


def _check_names(name: str, labels: Sequence[str], options: DataOptions) -> None:
    for label in options.label_map:
        _known(name, "label_map", label, labels)
    renamed = {options.label_map.get(label, label) for label in labels}
    for parts in (options.binary or {}).values():
        for label in parts:
            _known(name, "binary", label, renamed)


def _known(name: str, option: str, label: str, known: Iterable[str]) -> None:
    if label not in (labels := set(known)):
        near = difflib.get_close_matches(label, sorted(labels), n=1)
        shown = ", ".join(sorted(labels)[:20]) + (" ..." if len(labels) > 20 else "")
        raise DataError(f"{name}: {option}: there is no label {label!r}", f'did you mean "{near[0]}"?' if near else f"labels: {shown}")


def _check_count(name: str, classes: Sequence[str], kind: str) -> None:
    if len(classes) < 2:
        raise DataError(
            f"{name}: all {kind}s have the one class {classes[0]!r}; a classifier needs at least two",
            "add a sub-folder for each further class (such as person/ and no_person/)",
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(f"{name}: {len(classes):,} classes", f"at most {MAX_CLASSES:,} are supported: is each {kind} its own class?")
