"""Latency: null without evidence, the committed coefficients are those of the fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cost_tflite import benchmark

from tinynas.arch import load_arch
from tinynas.cost import Cost, estimate
from tinynas.cost.latency import KINDS, MODELS, latency_model, macs_by_kind, why_untimed
from tinynas.cost.tflite import parse_model
from tinynas.cost.work import from_graph
from tinynas.graph import lower


def test_null_without_evidence() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    assert estimate(graph).latency_ms is None
    assert estimate(graph, core="cortex-m0plus", clock_mhz=133).latency_ms is None
    assert estimate(graph, "tinyengine", core="cortex-m4", clock_mhz=100).latency_ms is None
    assert estimate(graph, core="cortex-m7").latency_ms is None


def test_arithmetic() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    counts = macs_by_kind(from_graph(graph).pieces)
    assert sum(counts) == 1_674_512
    assert counts[0] == 186_624  # the stem
    assert counts[3] == 80  # the classifier
    for (core, runtime), model in MODELS.items():
        cycles = sum(n * c for n, c in zip(counts, model.cycles, strict=True))
        cost = estimate(graph, runtime, core=core, clock_mhz=200.0)
        assert cost.latency_ms == pytest.approx(cycles / 200e3)
        twice = estimate(graph, runtime, core=core, clock_mhz=400.0)
        assert twice.latency_ms == pytest.approx(cycles / 400e3)


def test_every_model_states_source_and_error() -> None:
    assert len(KINDS) == 4
    for model in MODELS.values():
        assert model.source
        assert 0 < model.error < 1
        assert all(c > 0 for c in model.cycles)
    assert latency_model(None, "tflm") is None


def test_published_latencies_within_the_stated_error() -> None:
    # TinyEngine README, STM32H743 at up to 480 MHz.
    for runtime, table in benchmark("latency_fit").H743.items():
        for name, ms in table.items():
            found = estimate(lower(load_arch(name)), runtime, core="cortex-m7", clock_mhz=480).latency_ms
            assert found == pytest.approx(ms, rel=MODELS["cortex-m7", runtime].error), (runtime, name)


def test_committed_coefficients_are_those_of_the_fit(test_data: Path) -> None:
    bench = benchmark("latency_fit")
    rows = bench.rows()
    assert set(rows) == set(MODELS)
    for key, samples in rows.items():
        assert MODELS[key].cycles == pytest.approx(bench.fit(samples), abs=6e-4)
        assert MODELS[key].error == pytest.approx(max(map(abs, bench.leave_one_out(samples).values())), abs=6e-4)


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
    assert int8.latency_ms == pytest.approx(MODELS["cortex-m7", "tflm"].cycles[1] * 16 * 64 / 216e3)
    assert why_untimed(int8.work) is None
    for data, weights, said in (
        ("float32", "float32", "0:conv computes in float32"),
        ("int16", "int8", "int16 with int8 weights"),
        ("int8", "int4", "int8 with int4 weights"),
        ("float32", "int8", "float32 with int8 weights"),
        ("uint8", "uint8", "uint8"),
    ):
        cost = convolution(data, weights)
        assert cost.latency_ms is None, said
        assert cost.macs == int8.macs
        assert said in str(why_untimed(cost.work))
