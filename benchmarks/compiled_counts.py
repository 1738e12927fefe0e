"""The formula of the executed instructions of compiled networks: tinynas/cost/compiled_instructions.json, from counted operators.

The counts are those of results/benchmarks/compiled.json: every operator of small networks on each emulated core, counted from step to
step (benchmarks/compiled_equal.py). What drives the steps is the rest of the whole inference, less the conversion of the pixels; it is
shared out by steps. A formula has a nonnegative number of instructions for each turn of a kernel's loops (those of
tinynas/cost/compiled_loops.py), fitted by relative least squares on every second network; errors are those of the other networks, operator
by operator and as a whole. Networks of which a sum is not shifted right are left out.

    python benchmarks/compiled_counts.py [--results results/benchmarks/compiled.json]

Writes the table, and results/benchmarks/compiled_counts.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

from latency_counts import nonnegative  # noqa: E402

from tinynas.cost.compiled_loops import loop_group, loops  # noqa: E402

TABLE = ROOT / "tinynas" / "cost" / "compiled_instructions.json"
#: Operators of a group that a fit needs: of fewer, instructions are not known.
ENOUGH = 4
INTRO = """# Executed instructions of compiled networks, counted and by formula

Made by `benchmarks/compiled_counts.py` from the counts of `benchmarks/compiled_equal.py` (qemu-system-arm, `-icount`). A formula has a
number of instructions for each turn of a kernel's loops, fitted on every second network; errors are those of the others. What drives the
steps is in; the conversion of the pixels is not, as it is not in TFLM's (instructions a byte: {convert}). Networks of
which a sum is not shifted right execute more (a trained one 6 %), as do those whose sums may leave +-2^30, and are left out. Of kinds of
operators that the table below lacks (fewer
than {enough} to fit; averages, and maxima of windows that overlap) instructions are not known. Table:
`tinynas/cost/compiled_instructions.json`; terms: `loops` in `tinynas/cost/compiled_loops.py`.
"""


@dataclass(frozen=True)
class Counted:
    """A network on a core."""

    name: str
    operators: list[dict[str, Any]]
    by_operator: np.ndarray
    """Instructions of each operator, from step to step."""
    steps: np.ndarray
    """Of each operator."""
    whole: float
    """Instructions of the inference."""
    input_bytes: int


def counted(document: dict[str, Any], core: str) -> list[Counted]:
    """The networks that were counted on ``core``, in 32 bits."""
    found = []
    for row in document["emulated"]:
        if row["core"] == core and not row["wide"]:
            ops = document["operators"][row["name"]]
            steps = np.array([_loops(op)["step"] for op in ops], float)
            found.append(Counted(row["name"], ops, np.array(row["by_operator"], float), steps, row["instructions"], row["input_bytes"]))
    return found


def _loops(op: dict[str, Any]) -> dict[str, Any]:
    return loops(op["kind"], tuple(op["kernel"]), tuple(op["stride"]), op["sources"], op["out"])


def _group(op: dict[str, Any]) -> str:
    return loop_group(op["kind"], tuple(op["kernel"]), tuple(op["stride"]))


def conversion(networks: list[Counted]) -> float:
    """Instructions for each byte of an input: what grows with it beside the operators."""
    rest = np.array([n.whole - n.by_operator.sum() for n in networks])
    terms = np.array([[n.input_bytes, n.steps.sum(), 1.0] for n in networks])
    return float(np.linalg.lstsq(terms, rest, rcond=None)[0][0])


def driven(network: Counted, convert: float) -> np.ndarray:
    """Instructions of each operator with its share of what drives the steps."""
    rest = network.whole - network.by_operator.sum() - convert * network.input_bytes
    return network.by_operator + rest * network.steps / network.steps.sum()


def fit(networks: list[Counted], convert: float) -> tuple[dict[str, dict[str, float]], dict[str, list[float]], list[float]]:
    """(group -> term -> instructions, group -> errors of operators that were held back, errors of networks that were)."""
    samples: dict[str, list[tuple[int, dict[str, Any], float]]] = {}
    for number, network in enumerate(networks):
        for op, target in zip(network.operators, driven(network, convert), strict=True):
            samples.setdefault(_group(op), []).append((number, _loops(op), float(target)))
    made: dict[str, dict[str, float]] = {}
    errors: dict[str, list[float]] = {}
    for group, rows in samples.items():
        matrix = np.array([list(map(float, terms.values())) for _, terms, _ in rows])
        target = np.array([count for _, _, count in rows])
        seen = np.array([number % 2 == 0 for number, _, _ in rows])
        if seen.sum() < ENOUGH:
            continue
        x = nonnegative(matrix[seen] / target[seen, None], np.ones(int(seen.sum())))
        made[group] = {term: float(f"{value:.6g}") for term, value in zip(rows[0][1], x, strict=True) if value > 0}
        errors[group] = list(matrix[~seen] @ x / target[~seen] - 1)
    whole = []
    for network in networks[1::2]:
        if any(_group(op) not in made for op in network.operators):
            continue
        found = sum(sum(each * _loops(op)[term] for term, each in made[_group(op)].items()) for op in network.operators)
        whole.append(found / float(driven(network, convert).sum()) - 1)
    return made, errors, whole


def other_kernels() -> dict[str, list[float]]:
    """Core -> published times of TFLM's reference kernels and of CMSIS-NN's there, each predicted by the cycles an instruction of the
    other: how far off (a factor above 1)."""
    from latency_fit import rows

    from tinynas.cost.latency import models

    found: dict[str, list[float]] = {}
    pairs = {"tflm": "tflm-cmsis-nn", "tflm-cmsis-nn": "tflm"}
    for row in rows():
        core, runtime = row.key
        if not row.op and runtime in pairs and {(core, r) for r in pairs} <= set(models()):
            ratio = float(row.x @ np.array(models()[core, pairs[runtime]].cycles)) / row.cycles
            found.setdefault(core, []).append(max(ratio, 1 / ratio))
    return found


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--results", type=Path, default=ROOT / "results" / "benchmarks" / "compiled.json")
    given = parse.parse_args()
    document = json.loads(given.results.read_text())
    cores = list(dict.fromkeys(row["core"] for row in document["emulated"]))
    table, page, wholes, converts = {}, {}, {}, {}
    for core in cores:
        networks = counted(document, core)
        converts[core] = conversion(networks)
        made, errors, wholes[core] = fit(networks, converts[core])
        page[core] = errors
        operators = sum(len(n.operators) for n in networks)
        table[f"{core} compiled"] = {
            "source": f"emulated, qemu -icount; {operators} operators of {len(networks)} compiled networks",
            "groups": made,
            "error": {g: [round(float(np.abs(e).mean()), 4), round(float(np.abs(e).max()), 4)] for g, e in errors.items() if e},
        }
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    convert = ", ".join(f"{core} {value:.1f}" for core, value in converts.items())
    lines = [INTRO.format(convert=convert, enough=ENOUGH), "## Operators held back: mean (largest) error of the formula, and how many", ""]
    lines += ["| operators | " + " | ".join(cores) + " |", "|---|" + "--:|" * len(cores)]
    for group in dict.fromkeys(group for errors in page.values() for group in errors):
        cells = []
        for core in cores:
            e = np.abs(page[core].get(group, []))
            cells.append(f"{e.mean():.1%} ({e.max():.1%}) of {len(e)}" if len(e) else "")
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    lines += ["", "## Whole networks held back", "", "| core | networks | mean error | largest |", "|---|--:|--:|--:|"]
    for core, found in wholes.items():
        lines.append(f"| {core} | {len(found)} | {np.abs(found).mean():.1%} | {max(found, key=abs):+.1%} |")
    lines += [
        "",
        "## Why there is no time",
        "",
        "No time of a compiled network was published on any board. Cycles an instruction of other kernels on the same core do not stand in",
        "for it: TFLM's reference kernels and CMSIS-NN's, each timed by the cycles an instruction of the other, are off by these factors",
        "(published times, whose compilers and memories differ too):",
        "",
        *(f"- {core}: {min(each):.1f} to {max(each):.1f}, {len(each)} times" for core, each in other_kernels().items()),
        "",
        "An interval that holds these says nothing. So `latency_ms` of a compiled network is null, and its instructions are said; with",
        "times of one's own in a budget (`latency: mine.csv`) it is estimated from these instructions.",
    ]
    (ROOT / "results" / "benchmarks" / "compiled_counts.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
