"""The first look at every record of a set: does it decode, how large is it, what is its digest. Remembered in the cache."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from tinynas.data.progress import OnProgress
from tinynas.data.records import Bad, BadInput, Record
from tinynas.errors import DiskError
from tinynas.files import cores, replacing

FORMAT = 7
"""Version of the index; others are read anew."""


class Measured(NamedTuple):
    """What decoding a record tells of it."""

    height: int
    width: int
    span: int | None = None
    """See :attr:`tinynas.data.records.Record.span`."""
    extent: tuple[int, int] | None = None
    """From where to where along the height there is something; None: all along."""
    inner: tuple[int, int] | None = None
    """See :attr:`tinynas.data.records.Record.inner`."""


Measure = Callable[[bytes], Measured]
"""Decodes a record and measures it. Raises BadInput."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one record was found to be. ``problem`` is None for a good one; ``size`` is (height, width)."""

    digest: str
    size: tuple[int, int]
    problem: str | None = None
    span: int | None = None
    extent: tuple[int, int] | None = None
    inner: tuple[int, int] | None = None


def workers() -> int:
    """Threads for decoding: decoders free the interpreter lock, so they help; not more than the cores we may use."""
    return min(8, cores())


def in_threads(function: Callable[[T], R], items: Iterable[T], *, chunk: int = 256) -> Iterator[list[R]]:
    """Lists of ``function(item)`` in order, ``chunk`` items at a time, computed by a few threads."""
    iterator = iter(items)
    with ThreadPoolExecutor(workers()) as pool:
        while part := list(islice(iterator, chunk)):
            yield list(pool.map(function, part))


def look(read: Callable[[], bytes], measure: Measure) -> Seen:
    """Decode what ``read`` returns and describe it; an unreadable file is a problem like any other."""
    try:
        data = read()
    except OSError as error:
        return Seen("", (0, 0), f"cannot be read: {error.strerror or error}")
    except BadInput as bad:
        return Seen("", (0, 0), str(bad))
    digest = hashlib.sha256(data).hexdigest()
    try:
        found = measure(data)
        return Seen(digest, (found.height, found.width), None, found.span, found.extent, found.inner)
    except BadInput as bad:
        return Seen(digest, (0, 0), str(bad))


def scan(
    keys: Sequence[str],
    stamps: Sequence[str],
    read: Callable[[int], bytes],
    measure: Measure,
    index: Path,
    on_progress: OnProgress | None = None,
    *,
    kind: str,
) -> list[Seen]:
    """What each record is; ``read(i)`` returns the bytes of record ``i``, ``kind`` is what one is for people.

    Records whose key and stamp (size and time of change, say) are in ``index`` are not read again. Where the index cannot
    be written the scan is only slower next time.
    """
    known = _load(index)
    found: dict[int, Seen] = {}
    todo = []
    for i, (key, stamp) in enumerate(zip(keys, stamps, strict=True)):
        entry = known.get(key)
        if entry is not None and entry[0] == stamp:
            found[i] = entry[1]
        else:
            todo.append(i)
    done = 0
    for part in in_threads(lambda i: (i, look(lambda: read(i), measure)), todo):
        found.update(part)
        done += len(part)
        if on_progress is not None:
            on_progress(f"checking {kind}s", done, len(todo))
    if todo or len(known) != len(keys):
        entries = [[key, stamps[i], *astuple(found[i])] for i, key in enumerate(keys)]
        try:
            with replacing(index) as file:
                file.write(gzip.compress(json.dumps({"format": FORMAT, "records": entries}).encode(), 1, mtime=0))
        except DiskError:
            pass
    return [found[i] for i in range(len(keys))]


def sort_out(
    keys: Sequence[str], labels: Sequence[str], splits: Sequence[str | None], seen: Sequence[Seen]
) -> tuple[list[Record], list[int], list[Bad]]:
    """The usable records, the positions in ``keys`` they are of, and the others with their reasons."""
    records, rows, bad = [], [], []
    for i, found in enumerate(seen):
        if found.problem is None:
            records.append(Record(keys[i], labels[i], splits[i], found.digest, found.size, span=found.span, inner=found.inner))
            rows.append(i)
        else:
            bad.append(Bad(keys[i], found.problem))
    return records, rows, bad


def _two(numbers: Sequence[int] | None) -> tuple[int, int] | None:
    return None if numbers is None else (numbers[0], numbers[1])


def _load(index: Path) -> dict[str, tuple[str, Seen]]:
    try:
        document = json.loads(gzip.decompress(index.read_bytes()))
        if document["format"] != FORMAT:
            return {}
        return {
            key: (stamp, Seen(digest, (height, width), problem, span, _two(extent), _two(inner)))
            for key, stamp, digest, (height, width), problem, span, extent, inner in document["records"]
        }
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return {}
