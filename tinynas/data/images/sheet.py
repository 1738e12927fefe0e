"""Samples of a data set as a picture: as they are, and as training changes them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tinynas.data.dataset import DataSet
from tinynas.data.images.augment import make_augmenter
from tinynas.data.images.decode import Image
from tinynas.errors import DataError
from tinynas.files import replacing
from tinynas.recipe import Augment

SHEET_INK = (40, 40, 40)


def sample_sheet(
    data: DataSet, path: Path, *, split: str = "train", size: int = 96, columns: int = 8, rows: int = 2, seed: int = 0
) -> Path:
    """Write a PNG with ``rows`` lines of random images of each class (at most 20 classes) of ``split``, named.

    ``size``: their short side in pixels. Raises DataError for data that is no images, or a name that does not end in .png.
    """
    height, width = _cell(data, size)
    images = data.split(split, height, width, 3)
    lines: list[tuple[str, list[Image]]] = []
    rng = np.random.default_rng(seed)
    for number, label in list(enumerate(data.labels))[:20]:
        found = images.of_class(number)
        chosen = rng.permutation(found)[: columns * rows]
        pictures = [np.asarray(images.inputs[i]) for i in chosen]
        lines += [(label if not i else "", pictures[i : i + columns]) for i in range(0, max(1, len(pictures)), columns)]
    return write_picture(path, drawn(lines, height, width, columns))


def augmented_sheet(
    data: DataSet, augment: Augment, path: Path, *, size: int = 96, columns: int = 10, rows: int = 8, channels: int = 3, seed: int = 0
) -> Path:
    """Write a PNG: each line one training image as it is, then as ``augment`` changes it in the first epochs.

    Sizes and errors as of :func:`sample_sheet`.
    """
    height, width = _cell(data, size)
    images = data.split("train", height, width, channels)
    augmenter = make_augmenter(augment, height, width, channels, seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:rows])
    lines = []
    for i in chosen:
        original = np.ascontiguousarray(images.inputs[i])
        changed = [augmenter(original[None], epoch, np.array([i]))[0] for epoch in range(columns - 1)]
        lines.append((data.said_of(data.rows("train")[i]), [original, *changed]))
    return write_picture(path, drawn(lines, height, width, columns))


def _cell(data: DataSet, size: int) -> tuple[int, int]:
    """(height, width) of one picture: the shape the images have by themselves, its short side ``size``.

    Raises DataError for data of another kind.
    """
    if data.signal.kind != "image":
        raise DataError(f"{data.name}: a sheet of samples shows images, and these are {data.signal.kind}s", "leave --samples out")
    height, width = data.native_size
    return round(size * height / min(height, width)), round(size * width / min(height, width))


def drawn(lines: list[tuple[str, list[Image]]], height: int, width: int, columns: int) -> NDArray[np.uint8]:
    """Lines of pictures of ``height`` x ``width``, each line with its label before it."""
    margin, gap = 8 * max((len(label) for label, _ in lines), default=0) + 12, 2
    canvas = np.full((len(lines) * (height + gap) + gap, margin + columns * (width + gap), 3), 255, np.uint8)
    for line, (label, pictures) in enumerate(lines):
        top = gap + line * (height + gap)
        cv2.putText(canvas, label, (4, top + height // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.4, SHEET_INK, 1, cv2.LINE_AA)
        for column, picture in enumerate(pictures[:columns]):
            left = margin + column * (width + gap)
            canvas[top : top + height, left : left + width] = picture  # grey spreads over the three channels
    return canvas


def write_picture(path: Path, picture: NDArray[np.uint8]) -> Path:
    """``picture`` (RGB) as a PNG at ``path``. Raises DataError for another ending."""
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: pictures are written as PNG", f"name it {path.with_suffix('.png').name}")
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    with replacing(path) as file:
        file.write(data.tobytes())
    return path
