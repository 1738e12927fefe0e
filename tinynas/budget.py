"""Budget: a microcontroller in one YAML: its memory, what else needs it, and the limits that are left for a network.

``limits`` = capacity minus reserves. Capacity is a fact with a source; reserves are choices, stated apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, model_validator

from tinynas.config import Bytes, Config, format_size, load, n_bytes, resolve, yaml_size
from tinynas.cost import Cost
from tinynas.cost.latency import MODELS, latency_model

Core = Literal["cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "xtensa-lx6", "xtensa-lx7"]
RuntimeName = Literal["tflm", "tflm-cmsis-nn", "tinyengine", "stedgeai"]

_ZERO = n_bytes(0)
#: Excess of a limited cost that is not known: over by far, and yet a number that JSON can hold.
UNKNOWN = 1e9


class SramReserves(Config):
    """SRAM that is not the network's, each in bytes with a unit."""

    application: Bytes = _ZERO
    """Globals and heap of the application and its drivers."""
    stack: Bytes = _ZERO
    """Call stack, kernels included."""
    frame_buffer: Bytes = _ZERO
    """Camera frame before it is scaled to the network's input; 0 where it lies in external memory."""
    runtime: Bytes = _ZERO
    """Static memory of the inference runtime outside the arena."""


class FlashReserves(Config):
    """Flash that is not the model's, each in bytes with a unit."""

    application: Bytes = _ZERO
    """Code and constants of the application, drivers, bootloader."""
    runtime: Bytes = _ZERO
    """Code of the inference runtime and its kernels."""


class Reserves(Config):
    """Memory kept back from the network."""

    sram: SramReserves = SramReserves()
    """SRAM kept back."""
    flash: FlashReserves = FlashReserves()
    """Flash kept back."""


class Budget(Config):
    """What a network may use on one board."""

    name: str
    """A name for people."""
    board: str | None = None
    """Board as sold."""
    mcu: str | None = None
    """Microcontroller."""
    core: Core | None = None
    """Processor core; latency needs it."""
    clock_mhz: Annotated[float, Field(gt=0, le=2000)] | None = None
    """Core clock in MHz; latency needs it."""
    runtime: RuntimeName = "tflm"
    """Inference runtime; decides what SRAM and flash mean."""
    sram: Bytes
    """SRAM that one program can use contiguously."""
    flash: Bytes
    """Flash for program and model."""
    reserves: Reserves = Reserves()
    """Memory kept back from the network."""
    macs: Annotated[int, Field(gt=0)] | None = None
    """Limit on multiply-accumulates of one inference."""
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Limit on the time of one inference in milliseconds; needs core and clock_mhz."""
    sources: tuple[str, ...] = ()
    """Where the figures come from."""

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        for kind, capacity, kept in (
            ("SRAM", self.sram, self._kept(self.reserves.sram)),
            ("flash", self.flash, self._kept(self.reserves.flash)),
        ):
            if capacity <= 0:
                raise ValueError(f"{kind} must be more than 0 B")
            if kept >= capacity:
                raise ValueError(f"the reserves take {format_size(kept)} of {format_size(capacity)} {kind}: nothing is left for a network")
        if self.latency_ms is not None and (self.core is None or self.clock_mhz is None):
            raise ValueError("a latency_ms limit needs core and clock_mhz")
        if self.latency_ms is not None and latency_model(self.core, self.runtime) is None:
            known = ", ".join(f"{core} with {runtime}" for core, runtime in sorted(MODELS))
            raise ValueError(
                f"a latency_ms limit cannot be checked: no published measurement of {self.core} with {self.runtime} (known: {known})"
            )
        return self

    @staticmethod
    def _kept(reserves: Config) -> int:
        return sum(value for _, value in reserves)

    @cached_property
    def limits(self) -> dict[str, float]:
        """Limit by cost name, reserves taken off; only limits that are set."""
        limits: dict[str, float] = {
            "sram_bytes": self.sram - self._kept(self.reserves.sram),
            "flash_bytes": self.flash - self._kept(self.reserves.flash),
        }
        if self.macs is not None:
            limits["macs"] = self.macs
        if self.latency_ms is not None:
            limits["latency_ms"] = self.latency_ms
        return limits

    def excess(self, cost: Cost | Mapping[str, float | None]) -> dict[str, float]:
        """(value - limit) / limit for each limit; above 0 is over. An unknown cost counts as :data:`UNKNOWN` over."""
        values = cost.values() if isinstance(cost, Cost) else cost
        result = {}
        for name, limit in self.limits.items():
            value = values.get(name)
            result[name] = UNKNOWN if value is None else (value - limit) / limit
        return result

    def fits(self, cost: Cost | Mapping[str, float | None]) -> bool:
        """True where no limit is exceeded."""
        return all(over <= 0 for over in self.excess(cost).values())

    def to_yaml(self) -> str:
        """YAML text that :func:`load_budget` reads back to an equal budget."""
        document = self.model_dump(mode="json", exclude_defaults=True)
        _sizes_to_text(document, self)
        text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
        return text


def _sizes_to_text(document: dict[str, object], model: Config) -> None:
    for key, value in document.items():
        child = getattr(model, key)
        if isinstance(child, Config) and isinstance(value, dict):
            _sizes_to_text(value, child)
        elif key in {"sram", "flash"} or isinstance(model, (SramReserves, FlashReserves)):
            document[key] = yaml_size(int(child))


def load_budget(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Budget:
    """The budget in a YAML file or of a shipped name, with ``a.b=c`` overrides. Raises ConfigError with all faults."""
    return load(resolve(str(name_or_path), "budgets"), Budget, overrides)
