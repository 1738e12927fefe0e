"""The first recipe study, one seed on CPUs: which settings train a microcontroller network best on few, weakly labelled images.

    python benchmarks/recipes_first.py DATA [--only NAME ...] [--seeds 0 1] [--threads 1]
    python benchmarks/recipes_first.py --table

DATA is an image folder such as person64 or tin20 (64x64 images). Each row of STUDY is one network trained by one recipe;
a row that results/benchmarks/recipes_first.jsonl holds already is not trained again, so the study can be stopped at any time.
Every choice is made on validation images, carved from the training images. The test split is read for the
rows marked ``final`` only: the recipe that was chosen.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from cosine import COSINE

from tinynas.arch import Arch, load_arch
from tinynas.config import load
from tinynas.cost import estimate
from tinynas.data import open_data
from tinynas.graph import lower
from tinynas.recipe import Recipe
from tinynas.space import Space
from tinynas.train import Trainer

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "benchmarks"
LOG = RESULTS / "recipes_first.jsonl"


@dataclass(frozen=True)
class Row:
    """One network, one recipe."""

    name: str
    question: str
    net: str
    recipe: dict[str, Any] = field(default_factory=dict)
    final: bool = False


def network(name: str, classes: int) -> Arch:
    """A zoo name, or ``RESOLUTION/WIDTH/DEPTHS/KERNEL/EXPAND`` in the shipped mcunet space, such as ``64/0.5/122221/3/4``."""
    if "/" not in name:
        return load_arch(name).with_classes(classes)
    resolution, width, depths, kernel, expand = name.split("/")
    space = load(ROOT / "search_spaces" / "mcunet.yaml", Space)
    wanted = {"resolution": int(resolution), "width_mult": float(width)}
    genotype = []
    for gene in space.genes:
        value: Any = gene.choices[0]
        if gene.name in wanted:
            value = wanted[gene.name]
        elif gene.name.endswith(".depth"):
            value = int(depths[gene.stage])
        elif gene.name.endswith(".kernel") and gene.stage >= 0:
            value = int(kernel)
        elif gene.name.endswith(".expand"):
            value = int(expand) if int(expand) in gene.choices else gene.choices[0]
        genotype.append(gene.choices.index(value))
    return space.decode(space.canonical(genotype), classes)


#: Changed one at a time against the row before it that was better; the questions are the order they were asked in.
#: The augmentation the study began with; the defaults have moved on since.
FIRST = {"kind": "light", "light": {"brightness": 0.15, "contrast": 0.2}}
PROBE: dict[str, Any] = {"epochs": 16, "warmup_epochs": 1, "ema": 1.0, "loss": "ce", "lr": 0.01, "augment": FIRST}
LONG: dict[str, Any] = {"epochs": 60, "warmup_epochs": 3, "ema": 2.0, "loss": "ce", "lr": 0.01, "augment": FIRST}
STRONGER = {"kind": "light", "light": {"zoom": 0.3, "shift": 0.12, "brightness": 0.15, "contrast": 0.2}}
DIMMER = {"kind": "light", "light": {"brightness": 0.08, "contrast": 0.1}}


def probe(name: str, question: str, **changes: Any) -> Row:
    """A short training of the smallest network, one setting changed."""
    return Row(name, question, "mcunet-tiny2", {**PROBE, **changes})


STUDY: tuple[Row, ...] = (
    probe("probe", "the row the others are compared with"),
    probe("sce", "SCE, the Wake Vision entry's weights", loss="sce", sce_alpha=1.0, sce_beta=0.1),
    probe("rate 0.005", "a lower rate", lr=0.005),
    probe("rate 0.02", "a higher rate", lr=0.02),
    probe("norms averaged", "batch norm statistics averaged like weights, not measured", bn_images=0),
    probe("stronger affine", "zoom 30 %, shift 12 %", augment=STRONGER),
    probe("weaker light", "brightness 8 %, contrast 10 %", augment=DIMMER),
    probe("smoothing", "label smoothing 0.1", label_smoothing=0.1),
    probe("sce reversed", "SCE, the paper's weights for CIFAR-10", loss="sce", sce_alpha=0.1, sce_beta=1.0),
    probe("long average", "averaging horizon of 3 epochs", ema=3.0),
    probe("sgd", "SGD", optimizer="sgd", lr=0.1, weight_decay=5e-4),
    probe("batch 128", "batches of 128", batch_size=128),
    probe("batch 32", "batches of 32", batch_size=32),
    probe("constant rate", "proxy training: no decay, norms measured", schedule="constant"),
    probe("constant, norms averaged", "proxy training: no decay, norms averaged", schedule="constant", bn_images=0),
    Row("long", "how far does a middling network come? (norms averaged)", "64/0.5/122221/3/4", {**LONG, "bn_images": 0}, final=True),
    Row("full", "the defaults", "64/0.5/122221/3/4", {}, final=True),
    Row("full, wide", "the defaults, twice the MACs", "64/0.75/122221/3/4", {}, final=True),
    Row("full, fine", "the defaults, more pixels", "96/0.75/122221/3/4", {}, final=True),
    Row("full, mcunet-tiny2", "the defaults, the Wake Vision entry's network", "mcunet-tiny2", {}, final=True),
)


def train(row: Row, data_path: str, seed: int, threads: int) -> dict[str, Any]:
    """Train one row; what is reported, ready for JSON."""
    data = open_data(data_path)
    graph = lower(network(row.net, len(data.labels)))
    shape = graph.input.shape
    recipe = Recipe.full(**{**COSINE, **row.recipe, "threads": threads})
    trainer = Trainer(graph, data.split("train", *shape), data.split("val", *shape), recipe, seed=seed)
    started = time.monotonic()
    trainer.run(on_epoch=lambda m: print(f"  {row.name} {m.epoch}/{recipe.epochs} val {m.val_accuracy:.4f} {m.seconds:.1f} s", flush=True))
    seconds = time.monotonic() - started
    cost = estimate(graph)
    last = trainer.history[-1]
    report: dict[str, Any] = {
        "row": row.name,
        "net": row.net,
        "data": Path(data.name).name,
        "seed": seed,
        "recipe": row.recipe,
        "macs": cost.macs,
        "flash_bytes": cost.flash_bytes,
        "sram_bytes": cost.sram_bytes,
        "epochs": recipe.epochs,
        "val_accuracy": last.val_accuracy,
        "best_val_accuracy": max(m.val_accuracy for m in trainer.history),
        "val_loss": last.val_loss,
        "train_accuracy": last.train_accuracy,
        "seconds": round(seconds, 1),
        "images_per_second": round(sum(m.images for m in trainer.history) / seconds),
        "val_images": len(trainer.val.labels),
        "train_images": len(trainer.train.labels),
    }
    if row.final:
        report["test_accuracy"] = trainer.evaluate(data.split("test", *shape)).accuracy
    return report


def read_log() -> list[dict[str, Any]]:
    """What has been trained so far."""
    return [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []


def table() -> str:
    """results/benchmarks/recipes_first.md from the log."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for entry in read_log():
        groups[entry["data"], entry["row"]].append(entry)
    lines = [
        "| data | row | question | network | MACs | epochs | seeds | val % (last epoch) | val loss | train % | test % | img/s | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    questions = {row.name: row.question for row in STUDY}
    for (data, name), entries in groups.items():
        first = entries[0]
        accuracies = [100 * e["val_accuracy"] for e in entries]
        spread = f" ± {stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
        tests = [f"{100 * e['test_accuracy']:.1f}" for e in entries if "test_accuracy" in e]
        lines.append(
            f"| {data} | {name} | {questions.get(name, '')} | {first['net']} | {first['macs'] / 1e6:.1f} M | {first['epochs']} "
            f"| {len(entries)} "
            f"| {mean(accuracies):.1f}{spread} | {mean(e['val_loss'] for e in entries):.3f} "
            f"| {100 * mean(e['train_accuracy'] for e in entries):.1f} | {' '.join(tests) or '-'} "
            f"| {mean(e['images_per_second'] for e in entries):.0f} | {mean(e['seconds'] for e in entries):.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table or arguments.data is None:
        print(table())
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    for row in STUDY:
        for seed in arguments.seeds:
            done = any((e["row"], e["seed"], e["data"]) == (row.name, seed, Path(arguments.data).name) for e in read_log())
            if done or (arguments.only and row.name not in arguments.only):
                continue
            report = train(row, arguments.data, seed, arguments.threads)
            with LOG.open("a") as file:
                file.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
