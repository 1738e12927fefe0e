"""Compiled networks against tflite-micro, and the memory they use against what is promised: random networks and the zoo.

Writes results/benchmarks/compiled.{json,md}. Every network is compiled by gcc (and clang where it is installed) with all warnings as
errors and with address and undefined-behaviour sanitizers, runs in painted memory as two instances that take turns, and is compared
with tflite-micro's outputs; some run on emulated cores too, beside TFLM with CMSIS-NN where ``--tflm`` names its sources.

    python benchmarks/compiled_equal.py [--networks 300] [--emulated 40] [--tflm TREE] [--cache DIR] [--out results/benchmarks]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynas.arch import load_arch
from tinynas.config import shipped
from tinynas.cost import estimate
from tinynas.cost.streamed import FRAMES, Frame, plan_streamed
from tinynas.export.compiled import CompiledModel, compile_network
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.graph import Graph, lower
from tinynas.quantize.grid import QuantizedGraph, random_quantized
from tinynas.target.cores import CORES, core_named
from tinynas.target.program import NetworkRun, run_network

ROOT = Path(__file__).resolve().parent.parent
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Wundef", "-Wstrict-prototypes", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

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


# the campaign --------------------------------------------------------------------------------------------

#: The issue's bounds in bytes: line buffers of k - 1 rows and k pixels, the frame in RAM, or its rows streamed in.
BOUNDS: dict[str, dict[Frame, int]] = {
    "mcunet-tiny2": {"kept": 13_264, "rows": 7_776},
    "mcunet-vww0": {"kept": 26_480, "rows": 14_857},
    "mcunet-vww1": {"kept": 35_808, "rows": 26_400},
    "mcunet-in4": {"kept": 180_024, "rows": 134_833},
    "mobilenetv1-0.25": {"kept": 37_960, "rows": 12_113},
    "mobilenetv2-0.35": {"kept": 41_336, "rows": 20_113},
    "colabnas-k8c5": {"kept": 10_452, "rows": 3_261},
}
#: Of random networks: what is compiled and runs with sanitizers in a moment. The zoo's are larger.
MOST_MACS, MOST_WEIGHTS = 2_000_000, 80_000
#: Too large a text for a compiler with sanitizers; its kernels are the others'.
LEFT_OUT = {"mobilenetv2-1.0"}
CORE_NAMES = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m55")
#: Those on which TFLM with CMSIS-NN is run beside.
BESIDE = ("cortex-m0plus", "cortex-m4", "cortex-m7")


@dataclass(frozen=True)
class Case:
    """A network with random weights, and frames for it."""

    name: str
    qgraph: QuantizedGraph
    frames: np.ndarray
    wanted: np.ndarray


def case_of(name: str, graph: Graph, seed: int, frames: int) -> Case:
    """``graph`` with random weights; tflite-micro says what is right."""
    from tflite_micro import runtime

    qgraph = random_quantized(graph, seed=seed)
    images = np.random.default_rng(seed).integers(0, 256, (frames, *graph.input.shape), dtype=np.uint8)
    model = serialize(qgraph, ModelMeta("0123456789", tuple(map(str, range(graph.classes)))))
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=16_000_000)
    wanted = []
    for image in images:
        interpreter.set_input((image ^ 0x80).view(np.int8)[None], 0)
        interpreter.invoke()
        wanted.append(np.array(interpreter.get_output(0)).reshape(-1))
    return Case(name, qgraph, images, np.stack(wanted))


def host_rows(cases: Sequence[Case], compiler: str, each: int = 8) -> list[dict[str, Any]]:
    """What each of ``cases`` does on this computer, compiled for both ways to take a frame by turns."""
    rows = []
    for start in range(0, len(cases), each):
        part = cases[start : start + each]
        frames = [FRAMES[(start + i) % 2] for i in range(len(part))]
        models = [compile_network(c.qgraph, name=f"net{start + i}", frame=frames[i]) for i, c in enumerate(part)]
        with tempfile.TemporaryDirectory() as scratch:
            built = program(models, len(part[0].frames), Path(scratch), SANITIZED, compiler)
            rans = run_program(built, models, [c.frames for c in part])
        for case, model, ran in zip(part, models, rans, strict=True):
            rows.append(
                {
                    "name": case.name,
                    "compiler": compiler,
                    "frame": model.plan.frame,
                    "segments": len(model.plan.segments),
                    "outputs": case.wanted.size,
                    "equal": bool(np.array_equal(ran.outputs, case.wanted)),
                    "work_bytes_promised": model.work_bytes,
                    "work_bytes_sizeof": ran.size,
                    "area_bytes_promised": model.plan.area_bytes,
                    "area_bytes_touched": ran.touched,
                    "tflm_arena_bytes": estimate(case.qgraph.graph, "tflm-cmsis-nn").sram_bytes,
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def emulated_row(case: Case, core_name: str, frame: Frame) -> dict[str, Any]:
    """What ``case`` does on an emulated core."""
    model = compile_network(case.qgraph, name="net", frame=frame)
    graph = case.qgraph.graph
    ran: NetworkRun = run_network(
        CORES[core_name],
        "net",
        model.files,
        [image.tobytes() for image in case.frames],
        outputs=graph.classes,
        operators=len(graph.ops),
    )
    row = {
        "name": case.name,
        "core": core_name,
        "frame": frame,
        "equal": ran.outputs == tuple(wanted.tobytes() for wanted in case.wanted),
        "work_bytes": model.work_bytes,
        "area_bytes_promised": model.plan.area_bytes,
        "area_bytes_touched": ran.touched_bytes,
        "stack_bytes": ran.stack_bytes,
        "constant_bytes": model.constant_bytes,
        "flash_bytes": ran.flash_bytes,
        "instructions": ran.instructions,
        "by_operator": list(ran.by_operator),
    }
    print({key: value for key, value in row.items() if key != "by_operator"}, file=sys.stderr, flush=True)
    return row


def tflm_instructions(case: Case, core_name: str, tree: str, cache: Path) -> list[int]:
    """Instructions of each operator with TFLM and CMSIS-NN."""
    from tinynas.target.library import Tree
    from tinynas.target.probe import Job, build_probe, run_probe

    core = core_named(core_name)
    model = serialize(case.qgraph, ModelMeta("0123456789", tuple(map(str, range(case.qgraph.graph.classes)))))
    elf = build_probe(Tree.find(tree), core, "cmsis-nn", cache)
    (answer,) = run_probe(elf, core, [Job(model, ((case.frames[0] ^ 0x80).tobytes(),), count=True)], seconds=300)
    assert answer.outputs[0][0] == case.wanted[0].tobytes()
    return [count for _, count in answer.instructions]


def quick(graph: Graph) -> bool:
    """Whether a random network is small enough for the campaign."""
    cost = estimate(graph)
    return cost.macs <= MOST_MACS and cost.weights_bytes <= MOST_WEIGHTS


def bound_rows() -> list[dict[str, Any]]:
    """The issue's networks beside its bounds."""
    rows = []
    for name, bounds in BOUNDS.items():
        graph = lower(load_arch(name))
        for frame, bound in bounds.items():
            plan = plan_streamed(graph, frame=frame)
            rows.append({"name": name, "frame": frame, "bound": bound, "work_bytes": plan.work_bytes, "segments": len(plan.segments)})
    return rows


def report(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    host, emulated = document["host"], document["emulated"]
    lines = ["# Compiled networks", "", "Made by `python benchmarks/compiled_equal.py`; weights are random, the compiler is named.", ""]
    exact = sum(r["equal"] for r in host)
    used = sum(r["work_bytes_promised"] == r["work_bytes_sizeof"] and r["area_bytes_touched"] <= r["area_bytes_promised"] for r in host)
    full = sum(r["area_bytes_promised"] - r["area_bytes_touched"] < 4 for r in host)
    lines += [
        f"On this computer ({document['compilers']}): outputs of {exact} of {len(host)} runs equal tflite-micro's bit for bit "
        f"({sum(r['outputs'] for r in host):,} outputs);",
        f"{used} use no byte beyond the promised work area, {full} the area to its last word.",
        "No run stopped on a sanitizer's report, and no file was compiled with a warning. Random networks of all spaces, of at most "
        f"{MOST_MACS:,} MACs and {MOST_WEIGHTS:,} B of weights, take their frames whole or by rows by turns; those of the zoo both ways.",
        "",
        "## Work area",
        "",
        "Bounds: k - 1 rows and k pixels for each k x k layer, the best split into a streamed front and a layer-wise rest. Whole rows in",
        "several streamed segments are mostly below them.",
        "",
        "| network | frame | bound | work area | of the bound | segments |",
        "|---|---|---|---|---|---|",
    ]
    for r in document["bounds"]:
        share = r["work_bytes"] / r["bound"]
        lines.append(f"| {r['name']} | {r['frame']} | {r['bound']:,} | {r['work_bytes']:,} | {share:.2f} | {r['segments']} |")
    ratios = sorted(r["work_bytes_promised"] / r["tflm_arena_bytes"] for r in host if not r["name"].startswith("zoo "))
    if ratios:
        lines += [
            "",
            f"Random networks: the median work area is {ratios[len(ratios) // 2]:.2f} of TFLM's arena with CMSIS-NN "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}).",
        ]
    if emulated:
        good = sum(r["equal"] and r["area_bytes_touched"] <= r["area_bytes_promised"] for r in emulated)
        lines += [
            "",
            "## Emulated cores",
            "",
            f"{good} of {len(emulated)} runs: outputs equal, nothing beyond the work area. Flash is what the network adds to a program "
            "(code, weights, tables); constants are known before it is compiled. Instructions of one inference.",
            "",
            "| network | core | frame | work area | stack | constants | flash | instructions | of TFLM + CMSIS-NN's |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for r in emulated:
            theirs = r.get("tflm_by_operator")
            beside = f"{r['instructions'] / sum(theirs):.2f}" if theirs else "not measured"
            lines.append(
                f"| {r['name']} | {r['core']} | {r['frame']} | {r['work_bytes']:,} | {r['stack_bytes']} | {r['constant_bytes']:,} | "
                f"{r['flash_bytes']:,} | {r['instructions']:,} | {beside} |"
            )
        for r in emulated:
            if r["name"] == "zoo mcunet-tiny2" and r.get("tflm_by_operator") and r["core"] == "cortex-m4":
                lines += [
                    "",
                    f"## {r['name']} on {r['core']}, operator by operator",
                    "",
                    "| operator | compiled | TFLM + CMSIS-NN | ratio |",
                ]
                lines += ["|---|---|---|---|"]
                for op, ours, theirs in zip(r["operators"], r["by_operator"], r["tflm_by_operator"], strict=True):
                    lines.append(f"| {op} | {ours:,} | {theirs:,} | {ours / theirs:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--networks", type=int, default=300)
    parse.add_argument("--seed", type=int, default=2026)
    parse.add_argument("--emulated", type=int, default=40, help="random networks that also run on emulated cores")
    parse.add_argument("--tflm", help="sources of TFLM, for its instructions")
    parse.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "tinynas")
    parse.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    given = parse.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from cost_accuracy import random_networks

    started = time.perf_counter()
    zoo = [case_of(f"zoo {name}", lower(load_arch(name)), 1, 1) for name in sorted(set(shipped("zoo")) - LEFT_OUT)]
    graphs = [graph for arch in random_networks(12 * given.networks, given.seed) if quick(graph := lower(arch))]
    cases = [case_of(f"random {i}", graph, i, 1) for i, graph in enumerate(graphs[: given.networks])]
    compilers = [name for name in ("gcc", "clang") if shutil.which(name)]
    host = [row for name in compilers for group in (cases, zoo, zoo[1:]) for row in host_rows(group, name)]
    emulated = []
    small = [case for case in cases if case.qgraph.graph.tensors[0].elements <= 96 * 96 * 3][: given.emulated]
    for core_name in CORE_NAMES if given.emulated else ():
        for case in [*(z for z in zoo if z.name.removeprefix("zoo ") in {"mcunet-tiny2", "mcunet-vww0", "mobilenetv1-0.25"}), *small]:
            row = emulated_row(case, core_name, "rows")
            if given.tflm and core_name in BESIDE and case.name.startswith("zoo "):
                row["operators"] = [op.name for op in case.qgraph.graph.ops]
                row["tflm_by_operator"] = tflm_instructions(case, core_name, given.tflm, given.cache)
            emulated.append(row)
    versions = [
        subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0] for name in compilers
    ]
    document = {
        "compilers": "; ".join(versions),
        "seconds": round(time.perf_counter() - started),
        "bounds": bound_rows(),
        "host": host,
        "emulated": emulated,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "compiled.json").write_text(json.dumps(document, indent=1) + "\n")
    (given.out / "compiled.md").write_text(report(document))
    print(report(document))


if __name__ == "__main__":
    main()
