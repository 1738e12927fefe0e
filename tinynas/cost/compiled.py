"""Costs of the compiled network: its work area, and flash of its constants, and of its code.

The code of a kernel is in flash once, however many operators use it; constants and table rows add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, assert_never

from tinynas.cost.runtimes import CoreKind, core_kind
from tinynas.cost.streamed import Frame, StreamPlan, gathers, plan_streamed
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Mean, Mul, Op, Pool2D, Resize

#: Channels of a block of a depthwise convolution's weights; the last block is filled up.
BLOCK = 4
#: From so many tensors on, indices take two bytes.
WIDE_INDEX = 255
#: Bytes of a row of the table of tensors, and of that of operators with indices of one and of two bytes.
PLACE_BYTES, OPERATOR_BYTES = 12, (52, 60)

#: Kind of core -> bytes of code that each operator brings, as arm-none-eabi-gcc 12.2 -O2 links it, C library's copies included; of all
#: operators together up to 90 B less. A classifier has products and a mean whatever else it has: they are in "".
CODE_BYTES: dict[CoreKind, dict[str, int]] = {
    "plain": {"": 2940, "conv2d": 344, "depthwiseconv2d": 1308, "add": 345, "mul": 279, "maxpool2d": 506, "averagepool2d": 302},
    "dsp": {"": 1734, "conv2d": 384, "depthwiseconv2d": 1152, "add": 321, "mul": 323, "maxpool2d": 254, "averagepool2d": 254},
    "mve": {"": 1962, "conv2d": 272, "depthwiseconv2d": 960, "add": 297, "mul": 299, "maxpool2d": 286, "averagepool2d": 222},
}


def kernel_of(op: Op) -> str:
    """The kernel of ``op`` in generated code."""
    match op:
        case Conv2D():
            return "dense" if op.kernel == (1, 1) else "conv"
        case FullyConnected():
            return "dense"
        case Pool2D():
            return "max_gather" if gathers(op) else op.kind
        case DepthwiseConv2D() | Add() | Mul() | Mean() | HardSwish() | Resize():
            return op.kind
    assert_never(op)


def constants_of(op: Op) -> Any:
    """Bytes of the weights, numbers and shifts of ``op``; arrays give arrays."""
    match op:
        case Conv2D():
            return op.out_channels * (op.kernel[0] * op.kernel[1] * op.in_channels + 9)
        case DepthwiseConv2D():
            return -(-op.channels // BLOCK) * BLOCK * (op.kernel[0] * op.kernel[1] + 9)
        case FullyConnected():
            return op.out_features * (op.in_features + 9)
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


def code_bytes(operators: Iterable[str], core: str | None) -> tuple[int, bool]:
    """(bytes of the code of a network with ``operators``, as :data:`CODE_BYTES` spells them, on ``core``; whether cores of its kind were
    measured: else they are the most of those that were). Whether all convolutions are 1x1, and how windows of maxima lie, is not
    looked at: all kernels of a kind count."""
    kind = core_kind(core)
    known = kind is not None and kind in CODE_BYTES
    tables = [CODE_BYTES[kind]] if known and kind is not None else list(CODE_BYTES.values())
    present = sorted(set(operators))
    return max(table[""] + sum(table.get(name, 0) for name in present) for table in tables), known


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
