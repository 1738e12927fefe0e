"""What is done to training images: nothing, a light and fast change, or the Wake Vision entry's full pipeline."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from tinynas.data.draws import Batch, uniforms
from tinynas.data.split import Augmenter
from tinynas.recipe import Augment, LightAugment


def make_augmenter(augment: Augment, height: int, width: int, channels: int, seed: int) -> Augmenter:
    """The augmenter for images of this shape. Deterministic in (seed, epoch, index)."""
    if augment.kind == "none":
        return _unchanged
    if augment.kind == "light":
        return Light(augment.light, height, width, channels, seed)
    from tinynas.data.images.strong import Strong  # loads albumentations: seconds

    return Strong(augment.wake_vision, height, width, channels, seed)


def _unchanged(images: Batch, epoch: int, indices: NDArray[np.int64]) -> Batch:
    return images


class Light:
    """Mirror, rotation, scale and shift in one warp; brightness and contrast in one table."""

    def __init__(self, settings: LightAugment, height: int, width: int, channels: int, seed: int) -> None:
        self.strengths = settings.strengths
        self.shape = (height, width, channels)
        self.seed = seed
        cv2.setNumThreads(1)  # the images are small: threads cost more than they bring, and candidates train side by side

    def __call__(self, images: Batch, epoch: int, indices: NDArray[np.int64]) -> Batch:
        """``images`` (B, H, W, C) changed; see ``Augmenter``."""
        s = self.strengths
        height, width, _ = self.shape
        draw = uniforms(self.seed, epoch, indices, 7)
        signed = draw[:, 1:] * 2 - 1
        mirror = np.where(draw[:, 0] < s.flip, -1.0, 1.0)
        angle = signed[:, 0] * math.radians(s.rotate)
        scale = 1.0 + signed[:, 1] * s.zoom
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        move_x = centre_x + signed[:, 2] * s.shift * width
        move_y = centre_y + signed[:, 3] * s.shift * height
        # x' = R S M (x - centre) + centre + shift
        matrices = np.empty((len(images), 2, 3))
        matrices[:, 0, 0], matrices[:, 0, 1] = cos * mirror, -sin
        matrices[:, 1, 0], matrices[:, 1, 1] = sin * mirror, cos
        matrices[:, 0, 2] = move_x - matrices[:, 0, 0] * centre_x - matrices[:, 0, 1] * centre_y
        matrices[:, 1, 2] = move_y - matrices[:, 1, 0] * centre_x - matrices[:, 1, 1] * centre_y
        gains = 1.0 + signed[:, 4] * s.contrast
        offsets = 128.0 * (1 - gains) + signed[:, 5] * s.brightness * 255
        result = np.empty(images.shape, np.uint8)
        size = (width, height)
        for image, matrix, gain, offset, out in zip(images, matrices, gains.tolist(), offsets.tolist(), result, strict=True):
            warped = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            changed = cv2.addWeighted(warped, gain, warped, 0.0, offset)
            out[...] = changed.reshape(out.shape)
        return result
