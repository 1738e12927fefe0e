"""Imports point one way, and light commands load nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tinynas"

# Lowest first; a room imports only from lines above its own (DESIGN: data flows one way).
LINES = [
    {"errors", "metrics", "pareto"},
    {"files", "config", "foreign", "several"},
    {"front_end"},
    {"inputs", "sound"},
    {"arch", "recipe", "regions", "target"},
    {"space", "graph", "lsq"},
    {"cost", "data", "model"},
    {"budget", "records", "quantize"},
    {"objectives", "shrink"},
    {"runs", "train"},
    {"adapt"},
    {"search", "export", "report"},
    {"weights"},
    {"promote", "learnings"},
    {"stages"},
    {"boards", "doctor", "init"},
    {"compare"},
    {"api"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, line in enumerate(LINES) for room in line}
#: Rooms of one line that may see each other: the model is quantised, so the quantiser sits just above it.
NEIGHBOURS = {("quantize", "model"), ("space", "graph"), ("lsq", "graph"), ("doctor", "boards"), ("init", "boards")}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> set[str]:
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" if node.module == "tinynas" else node.module for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("tinynas.")}
    return rooms


FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_imports_point_one_way() -> None:
    faults = []
    for path in FILES:
        room = room_of(path)
        if room == "__init__":
            continue  # the public names: a lazy table, checked below
        if room not in LEVEL:
            faults.append(f"{path}: {room} has no line: give it one in tests/test_imports.py")
            continue
        for other in imported_rooms(tree_of(path)):
            known = other == room or other.startswith("__") or (room, other) in NEIGHBOURS
            if not known and LEVEL[other] >= LEVEL[room]:
                faults.append(f"{path}: {room} must not import {other}")
    assert FILES and not faults, "\n".join(faults)


def test_only_search_imports_optuna() -> None:
    importers = set()
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if any(name.split(".")[0] == "optuna" for name in names):
                importers.add(room_of(path))
    assert importers == {"search"}


@pytest.mark.parametrize(
    "code",
    [
        "import tinynas",
        "import tinynas.cost, tinynas.budget",
        "from tinynas.recipe import Recipe; Recipe.proxy()",
        "import tinynas.files, tinynas.metrics, tinynas.runs, tinynas.init; tinynas.init.json_schema('recipe')",
        "import tinynas.cli",
        "from tinynas.cli import run; run(['estimate', 'mcunet-tiny2', '--budget', 'stm32f746'])",
        "from tinynas.cli import run; run(['budgets'])",
        "from tinynas.cli import run; run(['--help'])",
    ],
)
def test_light_commands_load_nothing_heavy(code: str) -> None:
    heavy = ["torch", "tensorflow", "albumentations", "datasets", "optuna", "plotly", "pandas", "ai_edge_litert", "tflite_micro", "cv2"]
    script = f"import sys\n{code}\nprint('HEAVY', [m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "HEAVY []", done.stdout
