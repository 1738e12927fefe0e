"""Costs of the compiled network: its work area, its stack, and flash of its constants, and of its code.

The code of a kernel is in flash once, however many operators use it; constants and table rows add up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple, assert_never

from tinynas.cost.schema import packed_bytes
from tinynas.cost.streamed import Frame, StreamPlan, gathers, plan_streamed, taps_of
from tinynas.cost.work import Piece
from tinynas.graph import WEIGHTED, Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Mean, Mul, Op, Pool2D, Resize

#: Channels of a block of a depthwise convolution's weights; the last block is filled up.
BLOCK = 4
#: Operators of every classifier, in the spelling of the table of code.
_ALWAYS = frozenset({"mean", "fullyconnected"})
#: What weights of few bits bring: products of each width, what is saved where none has 8 bits, the choice between products of
#: convolutions, and what unpacks the weights of depthwise convolutions.
FEW = ("products4", "products2", "without8", "convmixed", "depthwisefew")
#: From so many tensors on, indices take two bytes.
WIDE_INDEX = 255
#: Bytes of a row of the table of tensors, and of that of operators with indices of one and of two bytes.
PLACE_BYTES, OPERATOR_BYTES = 12, (52, 60)

#: What an operator's pointer to a row takes of the stack, for each row that a step reads.
POINTER_BYTES = 4
#: The functions between a program and a kernel take other frames in other networks (registers that they save): the table has the most of
#: those that were compiled, and so much more is promised.
SPARE_STACK_BYTES = 16


class Sizes(NamedTuple):
    """What was measured on a core, with arm-none-eabi-gcc 12.2 at -O2, by kind of operators (compiled.json, written by
    benchmarks/compiled_tables.py)."""

    code: Mapping[Frame, Mapping[str, int]]
    """By name of TFLite in small letters: bytes of code that each brings, C library's copies included; of all operators together up to
    200 B less. A classifier has products and a mean whatever else it has: they are in "". Of sums in 32 bits: networks that round in 64
    take more. Names of :data:`FEW` say what weights of few bits bring."""
    stack: Mapping[str, int]
    """By :func:`stack_kind`: bytes of stack from its kernels on; in "" those above a kernel, without pointers to rows."""


@lru_cache(maxsize=1)
def sizes() -> Mapping[str, Sizes]:
    """The table by core."""
    read = json.loads(resources.files("tinynas.cost").joinpath("compiled.json").read_text(encoding="utf-8"))
    return {core: Sizes(row["code"], row["stack"]) for core, row in read.items()}


def _of_core(core: str | None) -> tuple[Sizes, ...]:
    """What counts for ``core``: all that were measured, where it is not among them."""
    return (sizes()[core],) if core is not None and core in sizes() else tuple(sizes().values())


def kernel_of(op: Op) -> str:
    """The kernel of ``op`` in generated code."""
    match op:
        case Conv2D() | DepthwiseConv2D() | FullyConnected():
            kind = "dense" if isinstance(op, FullyConnected) or (isinstance(op, Conv2D) and op.kernel == (1, 1)) else op.kind
            return kind if op.weight_bits == 8 else f"{kind}{op.weight_bits}"
        case Pool2D():
            return "max_gather" if gathers(op) else op.kind
        case Add() | Mul() | Mean() | HardSwish() | Resize():
            return op.kind
    assert_never(op)


def code_kind(piece: Piece) -> str:
    """The kind that :func:`code_bytes` knows an operator by: maxima of windows that do not overlap have a kernel of their own."""
    return "max_gather" if piece.kind == "max_pool" and piece.kernel[0] == piece.stride[0] else piece.kind


def most_rows(ops: Iterable[Op]) -> int:
    """Most rows that a step of ``ops`` reads."""
    return max(taps_of(op)[0] for op in ops)


def constants_of(op: Op) -> Any:
    """Bytes of the weights, numbers and shifts of ``op``; arrays give arrays. Weights of few bits are packed row by row: of a "
    "convolution or
    matrix product a row is an output's, of a depthwise convolution a block of channels."""
    match op:
        case Conv2D():
            return op.out_channels * (packed_bytes(op.kernel[0] * op.kernel[1] * op.in_channels, op.weight_bits) + 9)
        case DepthwiseConv2D():
            return -(-op.channels // BLOCK) * (packed_bytes(BLOCK * op.kernel[0] * op.kernel[1], op.weight_bits) + 9 * BLOCK)
        case FullyConnected():
            return op.out_features * (packed_bytes(op.in_features, op.weight_bits) + 9)
        case Add():
            return 3 * 5
        case Mul():
            return 5
        case Mean():
            return 2 * 4 + 1
        case HardSwish():
            return 256
        case Resize():
            return 2 * 4
        case Pool2D():
            return 0
    assert_never(op)


def table_bytes(operators: Any, segments: Any) -> Any:
    """Bytes of the tables of tensors (one more than operators), operators and segments; arrays give arrays."""
    wide = operators + 1 >= WIDE_INDEX
    row = OPERATOR_BYTES[0] + (OPERATOR_BYTES[1] - OPERATOR_BYTES[0]) * wide
    return PLACE_BYTES * (operators + 1) + row * operators + 2 * (1 + wide) * segments


def code_bytes(operators: Iterable[str], core: str | None, frame: Frame, bits: Mapping[str, frozenset[int]]) -> tuple[int, bool]:
    """(bytes of the code of a network with ``operators``, as the table spells them, on ``core``; whether it was measured: else they are the
    most of those that were). Whether all convolutions are 1x1 is not looked at: all their kernels count. ``bits`` of weights by operator,
    where they are not 8 alone."""
    found = set(operators)
    present = sorted((found - _ALWAYS) | few_kernels({name: bits.get(name, frozenset({8})) for name in found | {"fullyconnected"}}))
    tables = [table.code[frame] for table in _of_core(core)]
    return max(table[""] + sum(table[name] for name in present) for table in tables), core in sizes()


def few_kernels(bits: Mapping[str, frozenset[int]]) -> set[str]:
    """What the kernels of a network bring, of :data:`FEW`, whose operators have weights of these ``bits``."""
    convs = bits.get("conv2d", frozenset())
    products = convs | bits["fullyconnected"]
    found = {f"products{each}" for each in products if each < 8}
    found |= {"without8"} if 8 not in products else set()
    found |= {"convmixed"} if len(convs) > 1 else set()
    return found | ({"depthwisefew"} if bits.get("depthwiseconv2d", frozenset()) - {8} else set())


def stack_kind(op: Op) -> str:
    """What :attr:`Sizes.stack` knows the kernel of ``op`` by: its kind, and the bits of its weights where they are few."""
    return f"{op.kind}{op.weight_bits}" if isinstance(op, WEIGHTED) and op.weight_bits < 8 else op.kind


def kernel_stack(op: Op, core: str | None) -> int:
    """Bytes of stack from the kernel of ``op`` on; the most of all where that was not measured."""
    return max(table.stack[stack_kind(op)] for table in _of_core(core))


def stack_bytes(rows: Any, deepest: Any, core: str | None) -> Any:
    """Bytes of stack that a compiled network promises not to exceed, below a call of its functions: for steps that read at most ``rows``
    rows, and kernels that take at most ``deepest``. Interrupts come on top. Arrays give arrays."""
    above = max(table.stack[""] for table in _of_core(core))
    return above + SPARE_STACK_BYTES + POINTER_BYTES * rows + deepest


def network_stack(graph: Graph, core: str | None) -> int:
    """:func:`stack_bytes` of ``graph``."""
    return int(stack_bytes(most_rows(graph.ops), max(kernel_stack(op, core) for op in graph.ops), core))


def constant_bytes(plan: StreamPlan) -> int:
    """Bytes of all constants of a compiled network."""
    ops = plan.graph.ops
    return int(sum(constants_of(op) for op in ops) + table_bytes(len(ops), len(plan.segments)))


class Compiled(NamedTuple):
    """What a compiled network takes."""

    work_bytes: int
    """SRAM beside the stack."""
    flash_bytes: int
    """Constants."""
    live: tuple[int, ...]
    """By operator: bytes of the segment in which it runs, counters included."""


def compiled_cost(graph: Graph, frame: Frame) -> Compiled:
    """What ``graph`` takes when it is compiled."""
    plan = plan_streamed(graph, frame=frame)
    live = [0] * len(graph.ops)
    for (begin, end), size in zip(plan.segments, plan.segment_bytes, strict=True):
        live[begin:end] = [size + plan.work_bytes - plan.area_bytes] * (end - begin)
    return Compiled(plan.work_bytes, constant_bytes(plan), tuple(live))
