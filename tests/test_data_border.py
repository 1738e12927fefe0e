"""Borders of one colour: found to the pixel, said where they are many, cut off where asked; and what is said of how images are made."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tinynas.cli import run
from tinynas.data import DataOptions, open_data
from tinynas.data.images.border import FLAT, RIPPLE, cut, inside
from tinynas.data.images.decode import decode
from tinynas.data.images.signal import image_signal
from tinynas.data.records import Record
from tinynas.inputs import Input


def noisy(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture without a line of one colour."""
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture[0, 0], picture[-1, -1], picture[0, -1], picture[-1, 0] = 0, 0, 255, 255  # no corner's line is flat
    return picture


def on_canvas(picture: NDArray[np.uint8], shape: tuple[int, int], at: tuple[int, int], colour: object) -> NDArray[np.uint8]:
    canvas = np.empty((*shape, 3), np.uint8)
    canvas[:] = colour
    canvas[at[0] : at[0] + picture.shape[0], at[1] : at[1] + picture.shape[1]] = picture
    return canvas


@given(
    size=st.tuples(st.integers(5, 30), st.integers(5, 30)),
    margins=st.tuples(*[st.integers(0, 20)] * 4),
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    seed=st.integers(0, 999),
)
def test_what_lies_on_a_canvas_is_found_to_the_pixel(
    size: tuple[int, int], margins: tuple[int, int, int, int], colour: tuple[int, int, int], seed: int
) -> None:
    top, bottom, left, right = margins
    picture = noisy(*size, seed)
    image = on_canvas(picture, (top + size[0] + bottom, left + size[1] + right), (top, left), colour)
    assert inside(image) == (top, top + size[0], left, left + size[1])
    assert inside(image).size == size
    assert np.array_equal(cut(image), picture)
    assert np.array_equal(cut(cut(image)), picture)


def test_bars_within_bars_are_found() -> None:
    picture = noisy(9, 7)
    inner = on_canvas(picture, (13, 7), (2, 0), (10, 200, 30))
    outer = on_canvas(inner, (13, 20), (0, 6), (255, 255, 255))
    assert np.array_equal(cut(outer), picture)


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_an_image_of_one_colour_is_whole(colour: int) -> None:
    image = np.full((20, 30, 3), colour, np.uint8)
    assert inside(image) == (0, 20, 0, 30)
    # Nor is what leaves a line or two a border.
    image[10] = noisy(1, 30)
    assert inside(image) == (0, 20, 0, 30)


def test_the_least_picture_by_hand() -> None:
    for rows, found in ((3, (0, 20, 0, 30)), (4, (8, 12, 0, 30))):
        image = np.full((20, 30, 3), 255, np.uint8)
        image[8 : 8 + rows] = noisy(rows, 30)
        assert inside(image) == found
    assert inside(np.zeros((1, 1, 3), np.uint8)) == (0, 1, 0, 1)


def test_how_flat_a_border_is_by_hand() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8] = noisy(8, 16)
    image[15, ::2] = FLAT  # its colour is 2
    assert inside(image) == (0, 8, 0, 16)
    image[15, 2] = FLAT + 1
    assert inside(image).bottom == 16
    image[15] = 0
    image[12, ::2] = RIPPLE  # every second pixel: a line of one colour would be a border in the border
    assert inside(image) == (0, 8, 0, 16)
    image[12, 2, 1] = RIPPLE + 1
    assert inside(image) == (0, 13, 0, 16)


@pytest.mark.parametrize("quality", [75, 92])
def test_jpeg_leaves_less_than_a_block(quality: int) -> None:
    grown = cv2.resize(noisy(6, 6, 3), (29, 29), interpolation=cv2.INTER_CUBIC)
    ok, encoded = cv2.imencode(".jpg", on_canvas(np.asarray(grown, np.uint8), (64, 64), (0, 0), 0), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    found = inside(decode(encoded.tobytes()))
    assert found.top == found.left == 0
    assert 28 <= found.bottom < 29 + 16
    assert 28 <= found.right < 29 + 16


@pytest.fixture
def bordered(tmp_path: Path) -> Path:
    """20 images of 24 x 24 pixels, two of five a picture of 12 x 8 in the corner."""
    for i in range(20):
        label = tmp_path / "set" / ("ab"[i % 2])
        label.mkdir(parents=True, exist_ok=True)
        image = on_canvas(noisy(12, 8, i), (24, 24), (0, 0), 0) if i % 5 < 2 else noisy(24, 24, i)
        cv2.imwrite(str(label / f"{i}.png"), image[:, :, ::-1])
    return tmp_path / "set"


def test_cut_off_pictures_fill_the_input(bordered: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    kept = open_data(bordered, cache_dir=cache)
    cropped = open_data(bordered, options=DataOptions(border="cut", fit="squash"), cache_dir=cache)
    assert kept.native_size == (24, 24)
    assert sorted({record.size for record in cropped.records}) == [(12, 8), (24, 24)]
    for row, record in enumerate(cropped.records):
        made = cropped.signal.fit(cropped.decoded(row), _input(12, 8))
        number = int(Path(record.name).stem)
        if number % 5 < 2:
            assert np.array_equal(made, noisy(12, 8, number))
    # Neither reads what the other left in the cache.
    size = (24, 24, 3)
    assert not np.array_equal(kept.split("train", *size).inputs, cropped.split("train", *size).inputs)
    again = open_data(bordered, options=DataOptions(border="cut"), cache_dir=cache)
    assert not np.array_equal(kept.split("train", *size).inputs, again.split("train", *size).inputs)


def _input(height: int, width: int) -> Input:
    return Input(height, width, 3)


def test_borders_are_said_with_their_remedy(bordered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "info", str(bordered), "--json"]) == 0
    (said,) = [note for note in json.loads(capsys.readouterr().out)["warnings"] if "border" in note]
    assert "8 of 20 images have a border of one colour" in said
    assert "at most 17 % of their pixels" in said  # 12 * 8 of 24 * 24
    assert "--set data.border=cut" in said
    assert run(["data", "info", str(bordered), "--set", "data.border=cut", "--json"]) == 0
    (said,) = [note for note in json.loads(capsys.readouterr().out)["notes"] if "border" in note]
    assert "hand over the picture alone" in said


def test_few_borders_are_not_worth_a_word(bordered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(100, 160):
        cv2.imwrite(str(bordered / "ab"[i % 2] / f"{i}.png"), noisy(24, 24, i))
    assert run(["data", "info", str(bordered)]) == 0
    assert "8 of 80 images have a border" in capsys.readouterr().out  # just a tenth
    cv2.imwrite(str(bordered / "a" / "160.png"), noisy(24, 24, 160))
    assert run(["data", "info", str(bordered), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert not any("border" in line for line in said["notes"] + said["warnings"])


@pytest.mark.parametrize(("rows", "said"), [(16, 0), (15, 1)])
def test_how_wide_a_border_is_worth_a_word_by_hand(rows: int, said: int) -> None:
    records = [Record(f"{i}", "a", None, f"{i}", (20, 20), inner=(rows, 20)) for i in range(10)]
    advice = [line for line in image_signal(DataOptions()).advice(records) if "border" in line]
    assert len(advice) == said
    assert all("10 of 10 images" in line and "at most 75 % of their pixels" in line for line in advice)


def test_another_word_is_refused(bordered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "info", str(bordered), "--set", "data.border=trim"]) == 2
    assert "border: must be one of 'keep' or 'cut' (got 'trim')" in capsys.readouterr().err


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_a_fit_that_the_firmware_does_not_have_is_said(bordered: Path, fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "info", str(bordered), "--set", f"data.fit={fit}", "--json"]) == 0
    said = [note for note in json.loads(capsys.readouterr().out)["notes"] if "data.fit" in note]
    assert len(said) == (fit != "crop")
    assert all(f"data.fit={fit}" in note and "the firmware's converter cuts out the centre" in note for note in said)
