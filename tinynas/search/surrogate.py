"""The surrogate: the score expected of a network if it were trained as far as the farthest, trained or not.

Two regressions. Networks trained less are levelled: each rung's gain is a line in log cost, because short trainings
flatter small networks. A Bayesian ridge regression on what a network is made of and what it costs (or a Gaussian process, by
``belief``) then predicts levelled scores; the estimate of a network lies between the two, at the prediction where it was trained
briefly.

The constants come from the tabular benchmark on tin20 (benchmarks/search_table.py, 220 networks), and were checked on person64,
which they were not chosen on (results/benchmarks/search_belief.md has the figures, and what did not help).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import ndtr

from tinynas.search.feasible import Feasible, Genotypes
from tinynas.search.process import Process
from tinynas.search.schedule import GAIN_PER_FOLD, Net, levelled, score
from tinynas.space import Gene, Genotype

Floats = NDArray[np.float64]
Value = Callable[[Mapping[str, float]], float]

#: How far a score is trusted against the model's prediction after 1, 2, 4, 8, 16 and 32 epochs; between them by the log of epochs.
TRUST = (0.0, 0.0, 0.25, 0.5, 0.75, 1.0)
#: Candidate strengths of the model's prior, in units of one standardised feature.
RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0)
#: Networks that must be trained before anything is modelled.
MODELLED = 4


@dataclass(frozen=True)
class Looks:
    """Networks as the surrogate looks at them, M of them."""

    genotypes: Genotypes
    """(M, genes)"""
    features: Floats
    """(M, F), of :class:`Features`."""
    genes: Genotypes
    """(M, G) genes with a choice, which a belief may look at one by one."""
    costs: dict[str, Floats]
    """By name, each (M,), as :meth:`Feasible.costs` gives them."""

    def __len__(self) -> int:
        return len(self.genotypes)

    def take(self, rows: NDArray[np.int64]) -> Looks:
        """Those of these indices."""
        costs = {name: values[rows] for name, values in self.costs.items()}
        return Looks(self.genotypes[rows], self.features[rows], self.genes[rows], costs)

    def __add__(self, other: Looks) -> Looks:
        costs = {name: np.concatenate([values, other.costs[name]]) for name, values in self.costs.items()}
        genotypes, genes = (np.concatenate(pair) for pair in ((self.genotypes, other.genotypes), (self.genes, other.genes)))
        return Looks(genotypes, np.concatenate([self.features, other.features]), genes, costs)


@dataclass(frozen=True)
class Fit:
    """The surrogate at one moment; ``estimates`` in the order of the networks that it was fitted to."""

    estimates: Floats
    """(N,) expected scores."""
    floor: float
    """Above which improvements count."""
    missed: float
    """Root mean square of what was seen beside the estimates, everyone levelled: how far estimates may be wrong; 0 before anything is
    modelled."""
    model: Linear | Process | None
    """Predicts scores of untrained networks; None before ``MODELLED`` networks are trained."""


class Surrogate:
    """Fits the scores of one run's networks; knows the space's genes and costs. ``chance`` is the accuracy of guessing.

    ``belief`` names the model in :data:`BELIEFS`. Improvements, of the score that is ``counted``, count above ``floor`` (None: above every
    score).
    """

    def __init__(
        self, feasible: Feasible, chance: float, *, belief: str = "process", floor: float | None = None, counted: str = "accuracy"
    ) -> None:
        self.feasible, self.chance, self.belief, self.floor, self.counted = feasible, chance, BELIEFS[belief], floor, counted
        self.features = Features(feasible)
        self._acting = np.array(feasible.acting, dtype=np.int64)

    def look(self, genotypes: Genotypes) -> Looks:
        """Networks (M, genes) as a belief looks at them."""
        costs = self.feasible.costs(genotypes)
        return Looks(genotypes, self.features(genotypes, costs), genotypes[:, self._acting], costs)

    def fit(
        self, nets: Sequence[Net], genotypes: Mapping[str, Genotype], value: Value | None = None, per_fold: float = GAIN_PER_FOLD
    ) -> Fit:
        """Fit trained ``nets`` (at least one); ``value`` is what counts of the scores of a rung (default: ``score``), ``per_fold`` as of
        :func:`levelled`."""
        value = value or (lambda scores: score(scores, self.chance, self.counted))
        scores = np.array(levelled(nets, lambda net, rung: value(net.results[rung].scores), per_fold))
        floor, model, missed = float(scores.min()) - 0.1 if self.floor is None else self.floor, None, 0.0
        if len(nets) >= MODELLED:
            known = self.look(np.array([genotypes[net.id] for net in nets]))
            model = self.belief(Known(known.features, self.features.weights, known.genes, scores))
            predicted = model.expected(known.features, known.genes)
            estimates = predicted + trust([net.results[-1].epochs for net in nets]) * (scores - predicted)
            scores, missed = estimates, float(np.sqrt(np.mean((scores - estimates) ** 2)))
        return Fit(scores, floor, missed, model)

    def expected_accuracies(self, nets: Sequence[Net], genotypes: Mapping[str, Genotype]) -> dict[str, float]:
        """By id: the validation accuracy expected of each of ``nets`` that has results, after the farthest rung that any reached.

        Networks are in the order of what they promise. What is said of each is what the run itself lets expect, without what larger ones
        have to come (``GAIN_PER_FOLD``): the nearest figures that are in this order.
        """
        trained = [net for net in nets if net.trained]
        if not trained:
            return {}
        promises, likely = (self.fit(trained, genotypes, itemgetter("accuracy"), gain).estimates for gain in (GAIN_PER_FOLD, 0.0))
        sure = trust([net.results[-1].epochs for net in trained]) == 1.0
        values = in_order(likely, promises, np.where(sure, SURE, 1.0))
        return {net.id: float(value) for net, value in zip(trained, values, strict=True)}

    def promised_accuracies(self, nets: Sequence[Net], genotypes: Mapping[str, Genotype]) -> dict[str, float]:
        """By id: what ranks each of ``nets`` that has results, as validation accuracy: levelled by what is gained in the end."""
        trained = [net for net in nets if net.trained]
        if not trained:
            return {}
        values = self.fit(trained, genotypes, itemgetter("accuracy")).estimates
        return {net.id: min(1.0, max(0.0, float(value))) for net, value in zip(trained, values, strict=True)}


#: A network that is trusted wholly counts as so many others where figures are put in order.
SURE = 1e6
#: Figures that would be one are this far apart, so that their order is seen in six digits.
APART = 2e-6


def in_order(values: Floats, order: Floats, weights: Floats) -> Floats:
    """(N,) the figures in 0..1 nearest to ``values`` (N,), by squares with ``weights`` (N,), that rise where ``order`` (N,) does.

    Where ``order`` is equal they are, elsewhere they are at least ``APART`` from one another. A figure of weight ``SURE`` stays what it is,
    unless another contradicts it or lies nearer than there is room between them. Nothing given may be NaN.
    """
    _, place = np.unique(order, return_inverse=True)
    total = np.bincount(place, weights)
    means = np.bincount(place, weights * np.clip(values, 0.0, 1.0)) / total
    level = isotonic_regression(means, weights=total).x
    rising, last = level.copy(), len(level) - 1
    # Those that would be one figure are drawn apart around the one that weighs most, or else around their middle, which stays.
    held = np.zeros(len(level), dtype=bool)
    for figure in np.unique(level):
        alike = np.flatnonzero(level == figure)
        heaviest = alike[np.argmax(total[alike])]
        held[heaviest] = total[heaviest] >= SURE
        rising[alike] += APART * (alike - (heaviest if held[heaviest] else alike.mean()))
    for i in range(1, len(level)):
        if not held[i]:
            rising[i] = max(rising[i], rising[i - 1] + APART)
    for i in reversed(range(last)):
        if not held[i]:
            rising[i] = min(rising[i], rising[i + 1] - APART)
    steps = APART * np.arange(len(level))
    rising = np.clip(np.maximum.accumulate(rising - steps) + steps, steps, 1.0 - steps[::-1])
    return np.asarray(rising[place])


def trust(epochs: Sequence[int]) -> Floats:
    """(N,) how far scores after so many epochs are trusted against a prediction, 0..1."""
    return np.asarray(np.interp(np.log2(np.maximum(1, epochs)), np.arange(len(TRUST)), TRUST))


#: Genes whose choices show in what a network costs and in its anatomy: sizes, by the last part of their names.
SIZES = frozenset({"resolution", "width_mult", "out", "stride", "depth", "kernel", "expand"})
#: Deviations of the effect of sizes, given what shows of them, that the models expect, beside those of other features: chosen on tin20.
LESS = 0.2


class Features:
    """What the model sees of a network: what it costs and what it is made of (:mod:`tinynas.cost.anatomy`), and sums and means of
    what was chosen; not its genes one by one, which are too many for tens of networks.

    Of sizes little is expected beyond what shows in costs and anatomy, so their features weigh less: :attr:`weights`. Kendall's tau of what
    the regression predicts with the accuracies of networks not seen, after 8, 16 and 32 networks, means of 40 draws: tin20 .69, .75,
    .78 where all features weigh alike and the anatomy is left out .62, .72, .76; person64, which nothing was chosen on, .60, .64, .66
    and .45, .60, .63 (results/benchmarks/search_belief.md).
    """

    def __init__(self, feasible: Feasible) -> None:
        genes = feasible.space.genes
        self.whole: list[int] = []
        self.stages: dict[str, list[int]] = {}
        self.blocks: dict[str, list[int]] = {}
        for index, gene in enumerate(genes):
            if len(gene.choices) < 2:
                continue
            if gene.stage < 0:
                self.whole.append(index)
            else:
                (self.stages if gene.block < 0 else self.blocks).setdefault(_what(gene), []).append(index)
        self.depth = {gene.stage: index for index, gene in enumerate(genes) if gene.name.endswith(".depth")}
        self.block = [(gene.stage, gene.block) for gene in genes]
        self.values = [
            np.array([float(choice) if isinstance(choice, int | float) else float(i) for i, choice in enumerate(gene.choices)])
            for gene in genes
        ]
        names = [*(_what(genes[index]) for index in self.whole), *self.stages, *self.blocks]
        self.weights = np.array([*(LESS if name in SIZES else 1.0 for name in names), LESS, *[1.0] * 6])
        """(features,) deviations expected of a standardised feature's effect, in the order of what a call returns."""

    def __call__(self, genotypes: NDArray[np.int64], costs: Mapping[str, Floats]) -> Floats:
        """(N, features) of ``genotypes`` (N, genes) and their ``costs``, as :meth:`Feasible.costs` gives them: logarithms of the whole
        network's choices, sums over stages of theirs, means over existing blocks of kernel and expand ratio; costs and anatomy."""

        def value(gene: int) -> Floats:
            return np.asarray(self.values[gene][genotypes[:, gene]])

        columns = [np.log1p(value(gene)) for gene in self.whole]
        columns += [np.sum([value(gene) for gene in genes], axis=0) for genes in self.stages.values()]
        for genes in self.blocks.values():
            exists = np.array([value(self.depth[self.block[gene][0]]) > self.block[gene][1] for gene in genes])
            values = np.array([value(gene) for gene in genes])
            columns.append((values * exists).sum(axis=0) / np.maximum(1, exists.sum(axis=0)))
        shown = ("sram_bytes", "macs", "params", "activations", "narrowest")
        sram, macs, *others = (np.log(np.maximum(costs[name], 1.0)) for name in shown)
        return np.stack([*columns, sram, macs, macs**2, *others, costs["mean_log_macs"]], axis=1)


def _what(gene: Gene) -> str:
    """What ``gene`` chooses, whichever stage and block it is of."""
    return gene.name.rsplit(".", 1)[-1]


class Linear:
    """Bayesian ridge regression on standardised features; the prior's strength by leave-one-out error.

    ``weights`` (F,) are deviations of the features' effects that are expected, beside one another (None: all alike).
    """

    def __init__(self, features: Floats, scores: Floats, weights: Floats | None = None) -> None:
        self.mean, self.scale = features.mean(axis=0), features.std(axis=0) + 1e-9
        self.shares = np.ones(features.shape[1]) if weights is None else weights
        self.offset = float(scores.mean())
        x, y = self._standard(features), scores - self.offset
        best = np.inf
        for ridge in RIDGES:
            inverse = np.linalg.inv(x.T @ x + ridge * np.eye(x.shape[1]))
            hat = np.einsum("ij,jk,ik->i", x, inverse, x)
            residual = y - x @ (inverse @ x.T @ y)
            # Leave-one-out error, in closed form.
            error = float(np.mean((residual / np.maximum(1e-3, 1.0 - hat)) ** 2))
            if error < best:
                best, self.weights, self.covariance = error, inverse @ x.T @ y, inverse
        self.noise = best
        self._root = np.linalg.cholesky(self.covariance * self.noise + 1e-12 * np.eye(len(self.weights)))

    def _standard(self, features: Floats) -> Floats:
        return np.asarray((features - self.mean) / self.scale * self.shares)

    def predict(self, features: Floats, weights: Floats) -> Floats:
        """Scores (N,)."""
        return np.asarray(self._standard(features) @ weights + self.offset)

    def expected(self, features: Floats, genotypes: Genotypes) -> Floats:
        """Scores (M,) expected; the genes say nothing more."""
        return self.predict(features, self.weights)

    def spread(self, features: Floats) -> Floats:
        """(M,) deviations of what is believed of the scores."""
        return np.asarray(np.sqrt(((self._standard(features) @ self._root) ** 2).sum(axis=1)))

    def excess(self, features: Floats, genotypes: Genotypes, heights: Floats) -> Floats:
        """(M, K) by how much scores are expected to lie above ``heights`` (K,), where below counts as 0."""
        spread = self.spread(features)[:, None] + 1e-12
        above = (self.expected(features, genotypes)[:, None] - heights) / spread
        return np.asarray(spread * (above * ndtr(above) + np.exp(-0.5 * above**2) / math.sqrt(2.0 * math.pi)))


@dataclass(frozen=True)
class Known:
    """Trained networks, as a belief looks at them."""

    features: Floats
    """(N, F)"""
    weights: Floats
    """(F,) of :attr:`Features.weights`."""
    genotypes: Genotypes
    """(N, G) genes with a choice."""
    scores: Floats
    """(N,)"""


#: What is made of trained networks, by the name that the setting ``belief`` takes.
BELIEFS: dict[str, Callable[[Known], Linear | Process]] = {
    "regression": lambda known: Linear(known.features, known.scores, known.weights),
    "process": lambda known: Process(known.features, known.genotypes, known.scores, known.weights),
}
