"""Compiled networks against tflite-micro, and the memory they use against what is promised: random networks and the zoo.

Writes results/benchmarks/compiled.{json,md}. Every network is compiled by gcc, clang and gcc -m32, as far as they are installed, with all
warnings as errors and with address and undefined-behaviour sanitizers, runs in painted memory as two instances that take turns, and is
compared with tflite-micro's outputs. Small ones run on emulated cores too: outputs, painted work area and stack, linked flash,
instructions of each operator (to which benchmarks/compiled_counts.py fits formulas); some beside TFLM with CMSIS-NN, where ``--tflm``
names its sources.

    python benchmarks/compiled_equal.py [--networks 300] [--emulated 40] [--tflm TREE] [--cache DIR] [--out results/benchmarks]
    python benchmarks/compiled_equal.py --part host | emulated | beside    # that part anew, the others as they are in the results
    python benchmarks/compiled_equal.py --part report                      # promises as they are now, and the page
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynas.arch import Arch, load_arch
from tinynas.config import shipped
from tinynas.cost import estimate
from tinynas.cost.compiled import BLOCK
from tinynas.cost.compiled_loops import loop_group, loops, products
from tinynas.cost.instructions import tables
from tinynas.cost.streamed import FRAMES, Frame, _Planner, plan_streamed, row_bytes
from tinynas.cost.work import from_graph
from tinynas.errors import UserError
from tinynas.export.compiled import CompiledModel, compile_network
from tinynas.export.rotate import rotate_images, turned_back
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.graph import Builder, Conv2D, DepthwiseConv2D, Graph, Pool2D, lower
from tinynas.inputs import Input
from tinynas.quantize.grid import QuantizedGraph, random_quantized
from tinynas.target.cores import CORES, core_named
from tinynas.target.program import NetworkRun, run_network

ROOT = Path(__file__).resolve().parent.parent
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Wundef", "-Wstrict-prototypes", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass(frozen=True)
class Toolchain:
    """A compiler of this computer."""

    name: str
    command: tuple[str, ...]
    package: str
    """Of Debian and Ubuntu."""
    every: int = 1
    """It compiles one in so many networks of the campaign."""

    def installed(self) -> bool:
        """Whether it makes programs with sanitizers."""
        if shutil.which(self.command[0]) is None:
            return False
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "main.c"
            source.write_text("#include <string.h>\nint main(int n, char **v) { return n > 1 && strlen(v[1]) > 2; }\n")
            command = [*self.command, *SANITIZED, str(source), "-o", f"{source}.out"]
            built = subprocess.run(command, capture_output=True, check=False).returncode == 0
            return built and subprocess.run([f"{source}.out"], capture_output=True, check=False).returncode == 0


TOOLCHAINS = {
    chain.name: chain
    for chain in (
        Toolchain("gcc", ("gcc",), "gcc"),
        Toolchain("clang", ("clang",), "clang"),
        Toolchain("gcc -m32", ("gcc", "-m32"), "gcc-multilib", every=3),
    )
}

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


def program(models: Sequence[CompiledModel], frames: int, folder: Path, chain: Toolchain = TOOLCHAINS["gcc"]) -> Path:
    """The executable that runs ``frames`` of each of ``models`` in turn, with sanitizers."""
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
    command = [*chain.command, "-std=c99", *WARNINGS, *SANITIZED, *map(str, sources), "-o", str(folder / "program")]
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
#: Networks that are drawn of each space to find small ones for emulated cores, and classes that they may have.
DRAWN, CLASSES = 300, (1, 2, 5, 10, 20)
#: Too large a text for a compiler with sanitizers; its kernels are the others'.
LEFT_OUT = {"mobilenetv2-1.0"}
CORE_NAMES = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
#: Networks, and cores, on which TFLM with CMSIS-NN is run beside, operator by operator.
BESIDE = ("mcunet-tiny2", "mcunet-vww0", "mobilenetv1-0.25", "mobilenetv2-0.35")
BESIDE_CORES = ("cortex-m4", "cortex-m7")
#: Of the zoo, what is small enough for every core.
SMALL_ZOO = ("colabnas-k4c5", "colabnas-k8c5", "mcunet-tiny2")
#: Graphs with operators that no space has, or in shapes that none has, beside the random networks.
ODD = 8


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


def zoo_case(name: str) -> Case:
    """A network of the zoo."""
    return case_of(f"zoo {name}", lower(load_arch(name)), 1, 1)


def gated(size: int = 12, channels: int = 8) -> Graph:
    """A map that is gated by its own mean inside a shortcut: the map must be whole before the gate is known."""
    build = Builder((size, size, 3))
    x = build.conv("stem", 0, channels, (3, 3), (2, 2), "relu6")
    y = build.depthwise("dw", x, (3, 3), (1, 1), "relu")
    gate = build.dense("gate", build.mean("squeeze", y), channels, "relu")
    z = build.pointwise("pw", build.mul("scale", y, gate), channels, "none")
    total = build.add("sum", x, build.mul("square", z, y))
    logits = build.dense("fc", build.mean("pool", total), 3)
    return Graph(tuple(build.tensors), tuple(build.ops), Input(size, size, 3), (0,), (logits,))


def quick(graph: Graph, macs: int = MOST_MACS, weights: int = MOST_WEIGHTS) -> bool:
    """Whether a random network is small enough for the campaign."""
    cost = estimate(graph)
    return cost.macs <= macs and cost.weights_bytes <= weights


def host_cases(count: int, seed: int) -> list[Case]:
    """``count`` random networks of all spaces, and the zoo."""
    from cost_accuracy import random_networks

    graphs = [graph for arch in random_networks(12 * count, seed) if quick(graph := lower(arch))]
    zoo = [zoo_case(name) for name in sorted(set(shipped("zoo")) - LEFT_OUT)]
    return [*(case_of(f"random {i}", graph, i, 1) for i, graph in enumerate(graphs[:count])), *zoo, *zoo[1:]]


def drawn_from(space_name: str, seed: int) -> dict[str, Arch]:
    """:data:`DRAWN` networks of a space, by id."""
    from tinynas.api import load_space

    draw, space = random.Random(f"{seed} {space_name}"), load_space(space_name)
    return {arch.id: arch for _ in range(DRAWN) if (arch := space.sample(lambda _, n: draw.randrange(n), draw.choice(CLASSES)))}


def emulated_graphs(count: int, seed: int) -> dict[str, Graph]:
    """``count`` different networks, of the zoo and as many of each space, the smallest of those drawn; and graphs of other shapes."""
    from int8_cases import random_graph

    found = {f"zoo {name}": lower(load_arch(name)) for name in SMALL_ZOO}
    spaces = sorted(shipped("search_spaces"))
    for number, space_name in enumerate(spaces):
        drawn = drawn_from(space_name, seed)
        costs = {name: estimate(lower(arch)) for name, arch in drawn.items()}
        smallest = sorted(costs, key=lambda name: costs[name].macs + 20 * costs[name].weights_bytes)
        wanted = count * (number + 1) // len(spaces) - len(found)
        found |= {f"{space_name} {name}": lower(drawn[name]) for name in smallest[:wanted]}
    shapes = [graph for i in range(40) if quick(graph := random_graph(i), MOST_MACS // 2)][: ODD - 4]
    shapes += [gated(12, 8), gated(21, 12), gated(16, 5), gated(30, 16)]
    return found | {f"odd {i}": graph for i, graph in enumerate(shapes)}


def host_rows(cases: Sequence[Case], chain: Toolchain, each: int = 8) -> Iterator[dict[str, Any]]:
    """What each of ``cases`` does on this computer, compiled for both ways to take a frame by turns; one in four as a network that is
    turned by 180 degrees, where it can be turned back, for images that are turned too."""
    for start in range(0, len(cases), each):
        part = cases[start : start + each]
        frames = [FRAMES[(start + i) % 2] for i in range(len(part))]
        turned = [(start + i) % 4 == 3 and can_turn(case) for i, case in enumerate(part)]
        models = [compile_network(c.qgraph, name=f"net{start + i}", frame=frames[i], rotation=180 * turned[i]) for i, c in enumerate(part)]
        images = [rotate_images(c.frames) if way else c.frames for c, way in zip(part, turned, strict=True)]
        with tempfile.TemporaryDirectory() as scratch:
            built = program(models, len(part[0].frames), Path(scratch), chain)
            rans = run_program(built, models, images)
        for case, model, way, ran in zip(part, models, turned, rans, strict=True):
            row = {
                "name": case.name,
                "compiler": chain.name,
                "frame": model.plan.frame,
                "turned": bool(way),
                "segments": len(model.plan.segments),
                "outputs": case.wanted.size,
                "equal": bool(np.array_equal(ran.outputs, case.wanted)),
                "work_bytes_promised": model.work_bytes,
                "work_bytes_sizeof": ran.size,
                "area_bytes_promised": model.plan.area_bytes,
                "area_bytes_touched": ran.touched,
                "tflm_arena_bytes": estimate(case.qgraph.graph, "tflm-cmsis-nn").sram_bytes,
            }
            print(json.dumps(row), file=sys.stderr, flush=True)
            yield row


def can_turn(case: Case) -> bool:
    """Whether the network can be turned back."""
    try:
        turned_back(case.qgraph)
    except UserError:
        return False
    return True


RUNTIME: dict[Frame, str] = {"kept": "compiled", "rows": "compiled-rows"}


def promised(graph: Graph, core_name: str, frame: Frame) -> dict[str, Any]:
    """What is said of ``graph`` before it is compiled."""
    cost = estimate(graph, RUNTIME[frame], core=core_name)
    return {
        "work_bytes": cost.sram_bytes,
        "stack_bytes_promised": cost.stack_bytes,
        "constant_bytes": cost.flash_bytes,
        "program_bytes_promised": cost.program_bytes,
    }


def emulated_row(case: Case, core_name: str, frame: Frame) -> dict[str, Any]:
    """What ``case`` does on an emulated core, beside what is promised."""
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
    assert promised(graph, core_name, frame)["work_bytes"] == model.work_bytes
    row = {
        "name": case.name,
        "core": core_name,
        "frame": frame,
        "equal": ran.outputs == tuple(wanted.tobytes() for wanted in case.wanted),
        **promised(graph, core_name, frame),
        "area_bytes_promised": model.plan.area_bytes,
        "area_bytes_touched": ran.touched_bytes,
        "stack_bytes": ran.stack_bytes,
        "flash_bytes": ran.flash_bytes,
        "wide": model.sums != "right",
        "input_bytes": graph.tensors[0].elements,
        "instructions": ran.instructions,
        "by_operator": list(ran.by_operator),
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def operators_of(graph: Graph) -> list[dict[str, Any]]:
    """The operators as the cost models see them."""
    work = from_graph(graph)
    return [
        {
            "name": piece.name,
            "kind": piece.kind,
            "kernel": piece.kernel,
            "stride": piece.stride,
            "sources": [work.shapes[t] for t in piece.inputs],
            "out": work.shapes[piece.outputs[0]],
        }
        for piece in work.pieces
    ]


def emulated(cases: Sequence[Case]) -> dict[str, Any]:
    """All ``cases`` on all cores, the frame kept and in rows by turns; and their operators."""
    jobs = [(case, name, FRAMES[(i + j) % 2]) for i, case in enumerate(cases) for j, name in enumerate(CORE_NAMES)]
    with ThreadPoolExecutor(3) as pool:
        rows = list(pool.map(lambda job: emulated_row(*job), jobs))
    return {"emulated": rows, "operators": {case.name: operators_of(case.qgraph.graph) for case in cases}}


def beside(tree: str, cache: Path) -> list[dict[str, Any]]:
    """Instructions of each operator of the networks of :data:`BESIDE`, and those of TFLM with CMSIS-NN."""
    rows = []
    for case in map(zoo_case, BESIDE):
        for core_name in BESIDE_CORES:
            row = emulated_row(case, core_name, "rows")
            row["operators"] = [op.name for op in case.qgraph.graph.ops]
            row["tflm_by_operator"] = tflm_instructions(case, core_name, tree, cache)
            rows.append(row)
    return rows


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


def pixel_bytes(graph: Graph, frame: Frame) -> int:
    """Work area of a network that were computed pixel by pixel, with cuts of its own: of each ring a row less and the pixels of a window
    more, of rows that pass a pixel, of a depthwise convolution's scratch a pixel; the same counters."""
    planner = _Planner(graph, frame)
    for i, (op, line) in enumerate(zip(graph.ops, planner.lines, strict=False)):
        tensor = graph.inputs[0] if i == 0 else graph.ops[i - 1].output
        row, channels, ring = row_bytes(graph, tensor), graph.shape(tensor)[-1], planner.kept[tensor].ring
        across = op.kernel[1] if isinstance(op, Conv2D | DepthwiseConv2D | Pool2D) else 1
        stays = min(line.stays, (ring - 1) * row + across * channels) if ring > 1 else line.stays
        scratch = 4 * BLOCK if isinstance(op, DepthwiseConv2D) else line.scratch
        planner.lines[i] = line._replace(stays=-(-stays // 4) * 4, passing=min(line.passing, -(-channels // 4) * 4), scratch=scratch)
    plan = plan_streamed(graph, frame=frame)
    return max(planner.least(begin, end) for begin, end in planner.segments()) + plan.work_bytes - plan.area_bytes


def bound_rows() -> list[dict[str, Any]]:
    """The issue's networks beside its bounds, and what a plan of pixels instead of rows would take at least."""
    rows = []
    for name, bounds in BOUNDS.items():
        graph = lower(load_arch(name))
        for frame, bound in bounds.items():
            plan = plan_streamed(graph, frame=frame)
            row = {"name": name, "frame": frame, "bound": bound, "work_bytes": plan.work_bytes, "segments": len(plan.segments)}
            rows.append({**row, "pixel_bytes": pixel_bytes(graph, frame)})
    return rows


def report(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# Compiled networks", "", "Made by `python benchmarks/compiled_equal.py`; weights are random, compilers are named.", ""]
    lines += _host_words(document) + _bound_words(document["bounds"])
    if "emulated" in document:
        lines += _emulated_words(document["emulated"])
    if "beside" in document:
        lines += _beside_words(document["beside"])
    return "\n".join(lines) + "\n"


def _host_words(document: dict[str, Any]) -> list[str]:
    host = document["host"]
    lines = [
        "## On this computer",
        "",
        f"Random networks of all spaces, of at most {MOST_MACS:,} MACs and {MOST_WEIGHTS:,} B of weights, take their frames whole or by",
        "rows by turns; those of the zoo both ways. The table says how many of each ran.",
        "One in four is compiled as a network that was turned upside down, and reads its images as they are. Two instances of each take",
        f"turns. All with address and undefined-behaviour sanitizers and `{' '.join(WARNINGS)}`; no run stopped on a sanitizer's report,",
        "no file was compiled with a warning.",
        "",
        "| compiler | random networks | of the zoo | outputs equal tflite-micro's | nothing beyond the work area | the area to its last "
        "word | turned |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, version in document["compilers"].items():
        rows = [r for r in host if r["compiler"] == name]
        exact = sum(r["equal"] for r in rows)
        used = sum(r["work_bytes_promised"] == r["work_bytes_sizeof"] and r["area_bytes_touched"] <= r["area_bytes_promised"] for r in rows)
        full = sum(r["area_bytes_promised"] - r["area_bytes_touched"] < 4 for r in rows)
        turned = sum(r["turned"] for r in rows)
        zoo = sum(r["name"].startswith("zoo ") for r in rows)
        lines.append(f"| {name} ({version}) | {len(rows) - zoo} | {zoo} | {exact} | {used} | {full} | {turned} |")
    missing = [chain for chain in TOOLCHAINS.values() if chain.name not in document["compilers"]]
    lines += ["", *(f"Not run: {chain.name}, not installed (apt-get install {chain.package})." for chain in missing)]
    ratios = sorted(r["work_bytes_promised"] / r["tflm_arena_bytes"] for r in host if not r["name"].startswith("zoo "))
    if ratios:
        lines += [
            f"The median work area of the random networks is {ratios[len(ratios) // 2]:.2f} of TFLM's arena with CMSIS-NN "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}).",
            "",
        ]
    return lines


def _bound_words(rows: list[dict[str, Any]]) -> list[str]:
    less = sorted(1 - r["pixel_bytes"] / r["work_bytes"] for r in rows)
    lines = [
        "## Work area",
        "",
        "Bounds: k - 1 rows and k pixels for each k x k layer, the best split into a streamed front and a layer-wise rest. Whole rows in",
        "several streamed segments are mostly below them. The last columns are what a mode that goes pixel by pixel would take: a row less",
        f"in each ring, with cuts of its own. It is within the bounds everywhere, and would save {less[0]:.0%} to {less[-1]:.0%} (median "
        f"{less[len(less) // 2]:.0%}).",
        "",
        "| network | frame | bound | work area | of the bound | segments | pixel by pixel | of the bound |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        share, pixel = r["work_bytes"] / r["bound"], r["pixel_bytes"] / r["bound"]
        lines.append(
            f"| {r['name']} | {r['frame']} | {r['bound']:,} | {r['work_bytes']:,} | {share:.2f} | {r['segments']} | {r['pixel_bytes']:,} | "
            f"{pixel:.2f} |"
        )
    return [*lines, "", *_pixel_words()]


def _pixel_words() -> list[str]:
    """What going pixel by pixel would cost: a step of the driver a pixel, and no products of two pixels at once."""
    shares = []
    for name in BESIDE:
        now = then = 0.0
        for op in operators_of(lower(load_arch(name))):
            kernel, stride = tuple(op["kernel"]), tuple(op["stride"])
            counts = tables()["cortex-m4 compiled"].groups[loop_group(op["kind"], kernel, stride)]
            found = loops(op["kind"], kernel, stride, op["sources"], op["out"])
            now += sum(each * found[term] for term, each in counts.items())
            pixels = dict(found)
            if len(op["out"]) == 3:
                pixels["step"] = found["step"] * op["out"][1]
            if len(op["out"]) == 3 and "pair" in pixels:
                columns = op["sources"][0][-1] * kernel[0] * kernel[1]
                pixels |= products(pixels["step"], pixels["step"], 1, op["out"][-1], columns)
            then += sum(each * pixels[term] for term, each in counts.items())
        shares.append(f"{name} {then / now:.2f}")
    return [
        "By the formulas of instructions on a Cortex-M4, where each pixel is a step of its own and no two of them share a matrix product,",
        f"it would execute this much of what rows do: {', '.join(shares)}. That is why there is no such mode.",
        "",
    ]


def _emulated_words(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Emulated cores",
        "",
        "Small networks of the zoo and of each space, and graphs of operators and shapes that no space has (odd), each on all cores, the",
        "frame kept and in rows by turns. The work area and the stack were painted; flash is what the network adds to a program (code,",
        "constants, tables), where the promise is of code and constants as `estimate` says them.",
        "",
        "| core | networks | runs | outputs equal | nothing beyond the work area | area to its last word | stack used, of the promised | "
        "most stack | flash by promise: mean (largest) error |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for core_name in CORE_NAMES:
        ran = [r for r in rows if r["core"] == core_name]
        inside = sum(r["area_bytes_touched"] <= r["area_bytes_promised"] for r in ran)
        full = sum(0 <= r["area_bytes_promised"] - r["area_bytes_touched"] < 4 for r in ran)
        stacks = [r["stack_bytes"] / r["stack_bytes_promised"] for r in ran]
        errors = [r["program_bytes_promised"] / r["flash_bytes"] - 1 for r in ran if not r["name"].startswith("odd ")]
        worst = max(errors, key=abs)
        lines.append(
            f"| {core_name} | {len({r['name'] for r in ran})} | {len(ran)} | {sum(r['equal'] for r in ran)} | {inside} | {full} | "
            f"{min(stacks):.2f} to {max(stacks):.2f} | {max(r['stack_bytes'] for r in ran)} | "
            f"{float(np.mean(np.abs(errors))):.2%} ({worst:+.2%}) |"
        )
    for r in rows:
        if not r["name"].startswith("odd ") and abs(r["program_bytes_promised"] / r["flash_bytes"] - 1) > 0.01:
            lines.append("")
            lines.append(
                f"Beyond 1 %: {r['name']} on {r['core']}, frame {r['frame']}: {r['program_bytes_promised']:,} B promised, "
                f"{r['flash_bytes']:,} B linked."
            )
    odd = [r["program_bytes_promised"] - r["flash_bytes"] for r in rows if r["name"].startswith("odd ")]
    lines += ["", f"Of the odd graphs, of a few kB each, the flash by promise is {min(odd):+,} to {max(odd):+,} B beside the linker's.", ""]
    return lines


def _beside_words(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Beside TFLM with CMSIS-NN",
        "",
        "Executed instructions of one inference, frames in rows, conversion of the pixels included in ours; and the operators where we",
        "take more.",
        "",
        "| network | core | work area | stack | flash | instructions | of TFLM + CMSIS-NN's | operators above 1.00 | above 1.10 |",
        "|---|---|--:|--:|--:|--:|--:|---|---|",
    ]
    for r in rows:
        ratios = {op: ours / theirs for op, ours, theirs in zip(r["operators"], r["by_operator"], r["tflm_by_operator"], strict=True)}
        above = [", ".join(f"{op} {ratio:.2f}" for op, ratio in ratios.items() if ratio > limit) or "none" for limit in (1.0, 1.1)]
        lines.append(
            f"| {r['name']} | {r['core']} | {r['work_bytes']:,} | {r['stack_bytes']} | {r['flash_bytes']:,} | {r['instructions']:,} | "
            f"{r['instructions'] / sum(r['tflm_by_operator']):.2f} | {above[0]} | {above[1]} |"
        )
    for r in rows:
        if r["core"] == "cortex-m4":
            lines += ["", f"### {r['name']} on {r['core']}", "", "| operator | compiled | TFLM + CMSIS-NN | ratio |", "|---|--:|--:|--:|"]
            for op, ours, theirs in zip(r["operators"], r["by_operator"], r["tflm_by_operator"], strict=True):
                lines.append(f"| {op} | {ours:,} | {theirs:,} | {ours / theirs:.2f} |")
    return lines


def as_rows(document: dict[str, Any]) -> str:
    """JSON with a line for each entry of each part: small, and changes of it can be read."""

    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    parts = []
    for name, value in document.items():
        pairs = isinstance(value, dict)
        lines = [f"{compact(key)}:{compact(one)}" for key, one in value.items()] if pairs else [compact(one) for one in value]
        opening, closing = "{}" if pairs else "[]"
        parts.append(f"{compact(name)}: {opening}\n" + ",\n".join(lines) + f"\n{closing}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def part(given: argparse.Namespace, name: str) -> dict[str, Any]:
    """What the part ``name`` of the campaign found."""
    match name:
        case "host":
            cases = host_cases(given.networks, given.seed)
            chains = [chain for chain in TOOLCHAINS.values() if chain.installed()]
            versions = {
                c.name: subprocess.run([*c.command, "--version"], capture_output=True, text=True, check=True).stdout for c in chains
            }
            with ThreadPoolExecutor(len(chains)) as pool:
                rows = list(pool.map(lambda chain: list(host_rows(cases[:: chain.every], chain)), chains))
            compilers = {name: said.splitlines()[0] for name, said in versions.items()}
            return {"compilers": compilers, "host": [row for of_chain in rows for row in of_chain]}
        case "emulated":
            graphs = emulated_graphs(given.emulated, given.seed)
            return emulated([case_of(name, graph, i, 1) for i, (name, graph) in enumerate(graphs.items())])
        case "report":
            document = json.loads((given.out / "compiled.json").read_text())
            graphs = emulated_graphs(given.emulated, given.seed) | {f"zoo {name}": lower(load_arch(name)) for name in BESIDE}
            again = [
                {**row, **promised(graphs[row["name"]], row["core"], row["frame"])} for row in document["emulated"] + document["beside"]
            ]
            cut = len(document["emulated"])
            return {"emulated": again[:cut], "beside": again[cut:]}
        case "beside":
            return {"beside": beside(given.tflm, given.cache)} if given.tflm else {}
        case _:
            return {"bounds": bound_rows()}


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--networks", type=int, default=300)
    parse.add_argument("--seed", type=int, default=2026)
    parse.add_argument("--emulated", type=int, default=40, help="networks that also run on emulated cores")
    parse.add_argument("--part", choices=["host", "emulated", "beside", "report"], help="this part alone; the others as they are")
    parse.add_argument("--tflm", help="sources of TFLM, for its instructions")
    parse.add_argument("--cache", type=Path, default=Path(os.environ.get("TINYNAS_CACHE", Path.home() / ".cache" / "tinynas")))
    parse.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    given = parse.parse_args()
    sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "compiled.json"
    for name in [given.part] if given.part else ["host", "emulated", "beside"]:
        found = part(given, name)
        known = json.loads(results.read_text()) if results.is_file() else {}  # other parts may have been written meanwhile
        document = {**known, **part(given, "bounds"), **found}
        results.write_text(as_rows(document))
    (given.out / "compiled.md").write_text(report(document))
    print(report(document))


if __name__ == "__main__":
    main()
