"""Once for a run: the space chosen, the pool drawn, the plan made and written down. Then any process can open it."""

from __future__ import annotations

import io
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tinynas.adapt.candidates import Candidates, open_new
from tinynas.arch import Arch, classes_for
from tinynas.budget import Budget
from tinynas.cost import estimate
from tinynas.cost.quantities import QUANTITIES
from tinynas.data.subsets import FEWEST, subset_report, worst_accuracy
from tinynas.errors import DataError, RunError, counted
from tinynas.files import cores, write_atomic
from tinynas.graph import Graph, lower
from tinynas.model import Network, load_weights
from tinynas.objectives import MEAN_AVERAGE_PRECISION, Objective, counted_score, objectives, traded
from tinynas.recipe import LEAST_IMAGES, Recipe
from tinynas.records import ADAPTED, WORST_SUBSET, JsonRecord, Trial
from tinynas.runs import MISSING, Run
from tinynas.search.clock import Clock
from tinynas.search.donor import donor_of, train_donor
from tinynas.search.feasible import COSTS, Feasible, Pool, strata
from tinynas.search.pool import draw_pool
from tinynas.search.schedule import RAMP, Plan, share_of_front
from tinynas.search.settings import SearchSettings
from tinynas.search.spaces import SpaceTable, largest_size, rank_spaces
from tinynas.search.strategies import STRATEGIES, Strategy
from tinynas.search.study import Study
from tinynas.search.training import Trainings, seconds_per_image
from tinynas.space import Genotype, Space, input_text
from tinynas.train.keeping import SEEN, ask, settled

if TYPE_CHECKING:
    from tinynas.data import DataSet

#: What is said on the way, and of what.
SaidOf = Literal["space", "pool", "plan"]
Say = Callable[[SaidOf, str], None]

#: A network whose first rung takes more than this share of all training time is not started.
MAX_FIRST_RUNG = 0.04
#: Networks that the time should allow to start; sets the images of an epoch.
STARTED = 40
MIN_EPOCH_IMAGES = 512
#: Training images of an epoch where no time limit decides: the tabular benchmark's, or all where there are fewer.
EPOCH_IMAGES = 2000
#: Epochs of the donor where the time ends its training.
MAX_DONOR_EPOCHS = 100_000
#: Of what a search trains first, and of its time, what may go into asking whether augmentation keeps labels; and the least seconds.
ASKING, ASKING_TIME, LEAST_ASKING = 0.2, 0.05, 5.0
#: Seconds between two looks at what others did.
POLL = 0.2
#: Costs for which pools of older runs have no column.
LATER = frozenset({"program_bytes", "stack_bytes", "update_sram_bytes"})


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


@dataclass(frozen=True)
class Bench:
    """Where networks are trained: how many at once, and how fast."""

    slots: int
    seconds_per_image: Callable[[Arch], float]
    """Measured training seconds of one image of a network there."""


@dataclass(frozen=True)
class RunPlan(JsonRecord):
    """``plan.json``: what a run decided before it began, so that every worker and every resumption sees the same."""

    rungs: tuple[int, ...]
    epoch_images: int
    edges: tuple[float, ...]
    deepen: float
    explore: float
    """These five as in :class:`Plan`."""
    subspaces: tuple[tuple[int, ...], ...]
    """Choices of the space's ``size_genes`` (of images: resolution) and width_mult that are searched, by index; empty: all."""
    max_macs: float | None
    """What can be trained in the time; None: anything."""
    classes: int
    speed: tuple[float, float]
    """``Speed.fixed`` and ``per_mac``."""
    reference: tuple[tuple[float, float], ...]
    """For each objective (worst, best) values of the hypervolume's box."""
    notes: tuple[str, ...]
    """What was decided, for people."""
    donor: tuple[int, ...] = ()
    """The genotype of the network that the others begin with slices of; empty: they begin as drawn."""
    donor_images: float = 0.0
    """Images that its training counts as (:meth:`Session.share_of_images`)."""
    ramp: int = 0
    """As in :class:`Plan`; runs that were begun before 0.10 have none."""
    traded: bool = True
    """As in :class:`Plan`; runs that were begun before 0.12 search a front, whatever their objectives."""

    counted: str = "accuracy"
    """As in :class:`Plan`; runs that were begun before 0.14 go by accuracy, whatever their objectives."""

    def schedule(self, networks: int | None) -> Plan:
        """The schedule's plan for so many networks (None: as many as the time allows), which a resumption may change."""
        return Plan(self.rungs, self.epoch_images, self.edges, self.deepen, self.ramp, networks, self.explore, self.counted, self.traded)

    def feasible(self, space: Space, budget: Budget) -> Feasible:
        """What fits, within what is searched."""
        return Feasible(space, self.classes, budget, subspaces=self.subspaces, max_macs=self.max_macs)


@dataclass(frozen=True)
class Session:
    """One process's view of a run: everything that deciding and training need."""

    run: Run
    space: Space
    budget: Budget
    settings: SearchSettings
    strategy: Strategy
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
    clock: Clock
    donor_images: float = 0.0

    def share_of_images(self, trials: Iterable[Trial]) -> float:
        """How much of ``settings.images`` was trained, 0 and up; 0 where they are no limit. An image counts as the time it takes in
        training, by the plan's speed, one of a network of the pool's mean MACs as 1."""
        if self.settings.images is None:
            return 0.0
        used = sum(trial.images * image_weight(self.speed, self.pool, float(trial.costs["macs"] or 0.0)) for trial in trials)
        return (self.donor_images + used) / self.settings.images

    @property
    def cost(self) -> str:
        """The cost that bands and fronts of the schedule go by."""
        return cost_of(self.goals)

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1.0 / self.classes


def cost_of(goals: Sequence[Objective]) -> str:
    """The cost name of the first objective that is a cost; MACs where none is."""
    return next((goal.cost for goal in goals if goal.cost is not None), "macs")


def bands_of(settings: SearchSettings) -> int:
    """Cost bands that are served alike: one where no cost is traded, because the best of what fits is in no cheaper one."""
    return settings.bands if traded(objectives(settings.objectives)) else 1


def image_weight(speed: Speed, pool: Pool, macs: float) -> float:
    """Training time of an image of a network of so many MACs against that of the pool's mean."""
    return speed.of(macs) / speed.of(float(pool.costs["macs"].mean()))


def prepare(
    run: Run,
    space: Space,
    budget: Budget,
    data: DataSet,
    settings: SearchSettings,
    say: Say,
    clock: Clock | None = None,
    bench: Bench | None = None,
) -> Feasible:
    """Measure, choose, draw and plan, once for a run, and write it to its folder; what fits, within what is searched.

    With ``settings.slices`` the donor is trained too, here, until ``clock`` has used their share of its time. Networks will be trained at
    ``bench`` (default: in ``settings.workers`` processes of this machine).

    Raises BudgetError where nothing fits.
    """
    document = run.read_json("plan")
    if document is not None:
        return _stored_plan(run, document, space, settings).feasible(space, budget)
    classes, goals, strategy = classes_for(data.labels), objectives(settings.objectives, budget), STRATEGIES[settings.strategy]
    notes: list[str] = []

    def note(kind: SaidOf, text: str) -> None:
        notes.append(text)
        say(kind, text)

    if choice := run.config.get("space_choice"):
        note("space", choice)
    candidates = candidates_of(run, budget, data, settings, goals)
    if candidates is not None:
        note("plan", candidates.words())
    settle_augment(run, data, settings, note)
    rng = np.random.default_rng((settings.seed, 0x9001))
    # What the time allows is asked where it alone ends the search.
    if bench is None:
        trainings = Trainings(data, settings.recipe, settings.seed, run.state_dir())
        bench = Bench(min(settings.workers, cores()), partial(seconds_per_image, trainings))
    capacity = _capacity(settings, bench.slots) if strategy.narrows else None
    speed, learning, max_macs = Speed(), Speed(0.0, 0.0), None
    if capacity is not None:
        say("plan", "measuring the training speed of this machine")
        speed = measure_speed(Feasible(space, classes, budget), bench, rng)
        max_macs = max_trainable_macs(speed, capacity, settings)
        if candidates is not None:
            learning = measure_learning(Feasible(space, classes, budget), candidates, rng)
    subspaces: tuple[tuple[int, ...], ...] = ()
    if settings.choose_space and strategy.narrows and len(space.sizes) * len(space.width_mult) > 1:
        table = choose_subspaces(space, budget, data, settings, max_macs)
        subspaces = tuple(row.genes for row in table.chosen)
        run.write_json("spaces", table.to_json())
        note("space", table.explain())
    feasible = Feasible(space, classes, budget, subspaces=subspaces, max_macs=max_macs)
    pool = draw_pool(feasible, settings.pool, rng)
    note("pool", _pool_text(pool, subspaces))
    if max_macs is not None and settings.timeout is not None:
        text = (
            f"Networks above {max_macs / 1e6:.1f} M MACs are left out: in {counted(settings.timeout / 60, 'minute')} on this machine they "
            "could hardly be trained. A longer --timeout lets them in."
        )
        note("plan", text)
    _save_pool(run, pool)
    rungs = strategy.rungs(settings.rungs, timed=settings.trials is None)
    training = None if capacity is None else capacity * (1.0 - settings.slices)
    epoch_images = plan_epochs(settings, pool, speed, training, len(data.members["train"]), learning)
    donor, donor_images = _donate(run, feasible, pool, speed, data, settings, say, note, clock) if settings.slices else ((), 0.0)
    plan = RunPlan(
        rungs=rungs,
        epoch_images=epoch_images,
        edges=strata(pool.costs[cost_of(goals)], bands_of(settings), log=QUANTITIES[cost_of(goals)].log),
        deepen=settings.deepen,
        ramp=RAMP,
        traded=traded(goals),
        counted=counted_score(goals),
        # What trains the donor is no time for new networks, and no less of the rest is.
        explore=settings.slices + (1.0 - settings.slices) * strategy.explore(settings.explore),
        subspaces=subspaces,
        max_macs=max_macs,
        classes=classes,
        speed=(speed.fixed, speed.per_mac),
        reference=reference(goals, pool, classes),
        notes=tuple(notes),
        donor=donor,
        donor_images=donor_images,
    )
    run.write_json("plan", plan.to_json())
    return feasible


def _donate(
    run: Run,
    feasible: Feasible,
    pool: Pool,
    speed: Speed,
    data: DataSet,
    settings: SearchSettings,
    say: Say,
    note: Say,
    clock: Clock | None,
) -> tuple[Genotype, float]:
    """Train the network that the others begin with slices of; its genotype (empty: too little time) and what its images count as."""
    # Chosen once: where this was killed, the machine's speed, and what follows from it, may be measured differently now.
    kept = run.read_json("donor")
    genotype = donor_of(feasible.space, feasible.subspaces) if kept is None else tuple(kept["genotype"])
    if not feasible.space.holds(genotype):
        raise run.damaged(run.path / "donor.json", "it is not of the run's space")
    if kept is None:
        run.write_json("donor", {"genotype": list(genotype)})
    arch = feasible.space.decode(genotype, feasible.classes)
    macs = float(estimate(lower(arch)).macs)
    weight = image_weight(speed, pool, macs)
    images = _untimed_epoch(settings, len(data.members["train"]))
    recipe = settings.recipe.model_copy(update={"epoch_images": images})
    until, deadline = recipe.epochs, None
    if settings.images is not None or settings.trials is not None:
        # Of a number of networks as many images as they take to their first rung, and the share that deepens the front.
        networks = settings.trials or 0
        whole = settings.images or networks * settings.rungs[0] * images / (1.0 - share_of_front(settings.deepen, RAMP, networks))
        until = max(1, round(settings.slices * whole / weight / images))
    elif clock is not None and clock.timeout is not None:
        until, deadline = MAX_DONOR_EPOCHS, clock.started + settings.slices * clock.timeout
    trainings = Trainings(data, recipe.model_copy(update={"epochs": max(recipe.epochs, until)}), settings.seed, run.state_dir())
    name = f"a network of {macs / 1e6:.1f} M MACs, the largest of the space at {input_text(arch.input)}"
    say("plan", f"training {name}")
    outcome = train_donor(trainings, arch, donor_file(run), until_epoch=until, deadline=deadline)
    if not outcome.scores:
        note("plan", f"Networks begin as drawn: of {name}, nothing can be cut ({outcome.failure}).")
        return (), outcome.images * weight
    counted_as = outcome.images * weight
    note(
        "plan",
        f"Networks begin with slices of {name}, trained for {counted(outcome.epochs, 'epoch')} ({outcome.scores['accuracy']:.1%} on "
        f"validation); its {outcome.images:,} images count as {counted_as:,.0f}.",
    )
    return genotype, counted_as


def donor_file(run: Run) -> Path:
    """The weights that a search's networks begin with slices of."""
    return run.state_dir() / "donor.weights.safetensors"


def _timed(settings: SearchSettings) -> bool:
    return settings.timeout is not None and settings.trials is None


def _capacity(settings: SearchSettings, slots: int) -> float | None:
    # Core seconds of training; None where the time alone does not end the search.
    return settings.timeout * slots if settings.timeout is not None and _timed(settings) else None


def settle_augment(run: Run, data: DataSet, settings: SearchSettings, note: Say) -> None:
    """Ask the data which changes keep labels, where the recipe leaves that open and the search is long enough, and write it down."""
    seen, seconds = SEEN, None
    if settings.trials is not None:
        images = _untimed_epoch(settings, len(data.members["train"]))
        seen = int(ASKING * settings.trials * settings.rungs[0] * images)
    if settings.timeout is not None:
        seconds = ASKING_TIME * settings.timeout
    if seconds is not None and seconds < LEAST_ASKING:
        return
    before = run.label_answers()
    answers, lines = ask(data, settings.recipe.augment, before, seed=settings.seed, seen=seen, seconds=seconds)
    if answers != before and answers.answers:
        run.write_label_answers(answers)
    for line in lines:
        note("plan", line)


def settled_recipe(run: Run, data: DataSet, recipe: Recipe) -> Recipe:
    """``recipe`` in numbers, with what is known of the run's data."""
    answers = run.label_answers()
    known = answers.known() if answers is not None and answers.data == data.fingerprint else []
    return recipe.model_copy(update={"augment": settled(recipe.augment, known)})


def measure_speed(feasible: Feasible, bench: Bench, rng: np.random.Generator) -> Speed:
    """The training speed of ``bench``, through a network of middling MACs that fits."""
    arch = _middling(feasible, rng)
    return Speed().scaled(estimate(lower(arch), feasible.budget.runtime).macs, bench.seconds_per_image(arch))


def measure_learning(feasible: Feasible, candidates: Candidates, rng: np.random.Generator) -> Speed:
    """Seconds that networks learn on the board, through one of middling MACs that fits, as it begins."""
    arch = _middling(feasible, rng)
    graph = lower(arch)
    macs = float(estimate(graph).macs)
    started = time.monotonic()
    candidates.scores(Network(graph, seed=0).eval(), arch, 0, macs=macs, deadline=None)
    return Speed().scaled(macs, time.monotonic() - started)


def _middling(feasible: Feasible, rng: np.random.Generator) -> Arch:
    probe = draw_pool(feasible, 64, rng)
    middle = probe.genotypes[int(np.argsort(probe.costs["macs"])[len(probe) // 2])]
    return feasible.space.decode([int(i) for i in middle], feasible.classes)


def candidates_of(run: Run, budget: Budget, data: DataSet, settings: SearchSettings, goals: Sequence[Objective]) -> Candidates | None:
    """What says how well networks learn on the board; None where no objective asks. Raises UserError, DataError, and RunError where the
    data are others than those that the run was begun with."""
    if all(goal.needs != ADAPTED for goal in goals):
        return None
    new = open_new(settings.adapt, data, seed=settings.seed)
    if run.env.get("adapt", new.fingerprint) != new.fingerprint:
        raise RunError(f"{new.name}: these are not the images that {run.path} had its networks learn", "restore them, or start a new run")
    return Candidates(settings.adapt, budget, new, data, settings.seed, run.state_dir() / "nets")


def choose_subspaces(space: Space, budget: Budget, data: DataSet, settings: SearchSettings, max_macs: float | None) -> SpaceTable:
    """The ranking of sub-spaces; its ``chosen`` rows are searched. Nothing much larger than the images, or above ``max_macs``."""
    return rank_spaces(
        space,
        budget,
        classes=classes_for(data.labels),
        seed=settings.seed,
        bands=bands_of(settings),
        max_resolution=largest_size(space, data.native_size),
        max_macs=max_macs,
    )


def plan_epochs(
    settings: SearchSettings, pool: Pool, speed: Speed, capacity: float | None, inputs: int, learning: Speed | None = None
) -> int:
    """Images of an epoch: as set; else such that ``capacity`` core seconds start about ``STARTED`` networks of the pool, each of which
    learns on the board for as long as ``learning`` says.

    It may be several passes over ``inputs`` training images, where they are few, but the last rung is no longer than a full training of
    so few then is (:data:`tinynas.recipe.LEAST_IMAGES`).
    """
    if settings.epoch_images or capacity is None:
        return _untimed_epoch(settings, inputs)
    spread = _spread_sample(pool, bands_of(settings))
    mean = float(np.mean([speed.of(macs) for macs in spread]))
    starting = capacity * settings.explore * (1 - share_of_front(settings.deepen, RAMP, STARTED))
    each = starting / STARTED - (0.0 if learning is None else float(np.mean([learning.of(macs) for macs in spread])))
    planned = int(each / (mean * settings.rungs[0]))
    if settings.images is not None:
        # Where images are counted as well, so that they start as many.
        starting = settings.images * (1.0 - settings.slices) * settings.explore * (1 - share_of_front(settings.deepen, RAMP, STARTED))
        planned = min(planned, int(starting / STARTED / settings.rungs[0]))
    return max(MIN_EPOCH_IMAGES, min(planned, max(inputs, LEAST_IMAGES // settings.rungs[-1])))


def _untimed_epoch(settings: SearchSettings, inputs: int) -> int:
    return settings.epoch_images or min(EPOCH_IMAGES, inputs)


def max_trainable_macs(speed: Speed, capacity: float, settings: SearchSettings) -> float:
    """MACs above which a first rung takes more than its share of ``capacity`` (core seconds); of 2,048 images an epoch where they are
    not set, because they follow from the networks that this leaves."""
    seconds = MAX_FIRST_RUNG * capacity / settings.rungs[0] / max(MIN_EPOCH_IMAGES, settings.epoch_images or 2048)
    return max((seconds - speed.fixed) / speed.per_mac, 2e6)


def _spread_sample(pool: Pool, bands: int) -> list[float]:
    # MACs as the search will meet them: evenly over the bands.
    macs = np.sort(pool.costs["macs"])
    edges = strata(macs, bands)
    parts = np.split(macs, np.searchsorted(macs, edges)) if edges else [macs]
    return [float(part.mean()) for part in parts if len(part)]


def _pool_text(pool: Pool, subspaces: Sequence[tuple[int, ...]]) -> str:
    macs = pool.costs["macs"] / 1e6
    return (
        f"{counted(len(pool), 'network')} that fit drawn ({pool.share:.2%} of the {'chosen sub-spaces fit' if subspaces else 'space fits'}"
        f"{', counted exactly' if pool.counted else ''}), {macs.min():.2f}-{macs.max():.1f} M MACs."
    )


def reference(goals: Sequence[Objective], pool: Pool, classes: int) -> tuple[tuple[float, float], ...]:
    """For each objective (worst, best) values of the hypervolume's box: of costs the pool's, on their own scale; of shares chance and 1."""
    box = []
    for goal in goals:
        if goal.cost is not None:
            values, scaled = pool.costs[goal.cost], QUANTITIES[goal.cost].scaled
            box.append((scaled(float(values.max()) * 1.05), scaled(float(values.min()) * 0.95)))
        else:
            guessed = goal.unit == "share" and goal.name != MEAN_AVERAGE_PRECISION  # of which chance is the share of positives
            box.append((1.0 / classes if guessed else 0.0, 1.0))
    return tuple(box)


def _save_pool(run: Run, pool: Pool) -> None:
    memory = io.BytesIO()
    facts = np.array([pool.drawn, pool.share, float(pool.counted)])
    columns: dict[str, Any] = {f"cost_{name}": pool.costs[name] for name in COSTS}
    np.savez_compressed(memory, genotypes=pool.genotypes.astype(np.int16), facts=facts, **columns)
    write_atomic(run.state_dir() / "pool.npz", memory.getvalue())


def _load_pool(run: Run, space: Space) -> Pool:
    path = run.state_dir() / "pool.npz"
    try:
        # From memory: a file that is none would stay open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array, not a pool")
            drawn, share, counted = map(float, file["facts"])
            genotypes = file["genotypes"].astype(np.int64)
            unknown = np.full(len(genotypes), np.nan)
            # Older runs have no column for the flash of model and code (0.3), and for the stack.
            costs = {
                name: unknown if name in LATER and f"cost_{name}" not in file else file[f"cost_{name}"].astype(np.float64) for name in COSTS
            }
    except FileNotFoundError:
        raise run.damaged(path, MISSING) from None
    except (OSError, ValueError, LookupError, TypeError, EOFError, OverflowError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise run.damaged(path, error or type(error).__name__) from None
    if genotypes.ndim != 2 or not len(genotypes) or any(values.shape != genotypes.shape[:1] for values in costs.values()):
        raise run.damaged(path, "its networks and their costs are not as many")
    if not all(map(space.holds, genotypes.tolist())):
        raise run.damaged(path, "its networks are not of the run's space")
    return Pool(genotypes, costs, int(drawn), share, bool(counted))


def _stored_plan(run: Run, document: Any, space: Space, settings: SearchSettings) -> RunPlan:
    """``plan.json`` as it was written. Raises RunError where it cannot have been."""
    path = run.path / "plan.json"
    try:
        plan = RunPlan.from_json(document)
    except RunError as error:
        raise run.damaged(path, error.message) from None
    searched = [space.genes[space.gene_index[name]].choices for name in (*space.size_genes, "width_mult")]
    faults = {
        "rungs do not rise from 1 on": not plan.rungs or plan.rungs[0] < 1 or list(plan.rungs) != sorted(set(plan.rungs)),
        "no images an epoch": plan.epoch_images < 0,
        "edges do not rise": list(plan.edges) != sorted(plan.edges),
        "shares that are none": not (0 <= plan.deepen < 1 and 0 < plan.explore <= 1 and plan.ramp >= 0),
        "sub-spaces that the space lacks": not all(
            len(one) == len(searched) and all(0 <= index < len(choices) for index, choices in zip(one, searched, strict=True))
            for one in plan.subspaces
        ),
        "fewer than two classes": plan.classes < 2,
        "a donor that is not of its space": bool(plan.donor) and not space.holds(plan.donor),
        "a speed that is none": min(plan.speed) < 0 or sum(plan.speed) <= 0,
        "another box than its objectives span": len(plan.reference) != len(objectives(settings.objectives)),
    }
    if wrong := [what for what, is_so in faults.items() if is_so]:
        raise run.damaged(path, f"it has {wrong[0]}")
    return plan


def _stored_donor(run: Run, graph: Graph) -> Network:
    path = donor_file(run)
    if not path.exists():
        raise run.damaged(path, MISSING)
    try:
        return load_weights(graph, path)
    except RunError as error:
        raise run.damaged(path, error.message) from None


def check_goals(names: Sequence[str], data: DataSet) -> None:
    """Raise DataError where ``data`` cannot tell one of the objectives ``names``: before a run begins."""
    if MEAN_AVERAGE_PRECISION in names and not data.several:
        raise DataError(
            f"{data.name}: the objective {MEAN_AVERAGE_PRECISION} is for several labels at once, and here each {data.signal.kind} has one",
            "use accuracy, or say --set data.multilabel=true where a table gives several",
        )
    if data.several and any(goal.needs == ADAPTED for goal in objectives(names)):
        raise DataError(
            f"{data.name}: the objective {ADAPTED} is of one class for each {data.signal.kind}, and here there may be several",
            f"use {MEAN_AVERAGE_PRECISION}",
        )
    if "wake-vision-score" in names and data.several:
        raise DataError(
            f"{data.name}: the objective wake-vision-score needs an accuracy, and here there may be several labels at once",
            f"use {MEAN_AVERAGE_PRECISION}",
        )
    if not any(goal.needs == WORST_SUBSET for goal in objectives(names)):
        return
    report = subset_report(data, {"val": data.targets[data.rows("val")]})  # as if all were right: the parts are what matters
    if worst_accuracy(report) is None:
        parts = ", ".join(f"{name} {entry['n']}" for name, entry in report.items()) or "none"
        raise DataError(
            f"{data.name}: the objective {WORST_SUBSET} needs a part of at least {FEWEST} validation images; their parts: {parts}",
            "give more validation images (data.val_share), coarser attributes, or another objective",
        )


def open_session(
    run: Run,
    space: Space,
    budget: Budget,
    data: DataSet,
    settings: SearchSettings,
    clock: Clock | None = None,
    *,
    feasible: Feasible | None = None,
    index: int = 0,
) -> Session:
    """Open a prepared run; ``feasible`` is what :func:`prepare` returned, where this process prepared it.

    Without a ``clock`` nothing ends it but its trials. Raises RunError where the run was not prepared.
    """
    document = run.read_json("plan")
    if document is None:
        raise RunError(f"{run.path}: has no plan yet", "start it with: tinynas search")
    stored = _stored_plan(run, document, space, settings)
    goals, strategy = objectives(settings.objectives), STRATEGIES[settings.strategy]
    plan = stored.schedule(settings.trials)
    recipe = settled_recipe(run, data, settings.recipe).model_copy(
        update={"epoch_images": plan.epoch_images or settings.recipe.epoch_images, "epochs": max(settings.recipe.epochs, plan.rungs[-1])}
    )
    # Samplers of processes that work side by side draw differently.
    study = Study.open(run, space, goals, settings.storage, strategy.sampler(settings.seed + 7919 * index))
    donor = _stored_donor(run, lower(space.decode(stored.donor, stored.classes))) if stored.donor else None
    scored = {goal.needs for goal in goals if goal.needs is not None}
    return Session(
        run,
        space,
        budget,
        settings,
        strategy,
        goals,
        feasible or stored.feasible(space, budget),
        _load_pool(run, space),
        plan,
        study,
        Trainings(
            data,
            recipe,
            settings.seed,
            run.state_dir() / "nets",
            scored=scored,
            donor=donor,
            candidates=candidates_of(run, budget, data, settings, goals),
        ),
        stored.classes,
        Speed(*stored.speed),
        stored.reference,
        clock or Clock(time.monotonic()),
        stored.donor_images,
    )
