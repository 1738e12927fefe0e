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

from dataclasses import dataclass
from typing import Literal

from tinynas.cost.work import Work

Target = Literal["mcu", "host"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes in bytes of TFLM's structures on one target."""

    fixed: int
    """Allocators, planner, subgraph record."""
    eval_tensor: int
    node: int
    pointer: int
    tensor: int
    """TfLiteTensor of an input or output."""
    quantization: int
    """TfLiteAffineQuantization of an input or output; its zero points follow, 4 bytes each and a length."""
    options: dict[str, tuple[int, int]]
    """Operator kind to (size, alignment) of its parsed options; none where missing."""
    kernel: dict[str, int]
    """Operator kind to size of its kernel's data; none where missing."""


LAYOUTS: dict[Target, Layout] = {
    "host": Layout(
        fixed=488,
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
        },
    ),
    "mcu": Layout(
        fixed=132,
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
        },
    ),
}

#: CMSIS-NN kernels keep a buffer index beside the reference data of each operator that has one (measured 48-80 B a network).
CMSIS_EXTRA_BYTES = 80


def tail_bytes(work: Work, target: Target = "mcu", *, cmsis: bool = False) -> int:
    """Tail bytes of ``work`` on a 32-bit Cortex-M (``mcu``) or in the 64-bit Python wheel (``host``)."""
    layout = LAYOUTS[target]
    pieces = work.pieces
    used = layout.fixed + layout.eval_tensor * work.tensor_count + layout.node * len(pieces)
    options, kernel = layout.options, layout.kernel
    data = handles = 0
    for piece in pieces:
        kind = piece.kind
        if kind in options:
            size, alignment = options[kind]
            used = (used + size + alignment - 1) & -alignment
        if kind in kernel:
            data += (kernel[kind] + 15) & ~15
        if kind == "conv" or kind == "dw":
            data += 2 * ((4 * piece.out_channels + 15) & ~15)
        handles += len(piece.cmsis_scratch if cmsis else piece.scratch)
    if data:
        used = ((used + 15) & ~15) + data
    if handles:
        pointer = layout.pointer
        used = (used + pointer * handles + pointer - 1) & -pointer
    for scales in (work.input_scales, work.output_scales):
        used = (used + layout.pointer * len(scales) + 15) & ~15
        for count in scales:
            used += layout.tensor + (layout.quantization + 4 + 4 * count if count else 0)
    return used + (CMSIS_EXTRA_BYTES if cmsis else 0)
