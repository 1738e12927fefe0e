"""Estimates against tflite-micro on random networks: the same check as benchmarks/cost_accuracy.py, on fewer networks."""

from __future__ import annotations

import numpy as np
import pytest
from test_cost_tflite import benchmark

from tinynas.arch import load_arch
from tinynas.config import shipped
from tinynas.cost import estimate, plan_greedy, plan_offline
from tinynas.graph import lower

pytest.importorskip("tflite_micro")


@pytest.mark.parametrize(("count", "seed"), [(30, 11), pytest.param(300, 12, marks=pytest.mark.slow)])
def test_head_arena_and_file_are_exact_on_random_networks(count: int, seed: int) -> None:
    bench = benchmark("cost_accuracy")
    rows = bench.network_rows(count, seed)
    for row in rows:
        for figure in ("file", "head", "arena", "unplanned_head"):
            assert row[f"{figure}_estimated"] == row[f"{figure}_measured"], (figure, row)
        assert row["arena_measured"] <= row["unplanned_arena_measured"], row
    assert len({row["classes"] for row in rows}) > 3
    assert any(row["input"].endswith("x1") for row in rows)


@pytest.mark.parametrize("name", sorted(set(shipped("zoo")) - {"mobilenetv2-1.0"}))
def test_zoo_networks_are_exact(name: str) -> None:
    from tinynas.export.tflite import dummy_file

    bench = benchmark("cost_accuracy")
    graph = lower(load_arch(name))
    cost = estimate(graph)
    data = dummy_file(graph, plan=plan_offline(graph))
    head, tail = bench.measure(data)
    assert (len(data), head, head + tail) == (cost.flash_bytes, cost.head_bytes, cost.host_arena_bytes)
    assert bench.measure(dummy_file(graph))[0] == plan_greedy(graph).head_bytes


@pytest.mark.parametrize("seed", range(4))
def test_the_plan_changes_no_output(seed: int) -> None:
    from tflite_micro import runtime

    from tinynas.export.tflite import dummy_file

    arch = benchmark("cost_accuracy").random_networks(40, 5)[seed::4]
    generator = np.random.default_rng(seed)
    checked = 0
    for graph in map(lower, arch):
        if plan_greedy(graph).head_bytes == plan_offline(graph).head_bytes and checked:
            continue
        image = generator.integers(-128, 128, (1, *graph.input.shape), dtype=np.int8)
        outputs = []
        for plan in (None, plan_offline(graph), plan_offline(graph, "tflm-cmsis-nn")):
            interpreter = runtime.Interpreter.from_bytes(dummy_file(graph, plan=plan), arena_size=4_000_000)
            interpreter.set_input(image, 0)
            interpreter.invoke()
            outputs.append(np.array(interpreter.get_output(0)))
        assert (outputs[0] == outputs[1]).all()
        assert (outputs[0] == outputs[2]).all()
        checked += 1
    assert checked
