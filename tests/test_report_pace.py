"""How long full training takes here: by hand arithmetic on a run whose trainings took known times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinynas.budget import load_budget
from tinynas.config import load, shipped
from tinynas.recipe import Recipe
from tinynas.records import Trial
from tinynas.report.pace import Pace, _factor, looked_at
from tinynas.report.words import roughly, time_words
from tinynas.runs import Run
from tinynas.space import Space

COSTS = {"sram_bytes": 10_000.0, "flash_bytes": 10_000.0}


def run_of(
    path: Path, networks: dict[str, tuple[float, float]], *, objectives: tuple[str, ...] = ("accuracy", "macs"), **env: object
) -> Run:
    """A finished run of ``networks``: id to (MACs, accuracy), cheapest first, all on the front."""
    recipe = Recipe.proxy(bn_images=30).model_dump(mode="json")
    run = Run.create(
        path,
        config={"data": "d", "data_options": {}, "settings": {"objectives": [*objectives], "seed": 0, "recipe": recipe}},
        space=load(shipped("search_spaces")["tiny"], Space),
        budget=load_budget("stm32f746"),
        env={"images": {"train": 600, "val": 60}, **env},
    )
    run.write_json("plan", {"speed": [1e-3, 1e-9]})
    for number, (net_id, (macs, accuracy)) in enumerate(networks.items()):
        run.append_trial(Trial(number, net_id, "trained", "tpe", (), {"macs": macs, **COSTS}, {}, {"accuracy": accuracy}, 2, 200))
    run.write_front([{"id": net_id, "accuracy": accuracy, "macs": macs, **COSTS} for net_id, (macs, accuracy) in networks.items()])
    return run


def trained(run: Run, number: int, epochs: int, images: int, seconds: float) -> None:
    run.append_log("times", {"number": number, "id": "x", "epochs": epochs, "images": images, "seconds": seconds})


def test_the_pace_is_how_much_longer_a_longer_training_took(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", {"a" * 10: (1e6, 0.6), "b" * 10: (3e6, 0.7)})
    # An epoch looks at 60 images for validation and 30 for batch norm: as much work as 30 that are trained on. Each takes three
    # times the plan's guess, and 0.7 s before its first image.
    trained(run, 0, 1, 100, 0.7 + 3 * (100 + 30) * (1e-3 + 1e-9 * 1e6))
    trained(run, 0, 3, 200, 0.7 + 3 * (200 + 60) * (1e-3 + 1e-9 * 1e6))
    trained(run, 0, 7, 400, 0.7 + 3 * (400 + 120) * (1e-3 + 1e-9 * 1e6))
    trained(run, 1, 1, 100, 50 * (100 + 30) * (1e-3 + 1e-9 * 3e6))  # the first of a size, which made its images
    trained(run, 1, 3, 200, 0.7 + 3 * (200 + 60) * (1e-3 + 1e-9 * 3e6))
    pace = Pace.of(run)
    assert pace is not None
    assert (pace.fixed, pace.per_mac) == (pytest.approx(3e-3), pytest.approx(3e-9))
    recipe = Recipe.full(epochs=10, bn_images=1000)
    # 600 to train on, 60 for validation and, as there are no more, 600 for batch norm: 600 + 660 / 3.
    assert pace.full_training(2e6, recipe) == pytest.approx(10 * 820 * (3e-3 + 3e-9 * 2e6))
    assert pace.full_training(2e6, Recipe.full(epochs=10, bn_images=30, epoch_images=90)) == pytest.approx(10 * 120 * 9e-3)


def test_trainings_of_one_length_tell_the_pace_by_their_middle() -> None:
    assert _factor([2.0, 2.0, 2.001], [4.0, 6.0, 200.0]) == pytest.approx(3.0)
    assert _factor([2.0], [5.0]) == 2.5
    assert _factor([1.0, 2.0], [9.0, 4.0]) == pytest.approx(5.5), "a longer one that took less says nothing"


def test_what_is_not_known_is_not_guessed(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", {"a" * 10: (1e6, 0.6)})
    assert Pace.of(run) is None, "nothing was trained"
    trained(run, 0, 1, 0, 4.0)
    assert Pace.of(run) is None, "a training that the time limit cut off before its first image"
    trained(run, 0, 1, 100, 4.0)
    assert Pace.of(run) is None, "the epoch was counted before"
    trained(run, 0, 2, 100, 4.0)
    assert Pace.of(run) is not None
    older = run_of(tmp_path / "older", {"a" * 10: (1e6, 0.6)}, images=None)
    trained(older, 0, 1, 100, 4.0)
    assert Pace.of(older) is None, "it does not say how many images it trains on"


def test_looking_costs_a_third_of_training() -> None:
    assert looked_at(Recipe.full(bn_images=300), 1000, 600) == pytest.approx(300)
    assert looked_at(Recipe.full(bn_images=300), 100, 600) == pytest.approx(700 / 3), "no more than there are"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3, "under a minute"),
        (59.9, "under a minute"),
        (60, "about 1 min"),
        (3300, "about 55 min"),
        (5340, "about 89 min"),
        (5400, "about 1.5 h"),
        (35_640, "about 9.9 h"),
        (36_000, "about 10 h"),
        (172_799, "about 48 h"),
        (172_800, "about 2 days"),
    ],
)
def test_estimated_times_are_rough(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 second"), (40, "40 seconds"), (60, "1 minute"), (90, "1.5 minutes"), (480, "8 minutes"), (3600, "1 hour"), (9000, "2.5 hours")],
)
def test_times_that_were_set_are_exact(seconds: float, text: str) -> None:
    assert time_words(seconds) == text
