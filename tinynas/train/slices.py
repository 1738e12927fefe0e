"""Slices: the weights of one network put into another, larger or smaller, layer by layer, and what became of each layer.

Kernels are cut and grow about their centre. Channels are chosen by norm, the same ones in every layer that writes or reads them
(a residual ties those that it adds, a depthwise convolution its two sides, a gate those of its map). Of a deeper stage the first
blocks are taken, which have the same names. What is taken computes what it did as far as its inputs are there: columns and taps
that it never had are 0. Whole channels and layers without a counterpart stay as drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tinynas.graph import (
    WEIGHTED,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    Weighted,
    causal_padding,
    outputs_of,
    same_padding,
    tied_channels,
)
from tinynas.model import BN_EPS, GATES, Network, module_name

SliceKind = Literal["taken", "cut", "grown", "new"]
"""What became of a layer: all weights taken; only some of the source's; all of them within more; as drawn."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What became of one layer. Shapes are PyTorch's: (out, in or 1, kernel height, kernel width), or (out, in)."""

    name: str
    """The target's operator."""
    source: str | None
    """The source's operator; None where the layer is new."""
    kind: SliceKind
    shape: tuple[int, ...]
    source_shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Sliced:
    """A network that begins with another's weights."""

    network: Network
    layers: tuple[Slice, ...]
    """Every operator with weights, in the target's order."""


def slice_weights(
    source: Graph, state: Mapping[str, Tensor], target: Graph, *, seed: int = 0, pairs: Mapping[str, str] | None = None
) -> Sliced:
    """The network of ``target``, drawn by ``seed``, with what ``state`` (as ``Network(source).state_dict()``, on any device) offers.

    ``pairs`` says which operator of ``source`` stands for each of ``target`` (default: :func:`counterparts`). A classifier of another
    number of classes stays new. Convolutions of ``source`` may be without batch norm: their biases become its. Weights of few bits
    start on grids of their own.
    """
    state = {key: value.detach().cpu() for key, value in state.items()}
    network = Network(target, seed=seed)
    theirs = {op.name: op for op in source.ops if isinstance(op, WEIGHTED)}
    pairs = counterparts(source, target) if pairs is None else pairs
    order = _Order(source, state)
    layers = []
    for op in target.ops:
        if not isinstance(op, WEIGHTED):
            continue
        shape = tuple(network.named_op(op.name)[0].weight.shape)
        other = theirs[pairs[op.name]] if op.name in pairs else None
        rows = None if other is None else _rows(source, order, other, op, op.output in target.outputs)
        if other is None or rows is None:
            layers.append(Slice(op.name, None, "new", shape, None))
            continue
        with torch.no_grad():
            given = _take(network, op, other, _Layer.of(other, state), rows, order.columns(other, op, target))
        layers.append(Slice(op.name, other.name, _kind(shape, given), shape, given))
    network.fit_grids()
    return Sliced(network, tuple(layers))


def counterparts(source: Graph, target: Graph) -> dict[str, str]:
    """For each operator with weights of ``target`` the one of ``source`` that has its place: its name, in a block of the same operators.

    A classifier behind a head has none where the other has no head, for it reads other features. Gates stand apart: a block is the
    same with and without.
    """
    ours, theirs = _by_place(target), _by_place(source)
    return {name: name for place, kinds in ours.items() if theirs.get(place) == kinds for name in kinds}


def _by_place(graph: Graph) -> dict[str, dict[str, str]]:
    places: dict[str, dict[str, str]] = {}
    for op in graph.ops:
        if isinstance(op, WEIGHTED):
            block, _, last = op.name.rpartition(".")
            place = (block or ("stem" if op.name == "stem" else "after the blocks")) + (" gate" if last in GATES else "")
            places.setdefault(place, {})[op.name] = op.kind
    return places


@dataclass(frozen=True)
class _Layer:
    """Weights, and what follows them: y = (x - mean) / sqrt(var + eps) * gain + bias."""

    weight: Tensor
    gain: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor

    @staticmethod
    def of(op: Weighted, state: Mapping[str, Tensor]) -> _Layer:
        name = module_name(op.name)
        if isinstance(op, FullyConnected) or not op.bn:
            inner = "linear" if isinstance(op, FullyConnected) else "conv"
            weight, bias = state[f"{name}.{inner}.weight"], state[f"{name}.{inner}.bias"]
            return _Layer(weight, torch.ones_like(bias), bias, torch.zeros_like(bias), torch.full_like(bias, 1.0 - BN_EPS))
        norm = (state[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        return _Layer(state[f"{name}.conv.weight"], *norm)

    @property
    def spread(self) -> Tensor:
        """How far each output strays, (out,): batch norm's gain; without one the norm of its weights."""
        norms = self.weight.flatten(1).norm(dim=1)
        told = self.gain.abs() * (self.var / (self.var + BN_EPS)).sqrt()
        return norms if torch.equal(self.gain, torch.ones_like(self.gain)) and not self.mean.any() else told

    @property
    def folded(self) -> Tensor:
        """The weights as the .tflite holds them."""
        factor = self.gain / (self.var + BN_EPS).sqrt()
        return self.weight * factor.view(-1, *[1] * (self.weight.ndim - 1))


class _Order:
    """The channels of a network's tensors, those first that matter most; tensors whose channels are tied have one order."""

    def __init__(self, graph: Graph, state: Mapping[str, Tensor]) -> None:
        self.graph = graph
        self._tied = tied_channels(graph)
        written: dict[int, Tensor] = {}
        read: dict[int, Tensor] = {}
        for op in graph.ops:
            if not isinstance(op, WEIGHTED):
                continue
            layer = _Layer.of(op, state)
            _gather(written, self._tied[op.output], layer.spread)
            if not isinstance(op, DepthwiseConv2D):
                _gather(read, self._tied[op.inputs[0]], layer.folded.transpose(0, 1).flatten(1).norm(dim=1))
        # What a channel does to what follows: how far it strays, times how strongly that is read.
        self._norms = {group: (values * read[group] if group in read else values).sqrt() for group, values in written.items()}

    def first(self, tensor: int, count: int) -> Tensor:
        """At most ``count`` channels of ``tensor`` by norm, in their own order."""
        norms = self._norms[self._tied[tensor]]
        return norms.argsort(descending=True, stable=True)[:count].sort().values

    def columns(self, other: Weighted, op: Weighted, target: Graph) -> Tensor:
        """Which inputs of ``other``'s weights are those of ``op``'s, as a matrix (ours, theirs)."""
        if isinstance(other, DepthwiseConv2D):
            return torch.ones(1, 1)
        tensor = other.inputs[0]
        ours, theirs = target.shape(op.inputs[0])[-1], self.graph.shape(tensor)[-1]
        if tensor in self.graph.inputs:
            return _colors(ours, theirs)
        chosen = self.first(tensor, ours)
        return torch.eye(theirs)[chosen]


def _gather(into: dict[int, Tensor], group: int, norms: Tensor) -> None:
    into[group] = into.get(group, torch.zeros_like(norms)) + norms**2


def _colors(ours: int, theirs: int) -> Tensor:
    """Inputs as a matrix (ours, theirs). On a gray picture, whose three colours are equal, gray and colour see the same."""
    match ours, theirs:
        case 1, 3:
            return torch.ones(1, 3)
        case 3, 1:
            return torch.full((3, 1), 1.0 / 3.0)
        case _:
            return torch.eye(max(ours, theirs))[:ours, :theirs]


def _rows(source: Graph, order: _Order, other: Weighted, op: Weighted, last: bool) -> Tensor | None:
    """The outputs of ``other`` that ``op`` begins with; None where they mean something else."""
    ours, theirs = (outputs_of(each) for each in (op, other))
    if last or other.output in source.outputs:
        return torch.arange(ours) if last and other.output in source.outputs and ours == theirs else None
    return order.first(other.output, ours)


def _take(network: Network, op: Weighted, other: Weighted, layer: _Layer, rows: Tensor, columns: Tensor) -> tuple[int, ...]:
    """Put what of ``layer``, which is ``other``'s, is meant into ``network``'s ``op``; the shape of all of ``layer``'s weights."""
    ours, norm = network.named_op(op.name)
    taken = torch.einsum("cd,od...->oc...", columns, layer.weight[rows])
    part = ours.weight[: len(rows)]
    part.zero_()
    inside = tuple(slice(0, min(n, m)) for n, m in zip(part.shape[:2], taken.shape[:2], strict=True))
    taps: tuple[tuple[slice, slice], ...] = ()
    if not isinstance(op, FullyConnected):
        assert not isinstance(other, FullyConnected)
        taps = common_taps(network.graph, op, taken.shape[2:], other.dilation)
    part[*inside, *(own for own, _ in taps)] = taken[*inside, *(other for _, other in taps)]
    if norm is None:
        assert ours.bias is not None
        ours.bias[: len(rows)] = layer.bias[rows]
    else:
        assert norm.running_mean is not None and norm.running_var is not None
        for into, values in (
            (norm.weight, layer.gain),
            (norm.bias, layer.bias),
            (norm.running_mean, layer.mean),
            (norm.running_var, layer.var),
        ):
            into[: len(rows)] = values[rows]
    return tuple(layer.weight.shape)


def common_taps(
    graph: Graph, op: Conv2D | DepthwiseConv2D, kernel: Sequence[int], dilation: tuple[int, int] = (1, 1)
) -> tuple[tuple[slice, slice], ...]:
    """Where the kernel of ``op`` of ``graph`` and one of size ``kernel`` and ``dilation`` in its place see the same pixels.

    For each axis the taps of ``op``'s and of the other. They share their middle, unless one of them is 1 and strides over an even
    size: TFLite then pads a kernel of 3 on one side alone; or the network is causal: along the height they share their last rows.
    Where their dilations differ they share those taps alone that fall together.
    """
    down = causal_padding if graph.arch is not None and graph.arch.causal else same_padding
    taps = []
    for axis, pad in enumerate((down, same_padding)):
        pixels, stride, (ours, theirs) = graph.shape(op.inputs[0])[axis], op.stride[axis], (op.dilation[axis], dilation[axis])
        spans = (op.reach[axis], (kernel[axis] - 1) * theirs + 1)
        first, other = (-pad(pixels, span, stride)[0] for span in spans)
        seen = range(other, other + spans[1], theirs)
        both = [at for at in range(first, first + spans[0], ours) if at in seen]
        taps.append((_at(both, first, ours), _at(both, other, theirs)))
    return tuple(taps)


def _at(pixels: Sequence[int], first: int, apart: int) -> slice:
    """The taps, of a kernel that begins at ``first``, at ``pixels``, which lie as far from each other."""
    if not pixels:
        return slice(0, 0)
    begin, end = ((pixel - first) // apart for pixel in (pixels[0], pixels[-1]))
    step = 1 if len(pixels) == 1 else (end - begin) // (len(pixels) - 1)
    return slice(begin, end + 1) if step == 1 else slice(begin, end + 1, step)


def _kind(ours: Sequence[int], theirs: Sequence[int]) -> SliceKind:
    if any(n < m for n, m in zip(ours, theirs, strict=True)):
        return "cut"
    return "taken" if tuple(ours) == tuple(theirs) else "grown"
