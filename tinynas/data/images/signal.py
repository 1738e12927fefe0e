"""What the shared files need to know of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynas.data.images.decode import decode
from tinynas.data.images.fit import resize
from tinynas.data.options import DataOptions
from tinynas.data.records import Record, plural
from tinynas.data.scan import Measured
from tinynas.data.signal import Decoded, Signal

PIXELS = 1
"""Version of how pixels are made (decoding, resizing)."""
SLIVER = 32
"""An image whose pixels lie within so many of the 256 levels is nearly flat to a network."""
SAMPLE = 128
"""Pixels along each side, at most, that the span of an image is measured on."""
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
        fit=lambda image, network: resize(image, *network.shape, fit=options.fit),
        unit=" px",
        advice=_advice if options.fit != "crop" else lambda records: _lost_to_the_crop(records) + _advice(records),
    )


def measure(data: bytes) -> Measured:
    """Size and span of an encoded image, decoded to be sure that it can be. Raises BadInput."""
    pixels = decode(data)
    height, width = pixels.shape[:2]
    return Measured(height, width, span_of(pixels))


def span_of(pixels: Decoded) -> int:
    """The levels between the darkest and the brightest pixel, but for a thousandth at either end (dead pixels), at most 255."""
    height, width = pixels.shape[:2]
    sample = pixels[:: -(-height // SAMPLE), :: -(-width // SAMPLE)].reshape(-1, pixels.shape[2])
    ordered = np.sort(sample, axis=0)
    few = len(ordered) // 1000
    return int((ordered[len(ordered) - 1 - few].astype(int) - ordered[few]).max())


def _lost_to_the_crop(records: Sequence[Record]) -> list[str]:
    lost = float(np.median([1 - min(record.size) / max(record.size) for record in records])) if records else 0.0
    if lost <= MUCH:
        return []
    return [
        f"half of the images lose more than {100 * lost:.0f} % where their centre is cut out for a square input: "
        "consider an input of their shape, or --set data.fit=pad or squash"
    ]


def _advice(records: Sequence[Record]) -> list[str]:
    """What the spans tell: images of a thermal or depth camera use a sliver of their 16 bits."""
    spans = [record.span for record in records if record.span is not None]
    if not spans:
        return []
    flat, sliver, half = spans.count(0), sum(span <= SLIVER for span in spans), int(np.median(spans))
    if half <= SLIVER:
        return [
            f"half of the images use at most {half + 1} of the 256 levels of a pixel (as 16-bit images of thermal and depth cameras do, "
            "whose lower 8 bits are dropped): a network sees them nearly flat; stretch all by one rule, the one that the device will use, "
            "and save them as 8-bit PNG"
        ]
    if 10 * sliver >= len(spans):
        some = f"{sliver:,} of {plural(len(spans), 'image')}"
        return [f"{some} use at most {SLIVER + 1} of the 256 levels of a pixel: nearly flat to a network"]
    return [f"{plural(flat, 'image')} of a single colour"] if flat else []
