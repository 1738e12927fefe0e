"""Attention and h-swish: operators, arithmetic by hand, and a draw of networks in which every output byte and size is exact."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from test_cost_tflite import benchmark

from tinynas.api import load_space
from tinynas.arch import Arch, ConvLayer, MBConv, load_arch
from tinynas.budget import Budget
from tinynas.config import shipped
from tinynas.cost import RUNTIMES, estimate, plan_offline
from tinynas.cost.batch import BatchEstimator
from tinynas.cost.memory import live_bytes, written_over
from tinynas.cost.work import from_graph
from tinynas.errors import InternalError
from tinynas.graph import GATE_START, Builder, Conv2D, FullyConnected, Graph, HardSwish, Mul, lower, nearest
from tinynas.inputs import Input
from tinynas.model import Classifier, ConvBN, Network
from tinynas.quantize.calibrate import _swished
from tinynas.quantize.fake import _rounded_16, swished
from tinynas.quantize.grid import TensorQuant
from tinynas.search.counting import Counter
from tinynas.search.feasible import Feasible
from tinynas.space import Space

ROOT = Path(__file__).resolve().parent.parent
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc)")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("tflite_micro")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # it takes from its neighbours
    return benchmark("attention")


def net(**block: object) -> Arch:
    given = {"out": 8, "expand": 3, **block}
    return Arch(height=20, width=14, classes=3, stem=ConvLayer(out=8, stride=2), blocks=(MBConv.model_validate(given),))


# What a network is


def test_an_id_does_not_change_where_there_is_no_attention() -> None:
    plain = net()
    assert plain.id == Arch.model_validate({**plain.model_dump(), "blocks": [{**plain.blocks[0].model_dump(), "attention": "none"}]}).id
    assert "attention" not in plain.to_yaml()
    assert len({plain.id, net(attention="se").id, net(attention="spatial").id, net(act="h_swish").id}) == 4


def test_a_channel_gate_is_worked_out_behind_the_depthwise_convolution() -> None:
    graph = lower(net(attention="se", squeeze=4))
    kinds = [op.kind for op in graph.ops]
    assert kinds == ["conv", "conv", "dw", "mean", "fc", "fc", "mul", "conv", "mean", "fc"]
    squeeze, gate, mul = graph.ops[4], graph.ops[5], graph.ops[6]
    assert isinstance(squeeze, FullyConnected) and isinstance(gate, FullyConnected) and isinstance(mul, Mul)
    # 24 channels, a quarter is 6, on a multiple of 8.
    assert (squeeze.in_features, squeeze.out_features, squeeze.act) == (24, 8, "relu")
    assert (gate.in_features, gate.out_features, gate.act, gate.start) == (8, 24, "relu6", GATE_START)
    assert mul.inputs == (graph.ops[2].output, gate.output)


@pytest.mark.parametrize(("channels", "squeezed"), [(16, 8), (96, 24), (240, 64), (120, 32), (144, 40), (288, 72), (576, 144)])
def test_channels_are_squeezed_as_in_mobilenetv3(channels: int, squeezed: int) -> None:
    graph = lower(net(attention="se", mid=channels))
    assert next(op.out_features for op in graph.ops if op.kind == "fc") == squeezed


def test_a_spatial_gate_is_a_map_of_the_block_s_output() -> None:
    graph = lower(net(attention="spatial", out=12))
    at = {op.name: op for op in graph.ops}
    # 10 x 7 before the block; the largest at stride 2 are 5 x 4, the bottleneck makes 3 x 2.
    assert graph.shape(at["s0.b0.largest"].output) == (5, 4, 8)
    assert graph.shape(at["s0.b0.widen"].output) == (5, 4, 24)
    assert graph.shape(at["s0.b0.gate"].output) == (3, 2, 12)
    assert graph.shape(at["s0.b0.spread"].output) == (10, 7, 12)
    assert at["s0.b0.mul"].inputs == (at["s0.b0.project"].output, at["s0.b0.spread"].output)
    gate = at["s0.b0.gate"]
    assert isinstance(gate, Conv2D) and gate.act == "relu6" and gate.start == GATE_START


def test_h_swish_is_an_operator_behind_its_convolution() -> None:
    graph = lower(net(act="h_swish"))
    assert [op.kind for op in graph.ops] == ["conv", "conv", "hard_swish", "dw", "hard_swish", "conv", "mean", "fc"]
    assert {op.act for op in graph.ops if isinstance(op, Conv2D)} == {"relu6", "none"}
    assert [op.name for op in graph.ops if isinstance(op, HardSwish)] == ["s0.b0.expand.act", "s0.b0.dw.act"]


def test_nearest_is_worked_out_in_float32() -> None:
    assert nearest(2, 4) == (0, 0, 1, 1)
    assert nearest(3, 7) == (0, 0, 0, 1, 1, 2, 2)
    assert nearest(1, 3) == (0, 0, 0)
    scales = np.float32(np.arange(1, 87)[:, None]) / np.float32(np.arange(1, 87)[None])
    for size, out in ((22, 86), (43, 86), (11, 43), (7, 50), (33, 86)):
        places = np.floor(np.arange(out, dtype=np.float32) * scales[size - 1, out - 1])
        assert list(nearest(size, out)) == np.minimum(places, size - 1).astype(int).tolist()
    # 7 * 3 / 21 is 1, and in float32 not below: 3/21 is rounded up there; elsewhere the product falls short of the whole number.
    assert any(nearest(size, out)[i] != i * size // out for size in range(1, 40) for out in range(size, 90) for i in range(out))


# Arithmetic


def test_h_swish_by_hand() -> None:
    # 1/16 a step in and out: x = 2 is 32, h_swish(2) = 10/6 = 1.6667, 26.67 steps.
    table = swished(TensorQuant(1 / 16, 0), TensorQuant(1 / 16, 0))
    assert (table[128 + 32], table[128], table[128 + 64], table[0]) == (27, 0, 64, 0)
    real = np.arange(-128, 128) / 16
    wanted = real * np.clip(real + 3, 0, 6) / 6 * 16
    assert np.abs(np.array(table) - wanted).max() < 0.75, "a 16-bit product, rounded"


def test_h_swish_needs_an_output_step_above_a_128th_of_the_input_s() -> None:
    source = TensorQuant(1.0, 0)
    with pytest.raises(InternalError, match="128th"):
        swished(source, TensorQuant(1 / 128 * 0.49, 0))
    widened = _swished(source, TensorQuant(1e-3, 5))
    assert widened.zero_point == 5 and widened.scale > 1 / 128
    swished(source, widened)
    assert _swished(source, TensorQuant(0.02, 5)) == TensorQuant(0.02, 5)


@pytest.mark.parametrize(("value", "shift", "wanted"), [(5, 1, 3), (-5, 1, -3), (4, 2, 1), (6, 2, 2), (-6, 2, -2), (-7, 2, -2), (7, 0, 7)])
def test_halves_are_rounded_away_from_zero(value: int, shift: int, wanted: int) -> None:
    assert _rounded_16(value, shift) == wanted


# Training


def test_gates_begin_half_open_and_dropout_leaves_them_alone() -> None:
    graph = lower(net(attention="se"))
    network = Network(graph, seed=3)
    gate, last = network.get_submodule("s0_b0_gate"), network.get_submodule("fc")
    assert isinstance(gate, Classifier) and isinstance(last, Classifier)
    assert (gate.last, last.last) == (False, True)
    assert torch.equal(gate.linear.bias, torch.full((24,), 3.0))
    seen = []
    last.register_forward_hook(lambda _, read, __: seen.append(read[0]))
    gate.register_forward_hook(lambda _, read, __: seen.append(read[0]))
    network.dropout, network.generator = 0.999, torch.Generator().manual_seed(0)
    network.train()(torch.rand(8, 3, 20, 14))
    assert float((seen[0] != 0).float().mean()) > 0.1 and float((seen[1] != 0).float().mean()) < 0.1
    spatial = Network(lower(net(attention="spatial"))).get_submodule("s0_b0_gate")
    assert isinstance(spatial, ConvBN) and spatial.bn is not None and spatial.bn.bias.detach().unique().tolist() == [3.0]


def test_every_weight_of_a_gate_learns() -> None:
    for attention in ("se", "spatial"):
        network = Network(lower(net(attention=attention, act="h_swish"))).train()
        network(torch.rand(16, 3, 20, 14)).square().sum().backward()
        still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert still == []


# Files


def test_what_a_gate_costs_by_hand() -> None:
    plain, gated = estimate(lower(net())), estimate(lower(net(attention="se")))
    assert gated.macs - plain.macs == 24 * 8 + 8 * 24
    assert gated.params - plain.params == 24 * 8 + 8 + 8 * 24 + 24


def test_same_maxima_take_the_padding_for_no_value() -> None:
    build = Builder((5, 5, 1))
    build.largest("largest", 0, (3, 3), (2, 2))
    pool = build.ops[0]
    assert build.shape(1) == (3, 3, 1)
    from tinynas.quantize.floats import pooled

    x = torch.full((1, 1, 5, 5), -7.0)
    assert torch.equal(pooled(pool, x), torch.full((1, 1, 3, 3), -7.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [5])
def test_networks_with_attention_and_h_swish_are_exact(bench: ModuleType, seed: int) -> None:
    archs = bench.draw(8, seed)
    rows = [bench.row_of(arch, number, 3)[0] for number, arch in enumerate(archs)]
    assert [row for row in rows if not bench.exact(row)] == []
    assert all(sum(row[kind] for row in rows) for kind in ("mul", "hard_swish", "resize"))


@needs_gcc
def test_networks_with_attention_are_exact_as_c(bench: ModuleType) -> None:
    networks = [bench.row_of(arch, number, 2)[1:] for number, arch in enumerate(bench.draw(6, 23))]
    assert all(bench.compiled(networks))


# coco_mcu


def test_coco_mcu_s_ram_table_row_by_row(bench: ModuleType) -> None:
    for row in bench.coco_rows():
        terms, ours, said = sum(row["terms"]), sum(row["ours"]), float(row["said"])
        assert terms - ours == (22 * 22 * 16 if row["row"] in ("att0", "att1") else 0), row
        # Its gates hold the block's output, which we compute later; its last stage a map that is not read any more.
        assert row["live"] >= ours or row["row"] in ("att0", "att1", "last stage"), row
        # Two figures of the README do not follow from its terms.
        if row["row"] not in ("bneck2", "bneck5"):
            unit = 1000 if row["row"] in ("att0", "att1") else 1024
            assert abs(terms / unit - said) < 0.6, row


def test_coco_mcu_is_as_large_as_its_readme_says(bench: ModuleType) -> None:
    graph = lower(load_arch("coco-mcu"))
    network = Network(graph)
    counted = sum(p.numel() for p in network.parameters()) + sum(b.numel() for b in network.buffers())
    assert abs(counted / bench.COCO_PARAMETERS - 1) < 0.003
    assert abs(estimate(graph).macs / bench.COCO_MACS - 1) < 0.05
    assert abs(counted * 2 / 8 / 1024 - bench.COCO_KIB) < 1


def test_one_branch_first_and_multiplications_in_place() -> None:
    graph = lower(load_arch("coco-mcu"))
    gated = [live for piece, live in zip(estimate(graph).work.pieces, estimate(graph).live, strict=True) if piece.name.startswith("s0.")]
    assert max(gated) == 2 * 86 * 86 * 16 + 22 * 22 * 16, "two maps and the gate; a product beside its factors would be a third map"


# Plans


def test_a_plan_writes_over_what_nothing_else_reads() -> None:
    build = Builder((8, 8, 3))
    x = build.conv("stem", 0, 8, (3, 3), (1, 1), "h_swish")  # over what the convolution wrote
    y = build.hard_swish("kept", x)  # x is read later
    build.dense("fc", build.mean("pool", build.mul("mul", x, y)), 2)  # over x, which the others read before
    graph = Graph(tuple(build.tensors), tuple(build.ops), Input(8, 8, 3), (0,), (len(build.tensors) - 1,))
    work = from_graph(graph)
    assert written_over(work, RUNTIMES["tflm"]) == {1: 1, 3: x}
    assert written_over(work, RUNTIMES["tflm-esp-nn"]) == {1: 1}
    assert written_over(work, RUNTIMES["stedgeai"]) == {}
    plan = plan_offline(graph)
    assert plan.offsets[x] == plan.offsets[1] == plan.offsets[graph.ops[3].output] != plan.offsets[y]
    assert plan.head_bytes == max(live_bytes(work, RUNTIMES["tflm"])) == 2 * 8 * 8 * 8


def test_what_is_kept_is_not_written_over() -> None:
    build = Builder((8, 8, 3))
    x = build.conv("stem", 0, 8, (3, 3), (1, 1), "none")
    y = build.add("sum", build.hard_swish("swish", x), x)
    build.dense("fc", build.mean("pool", y), 2)
    graph = Graph(tuple(build.tensors), tuple(build.ops), Input(8, 8, 3), (0,), (len(build.tensors) - 1,))
    assert written_over(from_graph(graph), RUNTIMES["tflm"]) == {}


# Spaces

GATED = Space.model_validate(
    {
        "name": "gated",
        "resolution": 16,
        "divisor": 4,
        "stem": {"out": [4, 8]},
        "stages": [
            {"out": 8, "depth": [1, 2], "kernel": 3, "expand": [1, 3], "attention": ["none", "spatial"], "act": ["relu6", "h_swish"]},
            {"out": [8, 12], "kernel": 3, "expand": 2, "stride": [1, 2], "attention": ["none", "se"]},
        ],
        "act": "relu",
    }
)


def every_genotype(space: Space) -> list[tuple[int, ...]]:
    return sorted({space.canonical(row) for row in product(*(range(len(gene.choices)) for gene in space.genes))})


def test_attention_and_activation_are_genes_of_a_stage_where_there_is_a_choice() -> None:
    assert [gene.name for gene in GATED.genes if gene.name.endswith(("attention", "act"))] == ["s0.attention", "s0.act", "s1.attention"]
    everything = every_genotype(GATED)
    assert len(everything) == GATED.size == 2 * (2 + 4) * 2 * 2 * 2 * 2 * 2
    archs = [GATED.decode(genotype, 3) for genotype in everything]
    assert len({arch.id for arch in archs}) == len(archs)
    blocks = [block for arch in archs for block in arch.blocks]
    assert {(block.attention, block.act) for block in blocks if isinstance(block, MBConv)} == {
        *product(("none", "spatial"), ("relu6", "h_swish")),
        *product(("none", "se"), ("relu",)),
    }
    for name in shipped("search_spaces"):
        named = [gene.name for gene in load_space(name).genes if gene.name.endswith(("attention", "act"))]
        assert bool(named) == (name == "attention")


def test_one_attention_without_a_choice_is_no_gene_and_is_there() -> None:
    space = Space.model_validate({"resolution": 16, "stages": [{"out": 8, "kernel": 3, "expand": 2, "attention": "se", "act": "h_swish"}]})
    assert not [gene for gene in space.genes if gene.name.endswith(("attention", "act"))]
    (block,) = space.decode((0,) * len(space.genes), 2).blocks
    assert isinstance(block, MBConv) and (block.attention, block.act) == ("se", "h_swish")


@pytest.mark.parametrize("runtime", ["tflm", "tflm-cmsis-nn", "compiled", "stedgeai", "tinyengine"])
def test_batches_of_gated_networks_are_exact(runtime: str) -> None:
    genotypes = every_genotype(GATED)[::7]
    batch = BatchEstimator(GATED, 3, runtime, "cortex-m4").estimate(np.array(genotypes))
    for number, genotype in enumerate(genotypes):
        assert batch.values(number) == estimate(lower(GATED.decode(genotype, 3)), runtime, core="cortex-m4").values(), genotype


def test_gated_networks_are_counted_each_once() -> None:
    loose = Budget.model_validate({"name": "loose", "flash": "1 GiB", "sram": "1 GiB", "reserves": {"flash": {"runtime": "0 B"}}})
    counter = Counter(Feasible(GATED, 2, loose))
    starts = counter.starts()
    assert sum(start[0] for start in starts) == GATED.size
    drawn = [tuple(counter.draw(starts, np.random.default_rng(seed))) for seed in range(40)]
    assert all(GATED.holds(row) and GATED.canonical(row) == row for row in drawn)
    assert {row[GATED.gene_index["s0.attention"]] for row in drawn} == {row[GATED.gene_index["s1.attention"]] for row in drawn} == {0, 1}
