"""Augmentation: deterministic per image, the values the entry meant, the same on tensors."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from tinynas.data import DataOptions, SyntheticOptions, open_data
from tinynas.data.draws import uniforms
from tinynas.data.images.augment import make_augmenter
from tinynas.data.images.sheet import augmented_sheet
from tinynas.recipe import Augment, LightAugment, WakeVisionAugment

KINDS = ("none", "light", "wake-vision")


def pictures(n: int = 12, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (n, 6, 6, channels), dtype=np.uint8)
    return np.stack([cv2.resize(s, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels) for s in small])


def only(**probabilities: float) -> Augment:
    """The full pipeline with all steps off but those named; the crop keeps the whole image."""
    off = dict.fromkeys(("flip", "color", "blur", "affine", "weather", "dropout"), 0.0)
    return Augment(
        kind="wake-vision", wake_vision=WakeVisionAugment(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), **{**off, **probabilities})
    )


# the random numbers ------------------------------------------------------------------------------------


def test_uniforms_are_uniform_independent_and_of_the_index() -> None:
    found = uniforms(3, 5, np.arange(20_000), 8)
    assert 0 <= found.min() < 0.001 < 0.999 < found.max() < 1
    assert np.abs(found.mean(0) - 0.5).max() < 0.01 and np.abs(found.var(0) - 1 / 12).max() < 0.002
    correlation = np.corrcoef(np.concatenate([found[1:], found[:-1]], 1).T)
    assert np.abs(correlation - np.eye(16)).max() < 0.03
    assert np.array_equal(uniforms(3, 5, np.array([7, 3]), 8), found[[7, 3]])
    for other in ((4, 5), (3, 6), (5, 3)):
        assert np.abs(np.corrcoef(uniforms(*other, np.arange(20_000), 1)[:, 0], found[:, 0])[0, 1]) < 0.03
    assert uniforms(2**63 - 1, 2**31, np.array([2**40]), 1).shape == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(32, 32, 3), (24, 40, 3), (33, 33, 1)])
def test_an_image_is_changed_alike_whatever_its_batch(kind: str, shape: tuple[int, int, int]) -> None:
    images = pictures(12, *shape)
    before = images.copy()
    augment = make_augmenter(Augment(kind=kind), *shape, 7)  # type: ignore[arg-type]
    indices = np.arange(100, 112)
    whole = augment(images, 3, indices)
    assert whole.shape == images.shape and whole.dtype == np.uint8 and np.array_equal(images, before)
    order = np.random.default_rng(1).permutation(12)
    again = make_augmenter(Augment(kind=kind), *shape, 7)  # type: ignore[arg-type]
    assert np.array_equal(again(images[order], 3, indices[order]), whole[order])
    assert np.array_equal(np.concatenate([again(images[i : i + 1], 3, indices[i : i + 1]) for i in range(12)]), whole)
    same = [np.array_equal(augment(images, e, indices), whole) for e in (2, 4)]
    same += [np.array_equal(make_augmenter(Augment(kind=kind), *shape, 8)(images, 3, indices), whole)]  # type: ignore[arg-type]
    assert same == [kind == "none"] * 3


def test_augmented_images_can_be_written_to() -> None:
    images = pictures(4)
    images.flags.writeable = False
    for kind in KINDS[1:]:
        assert make_augmenter(Augment(kind=kind), 32, 32, 3, 0)(images, 0, np.arange(4)).flags.writeable  # type: ignore[arg-type]


# light -------------------------------------------------------------------------------------------------


def test_light_with_everything_off_changes_nothing() -> None:
    still = LightAugment(flip=0, rotate=0, zoom=0, shift=0, brightness=0, contrast=0)
    images = pictures(6, 20, 28)
    assert np.array_equal(make_augmenter(Augment(light=still), 20, 28, 3, 0)(images, 0, np.arange(6)), images)
    mirrored = make_augmenter(Augment(light=still.model_copy(update={"flip": 1.0})), 20, 28, 3, 0)(images, 0, np.arange(6))
    assert np.array_equal(mirrored, images[:, :, ::-1])


def test_light_rotates_shifts_scales_and_lights_within_its_limits() -> None:
    still = {"flip": 0, "rotate": 0, "zoom": 0, "shift": 0, "brightness": 0, "contrast": 0}
    images = np.full((200, 41, 41, 1), 100, np.uint8)
    images[:, 20, 30] = 250  # a dot to the right of the centre
    # Brightness is read off the background.
    lit = make_augmenter(Augment(light=LightAugment(**{**still, "brightness": 0.1})), 41, 41, 1, 0)(images, 0, np.arange(200))
    assert 100 - 26 <= lit[:, 0, 0].min() < 80 and 120 < lit[:, 0, 0].max() <= 126

    def dots(**changes: float) -> np.ndarray:
        made = make_augmenter(Augment(light=LightAugment(**{**still, **changes})), 41, 41, 1, 0)(images, 0, np.arange(200))
        weight = made[..., 0].astype(float) - 100
        y, x = np.mgrid[:41, :41]
        return np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], 1) / weight.sum((1, 2))[:, None] - 20

    turned = dots(rotate=30)
    angles = np.degrees(np.arctan2(turned[:, 1], turned[:, 0]))
    assert -30.5 < angles.min() < -25 and 25 < angles.max() < 30.5 and np.abs(np.hypot(*turned.T) - 10).max() < 0.5
    scaled = dots(zoom=0.2)
    assert 7.8 < scaled[:, 0].min() < 8.5 and 11.5 < scaled[:, 0].max() < 12.2 and np.abs(scaled[:, 1]).max() < 0.2
    moved = dots(shift=0.1)
    assert -4.2 < moved[:, 1].min() < -3.5 and 3.5 < moved[:, 1].max() < 4.2


def test_light_settings_are_checked() -> None:
    for bad in ({"flip": 2}, {"zoom": 1}, {"rotate": -1}, {"blur": 1}):
        with pytest.raises(ValidationError):
            LightAugment.model_validate(bad)
    for bad in ({"holes": (5, 4)}, {"crop_scale": (0, 1)}, {"crop_scale": (0.9, 0.8)}, {"hole_size": (0.1, 2)}):
        with pytest.raises(ValidationError):
            WakeVisionAugment.model_validate(bad)
    with pytest.raises(ValidationError):
        Augment.model_validate({"kind": "strong"})


# the full pipeline -------------------------------------------------------------------------------------


def test_albumentations_accepts_every_argument_name() -> None:
    from tinynas.data.images.strong import STEPS, pipeline

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps = pipeline(WakeVisionAugment(), 48, 48)
    assert tuple(steps) == STEPS
    # What the entry wrote, read back from the transforms themselves.
    assert (steps["crop"].scale, steps["crop"].ratio, steps["crop"].size) == ((0.8, 1.0), (0.75, 1.33), (48, 48))
    probabilities = {"crop": 1.0, "flip": 0.5, "color": 0.4, "blur": 0.3, "affine": 0.2, "weather": 0.15, "dropout": 0.2}
    assert {name: step.p for name, step in steps.items()} == probabilities
    jitter, light, grey, clahe = steps["color"].transforms
    assert steps["color"].n == 1 and jitter.brightness == (0.8, 1.2) and jitter.hue == (-0.1, 0.1)
    assert light.brightness_limit == (-0.1, 0.1) and clahe.clip_limit == (1.0, 4.0) and grey.p == 1
    rain, fog, shadow, flare = steps["weather"].transforms
    assert (rain.brightness_coefficient, rain.drop_length, rain.blur_value, rain.rain_type) == (0.9, 8, 5, "drizzle")
    assert (fog.fog_coef_range, fog.alpha_coef) == ((0.1, 0.2), 0.05)
    assert (shadow.num_shadows_limit, shadow.shadow_dimension, shadow.shadow_roi) == ((1, 2), 5, (0, 0.5, 1, 1))
    assert (flare.angle_range, flare.flare_roi) == ((0.5, 1), (0, 0, 1, 0.5))
    assert steps["dropout"].num_holes_range == (4, 8) and steps["dropout"].hole_height_range == (8, 16)


@pytest.mark.parametrize(("side", "expected"), [(48, (8, 16)), (96, (16, 32)), (160, (27, 53)), (16, (3, 5))])
def test_holes_scale_with_the_resolution(side: int, expected: tuple[int, int]) -> None:
    from tinynas.data.images.strong import pipeline

    assert pipeline(WakeVisionAugment(), side, side)["dropout"].hole_width_range == expected


def test_holes_are_black_squares_of_the_stated_number_and_size() -> None:
    images = np.full((60, 48, 48, 3), 200, np.uint8)
    made = make_augmenter(only(dropout=1.0), 48, 48, 3, 0)(images, 0, np.arange(60))
    shares = (made == 0).all(-1).mean((1, 2))
    assert set(np.unique(made)) == {0, 200} and shares.min() > 4 * 64 / 48**2 * 0.3 and shares.max() <= 8 * 256 / 48**2


@pytest.mark.parametrize(
    ("step", "share"), [("flip", 0.5), ("color", 0.4), ("blur", 0.3), ("affine", 0.2), ("weather", 0.15), ("dropout", 0.2)]
)
def test_each_step_happens_as_often_as_stated(step: str, share: float) -> None:
    images = pictures(300)
    made = make_augmenter(only(**{step: share}), 32, 32, 3, 1)(images, 0, np.arange(300))
    changed = (made != images).any((1, 2, 3)).mean()
    assert share - 0.09 < changed < share + 0.09


def test_fog_equals_the_library_s_within_two_grey_levels() -> None:
    from tinynas.data.images.strong import A, Fog

    image = pictures(1, 24, 24)[0]
    ours, theirs = (kind(fog_coef_range=(0.3, 0.3), alpha_coef=0.08, p=1.0) for kind in (Fog, A.RandomFog))
    ours.set_random_seed(0)
    theirs.set_random_seed(0)
    mean = [np.mean([t(image=image)["image"] for _ in range(12)], axis=0) for t in (ours, theirs)]
    assert np.abs(mean[0] - mean[1]).mean() < 2 and np.abs(mean[0] - image).mean() > 3


def test_albumentations_is_loaded_only_for_the_full_pipeline_and_asks_no_index() -> None:
    script = (
        "import sys, os; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "from tinynas.data.images.augment import make_augmenter\n"
        "from tinynas.recipe import Augment\n"
        "make_augmenter(Augment(), 8, 8, 3, 0)\n"
        "light = 'albumentations' in sys.modules or 'torch' in sys.modules\n"
        "make_augmenter(Augment(kind='wake-vision'), 8, 8, 3, 0)\n"
        "print(light, os.environ['NO_ALBUMENTATIONS_UPDATE'], 'albumentations' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert done.stdout.split() == ["False", "1", "True"]


def test_the_sheet_of_augmented_samples(tmp_path: Path) -> None:
    data = open_data("synthetic", options=DataOptions(synthetic=SyntheticOptions(train=32, val=8, test=8, size=32)))
    for kind in KINDS:
        path = augmented_sheet(data, Augment(kind=kind), tmp_path / f"{kind}.png", size=32, columns=5, rows=3)  # type: ignore[arg-type]
        sheet = cv2.imread(str(path))
        assert sheet is not None and sheet.shape[0] == 3 * 34 + 2
        left = sheet.shape[1] - 5 * 34
        first, second = sheet[2:34, left : left + 32], sheet[2:34, left + 34 : left + 66]
        assert np.array_equal(first, second) == (kind == "none")


# on tensors --------------------------------------------------------------------------------------------


def test_light_on_tensors_equals_light_on_arrays() -> None:
    import torch

    from tinynas.data.images.gpu import make_gpu_augmenter

    images, indices = pictures(16, 32, 40), np.arange(50, 66)
    arrays = make_augmenter(Augment(), 32, 40, 3, 5)(images, 2, indices)
    tensors = make_gpu_augmenter(Augment(), 32, 40, 3, 5)(torch.from_numpy(images), 2, indices)
    assert tensors.dtype == torch.uint8 and tensors.shape == (16, 32, 40, 3)
    # OpenCV rounds positions to 1/32 of a pixel.
    difference = np.abs(tensors.numpy().astype(int) - arrays)
    assert difference.mean() < 1.0 and np.percentile(difference, 99) <= 8


@pytest.mark.parametrize("channels", [1, 3])
def test_the_full_pipeline_on_tensors(channels: int) -> None:
    import torch

    from tinynas.data.images.gpu import make_gpu_augmenter

    images, indices = torch.from_numpy(pictures(24, 32, 32, channels)), np.arange(24)
    augment = make_gpu_augmenter(Augment(kind="wake-vision"), 32, 32, channels, 1)
    whole = augment(images, 0, indices)
    assert whole.dtype == torch.uint8 and whole.shape == images.shape
    halves = torch.cat([augment(images[:12], 0, indices[:12]), augment(images[12:], 0, indices[12:])])
    assert (whole.int() - halves.int()).abs().max() <= 1  # sums of convolutions may be taken in another order
    assert not torch.equal(augment(images, 1, indices), whole)
    assert make_gpu_augmenter(Augment(kind="none"), 32, 32, channels, 1)(images, 0, indices) is images


def test_steps_on_tensors_do_what_the_steps_on_arrays_do() -> None:
    import torch

    from tinynas.data.images.gpu import make_gpu_augmenter

    images, indices = torch.from_numpy(pictures(300)), np.arange(300)

    def changed(augment: Augment, of: torch.Tensor = images) -> torch.Tensor:
        return make_gpu_augmenter(augment, 32, 32, 3, 1)(of, 0, indices)

    assert torch.equal(changed(only()), images)
    assert torch.equal(changed(only(flip=1.0)), images.flip(2))
    holes = changed(only(dropout=1.0), torch.full_like(images, 200))
    assert set(holes.unique().tolist()) == {0, 200}
    share = (holes == 0).float().mean().item()
    reference = make_augmenter(only(dropout=1.0), 32, 32, 3, 1)(np.full((300, 32, 32, 3), 200, np.uint8), 0, indices)
    assert abs(share - (reference == 0).mean()) < 0.05
    for step, probability in (("color", 0.4), ("blur", 0.3), ("affine", 0.2)):
        made = changed(only(**{step: probability}))
        often = (made != images).flatten(1).any(1).float().mean().item()
        assert probability - 0.09 < often < probability + 0.09, step
    blurred = changed(only(blur=1.0)).float()
    assert blurred.var() < images.float().var() and abs(blurred.mean() - images.float().mean()) < 2
    cropped = changed(Augment(kind="wake-vision", wake_vision=only().wake_vision.model_copy(update={"crop_scale": (0.5, 0.5)})))
    assert (cropped != images).flatten(1).any(1).all()
