"""Which network a search should call its best, where its trainings were short: by what is expected, or with something for size?

    python benchmarks/search_handover.py

What it measures. Networks that are larger learn more slowly and end higher: Kendall's tau of accuracy with MACs by epoch, on the three
tables of short trainings. Then searches replayed as in search_replay.py on tables that end early (tin20 after 8 or 4 of 27 epochs, gtsrb48
after 4 or 2 of 9, person64 after 4 of 9): after 2, 4 and 8 trainings of that length, the network of the highest (accuracy expected + K ln
MACs), and its accuracy after all epochs of the table, mean of 24 replays. ``largest``: of those tried the one of most MACs; ``best tried``:
what a choice by the last epoch would give.

What it does not show. Full trainings with a cosine schedule; searches by the clock (search_alone.py replays those: there it costs as much
as it gives); what else a front is used for. Nothing was changed by it: ``-o accuracy`` is the answer where size is no matter.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import kendalltau
from search_replay import RESULTS, Replay, Table, load_table, tinynas_search

from tinynas.files import write_atomic
from tinynas.search.surrogate import Surrogate

SEEDS = 24
MARKS = (2, 4, 8)
FACTORS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
CUTS = (("tin20", 8), ("tin20", 4), ("gtsrb48", 4), ("gtsrb48", 2), ("person64", 4))


class Told:
    """What a search last expected of its networks."""

    def __init__(self) -> None:
        self.expected: dict[str, float] = {}
        self.costs: dict[str, float] = {}


def listening(told: Told) -> Any:
    """``Surrogate.expected_accuracies`` that tells ``told`` what it returns."""
    plain = Surrogate.expected_accuracies

    def said(self: Surrogate, nets: Any, genotypes: Any) -> dict[str, float]:
        told.expected = plain(self, nets, genotypes)
        told.costs = {net.id: net.cost for net in nets}
        return told.expected

    return said


def choices(table: Table, whole: Table, told: Told) -> dict[str, dict[int, list[float]]]:
    """By rule and mark the accuracies after all epochs of ``whole`` of what is chosen in searches that end where ``table`` does."""
    final = [whole.seen(i, whole.rungs[-1]) for i in range(len(whole.rows))]
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(SEEDS):
        images, left = 0, list(MARKS)
        for step in tinynas_search()(Replay(table, seed)):
            images += step.images
            while left and images >= left[0] * table.rungs[-1] * table.images:
                mark = left.pop(0)
                ids = list(told.expected)
                expected, sizes = np.array([told.expected[i] for i in ids]), np.log([told.costs[i] for i in ids])
                ends = [final[int(i)] for i in ids]
                for factor in FACTORS:
                    found[f"{factor:g}"][mark].append(ends[int(np.argmax(expected + factor * sizes))])
                found["largest"][mark].append(ends[int(np.argmax(sizes))])
                found["best tried"][mark].append(max(ends))
            if not left:
                break
    return found


def main() -> None:
    told = Told()
    Surrogate.expected_accuracies = listening(told)  # type: ignore[method-assign]
    lines = ["# What a search should call its best", "", "Made by `python benchmarks/search_handover.py`, which says what is compared.", ""]
    lines += ["Kendall's tau of accuracy with MACs, by epochs trained:", ""]
    tables = {name: load_table(name) for name in dict.fromkeys(name for name, _ in CUTS)}
    for name, table in tables.items():
        every = range(len(table.rows))
        taus = [f"{epoch}: {kendalltau(table.macs, [table.seen(i, epoch) for i in every])[0]:.2f}" for epoch in table.rungs]
        lines.append(f"- {name}: {', '.join(taus)}")
    rules = [*(f"{factor:g}" for factor in FACTORS), "largest", "best tried"]
    lines += ["", "Accuracy in % after all epochs of what is chosen by (expected + K ln MACs), after 2, 4 and 8 trainings:", ""]
    lines += [
        f"| table, ends after | {' | '.join(f'K = {rule}' if rule[0].isdigit() else rule for rule in rules)} |",
        "|---|" + "---|" * len(rules),
    ]
    for name, cut in CUTS:
        whole = tables[name]
        found = choices(replace(whole, rungs=tuple(rung for rung in whole.rungs if rung <= cut)), whole, told)
        cells = [", ".join(f"{100 * mean(found[rule][mark]):.1f}" for mark in MARKS) for rule in rules]
        lines.append(f"| {name}, {cut} of {whole.rungs[-1]} epochs | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    write_atomic(RESULTS / "search_handover.md", "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
