"""The processes that train side by side: started, listened to, looked after, ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any

from tinynas.errors import RunError, counted
from tinynas.search.prepare import POLL, Session
from tinynas.search.view import View

#: Seconds before the deadline below which a worker that died is not replaced: it could not train an epoch.
WORTH_STARTING = 5.0
#: Seconds after the deadline, and share of the time limit, after which a worker that has not ended is ended.
GRACE = 15.0
GRACE_SHARE = 0.05
#: Seconds after which a worker that somebody stopped (SIGSTOP) is replaced: it may hold what the others wait for.
STOPPED_SECONDS = 10.0
#: Seconds that a worker has for ending in good order, and its pipes for running dry behind it.
ENDING_SECONDS = 10.0
DRY_SECONDS = 1.0
#: Deaths in a row, no training finished between them, that end the search; for each worker one more.
DEATHS = 5
#: Bytes kept of what a worker printed last.
KEPT_BYTES = 16_384


class Process:
    """A worker process. What it prints is read as it comes, however much that is; the end of it is kept."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], first_line: str) -> None:
        # stdin ties the worker to this process: when we die, however we die, it reads the end of the file and stops.
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        assert self.popen.stdin is not None and self.popen.stdout is not None and self.popen.stderr is not None
        self._stdin = self.popen.stdin
        self._stopped_at: float | None = None
        self._kept = {"said": bytearray(), "wrong": bytearray()}
        self._threads = [
            threading.Thread(target=_drain, args=(stream, self._kept[name]), daemon=True)
            for name, stream in (("said", self.popen.stdout), ("wrong", self.popen.stderr))
        ]
        for thread in self._threads:
            thread.start()
        with contextlib.suppress(OSError):  # it may have died already
            self._stdin.write(first_line.encode() + b"\n")
            self._stdin.flush()

    def ended(self) -> int | None:
        """Its exit code, or None while it lives."""
        code = self.popen.poll()
        if code is not None:
            self._close()
        return code

    def told(self) -> dict[str, Any] | None:
        """What it said last on its standard output, as :mod:`tinynas.search.__main__` does; None where that is nothing of the kind."""
        try:
            document = json.loads(self._kept["said"].decode(errors="replace").strip().splitlines()[-1])
        except (IndexError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def wrong(self) -> str:
        """The end of its standard error."""
        return self._kept["wrong"].decode(errors="replace").strip()

    def stopped_seconds(self) -> float:
        """Since it was first seen stopped; 0 where it runs, or the system cannot tell."""
        stopped = False
        if hasattr(os, "waitid"):
            with contextlib.suppress(OSError):
                # Left in that state, for poll() to see the rest.
                stopped = os.waitid(os.P_PID, self.popen.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        if not stopped:
            self._stopped_at = None
            return 0.0
        self._stopped_at = self._stopped_at or time.monotonic()
        return time.monotonic() - self._stopped_at

    def terminate(self) -> None:
        """Ask it to end in good order."""
        with contextlib.suppress(OSError):
            self.popen.terminate()

    def end(self, seconds: float) -> None:
        """Wait so long for it to end, then kill it."""
        try:
            self.popen.wait(timeout=max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()
        for thread in self._threads:
            # A process that it started may hold the pipe open longer.
            thread.join(DRY_SECONDS)


def _drain(stream: IO[bytes], kept: bytearray) -> None:
    with stream, contextlib.suppress(OSError, ValueError):
        while data := os.read(stream.fileno(), 65_536):
            kept += data
            del kept[:-KEPT_BYTES]


def supervise(session: Session, view: View) -> str:
    """Keep ``workers`` processes training until they say that nothing is left to do; why that was.

    Raises RunError where a worker met a fault of the user's, or all keep dying. A worker that outlives the deadline is ended;
    one that was stopped is replaced.
    """
    settings, clock = session.settings, session.clock
    processes: list[Process | None] = [None] * settings.workers
    finished: list[str | None] = [None] * settings.workers
    deaths = 0
    grace = GRACE + GRACE_SHARE * (settings.timeout or 0.0)
    try:
        for index in range(settings.workers):
            processes[index] = _start(session, index)
        while True:
            running = 0
            for index, process in enumerate(processes):
                if process is None:
                    continue
                code = process.ended()
                if code is None:
                    stopped = process.stopped_seconds()
                    if stopped <= STOPPED_SECONDS:
                        running += 1
                        continue
                    # Gone or replaced, its training is another's.
                    process.end(0.0)
                    why = f"worker {index + 1} was stopped for {counted(round(stopped), 'second')}: ended"
                elif code == 0 and (told := process.told()) is not None:
                    processes[index] = None
                    finished[index] = told["reason"]
                    continue
                elif code == 2 and (told := process.told()) is not None:
                    remedy = "mend it, then continue with --resume; nothing finished is lost"
                    raise RunError(f"a worker stopped: {told['message']}", told["hint"] or remedy)
                else:
                    why = f"worker {index + 1} died ({_exit_text(code)})"
                    deaths += 1
                processes[index] = None
                view.emit("worker", f"{why}; another takes its training over")
                if deaths >= DEATHS + settings.workers:
                    detail = process.wrong().splitlines()[-1] if process.wrong() else _exit_text(code or 0)
                    raise RunError(
                        f"{counted(deaths, 'death')} of workers in a row, no training finished between them: {detail}",
                        "try --workers 1 to see why; nothing finished is lost",
                    )
                if clock.seconds_left() > WORTH_STARTING:
                    processes[index] = _start(session, index)
                    running += 1
            view.workers = running
            for trial in view.refresh():
                deaths = 0 if trial.was_trained else deaths
                view.emit("trial", trial=trial)
            if not running:
                return next((text for text in finished if text), "done")
            if clock.seconds_left() < -grace:
                late = [process for process in processes if process is not None]
                view.emit("worker", f"{counted(len(late), 'worker')} did not end in time: ended; --resume continues what they trained")
                return "the time is used"
            view.emit("tick")
            time.sleep(POLL)
    finally:
        view.workers = 0
        _stop([process for process in processes if process is not None])


def _start(session: Session, index: int) -> Process:
    settings = session.settings
    changes = {"trials": settings.trials, "timeout": settings.timeout, "workers": settings.workers, "storage": settings.storage}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TINYNAS_WORKER": "1"}
    command = [sys.executable, "-m", "tinynas.search", str(session.run.path.resolve()), str(index)]
    # Not among the arguments, which everybody on the machine can list: a storage's URL may hold a password. Processes of one
    # machine share its monotonic time, so that a wrong or changed clock has no say.
    return Process(command, environment, json.dumps({"changes": changes, "clock": asdict(session.clock)}))


def _stop(processes: Sequence[Process]) -> None:
    for process in processes:
        process.terminate()
    end = time.monotonic() + ENDING_SECONDS
    for process in processes:
        process.end(0.0 if process.stopped_seconds() else end - time.monotonic())


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
