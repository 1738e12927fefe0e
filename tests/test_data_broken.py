"""Broken and odd images: each kind is counted with its reason, or read as it should be; none is fatal."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.data import open_data
from tinynas.data.images import decode
from tinynas.data.images.alpha import Alpha, alpha_of
from tinynas.data.records import BadInput


def picture(height: int = 40, width: int = 30) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(suffix: str, image: np.ndarray | None = None, *parameters: int) -> bytes:
    done, data = cv2.imencode(suffix, picture() if image is None else image, list(parameters))
    assert done
    return bytes(data.tobytes())


JPEG, PNG, BMP, GIF, WEBP = (encoded(s) for s in (".jpg", ".png", ".bmp", ".gif", ".webp"))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def jpeg_with_dimensions(width: int, height: int) -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "one byte": (b"\xff", "cannot be decoded"),
    "zeros": (bytes(5000), "cannot be decoded"),
    "noise": (np.random.default_rng(1).bytes(3000), "cannot be decoded"),
    "text": (b"this is no image\n" * 50, "cannot be decoded"),
    "an error page": (b"<!DOCTYPE html><html>404</html>", "text or a web page, not an image"),
    "an SVG": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "text or a web page, not an image"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "text or a web page, not an image"),
    "JPEG start only": (JPEG[:2], "truncated"),
    "JPEG header only": (JPEG[:200], "truncated"),
    "JPEG half": (JPEG[: len(JPEG) // 2], "truncated"),
    "JPEG without its end": (JPEG[:-2], "truncated"),
    "JPEG with a damaged header": (JPEG[:20] + b"\x00" * 40 + JPEG[60:], "damaged"),
    "JPEG of 0 pixels": (jpeg_with_dimensions(0, 0), "has no pixels"),
    "JPEG bomb": (jpeg_with_dimensions(65000, 65000), "more than 100 million pixels"),
    "PNG signature only": (PNG[:8], "truncated"),
    "PNG half": (PNG[: len(PNG) // 2], "truncated"),
    "PNG with a flipped byte": (flipped(PNG, len(PNG) // 2), "damaged"),
    "PNG bomb": (png_header(60000, 60000) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""), "more than 100 million pixels"),
    "PNG without pixels": (png_header(40, 30) + chunk(b"IEND", b""), "cannot be decoded"),
    "BMP cut off": (BMP[: len(BMP) // 2], "truncated"),
    "BMP header only": (BMP[:20], "truncated"),
    "GIF header only": (GIF[:9], "truncated"),
    "GIF cut off": (GIF[:30], "cannot be decoded"),
    "WebP cut off": (WEBP[: len(WEBP) // 2], "truncated"),
    "a PDF": (b"%PDF-1.7\n" + bytes(500), "PDF, not an image"),
    "a ZIP": (b"PK\x03\x04" + bytes(500), "ZIP archive, not an image"),
    "a photo of a phone": (b"\0\0\0\x18ftypheic" + bytes(500), "HEIC, which is not read: convert it to JPEG"),
    "a video": (b"\0\0\0\x18ftypisom" + bytes(500), "video, not an image"),
    "a TIFF of floats": (
        encoded(".tiff", np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)),
        "TIFF of a kind that is not read (such as floats)",
    ),
    "2 pixels wide": (encoded(".png", picture(40, 2)), "a side is shorter than 4 pixels"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_image_has_a_reason(kind: str) -> None:
    data, reason = BROKEN[kind]
    with pytest.raises(BadInput) as caught:
        decode(data)
    assert str(caught.value) == reason


def test_all_kinds_of_broken_images_in_one_folder_are_counted_and_survived(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(20):
            (tmp_path / label / f"{i}.png").write_bytes(encoded(".png", np.roll(picture(), (i, ord(label)), (0, 2))))
    for i, (data, _) in enumerate(BROKEN.values()):
        (tmp_path / "a" / f"broken{i:02d}.jpg").write_bytes(data)
    (tmp_path / "b" / "unreadable.jpg").symlink_to(tmp_path / "missing.jpg")
    found = open_data(tmp_path)
    assert len(BROKEN) >= 20 and len(found.bad) == len(BROKEN) + 1 and len(found.records) == 40
    reasons = {entry.name.split("/")[1]: entry.reason for entry in found.bad}
    assert [reasons[f"broken{i:02d}.jpg"] for i in range(len(BROKEN))] == [reason for _, reason in BROKEN.values()]
    assert any(f"{len(BROKEN) + 1} bad images left out" in note for note in found.notes)
    assert len(found.split("train", 16, 16, 3)) == 28


def exif(orientation: int) -> bytes:
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, orientation, 0) + bytes(4)
    body = b"Exif\x00\x00" + tiff
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + JPEG[2:]


def cmyk_jpeg() -> bytes:
    """The JPEG with four components cannot be written by OpenCV: a hand-made 8x8 one, every block of one DC value."""
    quant = b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 20, 8, 8, 8, 4) + b"".join(bytes([i, 0x11, 0]) for i in range(1, 5))
    # One Huffman code, a single 0 bit, for value 0: no difference, then end of block.
    huffman = b"".join(b"\xff\xc4" + struct.pack(">HB", 20, table) + bytes([1] + [0] * 15) + b"\x00" for table in (0x00, 0x10))
    scan = b"\xff\xda" + struct.pack(">HB", 14, 4) + b"".join(bytes([i, 0]) for i in range(1, 5)) + b"\x00\x3f\x00"
    adobe = b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)
    return b"\xff\xd8" + adobe + quant + frame + huffman + scan + b"\x00" + b"\xff\xd9"


def with_alpha(depth: type) -> np.ndarray:
    top = np.iinfo(depth).max
    image = np.full((8, 8, 4), top, depth)
    image[:, :4, 3] = 0  # the left half is transparent
    return image


def tiff(image: np.ndarray, extra: int | None, *, orientation: int = 1, order: str = "<", big: bool = False) -> bytes:
    """A TIFF of ``image`` (RGBA or gray with alpha) that says that its last channel is ``extra``; None: it says nothing of it."""
    height, width, channels = image.shape
    pixels = image.astype(image.dtype.newbyteorder(order)).tobytes()
    said: dict[int, list[int]] = {
        256: [width],
        257: [height],
        258: [8 * image.dtype.itemsize] * channels,
        259: [1],
        262: [2 if channels > 2 else 1],
        273: [0],
        274: [orientation],
        277: [channels],
        278: [height],
        279: [len(pixels)],
        **({} if extra is None else {338: [extra]}),
    }
    place, number, room = ("Q", "Q", 8) if big else ("I", "H", 4)
    start = 16 if big else 8
    begin = start + struct.calcsize(f"{order}{number}{place}") + len(said) * (20 if big else 12)
    behind = b""
    said[273] = [begin + 2 * channels * (2 * channels > room)]
    entries = b""
    for tag, values in said.items():
        long = tag in (256, 257, 273, 278, 279)
        value = struct.pack(f"{order}{len(values)}{'I' if long else 'H'}", *values)
        if len(value) > room:
            behind, value = value, struct.pack(f"{order}{place}", begin)
        entries += struct.pack(f"{order}HH{place}", tag, 4 if long else 3, len(values)) + value.ljust(room, b"\0")
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, start) if big else struct.pack(f"{order}HI", 42, start)
    names = b"II" if order == "<" else b"MM"
    return names + head + struct.pack(f"{order}{number}", len(said)) + entries + bytes(struct.calcsize(place)) + behind + pixels


def half_seen(depth: type = np.uint8, channels: int = 4) -> np.ndarray:
    """A third of it hidden, a third seen by half, a third seen; no color stands for another."""
    image = np.random.default_rng(3).integers(0, 256, (64, 64, channels)).astype(depth)
    image[..., -1] = np.array([0, 102, 255], depth)[np.arange(64) // 22]
    return image * (np.iinfo(depth).max // 255)


def on_grey(image: np.ndarray, *, multiplied: bool = False) -> np.ndarray:
    """What is seen of BGRA ``image``, in real numbers, in RGB."""
    real = image / (np.iinfo(image.dtype).max / 255)
    share = real[..., 3:] / 255
    return np.clip(real[..., 2::-1] * (1 if multiplied else share) + 128 * (1 - share), 0, 255)


def gray_png(depth: int, transparent: int) -> bytes:
    """8x8 pixels of gray, the values 0, 1, ... along each row, of which ``transparent`` is."""
    rows = np.arange(8).repeat(8).reshape(8, 8).T % 2**depth
    bits = ((rows[..., None] >> np.arange(depth)[::-1]) & 1).astype(np.uint8).reshape(8, -1)
    lines = b"".join(b"\0" + bytes(line) for line in np.packbits(bits, axis=1))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, 0, 0, 0, 0)) + chunk(b"tRNS", struct.pack(">H", transparent))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def close_to_picture(image: np.ndarray) -> bool:
    return image.shape == (40, 30, 3) and np.abs(image.astype(int) - picture()[:, :, ::-1]).mean() < 6


ODD: dict[str, tuple[bytes, Callable[[np.ndarray], bool]]] = {
    "color JPEG is RGB": (JPEG, close_to_picture),
    "PNG": (PNG, close_to_picture),
    "BMP": (BMP, close_to_picture),
    "WebP": (WEBP, close_to_picture),
    "GIF, first frame": (GIF, lambda i: i.shape == (40, 30, 3)),
    "TIFF": (encoded(".tiff"), close_to_picture),
    "PPM": (encoded(".ppm"), close_to_picture),
    "progressive JPEG": (encoded(".jpg", None, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), close_to_picture),
    "JPEG with bytes behind its end": (JPEG + b"trailing", close_to_picture),
    "JPEG with fill bytes": (JPEG[:2] + b"\xff\xff" + JPEG[2:], close_to_picture),
    "grey JPEG": (encoded(".jpg", picture()[:, :, 0]), lambda i: i.shape == (40, 30, 3) and (i[..., 0] == i[..., 2]).all()),
    "16 bit PNG": (encoded(".png", picture().astype(np.uint16) * 257), close_to_picture),
    "16 bit grey PNG": (encoded(".png", np.full((8, 8), 65535, np.uint16)), lambda i: i.shape == (8, 8, 3) and (i == 255).all()),
    "1 bit PNG": (encoded(".png", np.eye(8, dtype=np.uint8) * 255, cv2.IMWRITE_PNG_BILEVEL, 1), lambda i: set(np.unique(i)) == {0, 255}),
    "transparent PNG on grey": (
        encoded(".png", with_alpha(np.uint8)),
        lambda i: (i[:, :4] == 128).all() and (i[:, 4:] == 255).all(),
    ),
    "transparent 16 bit PNG": (encoded(".png", with_alpha(np.uint16)), lambda i: (i[:, :4] == 128).all() and (i[:, 4:] == 255).all()),
    "EXIF turned by 90 degrees": (exif(6), lambda i: i.shape == (30, 40, 3)),
    "EXIF upside down": (exif(3), lambda i: np.abs(i[::-1, ::-1].astype(int) - picture()[:, :, ::-1]).mean() < 6),
    "CMYK JPEG": (cmyk_jpeg(), lambda i: i.shape == (8, 8, 3)),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_image_is_read_as_it_should_be(kind: str) -> None:
    data, is_right = ODD[kind]
    image = decode(data)
    assert image.dtype == np.uint8 and image.flags.c_contiguous and is_right(image)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([JPEG, PNG, BMP, GIF, WEBP]), st.data())
def test_damage_anywhere_is_survived(data: bytes, draw: st.DataObject) -> None:
    cut = data[: draw.draw(st.integers(0, len(data)))]
    damaged = bytearray(cut)
    for _ in range(draw.draw(st.integers(0, 4))):
        if damaged:
            damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    try:
        image = decode(bytes(damaged))
    except BadInput as bad:
        assert 0 < len(str(bad)) < 60
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


WAYS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda x: x,
    lambda x: x[:, ::-1],
    lambda x: x[::-1, ::-1],
    lambda x: x[::-1],
    lambda x: x.transpose(1, 0, 2),
    lambda x: np.rot90(x, -1),
    lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    lambda x: np.rot90(x),
)
"""What EXIF's numbers stand for: mirrored, upside down, mirrored so, and these over the diagonal."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_transparency_is_turned_with_the_colors(orientation: int) -> None:
    rng = np.random.default_rng(orientation)
    image = rng.integers(0, 256, (20, 12, 4)).astype(np.uint8)
    plain = encoded(".png", image)
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01" + orientation.to_bytes(2, "big") + bytes(6)
    chunk = b"eXIf" + tiff
    turned = plain[:33] + len(tiff).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + plain[33:]
    lying, found = decode(plain), decode(turned)
    assert np.array_equal(found, WAYS[orientation - 1](lying))


RGBA = half_seen()[..., [2, 1, 0, 3]]
TRANSPARENT: dict[str, tuple[bytes, np.ndarray]] = {
    "PNG": (encoded(".png", half_seen()), on_grey(half_seen())),
    "WebP": (encoded(".webp", half_seen(), cv2.IMWRITE_WEBP_QUALITY, 101), on_grey(half_seen())),
    "AVIF": (encoded(".avif", half_seen(), cv2.IMWRITE_AVIF_QUALITY, 100), on_grey(half_seen())),
    "BMP": (encoded(".bmp", half_seen()), on_grey(half_seen())),
    "JPEG 2000": (encoded(".jp2", half_seen(), cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000), on_grey(half_seen())),
    "16 bit JPEG 2000": (
        encoded(".jp2", half_seen(np.uint16), cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000),
        on_grey(half_seen(np.uint16)),
    ),
    "TIFF of OpenCV": (encoded(".tiff", half_seen()), on_grey(half_seen())),
    "16 bit TIFF of OpenCV": (encoded(".tiff", half_seen(np.uint16)), on_grey(half_seen(np.uint16))),
    "TIFF": (tiff(RGBA, 2), on_grey(half_seen())),
    "BigTIFF": (tiff(RGBA, 2, big=True), on_grey(half_seen())),
    "TIFF of a Motorola": (tiff(RGBA, 2, order=">"), on_grey(half_seen())),
    "16 bit TIFF": (tiff(half_seen(np.uint16)[..., [2, 1, 0, 3]], 2), on_grey(half_seen(np.uint16))),
    "TIFF multiplied by it": (
        tiff(np.minimum(RGBA, RGBA[..., 3:]), 1),
        on_grey(np.minimum(half_seen(), half_seen()[..., 3:]), multiplied=True),
    ),
    "TIFF of four colors": (tiff(RGBA, 0), RGBA[..., :3]),
    "JPEG 2000 of four colors": (
        encoded(".jp2", half_seen(), cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000).replace(b"\0\3\0\1\0\0", b"\0\3\xff\xff\0\0"),
        RGBA[..., :3],
    ),
}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([data for data, _ in TRANSPARENT.values()]), st.data())
def test_a_damaged_head_says_something_of_transparency_or_nothing(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data[: draw.draw(st.integers(0, len(data)))])
    for _ in range(draw.draw(st.integers(0, 4))):
        if damaged:
            damaged[draw.draw(st.integers(0, min(len(damaged), 400) - 1))] = draw.draw(st.integers(0, 255))
    found = alpha_of(bytes(damaged))
    assert found is None or isinstance(found, Alpha)


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_is_laid_on_grey_in_every_format(kind: str) -> None:
    data, wanted = TRANSPARENT[kind]
    # AVIF is lossy, libtiff rounds once more and what is lossless is exact.
    slack = {"AVIF": 40}.get(kind, 1.5 if "TIFF" in kind or "16" in kind else 0.51)
    assert np.abs(decode(data).astype(float) - wanted).max() <= slack


def test_the_transparent_color_of_a_gif_is_grey() -> None:
    image = np.full((16, 16, 4), 255, np.uint8)
    image[:, :8] = (200, 10, 10, 0)
    found = decode(encoded(".gif", image))
    assert (found[:, :8] == 128).all() and (found[:, 8:] >= 250).all()


def test_a_bitmap_whose_alpha_nobody_has_written_is_seen() -> None:
    image = half_seen()
    image[..., 3] = 0
    assert np.array_equal(decode(encoded(".bmp", image)), image[..., 2::-1])


@pytest.mark.parametrize(("depth", "transparent"), [(1, 1), (2, 3), (4, 5), (8, 5), (16, 0)])
def test_the_transparent_gray_of_a_png_is_grey(depth: int, transparent: int) -> None:
    values = np.arange(8) % 2**depth
    seen = values * 255 // (2**depth - 1) if depth < 16 else 0 * values
    assert np.array_equal(decode(gray_png(depth, transparent))[0, :, 0], np.where(values == transparent, 128, seen))


@pytest.mark.parametrize("data", [tiff(half_seen(channels=2), 2), tiff(half_seen(np.uint16, 2), 1)], ids=["8 bit", "16 bit"])
def test_transparency_that_cannot_be_read_is_not_left_out_unsaid(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"^gray with transparency, which is read of PNG alone: convert it to PNG$"):
        decode(data)


def test_gray_with_another_second_channel_is_gray() -> None:
    image = half_seen(channels=2)
    assert np.array_equal(decode(tiff(image, 0))[..., 0], image[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_transparency_of_a_tiff_is_turned_with_the_colors(orientation: int) -> None:
    image = np.ascontiguousarray(RGBA[:40, :30])
    image[..., 3] = np.random.default_rng(orientation).integers(0, 2, (40, 30)) * 255
    wanted = WAYS[orientation - 1](decode(tiff(image, 2)))
    assert np.array_equal(decode(tiff(image, 2, orientation=orientation)), wanted)
