"""The search room by hand arithmetic, where single-point mutations went unnoticed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import optuna
import pytest

from tinynas.budget import load_budget
from tinynas.search.feasible import Feasible, _magnitude
from tinynas.search.settings import Counts
from tinynas.search.strategies import EXHAUSTED, NOTHING_NEW, PATIENCE, STRATEGIES
from tinynas.space import Space

SIZES = Space.model_validate(
    {
        "resolution": [[32, 20], [16, 10], 24],
        "width_mult": [0.5, 1.0, 2.0],
        "color": ["rgb", "gray"],
        "stem": {"out": [8, 16]},
        "stages": [{"out": [8], "kernel": [[5, 3], 3], "expand": [2]}],
    }
)


def test_the_smallest_of_a_gene_by_hand() -> None:
    assert _magnitude((32, 20)) == pytest.approx(640**0.5) and _magnitude((16, 10)) < _magnitude(24) < _magnitude((32, 20))
    assert (_magnitude("rgb"), _magnitude("gray"), _magnitude(0.5)) == (3.0, 1.0, 0.5)
    smallest = Feasible(SIZES, 2, load_budget("stm32f746")).smallest_network()
    arch = SIZES.decode([int(i) for i in smallest], 2)
    assert (arch.height, arch.width, arch.channels) == (16, 10, 1)
    assert arch.stem is not None and (arch.stem.out, arch.blocks[0].kernel) == (8, 3)


def test_what_lies_outside_goes_to_the_nearest_sub_space() -> None:
    feasible = Feasible(SIZES, 2, load_budget("stm32f746"), subspaces=[(0, 0), (2, 2)])
    resolution, width = SIZES.gene_index["resolution"], SIZES.gene_index["width_mult"]
    rows = np.zeros((4, len(SIZES.genes)), dtype=np.int64)
    rows[:, [resolution, width]] = [(0, 1), (2, 1), (1, 2), (0, 0)]
    assert feasible.inside(rows)[:, [resolution, width]].tolist() == [[0, 0], [2, 2], [2, 2], [0, 0]]


def test_nothing_was_counted_before_anything_was_proposed() -> None:
    assert set(Counts().to_json().values()) == {0}


@pytest.mark.parametrize(("refused", "answer"), [(PATIENCE * EXHAUSTED - 1, None), (PATIENCE * EXHAUSTED, NOTHING_NEW), (400, None)])
def test_a_sampler_that_only_repeats_itself_is_given_up_after_so_many(refused: int, answer: str | None) -> None:
    asked: list[int] = []
    ledger: Any = SimpleNamespace(nets={}, refused=refused)

    def ask() -> Any:
        asked.append(1)
        return SimpleNamespace(params={}, set_user_attr=lambda *_: None)

    desk: Any = SimpleNamespace(
        schedule=SimpleNamespace(plan=SimpleNamespace(networks=None)),
        study=SimpleNamespace(ask=ask, member="one", genotype=lambda params: (), ledger=lambda: ledger),
        propose_one=lambda *_: None,
        seconds_left=lambda: 1.0,
    )
    assert STRATEGIES["random"].decide(desk, ledger) == answer
    assert len(asked) == EXHAUSTED
    desk.seconds_left = lambda: 0.0
    assert STRATEGIES["random"].decide(desk, ledger) == "the time is used"
    assert len(asked) == EXHAUSTED + 1


def test_what_does_not_fit_is_repaired_unless_that_is_known() -> None:
    ledger: Any = SimpleNamespace(refused=0, genotypes={"a": (1, 1)}, refused_genotypes=set())
    proposed: list[tuple[tuple[int, ...], str]] = []

    def propose_one(_: Any, genotype: tuple[int, ...], source: str, parent: str | None) -> str | None:
        proposed.append((genotype, source))
        return "job" if source == "repair" or len(proposed) > 4 else None

    def desk(repaired: tuple[int, ...] | None) -> Any:
        return SimpleNamespace(
            propose=lambda _: SimpleNamespace(genotype=(9, 9), source="uniform", parent=None),
            proposer=SimpleNamespace(
                repair=lambda genotype, taken: repaired,
                feasible=SimpleNamespace(size=100),
            ),
            study=SimpleNamespace(ledger=lambda: ledger),
            propose_one=propose_one,
        )

    staged: Any = STRATEGIES["tinynas"]
    assert staged._new(desk((2, 2)), ledger) == "job"
    assert proposed == [((9, 9), "uniform"), ((2, 2), "repair")]
    for known in ((1, 1), (9, 9), None):
        proposed.clear()
        assert staged._new(desk(known), ledger) == "job"
        assert proposed == [((9, 9), "uniform")] * 5, known


def test_how_a_worker_ended_is_said() -> None:
    from tinynas.search.processes import _exit_text

    assert (_exit_text(-9), _exit_text(0), _exit_text(3)) == ("signal 9", "exit code 0", "exit code 3")


def test_a_search_that_is_told_nothing_does_what_the_documents_say() -> None:
    from tinynas.adapt.candidates import Adaptation
    from tinynas.search.settings import SearchSettings

    found = SearchSettings().model_dump(mode="json", exclude={"recipe", "rungs", "objectives"})
    assert found.pop("adapt") == Adaptation().model_dump(mode="json")
    assert found == {
        "trials": None,
        "timeout": None,
        "workers": 1,
        "seed": 0,
        "strategy": "tinynas",
        "choose_space": True,
        "pool": 4000,
        "belief": "process",
        "baseline": 2,
        "start": 2,
        "bands": 4,
        "deepen": 0.5,
        "epoch_images": 0,
        "explore": 0.7,
        "inherit": False,
        "images": None,
        "slices": 0.0,
        "storage": None,
    }


def test_how_far_images_are_enlarged_by_hand() -> None:
    from tinynas.search.spaces import largest_size

    assert largest_size(SIZES, (44, 24)) == (66, 36)
    assert largest_size(SIZES, (8, 40)) == (16, 60), "the smallest input of the space, 16x10, is always worth it"
    assert largest_size(SIZES, (0, 0)) is None


def test_a_journals_study_is_called_as_its_run(prepared: Any) -> None:
    from search_runs import session_of

    one = prepared(trials=1)
    session_of(one)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(one.run.journal_file)))
    assert [found.study_name for found in storage.get_all_studies()] == [one.run.name]


def test_a_training_that_fails_says_what_happened() -> None:
    from tinynas.search.crew import Alone

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("boom " + "x" * 400)

    session = SimpleNamespace(
        space=SimpleNamespace(decode=lambda *_: "arch"),
        classes=2,
        study=None,
        trainings=SimpleNamespace(train=fail),
        plan=SimpleNamespace(rungs=(1,)),
        clock=SimpleNamespace(deadline=None),
    )
    crew = Alone(cast(Any, session))
    job: Any = SimpleNamespace(genotype=(0,), number=1, rung=0, parent=None)
    crew.begin(job)
    assert crew.free() == 0, "one at a time"
    [(told, outcome)] = crew.ended(0.0)
    assert told is job and crew.free() == 1 and crew.ended(0.0) == []
    assert outcome.scores == {} and outcome.failure == ("ValueError: boom " + "x" * 400)[:300]
