"""Live comparison: the same time, the same cores, the same training code; ours against Optuna's samplers.

    python benchmarks/search_live.py --data ../shared/data/images/tin20 --name tin20
    python benchmarks/search_live.py --data ../shared/data/images/tin20 --name tin20-tiny --budget mcunet-tiny2 --workers 1 \\
        --strategies tinynas tpe nsga2 one-epoch random --front 4 --verify 2

What it measures. ``tinynas search`` runs for ``--timeout`` with each strategy and seed (``tpe`` is Optuna's multivariate
TPE under the same budget: what does not fit is refused before training, the rest is trained to the plain fidelity;
``one-epoch`` draws at random and trains each network on 2,250 images, so that it sees more of them).
Accuracies seen at different fidelities do not compare, so the networks of every front are then trained alike, by the
proxy recipe for ``--verify`` passes over the data, and the hypervolume of those accuracies is compared (accuracy from
chance to 1, log MACs over the range of all fronts). Rows go to results/benchmarks/search_live_<name>.jsonl; the script
continues where it stopped, and writes the table when all is there.

What it does not show. Full training of the fronts, and other budgets. Run it on a quiet machine: it is about time.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tinynas import pareto
from tinynas.data import open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.recipe import Recipe
from tinynas.runs import Run
from tinynas.search.settings import SearchSettings
from tinynas.search.training import Trainings

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "benchmarks"
#: What a row keeps of a network of the front.
KEPT = {"id": "id", "macs": "macs", "seen": "accuracy", "expected": "expected_accuracy"}
#: A plain sampler trains each proposal on 9,000 images, one pass over tin20: in ten minutes that lets it see about as many networks as
#: it needs to leave its random start (10). Ours gives networks 3,500 to 28,000, as they deserve.
PLAIN: dict[str, Any] = {"rungs": [4], "epoch_images": 2250, "choose_space": False}
#: What is no strategy of its own: ours, and settings beside :data:`PLAIN`'s. A quarter of the training for each of four times the networks.
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {"one-epoch": ("random", {"rungs": [1]})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--budget", default="stm32f746")
    parser.add_argument("--space", default="mcunet")
    parser.add_argument("--timeout", default="10m")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", nargs="*", default=["tinynas", "tpe"])
    parser.add_argument("--verify", type=int, default=6, help="passes over the training images for every network of a front")
    parser.add_argument("--front", type=int, default=6, help="networks of each front that are verified, evenly over log MACs")
    parser.add_argument("--search-only", action="store_true", help="search now, verify when run again without this")
    parser.add_argument("--cores", help="taskset list, such as 0,1")
    options = parser.parse_args()
    rows = RESULTS / f"search_live_{options.name}.jsonl"
    pin = ["taskset", "-c", options.cores] if options.cores else []
    done = {(row["strategy"], row["seed"]) for row in read_lines(rows)}
    for seed in range(options.seeds):
        for strategy in options.strategies:
            if (strategy, seed) in done:
                continue
            out = HERE.parent / "results" / f"live-{options.name}-{strategy}-{seed}"
            command = [*pin, sys.executable, "-m", "tinynas", "search", "--budget", options.budget, "--space", options.space]
            command += ["--data", options.data, "--timeout", options.timeout, "--workers", str(options.workers), "--seed", str(seed)]
            name, settings = OTHERS.get(strategy, (strategy, {}))
            command += ["--out", str(out), "--set", f"strategy={name}", "--json"]
            if strategy != "tinynas":
                command += [part for key, value in {**PLAIN, **settings}.items() for part in ("--set", f"{key}={json.dumps(value)}")]
            if not (out / "summary.json").exists():
                subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if options.search_only:
                continue
            trials = json.loads((out / "summary.json").read_text())["trials"]
            front = verify(Run.open(out), options, seed)
            append_line(rows, {"strategy": strategy, "seed": seed, "trials": trials, "front": front})
            print(strategy, seed, trials, [(f"{row['macs'] / 1e6:.1f} M", f"{row['verified']:.1%}") for row in front], flush=True)
    if not options.search_only:
        write_table(options, list(read_lines(rows)))


def verify(run: Run, options: argparse.Namespace, seed: int) -> list[dict]:
    """The front's networks trained alike: id, macs, the accuracy seen by the search and the verified one."""
    front = run.front()
    macs = np.log([row["macs"] for row in front])
    marks = np.linspace(macs.min(), macs.max(), min(options.front, len(front)))
    chosen = sorted({int(np.abs(macs - mark).argmin()) for mark in marks})
    recipe = SearchSettings().recipe.model_copy(update={"epochs": options.verify, "schedule": "cosine", "warmup_epochs": 0.5})
    jobs = [(str(run.path), front[index]["id"], recipe.model_dump_json(), 100 + seed, options.data) for index in chosen]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        # The dearest first: it would otherwise be trained last, beside an idle core.
        accuracies = pool.map(verified_accuracy, jobs[::-1], chunksize=1)[::-1]
    rows = []
    for i, accuracy in zip(chosen, accuracies, strict=True):
        row = {key: front[i].get(name) for key, name in KEPT.items()}
        rows.append({key: value for key, value in row.items() if value is not None} | {"verified": accuracy})
    return rows


def verified_accuracy(job: tuple[str, str, str, int, str]) -> float:
    """Validation accuracy of one network of a run, trained by ``recipe``."""
    path, net_id, recipe_json, seed, data = job
    recipe = Recipe.model_validate_json(recipe_json)
    run = Run.open(path)
    outcome = Trainings(open_data(data), recipe, seed, run.path / "verify").train(run.arch(net_id), recipe.epochs)
    return outcome.scores["accuracy"]


def write_table(options: argparse.Namespace, rows: list[dict]) -> None:
    """Hypervolume and the best accuracy by strategy, as Markdown."""
    classes = len(open_data(options.data).labels)
    macs = [math.log(net["macs"]) for row in rows for net in row["front"]]
    low, high = min(macs) - 0.05, max(macs) + 0.05
    by_strategy: dict[str, list[tuple[float, float, dict]]] = defaultdict(list)
    for row in rows:
        points = [(net["verified"], (high - math.log(net["macs"])) / (high - low)) for net in row["front"]]
        volume = pareto.hypervolume(points, (1 / classes, 0.0), (True, True)) / (1 - 1 / classes)
        by_strategy[row["strategy"]].append((volume, max(p[0] for p in points), row["trials"]))
    lines = [
        f"# Live searches on {options.name}: {options.timeout} on {options.workers} cores, budget {options.budget}, space {options.space}",
        "",
        f"Networks of each front trained alike for {options.verify} passes; validation accuracy. Made by "
        "`python benchmarks/search_live.py`.",
        "",
        "| strategy | seeds | hypervolume, mean (each) | best accuracy, mean (each) | networks trained | did not fit | known already |",
        "|---|---|---|---|---|---|---|",
    ]
    for strategy, values in by_strategy.items():
        volumes, best, trials = zip(*values, strict=True)
        counts = [", ".join(f"{one[name]:,}" for one in trials) for name in ("trained", "infeasible", "duplicate")]
        lines.append(
            f"| {strategy} | {len(values)} | {np.mean(volumes):.3f} ({', '.join(f'{v:.3f}' for v in volumes)}) | "
            f"{np.mean(best):.1%} ({', '.join(f'{v:.1%}' for v in best)}) | {' | '.join(counts)} |"
        )
    lines += [
        "",
        f"A plain sampler trained each network on {PLAIN['rungs'][-1] * PLAIN['epoch_images']:,} images. At most {options.front} "
        "networks of each front were verified, so the hypervolumes are lower than those of whole fronts.",
    ]
    if "one-epoch" in by_strategy:
        lines[-1] += f" one-epoch: drawn at random and trained on {PLAIN['epoch_images']:,} images each."
    earlier = [str(row["seed"]) for row in rows if row["strategy"] == "tinynas" and not any("expected" in net for net in row["front"])]
    if earlier:
        lines += ["", f"tinynas, seed {', '.join(earlier)}: handed over by the accuracy last seen, as an earlier version did."]
    text = "\n".join(lines) + "\n"
    print(text)
    write_atomic(RESULTS / f"search_live_{options.name}.md", text)


if __name__ == "__main__":
    main()
