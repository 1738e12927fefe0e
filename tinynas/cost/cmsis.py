"""What the CMSIS-NN kernels of TFLM take in the arena where that is not what the reference kernels take: one function an operator.

From TFLM's sources (micro/kernels/cmsis_nn) and CMSIS-NN's ...get_buffer_size functions, for cores with DSP instructions and without
MVE (Cortex-M4, M7, M33). Operators that are not here have the reference kernel, or one that takes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tinynas.cost.kernel import Needs, Seen
from tinynas.cost.kernels import KERNELS, needs
from tinynas.cost.schema import FileOp, FileTensor

#: Input channels above which a transposed convolution turns its weights (REVERSE_TCOL_EFFICIENT_THRESHOLD).
_TURNED_ABOVE = 16


def conv_scratch(kernel: int, in_channels: int) -> tuple[int, ...]:
    """Scratch of an int8 convolution with a window of ``kernel`` pixels: none for 1x1, else two int16 columns of the input patch."""
    return () if kernel == 1 else (4 * ((kernel * in_channels + 3) // 4 * 4),)


def depthwise_scratch(kernel_height: int, kernel_width: int, channels: int) -> tuple[int, ...]:
    """Scratch of an int8 depthwise convolution: none for 3x3, else one int16 patch of all channels."""
    return () if (kernel_height, kernel_width) == (3, 3) else (2 * kernel_height * kernel_width * channels,)


def pool_scratch(kind: str, channels: int) -> tuple[int, ...]:
    """Scratch of pooling: int32 sums of all channels for averages, none for maxima."""
    return (4 * channels,) if kind == "avg_pool" else ()


Scratch = Callable[[Seen], tuple[int, ...] | None]
"""Scratch of an operator; None where it is the reference kernel's."""


def _conv(seen: Seen) -> tuple[int, ...] | None:
    weights = seen.input(1)
    if weights is None or len(weights.shape) != 4:
        return None
    _, height, width, channels = weights.shape
    if seen.dtype() == "int8":
        return conv_scratch(height * width, channels)
    bias = seen.input(2)
    if seen.dtype() == "int16" and (bias is None or bias.dtype == "int64"):
        return (4 * height * width * channels,)
    return None


def _depthwise(seen: Seen) -> tuple[int, ...] | None:
    source, weights, out = seen.input(0), seen.input(1), seen.output()
    if source is None or weights is None or out is None or seen.dtype() != "int8" or any(len(t.shape) != 4 for t in (source, weights, out)):
        return None
    dilated = (seen.op.options.i32(5, 1), seen.op.options.i32(6, 1)) != (1, 1)
    if source.shape[3] != out.shape[3] or source.shape[0] != 1 or dilated:
        return ()
    _, height, width, channels = weights.shape
    return (2 * height * width * channels,) if weights.dtype == "int4" else depthwise_scratch(height, width, channels)


def _dense(seen: Seen) -> tuple[int, ...] | None:
    weights, out = seen.input(1), seen.output()
    if weights is None or out is None or not weights.shape or seen.dtype() != "int8" or weights.dtype != "int8":
        return () if weights is not None and weights.dtype == "int4" else None
    as_convolution = len(out.shape) > 2 and weights.shape[-1] % 4 == 0 and weights.scales < 2
    return (8 * out.shape[-1],) if as_convolution else ()


def _transposed(seen: Seen) -> tuple[int, ...] | None:
    source, weights, out = seen.input(2), seen.input(1), seen.output()
    if source is None or weights is None or out is None or source.dtype != "int8" or any(len(t.shape) != 4 for t in (source, weights, out)):
        return None
    down, across = seen.op.options.i32(2), seen.op.options.i32(1)
    _, height, width, channels = weights.shape
    if max(down, across) <= 2 and channels > _TURNED_ABOVE:
        return 4 * ((height * width * channels + 3) // 4 * 4), weights.elements
    # As CMSIS-NN has it: the greater of kernel and stride, the vertical stride in both.
    row = ((source.shape[2] - 1) * across + max(width, down)) * out.shape[3]
    return 4 * row * max(height, down), 0


def _average(seen: Seen) -> tuple[int, ...] | None:
    source = seen.input(0)
    return (4 * source.shape[3],) if source is not None and len(source.shape) == 4 and source.dtype in {"int8", "int16"} else None


def _lstm(seen: Seen) -> tuple[int, ...] | None:
    reference = needs(seen.op, seen.tensors, "mcu")
    return reference.scratch[:3] if reference is not None and seen.dtype() in {"int8", "int16"} else None


def _lstm_sums(seen: Seen) -> tuple[int, ...]:
    """Sums of the rows of the eight matrices, as wide as biases."""
    state = seen.input(18)
    if state is None or len(state.shape) < 2 or seen.dtype() not in {"int8", "int16"}:
        return ()
    return ((4 if seen.dtype() == "int8" else 8) * state.shape[1],) * 8


def _nothing(seen: Seen) -> tuple[int, ...]:
    return ()


def _as_reference(seen: Seen) -> tuple[int, ...] | None:
    return None


@dataclass(frozen=True, slots=True)
class CmsisKernel:
    """What is different of one operator."""

    structure: int
    """Bytes of the structure that it keeps."""
    scratch: Scratch = _as_reference
    more: Callable[[Seen], tuple[int, ...]] = _nothing
    """Persistent buffers beside the reference kernel's."""


CMSIS_KERNELS: Mapping[str, CmsisKernel] = {
    "CONV_2D": CmsisKernel(60, _conv),
    "DEPTHWISE_CONV_2D": CmsisKernel(60, _depthwise),
    "FULLY_CONNECTED": CmsisKernel(72, _dense),
    "TRANSPOSE_CONV": CmsisKernel(76, _transposed),
    "AVERAGE_POOL_2D": CmsisKernel(36, _average),
    "MAX_POOL_2D": CmsisKernel(36),
    "SOFTMAX": CmsisKernel(72),
    "SVDF": CmsisKernel(40),
    "BATCH_MATMUL": CmsisKernel(36),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": CmsisKernel(912, _lstm, _lstm_sums),
}


def cmsis_structure(name: str) -> int:
    """Bytes of the structure that the CMSIS-NN kernel of operator ``name`` keeps, or the reference kernel that stands in for it."""
    return CMSIS_KERNELS[name].structure if name in CMSIS_KERNELS else KERNELS[name].data["mcu"]


def cmsis_needs(op: FileOp, tensors: Sequence[FileTensor]) -> Needs | None:
    """What the CMSIS-NN kernel of ``op`` takes on a Cortex-M; None where the table of kernels does not have it."""
    reference = needs(op, tensors, "mcu")
    kernel = CMSIS_KERNELS.get(op.kind)
    if reference is None or kernel is None:
        return reference
    seen = Seen(op, tensors)
    scratch = kernel.scratch(seen)
    persistent = (*reference.persistent, *kernel.more(seen))
    return replace(
        reference, structure=cmsis_structure(op.kind), persistent=persistent, scratch=reference.scratch if scratch is None else scratch
    )
