"""Learning on the board: instructions of one step of learning beside those of one inference, executed on an emulated Cortex-M4.

Needs arm-none-eabi-gcc, qemu-system-arm and TFLM's sources (TINYNAS_TFLM or ../shared/tflm; their library is built once into
TINYNAS_TARGET_CACHE). Writes results/benchmarks/adapt_steps.json and .md.

    python benchmarks/adapt_steps.py

What it measures. mcunet-tiny2 with weights at random, 40 classes and three new ones: the firmware folder that `tinynas adapt export` writes
for each scheme that a board learns, within 64 KiB beside inference, compiled at the folder's own level. Counted are one Classify, one
AdaptStep of a frame (inference in int8, the tail once more in float32, backward, update), and one AdaptReplay, which begins at what is kept
in flash. The folder's self-test passes on the same emulated core before anything is counted.

What it does not show. Cycles: a real core adds memory waits and pipeline stalls, and its floating point takes more than a cycle for a
division. Cores without a floating-point unit, where a step takes many times as much.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tinynas.adapt import SCHEMES, Learnable, Task, UpdateBudget, scheme_named  # noqa: E402
from tinynas.adapt.learner import with_classes  # noqa: E402
from tinynas.api import load_net  # noqa: E402
from tinynas.config import build  # noqa: E402
from tinynas.data import Split  # noqa: E402
from tinynas.export.emulated import _sources, network_self_test, network_sources, self_test  # noqa: E402
from tinynas.files import write_atomic  # noqa: E402
from tinynas.graph import lower  # noqa: E402
from tinynas.learnings.folder import BoardFolder, board_learner, board_learning, build_folder, write_folder  # noqa: E402
from tinynas.model import Network  # noqa: E402
from tinynas.quantize import fold  # noqa: E402
from tinynas.target.cores import CORES  # noqa: E402
from tinynas.target.emulator import emulate  # noqa: E402
from tinynas.target.library import Tree, build_library, compile_source, kernel_defines  # noqa: E402
from tinynas.target.probe import instructions, link, startup_code  # noqa: E402
from tinynas.target.program import HEADER, compile_program, link_program, run_emulated  # noqa: E402

RESULTS = ROOT / "results" / "benchmarks"
NET, KNOWN, NEW = "mcunet-tiny2", 40, 3
CORE = CORES["cortex-m4"]
#: (runtime, scheme, KiB beside inference)
CASES = (
    ("compiled", "classifier", 64),
    ("tflm-cmsis-nn", "classifier", 64),
    ("tflm-cmsis-nn", "bias", 64),
    ("tflm-cmsis-nn", "last", 64),
)

_MAIN_C = r"""
#include "emulated.h"
#include "adapt.h"
#include "classifier.h"
#include "self_test_data.h"
int main(void) {
  const net_model_frame_t frame = {net_model_self_test_pixels[0], NET_MODEL_WIDTH, NET_MODEL_HEIGHT, NET_MODEL_RGB888, 0};
  net_model_adapt_begin();
  start_clock();
  const uint64_t a = ticks();
  net_model_classify(&frame, NET_MODEL_LIKE_TRAINING);
  const uint64_t b = ticks();
  if (!net_model_adapt_step(&frame, 0, 0.01f)) return 1;
  const uint64_t c = ticks();
  if (!net_model_adapt_replay(0, 0.01f)) return 1;
  const uint64_t d = ticks();
  printf("inference %lu\nstep %lu\nreplay %lu\ndone\n", (unsigned long)(b - a), (unsigned long)(c - b), (unsigned long)(d - c));
  return 0;
}
"""
_MAIN_CC = r"""
#include "adapt.h"
#include "classifier.h"
#include "emulated.h"
#include "self_test_data.h"
using namespace net_model;
int main() {
  const Frame frame = {kSelfTestPixels[0], kInputWidth, kInputHeight, kSelfTestFormat, 0};
  if (!Setup() || !AdaptBegin()) return 1;
  start_clock();
  const uint64_t a = ticks();
  Classify(frame);
  const uint64_t b = ticks();
  if (!AdaptStep(frame, 0, 0.01f)) return 1;
  const uint64_t c = ticks();
  if (!AdaptReplay(0, 0.01f)) return 1;
  const uint64_t d = ticks();
  printf("inference %lu\nstep %lu\nreplay %lu\ndone\n", (unsigned long)(b - a), (unsigned long)(c - b), (unsigned long)(d - c));
  return 0;
}
"""


def task() -> Task:
    """Random weights and images: what is executed does not depend on them."""
    floats = fold(Network(lower(load_net(NET).with_classes(KNOWN)), seed=0).eval())
    source, rng = floats.graph.input, np.random.default_rng(0)
    labels = np.array([KNOWN, KNOWN + 1, KNOWN + 2, 0, 1, 2])
    images = rng.integers(0, 256, (len(labels), source.height, source.width, 3), dtype=np.uint8)
    split = Split(images, labels, tuple(map(str, range(len(labels)))))
    names = tuple(f"class {number}" for number in range(KNOWN + NEW))
    net = Learnable("net.tflite", floats, names[:KNOWN], "0" * 64)
    return Task(net, with_classes(floats, KNOWN, NEW, head="extend", seed=0), names, KNOWN, split, split, split, None, 3, "steps")


def made(runtime: str, scheme: str, kib: int) -> BoardFolder:
    """The folder."""
    document = {"extra": f"{kib} KiB", "runtime": runtime, "core": "cortex-m4", "learning": {"mode": "board", "replay": 1}}
    budget = build(document, UpdateBudget, source="a benchmark")
    one = task()
    learning = board_learning(one, board_learner(one, budget), budget, scheme_named(scheme), 0)
    return build_folder(one, learning, budget, scheme)


def counted(made_folder: BoardFolder, runtime: str, scratch: Path) -> dict[str, int]:
    """Executed instructions by what was called, the self-test having passed."""
    folder, work = scratch / "folder", scratch / "work"
    work.mkdir(parents=True)
    write_folder(made_folder, folder)
    if runtime == "compiled":
        tested = network_self_test(folder, CORE)
        assert not tested.failed, tested.failed
        sources = {**network_sources(folder), "main.c": _MAIN_C}
        lines = run_emulated(link_program(CORE, compile_program(CORE, sources, work), work), CORE)
    else:
        tree = Tree.find(Path(os.environ.get("TINYNAS_TFLM", ROOT.parent / "shared" / "tflm")))
        library = build_library(tree, CORE, "cmsis-nn", Path(os.environ.get("TINYNAS_TARGET_CACHE", scratch / "library")))
        tested = self_test(folder, CORE, tree, library)
        assert not tested.failed, tested.failed
        flags = (*CORE.flags, *tree.defines, "-ffunction-sections", "-fdata-sections", "-fno-exceptions", "-w", f"-I{folder}", f"-I{work}")
        flags = (*flags, *kernel_defines(library), *tree.includes)
        for name, text in (("startup.cc", startup_code()), ("main.cc", _MAIN_CC), ("emulated.h", HEADER)):
            (work / name).write_text(text, encoding="utf-8")
        objects = []
        for source in (*_sources(folder, "cc"), work / "startup.cc", work / "main.cc"):
            objects.append(work / f"{source.stem}.o")
            compile_source(source, objects[-1], flags)
        link(CORE, [*objects, library], work / "steps.elf")
        ended = emulate(work / "steps.elf", CORE, seconds=120.0, counting=True)
        assert ended.status == 0, ended.said
        lines = [line.split() for line in ended.said.splitlines()]
    ticks = {line[0]: int(line[1]) for line in lines if len(line) == 2}
    return {name: instructions(ticks[name], CORE) for name in ("inference", "step", "replay")}


def measure(runtime: str, scheme: str, kib: int) -> dict[str, Any]:
    """A row."""
    folder = made(runtime, scheme, kib)
    cost = folder.learning.cost
    with tempfile.TemporaryDirectory() as scratch:
        found = counted(folder, runtime, Path(scratch))
    update = {name: part.words(op) for op in folder.learning.ops if (name := op.name) and (part := folder.learning.update.parts.get(name))}
    return {
        "runtime": runtime,
        "scheme": scheme,
        "updated": update,
        "parameters": cost.parameters,
        "learning_bytes": folder.learning.apart.own_bytes,
        "macs": cost.macs,
        "inference_macs": cost.inference.macs,
        **found,
    }


def page(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "# Instructions of a step of learning",
        "",
        "Made by `python benchmarks/adapt_steps.py`, which says what is measured and what is not: executed instructions on an emulated "
        f"Cortex-M4, {NET} with {KNOWN} classes and {NEW} new ones.",
        "",
        "| runtime | scheme | layers | parameters | memory of learning, B | inference | a step | a step from flash | MACs of a step |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['runtime']} | {row['scheme']} | {len(row['updated'])} | {row['parameters']:,} | {row['learning_bytes']:,} "
        f"| {row['inference']:,} | {row['step']:,} ({row['step'] / row['inference']:.2f} x) | {row['replay']:,} | {row['macs']:,} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    assert all(SCHEMES[scheme].on_board for _, scheme, _ in CASES)
    rows = []
    for case in CASES:
        rows.append(measure(*case))
        print(rows[-1], flush=True)
    write_atomic(RESULTS / "adapt_steps.json", json.dumps(rows, indent=1) + "\n")
    write_atomic(RESULTS / "adapt_steps.md", page(rows))


if __name__ == "__main__":
    main()
