"""Signal: what the inputs of a data set are, as far as the shared files need to know. Each wing of ``data/`` makes its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.data.records import Record
from tinynas.front_end import FrontEnd
from tinynas.inputs import Input
from tinynas.recipe import SoundAugment

Decoded = Any
"""One record as its signal decodes it: an image's pixels (height, width, channels), a recording's samples and their rate."""


def no_advice(records: Sequence[Record]) -> list[str]:
    """Of a signal of which nothing is known that records could tell."""
    return []


@dataclass(frozen=True)
class Waves:
    """How sounds become inputs: cut to samples, which are kept, and read through a front end. Training changes the samples."""

    cut: Callable[[Decoded, FrontEnd], NDArray[np.int16]]
    """A decoded record as (clip_samples,) of the front end's rate."""
    read: Callable[[NDArray[np.int16], FrontEnd], NDArray[np.uint8]]
    """Samples (N, clip_samples) as (N, *front_end.shape)."""
    bands: Callable[[NDArray[np.int16], FrontEnd], NDArray[np.uint16]]
    """The longest part of ``read``: samples as (N, frames, bins), the same for all front ends of one ``FrontEnd.of_bands``."""
    in_bytes: Callable[[NDArray[np.uint16], FrontEnd], NDArray[np.uint8]]
    """The rest of it."""
    change: Callable[[NDArray[np.int16], FrontEnd, SoundAugment, int, NDArray[np.int64]], NDArray[np.int16]]
    """Samples (N, clip_samples) of the records of these numbers as training hears them in a variant."""


@dataclass(frozen=True)
class Signal:
    """How one record becomes what a network reads: decoded at its own size, then fitted to (height, width, channels)."""

    kind: str
    """What one is, in the singular: "image". It selects the augmentations, and is in messages and in the cache's file names."""
    version: int
    """Of how inputs are made; another version never reads this one's cache."""
    how: str
    """The settings that ``decode`` and ``fit`` are bound to, such as "crop", safe in a file name: part of the cache's key."""
    channels: tuple[int, ...]
    """The numbers of channels that ``fit`` can give; none: any, ``fit`` judges."""
    decode: Callable[[bytes], Decoded]
    """A record's bytes at its own size. Raises BadInput."""
    fit: Callable[[Decoded, Input], NDArray[np.uint8]]
    """A decoded one as uint8 (height, width, channels) of what a network reads. Raises DataError where it cannot be made."""
    unit: str = ""
    """Of the sizes of records, with its space: " px"."""
    advice: Callable[[Sequence[Record]], list[str]] = no_advice
    """Warnings that follow from the sizes and spans of all records."""
    sized: bool = True
    """Whether a record's size says how large a network's input may well be; of sounds it is (milliseconds, samples a second)."""
    waves: Waves | None = None
    """Of sounds; ``fit`` is the same for one record."""
