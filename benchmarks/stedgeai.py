"""ST's code generator: which rules of memory sharing agree with the RAM that ST published, and how far off they are.

Writes results/benchmarks/stedgeai.{json,md}. Measured: the activations that STM32Cube.AI 8.1 (model zoo v2) and ST Edge AI Core 4.0 (its
developer cloud, target stm32f4, balanced) report for twelve public files. Estimated: :func:`tinynas.cost.estimate` for the runtime
``stedgeai``. Three shares (dense convolutions of stride 1, depthwise ones of stride 1 and of stride 2) are chosen among nought, one and
two halves, each time without the network that is then judged. The rest of the rules is not fitted: pointwise and strided convolutions lie
over their inputs in code that the tool generated.

    python benchmarks/stedgeai.py [--out results/benchmarks]

Public models are read from ``TINYNAS_TEST_DATA`` (or ../shared/data beside the repository).
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from tinynas import __version__
from tinynas.arch import Arch, load_arch
from tinynas.cost import estimate
from tinynas.cost.memory import lifetimes, live_bytes, shareable
from tinynas.cost.runtimes import RUNTIMES
from tinynas.cost.stedgeai import halves_shared, scratch_bytes
from tinynas.cost.tflite import read_model, to_work
from tinynas.cost.work import Piece
from tinynas.graph import lower
from tinynas.space import make_divisible

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TINYNAS_TEST_DATA", ROOT.parent / "shared" / "data"))
ZOO, CORE = "STM32Cube.AI 8.1", "ST Edge AI Core 4.0"
#: Activations in bytes. ZOO: tables of ST's model zoo v2, in KiB with two digits. CORE: stm32ai-cs.st.com on 2026-08-16, as mcufit
#: (bench/st_analyze.jsonl) has them; the RAM it names besides is the library's: 301, 304, 1,284 and 0 B more.
PUBLISHED: dict[str, tuple[str, int]] = {
    "tflite-micro__person_detect": (CORE, 41_155),
    "mlcommons-tiny__kws_ref_model": (CORE, 18_252),
    "mlcommons-tiny__pretrainedResnet_quant": (CORE, 43_428),
    "mlcommons-tiny__ad01_int8": (CORE, 2_048),
    "st-modelzoo-v2__mobilenet_v1_0.25_96_tfs_int8": (ZOO, 51_405),
    "st-modelzoo-v2__flowers_mobilenet_v2_0.35_128_tfs_int8": (ZOO, 230_574),
    "st-modelzoo-v2__fdmobilenet_0.25_128_tfs_int8": (ZOO, 52_408),
    "st-modelzoo-v2__resnet_v1_8_32_tfs_int8": (ZOO, 46_500),
    "st-modelzoo-v2__st_mnist_v1_28_tfs_int8": (ZOO, 14_459),
    "st-modelzoo-v2__st_efficientnet_lc_v1_128_tfs_int8": (ZOO, 132_270),
    "st-modelzoo-v2__miniresnet_1stacks_64x50_tl_int8": (ZOO, 61_327),
    "st-modelzoo-v2__yamnet_256_64x96_tl_int8": (ZOO, 112_200),
}
#: The same files with STM32Cube.AI 9.1, activations in KiB and the RAM of the runtime beside it (ST's model zoo 3).
NEWER: dict[str, tuple[float, float]] = {
    "st-modelzoo-v2__mobilenet_v1_0.25_96_tfs_int8": (66.96, 16.33),
    "st-modelzoo-v2__flowers_mobilenet_v2_0.35_128_tfs_int8": (237.32, 30.14),
    "st-modelzoo-v2__fdmobilenet_0.25_128_tfs_int8": (56.16, 14.2),
    "st-modelzoo-v2__resnet_v1_8_32_tfs_int8": (62.51, 7.21),
}
#: Others' tables, kB of 1,024 B: TinyEngine's README (STM32H743, X-CUBE-AI 7.3); Plumerai's (STM32F746, MobileNetV2-0.30 at 80 x 80).
OTHERS: dict[str, dict[str, int]] = {
    "mcunet-vww0": {"tflm-cmsis-nn": 163, "stedgeai": 88, "tinyengine": 59},
    "mcunet-vww1": {"tflm-cmsis-nn": 220, "stedgeai": 113, "tinyengine": 92},
    "mcunet-in4": {"stedgeai": 342, "tinyengine": 416},
    "mobilenetv2-0.30@80": {"tflm-cmsis-nn": 155, "stedgeai": 109, "tinyengine": 98, "Plumerai": 80},
}
#: What is fitted: halves shared by each of these kinds.
FITTED = ("conv", "dw", "dw strided")


@dataclass(frozen=True)
class Operator:
    """An operator of a file: bytes alive with nothing shared, and how many of them could be."""

    kind: str
    live: int
    smaller: int
    halves: int
    """That the package's rules share."""


def fitted_kind(piece: Piece) -> str:
    """The kind of FITTED that ``piece`` is, or another word."""
    strided = max(piece.stride) > 1
    if piece.kind == "dw":
        return "dw strided" if strided else "dw"
    return "conv" if piece.kind == "conv" and not strided and piece.kernel != (1, 1) else "fixed"


def operators(path: Path) -> list[Operator]:
    """The operators of the file at ``path``."""
    work = to_work(read_model(path))
    alone = live_bytes(work, replace(RUNTIMES["stedgeai"], shares=False))
    smaller = shareable(work, lifetimes(work)[1])
    return [
        Operator(fitted_kind(piece), live + sum(scratch_bytes(piece)), smaller.get(i, 0), halves_shared(piece))
        for i, (piece, live) in enumerate(zip(work.pieces, alone, strict=True))
    ]


def peak(ops: list[Operator], halves: dict[str, int]) -> int:
    """Bytes that a network takes where the kinds in ``halves`` share so many halves."""
    return max(op.live - halves.get(op.kind, op.halves) * op.smaller // 2 for op in ops)


def mean_error(networks: dict[str, list[Operator]], names: list[str], halves: dict[str, int]) -> float:
    """Mean relative error over the networks called ``names``."""
    return sum(abs(peak(networks[name], halves) / PUBLISHED[name][1] - 1) for name in names) / len(names)


def best(networks: dict[str, list[Operator]], names: list[str]) -> dict[str, int]:
    """The halves of FITTED with the least mean error; among equals those that share least."""
    rules = [dict(zip(FITTED, halves, strict=True)) for halves in product((0, 1, 2), repeat=len(FITTED))]
    return min(rules, key=lambda rule: (round(mean_error(networks, names, rule), 9), sum(rule.values())))


def fit() -> dict[str, Any]:
    """The report as a document."""
    networks = {name: operators(DATA / "models" / f"{name}.tflite") for name in PUBLISHED}
    chosen = best(networks, list(networks))
    rows = []
    for name, (tool, published) in PUBLISHED.items():
        ops = networks[name]
        without = best(networks, [other for other in networks if other != name])
        found = read_model(DATA / "models" / f"{name}.tflite").estimate("stedgeai").sram_bytes
        newer = NEWER.get(name)
        rows.append(
            {
                "network": name,
                "tool": tool,
                "published": published,
                "estimated": found,
                "error": found / published - 1,
                "held_out_error": peak(ops, without) / published - 1,
                "nothing_shared_error": max(op.live for op in ops) / published - 1,
                "version_9_1": None if newer is None else round(newer[0] * 1024),
                "runtime_9_1": None if newer is None else round(newer[1] * 1024),
            }
        )
    return {"version": __version__, "chosen": chosen, "networks": rows, "others": others()}


def mobilenetv2(width: float, side: int) -> Arch:
    """MobileNetV2 of two classes, ``width`` times as wide, for square inputs of ``side`` pixels."""
    whole = load_arch("mobilenetv2-1.0").model_dump()
    for block in (whole["stem"], *whole["blocks"]):
        block["out"] = make_divisible(block["out"] * width, 8)
    return Arch.model_validate({**whole, "height": side, "width": side, "classes": 2, "name": f"mobilenetv2-{width}"})


def others() -> list[dict[str, Any]]:
    """Tables of others beside the estimates, in kB of 1,024 B."""
    rows = []
    for name, published in OTHERS.items():
        graph = lower(mobilenetv2(0.3, 80) if "@" in name else load_arch(name))
        for runtime, kb in published.items():
            found = estimate(graph, runtime).sram_bytes / 1024 if runtime in RUNTIMES else None
            rows.append({"network": name, "runtime": runtime, "published_kb": kb, "estimated_kb": found})
    return rows


def markdown(document: dict[str, Any]) -> str:
    """The report as text."""
    rows = document["networks"]
    lines = [
        "# What ST's code generator takes",
        "",
        f"Made by `benchmarks/stedgeai.py`, tinynas {document['version']}. Activations in bytes: what STM32Cube.AI 8.1 (model zoo v2)",
        "and ST Edge AI Core 4.0 (developer cloud) report for a file, beside `tinynas estimate FILE --runtime stedgeai`. Left out: the",
        "error where the fitted shares are chosen without the network. Nothing shared: every buffer in memory of its own.",
        "",
        "| network | tool | published | estimated | error | left out | nothing shared | with 9.1 |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        newer = "" if row["version_9_1"] is None else f"{row['version_9_1']:,}"
        lines.append(
            f"| {row['network'].split('__')[1]} | {row['tool']} | {row['published']:,} | {row['estimated']:,} | {row['error']:+.1%} "
            f"| {row['held_out_error']:+.1%} | {row['nothing_shared_error']:+.1%} | {newer} |"
        )

    def mean(key: str) -> float:
        return sum(abs(row[key]) for row in rows) / len(rows)

    chosen = ", ".join(f"{kind} {halves}" for kind, halves in document["chosen"].items())
    most = max(row["version_9_1"] / row["published"] for row in rows if row["version_9_1"])
    lines += [
        f"| mean of {len(rows)} | | | | {mean('error'):.1%} | {mean('held_out_error'):.1%} | {mean('nothing_shared_error'):.1%} | |",
        "",
        f"Halves of the smaller of input and output that lie in the larger, as fitted: {chosen}. Not fitted: pointwise and",
        "strided convolutions share all of it, elementwise operators, pools and padding too, fully connected layers nothing.",
        "Scratch as in generated code: 37 C + 1 for 3x3 depthwise, 4 Cin + 10 Cout for pointwise, 36 k k Cin + 4 Cout for other",
        "convolutions.",
        "",
        f"**Versions of the tool differ more than the estimate errs.** STM32Cube.AI 9.1 takes up to {most - 1:.0%} more than 8.1 for",
        "the same file (last column), and 7 to 30 KiB for the runtime where Core 4.0 takes 0.3 to 1.3 kB. The runtime's part belongs",
        "into the budget (`reserves: sram: runtime:`); for 9.1 leave room.",
        "",
        "## Others' tables",
        "",
        "kB of 1,024 B: TinyEngine's README (STM32H743, X-CUBE-AI 7.3), and Plumerai's table (STM32F746, MobileNetV2-0.30 at 80 x 80;",
        "built here with two classes). Theirs hold the runtime's own RAM; TFLM's ran files full of padding, ours have a memory plan.",
        "",
        "| network | runtime | published | estimated | error |",
        "|---|---|--:|--:|--:|",
    ]
    for row in document["others"]:
        found = row["estimated_kb"]
        ours = "| |" if found is None else f"{found:.0f} | {found / row['published_kb'] - 1:+.0%} |"
        lines.append(f"| {row['network']} | {row['runtime']} | {row['published_kb']} | {ours}")
    lines += [
        "",
        "## What this does not show",
        "",
        "- Other versions and other settings (`--optimization ram` or `time`, split or external inputs), float models, several outputs.",
        "- Which version a user has: the figure is for 8.1 and Core 4.0, between which one network (ResNet-8) can be compared: 46,500 and",
        "  43,428 B.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    out = parser.parse_args().out
    document = fit()
    out.mkdir(parents=True, exist_ok=True)
    (out / "stedgeai.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (out / "stedgeai.md").write_text(markdown(document), encoding="utf-8")
    print(markdown(document))


if __name__ == "__main__":
    main()
