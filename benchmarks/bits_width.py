"""Weights of 4 bits without a search: one network, as wide as a file of a given size allows at 8 bits, and at 4.

    python benchmarks/bits_width.py --rows rows.jsonl --do           # train what is missing, one after the other; stops anywhere
    python benchmarks/bits_width.py                                  # results/benchmarks/bits_width.md from the rows kept there

What it measures. results/benchmarks/bits_fronts compares searches, and two searches of one side differ by more than bits bring. Here
nothing is searched: mcunet-tiny2 (input of ``--size`` px), all its channels scaled by one factor, the largest (in hundredths; channels
are multiples of 4) whose file is within 24, 40 or 64 KiB. At 4 bits the weights of expand and project convolutions, of the last one and
of the classifier are meant; depthwise convolutions and the stem keep 8. Both sides are trained by the shipped full recipe for as many
epochs; the integer network, which equals the file in tflite-micro bit for bit, names the test images, which nothing else reads.

What it does not show. At an equal file the network of 4 bits is wider: it takes more MACs and more SRAM, both in the table. Where these
are limited too, 4 bits bring less. One family of networks; a search may spend the bytes better on both sides.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

from bits_fronts import CALIBRATION, share_right
from cosine import COSINE

from tinynas import __version__
from tinynas.arch import Arch, load_arch
from tinynas.files import append_line, read_lines, write_atomic

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"
IMAGES = ROOT.parent / "shared" / "data" / "images"
NETWORK = "mcunet-tiny2"
FLASH_KIB = (24, 40, 64)
BITS = (8, 4)
DIVISOR = 4


def scaled(size: int, classes: int, factor: float, bits: int) -> Arch:
    """The network at ``size`` px with all channels times ``factor``, its pointwise weights and classifier of ``bits``."""
    plain = load_arch(NETWORK).model_dump()

    def channels(count: int) -> int:
        return max(DIVISOR, round(count * factor / DIVISOR) * DIVISOR)

    def layer(content: dict[str, Any]) -> dict[str, Any]:
        changes: dict[str, Any] = {"out": channels(content["out"])}
        if content.get("mid") is not None:
            changes["mid"] = channels(content["mid"])
        return {**content, **changes}

    few: dict[str, Any] = {} if bits == 8 else {"weight_bits": bits}
    blocks = [{**layer(block), **few} for block in plain["blocks"]]
    before = channels(plain["stem"]["out"])
    for block in blocks:  # what was equal stays equal, and what was not may have become so
        block["residual"] = block["residual"] and block["out"] == before
        before = block["out"]
    content = {
        **plain,
        "name": None,
        "height": size,
        "width": size,
        "classes": classes,
        "stem": layer(plain["stem"]),
        "blocks": blocks,
        "head": None if plain["head"] is None else {**layer(plain["head"]), **few},
        "classifier_bits": bits,
    }
    return Arch.model_validate(content)


def widest(size: int, classes: int, flash_bytes: int, bits: int) -> tuple[float, Arch]:
    """(factor, network): the largest factor, in hundredths, whose file takes at most ``flash_bytes``."""
    from tinynas.cost import estimate
    from tinynas.graph import lower

    found: tuple[float, Arch] | None = None
    for hundredths in range(10, 300):
        arch = scaled(size, classes, hundredths / 100, bits)
        if estimate(lower(arch), "tflm-cmsis-nn", core="cortex-m4").flash_bytes <= flash_bytes:
            found = hundredths / 100, arch
    if found is None:
        raise SystemExit(f"no network of {bits} bits takes at most {flash_bytes} bytes")
    return found


def work(data: str, flash_kib: int, bits: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One training: its row."""
    from tinynas.cost import estimate
    from tinynas.data import open_data
    from tinynas.graph import lower
    from tinynas.model import Network
    from tinynas.quantize import finish_qat, fold, quantize
    from tinynas.recipe import Recipe
    from tinynas.train import Trainer

    images = open_data(IMAGES / data)
    factor, arch = widest(options.size, len(images.labels), 1024 * flash_kib, bits)
    graph = lower(arch)
    shape, start = graph.input.shape, perf_counter()
    train = images.split("train", *shape)
    trainer = Trainer(graph, train, images.split("val", *shape), Recipe.full(epochs=options.epochs, **COSINE), seed=seed)
    trainer.run()
    trained = trainer.trained.cpu()
    qgraph = quantize(fold(trained), train.subset(CALIBRATION, 0).inputs) if isinstance(trained, Network) else finish_qat(trained)
    test = images.split("test", *shape)
    cost = estimate(graph, "tflm-cmsis-nn", core="cortex-m4")
    return {
        "data": data,
        "flash_kib": flash_kib,
        "bits": bits,
        "seed": seed,
        "tinynas": __version__,
        "size": options.size,
        "epochs": options.epochs,
        "factor": factor,
        "int": round(share_right(qgraph, test), 5),
        "validation": round(trainer.history[-1].val_accuracy, 5),
        "test_images": len(test.labels),
        "params": cost.params,
        "macs": cost.macs,
        "flash_bytes": cost.flash_bytes,
        "sram_bytes": cost.sram_bytes,
        "seconds": round(perf_counter() - start),
    }


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    by: dict[tuple[str, int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by[row["data"], row["flash_kib"], row["bits"]].append(row)
    first = rows[0]
    lines = [
        "# Weights of 4 bits without a search",
        "",
        f"Made by `python benchmarks/bits_width.py` of tinynas {first['tinynas']}, which says what is not measured. {NETWORK} at",
        f"{first['size']} px, as wide as the file allows, {first['epochs']} epochs; accuracy of the integer network on the test images,",
        "mean of the seeds.",
        "",
        "| data | file, KiB | bits | seeds | width | file, B | parameters | M MACs | SRAM, B | test | each | 4 bits against 8, points |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for (data, flash, bits), found in sorted(by.items(), key=lambda entry: (entry[0][0], entry[0][1], -entry[0][2])):
        eight = {row["seed"]: row["int"] for row in by[data, flash, 8]} if bits == 4 else {}
        pairs = [100 * (row["int"] - eight[row["seed"]]) for row in found if row["seed"] in eight]
        one, each = found[0], ", ".join(f"{100 * row['int']:.1f}" for row in sorted(found, key=lambda row: row["seed"]))
        lines.append(
            f"| {data} | {flash} | {bits} | {len(found)} | {one['factor']:.2f} | {one['flash_bytes']:,} | {one['params']:,} "
            f"| {one['macs'] / 1e6:.2f} | {one['sram_bytes']:,} | {100 * mean(row['int'] for row in found):.1f} % | {each} "
            f"| {f'{mean(pairs):+.1f}' if pairs else ''} |"
        )
    error = max(100 * (0.25 / row["test_images"]) ** 0.5 for row in rows)
    return "\n".join([*lines, "", f"The standard error of one accuracy is at most {error:.1f} points.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["tin20", "person64"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--do", action="store_true", help="train what is missing")
    parser.add_argument("--rows", type=Path, default=RESULTS / "bits_width.jsonl")
    options = parser.parse_args()
    rows = list(read_lines(options.rows)) if options.rows.exists() else []
    done = {(row["data"], row["flash_kib"], row["bits"], row["seed"]) for row in rows}
    if options.do:
        for data, seed, flash, bits in product(options.data, options.seeds, FLASH_KIB, BITS):
            if (data, flash, bits, seed) not in done:
                row = work(data, flash, bits, seed, options)
                append_line(options.rows, row)
                print(json.dumps(row), flush=True)
        return
    write_atomic(RESULTS / "bits_width.md", page(rows))
    print(page(rows))


if __name__ == "__main__":
    main()
