"""Who proposes the next network: the uniform baseline, a spread start, then in turn a linear model and TPE.

Every proposal draws from a generator of its own, seeded by (seed, proposal number): a resumed search and one that
ran through propose alike, and no generator's state has to be saved.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import IntDistribution
from optuna.trial import TrialState, create_trial

from tinynas import pareto
from tinynas.search.belief import MODELLED, Belief, Believer
from tinynas.search.feasible import Feasible, Pool, as_genotype, band
from tinynas.search.schedule import Net, Plan
from tinynas.space import Genotype

#: Mutations change this many genes: one mostly, sometimes more, so that no net is a dead end.
MUTATION_SIZES = (1, 1, 1, 2, 2, 3)
#: Who proposes, in turn, once something is known.
TURNS = ("model", "model", "model", "tpe")
#: Networks that the model chooses among.
CANDIDATES = 1500
#: Mutations of each network of the front among them.
CHILDREN = 32
#: TPE sees at most this many networks (its time grows with their number).
TPE_MEMORY = 300


@dataclass(frozen=True, slots=True)
class Proposal:
    """A genotype and where it came from; ``repaired`` stands in for an infeasible one."""

    genotype: Genotype
    source: str
    parent: str | None = None


class Proposer:
    """Proposes networks for one run; knows the pool, the schedule's bands and nothing of training.

    ``children`` mutations of each network of the front are among the model's candidates.
    """

    def __init__(
        self,
        feasible: Feasible,
        pool: Pool,
        plan: Plan,
        *,
        seed: int,
        baseline: int,
        start: int,
        cost: str,
        chance: float,
        children: int = CHILDREN,
    ) -> None:
        self.feasible, self.pool, self.plan, self.seed = feasible, pool, plan, seed
        self.baseline, self.start, self.cost, self.children = baseline, start, cost, children
        self.believer = Believer(feasible, cost, chance, pool.costs[cost])
        rng = np.random.default_rng((seed, 0xB45E))
        bands = [np.flatnonzero([band(value, plan.edges) == b for value in pool.costs[cost]]) for b in range(len(plan.edges) + 1)]
        self._bands = [rng.permutation(rows) for rows in bands if len(rows)]
        space = feasible.space
        self.distributions = {gene.name: IntDistribution(0, len(gene.choices) - 1) for gene in space.genes if len(gene.choices) > 1}

    def propose(
        self,
        number: int,
        nets: Sequence[Net],
        genotypes: Mapping[str, Genotype],
        infeasible: Sequence[tuple[Genotype, float]],
        *,
        refused: Collection[Genotype] = (),
    ) -> Proposal:
        """Proposal ``number``, given the networks so far, their genotypes, and what did not fit with its summed excess.

        ``refused``: genotypes that were proposed and not trained. They are not proposed again: another genotype may name a
        network that is known already, and would be the most promising one forever.
        """
        rng = np.random.default_rng((self.seed, number))
        taken = {as_genotype(g) for g in genotypes.values()} | set(refused)
        started = len(genotypes)
        if started < self.baseline + self.start:
            uniform = started % 2 == 0 if min(self.baseline, self.start) * 2 > started else self.baseline > self.start
            first = self._uniform(rng, taken) if uniform else self._spread(started // 2, taken)
            if first is not None:
                return Proposal(first, "baseline" if uniform else "start")
        trained = [net for net in nets if net.results and not net.failed]
        turn = TURNS[number % len(TURNS)] if len(trained) >= MODELLED else "pool"
        found: Proposal | None = None
        if turn == "tpe":
            return Proposal(self._tpe(rng, trained, genotypes, infeasible), "tpe")
        if turn == "model":
            found = self._modelled(rng, trained, genotypes, taken)
        elif turn == "mutation":
            found = self._mutate(rng, trained, genotypes, taken)
        if found is not None:
            return found
        fresh = self._spread(started, taken) or self._uniform(rng, taken)
        if fresh is not None:
            return Proposal(fresh, "pool")
        mutation = self._mutate(rng, trained, genotypes, taken)
        return mutation or Proposal(as_genotype(self.feasible.draw(1, rng)[0]), "uniform")

    def repair(self, genotype: Genotype, taken: set[Genotype]) -> Genotype | None:
        """The nearest network that fits and is new, or None."""
        row = self.feasible.repair(np.array(genotype))
        if row is not None and as_genotype(row) not in taken:
            return as_genotype(row)
        fresh = self._fresh(taken)
        if not len(fresh):
            return None if row is None else as_genotype(row)
        distance = self.feasible.distance(self.pool.genotypes[fresh], np.array(genotype))
        return as_genotype(self.pool.genotypes[fresh[int(distance.argmin())]])

    # the proposers ----------------------------------------------------------------------------------

    def _fresh(self, taken: set[Genotype]) -> NDArray[np.int64]:
        return np.array([i for i, row in enumerate(self.pool.genotypes) if as_genotype(row) not in taken], dtype=np.int64)

    def _uniform(self, rng: np.random.Generator, taken: set[Genotype]) -> Genotype | None:
        for _ in range(100):
            row = as_genotype(self.pool.genotypes[int(rng.integers(len(self.pool)))])
            if row not in taken:
                return row
        return None

    def _spread(self, turn: int, taken: set[Genotype]) -> Genotype | None:
        # In turn from each cost band, dearest first.
        for step in range(len(self._bands)):
            rows = self._bands[-1 - (turn + step) % len(self._bands)]
            for row in rows:
                genotype = as_genotype(self.pool.genotypes[row])
                if genotype not in taken:
                    return genotype
        return None

    def _mutate(
        self, rng: np.random.Generator, trained: Sequence[Net], genotypes: Mapping[str, Genotype], taken: set[Genotype]
    ) -> Proposal | None:
        parents = self.parents(trained, self.believer.believe(trained, genotypes)) if trained else []
        for _ in range(16):
            if not parents:
                return None
            parent = parents[int(rng.integers(len(parents)))]
            rows = []
            for _ in range(8):
                row = np.array(genotypes[parent.id])
                for gene in rng.permutation(self.feasible.acting)[: int(rng.choice(MUTATION_SIZES))]:
                    row[gene] = int(rng.integers(self.feasible.sizes[gene]))
                rows.append(row)
            children = self.feasible.canonical(self.feasible.inside(np.array(rows)))
            fit = self.feasible.fits(self.feasible.costs(children))
            for child in children[fit]:
                if as_genotype(child) not in taken:
                    return Proposal(as_genotype(child), "mutation", parent.id)
        return None

    def _modelled(
        self, rng: np.random.Generator, trained: Sequence[Net], genotypes: Mapping[str, Genotype], taken: set[Genotype]
    ) -> Proposal | None:
        """The candidate that promises the largest improvement of the front; candidates are of the pool and mutations of the front."""
        belief = self.believer.believe(trained, genotypes)
        candidates, parents = self._candidates(rng, self.parents(trained, belief), genotypes, taken)
        if belief.model is None or not len(candidates):
            return None
        chosen = int(np.argmax(self.believer.expected_improvement(belief, candidates, rng)))
        return Proposal(as_genotype(candidates[chosen]), "model", parents[chosen])

    def _candidates(
        self, rng: np.random.Generator, chosen: Sequence[Net], genotypes: Mapping[str, Genotype], taken: set[Genotype]
    ) -> tuple[NDArray[np.int64], list[str | None]]:
        rows = rng.permutation(len(self.pool))[:CANDIDATES]
        pool = [self.pool.genotypes[i] for i in rows if as_genotype(self.pool.genotypes[i]) not in taken]
        parents: list[str | None] = [None] * len(pool)
        if chosen and self.children and self.feasible.acting:
            mutated = np.repeat(np.array([genotypes[parent.id] for parent in chosen]), self.children, axis=0)
            acting = np.array(self.feasible.acting)
            # The first few genes of a random order are drawn anew.
            order = np.argsort(rng.random((len(mutated), len(acting))), axis=1)
            for row, places, count in zip(mutated, order, rng.choice(MUTATION_SIZES, len(mutated)), strict=True):
                genes = acting[places[:count]]
                row[genes] = rng.integers(self.feasible.sizes[genes])
            mutated = self.feasible.canonical(self.feasible.inside(mutated))
            for index in np.flatnonzero(self.feasible.fits(self.feasible.costs(mutated))):
                if as_genotype(mutated[index]) not in taken:
                    pool.append(mutated[index])
                    parents.append(chosen[int(index) // self.children].id)
        return np.array(pool, dtype=np.int64).reshape(-1, len(self.feasible.sizes)), parents

    @staticmethod
    def parents(trained: Sequence[Net], belief: Belief) -> list[Net]:
        """The networks believed to be on the front, two fronts deep where it is short."""
        ranks = pareto.ranks([(value, net.cost) for value, net in zip(belief.estimates, trained, strict=True)], (True, False))
        best = [net for net, rank in zip(trained, ranks, strict=True) if rank == 0]
        if len(best) < 6:
            best += [net for net, rank in zip(trained, ranks, strict=True) if rank == 1]
        return best

    def estimates(self, nets: Sequence[Net], genotypes: Mapping[str, Genotype]) -> dict[str, float]:
        """Believed scores by id, of the networks with results."""
        trained = [net for net in nets if net.results and not net.failed]
        if not trained:
            return {}
        believed = self.believer.believe(trained, genotypes).estimates
        return {net.id: float(value) for net, value in zip(trained, believed, strict=True)}

    def _tpe(
        self,
        rng: np.random.Generator,
        trained: Sequence[Net],
        genotypes: Mapping[str, Genotype],
        infeasible: Sequence[tuple[Genotype, float]],
    ) -> Genotype:
        # An in-memory study, because Optuna's finished trials are immutable while what is known of a network grows.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = tpe_sampler(seed=int(rng.integers(2**31)), multivariate=True, startup=0)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        believed = self.estimates(trained, genotypes)
        for net in trained[-TPE_MEMORY:]:
            values = [believed[net.id], float(np.log(net.cost))]
            study.add_trial(create_trial(values=values, params=self._params(genotypes[net.id]), distributions=self.distributions))
        for genotype, over in infeasible[-50:]:
            study.add_trial(
                create_trial(
                    state=TrialState.PRUNED,
                    params=self._params(genotype),
                    distributions=self.distributions,
                    system_attrs={"constraints:excess": float(over)},
                )
            )
        params = study.ask(self.distributions).params
        row = np.array([[int(params.get(gene.name, 0)) for gene in self.feasible.space.genes]])
        return as_genotype(self.feasible.canonical(self.feasible.inside(row))[0])

    def _params(self, genotype: Genotype) -> dict[str, int]:
        genes = self.feasible.space.genes
        return {gene.name: int(index) for gene, index in zip(genes, genotype, strict=True) if gene.name in self.distributions}


def tpe_sampler(seed: int, *, multivariate: bool, startup: int = 10) -> optuna.samplers.BaseSampler:
    """Optuna's TPE; the multivariate one models genes together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=multivariate, n_startup_trials=startup)
