"""Weights of a source in a network: what fits is taken, what is larger is cut, what is missing is new; and it is said.

A convolution of a file has its batch norm folded in. Here it gets one again: statistics are measured on training images, and its scale
and shift are set so that before training the network computes what the file does, to the last bits of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinynas.errors import UserError, counted
from tinynas.graph import WEIGHTED, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Weighted
from tinynas.model import BatchNorm, ConvBN, Network, module_name, normalise
from tinynas.recipe import Recipe
from tinynas.train.start import Start
from tinynas.weights.layers import Floats, Known, Layer
from tinynas.weights.match import Picks, choose_channels, columns_of, kernel_of, pair_layers

#: Training images on which batch norm's statistics are measured.
NORM_IMAGES = 256
#: Gray of (red, green, blue), as images are made gray.
_GRAY = (0.299, 0.587, 0.114)
#: An input whose zero is further from ours than this, in steps of ours, meets other padding at the border.
_BORDER = 2.5 / 128
Fate = Literal["taken", "cut", "new"]


@dataclass(frozen=True)
class Row:
    """What became of one layer."""

    layer: str
    """The operator of the network."""
    shape: str
    """Its weights, such as ``96 x 16 x 1 x 1``."""
    fate: Fate
    source: str
    """The layer of the source; "" where it is new."""
    note: str = ""
    """What was cut or added, or why it is new."""
    frozen: bool = False

    def to_json(self) -> dict[str, Any]:
        """As ``promote --json`` shows it."""
        return {
            "layer": self.layer,
            "shape": self.shape,
            "fate": self.fate,
            "source": self.source,
            "note": self.note,
            "frozen": self.frozen,
        }


@dataclass(frozen=True)
class Begun:
    """Weights for a training, and what was done to get them."""

    start: Start
    source: str
    what: str
    rows: tuple[Row, ...]
    unused: tuple[str, ...]
    """Layers of the source that nothing was taken of."""
    notes: tuple[str, ...]

    def count(self, fate: Fate) -> int:
        """Layers of that fate."""
        return sum(row.fate == fate for row in self.rows)

    @property
    def summary(self) -> str:
        """One sentence."""
        parts = [f"{counted(self.count(fate), 'layer')} {fate}" for fate in ("taken", "cut", "new") if self.count(fate)]
        left = f"; {counted(len(self.unused), 'layer')} of it left out" if self.unused else ""
        return f"begins from {self.source} ({self.what}): {', '.join(parts)}{left}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "source": self.source,
            "what": self.what,
            "sha256": self.start.sha256,
            **{fate: self.count(fate) for fate in ("taken", "cut", "new")},
            "unused": list(self.unused),
            "notes": list(self.notes),
            "layers": [row.to_json() for row in self.rows],
        }


def begin(
    graph: Graph,
    known: Known,
    labels: Sequence[str],
    images: NDArray[np.uint8],
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | None = None,
) -> Begun:
    """A start for a training of ``graph``: what fits of ``known``, the rest as drawn by ``seed``.

    ``images``: training images (N, H, W, C) on which batch norm's statistics are measured. The classifier is taken where the source
    has the same classes (``labels``). Raises UserError where nothing fits, or where ``recipe.freeze`` names what is not there.
    """
    made = _Made(graph, known, tuple(labels), seed)
    made.settle(images, device or torch.device("cpu"))
    if not any(row.fate != "new" for row in made.rows):
        raise UserError(
            f"{known.title}: none of its {counted(len(known.layers), 'layer')} fits this network",
            "begin from a network of the same kind of blocks, or from nothing: leave --init out",
        )
    frozen = frozen_parts(graph, recipe.freeze)
    rows = tuple(Row(row.layer, row.shape, row.fate, row.source, row.note, module_name(row.layer) in frozen) for row in made.rows)
    if loose := [row for row in rows if row.frozen and row.fate == "new"]:
        raise UserError(
            f"recipe.freeze: {loose[0].layer} would stay as it was drawn at random: {loose[0].note}", "freeze only what the source has"
        )
    old = frozenset(module_name(row.layer) for row in rows if row.fate != "new")
    start = Start({key: value.detach().clone() for key, value in made.network.state_dict().items()}, known.sha256, old, frozen)
    unused = tuple(layer.name for layer in known.layers if layer.name not in {row.source for row in rows})
    return Begun(start, known.title, known.what, rows, unused, (*known.notes, *made.notes))


def frozen_parts(graph: Graph, freeze: int | tuple[str, ...]) -> frozenset[str]:
    """The modules of ``graph`` that ``recipe.freeze`` names: the stem and the first N stages, or parts by their names.

    Raises UserError for a part that the network has not, and where nothing would be left to train.
    """
    weighted = [op.name for op in graph.ops if isinstance(op, WEIGHTED)]
    if isinstance(freeze, int):
        stages = list(dict.fromkeys(name.partition(".")[0] for name in weighted if "." in name))
        if freeze > len(stages):
            raise UserError(f"recipe.freeze: {freeze} stages, and the network has {len(stages)}", f"its stages: {', '.join(stages)}")
        wanted: list[str] = [*(["stem"] if freeze and "stem" in weighted else []), *stages[:freeze]]
    else:
        wanted = list(freeze)
    found: set[str] = set()
    for part in wanted:
        names = {name for name in weighted if name == part or name.startswith(f"{part}.")}
        if not names:
            known = list(dict.fromkeys(name.partition(".")[0] for name in weighted))
            raise UserError(f"recipe.freeze: the network has no part {part!r}", f"its parts: {', '.join(known)}; blocks such as s0.b0")
        found |= names
    if len(found) == len(weighted):
        raise UserError("recipe.freeze: names every layer, and nothing would be left to train", "leave the classifier (fc) out")
    return frozenset(module_name(name) for name in found)


class _Made:
    """The network in the making."""

    def __init__(self, graph: Graph, known: Known, labels: tuple[str, ...], seed: int) -> None:
        self.graph, self.known, self.labels = graph, known, labels
        self.network = Network(graph, seed=seed)
        self.rows: list[Row] = []
        self.notes: list[str] = []
        #: per operator with batch norm: rows that keep their function (folded sources), and whether statistics are measured at all
        self.preserved: dict[str, NDArray[np.bool_]] = {}
        self.measured: set[str] = set()
        weighted = [op for op in graph.ops if isinstance(op, WEIGHTED)]
        self.first = next((op.name for op in weighted if op.inputs[0] == graph.inputs[0]), None)
        *body, last = weighted
        layers = list(known.layers)
        has_classifier = layers[-1].kind == "fc"
        taken = pair_layers(body, layers[:-1] if has_classifier else layers, self.first)
        self.order, self.why_new = self._classes(layers[-1] if has_classifier else None)
        if self.order is not None:
            taken[last.name] = layers[-1]
        before = set(taken)
        self.channels = choose_channels(graph, taken)
        misfits = before - set(taken)
        exact = True
        with torch.no_grad():
            for op in weighted:
                layer = taken.get(op.name)
                why = "its channels do not go with those of the layers around it" if op.name in misfits else "the source has no such layer"
                if op is last:
                    why = self.why_new or "what it reads is new, or has other channels"
                exact &= self._layer(op, layer, why, exact, last=op is last)
        self.network.fit_grids()

    def _classes(self, layer: Layer | None) -> tuple[Picks | None, str]:
        """(which of the source's classes ours are, why they are new)."""
        known, mine = self.known.labels, self.labels
        if layer is None:
            return None, "the source has no classifier"
        if not known:
            if layer.rows != self.graph.classes:
                return (
                    None,
                    f"the source has {counted(layer.rows, 'output')}, the data have {counted(self.graph.classes, 'class', 'classes')}",
                )
            self.notes.append(f"the source does not name its {layer.rows} classes: the classifier is taken as it stands")
            return np.arange(layer.rows), ""
        if set(known) != set(mine) or len(known) != layer.rows or layer.rows != self.graph.classes:
            return None, f"the source's classes are others: {self.known.labels_words}"
        return np.array([known.index(label) for label in mine]), ""

    def _layer(self, op: Weighted, layer: Layer | None, why: str, exact: bool, *, last: bool) -> bool:
        """Put ``layer`` into ``op``; whether it is there just as it was."""
        module, norm = self.network.named_op(op.name)
        shape = " x ".join(map(str, module.weight.shape))
        if layer is None:
            self.rows.append(Row(op.name, shape, "new", "", why))
            if norm is not None:
                self.measured.add(op.name)
            return False
        notes: list[str] = []
        if op.name == self.first:
            layer = self._first(op, layer, notes)
        into = self.order if last else self.channels.of(op.output)
        out_of = None if op.inputs[0] == self.graph.inputs[0] else self.channels.of(op.inputs[0])
        rows = np.arange(layer.rows) if into is None else into
        columns = np.arange(layer.columns) if out_of is None else out_of
        weight = _sliced(layer, kernel_of(op), rows, columns, depthwise=isinstance(op, DepthwiseConv2D))
        whole = _whole(rows, layer.rows) and (isinstance(op, DepthwiseConv2D) or _whole(columns, layer.columns))
        if not last:
            notes += _words("channels", rows, layer.rows)
        if not isinstance(op, DepthwiseConv2D):
            notes += _words("input channels", columns, layer.columns)
        if layer.kernel != kernel_of(op):
            whole = False
            sizes = ["x".join(map(str, kernel)) for kernel in (kernel_of(op), layer.kernel)]
            notes.append(
                f"kernel {sizes[0]}, the middle of {sizes[1]}" if kernel_of(op) < layer.kernel else f"kernel {sizes[0]} around {sizes[1]}"
            )
        notes += self._padding(op, layer)
        there = torch.from_numpy(rows >= 0)
        module.weight[there] = torch.from_numpy(weight[rows >= 0])
        self._bias(op, layer, rows, there, module, norm, exact and whole)
        self.rows.append(Row(op.name, shape, "taken" if whole else "cut", layer.name, "; ".join(notes)))
        return whole

    def _bias(
        self,
        op: Weighted,
        layer: Layer,
        rows: Picks,
        there: Tensor,
        module: torch.nn.Module,
        norm: torch.nn.BatchNorm2d | None,
        exact: bool,
    ) -> None:
        picked = rows[rows >= 0]
        if norm is None:
            # Ours has no batch norm here: what the source has is folded in.
            _, bias = layer.folded()
            assert isinstance(module.bias, Tensor) and isinstance(module.weight, Tensor)
            if layer.norm is not None:
                factor = torch.from_numpy(layer.norm.factor[picked])
                module.weight[there] *= factor.reshape(-1, *([1] * (module.weight.ndim - 1)))
            module.bias[there] = torch.from_numpy(bias[picked])
            return
        assert norm.running_mean is not None and norm.running_var is not None
        source = layer.norm
        if source is None:
            norm.weight[there] = float(np.sqrt(1.0 + norm.eps))
            norm.bias[there] = torch.from_numpy(layer.bias[picked])
            self.preserved[op.name] = rows >= 0
            self.measured.add(op.name)
            return
        var = source.var if source.eps == norm.eps else np.maximum(source.var + (source.eps - norm.eps), 0)
        values = (source.gamma, source.beta, source.mean - layer.bias, var)
        for target, value in zip((norm.weight, norm.bias, norm.running_mean, norm.running_var), values, strict=True):
            target[there] = torch.from_numpy(np.asarray(value[picked], np.float32))
        if not exact:
            self.measured.add(op.name)

    def _first(self, op: Weighted, layer: Layer, notes: list[str]) -> Layer:
        """The first layer over what our input is: colours and the source's own normalisation are undone into it."""
        pixels, ours = self.known.pixels, self.graph.input
        weight = layer.weight.astype(np.float64)
        if not pixels.fits(layer.columns):
            raise UserError(f"{self.known.title}: its pixels have other channels than its first layer, which reads {layer.columns}")
        mean, std = (np.broadcast_to(np.asarray(part, np.float64), (layer.columns,)) for part in (pixels.mean, pixels.std))
        if pixels.bgr:
            weight, mean, std = weight[:, ::-1], mean[::-1], std[::-1]
            notes.append("blue came first")
        # (pixel - mean) / std = scale * ours + shift
        scale, shift = (1 / ours.scale) / std, (ours.zero_point - mean) / std
        spread = (1, -1, 1, 1) if not isinstance(op, DepthwiseConv2D) else (-1, 1, 1, 1)
        bias = (weight * shift.reshape(spread)).reshape(len(weight), -1).sum(1)
        weight = weight * scale.reshape(spread)
        if np.abs(scale - 1).max() > 1e-3 or np.abs(shift).max() > 1e-3:
            notes.append(f"reads {pixels.formula} there ({self.known.pixels_from}), {ours.formula} here: worked into weights and bias")
        if np.abs(shift / scale).max() > _BORDER and not _unpadded(op):
            notes.append("padding at the border is gray here and another shade there")
        if isinstance(op, Conv2D) and columns_of(op) != layer.columns:
            if {columns_of(op), layer.columns} != {1, 3}:
                raise UserError(
                    f"{self.known.title}: reads {layer.columns} channels, this network {columns_of(op)}",
                    "begin from a network that reads the same kind of input",
                )
            if columns_of(op) == 1:
                weight = weight.sum(1, keepdims=True)
                notes.append("gray: the weights of the three colours added")
            else:
                weight = weight * np.asarray(_GRAY).reshape(1, 3, 1, 1)
                notes.append("colours: the weights of gray shared out to red, green and blue")
        moved = np.asarray(bias, np.float32)
        norm = layer.norm
        if norm is None:
            return Layer(layer.name, layer.kind, np.asarray(weight, np.float32), layer.bias + moved)
        return Layer(layer.name, layer.kind, np.asarray(weight, np.float32), layer.bias + moved, norm)

    def _padding(self, op: Weighted, layer: Layer) -> list[str]:
        """What is said where the source pads the very same map on other sides."""
        net = self.known.net
        if net is None or isinstance(op, FullyConnected):
            return []
        name = next((name for name, other in net.layers.items() if other.name == layer.name), None)
        there = next((other for other in net.graph.ops if other.name == name), None)
        if not isinstance(there, (Conv2D, DepthwiseConv2D)) or (there.reach, there.stride) != (op.reach, op.stride):
            return []
        if there.padding == op.padding or net.graph.shape(there.inputs[0])[:2] != self.graph.shape(op.inputs[0])[:2]:
            return []
        sides = ["/".join(map(str, (pad.top, pad.bottom, pad.left, pad.right))) for pad in (there.padding, op.padding)]
        return [f"padded {sides[0]} pixels there (top/bottom/left/right), {sides[1]} here"]

    def settle(self, images: NDArray[np.uint8], device: torch.device) -> None:
        """Measure batch norm's statistics in one pass, each layer behind those that are settled already."""
        if not self.measured:
            return
        self.network.to(device).eval()
        hooks = []
        for op in self.graph.ops:
            if isinstance(op, WEIGHTED) and op.name in self.measured:
                module = self.network.get_submodule(module_name(op.name))
                assert isinstance(module, ConvBN) and module.bn is not None
                hooks.append(module.bn.register_forward_pre_hook(_settler(self.preserved.get(op.name))))
        batch = torch.from_numpy(np.array(images[:NORM_IMAGES])).to(device)
        try:
            with torch.no_grad():
                self.network(normalise(batch, self.graph.input))
        finally:
            for hook in hooks:
                hook.remove()
        self.network.to("cpu")


def _settler(preserved: NDArray[np.bool_] | None) -> Any:
    def settle(module: BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        assert module.running_mean is not None and module.running_var is not None
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), unbiased=False)
        if preserved is not None:
            keep = torch.from_numpy(preserved).to(mean.device)
            # y = gamma' (x - mean) / sqrt(var + eps) + beta' is x + beta, whatever mean and var are.
            module.bias[keep] += mean[keep]
            module.weight[keep] = (var[keep] + module.eps).sqrt()
        module.running_mean.copy_(mean)
        module.running_var.copy_(var)

    return settle


def _unpadded(op: Weighted) -> bool:
    return isinstance(op, FullyConnected) or op.padding.none


def _whole(picks: Picks, size: int) -> bool:
    return len(picks) == size and bool((picks >= 0).all())


def _words(what: str, picks: Picks, size: int) -> list[str]:
    new = int((picks < 0).sum())
    if new:
        return [f"{what}: {len(picks) - new} of the source and {new} new"]
    return [f"{what}: the {len(picks)} strongest of {size}"] if len(picks) < size else []


def _sliced(layer: Layer, kernel: tuple[int, ...], rows: Picks, columns: Picks, *, depthwise: bool) -> Floats:
    """The weights of ``rows`` over ``columns``, kernels around their middle; zeros where a column or a tap is new."""
    weight = layer.weight[np.maximum(rows, 0)]
    if not depthwise:
        weight = np.where((columns >= 0).reshape(1, -1, *([1] * (weight.ndim - 2))), weight[:, np.maximum(columns, 0)], 0)
    for axis, size in enumerate(kernel, 2):
        have = weight.shape[axis]
        if have > size:
            start = (have - size) // 2
            weight = weight.take(range(start, start + size), axis)
        elif have < size:
            before = (size - have) // 2
            pads = [(0, 0)] * weight.ndim
            pads[axis] = (before, size - have - before)
            weight = np.pad(weight, pads)
    return np.ascontiguousarray(weight, dtype=np.float32)
