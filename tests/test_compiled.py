"""The network as C: outputs that equal TFLM's, in the promised memory, nothing computed twice; here and on emulated cores."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from int8_cases import random_graph
from test_cost_tflite import benchmark

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, load_arch
from tinynas.cost import estimate
from tinynas.cost.compiled import constants_of, table_bytes
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
    state_of,
    steps_of,
    work_area_bytes,
)
from tinynas.cost.tflite import parse_model
from tinynas.errors import InternalError, UserError
from tinynas.export.compiled import _constants, compile_network, write_format
from tinynas.export.formats import Made
from tinynas.export.tflite import dummy_file
from tinynas.graph import Builder, Graph, Mean, lower
from tinynas.inputs import Input
from tinynas.model import normalise
from tinynas.quantize import FakeQuantNetwork, QuantizedGraph, TensorQuant
from tinynas.quantize.grid import random_quantized
from tinynas.target.cores import CORES
from tinynas.target.library import COMPILER
from tinynas.target.program import run_network

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc)")
needs_tools = pytest.mark.skipif(
    shutil.which(COMPILER) is None or shutil.which("qemu-system-arm") is None, reason=f"{COMPILER} or qemu-system-arm is not installed"
)


def outputs_of(qgraph: QuantizedGraph, images: np.ndarray) -> np.ndarray:
    return FakeQuantNetwork(qgraph)(normalise(torch.from_numpy(images), qgraph.graph.input)).numpy().astype(np.int8)


def images_of(graph: Graph, count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *graph.input.shape), dtype=np.uint8)


def gated(size: int = 12) -> Graph:
    """A map that is gated by its own mean inside a shortcut: the map must be whole before the gate is known."""
    build = Builder((size, size, 3))
    x = build.conv("stem", 0, 8, (3, 3), (2, 2), "relu6")
    y = build.depthwise("dw", x, (3, 3), (1, 1), "relu")
    gate = build.dense("gate", build.mean("squeeze", y), 8, "relu")
    z = build.pointwise("pw", build.mul("scale", y, gate), 8, "none")
    total = build.add("sum", x, build.mul("square", z, y))
    logits = build.dense("fc", build.mean("pool", total), 3)
    return Graph(tuple(build.tensors), tuple(build.ops), Input(size, size, 3), (0,), (logits,))


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
            plan = plan_streamed(
                lower(Arch(height=29, width=29, classes=100, stem=ConvLayer(out=20, kernel=1), blocks=blocks)), frame=frame
            )
            rehearse(plan)


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


@needs_gcc
@pytest.mark.parametrize("first", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_compiled_networks_give_tflms_numbers_in_the_promised_memory(first: int, tmp_path: Path) -> None:
    harness = benchmark("compiled_equal")
    networks = [random_quantized(random_graph(seed), seed=seed) for seed in range(300, 306)] + stubborn()
    frames = [images_of(q.graph, seed=i) for i, q in enumerate(networks)]
    models = [compile_network(q, name=f"net{i}", frame=FRAMES[(first + i) % 2]) for i, q in enumerate(networks)]
    built = harness.program(models, 2, tmp_path, harness.SANITIZED)
    rans = harness.run_program(built, models, frames)
    for qgraph, model, images, ran in zip(networks, models, frames, rans, strict=True):
        np.testing.assert_array_equal(ran.outputs, outputs_of(qgraph, images), err_msg=model.name)
        assert ran.size == model.work_bytes
        assert model.plan.area_bytes - ALIGNMENT < ran.touched <= model.plan.area_bytes
    assert ["return rescale_wide(sum" in m.files[f"{m.name}.c"].decode() for m in models[5:9]] == [False, True, True, False]


def test_only_the_kernels_that_are_used_are_in_it() -> None:
    graph = lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=4)))
    code = compile_network(random_quantized(graph)).files["network.c"].decode()
    assert "conv_row" in code and "mean_row" in code
    assert not any(word in code for word in ("dw_row", "add_row", "mul_row", "pool_row", "max_gather", "malloc", "@"))
    assert compile_network(random_quantized(graph)).files == compile_network(random_quantized(graph)).files


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
            written = _constants(qgraph, op)
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
    with pytest.raises(UserError, match="upside down"):
        write_format(replace(made, qgraph=random_quantized(graph), input_rotation=180), tmp_path)
    folder = write_format(replace(made, qgraph=random_quantized(graph)), tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["network.c", "network.h"]


# The code, on emulated cores


@needs_tools
@pytest.mark.parametrize(
    "core", ["cortex-m0plus", "cortex-m4", *(pytest.param(c, marks=pytest.mark.slow) for c in ("cortex-m7", "cortex-m55"))]
)
def test_a_network_on_emulated_cores(core: str) -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    qgraph = random_quantized(graph, seed=1)
    images = images_of(graph, 1)
    model = compile_network(qgraph, name="net")
    ran = run_network(CORES[core], "net", model.files, [images[0].tobytes()], outputs=graph.classes, operators=len(graph.ops))
    assert ran.outputs == (outputs_of(qgraph, images)[0].tobytes(),)
    assert model.plan.area_bytes - ALIGNMENT < ran.touched_bytes <= model.plan.area_bytes
    assert model.work_bytes + ran.stack_bytes <= 16 * 1024
    assert ran.flash_bytes <= 56 * 1024
    cost = estimate(graph, "compiled-rows", core=core)
    assert (cost.sram_bytes, cost.flash_bytes) == (model.work_bytes, model.constant_bytes) and cost.code is not None
    assert cost.code.evidence == "fitted" and cost.program_bytes == pytest.approx(ran.flash_bytes, rel=0.01)
    assert ran.stack_bytes <= 512
    assert sum(ran.by_operator) > 0 and len(ran.by_operator) == len(graph.ops)
    if core in ("cortex-m4", "cortex-m7"):
        assert ran.instructions <= 1.10 * 7_927_415, "TFLM with CMSIS-NN, measured by benchmarks/compiled_equal.py"


def test_a_mean_reads_each_row_once() -> None:
    graph = lower(Arch(height=8, width=8, classes=2, stem=ConvLayer(out=4)))
    mean = next(op for op in graph.ops if isinstance(op, Mean))
    assert [reads(graph, mean, step) for step in range(8)] == [((step, step),) for step in range(8)] and steps_of(graph, mean) == (8, 8)
    assert state_of(graph, mean) == 16
