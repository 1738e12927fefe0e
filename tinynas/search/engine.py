"""The search: prepare once, then decide, train, record until the time or the trials are used up.

Determinism: with one worker and a number of trials (no time limit reached), everything follows from the seed, and
two runs write the same bytes to ``trials.jsonl``. Wall-clock times differ between equal runs and are therefore
kept apart, in ``times.jsonl``; decisions look at the clock only where a time limit is all that ends the search.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from tinynas import pareto
from tinynas.budget import Budget
from tinynas.config import build
from tinynas.cost import estimate
from tinynas.errors import RunError, TinynasError
from tinynas.graph import lower
from tinynas.objectives import Objective, objectives
from tinynas.records import Trial
from tinynas.runs import Run, cores, write_atomic
from tinynas.search.feasible import COSTS, Feasible, Pool, strata
from tinynas.search.pool import draw_pool
from tinynas.search.proposals import Proposer, tpe_sampler
from tinynas.search.schedule import Continue, Finished, Net, Plan, Schedule, Wait
from tinynas.search.settings import Counts, SearchEvent, SearchResult, SearchSettings
from tinynas.search.spaces import rank_spaces
from tinynas.search.study import MAX_RETRIES, Job, Ledger, Study, database_errors
from tinynas.search.training import Outcome, Trainings, seconds_per_image
from tinynas.space import Genotype, Space

if TYPE_CHECKING:
    from tinynas.data import ImageData

OnEvent = Callable[[SearchEvent], None]

#: Resolutions up to this many times the images' own are searched.
ENLARGE = 1.5
#: A network whose first rung takes more than this share of all training time is not started.
MAX_FIRST_RUNG = 0.04
#: Networks that the time should allow to start; sets the images of an epoch.
STARTED = 32
#: Share of the exploring time that first rungs may take.
FIRST_RUNGS = 0.65
MIN_EPOCH_IMAGES = 512
#: Training images of an epoch where no time limit decides: the tabular benchmark's.
EPOCH_IMAGES = 2000
#: Seconds kept back from the time limit for writing up.
WRITE_UP = 2.0
POLL = 0.2
#: Refused proposals in a row after which the space counts as used up.
EXHAUSTED = 300
#: Proxy trainings kept on disk to be continued.
KEPT_STATES = 48


@dataclass
class Session:
    """One process's view of a run: everything that deciding and training need."""

    run: Run
    space: Space
    budget: Budget
    settings: SearchSettings
    goals: tuple[Objective, ...]
    feasible: Feasible
    pool: Pool
    plan: Plan
    study: Study
    trainings: Trainings
    classes: int
    speed: Speed
    reference: tuple[tuple[float, float], ...]
    """For each objective (worst, best) values of the hypervolume's box."""
    started: float = field(default_factory=time.monotonic)
    timeout: float | None = None
    deadline: float | None = None

    @property
    def cost(self) -> str:
        """The cost that bands and fronts of the schedule go by."""
        return cost_of(self.goals)

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1.0 / max(2, self.classes)

    def progress(self) -> float:
        """Share of the time that is gone; 0 without a time limit or where trials alone decide."""
        if self.timeout is None:
            return 0.0
        return min(1.0, (time.monotonic() - self.started) / self.timeout)


@dataclass(frozen=True)
class Speed:
    """Training seconds of one image: ``fixed + per_mac * MACs``."""

    fixed: float = 2e-4
    per_mac: float = 3.3e-10

    def of(self, macs: float) -> float:
        """Seconds."""
        return self.fixed + self.per_mac * macs

    def scaled(self, macs: float, measured: float) -> Speed:
        """The same shape through one measured point."""
        factor = measured / self.of(macs)
        return Speed(self.fixed * factor, self.per_mac * factor)


def cost_of(goals: Sequence[Objective]) -> str:
    """The cost name of the first objective that is a cost; MACs where none is."""
    names = {"macs": "macs", "sram": "sram_bytes", "flash": "flash_bytes", "params": "params", "latency": "latency_ms"}
    return next((names[goal.name] for goal in goals if goal.name in names), "macs")


# preparing ------------------------------------------------------------------------------------------


def prepare(run: Run, space: Space, budget: Budget, data: ImageData, settings: SearchSettings, say: Callable[[str, str], None]) -> None:
    """Space choice, pool and plan, once for a run; written to its folder, so that every worker sees the same."""
    if run.read_json("plan") is not None:
        return
    classes = max(2, len(data.labels))
    notes = []
    rng = np.random.default_rng((settings.seed, 0x9001))
    goals = objectives(settings.objectives)
    timed = settings.timeout is not None and settings.trials is None
    speed, max_macs, capacity = Speed(), None, math.inf
    if timed and settings.strategy == "tinynas":
        assert settings.timeout is not None
        capacity = settings.timeout * min(settings.workers, cores())
        probe = draw_pool(Feasible(space, classes, budget), 64, rng)
        middle = probe.genotypes[int(np.argsort(probe.costs["macs"])[len(probe) // 2])]
        arch = space.decode([int(i) for i in middle], classes)
        macs = estimate(lower(arch), budget.runtime).macs
        say("plan", "measuring the training speed of this machine")
        trainings = Trainings(data, settings.recipe, settings.seed, run.state_dir())
        speed = speed.scaled(macs, seconds_per_image(trainings, arch))
        max_macs = max_trainable_macs(speed, capacity, settings)
    subspaces: list[tuple[int, int]] = []
    if settings.choose_space and settings.strategy == "tinynas" and (len(space.resolution) > 1 or len(space.width_mult) > 1):
        # Enlarging images adds nothing to see, but more work on each of them: worth it up to a point.
        side = data.native_size
        table = rank_spaces(
            space,
            budget,
            classes=classes,
            seed=settings.seed,
            bands=settings.bands,
            max_resolution=max(int(ENLARGE * side), min(space.resolution)) if side else None,
            max_macs=max_macs,
        )
        subspaces = [row.genes for row in table.chosen]
        notes.append(table.explain())
        run.write_json("spaces", table.to_json())
        say("space", notes[-1])
    feasible = Feasible(space, classes, budget, subspaces=subspaces, max_macs=max_macs)
    pool = draw_pool(feasible, settings.pool, rng)
    notes.append(
        f"{len(pool):,} networks that fit drawn ({pool.share:.2%} of the {'chosen sub-spaces fit' if subspaces else 'space fits'}"
        f"{', counted exactly' if pool.counted else ''}), {pool.costs['macs'].min() / 1e6:.2f}-{pool.costs['macs'].max() / 1e6:.1f} M MACs."
    )
    say("pool", notes[-1])
    if max_macs is not None and settings.timeout is not None:
        notes.append(
            f"Networks above {max_macs / 1e6:.1f} M MACs are left out: in {settings.timeout / 60:.3g} minutes on this machine they could "
            "hardly be trained. A longer --timeout lets them in."
        )
        say("plan", notes[-1])
    _save_pool(run, pool)
    images = settings.epoch_images
    if not images and timed and settings.strategy == "tinynas":
        mean = float(np.mean([speed.of(m) for m in _spread_sample(pool, settings)]))
        images = max(MIN_EPOCH_IMAGES, int(capacity * settings.explore * FIRST_RUNGS / (STARTED * mean * settings.rungs[0])))
    elif not images:
        images = EPOCH_IMAGES
    rungs = tuple(sorted(set(settings.rungs)))
    if settings.strategy != "tinynas":
        rungs = rungs[-1:]
    elif timed:
        # What the time allows is not known yet: the front goes on as far as it does.
        rungs = (*rungs, 2 * rungs[-1], 4 * rungs[-1])
    plan = Plan(
        rungs=rungs,
        epoch_images=images,
        edges=strata(pool.costs[cost_of(goals)], settings.bands),
        eta=settings.eta,
        networks=settings.trials,
        explore=settings.explore if settings.strategy == "tinynas" else 1.0,
    )
    run.write_json(
        "plan",
        {
            "rungs": list(plan.rungs),
            "epoch_images": plan.epoch_images,
            "edges": list(plan.edges),
            "eta": plan.eta,
            "explore": plan.explore,
            "subspaces": [list(pair) for pair in subspaces],
            "max_macs": max_macs,
            "classes": classes,
            "speed": [speed.fixed, speed.per_mac],
            "reference": [list(pair) for pair in _reference(goals, pool, budget, classes)],
            "notes": notes,
        },
    )


def max_trainable_macs(speed: Speed, capacity: float, settings: SearchSettings) -> float:
    """MACs above which a first rung of the fewest images takes more than its share of ``capacity`` (core seconds)."""
    seconds = MAX_FIRST_RUNG * capacity / settings.rungs[0] / max(MIN_EPOCH_IMAGES, settings.epoch_images or 2048)
    return max((seconds - speed.fixed) / speed.per_mac, 2e6)


def _spread_sample(pool: Pool, settings: SearchSettings) -> list[float]:
    # MACs as the search will meet them: evenly over the bands.
    macs = np.sort(pool.costs["macs"])
    edges = strata(macs, settings.bands)
    parts = np.split(macs, np.searchsorted(macs, edges)) if edges else [macs]
    return [float(part.mean()) for part in parts if len(part)]


def _reference(goals: Sequence[Objective], pool: Pool, budget: Budget, classes: int) -> list[tuple[float, float]]:
    names = {"macs": "macs", "sram": "sram_bytes", "flash": "flash_bytes", "params": "params", "latency": "latency_ms"}
    box = []
    for goal in goals:
        if goal.name in names:
            values = pool.costs[names[goal.name]]
            values = values[np.isfinite(values)]
            low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 2.0)
            # Costs count on a log scale: from 1 M to 2 M MACs is as far as from 10 M to 20 M.
            box.append((math.log(high * 1.05), math.log(max(low * 0.95, 1e-9))))
        elif goal.maximize and goal.unit == "share":
            box.append((1.0 / max(2, classes), 1.0))
        else:
            box.append((0.0, 1.0))
    return box


def _save_pool(run: Run, pool: Pool) -> None:
    memory = io.BytesIO()
    facts = np.array([pool.drawn, pool.share, float(pool.counted)])
    columns: dict[str, Any] = {f"cost_{name}": pool.costs[name] for name in COSTS}
    np.savez_compressed(memory, genotypes=pool.genotypes.astype(np.int16), facts=facts, **columns)
    write_atomic(run.state_dir() / "pool.npz", memory.getvalue())


def _load_pool(run: Run) -> Pool:
    path = run.state_dir() / "pool.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            drawn, share, counted = file["facts"]
            costs = {name: file[f"cost_{name}"] for name in COSTS}
            return Pool(file["genotypes"].astype(np.int64), costs, int(drawn), float(share), bool(counted))
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path}: cannot be read: {error}", "the run is damaged; start a new one") from None


def open_session(run: Run, space: Space, budget: Budget, data: ImageData, settings: SearchSettings, *, index: int = 0) -> Session:
    """Open a prepared run. Raises RunError where it was not prepared."""
    document = run.read_json("plan")
    if document is None:
        raise RunError(f"{run.path}: has no plan yet", "start it with: tinynas search")
    goals = objectives(settings.objectives)
    plan = Plan(
        rungs=tuple(document["rungs"]),
        epoch_images=document["epoch_images"],
        edges=tuple(document["edges"]),
        eta=document["eta"],
        networks=settings.trials,
        explore=document["explore"],
    )
    feasible = Feasible(
        space, document["classes"], budget, subspaces=[(a, b) for a, b in document["subspaces"]], max_macs=document["max_macs"]
    )
    recipe = settings.recipe.model_copy(
        update={"epoch_images": plan.epoch_images or settings.recipe.epoch_images, "epochs": max(settings.recipe.epochs, plan.rungs[-1])}
    )
    study = Study.open(run, space, goals, settings.storage, _sampler(settings, index))
    int8 = any(goal.needs == "int8_accuracy" for goal in goals)
    return Session(
        run,
        space,
        budget,
        settings,
        goals,
        feasible,
        _load_pool(run),
        plan,
        study,
        Trainings(data, recipe, settings.seed, run.state_dir() / "nets", int8=int8, inherit=settings.inherit),
        document["classes"],
        Speed(*document["speed"]),
        tuple((a, b) for a, b in document["reference"]),
    )


def _sampler(settings: SearchSettings, index: int) -> optuna.samplers.BaseSampler:
    seed = settings.seed + 7919 * index
    match settings.strategy:
        case "tpe":
            return tpe_sampler(seed, multivariate=True)
        case "tpe-independent":
            return tpe_sampler(seed, multivariate=False)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed)
        case _:
            return optuna.samplers.RandomSampler(seed=seed)


# deciding -------------------------------------------------------------------------------------------


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
            decision = self.schedule.next(
                nets, progress=session.progress() if timed else 0.0, seconds_left=self._seconds_left() if timed else math.inf
            )
            match decision:
                case Finished(reason):
                    return reason
                case Wait():
                    return None
                case Continue(net, rung):
                    record = ledger.records[net.number]
                    job = Job(-1, net.id, net.number, record.genotype, record.source, record.parent, rung)
                    return self._begin(job, net.cost, record.excess)
                case _:
                    return self._new(ledger)

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

    def _new(self, ledger: Ledger) -> Job | str | None:
        session = self.session
        for _ in range(EXHAUSTED):
            number, genotypes = ledger.proposals, ledger.genotypes
            refused = [
                (r.genotype, sum(max(0.0, e) for e in r.excess.values())) for r in ledger.records.values() if r.state == "infeasible"
            ]
            proposal = self.proposer.propose(number, self._nets(ledger), genotypes, refused)
            job = self._propose_one(ledger, proposal.genotype, proposal.source, proposal.parent)
            if job is not None:
                return job
            ledger = session.study.ledger()
            taken = set(genotypes.values())
            repaired = self.proposer.repair(proposal.genotype, taken)
            if repaired is not None and repaired not in taken:
                job = self._propose_one(ledger, repaired, "repair", None)
                if job is not None:
                    return job
                ledger = session.study.ledger()
            if ledger.refused >= EXHAUSTED or len(genotypes) >= session.space.size:
                break
        # Nothing new fits: what runs may still be continued.
        if any(net.busy for net in ledger.nets.values()):
            return None
        return "every network that fits has been tried"

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
        return None if ledger.refused < 100 * EXHAUSTED else "every network that fits has been tried"

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
    from tinynas.search.study import HEARTBEAT_SECONDS

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


# the search -----------------------------------------------------------------------------------------


def search(run: Run, space: Space, budget: Budget, data: ImageData, settings: SearchSettings, on_event: OnEvent) -> SearchResult:
    """Search ``space`` for networks that fit ``budget``, trained on ``data``; continues what ``run`` holds already.

    With one worker it trains in this process; with more it starts processes that train, and looks after them.
    SIGINT (Ctrl-C) ends it early with everything finished on disk and ``interrupted`` set. Raises BudgetError where
    nothing fits, and UserError where the storage cannot be reached.
    """
    started = time.monotonic()
    if settings.timeout is None and settings.trials is None:
        settings = settings.model_copy(update={"timeout": DEFAULT_TIMEOUT_S})
    view = _View(run, settings, on_event, started)
    view.emit("start", f"searching {space.name} ({space.describe()}) for {budget.name}")
    reason, interrupted = "", False
    session: Session | None = None
    try:
        prepare(run, space, budget, data, settings, view.emit)
        session = open_session(run, space, budget, data, settings)
        session.started, session.timeout = started, settings.timeout
        session.deadline = None if settings.timeout is None else started + settings.timeout - WRITE_UP
        view.begin(session)
        with session.study.deciding():
            session.study.reclaim()
            session.study.mend()
        view.refresh()
        view.emit("plan", _plan_text(session))
        reason = Worker(session, view.recorded).run() if settings.workers == 1 else _supervise(session, view)
    except KeyboardInterrupt:
        reason, interrupted = "interrupted", True
    if session is None:
        return SearchResult(str(run.path), Counts(), 0.0, (), reason, time.monotonic() - started, interrupted)
    return _finish(session, view, reason, interrupted, started)


DEFAULT_TIMEOUT_S = 480.0


def worker(run_dir: str | Path, *, on_trial: Callable[[Trial], None] | None = None) -> int:
    """Join the search of the run at ``run_dir``, from this machine or one that shares the folder; returns when it ends.

    The number of trainings done. Raises RunError where there is no such run, or its search has not begun.
    """
    done = 0

    def count(trial: Trial) -> None:
        nonlocal done
        done += trial.state == "trained"
        if on_trial is not None:
            on_trial(trial)

    join(run_dir, {}, os.getpid(), count)
    return done


def join(run_dir: str | Path, changes: dict[str, Any], index: int, on_trial: Callable[[Trial], None]) -> str:
    """Work for the run until nothing is left to do; the reason. ``changes`` are settings given when it was resumed."""
    from tinynas.data import DataOptions, open_data

    run = Run.open(run_dir)
    config = run.config
    settings = build({**config["settings"], **changes}, SearchSettings, source=run.config_file)
    options = build(config.get("data_options", {}), DataOptions, source=run.config_file)
    data = open_data(config["data"], seed=settings.seed, options=options)
    session = open_session(run, run.space, run.budget, data, settings, index=index)
    clock = run.read_json("clock")
    if clock is not None and clock["deadline"] is not None:
        # Wall-clock time is what processes and machines share.
        left = clock["deadline"] - time.time()
        session.timeout = clock["timeout"]
        session.deadline = time.monotonic() + left
        session.started = session.deadline + WRITE_UP - clock["timeout"]
    return Worker(session, on_trial).run()


class _View:
    """What the display is shown, computed from the run folder: it does not matter which process wrote it."""

    def __init__(self, run: Run, settings: SearchSettings, on_event: OnEvent, started: float) -> None:
        self.run, self.settings, self.on_event, self.started = run, settings, on_event, started
        self.session: Session | None = None
        self.records: dict[int, Trial] = {}
        self.counts, self.front, self.volume, self.workers = Counts(), 0, 0.0, 0
        self.best: float | None = None
        self._offset = 0

    def begin(self, session: Session) -> None:
        self.session = session
        deadline = None if session.deadline is None else time.time() + session.deadline - time.monotonic()
        self.run.write_json("clock", {"deadline": deadline, "timeout": session.timeout})

    def recorded(self, trial: Trial) -> None:
        """A trial of this process was written."""
        self.refresh()
        self.emit("trial", trial=trial)

    def refresh(self) -> list[Trial]:
        """Read what is new in trials.jsonl."""
        new: list[Trial] = []
        path = self.run.trials_file
        if path.exists():
            with path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    with contextlib.suppress(json.JSONDecodeError):
                        trial = Trial.from_json(json.loads(line))
                        self.records[trial.number] = trial
                        new.append(trial)
        if new and self.session is not None:
            self.counts = count(self.records.values())
            rows = front_rows(list(self.records.values()), self.session.goals)
            self.front = len(rows)
            self.best = max((row.accuracy for row in rows if row.accuracy is not None), default=None)
            self.volume = normalised_hypervolume(list(self.records.values()), self.session.goals, self.session.reference)
        return new

    def emit(self, kind: Any, message: str = "", trial: Trial | None = None) -> None:
        elapsed = time.monotonic() - self.started
        progress, eta = 0.0, None
        timeout, trials = self.settings.timeout, self.settings.trials
        if trials is not None:
            progress = min(1.0, self.counts.trained / trials)
            if progress > 0:
                eta = elapsed / progress * (1 - progress)
        if timeout is not None:
            progress = max(progress, min(1.0, elapsed / timeout))
            eta = min(timeout - elapsed, eta if eta is not None else math.inf)
        self.on_event(
            SearchEvent(
                kind,
                message,
                self.counts,
                self.front,
                self.volume,
                elapsed,
                None if eta is None else max(0.0, eta),
                progress,
                trial,
                self.best,
                self.workers,
            )
        )


def count(records: Any) -> Counts:
    """Records by what became of them."""
    states = [record.state for record in records]
    trained = sum(state in ("trained", "stopped") for state in states)
    return Counts(len(states), states.count("infeasible"), states.count("duplicate"), trained, states.count("failed"))


def front_rows(records: Sequence[Trial], goals: Sequence[Objective]) -> list[Trial]:
    """The records on the front of the objectives, cheapest first; duplicates, refusals and failures take no part."""
    known = [(record, [goal.of(record) for goal in goals]) for record in records if record.state in ("trained", "stopped")]
    usable = [(record, [float(v) for v in values if v is not None]) for record, values in known if None not in values]
    chosen = pareto.front([values for _, values in usable], [goal.maximize for goal in goals])
    return sorted((usable[i][0] for i in chosen), key=lambda record: (record.costs.get("macs") or 0, record.number))


def normalised_hypervolume(records: Sequence[Trial], goals: Sequence[Objective], reference: Sequence[tuple[float, float]]) -> float:
    """Share of the box between the worst and the best values that is dominated; costs on a log scale. 0..1."""
    points = []
    for record in records:
        values = [goal.of(record) for goal in goals]
        if record.state in ("trained", "stopped") and None not in values:
            points.append(unit_point([float(v) for v in values if v is not None], goals, reference))
    return pareto.hypervolume(points, [0.0] * len(goals), [True] * len(goals))


def unit_point(values: Sequence[float], goals: Sequence[Objective], reference: Sequence[tuple[float, float]]) -> list[float]:
    """Values as shares of the way from worst to best, at most 1."""
    point = []
    for value, goal, (worst, best) in zip(values, goals, reference, strict=True):
        x = value if goal.trained else math.log(max(value, 1e-9))
        point.append(min(1.0, (x - worst) / (best - worst)))
    return point


def _plan_text(session: Session) -> str:
    plan = session.plan
    images = f"{plan.epoch_images:,} images" if plan.epoch_images else "all images"
    how_many = f"{plan.networks} networks" if plan.networks is not None else f"{(session.timeout or 0) / 60:.3g} minutes"
    return f"{how_many}; rungs at {', '.join(map(str, plan.rungs))} epochs of {images}; 1 in {plan.eta} goes on"


def _finish(session: Session, view: _View, reason: str, interrupted: bool, started: float) -> SearchResult:
    run = session.run
    with session.study.deciding():
        if not interrupted:
            _mark_stopped(session)
    view.refresh()
    records = sorted(view.records.values(), key=lambda record: record.number)
    rows = [front_row(record) for record in front_rows(records, session.goals)]
    run.write_front(rows)
    run.write_trials_csv()
    volume = normalised_hypervolume(records, session.goals, session.reference)
    base = normalised_hypervolume([r for r in records if r.source == "baseline"], session.goals, session.reference)
    seconds = time.monotonic() - started
    run.write_json(
        "summary",
        {
            "trials": view.counts.to_json(),
            "hypervolume": volume,
            "baseline_hypervolume": base,
            "reason": reason,
            "seconds": round(seconds, 1),
            "interrupted": interrupted,
        },
    )
    notes = tuple((run.read_json("plan") or {}).get("notes", ()))
    view.emit("done", reason)
    return SearchResult(str(run.path), view.counts, volume, tuple(rows), reason, seconds, interrupted, base, notes)


def front_row(record: Trial) -> dict[str, Any]:
    """A row of ``tinynas pareto --json``."""
    return {
        "id": record.id,
        "accuracy": record.accuracy,
        **{name: record.costs.get(name) for name in COSTS},
        **{name: value for name, value in record.scores.items() if name == "int8_accuracy"},
        "epochs": record.epochs,
        "images": record.images,
        "number": record.number,
        "source": record.source,
    }


def _mark_stopped(session: Session) -> None:
    # Networks left behind at the first rung while others went on: their score is of that rung.
    if session.settings.strategy != "tinynas" or len(session.plan.rungs) == 1:
        return
    ledger = session.study.ledger()
    written = {trial.number: trial for trial in session.run.trials()}
    for net in sorted(ledger.nets.values(), key=lambda net: net.number):
        record = written.get(net.number)
        if net.rung == 0 and record is not None and record.state == "trained":
            text = f"left at rung 1 of {len(session.plan.rungs)}: others of its size did better"
            session.run.append_trial(replace(record, state="stopped", reason=text))


# worker processes -----------------------------------------------------------------------------------


def _supervise(session: Session, view: _View) -> str:
    """Keep ``workers`` processes training until they say that nothing is left to do."""
    settings = session.settings
    processes: list[subprocess.Popen[str] | None] = [None] * settings.workers
    deaths = 0
    finished: list[str | None] = [None] * settings.workers
    try:
        for index in range(settings.workers):
            processes[index] = _start(session, index)
        while True:
            running = 0
            for index, process in enumerate(processes):
                if process is None:
                    continue
                code = process.poll()
                if code is None:
                    running += 1
                    continue
                said, wrong = process.communicate()
                processes[index] = None
                if code == 0:
                    finished[index] = said.strip().splitlines()[-1] if said.strip() else "done"
                    continue
                if code == 2:
                    raise RunError(f"a worker stopped: {wrong.strip()}", "mend it, then continue with --resume; nothing finished is lost")
                deaths += 1
                view.emit("worker", f"worker {index + 1} died ({_exit_text(code)}); another takes its training over")
                if deaths > 3 * settings.workers + 5:
                    detail = wrong.strip().splitlines()[-1] if wrong.strip() else _exit_text(code)
                    raise RunError(f"workers keep dying: {detail}", "try --workers 1 to see why; nothing finished is lost")
                if session.deadline is None or session.deadline - time.monotonic() > 5:
                    processes[index] = _start(session, index)
                    running += 1
            view.workers = running
            for trial in view.refresh():
                view.emit("trial", trial=trial)
            if not running:
                return next((text for text in finished if text), "done")
            view.emit("tick")
            time.sleep(POLL)
    finally:
        view.workers = 0
        _stop([process for process in processes if process is not None])


def _start(session: Session, index: int) -> subprocess.Popen[str]:
    settings = session.settings
    changes = {"trials": settings.trials, "timeout": settings.timeout, "workers": settings.workers, "storage": settings.storage}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TINYNAS_WORKER": "1"}
    # stdin ties the worker to this process: when we die, however we die, it reads the end of the file and stops.
    return subprocess.Popen(
        [sys.executable, "-m", "tinynas.search", str(session.run.path.resolve()), str(index), json.dumps(changes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def _stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            process.terminate()
    end = time.monotonic() + 10
    for process in processes:
        try:
            process.communicate(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
