"""Does it end in a message? Mutated YAMLs, models, images, run folders and command lines, each on the real command line.

Every case is made from (room, number, seed) by tests/fuzz_cases.py and run in a forked child with a limit of time and of memory.
It is a fault if the tool prints an internal error or a traceback, dies by a signal, gives no answer in time, leaves with code 2
and without a message, or lets a control character of a name or a value reach the terminal.

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py --seed 0 --minutes 20 --jobs 2
    OMP_NUM_THREADS=1 python benchmarks/fuzz.py --room yaml --number 17 --seed 0 --keep     # one case again, with its files kept

Writes results/benchmarks/fuzz.{json,md}; cases that are done are not run again (``--fresh`` runs them again).

What it does not show: that the answer is right (mutated input that is still valid is accepted without a look at the figures),
input that is well formed and wrong in its meaning, and every input that these mutations do not reach.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fuzz_cases import ROOMS, Ground, attempt, make_case, remove_case  # noqa: E402

#: Cases of each room where no number is given.
COUNTS = {"yaml": 300, "model": 400, "image": 150, "run": 200, "arguments": 400}
RESULT = ROOT / "results" / "benchmarks" / "fuzz.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; 1 where a case is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--room", choices=sorted(ROOMS), help="only this room")
    parser.add_argument("--number", type=int, help="only this case of the room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="cases a room (default: " + ", ".join(f"{k} {v}" for k, v in COUNTS.items()) + ")")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="limit of time of one case")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the files of the cases")
    parser.add_argument("--fresh", action="store_true", help="forget what is done")
    parser.add_argument("--workdir", type=Path, default=Path(tempfile.gettempdir()) / "tinynas-fuzz")
    options = parser.parse_args(arguments)
    os.environ["TINYNAS_CACHE"] = str(options.workdir / "cache")
    os.environ["HF_HUB_OFFLINE"] = "1"
    options.workdir.mkdir(parents=True, exist_ok=True)
    os.chdir(options.workdir)
    ground = Ground(options.workdir / "ground")
    rooms = [options.room] if options.room else sorted(ROOMS)
    if options.number is not None:
        return _one(ground, rooms[0], options)
    done: dict[str, dict[str, Any]] = {} if options.fresh or not RESULT.exists() else json.loads(RESULT.read_text())["cases"]
    wanted = [(room, number) for room in rooms for number in range(options.count or COUNTS[room])]
    wanted.sort(key=lambda case: case[1] / (options.count or COUNTS[case[0]]))  # all rooms go on alike
    open_cases = [case for case in wanted if _key(*case, options.seed) not in done]
    end = time.monotonic() + 60 * options.minutes

    def go(case: tuple[str, int]) -> None:
        if time.monotonic() > end:
            return
        made = make_case(ground, *case, options.seed)
        outcome = attempt(made, seconds=options.seconds)
        if not options.keep:
            remove_case(ground, made)
        shown = [word.replace(str(options.workdir), "DIR") for word in made.command]
        row = {"exit": outcome.exit_code, "seconds": round(outcome.seconds, 2), "fault": outcome.fault}
        if outcome.fault:
            row |= {"command": shown, "what": made.what[:300], "output": outcome.output[-1500:].replace(str(options.workdir), "DIR")}
            print(
                f"{case[0]} {case[1]}: {outcome.fault}\n  {' '.join(shown)[:300]}\n  {made.what[:300]}\n  ... {row['output'][-500:]!r}",
                flush=True,
            )
        done[_key(*case, options.seed)] = row

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(go, open_cases))
    return _write(done)


def _key(room: str, number: int, seed: int) -> str:
    return f"{seed}:{room}:{number}"


def _one(ground: Ground, room: str, options: argparse.Namespace) -> int:
    case = make_case(ground, room, options.number, options.seed)
    print(f"{case.command}\n{case.what}")
    outcome = attempt(case, seconds=options.seconds)
    if not options.keep:
        remove_case(ground, case)
    print(f"{outcome.output}\nexit {outcome.exit_code} after {outcome.seconds:.1f} s: {outcome.fault or 'no fault'}")
    return bool(outcome.fault)


def _write(done: dict[str, dict[str, Any]]) -> int:
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"cases": done}, indent=1, sort_keys=True) + "\n")
    rooms = sorted({key.split(":")[1] for key in done})
    lines = [
        "# Does it end in a message?",
        "",
        "Mutated input on the real command line (benchmarks/fuzz.py, whose head says what counts as a fault and what this does not show).",
        "",
        "| input | cases | exit 0 | does not fit (1) | message (2) | other | faults | slowest, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    faults = 0
    for room in rooms:
        rows = [row for key, row in done.items() if key.split(":")[1] == room]
        codes = Counter(row["exit"] for row in rows)
        wrong = sum(bool(row["fault"]) for row in rows)
        faults += wrong
        other = len(rows) - codes[0] - codes[1] - codes[2]
        slowest = max(row["seconds"] for row in rows)
        lines.append(f"| {room} | {len(rows)} | {codes[0]} | {codes[1]} | {codes[2]} | {other} | {wrong} | {slowest:.0f} |")
    lines += ["", f"Seeds: {', '.join(sorted({key.split(':')[0] for key in done}))}."]
    if faults:
        lines += ["", "Faults:", ""]
        lines += [f"- {key}: {row['fault']}; {row['what']}" for key, row in sorted(done.items()) if row["fault"]]
    RESULT.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return bool(faults)


if __name__ == "__main__":
    raise SystemExit(main())
