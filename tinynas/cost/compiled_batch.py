"""Costs of many compiled networks at once, in numpy, with the numbers of tinynas.cost.compiled and tinynas.cost.stepwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tinynas.cost.compiled import constants_of, kernel_stack, stack_bytes, table_bytes
from tinynas.cost.stepwise import rings_of, sums_bytes
from tinynas.cost.streamed import ALIGNMENT, Frame, Line, endings, lines_of, scratch_of_shape, taps_of, window_of
from tinynas.graph import Builder, Mean

Ints: TypeAlias = npt.NDArray[np.int64]

#: Columns of an operator: its line, constants, rows that a step reads, stack of its kernel, and 1.
COLUMNS = (*Line._fields, "constants", "window", "stack", "there")
#: Columns of an operator of a stream: bytes that it keeps, with the rings of what it reads first and its sums; bytes that are alive in it,
#: without its block's output; bytes of what its block reads, where that passes; constants; rows that a counter counts; rows that a step
#: reads; stack of its kernel; and 1.
STEPS = ("state", "alive", "enters", "constants", "wait", "window", "stack", "there")


class Many(NamedTuple):
    """Costs of N networks, in bytes."""

    work: Ints
    flash: Ints
    stack: Ints


def columns_of(build: Builder, count: int, core: str | None) -> Ints:
    """(operators, columns, count): what the operators of ``build``, which begin at tensor 0, bring on ``core``; for ``count`` sizes."""
    lines = lines_of(build.ops, build.tensors, 0)
    found = np.zeros((len(build.ops), len(COLUMNS), count), dtype=np.int64)
    for row, line, op in zip(found, lines, build.ops, strict=True):
        for column, value in enumerate((*line, constants_of(op), taps_of(op)[0], kernel_stack(op, core), 1)):
            row[column] = value
    return found


def steps_of(build: Builder, count: int, core: str | None) -> Ints:
    """(operators, columns of :data:`STEPS`, count): what the operators of a block, which reads tensor 0 and whose last output is read
    behind it, bring to a stream on ``core``; for ``count`` sizes."""
    ops, tensors = build.ops, build.tensors
    found = np.zeros((len(ops), len(STEPS), count), dtype=np.int64)
    named = dict(zip(STEPS, found.swapaxes(0, 1), strict=True))
    rings = rings_of(ops, tensors)
    writer = {op.output: index for index, op in enumerate(ops)}
    last = {tensor: index for index, op in enumerate(ops) for tensor in op.inputs}
    for tensor, end in last.items():
        ring, begin = rings[tensor], writer.get(tensor, 0)
        if ring.stays:
            named["state"][begin] += ring.size
        else:
            named["alive"][begin : end + 1] += ring.size
    if not rings[0].stays:
        named["enters"][0] = rings[0].size
    for index, op in enumerate(ops):
        window, _, above = window_of(op)
        shape, out = tensors[op.inputs[0]].shape, tensors[op.output].shape
        named["alive"][index] += -(-scratch_of_shape(op, out) // ALIGNMENT) * ALIGNMENT
        named["constants"][index] = constants_of(op)
        named["wait"][index] = np.maximum(window, window - above)
        named["window"][index], named["stack"][index] = taps_of(op)[0], kernel_stack(op, core)
        named["there"][index] = 1
        if isinstance(op, Mean):
            named["state"][index] += sums_bytes(shape)
            named["wait"][index] = shape[0]
    return found


def least_kept(columns: Ints) -> Ints:
    """(count,): bytes that no stream with a block of these operators can be below."""
    named = dict(zip(STEPS, columns.swapaxes(0, 1), strict=True))
    return np.asarray(named["state"].sum(axis=0) + named["alive"].max(axis=0))


def many_streams(blocks: Sequence[Ints], outputs_bytes: int, core: str | None) -> Many:
    """Costs on ``core`` of N streams, each put together of ``blocks`` (N, operators, columns of :data:`STEPS`) in order; ``outputs_bytes``
    on full words."""
    fields, count, _ = _in_order(blocks, STEPS)
    # While a block's last operator runs, what the next one reads is there too.
    passing = (fields["alive"][:-1] + fields["enters"][1:]).max(axis=0)
    counters = (2 * (count + 1) + count) * (1 + (fields["wait"].max(axis=0) > 255))
    work = -(-(fields["state"].sum(axis=0) + outputs_bytes + passing + counters) // ALIGNMENT) * ALIGNMENT
    stack = stack_bytes(fields["window"].max(axis=0), fields["stack"].max(axis=0), core)
    flash = fields["constants"].sum(axis=0) + table_bytes(count, np.zeros_like(count))
    return Many(np.asarray(work), np.asarray(flash), np.asarray(stack))


def _in_order(blocks: Sequence[Ints], names: Sequence[str]) -> tuple[dict[str, Ints], Ints, int]:
    """(by name of a column, of which the last says whether an operator is there, its value at (position, network); (N,) operators;
    the most of these). Operators that are not there are left out; behind the last position is one of zeros."""
    table = np.concatenate(blocks, axis=1)
    there = table[:, :, -1]
    order = np.argsort(1 - there, axis=1, kind="stable")  # operators that are not there go to the end
    table = np.take_along_axis(table, order[:, :, None], axis=1)
    count = there.sum(axis=1)
    most = int(count.max(initial=0))
    table = np.concatenate([table[:, :most], np.zeros((len(table), 1, len(names)), dtype=np.int64)], axis=1)
    return dict(zip(names, np.ascontiguousarray(table.transpose(2, 1, 0)), strict=True)), count, most


def least_of(columns: Ints) -> Ints:
    """(count,): bytes that no network with these operators can be below: what each reads is there, a row at least."""
    named = dict(zip(COLUMNS, columns.swapaxes(0, 1), strict=True))
    rows = np.minimum(named["whole"], np.maximum(named["stays"], named["passing"]))
    return np.asarray((rows + named["scratch"] + named["state"]).max(axis=0))


def many_compiled(blocks: Sequence[Ints], outputs_bytes: int, heights: Ints, frame: Frame, core: str | None) -> Many:
    """Costs on ``core`` of N networks, each put together of ``blocks`` (N, operators, columns) in order; ``outputs_bytes`` on
    full words; ``heights`` (N,) of their inputs."""
    fields, count, most = _in_order(blocks, COLUMNS)
    networks = np.arange(len(count))
    constants = fields["constants"].sum(axis=0)
    fields["whole"][count, networks] = outputs_bytes
    fields["cut"][count, networks] = 1
    lines = [Line(*[fields[name][i] for name in Line._fields]) for i in range(most + 1)]
    area, segments, longest = _best_cuts(lines, count, frame)
    wide = 1 + (heights > 255)
    work = -(-(area + (2 * longest + 1) * wide + 1) // 4) * 4
    stack = stack_bytes(fields["window"].max(axis=0), fields["stack"].max(axis=0), core)
    return Many(np.asarray(work), np.asarray(constants + table_bytes(count, segments)), np.asarray(stack))


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
