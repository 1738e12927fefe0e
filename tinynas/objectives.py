"""OBJECTIVES: what a search can optimize, by name. One line here is all that a new objective of scores needs; costs come from
the table of quantities, :data:`tinynas.cost.quantities.QUANTITIES`.

An objective reads a :class:`~tinynas.records.Trial`. It answers None where its figure is not known; a trial
without a figure takes no part in the comparison.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tinynas.budget import Budget
from tinynas.cost.quantities import QUANTITIES, Quantity
from tinynas.errors import InternalError, UserError
from tinynas.records import ADAPTED, WORST_SUBSET, Trial


@dataclass(frozen=True, slots=True)
class Objective:
    """One thing to make large or small."""

    name: str
    maximize: bool
    unit: str
    """``share`` (0..1), ``MACs``, ``B``, ``ms`` or ``points``."""
    of: Callable[[Trial], float | None]
    trained: bool = field(kw_only=True)
    """True where the figure needs training, False where it follows from the architecture."""
    needs: str | None = None
    """Score that only exists where it is asked for (``int8_accuracy``, :data:`WORST_SUBSET`), or None."""
    cost: str | None = None
    """The quantity of :data:`tinynas.cost.quantities.QUANTITIES` that it is; None where it is none."""
    score: bool = False
    """True where it is a score, whatever the network costs."""

    def scaled(self, trial: Trial) -> float:
        """Its value of ``trial`` on the scale on which distances count; NaN where it is not known."""
        value = self.of(trial)
        if value is None:
            return math.nan
        return value if self.cost is None else QUANTITIES[self.cost].scaled(value)

    def __post_init__(self) -> None:
        if self.trained == (self.cost is not None):
            # The box of a hypervolume and the bands of a search come from the quantity.
            raise InternalError(f"objective {self.name!r} must either be trained or name its cost")


def _cost(quantity: Quantity, name: str) -> Objective:
    return Objective(name, False, quantity.unit, lambda trial: trial.costs.get(quantity.name), trained=False, cost=quantity.name)


def _score(name: str, of: str, needs: str | None = None) -> Objective:
    return Objective(name, True, "share", lambda trial: trial.scores.get(of), trained=True, needs=needs, score=True)


#: What the challenge's reference network costs: mcunet-vww2 (55.771 M MACs; 174 kB of SRAM in TinyEngine's table;
#: its published .tflite has 613,840 B).
WAKE_VISION_REFERENCE = {"macs": 55_771_000, "sram_bytes": 174_000, "flash_bytes": 613_840}
#: Accuracy that counts as 1 after normalisation: the published 4th place has 0.75, normalised 0.94.
WAKE_VISION_ACCURACY = 0.80


def wake_vision_score(accuracy: float, macs: float, sram_bytes: float, flash_bytes: float) -> float:
    """Score of the Wake Vision Challenge's model-centric track: normalised accuracy times deployability, 0..1.

    The organisers publish the terms (flash, RAM, MACs, test accuracy), not every constant. This is the reading that
    reproduces the published row (github.com/Mohammad-Hallaq/Wake_Vision_Challenge_Model_Centric_Track, README:
    55,392 B flash, 61,968 B RAM, 3,887,331 MACs -> deployability 0.8; accuracy 0.75 -> 0.94; score 0.78):
    deployability is 1 minus the mean of the three costs as shares of the reference network's, and accuracy is
    normalised by 0.80. Use it to rank networks, not to predict a place.
    """
    used = {"macs": macs, "sram_bytes": sram_bytes, "flash_bytes": flash_bytes}
    shares = [min(1.0, used[name] / limit) for name, limit in WAKE_VISION_REFERENCE.items()]
    return accuracy / WAKE_VISION_ACCURACY * (1.0 - sum(shares) / len(shares))


def _wake_vision(trial: Trial) -> float | None:
    accuracy = trial.accuracy
    costs = [trial.costs.get(name) for name in ("macs", "sram_bytes", "flash_bytes")]
    if accuracy is None or any(cost is None for cost in costs):
        return None
    macs, sram_bytes, flash_bytes = (float(cost or 0) for cost in costs)
    return wake_vision_score(accuracy, macs, sram_bytes, flash_bytes)


#: What networks are ranked by where inputs may have several labels at once; a trial holds it as its accuracy.
MEAN_AVERAGE_PRECISION = "mean_average_precision"

OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        _score("accuracy", "accuracy"),
        _score(MEAN_AVERAGE_PRECISION, "accuracy"),
        _score("int8_accuracy", "int8_accuracy", needs="int8_accuracy"),
        _score(WORST_SUBSET, WORST_SUBSET, needs=WORST_SUBSET),
        _score(ADAPTED, ADAPTED, needs=ADAPTED),
        *(_cost(quantity, quantity.objective) for quantity in QUANTITIES.values() if quantity.objective is not None),
        Objective("wake-vision-score", True, "points", _wake_vision, trained=True),
    )
}


def traded(goals: Sequence[Objective]) -> bool:
    """Whether ``goals`` trade costs against scores; else the best network that fits is all that is asked for."""
    return not all(goal.score for goal in goals)


def counted_score(goals: Sequence[Objective]) -> str:
    """The score that a search raises: what the first trained one of ``goals`` needs, or accuracy."""
    return next(goal for goal in goals if goal.trained).needs or "accuracy"


def of_several(names: Sequence[str]) -> tuple[str, ...]:
    """The objectives ``names`` where inputs may have several labels at once: accuracy is mean average precision there."""
    renamed = [MEAN_AVERAGE_PRECISION if name == "accuracy" else name for name in names]
    chosen = tuple(dict.fromkeys(renamed))
    if not any(OBJECTIVES[name].trained for name in chosen if name in OBJECTIVES):
        chosen = (MEAN_AVERAGE_PRECISION, *chosen)
    return chosen


def objectives(names: Sequence[str], budget: Budget | None = None) -> tuple[Objective, ...]:
    """The objectives of these names; ``accuracy`` is put first where no trained objective is named.

    ``("macs",)`` therefore means accuracy against MACs. Raises UserError for an unknown or repeated name, and for a cost that
    no network's is known of under ``budget``.
    """
    for name in names:
        if name not in OBJECTIVES:
            near = difflib.get_close_matches(name, OBJECTIVES, n=1, cutoff=0.4)
            raise UserError(f"unknown objective {name!r}", f'did you mean "{near[0]}"?' if near else f"known: {', '.join(OBJECTIVES)}")
    if len(set(names)) != len(names):
        raise UserError(f"an objective is given twice: {', '.join(names)}", "name each once")
    chosen = tuple(OBJECTIVES[name] for name in names)
    for objective in chosen:
        if budget is not None and objective.cost is not None and (why := budget.why_unknown(objective.cost)) is not None:
            raise UserError(f"the objective {objective.name} cannot be computed for {budget.name}: {why}", "leave it out")
    if not any(objective.trained for objective in chosen):
        chosen = (OBJECTIVES["accuracy"], *chosen)
    return chosen
