"""Causal networks, and the stream of them: padding in front alone, the file that holds it, one frame at a time as the whole clip."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable
from tinynas.cost import estimate
from tinynas.cost.memory import plan_offline
from tinynas.cost.tflite import parse_model
from tinynas.errors import ArchError
from tinynas.export.sandbox import run_tflm
from tinynas.export.tflite import ModelMeta, serialize, storable, with_zeros_behind
from tinynas.graph import Graph, Padding, causal_padding, lower, padded_as_same, same_padding, zeros_behind
from tinynas.model import Network, normalise
from tinynas.quantize import FakeQuantNetwork, QuantizedGraph
from tinynas.quantize.grid import random_quantized
from tinynas.train.slices import common_taps


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
