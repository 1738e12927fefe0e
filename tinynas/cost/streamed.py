"""Streamed plans: a network computed row by row through line buffers, in segments, with nothing computed twice.

A segment is a run of operators that streams one whole tensor into another: whenever a row of a tensor is there, the deepest operator
that has all the rows that it reads computes one row. So a tensor inside a segment needs the few rows that a window spans (a ring), and
a shortcut as many as its block lags behind; a tensor of which each row is read once, at once, needs one row for a moment, which is
shared with all others of that kind; a depthwise convolution writes over the oldest row that it reads. Between segments one tensor
alone is alive, whole. The cuts are those of the least bytes, over all ways to cut; a segment of one operator is layer-wise inference.

The input is a whole frame in the work area (``kept``), or its rows are given one by one (``rows``) and kept in a ring too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, TypeAlias, assert_never, get_args

from tinynas.cost.memory import Buffer, greedy
from tinynas.graph import WINDOWED, Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mean, Mul, Op, Pool2D

Frame = Literal["kept", "rows"]
FRAMES: tuple[Frame, ...] = get_args(Frame)
#: Bytes to which every buffer of the work area is aligned.
ALIGNMENT = 4
Span: TypeAlias = tuple[int, int]
"""First and last row of an input that a step reads."""


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def rows_of(graph: Graph, tensor: int) -> int:
    """Rows of a tensor; a vector is one."""
    shape = graph.shape(tensor)
    return int(shape[0]) if len(shape) == 3 else 1


def row_bytes(graph: Graph, tensor: int) -> int:
    """Bytes of one of its rows."""
    shape = graph.shape(tensor)
    return int(shape[1] * shape[2]) if len(shape) == 3 else int(shape[0])


def gathers(op: Op) -> bool:
    """Whether ``op`` takes its input row by row into an output row that grows: maxima of windows that do not overlap."""
    return isinstance(op, Pool2D) and op.op == "max" and op.kernel[0] == op.stride[0] and op.padding.none


def steps_of(graph: Graph, op: Op) -> tuple[int, int]:
    """(steps of an operator, steps that make one row of its output)."""
    if isinstance(op, Mean):
        height = rows_of(graph, op.inputs[0])
        return height, height
    each = op.kernel[0] if isinstance(op, Pool2D) and gathers(op) else 1
    return rows_of(graph, op.output) * each, each


def reads(graph: Graph, op: Op, step: int) -> tuple[Span, ...]:
    """Rows of each input that step ``step`` of ``op`` reads."""
    if isinstance(op, WINDOWED) and not gathers(op):
        first = step * op.stride[0] - op.padding.top
        return ((max(first, 0), min(first + op.kernel[0], rows_of(graph, op.inputs[0])) - 1),)
    match op:
        case Add() | Mul():
            return tuple((step, step) if rows_of(graph, tensor) > 1 else (0, 0) for tensor in op.inputs)
        case Mean() | Pool2D() | Conv2D() | DepthwiseConv2D() | FullyConnected():
            return ((step, step),)
    assert_never(op)


def scratch_of(graph: Graph, op: Op) -> int:
    """Bytes that a step of ``op`` needs beside its rows: two patches of a convolution, a row of four channels of a depthwise one."""
    if isinstance(op, Conv2D) and op.kernel != (1, 1):
        return 2 * op.kernel[0] * op.kernel[1] * op.in_channels
    return 4 * graph.shape(op.output)[1] if isinstance(op, DepthwiseConv2D) else 0


def state_of(graph: Graph, op: Op) -> int:
    """Bytes that ``op`` keeps between its steps: the sums of a mean."""
    return 4 * graph.shape(op.output)[0] if isinstance(op, Mean) else 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of a tensor lie: row y at ``offset + (y * step + shift) % rows * pitch``."""

    offset: int
    rows: int
    pitch: int
    step: int = 1
    shift: int = 0

    def at(self, row: int) -> int:
        """Offset of row ``row`` in the work area."""
        return self.offset + (row * self.step + self.shift) % self.rows * self.pitch


@dataclass(frozen=True)
class StreamPlan:
    """How a network is computed, and where in the work area everything lies."""

    graph: Graph
    frame: Frame
    segments: tuple[tuple[int, int], ...]
    """First operator and the one behind the last, of each segment."""
    places: tuple[Place, ...]
    """Per tensor."""
    scratch: tuple[int, ...]
    """Per operator the offset of its scratch or state; 0 where it has none."""
    area_bytes: int
    """Bytes of the buffers together."""

    @property
    def counter_bytes(self) -> int:
        """Bytes of a counter of rows: 1 where no operator takes more than 255 steps."""
        most = max(rows_of(self.graph, 0), *(steps_of(self.graph, op)[0] for op in self.graph.ops))
        return 1 if most <= 255 else 2

    @property
    def counters(self) -> int:
        """Counters of the longest segment: steps and rows of each operator, and rows of the input."""
        return 2 * max(end - begin for begin, end in self.segments) + 1

    @cached_property
    def work_bytes(self) -> int:
        """All memory that the compiled network uses beside the stack: buffers, counters, the number of the segment."""
        return _aligned(self.area_bytes + self.counters * self.counter_bytes + 1)

    def segment_of(self, op: int) -> int:
        """The segment that holds operator ``op``."""
        return next(i for i, (begin, end) in enumerate(self.segments) if begin <= op < end)


def work_area_bytes(graph: Graph, *, frame: Frame = "kept") -> int:
    """SRAM of the compiled network, stack excepted."""
    return plan_streamed(graph, frame=frame).work_bytes


@dataclass(frozen=True, slots=True)
class _Inner:
    """A tensor inside a segment."""

    ring: int
    """Rows that are alive at once."""
    first: int
    """Operator that writes it; -1 for the frame."""
    last: int
    """Last operator that reads it."""
    lasting: bool
    """Whether rows are kept from one round to the next; others live from the step that writes them to the one that reads them."""


class _Planner:
    def __init__(self, graph: Graph, frame: Frame) -> None:
        self.graph, self.frame = graph, frame
        spans = graph.lifetimes
        count = len(graph.ops)
        alone = [i + 1 for i in range(count - 1) if sum(first <= i < last for first, last in spans) == 1]
        #: Where segments may begin and end: where the tensor just written is alone.
        self.cuts = [0, *[cut for cut in alone if spans[graph.ops[cut - 1].output][1] >= cut], count]
        self.inner: dict[int, _Inner] = {}
        for begin, end in pairwise(self.cuts):
            self._rings(begin, end)

    def _rings(self, begin: int, end: int) -> None:
        """Run the operators between two cuts as the compiled network does, and note what is alive."""
        graph, ops = self.graph, self.graph.ops[begin:end]
        source = graph.inputs[0] if begin == 0 else graph.ops[begin - 1].output
        written = {op.output: i for i, op in enumerate(ops)}
        readers: dict[int, list[int]] = {tensor: [] for tensor in (source, *written)}
        for i, op in enumerate(ops):
            for tensor in op.inputs:
                readers[tensor].append(i)
        steps = [steps_of(graph, op) for op in ops]
        at, there = [0] * len(ops), dict.fromkeys(readers, 0)
        ring, lasting = dict.fromkeys(readers, 0), dict.fromkeys(readers, False)

        def begun(tensor: int) -> None:
            kept = [
                min(span[0] for t, span in zip(ops[i].inputs, reads(graph, ops[i], at[i]), strict=True) if t == tensor)
                for i in readers[tensor]
                if at[i] < steps[i][0]
            ]
            ring[tensor] = max(ring[tensor], there[tensor] - min([there[tensor], *kept]) + 1)

        def ready(i: int) -> bool:
            op = ops[i]
            spans = zip(op.inputs, reads(graph, op, at[i]), strict=True)
            return all(there[tensor] > span[1] for tensor, span in spans)

        while True:
            i = next((i for i in reversed(range(len(ops))) if at[i] < steps[i][0] and ready(i)), -1)
            if i < 0:
                if there[source] == rows_of(graph, source):
                    break
                begun(source)
                there[source] += 1
                continue
            total, each = steps[i]
            if at[i] % each == (0 if gathers(ops[i]) else each - 1):
                begun(ops[i].output)
            at[i] += 1
            if at[i] % each == 0:
                there[ops[i].output] += 1
        for tensor, users in readers.items():
            for i in users:
                total, _ = steps[i]
                number = ops[i].inputs.index(tensor)
                spans = [reads(graph, ops[i], step)[number] for step in range(total)]
                lasting[tensor] |= len(spans) > 1 and any(now[0] <= before[1] for before, now in pairwise(spans))
        for tensor in readers:
            producer = begin + written[tensor] if tensor in written else begin - 1
            grows = producer >= begin and gathers(graph.ops[producer])
            known = self.inner.get(tensor)
            if tensor in written and not readers[tensor]:
                self.inner[tensor] = _Inner(1, producer, end - 1, grows)  # what its reader behind the cut adds, comes with that
                continue
            last = max(begin + i for i in readers[tensor])
            kept = ring[tensor] > 1 or lasting[tensor] or grows or (known is not None and known.lasting)
            self.inner[tensor] = _Inner(max(ring[tensor], 1), producer, last, kept)

    def overwrites(self, index: int, inside: Sequence[int]) -> bool:
        """Whether the depthwise convolution ``index`` writes over the oldest row that it reads; ``inside``: its segment's inner tensors."""
        graph, op = self.graph, self.graph.ops[index]
        if not isinstance(op, DepthwiseConv2D) or op.inputs[0] not in inside or op.output not in inside:
            return False
        source, target = self.inner[op.inputs[0]], self.inner[op.output]
        if not source.lasting or target.lasting or target.last != index + 1 or source.last != index:
            return False
        if sum(op.inputs[0] in other.inputs for other in graph.ops) > 1:
            return False
        height = rows_of(graph, op.inputs[0])
        for step in range(rows_of(graph, op.output)):
            first = step * op.stride[0] - op.padding.top
            if min(first + op.kernel[0], height) - first > source.ring:
                return False
        return True

    def parts(self, begin: int, end: int) -> tuple[list[int], list[tuple[int, int]], list[tuple[int, Buffer]]]:
        """(whole tensors, (id, bytes) of what stays, (id, buffer) of what is there for a moment) of a segment.

        Ids are tensors, or -1 - operator for scratch and state.
        """
        graph, ops = self.graph, self.graph.ops
        source = graph.inputs[0] if begin == 0 else ops[begin - 1].output
        whole = [ops[end - 1].output]
        inside = [op.output for op in ops[begin : end - 1]]
        if begin == 0 and self.frame == "rows":
            inside.insert(0, source)
        else:
            whole.insert(0, source)
        stays: list[tuple[int, int]] = []
        passing: list[tuple[int, Buffer]] = []
        for tensor in inside:
            known = self.inner[tensor]
            size = _aligned(known.ring * row_bytes(graph, tensor))
            if known.first >= begin and self.overwrites(known.first, inside):
                continue
            if known.lasting:
                stays.append((tensor, size))
            else:
                passing.append((tensor, Buffer(size, known.first, known.last)))
        for index in range(begin, end):
            if state := state_of(graph, ops[index]):
                stays.append((-1 - index, state))
            elif scratch := scratch_of(graph, ops[index]):
                passing.append((-1 - index, Buffer(_aligned(scratch), index, index)))
        return whole, stays, passing

    def whole_bytes(self, tensor: int) -> int:
        return _aligned(self.graph.tensors[tensor].elements)

    def least(self, begin: int, end: int) -> int:
        """Bytes of a segment."""
        whole, stays, passing = self.parts(begin, end)
        return sum(map(self.whole_bytes, whole)) + sum(size for _, size in stays) + _alive([buffer for _, buffer in passing])

    def segments(self) -> list[tuple[int, int]]:
        """The cuts of the least bytes; of equals the fewest."""
        cuts = self.cuts
        best: dict[int, tuple[int, int, int]] = {0: (0, 0, 0)}  # bytes, segments, where the last one begins
        for j, end in enumerate(cuts[1:], 1):
            best[end] = min((max(best[begin][0], self.least(begin, end)), best[begin][1] + 1, begin) for begin in cuts[:j])
        found, end = [], cuts[-1]
        while end:
            begin = best[end][2]
            found.append((begin, end))
            end = begin
        return found[::-1]

    def plan(self) -> StreamPlan:
        graph = self.graph
        segments = self.segments()
        packed = []
        for begin, end in segments:
            whole, stays, passing = self.parts(begin, end)
            offsets, size = _pack([buffer for _, buffer in passing])
            packed.append((whole, stays, passing, offsets, size))
        area = max(sum(map(self.whole_bytes, whole)) + sum(s for _, s in stays) + size for whole, stays, _, _, size in packed)
        where: dict[int, int] = {}
        bottom = True  # whole tensors alternate between the two ends
        if self.frame == "kept":
            where[graph.inputs[0]] = 0
            bottom = False
        for whole, stays, passing, offsets, _ in packed:
            target = whole[-1]
            where[target] = 0 if bottom else area - self.whole_bytes(target)
            at = sum(self.whole_bytes(tensor) for tensor in whole if where[tensor] == 0)
            bottom = not bottom
            for key, size in stays:
                where[key], at = at, at + size
            for (key, _), offset in zip(passing, offsets, strict=True):
                where[key] = at + offset
        return StreamPlan(graph, self.frame, tuple(segments), self._places(segments, where), self._scratch(where), area)

    def _scratch(self, where: dict[int, int]) -> tuple[int, ...]:
        return tuple(where.get(-1 - index, 0) for index in range(len(self.graph.ops)))

    def _places(self, segments: Sequence[tuple[int, int]], where: dict[int, int]) -> tuple[Place, ...]:
        graph = self.graph
        whole = {graph.ops[end - 1].output for _, end in segments} | ({graph.inputs[0]} if self.frame == "kept" else set())
        places: dict[int, Place] = {}
        for tensor in (graph.inputs[0], *(op.output for op in graph.ops)):
            pitch = row_bytes(graph, tensor)
            if tensor in whole:
                places[tensor] = Place(where[tensor], rows_of(graph, tensor), pitch)
            elif tensor in where:
                places[tensor] = Place(where[tensor], self.inner[tensor].ring, pitch)
            else:  # written over the oldest row of what its operator reads
                op = graph.ops[self.inner[tensor].first]
                assert isinstance(op, DepthwiseConv2D)
                source = places[op.inputs[0]]
                places[tensor] = Place(source.offset, source.rows, source.pitch, op.stride[0], -op.padding.top % source.rows)
        return tuple(places[tensor] for tensor in range(len(graph.tensors)))


def _alive(buffers: Sequence[Buffer]) -> int:
    """Most bytes alive at once."""
    moments = {b.first for b in buffers}
    return max((sum(b.size for b in buffers if b.first <= moment <= b.last) for moment in moments), default=0)


def _pack(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """(offsets, bytes) of buffers: a chain from both ends by turns, which reaches the least; other shapes by size."""
    bound = _alive(buffers)
    offsets: list[int] = [-1] * len(buffers)
    bottom = True
    for i in sorted((i for i, b in enumerate(buffers) if b.last > b.first), key=lambda i: buffers[i].first):
        offsets[i] = 0 if bottom else bound - buffers[i].size
        bottom = not bottom
    chain = [i for i, offset in enumerate(offsets) if offset >= 0]
    for n, i in enumerate(chain):
        for j in chain[:n]:
            one, other = buffers[i], buffers[j]
            apart = offsets[i] + one.size <= offsets[j] or offsets[j] + other.size <= offsets[i]
            if not apart and one.first <= other.last and other.first <= one.last:
                return greedy(buffers)
    placed, size = greedy(buffers, offsets)
    return (placed, size) if size <= bound else greedy(buffers)


def plan_streamed(graph: Graph, *, frame: Frame = "kept") -> StreamPlan:
    """The plan of the least bytes for ``graph``, with its frame ``kept`` in the work area or its ``rows`` given one by one."""
    return _Planner(graph, frame).plan()
