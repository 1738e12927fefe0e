"""Which layer of a source goes where in a network, and which channels of it: layer by layer, in the order in which both run.

Layers meet where they are of one kind; where there are more on one side, those that are most alike. Channels are chosen where fewer
are needed, the ones with the largest weights, and for all layers alike that share them: what a residual adds, what a depthwise
convolution reads and gives, what a layer gives and the next one reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinynas.graph import WEIGHTED, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Weighted, outputs_of, tied_channels
from tinynas.weights.layers import Layer

Picks = NDArray[np.int64]
#: What makes two layers alike: being next to another pair, and having one name.
_ADJACENT, _NAMED = 0.5, 1.0


def columns_of(op: Weighted) -> int:
    """Input channels of ``op``."""
    return op.in_channels if isinstance(op, Conv2D) else op.channels if isinstance(op, DepthwiseConv2D) else op.in_features


def kernel_of(op: Weighted) -> tuple[int, ...]:
    """(kh, kw); () of a fully connected layer."""
    return () if isinstance(op, FullyConnected) else op.kernel


def pair_layers(ops: Sequence[Weighted], layers: Sequence[Layer], first: str | None) -> dict[str, Layer]:
    """The layer for each operator, by its name; operators without one are left out.

    ``first``: the operator that reads the input, which meets the source's first layer and no other. Classifiers are no part of this.
    """
    gains = np.zeros((len(ops) + 1, len(layers) + 1))
    ends = np.zeros_like(gains)
    for i, op in enumerate(ops, 1):
        for j, layer in enumerate(layers, 1):
            alike = _alike(op, layer) if (op.name == first) == (j == 1) else None
            if alike is not None:
                adjacent = ends[i - 1, j - 1] + _ADJACENT if ends[i - 1, j - 1] else 0.0
                ends[i, j] = alike + max(gains[i - 1, j - 1], adjacent)
            gains[i, j] = max(gains[i - 1, j], gains[i, j - 1], ends[i, j])
    found: dict[str, Layer] = {}
    i, j, held = len(ops), len(layers), False
    while i and j:
        if ends[i, j] and (held or ends[i, j] >= gains[i, j]):
            found[ops[i - 1].name] = layers[j - 1]
            held = bool(ends[i - 1, j - 1]) and ends[i - 1, j - 1] + _ADJACENT >= gains[i - 1, j - 1]
            i, j = i - 1, j - 1
        elif gains[i - 1, j] >= gains[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return found


def _alike(op: Weighted, layer: Layer) -> float | None:
    """How alike two layers are, above 0; None where they are of different kinds."""
    if op.kind != layer.kind or (op.kind == "conv" and (kernel_of(op) == (1, 1)) != (layer.kernel == (1, 1))):
        return None
    sizes = [(outputs_of(op), layer.rows), *zip(kernel_of(op), layer.kernel, strict=True)]
    if op.kind != "dw":
        sizes.append((columns_of(op), layer.columns))
    share = 1.0
    for one, other in sizes:
        share *= min(one, other) / max(one, other)
    return 1.0 + share + (_NAMED if layer.name.replace(".", "_") == op.name.replace(".", "_") else 0.0)


# channels ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Channels:
    """For each tensor of a graph: which channels of the source its own are; -1 for one that the source has not."""

    picks: Mapping[int, Picks]
    """By the tensor's class; see :attr:`classes`."""
    classes: Sequence[int]
    """The class of each tensor: tensors of one class share their channels."""

    def of(self, tensor: int) -> Picks | None:
        """Of tensor ``tensor``; None where nothing is taken from the source on either side of it."""
        return self.picks.get(self.classes[tensor])


def choose_channels(graph: Graph, taken: dict[str, Layer]) -> Channels:
    """The channels of each tensor, where ``taken`` (operator name -> layer) says what meets what. The classifier may be among them.

    A layer whose channels are not those of the layers around it is removed from ``taken``.
    """
    classes = tied_channels(graph)
    while True:
        sizes: dict[int, dict[int, int]] = {}
        for op, layer in _pairs(graph, taken):
            for tensor, size in _ends(graph, op, layer):
                counts = sizes.setdefault(classes[tensor], {})
                counts[size] = counts.get(size, 0) + 1
        wanted = {place: max(counts, key=lambda size: (counts[size], size)) for place, counts in sizes.items()}
        wrong = [op.name for op, layer in _pairs(graph, taken) if any(wanted[classes[t]] != size for t, size in _ends(graph, op, layer))]
        if not wrong:
            break
        for name in wrong:
            del taken[name]
    made = {classes[op.output] for op, _ in _pairs(graph, taken) if not isinstance(op, DepthwiseConv2D)}
    for op, _ in _pairs(graph, taken):
        if op.output in graph.outputs and classes[op.inputs[0]] not in made:
            del taken[op.name]  # a classifier of channels that are drawn at random tells nothing
            return choose_channels(graph, taken)
    inside = classes[graph.inputs[0]]
    strengths = _strengths(graph, taken, classes, wanted)
    picks = {}
    for place, size in wanted.items():
        if place == inside:
            continue  # colours are no channels to choose from
        count = graph.shape(place)[-1]
        if count < size:
            strongest = np.argsort(-strengths[place], kind="stable")[:count]
            picks[place] = np.sort(strongest).astype(np.int64)
        else:
            picks[place] = np.concatenate([np.arange(size), np.full(count - size, -1)]).astype(np.int64)
    return Channels(picks, classes)


def _pairs(graph: Graph, taken: Mapping[str, Layer]) -> list[tuple[Weighted, Layer]]:
    return [(op, taken[op.name]) for op in graph.ops if isinstance(op, WEIGHTED) and op.name in taken]


def _ends(graph: Graph, op: Weighted, layer: Layer) -> list[tuple[int, int]]:
    """(tensor, channels that the source has there) before and behind ``op``; not of the input, nor of the classes."""
    ends = []
    if op.inputs[0] != graph.inputs[0]:
        ends.append((op.inputs[0], layer.columns))
    if op.output not in graph.outputs:
        ends.append((op.output, layer.rows))
    return ends


def _strengths(
    graph: Graph, taken: Mapping[str, Layer], classes: Sequence[int], sizes: Mapping[int, int]
) -> dict[int, NDArray[np.float64]]:
    """For each class of tensors the weight of each channel: the norms of what makes, filters and reads it, multiplied.

    So it does not matter whether a scale lies in the layer before or in the one behind.
    """
    made, read = ({place: np.zeros(size) for place, size in sizes.items()} for _ in range(2))
    passed = {place: np.ones(size) for place, size in sizes.items()}
    for op, layer in _pairs(graph, taken):
        weight = layer.folded()[0].astype(np.float64)
        behind, before = classes[op.output], classes[op.inputs[0]]
        rows = (weight.reshape(len(weight), -1) ** 2).sum(1)
        if layer.kind == "dw":
            if behind in passed:
                passed[behind] *= np.sqrt(rows) + 1e-12
            continue
        if behind in made and op.output not in graph.outputs:
            made[behind] += rows
        if before in read and op.inputs[0] != graph.inputs[0]:
            read[before] += (weight**2).reshape(len(weight), weight.shape[1], -1).sum((0, 2))
    found = {}
    for place in sizes:
        factors = [np.sqrt(part) for part in (made[place], read[place]) if part.any()]
        found[place] = np.prod([passed[place], *factors], axis=0)
    return found
