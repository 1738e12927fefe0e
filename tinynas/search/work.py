"""The work of one process: decide, have it trained, record, until nothing is left to do."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, TypeVar, cast

import optuna

from tinynas.arch import Arch
from tinynas.cost import Cost
from tinynas.errors import RunError, TinynasError, UserError
from tinynas.graph import lower
from tinynas.records import Trial, TrialState
from tinynas.search.crew import Alone, Crew
from tinynas.search.prepare import POLL, Session
from tinynas.search.proposals import Proposal, Proposer
from tinynas.search.schedule import Net, Outlook, Schedule
from tinynas.search.strategies import Decision
from tinynas.search.study import HEARTBEAT_SECONDS, MAX_RETRIES, Job, Ledger, Study, clipped
from tinynas.search.training import Outcome
from tinynas.space import Genotype

#: How far (as a power) one training's measured speed moves the expected one: trainings vary with what else the machine does.
LEARNING = 0.3
#: How often a decision is thought through without the lock before it is taken with it, where others keep changing what is known.
REHEARSALS = 3
#: Trainings that fail in a row, none finished between them, that end a worker and with it the search.
FAILURES = 5
#: Proxy trainings kept on disk to be continued.
KEPT_STATES = 48

T = TypeVar("T")


class Worker:
    """Decides and records, in one process; a crew trains."""

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
            belief=session.settings.belief,
        )
        self.speed = session.speed
        self._refused: list[Trial] = []
        self._thoughts: dict[str, Any] = {}
        self._thought_of: tuple[int, ...] = ()
        self._costs: dict[Genotype, tuple[Arch, Cost]] = {}
        self._aside: list[tuple[Job, str]] = []
        self._failures, self._succeeded = 0, False
        self._used, self._over = 0.0, False

    def run(self, crew: Crew | None = None) -> str:
        """Work until nothing is left to do; the reason why it ended. ``crew`` trains (default: this process, one after the other).

        Raises RunError where trainings keep failing: it says why, and what the machine failed at is not held against the networks.
        """
        session = self.session
        crew = crew or Alone(session)
        session.study.join()
        begun: dict[int, Job] = {}
        try:
            with heartbeats(session.study, begun):
                while True:
                    idle = self._give_out(crew, begun)
                    if isinstance(idle, str) and not begun:
                        return idle
                    if idle is True:
                        self._take_up(count_retry=self._succeeded)
                    for job, outcome in crew.ended(POLL):
                        if outcome.machine:
                            # Whose fault it is the next trainings say.
                            self._aside.append((job, outcome.failure or ""))
                        else:
                            self._record(job, outcome)
                        del begun[job.number]
                        self._judge(outcome)
        except (KeyboardInterrupt, TinynasError):
            # Cut off: the next worker continues them from their last saved rung.
            for job in begun.values():
                try:
                    with session.study.deciding(wait=False):
                        session.study.hand_back(job.number)
                except UserError:
                    break  # the database is away: the others would wait for it too
                except Exception:
                    continue  # it is taken back when its time is over
            raise
        finally:
            with contextlib.suppress(Exception):
                self._take_up(count_retry=False)
            session.study.leave()

    def _give_out(self, crew: Crew, begun: dict[int, Job]) -> bool | str:
        """Begin what ``crew`` has room for. True where nothing can be begun until something ends, or the reason why nothing will be."""
        while crew.free() > 0:
            decided = self.decide()
            if isinstance(decided, Job):
                begun[decided.number] = decided
            self._tell()
            if isinstance(decided, str):
                return decided
            if decided is None:
                return True
            with contextlib.suppress(Exception):
                self.study.heartbeat(decided.number)
            crew.begin(decided)
        return False

    def _tell(self) -> None:
        told, self._refused = self._refused, []
        for trial in told:
            self.on_trial(trial)

    def _judge(self, outcome: Outcome) -> None:
        if outcome.scores:
            # Others can be trained here: what was set aside failed by itself, or in a bad moment. It has its tries.
            self._failures, self._succeeded = 0, True
            self._take_up(count_retry=True)
        if outcome.failure is None:
            return
        self._failures += 1
        if self._failures < FAILURES:
            return
        if outcome.machine:
            remedy = (
                "mend that (short of memory or threads: end other programs, or fewer --workers), then --resume: it tries the same networks"
            )
        else:
            remedy = "their reasons are in trials.jsonl; what is finished is kept, and --resume tries other networks"
        raise RunError(f"{self.session.run.path}: {FAILURES} trainings in a row failed, the last one: {outcome.failure}", remedy)

    def _take_up(self, *, count_retry: bool) -> None:
        """Put what was set aside back into the queue."""
        if not self._aside:
            return
        with self.study.deciding():
            while self._aside:
                job, why = self._aside[-1]
                if self.study.owns(job.number):
                    self.study.hand_back(job.number, count_retry=count_retry, why=why)
                self._aside.pop()

    def seconds_left(self) -> float:
        """Until trainings must end."""
        return self.session.clock.seconds_left()

    def progress(self) -> float:
        """Share of the time, or of the images, that is gone, 0..1."""
        return max(self.session.clock.progress(), self._used)

    def decide(self) -> Decision:
        """What comes next, decided under the study's lock and noted in the study; most of the thinking is done before, without it."""
        session, study, strategy = self.session, self.study, self.session.strategy
        if self._over or self.seconds_left() <= 0:
            return "the time is used"
        rehearsed: tuple[int, ...] | None = None
        for left in reversed(range(REHEARSALS + 1)):
            with study.deciding():
                study.reclaim()
                ledger = study.ledger()
                while ledger.waiting:
                    job = self._take_waiting(ledger)
                    if job is not None:
                        return job
                    ledger = study.ledger()
                self._used = session.share_of_images(ledger.records.values())
                if self._used >= 1.0:
                    return "the images are used"
                if not left or ledger.key == rehearsed:
                    return strategy.decide(self, ledger)
            strategy.rehearse(self, ledger)
            rehearsed = ledger.key
        raise AssertionError("the last one decides")

    def outlooks(self, ledger: Ledger) -> dict[str, Outlook]:
        """What is believed of the networks with results, by id."""
        return self._thought("outlooks", ledger, lambda: self.proposer.outlooks(self.nets(ledger), ledger.genotypes))

    def propose(self, ledger: Ledger) -> Proposal:
        """The next proposal, given what is known."""

        def think() -> Proposal:
            infeasible = [
                (r.genotype, sum(max(0.0, e) for e in r.excess.values())) for r in ledger.records.values() if r.state == "infeasible"
            ]
            return self.proposer.propose(
                ledger.proposals, self.nets(ledger), ledger.genotypes, infeasible, refused=ledger.refused_genotypes
            )

        return self._thought("proposal", ledger, think)

    def prepare(self, genotype: Genotype) -> None:
        """Cost a proposal, and write its architecture."""
        self.session.run.write_arch(self._costed(genotype)[0])

    def _thought(self, name: str, ledger: Ledger, think: Callable[[], T]) -> T:
        # The same knowledge gives the same answer.
        if self._thought_of != ledger.key:
            self._thoughts, self._thought_of = {}, ledger.key
        if name not in self._thoughts:
            self._thoughts[name] = think()
        return cast(T, self._thoughts[name])

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
            why = attrs.get("cut_off")
            reason = f"its worker died {retries} times while training it (out of memory?)" if why is None else f"{retries} times: {why}"
            record = self._given_up(job, reason)
            study.give_up(trial.number, record)
            self._refused.append(record)
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
        self._refused.append(record)
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

    def _record(self, job: Job, outcome: Outcome) -> None:
        session, study = self.session, self.session.study
        done = [r for r, epochs in enumerate(session.plan.rungs) if epochs <= outcome.epochs]
        reached = min(job.rung, done[-1] if done else 0)
        with study.deciding():
            if not study.owns(job.number):
                return  # this process was taken for dead, and another was given the training
            if outcome.failure is not None:
                record = self._given_up(job, outcome.failure)
                study.give_up(job.number, record)
            elif not outcome.scores or (outcome.epochs < session.plan.rungs[job.rung] and not self._is_news(job, outcome)):
                study.hand_back(job.number)
                # So little time is left that nothing could be begun: it would be taken up and put back until the end.
                self._over = session.clock.deadline is not None and not outcome.new_images
                return
            else:
                reason = (
                    None if outcome.epochs >= session.plan.rungs[job.rung] else f"cut short by the time limit at epoch {outcome.epochs}"
                )
                reason = "; ".join(text for text in (reason, outcome.remark) if text is not None) or None
                record = replace(
                    self._blank(job, "trained", reason=reason), scores=outcome.scores, epochs=outcome.epochs, images=outcome.images
                )
                study.finish(
                    job.number,
                    record,
                    {"rung": reached, "epochs": outcome.epochs, "images": outcome.images, "scores": outcome.scores},
                )
            self._drop_states()
        line = {
            "number": job.proposal,
            "id": job.net,
            "rung": job.rung,
            "epochs": outcome.epochs,
            "images": outcome.new_images,
            "seconds": round(outcome.seconds + outcome.learning, 3),
            "finished": round(time.time(), 3),
            "worker": study.member,
        }
        # A training that was done before the study was torn or killed may be in the log already.
        if outcome.new_images or not any(row["id"] == job.net and row["epochs"] == outcome.epochs for row in session.run.log("times")):
            session.run.append_log("times", line)
        if outcome.new_images:
            self._learn_speed(record, outcome)
        self.on_trial(record)

    def _is_news(self, job: Job, outcome: Outcome) -> bool:
        # Where its state was lost, a training begins again, and may be cut short before it is where it was.
        net = self.session.study.ledger().nets[job.net]
        return outcome.new_images > 0 and (not net.results or outcome.epochs > max(net.results[-1].epochs, net.beyond))

    def _given_up(self, job: Job, reason: str) -> Trial:
        # What a network showed before a longer training failed is not lost by it.
        known = self.session.study.ledger().records.get(job.proposal)
        if known is None or not known.was_trained:
            return self._blank(job, "failed", reason=reason)
        return replace(known, reason=f"training it further failed: {reason}")

    def _blank(self, job: Job, state: TrialState, reason: str | None = None) -> Trial:
        _, cost = self._costed(job.genotype)
        excess = self.session.budget.excess(cost)
        return Trial(job.proposal, job.net, state, job.source, job.genotype, cost.values(), excess, parent=job.parent, reason=reason)

    def _costed(self, genotype: Genotype) -> tuple[Arch, Cost]:
        if genotype not in self._costs:
            budget = self.session.budget
            arch = self.session.space.decode(genotype, self.session.classes)
            cost = budget.cost(lower(arch))
            self._costs[genotype] = arch, cost
        return self._costs[genotype]

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
        worst = sorted(nets, key=lambda net: (net.rung, self.schedule.value(net)))
        kept = [file for net in worst if (file := self.session.trainings.state_file(net.id)) in set(files)]
        for file in kept[: len(files) - KEPT_STATES]:
            file.unlink(missing_ok=True)


def _macs(record: Trial) -> float:
    macs = record.costs["macs"]
    assert macs is not None, "MACs are always known"
    return float(macs)


@contextlib.contextmanager
def heartbeats(study: Study, numbers: Collection[int]) -> Iterator[None]:
    """Tell a database storage, every few seconds, that the trainings of these ``numbers``, which may change, go on."""
    if not study.needs_heartbeat:
        yield
        return
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            for number in list(numbers):
                with contextlib.suppress(Exception):
                    study.heartbeat(number)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
