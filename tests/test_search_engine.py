"""The whole search on images small enough to train in a moment: records, determinism, interruption, resumption."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from search_runs import RECIPE, SPACE, budget, session_of

from tinynas import pareto
from tinynas.api import PreparedSearch, prepare_search
from tinynas.budget import Budget
from tinynas.errors import BudgetError, DataError, RunError, UserError
from tinynas.graph import lower
from tinynas.model import Network
from tinynas.records import Trial
from tinynas.search import SearchEvent, SearchSettings, engine, prepare, search, worker
from tinynas.search.feasible import as_genotype
from tinynas.search.prepare import RunPlan, open_session
from tinynas.search.proposals import Proposal, Proposer
from tinynas.search.work import Worker
from tinynas.space import Space
from tinynas.train.branches import fold_branches
from tinynas.train.slices import slice_weights


def test_a_search_records_everything(prepared: Callable[..., PreparedSearch]) -> None:
    events: list[SearchEvent] = []
    started = time.monotonic()
    first: list[float] = []

    def listen(event: SearchEvent) -> None:
        if not first:
            first.append(time.monotonic() - started)
        events.append(event)

    one = prepared(trials=8, seed=3)
    started = time.monotonic()
    result = one.go(listen)
    assert first[0] < 0.5, "something is said at once"
    trials = one.run.trials()
    trained = [t for t in trials if t.was_trained]
    assert len(trained) == 8 == result.counts.trained
    assert result.counts.proposed == len(trials) == len({t.number for t in trials})
    assert len({t.id for t in trained}) == 8, "nothing is trained twice"
    for trial in trained:
        assert one.budget.fits(trial.costs)
        assert one.run.arch(trial.id).id == trial.id == SPACE.decode(trial.genotype, 3).id
        assert 0 <= trial.scores["accuracy"] <= 1
        assert trial.images > 0
        assert trial.epochs in (1, 2)
    front = one.run.front()
    assert [row["id"] for row in front] == [row["id"] for row in result.front]
    points = [(t.scores["expected_accuracy"], t.costs["macs"]) for t in trained]
    assert {row["id"] for row in front} == {trained[i].id for i in pareto.front(points, (True, False))}
    assert [row["macs"] for row in front] == sorted(row["macs"] for row in front)
    assert all(row["epochs"] == 2 for row in front), "the front is trained in full"
    kinds = [event.kind for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "done"
    assert {"space", "pool", "plan", "trial"} <= set(kinds)
    assert events[-1].counts == result.counts
    assert events[-1].front_size == len(front)
    assert events[-1].cost == "macs"
    on_front = {row["id"] for row in front}
    assert sorted(events[-1].points) == sorted((t.costs["macs"], t.accuracy, t.id in on_front) for t in trained)
    assert 0 < result.hypervolume <= 1
    assert 0 <= result.baseline_hypervolume <= result.hypervolume
    assert (one.run.path / "trials.csv").exists()
    assert any("sub-spaces" in note for note in result.notes)
    # The journal is a study like any other: names and attributes for its tools.
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(one.run.journal_file)))
    study = optuna.load_study(study_name=None, storage=storage)
    assert study.metric_names == ["accuracy", "macs"]
    told = {(trial.user_attrs["net"], *trial.values) for trial in study.trials if trial.state.name == "COMPLETE"}
    assert {(row["id"], row["accuracy"], row["macs"]) for row in front} <= told
    assert all("score:accuracy" in trial.user_attrs for trial in study.best_trials)


def test_equal_seeds_write_equal_bytes(prepared: Callable[..., PreparedSearch]) -> None:
    runs = [prepared(name, trials=9, seed=5) for name in ("a", "b")]
    for one in runs:
        one.go()
    a, b = (one.run.trials_file.read_bytes() for one in runs)
    assert a == b
    other = prepared("c", trials=9, seed=6)
    other.go()
    assert other.run.trials_file.read_bytes() != a


def test_what_does_not_fit_is_recorded_and_costs_nothing(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    def anything(proposer: Proposer, number: int, *_: object, **__: object) -> Proposal:
        return Proposal(as_genotype(proposer.feasible.draw(1, np.random.default_rng(number))[0]), "uniform")

    monkeypatch.setattr(Proposer, "propose", anything)
    one = prepared(trials=20, seed=1, limits=budget(macs=16_000), rungs=[1])
    result = one.go()
    refused = [t for t in one.run.trials() if t.state == "infeasible"]
    assert refused, "under so tight a limit little of what is drawn fits"
    assert result.counts.infeasible == len(refused)
    for trial in refused:
        assert trial.images == 0
        assert trial.accuracy is None
        assert trial.excess["macs"] > 0
        assert "macs" in str(trial.reason)
    repaired = [t for t in one.run.trials() if t.source == "repair"]
    assert repaired, "each is stood in for by the nearest that fits"
    study = open_session(one.run, one.space, one.budget, one.data, one.settings).study
    by_net = {t.user_attrs["net"]: t for t in study.trials()}
    constraints = by_net[refused[0].id].system_attrs
    assert any("macs" in key and value > 0 for key, value in constraints.items() if key.startswith("constraints"))


def test_a_space_that_is_used_up_ends_the_search(prepared: Callable[..., PreparedSearch]) -> None:
    tiny = Space.model_validate({"name": "four", "resolution": [12, 16], "stages": [{"out": 8, "kernel": [3, 5], "expand": 1}]})
    result = prepared(trials=50, space=tiny, rungs=[1]).go()
    assert result.counts.trained == 4
    assert "tried" in result.reason


@pytest.mark.parametrize("strategy", ["tpe", "tpe-independent", "nsga2", "random"])
def test_plain_samplers_for_comparison(prepared: Callable[..., PreparedSearch], strategy: str) -> None:
    one = prepared(trials=6, strategy=strategy, limits=budget(macs=120_000))
    result = one.go()
    assert result.counts.trained == 6
    trained = [t for t in one.run.trials() if t.state == "trained"]
    assert all(t.epochs == 2 and t.source == strategy for t in trained), "every proposal is trained in full"


def test_the_first_trained_objective_is_what_a_search_raises(prepared: Callable[..., PreparedSearch]) -> None:
    for objectives, expected in (
        (["int8_accuracy", "sram"], "int8_accuracy"),
        (["accuracy", "int8_accuracy"], "accuracy"),
        (["macs"], "accuracy"),
        (["macs", "int8_accuracy"], "int8_accuracy"),
    ):
        one = prepared("-".join(objectives), trials=4, objectives=objectives)
        session = session_of(one)
        assert session.plan.counted == expected
        worker = Worker(session, lambda _: None)
        assert worker.proposer.surrogate.counted == expected
    older = json.loads((one.run.path / "plan.json").read_text())
    del older["counted"]
    assert RunPlan.from_json(older).schedule(4).counted == "accuracy", "a run begun before goes on as it began"


def test_what_trains_the_donor_is_no_time_for_new_networks(prepared: Callable[..., PreparedSearch]) -> None:
    assert session_of(prepared("plain", trials=2)).plan.explore == 0.7
    # Half of the images train it; 70 % of the rest starts networks.
    one = prepared("sliced", images=6000, slices=0.5, rungs=[1, 2])
    result = one.go()
    assert json.loads((one.run.path / "plan.json").read_text())["explore"] == pytest.approx(0.5 + 0.5 * 0.7)
    assert result.counts.trained > 1
    most = prepared("most", images=20_000, slices=0.8, rungs=[1, 2]).go()
    assert most.counts.trained > 1, "a donor that takes more than the share of new networks leaves some all the same"


def test_what_a_search_would_not_heed_is_refused(prepared: Callable[..., PreparedSearch]) -> None:
    for name in ("init", "teacher"):
        with pytest.raises(UserError, match=rf"recipe\.{name}: zoo:mcunet-vww1 is of no use to a search") as caught:
            prepared(name, trials=2, recipe={**RECIPE, name: "zoo:mcunet-vww1"})
        assert "tinynas promote" in str(caught.value)


def test_the_time_left_of_a_resumed_search_goes_by_what_it_trained_itself(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=4, rungs=[1])
    one.go()
    events: list[SearchEvent] = []
    prepare_search(None, out=one.run.path, resume=True, trials=8).go(events.append)
    left = {event.counts.trained: event.eta / event.elapsed for event in events if event.kind == "trial" and event.eta is not None}
    assert left == pytest.approx({5: 3.0, 6: 1.0, 7: 1 / 3, 8: 0.0})
    assert all(event.eta is None for event in events if event.counts.trained == 4), "nothing is known yet"
    assert {event.trained_before for event in events if event.kind == "trial"} == {4}


def test_a_resumed_search_took_the_time_of_its_earlier_trainings_too(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2, rungs=[1])
    run = one.go() and one.run
    # An hour of two trainings at a time, one of which waits for nothing, and then one alone for a minute.
    (run.path / "times.jsonl").unlink()
    for number, (begun, ended) in enumerate(((0, 1800), (900, 3600), (950, 1000), (7200, 7260))):
        run.append_log("times", {"number": number, "images": 10, "seconds": ended - begun, "finished": ended})
    assert run.seconds_in_training() == 3660
    again = prepare_search(None, out=run.path, resume=True, trials=3).go()
    assert 3660 < again.seconds == pytest.approx(run.read_json("summary")["seconds"], abs=0.1)
    # Where it ended well it said so itself, with what was not training.
    run.write_json("summary", {**run.read_json("summary"), "seconds": 5000.0})
    assert 5000 < prepare_search(None, out=run.path, resume=True, trials=4).go().seconds < 6000


def test_who_joins_trains_as_many_networks_as_the_resumption_was_given(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(trials=3, rungs=[1])
    one.go()
    assert prepare_search(None, out=one.run.path, resume=True, trials=5).go().counts.trained == 5
    told: list[SearchSettings] = []
    opened = engine.open_session

    def noted(*arguments: Any, **more: Any) -> Any:
        told.append(arguments[4])
        return opened(*arguments, **more)

    monkeypatch.setattr(engine, "open_session", noted)
    worker(one.run.path)
    assert told[0].trials == 5


def test_several_objectives(prepared: Callable[..., PreparedSearch]) -> None:
    result = prepared(trials=5, objectives=["int8_accuracy", "sram", "flash"]).go()
    assert result.front
    assert all(row["int8_accuracy"] is not None for row in result.front)
    assert 0 < result.hypervolume <= 1
    score = prepared("score", trials=4, objectives=["wake-vision-score"]).go()
    assert len(score.front) == 1, "one objective, one best"
    assert json.loads((Path(score.run) / "plan.json").read_text())["traded"], "costs make that score worse"


def test_accuracy_alone_is_a_search_for_the_best_that_fits(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=8, objectives=["accuracy"])
    result = one.go()
    plan = one.run.read_json("plan")
    assert (plan["traded"], plan["edges"]) == (False, [])
    left = [t.reason for t in one.run.trials() if t.state == "stopped"]
    assert left and set(left) == {"left at rung 1 of 2: others did better"}
    (row,) = result.front
    expected = {t.id: t.expected_accuracy for t in one.run.trials() if t.was_trained}
    assert row["id"] == one.run.best == one.run.knee and expected[row["id"]] == max(expected.values())
    # It is told of neither MACs nor a front.
    session = session_of(one)
    assert session.study.optuna.directions == [optuna.study.StudyDirection.MAXIMIZE] and not session.plan.traded
    # What earlier versions began with one objective searched a front all the same, and goes on so.
    del plan["traded"]
    one.run.write_json("plan", plan)
    again = prepare_search(None, out=one.run.path, resume=True, trials=9)
    assert session_of(again).plan.traded
    assert again.go().counts.trained == 9


def test_the_part_that_is_served_worst_is_an_objective(stripes: str, tmp_path: Path) -> None:
    facts = tmp_path / "facts.csv"
    rows = [f"{label}/{i}.png,{'dark' if i % 2 else 'bright'}" for label in ("across", "down", "slanted") for i in range(64)]
    facts.write_text("\n".join(["name,light", *rows]) + "\n")

    def searched(name: str, *overrides: str, out: Path | None = None) -> PreparedSearch:
        settings = SearchSettings.model_validate({"rungs": [1], "recipe": RECIPE, "pool": 200, "baseline": 2, "start": 2})
        goals = ["worst_subset_accuracy", "macs"]
        given = {"space": SPACE, "data": stripes, "out": tmp_path / name, "settings": settings, "objectives": goals}
        return prepare_search(budget(), trials=3, workers=1, overrides=overrides, **given)

    one = searched("run", f"data.attributes={facts}")
    result = one.go()
    trained = [t for t in one.run.trials() if t.state == "trained"]
    assert trained and all(0 <= t.scores["worst_subset_accuracy"] <= (t.accuracy or 0) for t in trained), "the worst is no better than all"
    assert result.front and all(row["worst_subset_accuracy"] is not None for row in result.front)
    with pytest.raises(DataError, match="have no attributes"):
        searched("none")
    facts.write_text("\n".join(["name,light", "across/1.png,dark", "down/2.png,bright"]) + "\n")
    with pytest.raises(DataError, match="needs a part of at least 10 validation images; their parts: "):
        searched("few", f"data.attributes={facts}")
    assert not (tmp_path / "none").exists() and not (tmp_path / "few").exists()
    # What the run was begun with decides: another file is another search.
    with pytest.raises(RunError, match="says other attributes of the images than when"):
        prepare_search(None, resume=True, out=tmp_path / "run")


def test_the_time_limit_is_kept(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(timeout=8.0)
    result = one.go()
    assert result.seconds <= 8.0 * 1.05
    assert result.counts.trained >= 3
    assert result.front


def test_ctrl_c_loses_nothing_and_resume_continues(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=8, seed=2)

    def interrupt(event: SearchEvent) -> None:
        if event.kind == "trial" and event.counts.trained == 4:
            raise KeyboardInterrupt

    result = one.go(interrupt)
    assert result.interrupted
    assert result.counts.trained == 4
    before = {t.id: t.images for t in one.run.trials()}
    times = len(one.run.log("times"))
    again = prepare_search(None, out=one.run.path, resume=True).go()
    assert not again.interrupted
    assert again.counts.trained == 8
    assert set(before) <= {t.id for t in one.run.trials()}
    jobs = [(row["id"], row["rung"]) for row in one.run.log("times")]
    assert len(jobs) > times
    assert len(jobs) == len(set(jobs)), "no rung is trained twice"
    # A search that ran through proposes the same networks.
    whole = prepared("whole", trials=8, seed=2)
    whole.go()
    assert {t.id for t in whole.run.trials()} == {t.id for t in one.run.trials()}


def test_a_finished_run_can_be_extended(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3)
    one.go()
    result = prepare_search(None, out=one.run.path, resume=True, trials=5).go()
    assert result.counts.trained == 5


def test_a_training_that_diverges_is_recorded_and_replaced(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(trials=4)
    from tinynas.search.training import Trainings
    from tinynas.train import Diverged, Trainer

    original, broken = Trainings.trainer, []

    def trainer(self: Trainings, arch: Any, parent: str | None = None) -> Trainer:
        made = original(self, arch, parent)
        if not broken:
            broken.append(arch.id)

            def fail(*_: Any, **__: Any) -> int:
                raise Diverged("the loss became nan in epoch 1")

            monkeypatch.setattr(made, "run", fail)
        return made

    monkeypatch.setattr(Trainings, "trainer", trainer)
    result = one.go()
    failed = [t for t in one.run.trials() if t.state == "failed"]
    assert [t.id for t in failed] == broken
    assert "nan" in str(failed[0].reason)
    assert result.counts.failed == 1
    assert result.counts.trained == 4


def test_nothing_fits_says_which_limit(prepared: Callable[..., PreparedSearch]) -> None:
    with pytest.raises(BudgetError, match="macs: the smallest network needs"):
        prepared(trials=3, limits=budget(macs=10)).go()


def test_a_genotype_that_names_a_known_network_is_proposed_once(prepared: Callable[..., PreparedSearch]) -> None:
    # Half the channels of twice the width are the same network.
    stages = [{"out": [8, 16], "depth": 1, "kernel": 3, "expand": [1, 2], "stride": 2}]
    space = Space.model_validate({**SPACE.model_dump(), "resolution": 12, "stages": stages, "head": {"out": 0}})
    networks = {space.decode(genotype, 3).id for genotype in product(*(range(len(gene.choices)) for gene in space.genes))}
    assert len(networks) < space.size, "or this tests nothing"
    one = prepared(trials=len(networks), space=space, rungs=[1])
    one.go()
    trials = one.run.trials()
    assert {t.id for t in trials if t.was_trained} == networks
    # Optuna's TPE and the last resort, a uniform draw, know nothing of it.
    modelled = [t.genotype for t in trials if t.source in ("model", "pool", "mutation", "repair", "baseline", "start")]
    assert len(modelled) == len(set(modelled))


def test_without_a_space_the_budget_decides_and_the_plan_says_so(stripes: str, tmp_path: Path) -> None:
    file_alone = {"flash": {"runtime": "0 B"}}
    limits = Budget.model_validate({"name": "small file", "flash": "41772 B", "sram": "31300 B", "macs": 2_086_995, "reserves": file_alone})
    one = prepare_search(limits, data=stripes, out=tmp_path / "run", trials=2, workers=1, overrides=["pool=50"])
    assert one.space.name == "micro"
    said: list[str] = []
    prepare.prepare(one.run, one.space, one.budget, one.data, one.settings, lambda kind, message: said.append(message))
    assert said[0].startswith("space micro")
    assert one.run.read_json("plan")["notes"][0] == said[0]
    named = prepare_search(limits, space="tiny", data=stripes, out=tmp_path / "named", trials=2, workers=1)
    assert named.space.name == "tiny"
    assert "space_choice" not in named.run.config


def test_without_a_space_that_fits_no_run_is_begun(stripes: str, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="flash_bytes: the smallest network needs"):
        prepare_search(budget(flash=3_000), data=stripes, out=tmp_path / "run", trials=2)
    assert not (tmp_path / "run").exists()


def test_a_worker_needs_a_search(prepared: Callable[..., PreparedSearch], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run there"):
        worker(tmp_path / "nowhere")
    one = prepared(trials=3)
    with pytest.raises(RunError, match="no plan yet"):
        worker(one.run.path)


def test_a_worker_that_comes_late_finds_nothing_to_do(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3)
    one.go()
    assert worker(one.run.path) == 0


def test_a_damaged_training_state_is_trained_again(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2)
    session = session_of(one)
    arch = SPACE.decode(tuple(int(i) for i in session.pool.genotypes[0]), 3)
    first = session.trainings.train(arch, 1)
    path = session.trainings.state_file(arch.id)
    path.write_bytes(path.read_bytes()[:100])
    assert session.trainings.train(arch, 1).scores == first.scores
    # An intact state is continued, not repeated.
    again = session.trainings.train(arch, 1)
    assert again.new_images == 0
    assert again.scores == first.scores


def test_a_mutation_may_inherit_weights(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3, inherit=True)
    session = session_of(one)
    parent, child = (SPACE.decode(tuple(int(i) for i in session.pool.genotypes[n]), 3) for n in (0, 1))
    trainings = session.trainings
    assert trainings._begun(lower(child), parent) is None, "it was not trained"
    trainings.train(parent, 2)
    begun = trainings.trainer(child, parent)
    trained = trainings.trainer(parent)._raw
    expected = slice_weights(lower(parent), trained.state_dict(), lower(child), seed=session.settings.seed).network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in begun._raw.state_dict().items())
    fresh = Network(lower(child), seed=session.settings.seed).state_dict()
    assert any(not torch.equal(value, fresh[key]) for key, value in expected.items())
    assert one.go().counts.trained == 3


def test_a_parent_with_branches_is_folded_first(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3, inherit=True, recipe={**RECIPE, "branches": "fold"})
    session = session_of(one)
    parent = SPACE.decode(tuple(int(i) for i in session.pool.genotypes[0]), 3)
    session.trainings.train(parent, 1)
    source = session.trainings._parent(parent)
    raw = session.trainings.trainer(parent)._raw
    assert source is not None and isinstance(raw, Network)
    folded = fold_branches(raw).state_dict()
    assert all(torch.equal(value, folded[key]) for key, value in source.state_dict().items())
    assert one.go().counts.trained == 3


def test_settings_round_trip_through_the_run_folder(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2, timeout=30.0)
    again = SearchSettings.model_validate(one.run.config["settings"])
    assert again == one.settings
    assert json.loads(json.dumps(one.run.config["settings"]))


def test_search_can_be_called_with_parts(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2)
    result = search(one.run, one.space, one.budget, one.data, one.settings, lambda _: None)
    assert isinstance(result.front, tuple)
    assert isinstance(one.run.trials()[0], Trial)
