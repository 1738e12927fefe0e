"""Preparing published data sets: ``tinynas data prepare NAME``. The CLI maps its arguments to the options, no more."""

from __future__ import annotations

from tinynas.data.images.shards import Expectation, OnPrepare, PrepareOptions, PrepareProgress, PrepareReport
from tinynas.data.images.vww import VwwOptions
from tinynas.data.images.vww import prepare_vww as vww
from tinynas.data.images.wake_vision import WakeVisionOptions
from tinynas.data.images.wake_vision import expect_wake_vision as expect
from tinynas.data.images.wake_vision import prepare_wake_vision as wake_vision

__all__ = [
    "Expectation",
    "OnPrepare",
    "PrepareOptions",
    "PrepareProgress",
    "PrepareReport",
    "VwwOptions",
    "WakeVisionOptions",
    "expect",
    "vww",
    "wake_vision",
]
