"""Feeds: augmented training batches on the device, by image numbers.

On a CPU inputs come from the memory map and go through numpy and OpenCV. On a GPU the whole split lies in its memory and is
augmented there: a step of a tiny network takes about as long as one copy from the host, so nothing is copied but numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinynas.data import Split
from tinynas.data.images.augment import make_augmenter
from tinynas.data.images.gpu import TensorAugmenter, make_gpu_augmenter
from tinynas.data.split import Augmenter
from tinynas.errors import DataError
from tinynas.recipe import Augment

Feed = Callable[[int, NDArray[np.int64]], tuple[Tensor, Tensor]]
"""(epoch, input numbers) -> uint8 inputs (B, H, W, C) and int64 labels (B,) on the device."""

#: Share of a GPU's free memory that the inputs may take; the rest is for activations and for other candidates.
RESIDENT_SHARE = 0.4


@dataclass(frozen=True)
class Augmenters:
    """How training may change inputs of one kind; each maker takes (settings, height, width, channels, seed)."""

    host: Callable[[Augment, int, int, int, int], Augmenter]
    tensors: Callable[[Augment, int, int, int, int], TensorAugmenter]


AUGMENTERS: dict[str, Augmenters] = {"image": Augmenters(make_augmenter, make_gpu_augmenter)}
"""By the kind of a split. A kind without a row is trained on as it is, with ``recipe.augment.kind`` none."""
UNCHANGED = Augmenters(lambda *_: lambda inputs, epoch, indices: inputs, lambda *_: lambda inputs, epoch, indices: inputs)


def augmenters_for(split: Split, augment: Augment) -> Augmenters:
    """The augmenters for the kind of ``split``. Raises DataError where ``augment`` says nothing sensible of it."""
    if augment.kind == "none":
        return UNCHANGED
    if split.kind not in AUGMENTERS:
        raise DataError(
            f"recipe.augment.kind {augment.kind!r} changes {'s, '.join(AUGMENTERS)}s, and these inputs are {split.kind}s",
            "train on them as they are: --set recipe.augment.kind=none",
        )
    return AUGMENTERS[split.kind]


def make_feed(split: Split, augment: Augment, seed: int, device: torch.device, resident: bool | None = None) -> Feed:
    """The feed for ``split`` on ``device``; ``resident`` None lets the device and the size decide.

    Raises DataError where inputs of this kind cannot be augmented so.
    """
    if resident is None:
        resident = device.type == "cuda" and split.inputs.nbytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
    return _Resident(split, augment, seed, device) if resident else _Host(split, augment, seed, device)


class _Host:
    def __init__(self, split: Split, augment: Augment, seed: int, device: torch.device) -> None:
        _, height, width, channels = split.inputs.shape
        self.split, self.device = split, device
        self.augmenter = augmenters_for(split, augment).host(augment, height, width, channels, seed)

    def __call__(self, epoch: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        inputs = torch.from_numpy(self.augmenter(self.split.inputs[indices], epoch, indices))
        labels = torch.from_numpy(self.split.labels[indices])
        if self.device.type == "cuda":
            inputs, labels = inputs.pin_memory(), labels.pin_memory()
        return inputs.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


class _Resident:
    def __init__(self, split: Split, augment: Augment, seed: int, device: torch.device) -> None:
        _, height, width, channels = split.inputs.shape
        self.inputs = torch.from_numpy(np.array(split.inputs)).to(device)
        self.labels = torch.from_numpy(np.array(split.labels)).to(device)
        self.augmenter = augmenters_for(split, augment).tensors(augment, height, width, channels, seed)

    def __call__(self, epoch: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(indices).to(self.inputs.device, non_blocking=True)
        return self.augmenter(self.inputs[rows], epoch, indices), self.labels[rows]
