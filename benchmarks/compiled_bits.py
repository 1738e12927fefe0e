"""Compiled networks with weights of 8, 4 and 2 bits and with attention, against the integer forward, and what is promised of them.

    python benchmarks/compiled_bits.py [--networks 200] [--emulated 12] [--rows results/benchmarks/compiled_bits.jsonl]

Random architectures, whose weights have 8, 4 or 2 bits operator by operator, with squeeze-and-excite and spatial gates and with h-swish,
and random weights. Each is compiled by gcc with all warnings as errors and with address and undefined-behaviour sanitizers, for frames
in rows and
kept by turns, runs in painted memory and is compared with the integer forward, which equals tflite-micro where that has kernels. The
smallest run on emulated Cortex-M4 and M0+ too: outputs, painted work area and stack, linked flash beside the promised. A row is a
network: rows that are there are not made again. Does not show accuracy, nor speed on a board.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from compiled_equal import RUNTIME, TOOLCHAINS, program, promised, quick, run_program  # noqa: E402
from int8_cases import random_arch, with_attention, with_bits  # noqa: E402

from tinynas.cost.streamed import FRAMES  # noqa: E402
from tinynas.export.compiled import compile_network  # noqa: E402
from tinynas.files import append_line, read_lines, write_atomic  # noqa: E402
from tinynas.graph import WEIGHTED, Graph, Mul, lower  # noqa: E402
from tinynas.quantize import FakeQuantNetwork  # noqa: E402
from tinynas.quantize.floats import pixels  # noqa: E402
from tinynas.quantize.grid import QuantizedGraph, random_quantized  # noqa: E402
from tinynas.target.cores import CORES  # noqa: E402
from tinynas.target.program import run_network  # noqa: E402

CORE_NAMES = ("cortex-m4", "cortex-m0plus")
IMAGES, AT_ONCE = 2, 10


def graph_of(seed: int) -> Graph | None:
    """Network number ``seed``; None where it has no few bits, no attention, or is large."""
    graph = lower(with_bits(with_attention(random_arch(seed), seed), seed, (8, 4, 2)))
    bits = {op.weight_bits for op in graph.ops if isinstance(op, WEIGHTED)}
    return graph if bits - {8} and any(isinstance(op, Mul) for op in graph.ops) and quick(graph) else None


def images_of(graph: Graph, seed: int) -> np.ndarray:
    """Random frames."""
    return np.random.default_rng(seed).integers(0, 256, (IMAGES, *graph.input.shape), dtype=np.uint8)


def outputs_of(qgraph: QuantizedGraph, images: np.ndarray) -> np.ndarray:
    """What the integer forward says."""
    return FakeQuantNetwork(qgraph)(pixels(images, qgraph.graph.input)).numpy().astype(np.int8)


def host_rows(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """What the networks ``seeds`` do on this computer."""
    qgraphs = {seed: random_quantized(graph, seed=seed) for seed in seeds if (graph := graph_of(seed)) is not None}
    models = {seed: compile_network(q, name=f"net{seed}", frame=FRAMES[seed % 2]) for seed, q in qgraphs.items()}
    frames = [images_of(q.graph, seed) for seed, q in qgraphs.items()]
    with tempfile.TemporaryDirectory() as scratch:
        built = program(list(models.values()), IMAGES, Path(scratch), TOOLCHAINS["gcc"])
        rans = run_program(built, list(models.values()), frames)
    rows = []
    for (seed, qgraph), images, ran in zip(qgraphs.items(), frames, rans, strict=True):
        model, cost = models[seed], promised(qgraph.graph, "cortex-m4", FRAMES[seed % 2])
        bits = [op.weight_bits for op in qgraph.graph.ops if isinstance(op, WEIGHTED)]
        rows.append(
            {
                "seed": seed,
                "where": "host",
                "frame": model.plan.frame,
                "bits": {str(each): bits.count(each) for each in (8, 4, 2)},
                "gates": sum(isinstance(op, Mul) for op in qgraph.graph.ops),
                "equal": bool(np.array_equal(ran.outputs, outputs_of(qgraph, images))),
                "outputs": int(ran.outputs.size),
                "size_exact": ran.size == cost["work_bytes"],
                "inside": ran.touched <= model.plan.area_bytes,
                "constants_exact": model.constant_bytes == cost["constant_bytes"],
            }
        )
    return rows


def emulated_row(seed: int, core: str) -> dict[str, Any]:
    """What a network does on an emulated core."""
    graph = graph_of(seed)
    assert graph is not None
    qgraph, images, frame = random_quantized(graph, seed=seed), images_of(graph, seed)[:1], FRAMES[seed % 2]
    model = compile_network(qgraph, name="net", frame=frame)
    ran = run_network(CORES[core], "net", model.files, [images[0].tobytes()], outputs=graph.classes, operators=len(graph.ops))
    return {
        "seed": seed,
        "where": core,
        "frame": frame,
        "runtime": RUNTIME[frame],
        "equal": ran.outputs == (outputs_of(qgraph, images)[0].tobytes(),),
        "inside": ran.touched_bytes <= model.plan.area_bytes,
        "stack_bytes": ran.stack_bytes,
        "flash_bytes": ran.flash_bytes,
        "instructions": ran.instructions,
        "wide": model.sums != "right",
        **promised(graph, core, frame),
    }


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    host = [row for row in rows if row["where"] == "host"]
    lines = [
        "# Compiled networks with weights of 8, 4 and 2 bits and with attention",
        "",
        "Made by `python benchmarks/compiled_bits.py`, which says what is not measured; weights are random.",
        "",
        "| | |",
        "|---|--:|",
        f"| networks on this computer (gcc, sanitizers, all warnings as errors) | {len(host)} |",
        f"| operators with weights of 8, 4, 2 bits | {', '.join(str(sum(r['bits'][b] for r in host)) for b in ('8', '4', '2'))} |",
        f"| multiplications by a gate | {sum(r['gates'] for r in host)} |",
        f"| networks of which all output bytes equal the integer forward's | {sum(r['equal'] for r in host)} |",
        f"| output bytes compared | {sum(r['outputs'] for r in host):,} |",
        f"| work areas of the promised size | {sum(r['size_exact'] for r in host)} |",
        f"| nothing written beyond them | {sum(r['inside'] for r in host)} |",
        f"| constants of the promised size | {sum(r['constants_exact'] for r in host)} |",
        "",
        "| core | networks | outputs equal | inside the work area | stack within the promise | flash by promise, of those in 32 "
        "bits: worst |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for core in CORE_NAMES:
        ran = [row for row in rows if row["where"] == core]
        errors = [row["program_bytes_promised"] - row["flash_bytes"] for row in ran if not row["wide"]]
        worst = f"{max(errors, key=abs):+,} B of {len(errors)}" if errors else ""
        within = sum(row["stack_bytes"] <= row["stack_bytes_promised"] for row in ran)
        lines.append(f"| {core} | {len(ran)} | {sum(r['equal'] for r in ran)} | {sum(r['inside'] for r in ran)} | {within} | {worst} |")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--emulated", type=int, default=12)
    parser.add_argument("--rows", type=Path, default=ROOT / "results" / "benchmarks" / "compiled_bits.jsonl")
    options = parser.parse_args()
    rows = list(read_lines(options.rows)) if options.rows.exists() else []
    seeds: list[int] = []
    seed = 0
    while len(seeds) < options.networks:
        seeds += [seed] if graph_of(seed) is not None else []
        seed += 1
    done = {(row["seed"], row["where"]) for row in rows}
    missing = [seed for seed in seeds if (seed, "host") not in done]
    for start in range(0, len(missing), AT_ONCE):
        for row in host_rows(missing[start : start + AT_ONCE]):
            append_line(options.rows, row)
            rows.append(row)
    sizes = {seed: sum(t.elements for t in graph.tensors) for seed in seeds if (graph := graph_of(seed)) is not None}
    for seed in sorted(sizes, key=sizes.__getitem__)[: options.emulated]:
        for core in CORE_NAMES:
            if (seed, core) not in done:
                row = emulated_row(seed, core)
                append_line(options.rows, row)
                rows.append(row)
    write_atomic(options.rows.with_suffix(".md"), page(rows))
    print(page(rows))
    bad = [row for row in rows if not (row["equal"] and row["inside"] and row.get("size_exact", True) and row.get("constants_exact", True))]
    print(*map(json.dumps, bad[:10]), sep="\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
