"""Clock: when a search began and when it must have ended, in one process's time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

#: Seconds kept back from the time limit for writing up.
WRITE_UP = 2.0
#: Changes with every start of a Linux machine: processes that read the same share one monotonic time.
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Clock:
    """Times in seconds; ``started`` and ``deadline`` are ``time.monotonic()`` of this process."""

    started: float
    timeout: float | None = None
    """From the start to the end of everything; None: no limit."""
    deadline: float | None = None
    """No training goes on beyond it."""

    @classmethod
    def begun(cls, started: float, timeout: float | None) -> Self:
        """The clock of a search that began at ``started`` and may take ``timeout`` seconds."""
        return cls(started, timeout, None if timeout is None else started + timeout - WRITE_UP)

    def progress(self) -> float:
        """Share of the time that is gone, 0..1; 0 without a time limit."""
        return 0.0 if self.timeout is None else min(1.0, (time.monotonic() - self.started) / self.timeout)

    def seconds_left(self) -> float:
        """Until the deadline; infinite without one, negative past it."""
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def to_json(self) -> dict[str, Any]:
        """``clock.json``, for processes that join: the seconds that are left now, and this machine's monotonic deadline beside its
        name. ``deadline`` is in wall-clock time, for people and pages; no process goes by it."""
        left = None if self.deadline is None else self.seconds_left()
        deadline = None if left is None else time.time() + left
        return {"deadline": deadline, "timeout": self.timeout, "left": left, "monotonic": self.deadline, "boot": boot()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | None, age: float) -> Self:
        """The clock that another process wrote ``age`` seconds ago, in this one's time; without a limit where it wrote none.

        On the machine that wrote it its monotonic time counts; elsewhere what was left less ``age``, and no clock makes more of it
        than was left, or less than nothing.
        """
        if document is None or document["deadline"] is None:
            return cls(time.monotonic())
        timeout = document["timeout"]
        if document.get("boot") is not None and document["boot"] == boot():
            deadline = min(document["monotonic"], time.monotonic() + document["left"])
        else:
            # Version 0.2.0 wrote the wall-clock deadline alone.
            left = document["left"] if "left" in document else min(timeout, document["deadline"] + age - time.time())
            deadline = time.monotonic() + min(max(0.0, left - age), max(0.0, left))
        return cls(deadline + WRITE_UP - timeout, timeout, deadline)


def boot() -> str | None:
    """What names this start of this machine, or None where the system does not say (then nothing is compared)."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return None


def age_of(path: Path) -> float:
    """Seconds since ``path`` was written, by the clock of the disk it lies on, which all machines share that share the disk.

    Zero where it does not exist or nothing can be written beside it.
    """
    probe = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        probe.write_bytes(b"")
        try:
            return probe.stat().st_mtime - path.stat().st_mtime
        finally:
            probe.unlink()
    except OSError:
        return 0.0
