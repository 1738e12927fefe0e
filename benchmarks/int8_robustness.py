"""What export survives: random architectures and broken files.

Writes results/benchmarks/int8_robustness.{json,md}:

* random architectures with random weights: written, loaded by LiteRT (all resolvers) and tflite-micro, outputs of the
  PyTorch integer forward compared with tflite-micro's to the bit, file size and arena with what was promised
  before training, the arena and outputs with and without the offline plan;
* broken files: bit flips, overwritten words, cuts, swaps, foreign content; each must be refused with a ModelFileError
  or run, in a child process, without harm to this one.

    python benchmarks/int8_robustness.py [--networks 200] [--files 200] [--out results/benchmarks]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinynas import __version__
from tinynas.cost import estimate, plan_offline
from tinynas.errors import ModelFileError
from tinynas.export import build_model
from tinynas.export.sandbox import inspect, kernels_name, load_litert, run_litert, run_tflm
from tinynas.export.tflite import ModelMeta, dummy_file, serialize
from tinynas.files import write_atomic
from tinynas.graph import Graph
from tinynas.model import Network
from tinynas.quantize import FakeQuantNetwork
from tinynas.quantize.floats import pixels
from tinynas.quantize.norms import reestimate_norms

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from corrupt import broken_files  # noqa: E402
from int8_cases import random_graph  # noqa: E402

IMAGES = 4


def random_network(graph: Graph, seed: int, images: np.ndarray) -> Network:
    network = Network(graph, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.3, 1.7, generator=generator)
                module.bias.normal_(0.0, 0.5, generator=generator)
            elif isinstance(module, torch.nn.Linear):
                module.weight.normal_(0.0, 0.5, generator=generator)
    reestimate_norms(network, images)
    return network.eval()


def one_network(seed: int) -> dict[str, Any]:
    graph = random_graph(seed, small=seed % 4 != 0)
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (16, *graph.input.shape), dtype=np.uint8)
    exported = build_model(random_network(graph, seed, images), images)
    assert exported.qgraph is not None
    few = images[:IMAGES]
    inspected = inspect(exported.model)
    measured = run_tflm(inspected, few)
    ours = FakeQuantNetwork(exported.qgraph)(pixels(few)).numpy().astype(np.int8)
    plain = run_tflm(serialize(exported.qgraph, ModelMeta(graph.arch.id if graph.arch else "")), few)
    distance = np.abs(ours.astype(np.int64) - measured.outputs)
    cost = estimate(graph)
    return {
        "seed": seed,
        "operators": len(graph.ops),
        "macs": cost.macs,
        "bytes": int(distance.size),
        "different": int((distance > 0).sum()),
        "most": int(distance.max()),
        "litert": not any(load_litert(inspected).values()),
        "litert_reference_different": int((run_litert(inspected, few) != measured.outputs).sum()),
        "size_exact": len(exported.model) == cost.flash_bytes,
        "arena_exact": measured.head_bytes + measured.tail_bytes == cost.host_arena_bytes,
        "plan_same_outputs": bool((plain.outputs == measured.outputs).all()),
        "plan_saves": plain.head_bytes - measured.head_bytes,
    }


def one_file(model: bytes) -> str:
    try:
        inspected = inspect(model)
    except ModelFileError:
        return "refused on reading"
    images = np.full((1, *inspected.facts.input_shape), 128, np.uint8)
    outcome = "ran"
    for run in (run_tflm, run_litert):
        try:
            run(inspected, images)
        except ModelFileError as error:
            outcome = "crashed the child process, refused" if "crashed" in error.message else "refused by a runtime"
    return outcome


def page(document: dict[str, Any]) -> str:
    found = document["summary"]
    rows = "\n".join(f"| {key.replace('_', ' ')} | {value:,} |" for key, value in found.items())
    files = "\n".join(f"| {key} | {value} |" for key, value in sorted(document["files"].items()))
    return f"""# What export survives

Made by `python benchmarks/int8_robustness.py`, tinynas {document["tinynas"]}, {document["kernels"]}, in {document["seconds"]:.0f} s.

## Random architectures with random weights

Every operator, odd and non-square inputs, grayscale, strides 1 to 3, kernels 1 to 7, 1 to 257 classes. Compared bytes are
outputs of the PyTorch integer forward against tflite-micro's.

| figure | value |
|---|---|
{rows}

## Broken files

Made from a good one: bit flips, overwritten words, cuts, swaps, random stretches, foreign content.

| outcome | files |
|---|---|
{files}

This process survived all of them. What this does not show: files made to attack rather than broken by accident.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    rows = [one_network(2000 + i) for i in range(options.networks)]
    graph = random_graph(1)
    good = dummy_file(graph, plan=plan_offline(graph))
    files = Counter(one_file(model) for _, model in broken_files(good, count=options.files))
    document: dict[str, Any] = {
        "tinynas": __version__,
        "kernels": kernels_name(),
        "seconds": time.perf_counter() - started,
        "summary": {
            "networks": len(rows),
            "compared_bytes": sum(r["bytes"] for r in rows),
            "bytes_that_differ": sum(r["different"] for r in rows),
            "largest_difference": max(r["most"] for r in rows),
            "load_in_LiteRT_with_every_resolver": sum(r["litert"] for r in rows),
            "sizes_exact": sum(r["size_exact"] for r in rows),
            "arenas_exact_on_the_host": sum(r["arena_exact"] for r in rows),
            "plans_with_the_same_outputs": sum(r["plan_same_outputs"] for r in rows),
            "plans_that_save_memory": sum(r["plan_saves"] > 0 for r in rows),
            "plans_that_cost_memory": sum(r["plan_saves"] < 0 for r in rows),
            "bytes_in_which_LiteRT_reference_kernels_differ": sum(r["litert_reference_different"] for r in rows),
        },
        "files": dict(files),
        "networks": rows,
    }
    write_atomic(options.out / "int8_robustness.json", json.dumps(document, indent=1) + "\n")
    write_atomic(options.out / "int8_robustness.md", page(document))
    print(json.dumps({**document["summary"], **document["files"]}, indent=1))


if __name__ == "__main__":
    main()
