"""The process: a Gaussian process on what a network is made of, what it costs and its genes one by one, mixed by evidence.

Where tens of networks are trained, sums and means of genes say more than the genes themselves, and a line through them is
all that the data carry; later the genes do count. So the kernel is a sum of three: linear in the standardised features (the
regression of ``surrogate.Linear``), a squared exponential of them, and the exponential of the share of genes that differ. Its
hyperparameters are not chosen but mixed, by the evidence of a grid, which one eigendecomposition for each kernel makes cheap.

Scores are looked at as -log(1 - score): an error halved counts alike from .4 to .2 and from .04 to .02. Where the networks clearly say
that their errors flatten out above zero, so that the larger half of a space is hardly better than its middle, it is -log(1 - score - error
that remains): the asymptotes are mixed by evidence as well. Improvements are counted in scores again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

Floats = NDArray[np.float64]
Genotypes = NDArray[np.int64]

#: Shares of the three kernels: linear, squared exponential, genes.
MIXES = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.2, 0.8, 0.0), (0.5, 0.0, 0.5), (0.2, 0.0, 0.8), (0.34, 0.33, 0.33))
#: Candidate length scales of the squared exponential, in units of the root mean square of standardised features.
LENGTHS = (1.0,)
#: And of the genes' kernel: shares of the genes that differ.
SHARES = (0.3,)
#: Candidate variances of a single score's noise, in units of the kernel, whose own scale is fitted.
NOISES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
#: Members of the mixture that are kept: those with the most evidence.
KEPT = 4
#: Errors that remain whatever the network, as shares of the least that was seen.
ASYMPTOTES = (0.0, 0.3, 0.5, 0.7, 0.85)
#: By so many nats the evidence for one above zero must be ahead, because noise among the best looks like an asymptote: "strong" evidence
#: on the scale of Kass and Raftery (Bayes factors, 1995). Where accuracies are noisy that leaves searches as they are without
#: (results/benchmarks/search_belief.md).
CLEARLY = 3.0
#: Scores count as errors of at least this much.
LEAST_ERROR = 1e-3
SMALLEST = 1e-12
"""Of which a logarithm is still taken."""


@dataclass(frozen=True)
class Kernel:
    """Shares of the three kernels and their scales."""

    linear: float
    smooth: float
    genes: float
    length: float
    share: float

    def of(self, parts: tuple[Floats, Floats, Floats]) -> Floats:
        """The kernel's values, of products of features, squared distances and shares of genes that differ."""
        product, square, differ = parts
        value = self.linear * product
        if self.smooth:
            value = value + self.smooth * np.exp(-0.5 * square / self.length**2)
        if self.genes:
            value = value + self.genes * np.exp(-differ / self.share)
        return np.asarray(value)

    def prior(self, product: Floats) -> Floats:
        """The kernel of networks with themselves, of the squared lengths of their features."""
        return np.asarray(self.linear * product + self.smooth + self.genes)


KERNELS = tuple(
    Kernel(a, b, c, length, share)
    for a, b, c in MIXES
    for length in (LENGTHS if b else LENGTHS[:1])
    for share in (SHARES if c else SHARES[:1])
)


class Posterior:
    """One member of the mixture: ``scale`` times the kernel and its noise, ``covariance``, is that of ``targets`` (N,)."""

    def __init__(self, kernel: Kernel, covariance: Floats, scale: float, targets: Floats) -> None:
        self.kernel, self.scale = kernel, scale
        self._inverse_root = np.linalg.inv(np.linalg.cholesky(covariance))
        self.weights = self._inverse_root.T @ (self._inverse_root @ targets)

    def mean(self, parts: tuple[Floats, Floats, Floats]) -> Floats:
        """(M,) of networks, ``parts`` being those beside the known ones (M, N)."""
        return np.asarray(self.kernel.of(parts) @ self.weights)

    def moments(self, parts: tuple[Floats, Floats, Floats], product: Floats) -> tuple[Floats, Floats]:
        """Means and variances (M,), without noise."""
        cross = self.kernel.of(parts)
        known = ((cross @ self._inverse_root.T) ** 2).sum(axis=1)
        return cross @ self.weights, self.scale * np.maximum(1e-12, self.kernel.prior(product) - known)


class Scale:
    """Scores (N,) on the scale of -log(1 - score - ``remains``), and standardised there: ``targets`` (N,)."""

    def __init__(self, scores: Floats, remains: float) -> None:
        self.remains = remains
        values = inward(scores, remains)
        self.offset, self.spread = float(values.mean()), float(values.std()) + 1e-9
        self.targets = (values - self.offset) / self.spread
        self.log_jacobian = float(values.sum()) - len(values) * math.log(self.spread)
        """Of targets by scores: densities on two scales are compared as densities of scores."""

    def outward(self, targets: Floats) -> Floats:
        """Scores of standardised values."""
        return outward(targets * self.spread + self.offset, self.remains)


class Process:
    """Fitted to ``scores`` (N,) below 1 of networks with these features (N, F) and genotypes (N, G).

    ``weights`` (F,) are deviations of the features' effects that are expected, beside one another (None: all alike).
    """

    def __init__(self, features: Floats, genotypes: Genotypes, scores: Floats, weights: Floats | None = None) -> None:
        weights = np.ones(features.shape[1]) if weights is None else weights
        # Of mean square one: the kernels' scales are in units of standardised features.
        self._weights = weights / np.sqrt((weights**2).mean())
        self._mean, self._scale = features.mean(axis=0), features.std(axis=0) + 1e-9
        self._features, self._genotypes = self._standard(features), genotypes
        least = float(np.maximum(LEAST_ERROR, 1.0 - scores).min())
        self.scales = tuple(Scale(scores, share * least) for share in ASYMPTOTES)
        self.evidences, self.members = self._mix()
        shares = np.exp(self.evidences - self.evidences.max())
        self.shares = shares / shares.sum()

    def _mix(self) -> tuple[Floats, list[tuple[Scale, Posterior]]]:
        count = len(self._features)
        parts = self._parts(self._features, self._genotypes)
        found: list[tuple[float, Scale, Kernel, float, float]] = []
        for kernel in KERNELS:
            # Noise shifts the eigenvalues of the kernel.
            eigenvalues, vectors = np.linalg.eigh(kernel.of(parts))
            for on in self.scales:
                power = (vectors.T @ on.targets) ** 2
                prior = on.log_jacobian - (CLEARLY if on.remains else 0.0)
                for noise in NOISES:
                    spectrum = np.maximum(eigenvalues, 0.0) + noise
                    scale = float((power / spectrum).sum()) / count + 1e-12
                    evidence = -0.5 * count * np.log(scale) - 0.5 * float(np.log(spectrum).sum()) + prior
                    found.append((evidence, on, kernel, noise, scale))
        found.sort(key=lambda one: -one[0])
        members = [
            (on, Posterior(kernel, kernel.of(parts) + noise * np.eye(count), scale, on.targets))
            for _, on, kernel, noise, scale in found[:KEPT]
        ]
        return np.array([one[0] for one in found[:KEPT]]), members

    def expected(self, features: Floats, genotypes: Genotypes) -> Floats:
        """Scores (M,) expected."""
        parts = self._parts(self._standard(features), genotypes)
        total = np.zeros(len(features))
        # Members of one scale are averaged there: so that errors of a few percent do not vanish beside large ones.
        for on in self.scales:
            means = [(share, member.mean(parts)) for share, (of, member) in zip(self.shares, self.members, strict=True) if of is on]
            if means:
                together = sum(share for share, _ in means)
                total += together * on.outward(np.asarray(sum(share * mean for share, mean in means) / together))
        return total

    def excess(self, features: Floats, genotypes: Genotypes, heights: Floats) -> Floats:
        """(M, K) by how much scores are expected to lie above ``heights`` (K,) below 1, where below counts as 0.

        On its scale a member's belief is normal, so what an error has beyond what remains is log-normal, and what is expected of it below
        a bound has a closed form.
        """
        bounds = np.maximum(LEAST_ERROR, 1.0 - heights)
        total = np.zeros((len(features), len(heights)))
        for share, remains, middle, deviation in self.beliefs(features, genotypes):
            # No error is below what remains, so nothing is expected there.
            bound = np.maximum(SMALLEST, bounds - remains)
            below = (np.log(bound) + middle) / deviation
            # In logarithms, because a wide belief has a huge mean.
            error = np.exp(0.5 * deviation**2 - middle + log_ndtr(below - deviation))
            total += share * np.maximum(0.0, bound * ndtr(below) - error)
        return total

    def beliefs(self, features: Floats, genotypes: Genotypes) -> list[tuple[float, float, Floats, Floats]]:
        """(share, error that remains, mean (M, 1), deviation (M, 1)) of each member, on the scale of -log(1 - score - what remains)."""
        standard = self._standard(features)
        parts, product = self._parts(standard, genotypes), (standard**2).mean(axis=1)
        found = []
        for share, (on, member) in zip(self.shares, self.members, strict=True):
            mean, variance = member.moments(parts, product)
            middle, deviation = mean * on.spread + on.offset, np.sqrt(variance) * on.spread
            found.append((float(share), on.remains, middle[:, None], deviation[:, None]))
        return found

    def _standard(self, features: Floats) -> Floats:
        return np.asarray((features - self._mean) / self._scale * self._weights)

    def _parts(self, features: Floats, genotypes: Genotypes) -> tuple[Floats, Floats, Floats]:
        # Of each network beside each known one: product of features, squared distance, share of genes that differ.
        width = features.shape[1]
        product = features @ self._features.T
        square = np.maximum(0.0, (features**2).sum(axis=1)[:, None] + (self._features**2).sum(axis=1) - 2 * product)
        differ = np.zeros(product.shape, dtype=np.int16)
        # Short integers, a gene at a time: most of a decision's time goes here.
        for one, other in zip(genotypes.T.astype(np.int16), self._genotypes.T.astype(np.int16), strict=True):
            differ += one[:, None] != other
        return product / width, square / width, differ / max(1, genotypes.shape[1])


def inward(scores: Floats, remains: float = 0.0) -> Floats:
    """-log(1 - score - ``remains``), which lies below the least error."""
    return np.asarray(-np.log(np.maximum(LEAST_ERROR, 1.0 - scores) - remains))


def outward(values: Floats, remains: float = 0.0) -> Floats:
    """The score of -log(1 - score - ``remains``); below -1.7 all scores are alike."""
    return np.asarray(1.0 - remains - np.exp(-np.maximum(-1.0, values)))
