"""What TFLM's arena must hold to start: the smallest one with which tflite-micro does, to 16 bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from one_op import options
from tflite_files import Graph, file, measure

from tinynas.arch import load_arch
from tinynas.cost import estimate
from tinynas.cost.setup import planning_bytes, setup_bytes
from tinynas.cost.tflite import parse_model
from tinynas.graph import lower

pytest.importorskip("tflite_micro")


def chain(operators: int, width: int, *, unused: int = 0) -> Graph:
    """Reshapes one after the other, and tensors that nothing touches."""
    graph = Graph()
    last = first = graph.tensor([1, width])
    for _ in range(operators):
        source, last = last, graph.tensor([1, width])
        graph.op("RESHAPE", [source], [last], options("ReshapeOptions", newShape=[1, width]))
    for _ in range(unused):
        graph.tensor([1, 8])
    return graph.ends([first], [last])


def kept(variables: int) -> Graph:
    """Resource variables that are assigned and read, one after the other."""
    graph = Graph()
    last = first = graph.tensor([1, 40])
    for number in range(variables):
        handle, source, last = graph.tensor([], "resource"), last, graph.tensor([1, 40])
        graph.op("VAR_HANDLE", [], [handle], options("VarHandleOptions", container="", sharedName=f"v{number}"))
        graph.op("ASSIGN_VARIABLE", [handle, source], [], options("AssignVariableOptions"))
        graph.op("READ_VARIABLE", [handle], [last], options("ReadVariableOptions"))
    return graph.ends([first], [last])


def averaged() -> Graph:
    """A mean, whose kernel asks for scratch, and tensors that nothing touches."""
    graph = Graph()
    for _ in range(9):
        graph.tensor([1, 8])
    source, out = graph.tensor([1, 4, 4, 2]), graph.tensor([1, 2])
    axes = graph.tensor([2], "int32", data=[1, 2])
    graph.op("MEAN", [source, axes], [out], options("ReducerOptions", keepDims=False))
    return graph.ends([source], [out])


SMALL = {
    "many small tensors": file(chain(40, 16)),
    "unused tensors": file(chain(2, 8, unused=30)),
    "large tensors": file(chain(3, 4000)),
    "subgraphs": file(chain(3, 8), chain(2, 8), chain(9, 8)),
    "resource variables": file(kept(7)),
    "scratch": file(averaged()),
}


def test_the_smallest_arena_is_what_starts_or_what_is_used() -> None:
    models = list(SMALL.values())
    costs = [parse_model(data).estimate() for data in models]
    setups = [setup_bytes(cost.work, "host") for cost in costs]
    needed = [max(cost.host_arena_bytes, setup) for cost, setup in zip(costs, setups, strict=True)]
    enough, little = measure(*models, arenas=needed), measure(*models, arenas=[size - 16 for size in needed])
    for name, cost, used, refused in zip(SMALL, costs, enough, little, strict=True):
        assert used == (cost.head_bytes, cost.host_arena_bytes - cost.head_bytes), name
        assert isinstance(refused, str), name
    assert 2 <= sum(setup > cost.host_arena_bytes for cost, setup in zip(costs, setups, strict=True)) < len(SMALL)


def test_a_published_network_needs_more_to_start_than_to_run(test_data: Path) -> None:
    # MLPerf Tiny's anomaly detector: 3,984 B are used, 4,640 B are needed.
    data = (test_data / "models" / "mlcommons-tiny__ad01_int8.tflite").read_bytes()
    cost = parse_model(data).estimate()
    assert setup_bytes(cost.work, "host") == 4_640
    enough, little = measure(data, data, arenas=[4_640, 4_624])
    assert enough == (768, 3_216)
    assert isinstance(little, str)
    assert cost.sram_bytes == cost.setup_bytes > cost.head_bytes + cost.tail_bytes
    assert cost.to_json()["sram"] == {
        "head_bytes": cost.head_bytes,
        "tail_bytes": cost.tail_bytes,
        "setup_bytes": cost.setup_bytes,
        "host_bytes": 3_984,
        "version": "esp32",
        "by_version": {"2026-10": 2_704, "esp32": 2_816},
    }


def test_by_hand() -> None:
    # 10 tensors, 1 scratch buffer, 6 planned: 13 requests, 11 records, 6 lists of ten numbers; a tail of 1,000 B.
    assert planning_bytes("mcu", 10, 1, 6, 1000) == 432 + 240 + 1008  # 12 * 13 + 4 + 24 * 11 = 424
    assert planning_bytes("host", 10, 1, 6, 1000, subgraphs=3) == 592 + 240 + 1008  # 16 * 13 + 8 * 3 + 32 * 11 = 584


def test_code_generators_need_nothing_to_start() -> None:
    cost = estimate(lower(load_arch("mcunet-tiny2")), "stedgeai")
    assert cost.setup_bytes == 0
    assert cost.to_json()["sram"]["setup_bytes"] is None
