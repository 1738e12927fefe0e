"""A causal network fed frame by frame in C on this machine, beside itself on whole clips: every output byte, over real recordings.

Networks are those of a causal space of sounds, drawn, with random weights, quantised on some of the clips: what is compared is
arithmetic, not accuracy. Each clip goes through the front end into the whole-clip integer network, and from a reset into the generated C,
which is compiled with sanitizers. Bytes of state are those that the compiler gives the structure. Operations of a step: which operators
the C code ran in each step of a period behind the clip, times the multiply-accumulates of one of their rows.

    python benchmarks/stream_equal.py --data ../shared/data/audio --clips 100
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tinynas.api import load_space
from tinynas.arch import Arch
from tinynas.cost import estimate
from tinynas.cost.streamed import steps_of
from tinynas.cost.work import from_graph
from tinynas.export.stepwise import compile_stream
from tinynas.files import write_atomic
from tinynas.graph import lower
from tinynas.model import Network, normalise
from tinynas.quantize import FakeQuantNetwork, QuantizedGraph, fold, quantize
from tinynas.sound.features import features

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "benchmarks" / "stream_equal.json"
sys.path.insert(0, str(ROOT / "benchmarks"))

from front_end_equal import clip, recordings  # noqa: E402

#: Spaces whose networks are drawn, and how many of each.
DRAWN = {"listen": 3, "listen-1d": 3}
CLASSES = 10
DRIVER = r"""
#include <stdio.h>
#include "net_stream.h"
static uint8_t frame[NET_WIDTH * NET_CHANNELS];
static net_t m;
static int ran[256];
void net_trace(int op, int ends) { ran[op] += ends; }
int main(int count, char **words) {
  (void)words;
  if (count > 1) { /* one recording: what each step ran */
    net_reset(&m);
    while (fread(frame, 1, sizeof frame, stdin) == sizeof frame) {
      for (int i = 0; i < 256; ++i) ran[i] = 0;
      net_step(&m, frame);
      for (int i = 0; i < 256; ++i) if (ran[i]) printf("%d ", i);
      printf("\n");
    }
    return 0;
  }
  printf("%zu\n", sizeof m);
  for (;;) {
    int said = 0;
    net_reset(&m);
    for (int i = 0; i < NET_FRAMES; ++i) {
      if (fread(frame, 1, sizeof frame, stdin) != sizeof frame) return 0;
      said |= net_step(&m, frame);
    }
    if (!said) return 1;
    for (int c = 0; c < NET_OUTPUTS; ++c) printf("%d ", net_result(&m)[c]);
    printf("\n");
  }
}
"""
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-DNET_TRACE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def quantized(arch: Arch, clips: NDArray[np.uint8], seed: int) -> QuantizedGraph:
    """``arch`` with random weights, its batch norms at the statistics of ``clips`` (N, H, W, C)."""
    network = Network(lower(arch), seed=seed).train()
    with torch.no_grad():
        for _ in range(20):
            network(normalise(torch.from_numpy(clips), arch.input))
    return quantize(fold(network.eval()), clips)


def said(program: Path, frames: NDArray[np.uint8], *words: str) -> list[list[int]]:
    """The lines of numbers that ``program`` answers to ``frames``."""
    done = subprocess.run([str(program), *words], input=frames.tobytes(), capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program}: {done.stderr.decode()}")
    return [[int(word) for word in line.split()] for line in done.stdout.decode().splitlines()]


def compared(arch: Arch, paths: list[Path], folder: Path, seed: int) -> dict[str, Any]:
    """What a stream gives and takes beside its clip, and its promise."""
    assert arch.front_end is not None
    clips = features(np.stack([clip(path, arch.front_end) for path in paths]), arch.front_end)
    qgraph = quantized(arch, clips[:32], seed)
    outputs = FakeQuantNetwork(qgraph)(normalise(torch.from_numpy(clips), arch.input)).numpy().astype(np.int64)
    model = compile_stream(qgraph, name="net")
    folder.mkdir()
    for path, content in {**model.files, "main.c": DRIVER.encode()}.items():
        (folder / path).write_bytes(content)
    subprocess.run(["gcc", *FLAGS, "main.c", "net_stream.c", "-o", "main"], cwd=folder, check=True)
    (size,), *streamed = said(folder / "main", clips)
    cost = estimate(qgraph.graph, "compiled-stream")
    assert cost.stream is not None
    period = model.plan.period
    steps = said(folder / "main", np.concatenate([clips[0], np.resize(clips[0], (period, *clips.shape[2:]))]), "trace")
    work = from_graph(qgraph.graph)
    row_macs = [piece.macs // steps_of(qgraph.graph, op)[0] for piece, op in zip(work.pieces, qgraph.graph.ops, strict=True)]
    ran = [sum(row_macs[op] for op in step) for step in steps[-period:]]
    return {
        "front_end": arch.front_end.summary,
        "clips": len(clips),
        "output_bytes": outputs.size,
        "differ": int((np.array(streamed) != outputs).sum()),
        "distinct_outputs": len(np.unique(outputs, axis=0)),
        "struct_bytes": size,
        "promised_bytes": cost.sram_bytes,
        "macs_a_step": [sum(ran) / period, max(ran)],
        "promised_macs_a_step": [cost.stream.average_macs, cost.stream.most_macs],
        "clip_macs": estimate(qgraph.graph, "compiled-rows").macs,
    }


def table(rows: dict[str, dict[str, Any]], command: str) -> str:
    """For people."""
    lines = [
        "# A stream beside its clips",
        "",
        f"`{command}`. Causal networks drawn from two spaces, random weights, int8;",
        "one-second clips of spoken digits and ESC-10. A stream is fed frame by frame from a reset, in C with sanitizers; after the last",
        "frame its outputs are held against those of the whole clip.",
        "",
        "| network | outputs that differ | unlike each other | memory, B (promised) | MACs a step: mean, most (promised) | of a clip |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        mean, most = row["macs_a_step"]
        wished, most_wished = row["promised_macs_a_step"]
        outputs = f"{row['differ']} of {row['output_bytes']:,} | {row['distinct_outputs']} of {row['clips']}"
        memory = f"{row['struct_bytes']:,} ({row['promised_bytes']:,})"
        macs = f"{mean:,.0f}, {most:,} ({wished:,.0f}, {most_wished:,}) | {row['clip_macs']:,}"
        lines.append(f"| {name} | {outputs} | {memory} | {macs} |")
    missing = "Not shown: trained networks, real boards, recordings longer than a clip (tests hold these against a sliding window)."
    return "\n".join([*lines, "", missing, ""])


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--data", type=Path, required=True)
    parse.add_argument("--clips", type=int, default=100)
    given = parse.parse_args()
    paths = recordings(given.data, given.clips)
    rows = {}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for name, count in DRAWN.items():
            space = load_space(name, ["causal=true"])
            draw = random.Random(name)
            for number in range(count):
                arch = space.sample(lambda _, n: draw.randrange(n), CLASSES)  # noqa: B023
                rows[f"{name} {arch.id}"] = compared(arch, paths, Path(scratch) / f"{name}{number}", number)
                print(arch.id, rows[f"{name} {arch.id}"], f"{time.process_time():.0f} s", flush=True)
    command = f"python benchmarks/stream_equal.py --data DIR --clips {given.clips}"
    write_atomic(OUT, (json.dumps({"command": command, "rows": rows}, indent=1) + "\n").encode())
    write_atomic(OUT.with_suffix(".md"), table(rows, command).encode())


if __name__ == "__main__":
    main()
