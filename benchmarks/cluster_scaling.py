"""One search on 1 to 64 simulated workers: how much of their time is lost waiting for decisions, and is what is found as good?

    python benchmarks/cluster_scaling.py --name tin20

What it measures. The product's own loop (``Worker.run``: schedule, proposer, Optuna's journal, records) with a crew that trains nothing: a
training lasts what it lasted when the table was made (search_table_*.jsonl) and gives the accuracy that it gave then. Time is simulated
but for the decisions: what this process computes between two trainings is measured (CPU time of its thread) and passes on the simulated
clock while workers wait. Every task takes ``DISPATCH`` seconds more, what Dask takes to bring a state there and back here. Searches of all
sizes end after the same training (in images, those of larger networks counting as more, as the search counts them); the share that is
lost is of the workers' time until then, from the first second on. Quality is the hypervolume of the front handed over, by the deepest
training of the table, as a share of the table's best. With ``kills`` every worker is lost once, at a random moment amid a training,
which starts again on the next free worker; the worker is back after ``RESTART`` seconds.

Rows go to cluster_scaling.jsonl. What is under way when a search ends counts neither as waiting nor as trained.

What it does not show. Slow networks and disks (a disk's waits are not CPU time), sending images, machines of different speed, and
proposals outside of the table: those stand for the nearest network of it that was not tried. With 64 workers most of the table is tried
before much is known of it, which flatters what is found.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from search_replay import RESULTS, Table, load_table

from tinynas import pareto
from tinynas.budget import load_budget
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.objectives import objectives
from tinynas.runs import Run
from tinynas.search import SearchSettings
from tinynas.search.clock import Clock
from tinynas.search.feasible import COSTS, Pool, as_genotype, strata
from tinynas.search.prepare import Session, Speed, image_weight, reference
from tinynas.search.proposals import Proposal, Proposer
from tinynas.search.schedule import RAMP, Plan
from tinynas.search.strategies import STRATEGIES
from tinynas.search.study import Job, Study
from tinynas.search.training import Outcome
from tinynas.search.work import Worker

#: Seconds from a decision to the training's begin and from its end to the record, measured with two Dask nodes on one machine.
DISPATCH = 0.04
#: Seconds after which a lost worker is back.
RESTART = 10.0
SIZES = (1, 2, 4, 8, 16, 64)
#: Training of a search, in networks of the table's mean trained in full.
LIMIT = 10.0


class Simulated:
    """A crew of ``size`` workers on a simulated clock."""

    def __init__(self, table: Table, plan: Plan, size: int, stretch: float, kills: list[float]) -> None:
        self.table, self.plan, self.stretch, self.kills = table, plan, stretch, dict(enumerate(kills))
        self.rows = {as_genotype(row): number for number, row in enumerate(table.genotypes)}
        self.now = self.redone = 0.0
        self.spans: list[tuple[float, float]] = []
        """From when to when workers were without a training."""
        self.done: list[tuple[Job, Outcome, float]] = []
        self.decisions: list[float] = []
        self.idle = dict.fromkeys(range(size), 0.0)
        self._epochs: dict[str, int] = {}
        self._events: list[tuple[float, int, str, int, Any]] = []
        self._count = itertools.count()
        self._again: list[Job] = []
        self._left = time.thread_time()

    def free(self) -> int:
        self._decided()
        return self._leave(len(self.idle))

    def begin(self, job: Job) -> None:
        self.decisions.append(self._decided())
        worker = min(self.idle, key=lambda w: (self.idle[w], w))
        self.spans.append((self.idle.pop(worker), self.now))
        self._start(worker, job, self.now)
        self._leave(0)

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        self._decided()
        if self._events:
            self.now = max(self.now, self._events[0][0])
        told = []
        while self._events and self._events[0][0] <= self.now:
            at, _, kind, worker, job = heapq.heappop(self._events)
            if kind == "back":
                self._is_free(worker, at)
                continue
            if kind == "lost":
                self._add(at + RESTART, "back", worker, None)
                if self.idle:
                    other = min(self.idle)
                    self.spans.append((self.idle.pop(other), at))
                    self._start(other, job, at)
                else:
                    self._again.append(job)
                continue
            outcome = self._outcome(job)
            self.done.append((job, outcome, at))
            told.append((job, outcome))
            self._is_free(worker, at)
        self._leave(0)
        return told

    def _decided(self) -> float:
        spent = time.thread_time() - self._left
        self.now += spent
        self._left = time.thread_time()
        return spent

    def _leave(self, answer: int) -> int:
        self._left = time.thread_time()
        return answer

    def _add(self, at: float, kind: str, worker: int, job: Job | None) -> None:
        heapq.heappush(self._events, (at, next(self._count), kind, worker, job))

    def _is_free(self, worker: int, at: float) -> None:
        if self._again:
            self._start(worker, self._again.pop(0), at)
        else:
            self.idle[worker] = at

    def _images(self, job: Job) -> int:
        return (self.plan.rungs[job.rung] - self._epochs.get(job.net, 0)) * self.table.images

    def _start(self, worker: int, job: Job, at: float) -> None:
        lasts = self._images(job) * self.table.seconds_per_image(self.rows[job.genotype]) * self.stretch + DISPATCH
        kill = self.kills.get(worker)
        if kill is not None and at + lasts > kill:
            del self.kills[worker]
            until = max(kill, at + lasts / 2)
            self.redone += until - at
            self._add(until, "lost", worker, job)
        else:
            self._add(at + lasts, "ended", worker, job)

    def _outcome(self, job: Job) -> Outcome:
        row, epochs, new = self.rows[job.genotype], self.plan.rungs[job.rung], self._images(job)
        self._epochs[job.net] = epochs
        scores = self.table.scores(row, epochs)
        return Outcome(epochs, epochs * self.table.images, scores, new * self.table.seconds_per_image(row), new)


class Tabled:
    """The proposer, of networks of the table that were not tried; a proposal outside stands for the nearest."""

    def __init__(self, proposer: Proposer, table: Table) -> None:
        self.inner, self.table = proposer, table
        proposer.children = proposer.samples = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def propose(self, number: int, nets: Any, genotypes: Any, infeasible: Any, *, refused: Any = ()) -> Proposal:
        proposal = self.inner.propose(number, nets, genotypes, infeasible, refused=refused)
        taken = {*genotypes.values(), *refused}
        fresh = [i for i, row in enumerate(self.table.genotypes) if as_genotype(row) not in taken]
        distance = self.inner.feasible.distance(self.table.genotypes[fresh], np.array(proposal.genotype))
        return replace(proposal, genotype=as_genotype(self.table.genotypes[fresh[int(distance.argmin())]]))


def make_session(table: Table, folder: Path, seed: int) -> Session:
    budget, feasible = load_budget("stm32f746"), table.feasible
    settings = SearchSettings(seed=seed)
    goals, strategy = objectives(settings.objectives, budget), STRATEGIES["tinynas"]
    order = np.random.default_rng(seed).permutation(len(table.rows))
    pool = Pool(table.genotypes[order], dict.fromkeys(COSTS, table.macs[order]), len(order), 1.0)
    speed = Speed(float(table.fixed), float(table.per_mac))
    settings = settings.model_copy(update={"images": round(LIMIT * table.rungs[-1] * table.images)})
    plan = Plan(table.rungs, table.images, strata(table.macs, settings.bands), settings.deepen, RAMP, None, settings.explore)
    run = Run.create(folder / "run", config={"settings": settings.model_dump(mode="json")}, space=table.space, budget=budget, env={})
    study = Study.open(run, table.space, goals, None, strategy.sampler(seed))
    box = reference(goals, pool, table.classes)

    @dataclass
    class Nothing:
        state_dir: Path

    trainings = cast(Any, Nothing(folder / "states"))
    clock = Clock(time.monotonic())
    return Session(
        run, table.space, budget, settings, strategy, goals, feasible, pool, plan, study, trainings, table.classes, speed, box, clock
    )


def searched(job: tuple[str, int, int, float, bool]) -> dict[str, Any]:
    """One search: (table, workers, seed, stretch of the trainings, kills)."""
    name, size, seed, stretch, kills = job
    table = load_table(name)
    with tempfile.TemporaryDirectory() as folder:
        session = make_session(table, Path(folder), seed)
        mean = float(np.mean([table.seconds_per_image(i) for i in range(len(table.rows))]))
        expected = LIMIT * table.rungs[-1] * table.images * mean * stretch / size
        moments = np.random.default_rng((seed, size)).uniform(0.1, 0.8, size) * expected if kills else []
        crew = Simulated(table, session.plan, size, stretch, [float(m) for m in moments])
        worker = Worker(session)
        worker.proposer = cast(Any, Tabled(worker.proposer, table))
        worker.run(crew)
        assert session.settings.images is not None
        used, end, counted = 0.0, 0.0, 0
        for job_, outcome, at in crew.done:
            macs = float(table.macs[crew.rows[job_.genotype]])
            used += outcome.new_images * image_weight(session.speed, session.pool, macs) / session.settings.images
            end, counted = at, counted + 1
            if used >= 1.0:
                break
        assert used >= 1.0, "the table was used up"
        # The front as the search would hand it over then.
        ledger = session.study.ledger()
        seen = {job_.net: outcome.epochs for job_, outcome, _ in crew.done[:counted]}
        nets = [net for net in worker.nets(ledger) if net.id in seen]
        for net in nets:
            net.results = [result for result in net.results if result.epochs <= seen[net.id]]
        expect = worker.proposer.surrogate.expected_accuracies(nets, ledger.genotypes)
        front = [nets[k] for k in pareto.front([(expect[net.id], net.cost) for net in nets], (True, False))]
        volume = table.volume([crew.rows[ledger.genotypes[net.id]] for net in front]) / table.best
    idle = sum(max(0.0, min(end, until) - since) for since, until in (*crew.spans, *((since, end) for since in crew.idle.values())))
    return {
        "name": name,
        "workers": size,
        "seed": seed,
        "stretch": stretch,
        "kills": kills,
        "seconds": round(end, 2),
        "waiting": round(idle / (size * end), 5),
        "redone": round(crew.redone / (size * end), 5),
        "trainings": counted,
        "networks": len(nets),
        "decision_ms": round(1e3 * float(np.median(crew.decisions)), 2),
        "hypervolume": round(float(volume), 5),
    }


WAYS = {
    (10.0, False): ("epochs of 20,000 images", "#1f77b4"),
    (10.0, True): ("the same, every worker lost once", "#d62728"),
    (1.0, False): ("epochs of 2,000 images", "#2ca02c"),
}
"""(stretch, kills) -> words, colour."""


def means(rows: list[dict[str, Any]], key: str) -> dict[tuple[float, bool], dict[int, float]]:
    """Mean over the seeds by way and number of workers."""
    found: dict[tuple[float, bool], dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault((row["stretch"], row["kills"]), {}).setdefault(row["workers"], []).append(row[key])
    return {way: {size: float(np.mean(values)) for size, values in sorted(found[way].items())} for way in WAYS if way in found}


def report(rows: list[dict[str, Any]]) -> str:
    name, seeds = rows[0]["name"], len({row["seed"] for row in rows})
    decision, networks = np.median([row["decision_ms"] for row in rows]), len(load_table(name).rows)
    lines = [
        "# One search on 1 to 64 simulated workers",
        "",
        f"The table of {name}, searches of {LIMIT:.0f} networks' full training, {seeds} seeds, means. Trainings are replaced by what they "
        "took and showed (as measured: an epoch of 2,000 images; ten times as long: one of 20,000); decisions are computed by the "
        f"product's code and measured (median {decision:.0f} ms from an end to the next begin). With 64 workers most of the table's "
        f"{networks} networks are tried, which flatters what is found. Made by `python benchmarks/cluster_scaling.py`; what else the "
        "figures do not show is said there.",
        "",
        "![waiting and quality](cluster_scaling.svg)",
    ]
    for way, (words, _) in WAYS.items():
        mine = [row for row in rows if (row["stretch"], row["kills"]) == way]
        columns = {key: means(mine, key)[way] for key in ("seconds", "waiting", "redone", "trainings", "networks", "hypervolume")}
        lines += [
            "",
            f"{words.capitalize()}:",
            "",
            "| workers | seconds | times as fast | waiting for decisions | trained in vain | trainings | networks | hypervolume (range) |",
            "|--:|--:|--:|--:|--:|--:|--:|---|",
        ]
        alone = means(rows, "seconds")[way[0], False][1]
        for size in columns["seconds"]:
            volumes = [row["hypervolume"] for row in mine if row["workers"] == size]
            lines.append(
                f"| {size} | {columns['seconds'][size]:,.0f} | {alone / columns['seconds'][size]:.1f} | {columns['waiting'][size]:.1%} | "
                f"{columns['redone'][size]:.1%} | {columns['trainings'][size]:.0f} | {columns['networks'][size]:.0f} | "
                f"{columns['hypervolume'][size]:.3f} ({min(volumes):.3f}-{max(volumes):.3f}) |"
            )
    return "\n".join(lines) + "\n"


def picture(rows: list[dict[str, Any]]) -> str:
    """Share of time lost, and hypervolume, over workers."""
    width, height, left, top, gap = 760, 300, 52, 34, 70
    inner = (width - 2 * left - gap) / 2
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">']
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    frames = (
        ("waiting", "share of workers' time waiting for decisions", 0.0, 0.5, 0.1),
        ("hypervolume", "hypervolume, share of the best", 0.8, 1.0, 0.05),
    )
    for frame, (key, title, low, high, step) in enumerate(frames):
        x0 = left + frame * (inner + gap)

        def point(size: int, value: float, x0: float = x0, low: float = low, high: float = high) -> tuple[float, float]:
            return x0 + np.log2(size) / 6 * inner, top + (high - value) / (high - low) * (height - top - 64)

        parts.append(f'<text x="{x0}" y="{top - 14}" font-weight="bold">{title}</text>')
        for value in np.arange(low, high + step / 2, step):
            y = point(1, value)[1]
            parts.append(f'<line x1="{x0}" x2="{x0 + inner}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.0%}</text>')
        for size in SIZES:
            parts.append(f'<text x="{point(size, 0)[0]:.1f}" y="{height - 48}" text-anchor="middle">{size}</text>')
        for way, values in means(rows, key).items():
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(size, value) for size, value in values.items()))
            parts.append(f'<polyline points="{line}" fill="none" stroke="{WAYS[way][1]}" stroke-width="2"/>')
    parts.append(f'<text x="{left}" y="{height - 32}">workers</text>')
    for number, (words, color) in enumerate(WAYS.values()):
        parts.append(f'<text x="{left + 225 * number}" y="{height - 10}" fill="{color}">{words}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="tin20")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options = parser.parse_args()
    jobs = [
        (options.name, size, seed, stretch, kills)
        for seed in range(options.seeds)
        for size in options.sizes
        for stretch, kills in ((10.0, False), (10.0, True), (1.0, False))
        if size > 1 or not kills
    ]
    path = RESULTS / "cluster_scaling.jsonl"
    known = [tuple(row[key] for key in ("name", "workers", "seed", "stretch", "kills")) for row in read_lines(path)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for row in pool.imap_unordered(searched, [job for job in jobs if job not in known], chunksize=1):
            append_line(path, row)
            print(json.dumps(row), flush=True)
    rows = list(read_lines(path))
    write_atomic(RESULTS / "cluster_scaling.md", report(rows))
    write_atomic(RESULTS / "cluster_scaling.svg", picture(rows))


if __name__ == "__main__":
    main()
