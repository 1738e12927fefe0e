"""Clock: when a search began and when it must have ended, in one process's time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

#: Seconds kept back from the time limit for writing up.
WRITE_UP = 2.0


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

    def to_json(self) -> dict[str, float | None]:
        """``clock.json``: the deadline in wall-clock time, which is what processes and machines share."""
        return {"deadline": None if self.deadline is None else time.time() + self.seconds_left(), "timeout": self.timeout}

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | None) -> Self:
        """The clock that another process wrote, in this one's time; without a limit where it wrote none."""
        if document is None or document["deadline"] is None:
            return cls(time.monotonic())
        deadline, timeout = time.monotonic() + document["deadline"] - time.time(), document["timeout"]
        return cls(deadline + WRITE_UP - timeout, timeout, deadline)
