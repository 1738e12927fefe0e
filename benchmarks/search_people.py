"""Networks made by people against what the search finds at exactly their cost, both trained in full by the same recipe.

    python benchmarks/search_people.py --images ../shared/data/images --data tin20
    python benchmarks/search_people.py --images ../shared/data/images --data gtsrb48 --only mcunet-tiny2 --seeds 4 --timeout 40m
    python benchmarks/search_people.py --data tin20 --table                          # the page alone

What it measures. For each of five published architectures (tinynas/zoo): a budget that allows exactly its MACs, its SRAM and its flash
(TFLM, the runtime's code and the file), no byte more; ``tinynas search --timeout 10m --workers 1 -o accuracy`` (or 40m) under that budget,
in the shipped space that it chooses itself, for the most accurate network alone (and in 0.11 without ``-o``: a front of accuracy and MACs,
whose most accurate counts); then the published network and that one are promoted alike, ``tinynas promote --epochs 40``, each seed.
Validation chooses the epoch; the test images are read once, for the int8 file. gtsrb48 is split by track, so no sign of the test was
seen. Rows go to results/benchmarks/search_people_<data>-full.jsonl; the script continues where it stopped. Pages without ``-full`` are of
0.3, whose rows this script wrote with other lengths of searches (90 s, 4 min) and trainings (8, 24 epochs), in float, on two cores.

What it does not show. The published weights and the published recipes: these are the architectures, trained on few images, at the
resolutions they were published for (mcunet-tiny2 and ColabNAS k8c5 48 and 50 px, vww0 64, the MobileNets 96). The search was free to choose
its own resolution. One search for each network; the seeds are of the training.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, variance
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tinynas import __version__
from tinynas.arch import load_arch
from tinynas.cost import estimate
from tinynas.data import DataOptions, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"
PEOPLE = ("mcunet-tiny2", "colabnas-k8c5", "mcunet-vww0", "mobilenetv1-0.25", "mobilenetv2-0.35")
#: Data set -> the options it is opened with.
DATA: dict[str, dict[str, Any]] = {"tin20": {}, "gtsrb48": {"groups": r"([^/]+/\d+)_"}}
RUNTIME = "tflm"
LIMITS = ("macs", "sram_bytes", "program_bytes")
#: Who made a network: people, or a search with these objectives, into this folder.
SEARCHES = {"tinynas": ("accuracy,macs", "run"), "alone": ("accuracy", "alone")}
#: And how the page says it.
MADE_BY = {"people": "people", "tinynas": "search for a front", "alone": "search for accuracy alone"}


def tinynas(*words: str) -> dict[str, Any]:
    """The document of a command."""
    done = subprocess.run([sys.executable, "-m", "tinynas", *words, "--json"], stdout=subprocess.PIPE, check=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def budget_of(name: str, costs: Mapping[str, float | None]) -> str:
    """A budget, as YAML, that allows what ``name`` costs and no byte more."""
    return f"name: as-{name}\nsram: {costs['sram_bytes']:.0f} B\nflash: {costs['program_bytes']:.0f} B\nmacs: {costs['macs']:.0f}\n"


def measured(row: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, Any]:
    """What a table keeps of a row of ``promote`` and of the network's costs."""
    training = row["training"]
    return {
        "epochs": training["epochs"],
        **{limit: int(costs[limit]) for limit in LIMITS},
        "flash": row["flash_bytes"],
        "arena": row["arena_bytes"],
        "val_accuracy": training["val_accuracy"],
        "float": row["accuracy"]["float"],
        "test_accuracy": row["accuracy"]["int8"],
        "test_images": training["test_images"],
        "seconds": training["seconds"],
    }


def work(name: str, options: argparse.Namespace, rows: Path) -> None:
    """The search against ``name``, and the trainings of both sides that are not done."""
    place = str(Path(options.images) / options.data)
    said = [word for key, value in DATA[options.data].items() for word in ("--set", f"data.{key}='{value}'")]
    folder = Path(options.work) / f"{options.data}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    arch = load_arch(name).with_classes(len(open_data(place, options=DataOptions(**DATA[options.data])).labels))
    costs = estimate(lower(arch), RUNTIME).values()
    budget, network = folder / "budget.yaml", folder / f"{name}.json"
    write_atomic(budget, budget_of(name, costs))
    write_atomic(network, arch.model_dump_json())
    for seed in range(options.seeds):
        for made_by in options.sides:
            # A search is of its version; a network that people made, and the recipe, are the same in all.
            of = "" if made_by == "people" else __version__
            search = "" if made_by == "people" else options.timeout
            keys = ("person", "made_by", "seed", "version", "search", "schedule")
            done = {tuple(row[key] for key in keys) for row in read_lines(rows)}
            if (name, made_by, seed, of, search, Recipe().schedule) in done:
                continue
            length = ("--epochs", str(options.epochs), "--seed", str(seed))
            objectives, where = SEARCHES.get(made_by, ("", f"people-{seed}"))
            run = folder / "-".join(filter(None, (where, of, search)))
            if made_by == "people":
                words = ("promote", str(network), "-d", place, *said, "-b", str(budget), *length, "--out", str(run))
                (row,) = tinynas(*words)["promoted"]
                costs_of = costs
            else:
                if not (run / "summary.json").exists():
                    words = ("search", "-b", str(budget), "-d", place, *said, "-t", options.timeout, "-w", "1", "-o", objectives)
                    tinynas(*words, "--out", str(run))
                (row,) = tinynas("promote", str(run), "best", *length)["promoted"]
                (costs_of,) = [one for one in json.loads((run / "front.json").read_text()) if one["id"] == row["id"]]
            record = {
                "person": name,
                "made_by": made_by,
                "version": of,
                "search": search,
                "id": row["id"],
                "seed": seed,
                "schedule": Recipe().schedule,
                "resolution": load_arch(str(run / "nets" / row["id"] / "arch.yaml")).height,
                "best_epoch": row["training"]["best_epoch"],
                **measured(row, costs_of),
            }
            append_line(rows, record)
            print(json.dumps(record), flush=True)


def of_seeds(rows: Sequence[dict[str, Any]]) -> float:
    """The variance of the mean over seeds; 0 where there is one, which says nothing of it."""
    return variance(row["test_accuracy"] for row in rows) / len(rows) if len(rows) > 1 else 0.0


def page(rows: Sequence[dict[str, Any]], data: str) -> str:
    """Margins in points, as Markdown."""
    lines = [
        f"# The search against networks made by people, trained in full, on {data}",
        "",
        f"`python benchmarks/search_people.py --data {data}`: a search on one core (its length is in the table) under exactly each "
        f"network's MACs, SRAM and flash; then both promoted alike ({rows[0]['epochs']} epochs; the rate ends at 0 after a cosine, the "
        "default until 0.15, or is constant, the default since), accuracy of the int8 file on "
        f"{rows[0]['test_images']:,} test images. Margin: ours less theirs, in points, with the standard error of a difference of two "
        "such accuracies: of the test images and, of a side with two seeds or more, of its seeds.",
        "",
        "| network | made by | px | MACs | SRAM, B | flash, B | promised = measured | rate | validation | test, each seed | margin |",
        "|---|---|--:|--:|--:|--:|---|---|--:|---|--:|",
    ]
    for person, schedule in itertools.product(PEOPLE, ("cosine", "constant")):
        by: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        these = [row for row in rows if (row["person"], row["schedule"]) == (person, schedule)]
        for row in sorted(these, key=lambda r: (list(MADE_BY).index(r["made_by"]), r["version"])):
            by.setdefault((row["made_by"], row["version"], row["search"]), []).append(row)
        means = {maker: mean(r["test_accuracy"] for r in found) for maker, found in by.items()}
        for maker, found in by.items():
            first = found[0]
            each = ", ".join(f"{r['test_accuracy']:.1%}" for r in sorted(found, key=lambda r: r["seed"]))
            margin = ""
            if maker != ("people", "", "") and ("people", "", "") in means:
                both = means[maker], means["people", "", ""]
                error = math.sqrt(sum(m * (1 - m) / first["test_images"] for m in both) + of_seeds(found) + of_seeds(by["people", "", ""]))
                margin = f"{100 * (both[0] - both[1]):+.1f} ± {100 * error:.1f}"
            equal = all(r[key]["estimated"] == r[key]["measured"] for r in found for key in ("flash", "arena"))
            called = person if maker == ("people", "", "") else f"found at its cost ({first['id']})"
            lines.append(
                f"| {called} | {', '.join(filter(None, (MADE_BY[maker[0]], *maker[1:])))} | {first['resolution']} "
                f"| {first['macs'] / 1e6:.2f} M | {first['sram_bytes']:,} | {first['program_bytes']:,} | {'yes' if equal else 'no'} "
                f"| {schedule} | {mean(r['val_accuracy'] for r in found):.1%} | {each} | {margin} |"
            )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="../shared/data/images")
    parser.add_argument("--data", required=True, choices=DATA)
    parser.add_argument("--work", default="results/search-people", help="folder of the runs")
    parser.add_argument("--timeout", default="10m")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(PEOPLE), choices=PEOPLE)
    parser.add_argument("--sides", nargs="*", default=["people", "alone"], choices=MADE_BY)
    parser.add_argument("--table", action="store_true", help="write the page and end")
    options = parser.parse_args()
    rows = RESULTS / f"search_people_{options.data}-full.jsonl"
    for name in () if options.table else options.only:
        work(name, options, rows)
    text = page(list(read_lines(rows)), options.data)
    print(text)
    write_atomic(RESULTS / f"search_people_{options.data}-full.md", text)


if __name__ == "__main__":
    main()
