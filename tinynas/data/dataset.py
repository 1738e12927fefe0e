"""ImageData: a labelled set of images with its three splits. :func:`assemble` makes one from records of any source."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinynas.data.cache import cache_dir as default_cache_dir
from tinynas.data.cache import mapped
from tinynas.data.images import BadImage, Image, decode, resize
from tinynas.data.options import DataOptions
from tinynas.data.scan import OnProgress, in_threads
from tinynas.data.split import SPLITS, Split, apportion, order_key
from tinynas.data.splits import carve
from tinynas.errors import DataError

PIXELS = 1
"""Version of how pixels are made (decoding, resizing); another version never reads this one's cache."""
MAX_CLASSES = 10_000


class Record(NamedTuple):
    """One image of a source: ``name`` is unique, ``split`` None where it is to be carved, ``digest`` of its content."""

    name: str
    label: str
    split: str | None
    digest: str
    width: int
    height: int


@dataclass(frozen=True)
class Bad:
    """An image that was left out."""

    name: str
    reason: str


@dataclass(frozen=True)
class Leak:
    """Images with the same bytes in more than one split: {split: names}."""

    splits: dict[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class ImageData:
    """Labelled images in three splits. Pixels are decoded when a split is asked for, and kept in the cache."""

    name: str
    """What was opened, for people."""
    labels: tuple[str, ...]
    """Class names; their positions are the class numbers."""
    fingerprint: str
    """Digest of the images, their labels and the splits the source gives: equal for equal data wherever it lies."""
    notes: tuple[str, ...]
    """What was found and decided: splits made, bad images counted, leaks."""
    records: tuple[Record, ...]
    """All usable images."""
    targets: NDArray[np.int64]
    """Class number of each record."""
    members: Mapping[str, NDArray[np.int64]]
    """Split name to positions in ``records``. Beside the three there may be ``far``, a further test of Wake Vision."""
    bad: tuple[Bad, ...]
    """Images that cannot be used, each with its reason."""
    leaks: tuple[Leak, ...]
    """Images that are in several splits at once."""
    duplicates: int
    """Images that repeat another one of the same split."""
    read: Callable[[int], bytes | Image] = field(repr=False)
    """The encoded bytes or RGB pixels of record ``i``."""
    options: DataOptions = field(default_factory=DataOptions)
    cache: Path = field(default_factory=default_cache_dir)
    attributes: Mapping[str, NDArray[np.int8]] = field(default_factory=dict, repr=False)
    """Further facts, such as ``near`` or ``dark``: name to one number a record: 1 yes, 0 no, -1 does not apply."""
    on_progress: OnProgress | None = field(default=None, repr=False)

    @property
    def native_size(self) -> tuple[int, int]:
        """Median short side of the images, in pixels: networks gain nothing from a resolution far above it."""
        side = int(np.median([min(r.width, r.height) for r in self.records])) if self.records else 0
        return side, side

    def counts(self, split: str) -> dict[str, int]:
        """Images of each class in ``split``."""
        found = np.bincount(self.targets[self._rows(split)], minlength=len(self.labels))
        return dict(zip(self.labels, map(int, found), strict=True))

    def split(self, split: str, height: int, width: int, channels: int) -> Split:
        """``"train"``, ``"val"`` or ``"test"`` as uint8 (N, height, width, channels), RGB or grey.

        Made once and mapped from the cache from then on; several processes may ask at once. Raises DataError for an
        unknown split, an impossible size, images that vanished, or a disk that is full.
        """
        rows = self._rows(split)
        if channels not in (1, 3) or height < 1 or width < 1:
            raise DataError(f"images of {height}x{width}x{channels} cannot be made", "use sizes of at least 1 pixel with 1 or 3 channels")
        fit = self.options.fit
        member_digest = hashlib.sha256("\n".join(self.records[i].digest for i in rows).encode()).hexdigest()
        key = f"{split}-{height}x{width}x{channels}-{fit}-{PIXELS}-{member_digest[:16]}.npy"

        def make() -> Iterator[NDArray[np.uint8]]:
            done = 0
            for part in in_threads(lambda i: self._pixels(int(i), height, width, channels), rows):
                done += len(part)
                if self.on_progress is not None:
                    self.on_progress(f"decoding {split} at {height}x{width}", done, len(rows))
                yield np.stack(part)

        path = self.cache / "pixels" / self.fingerprint[:24] / key
        images = mapped(path, (len(rows), height, width, channels), make)
        return Split(images, self.targets[rows], tuple(self.records[i].name for i in rows))

    def values(self, attribute: str, split: str) -> NDArray[np.int8]:
        """``attribute`` of the images of ``split``, in its order: 1, 0 or -1. Raises DataError for an unknown one."""
        if attribute not in self.attributes:
            raise DataError(f"{self.name}: has no attribute {attribute!r}", f"it has: {', '.join(self.attributes) or 'none'}")
        column: NDArray[np.int8] = self.attributes[attribute][self._rows(split)]
        return column

    def image(self, record: int) -> Image:
        """The pixels of record ``record``, RGB, at their own size. Raises BadImage or OSError where they are gone."""
        data = self.read(record)
        return decode(data) if isinstance(data, bytes) else data

    def _rows(self, split: str) -> NDArray[np.int64]:
        if split not in self.members:
            near = difflib.get_close_matches(split, self.members, n=1)
            raise DataError(
                f"there is no split {split!r}", f'did you mean "{near[0]}"?' if near else f"use one of {', '.join(self.members)}"
            )
        return self.members[split]

    def _pixels(self, record: int, height: int, width: int, channels: int) -> Image:
        try:
            return resize(self.image(record), height, width, channels, self.options.fit)
        except (BadImage, OSError) as error:
            raise DataError(
                f"{self.name}: {self.records[record].name} could be read before and cannot now: {error}",
                "the images changed while tinynas was running; run the command again",
            ) from None


def assemble(
    name: str,
    records: Sequence[Record],
    read: Callable[[int], bytes | Image],
    options: DataOptions,
    *,
    seed: int = 0,
    cache: Path | None = None,
    bad: Sequence[Bad] = (),
    notes: Sequence[str] = (),
    label_order: Sequence[str] | None = None,
    attributes: Mapping[str, NDArray[np.int8]] | None = None,
    on_progress: OnProgress | None = None,
) -> ImageData:
    """Map labels, carve missing splits, find leaks: an :class:`ImageData` of ``records``.

    ``label_order`` is the source's own numbering of classes (alphabetical where it has none). ``seed`` counts only where
    ``options.seed`` is None. Raises DataError naming what is missing: images, classes, or images of a class.
    """
    said = list(notes)
    draw = seed if options.seed is None else options.seed
    if bad:
        reasons = Counter(entry.reason for entry in bad)
        said.append(f"{len(bad)} bad image{_s(len(bad))} left out: " + ", ".join(f"{n} {reason}" for reason, n in reasons.most_common()))
    if not records:
        raise DataError(
            f"{name}: none of {len(bad)} images can be decoded" if bad else f"{name}: holds no images",
            f"the first: {bad[0].name}: {bad[0].reason}" if bad else "give a folder with one sub-folder of images for each class",
        )
    labels, targets, keep = _labels(name, records, options, label_order, said)
    if len(labels) < 2:
        raise DataError(
            f"{name}: all images have the one class {labels[0]!r}; a classifier needs at least two",
            "add a sub-folder for each further class (such as person/ and no_person/)",
        )
    if len(labels) > MAX_CLASSES:
        raise DataError(f"{name}: {len(labels):,} classes", f"at most {MAX_CLASSES:,} are supported: is each image its own class?")
    source_rows = keep
    kept = [records[int(i)] for i in keep]
    assigned = _assign(name, kept, targets, labels, options, draw, said)
    leaks, duplicates, dropped = _leaks(kept, assigned, options, said)
    members: dict[str, NDArray[np.int64]] = {}
    for split in (*SPLITS, *sorted(set(assigned) - set(SPLITS))):
        rows = np.array([i for i, where in enumerate(assigned) if where == split and i not in dropped], dtype=np.int64)
        # By hash of the name: an order that says nothing about the class, the same on every machine.
        rows = np.array(sorted(rows, key=lambda i: order_key(draw, kept[i].name)), dtype=np.int64)
        if options.limit and len(rows) > options.limit:
            rows = _limited(rows, targets, options.limit)
            said.append(f"{split}: limited to {options.limit:,} images")
        members[split] = rows
    _check_splits(name, members, targets, labels, said)
    digest = hashlib.sha256(json.dumps([FINGERPRINT, labels]).encode())
    for line in sorted(f"{r.digest} {labels[int(t)]} {r.split}" for r, t in zip(kept, targets, strict=True)):
        digest.update(line.encode() + b"\n")

    def read_kept(i: int) -> bytes | Image:
        return read(int(source_rows[i]))

    return ImageData(
        name=name,
        labels=tuple(labels),
        fingerprint=digest.hexdigest(),
        notes=tuple(said),
        records=tuple(kept),
        targets=targets,
        members=members,
        bad=tuple(bad),
        leaks=tuple(leaks),
        duplicates=duplicates,
        read=read_kept,
        options=options,
        cache=cache or default_cache_dir(),
        attributes={key: values[keep] for key, values in (attributes or {}).items()},
        on_progress=on_progress,
    )


FINGERPRINT = 1
"""Version of the fingerprint; part of what is hashed."""


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _labels(
    name: str, records: Sequence[Record], options: DataOptions, order: Sequence[str] | None, said: list[str]
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    labels = {r.label for r in records} | set(order or ())
    # Numbers are classes of that number: "10" comes after "9".
    present = sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
    ordered = [*dict.fromkeys(order)] if order is not None else present
    ordered += [label for label in present if label not in ordered]
    for source, words in (("label_map", options.label_map), ("binary", {b for parts in (options.binary or {}).values() for b in parts})):
        known = set(ordered) if source == "label_map" else {options.label_map.get(label, label) for label in ordered}
        for word in words:
            _known(name, source, word, known)
    translate = {label: options.label_map.get(label, label) for label in ordered}
    if options.binary is not None:
        ((positive, parts),) = options.binary.items()
        translate = {label: positive if new in parts else f"no_{positive}" for label, new in translate.items()}
        ordered = [f"no_{positive}", positive]
        said.append(f"{positive}: {', '.join(parts)}; everything else is no_{positive}")
    else:
        ordered = [*dict.fromkeys(translate[label] for label in ordered)]
    if options.labels is not None:
        for label in options.labels:
            _known(name, "labels", label, set(ordered))
        ordered = list(options.labels)
    number = {label: i for i, label in enumerate(ordered)}
    numbers = np.array([number.get(translate[r.label], -1) for r in records], dtype=np.int64)
    keep = np.flatnonzero(numbers >= 0)
    if len(keep) < len(records):
        said.append(f"{len(records) - len(keep)} images of other classes left out")
    return ordered, numbers[keep], keep


def _known(name: str, option: str, label: str, known: set[str]) -> None:
    if label not in known:
        near = difflib.get_close_matches(label, known, n=1)
        shown = ", ".join(sorted(known)[:20]) + (" ..." if len(known) > 20 else "")
        raise DataError(f"{name}: {option}: there is no label {label!r}", f'did you mean "{near[0]}"?' if near else f"labels: {shown}")


def _assign(
    name: str,
    records: Sequence[Record],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    options: DataOptions,
    seed: int,
    said: list[str],
) -> list[str]:
    given = [r.split for r in records]
    has = {split for split in given if split is not None} - {"far"}
    groups = _groups(name, records, options, said)
    if not has or has == {"train"}:
        pool, shares = range(len(records)), {"test": options.test_share, "val": options.val_share}
        what = "no test or validation images given"
    elif "train" not in has:
        raise DataError(f"{name}: there are {' and '.join(sorted(has))} images but no training images", "add a train/ folder or split")
    elif "val" not in has:
        pool, shares = [i for i, s in enumerate(given) if s == "train"], {"val": options.val_share}  # type: ignore[assignment]
        what = "no validation images given"
    elif "test" not in has:
        # The validation images of a set without a test split are usually its published yardstick: they become the test.
        given = ["test" if s == "val" else s for s in given]
        pool, shares = [i for i, s in enumerate(given) if s == "train"], {"val": options.val_share}  # type: ignore[assignment]
        what = "val/ is the test split (read once, at the end)"
    else:
        pool, shares, what = [], {}, ""  # type: ignore[assignment]
    if groups is not None and shares and len(pool) < len(records):
        # A group with an image in a given split must not be carved apart from it silently: it is a leak the source has.
        outside = {groups[i] for i, s in enumerate(given) if s != "train"}
        across = sum(groups[i] in outside for i in pool)
        if across:
            said.append(f"leakage: {across} training images share a group with images of another split")
    result = [split or "train" for split in given]
    if shares:
        rows = list(pool)
        # Equal images and equal groups stay together: neither may be on both sides.
        joined = _joined(
            [records[i].digest for i in rows], None if groups is None else [groups[i] for i in rows], [records[i].name for i in rows]
        )
        for i, where in zip(rows, carve(targets[rows], joined, shares, seed), strict=True):
            result[i] = str(where)
        made = ", ".join(f"{100 * share:g} % {split}" for split, share in shares.items())
        grouped = f" in {len(set(joined)):,} groups" if groups is not None else ""
        said.append(f"{what}; carved from the training images: {made} (stratified{grouped}, seed {seed})")
    return result


def _groups(name: str, records: Sequence[Record], options: DataOptions, said: list[str]) -> list[str] | None:
    if options.groups is None:
        return None
    pattern = re.compile(options.groups)
    found = []
    missed = 0
    for record in records:
        match = pattern.search(record.name)
        if match is None:
            missed += 1
            found.append(f"\0{record.name}")
        else:
            found.append("\0".join(part or "" for part in match.groups()) if match.groups() else match.group())
    if missed == len(records):
        raise DataError(f"{name}: groups: {options.groups!r} matches none of the image names", f"a name looks like this: {records[0].name}")
    if missed:
        said.append(f"groups: {missed:,} of {len(records):,} names do not match {options.groups!r}; each of those is a group of its own")
    return found


def _joined(digests: Sequence[str], groups: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """One key for each image such that images with equal digest or equal group have equal keys (union-find)."""
    parent = list(range(len(digests)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column in (digests, groups):
        first: dict[str, int] = {}
        for i, value in enumerate(column or ()):
            a, b = root(first.setdefault(value, i)), root(i)
            parent[max(a, b)] = min(a, b)
    least: dict[int, str] = {}
    for i, name in enumerate(names):
        r = root(i)
        least[r] = min(least.get(r, name), name)
    return [least[root(i)] for i in range(len(digests))]


def _leaks(records: Sequence[Record], assigned: Sequence[str], options: DataOptions, said: list[str]) -> tuple[list[Leak], int, set[int]]:
    by_digest: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        by_digest.setdefault(record.digest, []).append(i)
    leaks, duplicates, dropped, conflicting = [], 0, set(), 0
    for rows in by_digest.values():
        if len(rows) == 1:
            continue
        where: dict[str, list[str]] = {}
        for i in (i for i in rows if assigned[i] in SPLITS):
            where.setdefault(assigned[i], []).append(records[i].name)
        duplicates += sum(len(names) - 1 for names in where.values())
        conflicting += len({records[i].label for i in rows}) > 1
        if len(where) > 1:
            leaks.append(Leak({split: tuple(sorted(where[split])) for split in SPLITS if split in where}))
            if options.leaks == "drop":
                dropped |= {i for i in rows if assigned[i] == "train"}
                if "test" in where:
                    dropped |= {i for i in rows if assigned[i] == "val"}
    if leaks:
        advice = f"{len(dropped)} left out" if options.leaks == "drop" else "--set data.leaks=drop leaves them out of training"
        said.append(f"leakage: {len(leaks)} image{_s(len(leaks))} in more than one split, byte for byte; {advice}")
    if duplicates:
        said.append(f"{duplicates} exact duplicate{_s(duplicates)} inside splits")
    if conflicting:
        said.append(f"{conflicting} image{_s(conflicting)} occur under more than one label")
    return leaks, duplicates, dropped


def _limited(rows: NDArray[np.int64], targets: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
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
    name: str, members: Mapping[str, NDArray[np.int64]], targets: NDArray[np.int64], labels: Sequence[str], said: list[str]
) -> None:
    for split, rows in members.items():
        counts = np.bincount(targets[rows], minlength=len(labels))
        missing = [label for label, count in zip(labels, counts, strict=True) if not count]
        if not missing:
            continue
        if split not in SPLITS:
            continue  # a set of one class is what it is for
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        if split == "train":
            everywhere = not any((targets == labels.index(label)).any() for label in missing)
            raise DataError(
                f"{name}: no {'usable ' if everywhere else 'training '}image of class {shown}",
                "add images, or leave the class out with --set data.labels=[...]",
            )
        if not len(rows):
            raise DataError(f"{name}: the {split} split would be empty", "add images: three of each class are the least that can be split")
        said.append(f"{split}: no image of class {shown}")
