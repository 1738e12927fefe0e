"""Room to learn as a limit: one network and many at once, budgets, and the commands that ask for it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_cost_batch import spaces

from tinynas.api import load_space
from tinynas.arch import load_arch
from tinynas.budget import LEARNING, Budget, load_budget
from tinynas.cli import run
from tinynas.config import n_bytes
from tinynas.cost import Cost, estimate
from tinynas.cost.backward import ARITHMETICS, estimate_update
from tinynas.cost.batch import BatchEstimator
from tinynas.cost.board_update import BoardUpdate
from tinynas.cost.explain import explain
from tinynas.cost.memory import aligned
from tinynas.cost.updates import full_update, last_biases, last_layers
from tinynas.errors import BudgetError
from tinynas.graph import lower
from tinynas.space import Space

GRAPH = lower(load_arch("mcunet-tiny2"))
LAST = BoardUpdate(scheme="last", layers=3)


def board(**more: Any) -> Budget:
    document = {"name": "b", "sram": n_bytes(512 * 1024), "flash": n_bytes(1 << 20), "runtime": "tflm-cmsis-nn", "core": "cortex-m4"}
    return Budget.model_validate({**document, **more})


# one network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "wanted"),
    [
        (BoardUpdate(scheme="classifier"), last_layers(GRAPH, 1)),
        (LAST, last_layers(GRAPH, 4)),
        (BoardUpdate(scheme="last", layers="all"), full_update(GRAPH)),
        (BoardUpdate(scheme="bias", layers=5), last_biases(GRAPH, 6)),
        (BoardUpdate(scheme="full"), full_update(GRAPH)),
        (BoardUpdate(scheme="last", layers=9999), full_update(GRAPH)),
    ],
)
def test_an_update_by_name_costs_what_its_layers_cost(update: BoardUpdate, wanted: Any) -> None:
    cost = estimate(GRAPH, "tflm-cmsis-nn", core="cortex-m4", update=update)
    other = estimate_update(GRAPH, wanted, runtime="tflm-cmsis-nn", core="cortex-m4")
    assert cost.update_sram_bytes == cost.values()[LEARNING] == other.ram_bytes
    assert cost.learning is not None and cost.learning.macs == other.macs
    assert cost.to_json()["learning"]["peak"] == other.peak
    assert estimate(GRAPH, "tflm").values()[LEARNING] is None


# many at once ------------------------------------------------------------------------------------------


def alive(cost: Cost) -> int:
    """RAM if a plan reaches the bytes alive at the peak."""
    assert cost.learning is not None
    return max(cost.sram_bytes, aligned(max(cost.learning.live) + cost.tail_bytes))


updates = st.builds(
    lambda scheme, layers, arithmetic, batch, momentum: BoardUpdate(
        scheme=scheme,
        layers=layers if scheme in ("last", "bias") else None,
        arithmetic=arithmetic,
        batch=batch,
        momentum=momentum,
    ),
    st.sampled_from(["classifier", "last", "bias", "full"]),
    st.one_of(st.integers(1, 12), st.just("all")),
    st.sampled_from(sorted(name for name, one in ARITHMETICS.items() if not one.apart)),
    st.sampled_from([1, 4]),
    st.sampled_from([0.0, 0.9]),
)


def compare(space: Space, update: BoardUpdate, seed: int, count: int, *, exact: bool) -> None:
    generator = random.Random(seed)
    genotypes = [space.draw(lambda _, n: generator.randrange(n)) for _ in range(count)]
    batch = BatchEstimator(space, 3, "tflm-cmsis-nn", "cortex-m4", update=update).estimate(np.array(genotypes))
    for index, genotype in enumerate(genotypes):
        cost = estimate(lower(space.decode(genotype, 3)), "tflm-cmsis-nn", core="cortex-m4", update=update)
        found = int(batch.update_sram_bytes[index])
        assert cost.update_sram_bytes is not None
        assert cost.sram_bytes <= found <= cost.update_sram_bytes
        if exact:
            assert found == alive(cost), genotype


@settings(max_examples=8, deadline=None)
@given(space=spaces(), update=updates, seed=st.integers(0, 1 << 30))
def test_many_at_once_have_the_bytes_alive_of_each(space: Space, update: BoardUpdate, seed: int) -> None:
    compare(space, update, seed, 4, exact=True)


@pytest.mark.parametrize("attention", ["se", "spatial"])
def test_gates_are_never_counted_too_high_and_those_of_channels_exactly(attention: str) -> None:
    acts = ["relu6", "h_swish"]
    stages = [
        {"out": [8, 12], "depth": [1, 2], "kernel": 3, "expand": [1, 4], "stride": 2},
        {"out": 16, "depth": [1, 3], "kernel": [3, 5], "expand": 3, "stride": [1, 2], "attention": ["none", attention], "act": acts},
    ]
    stem = {"out": 8, "kernel": 3, "stride": 2}
    space = Space.model_validate(
        {"name": "gates", "resolution": 24, "width_mult": 1, "stem": stem, "stages": stages, "head": {"out": [0, 32]}}
    )
    for update in (BoardUpdate(scheme="full"), BoardUpdate(scheme="last", layers=6), BoardUpdate(scheme="bias", layers="all")):
        compare(space, update, 3, 5, exact=attention == "se")


# budgets -----------------------------------------------------------------------------------------------


def test_an_update_limits_the_sram_that_the_reserves_leave_or_what_is_said() -> None:
    free = board(update={"scheme": "last", "layers": 3}, reserves={"sram": {"stack": n_bytes(16 * 1024)}})
    assert free.limits[LEARNING] == free.limits["sram_bytes"] == 496 * 1024
    cost = free.cost(GRAPH)
    assert cost.update_sram_bytes is not None
    for less in (0, 1):
        said = board(update=LAST, update_sram=n_bytes(cost.update_sram_bytes - less))
        assert said.limits[LEARNING] == cost.update_sram_bytes - less
        assert said.fits(said.cost(GRAPH)) is (less == 0)
    assert LEARNING not in board().limits


def test_a_budget_with_an_update_is_written_and_read_back(tmp_path: Path) -> None:
    said = board(update={"scheme": "bias", "layers": "all", "batch": 4, "momentum": 0.9}, update_sram=n_bytes(200 * 1024))
    path = tmp_path / "b.yaml"
    path.write_text(said.to_yaml(), encoding="utf-8")
    assert "update_sram: 200 KiB" in path.read_text(encoding="utf-8")
    assert load_budget(path) == said


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"update_sram": n_bytes(1024)}, "no update is named"),
        ({"update": {"scheme": "full"}, "update_sram": n_bytes(1 << 20)}, "is more than the 512.0 KiB that the reserves leave"),
        ({"update": {"scheme": "full"}, "runtime": "tinyengine"}, "a runtime of TFLM has"),
        ({"update": {"scheme": "last"}}, "needs layers"),
        ({"update": {"scheme": "classifier", "layers": 3}}, "has no layers"),
        ({"update": {"scheme": "full", "arithmetic": "fp4"}}, "use one of float32"),
        ({"update": {"scheme": "full", "arithmetic": "board"}}, "not known of many networks at once; count with float32"),
    ],
)
def test_what_cannot_be_asked_is_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        board(**more)


def test_an_explanation_names_the_step_that_takes_most_and_finds_what_would_fit() -> None:
    cost = board(update=LAST).cost(GRAPH)
    assert cost.learning is not None and cost.update_sram_bytes is not None
    told = explain(load_arch("mcunet-tiny2"), board(update=LAST, update_sram=n_bytes(cost.update_sram_bytes - 4096)))
    assert told.binding.limit == LEARNING
    assert f"set by {cost.learning.peak}" in told.text()
    assert told.changes and all(change.cost.update_sram_bytes for change in told.changes)


# the line ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("update")


def write_budget(folder: Path, limit: str) -> Path:
    path = folder / f"{limit.replace(' ', '')}.yaml"
    path.write_text(
        f"name: learns\ncore: cortex-m4\nruntime: tflm-cmsis-nn\nsram: 256 KiB\nflash: 1 MiB\nupdate_sram: {limit}\n"
        "update: {scheme: last, layers: 3}\n",
        encoding="utf-8",
    )
    return path


def line(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str]:
    capsys.readouterr()
    code = run([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, json.loads(out) if "--json" in words and out else out, err


def test_estimate_shows_the_room_to_learn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide, narrow = write_budget(folder, "200 KiB"), write_budget(folder, "48 KiB")
    code, document, _ = line(capsys, "estimate", "mcunet-tiny2", "--budget", wide, "--check", "--json")
    assert code == 0
    assert document["sram_bytes"] < document[LEARNING] == document["learning"]["ram_bytes"] <= document["limits"][LEARNING] == 200 * 1024
    code, text, _ = line(capsys, "estimate", "mcunet-tiny2", "--budget", narrow, "--check")
    assert code == 1
    text = " ".join(text.split())  # however wide the terminal
    assert "SRAM to learn is" in text and "a step of learning changes" in text


def test_promote_trains_nothing_without_room_to_learn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("promote", "mcunet-tiny2", "--budget", write_budget(folder, "48 KiB"), "--data", "synthetic", "--out", folder / "alone")
    sizes = [f"data.synthetic.{split}=16" for split in ("train", "val", "test")]
    code, _, err = line(capsys, *words, *[word for one in sizes for word in ("--set", one)])
    assert code == 2
    assert "leaves no room to learn the classifier and 3 layers in front of it" in err


def test_a_search_where_nothing_leaves_room_to_learn_says_so(folder: Path) -> None:
    from tinynas.search.feasible import Feasible
    from tinynas.search.pool import draw_pool

    feasible = Feasible(load_space("tiny"), 2, board(update={"scheme": "full"}, update_sram=n_bytes(4096)))
    with pytest.raises(BudgetError, match="update_sram_bytes: the smallest network needs"):
        draw_pool(feasible, 16, np.random.default_rng(0))
