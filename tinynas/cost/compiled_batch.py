"""Costs of many compiled networks at once, in numpy, with the numbers of tinynas.cost.compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from tinynas.cost.compiled import constants_of, kernel_stack, stack_bytes, table_bytes
from tinynas.cost.streamed import Frame, Line, endings, lines_of, window_of
from tinynas.graph import Builder

Ints: TypeAlias = npt.NDArray[np.int64]

#: Columns of an operator: its line, constants, rows that a step reads, stack of its kernel, and 1.
COLUMNS = (*Line._fields, "constants", "window", "stack", "there")


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
        for column, value in enumerate((*line, constants_of(op), window_of(op)[0], kernel_stack(op, core), 1)):
            row[column] = value
    return found


def least_of(columns: Ints) -> Ints:
    """(count,): bytes that no network with these operators can be below: what each reads is there, a row at least."""
    named = dict(zip(COLUMNS, columns.swapaxes(0, 1), strict=True))
    rows = np.minimum(named["whole"], np.maximum(named["stays"], named["passing"]))
    return np.asarray((rows + named["scratch"] + named["state"]).max(axis=0))


def many_compiled(blocks: Sequence[Ints], outputs_bytes: int, heights: Ints, frame: Frame, core: str | None) -> Many:
    """Costs on ``core`` of N networks, each put together of ``blocks`` (N, operators, columns) in order; ``outputs_bytes`` on
    full words; ``heights`` (N,) of their inputs."""
    table = np.concatenate(blocks, axis=1)
    there = table[:, :, -1]
    order = np.argsort(1 - there, axis=1, kind="stable")  # operators that are not there go to the end
    table = np.take_along_axis(table, order[:, :, None], axis=1)
    networks, count = np.arange(len(table)), there.sum(axis=1)
    most = int(count.max(initial=0))
    table = np.concatenate([table[:, :most], np.zeros((len(table), 1, len(COLUMNS)), dtype=np.int64)], axis=1)
    fields = dict(zip(COLUMNS, np.ascontiguousarray(table.transpose(2, 1, 0)), strict=True))  # (positions, N) each
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
