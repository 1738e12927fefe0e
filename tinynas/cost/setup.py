"""What TFLM's arena must hold while the interpreter starts: more than inference uses where tensors are many and small.

Each operator of a file first looks at records of its tensors, one operator at a time. Then TFLM plans memory and keeps in the head,
all at once: what kernels asked for as scratch, a record of each tensor of the file and of each scratch buffer, and the planner's own
lists (micro_allocator.cc, micro_allocation_info.cc, greedy_memory_planner.h); the tail is complete by then but for the tensors of the
model's inputs and outputs. An arena that cannot hold this does not start, however little inference uses. Held against tflite-micro by
bisection in tests/test_cost_setup.py and tests/test_kernels.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinynas.cost.kernel import FAMILY_OF, INT_BYTES, Build, Family, aligned
from tinynas.cost.kernels import RECORD_BYTES
from tinynas.cost.tail import (
    CHANNELED,
    GRAPH_KERNELS,
    channel_data,
    kernel_structure,
    open_tail_bytes,
    tail_before_kernels,
    weight_sums,
)
from tinynas.cost.work import Piece, Work


@dataclass(frozen=True, slots=True)
class Records:
    """Sizes in bytes of what TFLM keeps while it plans."""

    request: int
    """ScratchBufferRequest: a size and two numbers."""
    info: int
    """AllocationInfo of a tensor or scratch buffer."""
    offset: int
    """A size_t for each subgraph."""


_MCU = Records(12, 24, 4)
RECORDS: dict[Family, Records] = {"host": Records(16, 32, 8), "mcu": _MCU, "arduino": _MCU, "espressif": _MCU}
#: Requests for which there is room beside those that were made: kMaxScratchBuffersPerOp.
_SPARE_REQUESTS = 12
#: The planner's lists for one buffer: GreedyMemoryPlanner::per_buffer_size(), ten numbers of 4 bytes.
_PLANNED_BYTES = 40


def setup_bytes(work: Work, build: Build = "mcu", *, opened: int | None = None, head: int = 0) -> int:
    """The smallest arena with which TFLM starts ``work`` with the kernels of ``build``.

    ``opened``: :func:`tinynas.cost.tail.open_tail_bytes`, where it is known already. ``head``: bytes that inference has in the head:
    where a Graph's operators find room to prepare themselves there, that part is left out, since it cannot decide.
    """
    scratch = sum([len(piece.scratch_of(build)) for piece in work.pieces])
    planned = len(work.sizes) - work.sizes.count(0) + scratch
    tail = open_tail_bytes(work, build) if opened is None else opened
    planning = planning_bytes(FAMILY_OF[build], work.tensor_count, scratch, planned, tail, work.subgraphs)
    if head and work.pieces[0].needs is None and head >= _most_held(work.pieces, FAMILY_OF[build], scratch):
        return planning
    return max(planning, _preparing_bytes(work, build))


def _most_held(pieces: Sequence[Piece], family: Family, scratch: int) -> int:
    """No operator of a Graph has more in the head while it prepares itself: requests, and the records of a convolution's tensors."""
    widest = max([piece.out_channels for piece in pieces])
    held: int = _held("conv", widest, family)
    return RECORDS[family].request * (scratch + _SPARE_REQUESTS) + held


def _preparing_bytes(work: Work, build: Build) -> int:
    """The smallest arena in which each operator prepares itself: the tail as it has grown by then, and in the head the requests of the
    operators before it and records of the tensors that it looks at. 0 where an operator is not in the table of kernels.
    """
    pieces = work.pieces
    if any(piece.needs is None and piece.kind not in GRAPH_KERNELS for piece in pieces):
        return 0
    structures = [kernel_structure(p.kind, build) if p.needs is None else p.needs[build].structure for p in pieces]
    used = tail_before_kernels(work, build)
    for size in structures + list(work.resources):
        used = aligned(used + size) if size else used
    return preparing_bytes(FAMILY_OF[build], used, most_prepared(pieces, build))


def most_prepared(pieces: Sequence[Piece], build: Build) -> Any:
    """The most that an operator of ``pieces`` finds beside all structures while it prepares itself: persistent buffers of those before
    it and its own, requests of those before it, and records of its tensors. Sizes may be integer arrays, which give arrays.
    """
    family = FAMILY_OF[build]
    request = RECORDS[family].request
    most: Any = 0
    before: Any = 0
    for piece in pieces:
        if piece.needs is None:
            sums = weight_sums(piece, build)
            kept = channel_data(piece.out_channels) if piece.kind in CHANNELED else sums
            held = _held(piece.kind, piece.out_channels, family)
        else:
            needs = piece.needs[build]
            kept, held = sum([aligned(size) for size in needs.persistent]), needs.temporary
        before = before + kept
        found = before + held
        most = most + (found - most) * (found > most)
        before = before + request * len(piece.scratch_of(build))
    return most


def _held(kind: str, channels: Any, family: Family) -> Any:
    """Bytes of the records that the Prepare function of a Graph's operator takes, as :func:`tinynas.cost.kernels.needs` has it."""
    tensor, each = RECORD_BYTES[family][0], sum(RECORD_BYTES[family][:2]) + 2 * INT_BYTES
    if kind in CHANNELED:  # output, input and weights twice, bias once; a scale a channel in three of them
        return 7 * each + 3 * INT_BYTES * (channels - 1)
    others = {"mean": 4 * each + 2 * tensor, "fc": 4 * each, "add": 3 * each, "mul": 3 * each, "resize": 2 * each + tensor}
    return others.get(kind, 2 * each)


def preparing_bytes(family: Family, structures: int, most: int) -> int:
    """The smallest arena in which operators prepare themselves, from the tail with all ``structures`` and :func:`most_prepared`."""
    return aligned(structures + RECORDS[family].request * _SPARE_REQUESTS + most)


def planning_bytes(family: Family, tensors: int, scratch: int, planned: int, tail: int, subgraphs: int = 1) -> int:
    """:func:`setup_bytes` from its parts, which may be integer arrays.

    ``tensors`` of the file, constants included; ``scratch`` buffers; ``planned`` buffers, those and the tensors that are no
    constants; the ``tail`` without inputs and outputs.
    """
    records = RECORDS[family]
    kept = records.request * (scratch + _SPARE_REQUESTS) + records.offset * subgraphs + records.info * (tensors + scratch)
    return aligned(kept) + aligned(_PLANNED_BYTES * planned) + aligned(tail)
