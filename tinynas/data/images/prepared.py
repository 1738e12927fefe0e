"""Opening a prepared set of images: what ``tinynas data prepare`` wrote."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from tinynas.data.assemble import Source, assemble
from tinynas.data.dataset import DataSet
from tinynas.data.images.signal import image_signal, made_notes
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import Bad, BadInput, Record
from tinynas.data.store import Store, line_size
from tinynas.errors import counted
from tinynas.files import cache_dir


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
            raise BadInput("truncated")
        return data

    def __del__(self) -> None:
        for handle in self._files.values():
            os.close(handle)


def open_store(
    root: Path, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> DataSet:
    """A prepared data set as :class:`DataSet`; its flags become attributes. Raises DataError."""
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
        records.append(Record(f"{line['source']}/{line['row']:06d}/{line['id']}", label, line["split"], line["sha256"], line_size(line)))
        places.append((line["source"], line["offset"], line["bytes"]))
        flags.append(line["flags"])
    if relabelled:
        which = "original labels" if options.original_labels else "new labels; --set data.original_labels=true for the old ones"
        notes.append(f"{counted(relabelled, 'image')} {'is' if relabelled == 1 else 'are'} relabelled; using the {which}")
    packs = _Packs(store)

    def read(i: int) -> bytes:
        return packs.read(*places[i])

    source = Source(
        str(root),
        image_signal(options),
        records,
        read,
        bad=_bad(store, keys),
        notes=[*notes, *made_notes(options)],
        label_order=header["labels"],
        attributes=_attributes(flags),
    )
    return assemble(source, options, seed=seed, cache=cache or cache_dir(), on_progress=on_progress)


def _bad(store: Store, keys: Iterable[str]) -> list[Bad]:
    return [Bad(f"{key}/{name}", reason) for key in keys if (found := store.summary(key)) is not None for name, reason in found.bad]


def _attributes(flags: Sequence[Sequence[str]]) -> dict[str, NDArray[np.int8]]:
    names = sorted({flag.removeprefix("-") for row in flags for flag in row})
    columns = {name: np.zeros(len(flags), np.int8) for name in names}
    for i, row in enumerate(flags):
        for flag in row:
            columns[flag.removeprefix("-")][i] = -1 if flag.startswith("-") else 1
    return columns
