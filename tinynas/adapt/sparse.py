"""Sparse update as in MCUNetV3 (Lin et al., NeurIPS 2022, arXiv 2206.15472, sections 3.2 and 3.3): measured contributions, then an exact
choice.

The paper measures, offline, what updating the last k biases gains (dacc_b[k]), and what updating a share r of the weights of layer i
gains on top (dacc_W[i, r]), takes gains to add up, and searches the sum's maximum under a memory limit by evolution. Here the choice
is exact: for each k a mixed-integer programme by scipy's milp. Its limits are exact, too: bytes alive in each operator of forward and
backward are linear in what is chosen (but for a tensor that two chosen operators both keep, which is counted twice: on the safe side).

What is ours: gains are measured as the fall of cross entropy on validation images, which a handful of images tells better than
accuracy; on the target's own images, where the paper takes a data set of its own (Cars); k from :data:`DEPTHS` values at most. As in
its published code a share r is of input channels, those of largest weights, and biases of the layer are updated along.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from tinynas.adapt.learner import Learner
from tinynas.adapt.scenes import Contributions, Scene, input_norms, ratio_channels, require_base
from tinynas.cost.backward import UpdateCost
from tinynas.cost.updates import Part, Update, inputs_part, last_biases
from tinynas.data import Split
from tinynas.errors import InternalError, UserError

#: Shares of input channels (the paper's).
RATIOS = (0.125, 0.25, 0.5, 1.0)
#: At most so many values of k are measured, spread evenly; 0 (the classifier alone) is one of them.
DEPTHS = 8


def depths_of(scene: Scene) -> list[int]:
    """The values of k that are looked at."""
    most = len(scene.ops) - 1
    return sorted({round(most * step / max(1, min(DEPTHS - 1, most))) for step in range(min(DEPTHS, most + 1))})


def parts_of(scene: Scene) -> dict[tuple[str, float], Part]:
    """What may be chosen of each operator in front of the classifier."""
    found = {}
    for op in scene.ops[:-1]:
        norms = input_norms(scene.learner, op)
        for ratio in RATIOS:
            found[op.name, ratio] = inputs_part(op, ratio_channels(norms, ratio))
    return found


def measure(scene: Scene) -> Contributions:
    """Short learnings, one for each depth and for each share of each operator. Raises UserError without images."""
    if scene.train is None or scene.val is None or not len(scene.val.labels):
        raise UserError("scheme sparse: contributions are measured by learning, and there are no images", "add --data")
    learning = scene.budget.learning
    train, val = scene.train.subset(learning.measure_images, scene.seed), scene.val.subset(learning.measure_images, scene.seed)
    depths, parts = depths_of(scene), parts_of(scene)
    total, done = len(depths) + len(parts), 0

    def loss(update: Update) -> float:
        nonlocal done
        learner = scene.learner.copy()
        for epoch in range(learning.measure_epochs):
            learner.epoch(train, update, seed=scene.seed, epoch=epoch, epochs=learning.measure_epochs)
        done += 1
        if scene.on_step is not None:
            scene.on_step("measuring contributions", done, total)
        return cross_entropy(learner, val)

    losses = {depth: loss(scene.with_base(last_biases(scene.graph, depth + 1))) for depth in depths}
    everywhere = scene.with_base(last_biases(scene.graph, len(scene.ops)))
    reference = losses[depths[-1]]
    weights = {key: reference - loss(Update(dict(everywhere.parts) | {key[0]: part})) for key, part in parts.items()}
    return Contributions({depth: losses[0] - value for depth, value in losses.items()}, weights)


@torch.no_grad()
def cross_entropy(learner: Learner, split: Split) -> float:
    """Mean over ``split``."""
    return float(F.cross_entropy(torch.from_numpy(learner.logits(split.inputs)), torch.from_numpy(np.array(split.labels))))


def choose(scene: Scene, gains: Contributions) -> Update:
    """The update of largest summed gain under the budget. Raises BudgetError where the classifier alone does not fit."""
    require_base(scene)
    parts = parts_of(scene)
    biases_everywhere = scene.with_base(last_biases(scene.graph, len(scene.ops)))
    everywhere = scene.cost(biases_everywhere)
    steps = {piece.name: index for index, piece in enumerate(everywhere.work.pieces)}
    alone = {key: scene.cost(Update(dict(biases_everywhere.parts) | {key[0]: part})) for key, part in parts.items()}
    best: tuple[float, Update] | None = None
    for depth, gain in gains.depths.items():
        biases = scene.with_base(last_biases(scene.graph, depth + 1))
        if not scene.fits(biases):
            continue
        names = [op.name for op in scene.ops[len(scene.ops) - 1 - depth : -1]]
        keys = [key for key in parts if key[0] in names]
        value, chosen = _programme(scene, scene.cost(biases), everywhere, steps, keys, [alone[key] for key in keys], gains)
        update = Update(dict(biases.parts) | {name: parts[name, ratio] for name, ratio in chosen})
        if best is None or gain + value > best[0]:
            best = gain + value, update
    assert best is not None  # depth 0 is the base
    return best[1]


def _programme(
    scene: Scene,
    base: UpdateCost,
    everywhere: UpdateCost,
    steps: Mapping[str, int],
    keys: list[tuple[str, float]],
    costs: list[UpdateCost],
    gains: Contributions,
) -> tuple[float, list[tuple[str, float]]]:
    """(summed gain, chosen (operator, share)): at most one share an operator, every limit kept in every step."""
    if not keys:
        return 0.0, []
    from scipy.optimize import Bounds, LinearConstraint, milp

    budget = scene.budget
    rows: list[NDArray[np.float64]] = []
    most: list[float] = []
    # Bytes that a choice adds in each step that this depth takes.
    places = [steps[piece.name] for piece in base.work.pieces]
    added = np.array([[cost.live[place] - everywhere.live[place] for cost in costs] for place in places], np.float64)
    inference = base.inference
    limits = [] if budget.ram is None else [budget.ram]
    limits += [] if budget.extra is None else [budget.extra + inference.sram_bytes]
    if limits:
        limit = (min(limits) & ~15) - inference.tail_bytes - scene.tightened  # an arena is of full 16 bytes
        rows += list(added)
        most += [float(limit - live) for live in base.live]
    if budget.macs is not None:
        rows.append(np.array([cost.macs - everywhere.macs for cost in costs], np.float64))
        most.append(float(budget.macs - base.macs))
    if budget.share is not None:
        rows.append(np.array([cost.parameters - everywhere.parameters for cost in costs], np.float64))
        most.append(budget.share * inference.params - base.parameters)
    for name in dict.fromkeys(name for name, _ in keys):
        rows.append(np.array([float(key[0] == name) for key in keys]))
        most.append(1.0)
    values = np.array([gains.weights[key] for key in keys])
    found = milp(
        -values,
        integrality=np.ones(len(keys)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(np.array(rows), ub=np.array(most)),
    )
    if found.x is None:
        raise InternalError(f"sparse update: the solver found nothing: {found.message}")
    chosen = [key for key, on in zip(keys, found.x, strict=True) if on > 0.5]
    return float(sum(gains.weights[key] for key in chosen)), chosen
