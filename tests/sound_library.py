"""TFLM's own micro front end, compiled on this machine: what ours is compared with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from numpy.typing import NDArray

from tinynas.front_end import FrontEnd

LIBRARY = "tensorflow/lite/experimental/microfrontend/lib"
C_PARTS = (
    *("window", "window_util", "filterbank", "filterbank_util", "noise_reduction", "noise_reduction_util"),
    *("pcan_gain_control", "pcan_gain_control_util", "log_scale", "log_scale_util", "log_lut", "frontend", "frontend_util"),
)
#: Of float functions only log1pf differs between C libraries in its last bit, which decides a few of the filters' weights:
#: here it is the rounded one.
ROUNDED = """#include <math.h>
static inline float rounded_log1pf(float x) { return (float)log1p((double)x); }
#define log1pf rounded_log1pf
"""
DRIVER = """
#include "LIB/frontend.h"
#include "LIB/frontend_util.h"
#include <cstdio>
#include <cstdlib>
#include <vector>
int main(int, char** words) {
  FrontendConfig config;
  FrontendFillConfigWithDefaults(&config);
  config.window.size_ms = atoi(words[2]);
  config.window.step_size_ms = atoi(words[3]);
  config.filterbank.num_channels = atoi(words[4]);
  config.filterbank.lower_band_limit = atof(words[5]);
  config.filterbank.upper_band_limit = atof(words[6]);
  if (!atoi(words[7])) config.noise_reduction.min_signal_remaining = 1.0;
  config.pcan_gain_control.enable_pcan = atoi(words[8]);
  const size_t clip = atoi(words[9]);
  FrontendState state;
  if (!FrontendPopulateState(&config, &state, atoi(words[1]))) return 3;
  std::vector<int16_t> samples(clip);
  while (fread(samples.data(), 2, clip, stdin) == clip) {
    FrontendReset(&state);
    for (size_t at = 0; at < clip;) {
      size_t taken;
      FrontendOutput out = FrontendProcessSamples(&state, samples.data() + at, clip - at, &taken);
      at += taken;
      if (out.size) fwrite(out.values, 2, out.size, stdout);
    }
  }
  return 0;
}
"""


def built_library(folder: Path) -> Path:
    """The program around the library; the test is skipped where its sources or a compiler are not there."""
    data = Path(os.environ.get("TINYNAS_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    tree = Path(os.environ.get("TFLM_DIR", data.parent / "tflm"))
    if not (tree / LIBRARY).is_dir() or which("g++") is None:
        pytest.skip("TFLM's sources (TFLM_DIR) or a compiler are not here")
    return library_of(tree, folder)


def library_of(tree: Path, folder: Path) -> Path:
    """The program around the library of the TFLM ``tree``, built in ``folder``."""
    (folder / "rounded.h").write_text(ROUNDED)
    (folder / "driver.cc").write_text(DRIVER.replace("LIB", LIBRARY))
    include = ["-O2", f"-I{tree}", f"-I{tree}/third_party/kissfft"]
    objects = []
    for part in C_PARTS:
        objects.append(str(folder / f"{part}.o"))
        compiled("gcc", *include, "-include", str(folder / "rounded.h"), "-c", str(tree / LIBRARY / f"{part}.c"), "-o", objects[-1])
    sources = [str(tree / LIBRARY / f"{part}.cc") for part in ("fft", "fft_util", "kiss_fft_int16")]
    compiled("g++", *include, str(folder / "driver.cc"), *sources, *objects, "-o", str(folder / "library"), "-lm")
    return folder / "library"


def compiled(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def logarithms_of(library: Path, samples: NDArray[np.int16], front_end: FrontEnd) -> NDArray[np.uint16]:
    """(N, frames, bins) of clips (N, clip_samples), each from the library's first state."""
    numbers = (
        *(front_end.sample_rate, front_end.window_ms, front_end.stride_ms, front_end.bins, front_end.low_hz, front_end.top_hz),
        *(int(front_end.noise_reduction), int(front_end.pcan), front_end.clip_samples),
    )
    done = subprocess.run([str(library), *map(str, numbers)], input=samples.tobytes(), capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint16).reshape(len(samples), front_end.frames, front_end.bins)
