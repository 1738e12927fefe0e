"""What TFLM's arena must hold while the interpreter starts: more than inference uses where tensors are many and small.

Each operator of a file first looks at records of its tensors, one operator at a time. Then TFLM plans memory and keeps in the head,
all at once: what kernels asked for as scratch, a record of each tensor of the file and of each scratch buffer, and the planner's own
lists (micro_allocator.cc, micro_allocation_info.cc, greedy_memory_planner.h); the tail is complete by then but for the tensors of the
model's inputs and outputs. An arena that cannot hold this does not start, however little inference uses. Held against tflite-micro by
bisection in tests/test_cost_setup.py and tests/test_kernels.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinynas.cost.kernel import FAMILY_OF, Build, Family, aligned
from tinynas.cost.tail import open_tail_bytes, tail_before_kernels
from tinynas.cost.work import Work


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


def setup_bytes(work: Work, build: Build = "mcu", *, opened: int | None = None) -> int:
    """The smallest arena with which TFLM starts ``work`` with the kernels of ``build``.

    ``opened``: :func:`tinynas.cost.tail.open_tail_bytes`, where it is known already.
    """
    scratch = sum([len(piece.scratch_of(build)) for piece in work.pieces])
    planned = len(work.sizes) - work.sizes.count(0) + scratch
    tail = open_tail_bytes(work, build) if opened is None else opened
    planning = planning_bytes(FAMILY_OF[build], work.tensor_count, scratch, planned, tail, work.subgraphs)
    return max(planning, _preparing_bytes(work, build))


def _preparing_bytes(work: Work, build: Build) -> int:
    """The smallest arena in which each operator of a file prepares itself: the tail as it has grown by then, and in the head the
    requests of the operators before it and records of the tensors that it looks at. 0 for a Graph, whose inference uses more.
    """
    taken = [piece.needs[build] for piece in work.pieces if piece.needs is not None]
    if len(taken) < len(work.pieces):
        return 0
    used = tail_before_kernels(work, build)
    for size in [needs.structure for needs in taken] + list(work.resources):
        used = aligned(used + size) if size else used
    most = requests = 0
    for needs in taken:
        for size in needs.persistent:
            used = aligned(used + size)
        most = max(most, used + RECORDS[FAMILY_OF[build]].request * (requests + _SPARE_REQUESTS) + needs.temporary)
        requests += len(needs.scratch)
    return aligned(most)


def planning_bytes(family: Family, tensors: int, scratch: int, planned: int, tail: int, subgraphs: int = 1) -> int:
    """:func:`setup_bytes` from its parts, which may be integer arrays.

    ``tensors`` of the file, constants included; ``scratch`` buffers; ``planned`` buffers, those and the tensors that are no
    constants; the ``tail`` without inputs and outputs.
    """
    records = RECORDS[family]
    kept = records.request * (scratch + _SPARE_REQUESTS) + records.offset * subgraphs + records.info * (tensors + scratch)
    return aligned(kept) + aligned(_PLANNED_BYTES * planned) + aligned(tail)
