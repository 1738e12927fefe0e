"""Costs by hand: cycles, work buffers, flash of generated code, limits and the changes that are tried."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest
from test_cost_explain import budget

from tinynas.arch import Arch, ConvLayer, MBConv, Pool
from tinynas.budget import Budget
from tinynas.cost import RUNTIMES, Cost, estimate
from tinynas.cost.explain import Binding, explain
from tinynas.cost.instructions import operator_instructions, tables
from tinynas.cost.latency import LatencyModel, kind_of, latency_model
from tinynas.cost.memory import Buffer, greedy
from tinynas.cost.patches import patch_plans
from tinynas.cost.work import from_graph
from tinynas.errors import UserError
from tinynas.graph import Graph, lower

# 16x16x3 -> stem 3x3 8 channels -> expand 24, depthwise 5x5, project 8, add -> mean -> 2 classes
ARCH = Arch(height=16, width=16, classes=2, stem=ConvLayer(out=8, kernel=3), blocks=(MBConv(out=8, kernel=5, expand=3, residual=True),))
MACS = {"stem": 256 * 27 * 8, "expand": 256 * 8 * 24, "dw": 256 * 25 * 24, "project": 256 * 24 * 8, "fc": 16}


def test_cycles_of_each_kind() -> None:
    cycles = (1.0, 10.0, 100.0, 1000.0, 10000.0, 1.0, 2.0, 3.0, 4.0)
    model = LatencyModel("cortex-m4 cmsis-nn", cycles, 2.0, 0.1, "nobody")
    work = from_graph(lower(ARCH))
    counts = tables()["cortex-m4 cmsis-nn"]
    of = {piece.name: operator_instructions(counts, piece, work) for piece in work.pieces}
    stem, expand, dw, project, add, mean, fc = of.values()
    assert [model.op_cycles(piece, work) for piece in work.pieces] == [
        stem + 1, 10 * expand + 1, 100 * dw + 1, 10 * project + 1, 10000 * add + 1, 10000 * mean + 2, 1000 * fc + 4,
    ]  # fmt: skip
    assert model.ms(3000, 2.0) == 1.5 and model.interval(3.0) == (1.5, 6.0)
    assert [kind_of(*key) for key in (("dw", (1, 1)), ("fc", (1, 1)), ("conv", (1, 1)), ("conv", (1, 3)), ("conv", (3, 3)))] == [
        "depthwise",
        "connected",
        "pointwise",
        "dense",
        "dense",
    ]
    assert latency_model("cortex-m7", "nothing") is None and latency_model(None, "tflm") is None
    cost = estimate(lower(ARCH), "tinyengine", core="cortex-m7", clock_mhz=216.0, timing=model)
    total = sum(model.op_cycles(piece, work) for piece in work.pieces)
    assert cost.latency_ms == total / 216e3 and cost.macs == sum(MACS.values())
    by_name = {op.name: op.latency_ms for op in cost.layers}
    assert by_name["stem"] == pytest.approx((stem + 1) / 216e3) and len(by_name) == 7


def test_memory_and_flash_of_generated_code() -> None:
    graph = lower(ARCH)
    weights = 27 * 8 + 8 * 24 + 25 * 24 + 24 * 8 + 16
    channels = 8 + 24 + 24 + 8 + 2
    engine, edge = estimate(graph, "tinyengine"), estimate(graph, "stedgeai")
    assert engine.flash_bytes == weights + 4 * channels + 4 * channels
    assert edge.flash_bytes == weights + 4 * channels
    assert engine.params == edge.params == weights + channels
    # Alive during the depthwise step: the shortcut (2,048) and 24 channels (6,144), which it overwrites or not; 4 * 25 + 1 B a channel
    # of scratch and one more in ST's.
    assert edge.head_bytes == 2048 + 2 * 6144 + 24 * 101 + 1 and edge.tail_bytes == edge.host_arena_bytes == 0
    # TinyEngine needs most while it projects; beside that the padded int16 plane (20x20) and the stem's kernel.
    assert engine.head_bytes == 2048 + 6144 + 2048 + 2 * 20 * 20 + 2 * 27 * 8
    assert {runtime.extra_bytes for runtime in RUNTIMES.values()} == {0}
    assert [name for name, runtime in RUNTIMES.items() if runtime.shares] == ["stedgeai"]
    assert [runtime.alignment for runtime in RUNTIMES.values()] == [16, 16, 16, 1, 1, 4, 4, 4]
    assert [name for name, runtime in RUNTIMES.items() if runtime.patches] == ["tinyengine"]
    assert [name for name, runtime in RUNTIMES.items() if runtime.tail] == ["tflm", "tflm-cmsis-nn", "tflm-esp-nn"]


@pytest.mark.parametrize(
    ("stem", "blocks", "static"),
    [
        (ConvLayer(out=8, kernel=3), (), 4 * 27 + 2 * 27 * 8),  # two int16 columns of 3x3x3; the first kernel in int16
        (ConvLayer(out=8, kernel=5), (), 4 * 75),
        (ConvLayer(out=8, kernel=1), (), 4 * 3),
        (ConvLayer(out=8, kernel=3, stride=2), (MBConv(out=8, kernel=3, expand=1, stride=1),), 2 * 10 * 10 + 2 * 27 * 8),
        (ConvLayer(out=8, kernel=3, stride=2), (MBConv(out=8, kernel=7, expand=4, stride=1),), 2 * 14 * 14 + 2 * 27 * 8),
    ],
)
def test_work_buffers_of_tinyengine(stem: ConvLayer, blocks: tuple[MBConv, ...], static: int) -> None:
    cost = estimate(lower(Arch(height=16, width=16, classes=2, stem=stem, blocks=blocks)), "tinyengine")
    assert cost.head_bytes - max(cost.live) == static


def test_limits_in_words() -> None:
    over = Binding("sram_bytes", 800.0, 1000.0, "b0.dw", 3, 0.8)
    assert over.over == 0.25
    assert over.text() == "SRAM: 1000 B, 25% over the limit of 800 B; set by b0.dw (operator 3), during which 800 B are alive"
    under = Binding("macs", 2000.0, 1500.0, "stem", 0, 0.5)
    assert under.over == -0.25 and under.text() == "MACs: 1,500, 25% below the limit of 2,000; most of it in stem (operator 0): 50%"
    assert (
        Binding("latency_ms", 10.0, 5.0, "fc", 1, 1.0).text()
        == "latency: 5.0 ms, 50% below the limit of 10.0 ms; most of it in fc (operator 1): 100%"
    )


def test_what_fits_exactly_fits() -> None:
    cost = estimate(lower(ARCH))
    assert explain(ARCH, budget(macs=cost.macs)).fits and not explain(ARCH, budget(macs=cost.macs - 1)).fits
    assert explain(ARCH, budget(sram=cost.sram_bytes, flash=cost.flash_bytes)).fits


def test_shares_and_the_order_of_limits() -> None:
    cost = estimate(lower(ARCH))
    found = explain(ARCH, budget(sram=cost.sram_bytes // 2, flash=cost.flash_bytes * 2, macs=cost.macs // 4))
    assert [b.limit for b in found.limits] == ["macs", "sram_bytes", "flash_bytes"] and found.binding is found.limits[0]
    shares = {b.limit: b.share for b in found.limits}
    assert shares["macs"] == pytest.approx(MACS["dw"] / sum(MACS.values()))
    assert shares["flash_bytes"] == pytest.approx((25 * 24 + 4 * 24) / cost.flash_bytes)
    assert shares["sram_bytes"] == pytest.approx(max(cost.live) / cost.sram_bytes, rel=0.05)


def test_changes_that_are_tried_can_be_counted() -> None:
    # 12 and 8 pixels; widths 95 % to 10 % in steps of 5; ratios 2 and 1; strides of stem and block; and the network itself.
    assert explain(ARCH, budget(macs=1)).tried == 2 + 18 + 2 + 2 + 1
    wide = ARCH.model_copy(update={"height": 24, "width": 16, "blocks": ()})
    # 20, 16, 12, 8 pixels; 18 widths; the stem's stride
    assert explain(wide, budget(macs=1)).tried == 4 + 18 + 1 + 1


def test_the_nearest_change_of_each_kind() -> None:
    cost = estimate(lower(ARCH))
    found = explain(ARCH, budget(macs=cost.macs - 1))
    what = {change.kind: change.what for change in found.changes}
    assert what["resolution"] == "resolution 16x16 -> 12x12" and what["expand"] == "expand ratio of b0 3 -> 2"
    assert what["stride"] == "stride of b0 1 -> 2 (its residual goes)"
    macs = {change.kind: change.cost.macs for change in found.changes}
    assert macs["resolution"] == sum(MACS[name] for name in MACS if name != "fc") * 144 // 256 + 16
    assert macs["expand"] == MACS["stem"] + (MACS["expand"] + MACS["dw"] + MACS["project"]) * 2 // 3 + 16
    assert macs["stride"] == MACS["stem"] + MACS["expand"] + (MACS["dw"] + MACS["project"]) // 4 + 16
    assert found.closest is None and all(change.worst <= 0 for change in found.changes)
    none = explain(ARCH, budget(macs=1))
    assert none.changes == () and none.closest is not None and none.closest.worst == none.closest.cost.macs - 1
    with pytest.raises(UserError, match="latency"):
        explain(ARCH, _Nothing())


class _Nothing:
    limits: Mapping[str, float] = MappingProxyType({})
    runtime, core, timed_mhz, timing = "tflm", None, None, None

    def why_unknown(self, name: str) -> str | None:
        return None

    def cost(self, graph: Graph) -> Cost:
        return estimate(graph, self.runtime)


def test_widths_keep_to_steps_of_four_and_eight() -> None:
    arch = Arch(
        height=8,
        width=8,
        classes=2,
        stem=ConvLayer(out=32),
        blocks=(MBConv(out=64, mid=100, kernel=3), Pool(), MBConv(out=8, kernel=3, expand=2)),
    )
    cost = estimate(lower(arch))
    found = explain(arch, budget(macs=int(cost.macs * 0.55)))
    (change,) = [change for change in found.changes if change.kind == "width"]
    factor = float(change.what.split("x ")[1])
    stem, block, pool, last = change.arch.stem, *change.arch.blocks
    assert stem is not None and isinstance(block, MBConv) and isinstance(last, MBConv) and pool == Pool() and factor < 1
    assert stem.out % 4 == 0 and abs(stem.out - 32 * factor) <= 4 and stem.out < 32
    assert (
        block.out % 8 == 0
        and abs(block.out - 64 * factor) <= 8
        and block.mid is not None
        and block.mid % 8 == 0
        and abs(block.mid - 100 * factor) <= 8
    )
    assert last.out <= 8


# Plans


def test_a_buffer_that_is_fixed_at_the_start_stays_there() -> None:
    buffers = [Buffer(16, 0, 1), Buffer(64, 0, 1), Buffer(32, 2, 2)]
    assert greedy(buffers, [0, -1, -1]) == ([0, 16, 0], 80)
    assert greedy(buffers) == ([64, 0, 0], 80)


# Patches


def test_a_stage_of_two_patches_by_hand() -> None:
    # 16x16x3 -> 3x3 stem, 8 channels, 16x16 -> 2x2 max pooling, 8x8 -> mean -> classifier.
    arch = Arch(height=16, width=16, classes=2, stem=ConvLayer(out=8, kernel=3), blocks=(Pool(op="max", kernel=2, stride=2),))
    graph = lower(arch)
    plain = estimate(graph, "tinyengine")
    static = 4 * 27 + 2 * 27 * 8
    assert plain.head_bytes == 2048 + 768 + static
    plans = {(plan.ops, plan.patches): plan for plan in patch_plans(graph)}
    assert {ops for ops, _ in plans} == {2}
    two = plans[2, 2]
    # The pooled output (512) is gathered beside one patch of 8x8x8 and the image (768); no pixel of the stem is needed twice.
    assert two.head_bytes == 512 + 512 + 768 + static and two.macs == two.plain_macs == plain.macs and two.recomputed == 0
    assert two.last_op == graph.ops[1].name
    assert plans[2, 4].head_bytes == 4 * 4 * 8 + 512 + 768 + static
    # Six cuts of 8 rows: 1 and 2 rows each, at most 2, so at most 4x4 of the stem.
    assert plans[2, 6].head_bytes == plans[2, 4].head_bytes
    order = [(plan.head_bytes, plan.macs) for plan in patch_plans(graph)]
    assert order == sorted(order)
    applied = two.apply(estimate(graph, "tinyengine", core="cortex-m7", clock_mhz=216.0))
    assert (applied.head_bytes, applied.sram_bytes, applied.macs) == (two.head_bytes, two.head_bytes, plain.macs)


def test_halos_are_spent_again() -> None:
    # Two 3x3 layers: a patch of 4x4 of 8x8 needs 5 rows and columns of the first (one beyond the cut), clipped at the edge.
    blocks = (ConvLayer(out=4, kernel=3), Pool(op="max", kernel=2, stride=2))
    graph = lower(Arch(height=8, width=8, channels=1, classes=2, stem=ConvLayer(out=8, kernel=3), blocks=blocks))
    plans = {(plan.ops, plan.patches): plan for plan in patch_plans(graph)}
    plan = plans[3, 2]
    first, second, fc = 64 * 9 * 8, 64 * 9 * 8 * 4, 8
    assert plan.plain_macs == first + second + fc
    assert plan.macs == 4 * 25 * 9 * 8 + second + fc
    assert plan.recomputed == pytest.approx((100 - 64) * 72 / plan.plain_macs)
    latency = estimate(graph, "tinyengine", core="cortex-m7", clock_mhz=216.0).latency_ms
    applied = plan.apply(estimate(graph, "tinyengine", core="cortex-m7", clock_mhz=216.0)).latency_ms
    assert latency is not None and applied == pytest.approx(latency * plan.macs / plan.plain_macs)
    with pytest.raises(UserError, match="cannot run a network in patches"):
        patch_plans(graph, "tflm")


def test_what_blocks_are_sure_to_bring_adds_up_to_a_file() -> None:
    """Counting takes less than a file has: what parts share, and the rounding of sections, are left out, and nothing else."""
    from tinynas.cost.batch import tables_of
    from tinynas.cost.flash import file_bytes, shared_terms, structure_terms
    from tinynas.space import Space

    space = Space.model_validate(
        {
            "resolution": 24,
            "divisor": 1,
            "stem": {"out": 5},
            "stages": [{"out": 9, "kernel": 3, "expand": 2, "stride": 2}],
            "head": {"out": 30},
        }
    )
    graph = lower(space.decode((0,) * len(space.genes), 4))
    tables = tables_of(space, 4, "tflm")
    rows = [tables.stem.rows[:1], tables.stages[0].first.rows[:1], tables.last.rows[:1]]
    sure = tables.base_bytes() + sum(int(tables.additive("flash_bytes", row)[0]) for row in rows)
    shared = shared_terms((5, 10, 9, 30), (4,))
    keys = frozenset(tables.layout.keys)
    known = tables.layout.keys_of(tables.stem.rows[:-1]) | tables.layout.keys_of(tables.last.rows[:-1])
    more = structure_terms(keys, io="int8", flavour="full", plan=True).front - tables.layout.structure(known).front
    whole = file_bytes(graph)
    # Two sections are rounded up, to 8 and to 16 bytes, and the first spare table takes 8.
    assert 0 <= whole - sure - shared.front - shared.quantisation - more <= 7 + 15 + 8 + 16
    assert sum(int(tables.additive("macs", row)[0]) for row in rows) == estimate(graph).macs
    assert sum(int(tables.head_of(row)[0]) == max(estimate(graph).live) for row in rows) >= 1


def test_files_of_known_networks_have_these_bytes() -> None:
    """Taken once from files that tflite-micro ran: writer and estimate may not drift apart together."""
    from tinynas.arch import load_arch
    from tinynas.cost.flash import file_bytes

    assert file_bytes(lower(load_arch("mcunet-tiny2"))) == 66_796
    assert file_bytes(lower(load_arch("mcunet-vww0"))) == 452_124


def test_the_operator_that_binds_is_named_by_the_limit_it_binds() -> None:
    """With core and clock given, the most MACs are still counted in MACs, not in milliseconds."""
    arch = Arch(height=16, width=16, classes=2, stem=ConvLayer(out=8, kernel=3), blocks=(MBConv(out=8, kernel=7, expand=6),))
    cost = estimate(lower(arch))
    limits = Budget.model_validate(
        {"name": "x", "core": "cortex-m7", "clock_mhz": 100, "runtime": "tflm", "sram": "1 MiB", "flash": "2 MiB", "macs": cost.macs - 1}
    )
    found = {limit.limit: limit for limit in explain(arch, limits).limits}
    heaviest = max(cost.layers, key=lambda row: row.macs)
    assert (found["macs"].op, found["macs"].share) == (heaviest.name, pytest.approx(heaviest.macs / cost.macs))
