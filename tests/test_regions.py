"""Boards with several memories: what lies where, what that leaves for a network, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tinynas import api, init
from tinynas.arch import load_arch
from tinynas.boards import boards, find_board
from tinynas.budget import Budget, load_budget
from tinynas.cli import run
from tinynas.config import build, n_bytes
from tinynas.cost import estimate
from tinynas.cost.batch import BatchEstimator
from tinynas.cost.explain import explain
from tinynas.errors import ConfigError
from tinynas.graph import lower
from tinynas.regions import USES, Region, placed

KIB = 1024
SPLIT = """\
name: split
core: cortex-m7
clock_mhz: 480
sram:
  - {name: dtcm, size: 128 KiB, use: [stack, application]}
  - {name: axi, size: 512 KiB, use: [arena, runtime]}
  - {name: sdram, size: 8 MiB, slow: true, use: [frame_buffer]}
flash: 1 MiB
reserves: {sram: {application: 100 KiB, stack: 8 KiB, frame_buffer: 600 KiB, runtime: 4 KiB}}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "budget.yaml"
    path.write_text(text)
    return path


def test_a_network_may_use_what_its_region_leaves(tmp_path: Path) -> None:
    budget = load_budget(written(tmp_path, SPLIT))
    assert budget.limits == {"sram_bytes": 508 * KIB, "program_bytes": 1024 * KIB}
    assert (budget.arena.name, budget.arena.size) == ("axi", 512 * KIB)
    # With all of them in one place nothing would be left.
    with pytest.raises(ConfigError, match=r"nothing is left for a network; lower reserves\.sram\.\w+ \([0-9.]+ KiB\)"):
        load_budget(written(tmp_path, SPLIT), ["sram=512 KiB"])
    again = load_budget(written(tmp_path, budget.to_yaml()))
    assert again == budget and again.limits == budget.limits


def test_a_plain_size_is_one_region_with_everything(tmp_path: Path) -> None:
    budget = load_budget("stm32f746")
    assert [(region.name, region.size, region.use) for region in budget.regions] == [("sram", 320 * KIB, USES)]
    assert isinstance(budget.sram, int)
    for override in ("300 KiB", "[{name: all, size: 300 KiB, use: [arena, application, stack, frame_buffer, runtime]}]"):
        assert load_budget("stm32f746", [f"sram={override}"]).limits["sram_bytes"] == budget.limits["sram_bytes"] - 20 * KIB


def test_what_lies_where_adds_up(tmp_path: Path) -> None:
    budget = load_budget(written(tmp_path, SPLIT))
    cost = api.estimate("mcunet-tiny2", budget)
    dtcm, axi, sdram = budget.placed(cost)
    assert dtcm.bytes_of == {"stack": 8 * KIB, "application": 100 * KIB} and dtcm.used == 108 * KIB
    assert axi.bytes_of == {"arena": cost.sram_bytes, "runtime": 4 * KIB} and axi.fits
    assert sdram.bytes_of == {"frame_buffer": 600 * KIB} and sdram.to_json()["slow"] is True
    small = load_budget(
        written(tmp_path, SPLIT),
        ["sram=[{name: a, size: 40 KiB, use: [arena]}, {name: b, size: 1 MiB, use: [stack, application, frame_buffer, runtime]}]"],
    )
    full = small.placed(cost)
    assert not small.fits(cost) and [one.fits for one in full] == [False, True]
    assert full[0].used == cost.sram_bytes > 40 * KIB == small.limits["sram_bytes"]


def test_a_region_may_be_full_to_the_byte() -> None:
    region = Region(name="a", size=n_bytes(1000), use=("arena", "stack"))
    assert placed([region], {"stack": 100}, 900)[0].fits and not placed([region], {"stack": 100}, 901)[0].fits
    assert placed([region], {"stack": 0, "runtime": 5}, 900)[0].bytes_of == {"arena": 900}


def test_of_an_arena_in_slow_memory_no_time_is_known(tmp_path: Path) -> None:
    fast = load_budget(written(tmp_path, SPLIT))
    slow = load_budget(written(tmp_path, SPLIT.replace("[arena, runtime]", "[runtime]").replace("[frame_buffer]", "[frame_buffer, arena]")))
    assert slow.limits["sram_bytes"] == (8192 - 600) * KIB
    assert api.estimate("mcunet-tiny2", fast).latency_ms is not None
    cost = api.estimate("mcunet-tiny2", slow)
    assert cost.latency_ms is None and slow.fits(cost)
    assert slow.why_unknown("latency_ms") == "the arena lies in slow memory (sdram), where no time has been measured"
    assert explain(load_arch("mcunet-tiny2"), slow).fits
    space = api.load_space("tiny")
    genotypes = [space.draw(lambda _, n: 0)]
    assert np.isnan(BatchEstimator(space, 2, slow.runtime, slow.core, slow.timed_mhz).estimate(genotypes).latency_ms).all()
    with pytest.raises(ConfigError, match="a latency_ms limit cannot be checked: the arena lies in slow memory"):
        load_budget(written(tmp_path, slow.to_yaml() + "latency_ms: 10\n"))


@pytest.mark.parametrize(
    ("sram", "message"),
    [
        ("[]", "no region has the arena"),
        ("[{name: a, size: 64 KiB, use: [stack]}]", "no region has the arena"),
        ("[{name: a, size: 64 KiB, use: [arena]}, {name: a, size: 64 KiB}]", "two regions are called a"),
        ("[{name: a, size: 64 KiB, use: [arena]}, {name: b, size: 64 KiB, use: [arena]}]", "arena lies in two places"),
        ("[{name: a, size: 64 KiB, use: [arena, stack, stack]}]", "stack lies in two places"),
        ("[{name: a, size: 64 KiB, use: [arena]}]", r"the reserve stack \(8.0 KiB\) lies in no region: add stack"),
        ("[{name: a, size: 8 KiB, use: [arena, stack]}]", "8.0 KiB of 8.0 KiB SRAM: nothing is left"),
        ("[{name: a, size: 8 KiB, use: [arena]}, {name: b, size: 4 KiB, use: [stack]}]", "in the region b: more than there is"),
        ("[{name: a, size: 64 KB, use: [arena, stack]}]", '"KB" can mean'),
        ("[{name: a, size: 0 B, use: [arena, stack]}]", "more than 0 B"),
        ("[{name: a, size: 64, use: [arena, stack]}]", "sram.0.size.*needs a unit"),
        ("[{name: a, sise: 64 KiB, size: 64 KiB, use: [arena, stack]}]", 'did you mean "size"'),
        ("[{name: a, size: 64 KiB, use: [arina, stack]}]", 'did you mean "arena"'),
        ("[64 KiB]", "sram.0"),
        ("{name: a}", "size with a unit"),
    ],
)
def test_faults_say_what_to_do(tmp_path: Path, sram: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_budget(written(tmp_path, f"name: x\nsram: {sram}\nflash: 1 MiB\nreserves: {{sram: {{stack: 8 KiB}}}}\n"))
    assert "line " in str(caught.value) or "budget.yaml" in str(caught.value)


def test_an_exactly_full_region_beside_the_arena_is_no_fault() -> None:
    document = {
        "name": "x",
        "sram": [{"name": "a", "size": "16 KiB", "use": ["arena"]}, {"name": "b", "size": "8 KiB", "use": ["stack"]}],
        "flash": "1 MiB",
        "reserves": {"sram": {"stack": "8 KiB"}},
    }
    assert build(document, Budget, source="test").limits["sram_bytes"] == 16 * KIB


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, SPLIT))
    assert run(["estimate", "mcunet-tiny2", "-b", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("region"))
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["dtcm", "axi", "sdram"]
    assert "arena" in lines[start + 2] and "(slow)" in lines[start + 3] and "frame buffer 600.0 KiB" in lines[start + 3]
    assert run(["estimate", "mcunet-tiny2", "-b", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [region["name"] for region in document["regions"]] == ["dtcm", "axi", "sdram"]
    assert document["regions"][1]["uses"]["arena"] == document["sram_bytes"]
    assert run(["estimate", "mcunet-tiny2", "-b", "stm32f746"]) == 0
    assert "region" not in capsys.readouterr().out
    assert run(["estimate", "mcunet-tiny2", "-b", "stm32f746", "--json"]) == 0
    assert [region["name"] for region in json.loads(capsys.readouterr().out)["regions"]] == ["sram"]


def test_boards_with_several_memories() -> None:
    several = [board for board in boards() if board.regions]
    assert len(several) >= 8
    for board in several:
        budget = build(yaml.safe_load(init.budget_text(board)), Budget, source=board.name)
        assert [(r.name, r.size, r.slow, r.use) for r in budget.regions] == [(r.name, r.size_bytes, r.slow, r.use) for r in board.regions]
        assert sorted(use for region in board.regions for use in region.use) in (sorted(USES), sorted(set(USES) - {"frame_buffer"}))
        # What the table calls contiguous is the region of the arena, and that one is fast.
        assert budget.arena.size == board.sram_bytes and not budget.arena.slow
        assert all(region.source for region in board.regions)
    h743 = find_board("nucleo-h743zi")
    assert {region.name: region.size_bytes // KIB for region in h743.regions} == {"dtcm": 128, "axi": 512, "d2": 288, "sram4": 64}
    assert h743.to_json()["regions"][1]["use"] == ("arena", "runtime")


def test_the_search_and_costs_know_nothing_of_regions(tmp_path: Path) -> None:
    split, whole = load_budget(written(tmp_path, SPLIT)), load_budget(written(tmp_path, SPLIT), ["sram=1224 KiB", "reserves={}"])
    graph = lower(load_arch("mcunet-vww1"))
    assert estimate(graph, split.runtime).sram_bytes == estimate(graph, whole.runtime).sram_bytes
    assert split.excess({"sram_bytes": 508 * KIB, "flash_bytes": 0})["sram_bytes"] == 0
