"""Streamed plans: a network computed row by row through line buffers, in segments, with nothing computed twice.

A segment is a run of operators that streams one whole tensor into another: whenever a row of a tensor is there, the deepest operator
that has all the rows that it reads computes one row. So a tensor inside a segment needs the few rows that a window spans (a ring), and
a shortcut as many as its block lags behind; a tensor of which each row is read once, at once, needs one row for a moment, which is
shared with all others of that kind; a depthwise convolution writes over the oldest row that it reads. Between segments one tensor
alone is alive, whole. The cuts are those of the least bytes, over all ways to cut; a segment of one operator is layer-wise inference.

The input is a whole frame in the work area (``kept``), or its rows are given one by one (``rows``) and kept in a ring too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias, assert_never, get_args

from tinynas.cost.memory import Buffer, greedy
from tinynas.errors import InternalError
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Mean, Mul, Op, Pool2D, Resize, Tensor, nearest

Frame = Literal["kept", "rows"]
FRAMES: tuple[Frame, ...] = get_args(Frame)
#: Bytes to which every buffer of the work area is aligned.
ALIGNMENT = 4
Span: TypeAlias = tuple[int, int]
"""First and last row of an input that a step reads."""


def _aligned(size: Any) -> Any:
    return -(-size // ALIGNMENT) * ALIGNMENT


def rows_of(graph: Graph, tensor: int) -> int:
    """Rows of a tensor; a vector is one."""
    shape = graph.shape(tensor)
    return int(shape[0]) if len(shape) == 3 else 1


def row_of_shape(shape: Sequence[Any]) -> Any:
    """Bytes of one row of a tensor of ``shape``, which may be arrays."""
    return shape[1] * shape[2] if len(shape) == 3 else shape[0]


def row_bytes(graph: Graph, tensor: int) -> int:
    """Bytes of one of its rows."""
    return int(row_of_shape(graph.shape(tensor)))


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


def window_of(op: Op) -> tuple[int, int, Any]:
    """(rows that a step spans, rows by which they move on from step to step, rows above the map in the first step).

    Of a dilated convolution a step reads some of these alone (:func:`taps_of`); those between are kept for later steps. A resizing moves
    on as :func:`tinynas.graph.nearest` says: 0 stands for that.
    """
    match op:
        case Pool2D() if gathers(op):
            return 1, 1, 0
        case Conv2D() | DepthwiseConv2D() | Pool2D():
            return op.reach[0], op.stride[0], op.padding.top
        case Add() | Mul() | Mean() | FullyConnected() | HardSwish():
            return 1, 1, 0
        case Resize():
            return 1, 0, 0
    assert_never(op)


def taps_of(op: Op) -> tuple[int, int]:
    """(rows that a step of ``op`` reads, of those that it spans, rows from one of them to the next)."""
    apart = op.dilation[0] if isinstance(op, Conv2D | DepthwiseConv2D) else 1
    return (window_of(op)[0] - 1) // apart + 1, apart


def reads(graph: Graph, op: Op, step: int) -> tuple[Span, ...]:
    """Rows of each input that step ``step`` of ``op`` reads; a vector beside a map is read in each step."""
    window, advance, above = window_of(op)
    heights = [rows_of(graph, tensor) for tensor in op.inputs]
    first = nearest(heights[0], rows_of(graph, op.output))[step] if isinstance(op, Resize) else step * advance - above
    return tuple((min(max(first, 0), height - 1), min(first + window, height) - 1) for height in heights)


def rows_left(graph: Graph, begin: int, end: int) -> bool:
    """Whether operators ``begin`` to ``end`` (without it), a segment, may still compute rows when its last one has ended: such as nobody
    reads. The segment's own input counts: rows of it may be yet to come."""
    ops = graph.ops[begin:end]
    for tensor in {t for op in ops for t in op.inputs}:
        last = max(max(span[op.inputs.index(tensor)][1] for span in _all_reads(graph, op)) for op in ops if tensor in op.inputs)
        if last < rows_of(graph, tensor) - 1:
            return True
    return False


def _all_reads(graph: Graph, op: Op) -> list[tuple[Span, ...]]:
    return [reads(graph, op, step) for step in range(steps_of(graph, op)[0])]


def scratch_of_shape(op: Op, out: Sequence[Any]) -> Any:
    """Bytes that a step of ``op`` needs beside its rows, for an output of shape ``out``: two patches of a convolution, a row of four
    channels of a depthwise one, with the weights of these channels where they are unpacked."""
    if isinstance(op, Conv2D) and op.kernel != (1, 1):
        return 2 * op.kernel[0] * op.kernel[1] * op.in_channels
    if isinstance(op, DepthwiseConv2D):
        return 4 * out[1] + (4 * op.kernel[0] * op.kernel[1] if op.weight_bits < 8 else 0)
    return 0


def state_of_shape(op: Op, out: Sequence[Any]) -> Any:
    """Bytes that ``op`` keeps between its steps: the sums of a mean."""
    return 4 * out[0] if isinstance(op, Mean) else 0


def scratch_of(graph: Graph, op: Op) -> int:
    """:func:`scratch_of_shape` of an operator of ``graph``."""
    return int(scratch_of_shape(op, graph.shape(op.output)))


def state_of(graph: Graph, op: Op) -> int:
    """:func:`state_of_shape` of an operator of ``graph``."""
    return int(state_of_shape(op, graph.shape(op.output)))


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

    segment_bytes: tuple[int, ...]
    """Bytes of the buffers of each segment."""

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
        return int(_aligned(self.area_bytes + self.counters * self.counter_bytes + 1))

    def segment_of(self, op: int) -> int:
        """The segment that holds operator ``op``."""
        return next(i for i, (begin, end) in enumerate(self.segments) if begin <= op < end)


def work_area_bytes(graph: Graph, *, frame: Frame = "kept") -> int:
    """SRAM of the compiled network, stack excepted."""
    return plan_streamed(graph, frame=frame).work_bytes


# what is kept of each tensor -------------------------------------------------------------------------------


class _Shape(NamedTuple):
    """What decides how many rows an operator keeps, without widths and channels."""

    window: int
    advance: int
    above: int
    steps: int
    each: int
    grows: bool
    depthwise: bool
    inputs: tuple[int, ...]
    """0 is what the run of operators reads, i + 1 what its operator i writes."""
    heights: tuple[int, ...]
    """Rows of each input."""
    places: tuple[int, ...] = ()
    """Of a resizing: the row that each step reads."""


class Kept(NamedTuple):
    """What is kept of a tensor inside a segment."""

    ring: int
    """Rows that are alive at once."""
    lasting: bool
    """Whether rows are kept from one round to the next; others live from the step that writes them to the one that reads them."""
    last: int
    """The last operator of the run that reads it; -1: none does."""
    over: bool
    """Whether it is written over the oldest row of what its operator reads."""


def _rows_read(shape: _Shape, step: int) -> tuple[Span, ...]:
    first = shape.places[step] if shape.places else step * shape.advance - shape.above
    return tuple((min(max(first, 0), height - 1), min(first + shape.window, height) - 1) for height in shape.heights)


@lru_cache(maxsize=100_000)
def _rehearsed(shapes: tuple[_Shape, ...], height: int, grows: bool) -> tuple[Kept, ...]:
    """What is kept of the source of ``height`` rows (which grow, where its operator gathers), and of what each operator writes, found by
    taking every step as the driver does."""
    spans = [[_rows_read(shape, step) for step in range(shape.steps)] for shape in shapes]
    readers: list[list[tuple[int, int]]] = [[] for _ in range(len(shapes) + 1)]
    for i, shape in enumerate(shapes):
        for number, tensor in enumerate(shape.inputs):
            readers[tensor].append((i, number))
    at, there, ring = [0] * len(shapes), [0] * len(readers), [0] * len(readers)

    def begun(tensor: int) -> None:
        kept = [spans[i][at[i]][number][0] for i, number in readers[tensor] if at[i] < shapes[i].steps]
        ring[tensor] = max(ring[tensor], there[tensor] - min([there[tensor], *kept]) + 1)

    while True:
        for i in reversed(range(len(shapes))):
            shape = shapes[i]
            if at[i] < shape.steps and all(there[t] > span[1] for t, span in zip(shape.inputs, spans[i][at[i]], strict=True)):
                break
        else:
            if there[0] == height:
                break
            begun(0)
            there[0] += 1
            continue
        if at[i] % shape.each == (0 if shape.grows else shape.each - 1):
            begun(i + 1)
        at[i] += 1
        there[i + 1] += at[i] % shape.each == 0
    # Where an operator does not read what the one before it wrote, others may run between a row's writer and its reader.
    chain = all(i in shape.inputs for i, shape in enumerate(shapes))
    found: list[Kept] = []
    for tensor, users in enumerate(readers):
        again = any(now[number][0] <= before[number][1] for i, number in users for before, now in pairwise(spans[i]))
        lasting = again or (shapes[tensor - 1].grows if tensor else grows) or ring[tensor] > 1 or not chain
        last = max((i for i, _ in users), default=-1)
        # What is read beyond the next operator stays too, so that those that pass form a chain, which packs into the least bytes.
        found.append(Kept(max(ring[tensor], 1), lasting or last > tensor, last, False))
    for i, shape in enumerate(shapes):
        if chain and shape.depthwise and _overwrites(shape, found[shape.inputs[0]], found[i + 1], i, len(readers[shape.inputs[0]])):
            found[i + 1] = found[i + 1]._replace(over=True)
    return tuple(found)


def _overwrites(shape: _Shape, source: Kept, target: Kept, index: int, readers: int) -> bool:
    """Whether a depthwise convolution can write over the oldest row that it reads: nobody else reads it, and a ring holds its window."""
    if readers != 1 or not source.lasting or target.lasting or target.last != index + 1:
        return False
    firsts = (step * shape.advance - shape.above for step in range(shape.steps))
    return all(min(first + shape.window, shape.heights[0]) - first <= source.ring for first in firsts)


def _one(value: Any, index: int) -> int:
    return int(value[index]) if hasattr(value, "shape") and value.shape else int(value)


def _height(shape: Sequence[Any], index: int) -> int:
    return _one(shape[0], index) if len(shape) == 3 else 1


def _shapes(ops: Sequence[Op], tensors: Sequence[Tensor], source: int, index: int) -> tuple[_Shape, ...]:
    """The shapes of a run of operators that reads ``source``; of arrays number ``index``."""
    position = {source: 0, **{op.output: i + 1 for i, op in enumerate(ops)}}
    shapes = []
    for op in ops:
        window, advance, above = window_of(op)
        heights = tuple(_height(tensors[t].shape, index) for t in op.inputs)
        out = heights[0] if isinstance(op, Mean) else _height(tensors[op.output].shape, index)
        each = heights[0] if isinstance(op, Mean) else op.kernel[0] if isinstance(op, Pool2D) and gathers(op) else 1
        steps = out if isinstance(op, Mean) else out * each
        depthwise = isinstance(op, DepthwiseConv2D)
        inputs = tuple(position[t] for t in op.inputs)
        places = nearest(heights[0], out) if isinstance(op, Resize) else ()
        shapes.append(_Shape(window, advance, _one(above, index), steps, each, gathers(op), depthwise, inputs, heights, places))
    return tuple(shapes)


class Line(NamedTuple):
    """What an operator, and the tensor that the one before it wrote, add to a segment. Bytes; integers or arrays."""

    whole: Any
    """The tensor, where the segment begins here or ends before."""
    stays: Any
    """What of it stays inside a segment; 0 where its rows pass."""
    passing: Any
    """A row of it; 0 where it stays."""
    over: Any
    """1 where the operator writes over what it reads, if that is inside the segment."""
    scratch: Any
    state: Any
    cut: Any
    """1 where a segment may begin here."""


class Run(NamedTuple):
    """Operators between two places where one tensor alone is alive."""

    begin: int
    end: int
    source: int
    """The tensor that they read."""
    grows: bool
    """Whether the operator that writes it gathers its rows."""


def cuts_of(ops: Sequence[Op], source: int) -> list[int]:
    """Where segments may begin and end: where the tensor just written is alone; with both ends."""
    position = {source: 0, **{op.output: i + 1 for i, op in enumerate(ops)}}
    spans = _spans(ops, position, len(ops))
    return [0, *[i for i in range(1, len(ops)) if [t for t, (first, last) in enumerate(spans) if first <= i <= last] == [i]], len(ops)]


def runs_of(ops: Sequence[Op], source: int) -> list[Run]:
    """``ops``, which read ``source`` alone, in runs. None ends behind a depthwise convolution: whether it may overwrite what it reads
    depends on who reads its rows."""
    cuts = cuts_of(ops, source)
    runs = []
    begin, grows = 0, False
    for end in [cut for cut in cuts[1:-1] if not isinstance(ops[cut - 1], DepthwiseConv2D)] + cuts[-1:]:
        runs.append(Run(begin, end, source, grows))
        begin, source, grows = end, ops[end - 1].output, gathers(ops[end - 1])
    return runs


def lines_of(ops: Sequence[Op], tensors: Sequence[Tensor], source: int) -> list[Line]:
    """The lines of operators that read ``source`` alone, and whose last output alone is read behind them; sizes may be arrays."""
    return [line for run in runs_of(ops, source) for line in _run_lines(ops[run.begin : run.end], tensors, run.source, run.grows)]


def _run_lines(ops: Sequence[Op], tensors: Sequence[Tensor], source: int, grows: bool) -> list[Line]:
    height: Any = tensors[source].shape[0] if len(tensors[source].shape) == 3 else 1
    position = {source: 0, **{op.output: i + 1 for i, op in enumerate(ops)}}
    if hasattr(height, "shape"):
        import numpy as np

        distinct, where, inverse = np.unique(height, return_index=True, return_inverse=True)
        kept = [_rehearsed(_shapes(ops, tensors, source, int(at)), int(h), grows) for h, at in zip(distinct, where, strict=True)]

        def each(choose: Callable[[tuple[Kept, ...]], int]) -> Any:
            return np.array([choose(one) for one in kept], dtype=np.int64)[inverse]

    else:
        alone = _rehearsed(_shapes(ops, tensors, source, 0), int(height), grows)

        def each(choose: Callable[[tuple[Kept, ...]], int]) -> Any:
            return int(choose(alone))

    lines = []
    for i, op in enumerate(ops):
        tensor = tensors[source] if i == 0 else tensors[ops[i - 1].output]
        row = row_of_shape(tensor.shape)
        lasting, ring = each(lambda k, i=i: k[i].lasting), each(lambda k, i=i: k[i].ring)  # type: ignore[misc]
        over = each(lambda k, i=i: k[i + 1].over)  # type: ignore[misc]
        alive = [tensor for tensor, (first, last) in enumerate(_spans(ops, position, len(ops))) if first <= i <= last]
        lines.append(
            Line(
                whole=_aligned(tensor.elements),
                stays=_aligned(ring * row) * lasting,
                passing=_aligned(row) * (1 - lasting),
                over=over,
                scratch=_aligned(scratch_of_shape(op, tensors[op.output].shape)),
                state=state_of_shape(op, tensors[op.output].shape),
                cut=int(alive == [i]),
            )
        )
    return lines


def _spans(ops: Sequence[Op], position: dict[int, int], count: int) -> list[Span]:
    """(first operator that may read it, last that does) of each tensor of a run."""
    last = [-1] * (count + 1)
    for i, op in enumerate(ops):
        for tensor in op.inputs:
            last[position[tensor]] = i
    return [(tensor, last[tensor]) for tensor in range(count)]


def endings(lines: Sequence[Line], begin: int, *, inside: bool, larger: Callable[[Any, Any], Any]) -> Iterator[tuple[int, Any]]:
    """(operator behind the last, bytes) of every segment that begins at operator ``begin``; the line behind the last operator is the
    output's. ``inside``: what the segment reads comes row by row and lies inside it (the frame, of which only rows are kept)."""
    first = lines[begin]
    fixed = first.stays if inside else first.whole
    passing = first.passing if inside else 0
    most: Any = 0
    for i in range(begin, len(lines) - 1):
        line, behind = lines[i], lines[i + 1]
        fixed = fixed + line.state
        own = passing + line.scratch
        yield i + 1, fixed + behind.whole + larger(most, own)
        passing = behind.passing * (1 - line.over) if inside or i > begin else behind.passing
        most = larger(most, own + passing)
        fixed = fixed + behind.stays


class _Planner:
    def __init__(self, graph: Graph, frame: Frame) -> None:
        self.graph, self.frame = graph, frame
        ops, tensors, first = graph.ops, graph.tensors, graph.inputs[0]
        self.cuts = cuts_of(ops, first)
        self.writer = {op.output: i for i, op in enumerate(ops)}
        self.kept: dict[int, Kept] = {}
        for begin, end, source, grows in runs_of(ops, first):
            found = _rehearsed(_shapes(ops[begin:end], tensors, source, 0), rows_of(graph, source), grows)
            for tensor, kept in zip((source, *(op.output for op in ops[begin:end])), found, strict=True):
                self.kept[tensor] = kept._replace(last=kept.last + begin)  # of the tensor between two runs the second one knows more
        self.lines = [*lines_of(ops, tensors, first), output_line(tensors[graph.logits])]

    def overwrites(self, index: int, inside: Sequence[int]) -> bool:
        """Whether operator ``index`` writes over the oldest row that it reads; ``inside``: its segment's inner tensors."""
        op = self.graph.ops[index]
        return op.output in inside and op.inputs[0] in inside and self.kept[op.output].over

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
            kept, writer = self.kept[tensor], -1 if tensor == graph.inputs[0] else self.writer[tensor]
            size = _aligned(kept.ring * row_bytes(graph, tensor))
            if writer >= begin and self.overwrites(writer, inside):
                continue
            if kept.lasting:
                stays.append((tensor, size))
            else:
                passing.append((tensor, Buffer(size, writer, kept.last)))
        for index in range(begin, end):
            if state := state_of(graph, ops[index]):
                stays.append((-1 - index, state))
            elif scratch := scratch_of(graph, ops[index]):
                passing.append((-1 - index, Buffer(_aligned(scratch), index, index)))
        return whole, stays, passing

    def whole_bytes(self, tensor: int) -> int:
        return int(_aligned(self.graph.tensors[tensor].elements))

    def least(self, begin: int, end: int) -> int:
        """Bytes of a segment."""
        inside = begin == 0 and self.frame == "rows"
        return int(next(size for behind, size in endings(self.lines, begin, inside=inside, larger=max) if behind == end))

    def segments(self) -> list[tuple[int, int]]:
        """The cuts of the least bytes; of equals the fewest."""
        best: dict[int, tuple[int, int, int]] = {0: (0, 0, 0)}  # bytes, segments, where the last one begins
        cuts = set(self.cuts)
        for begin in self.cuts[:-1]:
            bytes_, count, _ = best[begin]
            for end, size in endings(self.lines, begin, inside=begin == 0 and self.frame == "rows", larger=max):
                if end in cuts:
                    found = (max(bytes_, size), count + 1, begin)
                    best[end] = min(best.get(end, found), found)
        result, end = [], self.cuts[-1]
        while end:
            begin = best[end][2]
            result.append((begin, end))
            end = begin
        return result[::-1]

    def plan(self) -> StreamPlan:
        graph = self.graph
        segments = self.segments()
        packed = []
        for begin, end in segments:
            whole, stays, passing = self.parts(begin, end)
            offsets, size = _pack([buffer for _, buffer in passing])
            packed.append((whole, stays, passing, offsets, size))
        sizes = tuple(sum(map(self.whole_bytes, whole)) + sum(s for _, s in stays) + size for whole, stays, _, _, size in packed)
        area = max(sizes)
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
        return StreamPlan(graph, self.frame, tuple(segments), self._places(segments, where), self._scratch(where), area, sizes)

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
                places[tensor] = Place(where[tensor], self.kept[tensor].ring, pitch)
            else:  # written over the oldest row of what its operator reads
                op = graph.ops[self.writer[tensor]]
                assert isinstance(op, DepthwiseConv2D)
                source = places[op.inputs[0]]
                places[tensor] = Place(source.offset, source.rows, source.pitch, op.stride[0], -op.padding.top % source.rows)
        return tuple(places[tensor] for tensor in range(len(graph.tensors)))


def output_line(output: Tensor) -> Line:
    """The line behind a network's last operator: its output, which is kept whole."""
    return Line(_aligned(output.elements), 0, 0, 0, 0, 0, 1)


def alive_bytes(buffers: Sequence[Buffer]) -> int:
    """Most bytes of ``buffers`` alive at once."""
    moments = {b.first for b in buffers}
    return max((sum(b.size for b in buffers if b.first <= moment <= b.last) for moment in moments), default=0)


def _pack(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """(offsets, bytes) of what passes: rows lie at both ends by turns, scratch between them, so no more is needed than is alive at once."""
    bound = alive_bytes(buffers)
    offsets: list[int] = [-1] * len(buffers)
    bottom = True
    for i in sorted((i for i, b in enumerate(buffers) if b.last > b.first), key=lambda i: buffers[i].first):
        offsets[i] = 0 if bottom else bound - buffers[i].size
        bottom = not bottom
    placed, size = greedy(buffers, offsets)
    if size > bound:
        raise InternalError(f"rows that pass need {size} B where {bound} are alive")
    return placed, size


def plan_streamed(graph: Graph, *, frame: Frame = "kept") -> StreamPlan:
    """The plan of the least bytes for ``graph``, with its frame ``kept`` in the work area or its ``rows`` given one by one."""
    return _Planner(graph, frame).plan()
