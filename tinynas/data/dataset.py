"""DataSet: labelled inputs in three splits, with their groups and attributes. ``assemble`` makes one from any source."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tinynas.data.cache import mapped
from tinynas.data.groups import Groups
from tinynas.data.labels import positive_of
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import Bad, BadInput, Leak, Record, Recording, Straddle
from tinynas.data.scan import in_threads
from tinynas.data.signal import Decoded, Signal, Waves
from tinynas.data.split import ALL, SPLITS, Anew, Split, class_counts
from tinynas.errors import DataError, counted
from tinynas.files import cache_dir as default_cache_dir
from tinynas.front_end import FrontEnd
from tinynas.inputs import Input, kind_of_channels
from tinynas.recipe import SoundAugment

T = TypeVar("T", np.uint8, np.int16)
CLIPS = 256
"""Sounds that go through a front end together."""


class UnusableData(DataError):
    """Data that cannot be used: all that is wrong with it at once."""

    def __init__(self, name: str, faults: Sequence[DataError], data: DataSet) -> None:
        self.faults = tuple(faults)
        self.data = data
        """What there is of it, to be looked at; a split may be empty, and a class of no input."""
        if len(faults) == 1:
            super().__init__(faults[0].message, faults[0].hint)
            return
        lines = [f"{name}: {counted(len(faults), 'fault')}"]
        lines += [f"  - {fault.message.removeprefix(f'{name}: ')}; {fault.hint}" for fault in faults]
        super().__init__("\n".join(lines), f"tinynas data info {name} shows what there is of it")


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled inputs in three splits. They are decoded when a split is asked for, and kept in the cache."""

    name: str
    """What was opened, for people."""
    signal: Signal
    """What the inputs are, and how they are decoded and fitted."""
    labels: tuple[str, ...]
    """Class names; their positions are the class numbers."""
    fingerprint: str
    """Digest of the inputs, their labels and the splits the source gives: equal for equal data wherever it lies."""
    notes: tuple[str, ...]
    """What was found and decided: splits made, groups, bad records counted, leaks."""
    records: tuple[Record, ...]
    """All usable records."""
    targets: NDArray[np.int64]
    """Class number of each record (N,); or (N, classes), 1 where it is of the class, where there may be several or none."""
    members: Mapping[str, NDArray[np.int64]]
    """Split name to positions in ``records``. Beside the three there may be ``far``, a further test of Wake Vision."""
    bad: tuple[Bad, ...]
    """Records that cannot be used, each with its reason."""
    leaks: tuple[Leak, ...]
    """Records that are in several splits at once."""
    straddles: tuple[Straddle, ...]
    """Groups that are in several splits at once: splits carved here never have any."""
    duplicates: int
    """Records that repeat another one of the same split."""
    read: Callable[[int], bytes | Decoded] = field(repr=False)
    """The encoded bytes, or the decoded input, of record ``i``."""
    options: DataOptions = field(default_factory=DataOptions)
    cache: Path = field(default_factory=default_cache_dir)
    groups: Groups | None = field(default=None, repr=False)
    """Which records belong together; None where nothing is known of it."""
    attributes: Mapping[str, NDArray[np.int8]] = field(default_factory=dict, repr=False)
    """Further facts, such as ``near`` or ``dark``: name to one number a record: 1 yes, 0 no, -1 does not apply.
    Those of ``data.attributes`` are named by group and part: ``light: dark``."""
    recordings: Mapping[str, Recording] = field(default_factory=dict, repr=False)
    """Of sounds: what the records were cut out of, by their :attr:`~tinynas.data.records.Record.file`."""
    on_progress: OnProgress | None = field(default=None, repr=False)
    held_out: DataSet | None = field(default=None, repr=False)
    """The classes of ``data.held_out``, which are none of :attr:`labels`; None where there are none."""

    @property
    def native_size(self) -> tuple[int, int]:
        """(height, width) that the records have by themselves: networks gain nothing from a resolution far above it.

        The shorter of the two is the median short side, their ratio the median ratio. (0, 0) without records, and where sizes say
        nothing of inputs (those of sounds are lengths).
        """
        if not self.records or not self.signal.sized:
            return 0, 0
        sizes = np.array([record.size for record in self.records], dtype=np.float64)
        short = float(np.median(sizes.min(axis=1)))
        # Of logarithms: as many portraits as landscapes of one shape make a square.
        ratio = float(np.exp(np.median(np.log(sizes[:, 0] / sizes[:, 1]))))
        return round(short * max(1.0, ratio)), round(short * max(1.0, 1 / ratio))

    @property
    def attributes_digest(self) -> str | None:
        """Digest of :attr:`attributes`, whatever the names and the order of the records; None without any."""
        if not self.attributes:
            return None
        names = sorted(self.attributes)
        digest = hashlib.sha256("\n".join(names).encode())
        table = np.stack([self.attributes[name] for name in names], 1)
        for line in sorted(f"{record.digest} {row.tolist()}" for record, row in zip(self.records, table, strict=True)):
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()

    @property
    def several(self) -> bool:
        """Whether a record may be of several classes at once."""
        return self.targets.ndim == 2

    def said_of(self, record: int) -> str:
        """The class of a record, for people; of several labels at once all of them, or "none"."""
        if not self.several:
            return self.labels[int(self.targets[record])]
        return ", ".join(label for label, there in zip(self.labels, self.targets[record], strict=True) if there) or "none"

    @property
    def positive(self) -> int | None:
        """Of two classes the number of the one that recall and false alarms are of; None of more, where neither has such a meaning."""
        chosen = self.options.positive
        if self.several:
            return None
        return positive_of(self.labels, chosen if chosen in self.labels else None)

    def counts(self, split: str) -> dict[str, int]:
        """Inputs of each class in ``split``; of several labels at once each counts for all of its classes."""
        found = class_counts(self.targets[self.rows(split)], len(self.labels))
        return dict(zip(self.labels, map(int, found), strict=True))

    def split(self, split: str, height: int, width: int, channels: int, front_end: FrontEnd | None = None) -> Split:
        """``"train"``, ``"val"``, ``"test"``, or ``"all"`` of these, as uint8 (N, height, width, channels).

        Sounds are read through ``front_end``, whose shape the sizes are (see :meth:`read_by`). Made once and mapped from the
        cache from then on; several processes may ask at once. Raises DataError for an unknown split, an impossible size,
        records that vanished, or a disk that is full.
        """
        rows, signal = self.rows(split), self.signal
        if (signal.channels and channels not in signal.channels) or height < 1 or width < 1:
            allowed = " or ".join(map(str, signal.channels))
            raise DataError(
                f"{signal.kind}s of {height}x{width}x{channels} (height x width x channels) cannot be made",
                f"use sizes of at least 1 with {allowed} channel{'' if signal.channels == (1,) else 's'}",
            )
        wanted = Input(height, width, channels, kind_of_channels(channels) if front_end is None else "features", front_end=front_end)
        anew = None
        if front_end is not None and signal.waves is not None:
            inputs, anew = self._heard(split, rows, front_end, signal.waves)
        else:
            inputs = mapped(self._cached(split, rows, wanted), (len(rows), *wanted.shape), self._made(split, rows, wanted))
        return Split(
            inputs,
            self.targets[rows],
            tuple(self.records[i].name for i in rows),
            groups=None if self.groups is None else self.groups.of[rows],
            kind=signal.kind,
            anew=anew,
        )

    def read_by(self, network: Input, split: str) -> Split:
        """``split`` as a network with the input ``network`` reads it. Errors as of :meth:`split`."""
        return self.split(split, *network.shape, front_end=network.front_end)

    def values(self, attribute: str, split: str) -> NDArray[np.int8]:
        """``attribute`` of the inputs of ``split``, in its order: 1, 0 or -1. Raises DataError for an unknown one."""
        if attribute not in self.attributes:
            raise DataError(f"{self.name}: has no attribute {attribute!r}", f"it has: {', '.join(self.attributes) or 'none'}")
        column: NDArray[np.int8] = self.attributes[attribute][self.rows(split)]
        return column

    def decoded(self, record: int) -> Decoded:
        """Record ``record`` at its own size, an image as uint8 (H, W, C). Raises BadInput or OSError where it is gone."""
        data = self.read(record)
        return self.signal.decode(data) if isinstance(data, bytes) else data

    def rows(self, split: str) -> NDArray[np.int64]:
        """Positions in :attr:`records` of ``split``, or of ``"all"`` three together. Raises DataError for an unknown one."""
        if split == ALL and split not in self.members:
            return np.concatenate([self.members[name] for name in SPLITS])
        if split not in self.members:
            near = difflib.get_close_matches(split, self.members, n=1)
            raise DataError(
                f"there is no split {split!r}", f'did you mean "{near[0]}"?' if near else f"use one of {', '.join(self.members)}, or {ALL}"
            )
        return self.members[split]

    def _heard(self, split: str, rows: NDArray[np.int64], front_end: FrontEnd, waves: Waves) -> tuple[NDArray[np.uint8], Anew]:
        shape, length = (len(rows), *front_end.shape), front_end.clip_samples
        size = "x".join(map(str, front_end.shape))

        def cut() -> Iterator[NDArray[np.uint8]]:
            done = 0
            for part in in_threads(lambda i: self._tried(int(i), lambda sound: waves.cut(sound, front_end)), rows):
                done += len(part)
                self._tell(f"decoding {split} at {front_end.sample_rate:,} Hz", done, len(rows))
                yield np.stack(part).astype("<i2").view(np.uint8)

        def samples() -> NDArray[np.int16]:
            kept = mapped(self._cached(split, rows, f"samples-{front_end.sample_rate}-{length}"), (len(rows), 2 * length), cut)
            return kept.view("<i2")

        def read(change: tuple[SoundAugment, int] | None) -> NDArray[np.uint8]:
            said = "" if change is None else f"-{_short(change[0].of_samples())}-{change[1]}"

            def bands() -> Iterator[NDArray[np.uint8]]:
                heard = samples()
                for numbers in parts():
                    part = np.array(heard[numbers])
                    changed = part if change is None else waves.change(part, front_end, *change, numbers)
                    yield waves.bands(changed, front_end).astype("<u2").reshape(len(numbers), -1).view(np.uint8)
                    self._tell(f"features of {split}, {size}", int(numbers[-1]) + 1, len(rows))

            def made() -> Iterator[NDArray[np.uint8]]:
                wide = 2 * front_end.frames * front_end.bins
                kept = mapped(self._cached(split, rows, f"bands-{_short(front_end.of_bands())}{said}"), (len(rows), wide), bands)
                for numbers in parts():
                    found = np.array(kept[numbers]).view("<u2").reshape(len(numbers), front_end.frames, front_end.bins)
                    yield waves.in_bytes(found, front_end)

            return mapped(self._cached(split, rows, f"{size}-{_short(front_end)}{said}"), shape, made)

        def parts() -> Iterator[NDArray[np.int64]]:
            for start in range(0, len(rows), CLIPS):
                yield np.arange(start, min(start + CLIPS, len(rows)))

        return read(None), Anew(lambda settings, number: read((settings, number)), np.arange(len(rows)))

    def _tell(self, what: str, done: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(what, done, total)

    def _cached(self, split: str, rows: NDArray[np.int64], wanted: Input | str) -> Path:
        signal = self.signal
        size = wanted if isinstance(wanted, str) else "x".join(map(str, wanted.shape))
        content = hashlib.sha256("\n".join(self.records[i].digest for i in rows).encode()).hexdigest()
        key = f"{split}-{size}-{signal.kind}-{signal.how}-{signal.version}-{content[:16]}.npy"
        return self.cache / "inputs" / self.fingerprint[:24] / key

    def _made(self, split: str, rows: NDArray[np.int64], wanted: Input) -> Callable[[], Iterator[NDArray[np.uint8]]]:
        def make() -> Iterator[NDArray[np.uint8]]:
            done = 0
            for part in in_threads(lambda i: self._tried(int(i), lambda decoded: self.signal.fit(decoded, wanted)), rows):
                done += len(part)
                self._tell(f"decoding {split} at {wanted.height}x{wanted.width}", done, len(rows))
                yield np.stack(part)

        return make

    def _tried(self, record: int, step: Callable[[Decoded], NDArray[T]]) -> NDArray[T]:
        """What ``step`` makes of a decoded record."""
        try:
            return step(self.decoded(record))
        except (BadInput, OSError) as error:
            raise DataError(
                f"{self.name}: {self.records[record].name} could be read before and cannot now: {error}",
                f"the {self.signal.kind}s changed while tinynas was running; run the command again",
            ) from None


def _short(settings: FrontEnd | SoundAugment) -> str:
    """A digest of settings for the name of a file."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]
