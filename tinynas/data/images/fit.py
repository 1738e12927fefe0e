"""How an image takes on the height and width that a network reads."""

from __future__ import annotations

from typing import Literal, assert_never

import cv2
import numpy as np

from tinynas.data.images.alpha import GREY
from tinynas.data.images.decode import Image

Fit = Literal["crop", "squash", "pad"]
"""Of ``data.fit``; see :func:`resize`."""


def resize(image: Image, height: int, width: int, channels: int, fit: Fit = "crop") -> Image:
    """``image`` (RGB) as uint8 (height, width, channels). Grey is the usual luma (0.299 R + 0.587 G + 0.114 B).

    ``crop`` cuts out the largest centred window of the ratio height : width and scales it: no part is distorted, two sides
    are lost. ``squash`` scales each side by itself: all is seen, distorted. ``pad`` scales to the largest size that fits
    and fills two sides with mid grey, the pixel that the network reads as 0. Portrait and landscape are treated alike.
    """
    match fit:
        case "crop":
            image = _scale(_window(image, height, width), height, width)
        case "squash":
            image = _scale(image, height, width)
        case "pad":
            image = _padded(image, height, width)
        case _:
            assert_never(fit)
    if channels == 1:
        image = np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return image.reshape(height, width, channels)


def _window(image: Image, height: int, width: int) -> Image:
    rows, columns = image.shape[:2]
    window_height = min(rows, max(1, round(columns * height / width)))
    window_width = min(columns, max(1, round(rows * width / height)))
    top, left = (rows - window_height) // 2, (columns - window_width) // 2
    return image[top : top + window_height, left : left + window_width]


def _padded(image: Image, height: int, width: int) -> Image:
    rows, columns = image.shape[:2]
    scale = min(height / rows, width / columns)
    inner = _scale(image, max(1, round(rows * scale)), max(1, round(columns * scale)))
    canvas = np.full((height, width, 3), GREY, np.uint8)
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return canvas


def _scale(image: Image, height: int, width: int) -> Image:
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    # Averaging when shrinking: point samples of bilinear interpolation would alias.
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), dtype=np.uint8)
