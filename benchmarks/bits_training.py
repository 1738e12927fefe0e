"""Weights of few bits: when they are trained on their grids, which of them should keep 8, and which cheap score ranks the files.

Writes results/benchmarks/bits_training.{jsonl,md}. Each row is one training: rows that are there are not trained again.

    python benchmarks/bits_training.py [--data ../shared/data/images/tin20] [--out results/benchmarks]

mcunet-tiny2 at 32 px; accuracy of the integer network (the forward that equals tflite-micro) over validation and test images.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from search_tau import kendall

from tinynas import __version__
from tinynas.api import load_space
from tinynas.arch import Arch, load_arch
from tinynas.data import DataSet, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.quantize import FakeQuantNetwork, finish_qat, fold, quantize
from tinynas.quantize.floats import pixels
from tinynas.quantize.qat import QatNetwork
from tinynas.recipe import Recipe
from tinynas.train import Trainer

ROOT = Path(__file__).parent.parent
SIDE, EPOCHS, EPOCH_IMAGES = 32, 12, 4000
SEEDS = (0, 1)
CALIBRATION = 256
#: Of the ranking: networks, epochs of the cheap and of the final training.
RANKED, CHEAP, FINAL = 16, 2, 10
RANKED_IMAGES = 2000


@dataclass(frozen=True)
class Bits:
    """Bits of stages (expand and project), stem, depthwise convolutions and classifier."""

    stages: int = 8
    stem: int = 8
    depthwise: int = 8
    classifier: int = 8

    def of(self, arch: Arch) -> Arch:
        """``arch`` with these bits."""
        document = arch.model_dump()
        document["stem"]["weight_bits"] = self.stem
        document["classifier_bits"] = self.classifier
        for block in document["blocks"]:
            block |= {"weight_bits": self.stages, "depthwise_bits": self.depthwise}
        return Arch.model_validate(document)

    def __str__(self) -> str:
        return f"{self.stages}/{self.stem}/{self.depthwise}/{self.classifier}"


#: (what it is called, bits in training, bits of the file, share of epochs in float, last epochs with activations in the loop)
WHEN: tuple[tuple[str, int, int, float, int], ...] = (
    ("8 bits", 8, 8, 0.0, 0),
    ("4 bits, rounded after training", 8, 4, 0.0, 0),
    ("2 bits, rounded after training", 8, 2, 0.0, 0),
    ("4 bits, on the grid from the first epoch", 4, 4, 0.0, 0),
    ("4 bits, on the grid from half the epochs on", 4, 4, 0.5, 0),
    ("4 bits, on the grid in the last quarter", 4, 4, 0.75, 0),
    ("4 bits, from the first epoch; activations in the loop in the last three", 4, 4, 0.0, 3),
    ("2 bits, on the grid from the first epoch", 2, 2, 0.0, 0),
    ("2 bits, on the grid from half the epochs on", 2, 2, 0.5, 0),
)
#: Bits on the grid from the first epoch that are trained at a constant rate too, the default since 0.16; the names of the first table.
RATES = (("8 bits", 8), ("4 bits, on the grid from the first epoch", 4), ("2 bits, on the grid from the first epoch", 2))
#: Trainings of the first table that the second shows again.
SHOWN = (("none", "8 bits"), ("stages", "4 bits, on the grid from the first epoch"))
WHICH: tuple[tuple[str, Bits], ...] = (
    ("stages and stem", Bits(stages=4, stem=4)),
    ("stages and depthwise", Bits(stages=4, depthwise=4)),
    ("stages and classifier", Bits(stages=4, classifier=4)),
    ("all at 4", Bits(4, 4, 4, 4)),
)


@cache
def images(place: str) -> DataSet:
    """The data, with the project's own split."""
    return open_data(place)


def integer_accuracy(trainer: Trainer, data: DataSet, arch: Arch) -> float:
    """Share of validation and test images that the integer network of ``arch`` (bits of the file) names right."""
    shape = trainer.graph.input.shape
    trained = trainer.trained
    if isinstance(trained, QatNetwork):
        qgraph = finish_qat(trained)
    else:
        floats = fold(trained)
        if trainer.graph.arch != arch:  # rounded after training
            floats = type(floats)(lower(arch), floats.weights, floats.biases, floats.norms)
        qgraph = quantize(floats, data.split("train", *shape).subset(CALIBRATION, 0).inputs)
    network = FakeQuantNetwork(qgraph)
    right = total = 0
    for name in ("val", "test"):
        split = data.split(name, *shape)  # type: ignore[arg-type]
        for start in range(0, len(split.labels), 256):
            found = network(pixels(split.inputs[start : start + 256], qgraph.graph.input)).argmax(1).numpy()
            right += int((found == split.labels[start : start + 256]).sum())
        total += len(split.labels)
    return right / total


def train(arch: Arch, data: DataSet, recipe: Recipe, seed: int) -> Trainer:
    """A training from beginning to end."""
    shape = lower(arch).input.shape
    trainer = Trainer(lower(arch), data.split("train", *shape), data.split("val", *shape), recipe, seed=seed)
    trainer.run()
    return trainer


def subject(data: DataSet) -> Arch:
    """mcunet-tiny2 at this benchmark's resolution."""
    return Arch.model_validate({**load_arch("mcunet-tiny2").model_dump(), "height": SIDE, "width": SIDE, "classes": len(data.labels)})


def one(
    place: str, bits: Bits, share: float, qat: int, seed: int, files: Sequence[Bits], schedule: Literal["cosine", "constant"] = "cosine"
) -> list[tuple[Bits, float, float]]:
    """(bits of the file, accuracy, seconds) of a training with ``bits``, once for each of ``files``."""
    data = images(place)
    started = time.process_time()
    recipe = Recipe.full(
        epochs=EPOCHS,
        epoch_images=EPOCH_IMAGES,
        warmup_epochs=1.0,
        schedule=schedule,
        ema=1.0,
        few_bits_from=share,
        qat_epochs=qat,
        bn_images=512,
    )
    trainer = train(bits.of(subject(data)), data, recipe, seed)
    seconds = time.process_time() - started
    return [(file, integer_accuracy(trainer, data, file.of(subject(data))), seconds) for file in files]


def ranked(place: str) -> list[Arch]:
    """Networks of the space ``micro`` with bits drawn for each stage from 8, 4 and 2."""
    data = images(place)
    space = load_space("micro").model_copy(update={"resolution": (SIDE,)})
    rng = np.random.default_rng(0)
    found: dict[str, Arch] = {}
    while len(found) < RANKED:
        arch = space.sample(lambda _name, count: int(rng.integers(count)), len(data.labels))
        document = arch.model_dump()
        stages = rng.choice((8, 4, 2), len(arch.stages or ()))
        for block, name in zip(document["blocks"], arch.block_names, strict=True):
            block["weight_bits"] = int(stages[int(name[1 : name.index(".")])])
        mixed = Arch.model_validate(document)
        found[mixed.id] = mixed
    return list(found.values())


def rank(place: str, arch: Arch) -> dict[str, float]:
    """The cheap scores of a network and its final accuracy."""
    data = images(place)
    cheap = Recipe.proxy(epochs=CHEAP, epoch_images=RANKED_IMAGES)
    final = Recipe.full(epochs=FINAL, epoch_images=RANKED_IMAGES, warmup_epochs=1.0, schedule="cosine", ema=1.0, bn_images=512)
    plain = Bits().of(arch)
    floats, low = train(plain, data, cheap, 0), train(arch, data, cheap, 0)
    return {
        "cheap_float": floats.history[-1].val_accuracy,
        "cheap_rounded": integer_accuracy(floats, data, arch),
        "cheap_low": low.history[-1].val_accuracy,
        "cheap_float_loss": floats.history[-1].val_loss,
        "cheap_low_loss": low.history[-1].val_loss,
        "final_low": integer_accuracy(train(arch, data, final, 0), data, arch),
        "weight_bits": float(sum(op.weight_bits * _weights(op) for op in lower(arch).ops if hasattr(op, "weight_bits"))),
    }


def _weights(op: Any) -> int:
    from tinynas.quantize.grid import weight_shape

    return int(np.prod(weight_shape(op)))


def work(place: str, path: Path) -> None:
    """Train what has no row yet."""
    done = {tuple(row["key"]) for row in read_lines(path)}

    def note(key: Sequence[Any], **row: Any) -> None:
        append_line(path, {"key": list(key), "tinynas": __version__, **row})
        print(key, row, flush=True)

    for seed in SEEDS:
        for (bits, share, qat), group in itertools.groupby(WHEN, lambda w: (w[1], w[3], w[4])):
            names = {name: Bits(stages=file) for name, _, file, _, _ in group}
            missing = {name: file for name, file in names.items() if ("when", name, seed) not in done}
            if missing:
                for (name, _), (_, accuracy, seconds) in zip(
                    missing.items(), one(place, Bits(stages=bits), share, qat, seed, list(missing.values())), strict=True
                ):
                    note(("when", name, seed), accuracy=accuracy, seconds=round(seconds, 1))
        for name, chosen in WHICH:
            if ("which", name, seed) not in done:
                ((_, accuracy, seconds),) = one(place, chosen, 0.0, 0, seed, [chosen])
                note(("which", name, seed), accuracy=accuracy, seconds=round(seconds, 1), bits=str(chosen))
        for name, few in RATES:
            if ("rate", name, seed) not in done:
                ((_, accuracy, seconds),) = one(place, Bits(stages=few), 0.0, 0, seed, [Bits(stages=few)], "constant")
                note(("rate", name, seed), accuracy=accuracy, seconds=round(seconds, 1))
        if seed == SEEDS[0]:
            for arch in ranked(place):
                if ("rank", arch.id, 0) not in done:
                    note(("rank", arch.id, 0), **rank(place, arch))


def page(rows: Sequence[dict[str, Any]], place: str) -> str:
    """The tables."""

    def mean(part: str, name: str) -> str:
        found = [100 * row["accuracy"] for row in rows if row["key"][:2] == [part, name]]
        return f"{statistics.mean(found):.1f} | {', '.join(f'{value:.1f}' for value in found)}" if found else "- | -"

    versions = dict.fromkeys(row["tinynas"] for row in rows)
    lines = [
        "# Training weights of few bits",
        "",
        f"Made by `python benchmarks/bits_training.py`, rows of {', '.join(versions)}, on {Path(place).name}: mcunet-tiny2 at {SIDE} px,",
        f"{EPOCHS} epochs of {EPOCH_IMAGES:,} images, cosine; accuracy of the integer network in percent over validation and test images",
        "(chance is 5; the standard error of one training is about 1). Activations have 8 bits everywhere.",
        "",
        "## When weights go on their grids",
        "",
        "Expand and project convolutions have few bits, all else 8.",
        "",
        "| training | mean | by seed |",
        "|---|---|---|",
        *(f"| {name} | {mean('when', name)} |" for name, *_ in WHEN),
        "",
        "## At a constant rate",
        "",
        "The default since 0.16 ([why](schedules.md)), with the same average over one epoch as the cosine above.",
        "",
        "| training | mean | by seed |",
        "|---|---|---|",
        *(f"| {name} | {mean('rate', name)} |" for name, _ in RATES),
        "",
        "## Which should keep 8 bits",
        "",
        "On the grid from the first epoch.",
        "",
        "| weights of 4 bits | mean | by seed |",
        "|---|---|---|",
        *(f"| {name} | {mean('when', other)} |" for name, other in SHOWN),
        *(f"| {name} | {mean('which', name)} |" for name, _ in WHICH),
    ]
    ranks = [row for row in rows if row["key"][0] == "rank"]
    if len(ranks) > 2:
        final = [row["final_low"] for row in ranks]
        scores = {
            f"validation accuracy in float, {CHEAP} epochs": ("cheap_float", 1),
            "the same, weights rounded afterwards, integer forward": ("cheap_rounded", 1),
            f"validation accuracy on the grids, {CHEAP} epochs (what the search uses)": ("cheap_low", 1),
            "validation loss in float": ("cheap_float_loss", -1),
            "validation loss on the grids": ("cheap_low_loss", -1),
            "bits of all weights, no training": ("weight_bits", 1),
        }
        lines += [
            "",
            "## Which cheap score ranks the files",
            "",
            f"{len(ranks)} networks of the space micro at {SIDE} px, bits drawn for each stage from 8, 4 and 2; the final score is the",
            f"accuracy of the integer network after {FINAL} epochs of {RANKED_IMAGES:,} images:",
            f"{100 * min(final):.1f} to {100 * max(final):.1f} %.",
            "",
            "| cheap score | Kendall's tau with the final accuracy |",
            "|---|---|",
            *(
                f"| {text} | {kendall(np.array([sign * row[name] for row in ranks]), np.array(final)):.2f} |"
                for text, (name, sign) in scores.items()
            ),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data" / "images" / "tin20"))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "bits_training.jsonl"
    work(options.data, path)
    write_atomic(options.out / "bits_training.md", page(list(read_lines(path)), options.data))


if __name__ == "__main__":
    main()
