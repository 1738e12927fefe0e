"""Does augmentation keep labels? What a small network answers of four data sets, and what its answers are worth.

    python benchmarks/label_keeping.py --images FOLDER                       the questions (minutes on one core), into label_keeping.md
    python benchmarks/label_keeping.py --list                                the trainings, numbered
    python benchmarks/label_keeping.py --job I --rows FILE --images FOLDER   one training

FOLDER holds gtsrb48, meter, tin20 and person64. Tracks and meters are kept together.

What it measures. The questions of ``tinynas.train.keeping`` for both kinds of augmentation and eight seeds: what the network knows of
validation images as they are and changed, the verdict, and the seconds of one core. Then what the verdict on mirroring is worth:
mcunet-tiny2 trained in full with mirroring (``flip`` 0.5), without (0), and as found out (``auto``), the accuracy on the test images.
Trainings are jobs that know nothing of each other.

What it does not show. Sets of which a few rare classes alone change under mirroring; there the question is whether enough of their
images are among the 2,000 that it looks at.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

from cosine import COSINE

from tinynas.arch import load_arch
from tinynas.config import build
from tinynas.data import DataOptions, DataSet, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.recipe import Augment, LightAugment, Recipe
from tinynas.train import Trainer
from tinynas.train.keeping import ask, settled

RESULTS = Path(__file__).parent.parent / "results" / "benchmarks"
ROWS = RESULTS / "label_keeping.jsonl"
#: Data set -> its options.
SETS: dict[str, list[str]] = {"gtsrb48": [r"groups=([^/]+/\d+)_"], "meter": ["groups=prefix:__"], "tin20": [], "person64": []}
KINDS = ("light", "wake-vision")
ASK_SEEDS, SEEDS = tuple(range(8)), (0, 1)
FLIPS = {"mirrored": 0.5, "not mirrored": 0.0, "found out": "auto"}
NET, EPOCHS = "mcunet-tiny2", 30


def opened(name: str, folder: str) -> DataSet:
    """The data set ``name`` in ``folder``."""
    return open_data(str(Path(folder) / name), options=build({}, DataOptions, source="data options", overrides=SETS[name]))


def questions(name: str, kind: Any, seed: int, folder: str) -> list[dict[str, Any]]:
    """Rows of what is answered of one data set."""
    data, started = opened(name, folder), time.process_time()
    answers, _ = ask(data, Augment(kind=kind), seed=seed)
    seconds = round(time.process_time() - started, 1)
    return [{"asked": name, "kind": kind, "seed": seed, "seconds": seconds, **answer.to_json()} for answer in answers.known()]


def jobs() -> list[tuple[str, str, int]]:
    """(data set, which flip, seed) of each training."""
    return [(name, which, seed) for seed in SEEDS for name in SETS for which in FLIPS]


def train(job: tuple[str, str, int], folder: str, epochs: int) -> dict[str, Any]:
    """Train one job; its row."""
    name, which, seed = job
    started = time.monotonic()
    data = opened(name, folder)
    augment = Augment(light=LightAugment.model_validate({"flip": FLIPS[which]}))
    answers, _ = ask(data, augment, seed=seed)
    recipe = Recipe.full(epochs=epochs, **COSINE, augment=settled(augment, answers.known()))
    graph = lower(load_arch(NET).with_classes(len(data.labels)))
    splits = {split: data.split(split, *graph.input.shape) for split in ("train", "val", "test")}
    trainer = Trainer(graph, splits["train"], splits["val"], recipe, seed=seed)
    trainer.run(on_epoch=lambda m: print(f"{name} {which} {m.epoch}/{epochs} val {m.val_accuracy:.4f}", flush=True))
    row = {"data": name, "which": which, "seed": seed, "epochs": epochs, "flip": recipe.augment.light.strengths.flip}
    figures = {"val_accuracy": trainer.history[-1].val_accuracy, "test_accuracy": trainer.evaluate(splits["test"]).accuracy}
    return {**row, **figures, "seconds": round(time.monotonic() - started, 1)}


def table(rows: list[dict[str, Any]]) -> str:
    """results/benchmarks/label_keeping.md."""
    lines = [
        "# Does augmentation keep labels?",
        "",
        "Made by `python benchmarks/label_keeping.py`. A small network (0.17 M MACs) trained without changes is asked of validation",
        "images as they are and changed; where it loses much, a second one is trained with the change. Means of eight seeds of `light`,",
        "one of `wake-vision`; errors are of the paired difference, over tracks or meters where these are noisier than images. *z*:",
        "difference over error, the largest of the seeds where it stays, the smallest where it goes.",
        "",
        "| data | kind | change | knows, % | changed, % | z | trained with it, % | verdict, seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    asked = [row for row in rows if "asked" in row]
    for key in dict.fromkeys((row["asked"], row["kind"], row["question"]) for row in asked):
        found = [row for row in asked if (row["asked"], row["kind"], row["question"]) == key]
        sure = [(row["plain"] - row["changed"]) / row["error"] for row in found if row["error"]]
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in Counter(row["verdict"] for row in found).items())
        with_it = [row["trained"] for row in found if row["trained"] is not None]
        shown = (min if "off" in verdicts else max)(sure, default=0.0)
        plain, changed = (100 * mean(row[name] for row in found) for name in ("plain", "changed"))
        lines.append(
            f"| {key[0]} | {key[1]} | {key[2]} | {plain:.1f} | {changed:.1f} "
            f"| {shown:.1f} | {f'{100 * mean(with_it):.1f}' if with_it else '-'} | {verdicts} |"
        )
    seconds = [row["seconds"] for row in asked if row["kind"] == "light"]
    if seconds:
        lines += [
            "",
            f"Seconds of one core for all questions about `light`, reading images included: {min(seconds)} to {max(seconds)}.",
            "",
        ]
    trained = [row for row in rows if "which" in row]
    if trained:
        lines += [f"## What it is worth: {NET}, {trained[0]['epochs']} epochs, test images", ""]
        lines += ["| data | flip 0.5, % | flip 0, % | as found out, % (flip) |", "|---|---|---|---|"]
        for name in SETS:
            cells = []
            for which in FLIPS:
                found = [row for row in trained if (row["data"], row["which"]) == (name, which)]
                text = ", ".join(f"{100 * row['test_accuracy']:.1f}" for row in found) or "-"
                flips = ", ".join(f"{row['flip']:g}" for row in found)
                cells.append(f"{text} ({flips})" if which == "found out" and found else text)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """The questions and the table; or the list of trainings; or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--job", type=int)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    if options.list:
        for number, job in enumerate(jobs()):
            print(number, *job)
        return
    done = list(read_lines(options.rows))
    if options.job is not None:
        job = jobs()[options.job]
        if not any((row.get("data"), row.get("which"), row["seed"]) == job for row in done):
            append_line(options.rows, train(job, options.images, options.epochs))
        return
    for name in SETS if options.images else ():
        for kind in KINDS:
            for seed in ASK_SEEDS if kind == "light" else ASK_SEEDS[:1]:
                if not any((row.get("asked"), row.get("kind"), row["seed"]) == (name, kind, seed) for row in done):
                    for row in questions(name, kind, seed, options.images):
                        append_line(options.rows, row)
                        done.append(row)
    write_atomic(RESULTS / "label_keeping.md", table(done))


if __name__ == "__main__":
    main()
