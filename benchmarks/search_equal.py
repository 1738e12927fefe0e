"""What short trainings say of networks that cost the same: a ladder of trainings, and what is left of it at its end.

    python benchmarks/search_equal.py --images ../shared/data/images --data gtsrb48 --seeds 2
    python benchmarks/search_equal.py --images ../shared/data/images --data gtsrb48 --recipe full
    python benchmarks/search_equal.py --table                                        # the page alone

What it measures. Networks within mcunet-tiny2's own MACs, SRAM and flash: mcunet-tiny2, what forty minutes of search found there
(schedules_found_<data>.yaml), and one drawn of each number of blocks from 5 to 10: of the networks of the shipped space ``tiny`` that fit
and have more than four fifths of its MACs, three are drawn, and the first at 48 px is taken, or else the first. Recipe ``search``: that of
a search, epochs of 24,000 images as one of forty minutes has them, validation accuracy after 1, 2, 4, 8 and 16 epochs. Recipe ``full``:
that of promote, 40 epochs, about as many images; the last epoch's accuracy in float, validation and test.
Mirrored are photographs, not signs.
The script continues where it stopped.

What it does not show. Networks of different cost, which short trainings tell apart. Six drawn networks are few; what a seed is worth stands
beside them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import kendalltau
from search_people import DATA, budget_of

from tinynas.arch import Arch, load_arch
from tinynas.budget import load_budget
from tinynas.config import load
from tinynas.cost import estimate
from tinynas.data import DataOptions, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.recipe import Augment, LightAugment, Recipe
from tinynas.search.feasible import Feasible, as_genotype
from tinynas.search.pool import draw_pool
from tinynas.search.training import Trainings
from tinynas.space import Space

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"
ROWS = RESULTS / "search_equal.jsonl"
PEOPLE = "mcunet-tiny2"
#: Epochs at which the ladder is read.
RUNGS = (1, 2, 4, 8, 16)
EPOCH_IMAGES = 24_000
FULL_EPOCHS = 40
#: Whether images are mirrored: a search finds this out of the data.
FLIP = {"tin20": 0.5, "gtsrb48": 0.0}
#: The costs are those of mcunet-tiny2 with as many classes, so that both data sets have the same networks.
CLASSES = 43
LEAST_MACS = 1_350_000
DRAWN = 3


def drawn() -> dict[str, Arch]:
    """By name: a network of each number of blocks."""
    costs = estimate(lower(load_arch(PEOPLE).with_classes(CLASSES)), "tflm").values()
    with TemporaryDirectory() as folder:
        budget = Path(folder) / "budget.yaml"
        write_atomic(budget, budget_of(PEOPLE, costs))
        feasible = Feasible(load(ROOT / "search_spaces" / "tiny.yaml", Space), CLASSES, load_budget(budget))
    pool = draw_pool(feasible, 4_000, np.random.default_rng(5))
    nets = [feasible.space.decode(as_genotype(genotype), CLASSES) for genotype in pool.genotypes]
    blocks = np.array([len(net.blocks) for net in nets])
    enough = pool.costs["macs"] > LEAST_MACS
    rng, found = np.random.default_rng(6), {}
    for count in sorted({int(count) for count in blocks[enough]}):
        rows = list(np.flatnonzero(enough & (blocks == count)))
        rng.shuffle(rows)
        several = [nets[row] for row in rows[:DRAWN]]
        found[f"drawn, {count} blocks"] = next((net for net in several if net.height == 48), several[0])
    return found


def recipe(name: str, data: str) -> Recipe:
    """What networks are trained by."""
    light = LightAugment(flip=FLIP[data], rotate=10.0, zoom=0.15, shift=0.08, brightness=0.08, contrast=0.1)
    augment = Augment(kind="light", light=light)
    if name == "full":
        return Recipe.full(epochs=FULL_EPOCHS, augment=augment)
    return Recipe.proxy(epochs=2 * RUNGS[-1], epoch_images=EPOCH_IMAGES, augment=augment)


def train(name: str, arch: Arch, seed: int, by: str, options: argparse.Namespace) -> dict[str, Any]:
    """One training, as a row."""
    data = open_data(str(Path(options.images) / options.data), options=DataOptions(**DATA[options.data]))
    arch = arch.with_classes(len(data.labels))
    with TemporaryDirectory() as state:
        trainer = Trainings(data, recipe(by, options.data), seed, Path(state)).trainer(arch)
    trainer.run(FULL_EPOCHS if by == "full" else RUNGS[-1])
    accuracies = [metrics.val_accuracy for metrics in trainer.history]
    costs = estimate(lower(arch), "tflm").values()
    row = {"data": options.data, "network": name, "recipe": by, "seed": seed, "macs": int(costs["macs"]), "blocks": len(arch.blocks)}
    if by == "full":
        test = trainer.evaluate(data.read_by(arch.input, "test")).accuracy
        return row | {"val_accuracy": accuracies[-1], "test_accuracy": test}
    return row | {"accuracy": {str(epoch): round(accuracies[epoch - 1], 5) for epoch in RUNGS}}


def page(rows: Sequence[dict[str, Any]]) -> str:
    """Accuracies at the rungs, what seeds and what networks move, as Markdown."""
    lines = [
        "# What short trainings say of networks that cost the same",
        "",
        "Made by `python benchmarks/search_equal.py`, which says what is measured. All networks are within mcunet-tiny2's MACs, SRAM and "
        "flash; validation accuracy after so many epochs of 24,000 images, by the recipe of a search; and the last epoch of promote's 40 "
        "(float; seed 0 unless there are more).",
    ]
    for data in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == data]
        ladders = [row for row in mine if row["recipe"] == "search"]
        names = list(dict.fromkeys(row["network"] for row in mine))
        lines += [
            "",
            f"## {data}",
            "",
            "| network | million MACs | seed | " + " | ".join(map(str, RUNGS)) + " | promoted: validation, test |",
        ]
        lines.append("|---|--:|--:|" + "--:|" * len(RUNGS) + "---|")
        for name in names:
            full = [row for row in mine if row["network"] == name and row["recipe"] == "full"]
            said = "; ".join(f"{row['val_accuracy']:.1%}, {row['test_accuracy']:.1%}" for row in full)
            for row in sorted((row for row in ladders if row["network"] == name), key=lambda row: row["seed"]):
                cells = " | ".join(f"{row['accuracy'][str(epoch)]:.1%}" for epoch in RUNGS)
                lines.append(f"| {name} | {row['macs'] / 1e6:.2f} | {row['seed']} | {cells} | {said} |")
                said = ""
        lines += ["", *conclusions(ladders)]
    return "\n".join(lines) + "\n"


def conclusions(ladders: Sequence[dict[str, Any]]) -> list[str]:
    """What moves accuracies at each rung, and how rungs agree with the last."""
    lines = ["| after epochs | deviation between networks | between seeds of a network | Kendall's tau with the last epoch, other seed |"]
    lines.append("|--:|--:|--:|--:|")
    by = {(row["network"], row["seed"]): row["accuracy"] for row in ladders}
    names = list(dict.fromkeys(name for name, _ in by))
    several = {name: [seed for other, seed in by if other == name] for name in names}
    for epoch in RUNGS:
        means = [mean(by[name, seed][str(epoch)] for seed in several[name]) for name in names]
        pairs = [(by[name, a][str(epoch)], by[name, b][str(epoch)]) for name in names for a, b in combinations(several[name], 2)]
        seeds = (mean((a - b) ** 2 for a, b in pairs) / 2) ** 0.5 if pairs else float("nan")
        # Of another seed: a lucky first epoch and a lucky last one of the same training are no agreement.
        crossed = [
            (by[name, a][str(epoch)], by[name, b][str(RUNGS[-1])]) for name in names for a in several[name] for b in several[name] if a != b
        ]
        tau = float(kendalltau(*zip(*crossed, strict=True)).statistic) if len(crossed) > 2 else float("nan")
        lines.append(f"| {epoch} | {100 * stdev(means):.1f} | {100 * seeds:.1f} | {tau:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="../shared/data/images")
    parser.add_argument("--data", choices=DATA)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--recipe", choices=("search", "full"), default="search")
    parser.add_argument("--table", action="store_true", help="write the page and end")
    options = parser.parse_args()
    if not options.table:
        nets = {PEOPLE: load_arch(PEOPLE), "found": load_arch(str(RESULTS / f"schedules_found_{options.data}.yaml")), **drawn()}
        for seed in range(options.seeds):
            for name, arch in nets.items():
                done = {(row["data"], row["network"], row["recipe"], row["seed"]) for row in read_lines(ROWS)}
                if (options.data, name, options.recipe, seed) not in done:
                    append_line(ROWS, train(name, arch, seed, options.recipe, options))
    write_atomic(RESULTS / "search_equal.md", page(list(read_lines(ROWS))))


if __name__ == "__main__":
    main()
