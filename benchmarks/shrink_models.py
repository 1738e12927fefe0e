"""What `tinynas shrink` takes out of published models, and whether they still compute the same.

    OMP_NUM_THREADS=1 python benchmarks/shrink_models.py --models ../shared/data/models --seconds 12 --long mlcommons-tiny__vww_96_int8:900

What it measures. Each .tflite of the folder is shrunk: bytes of the file, of the same network written anew without names and doubles
(what the form alone saves), and of the result; channels by the reason for which they went; multiply-accumulates; TFLM's arena on this
computer as estimated (tflite-micro's is compared: a difference is said); seconds. Both files run in tflite-micro on up to --inputs inputs
(extremes, then random ones of several kinds) for --seconds, or as long as --long says for a model: on how many all bytes of all outputs
were equal. Rows are kept in results/benchmarks/shrink.json as they are made, and made once: delete a row to make it again.

What it does not show. Other runtimes' kernels: channels are proven with TFLM's rounding, which CMSIS-NN shares; XNNPACK rounds otherwise.
Speed: fewer channels are fewer operations, but a count that is no multiple of four is slower by the operation in some kernels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tinynas import __version__
from tinynas.errors import TinynasError
from tinynas.export.shrunk import shrink
from tinynas.files import write_atomic

RESULTS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"


def row_of(path: Path, inputs: int, seconds: float) -> dict[str, Any]:
    """One model: the document of ``tinynas shrink --json`` without its lists."""
    try:
        document = shrink(path.read_bytes(), inputs=inputs, seconds=seconds).to_json()
    except TinynasError as error:
        return {"model": path.stem, "refused": error.message}
    counted = {"operators": len(document.pop("operators")), "layers": len(document.pop("layers"))}
    return {"model": path.stem, **document, **counted}


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Published models, shrunk",
        "",
        f"Made by `benchmarks/shrink_models.py` of tinynas {__version__}; what is measured and what is not is said there. `form`: bytes",
        "that remain when nothing but the form of the file changes (equal pieces once, no names of inner tensors, one zero point for",
        "all channels). Channels: constant / duplicate / unread. Arena: TFLM's on a 64-bit computer, head and tail.",
        "",
        "| model | bytes | form | shrunk | | channels | idle operators | MACs | | arena | | equal outputs | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['model']} | refused: {row['refused']} | | | | | | | | | | | |")
            continue
        (before, after), macs, arena = row["bytes"], row["macs"], row["arena_bytes"]
        channels, equal = row["channels"], row["equal"]
        pair = arena["measured"] or arena["estimated"]
        same = f"{equal['compared'] - equal['different']:,} of {equal['compared']:,}" if not equal["why_not"] else equal["why_not"]
        lines.append(
            f"| {row['model']} | {before:,} | {row['form_bytes']:,} | {after:,} | {after / before - 1:+.0%} "
            f"| {channels['constant']} / {channels['duplicate']} / {channels['unread']} | {row['operators']} "
            f"| {_number(macs[0])} -> {_number(macs[1])} | {_change(macs)} | {_number(pair[0])} -> {_number(pair[1])} | {_change(pair)} "
            f"| {same} | {row['seconds']} |"
        )
    done = [row for row in rows if "refused" not in row]
    wrong = [row["model"] for row in done if row["arena_bytes"]["measured"] not in (None, row["arena_bytes"]["estimated"])]
    total = [sum(row["bytes"][i] for row in done) for i in (0, 1)]
    lines += [
        "",
        f"All {len(done)} models together: {total[0]:,} -> {total[1]:,} B ({total[1] / total[0] - 1:+.0%}). "
        f"{sum(row['equal']['compared'] for row in done):,} inputs were compared, "
        f"{sum(row['equal']['different'] for row in done):,} gave another output. "
        + (f"The arena differs from the estimate in: {', '.join(wrong)}." if wrong else "Every arena is the one that was estimated."),
        "",
        f"Kernels: {', '.join(sorted({row['equal']['kernels'] for row in done if row['equal']['kernels']}))}.",
        "",
    ]
    return "\n".join(lines)


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _change(pair: list[int | None]) -> str:
    before, after = pair
    return "" if before is None or after is None or not before else f"{after / before - 1:+.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("../shared/data/models"))
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--long", action="append", default=[], metavar="MODEL:SECONDS")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    longer = {name: float(seconds) for name, _, seconds in (text.partition(":") for text in given.long)}
    kept = given.out / "shrink.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    for path in sorted(given.models.glob("*.tflite")):
        if any(row["model"] == path.stem for row in rows):
            continue
        rows.append(row_of(path, given.inputs, longer.get(path.stem, given.seconds)))
        rows.sort(key=lambda row: row["model"])
        write_atomic(kept, json.dumps(rows, indent=1) + "\n")
        print(path.stem, flush=True)
    write_atomic(given.out / "shrink.md", markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()
