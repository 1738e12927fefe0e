"""The full pipeline by hand: every value it is given, fog particle by particle, the generators' states."""

from __future__ import annotations

import random
from typing import Any

import cv2
import numpy as np
import pytest

from tinynas.data.draws import words
from tinynas.recipe import WakeVisionAugment


def test_every_value_of_the_pipeline() -> None:
    from tinynas.data.images.strong import pipeline

    settings = WakeVisionAugment(crop_scale=(0.6, 0.9), crop_ratio=(0.5, 2.0), holes=(2, 3), hole_size=(0.1, 0.3), flare_radius=0.5)
    steps = pipeline(settings, 60, 40)  # height x width; the side is 40
    assert (steps["crop"].size, steps["crop"].scale) == ((60, 40), (0.6, 0.9))
    assert steps["crop"].ratio == pytest.approx((0.5 * 40 / 60, 2.0 * 40 / 60)), "of this shape, which is not square"
    jitter, light, _, clahe = steps["color"].transforms
    assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) == ((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.1, 0.1))
    assert (light.brightness_limit, light.contrast_limit) == ((-0.1, 0.1), (-0.1, 0.1))
    assert (clahe.clip_limit, clahe.tile_grid_size) == ((1.0, 4.0), (8, 8))
    gauss, motion = steps["blur"].transforms
    assert gauss.blur_limit == (3, 7) and motion.blur_limit == (3, 7)
    affine = steps["affine"]
    assert affine.translate_percent == {"x": (-0.05, 0.05), "y": (-0.05, 0.05)}
    assert affine.scale == {"x": (0.9, 1.1), "y": (0.9, 1.1)} and affine.rotate == (-10, 10)
    assert (affine.interpolation, affine.border_mode) == (cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101)
    rain, fog, shadow, flare = steps["weather"].transforms
    assert (rain.drop_width, rain.drop_length, rain.blur_value, rain.brightness_coefficient) == (1, 8, 5, 0.9)
    assert (fog.fog_coef_range, fog.alpha_coef) == ((0.1, 0.2), 0.05)
    assert (shadow.shadow_roi, shadow.num_shadows_limit, shadow.shadow_dimension) == ((0, 0.5, 1, 1), (1, 2), 5)
    assert (flare.flare_roi, flare.angle_range, flare.src_radius) == ((0, 0, 1, 0.5), (0.5, 1), 20)  # 0.5 of 40
    holes = steps["dropout"]
    assert (holes.num_holes_range, holes.hole_height_range, holes.hole_width_range) == ((2, 3), (4, 12), (4, 12))
    every = [t.p for name in ("color", "blur", "weather") for t in steps[name].transforms]
    assert every == [1.0] * 10 and steps["color"].n == 1
    tiny = pipeline(WakeVisionAugment(hole_size=(0.01, 0.01), flare_radius=0.01), 20, 20)
    assert tiny["dropout"].hole_height_range == (1, 1) and tiny["weather"].transforms[3].src_radius == 2  # never nothing


class Written:
    """A generator that writes down what it is asked for."""

    def __init__(self, intensity: float) -> None:
        self.intensity = intensity
        self.asked: list[tuple[int, int, int]] = []
        self.answers: list[np.ndarray] = []
        self.draw = np.random.default_rng(0)

    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == (0.1, 0.2)
        return self.intensity

    def integers(self, low: int, high: int, count: int, endpoint: bool = False) -> np.ndarray:
        self.asked.append((low, high + endpoint, count))
        self.answers.append(self.draw.integers(low, high, count, endpoint=endpoint))
        return self.answers[-1]


def test_fog_by_hand() -> None:
    from tinynas.data.images.strong import Fog

    fog = Fog(fog_coef_range=(0.1, 0.2), alpha_coef=0.05, p=1.0)
    written = Written(0.2)
    fog.random_generator = written
    height, width = 60, 45
    found = fog.get_params_dependent_on_data({"shape": (height, width, 3)}, {})
    # Regions of int(45 // 3 * 0.2) = 3 px. In 45 x 60: int(2700 / 9 * 0.2 * 10) = 600 particles, x from 22 - 22 to 22 + 22 and y
    # from 29 - 30 to 29 + 30; then in 40 x 54 480, in 36 x 48 384, and so on to the tenth.
    assert written.asked[:6] == [(0, 45, 600), (-1, 60, 600), (2, 43, 480), (2, 57, 480), (4, 41, 384), (5, 54, 384)]
    radii = written.answers[-1]
    assert len(written.asked) == 21 and written.asked[-1] == (1, 2, sum(count for _, _, count in written.asked[:-1:2]))
    x, y = np.concatenate(written.answers[:-1:2]), np.concatenate(written.answers[1:-1:2])
    cover = np.zeros((height, width), np.float32)
    for centre_x, centre_y, radius in zip(x.tolist(), y.tolist(), radii.tolist(), strict=True):
        disk = np.zeros_like(cover)
        cv2.circle(disk, (centre_x, centre_y), radius, 1.0, -1)
        cover += disk
    assert np.array_equal(np.rint(found["cover"]), cover) and found["intensity"] == 0.2
    # Larger images have larger particles: 0.1 * 300 * 0.2 is 6, half of it the least.
    wide = Written(0.2)
    fog.random_generator = wide
    fog.get_params_dependent_on_data({"shape": (300, 400, 3)}, {})
    assert wide.asked[-1][:2] == (3, 6)
    # Nothing fits into an image of one region.
    small = Written(0.2)
    fog.random_generator = small
    assert not fog.get_params_dependent_on_data({"shape": (1, 1, 3)}, {})["cover"].any()


@pytest.mark.parametrize(("side", "blur"), [(24, 3), (119, 3), (120, 5), (150, 5), (240, 9)])
def test_fog_blends_white_once_for_each_particle_and_blurs_as_the_library_does(side: int, blur: int) -> None:
    from tinynas.data.images.strong import Fog

    fog = Fog(fog_coef_range=(0.1, 0.2), alpha_coef=0.5, p=1.0)
    flat = np.full((side, side, 3), 100, np.uint8)
    # (1 - 0.5 * 0.2) ** 3 = 0.729: 255 - 155 * 0.729 = 142.005.
    assert (fog.apply(flat, cover=np.full((side, side), 3.2, np.float32), intensity=0.2) == 142).all()
    dot = np.zeros((side, side), np.float32)
    dot[side // 2, side // 2] = 1
    made = fog.apply(flat, cover=dot, intensity=1.0)
    sharp = flat.copy()
    sharp[side // 2, side // 2] = 178  # 255 - 155 * 0.5 = 177.5, to even
    assert np.array_equal(made, cv2.GaussianBlur(sharp, (blur, blur), 0))


def test_the_generators_start_from_the_words_of_the_image() -> None:
    from tinynas.data.images.strong import A, Strong, pipeline

    settings = WakeVisionAugment(color=1.0, blur=1.0, affine=1.0, weather=1.0, dropout=1.0)
    images = np.random.default_rng(0).integers(0, 256, (4, 24, 18, 3), dtype=np.uint8)
    indices = np.array([3, 1000, 7, 0])
    made = Strong(settings, 24, 18, 3, 9)(images, 2, indices)
    compose: Any = A.Compose(list(pipeline(settings, 24, 18).values()), is_check_shapes=False)
    for image, state, found in zip(images, words(9, 2, indices, 3).tolist(), made, strict=True):
        bits = np.random.PCG64(0)
        inner = {"state": state[1] * 2**64 + state[2], "inc": state[2] | 1}
        bits.state = {"bit_generator": "PCG64", "state": inner, "has_uint32": 0, "uinteger": 0}
        compose.set_random_state(np.random.Generator(bits), random.Random(state[0]))
        assert np.array_equal(compose(image=image)["image"], found)


def test_gray_images_go_through_as_three_equal_channels() -> None:
    from tinynas.data.images.strong import Strong

    off = WakeVisionAugment(crop_scale=(1, 1), crop_ratio=(1, 1), flip=1.0, color=0, blur=0, affine=0, weather=0, dropout=0)
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 1), dtype=np.uint8)
    assert np.array_equal(Strong(off, 20, 20, 1, 0)(images, 0, np.arange(3)), images[:, :, ::-1])
