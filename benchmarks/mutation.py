"""Do the tests notice? Rooms are mutated at random, one point at a time, and the tests that could notice are run.

A mutation turns one comparison, sign, constant, `and`, `not`, `min`, slice or return value; annotations, decorators,
asserts, texts and what is raised stay. It is made in a copy of the tree, never in the checkout. Which tests run a
function is measured once (every test file, with a trace on calls); a mutant gets those of its function, the quick and
narrow ones first, up to ``--budget`` seconds, and stops at the first that fails. Every process is forked from one that has already
loaded the libraries, so that a mutant takes seconds.

Controls, copies that are not mutated, go the same way: one that is "killed" means that the tests fail by chance.

Writes results/benchmarks/mutation.{json,md}. A survivor whose reason stands in benchmarks/mutation_equal.yaml (its key, and
why no test can tell the two apart) counts as equal. Killed and stopped work is kept in ``--workdir`` and used again as long
as the mutated file is the same; survivors are tried again when a test changed.

    OMP_NUM_THREADS=1 python benchmarks/mutation.py --count 180 --seed 14 --jobs 2

What it does not show: single points at random are not the faults that people make; a mutant that survives the budget
may die in tests that were left out; tests marked slow are never run; configuration, report and command line are not among
the rooms.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import fcntl
import hashlib
import importlib
import importlib.util
import json
import math
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("cost", "quantize", "export", "search", "data", "train")
#: Loaded before the first fork where they are installed.
LIBRARIES = (
    "numpy torch torch.nn.functional torch.distributed pytest hypothesis optuna pydantic typer rich.console plotly.graph_objects cv2 "
    "safetensors.torch flatbuffers ai_edge_litert.interpreter tflite_micro datasets albumentations selenium"
)
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".hypothesis", ".*_cache", "dist", "build", "*.egg-info")
MODULE = "<module>"
#: Seconds of the tests that are tried first.
FIRST_PART = 3.0


# Mutants --------------------------------------------------------------------------------------------

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
SWAPPED = {"min": "max", "minimum": "maximum", "amin": "amax", "argmin": "argmax", "any": "all", "floor": "ceil"}
SWAPPED |= {new: old for old, new in SWAPPED.items()}
#: Calls whose arguments are words for people.
SPOKEN = frozenset({"print", "echo", "warn", "warning", "info", "debug", "exception", "say", "log"})
#: Keywords that only guard against mistakes.
GUARDS = frozenset({"strict"})
TEXTUAL = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp, ast.Dict, ast.DictComp, ast.Set)


@dataclass(frozen=True)
class Mutant:
    """One change of one place: ``new`` takes the place of the bytes [start, end) of ``file``."""

    file: str
    function: str
    """Qualified name of the innermost function, or "<module>"."""
    line: int
    kind: str
    old: str
    new: str
    start: int
    end: int
    text: str
    """The line as it was."""
    mutated: str
    key: str
    """A hash of file, line text and change, which survives moves within the file."""

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]


class _Finder(ast.NodeVisitor):
    def __init__(self, source: bytes) -> None:
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.scope: list[str] = []
        self.found: list[tuple[int, int, str, str, str]] = []  # start, end, new, kind, function
        self.numeric: list[bool] = []

    def span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def add(self, start: int, end: int, new: str, kind: str) -> None:
        function = ".".join(self.scope) if "<locals>" in self.scope else MODULE
        self.found.append((start, end, new, kind, function.removesuffix(".<locals>")))

    def between(self, left: ast.expr, right: ast.expr, old: str, new: str, kind: str) -> None:
        """Replace the operator in the gap between two operands, past brackets and comments."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = re.sub(rb"#[^\n]*", lambda m: b" " * len(m[0]), self.source[start:end])
        words = rb"\b" + rb"\s+".join(re.escape(w.encode()) for w in old.split()) + rb"\b" if old[0].isalpha() else re.escape(old.encode())
        if match := re.search(words, gap):
            self.add(start + match.start(), start + match.end(), new, kind)

    # What stays.

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.scope += [node.name, "<locals>"]
        self.numeric.append(isinstance(node.returns, ast.Name) and node.returns.id in ("int", "float"))
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)):
            self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self.numeric.pop()
        del self.scope[-2:]

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self.scope.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and not (isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias"):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        # An alias of types (`Span = tuple[int, int]`, `A | B`) is an annotation with a name.
        alias = not self.scope and isinstance(node.targets[0], ast.Name) and node.targets[0].id[:1].isupper()
        alias = alias and isinstance(node.targets[0], ast.Name) and not node.targets[0].id.isupper()
        if not alias:
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    # What changes.

    def visit_Compare(self, node: ast.Compare) -> None:
        for (left, right), op in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
            self.between(left, right, *COMPARISONS[type(op)], "comparison")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        text = any(isinstance(n, TEXTUAL) or (isinstance(n, ast.Constant) and isinstance(n.value, str)) for n in (node.left, node.right))
        if type(node.op) in OPERATORS and not text:
            self.between(node.left, node.right, *OPERATORS[type(node.op)], "operator")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in OPERATORS and not isinstance(node.value, TEXTUAL):
            old, new = OPERATORS[type(node.op)]
            self.between(node.target, node.value, f"{old}=", f"{new}=", "operator")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            # Of a chain the second operator too: `a and b or c` is another condition than both.
            self.between(left, right, old, new, "logic")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start, operand = self.span(node)[0], self.span(node.operand)[0]
        if isinstance(node.op, (ast.Not, ast.USub)):
            text = self.source[start:operand]
            word = b"not" if isinstance(node.op, ast.Not) else b"-"
            self.add(start, start + len(word), " " if b"(" not in text[len(word) :] else "", "logic" if word == b"not" else "operator")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(*self.span(node), str(not node.value), "constant")
        elif isinstance(node.value, int):
            self.add(*self.span(node), str(node.value + 1), "constant")
        elif isinstance(node.value, float):
            self.add(*self.span(node), repr(2 * node.value or 1.0), "constant")

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in SPOKEN or name.endswith(("Error", "Warning")):
            return
        if name in SWAPPED:
            end = self.span(node.func)[1]
            self.add(end - len(name), end, SWAPPED[name], "function")
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg not in GUARDS:
                self.visit(keyword.value)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and self.numeric and self.numeric[-1] and not isinstance(node.value, ast.Constant):
            start, end = self.span(node.value)
            self.add(start, end, f"({self.source[start:end].decode()}) + 1", "return")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Slice):
            for bound in (node.slice.lower, node.slice.upper):
                if bound is not None and not isinstance(bound, (ast.Constant, ast.UnaryOp)):
                    start, end = self.span(bound)
                    self.add(start, end, f"({self.source[start:end].decode()}) + 1", "slice")
            if node.slice.lower is None and node.slice.upper is not None:
                start = self.source.index(b"[", self.span(node.value)[1]) + 1
                self.add(start, start, "1", "slice")
        self.generic_visit(node)


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """All mutants of a module, in the order of the text; a few may not parse, see :func:`parses`."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    lines = source.decode().splitlines()
    seen: Counter[tuple[str, str, str]] = Counter()
    found = []
    for start, end, new, kind, function in sorted(set(finder.found)):
        line = bisect_right(finder.starts, start)
        old = source[start:end].decode()
        text = lines[line - 1].strip()
        seen[text, old, new] += 1
        name = "\0".join((file, text, old, new, str(seen[text, old, new])))
        rest = source[end : source.find(b"\n", end) if b"\n" in source[end:] else len(source)]
        mutated = (source[finder.starts[line - 1] : start] + new.encode() + rest).decode().splitlines()[0].strip()
        key = hashlib.sha256(name.encode()).hexdigest()[:12]
        found.append(Mutant(file, function, line, kind, old, new, start, end, text, mutated, key))
    return found


def parses(mutant: Mutant, source: bytes) -> bool:
    """Whether the mutant is Python."""
    try:
        ast.parse(mutant.apply(source))
    except SyntaxError:
        return False
    return True


def draw(root: Path, package: str, rooms: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """``count`` mutants, equally many of each room, drawn by ``seed``; the order mixes the rooms."""
    drawn = []
    for index, room in enumerate(rooms):
        everything = []
        for path in sorted((root / package / room).rglob("*.py")):
            everything += mutants_of(path.relative_to(root).as_posix(), path.read_bytes())
        share = count // len(rooms) + (index < count % len(rooms))
        random.Random(f"{seed}/{room}").shuffle(everything)
        drawn.append(list(islice((m for m in everything if parses(m, (root / m.file).read_bytes())), share)))
    mixed = [mutant for part in drawn for mutant in part]
    random.Random(seed).shuffle(mixed)
    return mixed


# Processes ------------------------------------------------------------------------------------------


@dataclass
class _Job:
    name: str
    action: Callable[[Path], dict[str, Any]]
    """What the child does in its tree; what it returns comes back."""
    limit: float
    """Processor seconds until it is stopped; or ten times as many by the clock, where it waits."""
    before: Callable[[Path], None] = lambda tree: None
    after: Callable[[Path], None] = lambda tree: None


def run_jobs(jobs: Iterator[_Job], trees: Sequence[Path], workdir: Path) -> Iterator[tuple[_Job, dict[str, Any], float]]:
    """(job, answer, processor seconds) of each job as it ends, one at a time in each tree, each in a forked process.

    The answer of a job that took too long is {"timeout": True}; of one that ended without an answer {"died": status}.
    Raises RuntimeError where this script itself is at fault: that is no mutant's death.
    """
    running: dict[int, tuple[_Job, Path, Path, float]] = {}
    free = list(trees)
    ended = False
    try:
        while running or not ended:
            while free and not ended:
                job = next(jobs, None)
                if job is None:
                    ended = True
                    break
                tree = free.pop()
                job.before(tree)
                answer = workdir / f"answer-{tree.name}.json"
                answer.unlink(missing_ok=True)
                pid = os.fork()
                if pid == 0:
                    _child(job, tree, answer, workdir / f"log-{tree.name}.txt")
                running[pid] = (job, tree, answer, time.monotonic())
            time.sleep(0.02)
            for pid, (job, tree, answer, started) in list(running.items()):
                late = time.monotonic() - started > 10 * job.limit
                done, status, usage = os.wait4(pid, 0 if late and _kill(pid) else os.WNOHANG)
                if not done:
                    continue
                _kill(pid)  # what it started and left
                del running[pid]
                free.append(tree)
                job.after(tree)
                found = (
                    json.loads(answer.read_text())
                    if answer.exists()
                    else {"timeout": True}
                    if late or os.WTERMSIG(status) == signal.SIGXCPU
                    else {"died": status}
                )
                if "broken" in found:
                    raise RuntimeError(f"{job.name}: {found['broken']}")
                yield job, found, usage.ru_utime + usage.ru_stime
    finally:
        for pid in running:
            _kill(pid)
            os.waitpid(pid, 0)


def _kill(group: int) -> bool:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _child(job: _Job, tree: Path, answer: Path, log: Path) -> None:
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the shell put this script in the background
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 31, most))  # a mutated loop may write for ever
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(job.limit), resource.RLIM_INFINITY))
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        result = job.action(tree)
        answer.with_suffix(".part").write_text(json.dumps(result))
        answer.with_suffix(".part").replace(answer)
        status = 0
    except BaseException as error:
        answer.write_text(json.dumps({"broken": f"{type(error).__name__}: {error}"}))
    finally:
        os._exit(status)


def _pytest(arguments: Sequence[str], plugin: object, tree: Path, package: str) -> int:
    """pytest's exit status, on the tree's own package."""
    sys.path[:] = [str(tree), *(path for path in sys.path if not (Path(path) / package / "__init__.py").exists())]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None or not Path(spec.origin).is_relative_to(tree):
        raise RuntimeError(f"{package} would be read from {spec and spec.origin}, not from {tree}")
    base = tempfile.mkdtemp(prefix="pytest-", dir=tree.parent)
    try:
        common = ["-q", "-p", "no:cacheprovider", "--tb=short", f"--basetemp={base}/t", "-m", "not slow"]
        common += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]  # hypothesis was, before the fork
        return int(pytest.main([*common, *arguments], plugins=[plugin]))
    finally:
        shutil.rmtree(base, ignore_errors=True)


# The map: which tests run which functions -------------------------------------------------------------

#: Read by Python in the processes that a traced test starts.
SITECUSTOMIZE = """
import os, sys, threading
if "MUTATION_TRACE" in os.environ:
    out = os.open(os.environ["MUTATION_TRACE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    tree, context = os.environ["MUTATION_TREE"], os.environ.get("MUTATION_CONTEXT", "")
    seen = {}
    def trace(frame, event, arg):
        code = frame.f_code
        if id(code) not in seen:
            seen[id(code)] = code
            if code.co_filename.startswith(tree):
                os.write(out, f"{context}\\t{code.co_filename[len(tree) + 1:]}\\t{code.co_qualname}\\n".encode())
    sys.settrace(trace)
    threading.settrace(trace)
"""


class _Mapper:
    """pytest plugin: seconds and outcome of each test, and the functions that it and its wide fixtures call."""

    def __init__(self, tree: Path, trace: Path) -> None:
        self.tree, self.context = str(tree / ""), ""
        self.out = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.seen: dict[int, CodeType] = {}
        self.foreign: dict[int, CodeType] = {}
        self.tests: dict[str, dict[str, Any]] = {}
        self.fixtures: dict[str, float] = {}
        self.started, self.collected = time.monotonic(), 0.0

    def enter(self, context: str) -> str:
        before, self.context = self.context, context
        os.environ["MUTATION_CONTEXT"] = context
        self.seen = {}
        return before

    def trace(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        number = id(code)
        if number in self.seen or number in self.foreign:
            return
        if not code.co_filename.startswith(self.tree):
            self.foreign[number] = code
            return
        self.seen[number] = code
        os.write(self.out, f"{self.context}\t{code.co_filename[len(self.tree) :].lstrip('/')}\t{code.co_qualname}\n".encode())

    def start(self) -> None:
        sys.settrace(self.trace)
        threading.settrace(self.trace)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.enter(nodeid)
        self.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        if fixturedef.scope == "function":
            return (yield)
        name = _fixture_name(fixturedef)
        before, started = self.enter(f"fixture:{name}"), time.monotonic()
        try:
            return (yield)
        finally:
            self.fixtures[name] = max(self.fixtures.get(name, 0.0), time.monotonic() - started)
            self.enter(before)

    def pytest_collection_modifyitems(self, items: Any) -> None:
        self.collected = time.monotonic() - self.started
        for item in items:
            wide = {_fixture_name(d) for defs in item._fixtureinfo.name2fixturedefs.values() for d in defs if d.scope != "function"}
            self.tests[item.nodeid] = {"seconds": 0.0, "passed": False, "fixtures": sorted(wide)}

    def pytest_runtest_logreport(self, report: Any) -> None:
        test = self.tests[report.nodeid]
        if report.when == "call":
            test["seconds"], test["passed"] = round(report.duration, 4), report.outcome == "passed"
        elif report.failed:
            test["passed"] = False


def _fixture_name(definition: Any) -> str:
    return f"{definition.baseid}::{definition.argname}"


def map_file(test_file: str, tree: Path, package: str) -> dict[str, Any]:
    """Tests of a file: seconds, functions. Run in a child."""
    trace, site = tree.parent / f"trace-{tree.name}.txt", tree.parent / f"site-{tree.name}"
    trace.unlink(missing_ok=True)
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
    os.environ |= {"PYTHONPATH": f"{site}{os.pathsep}{tree}", "MUTATION_TRACE": str(trace), "MUTATION_TREE": str(tree)}
    mapper = _Mapper(tree, trace)
    started = time.monotonic()
    _pytest([test_file], mapper, tree, package)
    sys.settrace(None)
    called: dict[str, set[str]] = defaultdict(set)
    for line in trace.read_text().splitlines():
        context, file, function = line.split("\t")
        if file.startswith(f"{package}/"):
            called[context].add(f"{file}:{re.sub(r'(.<locals>)?.<(lambda|listcomp|genexpr|dictcomp|setcomp)>', '', function)}")
    tests = {}
    for name, test in mapper.tests.items():
        functions = set(called.get(name, ())).union(*(called.get(f"fixture:{f}", ()) for f in test["fixtures"]))
        slow = {f: round(mapper.fixtures.get(f, 0.0), 3) for f in test["fixtures"] if mapper.fixtures.get(f, 0.0) > 0.01}
        tests[name] = {"seconds": test["seconds"], "passed": test["passed"], "fixtures": slow, "functions": sorted(functions)}
    imported = sorted({f"{package}/{m.replace('.', '/')}" for m in re.findall(rf"{package}\.([\w.]+)", (tree / test_file).read_text())})
    return {"tests": tests, "imports": imported, "loading": round(mapper.collected, 2), "seconds": round(time.monotonic() - started, 1)}


@dataclass
class TestMap:
    """What :func:`map_file` found, for all test files."""

    files: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        self.of_function: dict[str, set[str]] = defaultdict(set)
        self.tests: dict[str, dict[str, Any]] = {}
        for document in self.files.values():
            for name, test in document["tests"].items():
                if test["passed"]:
                    self.tests[name] = test
                    for function in test["functions"]:
                        self.of_function[function].add(name)

    def choose(self, mutant: Mutant, budget: float) -> list[list[str]]:
        """The tests for ``mutant``: those that run its function, the quick and narrow ones first; then others of their files.

        In two parts: what a few seconds can run, then the rest.
        """
        direct = set(self.of_function.get(f"{mutant.file}:{mutant.function}", ()))
        module = {t for f, tests in self.of_function.items() if f.startswith(f"{mutant.file}:") for t in tests}
        if not direct or mutant.function == MODULE:
            # At import, in a process that cannot be traced, or nowhere.
            stem = mutant.file.removesuffix(".py").removesuffix("/__init__")
            files = {name for name, document in self.files.items() if stem in document["imports"]}
            direct = direct | module | {t for t in self.tests if t.split("::")[0] in files}
        if not direct:
            room = mutant.file.rsplit("/", 1)[0]
            direct = {t for f, tests in self.of_function.items() if f.startswith(f"{room}/") for t in tests}
        near = {t.split("::")[0] for t in direct}
        words = set(re.split(r"[/_.]", mutant.file)) - {"py", "init", ""}

        def rank(name: str) -> float:
            own = words & set(re.split(r"[/_.]", name.split("::")[0]))
            return self._seconds(name, set()) * math.sqrt(max(1, len(self.tests[name]["functions"]))) * (0.25 if own else 1.0)

        # Of a test with many parameters each further case counts for less than another test.
        cases: Counter[str] = Counter()
        ranked = []
        for name in sorted((t for t in self.tests if t.split("::")[0] in near), key=lambda t: (rank(t), t)):
            test = name.split("[")[0]
            ranked.append((name not in direct, rank(name) * (1 + cases[test]), name))
            cases[test] += 1
        ordered = [name for _, _, name in sorted(ranked)]
        parts: list[list[str]] = []
        for most in (FIRST_PART, budget):
            part: list[str] = []
            paid: set[str] = set()
            spent = 0.0
            for name in ordered:
                file = name.split("::")[0]
                seconds = self._seconds(name, paid) + (0.0 if file in paid else self.files[file]["loading"])
                if spent + seconds <= most:
                    part.append(name)
                    paid |= {*self.tests[name]["fixtures"], file}
                    spent += seconds
            ordered = [name for name in ordered if name not in set(part)]
            parts += [part] if part else []
        return parts

    def _seconds(self, name: str, paid: set[str]) -> float:
        test = self.tests[name]
        return float(test["seconds"]) + 0.004 + max((s for f, s in test["fixtures"].items() if f not in paid), default=0.0)


# A mutant ---------------------------------------------------------------------------------------------


class _Chooser:
    """pytest plugin: only the chosen tests, in their order; remembers the first that fails."""

    def __init__(self, chosen: Sequence[str], fixtures: dict[str, bool]) -> None:
        self.order = {name: index for index, name in enumerate(chosen)}
        self.wide = fixtures
        self.killer, self.run = "", 0

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        kept = [item for item in items if item.nodeid in self.order]
        # Tests with fixtures wider than themselves stay together by file, or the fixtures would be made again.
        first: dict[str, int] = {}
        for item in kept:
            if self.wide[item.nodeid]:
                file = item.nodeid.split("::")[0]
                first[file] = min(first.get(file, len(self.order)), self.order[item.nodeid])
        place = {i.nodeid: first[i.nodeid.split("::")[0]] if self.wide[i.nodeid] else self.order[i.nodeid] for i in kept}
        items[:] = sorted(kept, key=lambda item: (place[item.nodeid], self.wide[item.nodeid], self.order[item.nodeid]))

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.killer:
            self.killer = f"{report.nodeid} (import)"

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.run += report.when == "call"
        if report.failed and not self.killer:
            self.killer = report.nodeid


def try_tests(parts: Sequence[Sequence[str]], wide: dict[str, bool], tree: Path, package: str) -> dict[str, Any]:
    """{"status": "killed" | "survived", "killer", "run"}. Run in a child, on a mutated tree."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    run = 0
    for part in parts:
        chooser = _Chooser(part, wide)
        code = _pytest(["-x", *dict.fromkeys(name.split("::")[0] for name in part)], chooser, tree, package)
        run += chooser.run
        if code:
            return {"status": "killed", "killer": chooser.killer or f"pytest's status {code}", "run": run}
    return {"status": "survived", "killer": "", "run": run}


def warm(tree: Path, package: str) -> dict[str, Any]:
    """Compile the tests, once for all children."""
    return {"code": _pytest(["--collect-only"], object(), tree, package)}


# The whole --------------------------------------------------------------------------------------------


def digest(*paths: Path) -> str:
    """A hash of the files' contents."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def prepare_trees(root: Path, package: str, jobs: int, workdir: Path) -> list[Path]:
    trees = []
    for index in range(jobs):
        tree = workdir / f"tree{index}"
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(root, tree, ignore=LEFT_OUT, symlinks=True)
        compileall.compile_dir(tree / package, quiet=1)
        trees.append(tree)
    return trees


def load_map(root: Path, package: str, trees: Sequence[Path], workdir: Path, *, keep: bool) -> TestMap:
    """The map in ``workdir``, with what changed measured anew: a test file, or (unless ``keep``) any module."""
    path = workdir / "map.json"
    modules = "" if keep else digest(*sorted((root / package).rglob("*.py")))
    known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    wanted = {}
    for file in sorted((root / "tests").glob("test_*.py")):
        name = file.relative_to(root).as_posix()
        document = known.get(name)
        fresh = document is not None and document["of"] == digest(file) and (keep or document["modules"] == modules)
        wanted[name] = document if fresh else None
    known = {name: document for name, document in wanted.items() if document is not None}
    missing = sorted((name for name, d in wanted.items() if d is None), key=lambda n: -(root / n).stat().st_size)
    jobs = (_Job(name, lambda tree, name=name: map_file(name, tree, package), 600.0) for name in missing)
    for job, answer, seconds in run_jobs(iter(jobs), trees, workdir):
        if "tests" not in answer:
            print(f"map: {job.name} cannot be run: {answer}", file=sys.stderr)
            continue
        known[job.name] = answer | {"of": digest(root / job.name), "modules": modules}
        failed = sum(not test["passed"] for test in answer["tests"].values())
        print(f"map: {job.name}: {len(answer['tests'])} tests, {failed} skipped or failed, {seconds:.0f} s", file=sys.stderr)
        path.write_text(json.dumps(known))
    return TestMap(known)


def measure(mutants: Sequence[Mutant], tests: TestMap, trees: Sequence[Path], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A record for each mutant, in order; and for every 20th a control, the same tests on the plain tree."""
    root, workdir = Path(options.root), Path(options.workdir)
    log = workdir / "results.jsonl"
    suite = digest(*sorted((root / "tests").rglob("*.py")))
    known: dict[str, dict[str, Any]] = {}
    if log.exists() and options.resume:
        for line in log.read_text().splitlines():
            record = json.loads(line)
            known[record["id"]] = record
    elif log.exists():
        log.unlink()
    wide = {name: bool(test["fixtures"]) for name, test in tests.tests.items()}

    def jobs() -> Iterator[_Job]:
        for index, mutant in enumerate(mutants):
            path = root / mutant.file
            for control in (False, True) if index % 20 == 0 and not options.no_controls else (False,):
                name = f"{mutant.key}{'/control' if control else ''}"
                old, of = known.get(name), digest(path)
                same = old is not None and old["of"] == of
                if (
                    same
                    and old is not None
                    and (old["status"] not in ("survived", "no tests") or (old["suite"], old["budget"]) == (suite, options.budget))
                ):
                    continue
                chosen = tests.choose(mutant, options.budget)
                record = {"id": name, "of": of, "suite": suite, "budget": options.budget, "chosen": sum(map(len, chosen))}
                if not chosen and not control:
                    known[name] = record | {"status": "no tests", "seconds": 0.0, "killer": "", "run": 0}
                if not chosen:
                    continue
                records[name] = record
                plain = path.read_bytes()
                content = plain if control else mutant.apply(plain)
                yield _Job(
                    name,
                    lambda tree, chosen=chosen: try_tests(chosen, wide, tree, options.package),
                    2 * options.budget + 5,
                    lambda tree, content=content, mutant=mutant: _write(tree / mutant.file, content),
                    lambda tree, plain=plain, mutant=mutant: _write(tree / mutant.file, plain),
                )

    records: dict[str, dict[str, Any]] = {}
    by_key = {mutant.key: mutant for mutant in mutants}
    done = 0
    with log.open("a") as out:
        for job, answer, seconds in run_jobs(jobs(), trees, workdir):
            if answer.get("timeout"):
                answer = {"status": "timeout", "killer": "", "run": 0}
            elif "died" in answer:
                answer = {"status": "killed", "killer": f"the process ended with {answer['died']}", "run": 0}
            record = records.pop(job.name) | answer | {"seconds": round(seconds, 2)}
            known[job.name] = record
            out.write(json.dumps(record) + "\n")
            out.flush()
            done += 1
            mutant = by_key[job.name.split("/")[0]]
            where = f"{mutant.file}:{mutant.line}"
            what = "control" if "/" in job.name else f"{mutant.text!r} -> {mutant.mutated!r}"
            print(f"{done} {record['status']} {seconds:.1f} s {where} {what} {record['killer']}", file=sys.stderr)
    return [known[m.key] for m in mutants] + [r for m in mutants if (r := known.get(f"{m.key}/control")) is not None]


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    # The compiled file goes by the second and the size, which two mutants may share.
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def summary(mutants: Sequence[Mutant], records: Sequence[dict[str, Any]], reasons: dict[str, str], package: str) -> dict[str, Any]:
    """The numbers of the table: by room and in all, with the survivors."""
    by_id = {record["id"]: record for record in records}
    rows: dict[str, Counter[str]] = {}
    survivors = []
    for mutant in mutants:
        room, record = mutant.file.split("/")[1], by_id[mutant.key]
        row = rows.setdefault(room, Counter())
        row["mutants"] += 1
        status = "survived" if record["status"] == "no tests" else record["status"]
        row[status] += 1
        if status == "survived":
            reason = reasons.get(mutant.key, "")
            row["equal"] += bool(reason)
            at = {"key": mutant.key, "at": f"{mutant.file}:{mutant.line}", "text": mutant.text, "mutated": mutant.mutated}
            survivors.append(at | {"tests": record["run"], "reason": reason})
    rows = dict(sorted(rows.items()))
    rows["all"] = sum(rows.values(), Counter())
    table = []
    for room, row in rows.items():
        noticed, real = row["killed"] + row["timeout"], row["mutants"] - row["equal"]
        counts = {name: row[name] for name in ("mutants", "killed", "timeout", "survived", "equal")}
        table.append({"room": room, **counts, "share": round(noticed / real, 4) if real else None})
    controls = [record for record in records if record["id"].endswith("/control")]
    seconds = [by_id[m.key]["seconds"] for m in mutants]
    return {
        "rooms": table,
        "survivors": sorted(survivors, key=lambda s: str(s["at"])),
        "controls": {"run": len(controls), "failed": sum(record["status"] != "survived" for record in controls)},
        "seconds_per_mutant": round(sum(seconds) / max(len(seconds), 1), 2),
        "mutants": [asdict(m) | {k: by_id[m.key][k] for k in ("status", "killer", "run", "seconds")} for m in mutants],
    }


def markdown(found: dict[str, Any]) -> str:
    """The table and the list of survivors."""
    run = found["run"]
    lines = [
        "# Do the tests notice?",
        "",
        f"Single-point mutations drawn at random (seed {run['seed']}), each tried on the tests that run its function, at most "
        f"{run['budget']:g} s of them (results of `{run['command']}`; tinynas {run['version']}, {run['machine']}, {run['date']}).",
        "",
        "| room | mutants | killed | timeout | survived | of these equal | noticed of those that differ |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rooms"]:
        share = "" if row["share"] is None else f"{100 * row['share']:.1f} %"
        cells = [row["room"], *(str(row[k]) for k in ("mutants", "killed", "timeout", "survived", "equal")), share]
        lines.append(f"| {' | '.join(cells)} |")
    controls = found["controls"]
    lines += [
        "",
        f"A mutant took {found['seconds_per_mutant']:.1f} s of one core on average. Controls: {controls['failed']} of {controls['run']} "
        "trees that were not mutated failed the same tests.",
        "",
        "## Survivors",
        "",
    ]
    if found["survivors"]:
        lines += ["| where | was | became | why it is equal |", "|---|---|---|---|"]
        for s in found["survivors"]:
            lines.append(f"| {s['at']} | {_code(s['text'])} | {_code(s['mutated'])} | {_cell(s['reason']) or '**not equal: a gap**'} |")
    else:
        lines.append("None.")
    lines += [
        "",
        "## What this does not show",
        "",
        "Points at random are not the faults that people make. A mutant that survives its budget of tests may die in those left out, "
        "and tests marked slow are never run: the share is a lower bound. Texts, annotations, asserts and what is raised are not mutated.",
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`` {_cell(text)} ``"


def load_reasons(path: Path) -> dict[str, str]:
    """Key of a mutant -> why it equals the original."""
    if not path.exists():
        return {}
    return {key: entry["reason"] for key, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rooms", default=",".join(ROOMS), help="folders of the package, with commas")
    parser.add_argument("--count", type=int, default=180, help="mutants, equally many of each room")
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=2, help="processes")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of tests for a mutant")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help="use what --workdir holds")
    parser.add_argument("--keep-map", action="store_true", help="measure which tests run which functions only where a test file changed")
    parser.add_argument("--no-controls", action="store_true")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument(
        "--workdir", default=str(Path(tempfile.gettempdir()) / "tinynas-mutation"), help="copies and results; outside the tree"
    )
    parser.add_argument("--out", default="", help="folder of mutation.json and mutation.md; results/benchmarks of the tree")
    parser.add_argument("--root", default=str(ROOT), help="the tree")
    parser.add_argument("--package", default="tinynas")
    parser.add_argument("--reasons", default=str(ROOT / "benchmarks" / "mutation_equal.yaml"))
    parser.add_argument("--preload", default=LIBRARIES, help="modules loaded before the first fork")
    options = parser.parse_args(arguments)
    root, workdir = Path(options.root).resolve(), Path(options.workdir).resolve()
    options.root, options.workdir = str(root), str(workdir)
    if workdir.is_relative_to(root):
        parser.error(f"--workdir {workdir} lies in the tree {root}: the copies would copy themselves")
    mutants = draw(root, options.package, [room for room in options.rooms.split(",") if room], options.count, options.seed)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.key} {mutant.file}:{mutant.line} {mutant.kind}: {mutant.text} -> {mutant.mutated}")
        return 0
    workdir.mkdir(parents=True, exist_ok=True)
    lock = (workdir / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        parser.error(f"--workdir {workdir} is in use by another run")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    if (data := root.parent / "shared" / "data").is_dir():
        os.environ.setdefault("TINYNAS_TEST_DATA", str(data))
    for library in options.preload.split():
        try:
            importlib.import_module(library)
        except ImportError:
            print(f"{library} is not installed: its tests are skipped or slower", file=sys.stderr)
    trees = prepare_trees(root, options.package, options.jobs, workdir)
    for _ in run_jobs(iter([_Job("warm", lambda tree: warm(tree, options.package), 300.0)] * options.jobs), trees, workdir):
        pass
    tests = load_map(root, options.package, trees, workdir, keep=options.keep_map)
    if not tests.tests:
        print(f"no test of {root / 'tests'} passes: see {workdir}/log-*.txt", file=sys.stderr)
        return 1
    started = time.monotonic()
    records = measure(mutants, tests, trees, options)
    found = summary(mutants, records, load_reasons(Path(options.reasons)), options.package)
    version = re.search(r'__version__ = "([^"]+)"', (root / options.package / "__init__.py").read_text())
    found["run"] = {
        "command": f"python benchmarks/mutation.py --rooms {options.rooms} --count {options.count} "
        f"--seed {options.seed} --budget {options.budget:g}",
        "seed": options.seed,
        "budget": options.budget,
        "version": version[1] if version else "",
        "commit": subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "wall_seconds": round(time.monotonic() - started, 1),
    }
    files: dict[str, set[str]] = defaultdict(set)
    for function, names in tests.of_function.items():
        files[function.split(":")[0]] |= {name.split("::")[0] for name in names}
    found["map"] = {module: sorted(names) for module, names in sorted(files.items())}
    out = Path(options.out) if options.out else root / "results" / "benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    (out / "mutation.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / "mutation.md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
