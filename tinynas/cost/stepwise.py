"""Step plans: a causal network that takes one row (frame of sound) at a time, for ever, and keeps what later rows need.

Each operator with a window keeps the rows that it spans in a ring, which holds its zero point at first, as padding does; with a stride it
computes a row at every so many-th row that comes. The mean over the clip keeps the sums of its last rows, as many as a clip has, and
their exact total. All else passes: it lives inside one step. A causal shortcut waits for nothing: both rows come in the same step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from tinynas.cost.compiled import constants_of, table_bytes
from tinynas.cost.memory import Buffer, greedy, in_frames, nested_frames
from tinynas.cost.streamed import (
    ALIGNMENT,
    Place,
    alive_bytes,
    gathers,
    row_bytes,
    row_of_shape,
    rows_of,
    scratch_of,
    steps_of,
    window_of,
)
from tinynas.cost.work import from_graph
from tinynas.errors import InternalError, UnrunError
from tinynas.graph import WINDOWED, Graph, Mean, Mul, Op, Resize, Tensor

#: Steps after which what is computed repeats itself: beyond it a network is no use.
MAX_PERIOD = 4096


def _aligned(size: Any) -> Any:
    return -(-size // ALIGNMENT) * ALIGNMENT


def sum_bytes(width: Any) -> Any:
    """Bytes that hold the sum of ``width`` int8; of an array an array."""
    return 1 + (width > 1) + 2 * (width > 256)


def sums_bytes(shape: Sequence[Any]) -> Any:
    """Bytes that a mean keeps of a map of ``shape`` (height, width, channels), integers or arrays: a place in the ring, the totals, the
    sums of the last rows."""
    height, width, channels = shape
    return 4 + 4 * channels + _aligned(height * channels * sum_bytes(width))


class Ring(NamedTuple):
    """What is there of a tensor at once."""

    rows: int
    size: Any
    """Aligned bytes; an array of arrays."""
    stays: bool
    """Whether its rows are kept from step to step; others live inside one."""


def rings_of(ops: Sequence[Op], tensors: Sequence[Tensor]) -> list[Ring]:
    """The ring of each of ``tensors``, whose sizes may be arrays, by what reads it."""
    rows, grows = [1] * len(tensors), [False] * len(tensors)
    for op in ops:
        grows[op.output] = gathers(op)
        for tensor in op.inputs:
            rows[tensor] = max(rows[tensor], window_of(op)[0])
    return [
        Ring(count, _aligned(count * row_of_shape(tensor.shape)), count > 1 or more)
        for count, more, tensor in zip(rows, grows, tensors, strict=True)
    ]


def first_wait(graph: Graph, op: Op) -> int:
    """Rows that must come before ``op`` computes its first one."""
    if isinstance(op, Mean):
        return rows_of(graph, op.inputs[0])
    if gathers(op):
        return steps_of(graph, op)[1]
    window, _, above = window_of(op)
    return int(window - above)


def next_wait(graph: Graph, op: Op) -> int:
    """Rows that must come from one row of ``op`` to the next."""
    return 1 if isinstance(op, Mean) else steps_of(graph, op)[1] if gathers(op) else window_of(op)[1]


def takes_each(op: Op) -> bool:
    """Whether ``op`` takes every row as it comes into what it keeps."""
    return isinstance(op, Mean) or gathers(op)


def why_no_stream(graph: Graph) -> str | None:
    """Why ``graph`` cannot be computed step by step; None where it can."""
    means = [op for op in graph.ops if isinstance(op, Mean)]
    for op in graph.ops:
        if isinstance(op, Mul | Resize):
            return f"{op.name} is a gate, which is worked out from rows that are yet to come"
        if isinstance(op, WINDOWED) and op.padding.bottom > 0:
            return f"{op.name} pads behind the last row: it reads rows that are yet to come"
    if len(means) != 1:
        return f"it has {len(means)} means over the clip, and a stream has one"
    if len(graph.outputs) != 1 or len(graph.inputs) != 1:
        return "it has several inputs or outputs"
    return None


def check_streams(graph: Graph) -> None:
    """Raise UnrunError where ``graph`` cannot be computed step by step."""
    if (why := why_no_stream(graph)) is not None:
        told = f"the network cannot be streamed: {why}"
        raise UnrunError(told, "give it causal: true, without attention", reasons=(told,))


@dataclass(frozen=True)
class StepPlan:
    """How a causal network is computed row by row without end, and where everything lies. Bytes."""

    graph: Graph
    places: tuple[Place, ...]
    """Per tensor the ring of its rows."""
    scratch: tuple[int, ...]
    """Per operator the offset of its scratch, of a mean its sums; 0 where it has none."""
    state_bytes: int
    """Rows and sums that are kept from step to step, and the outputs."""
    passing_bytes: int
    """What lives inside one step."""

    @property
    def area_bytes(self) -> int:
        """State, and behind it what passes."""
        return self.state_bytes + self.passing_bytes

    @cached_property
    def counter_bytes(self) -> int:
        """Bytes of a counter."""
        most = max(*(place.rows for place in self.places), *(first_wait(self.graph, op) for op in self.graph.ops))
        return 1 if most <= 255 else 2

    @property
    def counters(self) -> int:
        """A place in each ring and whether a row came, by tensor; rows to wait for, by operator."""
        return 2 * len(self.places) + len(self.graph.ops)

    @cached_property
    def work_bytes(self) -> int:
        """All memory beside the stack: the area and its counters."""
        return int(_aligned(self.area_bytes + self.counters * self.counter_bytes))

    @cached_property
    def period(self) -> int:
        """Steps after which what is computed repeats itself."""
        return period_of(self.graph)

    @cached_property
    def first(self) -> int:
        """Rows from the reset to the first outputs: a clip's, less those that no window reaches."""
        return next(step for step, ran in enumerate(steps(self.graph), 1) if len(self.graph.ops) - 1 in ran)

    @cached_property
    def every(self) -> int:
        """Steps from outputs to outputs."""
        return self.period // sum(len(self.graph.ops) - 1 in ran for ran in self._repeated)

    @cached_property
    def _repeated(self) -> tuple[frozenset[int], ...]:
        found = []
        for step, ran in enumerate(steps(self.graph)):
            if step >= rows_of(self.graph, self.graph.inputs[0]) + self.period:
                break
            found.append(ran)
        return tuple(found[-self.period :])

    @cached_property
    def macs(self) -> tuple[int, ...]:
        """Multiply-accumulates of each step of a period, once a clip has come."""
        each = [piece.macs // steps_of(self.graph, op)[0] for piece, op in zip(from_graph(self.graph).pieces, self.graph.ops, strict=True)]
        return tuple(sum(each[op] for op in ran) for ran in self._repeated)

    @property
    def average_macs(self) -> float:
        """Multiply-accumulates of a step, on average."""
        return sum(self.macs) / len(self.macs)


def period_of(graph: Graph) -> int:
    """Steps after which what a stream computes repeats itself. Raises UnrunError beyond :data:`MAX_PERIOD`."""
    strides = {graph.inputs[0]: 1}
    for op in graph.ops:
        strides[op.output] = max(strides[tensor] for tensor in op.inputs) * next_wait(graph, op)
    period = math.lcm(*strides.values())
    if period > MAX_PERIOD:
        told = f"the network's strides along time make {period:,} frames one step"
        raise UnrunError(told, f"stay below {MAX_PERIOD:,}", reasons=(told,))
    return period


def steps(graph: Graph) -> Iterator[frozenset[int]]:
    """The operators that run in each step, without end: as the driver of generated code lets them."""
    waits = [first_wait(graph, op) for op in graph.ops]
    while True:
        came, ran = {graph.inputs[0]}, []
        for index, op in enumerate(graph.ops):
            if not came.issuperset(op.inputs):
                continue
            waits[index] -= 1
            if waits[index] == 0 or takes_each(op):
                ran.append(index)
            if waits[index] == 0:
                waits[index] = next_wait(graph, op)
                came.add(op.output)
        yield frozenset(ran)


def plan_steps(graph: Graph) -> StepPlan:
    """The plan of ``graph``. Raises UnrunError where it cannot be streamed."""
    check_streams(graph)
    rings = rings_of(graph.ops, graph.tensors)
    offsets: dict[int, int] = {}
    scratch = [0] * len(graph.ops)
    state = 0
    passing: list[tuple[int, Buffer]] = []
    for tensor, (ring, (first, last)) in enumerate(zip(rings, graph.lifetimes, strict=True)):
        if ring.stays or tensor in graph.outputs:
            offsets[tensor], state = state, state + ring.size
        else:
            passing.append((tensor, Buffer(ring.size, first, last)))
    for index, op in enumerate(graph.ops):
        if isinstance(op, Mean):
            scratch[index], state = state, state + sums_bytes(graph.shape(op.inputs[0]))
        elif size := scratch_of(graph, op):
            passing.append((-1 - index, Buffer(_aligned(size), index, index)))
    placed, head = _pack(graph, passing)
    for (key, _), offset in zip(passing, placed, strict=True):
        if key >= 0:
            offsets[key] = state + offset
        else:
            scratch[-1 - key] = state + offset
    places = tuple(Place(offsets[t], rings[t].rows, row_bytes(graph, t)) for t in range(len(graph.tensors)))
    return StepPlan(graph, places, tuple(scratch), state, head)


def _pack(graph: Graph, passing: Sequence[tuple[int, Buffer]]) -> tuple[list[int], int]:
    """(offsets, bytes) of what passes: (tensor or -1 - operator, buffer). Where shortcuts nest, as in every network that an Arch
    describes, no more bytes than are alive at once: so the batch estimator can know them."""
    buffers = [buffer for _, buffer in passing]
    frames = nested_frames(from_graph(graph).pieces, graph.inputs, graph.outputs, over={})
    if frames is None:
        return greedy(buffers)
    sizes = [0] * len(graph.tensors)
    for key, buffer in passing:
        if key >= 0:
            sizes[key] = buffer.size
    bound = alive_bytes(buffers)
    offsets = in_frames(sizes, frames, bound)
    placed, size = greedy(buffers, [offsets[key] if key >= 0 else -1 for key, _ in passing])
    if size > bound:
        raise InternalError(f"what passes in a step needs {size} B where {bound} are alive")
    return placed, size


@dataclass(frozen=True, slots=True)
class StreamCost:
    """What a streamed network keeps and computes."""

    state_bytes: int
    """Kept from step to step."""
    passing_bytes: int
    """Inside one step."""
    counter_bytes: int
    """Places in rings, and rows to wait for; filled up to full words."""
    first: int
    """Frames from a reset to the first outputs."""
    every: int
    """Frames from outputs to outputs."""
    period: int
    """Frames after which what is computed repeats itself."""
    average_macs: float
    """Multiply-accumulates of a step, on average over a period."""
    most_macs: int
    """Of the step that has most."""
    frames_a_second: float | None
    """As the front end gives them; None where there is none."""

    @property
    def macs_a_second(self) -> float | None:
        """Multiply-accumulates in a second of sound; None without a front end."""
        return None if self.frames_a_second is None else self.average_macs * self.frames_a_second

    def to_json(self) -> dict[str, float | None]:
        """For ``tinynas estimate --json``."""
        names = "state_bytes passing_bytes counter_bytes first every period average_macs most_macs frames_a_second macs_a_second"
        return {name: getattr(self, name) for name in names.split()}


def stream_cost(plan: StepPlan) -> StreamCost:
    """The figures of ``plan``."""
    front = plan.graph.input.front_end
    return StreamCost(
        plan.state_bytes,
        plan.passing_bytes,
        plan.work_bytes - plan.area_bytes,
        plan.first,
        plan.every,
        plan.period,
        plan.average_macs,
        max(plan.macs),
        None if front is None else front.sample_rate / front.stride,
    )


def step_constants(graph: Graph) -> int:
    """Bytes of all constants of a streamed network: those of the compiled one, without a table of segments."""
    return int(sum(constants_of(op) for op in graph.ops) + table_bytes(len(graph.ops), 0))
