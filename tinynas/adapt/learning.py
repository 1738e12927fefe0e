"""learn: one scheme on one task, epoch by epoch; what it reached, and what it took."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from tinynas import __version__
from tinynas.adapt.budget import UpdateBudget
from tinynas.adapt.learner import Learner
from tinynas.adapt.scenes import Contributions, Scene, Velocities
from tinynas.adapt.schemes import Scheme, choose
from tinynas.adapt.tasks import Task
from tinynas.cost.backward import UpdateCost
from tinynas.cost.updates import Update

#: Images that the grids of ``int8`` are calibrated on.
CALIBRATION = 256


@dataclass(frozen=True)
class Epoch:
    """One pass. Accuracies are shares of validation images of the new data."""

    epoch: int
    loss: float
    val_accuracy: float | None
    parameters: int
    """Updated in it."""
    ram_bytes: int
    macs: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Learned:
    """What a learning reached."""

    scheme: str
    seed: int
    fits: bool
    """Whether every epoch kept to the budget."""
    epochs: tuple[Epoch, ...]
    cost: UpdateCost = field(repr=False)
    """Of the epoch that took most RAM."""
    update: Update = field(repr=False)
    """Of that epoch."""
    learner: Learner = field(repr=False)
    before: dict[str, float | None]
    """Test accuracies before learning: ``new``, ``old``."""
    after: dict[str, float | None]
    """And behind it."""
    test_images: dict[str, int]
    seconds: float

    @property
    def parameters(self) -> int:
        """Updated at most in an epoch."""
        return max(epoch.parameters for epoch in self.epochs)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as ``adapt run --json`` shows it."""
        plain = self.cost.to_json()
        plain.pop("layers")
        return {
            "scheme": self.scheme,
            "seed": self.seed,
            "fits": self.fits,
            "accuracy": {"before": self.before, "after": self.after},
            "test_images": self.test_images,
            "cost": plain,
            "macs": max(epoch.macs for epoch in self.epochs),
            "parameters": self.parameters,
            "share": self.parameters / self.cost.inference.params,
            "update": self.update.to_json(self.learner.graph),
            "epochs": [epoch.to_json() for epoch in self.epochs],
            "seconds": round(self.seconds, 3),
        }


OnEpoch = Callable[[str, int, int], None]


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of PyTorch: a step of one image has nothing to share out, and its sums have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learn(
    task: Task,
    scheme: Scheme,
    budget: UpdateBudget,
    *,
    seed: int = 0,
    contributions: Contributions | None = None,
    on_epoch: OnEpoch | None = None,
    followed: bool = True,
) -> Learned:
    """Learn ``task`` by ``scheme`` under ``budget``. The same bits for the same arguments.

    ``contributions``: what ``sparse`` measured before. ``on_epoch`` hears (what, done, of how many). Where it is not ``followed``, only
    the accuracies behind it are measured. Raises BudgetError where the
    classifier alone does not fit, LostLearning where the loss is no longer a number.
    """
    learning = budget.learning
    started = time.perf_counter()
    with one_thread():
        learner = Learner(task.floats, learning, calibration=np.array(task.train.inputs[:CALIBRATION]), old=task.old)
        before: dict[str, float | None] = _before(task, learner) if followed else {"new": None, "old": None}
        scene = Scene(learner, budget, seed, task.train, task.val, contributions=contributions, on_step=on_epoch)
        watch = task.val.subset(learning.measure_images, seed).inputs if scheme.name == "velocity" else None
        velocities = None if watch is None else Velocities(learner, watch, learning.velocity_mu)
        epochs: list[Epoch] = []
        chosen: tuple[Update, UpdateCost] | None = None
        largest: tuple[Update, UpdateCost] | None = None
        fits = True
        for epoch in range(learning.epochs):
            scene.epoch = epoch
            if chosen is None or scheme.every_epoch:
                chosen = choose(scheme, scene)
                learner.forget_momentum(chosen[0])
            update, cost = chosen
            fits = fits and budget.fits(cost)
            if largest is None or cost.ram_bytes > largest[1].ram_bytes:
                largest = chosen
            rows = task.rows_of(epoch, again=learning.again, seed=seed)
            loss = learner.epoch(task.train, update, seed=seed, epoch=epoch, epochs=learning.epochs, chosen=rows)
            if velocities is not None:
                scene.velocities = velocities.after_epoch(learner)
            seen = learner.accuracy(task.val) if followed else None
            epochs.append(Epoch(epoch + 1, loss, seen, cost.parameters, cost.ram_bytes, cost.macs))
            if on_epoch is not None:
                on_epoch(scheme.name, epoch + 1, learning.epochs)
        after = {"new": learner.accuracy(task.test), "old": learner.accuracy(task.old_test)}
    assert largest is not None
    counts = {"new": len(task.test.labels), "old": 0 if task.old_test is None else len(task.old_test.labels)}
    return Learned(
        scheme.name,
        seed,
        fits,
        tuple(epochs),
        largest[1],
        largest[0],
        learner,
        before,
        after,
        counts,
        time.perf_counter() - started,
    )


#: By task and mode what the network names right before it learns: the same for all schemes and budgets.
_BEFORE: WeakKeyDictionary[Task, dict[str, dict[str, float | None]]] = WeakKeyDictionary()


def _before(task: Task, learner: Learner) -> dict[str, float | None]:
    known = _BEFORE.setdefault(task, {})
    mode = learner.learning.mode
    if mode not in known:
        known[mode] = {"new": learner.accuracy(task.test), "old": learner.accuracy(task.old_test)}
    return dict(known[mode])


def key_of(task: Task, scheme: str, budget: UpdateBudget, seed: int) -> str:
    """What a row is known by: all that decides its result."""
    document = {"task": task.fingerprint, "scheme": scheme, "budget": budget.model_dump(mode="json", exclude={"name"}), "seed": seed}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def row_of(task: Task, budget: UpdateBudget, learned: Learned) -> dict[str, Any]:
    """One line of a comparison."""
    cost = learned.cost
    return {
        "key": key_of(task, learned.scheme, budget, learned.seed),
        "net": task.net.title,
        "scheme": learned.scheme,
        "budget": budget.name,
        "seed": learned.seed,
        "tinynas": __version__,
        "fits": learned.fits,
        "new": learned.after["new"],
        "old": learned.after["old"],
        "val": learned.epochs[-1].val_accuracy,
        "new_before": learned.before["new"],
        "old_before": learned.before["old"],
        "new_images": learned.test_images["new"],
        "old_images": learned.test_images["old"],
        "train_images": len(task.train.labels),
        "epochs": len(learned.epochs),
        "ram_bytes": cost.ram_bytes,
        "extra_bytes": cost.extra_bytes,
        "inference_bytes": cost.inference.sram_bytes,
        "macs": max(epoch.macs for epoch in learned.epochs),
        "parameters": learned.parameters,
        "share": learned.parameters / cost.inference.params,
        "loss": learned.epochs[-1].loss,
        "seconds": round(learned.seconds, 3),
    }
