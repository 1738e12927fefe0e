"""What is done to features in every epoch: a variant of the changed samples is taken (or given features are moved in time), and times
and bands are masked (SpecAugment)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinynas.data.draws import Batch, uniforms
from tinynas.data.split import Augmenter, Split
from tinynas.recipe import Augment, SoundAugment


def make_sound_augmenter(augment: Augment, split: Split, seed: int) -> Augmenter:
    """The augmenter for the sounds, or the features, of ``split``. Deterministic in (seed, epoch, index)."""
    return _unchanged if augment.kind == "none" else Masked(augment.sound, split, seed)


def _unchanged(inputs: Batch, epoch: int, indices: NDArray[np.int64]) -> Batch:
    return inputs


class Masked:
    """A variant an epoch, masked; features without sounds are moved in time instead."""

    def __init__(self, settings: SoundAugment, split: Split, seed: int) -> None:
        self.settings, self.split, self.seed = settings, split, seed

    def __call__(self, inputs: Batch, epoch: int, indices: NDArray[np.int64]) -> Batch:
        """``inputs`` (B, H, W, C) changed; see ``Augmenter``."""
        settings, anew = self.settings, self.split.anew
        if anew is not None:
            inputs = anew.variant(settings, epoch % settings.variants)[anew.rows[indices]]
        bands = 0 if _is_transform(inputs) else settings.band_masks
        draw = uniforms(self.seed, epoch, indices, 2 * (settings.time_masks + settings.band_masks) + 1)
        if anew is None:
            inputs = moved(inputs, draw[:, -1], settings.shift)
        return masked(inputs, draw, settings.time_masks, settings.time_mask, bands, settings.band_mask)


def _is_transform(inputs: Batch) -> bool:
    """Whether neighbouring features are hardly neighbouring frequencies: cosine transforms have few of them."""
    return bool(inputs.shape[2] * inputs.shape[3] <= 13)


def moved(inputs: Batch, draw: NDArray[np.float64], shift: float) -> Batch:
    """``inputs`` (B, frames, ...) later or earlier by up to ``shift`` of their frames; what is left open repeats the frame beside it.

    ``draw`` (B,) in [0, 1): 0 is as early as can be.
    """
    frames = inputs.shape[1]
    most = int(shift * frames)
    by = np.floor(draw * (2 * most + 1)).astype(np.int64) - most
    rows = np.clip(np.arange(frames) - by[:, None], 0, frames - 1)
    chosen: Batch = inputs[np.arange(len(inputs))[:, None], rows]
    return chosen


def masked(inputs: Batch, draw: NDArray[np.float64], times: int, longest: float, bands: int, widest: float) -> Batch:
    """``inputs`` (B, frames, features, 1) or (B, frames, 1, features) with stretches of time and bands at the mean of their feature.

    ``draw`` (B, 2 * (times + bands) or more): where each mask lies and how large it is.
    """
    flat = np.array(inputs).reshape(len(inputs), inputs.shape[1], -1)
    means = np.rint(flat.mean(axis=1)).astype(np.uint8)
    _, frames, features = flat.shape
    for clip, mean, u in zip(flat, means, draw, strict=True):
        for number in range(times + bands):
            along = frames if number < times else features
            size = int(u[2 * number] * ((longest if number < times else widest) * along + 1))
            start = int(u[2 * number + 1] * (along - size + 1))
            if number < times:
                clip[start : start + size] = mean
            else:
                clip[:, start : start + size] = mean[start : start + size]
    return flat.reshape(inputs.shape)
