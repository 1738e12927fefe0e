"""RULES: for each operator whose channels are followed: what its output can hold, which channels it ties, which are always equal.

An operator without a rule freezes all that it touches: nothing of it is removed, and its output can hold anything.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tinynas.shrink.arithmetic import MOST, Range, add, limits, mean, mul, requantize
from tinynas.shrink.model import Op, Subgraph, Tensor
from tinynas.shrink.slots import Slots

Names: TypeAlias = list[Hashable]
"""One a channel: channels of a tensor with equal names hold equal values, whatever the network reads."""


@dataclass(frozen=True)
class Rule:
    """What is known of a kind of operators."""

    holds: Callable[[Subgraph, Op, Sequence[Range]], Range | None]
    """Range of the output from those of the activations that it reads; None for anything."""
    ties: Callable[[Subgraph, Op, Slots], bool]
    """Joins channels; False where it does not know this use of the operator."""
    names: Callable[[Subgraph, Op, Sequence[Names]], Names]
    """Names of the output's channels from those of the inputs."""
    activations: int = 1
    """How many of its first inputs are activations; -1 for all."""

    def read(self, op: Op) -> list[int]:
        """The activations (or constants in their place) that ``op`` reads."""
        return op.inputs if self.activations < 0 else op.inputs[: self.activations]


def _tensors(graph: Subgraph, op: Op) -> tuple[Tensor, Tensor]:
    return graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]


def _same_grid(graph: Subgraph, op: Op) -> bool:
    target = graph.tensors[op.outputs[0]]
    return target.int8 and all(graph.tensors[t].int8 and graph.tensors[t].grid == target.grid for t in op.inputs if t >= 0)


# Ties


def _straight(graph: Subgraph, op: Op, slots: Slots) -> bool:
    # Channel c of the first input is channel c of the output.
    source, target = op.inputs[0], op.outputs[0]
    if source not in slots or target not in slots or slots.sizes[source] != slots.sizes[target]:
        return False
    slots.tie(slots.named(source), slots.named(target))
    return True


def _elementwise(graph: Subgraph, op: Op, slots: Slots) -> bool:
    target = op.outputs[0]
    if len(op.inputs) != 2 or target not in slots:
        return False
    for tensor in op.inputs:
        if graph.tensors[tensor].dims == () and graph.tensors[tensor].constant:
            continue  # one number for all
        if tensor not in slots or slots.sizes[tensor] not in {1, slots.sizes[target]}:
            return False
        if slots.sizes[tensor] == slots.sizes[target]:
            slots.tie(slots.named(tensor), slots.named(target))
        else:
            slots.freeze(tensor)
    return True


def _padded(graph: Subgraph, op: Op, slots: Slots) -> bool:
    return paddings(graph, op) is not None and _straight(graph, op, slots)


def _averaged(graph: Subgraph, op: Op, slots: Slots) -> bool:
    return _count(graph, op) > 0 and _straight(graph, op, slots)


def _reshaped(graph: Subgraph, op: Op, slots: Slots) -> bool:
    source, target = op.inputs[0], op.outputs[0]
    if source not in slots or target not in slots or not _same_grid_first(graph, op):
        return False
    if len(op.inputs) > 1 and not graph.tensors[op.inputs[1]].constant:
        return False
    few, many = sorted((source, target), key=lambda t: slots.sizes[t])
    if slots.sizes[many] % slots.sizes[few]:
        return False
    slots.tie(slots.named(many), list(slots.named(few)) * (slots.sizes[many] // slots.sizes[few]))
    return True


def _same_grid_first(graph: Subgraph, op: Op) -> bool:
    source, target = _tensors(graph, op)
    return source.int8 and target.int8 and source.grid == target.grid and source.elements == target.elements


def _joined(graph: Subgraph, op: Op, slots: Slots) -> bool:
    target = graph.tensors[op.outputs[0]]
    axis, rank = op.options.axis if op.options is not None else 0, len(target.dims)
    if op.options is None or op.outputs[0] not in slots or not all(t in slots for t in op.inputs) or not _same_grid(graph, op):
        return False
    if axis % rank != rank - 1:
        same = all(slots.sizes[t] == target.channels for t in op.inputs)
        for tensor in op.inputs if same else ():
            slots.tie(slots.named(tensor), slots.named(op.outputs[0]))
        return same
    if sum(slots.sizes[t] for t in op.inputs) != target.channels:
        return False
    place = slots.first[op.outputs[0]]
    for tensor in op.inputs:
        slots.tie(slots.named(tensor), range(place, place + slots.sizes[tensor]))
        place += slots.sizes[tensor]
    return True


# Ranges


def _anything(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    return None


def _passed(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    return sources[0] if _same_grid_first_value(graph, op) else None


def _same_grid_first_value(graph: Subgraph, op: Op) -> bool:
    source, target = _tensors(graph, op)
    return source.int8 and target.int8 and source.grid == target.grid and source.channels == target.channels


def _pooled(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    ends = limits(op.options.fusedActivationFunction, graph.tensors[op.outputs[0]].grid) if op.options is not None else None
    return sources[0].clamped(*ends) if ends is not None and _same_grid_first_value(graph, op) else None


def _with_padding(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    padded = paddings(graph, op)
    if padded is None or not _same_grid_first_value(graph, op):
        return None
    return sources[0].hull(graph.tensors[op.outputs[0]].zero) if padded else sources[0]


def _reshaped_range(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    source, target = _tensors(graph, op)
    low, high = sources[0].low, sources[0].high
    if not _same_grid_first(graph, op):
        return None
    if target.channels % source.channels == 0:
        times = target.channels // source.channels
        return Range(np.tile(low, times), np.tile(high, times))
    if source.channels % target.channels == 0:
        return Range(low.reshape(-1, target.channels).min(0), high.reshape(-1, target.channels).max(0))
    return None


def _joined_range(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    if not _same_grid(graph, op) or op.options is None:
        return None
    if op.options.axis % len(graph.tensors[op.outputs[0]].dims) == len(graph.tensors[op.outputs[0]].dims) - 1:
        return Range(np.concatenate([s.low for s in sources]), np.concatenate([s.high for s in sources]))
    return Range(np.minimum.reduce([s.low for s in sources]), np.maximum.reduce([s.high for s in sources]))


def _added(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    first, second, target = (graph.tensors[t] for t in (*op.inputs, op.outputs[0]))
    if op.options is None:
        return None
    act = op.options.fusedActivationFunction
    return add(sources[0], sources[1], (first.grid, second.grid, target.grid), act, minus=op.kind == "SUB")


def _multiplied(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    first, second, target = (graph.tensors[t] for t in (*op.inputs, op.outputs[0]))
    if op.options is None:
        return None
    return mul(sources[0], sources[1], (first.grid, second.grid, target.grid), op.options.fusedActivationFunction)


def _clipped(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    first, second = sources
    if not _same_grid(graph, op):
        return None
    choose = np.maximum if op.kind == "MAXIMUM" else np.minimum
    return Range(choose(first.low, second.low), choose(first.high, second.high))


def _rectified(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    source, target = _tensors(graph, op)
    if op.kind == "RELU":
        return requantize(sources[0], (source.grid, target.grid), 1, single=True)
    ends = limits(3, source.grid)
    # RELU6 does not rescale: it clips, on the input's grid.
    return sources[0].clamped(*ends) if ends is not None and ends[1] <= MOST and source.grid == target.grid else None


def _requantized(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    source, target = _tensors(graph, op)
    return requantize(sources[0], (source.grid, target.grid))


def _mean_range(graph: Subgraph, op: Op, sources: Sequence[Range]) -> Range | None:
    source, target = _tensors(graph, op)
    count = _count(graph, op)
    return mean(sources[0], count, (source.grid, target.grid)) if count else None


def _count(graph: Subgraph, op: Op) -> int:
    """Elements of each channel that a MEAN averages; 0 where it is not one over whole channels."""
    source, target = _tensors(graph, op)
    axes = graph.tensors[op.inputs[1]].array if len(op.inputs) == 2 else None
    if axes is None or axes.dtype.kind != "i" or not axes.size:
        return 0
    chosen = {int(axis) % len(source.dims) for axis in axes.reshape(-1)}
    if len(source.dims) - 1 in chosen or source.channels != target.channels:
        return 0
    return int(np.prod([source.dims[axis] for axis in chosen]))


def paddings(graph: Subgraph, op: Op) -> bool | None:
    """Whether a PAD adds anything; None where that is not known or it adds channels."""
    amounts = graph.tensors[op.inputs[1]].array if len(op.inputs) == 2 else None
    if amounts is None or amounts.dtype.kind != "i" or amounts.ndim != 2 or amounts.shape != (len(graph.tensors[op.inputs[0]].dims), 2):
        return None
    return None if amounts[-1].any() or (amounts < 0).any() else bool(amounts.any())


# Names


def _own(graph: Subgraph, op: Op, sources: Sequence[Names]) -> Names:
    place = op.outputs[0]
    return [(place, channel) for channel in range(graph.tensors[place].channels)]


def _by_inputs(graph: Subgraph, op: Op, sources: Sequence[Names]) -> Names:
    channels = graph.tensors[op.outputs[0]].channels
    spread = [names if len(names) == channels else names * channels for names in sources]
    return [(op.outputs[0], *parts) for parts in zip(*spread, strict=True)]


def _copied(graph: Subgraph, op: Op, sources: Sequence[Names]) -> Names:
    axis = op.options.axis if op.options is not None else 0
    rank = len(graph.tensors[op.outputs[0]].dims)
    return [name for names in sources for name in names] if axis % rank == rank - 1 else _by_inputs(graph, op, sources)


def _tiled(graph: Subgraph, op: Op, sources: Sequence[Names]) -> Names:
    source, target = _tensors(graph, op)
    if target.channels % source.channels:
        return _own(graph, op, sources)
    return [(op.outputs[0], place, name) for place in range(target.channels // source.channels) for name in sources[0]]


_ALONE = Rule(_anything, _straight, _by_inputs)
_RESHAPE = Rule(_reshaped_range, _reshaped, _tiled)
_POOL = Rule(_pooled, _straight, _by_inputs)

#: Operator -> what is known of it, beside the weighted ones (:mod:`tinynas.shrink.weighted`).
RULES: dict[str, Rule] = {
    "ADD": Rule(_added, _elementwise, _by_inputs, 2),
    "SUB": Rule(_added, _elementwise, _by_inputs, 2),
    "MUL": Rule(_multiplied, _elementwise, _by_inputs, 2),
    "MAXIMUM": Rule(_clipped, _elementwise, _by_inputs, 2),
    "MINIMUM": Rule(_clipped, _elementwise, _by_inputs, 2),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "MEAN": Rule(_mean_range, _averaged, _by_inputs),
    "PAD": Rule(_with_padding, _padded, _by_inputs),
    "RESHAPE": _RESHAPE,
    "SQUEEZE": _RESHAPE,
    "EXPAND_DIMS": _RESHAPE,
    "CONCATENATION": Rule(_joined_range, _joined, _copied, -1),
    "RELU": Rule(_rectified, _straight, _by_inputs),
    "RELU6": Rule(_rectified, _straight, _by_inputs),
    "QUANTIZE": Rule(_requantized, _straight, _by_inputs),
    "RESIZE_NEAREST_NEIGHBOR": Rule(_passed, _straight, _by_inputs),
    # Their values are not followed, but each channel is computed from the same channel alone.
    "HARD_SWISH": _ALONE,
    "LEAKY_RELU": _ALONE,
    "LOGISTIC": _ALONE,
    "TANH": _ALONE,
    "ABS": _ALONE,
    "RESIZE_BILINEAR": _ALONE,
}
