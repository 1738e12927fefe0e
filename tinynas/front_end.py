"""FrontEnd: what turns sound into what a network reads; its parameters, and the shape that follows from them."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinynas.config import Config

SampleRate = Literal[8000, 16000, 22050, 32000, 44100, 48000]
FeatureKind = Literal["mel", "mfcc"]
Layout = Literal["map", "series"]
ClipMs = Annotated[int, Field(ge=20, le=60_000)]
WindowMs = Annotated[int, Field(ge=4, le=200)]
StrideMs = Annotated[int, Field(ge=1, le=200)]
Bins = Annotated[int, Field(ge=4, le=128)]
Coefficients = Annotated[int, Field(ge=2, le=128)]
LowHz = Annotated[float, Field(ge=0, le=24_000)]
HighHz = Annotated[float, Field(gt=0, le=24_000)]
MAX_SAMPLES = 1 << 22
"""Of a clip: beyond it a length is a typing mistake."""


class FrontEnd(Config):
    """Log-mel features or their cosine transform, in the integers of TFLM's micro front end: window, FFT, filter bank, noise
    reduction, gain control (PCAN), logarithm."""

    kind: FeatureKind = "mel"
    """Logarithms of the filter bank's channels, or the first of their cosine transform."""
    sample_rate: SampleRate = 16000
    """Samples a second; recordings of another rate are resampled."""
    clip_ms: ClipMs = 1000
    """What the network hears at once, in milliseconds."""
    window_ms: WindowMs = 30
    """One frame, in milliseconds."""
    stride_ms: StrideMs = 20
    """From one frame to the next, in milliseconds."""
    bins: Bins = 40
    """Channels of the filter bank."""
    coefficients: Coefficients = 10
    """Of the cosine transform that are kept, the first included; with ``kind: mfcc``."""
    low_hz: LowHz = 125.0
    """Where the filter bank begins."""
    high_hz: HighHz | None = None
    """Where it ends; none: 7,500 Hz, or 15/16 of half the sample rate where that is less."""
    noise_reduction: bool = True
    """Subtract a running estimate of each channel's steady noise."""
    pcan: bool = True
    """Automatic gain control of each channel (PCAN)."""
    layout: Layout = "map"
    """``map``: frames x features with one channel, for 2-D convolutions; ``series``: frames x 1 with a channel a feature, for 1-D ones."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stride_ms > self.window_ms:
            raise ValueError(f"a stride of {self.stride_ms} ms leaves gaps between windows of {self.window_ms} ms")
        if self.clip_ms < self.window_ms:
            raise ValueError(f"a clip of {self.clip_ms} ms holds no window of {self.window_ms} ms")
        if self.top_hz >= self.sample_rate / 2:
            raise ValueError(f"high_hz {self.top_hz:g} is not below half the sample rate of {self.sample_rate}")
        if self.low_hz >= self.top_hz:
            raise ValueError(f"low_hz {self.low_hz:g} is not below high_hz {self.top_hz:g}")
        if self.kind == "mfcc" and self.coefficients > self.bins:
            raise ValueError(f"{self.coefficients} coefficients of {self.bins} bins: there are no more than bins")
        heard = int(self.top_hz / self.bin_hz) - int(self.low_hz / self.bin_hz)
        if heard <= self.bins:
            raise ValueError(
                f"{self.bins} bins of the {heard} frequencies that a window of {self.window_ms} ms tells apart from {self.low_hz:g} to "
                f"{self.top_hz:g} Hz: some would hear nothing; use fewer bins or a longer window"
            )
        if self.clip_samples > MAX_SAMPLES:
            raise ValueError(f"a clip of {self.clip_samples:,} samples is longer than {MAX_SAMPLES:,}")
        return self

    def of_bands(self) -> FrontEnd:
        """The same with the usual values of what comes behind the bands: front ends that hear alike until then are equal."""
        usual = FrontEnd()
        return self.model_copy(update={name: getattr(usual, name) for name in ("kind", "coefficients", "layout")})

    @property
    def summary(self) -> str:
        """For people, in one line: ``49 frames of 40 mel bins, 30 ms every 20 ms of 1 s at 16 kHz, noise reduction, PCAN``."""
        what = f"{self.coefficients} MFCC of {self.bins} mel bins" if self.kind == "mfcc" else f"{self.bins} mel bins"
        steps = "".join(f", {name}" for name, there in (("noise reduction", self.noise_reduction), ("PCAN", self.pcan)) if there)
        rate, clip = f"{self.sample_rate / 1000:g} kHz", f"{self.clip_ms / 1000:g} s"
        return f"{self.frames} frames of {what}, {self.window_ms} ms every {self.stride_ms} ms of {clip} at {rate}{steps}"

    @property
    def top_hz(self) -> float:
        """Where the filter bank ends, in Hz."""
        return min(7500.0, self.sample_rate * 15 / 32) if self.high_hz is None else self.high_hz

    @property
    def window(self) -> int:
        """Samples of one frame."""
        return self.sample_rate * self.window_ms // 1000

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        return self.sample_rate * self.stride_ms // 1000

    @property
    def clip_samples(self) -> int:
        """Samples of a clip."""
        return self.sample_rate * self.clip_ms // 1000

    @property
    def fft_size(self) -> int:
        """Points of the FFT: the power of two that holds a window."""
        return 1 << (self.window - 1).bit_length()

    @property
    def bin_hz(self) -> float:
        """From one frequency of the FFT to the next, in Hz."""
        return self.sample_rate / self.fft_size

    @property
    def features(self) -> int:
        """Numbers of one frame."""
        return self.coefficients if self.kind == "mfcc" else self.bins

    @property
    def frames(self) -> int:
        """Whole windows of a clip."""
        return 1 + (self.clip_samples - self.window) // self.stride

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what a network reads: time runs along the height."""
        return (self.frames, self.features, 1) if self.layout == "map" else (self.frames, 1, self.features)
