"""Latency: null without evidence, the committed coefficients are those of the fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cost_tflite import benchmark

from tinynas.arch import load_arch
from tinynas.cost import estimate
from tinynas.cost.latency import KINDS, MODELS, latency_model, macs_by_kind
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
