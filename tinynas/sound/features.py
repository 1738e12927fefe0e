"""features: sound as a network reads it, in the integers of TFLM's micro front end, many clips at once.

The arithmetic is that of tensorflow/lite/experimental/microfrontend/lib and of the 16-bit kissfft under it, rounding for rounding:
window, FFT of a frame scaled up to 16 bits, energies in triangular filters, square root, the noise's running estimate, gain control
(PCAN), logarithm. The same arithmetic in C is in export/templates/sound; ``tests/test_sound_features.py`` holds the three together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinynas.front_end import FrontEnd
from tinynas.sound.tables import (
    BYTES,
    EVEN_SMOOTHING,
    GAINED_BITS,
    LEAST_LEFT,
    LOG_BITS,
    LOG_COEFFICIENT,
    LOG_CURVE,
    LOG_SEGMENTS_BITS,
    LOG_SHIFT,
    NOISE_BITS,
    ODD_SMOOTHING,
    SMOOTHING_BITS,
    SNR_BITS,
    WINDOW_BITS,
    Tables,
    tables_of,
)

AT_ONCE = 1 << 18
"""Samples of the frames that are transformed together: fewer cost more calls, more leave the cache."""
WORD = np.uint64(0xFFFFFFFF)


def features(samples: NDArray[np.int16], front_end: FrontEnd) -> NDArray[np.uint8]:
    """``samples`` (N, clip_samples) of ``front_end``'s rate as the bytes (N, *front_end.shape) that a network reads.

    Each clip begins in silence: what is known of its noise starts from nothing.
    """
    if samples.dtype != np.int16 or samples.ndim != 2 or samples.shape[1] != front_end.clip_samples:
        raise ValueError(f"{samples.dtype} samples of shape {samples.shape}, not int16 of (N, {front_end.clip_samples})")
    return in_bytes(logarithms(samples, front_end), front_end)


def recorded(samples: NDArray[np.int16], front_end: FrontEnd) -> NDArray[np.uint8]:
    """A whole recording's frames (frames, width, channels) of ``samples`` (n,), a window of them at least: what is known of the noise
    begins in silence and runs on, as behind a microphone."""
    frames: NDArray[np.uint8] = in_bytes(logarithms(samples[None], front_end), front_end)[0]
    return frames


def in_bytes(signal: NDArray[np.int64] | NDArray[np.uint16], front_end: FrontEnd) -> NDArray[np.uint8]:
    """What :func:`logarithms` gives (N, frames, bins) as the bytes (N, frames, width, channels) that a network reads."""
    tables = tables_of(front_end)
    wide: NDArray[np.int64] = signal.astype(np.int64, copy=False)
    if tables.cosine is None:
        scaled = (wide * BYTES + tables.span // 2) // tables.span
    else:
        scaled = (wide @ tables.cosine.T + (1 << (tables.cosine_bits - 1))) >> tables.cosine_bits
        scaled[..., 1:] += 128  # the amplitudes have a sign, the mean has none
    found: NDArray[np.uint8] = np.clip(scaled, 0, 255).astype(np.uint8)
    return found.reshape((*wide.shape[:2], *front_end.shape[1:]))


def logarithms(samples: NDArray[np.int16], front_end: FrontEnd) -> NDArray[np.int64]:
    """(N, frames, bins): the filter bank's channels of ``samples`` (N, n), of any length, after noise reduction and gain control, in 1/64
    nepers, 0 to 65,535.

    The same for all front ends of one :meth:`~tinynas.front_end.FrontEnd.of_bands`.
    """
    tables, clips = tables_of(front_end), len(samples)
    windows = np.lib.stride_tricks.sliding_window_view(samples, front_end.window, axis=1)[:, :: front_end.stride]
    count = windows.shape[1]
    signal = np.empty((clips * count, front_end.bins), np.int64)
    step = max(1, AT_ONCE // front_end.fft_size)
    by_clip = max(1, step // count)
    for clip in range(0, clips, by_clip):
        some = windows[clip : clip + by_clip].reshape(-1, front_end.window)
        for begin in range(0, len(some), step):
            at = clip * count + begin
            part = some[begin : begin + step]
            signal[at : at + len(part)] = _channels(part, front_end, tables)
    frames = signal.reshape(clips, count, front_end.bins).view(np.uint64)
    if front_end.noise_reduction or tables.gain is not None:
        _steady(frames, front_end, tables)
    return _logarithm(frames, tables.correction)


def _channels(frames: NDArray[np.int16], front_end: FrontEnd, tables: Tables) -> NDArray[np.int64]:
    """(F, bins): the magnitude in each filter's channel of ``frames`` (F, window)."""
    windowed = ((frames.astype(np.int32) * tables.window) >> WINDOW_BITS).astype(np.int16)
    # as the library has it: the one value without a positive counterpart stays negative and is no maximum
    loudest = np.maximum(np.abs(windowed).max(axis=1), 0)
    shift = 15 - np.frexp(loudest.astype(np.float64))[1]
    padded = np.zeros((front_end.fft_size, len(frames)), np.int16)
    padded[: front_end.window] = (windowed.astype(np.int32) << shift[:, None]).astype(np.int16).T
    real, imaginary = spectrum(padded, tables)
    used = slice(tables.first_bin, tables.first_bin + len(tables.rising))
    energy = np.square(real[used], dtype=np.float64) + np.square(imaginary[used], dtype=np.float64)
    # energies by weights of 12 bits, whose sum is bounded by the frame's own energy: exact in doubles, in any order
    channels: NDArray[np.int64] = (_root(tables.filters @ energy) >> shift).T
    return channels


def _root(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The square root of whole ``values``, rounded; below 2^32 at most 65,535."""
    root = np.floor(np.sqrt(values))
    rounded = root + (values - root * root > root)
    whole: NDArray[np.int64] = np.where(values < 2.0**32, np.minimum(rounded, 65535), rounded).astype(np.int64)
    return whole


def spectrum(frames: NDArray[np.int16], tables: Tables) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Real and imaginary parts (fft_size // 2, F) of the FFT of ``frames`` (fft_size, F), scaled down by fft_size: kissfft's.

    Two neighbouring samples are one complex number; stages of four (and a first one of two where the length asks for it) divide
    by four before they add, in 16 bits that wrap.
    """
    size, count = len(frames) // 2, frames.shape[1]
    real, imaginary = frames[0::2].reshape(1, size, count), frames[1::2].reshape(1, size, count)
    length = 1
    while length < size:
        radix = 2 if length == 1 and size.bit_length() % 2 == 0 else 4
        shape = (length, radix, size // length // radix, count)
        real, imaginary = _stage(_divided(real.reshape(shape), radix), _divided(imaginary.reshape(shape), radix), tables, size)
        length *= radix
        real, imaginary = (part.reshape(length, size // length, count) for part in (real, imaginary))
    return _of_reals(real.reshape(size, count), imaginary.reshape(size, count), tables)


def _stage(real: NDArray[np.int16], imaginary: NDArray[np.int16], tables: Tables, size: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Parts (length, radix, rest, F) of transforms joined: (radix, length, rest, F)."""
    length, radix = real.shape[:2]
    turned = [(real[:, 0], imaginary[:, 0])]
    for branch in range(1, radix):
        a, b = real[:, branch], imaginary[:, branch]
        if length > 1:  # the first twiddle factor changes nothing that was divided before
            angles = np.arange(length) * branch * (2 * size // (length * radix))
            a, b = _times(a, b, *_twiddles(tables, angles))
        turned.append((a, b))
    out = np.empty((radix, length, *real.shape[2:]), np.int16), np.empty((radix, length, *real.shape[2:]), np.int16)
    if radix == 2:
        (a, b), (c, d) = turned
        np.add(a, c, out=out[0][0])
        np.add(b, d, out=out[1][0])
        np.subtract(a, c, out=out[0][1])
        np.subtract(b, d, out=out[1][1])
        return out
    (a, b), (c, d), (e, f), (g, h) = turned
    even, even_i, odd, odd_i = a + e, b + f, c + g, d + h
    np.add(even, odd, out=out[0][0])
    np.add(even_i, odd_i, out=out[1][0])
    np.subtract(even, odd, out=out[0][2])
    np.subtract(even_i, odd_i, out=out[1][2])
    even, even_i, odd, odd_i = a - e, b - f, c - g, d - h
    np.add(even, odd_i, out=out[0][1])
    np.subtract(even_i, odd, out=out[1][1])
    np.subtract(even, odd_i, out=out[0][3])
    np.add(even_i, odd, out=out[1][3])
    return out


def _of_reals(real: NDArray[np.int16], imaginary: NDArray[np.int16], tables: Tables) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The spectrum of real samples out of that of their pairs, but for the bin at half the sample rate."""
    size = len(real)
    real, imaginary = _divided(real, 2), _divided(imaginary, 2)
    out_real, out_imaginary = np.empty(real.shape, np.int32), np.empty(real.shape, np.int32)
    out_real[0], out_imaginary[0] = real[0] + imaginary[0], 0
    half = slice(1, size // 2 + 1)
    back = np.arange(size - 1, size // 2 - 1, -1)
    a, b, c, d = real[half], imaginary[half], real[back], -imaginary[back]
    sum_real, sum_imaginary = a + c, b + d
    turned, turned_imaginary = _times(a - c, b - d, *_twiddles(tables, size // 2 + np.arange(1, size // 2 + 1)))
    wide: Callable[[NDArray[np.int16]], NDArray[np.int32]] = lambda part: part.astype(np.int32)  # noqa: E731
    e, f, g, h = wide(sum_real), wide(sum_imaginary), wide(turned), wide(turned_imaginary)
    out_real[half], out_imaginary[half] = (e + g) >> 1, (f + h) >> 1
    out_real[back], out_imaginary[back] = (e - g) >> 1, (h - f) >> 1
    return out_real, out_imaginary


def _divided(values: NDArray[np.int16], by: int) -> NDArray[np.int16]:
    wide = values.astype(np.int32)
    wide *= 32767 // by
    wide += 1 << 14
    wide >>= 15
    return wide.astype(np.int16)


def _times(
    real: NDArray[np.int16], imaginary: NDArray[np.int16], cosine: NDArray[np.int32], sine: NDArray[np.int32]
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """The product with twiddle factors (first axis), rounded to 16 bits that wrap."""
    a, b = real.astype(np.int32), imaginary.astype(np.int32)
    along = (-1,) + (1,) * (real.ndim - 1)
    cosine, sine = cosine.reshape(along), sine.reshape(along)
    products = []
    for first, second in ((a * cosine, b * -sine), (a * sine, b * cosine)):
        first += second
        first += 1 << 14
        first >>= 15
        products.append(first.astype(np.int16))
    return products[0], products[1]


def _twiddles(tables: Tables, angles: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """cos and -sin of ``angles`` in steps of the FFT's circle, as 32,767ths."""
    quarter = len(tables.sine) - 1
    quadrant, rest = np.divmod(angles, quarter)
    sine, cosine = tables.sine[rest].astype(np.int32), tables.sine[quarter - rest].astype(np.int32)
    return np.choose(quadrant, [cosine, -sine, -cosine]), np.choose(quadrant, [-sine, -cosine, sine])


def _steady(frames: NDArray[np.uint64], front_end: FrontEnd, tables: Tables) -> None:
    """Noise reduction and gain control in place of ``frames`` (N, frames, bins): a recursion over frames. 32 bits that wrap."""
    even = np.arange(front_end.bins) % 2 == 0
    smoothing = np.where(even, EVEN_SMOOTHING, ODD_SMOOTHING).astype(np.uint64)
    rest = np.uint64(1 << NOISE_BITS) - smoothing
    scaled = (frames << np.uint64(SMOOTHING_BITS)) & WORD
    estimates = scaled * smoothing
    before: NDArray[np.uint64] = np.zeros_like(frames[:, 0])
    for frame in range(frames.shape[1]):
        before = ((estimates[:, frame] + before * rest) >> np.uint64(NOISE_BITS)) & WORD
        estimates[:, frame] = before
    if front_end.noise_reduction:
        least = (frames * np.uint64(LEAST_LEFT)) >> np.uint64(NOISE_BITS)
        np.maximum((scaled - np.minimum(estimates, scaled)) >> np.uint64(SMOOTHING_BITS), least, out=frames)
    if tables.gain is not None:
        snr = ((frames * _gain_over(estimates, tables.gain)) >> np.uint64(tables.gain_shift)) & WORD
        few = (snr * snr & WORD) >> np.uint64(2 + 2 * SNR_BITS - GAINED_BITS)
        many = (snr >> np.uint64(SNR_BITS - GAINED_BITS)) - np.uint64(1 << GAINED_BITS)
        frames[...] = np.where(snr < np.uint64(2 << SNR_BITS), few, many)


def _gain_over(noise: NDArray[np.uint64], table: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The gain by quadratic interpolation between powers of two."""
    interval = _bit_length(noise)
    value = noise.astype(np.int64)
    at = np.maximum(4 * interval - 6, 0)
    fraction = np.where(interval < 11, value << np.maximum(11 - interval, 0), value >> np.maximum(interval - 11, 0)) & 0x3FF
    last = len(table) - 1
    result = ((table[np.minimum(at + 2, last)] * fraction) >> 5) + (table[np.minimum(at + 1, last)] << 5)
    result = ((result * fraction + (1 << 14)) >> 15) + table[np.minimum(at, last)]
    gain: NDArray[np.int64] = np.where(value <= 2, table[np.minimum(value, 2)], result)
    return gain.view(np.uint64)


def _bit_length(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _logarithm(values: NDArray[np.uint64], correction: int) -> NDArray[np.int64]:
    shifted = (values << np.uint64(correction)) & WORD if correction >= 0 else values >> np.uint64(-correction)
    whole = np.maximum(_bit_length(shifted) - 1, 0)
    value = shifted.astype(np.int64)
    fraction = value - (np.int64(1) << whole)
    fraction = np.where(whole < LOG_BITS, fraction << np.maximum(LOG_BITS - whole, 0), fraction >> np.maximum(whole - LOG_BITS, 0))
    segment_bits = LOG_BITS - LOG_SEGMENTS_BITS
    segment = np.maximum(fraction, 0) >> segment_bits
    low, high = LOG_CURVE[segment], LOG_CURVE[segment + 1]
    log2 = (whole << LOG_BITS) + fraction + low + (((high - low) * (fraction - (segment << segment_bits))) >> LOG_BITS)
    half = 1 << (LOG_BITS - 1)
    natural = (LOG_COEFFICIENT * log2 + half) >> LOG_BITS
    return np.where(value > 1, ((natural << LOG_SHIFT) + half) >> LOG_BITS, 0)
