"""Preparing a data set shard by shard: decode, crop, relabel, write; with retries, resume, limits and progress."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from tinynas.config import Config, format_size
from tinynas.data.cache import SPARE_BYTES
from tinynas.data.images.decode import decode, encode_jpeg
from tinynas.data.images.fit import resize
from tinynas.data.records import BadInput
from tinynas.data.scan import in_threads
from tinynas.data.split import order_key
from tinynas.data.store import Entry, Store, Summary
from tinynas.errors import DataError, TinynasError, counted
from tinynas.files import locked, replacing

CHUNK = 64
"""Rows decoded together."""


class PrepareOptions(Config):
    """What all prepared sets share."""

    out: Path | None = None
    """Folder of the prepared set; by default in the cache, where ``--data NAME`` finds it."""
    n: Annotated[int, Field(ge=0)] = 0
    """At most this many images of each part (of each machine's share, where shared out); 0 for all."""
    size: Annotated[int, Field(ge=16, le=1024)] = 160
    """Short side in pixels of the images kept; smaller ones stay as they are."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 90
    """JPEG quality of the images kept."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the order of the shards, so that a part of a set is a fair sample."""
    retries: Annotated[int, Field(ge=0, le=100)] = 5
    """How often a shard that cannot be read is tried again, after 1, 2, 4, ... seconds."""
    check_disk: bool = True
    """Refuse to start where the disk has no room for what is expected."""
    export_imagefolder: Path | None = None
    """Also write the images as an image folder: split/class/name.jpg."""


class Row(NamedTuple):
    """One row of a source."""

    id: str
    data: bytes | None
    label: str
    split: str
    original: str | None = None
    flags: tuple[str, ...] = ()
    drop: str | None = None
    """Why the row is left out on purpose; None to keep it."""
    relabelled: str | None = None
    """How the label was changed, for counting."""


@dataclass(frozen=True)
class Shard:
    """A piece of a source that is read, and finished, as a whole."""

    key: str
    """Names its files; unique and safe in a file name."""
    rows: Callable[[], Iterable[Row]]
    """Reads it from its beginning; may fail and be called again."""
    transfer_bytes: int
    """What reading it moves over the network; 0 for a local file."""
    expected_rows: int


@dataclass(frozen=True)
class Expectation:
    """What a preparation will take, estimated before it starts."""

    shards: int
    images: int
    transfer_bytes: int
    disk_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        moved = f"about {format_size(self.transfer_bytes)} to transfer" if self.transfer_bytes else "nothing to transfer"
        return (
            f"{counted(self.shards, 'shard')}, about {counted(self.images, 'image')}: {moved}, "
            f"about {format_size(self.disk_bytes)} on disk ({format_size(self.free_bytes)} free)"
        )


@dataclass(frozen=True)
class PrepareProgress:
    """How far a preparation is."""

    shard: str
    shards_done: int
    shards: int
    images: int
    """Kept in this call."""
    bad: int
    seconds: float
    eta_seconds: float | None
    """None until the first rows are read."""
    message: str | None = None
    """Such as a retry."""

    @property
    def images_per_second(self) -> float:
        """Images kept per second."""
        return self.images / self.seconds if self.seconds > 0 else 0.0


@dataclass
class PrepareReport:
    """What was prepared; counts are of all finished shards, in this call or before."""

    path: Path
    images: dict[str, dict[str, int]] = field(default_factory=dict)
    """Split to class to number of images."""
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[str, str]] = field(default_factory=list)
    relabelled: Counter[str] = field(default_factory=Counter)
    shards_done: int = 0
    shards: int = 0
    shards_new: int = 0
    """Finished in this call."""
    seconds: float = 0.0
    exported: Path | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "path": str(self.path),
            "manifest": str(self.path / "manifest.jsonl"),
            "images": self.images,
            "rows": self.rows,
            "dropped": dict(self.dropped),
            "bad": {
                "count": len(self.bad),
                "reasons": dict(Counter(reason for _, reason in self.bad)),
                "images": [list(b) for b in self.bad],
            },
            "relabelled": dict(self.relabelled),
            "shards": {"done": self.shards_done, "new": self.shards_new, "all": self.shards},
            "seconds": round(self.seconds, 3),
            "exported": None if self.exported is None else str(self.exported),
            "notes": self.notes,
        }


OnPrepare = Callable[[PrepareProgress], None]


def jpeg_bytes(size: int) -> int:
    """About the bytes of a photograph's JPEG of ``size`` x ``size`` at quality 90 (measured: 0.3 to 0.4 bytes a pixel)."""
    return round(0.4 * size * size) + 700


def shuffled(shards: Iterable[Shard], seed: int) -> list[Shard]:
    """``shards`` in the order that ``seed`` draws; adding one moves no other."""
    return sorted(shards, key=lambda shard: order_key(seed, shard.key))


def expect(parts: Sequence[Sequence[Shard]], options: PrepareOptions, root: Path) -> Expectation:
    """What preparing ``parts`` (lists of shards, of each of which ``options.n`` images are wanted) will take."""
    store = Store(root)
    shards = images = transfer = 0
    for part in parts:
        wanted = options.n or sum(shard.expected_rows for shard in part)
        for shard in part:
            if wanted <= 0:
                break
            found = store.summary(shard.key)
            wanted -= found.kept if found is not None else shard.expected_rows
            if found is None:
                shards += 1
                images += shard.expected_rows + min(0, wanted)
                transfer += shard.transfer_bytes
    existing = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    return Expectation(shards, images, transfer, images * jpeg_bytes(options.size), shutil.disk_usage(existing).free)


def prepare(
    name: str,
    labels: Sequence[str],
    parts: Sequence[Sequence[Shard]],
    options: PrepareOptions,
    root: Path,
    *,
    identity: dict[str, Any],
    order: Sequence[Sequence[Sequence[str]]],
    mine: str = "",
    crop: bool,
    on_progress: OnPrepare | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> PrepareReport:
    """Write the shards of ``parts`` that are not finished yet, then the manifest.

    ``identity`` is everything that decides what a row becomes: a later call must agree with it. ``order`` holds, for
    each part and machine, the keys of its shards (``parts`` are this machine's; ``mine`` names it). ``crop`` cuts the
    centre square out. An interruption or error leaves a valid manifest of the finished shards. Raises DataError.
    """
    begun = time.monotonic()
    store = Store(root)
    store.begin({"name": name, "labels": list(labels), "identity": identity, "order": order, "n": options.n})
    expected = expect(parts, options, root)
    if options.check_disk and expected.free_bytes < expected.disk_bytes + SPARE_BYTES:
        raise DataError(
            f"{root}: about {format_size(expected.disk_bytes)} are needed and {format_size(expected.free_bytes)} are free",
            "take fewer images (--n), smaller ones (--size), or another disk (--out)",
        )
    state = _State(options, expected, sum(map(len, parts)), begun, on_progress)
    keys = [list(k) for part in order for k in part]
    try:
        with locked(root / f".prepare{mine}.lock", wait=False, needed=False):
            for part in parts:
                _prepare_part(store, part, options, crop, state, sleep)
    finally:
        if store.shards.is_dir():
            store.finish(keys, options.n)
    report = _report(store, [key for part in keys for key in part], root)
    report.shards_new = state.new
    if options.export_imagefolder is not None:
        export_imagefolder(store, options.export_imagefolder)
        report.exported = options.export_imagefolder
    report.seconds = time.monotonic() - begun
    return report


class _State:
    """Counters of a preparation, and telling about them."""

    def __init__(self, options: PrepareOptions, expected: Expectation, shards: int, begun: float, on_progress: OnPrepare | None) -> None:
        self.expected = expected.images
        self.shards = shards
        self.begun = begun
        self.on_progress = on_progress
        self.done = self.new = self.images = self.bad = self.rows = 0

    def tell(self, key: str, message: str | None = None) -> None:
        if self.on_progress is None:
            return
        seconds = time.monotonic() - self.begun
        left = max(0, self.expected - self.rows)
        eta = seconds / self.rows * left if self.rows else None
        self.on_progress(PrepareProgress(key, self.done, self.shards, self.images, self.bad, seconds, eta, message))


def _prepare_part(
    store: Store, shards: Sequence[Shard], options: PrepareOptions, crop: bool, state: _State, sleep: Callable[[float], None]
) -> None:
    kept = 0
    for shard in shards:
        if options.n and kept >= options.n:
            state.done += 1
            continue
        summary = store.summary(shard.key)
        wanted = options.n - kept if options.n else 0
        if summary is not None and summary.limited and (not wanted or wanted > summary.kept):
            store.forget(shard.key)  # more of it is wanted now than when it was cut short
            summary = None
        if summary is None:
            summary = _write_shard(store, shard, options, wanted, crop, state, sleep)
            state.new += 1
        kept += summary.kept
        state.done += 1
        state.tell(shard.key)


def _write_shard(
    store: Store, shard: Shard, options: PrepareOptions, wanted: int, crop: bool, state: _State, sleep: Callable[[float], None]
) -> Summary:
    for attempt in range(options.retries + 1):
        summary = Summary()
        before = (state.images, state.bad, state.rows)
        try:
            store.write(shard.key, _entries(shard, options, wanted, crop, summary, state), summary)
            return summary
        except TinynasError:
            raise
        except Exception as error:  # whatever a network library raises: the shard is begun again
            state.images, state.bad, state.rows = before
            what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            if attempt == options.retries:
                raise DataError(
                    f"{shard.key}: cannot be read after {attempt + 1} attempts: {what}",
                    "run the same command again later: finished shards are kept",
                ) from None
            pause = float(2**attempt)
            state.tell(shard.key, f"{what}; trying again in {pause:g} s")
            sleep(pause)
    raise AssertionError("unreachable")


def _entries(shard: Shard, options: PrepareOptions, wanted: int, crop: bool, summary: Summary, state: _State) -> Iterator[Entry]:
    def work(item: tuple[int, Row]) -> tuple[int, Row, tuple[bytes, tuple[int, int]] | BadInput | None]:
        number, row = item
        if row.drop is not None:
            return number, row, None
        try:
            return number, row, _shrink(row.data or b"", options, crop)
        except BadInput as bad:
            return number, row, bad

    rows = iter(enumerate(shard.rows()))
    while chunk := list(islice(rows, CHUNK)):
        for number, row, made in next(in_threads(work, chunk, chunk=CHUNK)):
            if wanted and summary.kept >= wanted:
                summary.limited = True
                return
            summary.rows += 1
            state.rows += 1
            if row.drop is not None:
                summary.dropped[row.drop] += 1
            elif isinstance(made, BadInput):
                summary.bad.append((row.id, str(made)))
                state.bad += 1
            elif made is not None:
                summary.kept += row.split != "far"
                state.images += 1
                if row.relabelled is not None:
                    summary.relabelled[row.relabelled] += 1
                yield Entry(row.id, number, row.split, row.label, row.original, row.flags, *made)
        state.tell(shard.key)
    # A limit reached with the very last row is no limit.


def _shrink(data: bytes, options: PrepareOptions, crop: bool) -> tuple[bytes, tuple[int, int]]:
    """A row's image as the JPEG that is kept, and its (height, width). Raises BadInput."""
    image = decode(data)
    height, width = image.shape[:2]
    short = min(height, width)
    if crop:
        side = min(short, options.size)
        image = resize(image, side, side, 3, "crop")
    elif short > options.size:
        image = resize(image, max(1, round(height * options.size / short)), max(1, round(width * options.size / short)), 3, "squash")
    return encode_jpeg(image, options.jpeg_quality), (image.shape[0], image.shape[1])


def _report(store: Store, keys: Sequence[str], root: Path) -> PrepareReport:
    report = PrepareReport(root, shards=len(keys))
    for key in keys:
        summary = store.summary(key)
        if summary is None:
            continue
        report.shards_done += 1
        report.rows += summary.rows
        report.dropped += summary.dropped
        report.bad += [(f"{key}/{name}", reason) for name, reason in summary.bad]
        report.relabelled += summary.relabelled
    for line in store.lines():
        counts = report.images.setdefault(line["split"], {})
        counts[line["label"]] = counts.get(line["label"], 0) + 1
    return report


def export_imagefolder(store: Store, folder: Path) -> int:
    """Write a prepared set as split/class/name.jpg; returns the number of files.

    Where original labels were kept beside new ones there are two trees: ``relabelled/`` and ``original/``.
    """
    entries = list(store.lines())
    both = store.header()["identity"].get("dual_save", False)
    written = 0
    for tree in ("relabelled", "original") if both else ("",):
        for line in entries:
            label = line.get("original", line["label"]) if tree == "original" else line["label"]
            stem = Path(line["id"]).stem or "image"
            path = folder / tree / line["split"] / label / f"{stem}-{line['source']}-{line['row']:06d}.jpg"
            if path.is_file() and path.stat().st_size == line["bytes"]:
                continue
            _write_file(path, store.read(line["source"], line["offset"], line["bytes"]))
            written += 1
    return written


def _write_file(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)
