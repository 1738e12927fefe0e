"""What TFLM's arena must hold while the interpreter starts: more than inference uses where tensors are many and small.

While it plans memory, TFLM keeps in the head, all at once: what kernels asked for as scratch, a record of each tensor of the file and of
each scratch buffer, and the planner's own lists (micro_allocator.cc, micro_allocation_info.cc, greedy_memory_planner.h). The tail
is complete by then but for the tensors of the model's inputs and outputs. An arena that cannot hold this does not start, however
little inference uses. Held against tflite-micro in tests/test_cost_setup.py.

What a kernel reads while it is prepared lies there for a moment too; that is more than planning takes only in files of an operator or
two with many channels, and is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinynas.cost.kernels import Target, aligned
from tinynas.cost.runtimes import Runtime, scratch_bytes
from tinynas.cost.tail import tail_bytes
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


RECORDS: dict[Target, Records] = {"host": Records(16, 32, 8), "mcu": Records(12, 24, 4)}
#: Requests for which there is room beside those that were made: kMaxScratchBuffersPerOp.
_SPARE_REQUESTS = 12
#: The planner's lists for one buffer: GreedyMemoryPlanner::per_buffer_size(), ten numbers of 4 bytes.
_PLANNED_BYTES = 40


def setup_bytes(work: Work, runtime: Runtime, target: Target = "mcu") -> int:
    """The smallest arena with which TFLM plans ``work``; 0 for runtimes without TFLM's arena."""
    if not runtime.tail:
        return 0
    scratch = sum([len(scratch_bytes(runtime, piece)) for piece in work.pieces])
    planned = sum([1 for size in work.sizes if size]) + scratch
    tail = tail_bytes(work, target, cmsis=runtime.scratch == "cmsis-nn", ends=False)
    return planning_bytes(target, work.tensor_count, scratch, planned, tail, work.subgraphs)


def planning_bytes(target: Target, tensors: int, scratch: int, planned: int, tail: int, subgraphs: int = 1) -> int:
    """:func:`setup_bytes` from its parts, which may be integer arrays.

    ``tensors`` of the file, constants included; ``scratch`` buffers; ``planned`` buffers, those and the tensors that are no
    constants; the ``tail`` without inputs and outputs.
    """
    records = RECORDS[target]
    kept = records.request * (scratch + _SPARE_REQUESTS) + records.offset * subgraphs + records.info * (tensors + scratch)
    return aligned(kept) + aligned(_PLANNED_BYTES * planned) + aligned(tail)
