"""Feeds: augmented training batches on the device, by image numbers.

On a CPU images come from the memory map and go through numpy and OpenCV. On a GPU the whole split lies in its memory and is
augmented there: a step of a tiny network takes about as long as one copy from the host, so nothing is copied but numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinynas.data import Split
from tinynas.data.augment import make_augmenter
from tinynas.data.gpu import make_gpu_augmenter
from tinynas.recipe import Augment

Feed = Callable[[int, NDArray[np.int64]], tuple[Tensor, Tensor]]
"""(epoch, image numbers) -> uint8 images (B, H, W, C) and int64 labels (B,) on the device."""

#: Share of a GPU's free memory that the images may take; the rest is for activations and for other candidates.
RESIDENT_SHARE = 0.4


def make_feed(split: Split, augment: Augment, seed: int, device: torch.device, resident: bool | None = None) -> Feed:
    """The feed for ``split`` on ``device``; ``resident`` None lets the device and the size decide."""
    if resident is None:
        resident = device.type == "cuda" and split.images.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
    return _Resident(split, augment, seed, device) if resident else _Host(split, augment, seed, device)


class _Host:
    def __init__(self, split: Split, augment: Augment, seed: int, device: torch.device) -> None:
        _, height, width, channels = split.images.shape
        self.split, self.device = split, device
        self.augmenter = make_augmenter(augment, height, width, channels, seed)

    def __call__(self, epoch: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(self.augmenter(self.split.images[indices], epoch, indices))
        labels = torch.from_numpy(self.split.labels[indices])
        if self.device.type == "cuda":
            images, labels = images.pin_memory(), labels.pin_memory()
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


class _Resident:
    def __init__(self, split: Split, augment: Augment, seed: int, device: torch.device) -> None:
        _, height, width, channels = split.images.shape
        self.images = torch.from_numpy(np.array(split.images)).to(device)
        self.labels = torch.from_numpy(np.array(split.labels)).to(device)
        self.augmenter = make_gpu_augmenter(augment, height, width, channels, seed)

    def __call__(self, epoch: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(indices).to(self.images.device, non_blocking=True)
        return self.augmenter(self.images[rows], epoch, indices), self.labels[rows]
