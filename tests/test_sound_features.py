"""The front end's arithmetic: equal to TFLM's own library to the last bit, and to what it should mean within its rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sound_library import built_library, logarithms_of

from tinynas.front_end import FrontEnd
from tinynas.sound.features import features, logarithms, spectrum
from tinynas.sound.tables import tables_of

FRONT_ENDS = [
    FrontEnd(),
    FrontEnd(pcan=False, stride_ms=10),
    FrontEnd(noise_reduction=False, window_ms=32, bins=64, low_hz=20, high_hz=3000),
    FrontEnd(noise_reduction=False, pcan=False, sample_rate=8000, bins=20),
    FrontEnd(sample_rate=22050, window_ms=10, stride_ms=4, bins=33, clip_ms=400, high_hz=10_000),
    FrontEnd(sample_rate=48000, window_ms=200, stride_ms=100, bins=128, clip_ms=500, low_hz=0),
    FrontEnd(sample_rate=16000, window_ms=4, stride_ms=2, bins=4, clip_ms=100, high_hz=7900),
    FrontEnd(sample_rate=8000, window_ms=4, stride_ms=4, bins=9, clip_ms=100),
]


def sounds(count: int, rate: int) -> NDArray[np.int16]:
    """(8, count): silence, full scale, noise, a chirp, what wraps in 16 bits."""
    rng, time = np.random.default_rng(count), np.arange(count) / rate
    words = rng.normal(0, 1, count) * np.abs(np.sin(9 * time)) ** 4 * 6000
    kinds = [
        np.zeros(count),
        np.full(count, -32768),
        np.where(np.arange(count) // 7 % 2, 32767, -32768),
        np.where(np.arange(count) // 2 % 2, 32767, -32768),
        rng.integers(-32768, 32768, count),
        rng.integers(-3, 4, count),
        32767 * np.sin(2 * np.pi * (50 + rate / 6 * time) * time),
        words,
    ]
    return np.clip(np.stack(kinds), -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_library(tmp_path_factory.mktemp("microfrontend"))


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda front_end: f"{front_end.sample_rate}-{front_end.window_ms}-{front_end.bins}")
def test_every_channel_is_that_of_the_library(library: Path, front_end: FrontEnd) -> None:
    samples = sounds(front_end.clip_samples, front_end.sample_rate)
    np.testing.assert_array_equal(logarithms(samples, front_end), logarithms_of(library, samples, front_end))


def test_a_byte_is_the_channel_in_steps_of_two_and_a_half() -> None:
    front_end = FrontEnd()
    samples = sounds(front_end.clip_samples, 16000)
    made, channels = features(samples, front_end), logarithms(samples, front_end)
    assert made.shape == (8, 49, 40, 1) and made.dtype == np.uint8
    for clip, frame, channel in [(4, 0, 0), (6, 30, 20), (7, 48, 39), (2, 10, 11)]:
        # micro_speech: (value * 256 + 333) / 666 - 128, saturated; stored with the 128
        assert made[clip, frame, channel, 0] == min((int(channels[clip, frame, channel]) * 256 + 333) // 666, 255)
    assert made[0].max() == 0 and made[4].max() > 100
    plain = FrontEnd(pcan=False, noise_reduction=False)
    loud = features(samples, plain)
    assert loud[6, 30, 20, 0] == (int(logarithms(samples, plain)[6, 30, 20]) + 2) // 4  # 1,024 units in 256 bytes
    assert 240 < loud.max() < 255  # of full scale, and nothing saturates
    series = features(samples, front_end.model_copy(update={"layout": "series"}))
    assert series.shape == (8, 49, 1, 40) and (series[:, :, 0] == made[..., 0]).all()


def test_clips_do_not_hear_each_other_and_lengths_are_looked_at() -> None:
    front_end = FrontEnd(clip_ms=200)
    samples = sounds(front_end.clip_samples, 16000)
    together = features(samples, front_end)
    for clip in range(8):
        assert (features(samples[clip : clip + 1], front_end)[0] == together[clip]).all()
    many = np.tile(samples, (20, 1))  # more frames than are transformed at once
    assert (features(many, front_end) == np.tile(together, (20, 1, 1, 1))).all()
    with pytest.raises(ValueError, match=r"not int16 of \(N, 3200\)"):
        features(samples[:, 1:], front_end)
    assert features(samples[:0], front_end).shape == (0, 9, 40, 1)


@pytest.mark.parametrize("front_end", [FRONT_ENDS[0], FRONT_ENDS[4]], ids=["512", "256"])
def test_the_spectrum_is_a_fourier_transform(front_end: FrontEnd) -> None:
    size = front_end.fft_size
    frames = np.random.default_rng(0).integers(-20_000, 20_000, (size, 5)).astype(np.int16)
    real, imaginary = spectrum(frames, tables_of(front_end))
    exact = np.fft.rfft(frames.astype(float), axis=0)[:-1] / size
    assert np.abs(real - exact.real).max() < 4 and np.abs(imaginary - exact.imag).max() < 4


def test_the_cosine_transform_is_one_of_the_logarithms() -> None:
    front_end = FrontEnd(kind="mfcc", coefficients=13)
    samples = sounds(front_end.clip_samples, 16000)
    made, channels = features(samples, front_end)[..., 0].astype(float), logarithms(samples, front_end)
    angles = np.pi / 40 * np.outer(np.arange(13), np.arange(40) + 0.5)
    exact = channels @ np.cos(angles).T / 40 * 256 / 666
    exact[..., 1:] = exact[..., 1:] * 2 + 128  # the amplitude of a cosine is twice its mean product
    assert np.abs(made - np.clip(exact, 0, 255)).max() < 0.8
    assert tables_of(front_end).cosine_bits == 17
    assert all(
        1800 < np.abs(tables_of(FrontEnd(kind="mfcc", bins=bins, coefficients=4)).cosine).max() <= 4096 for bins in (4, 10, 33, 64, 80)
    )


def test_noise_reduction_takes_away_what_lasts() -> None:
    front_end = FrontEnd(clip_ms=4000, pcan=False)
    noise = np.random.default_rng(3).normal(0, 2000, (1, front_end.clip_samples)).astype(np.int16)
    without = logarithms(noise, front_end.model_copy(update={"noise_reduction": False})).mean(axis=(0, 2))
    reduced = logarithms(noise, front_end).mean(axis=(0, 2))
    assert abs(without[0] - reduced[0]) < 8 and (without - reduced)[-20:].mean() > 100
