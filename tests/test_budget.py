"""Budgets: every shipped one, limits, reserves, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tinynas.arch import load_arch
from tinynas.budget import UNKNOWN, Budget, load_budget
from tinynas.config import build, n_bytes, shipped
from tinynas.cost import estimate
from tinynas.errors import ConfigError
from tinynas.graph import lower

ASKED = {"stm32f746", "stm32f412", "stm32h743", "stm32l4r5", "nano33-ble-sense", "rp2040", "esp32-s3", "mcunet-tiny2"}


def test_all_asked_boards_ship() -> None:
    assert set(shipped("budgets")) >= ASKED


@pytest.mark.parametrize("name", sorted(shipped("budgets")))
def test_shipped_budget(name: str, tmp_path: Path) -> None:
    budget = load_budget(name)
    assert budget.name == name
    assert budget.sources
    assert {"sram_bytes", "flash_bytes" if name == "mcunet-tiny2" else "program_bytes"} <= set(budget.limits)
    assert all(limit > 0 for limit in budget.limits.values())
    path = tmp_path / "again.yaml"
    path.write_text(budget.to_yaml())
    assert load_budget(path) == budget


def test_stm32f746_is_as_its_datasheet() -> None:
    budget = load_budget("stm32f746")
    assert (budget.sram, budget.flash, budget.core, budget.clock_mhz) == (320 * 1024, 1024 * 1024, "cortex-m7", 216)
    kept = budget.reserves.sram
    assert budget.limits["sram_bytes"] == 320 * 1024 - kept.application - kept.stack - kept.frame_buffer - kept.runtime


def test_mcunet_tiny2_fits_its_own_budget_with_2_and_20_classes_and_hardly_more() -> None:
    budget = load_budget("mcunet-tiny2")
    for classes in (2, 20):
        excess = budget.excess(estimate(lower(load_arch("mcunet-tiny2").with_classes(classes))))
        assert set(excess) == {"sram_bytes", "flash_bytes", "macs"}
        assert all(-0.05 < over <= 0 for over in excess.values())


def test_excess_and_fits() -> None:
    budget = Budget(name="b", sram=n_bytes(1000), flash=n_bytes(2000), macs=100)
    assert budget.limits == {"sram_bytes": 1000, "program_bytes": 2000, "macs": 100}
    excess = budget.excess({"sram_bytes": 1500, "program_bytes": 2000, "macs": 50})
    assert excess == {"sram_bytes": 0.5, "program_bytes": 0.0, "macs": -0.5}
    assert not budget.fits({"sram_bytes": 1500, "program_bytes": 2000, "macs": 50})
    assert budget.fits({"sram_bytes": 1000, "program_bytes": 2000, "macs": 100})
    assert budget.excess({"sram_bytes": 1, "program_bytes": 1})["macs"] == UNKNOWN


def test_a_reserve_for_the_stack_limits_what_a_compiled_network_takes_of_it(tmp_path: Path) -> None:
    text = "name: x\nsram: 64 KiB\nflash: 1 MiB\ncore: cortex-m4\nruntime: {runtime}\nreserves: {{sram: {{stack: {stack} B}}}}\n{more}"
    cost = estimate(lower(load_arch("mcunet-tiny2")), "compiled", core="cortex-m4")
    assert cost.stack_bytes is not None
    enough = load_budget(write(tmp_path, text.format(runtime="compiled", stack=cost.stack_bytes, more="")))
    assert enough.limits["stack_bytes"] == cost.stack_bytes and enough.fits(cost)
    short = load_budget(write(tmp_path, text.format(runtime="compiled", stack=cost.stack_bytes - 1, more="")))
    assert not short.fits(cost) and short.excess(cost)["stack_bytes"] > 0
    assert short.told(cost)["limits"]["stack_bytes"] == cost.stack_bytes - 1
    named = load_budget(write(tmp_path, text.format(runtime="compiled", stack=0, more="at_most: {stack_bytes: 100 B}\n")))
    assert named.limits["stack_bytes"] == 100 and not named.fits(cost)
    other = load_budget(write(tmp_path, text.format(runtime="tflm", stack=100, more="")))
    assert "stack_bytes" not in other.limits, "TFLM's is not known"
    with pytest.raises(ConfigError, match="what tflm takes of the stack is not known"):
        load_budget(write(tmp_path, text.format(runtime="tflm", stack=0, more="at_most: {stack_bytes: 1 KiB}\n")))


def test_flash_holds_the_model_and_its_code_unless_a_reserve_is_there_for_the_code(tmp_path: Path) -> None:
    cost = estimate(lower(load_arch("mcunet-tiny2")), "tflm", core="cortex-m4")
    assert cost.program_bytes is not None and cost.code_bytes is not None
    assert cost.program_bytes == cost.flash_bytes + cost.code_bytes > cost.flash_bytes + 50_000
    text = "name: x\nsram: 1 MiB\ncore: cortex-m4\nflash: {flash} B\nreserves: {{flash: {{application: 64 KiB{more}}}}}\n"
    whole = load_budget(write(tmp_path, text.format(flash=cost.program_bytes + 65536, more="")))
    assert whole.limits["program_bytes"] == cost.program_bytes and "flash_bytes" not in whole.limits and whole.fits(cost)
    short = load_budget(write(tmp_path, text.format(flash=cost.program_bytes + 65535, more="")))
    assert not short.fits(cost) and short.excess(cost)["program_bytes"] == pytest.approx(1 / (cost.program_bytes - 1))
    # A reserve for the code, of whatever size, leaves the rest to the model's file.
    own = load_budget(write(tmp_path, text.format(flash=cost.flash_bytes + 65536 + 10240, more=", runtime: 10 KiB")))
    assert own.limits["flash_bytes"] == cost.flash_bytes and "program_bytes" not in own.limits and own.fits(cost)
    none = load_budget(write(tmp_path, text.format(flash=cost.flash_bytes + 65536, more=", runtime: 0 B")))
    assert none.limits["flash_bytes"] == cost.flash_bytes and none.fits(cost)
    for budget in (whole, own, none):
        (tmp_path / "again.yaml").write_text(budget.to_yaml())
        assert load_budget(tmp_path / "again.yaml") == budget
        assert load_budget(tmp_path / "again.yaml").limits == budget.limits


def test_documents_keep_the_name_of_the_flash_limit() -> None:
    """Scripts compare ``flash_bytes``, the model's file, with a limit of that name: it is what the code leaves."""
    cost = estimate(lower(load_arch("mcunet-tiny2")), "tflm", core="cortex-m4")
    assert cost.program_bytes is not None
    for flash in (cost.program_bytes - 1, cost.program_bytes, cost.program_bytes + 1):
        told = Budget(name="b", core="cortex-m4", sram=n_bytes(10**6), flash=n_bytes(flash)).told(cost)
        assert told["limits"]["program_bytes"] - told["limits"]["flash_bytes"] == cost.code_bytes
        assert (cost.flash_bytes <= told["limits"]["flash_bytes"]) == (told["excess"]["flash_bytes"] <= 0) == told["fits"]
        assert told["excess"]["flash_bytes"] == told["excess"]["program_bytes"] == (cost.program_bytes - flash) / flash
    kept = Budget.model_validate({"name": "b", "sram": "1 MiB", "flash": "1 MiB", "reserves": {"flash": {"runtime": "1 KiB"}}})
    assert kept.told(cost) == {"fits": True, "limits": kept.limits, "excess": kept.excess(cost)}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "budget.yaml"
    path.write_text(text)
    return path


def test_overrides() -> None:
    budget = load_budget("stm32f746", ["reserves.sram.application=100 KiB", "runtime=tinyengine"])
    assert budget.reserves.sram.application == 100 * 1024
    assert budget.runtime == "tinyengine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nsram: 320 KB\nflash: 1 MiB\n", '"KB" can mean'),
        ("name: x\nsram: 320\nflash: 1 MiB\n", "needs a unit"),
        ("name: x\nflash: 1 MiB\n", "sram: is missing"),
        ("name: x\nsram: 1 KiB\nflash: 1 MiB\nreserves: {sram: {stack: 2 KiB}}\n", "nothing is left"),
        ("name: x\nsram: 0 B\nflash: 1 MiB\n", "more than 0"),
        ("name: x\nsram: 1 KiB\nflash: 1 MiB\nrunime: tflm\n", 'did you mean "runtime"'),
        ("name: x\nsram: 1 KiB\nflash: 1 MiB\nruntime: tflm-cmsisnn\n", 'did you mean "tflm-cmsis-nn"'),
        ("name: x\nsram: 1 KiB\nflash: 1 MiB\nlatency_ms: 10\n", "needs core and clock_mhz"),
        ("name: x\nsram: 1 KiB\nflash: 1 MiB\ncore: cortex-m0plus\nclock_mhz: 48\nlatency_ms: 10\n", "no published measurement"),
        ("name: x\nsram: 1 KiB\nflash: 1 MiB\nmacs: -5\n", "greater than 0"),
        ("name: x\nsram: 1 KiB\nflash: 1 MiB\nclock_mhz: fast\n", "number"),
    ],
)
def test_faults_are_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_budget(write(tmp_path, text))
    assert message in str(caught.value)
    assert "budget.yaml" in str(caught.value)


def test_all_faults_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_budget(write(tmp_path, "name: x\nsram: 320 KB\nflash: big\ncore: z80\nboards: y\n"))
    assert len(caught.value.faults) == 4


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r'did you mean "stm32f746"'):
        load_budget("stm32f764")


NO_CSV = "latency: must be the path of a CSV of your measurements, such as mine.csv; leave it out where there are none (got "


@pytest.mark.parametrize(
    ("given", "told"),
    [
        *((f"latency: {text}", NO_CSV) for text in ("{}", "{net: a, ms: 3}", "3", "true", "null", "''", "' '")),
        ("latency: [3]", "latency.0: must be a mapping of keys to values (got 3)"),
        ("latency: [{ms: 3}]", "latency.0.net: is missing"),
        ("latency_ms: 1.0e+300", "latency_ms: Input should be less than or equal to 86400000"),
        ("at_most: 3", "at_most: must be a mapping of quantities to limits, such as params: 50000 (got 3)"),
        ("update: 3", "update: must be a mapping of keys to values (got 3)"),
        ("update: x", "update: must be a mapping of keys to values (got 'x')"),
        ("sources: x", "sources: must be a list (got 'x')"),
        ("sram: {}", 'sram: must be a size with a unit, such as "320 KiB", or a list of regions (got {})'),
        ("sram: [3]", "sram.0: must be a mapping of keys to values (got 3)"),
        ("reserves: {sram: 3}", "reserves.sram: must be a mapping of keys to values (got 3)"),
    ],
)
def test_another_kind_of_value_is_told_in_words_of_yaml(tmp_path: Path, given: str, told: str) -> None:
    key = given.partition(":")[0]
    head = {"name": "x", "core": "cortex-m4", "clock_mhz": "64", "sram": "64 KiB", "flash": "1 MiB"}
    text = "".join(f"{name}: {value}\n" for name, value in head.items() if name != key)
    with pytest.raises(ConfigError) as caught:
        load_budget(write(tmp_path, text + given + "\n"))
    assert told in str(caught.value)
    assert not any(word in str(caught.value) for word in ("tuple", "str:", "instance of", "dictionary", ".size", ".csv:"))


def test_how_frames_come_is_part_of_the_runtimes_name() -> None:
    """``compiled`` with ``frame: rows`` is ``compiled-rows``: one name everywhere, whichever way it was written."""
    size = {"name": "b", "sram": "40 KiB", "flash": "128 KiB", "core": "cortex-m4"}
    net = lower(load_arch("mcunet-tiny2"))
    taken = []
    for given, name in (
        ({"runtime": "compiled", "frame": "rows"}, "compiled-rows"),
        ({"runtime": "compiled-rows"}, "compiled-rows"),
        ({"runtime": "compiled-rows", "frame": "rows"}, "compiled-rows"),
        ({"runtime": "compiled", "frame": "kept"}, "compiled"),
        ({"runtime": "compiled"}, "compiled"),
    ):
        budget = build({**size, **given}, Budget, source="b.yaml")
        again = build(yaml.safe_load(budget.to_yaml()), Budget, source="b.yaml")
        assert budget.runtime == again.runtime == name and again == budget
        taken.append(estimate(net, budget.runtime, core=budget.core).sram_bytes)
    assert taken[0] == taken[1] == taken[2] < taken[3] == taken[4]


@pytest.mark.parametrize(
    ("runtime", "frame", "told"),
    [
        ("tflm", "kept", r"frame: says how compiled code takes its frames, and the runtime is tflm: leave it out, or write runtime: comp"),
        ("compiled-rows", "kept", r"frame: contradicts runtime: compiled-rows: leave one of the two out"),
        ("compiled", "some", r"frame: must be one of 'kept' or 'rows'"),
        ("compile", "rows", r"runtime: must be one of"),
    ],
)
def test_frames_are_for_compiled_code_alone(runtime: str, frame: str, told: str) -> None:
    given = {"name": "b", "sram": "40 KiB", "flash": "128 KiB", "runtime": runtime, "frame": frame}
    with pytest.raises(ConfigError, match=told) as refused:
        build(given, Budget, source="b.yaml")
    assert str(refused.value).count("\n") == 1, "one fault, said once"
