"""A user's own measurements: a CSV of networks and milliseconds, and the latency model that they make of the published one.

    net,ms,op
    mcunet-tiny2,41.3,
    nets/person.tflite,655.1,
    nets/person.tflite,409.9,CONV_2D

``net`` is a zoo name, an arch file or a .tflite (paths from the CSV's folder); ``op``, which may be left out, an operator of TFLite: the
row is then all its calls in one inference. What is kept of a row is what its time is explained by, so that a copy needs no other file.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tinynas.arch import load_arch
from tinynas.config import Config, read_text
from tinynas.cost.file_work import SHORT
from tinynas.cost.latency import CALLS, COUNTED, RATES, TERMS, LatencyModel, features, latency_model, why_untimed
from tinynas.cost.tflite import read_model, to_work
from tinynas.cost.work import Work, from_graph
from tinynas.errors import ConfigError, Fault, UserError
from tinynas.foreign import what_is
from tinynas.graph import lower

#: Standard deviations of logarithms: a measurement of a network, and of its operators of one kind; how much a kind of operators, and a
#: call, is off on a board beside the whole; and the whole where nothing was published.
ROW, PART, KIND, CALL, UNKNOWN = 0.03, 0.1, 0.15, 0.7, 3.0
#: Cycles an instruction, and a call, where nothing was published of the core and runtime.
_PLAIN = (1.0,) * len(RATES) + (500.0,) * len(CALLS)
#: Milliseconds of an inference on a board that are believed: from some cycles to a day. All else is a slip of the pen.
LEAST_MS, MOST_MS = 1e-4, 86_400_000.0


def _of_work(terms: tuple[float, ...]) -> tuple[float, ...]:
    if len(terms) != len(TERMS) or min(terms) < 0 or not any(terms):
        rule = "must be {count} numbers from 0, not all 0, as tinynas writes them; name your CSV instead"
        raise PydanticCustomError("terms", rule, {"count": len(TERMS)})
    return terms


class Measured(Config):
    """A measurement of the user's own."""

    net: str
    """As the CSV names it."""
    ms: Annotated[float, Field(ge=LEAST_MS, le=MOST_MS)]
    """Milliseconds of one inference, or of all calls of ``op`` in it."""
    op: str = ""
    """An operator of TFLite such as CONV_2D; empty for the whole network."""
    terms: Annotated[tuple[float, ...], AfterValidator(_of_work)]
    """Instructions and calls by :data:`tinynas.cost.latency.TERMS`."""


def counts_name(core: str, runtime: str) -> str:
    """The table of instructions by which times of ``runtime`` on ``core`` are explained."""
    model = latency_model(core, runtime)
    if model is not None:
        return model.counts
    return "cortex-m4 reference" if runtime.partition("@")[0] == "tflm" else "cortex-m4 cmsis-nn"


def read_measured(path: Path, core: str, runtime: str) -> tuple[Measured, ...]:
    """The rows of a CSV. Raises ConfigError with all faulty lines."""
    faults, found = [], []
    works: dict[str, Work] = {}
    for number, row in _rows(path):
        place, net, text = f"line {number}", (row["net"] or "").strip(), (row["ms"] or "").strip()
        kind = (row.get("op") or "").strip()
        if more := row.get(None):
            faults.append(Fault(place, ",".join(more), "has more cells than line 1 has columns", "write numbers with a decimal point"))
            continue
        try:
            ms = float(text)
        except ValueError:
            ms = math.nan
        if not (math.isfinite(ms) and ms > 0):
            faults.append(Fault(f"{place}, ms", text, "must be a number of milliseconds above 0"))
            continue
        if not LEAST_MS <= ms <= MOST_MS:
            rule = f"no inference takes so {'long' if ms > MOST_MS else 'short'}"
            faults.append(Fault(f"{place}, ms", text, rule, f"give milliseconds, {LEAST_MS:g} to {MOST_MS:,.0f} (a day)"))
            continue
        try:
            if net not in works:
                works[net] = _work(net, path.parent)
        except ConfigError as error:
            faults.append(Fault(f"{place}, net", net, "; ".join(map(str, error.faults))))
            continue
        except UserError as error:
            faults.append(Fault(f"{place}, net", net, error.message))
            continue
        except OSError as error:  # of names that are too long for a file
            faults.append(Fault(f"{place}, net", f"{net[:40]}...", error.strerror or str(error), "give a zoo name or a path"))
            continue
        terms = features(works[net], counts_name(core, runtime), _kind(kind) if kind else None)
        if terms is None or (why := why_untimed(works[net])) is not None:
            faults.append(Fault(f"{place}, net", net, f"its time cannot be explained: {why if terms else 'operators were not counted'}"))
        elif not any(terms):
            faults.append(Fault(f"{place}, op", kind, f"is no operator of {net}: give TFLite's name, such as CONV_2D"))
        else:
            found.append(Measured(net=net, ms=ms, op=kind, terms=tuple(terms)))
    if not faults and not found:
        faults.append(Fault("file", None, "holds no measurement", "add lines such as mcunet-tiny2,41.3"))
    if faults:
        raise ConfigError(path, faults)
    return tuple(found)


def _rows(path: Path) -> Iterator[tuple[int, dict[str | None, Any]]]:
    """The number and the cells by column of each line; cells that no column is there for under None."""
    rows = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    try:
        heads = [head.strip() for head in rows.fieldnames or ()]
        if not heads:
            raise ConfigError(path, [Fault("file", None, "is empty", "its first line is net,ms or net,ms,op")])
        if missing := [name for name in ("net", "ms") if name not in heads]:
            remedy = "part the columns by commas" if len(heads) == 1 and re.search(r"[;\t]", heads[0]) else None
            told = f"lacks the column {' and the column '.join(missing)}: net,ms or net,ms,op"
            raise ConfigError(path, [Fault("line 1", ",".join(heads), told, remedy)])
        rows.fieldnames = heads
        for row in rows:
            yield rows.line_num, dict(row)
    except csv.Error as error:  # in the row that begins on the next line
        raise ConfigError(path, [Fault(f"line {rows.line_num + 1}", None, f"is no CSV: {error}", "check its quotes")]) from None


def _kind(op: str) -> str:
    return SHORT.get(op.upper(), op.lower())


def _work(net: str, folder: Path) -> Work:
    path = folder / net if (folder / net).is_file() else Path(net)
    if what_is(path).is_tflite or net.lower().endswith((".tflite", ".lite")):
        return to_work(read_model(path))
    return from_graph(lower(load_arch(str(path))))


def refitted(core: str, runtime: str, rows: Sequence[Measured], clock_mhz: float) -> LatencyModel:
    """The latency model of a board by ``rows``, which weigh most: one moves all its cycles, more tell its kinds of operators apart.

    The published model, or one cycle an instruction where there is none, is what is known before; the posterior is by Gauss-Newton on
    logarithms. The interval is what is left to know: never wider than the published one.
    """
    import numpy as np

    before = latency_model(core, runtime)
    cycles = np.array(_PLAIN if before is None else before.cycles)
    width = UNKNOWN if before is None else math.log(before.spread) / 1.645
    deviation = np.array([width] + [KIND] * len(RATES) + [CALL] * len(CALLS))
    prior = np.diag(deviation**-2)
    x = np.array([row.terms for row in rows])
    measured = np.log([row.ms * clock_mhz * 1000 for row in rows])
    weights = np.array([PART if row.op else ROW for row in rows]) ** -2
    rates = len(RATES)
    theta = np.zeros(1 + len(TERMS))
    theta[0] = float(np.median(measured - np.log(x @ cycles)))
    slopes = np.zeros((len(rows), len(theta)))
    for _ in range(50):
        own = cycles * np.exp(theta[1:] + np.where(np.arange(len(TERMS)) < rates, theta[0], 0.0))
        parts = x * own
        total = parts.sum(1)
        slopes[:, 1:] = parts / total[:, None]
        slopes[:, 0] = slopes[:, 1 : 1 + rates].sum(1)
        curvature = (slopes.T * weights) @ slopes + prior
        step = np.linalg.solve(curvature, slopes.T @ (weights * (measured - np.log(total))) - prior @ theta)
        theta = theta + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    own = cycles * np.exp(theta[1:] + np.where(np.arange(len(TERMS)) < rates, theta[0], 0.0))
    # What is not known yet of a network half of whose time is as in those measured, and half evenly in all kinds of operators.
    typical = slopes.mean(0) / 2
    typical[0] += 0.5
    typical[1 : 1 + rates] += 0.5 / rates
    left = math.sqrt(float(typical @ np.linalg.solve(curvature, typical)) + ROW**2)
    spread = math.exp(1.645 * left) if before is None else min(math.exp(1.645 * left), before.spread)
    said = f"{len(rows)} of your own" + ("" if before is None else f", then {before.source}")
    return LatencyModel(
        counts_name(core, runtime), tuple(own.tolist()), spread, math.expm1(left), said, len(rows), runtime.partition("@")[0] in COUNTED
    )
