"""Where decoded images are kept, and how: whole files that appear in one step, or not at all.

``$TINYNAS_CACHE``, else ``$XDG_CACHE_HOME/tinynas``, else ``~/.cache/tinynas``. Everything in it can be deleted at any
time; it is made again. Arrays are written through ordinary writes and only then mapped: writing through a map
would end in a bus error where the disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tinynas.config import format_size
from tinynas.errors import DataError

SPARE_BYTES = 64 * 1024 * 1024
"""Left free on the disk when an array is written: a full disk breaks more than this program."""


def cache_dir() -> Path:
    """The cache folder; not created."""
    given = os.environ.get("TINYNAS_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".cache") / "tinynas"


def write_error(path: Path, error: OSError) -> DataError:
    """The DataError for a failed write to ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"{path}: the disk is full", "free some space, or choose a folder on a larger disk (TINYNAS_CACHE says where the cache is)"
        )
    return DataError(
        f"{path}: cannot be written: {error.strerror or error}",
        "check its permissions, or choose another folder (TINYNAS_CACHE says where the cache is)",
    )


class Writer:
    """Writes to a file on its way to ``path``; what goes wrong with the disk is a DataError."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data``."""
        try:
            return self._file.write(data)
        except OSError as error:
            raise write_error(self._path, error) from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Writer]:
    """A temporary file that becomes ``path`` when the block ends well, and vanishes when it does not.

    Raises DataError where the disk is full or the folder is not writable; what the block raises passes through.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise write_error(path, error) from None
    temporary = Path(name)
    file = os.fdopen(handle, "wb")
    try:
        yield Writer(file, path)
        try:
            file.flush()
            os.fsync(handle)
            file.close()
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError as error:
            raise write_error(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            temporary.unlink()  # gone already where all went well


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Only one process at a time is inside, where the system can lock files; a killed process frees its lock.

    Without ``wait`` a lock that is held raises DataError.
    Without file locks (some network disks) all enter: the work is then done twice, but every file stays whole.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise write_error(path, error) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{path.parent}: another process is working on it", "wait for it, or stop it first") from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def mapped(path: Path, shape: tuple[int, ...], make: Callable[[], Iterable[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """The uint8 array kept at ``path``, read-only and memory-mapped.

    Where it is missing or cut off, ``make`` yields its rows in chunks first. Raises DataError where it cannot be written.
    """
    found = _open(path, shape)
    if found is not None:
        return found
    with locked(path.with_suffix(".lock")):
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
