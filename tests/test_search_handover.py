"""What a search hands over: what it expects of its networks, and the front by that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from search_runs import session_of

from tinynas.api import PreparedSearch, prepare_search
from tinynas.errors import UserError
from tinynas.records import Trial
from tinynas.search import engine, prepare, worker
from tinynas.search.handover import expected_accuracies, hand_over


def test_a_search_says_what_it_expects_when_it_ends_and_no_sooner(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3, seed=4)
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
    with session.study.deciding():
        session.study.finish(number, cut, {"rung": 0, "epochs": 3, "images": cut.images, "scores": lucky})
    after = session.study.ledger()
    assert after.nets[net.id].rung == 0
    assert after.nets[net.id].beyond == 3, "it would be continued from there"
    assert expected_accuracies(session, after) == before
    hand_over(session, finished=True)
    handed = next(t for t in one.run.trials() if t.number == net.number)
    assert handed.accuracy == 1.0, "what was seen is kept"
    assert handed.scores["expected_accuracy"] == pytest.approx(before[0][net.id], abs=1e-6)
    assert handed.scores["promised_accuracy"] == pytest.approx(before[1][net.id], abs=1e-6)


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


def test_a_worker_whose_last_training_ends_after_the_search_hands_over_again(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(trials=3)
    one.go()
    session = session_of(one)
    late = one.run.trials()[-1]
    session.study.mend()
    assert not any("expected_accuracy" in t.scores for t in one.run.trials())

    def joined(_run: Any, _changes: Any, _index: Any, _clock: Any, on_trial: Callable[[Trial], None]) -> tuple[prepare.Session, str]:
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
