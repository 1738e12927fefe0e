"""What the shared files need to know of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinynas.data.images.border import cut, inside
from tinynas.data.images.decode import decode
from tinynas.data.images.fit import resize
from tinynas.data.options import DataOptions
from tinynas.data.records import Record, plural
from tinynas.data.scan import Measured
from tinynas.data.signal import Decoded, Signal
from tinynas.inputs import Input

PIXELS = 2
"""Version of how pixels are made (decoding, resizing)."""
SLIVER = 32
"""An image whose pixels lie within so many of the 256 levels is nearly flat to a network."""
SAMPLE = 128
"""Pixels along each side, at most, that the span of an image is measured on."""
MUCH = 0.3
"""A crop that loses more than this share of the usual image is worth a warning."""
WIDE = 0.2
"""A border that takes more than this share of an image is worth a warning, where a tenth of the images have one."""


def image_signal(options: DataOptions) -> Signal:
    """RGB or gray images, cut and fitted as ``options.border`` and ``options.fit`` say."""
    borders = options.border == "cut"

    def fit(image: Decoded, network: Input) -> NDArray[np.uint8]:
        return resize(cut(image) if borders else image, *network.shape, fit=options.fit)

    def advice(records: Sequence[Record]) -> list[str]:
        lost = _lost_to_the_crop(records) if options.fit == "crop" else []
        return [*([] if borders else _bordered(records)), *lost, *_advice(records)]

    return Signal(
        kind="image",
        version=PIXELS,
        how=f"{options.fit}-cut" if borders else options.fit,
        channels=(1, 3),
        decode=decode,
        fit=fit,
        unit=" px",
        advice=advice,
    )


def sized(records: Sequence[Record], options: DataOptions) -> list[Record]:
    """``records`` with the sizes that networks see of them: without borders where these are cut off."""
    if options.border == "keep":
        return list(records)
    return [record if record.inner is None else record._replace(size=record.inner) for record in records]


def made_notes(options: DataOptions) -> list[str]:
    """What those who use a network must know of how its images were made, where a device does otherwise by itself."""
    notes = []
    if options.border == "cut":
        notes.append(
            "borders of one colour are cut off (data.border=cut): a device must hand over the picture alone, as a detector or a fixed "
            "window cuts it out, without a canvas around it"
        )
    if options.fit != "crop":
        notes.append(
            f"images of another shape than the input are fitted by data.fit={options.fit}: the firmware's converter cuts out the centre, "
            "so that a device must hand over images of the input's shape, fitted likewise"
        )
    return notes


def measure(data: bytes) -> Measured:
    """Size and span of an encoded image, decoded to be sure that it can be. Raises BadInput."""
    pixels = decode(data)
    height, width = pixels.shape[:2]
    return Measured(height, width, span_of(pixels), inner=inside(pixels).size)


def span_of(pixels: Decoded) -> int:
    """The levels between the darkest and the brightest pixel, but for a thousandth at either end (dead pixels), at most 255."""
    height, width = pixels.shape[:2]
    sample = pixels[:: -(-height // SAMPLE), :: -(-width // SAMPLE)].reshape(-1, pixels.shape[2])
    ordered = np.sort(sample, axis=0)
    few = len(ordered) // 1000
    return int((ordered[len(ordered) - 1 - few].astype(int) - ordered[few]).max())


def _bordered(records: Sequence[Record]) -> list[str]:
    """That pictures are smaller than their images, and what can be done about it."""
    shares = [record.inner[0] * record.inner[1] / (record.size[0] * record.size[1]) for record in records if record.inner is not None]
    few = sum(share < 1 - WIDE for share in shares)
    if 10 * few < max(len(shares), 1):
        return []
    half = float(np.median([share for share in shares if share < 1 - WIDE]))
    return [
        f"{few:,} of {plural(len(shares), 'image')} have a border of one colour that takes more than {100 * WIDE:.0f} % of them; of these "
        f"half show their picture on at most {100 * half:.0f} % of their pixels: a network sees it small and beside the centre; where the "
        "device will not have such borders, --set data.border=cut takes them away"
    ]


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
