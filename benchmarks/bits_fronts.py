"""What weights of mixed bits bring where flash binds: the same flash, networks trained and epochs; all at 8 bits, all at 4, or chosen.

    python benchmarks/bits_fronts.py --data tin20=../shared/data/images/tin20 person64=../shared/data/images/person64 --list
    python benchmarks/bits_fronts.py --data ... --job 7 --rows rows/7.jsonl     # one search and one full training
    python benchmarks/bits_fronts.py --rows rows/*.jsonl                        # the page and the picture

What it measures. A job is a data set, a seed, a limit of the model's flash (24, 40 or 64 KiB, beside 96 KiB of SRAM, for TFLM with
CMSIS-NN on a Cortex-M4), and a side: ``space.weight_bits`` is [8], [4] or [8, 4] of the shipped space with width multipliers of 0.5 to 1.25
(by those that it has, none of 8 bits takes 24 KiB); depthwise weights and the stem's keep 8 bits on each side. The search trains
``--trials`` networks, then the network of which it expects most is trained for ``--epochs`` epochs,
and its integer forward, which equals the file in tflite-micro bit for bit, names the test images: these are read once. Rows that are there
are not made again. The number of networks limits the search, so what else runs on the computer changes nothing.

What it does not show. Time on a board: CMSIS-NN's kernels for weights of 4 bits execute more instructions. The flash of the code: a program
with both kinds of weights has both kinds of kernels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from cosine import COSINE

from tinynas import __version__
from tinynas.files import append_line, read_lines, write_atomic

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"
FLASH_KIB = (24, 40, 64)
#: Side -> bits that the space offers.
SIDES = {"int8": "[8]", "int4": "[4]", "mixed": "[8,4]"}
COLORS = {"int8": "#8a5a00", "int4": "#1f4e9c", "mixed": "#0b6e4f"}
#: Width multipliers of the space: at 8 bits none of the shipped ones leads to a network of 24 KiB.
WIDTHS = "[0.5,0.75,1.0,1.25]"
CALIBRATION = 256
#: The runtime's part of the flash is a reserve, so that what is left is the model's.
BUDGET = """\
name: {flash} KiB of model flash
core: cortex-m4
clock_mhz: 80
runtime: tflm-cmsis-nn
sram: 96 KiB
flash: {whole} KiB
reserves:
  sram: {{application: 0 B, stack: 0 B, frame_buffer: 0 B, runtime: 0 B}}
  flash: {{application: 0 B, runtime: 100 KiB}}
"""


@dataclass(frozen=True)
class Job:
    """A search and a full training."""

    data: str
    place: str
    seed: int
    flash_kib: int
    side: str

    @property
    def key(self) -> tuple[str, int, int, str]:
        """What a row is known by."""
        return self.data, self.seed, self.flash_kib, self.side


def jobs(data: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """All jobs, those of one comparison side by side."""
    places = [text.split("=", 1) for text in data]
    return [Job(name, place, seed, flash, side) for seed, flash, (name, place), side in product(seeds, FLASH_KIB, places, SIDES)]


def integer_accuracy(run: Any, net_id: str, images: Any) -> tuple[float, int]:
    """(share of the test images that the integer network names right, how many there are)."""
    from tinynas.graph import lower
    from tinynas.model import Network
    from tinynas.quantize import finish_qat, fold, quantize
    from tinynas.train.quantised import load_trained

    graph = lower(run.arch(net_id))
    trained = load_trained(graph, run.weights_file(net_id))
    shape = graph.input.shape
    if isinstance(trained, Network):
        qgraph = quantize(fold(trained), images.split("train", *shape).subset(CALIBRATION, 0).inputs)
    else:
        qgraph = finish_qat(trained)
    test = images.split("test", *shape)
    return share_right(qgraph, test), len(test.labels)


def share_right(qgraph: Any, test: Any) -> float:
    """Share of the images ``test`` that the integer network ``qgraph`` names right."""
    from tinynas.quantize import FakeQuantNetwork
    from tinynas.quantize.floats import pixels

    network, right = FakeQuantNetwork(qgraph), 0
    for start in range(0, len(test.labels), 256):
        found = network(pixels(test.inputs[start : start + 256], qgraph.graph.input)).argmax(1).numpy()
        right += int((found == test.labels[start : start + 256]).sum())
    return right / len(test.labels)


def work(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """The row of ``job``."""
    from tinynas.api import search
    from tinynas.cost import estimate
    from tinynas.data import open_data
    from tinynas.graph import lower
    from tinynas.promote import promote
    from tinynas.recipe import Recipe

    with tempfile.TemporaryDirectory(prefix="bits-fronts-") as scratch:
        budget = Path(scratch) / "budget.yaml"
        budget.write_text(BUDGET.format(flash=job.flash_kib, whole=job.flash_kib + 100), encoding="utf-8")
        changes = [f"space.weight_bits={SIDES[job.side]}", f"space.width_mult={WIDTHS}", *options.set]
        where = {"space": options.space, "data": job.place, "out": Path(scratch) / "run", "overrides": changes}
        run, _ = search(str(budget), **where, trials=options.trials, timeout=options.timeout, workers=1, seed=job.seed)
        images = open_data(job.place)
        net_id = run.resolve_id("best")
        recipe = Recipe.full(epochs=options.epochs, **COSINE, **({"epoch_images": options.epoch_images} if options.epoch_images else {}))
        (promoted,) = promote(run, [net_id], data=images, recipe=recipe, seed=job.seed)
        accuracy, count = integer_accuracy(run, net_id, images)
        cost = estimate(lower(run.arch(net_id)), "tflm-cmsis-nn", core="cortex-m4")
        lines = {row["number"]: row for row in read_lines(run.path / "trials.jsonl")}.values()
        trained = [row for row in lines if row["state"] == "trained"]
    return {
        "data": job.data,
        "seed": job.seed,
        "flash_kib": job.flash_kib,
        "side": job.side,
        "tinynas": __version__,
        "space": options.space,
        "trials": options.trials,
        "epochs": options.epochs,
        "id": net_id,
        "int": round(accuracy, 5),
        "float": round(promoted.test_accuracy, 5),
        "validation": round(promoted.val_accuracy, 5),
        "test_images": count,
        "searched": len(trained),
        "flash_bytes": cost.flash_bytes,
        "sram_bytes": cost.sram_bytes,
        "macs": cost.macs,
        "params": cost.params,
        "weights_by_bits": {str(bits): many for bits, many in cost.weights_by_bits.items()},
    }


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    by = {(row["data"], row["seed"], row["flash_kib"], row["side"]): row for row in rows}
    first = rows[0]
    lines = [
        "# Weights of 8, of 4 and of chosen bits in the same flash",
        "",
        f"Made by `python benchmarks/bits_fronts.py` of tinynas {first['tinynas']}, which says what is not measured. Space "
        f"`{first['space']}`, "
        f"{first['trials']} networks trained in each search, {first['epochs']} epochs of full training; accuracy of the integer "
        f"network on the",
        "test images, which nothing else reads.",
        "",
        "| data | seed | flash, KiB | int8 | int4 | mixed | mixed - int8, points | mixed - int4 | file of mixed, B | its weights "
        "of 8 / 4 bits |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    gains: dict[tuple[str, int], list[float]] = {}
    for data, seed, flash in sorted({key[:3] for key in by}):
        three = {side: by.get((data, seed, flash, side)) for side in SIDES}
        shown = {side: "" if row is None else f"{100 * row['int']:.1f}%" for side, row in three.items()}
        mixed, differences = three["mixed"], []
        for side in ("int8", "int4"):
            other = three[side]
            differences.append("" if mixed is None or other is None else f"{100 * (mixed['int'] - other['int']):+.1f}")
        if differences[0]:
            gains.setdefault((data, flash), []).append(float(differences[0]))
        held = "" if mixed is None else " / ".join(f"{mixed['weights_by_bits'].get(bits, 0):,}" for bits in ("8", "4"))
        size = "" if mixed is None else f"{mixed['flash_bytes']:,}"
        lines.append(
            f"| {data} | {seed} | {flash} | {shown['int8']} | {shown['int4']} | {shown['mixed']} | {differences[0]} | {differences[1]} "
            f"| {size} | {held} |"
        )
    error = max(100 * (0.25 / row["test_images"]) ** 0.5 for row in rows)
    lines += [""]
    for (data, flash), found in sorted(gains.items()):
        lines.append(f"- {data}, {flash} KiB: mixed against int8 {mean(found):+.1f} points on average of {len(found)}")
    lines += ["", f"The standard error of one accuracy is at most {error:.1f} points.", "", "![Accuracy over flash](bits_fronts.svg)", ""]
    return "\n".join(lines)


def picture(rows: Sequence[dict[str, Any]]) -> str:
    """Accuracy over flash as SVG: a panel for each data set, the mean of the seeds a line, each seed a point."""
    names = sorted({row["data"] for row in rows})
    wide, high, gap = 320, 220, 60
    across = len(names) * (wide + gap) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {high + 110}" font-family="sans-serif" font-size="12">',
        f'<rect width="{across}" height="{high + 110}" fill="white"/>',
    ]
    for number, name in enumerate(names):
        left, shown = gap + number * (wide + gap), [row for row in rows if row["data"] == name]
        least, best = min(row["int"] for row in shown) - 0.01, max(row["int"] for row in shown) + 0.01
        place = {flash: left + wide * (at + 0.5) / len(FLASH_KIB) for at, flash in enumerate(FLASH_KIB)}

        def up(value: float, least: float = least, best: float = best) -> float:
            return 30 + high * (1 - (value - least) / (best - least))

        parts += [
            f'<text x="{left}" y="20" font-weight="bold">{name}: accuracy on the test images over the flash of the model</text>',
            f'<rect x="{left}" y="30" width="{wide}" height="{high}" fill="none" stroke="#999"/>',
            f'<text x="{left - 4}" y="{high + 30}" text-anchor="end">{100 * least:.0f} %</text>',
            f'<text x="{left - 4}" y="40" text-anchor="end">{100 * best:.0f} %</text>',
        ]
        parts += [f'<text x="{x:.1f}" y="{high + 46}" text-anchor="middle">{flash} KiB</text>' for flash, x in place.items()]
        for at, (side, color) in enumerate(COLORS.items()):
            means = {f: [row["int"] for row in shown if (row["side"], row["flash_kib"]) == (side, f)] for f in FLASH_KIB}
            path = " ".join(f"{place[f]:.1f},{up(mean(found)):.1f}" for f, found in means.items() if found)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
            parts += [
                f'<circle cx="{place[f]:.1f}" cy="{up(value):.1f}" r="3.5" fill="{color}"/>'
                for f, found in means.items()
                for value in found
            ]
            parts.append(f'<text x="{left + 90 * at}" y="{high + 66}" fill="{color}">{side}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=PATH")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--list", action="store_true", help="print the jobs")
    parser.add_argument("--job", type=int, help="the one to do")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--epoch-images", type=int, help="images of an epoch of full training; default: all")
    parser.add_argument("--timeout", help="for a search, such as 10m, beside its number of networks")
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="settings of the searches")
    parser.add_argument("--rows", nargs="+", type=Path, default=[RESULTS / "bits_fronts.jsonl"], help="a job appends to the first")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    every = jobs(options.data, options.seeds)
    if options.list:
        for number, job in enumerate(every):
            print(number, *job.key)
        return
    rows = [row for path in options.rows if path.exists() for row in read_lines(path)]
    if options.job is not None:
        job = every[options.job]
        if not any((row["data"], row["seed"], row["flash_kib"], row["side"]) == job.key for row in rows):
            options.rows[0].parent.mkdir(parents=True, exist_ok=True)
            row = work(job, options)
            append_line(options.rows[0], row)
            print(json.dumps(row), flush=True)
        return
    write_atomic(options.out / "bits_fronts.md", page(rows))
    write_atomic(options.out / "bits_fronts.svg", picture(rows))
    print(page(rows))


if __name__ == "__main__":
    main()
