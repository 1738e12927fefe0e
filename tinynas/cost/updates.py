"""Update: what of each weighted operator a step of learning on the board changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tinynas.errors import UserError, counted
from tinynas.graph import WEIGHTED, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Weighted, outputs_of


def columns_of(op: Weighted) -> int:
    """Input channels that each row of the weights of ``op`` reads: 1 for a depthwise convolution."""
    match op:
        case Conv2D():
            return op.in_channels
        case DepthwiseConv2D():
            return 1
        case FullyConnected():
            return op.in_features


def area_of(op: Weighted) -> int:
    """Places of its kernel."""
    return 1 if isinstance(op, FullyConnected) else op.kernel[0] * op.kernel[1]


@dataclass(frozen=True, slots=True)
class Part:
    """What of one operator is updated: the weights from the input channels ``columns`` to the output channels ``rows``, and biases.

    Channels are numbers from 0, sorted, each once. Where one of ``rows`` and ``columns`` is empty, no weight is updated.
    """

    rows: tuple[int, ...] = ()
    """Output channels whose weights are updated."""
    columns: tuple[int, ...] = ()
    """Input channels whose weights are updated; (0,) for a depthwise convolution, whose rows read one channel each."""
    biases: tuple[int, ...] = ()
    """Output channels whose bias is updated."""

    @property
    def weighted(self) -> bool:
        """Whether any weight is updated."""
        return bool(self.rows and self.columns)

    @property
    def nothing(self) -> bool:
        """Whether neither weights nor biases are."""
        return not (self.weighted or self.biases)

    def weights_of(self, op: Weighted) -> int:
        """Weights of ``op`` that are updated."""
        return len(self.rows) * len(self.columns) * area_of(op)

    def biases_in(self, op: Weighted) -> int:
        """Biases of ``op`` that are updated."""
        return len(self.biases)

    def read_of(self, op: Weighted) -> frozenset[int] | None:
        """Channels of the input of ``op`` that the gradient of its weights reads; None: all."""
        chosen, every = (self.rows, outputs_of(op)) if isinstance(op, DepthwiseConv2D) else (self.columns, columns_of(op))
        return None if len(chosen) == every else frozenset(chosen)

    def words(self, op: Weighted) -> str:
        """For people: ``all``, ``biases``, ``12 of 96 output channels``."""
        outputs, columns = outputs_of(op), columns_of(op)
        if not self.weighted:
            return "nothing" if not self.biases else "biases" if len(self.biases) == outputs else f"biases of {len(self.biases)} channels"
        parts = []
        if len(self.rows) < outputs:
            parts.append(f"{len(self.rows)} of {outputs} output channels")
        if len(self.columns) < columns:
            parts.append(f"{len(self.columns)} of {columns} input channels")
        if not parts:
            return "all" if len(self.biases) == outputs else "weights"
        return ", ".join(parts)

    def to_json(self, op: Weighted) -> dict[str, Any]:
        """Plain data; channels are listed where not all are meant."""
        sides = {
            "rows": (self.rows, outputs_of(op)),
            "columns": (self.columns, columns_of(op)),
            "biases": (self.biases, outputs_of(op)),
        }
        return {name: "all" if len(chosen) == every else list(chosen) for name, (chosen, every) in sides.items()}


@dataclass(frozen=True, slots=True)
class Whole:
    """All weights of an operator, all its biases, or both: a :class:`Part` without lists of channels, of operators whose sizes may be
    integer arrays."""

    weighted: bool
    biased: bool

    @property
    def nothing(self) -> bool:
        """Whether neither weights nor biases are updated."""
        return not (self.weighted or self.biased)

    def weights_of(self, op: Weighted) -> int:
        """Weights of ``op`` that are updated."""
        return outputs_of(op) * columns_of(op) * area_of(op) if self.weighted else 0

    def biases_in(self, op: Weighted) -> int:
        """Biases of ``op`` that are updated."""
        return outputs_of(op) if self.biased else 0

    def read_of(self, op: Weighted) -> frozenset[int] | None:
        """As of a :class:`Part`: all channels."""
        return None

    def words(self, op: Weighted) -> str:
        """For people."""
        return "all" if self.weighted and self.biased else "weights" if self.weighted else "biases" if self.biased else "nothing"


class Chosen(Protocol):
    """What of each operator a step updates: an :class:`Update`, or one of whole operators."""

    def of(self, op: Weighted) -> Part | Whole:
        """What of ``op`` is updated."""
        ...


@dataclass(frozen=True)
class Wholes:
    """:class:`Whole` parts by operator name; operators that are not named stay as they are."""

    parts: Mapping[str, Whole]

    def of(self, op: Weighted) -> Whole:
        """What of ``op`` is updated."""
        return self.parts.get(op.name, Whole(weighted=False, biased=False))


def biases_of(op: Weighted) -> Part:
    """All biases of ``op`` and no weight."""
    return Part(biases=tuple(range(outputs_of(op))))


def outputs_part(op: Weighted, channels: Iterable[int]) -> Part:
    """The output channels ``channels`` of ``op``: their weights and their biases. What NEq and TinyTrain call neurons and channels."""
    rows = tuple(sorted(set(channels)))
    return Part(rows, tuple(range(columns_of(op))) if rows else (), rows)


def inputs_part(op: Weighted, channels: Iterable[int]) -> Part:
    """The weights of ``op`` that read the input channels ``channels``, and all its biases: MCUNetV3's sub-tensors.

    Its published code picks channels of the input, so that only their activations have to be kept; of a depthwise convolution an input
    channel is an output channel.
    """
    chosen = tuple(sorted(set(channels)))
    every = tuple(range(outputs_of(op)))
    if not chosen:
        return Part(biases=every)
    return Part(chosen, (0,), every) if isinstance(op, DepthwiseConv2D) else Part(every, chosen, every)


def whole(op: Weighted) -> Part:
    """All weights and biases of ``op``."""
    return outputs_part(op, range(outputs_of(op)))


@dataclass(frozen=True)
class Update:
    """By operator name what of it a step updates; operators that are not named stay as they are."""

    parts: Mapping[str, Part] = field(default_factory=dict)

    def of(self, op: Weighted) -> Part:
        """What of ``op`` is updated."""
        return self.parts.get(op.name, _NOTHING)

    @property
    def nothing(self) -> bool:
        """Whether nothing at all is updated."""
        return all(part.nothing for part in self.parts.values())

    def parameters(self, graph: Graph) -> int:
        """Weights and biases of ``graph`` that are updated."""
        return sum(self.of(op).weights_of(op) + len(self.of(op).biases) for op in weighted_of(graph))

    def covers(self, other: Update) -> bool:
        """Whether everything that ``other`` updates is updated here, too."""
        return all(
            set(part.biases) <= set(mine.biases)
            and (not part.weighted or (set(part.rows) <= set(mine.rows) and set(part.columns) <= set(mine.columns)))
            for part, mine in ((part, self.parts.get(name, _NOTHING)) for name, part in other.parts.items())
        )

    def check(self, graph: Graph) -> None:
        """Raise UserError unless every operator and channel that is named is one of ``graph``."""
        known = {op.name: op for op in weighted_of(graph)}
        for name, part in self.parts.items():
            if name not in known:
                raise UserError(f"update: the network has no weighted operator {name!r}", f"it has: {', '.join(known)}")
            op = known[name]
            for what, chosen, every in (
                ("output channels", part.rows, outputs_of(op)),
                ("input channels", part.columns, columns_of(op)),
                ("biases", part.biases, outputs_of(op)),
            ):
                if list(chosen) != sorted(set(chosen)) or (chosen and not 0 <= chosen[0] <= chosen[-1] < every):
                    raise UserError(
                        f"update: {name}: {what} {list(chosen)}: must be sorted numbers from 0 to {every - 1}, each once",
                        f"{name} has {counted(every, what.removesuffix('s'))}",
                    )

    def to_json(self, graph: Graph) -> dict[str, Any]:
        """Plain data: by operator what is updated of it."""
        return {op.name: self.of(op).to_json(op) for op in weighted_of(graph) if not self.of(op).nothing}

    @staticmethod
    def read(document: Mapping[str, Any], graph: Graph) -> Update:
        """What :meth:`to_json` wrote, checked. Raises UserError for what is no update of ``graph``."""
        known = {op.name: op for op in weighted_of(graph)}
        parts: dict[str, Part] = {}
        for name, sides in document.items():
            if name not in known or not isinstance(sides, Mapping) or set(sides) != {"rows", "columns", "biases"}:
                raise UserError(f"update: {name!r} is no part of this network's update", f"operators: {', '.join(known)}")
            op = known[name]
            every = {"rows": outputs_of(op), "columns": columns_of(op), "biases": outputs_of(op)}
            parts[name] = Part(**{side: tuple(range(every[side])) if chosen == "all" else tuple(chosen) for side, chosen in sides.items()})
        update = Update(parts)
        update.check(graph)
        return update


_NOTHING = Part()


def weighted_of(graph: Graph) -> list[Weighted]:
    """The operators of ``graph`` that have weights, in execution order."""
    return [op for op in graph.ops if isinstance(op, WEIGHTED)]


def full_update(graph: Graph) -> Update:
    """Everything."""
    return Update({op.name: whole(op) for op in weighted_of(graph)})


def last_layers(graph: Graph, count: int) -> Update:
    """All of the last ``count`` weighted operators."""
    return Update({op.name: whole(op) for op in _last(graph, count)})


def last_biases(graph: Graph, count: int) -> Update:
    """The biases of the last ``count`` weighted operators, and all of the classifier, the last one."""
    ops: Sequence[Weighted] = _last(graph, count)
    return Update({op.name: whole(op) if op is ops[-1] else biases_of(op) for op in ops})


def _last(graph: Graph, count: int) -> list[Weighted]:
    ops = weighted_of(graph)
    return ops[len(ops) - count :] if count else []
