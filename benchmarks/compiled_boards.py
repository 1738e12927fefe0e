"""What compiled code buys on small boards: the same board, time and training; networks that run in TFLM against compiled ones.

    python benchmarks/compiled_boards.py --data tin20=../shared/data/images/tin20 person64=../shared/data/images/person64

What it measures. For each board, data set and seed, two lines: ``tinynas init --board`` writes the budget, its ``runtime``
is set to ``tflm-cmsis-nn`` or to ``compiled`` (the frame is in the work area, as TFLM's input is in its arena), ``tinynas
search --trials`` trains as many networks for both in the shipped space that it chooses, ``tinynas promote`` trains the
network that the search expects most of for ``--epochs`` epochs and exports it. Rows hold the accuracy of the int8 file on
the test images, which nothing else reads, what the network takes of the board, and how much the search trained (images times MACs).
Both lines have the same limit of MACs, so that neither is ahead by a longer inference. ``--rows`` adds ``compiled-rows``
(the camera's rows are streamed in). Rows go to results/benchmarks/compiled_boards.jsonl; the script continues where it
stopped. The number of networks limits the search, not the clock, so that other load on the computer changes nothing. The committed rows
were trained on one H100 (sixteen searches side by side, CUDA graphs) and exported on a CPU; a pair trained on two CPU cores before
that, nucleo-l412kb, tin20, seed 0, gave 51.5 against 46.9 %.

What it does not show. Reserves are those that ``init`` writes, for both alike, though compiled code has no static memory of
a runtime. Larger networks take longer to train: at equal seconds the compiled line would train fewer of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import log10
from pathlib import Path
from statistics import mean
from typing import Any

from cosine import COSINE_WORDS

from tinynas.files import append_line, read_lines, write_atomic

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = ROOT / "results" / "benchmarks"
ROWS = RESULTS / "compiled_boards.jsonl"
#: Board -> the most MACs of an inference; half a second of an M4 at 80 MHz, twice that of an M0+ at 32 MHz.
BOARDS = {"nucleo-l412kb": 5_000_000, "nucleo-l010rb": 2_500_000, "nucleo-f401re": 6_000_000}
SIDES = ("tflm-cmsis-nn", "compiled")


def line(board: str, runtime: str, data: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Search and promote for one board and runtime; the row of what came out."""
    name, path = data.split("=", 1)
    out = ROOT / "results" / f"boards-{board}-{runtime}-{name}-{seed}"
    tinynas = [sys.executable, "-m", "tinynas"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def call(*arguments: str) -> Any:
        answer = subprocess.run([*tinynas, *arguments, "--json"], stdout=subprocess.PIPE, env=environment, check=True)
        return json.loads(answer.stdout)

    if not (out / "summary.json").exists():
        folder = ROOT / "results" / f"boards-{board}-{runtime}"
        call("init", str(folder), "--board", board, "--force")
        budget = folder / "budget.yaml"
        text = budget.read_text(encoding="utf-8")
        lines = [f"runtime: {runtime}" if row.startswith("runtime:") else row for row in text.splitlines()]
        write_atomic(budget, "\n".join([*lines, f"macs: {BOARDS[board]}", ""]))
        search = ["search", "--budget", str(budget), "--data", path, "--workers", "1"]
        call(*search, "--trials", str(options.trials), "--seed", str(seed), "--out", str(out))
    # The images are named again: a run that was trained elsewhere (on a GPU) is exported and checked here.
    promote = [
        "promote",
        str(out),
        "--data",
        path,
        "--epochs",
        str(options.epochs),
        "--seed",
        str(seed),
        "--format",
        "tflite",
        *COSINE_WORDS,
    ]
    promoted = call(*promote)["promoted"][0]
    costs = call("estimate", str(out / "nets" / promoted["id"] / "arch.yaml"), "--budget", str(out / "budget.yaml"))
    # A network that was trained further has a line for each time: the last counts.
    trained = [row for row in {row["number"]: row for row in read_lines(out / "trials.jsonl")}.values() if row["state"] == "trained"]
    return {
        "board": board,
        "runtime": runtime,
        "data": name,
        "seed": seed,
        "trials": options.trials,
        "epochs": options.epochs,
        "id": promoted["id"],
        "float": round(promoted["accuracy"]["float"], 5),
        "int8": round(promoted["accuracy"]["int8"], 5),
        "validation": round(promoted["training"]["val_accuracy"], 5),
        "test_images": promoted["training"]["test_images"],
        "searched": len(trained),
        "searched_macs": sum(row["images"] * row["costs"]["macs"] for row in trained),
        "front": [
            [row["macs"], round(row["expected_accuracy"], 4), row["program_bytes"], row["sram_bytes"]]
            for row in json.loads((out / "front.json").read_text(encoding="utf-8"))
        ],
        "estimate": {
            key: costs[key] for key in ("macs", "params", "flash_bytes", "program_bytes", "sram_bytes", "stack_bytes", "evidence")
        },
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The page."""
    by = {(row["board"], row["data"], row["seed"], row["runtime"]): row for row in rows}
    lines = [
        "# What compiled code buys on small boards",
        "",
        "Made by `python benchmarks/compiled_boards.py`, which says what is not measured. Accuracy of the int8 file on the test images;",
        f"{rows[0]['trials']} networks trained in each search, {rows[0]['epochs']} epochs of full training.",
        "",
        "| board | data | seed | runtime | test, int8 | against TFLM, points | MACs | SRAM, B | program flash, B | MACs of training |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    gains: list[float] = []
    for (board, data, seed, runtime), row in sorted(
        by.items(), key=lambda item: (list(BOARDS).index(item[0][0]), *item[0][1:3], item[0][3] != SIDES[0])
    ):
        other = by.get((board, data, seed, SIDES[0]))
        gain = ""
        if runtime != SIDES[0] and other is not None:
            points = 100 * (row["int8"] - other["int8"])
            gain = f"{points:+.1f}"
            gains += [points] if runtime == SIDES[1] else []
        cost = row["estimate"]
        lines.append(
            f"| {board} | {data} | {seed} | `{runtime}` | {100 * row['int8']:.1f}% | {gain} | {cost['macs']:,} | {cost['sram_bytes']:,} "
            f"| {cost['program_bytes']:,} | {row['searched_macs'] / 1e12:.2f} T |"
        )
    lines += [
        "",
        f"`compiled` against `tflm-cmsis-nn`: {mean(gains):+.1f} points on average of {len(gains)} pairs "
        f"({min(gains):+.1f} to {max(gains):+.1f}).",
    ]
    errors = sorted({round(100 * (0.25 / row["test_images"]) ** 0.5, 1) for row in rows})
    words = " to ".join(f"{error:.1f}" for error in dict.fromkeys((errors[0], errors[-1])))
    lines += [
        f"The standard error of one accuracy is at most {words} points. Both lines of a pair have the same limits, seed and recipe.",
        "",
    ]
    lines += equal_accuracy(by)
    lines += ["![Fronts of the searches](compiled_boards.svg)", ""]
    return "\n".join(lines)


def equal_accuracy(by: dict[tuple[str, str, int, str], dict[str, Any]]) -> list[str]:
    """What a compiled network that the search expects as much of as TFLM's best takes of the board."""
    lines = [
        "At equal accuracy (what the searches expect; networks of the fronts, not fully trained): the best network of TFLM's front beside",
        "the compiled network of least flash that is expected to be as good.",
        "",
        "| board | data | seed | expected, TFLM | program flash, B | SRAM, B | expected, compiled | program flash, B | SRAM, B |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for (board, data, seed, runtime), row in sorted(by.items(), key=lambda item: (list(BOARDS).index(item[0][0]), *item[0][1:])):
        if runtime != SIDES[0] or (board, data, seed, SIDES[1]) not in by:
            continue
        best = max(row["front"], key=lambda point: point[1])
        good = [point for point in by[board, data, seed, SIDES[1]]["front"] if point[1] >= best[1]]
        least = min(good, key=lambda point: point[2]) if good else None
        found = "none | | |" if least is None else f"{100 * least[1]:.1f}% | {least[2]:,} | {least[3]:,} |"
        lines.append(f"| {board} | {data} | {seed} | {100 * best[1]:.1f}% | {best[2]:,} | {best[3]:,} | {found}")
    return [*lines, ""]


def picture(rows: list[dict[str, Any]]) -> str:
    """Fronts of the searches as SVG: the accuracy expected over MACs; a panel for each board and data set, the first seed."""
    panels = sorted({(list(BOARDS).index(row["board"]), row["board"], row["data"]) for row in rows})
    seed = min(row["seed"] for row in rows)
    colors = {"tflm-cmsis-nn": "#8a5a00", "compiled": "#0b6e4f", "compiled-rows": "#1f4e9c"}
    wide, high, gap = 300, 200, 60
    across = len(panels) * (wide + gap) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {high + 100}" font-family="sans-serif" font-size="12">',
        f'<rect width="{across}" height="{high + 100}" fill="white"/>',
    ]
    for number, (_, board, data) in enumerate(panels):
        left = gap + number * (wide + gap)
        shown = [row for row in rows if (row["board"], row["data"], row["seed"]) == (board, data, seed)]
        points = [point for row in shown for point in row["front"]]
        if not points:
            continue
        low, most = log10(min(p[0] for p in points)) - 0.05, log10(max(p[0] for p in points)) + 0.05
        least, best = min(p[1] for p in points) - 0.02, max(p[1] for p in points) + 0.02
        parts += [
            f'<text x="{left}" y="20" font-weight="bold">{board}, {data}</text>',
            f'<rect x="{left}" y="30" width="{wide}" height="{high}" fill="none" stroke="#999"/>',
            f'<text x="{left}" y="{high + 46}">{10**low / 1e6:.2g} M</text>',
            f'<text x="{left + wide}" y="{high + 46}" text-anchor="end">{10**most / 1e6:.2g} M MACs</text>',
            f'<text x="{left - 4}" y="{high + 30}" text-anchor="end">{100 * least:.0f} %</text>',
            f'<text x="{left - 4}" y="40" text-anchor="end">{100 * best:.0f} %</text>',
        ]
        for place, row in enumerate(shown):
            xy = [
                (left + wide * (log10(macs) - low) / (most - low), 30 + high * (1 - (found - least) / (best - least)))
                for macs, found, *_ in sorted(row["front"])
            ]
            color = colors[row["runtime"]]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in xy)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in xy]
            parts.append(f'<text x="{left}" y="{high + 64 + 16 * place}" fill="{color}">{row["runtime"]}</text>')
    return "\n".join([*parts, "</svg>", ""])


def report() -> None:
    """Write the page and the picture from the rows."""
    rows = list(read_lines(ROWS))
    write_atomic(RESULTS / "compiled_boards.md", table(rows))
    write_atomic(RESULTS / "compiled_boards.svg", picture(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=PATH", help="none: the page from the rows alone")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--boards", nargs="*", default=list(BOARDS), choices=list(BOARDS))
    parser.add_argument("--rows", action="store_true", help="compiled-rows instead of the pair")
    options = parser.parse_args()
    sides = ("compiled-rows",) if options.rows else SIDES
    for seed in options.seeds:
        for board in options.boards:
            for data in options.data:
                done = {(row["board"], row["runtime"], row["data"], row["seed"]) for row in read_lines(ROWS)}
                wanted = [side for side in sides if (board, side, data.split("=", 1)[0], seed) not in done]
                with ThreadPoolExecutor(2) as pool:
                    rows = pool.map(lambda side: line(board, side, data, seed, options), wanted)  # noqa: B023
                    for row in rows:
                        append_line(ROWS, row)
                        print(json.dumps({key: value for key, value in row.items() if key != "estimate"}), flush=True)
    report()


if __name__ == "__main__":
    main()
