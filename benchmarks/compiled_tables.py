"""What the code and the stack of compiled networks take, by core and kernel: the table tinynas/cost/compiled.json.

For each emulated core, small networks of one kernel beside those that every classifier has are compiled with both ways to take frames, and
with all three arithmetics (a network of which a sum is not shifted right tells, output by output, which rounding it needs; one of which
sums may leave +-2^30 rounds in 64 bits). The linker says the code: the table has that of networks whose sums are all shifted right, no less
than that of the others (with weights of few bits the most of all), and for every classifier what whole networks take beyond the sum. The
compiler's call graph (``-fcallgraph-info=su``) says the deepest way through the stack: the table has the most of all. What the C library's
functions take of the stack the compiler does not know: they lie at the end of a way, and count as ``LIBRARY_BYTES``.
benchmarks/compiled_equal.py holds the table against linked programs and painted stacks of whole networks.

    python benchmarks/compiled_tables.py
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import numpy as np

from tinynas.arch import WeightBits, load_arch
from tinynas.cost import compiled
from tinynas.cost.code_flash import spelled
from tinynas.cost.compiled import FEW, Sizes, code_kind, few_kernels
from tinynas.cost.streamed import FRAMES, Frame
from tinynas.cost.work import from_graph
from tinynas.export.compiled import CompiledModel, Sums, compile_network
from tinynas.graph import WEIGHTED, Builder, DepthwiseConv2D, Graph, Kind, few_bits, lower
from tinynas.inputs import Input
from tinynas.quantize.grid import QuantizedGraph, random_quantized
from tinynas.target.cores import CORES, Core
from tinynas.target.library import call
from tinynas.target.program import LEVEL, added_flash, compile_program

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tinynas" / "cost" / "compiled.json"
#: What memcpy, memset, and multiplications and divisions of 64 bits take at most: measured at the end of ways whose frames are known.
LIBRARY_BYTES = 40
#: A kind of operators -> operators that show its kernels, beside a mean and a matrix product.
SHOWN = ("conv2d", "depthwiseconv2d", "add", "mul", "maxgather", "maxpool2d", "averagepool2d", "hardswish", "resizenearestneighbor")

#: What weights of few bits bring (tinynas.cost.compiled.FEW) -> (kinds of operators, bits by operator's name): what the code of these takes
#: beyond the sum of what the table has so far.
FEW_SHOWN: dict[str, tuple[tuple[str, ...], dict[str, WeightBits]]] = {
    "products4": (("pointwise",), {"pw": 4}),
    "products2": (("pointwise",), {"pw": 2}),
    "depthwisefew": (("depthwiseconv2d",), {"dw": 4}),
    "convmixed": (("conv2d", "second"), {"second": 4}),
    "without8": (("pointwise",), {"pw": 4, "fc": 4}),
}

#: Whole networks: what their code takes beyond the sum of their kinds goes to what every classifier takes, so that no promise is too low.
WHOLE = ("mcunet-tiny2", "colabnas-k8c5", "mobilenetv1-0.25")

#: A kind of operators -> functions of generated code that a step calls for it.
KERNELS: dict[Kind, tuple[str, ...]] = {
    "conv": ("conv_row", "dense"),
    "fc": ("dense",),
    "dw": ("dw_row",),
    "add": ("add_row",),
    "mul": ("mul_row",),
    "max_pool": ("max_pool_row", "max_gather_row"),
    "avg_pool": ("avg_pool_row",),
    "hard_swish": ("hard_swish_row",),
    "resize": ("resize_row",),
    "mean": ("mean_row",),
}
#: The same for weights of few bits, by tinynas.cost.compiled.stack_kind.
FEW_KERNELS: dict[str, tuple[str, ...]] = {
    f"{kind}{bits}": names
    for bits in (4, 2)
    for kind, names in {"conv": ("conv_row", f"dense{bits}"), "fc": (f"dense{bits}",), "dw": ("dw_row",)}.items()
}


def network(*kinds: str, bits: Mapping[str, WeightBits] = MappingProxyType({})) -> Graph:
    """A classifier with the kernels of ``kinds``; ``bits`` of weights by operator's name, where they are not 8."""
    build = Builder((8, 8, 8))
    x = 0
    if "conv2d" in kinds:
        x = build.conv("conv", x, 8, (3, 3), (1, 1), "relu6")
    if "second" in kinds:
        x = build.conv("second", x, 8, (3, 3), (1, 1), "relu6", bits.get("second", 8))
    if "pointwise" in kinds:
        x = build.pointwise("pw", x, 8, "relu6", bits.get("pw", 8))
    if "depthwiseconv2d" in kinds:
        x = build.depthwise("dw", x, (3, 3), (1, 1), "relu6", bits.get("dw", 8))
    if "add" in kinds:
        x = build.add("add", x, x)
    if "mul" in kinds:
        x = build.mul("mul", x, x)
    if "maxgather" in kinds:
        x = build.pool("gather", x, "max", (2, 2), (2, 2))
    if "maxpool2d" in kinds:
        x = build.pool("max", x, "max", (3, 3), (1, 1))
    if "averagepool2d" in kinds:
        x = build.pool("avg", x, "avg", (2, 2), (2, 2))
    if "hardswish" in kinds:
        x = build.hard_swish("swish", x)
    if "resizenearestneighbor" in kinds:
        x = build.resize("resize", x, (12, 12))
    logits = build.dense("fc", build.mean("mean", x), 4, bits=bits.get("fc", 8))
    return Graph(tuple(build.tensors), tuple(build.ops), Input(8, 8, 8), (0,), (logits,))


def lefted(qgraph: QuantizedGraph, by: int = 600) -> QuantizedGraph:
    """The same with weights in steps ``by`` times as large, so that sums are shifted left, or not at all."""
    scales = {name: scale * np.float32(by) for name, scale in qgraph.weight_scales.items()}
    return replace(qgraph, weight_scales=scales, biases={name: bias // by for name, bias in qgraph.biases.items()})


def widened(qgraph: QuantizedGraph) -> QuantizedGraph:
    """The same with sums beyond 2^30."""
    return replace(qgraph, biases={name: bias * 0 + (1 << 30) for name, bias in qgraph.biases.items()})


def of_graph(graph: Graph) -> dict[str, frozenset[int]]:
    """Bits of weights by operator, as the table spells them."""
    found: dict[str, frozenset[int]] = {}
    for piece in from_graph(graph).pieces:
        if piece.weights:
            found[spelled(piece.kind)] = found.get(spelled(piece.kind), frozenset()) | {piece.weight_bits}
    return found


def with_bits(graph: Graph, widths: Sequence[int]) -> Graph:
    """``graph`` with weights of these bits: of convolutions in turn the first and the second, of depthwise ones the third and the first."""
    ops = []
    for number, op in enumerate(graph.ops):
        if isinstance(op, DepthwiseConv2D):
            op = replace(op, weight_bits=widths[2 * (number % 2)])  # type: ignore[arg-type]
        elif isinstance(op, WEIGHTED):
            op = replace(op, weight_bits=widths[number % 2])  # type: ignore[arg-type]
        ops.append(op)
    return replace(graph, ops=tuple(ops))


def models(graph: Graph) -> dict[tuple[Frame, Sums], CompiledModel]:
    """(frame, what its sums need) -> ``graph`` compiled."""
    qgraph = random_quantized(graph, seed=1)
    # Random weights of few bits have large steps: a sum of theirs may be shifted left.
    plain = replace(qgraph, weight_scales={name: scale / np.float32(64) for name, scale in qgraph.weight_scales.items()})
    every: dict[Sums, QuantizedGraph] = {"right": plain if few_bits(graph) else qgraph}
    every |= {"left": lefted(qgraph), "wide": widened(every["right"])}
    made = {(frame, sums): compile_network(one, name="net", frame=frame) for frame in FRAMES for sums, one in every.items()}
    assert all(model.sums == sums for (_, sums), model in made.items())
    return made


def frames_and_calls(core: Core, model: CompiledModel) -> tuple[dict[str, int], dict[str, set[str]]]:
    """(bytes of stack by function, functions by the one that calls them) as the compiler lays ``model`` out."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in model.files.items():
            (Path(scratch) / name).write_bytes(text)
        source = Path(scratch) / f"{model.name}.c"
        command = ["arm-none-eabi-gcc", "-std=c99", LEVEL, *core.flags, "-ffunction-sections", "-fcallgraph-info=su"]
        call([*command, "-c", str(source), "-o", f"{source}.o"], "compile a network")
        (graph,) = Path(scratch).glob("*.ci")
        text = graph.read_text()
    frames = {name: int(size) for name, size in re.findall(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes \(static\)"', text)}
    assert "dynamic" not in text
    calls: dict[str, set[str]] = {}
    for source_name, target in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', text):
        calls.setdefault(source_name, set()).add(target)
    return frames, calls


def deepest(name: str, frames: dict[str, int], calls: dict[str, set[str]]) -> int:
    """Bytes of the deepest way from ``name`` on; a function that is not here is the C library's."""
    if name not in frames:
        return LIBRARY_BYTES
    return frames[name] + max((deepest(called, frames, calls) for called in calls.get(name, ())), default=0)


def stack_of(core: Core, model: CompiledModel, *, few: bool) -> dict[str, int]:
    """Bytes of the stack from what a program calls down to a step, without its pointers to rows, by ""; and from each kernel on. ``few``:
    of a network with weights of few bits, whose kernels of 8 bits are not counted: they call others."""
    frames, calls = frames_and_calls(core, model)
    depth = {name.rpartition(":")[2].partition(".")[0]: deepest(name, frames, calls) for name in frames}
    every = {**KERNELS, **FEW_KERNELS} if few else KERNELS
    kernels = {kind: max((depth[name] for name in names if name in depth), default=0) for kind, names in every.items()}
    # Frames end on 8 bytes: so may the pointers.
    above = max(depth[name] for name in depth if name.startswith("net_")) - max(kernels.values()) - 4 * model.most_rows + 4
    return {"": above, **{kind: size for kind, size in kernels.items() if not few or kind in FEW_KERNELS}}


def code_of(core: Core, model: CompiledModel) -> int:
    """Bytes that ``model`` adds to a program beside its constants."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        return added_flash(core, model.name, compile_program(core, model.files, folder), folder) - model.constant_bytes


def measured(core: Core) -> dict[str, Any]:
    """A row of the table: code by frame and kind of operators, where "" is what every classifier takes, and a kind what it adds; stack by
    kind, from its kernels on."""
    code: dict[Frame, dict[str, int]] = {frame: {} for frame in FRAMES}
    stack: dict[str, int] = dict.fromkeys(("", *KERNELS, *FEW_KERNELS), 0)
    graphs = {kind: network(kind) for kind in ("", *SHOWN)} | {"all": network(*SHOWN)} | {name: lower(load_arch(name)) for name in WHOLE}
    for kind, graph in graphs.items():
        for (frame, sums), model in models(graph).items():
            sizes = code[frame]
            if kind in ("", *SHOWN) and sums == "right":
                sizes[kind] = code_of(core, model) - (sizes[""] if kind else 0)
            elif kind in WHOLE and sums == "right":
                present = {spelled(code_kind(piece)) for piece in from_graph(graph).pieces} & set(SHOWN)
                sizes[""] += max(0, code_of(core, model) - sizes[""] - sum(sizes[name] for name in present))
            stack |= {name: max(stack[name], now) for name, now in stack_of(core, model, few=False).items()}
    for name, (kinds, bits) in FEW_SHOWN.items():
        for (frame, _), model in models(network(*kinds, bits=bits)).items():
            present = {kind for kind in kinds if kind in SHOWN}
            known = few_kernels(of_graph(model.plan.graph)) - {name}
            beyond = code_of(core, model) - sum(code[frame][each] for each in ("", *present, *known))
            code[frame][name] = max(code[frame].get(name, beyond), beyond)
            stack |= {kind: max(stack[kind], now) for kind, now in stack_of(core, model, few=True).items()}
    for name, widths in product(WHOLE, ((4, 4, 4), (2, 2, 2), (8, 4, 4), (4, 2, 8))):
        graph = with_bits(lower(load_arch(name)), widths)
        for (frame, sums), model in models(graph).items():
            if sums == "right":
                operators = {spelled(code_kind(piece)) for piece in from_graph(graph).pieces} & set(SHOWN)
                sizes, few = code[frame], few_kernels(of_graph(graph))
                beyond = code_of(core, model) - sizes[""] - sum(sizes[each] for each in operators | few)
                sizes[f"products{min(widths)}"] += max(0, beyond)
            stack |= {kind: max(stack[kind], now) for kind, now in stack_of(core, model, few=True).items()}
    for graph in graphs.values():
        # What is promised before weights are known covers the others: they call what is written out where all shifts are to the right.
        sized = {key: code_of(core, model) for key, model in models(graph).items()}
        assert all(size <= sized[frame, "right"] for (frame, _), size in sized.items())
    return {"code": code, "stack": stack}


def main() -> None:
    sizes = dict.fromkeys(("", *SHOWN, *FEW), 0)
    blank = Sizes(dict.fromkeys(FRAMES, sizes), dict.fromkeys(("", *KERNELS, *FEW_KERNELS), 0))
    # What headers of networks of new kernels say meanwhile.
    with mock.patch.object(compiled, "sizes", lambda: {"": blank}), ThreadPoolExecutor(3) as pool:
        found = dict(zip(CORES, pool.map(measured, CORES.values()), strict=True))
    TABLE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
