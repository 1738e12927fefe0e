"""Replay search strategies on the tabular benchmark, many times, without training anything.

    python benchmarks/search_replay.py --name tin20

What it measures. Each strategy proposes networks of the table and pays for every training image; the clock also runs
in seconds (a fixed part and a part by MACs, fitted to the table). At every moment the strategy has a front by what it
has seen; the measure is the hypervolume of that front with the accuracies of the deepest training, as a share of the
best front of the whole table. So a strategy is judged by the networks it would hand over, not by how it judges them: the
others by the accuracy last seen, ours by the accuracy that it expects (a row of its own shows the same search handed
over by what was seen).

The strategies. ``random``: uniform among what fits, each trained in full. ``tpe``, ``tpe-multivariate``, ``nsga2``:
Optuna's samplers, each proposal trained in full. ``one-epoch-top-k``: all at one epoch, then in full in the order of
that one epoch, continued. ``tinynas``: the schedule and the proposer of the product, with its defaults (the table is its
pool). A proposal that is not in the table stands for the nearest network of the table that has not been tried. This makes
TPE and NSGA-II look more like random than they are; our model, which chooses from a pool, does not suffer from it, and our
mutations are left out.

What it does not show. Infeasible proposals (every network of the table fits: Optuna's samplers waste nothing here, as
they would under a tight budget), and the overhead of proposing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from tinynas import pareto
from tinynas.budget import load_budget
from tinynas.config import load
from tinynas.files import read_lines, write_atomic
from tinynas.search.feasible import COSTS, Feasible, Pool, as_genotype, strata
from tinynas.search.genes import distributions, genotype_of, params_of
from tinynas.search.proposals import Proposer, tpe_sampler
from tinynas.search.schedule import Continue, Net, New, Plan, Result, Schedule
from tinynas.search.settings import SearchSettings
from tinynas.space import Space

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "benchmarks"


@dataclass
class Table:
    """The networks with the deepest training, and what each epoch showed."""

    space: Space
    rows: list[dict]
    rungs: tuple[int, ...]
    classes: int

    def __post_init__(self) -> None:
        self.genotypes = np.array([row["genotype"] for row in self.rows])
        self.macs = np.array([row["costs"]["macs"] for row in self.rows], dtype=float)
        top = self.rungs[-1]
        # The last quarter of the epochs, averaged: the truth is less noisy than one validation.
        self.truth = np.array([float(np.mean(row["accuracy"][top - max(1, top // 4) : top])) for row in self.rows])
        self.images = int(self.rows[0]["images"][0])
        seconds = np.array([np.median(row["seconds"]) / self.images for row in self.rows])
        design = np.stack([np.ones_like(self.macs), self.macs], axis=1)
        self.fixed, self.per_mac = np.maximum(np.linalg.lstsq(design, seconds, rcond=None)[0], 1e-12)
        self.low, self.high = np.log(self.macs.min() * 0.95), np.log(self.macs.max() * 1.05)
        self.best = self.volume(range(len(self.rows)))

    def seconds_per_image(self, i: int) -> float:
        return float(self.fixed + self.per_mac * self.macs[i])

    def volume(self, chosen) -> float:
        points = [(self.truth[i], (self.high - np.log(self.macs[i])) / (self.high - self.low)) for i in chosen]
        return pareto.hypervolume(points, (1 / self.classes, 0.0), (True, True))

    def scores(self, i: int, epoch: int) -> dict[str, float]:
        row = self.rows[i]
        return {"accuracy": row["accuracy"][epoch - 1], "val_loss": row["val_loss"][epoch - 1], "loss_sum": sum(row["loss"][:epoch])}


def load_table(name: str) -> Table:
    latest: dict[tuple[str, int], dict] = {}
    for row in read_lines(RESULTS / f"search_table_{name}.jsonl"):
        key = (row["id"], row["seed"])
        if key not in latest or len(row["accuracy"]) > len(latest[key]["accuracy"]):
            latest[key] = row
    rows = sorted((row for (_, seed), row in latest.items() if seed == 0), key=lambda row: row["index"])
    levels = [1, 3, 9, 27]
    # The deepest level that at least 200 networks (or all but a few) have.
    enough = min(200, int(0.9 * len(rows)))
    top = max(level for level in levels if sum(len(row["accuracy"]) >= level for row in rows) >= enough)
    rows = [row for row in rows if len(row["accuracy"]) >= top]
    classes = {"tin20": 20, "person64": 2}.get(name, 2)
    rungs = (*(rung for rung in (1, 2, 4, 8, 16) if rung <= 0.75 * top), top)
    return Table(load(HERE / "search_space.yaml", Space), rows, rungs, classes)


@dataclass
class Step:
    """A training that was paid for, and the networks on the front afterwards."""

    images: int
    seconds: float
    front: list[int]


class Replay:
    """Bookkeeping of one strategy on the table."""

    def __init__(self, table: Table, seed: int) -> None:
        self.table, self.seed = table, seed
        self.rng = np.random.default_rng(seed)
        self.epochs = np.zeros(len(table.rows), dtype=int)

    def nearest_fresh(self, genotype, feasible: Feasible) -> int:
        fresh = np.flatnonzero(self.epochs == 0)
        distance = feasible.distance(self.table.genotypes[fresh], np.array(genotype))
        ties = fresh[distance <= distance.min() + 1e-9]
        return int(self.rng.choice(ties))

    def train(self, i: int, epoch: int) -> Step:
        new = (epoch - self.epochs[i]) * self.table.images
        self.epochs[i] = epoch
        return Step(new, new * self.table.seconds_per_image(i), self.front())

    def front(self) -> list[int]:
        known = np.flatnonzero(self.epochs)
        points = [(self.table.rows[i]["accuracy"][self.epochs[i] - 1], self.table.macs[i]) for i in known]
        return [int(known[k]) for k in pareto.front(points, (True, False))]


def make_feasible(table: Table) -> Feasible:
    return Feasible(table.space, table.classes, load_budget("stm32f746"))


def random_search(replay: Replay) -> Iterator[Step]:
    for i in replay.rng.permutation(len(replay.table.rows)):
        yield replay.train(int(i), replay.table.rungs[-1])


def optuna_search(kind: str) -> Callable[[Replay], Iterator[Step]]:
    def strategy(replay: Replay) -> Iterator[Step]:
        table, feasible = replay.table, make_feasible(replay.table)
        space = table.space
        known = distributions(space)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = (
                optuna.samplers.NSGAIISampler(seed=replay.seed)
                if kind == "nsga2"
                else tpe_sampler(replay.seed, multivariate=kind == "tpe-multivariate")
            )
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        while (replay.epochs == 0).any():
            trial = study.ask(known)
            i = replay.nearest_fresh(genotype_of(space, trial.params), feasible)
            step = replay.train(i, table.rungs[-1])
            values = [table.rows[i]["accuracy"][table.rungs[-1] - 1], table.macs[i]]
            if kind == "nsga2":
                study.tell(trial, values)
            else:
                study.tell(trial, state=TrialState.FAIL)
                study.add_trial(create_trial(values=values, params=params_of(space, table.genotypes[i]), distributions=known))
            yield step

    return strategy


def one_epoch_top_k(replay: Replay) -> Iterator[Step]:
    table = replay.table
    order = replay.rng.permutation(len(table.rows))
    for i in order:
        yield replay.train(int(i), table.rungs[0])
    points = [(table.rows[i]["accuracy"][table.rungs[0] - 1], table.macs[i]) for i in order]
    ranks = pareto.ranks(points, (True, False))
    for k in sorted(range(len(order)), key=lambda k: (ranks[k], -points[k][0])):
        yield replay.train(int(order[k]), table.rungs[-1])


def tinynas_search(changes: dict | None = None, *, expect: bool = True) -> Callable[[Replay], Iterator[Step]]:
    settings = SearchSettings(**(changes or {}))

    def strategy(replay: Replay) -> Iterator[Step]:
        table, feasible = replay.table, make_feasible(replay.table)
        plan = Plan(table.rungs, table.images, strata(table.macs, settings.bands), settings.deepen)
        schedule = Schedule(plan, 1 / table.classes)
        order = replay.rng.permutation(len(table.rows))
        pool = Pool(table.genotypes[order], dict.fromkeys(COSTS, table.macs[order]), len(order), 1.0)
        # No mutations: the table knows no other networks.
        proposer = Proposer(
            feasible,
            pool,
            plan,
            seed=replay.seed,
            baseline=settings.baseline,
            start=settings.start,
            cost="macs",
            chance=1 / table.classes,
            children=0,
        )
        nets: dict[int, Net] = {}
        genotypes: dict[str, tuple[int, ...]] = {}
        while True:
            known = list(nets.values())
            decision = schedule.next(known, proposer.estimates(known, genotypes), exhausted=len(nets) == len(table.rows))
            if isinstance(decision, New):
                proposal = proposer.propose(len(nets), known, genotypes, [])
                rows = np.flatnonzero((table.genotypes == np.array(proposal.genotype)).all(axis=1))
                fresh = [int(i) for i in rows if int(i) not in nets]
                i = fresh[0] if fresh else replay.nearest_fresh(proposal.genotype, feasible)
                nets[i] = Net(str(i), len(nets), float(table.macs[i]))
                genotypes[str(i)] = as_genotype(table.genotypes[i])
                rung = 0
            elif isinstance(decision, Continue):
                i, rung = int(decision.net.id), decision.rung
            else:
                return
            epoch = table.rungs[rung]
            step = replay.train(i, epoch)
            nets[i].results.append(Result(epoch, epoch * table.images, table.scores(i, epoch)))
            if not expect:
                yield step
                continue
            # Handed over as the product does: by what is expected of each network.
            expected = proposer.surrogate.expected_accuracies(list(nets.values()), genotypes)
            front = pareto.front([(expected[net.id], net.cost) for net in nets.values()], (True, False))
            ids = list(nets)
            yield Step(step.images, step.seconds, [ids[k] for k in front])

    return strategy


STRATEGIES: dict[str, Callable[[Replay], Iterator[Step]]] = {
    "random": random_search,
    "tpe": optuna_search("tpe"),
    "tpe-multivariate": optuna_search("tpe-multivariate"),
    "nsga2": optuna_search("nsga2"),
    "one-epoch-top-k": one_epoch_top_k,
    "tinynas, by what was seen": tinynas_search(expect=False),
    "tinynas": tinynas_search(),
}


def curve(table: Table, strategy: Callable[[Replay], Iterator[Step]], seed: int, limit: float) -> list[tuple[float, float, float]]:
    """(full trainings paid for, seconds, share of the best hypervolume) after each training, up to ``limit`` full trainings."""
    replay, images, seconds, points = Replay(table, seed), 0, 0.0, []
    full = table.rungs[-1] * table.images
    for step in strategy(replay):
        images += step.images
        seconds += step.seconds
        points.append((images / full, seconds, table.volume(step.front) / table.best))
        if images / full > limit:
            break
    return points


def replayed(job: tuple[str, str, str, int, float]) -> list[tuple[float, float, float]]:
    """One strategy on one seed, in a process of its own: (table, strategy, settings of tinynas as JSON, seed, limit)."""
    name, key, changes, seed, limit = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    strategy = tinynas_search(json.loads(changes)) if key == "tinynas" else STRATEGIES[key]
    return curve(load_table(name), strategy, seed, limit)


def at(points: list[tuple[float, float, float]], axis: int, x: float) -> float:
    """The hypervolume share reached when ``x`` was spent."""
    reached = [p[2] for p in points if p[axis] <= x]
    return reached[-1] if reached else 0.0


def spent_until(points: list[tuple[float, float, float]], axis: int, share: float) -> float:
    """What was spent when the share was reached for good (never fell below it again), or infinity."""
    result = float("inf")
    for p in reversed(points):
        if p[2] < share:
            break
        result = p[axis]
    return result


def quartiles(values: list[float], digits: int) -> str:
    low, mid, high = np.quantile(values, [0.25, 0.5, 0.75], method="nearest")
    return f"{mid:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})" if np.isfinite(mid) else "not reached"


def report(table: Table, name: str, curves: dict[str, list[list[tuple[float, float, float]]]]) -> str:
    full = table.rungs[-1] * table.images
    lines = [
        f"# Search strategies replayed on {name}",
        "",
        f"{len(table.rows)} networks of benchmarks/search_space.yaml, {table.macs.min() / 1e6:.2f}-{table.macs.max() / 1e6:.2f} M MACs, "
        "each trained on "
        f"{full:,} images in all (epochs of {table.images:,}; rungs at {', '.join(map(str, table.rungs))}); deepest accuracies "
        f"{table.truth.min():.1%}-{table.truth.max():.1%}. {len(next(iter(curves.values())))} seeds; median (quartiles). Made by "
        "`python benchmarks/search_table.py` and `python benchmarks/search_replay.py`; what the figures do not show is said there.",
        "",
        "Hypervolume of the front handed over, as a share of the table's best, when this much training was paid for "
        "(1 = one network trained in full):",
        "",
    ]
    marks = [2, 4, 8, 12, 16, 24, 32, 48, 64]
    lines.append("| strategy | " + " | ".join(map(str, marks)) + " |")
    lines.append("|---|" + "---|" * len(marks))
    for strategy, runs in curves.items():
        lines.append(f"| {strategy} | " + " | ".join(quartiles([at(run, 0, x) for run in runs], 3) for x in marks) + " |")
    lines += ["", "Training until the share is reached and kept, in full trainings and in seconds of one core:", ""]
    shares = [0.9, 0.95, 0.98]
    lines.append("| strategy | " + " | ".join(f"{s:.0%}, trainings | {s:.0%}, seconds" for s in shares) + " |")
    lines.append("|---|" + "---|---|" * len(shares))
    for strategy, runs in curves.items():
        cells = [quartiles([spent_until(run, axis, s) for run in runs], digits) for s in shares for axis, digits in ((0, 1), (1, 0))]
        lines.append(f"| {strategy} | " + " | ".join(cells) + " |")
    ours, plain = [
        float(np.quantile([spent_until(run, 0, 0.95) for run in curves[key]], 0.5, method="nearest")) for key in ("tinynas", "tpe")
    ]
    said = f"{plain:.1f} ({ours / plain:.2f} of it)" if np.isfinite(plain) else "more than was replayed"
    lines += ["", f"95 % of the best hypervolume: tinynas pays for {ours:.1f} full trainings, Optuna TPE for {said}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--limit", type=float, default=72.0, help="full trainings after which a replay stops")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--set", default="{}", help="JSON of settings for the tinynas strategy; prints, writes nothing")
    parser.add_argument("--processes", type=int, default=2, help="replays side by side")
    options = parser.parse_args()
    table = load_table(options.name)
    keys = [key for key in STRATEGIES if not options.only or key in options.only]
    jobs = [(options.name, key, options.set, seed, options.limit) for key in keys for seed in range(options.seeds)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        done = pool.map(replayed, jobs, chunksize=1)
    curves = {key: done[i * options.seeds : (i + 1) * options.seeds] for i, key in enumerate(keys)}
    if options.only:
        for key, runs in curves.items():
            print(
                key,
                [quartiles([at(run, 0, x) for run in runs], 3) for x in (4, 8, 16, 32)],
                quartiles([spent_until(r, 0, 0.95) for r in runs], 1),
            )
        return
    text = report(table, options.name, curves)
    print(text)
    write_atomic(RESULTS / f"search_replay_{options.name}.md", text)


if __name__ == "__main__":
    main()
