"""compare: schemes x budgets x seeds, each a learning of its own; rows as JSON lines, resumable, in several processes; one table."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from tinynas.adapt.budget import Learning, UpdateBudget
from tinynas.adapt.learner import Learner, LostLearning
from tinynas.adapt.learning import key_of, learn, row_of
from tinynas.adapt.scenes import Contributions, Scene
from tinynas.adapt.schemes import scheme_named
from tinynas.adapt.sparse import measure
from tinynas.adapt.tasks import Learnable, Task, make_task
from tinynas.config import build
from tinynas.data import DataOptions, DataSet, open_data
from tinynas.errors import BudgetError, DataError, RunError, UserError
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.weights.learnable import check_said, graph_of, open_learnable
from tinynas.weights.source import run_of


@dataclass(frozen=True)
class Setup:
    """Where everything is, in words that another process can follow."""

    net: str
    data: str
    init: str | None = None
    pixels: str = "auto"
    old: str | None = None
    """Images of what the network knows; those of its run where that is None and it is of one."""
    data_options: tuple[str, ...] = ()
    """``KEY=VALUE`` of :class:`tinynas.data.DataOptions`."""
    old_options: tuple[str, ...] = ()
    judged: Literal["test", "val"] = "test"
    """The split that says how good new and old classes are: ``val`` where settings are chosen by it."""


@lru_cache(maxsize=4)
def _opened(setup: Setup) -> tuple[Learnable, DataSet, DataSet | None]:
    check_said(setup.net, setup.init, setup.pixels)  # before images are read
    if setup.old_options and setup.old is None and run_of(setup.net) is None:
        raise UserError(f"--set old.{setup.old_options[0]}: there are no old images", "say where they are with --old D, or leave it out")
    options = build({}, DataOptions, source="data options", overrides=setup.data_options)
    data = open_data(setup.data, seed=0, options=options)
    images = None
    if run_of(setup.net) is None:
        images = data.read_by(graph_of(setup.net).input, "train").inputs
    net = open_learnable(setup.net, init=setup.init, pixels=setup.pixels, images=images)
    old: DataSet | None = None
    if setup.old is not None:
        old_options = build({}, DataOptions, source="old data options", overrides=setup.old_options)
        old = open_data(setup.old, seed=0, options=old_options)
    elif net.run is not None:
        try:
            old = net.run.images(None, overrides=setup.old_options)[0]
        except (DataError, RunError) as error:
            net = replace(net, notes=(*net.notes, f"the {net.input.noun}s of {net.run.path} are not at hand: {error.message}"))
    return net, data, old


def open_task(setup: Setup, budget: UpdateBudget, seed: int) -> Task:
    """The task of ``setup`` as ``budget`` learns it. Raises UserError subclasses."""
    return _task(setup, budget.learning, seed)


@lru_cache(maxsize=2)
def _task(setup: Setup, learning: Learning, seed: int) -> Task:
    net, data, old = _opened(setup)
    return make_task(net, data, old, learning, seed=seed, judged=setup.judged)


@dataclass(frozen=True)
class Job:
    """One learning."""

    setup: Setup
    scheme: str
    budget: UpdateBudget
    seed: int
    folder: Path
    """Where measured contributions are kept."""


def work(job: Job) -> dict[str, Any]:
    """The row of ``job``. What does not fit, or diverges, is a row that says so."""
    task = open_task(job.setup, job.budget, job.seed)
    try:
        known = contributions(task, job.budget, job.seed, job.folder) if job.scheme == "sparse" else None
        return row_of(task, job.budget, learn(task, scheme_named(job.scheme), job.budget, seed=job.seed, contributions=known)) | {
            "problem": ""
        }
    except (BudgetError, LostLearning) as error:
        return {
            "key": key_of(task, job.scheme, job.budget, job.seed),
            "net": task.net.title,
            "scheme": job.scheme,
            "budget": job.budget.name,
            "seed": job.seed,
            "fits": False,
            "problem": error.message,
        }


def contributions(task: Task, budget: UpdateBudget, seed: int, folder: Path) -> Contributions:
    """What each layer brings, measured once for all budgets that learn alike; kept in ``folder``."""
    plain = budget.model_copy(update={"ram": 1 << 60, "extra": None, "macs": None, "share": None, "name": "any"})
    path = folder / f"contributions-{key_of(task, 'sparse', plain, seed)}.json"
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            return Contributions(
                {int(depth): float(gain) for depth, gain in known["depths"].items()},
                {(name, float(ratio)): float(gain) for name, ratio, gain in known["weights"]},
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunError(f"{path}: is damaged: {error}", "remove it: it is measured again") from None
    learner = Learner(task.floats, budget.learning, calibration=task.train.inputs[:256], old=task.old)
    found = measure(Scene(learner, budget, seed, task.train, task.val))
    rows = [[name, ratio, gain] for (name, ratio), gain in found.weights.items()]
    write_atomic(path, json.dumps({"depths": found.depths, "weights": rows}, indent=1) + "\n")
    return found


def compare(
    setup: Setup,
    schemes: Sequence[str],
    budgets: Sequence[UpdateBudget],
    seeds: Sequence[int],
    rows_file: Path,
    *,
    jobs: int = 1,
    on_row: Callable[[dict[str, Any], int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """All rows of schemes x budgets x seeds; those that are in ``rows_file`` already are not made again.

    ``jobs`` processes work at once; a killed comparison goes on where it was. Raises UserError subclasses, before anything is learned
    where that can be known.
    """
    for name in schemes:
        scheme_named(name)
    names = [budget.name for budget in budgets]
    if len(set(names)) < len(names):
        raise UserError(f"budgets {', '.join(names)}: each needs a name of its own", "write name: into each YAML")
    wanted: dict[str, Job] = {}
    for budget in budgets:
        for seed in seeds:
            task = open_task(setup, budget, seed)
            for scheme in schemes:
                wanted[key_of(task, scheme, budget, seed)] = Job(setup, scheme, budget, seed, rows_file.parent)
    done = {row["key"]: row for row in read_lines(rows_file) if row.get("key") in wanted}
    left = [job for key, job in wanted.items() if key not in done]
    for row in _worked(left, jobs):
        append_line(rows_file, row)
        done[row["key"]] = row
        if on_row is not None:
            on_row(row, len(done), len(wanted))
    # A budget may have another name than when its row was made; its limits are the same.
    return [done[key] | {"budget": job.budget.name} for key, job in wanted.items()]


def _worked(jobs: Sequence[Job], processes: int) -> Iterator[dict[str, Any]]:
    if processes == 1 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: set[Future[dict[str, Any]]] = {pool.submit(work, job) for job in jobs}
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            for future in waiting:
                future.cancel()


#: Columns of the table, in order.
COLUMNS = (
    "budget",
    "scheme",
    "fits",
    "seeds",
    "new",
    "new_sd",
    "old",
    "old_sd",
    "new_before",
    "old_before",
    "extra_bytes",
    "ram_bytes",
    "macs",
    "parameters",
    "share",
    "problem",
)


def table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each budget and scheme: means and standard deviations over seeds; of bytes and MACs the largest."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["budget"], row["scheme"]), []).append(row)
    found = []
    for (budget, scheme), members in groups.items():
        good = [row for row in members if not row["problem"]]
        line: dict[str, Any] = {"budget": budget, "scheme": scheme, "fits": all(row["fits"] for row in members), "seeds": len(good)}
        for name in ("new", "old"):
            values = [row[name] for row in good if row[name] is not None]
            line[name] = mean(values) if values else None
            line[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
        for name in ("new_before", "old_before"):
            values = [row[name] for row in good if row[name] is not None]
            line[name] = mean(values) if values else None
        for name in ("extra_bytes", "ram_bytes", "macs", "parameters", "share"):
            line[name] = max((row[name] for row in good), default=None)
        line["problem"] = next((row["problem"] for row in members if row["problem"]), "")
        found.append({name: line[name] for name in COLUMNS})
    return found


def table_csv(lines: Sequence[Mapping[str, Any]]) -> str:
    """:func:`table` as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
