"""Patch-based inference: halos by hand, limits of the model."""

from __future__ import annotations

import pytest

from tinynas.arch import Arch, load_arch
from tinynas.cost import estimate
from tinynas.cost.patches import patch_plans
from tinynas.errors import UserError
from tinynas.graph import lower


def test_only_where_the_runtime_can() -> None:
    with pytest.raises(UserError, match="patches"):
        patch_plans(lower(load_arch("mcunet-tiny2")), "tflm")


def test_halo_of_one_convolution_by_hand() -> None:
    # 8x8x1 -> 3x3 stride 1 -> 8x8x4, then stride 2 -> 4x4x8. In 2 x 2 patches of the second output: each 2x2 output
    # patch needs 5x5 (SAME, stride 2: 2*(2-1)+3 = 5) of the first map, less what lies outside: rows 0..4 and 4..7.
    arch = Arch.model_validate(
        {
            "height": 8,
            "width": 8,
            "channels": 1,
            "classes": 2,
            "stem": {"out": 4, "stride": 1},
            "blocks": [{"kind": "conv", "out": 8, "kernel": 3, "stride": 2}, {"kind": "conv", "out": 8, "kernel": 1}],
        }
    )
    graph = lower(arch)
    plan = next(p for p in patch_plans(graph) if (p.patches, p.ops) == (2, 2))
    first = (5 + 4) * (5 + 4)  # rows 0..4 and 4..7, columns alike
    plain = estimate(graph).macs
    assert plan.plain_macs == plain
    assert plan.macs == plain + (first - 64) * 9 * 4
    assert plan.recomputed == pytest.approx(plan.macs / plain - 1)


@pytest.mark.parametrize("name", ["mcunet-vww0", "mobilenetv2-0.35", "mcunet-tiny2"])
def test_plans_save_memory_and_cost_macs(name: str) -> None:
    graph = lower(load_arch(name))
    cost = estimate(graph, "tinyengine", core="cortex-m7", clock_mhz=216)
    plans = patch_plans(graph)
    assert plans
    assert [plan.head_bytes for plan in plans] == sorted(plan.head_bytes for plan in plans)
    for plan in plans:
        assert plan.head_bytes < cost.head_bytes
        assert plan.macs >= plan.plain_macs == cost.macs
    best = next(plan for plan in plans if plan.recomputed <= 0.1)
    assert best.recomputed <= 0.1
    applied = best.apply(cost)
    assert applied.sram_bytes == best.head_bytes
    assert applied.latency_ms is not None
    assert cost.latency_ms is not None
    assert applied.latency_ms >= cost.latency_ms


def test_memory_of_a_patch_by_hand() -> None:
    # 8x8x1 -> 8x8x4 -> stride 2 -> 4x4x8 -> 4x4x16 -> 4x4x8, all in 2 x 2 patches. A patch holds 5x5x4 of the first map, 2x2 of
    # the others; the last is gathered whole (128 B) beside it, and the image (64 B) stays. Worst: 100 + 32 while the second runs.
    # TinyEngine's buffer beside them: two int16 columns of 3x3x4.
    blocks = [
        {"kind": "conv", "out": 8, "kernel": 3, "stride": 2},
        {"kind": "conv", "out": 16, "kernel": 1},
        {"kind": "conv", "out": 8, "kernel": 1},
    ]
    arch = Arch.model_validate({"height": 8, "width": 8, "channels": 1, "classes": 2, "stem": {"out": 4, "stride": 1}, "blocks": blocks})
    plan = next(p for p in patch_plans(lower(arch)) if (p.patches, p.ops) == (2, 4))
    assert plan.head_bytes == 100 + 32 + 128 + 64 + 4 * 9 * 4
