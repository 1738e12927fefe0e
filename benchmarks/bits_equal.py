"""Networks with weights of random bits: what was promised of each against tflite-micro, and TFLM on emulated cores.

Writes results/benchmarks/bits_equal.{json,md}. Random architectures with attention, whose weights have 8 or 4 bits operator by operator,
and random float weights, go through the quantiser and the writer. Of each: bytes of the file and of the arena against what ``estimate``
said, outputs of
the integer forward against tflite-micro's, LiteRT's resolvers; then, with the plan made for each library, outputs and arena on emulated
cores.

    python benchmarks/bits_equal.py [--networks 200] [--emulated 40] [--seed 0] [--out results/benchmarks] CORE:KERNELS:TREE...

for example ``cortex-m4:reference:../tflm cortex-m4:cmsis-nn:../tflm_arduino``; libraries are built into TINYNAS_CACHE the first time. Does
not show accuracy (weights are random), nor cores that qemu does not have.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from int8_cases import random_arch, with_attention, with_bits  # noqa: E402
from int8_robustness import random_network  # noqa: E402

from tinynas import __version__  # noqa: E402
from tinynas.cost import estimate, plan_offline  # noqa: E402
from tinynas.cost.runtimes import runtime_of_tree  # noqa: E402
from tinynas.errors import ArchError  # noqa: E402
from tinynas.export import build_model  # noqa: E402
from tinynas.export.sandbox import inspect, load_litert, run_tflm  # noqa: E402
from tinynas.export.tflite import ModelMeta, serialize  # noqa: E402
from tinynas.files import write_atomic  # noqa: E402
from tinynas.graph import WEIGHTED, Mul, lower  # noqa: E402
from tinynas.quantize import FakeQuantNetwork, QuantizedGraph  # noqa: E402
from tinynas.quantize.floats import pixels  # noqa: E402
from tinynas.target.cores import core_named  # noqa: E402
from tinynas.target.library import Tree, kernels_named  # noqa: E402
from tinynas.target.probe import Job, build_probe, run_probe  # noqa: E402

IMAGES = 3
#: Models that are put into the emulator at once.
AT_ONCE = 40


@dataclass(frozen=True)
class Case:
    """A network with weights of random bits, and what tflite-micro says of it."""

    name: str
    qgraph: QuantizedGraph
    images: np.ndarray
    """(IMAGES, H, W, C) of uint8."""
    outputs: np.ndarray
    """(IMAGES, classes) of int8."""
    figures: dict[str, Any]


def case_of(seed: int) -> Case | None:
    """Network number ``seed``; None where none of its operators drew few bits, or no block attention."""
    arch = with_bits(with_attention(random_arch(seed, small=seed % 4 != 0), seed), seed)
    graph = lower(arch)
    bits = [op.weight_bits for op in graph.ops if isinstance(op, WEIGHTED)]
    if 4 not in bits or not any(isinstance(op, Mul) for op in graph.ops):
        return None
    images = np.random.default_rng(seed).integers(0, 256, (16, *graph.input.shape), dtype=np.uint8)
    exported = build_model(random_network(graph, seed, images), images)
    assert exported.qgraph is not None
    few = images[:IMAGES]
    inspected = inspect(exported.model)
    measured = run_tflm(inspected, few)
    ours = FakeQuantNetwork(exported.qgraph)(pixels(few, graph.input)).numpy().astype(np.int8)
    cost, read = estimate(graph), inspected.file.estimate("tflm")
    figures = {
        "name": arch.id,
        "weighted": len(bits),
        "narrow": bits.count(4),
        "operators": len(graph.ops),
        "gates": sum(isinstance(op, Mul) for op in graph.ops),
        "bytes": int(ours.size),
        "different": int((ours != measured.outputs).sum()),
        "litert": not any(reason for resolver, reason in load_litert(inspected).items() if resolver != "BUILTIN_REF"),
        "size_exact": len(exported.model) == cost.flash_bytes,
        "arena_exact": measured.head_bytes + measured.tail_bytes == cost.host_arena_bytes == read.host_arena_bytes,
        "read_equal": all(cost.values()[name] == read.values()[name] for name in ("macs", "params", "weights_bytes", "sram_bytes")),
    }
    return Case(arch.id, exported.qgraph, few, measured.outputs.astype(np.int8), figures)


def in_bytes(qgraph: QuantizedGraph) -> QuantizedGraph:
    """The same integers, a byte each."""
    ops = tuple(replace(op, weight_bits=8) if isinstance(op, WEIGHTED) else op for op in qgraph.graph.ops)
    return replace(qgraph, graph=replace(qgraph.graph, ops=ops))


def on_core(cases: list[Case], word: str, cache: Path) -> dict[str, Any]:
    """What the library ``word`` (CORE:KERNELS:TREE) does with ``cases``."""
    core, kernels, place = word.split(":", 2)
    tree, kind = Tree.find(place), kernels_named(kernels)
    runtime = runtime_of_tree(kind, arduino=tree.arduino)
    elf = build_probe(tree, core_named(core), kind, cache)
    found: dict[str, Any] = {"core": core, "runtime": runtime, "networks": 0, "outputs": 0, "twins": 0, "arena": 0, "wrong": []}
    for start in range(0, len(cases), AT_ONCE):
        part = cases[start : start + AT_ONCE]
        jobs, promised = [], []
        for case in part:
            graph = case.qgraph.graph
            cost = estimate(graph, runtime, core=core)
            promised.append(cost.head_bytes + cost.tail_bytes)
            model = serialize(case.qgraph, ModelMeta("0123456789"), plan_offline(graph, runtime, core))
            for file in (model, serialize(in_bytes(case.qgraph), ModelMeta("0123456789"))):
                jobs.append(Job(file, tuple((image ^ 0x80).tobytes() for image in case.images)))
        answers = run_probe(elf, core_named(core), jobs, seconds=30)
        for case, answer, twin, arena in zip(part, answers[::2], answers[1::2], promised, strict=True):
            equal = list(answer.outputs) == [(row.tobytes(),) for row in case.outputs]
            same, exact = answer.outputs == twin.outputs, answer.arena_bytes == arena
            found["networks"] += 1
            found["outputs"] += equal
            found["twins"] += same
            found["arena"] += exact
            if not (same and exact):
                found["wrong"].append([case.name, equal, same, arena, answer.arena_bytes, answer.refused, list(answer.log)[-1:]])
    return found


def page(document: dict[str, Any]) -> str:
    """The table as Markdown."""
    nets = document["networks"]
    rows = [
        ("networks with weights of 8 and 4 bits and with attention", len(nets)),
        ("operators of them; multiplications by a gate", f"{sum(n['operators'] for n in nets)}; {sum(n['gates'] for n in nets)}"),
        ("operators with weights; with 4 bits", f"{sum(n['weighted'] for n in nets)}; {sum(n['narrow'] for n in nets)}"),
        ("output bytes that differ from tflite-micro's", f"{sum(n['different'] for n in nets)} of {sum(n['bytes'] for n in nets):,}"),
        ("files of the promised size", sum(n["size_exact"] for n in nets)),
        ("arenas of tflite-micro (64 bit) of the promised size", sum(n["arena_exact"] for n in nets)),
        ("files whose figures are read back as promised", sum(n["read_equal"] for n in nets)),
        ("files that LiteRT loads (its reference kernels have no depthwise convolution of 4 bits)", sum(n["litert"] for n in nets)),
    ]
    cores = "\n".join(
        f"| {c['core']} | {c['runtime']} | {c['networks']} | {c['outputs']} | {c['twins']} | {c['arena']} |" for c in document["cores"]
    )
    return (
        "# Weights of 8 and 4 bits, promised and run\n\n"
        f"tinynas {document['version']}, `{document['command']}`, {document['seconds']:.0f} s.\n\n"
        "| | |\n|---|---:|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows) + "\n\n"
        "On emulated cores, with the memory plan of each library: networks whose output bytes all equal tflite-micro's, or those of a "
        "file on the same core that stores the same weights a byte each (the MEAN of 2023 rounds otherwise, by 1, at 8 bits too), and "
        "whose arena is what `estimate` says to the byte.\n\n"
        "| core | library | networks | as tflite-micro | as stored in bytes | arena exact |\n|---|---|---:|---:|---:|---:|\n"
        + cores
        + "\n\n"
        "Random architectures and random weights: this says nothing about accuracy.\n"
    )


def main() -> int:
    """Run, write the tables; 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--emulated", type=int, default=40, help="how many of them also run on emulated cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("library", nargs="*", help="CORE:KERNELS:TREE")
    args = parser.parse_args()
    started = time.perf_counter()
    cases: list[Case] = []
    seed = args.seed
    while len(cases) < args.networks:
        try:
            case = case_of(seed)
        except ArchError:
            case = None
        cases += [] if case is None else [case]
        seed += 1
    cores = [on_core(cases[: args.emulated], word, Path(os.environ["TINYNAS_CACHE"])) for word in args.library]
    document = {
        "version": __version__,
        "command": " ".join(["python benchmarks/bits_equal.py", *(Path(a).name if "/" in a and ":" not in a else a for a in sys.argv[1:])]),
        "seconds": time.perf_counter() - started,
        "networks": [case.figures for case in cases],
        "cores": cores,
    }
    write_atomic(args.out / "bits_equal.json", json.dumps(document, indent=1) + "\n")
    write_atomic(args.out / "bits_equal.md", page(document))
    print(page(document))
    bad = [
        n for n in document["networks"] if n["different"] or not (n["size_exact"] and n["arena_exact"] and n["read_equal"] and n["litert"])
    ]
    for one in [*bad, *(wrong for core in cores for wrong in core["wrong"])][:20]:
        print(one)
    return int(bool(bad) or any(core["wrong"] for core in cores))


if __name__ == "__main__":
    sys.exit(main())
