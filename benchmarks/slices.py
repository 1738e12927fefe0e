"""Candidates of a search from slices of one larger network against candidates from nothing: equal training, three data sets.

    python benchmarks/slices.py --list                                # the jobs, one a line
    python benchmarks/slices.py --job 3 --rows rows.jsonl             # one search and its promotions; done already, nothing
    python benchmarks/slices.py --rows rows.jsonl [rows2.jsonl ...]   # results/benchmarks/slices.md

What it measures. ``tinynas search --space tiny`` with ``images`` as its only limit: an image counts as the time it takes in training
by the search's own formula, the donor's included, so that other load on the machine changes nothing. With ``slices`` that share goes
into the donor first. Both searches of a seed draw from the same pool and are measured in the same box. Then three networks of the
front (cheapest, middle, best) are trained from nothing by the full recipe for a few epochs, and their accuracy on the test images, which
nothing else reads, makes the second hypervolume: whether the search handed over better networks, not whether it trained them further.

What it does not show. Real minutes on one machine: the donor trains at the speed that the formula gives it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from cosine import COSINE

from tinynas import pareto
from tinynas.api import prepare_search
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.objectives import objectives
from tinynas.recipe import Recipe
from tinynas.search import SearchSettings
from tinynas.search.fronts import unit_point
from tinynas.train import Trainer

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "benchmarks"
IMAGES = ROOT.parent / "shared" / "data" / "images"
#: What is set for each data set: tracks stay together, and signs are not mirrored.
DATA: dict[str, tuple[str, ...]] = {
    "tin20": (),
    "person64": (),
    "gtsrb48": (r"data.groups='([^/]+/\d+)_'", "recipe.augment.light.flip=0"),
}
SHARES = (0.0, 0.2, 0.4)
SEEDS = (0, 1)
PROMOTED = 3


def jobs() -> list[dict[str, Any]]:
    """All searches."""
    return [{"data": data, "seed": seed, "slices": share} for data in DATA for seed in SEEDS for share in SHARES]


def run(job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One search, and the full trainings of what it hands over; the row."""
    started = time.monotonic()
    settings = SearchSettings(images=options.search_images, slices=job["slices"], epoch_images=options.epoch_images, pool=1000)
    with tempfile.TemporaryDirectory() as folder:
        one = prepare_search(
            "stm32f746",
            space="tiny",
            data=str(options.images / job["data"]),
            out=Path(folder) / "run",
            settings=settings,
            seed=job["seed"],
            workers=1,
            overrides=DATA[job["data"]],
        )
        result = one.go()
        searched = time.monotonic() - started
        plan, front = one.run.read_json("plan"), one.run.read_json("front")
        trials = [trial for trial in one.run.trials() if trial.was_trained]
        places = sorted({round(i * (len(front) - 1) / (PROMOTED - 1)) for i in range(PROMOTED)})
        archs = [(front[place], one.run.arch(front[place]["id"])) for place in places]
    goals = objectives(settings.objectives)
    promoted, points = [], []
    recipe = Recipe.full(epochs=options.epochs, **COSINE, augment=one.settings.recipe.augment)
    for row, arch in archs:
        graph = lower(arch)
        train, val, test = (one.data.split(name, *graph.input.shape) for name in ("train", "val", "test"))
        trainer = Trainer(graph, train, val, recipe, seed=job["seed"])
        trainer.run()
        accuracy = trainer.evaluate(test).accuracy
        promoted.append({"id": row["id"], "macs": row["macs"], "expected": row.get("expected_accuracy"), "test": round(accuracy, 5)})
        points.append(unit_point([accuracy, row["macs"]], goals, plan["reference"]))
    return {
        **job,
        "search_images": options.search_images,
        "epochs": options.epochs,
        "hypervolume": round(result.hypervolume, 5),
        "promoted_hypervolume": round(pareto.hypervolume(points, [0.0, 0.0], [True, True]), 5),
        "networks": len({trial.id for trial in trials}),
        "images": sum(trial.images for trial in {trial.number: trial for trial in trials}.values()),
        "donor_images": round(plan["donor_images"]),
        "best_seen": max(trial.accuracy or 0.0 for trial in trials),
        "promoted": promoted,
        "test_images": len(test.labels),
        "search_seconds": round(searched, 1),
        "seconds": round(time.monotonic() - started, 1),
        "device": str(trainer.device),
        "notes": list(result.notes),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The page."""
    by = {(row["data"], row["seed"], row["slices"]): row for row in rows}
    lines = [
        "# Candidates from slices of one larger network",
        "",
        "Made by `python benchmarks/slices.py`, which says what is not measured. Hypervolume of (accuracy, log MACs) in one box for a",
        f"data set and seed: of what the search saw after {rows[0]['search_images']:,} images, and of the test accuracy of three networks",
        f"of its front, trained from nothing for {rows[0]['epochs']} epochs.",
        "",
        "| data | seed | share of slices | networks | donor counts as | best seen | hypervolume seen | promoted | test accuracy |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for (data, seed, share), row in sorted(by.items()):
        tests = ", ".join(f"{100 * net['test']:.1f} % at {net['macs'] / 1e6:.1f} M" for net in row["promoted"])
        lines.append(
            f"| {data} | {seed} | {share:.0%} | {row['networks']} | {row['donor_images']:,} | {100 * row['best_seen']:.1f} % "
            f"| {row['hypervolume']:.4f} | {row['promoted_hypervolume']:.4f} | {tests} |"
        )
    lines += ["", "| share of slices | data | hypervolume seen, against nothing | promoted, against nothing |", "|--:|---|--:|--:|"]
    for share in SHARES[1:]:
        for data in DATA:
            pairs = [(by[data, s, share], by[data, s, 0.0]) for s in SEEDS if (data, s, share) in by and (data, s, 0.0) in by]
            if pairs:
                gains = [mean(a[key] - b[key] for a, b in pairs) for key in ("hypervolume", "promoted_hypervolume")]
                lines.append(f"| {share:.0%} | {data} | {gains[0]:+.4f} | {gains[1]:+.4f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """List, run, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--job", type=int)
    parser.add_argument("--rows", nargs="*", type=Path, default=[RESULTS / "slices.jsonl"], help="the first is written to")
    parser.add_argument("--images", type=Path, default=IMAGES, help="the folder of the data sets")
    parser.add_argument("--search-images", type=int, default=120_000)
    parser.add_argument("--epoch-images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    todo = jobs()
    if options.list:
        for index, job in enumerate(todo):
            print(index, json.dumps(job))
        print(f"{len(todo)} jobs, each about {options.search_images + PROMOTED * options.epochs * 7000:,} images and their validation")
        return
    rows = [row for path in options.rows for row in read_lines(path)]
    if options.job is None:
        write_atomic(RESULTS / "slices.md", table(rows))
        return
    job = todo[options.job]
    if not any(all(row[key] == value for key, value in job.items()) for row in rows):
        append_line(options.rows[0], run(job, options))


if __name__ == "__main__":
    main()
