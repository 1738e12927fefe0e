"""coco_mcu (the zoo's, by its README) trained for a short time on person64, its weights of 8, 4 or 2 bits: accuracy and bytes.

    python benchmarks/coco_mcu_person.py --data ../shared/data/images/person64 --list
    python benchmarks/coco_mcu_person.py --data ../shared/data/images/person64 --job 2 --rows rows/coco2.jsonl
    python benchmarks/coco_mcu_person.py --rows rows/coco*.jsonl                # the page

What it measures. The same network, seed, recipe and images; weights of all convolutions and of the classifier have 8, 4 or 2 bits, and
those
of few bits are on their grids from the first epoch on. Accuracy of the integer network (bit for bit that of the file and of the compiled
network) on the
test images, bytes of weights, of the .tflite (none for 2 bits: TFLM has no kernel) and of the compiled network's constants.

What it does not show. What coco_mcu reached: its images had 256 px and it was trained for long; here a side is what ``--side`` says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from bits_fronts import share_right
from cosine import COSINE

from tinynas import __version__
from tinynas.arch import Arch, load_arch
from tinynas.files import append_line, read_lines, write_atomic

RESULTS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"
BITS = (8, 4, 2)
CALIBRATION = 256


def subject(side: int, classes: int, bits: int) -> Arch:
    """coco-mcu at ``side`` with all weights of ``bits``."""
    document = {**load_arch("coco-mcu").model_dump(), "height": side, "width": side, "classes": classes, "classifier_bits": bits}
    for layer in (document["stem"], document["head"], *document["blocks"]):
        layer |= {name: bits for name in ("weight_bits", "depthwise_bits") if name in layer}
    return Arch.model_validate(document)


def work(bits: int, options: argparse.Namespace) -> dict[str, Any]:
    """The row of a training."""
    from tinynas.cost import estimate
    from tinynas.data import open_data
    from tinynas.graph import lower
    from tinynas.quantize import finish_qat, fold, quantize
    from tinynas.quantize.qat import QatNetwork
    from tinynas.recipe import Recipe
    from tinynas.train import Trainer

    data, started = open_data(options.data), perf_counter()
    graph = lower(subject(options.side, len(data.labels), bits))
    shape = graph.input.shape
    recipe = Recipe.full(epochs=options.epochs, **COSINE, **({"epoch_images": options.epoch_images} if options.epoch_images else {}))
    trainer = Trainer(graph, data.split("train", *shape), data.split("val", *shape), recipe, seed=options.seed)
    trainer.run()
    trained = trainer.trained.cpu()
    if isinstance(trained, QatNetwork):
        qgraph = finish_qat(trained)
    else:
        qgraph = quantize(fold(trained), data.split("train", *shape).subset(CALIBRATION, 0).inputs)
    test = data.split("test", *shape)
    right = share_right(qgraph, test)
    compiled, tflm = estimate(graph, "compiled-rows", core="cortex-m4"), estimate(graph, "tflm-cmsis-nn", core="cortex-m4")
    return {
        "bits": bits,
        "tinynas": __version__,
        "side": options.side,
        "epochs": options.epochs,
        "seed": options.seed,
        "int": round(right, 5),
        "validation": round(trainer.history[-1].val_accuracy, 5),
        "test_images": len(test.labels),
        "params": tflm.params,
        "macs": tflm.macs,
        "weights_bytes": tflm.weights_bytes,
        "file_bytes": tflm.flash_bytes if bits > 2 else None,
        "constant_bytes": compiled.flash_bytes,
        "program_bytes": compiled.program_bytes,
        "work_bytes": compiled.sram_bytes,
        "seconds": round(perf_counter() - started, 1),
    }


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    first = rows[0]
    lines = [
        "# coco_mcu on person64 at 8, 4 and 2 bits",
        "",
        f"Made by `python benchmarks/coco_mcu_person.py` of tinynas {first['tinynas']}, which says what is not measured: "
        f"{first['side']} px, "
        f"{first['epochs']} epochs, {first['params']:,} parameters, {first['macs']:,} MACs.",
        "",
        "| bits | test, integer network | weights and biases, B | .tflite, B | compiled: constants, B | with code, B | work area, "
        "rows, B |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in sorted(rows, key=lambda row: -row["bits"]):
        file = "none" if row["file_bytes"] is None else f"{row['file_bytes']:,}"
        lines.append(
            f"| {row['bits']} | {100 * row['int']:.2f}% | {row['weights_bytes']:,} | {file} | {row['constant_bytes']:,} | "
            f"{row['program_bytes']:,} | {row['work_bytes']:,} |"
        )
    error = max(100 * (0.25 / row["test_images"]) ** 0.5 for row in rows)
    return "\n".join([*lines, "", f"The standard error of one accuracy is at most {error:.1f} points; one seed.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the images of person64")
    parser.add_argument("--list", action="store_true", help="print the jobs")
    parser.add_argument("--job", type=int, help="the one to do")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--epoch-images", type=int, help="images of an epoch; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", nargs="+", type=Path, default=[RESULTS / "coco_mcu_person.jsonl"], help="a job appends to the first")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.list:
        for number, bits in enumerate(BITS):
            print(number, f"{bits} bits")
        return
    rows = [row for path in options.rows if path.exists() for row in read_lines(path)]
    if options.job is not None:
        bits = BITS[options.job]
        if not any((row["bits"], row["seed"]) == (bits, options.seed) for row in rows):
            options.rows[0].parent.mkdir(parents=True, exist_ok=True)
            row = work(bits, options)
            append_line(options.rows[0], row)
            print(json.dumps(row), flush=True)
        return
    write_atomic(options.out / "coco_mcu_person.md", page(rows))
    print(page(rows))


if __name__ == "__main__":
    main()
