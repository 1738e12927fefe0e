"""Spectra of a data set's sounds as a picture, as a front end makes them: as they are, and as training changes them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from tinynas.data.dataset import DataSet
from tinynas.data.images.sheet import drawn, write_picture
from tinynas.data.sounds.augment import make_sound_augmenter
from tinynas.front_end import FrontEnd, SampleRate
from tinynas.recipe import Augment

CLASSES = 20


def usual_front_end(data: DataSet) -> FrontEnd:
    """Log-mel features of the length of the data's pieces, and of the highest usual rate that its recordings have, 16,000 at most."""
    rate = int(np.median([record.size[1] for record in data.records])) if data.records else 16000
    rates = [known for known in get_args(SampleRate) if known <= min(16000, rate)]
    return FrontEnd.model_validate({"sample_rate": max(rates, default=8000), "clip_ms": max(100, data.options.clip)})


def spectra_sheet(data: DataSet, path: Path, *, split: str = "train", size: int = 96, columns: int = 8, seed: int = 0) -> Path:
    """Write a PNG with a line of random sounds of each class (at most 20 classes) of ``split``, named; time runs to the right.

    ``size``: their height in pixels. Raises DataError for a name that does not end in .png.
    """
    front_end = usual_front_end(data)
    sounds = data.split(split, *front_end.shape, front_end=front_end)
    rng = np.random.default_rng(seed)
    lines = []
    for number, label in list(enumerate(data.labels))[:CLASSES]:
        chosen = rng.permutation(sounds.of_class(number))[:columns]
        lines.append((label, [picture(sounds.inputs[i], size) for i in chosen]))
    return _written(path, lines, front_end, size, columns)


def changed_sheet(data: DataSet, augment: Augment, path: Path, *, size: int = 96, columns: int = 8, rows: int = 8, seed: int = 0) -> Path:
    """Write a PNG: each line one training sound as it is, then as ``augment`` changes it in the first epochs. Errors as above."""
    front_end = usual_front_end(data)
    sounds = data.split("train", *front_end.shape, front_end=front_end)
    change = make_sound_augmenter(augment, sounds, seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(sounds))[:rows])
    lines = []
    for i in chosen:
        versions = [change(sounds.inputs[i][None], epoch, np.array([i]))[0] for epoch in range(columns - 1)]
        lines.append((data.said_of(data.rows("train")[i]), [picture(one, size) for one in (sounds.inputs[i], *versions)]))
    return _written(path, lines, front_end, size, columns)


def picture(features: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Features (frames, bins, 1) in colours, ``size`` pixels high; low frequencies are at the bottom."""
    frames = features.reshape(features.shape[0], -1)
    scaled = cv2.resize(np.ascontiguousarray(frames.T[::-1]), (_width(frames.shape[0], size), size), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB), np.uint8)


def _width(frames: int, size: int) -> int:
    return max(size, min(3 * frames, 4 * size))


def _written(path: Path, lines: list[tuple[str, list[NDArray[np.uint8]]]], front_end: FrontEnd, size: int, columns: int) -> Path:
    return write_picture(path, drawn(lines, size, _width(front_end.frames, size), columns))
