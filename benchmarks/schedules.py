"""How the learning rate should end where images are few: a half cosine down to 0, or the peak throughout and an average of the weights.

    python benchmarks/schedules.py --images ../shared/data/images --data tin20 --network mcunet-tiny2 --seeds 2
    python benchmarks/schedules.py --images ../shared/data/images --data tin20 --network results/benchmarks/schedules_found_tin20.yaml
    python benchmarks/schedules.py --table                          # the page alone

What it measures. ``tinynas promote`` of one network for 40 epochs with what is shipped (cosine, an average over 2 epochs), and with
``--set schedule=constant --set ema=3``; validation chooses the epoch of both; accuracy of the int8 file on the test images, read once.
The networks are mcunet-tiny2 and what forty minutes of search found at its costs on these images (search_people.py, whose rows these
are for the cosine). It came up there: in forty minutes the search itself, whose trainings have a constant rate, ended above what it
handed over was promoted to.

What it does not show. Other lengths and sizes of data, labels that are wrong, other averages and rates in between, optimizers. Validation
images are also what the found networks were chosen by.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from search_people import DATA, tinynas

from tinynas.files import append_line, read_lines, write_atomic

RESULTS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"
ROWS = RESULTS / "schedules.jsonl"
#: What is set, by the schedule.
SCHEDULES: dict[str, tuple[str, ...]] = {"cosine": (), "constant": ("--set", "schedule=constant", "--set", "ema=3")}
EPOCHS = 40


def train(data: str, network: str, schedule: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One training, as a row."""
    out = Path(options.work) / f"{data}-{Path(network).stem}-{schedule}-{seed}"
    said = [word for key, value in DATA[data].items() for word in ("--set", f"data.{key}='{value}'")]
    place, length = str(Path(options.images) / data), ("--epochs", str(EPOCHS), "--seed", str(seed))
    words = ("promote", network, "-b", "stm32f746", "-d", place, *said, *length)
    (row,) = tinynas(*words, *SCHEDULES[schedule], "--out", str(out))["promoted"]
    return {
        "data": data,
        "network": Path(network).stem,
        "schedule": schedule,
        "seed": seed,
        "epochs": row["training"]["epochs"],
        "best_epoch": row["training"]["best_epoch"],
        "val_accuracy": row["training"]["val_accuracy"],
        "test_accuracy": row["accuracy"]["int8"],
    }


def page(rows: list[dict[str, Any]]) -> str:
    """The table, as Markdown."""
    lines = [
        "# Cosine or constant, where images are few",
        "",
        f"`python benchmarks/schedules.py`, which says what is not shown: {EPOCHS} epochs of `tinynas promote`; as shipped, and with "
        "`--set schedule=constant --set ema=3`.",
        "",
        "| data | network | schedule | best epochs | validation | test (int8), each seed | mean | constant less cosine, points |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for data, network in dict.fromkeys((row["data"], row["network"]) for row in rows):
        means: dict[str, float] = {}
        for schedule in SCHEDULES:
            of = [row for row in rows if (row["data"], row["network"], row["schedule"]) == (data, network, schedule)]
            of.sort(key=lambda row: row["seed"])
            if not of:
                continue
            tests = [100 * row["test_accuracy"] for row in of]
            means[schedule] = mean(tests)
            by = ""
            if schedule == "constant" and "cosine" in means:
                by = f"{means['constant'] - means['cosine']:+.1f}"
            epochs, each = ", ".join(str(row["best_epoch"]) for row in of), ", ".join(f"{test:.1f}" for test in tests)
            seen = mean(row["val_accuracy"] for row in of)
            lines.append(f"| {data} | {network} | {schedule} | {epochs} | {seen:.1%} | {each} | {mean(tests):.1f} | {by} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="../shared/data/images")
    parser.add_argument("--data", choices=DATA)
    parser.add_argument("--network", default="mcunet-tiny2", help="a zoo name, or the YAML of a network")
    parser.add_argument("--work", default="results/schedules", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="write the page and end")
    options = parser.parse_args()
    if not options.table and options.data is None:
        parser.error("--data: say which, or --table")
    known = {(r["data"], r["network"], r["schedule"], r["seed"]) for r in (read_lines(ROWS) if ROWS.exists() else ())}
    for seed in () if options.table else range(options.seeds):
        for schedule in SCHEDULES:
            if (options.data, Path(options.network).stem, schedule, seed) not in known:
                append_line(ROWS, train(options.data, options.network, schedule, seed, options))
    text = page(list(read_lines(ROWS)))
    print(text)
    write_atomic(RESULTS / "schedules.md", text)


if __name__ == "__main__":
    main()
