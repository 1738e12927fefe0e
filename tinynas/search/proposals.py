"""Who proposes the next network: the uniform baseline, a spread start, TPE inside the feasible set, mutations of the front.

Every proposal draws from a generator of its own, seeded by (seed, proposal number): a resumed search and one that
ran through propose alike, and no generator's state has to be saved.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import IntDistribution
from optuna.trial import TrialState, create_trial

from tinynas import pareto
from tinynas.search.feasible import Feasible, Pool, as_genotype, band
from tinynas.search.schedule import Net, Plan, score
from tinynas.space import Genotype

#: Mutations change this many genes: one mostly, sometimes more, so that no net is a dead end.
MUTATION_SIZES = (1, 1, 1, 2, 2, 3)
#: TPE sees at most this many networks (its time grows with their number).
TPE_MEMORY = 300


@dataclass(frozen=True, slots=True)
class Proposal:
    """A genotype and where it came from; ``repaired`` stands in for an infeasible one."""

    genotype: Genotype
    source: str
    parent: str | None = None


class Proposer:
    """Proposes networks for one run; knows the pool, the schedule's bands and nothing of training."""

    def __init__(
        self, feasible: Feasible, pool: Pool, plan: Plan, *, seed: int, baseline: int, start: int, cost: str, chance: float
    ) -> None:
        self.feasible, self.pool, self.plan, self.seed = feasible, pool, plan, seed
        self.baseline, self.start, self.cost, self.chance = baseline, start, cost, chance
        rng = np.random.default_rng((seed, 0xB45E))
        bands = [np.flatnonzero([band(value, plan.edges) == b for value in pool.costs[cost]]) for b in range(len(plan.edges) + 1)]
        self._bands = [rng.permutation(rows) for rows in bands if len(rows)]
        space = feasible.space
        self.distributions = {gene.name: IntDistribution(0, len(gene.choices) - 1) for gene in space.genes if len(gene.choices) > 1}

    def propose(
        self, number: int, nets: Sequence[Net], genotypes: Mapping[str, Genotype], infeasible: Sequence[tuple[Genotype, float]]
    ) -> Proposal:
        """Proposal ``number``, given the networks so far, their genotypes, and refused genotypes with their summed excess."""
        rng = np.random.default_rng((self.seed, number))
        taken = {as_genotype(g) for g in genotypes.values()}
        started = len(genotypes)
        if started < self.baseline + self.start:
            uniform = started % 2 == 0 if min(self.baseline, self.start) * 2 > started else self.baseline > self.start
            found = self._uniform(rng, taken) if uniform else self._spread(started // 2, taken)
            if found is not None:
                return Proposal(found, "baseline" if uniform else "start")
        trained = [net for net in nets if net.results and not net.failed]
        # Every third new network is TPE's, the rest are mutations of what the bands hold best, with a little fresh blood.
        turn = number % 6
        if turn == 5 or len(trained) < 4:
            found = self._spread(started, taken)
            if found is not None:
                return Proposal(found, "pool")
        if turn in (1, 4) and len(trained) >= 4:
            return Proposal(self._tpe(rng, trained, genotypes, infeasible, number), "tpe")
        mutation = self._mutate(rng, trained, genotypes, taken)
        if mutation is not None:
            return mutation
        found = self._spread(started, taken) or self._uniform(rng, taken)
        if found is not None:
            return Proposal(found, "pool")
        return Proposal(as_genotype(self.feasible.draw(1, rng)[0]), "uniform")

    def repair(self, genotype: Genotype, taken: set[Genotype]) -> Genotype | None:
        """The nearest network that fits and is new, or None."""
        row = self.feasible.repair(np.array(genotype), None)
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
        parents = self.parents(trained)
        for _ in range(16):
            if not parents:
                return None
            parent = parents[int(rng.integers(len(parents)))]
            rows = []
            for _ in range(8):
                row = np.array(genotypes[parent.id])
                for gene in rng.choice(self.feasible.acting, size=int(rng.choice(MUTATION_SIZES)), replace=False):
                    row[gene] = int(rng.integers(self.feasible.sizes[gene]))
                rows.append(row)
            children = self.feasible.canonical(self.feasible.inside(np.array(rows)))
            fit = self.feasible.fits(self.feasible.costs(children))
            for child in children[fit]:
                if as_genotype(child) not in taken:
                    return Proposal(as_genotype(child), "mutation", parent.id)
        return None

    def parents(self, trained: Sequence[Net]) -> list[Net]:
        """The best network of each place on the front of what is comparable: levelled scores against cost, two fronts deep."""
        if not trained:
            return []
        levelled = self.levelled(trained)
        ranks = pareto.ranks([(value, net.cost) for value, net in zip(levelled, trained, strict=True)], (True, False))
        best = [net for net, rank in zip(trained, ranks, strict=True) if rank == 0]
        if len(best) < 6:
            best += [net for net, rank in zip(trained, ranks, strict=True) if rank == 1]
        return best

    def levelled(self, trained: Sequence[Net]) -> list[float]:
        """Scores as if every network had been trained as far as the farthest: its last score plus the mean gain of those that went on."""
        top = max(net.rung for net in trained)
        gains = [0.0] * (top + 1)
        for rung in range(top):
            steps = [
                score(net.results[rung + 1].scores, self.chance) - score(net.results[rung].scores, self.chance)
                for net in trained
                if net.rung > rung
            ]
            gains[rung] = float(np.mean(steps)) if steps else 0.0
        return [score(net.results[-1].scores, self.chance) + sum(gains[net.rung :]) for net in trained]

    def _tpe(
        self,
        rng: np.random.Generator,
        trained: Sequence[Net],
        genotypes: Mapping[str, Genotype],
        infeasible: Sequence[tuple[Genotype, float]],
        number: int,
    ) -> Genotype:
        # An in-memory study, because Optuna's finished trials are immutable while what is known of a network grows.
        sampler = tpe_sampler(seed=int(rng.integers(2**31)), multivariate=True, startup=0)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        levelled = dict(zip((net.id for net in trained), self.levelled(trained), strict=True))
        for net in trained[-TPE_MEMORY:]:
            values = [levelled[net.id], float(np.log(net.cost))]
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
