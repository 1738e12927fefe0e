"""One image: bytes in, RGB pixels out (and back), or a :class:`BadInput` that says what is wrong with it.

OpenCV decodes; it fills the missing part of a truncated JPEG with grey and says nothing, so files are checked first:
a JPEG must reach its end marker, PNG chunks must match their checksums, dimensions must be sane.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from tinynas.data.images.alpha import alpha_of, laid_on_grey
from tinynas.data.majority import IMAGES
from tinynas.data.records import BadInput

Image = NDArray[np.uint8]

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded (a small file can unpack into gigabytes)."""
MIN_SIDE = 4
"""Images with a shorter side than this show nothing."""
MAX_BYTES = 256 * 1024 * 1024
"""Larger files are refused unread."""
EXTENSIONS = IMAGES
"""File names that end so are taken for images."""


# Broken images are reported by us, with their names; OpenCV's own lines on stderr would tear progress bars apart.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
cv2.setNumThreads(1)  # one image a thread is faster than many threads an image


def decode(data: bytes) -> Image:
    """RGB uint8 (H, W, 3) of an encoded image. Raises BadInput.

    EXIF rotation is applied, grey and CMYK are converted, 16 bits become 8, transparency is laid on mid grey, and of an
    animation the first frame counts.
    """
    if not data:
        raise BadInput("empty file")
    _check(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if pixels is not None and (alpha := alpha_of(data)) is not None:
            pixels = laid_on_grey(data, alpha, pixels)
    except (cv2.error, MemoryError):
        pixels = None
    if pixels is None:
        raise BadInput(_what_it_is(data))
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise BadInput(f"a side is shorter than {MIN_SIDE} pixels")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def encode_jpeg(image: Image, quality: int = 95) -> bytes:
    """JPEG bytes of an RGB image."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise BadInput("cannot be encoded")
    return bytes(data.tobytes())


# checks before decoding -------------------------------------------------------------------------------


def _check(data: bytes) -> None:
    """Refuse what need not be decoded to be known as bad; each check returns (height, width) where it finds them."""
    for magic, check in _CHECKS:
        if data.startswith(magic):
            try:
                size = check(data)
            except struct.error:
                raise BadInput("truncated") from None
            if size is not None:
                height, width = size
                if height <= 0 or width <= 0:
                    raise BadInput("has no pixels")
                if width * height > MAX_PIXELS:
                    raise BadInput(f"more than {MAX_PIXELS // 1_000_000} million pixels")
            return
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg", b"version https://git-lfs")):
        raise BadInput("text or a web page, not an image")


def _what_it_is(data: bytes) -> str:
    """Why something cannot be decoded: people rename files, and some formats are not read."""
    for place, magic, what in _OTHERS:
        if data.startswith(magic, place):
            return what
    return "cannot be decoded"


def _check_jpeg(data: bytes) -> tuple[int, int] | None:
    position, size = 2, None
    while True:
        while position < len(data) and data[position] == 0xFF and data[position + 1 : position + 2] == b"\xff":
            position += 1
        if position + 4 > len(data) or data[position] != 0xFF:
            raise BadInput("truncated" if position + 4 > len(data) else "damaged")
        marker = data[position + 1]
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and position + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (height, width)
        position += 2 + length
        if marker == 0xDA:
            break
    # Inside the entropy-coded data FF is always followed by 00 or a marker, so this is the end marker or nothing.
    if data.find(b"\xff\xd9", position) < 0:
        raise BadInput("truncated")
    return size


def _check_png(data: bytes) -> tuple[int, int] | None:
    position, size = 8, None
    while True:
        if position + 12 > len(data):
            raise BadInput("truncated")
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            raise BadInput("truncated")
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", data, position + 8)
            size = (height, width)
        if kind[:1].isupper() and zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise BadInput("damaged")
        position = end + 4
        if kind == b"IEND":
            return size


def _check_bmp(data: bytes) -> tuple[int, int] | None:
    if len(data) < 34:
        raise BadInput("truncated")
    offset, header = struct.unpack_from("<II", data, 10)
    if header < 40:
        return None
    width, height = struct.unpack_from("<ii", data, 18)
    bits, compression = struct.unpack_from("<HI", data, 28)
    if (
        compression == 0
        and 0 < width < 1 << 20
        and abs(height) < 1 << 20
        and offset + (width * bits + 31) // 32 * 4 * abs(height) > len(data)
    ):
        raise BadInput("truncated")
    return abs(height), width


def _check_gif(data: bytes) -> tuple[int, int] | None:
    if len(data) < 10:
        raise BadInput("truncated")
    width, height = struct.unpack_from("<HH", data, 6)
    return height, width


def _check_riff(data: bytes) -> tuple[int, int] | None:
    if len(data) < 12 or struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise BadInput("truncated")
    return None


_CHECKS: tuple[tuple[bytes, Callable[[bytes], tuple[int, int] | None]], ...] = (
    (b"\xff\xd8", _check_jpeg),
    (b"\x89PNG\r\n\x1a\n", _check_png),
    (b"BM", _check_bmp),
    (b"GIF8", _check_gif),
    (b"RIFF", _check_riff),
)


_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    *(
        (4, b"ftyp" + brand, "HEIC, which is not read: convert it to JPEG")
        for brand in (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")
    ),
    *((4, b"ftyp" + brand, "video, not an image") for brand in (b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ", b"avc1", b"3gp")),
    (0, b"\x1aE\xdf\xa3", "video, not an image"),
    (8, b"AVI LIST", "video, not an image"),
    (0, b"\xff\x0a", "JPEG XL, which is not read"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL, which is not read"),
    (0, b"8BPS", "Photoshop, which is not read"),
    (0, b"%PDF", "PDF, not an image"),
    (0, b"PK\x03\x04", "ZIP archive, not an image"),
    (0, b"\x1f\x8b", "archive, not an image"),
    (0, b"II*\x00", "TIFF of a kind that is not read (such as floats)"),
    (0, b"MM\x00*", "TIFF of a kind that is not read (such as floats)"),
    (0, b"II+\x00", "TIFF of a kind that is not read (such as floats)"),
)
"""Where a file has which bytes, and what it then is."""
