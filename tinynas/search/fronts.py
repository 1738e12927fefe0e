"""What the records of a run say together: counts, the front, and how much of the box between worst and best it covers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tinynas import pareto
from tinynas.cost.quantities import QUANTITIES
from tinynas.objectives import Objective
from tinynas.records import ADAPTED_PARTS, ASKED_SCORES, EXPECTED, Trial, as_promised
from tinynas.search.feasible import COSTS
from tinynas.search.settings import Counts


def count(records: Iterable[Trial]) -> Counts:
    """Records by what became of them."""
    known = list(records)
    states = [record.state for record in known]
    trained = sum(record.was_trained for record in known)
    return Counts(len(states), states.count("infeasible"), states.count("duplicate"), trained, states.count("failed"))


def front_rows(records: Sequence[Trial], goals: Sequence[Objective]) -> list[Trial]:
    """The records on the front of the objectives, cheapest first; duplicates, refusals and failures take no part.

    What is promised counts where it is known.
    """
    known = [(record, [goal.of(as_promised(record)) for goal in goals]) for record in records if record.was_trained]
    usable = [(record, [float(v) for v in values if v is not None]) for record, values in known if None not in values]
    chosen = pareto.front([values for _, values in usable], [goal.maximize for goal in goals])
    return sorted((usable[i][0] for i in chosen), key=lambda record: (record.costs.get("macs") or 0, record.number))


def normalised_hypervolume(records: Sequence[Trial], goals: Sequence[Objective], reference: Sequence[tuple[float, float]]) -> float:
    """Share of the box between the worst and the best values that is dominated; costs on their own scale. 0..1."""
    points = []
    for record in records:
        values = [goal.of(record) for goal in goals]
        if record.was_trained and None not in values:
            points.append(unit_point([float(v) for v in values if v is not None], goals, reference))
    return pareto.hypervolume(points, [0.0] * len(goals), [True] * len(goals))


def unit_point(values: Sequence[float], goals: Sequence[Objective], reference: Sequence[tuple[float, float]]) -> list[float]:
    """Values as shares of the way from worst to best, at most 1."""
    point = []
    for value, goal, (worst, best) in zip(values, goals, reference, strict=True):
        x = value if goal.cost is None else QUANTITIES[goal.cost].scaled(value)
        # Where all networks of the pool cost the same, each has the best.
        point.append(min(1.0, (x - worst) / (best - worst)) if best != worst else 1.0)
    return point


def front_row(record: Trial) -> dict[str, Any]:
    """A row of ``tinynas pareto --json``."""
    return {
        "id": record.id,
        "accuracy": record.accuracy,
        **{name: record.costs.get(name) for name in COSTS},
        **{name: value for name, value in record.scores.items() if name in (*ASKED_SCORES, *ADAPTED_PARTS, EXPECTED)},
        "epochs": record.epochs,
        "images": record.images,
        "number": record.number,
        "source": record.source,
    }
