"""Scene: what a scheme may look at when it chooses: a network, images, the budget, what was seen so far; and what choices cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tinynas.adapt.budget import UpdateBudget
from tinynas.adapt.learner import EVAL_BATCH, Learner
from tinynas.cost import Cost, estimate
from tinynas.cost.apart import SUPPORTED, unlearnable
from tinynas.cost.backward import UpdateCost, estimate_update, gradients_needed
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.updates import Update, area_of, columns_of, full_update, last_layers, outputs_part, weighted_of
from tinynas.data import Split
from tinynas.errors import BudgetError, UserError
from tinynas.graph import Graph, Weighted, outputs_of
from tinynas.quantize.floats import pixels


@dataclass(frozen=True)
class Contributions:
    """Gains in validation cross entropy over the classifier alone (depths), and over the biases of all layers (weights)."""

    depths: Mapping[int, float]
    """By how many layers in front of the classifier have their biases updated."""
    weights: Mapping[tuple[str, float], float]
    """By operator and share of its input channels."""


@dataclass
class Scene:
    """What is known before an epoch."""

    learner: Learner
    budget: UpdateBudget
    seed: int
    train: Split | None = None
    """What will be learned from; None where only costs are asked for."""
    val: Split | None = None
    """New images that are not learned from."""
    epoch: int = 0
    """Epochs done."""
    velocities: dict[str, NDArray[np.float64]] | None = None
    """Of the neurons of each operator, after the first epoch; see :class:`Velocities`."""
    tightened: int = 0
    """Bytes by which the plan of what was chosen before exceeded the bytes alive at its peak: room that is left for it."""
    contributions: Contributions | None = None
    """What ``sparse`` measured, where it has."""
    on_step: Callable[[str, int, int], None] | None = field(default=None, repr=False)
    """Hears of long measurements: what, done, of how many."""

    @property
    def graph(self) -> Graph:
        """The network's."""
        return self.learner.graph

    @cached_property
    def inference(self) -> Cost:
        """What inference alone costs."""
        return estimate(self.graph, self.budget.runtime, core=self.budget.core)

    @cached_property
    def ops(self) -> list[Weighted]:
        """Operators with weights."""
        return weighted_of(self.graph)

    @property
    def base(self) -> Update:
        """What every scheme updates: the classifier, as in MCUNetV3 and NEq, whose images have classes that it has not seen; with
        ``learning.outputs=new`` its new rows alone."""
        if self.budget.learning.outputs == "all":
            return last_layers(self.graph, 1)
        last = self.ops[-1]
        return Update({last.name: outputs_part(last, range(self.learner.old, outputs_of(last)))})

    def with_base(self, update: Update) -> Update:
        """``update`` with no more of the classifier than the base has."""
        return Update(dict(update.parts) | dict(self.base.parts))

    def cost(self, update: Update, *, planned: bool = False) -> UpdateCost:
        """What a step of ``update`` costs under the budget's way of learning."""
        learning = self.budget.learning
        return estimate_update(
            self.graph,
            update,
            runtime=self.budget.runtime,
            core=self.budget.core,
            arithmetic=learning.arithmetic,
            batch=learning.batch,
            momentum=learning.momentum > 0,
            planned=planned,
            inference=self.inference,
        )

    def unlearnable(self, update: Update) -> str:
        """Why the board's code does not learn ``update``; empty where it does."""
        runtime = runtime_named(self.budget.runtime, self.budget.core)
        return unlearnable(self.graph, update, gradients_needed(self.graph, update), runtime)

    def fits(self, update: Update) -> bool:
        """Whether the budget allows ``update``, by the bytes alive and the room that the plan took before; on the board not where no
        code learns it."""
        if self.budget.learning.mode == "board" and self.unlearnable(update):
            return False
        cost = self.cost(update)
        used = self.budget.used(cost)
        for name in ("ram", "extra"):
            if name in used and used[name][0] + self.tightened > used[name][1]:
                return False
        return all(taken <= limit for taken, limit in used.values())


def longest(scene: Scene, candidates: Sequence[Update]) -> Update | None:
    """The last of ``candidates``, each of which updates at least what the one before does, that fits; None where none does."""
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        if scene.fits(candidates[middle]):
            low = middle + 1
        else:
            high = middle
    return candidates[low - 1] if low else None


def require_base(scene: Scene) -> None:
    """Raise BudgetError where not even the classifier may be updated."""
    if scene.budget.learning.mode == "board" and (why := scene.unlearnable(scene.base)):
        raise UserError(f"learning.mode=board: {why}", f"there are {SUPPORTED}")
    if not scene.fits(scene.base):
        cost = scene.cost(scene.base)
        raise BudgetError(
            f"update budget {scene.budget.name}: the classifier alone does not fit: {scene.budget.words(cost)}", "raise the limit"
        )


Neuron = tuple[str, int]
"""(operator, output channel)."""


def fill(scene: Scene, order: Sequence[Neuron]) -> Update:
    """The base, and the neurons of ``order`` one after the other as long as they fit.

    Where one does not fit, its operator gets no more of them, and the next ones are tried: all neurons of an operator take the same.
    """
    require_base(scene)
    ops = {op.name: op for op in scene.ops}
    taken: dict[str, set[int]] = {}
    left = list(order)

    def made(count: int) -> Update:
        chosen = {name: set(channels) for name, channels in taken.items()}
        for name, channel in left[:count]:
            chosen.setdefault(name, set()).add(channel)
        return Update(dict(scene.base.parts) | {name: outputs_part(ops[name], channels) for name, channels in chosen.items()})

    while left:
        count = most(len(left), lambda count: scene.fits(made(count)))
        for name, channel in left[:count]:
            taken.setdefault(name, set()).add(channel)
        closed = left[count][0] if count < len(left) else ""
        left = [neuron for neuron in left[count:] if neuron[0] != closed]
    return made(0)


def most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest count of at most ``limit`` that ``fits``: 0 does, and what more does, less does, too.

    Asked for in steps of 1, 2, 4 and so on, then halved: where few fit, which is so each time but the first, few are asked for.
    """
    low, high, step = 0, limit, 1
    while low < high:
        tried = min(limit, low + step)
        if not fits(tried):
            high = tried - 1
            break
        low, step = tried, 2 * step
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def neurons_of(scene: Scene) -> list[Neuron]:
    """All neurons but the classifier's: outputs of convolutions, as NEq counts them, and of the dense layers of gates."""
    return [(op.name, channel) for op in scene.ops[:-1] for channel in range(outputs_of(op))]


def neuron_parameters(op: Weighted) -> int:
    """Weights and bias of one output channel."""
    return columns_of(op) * area_of(op) + 1


def ratio_channels(norms: NDArray[np.float64], ratio: float) -> tuple[int, ...]:
    """The share ``ratio`` of channels with the largest ``norms``, at least one."""
    count = max(1, int(len(norms) * ratio))
    return tuple(sorted(int(i) for i in np.argsort(-norms, kind="stable")[:count]))


def output_norms(learner: Learner, op: Weighted) -> NDArray[np.float64]:
    """L2 norm of the weights of each output channel."""
    weight = learner.floats_of(op)
    norms: NDArray[np.float64] = np.sqrt((weight.reshape(len(weight), -1).astype(np.float64) ** 2).sum(1))
    return norms


def input_norms(learner: Learner, op: Weighted) -> NDArray[np.float64]:
    """L2 norm of the weights that read each input channel; of a depthwise convolution those are its rows."""
    weight = learner.floats_of(op)
    if columns_of(op) == 1 and op.kind == "dw":
        return output_norms(learner, op)
    columns = weight.transpose(1, 0, *range(2, weight.ndim)).reshape(weight.shape[1], -1).astype(np.float64)
    norms: NDArray[np.float64] = np.sqrt((columns**2).sum(1))
    return norms


class Velocities:
    """Velocity of each neuron (Quélennec et al., arXiv 2312.05282, after NEq, Bragagnolo et al., arXiv 2207.09455).

    After each epoch a neuron's outputs on the validation images are compared with those of the epoch before: phi_t, the mean over images
    of the cosine similarity over the output's pixels (1 where both are all zero, 0 where one is), as the published code of 2312.05282
    has it; NEq takes one cosine over pixels and images together. dphi_t = phi_t - phi_(t-1), phi_0 = 1; the velocity is
    v_t = dphi_t - mu * v_(t-1). The published code divides it by the neuron's parameters before it ranks, and so does ``velocity``. That
    code keeps its velocity by a recursion of its own, whose sign and lag differ; here it is the definition in the papers.
    """

    def __init__(self, learner: Learner, images: NDArray[np.uint8], mu: float) -> None:
        self.images, self.mu = images, mu
        self.before = self._outputs(learner)
        self.similarity: dict[str, NDArray[np.float64]] = {}
        self.velocity: dict[str, NDArray[np.float64]] = {}

    def after_epoch(self, learner: Learner) -> dict[str, NDArray[np.float64]]:
        """The velocities now, by operator: (output channels,)."""
        now = self._outputs(learner)
        for name, values in now.items():
            phi = _similarity(self.before[name], values)
            delta = phi - self.similarity.get(name, np.ones_like(phi))
            self.velocity[name] = delta - self.mu * self.velocity.get(name, np.zeros_like(phi))
            self.similarity[name] = phi
        self.before = now
        return {name: values.copy() for name, values in self.velocity.items()}

    @torch.no_grad()
    def _outputs(self, learner: Learner) -> dict[str, NDArray[np.float32]]:
        names = {op.output: name for name, op in learner.ops.items()}
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in learner.ops}

        def see(tensor: int, values: Tensor) -> None:
            if tensor in names:
                found[names[tensor]].append(values.reshape(*values.shape[:2], -1).numpy().astype(np.float32, copy=True))

        for start in range(0, len(self.images), EVAL_BATCH):
            learner.forward(pixels(np.array(self.images[start : start + EVAL_BATCH]), learner.graph.input), see)
        return {name: np.concatenate(parts) for name, parts in found.items()}


def _similarity(before: NDArray[np.float32], now: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean over images (N, C, pixels) of the cosine of each channel: (C,)."""
    one, two = before.astype(np.float64), now.astype(np.float64)
    lengths = np.sqrt((one**2).sum(2)), np.sqrt((two**2).sum(2))
    product = lengths[0] * lengths[1]
    cosine = np.divide((one * two).sum(2), product, out=np.zeros_like(product), where=product > 0)
    idle = (lengths[0] == 0) & (lengths[1] == 0)
    mean: NDArray[np.float64] = np.where(idle, 1.0, cosine).mean(0)
    return mean


def fisher(learner: Learner, split: Split) -> dict[str, NDArray[np.float64]]:
    """Fisher information of each output channel: Delta_o = 1/(2N) sum_n (sum_d a_nd g_nd)^2 (TinyTrain, arXiv 2307.09988, equation 2, after
    Turner et al., arXiv 1906.04113): a the output of the operator, its activation included, g the gradient of the loss of image n."""
    names = {op.output: name for name, op in learner.ops.items()}
    found = {name: np.zeros(outputs_of(op)) for name, op in learner.ops.items()}
    work = learner.copy()
    for start in range(0, len(split.labels), EVAL_BATCH):
        rows = slice(start, start + EVAL_BATCH)
        seen: dict[str, Tensor] = {}

        def see(tensor: int, values: Tensor, seen: dict[str, Tensor] = seen) -> None:
            if tensor in names and values.requires_grad:
                values.retain_grad()
                seen[names[tensor]] = values

        with work.gradients_of(full_update(learner.graph)):
            logits = work.forward(pixels(np.array(split.inputs[rows]), learner.graph.input), see)
            F.cross_entropy(logits, torch.from_numpy(np.array(split.labels[rows])), reduction="sum").backward()  # type: ignore[no-untyped-call]
        for name, values in seen.items():
            if values.grad is None:
                continue
            product = (values.detach() * values.grad).reshape(*values.shape[:2], -1).sum(2)
            found[name] += (product.double() ** 2).sum(0).numpy()
    return {name: values / (2 * len(split.labels)) for name, values in found.items()}
