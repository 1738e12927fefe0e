"""The whole search on images small enough to train in a moment: records, determinism, interruption, crashes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import optuna
import pytest

from tinynas import pareto
from tinynas.api import PreparedSearch, prepare_search
from tinynas.budget import Budget
from tinynas.config import n_bytes
from tinynas.errors import BudgetError, RunError, UserError
from tinynas.objectives import objectives
from tinynas.records import Trial
from tinynas.runs import Run, append_line
from tinynas.search import SearchEvent, SearchSettings, engine, prepare, proposals, search, study, worker
from tinynas.search.fronts import as_expected, front_rows
from tinynas.search.handover import expected_accuracies, hand_over
from tinynas.search.prepare import open_session
from tinynas.search.study import Study
from tinynas.search.work import Worker
from tinynas.space import Space

SPACE = Space.model_validate(
    {
        "name": "test",
        "resolution": [12, 16],
        "width_mult": [0.5, 1.0],
        "divisor": 4,
        "stem": {"out": [8, 16]},
        "stages": [{"out": [8, 16], "depth": [1, 2], "kernel": [3, 5], "expand": [1, 3], "stride": 2}],
        "head": {"out": [0, 32]},
    }
)
RECIPE = {"augment": {"kind": "none"}, "batch_size": 32}


def budget(flash: int = 10**6, **more: int) -> Budget:
    return Budget.model_validate({"name": "test", "flash": n_bytes(flash), "sram": n_bytes(10**6), **more})


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stripes of three directions, 16 px: learnt in a few steps."""
    folder = tmp_path_factory.mktemp("stripes")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    for label, wave in {"across": x, "down": y, "slanted": x + y}.items():
        (folder / label).mkdir()
        for index in range(64):
            stripes = 90 * np.sin(wave * 1.3 + rng.uniform(0, 6))[..., None] + 120 + rng.normal(0, 35, (16, 16, 3))
            cv2.imwrite(str(folder / label / f"{index}.png"), stripes.clip(0, 255).astype(np.uint8))
    return str(folder)


@pytest.fixture
def prepared(images: str, tmp_path: Path) -> Iterator[Callable[..., PreparedSearch]]:
    def make(name: str = "run", *, limits: Budget | None = None, space: Space = SPACE, **settings: Any) -> PreparedSearch:
        settings = {"rungs": [1, 2], "recipe": RECIPE, "pool": 200, "baseline": 3, "start": 3, "workers": 1, **settings}
        return prepare_search(limits or budget(), space=space, data=images, out=tmp_path / name, **settings)

    yield make


def states(run: Run) -> list[str]:
    return [trial.state for trial in run.trials()]


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


def test_a_search_says_what_it_expects_when_it_ends_and_no_sooner(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=6, seed=4)
    on_the_way: list[Trial] = []
    one.go(lambda event: on_the_way.append(event.trial) if event.trial is not None else None)
    assert on_the_way
    assert not any("expected_accuracy" in t.scores for t in on_the_way)
    trained = {t.id: t for t in one.run.trials() if t.was_trained}
    assert all(0 <= t.scores["expected_accuracy"] <= 1 for t in trained.values())
    # Too few for a model: what reached the last rung is expected to show what it showed.
    full = [t for t in trained.values() if t.epochs == 2]
    assert full
    assert all(t.scores["expected_accuracy"] == t.scores["accuracy"] for t in full), "to the last digit"
    rows = one.run.front()
    assert [row["expected_accuracy"] for row in rows] == sorted(row["expected_accuracy"] for row in rows), "a staircase"
    assert one.run.resolve_id("best") == rows[-1]["id"]
    # A search that goes on takes it back.
    fronts: list[list[dict[str, Any]]] = []
    prepare_search(None, out=one.run.path, resume=True, trials=7).go(lambda event: fronts.append(one.run.front()))
    begun = [front for front in fronts if front and "expected_accuracy" not in front[0]]
    assert begun, "the front of what was seen"
    assert all("expected_accuracy" in row for row in one.run.front())


def test_a_training_cut_short_is_not_compared_with_whole_ones(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=8, seed=3, rungs=[1, 4])
    one.go()
    session = session_of(one)
    ledger = session.study.ledger()
    net = next(net for net in ledger.nets.values() if net.rung == 0)
    record = ledger.records[net.number]
    # The time limit ended its second training after two more epochs, which happened to look very good.
    attrs = {"net": net.id, "proposal": net.number, "cost": net.cost, "source": record.source, "parent": None, "rung": 1, "epochs": 4}
    number = session.study.begin(record.genotype, attrs, {})
    lucky = {**record.scores, "accuracy": 1.0}
    cut = replace(record, scores=lucky, epochs=3, images=3 * record.images)
    before = expected_accuracies(session, ledger)
    session.study.finish(number, cut, {"rung": 0, "epochs": 3, "images": cut.images, "scores": lucky})
    after = session.study.ledger()
    assert after.nets[net.id].rung == 0
    assert after.nets[net.id].beyond == 3, "it would be continued from there"
    assert expected_accuracies(session, after) == before
    hand_over(session, finished=True)
    handed = next(t for t in one.run.trials() if t.number == net.number)
    assert handed.accuracy == 1.0, "what was seen is kept"
    assert handed.scores["expected_accuracy"] == pytest.approx(before[net.id], abs=1e-6)


def test_an_interrupted_search_hands_over_although_its_database_is_gone(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(trials=3)
    one.go()
    session = session_of(one)
    session.study.mend()

    def gone() -> Any:
        raise UserError("--storage: connection refused")

    monkeypatch.setattr(session.study, "ledger", gone)
    rows = hand_over(session, finished=False)
    assert rows
    assert "expected_accuracy" not in rows[0]
    with pytest.raises(UserError):
        hand_over(session, finished=True)


def test_networks_trained_alike_are_handed_over_by_what_they_showed(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=4, rungs=[1])
    one.go()
    assert not any("expected_accuracy" in t.scores for t in one.run.trials())


def test_expected_accuracies_move_every_trained_objective() -> None:
    costs: dict[str, float | None] = {"macs": 1e6, "sram_bytes": 1e4, "flash_bytes": 1e5}
    scores = {"accuracy": 0.5, "int8_accuracy": 0.48, "loss_sum": 3.0, "expected_accuracy": 0.6}
    lucky = Trial(0, "lucky", "trained", "model", costs=costs, scores={**scores, "accuracy": 0.7, "expected_accuracy": 0.55})
    steady = Trial(1, "steady", "trained", "model", costs=costs, scores=scores)
    assert as_expected(steady).scores == pytest.approx({**scores, "accuracy": 0.6, "int8_accuracy": 0.58})
    for names in (("accuracy", "macs"), ("int8_accuracy", "macs"), ("wake-vision-score", "macs")):
        assert [row.id for row in front_rows([lucky, steady], objectives(names))] == ["steady"]
    unknown = Trial(2, "running", "trained", "model", costs=costs, scores={"accuracy": 0.5})
    assert as_expected(unknown) is unknown


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
    monkeypatch.setattr(proposals, "TURNS", ("tpe",))
    one = prepared(trials=20, seed=1, limits=budget(macs=16_000), rungs=[1])
    result = one.go()
    refused = [t for t in one.run.trials() if t.state == "infeasible"]
    assert refused, "TPE proposes outside the feasible set under so tight a limit"
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


def test_several_objectives(prepared: Callable[..., PreparedSearch]) -> None:
    result = prepared(trials=5, objectives=["int8_accuracy", "sram", "flash"]).go()
    assert result.front
    assert all(row["int8_accuracy"] is not None for row in result.front)
    assert 0 < result.hypervolume <= 1
    score = prepared("score", trials=4, objectives=["wake-vision-score"]).go()
    assert len(score.front) == 1, "one objective, one best"


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


def test_a_run_goes_on_where_its_folder_was_renamed(prepared: Callable[..., PreparedSearch], tmp_path: Path) -> None:
    one = prepared(trials=3)
    one.go()
    before = {t.id for t in one.run.trials()}
    moved = one.run.path.rename(tmp_path / "renamed")
    result = prepare_search(None, out=moved, resume=True, trials=4).go()
    assert result.counts.trained == 4
    assert before < {t.id for t in Run.open(moved).trials()}
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(Run.open(moved).journal_file)))
    assert len(storage.get_all_studies()) == 1
    jobs = [(row["id"], row["rung"]) for row in Run.open(moved).log("times")]
    assert len(jobs) == len(set(jobs)), "nothing is trained again"


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


def test_without_a_space_the_budget_decides_and_the_plan_says_so(images: str, tmp_path: Path) -> None:
    limits = Budget.model_validate({"name": "small file", "flash": "41772 B", "sram": "31300 B", "macs": 2_086_995})
    one = prepare_search(limits, data=images, out=tmp_path / "run", trials=2, workers=1, pool=50)
    assert one.space.name == "micro"
    said: list[str] = []
    prepare.prepare(one.run, one.space, one.budget, one.data, one.settings, lambda kind, message: said.append(message))
    assert said[0].startswith("space micro")
    assert one.run.read_json("plan")["notes"][0] == said[0]
    named = prepare_search(limits, space="tiny", data=images, out=tmp_path / "named", trials=2, workers=1)
    assert named.space.name == "tiny"
    assert "space_choice" not in named.run.config


def test_without_a_space_that_fits_no_run_is_begun(images: str, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="flash_bytes: the smallest network needs"):
        prepare_search(budget(flash=3_000), data=images, out=tmp_path / "run", trials=2)
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


def test_a_worker_whose_last_training_ends_after_the_search_hands_over_again(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(trials=3)
    one.go()
    session = session_of(one)
    late = one.run.trials()[-1]
    session.study.mend()
    assert not any("expected_accuracy" in t.scores for t in one.run.trials())

    def joined(_run: Any, _changes: Any, _index: Any, on_trial: Callable[[Trial], None]) -> tuple[prepare.Session, str]:
        on_trial(replace(late, state="trained"))
        return session, "the time is used"

    monkeypatch.setattr(engine, "_join", joined)
    assert worker(one.run.path) == 1
    assert all("expected_accuracy" in t.scores for t in one.run.trials())
    # Of a search that goes on it does nothing.
    session.study.mend()
    (one.run.path / "summary.json").unlink()
    assert worker(one.run.path) == 1
    assert not any("expected_accuracy" in t.scores for t in one.run.trials())


def test_another_objective_cannot_continue_a_run(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2)
    one.go()
    settings = one.settings.model_copy(update={"objectives": ("accuracy", "sram")})
    with pytest.raises(RunError, match="other objectives"):
        open_session(one.run, one.space, one.budget, one.data, settings)


@pytest.mark.parametrize("url", ["nonsense", "postgresql://nobody@127.0.0.1:1/none"])
def test_a_storage_that_cannot_be_reached(prepared: Callable[..., PreparedSearch], url: str) -> None:
    if url != "nonsense":
        pytest.importorskip("psycopg2", reason="the PostgreSQL client is not installed")
    with pytest.raises(UserError, match="--storage") as caught:
        prepared(trials=2, storage=url).go()
    assert caught.value.exit_code == 2


def session_of(one: PreparedSearch) -> prepare.Session:
    prepare.prepare(one.run, one.space, one.budget, one.data, one.settings, lambda *_: None)
    return open_session(one.run, one.space, one.budget, one.data, one.settings)


def test_work_of_a_dead_process_is_handed_on(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3)
    session = session_of(one)
    dead = Worker(session)
    session.study.join()
    job = dead.decide()
    assert isinstance(job, study.Job)
    survivor = session_of(one)
    assert survivor.study.alive(session.study.member)
    assert survivor.study.reclaim() == []
    assert session.study._member is not None
    session.study._member.close()  # what the kernel does to a killed process
    with survivor.study.deciding():
        assert survivor.study.reclaim() == [job.net]
        assert survivor.study.reclaim() == []
    reason = Worker(survivor).run()
    trials = one.run.trials()
    assert [t.id for t in trials if t.number == job.proposal] == [job.net]
    assert len(trials) == 3, reason


def test_a_network_that_kills_its_workers_is_given_up(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2)
    session = session_of(one)
    session.study.join()
    job = Worker(session).decide()
    assert isinstance(job, study.Job)
    number = job.number
    for _ in range(study.MAX_RETRIES):
        session.study.hand_back(number, count_retry=True)
        number = session.study.trials()[-1].number
        if _ < study.MAX_RETRIES - 1:
            session.study.claim_waiting()
    session.study.leave()
    Worker(session).run()
    record = next(t for t in one.run.trials() if t.id == job.net)
    assert record.state == "failed"
    assert "died 3 times" in str(record.reason)
    assert states(one.run).count("trained") + states(one.run).count("stopped") == 2


def test_a_record_that_a_kill_kept_from_disk_is_mended(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3, rungs=[1])
    one.go()
    lines = one.run.trials_file.read_bytes().splitlines(keepends=True)
    one.run.trials_file.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    assert len(one.run.trials()) == 2
    session = session_of(one)
    session.study.mend()
    assert b"".join(lines) == one.run.trials_file.read_bytes()


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
    parent = SPACE.decode(tuple(int(i) for i in session.pool.genotypes[0]), 3)
    session.trainings.train(parent, 2)
    child = session.trainings._inherited(parent, parent.id)
    assert child is not None
    from tinynas.graph import lower
    from tinynas.model import Network

    fresh = Network(lower(parent), seed=session.settings.seed).state_dict()
    assert any(not np.array_equal(child[key].numpy(), fresh[key].numpy()) for key in fresh)
    assert one.go().counts.trained == 3


def test_a_full_disk_is_one_message(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    one = prepared(trials=3)
    written: list[int] = []
    from tinynas import runs

    def full(path: Path, document: dict[str, Any]) -> None:
        written.append(1)
        if len(written) > 3:
            raise runs.disk_error(path, OSError(28, "No space left on device"))
        append_line(path, document)

    monkeypatch.setattr(runs, "append_line", full)
    with pytest.raises(RunError, match="No space left") as caught:
        one.go()
    assert "--resume" in str(caught.value)
    monkeypatch.undo()
    assert prepare_search(None, out=one.run.path, resume=True).go().counts.trained == 3
    jobs = [(t.number, t.id) for t in one.run.trials()]
    assert len(jobs) == len(set(jobs))


# processes ------------------------------------------------------------------------------------------


def start_process(path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tinynas", "search", "--resume", "--out", str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(run: Run) -> list[int]:
    folder = run.state_dir() / "members"
    alive = []
    for path in folder.glob("*") if folder.exists() else ():
        pid = int(path.name.split("-")[-2])
        try:
            os.kill(pid, 0)
        except OSError:
            continue
        alive.append(pid)
    return sorted(alive)


def wait_until(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def accounted(run: Run, networks: int) -> None:
    """Every network was trained once to each rung, and is in trials.jsonl."""
    jobs = [(row["id"], row["epochs"]) for row in run.log("times")]
    assert len(jobs) == len(set(jobs)), "no training is done twice"
    trials = run.trials()
    assert [t.number for t in trials] == list(range(len(trials)))
    assert sum(t.was_trained for t in trials) == networks
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(run.journal_file)))
    left = [t for t in optuna.load_study(study_name=None, storage=storage).trials if t.state.name in ("RUNNING", "WAITING")]
    assert left == []


@pytest.mark.slow
def test_eight_workers_two_hundred_trials_two_killed(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=200, workers=8, rungs=[1], pool=2000)
    process = start_process(one.run.path)
    wait_until(lambda: len(workers_of(one.run)) == 8 and len(one.run.trials()) >= 5, 180)
    for pid in workers_of(one.run)[:2]:
        os.kill(pid, signal.SIGKILL)
    _, wrong = process.communicate(timeout=600)
    assert process.returncode == 0, wrong
    accounted(one.run, 200)


@pytest.mark.slow
def test_the_parent_killed_takes_its_workers_along_and_resumes(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=12, workers=2)
    process = start_process(one.run.path)
    wait_until(lambda: len(one.run.trials()) >= 3, 120)
    process.kill()
    process.communicate()
    wait_until(lambda: not workers_of(one.run), 30)
    finished = {(row["id"], row["epochs"]) for row in one.run.log("times")}
    again = start_process(one.run.path)
    _, wrong = again.communicate(timeout=300)
    assert again.returncode == 0, wrong
    accounted(one.run, 12)
    assert finished <= {(row["id"], row["epochs"]) for row in one.run.log("times")}


@pytest.mark.slow
def test_ctrl_c_exits_130_with_the_command_that_continues(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=30, workers=2)
    process = start_process(one.run.path)
    wait_until(lambda: len(one.run.trials()) >= 2, 120)
    process.send_signal(signal.SIGINT)
    _, wrong = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"tinynas search --resume --out {one.run.path}" in wrong
    assert workers_of(one.run) == []
    assert one.run.front()


@pytest.mark.slow
def test_a_worker_joins_a_running_search(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=16, workers=1)
    process = start_process(one.run.path)
    wait_until(lambda: (one.run.path / "clock.json").exists(), 120)
    done = worker(one.run.path)
    _, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong
    assert done > 0
    accounted(one.run, 16)


# a database -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL server, started here on a loopback port as an ordinary user."""
    pytest.importorskip("psycopg2", reason="the PostgreSQL client is not installed: pip install 'tinynas[postgresql]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    binary = Path(shutil.which("pg_ctl") or (found[-1] if found else ""))
    if not binary.is_file():
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    import pwd
    import socket

    folder = tmp_path_factory.mktemp("postgres")
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:
        # The server refuses to run as root.
        account = pwd.getpwnam("postgres")
        folder = Path(f"/tmp/tinynas-postgres-{os.getpid()}")
        folder.mkdir(mode=0o700)
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user = {"user": account.pw_uid, "group": account.pw_gid}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = folder / "data", folder / "log"

    def call(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **as_user)
        assert done.returncode == 0, done.stderr + done.stdout

    initdb = str(binary.with_name("initdb"))
    call(initdb, "-D", str(data), "-A", "trust", "-U", "tinynas", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    call(str(binary), "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
    try:
        yield f"postgresql://tinynas@127.0.0.1:{port}/postgres"
    finally:
        call(str(binary), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_study_in_postgresql(prepared: Callable[..., PreparedSearch], postgres: str) -> None:
    one = prepared(trials=6, storage=postgres)
    result = one.go()
    assert result.counts.trained == 6
    assert not one.run.journal_file.exists()
    study = open_session(one.run, one.space, one.budget, one.data, one.settings).study
    assert study.needs_heartbeat
    assert sum(trial.state.name == "COMPLETE" for trial in study.trials()) == len(one.run.log("times"))


@pytest.mark.slow
def test_workers_on_postgresql_may_die(prepared: Callable[..., PreparedSearch], postgres: str) -> None:
    one = prepared("killed", trials=14, workers=2, storage=postgres)
    process = start_process(one.run.path)
    wait_until(lambda: len(workers_of(one.run)) == 2 and len(one.run.trials()) >= 2, 120)
    os.kill(workers_of(one.run)[0], signal.SIGKILL)
    _, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong
    jobs = [(row["id"], row["epochs"]) for row in one.run.log("times")]
    assert len(jobs) == len(set(jobs))
    assert sum(t.was_trained for t in one.run.trials()) == 14


@pytest.mark.slow
def test_a_heartbeat_that_stops_hands_the_trial_on(
    prepared: Callable[..., PreparedSearch], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another machine that does not share file locks is known to be alive by Optuna's heartbeat alone.
    from tinynas.search import study as module

    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(module, "GRACE_SECONDS", 2)
    monkeypatch.setattr(Study, "alive", lambda *_: True)
    one = prepared("silent", trials=2, storage=postgres)
    session = session_of(one)
    job = Worker(session).decide()
    assert isinstance(job, study.Job)
    session.study.heartbeat(job.number)
    time.sleep(3)
    other = session_of(one)
    Worker(other).run()
    records = [t for t in one.run.trials() if t.id == job.net]
    assert [t.state for t in records] == ["trained"]


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


def test_ctrl_c_waits_for_the_lock(tmp_path: Path) -> None:
    # Started in the background, Python leaves SIGINT ignored: the test brings its own handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt), study.file_lock(tmp_path / "lock"):
            signal.raise_signal(signal.SIGINT)
            done.append("finished what the lock protects")
        assert done
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
