"""Instructions: the formulas by hand, their terms by counting loops, and the committed table against the committed counts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cost_tflite import benchmark

from tinynas.arch import load_arch
from tinynas.cost.instructions import counts_of, group_of, operator_instructions, tables, terms
from tinynas.cost.tflite import parse_model, to_work
from tinynas.cost.windows import taps, whole_windows
from tinynas.cost.work import from_graph
from tinynas.graph import lower

ROOT = Path(__file__).resolve().parent.parent


def rows() -> list[Any]:
    return [json.loads(line) for line in (ROOT / "results" / "benchmarks" / "latency_counts.jsonl").read_text().splitlines()]


def test_taps_are_those_of_a_loop() -> None:
    for size in (1, 2, 5, 8):
        for kernel in (1, 2, 3, 7):
            for stride in (1, 2, 3):
                for out in {-(-size // stride), max((size - kernel) // stride + 1, 1)}:
                    before = max((out - 1) * stride + kernel - size, 0) // 2
                    turns = sum(0 <= place * stride - before + tap < size for place in range(out) for tap in range(kernel))
                    assert taps(size, out, kernel, stride) == turns, (size, kernel, stride, out)
                    places = [place * stride - before for place in range(out)]
                    inside = sum(first >= 0 and first + kernel <= size for first in places)
                    assert whole_windows(size, out, kernel, stride) == inside, (size, kernel, stride, out)
    sizes, outs = np.array([5, 8]), np.array([3, 4])
    assert taps(sizes, outs, 3, 2).tolist() == [taps(5, 3, 3, 2), taps(8, 4, 3, 2)]


def test_terms_by_hand() -> None:
    # 6x4x3 -> 3x2x5, 3x3 and stride 2: SAME pads one pixel below and right, which no place of the middle ones touches.
    found = terms("conv", (3, 3), (2, 2), [(6, 4, 3)], (3, 2, 5))
    assert (found["px"], found["px C"], found["px K C"]) == (6, 30, 6 * 27 * 5)
    assert found["in"] == (3 + 3 + 2) * (3 + 2)
    assert found["px C K%4"] == 30 * 3
    assert found["odd px K C"] == 0
    assert terms("conv", (3, 3), (2, 2), [(5, 5, 3)], (3, 3, 5))["odd px K C"] == 27 * 5
    assert terms("fc", (1, 1), (1, 1), [(10,)], (4,)) == {
        "call": 1,
        "px": 1,
        "px C": 4,
        "px K C": 40,
        "px C K%4": 8,
        "px K odd C": 0,
        "C": 4,
        "K C": 40,
    }
    spread = terms("mul", (1, 1), (1, 1), [(4, 4, 6), (1, 1, 6)], (4, 4, 6))
    assert (spread["out"], spread["out spread"], spread["px spread"]) == (96, 96, 16)
    assert terms("mul", (1, 1), (1, 1), [(4, 4, 6), (4, 4, 6)], (4, 4, 6))["out spread"] == 0


def test_groups() -> None:
    assert group_of("conv", (1, 1), (4, 4, 8), (4, 4, 8)) == "pointwise"
    assert group_of("conv", (1, 3), (4, 4, 8), (4, 4, 8)) == "conv"
    assert group_of("dw", (3, 3), (4, 4, 8), (4, 4, 8)) == "dw 3x3"
    assert group_of("dw", (5, 5), (4, 4, 8), (4, 4, 8)) == "dw"
    assert group_of("dw", (3, 3), (4, 4, 1), (4, 4, 8)) == "dw multiplied"
    assert group_of("dw", (3, 3), (4, 4, np.array([1, 8])), (4, 4, np.array([1, 8]))) == "dw 3x3"


def test_a_count_is_the_formula() -> None:
    table = tables()["cortex-m4 cmsis-nn"].groups["fc"]
    graph = lower(load_arch("mcunet-tiny2"))
    work = from_graph(graph)
    counts = counts_of("cortex-m4", "tflm-cmsis-nn")
    assert counts is not None
    dense = work.pieces[-1]
    found = terms("fc", (1, 1), (1, 1), [work.shapes[dense.inputs[0]]], work.shapes[dense.outputs[0]])
    assert found["px K C"] == dense.macs == 80
    assert operator_instructions(counts, dense, work) == round(sum(value * found[term] for term, value in table.items()))


def test_tables_by_core_runtime_and_version() -> None:
    named = {key: (table.name if (table := counts_of(*key)) else None) for key in (
        ("cortex-m4", "tflm"), ("cortex-m4", "tflm-cmsis-nn"), ("cortex-m4", "tflm-cmsis-nn@arduino"),
        ("cortex-m7", "tflm-cmsis-nn@arduino-unknown"), ("cortex-m4", "tinyengine"), (None, "tflm"), ("xtensa-lx6", "tflm"),
    )}  # fmt: skip
    assert list(named.values()) == [
        "cortex-m4 reference", "cortex-m4 cmsis-nn", "cortex-m4 cmsis-nn@arduino", "cortex-m7 cmsis-nn", None, None, None,
    ]  # fmt: skip


def test_the_committed_table_is_the_fit_of_the_committed_counts() -> None:
    bench = benchmark("latency_counts")
    counted = rows()
    tflms = {name: table for name, table in tables().items() if not table.compiled}
    assert {name for row in counted for name in row["counts"]} == set(tflms)
    for name, table in tflms.items():
        groups, errors, _ = bench.fit(counted, name)
        assert {group: dict(made) for group, made in table.groups.items()} == {
            group: {term: pytest.approx(value, rel=1e-3) for term, value in made.items()} for group, made in groups.items()
        }
        assert table.error == {group: pytest.approx(error, abs=2e-4) for group, error in errors.items()}


def test_drawn_operators_are_those_of_the_script() -> None:
    drawn = [json.loads(json.dumps(op)) for op in benchmark("latency_counts").draw()]
    assert drawn == [row["op"] for row in rows() if "op" in row]


def test_public_models_are_counted_to_a_few_percent(test_data: Path) -> None:
    bench = benchmark("latency_counts")
    for name, nets in bench.networks(rows(), {name: None for name, table in tables().items() if not table.compiled}).items():
        errors = [abs(formula / counted - 1) for formula, counted in nets.values()]
        assert len(errors) >= 20, name
        assert np.mean(errors) < 0.02, name
        assert max(errors) < 0.1, name


def test_other_elements_are_not_counted() -> None:
    one_op = pytest.importorskip("one_op")
    counts = counts_of("cortex-m4", "tflm")
    assert counts is not None

    def count(kind: str, source: str, out: str) -> int | None:
        file = one_op.one_op(kind, [one_op.T((1, 4, 4, 8), source)], [one_op.T((1, 4, 4, 8), out)])
        work = to_work(parse_model(file))
        found: int | None = operator_instructions(counts, work.pieces[0], work)
        return found

    assert count("RELU", "int8", "int8") is not None
    assert count("RELU", "float32", "float32") is None
    assert count("EXP", "int8", "int8") is None
    int8, floating = count("QUANTIZE", "int8", "int8"), count("QUANTIZE", "float32", "int8")
    assert int8 is not None
    assert floating is not None
    assert floating > 2 * int8


def test_arrays_give_what_each_gives() -> None:
    counts = tables()["cortex-m4 cmsis-nn"]
    for kind, kernel in (("conv", (3, 3)), ("conv", (1, 1)), ("dw", (3, 3)), ("dw", (5, 5))):
        made = counts.groups[group_of(kind, kernel, (1, 1, 4), (1, 1, 4))]
        sizes, deep = np.array([5, 9, 12]), np.array([3, 8, 16])
        wide = deep if kind == "dw" else np.array([4, 7, 24])
        outs = -(-sizes // 2)
        many = terms(kind, kernel, (2, 2), [(sizes, sizes, deep)], (outs, outs, wide))
        total = sum(value * many[term] for term, value in made.items())
        for row in range(3):
            one = terms(kind, kernel, (2, 2), [(int(sizes[row]),) * 2 + (int(deep[row]),)], (int(outs[row]),) * 2 + (int(wide[row]),))
            assert sum(value * one[term] for term, value in made.items()) == total[row]


@pytest.mark.skipif("TINYNAS_TARGET_CACHE" not in os.environ, reason="TINYNAS_TARGET_CACHE names no built library")
def test_a_core_counts_what_was_counted() -> None:
    from tinynas.target.cores import CORES
    from tinynas.target.library import Tree
    from tinynas.target.probe import Job, build_probe, run_probe

    tree = ROOT.parent / "shared" / "tflm"
    if not tree.is_dir():
        pytest.skip("no ../shared/tflm")
    bench = benchmark("latency_counts")
    core = CORES["cortex-m4"]
    elf = build_probe(Tree.find(tree), core, "cmsis-nn", Path(os.environ["TINYNAS_TARGET_CACHE"]))
    chosen = [row for row in rows() if "op" in row][::100]
    answers = run_probe(elf, core, [Job(bench.model_of(row["op"]), (bench.inputs_of(row["op"]),), count=True) for row in chosen])
    for row, answer in zip(chosen, answers, strict=True):
        # Some instructions more where the clock wraps while it runs, every ten millions: its handler's.
        assert abs(answer.instructions[0][1] - row["counts"]["cortex-m4 cmsis-nn"]) <= 12, row["op"]
