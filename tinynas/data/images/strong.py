"""``augment: wake-vision``: the Wake Vision challenge entry's pipeline in albumentations 2.0.8.

The entry's code uses argument names of albumentations 1.x, which 2.x ignores with a warning, so that its rain, fog,
shadows, flares and holes ran with other values than those written. Here they are what was written:
``fog_limit=(10, 20)`` is ``fog_coef_range=(0.1, 0.2)``; ``num_shadows_lower/upper`` is ``num_shadows_limit``;
``angle_lower=0.5`` is ``angle_range=(0.5, 1)``; ``min/max_holes``, ``_height`` and ``_width`` are ``num_holes_range``,
``hole_height_range`` and ``hole_width_range``; ``ShiftScaleRotate`` is ``Affine``. Normalisation is not part of it: it is
the same for every pipeline here.
"""

from __future__ import annotations

import os
import random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tinynas.data.draws import Batch, words
from tinynas.recipe import WakeVisionAugment

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask its package index for a newer version

import albumentations as A


class Fog(A.RandomFog):  # type: ignore[misc]
    """albumentations' fog, drawn at once instead of particle by particle.

    Faint fog on a small image has thousands of particles of one pixel's radius. Blending each over the whole image takes
    30 ms at 48 px, a hundred times our 0.35 ms. Blending white with weight a over a pixel k times is
    255 - (255 - pixel) * (1 - a)**k, so counting the particles over each pixel gives the same picture, without the 8-bit
    rounding of every step.
    """

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """How many particles lie over each pixel, (H, W), and the intensity: the library's own distribution."""
        rng = self.random_generator
        height, width = params["shape"][:2]
        intensity = float(rng.uniform(*self.fog_coef_range))
        region = max(1, int(width // 3 * intensity))
        across, down = width, height
        columns, rows = [], []
        for _ in range(10):
            if across <= region or down <= region:
                break
            count = int(across * down / (region * region) * intensity * 10)
            columns.append(rng.integers((width - 1) // 2 - across // 2, (width - 1) // 2 + across // 2, count, endpoint=True))
            rows.append(rng.integers((height - 1) // 2 - down // 2, (height - 1) // 2 + down // 2, count, endpoint=True))
            across, down = int(across * 0.9), int(down * 0.9)
        x, y = np.concatenate(columns or [np.zeros(0, np.int64)]), np.concatenate(rows or [np.zeros(0, np.int64)])
        largest = max(2, int(min(height, width) * 0.1 * intensity))
        radii = rng.integers(max(1, largest // 2), largest, len(x))
        pad = largest + 1
        cover = np.zeros((height, width), np.float32)
        for radius in np.unique(radii):
            here = radii == radius
            centres = np.bincount((y[here] + pad) * (width + 2 * pad) + x[here] + pad, minlength=(height + 2 * pad) * (width + 2 * pad))
            disk = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
            cv2.circle(disk, (int(radius), int(radius)), int(radius), 1.0, -1)
            spread = cv2.filter2D(centres.astype(np.float32).reshape(height + 2 * pad, -1), cv2.CV_32F, disk)
            cover += spread[pad : pad + height, pad : pad + width]
        return {"cover": cover, "intensity": intensity}

    def apply(self, img: Batch, cover: NDArray[np.float32], intensity: float, **params: Any) -> Batch:
        """``img`` (H, W, 3) in fog."""
        clear = np.power(1.0 - self.alpha_coef * intensity, np.rint(cover), dtype=np.float32)
        foggy = np.rint(255.0 - (255.0 - img) * clear[:, :, None]).astype(np.uint8)
        blur = max(3, min(img.shape[:2]) // 30) | 1
        return np.asarray(cv2.GaussianBlur(foggy, (blur, blur), 0), dtype=np.uint8)


STEPS = ("crop", "flip", "color", "blur", "affine", "weather", "dropout")
"""The steps in order."""


def pipeline(settings: WakeVisionAugment, height: int, width: int) -> dict[str, Any]:
    """The steps by name, in order; each is an albumentations transform for RGB uint8 images of ``height`` x ``width``."""
    side, strengths = min(height, width), settings.strengths
    # The ratio is that of a square's crop, as on a GPU: of other shapes a crop keeps the shape.
    ratio = tuple(share * width / height for share in strengths.crop_ratio)
    hole = (max(1, round(settings.hole_size[0] * side)), max(1, round(settings.hole_size[1] * side)))
    return {
        "crop": A.RandomResizedCrop(size=(height, width), scale=strengths.crop_scale, ratio=ratio, interpolation=cv2.INTER_LINEAR, p=1.0),
        "flip": A.HorizontalFlip(p=strengths.flip),
        "color": A.SomeOf(
            [
                A.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, p=1.0),
                A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=1.0),
                A.ToGray(p=1.0),
                A.CLAHE(clip_limit=(1.0, 4.0), tile_grid_size=(8, 8), p=1.0),
            ],
            n=1,
            p=strengths.color,
        ),
        "blur": A.OneOf([A.GaussianBlur(blur_limit=(3, 7), p=1.0), A.MotionBlur(blur_limit=7, p=1.0)], p=settings.blur),
        "affine": A.Affine(
            translate_percent=(-0.05, 0.05),
            scale=(0.9, 1.1),
            rotate=(-10, 10),
            interpolation=cv2.INTER_LINEAR,
            border_mode=cv2.BORDER_REFLECT_101,
            p=strengths.affine,
        ),
        "weather": A.OneOf(
            [
                A.RandomRain(brightness_coefficient=0.9, drop_length=8, drop_width=1, blur_value=5, rain_type="drizzle", p=1.0),
                Fog(fog_coef_range=(0.1, 0.2), alpha_coef=0.05, p=1.0),
                A.RandomShadow(shadow_roi=(0, 0.5, 1, 1), num_shadows_limit=(1, 2), shadow_dimension=5, p=1.0),
                A.RandomSunFlare(
                    flare_roi=(0, 0, 1, 0.5), angle_range=(0.5, 1), src_radius=max(2, round(settings.flare_radius * side)), p=1.0
                ),
            ],
            p=settings.weather,
        ),
        "dropout": A.CoarseDropout(num_holes_range=settings.holes, hole_height_range=hole, hole_width_range=hole, p=settings.dropout),
    }


class Strong:
    """The full pipeline for batches; each image's random numbers follow from (seed, epoch, index)."""

    def __init__(self, settings: WakeVisionAugment, height: int, width: int, channels: int, seed: int) -> None:
        self.seed = seed
        self.channels = channels
        self._python = random.Random()
        self._bits = np.random.PCG64(0)
        steps = pipeline(settings, height, width)
        # Two generators shared by every transform: reseeding them for an image takes 10 us; Compose.set_random_seed,
        # which makes new ones for each transform, takes as long as the whole pipeline.
        self._compose = A.Compose(list(steps.values()), is_check_shapes=False)
        self._compose.set_random_state(np.random.Generator(self._bits), self._python)
        cv2.setNumThreads(1)

    def __call__(self, images: Batch, epoch: int, indices: NDArray[np.int64]) -> Batch:
        """``images`` (B, H, W, C) changed; see ``tinynas.data.split.Augmenter``."""
        result = np.empty(images.shape, np.uint8)
        for image, state, out in zip(images, words(self.seed, epoch, indices, 3).tolist(), result, strict=True):
            self._python.seed(state[0])
            self._bits.state = {
                "bit_generator": "PCG64",
                "state": {"state": state[1] << 64 | state[2], "inc": state[2] | 1},
                "has_uint32": 0,
                "uinteger": 0,
            }
            color = image if self.channels == 3 else np.repeat(image, 3, axis=2)
            changed = self._compose(image=np.ascontiguousarray(color))["image"]
            out[...] = changed if self.channels == 3 else cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY)[:, :, None]
        return result
