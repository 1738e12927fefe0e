"""Learning on the board: which scheme learns most for its memory, and what becomes of the old classes.

    python benchmarks/adapt_schemes.py --root ../shared/data --only gtsrb48 --list
    python benchmarks/adapt_schemes.py --bases bases/ --job 7 --rows rows/7.jsonl    # one learning (and its base, once)
    python benchmarks/adapt_schemes.py --bases bases/ --only gtsrb48 --rows rows.jsonl --all    # those not done
    python benchmarks/adapt_schemes.py --rows rows.jsonl                                                   # the page

What it measures. Four changes that a board may meet: new classes (the last 4 of tin20's 20 by name, with 50 images each; the last 3 of
gtsrb48's 43, with 20 each, tracks kept together), a new place (person64's photographs, then INRIA's, 50 of each class), a new voice
(digits of fsdd's five other speakers, then 20 a digit of the sixth). A base is mcunet-tiny2 (of sounds ds-cnn-kws) trained on the old
part. A job is such a change, a seed, a limit of memory beside inference (16, 64 or 256 KiB), a scheme (``full`` has no limit), and whether
two old images of each class are learned again (without them at 64 KiB only). It learns in float32 with batch 1 and SGD, and names the test
images of new and old once, at the end. Bases and rows that are there are not made again.

What it does not show. Time and energy on a board; learning in int8 (``--set learning.mode=int8`` does it); other networks; other rates.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tinynas.adapt.budget import UpdateBudget
from tinynas.adapt.comparing import Job as Learning
from tinynas.adapt.comparing import Setup
from tinynas.adapt.comparing import work as learn
from tinynas.api import load_net
from tinynas.config import build
from tinynas.data import DataOptions, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.recipe import Augment, LightAugment, Recipe
from tinynas.train import Trainer
from tinynas.train.quantised import save_trained

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"
EXTRA_KIB = (16, 64, 256)
WITHOUT_REPLAY_KIB = 64
SCHEMES = ("classifier", "last", "bias", "sparse", "random", "velocity", "su", "tinytrain")
UNLIMITED_KIB = 1 << 20
DIGITS = r"label_pattern=(\d)_[a-z]+_\d+"
#: The speaker whom networks of the five others understand worst (61 % by ds-cnn-kws; yweweler 91 %, after which all schemes reach 99).
VOICE = "george"


@dataclass(frozen=True)
class Change:
    """What is known, what is new, and how much of it is learned from. Places are below the root."""

    net: str
    images: int
    """Of each new class."""
    old: str
    new: str
    classes: int = 0
    """So many of the last classes are new; 0: the same classes, elsewhere."""
    options: tuple[str, ...] = ()


CHANGES = {
    "tin20": Change("mcunet-tiny2", 50, "images/tin20", "images/tin20", 4),
    "gtsrb48": Change("mcunet-tiny2", 20, "images/gtsrb48", "images/gtsrb48", 3, (r"groups=([^/]+/\d+)_",)),
    "inria": Change("mcunet-tiny2", 50, "images/person64", "images/inria_64x128"),
    "voice": Change("ds-cnn-kws", 20, "audio/fsdd_train", "audio/fsdd_train", 0, (DIGITS,)),
}


@dataclass(frozen=True)
class Job:
    """One learning."""

    data: str
    seed: int
    extra_kib: int
    scheme: str
    replay: int


def jobs(data: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """All jobs, those of one comparison side by side."""
    found = []
    for seed in seeds:
        for name in data:
            found += [Job(name, seed, UNLIMITED_KIB, "full", replay) for replay in (2, 0)]
            found += [Job(name, seed, extra, scheme, 2) for extra in EXTRA_KIB for scheme in SCHEMES]
            found += [Job(name, seed, WITHOUT_REPLAY_KIB, scheme, 0) for scheme in SCHEMES]
    return found


@dataclass(frozen=True)
class Sides:
    """Where the old and the new images are, and the options they are read by."""

    old: str
    old_options: tuple[str, ...]
    new: str
    new_options: tuple[str, ...]


def sides(name: str, options: argparse.Namespace) -> Sides:
    """Those of the change ``name``."""
    change, root = CHANGES[name], Path(options.root)
    old, new = str(root / change.old), str(root / change.new)
    if name == "voice":
        for part in ("old", "new"):
            folder = Path(options.bases) / f"voice-{part}"
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(Path(old).glob("*.wav")):
                if (f"_{VOICE}_" in path.name) == (part == "new") and not (folder / path.name).exists():
                    shutil.copy(path, folder)
        old, new = (str(Path(options.bases) / f"voice-{part}") for part in ("old", "new"))
    if not change.classes:
        return Sides(old, change.options, new, change.options)
    labels = sorted(open_data(old, options=_options(change.options)).labels)
    old_labels, new_labels = labels[: -change.classes], labels[-change.classes :]
    return Sides(old, (*change.options, f"labels={json.dumps(old_labels)}"), new, (*change.options, f"labels={json.dumps(new_labels)}"))


def _options(given: Sequence[str]) -> DataOptions:
    return build({}, DataOptions, source="data options", overrides=list(given))


def base_of(name: str, options: argparse.Namespace) -> Path:
    """The weights of the network that knows the old part: trained once for each change."""
    change, found = CHANGES[name], sides(name, options)
    path = Path(options.bases) / f"{name}-{change.net}-{options.epochs}.safetensors"
    if not path.is_file():
        data = open_data(found.old, options=_options(found.old_options))
        graph = lower(load_net(change.net).with_classes(len(data.labels)))
        given = {"epoch_images": options.epoch_images} if options.epoch_images else {}
        # Signs change their meaning in a mirror (results/benchmarks/label_keeping.md).
        kept = {"augment": Augment(light=LightAugment(flip=0.0))} if name == "gtsrb48" else {}
        recipe = Recipe.full(epochs=options.epochs, **given, **kept)
        trainer = Trainer(graph, data.read_by(graph.input, "train"), data.read_by(graph.input, "val"), recipe, seed=0)
        trainer.run()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_trained(trainer.trained, path, {"labels": json.dumps(list(data.labels))})
    return path


def work(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """The row of ``job``."""
    weights, change, found = base_of(job.data, options), CHANGES[job.data], sides(job.data, options)
    learning = {"epochs": options.learning_epochs, "images": change.images, "replay": job.replay, "lr": options.lr}
    document = {"name": f"{job.extra_kib} KiB", "extra": f"{job.extra_kib} KiB", "runtime": "tflm-cmsis-nn", "core": "cortex-m4"}
    budget = build(document | {"learning": learning}, UpdateBudget, source="budget", overrides=options.set)
    # The arch of a zoo name has other classes; the weights' own are taken (--init).
    setup = Setup(change.net, found.new, str(weights), "auto", found.old, found.new_options, found.old_options)
    row = learn(Learning(setup, job.scheme, budget, job.seed, Path(options.bases)))
    return {"data": job.data, "extra_kib": job.extra_kib, "replay": job.replay, **row}


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row is known by."""
    return row["data"], row["seed"], row["extra_kib"], row["scheme"], row["replay"]


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "# Schemes of learning on the board",
        "",
        "Made by `python benchmarks/adapt_schemes.py`, which says what is measured and what is not. Means over seeds, accuracy on test "
        "images that nothing else reads.",
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="../shared/data", help="where the images and sounds are")
    parser.add_argument("--only", nargs="+", default=list(CHANGES), choices=list(CHANGES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--list", action="store_true", help="number the jobs")
    parser.add_argument("--job", type=int, help="do this one")
    parser.add_argument("--all", action="store_true", help="do those that have no row yet, one after the other")
    parser.add_argument(
        "--rows", nargs="+", default=[], metavar="F", help="with --job the file to append to; else those to make the page of"
    )
    parser.add_argument("--bases", default="bases", help="folder of the trained bases, and of measured contributions")
    parser.add_argument("--epochs", type=int, default=40, help="of a base")
    parser.add_argument("--epoch-images", type=int, default=0)
    parser.add_argument("--learning-epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--set", nargs="+", default=[], metavar="a.b=c", help="settings of the update budget")
    parser.add_argument("--out", default=str(RESULTS / "adapt_schemes.md"))
    options = parser.parse_args(arguments)
    wanted = jobs(options.only, options.seeds)
    if options.list:
        for number, job in enumerate(wanted):
            print(number, job.data, f"seed {job.seed}", f"{job.extra_kib} KiB", job.scheme, f"replay {job.replay}")
        return
    if options.all or options.job is not None:
        (path,) = map(Path, options.rows)
        for job in wanted if options.all else [wanted[options.job]]:
            known = {key_of(row) for row in read_lines(path)}
            if (job.data, job.seed, job.extra_kib, job.scheme, job.replay) not in known:
                append_line(path, work(job, options))
        return
    rows = {key_of(row): row for path in options.rows for row in read_lines(Path(path))}
    if not rows:
        parser.error("no rows: make some with --job or --all")
    write_atomic(Path(options.out), page(list(rows.values())))


if __name__ == "__main__":
    main()
