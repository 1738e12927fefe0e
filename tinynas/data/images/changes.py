"""Settings of augmentation, and the random numbers all of it draws.

Every random number follows from (seed, epoch, index of the image) by hashing, not from a generator's state: an image is
augmented alike whatever batch, process or resumed run it is in.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tinynas.config import Config

Batch = NDArray[np.uint8]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=10)]


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


class WakeVisionAugment(Config):
    """Settings of ``wake-vision``: the pipeline of the Wake Vision challenge entry mcunet-tiny2, step by step.

    The values are the entry's. Sizes it gives in pixels at its 48 px are shares of the side here, so that they scale.
    """

    crop_scale: tuple[Share, Share] = (0.8, 1.0)
    """Share of the area a random crop keeps, from and to; it is resized back to the full size."""
    crop_ratio: tuple[Ratio, Ratio] = (0.75, 1.33)
    """Aspect ratio of the crop, from and to."""
    flip: Probability = 0.5
    """Probability of a mirror image."""
    color: Probability = 0.4
    """Probability of one of: color jitter, brightness and contrast, grey, local contrast (CLAHE)."""
    blur: Probability = 0.3
    """Probability of a Gaussian or motion blur with a kernel of 3 to 7 pixels."""
    affine: Probability = 0.2
    """Probability of a shift (5 %), scale (10 %) and rotation (10 degrees), mirrored at the border."""
    weather: Probability = 0.15
    """Probability of one of: drizzle, fog, shadows, sun flare."""
    dropout: Probability = 0.2
    """Probability of black holes."""
    holes: tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]] = (4, 8)
    """Number of holes, from and to."""
    hole_size: tuple[Share, Share] = (8 / 48, 16 / 48)
    """Height and width of a hole as a share of the side, from and to: 8 to 16 px at 48 px."""
    flare_radius: Annotated[float, Field(gt=0, le=10)] = 400 / 224
    """Radius of the sun as a share of the side. The library's 400 px suit its usual 224 px; at 48 px they leave a white image."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("crop_scale", "crop_ratio", "holes", "hole_size"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: {low:g} is more than {high:g}; write the smaller one first")
        return self


class Augment(Config):
    """What is done to training images."""

    kind: Literal["none", "light", "wake-vision"] = "light"
    """``none``; ``light`` for proxies (tens of thousands of images/s a core); ``wake-vision``, the strong pipeline."""
    light: LightAugment = LightAugment()
    """Settings of ``light``."""
    wake_vision: WakeVisionAugment = WakeVisionAugment()
    """Settings of ``wake-vision``."""


def words(seed: int, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """Random 64-bit words, (B, count), that follow from (seed, epoch, index): splitmix64 (Steele et al., OOPSLA 2014) as a hash."""
    step = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        base = _mix(_mix(np.array([seed], np.uint64) + step) ^ np.uint64(epoch))
        stream = _mix(base ^ np.asarray(indices).astype(np.uint64))
        return _mix(stream[:, None] + (np.arange(1, count + 1, dtype=np.uint64) * step)[None])


def uniforms(seed: int, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), (B, count), that follow from (seed, epoch, index)."""
    return (words(seed, epoch, indices, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
