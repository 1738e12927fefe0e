"""Learning on the board: which scheme learns most for its memory, and what becomes of the old classes.

    python benchmarks/adapt_schemes.py --data tin20=../shared/data/images/tin20 gtsrb48=../shared/data/images/gtsrb48 --list
    python benchmarks/adapt_schemes.py --data ... --bases bases/ --job 7 --rows rows/7.jsonl      # one learning (and its base, once)
    python benchmarks/adapt_schemes.py --rows rows/*.jsonl                                        # the page

What it measures. A base is the network ``--net`` trained on the old classes of a data set: 16 of tin20's 20, or 40 of gtsrb48's 43
(by name, the last ones are the new ones: 4 and 3, the latter with 20 images each). A job is a data set, a seed, a limit of memory beside
inference (16, 64 or 256 KiB), a scheme (``full`` has no limit), and whether a few old images of each class are learned again. It learns the
new classes in float32 with batch 1 and SGD, and names the test images of new and old classes once, at the end. Bases and rows that are
there are not made again.

What it does not show. Time and energy on a board; learning in int8 (``--set learning.mode=int8`` does it); other networks.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from tinynas.files import append_line, read_lines, write_atomic

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"
EXTRA_KIB = (16, 64, 256)
#: Data set -> (new classes, new images of each class that are learned from; 0: all).
NEW = {"tin20": (4, 0), "gtsrb48": (3, 20)}
REPLAY = (0, 2)
SCHEMES = ("classifier", "last", "bias", "sparse", "random", "velocity", "su", "tinytrain")
UNLIMITED_KIB = 1 << 20


@dataclass(frozen=True)
class Job:
    """One learning."""

    data: str
    place: str
    seed: int
    extra_kib: int
    scheme: str
    replay: int


def jobs(data: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """All jobs, those of one comparison side by side."""
    found = []
    for seed in seeds:
        for name, place in (text.split("=", 1) for text in data):
            for replay in REPLAY:
                found.append(Job(name, place, seed, UNLIMITED_KIB, "full", replay))
                found += [Job(name, place, seed, extra, scheme, replay) for extra in EXTRA_KIB for scheme in SCHEMES]
    return found


def split_classes(name: str, place: str) -> tuple[list[str], list[str]]:
    """(old, new) classes of the data set ``name``."""
    from tinynas.data import open_data

    labels = sorted(open_data(place).labels)
    count = NEW[name][0]
    return labels[:-count], labels[-count:]


def base_of(job: Job, options: argparse.Namespace) -> Path:
    """The weights of the network that knows the old classes: trained once for each data set."""
    import json

    from tinynas.api import load_net
    from tinynas.data import DataOptions, open_data
    from tinynas.graph import lower
    from tinynas.recipe import Recipe
    from tinynas.train import Trainer
    from tinynas.train.quantised import save_trained

    path = Path(options.bases) / f"{job.data}-{Path(options.net).stem}-{options.epochs}.safetensors"
    if not path.is_file():
        old, _ = split_classes(job.data, job.place)
        images = open_data(job.place, options=DataOptions(labels=tuple(old)))
        graph = lower(load_net(options.net).with_classes(len(old)))
        given = {"epoch_images": options.epoch_images} if options.epoch_images else {}
        recipe = Recipe.full(epochs=options.epochs, **given)
        trainer = Trainer(graph, images.read_by(graph.input, "train"), images.read_by(graph.input, "val"), recipe, seed=0)
        trainer.run()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_trained(trainer.trained, path, {"labels": json.dumps(list(images.labels))})
    return path


def work(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """The row of ``job``."""
    import json

    from tinynas.adapt.budget import UpdateBudget
    from tinynas.config import build
    from tinynas.learnings.comparing import Job as Learning
    from tinynas.learnings.comparing import Setup
    from tinynas.learnings.comparing import work as learn

    weights = base_of(job, options)
    old, new = split_classes(job.data, job.place)
    learning = {"epochs": options.learning_epochs, "images": NEW[job.data][1], "replay": job.replay, "lr": options.lr}
    document = {"name": f"{job.extra_kib} KiB", "extra": f"{job.extra_kib} KiB", "runtime": "tflm-cmsis-nn", "core": "cortex-m4"}
    budget = build(document | {"learning": learning}, UpdateBudget, source="budget", overrides=options.set)
    # The arch of a zoo name has other classes; the weights' own are taken (--init).
    setup = Setup(options.net, job.place, str(weights), "auto", job.place, (f"labels={json.dumps(new)}",), (f"labels={json.dumps(old)}",))
    row = learn(Learning(setup, job.scheme, budget, job.seed, Path(options.bases)))
    return {"data": job.data, "extra_kib": job.extra_kib, "replay": job.replay, **row}


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row is known by."""
    return row["data"], row["seed"], row["extra_kib"], row["scheme"], row["replay"]


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    first = rows[0]
    lines = [
        "# Schemes of learning on the board",
        "",
        f"Made by `python benchmarks/adapt_schemes.py` of tinynas {first.get('tinynas', '')}, which says what is not measured. Network "
        f"`{first['net']}`; means over seeds, accuracy on test images that nothing else reads.",
        "",
        "| data | replay | limit, KiB | scheme | new | old | memory beside inference, KiB | MACs a step | parameters | seeds |",
        "|---|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if not row["problem"]:
            groups.setdefault((row["data"], row["replay"], row["extra_kib"], row["scheme"]), []).append(row)
    for (data, replay, extra, scheme), members in sorted(groups.items()):
        limit = "none" if extra == UNLIMITED_KIB else str(extra)
        old = [row["old"] for row in members if row["old"] is not None]
        lines.append(
            f"| {data} | {replay} | {limit} | {scheme} | {100 * mean(row['new'] for row in members):.1f}% "
            f"| {100 * mean(old):.1f}% | {max(row['extra_bytes'] for row in members) / 1024:,.1f} "
            f"| {max(row['macs'] for row in members):,} | {max(row['parameters'] for row in members):,} | {len(members)} |"
        )
    refused = [row for row in rows if row["problem"]]
    lines += [
        "",
        *(f"- {row['data']}, {row['scheme']}, {row['extra_kib']} KiB: {row['problem']}" for row in refused),
        *([""] if refused else []),
    ]
    return "\n".join(lines)


#: Of each scheme a color (Okabe and Ito's) and a mark.
LOOKS = {
    "classifier": ("#59636e", "dot"),
    "last": ("#0072b2", "square"),
    "bias": ("#c77700", "diamond"),
    "sparse": ("#00795a", "up"),
    "random": ("#98a3af", "cross"),
    "velocity": ("#d55e00", "dot"),
    "su": ("#a8467f", "square"),
    "tinytrain": ("#56b4e9", "diamond"),
    "full": ("#1a1f25", "up"),
}
WIDE, HIGH, LEFT, TOP = 340, 240, 62, 64


def mark(shape: str, x: float, y: float, color: str) -> str:
    """A mark of SVG around (x, y)."""
    match shape:
        case "dot":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
        case "square":
            return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{color}"/>'
        case "diamond":
            return f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" fill="{color}"/>'
        case "up":
            return f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z" fill="{color}"/>'
        case "cross":
            return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{color}" stroke-width="2"/>'
        case _:
            raise ValueError(f"no mark {shape!r}")


def curves(rows: Sequence[dict[str, Any]], replay: int) -> dict[str, list[tuple[float, float, float | None]]]:
    """By scheme (KiB beside inference, new, old) of each limit, means over seeds, the least memory first."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        if not row["problem"] and row["replay"] == replay:
            groups.setdefault((row["scheme"], row["extra_kib"]), []).append(row)
    found: dict[str, list[tuple[float, float, float | None]]] = {}
    for (scheme, _), members in groups.items():
        old = [row["old"] for row in members if row["old"] is not None]
        size = max(row["extra_bytes"] for row in members) / 1024
        found.setdefault(scheme, []).append((size, mean(row["new"] for row in members), mean(old) if old else None))
    return {scheme: sorted(found[scheme], key=lambda point: point[0]) for scheme in LOOKS if scheme in found}


def picture(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of one data set as SVG: new classes and old ones side by side over one scale of memory, a line of panels a replay."""
    replays = sorted({row["replay"] for row in rows if not row["problem"]})
    drawn = {replay: curves(rows, replay) for replay in replays}
    sizes = [max(size, 2**-4) for lines in drawn.values() for points in lines.values() for size, _, _ in points]
    low, high = math.floor(math.log2(min(sizes))), math.ceil(math.log2(max(sizes)))
    high = max(high, low + 1)
    across, down = 2 * (WIDE + LEFT) + 30, TOP + len(replays) * (HIGH + 66) + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" font-family="sans-serif" font-size="11.5" fill="#1a1f25">',
        f'<rect width="{across}" height="{down}" fill="#ffffff"/>',
    ]
    schemes = [scheme for scheme in LOOKS if any(scheme in lines for lines in drawn.values())]
    for number, scheme in enumerate(schemes):
        x, y = LEFT + 12 + (number % 5) * 142, 16 + 20 * (number // 5)
        parts += [mark(LOOKS[scheme][1], x, y, LOOKS[scheme][0]), f'<text x="{x + 10}" y="{y + 4}">{scheme}</text>']
    for row, replay in enumerate(replays):
        top = TOP + row * (HIGH + 66)
        for column, what in enumerate(("new", "old")):
            left = LEFT + column * (WIDE + LEFT)
            again = "no old images again" if not replay else f"{replay} old images a class again"
            parts.append(f'<text x="{left}" y="{top - 6}" font-weight="bold">{what} classes, {again}</text>')
            for percent in range(0, 101, 20):
                y = top + HIGH * (1 - percent / 100)
                parts.append(f'<path d="M{left} {y:.1f}h{WIDE}" stroke="#e7ebef"/>')
                parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#59636e">{percent}</text>')
            for power in range(low, high + 1, max(1, -(-(high - low) // 8))):
                x = left + WIDE * (power - low) / (high - low)
                parts.append(f'<path d="M{x:.1f} {top + HIGH}v4" stroke="#98a3af"/>')
                parts.append(f'<text x="{x:.1f}" y="{top + HIGH + 17}" text-anchor="middle" fill="#59636e">{2.0**power:,.4g}</text>')
            parts.append(
                f'<text x="{left + WIDE / 2}" y="{top + HIGH + 34}" text-anchor="middle" fill="#59636e">'
                "memory of learning beside inference, KiB</text>"
            )
            middle = top + HIGH / 2
            parts.append(
                f'<text transform="translate({left - 38} {middle}) rotate(-90)" text-anchor="middle" fill="#59636e">'
                "right of test images, %</text>"
            )
            for scheme, points in drawn[replay].items():
                color, shape = LOOKS[scheme]
                places = [
                    (left + WIDE * (math.log2(max(size, 2**-4)) - low) / (high - low), top + HIGH * (1 - value))
                    for size, new, old in points
                    if (value := new if what == "new" else old) is not None
                ]
                line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
                parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.4"/>')
                parts += [mark(shape, x, y, color) for x, y in places]
    return "\n".join([*parts, "</svg>", ""])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME=PLACE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--list", action="store_true", help="number the jobs")
    parser.add_argument("--job", type=int, help="do this one")
    parser.add_argument(
        "--rows", nargs="+", default=[], metavar="F", help="with --job the file to append to; else those to make the page of"
    )
    parser.add_argument("--bases", default="bases", help="folder of the trained bases, and of measured contributions")
    parser.add_argument("--net", default="mcunet-tiny2", help="a zoo name, or an arch file")
    parser.add_argument("--epochs", type=int, default=120, help="of a base")
    parser.add_argument("--epoch-images", type=int, default=0)
    parser.add_argument("--learning-epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--set", nargs="+", default=[], metavar="a.b=c", help="settings of the update budget")
    parser.add_argument("--out", default=str(RESULTS / "adapt_schemes.md"))
    options = parser.parse_args(arguments)
    wanted = jobs(options.data, options.seeds)
    if options.list:
        for number, job in enumerate(wanted):
            print(number, job.data, f"seed {job.seed}", f"{job.extra_kib} KiB", job.scheme, f"replay {job.replay}")
    elif options.job is not None:
        job, (path,) = wanted[options.job], map(Path, options.rows)
        known = {key_of(row) for row in read_lines(path)}
        if (job.data, job.seed, job.extra_kib, job.scheme, job.replay) not in known:
            append_line(path, work(job, options))
    else:
        rows = {key_of(row): row for path in options.rows for row in read_lines(Path(path))}
        if not rows:
            parser.error("no rows: make some with --job")
        known_data = sorted({row["data"] for row in rows.values() if not row["problem"]})
        pictures = [f"![{data}: accuracy over memory](adapt_{data}.svg)" for data in known_data]
        write_atomic(Path(options.out), "\n".join([page(list(rows.values())), *pictures, ""]))
        for data in known_data:
            write_atomic(Path(options.out).parent / f"adapt_{data}.svg", picture([row for row in rows.values() if row["data"] == data]))


if __name__ == "__main__":
    main()
