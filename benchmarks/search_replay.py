"""Replay search strategies on the tabular benchmark, many times, without training anything.

    python benchmarks/search_replay.py --name tin20 --ours 16
    python benchmarks/search_replay.py --name macro --seeds 100 --limit 256 --ours 60 --processes 1

Tables. ``tin20``, ``person64``, ``gtsrb48`` and ``inria`` (64x128, made in 0.15; nothing is ever chosen on it) were trained by
benchmarks/search_table.py. ``macro`` is NAS-Bench-Macro (Su et al., arXiv
2103.11922, Apache-2.0), read from ``TINYNAS_TEST_DATA`` (or ../shared/data beside the repository): all 6,561 networks of eight
blocks, CIFAR-10, trained in full with three seeds; the strategies see the first seed, the truth is the mean of the three. Nothing
is ever chosen on it.

What it measures. Each strategy proposes networks of the table and pays for every training image; the clock also runs
in seconds (a fixed part and a part by MACs, fitted to the table). At every moment the strategy has a front by what it
has seen; the measure is the hypervolume of that front with the accuracies of the deepest training, as a share of the
best front of the whole table, in the box above guessing (on macro above 80 %). So a strategy is judged by the networks it would
hand over, not by how it judges them: the others by the accuracy last seen, ours by the accuracy that it expects (a row of its
own shows the same search handed over by what was seen; another the search with the regression as its belief).

The strategies. ``random``: uniform among what fits, each trained in full. ``tpe``, ``tpe-multivariate``, ``nsga2``:
Optuna's samplers, each proposal trained in full. ``one-epoch-top-k``: all at one epoch, then in full in the order of
that one epoch, continued. ``tinynas``: the schedule and the proposer of the product, with its defaults (the table is its
pool). A proposal that is not in the table stands for the nearest network of the table that has not been tried. This makes
TPE and NSGA-II look more like random than they are; our model, which chooses from a pool, does not suffer from it, and our
mutations are left out.

Every replay is a line of ``--rows``: begun again, the script goes on where it was stopped. Delete the file after a change of the code.

What it does not show. Infeasible proposals (every network of the table fits: Optuna's samplers waste nothing here, as
they would under a tight budget), and the overhead of proposing.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial
from search_table import table_space

from tinynas import pareto
from tinynas.budget import load_budget
from tinynas.cost.anatomy import Figures
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.objectives import objectives, traded
from tinynas.search.feasible import COSTS, Feasible, Pool, as_genotype, strata
from tinynas.search.genes import distributions, genotype_of, params_of
from tinynas.search.prepare import bands_of
from tinynas.search.proposals import Proposer, tpe_sampler
from tinynas.search.schedule import RAMP, Continue, Net, New, Plan, Result, Schedule
from tinynas.search.settings import SearchSettings
from tinynas.space import Gene, Space

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "benchmarks"
DATA = Path(os.environ.get("TINYNAS_TEST_DATA", HERE.parent.parent / "shared" / "data"))
#: Tables that benchmarks/search_table.py trained -> their classes.
CLASSES = {"tin20": 20, "person64": 2, "gtsrb48": 43}
#: The same of tables that nothing is ever chosen on.
JUDGES = {"inria": 2}
#: Epochs that the networks of NAS-Bench-Macro were trained for, and the accuracy at which its box begins.
MACRO_EPOCHS, MACRO_FLOOR = 50, 0.8


@dataclass
class Table:
    """The networks with the deepest training, and what each epoch showed."""

    space: Space
    rows: list[dict]
    rungs: tuple[int, ...]
    classes: int

    def __post_init__(self) -> None:
        self.reference = 1 / self.classes
        self.floor: float | None = None
        #: No mutations, and no proposals of TPE: the table knows no other networks.
        self.alone = {"children": 0, "samples": 0}
        self.genotypes = np.array([row["genotype"] for row in self.rows], dtype=np.int64)
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
        self.feasible: Feasible = TableFeasible(self)

    def seconds_per_image(self, i: int) -> float:
        return float(self.fixed + self.per_mac * self.macs[i])

    def volume(self, chosen) -> float:
        rows = np.fromiter(chosen, dtype=np.int64)
        rows = rows[np.argsort(self.macs[rows], kind="stable")]
        # Steps of a staircase: what the cheaper ones reach, up to the next dearer one.
        heights = np.maximum.accumulate(np.maximum(self.truth[rows] - self.reference, 0.0)) if len(rows) else np.zeros(0)
        widths = np.diff(np.append(np.log(self.macs[rows]), self.high))
        return float(heights @ widths / (self.high - self.low))

    def seen(self, i: int, epoch: int) -> float:
        """The validation accuracy after an epoch."""
        return float(self.rows[i]["accuracy"][epoch - 1])

    def scores(self, i: int, epoch: int) -> dict[str, float]:
        row = self.rows[i]
        return {"accuracy": row["accuracy"][epoch - 1], "val_loss": row["val_loss"][epoch - 1], "loss_sum": sum(row["loss"][:epoch])}


#: (channels in, out, stride) of the eight places for blocks, of the first with a map of 32x32; (kernel, expand ratio) of what may be there.
MACRO_PLACES = ((32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 256, 1))
MACRO_BLOCKS = {"0": None, "1": (3, 3), "2": (5, 6)}


def macro_network(name: str) -> tuple[int, int, Figures]:
    """MACs, parameters (of batch norm 2 a channel) and anatomy of a network of NAS-Bench-Macro. Its definition was worked out from the
    published figures, which it gives for each of the 6,561: an identity that changes the shape is a 1x1 convolution with its stride."""
    layers = [(1024 * 32, 27, 32 * (27 + 2), 32)]  # (elements out, MACs each, parameters, channels)
    side = 32
    for choice, (before, after, stride) in zip(name, MACRO_PLACES, strict=True):
        block, out = MACRO_BLOCKS[choice], (side // stride) ** 2
        if block is not None:
            kernel, mid = block[0], block[1] * before
            layers.append((side**2 * mid, before, mid * (before + 2), mid))
            layers.append((out * mid, kernel**2, mid * (kernel**2 + 2), mid))
            layers.append((out * after, mid, after * (mid + 2), after))
        elif before != after:
            layers.append((out * after, before, after * (before + 2), after))
        side //= stride
    layers.append((side**2 * 1280, 256, 1280 * (256 + 2), 1280))
    macs = [elements * each for elements, each, _, _ in layers]
    looks = Figures(sum(layer[0] for layer in layers), float(np.mean(np.log(macs))), min(layer[3] for layer in layers))
    return sum(macs) + 1280 * 10, sum(layer[2] for layer in layers) + 1280 * 10 + 10, looks


class MacroTable(Table):
    """NAS-Bench-Macro: trained in full or not at all; what is seen is the first seed's accuracy, the truth the mean of three."""

    def __init__(self) -> None:
        known = json.loads((DATA / "nas" / "nas-bench-macro_cifar10.json").read_text(encoding="utf-8"))
        names = sorted(known)
        genes = [Gene(f"block{i}", ("identity", "k3e3", "k5e6")) for i in range(len(names[0]))]
        self.space = SimpleNamespace(genes=genes, canonical=lambda genotype: tuple(int(i) for i in genotype))
        self.rungs, self.classes, self.reference, self.floor = (MACRO_EPOCHS,), 10, MACRO_FLOOR, MACRO_FLOOR
        self.alone = {}
        self.genotypes = np.array([[int(choice) for choice in name] for name in names], dtype=np.int64)
        self.macs = np.array([known[name]["flops"] for name in names], dtype=float)
        self.rows = []
        for name in names:
            macs, params, looks = macro_network(name)
            assert (macs, params) == (known[name]["flops"], known[name]["params"]), name
            # No memory was published.
            self.rows.append({"costs": {"macs": macs, "params": params, "sram_bytes": 1, **looks._asdict()}})
        self.first = np.array([known[name]["test_acc"][0] for name in names]) / 100
        self.truth = np.array([np.mean(known[name]["test_acc"]) for name in names]) / 100
        # Seconds were not published: they count as the MACs.
        self.images, self.fixed, self.per_mac = 1, 0.0, 1.0 / (MACRO_EPOCHS * float(self.macs.mean()))
        self.low, self.high = np.log(self.macs.min()), np.log(self.macs.max())
        self.best = self.volume(range(len(self.rows)))
        self.feasible = WholeFeasible(self)

    def seen(self, i: int, epoch: int) -> float:
        return float(self.first[i])

    def scores(self, i: int, epoch: int) -> dict[str, float]:
        return {"accuracy": self.seen(i, epoch), "val_loss": 0.0}


class TableFeasible(Feasible):
    """All networks of a table fit; their costs are looked up."""

    def __init__(self, table: Table) -> None:
        if isinstance(table.space, Space):
            super().__init__(table.space, table.classes, load_budget("stm32f746"))
            self._known = super().costs(table.genotypes)
        else:
            self.space, self.subspaces, self._subspaces = table.space, (), np.zeros((0, 0), dtype=np.int64)
            self.sizes = np.array([len(gene.choices) for gene in table.space.genes])
            self._known = {name: np.array([row["costs"][name] for row in table.rows], dtype=float) for name in table.rows[0]["costs"]}
        self._row = {genotype.tobytes(): i for i, genotype in enumerate(table.genotypes)}

    def costs(self, genotypes):
        rows = [self._row[genotype.tobytes()] for genotype in np.ascontiguousarray(genotypes, dtype=np.int64)]
        return {name: values[rows] for name, values in self._known.items()}


class WholeFeasible(TableFeasible):
    """The table is the whole space: every genotype is of it."""

    def canonical(self, genotypes):
        return genotypes

    def fits(self, costs):
        return np.ones(len(costs["macs"]), dtype=bool)

    def repair(self, genotype):
        return genotype


def load_table(name: str) -> Table:
    """A table; of ``NAME@SHARE`` the box begins at that accuracy."""
    name, _, reference = name.partition("@")
    table = MacroTable() if name == "macro" else trained_table(name)
    if reference:
        table.reference = float(reference)
        table.best = table.volume(range(len(table.rows)))
    return table


def trained_table(name: str) -> Table:
    """A table of benchmarks/search_table.py."""
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
    classes = (CLASSES | JUDGES)[name]
    rungs = (*(rung for rung in (1, 2, 4, 8, 16) if rung <= 0.75 * top), top)
    return Table(table_space(name), rows, rungs, classes)


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
        values = np.array([self.table.seen(i, self.epochs[i]) for i in known])
        return [int(i) for i in known[front_rows(values, self.table.macs[known])]]


def front_rows(values: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Indices of the front of large values and small costs."""
    order = np.lexsort((-values, costs))
    before = np.concatenate([[-np.inf], np.maximum.accumulate(values[order])[:-1]])
    return np.sort(order[values[order] > before])


def random_search(replay: Replay) -> Iterator[Step]:
    for i in replay.rng.permutation(len(replay.table.rows)):
        yield replay.train(int(i), replay.table.rungs[-1])


def optuna_search(kind: str) -> Callable[[Replay], Iterator[Step]]:
    def strategy(replay: Replay) -> Iterator[Step]:
        table, feasible = replay.table, replay.table.feasible
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
            values = [table.seen(i, table.rungs[-1]), table.macs[i]]
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
    points = [(table.seen(i, table.rungs[0]), table.macs[i]) for i in order]
    ranks = pareto.ranks(points, (True, False))
    for k in sorted(range(len(order)), key=lambda k: (ranks[k], -points[k][0])):
        yield replay.train(int(order[k]), table.rungs[-1])


@dataclass
class Ours:
    """A search of ours, as it goes on."""

    nets: dict[int, Net]
    """By row of the table."""
    genotypes: dict[str, tuple[int, ...]]
    proposer: Proposer

    def expected(self) -> dict[str, float]:
        """What is expected of each network that was trained, by its row as text."""
        return self.proposer.surrogate.expected_accuracies(list(self.nets.values()), self.genotypes)


def search_of_ours(replay: Replay, settings: SearchSettings, seconds: float = math.inf) -> Iterator[tuple[Step, Ours]]:
    """The schedule and the proposer of the product: after each training what was paid for (with the front by what was seen) and the
    search. ``seconds`` of one core are its time limit, by which the product shares its time out."""
    table, feasible = replay.table, replay.table.feasible
    timed = math.isfinite(seconds)
    # As the product plans: under a time limit every strategy's last rung is the table's.
    plan = Plan(
        table.rungs,
        table.images,
        strata(table.macs, bands_of(settings)),
        settings.deepen,
        RAMP,
        explore=settings.explore,
        traded=traded(objectives(settings.objectives)),
    )
    schedule = Schedule(plan, 1 / table.classes)
    order = replay.rng.permutation(len(table.rows))[: settings.pool]
    pool = Pool(table.genotypes[order], dict.fromkeys(COSTS, table.macs[order]), len(order), 1.0)
    proposer = Proposer(
        feasible,
        pool,
        plan,
        seed=replay.seed,
        baseline=settings.baseline,
        start=settings.start,
        cost="macs",
        chance=1 / table.classes,
        **table.alone,
        belief=settings.belief,
        floor=table.floor,
    )
    ours, used = Ours({}, {}, proposer), 0.0
    nets, genotypes = ours.nets, ours.genotypes
    while True:
        known = list(nets.values())
        decision = schedule.next(
            known,
            proposer.outlooks(known, genotypes),
            progress=used / seconds if timed else 0.0,
            seconds_left=seconds - used,
            exhausted=len(nets) == len(table.rows),
        )
        if isinstance(decision, New):
            proposal = proposer.propose(len(nets), known, genotypes, [])
            rows = np.flatnonzero((table.genotypes == np.array(proposal.genotype)).all(axis=1))
            fresh = [int(i) for i in rows if int(i) not in nets]
            i = fresh[0] if fresh else replay.nearest_fresh(proposal.genotype, feasible)
            nets[i] = Net(str(i), len(nets), float(table.macs[i]), table.seconds_per_image(i))
            genotypes[str(i)] = as_genotype(table.genotypes[i])
            rung = 0
        elif isinstance(decision, Continue):
            i, rung = int(decision.net.id), decision.rung
        else:
            return
        epoch = table.rungs[rung]
        step = replay.train(i, epoch)
        used += step.seconds
        if used > seconds:
            # Cut short before the rung: nothing is concluded from it.
            nets[i].failed = not nets[i].results
            return
        nets[i].results.append(Result(epoch, epoch * table.images, table.scores(i, epoch)))
        yield step, ours


def tinynas_search(changes: dict | None = None, *, expect: bool = True) -> Callable[[Replay], Iterator[Step]]:
    settings = SearchSettings(**(changes or {}))

    def strategy(replay: Replay) -> Iterator[Step]:
        for step, ours in search_of_ours(replay, settings):
            if not expect:
                yield step
                continue
            # Handed over as the product does: by what is expected of each network.
            expected = ours.expected()
            front = pareto.front([(expected[net.id], net.cost) for net in ours.nets.values()], (True, False))
            rows = list(ours.nets)
            yield Step(step.images, step.seconds, [rows[k] for k in front])

    return strategy


STRATEGIES: dict[str, Callable[[Replay], Iterator[Step]]] = {
    "random": random_search,
    "tpe": optuna_search("tpe"),
    "tpe-multivariate": optuna_search("tpe-multivariate"),
    "nsga2": optuna_search("nsga2"),
    "one-epoch-top-k": one_epoch_top_k,
    "tinynas, by what was seen": tinynas_search(expect=False),
    "tinynas": tinynas_search(),
    "tinynas, belief=regression": tinynas_search({"belief": "regression"}),
}
#: What there is to choose only where trainings can be left early.
SHORT = ("one-epoch-top-k", "tinynas, by what was seen")


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


#: Full trainings at which shares are kept, and shares whose price is.
MARKS = tuple(round(float(x), 3) for x in np.unique(np.round(np.geomspace(0.25, 256, 61), 2)))
SHARES = (0.9, 0.95, 0.98)


def replayed(job: tuple[str, str, str, int, float]) -> dict:
    """One strategy on one seed, in a process of its own: (table, strategy, settings of tinynas as JSON, seed, limit)."""
    name, key, changes, seed, limit = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    strategy = tinynas_search(json.loads(changes)) if key == "tinynas" else STRATEGIES[key]
    points = curve(table_of(name), strategy, seed, limit)
    return {
        "strategy": key,
        "settings": changes,
        "seed": seed,
        "limit": limit,
        "shares": [round(at(points, 0, x), 4) for x in MARKS if x <= limit],
        "trainings": {str(share): spent_until(points, 0, share) for share in SHARES},
        "seconds": {str(share): spent_until(points, 1, share) for share in SHARES},
    }


@functools.cache
def table_of(name: str) -> Table:
    """A table, read once a process."""
    return load_table(name)


def at(points: list[tuple[float, float, float]], axis: int, x: float) -> float:
    """The hypervolume share reached when ``x`` was spent."""
    reached = [p[2] for p in points if p[axis] <= x]
    return reached[-1] if reached else 0.0


def spent_until(points: list[tuple[float, float, float]], axis: int, share: float) -> float | None:
    """What was spent when the share was reached for good (never fell below it again), or None."""
    result = None
    for p in reversed(points):
        if p[2] < share:
            break
        result = p[axis]
    return result


def quantiles(values: list[float | None]) -> tuple[float, float, float]:
    """Median and quartiles; None counts as infinite."""
    low, mid, high = np.quantile([np.inf if value is None else value for value in values], [0.25, 0.5, 0.75], method="nearest")
    return float(mid), float(low), float(high)


def quartiles(values: list[float | None], digits: int) -> str:
    mid, low, high = (f"{x:.{digits}f}" if np.isfinite(x) else "more" for x in quantiles(values))
    return f"{mid} ({low}-{high})" if mid != "more" else "not reached" if low == "more" else f"not reached ({low}-more)"


def share_at(run: dict, x: float) -> float:
    """The share of a replay's row at the last mark up to ``x``."""
    reached = [share for mark, share in zip(MARKS, run["shares"], strict=False) if mark <= x]
    return reached[-1] if reached else 0.0


def first_at(run: dict, share: float) -> float | None:
    """Of a replay's row the first mark at which the share was reached, or None."""
    return next((mark for mark, reached in zip(MARKS, run["shares"], strict=False) if reached >= share), None)


def report(table: Table, name: str, runs: dict[str, list[dict]], limit: float) -> str:
    full = table.rungs[-1] * table.images
    seeds = len(next(iter(runs.values())))
    macro = isinstance(table, MacroTable)
    costs = f"{table.macs.min() / 1e6:.2f}-{table.macs.max() / 1e6:.2f} M"
    rungs = ", ".join(map(str, table.rungs))
    what = (
        f"All {len(table.rows):,} networks of NAS-Bench-Macro (CIFAR-10, Apache-2.0), {costs} FLOPs; the strategies see the first of three "
        f"seeds, the truth is their mean. Box: {table.reference:.0%} to the best, log FLOPs."
        if macro
        else f"{len(table.rows)} networks of benchmarks/search_space.yaml, {costs} MACs, each trained on {full:,} images in all (epochs of "
        f"{table.images:,}; rungs at {rungs}); deepest accuracies {table.truth.min():.1%}-{table.truth.max():.1%}."
    )
    lines = [
        f"# Search strategies replayed on {name}",
        "",
        f"{what} {seeds} seeds; median (quartiles). Made by "
        + ("" if macro else "`python benchmarks/search_table.py` and ")
        + f"`python benchmarks/search_replay.py --name {name}`; what the figures do not show is said there.",
        "",
        "Hypervolume of the front handed over, as a share of the table's best, when this much training was paid for "
        "(1 = one network trained in full):",
        "",
    ]
    marks = [
        mark for mark in ((5, 10, 15, 20, 30, 40, 60, 100, 150, 200, 256) if macro else (2, 4, 8, 12, 16, 24, 32, 48, 64)) if mark <= limit
    ]
    lines.append("| strategy | " + " | ".join(map(str, marks)) + " |")
    lines.append("|---|" + "---|" * len(marks))
    for strategy, rows in runs.items():
        cells = [quartiles([share_at(run, x) for run in rows], 3) if x <= rows[0]["limit"] else "–" for x in marks]
        lines.append(f"| {strategy} | " + " | ".join(cells) + " |")
    axes = [("trainings", 1)] if macro else [("trainings", 1), ("seconds", 0)]
    lines += [
        "",
        f"Training until the share is reached and kept, in full trainings{'' if macro else ' and in seconds of one core'}; beside it, "
        f"to about {MARKS[-1] / MARKS[-2] - 1:.0%}, when 95 % was reached for the first time, by a front that may have become worse again:",
        "",
    ]
    lines.append("| strategy | " + " | ".join(f"{s:.0%}, {axis}" for s in SHARES for axis, _ in axes) + " | 95% first seen, trainings |")
    lines.append("|---|" + "---|" * (len(SHARES) * len(axes) + 1))
    for strategy, rows in runs.items():
        cells = [quartiles([run[axis][str(s)] for run in rows], digits) for s in SHARES for axis, digits in axes]
        cells.append(quartiles([first_at(run, 0.95) for run in rows], 1))
        lines.append(f"| {strategy} | " + " | ".join(cells) + " |")
    if {"tinynas", "tpe"} <= runs.keys():
        ours, plain = (quantiles([run["trainings"]["0.95"] for run in runs[key]])[0] for key in ("tinynas", "tpe"))
        said = f"{plain:.1f} ({ours / plain:.2f} of it)" if np.isfinite(plain) else "more than was replayed"
        lines += ["", f"95 % of the best hypervolume: tinynas pays for {ours:.1f} full trainings, Optuna TPE for {said}."]
    lines += ["", f"![Hypervolume over training](search_replay_{name}.svg)"]
    return "\n".join(lines) + "\n"


COLORS = ("#888888", "#c77c00", "#b3261e", "#7b3fa0", "#4a8a3a", "#7fb2e5", "#0b57a4", "#007a87", "#000000")


def picture(name: str, runs: dict[str, list[dict]], limit: float) -> str:
    """Share of the best hypervolume over training as SVG: the median a line, the quartiles a band."""
    marks = [mark for mark in MARKS if mark <= limit]
    first = next((mark for mark in marks if any(np.median([share_at(run, mark) for run in rows]) > 0.5 for rows in runs.values())), 1.0)
    marks = [mark for mark in marks if mark >= first]
    wide, high, left, top = 640, 380, 60, 40
    lowest = 0.5

    def x(mark: float) -> float:
        return left + wide * np.log(mark / marks[0]) / np.log(marks[-1] / marks[0])

    def y(share: float) -> float:
        return top + high * (1 - (max(share, lowest) - lowest) / (1 - lowest))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + wide + 210} {top + high + 60}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{left + wide + 210}" height="{top + high + 60}" fill="white"/>',
        f'<text x="{left}" y="22" font-weight="bold">{name}: share of the best hypervolume over full trainings paid for</text>',
    ]
    for share in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0):
        parts.append(f'<line x1="{left}" x2="{left + wide}" y1="{y(share):.1f}" y2="{y(share):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for mark in (0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256):
        if marks[0] <= mark <= marks[-1]:
            parts.append(f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{top}" y2="{top + high}" stroke="#eee"/>')
            parts.append(f'<text x="{x(mark):.1f}" y="{top + high + 18}" text-anchor="middle">{mark:g}</text>')
    parts.append(f'<text x="{left + wide / 2}" y="{top + high + 42}" text-anchor="middle">networks trained in full (logarithmic)</text>')
    lines = []
    for number, (strategy, rows) in enumerate(runs.items()):
        color = COLORS[number % len(COLORS)]
        known = [mark for mark in marks if mark <= rows[0]["limit"]]
        quarters = np.array([np.quantile([share_at(run, mark) for run in rows], [0.25, 0.5, 0.75]) for mark in known])
        edge = [(x(m), y(q[2])) for m, q in zip(known, quarters, strict=True)]
        edge += [(x(m), y(q[0])) for m, q in reversed(list(zip(known, quarters, strict=True)))]
        parts.append(f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in edge)}" fill="{color}" fill-opacity="0.12"/>')
        path = " ".join(f"{x(m):.1f},{y(q[1]):.1f}" for m, q in zip(known, quarters, strict=True))
        lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        lines.append(f'<rect x="{left + wide + 14}" y="{top + 20 * number}" width="14" height="4" fill="{color}"/>')
        lines.append(f'<text x="{left + wide + 34}" y="{top + 7 + 20 * number}">{strategy}</text>')
    return "\n".join([*parts, *lines, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, choices=(*CLASSES, *JUDGES, "macro"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--limit", type=float, default=72.0, help="full trainings after which a replay stops")
    parser.add_argument("--ours", type=float, help="the same for tinynas, whose decisions take longer; default: --limit")
    parser.add_argument("--only", nargs="*", help="prints, writes no table")
    parser.add_argument("--set", default="{}", help="JSON of settings for the tinynas strategy; prints, writes no table")
    parser.add_argument("--reference", help="accuracy at which the box begins; prints, writes no table, and needs --rows")
    parser.add_argument("--processes", type=int, default=2, help="replays side by side")
    parser.add_argument("--rows", type=Path, help="file that replays are added to and taken from; default: search_replay_NAME.jsonl")
    options = parser.parse_args()
    if options.reference and options.rows is None:
        parser.error("--reference needs --rows: these are other replays than the table's")
    name = f"{options.name}@{options.reference}" if options.reference else options.name
    table = load_table(name)
    path = options.rows or RESULTS / f"search_replay_{options.name}.jsonl"
    known = {(row["strategy"], row["settings"], row["seed"], row["limit"]): row for row in (read_lines(path) if path.exists() else ())}
    keys = [key for key in STRATEGIES if not options.only or key in options.only]
    if isinstance(table, MacroTable):
        keys = [key for key in keys if key not in SHORT]
    limits = (options.limit, options.ours or options.limit)
    jobs = [
        (name, key, options.set if key == "tinynas" else "{}", seed, limits[key.startswith("tinynas")])
        for key in keys
        for seed in range(options.seeds)
    ]
    missing = [job for job in jobs if job[1:] not in known]
    if options.processes == 1:
        done = map(replayed, missing)
        for row in done:
            append_line(path, row)
            known[row["strategy"], row["settings"], row["seed"], row["limit"]] = row
    else:
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            for row in pool.imap(replayed, missing, chunksize=1):
                append_line(path, row)
                known[row["strategy"], row["settings"], row["seed"], row["limit"]] = row
    runs: dict[str, list[dict]] = {key: [] for key in keys}
    for job in jobs:
        runs[job[1]].append(known[job[1:]])
    if options.only or options.set != "{}" or options.reference:
        for key, rows in runs.items():
            print(
                key,
                [quartiles([share_at(run, x) for run in rows], 3) for x in (4, 8, 16, 32)],
                quartiles([run["trainings"]["0.95"] for run in rows], 1),
            )
        return
    text = report(table, options.name, runs, options.limit)
    print(text)
    write_atomic(RESULTS / f"search_replay_{options.name}.md", text)
    write_atomic(RESULTS / f"search_replay_{options.name}.svg", picture(options.name, runs, options.limit))


if __name__ == "__main__":
    main()
