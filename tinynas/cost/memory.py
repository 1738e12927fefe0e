"""Memory planners: where each activation and scratch buffer lies in the arena.

TFLM's arena has a head (activations and operator scratch, planned) and a tail (persistent structures, see
:mod:`tinynas.cost.tail`). The greedy planner here is TFLM's own, step for step; the offline planner is ours.
"""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import accumulate

from tinynas.cost.runtimes import RUNTIMES, Runtime, scratch_bytes
from tinynas.cost.work import Piece, Work, from_graph
from tinynas.graph import Graph

#: TFLM aligns every planned buffer to 16 bytes (MicroArenaBufferAlignment).
ALIGNMENT = 16


def aligned(size_bytes: int) -> int:
    """``size_bytes`` rounded up to the arena's alignment."""
    return (size_bytes + 15) & ~15


@dataclass(frozen=True, slots=True)
class Buffer:
    """A planned piece of memory: aligned bytes, first and last operator (in execution order) that need it."""

    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Offsets in bytes per tensor id (-1 where not planned), the head they need, and the operator order."""

    offsets: tuple[int, ...]
    head_bytes: int
    order: tuple[int, ...]


def greedy(buffers: Sequence[Buffer], fixed: Sequence[int] | None = None) -> tuple[list[int], int]:
    """(offsets, head bytes) as TFLM's GreedyMemoryPlanner gives them.

    Buffers are placed by descending size, equal sizes in reverse order of insertion, each at the lowest gap
    among the placed buffers alive at the same time. ``fixed`` offsets (-1: free) come first and are kept.
    """
    offsets = [-1] * len(buffers) if fixed is None else list(fixed)
    free = [i for i in range(len(buffers)) if offsets[i] < 0]
    free.sort(key=lambda i: (-buffers[i].size, -i))
    placed = sorted((offsets[i], i) for i in range(len(buffers)) if offsets[i] >= 0)
    head = max((offset + buffers[i].size for offset, i in placed), default=0)
    for i in free:
        size, first, last = buffers[i].size, buffers[i].first, buffers[i].last
        at = 0
        for offset, j in placed:
            other = buffers[j]
            if other.last < first or other.first > last:
                continue
            if offset - at >= size:
                break
            at = max(at, offset + other.size)
        offsets[i] = at
        head = max(head, at + size)
        placed.append((at, i))
        placed.sort()
    return offsets, head


def lifetimes(work: Work) -> tuple[list[int], list[int]]:
    """(first, last) operator at which each tensor must be in memory; graph inputs from operator 0."""
    first = [0] * len(work.sizes)
    last = [-1] * len(work.sizes)
    for index, piece in enumerate(work.pieces):
        for tensor in piece.outputs:
            first[tensor] = last[tensor] = index
        for tensor in piece.inputs:
            last[tensor] = index
    end = len(work.pieces) - 1
    for tensor in work.inputs:
        last[tensor] = max(last[tensor], 0)
    for tensor in work.outputs:
        last[tensor] = end
    return first, last


def buffers_of(work: Work, runtime: Runtime) -> tuple[list[Buffer], list[int]]:
    """(buffers, tensor id of each buffer or -1 for scratch), in the order in which TFLM adds them."""
    first, last = lifetimes(work)
    planned = [t for t, size in enumerate(work.sizes) if size and last[t] >= 0]
    buffers = [Buffer(aligned(work.sizes[t]), first[t], last[t]) for t in planned]
    for index, piece in enumerate(work.pieces):
        for size in scratch_bytes(runtime, piece):
            buffers.append(Buffer(aligned(size), index, index))
            planned.append(-1)
    return buffers, planned


def live_bytes(work: Work, runtime: Runtime) -> list[int]:
    """Bytes of tensors and scratch alive during each operator, aligned: no plan can need less than the largest."""
    first, last = lifetimes(work)
    mask = runtime.alignment - 1
    steps = [0] * (len(work.pieces) + 1)
    for size, begin, end in zip(work.sizes, first, last, strict=True):
        if end >= 0:
            size = (size + mask) & ~mask
            steps[begin] += size
            steps[end + 1] -= size
    live = list(accumulate(steps))
    live.pop()
    for index, piece in enumerate(work.pieces):
        for size in scratch_bytes(runtime, piece):
            live[index] += (size + mask) & ~mask
    if runtime.in_place_depthwise:
        for index, piece in enumerate(work.pieces):
            if piece.kind == "dw" and last[piece.inputs[0]] == index:
                live[index] -= min(work.sizes[piece.inputs[0]], work.sizes[piece.outputs[0]])
    return live


def plan_greedy(graph: Graph, runtime: str = "tflm") -> MemoryPlan:
    """TFLM's own plan, as made at run time for a file that carries none."""
    return greedy_work(from_graph(graph), RUNTIMES[runtime])


def greedy_work(work: Work, runtime: Runtime) -> MemoryPlan:
    """:func:`plan_greedy` for any work."""
    buffers, tensors = buffers_of(work, runtime)
    offsets, head = greedy(buffers)
    return MemoryPlan(_by_tensor(offsets, tensors, len(work.sizes)), head, tuple(range(len(work.pieces))))


def file_head_bytes(work: Work, runtime: Runtime, plan: Sequence[int] | None) -> int:
    """Head bytes of a file as TFLM plans it: around the offsets of ``plan`` where it carries one."""
    buffers, tensors = buffers_of(work, runtime)
    if plan is None:
        return greedy(buffers)[1]
    return greedy(buffers, [plan[t] if t >= 0 else -1 for t in tensors])[1]


def plan_offline(graph: Graph, runtime: str = "tflm") -> MemoryPlan:
    """The plan that tinynas writes into its files; its head is the live-bytes bound for every lowered Graph.

    Scratch is placed by the runtime around the plan, so the plan leaves room for the scratch of ``runtime``.
    """
    return offline_work(from_graph(graph), RUNTIMES[runtime])


def offline_work(work: Work, runtime: Runtime) -> MemoryPlan:
    """:func:`plan_offline` for any work: a chain by construction, other shapes by search over order and placement."""
    bound = max(live_bytes(work, runtime))
    offsets = _two_ended(work, bound)
    if offsets is not None:
        return MemoryPlan(tuple(offsets), bound, tuple(range(len(work.pieces))))
    order = best_order(work, runtime)
    ordered = replace(work, pieces=tuple([work.pieces[i] for i in order]))
    buffers, tensors = buffers_of(ordered, runtime)
    offsets, head = _search(buffers, max(live_bytes(ordered, runtime)))
    planned = MemoryPlan(_by_tensor(offsets, tensors, len(work.sizes)), head, order)
    # The runtime places scratch by itself around the plan: take what it really does.
    return replace(planned, head_bytes=file_head_bytes(ordered, runtime, planned.offsets))


def best_order(work: Work, runtime: Runtime, *, limit: int = 20_000) -> tuple[int, ...]:
    """The operator order of the least live bytes, or the given one where branches are too many to try (``limit`` states)."""
    pieces = work.pieces
    producer = {t: i for i, piece in enumerate(pieces) for t in piece.outputs}
    readers: dict[int, list[int]] = {}
    for index, piece in enumerate(pieces):
        for tensor in set(piece.inputs):
            readers.setdefault(tensor, []).append(index)
    needs = [{producer[t] for t in piece.inputs if t in producer} for piece in pieces]
    if all(index - 1 in needs[index] for index in range(1, len(pieces))):
        return tuple(range(len(pieces)))  # each waits for the one before: there is no choice
    mask = runtime.alignment - 1
    size = [(s + mask) & ~mask for s in work.sizes]
    scratch = [sum((s + mask) & ~mask for s in scratch_bytes(runtime, piece)) for piece in pieces]
    outputs = set(work.outputs)
    # Best first over sets of done operators: the first complete set popped has the least peak.
    done: frozenset[int] = frozenset()
    start = sum(size[t] for t in work.inputs)
    heap: list[tuple[int, int, int, frozenset[int], int, tuple[int, ...]]] = [(start, 0, 0, done, start, ())]
    seen: set[frozenset[int]] = set()
    count = 0
    while heap:
        peak, _, _, done, live, order = heappop(heap)
        if done in seen:
            continue
        seen.add(done)
        if len(order) == len(pieces):
            return order
        if len(seen) > limit:
            break
        for index, piece in enumerate(pieces):
            if index in done or not needs[index] <= done:
                continue
            during = live + sum(size[t] for t in piece.outputs) + scratch[index]
            after = live + sum(size[t] for t in piece.outputs)
            now = done | {index}
            after -= sum(size[t] for t in set(piece.inputs) if t not in outputs and all(r in now for r in readers[t]))
            after -= sum(size[t] for t in piece.outputs if t not in readers and t not in outputs)
            count += 1
            heappush(heap, (max(peak, during), -len(order) - 1, count, now, after, (*order, index)))
    return tuple(range(len(pieces)))


def _search(buffers: Sequence[Buffer], bound: int, *, tries: int = 400) -> tuple[list[int], int]:
    """The best placement found: greedy's, then first fit in orders changed by seeded swaps, until the bound is reached."""
    best, head = greedy(buffers)
    generator = random.Random(0)
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].first))
    for _ in range(tries):
        if head <= bound:
            break
        candidate = list(order)
        for _ in range(generator.randint(1, 4)):
            a, b = generator.randrange(len(order)), generator.randrange(len(order))
            candidate[a], candidate[b] = candidate[b], candidate[a]
        offsets, reached = _first_fit(buffers, candidate)
        if reached <= head:
            best, head, order = offsets, reached, candidate
    return best, head


def _first_fit(buffers: Sequence[Buffer], order: Sequence[int]) -> tuple[list[int], int]:
    offsets = [-1] * len(buffers)
    placed: list[tuple[int, int]] = []
    head = 0
    for i in order:
        buffer, at = buffers[i], 0
        for offset, j in placed:
            other = buffers[j]
            if other.last < buffer.first or other.first > buffer.last:
                continue
            if offset - at >= buffer.size:
                break
            at = max(at, offset + other.size)
        offsets[i] = at
        head = max(head, at + buffer.size)
        insort(placed, (at, i))
    return offsets, head


def _two_ended(work: Work, arena: int) -> list[int] | None:
    """Offsets within ``arena`` = the live-bytes bound for a chain with residual adds; None for other shapes.

    Along a chain, tensors alternate between the two ends of the arena, so the two alive at any time never
    meet. A residual block keeps its input x at one end: counted backwards from the add, its tensors lie at the
    other end and next to x in turn, the add's output at the other end. At every operator at most one gap is left,
    so scratch fits there too. Hence the bound is reached for every such network.
    """
    pieces = work.pieces
    size = [aligned(s) for s in work.sizes]
    offsets = [-1] * len(size)
    if len(work.inputs) != 1:
        return None
    current = work.inputs[0]
    offsets[current], at_top = 0, False
    index, consumer_of = 0, _add_reading(work)
    while index < len(pieces):
        add = consumer_of.get(current)
        end = index if add is None else add
        chain = pieces[index : end + 1]
        if not _is_chain(chain, current, residual=add is not None):
            return None
        base = size[current]
        for back, inner in enumerate(reversed(chain)):
            out = inner.outputs[0]
            opposite = back % 2 == 0
            if opposite:
                offsets[out] = 0 if at_top else arena - size[out]
            else:
                offsets[out] = arena - base - size[out] if at_top else base
        current, at_top, index = chain[-1].outputs[0], not at_top, end + 1
    return offsets


def _add_reading(work: Work) -> dict[int, int]:
    """Shortcut tensor -> index of the add that closes its residual."""
    produced = {t: i for i, piece in enumerate(work.pieces) for t in piece.outputs}
    found: dict[int, int] = {}
    for index, piece in enumerate(work.pieces):
        if len(piece.inputs) == 2:
            shortcut = min(piece.inputs, key=lambda t: produced.get(t, -1))
            found[shortcut] = index
    return found


def _is_chain(chain: Sequence[Piece], start: int, *, residual: bool) -> bool:
    current = start
    for index, piece in enumerate(chain):
        expected = {start, current} if residual and index == len(chain) - 1 else {current}
        if set(piece.inputs) != expected or len(piece.outputs) != 1:
            return False
        current = piece.outputs[0]
    return True


def _by_tensor(offsets: Sequence[int], tensors: Sequence[int], count: int) -> tuple[int, ...]:
    by_tensor = [-1] * count
    for offset, tensor in zip(offsets, tensors, strict=True):
        if tensor >= 0:
            by_tensor[tensor] = offset
    return tuple(by_tensor)
