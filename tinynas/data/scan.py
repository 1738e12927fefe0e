"""The first look at every image of a set: does it decode, how large is it, what is its digest. Remembered in the cache."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2

from tinynas.data.images import BadImage, decode
from tinynas.errors import DiskError
from tinynas.files import cores, replacing

FORMAT = 1
"""Version of the index; others are read anew."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and of how many."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one image was found to be. ``problem`` is None for a good one; sizes are in pixels."""

    digest: str
    width: int
    height: int
    problem: str | None = None


def workers() -> int:
    """Threads for decoding: OpenCV frees the interpreter lock, so they help; not more than the cores we may use."""
    return min(8, cores())


def in_threads(function: Callable[[T], R], items: Iterable[T], *, chunk: int = 256) -> Iterator[list[R]]:
    """Lists of ``function(item)`` in order, ``chunk`` items at a time, computed by a few threads."""
    cv2.setNumThreads(1)  # one image a thread is faster than many threads an image
    iterator = iter(items)
    with ThreadPoolExecutor(workers()) as pool:
        while part := list(islice(iterator, chunk)):
            yield list(pool.map(function, part))


def look(read: Callable[[], bytes]) -> Seen:
    """Decode what ``read`` returns and describe it; an unreadable file is a problem like any other."""
    try:
        data = read()
    except OSError as error:
        return Seen("", 0, 0, f"cannot be read: {error.strerror or error}")
    except BadImage as bad:
        return Seen("", 0, 0, str(bad))
    digest = hashlib.sha256(data).hexdigest()
    try:
        height, width = decode(data).shape[:2]
    except BadImage as bad:
        return Seen(digest, 0, 0, str(bad))
    return Seen(digest, width, height)


def scan(
    keys: Sequence[str], stamps: Sequence[str], read: Callable[[int], bytes], index: Path, on_progress: OnProgress | None = None
) -> list[Seen]:
    """What each image is; ``read(i)`` returns the bytes of image ``i``.

    Images whose key and stamp (size and time of change, say) are in ``index`` are not read again. Where the index cannot
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
    for part in in_threads(lambda i: (i, look(lambda: read(i))), todo):
        found.update(part)
        done += len(part)
        if on_progress is not None:
            on_progress("checking images", done, len(todo))
    if todo or len(known) != len(keys):
        entries = [[key, stamps[i], found[i].digest, found[i].width, found[i].height, found[i].problem] for i, key in enumerate(keys)]
        try:
            with replacing(index) as file:
                file.write(gzip.compress(json.dumps({"format": FORMAT, "images": entries}).encode(), 1, mtime=0))
        except DiskError:
            pass
    return [found[i] for i in range(len(keys))]


def _load(index: Path) -> dict[str, tuple[str, Seen]]:
    try:
        document = json.loads(gzip.decompress(index.read_bytes()))
        if document["format"] != FORMAT:
            return {}
        return {key: (stamp, Seen(digest, width, height, problem)) for key, stamp, digest, width, height, problem in document["images"]}
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return {}
