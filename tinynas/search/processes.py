"""The processes that train side by side: started, looked after, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from tinynas.errors import RunError
from tinynas.search.prepare import POLL, Session
from tinynas.search.view import View

#: Seconds before the deadline below which a worker that died is not replaced: it could not train an epoch.
WORTH_STARTING = 5.0


def supervise(session: Session, view: View) -> str:
    """Keep ``workers`` processes training until they say that nothing is left to do."""
    settings = session.settings
    processes: list[subprocess.Popen[str] | None] = [None] * settings.workers
    deaths = 0
    finished: list[str | None] = [None] * settings.workers
    try:
        for index in range(settings.workers):
            processes[index] = _start(session, index)
        while True:
            running = 0
            for index, process in enumerate(processes):
                if process is None:
                    continue
                code = process.poll()
                if code is None:
                    running += 1
                    continue
                said, wrong = process.communicate()
                processes[index] = None
                if code == 0:
                    finished[index] = said.strip().splitlines()[-1] if said.strip() else "done"
                    continue
                if code == 2:
                    raise RunError(f"a worker stopped: {wrong.strip()}", "mend it, then continue with --resume; nothing finished is lost")
                deaths += 1
                view.emit("worker", f"worker {index + 1} died ({_exit_text(code)}); another takes its training over")
                if deaths > 3 * settings.workers + 5:
                    detail = wrong.strip().splitlines()[-1] if wrong.strip() else _exit_text(code)
                    raise RunError(f"workers keep dying: {detail}", "try --workers 1 to see why; nothing finished is lost")
                if session.clock.seconds_left() > WORTH_STARTING:
                    processes[index] = _start(session, index)
                    running += 1
            view.workers = running
            for trial in view.refresh():
                view.emit("trial", trial=trial)
            if not running:
                return next((text for text in finished if text), "done")
            view.emit("tick")
            time.sleep(POLL)
    finally:
        view.workers = 0
        _stop([process for process in processes if process is not None])


def _start(session: Session, index: int) -> subprocess.Popen[str]:
    settings = session.settings
    changes = {"trials": settings.trials, "timeout": settings.timeout, "workers": settings.workers, "storage": settings.storage}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TINYNAS_WORKER": "1"}
    # stdin ties the worker to this process: when we die, however we die, it reads the end of the file and stops.
    return subprocess.Popen(
        [sys.executable, "-m", "tinynas.search", str(session.run.path.resolve()), str(index), json.dumps(changes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def _stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            process.terminate()
    end = time.monotonic() + 10
    for process in processes:
        try:
            process.communicate(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
