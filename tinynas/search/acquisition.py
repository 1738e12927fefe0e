"""The acquisition: what an untrained network promises, as the expected improvement of the front of (score, log cost), or of the best;
and what it is worth to know a trained one better, as the knowledge gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from tinynas.search.schedule import Net
from tinynas.search.surrogate import Fit, Floats, Looks, Surrogate, trust
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
        """The stairs that the front is: heights (K,), ascending, and how wide each is (M, K) for networks of these log costs (M,), which
        reach from there to the right."""
        order = np.argsort(self.log_costs, kind="stable")
        heights = np.maximum.accumulate(np.concatenate([[self.floor], self.estimates[order]]))
        starts = np.concatenate([[self.low], self.log_costs[order]])
        # What is behind the front raises no stair.
        raised = np.concatenate([[True], np.diff(heights) > 0])
        heights, starts = heights[raised], starts[raised]
        ends = np.append(starts[1:], self.high)
        return heights, np.maximum(0.0, ends - np.maximum(starts, log_costs[:, None]))


#: Deviation of a network from what is expected of it by the model alone, in units of ``Fit.missed``. Chosen on tin20, where half of it is
#: as good (results/benchmarks/search_belief.md).
DOUBT = 1.0
#: The least of ``Fit.missed``: a model that goes through all it was fitted to is not sure of the rest.
LEAST_MISSED = 0.005


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
            looks = self.surrogate.look(np.array(awaited))
            expected = fit.model.expected(looks.features, looks.genes)
            estimates, costs = np.concatenate([estimates, expected]), np.concatenate([costs, looks.costs[self.cost]])
        return Front(estimates, self._place(costs), self.low, self.high, fit.floor)

    def _place(self, costs: Floats) -> Floats:
        # Where costs do not count, all cost the least: the front is one step over the whole axis, as high as the best.
        return np.log(np.maximum(costs, 1e-9)) if self.traded else np.full(len(costs), self.low)

    def expected_improvement(self, fit: Fit, nets: Sequence[Net], looks: Looks, awaited: Sequence[Genotype] = ()) -> Floats:
        """(M,) improvements that untrained networks promise, in expectation by the model (which must be fitted).

        The front is taken as it is estimated, so each step of it asks only for what is expected above one height of one network. Networks
        ``awaited``, which others train at the moment, count as what is expected of them: else all would train neighbours of one.
        """
        assert fit.model is not None
        heights, widths = self.front(fit, nets, awaited).steps(self._place(looks.costs[self.cost]))
        excess = fit.model.excess(looks.features, looks.genes, heights)
        return np.asarray((widths * excess).sum(axis=1))

    def knowledge_gradients(self, fit: Fit, nets: Sequence[Net], rungs: Sequence[int]) -> Floats:
        """(N, R) by how much the front is expected to gain if each of the ``nets`` that ``fit`` was fitted to were trained to each of the
        ``rungs`` (epochs), because another choice may then be made: 0 for rungs that it has reached.

        What is expected of a network moves from the model's prediction towards its own score as that is trusted more: by a deviation whose
        square is in proportion to the trust that a longer training gains. The others are taken as they are estimated.
        """
        place = self._place(np.array([net.cost for net in nets]))
        doubt = DOUBT * max(LEAST_MISSED, fit.missed)
        gained = trust(rungs) - trust([net.results[-1].epochs for net in nets])[:, None]
        moves = doubt * np.sqrt(np.maximum(0.0, gained))
        found = np.zeros(moves.shape)
        everyone = np.arange(len(nets))
        for i in np.flatnonzero(moves.any(axis=1)):
            others = everyone != i
            heights, widths = Front(fit.estimates[others], place[others], self.low, self.high, fit.floor).steps(place[i : i + 1])
            # Beside each height: by how much more it is expected to be passed than it is now.
            away = np.abs(fit.estimates[i] - heights[:, None]) / (moves[i] + 1e-12)
            passed = moves[i] * (np.exp(-0.5 * away**2) / math.sqrt(2.0 * math.pi) - away * ndtr(-away))
            found[i] = widths[0] @ passed
        return found
