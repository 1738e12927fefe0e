"""Who proposes the next network: the uniform baseline, a spread start, then the acquisition over the surrogate, which chooses among the
pool, mutations of the front, and what TPE proposes.

Every proposal draws from a generator of its own, seeded by (seed, proposal number): a resumed search and one that
ran through propose alike, and no generator's state has to be saved.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import IntDistribution
from optuna.trial import TrialState, create_trial

from tinynas.search.acquisition import Acquisition
from tinynas.search.feasible import Feasible, Pool, as_genotype, band
from tinynas.search.genes import distributions, genotype_of, params_of
from tinynas.search.schedule import Net, Outlook, Plan, ranked
from tinynas.search.surrogate import MODELLED, Fit, Looks, Surrogate
from tinynas.space import Genotype

#: Mutations change this many genes: one mostly, sometimes more, so that no net is a dead end.
MUTATION_SIZES = (1, 1, 1, 2, 2, 3)
#: At most so many networks of the pool are candidates of one proposal: a pool of the usual size is looked at whole.
CANDIDATES = 8000
#: Mutations of each network of the front among the candidates.
CHILDREN = 32
#: Proposals of TPE among them, where it is asked: it takes longer to think than all the rest.
SAMPLES = 2
#: TPE is asked each so many proposals.
ASKED = 4
#: TPE sees at most this many networks (its time grows with their number).
TPE_MEMORY = 300


@dataclass(frozen=True, slots=True)
class Proposal:
    """A genotype, where it came from, and the network that it was mutated from."""

    genotype: Genotype
    source: str
    parent: str | None = None


class _Shared(IntDistribution):  # type: ignore[misc]  # optuna is untyped here
    # Optuna copies each trial that it is given, distributions and all, which are most of it; nothing changes them.
    def __deepcopy__(self, _memo: dict[int, Any]) -> _Shared:
        return self


class Proposer:
    """Proposes networks for one run; knows the pool, the schedule's bands and nothing of training.

    ``children`` mutations of each network of the front, and ``samples`` proposals of TPE, are among the acquisition's candidates;
    ``belief`` and ``floor`` are the surrogate's.
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
        samples: int = SAMPLES,
        belief: str = "process",
        floor: float | None = None,
    ) -> None:
        self.feasible, self.pool, self.plan, self.seed = feasible, pool, plan, seed
        self.baseline, self.start, self.cost, self.children, self.samples = baseline, start, cost, children, samples
        self.surrogate = Surrogate(feasible, chance, belief=belief, floor=floor, counted=plan.counted)
        self.acquisition = Acquisition(self.surrogate, cost, pool.costs[cost] if plan.traded else None)
        rng = np.random.default_rng((seed, 0xB45E))
        bands = [np.flatnonzero([band(value, plan.edges) == b for value in pool.costs[cost]]) for b in range(len(plan.edges) + 1)]
        self._bands = [rng.permutation(rows) for rows in bands if len(rows)]
        self._distributions = {name: _Shared(d.low, d.high) for name, d in distributions(feasible.space).items()}
        self._keys = [_key(row) for row in pool.genotypes]

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
        taken = {_key(genotype) for genotype in (*genotypes.values(), *refused)}
        started = len(genotypes)
        if started < self.baseline + self.start:
            uniform = started % 2 == 0 if min(self.baseline, self.start) * 2 > started else self.baseline > self.start
            first = self._uniform(rng, taken) if uniform else self._spread(started // 2, taken)
            if first is not None:
                return Proposal(first, "baseline" if uniform else "start")
        trained = [net for net in nets if net.trained]
        if len(trained) >= MODELLED:
            awaited = [genotypes[net.id] for net in nets if not net.results and not net.failed]
            sampled = self._tpe(rng, trained, genotypes, infeasible) if self.samples and number % ASKED == ASKED - 1 else []
            found = self._acquired(rng, trained, genotypes, taken, awaited, sampled)
            if found is not None:
                return found
        fresh = self._spread(started, taken) or self._uniform(rng, taken)
        if fresh is not None:
            return Proposal(fresh, "pool")
        mutation = self._mutate(rng, trained, genotypes, taken)
        return mutation or Proposal(as_genotype(self.feasible.draw(1, rng)[0]), "uniform")

    def repair(self, genotype: Genotype, taken: Collection[Genotype]) -> Genotype | None:
        """The nearest network that fits and is new, or None."""
        known = {_key(one) for one in taken}
        row = self.feasible.repair(np.array(genotype))
        if row is not None and _key(row) not in known:
            return as_genotype(row)
        fresh = self._fresh(known)
        if not len(fresh):
            return None if row is None else as_genotype(row)
        distance = self.feasible.distance(self.pool.genotypes[fresh], np.array(genotype))
        return as_genotype(self.pool.genotypes[fresh[int(distance.argmin())]])

    # the proposers ----------------------------------------------------------------------------------

    def _fresh(self, taken: Collection[bytes]) -> NDArray[np.int64]:
        return np.array([i for i, key in enumerate(self._keys) if key not in taken], dtype=np.int64)

    def _uniform(self, rng: np.random.Generator, taken: Collection[bytes]) -> Genotype | None:
        for _ in range(100):
            row = int(rng.integers(len(self.pool)))
            if self._keys[row] not in taken:
                return as_genotype(self.pool.genotypes[row])
        return None

    def _spread(self, turn: int, taken: Collection[bytes]) -> Genotype | None:
        # In turn from each cost band, dearest first.
        for step in range(len(self._bands)):
            rows = self._bands[-1 - (turn + step) % len(self._bands)]
            for row in rows:
                if self._keys[row] not in taken:
                    return as_genotype(self.pool.genotypes[row])
        return None

    def _mutate(
        self, rng: np.random.Generator, trained: Sequence[Net], genotypes: Mapping[str, Genotype], taken: Collection[bytes]
    ) -> Proposal | None:
        parents = self.parents(trained, self.surrogate.fit(trained, genotypes)) if trained else []
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
                if _key(child) not in taken:
                    return Proposal(as_genotype(child), "mutation", parent.id)
        return None

    @cached_property
    def _pool_looks(self) -> Looks:
        return self.surrogate.look(self.pool.genotypes)

    def _acquired(
        self,
        rng: np.random.Generator,
        trained: Sequence[Net],
        genotypes: Mapping[str, Genotype],
        taken: Collection[bytes],
        awaited: Sequence[Genotype],
        sampled: Sequence[Genotype] = (),
    ) -> Proposal | None:
        """The candidate that promises the largest improvement of the front, or of the best; candidates are of the pool, mutations, and
        ``sampled``."""
        fit = self.surrogate.fit(trained, genotypes)
        looks, origins = self._candidates(rng, self.parents(trained, fit), genotypes, taken, sampled)
        if not len(looks):
            return None
        chosen = int(np.argmax(self.acquisition.expected_improvement(fit, trained, looks, awaited)))
        source, parent = origins[chosen]
        return Proposal(as_genotype(looks.genotypes[chosen]), source, parent)

    def _candidates(
        self,
        rng: np.random.Generator,
        chosen: Sequence[Net],
        genotypes: Mapping[str, Genotype],
        taken: Collection[bytes],
        sampled: Sequence[Genotype] = (),
    ) -> tuple[Looks, list[tuple[str, str | None]]]:
        """What fits and is not ``taken``, and of each the source and the parent."""
        drawn = rng.permutation(len(self.pool))[:CANDIDATES]
        looks = self._pool_looks.take(np.array([i for i in drawn if self._keys[i] not in taken], dtype=np.int64))
        origins: list[tuple[str, str | None]] = [("model", None)] * len(looks)
        others: list[tuple[NDArray[np.int64], list[tuple[str, str | None]]]] = []
        if chosen and self.children and self.feasible.acting:
            others.append((self._mutations(rng, chosen, genotypes), [("model", net.id) for net in chosen for _ in range(self.children)]))
        if len(sampled):
            others.append((np.array(sampled), [("tpe", None)] * len(sampled)))
        for rows, sources in others:
            found = self.surrogate.look(rows)
            new = [int(i) for i in np.flatnonzero(self.feasible.fits(found.costs)) if _key(rows[i]) not in taken]
            looks, origins = looks + found.take(np.array(new, dtype=np.int64)), origins + [sources[i] for i in new]
        return looks, origins

    def _mutations(self, rng: np.random.Generator, chosen: Sequence[Net], genotypes: Mapping[str, Genotype]) -> NDArray[np.int64]:
        """``children`` of each of the networks ``chosen``, one after the other; whether they fit is not looked at."""
        mutated = np.repeat(np.array([genotypes[parent.id] for parent in chosen]), self.children, axis=0)
        acting = np.array(self.feasible.acting)
        # The first few genes of a random order are drawn anew.
        order = np.argsort(rng.random((len(mutated), len(acting))), axis=1)
        for row, places, count in zip(mutated, order, rng.choice(MUTATION_SIZES, len(mutated)), strict=True):
            genes = acting[places[:count]]
            row[genes] = rng.integers(self.feasible.sizes[genes])
        return self.feasible.canonical(self.feasible.inside(mutated))

    def parents(self, trained: Sequence[Net], fit: Fit) -> list[Net]:
        """The networks estimated to be on the front, two fronts deep where it is short; without a front the best few."""
        ranks = ranked(list(fit.estimates), trained, traded=self.plan.traded)
        best = [net for net, rank in zip(trained, ranks, strict=True) if rank == 0]
        if len(best) < 6:
            best += [net for net, rank in zip(trained, ranks, strict=True) if rank == 1]
        return best

    def outlooks(self, nets: Sequence[Net], genotypes: Mapping[str, Genotype]) -> dict[str, Outlook]:
        """What is believed of the networks with results, by id."""
        trained = [net for net in nets if net.trained]
        if not trained:
            return {}
        fit = self.surrogate.fit(trained, genotypes)
        gains: list[list[float]] = [[]] * len(trained)
        # For the best network alone the best few serve as well (benchmarks/search_alone.py).
        if fit.model is not None and self.plan.traded:
            gains = self.acquisition.knowledge_gradients(fit, trained, self.plan.rungs).tolist()
        return {net.id: Outlook(float(value), tuple(gain)) for net, value, gain in zip(trained, fit.estimates, gains, strict=True)}

    def _tpe(
        self,
        rng: np.random.Generator,
        trained: Sequence[Net],
        genotypes: Mapping[str, Genotype],
        infeasible: Sequence[tuple[Genotype, float]],
    ) -> list[Genotype]:
        """``samples`` proposals of Optuna's multivariate TPE; for what does not fit the nearest network that does."""
        # An in-memory study, because Optuna's finished trials are immutable while what is known of a network grows.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        space = self.feasible.space
        sampler = tpe_sampler(seed=int(rng.integers(2**31)), multivariate=True, startup=0)
        study = optuna.create_study(directions=["maximize", "minimize"] if self.plan.traded else ["maximize"], sampler=sampler)
        estimates = dict(zip([net.id for net in trained], self.surrogate.fit(trained, genotypes).estimates, strict=True))
        for net in trained[-TPE_MEMORY:]:
            values = [float(estimates[net.id]), *([float(np.log(net.cost))] if self.plan.traded else [])]
            study.add_trial(create_trial(values=values, params=params_of(space, genotypes[net.id]), distributions=self._distributions))
        for genotype, over in infeasible[-50:]:
            study.add_trial(
                create_trial(
                    state=TrialState.PRUNED,
                    params=params_of(space, genotype),
                    distributions=self._distributions,
                    system_attrs={"constraints:excess": float(over)},
                )
            )
        # Every trial has every gene, so TPE samples all of them together; asking for each by name would copy them each time.
        asked = np.array([genotype_of(space, study.ask().relative_params) for _ in range(self.samples)])
        near = [self.feasible.repair(row) for row in self.feasible.canonical(self.feasible.inside(asked))]
        return [as_genotype(row) for row in near if row is not None]


def _key(genotype: Sequence[int] | NDArray[np.int64]) -> bytes:
    # Sets of bytes, because making tuples of thousands of candidates took most of a decision.
    return np.asarray(genotype, dtype=np.int64).tobytes()


def tpe_sampler(seed: int, *, multivariate: bool, startup: int = 10) -> optuna.samplers.BaseSampler:
    """Optuna's TPE; the multivariate one models genes together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=multivariate, n_startup_trials=startup)
