"""Builds compiled networks into a program of this computer, runs frames through them, and says what memory they touched."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinynas.cost.streamed import Frame
from tinynas.export.compiled import CompiledModel

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Wundef", "-Wstrict-prototypes", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1")

#: Of each network: outputs of each frame, in hexadecimal, and the bytes of its work area that were written; two instances take turns.
MAIN = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
%(includes)s
#define PAINT 0xa5
static uint8_t frame[%(most)d];
static int get(uint32_t bytes) { return fread(frame, 1, bytes, stdin) == bytes; }
static void put(const char *name, const int8_t *out, int n) {
  printf("%%s ", name);
  for (int i = 0; i < n; ++i) printf("%%02x", (unsigned)(uint8_t)out[i]);
  printf("\n");
}
static void touched(const char *name, const uint8_t *at, uint32_t bytes) {
  uint32_t last = 0, count = 0;
  for (uint32_t i = 0; i < bytes; ++i) if (at[i] != PAINT) { last = i + 1; ++count; }
  printf("%%s touched %%u %%u\n", name, (unsigned)last, (unsigned)count);
}
%(networks)s
int main(void) {
%(calls)s
  return 0;
}
"""
_NETWORK = r"""
static void try_%(name)s(uint32_t frames) {
  static struct { uint8_t before[64]; %(name)s_t it; uint8_t behind[64]; } one, other;
  const uint32_t bytes = %(UPPER)s_HEIGHT * %(UPPER)s_WIDTH * %(UPPER)s_CHANNELS;
  memset(&one, PAINT, sizeof one);
  memset(&other, PAINT, sizeof other);
  for (uint32_t i = 0; i < frames; ++i) {
    if (!get(bytes)) return;
    %(run)s
    put("%(name)s", %(name)s_result(&one.it), %(UPPER)s_OUTPUTS);
    put("%(name)s", %(name)s_result(&other.it), %(UPPER)s_OUTPUTS);
  }
  for (int i = 0; i < 64; ++i) if (one.before[i] != PAINT || one.behind[i] != PAINT) printf("%(name)s outside\n");
  touched("%(name)s", (const uint8_t *)&one.it.area, sizeof one.it.area);
  printf("%(name)s size %%u\n", (unsigned)sizeof one.it);
}
"""
_RUN: dict[Frame, str] = {
    # Two instances, row by row in turns: nothing of one may lie in the other.
    "rows": """%(name)s_init(&one.it);
    %(name)s_init(&other.it);
    int whole = 0;
    for (uint32_t y = 0; y < %(UPPER)s_HEIGHT; ++y) {
      if (whole) printf("%(name)s early\\n");
      whole = %(name)s_push_row(&one.it, frame + y * %(UPPER)s_WIDTH * %(UPPER)s_CHANNELS);
      if (y == 0) %(name)s_run(&other.it, frame);
    }
    if (!whole) printf("%(name)s late\\n");""",
    "kept": """memcpy(%(name)s_frame(&one.it), frame, bytes);
    %(name)s_run(&one.it, NULL);
    %(name)s_run(&other.it, frame);""",
}


@dataclass(frozen=True)
class Ran:
    """What a network did."""

    outputs: np.ndarray
    """(frames, outputs) of int8."""
    touched: int
    """Bytes from the start of the area to the last one written."""
    written: int
    """Bytes written."""
    size: int
    """sizeof its structure."""


def program(models: Sequence[CompiledModel], frames: int, folder: Path, flags: Sequence[str], compiler: str = "gcc") -> Path:
    """The executable that runs ``frames`` of each of ``models`` in turn."""
    words = [{"name": m.name, "UPPER": m.name.upper()} for m in models]
    networks = "".join(_NETWORK % {**word, "run": _RUN[m.plan.frame] % word} for m, word in zip(models, words, strict=True))
    most = max(m.plan.graph.tensors[m.plan.graph.inputs[0]].elements for m in models)
    main = MAIN % {
        "includes": "\n".join(f'#include "{m.name}.h"' for m in models),
        "most": most,
        "networks": networks,
        "calls": "\n".join(f"  try_{m.name}({frames});" for m in models),
    }
    (folder / "main.c").write_text(main)
    sources = [folder / "main.c"]
    for model in models:
        for path, content in model.files.items():
            (folder / path).write_bytes(content)
        sources.append(folder / f"{model.name}.c")
    command = [compiler, "-std=c99", *WARNINGS, *flags, *map(str, sources), "-o", str(folder / "program")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    return folder / "program"


def run_program(path: Path, models: Sequence[CompiledModel], frames: Sequence[np.ndarray]) -> list[Ran]:
    """What each of ``models`` did with its ``frames`` (N, H, W, C) of uint8."""
    done = subprocess.run([str(path)], input=b"".join(f.tobytes() for f in frames), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[:3000]
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    return [ran_of(m, [words[1:] for words in lines if words[0] == m.name], len(f)) for m, f in zip(models, frames, strict=True)]


def ran_of(model: CompiledModel, lines: list[list[str]], frames: int) -> Ran:
    """What one model's lines say: each output comes twice."""
    *outputs, (touched, last, count), (size, bytes_) = lines
    assert (touched, size) == ("touched", "size"), lines[-3:]
    assert len(outputs) == 2 * frames and all(len(words) == 1 for words in outputs), outputs[:3]
    numbers = np.stack([np.frombuffer(bytes.fromhex(words[0]), np.int8) for words in outputs])
    assert np.array_equal(numbers[::2], numbers[1::2])
    return Ran(numbers[::2], int(last), int(count), int(bytes_))
