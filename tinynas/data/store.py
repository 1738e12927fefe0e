"""A prepared data set on disk: JPEG packs, a manifest, and the commit of work by whole shards.

::

    dataset.json            what was asked for, and the order of the shards
    shards/<key>.pack       the JPEG files of a shard, end to end
    shards/<key>.jsonl      one line for each image: id, label, split, sha256, source, offset, bytes, size, flags
    shards/<key>.json       what was dropped, bad or relabelled; its presence means the shard is finished
    manifest.jsonl          the lines of all finished shards, in order

A shard's files appear by renaming, its ``.json`` last. Whatever moment the work is killed at, a shard is finished or
not there, so continuing neither skips nor doubles a row.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.data.cache import cache_dir
from tinynas.data.dataset import Bad, ImageData, Record, assemble
from tinynas.data.images import BadImage
from tinynas.data.options import DataOptions
from tinynas.data.scan import OnProgress
from tinynas.errors import DataError
from tinynas.files import disk_error, replacing

FORMAT = 1
"""Version of the layout; another one is refused."""
MARKER = "dataset.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept image of a shard."""

    id: str
    """File name in the source."""
    row: int
    """Row in the source shard."""
    split: str
    label: str
    original: str | None
    """The label before relabelling, where both are kept and differ."""
    flags: tuple[str, ...]
    """Attributes that are true; ``-name`` for one that does not apply."""
    jpeg: bytes
    width: int
    height: int


@dataclass
class Summary:
    """What happened to the rows of a shard."""

    rows: int = 0
    """Rows read."""
    kept: int = 0
    """Images kept of the split asked for; the far set is not counted."""
    limited: bool = False
    """The shard has more rows that were not read because enough images had been kept."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Rows left out on purpose, by reason."""
    bad: list[tuple[str, str]] = field(default_factory=list)
    """Images that cannot be used: file name and reason."""
    relabelled: Counter[str] = field(default_factory=Counter)
    """Changed labels, by direction."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; counters sorted by name."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "limited": self.limited,
            "dropped": dict(sorted(self.dropped.items())),
            "bad": [list(entry) for entry in self.bad],
            "relabelled": dict(sorted(self.relabelled.items())),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Summary:
        """The summary that :meth:`to_json` wrote."""
        return cls(
            document["rows"],
            document["kept"],
            document["limited"],
            Counter(document["dropped"]),
            [(name, reason) for name, reason in document["bad"]],
            Counter(document["relabelled"]),
        )


class Store:
    """A prepared data set at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shards = root / "shards"
        self.manifest = root / "manifest.jsonl"

    def exists(self) -> bool:
        """Whether ``root`` is, or begins to be, a prepared data set."""
        return (self.root / MARKER).is_file()

    def header(self) -> dict[str, Any]:
        """``dataset.json``. Raises DataError where it is missing, broken or of another version."""
        path = self.root / MARKER
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version = document["format"]
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{path}: is missing or broken", "prepare the data again, into an empty folder") from None
        if version != FORMAT:
            raise DataError(f"{path}: is of format {version}, this version reads {FORMAT}", "prepare the data again, into another folder")
        return document

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write ``dataset.json``, or check that what is there was asked for in the same way.

        Only ``n`` may differ between two calls. Raises DataError naming the first difference.
        """
        wanted = {"format": FORMAT, **json.loads(json.dumps(header))}
        if self.exists():
            found = self.header()
            for key in sorted(set(wanted) | set(found)):
                if key != "n" and wanted.get(key) != found.get(key):
                    detail = _difference(found.get(key), wanted.get(key))
                    raise DataError(
                        f"{self.root}: was begun with other settings ({key}: {detail})",
                        "use the same settings, another --out, or delete the folder",
                    )
        elif self.root.is_dir() and any(self.root.iterdir()):
            raise DataError(f"{self.root}: is not empty and holds no prepared data", "choose another --out")
        with replacing(self.root / MARKER) as file:
            file.write(json.dumps(wanted, indent=1, sort_keys=True).encode() + b"\n")

    def summary(self, key: str) -> Summary | None:
        """What happened to a finished shard; None where it is not finished."""
        try:
            return Summary.from_json(json.loads((self.shards / f"{key}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, key: str, entries: Iterable[Entry], summary: Summary) -> int:
        """Write one shard; ``summary`` is complete once ``entries`` is exhausted. Returns the bytes of its pack.

        Raises DiskError where the disk is full; errors of ``entries`` pass through. Either leaves no trace of the shard.
        """
        if self.shards.is_dir():
            for leftover in self.shards.glob(f".{key}.*"):  # of a killed process; finished files have no leading dot
                leftover.unlink(missing_ok=True)
        lines = []
        offset = 0
        with replacing(self.shards / f"{key}.pack") as pack:
            for entry in entries:
                pack.write(entry.jpeg)
                line = {
                    "id": entry.id,
                    "label": entry.label,
                    "split": entry.split,
                    "sha256": hashlib.sha256(entry.jpeg).hexdigest(),
                    "source": key,
                    "row": entry.row,
                    "offset": offset,
                    "bytes": len(entry.jpeg),
                    "size": [entry.width, entry.height],
                    "flags": list(entry.flags),
                }
                if entry.original is not None:
                    line["original"] = entry.original
                lines.append(json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
                offset += len(entry.jpeg)
        with replacing(self.shards / f"{key}.jsonl") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
        with replacing(self.shards / f"{key}.json") as file:
            file.write(json.dumps(summary.to_json(), indent=1, ensure_ascii=False).encode() + b"\n")
        return offset

    def forget(self, key: str) -> None:
        """Remove a shard, its commit first."""
        for ending in ("json", "jsonl", "pack"):
            (self.shards / f"{key}.{ending}").unlink(missing_ok=True)

    def finish(self, order: Sequence[Sequence[str]], n: int) -> int:
        """Write ``manifest.jsonl`` from the finished shards; returns its number of lines.

        ``order`` holds lists of shard keys; of each list at most ``n`` images are taken (0: all). Far images count apart.
        """
        total = 0
        with replacing(self.manifest) as file:
            for keys in order:
                taken = 0
                for key in keys:
                    if self.summary(key) is None or (n and taken >= n):
                        continue
                    for line in self._lines(key):
                        counts = json.loads(line)["split"] != "far"
                        if n and counts and taken >= n:
                            break
                        taken += counts
                        total += 1
                        file.write(line)
        return total

    def lines(self) -> Iterator[dict[str, Any]]:
        """The manifest, line by line. Raises DataError where there is none."""
        try:
            with self.manifest.open("rb") as file:
                for line in file:
                    yield json.loads(line)
        except FileNotFoundError:
            raise DataError(f"{self.root}: is not prepared to the end", "run the same `tinynas data prepare` command again") from None
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.manifest}: is broken: {error}", "run the same `tinynas data prepare` command again") from None

    def read(self, key: str, offset: int, count: int) -> bytes:
        """The JPEG bytes at ``offset`` of a shard's pack."""
        with (self.shards / f"{key}.pack").open("rb") as pack:
            pack.seek(offset)
            data = pack.read(count)
        if len(data) != count:
            raise BadImage("truncated")
        return data

    def _lines(self, key: str) -> Iterator[bytes]:
        try:
            with (self.shards / f"{key}.jsonl").open("rb") as file:
                yield from file
        except OSError as error:
            raise disk_error(self.shards / f"{key}.jsonl", error, "read") from None


def _difference(found: object, wanted: object) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(set(found) | set(wanted)):
            if found.get(key) != wanted.get(key):
                return f"{key} was {_short(found.get(key))}, now {_short(wanted.get(key))}"
    return f"was {_short(found)}, now {_short(wanted)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _Packs:
    """Reads from packs through files that stay open; usable from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files: dict[str, int] = {}
        self._lock = Lock()

    def read(self, key: str, offset: int, count: int) -> bytes:
        if not hasattr(os, "pread"):  # Windows
            return self._store.read(key, offset, count)
        with self._lock:
            handle = self._files.get(key)
            if handle is None:
                if len(self._files) > 200:  # of a thousand files a process may have open
                    os.close(self._files.pop(next(iter(self._files))))
                handle = self._files[key] = os.open(self._store.shards / f"{key}.pack", os.O_RDONLY)
            data = os.pread(handle, count, offset)
        if len(data) != count:
            raise BadImage("truncated")
        return data

    def __del__(self) -> None:
        for handle in self._files.values():
            os.close(handle)


def open_store(
    root: Path, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> ImageData:
    """A prepared data set as :class:`ImageData`; its flags become attributes. Raises DataError."""
    store = Store(root)
    header = store.header()
    notes = [f"prepared data set {header['name']} in {root}"]
    keys = [key for part in header["order"] for keys in part for key in keys]
    missing = sum(store.summary(key) is None for key in keys) if not header.get("n") else 0
    if missing:
        notes.append(f"{missing} of {len(keys)} shards are not prepared yet; the same `tinynas data prepare` command continues")
    records, places, flags = [], [], []
    relabelled = 0
    for line in store.lines():
        label = line["label"]
        if "original" in line:
            relabelled += 1
            label = line["original"] if options.original_labels else label
        records.append(Record(f"{line['source']}/{line['row']:06d}/{line['id']}", label, line["split"], line["sha256"], *line["size"]))
        places.append((line["source"], line["offset"], line["bytes"]))
        flags.append(line["flags"])
    if relabelled:
        which = "original labels" if options.original_labels else "new labels; --set data.original_labels=true for the old ones"
        notes.append(f"{relabelled:,} images are relabelled; using the {which}")
    packs = _Packs(store)

    def read(i: int) -> bytes:
        return packs.read(*places[i])

    return assemble(
        str(root),
        records,
        read,
        options,
        seed=seed,
        cache=cache or cache_dir(),
        bad=_bad(store, keys),
        notes=notes,
        label_order=header["labels"],
        attributes=_attributes(flags),
        on_progress=on_progress,
    )


def _bad(store: Store, keys: Iterable[str]) -> list[Bad]:
    return [Bad(f"{key}/{name}", reason) for key in keys if (found := store.summary(key)) is not None for name, reason in found.bad]


def _attributes(flags: Sequence[Sequence[str]]) -> dict[str, NDArray[np.int8]]:
    names = sorted({flag.removeprefix("-") for row in flags for flag in row})
    columns = {name: np.zeros(len(flags), np.int8) for name in names}
    for i, row in enumerate(flags):
        for flag in row:
            columns[flag.removeprefix("-")][i] = -1 if flag.startswith("-") else 1
    return columns
