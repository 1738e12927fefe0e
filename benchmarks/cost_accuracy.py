"""Estimated against measured: random networks and public models, by runtime, beside the formulas that peers use.

Writes results/benchmarks/cost_accuracy.{json,csv,md,svg}. Measured: the arena that tflite-micro reports for the file
(head and tail), and the file's size. Estimated: :func:`tinynas.cost.estimate`, before any file exists.

    python benchmarks/cost_accuracy.py [--networks 300] [--seed 2026] [--out results/benchmarks]

Needs tflite-micro. Public models are read from ``TINYNAS_TEST_DATA`` (or ../shared/data beside the repository).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import re
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinynas import __version__
from tinynas.api import load_space
from tinynas.arch import Arch, load_arch
from tinynas.config import shipped
from tinynas.cost import estimate, plan_greedy, plan_offline
from tinynas.cost.memory import live_bytes
from tinynas.cost.runtimes import RUNTIMES
from tinynas.cost.tflite import read_model, to_work
from tinynas.cost.work import Work, from_graph
from tinynas.graph import lower

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TINYNAS_TEST_DATA", ROOT.parent / "shared" / "data"))
#: TinyEngine's README: peak memory in kB (1024 B) on an STM32H743; two exact figures from generated code (PEAK_MEM).
TINYENGINE_KB = {"mcunet-vww0": 59, "mcunet-vww1": 92, "mcunet-in2": 215, "mcunet-in4": 416}
TINYENGINE_BYTES = {"mcunet-vww0": 60_800, "mcunet-vww1": 93_992}
TINYENGINE_MODEL_BYTES = {"mcunet-vww0": 399_656, "mcunet-vww1": 469_432}
#: ST's model zoo (STM32Cube.AI 8.1): weights flash in KiB. Its RAM: benchmarks/stedgeai.py.
ST_KIB: dict[str, float] = {
    "st-modelzoo-v2__mobilenet_v1_0.25_96_tfs_int8": 214.69,
    "st-modelzoo-v2__flowers_mobilenet_v2_0.35_128_tfs_int8": 406.86,
    "st-modelzoo-v2__person_mobilenet_v2_0.35_128_tfs_int8": 401.85,
    "st-modelzoo-v2__fdmobilenet_0.25_128_tfs_int8": 128.32,
    "st-modelzoo-v2__resnet_v1_8_32_tfs_int8": 76.9,
    "st-modelzoo-v2__st_mnist_v1_28_tfs_int8": 10.08,
    "st-modelzoo-v2__st_efficientnet_lc_v1_128_tfs_int8": 505.41,
    "st-modelzoo-v2__miniresnet_1stacks_64x50_tl_int8": 123.6,
    "st-modelzoo-v2__yamnet_256_64x96_tl_int8": 135.91,
}


def random_networks(count: int, seed: int) -> list[Arch]:
    """``count`` networks over all shipped spaces but causal ones: half with odd, non-square inputs, some grayscale, 1 to 1000 classes,
    with and without a last convolution."""
    generator = random.Random(seed)
    spaces = [space for space in map(load_space, sorted(shipped("search_spaces"))) if not space.causal]
    found: list[Arch] = []
    while len(found) < count:
        space = generator.choice(spaces)
        classes = generator.choice([1, 2, 3, 5, 10, 20, 100, 257, 1000])
        arch = space.sample(lambda _, n: generator.randrange(n), classes)
        update: dict[str, Any] = {}
        if generator.random() < 0.5:
            update["height"] = generator.randrange(24, 121)
            update["width"] = update["height"] if generator.random() < 0.5 else generator.randrange(24, 121)
        if generator.random() < 0.3:
            update["channels"] = 1
        if generator.random() < 0.3:
            update["head"] = None
        found.append(Arch.model_validate({**arch.model_dump(), "front_end": None, **update}))
    return found


def max_in_out(work: Work) -> int:
    """The formula of MCUNet's and Alibaba's TinyNAS code: the largest sum of an operator's inputs and outputs."""
    return max(sum(work.sizes[t] for t in {*piece.inputs, *piece.outputs}) for piece in work.pieces)


def live(work: Work) -> int:
    """The formula of uNAS: the largest sum of tensors alive, no alignment, no scratch."""
    bare = replace(RUNTIMES["stedgeai"], shares=False)  # no alignment
    return max(live_bytes(work, bare))


def measure(data: bytes, arena_bytes: int = 8_000_000) -> tuple[int, int]:
    """(head, tail) bytes that tflite-micro reports for the file. It prints them to file descriptor 2."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(data, arena_size=arena_bytes)
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            interpreter.print_allocations()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        text = file.read().decode()
    found = dict(re.findall(r"Arena allocation (head|tail) (\d+)", text))
    return int(found["head"]), int(found["tail"])


def network_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """One row per random network: the file with our memory plan and the file without."""
    from tinynas.export.tflite import dummy_file

    rows = []
    for arch in random_networks(count, seed):
        graph = lower(arch)
        cost = estimate(graph)
        work = from_graph(graph)
        planned, plain = dummy_file(graph, plan=plan_offline(graph)), dummy_file(graph)
        head, tail = measure(planned)
        greedy_head, greedy_tail = measure(plain)
        rows.append(
            {
                "arch": arch.id,
                "input": f"{arch.height}x{arch.width}x{arch.channels}",
                "classes": arch.classes,
                "operators": len(graph.ops),
                "macs": cost.macs,
                "file_estimated": cost.flash_bytes,
                "file_measured": len(planned),
                "head_estimated": cost.head_bytes,
                "head_measured": head,
                "arena_estimated": cost.host_arena_bytes,
                "arena_measured": head + tail,
                "unplanned_head_estimated": plan_greedy(graph).head_bytes,
                "unplanned_head_measured": greedy_head,
                "unplanned_arena_measured": greedy_head + greedy_tail,
                "formula_max_in_out": max_in_out(work),
                "formula_live": live(work),
                "sram_mcu": cost.sram_bytes,
            }
        )
    return rows


def model_rows() -> list[dict[str, Any]]:
    """One row per public .tflite."""
    rows = []
    with (DATA / "models" / "models.csv").open(newline="") as file:
        for entry in csv.DictReader(file):
            path = DATA / "models" / entry["file"]
            model = read_model(path)
            work = to_work(model)
            cost = model.estimate()
            try:
                head, tail = measure(path.read_bytes())
            except Exception as error:  # tflite-micro cannot run every file: the row says so
                head, tail = 0, 0
                print(f"{path.stem}: not run by tflite-micro: {str(error)[:80]}", file=sys.stderr)
            flash = ST_KIB.get(path.stem)
            rows.append(
                {
                    "model": path.stem,
                    "operators": len(model.ops),
                    "macs_estimated": cost.macs,
                    "macs_listed": int(entry["computed_macs"]),
                    "file_bytes": model.size_bytes,
                    "head_estimated": cost.head_bytes,
                    "head_measured": head,
                    "arena_estimated": cost.host_arena_bytes,
                    "arena_measured": head + tail,
                    "formula_max_in_out": max_in_out(work),
                    "formula_live": live(work),
                    "stedgeai_flash_estimated": model.constant_bytes if flash else None,
                    "stedgeai_flash_published": None if flash is None else round(flash * 1024),
                }
            )
    return rows


def tinyengine_rows() -> list[dict[str, Any]]:
    """TinyEngine against its README and against figures in code it generated."""
    rows = []
    for name, published_kb in TINYENGINE_KB.items():
        cost = estimate(lower(load_arch(name)), "tinyengine")
        rows.append(
            {
                "network": name,
                "sram_estimated": cost.sram_bytes,
                "sram_published_kb": published_kb,
                "sram_published_bytes": TINYENGINE_BYTES.get(name),
                "model_estimated": cost.flash_bytes,
                "model_published_bytes": TINYENGINE_MODEL_BYTES.get(name),
            }
        )
    return rows


def errors(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Count, exact count, largest and mean relative error of (estimated, measured) pairs."""
    relative = [abs(e - m) / m for e, m in pairs]
    return {
        "n": len(pairs),
        "exact": sum(e == m for e, m in pairs),
        "max_bytes": max(abs(e - m) for e, m in pairs),
        "max": max(relative),
        "mean": sum(relative) / len(relative),
    }


def summary(networks: list[dict[str, Any]], models: list[dict[str, Any]], tinyengine: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table of the report: one row per (set, quantity, method)."""

    def pairs(rows: list[dict[str, Any]], estimated: str, measured: str) -> list[tuple[float, float]]:
        return [(row[estimated], row[measured]) for row in rows if row.get(measured) and row.get(estimated)]

    table = [
        ("random networks", "tflm", "file bytes", "tinynas", pairs(networks, "file_estimated", "file_measured")),
        ("random networks", "tflm", "head, our memory plan", "tinynas", pairs(networks, "head_estimated", "head_measured")),
        ("random networks", "tflm", "arena (64-bit), our memory plan", "tinynas", pairs(networks, "arena_estimated", "arena_measured")),
        (
            "random networks",
            "tflm",
            "head, no plan in the file",
            "tinynas",
            pairs(networks, "unplanned_head_estimated", "unplanned_head_measured"),
        ),
        (
            "random networks",
            "tflm",
            "head, no plan in the file",
            "max(in + out)",
            pairs(networks, "formula_max_in_out", "unplanned_head_measured"),
        ),
        ("random networks", "tflm", "head, no plan in the file", "live bytes", pairs(networks, "formula_live", "unplanned_head_measured")),
        (
            "random networks",
            "tflm",
            "arena (64-bit), no plan",
            "max(in + out)",
            pairs(networks, "formula_max_in_out", "unplanned_arena_measured"),
        ),
        ("random networks", "tflm", "arena (64-bit), no plan", "live bytes", pairs(networks, "formula_live", "unplanned_arena_measured")),
        ("public models", "tflm", "MACs", "tinynas", pairs(models, "macs_estimated", "macs_listed")),
        ("public models", "tflm", "head", "tinynas", pairs(models, "head_estimated", "head_measured")),
        ("public models", "tflm", "arena (64-bit)", "tinynas", pairs(models, "arena_estimated", "arena_measured")),
        ("public models", "tflm", "head", "max(in + out)", pairs(models, "formula_max_in_out", "head_measured")),
        ("public models", "tflm", "head", "live bytes", pairs(models, "formula_live", "head_measured")),
        ("public models", "tflm", "arena (64-bit)", "max(in + out)", pairs(models, "formula_max_in_out", "arena_measured")),
        ("public models", "tflm", "arena (64-bit)", "live bytes", pairs(models, "formula_live", "arena_measured")),
        ("published", "tinyengine", "PEAK_MEM bytes", "tinynas", pairs(tinyengine, "sram_estimated", "sram_published_bytes")),
        (
            "published",
            "tinyengine",
            "SRAM kB (README)",
            "tinynas",
            [(round(r["sram_estimated"] / 1024), r["sram_published_kb"]) for r in tinyengine],
        ),
        ("published", "tinyengine", "MODEL_SIZE bytes", "tinynas", pairs(tinyengine, "model_estimated", "model_published_bytes")),
        ("published", "stedgeai", "weights flash", "tinynas", pairs(models, "stedgeai_flash_estimated", "stedgeai_flash_published")),
    ]
    return [{"set": s, "runtime": r, "quantity": q, "method": m, **errors(p)} for s, r, q, m, p in table if p]


def plan_gain(networks: list[dict[str, Any]]) -> dict[str, Any]:
    """What the offline plan saves against the file without one, as measured."""
    before = [row["unplanned_arena_measured"] for row in networks]
    after = [row["arena_measured"] for row in networks]
    saved = [(b - a) / b for b, a in zip(before, after, strict=True)]
    heads = [(row["unplanned_head_measured"] - row["head_measured"]) / row["unplanned_head_measured"] for row in networks]
    return {
        "networks": len(networks),
        "smaller": sum(s > 0 for s in saved),
        "larger": sum(s < 0 for s in saved),
        "largest_saving_of_arena": max(saved),
        "largest_saving_of_head": max(heads),
    }


def markdown(document: dict[str, Any]) -> str:
    """The report as text."""
    gain = document["plan"]
    lines = [
        "# Estimated against measured",
        "",
        f"Made by `benchmarks/cost_accuracy.py --networks {gain['networks']} --seed {document['seed']}`, tinynas {document['version']}.",
        f"{gain['networks']} random networks over all shipped spaces (odd and non-square inputs, grayscale, 1 to 1000 classes, with and",
        "without a last convolution), exported with random weights and run in tflite-micro; and the public models of the test data.",
        "The peers' formulas: max(in + out) as in MCUNet's and Alibaba's TinyNAS code, live bytes as in uNAS; neither counts the",
        "runtime's own structures, the alignment or the operators' scratch.",
        "",
        "| set | runtime | quantity | method | n | exact | max error, B | max error | mean error |",
        "|---|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in document["summary"]:
        unit = "" if "MACs" in row["quantity"] or "kB" in row["quantity"] else f"{row['max_bytes']:,.0f}"
        lines.append(
            f"| {row['set']} | {row['runtime']} | {row['quantity']} | {row['method']} | {row['n']} | {row['exact']} | {unit} "
            f"| {row['max']:.2%} | {row['mean']:.2%} |"
        )
    lines += [
        "",
        f"The memory plan that tinynas writes into its files makes the measured arena smaller in {gain['smaller']} of {gain['networks']} "
        f"networks and larger in {gain['larger']}; the head shrinks by up to {gain['largest_saving_of_head']:.0%}, the arena by up to "
        f"{gain['largest_saving_of_arena']:.0%}.",
        "",
        "![Estimated against measured arena](cost_accuracy.svg)",
        "",
        "## Public models",
        "",
        "| model | operators | MACs | file, B | head estimated | head measured | arena estimated | arena measured |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in document["models"]:
        lines.append(
            f"| {row['model']} | {row['operators']} | {row['macs_estimated']:,} | {row['file_bytes']:,} | {row['head_estimated']:,} "
            f"| {row['head_measured']:,} | {row['arena_estimated']:,} | {row['arena_measured']:,} |"
        )
    lines += [
        "",
        "## What this does not show",
        "",
        "- The arena measured here is the 64-bit one of the Python wheel. The 32-bit tail that `sram_bytes` uses follows from the same",
        "  structures with 32-bit sizes; it has not been measured on a board by this script.",
        "- The CMSIS-NN scratch is not in this table: the wheel has reference kernels only.",
        "- ST's published models and TinyEngine's README are one version of each tool; newer ones may need less.",
    ]
    return "\n".join(lines) + "\n"


def picture(document: dict[str, Any], path: Path) -> None:
    """Estimated against measured arena, ours and the peers' formulas, on logarithmic axes, as SVG."""
    networks, models = document["networks"], document["models"]
    plain = "unplanned_arena_measured"
    series = [
        ("max(in + out), as in MCUNet", "#d95f02", 2.2, [(row[plain], row["formula_max_in_out"]) for row in networks]),
        ("live bytes, as in uNAS", "#7570b3", 2.2, [(row[plain], row["formula_live"]) for row in networks]),
        ("tinynas, random networks", "#1b9e77", 2.6, [(row["arena_measured"], row["arena_estimated"]) for row in networks]),
        ("tinynas, public models", "#084c36", 4.0, [(row["arena_measured"], row["arena_estimated"]) for row in models]),
    ]
    everything = [value for *_, points in series for point in points for value in point if value]
    low, high = math.log(min(everything) * 0.8), math.log(max(everything) * 1.25)
    side, left, top = 420.0, 70.0, 46.0

    def at(value: float) -> float:
        return side * (math.log(value) - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + side + 20:.0f} {top + side + 54:.0f}" '
        'font-family="sans-serif" font-size="12">',
        "<title>TFLM arena: estimated before export against measured in tflite-micro</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="20" font-size="14">TFLM arena: estimated before export against measured</text>',
        f'<line x1="{left}" y1="{top + side}" x2="{left + side}" y2="{top}" stroke="#999" stroke-dasharray="3 3"/>',
    ]
    for exponent in range(10, 24):
        value = 2.0**exponent
        if low < math.log(value) < high:
            x, y, text = left + at(value), top + side - at(value), f"{2 ** (exponent - 10)}"
            parts += [
                f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + side}" stroke="#eee"/>',
                f'<line x1="{left}" y1="{y:.1f}" x2="{left + side}" y2="{y:.1f}" stroke="#eee"/>',
                f'<text x="{x:.1f}" y="{top + side + 16}" text-anchor="middle">{text}</text>',
                f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>',
            ]
    for number, (name, colour, radius, points) in enumerate(series):
        parts.append(f'<g fill="{colour}" fill-opacity="0.65">')
        parts += [f'<circle cx="{left + at(x):.1f}" cy="{top + side - at(y):.1f}" r="{radius}"/>' for x, y in points if x and y]
        y = top + 18 + 18 * number
        parts.append(f'</g><circle cx="{left + 14}" cy="{y - 4}" r="4" fill="{colour}"/><text x="{left + 24}" y="{y}">{name}</text>')
    parts += [
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#444"/>',
        f'<text x="{left + side / 2}" y="{top + side + 40}" text-anchor="middle">measured, KiB</text>',
        f'<text transform="translate(18 {top + side / 2}) rotate(-90)" text-anchor="middle">estimated, KiB</text>',
        "</svg>",
    ]
    path.write_text("\n".join(parts) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    args = parser.parse_args()
    started = time.monotonic()
    networks = network_rows(args.networks, args.seed)
    models = model_rows() if (DATA / "models").is_dir() else []
    tinyengine = tinyengine_rows()
    document = {
        "version": __version__,
        "seed": args.seed,
        "summary": summary(networks, models, tinyengine),
        "plan": plan_gain(networks),
        "tinyengine": tinyengine,
        "models": models,
        "networks": networks,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "cost_accuracy.json").write_text(json.dumps(document, indent=1) + "\n")
    with (args.out / "cost_accuracy.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(networks[0]))
        writer.writeheader()
        writer.writerows(networks)
    (args.out / "cost_accuracy.md").write_text(markdown(document))
    picture(document, args.out / "cost_accuracy.svg")
    print(markdown(document))
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
