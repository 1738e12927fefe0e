"""How fast images reach a training: our pipelines, the Wake Vision entry's way, and what a proxy training waits for.

Writes results/benchmarks/data_throughput.{json,md}. Three questions, one process thread each unless stated:

1. images/s of ``none``, ``light`` and ``wake-vision`` from the mapped cache, at 48 and 96 px;
2. the entry's way: a torch DataLoader over JPEG files of 256 px, albumentations image by image, normalised float tensors,
   with 0 and with 2 worker processes; its fog is the library's with the values that ran there (its argument is ignored);
3. mcunet-tiny2 at 48 px trained on mapped, augmented images, against the same training on random tensors in memory
   without augmentation, in turns, so that other work on the machine falls on both.

    python benchmarks/data_throughput.py [--repeats 7] [--out results/benchmarks]

What it does not show: GPUs, and disks slower than the memory that caches the files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2
import numpy as np
import torch

from tinynas import __version__
from tinynas.arch import load_arch
from tinynas.data import DataOptions, Split, SyntheticOptions, open_data
from tinynas.data.images.augment import make_augmenter
from tinynas.data.images.strong import A, pipeline
from tinynas.data.split import epoch_order
from tinynas.graph import lower
from tinynas.recipe import Augment, Recipe, WakeVisionAugment
from tinynas.train import Trainer

ROOT = Path(__file__).resolve().parent.parent
BATCH = 128
FILES = 1024
JPEG_SIDE = 256


def rate(run: Callable[[], int], seconds: float = 2.0) -> float:
    """Images/s of ``run``, which returns how many it made, repeated for ``seconds`` after one warm-up."""
    run()
    images, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        images += run()
    return images / spent


def ours(split: Split, kind: str) -> Callable[[], int]:
    augmenter = make_augmenter(Augment(kind=kind), *split.inputs.shape[1:], 0)  # type: ignore[arg-type]
    epoch = iter(range(1 << 30))

    def run() -> int:
        number = next(epoch)
        if kind != "wake-vision":
            order = epoch_order(len(split), seed=0, epoch=number)
            parts = (order[start : start + BATCH] for start in range(0, len(order), BATCH))
            return sum(len(augmenter(split.inputs[rows], number, rows)) for rows in parts)
        rows = np.random.default_rng(number).integers(0, len(split), 4 * BATCH)  # a few batches are enough for the slow one
        for start in range(0, len(rows), BATCH):
            augmenter(split.inputs[rows[start : start + BATCH]], number, rows[start : start + BATCH])
        return len(rows)

    return run


class JpegFiles(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """The entry's data set: a JPEG file is read, decoded and augmented whenever it is asked for."""

    def __init__(self, files: list[Path], side: int) -> None:
        self.files = files
        steps = pipeline(WakeVisionAugment(), side, side)
        weather = steps["weather"]
        fog = A.RandomFog(alpha_coef=0.05, p=1.0)
        steps["weather"] = A.OneOf([weather.transforms[0], fog, *weather.transforms[2:]], p=weather.p)
        self.compose = A.Compose([*steps.values(), A.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = cv2.cvtColor(cv2.imread(str(self.files[index])), cv2.COLOR_BGR2RGB)
        return torch.from_numpy(self.compose(image=image)["image"].transpose(2, 0, 1)), index & 1


def entry_rate(files: list[Path], side: int, workers: int) -> float:
    loader = torch.utils.data.DataLoader(
        JpegFiles(files, side),
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )
    return rate(lambda: sum(len(labels) for _, labels in loader), 3.0)


def training(repeats: int, split: Split) -> dict[str, Any]:
    graph = lower(load_arch("mcunet-tiny2"))
    images = 10 * BATCH
    train, val = split.subset(images, 0), split.subset(2 * BATCH, 1)
    # The images of the split must be read from the map, not from the subset's copy.
    mapped = Split(split.inputs[:images], split.labels[:images], split.names[:images])
    noise = np.random.default_rng(0).integers(0, 256, train.inputs.shape, dtype=np.uint8)
    random = Split(noise, train.labels, train.names)
    epochs = repeats + 1

    def trainer(part: Split, augment: Augment) -> Trainer:
        recipe = Recipe.proxy(epochs=epochs, batch_size=BATCH, augment=augment)
        return Trainer(graph, part, val, recipe, seed=0, device=torch.device("cpu"))

    rivals = {
        "light": trainer(mapped, Augment()),
        "random": trainer(random, Augment(kind="none")),
        "wake-vision": trainer(mapped, Augment(kind="wake-vision")),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for epoch in range(1, epochs + 1):
        for name, rival in rivals.items():
            begun = time.process_time()
            rival.run(until_epoch=epoch)
            if epoch > 1:  # the first warms up
                seconds[name].append(time.process_time() - begun)
    # Processor time, not the clock's: with one thread it is what the training itself takes, whoever else is on the machine.
    result: dict[str, Any] = {name: images / statistics.median(found) for name, found in seconds.items()}
    for name in ("light", "wake-vision"):
        ratios = [r / s for r, s in zip(seconds["random"], seconds[name], strict=True)]
        result[f"{name}_share"] = statistics.median(ratios)
        result[f"{name}_share_range"] = [min(ratios), max(ratios)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.time()
    found: dict[str, Any] = {"version": __version__, "machine": f"{os.cpu_count()} x {platform.machine()}", "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as scratch:
        data = open_data("synthetic", cache_dir=Path(scratch), options=DataOptions(synthetic=SyntheticOptions(train=2048, val=64, test=64)))
        for side in (48, 96):
            split = data.split("train", side, side, 3)
            found[f"ours_{side}"] = {kind: rate(ours(split, kind)) for kind in ("none", "light", "wake-vision")}
        files = []
        large = data.split("train", JPEG_SIDE, JPEG_SIDE, 3)
        for i in range(FILES):
            files.append(Path(scratch) / f"{i}.jpg")
            cv2.imwrite(str(files[-1]), cv2.cvtColor(large.inputs[i], cv2.COLOR_RGB2BGR))
        found["entry_48"] = {f"workers_{n}": entry_rate(files, 48, n) for n in (0, 2)}
        found["training_48"] = training(arguments.repeats, data.split("train", 48, 48, 3))
    found["seconds"] = time.time() - begun
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "data_throughput.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "data_throughput.md").write_text(table(found), encoding="utf-8")
    print(table(found))


def table(found: dict[str, Any]) -> str:
    train = found["training_48"]
    low, high = train["light_share_range"]
    lines = [
        "# Data throughput",
        "",
        f"`python benchmarks/data_throughput.py` on {found['machine']}, tinynas {found['version']}.",
        f"Images per second by the clock, one thread unless stated. The load average was {found['load']:.1f} at the start:",
        "other work on the machine shrinks these figures, all alike.",
        "",
        "| pipeline | 48 px | 96 px |",
        "|---|---:|---:|",
    ]
    for kind in ("none", "light", "wake-vision"):
        lines.append(f"| mapped cache, `{kind}` | {found['ours_48'][kind]:,.0f} | {found['ours_96'][kind]:,.0f} |")
    for workers in (0, 2):
        where = "in the training's process" if not workers else f"{workers} worker processes"
        lines.append(
            f"| the entry's way (JPEG files, albumentations, DataLoader), {where} | {found['entry_48'][f'workers_{workers}']:,.0f} | |"
        )
    lines += [
        "",
        "Training mcunet-tiny2 at 48 px, batch 128, one thread, images per second of processor time, in turns:",
        "",
        "| images | images/s | share of random tensors |",
        "|---|---:|---:|",
        f"| random tensors in memory, no augmentation | {train['random']:,.0f} | 100 % |",
        f"| mapped cache, `light` | {train['light']:,.0f} | {100 * train['light_share']:.1f} % ({100 * low:.1f} to {100 * high:.1f}) |",
        f"| mapped cache, `wake-vision` | {train['wake-vision']:,.0f} | {100 * train['wake-vision_share']:.1f} % |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
