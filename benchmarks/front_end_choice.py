"""Which features a network should hear: log-mel or MFCC, with and without noise reduction and gain control (PCAN).

    python benchmarks/front_end_choice.py --audio ../shared/data/audio      # 24 trainings; continues where it stopped
    python benchmarks/front_end_choice.py --table

What it measures. The shape of SparkNet with 16 channels (32 features every 20 ms, a series) with each of eight front ends, trained
alike: 30 epochs of 1,280 sounds, the usual augmentation, one seed. Spoken digits with two choices of the speakers that are for
validation, and ESC-10 with 30 % of its recordings for validation (folds 1 to 3; fold 4 is not read). The figure is the mean validation
accuracy of the last eight epochs; no test sound is read.

What it does not show. Noisy or far recordings, which gain control and noise reduction are made for; other networks: a map's convolutions
may like bands better than a series' do; a second seed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from cosine import COSINE

from tinynas.arch import load_arch
from tinynas.data import DataOptions, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.recipe import Recipe
from tinynas.train import Trainer

RESULTS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"
ROWS = RESULTS / "front_end_choice.jsonl"
DIGITS = {"label_pattern": r"(\d)_[a-z]+_\d+", "groups": r"\d_([a-z]+)_"}
#: Name -> (folder, data options).
DATA: dict[str, tuple[str, dict[str, Any]]] = {
    "digits, speakers 0": ("fsdd_train", DIGITS | {"seed": 0}),
    "digits, speakers 1": ("fsdd_train", DIGITS | {"seed": 1}),
    "esc10": ("esc10", {"folds": {"test": ["4"]}, "val_share": 0.3}),
}
LAST = 8
RECIPE = Recipe.full(epochs=30, epoch_images=1280, **COSINE)
FRONT_ENDS = [
    {"kind": kind, "noise_reduction": noise_reduction, "pcan": pcan}
    for kind in ("mfcc", "mel")
    for noise_reduction in (False, True)
    for pcan in (False, True)
]


def train(name: str, changes: dict[str, Any], audio: str) -> dict[str, Any]:
    """The row of one training."""
    folder, options = DATA[name]
    data = open_data(str(Path(audio) / folder), options=DataOptions(**options))
    arch = load_arch("sparknet-c16").with_classes(len(data.labels))
    assert arch.front_end is not None
    front_end = arch.front_end.model_copy(update={**changes, "stride_ms": 20})
    graph = lower(arch.model_copy(update={"height": front_end.frames, "front_end": front_end}))
    trainer = Trainer(graph, data.read_by(graph.input, "train"), data.read_by(graph.input, "val"), RECIPE, seed=0)
    trainer.run()
    accuracies = [metrics.val_accuracy for metrics in trainer.history]
    return {"data": name, **changes, "val_accuracy": round(mean(accuracies[-LAST:]), 4), "best": round(max(accuracies), 4)}


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "# Which features a network should hear",
        "",
        "Made by `python benchmarks/front_end_choice.py`, which says what is not measured. Validation accuracy in %, mean of the last "
        f"{LAST} of {RECIPE.epochs} epochs of {RECIPE.epoch_images:,} sounds.",
        "",
        f"| features | noise reduction | gain control | {' | '.join(DATA)} |",
        f"|---|---|---|{'--:|' * len(DATA)}",
    ]
    for one in FRONT_ENDS:
        found = {row["data"]: row["val_accuracy"] for row in rows if all(row[key] == value for key, value in one.items())}
        shown = " | ".join(f"{100 * found[name]:.1f}" if name in found else "" for name in DATA)
        lines.append(f"| {one['kind']} | {'yes' if one['noise_reduction'] else 'no'} | {'yes' if one['pcan'] else 'no'} | {shown} |")
    words = (
        "MFCC without gain control leads, or is within a point of the lead. So the shipped spaces of sounds offer both kinds of features, "
        "without gain control, and without noise reduction, which changes MFCC by a point either way and carries a state from clip to clip."
    )
    return "\n".join([*lines, "", words, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", default="../shared/data/audio")
    parser.add_argument("--table", action="store_true", help="write the page and end")
    options = parser.parse_args()
    for name in () if options.table else DATA:
        for one in FRONT_ENDS:
            if not any(row["data"] == name and all(row[key] == value for key, value in one.items()) for row in read_lines(ROWS)):
                append_line(ROWS, train(name, one, options.audio))
    write_atomic(RESULTS / "front_end_choice.md", page(list(read_lines(ROWS))))


if __name__ == "__main__":
    main()
