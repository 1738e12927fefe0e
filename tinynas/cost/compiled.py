"""Costs of the compiled network: its work area, and flash by constants and kernels.

The code of a kernel is in flash once, however many operators use it; constants and table rows add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple, assert_never

from tinynas.cost.runtimes import CoreKind, core_kind
from tinynas.cost.streamed import Frame, StreamPlan, gathers, plan_streamed
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mean, Mul, Op, Pool2D

#: Channels of a block of a depthwise convolution's weights; the last block is filled up.
BLOCK = 4
#: From so many tensors on, indices take two bytes.
WIDE_INDEX = 255
#: Bytes of a row of the table of tensors, and of that of operators with indices of one and of two bytes.
PLACE_BYTES, OPERATOR_BYTES = 12, (52, 60)

#: Kernels of generated code, in the order of bits.
KERNELS = ("dense", "conv", "dw", "add", "mul", "max_pool", "max_gather", "avg_pool", "mean")
#: Kind of core -> bytes of the code of each kernel, as arm-none-eabi-gcc 12.2 -O2 links it, C library's copies included; of all kernels
#: together up to 90 B less. A classifier has products and a mean whatever else it has: they are in "driver".
CODE_BYTES: dict[CoreKind, dict[str, int]] = {
    "plain": {"driver": 2940, "conv": 344, "dw": 1308, "add": 345, "mul": 279, "max_pool": 322, "max_gather": 184, "avg_pool": 302},
    "dsp": {"driver": 1734, "conv": 384, "dw": 1152, "add": 321, "mul": 323, "max_pool": 190, "max_gather": 64, "avg_pool": 254},
    "mve": {"driver": 1962, "conv": 272, "dw": 960, "add": 297, "mul": 299, "max_pool": 206, "max_gather": 80, "avg_pool": 222},
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
        case DepthwiseConv2D() | Add() | Mul() | Mean():
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
        case Pool2D():
            return 0
    assert_never(op)


def table_bytes(operators: Any, segments: Any) -> Any:
    """Bytes of the tables of tensors (one more than operators), operators and segments; arrays give arrays."""
    wide = operators + 1 >= WIDE_INDEX
    row = OPERATOR_BYTES[0] + (OPERATOR_BYTES[1] - OPERATOR_BYTES[0]) * wide
    return PLACE_BYTES * (operators + 1) + row * operators + 2 * (1 + wide) * segments


def code_bytes(kernels: Iterable[str], core: str | None = None) -> int:
    """Bytes of the code of a network with ``kernels`` on ``core``; the most of all cores where that is None, or none that was measured."""
    table = code_table(core)
    return table["driver"] + sum(table.get(kernel, 0) for kernel in set(kernels))


@lru_cache(maxsize=64)
def code_table(core: str | None) -> dict[str, int]:
    """Bytes of code by kernel on ``core``."""
    kind = core_kind(core)
    kinds = [kind] if kind in CODE_BYTES else list(CODE_BYTES)
    return {name: max(CODE_BYTES[k][name] for k in kinds) for name in CODE_BYTES["plain"]}


def constant_bytes(plan: StreamPlan) -> int:
    """Bytes of all constants of a compiled network."""
    ops = plan.graph.ops
    return int(sum(constants_of(op) for op in ops) + table_bytes(len(ops), len(plan.segments)))


class Compiled(NamedTuple):
    """What a compiled network takes."""

    work_bytes: int
    """SRAM beside the stack."""
    flash_bytes: int
    """Constants and code."""
    live: tuple[int, ...]
    """By operator: bytes of the segment in which it runs, counters included."""


def compiled_cost(graph: Graph, frame: Frame, core: str | None = None) -> Compiled:
    """What ``graph`` takes when it is compiled, for ``core`` where that is given."""
    plan = plan_streamed(graph, frame=frame)
    live = [0] * len(graph.ops)
    for (begin, end), size in zip(plan.segments, plan.segment_bytes, strict=True):
        live[begin:end] = [size + plan.work_bytes - plan.area_bytes] * (end - begin)
    flash = constant_bytes(plan) + code_bytes((kernel_of(op) for op in graph.ops), core)
    return Compiled(plan.work_bytes, flash, tuple(live))
