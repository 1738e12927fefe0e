"""The persistent tail of TFLM's arena, to the byte, from the structures that TFLM puts there.

TFLM fills the tail from the arena's end: the allocator objects, one evaluation tensor per tensor of the file
(constants included), one node per operator, the parsed options of each operator, each kernel's own data and
per-channel multipliers (16-byte aligned), handles of scratch buffers, and full tensors for inputs and outputs.

``host`` is the 64-bit Python wheel tflite-micro 0.dev20261023 (recording allocator, weight compression built
in): its structure sizes were solved from the wheel's own allocation report over 22 public models and are exact
on all of them. The 32-bit families (:data:`tinynas.cost.kernel.Family`) have the plain allocator and no compression; their sizes are
those that arm-none-eabi-g++ gives the structures of TFLM's headers, with the flags of each, and what TFLM's own allocator uses on
emulated cores equals them to the byte (benchmarks/tflm_arena32.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinynas.cost.builds import BUILDS, build_structure
from tinynas.cost.cmsis import dense_sums
from tinynas.cost.kernel import FAMILY_OF, Build, Family, aligned
from tinynas.cost.kernel_sizes import CHANNEL_ARRAYS, CHANNEL_BYTES
from tinynas.cost.kernels import KERNELS, options_of
from tinynas.cost.work import Piece, Work


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes in bytes of TFLM's structures on one target."""

    fixed: int
    """Allocators, planner, a record of one subgraph."""
    subgraph: int
    """The record of a subgraph."""
    opening: int
    """Beside that record, the part of ``fixed`` that is taken after the resource variables."""
    resources: tuple[int, int]
    """The object that holds resource variables, and each of them in it."""
    eval_tensor: int
    node: int
    pointer: int
    tensor: int
    """TfLiteTensor of an input or output."""
    quantization: int
    """TfLiteAffineQuantization of an input or output; its zero points follow, 4 bytes each and a length."""


_MCU = Layout(
    fixed=132,
    subgraph=8,
    opening=8,
    resources=(12, 20),
    eval_tensor=12,
    node=32,
    pointer=4,
    tensor=32,
    quantization=12,
)
LAYOUTS: dict[Family, Layout] = {
    "host": Layout(
        fixed=488,
        subgraph=24,
        opening=16,
        resources=(16, 40),
        eval_tensor=24,
        node=64,
        pointer=8,
        tensor=64,
        quantization=24,
    ),
    "mcu": _MCU,
    # Without TF_LITE_STATIC_MEMORY tensors and nodes have more fields.
    "arduino": replace(_MCU, node=44, tensor=64),
    # Enumerations of 4 bytes.
    "espressif": replace(_MCU, tensor=40),
}

#: Operators of a Graph, always int8: their row of the table of kernels.
GRAPH_KERNELS: dict[str, str] = {
    "conv": "CONV_2D",
    "dw": "DEPTHWISE_CONV_2D",
    "fc": "FULLY_CONNECTED",
    "add": "ADD",
    "mul": "MUL",
    "mean": "MEAN",
    "avg_pool": "AVERAGE_POOL_2D",
    "max_pool": "MAX_POOL_2D",
    "hard_swish": "HARD_SWISH",
    "resize": "RESIZE_NEAREST_NEIGHBOR",
}
#: Kinds of a Graph whose kernels also keep a multiplier and a shift for each output channel (dense layers have one scale there).
CHANNELED = ("conv", "dw")
_OPTIONS = {family: {kind: options_of(name, KERNELS[name], family) for kind, name in GRAPH_KERNELS.items()} for family in LAYOUTS}
_STRUCTURES = {build: {kind: build_structure(name, build) for kind, name in GRAPH_KERNELS.items()} for build in BUILDS}
_ALIGNED = {build: {kind: aligned(size) for kind, size in sizes.items()} for build, sizes in _STRUCTURES.items()}


def tail_bytes(work: Work, build: Build = "mcu") -> int:
    """Tail bytes of ``work`` with the kernels of ``build``: of the 64-bit Python wheel (``host``), or on a microcontroller.

    At least so many where :func:`unknown_tails` names operators: those count for their node alone.
    """
    return closed_tail(work, open_tail_bytes(work, build), build)


def open_tail_bytes(work: Work, build: Build = "mcu") -> int:
    """Bytes of the tail before the tensors of inputs and outputs: so large is it while TFLM plans memory."""
    pieces = work.pieces
    kinds = [piece.kind for piece in pieces if piece.needs is None]
    data = sum([channel_data(piece.out_channels) for piece in pieces if piece.kind in CHANNELED and piece.needs is None])
    data += sum([kernel_data(kind, build) * kinds.count(kind) for kind in set(kinds)])
    data += sum([weight_sums(piece, build) for piece in pieces if piece.needs is None])
    if len(kinds) < len(pieces):
        data += sum([piece.needs[build].persistent_bytes for piece in pieces if piece.needs is not None])
    handles = sum([len(piece.scratch_of(build)) for piece in pieces])
    data += sum([aligned(size) for size in work.resources])
    return assemble(
        LAYOUTS[FAMILY_OF[build]],
        len(pieces),
        work.tensor_count,
        _options_of(pieces, build),
        data,
        handles,
        first=_first(pieces, build),
        subgraphs=work.subgraphs,
        variables=work.variables,
        resources=len(work.resources),
    )


def closed_tail(work: Work, opened: int, build: Build = "mcu") -> int:
    """The whole tail from that without the tensors of inputs and outputs."""
    return with_ends(LAYOUTS[FAMILY_OF[build]], opened, work.input_scales, work.output_scales)


def tail_before_kernels(work: Work, build: Build) -> int:
    """Bytes of the tail before the first kernel asks for anything."""
    return assemble(
        LAYOUTS[FAMILY_OF[build]],
        len(work.pieces),
        work.tensor_count,
        _options_of(work.pieces, build),
        0,
        0,
        first=0,
        subgraphs=work.subgraphs,
        resources=len(work.resources),
    )


def _options_of(pieces: Sequence[Piece], build: Build) -> int:
    table = _OPTIONS[FAMILY_OF[build]]
    return options_bytes([table.get(piece.kind, (0, 1)) if piece.needs is None else piece.needs[build].options for piece in pieces])


def _first(pieces: Sequence[Piece], build: Build) -> int:
    """Bytes of the first buffer that kernels ask for: structures of all operators come before what else they keep."""
    later = 0
    for piece in pieces:
        if piece.needs is None:
            if piece.kind in GRAPH_KERNELS and (structure := kernel_structure(piece.kind, build)):
                return structure
        elif piece.needs[build].structure:
            return piece.needs[build].structure
        elif piece.needs[build].persistent and not later:
            later = piece.needs[build].persistent[0]
    return later


def unknown_tails(work: Work) -> tuple[str, ...]:
    """Kinds of operators in ``work`` whose part of the tail is not known, in alphabetical order."""
    return tuple(sorted({piece.kind for piece in work.pieces if piece.needs is None and piece.kind not in GRAPH_KERNELS}))


def graph_options(kind: str, build: Build) -> tuple[int, int]:
    """Size and alignment of the parsed options of a Graph's operator; none where unknown_tails names it."""
    return _OPTIONS[FAMILY_OF[build]].get(kind, (0, 1))


def options_bytes(options: Sequence[tuple[int, int]], start: int = 0) -> int:
    """Bytes of parsed options, (size, alignment) in order, padding included, behind ``start`` bytes (modulo any alignment)."""
    used = start
    for size, alignment in options:
        used = (used + size + alignment - 1) & -alignment
    return used - start


def kernel_structure(kind: str, build: Build) -> int:
    """Bytes of the structure that the kernel of a Graph's operator keeps. Raises KeyError for others."""
    return _STRUCTURES[build][kind]


def kernel_data(kind: str, build: Build) -> int:
    """The same as it lies in the tail; 0 where unknown_tails names it."""
    return _ALIGNED[build].get(kind, 0)


def channel_data(channels: int) -> int:
    """Bytes of the multipliers and shifts of so many output channels; arrays give arrays."""
    return CHANNEL_ARRAYS * ((CHANNEL_BYTES * channels + 15) & ~15)


def weight_sums(piece: Piece, build: Build) -> Any:
    """Bytes of the sums of weights that the kernel of a Graph's operator keeps in the tail; arrays give arrays."""
    return aligned(dense_sums(build, piece.out_channels, narrow=piece.weight_bits != 8)) if piece.kind == "fc" else 0


def assemble(
    layout: Layout,
    operators: int,
    tensors: int,
    options: int,
    data: int,
    handles: int,
    *,
    first: int,
    subgraphs: int = 1,
    variables: Sequence[int] = (),
    resources: int = 0,
) -> int:
    """The tail without inputs and outputs from its parts, which may be integer arrays; all but ``options`` starts on its alignment.

    The tail grows downwards, so a buffer ends where the one before begins, and is widened until it begins on its alignment: ``data``
    are kernels' buffers widened to 16 bytes each, ``first`` the size of the first of them, which also fills what options left.
    ``tensors`` counts constants; ``variables`` as in :class:`~tinynas.cost.work.Work`.
    """
    pointer = layout.pointer
    used = layout.fixed + layout.subgraph * (subgraphs - 1) + _resource_records(layout, resources)
    used = used + layout.eval_tensor * tensors + layout.node * operators + options
    # Kernel data and handles are there or not: multiplied by whether, so that arrays can hold both cases.
    used = used + (aligned(used + first) - aligned(first) - used + data) * (data > 0)
    used = used + (((used + pointer * handles + pointer - 1) & -pointer) - used) * (handles > 0)
    for size in variables:
        used = aligned(used + size)
    return used


def with_ends(layout: Layout, used: int, input_scales: Sequence[int] = (1,), output_scales: Sequence[int] = (1,)) -> int:
    """The tail of ``used`` bytes (integers or arrays) with the tensors of inputs and outputs, whose numbers of scales are given."""
    for scales in (input_scales, output_scales):
        used = (used + layout.pointer * len(scales) + 15) & ~15
        for count in scales:
            used = used + layout.tensor + (layout.quantization + 4 + 4 * count if count else 0)
    return used


def _resource_records(layout: Layout, count: int) -> int:
    """Bytes of the records of so many resource variables, which the program makes before the model's own structures."""
    if not count:
        return 0
    start = layout.fixed - layout.subgraph - layout.opening
    holder, each = layout.resources
    return aligned(aligned(start + holder) + each * count) - start
