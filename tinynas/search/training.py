"""One training job of the search: continue a network to a rung, and measure it. Knows Trainer, not Optuna."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tinynas.arch import Arch
from tinynas.data.subsets import subset_report, worst_accuracy
from tinynas.errors import InternalError, RunError
from tinynas.graph import Graph, lower
from tinynas.inputs import Input
from tinynas.model import Network, read_tensors
from tinynas.recipe import Recipe
from tinynas.records import WORST_SUBSET
from tinynas.train import Diverged, Trainer
from tinynas.train.branches import plain_state
from tinynas.train.quantised import weights_in
from tinynas.train.slices import slice_weights

if TYPE_CHECKING:
    from torch import Tensor

    from tinynas.data import DataSet, Split

#: Images that calibrate the quantisation of an int8 objective.
CALIBRATION_IMAGES = 200


@dataclass(frozen=True)
class Outcome:
    """What a job came to; ``scores`` is empty where not one epoch was finished."""

    epochs: int
    images: int
    scores: dict[str, float]
    seconds: float
    new_images: int
    """Images trained on in this job."""
    failure: str | None = None
    """Why it failed."""
    machine: bool = False
    """It failed for want of something that the machine has too little of: another time, or with less beside it, it may go well."""


#: What errors of a machine that is short of something say, in lower case: memory, address space, threads, handles, and oneDNN's
#: primitives, which are made of them.
_SHORT = (
    "memory",
    "bad_alloc",
    "mmap",
    "new thread",
    "primitive",
    "resource temporarily unavailable",
    "too many open files",
    "no space left",
)


def failed(error: Exception) -> Outcome:
    """What a training came to that raised ``error``: the network's failure, or the machine's."""
    machine = isinstance(error, MemoryError | OSError) or (isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _SHORT))
    first = next(iter(str(error).splitlines()), "")
    said = "out of memory" if isinstance(error, MemoryError) and not first else f"{type(error).__name__}: {first}"
    return Outcome(0, 0, {}, 0.0, 0, said[:300], machine)


class Trainings:
    """Trains the networks of one search on one data set."""

    def __init__(
        self, data: DataSet, recipe: Recipe, seed: int, state_dir: Path, *, scored: Collection[str] = (), donor: Network | None = None
    ) -> None:
        self.data, self.recipe, self.seed, self.state_dir = data, recipe, seed, state_dir
        #: which of ASKED_SCORES are measured
        self.scored = frozenset(scored)
        #: what networks without a parent begin with slices of
        self.donor = donor
        self._splits: dict[tuple[str, Input], Split] = {}

    def split(self, name: Literal["train", "val"], arch: Arch) -> Split:
        """The mapped split at the resolution of ``arch``."""
        key = (name, arch.input)
        if key not in self._splits:
            self._splits[key] = self.data.read_by(arch.input, name)
        return self._splits[key]

    def state_file(self, net_id: str) -> Path:
        """The resumable state of a network's proxy training."""
        return self.state_dir / f"{net_id}.safetensors"

    def trainer(self, arch: Arch, parent: Arch | None = None) -> Trainer:
        """A trainer of ``arch``, continued from its saved state where there is one; else begun with slices of ``parent`` or the donor."""
        graph = lower(arch)
        path = self.state_file(arch.id)
        weights = None if path.exists() else self._begun(graph, parent)
        trainer = Trainer(graph, self.split("train", arch), self.split("val", arch), self.recipe, seed=self.seed, weights=weights)
        if path.exists():
            try:
                trainer.load(path)
            except RunError:
                # Damaged by a kill or of an older recipe: the training is deterministic, so it is simply done again.
                path.unlink(missing_ok=True)
                return self.trainer(arch, parent)
        return trainer

    def train(
        self,
        arch: Arch,
        until_epoch: int,
        *,
        parent: Arch | None = None,
        deadline: float | None = None,
        on_epoch: Callable[[int, float], None] | None = None,
    ) -> Outcome:
        """Continue ``arch`` to ``until_epoch`` or the deadline (``time.monotonic()``), save its state, measure it."""
        started = time.monotonic()
        trainer = self.trainer(arch, parent)
        before = sum(m.images for m in trainer.history)
        try:
            trainer.run(until_epoch, on_epoch and (lambda m: on_epoch(m.epoch, m.val_accuracy)), deadline)
        except Diverged as error:
            return Outcome(trainer.epoch, before, {}, time.monotonic() - started, 0, error.message)
        images = sum(m.images for m in trainer.history)
        if images > before:
            trainer.save(self.state_file(arch.id))
        scores: dict[str, float] = {}
        if trainer.history:
            last = trainer.history[-1]
            scores = {
                "accuracy": last.val_accuracy,
                "val_loss": last.val_loss,
                "train_accuracy": last.train_accuracy,
                "loss_sum": sum(m.loss for m in trainer.history),
            }
            if "int8_accuracy" in self.scored:
                scores["int8_accuracy"] = self._int8_accuracy(trainer, arch)
            if WORST_SUBSET in self.scored:
                scores[WORST_SUBSET] = self._worst_subset(trainer, arch)
        return Outcome(trainer.epoch, images, scores, time.monotonic() - started, images - before)

    def _begun(self, graph: Graph, parent: Arch | None) -> dict[str, Tensor] | None:
        """What a network begins with; None where that is drawn."""
        source = self._parent(parent) or self.donor
        return None if source is None else slice_weights(source.graph, source.state_dict(), graph, seed=self.seed).network.state_dict()

    def _parent(self, parent: Arch | None) -> Network | None:
        if parent is None or not self.state_file(parent.id).exists():
            return None
        tensors, _ = read_tensors(self.state_file(parent.id))
        network = Network(lower(parent))
        network.load_state_dict(plain_state(network.graph, weights_in(tensors, "raw.")))
        return network

    def _worst_subset(self, trainer: Trainer, arch: Arch) -> float:
        predicted = trainer.evaluate(self.split("val", arch)).logits.argmax(1)
        worst = worst_accuracy(subset_report(self.data, {"val": predicted}))
        if worst is None:
            raise InternalError(f"{WORST_SUBSET}: no part of the validation images is large enough, and nobody said so")
        return worst

    def _int8_accuracy(self, trainer: Trainer, arch: Arch) -> float:
        import numpy as np
        import torch

        from tinynas.model import normalise
        from tinynas.quantize import FakeQuantNetwork, fold, quantize

        calibration = self.split("train", arch).subset(CALIBRATION_IMAGES, self.seed)
        network = FakeQuantNetwork(quantize(fold(trainer.network), np.asarray(calibration.inputs)))
        val = self.split("val", arch)
        correct = 0
        with torch.inference_mode():
            for start in range(0, len(val.labels), 256):
                images = torch.from_numpy(np.array(val.inputs[start : start + 256]))
                predicted = network(normalise(images, trainer.network.graph.input)).argmax(1).numpy()
                correct += int((predicted == val.labels[start : start + 256]).sum())
        return correct / len(val.labels)


def seconds_per_image(trainings: Trainings, arch: Arch, *, seconds: float = 1.0) -> float:
    """Measured training seconds of one image of ``arch`` on this machine, one thread; about ``seconds`` of work."""
    import numpy as np

    split = trainings.split("train", arch)
    batch = min(trainings.recipe.batch_size, len(split.labels))
    rows = np.sort(np.random.default_rng(trainings.seed).permutation(len(split.labels))[: 2 * batch])
    few = split.take(rows)
    tiny = few.take(range(2))
    recipe = trainings.recipe.model_copy(update={"subset": 0, "epoch_images": batch, "epochs": 1000, "schedule": "constant"})
    if split.anew is not None:  # variants of sounds are made once, for all networks that hear alike: no part of a step
        recipe = recipe.model_copy(update={"augment": recipe.augment.model_copy(update={"kind": "none"})})
    trainer = Trainer(lower(arch), few, tiny, recipe, seed=trainings.seed)
    trainer.run(1)
    best = float("inf")
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        before = time.monotonic()
        trainer.run(trainer.epoch + 1)
        best = min(best, (time.monotonic() - before) / batch)
        if trainer.epoch >= 12:
            break
    return best
