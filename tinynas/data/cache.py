"""Where decoded images are kept, and how: whole files that appear in one step, or not at all.

``$TINYNAS_CACHE``, else ``$XDG_CACHE_HOME/tinynas``, else ``~/.cache/tinynas``. Everything in it can be deleted at any
time; it is made again. Arrays are written through ordinary writes and only then mapped: writing through a map
would end in a bus error where the disk is full.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinynas.config import format_size
from tinynas.errors import DataError
from tinynas.files import locked, replacing

SPARE_BYTES = 64 * 1024 * 1024
"""Left free on the disk when an array is written: a full disk breaks more than this program."""


def mapped(path: Path, shape: tuple[int, ...], make: Callable[[], Iterable[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """The uint8 array kept at ``path``, read-only and memory-mapped.

    Where it is missing or cut off, ``make`` yields its rows in chunks first. Raises DataError or DiskError where it cannot be kept.
    """
    found = _open(path, shape)
    if found is not None:
        return found
    with locked(path.with_suffix(".lock"), needed=False):
        found = _open(path, shape)  # another process may have made it while we waited
        if found is not None:
            return found
        need = int(np.prod(shape, dtype=np.int64))
        check_space(path.parent, need)
        rows = 0
        with replacing(path) as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for chunk in make():
                file.write(np.ascontiguousarray(chunk, dtype=np.uint8).data)
                rows += len(chunk)
            if rows != shape[0]:
                raise DataError(
                    f"{path}: {rows} rows were made where {shape[0]} are expected", "the images changed while they were read; try again"
                )
    found = _open(path, shape)
    if found is None:
        raise DataError(f"{path}: cannot be read back", "check the disk, or set TINYNAS_CACHE to another folder")
    return found


def check_space(folder: Path, need_bytes: int) -> None:
    """Raises DataError where ``folder``'s disk has no room for ``need_bytes``."""
    existing = next((p for p in (folder, *folder.parents) if p.exists()), Path())
    free = shutil.disk_usage(existing).free
    if free < need_bytes + SPARE_BYTES:
        raise DataError(
            f"{folder}: {format_size(need_bytes)} are needed and {format_size(free)} are free",
            "free some space, set TINYNAS_CACHE to a folder on a larger disk, or use fewer images (--set data.limit=N)",
        )


def _open(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    try:
        if 0 in shape:
            return np.zeros(shape, np.uint8)
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError):
        return None  # cut off or of another format: made again
    return array if array.shape == shape and array.dtype == np.uint8 else None
