"""The public names: what `__all__` says is there, and nothing else; rooms are modules like any other."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import tinynas
from tinynas import api
from tinynas.search import SearchSettings

ROOT = Path(__file__).parent.parent


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", tinynas.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(tinynas, name)
    assert isinstance(value, str) if name == "__version__" else value.__doc__


def test_all_is_what_is_there() -> None:
    """Both ways: names that type checkers see, names that are resolved, and names that lie about are those of `__all__`."""
    exported = set(tinynas.__all__)
    tree = ast.parse((ROOT / "tinynas" / "__init__.py").read_text(encoding="utf-8"))
    typed = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    lying = {name for name, value in vars(tinynas).items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert typed - {"import_module"} == set(tinynas._HOMES) | {"api"} == exported - {"__version__"}
    assert lying <= exported
    assert dir(tinynas) == sorted(exported) == list(tinynas.__all__)


@pytest.mark.parametrize("name", sorted(set(tinynas.__all__) - {"api"}))
def test_no_name_hides_a_room(name: str) -> None:
    assert find_spec(f"tinynas.{name}") is None


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        tinynas.nonsense  # noqa: B018


def test_a_star_gives_the_api_and_nothing_else() -> None:
    found = _python("before = set(globals()); from tinynas import *; print(sorted(set(globals()) - before - {'before'}))")
    assert found == str(tinynas.__all__)


def test_rooms_are_modules_beside_the_calls() -> None:
    calls = "from inspect import isfunction; from tinynas.api import export, promote, search; "
    calls += "assert all(map(isfunction, (export, promote, search)))"
    rooms = (
        "import tinynas.search.spaces as s; s.choose_space",
        "import tinynas.search.settings; tinynas.search.settings.SearchSettings",
        "from tinynas import api; import tinynas.search, tinynas.promote, tinynas.export.check; tinynas.export.check.check",
        "import tinynas; tinynas.api.search; import tinynas.search; tinynas.search.SearchSettings; tinynas.api.search",
    )
    _forked(*(code for room in rooms for code in (f"{room}; {calls}", f"{calls}; {room}")))


def _forked(*codes: str) -> None:
    """Run each of ``codes`` in a process in which nothing of tinynas is imported yet, what it stands on is."""
    forked = """
import os, sys
import numpy, optuna, pydantic, torch
assert not any(name.partition(".")[0] == "tinynas" for name in sys.modules)
for code in sys.argv[1:]:
    if (child := os.fork()) == 0:
        status = 1
        try:
            exec(code, {"__name__": "__main__"})
            status = 0
        finally:
            sys.excepthook(*sys.exc_info()) if status else None
            sys.stderr.flush()
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, code
"""
    done = subprocess.run([sys.executable, "-c", forked, *codes], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("call", [api.search, api.prepare_search, api.promote, api.export], ids=lambda call: call.__name__)
def test_every_parameter_of_the_long_calls_has_a_name_and_a_type(call: object) -> None:
    assert callable(call)
    for parameter in inspect.signature(call).parameters.values():
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        assert "Any" not in str(parameter.annotation) and parameter.annotation is not parameter.empty


def test_search_and_its_preparation_take_the_same_and_pass_all_of_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set(inspect.signature(api.prepare_search).parameters)
    assert set(inspect.signature(api.search).parameters) == names | {"on_event"}
    given = {name: object() for name in names - {"budget"}}
    taken: dict[str, object] = {}

    class Stop(Exception):
        pass

    def prepare(budget: object, **options: object) -> None:
        taken.update(options, budget=budget)
        raise Stop

    monkeypatch.setattr(api, "prepare_search", prepare)
    with pytest.raises(Stop):
        api.search("stm32f746", **given)  # type: ignore[arg-type]
    assert taken == {**given, "budget": "stm32f746"}
    assert names & set(SearchSettings.model_fields) == {"objectives", "trials", "timeout", "workers", "seed", "storage"}


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys, tinynas; print([m for m in sys.modules if m.startswith('tinynas.') or m in ('pydantic', 'numpy', 'torch')])"
    assert _python(code) == "[]"


def test_the_newest_version_of_the_changelog_is_this_one() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    headings = [line[3:].split() for line in lines if line.startswith("## ")]
    assert next(version for version, *status in headings if status != ["(unreleased)"]) == tinynas.__version__
    assert all(not status for _, *status in headings[1:])
    assert len({version for version, *_ in headings}) == len(headings)
