"""The fidelity schedule: which training comes next. Pure: it sees results and answers with a decision.

Trainings are continued through rungs (epochs at which they may be left). A network goes on when it is among the
best third (1 in ``eta``) of those that reached its rung, where best means: front by front of (score, cost), and in turn from
each cost band, so that the whole front is served and not its cheap end alone. Nothing waits for anything: like
asynchronous successive halving (arXiv 1810.05934), every decision uses what is known now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tinynas import pareto
from tinynas.search.feasible import band


@dataclass(frozen=True, slots=True)
class Result:
    """What a training showed at a rung."""

    epochs: int
    images: int
    """Training images seen in all."""
    scores: Mapping[str, float]
    """``accuracy`` (validation, share), ``val_loss``, ``loss_sum`` (mean training loss summed over epochs), ..."""


@dataclass(slots=True)
class Net:
    """A network of the search: its cost and its results, one a rung."""

    id: str
    number: int
    cost: float
    """The cost that bands and fronts go by (MACs unless another objective was chosen)."""
    seconds_per_image: float = 0.0
    """Predicted training time of one image."""
    results: list[Result] = field(default_factory=list)
    busy: bool = False
    failed: bool = False

    @property
    def rung(self) -> int:
        """The last rung reached; -1 before the first."""
        return len(self.results) - 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Fixed at the start of a run, so that a resumed run goes on as it was begun."""

    rungs: tuple[int, ...]
    """Epochs at which a training may be left, ascending."""
    epoch_images: int
    """Training images of an epoch."""
    edges: tuple[float, ...] = ()
    """Inner edges of the cost bands."""
    eta: int = 3
    """One in ``eta`` networks goes on to the next rung."""
    networks: int | None = None
    """Networks to start; None: as many as the time allows."""
    explore: float = 0.7
    """Share of the time after which no network is started any more."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Train ``net`` on to ``rung``."""

    net: Net
    rung: int


@dataclass(frozen=True, slots=True)
class New:
    """Propose a network and train it to the first rung."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until a running training ends."""


@dataclass(frozen=True, slots=True)
class Finished:
    """All is done; ``reason`` says why."""

    reason: str


Decision = Continue | New | Wait | Finished


def score(scores: Mapping[str, float], chance: float) -> float:
    """One number from a rung's scores: validation accuracy, with ties and noise broken by the validation loss.

    A validation set of a thousand images knows accuracy to a point and a half; its loss is smoother. The weight is a
    choice that was not measured yet; ``benchmarks/search_tau.py`` is there to measure it.
    """
    return scores["accuracy"] - LOSS_WEIGHT * min(scores.get("val_loss", 0.0), 2.0 * math.log(1.0 / chance))


LOSS_WEIGHT = 0.1


class Schedule:
    """Decides under ``plan``; ``chance`` is the accuracy of guessing."""

    def __init__(self, plan: Plan, chance: float) -> None:
        self.plan, self.chance = plan, chance

    def next(self, nets: Sequence[Net], *, progress: float = 0.0, seconds_left: float = math.inf) -> Decision:
        """The next training. ``progress`` is the share of the time that is gone (0 without a time limit)."""
        plan = self.plan
        started = sum(not net.failed for net in nets)
        exploring = progress < plan.explore and (plan.networks is None or started < plan.networks)
        decision = self._promotion(nets, seconds_left)
        if decision is not None:
            return decision
        if exploring:
            return New()
        busy = any(net.busy for net in nets)
        decision = self._raise_front(nets, seconds_left) if plan.networks is None or not busy else None
        if decision is not None:
            return decision
        if busy:
            return Wait()
        if plan.networks is None and progress < 1.0 and math.isfinite(seconds_left):
            return New() if not nets else Finished("the time is used: no training fits in what is left")
        return Finished("every network is trained as far as it deserves")

    def value(self, net: Net, rung: int | None = None) -> float:
        """The score of ``net`` at ``rung`` (default: its last)."""
        return score(net.results[net.rung if rung is None else rung].scores, self.chance)

    def order(self, nets: Sequence[Net], rung: int) -> list[Net]:
        """``nets`` best first at ``rung``: by front of (score, cost), in turn from each cost band, dearest band first."""
        points = [(self.value(net, rung), net.cost) for net in nets]
        ranks = pareto.ranks(points, (True, False))
        queue = sorted(range(len(nets)), key=lambda i: (ranks[i], -points[i][0], nets[i].number))
        bands: list[list[Net]] = [[] for _ in range(len(self.plan.edges) + 1)]
        for i in queue:
            bands[band(nets[i].cost, self.plan.edges)].append(nets[i])
        result: list[Net] = []
        while any(bands):
            result += [one.pop(0) for one in reversed(bands) if one]
        return result

    def _promotion(self, nets: Sequence[Net], seconds_left: float) -> Continue | None:
        for rung in reversed(range(len(self.plan.rungs) - 1)):
            there = [net for net in nets if net.rung >= rung and not net.failed]
            quota = len(there) // self.plan.eta
            # Networks on their way to the next rung count as promoted.
            gone = sum(net.rung > rung or (net.rung == rung and net.busy) for net in there)
            if gone >= quota:
                continue
            for net in self.order(there, rung)[:quota]:
                if net.rung == rung and not net.busy and self._affordable(net, rung + 1, seconds_left):
                    return Continue(net, rung + 1)
        return None

    def _raise_front(self, nets: Sequence[Net], seconds_left: float) -> Continue | None:
        # What will be handed over goes on: the front as it would be if all had been trained alike, the least trained
        # first, of those the dearest (short trainings flatter small networks). The last ones may be cut short.
        known = [net for net in nets if net.results and not net.failed]
        if not known:
            return None
        chosen = pareto.front([(value, net.cost) for value, net in zip(levelled(known, self.accuracy), known, strict=True)], (True, False))
        members = [known[i] for i in chosen if not known[i].busy and known[i].rung + 1 < len(self.plan.rungs)]
        for net in sorted(members, key=lambda net: (net.rung, -net.cost)):
            if self.plan.epoch_images * net.seconds_per_image <= seconds_left:
                return Continue(net, net.rung + 1)
        return None

    @staticmethod
    def accuracy(net: Net, rung: int) -> float:
        """Validation accuracy of ``net`` at ``rung``."""
        return net.results[rung].scores["accuracy"]

    def seconds(self, net: Net, rung: int) -> float:
        """Predicted seconds of continuing ``net`` to ``rung``."""
        done = net.results[-1].epochs if net.results else 0
        return (self.plan.rungs[rung] - done) * self.plan.epoch_images * net.seconds_per_image

    def _affordable(self, net: Net, rung: int, seconds_left: float) -> bool:
        return self.seconds(net, rung) <= seconds_left


def levelled(nets: Sequence[Net], value: Callable[[Net, int], float]) -> list[float]:
    """Values as if every network had been trained as far as the farthest: its own last, plus the mean gain of those that went on."""
    top = max(net.rung for net in nets)
    gains = []
    for rung in range(top):
        steps = [value(net, rung + 1) - value(net, rung) for net in nets if net.rung > rung]
        gains.append(sum(steps) / len(steps))
    return [value(net, net.rung) + sum(gains[net.rung :]) for net in nets]
