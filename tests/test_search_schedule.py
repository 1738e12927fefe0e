"""The fidelity schedule, without training anything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas import pareto
from tinynas.config import load, shipped
from tinynas.search.feasible import band, strata
from tinynas.search.schedule import (
    FINALISTS,
    GAIN_PER_FOLD,
    GAIN_WEIGHT,
    Continue,
    Finished,
    Net,
    New,
    Outlook,
    Plan,
    Result,
    Schedule,
    Wait,
    levelled,
    score,
    share_of_front,
)
from tinynas.space import Space

RUNGS = (1, 3, 9)
TINY = load(shipped("search_spaces")["tiny"], Space)


def result(epochs: int, accuracy: float) -> Result:
    return Result(epochs, 1000 * epochs, {"accuracy": accuracy, "val_loss": 1.0})


def believed(scores: dict[str, float]) -> dict[str, Outlook]:
    """Outlooks of networks of which no more is worth knowing than these scores."""
    return {name: Outlook(score) for name, score in scores.items()}


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
    known = list(nets.values())
    last = [(net.results[-1].scores["accuracy"], net.cost) for net in known]
    for i in pareto.front(last, (True, False)):
        if known[i].cost == max(net.cost for net in known):
            assert known[i].rung == len(RUNGS) - 1


@pytest.mark.parametrize(("deepen", "ramp"), [(0.3, 0), (0.5, 0), (0.7, 0), (0.5, 40)])
def test_the_front_gets_its_share_of_the_training_at_any_moment(deepen: float, ramp: int) -> None:
    rng = np.random.default_rng(1)
    count = 60
    costs = [float(c) for c in np.exp(rng.uniform(0, 5, count))]
    accuracies = [0.3 + 0.1 * math.log(c) + 0.1 * float(e) for c, e in zip(costs, rng.random(count), strict=True)]
    plan = Plan(RUNGS, 1000, strata(np.array(costs), 4), deepen, ramp, networks=count)
    nets, log = simulate(accuracies, costs, plan)
    spent = sum(net.results[-1].epochs for net in nets.values())
    assert spent < 0.6 * count * RUNGS[-1], "most of the training is saved"
    deep = total = 0
    for number, (_, rung) in enumerate(log, 1):
        new = RUNGS[rung] - (RUNGS[rung - 1] if rung else 0)
        total += new
        deep += new * (rung > 0)
        started = sum(r == 0 for _, r in log[:number])
        if started < count and number > 1:
            share = deepen * min(1.0, started / max(1, ramp))
            assert deep <= share * total + RUNGS[-1] - RUNGS[-2], "no more than its share, but for the last training"
            if rung == 1:
                assert deep < share * total
    full = [net for net in nets.values() if net.rung == len(RUNGS) - 1]
    assert len({band(net.cost, plan.edges) for net in full}) >= 3, "the front is served as a whole"
    left = [net for net in nets.values() if net.rung == 0]
    # What was left behind is worse than what went on, cost for cost.
    above = {net.number: accuracies[net.number] - 0.1 * math.log(net.cost) for net in nets.values()}
    assert np.mean([above[net.number] for net in full]) > np.mean([above[net.number] for net in left]) + 0.02


def test_the_score_that_was_asked_for_decides_who_goes_on() -> None:
    """Eight networks, of which the more accurate four serve somebody badly."""
    nets = [
        Net(str(i), i, 1.0 + i, results=[Result(1, 1000, {"accuracy": 0.8 - 0.01 * i, "worst": 0.1 if i < 4 else 0.7, "val_loss": 1.0})])
        for i in range(8)
    ]
    for counted, expected in (("accuracy", {0, 1, 2, 3}), ("worst", {4, 5, 6, 7})):
        schedule = Schedule(Plan(RUNGS, 1000, networks=8, traded=False, counted=counted), 0.1)
        went_on = set()
        for _ in range(4):
            decision = schedule.next([net for net in nets if net.number not in went_on or net.results])
            assert isinstance(decision, Continue)
            went_on.add(decision.net.number)
            decision.net.busy = True
        assert went_on == expected
        for net in nets:
            net.busy = False
    with pytest.raises(KeyError):
        score({"accuracy": 0.5, "val_loss": 1.0}, 0.1, "worst")


def test_what_runs_is_not_given_out_twice() -> None:
    schedule = Schedule(Plan(RUNGS, 1000, networks=3), 0.1)
    nets = [Net(str(i), i, 1.0 + i) for i in range(3)]
    for net in nets:
        net.results.append(result(1, 0.1 + 0.1 * net.number))
    given = []
    for _ in range(3):
        decision = schedule.next(nets)
        assert isinstance(decision, Continue)
        decision.net.busy = True
        given.append(decision.net.number)
    assert given == [2, 1, 0], "the dearest of the front first"
    assert isinstance(schedule.next(nets), Wait)


def test_estimates_decide_who_goes_on() -> None:
    schedule = Schedule(Plan(RUNGS, 1000, networks=2), 0.1)
    nets = [Net("a", 0, 1.0, results=[result(1, 0.5)]), Net("b", 1, 2.0, results=[result(1, 0.4)])]
    first = schedule.next(nets)
    assert isinstance(first, Continue)
    assert first.net.id == "a", "b costs more and showed less"
    second = schedule.next(nets, believed({"a": 0.5, "b": 0.6}))
    assert isinstance(second, Continue)
    assert second.net.id == "b"


def test_what_is_off_the_front_goes_on_only_when_time_is_left_over() -> None:
    front = Net("a", 0, 1.0, seconds_per_image=0.01, results=[result(e, 0.5) for e in RUNGS])
    behind = Net("b", 1, 2.0, seconds_per_image=0.01, results=[result(1, 0.4)])
    timed = Schedule(Plan(RUNGS, 1000, explore=0.5), 0.1).next([front, behind], progress=0.8, seconds_left=100)
    assert isinstance(timed, Continue)
    assert timed.net is behind
    counted = Schedule(Plan(RUNGS, 1000, networks=2), 0.1)
    assert isinstance(counted.next([front, behind]), Finished)
    assert isinstance(Schedule(Plan(RUNGS, 1000), 0.1).next([front, behind], exhausted=True), Continue)


def test_a_failed_network_is_left_alone() -> None:
    schedule = Schedule(Plan(RUNGS, 1000, networks=1), 0.1)
    net = Net("a", 0, 1.0, failed=True)
    assert isinstance(schedule.next([net]), New), "a failure does not use up a network"
    good = Net("b", 1, 1.0, results=[result(9, 0.5)] * 3)
    assert isinstance(schedule.next([net, good]), Finished)


def test_time_ends_exploring_and_only_what_fits_is_begun() -> None:
    plan = Plan(RUNGS, 1000, deepen=0.0, explore=0.6)
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


def accuracy_of(net: Net, rung: int) -> float:
    return net.results[rung].scores["accuracy"]


def test_levelled_scores_compare_across_rungs() -> None:
    short = Net("a", 0, 1e6, results=[result(1, 0.55)])
    long = Net("b", 1, 1e6, results=[result(1, 0.5), result(3, 0.6)])
    # Four errors of five are left: of 0.45 it is 0.36.
    assert levelled([short, long], accuracy_of) == pytest.approx([0.64, 0.6])
    assert levelled([short], accuracy_of) == [0.55]
    # However much others gained, nobody is expected to be more than right.
    good, great = Net("c", 2, 1e6, results=[result(1, 0.95)]), Net("d", 3, 1e6, results=[result(1, 0.3), result(3, 0.98)])
    assert 0.99 < levelled([good, great], accuracy_of)[0] < 1.0


def test_dearer_networks_are_expected_to_gain_more() -> None:
    e = math.e
    long = Net("a", 0, 1e6, results=[result(1, 0.5), result(3, 0.6)])
    dear, cheap = Net("b", 1, 1e6 * e, results=[result(1, 0.5)]), Net("c", 2, 1e6 / e, results=[result(1, 0.5)])
    # One gain was seen: its slope is the prior's.
    fold = math.exp(-GAIN_PER_FOLD)
    assert levelled([long, dear, cheap], accuracy_of) == pytest.approx([0.6, 1 - 0.4 * fold, 1 - 0.4 / fold])
    # A second, one e-fold dearer, of which three errors of five are left: slope ((difference) * 1 / 2 + prior) / (1 / 2 + weight).
    more = Net("d", 3, 1e6 * e, results=[result(1, 0.5), result(3, 0.7)])
    slope = (math.log(0.8 / 0.6) / 2 + GAIN_WEIGHT * GAIN_PER_FOLD) / (0.5 + GAIN_WEIGHT)
    assert levelled([long, more, dear], accuracy_of)[2] == pytest.approx(1 - 0.5 * math.sqrt(0.8 * 0.6) * math.exp(-slope / 2))


# single decisions, by hand ----------------------------------------------------------------------------


def trained(number: int, cost: float, *accuracies: float, busy: bool = False, failed: bool = False) -> Net:
    results = [result(RUNGS[rung], accuracy) for rung, accuracy in enumerate(accuracies)]
    return Net(str(number), number, cost, 0.01, results, busy=busy, failed=failed)


def test_a_score_is_accuracy_less_a_tenth_of_the_loss_which_counts_to_twice_guessing() -> None:
    assert score({"accuracy": 0.6, "val_loss": 0.5}, 0.1) == pytest.approx(0.55)
    assert score({"accuracy": 0.6}, 0.1) == 0.6
    # Guessing among ten has a loss of ln 10; no loss counts for more than two of those.
    assert score({"accuracy": 0.6, "val_loss": 99.0}, 0.1) == pytest.approx(0.6 - 0.1 * 2 * math.log(10))


def test_the_share_of_the_front_is_what_was_trained_beyond_the_first_rung() -> None:
    schedule = Schedule(Plan(RUNGS, 1000, deepen=0.5, networks=99), 0.1)
    # With the next two epochs 4 of 8 would have gone into the front: the half, and a network is started.
    nets = [trained(0, 2.0, 0.5, 0.6), trained(1, 1.0, 0.4), trained(2, 1.5, 0.1), trained(7, 1.4, 0.1)]
    assert isinstance(schedule.next(nets), New)
    # Of 9: less than the half, somebody goes on.
    owing = [*nets, trained(8, 1.3, 0.1)]
    decision = schedule.next(owing)
    assert isinstance(decision, Continue)
    # A training under way counts as done: 10 of 15 epochs then.
    owing[0].busy = True
    assert isinstance(schedule.next(owing), New)
    # What is trained as far as it goes is counted there while it runs again: 10 of 12 epochs; what failed counts for nothing.
    done = trained(3, 9.0, 0.5, 0.6, 0.7, busy=True)
    assert isinstance(schedule.next([done, trained(4, 1.0, 0.1)]), New)
    lost = trained(5, 1.0, 0.5, 0.6, 0.7, failed=True)
    assert isinstance(schedule.next([lost, *(trained(i, 1.0, 0.1) for i in (6, 7, 8))]), Continue)
    assert isinstance(schedule.next([lost, *(trained(i, 1.0, 0.1) for i in (6, 7))]), New)


def test_the_share_of_the_front_grows_with_the_networks() -> None:
    assert [share_of_front(0.5, 48, started) for started in (0, 12, 48, 200)] == [0.0, 0.125, 0.5, 0.5]
    assert share_of_front(0.5, 0, 0) == 0.5
    schedule = Schedule(Plan((1, 2), 1000, deepen=0.5, ramp=8, networks=99), 0.1)
    # One more epoch of four networks' five would be a fifth, of a share of a quarter; of three's four a quarter, of 0.1875.
    assert isinstance(schedule.next([trained(i, 1.0 + i, 0.1 * i) for i in range(4)]), Continue)
    assert isinstance(schedule.next([trained(i, 1.0 + i, 0.1 * i) for i in range(3)]), New)
    assert isinstance(Schedule(Plan((2,), 1000, networks=99), 0.1).next([trained(0, 1.0, 0.1)]), New), "one rung: nothing to deepen"


def test_the_least_trained_of_the_front_goes_first_then_the_dearest_then_the_oldest() -> None:
    plan = Plan(RUNGS, 1000, networks=3)
    schedule = Schedule(plan, 0.1)
    far, near = trained(0, 3.0, 0.5, 0.9), trained(1, 1.0, 0.2)
    decision = schedule.next([far, near, trained(2, 2.0, 0.3)], believed({"0": 0.9, "1": 0.2, "2": 0.3}))
    assert isinstance(decision, Continue)
    assert (decision.net.number, decision.rung) == (2, 1)
    twins = [trained(1, 2.0, 0.3), trained(0, 2.0, 0.3)]
    decision = Schedule(Plan(RUNGS, 1000, networks=2), 0.1).next(twins, believed({"0": 0.3, "1": 0.3}))
    assert isinstance(decision, Continue)
    assert decision.net.number == 0


def test_what_an_epoch_gains_most_by_goes_on() -> None:
    nets = [trained(0, 1.0, 0.5), trained(1, 2.0, 0.6), trained(2, 3.0, 0.4, 0.5), trained(3, 4.0, 0.7, 0.8, 0.9)]
    nets[1].seconds_per_image *= 100  # of a number of networks no time decides
    schedule = Schedule(Plan(RUNGS, 1000, deepen=0.9, networks=9), 0.1)

    def goes_on(gains: dict[str, tuple[float, ...]], scores: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8)) -> tuple[int, int]:
        outlooks = {str(i): Outlook(score, gains.get(str(i), (0.0,) * 3)) for i, score in enumerate(scores)}
        decision = schedule.next(nets, outlooks)
        assert isinstance(decision, Continue)
        return decision.net.number, decision.rung

    # To 3 epochs from 1, to 9 from 1, to 9 from 3: 0.01 / 2, 0.048 / 8 and 0.024 / 6 an epoch; on the way to 9 comes 3.
    assert goes_on({"0": (0.0, 0.01, 0.01), "1": (0.0, 0.0, 0.048), "2": (0.0, 0.0, 0.024)}) == (1, 1)
    assert goes_on({"0": (0.0, 0.01, 0.01), "1": (0.0, 0.0, 0.032), "2": (0.0, 0.0, 0.024)}) == (0, 1)
    assert goes_on({"0": (0.0, 0.006, 0.0), "1": (0.0, 0.0, 0.024), "2": (0.0, 0.0, 0.024)}) == (2, 2)
    # What was reached gains nothing more, whatever is said of it.
    assert goes_on({"0": (9.0, 0.01, 0.0), "2": (9.0, 9.0, 0.0), "3": (9.0, 9.0, 9.0)}) == (0, 1)
    # Off the front, of its second rank, only where that is worth something.
    behind = (0.5, 0.6, 0.55, 0.8)
    assert goes_on({"2": (0.0, 0.0, 1e-9)}, behind) == (2, 2)
    assert goes_on({}, behind) == (1, 1)
    for net in nets:
        net.seconds_per_image = 0.001
    timed = Schedule(Plan(RUNGS, 1000, explore=0.5), 0.1)
    # 8 epochs of a second to the last rung are too long for what is left; the next rung is not.
    outlooks = {
        str(i): Outlook(0.5 + 0.1 * i, gain) for i, gain in enumerate([(0.0, 0.01, 9.0), (0.0, 0.02, 0.02), (0.0,) * 3, (0.0,) * 3])
    }
    for left, number in ((100.0, 0), (8.0, 0), (7.9, 1), (2.0, 1)):
        decision = timed.next(nets, outlooks, progress=0.9, seconds_left=left)
        assert isinstance(decision, Continue) and decision.net.number == number, left
    # By time it is a second that counts, not an epoch.
    outlooks = {str(i): Outlook(0.5 + 0.1 * i, gain) for i, gain in enumerate([(0.0, 0.01, 0.0), (0.0, 0.02, 0.0), (0.0,) * 3, (0.0,) * 3])}
    nets[0].beyond = 3
    free = timed.next(nets, outlooks, progress=0.9, seconds_left=100.0)
    assert isinstance(free, Continue) and free.net is nets[0], "it was trained so far already"
    nets[0].beyond = 0
    for slower, number in ((1.9, 1), (2.1, 0)):
        nets[1].seconds_per_image = 0.001 * slower
        decision = timed.next(nets, outlooks, progress=0.9, seconds_left=100.0)
        assert isinstance(decision, Continue) and decision.net.number == number


def test_a_search_of_so_many_networks_ends_with_its_front_whatever_may_be_gained() -> None:
    front, behind = trained(0, 1.0, 0.7, 0.8, 0.9), trained(1, 2.0, 0.5)
    outlooks = {"0": Outlook(0.9), "1": Outlook(0.5, (0.0, 1.0, 1.0))}
    assert isinstance(Schedule(Plan(RUNGS, 1000, networks=2), 0.1).next([front, behind], outlooks), Finished)
    going = Schedule(Plan(RUNGS, 1000, networks=3), 0.1).next([front, behind], outlooks)
    assert isinstance(going, New), "the front has had more than its share"
    deep = Schedule(Plan(RUNGS, 1000, deepen=0.9, networks=3), 0.1).next([front, behind], outlooks)
    assert isinstance(deep, Continue) and deep.net is behind
    assert isinstance(Schedule(Plan(RUNGS, 1000, deepen=0.9, networks=3), 0.1).next([front, behind], believed({"0": 0.9, "1": 0.5})), New)


def test_time_that_is_left_goes_to_the_next_fronts_in_order() -> None:
    schedule = Schedule(Plan(RUNGS, 1000, explore=0.5), 0.1)
    best, second, third = trained(0, 1.0, 0.9, 0.9, 0.9), trained(1, 3.0, 0.5, 0.6), trained(2, 2.0, 0.4)
    outlooks = believed({"0": 0.9, "1": 0.6, "2": 0.5})
    decision = schedule.next([best, second, third], outlooks, progress=0.9, seconds_left=1000)
    assert isinstance(decision, Continue)
    # Cheaper and dearer, worse and better: both are on the second front, the less trained of them goes on.
    assert decision.net is third
    decision = schedule.next(
        [best, second, trained(3, 4.0, 0.1)], believed({"0": 0.9, "1": 0.6, "3": 0.1}), progress=0.9, seconds_left=1000
    )
    assert isinstance(decision, Continue)
    assert decision.net is second, "a front before the one behind it, whatever their rungs"


def test_seconds_count_from_where_a_training_was_cut_short() -> None:
    schedule = Schedule(Plan(RUNGS, 1000), 0.1)
    net = trained(0, 1.0, 0.5)
    assert schedule.seconds(net, 2) == pytest.approx((9 - 1) * 1000 * 0.01)
    net.beyond = 2
    assert schedule.seconds(net, 1) == pytest.approx((3 - 2) * 1000 * 0.01)
    assert schedule.seconds(Net("a", 0, 1.0, 0.01), 0) == pytest.approx(1000 * 0.01)
    assert schedule.value(trained(0, 1.0, 0.5, 0.7)) == pytest.approx(0.6)
    assert schedule.value(trained(0, 1.0, 0.5, 0.7), 0) == pytest.approx(0.4)


def test_what_fits_to_the_second_is_begun() -> None:
    plan = Plan(RUNGS, 1000, deepen=0.9, explore=0.6)
    schedule = Schedule(plan, 0.1)
    net = trained(0, 1.0, 0.5)
    # While exploring, the whole rung (two epochs of 10 s) must fit; afterwards its first epoch.
    assert isinstance(schedule.next([net], progress=0.5, seconds_left=20.0), Continue)
    assert isinstance(schedule.next([net], progress=0.5, seconds_left=19.9), New)
    assert isinstance(schedule.next([net], progress=0.6, seconds_left=10.0), Continue), "exploring ends at its share"
    assert isinstance(schedule.next([net], progress=0.6, seconds_left=9.9), Finished)


def test_an_end_says_why() -> None:
    timed, counted = Schedule(Plan(RUNGS, 1000, explore=0.5), 0.1), Schedule(Plan(RUNGS, 1000, networks=1), 0.1)
    full = trained(0, 1.0, 0.5, 0.6, 0.7)
    said = timed.next([full], progress=0.9, seconds_left=5.0)
    assert said == Finished("the time is used: no training fits in what is left")
    assert timed.next([full], progress=1.0, seconds_left=5.0) == Finished("every network is trained as far as it deserves")
    assert counted.next([full]) == Finished("every network is trained as far as it deserves")
    # Nothing was started in all the exploring time: something is, as long as there is any.
    assert isinstance(timed.next([], progress=0.9, seconds_left=5.0), New)
    assert isinstance(counted.next([]), New)
    assert isinstance(counted.next([trained(0, 1.0, busy=True)]), Wait)
    assert isinstance(counted.next([trained(0, 1.0, 0.5, 0.6, 0.7, busy=True)]), Wait)


def test_levelling_never_predicts_a_loss_that_was_not_seen() -> None:
    e = math.e
    long = trained(0, 1e6, 0.5, 0.6)
    cheap = trained(1, 1e6 / e**30, 0.5)
    # The line would take 30 times the prior's slope from a gain of 0.1; no network was seen to lose.
    assert levelled([long, cheap], accuracy_of)[1] == pytest.approx(0.5)
    # One was seen to lose 0.2: so much may be lost, and no more.
    lost = trained(2, 1e6, 0.5, 0.3)
    assert levelled([long, lost, cheap], accuracy_of)[2] == pytest.approx(0.3)


def test_levelling_adds_up_over_rungs() -> None:
    full, middle, short = trained(0, 1e6, 0.5, 0.6, 0.8), trained(1, 1e6, 0.4, 0.6), trained(2, 1e6, 0.3)
    # Of errors 0.5 to 0.4 and 0.6 to 0.4 from the first to the second rung, a half from there.
    assert levelled([full, middle, short], accuracy_of) == pytest.approx([0.8, 0.8, 1 - 0.7 * math.sqrt(0.8 * 2 / 3) / 2])


def test_where_nothing_is_traded_the_best_few_are_deepened_whatever_they_cost() -> None:
    accuracies = [0.5, 0.9, 0.3, 0.8, 0.7, 0.6, 0.2]
    plan = Plan(RUNGS, 1000, deepen=0.5, networks=len(accuracies), traded=False)
    # The dearest is the worst, the cheapest the best: on a front all would be.
    costs = [3.0, 1.0, 5.0, 2.0, 2.5, 2.7, 9.0]
    nets, _ = simulate(accuracies, costs, plan)
    deepest = {net.number for net in nets.values() if net.rung == len(RUNGS) - 1}
    assert {1, 3, 4, 5} <= deepest and FINALISTS == 4
    assert not {6, 2} & deepest
    fronted, _ = simulate(accuracies, costs, Plan(RUNGS, 1000, deepen=0.5, networks=len(accuracies)))
    assert {net.number for net in fronted.values() if net.rung == len(RUNGS) - 1} != deepest


def test_of_the_best_few_the_least_trained_goes_on_and_of_those_the_dearest() -> None:
    def net(number: int, cost: float, accuracies: list[float]) -> Net:
        return Net(str(number), number, cost, results=[result(r, a) for r, a in zip(RUNGS, accuracies, strict=False)])

    plan = Plan(RUNGS, 1000, deepen=0.5, networks=5, traded=False)
    nets = [net(0, 1.0, [0.5, 0.8]), net(1, 2.0, [0.6]), net(2, 3.0, [0.5]), net(3, 4.0, [0.5, 0.6]), net(4, 9.0, [0.1])]
    outlooks = believed({"0": 0.8, "1": 0.7, "2": 0.75, "3": 0.65, "4": 0.1})
    decision = Schedule(plan, 0.1).next(nets, outlooks)
    assert decision == Continue(nets[2], 1)
    # The last is no finalist, but when the time is to be used up it comes after them.
    timed = Plan(RUNGS, 1000, explore=0.5, traded=False)
    done = [net(i, 1.0, [0.5, 0.6, 0.7]) for i in range(FINALISTS)]
    decision = Schedule(timed, 0.1).next([*done, net(4, 9.0, [0.1])], progress=0.9, seconds_left=1e9)
    assert isinstance(decision, Continue) and decision.net.number == 4
