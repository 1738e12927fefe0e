"""Network: the graph's MACs and parameters exactly, TFLite's SAME padding, reproducible weights."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable, load_arch
from tinynas.graph import Graph, lower, same_padding
from tinynas.inputs import Input
from tinynas.model import Network, convolve, module_name, normalise, trainable_groups


def random_arch(rng: random.Random) -> Arch:
    blocks: list[MBConv | Separable | ConvLayer | Pool] = []
    carried = stem = rng.choice([3, 8, 12])
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(["mbconv", "mbconv", "separable", "conv"])
        out, kernel, stride = rng.choice([4, 8, carried]), rng.choice([1, 2, 3, 5, 7]), rng.choice([1, 2, 3])
        if kind == "mbconv":
            residual = stride == 1 and out == carried
            blocks.append(MBConv(out=out, kernel=kernel, stride=stride, expand=rng.choice([1, 1.5, 3]), residual=residual))
        elif kind == "separable":
            blocks.append(Separable(out=out, kernel=kernel, stride=stride))
        else:
            blocks.append(ConvLayer(out=out, kernel=kernel, stride=stride, act=rng.choice(["relu", "none"])))
        carried = out
    return Arch(
        height=rng.randint(9, 20),
        width=rng.randint(9, 20),
        channels=rng.choice([1, 3]),
        classes=rng.randint(2, 5),
        stem=ConvLayer(out=stem, kernel=rng.choice([3, 5]), stride=rng.choice([1, 2])),
        blocks=tuple(blocks),
        head=ConvLayer(out=10, kernel=1) if rng.random() < 0.5 else None,
    )


def counted_macs(network: Network, graph: Graph) -> int:
    """Multiplications the modules really execute, from hooks on convolutions and linear layers."""
    total = 0

    def hook(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        else:
            assert isinstance(module, nn.Linear)
            total += module.weight.numel()

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(hook)
    height, width, channels = graph.input.shape
    with torch.no_grad():
        network.eval()(torch.zeros(1, channels, height, width))
    return total


def parameters(network: Network) -> tuple[int, int]:
    """(weights, folded biases)."""
    convs = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    return sum(m.weight.numel() for m in convs), sum(m.weight.shape[0] for m in convs)


def test_mcunet_tiny2_has_the_published_macs_and_weights() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    network = Network(graph)
    assert counted_macs(network, graph) == 1_674_512
    assert parameters(network) == (37_700, 1_318)


@pytest.mark.parametrize("seed", range(12))
def test_macs_and_shapes_of_the_module_are_the_graphs(seed: int) -> None:
    graph = lower(random_arch(random.Random(seed)))
    network = Network(graph).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for op in graph.ops:
        network.get_submodule(module_name(op.name)).register_forward_hook(
            lambda _m, _i, out, name=op.name: shapes.__setitem__(name, tuple(out.shape[1:]))
        )
    macs = 0
    for op in graph.ops:
        out = graph.shape(op.output)
        if hasattr(op, "in_channels"):
            macs += math.prod(out) * op.in_channels * math.prod(op.kernel)
        elif hasattr(op, "channels"):
            macs += math.prod(out) * math.prod(op.kernel)
        elif hasattr(op, "in_features"):
            macs += op.in_features * op.out_features
    assert counted_macs(network, graph) == macs
    for op in graph.ops:
        out = graph.shape(op.output)
        assert shapes[op.name] == ((out[2], out[0], out[1]) if len(out) == 3 else out)


def tflite_conv(image: np.ndarray, weight: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """A convolution written from TFLite's SAME rule alone: windows start at -before, what lies outside is zero."""
    height, width, _ = image.shape
    outputs, inputs, kernel, _ = weight.shape
    top, left = same_padding(height, kernel, stride)[0], same_padding(width, kernel, stride)[0]
    out = np.zeros((-(-height // stride), -(-width // stride), outputs))
    for y, x, o in itertools.product(*map(range, out.shape)):
        first = o // (outputs // groups) * inputs
        for dy, dx in itertools.product(range(kernel), repeat=2):
            row, col = y * stride - top + dy, x * stride - left + dx
            if 0 <= row < height and 0 <= col < width:
                out[y, x, o] += image[row, col, first : first + inputs] @ weight[o, :, dy, dx]
    return out


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(8, 3, 2), (7, 3, 2), (8, 5, 2), (6, 7, 2), (7, 3, 1), (8, 2, 1), (8, 1, 2), (7, 2, 3)]
)
@pytest.mark.parametrize("depthwise", [False, True])
def test_same_padding_equals_a_reference_written_by_hand(size: int, kernel: int, stride: int, depthwise: bool) -> None:
    block = Separable(out=4, kernel=kernel, stride=stride) if depthwise else ConvLayer(out=4, kernel=kernel, stride=stride, act="none")
    graph = lower(Arch(height=size, width=size + 1, channels=3, classes=2, blocks=(block,)))
    network = Network(graph, seed=kernel).eval()
    name = graph.ops[0].name
    conv, _ = network.named_op(name)
    seen: list[torch.Tensor] = []
    conv.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    image = torch.rand(1, 3, size, size + 1, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.no_grad():
        network(image)
    expected = tflite_conv(image[0].permute(1, 2, 0).numpy(), conv.weight.detach().numpy(), stride, 3 if depthwise else 1)
    np.testing.assert_allclose(seen[0][0].permute(1, 2, 0).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("seed", range(40))
def test_one_channel_with_strides_into_a_column_is_convolved_rightly(seed: int) -> None:
    # oneDNN does not: of maps as narrow as these about one in four come out wrong by torch's own function (2.13).
    rng = np.random.default_rng(seed)
    height, width, outputs = (int(rng.integers(1, high)) for high in (41, 5, 33))
    kernel, stride = (int(rng.choice([1, 3, 5, 9])), int(rng.choice([2, 3, 5, 7]))), (1, int(rng.integers(2, 5)))
    padding = (kernel[0] // 2, kernel[1] // 2)
    x = torch.from_numpy(rng.integers(-128, 128, (2, height, width, 1))).float().permute(0, 3, 1, 2)
    weight = torch.from_numpy(rng.integers(-127, 128, (outputs, *kernel, 1))).float().permute(0, 3, 1, 2)
    expected = F.conv2d(x.double(), weight.double(), None, stride, padding)
    assert expected.abs().max() < 2**24, "whole numbers, exact in float32"
    for _ in range(3):  # where it is wrong, each call is another one
        assert torch.equal(convolve(x, weight, None, stride, padding).double(), expected)


def test_pooling_is_valid_and_global_mean_is_a_mean() -> None:
    graph = lower(
        Arch(height=9, width=8, channels=1, classes=2, blocks=(Pool(op="max", kernel=2, stride=2), Pool(op="avg", kernel=2, stride=1)))
    )
    network = Network(graph).eval()
    pooled: list[torch.Tensor] = []
    network.get_submodule("pool").register_forward_hook(lambda _m, _i, out: pooled.append(out))
    image = torch.arange(72.0).reshape(1, 1, 9, 8)
    with torch.no_grad():
        network(image)
    corners = image[0, 0, 1:8:2, 1::2]
    windows = (corners[:-1, :-1] + corners[1:, :-1] + corners[:-1, 1:] + corners[1:, 1:]) / 4
    assert pooled[0].item() == pytest.approx(windows.mean().item())


def test_same_seed_same_weights_and_the_global_generator_is_left_alone() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    before = torch.get_rng_state()
    first, second, other = Network(graph, seed=3), Network(graph, seed=3), Network(graph, seed=4)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    assert not torch.equal(first.named_op("stem")[0].weight, other.named_op("stem")[0].weight)


def test_normalise_is_exact_and_channels_last() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3).contiguous()
    x = normalise(pixels, Input(16, 16, 3))
    assert x.shape == (1, 3, 16, 16) and x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x * 128 + 128, pixels.permute(0, 3, 1, 2).float())


def test_only_weights_decay() -> None:
    network = Network(lower(load_arch("mcunet-tiny2")))
    decayed, plain = trainable_groups(network, 0.1)
    assert sum(p.numel() for p in decayed["params"]) == 37_700
    assert sum(p.numel() for p in plain["params"]) == 2 * (1_318 - 2) + 2  # batch norm's scale and shift, the classifier's bias
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_dropout_acts_in_training_only_and_follows_its_generator() -> None:
    network = Network(lower(load_arch("mcunet-tiny2")))
    network.dropout = 0.5
    x = torch.rand(4, 3, 48, 48)
    for parameter in network.fc.parameters():
        nn.init.ones_(parameter)

    def logits(seed: int) -> torch.Tensor:
        network.generator = torch.Generator().manual_seed(seed)
        return network(x).detach()

    network.train()
    assert torch.equal(logits(1), logits(1)) and not torch.equal(logits(1), logits(2))
    network.eval()
    assert torch.equal(logits(1), logits(2))
