"""Recordings in files: whether they can be read, and any part of them as samples of one channel."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from tinynas.data.majority import SOUNDS
from tinynas.data.records import BadInput
from tinynas.data.scan import Measured

ENDINGS = SOUNDS
MAX_BYTES = 2 * 1024**3
LEAST_MS = 10
"""A shorter recording is none."""
QUIET = 4 / 32768
"""A file's samples that are all smaller are digital silence: what a lossy format makes of zeros."""
SLACK = 64
"""Recorders count their header's 44 bytes as sound now and then."""
STREAMED = 0x7FFF0000
"""What programs write into a pipe, whose end they do not know, says this length or more."""
LOUDEST = 8.0
"""Full scale is 1. Lossy formats overshoot it a little; samples of a float file beyond are integers that nobody divided."""
RATES = (2000, 768_000)
"""Samples a second, at least and at most."""
BLOCK = 1 << 18


@dataclass(frozen=True, eq=False)
class Sound:
    """A part of a recording, of one channel."""

    samples: NDArray[np.float32]
    """(N,), full range being -1 to 1."""
    rate: int
    """Samples a second."""
    centre: float
    """Which sample lies in the middle of what is meant; what is around it is heard where a network hears longer."""


def measure(data: bytes) -> Measured:
    """Length in milliseconds (as the height), rate (as the width) and audible extent of a recording, all of which is decoded.

    Raises BadInput: an empty file, one that cannot be decoded, one that is cut off, too short or silent.
    """
    if not data:
        raise BadInput("empty file")
    if missing := _missing(data):
        raise BadInput(f"cut off: {missing:,} bytes of sound are missing")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return _measured(file)
    except (soundfile.SoundFileError, OSError, ValueError, MemoryError):
        raise BadInput("cannot be decoded") from None


def _missing(data: bytes) -> int:
    """Bytes that the header of a WAV file has and the file has not; 0 of other formats, and where a stream's length was not known."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return 0
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            missing = at + 8 + size - len(data)
            return missing if missing > SLACK and size < STREAMED else 0
        at += 8 + size + size % 2
    return 0


def _measured(file: soundfile.SoundFile) -> Measured:
    rate = int(file.samplerate)
    if not RATES[0] <= rate <= RATES[1]:
        raise BadInput(f"of {rate} samples a second")
    at, first, last = 0, -1, -1
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        loud = np.abs(block).max(axis=1)
        if not np.isfinite(loud).all():
            raise BadInput("samples that are no numbers")
        if loud.max() > LOUDEST:
            raise BadInput(f"samples up to {loud.max():,.0f} times full scale, which is 1: divide them, by 32768 if they were of 16 bits")
        heard = np.flatnonzero(loud > QUIET)
        if len(heard):
            first = at + int(heard[0]) if first < 0 else first
            last = at + int(heard[-1]) + 1
        at += len(block)
    if at < rate * LEAST_MS // 1000:
        raise BadInput(f"shorter than {LEAST_MS} ms")
    if first < 0:
        raise BadInput("silent: all zeros")
    return Measured(round(1000 * at / rate), rate, None, (1000 * first // rate, -(-1000 * last // rate)))


def part(source: Path | bytes, start_ms: float, end_ms: float, around_ms: float) -> Sound:
    """What lies from ``start_ms`` to ``end_ms`` of a recording, and as much as ``around_ms`` before and after it.

    Raises BadInput where it cannot be decoded any more.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            rate = int(file.samplerate)
            first = max(0, round((start_ms - around_ms) * rate / 1000))
            last = min(int(file.frames), round((end_ms + around_ms) * rate / 1000))
            if file.seekable():
                file.seek(first)
            else:  # some codecs of telephony are read from the beginning only
                left = first
                while left and (skipped := len(file.read(min(left, BLOCK), dtype="float32", always_2d=True))):
                    left -= skipped
            block = file.read(max(0, last - first), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise BadInput(f"cannot be decoded: {error}") from None
    mixed = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    return Sound(np.ascontiguousarray(mixed), rate, (start_ms + end_ms) / 2 * rate / 1000 - first)
