"""Who proposes the next network, without training anything."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection

from tinynas import pareto
from tinynas.budget import load_budget
from tinynas.config import load, shipped
from tinynas.search.feasible import Feasible, as_genotype, band, strata
from tinynas.search.pool import draw_pool
from tinynas.search.proposals import ASKED, Proposer, _key
from tinynas.search.schedule import Net, Plan, Result
from tinynas.search.surrogate import MODELLED, Fit
from tinynas.space import Genotype, Space

RUNGS = (1, 3, 9)
TINY = load(shipped("search_spaces")["tiny"], Space)


def result(epochs: int, accuracy: float) -> Result:
    return Result(epochs, 1000 * epochs, {"accuracy": accuracy, "val_loss": 1.0})


def proposer(seed: int = 0, *, traded: bool = True, **more: int) -> Proposer:
    feasible = Feasible(TINY, 2, load_budget("stm32f746"), max_macs=2e6)
    pool = draw_pool(feasible, 200, np.random.default_rng(0))
    plan = Plan(RUNGS, 1000, strata(pool.costs["macs"], 4), traded=traded)
    return Proposer(feasible, pool, plan, seed=seed, cost="macs", chance=0.5, **{"baseline": 4, "start": 4, **more})


def grow(one: Proposer, count: int) -> list[tuple[Genotype, str]]:
    nets: list[Net] = []
    genotypes: dict[str, Genotype] = {}
    said = []
    for number in range(count):
        proposal = one.propose(number, nets, genotypes, [])
        said.append((proposal.genotype, proposal.source))
        costs = one.feasible.costs(np.array([proposal.genotype]))
        genotypes[str(number)] = proposal.genotype
        net = Net(str(number), number, float(costs["macs"][0]))
        net.results.append(result(1, 0.5 + 0.05 * math.log10(net.cost)))
        nets.append(net)
    return said


def test_proposals_are_reproducible_and_begin_with_baseline_and_start() -> None:
    first, again = grow(proposer(), 24), grow(proposer(), 24)
    assert first == again
    assert grow(proposer(seed=1), 24) != first
    sources = [source for _, source in first]
    assert sources[:8].count("baseline") == 4
    assert sources[:8].count("start") == 4
    assert {"model"} <= set(sources[8:]) <= {"model", "tpe"}


def test_proposals_fit_and_are_new() -> None:
    one = proposer()
    said = [genotype for genotype, _ in grow(one, 30)]
    assert all(TINY.canonical(genotype) == genotype for genotype in said)
    assert one.feasible.fits(one.feasible.costs(np.array(said))).all()
    assert len(set(said)) == 30


def trained_by(one: Proposer) -> tuple[list[Net], dict[str, Genotype]]:
    said = grow(one, 12)
    return [Net(str(i), i, 1e6, results=[result(1, 0.5)]) for i in range(12)], {str(i): g for i, (g, _) in enumerate(said)}


def test_tpe_learns_from_what_did_not_fit_and_what_it_samples_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    one = proposer(samples=5)
    nets, genotypes = trained_by(one)
    known: list[optuna.trial.FrozenTrial] = []
    monkeypatch.setattr(optuna.Study, "add_trial", lambda study, trial: known.append(trial))
    refused = [(as_genotype(g), 0.4) for g in Feasible(TINY, 2, load_budget("stm32f746")).draw(5, np.random.default_rng(3))]
    sampled = one._tpe(np.random.default_rng(0), nets, genotypes, refused)
    assert [trial.state.name for trial in known] == ["COMPLETE"] * 12 + ["PRUNED"] * 5
    assert len(sampled) == 5
    assert one.feasible.fits(one.feasible.costs(np.array(sampled))).all()
    assert [TINY.canonical(genotype) for genotype in sampled] == sampled


def test_the_acquisition_chooses_among_what_tpe_samples_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    one = proposer(children=0)
    nets, genotypes = trained_by(one)
    fresh = [as_genotype(row) for row in one.pool.genotypes if as_genotype(row) not in genotypes.values()]
    large = TINY.canonical([len(gene.choices) - 1 for gene in TINY.genes])
    assert not one.feasible.fits(one.feasible.costs(np.array([large])))[0]
    # One that is known already, one that does not fit, and two that serve.
    monkeypatch.setattr(one, "_tpe", lambda *_: [genotypes["3"], large, *fresh[:2]])
    monkeypatch.setattr(one.acquisition, "expected_improvement", lambda fit, nets, looks, awaited: np.arange(len(looks)))
    for number in range(12, 20):
        said = one.propose(number, nets, genotypes, [])
        asked = number % ASKED == ASKED - 1
        assert (said.source, said.parent) == ("tpe" if asked else "model", None)
        if asked:
            assert said.genotype == fresh[1], "the last of the candidates"
    monkeypatch.setattr(one.acquisition, "expected_improvement", lambda fit, nets, looks, awaited: -np.arange(len(looks)))
    assert one.propose(15, nets, genotypes, []).source == "model", "the first of the candidates is of the pool"


def test_repair_of_a_proposal_is_new_and_fits() -> None:
    one = proposer()
    largest = TINY.canonical([len(g.choices) - 1 for g in TINY.genes])
    repaired = one.repair(largest, set())
    assert repaired is not None
    assert one.feasible.fits(one.feasible.costs(np.array([repaired])))[0]
    second = one.repair(largest, {repaired})
    assert second is not None
    assert second != repaired


def test_a_short_training_is_believed_less_than_a_long_one() -> None:
    one = proposer()
    said = grow(one, 12)
    genotypes = {str(i): g for i, (g, _) in enumerate(said)}

    def spread(rungs: int) -> float:
        nets = []
        for i, (genotype, _) in enumerate(said):
            cost = float(one.feasible.costs(np.array([genotype]))["macs"][0])
            surprise = 0.1 if i == 0 else 0.0
            nets.append(Net(str(i), i, cost, results=[result(RUNGS[r], 0.5 + surprise) for r in range(rungs)]))
        estimates = {name: outlook.score for name, outlook in one.outlooks(nets, genotypes).items()}
        return estimates["0"] - float(np.median(list(estimates.values())))

    assert 0 < spread(1) < spread(3)


def test_the_model_finds_networks_above_the_front() -> None:
    one = proposer()
    deep = [index for index, gene in enumerate(TINY.genes) if gene.name.endswith(".depth")]

    def accuracy(genotype: Genotype, macs: float) -> float:
        return 0.1 + 0.03 * math.log(macs) + 0.02 * sum(genotype[index] for index in deep)

    everything = [(accuracy(as_genotype(row), macs), macs) for row, macs in zip(one.pool.genotypes, one.pool.costs["macs"], strict=True)]

    def volume(points: list[tuple[float, float]]) -> float:
        return pareto.hypervolume([(a, math.log(m)) for a, m in points], (0.3, 15.0), (True, False))

    nets, genotypes = [], {}
    rows = np.random.default_rng(1).permutation(len(one.pool))

    def train(genotype: Genotype) -> tuple[float, float]:
        macs = float(one.feasible.costs(np.array([genotype]))["macs"][0])
        number = len(nets)
        genotypes[str(number)] = genotype
        scores = {"accuracy": accuracy(genotype, macs), "val_loss": 0.0}
        nets.append(Net(str(number), number, macs, results=[Result(RUNGS[r], 1000, scores) for r in range(3)]))
        return scores["accuracy"], macs

    seen = [train(as_genotype(one.pool.genotypes[row])) for row in rows[:10]]
    at_random = [everything[row] for row in rows[:40]]
    for number in range(10):
        proposal = one._acquired(np.random.default_rng(number), nets, genotypes, {_key(genotype) for genotype in genotypes.values()}, [])
        assert proposal is not None
        assert one.feasible.fits(one.feasible.costs(np.array([proposal.genotype])))[0]
        assert proposal.genotype not in genotypes.values()
        seen.append(train(proposal.genotype))
    assert volume(seen) > volume(at_random), "20 networks, half of them chosen, beat 40 drawn at random"


def test_the_start_goes_through_the_bands_dearest_first() -> None:
    one = proposer(baseline=0, start=4)
    said = grow(one, 4)
    assert [source for _, source in said] == ["start"] * 4
    macs = [float(one.feasible.costs(np.array([genotype]))["macs"][0]) for genotype, _ in said]
    edges = one.plan.edges
    # The number of the network halved says which band: two networks a band.
    assert [band(value, edges) for value in macs] == [3, 3, 2, 2]


def test_baseline_and_start_take_turns_and_what_is_left_of_either_follows() -> None:
    assert [source for _, source in grow(proposer(baseline=3, start=1), 5)] == ["baseline", "start", "baseline", "baseline", "model"]
    assert [source for _, source in grow(proposer(baseline=1, start=3), 5)] == ["baseline", "start", "start", "start", "model"]


def test_the_model_chooses_from_the_fourth_network_on() -> None:
    sources = [source for _, source in grow(proposer(baseline=0, start=0, samples=0), 16)]
    assert sources == ["pool"] * 4 + ["model"] * 12


def test_what_was_refused_is_not_proposed() -> None:
    one = proposer(baseline=0, start=8)
    first = one.propose(0, [], {}, [])
    second = one.propose(0, [], {}, [], refused={first.genotype})
    assert first.genotype != second.genotype
    whole = [as_genotype(row) for row in one.pool.genotypes]
    last = one.propose(0, [], {}, [], refused=set(whole[:7] + whole[8:]))
    assert last.genotype == whole[7]


def test_parents_are_the_front_and_the_next_where_it_is_short() -> None:
    nets = [Net(str(i), i, float(cost), results=[result(1, 0.5)]) for i, cost in enumerate([1, 2, 3, 4, 5, 6, 7, 2, 3])]
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.15, 0.1])
    one = proposer()
    # Seven on the front: enough. Of six the same; of five the second front as well, and not the third.
    for dropped, expected in ((0, {0, 1, 2, 3, 4, 5, 6}), (1, {1, 2, 3, 4, 5, 6}), (2, {2, 3, 4, 5, 6, 7})):
        fit = Fit(scores[dropped:], 0.0, 0.0, None)
        assert {net.number for net in one.parents(nets[dropped:], fit)} == expected


def test_without_a_front_the_best_are_the_parents_whatever_they_cost() -> None:
    nets = [Net(str(i), i, float(cost), results=[result(1, 0.5)]) for i, cost in enumerate([9, 8, 7, 6, 5, 4, 3, 2, 1, 10])]
    scores = np.array([0.1, 0.9, 0.3, 0.8, 0.5, 0.6, 0.7, 0.2, 0.4, 0.0])
    # Two times FINALISTS: one group is fewer than six.
    assert {net.number for net in proposer(traded=False).parents(nets, Fit(scores, 0.0, 0.0, None))} == {1, 3, 6, 5, 4, 8, 2, 7}


def test_without_a_front_the_dearest_are_proposed_where_they_are_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what follows the first eight networks: scores grow with MACs, so that only the dearest promise to be better."""
    studies: list[list[StudyDirection]] = []
    made = optuna.create_study

    def noted(**given: Any) -> optuna.Study:
        study = made(**given)
        studies.append(study.directions)
        return study

    monkeypatch.setattr(optuna, "create_study", noted)
    medians = {}
    for traded in (True, False):
        one = proposer(traded=traded)
        costs = one.feasible.costs(np.array([genotype for genotype, source in grow(one, 20) if source in ("model", "tpe")]))["macs"]
        medians[traded] = np.median(costs)
    assert medians[False] > 1.3 * medians[True]
    assert {tuple(one) for one in studies} == {(StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE), (StudyDirection.MAXIMIZE,)}


def test_repair_falls_back_on_the_nearest_of_the_pool_that_is_new() -> None:
    one = proposer()
    asked = as_genotype(one.pool.genotypes[5])
    assert one.repair(asked, set()) == asked, "what fits is its own repair"
    nearest = one.repair(asked, {asked})
    distances = one.feasible.distance(one.pool.genotypes, np.array(asked))
    others = [i for i in range(len(one.pool)) if i != 5]
    assert nearest == as_genotype(one.pool.genotypes[min(others, key=lambda i: distances[i])])
    everything = {as_genotype(row) for row in one.pool.genotypes}
    assert one.repair(asked, everything) == asked, "nothing new is left"


def test_candidates_are_new_fit_and_know_their_parents() -> None:
    one = proposer(children=20)
    said = grow(one, 12)
    genotypes = {str(i): genotype for i, (genotype, _) in enumerate(said)}
    chosen = [Net(str(i), i, 1e6) for i in (3, 9)]
    taken = {_key(genotype) for genotype, _ in said}
    looks, origins = one._candidates(np.random.default_rng(1), chosen, genotypes, taken)
    rows, parents = looks.genotypes, [parent for _, parent in origins]
    assert len(rows) == len(parents)
    assert {source for source, _ in origins} == {"model"}
    assert one.feasible.fits(one.feasible.costs(rows)).all()
    assert not {_key(row) for row in rows} & taken
    of_pool = [row for row, parent in zip(rows, parents, strict=True) if parent is None]
    assert len(of_pool) == len([row for row in one.pool.genotypes if _key(row) not in taken])
    changed = {"3": [], "9": []}
    for row, parent in zip(rows, parents, strict=True):
        if parent is not None:
            # Depth makes other genes idle: those that act differ in at most three.
            changed[parent].append(int((row != np.array(genotypes[parent])).sum()))
    assert all(1 <= len(counts) <= 20 for counts in changed.values())
    assert min(changed["3"] + changed["9"]) == 1
    assert not any(parents[: len(of_pool)])


def test_where_the_pool_is_used_up_networks_mutate() -> None:
    one = proposer(baseline=0, start=0)
    genotypes = {str(i): as_genotype(row) for i, row in enumerate(one.pool.genotypes)}
    nets = [Net("0", 0, 1e6, results=[result(1, 0.5)])]
    proposal = one.propose(200, nets, genotypes, [])
    assert (proposal.source, proposal.parent) == ("mutation", "0")
    assert proposal.genotype not in genotypes.values()
    assert one.feasible.fits(one.feasible.costs(np.array([proposal.genotype])))[0]
    assert one.propose(200, [], genotypes, []).source == "uniform", "of nothing nothing can be mutated"


def test_what_is_worth_knowing_is_asked_of_a_front_and_of_what_is_modelled() -> None:
    for traded in (True, False):
        one = proposer(traded=traded)
        said = grow(one, 8)
        genotypes = {str(i): genotype for i, (genotype, _) in enumerate(said)}
        costs = one.feasible.costs(np.array(list(genotypes.values())))["macs"]
        nets = [Net(str(i), i, float(cost), results=[result(1, 0.5 + 0.02 * (i % 3))]) for i, cost in enumerate(costs)]
        assert all(outlook.gains == () for outlook in one.outlooks(nets[: MODELLED - 1], genotypes).values())
        outlooks = one.outlooks(nets, genotypes)
        fit = one.surrogate.fit(nets, genotypes)
        assert [outlook.score for outlook in outlooks.values()] == pytest.approx(fit.estimates.tolist())
        gains = one.acquisition.knowledge_gradients(fit, nets, one.plan.rungs)
        assert [outlook.gains for outlook in outlooks.values()] == ([tuple(row) for row in gains.tolist()] if traded else [()] * 8)
