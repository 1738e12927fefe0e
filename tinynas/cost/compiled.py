"""Costs of the compiled network: flash by constants and kernels, and the work areas of many networks at once.

The code of a kernel is in flash once, however many operators use it; constants and table rows add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from tinynas.cost.runtimes import CoreKind, core_kind
from tinynas.cost.streamed import Frame, Line, StreamPlan, endings, gathers, lines_of, plan_streamed
from tinynas.graph import Add, Builder, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mean, Mul, Op, Pool2D

Ints: TypeAlias = npt.NDArray[np.int64]

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


# many networks -------------------------------------------------------------------------------------------

#: Columns of an operator: its line, constants, kernel as a bit, and 1.
COLUMNS = (*Line._fields, "constants", "kernel", "there")


def columns_of(build: Builder, count: int) -> Ints:
    """(operators, columns, count): what the operators of ``build``, which begin at tensor 0, bring; for ``count`` sizes."""
    lines = lines_of(build.ops, build.tensors, 0)
    found = np.zeros((len(build.ops), len(COLUMNS), count), dtype=np.int64)
    for row, line, op in zip(found, lines, build.ops, strict=True):
        for column, value in enumerate((*line, constants_of(op), 1 << KERNELS.index(kernel_of(op)), 1)):
            row[column] = value
    return found


def least_of(columns: Ints) -> Ints:
    """(count,): bytes that no network with these operators can be below: what each reads is there, a row at least."""
    named = dict(zip(COLUMNS, columns.swapaxes(0, 1), strict=True))
    rows = np.minimum(named["whole"], np.maximum(named["stays"], named["passing"]))
    return np.asarray((rows + named["scratch"] + named["state"]).max(axis=0))


def many_compiled(blocks: Sequence[Ints], outputs_bytes: int, heights: Ints, frame: Frame, core: str | None) -> tuple[Ints, Ints]:
    """(work bytes, flash bytes) of N networks, each put together of ``blocks`` (N, operators, columns) in order; ``outputs_bytes`` on
    full words; ``heights`` (N,) of their inputs."""
    table = np.concatenate(blocks, axis=1)
    there = table[:, :, -1]
    order = np.argsort(1 - there, axis=1, kind="stable")  # operators that are not there go to the end
    table = np.take_along_axis(table, order[:, :, None], axis=1)
    networks, count = np.arange(len(table)), there.sum(axis=1)
    most = int(count.max(initial=0))
    table = np.concatenate([table[:, :most], np.zeros((len(table), 1, len(COLUMNS)), dtype=np.int64)], axis=1)
    fields = dict(zip(COLUMNS, np.ascontiguousarray(table.transpose(2, 1, 0)), strict=True))  # (positions, N) each
    constants, kernels = fields["constants"].sum(axis=0), np.bitwise_or.reduce(fields["kernel"], axis=0)
    fields["whole"][count, networks] = outputs_bytes
    fields["cut"][count, networks] = 1
    lines = [Line(*[fields[name][i] for name in Line._fields]) for i in range(most + 1)]
    area, segments, longest = _best_cuts(lines, count, frame)
    wide = 1 + (heights > 255)
    work = -(-(area + (2 * longest + 1) * wide + 1) // 4) * 4
    bytes_of = code_table(core)
    code = np.full(len(table), bytes_of["driver"])
    for bit, kernel in enumerate(KERNELS):
        code = code + bytes_of.get(kernel, 0) * (kernels >> bit & 1)
    return np.asarray(work), np.asarray(constants + table_bytes(count, segments) + code)


def _best_cuts(lines: Sequence[Line], count: Ints, frame: Frame) -> tuple[Ints, Ints, Ints]:
    """(bytes, segments, operators of the longest segment): the cuts of tinynas.cost.streamed, for N networks of ``count`` operators."""
    never = np.int64(1) << 60
    shape = (len(lines), len(count))
    keys = np.full(shape, never)  # bytes, then segments, then where the last one begins
    area, segments, begun = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    keys[0] = 0
    for begin in range(len(lines) - 1):
        may = (keys[begin] < never) & (lines[begin].cut == 1) & (count > begin)
        if not may.any():
            continue
        for end, size in endings(lines, begin, inside=begin == 0 and frame == "rows", larger=np.maximum):
            here = may & (lines[end].cut == 1) & (count >= end)
            if not here.any():
                continue
            bytes_, number = np.maximum(area[begin], size), segments[begin] + 1
            key = (bytes_ << 24) + (number << 12) + begin
            better = here & (key < keys[end])
            keys[end] = np.where(better, key, keys[end])
            area[end], segments[end] = np.where(better, bytes_, area[end]), np.where(better, number, segments[end])
            begun[end] = np.where(better, begin, begun[end])
    networks = np.arange(len(count))
    at, longest = count.copy(), np.zeros(len(count), np.int64)
    while at.any():
        before = np.where(at > 0, begun[at, networks], 0)
        longest, at = np.maximum(longest, at - before), before
    return area[count, networks], segments[count, networks], longest
