"""Preparing published data sets: ``tinynas data prepare NAME``. The CLI maps its arguments to the options, no more."""

from __future__ import annotations

from tinynas.data.images.shards import Expectation, OnPrepare, PrepareOptions, PrepareProgress, PrepareReport
from tinynas.data.images.vww import VwwOptions
from tinynas.data.images.vww import prepare_vww as vww
from tinynas.data.images.wake_vision import WakeVisionOptions
from tinynas.data.images.wake_vision import expect_wake_vision as expect
from tinynas.data.images.wake_vision import prepare_wake_vision as wake_vision
from tinynas.data.sounds.published import SETS, SoundReport, SoundSetOptions
from tinynas.data.sounds.published import prepare_sounds as sounds

__all__ = [
    "SETS",
    "Expectation",
    "OnPrepare",
    "PrepareOptions",
    "PrepareProgress",
    "PrepareReport",
    "SoundReport",
    "SoundSetOptions",
    "VwwOptions",
    "WakeVisionOptions",
    "expect",
    "sounds",
    "vww",
    "wake_vision",
]
