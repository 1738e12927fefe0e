"""Networks per second of the estimators, beside fvcore and a count over torch modules, on one core.

Writes results/benchmarks/estimator_speed.{json,md}. fvcore is needed for this script only (pip install fvcore); where it
is missing its row is left out.

    OMP_NUM_THREADS=1 python benchmarks/estimator_speed.py
"""

from __future__ import annotations

import json
import platform
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinynas import __version__
from tinynas.api import load_space
from tinynas.cost import estimate, plan_greedy, plan_offline
from tinynas.cost.batch import BatchEstimator
from tinynas.graph import lower

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5


def rate(action: Callable[[], object], networks: int) -> float:
    """Networks per second of processor time, the best of :data:`REPEATS`: interruptions by others only ever slow it down."""
    best = float("inf")
    for _ in range(REPEATS):
        started = time.process_time()
        action()
        best = min(best, time.process_time() - started)
    return networks / best


def main() -> int:
    space = load_space("mcunet")
    generator = random.Random(2026)
    genotypes = [space.draw(lambda _, n: generator.randrange(n)) for _ in range(500)]
    arches = [space.decode(genotype, 2) for genotype in genotypes]
    graphs = [lower(arch) for arch in arches]
    many = np.stack([np.random.default_rng(0).integers(0, len(gene.choices), 200_000) for gene in space.genes], axis=1)
    rows: list[dict[str, Any]] = []

    def add(name: str, what: str, value: float) -> None:
        rows.append({"name": name, "what": what, "networks_per_second": round(value, 1) if value < 100 else round(value)})
        print(f"{name}: {value:,.0f} networks/s", file=sys.stderr)

    for runtime in ("tflm", "tflm-cmsis-nn", "tinyengine", "stedgeai"):
        batch = BatchEstimator(space, 2, runtime)
        batch.estimate(many[:1000])
        add(f"batch, {runtime}", "MACs, weights, exact file bytes, planned arena", rate(lambda b=batch: b.estimate(many), len(many)))
    add("estimate", "the same for one graph", rate(lambda: [estimate(graph) for graph in graphs], len(graphs)))
    add("lower + estimate", "the same from the architecture", rate(lambda: [estimate(lower(arch)) for arch in arches], len(arches)))
    add("plan_offline", "offsets of every tensor", rate(lambda: [plan_offline(graph) for graph in graphs], len(graphs)))
    add("plan_greedy", "TFLM's own planner", rate(lambda: [plan_greedy(graph) for graph in graphs], len(graphs)))
    _torch_rows(add, graphs[:20])
    out = ROOT / "results" / "benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, CPython {platform.python_version()}, numpy {np.__version__}"
    document = {"version": __version__, "machine": machine, "space": space.name, "rows": rows}
    (out / "estimator_speed.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [
        "# Estimator speed",
        "",
        f"Made by `benchmarks/estimator_speed.py`, tinynas {__version__}; one core, processor time, {machine};",
        f"networks of the space `{space.name}`, best of {REPEATS}.",
        "",
        "| what | gives | networks/s |",
        "|---|---|--:|",
        *[f"| {row['name']} | {row['what']} | {row['networks_per_second']:,} |" for row in rows],
        "",
        "fvcore and the module count give MACs only, and need the network built in PyTorch first (not timed here).",
    ]
    (out / "estimator_speed.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


def _torch_rows(add: Callable[[str, str, float], None], graphs: list[Any]) -> None:
    import warnings

    import torch

    from tinynas.model import Network

    torch.set_num_threads(1)
    modules = [(Network(graph).eval(), torch.zeros(1, graph.shape(0)[2], *graph.shape(0)[:2])) for graph in graphs]

    def count(network: torch.nn.Module, image: torch.Tensor) -> int:
        total = 0

        def hook(module: torch.nn.Module, _: Any, output: torch.Tensor) -> None:
            nonlocal total
            weight = module.weight
            total += output.numel() // output.shape[1] * weight.numel() if weight.dim() == 4 else weight.numel()

        wanted = (torch.nn.Conv2d, torch.nn.Linear)
        handles = [m.register_forward_hook(hook) for m in network.modules() if isinstance(m, wanted)]
        with torch.no_grad():
            network(image)
        for handle in handles:
            handle.remove()
        return total

    found = [count(network, image) for network, image in modules]
    expected = [estimate(graph).macs for graph in graphs]
    note = "MACs by forward hooks" + ("" if found == expected else " (differ from ours)")
    add("torch module count", note, rate(lambda: [count(network, image) for network, image in modules], len(modules)))
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        print("fvcore is not installed: its row is left out (pip install fvcore)", file=sys.stderr)
        return

    def fvcore() -> list[float]:
        totals = []
        for network, image in modules:
            analysis = FlopCountAnalysis(network, image)
            analysis.unsupported_ops_warnings(False)
            analysis.uncalled_modules_warnings(False)
            by_operator = analysis.by_operator()
            totals.append(by_operator["conv"] + by_operator["linear"])
        return totals

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found_by_fvcore = fvcore()
        note = "MACs by tracing" + ("" if found_by_fvcore == expected else " (differ from ours)")
        add("fvcore", note, rate(fvcore, len(modules)))


if __name__ == "__main__":
    sys.exit(main())
