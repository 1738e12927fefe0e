"""Few images, and what is known: from nothing, from a file of others, from our own pre-training, with a teacher.

    python benchmarks/from_known.py IMAGES MODELS --list
    python benchmarks/from_known.py IMAGES MODELS --job I --rows ROWS.jsonl --state DIR [--small]
    python benchmarks/from_known.py --rows results/benchmarks/from_known.jsonl      # tables and curves of the rows

IMAGES holds person64, gtsrb48, meter and tin20; MODELS mcunet-vww1's .tflite (tinyengine__vww.tflite). Each job is one training, appends
one line to ROWS when it is done, and does nothing where its line is there. What a job needs from another (weights of a pre-training, of
a teacher) lies in DIR; a job waits for it, so jobs can be started side by side in the order of the list.

The network is mcunet-vww1 everywhere, at the data's size. An epoch is as many batches for few images as for many (images come several
times in it, augmented anew). What is compared is the last epoch: nothing is chosen on validation images, of which a user with ten
images has none. The teacher of few images has seen no more of them: mcunet-in4, pre-trained on tin20 and fine-tuned on the same few
images. tin20's training images and person64's test images have none in common.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from recipes_first import network

from tinynas.arch import Arch, load_arch
from tinynas.cost import estimate
from tinynas.data import DataOptions, DataSet, Split, open_data
from tinynas.files import append_line, read_lines
from tinynas.graph import Graph, lower
from tinynas.recipe import Recipe
from tinynas.train import Trainer, evaluate, pick_device
from tinynas.train.quantised import load_trained, save_trained
from tinynas.weights import begin, open_source, open_teacher
from tinynas.weights.layers import OURS
from tinynas.weights.source import layers_of_network
from tinynas.weights.teacher import NetTeacher

ROOT = Path(__file__).parent.parent
FILE = "tinyengine__vww.tflite"
NET, BIG = "mcunet-vww1", "mcunet-in4"
SEEDS = (0, 1)
BATCH, EPOCHS = 64, 10
PLAIN = {"kind": "light", "light": {"flip": 0.0, "brightness": 0.08, "contrast": 0.1}}


@dataclass(frozen=True)
class Images:
    """A data set as it is used here."""

    size: tuple[int, int]
    recipe: Mapping[str, Any]
    options: Mapping[str, Any]


SETS: dict[str, Images] = {
    "person64": Images((64, 64), {}, {}),
    "gtsrb48": Images((48, 48), {"loss": "ce", "augment": PLAIN}, {"groups": r"([^/]+/\d+)_"}),
    "meter": Images((32, 20), {"loss": "ce", "augment": PLAIN}, {"groups": "prefix:__"}),
    "tin20": Images((64, 64), {}, {}),
}
#: Training images: a class, or in all -> steps.
COUNTS: dict[str, int] = {"5 a class": 600, "20 a class": 900, "500": 1500, "all": 2500}
STARTS = ("nothing", "file", "ours", "teacher")
#: Networks that are taught on tin20, by their MACs; the last one is the teacher, trained alike.
TAUGHT = {"0.3 M": "32/0.35/111111/3/3", "1.7 M": "mcunet-tiny2", "8.5 M": "64/0.75/122221/3/4", "teacher": "mcunet-in4@64"}
TAUGHT_EPOCHS = 40
#: Steps of few images with strong augmentation, from weights: more of them forget what is known (chosen on person64's validation images).
STRONG_STEPS = 300


@dataclass(frozen=True)
class Job:
    """One training, or one evaluation."""

    kind: str
    data: str
    count: str = "all"
    start: str = "nothing"
    seed: int = 0
    net: str = NET

    @property
    def name(self) -> str:
        """By which its row is known."""
        return f"{self.kind} {self.data} {self.count} {self.start} {self.seed} {self.net}"

    @property
    def file(self) -> str:
        """Of its weights in the state folder."""
        return "".join(c if c.isalnum() else "_" for c in self.name) + ".safetensors"


def jobs() -> list[Job]:
    """All jobs, what others need first."""
    big, own = Job("pretrain", "tin20", net=BIG), Job("pretrain", "tin20", net=NET)
    learners = [
        Job("taught", "tin20", start=start, seed=seed, net=net) for seed in SEEDS for net in TAUGHT for start in ("nothing", "teacher")
    ]
    learners = [job for job in learners if job.net != "teacher" or (job.start == "nothing" and job.seed == 0)]
    alone = sorted((job for job in learners if job.start == "nothing"), key=lambda job: job.net != "teacher")
    found = [big, own, *alone]
    found += [Job("file as it is", "person64", net=NET), *(Job("file tuned", "person64", start="file", seed=seed) for seed in SEEDS)]
    cases = [(data, count, seed) for seed in SEEDS for data in SETS if data != "tin20" for count in COUNTS]
    found += [Job("few", *case[:2], start, case[2]) for start in ("nothing", "file") for case in cases]
    found += [job for job in learners if job.start == "teacher"]
    found += [Job("big", data, count, "ours", seed, BIG) for data, count, seed in cases]
    found += [Job("few", *case[:2], start, case[2]) for start in ("ours", "teacher") for case in cases]
    return found + [Job("strong", "person64", "500", start, seed) for start in ("file", "nothing") for seed in SEEDS]


def arch_of(name: str, classes: int, size: tuple[int, int] | None) -> Arch:
    """A network of the zoo or of the study's space, at ``size`` where one is given."""
    base, at, side = name.partition("@")
    arch = load_arch(base).with_classes(classes) if at else network(base, classes)
    if at:
        size = (int(side), int(side))
    return arch if size is None else Arch.model_validate({**arch.model_dump(), "height": size[0], "width": size[1]})


def some(split: Split, count: str, seed: int) -> Split:
    """The images of ``count``, drawn by ``seed``, each class in its share or with so many."""
    if count == "all":
        return split
    if not count.endswith("a class"):
        return split.subset(int(count), seed)
    rng, many = np.random.default_rng((seed, 7)), int(count.split()[0])
    return split.take(
        np.sort(np.concatenate([rng.permutation(np.flatnonzero(split.labels == c))[:many] for c in range(split.labels.max() + 1)]))
    )


def repeated(split: Split, images: int) -> Split:
    """``split``, its images as often as it takes to have ``images``."""
    return split.take(np.resize(np.arange(len(split)), max(images, len(split))))


class Bench:
    """What all jobs share."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.images, self.models, self.state, self.small = arguments.images, arguments.models, arguments.state, arguments.small
        self.rows = arguments.rows
        self.device = pick_device()

    def data(self, name: str) -> DataSet:
        return open_data(str(self.images / name), options=DataOptions(**SETS[name].options))

    def wait(self, job: Job) -> Path:
        path, until = self.state / job.file, time.monotonic() + 1500
        while not path.exists():
            if time.monotonic() > until:
                raise SystemExit(f"{job.name}: its weights are not there")
            time.sleep(2)
        return path

    def teacher(self, job: Job, data: DataSet, graph: Graph) -> NetTeacher:
        """The network that ``job`` trained."""
        size = None if "@" in job.net else SETS[job.data].size
        net = load_trained(lower(arch_of(job.net, len(data.labels), size)), self.wait(job))
        return NetTeacher(net, OURS, range(len(data.labels)), graph.input, job.name, job.name)

    def train(self, job: Job) -> dict[str, Any]:
        """Train; the row."""
        data, images = self.data(job.data), SETS[job.data]
        size: tuple[int, int] | None = images.size
        if job.kind == "taught":
            size = None
        elif job.kind == "file tuned":
            size = (80, 80)
        arch = arch_of(TAUGHT[job.net] if job.kind == "taught" else job.net, len(data.labels), size)
        graph = lower(arch)
        shape = graph.input.shape
        train = some(data.split("train", *shape), job.count, job.seed)
        steps = (
            20
            if self.small
            else TAUGHT_EPOCHS * (len(train) // BATCH)
            if job.kind == "taught"
            else 2500
            if job.kind == "pretrain"
            else COUNTS[job.count]
        )
        epochs = 2 if self.small else TAUGHT_EPOCHS if job.kind == "taught" else EPOCHS
        if job.kind == "pretrain" and not self.small:
            steps, epochs = 6000, 20
        strong: dict[str, Any] = {}
        if job.kind == "strong":
            strong = {"augment": {"kind": "wake-vision"}}
            if job.start == "file" and not self.small:
                steps, epochs = STRONG_STEPS, 3
        per_epoch = steps // epochs * BATCH
        settings: dict[str, Any] = {
            "epochs": epochs,
            "warmup_epochs": 0.5,
            "schedule": "cosine",
            "ema": 0.5,
            "batch_size": BATCH,
            "epoch_images": per_epoch,
            **images.recipe,
            **strong,
        }
        start = teacher = None
        begun: dict[str, Any] = {}
        if job.start in ("file", "ours"):
            settings |= {"lr": 2e-3, "init": job.start}
            recipe = Recipe(**settings)
            known = open_source(str(self.models / FILE)) if job.start == "file" else self.known(job.net)
            found = begin(graph, known, data.labels, train.inputs, recipe, seed=job.seed, device=self.device)
            start, begun = found.start, {key: found.count(key) for key in ("taken", "cut", "new")}  # type: ignore[arg-type]
        elif job.start == "teacher":
            settings |= {"teacher": "a job of this list"}
            if job.kind == "taught":
                source = Job("taught", "tin20", net="teacher")
                net = load_trained(lower(arch_of(TAUGHT["teacher"], len(data.labels), None)), self.wait(source))
                teacher = NetTeacher(net, OURS, range(len(data.labels)), graph.input, source.name, source.name)
            else:
                teacher = self.teacher(Job("big", job.data, job.count, "ours", job.seed, BIG), data, graph)
        recipe = Recipe(**settings)
        val = data.split("val", *shape).subset(64 if self.small else 256, 0)
        trainer = Trainer(graph, repeated(train, per_epoch), val, recipe, seed=job.seed, device=self.device, start=start, teacher=teacher)
        begin_time = time.monotonic()
        trainer.run()
        seconds = time.monotonic() - begin_time
        test = data.split("test", *shape)
        result = evaluate(trainer.trained, test.subset(200, 0) if self.small else test)
        temporary = self.state / f".{job.file}"
        save_trained(trainer.trained, temporary, {})
        temporary.replace(self.state / job.file)
        return {
            "test_accuracy": result.accuracy,
            "test_images": len(test),
            "train_images": len(train),
            "steps": trainer.steps_per_epoch * epochs,
            "macs": estimate(graph).macs,
            "flash_bytes": estimate(graph).flash_bytes,
            "layers": begun,
            "val_curve": [round(m.val_accuracy, 4) for m in trainer.history],
            "seconds": round(seconds, 1),
        }

    def known(self, net: str) -> Any:
        from tinynas.weights import Known

        job = Job("pretrain", "tin20", net=net)
        path = self.wait(job)
        data = self.data("tin20")
        network = load_trained(lower(arch_of(net, len(data.labels), SETS["tin20"].size)), path)
        return Known(job.name, "a pre-training", job.name, layers_of_network(network), tuple(data.labels))

    def as_it_is(self) -> dict[str, Any]:
        """mcunet-vww1's own file on person64's test images, at its own 80 px, in float."""
        data = self.data("person64")
        graph = lower(load_arch(NET))
        teacher = open_teacher(str(self.models / FILE), data.labels, graph.input)
        teacher.to(self.device)
        test = data.split("test", *graph.input.shape)
        hits = 0
        with torch.inference_mode():
            for at in range(0, len(test), 64):
                images = torch.from_numpy(np.array(test.inputs[at : at + 64])).permute(0, 3, 1, 2).float().to(self.device)
                said = teacher.logits((images - 128) / 128).argmax(1).cpu().numpy()
                hits += int((said == test.labels[at : at + 64]).sum())
        return {"test_accuracy": hits / len(test), "test_images": len(test), "train_images": 0, "steps": 0, "macs": estimate(graph).macs}

    def run(self, job: Job) -> None:
        if any(row["job"] == job.name for row in known_rows(self.rows)):
            print(f"{job.name}: done before")
            return
        self.state.mkdir(parents=True, exist_ok=True)
        row = self.as_it_is() if job.kind == "file as it is" else self.train(job)
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        append_line(self.rows, {"job": job.name, **vars(job), **row, "device": device})
        print(f"{job.name}: {100 * row['test_accuracy']:.1f} %", flush=True)


def known_rows(path: Path) -> list[dict[str, Any]]:
    """What was trained so far."""
    return list(read_lines(path)) if path.exists() else []


# tables ------------------------------------------------------------------------------------------------


def shown(values: Sequence[float]) -> str:
    """Mean and half the range, in percent."""
    if not values:
        return "–"
    spread = f" ± {50 * (max(values) - min(values)):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


WORDS = {
    "nothing": "from nothing",
    "file": "from mcunet-vww1's .tflite",
    "ours": "from our pre-training",
    "teacher": "from nothing, with teacher",
}


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """results/benchmarks/from_known.md."""
    by: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in rows:
        by[row["kind"], row["data"], row["count"], row["start"], row["net"]].append(row["test_accuracy"])
    lines = [
        "# Starting from what is known",
        "",
        "Made by `python benchmarks/from_known.py`, which says what is compared.",
        f"{NET}, float test accuracy in % of the last epoch; mean of two seeds ± half their difference. The peak rate is 5e-3 from",
        "nothing and 2e-3 from weights, so that a part of a difference may be the rate's.",
        "",
    ]
    for data in SETS:
        if data == "tin20":
            continue
        lines += [
            f"## {data}",
            "",
            "| training images | " + " | ".join(WORDS[start] for start in STARTS) + " | the teacher |",
            "|---" * (len(STARTS) + 2) + "|",
        ]
        for count in COUNTS:
            cells = [shown(by["few", data, count, start, NET]) for start in STARTS]
            lines.append(f"| {count} | {' | '.join(cells)} | {shown(by['big', data, count, 'ours', BIG])} |")
        lines += ["", f"![{data}](from_known_{data}.svg)", ""]
    tuned, plain = by["file tuned", "person64", "all", "file", NET], by["file as it is", "person64", "all", "nothing", NET]
    lines += [
        "## mcunet-vww1's own file on person64's test, 80 px",
        "",
        "| as it is | fine-tuned |",
        "|---|---|",
        f"| {shown(plain)} | {shown(tuned)} |",
        "",
    ]
    strong = [shown(by["strong", "person64", "500", start, NET]) for start in ("nothing", "file")]
    lines += [
        "## 500 images of person64 with the augmentation `wake-vision`",
        "",
        f"| from nothing, {COUNTS['500']:,} steps | from {NET}'s .tflite, {STRONG_STEPS} steps |",
        "|---|---|",
        f"| {strong[0]} | {strong[1]} |",
        "",
    ]
    lines += [f"## A teacher on tin20, {TAUGHT_EPOCHS} epochs", "", "| network | from nothing | with teacher |", "|---|---|---|"]
    for net in TAUGHT:
        cells = [shown(by["taught", "tin20", "all", start, net]) for start in ("nothing", "teacher")]
        lines.append(f"| {net} MACs | {' | '.join(cells)} |")
    lines[-1] = lines[-1].replace("teacher MACs", f"the teacher, {TAUGHT['teacher']}")
    return "\n".join(lines) + "\n"


COLORS = {"nothing": "#888888", "file": "#1f77b4", "ours": "#2ca02c", "teacher": "#d62728"}


def curve(rows: Sequence[Mapping[str, Any]], data: str) -> str:
    """Test accuracy over training images, as SVG."""
    few = [row for row in rows if row["kind"] == "few" and row["data"] == data]
    width, height, left, top = 460, 280, 46, 14
    sizes = sorted({row["train_images"] for row in few}) or [1]
    low, high = np.log(min(sizes)), np.log(max(sizes) + 1)
    least = int(10 * min((row["test_accuracy"] for row in few), default=0.0)) / 10

    def point(images: float, accuracy: float) -> str:
        x = left + (np.log(images) - low) / max(high - low, 1e-9) * (width - left - 150)
        y = top + (1 - accuracy) / max(1 - least, 1e-9) * (height - top - 34)
        return f"{x:.1f},{y:.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">']
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for share in np.arange(least, 1.01, 0.1):
        y = point(min(sizes), share).split(",")[1]
        parts.append(
            f'<line x1="{left}" x2="{width - 150}" y1="{y}" y2="{y}" stroke="#ddd"/>'
            f'<text x="4" y="{float(y) + 4:.1f}">{100 * share:.0f} %</text>'
        )
    for size in sizes:
        parts.append(f'<text x="{point(size, 1).split(",")[0]}" y="{height - 14}" text-anchor="middle">{size:,}</text>')
    words = f"training images of {data}; accuracy on the test images, mean of the seeds"
    parts.append(f'<text x="{left}" y="{height - 2}">{words}</text>')
    for number, start in enumerate(STARTS):
        found = defaultdict(list)
        for row in few:
            if row["start"] == start:
                found[row["train_images"]].append(row["test_accuracy"])
        line = " ".join(point(size, mean(found[size])) for size in sorted(found))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLORS[start]}" stroke-width="2"/>')
        parts.append(f'<text x="{width - 146}" y="{top + 14 + 16 * number}" fill="{COLORS[start]}">{WORDS[start]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """List, train, or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", type=Path)
    parser.add_argument("models", nargs="?", type=Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--job", type=int)
    parser.add_argument("--rows", type=Path, default=ROOT / "results" / "benchmarks" / "from_known.jsonl")
    parser.add_argument("--state", type=Path, default=Path("from_known_state"))
    parser.add_argument("--small", action="store_true", help="twenty steps, for trying out")
    arguments = parser.parse_args()
    if arguments.list:
        for number, job in enumerate(jobs()):
            print(number, job.name)
    elif arguments.job is not None:
        Bench(arguments).run(jobs()[arguments.job])
    else:
        rows = known_rows(arguments.rows)
        (arguments.rows.parent / "from_known.md").write_text(tables(rows))
        for data in SETS:
            if data != "tin20":
                (arguments.rows.parent / f"from_known_{data}.svg").write_text(curve(rows, data))


if __name__ == "__main__":
    main()
