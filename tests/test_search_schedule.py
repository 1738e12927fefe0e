"""The fidelity schedule and the proposers, without training anything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.budget import load_budget
from tinynas.config import load, shipped
from tinynas.search.feasible import Feasible, as_genotype, band, strata
from tinynas.search.pool import draw_pool
from tinynas.search.proposals import TURNS, Proposer
from tinynas.search.schedule import Continue, Finished, Net, New, Plan, Result, Schedule, Wait
from tinynas.space import Genotype, Space

RUNGS = (1, 3, 9)
TINY = load(shipped("search_spaces")["tiny"], Space)


def result(epochs: int, accuracy: float) -> Result:
    return Result(epochs, 1000 * epochs, {"accuracy": accuracy, "val_loss": 1.0})


def simulate(accuracies: list[float], costs: list[float], plan: Plan) -> tuple[dict[str, Net], list[tuple[str, int]]]:
    """Run a schedule to its end with known accuracies (which grow with the rung)."""
    schedule, nets, log = Schedule(plan, 0.1), {}, []
    for _ in range(10_000):
        decision = schedule.next(list(nets.values()))
        if isinstance(decision, Finished):
            return nets, log
        if isinstance(decision, New):
            number = len(nets)
            net = nets[str(number)] = Net(str(number), number, costs[number])
            rung = 0
        else:
            assert isinstance(decision, Continue)
            net, rung = decision.net, decision.rung
        assert rung == net.rung + 1, "a training is continued one rung at a time, never repeated"
        log.append((net.id, rung))
        net.results.append(result(plan.rungs[rung], accuracies[net.number] * (0.5 + 0.1 * rung)))
    raise AssertionError("the schedule does not end")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 4))
def test_every_network_starts_once_and_the_front_is_trained_in_full(seed: int, count: int, bands: int) -> None:
    rng = np.random.default_rng(seed)
    costs = [float(c) for c in np.exp(rng.uniform(0, 5, count))]
    accuracies = [float(a) for a in rng.random(count)]
    plan = Plan(RUNGS, 1000, strata(np.array(costs), bands), networks=count)
    nets, log = simulate(accuracies, costs, plan)
    assert [net.number for net in nets.values()] == list(range(count))
    assert len(set(log)) == len(log)
    known = [(net.results[-1].scores["accuracy"], net.cost) for net in nets.values()]
    from tinynas import pareto

    finished = [list(nets.values())[i] for i in pareto.front(known, (True, False)) if list(nets.values())[i].rung == len(RUNGS) - 1]
    best = max(nets.values(), key=lambda net: net.results[-1].scores["accuracy"])
    assert best in finished, "what is most accurate is trained in full"


def test_most_of_the_training_is_saved_and_each_band_goes_on() -> None:
    rng = np.random.default_rng(1)
    count = 60
    costs = [float(c) for c in np.exp(rng.uniform(0, 5, count))]
    accuracies = [0.3 + 0.1 * math.log(c) + 0.1 * float(e) for c, e in zip(costs, rng.random(count), strict=True)]
    plan = Plan(RUNGS, 1000, strata(np.array(costs), 4), networks=count)
    nets, _ = simulate(accuracies, costs, plan)
    spent = sum(net.results[-1].epochs for net in nets.values())
    assert spent < 0.65 * count * RUNGS[-1]
    second = [net for net in nets.values() if net.rung >= 1]
    assert len(second) >= count // 3
    assert {band(net.cost, plan.edges) for net in second} == {0, 1, 2, 3}
    # Within a band the better ones went on.
    for one in range(4):
        mine = [net for net in nets.values() if band(net.cost, plan.edges) == one]
        on = [accuracies[net.number] for net in mine if net.rung >= 1]
        off = [accuracies[net.number] for net in mine if net.rung < 1]
        if on and off:
            assert np.mean(on) > np.mean(off)


def test_what_runs_is_not_given_out_twice() -> None:
    plan = Plan(RUNGS, 1000, networks=3, eta=3)
    schedule = Schedule(plan, 0.1)
    nets = [Net(str(i), i, 1.0 + i) for i in range(3)]
    for net in nets:
        net.results.append(result(1, 0.1 + 0.1 * net.number))
    first = schedule.next(nets)
    assert isinstance(first, Continue)
    first.net.busy = True
    # One of three may go on; it runs; the rest must wait for it before the front is known.
    assert isinstance(schedule.next(nets), Wait)


def test_a_failed_network_is_left_alone() -> None:
    schedule = Schedule(Plan(RUNGS, 1000, networks=1), 0.1)
    net = Net("a", 0, 1.0, failed=True)
    assert isinstance(schedule.next([net]), New), "a failure does not use up a network"
    good = Net("b", 1, 1.0, results=[result(9, 0.5)] * 3)
    assert isinstance(schedule.next([net, good]), Finished)


def test_time_ends_exploring_and_only_what_fits_is_begun() -> None:
    plan = Plan(RUNGS, 1000, explore=0.6)
    schedule = Schedule(plan, 0.1)
    net = Net("a", 0, 1.0, seconds_per_image=0.01, results=[result(1, 0.5)])
    assert isinstance(schedule.next([net], progress=0.5, seconds_left=100), New)
    late = schedule.next([net], progress=0.7, seconds_left=100)
    assert isinstance(late, Continue), "the front goes on"
    assert late.rung == 1
    assert schedule.seconds(net, 1) == pytest.approx(20.0)
    # The last ones may be cut short, but not before their first epoch.
    assert isinstance(schedule.next([net], progress=0.7, seconds_left=11), Continue)
    assert isinstance(schedule.next([net], progress=0.7, seconds_left=9), Finished)


def proposer(seed: int = 0, **more: int) -> Proposer:
    feasible = Feasible(TINY, 2, load_budget("stm32f746"), max_macs=2e6)
    pool = draw_pool(feasible, 200, np.random.default_rng(0))
    plan = Plan(RUNGS, 1000, strata(pool.costs["macs"], 4))
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
    assert {"model", "tpe", "mutation", "pool"} <= set(sources[8:])


def test_proposals_but_tpes_fit_and_are_new() -> None:
    one = proposer()
    said = grow(one, 30)
    for index, (genotype, source) in enumerate(said):
        assert TINY.canonical(genotype) == genotype
        if source != "tpe":
            assert one.feasible.fits(one.feasible.costs(np.array([genotype])))[0]
            assert genotype not in [g for g, _ in said[:index]]


def test_tpe_learns_from_what_did_not_fit() -> None:
    one = proposer()
    said = grow(one, 12)
    nets = [Net(str(i), i, 1e6, results=[result(1, 0.5)]) for i in range(12)]
    genotypes = {str(i): g for i, (g, _) in enumerate(said)}
    refused = [(as_genotype(g), 0.4) for g in Feasible(TINY, 2, load_budget("stm32f746")).draw(5, np.random.default_rng(3))]
    number = next(n for n in range(12, 18) if TURNS[n % len(TURNS)] == "tpe")
    proposal = one.propose(number, nets, genotypes, refused)
    assert proposal.source == "tpe"
    assert all(0 <= i < len(g.choices) for i, g in zip(proposal.genotype, TINY.genes, strict=True))


def test_repair_of_a_proposal_is_new_and_fits() -> None:
    one = proposer()
    largest = TINY.canonical([len(g.choices) - 1 for g in TINY.genes])
    repaired = one.repair(largest, set())
    assert repaired is not None
    assert one.feasible.fits(one.feasible.costs(np.array([repaired])))[0]
    second = one.repair(largest, {repaired})
    assert second is not None
    assert second != repaired


def test_levelled_scores_compare_across_rungs() -> None:
    one = proposer()
    short = Net("a", 0, 1e6, results=[result(1, 0.55)])
    long = Net("b", 1, 1e6, results=[result(1, 0.5), result(3, 0.6)])
    levelled = one.levelled([short, long])
    assert levelled[0] > levelled[1], "0.55 after one epoch promises more than the 0.5 that became 0.6"


def test_the_model_finds_what_is_linear() -> None:
    one = proposer()
    truth = np.random.default_rng(5).normal(0, 0.05, len(one.feasible.acting))

    def accuracy(genotype: Genotype) -> float:
        row = np.array(genotype)[list(one.feasible.acting)] / (one.feasible.sizes[list(one.feasible.acting)] - 1)
        return float(0.5 + row @ truth)

    nets, genotypes = [], {}
    rows = np.random.default_rng(1).permutation(len(one.pool))[:60]
    for number, row in enumerate(rows):
        genotype = as_genotype(one.pool.genotypes[row])
        genotypes[str(number)] = genotype
        net = Net(str(number), number, float(one.pool.costs["macs"][row]))
        net.results.append(Result(1, 1000, {"accuracy": accuracy(genotype), "val_loss": 0.0}))
        nets.append(net)
    found = []
    for number in range(60, 84):
        proposal = one._modelled(np.random.default_rng(number), nets, genotypes, set(genotypes.values()), number)
        assert proposal is not None
        assert one.feasible.fits(one.feasible.costs(np.array([proposal.genotype])))[0]
        assert proposal.genotype not in genotypes.values()
        found.append(accuracy(proposal.genotype))
    everything = [accuracy(as_genotype(row)) for row in one.pool.genotypes]
    assert np.mean(found) > np.quantile(everything, 0.9), "well above what drawing at random gives"
