"""The data room by hand arithmetic and by pictures kept as numbers, where single-point mutations went unnoticed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_augment import only

from tinynas.data import SyntheticOptions
from tinynas.data.images.gpu import make_gpu_augmenter
from tinynas.data.images.synthetic import render

MEANS = [
    71.154,
    155.312,
    124.311,
    146.739,
    130.683,
    86.460,
    178.591,
    126.738,
    114.968,
    130.301,
    78.307,
    143.728,
    145.737,
    99.046,
    146.295,
    174.026,
    144.872,
    123.208,
    129.235,
    132.216,
    217.163,
    140.771,
    123.266,
    119.477,
]
SPREADS = [
    29.386,
    29.081,
    38.175,
    39.612,
    44.014,
    55.313,
    55.800,
    66.728,
    52.614,
    37.420,
    37.778,
    56.217,
    74.000,
    33.970,
    56.405,
    70.390,
    39.908,
    46.502,
    59.798,
    39.122,
    30.508,
    68.021,
    39.115,
    51.713,
]


def test_the_built_in_pictures_are_those_that_results_were_measured_on() -> None:
    """Means of 24 pictures (48 px, seed 3) and their spread, taken once: a changed brush changes every committed result."""
    options = SyntheticOptions(train=64, val=32, test=32, size=48)
    pictures = np.stack([render(3, "train", index, options) for index in range(24)]).astype(np.float64)
    assert pictures.mean((1, 2, 3)) == pytest.approx(MEANS, abs=0.02)
    assert pictures.std((1, 2, 3)) == pytest.approx(SPREADS, abs=0.02)


def test_color_on_tensors_stays_within_its_ranges() -> None:
    flat = torch.full((600, 16, 16, 3), 100, dtype=torch.uint8)
    out = make_gpu_augmenter(only(color=1.0), 16, 16, 3, 1)(flat, 0, np.arange(600)).float()
    # Light: 100 * 0.9..1.1 + 255 * -0.1..0.1; brightness 0.8..1.2, what contrast and saturation do to a gray picture is nothing.
    assert 64 <= out.min() < 70
    assert 130 < out.max() <= 136
    jittered = out[(out >= 79.5).flatten(1).all(1) & (out <= 120.5).flatten(1).all(1)]
    assert len(jittered) > 300


def test_affine_on_tensors_moves_by_a_twentieth_at_most() -> None:
    dot = torch.zeros((300, 40, 40, 3), dtype=torch.uint8)
    dot[:, 18:22, 18:22] = 255
    out = make_gpu_augmenter(only(affine=1.0), 40, 40, 3, 1)(dot, 0, np.arange(300)).float().mean(3)
    total = out.sum((1, 2))
    assert (total > 0.5 * 16 * 255).all()
    at = torch.arange(40).float()
    down, across = (out.sum(2) @ at) / total, (out.sum(1) @ at) / total
    for place in (down, across):
        assert (place - 19.5).abs().max() <= 0.05 * 40 + 0.6
        assert (place - 19.5).abs().max() > 1.0


def test_brightness_is_a_share_of_all_levels() -> None:
    from tinynas.data.draws import uniforms
    from tinynas.data.images.augment import make_augmenter
    from tinynas.recipe import Augment

    rows = np.arange(400)
    light = {"flip": 0.0, "rotate": 0.0, "zoom": 0.0, "shift": 0.0, "contrast": 0.0, "brightness": 0.4}
    out = make_augmenter(Augment.model_validate({"kind": "light", "light": light}), 8, 8, 3, 5)(
        np.full((400, 8, 8, 3), 120, np.uint8), 2, rows
    )
    signed = uniforms(5, 2, rows, 7)[:, 6] * 2 - 1
    assert out[:, 4, 4, 0].tolist() == np.clip(np.rint(120 + signed * 0.4 * 255), 0, 255).astype(int).tolist()


def test_progress_counts_up_to_all(tmp_path: object) -> None:
    from pathlib import Path

    from data_cases import make_folder

    from tinynas.data import open_data

    assert isinstance(tmp_path, Path)
    seen: list[tuple[int, int]] = []
    root = make_folder(tmp_path / "set", {"a": 12, "b": 12})
    open_data(root, cache_dir=tmp_path / "cache", on_progress=lambda what, done, total: seen.append((done, total)))
    assert seen and seen[-1] == (24, 24)
    assert all(0 < done <= total for done, total in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
