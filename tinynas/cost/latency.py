"""Latency: cycles per MAC by operator kind, per (core, runtime), fitted on published measurements.

milliseconds = sum over kinds of (MACs of the kind * cycles per MAC of the kind) / (clock in kHz). Where there is no
published measurement for a core and runtime the answer is None: never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinynas.cost.work import Work

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


MODELS: dict[tuple[str, str], LatencyModel] = {}


def latency_model(core: str | None, runtime: str) -> LatencyModel | None:
    """The model of a core and runtime, or None where nothing was published."""
    return None if core is None else MODELS.get((core, runtime))


def macs_by_kind(work: Work) -> tuple[int, int, int, int]:
    """MACs of ``work`` by kind, in the order of :data:`KINDS`."""
    dense = pointwise = depthwise = connected = 0
    for piece in work.pieces:
        if not piece.macs:
            continue
        if piece.kind == "dw":
            depthwise += piece.macs
        elif piece.kind == "fc":
            connected += piece.macs
        elif piece.kernel == (1, 1):
            pointwise += piece.macs
        else:
            dense += piece.macs
    return dense, pointwise, depthwise, connected


def latency_ms(work: Work, core: str | None, runtime: str, clock_mhz: float | None) -> float | None:
    """Milliseconds of one inference, or None where there is no evidence or no clock."""
    model = latency_model(core, runtime)
    return None if model is None or clock_mhz is None else model.ms(macs_by_kind(work), clock_mhz)
