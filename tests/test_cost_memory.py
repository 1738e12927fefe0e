"""Planners: TFLM's greedy one on known cases, ours against the bound, no two living buffers overlapping."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cost import archs

from tinynas.arch import Arch, load_arch
from tinynas.cost import RUNTIMES, estimate, memory, plan_greedy, plan_offline
from tinynas.cost.memory import (
    Buffer,
    MemoryPlan,
    aligned,
    best_order,
    buffers_of,
    file_head_bytes,
    greedy,
    live_bytes,
    offline_work,
)
from tinynas.cost.work import Piece, Work, from_graph
from tinynas.graph import Graph, lower


def test_alignment() -> None:
    assert [aligned(size) for size in (0, 1, 15, 16, 17)] == [0, 16, 16, 16, 32]


def test_greedy_places_the_largest_first_and_fills_gaps() -> None:
    # Largest first: 1 at 0. Then 0 and 2 (equal, the later first): both above 1, and beside each other in time.
    buffers = [Buffer(32, 0, 1), Buffer(64, 1, 2), Buffer(32, 2, 3), Buffer(16, 0, 0)]
    offsets, head = greedy(buffers)
    assert offsets == [64, 0, 64, 0]
    assert head == 96


def test_greedy_keeps_fixed_offsets_and_places_the_rest_around_them() -> None:
    buffers = [Buffer(64, 0, 1), Buffer(64, 1, 2), Buffer(32, 1, 1)]
    offsets, head = greedy(buffers, [0, 128, -1])
    assert offsets == [0, 128, 64]
    assert head == 192


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(-1, 8), st.integers(0, 5), st.integers(-1, 3)), min_size=1, max_size=40),
    st.booleans(),
)
def test_greedy_of_many_is_greedy(drawn: list[tuple[int, int, int, int]], plan: bool) -> None:
    buffers = [Buffer(16 * size, first, first + more) for size, first, more, _ in drawn]
    fixed = [16 * offset if offset >= 0 else -1 for *_, offset in drawn] if plan else None
    assert memory._greedy_many(buffers, fixed) == greedy(buffers, fixed)


def test_from_many_on_numpy_looks_for_the_gaps() -> None:
    # 400 buffers that all live at once lie one above the other, the largest first.
    buffers = [Buffer(16 * (1 + i % 3), 0, 1) for i in range(memory._MANY + 100)]
    offsets, head = greedy(buffers)
    assert head == sum(buffer.size for buffer in buffers)
    assert offsets[-1] + buffers[-1].size <= head
    assert sorted(offsets) == sorted(set(offsets))


def test_greedy_fragments_mobilenet_and_the_plan_does_not() -> None:
    # MLPerf Tiny's visual wake words network: 73,728 B measured in TFLM, 55,296 B with an offline plan.
    graph = lower(load_arch("mobilenetv1-0.25"))
    assert plan_greedy(graph).head_bytes == 73_728
    assert plan_offline(graph).head_bytes == 55_296


def check_plan(work: Work, plan: MemoryPlan, runtime: str) -> None:
    """No overlap in time and space; the runtime, placing scratch around the plan, needs exactly the plan's head."""
    buffers, tensors = buffers_of(work, RUNTIMES[runtime])
    placed = [(plan.offsets[t], b) for t, b in zip(tensors, buffers, strict=True) if t >= 0]
    assert all(offset >= 0 and offset % 16 == 0 for offset, _ in placed)
    for i, (at, a) in enumerate(placed):
        for other, b in placed[i + 1 :]:
            together = a.first <= b.last and b.first <= a.last
            assert not together or at + a.size <= other or other + b.size <= at
    assert file_head_bytes(work, RUNTIMES[runtime], plan.offsets) == plan.head_bytes


@settings(max_examples=150, deadline=None)
@given(archs())
def test_the_plan_reaches_the_live_bytes_bound_for_every_network(arch: Arch) -> None:
    graph = lower(arch)
    work = from_graph(graph)
    for runtime in ("tflm", "tflm-cmsis-nn"):
        plan = plan_offline(graph, runtime)
        assert plan.head_bytes == max(live_bytes(work, RUNTIMES[runtime])) == estimate(graph, runtime).head_bytes
        assert plan.head_bytes <= plan_greedy(graph, runtime).head_bytes
        check_plan(work, plan, runtime)


def random_dag(seed: int) -> Work:
    """Operators with branches: each reads one or two earlier tensors."""
    generator = random.Random(seed)
    sizes = [generator.randrange(1, 400)]
    pieces = []
    for index in range(generator.randrange(3, 9)):
        inputs = tuple(sorted(generator.sample(range(len(sizes)), min(len(sizes), generator.choice([1, 1, 2])))))
        sizes.append(generator.randrange(1, 400))
        pieces.append(Piece("add", f"op{index}", inputs, (len(sizes) - 1,)))
    shapes = tuple((size,) for size in sizes)
    return Work(tuple(sizes), shapes, tuple(pieces), (0,), (len(sizes) - 1,), len(sizes))


@pytest.mark.parametrize("seed", range(40))
def test_branches_get_the_best_order_and_a_valid_plan(seed: int) -> None:
    work = random_dag(seed)
    runtime = RUNTIMES["tflm"]
    order = best_order(work, runtime)
    peak = max(live_bytes(reorder(work, order), runtime))
    assert peak == min(max(live_bytes(reorder(work, o), runtime)) for o in all_orders(work))
    plan = offline_work(work, runtime)
    check_plan(reorder(work, plan.order), plan, "tflm")
    assert plan.head_bytes >= peak


def reorder(work: Work, order: tuple[int, ...]) -> Work:
    return Work(work.sizes, work.shapes, tuple(work.pieces[i] for i in order), work.inputs, work.outputs, work.tensor_count)


def all_orders(work: Work) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []

    def extend(done: tuple[int, ...], tensors: frozenset[int]) -> None:
        if len(done) == len(work.pieces):
            found.append(done)
        for index, piece in enumerate(work.pieces):
            if index not in done and set(piece.inputs) <= tensors:
                extend((*done, index), tensors | set(piece.outputs))

    extend((), frozenset(work.inputs))
    return found


def test_a_graph_made_by_hand_is_planned_too() -> None:
    lowered = lower(load_arch("mcunet-tiny2"))
    by_hand = Graph(lowered.tensors, lowered.ops, lowered.input, lowered.inputs, lowered.outputs)
    assert estimate(by_hand).values() == estimate(lowered).values()
