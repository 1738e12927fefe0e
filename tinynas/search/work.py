"""The work of one process: decide, train, record, until nothing is left to do."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import optuna

from tinynas.cost import estimate
from tinynas.errors import TinynasError
from tinynas.graph import lower
from tinynas.records import Trial
from tinynas.search.prepare import POLL, Session
from tinynas.search.proposals import Proposer
from tinynas.search.schedule import Continue, Finished, Net, Schedule, Wait
from tinynas.search.study import HEARTBEAT_SECONDS, MAX_RETRIES, Job, Ledger, Study, database_errors
from tinynas.search.training import Outcome
from tinynas.space import Genotype

#: Refused proposals in a row after which the space counts as used up.
EXHAUSTED = 300
NOTHING_NEW = "every network that fits has been tried"
#: Proxy trainings kept on disk to be continued.
KEPT_STATES = 48


class Worker:
    """Decides, trains and records, in one process."""

    def __init__(self, session: Session, on_trial: Callable[[Trial], None] | None = None) -> None:
        self.session = session
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
                decided = self._decide()
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

    def _seconds_left(self) -> float:
        return math.inf if self.session.deadline is None else self.session.deadline - time.monotonic()

    def _decide(self) -> Job | str | None:
        study, session = self.session.study, self.session
        if self._seconds_left() <= 0:
            return "the time is used"
        with study.deciding():
            study.reclaim()
            ledger = study.ledger()
            while ledger.waiting:
                job = self._take_waiting(ledger)
                if job is not None:
                    return job
                ledger = study.ledger()
            if session.settings.strategy != "tinynas":
                return self._plain(ledger)
            nets = self._nets(ledger)
            # The clock has a say only where it is what ends the search: a number of trials must mean the same anywhere.
            timed = session.plan.networks is None
            estimates = self.proposer.estimates(nets, ledger.genotypes)
            for exhausted in (False, True):
                decision = self.schedule.next(
                    nets,
                    estimates,
                    progress=session.progress() if timed else 0.0,
                    seconds_left=self._seconds_left() if timed else math.inf,
                    exhausted=exhausted,
                )
                match decision:
                    case Finished(reason):
                        return NOTHING_NEW if exhausted else reason
                    case Wait():
                        return None
                    case Continue(net, rung):
                        record = ledger.records[net.number]
                        job = Job(-1, net.id, net.number, record.genotype, record.source, record.parent, rung)
                        return self._begin(job, net.cost, record.excess)
                    case _:
                        # Nothing new fits: what is known may still be continued.
                        new = self._new(ledger)
                        if new is not None:
                            return new
            return NOTHING_NEW

    def _nets(self, ledger: Ledger) -> list[Net]:
        nets = sorted(ledger.nets.values(), key=lambda net: net.number)
        for net in nets:
            record = ledger.records.get(net.number)
            net.seconds_per_image = self.speed.of(float(record.costs.get("macs") or 0) if record else 0.0)
        return nets

    def _take_waiting(self, ledger: Ledger) -> Job | None:
        study = self.session.study
        trial, attrs, retries = study.claim_waiting()
        if "net" not in attrs:
            # Enqueued by a person (Optuna or its dashboard): a proposal like any other.
            return self._propose_one(ledger, study.genotype(trial.params), "enqueued", None, trial)
        genotype = tuple(int(i) for i in attrs["genotype"])
        job = Job(trial.number, attrs["net"], attrs["proposal"], genotype, attrs["source"], attrs.get("parent"), attrs["rung"], retries)
        if retries >= MAX_RETRIES:
            record = self._blank(job, "failed", reason=f"its worker died {retries} times while training it (out of memory?)")
            study.give_up(trial.number, record)
            self.on_trial(record)
            return None
        return job

    def _begin(self, job: Job, cost: float, excess: dict[str, float]) -> Job:
        attrs: dict[str, Any] = {
            "net": job.net,
            "proposal": job.proposal,
            "cost": cost,
            "source": job.source,
            "parent": job.parent,
            "rung": job.rung,
            "epochs": self.session.plan.rungs[job.rung],
        }
        trial = self.session.study.begin(job.genotype, attrs, excess)
        return replace(job, number=trial.number)

    def _new(self, ledger: Ledger) -> Job | None:
        session = self.session
        for _ in range(EXHAUSTED):
            number, genotypes = ledger.proposals, ledger.genotypes
            infeasible = [
                (r.genotype, sum(max(0.0, e) for e in r.excess.values())) for r in ledger.records.values() if r.state == "infeasible"
            ]
            refused = {r.genotype for r in ledger.records.values() if r.state in ("infeasible", "duplicate")}
            proposal = self.proposer.propose(number, self._nets(ledger), genotypes, infeasible, refused=refused)
            job = self._propose_one(ledger, proposal.genotype, proposal.source, proposal.parent)
            if job is not None:
                return job
            ledger = session.study.ledger()
            taken = {*genotypes.values(), *refused, proposal.genotype}
            repaired = self.proposer.repair(proposal.genotype, taken)
            if repaired is not None and repaired not in taken:
                job = self._propose_one(ledger, repaired, "repair", None)
                if job is not None:
                    return job
                ledger = session.study.ledger()
            if ledger.refused >= EXHAUSTED or len(genotypes) >= session.space.size:
                break
        return None

    def _propose_one(
        self, ledger: Ledger, genotype: Genotype, source: str, parent: str | None, trial: optuna.Trial | None = None
    ) -> Job | None:
        """A job for the genotype, or None where it is infeasible or known (then recorded as such)."""
        session, study = self.session, self.session.study
        arch = session.space.decode(genotype, session.classes)
        cost = estimate(lower(arch), session.budget.runtime, core=session.budget.core, clock_mhz=session.budget.clock_mhz)
        excess = {name: min(over, 1e6) for name, over in session.budget.excess(cost).items()}
        number = ledger.proposals
        costs = cost.values()
        value = costs.get(session.cost)
        attrs: dict[str, Any] = {
            "net": arch.id,
            "proposal": number,
            "cost": float(value) if value is not None else float(cost.macs),
            "source": source,
            "parent": parent,
            "rung": 0,
            "epochs": session.plan.rungs[0],
            "genotype": list(genotype),
            "owner": study.member,
        }
        blank = Trial(number, arch.id, "trained", source, genotype, costs, excess, parent=parent)
        over = {name: share for name, share in excess.items() if share > 0}
        known = ledger.nets.get(arch.id)
        session.run.write_arch(arch)
        if trial is None:
            trial = study.begin(genotype, attrs, excess)
        else:
            for key, attribute in attrs.items():
                trial.set_user_attr(key, attribute)
            for name, share in excess.items():
                trial.set_constraint(name, share)
        if over:
            reason = ", ".join(f"{name} {share:.0%} over" for name, share in over.items())
            record = replace(blank, state="infeasible", reason=reason)
        elif known is not None:
            first = ledger.records.get(known.number)
            scores = dict(first.scores) if first is not None else {}
            record = replace(blank, state="duplicate", scores=scores, reason=f"same network as trial {known.number}")
        else:
            return Job(trial.number, arch.id, number, genotype, source, parent, 0)
        study.refuse(trial, record, self._refused_values(record))
        self.on_trial(record)
        return None

    def _refused_values(self, record: Trial) -> list[float] | None:
        # NSGA-II learns from complete trials only: an infeasible one is told with the worst scores; TPE from pruned ones.
        if record.state != "infeasible" or self.session.settings.strategy != "nsga2":
            return None
        values = [goal.of(record) for goal in self.session.goals]
        return [0.0 if value is None else value for value in values]

    def _plain(self, ledger: Ledger) -> Job | str | None:
        # Plain Optuna, for comparisons: the sampler proposes, what fits is trained in full, nothing is repaired.
        session, study = self.session, self.session.study
        for _ in range(EXHAUSTED):
            started = sum(not net.failed for net in ledger.nets.values())
            busy = any(net.busy for net in ledger.nets.values())
            if session.plan.networks is not None and started >= session.plan.networks:
                return None if busy else "every network is trained"
            trial = study.ask()
            trial.set_user_attr("owner", study.member)
            job = self._propose_one(ledger, study.genotype(trial.params), session.settings.strategy, None, trial)
            if job is not None:
                return job
            if self._seconds_left() <= 0:
                return "the time is used"
            ledger = study.ledger()
        return None if ledger.refused < 100 * EXHAUSTED else NOTHING_NEW

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
                    deadline=session.deadline,
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

    def _blank(self, job: Job, state: str, reason: str | None = None) -> Trial:
        session = self.session
        arch = session.space.decode(job.genotype, session.classes)
        cost = estimate(lower(arch), session.budget.runtime, core=session.budget.core, clock_mhz=session.budget.clock_mhz)
        excess = session.budget.excess(cost)
        return Trial(job.proposal, job.net, state, job.source, job.genotype, cost.values(), excess, parent=job.parent, reason=reason)  # type: ignore[arg-type]

    def _learn_speed(self, record: Trial, outcome: Outcome) -> None:
        macs = float(record.costs.get("macs") or 0)
        measured = outcome.seconds / outcome.new_images
        factor = measured / self.speed.of(macs)
        self.speed = self.speed.scaled(macs, self.speed.of(macs) * factor**0.3)

    def _drop_states(self) -> None:
        folder = self.session.trainings.state_dir
        files = sorted(folder.glob("*.safetensors"), key=lambda p: p.stat().st_mtime)
        if len(files) <= KEPT_STATES:
            return
        nets = [net for net in self.session.study.ledger().nets.values() if net.results and not net.busy]
        order = [net.id for net in sorted(nets, key=lambda net: (net.rung, self.schedule.value(net)))]
        for net_id in order[: len(files) - KEPT_STATES]:
            self.session.trainings.state_file(net_id).unlink(missing_ok=True)


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
