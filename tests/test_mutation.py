"""benchmarks/mutation.py on a package of three functions: what it mutates, what it leaves, whom it calls killed."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "mutation.py"


@pytest.fixture(scope="module")
def mutation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_mutation", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def changes(mutation: ModuleType, source: str) -> set[str]:
    """All lines that mutants of ``source`` put in the place of one."""
    return {m.mutated for m in mutation.mutants_of("room/x.py", source.encode()) if mutation.parses(m, source.encode())}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("x = a < b", {"x = a <= b"}),
        ("x = a not in b", {"x = a in b"}),
        ("x = a is not  b", {"x = a is  b"}),
        ("x = (a) == (b)", {"x = (a) != (b)"}),
        ("x = a <= b < c", {"x = a < b < c", "x = a <= b <= c"}),
        ("x = a + b", {"x = a - b"}),
        ("x = a * (b - c)", {"x = a // (b - c)", "x = a * (b + c)"}),
        ("x = 'a' + b", set()),
        ("x = [a] + b", set()),
        ("x += a", {"x -= a"}),
        ("x = a and b or c", {"x = a or b or c", "x = a and b and c"}),
        ("x = not a", {"x =   a"}),
        ("x = -a", {"x =  a"}),
        ("x = 7", {"x = 8"}),
        ("x = 0.5", {"x = 1.0"}),
        ("x = 0.0", {"x = 1.0"}),
        ("x = True", {"x = False"}),
        ("x = 'seven'", set()),
        ("x = min(a, b)", {"x = max(a, b)"}),
        ("x = t.amax(a)", {"x = t.amin(a)"}),
        ("x = a[i:]", {"x = a[(i) + 1:]"}),
        ("x = a[:n]", {"x = a[:(n) + 1]", "x = a[1:n]"}),
        ("x = a[0]", {"x = a[1]"}),
        ("x = zip(a, b, strict=True)", set()),
        ("x: Annotated[int, Field(ge=1)] = 4", {"x: Annotated[int, Field(ge=1)] = 5"}),
        ("Span = tuple[Literal[1], int]", set()),
        ("assert a < 3", set()),
        ("raise ValueError(f'{a + 1}', 2)", set()),
        ("print(3, a + b)", set()),
        ("x = f'{a + 1}'", set()),
        ("@cache(9)\ndef f(x: Literal[3] = 4): pass", {"def f(x: Literal[3] = 5): pass"}),
        ("def f() -> int: return a", {"def f() -> int: return (a) + 1"}),
        ("def f() -> str: return a", set()),
        ("def f():\n    '''1 < 2'''", set()),
        ("x = a <  # less < than\\\nb".replace("\\\n", "\n").replace("a <", "(a <").replace("\nb", "\n b)"), {"x = (a <=  # less < than"}),
        ("x = 'é' if a < b else 'ü'", {"x = 'é' if a <= b else 'ü'"}),
    ],
)
def test_what_is_mutated_and_what_stays(mutation: ModuleType, line: str, wanted: set[str]) -> None:
    assert changes(mutation, line) == wanted


def test_mutants_of_the_package_parse_and_change_one_place(mutation: ModuleType) -> None:
    root = SCRIPT.parent.parent
    mutants = mutation.draw(root, "tinynas", mutation.ROOMS, 24, 3)
    assert len(mutants) == 24 and len({m.key for m in mutants}) == 24
    assert {m.file.split("/")[1] for m in mutants} == set(mutation.ROOMS)
    for mutant in mutants:
        source = (root / mutant.file).read_bytes()
        changed = mutant.apply(source)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
        assert len(changed.splitlines()) == len(source.splitlines())
        touched = sum(a != b for a, b in zip(changed.splitlines(), source.splitlines(), strict=True))
        assert touched == 1 or (touched == 2 and mutant.kind in ("return", "slice")), "brackets around several lines change two"
        assert source.decode().splitlines()[mutant.line - 1].strip() == mutant.text
    room = mutation.ROOMS[:1]
    few, again, others = ([m.key for m in mutation.draw(root, "tinynas", room, 4, seed)] for seed in (3, 3, 4))
    assert few == again != others


def test_keys_survive_moves_within_the_file(mutation: ModuleType) -> None:
    before = mutation.mutants_of("room/x.py", b"x = a < b\ny = 1 + 1\n")
    after = mutation.mutants_of("room/x.py", b"# more\n\nx = a < b\nz = 0\ny = 1 + 1\n")
    assert len({m.key for m in before}) == len(before) == 4 and {m.key for m in before} < {m.key for m in after}
    assert {m.key for m in before}.isdisjoint(m.key for m in mutation.mutants_of("room/y.py", b"x = a < b\ny = 1 + 1\n"))


CALC = '''"""Three functions."""

LIMIT = 3


def larger(a: int, b: int) -> bool:
    return a > b


def least(values):
    found = min(values)
    return found


def untested(a):
    return a + a


def forever(n):
    while n > 0:
        n -= 1
    return n
'''
TESTS = """import pytest
from toy.room.calc import LIMIT, forever, larger, least


def test_larger():
    assert larger(3, 2)  # but never equal ones


def test_least():
    assert least([2, 1]) == 1


def test_forever():
    assert forever(2) == 0


def test_limit():
    assert LIMIT == 3


def test_that_always_fails():
    assert larger(1, 2)
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    root = tmp_path / "toy"
    (root / "toy" / "room").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "toy" / "__init__.py").write_text('__version__ = "1"\n')
    (root / "toy" / "room" / "__init__.py").write_text("")
    (root / "toy" / "room" / "calc.py").write_text(CALC)
    (root / "tests" / "test_calc.py").write_text(TESTS)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['slow: no']\n")
    return root


def run(root: Path, *more: str) -> tuple[dict[str, object], str]:
    """What the script wrote, and what it said on the way."""
    workdir, out = root.parent / "work", root.parent / "out"
    command = [sys.executable, str(SCRIPT), "--root", str(root), "--package", "toy", "--rooms", "room", "--count", "100", "--jobs", "1"]
    command += [
        "--budget",
        "4",
        "--preload",
        "",
        "--workdir",
        str(workdir),
        "--out",
        str(out),
        "--reasons",
        str(root / "equal.yaml"),
        *more,
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the toy needs none, and every mutant would load them
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "mutation.json").read_text()), done.stderr


@pytest.mark.slow
def test_killed_and_surviving_mutants_are_told_apart(toy: Path) -> None:
    before = {path: path.read_bytes() for path in toy.rglob("*") if path.is_file()}
    found, _ = run(toy)
    status = {m["mutated"]: m["status"] for m in found["mutants"]}
    assert status == {
        "LIMIT = 4": "killed",
        "return a >= b": "survived",
        "found = max(values)": "killed",
        "return a - a": "survived",
        "while n >= 0:": "killed",
        "while n > 1:": "killed",
        "n += 1": "timeout",
        "n -= 2": "survived",
    }
    assert {m["killer"] for m in found["mutants"] if m["mutated"] == "found = max(values)"} == {"tests/test_calc.py::test_least"}
    assert found["controls"] == {"run": 1, "failed": 0}, "a test that fails anyway kills nobody"
    assert found["rooms"][0] == {"room": "room", "mutants": 8, "killed": 4, "timeout": 1, "survived": 3, "equal": 0, "share": 0.625}
    assert found["rooms"][-1]["share"] == 0.625 and found["map"] == {"toy/room/calc.py": ["tests/test_calc.py"]}
    assert {path: path.read_bytes() for path in toy.rglob("*") if path.is_file()} == before, "the tree itself is left alone"
    # A reason makes one equal; a test makes another die, and only survivors are tried again.
    key = next(m["key"] for m in found["mutants"] if m["mutated"] == "n -= 2")
    (toy / "equal.yaml").write_text(f"{key}:\n  reason: two at a time end at the same place for even numbers\n")
    (toy / "tests" / "test_calc.py").write_text(TESTS.replace("assert larger(3, 2)", "assert larger(3, 2) and not larger(2, 2)"))
    again, said = run(toy)
    assert again["rooms"][0] == {"room": "room", "mutants": 8, "killed": 5, "timeout": 1, "survived": 2, "equal": 1, "share": 0.8571}
    assert "return a >= b" in said and "found = max(values)" not in said
    written = (toy.parent / "out" / "mutation.md").read_text()
    assert "two at a time end at the same place" in written and "**not equal: a gap**" in written and "85.7 %" in written


def test_folders_inside_the_tree_are_refused(toy: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--root", str(toy), "--workdir", str(toy / "work")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "lies in the tree" in done.stderr and not (toy / "work").exists()
