"""Channels that change nothing: constant ones are folded into the biases that read them, equal ones merged, unread ones removed.

One round looks at the whole graph, rewrites weights so that as few channels as possible are read, and takes out every class of
tied channels (:mod:`tinynas.shrink.slots`) of which no weight reads any. Rounds follow each other until nothing changes: what is
removed may have been the only reader of something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tinynas.shrink.arithmetic import Range
from tinynas.shrink.model import Op, Subgraph
from tinynas.shrink.rules import RULES, Names
from tinynas.shrink.slots import Sink, Slots
from tinynas.shrink.weighted import WEIGHTED, Weighted, weighted

#: Why a channel went.
REASONS = ("constant", "duplicate", "unread")


@dataclass
class Look:
    """A graph as it was found: what its tensors hold, what is tied, who reads what."""

    graph: Subgraph
    slots: Slots
    ranges: dict[int, Range] = field(default_factory=dict)
    names: dict[int, Names] = field(default_factory=dict)
    readers: dict[int, Weighted] = field(default_factory=dict)
    """The weighted operators by their output."""
    unknown: list[Op] = field(default_factory=list)
    """Operators of which nothing is known, and which touch int8 tensors."""

    def range(self, tensor: int) -> Range:
        """What ``tensor`` (int8, not a scalar without dimension) can hold."""
        if tensor not in self.ranges:
            made = self.graph.tensors[tensor]
            constant = None if made.is_variable else made.array
            self.ranges[tensor] = Range.full(max(made.channels, 1)) if constant is None else Range.of(constant)
        return self.ranges[tensor]

    def named(self, tensor: int) -> Names:
        """The names of its channels."""
        if tensor not in self.names:
            made = self.graph.tensors[tensor]
            constant = None if made.is_variable else made.array
            if constant is None:
                self.names[tensor] = [(tensor, channel) for channel in range(max(made.channels, 1))]
            else:
                rows = constant.reshape(-1, made.channels if made.dims else 1)
                self.names[tensor] = [("constant", rows[:, channel].tobytes()) for channel in range(rows.shape[1])]
        return self.names[tensor]


def look(graph: Subgraph) -> Look:
    """What is known of ``graph``."""
    slots = Slots.of(graph)
    found = Look(graph, slots)
    operands: set[int] = set()
    written: set[int] = set()
    for op in graph.ops:
        written.update(op.outputs)
        rule = RULES.get(op.kind)
        if made := weighted(graph, op):
            _add_weighted(found, made)
        elif rule is not None and len(op.outputs) == 1 and not op.intermediates and all(t >= 0 for t in op.inputs):
            read = rule.read(op)
            operands.update(read)
            if rule.ties(graph, op, slots):
                sources = [found.range(t) for t in read]
                found.ranges[op.outputs[0]] = rule.holds(graph, op, sources) or found.range(op.outputs[0])
                found.names[op.outputs[0]] = rule.names(graph, op, [found.named(t) for t in read])
            else:
                _leave(found, op)
        else:
            _leave(found, op)
    for number, tensor in enumerate(graph.tensors):
        if tensor.is_variable or number in graph.ends or (number not in written and number not in operands):
            slots.freeze(number)
    return found


def _leave(found: Look, op: Op) -> None:
    # Everything that it touches stays as it is.
    touched = [t for t in (*op.inputs, *op.outputs, *op.intermediates) if t >= 0]
    for tensor in touched:
        found.slots.freeze(tensor)
    known = op.kind in RULES or op.kind in WEIGHTED
    if not known and any(found.graph.tensors[t].int8 and not found.graph.tensors[t].constant for t in touched):
        found.unknown.append(op)


def _add_weighted(found: Look, made: Weighted) -> None:
    slots, graph = found.slots, found.graph
    source, output = found.range(made.source), found.range(made.output)
    known = made.range(source, graph)
    if known is None:
        return _leave(found, made.op)
    found.ranges[made.output] = output = known
    found.readers[made.output] = made
    _still(made, source, graph.tensors[made.source].zero, output)
    if made.multiplier and slots.sizes[made.source] > 1:
        slots.tie(slots.named(made.output), [slots.first[made.source] + row // made.multiplier for row in range(made.rows)])
    elif made.multiplier:
        slots.freeze(made.source)  # one channel in: each row stands for itself
    else:
        slots.sinks.append(Sink(made))
        _fold(made, source, graph.tensors[made.source].zero)
    found.names[made.output] = _weighted_names(made, found.named(made.source), output)
    return None


def _still(made: Weighted, source: Range, zero: int, output: Range) -> None:
    """Rows with a constant result need no weights: a bias within the range of their sums gives the same result."""
    sums = made.sums(source, zero)
    if sums is None or not output.constant.any():
        return
    rows = output.constant
    nearest = np.clip(0, sums[0].min(0), sums[1].max(0))
    made.values[rows] = 0
    made.biases[rows] = nearest[rows]


def _fold(made: Weighted, source: Range, zero: int) -> None:
    """Columns that hold one value go into the biases, in the rows in which that is the same at every place of the image.

    No sum can overflow by it: what is added to a bias is no more than what its bound already counted of the column.
    """
    for column in np.flatnonzero(source.constant):
        added = made.contribution(int(column), int(source.low[column]) - zero)
        rows = (added == added[0]).all(0)
        made.biases[rows] += added[0][rows]
        made.values[rows, :, column] = 0


def _weighted_names(made: Weighted, sources: Names, output: Range) -> Names:
    names: Names = []
    summed = made.values
    order = {name: number for number, name in enumerate(dict.fromkeys(sources))}
    if not made.multiplier and len(order) < len(sources):  # columns that hold the same are one
        groups = np.array([order[name] for name in sources])
        summed = np.stack([made.values[:, :, groups == group].sum(2) for group in range(len(order))], 2)
    for row in range(made.rows):
        if output.constant[row]:
            names.append(("still", int(output.low[row])))
        elif made.multiplier:
            read = sources[row // made.multiplier]
            names.append((made.output, read, made.values[row].tobytes(), int(made.biases[row]), made.pairs[row]))
        else:
            names.append((made.output, summed[row].tobytes(), int(made.biases[row]), made.pairs[row]))
    return names


def removed_in(graph: Subgraph) -> Counter[tuple[int, str]] | None:
    """One round on ``graph``: channels removed by (number of the operator that computed them, reason); None, and nothing
    changed, where there is nothing to remove."""
    found = look(graph)
    frozen = found.slots.frozen()
    roots = found.slots.roots()
    read = _read(found, roots)
    merged = _merge(found, roots, read, frozen)
    gone = _spare(found, roots, {int(root) for root in roots} - frozen - read.keys())
    if not gone:
        return None
    still = {int(root) for t, first in found.slots.first.items() for root in roots[first:][np.flatnonzero(found.range(t).constant)]}
    counted: Counter[tuple[int, str]] = Counter()
    for output, made in found.readers.items():
        first = found.slots.first[output]
        for root in roots[first : first + made.rows]:
            if int(root) in gone:
                counted[made.op.number, "duplicate" if root in merged else "constant" if root in still else "unread"] += 1
    _take_out(found, roots, gone)
    return counted


Reads: TypeAlias = dict[int, list[tuple[Weighted, int]]]
"""Class -> which columns read it with a weight that is not zero."""


def _read(found: Look, roots: NDArray[np.int64]) -> Reads:
    read: Reads = {}
    for sink in found.slots.sinks:
        first = found.slots.first[sink.reader.source]
        for channel in np.flatnonzero(sink.reads()):
            read.setdefault(int(roots[first + channel]), []).append((sink.reader, int(channel)))
    return read


def _spare(found: Look, roots: NDArray[np.int64], gone: set[int]) -> set[int]:
    """``gone`` without those by which a tensor would lose its last channel."""
    for tensor, first in found.slots.first.items():
        own = [int(root) for root in roots[first : first + found.slots.sizes[tensor]]]
        if all(root in gone for root in own):
            gone = gone - {own[0]}
    return gone


def _merge(found: Look, roots: NDArray[np.int64], read: Reads, frozen: set[int]) -> set[int]:
    """Let one of several equal channels stand for all, where the sum of their weights still fits; the classes that are free by it."""
    places: dict[int, dict[tuple[int, object], int]] = {}  # class -> (tensor, name) -> channel
    equal: dict[tuple[int, object], list[int]] = {}
    for reader in {sink.reader.source for sink in found.slots.sinks}:
        first = found.slots.first[reader]
        for channel, name in enumerate(found.named(reader)):
            root = int(roots[first + channel])
            if root in read:
                places.setdefault(root, {})[reader, name] = channel
                others = equal.setdefault((reader, name), [])
                others += [] if root in others else [root]
    for classes in equal.values():
        for drop in [root for root in classes[::-1] if root not in frozen]:
            for keep in classes:
                if keep != drop and keep in read and drop in read and _moved(found, read, places[keep], keep, drop):
                    break
    return {root for classes in equal.values() for root in classes if root not in read}


def _moved(found: Look, read: Reads, partner: dict[tuple[int, object], int], keep: int, drop: int) -> bool:
    """Move all weights that read the class ``drop`` to channels of ``keep`` that hold the same; False where one finds no room."""
    moves = []
    for made, channel in read[drop]:
        other = partner.get((made.source, found.named(made.source)[channel]))
        if other is None or (np.abs(made.values[:, :, other] + made.values[:, :, channel]) > made.largest).any():
            return False
        moves.append((made, other, channel))
    for made, other, channel in moves:
        made.values[:, :, other] += made.values[:, :, channel]
        made.values[:, :, channel] = 0
    del read[drop]
    return True


def _take_out(found: Look, roots: NDArray[np.int64], gone: set[int]) -> None:
    graph, slots = found.graph, found.slots
    stays = {t: np.array([int(root) not in gone for root in roots[first : first + slots.sizes[t]]]) for t, first in slots.first.items()}
    for made in found.readers.values():
        _cut(graph, made, stays[made.source], stays[made.output])
    for tensor, mask in stays.items():
        if mask.all():
            continue
        cut = graph.tensors[tensor]
        cut.shape = (*cut.dims[:-1], int(mask.sum()))
        if cut.array is not None:
            cut.data = np.ascontiguousarray(cut.array[..., mask])
    for op in graph.ops:
        if op.kind == "RESHAPE":
            reshape(graph, op)


def _cut(graph: Subgraph, made: Weighted, columns: NDArray[np.bool_], rows: NDArray[np.bool_]) -> None:
    weight = graph.tensors[made.weight]
    made.values, made.biases = made.values[rows], made.biases[rows]
    if made.multiplier:
        made.op.options.depthMultiplier = int(rows.sum()) // int(columns.sum())
        weight.shape = (*weight.dims[:-1], made.rows)
    else:
        made.values = made.values[:, :, columns]
        taps = made.values.shape[1]
        last = (taps * int(columns.sum()),) if len(weight.dims) == 2 else (*weight.dims[1:-1], int(columns.sum()))
        weight.shape = (made.rows, *last)
    _cut_scales(graph, (made.weight, made.bias), rows)
    if made.bias >= 0:
        bias = graph.tensors[made.bias]
        bias.shape = (*bias.dims[:-1], made.rows)
    made.store(graph)


def _cut_scales(graph: Subgraph, tensors: Iterable[int], rows: NDArray[np.bool_]) -> None:
    for number in tensors:
        if number < 0:
            continue
        tensor = graph.tensors[number]
        if tensor.scale.size == rows.size:
            tensor.scale = tensor.scale[rows]
        if tensor.zero_point.size == rows.size:
            tensor.zero_point = tensor.zero_point[rows]


def reshape(graph: Subgraph, op: Op) -> None:
    """Write the shape that a RESHAPE's output has into its options and its constant."""
    shape = list(graph.tensors[op.outputs[0]].dims)
    if op.options is not None and op.options.newShape is not None:
        op.options.newShape = np.array(shape, np.int32)
    if len(op.inputs) > 1:
        constant = graph.tensors[op.inputs[1]]
        if constant.array is not None and constant.elements == len(shape):
            constant.data = np.array(shape, "<i4").reshape(constant.dims)
