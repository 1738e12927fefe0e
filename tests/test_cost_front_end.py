"""What a front end takes: part of every estimate and of a budget, and no more on an emulated core than was promised."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from shutil import which

import numpy as np
import pytest
from rich.console import Console
from test_sound_features import sounds

from tinynas.api import load_space
from tinynas.arch import Arch
from tinynas.budget import Budget
from tinynas.cost import estimate, sound_folder
from tinynas.cost.batch import BatchEstimator, with_front_ends
from tinynas.cost.flash import FRONT_END_BYTES
from tinynas.cost.front_end import TERMS, front_end_cost, measured, terms
from tinynas.cost.sound_folder import around_bytes, label_bytes, longer_bytes
from tinynas.export.sound_code import front_end_code
from tinynas.front_end import FrontEnd
from tinynas.graph import Graph, lower
from tinynas.inputs import Input
from tinynas.report.terminal import cost_table
from tinynas.target.cores import CORES
from tinynas.target.program import run_front_end

needs_board = pytest.mark.skipif(
    which("arm-none-eabi-gcc") is None or which("qemu-system-arm") is None, reason="no compiler or emulator for Cortex-M"
)
USUAL = FrontEnd()


def network(front_end: FrontEnd | None = USUAL) -> Graph:
    height, width, channels = (front_end or USUAL).shape
    shape = {"height": height, "width": width, "channels": channels, "classes": 4, "stem": {"out": 8}}
    return lower(Arch.model_validate({**shape, "front_end": front_end, "input_kind": "features"}))


def test_memory_and_tables_by_hand() -> None:
    cost = front_end_cost(USUAL, 4)
    # 512 samples of an FFT, 40 estimates of noise, 480 samples, a counter; 49 frames of 40 bytes, 4 answers of 4 classes, 16 B of counters
    assert cost.state_bytes == 512 * 2 + 40 * 4 + 480 * 2 + 4
    assert cost.kept_bytes == 49 * 40 + 4 * 4 + 16 and cost.sram_bytes == cost.state_bytes + cost.kept_bytes
    assert (cost.around_bytes, cost.program_bytes) == (0, cost.flash_bytes), "its folder is counted with the interpreter"
    # Around a network as C a word more, whose first byte says whether there was an answer; a stream has one frame and two counters less.
    assert front_end_cost(USUAL, 4, compiled=True).kept_bytes == cost.kept_bytes + 4
    assert front_end_cost(USUAL, 4, compiled=True, every=2).kept_bytes == 40 + 4 * 4 + 8 + 4
    # window, quarter wave, widths, weights of the bins from 125 (the 5th is at 156) to 7,500 Hz (the 240th), logarithms, gains
    assert cost.table_bytes == 480 * 2 + 129 * 2 + 41 + 236 * 2 + 129 * 2 + 125 * 2
    plain = front_end_cost(FrontEnd(pcan=False, noise_reduction=False), 4)
    assert plain.state_bytes == cost.state_bytes - 160 and plain.table_bytes == cost.table_bytes - 250
    mfcc = front_end_cost(FrontEnd(kind="mfcc"), 4)
    assert mfcc.table_bytes == cost.table_bytes + 2 * 10 * 40 and mfcc.state_bytes == cost.state_bytes + 2 * 40
    assert (terms(USUAL)["turned"], terms(USUAL)["halves"]) == (48 + 60 + 63, 0) and tuple(terms(USUAL)) == TERMS


def test_an_unmeasured_core_takes_the_most_of_those_that_were_and_has_no_time() -> None:
    known = [front_end_cost(USUAL, 4, core=core) for core in measured()]
    other = front_end_cost(USUAL, 4, core="xtensa-lx6", clock_mhz=240)
    assert other.flash_bytes == max(cost.flash_bytes for cost in known) and other.stack_bytes == max(cost.stack_bytes for cost in known)
    assert other.instructions is None and other.latency_ms is None and not other.measured and all(cost.measured for cost in known)


def test_what_stands_around_a_network_as_c_by_hand() -> None:
    for takes in ("clip", "frame"):
        for core in (None, "cortex-m4", "xtensa-lx6"):
            tables = [table for name, table in sound_folder.measured().items() if core != "cortex-m4" or name == core]
            # Labels have a pointer and twelve bytes; several classes two tables of thresholds of two bytes; a stream a table of chances.
            one = max(table[f"{takes} one"] for table in tables) + 512 * (takes == "frame")
            several = max(table[f"{takes} several"] for table in tables) + 2 * 24
            assert around_bytes(takes, 11, core) == max(one, several) + 64 + 11 * 16
    assert label_bytes(["abc", "abcd", "\u00e9\u00e9"]) == 3 * 4 + 4 + 8 + 8
    assert longer_bytes(["abcdefghijk"]) == 0 and longer_bytes(["abcdefghijkl"]) == 4
    assert longer_bytes(["abcdefghijkl", "abc"]) == 0, "twelve on average"


@needs_board
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_promised_is_used(core: str) -> None:
    for front_end in (FrontEnd(clip_ms=70), FrontEnd(sample_rate=44100, window_ms=20, bins=50, kind="mfcc", pcan=False, clip_ms=60)):
        promised = front_end_cost(front_end, 4, core=core)
        samples = sounds(front_end.clip_samples, front_end.sample_rate)
        ran = run_front_end(CORES[core], "net", front_end_code(front_end, "net"), samples.tolist(), piece=front_end.stride)
        assert ran.state_bytes == promised.state_bytes
        assert promised.stack_bytes / 3 <= ran.stack_bytes <= promised.stack_bytes
        assert 0.9 * promised.flash_bytes <= ran.flash_bytes <= promised.flash_bytes
        assert promised.instructions is not None and 0.85 * promised.instructions <= ran.frame_instructions <= promised.instructions


@pytest.mark.parametrize("runtime", ["tflm-cmsis-nn", "compiled"])
def test_estimates_and_budgets_hold_both(runtime: str) -> None:
    on = {"core": "cortex-m4", "clock_mhz": 64.0}
    plain, cost = estimate(network(None), runtime, **on), estimate(network(), runtime, **on)
    heard = front_end_cost(USUAL, 4, **on, timing=cost.timing, compiled=runtime == "compiled")
    assert cost.front_end == heard and plain.front_end is None
    mine, without = cost.values(), plain.values()
    assert mine["sram_bytes"] == without["sram_bytes"] + heard.sram_bytes and cost.sram_bytes == plain.sram_bytes
    said = cost.flash_bytes - plain.flash_bytes  # a file's metadata hold the front end's parameters
    assert said == (0 if runtime == "compiled" else FRONT_END_BYTES)
    assert mine["flash_bytes"] == without["flash_bytes"] + said + heard.flash_bytes
    assert mine["program_bytes"] == without["program_bytes"] + said + heard.program_bytes
    assert (heard.around_bytes > 500) == (runtime == "compiled")
    assert mine["macs"] == without["macs"]
    if runtime == "compiled":
        assert mine["stack_bytes"] == max(without["stack_bytes"], heard.stack_bytes)
    else:
        assert heard.latency_ms is not None and mine["latency_ms"] == pytest.approx(without["latency_ms"] + heard.latency_ms)
    document = json.loads(json.dumps(cost.to_json()))
    assert document["front_end"]["sram_bytes"] == heard.sram_bytes and document["front_end"]["frame_instructions"] == heard.instructions
    assert plain.to_json()["front_end"] is None
    at = {"name": "b", "runtime": runtime, "core": "cortex-m4", "clock_mhz": 64, "flash": "1 MiB"}
    budget = Budget.model_validate({**at, "sram": f"{int(mine['sram_bytes'])} B"})
    assert budget.fits(cost) and budget.fits(plain)
    short = Budget.model_validate({**at, "sram": f"{int(mine['sram_bytes']) - 1} B"})
    assert not short.fits(cost) and short.fits(plain)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(cost_table(cost, budget))
    said = console.export_text()
    assert "front end" in said and "instructions a frame" in said


def test_many_at_once_are_those_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space("tiny")
    batch = BatchEstimator(space, 4, "tflm-cmsis-nn", core="cortex-m4", clock_mhz=64)
    rng = np.random.default_rng(0)
    genes = np.stack([[rng.integers(len(gene.choices)) for gene in space.genes] for _ in range(6)])
    front_ends = [USUAL, FrontEnd(bins=20, window_ms=64), FrontEnd(kind="mfcc")]
    which = np.array([0, 1, 2, 1, 0, 2])
    monkeypatch.setattr(batch.tables, "formula", replace(Input(1, 1, 1, "features"), front_end=USUAL).written)
    costs = with_front_ends(batch.estimate(genes), front_ends, which, 4, core="cortex-m4", clock_mhz=64, timing=batch.latency)
    for i, row in enumerate(genes):
        graph = lower(space.decode(row.tolist(), 4))
        heard = replace(graph, input=replace(graph.input, front_end=front_ends[which[i]]))
        single = estimate(heard, "tflm-cmsis-nn", core="cortex-m4", clock_mhz=64).values()
        assert costs.values(i) == pytest.approx(single), i
    unknown = with_front_ends(batch.estimate(genes), front_ends, which, 4, core="xtensa-lx6", clock_mhz=240)
    assert unknown.values(0)["latency_ms"] is None and unknown.values(0)["sram_bytes"] == costs.values(0)["sram_bytes"]
