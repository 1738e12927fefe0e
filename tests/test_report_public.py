"""The public names: all there, loaded on first use, and calls stay calls when rooms of the same name are imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tinynas

NAMES = sorted(tinynas._HOMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(tinynas, name)
    assert callable(value)
    assert value.__doc__
    assert name in dir(tinynas)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        tinynas.nonsense  # noqa: B018


@pytest.mark.parametrize("first", ["call", "room"])
def test_calls_and_rooms_of_one_name(first: str) -> None:
    imports = ["from tinynas import export, promote, search", "import tinynas.search, tinynas.promote, tinynas.export.check"]
    code = "; ".join(imports if first == "call" else imports[::-1])
    code += "; import inspect, tinynas; assert all(map(inspect.isfunction, (search, promote, export, tinynas.search, tinynas.export)))"
    code += "; from tinynas.search import SearchSettings; from tinynas.promote import PromoteEvent"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys, tinynas; print([m for m in sys.modules if m.startswith('tinynas.') or m in ('pydantic', 'numpy', 'torch')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert done.stdout.strip() == "[]"
