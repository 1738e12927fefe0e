"""Graphs of any shape: what is estimated is what the plan takes, with gates, branches and shortcuts inside each other."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from tinynas.cost import RUNTIMES, batch, estimate
from tinynas.cost.memory import (
    best_order,
    buffers_of,
    file_head_bytes,
    greedy_work,
    live_bytes,
    nested_frames,
    offline_work,
    segments,
    written_over,
)
from tinynas.cost.work import Piece, Work, from_graph
from tinynas.graph import Builder, Graph, MBSizes, classifier, lower
from tinynas.inputs import Input
from tinynas.space import Space

PLANNED = [name for name, runtime in RUNTIMES.items() if runtime.plans]


def close(build: Builder, x: int, classes: int = 3) -> Graph:
    """A classifier of what ``build`` holds."""
    logits = classifier(build, x, classes)
    return Graph(tuple(build.tensors), tuple(build.ops), Input(*build.tensors[0].shape), (0,), (logits,))


def gate(build: Builder, name: str, x: int, squeezed: int) -> int:
    """Squeeze and excite: the map weighted by what its means say of each channel."""
    channels = build.shape(x)[-1]
    y = build.dense(f"{name}.squeeze", build.mean(f"{name}.mean", x), squeezed, "relu")
    return build.mul(f"{name}.gate", x, build.dense(f"{name}.excite", y, channels, "relu6"))


def random_graph(seed: int) -> Graph:
    """Blocks of one to three branches, gates and shortcuts, one inside the other, at random."""
    rng = random.Random(seed)
    build = Builder((rng.randint(4, 20), rng.randint(4, 20), rng.choice([1, 3])))
    count = 0

    def name() -> str:
        nonlocal count
        count += 1
        return f"o{count}"

    def some(x: int, depth: int) -> int:
        channels = build.shape(x)[-1]
        kind = rng.choice(["conv", "dw", "gate", "residual", "branches", "apart"] if depth < 3 else ["conv", "dw"])
        match kind:
            case "conv":
                kernel = (rng.choice([1, 3]), rng.choice([1, 3, 5]))
                return build.conv(name(), x, rng.randint(1, 24), kernel, (1, 1), "relu6")
            case "dw":
                return build.depthwise(name(), x, (rng.choice([3, 5]), 3), (1, 1), "relu6")
            case "gate":
                return gate(build, name(), x, rng.randint(1, 8))
            case "residual":
                y = some(some(x, depth + 1), depth + 1)
                return build.add(name(), x, build.pointwise(name(), y, channels, "none"))
            case "branches":
                wide = rng.randint(1, 16)
                ends = [build.pointwise(name(), some(x, depth + 1), wide, "none") for _ in range(rng.choice([2, 3]))]
                for end in ends[1:]:
                    ends[0] = build.add(name(), ends[0], end)
                return ends[0]
            case _:
                # One branch reads what is inside another: no nesting at all.
                y = some(x, depth + 1)
                z = build.pointwise(name(), x, build.shape(y)[-1], "none")
                return build.add(name(), build.add(name(), y, z), y)

    x = build.conv("stem", 0, rng.randint(2, 16), (3, 3), (rng.choice([1, 2]), rng.choice([1, 2])), "relu6")
    for _ in range(rng.randint(1, 3)):
        x = some(x, 0)
    return close(build, x)


def check(work: Work, runtime: str) -> int:
    """The head of the plan of ``work``: buffers that are alive together never meet, and TFLM's planner around it takes no more."""
    plan = offline_work(work, RUNTIMES[runtime])
    assert sorted(plan.order) == list(range(len(work.pieces)))
    ordered = Work(work.sizes, work.shapes, tuple(work.pieces[i] for i in plan.order), work.inputs, work.outputs, work.tensor_count)
    known = set(work.inputs)
    for piece in ordered.pieces:
        assert set(piece.inputs) <= known, "an operator runs before what it reads"
        known |= set(piece.outputs)
    buffers, tensors = buffers_of(ordered, RUNTIMES[runtime])
    placed = [(plan.offsets[t], b, t) for t, b in zip(tensors, buffers, strict=True) if t >= 0]
    assert all(at >= 0 for at, *_ in placed)
    # An operator may write over its input: then they lie at one place.
    over = {frozenset((source, ordered.pieces[index].outputs[0])) for index, source in written_over(ordered, RUNTIMES[runtime]).items()}
    for i, (at, a, t) in enumerate(placed):
        for other, b, u in placed[i + 1 :]:
            if a.first <= b.last and b.first <= a.last:
                apart = at + a.size <= other or other + b.size <= at
                assert apart or (frozenset((t, u)) in over and at == other)
    assert file_head_bytes(ordered, RUNTIMES[runtime], plan.offsets) == plan.head_bytes >= max(live_bytes(ordered, RUNTIMES[runtime]))
    return plan.head_bytes


#: All of them take some minutes: TINYNAS_GRAPHS=10000.
GRAPHS = int(os.environ.get("TINYNAS_GRAPHS", "60"))


@pytest.mark.parametrize("runtime", PLANNED)
def test_the_estimate_equals_the_plan_of_random_branching_graphs(runtime: str) -> None:
    above = nested = 0
    for seed in range(GRAPHS):
        graph = random_graph(seed)
        work = from_graph(graph)
        head = check(work, runtime)
        cost = estimate(graph, runtime)
        assert cost.head_bytes == head, seed
        assert cost.exact_plan
        bound = max(live_bytes(work, RUNTIMES[runtime]))
        above += head > bound
        nests = nested_frames(work.pieces, work.inputs, work.outputs, over=written_over(work, RUNTIMES[runtime])) is not None
        nested += nests
        assert head == bound or not nests, f"{seed}: nested shortcuts reach the live bytes"
    assert 0 < nested < GRAPHS
    assert above < 0.2 * GRAPHS, "the search for a placement finds little"


@pytest.mark.parametrize("seed", range(30))
def test_no_plan_is_worse_than_tflms_own(seed: int) -> None:
    work = from_graph(random_graph(seed))
    order = best_order(work, RUNTIMES["tflm"])
    ordered = Work(work.sizes, work.shapes, tuple(work.pieces[i] for i in order), work.inputs, work.outputs, work.tensor_count)
    ours = offline_work(work, RUNTIMES["tflm"]).head_bytes
    theirs = min(greedy_work(work, RUNTIMES["tflm"]).head_bytes, greedy_work(ordered, RUNTIMES["tflm"]).head_bytes)
    assert ours <= theirs * 1.10, "an end of the arena for each segment costs little"


def test_several_outputs_and_dead_ends_are_planned() -> None:
    pieces = (Piece("add", "a", (0,), (1,)), Piece("add", "b", (1,), (2,)), Piece("add", "c", (1,), (3,)), Piece("add", "d", (3,), (4,)))
    # In 16 B steps 112, 64, 32, 80, 32: operator a holds 112 + 64; c holds what it reads, what it writes and what is kept.
    for outputs, least in [((2, 4), 176), ((4,), 176), ((1, 4), 176)]:
        work = Work((100, 60, 30, 80, 20), ((1,),) * 5, pieces, (0,), outputs, 5)
        assert check(work, "tflm") == least


def test_two_shortcuts_inside_each_other_by_hand() -> None:
    # x (64 B) is kept over everything, a (48) over its gate; the head is x + a + mean + squeeze or x + a + gated.
    build = Builder((4, 4, 4))
    x = build.pointwise("x", 0, 4, "none")
    a = build.pointwise("a", x, 3, "none")
    g = gate(build, "g", a, 2)
    graph = close(build, build.add("add", x, build.pointwise("p", g, 4, "none")))
    work = from_graph(graph)
    assert nested_frames(work.pieces, work.inputs, work.outputs, over=written_over(work, RUNTIMES["tflm"])) is not None
    assert [len(part.pieces) for part in segments(work, RUNTIMES["tflm"])] == [1, 7, 1, 1]
    # Operators: x; a; mean with sums (4 * 3 B), rank and axes (16 + 8, aligned 16 each); two dense layers; gate; p; add; pool; fc.
    expected = [128, 112, 112 + 16 + 48, 112 + 32, 112 + 32, 112 + 16, 64 + 48 + 64, 192, 64 + 16 + 48, 32]
    assert live_bytes(work, RUNTIMES["tflm"]) == expected
    assert check(work, "tflm") == 192 == estimate(graph).head_bytes


def gated(build: Builder, name: str, x: int, block: MBSizes) -> int:
    """An inverted residual with a gate behind its depthwise convolution."""
    shortcut = x
    if block.expands:
        x = build.pointwise(f"{name}.expand", x, block.mid, block.act)
    x = build.depthwise(f"{name}.dw", x, block.kernel, block.stride, block.act)
    x = gate(build, name, x, -(-build.shape(x)[-1] // 4))
    x = build.pointwise(f"{name}.project", x, block.out, "none")
    return build.add(f"{name}.add", shortcut, x) if block.residual else x


def parallel(build: Builder, name: str, x: int, block: MBSizes) -> int:
    """Two depthwise branches of different kernels, added; a shortcut around both."""
    shortcut = x
    wide = build.pointwise(f"{name}.expand", x, block.mid, block.act) if block.expands else x
    first = build.depthwise(f"{name}.dw", wide, block.kernel, block.stride, block.act)
    second = build.depthwise(f"{name}.dw2", build.pointwise(f"{name}.p", wide, block.mid, "relu"), (3, 3), block.stride, block.act)
    x = build.pointwise(f"{name}.project", build.add(f"{name}.sum", first, second), block.out, "none")
    return build.add(f"{name}.add", shortcut, x) if block.residual else x


def better_the_other_way(build: Builder, name: str, x: int, block: MBSizes) -> int:
    """A sum that would be kept while a wide branch runs: the plan runs the wide one first, and two additions meet, whose options
    then share their padding."""

    def branch(of: str, channels: int) -> int:
        return build.depthwise(f"{name}.{of}2", build.pointwise(f"{name}.{of}", x, channels, "relu"), block.kernel, block.stride, "relu")

    kept = build.add(f"{name}.sum", branch("a", block.out), branch("b", block.out))
    wide = build.pointwise(f"{name}.project", branch("w", 6 * block.mid), block.out, "none")
    return build.add(f"{name}.join", kept, wide)


@pytest.mark.parametrize("block", [gated, parallel, better_the_other_way])
@pytest.mark.parametrize("runtime", [name for name, runtime in RUNTIMES.items() if not runtime.stream])
def test_a_new_block_is_written_once_and_batches_know_it(block: object, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinynas import graph

    monkeypatch.setattr(graph, "mbconv", block)
    monkeypatch.setattr(batch, "mbconv", block)
    space = Space.model_validate(
        {
            "name": f"{runtime} {block}",
            "resolution": [12, [17, 9]],
            "color": ["rgb", "gray"],
            "divisor": 1,
            "stem": {"out": [3, 8]},
            "stages": [
                {"out": [4, 8], "depth": [1, 2], "kernel": [3, [5, 3]], "expand": [1, 2], "stride": [1, [2, 1]]},
                {"out": [6], "depth": [1, 3], "kernel": 3, "expand": [2.5], "stride": 1},
            ],
            "head": {"out": [0, 20]},
        }
    )
    rng = random.Random(runtime)
    genotypes = [space.draw(lambda _, n: rng.randrange(n)) for _ in range(25)]
    costs = batch.BatchEstimator(space, 5, runtime).estimate(np.array(genotypes))
    for index, genotype in enumerate(genotypes):
        cost = estimate(lower(space.decode(genotype, 5)), runtime)
        assert costs.values(index) == cost.values()
        assert (int(costs.head_bytes[index]), int(costs.tail_bytes[index])) == (cost.head_bytes, cost.tail_bytes)
    batch.tables_of.cache_clear()
