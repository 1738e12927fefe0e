"""Feasible first: which networks of a space fit a budget, drawn before anything is trained.

Genotypes are rows of an integer array (N, genes), canonical (genes that do not act are 0). All is vectorised
through the batch estimator; nothing here knows Optuna or training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.budget import Budget
from tinynas.cost.anatomy import Figures
from tinynas.cost.batch import BatchEstimator
from tinynas.cost.quantities import QUANTITIES
from tinynas.errors import BudgetError
from tinynas.inputs import KIND_CHANNELS
from tinynas.space import Genotype, Space

Genotypes = NDArray[np.int64]
Floats = NDArray[np.float64]

COSTS = tuple(QUANTITIES)
#: What a search looks at in a network beside its costs.
LOOKS = Figures._fields
CHUNK = 4096


@dataclass(frozen=True)
class Pool:
    """Networks that fit: genotypes (N, genes) and their costs (N,) by name; how they were found."""

    genotypes: Genotypes
    costs: dict[str, Floats]
    drawn: int
    """Networks looked at to find these."""
    share: float
    """Share of the space that fits: measured, or counted where it is rare."""
    counted: bool = False

    def __len__(self) -> int:
        return len(self.genotypes)

    def take(self, rows: Any) -> Pool:
        """The pool of these rows (index array or mask)."""
        return Pool(self.genotypes[rows], {name: values[rows] for name, values in self.costs.items()}, self.drawn, self.share, self.counted)


class Feasible:
    """What fits ``budget`` among the networks of ``space`` with ``classes`` outputs.

    ``subspaces`` narrows it to these choices of :attr:`tinynas.space.Space.size_genes` and width_mult, by index; ``max_macs`` to what can
    be trained.
    """

    def __init__(
        self, space: Space, classes: int, budget: Budget, *, subspaces: Sequence[tuple[int, ...]] = (), max_macs: float | None = None
    ) -> None:
        self.space, self.classes, self.budget, self.max_macs = space, classes, budget, max_macs
        self.subspaces = tuple(subspaces)
        #: columns of the genes that a sub-space chooses
        self.choice = [space.gene_index[name] for name in (*space.size_genes, "width_mult")]
        self._subspaces = np.array(subspaces, dtype=np.int64).reshape(-1, len(self.choice))
        self._estimator = BatchEstimator(space, classes, budget.runtime, budget.core, budget.timed_mhz, budget.timing, budget.update)
        self.tables = self._estimator.tables
        self.sizes = np.array([len(gene.choices) for gene in space.genes])
        self._blocks = np.array([gene.block for gene in space.genes])
        stages = np.array([gene.stage for gene in space.genes])
        self._depth_gene = np.array([space.gene_index[f"s{s}.depth"] if s >= 0 else 0 for s in stages])
        self._depths = np.zeros((len(space.genes), int(self.sizes.max())), dtype=np.int64)
        for index, gene in enumerate(space.genes):
            if gene.name.endswith(".depth"):
                self._depths[index, : len(gene.choices)] = gene.choices
        #: (gene, the gene that it acts only with, with which choices of that)
        self._only_with: list[tuple[int, int, NDArray[np.bool_]]] = []
        for index, gene in enumerate(space.genes):
            if gene.only_with is not None:
                other = space.gene_index[gene.only_with]
                self._only_with.append((index, other, np.array([gene.acts_with(choice) for choice in space.genes[other].choices])))

    @property
    def size(self) -> int:
        """Networks searched: of the space, or of its sub-spaces, which are equally large."""
        whole = self.space.size
        return whole * len(self.subspaces) // (len(self.space.sizes) * len(self.space.width_mult)) if self.subspaces else whole

    # genotypes --------------------------------------------------------------------------------------

    def canonical(self, genotypes: Genotypes) -> Genotypes:
        """Rows with every gene that does not act set to 0."""
        depth = self._depths[self._depth_gene, genotypes[:, self._depth_gene]]
        rows = np.where((self._blocks < 0) | (self._blocks < depth), genotypes, 0)
        for gene, other, something in self._only_with:
            rows[:, gene] *= something[rows[:, other]]
        return rows

    def draw(self, count: int, rng: np.random.Generator) -> Genotypes:
        """``count`` canonical genotypes, every choice that acts drawn evenly (as :meth:`Space.draw`)."""
        rows = rng.integers(0, self.sizes, size=(count, len(self.sizes)))
        if len(self._subspaces):
            rows[:, self.choice] = self._subspaces[rng.integers(len(self._subspaces), size=count)]
        return self.canonical(rows)

    def inside(self, genotypes: Genotypes) -> Genotypes:
        """Rows with the input's size and the width moved to the nearest sub-space searched."""
        if not len(self._subspaces):
            return genotypes
        rows = genotypes.copy()
        steps = np.maximum(1, self.sizes[self.choice] - 1)
        away = np.abs(rows[:, None, self.choice] - self._subspaces[None]) / steps
        rows[:, self.choice] = self._subspaces[away.sum(axis=2).argmin(axis=1)]
        return rows

    def costs(self, genotypes: Genotypes) -> dict[str, Floats]:
        """Costs by name, each (N,), latency is NaN where it is not known; and what is looked at beside them, of :data:`LOOKS`."""
        parts = [self._estimator.estimate(genotypes[i : i + CHUNK]) for i in range(0, len(genotypes), CHUNK)]
        empty = [np.zeros(0)]
        found = {name: np.concatenate([part.column(name) for part in parts] or empty) for name in COSTS}
        return found | {name: np.concatenate([getattr(part.anatomy, name) for part in parts] or empty) for name in LOOKS}

    def excess(self, costs: Mapping[str, Floats]) -> Floats:
        """(N, limits) share over each limit of the budget; unknown costs are infinitely over."""
        limits = [*self.budget.limits.items(), *([("macs", self.max_macs)] if self.max_macs is not None else [])]
        columns = [(costs[name] - limit) / limit for name, limit in limits]
        return np.nan_to_num(np.stack(columns, axis=1), nan=np.inf)

    def fits(self, costs: Mapping[str, Floats]) -> NDArray[np.bool_]:
        """(N,) whether no limit is exceeded."""
        return np.asarray((self.excess(costs) <= 0).all(axis=1))

    # the pool ---------------------------------------------------------------------------------------

    def nothing_fits(self, drawn: int, smallest: Floats | None) -> BudgetError:
        """The error that names the limit that binds; ``smallest``: the least excess that ``drawn`` networks reached, by limit."""
        low = self.smallest_network()
        costs = self.costs(low[None, :])
        over = {
            name: (float(costs[name][0]), limit)
            for name, limit in self.budget.limits.items()
            if not costs[name][0] <= limit or (smallest is not None and smallest[list(self.budget.limits).index(name)] > 0)
        }
        lines = [
            f"{name}: the smallest network needs {QUANTITIES[name].exact(value)}, the limit is {QUANTITIES[name].exact(limit)}"
            for name, (value, limit) in over.items()
        ]
        if not over and self.max_macs is not None and not costs["macs"][0] <= self.max_macs:
            macs = QUANTITIES["macs"]
            return BudgetError(
                f"no network of space {self.space.name!r} can be trained in the time given: the smallest has "
                f"{macs.exact(float(costs['macs'][0]))} MACs, and so much time is enough for {macs.exact(self.max_macs)}",
                "give it a longer --timeout, a number of --trials, or a smaller space",
            )
        together = "" if over else "; each limit can be met alone, not all together"
        sized = "resolution" if self.space.front_end is None else "front_end"
        raise_or_widen = f"raise the limit, shrink the reserves, or widen the space downwards ({sized}, width_mult, depth)"
        return BudgetError(
            f"no network of space {self.space.name!r} fits budget {self.budget.name!r} ({drawn:,} drawn){together}"
            + "".join(f"\n  - {line}" for line in lines),
            raise_or_widen,
        )

    def smallest_network(self) -> NDArray[np.int64]:
        """The network with the least sum of excess that greedy descent reaches from the smallest choices."""
        start = [int(np.argmin([_magnitude(choice) * _sign(gene.name) for choice in gene.choices])) for gene in self.space.genes]
        row = self.canonical(np.array([start]))[0]
        return self._descend(row)

    # repair -----------------------------------------------------------------------------------------

    def neighbours(self, genotype: NDArray[np.int64]) -> Genotypes:
        """All distinct canonical networks that differ in one gene."""
        rows = []
        for gene, size in enumerate(self.sizes):
            for choice in range(size):
                if choice != genotype[gene]:
                    row = genotype.copy()
                    row[gene] = choice
                    rows.append(row)
        if not rows:
            return np.zeros((0, len(self.sizes)), dtype=np.int64)
        rows_array = np.unique(self.inside(self.canonical(np.array(rows))), axis=0)
        return np.asarray(rows_array[(rows_array != genotype).any(axis=1)])

    def repair(self, genotype: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """The nearest network that fits, by single changes that shed the most excess; None where they lead to none."""
        row = self._descend(self.inside(genotype[None, :])[0])
        return row if bool(self.fits(self.costs(row[None, :]))[0]) else None

    def distance(self, genotypes: Genotypes, genotype: NDArray[np.int64]) -> Floats:
        """(N,) sum over genes of the difference as a share of the gene's range."""
        return np.asarray((np.abs(genotypes - genotype) / np.maximum(1, self.sizes - 1)).sum(axis=1))

    def _descend(self, genotype: NDArray[np.int64], steps: int = 64) -> NDArray[np.int64]:
        row = genotype
        over = float(np.maximum(self.excess(self.costs(row[None, :])), 0).sum())
        for _ in range(steps):
            if over <= 0:
                break
            around = self.neighbours(row)
            if not len(around):
                break
            excess = np.maximum(self.excess(self.costs(around)), 0).sum(axis=1)
            # Among those that fit, the nearest to what was asked for; otherwise the steepest way down.
            fitting = np.flatnonzero(excess <= 0)
            best = int(fitting[self.distance(around[fitting], genotype).argmin()]) if len(fitting) else int(excess.argmin())
            if excess[best] >= over:
                break
            row, over = around[best], float(excess[best])
        return row

    @cached_property
    def acting(self) -> tuple[int, ...]:
        """Genes with more than one choice."""
        return tuple(int(i) for i in np.flatnonzero(self.sizes > 1))


def as_genotype(row: Sequence[int] | NDArray[np.int64]) -> Genotype:
    """A row as a plain tuple."""
    return tuple(int(x) for x in row)


def strata(values: Floats, count: int, *, log: bool = True) -> tuple[float, ...]:
    """Inner edges that cut ``values``, on a log or linear scale, into ``count`` bands of equal width."""
    if not len(values) or (log and values.min() <= 0) or values.min() == values.max():
        return ()
    space = np.geomspace if log else np.linspace
    return tuple(float(x) for x in space(values.min(), values.max(), count + 1)[1:-1])


def band(value: float, edges: Sequence[float]) -> int:
    """The band of ``value``: 0 for the cheapest."""
    return sum(value > edge for edge in edges)


#: Choices that are words: how much each asks for beside the others of its gene.
_ASKED: Mapping[str, int] = {
    **{str(kind): channels for kind, channels in KIND_CHANNELS.items()},
    "none": 0,
    "se": 1,
    "spatial": 2,
    "relu6": 0,
    "relu": 0,
    "h_swish": 1,
    "mfcc": 0,
    "mel": 1,
    "separable": 0,
    "mbconv": 1,
}


def _sign(gene: str) -> int:
    """-1 where the larger choice makes the smaller network: fewer frames."""
    return -1 if gene == "front_end.stride_ms" else 1


def _magnitude(choice: Any) -> float:
    """How much a choice asks for, to find a gene's smallest: a number as it is, a size by its area, a word by the table."""
    if isinstance(choice, str):
        return float(_ASKED[choice])
    if isinstance(choice, tuple):
        return math.sqrt(choice[0] * choice[1])
    return float(choice)
