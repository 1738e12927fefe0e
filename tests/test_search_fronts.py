"""What records say together, against arithmetic by hand."""

from __future__ import annotations

import math

import pytest

from tinynas.objectives import objectives
from tinynas.records import Trial, as_promised
from tinynas.search.fronts import count, front_row, front_rows, normalised_hypervolume, unit_point

GOALS = objectives(("accuracy", "macs"))
#: From chance to 1, and from 8 to 1 MACs on a log scale.
BOX = ((0.5, 1.0), (math.log(8), math.log(1)))


def trial(number: int, accuracy: float | None, macs: float, state: str = "trained", **scores: float) -> Trial:
    known = {} if accuracy is None else {"accuracy": accuracy}
    return Trial(number, f"n{number}", state, "model", costs={"macs": macs, "params": 7.0}, scores={**known, **scores})  # type: ignore[arg-type]


def test_counts_by_what_became_of_them() -> None:
    states = ["trained", "trained", "stopped", "infeasible", "duplicate", "duplicate", "duplicate", "failed", "failed"]
    said = count(trial(i, 0.5, 1.0, state) for i, state in enumerate(states))
    assert said.to_json() == {"proposed": 9, "infeasible": 1, "duplicate": 3, "trained": 3, "failed": 2}


def test_only_what_was_trained_is_on_the_front_cheapest_first() -> None:
    records = [
        trial(0, 0.9, 4.0),
        trial(1, 0.7, 2.0, "stopped"),
        trial(2, 0.6, 3.0),
        trial(3, 0.99, 1.0, "duplicate"),
        trial(4, 0.99, 1.0, "failed"),
        trial(5, None, 0.5),
    ]
    assert [record.number for record in front_rows(records, GOALS)] == [1, 0]
    twins = [trial(7, 0.9, 4.0, int8_accuracy=0.8), trial(6, 0.8, 4.0, int8_accuracy=0.9)]
    assert [record.number for record in front_rows(twins, objectives(("accuracy", "int8_accuracy")))] == [6, 7], "of equal cost by number"


def test_hypervolume_by_hand() -> None:
    # 0.75 is half the way from chance; 2 MACs is two thirds of it on the log scale, and 1 MACs all.
    assert unit_point([0.75, 2.0], GOALS, BOX) == pytest.approx([0.5, 2 / 3])
    assert unit_point([1.5, 0.0], GOALS, BOX) == [1.0, 1.0], "no more than all the way"
    records = [trial(0, 0.75, 1.0), trial(1, 1.0, 4.0, "stopped"), trial(2, 1.0, 1.0, "infeasible"), trial(3, None, 1.0)]
    # 0.5 x 1 and, above it, 0.5 x 1/3.
    assert normalised_hypervolume(records, GOALS, BOX) == pytest.approx(0.5 + 0.5 / 3)


def test_a_row_says_what_people_ask_for() -> None:
    row = front_row(trial(3, 0.75, 2.0, expected_accuracy=0.7, int8_accuracy=0.74, val_loss=0.3))
    assert row["accuracy"] == 0.75
    assert row["expected_accuracy"] == 0.7
    assert row["int8_accuracy"] == 0.74
    assert "val_loss" not in row
    assert (row["macs"], row["params"], row["sram_bytes"]) == (2.0, 7.0, None)


def test_expected_accuracies_move_every_trained_objective() -> None:
    costs: dict[str, float | None] = {"macs": 1e6, "sram_bytes": 1e4, "flash_bytes": 1e5}
    scores = {"accuracy": 0.5, "int8_accuracy": 0.48, "loss_sum": 3.0, "expected_accuracy": 0.6}
    lucky = Trial(0, "lucky", "trained", "model", costs=costs, scores={**scores, "accuracy": 0.7, "expected_accuracy": 0.55})
    steady = Trial(1, "steady", "trained", "model", costs=costs, scores=scores)
    assert as_promised(steady).scores == pytest.approx({**scores, "accuracy": 0.6, "int8_accuracy": 0.58})
    for names in (("accuracy", "macs"), ("int8_accuracy", "macs"), ("wake-vision-score", "macs")):
        assert [row.id for row in front_rows([lucky, steady], objectives(names))] == ["steady"]
    unknown = Trial(2, "running", "trained", "model", costs=costs, scores={"accuracy": 0.5})
    assert as_promised(unknown) is unknown
