"""The acquisition: what an untrained network promises, as the expected improvement of the front of (score, log cost)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinynas.search.process import Process
from tinynas.search.schedule import Net
from tinynas.search.surrogate import Fit, Floats, Linear, Surrogate

#: Draws from the model's posterior that an expected improvement is averaged over.
DRAWS = 8
#: Candidates that draws are made for: of more, those whose optimistic scores would raise the front most. A process draws the scores of
#: all candidates together, which takes time with the cube of their number.
JOINT: dict[type[object], int | None] = {Linear: None, Process: 256}


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
    """Below every score."""

    def improvement(self, scores: Floats, log_costs: Floats) -> Floats:
        """(M,) areas by which networks with these scores and log costs (M,) would raise the front."""
        order = np.argsort(self.log_costs, kind="stable")
        heights = np.concatenate([[self.floor], np.maximum.accumulate(self.estimates[order])])
        edges = np.concatenate([[self.low], self.log_costs[order], [self.high]])
        widths = np.maximum(0.0, edges[1:] - np.maximum(edges[:-1], log_costs[:, None]))
        return np.asarray((widths * np.maximum(0.0, scores[:, None] - heights)).sum(axis=1))


class Acquisition:
    """Picks for one run: ``cost`` names the cost that fronts go by, ``costs`` (N,) are those of the pool."""

    def __init__(self, surrogate: Surrogate, cost: str, costs: Floats) -> None:
        self.surrogate, self.cost = surrogate, cost
        # A little wider than the pool, so that its cheapest and its dearest count too.
        self.low, self.high = math.log(max(costs.min() * 0.95, 1e-9)), math.log(costs.max() * 1.05)

    def front(self, fit: Fit, nets: Sequence[Net]) -> Front:
        """The front of the networks that ``fit`` was fitted to."""
        return Front(fit.estimates, np.log([net.cost for net in nets]), self.low, self.high, fit.floor)

    def expected_improvement(self, fit: Fit, nets: Sequence[Net], genotypes: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        """(M,) improvements that untrained networks (M, genes) promise, averaged over draws of the model (which must be fitted)."""
        assert fit.model is not None
        costs = self.surrogate.feasible.costs(genotypes)
        features, genes = self.surrogate.features(genotypes, costs), self.surrogate.genes(genotypes)
        log_costs = np.log(np.maximum(costs[self.cost], 1e-9))
        front, total, rows = self.front(fit, nets), np.zeros(len(genotypes)), np.arange(len(genotypes))
        joint = JOINT[type(fit.model)]
        if joint is not None and joint < len(rows):
            promise = front.improvement(fit.model.optimistic(features, genes), log_costs)
            rows = np.sort(np.argsort(-promise, kind="stable")[:joint])
        for scores in fit.model.draws(features[rows], genes[rows], DRAWS, rng):
            total[rows] += front.improvement(scores, log_costs[rows])
        return total / DRAWS
