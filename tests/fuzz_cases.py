"""Input as bad luck and bad will make it: mutated YAMLs, models, images, run folders and command lines, and what the tool says to them.

Every case follows from (room, number, seed) alone. The command runs in a forked child with a time limit and a memory limit, so that
a hang, an abort of a library or a runaway allocation is a verdict like any other.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corrupt import broken_files
from search_runs import write_stripes

from tinynas.config import shipped

#: Address space of a case: far more than any of the commands needs, far less than the machine has.
MEMORY_BYTES = 12 * 1024**3
#: Exit codes of the contract: done, does not fit, the user's fault, interrupted. 1 is ours only together with "internal error".
ALLOWED = frozenset({0, 1, 2, 130})
#: Control characters but tab and newline; without a terminal there are no colours either.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Case:
    """One command line on input that was made for it."""

    room: str
    number: int
    command: tuple[str, ...]
    what: str
    """How the input was mutated."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    case: Case
    exit_code: int | None
    """None where it was killed at the limit of time; negative for a signal."""
    seconds: float
    output: str
    fault: str
    """Empty where the tool behaved, else what is wrong."""


def verdict(exit_code: int | None, output: str, errors: str) -> str:
    """What is wrong with an answer; empty for nothing."""
    if exit_code is None:
        return "no answer within the limit of time"
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    said = output + errors
    if "internal error" in said or "Traceback (most recent call last)" in said:
        return "an internal error"
    if exit_code not in ALLOWED:
        return f"exit code {exit_code}"
    if exit_code == 2 and not re.search(r"^(error|Usage|usage): ?\S?", errors, re.MULTILINE):
        return "exit code 2 without a message"
    if found := _CONTROL.search(said):
        return f"the control character {found.group()!r} reaches the terminal"
    if len(errors) > 20_000:
        return f"a message of {len(errors):,} characters"
    return ""


def attempt(case: Case, *, seconds: float = 60.0) -> Outcome:
    """Run ``case`` in a forked child; at most ``seconds``."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+b") as out, tempfile.TemporaryFile("w+b") as err:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _child(case.command, out.fileno(), err.fileno())
        exit_code = _wait(child, begun + seconds)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(400_000).decode("utf-8", "replace"))
    return Outcome(case, exit_code, time.monotonic() - begun, "".join(texts)[-4000:], verdict(exit_code, *texts))


def _child(command: Sequence[str], out: int, err: int) -> None:
    from tinynas.cli import run

    code = 99
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", errors="surrogateescape")
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="surrogateescape", line_buffering=True)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        code = run(list(command))
        sys.stdout.flush()
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 1
    finally:
        os._exit(code)


def _wait(child: int, end: float) -> int | None:
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _end(child)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    _end(child)
    os.waitpid(child, 0)
    return None


def _end(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


# Mutated text ---------------------------------------------------------------------------------------


def _split(text: str) -> tuple[str, ...]:
    """The words of a table: two spaces or a new line stand between them."""
    return tuple(re.split(r"\s{2,}", text.strip()))


#: Values that somebody writes where another kind of value belongs.
VALUES = (
    *_split(
        r"""
        null  ~  -1  0  1e999  -.inf  .nan  true  yes  ''  "64 KB"  64 KiB  64  0x10  1_000  10000000000000000000000000  []  {}
        [[]]  [null]  [1, 2, 3]  [-1, 0]  [0.5, x]  {a: 1}  {1: 2}  2024-01-01  12:30:45  !!python/object:os.system x
        !!binary aGFsbG8=  !!set {a, b}  !!float x  &a [*a]  *missing  |  >-  'unclosed  @at  `tick`  %percent  - - -  ? x
        <<: {a: 1}  ../../etc/passwd  /dev/zero  nan  1.5 MiB  -64 KiB  1e30 MiB  [16, 16, 16]  [[16, 32, 8]]  [0]  [100000]
        [1, 1]  0.0001  1e-320  False  stm32f746  tflm-cmsis-nn
        """
    ),
    '"\\u0000"',
    '"\\e[2J"',
    "\u202eright",
    "\xe4\xf6\xfc",
    "x" * 5000,
    "[" * 60,
    "9" * 400,
    "\x1b[31mred",
)
LINES = (
    *_split(
        r"""
        unknown: 1  name: twice  <<: *x  ---  ...  %YAML 9.9  - item  ? key  : value  []: {}  a: &a [x]  b: *a  {{ template }}
        # only a comment  null: 1  1: 2  stages: []  =: =  laugh: &l [ha]
        """
    ),
    "\t tab: 1",
    "",
    "  deeper: 1",
    "\x00",
    "\ufeffbom: 1",
    "\x85next: 1",
)


def mutated_text(good: str, draw: random.Random) -> tuple[bytes, str]:
    """``good`` with one to three changes, and what they were."""
    lines, done = good.splitlines(), []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        kind = draw.randrange(12)
        at = draw.randrange(len(lines)) if lines else 0
        line = lines[at] if lines else ""
        if kind <= 3 and ":" in line:
            value = draw.choice(VALUES)
            lines[at] = f"{line.split(':')[0]}: {value}"
            done.append(f"line {at + 1} is {value[:40]!r}")
        elif kind == 4:
            value, words = draw.choice(VALUES), re.split(r"([\w.]+)", line)
            if len(words) > 1:
                words[draw.randrange(1, len(words), 2)] = value
            lines[at : at + 1] = ["".join(words)]
            done.append(f"a word of line {at + 1} is {value[:40]!r}")
        elif kind == 5:
            new = draw.choice(LINES)
            lines.insert(at, new)
            done.append(f"{new!r} before line {at + 1}")
        elif kind == 6 and lines:
            del lines[at]
            done.append(f"without line {at + 1}")
        elif kind == 7 and lines:
            lines.insert(draw.randrange(len(lines)), line)
            done.append(f"line {at + 1} twice")
        elif kind == 8 and lines:
            lines[at] = " " * draw.randrange(4) + line.lstrip() if draw.random() < 0.5 else "  " + line
            done.append(f"line {at + 1} is indented differently")
        elif kind == 9:
            depth = draw.choice((30, 200, 3000))
            lines.insert(at, "deep: " + "[" * depth + "]" * depth)
            done.append(f"{depth} brackets")
        elif kind == 10:
            levels = draw.randrange(3, 12)
            lines += ["a0: &a0 [x, x, x, x, x, x, x, x]"]
            lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, levels)]
            done.append(f"aliases of aliases, {levels} levels")
        else:
            lines = lines[: at + 1]
            done.append(f"cut behind line {at + 1}")
    data = "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"
    if draw.random() < 0.15:
        where = draw.randrange(len(data))
        data = data[:where] + draw.randbytes(draw.randrange(1, 9)) + data[where:]
        done.append(f"random bytes at {where}")
    if draw.random() < 0.03:
        data = draw.choice((b"", b"\xff\xfe" + data, data.decode("utf-8", "replace").encode("utf-16"), data[:3] * 100_000))
        done.append("another encoding, or nothing")
    return data, "; ".join(done) or "not changed"


def mutated_json(text: str, draw: random.Random) -> tuple[bytes, str]:
    """A JSON document, or lines of JSON, with one value of another kind, or cut, or with other bytes."""
    lines = text.splitlines() or [""]
    at = draw.randrange(len(lines))
    kind = draw.randrange(6)
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if kind == 0:
        cut = draw.randrange(len(text) + 1)
        return text[:cut].encode(), f"cut at {cut}"
    if kind == 1:
        where = draw.randrange(max(len(text), 1))
        return text[:where].encode() + draw.randbytes(3) + text[where:].encode(), f"random bytes at {where}"
    if kind == 2:
        return draw.choice((b"", b"\n", b"null", b"[]", b"{}", b"0", b'"x"', b"[[[[", b"\xff\xfe")), "something else"
    document = whole if whole is not None else _json(lines[at])
    if document is None:
        return draw.randbytes(40), "random"
    value = draw.choice((None, -1, 0, 1.5, 10**30, "x", "\x1b[2Jx", [], {}, [[1]], {"a": []}, True, "../../x", float("nan"), "9" * 300))
    document, path = _replace(document, value, draw)
    changed = json.dumps(document)
    if whole is not None:
        return changed.encode(), f"{path} is {value!r}"
    lines[at] = changed
    return ("\n".join(lines) + "\n").encode(), f"line {at + 1}: {path} is {value!r}"


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _replace(document: object, value: object, draw: random.Random, path: str = "$") -> tuple[object, str]:
    if isinstance(document, dict) and document and draw.random() < 0.92:
        key = draw.choice(sorted(document))
        if draw.random() < 0.1:
            return {k: v for k, v in document.items() if k != key}, f"{path}.{key} gone; the value"
        new, where = _replace(document[key], value, draw, f"{path}.{key}")
        return {**document, key: new}, where
    if isinstance(document, list) and document and draw.random() < 0.92:
        at = draw.randrange(min(len(document), 50))
        new, where = _replace(document[at], value, draw, f"{path}[{at}]")
        return [*document[:at], new, *document[at + 1 :]], where
    return value, path


# Rooms ----------------------------------------------------------------------------------------------


SPACE = """\
name: small
resolution: [12, 16]
width_mult: [0.5, 1.0]
divisor: 4
stem: {out: [8, 16]}
stages:
  - {out: [8, 16], depth: [1, 2], kernel: [3, 5], expand: [1, 3], stride: 2}
head: {out: [0, 32]}
"""
#: A search of seconds.
QUICK = ("--workers", "1", "--set", "rungs=[1]", "--set", "epoch_images=60", "--set", "pool=100", "--set", "baseline=1", "--set", "start=1")


class Ground:
    """What the cases are made from: good input in ``folder``/good, made once; each case writes into a folder of its own beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.good = folder / "good"
        self.budgets = {name: path.read_text(encoding="utf-8") for name, path in shipped("budgets").items()}
        self.spaces = {"small": SPACE} | {name: path.read_text(encoding="utf-8") for name, path in shipped("search_spaces").items()}
        self.nets = {name: path.read_text(encoding="utf-8") for name, path in shipped("zoo").items()}
        self.images, self.run = self.good / "images", self.good / "run"
        if not (self.good / "done").exists():
            shutil.rmtree(self.good, ignore_errors=True)
            self.images.mkdir(parents=True)
            write_stripes(self.images)
            (self.good / "space.yaml").write_text(SPACE)
            self._command("search", "-b", "rp2040", "-s", "space.yaml", "-d", str(self.images), "--trials", "3", "--out", "run", *QUICK)
            self._command("promote", "run", "best", "--epochs", "1")
            self._command("report", "run")
            (self.good / "done").touch()
        self.models = {path.parent.name: path.read_bytes() for path in sorted(self.run.glob("nets/*/*.tflite"))}
        self.archs = {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(self.run.glob("nets/*/arch.yaml"))}
        assert self.models and self.archs

    def _command(self, *words: str) -> None:
        with contextlib.chdir(self.good):
            outcome = attempt(Case("good", 0, words, ""), seconds=300.0)  # forked: what is imported here is there already
        assert outcome.exit_code == 0, outcome.output

    def place(self, room: str, number: int) -> Path:
        """A new folder for one case."""
        place = self.folder / f"{room}-{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place


def yaml_case(ground: Ground, number: int, draw: random.Random) -> Case:
    """A budget, a space, an architecture, or a recipe by ``--set``."""
    place = ground.place("yaml", number)
    which = draw.choice(("budget", "budget", "space", "space", "net", "arch"))
    table = {"budget": ground.budgets, "space": ground.spaces, "net": ground.nets, "arch": ground.archs}[which]
    name = draw.choice(sorted(table))
    text = table[name]
    change = mutated_json if text.lstrip().startswith("{") and draw.random() < 0.7 else mutated_text
    data, what = change(text, draw)
    file = place / (f"{which}.json" if text.lstrip().startswith("{") else f"{which}.yaml")
    file.write_bytes(data)
    quick = ("--trials", "1", "--timeout", "3s", "--out", str(place / "run"), *QUICK)
    commands: dict[str, tuple[tuple[str, ...], ...]] = {
        "budget": (("estimate", "mcunet-tiny2", "-b", str(file)), ("spaces", "-b", str(file), "-s", "micro")),
        "space": (
            ("spaces", "-b", "rp2040", "-s", str(file)),
            ("search", "-b", "rp2040", "-s", str(file), "-d", str(ground.images), *quick),
        ),
        "net": (("estimate", str(file)), ("estimate", str(file), "-b", "rp2040", "--layers")),
    }
    commands["arch"] = commands["net"]
    return Case("yaml", number, draw.choice(commands[which]), f"{name}: {what}")


def model_case(ground: Ground, number: int, draw: random.Random) -> Case:
    """A .tflite with flipped bits, other words, cut, foreign."""
    place = ground.place("model", number)
    name = draw.choice(sorted(ground.models))
    ((what, data),) = (
        broken_files(ground.models[name], count=1, seed=draw.randrange(2**30)) if draw.random() < 0.15 else _nth(ground.models[name], draw)
    )
    file = place / draw.choice(("m.tflite", "m.tflite", "M.TFLITE", "m.lite"))
    file.write_bytes(data)
    command = draw.choice(
        (
            ("estimate", str(file)),
            ("estimate", str(file), "-b", "stm32f746", "--layers"),
            ("estimate", str(file), "-r", "stedgeai", "--json"),
            ("estimate", str(file), "-r", "tflm-cmsis-nn", "--json"),
            ("evaluate", str(file), "-d", str(ground.images), "--split", "all"),
        )
    )
    return Case("model", number, command, f"{name}: {what}")


def _nth(good: bytes, draw: random.Random) -> tuple[tuple[str, bytes]]:
    kind = draw.randrange(7)  # every kind of broken_files but the foreign ones
    *_, last = broken_files(good, count=kind + 1, seed=draw.randrange(2**30))
    return (last,)


def image_case(ground: Ground, number: int, draw: random.Random) -> Case:
    """A folder in which some images are broken, huge by their header, of another kind, or named strangely."""
    place = ground.place("image", number)
    folder = place / draw.choice(("data", "da ta", "[data]", "d'a\"t"))
    shutil.copytree(ground.images, folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    done = []
    for _ in range(draw.randrange(1, 6)):
        file = draw.choice(files)
        data = bytearray(file.read_bytes()) if file.exists() else bytearray(b"x")
        kind = draw.randrange(9)
        if kind == 0:
            data = data[: draw.randrange(len(data))]
        elif kind == 1:
            for _ in range(draw.randrange(1, 40)):
                data[draw.randrange(len(data))] = draw.randrange(256)
        elif kind == 2:
            data[16:24] = draw.choice((b"\xff" * 8, b"\0" * 8, b"\0\0\xff\xff\0\0\xff\xff"))  # width and height of a PNG
        elif kind == 3:
            data = bytearray(draw.choice((b"", b"GIF89a", b"\xff\xd8\xff", b"BM", b"\x89PNG\r\n\x1a\n", b"<svg/>", draw.randbytes(99))))
        elif kind == 4:
            name = draw.choice(
                ("\x1b[31m.png", "a\nb.png", "\u202egnp.exe", "x" * 200 + ".png", "a.HEIC", ".hidden.png", "ü.png", "ü.png", "-rf.png")
            )
            with contextlib.suppress(OSError):
                file.rename(file.with_name(name))
            done.append(f"{file.name} is called {name!r}")
            continue
        elif kind == 5:
            new = folder / draw.choice(("\x1b[2J", "train", "Test", "images", "__MACOSX", ".git", "A", "a ", "labels", "a\tb"))
            new.mkdir(exist_ok=True)
            (new / "0.png").write_bytes(bytes(data))
            done.append(f"a folder {new.name!r}")
            continue
        elif kind == 6:
            (folder / draw.choice(("labels.csv", "metadata.csv", "data.yaml", "annotations.json", "info.labels"))).write_bytes(
                draw.choice(
                    (
                        b"",
                        b"file,label\na/0.png,x\n",
                        b"\xff\xfe\x00",
                        b"file_name,label\n" + b"../../etc/passwd,x\n",
                        b"a,b,c\n" * 50,
                        b"{}",
                        b"nc: x",
                    )
                )
            )
            done.append("a table of labels")
            continue
        elif kind == 7:
            with contextlib.suppress(OSError):
                (folder / f"link{draw.randrange(9)}").symlink_to(draw.choice((folder, Path("/nonexistent"), Path("/dev/zero"), file)))
            done.append("a link")
            continue
        else:
            file.unlink(missing_ok=True)
            file.mkdir()
            done.append(f"{file.name} is a folder")
            files.remove(file)
            continue
        file.write_bytes(bytes(data))
        done.append(f"{file.name} by change {kind}")
    command: tuple[str, ...] = ("data", "info", str(folder))
    if draw.random() < 0.3:
        command = (*command, "--samples", str(place / "sheet.png"))
    elif draw.random() < 0.3:
        command = (*command, "--json")
    return Case("image", number, command, "; ".join(done))


def run_case(ground: Ground, number: int, draw: random.Random) -> Case:
    """A finished run with one or two files damaged."""
    place = ground.place("run", number)
    run = place / "run"
    shutil.copytree(ground.run, run, symlinks=True)
    files = sorted(p for p in run.rglob("*") if p.is_file() and "c" not in p.relative_to(run).parts)  # nothing reads the firmware
    done = []
    for _ in range(draw.choice((1, 1, 2))):
        file = draw.choice(files)
        data = file.read_bytes() if file.exists() else b""
        kind = draw.randrange(8)
        if kind == 0:
            file.unlink(missing_ok=True)
            what = "gone"
        elif kind == 1:
            file.write_bytes(data[: draw.randrange(len(data) + 1)])
            what = "cut"
        elif kind == 2 and file.exists():
            file.unlink()
            file.mkdir()
            files.remove(file)
            what = "a folder"
        elif file.suffix in {".json", ".jsonl", ".journal"}:
            changed, what = mutated_json(data.decode("utf-8", "replace"), draw)
            file.write_bytes(changed)
        elif file.suffix in {".yaml", ".csv", ".md", ".log", ".html"}:
            changed, what = mutated_text(data.decode("utf-8", "replace"), draw)
            file.write_bytes(changed)
        else:
            changed_bytes = bytearray(data or b"x")
            for _ in range(20):
                changed_bytes[draw.randrange(len(changed_bytes))] = draw.randrange(256)
            file.write_bytes(bytes(changed_bytes))
            what = "other bytes"
        done.append(f"{file.relative_to(run)}: {what}")
    command = draw.choice(
        (
            ("report", str(run)),
            ("pareto", str(run)),
            ("pareto", str(run), "--json"),
            ("promote", str(run), "best", "--epochs", "1"),
            ("export", str(run), "best", "--out", str(place / "out")),
            ("search", "--resume", "--out", str(run), "--timeout", "2s", "--workers", "1"),
            ("search", "--resume", "--out", str(run), "--trials", "1", "--workers", "1"),
        )
    )
    return Case("run", number, command, "; ".join(done))


_COMMANDS = (
    "search",
    "worker",
    "pareto",
    "spaces",
    "estimate",
    "promote",
    "export",
    "evaluate",
    "budgets",
    "schema",
    "init",
    "report",
    "data",
    "",
)
_OPTIONS = (
    *_split(
        r"""
        --budget  --space  --data  --trials  --timeout  --workers  --seed  --objective  --out  --resume  --storage  --set
        --json  --layers  --runtime  --epochs  --format  --split  --pixels  --threshold  --samples  --noise  --size  --augment
        --watch  --qat  --board  -h  --verbose
        """
    ),
)
_WORDS = (
    *_split(
        r"""
        best  knee  mcunet-tiny2  stm32f746  rp2040  tiny  micro  nothing  -1  0  1  99999999999999999999  1e9  nan  10m  0s
        -5m  1h30  [red]x[/red]  [/x]  a=b  a.b=c  =  a=  =b  recipe.lr=x  recipe.lr=nan  recipe.lr=-1  data.fit=square
        rungs=[]  rungs=[0]  rungs=[9,1]  epoch_images=-1  sram=64 KB  sram=0 KiB  ../..  /  /dev/null  /proc/self/mem  run:id
        results/x  :  RUN:  hf:x/y  hf:  postgresql://u:secret@127.0.0.1:1/x  sqlite:///  sqlite:////nonexistent/x.db  redis://x
        tflm  tflm-cmsis-nn  none  light  all  test  macs,sram  macs  accuracy  latency  budget  space  arch  recipe  0..1
        mean,std  tflite  c  keras  info  prepare  vww  synthetic  *  ~  --  -  $(id)  recipe.augment.light.flip=2  recipe=1
        data={}  strategy=none  strategy=[]  pool=1e99  settings.x=1  board=[b]  macs=&a [*a]  macs=!!python/x y
        """
    ),
    "",
    "x" * 300,
    "\x1b[2J",
    "no\nline",
    "\xfc",
    "name=" + "n" * 500,
)


def argument_case(ground: Ground, number: int, draw: random.Random) -> Case:
    """Words in places where others belong. Nothing here may train for long: searches get a short time and one worker."""
    place = ground.place("arguments", number)
    command = draw.choice(_COMMANDS)
    words = [command] if command else []
    for _ in range(draw.randrange(5)):
        if draw.random() < 0.6:
            words.append(draw.choice(_OPTIONS))
        if draw.random() < 0.85:
            choices = (*_WORDS, str(ground.run), str(ground.images), str(place / "new"), f"{ground.run}:best")
            words.append(draw.choice(choices))
    if command == "search":
        words += ["--data", str(ground.images), "--timeout", "2s", "--workers", "1", "--trials", "1", "--out", str(place / "run")]
    if command in {"promote", "worker"}:
        words = [*words, "--epochs", "1"] if command == "promote" else words
    if "--watch" in words:
        words.remove("--watch")
    return Case("arguments", number, tuple(words), "")


ROOMS: dict[str, Callable[[Ground, int, random.Random], Case]] = {
    "yaml": yaml_case,
    "model": model_case,
    "image": image_case,
    "run": run_case,
    "arguments": argument_case,
}


def make_case(ground: Ground, room: str, number: int, seed: int) -> Case:
    """Case ``number`` of ``room``; the same for the same seed."""
    return ROOMS[room](ground, number, random.Random(f"{seed}:{room}:{number}"))


def remove_case(ground: Ground, case: Case) -> None:
    """Take away what the case wrote."""
    shutil.rmtree(ground.folder / f"{case.room}-{case.number}", ignore_errors=True)
