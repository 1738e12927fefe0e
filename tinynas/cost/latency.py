"""Latency: cycles from executed instructions, by core and runtime, fitted on published measurements, with an interval.

milliseconds = sum over operators of (instructions * cycles an instruction of its kind + cycles a call) / (clock in kHz). Instructions are
those of :mod:`tinynas.cost.instructions`, of the kernels that stand for the runtime's (a closed runtime is as if it ran CMSIS-NN's, at
fewer cycles each). benchmarks/latency_fit.py fits the cycles (latency.json) on all published measurements together. Where nothing was
published for a core and runtime the answer is None, never a guess; the instructions may be known there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from tinynas.cost.instructions import counts_of, operator_instructions, tables, whole
from tinynas.cost.work import Piece, Work
from tinynas.errors import InternalError

#: Kinds of operators with MACs, in the order of :func:`macs_by_kind`.
KINDS = ("dense", "pointwise", "depthwise", "connected")
#: What has cycles of its own for each instruction: the kinds, and all operators without MACs.
RATES = (*KINDS, "others")
#: What has cycles of its own for each call: calls of what is not named otherwise, of pools and means, of SOFTMAX, of dense layers.
CALLS = ("call", "pool", "softmax", "connected call")
TERMS = (*RATES, *CALLS)
#: Operators with MACs -> the kind of :data:`KINDS` that they count as; a convolution of 1x1 is pointwise.
_KIND_OF = {"conv": "dense", "dw": "depthwise", "fc": "connected", "transpose_conv": "dense"}
_CALL_OF = {"avg_pool": "pool", "max_pool": "pool", "mean": "pool", "softmax": "softmax", "fc": "connected call"}
#: Arithmetic of weights of few bits whose instructions were counted; see :attr:`LatencyModel.narrow` for their times.
FEW_BITS = frozenset({"int8 with int4 weights"})
#: Runtimes that run the very kernels that were counted.
COUNTED = frozenset({"tflm", "tflm-cmsis-nn"})
#: Operators with MACs of files for which nothing was ever fitted.
UNTIMED = frozenset(
    {"batch_matmul", "conv_3d", "conv_3d_transpose", "svdf", "rnn", "lstm"}
    | {f"{way}_sequence_{cell}" for way in ("unidirectional", "bidirectional") for cell in ("rnn", "lstm")}
)


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """Cycles on one core with one runtime."""

    counts: str
    """Table of instructions (:func:`tinynas.cost.instructions.tables`) that the cycles multiply."""
    cycles: tuple[float, ...]
    """Cycles an instruction for :data:`RATES`, then cycles a call for :data:`CALLS`."""
    spread: float
    """Nine of ten measurements lie within the figure divided by this and multiplied by it."""
    error: float
    """Mean |predicted - measured| / measured of networks left out of the fit, all measurements of theirs with them."""
    source: str
    """The measurements it is fitted on."""
    own: int = 0
    """Measurements of the user's own among them."""
    narrow: bool = False
    """Whether the runtime runs the kernels of :attr:`counts` where weights have fewer bits than 8."""

    def op_cycles(self, piece: Piece, work: Work) -> Any:
        """Cycles of an operator of ``work``, whole; None where nothing of its kind was counted. Arrays give arrays.

        Kernels for weights of few bits were never timed: they take as many cycles an instruction as those for int8.
        """
        executed = operator_instructions(tables()[self.counts], piece, work)
        if executed is None or (piece.weight_bits != 8 and piece.arithmetic in FEW_BITS and not self.narrow):
            return None
        rate, call = terms_of(piece)
        total = executed * self.cycles[rate] + self.cycles[call]
        return whole(total)

    def ms(self, cycles: Any, clock_mhz: float) -> Any:
        """Milliseconds of so many cycles at ``clock_mhz``."""
        return cycles / (1000.0 * clock_mhz)

    def interval(self, ms: float) -> tuple[float, float]:
        """Where nine of ten measurements of a network lie for which ``ms`` is expected."""
        return ms / self.spread, ms * self.spread


def terms_of(piece: Piece) -> tuple[int, int]:
    """Numbers of the terms of :data:`TERMS` that an operator's instructions, and its call, count as."""
    computes = not isinstance(piece.macs, int) or piece.macs > 0
    rate = RATES.index(kind_of(piece.kind, piece.kernel) if computes else "others")
    return rate, len(RATES) + CALLS.index(_CALL_OF.get(piece.kind, "call"))


@lru_cache(maxsize=1)
def models() -> dict[tuple[str, str], LatencyModel]:
    """(core, runtime) -> model; errors and intervals by source and network in results/benchmarks/latency_fit.md."""
    read = json.loads(resources.files("tinynas.cost").joinpath("latency.json").read_text(encoding="utf-8"))
    return {
        (row["core"], row["runtime"]): LatencyModel(
            row["counts"],
            tuple([row["cycles"][term] for term in TERMS]),
            row["spread"],
            row["error"],
            row["source"],
            narrow=row["runtime"] in COUNTED,
        )
        for row in read
    }


def latency_model(core: str | None, runtime: str) -> LatencyModel | None:
    """The model of a core and runtime (of any ``@version``), or None where nothing was published."""
    return None if core is None else models().get((core, runtime.partition("@")[0]))


def why_unknown(core: str | None, runtime: str, clock_mhz: float | None) -> str | None:
    """Why there is no latency of any network there; None where there is one."""
    if core is None or clock_mhz is None:
        return "it needs core and clock_mhz"
    if latency_model(core, runtime) is not None:
        return None
    known = ", ".join(f"{core} with {runtime}" for core, runtime in sorted(models()))
    counted = "; instructions are counted, time is not known" if counts_of(core, runtime) is not None else ""
    return f"no published measurement of {core} with {runtime} (known: {known}){counted}"


def kind_of(kind: str, kernel: tuple[int, int]) -> str:
    """The kind of :data:`KINDS` that an operator with MACs counts as. Raises InternalError for one that none was fitted for."""
    if kind not in _KIND_OF:
        raise InternalError(f"no cycles were fitted for operators of kind {kind!r}", "give it a kind in tinynas.cost.latency")
    return "pointwise" if kind == "conv" and kernel == (1, 1) else _KIND_OF[kind]


def why_untimed(work: Work) -> str | None:
    """Why the measurements, all of int8 kernels that ran once each, say nothing about ``work``; None where they do."""
    if work.uncounted:
        return f"the MACs of {', '.join(work.uncounted)} are not known"
    for piece in work.pieces:
        if not isinstance(piece.macs, int) or piece.macs:
            if piece.arithmetic != "int8" and not (piece.arithmetic in FEW_BITS and piece.kind in _KIND_OF):
                return f"the evidence is of int8 kernels, and {piece.name} computes in {piece.arithmetic}"
            if piece.kind in UNTIMED:
                return f"nothing was measured of {piece.kind}"
        if piece.kind == "while":
            return f"how often {piece.name} runs is decided at run time"
    return None


def macs_by_kind(pieces: Iterable[Piece]) -> tuple[int, int, int, int]:
    """MACs of ``pieces`` by kind, in the order of :data:`KINDS`; arrays give arrays."""
    counts = dict.fromkeys(KINDS, 0)
    for piece in pieces:
        if not isinstance(piece.macs, int) or piece.macs:
            kind = kind_of(piece.kind, piece.kernel)
            counts[kind] = counts[kind] + piece.macs
    dense, pointwise, depthwise, connected = counts.values()
    return dense, pointwise, depthwise, connected


def features(work: Work, counts: str, kind: str | None = None) -> list[float] | None:
    """Instructions and calls of ``work`` by :data:`TERMS` (of operators of one ``kind`` alone); None where some were never counted."""
    found = [0.0] * len(TERMS)
    for piece in work.pieces:
        if kind is None or piece.kind == kind:
            executed = operator_instructions(tables()[counts], piece, work)
            if executed is None:
                return None
            rate, call = terms_of(piece)
            found[rate] += executed
            found[call] += 1
    return found


def instructions(work: Work, core: str | None, runtime: str) -> int | None:
    """Executed instructions of one inference; None where some of its operators, or the kernels of the runtime on the core, were not
    counted."""
    counts = counts_of(core, runtime)
    if counts is None or why_untimed(work) is not None:
        return None
    found = [operator_instructions(counts, piece, work) for piece in work.pieces]
    return None if None in found else sum(found)


def why_uncounted(work: Work, model: LatencyModel) -> str | None:
    """Why ``model`` says nothing about ``work``; None where it does."""
    if (why := why_untimed(work)) is not None:
        return why
    missing = dict.fromkeys(
        ("dilated " if piece.dilation != (1, 1) else "")
        + piece.kind
        + (f" with weights of {piece.weight_bits} bits" if piece.arithmetic in FEW_BITS else "")
        for piece in work.pieces
        if model.op_cycles(piece, work) is None
    )
    return f"no instructions were counted of {', '.join(missing)} on these elements" if missing else None


def latency_ms(work: Work, model: LatencyModel | None, clock_mhz: float | None) -> float | None:
    """Milliseconds of one inference, or None where there is no evidence (see :func:`why_uncounted`) or no clock."""
    if model is None or clock_mhz is None or why_untimed(work) is not None:
        return None
    cycles = [model.op_cycles(piece, work) for piece in work.pieces]
    found: float | None = None if None in cycles else model.ms(sum(cycles), clock_mhz)
    return found


def spread_of(log_deviation: float) -> float:
    """The factor between a figure and the ends of its interval of nine in ten, from a standard deviation of its logarithm."""
    return math.exp(1.645 * log_deviation)
