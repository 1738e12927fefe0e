"""Weights trained with symmetric padding: turned by 180 degrees they give the same outputs with SAME padding."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable, load_arch
from tinynas.errors import ArchError
from tinynas.export.rotate import (
    needs_rotation,
    rotate_images,
    rotate_network,
    rotate_weights,
    rotation_faults,
    symmetric_output,
)
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mean, Padding, Pool2D, lower, same_padding
from tinynas.model import Network


def symmetric_forward(network: Network, x: torch.Tensor) -> torch.Tensor:
    """The network as PyTorch code elsewhere would run it: every convolution padded by k // 2 on all sides."""
    values = {network.graph.inputs[0]: x}
    acts = {"relu6": F.relu6, "relu": F.relu, "none": lambda t: t}
    for op in network.graph.ops:
        y = values[op.inputs[0]]
        match op:
            case Conv2D() | DepthwiseConv2D():
                conv, bn = network.named_op(op.name)
                assert isinstance(conv, torch.nn.Conv2d)
                y = F.conv2d(y, conv.weight, conv.bias, conv.stride, (op.kernel[0] // 2, op.kernel[1] // 2), groups=conv.groups)
                y = acts[op.act](y if bn is None else bn(y))
            case Add():
                y = y + values[op.inputs[1]]
            case Pool2D():
                y = (F.max_pool2d if op.op == "max" else F.avg_pool2d)(y, op.kernel, op.stride)
            case Mean():
                y = y.mean((2, 3))
            case FullyConnected():
                y = network.named_op(op.name)[0](y)
        values[op.output] = y
    return values[network.graph.logits]


def trained(graph: Graph, seed: int) -> Network:
    """A network with batch norm statistics as training leaves them, in double precision and evaluation mode."""
    network = Network(graph, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * 0.5 + 0.5)
    return network.eval()


def random_arch(seed: int) -> Arch:
    """Mixed odd and even sizes, kernels 1 to 7, strides 1 and 2, residuals, grey and colour."""
    rng = random.Random(seed)
    blocks: list[MBConv | Separable | ConvLayer] = []
    carried = rng.choice([4, 6])
    stem = ConvLayer(out=carried, kernel=rng.choice([3, 5]), stride=rng.choice([1, 2]))
    for _ in range(rng.randint(2, 5)):
        kind, out, stride = rng.choice(["mbconv", "separable", "conv"]), rng.choice([4, 6, 8]), rng.choice([1, 2])
        kernel = rng.choice([3, 5, 7])
        if kind == "mbconv":
            blocks.append(MBConv(out=out, kernel=kernel, stride=stride, expand=3, residual=stride == 1 and out == carried))
        elif kind == "separable":
            blocks.append(Separable(out=out, kernel=kernel, stride=stride))
        else:
            blocks.append(ConvLayer(out=out, kernel=kernel, stride=stride, act=rng.choice(["relu6", "relu", "none"])))
        carried = out
    return Arch(
        height=rng.randint(17, 40),
        width=rng.randint(17, 40),
        channels=rng.choice([1, 3]),
        classes=3,
        stem=stem,
        blocks=tuple(blocks),
        head=ConvLayer(out=8, kernel=1),
    )


@pytest.mark.parametrize("seed", range(24))
def test_rotated_weights_give_equal_outputs(seed: int) -> None:
    arch = random_arch(seed)
    graph = lower(arch)
    assert rotation_faults(graph) == []
    network = trained(graph, seed)
    x = torch.rand(2, arch.channels, arch.height, arch.width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        elsewhere = symmetric_forward(network, x)
        unturned = network(x)
        rotate_network(network)
        imported = network(x.flip((2, 3)))
    # Double precision: only the order of the sums differs.
    assert torch.allclose(imported, elsewhere, rtol=0, atol=1e-11)
    assert torch.allclose(unturned, elsewhere, rtol=0, atol=1e-11) != needs_rotation(graph)


def test_equality_is_exact_in_integer_arithmetic() -> None:
    """No rounding at all: small integers in float32 make the two sums equal bit for bit."""
    rng = np.random.default_rng(0)
    for size in range(5, 24):
        for kernel in (1, 3, 5, 7):
            for stride in (1, 2):
                if kernel == 1 and stride == 2:
                    continue
                before, after = same_padding(size, kernel, stride)
                x = torch.tensor(rng.integers(-8, 9, (1, 2, size, size)), dtype=torch.float32)
                w = torch.tensor(rng.integers(-8, 9, (3, 2, kernel, kernel)), dtype=torch.float32)
                elsewhere = F.conv2d(x, w, stride=stride, padding=kernel // 2)
                padded = F.pad(x.flip((2, 3)), (before, after, before, after))
                imported = F.conv2d(padded, w.flip((2, 3)), stride=stride).flip((2, 3))
                assert torch.equal(elsewhere, imported), (size, kernel, stride)


def test_the_zoo_imports_and_the_layouts_agree() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    assert needs_rotation(graph)
    assert rotation_faults(graph) == []
    network = trained(graph, 1)
    torch_weights = {op.name: network.named_op(op.name)[0].weight.detach().numpy().copy() for op in graph.ops if hasattr(op, "kernel")}
    tflite_weights = {
        name: np.transpose(w, (1, 2, 3, 0) if w.shape[1] == 1 else (0, 2, 3, 1)).astype(np.float32) for name, w in torch_weights.items()
    }
    classifier = np.ones((2, 40), np.float32)
    rotate_network(network)
    turned = rotate_weights(graph, {**tflite_weights, "fc": classifier})
    as_torch = rotate_weights(graph, {name: w.astype(np.float32) for name, w in torch_weights.items()}, spatial=(2, 3))
    for op in graph.ops:
        if isinstance(op, (Conv2D, DepthwiseConv2D)):
            expected = network.named_op(op.name)[0].weight.detach().numpy().astype(np.float32)
            assert (as_torch[op.name] == expected).all()
            axes = (3, 0, 1, 2) if isinstance(op, DepthwiseConv2D) else (0, 3, 1, 2)
            assert (np.transpose(turned[op.name], axes) == expected).all()
    assert (turned["fc"] == classifier).all()
    assert turned["fc"] is not classifier
    twice = rotate_weights(graph, turned)
    assert all((twice[name] == tflite_weights[name]).all() for name in tflite_weights)


def test_windows_that_would_shift_are_refused_by_name() -> None:
    def arch(**changes: object) -> Arch:
        return Arch.model_validate({"height": 16, "width": 16, "channels": 3, "classes": 2, "stem": {"out": 4, "stride": 1}, **changes})

    strided_1x1 = lower(arch(blocks=[{"kind": "conv", "out": 4, "kernel": 1, "stride": 2}]))
    assert "b0.conv" in rotation_faults(strided_1x1)[0]
    with pytest.raises(ArchError, match=r"b0\.conv: kernel 1, stride 2 on 16 pixels"):
        rotate_network(Network(strided_1x1))
    even = lower(arch(stem={"out": 4, "kernel": 4, "stride": 1}))
    with pytest.raises(ArchError, match="stem: kernel 4 with symmetric padding gives 17 of 16 pixels"):
        rotate_weights(even, {})
    pooled = lower(arch(height=17, width=17, blocks=[Pool(kernel=2, stride=2).model_dump()]))
    assert any("pooling 2/2 leaves out" in fault for fault in rotation_faults(pooled))
    assert rotation_faults(lower(arch(blocks=[Pool(kernel=2, stride=2).model_dump()]))) == []
    four = lower(arch(stem={"out": 4, "kernel": 3, "stride": 4}))
    assert rotation_faults(four)


def test_a_refusal_is_right() -> None:
    """Every window is either exact by the formula, or really different: the formula is checked against convolution."""
    for size in range(4, 20):
        for kernel in range(1, 8):
            for stride in range(1, 5):
                out = -(-size // stride)
                before, _ = same_padding(size, kernel, stride)
                exact = symmetric_output(size, kernel, stride) == out and before == (out - 1) * stride + kernel - size - kernel // 2
                starts = [i * stride - kernel // 2 for i in range(symmetric_output(size, kernel, stride))]
                mirrored = sorted(size - (start + kernel) for start in starts)
                assert exact == (mirrored == [i * stride - before for i in range(out)])


def test_images_turn() -> None:
    images = np.arange(2 * 3 * 4 * 1, dtype=np.uint8).reshape(2, 3, 4, 1)
    turned = rotate_images(images)
    assert (turned[1] == rotate_images(images[1])).all()
    assert turned[0, 0, 0, 0] == images[0, 2, 3, 0]
    assert (rotate_images(turned) == images).all()
    assert turned.flags["C_CONTIGUOUS"]


def test_networks_without_strides_need_no_rotation() -> None:
    graph = lower(Arch(height=9, width=9, channels=1, classes=2, stem=ConvLayer(out=4, kernel=5)))
    assert not needs_rotation(graph)
    assert graph.ops[0].padding == Padding(2, 2, 2, 2)  # type: ignore[union-attr]


def test_folded_weights_turn_as_the_network_does() -> None:
    from tinynas.quantize import fold

    graph = lower(load_arch("mcunet-tiny2"))
    network = trained(graph, 3).float()
    before = fold(network)
    turned = rotate_weights(graph, before.weights)
    rotate_network(network)
    after = fold(network)
    for name, weights in after.weights.items():
        assert (weights == turned[name]).all(), name
        assert (after.biases[name] == before.biases[name]).all()
