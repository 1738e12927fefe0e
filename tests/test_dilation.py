"""Convolutions whose taps are apart: one Graph that training, integers, files, costs, generated code and spaces agree on."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import random_arch, with_bits, with_dilation
from pydantic import ValidationError
from test_compiled import benchmark, images_of, outputs_of
from test_cost_batch import ON, batch_and_single, spaces
from test_stream import built, drawn, whole

from tinynas.arch import Arch, ConvLayer, MBConv, Separable
from tinynas.budget import Budget
from tinynas.config import n_bytes
from tinynas.cost import RUNTIMES, estimate, explain
from tinynas.cost.apart import unlearnable
from tinynas.cost.batch import BatchEstimator
from tinynas.cost.memory import plan_offline
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.stepwise import plan_steps
from tinynas.cost.streamed import work_area_bytes
from tinynas.cost.tflite import parse_model
from tinynas.cost.updates import full_update
from tinynas.errors import UserError
from tinynas.export.compiled import compile_network
from tinynas.export.keras import describe
from tinynas.export.rotate import rotate_images, turned_back
from tinynas.export.sandbox import run_tflm
from tinynas.export.stepwise import compile_stream
from tinynas.export.stream_reference import stream_outputs
from tinynas.export.tflite import ModelMeta, dummy_file, serialize, storable
from tinynas.graph import Conv2D, DepthwiseConv2D, Graph, Padding, lower, padded_as_same, zeros_behind
from tinynas.model import Network, normalise
from tinynas.quantize import fold
from tinynas.quantize.floats import predict
from tinynas.quantize.grid import random_quantized
from tinynas.report.words import summary
from tinynas.search.counting import Counter
from tinynas.search.feasible import Feasible
from tinynas.space import Space
from tinynas.train.branches import add_branches, fold_branches
from tinynas.train.slices import common_taps
from tinynas.weights.describe import arch_of_file

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc)")

#: 17 frames of 6 features as channels, kernels along time, spans of 3, 5 and 9.
TCN = {
    "height": 17,
    "width": 1,
    "channels": 6,
    "classes": 3,
    "input_kind": "features",
    "causal": True,
    "stem": ConvLayer(out=8, kernel=(3, 1)),
    "blocks": (Separable(out=8, kernel=(3, 1), dilation=2), MBConv(out=8, kernel=(3, 1), dilation=4, expand=2, residual=True)),
}


def tcn(**fields: Any) -> Arch:
    return Arch.model_validate({**TCN, **fields})


def windowed(graph: Graph) -> list[Conv2D | DepthwiseConv2D]:
    return [op for op in graph.ops if isinstance(op, Conv2D | DepthwiseConv2D) and op.kernel != (1, 1)]


# What may be said


def test_one_way_to_say_a_dilation_and_none_to_say_one() -> None:
    plain, given = Separable(out=8, kernel=(3, 1)), Separable(out=8, kernel=(3, 1), dilation=2)
    assert given.dilation == (2, 1), "along an axis of one tap there is nothing to put apart"
    assert Separable(out=8, kernel=1, dilation=4).dilation == 1
    assert MBConv(out=8, kernel=3, dilation=(2, 2)).dilation == 2
    archs = [tcn(blocks=(block,)) for block in (plain, Separable(out=8, kernel=(3, 1), dilation=(1, 5)))]
    assert archs[0].id == archs[1].id != tcn(blocks=(given,)).id
    assert "dilation" not in archs[1].to_yaml() and "dilation: [2, 1]" in tcn(blocks=(given,)).to_yaml()
    # An id of before there were dilations.
    assert Arch(height=8, width=8, classes=2, blocks=(Separable(out=8),)).id == "474edcb2d5"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kernel": 3, "dilation": 2, "stride": 2}, "needs stride 1"),
        ({"kernel": (3, 1), "dilation": 2, "stride": (1, 2)}, "needs stride 1"),
        ({"kernel": (31, 1), "dilation": 9}, "spans 271 pixels; at most 255"),
        ({"dilation": 33}, "from 1 to 32"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    for kind in (MBConv, Separable, ConvLayer):
        with pytest.raises(ValidationError, match=said):
            kind(out=8, **fields)


def test_windows_span_what_lies_between_their_taps() -> None:
    causal, usual = windowed(lower(tcn())), windowed(lower(tcn(causal=False)))
    assert [op.reach for op in causal] == [(3, 1), (5, 1), (9, 1)]
    assert [op.padding for op in causal] == [Padding(2), Padding(4), Padding(8)]
    assert [op.padding for op in usual] == [Padding(1, 1), Padding(2, 2), Padding(4, 4)]
    graph, plain = lower(tcn()), lower(tcn(blocks=tuple(replace_dilation(block) for block in TCN["blocks"])))  # type: ignore[attr-defined]
    assert [t.shape for t in graph.tensors] == [t.shape for t in plain.tensors]
    figures = [estimate(each, "compiled-rows") for each in (graph, plain)]
    assert figures[0].macs == figures[1].macs and figures[0].params == figures[1].params
    assert figures[0].flash_bytes == figures[1].flash_bytes and figures[0].sram_bytes > figures[1].sram_bytes


def replace_dilation(block: MBConv | Separable) -> MBConv | Separable:
    return block.model_copy(update={"dilation": 1})


def test_it_is_said_for_people() -> None:
    assert "sep3x1d2x1" in " ".join(summary(tcn())) and "k3x1d4x1e2+" in " ".join(summary(tcn()))


def test_no_stride_is_advised_where_a_kernel_is_dilated() -> None:
    told = [what for kind, what, _ in explain._candidates(tcn(blocks=(*TCN["blocks"], Separable(out=8)))) if kind == "stride"]  # type: ignore[misc]
    assert told == ["stride of stem 1 -> 2", "stride of b2 1 -> 2"]


# Training and integers


def dilated_graph(seed: int) -> Graph:
    return lower(with_dilation(random_arch(seed), seed))


#: Of the random networks those in which something is dilated, and small.
SEEDS = [seed for seed in range(40) if any(op.dilation != (1, 1) for op in windowed(dilated_graph(seed)))][:8]


def test_the_trained_network_and_its_folded_weights_agree() -> None:
    for seed in SEEDS[:4]:
        graph = dilated_graph(seed)
        network = Network(graph, seed=seed).eval()
        images = images_of(graph, seed=seed)
        with torch.no_grad():
            want = network(normalise(torch.from_numpy(images), graph.input)).numpy()
        np.testing.assert_allclose(predict(fold(network), images), want, atol=1e-5)


def test_a_tap_sees_what_it_says() -> None:
    op = windowed(lower(tcn()))[1]
    network = Network(lower(tcn()), seed=0).eval()
    conv, _ = network.named_op(op.name)
    x = torch.zeros(1, 8, 17, 1)
    x[0, :, 6] = 1.0
    got = conv(torch.nn.functional.pad(x, (0, 0, 4, 0)))[0, :, :, 0]
    want = torch.zeros(8, 17)
    want[:, [6, 8, 10]] = conv.weight[:, 0, [2, 1, 0], 0]  # the last tap sees frame 6 at once, the first one 4 frames later
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("few", [False, True])
def test_files_give_what_the_integer_network_gives_in_the_promised_arena(few: bool) -> None:
    for seed in [*SEEDS[:3], -1, -2]:
        arch = {-1: tcn(), -2: tcn(causal=False)}.get(seed) or with_dilation(random_arch(seed), seed)
        graph = lower(with_bits(arch, seed) if few else arch)
        qgraph = random_quantized(graph, seed=max(seed, 0))
        held = storable(qgraph)
        model = serialize(held, ModelMeta("0" * 10, tuple(map(str, range(graph.classes)))), plan_offline(held.graph))
        images = images_of(graph, seed=1)
        ran = run_tflm(model, images)
        np.testing.assert_array_equal(ran.outputs, outputs_of(qgraph, images), err_msg="TFLM's own kernels")
        cost = estimate(graph)
        assert cost.flash_bytes == len(model), seed
        assert cost.host_arena_bytes == ran.head_bytes + ran.tail_bytes, seed


def test_a_file_read_again_costs_what_its_network_costs_on_every_runtime() -> None:
    for graph in (lower(tcn()), lower(tcn(causal=False)), dilated_graph(SEEDS[0])):
        file = parse_model(dummy_file(padded_as_same(graph)))
        for name, core in (
            ("tflm", "cortex-m4"),
            ("tflm-cmsis-nn", "cortex-m4"),
            ("tflm-cmsis-nn", "cortex-m55"),
            ("tflm-esp-nn", "xtensa-lx7"),
        ):
            ours, theirs = estimate(graph, name, core=core, clock_mhz=80.0), file.estimate(name, core=core, clock_mhz=80.0)
            assert (ours.sram_bytes, ours.tail_bytes, ours.macs) == (theirs.sram_bytes, theirs.tail_bytes, theirs.macs), name
            assert ours.latency_ms is theirs.latency_ms is ours.instructions is theirs.instructions is None, "nothing was counted"


def test_a_dilated_depthwise_convolution_takes_the_plain_kernel_of_cmsis_nn() -> None:
    def scratch(dilation: int, name: str) -> dict[str, int]:
        graph = lower(tcn(causal=False, blocks=(Separable(out=8, kernel=(5, 1), dilation=dilation),)))
        pieces = estimate(graph, name, core="cortex-m4").work.pieces
        return {build: sum(next(p for p in pieces if p.kind == "dw").scratch_of(build)) for _, build in runtime_named(name).builds}

    # 5 taps of 8 channels as int16 with DSP instructions, a block of 124 channels with vectors, and nothing where they are apart.
    undilated, dilated = scratch(1, "tflm-cmsis-nn"), scratch(2, "tflm-cmsis-nn")
    assert undilated["cmsis"] == undilated["arduino"] == 80 and undilated["cmsis-mve"] == 4 * 124 * 5
    assert set(dilated.values()) == {0}
    assert scratch(1, "tflm-esp-nn")["esp-nn-s3"] > 0, "which is asked for whatever the dilation"


def test_the_file_of_a_causal_network_has_zeros_between_what_its_kernel_sees() -> None:
    graph = lower(tcn())
    assert zeros_behind(graph) == {"stem": 2, "s0.b0.dw": 2, "s0.b1.dw": 2}
    held = windowed(storable(random_quantized(graph)).graph)
    assert [(op.kernel, op.reach) for op in held] == [((5, 1), (5, 1)), ((5, 1), (9, 1)), ((5, 1), (17, 1))]


# Runtimes


@pytest.mark.parametrize("name", ["tinyengine", "stedgeai"])
def test_runtimes_of_which_nothing_is_known_say_so(name: str) -> None:
    reason = "dilated convolutions (s0.b0.dw, s0.b1.dw), of which nothing is known there"
    assert estimate(lower(tcn(causal=False)), name).reasons == (reason,)
    space = Space.model_validate({"resolution": 16, "stages": [{"out": 8, "dilation": [1, 2]}]})
    with pytest.raises(UserError, match=rf"{name} does not run dilated convolutions \(s0.b0.dw\)"):
        BatchEstimator(space, 2, name)


def test_along_the_width_nothing_is_compiled() -> None:
    graph = lower(Arch(height=9, width=9, classes=2, blocks=(Separable(out=8, dilation=(1, 2)),)))
    for name in (name for name, runtime in RUNTIMES.items() if runtime.frame):
        with pytest.raises(UserError, match=rf"{name} does not run convolutions dilated along the width \(s0.b0.dw\)|padding|pads"):
            estimate(graph, name)
    with pytest.raises(UserError, match="dilated along the width"):
        compile_network(random_quantized(graph))
    with pytest.raises(UserError, match=r"s0\.b0\.dw is dilated, which is not handed to TensorFlow"):
        describe(graph)


def test_no_gradient_passes_it_on_the_board() -> None:
    graph = lower(tcn(causal=False))
    dw = next(op for op in graph.ops if op.name == "s0.b1.dw")
    assert "s0.b1.dw is dilated" in unlearnable(graph, full_update(graph), frozenset([dw.output]), runtime_named("tflm"))


@needs_gcc
def test_generated_code_reads_rows_apart_in_the_promised_memory(tmp_path: Path) -> None:
    harness = benchmark("compiled_equal")
    archs = [tcn(causal=False), tcn(), *(with_dilation(random_arch(seed), seed, along=(0,)) for seed in SEEDS[:3])]
    qgraphs = [random_quantized(lower(arch), seed=i) for i, arch in enumerate(archs)]
    frames = [images_of(q.graph, seed=i) for i, q in enumerate(qgraphs)]
    models = [compile_network(q, name=f"net{i}", frame=("kept", "rows")[i % 2]) for i, q in enumerate(qgraphs)]
    program = harness.program(models, 2, tmp_path)
    for qgraph, model, images, ran in zip(qgraphs, models, frames, harness.run_program(program, models, frames), strict=True):
        np.testing.assert_array_equal(ran.outputs, outputs_of(qgraph, images), err_msg=model.name)
        assert ran.size == model.work_bytes == work_area_bytes(qgraph.graph, frame=model.plan.frame)
        assert ran.touched <= model.plan.area_bytes < ran.touched + 4


def test_code_of_networks_without_dilation_is_as_it_was() -> None:
    code = compile_network(random_quantized(lower(tcn(blocks=())))).files["network.c"].decode()
    assert "o->apart" not in code
    assert "i * o->apart" in compile_network(random_quantized(lower(tcn()))).files["network.c"].decode()


def test_an_image_turned_by_half_meets_turned_kernels() -> None:
    blocks = (Separable(out=8, kernel=(3, 4), dilation=(2, 3)), ConvLayer(out=5, dilation=2))
    arch = Arch(height=17, width=12, channels=1, classes=3, stem=ConvLayer(out=6, stride=2), blocks=blocks)
    qgraph = random_quantized(lower(arch), seed=3)
    back = turned_back(qgraph)
    back = replace(back, weights={name: weights.copy() for name, weights in back.weights.items()})  # torch knows no negative strides
    images = images_of(qgraph.graph)
    np.testing.assert_array_equal(outputs_of(back, images), outputs_of(qgraph, rotate_images(images)))


@needs_gcc
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_keeps_the_rows_between(seed: int, tmp_path: Path) -> None:
    arch = tcn() if seed == 0 else with_dilation(drawn(seed + 50), seed, along=(0,))
    qgraph = random_quantized(lower(arch), seed=seed)
    model = compile_stream(qgraph, name="net")
    assert model.plan.work_bytes == estimate(qgraph.graph, "compiled-stream").sram_bytes
    frames = arch.height + 2 * model.plan.period
    heard = np.random.default_rng(seed).integers(0, 256, (frames, arch.width, arch.channels), dtype=np.uint8)
    said = built(model, heard, tmp_path / "net")
    outputs = {line[0]: line[1:] for line in said}
    clip = outputs[max(frame for frame in outputs if frame < arch.height)]
    assert clip == whole(qgraph, heard[None, : arch.height])[0].tolist()
    assert outputs == {frame: [int(value) for value in output] for frame, output in stream_outputs(qgraph, heard).items()}


def test_a_stream_by_hand() -> None:
    plan = plan_steps(lower(tcn(blocks=(Separable(out=8, kernel=(3, 1), dilation=4),))))
    # 3 rows of 6 (18 -> 20), 9 of 8 (72), of the mean a place, 8 sums and 17 x 8 int8 (4 + 32 + 136), 3 outputs (4).
    assert plan.state_bytes == 20 + 72 + 172 + 4
    assert plan.first == 17 and plan.every == 1


# Spaces


def test_genes_of_a_space_by_hand() -> None:
    stages = [
        {"kind": "separable", "out": 8, "kernel": [[3, 1], [5, 1]], "dilation": [1, 2, 4], "depth": [1, 2], "stride": [1, [2, 1]]},
        {"out": 8, "kernel": [[3, 1]], "dilation": 2, "depth": 1, "expand": 2},
    ]
    space = Space.model_validate(
        {"resolution": [[33, 1]], "channels": 6, "stages": stages, "causal": True, "stem": {"kernel": [[3, 1]], "stride": 1}}
    )
    assert [gene.name for gene in space.genes if gene.name.endswith("dilation")] == ["s0.b1.dilation"], "the first one carries the stride"
    assert space.size == 2 * (2 + 2 * 6)
    chosen = {"s0.depth": 1, "s0.b1.kernel": 1, "s0.b1.dilation": 2}
    arch = space.sample(lambda name, _: chosen.get(name, 0), 2)
    assert [(block.kernel, block.dilation) for block in arch.blocks] == [((3, 1), 1), ((5, 1), (4, 1)), ((3, 1), (2, 1))]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"dilation": 2, "depth": 1, "stride": [1, 2]}, "its only block carries the stride"),
        ({"dilation": [1, 2], "kernel": [1, 3]}, "kernel 1 has no two taps to put apart there"),
        ({"dilation": [1, 2, [2, 1]], "kernel": [[3, 1]]}, r"kernel \[3, 1\] has no two taps"),
        ({"dilation": 32, "kernel": 9}, "spans up to 257 pixels"),
    ],
)
def test_spaces_of_what_cannot_be_are_refused(stage: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Space.model_validate({"resolution": 32, "stages": [{"out": 8, **stage}]})


@st.composite
def dilated_spaces(draw: st.DrawFn, causal: bool) -> Space:
    content = draw(spaces()).model_dump()
    for stage in content["stages"]:
        stage["kernel"] = draw(st.lists(st.sampled_from([3, 5, (3, 5)]), min_size=1, max_size=2, unique_by=str))
        choices: list[Any] = [1, (2, 1), (3, 1)] if causal else [1, 2, (3, 1), (1, 2)]
        stage["dilation"] = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=3, unique_by=str))
        if stage["dilation"] != [1] and set(map(str, stage["stride"])) != {"1"} and max(stage["depth"]) == 1:
            stage["depth"] = [1, 2]
    return Space.model_validate({**content, "causal": causal})


#: Runtimes that run whatever is dilated, and those that run what is dilated along time.
ANY = [on for on in ON if RUNTIMES[on[0]].dilated == "any"]
TIME = [*ANY, ("compiled", "cortex-m4"), ("compiled-rows", "cortex-m0plus"), *[("compiled-stream", "cortex-m4")] * 4]


@settings(max_examples=25, deadline=None)
@given(dilated_spaces(causal=False), st.sampled_from(ANY), st.integers(0, 10**6))
def test_batches_equal_single_estimates(space: Space, on: tuple[str, str], seed: int) -> None:
    generator = random.Random(seed)
    genotypes = [space.draw(lambda _, n: generator.randrange(n)) for _ in range(6)]
    found, expected = batch_and_single(space, 3, *on, genotypes)
    assert found == expected


@settings(max_examples=25, deadline=None)
@given(dilated_spaces(causal=True), st.sampled_from(TIME), st.integers(0, 10**6))
def test_batches_equal_single_estimates_of_causal_networks(space: Space, on: tuple[str, str], seed: int) -> None:
    generator = random.Random(seed)
    genotypes = [space.draw(lambda _, n: generator.randrange(n)) for _ in range(6)]
    found, expected = batch_and_single(space, 3, *on, genotypes)
    assert found == expected


def test_a_loose_budget_counts_every_network_and_draws_its_dilations() -> None:
    stages = [
        {"out": 8, "kernel": [3, 5], "expand": [1, 2], "dilation": [1, 2], "depth": [1, 2]},
        {"out": 8, "depth": 2, "kernel": 3, "expand": 1, "stride": 2, "dilation": [1, 3]},
    ]
    space = Space.model_validate({"resolution": 16, "stages": stages})
    loose = Budget.model_validate({"name": "x", "sram": n_bytes(10**9), "flash": n_bytes(10**9), "runtime": "tflm"})
    counter, rng = Counter(Feasible(space, 2, loose)), np.random.default_rng(0)
    starts = counter.starts()
    assert sum(start[0] for start in starts) == space.size == 2 * (8 + 64)
    rows = {tuple(counter.draw(starts, rng)) for _ in range(400)}
    assert all(space.canonical(row) == row for row in rows)
    assert {row[space.gene_index["s1.b1.dilation"]] for row in rows} == {0, 1}


# Weights from elsewhere


def test_kernels_of_other_dilations_share_the_taps_that_fall_together() -> None:
    graph = lower(tcn())
    op = windowed(graph)[2]  # 3 taps, 4 apart, causal: frames -8, -4, 0
    down, _ = common_taps(graph, op, (3, 1), (2, 1))  # -4, -2, 0
    assert down == (slice(1, 3), slice(0, 3, 2))
    assert common_taps(graph, op, (5, 1), (4, 1))[0] == (slice(0, 3), slice(2, 5))
    usual = lower(tcn(causal=False))
    assert common_taps(usual, windowed(usual)[2], (3, 1), (1, 1))[0] == (slice(1, 2), slice(1, 2)), "their middle"


def test_branches_fold_into_a_dilated_kernel() -> None:
    for seed in SEEDS[:3]:
        graph = dilated_graph(seed)
        network = Network(graph, seed=seed)
        add_branches(network, seed=seed)
        x = torch.randn(2, graph.input.channels, graph.input.height, graph.input.width)
        network.train()
        network(torch.randn(4, *x.shape[1:]))
        network.eval()
        with torch.no_grad():
            torch.testing.assert_close(fold_branches(network)(x), network(x), atol=1e-4, rtol=1e-4)


def test_a_dilated_file_of_others_is_read_as_the_architecture_that_it_was_made_of(tmp_path: Path) -> None:
    arch = Arch(
        height=17,
        width=9,
        channels=1,
        classes=3,
        stem=ConvLayer(out=8, kernel=(3, 3), dilation=(2, 1)),
        blocks=(Separable(out=8, dilation=2), MBConv(out=8, dilation=(1, 3), kernel=3, expand=2, residual=True)),
    )
    path = tmp_path / "net.tflite"
    path.write_bytes(dummy_file(lower(arch)))
    found = arch_of_file(str(path))
    assert [block.dilation for block in (found.stem, *found.blocks)] == [(2, 1), 2, (1, 3)]  # type: ignore[union-attr]
    assert [op.padding for op in windowed(lower(found))] == [op.padding for op in windowed(lower(arch))]
