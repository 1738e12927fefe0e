"""SCHEMES: who says which weights are updated under a budget, by name; each row says what it is and whence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinynas.adapt import sparse as sparse_update
from tinynas.adapt.scenes import (
    Scene,
    fill,
    fisher,
    longest,
    neuron_parameters,
    neurons_of,
    output_norms,
    ratio_channels,
    require_base,
)
from tinynas.cost.backward import UpdateCost
from tinynas.cost.updates import Update, biases_of, full_update, last_biases, last_layers, outputs_part
from tinynas.errors import BudgetError, UserError

Choose = Callable[[Scene], Update]


@dataclass(frozen=True)
class Scheme:
    """A way to choose."""

    name: str
    title: str
    choose: Choose
    every_epoch: bool = False
    """Whether it chooses anew before each epoch; else once."""
    needs: tuple[str, ...] = ()
    """Of ``weights`` and ``data``: what it looks at beside costs."""
    reference: bool = False
    """Whether it asks no budget: it stands beside the others for comparison."""
    on_board: bool = False
    """Whether the firmware folder's ``adapt.h`` learns what it chooses (``learning.mode=board``)."""


def _full(scene: Scene) -> Update:
    """All weights and biases, whatever the budget says."""
    return full_update(scene.graph)


def _classifier(scene: Scene) -> Update:
    """The classifier alone: what every other scheme updates, too."""
    require_base(scene)
    return scene.base


def _last(scene: Scene) -> Update:
    """All of the last k layers, k as large as fits: the first baseline of MCUNetV3 (arXiv 2206.15472, figure 9)."""
    require_base(scene)
    found = longest(scene, [scene.with_base(last_layers(scene.graph, count + 1)) for count in range(len(scene.ops))])
    assert found is not None
    return found


def _bias(scene: Scene) -> Update:
    """Biases of the last k layers and the classifier, k as large as fits: TinyTL's bias-only (arXiv 2007.11622), MCUNetV3's second
    baseline."""
    require_base(scene)
    found = longest(scene, [scene.with_base(last_biases(scene.graph, count + 1)) for count in range(len(scene.ops))])
    assert found is not None
    return found


def _sparse(scene: Scene) -> Update:
    """MCUNetV3's sparse update: see :mod:`tinynas.adapt.sparse`."""
    require_base(scene)
    if scene.contributions is None:
        scene.contributions = sparse_update.measure(scene)
    return sparse_update.choose(scene, scene.contributions)


def _random(scene: Scene) -> Update:
    """Neurons drawn at random, anew each epoch, until the budget is full: the baseline of arXiv 2312.05282."""
    neurons = neurons_of(scene)
    order = np.random.default_rng((scene.seed, scene.epoch, 0x2A11)).permutation(len(neurons))
    return fill(scene, [neurons[i] for i in order])


def _velocity(scene: Scene) -> Update:
    """The neurons of largest velocity a parameter, anew each epoch, until the budget is full (arXiv 2312.05282; see
    :class:`tinynas.adapt.scenes.Velocities`). Nothing has moved before the first epoch: there they are drawn at random.

    The published code stops at the first neuron that exceeds the budget; here those of other operators that still fit are taken, too.
    """
    if scene.velocities is None:
        return _random(scene)
    ops = {op.name: op for op in scene.ops}
    velocities = scene.velocities
    ranked = sorted(
        neurons_of(scene), key=lambda neuron: (-abs(velocities[neuron[0]][neuron[1]]) / neuron_parameters(ops[neuron[0]]), neuron)
    )
    return fill(scene, ranked)


@dataclass(frozen=True)
class Preset:
    """A hand-made sparse update of the repository of arXiv 2312.05282 (NEq_configs.yaml), written down for 52 convolutions."""

    biases: int
    """The last so many convolutions have their biases updated."""
    layers: tuple[tuple[int, float], ...]
    """(number of a convolution among 52, share of its output channels)."""


def _pairs(numbers: str, ratios: str) -> tuple[tuple[int, float], ...]:
    return tuple((int(number), float(ratio)) for number, ratio in zip(numbers.split("-"), ratios.split("-"), strict=True))


#: scheme_1 to scheme_5, the smallest first.
PRESETS = (
    Preset(16, _pairs("36-39-40-41-42-45-48-49", "1-1-0-0.25-0.125-0.125-0.125-0.125")),
    Preset(20, _pairs("32-33-36-39-41-42-45-48", "0.125-0.5-0.5-1-0.25-0.125-0.125-1")),
    Preset(25, _pairs("27-30-33-36-39-42-45-48", "1-1-1-1-1-0.125-0.5-1")),
    Preset(31, _pairs("27-30-33-36-39-42-45-48", "1-1-1-1-1-0.5-1-1")),
    Preset(34, _pairs("27-30-33-36-39-42-45-48", "1-1-1-1-1-1-1-1")),
)
#: Convolutions of the network that the presets are for: MobileNetV2, of whose last eight blocks they name the expanding convolutions.
PRESET_CONVOLUTIONS = 52


def _su(scene: Scene) -> Update:
    """SU of the repository of arXiv 2312.05282: layers and shares by its presets, of each layer the output channels of largest weights,
    through the whole learning; the largest preset that fits, or the classifier alone.

    The presets number the convolutions of MobileNetV2, which is read off their numbers and not said there; here they count from the
    network's end, and what lies before its beginning is left out. Biases are updated as MCUNetV3, whence the presets come, does.
    """
    require_base(scene)
    convolutions = scene.ops[:-1]

    def made(preset: Preset) -> Update:
        parts = {op.name: biases_of(op) for op in convolutions[max(0, len(convolutions) - preset.biases) :]}
        for number, ratio in preset.layers:
            place = len(convolutions) - (PRESET_CONVOLUTIONS - number)
            if place >= 0 and ratio:
                op = convolutions[place]
                part = outputs_part(op, ratio_channels(output_norms(scene.learner, op), ratio))
                parts[op.name] = type(part)(part.rows, part.columns, biases_of(op).biases)
        return Update(dict(scene.base.parts) | parts)

    fitting = [update for update in map(made, PRESETS) if scene.fits(update)]
    return fitting[-1] if fitting else scene.base


#: Shares of a layer's channels that TinyTrain's scheme tries, the largest first.
TINYTRAIN_RATIOS = (1.0, 0.5, 0.25, 0.125)


def _tinytrain(scene: Scene) -> Update:
    """TinyTrain's task-adaptive sparse update (Kwon et al., ICML 2024, arXiv 2307.09988): layers by
    s_i = P_i / (|W_i| / max |W| * M_i / max M), with P_i the sum of the Fisher information of the layer's channels on the target's images,
    |W_i| its parameters and M_i its MACs; in each layer the channels of largest Fisher information.

    How many channels a layer gets is not taken from the paper: here each layer, best first, gets the largest of :data:`TINYTRAIN_RATIOS`
    of its channels that still fits. Its meta-training (few-shot pre-training) is not done.
    """
    require_base(scene)
    if scene.train is None:
        raise UserError("scheme tinytrain: goes by Fisher information on images, and there are none", "add --data")
    images = scene.train.subset(scene.budget.learning.measure_images, scene.seed)
    information = fisher(scene.learner, images)
    pieces = {piece.name: piece for piece in scene.inference.work.pieces}
    layers = scene.ops[:-1]
    weights = {op.name: pieces[op.name].weights + pieces[op.name].biases for op in layers}
    macs = {op.name: pieces[op.name].macs for op in layers}
    most_weights, most_macs = max(weights.values(), default=1), max(macs.values(), default=1)
    score = {op.name: information[op.name].sum() / ((weights[op.name] / most_weights) * (macs[op.name] / most_macs)) for op in layers}
    update = scene.base
    for op in sorted(layers, key=lambda op: (-score[op.name], op.name)):
        for ratio in TINYTRAIN_RATIOS:
            part = outputs_part(op, ratio_channels(information[op.name], ratio))
            wider = Update(dict(update.parts) | {op.name: part})
            if scene.fits(wider):
                update = wider
                break
    return update


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("full", "all weights, whatever the budget", _full, reference=True),
        Scheme("classifier", "the classifier alone", _classifier, on_board=True),
        Scheme("last", "all of the last k layers", _last, on_board=True),
        Scheme("bias", "biases of the last k layers", _bias, on_board=True),
        Scheme("sparse", "MCUNetV3's sparse update", _sparse, needs=("weights", "data")),
        Scheme("random", "neurons at random, anew each epoch", _random, every_epoch=True),
        Scheme("velocity", "neurons of largest velocity, anew each epoch", _velocity, every_epoch=True, needs=("weights", "data")),
        Scheme("su", "hand-made sparse updates of NEq's repository", _su, needs=("weights",)),
        Scheme("tinytrain", "layers and channels by Fisher information and cost", _tinytrain, needs=("weights", "data")),
    )
}


def scheme_named(name: str) -> Scheme:
    """The scheme ``name``. Raises UserError with what is known."""
    if name not in SCHEMES:
        raise UserError(f"scheme {name!r} is not known", f"use one of {', '.join(SCHEMES)}")
    return SCHEMES[name]


#: So often a choice is made again with more room for its plan.
_TRIES = 6


def choose(scheme: Scheme, scene: Scene) -> tuple[Update, UpdateCost]:
    """What ``scheme`` updates before the epoch ``scene.epoch``, and what that costs with its plan, which the budget allows (but for
    references). Raises BudgetError where the classifier alone does not fit, and for a scheme that no board learns by where one is to."""
    if scene.budget.learning.mode == "board" and not scheme.on_board:
        known = ", ".join(name for name, one in SCHEMES.items() if one.on_board)
        raise BudgetError(
            f"learning.mode=board: no firmware learns by the scheme {scheme.name}", f"use one of {known}, or learning.mode=float"
        )
    scene.tightened = 0
    for _ in range(_TRIES):
        update = scheme.choose(scene)
        cost = scene.cost(update, planned=True)
        if scheme.reference or scene.budget.fits(cost):
            return update, cost
        scene.tightened += max(16, cost.head_bytes - max(cost.live))  # a plan with gaps: choose with that much less
    cost = scene.cost(scene.base, planned=True)
    if not scene.budget.fits(cost):
        raise BudgetError(
            f"update budget {scene.budget.name}: the classifier alone does not fit: {scene.budget.words(cost)}", "raise the limit"
        )
    return scene.base, cost
