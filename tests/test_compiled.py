"""The network as C: outputs that equal TFLM's, in the promised memory, nothing computed twice; here and on emulated cores."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from int8_cases import random_arch, random_graph, with_attention, with_bits
from test_cost_tflite import benchmark

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, load_arch
from tinynas.budget import load_budget
from tinynas.cost import estimate
from tinynas.cost.compiled import SPARE_STACK_BYTES, constants_of, few_kernels, kernel_of, network_stack, sizes, table_bytes
from tinynas.cost.compiled_loops import loop_group, loops
from tinynas.cost.instructions import counts_of, tables
from tinynas.cost.schema import packed_bytes
from tinynas.cost.streamed import (
    ALIGNMENT,
    FRAMES,
    Frame,
    Place,
    StreamPlan,
    gathers,
    plan_streamed,
    reads,
    row_bytes,
    rows_of,
    scratch_of,
    scratch_of_shape,
    state_of,
    steps_of,
    work_area_bytes,
)
from tinynas.cost.tflite import parse_model
from tinynas.errors import ConfigError, InternalError, UserError
from tinynas.export.compiled import compile_network, constants_for, packed_rows, write_format
from tinynas.export.formats import Made
from tinynas.export.rotate import rotate_images, turned_back
from tinynas.export.tflite import dummy_file
from tinynas.graph import Builder, Conv2D, Graph, Mean, Mul, lower
from tinynas.inputs import Input
from tinynas.model import normalise
from tinynas.quantize import FakeQuantNetwork, QuantizedGraph, TensorQuant
from tinynas.quantize.grid import random_quantized
from tinynas.target.cores import CORES
from tinynas.target.library import COMPILER
from tinynas.target.program import run_network


def few_graph(seed: int) -> Graph:
    """A random network whose weights have 8, 4 and 2 bits, with attention."""
    return lower(with_bits(with_attention(random_arch(seed), seed), seed, (8, 4, 2)))


def quick_few(seed: int) -> bool:
    """Whether it is small, and has attention."""
    graph = few_graph(seed)
    return sum(isinstance(op, Mul) for op in graph.ops) > 0 and estimate(graph).macs < 300_000


needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc)")
needs_tools = pytest.mark.skipif(
    shutil.which(COMPILER) is None or shutil.which("qemu-system-arm") is None, reason=f"{COMPILER} or qemu-system-arm is not installed"
)


def outputs_of(qgraph: QuantizedGraph, images: np.ndarray) -> np.ndarray:
    return FakeQuantNetwork(qgraph)(normalise(torch.from_numpy(images), qgraph.graph.input)).numpy().astype(np.int8)


def images_of(graph: Graph, count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *graph.input.shape), dtype=np.uint8)


def gated() -> Graph:
    graph: Graph = benchmark("compiled_equal").gated()
    return graph


# The plan


@pytest.mark.parametrize(
    "name", ["mcunet-tiny2", "mcunet-vww0", "mcunet-vww1", "mcunet-in4", "mobilenetv1-0.25", "mobilenetv2-0.35", "colabnas-k8c5"]
)
def test_whole_rows_stay_near_the_bounds_of_lines_and_pixels(name: str) -> None:
    graph = lower(load_arch(name))
    for frame, bound in benchmark("compiled_equal").BOUNDS[name].items():
        assert work_area_bytes(graph, frame=frame) <= 1.30 * bound, frame


def test_named_figures() -> None:
    assert work_area_bytes(lower(load_arch("mobilenetv1-0.25")), frame="rows") <= 18_000
    assert work_area_bytes(lower(load_arch("mcunet-tiny2"))) <= 16 * 1024
    assert [work_area_bytes(lower(load_arch("mcunet-tiny2")), frame=f) for f in FRAMES] == [13_000, 6_556]


def test_a_plan_by_hand() -> None:
    # 8x8x3 -> conv 3x3 to 4 -> conv 3x3 stride 2 to 4 -> mean -> fc 2
    graph = lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=4), head=None, blocks=(ConvLayer(out=4, stride=2),)))
    plan = plan_streamed(graph, frame="rows")
    assert plan.segments == ((0, 4),)
    stem, conv, *_ = (op.output for op in graph.ops)
    # The stem's window spans 3 rows of 24 B, the convolution's 3 of 32 B. A row of 4 x 4 passes to the mean, of which 4 sums of 4 B
    # stay; beside the row two patches of 36 B. The outputs take 2 B, on 4.
    assert (plan.places[0].rows, plan.places[stem].rows, plan.places[conv].rows) == (3, 3, 1)
    assert plan.area_bytes == 3 * 24 + 3 * 32 + 4 * 4 + (2 * 36 + 16) + 4
    assert plan.work_bytes == plan.area_bytes + 12, "2 x 4 counters, the rows of the frame, the segment: 10 B, on 4"
    kept = plan_streamed(graph, frame="kept")
    assert kept.area_bytes == 192 + 3 * 32 + 4 * 4 + (2 * 36 + 16) + 4


def test_a_depthwise_convolution_takes_no_row_of_its_own_and_a_shortcut_as_many_as_its_block_lags() -> None:
    graph = lower(Arch(height=16, width=16, classes=2, stem=ConvLayer(out=8), blocks=(MBConv(out=8, kernel=5, expand=4, residual=True),)))
    plan = plan_streamed(graph, frame="rows")
    stem, expand, dw = (op.output for op in graph.ops[:3])
    assert plan.segment_of(1) == plan.segment_of(3), "the block is one"
    assert plan.places[expand] == Place(plan.places[expand].offset, 5, 16 * 32)
    assert plan.places[dw] == Place(plan.places[expand].offset, 5, 16 * 32, 1, 3), "row y over row y - 2 of what it reads: 3 on, modulo 5"
    if plan.segment_of(0) == plan.segment_of(1):
        assert plan.places[stem].rows == 3, "rows y to y + 2 are there when y is added"


def test_nothing_is_kept_whole_that_need_not_be() -> None:
    graph = lower(Arch(height=30, width=30, classes=2, stem=ConvLayer(out=8), blocks=(Pool(), ConvLayer(out=8), Pool(op="avg"))))
    plan = plan_streamed(graph, frame="rows")
    assert [gathers(op) for op in graph.ops[:4]] == [False, True, False, False]
    if plan.segments[0][1] > 2:
        assert plan.places[graph.ops[0].output].rows == 1, "maxima are taken as rows come"


class Memory:
    """The work area as labels: which row of which tensor each byte holds."""

    def __init__(self, plan: StreamPlan) -> None:
        self.plan, self.graph = plan, plan.graph
        self.bytes = np.full(plan.area_bytes, -1, np.int64)

    def label(self, tensor: int, row: int) -> int:
        return tensor * 10_000 + row

    def span(self, tensor: int, row: int) -> slice:
        at = self.plan.places[tensor].at(row)
        assert at >= 0
        assert at + row_bytes(self.graph, tensor) <= len(self.bytes)
        return slice(at, at + row_bytes(self.graph, tensor))

    def write(self, tensor: int, row: int) -> None:
        self.bytes[self.span(tensor, row)] = self.label(tensor, row)

    def holds(self, tensor: int, row: int) -> bool:
        return bool((self.bytes[self.span(tensor, row)] == self.label(tensor, row)).all())


def rehearse(plan: StreamPlan) -> int:
    """Run a plan without numbers, by the driver's rule; MACs-free proof that every row is there when it is read. Gives the steps taken."""
    graph, memory, taken = plan.graph, Memory(plan), 0
    source = graph.inputs[0]
    for number, (begin, end) in enumerate(plan.segments):
        ops = graph.ops[begin:end]
        written = {op.output: i for i, op in enumerate(ops)}
        at, done = [0] * len(ops), [0] * len(ops)
        rows = 0 if number == 0 and plan.frame == "rows" else 1 << 30
        if number == 0 and plan.frame == "kept":
            for row in range(rows_of(graph, source)):
                memory.write(source, row)
        while True:
            ready = [
                i
                for i, op in enumerate(ops)
                if at[i] < steps_of(graph, op)[0]
                and all(
                    (done[written[t]] if t in written else rows) > span[1]
                    for t, span in zip(op.inputs, reads(graph, op, at[i]), strict=True)
                )
            ]
            if not ready:
                if rows >= rows_of(graph, source):
                    break
                memory.write(source, rows)
                rows += 1
                continue
            i = max(ready)
            op, each = ops[i], steps_of(graph, ops[i])[1]
            for tensor, (first, last) in zip(op.inputs, reads(graph, op, at[i]), strict=True):
                for row in range(first, last + 1):
                    assert memory.holds(tensor, row), (op.name, at[i], tensor, row)
            row, part = divmod(at[i], each)
            offset, private = plan.scratch[begin + i], -1 - (begin + i)
            if size := scratch_of(graph, op):
                memory.bytes[offset : offset + size] = private
                for tensor, (first, last) in zip(op.inputs, reads(graph, op, at[i]), strict=True):
                    assert all(memory.holds(tensor, r) for r in range(first, last + 1)), f"{op.name}: scratch over its input"
            if size := state_of(graph, op):
                assert part == 0 or (memory.bytes[offset : offset + size] == private).all(), f"{op.name}: its sums were overwritten"
                memory.bytes[offset : offset + size] = private
            if gathers(op):
                assert part == 0 or memory.holds(op.output, row), f"{op.name}: its maxima were overwritten"
                memory.write(op.output, row)
            elif part == each - 1:
                memory.write(op.output, row)
                assert not state_of(graph, op) or (memory.bytes[offset : offset + size] == private).all()
            at[i] += 1
            done[i] += at[i] % each == 0
            taken += 1
        assert at == [steps_of(graph, op)[0] for op in ops], "every step, once"
    assert memory.holds(graph.logits, 0)
    return taken


@pytest.mark.parametrize("seed", range(25))
def test_every_row_is_there_when_it_is_read_and_is_computed_once(seed: int) -> None:
    graph = random_graph(seed)
    for frame in FRAMES:
        assert rehearse(plan_streamed(graph, frame=frame)) == sum(steps_of(graph, op)[0] for op in graph.ops)


@pytest.mark.parametrize("frame", FRAMES)
def test_gates_and_shortcuts_are_planned(frame: Frame) -> None:
    plan = plan_streamed(gated(), frame=frame)
    rehearse(plan)
    assert plan.places[plan.graph.ops[1].output].rows == 6, "the map waits for its mean"


def test_maxima_that_grow_stay_until_they_are_whole() -> None:
    for blocks in ((Pool(),), (Pool(), ConvLayer(out=4, kernel=1), Pool())):
        for frame in FRAMES:
            graph = lower(Arch(height=29, width=29, classes=100, stem=ConvLayer(out=20, kernel=1), blocks=blocks))
            assert rehearse(plan_streamed(graph, frame=frame)) == sum(steps_of(graph, op)[0] for op in graph.ops)


def test_the_rehearsal_finds_a_ring_that_is_a_row_short() -> None:
    plan = plan_streamed(lower(load_arch("mcunet-tiny2")), frame="rows")
    rehearse(plan)
    found = 0
    for tensor, place in enumerate(plan.places):
        if 1 < place.rows < rows_of(plan.graph, tensor) and place.shift == 0:
            short = list(plan.places)
            short[tensor] = replace(place, rows=place.rows - 1)
            with pytest.raises(AssertionError):
                rehearse(replace(plan, places=tuple(short)))
            found += 1
    assert found > 5


@pytest.mark.parametrize("seed", range(8))
def test_the_cuts_are_the_best_of_all(seed: int) -> None:
    from itertools import combinations, pairwise

    from tinynas.cost.streamed import _Planner

    planner = _Planner(random_graph(seed + 60), "rows")
    inner = planner.cuts[1:-1][:9]
    if len(planner.cuts) > 11:
        pytest.skip("too many ways to try them all")
    every = [[0, *chosen, planner.cuts[-1]] for n in range(len(inner) + 1) for chosen in combinations(inner, n)]
    least = min(max(planner.least(a, b) for a, b in pairwise(cuts)) for cuts in every)
    assert max(planner.least(a, b) for a, b in planner.segments()) == least
    assert planner.plan().area_bytes == least, "and the placement reaches it"


def test_buffers_lie_on_words() -> None:
    plan = plan_streamed(random_graph(3), frame="rows")
    assert all(place.offset % ALIGNMENT == 0 for place in plan.places) and all(offset % ALIGNMENT == 0 for offset in plan.scratch)


# The code, on this computer


def stubborn() -> list[QuantizedGraph]:
    """Networks at the edges of the arithmetic and of the shapes."""
    plain = lower(Arch(height=9, width=7, classes=3, stem=ConvLayer(out=5, stride=2), blocks=(MBConv(out=5, expand=2.2, residual=True),)))
    wide = random_quantized(plain, seed=3)
    scales = {name: scale * np.float32(600) for name, scale in wide.weight_scales.items()}
    left = QuantizedGraph(plain, wide.tensors, wide.weights, scales, {name: bias // 600 for name, bias in wide.biases.items()})
    large = QuantizedGraph(plain, wide.tensors, wide.weights, wide.weight_scales, {n: b * 0 + (1 << 30) for n, b in wide.biases.items()})
    line = lower(
        Arch(
            height=40,
            width=4,
            channels=1,
            classes=2,
            stem=ConvLayer(out=6, kernel=(5, 1), stride=(2, 1)),
            blocks=(
                MBConv(out=6, kernel=(4, 1), expand=2, residual=True),
                Pool(kernel=(3, 1), stride=(2, 1)),
                ConvLayer(out=4, kernel=(1, 1)),
            ),
        )
    )
    bare = lower(
        Arch(height=6, width=6, classes=1, blocks=(MBConv(out=3, kernel=7, expand=1, residual=True), Pool(op="avg", kernel=3, stride=2)))
    )
    return [left, large, *(random_quantized(graph, seed=i) for i, graph in enumerate((line, bare, gated())))]


@pytest.mark.parametrize(
    ("compiler", "first"),
    [("gcc", 0), *(pytest.param(*way, marks=pytest.mark.slow) for way in (("gcc", 1), ("clang", 1), ("gcc -m32", 0)))],
)
def test_compiled_networks_give_tflms_numbers_in_the_promised_memory(compiler: str, first: int, tmp_path: Path) -> None:
    harness = benchmark("compiled_equal")
    chain = harness.TOOLCHAINS[compiler]
    if not chain.installed():
        pytest.skip(f"{compiler} with sanitizers is not installed (apt-get install {chain.package})")
    networks = [random_quantized(random_graph(seed), seed=seed) for seed in range(300, 306)] + stubborn()
    lefted = benchmark("compiled_tables").lefted
    networks += [
        lefted(random_quantized(random_graph(seed), seed=seed), by) for seed, by in ((306, 20), (307, 90), (308, 400), (309, 3000))
    ]
    frames = [images_of(q.graph, seed=i) for i, q in enumerate(networks)]
    models = [compile_network(q, name=f"net{i}", frame=FRAMES[(first + i) % 2]) for i, q in enumerate(networks)]
    built = harness.program(models, 2, tmp_path, chain)
    rans = harness.run_program(built, models, frames)
    for qgraph, model, images, ran in zip(networks, models, frames, rans, strict=True):
        np.testing.assert_array_equal(ran.outputs, outputs_of(qgraph, images), err_msg=model.name)
        assert ran.size == model.work_bytes
        assert model.plan.area_bytes - ALIGNMENT < ran.touched <= model.plan.area_bytes
    assert {m.sums for m in models[11:]} == {"left"}
    assert [m.sums for m in models[5:9]] == ["right", "left", "wide", "right"]


@needs_tools
@pytest.mark.parametrize(
    ("how", "core", "frame"),
    [
        ("lefted", "cortex-m0plus", "rows"),
        ("lefted", "cortex-m4", "kept"),
        ("widened", "cortex-m0plus", "kept"),
        ("widened", "cortex-m33", "rows"),
    ],
)
def test_other_roundings_take_no_more_than_was_promised_before_weights_were_known(how: str, core: str, frame: Frame) -> None:
    tables = benchmark("compiled_tables")
    qgraph = getattr(tables, how)(random_quantized(tables.network(*tables.SHOWN), seed=1))
    graph = qgraph.graph
    model = compile_network(qgraph, name="net", frame=frame)
    assert model.sums == {"lefted": "left", "widened": "wide"}[how]
    images = images_of(graph, seed=1)[:1]
    ran = run_network(CORES[core], "net", model.files, [images[0].tobytes()], outputs=graph.classes, operators=len(graph.ops))
    assert ran.outputs == (outputs_of(qgraph, images)[0].tobytes(),)
    cost = estimate(graph, {"kept": "compiled", "rows": "compiled-rows"}[frame], core=core)
    assert ran.flash_bytes <= cost.program_bytes
    assert ran.stack_bytes <= cost.stack_bytes
    assert model.work_bytes == cost.sram_bytes


@needs_gcc
def test_a_network_that_was_turned_is_turned_back(tmp_path: Path) -> None:
    # Odd and even sizes, strides and kernels: what SAME pads before differs from what it pads behind.
    blocks = (
        MBConv(out=6, kernel=(4, 3), stride=2, expand=2),
        ConvLayer(out=5, kernel=3, stride=(1, 2)),
        MBConv(out=5, kernel=5, expand=1),
    )
    arch = Arch(height=18, width=15, classes=3, stem=ConvLayer(out=6, kernel=4, stride=2), blocks=blocks)
    qgraph = random_quantized(lower(arch), seed=4)
    images = images_of(qgraph.graph)
    back = turned_back(qgraph)
    assert [op.padding for op in back.graph.ops if isinstance(op, Conv2D)] != [
        op.padding for op in qgraph.graph.ops if isinstance(op, Conv2D)
    ]
    harness = benchmark("compiled_equal")
    models = [compile_network(qgraph, name=f"net{i}", frame=frame, rotation=180) for i, frame in enumerate(FRAMES)]
    rans = harness.run_program(harness.program(models, 2, tmp_path), models, [images, images])
    for ran, frame in zip(rans, FRAMES, strict=True):
        np.testing.assert_array_equal(ran.outputs, outputs_of(qgraph, rotate_images(images)))
        assert ran.size == work_area_bytes(qgraph.graph, frame=frame), "no more than the promise, which knows of no turn"
    assert not np.array_equal(outputs_of(qgraph, rotate_images(images)), outputs_of(qgraph, images))
    twice = turned_back(back)
    assert twice.graph == qgraph.graph
    assert all(np.array_equal(twice.weights[name], weights) for name, weights in qgraph.weights.items())


def test_what_cannot_be_turned_back_is_named() -> None:
    for block, name in ((Pool(), "b0.pool"), (ConvLayer(out=4, kernel=1, stride=2), "b0.conv")):
        graph = lower(Arch(height=9, width=8, classes=2, stem=ConvLayer(out=4), blocks=(block,)))
        with pytest.raises(UserError, match=rf"{name} leaves out the last rows or columns") as caught:
            compile_network(random_quantized(graph), rotation=180)
        assert "--format c" in str(caught.value)
    whole = lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=4), blocks=(Pool(),)))
    assert turned_back(random_quantized(whole)).graph == whole


def test_only_the_kernels_that_are_used_are_in_it() -> None:
    graph = lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=4)))
    code = compile_network(random_quantized(graph)).files["network.c"].decode()
    assert "conv_row" in code and "mean_row" in code
    assert not any(word in code for word in ("dw_row", "add_row", "mul_row", "pool_row", "max_gather", "malloc", "@"))
    assert compile_network(random_quantized(graph)).files == compile_network(random_quantized(graph)).files


# weights of few bits ----------------------------------------------------------------------------------


def test_rows_are_packed_by_words() -> None:
    """By hand: byte j of a word holds numbers j, j + 4 and so on, from its lowest bits up; the rest follows in order."""
    four = packed_rows(np.array([[1, 2, 3, -1, 4, 5, -2, 7, 6, -7, 3]], np.int8), 4)
    assert [int(byte) & 255 for byte in four] == [0x41, 0x52, 0xE3, 0x7F, 0x96, 0x03]
    row = [1, 0, -1, 1, 0, 1, 1, -1, -1, -1, 0, 0, 1, 0, 0, -1]
    two = packed_rows(np.array([[*row, 1, -1, 0, 1, -1]] * 2, np.int8), 2)
    word = [0b01110001, 0b00110100, 0b00000111, 0b11001101]
    assert [int(byte) & 255 for byte in two] == [*word, 0b01001101, 0b11] * 2
    assert packed_rows(np.array([[1, -128]], np.int8)[:, :1], 8).tolist() == [1]
    for bits, most in ((4, 7), (2, 1)):
        assert packed_rows(np.full((1, 3), most, np.int8), bits).size == packed_bytes(3, bits)
        with pytest.raises(InternalError, match=f"reach beyond the {most} of {bits} bits"):
            packed_rows(np.full((1, 3), most + 1, np.int8), bits)


def test_costs_of_few_bits_by_hand() -> None:
    build = Builder((8, 8, 5))
    x = build.conv("conv", 0, 3, (3, 3), (1, 1), "relu6", 4)
    x = build.depthwise("dw", x, (3, 3), (1, 1), "relu6", 2)
    build.dense("fc", build.mean("mean", x), 7, bits=2)
    conv, dw, _, fc = build.ops
    assert constants_of(conv) == 3 * (23 + 9)  # 45 weights a row: 22 bytes and a half
    assert constants_of(dw) == 9 + 9 * 4  # a block of four channels, 36 weights
    assert constants_of(fc) == 7 * (1 + 9)
    assert scratch_of_shape(dw, (8, 8, 3)) == 4 * 8 + 36 and scratch_of_shape(replace(dw, weight_bits=8), (8, 8, 3)) == 32  # type: ignore[type-var]
    found = loops("fc", (1, 1), (1, 1), [(1, 1, 45)], (7,), 4)
    assert (found["single C/2 words"], found["single C/2 words/4"], found["single C/2 rest/4"], found["single C/2 rest%4"]) == (20, 8, 4, 4)
    assert loop_group("fc", (1, 1), (1, 1), 4) == "dense int4" and loop_group("dw", (3, 3), (1, 1), 8) == "dw"
    assert loops("dw", (3, 3), (1, 1), [(8, 8, 5)], (8, 8, 5), 2)["step C/4 words"] == 8 * 2 * 2
    assert loops("dw", (3, 3), (1, 1), [(8, 8, 5)], (8, 8, 5), 2)["step C/4 rest"] == 8 * 2 * 4


def test_kernels_of_few_bits_are_told_by_their_uses() -> None:
    bits = {"conv2d": frozenset({8, 4}), "fullyconnected": frozenset({2}), "depthwiseconv2d": frozenset({2, 8})}
    assert few_kernels(bits) == {"products4", "products2", "convmixed", "depthwisefew"}
    assert few_kernels({"conv2d": frozenset({4}), "fullyconnected": frozenset({4})}) == {"products4", "without8"}
    assert few_kernels({"conv2d": frozenset({8}), "fullyconnected": frozenset({8}), "depthwiseconv2d": frozenset({8})}) == set()


FEW = [seed for seed in range(40) if quick_few(seed)][:8]


@needs_gcc
@pytest.mark.parametrize("frame", FRAMES)
def test_networks_of_few_bits_on_this_computer(tmp_path: Path, frame: Frame) -> None:
    """Random bits and attention: outputs, nothing beyond the work area, sizes as promised; with sanitizers."""
    benchmark_equal = benchmark("compiled_equal")
    qgraphs = [random_quantized(few_graph(seed), seed=seed) for seed in FEW]
    models = [compile_network(qgraph, name=f"net{i}", frame=frame) for i, qgraph in enumerate(qgraphs)]
    images = [np.random.default_rng(i).integers(0, 256, (2, *q.graph.input.shape), dtype=np.uint8) for i, q in enumerate(qgraphs)]
    built = benchmark_equal.program(models, 2, tmp_path)
    kinds = {kind for qgraph in qgraphs for kind in map(kernel_of, qgraph.graph.ops)}
    assert {"dense", "dense4", "dense2", "conv", "conv4", "conv2", "dw", "dw4", "dw2"} <= kinds
    for qgraph, model, frames, ran in zip(qgraphs, models, images, benchmark_equal.run_program(built, models, images), strict=True):
        assert np.array_equal(ran.outputs, outputs_of(qgraph, frames))
        promised = estimate(qgraph.graph, "compiled" if frame == "kept" else "compiled-rows")
        assert ran.size == model.work_bytes == promised.sram_bytes and model.constant_bytes == promised.flash_bytes
        assert ran.touched <= model.plan.area_bytes < ran.touched + 4


@needs_tools
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m55"])
def test_networks_of_few_bits_on_emulated_cores(core: str) -> None:
    for number, seed in enumerate(FEW[:2]):
        graph = few_graph(seed)
        qgraph = random_quantized(graph, seed=seed)
        frame = FRAMES[number % 2]
        model = compile_network(qgraph, name="net", frame=frame)
        images = np.random.default_rng(seed).integers(0, 256, (1, *graph.input.shape), dtype=np.uint8)
        ran = run_network(CORES[core], "net", model.files, [images[0].tobytes()], outputs=graph.classes, operators=len(graph.ops))
        assert ran.outputs == (outputs_of(qgraph, images)[0].astype(np.int8).tobytes(),)
        assert ran.touched_bytes <= model.plan.area_bytes and ran.stack_bytes <= model.stack_bytes(core)


def test_what_cannot_be_compiled_is_named() -> None:
    qgraph = random_quantized(lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=4))))
    with pytest.raises(UserError, match=r"'My-Net' cannot begin names"):
        compile_network(qgraph, name="My-Net")
    with pytest.raises(InternalError, match="stem: sums beyond 32 bits"):
        compile_network(replace(qgraph, biases={**qgraph.biases, "stem": np.full(4, 2**31 - 1, np.int32)}))
    tensors = list(qgraph.tensors)
    tensors[0] = TensorQuant(tensors[0].scale, 100)
    code = compile_network(replace(qgraph, tensors=tuple(tensors))).files["network.c"].decode()
    bias = int(qgraph.biases["stem"][0]) - 100 * int(qgraph.weights["stem"][0].astype(np.int64).sum())
    assert f"  {bias}, " in code, "the zero point goes into the bias"


def test_constants_are_counted_by_hand_and_as_they_are_written() -> None:
    for seed in range(6):
        qgraph = random_quantized(random_graph(seed), seed=seed)
        for op in qgraph.graph.ops:
            written = constants_for(qgraph, op)
            assert constants_of(op) == written.weights.size + 4 * len(written.numbers) + len(written.shifts), op
    # 3x3 from 3 to 5 channels: weights, and for each channel bias, multiplier and shift.
    assert constants_of(lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=5))).ops[0]) == 5 * 27 + 5 * 9
    assert table_bytes(10, 2) == 11 * 12 + 10 * 52 + 2 * 2
    assert table_bytes(300, 2) == 301 * 12 + 300 * 60 + 2 * 4


def test_what_no_core_was_measured_for_is_a_bound() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    sizes = {core: estimate(graph, "compiled", core=core).code for core in ("cortex-m4", "cortex-m0plus", "xtensa-lx7", None)}
    assert [code.evidence for code in sizes.values() if code] == ["fitted", "fitted", "bound", "bound"]
    assert sizes["xtensa-lx7"] is not None and sizes["cortex-m0plus"] is not None
    assert sizes["xtensa-lx7"].runtime_bytes == sizes["cortex-m0plus"].runtime_bytes
    with pytest.raises(UserError, match=r"a \.tflite is not compiled"):
        parse_model(dummy_file(graph)).estimate("compiled")


def test_a_model_that_is_not_compiled_is_refused_by_name(tmp_path: Path) -> None:
    graph = lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=4)))
    made = Made(b"", graph.input, "tflm", ("a", "b"), images_of(graph), np.zeros(2, np.int64))
    with pytest.raises(UserError, match="another exporter"):
        write_format(made, tmp_path)
    turned = write_format(replace(made, qgraph=random_quantized(graph), input_rotation=180), tmp_path / "turned")
    assert (turned / "network.c").read_bytes() == compile_network(random_quantized(graph), rotation=180).files["network.c"]
    folder = write_format(replace(made, qgraph=random_quantized(graph)), tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["network.c", "network.h"]


# The stack


def test_the_stack_is_the_way_above_a_kernel_the_pointers_to_rows_and_the_deepest_kernel() -> None:
    wide, plain = (lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=4, kernel=kernel))) for kernel in (5, 3))
    table = sizes()["cortex-m4"].stack
    assert table["conv"] > table["fc"] > table["mean"] > 0
    assert network_stack(wide, "cortex-m4") == table[""] + SPARE_STACK_BYTES + 4 * 5 + table["conv"]
    assert network_stack(wide, "cortex-m4") - network_stack(plain, "cortex-m4") == 4 * 2
    bare = Builder((4, 4, 8))
    logits = bare.dense("fc", bare.mean("mean", 0), 2)
    graph = Graph(tuple(bare.tensors), tuple(bare.ops), Input(4, 4, 8), (0,), (logits,))
    assert network_stack(graph, "cortex-m4") == table[""] + SPARE_STACK_BYTES + 4 + table["fc"], "no convolution: a way that ends sooner"
    most = max(network_stack(wide, core) for core in sizes())
    assert network_stack(wide, None) == network_stack(wide, "xtensa-lx7") == most > network_stack(wide, "cortex-m4")
    model = compile_network(random_quantized(wide))
    assert f"#define NETWORK_STACK_BYTES {most}\n" in model.files["network.h"].decode()


def test_the_promise_of_the_stack_is_shown() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    document = estimate(graph, "compiled", core="cortex-m4").to_json()
    assert document["stack_bytes"] == network_stack(graph, "cortex-m4") > 300
    assert document["evidence"]["stack"][0] == "bound"
    other = estimate(graph, "tflm", core="cortex-m4").to_json()
    assert other["stack_bytes"] is None and "stack" not in other["evidence"]


def test_runs_on_emulated_cores_kept_to_the_promises() -> None:
    """The committed campaign: results/benchmarks/compiled.json."""
    document = json.loads((Path(__file__).parent.parent / "results" / "benchmarks" / "compiled.json").read_text())
    rows = document["emulated"] + document["beside"]
    assert {(r["core"], r["frame"]) for r in rows} >= {(core, frame) for core in benchmark("compiled_equal").CORE_NAMES for frame in FRAMES}
    for core in benchmark("compiled_equal").CORE_NAMES:
        assert len({r["name"] for r in rows if r["core"] == core}) >= 40
    for row in rows:
        assert row["equal"] and 0 <= row["area_bytes_promised"] - row["area_bytes_touched"] < ALIGNMENT, row
        assert 0.5 * row["stack_bytes_promised"] < row["stack_bytes"] <= row["stack_bytes_promised"], row
        if not row["name"].startswith("odd "):
            assert row["program_bytes_promised"] == pytest.approx(row["flash_bytes"], rel=0.011), row
        if "tflm_by_operator" in row:
            ratios = [ours / theirs for ours, theirs in zip(row["by_operator"], row["tflm_by_operator"], strict=True)]
            assert row["instructions"] <= 0.95 * sum(row["tflm_by_operator"]) and max(ratios) <= 1.10, row["name"]
    zoo = {f"zoo {name}": lower(load_arch(name)) for name in benchmark("compiled_equal").BESIDE}
    for row in document["beside"]:
        now = benchmark("compiled_equal").promised(zoo[row["name"]], row["core"], row["frame"])
        assert now == {key: row[key] for key in now}, "the page says what is promised today"


# Instructions


def turns(
    kind: str, kernel: tuple[int, int], stride: tuple[int, int], source: tuple[int, int, int], out: tuple[int, int, int]
) -> dict[str, int]:
    """The loops of the kernels, turn by turn as the C code does."""
    found: dict[str, int] = defaultdict(int)
    (height, width, deep), (down, across, channels) = source, out
    top = max((down - 1) * stride[0] + kernel[0] - height, 0) // 2
    left = max((across - 1) * stride[1] + kernel[1] - width, 0) // 2

    def product(pixels: int, columns: int) -> None:
        name = "pair" if pixels == 2 else "single"
        found[name] += 1
        for _ in range(0, channels, 2):
            found[f"{name} C/2"] += 1
            found[f"{name} C/2 K"] += columns
            found[f"{name} C/2 K/4"] += columns // 4
            found[f"{name} C/2 K%4"] += columns % 4
            found[f"{name} C/2 K/16"] += len(range(0, columns, 16))
        found["px C"] += pixels * channels

    for y in range(down):
        found["step"] += 1
        rows = [0 <= y * stride[0] + i - top < height for i in range(kernel[0])]
        if kind == "conv" and kernel == (1, 1):
            found["calls"] += 1
        for x in range(0, across, 2):
            pixels = min(2, across - x)
            if kind == "conv":
                found["calls"] += kernel != (1, 1)
                product(pixels, kernel[0] * kernel[1] * deep)
        if kind == "conv" and kernel == (1, 1):
            continue
        fours = len(range(0, channels, 4)) if kind == "dw" else 1
        found["step C/4"] += fours if kind == "dw" else 0
        for x in range(across):
            first = x * stride[1] - left
            inside = sum(0 <= at < width for at in range(first, first + kernel[1]))
            for there in rows:
                if kind == "conv":
                    found["px lines"] += 1
                    edge = not there or inside < kernel[1]
                    found["set"] += edge
                    found["set bytes"] += edge * kernel[1] * deep
                    found["copied"] += there
                    found["copied bytes"] += there * inside * deep
                else:
                    found["px C/4 lines"] += fours
                    found["lines"] += there * fours
                    three = there and inside == kernel[1] == 3
                    found["threes"] += three * fours
                    found["in"] += there * (not three) * inside * fours
            found["px"] += kind == "conv"
            if kind == "dw":
                found["px C/4"] += fours
                found["px C%4"] += channels % 4
    return found


@pytest.mark.parametrize("kind", ["conv", "dw"])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (4, 3), (3, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("source", [(8, 8, 4), (7, 9, 5), (3, 3, 18), (5, 2, 1)])
def test_loops_turn_as_often_as_the_formula_says(
    kind: str, kernel: tuple[int, int], stride: tuple[int, int], source: tuple[int, int, int]
) -> None:
    out = (-(-source[0] // stride[0]), -(-source[1] // stride[1]), source[2] if kind == "dw" else 7)
    found = loops(kind, kernel, stride, [source], out)
    wanted = turns(kind, kernel, stride, source, out)
    assert found == {name: wanted[name] for name in found}
    assert {name for name, count in wanted.items() if count} <= set(found)


def test_other_loops_by_hand() -> None:
    assert loops("fc", (1, 1), (1, 1), [(21,)], (3,)) == {
        "step": 1, "calls": 1, "pair": 0, "single": 1, "px C": 3,
        "pair C/2": 0, "pair C/2 K": 0, "pair C/2 K/4": 0, "pair C/2 K%4": 0, "pair C/2 K/16": 0,
        "single C/2": 2, "single C/2 K": 42, "single C/2 K/4": 10, "single C/2 K%4": 2, "single C/2 K/16": 4,
    }  # fmt: skip
    assert loops("mean", (1, 1), (1, 1), [(3, 4, 5)], (5,)) == {"step": 3, "px": 12, "in": 60, "C": 5}
    assert loops("add", (1, 1), (1, 1), [(3, 4, 5)] * 2, (3, 4, 5)) == {"step": 3, "out": 60}
    assert loops("mul", (1, 1), (1, 1), [(3, 4, 5), (5,)], (3, 4, 5)) == {"step": 3, "px": 12, "out": 60}
    assert loops("max_pool", (2, 2), (2, 2), [(6, 8, 5)], (3, 4, 5)) == {"step": 3, "px": 12, "out": 60, "out lines": 120, "in": 240}
    assert [loop_group("max_pool", (2, 2), (2, 2)), loop_group("max_pool", (3, 3), (2, 2))] == ["max_gather", "max_pool"]
    assert [loop_group("fc", (1, 1), (1, 1)), loop_group("conv", (1, 1), (2, 2)), loop_group("conv", (3, 1), (1, 1))] == [
        "dense", "dense", "conv",
    ]  # fmt: skip


def test_the_committed_formulas_are_the_fit_of_the_committed_counts() -> None:
    bench = benchmark("compiled_counts")
    document = json.loads((Path(__file__).parent.parent / "results" / "benchmarks" / "compiled.json").read_text())
    cores = {row["core"] for row in document["emulated"]}
    assert {name for name, table in tables().items() if table.compiled} == {f"{core} compiled" for core in cores}
    for core in cores:
        table, networks = tables()[f"{core} compiled"], bench.counted(document, core)
        made, errors, whole = bench.fit(networks, bench.conversion(networks))
        assert table.groups == {group: {term: pytest.approx(value, rel=1e-3) for term, value in row.items()} for group, row in made.items()}
        assert table.error == {group: pytest.approx((np.abs(e).mean(), np.abs(e).max()), abs=2e-4) for group, e in errors.items() if e}
        assert np.abs(whole).mean() < 0.02 and np.abs(whole).max() < 0.10, core
    assert counts_of("cortex-m4", "compiled") is counts_of("cortex-m4", "compiled-rows") is tables()["cortex-m4 compiled"]


def test_time_is_not_known_but_with_times_of_ones_own(tmp_path: Path) -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    cost = estimate(graph, "compiled", core="cortex-m4", clock_mhz=100.0)
    assert cost.latency_ms is None and cost.instructions is not None
    assert cost.instructions == sum(op.instructions or 0 for op in cost.layers)
    text = "name: x\nsram: 64 KiB\nflash: 1 MiB\ncore: cortex-m4\nclock_mhz: 100\nruntime: compiled\n"
    (tmp_path / "limited.yaml").write_text(text + "latency_ms: 100\n")
    with pytest.raises(ConfigError, match="instructions are counted, time is not known"):
        load_budget(tmp_path / "limited.yaml")
    (tmp_path / "own.csv").write_text("net,ms\nmcunet-tiny2,90\n")
    (tmp_path / "own.yaml").write_text(text + "latency: own.csv\nlatency_ms: 100\n")
    own = load_budget(tmp_path / "own.yaml")
    assert estimate(graph, "compiled", core="cortex-m4", clock_mhz=100.0, timing=own.timing).latency_ms == pytest.approx(90, rel=0.05)


# The code, on emulated cores


@needs_tools
@pytest.mark.parametrize(
    "core", ["cortex-m0plus", "cortex-m4", *(pytest.param(c, marks=pytest.mark.slow) for c in ("cortex-m7", "cortex-m33", "cortex-m55"))]
)
def test_a_network_on_emulated_cores(core: str) -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    qgraph = random_quantized(graph, seed=1)
    images = images_of(graph, 1)
    model = compile_network(qgraph, name="net")
    ran = run_network(CORES[core], "net", model.files, [images[0].tobytes()], outputs=graph.classes, operators=len(graph.ops))
    assert ran.outputs == (outputs_of(qgraph, images)[0].tobytes(),)
    assert model.plan.area_bytes - ALIGNMENT < ran.touched_bytes <= model.plan.area_bytes
    assert model.work_bytes + model.stack_bytes(core) <= 16 * 1024
    assert ran.flash_bytes <= 56 * 1024
    cost = estimate(graph, "compiled-rows", core=core)
    assert (cost.sram_bytes, cost.flash_bytes) == (model.work_bytes, model.constant_bytes) and cost.code is not None
    assert cost.stack_bytes == model.stack_bytes(core)
    assert 0.6 * cost.stack_bytes < ran.stack_bytes <= cost.stack_bytes
    assert cost.instructions == pytest.approx(ran.instructions, rel=0.03), "the conversion of the pixels is not in it"
    assert cost.code.evidence == "fitted" and cost.program_bytes == pytest.approx(ran.flash_bytes, rel=0.01)
    assert sum(ran.by_operator) > 0 and len(ran.by_operator) == len(graph.ops)
    if core in ("cortex-m4", "cortex-m7"):
        assert ran.instructions <= 0.90 * 7_927_415, "TFLM with CMSIS-NN, measured by benchmarks/compiled_equal.py"


def test_a_mean_reads_each_row_once() -> None:
    graph = lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=4)))
    mean = next(op for op in graph.ops if isinstance(op, Mean))
    assert [reads(graph, mean, step) for step in range(8)] == [((step, step),) for step in range(8)] and steps_of(graph, mean) == (8, 8)
    assert state_of(graph, mean) == 16
