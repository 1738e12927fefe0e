"""Causal networks, and the stream of them: padding in front alone, the file that holds it, one frame at a time as the whole clip."""

from __future__ import annotations

import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from int8_cases import with_bits
from pydantic import ValidationError

from tinynas.api import load_space
from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable
from tinynas.cost import estimate
from tinynas.cost.batch import BatchEstimator
from tinynas.cost.compiled import network_stack
from tinynas.cost.memory import plan_offline
from tinynas.cost.stepwise import StepPlan, plan_steps
from tinynas.cost.streamed import plan_streamed, work_area_bytes
from tinynas.cost.tflite import parse_model
from tinynas.cost.work import from_graph
from tinynas.errors import ArchError, ConfigError, UserError
from tinynas.export.compiled import compile_network
from tinynas.export.formats import FORMATS, Made, check_compiled
from tinynas.export.sandbox import run_tflm
from tinynas.export.stepwise import StreamModel, compile_stream
from tinynas.export.stream_reference import stream_outputs
from tinynas.export.tflite import ModelMeta, serialize, storable, with_zeros_behind
from tinynas.front_end import FrontEnd
from tinynas.graph import Graph, Mean, Padding, causal_padding, lower, padded_as_same, same_padding, zeros_behind
from tinynas.model import Network, normalise
from tinynas.quantize import FakeQuantNetwork, QuantizedGraph
from tinynas.quantize.grid import random_quantized
from tinynas.report.words import stream_words
from tinynas.space import Space
from tinynas.target.cores import CORES
from tinynas.target.library import COMPILER
from tinynas.target.program import compile_program, link_program, run_emulated
from tinynas.train.slices import common_taps

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc)")
needs_tools = pytest.mark.skipif(
    shutil.which(COMPILER) is None or shutil.which("qemu-system-arm") is None, reason=f"{COMPILER} or qemu-system-arm is not installed"
)


def sound(height: int = 17, width: int = 6, **fields: object) -> Arch:
    """A causal network for ``height`` frames of ``width`` features."""
    given = {"height": height, "width": width, "channels": 1, "classes": 3, "input_kind": "features", "causal": True}
    return Arch.model_validate({**given, "stem": ConvLayer(out=4, kernel=(5, 3), stride=2), **fields})


def drawn(seed: int) -> Arch:
    """A causal network with kernels, strides, shortcuts and pooling drawn per axis."""
    draw = random.Random(seed)
    while True:
        channels = draw.choice([4, 5, 8])
        blocks: list[object] = []
        for _ in range(draw.randint(1, 4)):
            size, stride = (draw.choice([1, 2, 3, 5]), draw.choice([1, 3])), (draw.choice([1, 1, 2, 3]), draw.choice([1, 2]))
            match draw.choice(["mb", "same", "separable", "conv", "pool"]):
                case "mb":
                    blocks.append(MBConv(out=channels, kernel=size, stride=stride, expand=draw.choice([1, 2])))
                case "same":
                    act = draw.choice(["relu6", "h_swish"])
                    blocks.append(MBConv(out=channels, kernel=size, expand=draw.choice([1, 2]), residual=True, act=act))
                case "separable":
                    blocks.append(Separable(out=channels, kernel=size, stride=stride))
                case "conv":
                    blocks.append(ConvLayer(out=channels, kernel=size, stride=stride))
                case _:
                    down = draw.choice([2, 3])
                    blocks.append(Pool(op=draw.choice(["max", "avg"]), kernel=(down, 1), stride=(draw.choice([1, 2, down]), 1)))
        stem = ConvLayer(out=channels, kernel=(draw.choice([1, 3, 4]), 3), stride=(draw.choice([1, 2]), draw.choice([1, 2])))
        try:
            arch = sound(draw.randint(9, 33), draw.choice([1, 4, 7]), stem=stem, blocks=tuple(blocks))
            lower(arch)
        except ArchError:
            continue
        return arch


def whole(qgraph: QuantizedGraph, clips: np.ndarray) -> np.ndarray:
    """Outputs (N, classes) of the integer network on whole clips (N, frames, features, channels)."""
    return FakeQuantNetwork(qgraph)(normalise(torch.from_numpy(clips), qgraph.graph.input)).numpy().astype(np.int8)


def clips_of(graph: Graph, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *graph.input.shape), dtype=np.uint8)


# Padding


def test_a_causal_network_pads_the_height_in_front_alone_and_keeps_its_sizes() -> None:
    causal, usual = lower(sound()), lower(sound(causal=False))
    assert [op.padding for op in (causal.ops[0], usual.ops[0])] == [Padding(4, 0, 0, 1), Padding(2, 2, 0, 1)]  # type: ignore[union-attr]
    assert [t.shape for t in causal.tensors] == [t.shape for t in usual.tensors]
    for size in range(1, 40):
        for kernel in range(1, 8):
            for stride in range(1, 5):
                above, below = causal_padding(size, kernel, stride)
                assert (above, below) == (sum(same_padding(size, kernel, stride)), 0)
                assert (size + above - kernel) // stride + 1 == -(-size // stride) or size + above < kernel


def test_causal_is_left_out_of_the_id_where_it_is_false_and_out_of_files() -> None:
    arch = sound(causal=False)
    assert "causal" not in arch.to_yaml()
    assert arch.id == Arch.model_validate(arch.model_dump(exclude={"causal"})).id
    assert sound().id != arch.id
    assert "causal: true" in sound().to_yaml()


@pytest.mark.parametrize("attention", ["se", "spatial"])
def test_a_gate_that_waits_for_the_clip_is_refused(attention: str) -> None:
    with pytest.raises(ValidationError, match="yet to come"):
        sound(blocks=(MBConv(out=4, attention=attention),))  # type: ignore[arg-type]


def test_no_output_row_changes_with_rows_that_come_later() -> None:
    torch.manual_seed(0)
    arch = sound(blocks=(MBConv(out=4, kernel=3, expand=2, residual=True), ConvLayer(out=5, kernel=(3, 1))))
    graph = lower(arch)
    network = Network(graph).eval()
    seen: list[torch.Tensor] = []
    last = graph.ops[-3].name
    network.named_op(last)[0].register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    clips = torch.randn(1, 1, 17, 6)
    changed = clips.clone()
    changed[:, :, 13:] += 1.0  # frame 13 is read by the stem's row 7 at first: 2 * 7 - 4 + 4 = 14, and row 6 ends with 12
    with torch.no_grad():
        network(clips)
        network(changed)
    assert torch.equal(seen[0][:, :, :7], seen[1][:, :, :7])
    assert not torch.equal(seen[0][:, :, 7:], seen[1][:, :, 7:])


# The file


def test_the_file_holds_kernels_with_zeros_behind_and_gives_what_the_network_gives() -> None:
    for seed in range(3):
        graph = lower(drawn(seed))
        qgraph = random_quantized(graph, seed=seed)
        held = with_zeros_behind(qgraph)
        assert storable(qgraph).graph == held.graph == padded_as_same(graph)
        for name, rows in zeros_behind(graph).items():
            op = next(op for op in graph.ops if op.name == name)
            size = graph.shape(op.inputs[0])[0]
            assert same_padding(size, op.kernel[0] + rows, op.stride[0]) == (rows, rows), name  # type: ignore[union-attr]
            assert not held.weights[name][:, op.kernel[0] :].any()  # type: ignore[union-attr]
        clips = clips_of(graph, 3, seed)
        assert np.array_equal(whole(held, clips), whole(qgraph, clips))
        model = serialize(held, ModelMeta("0" * 10, ("a", "b", "c")), plan_offline(held.graph))
        assert np.array_equal(run_tflm(model, clips).outputs, whole(qgraph, clips)), "TFLM's own kernels"
        assert estimate(graph).flash_bytes == len(model)
        assert parse_model(model).estimate("tflm").macs == estimate(graph).macs, "what TFLM computes"
        assert parse_model(model).estimate("tflm").sram_bytes == estimate(graph).sram_bytes
        assert estimate(graph, "compiled").macs < estimate(graph).macs or not zeros_behind(graph)


def test_a_file_of_paddings_in_front_is_refused_without_them() -> None:
    with pytest.raises(ArchError, match="neither TFLite's SAME nor none"):
        serialize(random_quantized(lower(sound())), ModelMeta("0" * 10, ("a", "b", "c")))


def test_a_kernel_and_a_larger_one_share_their_last_rows() -> None:
    graph = lower(sound(stem=ConvLayer(out=4, kernel=(3, 3))))
    down, across = common_taps(graph, graph.ops[0], (5, 5))  # type: ignore[arg-type]
    assert down == (slice(0, 3), slice(2, 5))
    assert across == (slice(0, 3), slice(1, 4))


# The plan


def test_a_plan_by_hand() -> None:
    # 17x6x1 -> conv 5x3 stride 2 to 4 (9x3) -> dw 3x1 (9x3), pointwise to 5 -> mean -> fc 3
    graph = lower(sound(blocks=(Separable(out=5, kernel=(3, 1)),)))
    plan = plan_steps(graph)
    # Kept: 5 rows of 6 (30 -> 32), 3 of 3 x 4 (36), a place, 5 sums and 9 x 5 int16 of the mean (4 + 20 + 92), 3 outputs (4).
    assert plan.state_bytes == 32 + 36 + 4 + 20 + 92 + 4
    # Passing: patches 2 x 15 (32) with nothing else; a dw row (12) with scratch 4 x 3 (12); dw row and pw row (12 + 16); 5 -> 8.
    assert plan.passing_bytes == 32
    assert plan.counters == 2 * 6 + 5 and plan.counter_bytes == 1
    assert plan.work_bytes == 188 + 32 + 20
    assert (plan.first, plan.every, plan.period) == (17, 2, 2)
    # Every second frame: 3 x 4 x 15 of the stem, 3 x 4 x 3 of the depthwise, 3 x 4 x 5 of the pointwise, 5 x 3 of the classifier.
    assert sorted(plan.macs) == [0, 180 + 36 + 60 + 15]
    assert plan.average_macs == (180 + 36 + 60 + 15) / 2
    assert plan.state_bytes < work_area_bytes(graph, frame="kept")


def test_networks_that_wait_for_what_is_to_come_are_refused() -> None:
    with pytest.raises(UserError, match="pads behind the last row"):
        plan_steps(lower(sound(causal=False)))
    with pytest.raises(UserError, match="a gate"):
        plan_steps(lower(sound(causal=False, stem=None, blocks=(MBConv(out=4, kernel=1, attention="se"),))))


# The code


MAIN = r"""
#include <stdio.h>
#include "net_stream.h"
static const uint8_t frames[][NET_WIDTH * NET_CHANNELS] = {%s};
static net_t m;
int main(void) {
  for (int round = 0; round < 2; ++round) {
    net_reset(&m);
    for (unsigned i = 0; i < sizeof frames / sizeof frames[0]; ++i) {
      if (!net_step(&m, frames[i])) continue;
      printf("%%u", i);
      for (int c = 0; c < NET_OUTPUTS; ++c) printf(" %%d", net_result(&m)[c]);
      printf("\n");
    }
  }
  return sizeof m == NET_WORK_BYTES ? 0 : 1;
}
"""


CORE_MAIN = r"""
#include "emulated.h"
#include "net_stream.h"
static const uint8_t frames[][NET_WIDTH * NET_CHANNELS] = {%(rows)s};
static net_t m;
int main(void) {
  net_reset(&m);
  for (unsigned i = 0; i < sizeof frames / sizeof frames[0]; ++i) {
    if (!net_step(&m, frames[i])) continue;
    printf("out");
    for (int c = 0; c < NET_OUTPUTS; ++c) printf(" %%d", net_result(&m)[c]);
    printf("\n");
  }
  printf("done\n");
  return 0;
}
"""


def built(model: StreamModel, frames: np.ndarray, folder: Path) -> list[list[int]]:
    """What a program with sanitizers says of each output: the frame, and the numbers."""
    folder.mkdir()
    rows = ",\n".join("{" + ",".join(map(str, row.reshape(-1))) + "}" for row in frames)
    for path, content in {**model.files, "main.c": (MAIN % rows).encode()}.items():
        (folder / path).write_bytes(content)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["gcc", *flags, "main.c", "net_stream.c", "-o", "main"], cwd=folder, check=True)
    said = subprocess.run(["./main"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return [[int(word) for word in line.split()] for line in said.splitlines()]


@needs_gcc
@pytest.mark.parametrize("seed", range(6))
def test_a_stream_gives_the_clip_and_then_a_sliding_window(seed: int, tmp_path: Path) -> None:
    arch = drawn(seed + 20)
    if seed % 2:
        arch = with_bits(arch, seed, (8, 4, 2))
    qgraph = random_quantized(lower(arch), seed=seed)
    model = compile_stream(qgraph, name="net")
    frames = arch.height + 3 * model.plan.period
    sound_of_it = np.random.default_rng(seed).integers(0, 256, (frames, arch.width, arch.channels), dtype=np.uint8)
    said = built(model, sound_of_it, tmp_path / "net")
    assert said[: len(said) // 2] == said[len(said) // 2 :], "a reset begins again"
    outputs = {line[0]: line[1:] for line in said}
    clip = outputs[max(frame for frame in outputs if frame < arch.height)]
    assert clip == whole(qgraph, sound_of_it[None, : arch.height])[0].tolist()
    expected = stream_outputs(qgraph, sound_of_it)
    assert outputs == {frame: numbers.tolist() for frame, numbers in expected.items()}
    assert model.constant_bytes == compile_network(qgraph).constant_bytes - 2 * len(plan_streamed(qgraph.graph, frame="rows").segments)


@needs_tools
def test_a_stream_on_an_emulated_core(tmp_path: Path) -> None:
    qgraph = random_quantized(lower(drawn(24)), seed=5)
    model, height = compile_stream(qgraph, name="net"), qgraph.graph.input.height
    frames = clips_of(qgraph.graph, 1, 7)[0]
    rows = ",\n".join("{" + ",".join(map(str, row.reshape(-1))) + "}" for row in frames)
    main = CORE_MAIN % {"rows": rows}
    core = CORES["cortex-m4"]
    objects = compile_program(core, {**model.files, "main.c": main}, tmp_path)
    lines = run_emulated(link_program(core, objects, tmp_path), core)
    said = [[int(word) for word in line[1:]] for line in lines if line[0] == "out"]
    assert said[-1] == whole(qgraph, frames[None])[0].tolist(), height


# The runtime


def test_what_a_stream_costs_is_what_its_code_declares() -> None:
    front = FrontEnd(clip_ms=400, stride_ms=20, bins=8)
    arch = sound(front.frames, 8, front_end=front, blocks=(MBConv(out=4, kernel=3, expand=2, residual=True), Separable(out=6, stride=2)))
    graph = lower(arch)
    cost, model = estimate(graph, "compiled-stream"), compile_stream(random_quantized(graph), name="net")
    header = model.files["net_stream.h"].decode()
    assert f"#define NET_WORK_BYTES {cost.sram_bytes}\n" in header
    assert cost.flash_bytes == model.constant_bytes
    assert cost.instructions is None and cost.latency_ms is None
    assert cost.stack_bytes == network_stack(graph, None)
    told = cost.to_json()["stream"]
    assert told["state_bytes"] + told["passing_bytes"] + told["counter_bytes"] == cost.sram_bytes
    assert told["frames_a_second"] == 50 and told["macs_a_second"] == 50 * told["average_macs"]
    assert told["average_macs"] < told["most_macs"] and told["every"] == 4
    assert estimate(graph, "compiled-rows").to_json()["stream"] is None
    whole_clip = estimate(graph, "compiled-rows").front_end
    assert cost.front_end is not None and whole_clip is not None
    fewer = whole_clip.kept_bytes - cost.front_end.kept_bytes
    assert fewer == (front.frames - 1) * front.features + 8, "of frames it gets one at a time, and has two counters less"
    assert (cost.front_end.hop, whole_clip.hop) == (4, front.frames // 4)
    words = stream_words(cost.stream)  # type: ignore[arg-type]
    assert "outputs from frame" in words and f"{told['most_macs']:,} at most" in words


def test_macs_of_steps_add_up_to_those_of_a_recording() -> None:
    # Without padding in front of strides a clip of whole periods computes what its steps do.
    for seed in range(8):
        graph = lower(drawn(seed + 40))
        plan = plan_steps(graph)
        mean = next(i for i, op in enumerate(graph.ops) if isinstance(op, Mean))
        longer = []
        for periods in (1, 3):
            assert graph.arch is not None
            size = graph.input.height + periods * plan.period
            pieces = from_graph(lower(Arch.model_validate({**graph.arch.model_dump(), "height": size}))).pieces
            longer.append(sum(piece.macs for piece in pieces[:mean]))
        behind = sum(piece.macs for piece in from_graph(graph).pieces[mean + 1 :]) * plan.period // plan.every
        assert longer[1] - longer[0] == 2 * (sum(plan.macs) - behind - mean_macs(graph, plan)), seed


def mean_macs(graph: Graph, plan: StepPlan) -> int:
    """Multiply-accumulates of the mean's rows in a period."""
    index, op = next((i, op) for i, op in enumerate(graph.ops) if isinstance(op, Mean))
    return from_graph(graph).pieces[index].macs // graph.shape(op.inputs[0])[0] * plan.period // plan.every


def test_what_waits_for_later_frames_is_not_searched_and_what_nothing_makes_frames_for_has_no_folder() -> None:
    with pytest.raises(UserError, match=r"read no frame that is yet to come[\s\S]*--set space.causal=true"):
        BatchEstimator(load_space("listen"), 2, "compiled-stream")
    long = {"stem": {"stride": 2}, "stages": [{"out": 8, "stride": [[2, 1]]}] * 12}
    with pytest.raises(UserError, match="up to 8,192 frames one step"):
        BatchEstimator(Space.model_validate({"resolution": 16, "causal": True, **long}), 2, "compiled-stream")
    with pytest.raises(ConfigError, match="causal networks cannot have attention"):
        load_space("attention", ["causal=true"])
    with pytest.raises(UserError, match=r"this network has no front end\n.*use --format stream"):
        check_compiled(["c"], "compiled-stream", lower(sound()).input, exporter="tinynas", io="int8", rotation=0)


def test_the_format_writes_both_files(tmp_path: Path) -> None:
    qgraph = random_quantized(lower(sound()))
    made = Made(b"", qgraph.graph.input, "compiled-stream", (), clips_of(qgraph.graph, 1), np.zeros(1, np.int64), qgraph=qgraph)
    folder = FORMATS["stream"].write(made, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["network_stream.c", "network_stream.h"]
    with pytest.raises(UserError, match="another exporter"):
        FORMATS["stream"].write(replace(made, qgraph=None), tmp_path)
