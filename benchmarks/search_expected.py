"""Does what a search expects of networks come true? Replays of searches, against what the tables say.

    python benchmarks/search_expected.py [--name tin20 person64 gtsrb48 inria] [--seeds 12]

What it measures. Searches as in search_replay.py, stopped after the training of 1, 2, 4 and 8 networks in full. Of every network of the
front that is then handed over: the accuracy that is expected of it, if it were trained as far as the farthest, less what the table says
that it shows there. Mean, mean of the absolute values, and both for the most accurate network of each front, which is the one that the
page begins with; in points, and in the same replays for what networks promise (which orders them, and was told until 0.14).

What it does not show. Full training: "the farthest" (a median in the table) is 1 to 16 of tin20's 27 epochs, 1 to 9 of the others' 9. What
a table says is one validation, with its own noise (about 1 point).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from search_replay import CLASSES, JUDGES, RESULTS, Ours, Replay, Table, load_table, search_of_ours

from tinynas import pareto
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.search.settings import SearchSettings

ROWS = RESULTS / "search_expected.jsonl"
TRAININGS = (1, 2, 4, 8)
#: Not the seeds that anything was chosen on.
FIRST_SEED = 300


def errors(table: Table, ours: Ours) -> dict[str, float]:
    """Figures less what the table says, in points, at this moment of a search."""
    nets = [net for net in ours.nets.values() if net.trained]
    farthest = max(net.results[-1].epochs for net in nets)

    def away(said: Mapping[str, float]) -> dict[str, float]:
        front = pareto.front([(said[net.id], net.cost) for net in nets], (True, False))
        wrong = {nets[k].id: said[nets[k].id] - table.seen(int(nets[k].id), farthest) for k in front}
        best = max(wrong, key=said.__getitem__)
        values = 100 * np.array(list(wrong.values()))
        return {"mean": float(values.mean()), "absolute": float(np.abs(values).mean()), "best": 100 * wrong[best]}

    both = {"expected": ours.expected(), "promised": ours.proposer.surrogate.promised_accuracies(nets, ours.genotypes)}
    found = {f"{kind}_{name}": round(value, 3) for kind, said in both.items() for name, value in away(said).items()}
    return {"epochs": farthest, **found}


def replayed(table: Table, seed: int) -> Iterator[dict[str, float]]:
    """A row each time that a mark is passed."""
    spent, marks = 0.0, list(TRAININGS)
    for step, ours in search_of_ours(Replay(table, seed), SearchSettings()):
        spent += step.images / (table.rungs[-1] * table.images)
        if spent >= marks[0]:
            yield {"trainings": marks.pop(0), **errors(table, ours)}
            if not marks:
                return


def page(rows: list[dict]) -> str:
    """The table of all rows."""
    lines = [
        "# Does what a search expects of networks come true?",
        "",
        f"`python benchmarks/search_expected.py`; its text says what the figures do not show. {len({row['seed'] for row in rows})} seeds. "
        "Expected less shown in the table, in points of accuracy; in brackets the same of what networks promise, which orders them and was "
        "told as expected until 0.14.",
        "",
        "| table | trainings | farthest, epochs | of the front, mean | mean of the absolute values | the most accurate |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(row["table"] for row in rows):
        for mark in TRAININGS:
            found = [row for row in rows if (row["table"], row["trainings"]) == (name, mark)]
            if not found:
                continue

            def cell(what: str, sign: str, found: list[dict] = found) -> str:
                now, before = (np.array([row[f"{kind}_{what}"] for row in found]) for kind in ("expected", "promised"))
                return f"{now.mean():{sign}.1f} ± {now.std() / len(now) ** 0.5:.1f} ({before.mean():{sign}.1f})"

            epochs = f"{np.median([row['epochs'] for row in found]):g}"
            lines.append(f"| {name} | {mark} | {epochs} | {cell('mean', '+')} | {cell('absolute', '')} | {cell('best', '+')} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", nargs="*", default=[*CLASSES, *JUDGES], choices=[*CLASSES, *JUDGES])
    parser.add_argument("--seeds", type=int, default=12)
    options = parser.parse_args()
    known = list(read_lines(ROWS)) if ROWS.exists() else []
    for name in options.name:
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            if any((row["table"], row["seed"]) == (name, seed) for row in known):
                continue
            for found in list(replayed(load_table(name), seed)):
                row = {"table": name, "seed": seed, **found}
                append_line(ROWS, row)
                known.append(row)
    text = page(known)
    print(text)
    write_atomic(ROWS.with_suffix(".md"), text)


if __name__ == "__main__":
    main()
