"""Explanations: the binding limit, the operator behind it, and a change that really fits."""

from __future__ import annotations

import json
import types

import pytest

from tinynas.arch import Arch, load_arch
from tinynas.budget import Budget, load_budget
from tinynas.config import n_bytes
from tinynas.cost import Cost, estimate
from tinynas.cost.explain import explain
from tinynas.errors import UserError
from tinynas.graph import Graph, lower


def budget(**limits: object) -> Budget:
    content = {"name": "test", "sram": n_bytes(10**8), "flash": n_bytes(10**8), **limits}
    content.setdefault("reserves", {"flash": {"runtime": n_bytes(0)}})  # the limit is the file's alone
    return Budget.model_validate({key: n_bytes(value) if key in {"sram", "flash"} else value for key, value in content.items()})


def test_what_fits_is_said_to_fit() -> None:
    explanation = explain(load_arch("mcunet-tiny2"), load_budget("stm32f746"))
    assert explanation.fits
    assert explanation.changes == ()
    assert explanation.text().startswith("Fits.")


def test_each_limit_names_its_operator() -> None:
    arch = load_arch("mobilenetv1-0.25")
    cost = estimate(lower(arch))
    explanation = explain(arch, budget(sram=cost.sram_bytes - 1, flash=cost.flash_bytes - 1, macs=cost.macs - 1))
    by_limit = {binding.limit: binding for binding in explanation.limits}
    rows = cost.layers
    assert by_limit["sram_bytes"].op == cost.peak_op
    assert by_limit["macs"].op == max(rows, key=lambda row: row.macs).name
    assert by_limit["flash_bytes"].op == max(rows, key=lambda row: row.weights_bytes).name
    assert all(binding.over > 0 for binding in explanation.limits)


def test_flash_that_the_code_does_not_leave_is_explained() -> None:
    arch = load_arch("mcunet-vww0")
    cost = estimate(lower(arch), core="cortex-m4")
    assert cost.program_bytes is not None and cost.code_bytes is not None
    limits = budget(flash=int(cost.program_bytes * 0.9), core="cortex-m4", reserves={})
    explanation = explain(arch, limits)
    assert not explanation.fits and explanation.binding.limit == "program_bytes"
    assert explanation.text().splitlines()[1].startswith("  program flash: ")
    # The share of an operator is that of all the flash, the code's included.
    rows = cost.layers
    assert explanation.binding.share == pytest.approx(max(row.weights_bytes for row in rows) / cost.program_bytes)
    assert explanation.changes and all(limits.fits(change.cost) for change in explanation.changes)


@pytest.mark.parametrize("limit", ["sram", "flash", "macs"])
def test_proposed_changes_fit_and_keep_the_most_macs_first(limit: str) -> None:
    arch = load_arch("mcunet-vww0")
    cost = estimate(lower(arch))
    value = {"sram": cost.sram_bytes, "flash": cost.flash_bytes, "macs": cost.macs}[limit]
    limits = budget(**{limit: int(value * 0.93)})
    explanation = explain(arch, limits)
    assert not explanation.fits
    assert explanation.changes
    kept = [change.cost.macs for change in explanation.changes]
    assert kept == sorted(kept, reverse=True)
    assert len({change.kind for change in explanation.changes}) == len(explanation.changes)
    assert ("resolution" in {change.kind for change in explanation.changes}) == (limit != "flash"), "weights do not depend on it"
    for change in explanation.changes:
        # Built anew from its fields: nothing that the copy may have kept of the original counts.
        again = estimate(lower(Arch.model_validate(change.arch.model_dump())))
        assert again.values() == change.cost.values()
        assert limits.fits(again)
        assert change.what in explanation.text()


def test_an_expand_ratio_alone_can_do() -> None:
    arch = load_arch("mcunet-tiny2")
    cost = estimate(lower(arch))
    explanation = explain(arch, budget(macs=cost.macs - 1000))
    assert "expand" in {change.kind for change in explanation.changes}


def test_hopeless_networks_get_the_nearest_change() -> None:
    explanation = explain(load_arch("mobilenetv2-1.0"), budget(sram=20 * 1024))
    assert explanation.changes == ()
    assert explanation.closest is not None
    assert explanation.closest.worst > 0
    assert "No single change" in explanation.text()


def test_latency_binds_too() -> None:
    arch = load_arch("mcunet-vww0")
    limits = budget(core="cortex-m7", clock_mhz=216, runtime="stedgeai", latency_ms=20)
    explanation = explain(arch, limits)
    assert explanation.binding.limit == "latency_ms"
    assert 0 < explanation.binding.share < 1
    assert explanation.changes[0].cost.latency_ms is not None
    assert explanation.changes[0].cost.latency_ms <= 20


def test_patches_are_offered_where_the_runtime_runs_them() -> None:
    arch = load_arch("mcunet-vww1")
    limits = budget(sram=70 * 1024, runtime="tinyengine")
    patched = next(change for change in explain(arch, limits).changes if change.kind == "patches")
    assert patched.arch == arch
    assert limits.fits(patched.cost)
    assert patched.cost.macs >= estimate(lower(arch)).macs
    assert "patches" not in {change.kind for change in explain(arch, budget(sram=140 * 1024)).changes}


def test_json_is_json() -> None:
    document = json.loads(json.dumps(explain(load_arch("mcunet-in2"), load_budget("stm32f746")).to_json()))
    assert document["fits"] is False
    assert document["binding"]["limit"] == "sram_bytes"
    assert document["changes"][0]["worst_excess"] <= 0


def test_no_limit_no_explanation() -> None:
    class Nothing:
        limits = types.MappingProxyType[str, float]({})
        runtime, core, timed_mhz, timing = "tflm", None, None, None

        def why_unknown(self, name: str) -> str | None:
            return None

        def cost(self, graph: Graph) -> Cost:
            return estimate(graph, self.runtime)

    with pytest.raises(UserError, match="no limit"):
        explain(Arch.model_validate({"height": 8, "width": 8, "classes": 2, "stem": {"out": 4}}), Nothing())
