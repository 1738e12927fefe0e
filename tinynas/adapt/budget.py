"""UpdateBudget: what learning on the board may take, and how it learns; one YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tinynas.config import Bytes, Config, format_size, load
from tinynas.cost.backward import UpdateCost, arithmetic_named
from tinynas.cost.runtimes import runtime_named
from tinynas.errors import UserError

#: Inputs a step of a board at most: it sees them one after the other.
MOST_BATCH = 64


class Learning(Config):
    """How the board learns. Everything here is something that a board can do."""

    mode: Literal["float", "int8", "board"] = "float"
    """``float``: float32 forward and backward over the network with batch norm folded in. ``int8``: weights and activations on the grids
    of the .tflite, gradients scaled by MCUNetV3's quantisation-aware scaling (arXiv 2206.15472, section 3.1)."""
    arithmetic: str = "float32"
    """Element types that memory is counted with: ``float32``, ``int32``, ``int8`` or ``mcunetv3``; the simulation computes float32."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Passes over the new images."""
    batch: Annotated[int, Field(ge=1, le=1024)] = 1
    """Images a step. A board runs them one after the other and adds their gradients up, in memory that is counted."""
    lr: Annotated[float, Field(gt=0, le=10)] = 0.01
    """Learning rate of SGD."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The rate through the learning: as it is, or falling to 0 along half a cosine."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of SGD; 0 takes no memory."""
    images: Annotated[int, Field(ge=0)] = 0
    """New images learned from of each class, drawn by the seed; 0 for all there are."""
    replay: Annotated[int, Field(ge=0)] = 0
    """Old images of each class that are learned again beside the new ones, against forgetting; they lie in flash."""
    again: Annotated[int, Field(ge=0)] = 0
    """So many of the old images of each class are learned again in an epoch, others in the next, as drawn; 0: all of ``replay``. More old
    images then keep more of what was known, and do not outweigh the new ones."""
    outputs: Literal["all", "new"] = "all"
    """Rows of the classifier that are learned: all, or those of new classes alone, where what tells old classes apart stays as it is."""
    head: Literal["extend", "replace"] = "extend"
    """The classifier gets outputs for the new classes beside the old ones, or new ones alone."""
    qas: bool = True
    """Of ``int8``: scale gradients. Without it, steps of integers are as small or large as their scales make them."""
    measure_images: Annotated[int, Field(ge=1)] = 256
    """At most so many images are used to measure what a scheme goes by."""
    measure_epochs: Annotated[int, Field(ge=1)] = 1
    """Passes of each of the trial learnings of ``sparse``, over at most ``measure_images`` images."""
    velocity_mu: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Momentum of the velocity of neurons: 0.5 in NEq (arXiv 2207.09455)."""

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("mode") == "board":
            return {"arithmetic": "board", **given}
        return given

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            arithmetic_named(self.arithmetic)
        except UserError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
        if (self.mode == "board") != (self.arithmetic == "board"):
            raise ValueError(f"mode {self.mode} is not counted with the arithmetic {self.arithmetic}: mode board takes arithmetic board")
        if self.mode == "board" and self.batch > MOST_BATCH:
            raise ValueError(f"batch {self.batch}: a board adds up at most {MOST_BATCH} inputs")
        if self.again > self.replay:
            raise ValueError(f"again {self.again}: of {self.replay} old images of each class (replay)")
        return self


class UpdateBudget(Config):
    """What learning may take. At least one limit is given; each that is given holds."""

    name: Annotated[str, Field(min_length=1, max_length=60)] = "update"
    """A word for people and rows."""
    runtime: str = "tflm"
    """Whose forward runs on the board: one of TFLM's, or, with ``mode: board``, a compiled one."""
    core: str | None = None
    """Its core, where a runtime's kernels differ by it."""
    ram: Bytes | None = None
    """RAM of inference and learning together."""
    extra: Bytes | None = None
    """RAM that learning takes beside inference."""
    macs: Annotated[int, Field(ge=1)] | None = None
    """MACs of a step: forward, backward and update."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Updated parameters of all."""
    learning: Learning = Learning()
    """How it learns."""

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if all(limit is None for limit in (self.ram, self.extra, self.macs, self.share)):
            raise ValueError("limits nothing: give at least one of ram, extra, macs and share")
        try:
            runtime = runtime_named(self.runtime, self.core)
        except UserError as error:
            raise ValueError(error.message) from None
        compiled = runtime.frame is not None and not runtime.stream and self.learning.mode == "board"
        if not runtime.builds and not compiled:
            raise ValueError(
                f"runtime {self.runtime}: learning is planned for TFLM's runtimes alone, and with mode board for compiled ones"
            )
        return self

    def used(self, cost: UpdateCost) -> dict[str, tuple[float, float]]:
        """By limit (what ``cost`` takes of it, the limit)."""
        taken = {"ram": cost.ram_bytes, "extra": cost.extra_bytes, "macs": cost.macs, "share": cost.share}
        limits = {"ram": self.ram, "extra": self.extra, "macs": self.macs, "share": self.share}
        return {name: (taken[name], limit) for name, limit in limits.items() if limit is not None}

    def fits(self, cost: UpdateCost) -> bool:
        """Whether every limit holds."""
        return all(taken <= limit for taken, limit in self.used(cost).values())

    def words(self, cost: UpdateCost) -> str:
        """Each limit with what is used of it, for people."""
        return ", ".join(f"{name} {_amount(name, taken)} of {_amount(name, limit)}" for name, (taken, limit) in self.used(cost).items())


def _amount(name: str, value: float) -> str:
    if name in ("ram", "extra"):
        return format_size(int(value))
    return f"{100 * value:.2g}%" if name == "share" else f"{value:,.0f}"


def load_update_budget(path: str | Path, overrides: Sequence[str] = ()) -> UpdateBudget:
    """The update budget in a YAML file. Raises ConfigError with all faults at once, UserError where there is no such file."""
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such update budget", 'write a YAML such as "ram: 128 KiB" and give its path')
    return load(Path(path), UpdateBudget, overrides)
