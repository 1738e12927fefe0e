"""Is anything lost when searches, promotions and exports are killed, when the disk is full, or when several begin at once.

    OMP_NUM_THREADS=1 python benchmarks/faults.py --kills 30 --disks 20 --starts 20

What it measures. *Kills*: a command of ``tinynas`` is killed (SIGKILL to the process, to one of its workers, or to all) at a
random moment of the time that it takes undisturbed, and given again. *Disks*: a search on a disk (tmpfs) of a random size up to
a little more than all but its page needs; where it ends with exit code 2 the disk grows and the search goes on. Where nothing
can be mounted the largest file that may be written is limited instead (RLIMIT_FSIZE); the table says which. *Starts*: two
searches at the same moment, without ``--out`` (each has a folder of its own), with one ``--out`` (one makes it, the other is
refused), or going on with one run (one leads).

Nothing is lost where every network that was finished before has the same record after, no training is in the log twice, all
networks are trained in the end, promoted figures and exported files equal those of a run that nobody disturbed, nothing says "internal
error", and the exit codes are right: 0 or 2 as the case demands.

Everything is drawn from ``--seed``; at which line of code a kill lands is not, that depends on the machine. Rows are kept in
results/benchmarks/faults.json as they are made, and made once: the script goes on where it stopped, also after ``--minutes``.
Processes are forked from one that has loaded the libraries.

What it does not show. Power cuts (what the disk had promised to keep is kept here); networks of several machines; long runs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
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
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2
import numpy as np
import torch  # noqa: F401  # loaded once, before anything is forked

import tinynas.export.deliver
import tinynas.promote
import tinynas.search  # noqa: F401
from tinynas import __version__
from tinynas.cli.app import run as tinynas_run
from tinynas.files import cores, read_lines, write_atomic

RESULTS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"
NETWORKS = 4
#: The smallest space and images that make a search.
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
SIZE, CLASSES, IMAGES = 16, 2, 60
SMALL = ["pool=60", "epoch_images=60", "rungs=[1]", "recipe.augment.kind=none", "recipe.batch_size=32"]
SETTINGS = [word for text in SMALL for word in ("--set", text)]
#: Seconds after which a command counts as hanging.
PATIENCE = 300.0
#: Commands that are killed, as often as they stand here, in turn; the number is of workers.
KILLED = ["search 1", "search 2", "search 1", "promote", "export"]
WHOM = ["parent", "worker", "all"]
STARTED = ["no out", "one out", "resume"]
#: Random sizes of disks, one from each of so many equal parts of the range.
SIZES = 20
#: What a refused one says.
REFUSED = "holds a run already|another process is search"


@dataclass
class Row:
    """One disturbance and what became of it."""

    kind: str
    """kill, disk or start."""
    index: int
    what: str
    at: float
    """Of a kill the second, of a disk its KiB, of starts the seconds between them."""
    hit: bool
    """Something was cut off: the command still ran, or the disk was too small, or the other was refused."""
    finished_before: int
    """Networks that were finished when it hit."""
    codes: list[int]
    faults: list[str] = field(default_factory=list)
    """What was lost or wrong, in words."""


# processes --------------------------------------------------------------------------------------------


@dataclass
class Command:
    """A running ``tinynas``; ``said`` is where its output goes."""

    pid: int
    said: Path
    begun: float
    code: int | None = None

    def poll(self) -> int | None:
        """Its exit code (negative: the signal), or None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self) -> int:
        """Its exit code; killed, and -9, where it hangs."""
        while (code := self.poll()) is None:
            if time.monotonic() - self.begun > PATIENCE:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)
        return code

    def text(self) -> str:
        """What it said, on both outputs."""
        return self.said.read_text(errors="replace")


def start(arguments: Sequence[str], folder: Path, *, limit: int | None = None) -> Command:
    """``tinynas`` with these arguments in ``folder``, in a process of its own; ``limit``: bytes of the largest file."""
    handle, name = tempfile.mkstemp(prefix="said-")
    begun = time.monotonic()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setsid()
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.chdir(folder)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            code = tinynas_run(list(arguments))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(handle)
    return Command(pid, Path(name), begun)


def children(pid: int) -> list[int]:
    """The processes that ``pid`` started."""
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def write_images(folder: Path, seed: int) -> None:
    """Stripes and noise, in a folder for each class."""
    rng = np.random.default_rng(seed)
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(IMAGES):
            wave = np.arange(SIZE)[:, None] if label else np.arange(SIZE)[None, :]
            image = 120 + 60 * np.sin(wave * 1.3 + rng.uniform(0, 6))[..., None] + rng.normal(0, 20, (SIZE, SIZE, 3))
            cv2.imwrite(str(folder / f"class{label}" / f"{number}.png"), image.clip(0, 255).astype(np.uint8))


# what must be kept ------------------------------------------------------------------------------------


def networks(run: Path) -> dict[int, dict[str, Any]]:
    """By number: what is recorded of every network that is trained."""
    latest = {line["number"]: line for line in read_lines(run / "trials.jsonl")}
    return {number: line for number, line in latest.items() if line["state"] in ("trained", "stopped")}


def losses(run: Path, before: dict[int, dict[str, Any]], *, complete: bool = True) -> list[str]:
    """What of ``before`` is not in ``run`` any more, and what else is not as it should be."""
    after = networks(run)
    faults = [f"network {n} is lost" for n in before if n not in after]
    faults += [f"network {n} has another record" for n in before if n in after and after[n] != before[n]]
    trained = Counter((line["id"], line["epochs"]) for line in read_lines(run / "times.jsonl"))
    faults += [f"{one[0]} was trained {count} times" for one, count in trained.items() if count > 1]
    if complete and len(after) != NETWORKS:
        faults.append(f"{len(after)} of {NETWORKS} networks are trained")
    return faults


def wrong(command: Command, right: Sequence[int]) -> list[str]:
    """What ``command`` said that it should not, and its exit code where that is not one of ``right``."""
    text, code = command.text(), command.wait()
    faults = ["internal error: " + text[-300:]] if re.search("internal error|Traceback", text, re.IGNORECASE) else []
    if code not in right:
        faults.append(f"exit code {code}, not {' or '.join(map(str, right))}: {text[-300:]}")
    return faults


def digests(folder: Path) -> dict[str, str]:
    """By name: the content of the files that an export promises to be the same."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.tflite"))}


def figures(run: Path, net: str) -> Any:
    """The figures of a promoted network that do not depend on time."""
    document = json.loads((run / "nets" / net / "metrics.json").read_text())
    return {key: value for key, value in document.items() if not re.search("second|time|date|created", key)}


# the three kinds --------------------------------------------------------------------------------------


class Campaign:
    """Everything in ``folder``; rows as they are made."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        (folder / "space.yaml").write_text(SPACE)
        inputs = ["--budget", "mcunet-tiny2", "--space", str(folder / "space.yaml"), "--data", str(folder / "images")]
        self.search = ["search", *inputs, *SETTINGS, "--trials", str(NETWORKS), "--json"]
        self.base, self.promoted = folder / "base", folder / "promoted"
        self.seconds: dict[str, float] = {}

    def begin(self) -> None:
        """The undisturbed runs that the others are compared with, and the seconds that they take."""
        write_images(self.folder / "images", self.seed)
        with (self.folder / "warm.txt").open("w") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            # Here, so that everything is imported before anything is forked.
            warm = str(self.folder / "warm")
            search = [*self.search, "--workers", "1", "--out", warm]
            for arguments in (search, ["promote", warm, "best", "--epochs", "1"], ["export", warm, "best", "--out", f"{warm}-files"]):
                if tinynas_run(arguments):
                    raise SystemExit((self.folder / "warm.txt").read_text())
        for name, arguments, place in (
            ("search 1", [*self.search, "--workers", "1", "--out", str(self.base)], None),
            ("search 2", [*self.search, "--workers", "2", "--out", str(self.folder / "two")], None),
            ("promote", ["promote", str(self.promoted), "best", "--epochs", "2", "--json"], self.promoted),
            ("export", ["export", str(self.promoted), "best", "--out", str(self.folder / "exported"), "--json"], None),
        ):
            if place is not None:
                shutil.copytree(self.base, place)
            command = start(arguments, self.folder)
            if command.wait():
                raise SystemExit(f"{' '.join(arguments)}: {command.text()}")
            self.seconds[name] = time.monotonic() - command.begun
        self.best = json.loads((self.base / "front.json").read_text())
        self.net = max(self.best, key=lambda row: row["accuracy"])["id"]

    def kill(self, index: int, random_: random.Random) -> Row:
        """Kill a command at a random moment and give it again."""
        what, place = KILLED[index % len(KILLED)], self.folder / f"kill-{index}"
        at = random_.uniform(0.0, 1.0) * self.seconds[what]
        whom = WHOM[index // len(KILLED) % len(WHOM)] if what == "search 2" else "all"
        target, again = self._killed(what, place)
        command = start(target, self.folder)
        while time.monotonic() - command.begun < at and command.poll() is None:
            time.sleep(0.002)
        workers = children(command.pid)
        hit = command.poll() is None
        if hit:
            for pid in {"parent": [command.pid], "all": [command.pid, *workers], "worker": workers[:1]}[whom]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        before = networks(place) if what.startswith("search") else {}
        code = command.wait()
        row = Row("kill", index, f"{what}, {whom}", round(at, 3), hit, len(before), [code])
        survived = whom == "worker" or not hit
        row.faults += wrong(command, [0] if survived else [-signal.SIGKILL])
        if not survived:
            self._end(workers)
            before |= networks(place) if what.startswith("search") else {}
            second = start(again() if what.startswith("search") else target, self.folder)
            row.codes.append(second.wait())
            row.faults += wrong(second, [0])
        if what.startswith("search"):
            row.faults += losses(place, before)
        elif what == "promote" and figures(place, self.net) != figures(self.promoted, self.net):
            row.faults.append("promoted to other figures than undisturbed")
        elif what == "export" and digests(place) != digests(self.folder / "exported"):
            row.faults.append("exported other files than undisturbed")
        return row

    def _killed(self, what: str, place: Path) -> tuple[list[str], Callable[[], list[str]]]:
        if what == "promote":
            shutil.copytree(self.base, place)
            arguments = ["promote", str(place), "best", "--epochs", "2", "--json"]
        elif what == "export":
            arguments = ["export", str(self.promoted), "best", "--out", str(place), "--json"]
        else:
            arguments = [*self.search, "--workers", what.split()[1], "--out", str(place)]
        return arguments, lambda: _resumed(place) if (place / "config.yaml").exists() else arguments

    @staticmethod
    def _end(pids: Sequence[int]) -> None:
        # Workers end with their parent; nothing is looked at before they have.
        end = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
            time.sleep(0.02)

    def disk(self, index: int, random_: random.Random) -> Row:
        """Search on a disk that is too small, perhaps, then on one that is not."""
        needed = sum(path.stat().st_blocks * 512 for path in self.base.rglob("*") if path.is_file() and path.name != "report.html")
        share = (index % SIZES + random_.random()) / SIZES
        size = int((0.02 + 1.08 * share) * needed) // 4096 * 4096 + 4096
        place, workers = self.folder / f"disk-{index}", 2 if index % 4 == 3 else 1
        with disk(place, size) as (kind, limit, grow):
            run = place / "run"
            arguments = [*self.search, "--workers", str(workers), "--out", str(run)]
            first = start(arguments, self.folder, limit=limit)
            code = first.wait()
            row = Row("disk", index, f"{kind}, {workers} worker{'s' * (workers > 1)}", size / 1024, code != 0, 0, [code])
            row.faults += wrong(first, [0, 2])
            if code == 2 and not re.search("No space left|File too large", first.text()):
                row.faults.append("not said: " + first.text()[-300:])
            before = networks(run)
            row.finished_before = len(before)
            if code:
                grow()
                second = start(_resumed(run) if (run / "config.yaml").exists() else arguments, self.folder)
                row.codes.append(second.wait())
                row.faults += wrong(second, [0])
            row.faults += losses(run, before)
        return row

    def start(self, index: int, random_: random.Random) -> Row:
        """Two searches at once."""
        what, place = STARTED[index % len(STARTED)], self.folder / f"start-{index}"
        place.mkdir()
        between = random_.choice((0.0, random_.uniform(0.0, 0.5 * self.seconds["search 1"])))
        before: dict[int, dict[str, Any]] = {}
        if what == "resume":
            shutil.copytree(self.base, place / "run")
            before = networks(place / "run")
        commands = []
        for seed in (1, 2):
            out = [] if what == "no out" else ["--out", str(place / "run")]
            begin = [*self.search, "--workers", "1", "--seed", str(seed), *out]
            commands.append(start([*_resumed(place / "run"), "--trials", str(NETWORKS + 1)] if what == "resume" else begin, place))
            time.sleep(between * (seed == 1))
        codes = [command.wait() for command in commands]
        row = Row("start", index, what, round(between, 3), 2 in codes, len(before), codes)
        for command in commands:
            row.faults += wrong(command, [0, 2])
        refused = [command for command, code in zip(commands, codes, strict=True) if code == 2]
        row.faults += ["not said: " + c.text()[-300:] for c in refused if not re.search(REFUSED, c.text())]
        runs = sorted((place / "results").glob("*/config.yaml")) if what == "no out" else [place / "run" / "config.yaml"]
        for config in runs:
            row.faults += losses(config.parent, before, complete=what != "resume")
        if what == "no out" and (codes != [0, 0] or len({_seed(config) for config in runs}) != 2):
            row.faults.append(f"{len(runs)} folders, codes {codes}")
        if what == "one out" and sorted(codes) != [0, 2]:
            row.faults.append(f"codes {codes}")
        if what == "resume" and (0 not in codes or len(networks(place / "run")) != NETWORKS + 1):
            row.faults.append(f"codes {codes}, {len(networks(place / 'run'))} networks")
        return row


def _resumed(run: Path) -> list[str]:
    return ["search", "--resume", "--out", str(run), "--json"]


def _seed(config: Path) -> str:
    return re.findall(r"\n  seed: (\d+)", config.read_text())[0]


@contextlib.contextmanager
def disk(place: Path, size: int) -> Iterator[tuple[str, int | None, Callable[[], None]]]:
    """A disk of ``size`` bytes at ``place``: what it is, the limit that stands in for it, and what makes it large enough."""
    place.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False).returncode == 0
    )
    if not mounted:
        yield "largest file", size, lambda: None
        return
    try:
        yield "tmpfs", None, lambda: subprocess.run(["mount", "-o", "remount,size=256m", place], check=True) and None
    finally:
        subprocess.run(["umount", place], check=True)


# the table --------------------------------------------------------------------------------------------


def page(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """results/benchmarks/faults.md."""
    lines = [
        "# What is lost when searches, promotions and exports are cut off",
        "",
        f"Made by `benchmarks/faults.py --seed {about['seed']}`, tinynas {about['tinynas']}, {about['machine']}.",
        f"Searches of {NETWORKS} networks, one epoch of 60 images each.",
        "",
        "| disturbance | done | cut off something | networks finished before | lost or changed | internal errors | wrong in any way |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    groups = {(row.kind, row.what): None for row in sorted(rows, key=lambda row: (row.kind, row.what))}
    for kind, what in [*groups, ("", "")]:
        chosen = [row for row in rows if not kind or (row.kind, row.what) == (kind, what)]
        faults = [fault for row in chosen for fault in row.faults]
        counts = [
            len(chosen),
            sum(row.hit for row in chosen),
            sum(row.finished_before for row in chosen),
            sum("lost" in fault or "another record" in fault or "other f" in fault or "times" in fault for fault in faults),
            sum("internal error" in fault for fault in faults),
            sum(bool(row.faults) for row in chosen),
        ]
        lines.append(f"| {f'{kind}: {what}' if kind else '**all**'} | {' | '.join(map(str, counts))} |")
    sizes = sorted(row.at for row in rows if row.kind == "disk")
    if sizes:
        lines += ["", f"Disks of {sizes[0]:.0f} to {sizes[-1]:.0f} KiB: {', '.join(f'{size:.0f}' for size in sizes)}."]
    for row in rows:
        lines += [f"- {row.kind} {row.index} ({row.what}, {row.at:g}, codes {row.codes}): {fault}" for fault in row.faults]
    lines += ["", "Not shown: power cuts, several machines, long runs.", ""]
    return "\n".join(lines)


def main() -> int:
    """Do what is not done yet; 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--disks", type=int, default=20)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin nothing after so long")
    parser.add_argument("--out", type=Path, default=RESULTS / "faults", help="table, without .md and .json")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    cv2.setNumThreads(1)
    json_file, table = options.out.with_suffix(".json"), options.out.with_suffix(".md")
    known = json.loads(json_file.read_text()) if json_file.exists() else {"rows": []}
    rows = [Row(**row) for row in known["rows"]] if known.get("about", {}).get("seed") == options.seed else []
    about = {
        "seed": options.seed,
        "tinynas": __version__,
        "machine": f"{platform.machine()}, {cores()} cores, Python {platform.python_version()}",
    }
    wanted = [
        (kind, n) for kind, count in (("kill", options.kills), ("disk", options.disks), ("start", options.starts)) for n in range(count)
    ]
    # One of each kind in turn, so that a run that ends early has some of all.
    wanted.sort(key=lambda pair: (pair[1], pair[0]))
    todo = [pair for pair in wanted if pair not in {(row.kind, row.index) for row in rows}]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ["TINYNAS_CACHE"] = str(Path(folder) / "cache")
        campaign = Campaign(Path(folder), options.seed)
        if todo:
            campaign.begin()
        for kind, index in todo:
            if time.monotonic() > end:
                break
            row = getattr(campaign, kind)(index, random.Random(f"{options.seed} {kind} {index}"))
            rows.append(row)
            print(f"{kind} {index}: {row.what}, {row.at:g}: codes {row.codes}, {'; '.join(row.faults) or 'nothing lost'}", flush=True)
            rows.sort(key=lambda row: (row.kind, row.index))
            write_atomic(json_file, json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
            write_atomic(table, page(rows, about))
    return int(any(row.faults for row in rows))


if __name__ == "__main__":
    sys.exit(main())
