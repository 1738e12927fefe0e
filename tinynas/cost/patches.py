"""Patch-based inference (MCUNetV2, arXiv 2110.15352): the first operators run patch by patch.

The stage's output is cut into p x p patches. Each is computed from the part of the input that it needs, so patches
overlap by a halo and its MACs are spent again. The input and the stage's whole output stay in memory; inside the
stage only one patch's tensors do. After the stage the network runs as usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import assert_never

from tinynas.cost.estimator import Cost
from tinynas.cost.memory import live_bytes
from tinynas.cost.runtimes import Runtime, runtime_named, static_bytes
from tinynas.cost.work import Work, from_graph
from tinynas.errors import InternalError, UserError
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Mean, Mul, Op, Pool2D, Resize

#: A stage is cut into at most this many patches a side.
MAX_PATCHES = 6

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PatchPlan:
    """One way to run the first operators in patches."""

    patches: int
    """Patches a side."""
    ops: int
    """Number of operators that run in patches."""
    last_op: str
    head_bytes: int
    """SRAM of activations with the plan, work buffers included."""
    macs: int
    """MACs of one inference, halos included."""
    plain_macs: int
    """MACs without patches."""

    @property
    def recomputed(self) -> float:
        """Share of MACs spent on halos."""
        return self.macs / self.plain_macs - 1

    def apply(self, cost: Cost) -> Cost:
        """``cost`` with the plan in force; latency grows as the MACs do."""
        latency = None if cost.latency_ms is None else cost.latency_ms * self.macs / self.plain_macs
        return replace(cost, macs=self.macs, head_bytes=self.head_bytes, sram_bytes=self.head_bytes + cost.tail_bytes, latency_ms=latency)


def patch_plans(graph: Graph, runtime: str = "tinyengine") -> list[PatchPlan]:
    """Every plan that saves memory, the smallest head first (equal heads: fewest MACs).

    Raises UserError where the runtime cannot run patches.
    """
    chosen = runtime_named(runtime)
    if not chosen.patches:
        raise UserError(f"{chosen.title} cannot run a network in patches", "use --runtime tinyengine")
    work = from_graph(graph)
    live = live_bytes(work, chosen)
    plain = max(live) + static_bytes(chosen, work)
    plans = []
    for end in _ends(graph):
        rest = max(live[end:])
        for patches in range(2, MAX_PATCHES + 1):
            plan = _plan(graph, work, chosen, end, patches, rest)
            if plan is not None and plan.head_bytes < plain:
                plans.append(plan)
    return sorted(plans, key=lambda plan: (plan.head_bytes, plan.macs))


def _ends(graph: Graph) -> Iterator[int]:
    """Operator counts after which one spatial tensor alone is alive."""
    last = [span[1] for span in graph.lifetimes]
    for end in range(1, len(graph.ops)):
        output = graph.ops[end - 1].output
        if len(graph.shape(output)) != 3:
            return
        if all(last[op.output] < end or op.output == output for op in graph.ops[:end]) and last[graph.inputs[0]] < end:
            yield end


def _plan(graph: Graph, work: Work, runtime: Runtime, end: int, patches: int, rest: int) -> PatchPlan | None:
    stage = graph.ops[:end]
    output = stage[-1].output
    height, width, _ = graph.shape(output)
    if min(height, width) < patches:
        return None
    whole = work.sizes[output]
    worst = macs = 0
    for rows in _cuts(height, patches):
        for columns in _cuts(width, patches):
            tiles = _regions(graph, stage, rows, columns)
            live, spent = _patch(graph, work, stage, tiles, in_place=runtime.in_place_depthwise)
            worst, macs = max(worst, live), macs + spent
    macs += sum(piece.macs for piece in work.pieces[end:])
    # The stage's output is gathered whole beside the patch in work; the input image stays for the next patch.
    head = max(worst + whole + work.sizes[graph.inputs[0]], rest) + static_bytes(runtime, work)
    return PatchPlan(patches, end, stage[-1].name, head, macs, sum(piece.macs for piece in work.pieces))


def _cuts(size: int, patches: int) -> list[Span]:
    edges = [size * i // patches for i in range(patches + 1)]
    return list(pairwise(edges))


def _regions(graph: Graph, stage: tuple[Op, ...], rows: Span, columns: Span) -> dict[int, tuple[Span, Span]]:
    """Tensor -> (rows, columns) of it that a patch needs, from the stage's output back to its input."""
    need: dict[int, tuple[Span, Span]] = {stage[-1].output: (rows, columns)}
    for op in reversed(stage):
        if op.output not in need:
            continue
        wanted = need[op.output]
        for tensor in op.inputs:
            height, width, _ = graph.shape(tensor)
            region = (_back(op, wanted[0], height, 0), _back(op, wanted[1], width, 1))
            old = need.get(tensor)
            need[tensor] = region if old is None else (_union(old[0], region[0]), _union(old[1], region[1]))
    return need


def _back(op: Op, span: Span, size: int, axis: int) -> Span:
    match op:
        case Conv2D() | DepthwiseConv2D() | Pool2D():
            before = op.padding.left if axis else op.padding.top
            first = span[0] * op.stride[axis] - before
            last = (span[1] - 1) * op.stride[axis] - before + op.reach[axis]
            return max(first, 0), min(last, size)
        case Add() | Mul() | HardSwish():
            return span
        case Resize() | Mean() | FullyConnected():
            raise InternalError(f"{op.name}: needs the whole map, no patch of it")
    assert_never(op)


def _union(a: Span, b: Span) -> Span:
    return min(a[0], b[0]), max(a[1], b[1])


def _patch(graph: Graph, work: Work, stage: tuple[Op, ...], tiles: dict[int, tuple[Span, Span]], *, in_place: bool) -> tuple[int, int]:
    """(bytes alive at the worst operator, MACs) of one patch; the input image and the stage's output not counted."""

    def area(tensor: int) -> int:
        rows, columns = tiles[tensor]
        return (rows[1] - rows[0]) * (columns[1] - columns[0])

    output = stage[-1].output
    last = {tensor: index for index, op in enumerate(stage) for tensor in op.inputs}
    worst = macs = 0
    alive: dict[int, int] = {}
    for index, op in enumerate(stage):
        size = 0 if op.output == output else area(op.output) * graph.shape(op.output)[-1]
        total = sum(alive.values()) + size
        source = alive.get(op.inputs[0], 0)
        if in_place and isinstance(op, DepthwiseConv2D) and last[op.inputs[0]] == index:
            total -= min(source, size)
        worst = max(worst, total)
        piece = work.pieces[index]
        if piece.macs:
            height, width, _ = graph.shape(op.output)
            macs += piece.macs // (height * width) * area(op.output)
        alive[op.output] = size
        for tensor in op.inputs:
            if last[tensor] == index:
                alive.pop(tensor, None)
    return worst, macs
