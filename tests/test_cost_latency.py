"""Latency: null without evidence, by hand from instructions, published figures in the intervals, the committed fit."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from test_cost_tflite import benchmark

from tinynas.arch import load_arch
from tinynas.cost import Cost, estimate
from tinynas.cost.instructions import operator_instructions, tables
from tinynas.cost.latency import CALLS, KINDS, RATES, TERMS, features, latency_model, macs_by_kind, models, terms_of, why_untimed
from tinynas.cost.runtimes import RUNTIMES
from tinynas.cost.tflite import parse_model
from tinynas.cost.work import from_graph
from tinynas.graph import lower

ROOT = Path(__file__).resolve().parent.parent


def test_null_without_evidence() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    assert estimate(graph).latency_ms is None
    assert estimate(graph, core="cortex-m0plus", clock_mhz=133).latency_ms is None
    assert estimate(graph, "tinyengine", core="cortex-m4", clock_mhz=100).latency_ms is None
    assert estimate(graph, core="cortex-m7").latency_ms is None


def test_instructions_not_time() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    cost = estimate(graph, "tflm-cmsis-nn", core="cortex-m0plus", clock_mhz=133)
    assert cost.latency_ms is None
    assert cost.latency_interval is None
    assert cost.to_json()["latency"] is None
    work = from_graph(graph)
    wanted = sum(operator_instructions(tables()["cortex-m0plus cmsis-nn"], piece, work) for piece in work.pieces)
    assert cost.instructions == cost.to_json()["instructions"] == wanted == sum(op.instructions or 0 for op in cost.layers)
    assert estimate(graph, "tinyengine", core="cortex-m7", clock_mhz=216).instructions is None


def test_arithmetic() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    work = from_graph(graph)
    counts = macs_by_kind(work.pieces)
    assert sum(counts) == 1_674_512
    assert counts[0] == 186_624  # the stem
    assert counts[3] == 80  # the classifier
    for (core, runtime), model in models().items():
        if runtime not in RUNTIMES:
            continue
        cycles = 0
        for piece in work.pieces:
            kind = {"conv": "pointwise" if piece.kernel == (1, 1) else "dense", "dw": "depthwise", "fc": "connected"}.get(
                piece.kind, "others"
            )
            call = {"fc": "connected call", "mean": "pool"}.get(piece.kind, "call")
            executed = operator_instructions(tables()[model.counts], piece, work)
            cycles += round(executed * model.cycles[RATES.index(kind)] + model.cycles[len(RATES) + CALLS.index(call)])
        cost = estimate(graph, runtime, core=core, clock_mhz=200.0)
        assert cost.latency_ms == pytest.approx(cycles / 200e3, rel=1e-12)
        assert cost.latency_interval == (cost.latency_ms / model.spread, cost.latency_ms * model.spread)
        assert math.fsum(op.latency_ms or 0 for op in cost.layers) == pytest.approx(cost.latency_ms)
        assert estimate(graph, runtime, core=core, clock_mhz=400.0).latency_ms == pytest.approx(cycles / 400e3)


def test_every_model_states_source_error_and_interval() -> None:
    assert len(KINDS) == 4
    assert len(models()) >= 11
    for model in models().values():
        assert model.source
        assert 0 < model.error < 2
        assert 1.2 < model.spread < 8
        assert len(model.cycles) == len(TERMS) == 9
        assert all(c > 0 for c in model.cycles)
    assert latency_model(None, "tflm") is None
    assert latency_model("cortex-m4", "tflm-cmsis-nn@arduino") is latency_model("cortex-m4", "tflm-cmsis-nn") is not None


def test_terms() -> None:
    work = from_graph(lower(load_arch("mobilenetv2-0.35")))
    named = {(piece.kind, piece.kernel): tuple(TERMS[term] for term in terms_of(piece)) for piece in work.pieces}
    assert named["conv", (3, 3)] == ("dense", "call")
    assert named["conv", (1, 1)] == ("pointwise", "call")
    assert named["dw", (3, 3)] == ("depthwise", "call")
    assert named["add", (1, 1)] == ("others", "call")
    assert named["mean", (1, 1)] == ("others", "pool")
    assert named["fc", (1, 1)] == ("connected", "connected call")
    found = features(work, "cortex-m4 reference")
    assert found is not None
    assert sum(found[len(RATES) :]) == len(work.pieces)
    assert features(work, "cortex-m4 reference", "fc") == [0, 0, 0, found[3], 0, 0, 0, 0, 1]


def test_published_figures_are_in_the_intervals(test_data: Path) -> None:
    bench = benchmark("latency_fit")
    inside = []
    with (ROOT / "results" / "benchmarks" / "latency_measured.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["op"] or ((row["core"], row["runtime"]), row["source"]) in bench.OUTSIDE:
                continue
            model = models().get((row["core"], row["runtime"]))
            if model is None:  # one figure alone
                continue
            work = bench.work_of(row["net"])
            ms = model.ms(sum(model.op_cycles(piece, work) for piece in work.pieces), float(row["clock_mhz"]))
            low, high = model.interval(ms)
            inside.append(low <= float(row["ms"]) <= high)
    assert len(inside) >= 50
    assert np.mean(inside) >= 0.88


def test_left_out_figures_are_in_the_intervals_as_recorded() -> None:
    left = json.loads((ROOT / "results" / "benchmarks" / "latency_fit.json").read_text())
    for what in ("source", "network"):
        own = [row for row in left if row["left_out"] == what]
        assert np.mean([row["in_interval"] for row in own]) >= 0.88, what
    open_kernels = [row for row in left if row["left_out"] == "network" and row["runtime"] == "tflm-cmsis-nn"]
    assert len(open_kernels) >= 16
    assert np.mean([abs(row["now"]) for row in open_kernels]) <= 0.15
    assert np.mean([abs(row["source_known"]) for row in open_kernels]) <= np.mean([abs(row["now"]) for row in open_kernels])


def test_committed_coefficients_are_those_of_the_fit(test_data: Path) -> None:
    bench = benchmark("latency_fit")
    samples = bench.rows()
    fit = bench.Fit(samples)
    assert set(bench.stated(samples)) == set(models()) < set(fit.keys)
    for key in models():
        assert models()[key].cycles == pytest.approx(fit.cycles(key), rel=2e-3), key
        assert models()[key].counts == bench.counts_for(key)


def test_a_source_that_is_off_is_not_taken_for_the_core() -> None:
    bench = benchmark("latency_fit")
    x = np.array([1e7, 1e7, 1e7, 1e5, 1e5, 20, 1, 0, 1])
    key = ("cortex-m4", "tflm")
    # Four sources of one core, one of which is four times as slow: a Cortex-M4 at 2 cycles an instruction lies between.
    samples = [bench.Row(key, f"s{number}", f"n{number}", "", x, 3.02e7 * (8 if number == 3 else 2)) for number in range(4)]
    fit = bench.Fit(samples)
    expected = float(fit.cycles(key) @ x) / 3.02e7
    assert 2.0 < expected < 4.0
    assert float(fit.cycles(key, "s3") @ x) / 3.02e7 == pytest.approx(8, rel=0.1)
    assert float(fit.cycles(key, "s0") @ x) / 3.02e7 == pytest.approx(2, rel=0.1)


def test_intervals_are_the_ninth_of_ten_residuals() -> None:
    bench = benchmark("latency_fit")
    key = ("cortex-m4", "tflm")
    row = bench.Row(key, "s", "n", "", np.ones(9), 1.0)
    left = [bench.Left(row, "s", 0.01 * number, 0.0, 0.0) for number in range(1, 20)]
    assert bench.widths(left, [key])[key] == pytest.approx(0.18)  # the 18th of 19: a core and runtime of its own scale
    scale = bench.deviations(left, [key, ("cortex-m7", "tflm")])
    assert scale[key] == pytest.approx(scale["cortex-m7", "tflm"]) == pytest.approx(0.01 * math.sqrt(130))


def test_null_where_the_evidence_is_of_other_kernels() -> None:
    tflite_files = pytest.importorskip("tflite_files")

    def convolution(data: str, weights: str) -> Cost:
        graph = tflite_files.Graph()
        source = graph.tensor([1, 4, 4, 8], data)
        kernel = graph.tensor([8, 1, 1, 8], weights, data=bytes(64 * 4))
        last = tflite_files.conv(graph, source, [1, 4, 4, 8], kernel, dtype=data)
        model = parse_model(tflite_files.file(graph.ends([source], [last])))
        return model.estimate(core="cortex-m7", clock_mhz=216.0)

    int8 = convolution("int8", "int8")
    timing = models()["cortex-m7", "tflm"]
    executed = operator_instructions(tables()["cortex-m4 reference"], int8.work.pieces[0], int8.work)
    assert int8.latency_ms == pytest.approx(round(timing.cycles[1] * executed + timing.cycles[5]) / 216e3)
    assert why_untimed(int8.work) is None
    for data, weights, said in (
        ("float32", "float32", "0:conv computes in float32"),
        ("int16", "int8", "int16 with int8 weights"),
        ("float32", "int8", "float32 with int8 weights"),
        ("uint8", "uint8", "uint8"),
    ):
        cost = convolution(data, weights)
        assert cost.latency_ms is None, said
        assert cost.macs == int8.macs
        assert said in str(why_untimed(cost.work))
