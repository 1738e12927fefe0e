"""Changer: samples as training hears them: shifted, louder or quieter, in a room, before a background. (Settings: ``recipe``.)

Every random number follows from (variant, number of the input), so that all networks of a search hear the same variants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import soxr
from numpy.typing import NDArray

from tinynas.data.draws import uniforms
from tinynas.data.records import BadInput
from tinynas.data.sounds.decode import ENDINGS, part
from tinynas.errors import DataError
from tinynas.front_end import FrontEnd
from tinynas.recipe import SoundAugment

SEED = 0x50
TAPS = 12
"""Echoes of a room."""
ROOM_SECONDS = (0.1, 0.4)
"""In which they die away by 60 dB."""
MOST_MS = 120_000
"""So much of each recording of noise is used,"""
MOST_FILES = 100
"""and so many of them."""
COLOURED_SECONDS = 10
LEAST_RMS = 30.0
"""A background to a silent clip is as loud as if the clip had this (of 32,768)."""


class Changer:
    """See :class:`tinynas.data.signal.Waves`. ``background`` are the data's own recordings of noise."""

    def __init__(self, background: Sequence[Path] = ()) -> None:
        self.background = tuple(background)
        self._banks: dict[tuple[int, str | None], NDArray[np.float32]] = {}
        self._lock = Lock()

    def __call__(
        self, samples: NDArray[np.int16], front_end: FrontEnd, settings: SoundAugment, variant: int, numbers: NDArray[np.int64]
    ) -> NDArray[np.int16]:
        """``samples`` (N, clip_samples), which are inputs ``numbers`` (N,), changed. Raises DataError: a folder without noise."""
        draw = uniforms(SEED, variant, numbers, 7 + 2 * TAPS)
        bank = self.bank(front_end.sample_rate, settings.noise) if settings.background else None
        result = np.empty_like(samples)
        for clip, u, out in zip(samples, draw, result, strict=True):
            heard = shifted(clip.astype(np.float32), round((2 * u[0] - 1) * settings.shift * len(clip)))
            if u[1] < settings.echo:
                heard = echoed(heard, front_end.sample_rate, u[2], u[7 : 7 + TAPS], u[7 + TAPS :])
            if bank is not None and u[3] < settings.background:
                low, high = settings.snr
                heard = heard + behind(heard, noise_of(bank, len(clip), u[4]), low + u[5] * (high - low))
            gain = 10 ** ((2 * u[6] - 1) * settings.gain / 20)
            out[:] = np.clip(np.rint(heard * np.float32(gain)), -32768, 32767)
        return result

    def bank(self, rate: int, folder: str | None) -> NDArray[np.float32]:
        """Noise at ``rate``, end to end: of ``folder``, else the data's own, else coloured."""
        with self._lock:
            if (rate, folder) not in self._banks:
                files = self.background if folder is None else _recordings(Path(folder).expanduser())
                parts = list(_loaded(files[:MOST_FILES], rate))
                if folder is not None and not parts:
                    raise DataError(
                        f"recipe.augment.sound.noise: {folder}: holds no recordings that can be read", "give a folder of WAV files"
                    )
                self._banks[rate, folder] = np.concatenate(parts) if parts else coloured(rate)
            return self._banks[rate, folder]


def shifted(clip: NDArray[np.float32], by: int) -> NDArray[np.float32]:
    """``clip`` later by so many samples, or earlier; what is left open is silent."""
    if not by:
        return clip
    moved = np.zeros_like(clip)
    if by > 0:
        moved[by:] = clip[:-by]
    else:
        moved[:by] = clip[-by:]
    return moved


def echoed(
    clip: NDArray[np.float32], rate: int, size: float, delays: NDArray[np.float64], signs: NDArray[np.float64]
) -> NDArray[np.float32]:
    """``clip`` with its echoes: after shares ``delays`` of the room's time, which ``size`` (0..1) draws; by 60 dB down at its end."""
    span = (ROOM_SECONDS[0] + size * (ROOM_SECONDS[1] - ROOM_SECONDS[0])) * rate
    heard = clip.copy()
    for delay, sign in zip(delays, signs, strict=True):
        after = 1 + int(delay * span)
        if after < len(clip):
            heard[after:] += np.float32((1.0 if sign < 0.5 else -1.0) * 0.5 * 10 ** (-3 * delay)) * clip[:-after]
    return heard


def behind(clip: NDArray[np.float32], noise: NDArray[np.float32], snr: float) -> NDArray[np.float32]:
    """``noise`` as loud as it is to be behind ``clip``: ``snr`` dB below what of the clip is not digital silence."""
    heard = clip[clip != 0]
    level = max(LEAST_RMS, _rms(heard)) if len(heard) else LEAST_RMS
    return noise * np.float32(level / max(1e-6, _rms(noise)) * 10 ** (-snr / 20))


def noise_of(bank: NDArray[np.float32], length: int, where: float) -> NDArray[np.float32]:
    """``length`` samples of ``bank`` from a place ``where`` (0..1) draws; a short one is repeated."""
    if len(bank) < length:
        bank = np.resize(bank, length)
    start = int(where * (len(bank) - length + 1))
    return bank[start : start + length]


def coloured(rate: int) -> NDArray[np.float32]:
    """White, pink and brown noise of the same loudness, some seconds of each."""
    length = COLOURED_SECONDS * rate
    frequencies = np.maximum(np.fft.rfftfreq(length, 1 / rate), 20.0)
    parts = []
    for number, exponent in enumerate((0.0, 0.5, 1.0)):
        spectrum = np.fft.rfft(np.random.default_rng((SEED, number)).standard_normal(length)) / frequencies**exponent
        wave = np.fft.irfft(spectrum, length)
        parts.append((1000 * wave / wave.std()).astype(np.float32))
    return np.concatenate(parts)


def _rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _recordings(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS) if folder.is_dir() else []


def _loaded(files: Sequence[Path], rate: int) -> Iterator[NDArray[np.float32]]:
    for path in files:
        try:
            sound = part(path, 0, MOST_MS, 0)
        except BadInput:
            continue
        if len(sound.samples):
            wave = sound.samples if sound.rate == rate else soxr.resample(sound.samples, sound.rate, rate, quality="HQ")
            yield wave * np.float32(32768)
