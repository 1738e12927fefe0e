"""QUANTITIES: every figure of a network that a limit, an objective or a page can be about. A new cost is one line here.

Objectives, limits, the bands and the box of a search, explanations, pages, tables, cards and columns of files read this table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tinynas.config import format_size
from tinynas.cost.latency import why_unknown
from tinynas.cost.runtimes import why_no_code, why_no_stack, why_no_update


@dataclass(frozen=True, slots=True)
class Quantity:
    """One figure of a network."""

    name: str
    """In documents and columns: ``sram_bytes``."""
    title: str
    """For people."""
    unit: str
    """``B``, ``ms``, or what is counted (``MACs``)."""
    of: Callable[[Any], Any]
    """It, of a :class:`tinynas.cost.Cost` (None where it is not known), or of a :class:`tinynas.cost.batch.BatchCost` as an array (NaN
    where it is not known): both have the same attributes."""
    objective: str | None = None
    """Name of the objective to make it small; None: there is none."""
    field: str | None = None
    """Field of :class:`tinynas.budget.Budget` that limits it; None: its ``at_most`` does, by ``name``."""
    part: Callable[[Any], float] | None = None
    """What an operator (a :class:`tinynas.cost.OpCost`) contributes; None: not known, an explanation names no operator."""
    peak: bool = False
    """Whether it is reached during one operator, rather than the sum over all."""
    log: bool = True
    """Whether equal ratios are equally far (from 1 M to 2 M is as far as from 10 M to 20 M); bands, box and axes go by it."""
    place: Literal["narrow", "wide", "full"] = "narrow"
    """Which tables have it: those with little room too, those of pages and cards, or a network's complete list alone."""
    phrase: str | None = None
    """Words behind the value in the sentence that sums up a network (``of SRAM``); None: it is not in it."""
    unknown: Callable[[str | None, str, float | None], str | None] = lambda core, runtime, clock_mhz: None
    """(core, runtime, clock in MHz) -> why no network has it there, or None where all have."""

    def text(self, value: float | None) -> str:
        """``value`` for people: KiB, ms, or three digits of a count; a dash where it is not known."""
        if value is None:
            return "–"
        if self.unit == "B":
            return format_size(round(value))
        return milliseconds(value) if self.unit == "ms" else count(value)

    def exact(self, value: float) -> str:
        """``value`` for people, counts in all their digits."""
        if self.unit == "B":
            return format_size(int(value))
        if self.unit == "ms":
            return f"{value:,.1f} ms"
        return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"

    def scaled(self, value: float) -> float:
        """``value`` on its own scale, on which distances count."""
        return math.log(max(value, 1e-9)) if self.log else value


def _with(cost: Any, name: str, part: str | None = None) -> Any:
    """A figure of the network, and what its front end adds (that has it as ``part``, where names differ)."""
    own, front_end = getattr(cost, name), cost.front_end
    if own is None or front_end is None:
        return own
    added = getattr(front_end, part or name)
    return None if added is None else own + added


def _stack(cost: Any) -> Any:
    """The deeper of the network's and its front end's: one runs after the other."""
    own, front_end = cost.stack_bytes, cost.front_end
    if own is None or front_end is None:
        return own
    # Of arrays and numbers alike, without numpy, which commands for one network do not load.
    return own + (front_end.stack_bytes - own) * (front_end.stack_bytes > own)


QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity("macs", "MACs", "MACs", lambda c: c.macs, objective="macs", field="macs", part=lambda op: op.macs, phrase="MACs"),
        Quantity("params", "parameters", "parameters", lambda c: c.params, objective="params", part=lambda op: op.params, place="wide"),
        Quantity("weights_bytes", "weights", "B", lambda c: c.weights_bytes, part=lambda op: op.weights_bytes, place="full"),
        Quantity(
            "flash_bytes",
            "flash",
            "B",
            lambda c: _with(c, "flash_bytes"),
            objective="flash",
            field="flash",
            part=lambda op: op.weights_bytes,
            phrase="of flash",
        ),
        Quantity(
            "program_bytes",
            "program flash",
            "B",
            lambda c: _with(c, "program_bytes"),
            objective="program",
            field="flash",
            part=lambda op: op.weights_bytes,
            place="wide",
            unknown=lambda core, runtime, clock_mhz: why_no_code(runtime),
        ),
        Quantity(
            "sram_bytes",
            "SRAM",
            "B",
            lambda c: _with(c, "sram_bytes"),
            objective="sram",
            field="sram",
            part=lambda op: op.live_bytes,
            peak=True,
            phrase="of SRAM",
        ),
        Quantity(
            "update_sram_bytes",
            "SRAM to learn",
            "B",
            lambda c: _with(c, "update_sram_bytes", "sram_bytes"),
            objective="update_sram",
            field="update_sram",
            peak=True,
            place="full",
            unknown=lambda core, runtime, clock_mhz: why_no_update(runtime),
        ),
        Quantity(
            "stack_bytes",
            "stack",
            "B",
            _stack,
            place="full",
            unknown=lambda core, runtime, clock_mhz: why_no_stack(runtime),
        ),
        Quantity(
            "latency_ms",
            "latency",
            "ms",
            lambda c: _with(c, "latency_ms"),
            objective="latency",
            part=lambda op: op.latency_ms or 0.0,
            field="latency_ms",
            phrase="an image",
            unknown=why_unknown,
        ),
    )
}


def values_of(cost: Any) -> dict[str, Any]:
    """Every quantity of a cost, or of a batch of them, by name."""
    return {name: quantity.of(cost) for name, quantity in QUANTITIES.items()}


def shown(values: Mapping[str, float | None], *places: str) -> dict[Quantity, float | None]:
    """The quantities that tables of ``places`` have (none named: all) with their ``values``, a document by name; None: not known."""
    return {quantity: values.get(name) for name, quantity in QUANTITIES.items() if not places or quantity.place in places}


def count(number: float) -> str:
    """``1,674,512`` as ``1.67 M``; three digits, SI steps."""
    for step, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= step * 0.9995:
            value = number / step
            return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f} {letter}"
    return f"{number:g}" if number == int(number) else f"{number:.2f}"


def milliseconds(value: float) -> str:
    """A latency with three digits."""
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"
