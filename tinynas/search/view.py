"""What a display is shown of a running search, computed from its folder: it does not matter which process wrote it."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from typing import Any

from tinynas.errors import RunError
from tinynas.records import Trial
from tinynas.runs import Run
from tinynas.search.fronts import count, front_rows, normalised_hypervolume
from tinynas.search.prepare import Session
from tinynas.search.settings import Counts, SearchEvent, SearchSettings

OnEvent = Callable[[SearchEvent], None]


class View:
    """Counts, front and progress; ``emit`` tells them."""

    def __init__(self, run: Run, settings: SearchSettings, on_event: OnEvent, started: float) -> None:
        self.run, self.settings, self.on_event, self.started = run, settings, on_event, started
        self.session: Session | None = None
        self.records: dict[int, Trial] = {}
        self.counts, self.front, self.volume, self.workers = Counts(), 0, 0.0, 0
        self.best: float | None = None
        self.points: tuple[tuple[float, float, bool], ...] = ()
        self._offset = 0
        self.before = 0
        """Networks that had been trained when this process began."""
        self.seconds_before = 0.0
        """How long a search that is resumed had been training."""

    def begin(self, session: Session) -> None:
        """Training begins: the clock, and the number of networks that ends it, are written where every process reads them."""
        self.session = session
        self.refresh()
        told = 0.0
        # An earlier end said how long it all had taken; a kill said nothing, and what is damaged is written anew at the next end.
        with contextlib.suppress(RunError):
            told = (self.run.read_json("summary") or {}).get("seconds", 0.0)
        self.before, self.seconds_before = self.counts.trained, max(told, self.run.seconds_in_training())
        self.run.write_json("clock", {**session.clock.to_json(), "trials": session.plan.networks})

    def recorded(self, trial: Trial) -> None:
        """A trial of this process was written."""
        self.refresh()
        self.emit("trial", trial=trial)

    def refresh(self) -> list[Trial]:
        """Read what is new in trials.jsonl."""
        new: list[Trial] = []
        path = self.run.trials_file
        if path.exists():
            with path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    with contextlib.suppress(json.JSONDecodeError):
                        trial = Trial.from_json(json.loads(line))
                        self.records[trial.number] = trial
                        new.append(trial)
        if new and self.session is not None:
            self.counts = count(self.records.values())
            rows = front_rows(list(self.records.values()), self.session.goals)
            self.front = len(rows)
            seen = [record.accuracy for record in self.records.values() if record.was_trained]
            numbers, cost = {record.number for record in rows}, self.session.cost
            self.points = tuple(
                (float(value), record.accuracy, record.number in numbers)
                for record in self.records.values()
                if record.was_trained and record.accuracy is not None and (value := record.costs.get(cost)) is not None
            )
            self.best = max((accuracy for accuracy in seen if accuracy is not None), default=None)
            self.volume = normalised_hypervolume(list(self.records.values()), self.session.goals, self.session.reference)
        return new

    def emit(self, kind: Any, message: str = "", trial: Trial | None = None) -> None:
        """Tell the display how things stand."""
        elapsed = time.monotonic() - self.started
        progress, eta = 0.0, None
        timeout, trials = self.settings.timeout, self.settings.trials
        if trials is not None:
            progress = min(1.0, self.counts.trained / trials)
            # Of a resumed search what was trained before took none of this time.
            if (done := self.counts.trained - self.before) > 0:
                eta = elapsed / done * max(0, trials - self.counts.trained)
        if self.session is not None:
            progress = max(progress, min(1.0, self.session.share_of_images(self.records.values())))
        if timeout is not None:
            progress = max(progress, min(1.0, elapsed / timeout))
            eta = min(timeout - elapsed, eta if eta is not None else math.inf)
        self.on_event(
            SearchEvent(
                kind,
                message,
                self.counts,
                self.front,
                self.volume,
                elapsed,
                None if eta is None else max(0.0, eta),
                progress,
                trial,
                self.best,
                self.workers,
                "macs" if self.session is None else self.session.cost,
                self.points,
                self.before,
            )
        )
