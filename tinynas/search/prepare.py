"""Once for a run: the space chosen, the pool drawn, the plan made and written down. Then any process can open it."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from tinynas.budget import Budget
from tinynas.cost import estimate
from tinynas.errors import RunError
from tinynas.graph import lower
from tinynas.objectives import Objective, objectives
from tinynas.runs import Run, cores, write_atomic
from tinynas.search.feasible import COSTS, Feasible, Pool, strata
from tinynas.search.pool import draw_pool
from tinynas.search.proposals import tpe_sampler
from tinynas.search.schedule import Plan
from tinynas.search.settings import SearchSettings
from tinynas.search.spaces import largest_side, rank_spaces
from tinynas.search.study import Study
from tinynas.search.training import Trainings, seconds_per_image
from tinynas.space import Space

if TYPE_CHECKING:
    from tinynas.data import DataSet

#: A network whose first rung takes more than this share of all training time is not started.
MAX_FIRST_RUNG = 0.04
#: Networks that the time should allow to start; sets the images of an epoch.
STARTED = 32
MIN_EPOCH_IMAGES = 512
#: Training images of an epoch where no time limit decides: the tabular benchmark's.
EPOCH_IMAGES = 2000
#: Seconds between two looks at what others did.
POLL = 0.2


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


def prepare(run: Run, space: Space, budget: Budget, data: DataSet, settings: SearchSettings, say: Callable[[str, str], None]) -> None:
    """Space choice, pool and plan, once for a run; written to its folder, so that every worker sees the same."""
    if run.read_json("plan") is not None:
        return
    classes = max(2, len(data.labels))
    notes: list[str] = []
    if choice := run.config.get("space_choice"):
        notes.append(choice)
        say("space", choice)
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
        table = rank_spaces(
            space,
            budget,
            classes=classes,
            seed=settings.seed,
            bands=settings.bands,
            max_resolution=largest_side(space, min(data.native_size)),
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
        images = max(MIN_EPOCH_IMAGES, int(capacity * settings.explore * (1 - settings.deepen) / (STARTED * mean * settings.rungs[0])))
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
        deepen=settings.deepen,
        networks=settings.trials,
        explore=settings.explore if settings.strategy == "tinynas" else 1.0,
    )
    run.write_json(
        "plan",
        {
            "rungs": list(plan.rungs),
            "epoch_images": plan.epoch_images,
            "edges": list(plan.edges),
            "deepen": plan.deepen,
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


def open_session(run: Run, space: Space, budget: Budget, data: DataSet, settings: SearchSettings, *, index: int = 0) -> Session:
    """Open a prepared run. Raises RunError where it was not prepared."""
    document = run.read_json("plan")
    if document is None:
        raise RunError(f"{run.path}: has no plan yet", "start it with: tinynas search")
    goals = objectives(settings.objectives)
    plan = Plan(
        rungs=tuple(document["rungs"]),
        epoch_images=document["epoch_images"],
        edges=tuple(document["edges"]),
        deepen=document["deepen"],
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
