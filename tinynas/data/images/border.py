"""Borders of one colour around a picture: bars of films, the rest of a canvas, scanners' lids; found, and cut away.

A border is what lies between a side of the image and the first line that differs from it: rows or columns that are all of the colour of
the outermost one. JPEG leaves ripples beside a picture's edge, within the block of pixels that holds it: lines behind a flat one may be a
little less so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynas.data.images.decode import Image

FLAT = 4
"""Levels (of 256) between the darkest and the brightest pixel of a border's outermost line, at most, in each channel."""
RIPPLE = 12
"""Levels by which the lines behind it may differ from its colour: what JPEG leaves of a sharp edge within its block, at usual qualities."""
LEAST = 4
"""Pixels along a side that a picture has at least: what leaves less is no border but an image of one colour."""


_AT_ONCE = 16
"""Lines that are compared at once."""


class Inside(NamedTuple):
    """The rows top..bottom and the columns left..right that a picture fills, the ends not among them."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left


def inside(image: Image) -> Inside:
    """What of ``image`` (height, width, channels) is no border; all of it where there is none, or where nothing else is left.

    Sides are looked at in turn until none has a border: bars in bars, each of a colour of its own, are found too.
    """
    whole = Inside(0, image.shape[0], 0, image.shape[1])
    found = whole
    while True:
        before = found
        top, bottom, left, right = found
        top += _lines(image[top:bottom, left:right])
        bottom -= _lines(image[top:bottom, left:right][::-1])
        left += _lines(image[top:bottom, left:right].swapaxes(0, 1))
        right -= _lines(image[top:bottom, left:right].swapaxes(0, 1)[::-1])
        found = Inside(top, bottom, left, right)
        if min(found.size) < min(LEAST, *whole.size):
            return whole
        if found == before:
            return found


def cut(image: Image) -> Image:
    """``image`` without its borders; see :func:`inside`."""
    top, bottom, left, right = inside(image)
    return image[top:bottom, left:right]


def _lines(image: Image) -> int:
    """How many lines from the first on are of its colour, all of them where the image is; 0 where the first is of several."""
    if not image.size:
        return 0
    lowest, highest = image[0].min(axis=0), image[0].max(axis=0)
    if (highest - lowest).max() > FLAT:  # most images have no border and end here, after one line
        return 0
    colour = (lowest.astype(np.int16) + highest) / 2
    for start in range(0, len(image), _AT_ONCE):
        over = np.flatnonzero(np.abs(image[start : start + _AT_ONCE] - colour).max(axis=(1, 2)) > RIPPLE)
        if len(over):
            return start + int(over[0])
    return len(image)
