"""The front end in C: the same bytes as in Python, on this machine and on emulated cores, whatever pieces the sound comes in."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from sound_c import SANITIZED, frames_of, program
from test_sound_features import FRONT_ENDS, sounds

from tinynas.export.sound_code import front_end_code
from tinynas.front_end import FrontEnd
from tinynas.sound.features import features
from tinynas.target.cores import CORES
from tinynas.target.program import run_front_end

MFCC = [
    FrontEnd(kind="mfcc", layout="series"),
    FrontEnd(kind="mfcc", coefficients=40, bins=128, sample_rate=48000, window_ms=200, stride_ms=200, clip_ms=600, low_hz=0, pcan=False),
]
needs_gcc = pytest.mark.skipif(which("gcc") is None, reason="no C compiler")
needs_board = pytest.mark.skipif(
    which("arm-none-eabi-gcc") is None or which("qemu-system-arm") is None, reason="no compiler or emulator for Cortex-M"
)


@needs_gcc
@pytest.mark.parametrize("front_end", FRONT_ENDS + MFCC, ids=lambda front_end: f"{front_end.kind}{front_end.window}-{front_end.bins}")
def test_c_gives_the_bytes_of_python(front_end: FrontEnd, tmp_path: Path) -> None:
    samples = sounds(front_end.clip_samples, front_end.sample_rate)
    made = program(front_end, tmp_path / "c", *SANITIZED)
    np.testing.assert_array_equal(frames_of(made, samples, front_end), features(samples, front_end))


@needs_board
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_an_emulated_core_gives_the_same_bytes(core: str) -> None:
    for front_end in (FrontEnd(clip_ms=100), FrontEnd(clip_ms=60, kind="mfcc", sample_rate=8000, window_ms=20, stride_ms=10, bins=20)):
        samples = sounds(front_end.clip_samples, front_end.sample_rate)
        ran = run_front_end(CORES[core], "net", front_end_code(front_end, "net"), samples.tolist(), piece=133)
        assert b"".join(ran.frames) == features(samples, front_end).tobytes()


@needs_gcc
def test_a_call_takes_no_more_than_the_next_frame_wants(tmp_path: Path) -> None:
    front_end = FrontEnd(clip_ms=100)
    driver = """
#include <stdio.h>
#include "front_end.h"
static net_front_end_t state;
static int16_t samples[2000];
int main(void) {
  uint8_t frame[NET_FEATURES];
  int ready = 7;
  net_front_end_start(&state);
  printf("%d", net_front_end_push(&state, samples, 0, frame, &ready));
  printf(" %d", ready);
  printf(" %d", net_front_end_push(&state, samples, 479, frame, &ready));
  printf(" %d", ready);
  printf(" %d", net_front_end_push(&state, samples, 2000, frame, &ready));
  printf(" %d", ready);
  printf(" %d", net_front_end_push(&state, samples, 2000, frame, &ready));
  printf(" %d", ready);
  printf(" %d %d\\n", NET_FRAMES, (int)sizeof state);
  return 0;
}
"""
    made = program(front_end, tmp_path / "c", *SANITIZED, driver=driver)
    said = subprocess.run([str(made)], capture_output=True, text=True, check=True).stdout.split()
    # 480 samples for the first frame, 320 for each other one
    assert said[:9] == ["0", "0", "479", "0", "1", "1", "320", "1", str(front_end.frames)]
    assert int(said[9]) == 2 * 512 + 4 * 40 + 2 * 480 + 4
