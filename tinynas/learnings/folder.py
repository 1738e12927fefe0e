"""adapt export: the firmware folder of a network that learns: the usual folder around the network as it is before learning, and adapt.h."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.adapt.budget import UpdateBudget
from tinynas.adapt.learner import Learner
from tinynas.adapt.learning import CALIBRATION
from tinynas.adapt.scenes import Scene
from tinynas.adapt.schemes import Scheme, choose
from tinynas.adapt.tasks import Task
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.updates import Update
from tinynas.errors import BudgetError, UserError
from tinynas.export import written
from tinynas.export.adapt_code import BoardLearning, TestStep
from tinynas.export.compiled_firmware import build_compiled_firmware
from tinynas.export.firmware import build_firmware, measured_arena
from tinynas.export.folder import pick_images
from tinynas.export.model import file_plan
from tinynas.export.tflite import ModelMeta, serialize, storable
from tinynas.learnings.board import BoardReference

#: Steps of the self-test, or as many as move the parameters twice.
TEST_STEPS = 4


@dataclass(frozen=True)
class BoardFolder:
    """What is written."""

    files: dict[str, bytes] = field(repr=False)
    learning: BoardLearning = field(repr=False)
    model: bytes = field(repr=False)
    """The .tflite in it; of compiled runtimes the one of the same numbers."""
    scheme: str

    def to_json(self) -> dict[str, Any]:
        """Plain data, as ``adapt export --json`` shows it."""
        cost, apart = self.learning.cost, self.learning.apart
        plain = cost.to_json()
        plain.pop("layers")
        return {
            "scheme": self.scheme,
            "update": self.learning.update.to_json(self.learning.graph),
            "cost": plain,
            "arena_bytes": apart.arena.sram_bytes,
            "learning_bytes": apart.own_bytes,
            "kept_bytes": apart.kept_bytes,
            "blob_bytes": self.learning.blob_bytes,
            "replays": len(self.learning.replay_labels),
        }


def board_learner(task: Task, budget: UpdateBudget) -> Learner:
    """What the board begins with. Raises UserError where the settings are not those of a board."""
    if budget.learning.mode != "board":
        raise UserError(
            f"learning.mode={budget.learning.mode}: the folder learns as the mode board does",
            "write mode: board into the budget's learning, or add --set learning.mode=board",
        )
    source = task.floats.graph.input
    if source.noun != "image":
        raise UserError(
            f"{task.net.title}: reads {source.noun}s: folders that learn are made of networks of images", "use rgb or gray images"
        )
    return Learner(task.floats, budget.learning, calibration=np.array(task.train.inputs[:CALIBRATION]), old=task.old)


def board_learning(task: Task, learner: Learner, budget: UpdateBudget, scheme: Scheme, seed: int) -> BoardLearning:
    """What ``scheme`` learns under ``budget`` on the board. Raises BudgetError where it does not fit."""
    scene = Scene(learner, budget, seed, task.train, task.val)
    update, cost = choose(scheme, scene)
    if not budget.fits(cost):
        raise BudgetError(f"update budget {budget.name}: {scheme.name} does not fit: {budget.words(cost)}", "raise the limit")
    return prepared(task, learner, budget, update)


def prepared(task: Task, learner: Learner, budget: UpdateBudget, update: Update) -> BoardLearning:
    """The same for any ``update`` that the board's code learns; what it costs is not limited."""
    cost = Scene(learner, budget, 0).cost(update, planned=True)
    learner.aim(update)
    assert learner.qgraph is not None
    again = np.arange(len(task.train.labels) - task.replayed, len(task.train.labels))
    old = task.train.take(again)
    learning = budget.learning
    replays = learner.kept(np.array(old.inputs)) if task.replayed else np.zeros((0, 1), np.int8)
    made = BoardLearning(
        learner.qgraph, update, cost, learning.batch, learning.momentum, learning.lr, learning.schedule, replays, np.array(old.labels)
    )
    images, labels = _test_images(task)
    return replace(made, test=_test_of(made, learner.kept(images), labels))


def _test_images(task: Task) -> tuple[NDArray[np.uint8], list[int]]:
    images = pick_images(np.array(task.train.inputs), np.array(task.train.labels))
    first = int(task.train.labels[0])
    others = [int(label) for label in task.train.labels if label != first]
    return images, [first, others[0] if others else first]


def _test_of(learning: BoardLearning, kept: NDArray[np.int8], labels: list[int]) -> tuple[TestStep, ...]:
    """Both images in turn, the rate falling: each step has to leave the parameters with this sum."""
    reference, found = BoardReference(learning), []
    count = max(TEST_STEPS, 2 * learning.batch)
    for number in range(count):
        rate = np.float32(learning.rate * 0.5 * (1 + math.cos(math.pi * number / count)))
        reference.step(kept[number % 2], labels[number % 2], float(rate))
        found.append(TestStep(number % 2, labels[number % 2], rate, reference.sum()))
    return tuple(found)


def build_folder(task: Task, learning: BoardLearning, budget: UpdateBudget, scheme: str) -> BoardFolder:
    """The files of the folder around ``learning``."""
    runtime = runtime_named(budget.runtime, budget.core)
    name = Path(task.net.title).stem
    kept = replace(learning.qgraph, graph=learning.apart.graph)
    stored = storable(kept)
    plan, _ = file_plan(stored.graph, budget.runtime, budget.core)  # as the promise is planned
    arch = task.net.floats.graph.arch
    model = serialize(stored, ModelMeta("0" * 10 if arch is None else arch.id, task.labels), plan)
    images, _ = _test_images(task)
    if runtime.frame is None:
        arena = measured_arena(model, budget.runtime, budget.core, kept=True)
        files = build_firmware(model, labels=task.labels, images=images, arena=arena, name=name, learning=learning)
    else:
        files = build_compiled_firmware(
            learning.qgraph,
            model,
            frame=runtime.frame,
            labels=task.labels,
            images=images,
            name=name,
            core=budget.core,
            learning=learning,
        )
    return BoardFolder(files, learning, model, scheme)


def write_folder(made: BoardFolder, folder: Path, on_note: Callable[[str], None] | None = None) -> None:
    """All files, in the place of those of an earlier export: :mod:`tinynas.export.written`."""
    written.write_folder(folder, made.files, on_note=on_note)
