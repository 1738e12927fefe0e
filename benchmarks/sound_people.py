"""Sounds: what ten minutes of search find at the cost of a network made by people, beside that network trained alike.

    python benchmarks/sound_people.py --audio ../shared/data/audio                  # all of it, one process; continues where it stopped
    python benchmarks/sound_people.py --audio ../shared/data/audio --only fsdd:ds-cnn-kws
    python benchmarks/sound_people.py --table                                       # the page

What it measures. Three data sets: spoken digits (fsdd: one speaker for validation, another for the test, neither in training), ESC-10 in
pieces of a second (folds 1 to 3 for training and validation, by recording; fold 4 is the test), and MLPerf Tiny's keyword features
(kws01: 500 clips in all, half of them the test). Two networks made by people: MLPerf's DS-CNN, whose costs are the limits of a search
for the NUCLEO-L4R5ZI's Cortex-M4, and the shape of SparkNet with 16 channels, for the RP2040's Cortex-M0+: no more MACs, SRAM and flash
(model, runtime and code, front end included) than it takes, no byte more. ``tinynas search --timeout 10m --workers 1`` in the space that
it chooses itself; then the published network and the search's best are promoted alike, two seeds. Validation chooses the epoch; the test
is read once, of the int8 file.

The rows of the published networks are of 0.8: all rows are of the recipe of then, a cosine.

What it does not show. The published weights and recipes (Speech Commands was not at hand); other speakers than these six, of whom one is
the test: their figure is the speaker's as much as the network's; more than one search for each pair. Most of the searches had 60 to 90 %
of a core.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from cosine import COSINE_WORDS
from search_people import tinynas

from tinynas.api import load_space
from tinynas.arch import Arch, load_arch
from tinynas.cost import estimate
from tinynas.data import DataOptions, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"
ROWS = RESULTS / "sound_people.jsonl"
#: Data set -> its folder, and what is to be said about it.
DATA: dict[str, tuple[str, dict[str, Any]]] = {
    "fsdd": ("fsdd_train", {"label_pattern": r"(\d)_[a-z]+_\d+", "groups": r"\d_([a-z]+)_"}),
    "esc10": ("esc10", {"folds": {"test": ["4"]}}),
    "kws01": ("kws01_bin", {"features": "49x10", "test_share": 0.5, "val_share": 0.1}),
}
#: Network -> (core, clock in MHz, board) that it is searched against on.
PEOPLE = {"ds-cnn-kws": ("cortex-m4", 120, "stm32l4r5"), "sparknet-c16": ("cortex-m0plus", 133, "rp2040")}
RUNTIME = "tflm-cmsis-nn"
LIMITS = ("macs", "sram_bytes", "program_bytes")


def of_people(name: str, data: str, classes: int) -> Arch:
    """``name`` for ``data``; given features have no front end."""
    arch = load_arch(name).with_classes(classes)
    if data != "kws01":
        return arch
    sized = {} if name == "ds-cnn-kws" else {"height": 49, "width": 1, "channels": 10}
    return arch.model_copy(update={"front_end": None, **sized})


def said(data: str) -> list[str]:
    """The options of ``data`` for a command line."""
    return [word for key, value in DATA[data][1].items() for word in ("--set", f"data.{key}={_yaml(value)}")]


def _yaml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def work(data: str, name: str, options: argparse.Namespace) -> None:
    """The search against ``name`` on ``data``, and the promotions of both sides that are not done."""
    place = str(Path(options.audio) / DATA[data][0])
    core, clock, _ = PEOPLE[name]
    folder = Path(options.work) / f"{data}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    classes = len(open_data(place, options=DataOptions(**DATA[data][1])).labels)
    arch = of_people(name, data, classes)
    costs = estimate(lower(arch), RUNTIME, core=core).values()
    budget, network = folder / "budget.yaml", folder / f"{name}.json"
    run = folder / ("run" if options.space is None else f"run-{options.space}")
    limits = f"sram: {costs['sram_bytes']:.0f} B\nflash: {costs['program_bytes']:.0f} B\nmacs: {costs['macs']:.0f}\n"
    write_atomic(budget, f"name: as-{name}\ncore: {core}\nclock_mhz: {clock}\nruntime: {RUNTIME}\n{limits}")
    write_atomic(network, arch.model_dump_json())
    if not (run / "summary.json").exists():
        space = [] if options.space is None else ["-s", options.space]
        tinynas("search", "-b", str(budget), "-d", place, *said(data), *space, "-t", options.timeout, "-w", "1", "--out", str(run))
    space_name = load_space(str(run / "space.yaml")).name
    trained = json.loads((run / "summary.json").read_text())["trials"]["trained"]
    done = {(row["data"], row["person"], row["made_by"], row["space"], row["seed"]) for row in read_lines(ROWS)}
    for seed in range(options.seeds):
        for made_by in ("people", "tinynas"):
            space_of = space_name if made_by == "tinynas" else None
            if (data, name, made_by, space_of, seed) in done:
                continue
            verify = ["--verify", core] if options.verify and seed == 0 and made_by == "tinynas" else []
            if made_by == "tinynas":
                (row,) = tinynas("promote", str(run), "best", "--seed", str(seed), *COSINE_WORDS, *verify)["promoted"]
            else:
                out = ["--out", str(folder / f"people-{seed}")]
                words = ("promote", str(network), "-d", place, *said(data), "-b", str(budget), "--seed", str(seed), *COSINE_WORDS, *out)
                (row,) = tinynas(*words)["promoted"]
            record = {
                "data": data,
                "person": name,
                "made_by": made_by,
                "space": space_of,
                "seed": seed,
                "id": row["id"],
                "searched": trained if made_by == "tinynas" else None,
                **{key: int(costs[key]) for key in LIMITS if made_by == "people"},
                "flash": row["flash_bytes"],
                "arena": row["arena_bytes"],
                "val_accuracy": row["training"]["val_accuracy"],
                "float": row["accuracy"]["float"],
                "int8": row["accuracy"]["int8"],
                "test_sounds": row["training"]["test_images"],
                "epochs": row["training"]["epochs"],
                "seconds": row["training"]["seconds"],
                "verified": row["verified"],
            }
            if made_by == "tinynas":
                (best,) = [one for one in json.loads((run / "front.json").read_text()) if one["id"] == row["id"]]
                record |= {key: int(best[key]) for key in LIMITS}
            append_line(ROWS, record)
            print(json.dumps(record), flush=True)


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "# Sounds: networks made by people, and what is found at their cost",
        "",
        "Made by `python benchmarks/sound_people.py`, which says what is not measured. Test accuracy of the int8 file, means of the seeds "
        "± half their difference.",
        "",
        "| data | network | accuracy | MACs | SRAM, B | flash, B | promised = measured | by seed |",
        "|---|---|--:|--:|--:|--:|---|---|",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    data_order, people = list(DATA), list(PEOPLE)
    for row in sorted(rows, key=lambda r: (data_order.index(r["data"]), people.index(r["person"]), r["made_by"] == "tinynas")):
        groups.setdefault((row["data"], row["person"], row["made_by"], row["space"]), []).append(row)
    for (data, person, made_by, space), members in groups.items():
        values = [100 * row["int8"] for row in members]
        spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
        first = members[0]
        called = person if made_by == "people" else f"within it of {space}, {first['searched']} trained"
        equal = all(
            row["flash"]["estimated"] == row["flash"]["measured"] and row["arena"]["estimated"] == row["arena"]["measured"]
            for row in members
        )
        by_seed = ", ".join(f"{value:.1f}" for value in values)
        costs = " | ".join(f"{first[key]:,}" for key in LIMITS)
        lines.append(f"| {data} | {called} | {mean(values):.1f} %{spread} | {costs} | {'yes' if equal else 'no'} | {by_seed} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", default="../shared/data/audio")
    parser.add_argument("--work", default="results/sound-people", help="folder of the runs")
    parser.add_argument("--timeout", default="10m")
    parser.add_argument("--space", help="search this one in place of the one that the search chooses")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--verify", action="store_true", help="run the first file found on an emulated core")
    parser.add_argument("--only", nargs="*", default=[f"{data}:{name}" for name in PEOPLE for data in DATA], metavar="DATA:NETWORK")
    parser.add_argument("--table", action="store_true", help="write the page and end")
    options = parser.parse_args()
    for pair in () if options.table else options.only:
        data, name = pair.split(":")
        work(data, name, options)
    write_atomic(RESULTS / "sound_people.md", page(list(read_lines(ROWS))))


if __name__ == "__main__":
    main()
