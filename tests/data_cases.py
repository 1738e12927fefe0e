"""Image folders, made in tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from tinynas.data import DataSet, Split


def picture(seed: int, height: int = 24, width: int = 24, channels: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)


def write_image(path: Path, seed: int, **shape: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, picture(seed, **shape))
    assert done
    path.write_bytes(data.tobytes())


def make_folder(root: Path, counts: Mapping[str, int], start: int = 0, suffix: str = ".png") -> Path:
    """``counts`` maps sub-folders (class, or split/class) to their number of images, all different."""
    seed = start
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            write_image(root / folder / f"{i:03d}{suffix}", seed)
            seed += 1
    return root


def names(data: DataSet, split: str) -> set[str]:
    return {data.records[int(i)].name for i in data.members[split]}


def toy(n: int = 90) -> Split:
    labels = np.arange(n) % 3 // 2
    return Split(np.arange(n * 12, dtype=np.uint32).astype(np.uint8).reshape(n, 2, 2, 3), labels, tuple(map(str, range(n))))
