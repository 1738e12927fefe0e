"""What training does to sounds: each change by hand, the same for the same (variant, input), and what a feed makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tinynas.arch import Arch, ConvLayer
from tinynas.data import DataOptions, Split, open_data
from tinynas.data.sounds.augment import make_sound_augmenter, masked, moved
from tinynas.data.sounds.change import Changer, behind, coloured, echoed, noise_of, shifted
from tinynas.errors import ConfigError, DataError
from tinynas.front_end import FrontEnd
from tinynas.inputs import Input
from tinynas.recipe import Augment, Recipe, SoundAugment
from tinynas.search.training import Trainings, seconds_per_image
from tinynas.train.feed import make_feed, mixed
from tinynas.train.losses import make_loss, symmetric_cross_entropy

HEARS = FrontEnd(sample_rate=8000, clip_ms=200, bins=12)
NOTHING = SoundAugment(shift=0, gain=0, background=0, echo=0, time_masks=0, band_masks=0)
CPU = torch.device("cpu")


def clips(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1000, (count, HEARS.clip_samples)).astype(np.int16)


def change(settings: SoundAugment, samples: np.ndarray, variant: int = 0, background: tuple[Path, ...] = ()) -> np.ndarray:
    return Changer(background)(samples, HEARS, settings, variant, np.arange(len(samples)))


def test_shift_echo_and_background_by_hand() -> None:
    clip = np.array([1, 2, 3, 4], np.float32)
    assert shifted(clip, 1).tolist() == [0, 1, 2, 3] and shifted(clip, -2).tolist() == [3, 4, 0, 0] and shifted(clip, 0) is clip
    pulse = np.zeros(2000, np.float32)
    pulse[0] = 1.0
    heard = echoed(pulse, 1000, 0.0, np.array([0.5, 0.0]), np.array([0.1, 0.9]))  # a room of 0.1 s: 100 samples
    assert heard[0] == 1.0 and heard[51] == pytest.approx(0.5 * 10**-1.5) and heard[1] == pytest.approx(-0.5)
    assert np.count_nonzero(heard) == 3
    speech = np.concatenate([np.zeros(100), np.full(100, 1000.0)]).astype(np.float32)  # half of it is silence, which does not count
    noise = np.random.default_rng(1).normal(0, 7, 200).astype(np.float32)
    level = np.sqrt(np.mean(behind(speech, noise, 20.0) ** 2))
    assert level == pytest.approx(100.0, rel=1e-3), "20 dB below 1,000"
    bank = np.arange(10, dtype=np.float32)
    assert noise_of(bank, 4, 0.0).tolist() == [0, 1, 2, 3] and noise_of(bank, 4, 0.999).tolist() == [6, 7, 8, 9]
    assert noise_of(bank[:3], 5, 0.5).tolist() == [0, 1, 2, 0, 1]
    white, _, brown = np.split(coloured(8000), 3)
    assert abs(np.corrcoef(white[1:], white[:-1])[0, 1]) < 0.05 and np.corrcoef(brown[1:], brown[:-1])[0, 1] > 0.95


def test_changes_follow_from_variant_and_input_alone() -> None:
    samples, usual = clips(6), SoundAugment()
    assert np.array_equal(change(NOTHING, samples), samples)
    whole = change(usual, samples, 2)
    part = Changer()(samples[4:5], HEARS, usual, 2, np.array([4]))
    assert np.array_equal(part[0], whole[4]) and not np.array_equal(whole, change(usual, samples, 3)) and whole.dtype == np.int16
    louder = change(NOTHING.model_copy(update={"gain": 6.0}), samples).astype(float)
    ratios = np.sqrt((louder**2).mean(1) / (samples.astype(float) ** 2).mean(1))
    assert ((ratios > 0.5) & (ratios < 2.0)).all() and ratios.std() > 0.1, "6 dB are a factor of 2"


def test_backgrounds_are_the_given_ones(tmp_path: Path) -> None:
    settings = NOTHING.model_copy(update={"background": 1.0, "snr": (0.0, 0.0), "noise": str(tmp_path)})
    with pytest.raises(DataError, match="holds no recordings"):
        change(settings, clips())
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    soundfile.write(tmp_path / "hum.wav", wave, 8000)
    own = change(settings.model_copy(update={"noise": None}), clips(), background=(tmp_path / "hum.wav",))
    assert np.array_equal(change(settings, clips()), own)
    added = own.astype(float) - clips()
    assert np.argmax(np.abs(np.fft.rfft(added[0]))) == 200, "1,000 Hz in 0.2 s"


def test_masks_hide_times_and_bands_at_the_mean_of_their_feature() -> None:
    inputs = np.random.default_rng(0).integers(0, 256, (2, 10, 8, 1)).astype(np.uint8)
    draw = np.array([[0.99, 0.0, 0.99, 0.999], [0.0, 0.0, 0.0, 0.0]])  # as long as may be: at the beginning, and the highest bands
    made = masked(inputs, draw, 1, 0.3, 1, 0.25)
    mean = np.rint(inputs[0, :, :, 0].mean(0))
    assert np.array_equal(made[0, :3, :6, 0], np.tile(mean[:6], (3, 1))) and np.array_equal(made[0, :, 6:, 0], np.tile(mean[6:], (10, 1)))
    assert np.array_equal(made[0, 3:, :6], inputs[0, 3:, :6]) and np.array_equal(made[1], inputs[1])
    series = masked(inputs.reshape(2, 10, 1, 8), draw, 1, 0.3, 1, 0.25)
    assert np.array_equal(series.reshape(made.shape), made), "one dimension of features is masked alike"


def test_given_features_are_moved_in_time_and_nothing_else() -> None:
    made = np.arange(2 * 10 * 3, dtype=np.uint8).reshape(2, 10, 3, 1)
    # A tenth and a half of ten frames: by one at most, earlier, not at all or later with equal probability.
    assert np.array_equal(moved(made, np.array([0.0, 0.5]), 0.15)[0], made[0, [*range(1, 10), 9]])
    assert np.array_equal(moved(made, np.array([0.0, 0.5]), 0.15)[1], made[1])
    assert np.array_equal(moved(made, np.array([0.34, 0.67]), 0.15)[1], made[1, [0, *range(9)]])
    assert np.array_equal(
        moved(made.reshape(2, 10, 1, 3), np.array([0.0, 0.99]), 0.2).reshape(made.shape), moved(made, np.array([0.0, 0.99]), 0.2)
    )
    split = Split(made, np.array([0, 1]), ("a", "b"), kind="sequence")
    still = make_sound_augmenter(Augment(sound=NOTHING), split, 0)
    assert np.array_equal(still(split.inputs, 1, np.arange(2)), made)
    shifting = make_sound_augmenter(Augment(sound=NOTHING.model_copy(update={"shift": 0.3})), split, 0)
    epochs = {shifting(split.inputs, epoch, np.arange(2))[0, :, 0, 0].tobytes() for epoch in range(40)}
    assert len(epochs) == 7, "by three frames either way"


def test_epochs_go_through_the_variants(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(6):
            path = tmp_path / "set" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.random.default_rng((len(label), i, ord(label))).normal(0, 0.1, 1600), 8000)
    data = open_data(tmp_path / "set", cache_dir=tmp_path / "cache", options=DataOptions(clip=200))
    split = data.read_by(Input(*HEARS.shape, "features", front_end=HEARS), "train")
    settings = SoundAugment(variants=2, time_masks=0, band_masks=0)
    augmenter = make_sound_augmenter(Augment(sound=settings), split, 0)
    rows = np.array([3, 0])
    made = [augmenter(split.inputs[rows], epoch, rows) for epoch in (1, 2, 3)]
    assert np.array_equal(made[0], made[2]) and not np.array_equal(made[0], made[1])
    assert len(list((tmp_path / "cache" / "inputs").rglob("*.npy"))) == 7, "samples; bands and features, plain and in two variants"
    some = split.take([3, 0])
    taken = make_sound_augmenter(Augment(sound=settings), some, 0)(some.inputs, 1, np.arange(2))
    assert np.array_equal(taken, made[0]), "a part of the inputs finds its own variants"
    for resident in (False, True):
        inputs, labels = make_feed(split, Augment(kind="none"), 0, CPU, resident, classes=2)(1, rows)
        assert np.array_equal(inputs.numpy(), split.inputs[rows]) and labels.tolist() == split.labels[rows].tolist()
    # What a step takes is measured without making variants: they are no part of a step, and there may be many sounds.
    hears = Arch(
        height=HEARS.shape[0],
        width=HEARS.shape[1],
        channels=1,
        classes=2,
        front_end=HEARS,
        stem=ConvLayer(out=4, kernel=3, stride=2),
        blocks=(),
    )
    other = Trainings(data, Recipe.proxy(augment=Augment(sound=settings.model_copy(update={"gain": 1.0}))), 0, tmp_path / "state")
    assert seconds_per_image(other, hears, seconds=0.05) > 0
    assert len(list((tmp_path / "cache" / "inputs").rglob("*.npy"))) == 7
    # Another kind of features is made of the bands that there are, and equals what is made of the samples.
    transform = HEARS.model_copy(update={"kind": "mfcc", "coefficients": 5})
    changed = data.read_by(Input(*transform.shape, "features", front_end=transform), "train")
    assert changed.anew is not None and data.signal.waves is not None
    varied = changed.anew.variant(settings, 1)
    samples = np.load(next((tmp_path / "cache" / "inputs").rglob("train-samples-*.npy"))).view("<i2")
    waves = data.signal.waves
    assert np.array_equal(changed.inputs, waves.read(samples, transform))
    assert np.array_equal(varied, waves.read(waves.change(samples, transform, settings, 1, np.arange(len(samples))), transform))
    assert len(list((tmp_path / "cache" / "inputs").rglob("*.npy"))) == 7 + 2
    inputs, labels = make_feed(split, Augment(sound=settings.model_copy(update={"mixup": 0.5})), 0, CPU, True, classes=2)(1, rows)
    assert labels.shape == (2, 2) and torch.allclose(labels.sum(1), torch.ones(2)) and inputs.dtype == torch.uint8


def test_mixed_inputs_have_the_shares_of_their_labels() -> None:
    inputs = torch.tensor([0, 200], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 2, 2, 1)
    for seed in range(8):
        made, labels = mixed(inputs, torch.tensor([0, 1]), 2, 1.0, np.random.default_rng(seed))
        for value, shares in zip(made[:, 0, 0, 0].tolist(), labels, strict=True):
            assert value == pytest.approx(200 * float(shares[1]), abs=0.51)


def test_losses_of_shares_equal_those_of_labels() -> None:
    from tinynas.recipe import Recipe

    logits, labels = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 1, 1, 2])
    hot = torch.nn.functional.one_hot(labels, 4).float()
    for smoothing in (0.0, 0.1):
        for name in ("ce", "sce"):
            loss = make_loss(Recipe(loss=name, label_smoothing=smoothing))
            assert torch.allclose(loss(logits, hot), loss(logits, labels), atol=1e-6)
    half = torch.full((1, 2), 0.5)
    mixed_loss = symmetric_cross_entropy(torch.zeros(1, 2), half, alpha=1.0, beta=1.0, clip=1e-4)
    assert float(mixed_loss) == pytest.approx(2 * np.log(2)), "both parts are log 2 by hand"


def test_settings_that_contradict_themselves_are_refused() -> None:
    from tinynas.config import build

    with pytest.raises(ConfigError, match="smaller one first"):
        build({"snr": [20, 10]}, SoundAugment, source="recipe")


def test_images_are_not_asked_for_sounds_and_their_states_stay_theirs() -> None:
    from tinynas.arch import Arch, ConvLayer
    from tinynas.graph import lower
    from tinynas.recipe import Recipe
    from tinynas.train.loop import deciding

    image = lower(Arch(height=8, width=8, channels=3, classes=2, stem=ConvLayer(out=8)))
    frames, bins, one = HEARS.shape
    sound = lower(Arch(height=frames, width=bins, channels=one, classes=2, front_end=HEARS, stem=ConvLayer(out=8)))
    assert "sound" not in deciding(Recipe(), image)["augment"] and deciding(Recipe(), sound)["augment"]["sound"]["variants"] == 4
    split = Split(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64), ("",) * 4)
    inputs, labels = make_feed(split, Augment(sound=SoundAugment(mixup=1.0)), 0, CPU, False, classes=2)(0, np.arange(4))
    assert labels.dtype == torch.int64 and inputs.shape == (4, 8, 8, 3), "images are not mixed"
