"""Which kind of block is worth its bytes in a very small file: inverted residuals, plain convolutions, or both.

    python benchmarks/block_kinds.py --data ../shared/data/images/tin20

What it measures. Random networks that fit the costs of ColabNAS k8c5 (2.09 M MACs, an arena of 31,300 B, a file of
41,772 B) and use at least 1 M MACs and 30,000 B of it, of four families; each is trained for ``--epochs`` with the recipe
of ``tinynas promote`` and its best validation accuracy noted; k8c5 itself beside them. Rows go to
results/benchmarks/block_kinds.jsonl; the script continues where it stopped. The space ``micro`` was made after this.

What it does not show. Few networks of each family (the spread within a family is larger than most differences), one
seed, one data set, hand-made ranges of widths and depths. Residuals around plain convolutions were not tried.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from cosine import COSINE

from tinynas.arch import Arch, Block, ConvLayer, MBConv, Pool, load_arch
from tinynas.cost import estimate
from tinynas.data import open_data
from tinynas.errors import TinynasError
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.recipe import Recipe
from tinynas.train import Trainer

RESULTS = Path(__file__).parent.parent / "results" / "benchmarks"
LIMITS = ("macs", "sram_bytes", "flash_bytes")
#: Networks that leave most of the budget unused say little about what it buys.
LEAST_MACS, LEAST_FILE = 1.0e6, 30_000
CLASSES = 20
R = random.Random


def conv(out: int, kernel: int = 3, stride: int = 1) -> ConvLayer:
    return ConvLayer(out=out, kernel=kernel, stride=stride)


def inverted(r: R, inside: int, out: int, stride: int) -> MBConv:
    kernel, expand = r.choice((3, 5)), r.choice((2, 3, 4))
    return MBConv(out=out, kernel=kernel, stride=stride, expand=expand, residual=stride == 1 and inside == out)


def body(r: R, inside: int, widths: list[int], strides: list[int], depths: list[int], plain: int) -> list[Block]:
    """Stages of inverted residuals, the first ``plain`` stages of plain 3x3 convolutions."""
    blocks: list[Block] = []
    for stage, (out, stride, depth) in enumerate(zip(widths, strides, depths, strict=True)):
        for index in range(depth):
            step = stride if index == 0 else 1
            blocks.append(conv(out, 3, step) if stage < plain else inverted(r, inside, out, step))
            inside = out
    return blocks


def network(side: int, stem: ConvLayer, blocks: list[Block], head: ConvLayer | None = None) -> Arch:
    return Arch(height=side, width=side, classes=CLASSES, stem=stem, blocks=tuple(blocks), head=head)


def free_strides(r: R) -> Arch:
    side, stem = r.choice([40, 48, 56, 60]), r.choice([8, 12])
    widths = [r.choice([12, 16]), r.choice([16, 24]), r.choice([24, 32]), r.choice([28, 32, 40])]
    strides = [r.choice([1, 2]), r.choice([1, 2]), 2, r.choice([1, 2])]
    depths = [r.choice([1, 2]), r.choice([1, 2, 3]), r.choice([1, 2, 3]), r.choice([1, 2])]
    return network(side, conv(stem, 3, 2), body(r, stem, widths, strides, depths, 0))


def plain_first(r: R) -> Arch:
    side, stem = r.choice([40, 48, 56, 60]), r.choice([8, 12, 16])
    widths = [r.choice([12, 16, 20]), r.choice([16, 20, 24]), r.choice([24, 32]), r.choice([28, 32, 40])]
    strides = [r.choice([1, 2]), 2, 2, r.choice([1, 2])]
    depths = [1, r.choice([1, 2]), r.choice([1, 2]), r.choice([1, 2])]
    return network(side, conv(stem, 3, 2), body(r, stem, widths, strides, depths, r.choice([1, 2])))


def plain_and_pools(r: R) -> Arch:
    side, stem = r.choice([40, 44, 48, 50]), r.choice([6, 8])
    blocks: list[Block] = [Pool()]
    widths = [r.choice([12, 16]), r.choice([20, 24]), r.choice([24, 28, 32]), r.choice([28, 32, 36])]
    for out in widths[: r.choice([3, 4])]:
        blocks.append(conv(out))
        if r.random() < 0.3:
            blocks.append(conv(out))
        blocks.append(Pool())
    head = conv(r.choice([32, 40, 48]), 1) if r.random() < 0.5 else None
    return network(side, conv(stem), blocks[:-1], head)


def plain_and_pool_then_inverted(r: R) -> Arch:
    side, stem, first = r.choice([40, 44, 48, 50]), r.choice([6, 8]), r.choice([12, 16])
    start: list[Block] = [Pool(), conv(first, 3, r.choice([1, 2]))]
    widths = [r.choice([16, 20, 24]), r.choice([24, 32]), r.choice([28, 32, 40])]
    strides = [2, 2, r.choice([1, 2])]
    depths = [r.choice([1, 2]) for _ in range(3)]
    return network(side, conv(stem), start + body(r, first, widths, strides, depths, 0))


FAMILIES: dict[str, tuple[Callable[[R], Arch], str]] = {
    "inverted residuals": (free_strides, "stages may keep their resolution"),
    "plain, then inverted": (plain_first, "the first one or two stages of plain 3x3 convolutions"),
    "plain and pooling": (plain_and_pools, "plain 3x3 convolutions with max pooling, as ColabNAS"),
    "stem and pooling, then inverted": (plain_and_pool_then_inverted, "a stem at full resolution, pooled, a plain convolution"),
}


def draw(make: Callable[[R], Arch], count: int) -> list[Arch]:
    """``count`` networks of a family that fit the costs of ColabNAS k8c5."""
    limits = estimate(lower(load_arch("colabnas-k8c5").with_classes(CLASSES)), "tflm").values()
    r, found = random.Random(0), []
    while len(found) < count:
        arch = make(r)
        try:
            costs = estimate(lower(arch), "tflm").values()
        except TinynasError:
            continue  # a map smaller than the pooling window
        figures = {name: costs[name] or 0 for name in LIMITS}
        fits = all(figures[name] <= (limits[name] or 0) for name in LIMITS)
        if fits and figures["macs"] >= LEAST_MACS and figures["flash_bytes"] >= LEAST_FILE:
            found.append(arch)
    return found


def train(job: tuple[str, str, int, str]) -> dict[str, Any]:
    """Train one network; its best validation accuracy."""
    family, text, epochs, path = job
    torch.set_num_threads(1)
    data, arch = open_data(path), Arch.model_validate_json(text)
    graph = lower(arch)
    shape = graph.input.shape
    trainer = Trainer(graph, data.split("train", *shape), data.split("val", *shape), Recipe.full(epochs=epochs, **COSINE), seed=0)
    trainer.run()
    costs = estimate(graph, "tflm").values()
    accuracy = round(max(m.val_accuracy for m in trainer.history), 5)
    return {"family": family, "id": arch.id, "epochs": epochs, "val_accuracy": accuracy, **{k: int(costs[k] or 0) for k in LIMITS}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--networks", type=int, default=5, help="of each family")
    options = parser.parse_args()
    rows = RESULTS / "block_kinds.jsonl"
    done = {(row["id"], row["epochs"]) for row in read_lines(rows)}
    networks = {family: draw(make, options.networks) for family, (make, _) in FAMILIES.items()}
    networks["ColabNAS k8c5"] = [load_arch("colabnas-k8c5").with_classes(CLASSES)]
    jobs = [
        (family, arch.model_dump_json(), options.epochs, options.data)
        for family, found in networks.items()
        for arch in found
        if (arch.id, options.epochs) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        for row in pool.imap_unordered(train, jobs):
            append_line(rows, row)
            print(json.dumps(row), flush=True)
    write_table([row for row in read_lines(rows) if row["epochs"] == options.epochs], options.epochs)


def write_table(rows: list[dict[str, Any]], epochs: int) -> None:
    """A line a family, as Markdown."""
    lines = [
        "# Kinds of blocks in a file of 41 kB, on tin20",
        "",
        f"`python benchmarks/block_kinds.py`: random networks within ColabNAS k8c5's MACs, arena and file, {epochs} epochs with the recipe "
        "of promote, best validation accuracy, one seed. The standard error of one accuracy is 1.4 points.",
        "",
        "| family | networks | mean | best | mean MACs |",
        "|---|--:|--:|--:|--:|",
    ]
    for family in dict.fromkeys(row["family"] for row in rows):
        of = [row for row in rows if row["family"] == family]
        told = f"{family}: {FAMILIES[family][1]}" if family in FAMILIES else family
        accuracies = [row["val_accuracy"] for row in of]
        macs = mean(row["macs"] for row in of) / 1e6
        lines.append(f"| {told} | {len(of)} | {mean(accuracies):.1%} | {max(accuracies):.1%} | {macs:.2f} M |")
    text = "\n".join(lines) + "\n"
    print(text)
    write_atomic(RESULTS / "block_kinds.md", text)


if __name__ == "__main__":
    main()
