"""The acquisition: what an untrained network promises, as the expected improvement of the front of (score, log cost), or of the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinynas.search.schedule import Net
from tinynas.search.surrogate import Fit, Floats, Surrogate
from tinynas.space import Genotype


@dataclass(frozen=True)
class Front:
    """What is estimated of the trained networks, and the box in which improvements count."""

    estimates: Floats
    """(N,) scores."""
    log_costs: Floats
    """(N,)"""
    low: float
    """Where the axis of log costs begins."""
    high: float
    """And ends."""
    floor: float
    """Improvements count above it."""

    def steps(self, log_costs: Floats) -> tuple[Floats, Floats]:
        """The stairs that the front is: heights (N + 1,), and how wide each is (M, N + 1) for networks of these log costs (M,), which reach
        from there to the right."""
        order = np.argsort(self.log_costs, kind="stable")
        heights = np.maximum.accumulate(np.concatenate([[self.floor], self.estimates[order]]))
        edges = np.concatenate([[self.low], self.log_costs[order], [self.high]])
        return heights, np.maximum(0.0, edges[1:] - np.maximum(edges[:-1], log_costs[:, None]))


class Acquisition:
    """Picks for one run: ``cost`` names the cost that fronts go by, ``costs`` (N,) are those of the pool; None where costs do not count,
    and improvements are those of the highest score."""

    def __init__(self, surrogate: Surrogate, cost: str, costs: Floats | None) -> None:
        self.surrogate, self.cost, self.traded = surrogate, cost, costs is not None
        self.low, self.high = 0.0, 1.0
        if costs is None:
            return
        # A little wider than the pool, so that its cheapest and its dearest count too.
        self.low, self.high = math.log(max(costs.min() * 0.95, 1e-9)), math.log(costs.max() * 1.05)

    def front(self, fit: Fit, nets: Sequence[Net], awaited: Sequence[Genotype] = ()) -> Front:
        """The front of the networks that ``fit`` was fitted to, and of those ``awaited``, taken to be as good as is expected of them."""
        estimates, costs = fit.estimates, np.array([net.cost for net in nets])
        if len(awaited):
            assert fit.model is not None
            rows = np.array(awaited)
            found = self.surrogate.feasible.costs(rows)
            expected = fit.model.expected(self.surrogate.features(rows, found), self.surrogate.genes(rows))
            estimates, costs = np.concatenate([estimates, expected]), np.concatenate([costs, found[self.cost]])
        return Front(estimates, self._place(costs), self.low, self.high, fit.floor)

    def _place(self, costs: Floats) -> Floats:
        # Where costs do not count, all cost the least: the front is one step over the whole axis, as high as the best.
        return np.log(np.maximum(costs, 1e-9)) if self.traded else np.full(len(costs), self.low)

    def expected_improvement(self, fit: Fit, nets: Sequence[Net], genotypes: NDArray[np.int64], awaited: Sequence[Genotype] = ()) -> Floats:
        """(M,) improvements that untrained networks (M, genes) promise, in expectation by the model (which must be fitted).

        The front is taken as it is estimated, so each step of it asks only for what is expected above one height of one network. Networks
        ``awaited``, which others train at the moment, count as what is expected of them: else all would train neighbours of one.
        """
        assert fit.model is not None
        costs = self.surrogate.feasible.costs(genotypes)
        heights, widths = self.front(fit, nets, awaited).steps(self._place(costs[self.cost]))
        excess = fit.model.excess(self.surrogate.features(genotypes, costs), self.surrogate.genes(genotypes), heights)
        return np.asarray((widths * excess).sum(axis=1))
