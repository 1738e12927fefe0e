"""A small trained network, the images of its three classes, and those of two new ones: for tests of learning on the board."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tinynas.arch import Arch, ConvLayer, MBConv
from tinynas.data import open_data
from tinynas.graph import lower
from tinynas.recipe import Recipe
from tinynas.train import Trainer
from tinynas.train.quantised import save_trained

#: Classes -> color (red, green, blue) of a square on noise.
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 200, 40),
    "blue": (40, 40, 220),
    "yellow": (220, 220, 40),
    "violet": (200, 40, 220),
}
SIZE = 16


def write_images(folder: Path, labels: tuple[str, ...], *, train: int, test: int, seed: int) -> Path:
    """A folder with the splits train, val and test of ``labels``."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", test), ("test", test)):
        for label in labels:
            target = folder / split / label
            target.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = rng.integers(0, 120, (SIZE, SIZE, 3)).astype(np.uint8)
                top, left = rng.integers(0, SIZE - 8, 2)
                picture[top : top + 8, left : left + 8] = np.array(COLORS[label]) - rng.integers(0, 40, (8, 8, 3))
                cv2.imwrite(str(target / f"{number}.png"), picture[:, :, ::-1])
    return folder


@dataclass(frozen=True)
class Case:
    """Where everything lies."""

    arch: Path
    weights: Path
    old: Path
    new: Path
    budget: Path


def make_case(folder: Path) -> Case:
    """Train three classes for a moment, and leave two to be learned."""
    old = write_images(folder / "old", ("red", "green", "blue"), train=40, test=12, seed=0)
    new = write_images(folder / "new", ("yellow", "violet"), train=16, test=12, seed=1)
    arch = Arch(
        height=SIZE,
        width=SIZE,
        classes=3,
        stem=ConvLayer(out=8, stride=2),
        blocks=(MBConv(out=8, expand=2, residual=True), MBConv(out=16, expand=2, stride=2)),
    )
    path = folder / "net.yaml"
    path.write_text(arch.to_yaml(), encoding="utf-8")
    data = open_data(str(old), seed=0)
    graph = lower(arch)
    recipe = Recipe.proxy(epochs=8).model_copy(update={"batch": 12, "lr": 0.01})
    trainer = Trainer(graph, data.read_by(graph.input, "train"), data.read_by(graph.input, "val"), recipe, seed=0)
    trainer.run()
    weights = folder / "net.safetensors"
    save_trained(trainer.trained, weights, {"labels": json.dumps(list(data.labels))})
    budget = folder / "update.yaml"
    budget.write_text("name: small\nextra: 12 KiB\nlearning: {epochs: 3, lr: 0.05, batch: 4, measure_images: 16}\n", encoding="utf-8")
    return Case(path, weights, old, new, budget)
