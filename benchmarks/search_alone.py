"""The most accurate network that fits, and nothing else: a search for it, against the best of a search for a front, and Optuna's.

    python benchmarks/search_alone.py [--name gtsrb48 tin20 person64]

What it measures. ``tinynas search -o accuracy`` replayed on the tables of short trainings (search_replay.py says how), under a time limit
as the product shares it out, in units of what the table's network of middle costs takes for all its epochs. The measure is the accuracy
after all epochs of the table of the one network that is handed over as the best, mean of the seeds, beside the best of the table; on the
table as it is and on the three in five networks of the fewest MACs, as if the budget ended there. ``front``: the default, which trades MACs
against accuracy, and its most accurate. ``alone``: ``-o accuracy``; with other numbers of networks that are deepened side by side
(FINALISTS), and another share of time in which networks are started. ``front, and ...``: what a front calls its best with something added
for size, as in search_handover.py. Optuna's TPE and random train each in full, for accuracy alone.

Every cell is a line of search_alone.jsonl, the accuracy of each seed: begun again, the script goes on where it was stopped.

What it does not show. Mutations, and what a budget refuses. Full trainings of forty epochs: those of the tables are of nine and 27.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import mean, stdev

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial
from search_replay import CLASSES, RESULTS, Replay, Table, load_table, search_of_ours

from tinynas.files import append_line, read_lines, write_atomic
from tinynas.search import schedule
from tinynas.search.genes import distributions, genotype_of, params_of
from tinynas.search.proposals import tpe_sampler
from tinynas.search.settings import SearchSettings

SEEDS = 16
#: Time limits, in trainings of a network of middle costs.
LIMITS = (1.0, 2.0, 4.0, 8.0)
#: Share of the table's networks that the budget leaves, by MACs.
SHARES = (1.0, 0.6)
Chooser = Callable[[Table, int, float], int | None]


def ours(objectives: tuple[str, ...], finalists: int = schedule.FINALISTS, per_fold: float = 0.0, **changes: object) -> Chooser:
    """The row that a search of ours hands over as its best after so many seconds, with ``per_fold`` added for each e-fold of MACs."""
    settings = SearchSettings.model_validate({"objectives": objectives, **changes})

    def choose(table: Table, seed: int, seconds: float) -> int | None:
        kept, schedule.FINALISTS = schedule.FINALISTS, finalists
        try:
            steps = list(search_of_ours(Replay(table, seed), settings, seconds))
        finally:
            schedule.FINALISTS = kept
        if not steps:
            return None
        expected = steps[-1][1].expected()
        return int(max(expected, key=lambda row: expected[row] + per_fold * math.log(table.macs[int(row)])))

    return choose


def in_full(order: Callable[[Table, int], Iterator[tuple[int, Callable[[float], None]]]]) -> Chooser:
    """The best seen of trainings in full, one after the other, as far as the seconds go; the last is cut off."""

    def choose(table: Table, seed: int, seconds: float) -> int | None:
        top, used, best = table.rungs[-1], 0.0, None
        for row, tell in order(table, seed):
            used += top * table.images * table.seconds_per_image(row)
            if used > seconds:
                break
            tell(table.seen(row, top))
            if best is None or table.seen(row, top) > table.seen(best, top):
                best = row
        return best

    return choose


def at_random(table: Table, seed: int) -> Iterator[tuple[int, Callable[[float], None]]]:
    for row in np.random.default_rng(seed).permutation(len(table.rows)):
        yield int(row), lambda value: None


def by_tpe(table: Table, seed: int) -> Iterator[tuple[int, Callable[[float], None]]]:
    space, replay, known = table.space, Replay(table, seed), distributions(table.space)
    study = optuna.create_study(direction="maximize", sampler=tpe_sampler(seed, multivariate=True))
    while (replay.epochs == 0).any():
        trial = study.ask(known)
        row = replay.nearest_fresh(genotype_of(space, trial.params), table.feasible)
        replay.epochs[row] = 1
        value: list[float] = []
        yield row, value.append
        # What stands in for the proposal is what was trained.
        study.tell(trial, state=TrialState.FAIL)
        study.add_trial(create_trial(values=value, params=params_of(space, table.genotypes[row]), distributions=known))


CHOOSERS: dict[str, Chooser] = {
    "random": in_full(at_random),
    "TPE, multivariate": in_full(by_tpe),
    "front": ours(("accuracy", "macs")),
    "front, and 0.02 for each e-fold of MACs": ours(("accuracy", "macs"), per_fold=0.02),
    "alone": ours(("accuracy",)),
    "alone, 2 deepened side by side": ours(("accuracy",), 2),
    "alone, 8": ours(("accuracy",), 8),
    "alone, networks started half the time": ours(("accuracy",), explore=0.5),
}


def below(table: Table, share: float) -> Table:
    """The ``share`` of the networks that have the fewest MACs."""
    limit = np.quantile(table.macs, share)
    return replace(table, rows=[row for row, macs in zip(table.rows, table.macs, strict=True) if macs <= limit])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", nargs="*", default=list(CLASSES), choices=CLASSES)
    parser.add_argument("--only", nargs="*", default=list(CHOOSERS), choices=CHOOSERS)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = RESULTS / "search_alone.jsonl"
    done = {(r["table"], r["share"], r["search"], r["limit"]): r["accuracy"] for r in (read_lines(path) if path.exists() else ())}
    lines = ["# A search for the most accurate network alone", ""]
    lines += ["Made by `python benchmarks/search_alone.py`, which says what is compared. Accuracy in % after all epochs of the table, of"]
    lines += [
        f"what is handed over, mean of {SEEDS} seeds, after so many trainings' time; ± is the largest standard error of a row's means."
    ]
    for name in options.name:
        for share in SHARES:
            table = below(load_table(name), share)
            unit = float(np.median([table.seconds_per_image(i) for i in range(len(table.rows))])) * table.images * table.rungs[-1]
            lines += [
                "",
                f"## {name}, {len(table.rows)} networks up to {table.macs.max() / 1e6:.2f} M MACs, the best {table.truth.max():.1%}",
            ]
            lines.append("")
            lines += [f"| search | {' | '.join(f'{limit:g}' for limit in LIMITS)} | ± |", "|---|" + "--:|" * (len(LIMITS) + 1)]
            for search in options.only:
                cells, errors = [], []
                for limit in LIMITS:
                    key = (name, share, search, limit)
                    if key not in done:
                        handed = [CHOOSERS[search](table, seed, limit * unit) for seed in range(SEEDS)]
                        done[key] = [None if row is None else round(float(table.truth[row]), 5) for row in handed]
                        append_line(path, dict(zip(("table", "share", "search", "limit", "accuracy"), (*key, done[key]), strict=True)))
                    known = [value for value in done[key] if value is not None]
                    cells.append(f"{100 * mean(known):.1f}" if len(known) == SEEDS else "-")
                    errors.append(100 * stdev(known) / len(known) ** 0.5 if len(known) == SEEDS else 0.0)
                lines.append(f"| {search} | {' | '.join(cells)} | {max(errors):.1f} |")
                print(name, share, lines[-1], flush=True)
    if set(options.name) == set(CLASSES) and set(options.only) == set(CHOOSERS):
        write_atomic(RESULTS / "search_alone.md", "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
