"""The course's table: MobileNetV1 0.25, 0.2 and 0.1 at 96 px, RGB and gray, as the TinyML course offers them for transfer learning.

    python benchmarks/course.py                                  the sizes, into results/benchmarks/course.md
    python benchmarks/course.py --list                           the trainings, numbered
    python benchmarks/course.py --job I --rows FILE --person64 FOLDER --tin20 FOLDER

What it measures. For each network of the shipped zoo, what ``tinynas estimate`` promises on the course's board (Arduino Nano 33 BLE Sense,
TFLM with CMSIS-NN), beside the figures of the course's slides (Edge Impulse's, "with default settings and optimizations"), and what
explains the differences, each part in bytes. Trainings are jobs that know nothing of each other: each network on person64 from nothing,
and from its own pre-training on tin20 (``recipe.init``), both with the recipe of ``promote``; a row is the test accuracy, in float.

What it does not show. The slides do not say whether their K is 1,000 or 1,024 bytes, whether RAM counts the image, nor the version of
anything; they give one figure for RGB and gray. Edge Impulse's own weights are pre-trained on far more than tin20.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from cosine import COSINE

from tinynas.api import estimate
from tinynas.arch import Arch, load_arch, pair
from tinynas.budget import load_budget
from tinynas.config import load
from tinynas.data import open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.promote import PromoteEvent, promote
from tinynas.recipe import Recipe
from tinynas.runs import Run
from tinynas.space import Space

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "benchmarks"
ROWS = RESULTS / "course.jsonl"
BOARD = "nano33-ble-sense"
#: Width -> (RAM, ROM) in the slides' K.
COURSE = {"0.25": (105.9, 301.6), "0.2": (83.1, 218.3), "0.1": (53.2, 101.0)}
COLORS = {"RGB": "", "gray": "-gray"}
STARTS = ("nothing", "tin20")
SEEDS = (0, 1)
EPOCHS, BEFORE_EPOCHS = 60, 40


def networks() -> dict[str, tuple[str, str]]:
    """Zoo name -> (width, color)."""
    return {f"mobilenetv1-{width}{ending}": (width, color) for width in COURSE for color, ending in COLORS.items()}


def padded_peak(arch: Arch) -> int:
    """Bytes alive where Keras's file pads before a depthwise convolution of stride 2: the map and its copy with one row and column more."""
    height, width = arch.height, arch.width
    channels, most = arch.channels, 0
    for layer in (arch.stem, *arch.blocks):
        assert layer is not None
        if pair(layer.stride) == (2, 2):
            if layer is not arch.stem:  # the stem is of Keras's padding "same"
                most = max(most, channels * (height * width + (height + 1) * (width + 1)))
            height, width = (height + 1) // 2, (width + 1) // 2
        channels = layer.out  # type: ignore[union-attr]
    return most


def size(name: str) -> dict[str, Any]:
    """What is promised of one network, and the parts of its difference from the course's figures."""
    width, color = networks()[name]
    budget = load_budget(BOARD)
    arch = load_arch(name)
    cost = estimate(name, budget)
    compiled = estimate(name, budget, "compiled")
    ram, rom = COURSE[width]
    latency = cost.latency_ms
    # With padding as an operator the plan is the larger of ours and of the padded map beside its copy.
    padding = max(0, padded_peak(arch) - cost.head_bytes)
    return {
        "net": name,
        "width": width,
        "color": color,
        "macs": cost.macs,
        "params": cost.params,
        "sram_bytes": cost.sram_bytes,
        "head_bytes": cost.head_bytes,
        "flash_bytes": cost.flash_bytes,
        "program_bytes": cost.program_bytes,
        "latency_ms": latency,
        "compiled": {"sram_bytes": compiled.sram_bytes, "program_bytes": compiled.program_bytes},
        "padding_bytes": padding,
        "ram_rest": [round(ram * kilo - cost.sram_bytes - padding) for kilo in (1000, 1024)],
        "rom_rest": [round(rom * kilo - cost.flash_bytes) for kilo in (1000, 1024)],
    }


def _kilo(value: float | None) -> str:
    return "-" if value is None else f"{value / 1000:,.1f}"


def table(rows: list[dict[str, Any]], trained: list[dict[str, Any]]) -> str:
    """results/benchmarks/course.md."""
    lines = [
        "# The course's MobileNetV1, from the shipped zoo",
        "",
        "Made by `python benchmarks/course.py`. Estimated for the Arduino Nano 33 BLE Sense (Cortex-M4, 64 MHz; TFLM with CMSIS-NN as the",
        "Arduino library has it). kB are 1,000 B. Course: Edge Impulse's figures on its slides, one for RGB and gray.",
        "",
        "| network | input | MACs | parameters | RAM, kB | course RAM | file, kB | with TFLM's code | course ROM | latency, ms "
        "| `compiled`: RAM, kB | flash |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ram, rom = COURSE[row["width"]]
        lines.append(
            f"| {row['width']} | {row['color']} | {row['macs'] / 1e6:.2f} M | {row['params']:,} | {_kilo(row['sram_bytes'])} | {ram} K "
            f"| {_kilo(row['flash_bytes'])} | {_kilo(row['program_bytes'])} | {rom} K | {row['latency_ms']:.0f} "
            f"| {_kilo(row['compiled']['sram_bytes'])} | {_kilo(row['compiled']['program_bytes'])} |"
        )
    lines += [
        "",
        "## Where the difference is",
        "",
        "| network | input | promised RAM, kB | + padding as an operator | left to the course's RAM (K = 1,000; 1,024), kB "
        "| left from the file to the course's ROM, kB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['width']} | {row['color']} | {_kilo(row['sram_bytes'])} | {_kilo(row['padding_bytes'])} "
            f"| {'; '.join(map(_kilo, row['ram_rest']))} | {'; '.join(map(_kilo, row['rom_rest']))} |"
        )
    lines += [
        "",
        "- **Padding.** Keras writes MobileNetV1 with a padding layer before every depthwise convolution of stride 2. As an operator of",
        "  its own it needs the map and a padded copy at once: 48 x 48 and 49 x 49 at the second block, which is then the peak. Files of",
        "  tinynas pad inside the convolution and give the same answers. That sum is exact: Keras's own file of 0.25 (ST's model zoo)",
        "  has 75,280 B of activations, as here.",
        "- **What is left of RAM** is, for RGB and K = 1,024, 5.6 to 6.0 kB at every width: what does not grow with the network",
        "  (structures of the padding operators, a classifier of more layers, static memory of the runtime). For gray it is not so even:",
        "  the slides' one figure is that of RGB. Gray networks need less, most of all at 0.1, where the image is the largest part.",
        "- **ROM** is the file and 41 to 54 kB: kernels and code without the interpreter, as Edge Impulse's compiler links them.",
        "  With TFLM's interpreter it is 74 kB; `compiled` is the same idea here, and keeps its maps in rows.",
        "",
    ]
    if trained:
        lines += ["## Trained on person64", "", "| network | input | start | test accuracy, % (each seed) |", "|---|---|---|---|"]
        for name, (width, color) in networks().items():
            for start in STARTS:
                found = [f"{100 * r['test_accuracy']:.1f}" for r in trained if (r["net"], r["start"]) == (name, start)]
                words = {"nothing": "nothing", "tin20": "own pre-training on tin20"}[start]
                lines.append(f"| {width} | {color} | {words} | {', '.join(found) or '-'} |")
        lines += ["", f"{EPOCHS} epochs of person64 each; pre-training is {BEFORE_EPOCHS} epochs of tin20 (9,000 images, 20 classes).", ""]
    return "\n".join(lines)


# trainings --------------------------------------------------------------------------------------------


def jobs() -> list[tuple[str, str, int]]:
    """(network, start, seed) of each training."""
    return [(name, start, seed) for seed in SEEDS for name in networks() for start in STARTS]


def train(job: tuple[str, str, int], folders: dict[str, str], epochs: int, before: int) -> dict[str, Any]:
    """Run one job; its row."""
    name, start, seed = job
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        init: dict[str, Any] = {}
        if start != "nothing":
            known, net_id = _promoted(Path(folder) / start, name, folders[start], {"epochs": before}, seed)
            init = {"init": f"{known.path}:{net_id}"}
        run, net_id = _promoted(Path(folder) / "person64", name, folders["person64"], {"epochs": epochs, **init}, seed)
        done = run.promoted(net_id)
    assert done is not None
    return {
        "net": name,
        "start": start,
        "seed": seed,
        "epochs": epochs,
        "before_epochs": before if init else 0,
        "val_accuracy": done.val_accuracy,
        "test_accuracy": done.test_accuracy,
        "seconds": round(time.monotonic() - started, 1),
    }


def _promoted(path: Path, name: str, data: str, recipe: dict[str, Any], seed: int) -> tuple[Run, str]:
    images = open_data(data)
    run = Run.create(path, config={}, space=load(ROOT / "search_spaces" / "tiny.yaml", Space), budget=load_budget(BOARD), env={})
    arch = load_arch(name).with_classes(len(images.labels))
    lower(arch)  # a network that cannot be built is said before anything is trained
    run.write_arch(arch)

    def tell(event: PromoteEvent) -> None:
        if event.metrics is not None:
            print(f"{path.name} {name} {event.epoch}/{event.epochs} val {event.metrics.val_accuracy:.4f}", flush=True)

    promote(run, [arch.id], data=images, recipe=Recipe.full(**COSINE, **recipe), seed=seed, on_event=tell)
    return run, arch.id


def main() -> None:
    """The tables; or the list of jobs; or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--job", type=int)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--person64")
    parser.add_argument("--tin20")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--before", type=int, default=BEFORE_EPOCHS)
    options = parser.parse_args()
    if options.list:
        for number, job in enumerate(jobs()):
            print(number, *job)
        return
    done = list(read_lines(options.rows)) if options.rows.exists() else []
    if options.job is not None:
        job = jobs()[options.job]
        if not any((row["net"], row["start"], row["seed"]) == job for row in done):
            folders = {"person64": options.person64, "tin20": options.tin20}
            append_line(options.rows, train(job, folders, options.epochs, options.before))
        return
    write_atomic(RESULTS / "course.md", table([size(name) for name in networks()], done))


if __name__ == "__main__":
    main()
