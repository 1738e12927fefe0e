"""The work of one process: decide, train, record, until nothing is left to do."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import optuna

from tinynas.arch import Arch
from tinynas.cost import Cost, estimate
from tinynas.errors import TinynasError
from tinynas.graph import lower
from tinynas.records import Trial, TrialState
from tinynas.search.prepare import POLL, Session
from tinynas.search.proposals import Proposer
from tinynas.search.schedule import Net, Schedule
from tinynas.search.strategies import Decision
from tinynas.search.study import HEARTBEAT_SECONDS, MAX_RETRIES, Job, Ledger, Study, clipped, database_errors
from tinynas.search.training import Outcome
from tinynas.space import Genotype

#: How far (as a power) one training's measured speed moves the expected one: trainings vary with what else the machine does.
LEARNING = 0.3
#: Proxy trainings kept on disk to be continued.
KEPT_STATES = 48


class Worker:
    """Decides, trains and records, in one process."""

    def __init__(self, session: Session, on_trial: Callable[[Trial], None] | None = None) -> None:
        self.session, self.study = session, session.study
        self.on_trial = on_trial or (lambda _trial: None)
        self.schedule = Schedule(session.plan, session.chance)
        self.proposer = Proposer(
            session.feasible,
            session.pool,
            session.plan,
            seed=session.settings.seed,
            baseline=session.settings.baseline,
            start=session.settings.start,
            cost=session.cost,
            chance=session.chance,
        )
        self.speed = session.speed

    def run(self) -> str:
        """Work until nothing is left to do; the reason why it ended."""
        session = self.session
        session.study.join()
        job: Job | None = None
        try:
            while True:
                decided = self.decide()
                if isinstance(decided, str):
                    return decided
                if decided is None:
                    time.sleep(POLL)
                    continue
                job = decided
                outcome = self._train(job)
                self._record(job, outcome)
                job = None
        except (KeyboardInterrupt, TinynasError):
            if job is not None:
                # Cut off: the next worker continues it from its last saved rung.
                with contextlib.suppress(Exception), session.study.deciding():
                    session.study.hand_back(job.number)
            raise
        finally:
            session.study.leave()

    def seconds_left(self) -> float:
        """Until trainings must end."""
        return self.session.clock.seconds_left()

    def progress(self) -> float:
        """Share of the time that is gone, 0..1."""
        return self.session.clock.progress()

    def decide(self) -> Decision:
        """What comes next, decided under the study's lock and noted in the study."""
        study = self.study
        if self.seconds_left() <= 0:
            return "the time is used"
        with study.deciding():
            study.reclaim()
            ledger = study.ledger()
            while ledger.waiting:
                job = self._take_waiting(ledger)
                if job is not None:
                    return job
                ledger = study.ledger()
            return self.session.strategy.decide(self, ledger)

    def nets(self, ledger: Ledger) -> list[Net]:
        """The networks by number, with their predicted training times."""
        nets = sorted(ledger.nets.values(), key=lambda net: net.number)
        for net in nets:
            if net.results:
                net.seconds_per_image = self.speed.of(_macs(ledger.records[net.number]))
        return nets

    def _take_waiting(self, ledger: Ledger) -> Job | None:
        study = self.session.study
        trial, attrs, retries = study.claim_waiting()
        if "net" not in attrs:
            # Enqueued by a person (Optuna or its dashboard): a proposal like any other.
            return self.propose_one(ledger, study.genotype(trial.params), "enqueued", None, trial)
        genotype = tuple(int(i) for i in attrs["genotype"])
        job = Job(trial.number, attrs["net"], attrs["proposal"], genotype, attrs["source"], attrs.get("parent"), attrs["rung"], retries)
        if retries >= MAX_RETRIES:
            record = self._blank(job, "failed", reason=f"its worker died {retries} times while training it (out of memory?)")
            study.give_up(trial.number, record)
            self.on_trial(record)
            return None
        return job

    def continue_net(self, ledger: Ledger, net: Net, rung: int) -> Job:
        """A job that trains ``net`` on to ``rung``."""
        record = ledger.records[net.number]
        attrs = self._attrs(record, net.cost, rung)
        number = self.study.begin(record.genotype, attrs, record.excess)
        return Job(number, net.id, net.number, record.genotype, record.source, record.parent, rung)

    def propose_one(
        self, ledger: Ledger, genotype: Genotype, source: str, parent: str | None, trial: optuna.Trial | None = None
    ) -> Job | None:
        """A job for the genotype, or None where it is infeasible or known (then recorded as such)."""
        session, study = self.session, self.study
        arch, cost = self._costed(genotype)
        excess = {name: clipped(over) for name, over in session.budget.excess(cost).items()}
        costs = cost.values()
        blank = Trial(ledger.proposals, arch.id, "trained", source, genotype, costs, excess, parent=parent)
        value = costs.get(session.cost)
        attrs = self._attrs(blank, float(value) if value is not None else float(cost.macs), 0)
        over = {name: share for name, share in excess.items() if share > 0}
        known = ledger.nets.get(arch.id)
        session.run.write_arch(arch)
        number = study.begin(genotype, attrs, excess) if trial is None else study.describe(trial, genotype, attrs, excess)
        if over:
            reason = ", ".join(f"{name} {share:.0%} over" for name, share in over.items())
            record = replace(blank, state="infeasible", reason=reason)
        elif known is not None:
            first = ledger.records.get(known.number)
            scores = dict(first.scores) if first is not None else {}
            record = replace(blank, state="duplicate", scores=scores, reason=f"same network as trial {known.number}")
        else:
            return Job(number, arch.id, blank.number, genotype, source, parent, 0)
        study.refuse(number, record, session.strategy.refused_values(record, session.goals))
        self.on_trial(record)
        return None

    def _attrs(self, record: Trial, cost: float, rung: int) -> dict[str, Any]:
        # What the study is told of a training; its costs for people who look at it in Optuna's dashboard.
        return {
            "net": record.id,
            "proposal": record.number,
            "cost": cost,
            "source": record.source,
            "parent": record.parent,
            "rung": rung,
            "epochs": self.session.plan.rungs[rung],
            **{f"cost:{name}": value for name, value in record.costs.items()},
        }

    # training and recording -------------------------------------------------------------------------

    def _train(self, job: Job) -> Outcome:
        session = self.session
        arch = session.space.decode(job.genotype, session.classes)
        with heartbeats(session.study, job.number):
            try:
                return session.trainings.train(
                    arch,
                    session.plan.rungs[job.rung],
                    parent=job.parent if job.rung == 0 else None,
                    deadline=session.clock.deadline,
                )
            except TinynasError:
                raise
            except (RuntimeError, ValueError, ArithmeticError) as error:
                return Outcome(0, 0, {}, 0.0, 0, f"{type(error).__name__}: {error}"[:300])

    def _record(self, job: Job, outcome: Outcome) -> None:
        session, study = self.session, self.session.study
        done = [r for r, epochs in enumerate(session.plan.rungs) if epochs <= outcome.epochs]
        reached = min(job.rung, done[-1] if done else 0)
        with database_errors(session.settings.storage), study.deciding():
            if outcome.failure is not None:
                record = self._blank(job, "failed", reason=outcome.failure)
                study.give_up(job.number, record)
            elif not outcome.scores or (not outcome.new_images and outcome.epochs < session.plan.rungs[job.rung]):
                study.hand_back(job.number)
                return
            else:
                reason = (
                    None if outcome.epochs >= session.plan.rungs[job.rung] else f"cut short by the time limit at epoch {outcome.epochs}"
                )
                record = replace(
                    self._blank(job, "trained", reason=reason), scores=outcome.scores, epochs=outcome.epochs, images=outcome.images
                )
                study.finish(
                    job.number,
                    record,
                    {"rung": reached, "epochs": outcome.epochs, "images": outcome.images, "scores": outcome.scores},
                )
            session.run.append_log(
                "times",
                {
                    "number": job.proposal,
                    "id": job.net,
                    "rung": job.rung,
                    "epochs": outcome.epochs,
                    "images": outcome.new_images,
                    "seconds": round(outcome.seconds, 3),
                    "finished": round(time.time(), 3),
                    "worker": study.member,
                },
            )
            self._drop_states()
        if outcome.new_images:
            self._learn_speed(record, outcome)
        self.on_trial(record)

    def _blank(self, job: Job, state: TrialState, reason: str | None = None) -> Trial:
        _, cost = self._costed(job.genotype)
        excess = self.session.budget.excess(cost)
        return Trial(job.proposal, job.net, state, job.source, job.genotype, cost.values(), excess, parent=job.parent, reason=reason)

    def _costed(self, genotype: Genotype) -> tuple[Arch, Cost]:
        budget = self.session.budget
        arch = self.session.space.decode(genotype, self.session.classes)
        return arch, estimate(lower(arch), budget.runtime, core=budget.core, clock_mhz=budget.clock_mhz)

    def _learn_speed(self, record: Trial, outcome: Outcome) -> None:
        macs, measured = _macs(record), outcome.seconds / outcome.new_images
        expected = self.speed.of(macs)
        self.speed = self.speed.scaled(macs, expected * (measured / expected) ** LEARNING)

    def _drop_states(self) -> None:
        folder = self.session.trainings.state_dir
        files = sorted(folder.glob("*.safetensors"), key=lambda p: p.stat().st_mtime)
        if len(files) <= KEPT_STATES:
            return
        nets = [net for net in self.session.study.ledger().nets.values() if net.results and not net.busy]
        order = [net.id for net in sorted(nets, key=lambda net: (net.rung, self.schedule.value(net)))]
        for net_id in order[: len(files) - KEPT_STATES]:
            self.session.trainings.state_file(net_id).unlink(missing_ok=True)


def _macs(record: Trial) -> float:
    macs = record.costs["macs"]
    assert macs is not None, "MACs are always known"
    return float(macs)


@contextlib.contextmanager
def heartbeats(study: Study, number: int) -> Iterator[None]:
    """Tell a database storage, every few seconds, that the training goes on."""
    if not study.needs_heartbeat:
        yield
        return
    over = threading.Event()

    def beat() -> None:
        while True:
            with contextlib.suppress(Exception):
                study.heartbeat(number)
            if over.wait(HEARTBEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
