"""Transparency: which images have it, by their first bytes, and how it is laid on mid gray, whatever the format.

OpenCV reads an image as colors, without its alpha, or unchanged, with it: EXIF turns the first and not the second, and what stands
behind transparent pixels is whatever a program left there.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tinynas.data.records import BadInput

GREY = 128
"""What padding is filled with, and what transparent pixels show: the pixel that normalises to 0."""
_SAMPLES, _PHOTOMETRIC, _EXTRA = 277, 262, 338
"""Tags of TIFF: channels of a pixel, what the first ones are, what the others are."""
_OPACITY = (1, 2)
"""What TIFF and JPEG 2000 call a channel that is opacity: of a plain image or of one multiplied by it; in TIFF the other way round."""


@dataclass(frozen=True)
class Alpha:
    """How a file says that it is transparent."""

    multiplied: bool = False
    """Whether the colors that OpenCV reads are multiplied by it."""
    gray: int | None = None
    """The one gray that is transparent, of a PNG without a channel for it."""
    opaque: int | None = None
    """The value that hides all; None: the largest of its type."""
    demanded: bool = False
    """Whether the file has a channel of it for sure."""
    unused: bool = False
    """Whether a channel of zeros says nothing, as in bitmaps of programs that leave its byte out."""


def alpha_of(data: bytes) -> Alpha | None:
    """How the encoded image ``data`` is transparent; None where it is not, or its head cannot be understood."""
    try:
        return _found(data)
    except (struct.error, IndexError, OverflowError):
        return None


def laid_on_grey(data: bytes, alpha: Alpha, color: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``color``, OpenCV's of ``data``, with mid gray where it is transparent. Raises BadInput where its transparency cannot be read."""
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is not None and raw.ndim == 2 and alpha.gray is not None:
        opacity: NDArray[Any] = (raw != alpha.gray).astype(np.uint8) * 255
    elif raw is not None and raw.ndim == 3 and raw.shape[2] == 4:
        opacity = raw[:, :, 3]
    elif alpha.demanded:
        raise BadInput("gray with transparency, which is read of PNG alone: convert it to PNG")
    else:
        return color
    if alpha.unused and not opacity.any():
        return color
    opacity = _turned(data, opacity, color)
    if opacity.shape != color.shape[:2]:
        return color
    top = alpha.opaque or np.iinfo(opacity.dtype).max
    share = opacity[:, :, None].astype(np.float32) / np.float32(top)
    mixed: NDArray[np.float32] = color * (1 if alpha.multiplied else share) + GREY * (1 - share)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _turned(data: bytes, raw: NDArray[Any], color: NDArray[np.uint8]) -> NDArray[Any]:
    """``raw`` as ``color`` lies: EXIF turns what is read as color, and not what is read unchanged."""
    if not any(mark in data for mark in (b"eXIf", b"EXIF", b"Exif")):
        return raw
    lying = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)

    def turn(image: NDArray[Any], mirrored: bool, quarters: int) -> NDArray[Any]:
        return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, quarters))

    ways = itertools.product((False, True), range(4)) if lying is not None else ()
    return next((turn(raw, *way) for way in ways if np.array_equal(turn(np.asarray(lying), *way), color)), raw)


# formats ----------------------------------------------------------------------------------------------


def _found(data: bytes) -> Alpha | None:
    if data.startswith(b"\x89PNG"):
        return _png(data)
    if data[:4] == b"RIFF":
        return Alpha() if data[12:16] in (b"VP8X", b"VP8L") else None
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(data)
    if data[4:8] == b"jP  ":
        return _jpeg_2000(data)
    if data[4:8] == b"ftyp":
        return Alpha() if b":auxiliary:alpha" in data else None
    if data[:4] == b"GIF8":
        return Alpha() if b"!\xf9\x04" in data else None
    if data[:2] == b"BM":
        # Headers of 56 bytes and more have a mask for it.
        (header,) = struct.unpack_from("<I", data, 14)
        return Alpha(unused=True) if header >= 56 and any(data[66:70]) else None
    return None


def _png(data: bytes) -> Alpha | None:
    depth, color = data[24], data[25]
    at = data.find(b"tRNS", 0, data.find(b"IDAT"))
    if at < 0:
        return Alpha() if color in (4, 6) else None
    if color != 0:
        return Alpha()
    # Fewer than 8 bits are read as 8.
    (gray,) = struct.unpack_from(">H", data, at + 4)
    return Alpha(gray=gray * 255 // (2**depth - 1) if depth < 8 else gray)


def _tiff(data: bytes) -> Alpha | None:
    """libtiff multiplies colors by a channel that is said to be opacity; what has a fourth channel of which nothing is said is written
    by OpenCV, whose fourth channel is opacity."""
    order, big = "<" if data[:2] == b"II" else ">", data[2] + data[3] == 43
    (at,) = struct.unpack_from(f"{order}Q", data, 8) if big else struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, at)
    at, step, value = (at + 8, 20, 12) if big else (at + 2, 12, 8)
    tags = {}
    for entry in range(at, at + step * min(count, 4096), step):
        # Of a list the first; what is told here has one value where it matters.
        tag, _, number = struct.unpack_from(f"{order}HH{'Q' if big else 'I'}", data, entry)
        tags[tag] = number, struct.unpack_from(f"{order}H", data, entry + value)[0]
    if _EXTRA in tags:
        number, kind = tags[_EXTRA]
        return Alpha(multiplied=True, demanded=True) if number == 1 and kind in _OPACITY else None
    return Alpha() if tags.get(_SAMPLES, (1, 1))[1] == 4 and tags.get(_PHOTOMETRIC, (1, 0))[1] == 2 else None


def _jpeg_2000(data: bytes) -> Alpha | None:
    """Its boxes say what a channel is; of one that they say nothing about nothing is known (infrared, for one)."""
    codestream = data.find(b"\xff\x4f\xff\x51")
    at = data.find(b"cdef", 0, codestream)
    if codestream < 0 or at < 0:
        return None
    (channels,) = struct.unpack_from(">H", data, codestream + 40)
    (said,) = struct.unpack_from(">H", data, at + 4)
    kinds = dict(struct.unpack_from(">HH", data, at + 6 + 6 * i) for i in range(said))
    kind = kinds.get(channels - 1)
    if kind not in _OPACITY:
        return None
    bits = (data[codestream + 42 + 3 * (channels - 1)] & 0x7F) + 1
    return Alpha(multiplied=kind == 2, opaque=2**bits - 1 if bits <= 16 else None, demanded=True)
