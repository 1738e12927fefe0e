"""Network: the PyTorch module of a :class:`~tinynas.graph.Graph`. It computes no shape and no padding.

One submodule per graph operator, under the operator's name (dots become underscores). Inputs are float
(batch, channels, height, width), the real numbers of the graph's :class:`~tinynas.inputs.Input`; channels_last memory is the fast one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, assert_never

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinynas.arch import Activation
from tinynas.errors import RunError
from tinynas.files import write_atomic
from tinynas.graph import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    HardSwish,
    Mean,
    Mul,
    Op,
    Padding,
    Pool2D,
    Resize,
    Shape,
    nearest,
)
from tinynas.inputs import Input
from tinynas.lsq import WeightGrid

#: Batch norm as MobileNetV2 and ProxylessNAS train it (PyTorch's defaults; the net-config JSON states the same).
BN_EPS, BN_MOMENTUM = 1e-5, 0.1
#: Last words of the names of operators with weights that work out a gate.
GATES = frozenset({"squeeze", "widen", "look", "gate"})


def normalise(stored: Tensor, source: Input) -> Tensor:
    """Real numbers, float (B, C, H, W) in channels_last memory, of the uint8 (B, H, W, C) that ``source`` describes; exact for pixels."""
    real: Tensor = source.real(stored.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last))
    return real


def activate(x: Tensor, act: Activation) -> Tensor:
    """``x`` through the activation, in place."""
    match act:
        case "relu6":
            return F.relu6(x, inplace=True)
        case "relu":
            return F.relu(x, inplace=True)
        case "none":
            return x
    assert_never(act)


def per_pixel(gate: Tensor, map_: Tensor) -> Tensor:
    """A gate (B, C) as (B, C, 1, 1) where it meets a map (B, C, H, W); tensors of one rank as they are."""
    return gate if gate.ndim == map_.ndim else gate[:, :, None, None]


class BatchNorm(nn.BatchNorm2d):
    """Batch norm without the batch counter: only cumulative averaging reads it, and it costs a kernel a step."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any) -> None:
        # States come from safetensors, without PyTorch's module versions; version 2 keeps it from adding a counter.
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, {**local_metadata, "version": 2}, *args)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """:func:`torch.nn.functional.conv2d`, right on every CPU.

    oneDNN, which computes it there, reads beyond the map where one input channel is convolved with strides (1, more) into a column
    (torch 2.13; errors without bound, others at each call). A column needs no stride and nothing behind its window.
    """
    extent = (weight.shape[3] - 1) * dilation[1] + 1
    if x.shape[1] == 1 and stride[0] == 1 < stride[1] and x.shape[3] + 2 * padding[1] - extent < stride[1]:
        x, stride, padding = F.pad(x, (padding[1], padding[1], 0, 0))[..., :extent], (1, 1), (padding[0], 0)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


class Conv(nn.Conv2d):
    """A convolution by :func:`convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, Cout, H', W')."""
        stride, padding, dilation = (_two(pair) for pair in (self.stride, self.padding, self.dilation))
        return convolve(x, self.weight, self.bias, stride, padding, dilation, self.groups)


def _two(pair: Any) -> tuple[int, int]:
    height, width = pair
    return height, width


class ConvBN(nn.Module):
    """Dense or depthwise convolution, batch norm (unless the operator has none), activation."""

    def __init__(self, op: Conv2D | DepthwiseConv2D) -> None:
        super().__init__()
        inputs, outputs, groups = (
            (op.in_channels, op.out_channels, 1) if isinstance(op, Conv2D) else (op.channels, op.channels, op.channels)
        )
        self.pad, symmetric = _split_padding(op.padding)
        self.conv: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            Conv,
            inputs,
            outputs,
            op.kernel,
            stride=op.stride,
            padding=symmetric,
            dilation=op.dilation,
            groups=groups,
            bias=not op.bn,
        )
        self.bn = BatchNorm(outputs) if op.bn else None
        self.grid = WeightGrid(outputs, op.weight_bits) if op.weight_bits < 8 else None
        self.act: Activation = op.act
        self.start = op.start if isinstance(op, Conv2D) else 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, Cout, H', W')."""
        if self.pad is not None:
            x = F.pad(x, self.pad)
        if self.grid is None:
            x = self.conv(x)
        else:
            conv = self.conv
            stride, padding, dilation = (_two(pair) for pair in (conv.stride, conv.padding, conv.dilation))
            x = convolve(x, self.grid(conv.weight), conv.bias, stride, padding, dilation, conv.groups)
        if self.bn is not None:
            x = self.bn(x)
        return activate(x, self.act)


class AddOp(nn.Module):
    """Sum of two tensors of one shape."""

    def __init__(self, op: Add) -> None:
        super().__init__()
        self.act: Activation = op.act

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Two (B, C, H, W) -> one."""
        return activate(x + other, self.act)


class MulOp(nn.Module):
    """Product of a map and a gate, or of two tensors of one shape."""

    def __init__(self, op: Mul) -> None:
        super().__init__()
        self.act: Activation = op.act

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """(B, C, H, W) and (B, C) or (B, C, H, W) -> (B, C, H, W)."""
        return activate(x * per_pixel(gate, x), self.act)


class PoolOp(nn.Module):
    """Max or average pooling."""

    def __init__(self, op: Pool2D) -> None:
        super().__init__()
        self.op, self.kernel, self.stride = op.op, op.kernel, op.stride
        pad = op.padding
        self.pad = None if pad.none else (pad.left, pad.right, pad.top, pad.bottom)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        if self.pad is not None:
            # Padding must never win a maximum; an average over padding is TFLite's only without it (divisor = real pixels).
            x = F.pad(x, self.pad, value=-math.inf if self.op == "max" else 0.0)
        return F.max_pool2d(x, self.kernel, self.stride) if self.op == "max" else F.avg_pool2d(x, self.kernel, self.stride)


class MeanOp(nn.Module):
    """Global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        return x.mean((2, 3))


class HardSwishOp(nn.Module):
    """x * relu6(x + 3) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return F.hardswish(x)


class ResizeOp(nn.Module):
    """The nearest pixels, as TFLM finds them."""

    def __init__(self, source: Shape, target: Shape) -> None:
        super().__init__()
        # On the device of the network: a copy from the host at each step could not be recorded in a CUDA graph.
        for axis, name in enumerate(("rows", "columns")):
            self.register_buffer(name, torch.tensor(nearest(source[axis], target[axis])), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        return spread(x, self.get_buffer("rows"), self.get_buffer("columns"))


def spread(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of (B, C, H, W) at ``rows`` and ``columns``, numbers on the same device."""
    return x.index_select(2, rows).index_select(3, columns)


class Classifier(nn.Module):
    """A fully connected layer: the classifier, or one that works out a gate."""

    def __init__(self, op: FullyConnected, *, last: bool) -> None:
        super().__init__()
        self.linear: nn.Linear = nn.utils.skip_init(nn.Linear, op.in_features, op.out_features)  # type: ignore[no-untyped-call]
        self.grid = WeightGrid(op.out_features, op.weight_bits, whole=True) if op.weight_bits < 8 else None
        self.act: Activation = op.act
        self.start, self.last = op.start, last

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out)."""
        linear = self.linear
        x = linear(x) if self.grid is None else F.linear(x, self.grid(linear.weight), linear.bias)
        return activate(x, self.act)


class Network(nn.Module):
    """The graph as a trainable module; ``seed`` fixes the initial weights (the global generator is not touched)."""

    def __init__(self, graph: Graph, *, seed: int = 0) -> None:
        super().__init__()
        self.graph = graph
        #: share of the classifier's inputs dropped in training mode, and what decides which
        self.dropout = 0.0
        self.generator: torch.Generator | None = None
        #: submodules that are not trained: they stay in evaluation mode, their batch norm as it is
        self.frozen: frozenset[str] = frozenset()
        #: per operator: submodule name, tensors read, tensor written, tensors that die afterwards
        self._steps: list[tuple[str, tuple[int, ...], int, tuple[int, ...]]] = []
        for index, op in enumerate(graph.ops):
            name = module_name(op.name)
            self.add_module(name, _module(graph, op))
            self._steps.append((name, op.inputs, op.output, graph.dying[index]))
        self.reset(seed)

    def train(self, mode: bool = True) -> Network:
        """Training mode for all but :attr:`frozen` submodules."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) from a normalised float (B, C, H, W)."""
        values: list[Tensor | None] = [None] * len(self.graph.tensors)
        values[self.graph.inputs[0]] = x
        modules = self._modules
        for name, inputs, output, dying in self._steps:
            module = modules[name]
            assert module is not None
            read = [values[i] for i in inputs]
            if self.training and self.dropout and isinstance(module, Classifier) and module.last:
                read = [self._drop(x) for x in read if x is not None]
            values[output] = module(*read)
            for tensor in dying:
                values[tensor] = None
        logits = values[self.graph.logits]
        assert logits is not None
        return logits

    def _drop(self, x: Tensor) -> Tensor:
        keep = 1.0 - self.dropout
        return x * torch.empty_like(x).bernoulli_(keep, generator=self.generator).div_(keep)

    def named_op(self, op_name: str) -> tuple[nn.Conv2d | nn.Linear, nn.BatchNorm2d | None]:
        """The convolution or linear layer of the graph operator ``op_name`` and its batch norm, if it has one."""
        module = self._modules[module_name(op_name)]
        if isinstance(module, ConvBN):
            return module.conv, module.bn
        assert isinstance(module, Classifier), f"{op_name} has no weights, or branches that are not folded"
        return module.linear, None

    def grid_of(self, op_name: str) -> WeightGrid | None:
        """The grid that the weights of the graph operator ``op_name`` are trained on; None where they have 8 bits."""
        module = self._modules[module_name(op_name)]
        assert isinstance(module, ConvBN | Classifier), f"{op_name} has no weights"
        return module.grid

    def set_grids(self, on: bool) -> None:
        """Whether weights of fewer than 8 bits lie on their grids (as they do at first), or are float."""
        for module in self.modules():
            if isinstance(module, WeightGrid):
                module.on = on

    def fit_grids(self) -> None:
        """Fit the steps of weights of fewer than 8 bits to the weights as they are."""
        for module in self.modules():
            if isinstance(module, ConvBN | Classifier) and module.grid is not None:
                module.grid.fit((module.conv if isinstance(module, ConvBN) else module.linear).weight)

    def reset(self, seed: int) -> None:
        """Initial weights from ``seed``: uniform within 1/sqrt(fan-in), batch norm at identity, a small classifier.

        Batch norm makes the scale of a weight a matter of learning rate only, and these small weights learn faster than
        MobileNetV2's He initialisation: training loss 0.460 against 0.481 after 8 epochs of mcunet-tiny2 on person64.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    bound = 1.0 / math.sqrt(module.weight[0].numel())
                    module.weight.uniform_(-bound, bound, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()
                elif isinstance(module, nn.BatchNorm2d):
                    assert module.running_mean is not None and module.running_var is not None
                    module.running_mean.zero_()
                    module.running_var.fill_(1.0)
                    module.weight.fill_(1.0)
                    module.bias.zero_()
                elif isinstance(module, nn.Linear):
                    module.weight.normal_(0.0, 0.01, generator=generator)
                    module.bias.zero_()
            for module in self.modules():
                if isinstance(module, Classifier) and not module.last:
                    bound = 1.0 / math.sqrt(module.linear.in_features)
                    module.linear.weight.uniform_(-bound, bound, generator=generator)
                    module.linear.bias.fill_(module.start)
                elif isinstance(module, ConvBN) and module.start and module.bn is not None:
                    module.bn.bias.fill_(module.start)
        self.fit_grids()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save_weights(network: Network, path: Path, metadata: Mapping[str, str]) -> None:
    """Write ``network``'s weights and batch-norm statistics with ``metadata``, atomically. Raises DiskError on a full disk."""
    write_tensors(network.state_dict(), path, metadata)


def load_weights(graph: Graph, path: Path) -> Network:
    """The network of ``graph`` with the weights that :func:`save_weights` wrote, in evaluation mode.

    Raises RunError where the file is missing, damaged or of another network.
    """
    network = Network(graph)
    try:
        network.load_state_dict(read_tensors(path)[0])
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
        raise RunError(f"{path}: does not hold this network's weights: {problem}", "promote the network again") from None
    return network.eval()


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """A safetensors file, written atomically; equal content gives equal bytes. Raises DiskError on a full disk."""
    # safetensors shuffles the keys of its metadata; one key, with sorted JSON in it, has only one order.
    header = {"tinynas": json.dumps(metadata, sort_keys=True)}
    write_atomic(path, safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, header))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata that :func:`write_tensors` wrote. Raises RunError where the file is missing or damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = json.loads((file.metadata() or {}).get("tinynas", "{}"))
            if not isinstance(metadata, dict):
                raise ValueError("its metadata are no mapping")
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise RunError(f"{path}: cannot be read: {error}", "the file is missing or damaged; remove it to start over") from None


def module_name(op_name: str) -> str:
    """The submodule name of a graph operator (PyTorch forbids dots)."""
    return op_name.replace(".", "_")


def _module(graph: Graph, op: Op) -> nn.Module:
    match op:
        case Conv2D() | DepthwiseConv2D():
            return ConvBN(op)
        case Add():
            return AddOp(op)
        case Mul():
            return MulOp(op)
        case Pool2D():
            return PoolOp(op)
        case Mean():
            return MeanOp()
        case FullyConnected():
            return Classifier(op, last=op.output in graph.outputs)
        case HardSwish():
            return HardSwishOp()
        case Resize():
            return ResizeOp(graph.shape(op.inputs[0]), graph.shape(op.output))
    assert_never(op)


def _split_padding(padding: Padding) -> tuple[tuple[int, int, int, int] | None, tuple[int, int]]:
    # Symmetric padding is free inside the convolution; only what is left over costs a copy.
    height, width = min(padding.top, padding.bottom), min(padding.left, padding.right)
    if padding.top == padding.bottom and padding.left == padding.right:
        return None, (height, width)
    return (padding.left, padding.right, padding.top, padding.bottom), (0, 0)


def trainable_groups(
    network: nn.Module, weight_decay: float, old: Set[str] = frozenset(), old_lr: float = 1.0
) -> list[dict[str, Sequence[Tensor] | float]]:
    """Optimiser groups: decay for convolution and linear weights, none for batch norm and biases; what is frozen is in none.

    ``rate`` is what the learning rate is multiplied with: ``old_lr`` for the modules ``old``, 1 for the others.
    """
    groups: list[dict[str, Sequence[Tensor] | float]] = []
    for rate in dict.fromkeys((1.0, old_lr)):
        chosen = [
            parameter
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and (old_lr if module_of(name) in old else 1.0) == rate
        ]
        if not chosen:
            continue
        decayed, plain = [p for p in chosen if p.ndim > 1], [p for p in chosen if p.ndim <= 1]
        groups += [{"params": decayed, "weight_decay": weight_decay, "rate": rate}, {"params": plain, "weight_decay": 0.0, "rate": rate}]
    return groups


def module_of(parameter: str) -> str:
    """The submodule of :class:`Network` that a parameter belongs to, by its name there or in the network on int8 grids."""
    first, _, rest = parameter.partition(".")
    return rest.partition(".")[0] if first in ("weights", "biases", "grids") else first
