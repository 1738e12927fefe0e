"""The front end in C as a program that reads samples and writes frames: on this machine, or for an emulated core."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinynas.export.sound_code import front_end_code
from tinynas.front_end import FrontEnd

#: Samples are pushed in pieces of every length that the recurrence makes, frames come out.
DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include "front_end.h"
static net_front_end_t state;
int main(int count, char **words) {
  static int16_t samples[NET_CLIP];
  uint8_t frame[NET_FEATURES];
  uint32_t seed = 1, most = count > 1 ? (uint32_t)atoi(words[1]) : 400;
  while (fread(samples, 2, NET_CLIP, stdin) == NET_CLIP) {
    net_front_end_start(&state);
    for (int at = 0; at < NET_CLIP;) {
      int ready, piece = (int)((seed = seed * 1664525u + 1013904223u) % most) + 1;
      if (piece > NET_CLIP - at) piece = NET_CLIP - at;
      at += net_front_end_push(&state, samples + at, piece, frame, &ready);
      if (ready) fwrite(frame, 1, NET_FEATURES, stdout);
    }
  }
  return 0;
}
"""
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror", "-pedantic")


def program(front_end: FrontEnd, folder: Path, *flags: str, driver: str = DRIVER) -> Path:
    folder.mkdir(exist_ok=True)
    for path, content in front_end_code(front_end, "net").items():
        (folder / path).write_bytes(content)
    (folder / "driver.c").write_text(driver)
    command = ["gcc", *STRICT, *flags, "driver.c", "front_end.c", "-o", "program"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "program"


def frames_of(made: Path, samples: NDArray[np.int16], front_end: FrontEnd) -> NDArray[np.uint8]:
    done = subprocess.run([str(made)], input=samples.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.uint8).reshape(len(samples), *front_end.shape)
