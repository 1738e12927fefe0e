"""Which class each record is of: the source's labels, renamed, merged, chosen as the options say."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinynas.data.options import DataOptions
from tinynas.errors import DataError, printable

MAX_CLASSES = 10_000


def clean(label: str) -> str:
    """A label as it is known everywhere: in Unicode's composed form (NFC), without blanks around it, and without anything that a
    terminal would obey; bytes that are not UTF-8 are written out (``caf\\xe9``)."""
    return printable(unicodedata.normalize("NFC", label).strip() or label)


PASSIVE = frozenset({"silence", "unknown", "noise", "background"})
"""Classes of sounds that are no events: a stream neither counts them nor tells them."""


def passive_classes(labels: Sequence[str]) -> tuple[int, ...]:
    """Numbers of the classes among ``labels`` that are no events."""
    return tuple(number for number, label in enumerate(labels) if label in PASSIVE)


SEVERAL = ";"
"""Between the labels of a record that has several."""
_BETWEEN = re.compile(r"[;|]")


def parts_of(text: str, separator: str | None = None) -> list[str]:
    """The labels of a cell that may hold several, between ``;``, ``|`` or ``separator``: :func:`clean`, sorted, each once."""
    if separator is not None:
        text = text.replace(separator, SEVERAL)
    return sorted({clean(part) for part in _BETWEEN.split(text) if part.strip()})


def joined_labels(labels: Iterable[str]) -> str:
    """Several labels as one text, the same whatever their order; empty for none. :func:`parts_of` takes it apart."""
    return SEVERAL.join(sorted(set(labels)))


_NOT = ("no", "not", "non", "without")
_NOTHING = frozenset(
    {"background", "empty", "negative", "neg", "none", "normal", "nothing", "off", "other", "others", "absent", "0", "false"}
)


def positive_of(labels: Sequence[str], chosen: str | None = None) -> int | None:
    """Of two classes the number of the one that recall and false alarms are of; None of more.

    ``chosen`` where it is given; else the one whose other is called after it (``no_person``) or after nothing (``background``), else the
    second.
    """
    if len(labels) != 2:
        return None
    if chosen is not None:
        return labels.index(chosen)

    def negative(label: str, other: str) -> bool:
        words = label.casefold().replace("-", "_").replace(" ", "_")
        return words in _NOTHING or any(words.removeprefix(word).lstrip("_") == other.casefold() for word in _NOT if words.startswith(word))

    return 0 if negative(labels[1], labels[0]) and not negative(labels[0], labels[1]) else 1


def unify(
    name: str,
    labels: Sequence[str],
    splits: Sequence[str | None],
    options: DataOptions,
    said: list[str],
    faults: list[DataError],
    kind: str,
) -> dict[str, str]:
    """What each of ``labels`` is called: :func:`clean`, and one name for those that differ by case where they never meet in a split.

    ``train/Cat`` and ``test/cat`` are one class. ``Cat`` and ``cat`` in one split are a fault, unless the options name one of them or
    they are single letters.
    """
    cleaned = {label: clean(label) for label in dict.fromkeys(labels)}
    _say_cleaned(cleaned, said)
    where: dict[str, Counter[str | None]] = defaultdict(Counter)
    for label, split in zip(labels, splits, strict=True):
        where[cleaned[label]][split] += 1
    named = {*options.label_map, *(options.labels or ()), *(part for parts in (options.binary or {}).values() for part in parts)}
    twins: dict[str, list[str]] = defaultdict(list)
    for label in sorted(where):
        twins[label.casefold()].append(label)
    renamed: dict[str, str] = {}
    for same in twins.values():
        if len(same) < 2 or named & set(same):
            continue
        if all(not where[one].keys() & where[other].keys() for i, one in enumerate(same) for other in same[:i]):
            kept = max(same, key=lambda label: (where[label]["train"], where[label].total()))
            renamed |= dict.fromkeys(same, kept)
            said.append(f"{' and '.join(same)} differ by case only and are in different splits: one class, {kept}")
        elif len(same[0]) > 1:
            counts = ", ".join(f"{where[label].total():,} {kind}s {label}" for label in same)
            faults.append(
                DataError(
                    f"{name}: the classes {' and '.join(same)} differ by case only ({counts})",
                    f"rename one, or make them one class with --set 'data.label_map={{{same[0]}: {same[1]}}}', "
                    f"or, where they are two, say so with --set data.labels=[...]",
                )
            )
    return {label: renamed.get(text, text) for label, text in cleaned.items()}


def _say_cleaned(cleaned: dict[str, str], said: list[str]) -> None:
    met: dict[str, list[str]] = defaultdict(list)
    for label, text in cleaned.items():
        met[text].append(label)
    merged = [text for text, same in met.items() if len(same) > 1]
    if merged:
        said.append(f"{_few(merged)}: spelled in several ways that look alike (Unicode forms, blanks around them): one class each")
    escaped = sorted(text for label, text in cleaned.items() if text != unicodedata.normalize("NFC", label).strip() and "\\" in text)
    if escaped:
        said.append(f"class names with bytes or characters that cannot be shown are written out: {_few(escaped)}")


def _few(names: Collection[str]) -> str:
    shown = list(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


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


def number_several(
    name: str, found: Sequence[str], options: DataOptions, order: Sequence[str] | None, said: list[str], kind: str
) -> tuple[list[str], NDArray[np.int64]]:
    """The class names in order, and 0 or 1 for each record and class (N, classes), where records may have several labels or none.

    ``found`` are the records' labels as :func:`joined_labels` has them. Labels that ``options.labels`` leaves out are forgotten, and the
    records that had nothing else are of none. Raises DataError as :func:`number_labels`.
    """
    parts = [parts_of(text) for text in found]
    ordered = _in_order([label for some in parts for label in some], order)
    if not ordered:
        raise DataError(f"{name}: no {kind} has a label", "multilabel needs classes: write some into the label column")
    _check_names(name, ordered, options)
    translate = {label: options.label_map.get(label, label) for label in ordered}
    classes = [*dict.fromkeys(translate.values())]
    for label in options.labels or ():
        _known(name, "labels", label, classes)
    if options.labels is not None:
        classes = list(options.labels)
    _check_count(name, classes, kind, several=True)
    number = {label: i for i, label in enumerate(classes)}
    table = np.zeros((len(found), len(classes)), np.int64)
    forgotten = 0
    for row, some in enumerate(parts):
        for label in some:
            column = number.get(translate[label])
            forgotten += column is None
            if column is not None:
                table[row, column] = 1
    if forgotten:
        said.append(f"{forgotten:,} labels of other classes forgotten; the {kind}s stay")
    sums = table.sum(1)
    said.append(
        f"several labels at once: {int((sums > 1).sum()):,} of {len(found):,} {kind}s have more than one, {int((sums == 0).sum()):,} none"
    )
    return classes, table


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


def _check_count(name: str, classes: Sequence[str], kind: str, *, several: bool = False) -> None:
    if len(classes) < 2:
        raise DataError(
            f"{name}: all {kind}s have the one class {classes[0]!r}; a classifier needs at least two",
            "add a sub-folder for each further class (such as person/ and no_person/)"
            if not several
            else "whether it is there is a question of two classes: give each a label of its own, and leave data.multilabel out",
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(f"{name}: {len(classes):,} classes", f"at most {MAX_CLASSES:,} are supported: is each {kind} its own class?")
