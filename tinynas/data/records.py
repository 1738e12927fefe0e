"""What every source gives: records, and those that cannot be used. Nothing here knows what the records are of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class BadInput(Exception):
    """A record that cannot be used: a finding that is counted, not a fault. The message is one of a few short reasons."""


class Record(NamedTuple):
    """One labelled thing of a source.

    Further facts of all records, such as ``near`` or ``dark``, are columns that go to ``assemble`` beside them: a million
    records with a dictionary each would not fit into memory.
    """

    name: str
    """Unique; for files the path inside the folder."""
    label: str
    split: str | None
    """None where it is to be carved."""
    digest: str
    """Of its content: records with equal digests are the same."""
    size: tuple[int, int]
    """(height, width) as it is, before anything is fitted to a network."""
    group: str | None = None
    """What it belongs with by its source (a device, a track, a speaker); ``data.groups`` overrules it."""
    span: int | None = None
    """How much of its range it uses, such as the levels between the darkest and the brightest of an image; None where not measured."""
    file: str | None = None
    """What it was cut out of, where its name is not a file's."""
    inner: tuple[int, int] | None = None
    """(height, width) of what lies within an image's borders of one colour; None where not measured."""


@dataclass(frozen=True)
class Bad:
    """A record that was left out."""

    name: str
    reason: str


@dataclass(frozen=True)
class Leak:
    """Records with the same bytes in more than one split: {split: names}."""

    splits: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Straddle:
    """A group with records in more than one split: {split: number of them}."""

    group: str
    splits: dict[str, int]


@dataclass(frozen=True)
class Recording:
    """A whole recording that pieces were cut out of, for judging a stream."""

    length: float
    """In milliseconds, as all times here."""
    events: tuple[tuple[float, float, str], ...]
    """(start, end, label) of what a table says is in it; none where it says nothing of times."""
    read: Callable[[float, float], Any] = field(repr=False)
    """What lies from a start to an end, as the signal decodes it. Raises BadInput or OSError."""


def plural(count: int, noun: str) -> str:
    """``count`` with its noun: "1 image", "2 images"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
