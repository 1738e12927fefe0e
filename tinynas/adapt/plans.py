"""plan: what each scheme would update under a budget, and what that takes; nothing is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynas.adapt.budget import Learning, UpdateBudget
from tinynas.adapt.learner import Learner
from tinynas.adapt.scenes import Scene
from tinynas.adapt.schemes import Scheme, choose
from tinynas.adapt.tasks import Task
from tinynas.cost.backward import UpdateCost
from tinynas.cost.updates import Update
from tinynas.errors import BudgetError, UserError
from tinynas.graph import Graph
from tinynas.model import Network
from tinynas.quantize import fold

OnStep = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Planned:
    """What a scheme would update in its first epoch."""

    scheme: Scheme
    graph: Graph
    fits: bool
    used: dict[str, tuple[float, float]]
    """By limit (what is taken, the limit)."""
    cost: UpdateCost | None
    """None where nothing could be chosen."""
    update: Update | None
    problem: str = ""
    """Why there is nothing."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, as ``adapt plan --json`` shows it."""
        document: dict[str, Any] = {"scheme": self.scheme.name, "title": self.scheme.title, "fits": self.fits, "problem": self.problem}
        document["every_epoch"] = self.scheme.every_epoch
        document["used"] = {name: {"taken": taken, "limit": limit} for name, (taken, limit) in self.used.items()}
        if self.cost is None or self.update is None:
            return {**document, "cost": None, "update": {}, "live": []}
        live = [{"at": self.cost.step(index), "bytes": alive} for index, alive in enumerate(self.cost.live)]
        return {**document, "cost": self.cost.to_json(), "update": self.update.to_json(self.graph), "live": live}


def plan(
    source: Task | Graph, budget: UpdateBudget, schemes: Sequence[Scheme], *, seed: int = 0, on_step: OnStep | None = None
) -> list[Planned]:
    """Each scheme's choice before its first epoch. ``source``: a task, or a graph alone, of which schemes that look at weights or images
    say so. Raises BudgetError where not even the classifier may be updated."""
    if isinstance(source, Task):
        learner = Learner(source.floats, budget.learning, calibration=np.array(source.train.inputs[:256]), old=source.old)
        scene = Scene(learner, budget, seed, source.train, source.val, on_step=on_step)
    else:
        if budget.learning.outputs == "new":
            raise UserError("learning.outputs=new: which classes are new is known by images", "add --data, or leave it out")
        scene = Scene(_without_weights(source), budget, seed, on_step=on_step)
    found = []
    for scheme in schemes:
        if not isinstance(source, Task) and scheme.needs:
            wanted = "images to learn from" if "data" in scheme.needs else "weights"
            found.append(Planned(scheme, scene.graph, False, {}, None, None, f"looks at {wanted}: add --data"))
            continue
        try:
            update, cost = choose(scheme, scene)
        except BudgetError as error:
            found.append(Planned(scheme, scene.graph, False, {}, None, None, error.message))
            continue
        found.append(Planned(scheme, scene.graph, budget.fits(cost), budget.used(cost), cost, update))
    return found


def _without_weights(graph: Graph) -> Learner:
    """A learner of ``graph`` whose weights say nothing; only costs are asked of it."""
    return Learner(fold(Network(graph).eval()), Learning())
