"""Which changes of sounds help a small network on speakers it has never heard: are the defaults of ``recipe.augment.sound`` good?

    python benchmarks/sound_augment.py [--data ../shared/data/audio/fsdd_train] [--minutes 25]     # results/benchmarks/sound_augment.md

What it measures. Spoken digits of six speakers (Free Spoken Digit Dataset). One speaker is set aside and never read: the one that
tinynas takes for testing where nothing else is said. Of the five others two are the validation speaker in turn, and the other four train
a network of 1.5 M MACs for 15 epochs by the recipe of ``promote``. Accuracy is of the validation speaker after the last epoch: no epoch
is chosen. Rows go into sound_augment.jsonl as they are made, and those that are there are not trained again.

What it does not show. One or two seeds and two speakers of one set; longer trainings, in which masks may help; real backgrounds:
the noise is white, pink and brown.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from cosine import COSINE

from tinynas.arch import Arch
from tinynas.cost import estimate
from tinynas.data import DataOptions, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.recipe import Recipe
from tinynas.train import Trainer

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "benchmarks"
DATA = ROOT.parent / "shared" / "data" / "audio" / "fsdd_train"
LABELS, SPEAKERS = r"(\d)_[a-z]+_\d+", r"\d_([a-z]+)_"
ASIDE = "george"
VALIDATION = ("jackson", "theo")
EPOCHS = 15
#: What each row changes of the usual settings; None: no augmentation.
ROWS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "default": {},
    "without echo": {"echo": 0.0},
    "without background": {"background": 0.0},
    "without shift": {"shift": 0.0},
    "a mask of each kind": {"time_masks": 1, "band_masks": 1},
    "mixup 0.2": {"mixup": 0.2},
    "mixup 0.2, a mask of each kind": {"mixup": 0.2, "time_masks": 1, "band_masks": 1},
}
#: Rows of a second seed: the default, and what did better with the first.
AGAIN = ("default", "a mask of each kind", "mixup 0.2")
JOBS = [(row, speaker, seed) for seed in (0, 1) for row in ROWS if seed == 0 or row in AGAIN for speaker in VALIDATION]
NETWORK: dict[str, Any] = {
    "height": 49,
    "width": 32,
    "channels": 1,
    "classes": 10,
    "front_end": {"sample_rate": 8000, "bins": 32},
    "stem": {"out": 12, "kernel": [5, 3], "stride": 2},
    "blocks": [
        {"kind": "separable", "out": 16, "kernel": 3},
        {"kind": "mbconv", "out": 24, "kernel": [5, 3], "expand": 3, "stride": 2},
        {"kind": "mbconv", "out": 24, "kernel": [5, 3], "expand": 3, "residual": True},
        {"kind": "mbconv", "out": 32, "kernel": 3, "expand": 3, "stride": 2},
    ],
    "head": {"out": 64, "kernel": 1},
}


def train(place: Path, row: str, speaker: str, seed: int) -> dict[str, Any]:
    """Train it; the row."""
    options = DataOptions(label_pattern=LABELS, fold_pattern=SPEAKERS, groups=SPEAKERS, folds={"test": (ASIDE,), "val": (speaker,)})
    data = open_data(str(place), seed=0, options=options)
    graph = lower(Arch.model_validate(NETWORK))
    train_split, val = (data.read_by(graph.input, name) for name in ("train", "val"))
    changes = ROWS[row]
    augment: dict[str, Any] = {"kind": "none"} if changes is None else {"sound": changes}
    trainer = Trainer(graph, train_split, val, Recipe.full(epochs=EPOCHS, **COSINE, augment=augment), seed=seed)
    started = time.process_time()
    trainer.run()
    last = trainer.history[-1]
    return {
        "row": row,
        "speaker": speaker,
        "seed": seed,
        "changes": changes,
        "val_accuracy": round(last.val_accuracy, 5),
        "train_accuracy": round(last.train_accuracy, 5),
        "train_clips": len(train_split),
        "val_clips": len(val),
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The page."""
    by: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by[row["row"]].append(row)
    first, macs = rows[0], estimate(lower(Arch.model_validate(NETWORK))).macs
    lines = [
        "# Which changes of sounds help",
        "",
        "Made by `python benchmarks/sound_augment.py`, which says what is not measured. Spoken digits, a network of "
        f"{macs / 1e6:.2f} M MACs, {EPOCHS} epochs",
        f"of {first['train_clips']:,} clips of four speakers, accuracy on {first['val_clips']:,} clips of a fifth. The sixth is never",
        "read. The last column is against the default with the same seeds.",
        "",
        "| changes | " + " | ".join(f"{speaker} unheard" for speaker in VALIDATION) + " | mean | seeds | training | points |",
        "|---|" + "--:|" * (len(VALIDATION) + 4),
    ]
    for name in [name for name in ROWS if name in by]:
        found = by[name]
        seeds = sorted({row["seed"] for row in found})
        usual = [row for row in by["default"] if row["seed"] in seeds]
        each = " | ".join(_percent([row for row in found if row["speaker"] == speaker]) for speaker in VALIDATION)
        gain = "" if name == "default" or len(usual) != len(found) else f"{100 * (_mean(found) - _mean(usual)):+.1f}"
        known = mean(row["train_accuracy"] for row in found)
        lines.append(f"| {name} | {each} | {100 * _mean(found):.1f} % | {len(seeds)} | {100 * known:.1f} % | {gain} |")
    return "\n".join([*lines, ""])


def _mean(rows: list[dict[str, Any]]) -> float:
    return mean(row["val_accuracy"] for row in rows)


def _percent(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{100 * row['val_accuracy']:.1f}" for row in sorted(rows, key=lambda row: row["seed"])) + " %"


def main() -> None:
    """Train what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=Path, default=RESULTS / "sound_augment.jsonl")
    parser.add_argument("--minutes", type=float, default=25.0, help="no training is begun after so many")
    options = parser.parse_args()
    begun = time.monotonic()
    known = {(row["row"], row["speaker"], row["seed"], json.dumps(row["changes"])) for row in read_lines(options.rows)}
    for row, speaker, seed in JOBS:
        if (row, speaker, seed, json.dumps(ROWS[row])) in known or time.monotonic() - begun > 60 * options.minutes:
            continue
        made = train(options.data, row, speaker, seed)
        append_line(options.rows, made)
        print(json.dumps(made), flush=True)
    rows = list(read_lines(options.rows))
    if rows:
        write_atomic(options.rows.with_suffix(".md"), table(rows))


if __name__ == "__main__":
    main()
