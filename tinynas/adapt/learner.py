"""Learner: a network that learns as a board would: batch norm folded in, SGD on what an Update names, a few images a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tinynas.adapt.budget import Learning
from tinynas.cost.backward import gradients_needed
from tinynas.cost.updates import Part, Update, last_layers, weighted_of
from tinynas.data import Split
from tinynas.data.split import epoch_order
from tinynas.errors import TinynasError, UserError
from tinynas.graph import DepthwiseConv2D, FullyConnected, Graph, Op, Pool2D, Resize, Weighted, few_bits, outputs_of
from tinynas.quantize import FakeQuantNetwork, QuantizedGraph, TensorQuant, quantize
from tinynas.quantize.floats import FloatGraph, apply, pixels, tflite_layout, torch_layout, walk

#: Images a step of evaluation.
EVAL_BATCH = 128
#: What the grid of int8 logits reaches over what calibration saw: logits of classes that are learned later grow.
LOGIT_ROOM = 2.0


class LostLearning(TinynasError):
    """The weights are no longer numbers; a lower learning rate is the remedy."""


#: Bytes of activations that are remembered of the images of a split, so that what no step changes is computed once.
REMEMBERED_BYTES = 256 << 20

Place = tuple[Tensor, ...]
"""Indices of the elements of a tensor that are updated."""


@dataclass(frozen=True)
class Target:
    """What of one operator an update changes."""

    op: Weighted
    part: Part
    weights: Place | None
    """Where its weights are updated; None: all of them."""
    biases: Place | None
    """The same of its biases."""

    @staticmethod
    def of(op: Weighted, part: Part) -> Target:
        """That of ``part``."""
        columns = (0,) if isinstance(op, DepthwiseConv2D) else part.columns
        every = len(part.rows) == outputs_of(op) and part.read_of(op) is None
        place = None if every else (torch.tensor(part.rows)[:, None], torch.tensor(columns)[None, :])
        return Target(op, part, place, None if len(part.biases) == outputs_of(op) else (torch.tensor(part.biases),))


@dataclass(frozen=True)
class Body:
    """A network as ``update`` divides it: the front, of which no step changes anything, and the tail, on which its gradients are."""

    update: Update
    targets: tuple[Target, ...]
    front: tuple[Op, ...]
    tail: tuple[Op, ...]
    kept: tuple[int, ...]
    """What the tail reads of the front, or the logits where there is no tail."""
    whole: FakeQuantNetwork | None = None
    """Of ``board`` the front in integers, which computes no more than is read."""
    frozen: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Of ``int8`` the real weights and biases of what is on the way and not updated."""


@dataclass
class Remembered:
    """What the tail reads of the front, by image of ``split``."""

    split: Split
    rows: dict[int, dict[int, Tensor]] = field(default_factory=dict)
    left: int = REMEMBERED_BYTES


@dataclass(frozen=True)
class Grids:
    """The int8 grids of a network that learns on them: they stay as they were when it was exported."""

    qgraph: QuantizedGraph
    scales: Mapping[str, Tensor]
    """By operator the scale of each output channel, shaped to meet its weights."""


def with_outputs(graph: Graph, count: int) -> Graph:
    """``graph`` with a classifier of ``count`` outputs. Raises UserError where it ends in no fully connected layer."""
    last = graph.ops[-1]
    if not isinstance(last, FullyConnected) or last.output != graph.logits:
        raise UserError(f"the network ends in {last.kind}, not in a fully connected classifier", "learning new classes needs one")
    tensors = list(graph.tensors)
    tensors[last.output] = replace(tensors[last.output], shape=(count,))
    return replace(graph, tensors=tuple(tensors), ops=(*graph.ops[:-1], replace(last, out_features=count)), arch=None)


def with_classes(floats: FloatGraph, old: int, new: int, *, head: str, seed: int) -> FloatGraph:
    """``floats`` with a classifier for ``old + new`` classes (``extend``: the old rows stay) or for ``new`` alone (``replace``).

    New rows begin small and random, their biases at the mean of the old ones.
    """
    graph = floats.graph
    last = graph.ops[-1]
    count = old + new if head == "extend" else new
    if head == "extend" and not new:
        return floats
    made = with_outputs(graph, count)
    weight, bias = floats.weights[last.name], floats.biases[last.name]
    drawn = np.random.default_rng((seed, 0xADA7)).normal(0.0, 0.01, (new, weight.shape[1])).astype(np.float32)
    level = np.full(new, bias.mean(), np.float32)
    weights = dict(floats.weights) | {last.name: np.concatenate([weight, drawn]) if head == "extend" else drawn}
    biases = dict(floats.biases) | {last.name: np.concatenate([bias, level]) if head == "extend" else level}
    return FloatGraph(made, weights, biases, floats.norms, floats.steps)


def _with_room(qgraph: QuantizedGraph) -> QuantizedGraph:
    logits = qgraph.graph.logits
    quant, grids = qgraph.tensors[logits], list(qgraph.tensors)
    low, high = ((end - quant.zero_point) * quant.scale * LOGIT_ROOM for end in (-128, 127))
    grids[logits] = TensorQuant.covering(low, high)
    return replace(qgraph, tensors=tuple(grids))


class Learner:
    """The parameters of a network and what a step does to them. ``calibration``: uint8 images (N, H, W, C) for the grids of
    ``int8`` and ``board``. ``old``: so many of its classes it knew."""

    def __init__(self, floats: FloatGraph, learning: Learning, *, calibration: NDArray[np.uint8] | None = None, old: int = 0) -> None:
        self.graph, self.learning = floats.graph, learning
        #: so many of the first outputs are of classes that the network knew
        self.old = old
        self.ops = {op.name: op for op in weighted_of(floats.graph)}
        self.grids: Grids | None = None
        #: of ``board`` the integer network
        self.qgraph: QuantizedGraph | None = None
        self._body: Body | None = None
        self._remembered: Remembered | None = None
        #: by operator in PyTorch's layout; of ``int8`` in steps of their grids, finer than these
        self.weights: dict[str, Tensor] = {}
        self.biases: dict[str, Tensor] = {}
        if learning.mode == "int8":
            if few_bits(floats.graph):
                raise UserError("learning in int8: the network has weights of fewer than 8 bits", "use learning.mode=float")
            assert calibration is not None
            self._on_grids(_with_room(quantize(floats, calibration)))
        elif learning.mode == "board":
            assert calibration is not None
            self.qgraph = quantize(floats, calibration)
            self._from_integers(self.qgraph)
            self.aim(last_layers(floats.graph, 1))
        else:
            for name, op in self.ops.items():
                self.weights[name] = torch.from_numpy(torch_layout(op, floats.weights[name]).astype(np.float32).copy())
                self.biases[name] = torch.from_numpy(floats.biases[name].astype(np.float32).copy())
        self._momenta: dict[str, tuple[Tensor, Tensor]] = {}

    def _on_grids(self, qgraph: QuantizedGraph) -> None:
        scales: dict[str, Tensor] = {}
        for name, op in self.ops.items():
            self.weights[name] = torch.from_numpy(torch_layout(op, qgraph.weights[name]).astype(np.float32).copy())
            self.biases[name] = torch.from_numpy(qgraph.biases[name].astype(np.float32).copy())
            scale = torch.from_numpy(np.broadcast_to(qgraph.weight_scales[name], (len(self.biases[name]),)).astype(np.float32).copy())
            scales[name] = scale
        self.grids = Grids(qgraph, scales)

    def _from_integers(self, qgraph: QuantizedGraph) -> None:
        """Real weights and biases at what the integers stand for."""
        for name, op in self.ops.items():
            steps = np.broadcast_to(qgraph.weight_scales[name], (outputs_of(op),)).astype(np.float32)
            weight = torch_layout(op, qgraph.weights[name]).astype(np.float32)
            self.weights[name] = torch.from_numpy(weight * steps.reshape(-1, *[1] * (weight.ndim - 1)))
            self.biases[name] = torch.from_numpy(qgraph.biases[name].astype(np.float32) * qgraph.bias_scales(name).astype(np.float32))

    def aim(self, update: Update) -> None:
        """Divide the network into what ``update`` leaves as it is and what it learns; of ``board`` the front stays integer."""
        if self._body is not None and (self._body.update is update or self._body.update == update):
            return
        if self.qgraph is not None and update.nothing:
            return
        needed = gradients_needed(self.graph, update)
        front = tuple(op for op in self.graph.ops if op.output not in needed)
        tail = tuple(op for op in self.graph.ops if op.output in needed)
        kept = tuple(sorted({tensor for op in tail for tensor in op.inputs} - needed)) if tail else (self.graph.logits,)
        targets = tuple(Target.of(op, update.of(op)) for op in self.ops.values() if not update.of(op).nothing)
        whole = None
        if self.qgraph is not None:
            whole = FakeQuantNetwork(replace(self.qgraph, graph=replace(self.graph, ops=front, outputs=kept)))
        # The same front that gave what is remembered has changed in nothing since: every step in between had it, too.
        if self._body is None or self._body.front != front:
            self._remembered = None
        self._body = Body(update, targets, front, tail, kept, whole)

    def kept(self, images: NDArray[np.uint8]) -> NDArray[np.int8]:
        """Of ``board``: (N, kept bytes) of uint8 images (N, H, W, C): what the runtime keeps of each for learning."""
        values = self._integers(pixels(images, self.graph.input))
        assert self.qgraph is not None
        parts = []
        for tensor, integers in sorted(values.items()):
            maps = integers.permute(0, 2, 3, 1) if integers.ndim == 4 else integers
            parts.append((maps.numpy() + self.qgraph.tensors[tensor].zero_point).astype(np.int8).reshape(len(images), -1))
        return np.concatenate(parts, axis=1)

    @torch.no_grad()
    def _integers(self, x: Tensor) -> dict[int, Tensor]:
        """What the tail reads: tensor -> integers less their zero points."""
        assert self._body is not None and self._body.whole is not None and self.qgraph is not None
        found = self._body.whole.integers(torch.round(x / self.qgraph.tensors[self.graph.inputs[0]].scale))
        return {tensor: found[tensor].float() for tensor in self._body.kept}

    def _front(self, x: Tensor) -> dict[int, Tensor]:
        """What the tail reads of normalised images (B, C, H, W)."""
        assert self._body is not None
        if self.qgraph is not None:
            return {tensor: found * self.qgraph.tensors[tensor].scale for tensor, found in self._integers(x).items()}
        values = {self.graph.inputs[0]: x}
        for op in self._body.front:
            values[op.output] = self._step(op, [values[t] for t in op.inputs], self._parameters)
        return {tensor: values[tensor] for tensor in self._body.kept}

    def _tail(self, kept: Mapping[int, Tensor]) -> Tensor:
        """Logits from what the front left."""
        assert self._body is not None
        values = dict(kept)
        for op in self._body.tail:
            values[op.output] = self._step(op, [values[t] for t in op.inputs], self._held)
        return values[self.graph.logits]

    def _held(self, op: Weighted) -> tuple[Tensor, Tensor]:
        """:meth:`_parameters`, of what is not updated worked out once."""
        assert self._body is not None
        if self.grids is None or not self._body.update.of(op).nothing:
            return self._parameters(op)
        if op.name not in self._body.frozen:
            self._body.frozen[op.name] = self._parameters(op)
        return self._body.frozen[op.name]

    def _front_of(self, split: Split, rows: NDArray[np.int64]) -> dict[int, Tensor]:
        """What the tail reads of images of ``split``; of one image it is remembered while the same front holds.

        Of several it is not: sums of a batch may run in another order than those of its images alone.
        """
        if self._remembered is None or self._remembered.split is not split:
            self._remembered = Remembered(split)
        memory, row = self._remembered, int(rows[0])
        if len(rows) == 1 and row in memory.rows:
            return memory.rows[row]
        kept = self._front(pixels(np.array(split.inputs[rows]), self.graph.input))
        size = sum(tensor.nbytes for tensor in kept.values())
        if len(rows) == 1 and size <= memory.left:
            memory.rows[row] = kept
            memory.left -= size
        return kept

    def copy(self) -> Learner:
        """Another with the same weights, which learns by itself."""
        other = object.__new__(Learner)
        other.graph, other.learning, other.ops, other.grids = self.graph, self.learning, self.ops, self.grids
        other.old = self.old
        other.weights = {name: tensor.clone() for name, tensor in self.weights.items()}
        other.biases = {name: tensor.clone() for name, tensor in self.biases.items()}
        # Of other modes than ``board`` what a body knows of weights is of this learner's.
        other.qgraph, other._body = self.qgraph, self._body if self.qgraph is not None else None
        other._remembered, other._momenta = None, {}
        return other

    # forward ------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, see: Callable[[int, Tensor], None] | None = None) -> Tensor:
        """Logits (B, classes) of normalised images (B, C, H, W); ``see`` gets every (tensor id, values)."""
        if self.qgraph is None:
            return walk(self.graph, x, lambda op, read: self._step(op, read, self._parameters), see)
        if see is not None:
            raise UserError("learning.mode=board: nothing shows the activations of operators that stay integer", "use learning.mode=float")
        return self._tail(self._front(x))

    def _step(self, op: Op, read: list[Tensor], parameters: Callable[[Weighted], tuple[Tensor, Tensor]]) -> Tensor:
        out = apply(self.graph, op, read, parameters)
        if self.grids is None or isinstance(op, Resize) or (isinstance(op, Pool2D) and op.op == "max"):
            return out
        quant = self.grids.qgraph.tensors[op.output]
        # The gradient passes where the int8 output is not at an end of its range, as a bit an element tells.
        return torch.fake_quantize_per_tensor_affine(out, quant.scale, quant.zero_point, -128, 127)

    def _parameters(self, op: Weighted) -> tuple[Tensor, Tensor]:
        weight, bias = self.weights[op.name], self.biases[op.name]
        if self.grids is None:
            return weight, bias
        scale = self.grids.scales[op.name]
        whole = weight + (weight.detach().round().clamp(-127, 127) - weight.detach())
        whole_bias = bias + (bias.detach().round() - bias.detach())
        return whole * scale.reshape(-1, *[1] * (weight.ndim - 1)), whole_bias * (scale * self._input_scale(op))

    def _input_scale(self, op: Weighted) -> float:
        assert self.grids is not None
        return self.grids.qgraph.tensors[op.inputs[0]].scale

    @torch.no_grad()
    def floats_of(self, op: Weighted) -> NDArray[np.float32]:
        """The real weights of ``op`` as they are, in PyTorch's layout."""
        weight: NDArray[np.float32] = self._parameters(op)[0].numpy()
        return weight

    # learning -----------------------------------------------------------------------------------------

    @contextmanager
    def gradients_of(self, update: Update) -> Iterator[None]:
        """Inside, what ``update`` names collects gradients, and nothing else does."""
        chosen: list[Tensor] = []
        for name, op in self.ops.items():
            part = update.of(op)
            chosen += [self.weights[name]] if part.weighted else []
            chosen += [self.biases[name]] if part.biases else []
        for tensor in chosen:
            tensor.requires_grad_(True)
        try:
            yield
        finally:
            for tensor in chosen:
                tensor.requires_grad_(False)
                tensor.grad = None

    def step(self, images: NDArray[np.uint8], labels: NDArray[np.int64], update: Update, lr: float) -> float:
        """One step of SGD from uint8 ``images`` (B, H, W, C): the mean cross entropy before it. Raises LostLearning."""
        self.aim(update)
        with self.gradients_of(update):
            return self._learn(self._front(pixels(images, self.graph.input)), labels, lr)

    def _learn(self, kept: Mapping[int, Tensor], labels: NDArray[np.int64], lr: float) -> float:
        """:meth:`step` from what the front left, inside :meth:`gradients_of`."""
        loss = F.cross_entropy(self._tail(kept), torch.from_numpy(labels))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise LostLearning("learning: the loss is no longer a number", "lower learning.lr")
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        assert self._body is not None
        with torch.no_grad():
            for target in self._body.targets:
                self._change(target, lr)
        return value

    def _change(self, target: Target, lr: float) -> None:
        op, part = target.op, target.part
        weight, bias = self.weights[op.name], self.biases[op.name]
        slow, slow_bias = self._momenta.get(op.name, (None, None))
        if self.learning.momentum and slow is None:
            slow, slow_bias = self._momenta[op.name] = (torch.zeros_like(weight), torch.zeros_like(bias))
        if part.weighted and weight.grad is not None:
            self._descend(weight, self._scaled(op, weight.grad), slow, target.weights, lr)
        if part.biases and bias.grad is not None:
            self._descend(bias, self._scaled_bias(op, bias.grad), slow_bias, target.biases, lr)
        weight.grad = bias.grad = None

    def _descend(self, tensor: Tensor, gradient: Tensor, slow: Tensor | None, place: Place | None, lr: float) -> None:
        if place is None:
            if slow is not None:
                gradient = slow.mul_(self.learning.momentum).add_(gradient)
            tensor.sub_(lr * gradient)
            return
        gradient = gradient[place]
        if slow is not None:
            slow[place] = self.learning.momentum * slow[place] + gradient
            gradient = slow[place]
        tensor[place] -= lr * gradient

    def _scaled(self, op: Weighted, gradient: Tensor) -> Tensor:
        """MCUNetV3's quantisation-aware scaling: the gradient of integer weights by scale^-2, so that a step changes them by the share
        by which it would change the real ones."""
        if self.grids is None or not self.learning.qas:
            return gradient
        scale = self.grids.scales[op.name].reshape(-1, *[1] * (gradient.ndim - 1))
        return gradient / scale**2

    def _scaled_bias(self, op: Weighted, gradient: Tensor) -> Tensor:
        if self.grids is None or not self.learning.qas:
            return gradient
        return gradient / (self.grids.scales[op.name] * self._input_scale(op)) ** 2

    def epoch(self, split: Split, update: Update, *, seed: int, epoch: int, epochs: int, chosen: NDArray[np.int64] | None = None) -> float:
        """One pass over ``split``, or its images ``chosen``, in an order that follows from (seed, epoch); the mean loss."""
        rows_of_epoch = np.arange(len(split.labels), dtype=np.int64) if chosen is None else chosen
        order = rows_of_epoch[epoch_order(len(rows_of_epoch), seed=seed, epoch=epoch)]
        batch, losses = self.learning.batch, []
        steps = -(-len(order) // batch)
        self.aim(update)
        with self.gradients_of(update):
            for number in range(steps):
                rows = order[number * batch : (number + 1) * batch]
                rate = self.learning.lr
                if self.learning.schedule == "cosine":
                    rate *= 0.5 * (1 + math.cos(math.pi * (epoch * steps + number) / (epochs * steps)))
                losses.append(self._learn(self._front_of(split, rows), np.array(split.labels[rows]), rate) * len(rows))
        return sum(losses) / len(order)

    def forget_momentum(self, update: Update) -> None:
        """Drop the momentum of what ``update`` does not name: there is no memory for it."""
        for name, (slow, slow_bias) in self._momenta.items():
            part = update.of(self.ops[name])
            kept, kept_bias = torch.zeros_like(slow), torch.zeros_like(slow_bias)
            if part.weighted:
                columns = (0,) if isinstance(self.ops[name], DepthwiseConv2D) else part.columns
                place = (torch.tensor(part.rows)[:, None], torch.tensor(columns)[None, :])
                kept[place] = slow[place]
            if part.biases:
                kept_bias[list(part.biases)] = slow_bias[list(part.biases)]
            self._momenta[name] = (kept, kept_bias)

    # what has been learned ----------------------------------------------------------------------------

    def floats(self) -> FloatGraph:
        """The network with what was learned, in real numbers."""
        weights: dict[str, NDArray[np.float32]] = {}
        biases: dict[str, NDArray[np.float32]] = {}
        with torch.no_grad():
            for name, op in self.ops.items():
                weight, bias = self._parameters(op)
                weights[name], biases[name] = tflite_layout(op, weight.numpy()), bias.numpy().copy()
        return FloatGraph(self.graph, weights, biases)

    def integers(self) -> QuantizedGraph:
        """Of ``int8``: the network as the .tflite would hold it, weights and biases rounded."""
        assert self.grids is not None
        qgraph = self.grids.qgraph
        weights: dict[str, NDArray[np.int8]] = {}
        for name, op in self.ops.items():
            integers = self.weights[name].round().clamp(-127, 127).numpy()
            weights[name] = tflite_layout(op, integers).astype(np.int8)
        biases = {name: bias.round().clamp(-(2**30), 2**30).numpy().astype(np.int32) for name, bias in self.biases.items()}
        return replace(qgraph, weights=weights, biases=biases)

    @torch.no_grad()
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, classes): of ``int8`` in integer arithmetic that equals TFLM's."""
        if not len(images):
            return np.zeros((0, self.graph.classes), np.float32)
        whole = None if self.grids is None else FakeQuantNetwork(self.integers())
        found = []
        for start in range(0, len(images), EVAL_BATCH):
            x = pixels(np.array(images[start : start + EVAL_BATCH]), self.graph.input)
            found.append((self.forward(x) if whole is None else whole(x)).float().numpy())
        return np.concatenate(found)

    def accuracy(self, split: Split | None) -> float | None:
        """Share of ``split`` that is named right; None without images."""
        if split is None or not len(split.labels):
            return None
        return float((self.logits(split.inputs).argmax(1) == split.labels).mean())
