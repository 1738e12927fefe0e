"""Strategies and settings as tables; the clock and the plan of a run."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from tinynas.api import PreparedSearch
from tinynas.arch import classes_for
from tinynas.config import build
from tinynas.errors import ConfigError, RunError
from tinynas.objectives import OBJECTIVES, objectives
from tinynas.recipe import LEAST_IMAGES
from tinynas.records import Trial
from tinynas.search import clock as clocks
from tinynas.search import prepare
from tinynas.search.clock import WRITE_UP, Clock, age_of, boot
from tinynas.search.feasible import COSTS, Pool
from tinynas.search.genes import distributions, genotype_of, params_of
from tinynas.search.prepare import RunPlan, Speed, cost_of, max_trainable_macs, plan_epochs, reference
from tinynas.search.settings import SearchSettings
from tinynas.search.strategies import STRATEGIES, Plain, Staged
from tinynas.space import Space


def test_every_strategy_is_named_by_its_key_and_chosen_by_it() -> None:
    assert list(STRATEGIES) == [strategy.name for strategy in STRATEGIES.values()]
    for name in STRATEGIES:
        assert build({"strategy": name}, SearchSettings, source="here").strategy == name
    with pytest.raises(ConfigError, match='did you mean "random"') as caught:
        build({"strategy": "randon"}, SearchSettings, source="here")
    assert "must be one of 'tinynas' or 'tpe'" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_new_strategy_is_one_line(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    quasi = Plain("qmc", lambda seed: optuna.samplers.RandomSampler(seed=seed + 1))
    monkeypatch.setitem(STRATEGIES, "qmc", quasi)
    one = prepared(trials=2, strategy="qmc")
    assert one.go().counts.trained == 2
    assert {trial.source for trial in one.run.trials()} == {"qmc"}


def test_rungs_and_exploring_are_the_strategys() -> None:
    ours, plain = Staged("ours"), STRATEGIES["random"]
    assert ours.rungs([4, 1, 2, 2], timed=False) == (1, 2, 4)
    assert ours.rungs([1, 4], timed=True) == (1, 4, 8, 16)
    assert plain.rungs([4, 1], timed=True) == plain.rungs([4, 1], timed=False) == (4,)
    assert ours.explore(0.7) == 0.7
    assert plain.explore(0.7) == 1.0
    assert [s.name for s in STRATEGIES.values() if s.hands_over] == [s.name for s in STRATEGIES.values() if s.narrows] == ["tinynas"]


def test_only_nsga2_is_told_scores_of_what_does_not_fit() -> None:
    goals = objectives(("accuracy", "macs"))
    over = Trial(0, "a", "infeasible", "nsga2", costs={"macs": 5.0, "latency_ms": None})
    told = {name: strategy.refused_values(over, goals) for name, strategy in STRATEGIES.items()}
    assert told == {**dict.fromkeys(STRATEGIES, None), "nsga2": [0.0, 5.0]}
    nsga2 = STRATEGIES["nsga2"]
    assert nsga2.refused_values(dataclasses.replace(over, state="duplicate"), goals) is None
    assert nsga2.refused_values(over, objectives(("accuracy", "latency"))) is None, "unknown is not 0 ms"


def test_genes_without_a_choice_are_not_optunas() -> None:
    space = Space.model_validate({"name": "s", "resolution": [16, 24, 32], "stages": [{"out": 8, "depth": [1, 2], "kernel": [3, 5]}]})
    known = distributions(space)
    assert known["resolution"].low == 0
    assert known["resolution"].high == 2
    assert all(d.high >= 1 for d in known.values())
    genotype = space.canonical([len(gene.choices) - 1 for gene in space.genes])
    params = params_of(space, genotype)
    assert set(params) == set(known)
    assert genotype_of(space, params) == genotype


# the clock --------------------------------------------------------------------------------------------


def test_a_clock_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 130.0)
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    clock = Clock.begun(100.0, 60.0)
    assert clock == Clock(100.0, 60.0, 160.0 - WRITE_UP)
    assert clock.progress() == 0.5
    assert clock.seconds_left() == 28.0
    assert Clock.begun(0.0, 60.0).progress() == 1.0, "never more"
    document = json.loads(json.dumps(clock.to_json()))
    assert document == {"deadline": 5028.0, "timeout": 60.0, "left": 28.0, "monotonic": 158.0, "boot": boot()}
    endless = Clock.begun(100.0, None)
    assert (endless.progress(), endless.seconds_left(), endless.deadline) == (0.0, math.inf, None)
    assert Clock.from_json(endless.to_json(), 3.0).deadline is None
    assert Clock.from_json(None, 3.0) == Clock(130.0)


@pytest.mark.parametrize("step", [-1e6, -50.0, 0.0, 3600.0])
def test_a_process_that_joins_does_not_go_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 130.0)
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    document = json.loads(json.dumps({**Clock.begun(100.0, 60.0).to_json(), "boot": "here"}))
    monkeypatch.setattr(time, "time", lambda: 5007.0 + step)
    # The same machine, 7 s later: its monotonic time counts, whatever the disk says of the age.
    monkeypatch.setattr(clocks, "boot", lambda: "here")
    monkeypatch.setattr(time, "monotonic", lambda: 137.0)
    assert Clock.from_json(document, 7.0 + step) == Clock(100.0, 60.0, 158.0)
    # Another, whose own time began elsewhere: what was left less the age.
    monkeypatch.setattr(clocks, "boot", lambda: "there")
    monkeypatch.setattr(time, "monotonic", lambda: 1137.0)
    assert Clock.from_json(document, 7.0) == Clock(1100.0, 60.0, 1158.0)
    assert Clock.from_json(document, -1000.0).seconds_left() == 28.0, "never more than was left"
    assert Clock.from_json(document, 1000.0).seconds_left() == 0.0, "never less than nothing"
    # A machine that does not say who it is (no Linux) is another.
    monkeypatch.setattr(clocks, "boot", lambda: None)
    assert Clock.from_json({**document, "boot": None}, 7.0).seconds_left() == 21.0


def test_a_copied_machine_does_not_search_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 9000.0)
    document = Clock.begun(9000.0, 60.0).to_json()
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    assert Clock.from_json(document, 0.0).seconds_left() == 58.0


def test_what_version_0_2_0_wrote_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    for deadline, left in ((5010.0, 10.0), (4000.0, 0.0), (99999.0, 60.0 - 2.0)):
        assert Clock.from_json({"deadline": deadline, "timeout": 60.0}, 2.0).seconds_left() == left


def test_the_age_of_a_file_is_the_disks(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    assert age_of(path) == 0.0
    path.write_text("{}")
    os.utime(path, (time.time() - 500, time.time() - 500))
    assert 499 < age_of(path) < 560
    assert [one.name for one in tmp_path.iterdir()] == ["clock.json"]


# the plan ---------------------------------------------------------------------------------------------


def pool(**costs: list[float]) -> Pool:
    columns = {name: np.array(costs.get(name, [1.0] * len(costs["macs"]))) for name in COSTS}
    return Pool(np.zeros((len(costs["macs"]), 1), dtype=np.int64), columns, 1, 1.0)


def test_a_plan_is_read_back_as_it_was_written(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2)
    feasible = prepare.prepare(one.run, one.space, one.budget, one.data, one.settings, lambda *_: None)
    document = one.run.read_json("plan")
    plan = RunPlan.from_json(document)
    assert json.loads(json.dumps(plan.to_json())) == document
    assert plan.subspaces == feasible.subspaces
    assert all(isinstance(pair, tuple) for pair in (*plan.subspaces, *plan.reference))
    again = plan.feasible(one.space, one.budget)
    assert (again.subspaces, again.max_macs, again.classes) == (feasible.subspaces, feasible.max_macs, 3)
    assert plan.schedule(7).networks == 7
    assert plan.schedule(None).rungs == (1, 2)
    session = prepare.open_session(one.run, one.space, one.budget, one.data, one.settings, feasible=feasible)
    assert session.feasible is feasible, "made once"
    with pytest.raises(dataclasses.FrozenInstanceError):
        session.clock = Clock(0.0)  # type: ignore[misc]
    with pytest.raises(RunError, match="missing keys"):
        RunPlan.from_json({"rungs": [1]})


def test_epochs_are_cut_so_that_the_time_starts_so_many_networks() -> None:
    speed = Speed(1e-3, 1e-9)
    assert Speed(1.0, 2.0).scaled(1.0, 6.0) == Speed(2.0, 4.0)
    fixed, free = SearchSettings(epoch_images=77), SearchSettings(bands=1, rungs=(2, 4))
    assert plan_epochs(fixed, pool(macs=[1e6]), speed, 100.0, 5) == 77
    assert plan_epochs(free, pool(macs=[1e6]), speed, None, 9000) == 2000
    assert plan_epochs(free, pool(macs=[1e6]), speed, None, 300) == 300
    # 2 ms an image of 1 M MACs: 70 % of 10,000 s, of that all but 40 of 64 parts of a half to start 40 networks at 2 epochs.
    planned = int(10_000 * 0.7 * (1 - 0.5 * 40 / 64) / (40 * 2e-3 * 2))
    assert plan_epochs(free, pool(macs=[1e6, 1e6]), speed, 10_000.0, 10**6) == planned
    # Few images are passed over several times, up to what a full training of them is; many at most once.
    assert plan_epochs(free, pool(macs=[1e6]), speed, 10_000.0, 300) == min(planned, LEAST_IMAGES // 4)
    assert plan_epochs(free, pool(macs=[1e6]), speed, 1e9, 300) == LEAST_IMAGES // 4
    assert plan_epochs(free, pool(macs=[1e6]), speed, 1e9, 10**6) == 10**6
    assert plan_epochs(free, pool(macs=[1e6]), speed, 1.0, 10**6) == 512
    # Where images are counted as well, 40 networks take no more of them than the share that starts networks.
    counted = free.model_copy(update={"images": 4_000_000})
    assert plan_epochs(counted, pool(macs=[1e6]), speed, 1e9, 10**6) == int(4_000_000 * 0.7 * (1 - 0.5 * 40 / 64) / (40 * 2))
    assert plan_epochs(counted.model_copy(update={"images": 600}), pool(macs=[1e6]), speed, 1e9, 10**6) == 512
    # A first rung of 512 images or more may take 4 % of the time.
    assert max_trainable_macs(speed, 1000.0, SearchSettings(epoch_images=1000)) == pytest.approx((0.04 * 1000 / 1000 - 1e-3) / 1e-9)
    assert max_trainable_macs(speed, 1e-3, SearchSettings(epoch_images=1000)) == 2e6


def test_the_box_of_the_hypervolume() -> None:
    costs: dict[str, Any] = {"macs": [1.0, 2.0], "sram_bytes": [40.0, 10.0]}
    goals = objectives(("accuracy", "wake-vision-score", "macs", "sram"))
    box = reference(goals, pool(**costs), 4)
    assert box[:2] == ((0.25, 1.0), (0.0, 1.0))
    assert box[2] == pytest.approx((math.log(2.1), math.log(0.95)))
    assert box[3] == pytest.approx((math.log(42.0), math.log(9.5)))
    assert cost_of(goals) == "macs"
    assert cost_of(objectives(("accuracy",))) == "macs"
    assert cost_of(objectives(("accuracy", "sram", "macs"))) == "sram_bytes"
    assert {cost_of([goal]) for goal in OBJECTIVES.values() if not goal.trained} == set(COSTS) - {"weights_bytes", "stack_bytes"}


def test_one_class_still_needs_two_outputs() -> None:
    assert [classes_for(labels) for labels in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [2, 2, 2, 3]
