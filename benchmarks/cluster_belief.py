"""Why many workers find a little less than one at equal training: replays in which one cause at a time is taken away.

    python benchmarks/cluster_belief.py --name tin20 --seeds 5

What it measures. The product's schedule and proposer on a table of trained networks (search_replay.py), with a number of workers on a
simulated clock: a training lasts what its network's images take, and its result is known when it ends. All searches end after the same
training, ``--limit`` networks of the table's mean trained in full. Quality is the hypervolume of the front handed over, by the deepest
training of the table, as a share of the table's best; beside it that of the best front among all networks that were tried, so that what
was not found and what was not recognised can be told apart. The ways:

- ``plain``: as the search is;
- ``oracle``: results are known when a training begins, so no decision lacks what others are training;
- ``hold``: after four networks nothing is begun until they are trained, so nothing is begun before something is modelled;
- ``early``: no network is started after half of the training, in place of 70 %;
- ``fine``: rungs at 3, 6 and 12 epochs too, so that networks under way are looked at more often.

Rows go to cluster_belief.jsonl; begun again, the script goes on where it was stopped.

The rows are of 0.9, whose schedule gave half of the training to the front from the beginning.

What it does not show. The time that decisions take and lost workers (cluster_scaling.py does), and proposals outside of the table. Tables
whose networks were trained for few epochs (person64: nine) hardly let 16 workers train anything one after the other.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import os
from collections.abc import Iterable
from statistics import mean, stdev
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from search_replay import RESULTS, table_of

from tinynas import pareto
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.search import SearchSettings
from tinynas.search.feasible import COSTS, Pool, as_genotype, strata
from tinynas.search.proposals import Proposer
from tinynas.search.schedule import Continue, Net, New, Plan, Result, Schedule

WAYS = ("plain", "oracle", "hold", "early", "fine")
#: Rungs between the others.
BETWEEN = (3, 6, 12)
#: Share of the training after which no network is started where that is early.
EARLY = 0.5
#: Networks that ``hold`` waits for.
FIRST = 4


def replayed(name: str, way: str, size: int, seed: int, limit: float) -> dict[str, Any]:
    """One search of ``size`` workers."""
    table, settings = table_of(name), SearchSettings()
    rungs = tuple(sorted({*table.rungs, *(r for r in BETWEEN if way == "fine" and r < table.rungs[-1])}))
    explore = EARLY if way == "early" else settings.explore
    plan = Plan(rungs, table.images, strata(table.macs, settings.bands), settings.deepen, None, explore)
    schedule, chance = Schedule(plan, 1 / table.classes), 1 / table.classes
    order = np.random.default_rng(seed).permutation(len(table.rows))
    pool = Pool(table.genotypes[order], dict.fromkeys(COSTS, table.macs[order]), len(order), 1.0)
    proposer = Proposer(
        table.feasible,
        pool,
        plan,
        seed=seed,
        baseline=settings.baseline,
        start=settings.start,
        cost="macs",
        chance=chance,
        children=0,
        samples=0,
        belief=settings.belief,
        floor=table.floor,
    )
    row_of = {as_genotype(row): i for i, row in enumerate(table.genotypes)}
    nets: dict[str, Net] = {}
    genotypes: dict[str, tuple[int, ...]] = {}
    seconds = [table.seconds_per_image(i) for i in range(len(table.rows))]
    total = limit * table.rungs[-1] * table.images * float(np.mean(seconds))
    now, used, free, ended, turn = 0.0, 0.0, size, 0, itertools.count()
    running: list[tuple[float, int, Net, Result, float]] = []
    while used < total:
        while free:
            known = list(nets.values())
            if way == "hold" and len(nets) >= FIRST and sum(net.trained for net in known) < FIRST:
                break
            outlooks = proposer.outlooks(known, genotypes)
            decision = schedule.next(known, outlooks, progress=used / total, exhausted=len(nets) == len(table.rows))
            if isinstance(decision, New):
                genotype = proposer.propose(len(nets), known, genotypes, []).genotype
                row = row_of.get(genotype)
                if row is None or str(row) in nets:
                    fresh = np.array([i for i in range(len(table.rows)) if str(i) not in nets])
                    row = int(fresh[int(table.feasible.distance(table.genotypes[fresh], np.array(genotype)).argmin())])
                net, rung = Net(str(row), len(nets), float(table.macs[row])), 0
                nets[net.id], genotypes[net.id] = net, as_genotype(table.genotypes[row])
            elif isinstance(decision, Continue):
                net, rung = decision.net, decision.rung
            else:
                break
            row, epochs = int(net.id), rungs[rung]
            lasts = (epochs - (rungs[net.rung] if net.results else 0)) * table.images * seconds[row]
            result = Result(epochs, epochs * table.images, table.scores(row, epochs))
            if way == "oracle":
                net.results.append(result)
            net.busy = True
            heapq.heappush(running, (now + lasts, next(turn), net, result, lasts))
            free -= 1
        if not running:
            break
        now, _, net, result, lasts = heapq.heappop(running)
        if way != "oracle":
            net.results.append(result)
        net.busy = False
        free, used, ended = free + 1, used + lasts, ended + 1
    if way == "oracle":
        for _, _, net, _, _ in running:
            net.results.pop()
    trained = [net for net in nets.values() if net.trained]
    expected = proposer.surrogate.expected_accuracies(trained, genotypes)
    front = [trained[k] for k in pareto.front([(expected[net.id], net.cost) for net in trained], (True, False))]
    return {
        "name": name,
        "way": way,
        "workers": size,
        "seed": seed,
        "limit": limit,
        "hypervolume": round(float(table.volume(int(net.id) for net in front)) / table.best, 4),
        "tried": round(float(table.volume(int(net.id) for net in trained)) / table.best, 4),
        "networks": len(trained),
        "trainings": ended,
        "epochs_of_front": round(mean(net.results[-1].epochs for net in front), 2),
    }


def error(values: Iterable[float]) -> str:
    """Mean and its standard error."""
    known = list(values)
    return f"{mean(known):.4f}" + (f" ± {stdev(known) / math.sqrt(len(known)):.4f}" if len(known) > 1 else "")


def report(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Why many workers find a little less than one at equal training",
        "",
        "Replays on tables in which one cause at a time is taken away. Made by `python benchmarks/cluster_belief.py`, whose text says what "
        "the ways are and what the figures do not show. Means and their standard errors; beside one worker: of the differences, seed by "
        "seed.",
    ]
    for name, limit in sorted({(row["name"], row["limit"]) for row in rows}, reverse=True):
        mine = [row for row in rows if (row["name"], row["limit"]) == (name, limit)]
        alone = {row["seed"]: row["hypervolume"] for row in mine if row["workers"] == 1 and row["way"] == "plain"}
        lines += [
            "",
            f"{name}, {limit:g} networks' full training:",
            "",
            "| workers | way | seeds | hypervolume | beside one worker | best of the tried | networks | trainings | epochs of the front |",
            "|--:|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for size, way in sorted({(row["workers"], row["way"]) for row in mine}, key=lambda pair: (pair[0], WAYS.index(pair[1]))):
            these = [row for row in mine if (row["workers"], row["way"]) == (size, way)]
            beside = [row["hypervolume"] - alone[row["seed"]] for row in these if row["seed"] in alone]
            other = "" if (size, way) == (1, "plain") or not beside else error(beside)
            forms = {"tried": ".4f", "networks": ".0f", "trainings": ".0f"}
            figures = [f"{mean(row[key] for row in these):{form}}" for key, form in forms.items()]
            lines.append(
                f"| {size} | {way} | {len(these)} | {error(row['hypervolume'] for row in these)} | {other} | {' | '.join(figures)} | "
                f"{mean(row['epochs_of_front'] for row in these):.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="tin20")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(5))
    parser.add_argument("--sizes", type=int, nargs="*", default=(1, 16))
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--limit", type=float, default=10.0)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = RESULTS / "cluster_belief.jsonl"
    known = [tuple(row[key] for key in ("name", "way", "workers", "seed", "limit")) for row in read_lines(path)] if path.exists() else []
    for seed, size, way in itertools.product(options.seeds, options.sizes, options.ways):
        # One worker waits for nobody: what it does not know yet nobody trains.
        job = (options.name, way, size, seed, options.limit)
        if job not in known and (size > 1 or way in ("plain", "fine")):
            append_line(path, replayed(*job))
            print(*job, flush=True)
    write_atomic(RESULTS / "cluster_belief.md", report(list(read_lines(path))))


if __name__ == "__main__":
    main()
