"""The surrogate and the acquisition, against arithmetic by hand and against numpy's own solver."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from operator import itemgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from tinynas import pareto
from tinynas.budget import load_budget
from tinynas.config import load, shipped
from tinynas.search.acquisition import DOUBT, LEAST_MISSED, Acquisition, Front
from tinynas.search.feasible import Feasible, as_genotype
from tinynas.search.process import Process
from tinynas.search.schedule import GAIN_PER_FOLD, LOSS_WEIGHT, Net, Result, levelled, score
from tinynas.search.surrogate import APART, LESS, MODELLED, RIDGES, SURE, Features, Linear, Surrogate, in_order, trust
from tinynas.space import Genotype, Space

TINY = load(shipped("search_spaces")["tiny"], Space)


@pytest.fixture(scope="module")
def feasible() -> Feasible:
    return Feasible(TINY, 2, load_budget("stm32f746"))


def grown(feasible: Feasible, count: int, epochs: int = 1, surprise: float = 0.0) -> tuple[list[Net], dict[str, Genotype]]:
    """Networks whose accuracies are a line in log MACs, but for the first, which surprises."""
    rows = feasible.draw(count, np.random.default_rng(0))
    macs = feasible.costs(rows)["macs"]
    nets = []
    for i in range(count):
        accuracy = 0.5 + 0.02 * math.log(macs[i] / 1e6) + (surprise if i == 0 else 0.0)
        nets.append(Net(str(i), i, float(macs[i]), results=[Result(epochs, 1000, {"accuracy": accuracy, "val_loss": 1.0})]))
    return nets, {str(i): as_genotype(row) for i, row in enumerate(rows)}


# the regression ---------------------------------------------------------------------------------------


def test_scores_are_trusted_by_the_logarithm_of_epochs() -> None:
    # 3 epochs lie log2(3) - 1 of the way from 2 to 4; nothing is trusted more than wholly, or less than not at all.
    between = (math.log2(3) - 1) * 0.25
    assert trust([1, 2, 3, 4, 8, 16, 32, 64, 0]) == pytest.approx([0.0, 0.0, between, 0.25, 0.5, 0.75, 1.0, 1.0, 0.0])


def test_one_feature_by_hand() -> None:
    # Two points, standardised to -1 and 1: x'x = 2, x'y = 0.2, so the weight is 0.2 / (2 + ridge), the hat 1 / (2 + ridge).
    model = Linear(np.array([[1.0], [3.0]]), np.array([0.4, 0.6]))

    def loo(ridge: float) -> float:
        residual = 0.1 - 0.2 / (2 + ridge)
        return (residual / (1 - 1 / (2 + ridge))) ** 2

    ridge = min(RIDGES, key=loo)
    assert ridge == 0.3
    assert model.weights == pytest.approx([0.2 / 2.3])
    assert model.covariance == pytest.approx(np.array([[1 / 2.3]]))
    assert model.noise == pytest.approx(loo(0.3))
    assert model.predict(np.array([[1.0], [2.0], [5.0]]), model.weights) == pytest.approx([0.5 - 0.2 / 2.3, 0.5, 0.5 + 3 * 0.2 / 2.3])


def test_leave_one_out_chooses_the_ridge_and_measures_the_noise() -> None:
    rng = np.random.default_rng(3)
    for strength in (0.01, 1.0):
        x = rng.normal(size=(12, 5)) * [1, 5, 0.2, 3, 1] + 2
        y = strength * x[:, 0] + rng.normal(size=12) * 0.3 + 0.5
        model = Linear(x, y)
        z, t = (x - x.mean(0)) / x.std(0), y - y.mean()

        def errors(ridge: float, z: np.ndarray = z, t: np.ndarray = t) -> float:
            # Each left out in turn, really; mean and scale are of all.
            found = []
            for i in range(len(t)):
                kept = np.arange(len(t)) != i
                weights = np.linalg.solve(z[kept].T @ z[kept] + ridge * np.eye(5), z[kept].T @ t[kept])
                found.append((t[i] - z[i] @ weights) ** 2)
            return float(np.mean(found))

        ridge = min(RIDGES, key=errors)
        assert model.noise == pytest.approx(errors(ridge), rel=1e-5)
        assert model.weights == pytest.approx(np.linalg.solve(z.T @ z + ridge * np.eye(5), z.T @ t), rel=1e-5)


def test_the_spread_is_the_posteriors() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20, 3))
    model = Linear(x, x @ [0.5, -0.2, 0.1] + 0.1 * rng.normal(size=20))
    fresh = rng.normal(size=(6, 3))
    z = (fresh - x.mean(axis=0)) / x.std(axis=0)
    variances = np.einsum("ij,jk,ik->i", z, model.covariance * model.noise, z)
    assert model.spread(fresh) == pytest.approx(np.sqrt(variances), rel=1e-4)
    assert variances.max() > 3e-4, "or the comparison says nothing"


def test_a_feature_that_never_varies_says_nothing() -> None:
    model = Linear(np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]]), np.array([0.4, 0.6, 0.5]))
    assert model.weights[1] == 0
    assert np.isfinite(model.predict(np.array([[2.0, 5.0]]), model.weights)).all()


# features ---------------------------------------------------------------------------------------------


def test_features_by_hand(feasible: Feasible) -> None:
    genes = {gene.name: index for index, gene in enumerate(TINY.genes)}
    row = np.zeros(len(TINY.genes), dtype=np.int64)
    row[genes["s1.depth"]] = 1  # two blocks
    row[genes["s1.b1.kernel"]] = 2  # 7
    features = Features(feasible)
    costs = {"macs": np.array([math.e**2]), "params": np.array([math.e]), "sram_bytes": np.array([0.0])}
    costs |= {"activations": np.array([math.e**3]), "narrowest": np.array([math.e]), "mean_log_macs": np.array([5.5])}
    said = features(row[None], costs)[0]
    assert said[0] == pytest.approx(math.log1p(40)), "resolution"
    kernels = features.blocks["kernel"]
    assert len(kernels) == 1 + 3 + 3 + 3 + 2
    mean = (3 + 3 + 7 + 3 + 3 + 3) / 6  # six blocks exist
    column = len(features.whole) + len(features.stages) + list(features.blocks).index("kernel")
    assert said[column] == pytest.approx(mean)
    # Sums over stages: depths that have a choice.
    depth = len(features.whole) + list(features.stages).index("depth")
    assert said[depth] == sum(TINY.genes[gene].choices[row[gene]] for gene in features.stages["depth"])
    # Logarithms of SRAM (of less than 1: 0), MACs and their square, parameters, activations, the narrowest; the last is one already.
    assert list(said[-7:]) == pytest.approx([0.0, 2.0, 4.0, 1.0, 3.0, 1.0, 5.5])
    assert len(said) == len(features.whole) + len(features.stages) + len(features.blocks) + 7 == len(features.weights)


def test_sizes_weigh_less_than_what_shows_of_them(feasible: Feasible) -> None:
    space = Space.model_validate({**TINY.model_dump(), "weight_bits": [8, 4]})
    features = Features(Feasible(space, 2, load_budget("stm32f746")))
    names = [space.genes[gene].name for gene in features.whole] + list(features.stages) + list(features.blocks)
    weights = dict(zip(names, features.weights, strict=False))
    assert weights["resolution"] == weights["depth"] == weights["kernel"] == weights["head.out"] == LESS
    assert weights["weight_bits"] == weights["head.weight_bits"] == 1.0, "which does not show in MACs"
    assert list(features.weights[len(names) :]) == [LESS, *[1.0] * 6], "SRAM; MACs, parameters and the anatomy"
    # A feature of weight w is held to nothing as one of weight 1 is by 1 / w^2: two points, x'x = 2 w^2.
    model = Linear(np.array([[1.0], [3.0]]), np.array([0.4, 0.6]), np.array([0.2]))
    assert model.predict(np.array([[3.0]]), model.weights)[0] == pytest.approx(0.5 + 0.1 * 2 * 0.04 / (2 * 0.04 + min(RIDGES)))


def test_a_choice_that_is_no_number_counts_by_its_place() -> None:
    space = Space.model_validate({"name": "both", "resolution": 16, "color": ["gray", "rgb"], "stages": [{"out": 8, "kernel": [3, 5]}]})
    features = Features(Feasible(space, 2, load_budget("stm32f746")))
    color = next(i for i, gene in enumerate(space.genes) if gene.name == "color")
    assert features.whole == [color], "genes without a choice are left out"
    assert list(features.values[color]) == [0.0, 1.0]


def test_bits_are_features_and_their_effect_is_found() -> None:
    space = Space.model_validate({**TINY.model_dump(), "weight_bits": [8, 4], "classifier_bits": [4, 8]})
    feasible = Feasible(space, 2, load_budget("stm32f746"))
    genes, features = space.gene_index, Features(feasible)
    assert features.stages["weight_bits"] == [genes[f"s{s}.weight_bits"] for s in range(len(space.stages))]
    assert {genes["head.weight_bits"], genes["classifier_bits"]} <= set(features.whole)
    rows = feasible.draw(60, np.random.default_rng(0))
    costs = feasible.costs(rows)
    bits = np.sum([features.values[gene][rows[:, gene]] for gene in features.stages["weight_bits"]], axis=0)
    assert bits.min() >= 4 * len(space.stages) and bits.max() <= 8 * len(space.stages)
    # Accuracy that falls with every stage of few bits, and with nothing else.
    model = Linear(features(rows, costs), 0.3 + 0.01 * bits)
    predicted = model.predict(features(rows, costs), model.weights)
    assert np.corrcoef(predicted, bits)[0, 1] > 0.98


# the fit ----------------------------------------------------------------------------------------------


def test_before_enough_networks_nothing_is_modelled(feasible: Feasible) -> None:
    nets, genotypes = grown(feasible, MODELLED)
    surrogate = Surrogate(feasible, 0.5)
    few = surrogate.fit(nets[:-1], genotypes)
    scores = [net.results[0].scores["accuracy"] - LOSS_WEIGHT for net in nets]
    assert few.model is None
    assert few.estimates == pytest.approx(scores[:-1])
    assert few.floor == pytest.approx(min(scores[:-1]) - 0.1)
    assert few.missed == 0.0
    assert surrogate.fit(nets, genotypes).model is not None


def test_estimates_lie_between_what_was_seen_and_what_is_predicted(feasible: Feasible) -> None:
    surrogate = Surrogate(feasible, 0.5)
    for epochs, part in ((2, 0.0), (4, 0.25), (8, 0.5), (32, 1.0)):
        nets, genotypes = grown(feasible, 12, epochs, surprise=0.2)
        fit = surrogate.fit(nets, genotypes)
        assert fit.model is not None
        seen = np.array(levelled(nets, lambda net, rung: score(net.results[rung].scores, 0.5)))
        looks = surrogate.look(np.array([genotypes[net.id] for net in nets]))
        predicted = fit.model.expected(looks.features, looks.genes)
        assert abs(seen - predicted).max() > 0.02, "or this tests nothing"
        assert fit.estimates == pytest.approx(part * seen + (1 - part) * predicted)
        assert fit.floor == pytest.approx(seen.min() - 0.1)
        assert fit.missed == pytest.approx((1 - part) * math.sqrt(((seen - predicted) ** 2).mean()))


def test_expected_accuracies_are_shares_of_trained_networks_without_the_loss(feasible: Feasible) -> None:
    _, genotypes = grown(feasible, 5)

    def net(number: int, accuracy: float, **more: bool) -> Net:
        return Net(str(number), number, 1e6, results=[Result(1, 1000, {"accuracy": accuracy, "val_loss": 1.0})], **more)

    surrogate = Surrogate(feasible, 0.5)
    nets = [net(0, 1.3), net(1, -0.2), net(2, 0.6), net(3, 0.7, failed=True), Net("4", 4, 1e6)]
    assert surrogate.expected_accuracies(nets, genotypes) == {"0": 1.0, "1": 0.0, "2": 0.6}
    assert surrogate.expected_accuracies(nets[3:], genotypes) == {}


@given(st.lists(st.tuples(st.floats(0.05, 0.95), st.integers(0, 12), st.sampled_from([1.0, SURE])), min_size=1, max_size=40))
def test_figures_in_order_are_the_nearest_that_rise_with_it(drawn: list[tuple[float, int, float]]) -> None:
    values, order, weights = (np.array(part, dtype=float) for part in zip(*drawn, strict=True))
    found = in_order(values, order, weights)
    for i, j in itertools.product(range(len(found)), repeat=2):
        assert (found[i] == found[j]) if order[i] == order[j] else (found[i] < found[j]) == (order[i] < order[j])
        assert order[i] == order[j] or abs(found[i] - found[j]) > 0.9 * APART
    # Of equal figures the mean; else the largest of the least means of what lies around, a rule of isotonic regression.
    levels = sorted(set(order))
    total = np.array([weights[order == level].sum() for level in levels])
    means = [(weights * values)[order == level].sum() / one for level, one in zip(levels, total, strict=True)]

    def mean(first: int, last: int) -> float:
        return float(np.average(means[first : last + 1], weights=total[first : last + 1]))

    count = len(levels)
    nearest = [max(min(mean(a, b) for b in range(i, count)) for a in range(i + 1)) for i in range(count)]
    assert [found[order == level][0] for level in levels] == pytest.approx(nearest, abs=2 * APART * count)


def test_what_is_sure_stays_and_the_rest_is_drawn_apart_around_it() -> None:
    weights = np.array([1.0, SURE, 1.0, 1.0])
    found = in_order(np.array([0.7, 0.7, 0.7, 0.7]), np.arange(4.0), weights)
    assert found - 0.7 == pytest.approx(APART * np.array([-1, 0, 1, 2]), abs=1e-12)
    # Forty that would be one figure below another that is sure, and at both ends.
    values = np.array([0.8] * 40 + [0.80001])
    found = in_order(values, np.arange(41.0), np.array([1.0] * 40 + [SURE]))
    assert found[-1] == pytest.approx(0.80001, abs=1e-9) and (np.diff(found) > 0.9 * APART).all() and found[0] > 0.8 - 41 * APART
    for end in (-0.5, 1.5):
        found = in_order(np.full(5, end), np.arange(5.0), np.ones(5))
        assert (np.diff(found) > 0.9 * APART).all() and found.min() >= 0.0 and found.max() <= 1.0
    # Without anything sure the middle stays.
    assert in_order(np.full(5, 0.5), np.arange(5.0), np.ones(5)).mean() == pytest.approx(0.5, abs=1e-9)


def test_what_is_expected_is_without_what_larger_networks_have_to_come(feasible: Feasible) -> None:
    def net(number: int, cost: float, *accuracies: float) -> Net:
        results = [
            Result(epochs, 1000 * epochs, {"accuracy": x, "val_loss": 1.0}) for epochs, x in zip((1, 2, 4), accuracies, strict=False)
        ]
        return Net(str(number), number, cost, results=results)

    _, genotypes = grown(feasible, 3)
    surrogate = Surrogate(feasible, 0.5)
    # Three networks are too few for a model: what is levelled is what is expected. An error fell to 0.8 and 0.75 of itself.
    nets = [net(0, 1e6, 0.5, 0.6, 0.7), net(1, math.e * 1e6, 0.5), net(2, 1e6 / math.e, 0.49)]
    expected = surrogate.expected_accuracies(nets, genotypes)
    assert expected == pytest.approx({"0": 0.7, "1": 0.7, "2": 1 - 0.51 * 0.6}, abs=1e-5)
    promised = surrogate.fit(nets, genotypes, itemgetter("accuracy")).estimates
    assert promised == pytest.approx([0.7, 1 - 0.3 * math.exp(-2 * GAIN_PER_FOLD), 1 - 0.51 * 0.6 * math.exp(2 * GAIN_PER_FOLD)])
    # In the order of the promises, though: the larger network is told before the one that showed as much.
    assert expected["2"] < expected["0"] < expected["1"]
    # Where it showed less it is told as much, and both as what lies between.
    nets[1] = net(1, math.e * 1e6, 0.49)
    expected = surrogate.expected_accuracies(nets, genotypes)
    assert expected["0"] < expected["1"] < expected["0"] + 1e-5
    assert expected["0"] == pytest.approx((0.7 + 1 - 0.51 * 0.6) / 2, abs=1e-5)


def test_what_was_trained_longest_and_far_is_told_as_it_was_seen(feasible: Feasible) -> None:
    def net(number: int, cost: float, *epochs: int) -> Net:
        seen = {"accuracy": 0.6 + 0.01 * number, "val_loss": 1.0}
        return Net(str(number), number, cost, results=[Result(one, 1000 * one, seen) for one in epochs])

    _, genotypes = grown(feasible, 6)
    nets = [net(n, 1e6 * (n + 1), *((1, 32) if n in (2, 4) else (1,))) for n in range(6)]
    # A larger one that showed less, briefly, promises more: it is told as much as the one that is known.
    larger = net(0, 5e8, 1)
    nets[5] = replace(larger, id="5", number=5, results=[Result(1, 1000, {"accuracy": 0.63, "val_loss": 1.0})])
    surrogate = Surrogate(feasible, 0.5)
    expected, promised = surrogate.expected_accuracies(nets, genotypes), surrogate.promised_accuracies(nets, genotypes)
    assert (promised["2"], promised["4"]) == (0.62, 0.64)
    assert (expected["2"], expected["4"]) == pytest.approx((0.62, 0.64), abs=1e-7)
    assert promised["5"] > 0.64 + 0.01 and 0.64 < expected["5"] < 0.64 + 1e-4


def test_looks_are_taken_and_put_together_network_by_network(feasible: Feasible) -> None:
    surrogate = Surrogate(feasible, 0.5)
    rows = feasible.draw(9, np.random.default_rng(4))
    whole, first = surrogate.look(rows), surrogate.look(rows[:4])
    assert len(whole) == 9
    assert np.array_equal(whole.genes, rows[:, list(feasible.acting)])
    assert np.array_equal(whole.features, surrogate.features(rows, feasible.costs(rows)))
    order = np.array([7, 0, 2])
    for said, told in ((whole.take(order), rows[order]), (first + whole.take(order), np.concatenate([rows[:4], rows[order]]))):
        expected = surrogate.look(told)
        assert np.array_equal(said.genotypes, told)
        assert said.features == pytest.approx(expected.features)
        assert np.array_equal(said.genes, expected.genes)
        assert said.costs["macs"] == pytest.approx(expected.costs["macs"])
    assert len(whole.take(np.zeros(0, dtype=np.int64))) == 0


# the acquisition --------------------------------------------------------------------------------------


def improvement(front: Front, scores: np.ndarray, log_costs: np.ndarray) -> np.ndarray:
    """Areas by which networks with these scores and log costs would raise the front."""
    heights, widths = front.steps(log_costs)
    return np.asarray((widths * np.maximum(0.0, scores[:, None] - heights)).sum(axis=1))


def test_improvement_by_hand() -> None:
    front = Front(np.array([0.5, 0.7]), np.array([1.0, 2.0]), 0.0, 4.0, 0.1)
    scores, costs = np.array([0.6, 0.4, 0.9, 0.3]), np.array([1.0, 1.5, 2.0, 0.0])
    # Above the 0.5 from 1 to 2; below it; above the 0.7 from 2 to 4; above the floor from 0 to 1.
    assert improvement(front, scores, costs) == pytest.approx([0.1, 0.0, 0.4, 0.2])
    # Of equal heights one stair is left, and what is worse and dearer than another, or as good, is none.
    heights, widths = Front(np.array([0.5, 0.7, 0.6, 0.7, 0.05]), np.array([1.0, 2.0, 2.5, 3.0, 0.5]), 0.0, 4.0, 0.1).steps(costs)
    assert heights.tolist() == [0.1, 0.5, 0.7]
    assert widths.tolist() == [[0.0, 1.0, 2.0], [0.0, 0.5, 2.0], [0.0, 0.0, 2.0], [1.0, 1.0, 2.0]]
    beaten = Front(np.array([0.7, 0.5]), np.array([1.0, 2.0]), 0.0, 4.0, 0.1)
    assert improvement(beaten, np.array([0.8]), np.array([2.0])) == pytest.approx([0.1 * 2])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_improvement_is_the_gain_of_hypervolume(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    scores, costs = rng.random(count + 1), rng.uniform(0.0, 4.0, count + 1)
    front = Front(scores[:-1], costs[:-1], 0.0, 4.0, -0.1)

    def volume(n: int) -> float:
        return pareto.hypervolume([(scores[i], costs[i]) for i in range(n)], (-0.1, 4.0), (True, False))

    gained = improvement(front, scores[-1:], costs[-1:])[0]
    assert gained == pytest.approx(volume(count + 1) - volume(count), abs=1e-9)


def test_the_box_is_a_little_wider_than_the_pool(feasible: Feasible) -> None:
    one = Acquisition(Surrogate(feasible, 0.5), "macs", np.array([2e6, 1e6, 4e6]))
    assert one.low == pytest.approx(math.log(0.95e6))
    assert one.high == pytest.approx(math.log(4.2e6))
    assert Acquisition(Surrogate(feasible, 0.5), "latency_ms", np.array([0.0, 1.0])).low == pytest.approx(math.log(1e-9))


@pytest.mark.parametrize("belief", ["regression", "process"])
def test_expected_improvement_is_the_mean_over_what_is_believed(feasible: Feasible, belief: str) -> None:
    surrogate = Surrogate(feasible, 0.5, belief=belief)
    nets, genotypes = grown(feasible, 12, surprise=0.1)
    one = Acquisition(surrogate, "params", np.array([1e4, 1e6]))
    fit = surrogate.fit(nets, genotypes)
    front = one.front(fit, nets)
    assert front.log_costs == pytest.approx([math.log(net.cost) for net in nets])
    assert (front.low, front.high, front.floor) == (one.low, one.high, fit.floor)
    looks = surrogate.look(feasible.draw(5, np.random.default_rng(9)))
    said = one.expected_improvement(fit, nets, looks)
    features, genes, costs = looks.features, looks.genes, looks.costs
    # Quantiles of each network's score in place of draws.
    normal = ndtri((np.arange(4000) + 0.5) / 4000)[:, None]
    if isinstance(fit.model, Linear):
        drawn = [(1.0, fit.model.expected(features, genes) + normal * fit.model.spread(features))]
    else:
        assert isinstance(fit.model, Process)
        beliefs = fit.model.beliefs(features, genes)
        drawn = [(share, 1 - remains - np.exp(-(middle + spread * normal.T).T)) for share, remains, middle, spread in beliefs]
    by_hand = sum(share * np.mean([improvement(front, row, np.log(costs["params"])) for row in scores], axis=0) for share, scores in drawn)
    assert said == pytest.approx(by_hand, rel=1e-2, abs=1e-6)
    assert said.max() > 0


@pytest.mark.parametrize("belief", ["regression", "process"])
def test_without_costs_improvements_are_those_of_the_best(feasible: Feasible, belief: str) -> None:
    surrogate = Surrogate(feasible, 0.5, belief=belief)
    nets, genotypes = grown(feasible, 12, surprise=0.1)
    fit, one = surrogate.fit(nets, genotypes), Acquisition(surrogate, "params", None)
    assert fit.model is not None
    looks = surrogate.look(feasible.draw(7, np.random.default_rng(9)))
    best = np.array([fit.estimates.max()])
    features, genes = looks.features, looks.genes
    assert one.expected_improvement(fit, nets, looks) == pytest.approx(fit.model.excess(features, genes, best)[:, 0])
    # What others train already counts as what is expected of it.
    awaited = as_genotype(looks.genotypes[int(np.argmax(fit.model.expected(features, genes)))])
    waited = np.maximum(best, fit.model.expected(features, genes).max())
    said = one.expected_improvement(fit, nets, looks, [awaited])
    assert said == pytest.approx(fit.model.excess(features, genes, waited)[:, 0])


def test_improvements_count_above_the_floor_and_scores_are_believed_as_they_are(feasible: Feasible) -> None:
    nets, genotypes = grown(feasible, 8)
    plain, floored = (Surrogate(feasible, 0.5, floor=floor).fit(nets, genotypes) for floor in (None, 0.45))
    assert floored.floor == 0.45 and floored.estimates == pytest.approx(plain.estimates)
    front = Front(np.array([0.3, 0.7]), np.array([1.0, 2.0]), 0.0, 4.0, 0.45)
    # From 1 to 2 above the floor, not above 0.3.
    assert improvement(front, np.array([0.5, 0.4]), np.array([1.0, 1.0])) == pytest.approx([0.05, 0.0])


@pytest.mark.parametrize("traded", [True, False])
def test_the_knowledge_gradient_is_the_mean_gain_of_the_front(feasible: Feasible, traded: bool) -> None:
    surrogate = Surrogate(feasible, 0.5)
    nets, genotypes = grown(feasible, 9, surprise=0.1)
    rungs = (1, 4, 8, 64)
    for i in (2, 5):
        nets[i].results.extend(Result(epochs, 1000, {"accuracy": 0.55, "val_loss": 1.0}) for epochs in (4, 8))
    one = Acquisition(surrogate, "macs", np.array([net.cost for net in nets]) if traded else None)
    fit = surrogate.fit(nets, genotypes)
    said = one.knowledge_gradients(fit, nets, rungs)
    assert fit.missed > LEAST_MISSED
    places = np.log([net.cost for net in nets]) if traded else np.zeros(len(nets))
    low, high = (one.low, one.high) if traded else (0.0, 1.0)

    def volume(scores: np.ndarray) -> float:
        return pareto.hypervolume(list(zip(scores.tolist(), places.tolist(), strict=True)), (fit.floor, high), (True, False))

    normal = ndtri((np.arange(800) + 0.5) / 800)
    for i, rung in ((0, 1), (0, 3), (4, 2), (5, 3), (int(np.argmax(fit.estimates)), 3)):
        trusted = trust([rungs[rung], nets[i].results[-1].epochs])
        moved = np.tile(fit.estimates, (len(normal), 1))
        moved[:, i] += DOUBT * fit.missed * math.sqrt(trusted[0] - trusted[1]) * normal
        by_hand = float(np.mean([volume(scores) for scores in moved])) - volume(fit.estimates)
        assert said[i, rung] == pytest.approx(by_hand, rel=0.05, abs=2e-6), (i, rung)
    assert low <= min(places)
    # Nothing for what is reached, and more for what is trusted more.
    assert not said[:, 0].any() and not said[[2, 5], :3].any()
    assert (said[0, 1:] > 0).all() and (np.diff(said[:, 1:], axis=1) >= -1e-12).all()


def test_a_model_that_misses_nothing_is_doubted_a_little(feasible: Feasible) -> None:
    surrogate = Surrogate(feasible, 0.5)
    nets, genotypes = grown(feasible, 9)
    fit = surrogate.fit(nets, genotypes)
    one = Acquisition(surrogate, "macs", np.array([net.cost for net in nets]))
    least = one.knowledge_gradients(replace(fit, missed=LEAST_MISSED), nets, (1, 8))
    assert one.knowledge_gradients(replace(fit, missed=0.0), nets, (1, 8)) == pytest.approx(least)
    assert least.any() and (one.knowledge_gradients(replace(fit, missed=0.02), nets, (1, 8)) >= least).all()
