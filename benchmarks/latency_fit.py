"""Fits cycles by operator kind for each core and runtime on all published latencies together, with leave-out errors and intervals.

Reads results/benchmarks/latency_measured.csv (figures as published, with their sources). Writes tinynas/cost/latency.json and
results/benchmarks/latency_fit.{json,md}. Needs the public models (``TINYNAS_TEST_DATA``, or ../shared/data beside the repository).

A measurement is ln(cycles) = ln(sum of instructions by kind * cycles an instruction + calls * cycles a call) + what its source is off.
Cycles an instruction are a product: the core and runtime's, and factors of the kind (of all runtimes, of the runtime, of the core and
runtime) that are pulled to 1, so that few rows borrow from many. It is a maximum a posteriori by Gauss-Newton. The strengths of the pulls
(PULLS) were chosen among a handful by the errors of networks left out, not by the fit's.

The TinyEngine README does not state the STM32H743's clock: 480 MHz, the chip's highest, is taken.

    python benchmarks/latency_fit.py
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tinynas.arch import Arch, load_arch
from tinynas.cost.latency import CALLS, KINDS, RATES, TERMS, features, macs_by_kind
from tinynas.cost.tflite import read_model, to_work
from tinynas.cost.work import Work, from_graph
from tinynas.graph import lower
from tinynas.space import make_divisible

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TINYNAS_TEST_DATA", ROOT.parent / "shared" / "data"))
MEASURED = ROOT / "results" / "benchmarks" / "latency_measured.csv"
TABLE = ROOT / "tinynas" / "cost" / "latency.json"
FILES = {
    "ad": "mlcommons-tiny__ad01_int8.tflite",
    "ic": "mlcommons-tiny__pretrainedResnet_quant.tflite",
    "kws": "mlcommons-tiny__kws_ref_model.tflite",
    "vww": "mlcommons-tiny__vww_96_int8.tflite",
    "person_detect": "tflite-micro__person_detect.tflite",
}
#: Rows of one operator kind of a network: TFLite's name -> tinynas's.
KIND = {
    "CONV_2D": "conv",
    "DEPTHWISE_CONV_2D": "dw",
    "FULLY_CONNECTED": "fc",
    "AVERAGE_POOL_2D": "avg_pool",
    "SOFTMAX": "softmax",
    "RESHAPE": "reshape",
    "ADD": "add",
}
#: Standard deviations of logarithms: kind's factor of all runtimes, of a runtime, of a core and runtime; a source; a measurement of
#: a network, and of a kind of its operators; cycles a call; and how much freer the kinds are on cores whose instructions were not counted.
PULLS = {"all": 0.1, "runtime": 0.08, "key": 0.05, "source": 0.3, "row": 0.05, "part": 0.2, "call": 0.7, "foreign": 4.0}
#: Cycles a call towards which those are pulled.
CALL_CYCLES = 500.0

#: Measurements that are shown beside the fit and are not in it: of an unknown version, years older than the others by its comparison,
#: whose runtime has become twice as fast since (MLPerf Tiny v0.7 to v1.2).
OUTSIDE = {(("cortex-m7", "stedgeai"), "Plumerai's comparison")}

Key = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """A measurement."""

    key: Key
    source: str
    net: str
    op: str
    x: np.ndarray
    """By TERMS."""
    cycles: float


def counts_for(key: Key) -> str:
    """The table of instructions that stands for the kernels of a core and runtime."""
    return "cortex-m4 reference" if key[1] == "tflm" else "cortex-m4 cmsis-nn"


def _mobilenet() -> Arch:
    """MobileNetV2 0.30 at 80x80, as Plumerai's comparison has it."""
    small, full = load_arch("mobilenetv2-0.35"), load_arch("mobilenetv2-1.0")
    assert small.stem is not None
    blocks = [
        block.model_copy(update={"out": make_divisible(wide.out * 0.3, 8)})  # type: ignore[union-attr]
        for block, wide in zip(small.blocks, full.blocks, strict=True)
    ]
    stem = small.stem.model_copy(update={"out": make_divisible(32 * 0.3, 8)})
    return small.model_copy(update={"height": 80, "width": 80, "blocks": tuple(blocks), "stem": stem})


@lru_cache(maxsize=32)
def work_of(net: str) -> Work:
    """The operators of a measured network."""
    if net in FILES:
        return to_work(read_model(DATA / "models" / FILES[net]))
    return from_graph(lower(_mobilenet() if net == "mobilenetv2-0.30@80" else load_arch(net)))


def rows() -> list[Row]:
    """All measurements."""
    found = []
    with MEASURED.open(newline="") as file:
        for row in csv.DictReader(file):
            key = row["core"], row["runtime"]
            if (key, row["source"]) in OUTSIDE:
                continue
            x = features(work_of(row["net"]), counts_for(key), KIND[row["op"]] if row["op"] else None)
            assert x is not None, row
            cycles = float(row["ms"]) * float(row["clock_mhz"]) * 1000
            found.append(Row(key, row["source"], row["net"], row["op"], np.array(x), cycles))
    return found


class Fit:
    """The cycles of every core and runtime of ``rows``."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.keys = list(dict.fromkeys(row.key for row in rows))
        runtimes = list(dict.fromkeys(key[1] for key in self.keys))
        sources = list(dict.fromkeys((row.key, row.source) for row in rows))
        count, rates = len(TERMS), len(RATES)
        self._key = {key: number for number, key in enumerate(self.keys)}
        self._all = len(self.keys)
        at = self._all + rates
        self._runtime = {runtime: at + count * number for number, runtime in enumerate(runtimes)}
        at += count * len(runtimes)
        self._own = {key: at + count * number for number, key in enumerate(self.keys)}
        at += count * len(self.keys)
        self._source = {source: at + number for number, source in enumerate(sources)}
        deviation = np.full(at + len(sources), PULLS["source"])
        deviation[: self._all] = 5.0
        deviation[self._all : self._all + rates] = PULLS["all"]
        for start in self._runtime.values():
            deviation[start : start + rates] = PULLS["runtime"]
            deviation[start + rates : start + count] = PULLS["call"]
        for key, start in self._own.items():
            deviation[start : start + rates] = PULLS["key"] * (1.0 if key[0].startswith("cortex-") else PULLS["foreign"])
            deviation[start + rates : start + count] = PULLS["call"] * (1.0 if key[0].startswith("cortex-") else PULLS["foreign"])
        self._precision = deviation**-2
        self._theta = self._solve()

    def _parts(self, theta: np.ndarray, key: Key) -> np.ndarray:
        rates = len(RATES)
        start, own = self._runtime[key[1]], self._own[key]
        logs = theta[start : start + len(TERMS)] + theta[own : own + len(TERMS)]
        logs[:rates] += theta[self._key[key]] + theta[self._all : self._all + rates]
        cycles = np.exp(logs)
        cycles[rates:] *= CALL_CYCLES
        return cycles

    def _expected(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ln of cycles of each row, its derivatives)."""
        values, slopes = np.zeros(len(self.rows)), np.zeros((len(self.rows), len(theta)))
        rates = len(RATES)
        for number, row in enumerate(self.rows):
            parts = self._parts(theta, row.key) * row.x
            total, source = parts.sum(), self._source[row.key, row.source]
            shares = parts / total
            values[number] = math.log(total) + theta[source]
            slopes[number, source] = 1.0
            slopes[number, self._key[row.key]] = shares[:rates].sum()
            slopes[number, self._all : self._all + rates] = shares[:rates]
            for start in (self._runtime[row.key[1]], self._own[row.key]):
                slopes[number, start : start + len(TERMS)] = shares
        return values, slopes

    def _solve(self) -> np.ndarray:
        measured = np.log([row.cycles for row in self.rows])
        weights = np.array([PULLS["part" if row.op else "row"] for row in self.rows]) ** -2
        theta = np.zeros(len(self._precision))
        for key, number in self._key.items():
            theta[number] = np.median([math.log(row.cycles / row.x[: len(RATES)].sum()) for row in self.rows if row.key == key])

        def loss(theta: np.ndarray) -> float:
            return float((weights * (measured - self._expected(theta)[0]) ** 2).sum() + (self._precision * theta**2).sum())

        current = loss(theta)
        for _ in range(60):
            values, slopes = self._expected(theta)
            curvature = (slopes.T * weights) @ slopes + np.diag(self._precision)
            step = np.linalg.solve(curvature, slopes.T @ (weights * (measured - values)) - self._precision * theta)
            while (new := loss(theta + step)) > current and np.abs(step).max() > 1e-6:
                step = step / 2
            if current - new < 1e-7:
                break
            theta, current = theta + step, new
        return theta

    def cycles(self, key: Key, source: str | None = None) -> np.ndarray:
        """By TERMS, for a source that is not known, or for one that is."""
        known = self._source.get((key, source or ""))
        parts = self._parts(self._theta, key)
        return parts if known is None else parts * math.exp(self._theta[known])


def old_fit(samples: Sequence[Row]) -> np.ndarray:
    """What was before (tinynas 0.3.0): cycles a MAC by kind, by relative least squares pulled to their mean; each key by itself."""
    a = np.stack([np.array(macs_by_kind(work_of(row.net).pieces), float) / row.cycles for row in samples])
    mean, kinds = float((1 / a.sum(1)).mean()), len(KINDS)
    design = np.concatenate([a.sum(1, keepdims=True), a], axis=1) * mean
    pull = np.concatenate([np.zeros((kinds, 1)), np.sqrt(0.02 * len(samples)) * np.eye(kinds)], axis=1)
    solution = np.linalg.lstsq(np.concatenate([design, pull]), np.concatenate([np.ones(len(samples)), np.zeros(kinds)]), rcond=None)[0]
    return np.maximum(mean * (solution[0] + solution[1:]), 0.0)


@dataclass(frozen=True)
class Left:
    """A network's measurement that the fit has not seen."""

    row: Row
    group: str
    """What was left out with it."""
    now: float
    """ln(predicted / measured)."""
    before: float
    """The same of what was before."""
    known: float
    """The same as ``now``, but with what the rest of the measurement's source says of that source."""


def leave_out(samples: Sequence[Row], group: Callable[[Row], str], gone: Callable[[Row, Row], bool]) -> list[Left]:
    """Every network predicted without the rows that are ``gone`` with it; not where nothing is left of its core and runtime."""
    found = []
    whole = [row for row in samples if not row.op]
    fits: dict[tuple[Key, str], tuple[Fit, np.ndarray] | None] = {}
    for row in whole:
        name = row.key, group(row)
        if name not in fits:
            rest = [other for other in samples if not gone(row, other)]
            own = [other for other in rest if other.key == row.key and not other.op]
            fits[name] = (Fit(rest), old_fit(own)) if own else None
        if (fitted := fits[name]) is not None:
            fit, old = fitted
            now = math.log(float(fit.cycles(row.key) @ row.x) / row.cycles)
            before = math.log(max(float(old @ np.array(macs_by_kind(work_of(row.net).pieces), float)), 1.0) / row.cycles)
            known = math.log(float(fit.cycles(row.key, row.source) @ row.x) / row.cycles)
            found.append(Left(row, group(row), now, before, known))
    return found


def without_sources(samples: Sequence[Row]) -> list[Left]:
    """Each source left out of its core and runtime."""
    return leave_out(samples, lambda row: row.source, lambda row, other: row.key == other.key and row.source == other.source)


def without_networks(samples: Sequence[Row]) -> list[Left]:
    """Each network left out of every core and runtime."""
    return leave_out(samples, lambda row: row.net, lambda row, other: row.net == other.net)


#: Residuals' worth of weight that all cores and runtimes have in the deviation of one.
SHARED = 4.0


def deviations(left: Sequence[Left], keys: Sequence[Key]) -> dict[Key, float]:
    """Standard deviation of ln(predicted / measured) of each core and runtime: its own residuals and, weighing less, those of all."""
    pooled = float(np.mean([min(one.now**2, 1.0) for one in left]))
    found = {}
    for key in keys:
        own = [one.now**2 for one in left if one.row.key == key]
        found[key] = math.sqrt((SHARED * pooled + sum(own)) / (SHARED + len(own)))
    return found


def widths(left: Sequence[Left], keys: Sequence[Key]) -> dict[Key, float]:
    """ln of the factor within which nine of ten residuals of each core and runtime lie: conformal, with :func:`deviations` as scale."""
    scale = deviations(left, keys)
    scores = sorted(abs(one.now) / scale[one.row.key] for one in left)
    rank = min(math.ceil(0.9 * (len(scores) + 1)), len(scores)) - 1
    return {key: scores[rank] * scale[key] for key in keys}


def covered(left: Sequence[Left], all_left: Sequence[Left]) -> list[bool]:
    """Whether each lies in the interval that the residuals of other groups give."""
    found = []
    for one in left:
        rest = [other for other in all_left if not (other.row.key == one.row.key and other.group == one.group)]
        found.append(abs(one.now) <= widths(rest, [one.row.key, *{other.row.key for other in rest}])[one.row.key])
    return found


def stated(samples: Sequence[Row]) -> list[Key]:
    """The cores and runtimes that are told to users: one figure alone cannot say how far off it is."""
    return sorted({row.key for row in samples if sum(other.key == row.key and not other.op for other in samples) > 1})


def error(logs: Sequence[float]) -> float:
    """Mean |predicted - measured| / measured."""
    return float(np.mean([abs(math.exp(value) - 1) for value in logs]))


def main() -> int:
    samples = rows()
    fit = Fit(samples)
    sources, nets = without_sources(samples), without_networks(samples)
    both = [*sources, *nets]
    width = widths(both, fit.keys)
    made, result = [], []
    for key in stated(samples):
        own = [one for one in nets if one.row.key == key]
        names = list(dict.fromkeys(row.source for row in samples if row.key == key))
        cycles = {term: float(f"{value:.5g}") for term, value in zip(TERMS, fit.cycles(key), strict=True)}
        # One network alone says nothing about others: half the interval stands in.
        known = error([one.now for one in own]) if own else math.exp(width[key] / 2) - 1
        made.append(
            {
                "core": key[0],
                "runtime": key[1],
                "counts": counts_for(key),
                "cycles": cycles,
                "spread": float(f"{math.exp(width[key]):.4g}"),
                "error": round(known, 4),
                "source": "; ".join(names),
            }
        )
    for what, left in (("source", sources), ("network", nets)):
        inside = covered(left, both)
        for one, holds in zip(left, inside, strict=True):
            result.append(
                {
                    "left_out": what,
                    "core": one.row.key[0],
                    "runtime": one.row.key[1],
                    "source": one.row.source,
                    "net": one.row.net,
                    "before": round(math.exp(one.before) - 1, 4),
                    "now": round(math.exp(one.now) - 1, 4),
                    "source_known": round(math.exp(one.known) - 1, 4),
                    "in_interval": holds,
                }
            )
    TABLE.write_text(json.dumps(made, indent=1) + "\n")
    out = ROOT / "results" / "benchmarks"
    (out / "latency_fit.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "latency_fit.md").write_text(report(made, result, samples, fit))
    return 0


HEAD = """# Latency: cycles from executed instructions, fitted on all published measurements together

Made by `benchmarks/latency_fit.py` from `latency_measured.csv` (the figures as published). Model: cycles of an operator = instructions
of its kernel by the formulas of `tinynas/cost/instructions.json` x cycles an instruction (of the core and runtime, and of the operator's
kind) + cycles a call. TinyEngine and ST's runtime are closed: they are as if they ran CMSIS-NN's kernels at other cycles. Factors of the
kinds are pulled to 1, within all runtimes, the runtime, and the core and runtime; what a source is off as a whole is a factor of its own.

Errors are of what the fit has not seen: a *source* left out of its core and runtime (is another board, with another build, predicted?),
or a *network* left out everywhere (is another network predicted?); "its source known" says how well that network is predicted where the
same board is known from other networks, which is what a budget's `latency: mine.csv` gives. Before: cycles a MAC by kind, each core and
runtime by itself (0.3.0), under the same omissions. The interval is meant to hold nine of ten; "inside" is how many it holds of those
that were left out, with intervals from the others' errors.
"""
TAIL = """
## What it does not show

- Two published builds of the same kernels on the same core are up to {spread:.1f} times apart (`tflm` on the ESP32: esp-nn's C kernels as
  ESP-IDF 5.5 builds them, and the README of esp-tflite-micro). No model of the network can tell which build a user has: one measurement
  of their own does (`latency: mine.csv`), and until then the interval says it.
- `cortex-m4` with `tflm` (MLPerf Tiny v0.5) took *fewer cycles than today's reference kernels execute instructions*, {ratio}: that build
  ran other code (TFLM 2.3.1 of 2021, another compiler, other flags), and a Cortex-M4 cannot do more than one instruction a cycle. The
  reference kernels of today on a Cortex-M4 should be expected at the upper end of the interval or above it. Cortex-M7's `tflm` figures are
  TinyEngine's, 2.6 to 3 cycles an instruction. So m4's look five times below m7's: builds differ, not cores.
- Two to three versions of a closed runtime on four networks do not tell four kinds of operators apart: a network of another kind than those
  is a third off with `stedgeai`. Only X-CUBE-AI 9.0 and later is in the fit (7.1 took 2.9 times as long on vww).
- Not in the fit: ONNC's rows (MLPerf Tiny v1.1 Skymizer, Nuvoton), whose vww takes fewer cycles than TFLM's CMSIS-NN kernels execute
  instructions, so that other kernels must have run; Renesas's, which do not name a runtime; repeats of Krai's rows (OctoML, cTuning);
  Plumerai's and Bosch's own engines. ST's model zoo states no latencies in the files that are here.
- The clock of TinyEngine's STM32H743 is not stated: 480 MHz, its highest, is taken. Plumerai's comparison on a stated 216 MHz is 17 %
  faster than the fit of the others expects.
- The ESP32-S3 has one figure with esp-nn and one without: they are in the fit, and no time is said for it.
- Memory is not modelled: weights in slow external flash, caches that are too small, PSRAM.
"""


def report(made: list[dict[str, Any]], result: list[dict[str, Any]], samples: list[Row], fit: Fit) -> str:
    """The page."""
    lines = [HEAD]

    def share(rows: list[dict[str, Any]], name: str) -> str:
        return f"{np.mean([abs(row[name]) for row in rows]):.0%}" if rows else ""

    for what in ("source", "network"):
        lines += [f"## A {what} left out", ""]
        lines += ["| core | runtime | figures | before | now | its source known | inside | each |", "|---|---|--:|--:|--:|--:|--:|---|"]
        chosen = [row for row in result if row["left_out"] == what]
        for key in sorted({(row["core"], row["runtime"]) for row in chosen}):
            own = [row for row in chosen if (row["core"], row["runtime"]) == key]
            each = ", ".join(f"{row['net']} {row['now']:+.0%}" for row in own)
            known = share(own, "source_known") if what == "network" else ""
            inside = f"{sum(row['in_interval'] for row in own)} of {len(own)}"
            lines.append(
                f"| {key[0]} | {key[1]} | {len(own)} | {share(own, 'before')} | {share(own, 'now')} | {known} | {inside} | {each} |"
            )
        for title, own in (
            ("open kernels on Cortex-M", [r for r in chosen if r["runtime"].startswith("tflm") and r["core"].startswith("cortex")]),
            ("all", chosen),
        ):
            known = share(own, "source_known") if what == "network" else ""
            inside = f"{np.mean([row['in_interval'] for row in own]):.0%}"
            lines.append(f"| **{title}** | | {len(own)} | {share(own, 'before')} | {share(own, 'now')} | {known} | {inside} | |")
        lines.append("")
    lines += ["Mean |error| of each; target was 15 %, and 88 % inside.", "", "## Coefficients", ""]
    lines += ["| core | runtime | " + " | ".join(RATES) + " | interval | sources |", "|---|---|" + "--:|" * (len(RATES) + 1) + "---|"]
    for model in made:
        cycles = " | ".join(f"{model['cycles'][term]:.2f}" for term in RATES)
        lines.append(f"| {model['core']} | {model['runtime']} | {cycles} | / x {model['spread']:.2f} | {model['source']} |")
    calls = {(model["core"], model["runtime"]): model["cycles"] for model in made}["xtensa-lx6", "tflm-esp-nn"]
    fixed = ", ".join(f"{term} {calls[term] / 240:.0f}" for term in CALLS)
    lines += ["", f"Cycles an instruction. Microseconds a call on the ESP32 at 240 MHz with esp-nn: {fixed}.", ""]
    by = {(row.key, row.source): row for row in samples if row.net == "person_detect" and not row.op}
    lx6 = [row.cycles for (key, _), row in by.items() if key == ("xtensa-lx6", "tflm")]
    old = [row for row in samples if row.key == ("cortex-m4", "tflm")]
    ratio = ", ".join(f"{row.net} {row.cycles / row.x[: len(RATES)].sum():.2f}" for row in old) + " cycles an instruction"
    return "\n".join(lines) + TAIL.format(spread=max(lx6) / min(lx6), ratio=ratio)


if __name__ == "__main__":
    sys.exit(main())
