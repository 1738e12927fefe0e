"""What the shared files need to know of images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from tinynas.data.images.decode import decode
from tinynas.data.images.fit import resize
from tinynas.data.options import DataOptions
from tinynas.data.signal import Signal, no_advice

PIXELS = 1
"""Version of how pixels are made (decoding, resizing)."""
MUCH = 0.3
"""A crop that loses more than this share of the usual image is worth a warning."""


def image_signal(options: DataOptions) -> Signal:
    """RGB or gray images, fitted as ``options.fit`` says."""
    return Signal(
        kind="image",
        version=PIXELS,
        how=options.fit,
        channels=(1, 3),
        decode=decode,
        fit=partial(resize, fit=options.fit),
        unit=" px",
        advice=_lost_to_the_crop if options.fit == "crop" else no_advice,
    )


def measure(data: bytes) -> tuple[int, int]:
    """(height, width) of an encoded image, decoded to be sure that it can be. Raises BadInput."""
    height, width = decode(data).shape[:2]
    return height, width


def _lost_to_the_crop(sizes: Sequence[tuple[int, int]]) -> list[str]:
    lost = float(np.median([1 - min(size) / max(size) for size in sizes])) if sizes else 0.0
    if lost <= MUCH:
        return []
    return [
        f"half of the images lose more than {100 * lost:.0f} % where their centre is cut out for a square input: "
        "consider an input of their shape, or --set data.fit=pad or squash"
    ]
