"""A prepared data set on disk: packs of files, a manifest, and the commit of work by whole shards.

::

    dataset.json            what was asked for, and the order of the shards
    shards/<key>.pack       the encoded files of a shard (JPEG), end to end
    shards/<key>.jsonl      one line for each file: id, label, split, sha256, source, offset, bytes, height, width, flags
    shards/<key>.json       what was dropped, bad or relabelled; its presence means the shard is finished
    manifest.jsonl          the lines of all finished shards, in order

A shard's files appear by renaming, its ``.json`` last. Whatever moment the work is killed at, a shard is finished or
not there, so continuing neither skips nor doubles a row.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinynas.data.records import BadInput
from tinynas.errors import DataError
from tinynas.files import disk_error, replacing

FORMAT = 2
"""Version of the layout. Format 1 wrote size: [width, height] in the place of height and width."""
READABLE = (1, FORMAT)
"""Versions that are read and continued; others are refused."""
MARKER = "dataset.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept file of a shard."""

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
    data: bytes
    """The encoded file."""
    size: tuple[int, int]
    """(height, width)"""


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
        if version not in READABLE:
            raise DataError(
                f"{path}: is of format {version}, this version reads {' and '.join(map(str, READABLE))}",
                "prepare the data again, into another folder",
            )
        return document

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write ``dataset.json``, or check that what is there was asked for in the same way.

        Only ``n`` may differ between two calls. Raises DataError naming the first difference.
        """
        wanted = {"format": FORMAT, **json.loads(json.dumps(header))}
        if self.exists():
            found = self.header()
            for key in sorted(set(wanted) | set(found)):
                if key not in ("n", "format") and wanted.get(key) != found.get(key):
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
                pack.write(entry.data)
                line = {
                    "id": entry.id,
                    "label": entry.label,
                    "split": entry.split,
                    "sha256": hashlib.sha256(entry.data).hexdigest(),
                    "source": key,
                    "row": entry.row,
                    "offset": offset,
                    "bytes": len(entry.data),
                    "height": entry.size[0],
                    "width": entry.size[1],
                    "flags": list(entry.flags),
                }
                if entry.original is not None:
                    line["original"] = entry.original
                lines.append(json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
                offset += len(entry.data)
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
        """The bytes at ``offset`` of a shard's pack."""
        with (self.shards / f"{key}.pack").open("rb") as pack:
            pack.seek(offset)
            data = pack.read(count)
        if len(data) != count:
            raise BadInput("truncated")
        return data

    def _lines(self, key: str) -> Iterator[bytes]:
        try:
            with (self.shards / f"{key}.jsonl").open("rb") as file:
                yield from file
        except OSError as error:
            raise disk_error(self.shards / f"{key}.jsonl", error, "read") from None


def line_size(line: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of a line of the manifest, whichever format wrote it."""
    if "size" in line:  # format 1
        width, height = line["size"]
        return height, width
    return line["height"], line["width"]


def _difference(found: object, wanted: object) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(set(found) | set(wanted)):
            if found.get(key) != wanted.get(key):
                return f"{key} was {_short(found.get(key))}, now {_short(wanted.get(key))}"
    return f"was {_short(found)}, now {_short(wanted)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
