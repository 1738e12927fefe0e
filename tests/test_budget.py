"""Budgets: every shipped one, limits, reserves, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinynas.arch import load_arch
from tinynas.budget import UNKNOWN, Budget, load_budget
from tinynas.config import n_bytes, shipped
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
    assert {"sram_bytes", "flash_bytes"} <= set(budget.limits)
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
    assert budget.limits == {"sram_bytes": 1000, "flash_bytes": 2000, "macs": 100}
    excess = budget.excess({"sram_bytes": 1500, "flash_bytes": 2000, "macs": 50})
    assert excess == {"sram_bytes": 0.5, "flash_bytes": 0.0, "macs": -0.5}
    assert not budget.fits({"sram_bytes": 1500, "flash_bytes": 2000, "macs": 50})
    assert budget.fits({"sram_bytes": 1000, "flash_bytes": 2000, "macs": 100})
    assert budget.excess({"sram_bytes": 1, "flash_bytes": 1})["macs"] == UNKNOWN


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
