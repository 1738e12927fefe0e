"""Latency: cycles per MAC by operator kind, per (core, runtime), fitted on published measurements.

milliseconds = sum over kinds of (MACs of the kind * cycles per MAC of the kind) / (clock in kHz). Where there is no
published measurement for a core and runtime the answer is None: never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tinynas.cost.work import Piece, Work
from tinynas.errors import InternalError

#: Kinds in the order of :attr:`LatencyModel.cycles`.
KINDS = ("dense", "pointwise", "depthwise", "connected")


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """Cycles per MAC by kind on one core with one runtime."""

    cycles: tuple[float, float, float, float]
    """Dense convolutions, 1x1 convolutions, depthwise convolutions, fully connected layers."""
    error: float
    """Leave-one-model-out error: largest |predicted - measured| / measured."""
    source: str
    """The measurements it is fitted on."""

    def ms(self, macs_by_kind: tuple[int, int, int, int], clock_mhz: float) -> float:
        """Milliseconds for the MACs of each kind at ``clock_mhz``."""
        a, b, c, d = macs_by_kind
        w, x, y, z = self.cycles
        return (a * w + b * x + c * y + d * z) / (1000.0 * clock_mhz)


#: (core, runtime) -> model; fitted by benchmarks/latency_fit.py, errors by model in results/benchmarks/latency_fit.md.
#: The figures of cortex-m4 with tflm are five times below cortex-m7's for the same kernels by name: the builds that were
#: published differ that much, so measure before relying on a tflm latency.
MODELS: dict[tuple[str, str], LatencyModel] = {
    ("cortex-m33", "stedgeai"): LatencyModel(
        (1.434, 1.408, 1.609, 1.961), 0.409, "MLPerf Tiny v1.2 and v1.3 STMicroelectronics, NUCLEO-U575ZI-Q"
    ),
    ("cortex-m33", "tflm-cmsis-nn"): LatencyModel(
        (3.251, 3.909, 3.48, 3.069), 0.179, "MLPerf Tiny v1.1 Krai, nRF5340: CMSIS-NN kernels called by microTVM"
    ),
    ("cortex-m4", "stedgeai"): LatencyModel(
        (1.613, 1.586, 1.814, 2.222), 0.401, "MLPerf Tiny v1.2 and v1.3 STMicroelectronics, NUCLEO-L4R5ZI"
    ),
    ("cortex-m4", "tflm"): LatencyModel((6.719, 9.114, 7.156, 4.637), 0.746, "MLPerf Tiny v0.5 reference, NUCLEO-L4R5ZI, TFLM 2.3.1"),
    ("cortex-m4", "tflm-cmsis-nn"): LatencyModel(
        (3.744, 4.777, 4.243, 3.925), 0.134, "MLPerf Tiny v1.1 Krai, NUCLEO-L4R5ZI: CMSIS-NN kernels called by microTVM"
    ),
    ("cortex-m7", "stedgeai"): LatencyModel((0.928, 0.993, 1.077, 1.274), 0.432, "MLPerf Tiny v1.2 STMicroelectronics, NUCLEO-H7A3ZI-Q"),
    ("cortex-m7", "tflm"): LatencyModel(
        (46.621, 46.955, 45.499, 46.338), 0.021, "TinyEngine README, STM32H743, cycles at 480 MHz (upper bound)"
    ),
    ("cortex-m7", "tflm-cmsis-nn"): LatencyModel(
        (4.387, 4.061, 4.883, 4.455), 0.097, "TinyEngine README, STM32H743, cycles at 480 MHz (upper bound)"
    ),
    ("cortex-m7", "tinyengine"): LatencyModel(
        (2.134, 1.95, 2.073, 2.041), 0.193, "TinyEngine README, STM32H743, cycles at 480 MHz (upper bound)"
    ),
}


def latency_model(core: str | None, runtime: str) -> LatencyModel | None:
    """The model of a core and runtime, or None where nothing was published."""
    return None if core is None else MODELS.get((core, runtime.partition("@")[0]))


def why_unknown(core: str | None, runtime: str, clock_mhz: float | None) -> str | None:
    """Why there is no latency of any network there; None where there is one."""
    if core is None or clock_mhz is None:
        return "it needs core and clock_mhz"
    if latency_model(core, runtime) is not None:
        return None
    known = ", ".join(f"{core} with {runtime}" for core, runtime in sorted(MODELS))
    return f"no published measurement of {core} with {runtime} (known: {known})"


#: Operators with MACs -> the kind of :data:`KINDS` that they count as; a convolution of 1x1 is pointwise.
_KIND_OF = {"conv": "dense", "dw": "depthwise", "fc": "connected", "transpose_conv": "dense"}
#: Operators with MACs of files for which nothing was ever fitted.
UNTIMED = frozenset(
    {"batch_matmul", "conv_3d", "conv_3d_transpose", "svdf", "rnn", "lstm"}
    | {f"{way}_sequence_{cell}" for way in ("unidirectional", "bidirectional") for cell in ("rnn", "lstm")}
)


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
            if piece.arithmetic != "int8":
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


def latency_ms(work: Work, core: str | None, runtime: str, clock_mhz: float | None) -> float | None:
    """Milliseconds of one inference, or None where there is no evidence (see :func:`why_untimed`) or no clock."""
    model = latency_model(core, runtime)
    if model is None or clock_mhz is None or why_untimed(work) is not None:
        return None
    return model.ms(macs_by_kind(work.pieces), clock_mhz)
