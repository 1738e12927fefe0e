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
    return None if core is None else MODELS.get((core, runtime))


#: Operators with MACs -> the kind of :data:`KINDS` that they count as; a convolution of 1x1 is pointwise.
_KIND_OF = {"conv": "dense", "dw": "depthwise", "fc": "connected", "transpose_conv": "dense"}


def kind_of(kind: str, kernel: tuple[int, int]) -> str:
    """The kind of :data:`KINDS` that an operator with MACs counts as. Raises InternalError for one that none was fitted for."""
    if kind not in _KIND_OF:
        raise InternalError(f"no cycles were fitted for operators of kind {kind!r}", "give it a kind in tinynas.cost.latency")
    return "pointwise" if kind == "conv" and kernel == (1, 1) else _KIND_OF[kind]


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
    """Milliseconds of one inference, or None where there is no evidence or no clock."""
    model = latency_model(core, runtime)
    return None if model is None or clock_mhz is None else model.ms(macs_by_kind(work.pieces), clock_mhz)
