"""STRATEGIES: how a search decides, by name. A new one is a line here, or a class and a line.

A strategy says how a run is planned (rungs, whether the space is narrowed first), decides what comes next, and says
whether the networks are handed over by what is expected of them.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, assert_never

import optuna

from tinynas.objectives import Objective
from tinynas.records import Trial
from tinynas.search import schedule
from tinynas.search.proposals import Proposal, Proposer, tpe_sampler
from tinynas.search.schedule import Continue, Finished, Net, New, Outlook, Schedule, Wait
from tinynas.search.study import Job, Ledger, Study
from tinynas.space import Genotype

#: Refused proposals in a row after which the space counts as used up.
EXHAUSTED = 300
#: Times that for a sampler that nobody repairs: it comes upon the same networks again and again.
PATIENCE = 100
NOTHING_NEW = "every network that fits has been tried"

#: A training to do, None to wait for those that run, or the reason why nothing is left to do.
Decision = Job | str | None


class Desk(Protocol):
    """What a strategy decides with: a worker's view of the run, under the study's lock."""

    study: Study
    proposer: Proposer
    schedule: Schedule

    def progress(self) -> float:
        """Share of the time that is gone, 0..1."""

    def seconds_left(self) -> float:
        """Until trainings must end."""

    def nets(self, ledger: Ledger) -> list[Net]:
        """The networks by number, with their predicted training times."""

    def outlooks(self, ledger: Ledger) -> dict[str, Outlook]:
        """What is believed of the networks with results, by id."""

    def propose(self, ledger: Ledger) -> Proposal:
        """The next proposal, given what is known."""

    def prepare(self, genotype: Genotype) -> None:
        """Do for a proposal what needs no lock."""

    def propose_one(
        self, ledger: Ledger, genotype: Genotype, source: str, parent: str | None, trial: optuna.Trial | None = None
    ) -> Job | None:
        """A job for the genotype, or None where it is infeasible or known (then recorded as such)."""

    def continue_net(self, ledger: Ledger, net: Net, rung: int) -> Job:
        """A job that trains ``net`` on to ``rung``."""


class Strategy(abc.ABC):
    """How a search is planned and decided."""

    name: str
    narrows: bool
    """The space is narrowed, and networks and epochs are cut to the time, before anything is trained."""
    hands_over: bool
    """Networks are handed over by what is expected of them; otherwise by what was seen."""

    @abc.abstractmethod
    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """The study's sampler."""

    @abc.abstractmethod
    def rungs(self, rungs: Sequence[int], *, timed: bool) -> tuple[int, ...]:
        """Epochs at which trainings may be left, ascending; ``timed`` where the time alone ends the search."""

    @abc.abstractmethod
    def explore(self, share: float) -> float:
        """Share of the time in which networks are started; ``share`` is the setting."""

    @abc.abstractmethod
    def rehearse(self, desk: Desk, ledger: Ledger) -> None:
        """Think what :meth:`decide` will have to think, without the lock: it is quick then, if nothing has changed since."""

    @abc.abstractmethod
    def decide(self, desk: Desk, ledger: Ledger) -> Decision:
        """What comes next. Nothing waits in the queue; only under the study's lock."""

    @abc.abstractmethod
    def refused_values(self, record: Trial, goals: Sequence[Objective]) -> list[float] | None:
        """Objective values that the sampler is told of a refused proposal; None: the trial counts as pruned."""


@dataclass(frozen=True)
class Staged(Strategy):
    """Ours: feasible first, many networks trained a little, the better ones further (docs/search.md)."""

    name: str
    narrows: bool = True
    hands_over: bool = True

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Proposals are enqueued: nothing is left to sample."""
        return optuna.samplers.RandomSampler(seed=seed)

    def rungs(self, rungs: Sequence[int], *, timed: bool) -> tuple[int, ...]:
        """Those given. What the time allows is not known yet: where it alone ends the search, the front goes on as far as it does."""
        ascending = sorted(set(rungs))
        return (*ascending, 2 * ascending[-1], 4 * ascending[-1]) if timed else tuple(ascending)

    def explore(self, share: float) -> float:
        """As set."""
        return share

    def rehearse(self, desk: Desk, ledger: Ledger) -> None:
        """Where a new network is due, propose it."""
        if isinstance(self._scheduled(desk, ledger, exhausted=False), New):
            desk.prepare(desk.propose(ledger).genotype)

    def decide(self, desk: Desk, ledger: Ledger) -> Decision:
        """The schedule's decision; a new network is the proposer's."""
        for exhausted in (False, True):
            decision = self._scheduled(desk, ledger, exhausted=exhausted)
            match decision:
                case Finished(reason):
                    return NOTHING_NEW if exhausted else reason
                case Wait():
                    return None
                case Continue(net, rung):
                    return desk.continue_net(ledger, net, rung)
                case New():
                    # Where nothing new fits, what is known may still be continued.
                    job = self._new(desk, ledger)
                    if job is not None:
                        return job
                case _:
                    assert_never(decision)
        return NOTHING_NEW

    def refused_values(self, record: Trial, goals: Sequence[Objective]) -> list[float] | None:
        """None: the proposer learns from constraints."""
        return None

    def _scheduled(self, desk: Desk, ledger: Ledger, *, exhausted: bool) -> schedule.Decision:
        # The clock has a say only where it is what ends the search: a number of trials must mean the same anywhere.
        timed = desk.schedule.plan.networks is None
        return desk.schedule.next(
            desk.nets(ledger),
            desk.outlooks(ledger),
            progress=desk.progress() if timed else 0.0,
            seconds_left=desk.seconds_left() if timed else math.inf,
            exhausted=exhausted,
        )

    def _new(self, desk: Desk, ledger: Ledger) -> Job | None:
        for _ in range(EXHAUSTED):
            genotypes, refused = ledger.genotypes, ledger.refused_genotypes
            proposal = desk.propose(ledger)
            job = desk.propose_one(ledger, proposal.genotype, proposal.source, proposal.parent)
            if job is not None:
                return job
            ledger = desk.study.ledger()
            taken = {*genotypes.values(), *refused, proposal.genotype}
            repaired = desk.proposer.repair(proposal.genotype, taken)
            if repaired is not None and repaired not in taken:
                job = desk.propose_one(ledger, repaired, "repair", None)
                if job is not None:
                    return job
                ledger = desk.study.ledger()
            if ledger.refused >= EXHAUSTED or len(genotypes) >= desk.proposer.feasible.size:
                break
        return None


@dataclass(frozen=True)
class Plain(Strategy):
    """An Optuna sampler, for comparisons: what it proposes and fits is trained in full, nothing is repaired."""

    name: str
    make: Callable[[int], optuna.samplers.BaseSampler]
    """The sampler of a seed."""
    tells_refusals: bool = False
    """It learns from complete trials only: what did not fit is told with the worst scores. TPE learns from pruned trials."""
    narrows: bool = False
    hands_over: bool = False

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Its own."""
        return self.make(seed)

    def rungs(self, rungs: Sequence[int], *, timed: bool) -> tuple[int, ...]:
        """The last alone."""
        return (max(rungs),)

    def explore(self, share: float) -> float:
        """All the time."""
        return 1.0

    def rehearse(self, desk: Desk, ledger: Ledger) -> None:
        """Nothing: the sampler thinks in the study itself."""

    def decide(self, desk: Desk, ledger: Ledger) -> Decision:
        """What the sampler asks for, until something of it fits and is new."""
        networks = desk.schedule.plan.networks
        for _ in range(EXHAUSTED):
            started = sum(not net.failed for net in ledger.nets.values())
            if networks is not None and started >= networks:
                return None if any(net.busy for net in ledger.nets.values()) else "every network is trained"
            trial = desk.study.ask()
            trial.set_user_attr("owner", desk.study.member)
            job = desk.propose_one(ledger, desk.study.genotype(trial.params), self.name, None, trial)
            if job is not None:
                return job
            if desk.seconds_left() <= 0:
                return "the time is used"
            ledger = desk.study.ledger()
        return None if ledger.refused < PATIENCE * EXHAUSTED else NOTHING_NEW

    def refused_values(self, record: Trial, goals: Sequence[Objective]) -> list[float] | None:
        """The costs and the worst scores of what does not fit, where the sampler wants them; None where a cost is not known."""
        if not self.tells_refusals or record.state != "infeasible":
            return None
        values = [0.0 if goal.trained else goal.of(record) for goal in goals]
        return None if None in values else [float(value) for value in values if value is not None]


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Staged("tinynas"),
        Plain("tpe", partial(tpe_sampler, multivariate=True)),
        Plain("tpe-independent", partial(tpe_sampler, multivariate=False)),
        Plain("nsga2", lambda seed: optuna.samplers.NSGAIISampler(seed=seed), tells_refusals=True),
        Plain("random", lambda seed: optuna.samplers.RandomSampler(seed=seed)),
    )
}
