"""How long full training takes on this machine, from how long the trainings of a search took."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tinynas.recipe import Recipe
from tinynas.runs import Run

#: An image that is only looked at (validation, statistics of batch norm) costs this share of one that is trained on: a training
#: step is a forward pass and about two more backwards.
LOOKED_AT = 1 / 3


@dataclass(frozen=True)
class Pace:
    """A run's training speed, for one core as its search used it: seconds an image are ``fixed + per_mac * MACs``."""

    fixed: float
    per_mac: float
    train_images: int
    val_images: int

    @classmethod
    def of(cls, run: Run) -> Pace | None:
        """The pace of ``run``; None where nothing was trained, or the run was written before runs said how many images they train on."""
        plan, images = run.read_json("plan"), run.env.get("images")
        if plan is None or not isinstance(images, dict) or not {"train", "val"} <= set(images):
            return None
        recipe = Recipe.model_validate(run.config["settings"].get("recipe", Recipe.proxy()))
        macs = {trial.number: trial.costs.get("macs") for trial in run.trials()}
        # What each training should have taken by the plan's guess, and what it took.
        fixed, per_mac = plan["speed"]
        guessed, took, reached = [], [], dict.fromkeys(macs, 0)
        for job in run.log("times"):
            number, epochs = job["number"], job.get("epochs", 0)
            size, looks = macs.get(number), max(0, epochs - reached.get(number, 0))
            reached[number] = max(epochs, reached.get(number, 0))
            if job["images"] and looks and size is not None:
                work = job["images"] + looks * looked_at(recipe, images["train"], images["val"])
                guessed.append(work * (fixed + per_mac * size))
                took.append(float(job["seconds"]))
        if not took:
            return None
        factor = _factor(guessed[-_JOBS:], took[-_JOBS:])
        return cls(fixed * factor, per_mac * factor, images["train"], images["val"])

    def full_training(self, macs: float, recipe: Recipe) -> float:
        """Seconds that training a network of so many MACs by ``recipe`` should take."""
        images = recipe.epoch_images or recipe.subset or self.train_images
        work = images + looked_at(recipe, self.train_images, self.val_images)
        return recipe.epochs * work * (self.fixed + self.per_mac * macs)


#: Trainings that the pace is read from, the latest ones: pairs of them are compared.
_JOBS = 300


def _factor(guessed: Sequence[float], took: Sequence[float]) -> float:
    """How much longer than ``guessed`` trainings are: the middle of the slopes between two of them (Theil and Sen).

    So what each takes before its first image does not count, nor a few that had to make their images or were kept waiting. Where
    all are of one length, the middle ratio.
    """
    pairs = itertools.combinations(zip(guessed, took, strict=True), 2)
    slopes = [(late - soon) / (long - short) for (short, soon), (long, late) in pairs if not math.isclose(long, short, rel_tol=0.01)]
    slope = statistics.median(slopes) if slopes else 0.0
    return slope if slope > 0 else statistics.median(seconds / guess for guess, seconds in zip(guessed, took, strict=True))


def looked_at(recipe: Recipe, train_images: int, val_images: int) -> float:
    """The images that an epoch looks at, as so many that are trained on: validation, and those of batch norm's statistics."""
    return LOOKED_AT * (val_images + min(recipe.bn_images, train_images))
