"""What the code around a model costs on a Cortex-M4: flash by file, and instructions to turn a frame into the input.

Needs arm-none-eabi-g++ and qemu-system-arm (Debian: gcc-arm-none-eabi libstdc++-arm-none-eabi-newlib
qemu-system-arm). Writes results/benchmarks/firmware_cost.json and .md. Instructions are counted by the emulator
(one per nanosecond of virtual time, read through SysTick); they are no cycles: a real core adds memory waits and
pipeline stalls.

    python benchmarks/firmware_cost.py [TREE]      # TFLM's sources, for their headers; default: $TFLM_DIR, or ../shared/tflm
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from test_firmware import FORMATS, SOURCES, folder, read_facts, tiny_model  # noqa: E402

from tinynas.target.cores import CORES  # noqa: E402
from tinynas.target.library import Tree  # noqa: E402

FRAME = (320, 240)
INPUT = (96, 96)
METHODS = ("kArea", "kBilinear", "kNearest")
CORTEX_M4 = (
    "arm-none-eabi-g++",
    "-Os",
    *CORES["cortex-m4"].flags,
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-exceptions",
    "-fno-rtti",
)
TICK_INSTRUCTIONS = 40  # SysTick of mps2-an386 runs at 25 MHz, the emulator at one instruction per nanosecond

MAIN = r"""
#include <stdio.h>
#include <stdint.h>
#include "image_input.h"
using namespace demo_model;
static uint8_t pixels[WIDTH * HEIGHT * 3];
static InputElement input[kInputElements];
static volatile uint32_t* const systick = reinterpret_cast<volatile uint32_t*>(0xE000E010u);
int main() {
  for (unsigned i = 0; i < sizeof pixels; ++i) pixels[i] = static_cast<uint8_t>(i * 37);
  systick[1] = 0xFFFFFF;
  systick[2] = 0;
  systick[0] = 5;
  for (int format = 0; format < 5; ++format) {
    for (int method = 1; method < 4; ++method) {
      const Frame frame = {pixels, WIDTH, HEIGHT, static_cast<PixelFormat>(format), 0};
      const uint32_t before = systick[2];
      QuantizeFrame(frame, input, static_cast<Resize>(method));
      printf("%u\n", static_cast<unsigned>((before - systick[2]) & 0xFFFFFF));
    }
  }
  volatile uint32_t x = 0;  // 5 instructions a turn: checks the ticks
  const uint32_t before = systick[2];
  for (uint32_t i = 0; i < 1000000; ++i) x = x + 1;
  printf("%u\n", static_cast<unsigned>((before - systick[2]) & 0xFFFFFF));
  return 0;
}
"""


def main() -> None:
    tree = Tree.find(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TFLM_DIR", ROOT.parent / "shared" / "tflm")))
    model = tiny_model(3, *INPUT)
    with tempfile.TemporaryDirectory() as name:
        c = folder(Path(name) / "c", model)
        flash = {}
        for source in SOURCES:
            subprocess.run(
                [*CORTEX_M4, "-std=c++17", "-I.", *tree.defines, *tree.includes, "-w", "-c", source, "-o", "o.o"], cwd=c, check=True
            )
            size = subprocess.run(["arm-none-eabi-size", "o.o"], cwd=c, check=True, capture_output=True, text=True).stdout
            flash[source] = int(size.splitlines()[1].split()[0])
        (c / "bench.cc").write_text(MAIN.replace("WIDTH", str(FRAME[0])).replace("HEIGHT", str(FRAME[1])))
        # The same flags but for speed: what a release build of an application would use for this file.
        command = [*(flag if flag != "-Os" else "-O2" for flag in CORTEX_M4), "-std=c++17", "-I.", "bench.cc", "image_input.cc"]
        command += ["model_settings.cc", "qemu/startup.cc", "-nostartfiles", "--specs=rdimon.specs", "-Tqemu/mps2_an386.ld"]
        subprocess.run([*command, "-fno-use-cxa-atexit", "-o", "bench.elf"], cwd=c, check=True)
        qemu = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none", "-icount", "shift=0"]
        qemu += ["-semihosting-config", "enable=on,target=native", "-kernel", "bench.elf"]
        lines = subprocess.run(qemu, cwd=c, check=True, capture_output=True, text=True, timeout=300).stdout.split()
    ticks = [int(line) for line in lines]
    check = ticks.pop() * TICK_INSTRUCTIONS
    assert 4_900_000 < check < 5_100_000, f"the calibration loop took {check} instructions instead of 5,000,000"
    counts = np.array(ticks).reshape(len(FORMATS), len(METHODS)) * TICK_INSTRUCTIONS
    code = {name: size for name, size in flash.items() if name not in ("model_data.cc", "self_test_data.cc")}
    facts = read_facts(model)
    result = {
        "compiler": subprocess.run(["arm-none-eabi-g++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0],
        "frame": list(FRAME),
        "input": list(facts.input_shape),
        "flash_bytes": code,
        "instructions": {form: dict(zip(METHODS, map(int, row), strict=True)) for form, row in zip(FORMATS, counts, strict=True)},
    }
    out = ROOT / "results" / "benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    (out / "firmware_cost.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "firmware_cost.md").write_text(markdown(result))
    print(markdown(result))


def markdown(result: dict) -> str:  # type: ignore[type-arg]
    lines = ["# Code around the model on a Cortex-M4", "", f"By benchmarks/firmware_cost.py with {result['compiler']}.", ""]
    lines += ["| file (-Os, without model and test images) | flash, B |", "|---|---:|"]
    lines += [f"| {name} | {size:,} |" for name, size in result["flash_bytes"].items()]
    lines += [f"| sum | {sum(result['flash_bytes'].values()):,} |", ""]
    width, height = result["frame"]
    lines += [f"Instructions (-O2, counted in qemu, no cycles) for a {width} x {height} frame to {result['input']}:", ""]
    lines += [f"| frame | {' | '.join(METHODS)} |", "|---|---:|---:|---:|"]
    lines += [f"| {form} | {' | '.join(f'{row[m]:,}' for m in METHODS)} |" for form, row in result["instructions"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
