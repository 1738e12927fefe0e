"""The search: prepare once, then decide, train, record until the time or the trials are used up.

Determinism: with one worker and a number of trials (no time limit reached), everything follows from the seed, and
two runs write the same bytes to ``trials.jsonl``. Wall-clock times differ between equal runs and are therefore
kept apart, in ``times.jsonl``; decisions look at the clock only where a time limit is all that ends the search.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinynas.budget import Budget
from tinynas.config import build
from tinynas.errors import RunError, TinynasError, counted
from tinynas.records import Trial
from tinynas.runs import Run
from tinynas.search.clock import Clock, age_of
from tinynas.search.cluster import Cluster, Place, Workers
from tinynas.search.fronts import normalised_hypervolume
from tinynas.search.handover import hand_over, write_front
from tinynas.search.prepare import Bench, Session, open_session, prepare
from tinynas.search.processes import supervise
from tinynas.search.settings import Counts, SearchResult, SearchSettings
from tinynas.search.view import OnEvent, View
from tinynas.search.work import Worker
from tinynas.space import Space

if TYPE_CHECKING:
    from tinynas.data import DataSet

DEFAULT_TIMEOUT_S = 480.0
#: What to do where a worker does not find the data of its run.
MOVED = "say where those are: tinynas search --resume --data PLACE notes it in the run"


def search(
    run: Run, space: Space, budget: Budget, data: DataSet, settings: SearchSettings, on_event: OnEvent, *, cluster: Place | None = None
) -> SearchResult:
    """Search ``space`` for networks that fit ``budget``, trained on ``data``; continues what ``run`` holds already.

    With one worker it trains in this process; with more it starts processes that train, and looks after them. With a ``cluster`` its
    workers train, as many as there are, and this process decides.
    SIGINT (Ctrl-C) ends it early with everything finished on disk and ``interrupted`` set. Raises BudgetError where
    nothing fits, UserError where the storage cannot be reached, and RunError where another process searches this run,
    or trainings keep failing.
    """
    started = time.monotonic()
    if settings.timeout is None and settings.trials is None and settings.images is None:
        settings = settings.model_copy(update={"timeout": DEFAULT_TIMEOUT_S})
    with run.searching():
        return _search(run, space, budget, data, settings, View(run, settings, on_event, started), started, cluster)


def _search(
    run: Run, space: Space, budget: Budget, data: DataSet, settings: SearchSettings, view: View, started: float, place: Place | None
) -> SearchResult:
    view.emit("start", f"searching {space.name} ({space.describe()}) for {budget.name}")
    reason, interrupted = "", False
    session: Session | None = None
    held = contextlib.ExitStack()
    try:
        cluster = None if place is None else held.enter_context(Cluster.opened(place))
        clock = Clock.begun(started, settings.timeout)
        bench = None
        if cluster is not None:
            bench = Bench(cluster.slots(), partial(cluster.seconds_per_image, data, settings.recipe, settings.seed))
        feasible = prepare(run, space, budget, data, settings, view.emit, clock, bench)
        session = open_session(run, space, budget, data, settings, clock, feasible=feasible)
        if settings.storage is not None:
            run.moved(storage=settings.storage)
        view.begin(session)
        with session.study.deciding():
            session.study.reclaim()
            session.study.mend()
            if run.has_front:
                # What an earlier end expected holds no longer.
                write_front(session, {trial.number: trial for trial in run.trials()})
        view.refresh()
        view.emit("plan", _plan_text(session))
        if cluster is not None:
            reason = Worker(session, view.recorded).run(held.enter_context(contextlib.closing(Workers(session, view, cluster))))
        else:
            reason = Worker(session, view.recorded).run() if settings.workers == 1 else supervise(session, view)
    except KeyboardInterrupt:
        reason, interrupted = "interrupted", True
    except TinynasError:
        # What was seen can be used all the same, where the disk has room for it.
        with contextlib.suppress(TinynasError):
            if session is not None:
                write_front(session, {trial.number: trial for trial in run.trials()})
        raise
    finally:
        held.close()
    if session is None:
        return SearchResult(str(run.path), Counts(), 0.0, (), reason, time.monotonic() - started, interrupted)
    return _finish(session, view, reason, interrupted, started)


def worker(
    run_dir: str | Path, *, data: str | None = None, storage: str | None = None, on_trial: Callable[[Trial], None] | None = None
) -> int:
    """Join the search of the run at ``run_dir``, from this machine or one that shares the folder; returns when it ends.

    ``data`` and ``storage`` say where these are for this process: other places of the same, or a URL with a password. The number of
    trainings done. Raises RunError where there is no such run, its search has not begun, or it comes from elsewhere and names
    places that its user has not.
    """
    done = 0

    def count(trial: Trial) -> None:
        nonlocal done
        done += trial.state == "trained"
        if on_trial is not None:
            on_trial(trial)

    run = Run.open(run_dir)
    run.ask("data", data)
    told = run.read_json("clock")
    clock = Clock.from_json(told, age_of(run.path / "clock.json"))
    # A resumption may have been given another number of networks than the run was begun with.
    changes = {"trials": told["trials"]} if told is not None and "trials" in told else {}
    session, _ = _join(run, {"storage": run.storage(storage), "data": data, **changes}, os.getpid(), clock, count)
    if done and session.run.search_ended:
        # The search ended before this machine's last training did.
        with session.study.deciding():
            hand_over(session, finished=not session.run.read_json("summary")["interrupted"])
    return done


def join(run_dir: str | Path, changes: dict[str, Any], index: int, clock: Clock) -> str:
    """Work for the run until nothing is left to do; the reason. ``changes`` are settings given when it was resumed."""
    return _join(Run.open(run_dir), changes, index, clock, lambda _trial: None)[1]


def _join(run: Run, changes: dict[str, Any], index: int, clock: Clock, on_trial: Callable[[Trial], None]) -> tuple[Session, str]:
    place = changes.pop("data", None)
    settings = build({**run.setting("settings"), **changes}, SearchSettings, source=run.config_file)
    data, place = run.images(place)
    if (difference := run.other_data(data)) is not None:
        raise RunError(f"{place}: these are not the {data.signal.kind}s that {run.path} was begun with: {difference}", MOVED)
    session = open_session(run, run.space, run.budget, data, settings, clock, index=index)
    with session.study.deciding():
        session.study.check()
    return session, Worker(session, on_trial).run()


def _plan_text(session: Session) -> str:
    plan = session.plan
    noun = session.run.space.inputs[0].noun
    images = counted(plan.epoch_images, noun) if plan.epoch_images else f"all {noun}s"
    minutes = (session.clock.timeout or 0) / 60
    limits = [counted(plan.networks, "network")] if plan.networks is not None else [counted(minutes, "minute")] if minutes else []
    how_many = " and ".join([*limits, *([] if session.settings.images is None else [f"{session.settings.images:,} training {noun}s"])])
    if len(plan.rungs) == 1:
        return f"{how_many}; {counted(plan.rungs[0], 'epoch')} of {images} for every network"
    share = f"{'up to ' if plan.ramp else ''}{plan.deepen:.0%}"
    what = "the front" if plan.traded else "the best"
    return f"{how_many}; rungs at {', '.join(map(str, plan.rungs))} epochs of {images}; {share} of the training deepens {what}"


def _finish(session: Session, view: View, reason: str, interrupted: bool, started: float) -> SearchResult:
    run = session.run
    with session.study.deciding():
        rows = hand_over(session, finished=not interrupted)
    view.refresh()
    run.write_trials_csv()
    records = sorted(view.records.values(), key=lambda record: record.number)
    volume = normalised_hypervolume(records, session.goals, session.reference)
    base = normalised_hypervolume([r for r in records if r.source == "baseline"], session.goals, session.reference)
    seconds = view.seconds_before + time.monotonic() - started
    run.write_json(
        "summary",
        {
            "trials": view.counts.to_json(),
            "hypervolume": volume,
            "baseline_hypervolume": base,
            "reason": reason,
            "seconds": round(seconds, 1),
            "interrupted": interrupted,
        },
    )
    notes = tuple((run.read_json("plan") or {}).get("notes", ()))
    view.emit("done", reason)
    return SearchResult(str(run.path), view.counts, volume, tuple(rows), reason, seconds, interrupted, base, notes)
