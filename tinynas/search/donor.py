"""The donor: one large network of the space, trained before all others, which begin with slices of it; its time is the search's.

As in once-for-all networks (arXiv 1908.09791) weights are shared by cutting: tinynas.train.slices says which channels, taps and blocks.
The donor is trained alone, and what was cut from it goes on by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinynas.arch import Arch
from tinynas.model import save_weights
from tinynas.search.training import Outcome, Trainings
from tinynas.space import Gene, Genotype, InputSize, Space
from tinynas.train import Diverged


def donor_of(space: Space, subspaces: Sequence[tuple[int, ...]]) -> Genotype:
    """The network of ``space`` with most to cut from: all that is a number at its largest, at the smallest input that is searched.

    ``subspaces`` are the choices of the space's ``size_genes`` and width_mult searched, by index; empty: all. An input's height and width
    decide what a network costs, not which weights it has; its channels do, so of those the most. Of what is no number (attention,
    activations) the first choice.
    """
    searched = {one[:-1] for one in subspaces}
    sizes = [size for size in space.sizes if not searched or size.choices in searched]
    widths = {one[-1] for one in subspaces} or range(len(space.width_mult))

    def least(size: InputSize) -> tuple[int, int]:
        genotype = (*size.choices, *[0] * len(space.input_genes))
        height, width, channels = space.inputs[space.input_number(genotype)].shape
        return (0 if space.front_end is None else -channels), height * width

    fixed = dict(zip(space.size_genes, min(sizes, key=least).choices, strict=True))
    fixed["width_mult"] = max(widths, key=lambda w: space.width_mult[w])
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
