"""The examples of docs/adding.md are real: every block is run, in a process of its own or on a copy of the package, and used."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ADDING = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = {name: body for _, name, body in re.findall(r"```(yaml|python) (\w+)\n(.*?)```", ADDING, flags=re.DOTALL)}


def run_python(code: str, package: Path | None = None) -> str:
    """What ``code`` prints; with the tinynas in the folder ``package``, by default this one."""
    environment = {**os.environ, "PYTHONPATH": str(package)} if package else None
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=package)
    assert done.returncode == 0, done.stderr
    return done.stdout


def copy_with(folder: Path, path: str, changes: dict[str, str]) -> Path:
    """A copy of the package in ``folder``, in whose file ``path`` each text is replaced."""
    shutil.copytree(ROOT / "tinynas", folder / "tinynas")  # with what is compiled: it is known by its source's time
    for name in ("budgets", "search_spaces"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    text = (folder / path).read_text(encoding="utf-8")
    for before, after in changes.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    (folder / path).write_text(text, encoding="utf-8")
    return folder


def in_table(block: str) -> str:
    return "".join(f"        {line}\n" for line in BLOCKS[block].splitlines())


def test_the_budget_loads_and_its_limits_add_up(tmp_path: Path) -> None:
    from tinynas.arch import load_arch
    from tinynas.budget import load_budget
    from tinynas.cost import estimate
    from tinynas.graph import lower

    (tmp_path / "my-board.yaml").write_text(BLOCKS["budget"])
    budget = load_budget(tmp_path / "my-board.yaml")
    assert budget.limits["sram_bytes"] == (256 - 24 - 8 - 75 - 4) * 1024
    assert budget.limits["program_bytes"] == (1024 - 64) * 1024
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


def test_the_cost_is_an_objective_and_a_limit(tmp_path: Path) -> None:
    end = "            unknown=why_unknown,\n        ),\n"
    package = copy_with(tmp_path, "tinynas/cost/quantities.py", {end: end + in_table("cost")})
    (tmp_path / "b.yaml").write_text(f"name: b\nsram: 1 MiB\nflash: 1 MiB\n{BLOCKS['limit']}")
    use = """
from tinynas.api import estimate
from tinynas.budget import load_budget
from tinynas.cost.explain import explain
from tinynas.arch import load_arch
from tinynas.objectives import objectives
budget = load_budget("b.yaml")
cost = estimate("mcunet-vww1", budget)
print(budget.limits["head_bytes"], cost.values()["head_bytes"] == cost.head_bytes, budget.fits(cost), objectives(["head"])[1].cost)
print(explain(load_arch("mcunet-vww1"), budget).binding.limit)
"""
    # tests/test_quantities.py searches with such a row, and reads page, card and files.
    assert run_python(use, package).split() == ["40960", "True", "False", "head_bytes", "head_bytes"]


def test_the_runtime_is_taken_by_budgets_and_estimates(tmp_path: Path) -> None:
    begin = "RUNTIMES: dict[str, Runtime] = {\n    runtime.name: runtime.on(None)\n    for runtime in (\n"
    package = copy_with(tmp_path, "tinynas/cost/runtimes.py", {begin: begin + in_table("runtime")})
    (tmp_path / "b.yaml").write_text("name: b\nsram: 1 MiB\nflash: 1 MiB\nruntime: my-runtime\n")
    use = """
from tinynas.api import estimate
from tinynas.budget import load_budget
from tinynas.init import json_schema
budget = load_budget("b.yaml")
cost = estimate("mcunet-tiny2", budget)
print("my-runtime" in json_schema("budget")["properties"]["runtime"]["enum"], cost.sram_bytes - max(cost.live))
print(cost.flash_bytes == cost.weights_bytes)
print("activations alive + 2 KiB; nothing measured" in str(cost.to_json()["evidence"]))
"""
    assert run_python(use, package).split() == ["True", "2048", "True", "True"]
    helped = subprocess.run(
        [sys.executable, "-m", "tinynas", "estimate", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package), "COLUMNS": "200"},
    )
    assert "my-runtime" in helped.stdout


@pytest.mark.slow
def test_the_operator_is_named_by_mypy_where_the_document_says(tmp_path: Path) -> None:
    changes = {
        "Op: TypeAlias = ": f"{BLOCKS['operator']}\n\nOp: TypeAlias = Negate | ",
        'Kind = Literal["conv",': 'Kind = Literal["negate", "conv",',
    }
    package = copy_with(tmp_path, "tinynas/graph.py", changes)
    done = subprocess.run([sys.executable, "-m", "mypy"], capture_output=True, text=True, check=False, cwd=package)
    found = re.findall(r"^(\S+?):(\d+): error: (.*)$", done.stdout, flags=re.MULTILINE)
    assert found, done.stdout + done.stderr
    assert all(message.startswith('Argument 1 to "assert_never"') and "egate" in message for _, _, message in found), found
    named = sorted((path, function_at(package / path, int(line))) for path, line, _ in found)
    listed = sorted(re.findall(r"^\| `(tinynas/[\w/]+\.py)` `(\w+)` \|", ADDING, flags=re.MULTILINE))
    assert named == listed, sorted(set(named) ^ set(listed))


def function_at(path: Path, line: int) -> str:
    """The innermost function of the file that holds ``line``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    around = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0)]
    return max(around, key=lambda node: node.lineno).name


@pytest.mark.parametrize("document", ["adding.md", "firmware.md"])
def test_files_and_names_of_the_docs_exist(document: str) -> None:
    root = Path(__file__).parent.parent
    text = (root / "docs" / document).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((\.\./[^)]+)\)", text):
        assert (root / "docs" / link).resolve().exists(), link
    for path in re.findall(r"`((?:tinynas|tests|benchmarks)/[\w./]+\.(?:py|csv))`", text):
        assert (root / path).exists(), path
