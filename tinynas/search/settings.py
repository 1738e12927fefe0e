"""What a search is told, what it says while it runs, and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticKnownError

from tinynas.adapt.candidates import Adaptation
from tinynas.config import Config, Seconds
from tinynas.recipe import Recipe
from tinynas.records import Trial
from tinynas.search.strategies import STRATEGIES


def _known(name: str) -> str:
    if name not in STRATEGIES:
        # The message, and the nearest name, that a Literal of the table's keys would get.
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, STRATEGIES))})
    return name


StrategyName = Annotated[str, AfterValidator(_known)]
BeliefName = Literal["regression", "process"]


class SearchSettings(Config):
    """How to search. The defaults were chosen by replaying on 220 networks trained on tin20 (docs/search.md)."""

    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = ("accuracy", "macs")
    """What to optimise; accuracy is added where no trained objective is named."""
    trials: Annotated[int, Field(ge=1)] | None = None
    """Networks to train; none: as many as the time allows."""
    timeout: Seconds | None = None
    """Seconds until the front is final; none: until all ``trials`` are trained, or 8 minutes where neither trials nor images are given."""
    images: Annotated[int, Field(ge=1)] | None = None
    """Training images after which no training is begun, those of larger networks counting as more; none: no such limit."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that train side by side, one thread each; 1 trains in this process, reproducibly."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""
    strategy: StrategyName = "tinynas"
    """``tinynas``, or a plain Optuna sampler that trains every proposal in full (for comparisons)."""
    belief: BeliefName = "process"
    """What predicts scores: ``process``, a Gaussian process that also sees single genes, or ``regression``, which does not."""
    choose_space: bool = True
    """Narrow the space to the resolutions and widths whose fitting networks have the most MACs (TinyNAS's first stage)."""
    pool: Annotated[int, Field(ge=8, le=1_000_000)] = 4000
    """Networks that fit, drawn before training."""
    baseline: Annotated[int, Field(ge=0)] = 2
    """Networks drawn uniformly among those that fit: the baseline beside the result."""
    start: Annotated[int, Field(ge=0)] = 2
    """Networks spread over the cost bands, before anything is modelled."""
    bands: Annotated[int, Field(ge=1, le=32)] = 4
    """Cost bands that are served alike."""
    deepen: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the training that goes into the front while networks are still started; less before 64 are, in proportion to them."""
    rungs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 4, 8)
    """Epochs at which a training may be left, ascending; under a time limit twice and four times the last as well."""
    epoch_images: Annotated[int, Field(ge=0)] = 0
    """Training images of an epoch, drawn anew each time; 0: chosen from the time, or 2,000 where there is no time limit."""
    explore: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of the time in which new networks are started."""
    inherit: bool = False
    """A mutated network starts from its parent's weights: common channels, and the common centre of kernels."""
    slices: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Share of the time (or of ``images``) in which one large network of the space is trained, of which all others begin with slices."""
    storage: str | None = None
    """Optuna storage URL, such as postgresql://user@host/db; none: the journal file in the run folder."""
    recipe: Recipe = Recipe.proxy()
    """Proxy training."""
    adapt: Adaptation = Adaptation()
    """What candidates learn on the board, and how, where an objective asks for it."""


@dataclass(frozen=True)
class Counts:
    """Proposals by what became of them; ``trained`` counts networks with a score."""

    proposed: int = 0
    infeasible: int = 0
    duplicate: int = 0
    trained: int = 0
    failed: int = 0

    def to_json(self) -> dict[str, int]:
        """The ``trials`` of ``search --json``."""
        return {
            "proposed": self.proposed,
            "infeasible": self.infeasible,
            "duplicate": self.duplicate,
            "trained": self.trained,
            "failed": self.failed,
        }


@dataclass(frozen=True)
class SearchEvent:
    """Something happened; carries the whole picture so that a display needs no memory."""

    kind: Literal["start", "space", "pool", "plan", "trial", "tick", "worker", "done"]
    """What happened: the space chosen, the pool drawn, a trial recorded, time passed, a worker came or went."""
    message: str = ""
    """For people."""
    counts: Counts = Counts()
    front_size: int = 0
    hypervolume: float = 0.0
    """Share of the box between the worst and the best values that the front covers, 0..1."""
    elapsed: float = 0.0
    """Seconds since the search began."""
    eta: float | None = None
    """Seconds to go, where it can be said."""
    progress: float = 0.0
    """0..1."""
    trial: Trial | None = None
    best_accuracy: float | None = None
    workers: int = 0
    """Processes training now."""
    cost: str = "macs"
    """The cost that ``points`` are over."""
    points: tuple[tuple[float, float, bool], ...] = ()
    """(cost, accuracy seen, whether on the front) of the networks trained so far."""
    trained_before: int = 0
    """Networks that had been trained when a search that is resumed was resumed."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found."""

    run: str
    counts: Counts
    hypervolume: float
    front: tuple[dict[str, Any], ...]
    """Rows of ``pareto --json``: id, accuracy, the costs, epochs; cheapest first."""
    reason: str
    """Why it ended."""
    seconds: float
    """How long it took, with the trainings of before where it was resumed."""
    interrupted: bool = False
    baseline_hypervolume: float = 0.0
    """The same measure of the uniform-feasible baseline alone."""
    notes: tuple[str, ...] = field(default_factory=tuple)
    """What was decided on the way: the space, the pool, the plan."""
