"""Tables: the constants of a front end, made once and read by the Python arithmetic and by the generated C alike.

They are those that TFLM's micro front end makes when it starts (tensorflow/lite/experimental/microfrontend/lib), worked out in
the same order in single precision: sums and products round alike on every machine, and the three functions that do not (cosine,
logarithm, power) are taken in double precision and rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tinynas.front_end import FrontEnd

F32 = np.float32

WINDOW_BITS = 12
FILTER_BITS = 12
SMOOTHING_BITS = 10
"""Of the noise's estimate below the signal's last bit."""
NOISE_BITS = 14
EVEN_SMOOTHING = int(0.025 * (1 << NOISE_BITS))
ODD_SMOOTHING = int(0.06 * (1 << NOISE_BITS))
"""How much of a frame enters the noise's estimate, for channels of even and of odd number."""
LEAST_LEFT = int(0.05 * (1 << NOISE_BITS))
"""What noise reduction leaves of a signal at least."""
GAIN_BITS, GAIN_STRENGTH, GAIN_OFFSET = 21, F32(0.95), F32(80.0)
SNR_BITS, GAINED_BITS = 12, 6
LOG_BITS, LOG_SEGMENTS_BITS, LOG_COEFFICIENT, LOG_SHIFT = 16, 7, 45426, 6
"""A logarithm is told in 1/64 nepers."""
BYTES = 256
GAINED_RANGE = 666
"""25.6 * 26: what micro_speech and the wake words of ESPHome have a byte span, of logarithms after gain control."""
PLAIN_RANGE = 1024
"""The same without gain control: a tone of full scale is 990; within 666 a quarter of spoken digits' bytes were saturated."""
DCT_BITS = 12
"""Of the largest coefficient of the cosine transform."""

LOG_CURVE = np.rint((np.log2(1 + np.arange(129) / 128) - np.arange(129) / 128) * (1 << LOG_BITS)).astype(np.int64)
"""log2(1 + i / 128) - i / 128 in 1/65,536."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The constants of one front end."""

    window: NDArray[np.int16]
    """(window,) of 12 fractional bits."""
    sine: NDArray[np.int16]
    """(fft_size // 4 + 1,): a quarter of a wave of amplitude 32,767 over the FFT's circle; every twiddle factor is one of these."""
    first_bin: int
    """Of the FFT's output, where the filter bank begins; channel after channel takes the next of ``widths`` bins."""
    widths: NDArray[np.int64]
    """(bins + 1,): how many of the FFT's bins lie on a channel's rising side; the last one's on the falling side of the last channel."""
    rising: NDArray[np.int64]
    """A weight of 12 fractional bits for each of those bins, within the channel that it rises to."""
    falling: NDArray[np.int64]
    """And within the channel before: 4,096 less ``rising``, or one more where both were rounded up."""
    filters: NDArray[np.float64]
    """(bins, len(rising)): the same weights as a matrix."""
    gain: NDArray[np.int64] | None
    """(125,): what PCAN multiplies by over the noise's estimate, in segments of three numbers after two; none without PCAN."""
    cosine: NDArray[np.int64] | None
    """(coefficients, bins) of the cosine transform, of ``cosine_bits`` fractional bits; none for plain log-mel."""
    cosine_bits: int
    span: int
    """Of the logarithms, in 256 bytes."""
    correction: int
    """Bits by which a channel is scaled up before its logarithm, so that the FFT's length does not show."""
    gain_shift: int
    """Bits by which a gained signal is scaled down."""


@lru_cache(maxsize=64)
def tables_of(front_end: FrontEnd) -> Tables:
    """The tables of ``front_end``; made once a process."""
    correction = front_end.fft_size.bit_length() - 1 - FILTER_BITS // 2
    first, widths, rising, falling = _filters(front_end)
    cosine, cosine_bits = _cosine(front_end) if front_end.kind == "mfcc" else (None, 0)
    return Tables(
        _window(front_end.window),
        _sine(front_end.fft_size),
        first,
        widths,
        rising,
        falling,
        _matrix(widths, rising, falling),
        _gain(SMOOTHING_BITS - correction) if front_end.pcan else None,
        cosine,
        cosine_bits,
        span_of(front_end),
        correction,
        GAIN_BITS - correction - SNR_BITS,
    )


def span_of(front_end: FrontEnd) -> int:
    """How far the logarithms reach that the 256 values of a byte tell apart."""
    return GAINED_RANGE if front_end.pcan else PLAIN_RANGE


def _window(size: int) -> NDArray[np.int16]:
    step = F32(math.pi) * F32(2) / F32(size)
    angles = step * (np.arange(size, dtype=F32) + F32(0.5))
    value = F32(0.5) - F32(0.5) * np.cos(angles.astype(np.float64)).astype(F32)
    rounded: NDArray[np.int16] = np.floor(value * F32(1 << WINDOW_BITS) + F32(0.5)).astype(np.int16)
    return rounded


def _sine(size: int) -> NDArray[np.int16]:
    return np.array([math.floor(0.5 + 32767 * math.sin(2 * math.pi * i / size)) for i in range(size // 4 + 1)], np.int16)


def _mel(hertz: NDArray[np.float32]) -> NDArray[np.float32]:
    return F32(1127) * np.log1p((hertz / F32(700)).astype(np.float64)).astype(F32)


def _filters(front_end: FrontEnd) -> tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(first bin, widths, rising, falling)."""
    low, high = (_mel(np.array(hertz, F32)) for hertz in (front_end.low_hz, front_end.top_hz))
    channels = front_end.bins + 1
    spacing = (high - low) / F32(channels)
    centres = low + spacing * np.arange(1, channels + 1, dtype=F32)
    # the library's sizes are ints: half the rate over half the FFT, in single precision
    bin_hertz = F32(0.5 * front_end.sample_rate) / F32(front_end.fft_size // 2)
    first = int(F32(1.5) + F32(front_end.low_hz) / bin_hertz)
    mels = _mel(np.arange(first, front_end.fft_size // 2 + 1, dtype=F32) * bin_hertz)
    ends = np.searchsorted(mels, centres, side="right")  # bins up to a centre, itself included
    widths = np.diff(ends, prepend=0)
    mels = mels[: ends[-1]]
    channel = np.repeat(np.arange(channels), widths)
    before = np.concatenate([[low], centres[:-1]]).astype(F32)
    weight = (centres[channel] - mels) / (centres - before)[channel]
    half, one = F32(0.5), F32(1 << FILTER_BITS)
    rising, falling = np.floor(weight * one + half), np.floor((F32(1) - weight) * one + half)
    return first, widths.astype(np.int64), rising.astype(np.int64), falling.astype(np.int64)


def _matrix(widths: NDArray[np.int64], rising: NDArray[np.int64], falling: NDArray[np.int64]) -> NDArray[np.float64]:
    matrix, column = np.zeros((len(widths) + 1, len(rising))), np.arange(len(rising))
    channel = np.repeat(np.arange(len(widths)), widths)
    matrix[channel, column] = rising
    matrix[channel + 1, column] = falling
    return matrix[1:-1]


def _gain(input_bits: int) -> NDArray[np.int64]:
    def at(x: int) -> int:
        base = F32(x) / F32(1 << input_bits) + GAIN_OFFSET
        gain = F32(1 << GAIN_BITS) * F32(float(base) ** -float(GAIN_STRENGTH))
        return 32767 if gain > F32(32767) else int(gain + F32(0.5))

    entries = [at(0), at(1)]
    for interval in range(2, 33):
        x0 = 1 << (interval - 1)
        x2 = x0 + x0 - 1 if interval == 32 else 2 * x0
        y0, y1, y2 = at(x0), at(x0 + (x0 >> 1)), at(x2)
        a1 = 4 * (y1 - y0) - (y2 - y0)
        entries += [y0, a1, (y2 - y0) - a1, 0]
    return np.array(entries[:-1], np.int64)


def _cosine(front_end: FrontEnd) -> tuple[NDArray[np.int64], int]:
    """DCT-II in steps of bytes: the first row gives the mean of the logarithms, the others the amplitudes of the cosines in them."""
    bins, step = front_end.bins, BYTES / span_of(front_end)
    angles = math.pi / bins * np.outer(np.arange(front_end.coefficients), np.arange(bins) + 0.5)
    scale = np.where(np.arange(front_end.coefficients) == 0, 1.0, 2.0)[:, None] / bins * step
    bits = DCT_BITS - math.frexp(2 / bins * step)[1]
    return np.rint(scale * np.cos(angles) * (1 << bits)).astype(np.int64), bits
