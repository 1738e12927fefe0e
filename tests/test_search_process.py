"""The process, against arithmetic by hand, against its own one-point-left-out and against its kernel's definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtri

from tinynas.search import process
from tinynas.search.process import ASYMPTOTES, KEPT, KERNELS, NOISES, Kernel, Posterior, Process, Scale, inward, outward


def networks(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)) * [1, 5, 0.2, 3] + 2, rng.integers(0, 3, size=(count, 6))


def test_errors_halved_count_alike_wherever_they_stand() -> None:
    values = inward(np.array([0.0, 0.5, 0.75, 0.95, 0.975]))
    assert values[:3] == pytest.approx([0.0, math.log(2), math.log(4)])
    assert values[4] - values[3] == pytest.approx(math.log(2))
    assert outward(values) == pytest.approx([0.0, 0.5, 0.75, 0.95, 0.975])
    assert inward(np.array([1.2])) == pytest.approx([math.log(1000)]), "no score is believed to be perfect"


def test_the_kernel_by_hand() -> None:
    kernel = Kernel(0.5, 0.3, 0.2, 2.0, 0.4)
    parts = (np.array([[1.5]]), np.array([[4.0]]), np.array([[0.2]]))
    assert kernel.of(parts) == pytest.approx(0.5 * 1.5 + 0.3 * math.exp(-0.5) + 0.2 * math.exp(-0.5))
    assert kernel.prior(np.array([2.0])) == pytest.approx([0.5 * 2.0 + 0.3 + 0.2])


def test_three_points_in_closed_form() -> None:
    # A kernel of features alone, of one feature -1, 0, 1, is a Bayesian regression whose weight is N(0, scale * 2) beforehand:
    # with noise 1 it is afterwards sum(xy) / (sum(xx) + 1/2) = 0.6 / 2.5, with variance scale / 2.5.
    x, y = np.array([-1.0, 0.0, 1.0]), np.array([-0.2, 0.1, 0.4])
    kernel, noise, scale = Kernel(2.0, 0.0, 0.0, 1.0, 1.0), 1.0, 0.7
    products = np.outer(x, x)
    none = np.zeros((3, 3))
    one = Posterior(kernel, 2.0 * products + noise * np.eye(3), scale, y)
    at = np.array([3.0, -2.0])
    parts = (np.outer(at, x), np.zeros((2, 3)), np.zeros((2, 3)))
    assert one.mean(parts) == pytest.approx(at * 0.6 / 2.5)
    means, variances = one.moments(parts, at**2)
    assert means == pytest.approx(at * 0.6 / 2.5)
    assert variances == pytest.approx(at**2 * scale * noise / 2.5)
    assert one.mean((products, none, none)) == pytest.approx(x * 0.6 / 2.5)


def test_members_are_those_with_the_most_evidence() -> None:
    features, genotypes = networks(9)
    scores = 0.5 + 0.03 * features[:, 0] + 0.02 * (genotypes[:, 0] == 1)
    one = Process(features, genotypes, scores)
    z = (features - features.mean(0)) / features.std(0)
    differ = (genotypes[:, None] != genotypes[None]).mean(-1)
    parts = (z @ z.T / 4, ((z[:, None] - z[None]) ** 2).sum(-1) / 4, differ)
    found = []
    for share in ASYMPTOTES:
        remains = share * (1 - scores.max())
        t = -np.log(1 - scores - remains)
        # Of scores by what stands for them: their logarithms, summed, turn a density of the one into that of the other.
        slopes = np.log(1 / (1 - scores - remains)).sum() - 9 * np.log(t.std())
        t = (t - t.mean()) / t.std()
        for kernel in KERNELS:
            for noise in NOISES:
                covariance = kernel.of(parts) + noise * np.eye(9)
                # The scale with the largest likelihood, and the log density of a normal with that covariance, less constants.
                scale = t @ np.linalg.solve(covariance, t) / 9
                evidence = -0.5 * np.linalg.slogdet(scale * covariance)[1] + slopes - (3.0 if share else 0.0)
                found.append((evidence, kernel, scale, remains))
    found.sort(key=lambda each: -each[0])
    assert one.evidences == pytest.approx([each[0] for each in found[:KEPT]], abs=1e-6)
    assert [m.kernel for _, m in one.members] == [kernel for _, kernel, _, _ in found[:KEPT]]
    assert [m.scale for _, m in one.members] == pytest.approx([scale for _, _, scale, _ in found[:KEPT]])
    assert [on.remains for on, _ in one.members] == pytest.approx([remains for _, _, _, remains in found[:KEPT]])
    ratios = np.exp(one.evidences - one.evidences[0])
    assert one.shares == pytest.approx(ratios / ratios.sum())
    assert one.shares[0] < 0.99, "or it is no mixture"


def test_one_left_out_equals_what_is_fitted_without_it() -> None:
    # In closed form, of the whole fit: y_i - alpha_i / (K^-1)_ii. Without the point, by the same member: another inverse.
    features, genotypes = networks(12, seed=3)
    z, t = (features - features.mean(0)) / features.std(0), np.sin(features[:, 0]) + genotypes[:, 1]
    kernel, noise = KERNELS[-1], 0.1
    parts = (z @ z.T / 4, ((z[:, None] - z[None]) ** 2).sum(-1) / 4, (genotypes[:, None] != genotypes[None]).mean(-1))
    covariance = kernel.of(parts) + noise * np.eye(12)
    whole = Posterior(kernel, covariance, 1.0, t)
    diagonal = np.diag(np.linalg.inv(covariance))
    for i in range(12):
        kept = np.arange(12) != i
        without = Posterior(kernel, covariance[np.ix_(kept, kept)], 1.0, t[kept])
        beside = tuple(part[[i]][:, kept] for part in parts)
        mean, variance = without.moments(beside, parts[0][[i], [i]])  # type: ignore[arg-type]
        assert mean[0] == pytest.approx(t[i] - whole.weights[i] / diagonal[i])
        assert variance[0] + noise == pytest.approx(1.0 / diagonal[i])


def test_a_line_in_the_features_is_left_to_the_line_and_a_gene_to_the_genes() -> None:
    features, genotypes = networks(40, seed=1)
    noise = 0.01 * np.random.default_rng(5).normal(size=40)
    line = Process(features, genotypes, 0.5 + 0.05 * features[:, 0] + noise)
    gene = Process(features, genotypes, 0.5 + 0.1 * (genotypes[:, 2] == 1) - 0.1 * (genotypes[:, 4] == 0) + noise)
    assert line.members[0][1].kernel.linear == 1.0
    assert gene.members[0][1].kernel.genes > 0.0
    fresh, other = networks(200, seed=2)
    truth = 0.5 + 0.1 * (other[:, 2] == 1) - 0.1 * (other[:, 4] == 0)
    assert np.corrcoef(gene.expected(fresh, other), truth)[0, 1] > 0.8


def test_weights_are_shares_of_the_features_however_large() -> None:
    features, genotypes = networks(12, seed=7)
    scores = 0.4 + 0.03 * features[:, 0]
    fresh, other = networks(6, seed=8)
    plain = Process(features, genotypes, scores).expected(fresh, other)
    assert Process(features, genotypes, scores, np.full(4, 0.2)).expected(fresh, other) == pytest.approx(plain)
    # A feature that weighs next to nothing is not there for the line, and for the distances.
    less = Process(features, genotypes, scores, np.array([1e-9, 1.0, 1.0, 1.0])).expected(fresh, other)
    moved = Process(features + [[5.0, 0, 0, 0]] * np.arange(12)[:, None], genotypes, scores, np.array([1e-9, 1.0, 1.0, 1.0]))
    assert moved.expected(fresh, other) == pytest.approx(less, abs=1e-6)


def flat(features: np.ndarray) -> np.ndarray:
    """Scores that approach .94 along the first feature."""
    return np.asarray(0.94 - 0.2 * np.exp(-0.8 * (features[:, 0] - 2)))


def test_errors_that_flatten_out_above_zero_are_seen_and_noise_is_no_such_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    features, genotypes = networks(24, seed=4)
    scores = flat(features) + 1e-3 * np.random.default_rng(2).normal(size=24)
    fresh, other = networks(200, seed=5)
    far = fresh[:, 0] > np.quantile(features[:, 0], 0.9)
    one = Process(features, genotypes, scores)
    assert sum(share for share, (on, _) in zip(one.shares, one.members, strict=True) if on.remains) > 0.99
    missed = np.abs(one.expected(fresh, other) - flat(fresh))[far].mean()
    for seed in range(10):
        noisy = 0.4 + 0.02 * features[:, 0] + 0.04 * np.random.default_rng(seed).normal(size=24)
        assert all(on.remains == 0 for on, _ in Process(features, genotypes, noisy).members)
    monkeypatch.setattr(process, "ASYMPTOTES", (0.0,))
    without = Process(features, genotypes, scores)
    assert np.abs(without.expected(fresh, other) - flat(fresh))[far].mean() > 2 * missed


def test_densities_on_a_scale_are_those_of_scores_by_its_slope() -> None:
    scores, step = np.array([0.3, 0.5, 0.55, 0.8]), 1e-6
    one = Scale(scores, 0.1)
    assert one.outward(one.targets) == pytest.approx(scores)
    values = [-np.log(1 - score - 0.1) for score in (scores + step, scores - step)]
    slopes = (values[0] - values[1]) / (2 * step) / one.spread
    assert one.log_jacobian == pytest.approx(np.log(slopes).sum())
    assert Scale(np.array([1.2, 0.5]), 0.0).targets == pytest.approx([1.0, -1.0]), "no score is believed to be perfect"


@pytest.mark.parametrize("flattens", [False, True])
@pytest.mark.parametrize("height", [-0.5, 0.3, 0.55, 0.9, 0.97, 0.9999])
def test_what_is_expected_above_a_height_is_the_integral(height: float, flattens: bool) -> None:
    features, genotypes = networks(15, seed=4)
    surprise = np.random.default_rng(8).normal(size=15)
    scores = flat(features) + 2e-3 * surprise if flattens else 0.5 + 0.02 * features[:, 0] + 0.05 * surprise
    one = Process(features, genotypes, scores)
    assert any(on.remains for on, _ in one.members) == flattens
    fresh, other = networks(5, seed=6)
    normal = ndtri((np.arange(20_000) + 0.5) / 20_000)[:, None]
    drawn = [
        (share, 1 - remains - np.exp(-(middle + deviation * normal.T).T)) for share, remains, middle, deviation in one.beliefs(fresh, other)
    ]
    by_hand = sum(share * np.maximum(0.0, scores - height).mean(axis=0) for share, scores in drawn)
    assert one.excess(fresh, other, np.array([height]))[:, 0] == pytest.approx(by_hand, rel=5e-3, abs=1e-7)


def test_what_is_known_of_nothing_is_no_number_too_large() -> None:
    # Far away a belief is so wide that the mean error overflows, not what is expected of it.
    features, genotypes = networks(6, seed=1)
    one = Process(features, genotypes, np.array([0.1, 0.9, 0.2, 0.8, 0.15, 0.85]))
    found = one.excess(features * 1e4, genotypes, np.array([0.5]))
    assert np.isfinite(found).all() and (found >= 0).all() and found.max() < 0.5 + 1e-9


def test_genes_that_all_share_and_scores_that_are_all_equal_are_no_fault() -> None:
    features, genotypes = networks(6)
    one = Process(features, np.zeros_like(genotypes), np.full(6, 0.4))
    assert one.expected(features, np.zeros_like(genotypes)) == pytest.approx(np.full(6, 0.4), abs=1e-3)
    assert np.isfinite(one.excess(features, np.zeros_like(genotypes), np.array([0.3, 0.5]))).all()
    assert process.MIXES[0] == (1.0, 0.0, 0.0), "the regression is a member"
