"""Source: what a page is made from, read once from the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from tinynas.arch import Arch, classes_for
from tinynas.budget import Budget
from tinynas.cost import Cost, estimate
from tinynas.cost.board_update import BoardUpdate
from tinynas.cost.latency import LatencyModel
from tinynas.cost.quantities import shown
from tinynas.graph import Graph, lower
from tinynas.objectives import MEAN_AVERAGE_PRECISION, OBJECTIVES, objectives, traded
from tinynas.records import Artifact, Promoted, Trial
from tinynas.report import figures
from tinynas.report.search_figures import LimitsInfo, ParetoInfo, ProgressInfo, SpacesInfo, scored
from tinynas.runs import Run
from tinynas.space import Space

#: Networks with all their figures on the page: the promoted ones and the front first, then by accuracy.
DETAILED = 120


def _cost_of(objective: str) -> str | None:
    # Runs outlive the tables: an objective that is not known here has no cost to draw.
    return OBJECTIVES[objective].cost if objective in OBJECTIVES else None


@lru_cache(maxsize=2048)
def _network(
    arch: Arch, runtime: str, core: str | None, clock_mhz: float | None, timing: LatencyModel | None, update: BoardUpdate | None
) -> tuple[Graph, Cost]:
    graph = lower(arch)
    return graph, estimate(graph, runtime, core=core, clock_mhz=clock_mhz, timing=timing, update=update)


@dataclass(frozen=True)
class Source:
    """What the page is made from, read once from the run's folder."""

    run: Run
    running: bool = False

    @cached_property
    def trials(self) -> list[Trial]:
        """The latest record of every proposal."""
        return self.run.trials()

    @cached_property
    def history(self) -> list[Trial]:
        """Every record in the order of writing."""
        return list(self.run.history())

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's settings."""
        return self.run.config

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The search's settings."""
        found: dict[str, Any] = self.config.get("settings", {})
        return found

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What the search decided before it began."""
        return self.run.read_json("plan") or {}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What the search said when it ended; empty while it runs."""
        return self.run.read_json("summary") or {}

    @cached_property
    def budget(self) -> Budget:
        """The run's budget."""
        return self.run.budget

    @cached_property
    def space(self) -> Space:
        """The run's space."""
        return self.run.space

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names; untrusted."""
        return tuple(str(label) for label in self.run.env.get("labels", ()))

    @cached_property
    def noun(self) -> str:
        """What the run's networks read, in the singular: "image"."""
        ids = self.run.ids()
        return (self.run.arch(ids[0]).input if ids else self.space.inputs[0]).noun

    @cached_property
    def scored(self) -> dict[str, Trial]:
        """Networks with an accuracy, by id."""
        return {trial.id: trial for trial in scored(self.trials)}

    @cached_property
    def costs(self) -> tuple[str, ...]:
        """Costs to draw accuracy against: the objective's first, then those with a limit, then the rest."""
        wanted = [cost for name in self.settings.get("objectives", ()) if (cost := _cost_of(name)) is not None]
        wanted += ["macs", *self.budget.limits, *(quantity.name for quantity in shown({}, "narrow"))]
        known = [cost for cost in dict.fromkeys(wanted) if any(t.costs.get(cost) is not None for t in self.scored.values())]
        return tuple(known)

    @cached_property
    def cost(self) -> str:
        """The cost that the search traded against accuracy."""
        return self.costs[0] if self.costs else "macs"

    @cached_property
    def traded(self) -> bool:
        """Whether the search served a front; else it looked for the best that fits alone (:func:`tinynas.objectives.traded`)."""
        names = self.settings.get("objectives", ())
        known = [OBJECTIVES[name] for name in names if name in OBJECTIVES]
        # What a run does not say, or is not known any more, is taken for a trade.
        return not known or len(known) < len(names) or traded(known)

    @cached_property
    def fronts(self) -> dict[str, ParetoInfo]:
        """Accuracy against each cost."""
        return {cost: figures.pareto_info(self.trials, self.budget, cost=cost, picked=self.picked) for cost in self.costs}

    @cached_property
    def front(self) -> tuple[str, ...]:
        """The run's front (its own file where the search has written one), most accurate first."""
        rows = [str(row["id"]) for row in self.run.front() if row["id"] in self.scored] if not self.running else []
        ids = rows or (list(self.fronts[self.cost].front) if self.costs else [])
        return tuple(sorted(ids, key=lambda i: (-(self.scored[i].expected_accuracy or 0.0), i)))

    @cached_property
    def promoted(self) -> dict[str, Promoted]:
        """Networks trained in full."""
        found = {net_id: self.run.promoted(net_id) for net_id in self.run.ids()}
        return {net_id: one for net_id, one in found.items() if one is not None}

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """Exported networks."""
        found = {net_id: self.run.artifact(net_id) for net_id in self.run.ids()}
        return {net_id: one for net_id, one in found.items() if one is not None}

    @cached_property
    def picked(self) -> tuple[str, ...]:
        """Promoted or exported networks, most accurate first."""
        ids = {*self.promoted, *self.artifacts}
        return tuple(sorted(ids, key=lambda i: (-(self.promoted[i].val_accuracy if i in self.promoted else 0.0), i)))

    @cached_property
    def detailed(self) -> tuple[str, ...]:
        """Networks with all their figures."""
        rest = sorted(self.scored, key=lambda i: (-(self.scored[i].expected_accuracy or 0.0), i))
        return tuple(dict.fromkeys([*self.picked, *self.front, *rest]))[:DETAILED]

    @cached_property
    def classes(self) -> int:
        """Number of classes."""
        if self.plan.get("classes"):
            return int(self.plan["classes"])
        ids = self.run.ids()
        return self.run.arch(ids[0]).classes if ids else classes_for(self.labels)

    @cached_property
    def history_of(self) -> dict[str, list[Trial]]:
        """The records of each network in the order of writing."""
        found: dict[str, list[Trial]] = {}
        for trial in self.history:
            found.setdefault(trial.id, []).append(trial)
        return found

    @property
    def several(self) -> bool:
        """Whether inputs of the run's data may have several labels at once."""
        return bool(self.config.get("data_options", {}).get("multilabel"))

    @property
    def score_words(self) -> str:
        """What networks are ranked by."""
        return "mean average precision" if self.several else "accuracy"

    def arch(self, net_id: str) -> Arch:
        """The architecture of a network, from its genotype or its file."""
        trial = self.scored.get(net_id)
        if trial is not None and trial.genotype:
            if not self.space.holds(trial.genotype):
                raise self.run.damaged(self.run.trials_file, f"the genotype of network {net_id} is not of the run's space")
            arch = self.space.decode(trial.genotype, self.classes)
            if arch.id == net_id:
                return arch
        return self.run.arch(net_id)

    def network(self, net_id: str) -> tuple[Arch, Graph, Cost]:
        """Architecture, graph and cost of a network."""
        arch = self.arch(net_id)
        return arch, *_network(arch, self.budget.runtime, self.budget.core, self.budget.timed_mhz, self.budget.timing, self.budget.update)

    def progress(self) -> ProgressInfo:
        """The search beside the baseline, in the search's own box."""
        named = self.settings.get("objectives", ())
        # As the search reads them: accuracy comes first where none that is trained is named.
        wanted = [goal.name for goal in objectives(named)] if all(name in OBJECTIVES for name in named) else []
        reference = self.plan.get("reference") or []
        box = None
        score = next((name for name in wanted if name in ("accuracy", MEAN_AVERAGE_PRECISION)), None)
        if len(reference) == len(wanted) and score is not None:
            for name, pair in zip(wanted, reference, strict=True):
                if _cost_of(name) == self.cost:
                    worst, best = reference[wanted.index(score)]
                    box = ((float(worst), float(best)), (float(pair[0]), float(pair[1])))
        seconds: dict[int, list[float]] = {}
        for line in self.run.log("times"):
            if isinstance(line.get("number"), int) and isinstance(line.get("seconds"), (int, float)):
                seconds.setdefault(line["number"], []).append(float(line["seconds"]))
        return figures.progress_info(self.history, cost=self.cost, box=box, seconds=seconds or None, noun=self.noun)

    def spaces(self) -> SpacesInfo:
        """Which sub-spaces the search chose; no curves where it did not choose."""
        return figures.spaces_info(self.run.read_json("spaces") or ())

    def limits(self) -> LimitsInfo:
        """What the limits cost."""
        return figures.limits_info(self.trials, self.budget)

    def int8_accuracy(self, net_id: str) -> float | None:
        """Measured accuracy of the int8 file, or None."""
        artifact = self.artifacts.get(net_id)
        accuracy = artifact.report.get("accuracy") if artifact is not None else None
        value = accuracy.get("int8") if isinstance(accuracy, Mapping) else None
        return float(value) if isinstance(value, (int, float)) else None
