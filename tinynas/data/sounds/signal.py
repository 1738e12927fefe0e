"""What the shared files need to know of sounds: how they are cut, resampled and read through a front end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr
from numpy.typing import NDArray

from tinynas.data.options import DataOptions
from tinynas.data.records import Record, plural
from tinynas.data.signal import Decoded, Signal, Waves
from tinynas.data.sounds.change import Changer
from tinynas.data.sounds.decode import Sound
from tinynas.errors import DataError
from tinynas.front_end import FrontEnd
from tinynas.inputs import Input
from tinynas.sound.features import features, in_bytes, logarithms

SAMPLES = 1
"""Version of how samples are made (mixing, cutting, resampling) and changed, and of the front end's arithmetic."""
LOW = 0.6
"""Half of the recordings reaching less of a network's range than this is worth a warning."""


def sound_signal(options: DataOptions, changer: Changer) -> Signal:
    """Recordings read through a network's front end; ``changer`` is what training does to them."""
    return Signal(
        kind="sound",
        version=SAMPLES,
        how=f"clip{options.clip}",
        channels=(),
        decode=_decoded,
        fit=_fit,
        unit=" ms",
        advice=_advice,
        sized=False,
        waves=Waves(cut, read, bands, in_bytes, changer),
    )


def cut(sound: Sound, front_end: FrontEnd) -> NDArray[np.int16]:
    """The middle of ``sound`` as (clip_samples,) of ``front_end``'s rate; what lies beyond its ends is silent."""
    rate, length = front_end.sample_rate, front_end.clip_samples
    samples = sound.samples if sound.rate == rate else soxr.resample(sound.samples, sound.rate, rate, quality="HQ")
    whole = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype(np.int16)
    begin = round(sound.centre * rate / sound.rate - length / 2)
    clip = np.zeros(length, np.int16)
    first, last = max(0, begin), min(len(whole), begin + length)
    if last > first:
        clip[first - begin : last - begin] = whole[first:last]
    return clip


def read(samples: NDArray[np.int16], front_end: FrontEnd) -> NDArray[np.uint8]:
    """Samples (N, clip_samples) as (N, *front_end.shape)."""
    return features(samples, front_end)


def bands(samples: NDArray[np.int16], front_end: FrontEnd) -> NDArray[np.uint16]:
    """Samples (N, clip_samples) as logarithms (N, frames, bins)."""
    return logarithms(samples, front_end).astype(np.uint16)


def _fit(sound: Decoded, network: Input) -> NDArray[np.uint8]:
    if network.front_end is None:
        raise DataError(
            f"a network that reads {'x'.join(map(str, network.shape))} without a front end cannot hear sounds",
            "use a network or a space with a front_end, which says how sounds become features",
        )
    fitted: NDArray[np.uint8] = read(cut(sound, network.front_end)[None], network.front_end)[0]
    return fitted


def _decoded(data: bytes) -> Decoded:
    raise AssertionError("sounds are read as parts of files")


def _advice(records: Sequence[Record]) -> list[str]:
    low = [record for record in records if record.size[1] < 15_900]
    if len(low) < LOW * len(records) or not records:
        return []
    rates = sorted({record.size[1] for record in low})
    shown = ", ".join(f"{rate:,}" for rate in rates[:3])
    return [
        f"{plural(len(low), 'sound')} of {len(records):,} have {shown} samples a second: nothing is in them above {rates[-1] / 2:,.0f} Hz; "
        "a front end of their rate costs less than one of 16,000"
    ]
