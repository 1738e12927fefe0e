"""Budget: a microcontroller in one YAML: its memory, what else needs it, and the limits that are left for a network.

``limits`` = capacity minus reserves. Capacity is a fact with a source; reserves are choices, stated apart.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from tinynas.config import MAX_INTEGER, Bytes, Config, build, format_size, is_bytes, load, n_bytes, parse_size, resolve, yaml_size
from tinynas.cost import Cost, estimate
from tinynas.cost.board_update import BoardUpdate
from tinynas.cost.latency import LatencyModel
from tinynas.cost.measured import LEAST_MS, MOST_MS, Measured, read_measured, refitted
from tinynas.cost.quantities import QUANTITIES, Quantity
from tinynas.cost.runtimes import pinned_names, runtime_named, why_no_stack
from tinynas.cost.streamed import Frame
from tinynas.errors import ConfigError, UserError
from tinynas.graph import Graph
from tinynas.regions import Placed, Region, Sram, arena_of, overfull, placed, regions_of

Core = Literal["cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "xtensa-lx6", "xtensa-lx7"]


class _RuntimeNames:
    """The schema of a runtime's name: one of those that RUNTIMES has when it is asked for."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "enum": pinned_names()}


def _known_runtime(name: str) -> str:
    if name not in (known := pinned_names()):
        raise PydanticCustomError("literal_error", "must be one of {expected}", {"expected": ", ".join(map(repr, known))})
    return name


RuntimeName = Annotated[str, AfterValidator(_known_runtime), _RuntimeNames()]
"""Name of a runtime of :data:`tinynas.cost.RUNTIMES`."""


class _LimitNames:
    """The schema of ``at_most``: a size or a number for each quantity without a field of its own."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        kinds = {name: {"type": "string" if quantity.unit == "B" else "number"} for name, quantity in _without_field().items()}
        return {"type": "object", "properties": kinds, "additionalProperties": False}


def _without_field() -> dict[str, Quantity]:
    return {name: quantity for name, quantity in QUANTITIES.items() if quantity.field is None}


def _known_limits(value: object) -> object:
    if not isinstance(value, dict):
        raise PydanticCustomError("limits", "must be a mapping of quantities to limits, such as params: 50000")
    limits: dict[object, float] = {}
    faults: list[InitErrorDetails] = []
    for name, limit in value.items():
        try:
            limits[name] = _known_limit(name, limit)
        except PydanticCustomError as error:
            faults.append(InitErrorDetails(type=error, loc=(str(name),), input=limit))
    if faults:
        raise ValidationError.from_exception_data("at_most", faults)
    return limits


def _known_limit(name: object, limit: object) -> float:
    quantity = QUANTITIES.get(name) if isinstance(name, str) else None
    near = difflib.get_close_matches(str(name), _without_field(), n=1, cutoff=0.5)
    told = {"name": str(name), "remedy": f'did you mean "{near[0]}"?' if near else f"it may hold {', '.join(_without_field())}"}
    if quantity is None:
        raise PydanticCustomError("limits", "unknown quantity {name}; {remedy}", told)
    if quantity.field is not None:
        raise PydanticCustomError("limits", "{name} has a key of its own: {field}", {**told, "field": quantity.field})
    if quantity.unit == "B":
        limit = limit if is_bytes(limit) else parse_size(limit)
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < math.inf:
        raise PydanticCustomError("limits", "the limit of {name} must be a number greater than 0", told)
    if limit > MAX_INTEGER:
        raise PydanticCustomError("limits", "the limit of {name} is larger than any; leave it out where there is none", told)
    return limit


def _kind_of_latency(value: object) -> str | None:
    if isinstance(value, str) and value.strip():
        return "csv"
    return "rows" if isinstance(value, (list, tuple)) else None


Latency = Annotated[
    Annotated[str, Tag("csv")] | Annotated[tuple[Measured, ...], Tag("rows")],
    Discriminator(
        _kind_of_latency,
        custom_error_type="latency",
        custom_error_message="must be the path of a CSV of your measurements, such as mine.csv; leave it out where there are none",
    ),
]
"""The path of a CSV of measurements, or the rows that it was read to."""

_ZERO = n_bytes(0)
#: The quantity that an update on the board is limited by.
LEARNING = "update_sram_bytes"
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
    runtime: Bytes | None = None
    """Code of the inference runtime and its kernels, where you have measured it; left out, it is what the network's operators take."""


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
    frame: Frame | None = None
    """How compiled code takes its frames: ``kept`` whole in its work area, or as ``rows`` of the camera, one by one. Only with ``runtime:
    compiled``, which with ``rows`` is the runtime ``compiled-rows``; left out, what the runtime's name says: ``compiled`` keeps them."""
    sram: Sram
    """SRAM that one program can use contiguously; or a list of the board's memories, each with a name, a size and what lies in it."""
    flash: Bytes
    """Flash for program and model."""
    reserves: Reserves = Reserves()
    """Memory kept back from the network."""
    macs: Annotated[int, Field(gt=0)] | None = None
    """Limit on multiply-accumulates of one inference."""
    latency_ms: Annotated[float, Field(ge=LEAST_MS, le=MOST_MS)] | None = None
    """Limit on the time of one inference in milliseconds; needs core and clock_mhz."""
    update_sram: Bytes | None = None
    """Limit on the SRAM of inference and :attr:`update` together; left out, an update may take what the reserves leave."""
    update: BoardUpdate | None = None
    """What is to be learned on the board: networks that leave no room for it do not fit. Such as ``{scheme: last, layers: 3}``."""
    latency: Latency = ()
    """A CSV of your own measurements on this board (``net,ms`` or ``net,ms,op``), beside this file; its rows are kept in copies."""
    at_most: Annotated[dict[str, int | float], BeforeValidator(_known_limits), _LimitNames()] = Field(default={}, validate_default=False)
    """Limits on other quantities by name, sizes with a unit: ``params: 50000``, ``weights_bytes: 100 KiB``."""
    sources: tuple[str, ...] = ()
    """Where the figures come from."""

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, document: Any) -> Any:
        # Everything else knows one runtime by one name.
        if isinstance(document, Mapping) and document.get("frame") == "rows" and document.get("runtime") == "compiled":
            return {**document, "runtime": "compiled-rows"}
        return document

    @field_validator("frame")
    @classmethod
    def _of_compiled_code(cls, frame: Frame | None, info: ValidationInfo) -> Frame | None:
        runtime = info.data.get("runtime")  # none where it is wrong itself
        if frame is None or runtime is None or (taken := runtime_named(runtime).frame) == frame:
            return frame
        if taken is None:
            told = "says how compiled code takes its frames, and the runtime is {runtime}: leave it out, or write runtime: compiled"
        else:
            told = "contradicts runtime: {runtime}: leave one of the two out, or write runtime: compiled"
        raise PydanticCustomError("frame", told, {"runtime": runtime})

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        for kind, capacity in (("SRAM", self.arena.size), ("flash", self.flash)):
            if capacity <= 0:
                raise ValueError(f"{kind} must be more than 0 B")
        if (why := overfull(self.regions, dict(self.reserves.sram))) is not None:
            raise ValueError(why)
        if (kept := self._kept(self.reserves.flash)) >= self.flash:
            use, most = max(self.reserves.flash, key=lambda one: one[1] or 0)
            raise ValueError(
                f"the reserves take {format_size(kept)} of {format_size(self.flash)} flash: nothing is left for a network; "
                f"lower reserves.flash.{use} ({format_size(most)}), or give more flash"
            )
        if self.latency and (self.core is None or self.clock_mhz is None):
            raise ValueError("latency: measurements need core and clock_mhz")
        if self.update_sram is not None and self.update_sram > self._room("sram"):
            raise ValueError(
                f"update_sram: {format_size(self.update_sram)} is more than the {format_size(self._room('sram'))} that the reserves leave"
            )
        if self.update is not None and (why := QUANTITIES[LEARNING].unknown(self.core, self.runtime, self.clock_mhz)) is not None:
            raise ValueError(f"update: {why}")
        for name in self.limits:
            if (why := self.why_unknown(name)) is not None:
                raise ValueError(f"a {name} limit cannot be checked: {why}")
        return self

    def why_unknown(self, name: str) -> str | None:
        """Why no network's quantity ``name`` is known on this board with this runtime; None where all are."""
        if name == LEARNING and self.update is None:
            return "no update is named, such as update: {scheme: last, layers: 3}"
        if QUANTITIES[name].unit == "ms" and self.latency:
            return None
        if QUANTITIES[name].unit == "ms" and self.arena.slow:
            return f"the arena lies in slow memory ({self.arena.name}), where no time has been measured"
        return QUANTITIES[name].unknown(self.core, self.runtime, self.clock_mhz)

    @cached_property
    def timing(self) -> LatencyModel | None:
        """The latency model of the board's own measurements; None where there are none, and what was published counts.

        Raises UserError where their CSV has not been read (:func:`load_budget` does).
        """
        if not self.latency or self.core is None or self.clock_mhz is None:
            return None
        if isinstance(self.latency, str):
            raise UserError(f"the measurements of {self.latency} have not been read", "load the budget by load_budget")
        return refitted(self.core, self.runtime, self.latency, self.clock_mhz)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The board's memories; of a plain size of SRAM one, in which everything lies."""
        return regions_of(self.sram)

    @property
    def arena(self) -> Region:
        """The region in which the network's arena lies, whole."""
        return arena_of(self.regions)

    @property
    def timed_mhz(self) -> float | None:
        """The clock in MHz for which times are estimated: none where the arena lies in slow memory and nothing was measured there."""
        return None if self.arena.slow and not self.latency else self.clock_mhz

    def placed(self, cost: Cost) -> tuple[Placed, ...]:
        """What lies where with a network of ``cost``: its arena, a front end's memory beside it, and the reserves, region by region."""
        front_end = 0 if cost.front_end is None else cost.front_end.sram_bytes
        return placed(self.regions, dict(self.reserves.sram), cost.sram_bytes + front_end)

    def _room(self, memory: str) -> int:
        """Bytes of ``sram`` (of the arena's region) or ``flash`` that the reserves leave."""
        if memory == "sram":
            return self.arena.size - sum(int(kept) for use, kept in self.reserves.sram if use in self.arena.use)
        return self.flash - self._kept(self.reserves.flash)

    @staticmethod
    def _kept(reserves: Config) -> int:
        return sum(value or 0 for _, value in reserves)

    @cached_property
    def limits(self) -> dict[str, float]:
        """Limit by name of the quantity, reserves taken off; only limits that are set: memories first.

        Flash limits the model and the code that runs it, or the model alone where a reserve is there for the code. A reserve for the
        stack limits what the network takes of it, where the runtime promises that.
        """
        names = {quantity.field: name for name, quantity in QUANTITIES.items() if quantity.field is not None}
        names["flash"] = "program_bytes" if self.reserves.flash.runtime is None else "flash_bytes"
        limits: dict[str, float] = {names[memory]: self._room(memory) for memory, _ in self.reserves}
        for field, name in names.items():
            if name not in limits and (limit := getattr(self, field)) is not None:
                limits[name] = limit
        if self.update is not None and LEARNING not in limits:
            limits[LEARNING] = self._room("sram")
        if self.reserves.sram.stack and why_no_stack(self.runtime) is None:
            limits["stack_bytes"] = int(self.reserves.sram.stack)
        return {**limits, **self.at_most}

    def cost(self, graph: Graph) -> Cost:
        """What ``graph`` costs here: on the board's core at its clock, by its own measurements, with what it is to learn."""
        return estimate(graph, self.runtime, core=self.core, clock_mhz=self.timed_mhz, timing=self.timing, update=self.update)

    def excess(self, cost: Cost | Mapping[str, float | None]) -> dict[str, float]:
        """(value - limit) / limit for each limit; above 0 is over. An unknown cost counts as :data:`UNKNOWN` over."""
        values = cost.values() if isinstance(cost, Cost) else cost
        result = {}
        for name, limit in self.limits.items():
            value = values.get(name)
            result[name] = UNKNOWN if value is None else (value - limit) / limit
        return result

    def told(self, cost: Cost | None) -> dict[str, Any]:
        """``fits``, ``limits`` and ``excess`` of ``cost`` as documents have them: the model's file has a limit there in any case.

        Where flash is for the model and its code, ``flash_bytes`` is limited by what the code leaves. None: of a network that the
        runtime does not run, nothing is known and nothing fits.
        """
        if cost is None:
            return {"fits": False, "limits": dict(self.limits), "excess": self.excess({})}
        limits, excess = dict(self.limits), self.excess(cost)
        if "program_bytes" in limits and cost.code_bytes is not None:
            limits["flash_bytes"], excess["flash_bytes"] = limits["program_bytes"] - cost.code_bytes, excess["program_bytes"]
        return {"fits": self.fits(cost), "limits": limits, "excess": excess}

    def fits(self, cost: Cost | Mapping[str, float | None]) -> bool:
        """True where no limit is exceeded; what the runtime does not run never fits."""
        if isinstance(cost, Cost) and cost.runs is False:
            return False
        return all(over <= 0 for over in self.excess(cost).values())

    def for_runtime(self, runtime: str) -> Budget:
        """This budget with another runtime, by which alone it then judges; the reserves, which are choices, stay.

        Measured times are of the runtime (whatever its version) that they were measured with, and ``frame`` is left out where
        ``runtime`` takes its frames in another way. Raises UserError for an unknown runtime, ConfigError where a limit cannot be checked
        with it.
        """
        chosen = runtime_named(runtime)
        if runtime == self.runtime:
            return self
        document = {**self._document(), "runtime": runtime}
        if chosen.plain != runtime_named(self.runtime).plain:
            document.pop("latency", None)
        if chosen.frame != self.frame:
            document.pop("frame", None)
        try:
            return build(document, Budget, source=f"budget {self.name} for the runtime {runtime}")
        except ConfigError as error:
            raise ConfigError(error.source, error.faults, f"change that in the budget, or stay with its runtime, {self.runtime}") from None

    def _document(self) -> dict[str, Any]:
        document = self.model_dump(mode="json", exclude_defaults=True)
        _sizes_to_text(document, self)
        return document

    def to_yaml(self) -> str:
        """YAML text that :func:`load_budget` reads back to an equal budget."""
        text: str = yaml.safe_dump(self._document(), sort_keys=False, allow_unicode=True, width=110)
        return text


def _sizes_to_text(document: dict[str, object], model: Config) -> None:
    for key, value in document.items():
        child = getattr(model, key)
        if isinstance(child, Config) and isinstance(value, dict):
            _sizes_to_text(value, child)
        elif key == "sram" and isinstance(child, tuple) and isinstance(value, list):
            for region, part in zip(value, child, strict=True):
                _sizes_to_text(region, part)
        elif key == "at_most":
            document[key] = {name: yaml_size(int(limit)) if QUANTITIES[name].unit == "B" else limit for name, limit in child.items()}
        elif key in {"sram", "flash", "size", "update_sram"} or isinstance(model, (SramReserves, FlashReserves)):
            document[key] = yaml_size(int(child))


def load_budget(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Budget:
    """The budget in a YAML file or of a shipped name, with ``a.b=c`` overrides. Raises ConfigError with all faults."""
    path = resolve(str(name_or_path), "budgets")
    budget = load(path, Budget, overrides)
    if isinstance(budget.latency, str) and budget.core is not None:
        rows = read_measured(path.parent / budget.latency, budget.core, budget.runtime)
        budget = budget.model_copy(update={"latency": rows})
    return budget
