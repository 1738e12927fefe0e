"""The journal of a study in the run folder: mended when it is opened, appended to whole or not at all.

Optuna's journal is one JSON object a line. A full disk or a power cut leaves part of a line behind; Optuna glues the next
one to it and cannot read the file any more. Everything here happens under the study's lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from tinynas.errors import RunError
from tinynas.files import append_bytes, disk_error, write_atomic

#: How each of Optuna's lines begins.
_BEGINNING = b'{"op_code":'
#: Seconds after which another's lock file, unchanged, counts as left over by a kill: it is held for one write.
LEFT_OVER_SECONDS = 1.0
_POLL_SECONDS = 0.01


class Journal(JournalFileBackend):  # type: ignore[misc]  # optuna is untyped here
    """Optuna's journal at ``path``. Raises DiskError where it cannot be made."""

    def __init__(self, path: Path) -> None:
        self._path, self._outside = path, OutsideLock(path)
        self._pending: list[dict[str, Any]] | None = None
        self._first: int | None = None
        self._broken: Exception | None = None
        try:
            super().__init__(str(path), lock_obj=self._outside)
        except OSError as error:
            raise disk_error(path, error) from None

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is appended in the block is written at its end, in one step: all of it or nothing. Raises DiskError."""
        if self._pending is not None:
            yield
            return
        self._outside.acquire()
        self._pending, self._first = [], None
        try:
            yield
        finally:
            logs, first = self._pending, self._first
            self._pending = None
            try:
                self._write(logs, first)
            finally:
                self._outside.release()

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """What Optuna reads: the file from that line on, then what waits to be written."""
        number = log_number_from
        if self._pending is None or self._first is None or number < self._first:
            for log in super().read_logs(number):
                yield log
                number += 1
            if self._pending is not None:
                # The file does not change in a block: nobody else has the locks.
                self._first = number
        if self._pending is not None and self._first is not None:
            yield from self._pending[number - self._first :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append in one step, or at the end of :meth:`together`'s block. Raises DiskError; the file is then as it was."""
        if self._pending is not None:
            # As it will be read again.
            self._pending += [json.loads(json.dumps(log)) for log in logs]
            return
        self._outside.acquire()
        try:
            self._write(logs, None)
        finally:
            self._outside.release()

    def _write(self, logs: list[dict[str, Any]], first: int | None) -> None:
        if self._broken is not None:
            raise self._broken
        if not logs:
            return
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        try:
            offset = append_bytes(self._path, b"".join(lines))
        except Exception as error:
            # Optuna believes that it was written: this process must not go on with what it knows.
            self._broken = error
            raise
        if first is not None:
            for number, line in enumerate(lines, start=first + 1):
                self._log_number_offset[number - 1] = offset
                offset += len(line)
                self._log_number_offset[number] = offset


class OutsideLock(JournalFileOpenLock):  # type: ignore[misc]  # optuna is untyped here
    """The lock file by which Optuna's own tools (its dashboard) keep out of each other's way; among ourselves the study's lock does."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = Path(self._lock_file)

    def acquire(self) -> bool:
        """Make the file, or wait until it is gone; one that nobody has touched for a while is taken away. Raises DiskError."""
        seen, since = None, time.monotonic()
        while True:
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                return True
            except FileExistsError:
                pass
            except OSError as error:
                raise disk_error(self.path, error) from None
            with contextlib.suppress(OSError):
                stamp = self.path.stat().st_mtime_ns
                if stamp != seen:
                    seen, since = stamp, time.monotonic()
                elif time.monotonic() - since > LEFT_OVER_SECONDS:
                    self.path.unlink()
                    continue
            time.sleep(_POLL_SECONDS)

    def release(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def mend(path: Path) -> None:
    """Make the journal at ``path`` readable again: what a full disk, a kill or a power cut left of a line goes, blank lines too.

    What is cut off was never reported as written. Raises RunError where a line amid others is damaged, DiskError where the
    file cannot be replaced.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise disk_error(path, error, "read") from None
    # Behind the last newline stands what was never finished.
    kept: list[bytes] = []
    damaged: int | None = None
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        if not line.strip(b" \t\r\0"):
            continue
        # What an earlier version glued to a line that was cut off begins where the last record begins.
        start = max(0, line.rfind(_BEGINNING))
        if not _is_record(line[start:]):
            damaged = damaged or number
        elif damaged is not None:
            raise RunError(
                f"{path}, line {damaged}: is no record of a study",
                "restore the file from a copy, or start a new run; the networks of this one can still be promoted",
            )
        else:
            kept.append(line[start:] + b"\n")
    if damaged is not None and not kept:
        raise RunError(f"{path}: is no journal of a study", "restore it from a copy, or start a new run")
    mended = b"".join(kept)
    if mended != data:
        write_atomic(path, mended)


def _is_record(line: bytes) -> bool:
    try:
        document = json.loads(line)
    except ValueError:
        return False
    return isinstance(document, dict) and "op_code" in document
