"""Objectives read trials, and say which way is better."""

from __future__ import annotations

import pytest

from tinynas.errors import UserError
from tinynas.objectives import OBJECTIVES, objectives, traded, wake_vision_score
from tinynas.records import ADAPTED, WORST_SUBSET, Trial

COSTS: dict[str, float | None] = {
    "macs": 3_887_331,
    "params": 50_000,
    "weights_bytes": 52_000,
    "flash_bytes": 55_392,
    "program_bytes": 130_000,
    "sram_bytes": 61_968,
    "update_sram_bytes": 90_000,
    "latency_ms": None,
}
TRAINED = Trial(0, "a", "trained", "tpe", costs=COSTS, scores={"accuracy": 0.75, "int8_accuracy": 0.74, WORST_SUBSET: 0.6, ADAPTED: 0.5})
UNTRAINED = Trial(1, "b", "infeasible", "tpe", costs=COSTS)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_reads_or_declines(name: str) -> None:
    objective = OBJECTIVES[name]
    assert objective.name == name
    assert objective.maximize == objective.trained
    assert objective.of(Trial(2, "c", "failed", "tpe")) is None
    value = objective.of(TRAINED)
    assert value is None if name == "latency" else value is not None and value > 0
    if objective.trained:
        assert objective.of(UNTRAINED) is None


def test_accuracy_is_added_where_nothing_trained_is_named() -> None:
    assert [o.name for o in objectives(["macs"])] == ["accuracy", "macs"]
    assert [o.name for o in objectives(["int8_accuracy", "sram", "flash"])] == ["int8_accuracy", "sram", "flash"]


def test_scores_alone_trade_nothing() -> None:
    for names in (["accuracy"], ["int8_accuracy"], ["accuracy", WORST_SUBSET], [ADAPTED], ["mean_average_precision"]):
        assert not traded(objectives(names)), names
    # A score that costs make worse is a trade; so is a cost alone, beside which accuracy is put.
    for names in (["macs"], ["accuracy", "sram"], ["wake-vision-score"], ["accuracy", "wake-vision-score"]):
        assert traded(objectives(names)), names


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UserError, match='did you mean "latency"') as caught:
        objectives(["latncy"])
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match="twice"):
        objectives(["macs", "macs"])


def test_wake_vision_score_gives_the_published_row() -> None:
    # 4th place of the model-centric track: accuracy 0.75 -> 0.94 normalised, deployability 0.8, score 0.78.
    score = wake_vision_score(0.75, 3_887_331, 61_968, 55_392)
    assert round(score, 2) == 0.78
    assert round(0.75 / 0.80, 2) == 0.94
    assert round(score / (0.75 / 0.80), 1) == 0.8


def test_wake_vision_score_rewards_accuracy_and_thrift() -> None:
    base = wake_vision_score(0.8, 4e6, 60_000, 60_000)
    assert wake_vision_score(0.82, 4e6, 60_000, 60_000) > base
    for costs in ((8e6, 60_000, 60_000), (4e6, 90_000, 60_000), (4e6, 60_000, 90_000)):
        assert wake_vision_score(0.8, *costs) < base
    assert wake_vision_score(1.0, 1e12, 1e12, 1e12) == 0.0
