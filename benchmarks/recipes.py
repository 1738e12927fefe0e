"""What decides at this size: one network by many recipes, two seeds each, on four data sets; rows that many processes can train.

    python benchmarks/recipes.py --list                                # the jobs, one a line, and what they take
    python benchmarks/recipes.py --job 7 --rows rows.jsonl             # train one of them; done already, it is not trained again
    python benchmarks/recipes.py --rows rows.jsonl [rows2.jsonl ...]   # results/benchmarks/recipes.md

What it measures. mcunet-tiny2 at the size of the data's images: a base recipe (16 epochs, 12 where there are more images; SCE, an
average of 2 epochs, ``light`` augmentation, without mirroring where mirroring changes the label), and rows that change one thing:
three times the epochs; the average; the loss where a share of the training labels is flipped to another class, drawn uniformly;
``wake-vision`` augmentation; mirroring; branches that fold. Then 40 epochs as shipped, and with ``--best``. Accuracy is of the test
images after the last epoch: nothing is chosen by them, and no epoch by validation. Tracks of signs stay together; of the other sets
the splits are their own, or carved. Images a second are of the machine as it was, often with other jobs beside it.

What it does not show. One network, one learning rate: what a larger one needs may differ. Validation labels are never flipped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from cosine import COSINE

from tinynas.api import route_overrides
from tinynas.arch import load_arch
from tinynas.config import build
from tinynas.data import DataOptions, Split, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.recipe import Recipe
from tinynas.train import Trainer

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "benchmarks"
IMAGES = ROOT.parent / "shared" / "data" / "images"
NETWORK = "mcunet-tiny2"
SEEDS = (0, 1)
FLIPPED = (0.0, 0.1, 0.2, 0.4)
LOSSES: dict[str, dict[str, Any]] = {
    "SCE": {"loss": "sce"},
    "CE": {"loss": "ce"},
    "CE, smoothing 0.1": {"loss": "ce", "label_smoothing": 0.1},
    # What the paper takes for ten classes: nearly the reverse term alone.
    "SCE, 0.1 and 1.0": {"loss": "sce", "sce_alpha": 0.1, "sce_beta": 1.0},
}
#: Images a second of one of many processes on a GPU, as planned with: of the base recipe, of its pipeline on the CPU, of branches.
PACE, PACE_STRONG, BRANCHES = 4000, 400, 2.0


@dataclass(frozen=True)
class Data:
    """A data set: its options, whether mirroring keeps its labels, epochs of the base recipe, about how many training images."""

    options: tuple[str, ...]
    mirrors: bool
    epochs: int
    images: int


DATA = {
    "tin20": Data((), True, 16, 7000),
    "person64": Data((), True, 16, 6000),
    "gtsrb48": Data((r"groups='([^/]+/\d+)_'",), False, 12, 9000),
    "meter": Data((), False, 12, 8500),
}


@dataclass(frozen=True)
class Job:
    """One training."""

    data: str
    row: str
    seed: int
    changes: dict[str, Any]
    flipped: float = 0.0

    @property
    def key(self) -> tuple[Any, ...]:
        """What a row in the file says of which job it is."""
        return self.data, self.row, self.seed, json.dumps(self.changes, sort_keys=True), self.flipped

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        images = self.changes["epochs"] * DATA[self.data].images
        strong = self.changes.get("augment", {}).get("kind") == "wake-vision"
        return images / (PACE_STRONG if strong else PACE) * (BRANCHES if self.changes.get("branches") == "fold" else 1.0)


def base(data: str) -> dict[str, Any]:
    """The recipe that rows change."""
    flip = {} if DATA[data].mirrors else {"flip": 0.0}
    return {"epochs": DATA[data].epochs, "augment": {"kind": "light", "light": {"brightness": 0.08, "contrast": 0.1, **flip}}}


def changes_of(data: str) -> Iterator[tuple[str, dict[str, Any], float]]:
    """The rows of a data set: a name, what it changes of the base recipe, the share of flipped labels."""
    yield "base", {}, 0.0
    yield "three times the epochs", {"epochs": 3 * DATA[data].epochs}, 0.0
    yield "no average", {"ema": 0.0}, 0.0
    yield "average of 5 epochs", {"ema": 5.0}, 0.0
    yield "branches that fold", {"branches": "fold"}, 0.0
    if not DATA[data].mirrors:
        yield "mirrored", {"augment": {"kind": "light", "light": {"brightness": 0.08, "contrast": 0.1}}}, 0.0
    for flipped in FLIPPED:
        for name, loss in LOSSES.items():
            if (name, flipped) != ("SCE", 0.0):
                yield f"{name}; {flipped:.0%} flipped", loss, flipped
    strong = {"kind": "wake-vision", "wake_vision": {} if DATA[data].mirrors else {"flip": 0.0}}
    yield "augmentation wake-vision", {"augment": strong}, 0.0


def jobs(best: dict[str, Any]) -> list[Job]:
    """All trainings; the dear ones first, that none is waited for at the end."""
    short = [
        Job(data, row, seed, {**base(data), **changes}, flipped)
        for data in DATA
        for row, changes, flipped in changes_of(data)
        for seed in SEEDS
    ]
    full = [
        Job(data, row, seed, {**base(data), "epochs": 40, **changes})
        for data in ("tin20", "person64")
        for row, changes in (("40 epochs", {}), ("40 epochs, best", best))
        for seed in SEEDS
    ]
    return sorted([*full, *short], key=lambda job: -job.seconds)


def flip_labels(labels: np.ndarray[Any, np.dtype[np.int64]], share: float, classes: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """``labels`` of which a ``share`` is another class, drawn uniformly of the others."""
    rng = np.random.default_rng((seed, 0xF11))
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    flipped = labels.copy()
    flipped[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return flipped


def train(job: Job, images: Path, *, smoke: bool) -> dict[str, Any]:
    """Train it; the row."""
    options = build(
        {}, DataOptions, source="data options", overrides=route_overrides([f"data.{o}" for o in DATA[job.data].options])["data"]
    )
    data = open_data(str(images / job.data), seed=0, options=options)
    height, width = data.native_size
    arch = load_arch(NETWORK).with_classes(len(data.labels)).model_copy(update={"height": height, "width": width})
    graph = lower(arch)
    train_split, val, test = (data.split(name, *graph.input.shape) for name in ("train", "val", "test"))
    labels = flip_labels(np.asarray(train_split.labels), job.flipped, len(data.labels), job.seed)
    noisy = Split(train_split.inputs, labels, train_split.names, train_split.groups, train_split.kind)
    short = {"epochs": 1, "subset": 256, "warmup_epochs": 0.5, "bn_images": 64} if smoke else {}
    trainer = Trainer(graph, noisy, val, Recipe.full(**{**COSINE, **job.changes, **short}), seed=job.seed)
    started = time.monotonic()
    trainer.run()
    seconds = time.monotonic() - started
    last = trainer.history[-1]
    return {
        "data": job.data,
        "row": job.row,
        "seed": job.seed,
        "changes": job.changes,
        "flipped": job.flipped,
        "size": [height, width],
        "test_accuracy": round(trainer.evaluate(test).accuracy, 5),
        "val_accuracy": round(last.val_accuracy, 5),
        "train_accuracy": round(last.train_accuracy, 5),
        "train_images": len(trainer.train.labels),
        "test_images": len(test.labels),
        "seconds": round(seconds, 1),
        "images_per_second": round(sum(m.images for m in trainer.history) / seconds),
        "device": str(trainer.device),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The page."""
    lines = [
        "# What decides at this size",
        "",
        f"Made by `python benchmarks/recipes.py`, which says what is not measured. {NETWORK}, accuracy on the test images after the last",
        "epoch, mean of the seeds; differences to the base row, with the standard error that the number of test images leaves.",
        "",
    ]
    by: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by[row["data"]][row["row"]].append(row)
    for data in [name for name in DATA if name in by]:
        found = by[data]
        first = next(iter(found.values()))[0]
        size = "x".join(map(str, first["size"]))
        images = f"{first['train_images']:,} training and {first['test_images']:,} test images of {size} px"
        lines += [f"## {data}", "", f"{images}, base of {DATA[data].epochs} epochs.", ""]
        lines += [
            "| row | seeds | test | each | against its base, points | validation | training | images/s |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        order = [*(row for row, *_ in changes_of(data)), "40 epochs", "40 epochs, best"]
        for name in sorted(found, key=order.index):
            against = "40 epochs" if name.startswith("40 epochs") else "base"
            lines.append(_line(name, found[name], found.get(against, []) if name != against else []))
        lines += ["", *_noise(found), ""]
    return "\n".join(lines)


def _line(name: str, rows: list[dict[str, Any]], base_rows: list[dict[str, Any]]) -> str:
    rows = sorted(rows, key=lambda row: row["seed"])
    accuracy = mean(row["test_accuracy"] for row in rows)
    gain = ""
    if base_rows:
        other = mean(row["test_accuracy"] for row in base_rows)
        error = sum(p * (1 - p) / rows[0]["test_images"] for p in (accuracy, other)) ** 0.5
        gain = f"{100 * (accuracy - other):+.1f} ± {100 * error:.1f}"
    said = {json.dumps(row["changes"], sort_keys=True) for row in rows}
    words = f"{name} ({_said(rows[0]['changes'])})" if name.endswith("best") and len(said) == 1 else name
    each = ", ".join(f"{100 * row['test_accuracy']:.1f}" for row in rows)
    means = " | ".join(f"{100 * mean(row[key] for row in rows):.1f} %" for key in ("val_accuracy", "train_accuracy"))
    pace = mean(row["images_per_second"] for row in rows)
    return f"| {words} | {len(rows)} | {100 * accuracy:.1f} % | {each} | {gain} | {means} | {pace:,.0f} |"


def _said(changes: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in changes.items() if key not in ("epochs", "augment"))


def _noise(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Losses beside shares of flipped labels."""
    lines = [
        "| loss | " + " | ".join(f"{share:.0%} flipped" for share in FLIPPED) + " |",
        "|---|" + "--:|" * len(FLIPPED),
    ]
    for loss in LOSSES:
        cells = []
        for share in FLIPPED:
            rows = found.get("base" if (loss, share) == ("SCE", 0.0) else f"{loss}; {share:.0%} flipped", [])
            cells.append(f"{100 * mean(row['test_accuracy'] for row in rows):.1f} %" if rows else "")
        if any(cells):
            lines.append(f"| {loss} | " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else ["Trainings under flipped labels: none yet."]


def main() -> None:
    """List, train, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--job", type=int)
    parser.add_argument("--rows", nargs="*", type=Path, default=[RESULTS / "recipes.jsonl"], help="the first is written to")
    parser.add_argument("--images", type=Path, default=IMAGES, help="the folder of the data sets")
    parser.add_argument("--best", type=json.loads, default={"branches": "fold"}, help="recipe of the row '40 epochs, best', as JSON")
    parser.add_argument("--smoke", action="store_true", help="one epoch of 256 images: does it run?")
    options = parser.parse_args()
    todo = jobs(options.best)
    if options.list:
        for index, job in enumerate(todo):
            print(f"{index} {job.data} {job.row!r} seed {job.seed}: about {job.seconds:.0f} s")
        print(f"{len(todo)} jobs, {sum(job.seconds for job in todo) / 60:.0f} minutes of one process at {PACE:,} images/s")
        return
    rows = {Job(r["data"], r["row"], r["seed"], r["changes"], r["flipped"]).key: r for path in options.rows for r in read_lines(path)}
    if options.job is None:
        write_atomic(RESULTS / "recipes.md", table(list(rows.values())))
        return
    job = todo[options.job]
    if job.key not in rows:
        append_line(options.rows[0], train(job, options.images, smoke=options.smoke))


if __name__ == "__main__":
    main()
