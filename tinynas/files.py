"""Files: whole or not at all, one process at a time; and what is said when the disk refuses.

A file is either replaced in one step (temporary file, fsync, rename) or appended to line by line with a flush to disk.
A line cut off by a kill is dropped on reading and mended on the next append. Locks are the kernel's: they end with the
process that holds them, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Never

from tinynas.errors import DiskError, RunError, UserError

#: Where Windows locks: one byte that no file of ours reaches. Its locks keep others from reading what they cover.
_LOCK_BYTE = 0x7FFF_0000
#: Seconds between two attempts at a lock that is not waited for by the system itself.
_POLL_SECONDS = 0.02


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_number() -> int:
    """This process's number among those that ``torchrun`` started; 0, which any other process is, writes the files and speaks."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


def cache_dir() -> Path:
    """The cache folder; not created."""
    given = os.environ.get("TINYNAS_CACHE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".cache") / "tinynas"


def disk_error(place: object, error: OSError, failed: str = "written") -> DiskError:
    """The DiskError for what could not be ``failed`` (written, read, used) at ``place``: a path, or None where unknown."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space and run the command again (a search: with --resume); nothing finished is lost"
    else:
        hint = "check the path and its permissions"
    before = "" if place is None else f"{place}: "
    # Of a place that is not known it may be the cache that has no room.
    cache = ". TINYNAS_CACHE moves the cache elsewhere" if place is None or Path(str(place)).is_relative_to(cache_dir()) else ""
    return DiskError(f"{before}cannot be {failed}: {error.strerror or error}", f"{hint}{cache}")


# replaced in one step ---------------------------------------------------------------------------------


class Writer:
    """Writes to a file on its way to ``path``; what goes wrong with the disk is a DiskError."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data``."""
        try:
            return self._file.write(data)
        except OSError as error:
            raise disk_error(self._path, error) from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Writer]:
    """A temporary file that becomes ``path`` when the block ends well, and vanishes when it does not.

    Raises DiskError where the disk is full, the folder is not writable, or ``path`` is a device or a pipe, which a file would replace; what
    the block raises passes through.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DiskError(f"{path}: is a device or a pipe, and what is written takes a file's place", "name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
        # Opened as any other file would be: who may read it is for the umask to say.
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise disk_error(path, error) from None
    file = os.fdopen(handle, "wb")
    try:
        yield Writer(file, path)
        try:
            file.flush()
            os.fsync(handle)
            file.close()
            temporary.replace(path)
        except OSError as error:
            raise disk_error(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            temporary.unlink()  # gone already where all went well


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace ``path`` with ``content`` in one step. Raises DiskError where the disk is full or not writable."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


# appended line by line --------------------------------------------------------------------------------


def append_line(path: Path, document: Mapping[str, Any]) -> None:
    """Append one JSON line and flush it to disk, mending a line that a kill cut off. Raises DiskError on a full disk."""
    line = json.dumps(document, sort_keys=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file, holding(file):  # several workers append to one file
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            _append(file, line)
    except OSError as error:
        raise disk_error(path, error) from None


def append_bytes(path: Path, data: bytes) -> int:
    """Append ``data`` and flush it to disk; where it begins. Raises DiskError, and the file is then as long as it was.

    Only for files that the caller has locked and knows to end well.
    """
    try:
        with path.open("ab", buffering=0) as file:
            return _append(file, data)
    except OSError as error:
        raise disk_error(path, error) from None


def _append(file: IO[bytes], data: bytes) -> int:
    # Without a buffer: what it still holds after a failure would be written when the file is closed.
    start = file.seek(0, os.SEEK_END)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(start)
        raise
    return start


def no_number(text: str) -> Never:
    """For ``parse_constant``: NaN and Infinity are no numbers of JSON."""
    raise ValueError(f"{text} is no number of JSON")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of ``path`` (none where it does not exist); a cut-off last line is skipped.

    Raises RunError, with the line's number, where another line is no JSON.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                return
            try:
                document = json.loads(raw, parse_constant=no_number)
            except (ValueError, RecursionError):  # JSONDecodeError, UnicodeDecodeError, integers of thousands of digits
                document = None
            if not isinstance(document, dict):
                raise RunError(
                    f"{path}, line {number}: is not JSON", "the file was edited or damaged; restore it, or start a new run"
                ) from None
            yield document


class LockHeldError(UserError):
    """Another process holds the lock on ``path``: process ``holder`` of this machine, where that is known."""

    def __init__(self, path: Path, holder: int | None) -> None:
        self.holder = holder
        who = "it" if holder is None else f"process {holder}"
        super().__init__(f"{path.parent}: another process is working on it", f"wait for {who}, or stop it first")


def holder(path: Path) -> int | None:
    """The process of this machine that holds the lock on ``path``, where the system says (Linux)."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        inode = str(path.stat().st_ino)
    except OSError:
        return None
    for line in lines:
        # "1: FLOCK  ADVISORY  WRITE 4711 fe:00:131073 0 EOF"; with "->" behind the number it waits for the lock.
        words = line.split()
        if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode:
            return int(words[4])
    return None


# locked -----------------------------------------------------------------------------------------------


def lock(file: IO[bytes], *, wait: bool = True) -> bool:
    """Lock an open file for this process until :func:`unlock` or its end; False where it is held and not ``wait``.

    Raises OSError where the disk knows no locks (some network disks).
    """
    try:
        fcntl: Any = import_module("fcntl")
    except ImportError:
        return _lock_windows(file, wait=wait)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def unlock(file: IO[bytes]) -> None:
    """Release what :func:`lock` locked; closing the file does the same."""
    try:
        fcntl: Any = import_module("fcntl")
    except ImportError:
        msvcrt: Any = import_module("msvcrt")
        with _at_lock_byte(file):
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        return
    fcntl.flock(file, fcntl.LOCK_UN)


def _lock_windows(file: IO[bytes], *, wait: bool) -> bool:
    msvcrt: Any = import_module("msvcrt")
    with _at_lock_byte(file):
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return True
            except PermissionError:  # EACCES: another process holds it
                if not wait:
                    return False
                time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _at_lock_byte(file: IO[bytes]) -> Iterator[None]:
    # Windows locks bytes from the file's position on; the position is nobody else's business.
    before = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    os.lseek(file.fileno(), _LOCK_BYTE, os.SEEK_SET)
    try:
        yield
    finally:
        os.lseek(file.fileno(), before, os.SEEK_SET)


@contextlib.contextmanager
def holding(file: IO[bytes]) -> Iterator[None]:
    """An open file's lock for the length of a ``with``; waits for it. Raises OSError where the disk knows no locks."""
    lock(file)
    try:
        yield
    finally:
        unlock(file)


@contextlib.contextmanager
def locked(path: Path, *, wait: float = math.inf, needed: bool = True) -> Iterator[None]:
    """Only one process at a time is inside; a killed process frees its lock. ``path`` is made, and stays.

    ``wait`` is how many seconds at most (False: none); a lock that is still held then raises LockHeldError. Where the disk knows
    no locks DiskError is raised, or, where a lock is not ``needed``, all enter: for work that is only done twice then, with every
    file whole.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise disk_error(path, error) from None
    with file:
        try:
            free = lock(file, wait=wait == math.inf)
            end = time.monotonic() + wait
            while not free and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
                free = lock(file, wait=False)
        except OSError as error:
            if needed:
                raise disk_error(path, error, "locked") from None
            free = True
        if not free:
            raise LockHeldError(path, holder(path))
        yield
