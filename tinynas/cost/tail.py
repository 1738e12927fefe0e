"""The persistent tail of TFLM's arena, to the byte, from the structures that TFLM puts there.

TFLM fills the tail from the arena's end: the allocator objects, one evaluation tensor per tensor of the file
(constants included), one node per operator, the parsed options of each operator, each kernel's own data and
per-channel multipliers (16-byte aligned), handles of scratch buffers, and full tensors for inputs and outputs.

``host`` is the 64-bit Python wheel tflite-micro 0.dev20261023 (recording allocator, weight compression built
in): its structure sizes were solved from the wheel's own allocation report over 22 public models and are exact
on all of them. ``mcu`` is a 32-bit Cortex-M build (plain allocator, no compression, short enums as in
arm-none-eabi): sizes follow from TFLM's public headers; where the newest headers and older ones differ the
larger size is taken. Against 27 networks measured on an emulated Cortex-M4 the older fit
502 + 160 * (conv + dw) + 112 * add + 8 * channels is met within 48 bytes, never below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinynas.cost.work import Work

Target = Literal["mcu", "host"]


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
    options: dict[str, tuple[int, int]]
    """Operator kind to (size, alignment) of its parsed options; (0, 1) for kinds that have none."""
    kernel: dict[str, int | None]
    """Operator kind to size of its kernel's data, None where that was never measured."""


_NO_OPTIONS = dict.fromkeys(("pad", "padv2", "quantize", "dequantize", "logistic"), (0, 1))
_NO_KERNEL_DATA: dict[str, int | None] = dict.fromkeys(("reshape", "squeeze", "shape", "pack"), 0)
#: Kinds whose options are known and whose kernel's data is not.
_UNMEASURED: dict[str, int | None] = dict.fromkeys(("sub", "sum", "reduce_max", "unpack", "concatenation", "leaky_relu", "split"))

LAYOUTS: dict[Target, Layout] = {
    "host": Layout(
        fixed=488,
        subgraph=24,
        opening=16,
        resources=(0, 40),  # the wheel makes the object for every model: it is in ``fixed``
        eval_tensor=24,
        node=64,
        pointer=8,
        tensor=64,
        quantization=24,
        options={
            "conv": (28, 4),
            "dw": (28, 4),
            "fc": (32, 8),
            "add": (8, 4),
            "sub": (8, 4),
            "mul": (4, 4),
            "max_pool": (40, 4),
            "avg_pool": (40, 4),
            "mean": (1, 1),
            "sum": (1, 1),
            "reduce_max": (1, 1),
            "softmax": (4, 4),
            "reshape": (36, 4),
            "squeeze": (36, 4),
            "shape": (4, 4),
            "pack": (8, 4),
            "unpack": (8, 4),
            "strided_slice": (24, 4),
            "concatenation": (8, 4),
            "leaky_relu": (4, 4),
            "split": (4, 4),
            **_NO_OPTIONS,
        },
        kernel={
            "conv": 80,
            "dw": 80,
            "fc": 72,
            "add": 60,
            "max_pool": 32,
            "avg_pool": 32,
            "mean": 44,
            "mul": 36,
            "softmax": 80,
            "pad": 56,
            "padv2": 56,
            "quantize": 32,
            "dequantize": 32,
            "logistic": 16,
            "strided_slice": 84,
            **_NO_KERNEL_DATA,
            **_UNMEASURED,
        },
    ),
    "mcu": Layout(
        fixed=132,
        subgraph=8,
        opening=8,
        resources=(12, 20),
        eval_tensor=12,
        node=32,
        pointer=4,
        tensor=32,
        quantization=12,
        options={
            "conv": (28, 4),
            "dw": (28, 4),
            "fc": (24, 4),
            "add": (2, 1),
            "sub": (2, 1),
            "mul": (1, 1),
            "max_pool": (40, 4),
            "avg_pool": (40, 4),
            "mean": (1, 1),
            "sum": (1, 1),
            "reduce_max": (1, 1),
            "softmax": (4, 4),
            "reshape": (36, 4),
            "squeeze": (36, 4),
            "shape": (1, 1),
            "pack": (8, 4),
            "unpack": (8, 4),
            "strided_slice": (24, 4),
            "concatenation": (8, 4),
            "leaky_relu": (4, 4),
            "split": (4, 4),
            **_NO_OPTIONS,
        },
        kernel={
            "conv": 56,
            "dw": 56,
            "fc": 48,
            "add": 60,
            "max_pool": 32,
            "avg_pool": 32,
            "mean": 44,
            "mul": 36,
            "softmax": 64,
            "pad": 56,
            "padv2": 56,
            "quantize": 32,
            "dequantize": 32,
            "logistic": 16,
            "strided_slice": 84,
            **_NO_KERNEL_DATA,
            **_UNMEASURED,
        },
    ),
}

#: CMSIS-NN kernels keep a buffer index beside the reference data of each operator that has one (measured 48-80 B a network).
CMSIS_EXTRA_BYTES = 80


def tail_bytes(work: Work, target: Target = "mcu", *, cmsis: bool = False) -> int:
    """Tail bytes of ``work`` on a 32-bit Cortex-M (``mcu``) or in the 64-bit Python wheel (``host``).

    At least so many where :func:`unknown_tails` names operators: those count for their node alone.
    """
    pieces = work.pieces
    kinds = [piece.kind for piece in pieces]
    data = sum([channel_data(piece.out_channels) for piece in pieces if piece.kind in CHANNELED])
    data += sum([kernel_data(kind, target) * kinds.count(kind) for kind in set(kinds)])
    handles = sum([len(piece.cmsis_scratch if cmsis else piece.scratch) for piece in pieces])
    layout = LAYOUTS[target]
    options = options_bytes(kinds, layout)
    data += sum([_aligned(size) for size in work.resources])
    return assemble(
        layout,
        len(kinds),
        work.tensor_count,
        options,
        data,
        handles,
        work.input_scales,
        work.output_scales,
        cmsis=cmsis,
        subgraphs=work.subgraphs,
        variables=work.variables,
        resources=len(work.resources),
    )


def unknown_tails(work: Work) -> tuple[str, ...]:
    """Kinds of operators in ``work`` whose data in the tail is not known, on one target or the other, in alphabetical order."""
    return tuple(sorted({piece.kind for piece in work.pieces} - _KNOWN))


_KNOWN = frozenset(LAYOUTS["host"].options).intersection(
    *([kind for kind, size in layout.kernel.items() if size is not None] for layout in LAYOUTS.values())
)
#: Kernel data of each kind, aligned; 0 for those that unknown_tails names.
_ALIGNED = {target: {kind: ((size or 0) + 15) & ~15 for kind, size in layout.kernel.items()} for target, layout in LAYOUTS.items()}


def options_bytes(kinds: Sequence[str], layout: Layout, start: int = 0) -> int:
    """Bytes of the parsed options of operators in order, padding included, behind ``start`` bytes (modulo any alignment)."""
    used, options = start, layout.options
    for kind in kinds:
        if kind in options:  # others are named by unknown_tails
            size, alignment = options[kind]
            used = (used + size + alignment - 1) & -alignment
    return used - start


def kernel_data(kind: str, target: Target) -> int:
    """Bytes of the structure that a kernel keeps."""
    return _ALIGNED[target].get(kind, 0)


#: Kinds whose kernels also keep a multiplier and a shift for each output channel.
CHANNELED = ("conv", "dw")


def channel_data(channels: int) -> int:
    """Bytes of the multipliers and shifts of so many output channels; arrays give arrays."""
    return 2 * ((4 * channels + 15) & ~15)


def assemble(
    layout: Layout,
    operators: int,
    tensors: int,
    options: int,
    data: int,
    handles: int,
    input_scales: Sequence[int] = (1,),
    output_scales: Sequence[int] = (1,),
    *,
    cmsis: bool,
    subgraphs: int = 1,
    variables: Sequence[int] = (),
    resources: int = 0,
) -> int:
    """The tail from its parts, which may be integer arrays: everything but ``options`` starts on its alignment.

    ``tensors`` counts constants; ``input_scales``, ``output_scales`` and ``variables`` as in :class:`~tinynas.cost.work.Work`.
    """
    pointer = layout.pointer
    used = layout.fixed + layout.subgraph * (subgraphs - 1) + _resource_records(layout, resources)
    used = used + layout.eval_tensor * tensors + layout.node * operators + options
    # Kernel data and handles are there or not: multiplied by whether, so that arrays can hold both cases.
    used = used + (((used + 15) & ~15) - used + data) * (data > 0)
    used = used + (((used + pointer * handles + pointer - 1) & -pointer) - used) * (handles > 0)
    for size in variables:
        used = _aligned(used) + _aligned(size)
    for scales in (input_scales, output_scales):
        used = (used + pointer * len(scales) + 15) & ~15
        for count in scales:
            used = used + layout.tensor + (layout.quantization + 4 + 4 * count if count else 0)
    return used + (CMSIS_EXTRA_BYTES if cmsis else 0)


def _aligned(size: int) -> int:
    return (size + 15) & ~15


def _resource_records(layout: Layout, count: int) -> int:
    """Bytes of the records of so many resource variables, which the program makes before the model's own structures."""
    if not count:
        return 0
    start = layout.fixed - layout.subgraph - layout.opening
    holder, each = layout.resources
    return _aligned(_aligned(start + holder) + each * count) - start
