"""Branches that fold: several convolutions side by side while training, one in the network that is evaluated, saved and exported.

A k x k convolution trains beside 1 x k, k x 1 and 1 x 1 ones, and beside its input where that has the output's shape, each with a batch
norm of its own (ACNet, arXiv 1908.03930; RepVGG, arXiv 2101.03697; MobileOne, arXiv 2206.04040). With the statistics of evaluation
each is linear, so that their sum is one k x k convolution, exactly. Depthwise ones alike. Not branched: 1 x 1 convolutions whose input
has another shape, those that work out a gate, and weights of fewer than 8 bits, which are trained on the grid of the one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinynas.arch import Activation
from tinynas.graph import Conv2D, DepthwiseConv2D, Graph
from tinynas.model import BatchNorm, Conv, ConvBN, Network, activate, module_name


class Branch(nn.Module):
    """A smaller convolution and its batch norm, which sees what the taps of ``rows`` and ``columns`` of ``op``'s kernel see."""

    def __init__(self, op: Conv2D | DepthwiseConv2D, kernel: tuple[int, int]) -> None:
        super().__init__()
        inputs, outputs, groups = _channels(op)
        (above, below), (left, right) = ((_before(k, s), k - s - _before(k, s)) for k, s in zip(op.kernel, kernel, strict=True))
        self.at = above, left
        pad, (down, across) = op.padding, op.dilation
        #: Less than 0: what no tap sees is cut off.
        self.pad = (pad.left - left * across, pad.right - right * across, pad.top - above * down, pad.bottom - below * down)
        self.conv: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            Conv, inputs, outputs, kernel, stride=op.stride, dilation=op.dilation, groups=groups, bias=False
        )
        self.bn = BatchNorm(outputs)
        if self.pad[0] == self.pad[1] >= 0 and self.pad[2] == self.pad[3] >= 0:
            self.conv.padding = (self.pad[2], self.pad[0])
            self.pad = (0, 0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, Cout, H', W')."""
        normed: Tensor = self.bn(self.conv(F.pad(x, self.pad) if any(self.pad) else x))
        return normed


class BranchedConv(nn.Module):
    """What trains in the place of a :class:`~tinynas.model.ConvBN`: the same convolution and batch norm, and branches beside them."""

    def __init__(self, op: Conv2D | DepthwiseConv2D, main: ConvBN) -> None:
        super().__init__()
        self.conv, self.bn = main.conv, main.bn
        self.pad = main.pad
        self.act: Activation = main.act
        self.branches = nn.ModuleList(Branch(op, kernel) for kernel in branch_kernels(op))
        self.skip = BatchNorm(_channels(op)[1]) if passes_through(op) else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, Cout, H', W')."""
        assert self.bn is not None
        y = self.bn(self.conv(x if self.pad is None else F.pad(x, self.pad)))
        for branch in self.branches:
            y = y + branch(x)
        if self.skip is not None:
            y = y + self.skip(x)
        return activate(y, self.act)


def branch_kernels(op: Conv2D | DepthwiseConv2D) -> tuple[tuple[int, int], ...]:
    """The kernels (height, width) beside ``op``'s own: 1 x k, k x 1, 1 x 1, as far as they differ from it and each other."""
    height, width = op.kernel
    # A depthwise 1 x 1 scales each channel, as the batch norm of the input itself does.
    pixel = () if isinstance(op, DepthwiseConv2D) and passes_through(op) else ((1, 1),)
    return tuple(dict.fromkeys(kernel for kernel in ((1, width), (height, 1), *pixel) if kernel != op.kernel))


def passes_through(op: Conv2D | DepthwiseConv2D) -> bool:
    """Whether the input has the output's shape, pixel for pixel."""
    inputs, outputs, _ = _channels(op)
    same = all(before + after == span - 1 for before, after, span in zip(*_sides(op), op.reach, strict=True))
    centred = all(before == _before(k, 1) * apart for before, k, apart in zip(_sides(op)[0], op.kernel, op.dilation, strict=True))
    return op.stride == (1, 1) and inputs == outputs and same and centred


def _sides(op: Conv2D | DepthwiseConv2D) -> tuple[tuple[int, int], tuple[int, int]]:
    pad = op.padding
    return (pad.top, pad.left), (pad.bottom, pad.right)


def _before(kernel: int, branch: int) -> int:
    # Taps of the kernel before those of a branch in its middle.
    return (kernel - branch) // 2


def _channels(op: Conv2D | DepthwiseConv2D) -> tuple[int, int, int]:
    """Inputs, outputs, groups."""
    return (op.in_channels, op.out_channels, 1) if isinstance(op, Conv2D) else (op.channels, op.channels, op.channels)


def _branched_ops(graph: Graph) -> list[Conv2D | DepthwiseConv2D]:
    return [
        op
        for op in graph.ops
        if isinstance(op, Conv2D | DepthwiseConv2D)
        and op.bn
        and op.weight_bits == 8
        and not (isinstance(op, Conv2D) and op.start)
        and (branch_kernels(op) or passes_through(op))
    ]


def add_branches(network: Network, *, seed: int, trained: bool = False) -> None:
    """Put branches, drawn by ``seed``, beside the convolutions of ``network``, in place and on its device.

    The sum varies as the convolution did: n summands have a gain of 1/sqrt(n) each. Beside ``trained`` weights they begin at 0.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    for op in _branched_ops(network.graph):
        main = network.get_submodule(module_name(op.name))
        assert isinstance(main, ConvBN)
        branched = BranchedConv(op, main)
        with torch.no_grad():
            added = [*(branch.bn for branch in branched.branches if isinstance(branch, Branch)), *filter(None, [branched.skip])]
            for branch in branched.branches:
                assert isinstance(branch, Branch)
                weight = torch.empty(branch.conv.weight.shape)
                bound = 1.0 / math.sqrt(weight[0].numel())
                branch.conv.weight.copy_(weight.uniform_(-bound, bound, generator=generator))
            for norm in added:
                norm.weight.fill_(0.0 if trained else 1.0 / math.sqrt(1 + len(added)))
            if not trained:
                assert branched.bn is not None
                branched.bn.weight.fill_(1.0 / math.sqrt(1 + len(added)))
        network.add_module(module_name(op.name), branched)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def fold_branches(network: Network) -> Network:
    """A network without branches that computes what ``network`` does in evaluation mode, on its device; itself where it has none."""
    branched = {name: module for name, module in network.named_children() if isinstance(module, BranchedConv)}
    if not branched:
        return network
    folded = Network(network.graph)
    state = network.state_dict()
    plain = {key: state[key] for key in folded.state_dict() if key.partition(".")[0] not in branched}
    for op in _branched_ops(network.graph):
        name = module_name(op.name)
        plain |= {f"{name}.{key}": value for key, value in _folded(op, branched[name]).items()}
    folded.load_state_dict(plain)
    folded.train(network.training)
    return folded.to(next(network.parameters()).device)


def _folded(op: Conv2D | DepthwiseConv2D, module: BranchedConv) -> dict[str, Tensor]:
    """The state of the one convolution and its batch norm."""
    assert module.bn is not None
    kernel = _scaled(module.conv.weight, module.bn)
    norms: list[nn.BatchNorm2d] = [module.bn]
    for branch in module.branches:
        assert isinstance(branch, Branch)
        (top, left), (height, width) = branch.at, branch.conv.weight.shape[2:]
        kernel[:, :, top : top + height, left : left + width] += _scaled(branch.conv.weight, branch.bn)
        norms.append(branch.bn)
    if module.skip is not None:
        middle = op.padding.top // op.dilation[0], op.padding.left // op.dilation[1]
        each = torch.arange(len(kernel), device=kernel.device)
        kernel[each, each if isinstance(op, Conv2D) else 0, *middle] += _factor(module.skip)
        norms.append(module.skip)
    bias, mean, var = (torch.zeros(len(kernel), dtype=torch.float64, device=kernel.device) for _ in range(3))
    for norm in norms:
        assert norm.running_mean is not None
        bias += norm.bias.double()
        mean += norm.running_mean.double() * _factor(norm)
        # Each summand varies by its gain; how they vary together is not known, and changes nothing in evaluation.
        var += norm.weight.double() ** 2
    gain = (var + module.bn.eps).sqrt()
    state = {"conv.weight": kernel, "bn.weight": gain, "bn.bias": bias, "bn.running_mean": mean, "bn.running_var": var}
    return {key: value.detach().float() for key, value in state.items()}


def _factor(norm: nn.BatchNorm2d) -> Tensor:
    """What ``norm`` multiplies each channel by in evaluation, in float64."""
    assert norm.running_var is not None
    return norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()


def _scaled(weight: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    return weight.detach().double() * _factor(norm)[:, None, None, None]


def plain_state(graph: Graph, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` of a network of ``graph`` without branches, folded where it has them."""
    plain = Network(graph)
    if state.keys() == plain.state_dict().keys():
        return dict(state)
    add_branches(plain, seed=0)
    plain.load_state_dict(dict(state))
    return fold_branches(plain).state_dict()
