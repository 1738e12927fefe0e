"""An engine that does a cluster's tasks at once, in this process, for the tests of searches on a cluster; the fixture is in conftest.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Future:
    """What came of a task; not done where nothing answers."""

    def __init__(self, work: Callable[[], Any] | None) -> None:
        self.answer: Any = None
        self.error: BaseException | None = None
        self.answers = work is not None
        if work is not None:
            try:
                self.answer = work()
            except Exception as error:
                self.error = error
        self.cancelled = False
        self.late = 0
        """How often what came of it takes too long to be had."""

    def done(self) -> bool:
        return self.answers

    def result(self, timeout: float | None = None) -> Any:
        if not self.answers or self.late > 0:
            self.late -= 1
            raise TimeoutError
        if self.error is not None:
            raise self.error
        return self.answer

    def add_done_callback(self, told: Callable[[Future], None]) -> None:
        if self.answers:
            told(self)

    def cancel(self) -> None:
        self.cancelled = True


class Engine:
    """Stands in for Dask's client: workers by address, each a machine by the cache that it has; tasks run where they are submitted."""

    def __init__(self, workers: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers, self.monkeypatch = workers, monkeypatch
        self.status, self.hangs = "running", set[tuple[str, str]]()
        self.others: dict[str, Exception] = {}
        self.late = self.slow = 0
        self.turn = threading.Lock()
        self.taken: list[tuple[str, str]] = []
        self.sent: list[tuple[str, int]] = []
        self.futures: list[Future] = []

    def nthreads(self) -> dict[str, int]:
        if self.slow > 0:
            self.slow -= 1
            raise OSError("Timed out trying to connect")
        return dict.fromkeys(self.workers, 1)

    def submit(self, function: Any, what: str, *given: Any, workers: list[str] | None = None, pure: bool, priority: int = 0) -> Future:
        assert workers != [], "nobody may take it: the engine would let anybody"
        able = [one for one in workers or sorted(self.workers) if one in self.workers]
        address = min(able, key=lambda one: (what, one) in self.hangs, default=None)  # who has time, if anybody has

        def work() -> Any:
            assert address is not None
            if address in self.others:
                raise self.others[address]
            # A worker's own cache, as on a machine of its own; the search keeps the one that it was begun with. One at a time: the
            # environment is the process's, and images are sent from several threads.
            with self.turn, self.monkeypatch.context() as there:
                there.setenv("TINYNAS_CACHE", str(self.workers[address]))
                return function(what, *given)

        self.taken.append((what, address or ""))
        self.futures.append(Future(None if address is None or (what, address) in self.hangs else work))
        if what == "hello":
            self.futures[-1].late = self.late
        return self.futures[-1]

    def scatter(self, chunks: list[bytes], workers: list[str], hash: bool) -> list[bytes]:
        self.sent += [(workers[0], len(chunk)) for chunk in chunks]
        return chunks

    def close(self, timeout: float) -> None:
        self.status = "closed"
