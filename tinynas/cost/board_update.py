"""BoardUpdate: the update that a board must have room for, by name; what it is of a network, and what a step of it takes there.

It is fixed by the network alone, unlike the schemes of :mod:`tinynas.adapt`, which take as much as fits: so a budget can ask whether a
network leaves room to learn, before anything is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from tinynas.config import Config
from tinynas.cost.backward import UpdateCost, arithmetic_named, estimate_update
from tinynas.cost.updates import Update, Whole, last_biases, last_layers, weighted_of
from tinynas.errors import UserError
from tinynas.graph import Graph, Weighted

if TYPE_CHECKING:
    from tinynas.cost.estimator import Cost


class BoardUpdate(Config):
    """What is learned on the board, with one image or a few a step."""

    scheme: Literal["classifier", "last", "bias", "full"]
    """``classifier``: it alone. ``last``: with all of the last layers in front of it. ``bias``: with the biases of these. ``full``:
    everything."""
    layers: Annotated[int, Field(ge=1)] | Literal["all"] | None = None
    """Of ``last`` and ``bias``: how many layers in front of the classifier; networks with fewer have all of theirs updated."""
    arithmetic: str = "float32"
    """Element types that memory is counted with: ``float32``, ``int32``, ``int8`` or ``mcunetv3``."""
    batch: Annotated[int, Field(ge=1, le=1024)] = 1
    """Images a step, one after the other; with more than one their gradients are added up in memory."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of SGD; 0 takes no memory."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.layers is None) == (self.scheme in ("last", "bias")):
            told = "needs layers: how many in front of the classifier, or all" if self.layers is None else "has no layers: leave them out"
            raise ValueError(f"scheme {self.scheme} {told}")
        try:
            apart = arithmetic_named(self.arithmetic).apart
        except UserError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
        if apart:  # its memory's plan is known of single networks only
            raise ValueError(f"arithmetic {self.arithmetic} is not known of many networks at once; count with float32")
        return self

    @property
    def reach(self) -> int | None:
        """How many layers are updated, the classifier among them; None: all."""
        match self.scheme:
            case "classifier":
                return 1
            case "full":
                return None
            case "last" | "bias":
                return None if self.layers == "all" or self.layers is None else self.layers + 1

    def part(self, *, classifier: bool) -> Whole:
        """What is updated of a layer within :attr:`reach`."""
        return Whole(weighted=classifier or self.scheme != "bias", biased=True)

    def of(self, graph: Graph) -> Update:
        """The update of ``graph``."""
        ops: list[Weighted] = weighted_of(graph)
        count = len(ops) if self.reach is None else min(self.reach, len(ops))
        return last_biases(graph, count) if self.scheme == "bias" else last_layers(graph, count)

    def cost(self, graph: Graph, inference: Cost) -> UpdateCost:
        """What a step of it takes of ``graph``, which costs ``inference``. Raises UserError where the runtime is none of TFLM's."""
        return estimate_update(
            graph,
            self.of(graph),
            runtime=inference.runtime,
            core=inference.core,
            arithmetic=self.arithmetic,
            batch=self.batch,
            momentum=self.momentum > 0,
            inference=inference,
        )

    def words(self) -> str:
        """For people."""
        number = "" if self.layers is None else "all layers" if self.layers == "all" else f"{self.layers} layers in front of it"
        match self.scheme:
            case "classifier":
                return "the classifier"
            case "full":
                return "all weights"
            case "last":
                return f"the classifier and {number}"
            case "bias":
                return f"the classifier and the biases of {number}"
