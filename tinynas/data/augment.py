"""What is done to training images: nothing, a light and fast change, or the Wake Vision entry's full pipeline.

Every random number follows from (seed, epoch, index of the image) by hashing, not from a generator's state: an image is
augmented alike whatever batch, process or resumed run it is in.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tinynas.config import Config

Batch = NDArray[np.uint8]
Probability = Annotated[float, Field(ge=0, le=1)]


class LightAugment(Config):
    """Settings of ``light``: a mirror image, a small affine change and a change of light."""

    flip: Probability = 0.5
    """Probability of a mirror image."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest rotation, in degrees, either way."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Largest change of scale, as a share: 0.15 is from 0.85 to 1.15."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0.08
    """Largest shift, as a share of the side."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Largest change of brightness, as a share of the full range."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Largest change of contrast, as a share, about mid grey."""


class Augment(Config):
    """What is done to training images."""

    kind: Literal["none", "light", "wake-vision"] = "light"
    """``none``; ``light`` for proxies (tens of thousands of images/s a core); ``wake-vision``, the strong pipeline."""
    light: LightAugment = LightAugment()
    """Settings of ``light``."""


class Augmenter(Protocol):
    """Changes a batch of images."""

    def __call__(self, images: Batch, epoch: int, indices: NDArray[np.int64]) -> Batch:
        """``images`` (B, H, W, C), changed; image ``b`` is number ``indices[b]`` of its split."""
        ...


def make_augmenter(augment: Augment, height: int, width: int, channels: int, seed: int) -> Augmenter:
    """The augmenter for images of this shape. Deterministic in (seed, epoch, index)."""
    if augment.kind == "none":
        return _unchanged
    return Light(augment.light, height, width, channels, seed)


def _unchanged(images: Batch, epoch: int, indices: NDArray[np.int64]) -> Batch:
    return images


def uniforms(seed: int, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), (B, count), that follow from (seed, epoch, index): splitmix64 (Steele et al., OOPSLA 2014) as a hash."""
    base = _mix(_mix(np.array([seed], np.uint64) + np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(epoch))
    stream = _mix(base ^ np.asarray(indices).astype(np.uint64))
    with np.errstate(over="ignore"):
        steps = stream[:, None] + (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))[None]
    return (_mix(steps) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Light:
    """Mirror, rotation, scale and shift in one warp; brightness and contrast in one table."""

    def __init__(self, settings: LightAugment, height: int, width: int, channels: int, seed: int) -> None:
        self.settings = settings
        self.shape = (height, width, channels)
        self.seed = seed
        cv2.setNumThreads(1)  # the images are small: threads cost more than they bring, and candidates train side by side

    def __call__(self, images: Batch, epoch: int, indices: NDArray[np.int64]) -> Batch:
        """``images`` (B, H, W, C) changed; see :class:`Augmenter`."""
        s = self.settings
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
