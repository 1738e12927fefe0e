"""Tally: what a run of operators adds to the costs of any network that holds it, in a form that merges.

Each figure is a sum over operators (MACs, weights, bytes of the file, data in the tail), a maximum (head, work buffers)
or a set (options tables, channel counts whose zero points are shared); the padding of parsed options depends on where they
start, and is a sum for each start. So a block can be tallied alone, once, and networks are merges of blocks. The formulas
are those that :func:`tinynas.cost.estimate` folds, one an operator: work, flash, tail, runtimes, memory. Sizes may be
integer arrays of one shape: a tally of arrays stands for as many runs of one structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tinynas.cost.anatomy import anatomy
from tinynas.cost.flash import OptionKey, Terms, activation_terms, op_terms, paired_outputs, shape_bytes
from tinynas.cost.instructions import Counts, operator_instructions
from tinynas.cost.latency import LatencyModel, macs_by_kind
from tinynas.cost.memory import live_bytes, nested_frames, plan_segment, segments, written_over
from tinynas.cost.runtimes import Runtime, refuse, work_buffers
from tinynas.cost.setup import most_prepared
from tinynas.cost.tail import CHANNELED, channel_data, graph_options, kernel_data, options_bytes, weight_sums
from tinynas.cost.work import Piece, Work, pieces_of, tensor_bytes
from tinynas.graph import Builder
from tinynas.target.registrations import Alone

#: Places, modulo their largest alignment on a 32-bit microcontroller, at which parsed options can start.
STARTS = 4


class Sums(NamedTuple):
    """What adds up; each an integer or an integer array."""

    dense: Any
    """MACs by the kinds of :data:`tinynas.cost.latency.KINDS`; here of dense convolutions."""
    pointwise: Any
    depthwise: Any
    connected: Any
    weights: Any
    biases: Any
    weights_bytes: Any
    front: Any
    """Terms of the file's size, see :mod:`tinynas.cost.flash`; ``grids`` is quantisation and scales, ``spare`` contents less houses."""
    grids: Any
    constants: Any
    spare: Any
    tensors: Any
    """Of the file, constants included."""
    operators: Any
    convolutions: Any
    """Operators of the first kind in a file's list of codes."""
    uncounted: Any
    """Operators whose instructions are not known, where the core and runtime were counted: some of those with weights of few bits."""
    untimed: Any
    """The same of cycles, where there is a latency model."""
    instructions: Any
    """Executed; 0 where nothing was counted of the core and runtime."""
    cycles: Any
    """Of the latency model; 0 where there is none."""
    arrays: Any
    """Multipliers and shifts of channels in the tail."""
    layers: Any
    """Of :class:`tinynas.cost.anatomy.Anatomy`, as the next two."""
    activations: Any
    log_macs: Any


@dataclass(frozen=True)
class Tally:
    """What operators add; ``options[b][s]`` are the bytes of parsed options that start ``s`` bytes behind an alignment in build ``b``."""

    sums: Sums
    kept: tuple[tuple[Any, Any], ...]
    """For each build of the runtime, sums: structures of kernels in the tail, and scratch buffers."""
    options: tuple[tuple[Any, ...], ...]
    prepared: tuple[Any, ...]
    """:func:`tinynas.cost.setup.most_prepared`, by build."""
    head: Any
    """Bytes of activations and scratch that a plan needs while these operators run."""
    work_buffer: Any
    """TinyEngine's, see :func:`tinynas.cost.runtimes.work_buffers`; and its int16 kernel."""
    int16_kernel: Any
    narrowing: Any
    """Of :class:`tinynas.cost.anatomy.Anatomy`, a maximum."""
    keys: frozenset[OptionKey]
    uses: frozenset[tuple[str, Alone]]
    """(kind, what a kernel may be for alone) of each operator."""
    channels: tuple[Any, ...]
    """Output channels of each convolution."""
    dense: tuple[Any, ...]
    """Outputs of each fully connected layer."""


def tally(
    build: Builder,
    output: int,
    runtime: Runtime,
    *,
    reads_input: bool = False,
    counts: Counts | None = None,
    timing: LatencyModel | None = None,
) -> Tally:
    """The tally of the operators of ``build``, which lead from tensor 0 to tensor ``output`` of a network's full, planned file.

    ``reads_input``: tensor 0 is the network's input and counts; elsewhere it counts where it is written. Raises UserError where
    ``runtime`` does not run them (:func:`tinynas.cost.runtimes.unrun`).
    """
    ops, tensors = build.ops, build.tensors
    pieces, constants = pieces_of(ops, tensors)
    refuse(runtime, pieces)
    work = Work(tuple(map(tensor_bytes, tensors)), tuple(t.shape for t in tensors), pieces, (0,), (output,), len(tensors) + constants)
    executed = [] if counts is None else [operator_instructions(counts, piece, work) for piece in pieces]
    cycles = [] if timing is None else [timing.op_cycles(piece, work) for piece in pieces]
    paired = paired_outputs(ops)
    files = []
    for op in ops:
        source, target = tensors[op.inputs[0]], tensors[op.output]
        files.append(op_terms(op, source.shape, target.shape, target.name, full=True, shares_shape=op.output in paired))
    parts = [file.terms for file in files]
    if reads_input:
        own = activation_terms(len(tensors[0].name), full=True)
        parts.append(own._replace(front=own.front + shape_bytes(len(tensors[0].shape))))
    looks = anatomy(pieces, work.shapes)
    terms = Terms(*[sum(column) for column in zip(*parts, strict=True)])
    sums = Sums(
        *macs_by_kind(pieces),
        weights=sum(piece.weights for piece in pieces),
        biases=sum(piece.biases for piece in pieces),
        weights_bytes=sum(piece.weights_bytes for piece in pieces),
        front=terms.front,
        grids=terms.quantisation + terms.scales,
        constants=terms.constants,
        spare=terms.contents - terms.houses,
        tensors=terms.tensors,
        operators=len(ops),
        convolutions=sum(op.kind == "conv" for op in ops),
        uncounted=_unknown(executed),
        untimed=_unknown(cycles),
        instructions=sum(known for known in executed if known is not None),
        cycles=sum(known for known in cycles if known is not None),
        arrays=sum(channel_data(piece.out_channels) for piece in pieces if piece.kind in CHANNELED),
        layers=looks.layers,
        activations=looks.activations,
        log_macs=looks.log_macs,
    )
    kept = tuple(
        (
            sum(kernel_data(piece.kind, build) + weight_sums(piece, build) for piece in pieces),
            sum(len(piece.scratch_of(build)) for piece in pieces),
        )
        for _, build in runtime.builds
    )
    head, options, prepared = _planned(work, runtime)
    buffers = [work_buffers(piece, work.shapes) for piece in pieces] if runtime.work_buffers else [(0, 0)]
    return Tally(
        sums,
        kept,
        options,
        prepared,
        head,
        _largest([buffer for buffer, _ in buffers]),
        _largest([kernel for _, kernel in buffers]),
        looks.narrowing,
        frozenset(file.key for file in files),
        frozenset((piece.kind, piece.alone) for piece in pieces),
        tuple(count for file in files for count in file.channels),
        tuple(count for file in files for count in file.dense),
    )


def _unknown(values: Sequence[Any]) -> int:
    """How many of ``values``, one an operator where there are any, are not known."""
    return sum(value is None for value in values)


def _largest(values: Sequence[Any]) -> Any:
    found = values[0]
    for value in values[1:]:
        found = np.maximum(found, value)
    return found


def _planned(work: Work, runtime: Runtime) -> tuple[Any, tuple[tuple[Any, ...], ...], tuple[Any, ...]]:
    """(head, bytes of options by build and start, most that an operator prepares in by build) in the order of the plan.

    Where shortcuts nest, the order is as given and the plan reaches the live bytes; else each network has a plan of its own.
    """
    if not runtime.plans or nested_frames(work.pieces, work.inputs, work.outputs, over=written_over(work, runtime)) is not None:
        return _largest(live_bytes(work, runtime)), _options(work.pieces, runtime), _prepared(work.pieces, runtime)
    heads, options, prepared = [], [], []
    for row in range(max(np.size(size) for size in work.sizes)):
        planned = [plan_segment(part, runtime) for part in segments(_row(work, row, runtime), runtime)]
        heads.append(max(part.head_bytes for part in planned))
        pieces = [piece for part in planned for piece in part.work.pieces]
        options.append(_options(pieces, runtime))
        prepared.append(_prepared(pieces, runtime))
    # (rows, builds, starts) -> by build and start, a number a row.
    starts = tuple(tuple(each.T) for each in np.array(options).swapaxes(0, 1))
    return np.array(heads), starts, tuple(np.array(prepared).T)


def _prepared(pieces: Sequence[Piece], runtime: Runtime) -> tuple[Any, ...]:
    return tuple(most_prepared(pieces, build) for _, build in runtime.builds)


def _options(pieces: Sequence[Piece], runtime: Runtime) -> tuple[tuple[int, ...], ...]:
    found = []
    for _, build in runtime.builds:
        options = [graph_options(piece.kind, build) for piece in pieces]
        found.append(tuple(options_bytes(options, start) for start in range(STARTS)))
    return tuple(found)


def _row(work: Work, row: int, runtime: Runtime) -> Work:
    """Network ``row`` of a work of arrays, with what its memory plan and its set-up read, for the builds of ``runtime``."""

    def one(value: Any) -> int:
        return int(np.broadcast_to(value, (row + 1,) if np.ndim(value) == 0 else np.shape(value))[row])

    pieces = tuple(
        replace(
            piece,
            out_channels=one(piece.out_channels),
            scratch={build: tuple(map(one, sizes)) for _, build in runtime.builds if (sizes := piece.scratch.get(build))},
        )
        for piece in work.pieces
    )
    return replace(work, sizes=tuple(map(one, work.sizes)), pieces=pieces)
