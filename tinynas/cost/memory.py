"""Memory planners: where each activation and scratch buffer lies in the arena.

TFLM's arena has a head (activations and operator scratch, planned) and a tail (persistent structures, see
:mod:`tinynas.cost.tail`). The greedy planner here is TFLM's own, step for step; the offline planner is ours.
"""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import accumulate
from typing import TypeAlias

from tinynas.cost.kernel import Build
from tinynas.cost.runtimes import Runtime, most_scratch, runtime_named, widest_scratch
from tinynas.cost.stedgeai import halves_shared, scratch_bytes
from tinynas.cost.work import Piece, Work, from_graph
from tinynas.graph import Graph


def aligned(size_bytes: int) -> int:
    """``size_bytes`` rounded up to the 16 bytes to which TFLM aligns every planned buffer (MicroArenaBufferAlignment)."""
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
    if len(buffers) > _MANY:
        return _greedy_many(buffers, fixed)
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


#: From so many buffers on, numpy looks for gaps faster than a loop does.
_MANY = 300


def _greedy_many(buffers: Sequence[Buffer], fixed: Sequence[int] | None) -> tuple[list[int], int]:
    """:func:`greedy` for many buffers: those placed lie in arrays by offset, and all gaps are looked at in one go."""
    import numpy as np

    offsets = [-1] * len(buffers) if fixed is None else list(fixed)
    free = [i for i in range(len(buffers)) if offsets[i] < 0]
    free.sort(key=lambda i: (-buffers[i].size, -i))
    placed = sorted((offsets[i], i) for i in range(len(buffers)) if offsets[i] >= 0)
    # Rows: offset, end, first and last scope.
    table = np.zeros((4, len(buffers)), np.int64)
    count = len(placed)
    for column, (offset, i) in enumerate(placed):
        table[:, column] = offset, offset + buffers[i].size, buffers[i].first, buffers[i].last
    head = int(table[1].max())
    for i in free:
        size, first, last = buffers[i].size, buffers[i].first, buffers[i].last
        alive = table[:2, :count][:, (table[3, :count] >= first) & (table[2, :count] <= last)]
        at = 0
        if alive.shape[1]:
            reached = np.maximum.accumulate(alive[1])
            before = np.concatenate(([0], reached[:-1]))
            gaps = np.flatnonzero(alive[0] - before >= size)
            at = int(before[gaps[0]] if len(gaps) else reached[-1])
        offsets[i] = at
        head = max(head, at + size)
        place = int(np.searchsorted(table[0, :count], at, side="right"))
        table[:, place + 1 : count + 1] = table[:, place:count].copy()
        table[:, place] = at, at + size, first, last
        count += 1
    return offsets, head


Spans: TypeAlias = tuple[list[int], list[int]]
"""(first, last) operator of each tensor."""


def lifetimes(work: Work) -> Spans:
    """(first, last) operator, or scope of a file, at which each tensor must be in memory; graph inputs from operator 0."""
    if work.spans is not None:
        return work.spans
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


def buffers_of(work: Work, runtime: Runtime, build: Build | None = None) -> tuple[list[Buffer], list[int]]:
    """(buffers, tensor id of each buffer or -1 for scratch), in the order in which TFLM adds them.

    Scratch is that of ``build``, or, where it is None, of whichever of the runtime's builds asks an operator for most.
    """
    first, last = lifetimes(work)
    # Of a file, what nothing touches is planned too.
    planned = [t for t, size in enumerate(work.sizes) if size and (last[t] >= 0 or work.spans is not None)]
    buffers = [Buffer(aligned(work.sizes[t]), first[t], last[t]) for t in planned]
    for index, piece in enumerate(work.pieces):
        begin, end = (index, index) if work.moments is None else work.moments[index]
        for size in widest_scratch(runtime, piece) if build is None else piece.scratch_of(build):
            buffers.append(Buffer(aligned(size), begin, end))
            planned.append(-1)
    return buffers, planned


def written_over(work: Work, runtime: Runtime) -> dict[int, int]:
    """By operator the tensor over which a plan for ``runtime`` lets it write: its first input, of the shape of its output, which nothing
    reads later in whatever order. TFLM takes such plans: it looks for no overlap, and the kernels of these operators read before they
    write. None of a file's operators: its plan is what it is.
    """
    found: dict[int, int] = {}
    if work.spans is not None:
        return found
    for index, piece in enumerate(work.pieces):
        if piece.kind in runtime.over and piece.inputs[0] not in (*work.inputs, *work.outputs):
            source = piece.inputs[0]
            others = {i for i, other in enumerate(work.pieces) if i != index and source in other.inputs}
            if not others or others <= _before(work, index):
                found[index] = source
    return found


def apart(work: Work, runtime: Runtime, offsets: Sequence[int]) -> bool:
    """Whether ``offsets`` (a place for each tensor, -1: the runtime's choice) give no byte to two tensors of ``work`` at once, but where an
    operator of ``runtime`` may write over what it reads (:func:`written_over`)."""
    first, last = lifetimes(work)
    aliases = set(_aliases(work, written_over(replace(work, spans=None, moments=None), runtime)))
    placed = sorted((t for t, at in enumerate(offsets) if at >= 0 and work.sizes[t] and last[t] >= 0), key=lambda t: first[t])
    alive: list[int] = []
    for tensor in placed:
        alive = [other for other in alive if last[other] >= first[tensor]]
        low, high = offsets[tensor], offsets[tensor] + aligned(work.sizes[tensor])
        for other in alive:
            meet = offsets[other] < high and low < offsets[other] + aligned(work.sizes[other])
            if meet and not ((tensor, other) in aliases and low == offsets[other]):
                return False
        alive.append(tensor)
    return True


def _before(work: Work, index: int) -> set[int]:
    """The operators that must have run before operator ``index``."""
    producer = {t: i for i, piece in enumerate(work.pieces) for t in piece.outputs}
    found: set[int] = set()
    waiting = [index]
    while waiting:
        needed = {producer[t] for t in work.pieces[waiting.pop()].inputs if t in producer} - found
        found |= needed
        waiting += needed
    return found


def _aliases(work: Work, over: Mapping[int, int]) -> list[tuple[int, int]]:
    """(output, the tensor over which it is written), in the order in which they are written."""
    return [(work.pieces[index].outputs[0], over[index]) for index in sorted(over)]


def live_bytes(work: Work, runtime: Runtime, spans: Spans | None = None) -> list[int]:
    """Bytes of tensors and scratch alive during each operator, aligned: no plan that serves all builds can need less than the largest.

    Sizes may be integer arrays, which give arrays. ``spans``: :func:`lifetimes` of ``work``, where they are known already.
    """
    first, last = lifetimes(work) if spans is None else spans
    mask = runtime.alignment - 1
    moments = work.moments
    steps = [0] * (1 + (len(work.pieces) if moments is None else 1 + max([0, *last, *[end for _, end in moments]])))
    for size, begin, end in zip(work.sizes, first, last, strict=True):
        if end >= 0:
            size = (size + mask) & ~mask
            begin = max(begin, 0)
            steps[begin] = steps[begin] + size
            steps[end + 1] = steps[end + 1] - size
    live = list(accumulate(steps))
    live.pop()
    if moments is not None:
        live = [live[begin] if begin >= 0 else 0 for begin, _ in moments]
    if runtime.builds:
        for index, piece in enumerate(work.pieces):
            live[index] = live[index] + most_scratch(runtime, piece)
    for index in written_over(work, runtime) if runtime.over else ():
        live[index] = live[index] - ((work.sizes[work.pieces[index].outputs[0]] + mask) & ~mask)
    if runtime.in_place_depthwise:
        for index, piece in enumerate(work.pieces):
            if piece.kind == "dw" and last[piece.inputs[0]] == (index if moments is None else moments[index][1]):
                read, written = work.sizes[piece.inputs[0]], work.sizes[piece.outputs[0]]
                live[index] = live[index] - read + (read - written) * (read > written)  # the smaller of the two
    if runtime.shares:
        for index, piece in enumerate(work.pieces):
            live[index] = live[index] + sum(scratch_bytes(piece))
        for index, smaller in shareable(work, last).items():
            live[index] = live[index] - halves_shared(work.pieces[index]) * smaller // 2
    return live


def shareable(work: Work, last: Sequence[int]) -> dict[int, int]:
    """Bytes that an operator's output could share with the largest of its inputs that nothing reads later: those of the smaller.

    By operator; ``last`` is the last use of each tensor as :func:`lifetimes` gives it. Sizes may be integer arrays.
    """
    found = {}
    for index, piece in enumerate(work.pieces):
        end = index if work.moments is None else work.moments[index][1]
        dying = [work.sizes[tensor] for tensor in piece.inputs if last[tensor] == end]
        if dying and piece.outputs:
            read = dying[0]
            for other in dying[1:]:
                read = read + (other - read) * (other > read)
            written = work.sizes[piece.outputs[0]]
            found[index] = read + (written - read) * (written < read)
    return found


def plan_greedy(graph: Graph, runtime: str = "tflm") -> MemoryPlan:
    """TFLM's own plan, as made at run time for a file that carries none."""
    return greedy_work(from_graph(graph), runtime_named(runtime))


def greedy_work(work: Work, runtime: Runtime) -> MemoryPlan:
    """:func:`plan_greedy` for any work."""
    plans = []
    for _, build in runtime.builds:
        buffers, tensors = buffers_of(work, runtime, build)
        offsets, head = greedy(buffers)
        plans.append(MemoryPlan(_by_tensor(offsets, tensors, len(work.sizes)), head, tuple(range(len(work.pieces)))))
    return max(plans, key=lambda plan: plan.head_bytes)


def file_head_bytes(work: Work, runtime: Runtime, plan: Sequence[int] | None, build: Build | None = None) -> int:
    """Head bytes of a file as TFLM plans it: around the offsets of ``plan`` where it carries one. With the kernels of ``build``, or the
    most of any build of ``runtime``.
    """
    if build is None:
        return max(file_heads(work, runtime, plan).values())
    buffers, tensors = buffers_of(work, runtime, build)
    if plan is None:
        return greedy(buffers)[1]
    return greedy(buffers, [plan[t] if t >= 0 else -1 for t in tensors])[1]


def file_heads(work: Work, runtime: Runtime, plan: Sequence[int] | None) -> dict[Build, int]:
    """:func:`file_head_bytes` of each build of ``runtime``."""
    known: dict[tuple[tuple[int, ...], ...], int] = {}
    heads: dict[Build, int] = {}
    for _, build in runtime.builds:
        scratch = tuple([piece.scratch_of(build) for piece in work.pieces])
        if scratch not in known:
            known[scratch] = file_head_bytes(work, runtime, plan, build)
        heads[build] = known[scratch]
    return heads


def plan_offline(graph: Graph, runtime: str = "tflm", core: str | None = None) -> MemoryPlan:
    """The plan that tinynas writes into its files, for the kernels of ``runtime``; its head is what ``estimate`` promises.

    Scratch is placed by the runtime around the plan, so the plan leaves room for the scratch of every build of ``runtime`` in use.
    """
    return offline_work(from_graph(graph), runtime_named(runtime, core))


def offline_work(work: Work, runtime: Runtime) -> MemoryPlan:
    """:func:`plan_offline` for any work: by construction where shortcuts nest, by search over order and placement elsewhere.

    Between two operators after which one tensor alone is alive lies a segment. Every segment has its input at one end
    of the arena and its output at the other, so segments do not see each other: the head of the whole is the largest of
    theirs, and a block of a network can be costed alone.
    """
    over = written_over(work, runtime)
    frames = nested_frames(work.pieces, work.inputs, work.outputs, over=over)
    if frames is not None:
        bound = max(live_bytes(work, runtime))
        sizes, aliases = [aligned(size) for size in work.sizes], _aliases(work, over)
        return MemoryPlan(tuple(in_frames(sizes, frames, bound, aliases)), bound, tuple(range(len(work.pieces))))
    parts = [plan_segment(part, runtime) for part in segments(work, runtime)]
    arena = max(part.head_bytes for part in parts)
    offsets = [-1] * len(work.sizes)
    order: list[int] = []
    mirrored = False
    for part in parts:
        order += [len(order) + i for i in part.order]
        for tensor, offset in _oriented(part, arena, mirrored=mirrored).items():
            offsets[tensor] = offset
        mirrored = mirrored != part.crosses
    ordered = replace(work, pieces=tuple([work.pieces[i] for i in order]))
    # The runtime places scratch by itself around the plan: take what it really does.
    return MemoryPlan(tuple(offsets), max(arena, file_head_bytes(ordered, runtime, offsets)), tuple(order))


def in_given_order(work: Work, runtime: Runtime, *, tries: int = 60) -> MemoryPlan:
    """A plan for any work that runs its operators as they stand: TFLM's greedy one, or what ``tries`` changes of our search make of it
    where that is less; scratch of every build of ``runtime`` has its place in it."""
    over = written_over(work, runtime)
    aliases = _aliases(work, over)
    bound = max(live_bytes(work, runtime))
    buffers, tensors = buffers_of(work, runtime)
    offsets, head = greedy(buffers)
    placed = dict(enumerate(_by_tensor(offsets, tensors, len(work.sizes))))
    if head > bound:
        searched, least, _ = _placed(work, runtime, bound, aliases, tries=tries)
        if least < head:
            placed, head = searched, least
    return MemoryPlan(tuple([placed.get(t, -1) for t in range(len(work.sizes))]), head, tuple(range(len(work.pieces))))


# Nested shortcuts ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Frame:
    """A run of operators while one shortcut is kept; the outermost keeps none. ``tensors`` lie in its part of the arena."""

    shortcut: int
    parent: int
    tensors: list[int]


def nested_frames(
    pieces: Sequence[Piece],
    inputs: Sequence[int],
    outputs: Sequence[int],
    last: Sequence[int] | dict[int, int] | None = None,
    *,
    over: Mapping[int, int],
) -> list[Frame] | None:
    """The frames of a chain of operators whose shortcuts nest (the last one kept is the first that is read); None for others.

    Each operator reads what the one before wrote, and may read the innermost shortcut beside it: residual additions,
    gates, and both inside each other. ``last``: the last operator that reads each tensor, where it is known already. ``over``:
    :func:`written_over`; what is written over another tensor is in no frame.
    """
    if len(inputs) != 1 or len(outputs) != 1:
        return None
    if last is None:
        last = {tensor: index for index, piece in enumerate(pieces) for tensor in piece.inputs}
    current = inputs[0]
    frames = [Frame(-1, -1, [current])]
    frame = frames[0]
    for index, piece in enumerate(pieces):
        read, written = piece.inputs, piece.outputs
        closes = False
        if len(written) != 1 or current not in read:
            return None
        if index in over:
            if len(read) > 1:  # over the shortcut, which so becomes what its frame goes on with
                if (over[index], last[current]) != (frame.shortcut, index):
                    return None
                frame = frames[frame.parent]
            current = written[0]
            continue
        if len(read) == 1:
            if last[current] == index:
                current = written[0]
                frame.tensors.append(current)
                continue
        else:
            for tensor in read:
                if tensor != current:
                    if tensor != frame.shortcut:
                        return None
                    closes = last[tensor] == index
        kept = last[current] > index
        if closes:
            if kept:
                return None
            frame = frames[frame.parent]
        elif kept:
            frame = Frame(current, frames.index(frame), [])
            frames.append(frame)
        current = written[0]
        frame.tensors.append(current)
    return frames if frame is frames[0] and current == outputs[0] else None


def in_frames(size: Sequence[int], frames: Sequence[Frame], arena: int, aliases: Sequence[tuple[int, int]] = ()) -> list[int]:
    """Offsets within ``arena``, the live-bytes bound, for frames that nest; ``size``: aligned bytes by tensor. ``aliases``: (tensor, that
    over which it is written).

    Along a frame, tensors alternate between the two ends of its part of the arena, so an operator's input and output
    never meet. A shortcut stays at its end, and what runs meanwhile has the rest: its last tensor lies next to the
    shortcut, so that the operator that reads both can write to the other end. At every operator at most one gap is left,
    so scratch fits there too. Hence the bound is reached.
    """
    offsets = [-1] * len(size)
    at_top: dict[int, bool] = {}
    spans: list[tuple[int, int]] = []
    own = dict(aliases)
    for frame in frames:
        low, high, start = 0, arena, False
        if frame.parent >= 0:
            low, high = spans[frame.parent]
            shortcut = frame.shortcut
            while shortcut in own:
                shortcut = own[shortcut]
            start = at_top[shortcut] ^ (len(frame.tensors) % 2 == 0)
            if at_top[shortcut]:
                high -= size[shortcut]
            else:
                low += size[shortcut]
        spans.append((low, high))
        for index, tensor in enumerate(frame.tensors):
            at_top[tensor] = start ^ (index % 2 == 1)
            offsets[tensor] = high - size[tensor] if at_top[tensor] else low
    for tensor, source in own.items():
        offsets[tensor] = offsets[source]
    return offsets


# Segments of any shape ----------------------------------------------------------------------------------


def segments(work: Work, runtime: Runtime) -> list[Work]:
    """``work`` cut wherever one tensor alone, the one just written, is alive, unless another is written over it; tensor numbers stay."""
    kept_on = set(written_over(work, runtime).values())
    first, last = lifetimes(work)
    end = len(work.pieces) - 1
    kept = [0] * (len(work.pieces) + 1)
    for begin, until in zip(first, last, strict=True):
        if until > begin:
            kept[begin] += 1
            kept[until] -= 1
    behind = list(accumulate(kept))  # operator -> tensors alive behind it that something later reads
    cuts = [
        i
        for i, piece in enumerate(work.pieces[:-1])
        if behind[i] == 1
        and len(piece.outputs) == 1
        and last[piece.outputs[0]] > i
        and piece.outputs[0] not in work.outputs
        and piece.outputs[0] not in kept_on
    ]
    parts, start, inputs = [], 0, work.inputs
    for cut in [*cuts, end]:
        outputs = work.outputs if cut == end else work.pieces[cut].outputs
        parts.append(replace(work, pieces=work.pieces[start : cut + 1], inputs=inputs, outputs=outputs))
        start, inputs = cut + 1, outputs
    return parts


@dataclass(frozen=True, slots=True)
class Part:
    """A planned segment: offsets by tensor with the input at the bottom; the output there too, or, where it crosses, on top of whatever
    arena there is."""

    work: Work
    offsets: dict[int, int]
    head_bytes: int
    order: tuple[int, ...]
    aliases: list[tuple[int, int]]
    """Tensors that lie where another does, and that, in order."""
    crosses: bool
    """Whether the output lies at the other end than the input."""


def _oriented(part: Part, arena: int, *, mirrored: bool) -> dict[int, int]:
    """Offsets in ``arena``, the input at the bottom, or at the top where ``mirrored``."""
    offsets = dict(part.offsets)
    if len(part.work.outputs) == 1 and part.crosses:
        out = part.work.outputs[0]
        offsets[out] = arena - aligned(part.work.sizes[out])
        for tensor, source in reversed(part.aliases):
            if tensor == out:
                offsets[source], out = offsets[out], source
    if not mirrored:
        return offsets
    return {tensor: arena - offset - aligned(part.work.sizes[tensor]) for tensor, offset in offsets.items()}


def plan_segment(segment: Work, runtime: Runtime) -> Part:
    """The plan of a part of a network between two cuts, wherever it lies; its work is in the plan's order."""
    order = best_order(segment, runtime)
    ordered = replace(segment, pieces=tuple([segment.pieces[i] for i in order]))
    over = written_over(ordered, runtime)
    aliases = _aliases(ordered, over)
    bound = max(live_bytes(ordered, runtime))
    frames = nested_frames(ordered.pieces, ordered.inputs, ordered.outputs, over=over)
    crosses = True
    if frames is not None:
        placed, head = dict(enumerate(in_frames([aligned(s) for s in ordered.sizes], frames, bound, _aliases(ordered, over)))), bound
    else:
        placed, head, crosses = _placed(ordered, runtime, bound, aliases)
    part = Part(ordered, {t: offset for t, offset in placed.items() if offset >= 0}, head, order, aliases, crosses)
    while True:
        # The runtime places scratch by itself, whichever way round the segment lies.
        needed = head
        for mirrored in (False, True):
            oriented = _oriented(part, head, mirrored=mirrored)
            needed = max(needed, file_head_bytes(ordered, runtime, [oriented.get(t, -1) for t in range(len(segment.sizes))]))
        if needed == head:
            return replace(part, head_bytes=head)
        head = needed


def _placed(
    work: Work, runtime: Runtime, bound: int, aliases: Sequence[tuple[int, int]], *, tries: int = 400
) -> tuple[dict[int, int], int, bool]:
    """(offsets by tensor, head, whether the output lies at the other end) by search: the input at the bottom, the output on top, or at
    the bottom too where that takes less."""
    buffers, tensors = buffers_of(work, runtime)
    merged = {t if t >= 0 else -1 - i: buffer for i, (t, buffer) in enumerate(zip(tensors, buffers, strict=True))}
    first = list(work.outputs)
    for tensor, source in reversed(aliases):
        merged[source] = replace(merged[source], last=merged.pop(tensor).last)
        first = [source if out == tensor else out for out in first]
    keys = list(merged)
    low = keys.index(work.inputs[0]) if len(work.inputs) == 1 else None
    high = keys.index(first[0]) if len(first) == 1 else None
    buffers, crosses = list(merged.values()), True
    offsets, head = _search(buffers, bound, low, high, tries=tries)
    if head > bound and low is not None and high is not None and buffers[low].last < buffers[high].first:
        others, least = _search(buffers, bound, (low, high), None, tries=tries)
        if least < head:
            offsets, head, crosses = others, least, False
    placed = {key: offset for key, offset in zip(keys, offsets, strict=True) if key >= 0}
    for tensor, source in aliases:
        placed[tensor] = placed[source]
    return placed, head, crosses


def best_order(work: Work, runtime: Runtime, *, limit: int = 5_000) -> tuple[int, ...]:
    """The operator order of the least live bytes, or the given one where branches are too many to try (``limit`` states)."""
    pieces = work.pieces
    producer = {t: i for i, piece in enumerate(pieces) for t in piece.outputs}
    readers: dict[int, list[int]] = {}
    for index, piece in enumerate(pieces):
        for tensor in set(piece.inputs):
            readers.setdefault(tensor, []).append(index)
    needs = [{producer[t] for t in piece.inputs if t in producer} for piece in pieces]
    given = tuple(range(len(pieces)))
    if all(index - 1 in needs[index] for index in range(1, len(pieces))):
        return given  # each waits for the one before: there is no choice
    mask = runtime.alignment - 1
    size = [(s + mask) & ~mask for s in work.sizes]
    scratch = [most_scratch(runtime, piece) for piece in pieces]
    outputs = set(work.outputs)
    # No order can be below what one operator needs by itself; only what is better than the given order is followed.
    over = written_over(work, runtime)
    fresh = [0 if index in over else sum(size[t] for t in piece.outputs) for index, piece in enumerate(pieces)]
    alone = [sum(size[t] for t in set(piece.inputs)) + f + s for piece, f, s in zip(pieces, fresh, scratch, strict=True)]
    known = max(live_bytes(work, runtime))
    if known == max(alone):
        return given
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
            during = live + fresh[index] + scratch[index]
            if during >= known:
                continue
            after = live + sum(size[t] for t in piece.outputs)
            now = done | {index}
            after -= sum(size[t] for t in set(piece.inputs) if t not in outputs and all(r in now for r in readers[t]))
            after -= sum(size[t] for t in piece.outputs if t not in readers and t not in outputs)
            count += 1
            heappush(heap, (max(peak, during), -len(order) - 1, count, now, after, (*order, index)))
    return given


def _search(
    buffers: Sequence[Buffer], bound: int, low: int | tuple[int, int] | None, high: int | None, *, tries: int = 400
) -> tuple[list[int], int]:
    """The best placement found: first fit by size, then in orders changed by seeded swaps, until the bound is reached.

    ``low`` lies at the bottom (or both of them do), ``high`` on top of whatever is alive with it.
    """
    generator = random.Random(0)
    bottom = low if isinstance(low, tuple) else () if low is None else (low,)
    others = [i for i in range(len(buffers)) if i not in (*bottom, high)]
    order = sorted(others, key=lambda i: (-buffers[i].size, buffers[i].first))
    best, head = _first_fit(buffers, order, bottom, high)
    for _ in range(tries):
        if head <= bound or not order:
            break
        candidate = list(order)
        for _ in range(generator.randint(1, 4)):
            a, b = generator.randrange(len(order)), generator.randrange(len(order))
            candidate[a], candidate[b] = candidate[b], candidate[a]
        offsets, reached = _first_fit(buffers, candidate, bottom, high)
        if reached <= head:
            best, head, order = offsets, reached, candidate
    return best, head


def _first_fit(buffers: Sequence[Buffer], order: Sequence[int], bottom: Sequence[int], high: int | None) -> tuple[list[int], int]:
    offsets = [-1] * len(buffers)
    placed: list[tuple[int, int]] = []
    head = 0
    for i in (*bottom, *order):
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
    if high is not None:
        top = buffers[high]
        under = [o + buffers[j].size for o, j in placed if buffers[j].last >= top.first and buffers[j].first <= top.last]
        head = max(head, max(under, default=0) + top.size)
        offsets[high] = head - top.size
    return offsets, head


def _by_tensor(offsets: Sequence[int], tensors: Sequence[int], count: int) -> tuple[int, ...]:
    by_tensor = [-1] * count
    for offset, tensor in zip(offsets, tensors, strict=True):
        if tensor >= 0:
            by_tensor[tensor] = offset
    return tuple(by_tensor)
