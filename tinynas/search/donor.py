"""The donor: one large network of the space, trained before all others, which begin with slices of it; its time is the search's.

As in once-for-all networks (arXiv 1908.09791) weights are shared by cutting: tinynas.train.slices says which channels, taps and blocks.
The donor is trained alone, and what was cut from it goes on by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinynas.arch import Arch, pair
from tinynas.model import save_weights
from tinynas.search.training import Outcome, Trainings
from tinynas.space import Gene, Genotype, Space
from tinynas.train import Diverged


def donor_of(space: Space, subspaces: Sequence[tuple[int, int]]) -> Genotype:
    """The network of ``space`` with most to cut from: all that is a number at its largest, at the smallest resolution that is searched.

    ``subspaces`` are the (resolution, width_mult) choices searched, by index; empty: all. Resolution decides what a network costs, not
    which weights it has. Of what is no number (attention, activations) the first choice.
    """
    chosen = list(subspaces) or [(r, w) for r in range(len(space.resolution)) for w in range(len(space.width_mult))]
    small = min((r for r, _ in chosen), key=lambda r: math.prod(pair(space.resolution[r])))
    wide = max((w for _, w in chosen), key=lambda w: space.width_mult[w])
    fixed = {"resolution": small, "width_mult": wide}
    return space.canonical([fixed.get(gene.name, _largest(gene)) for gene in space.genes])


def _largest(gene: Gene) -> int:
    if any(isinstance(choice, str) for choice in gene.choices):
        return 0
    sizes = [math.prod(choice) if isinstance(choice, tuple) else choice**2 for choice in gene.choices]
    return max(range(len(sizes)), key=sizes.__getitem__)


def train_donor(trainings: Trainings, arch: Arch, path: Path, *, until_epoch: int, deadline: float | None) -> Outcome:
    """Train ``arch`` to ``until_epoch`` or ``deadline`` (``time.monotonic()``), and leave its weights at ``path``.

    Every epoch is kept, so that it goes on after a kill. Where no epoch was finished, or it diverged, the outcome has no scores and
    nothing is written.
    """
    trainer = trainings.trainer(arch)
    state = trainings.state_file(arch.id)

    def keep(_: Any) -> None:
        trainer.save(state)

    try:
        trainer.run(until_epoch, keep, deadline)
    except Diverged as error:
        return Outcome(trainer.epoch, 0, {}, 0.0, 0, error.message)
    images, seconds = sum(m.images for m in trainer.history), sum(m.seconds for m in trainer.history)
    if not trainer.history:
        return Outcome(0, 0, {}, 0.0, 0, "its first epoch takes longer")
    save_weights(trainer.network, path, {"epochs": str(trainer.epoch)})
    state.unlink(missing_ok=True)
    return Outcome(trainer.epoch, images, {"accuracy": trainer.history[-1].val_accuracy}, seconds, images)
