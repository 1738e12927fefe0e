"""Executed instructions of TFLM's int8 kernels on emulated cores, and the formula of them that tinynas/cost/instructions.json holds.

Operators of drawn shapes, and the public models, run in the probe of tinynas.target; qemu's ``-icount`` ties the machine's clock to
executed instructions. A count is the same each time (``--twice`` counts each twice and compares) but for a dozen instructions where the
clock wraps meanwhile, every ten millions, and its handler runs.

    python benchmarks/latency_counts.py                               # fits the formulas to the committed counts, and writes the table
    python benchmarks/latency_counts.py --measure cortex-m4 cmsis-nn TREE [--version arduino] [--cache FOLDER]
                                                                      # counts on a core with the kernels of a tree, and then fits

Counts: results/benchmarks/latency_counts.jsonl, an operator (or an operator of a public model) a line. Half of the drawn shapes are held
back: errors are those of formulas that have not seen them. Needs ``TINYNAS_TEST_DATA`` (or ../shared/data) for the public models.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from one_op import T, one_op, options  # noqa: E402

from tinynas.cost.instructions import group_of, operator_instructions, tables, terms  # noqa: E402
from tinynas.cost.tflite import read_model, to_work  # noqa: E402
from tinynas.errors import UserError  # noqa: E402
from tinynas.export.tflite import packed_weights  # noqa: E402
from tinynas.target.cores import core_named  # noqa: E402
from tinynas.target.library import Tree, kernels_named  # noqa: E402
from tinynas.target.probe import Job, build_probe, run_probe  # noqa: E402

DATA = Path(os.environ.get("TINYNAS_TEST_DATA", ROOT.parent / "shared" / "data"))
ROWS = ROOT / "results" / "benchmarks" / "latency_counts.jsonl"
TABLE = ROOT / "tinynas" / "cost" / "instructions.json"
#: Multiplications that a drawn operator has at most: hundreds of them run in a minute.
MACS = 300_000
#: Operators with no formula of their own: their instructions are counted by elements.
PLAIN = {
    "RESHAPE": "ReshapeOptions",
    "LOGISTIC": None,
    "TANH": None,
    "RELU": None,
    "RELU6": None,
    "LEAKY_RELU": "LeakyReluOptions",
    "HARD_SWISH": "HardSwishOptions",
    "TRANSPOSE": "TransposeOptions",
    "PAD": "PadOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "QUANTIZE": None,
    "QUANTIZE float": None,
    "DEQUANTIZE": None,
    "SOFTMAX": "SoftmaxOptions",
}
#: Kinds of tinynas for TFLite's names.
SHORT = {"CONV_2D": "conv", "DEPTHWISE_CONV_2D": "dw", "FULLY_CONNECTED": "fc", "AVERAGE_POOL_2D": "avg_pool", "MAX_POOL_2D": "max_pool"}
KERNELS = ((3, 3), (3, 3), (3, 3), (5, 5), (7, 7), (2, 2), (4, 4), (10, 4), (1, 3), (3, 1), (1, 7), (6, 6))

INTRO = """# Executed instructions of TFLM's int8 kernels, counted and by formula

Made by `benchmarks/latency_counts.py`. Operators of drawn shapes ran on emulated cores (qemu-system-arm, `-icount`, which ties the
machine's clock to executed instructions: the same count each time, but for a dozen where the clock wraps meanwhile); the clock is read
around each operator by TFLM's profiler interface. The formula of a group of operators is a fixed number of instructions a call and a
nonnegative number for each turn of its loops, fitted by relative least squares on half of its operators. Errors are those of the other
half. Table: `tinynas/cost/instructions.json`; terms: `terms` in `tinynas/cost/instructions.py`.

Instructions are no cycles: memory waits, caches and dual issue are not in them. Weights and inputs are random; kernels whose work depends
on the values (`LOGISTIC`, `SOFTMAX`) were counted on those. The kernels are built as TFLM's own Makefile does (-O2, GCC).
"""
OUTRO = """Groups called int4 have weights of 4 bits. Not shown: streaming models with resource variables (esphome's), operators of other
element types, and single operators of more than 300,000 multiplications (whole models have larger ones)."""

Op = dict[str, Any]
"""A drawn operator: kind, kernel, stride, sources, out, as the cost models see them."""


def channels(rng: np.random.Generator, most: int) -> int:
    """A number of channels: mostly a multiple of 8 or 4, as networks have, sometimes any."""
    step = int(rng.choice([8, 8, 4, 1]))
    return max(1, min(most, step * int(np.exp(rng.uniform(0, np.log(most / step + 1))))))


def draw() -> Iterator[Op]:
    """The operators, always the same."""
    rng = np.random.default_rng(16)

    def window(size: int, kernel: int, stride: int, same: bool) -> int:
        return -(-size // stride) if same else (size - kernel) // stride + 1

    for kind, count in (("conv", 90), ("pointwise", 90), ("dw", 130), ("dw multiplied", 16), ("pool", 50)):
        made = 0
        while made < count:
            kernel = (1, 1) if kind == "pointwise" else KERNELS[int(rng.integers(len(KERNELS)))]
            stride = int(rng.choice([1, 1, 2]))
            height, width = int(rng.integers(1, 33)), int(rng.integers(1, 33))
            if rng.random() < 0.7:
                width = height
            same = bool(rng.random() < 0.8)
            if not same and (height < kernel[0] or width < kernel[1]):
                continue
            if kind == "pool" and rng.random() < 0.4:
                kernel, stride, same = (height, width), 1, False
            deep = channels(rng, 160)
            wide = deep if kind in ("dw", "pool") else deep * int(rng.integers(2, 9)) if kind == "dw multiplied" else channels(rng, 160)
            if kind == "dw multiplied":
                deep, wide = min(deep, 4), min(deep, 4) * max(2, wide // deep)
            out = (window(height, kernel[0], stride, same), window(width, kernel[1], stride, same), wide)
            macs = out[0] * out[1] * wide * kernel[0] * kernel[1] * (1 if kind.startswith("dw") or kind == "pool" else deep)
            if min(out) < 1 or macs > MACS:
                continue
            named = {"pointwise": "conv", "dw multiplied": "dw", "pool": ("avg_pool", "max_pool")[made % 2]}.get(kind, kind)
            yield {"kind": named, "kernel": kernel, "stride": (stride, stride), "sources": [(height, width, deep)], "out": out}
            made += 1
    for _ in range(60):
        deep, wide = channels(rng, 700), channels(rng, 300)
        yield {"kind": "fc", "kernel": (1, 1), "stride": (1, 1), "sources": [(deep,)], "out": (wide,)}
    for number in range(90):
        shape = (int(rng.integers(1, 25)), int(rng.integers(1, 25)), channels(rng, 64))
        spread = number % 3 == 2 and number % 5 < 3
        kind = ("add", "mul", "sub", "maximum", "minimum")[number % 5]
        other = (1, 1, shape[2]) if spread and kind in ("add", "mul") else shape
        yield {"kind": kind, "kernel": (1, 1), "stride": (1, 1), "sources": [shape, other], "out": shape}
    for _ in range(30):
        shape = (int(rng.integers(1, 25)), int(rng.integers(1, 25)), channels(rng, 96))
        yield {"kind": "mean", "kernel": (1, 1), "stride": (1, 1), "sources": [shape], "out": (shape[2],)}
    for _ in range(24):
        height, width = (int(rng.integers(1, 25)) for _ in range(2))
        parts = [(height, width, channels(rng, 64)) for _ in range(int(rng.integers(2, 5)))]
        yield {
            "kind": "concatenation",
            "kernel": (1, 1),
            "stride": (1, 1),
            "sources": parts,
            "out": (height, width, sum(p[2] for p in parts)),
        }
    for name in PLAIN:
        for _ in range(16):
            shape: tuple[int, ...] = (int(rng.integers(1, 25)), int(rng.integers(1, 25)), channels(rng, 64))
            out = shape
            if name == "SOFTMAX":
                shape = out = (channels(rng, 1000),)
            if name == "TRANSPOSE":
                out = (shape[1], shape[0], shape[2])
            if name == "PAD":
                out = (shape[0] + 2, shape[1] + 2, shape[2])
            if name == "STRIDED_SLICE":
                shape = (shape[0] + 1, shape[1] + 1, shape[2])
            yield {"kind": name.lower(), "kernel": (1, 1), "stride": (1, 1), "sources": [shape], "out": out}
    for number in range(40):
        deep, times = (1, 1, 2, 3)[number % 4], int(rng.choice([2, 3, 4, 6, 8, 8, 12, 16]))
        size, kernel = int(rng.integers(3, 25)), (3, 3) if number % 2 else KERNELS[int(rng.integers(len(KERNELS)))]
        stride = int(rng.choice([1, 2]))
        out = (-(-size // stride), -(-size // stride), deep * times)
        yield {"kind": "dw", "kernel": kernel, "stride": (stride, stride), "sources": [(size, size, deep)], "out": out}
    for number in range(40):
        size, deep, wide = int(rng.integers(3, 40)), channels(rng, 64), channels(rng, 64)
        if number % 4 == 0:
            deep, wide = int(rng.choice([1, 3, 3])), 4 * int(rng.integers(1, 9))  # the first layer of a network
        stride, kernel = (2, (3, 3)) if number % 2 else (2, (1, 1))
        out = (-(-size // stride), -(-size // stride), wide)
        if number % 8 == 7:
            out = (*out[:2], 1)
        yield {"kind": "conv", "kernel": kernel, "stride": (stride, stride), "sources": [(size, size, deep)], "out": out}
    yield from few_bits()
    for number in range(6):
        yield {"kind": "shape", "kernel": (1, 1), "stride": (1, 1), "sources": [(number + 1, 4, 8)], "out": (4,)}
        yield {"kind": "pack", "kernel": (1, 1), "stride": (1, 1), "sources": [()] * (2 + number // 2), "out": (2 + number // 2,)}
    for _ in range(36):
        height, width, deep = int(rng.integers(1, 9)), int(rng.integers(1, 9)), channels(rng, 96)
        out = (int(rng.integers(height, 6 * height)), int(rng.integers(width, 6 * width)), deep)
        yield {"kind": "resize", "kernel": (1, 1), "stride": (1, 1), "sources": [(height, width, deep)], "out": out}


def few_bits() -> Iterator[Op]:
    """Operators with weights of 4 bits, always the same."""
    rng = np.random.default_rng(17)
    for kind, count in (("conv", 60), ("pointwise", 60), ("dw", 80), ("fc", 40)):
        made = 0
        while made < count:
            kernel = (1, 1) if kind in ("pointwise", "fc") else KERNELS[int(rng.integers(len(KERNELS)))]
            stride = int(rng.choice([1, 1, 1, 2]))
            size = int(rng.integers(3, 33))
            deep = channels(rng, 160)
            wide = deep if kind == "dw" else channels(rng, 160)
            out = (-(-size // stride), -(-size // stride), wide)
            macs = out[0] * out[1] * wide * kernel[0] * kernel[1] * (1 if kind == "dw" else deep)
            few: Op = {"kernel": kernel, "stride": (stride, stride), "weight_bits": 4}
            if kind == "fc":
                yield {"kind": "fc", **few, "stride": (1, 1), "sources": [(deep,)], "out": (wide,)}
            elif macs > MACS:
                continue
            else:
                yield {"kind": {"pointwise": "conv"}.get(kind, kind), **few, "sources": [(size, size, deep)], "out": out}
            made += 1


def model_of(op: Op) -> bytes:
    """The .tflite of a drawn operator; weights are random."""
    rng = np.random.default_rng(zlib.crc32(json.dumps(op).encode()))
    sources = [(1, *shape) for shape in op["sources"]]
    out = (1, *op["out"])
    kernel, stride = op["kernel"], op["stride"]
    same = tuple(-(-a // b) for a, b in zip(sources[0][1:3], stride, strict=False)) == tuple(op["out"][:2])

    def weights(shape: tuple[int, ...], axis: int | None) -> T:
        scale = 1 / 64 if axis is None else [1 / 64] * shape[axis]
        if op.get("weight_bits", 8) == 4:
            return T(shape, "int4", data=packed_weights(rng.integers(-7, 8, shape).astype(np.int8), 4), scale=scale, axis=axis or 0)
        return T(shape, data=rng.integers(-127, 128, shape), scale=scale, axis=axis or 0)

    def bias(count: int, per_channel: bool) -> T:
        return T((count,), "int32", data=rng.integers(-999, 999, count), scale=[1 / 1024] * count if per_channel else 1 / 1024)

    x = T(sources[0])
    match op["kind"]:
        case "conv":
            chosen = options("Conv2DOptions", padding=int(not same), strideW=stride[1], strideH=stride[0])
            wide = out[-1]
            return one_op("CONV_2D", [x, weights((wide, *kernel, sources[0][-1]), 0), bias(wide, True)], [T(out, scale=4.0)], chosen)
        case "dw":
            times = out[-1] // sources[0][-1]
            chosen = options("DepthwiseConv2DOptions", padding=int(not same), strideW=stride[1], strideH=stride[0], depthMultiplier=times)
            return one_op("DEPTHWISE_CONV_2D", [x, weights((1, *kernel, out[-1]), 3), bias(out[-1], True)], [T(out, scale=1.0)], chosen)
        case "fc":
            inputs = [x, weights((out[-1], sources[0][-1]), None), bias(out[-1], False)]
            return one_op("FULLY_CONNECTED", inputs, [T(out, scale=4.0)], options("FullyConnectedOptions"))
        case "avg_pool" | "max_pool":
            chosen = options(
                "Pool2DOptions", padding=int(not same), strideW=stride[1], strideH=stride[0], filterWidth=kernel[1], filterHeight=kernel[0]
            )
            return one_op("AVERAGE_POOL_2D" if op["kind"] == "avg_pool" else "MAX_POOL_2D", [x], [T(out)], chosen)
        case "add" | "mul" | "sub" | "maximum" | "minimum":
            table = "MaximumMinimumOptions" if op["kind"][0] == "m" and op["kind"] != "mul" else op["kind"].title() + "Options"
            return one_op(op["kind"].upper(), [x, T(sources[1])], [T(out)], options(table))
        case "mean":
            axes = T((2,), "int32", data=[1, 2])
            return one_op("MEAN", [x, axes], [T(out, scale=1 / 32)], options("ReducerOptions", keepDims=False))
        case "resize":
            size = T((2,), "int32", data=list(op["out"][:2]))
            return one_op("RESIZE_NEAREST_NEIGHBOR", [x, size], [T(out)], options("ResizeNearestNeighborOptions"))
        case "concatenation":
            return one_op("CONCATENATION", [T(s) for s in sources], [T(out)], options("ConcatenationOptions", axis=3))
        case kind:
            return _plain(kind, x, out)


def _plain(kind: str, x: T, out: tuple[int, ...]) -> bytes:
    def ints(*values: int) -> T:
        return T((len(values),), "int32", data=list(values))

    match kind:
        case "reshape":
            flat = (1, int(np.prod(out)))
            return one_op("RESHAPE", [x, ints(*flat)], [T(flat)], options("ReshapeOptions", newShape=list(flat)))
        case "logistic":
            return one_op("LOGISTIC", [x], [T(out, scale=1 / 256, zero=-128)])
        case "tanh":
            return one_op("TANH", [x], [T(out, scale=1 / 128)])
        case "leaky_relu":
            return one_op("LEAKY_RELU", [x], [T(out)], options("LeakyReluOptions", alpha=0.1))
        case "transpose":
            return one_op("TRANSPOSE", [x, ints(0, 2, 1, 3)], [T(out)], options("TransposeOptions"))
        case "pad":
            return one_op("PAD", [x, T((4, 2), "int32", data=[[0, 0], [1, 1], [1, 1], [0, 0]])], [T(out)], options("PadOptions"))
        case "strided_slice":
            inputs = [x, ints(0, 1, 1, 0), ints(1, out[1] + 1, out[2] + 1, out[3]), ints(1, 1, 1, 1)]
            return one_op("STRIDED_SLICE", inputs, [T(out)], options("StridedSliceOptions"))
        case "quantize":
            return one_op("QUANTIZE", [T(x.shape, "uint8", zero=128)], [T(out)], options("QuantizeOptions"))
        case "quantize float":
            return one_op("QUANTIZE", [T(x.shape, "float32")], [T(out)], options("QuantizeOptions"))
        case "dequantize":
            return one_op("DEQUANTIZE", [x], [T(out, "float32")], options("DequantizeOptions"))
        case "shape":
            return one_op("SHAPE", [x], [T(out[1:], "int32")], options("ShapeOptions", outType=2))
        case "pack":
            parts = [T((), "int32") for _ in range(out[1])]
            return one_op("PACK", parts, [T(out[1:], "int32")], options("PackOptions", valuesCount=out[1], axis=0))
        case "softmax":
            return one_op("SOFTMAX", [x], [T(out, scale=1 / 256, zero=-128)], options("SoftmaxOptions", beta=1.0))
        case _:
            table = PLAIN[kind.upper()]
            return one_op(kind.upper(), [x], [T(out)], None if table is None else options(table))


def inputs_of(op: Op) -> bytes:
    """Random content of all inputs."""
    rng = np.random.default_rng(7)
    total = [int(np.prod(shape)) for shape in op["sources"]]
    if op["kind"] == "pack":
        return bytes(4 * len(op["sources"]))
    if op["kind"] == "quantize float":
        return rng.uniform(-8, 8, total[0]).astype(np.float32).tobytes()
    return b"".join(rng.integers(-128, 128, size, dtype=np.int8).tobytes() for size in total)


def measure(core_name: str, kernels: str, tree: str, version: str, cache: Path, twice: bool, again: bool) -> None:
    """Counts all operators and public models there, and keeps them in the rows."""
    core = core_named(core_name)
    name = f"{core.name} {kernels}" + (f"@{version}" if version else "")
    elf = build_probe(Tree.find(tree), core, kernels_named(kernels), cache)
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.is_file() else []
    known = {json.dumps(row["op"]): row for row in rows if "op" in row}
    drawn = [json.loads(json.dumps(op)) for op in draw()]
    rows = [known.get(json.dumps(op), {"op": op, "counts": {}}) for op in drawn] + [row for row in rows if "net" in row]
    wanted = [row for row in rows if "op" in row and (again or name not in row["counts"])]
    for start in range(0, len(wanted), 60):
        part = [row["op"] for row in wanted[start : start + 60]]
        jobs = [Job(model_of(op), (inputs_of(op),), count=True) for op in part]
        answers = run_probe(elf, core, jobs, seconds=20)
        second = run_probe(elf, core, jobs, seconds=20) if twice else answers
        for row, answer, other in zip(wanted[start : start + 60], answers, second, strict=True):
            if answer.instructions != other.instructions:
                raise SystemExit(f"{row['op']}: {answer.instructions} and then {other.instructions}")
            if answer.refused or len(answer.instructions) != 1:
                print(f"{name}: {row['op']}: {answer.refused} {answer.log}", file=sys.stderr)
                row["counts"].pop(name, None)
                continue
            row["counts"][name] = answer.instructions[0][1]
    nets = {row["net"]: row for row in rows if "net" in row}
    for path in sorted((DATA / "models").glob("*.tflite")):
        net = path.name.removesuffix(".tflite")
        if not again and name in nets.get(net, {"counts": {}})["counts"]:
            continue
        work = to_work(read_model(path))
        size = sum(work.sizes[t] for t in work.inputs)
        rng = np.random.default_rng(5)
        try:
            (answer,) = run_probe(elf, core, [Job(path.read_bytes(), (rng.bytes(size),), count=True)], seconds=200)
        except UserError as error:
            print(f"{name}: {net}: {error.message}", file=sys.stderr)
            continue
        if answer.refused or len(answer.instructions) != len(work.pieces):
            print(f"{name}: {net}: {answer.refused} {answer.log[:2]}", file=sys.stderr)
            continue
        if net not in nets:
            nets[net] = {"net": net, "counts": {}}
            rows.append(nets[net])
        nets[net]["counts"][name] = [count for _, count in answer.instructions]
    ROWS.write_text("".join(json.dumps(row) + "\n" for row in rows))


def nonnegative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least squares without negative coefficients (Lawson and Hanson's active set)."""
    scale = np.sqrt((a * a).sum(0))
    scale[scale == 0] = 1
    a = a / scale
    x = np.zeros(a.shape[1])
    free = np.zeros(a.shape[1], bool)
    for _ in range(5 * a.shape[1]):
        gradient = a.T @ (b - a @ x)
        gradient[free] = -np.inf
        # Of terms that the samples cannot tell apart (3x3 kernels alone: the area is nine times the pixels) the first, on every processor.
        best = int(np.flatnonzero(gradient >= gradient.max() - 1e-9)[0])
        if gradient[best] <= 1e-9:
            break
        free[best] = True
        while True:
            step = np.zeros_like(x)
            step[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            bad = free & (step <= 0)
            if not bad.any():
                x = step
                break
            share = (x[bad] / (x[bad] - step[bad])).min()
            x = x + share * (step - x)
            free &= x > 1e-12
            x[~free] = 0
    return x / scale


def fit(rows: list[Any], name: str) -> tuple[dict[str, dict[str, float]], dict[str, tuple[float, float]], dict[str, list[float]]]:
    """(group -> term -> instructions, group -> (mean, largest) error of the half held back, group -> all those errors)."""
    groups: dict[str, list[tuple[Op, int]]] = {}
    for row in rows:
        if "op" in row and name in row["counts"]:
            op = row["op"]
            group = group_of(op["kind"], tuple(op["kernel"]), op["sources"][0], op["out"], op.get("weight_bits", 8))
            groups.setdefault(group, []).append((op, row["counts"][name]))
    made, errors, signed = {}, {}, {}
    for group, samples in groups.items():
        found = [
            terms(op["kind"], tuple(op["kernel"]), tuple(op["stride"]), op["sources"], op["out"], op.get("weight_bits", 8))
            for op, _ in samples
        ]
        matrix = np.array([[float(value) for value in term.values()] for term in found])
        counted = np.array([count for _, count in samples], float)
        seen = np.arange(len(samples)) % 2 == 0
        x = nonnegative(matrix[seen] / counted[seen, None], np.ones(seen.sum()))
        made[group] = {term: float(f"{value:.6g}") for term, value in zip(found[0], x, strict=True) if value > 0}
        signed[group] = list(matrix[~seen] @ x / counted[~seen] - 1)
        errors[group] = float(np.abs(signed[group]).mean()), float(np.abs(signed[group]).max())
    return made, errors, signed


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--measure", nargs=3, metavar=("CORE", "KERNELS", "TREE"))
    parse.add_argument("--version", default="", help="of the kernels, where they are not the newest: arduino")
    parse.add_argument("--cache", type=Path, default=Path(os.environ.get("TINYNAS_CACHE", Path.home() / ".cache" / "tinynas")))
    parse.add_argument("--twice", action="store_true")
    parse.add_argument("--again", action="store_true", help="count also what was counted before")
    args = parse.parse_args()
    if args.measure:
        measure(*args.measure, args.version, args.cache, args.twice, args.again)
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    names = list(dict.fromkeys(name for row in rows for name in row["counts"]))
    made = {}
    for name in sorted(names):
        groups, errors, _ = fit(rows, name)
        made[name] = {
            "source": "emulated, qemu -icount; " + str(sum(name in row["counts"] for row in rows if "op" in row)) + " operators",
            "groups": groups,
            "error": {group: [round(mean, 4), round(worst, 4)] for group, (mean, worst) in errors.items()},
        }
    TABLE.write_text(json.dumps(made, indent=1) + "\n")
    report(rows, made)
    return 0


def networks(rows: list[Any], made: dict[str, Any]) -> dict[str, dict[str, tuple[int, int]]]:
    """Table -> public model -> (instructions by the formulas, counted); models with an operator that has no formula are left out."""
    found: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in made}
    for row in rows:
        if "net" in row:
            work = to_work(read_model(DATA / "models" / f"{row['net']}.tflite"))
            for name, counted in row["counts"].items():
                parts = [operator_instructions(tables()[name], piece, work) for piece in work.pieces]
                if None not in parts:
                    found[name][row["net"]] = sum(parts), sum(counted)
    return found


def report(rows: list[Any], made: dict[str, Any]) -> None:
    """Writes results/benchmarks/latency_counts.md."""
    tables.cache_clear()
    names = sorted(made)
    nets = networks(rows, made)
    lines = [
        INTRO,
        "## Operators held back: mean (largest) error of the formula",
        "",
        "| operators | " + " | ".join(names) + " |",
        "|---|" + "--:|" * len(names),
    ]
    for group in dict.fromkeys(group for name in names for group in made[name]["error"]):
        errors = [made[name]["error"].get(group) for name in names]
        lines.append(f"| {group} | " + " | ".join("" if e is None else f"{e[0]:.1%} ({e[1]:.0%})" for e in errors) + " |")
    lines += ["", "## Whole public models, none of which the fit has seen: formula against count", ""]
    lines += ["| model | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    for net in dict.fromkeys(net for name in names for net in nets[name]):
        pairs = [nets[name].get(net) for name in names]
        cells = ["" if pair is None else f"{pair[0] / pair[1] - 1:+.1%} of {pair[1] / 1e6:.1f} M" for pair in pairs]
        lines.append(f"| {net} | " + " | ".join(cells) + " |")
    for what, of in (("mean error", np.mean), ("largest error", np.max)):
        cells = [f"{of([abs(a / b - 1) for a, b in nets[name].values()]):.1%}" for name in names]
        lines.append(f"| **{what}** | " + " | ".join(cells) + " |")
    lines += ["", OUTRO]
    (ROWS.with_suffix(".md")).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
