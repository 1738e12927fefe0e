"""The fidelity schedule: which training comes next. Pure: it sees results and answers with a decision.

Trainings are continued through rungs (epochs at which they may be left). While networks are still started, a share of all training, which
grows with their number, goes into those of which it is worth most to know more: by how much the front is expected to gain, a second.
That is little where a network is far from the front, and little where it is known well. Before anything is modelled, and where the most
accurate network alone is wanted, the least trained of the front (of the best few) goes on, of those the dearest. So there is a usable front
at any moment, and what turns out worse simply is not continued. Nothing waits for anything: like asynchronous successive halving
(arXiv 1810.05934), every decision uses what is known now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinynas import pareto
from tinynas.records import ADAPTED
from tinynas.search.process import inward, outward


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
    beyond: int = 0
    """Epochs reached by a training that the time limit cut short after its last rung. It is continued from there, but
    nothing is concluded from it: no other network was looked at after as many epochs."""
    busy: bool = False
    failed: bool = False
    """Its first training failed."""
    left: bool = False
    """A longer training of it failed: it is not continued, and what it showed before counts."""

    @property
    def rung(self) -> int:
        """The last rung reached; -1 before the first."""
        return len(self.results) - 1

    @property
    def trained(self) -> bool:
        """True where it has a result and did not fail."""
        return bool(self.results) and not self.failed


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is believed of a network that has results."""

    score: float
    gains: tuple[float, ...] = ()
    """By how much the front is expected to gain if it were trained to each rung; empty where that is not known, or not asked."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Fixed at the start of a run, so that a resumed run goes on as it was begun."""

    rungs: tuple[int, ...]
    """Epochs at which a training may be left, ascending."""
    epoch_images: int
    """Training images of an epoch."""
    edges: tuple[float, ...] = ()
    """Inner edges of the cost bands."""
    deepen: float = 0.5
    """Share of the training images that goes into the front while networks are still started."""
    ramp: int = 0
    """Networks that are started until the front gets all of that share; before that, its part of them (0: all of it at once)."""
    networks: int | None = None
    """Networks to start; None: as many as the time allows."""
    explore: float = 0.7
    """Share of the time after which no network is started any more."""
    counted: str = "accuracy"
    """The score that is to be high: the first trained objective's."""
    traded: bool = True
    """Whether a cost is traded against accuracy, and a front is wanted; else the most accurate network alone."""


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


def score(scores: Mapping[str, float], chance: float, counted: str = "accuracy") -> float:
    """One number from a rung's scores: validation accuracy, or what is ``counted`` in its place, with ties and noise broken by the
    validation loss.

    A validation set of a thousand images knows accuracy to a point and a half; its loss is smoother. Measured on tin20 after
    one epoch: Kendall's tau with the accuracy after 27 is 0.40 for accuracy, 0.43 with a weight of 0.1, 0.51 for the loss alone;
    searches replayed on the first nine were alike with weights from 0.1 to 0.5 (benchmarks/search_tau.py, search_replay.py).
    """
    # Where networks are to learn on the board, what they reach there counts.
    value = scores.get(ADAPTED, scores["accuracy"]) if counted == "accuracy" else scores[counted]
    return value - LOSS_WEIGHT * min(scores.get("val_loss", 0.0), 2.0 * math.log(1.0 / chance))


LOSS_WEIGHT = 0.1


class Schedule:
    """Decides under ``plan``; ``chance`` is the accuracy of guessing."""

    def __init__(self, plan: Plan, chance: float) -> None:
        self.plan, self.chance = plan, chance

    def next(
        self,
        nets: Sequence[Net],
        outlooks: Mapping[str, Outlook] | None = None,
        *,
        progress: float = 0.0,
        seconds_left: float = math.inf,
        exhausted: bool = False,
    ) -> Decision:
        """The next training.

        ``outlooks`` are what is believed of every network with results, by id (default: their levelled scores).
        ``progress`` is the share of the time that is gone (0 without a time limit); ``exhausted`` says that no new
        network can be had.
        """
        plan = self.plan
        started = sum(not net.failed for net in nets)
        exploring = not exhausted and progress < plan.explore and (plan.networks is None or started < plan.networks)
        if exploring and not self._owes(nets):
            return New()
        decision = self._deepen(nets, outlooks, seconds_left, exploring)
        if decision is not None:
            return decision
        if exploring:
            return New()
        if any(net.busy for net in nets):
            return Wait()
        if plan.networks is None and progress < 1.0 and math.isfinite(seconds_left):
            return New() if not nets else Finished("the time is used: no training fits in what is left")
        return Finished("every network is trained as far as it deserves")

    def value(self, net: Net, rung: int | None = None) -> float:
        """The score of ``net`` at ``rung`` (default: its last)."""
        return score(net.results[net.rung if rung is None else rung].scores, self.chance, self.plan.counted)

    def seconds(self, net: Net, rung: int) -> float:
        """Predicted seconds of continuing ``net`` to ``rung``."""
        done = max(net.results[-1].epochs, net.beyond) if net.results else 0
        return (self.plan.rungs[rung] - done) * self.plan.epoch_images * net.seconds_per_image

    def _owes(self, nets: Sequence[Net]) -> bool:
        # Whether the front may have its shortest step without more than its share. Trainings under way count as done.
        rungs = self.plan.rungs
        reached = [rungs[min(net.rung + net.busy, len(rungs) - 1)] for net in nets if not net.failed and net.rung + net.busy >= 0]
        if len(rungs) < 2:
            return False
        spent = sum(reached) + rungs[1] - rungs[0]
        return spent - rungs[0] * len(reached) < share_of_front(self.plan.deepen, self.plan.ramp, len(reached)) * spent

    def _deepen(self, nets: Sequence[Net], outlooks: Mapping[str, Outlook] | None, seconds_left: float, exploring: bool) -> Continue | None:
        known = [net for net in nets if net.trained]
        if not known:
            return None
        if outlooks is None:
            outlooks = {net.id: Outlook(value) for net, value in zip(known, levelled(known, self.value), strict=True)}
        ranks = ranked([outlooks[net.id].score for net in known], known, traded=self.plan.traded)
        # Where a number of networks ends the search, those of the front are trained in full, and no others.
        deepest = 0 if not exploring and self.plan.networks is not None else len(known)
        chosen: list[tuple[tuple[float, int, int, float, int], Net]] = []
        for rank, net in zip(ranks, known, strict=True):
            if rank > deepest or net.busy or net.left or net.rung + 1 >= len(self.plan.rungs):
                continue
            # The last trainings may be cut short, but not before their first epoch.
            needed = self.seconds(net, net.rung + 1) if exploring else self.plan.epoch_images * net.seconds_per_image
            if needed > seconds_left:
                continue
            worth = self._worth(net, outlooks[net.id].gains, seconds_left)
            # While networks are started, what is off the front goes on only where that is worth something.
            if worth > 0 or rank == 0 or not exploring:
                chosen.append(((-worth, rank, net.rung, -net.cost, net.number), net))
        if not chosen:
            return None
        net = min(chosen, key=lambda pair: pair[0])[1]
        return Continue(net, net.rung + 1)

    def _worth(self, net: Net, gains: Sequence[float], seconds_left: float) -> float:
        # The most that a second of the way to some rung gains: short trainings are trusted too little for the next rung alone to count.
        # Of a number of networks it is an epoch, because times that are measured must not decide where everything is to be repeatable.
        rungs, done = self.plan.rungs, net.results[-1].epochs
        ahead = [(gain, self.seconds(net, rung), rungs[rung] - done) for rung, gain in enumerate(gains) if rung > net.rung]
        counted = self.plan.networks is not None
        # What was trained before it was cut short costs nothing.
        prices = [(gain, epochs if counted else max(seconds, 1e-9)) for gain, seconds, epochs in ahead if seconds <= seconds_left]
        return max((gain / price for gain, price in prices), default=0.0)


#: Networks that are deepened side by side where the most accurate alone is wanted (benchmarks/search_alone.py).
FINALISTS = 4


def ranked(values: Sequence[float], nets: Sequence[Net], *, traded: bool) -> list[int]:
    """How many fronts of ``nets`` lie above each, by ``values`` and costs; where none is ``traded``, how many times ``FINALISTS`` of higher
    values do."""
    if traded:
        return pareto.ranks([(value, net.cost) for value, net in zip(values, nets, strict=True)], (True, False))
    places = {index: place for place, index in enumerate(sorted(range(len(nets)), key=lambda index: (-values[index], index)))}
    return [places[index] // FINALISTS for index in range(len(nets))]


#: ``Plan.ramp`` of a search. What a short training of one more network says to the model is worth more at first than a longer one of a
#: known network: chosen on tin20, looked at on person64, judged on signs (results/benchmarks/search_belief.md).
RAMP = 64


def share_of_front(deepen: float, ramp: int, started: int) -> float:
    """The share of the training that goes into the front when ``started`` networks are: in proportion to them up to ``ramp``, then all of
    ``deepen``."""
    return deepen if started >= ramp else deepen * started / ramp


#: What a rung gains more of -log(1 - score) for each e-fold of cost, before the run itself says: chosen on three tables of short trainings
#: for what networks are worth in the end, which is more than short trainings show of large ones; as a forecast of the farthest rung it is
#: too much (results/benchmarks/search_belief.md).
GAIN_PER_FOLD = 0.03
#: How many networks (one e-fold of cost from the mean) that is worth.
GAIN_WEIGHT = 4.0


def levelled(nets: Sequence[Net], value: Callable[[Net, int], float], per_fold: float = GAIN_PER_FOLD) -> list[float]:
    """Values as if every network had been trained as far as the farthest: its own last, plus what others gained since.

    The gain of a rung, on the scale of -log(1 - value), is a line in log cost, fitted to the networks that went on, with a prior
    ``per_fold`` on its slope: an error shrinks by a share, so that no gain makes more than everything right.
    """
    folds = np.array([math.log(net.cost) for net in nets])
    rungs = np.array([net.rung for net in nets])

    def scaled(net: Net, rung: int) -> float:
        return float(inward(np.array(value(net, rung))))

    result = np.array([scaled(net, net.rung) for net in nets])
    for rung in range(int(rungs.max())):
        went_on = np.flatnonzero(rungs > rung)
        gains = np.array([scaled(nets[int(i)], rung + 1) - scaled(nets[int(i)], rung) for i in went_on])
        middle = folds[went_on].mean()
        away = folds[went_on] - middle
        slope = (away @ (gains - gains.mean()) + GAIN_WEIGHT * per_fold) / (away @ away + GAIN_WEIGHT)
        behind = rungs <= rung
        # A line may predict a loss far from where it was fitted; nothing was seen to lose by training.
        result[behind] += np.maximum(gains.mean() + slope * (folds[behind] - middle), min(0.0, gains.min()))
    # What was trained as far as the farthest is what it is, to the last digit.
    return [value(net, net.rung) if net.rung == rungs.max() else float(x) for net, x in zip(nets, outward(result), strict=True)]
