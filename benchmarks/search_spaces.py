"""Which space a search should look in where MACs are limited: mcunet-tiny2's costs, and the same search in several spaces.

    python benchmarks/search_spaces.py --images ../shared/data/images --data tin20 --spaces tiny micro strided --seeds 2
    python benchmarks/search_spaces.py --images ../shared/data/images --data person64 --only-search
    python benchmarks/search_spaces.py --table                          # the page alone

What it measures. A budget that allows exactly what a published network (``--network``) costs, in MACs, SRAM and flash (TFLM); under it
``tinynas search --timeout 10m --workers 1 -o accuracy`` in each space that is named (``SPACES``), and in the one that the search chooses
itself; then the network found is promoted, 40 epochs, each seed, and so is the published one. Validation chooses the epoch; the test
images are read once, for the int8 file. tin20 and gtsrb48 at mcunet-tiny2's costs
suggested the rule (of spaces that are level, the one of the fewest parameters); person64, meter, and mcunet-vww0's costs, judge it.
Published networks at two costs are the ladder that a margin is to be read by: what three and a half times the MACs bring.

What it does not show. More than one search of a space and data set, unless the table says so; other lengths of searches; large data sets.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from schedules import DATA
from search_people import RUNTIME, budget_of, measured, of_seeds, tinynas

from tinynas import __version__
from tinynas.arch import load_arch
from tinynas.config import load
from tinynas.cost import estimate
from tinynas.data import DataOptions, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.space import Space

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "results" / "benchmarks" / "search_spaces.jsonl"
PAGE = ROWS.with_suffix(".md")
PEOPLE = "people"
#: Stages of `tiny` whose first block may keep the resolution here, in `strided`.
STRIDED = (2, 3)


def strided() -> Space:
    """`tiny` of 0.16, with a choice of strides in two stages more."""
    said = load(ROOT / "search_spaces" / "tiny.yaml", Space).model_dump(mode="json")
    for stage in STRIDED:
        said["stages"][stage]["stride"] = [1, 2]
    return Space.model_validate({**said, "name": "strided"})


def gated() -> Space:
    """`micro` of 0.17, with squeeze-and-excite and h-swish as choices of each stage."""
    said = load(ROOT / "search_spaces" / "micro.yaml", Space).model_dump(mode="json")
    for stage in said["stages"]:
        stage |= {"attention": ["none", "se"], "act": ["relu6", "h_swish"]}
    return Space.model_validate({**said, "name": "gated"})


#: Spaces that are made here.
MADE = {"strided": strided, "gated": gated}


def work(options: argparse.Namespace, data: str) -> None:
    """The searches and trainings of one data set that are not done."""
    folder, opened = DATA[data]
    place = str(Path(options.images).parent / folder)
    said = [word for key, value in opened.items() for word in ("--set", f"data.{key}={json.dumps(value)}")]
    home = Path(options.work) / f"{data}-{options.network}"
    home.mkdir(parents=True, exist_ok=True)
    arch = load_arch(options.network).with_classes(len(open_data(place, options=DataOptions(**opened)).labels))
    costs = estimate(lower(arch), RUNTIME).values()
    budget, network = home / "budget.yaml", home / f"{options.network}.json"
    write_atomic(budget, budget_of(options.network, costs))
    write_atomic(network, arch.model_dump_json())
    for name in options.spaces:
        run = home / "-".join((name, __version__, options.timeout, str(options.search_seed)))
        space = str(home / f"{name}.json") if name in MADE else name
        if name in MADE:
            write_atomic(Path(space), MADE[name]().model_dump_json())
        if name != PEOPLE and not (run / "summary.json").exists():
            words = ("search", "-b", str(budget), "-d", place, *said, "-t", options.timeout, "-w", "1", "-o", "accuracy")
            tinynas(*words, "--space", space, "--seed", str(options.search_seed), "--out", str(run))
        for seed in () if options.only_search else range(options.seeds):
            keys = ("data", "network", "space", "version", "search", "search_seed", "seed")
            key = (
                data,
                options.network,
                name,
                *(("", "", 0) if name == PEOPLE else (__version__, options.timeout, options.search_seed)),
                seed,
            )
            if key in {tuple(row[k] for k in keys) for row in read_lines(ROWS)}:
                continue
            length = ("--epochs", str(options.epochs), "--seed", str(seed))
            if name == PEOPLE:
                words = ("promote", str(network), "-d", place, *said, "-b", str(budget), *length, "--out", str(home / f"{PEOPLE}-{seed}"))
                (row,) = tinynas(*words)["promoted"]
                costs_of, networks = costs, 0
            else:
                (row,) = tinynas("promote", str(run), "best", *length)["promoted"]
                (costs_of,) = [one for one in json.loads((run / "front.json").read_text()) if one["id"] == row["id"]]
                networks = json.loads((run / "summary.json").read_text())["trials"]["trained"]
            record = {**dict(zip(keys, key, strict=True)), "id": row["id"], "networks": networks, **measured(row, costs_of)}
            append_line(ROWS, record)
            print(json.dumps(record), flush=True)


def page(rows: list[dict[str, Any]]) -> str:
    """Accuracy by space, and points over the published network, as Markdown."""
    lines = [
        "# Which space to search where MACs are limited",
        "",
        "`python benchmarks/search_spaces.py`: one search on one core for accuracy alone under exactly the published network's MACs, SRAM "
        f"and flash, in each space; then promoted alike ({rows[0]['epochs']} epochs), accuracy of the int8 file on the test images, each "
        "seed of the training. `strided` is `tiny` with a choice of strides (1 or 2) in its third and fourth stage too, `gated` is `micro` "
        "with squeeze-and-excite and h-swish as choices of each stage, which are hardly any MACs, but time. Margin: less the published "
        "network's mean, in points, with the standard error of the test images and of the seeds where a side has several. "
        "Rows of 0.15.0 and 0.16.0, and the published networks on tin20 and gtsrb48, are those of benchmarks/search_people.py (`micro` by "
        "the same commands by hand): the trainings are the same.",
        "",
        "| data | network | space | version, search | seed | trained | MACs | SRAM, B | flash, B | validation | test, each seed | margin |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    by: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    order = lambda r: (list(DATA).index(r["data"]), r["network"], r["space"] != PEOPLE, r["space"], r["version"], r["seed"])  # noqa: E731
    for row in sorted(rows, key=order):
        by.setdefault(tuple(row[key] for key in ("data", "network", "space", "version", "search", "search_seed")), []).append(row)
    for (data, network, space, version, search, seed), found in by.items():
        first, theirs = found[0], by.get((data, network, PEOPLE, "", "", 0), [])
        ours, each = mean(row["test_accuracy"] for row in found), ", ".join(f"{row['test_accuracy']:.1%}" for row in found)
        margin = ""
        if space != PEOPLE and theirs:
            other = mean(row["test_accuracy"] for row in theirs)
            images = sum(m * (1 - m) / first["test_images"] for m in (ours, other))
            margin = f"{100 * (ours - other):+.1f} ± {100 * math.sqrt(images + of_seeds(found) + of_seeds(theirs)):.1f}"
        lines.append(
            f"| {data} | {network} | {'(as published)' if space == PEOPLE else f'`{space}`'} "
            f"| {', '.join(filter(None, (version, search)))} | {seed if search else ''} | {first['networks'] or ''} "
            f"| {first['macs'] / 1e6:.2f} M | {first['sram_bytes']:,} | {first['program_bytes']:,} "
            f"| {mean(row['val_accuracy'] for row in found):.1%} | {each} | {margin} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="../shared/data/images")
    parser.add_argument("--data", nargs="+", default=["tin20", "gtsrb48", "person64", "meter"], choices=DATA)
    parser.add_argument("--network", default="mcunet-tiny2", help="whose costs are the budget")
    parser.add_argument("--spaces", nargs="+", default=[PEOPLE, "tiny", "micro", "strided"])
    parser.add_argument("--work", default="results/search-spaces", help="folder of the runs")
    parser.add_argument("--timeout", default="10m")
    parser.add_argument("--search-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1, help="of the trainings")
    parser.add_argument("--only-search", action="store_true", help="the trainings come later, where timings do not matter")
    parser.add_argument("--table", action="store_true", help="write the page and end")
    options = parser.parse_args()
    for data in () if options.table else options.data:
        work(options, data)
    if ROWS.exists():
        text = page(list(read_lines(ROWS)))
        print(text)
        write_atomic(PAGE, text)


if __name__ == "__main__":
    main()
