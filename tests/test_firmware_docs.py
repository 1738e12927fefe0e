"""The examples of docs/adding.md are real: every block is run, in a process of its own, and used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ADDING = (Path(__file__).parent.parent / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = {name: body for _, name, body in re.findall(r"```(yaml|python) (\w+)\n(.*?)```", ADDING, flags=re.DOTALL)}


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_budget_loads_and_its_limits_add_up(tmp_path: Path) -> None:
    from tinynas.arch import load_arch
    from tinynas.budget import load_budget
    from tinynas.cost import estimate
    from tinynas.graph import lower

    (tmp_path / "my-board.yaml").write_text(BLOCKS["budget"])
    budget = load_budget(tmp_path / "my-board.yaml")
    assert budget.limits["sram_bytes"] == (256 - 24 - 8 - 75 - 4) * 1024
    assert budget.limits["flash_bytes"] == (1024 - 164) * 1024
    assert budget.fits(estimate(lower(load_arch("mcunet-tiny2")), budget.runtime, core=budget.core, clock_mhz=budget.clock_mhz))


def test_the_space_loads_and_samples(tmp_path: Path) -> None:
    import random

    from tinynas.api import load_space
    from tinynas.graph import lower

    (tmp_path / "my-space.yaml").write_text(BLOCKS["space"])
    space = load_space(str(tmp_path / "my-space.yaml"))
    rng = random.Random(0)
    for _ in range(20):
        lower(space.sample(lambda _, n: rng.randrange(n), classes=2))
    assert space.size > 1000


def test_the_data_set_opens(tmp_path: Path) -> None:
    use = f"""
from pathlib import Path
from tinynas.data import open_data
data = open_data("squares", cache_dir=Path({str(tmp_path)!r}))
train, test = data.split("train", 16, 16, 3), data.split("test", 16, 16, 1)
val = data.split("val", 8, 8, 3)
print(data.labels, train.inputs.shape[1:], test.inputs.shape[1:], sum(len(s.inputs) for s in (train, val, test)))
"""
    assert run_python(BLOCKS["data"] + use).strip() == "('bright', 'dark') (16, 16, 3) (16, 16, 1) 120"


def test_the_objective_is_found_and_computes() -> None:
    use = """
from tinynas.objectives import objectives
from tinynas.records import Trial
(chosen,) = objectives(["accuracy-per-mmac"])
good = Trial(0, "x", "trained", "tpe", costs={"macs": 2_000_000}, scores={"accuracy": 0.8})
print(chosen.trained, chosen.of(good), chosen.of(Trial(1, "y", "failed", "tpe")))
"""
    assert run_python(BLOCKS["objective"] + use).split() == ["True", "0.4", "None"]


def test_the_exporter_writes_a_file() -> None:
    use = """
import numpy as np
from tinynas.arch import load_arch
from tinynas.cost.tflite import parse_model
from tinynas.export.model import ExportOptions, build_model
from tinynas.graph import lower
from tinynas.model import Network
images = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), dtype=np.uint8)
made = build_model(Network(lower(load_arch("mcunet-tiny2"))), images, options=ExportOptions(exporter="unplanned"))
print(parse_model(made.model).plan, len(parse_model(made.model).ops))
"""
    assert run_python(BLOCKS["exporter"] + use).split() == ["None", "29"]


@pytest.mark.parametrize("document", ["adding.md", "firmware.md"])
def test_files_and_names_of_the_docs_exist(document: str) -> None:
    root = Path(__file__).parent.parent
    text = (root / "docs" / document).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((\.\./[^)]+)\)", text):
        assert (root / "docs" / link).resolve().exists(), link
    for path in re.findall(r"`((?:tinynas|tests|benchmarks)/[\w./]+\.(?:py|csv))`", text):
        assert (root / path).exists(), path
