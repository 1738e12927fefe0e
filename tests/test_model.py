"""Network: the graph's MACs and parameters exactly, TFLite's SAME padding, reproducible weights."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable, load_arch
from tinynas.graph import Graph, lower, same_padding
from tinynas.model import Network, inherit, module_name, normalise, trainable_groups


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
    x = normalise(pixels)
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


def test_inherit_copies_what_is_common() -> None:
    def net(out: int, kernel: int, seed: int) -> Network:
        return Network(lower(Arch(height=8, width=8, classes=2, blocks=(MBConv(out=out, kernel=kernel, expand=2),))), seed=seed)

    parent, same, wider = net(4, 3, 0), net(4, 3, 1), net(6, 5, 1)
    drawn = wider.named_op("s0.b0.project")[0].weight.clone()
    assert inherit(same, parent.state_dict()) == len(same.state_dict())
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(same.eval()(x), parent.eval()(x))
    inherit(wider, parent.state_dict())
    assert torch.equal(wider.named_op("s0.b0.dw")[0].weight[:, :, 1:4, 1:4], parent.named_op("s0.b0.dw")[0].weight)
    assert torch.equal(wider.named_op("s0.b0.project")[0].weight[:4], parent.named_op("s0.b0.project")[0].weight)
    assert torch.equal(wider.named_op("s0.b0.project")[0].weight[4:], drawn[4:])


def staged(*depths: int, **block: float) -> Graph:
    """A network of stages of 4, 6, 8, ... channels, its operators named by stage and place in it."""
    blocks = [
        MBConv(out=4 + 2 * s, stride=2 if b == 0 else 1, **{"kernel": 3, "expand": 2, **block})
        for s, d in enumerate(depths)
        for b in range(d)
    ]
    stem, head = ConvLayer(out=4, kernel=3), ConvLayer(out=10, kernel=1)
    return lower(Arch(height=32, width=32, classes=2, stem=stem, blocks=tuple(blocks), head=head))


def test_a_deeper_early_stage_inherits_stage_by_stage() -> None:
    parent, child = Network(staged(1, 2, 1), seed=0), Network(staged(2, 2, 1), seed=1)
    drawn = {key: value.clone() for key, value in child.state_dict().items()}
    theirs = parent.state_dict()
    assert inherit(child, theirs) == len(theirs)
    for key, value in child.state_dict().items():
        same_place = not key.startswith("s0_b1_")
        assert torch.equal(value, theirs[key] if same_place else drawn[key]), key
    assert any(key.startswith("s1_b1_dw") for key in theirs)


def test_inherited_kernels_are_centred_whether_they_grow_or_shrink() -> None:
    small, large = Network(staged(1, kernel=3), seed=0), Network(staged(1, kernel=5), seed=1)
    ring = large.named_op("s0.b0.dw")[0].weight.detach().clone()
    inherit(large, small.state_dict())
    grown = large.named_op("s0.b0.dw")[0].weight.detach()
    assert torch.equal(grown[:, :, 1:4, 1:4], small.named_op("s0.b0.dw")[0].weight)
    ring[:, :, 1:4, 1:4] = grown[:, :, 1:4, 1:4]
    assert torch.equal(grown, ring), "what lies around them stays as drawn"
    again = Network(staged(1, kernel=3), seed=2)
    inherit(again, large.state_dict())
    assert torch.equal(again.named_op("s0.b0.dw")[0].weight, grown[:, :, 1:4, 1:4])


def test_a_channel_keeps_its_weights_and_statistics_from_layer_to_layer() -> None:
    narrow, wide = Network(staged(1, expand=2), seed=0), Network(staged(1, expand=3), seed=1)
    for module in narrow.modules():
        if isinstance(module, nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, 1, 2)
            torch.nn.init.uniform_(module.running_var, 2, 3)
            torch.nn.init.uniform_(module.weight, 3, 4)
    inherit(wide, narrow.state_dict())
    for name, axis in (("expand", 0), ("dw", 0), ("project", 1)):
        (few, norm), (many, more) = narrow.named_op(f"s0.b0.{name}"), wide.named_op(f"s0.b0.{name}")
        # 8 of 12 channels between expansion and projection are the parent's, the same 8 in all three layers.
        assert torch.equal(many.weight.narrow(axis, 0, 8), few.weight)
        assert norm is not None and more is not None
        kept = len(norm.weight)
        for values, known in ((more.running_mean, norm.running_mean), (more.running_var, norm.running_var), (more.weight, norm.weight)):
            assert values is not None and known is not None
            assert torch.equal(values[:kept], known)
        assert more.running_mean is not None and more.running_var is not None
        assert more.running_mean[kept:].eq(0).all()
        assert more.running_var[kept:].eq(1).all()
        assert len(more.weight) == (4 if name == "project" else 12)


def test_blocks_of_other_operators_inherit_nothing() -> None:
    plain = Network(lower(Arch(height=8, width=8, classes=2, blocks=(MBConv(out=4, expand=1),))), seed=0)
    graph = lower(Arch(height=8, width=8, classes=2, blocks=(MBConv(out=4, expand=2),)))
    expanded = Network(graph, seed=1)
    drawn = {key: value.clone() for key, value in expanded.state_dict().items()}
    assert inherit(expanded, plain.state_dict()) == 2, "the classifier's weights and biases"
    assert all(torch.equal(value, drawn[key]) for key, value in expanded.state_dict().items() if not key.startswith("fc"))
    # A classifier behind a head reads other features than one behind the last block.
    first = module_name(graph.ops[1].name)
    headed = Network(lower(Arch(height=8, width=8, classes=2, blocks=(MBConv(out=4, expand=2),), head=ConvLayer(out=4, kernel=1))), seed=2)
    ours = headed.named_op("fc")[0].weight.clone()
    inherit(headed, expanded.state_dict())
    assert torch.equal(headed.named_op("fc")[0].weight, ours)
    assert torch.equal(headed.get_submodule(first).conv.weight, expanded.get_submodule(first).conv.weight)
