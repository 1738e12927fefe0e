"""What a data set holds: counts, sizes, duplicates, leaks as numbers; samples as a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tinynas.data.augment import make_augmenter
from tinynas.data.dataset import ImageData
from tinynas.data.images import Image
from tinynas.errors import DataError
from tinynas.files import replacing
from tinynas.recipe import Augment

SHEET_INK = (40, 40, 40)
FEW = 50
"""A class with fewer training images than this gets a warning."""


def describe(data: ImageData) -> dict[str, Any]:
    """Everything known about ``data`` without training: plain data for ``data info --json``.

    Keys: name, labels, fingerprint, images, splits (class counts of each), sizes (pixels), imbalance (largest class over
    smallest, in training), bad, duplicates, leaks, attributes, notes, warnings.
    """
    splits = {split: data.counts(split) for split in data.members}
    sides = np.array([(r.width, r.height) for r in data.records])
    short = sides.min(axis=1)
    train = list(splits["train"].values())
    shapes = Counter((int(w), int(h)) for w, h in sides)
    reasons = Counter(entry.reason for entry in data.bad)
    return {
        "name": data.name,
        "labels": list(data.labels),
        "fingerprint": data.fingerprint,
        "images": len(data.records),
        "splits": splits,
        "sizes": {
            "short_side": {"min": int(short.min()), "median": int(np.median(short)), "max": int(short.max())},
            "most_common": [{"width": w, "height": h, "images": n} for (w, h), n in shapes.most_common(3)],
            "square": float((sides[:, 0] == sides[:, 1]).mean()),
        },
        "imbalance": max(train) / max(1, min(train)),
        "bad": {"count": len(data.bad), "reasons": dict(reasons), "images": [[b.name, b.reason] for b in data.bad]},
        "duplicates": data.duplicates,
        "leaks": [{split: list(names) for split, names in leak.splits.items()} for leak in data.leaks],
        "attributes": {name: int((values == 1).sum()) for name, values in data.attributes.items()},
        "notes": list(data.notes),
        "warnings": warnings(data),
    }


def warnings(data: ImageData) -> list[str]:
    """What a careful person would want to know before training on ``data``."""
    said = []
    train = data.counts("train")
    for label, count in train.items():
        if count < FEW:
            said.append(f"class {label} has {count} training images: accuracy on it will be luck")
    if max(train.values()) > 10 * max(1, min(train.values())):
        said.append("classes are more than 10 to 1 unbalanced: compare balanced accuracy")
    for split in ("val", "test"):
        total = len(data.members[split])
        if 0 < total < 400:
            said.append(f"{split} has {total} images: an accuracy of 90 % is known to within {196 * (0.09 / total) ** 0.5:.1f} points")
    leaked = [leak for leak in data.leaks if "train" in leak.splits]
    if leaked and data.options.leaks == "keep":
        said.append(f"{len(leaked)} training images are in validation or test too: its accuracy is too good; --set data.leaks=drop")
    if data.bad and len(data.bad) > 0.01 * (len(data.bad) + len(data.records)):
        said.append(f"{100 * len(data.bad) / (len(data.bad) + len(data.records)):.0f} % of the images cannot be used")
    if data.options.fit == "crop":
        lost = np.median([1 - min(r.width, r.height) / max(r.width, r.height) for r in data.records]) if data.records else 0
        if lost > 0.3:
            said.append(f"half of the images lose more than {100 * lost:.0f} % to the centre crop: consider --set data.fit=pad or squash")
    return said


def sample_sheet(
    data: ImageData, path: Path, *, split: str = "train", size: int = 96, columns: int = 8, rows: int = 2, seed: int = 0
) -> Path:
    """Write a PNG with ``rows`` lines of random images of each class (at most 20 classes) of ``split``, named."""
    images = data.split(split, size, size, 3)
    lines: list[tuple[str, list[Image]]] = []
    rng = np.random.default_rng(seed)
    for number, label in list(enumerate(data.labels))[:20]:
        found = np.flatnonzero(images.labels == number)
        chosen = rng.permutation(found)[: columns * rows]
        pictures = [np.asarray(images.images[i]) for i in chosen]
        lines += [(label if not i else "", pictures[i : i + columns]) for i in range(0, max(1, len(pictures)), columns)]
    return _write(path, _sheet(lines, size, columns))


def augmented_sheet(
    data: ImageData, augment: Augment, path: Path, *, size: int = 96, columns: int = 10, rows: int = 8, channels: int = 3, seed: int = 0
) -> Path:
    """Write a PNG: each line one training image as it is, then as ``augment`` changes it in the first epochs."""
    images = data.split("train", size, size, channels)
    augmenter = make_augmenter(augment, size, size, channels, seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:rows])
    lines = []
    for i in chosen:
        original = np.ascontiguousarray(images.images[i])
        changed = [augmenter(original[None], epoch, np.array([i]))[0] for epoch in range(columns - 1)]
        lines.append((data.labels[int(images.labels[i])], [original, *changed]))
    return _write(path, _sheet(lines, size, columns))


def _sheet(lines: list[tuple[str, list[Image]]], size: int, columns: int) -> NDArray[np.uint8]:
    margin, gap = 8 * max((len(label) for label, _ in lines), default=0) + 12, 2
    canvas = np.full((len(lines) * (size + gap) + gap, margin + columns * (size + gap), 3), 255, np.uint8)
    for line, (label, pictures) in enumerate(lines):
        top = gap + line * (size + gap)
        cv2.putText(canvas, label, (4, top + size // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.4, SHEET_INK, 1, cv2.LINE_AA)
        for column, picture in enumerate(pictures[:columns]):
            left = margin + column * (size + gap)
            canvas[top : top + size, left : left + size] = picture  # grey spreads over the three channels
    return canvas


def _write(path: Path, picture: NDArray[np.uint8]) -> Path:
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: pictures are written as PNG", f"name it {path.with_suffix('.png').name}")
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    with replacing(path) as file:
        file.write(data.tobytes())
    return path
