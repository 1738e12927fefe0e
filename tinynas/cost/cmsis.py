"""What the CMSIS-NN kernels of TFLM take in the arena where that is not what the reference kernels take: one function an operator.

From TFLM's sources (micro/kernels/cmsis_nn) and CMSIS-NN's ...get_buffer_size functions: today's, and those of December 2023 that the
Arduino library carries; on cores with DSP instructions (Cortex-M4, M7, M33), without them (M0+, M3: ``plain``) and with vectors (M55:
``mve``). Where vectors need sums of constant weights, today's kernels compute them for each inference in scratch, or once and for all
with KERNELS_OPTIMIZED_FOR_SPEED (``mve-speed``), which TFLM's makefile defines unless told otherwise. Operators that are not here have
the reference kernel, or one that takes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from tinynas.cost.kernel import FAMILY_OF, Build, Needs, Seen
from tinynas.cost.kernel_sizes import arrays
from tinynas.cost.kernels import KERNELS, needs, structure_of
from tinynas.cost.schema import FileOp, FileTensor

#: Input channels above which a transposed convolution turns its weights (REVERSE_TCOL_EFFICIENT_THRESHOLD).
_TURNED_ABOVE = 16


Cmsis = Literal["cmsis", "cmsis-plain", "cmsis-mve", "cmsis-mve-speed", "arduino", "arduino-plain", "arduino-mve"]
"""Builds of CMSIS-NN kernels, of :data:`tinynas.cost.kernel.Build`: today's and those of December 2023."""
CMSIS: tuple[Cmsis, ...] = get_args(Cmsis)
_NEW_MVE = ("cmsis-mve", "cmsis-mve-speed")
_MVE = (*_NEW_MVE, "arduino-mve")
_PLAIN = ("cmsis-plain", "arduino-plain")
_OLD = ("arduino", "arduino-plain", "arduino-mve")
#: Channels of a block in which a depthwise convolution is computed with vectors (CH_IN_BLOCK_MVE).
_BLOCK = 124


def _unpacked(build: Cmsis, narrow: Any) -> tuple[Any, ...]:
    """Scratch for ``narrow`` int4 weights (None: there are none), which the kernels of 2023 unpack to a byte each."""
    return (narrow,) if narrow is not None and build in _OLD else ()


def conv_scratch(build: Cmsis, kernel: int, in_channels: Any, *, strided: bool = False, narrow: Any = None) -> tuple[Any, ...]:
    """Scratch of an int8 convolution with a window of ``kernel`` pixels, apart or not: none for 1x1, else columns of the input patch.

    Two of int16, or four of int8 with vectors; as much for int4 weights, of which there are ``narrow``. The kernels of 2023 compute a
    ``strided`` 1x1 with columns too.
    """
    unpacked = _unpacked(build, narrow)
    if kernel == 1 and not (strided and build in _OLD):
        return unpacked
    values = kernel * in_channels
    if build in _MVE:
        lanes = 8 if build in _OLD else 16
        return (*unpacked, 4 * ((values + lanes - 1) // lanes * lanes))
    return (*unpacked, 4 * values) if build in _OLD else (4 * ((values + 3) // 4 * 4),)


def depthwise_scratch(
    build: Cmsis, kernel_height: int, kernel_width: int, channels: Any, *, narrow: bool = False, dilated: bool = False
) -> tuple[Any, ...]:
    """Scratch of an int8 depthwise convolution with one output an input channel: one int16 patch of all channels.

    With vectors a block of channels; none for 3x3 by today's kernels, and on cores without DSP instructions. Today's kernels for int4
    weights (``narrow``) ask for the patch always. ``dilated`` ones are computed by the plain kernel, which asks for none.
    """
    area = kernel_height * kernel_width
    unpacked = _unpacked(build, area * channels if narrow else None)
    if dilated:
        return unpacked
    if build in _MVE:
        return (*unpacked, 4 * _BLOCK * area)
    if narrow and build not in _OLD:
        return (2 * area * channels,)
    if build in _PLAIN or (build not in _OLD and (kernel_height, kernel_width) == (3, 3)):
        return unpacked
    return (*unpacked, 2 * area * channels)


def dense_scratch(build: Cmsis, outputs: Any, *, constant: bool = True, narrow: Any = None) -> tuple[Any, ...]:
    """Scratch of an int8 dense layer of one image, whose weights are ``constant`` or not: sums of the weights of each output, with
    vectors alone, and where they are not kept; none of ``narrow`` int4 weights."""
    if narrow is not None:
        return _unpacked(build, narrow)
    return (4 * outputs,) if build in _NEW_MVE and not (constant and build == "cmsis-mve-speed") else ()


def dense_sums(build: Build, outputs: Any, *, narrow: bool = False) -> Any:
    """Bytes of those sums of an int8 dense layer with constant weights where they are kept; 0 where they are not. Arrays give arrays."""
    return 4 * outputs if build == "cmsis-mve-speed" and not narrow else 0


def pool_scratch(build: Cmsis, kind: str, channels: int) -> tuple[int, ...]:
    """Scratch of pooling: int32 sums of all channels for averages, with DSP instructions and without vectors."""
    return (4 * channels,) if kind == "avg_pool" and build in ("cmsis", "arduino") else ()


def averaged_scratch(build: Cmsis, scratch: tuple[int, ...]) -> tuple[int, ...]:
    """Scratch of a quantised MEAN or SUM, of (sums, index, axes) of today's kernel: that of 2023 has sums alone."""
    return scratch[:1] if build in _OLD else scratch


Scratch = Callable[[Seen, Cmsis], tuple[int, ...] | None]
"""Scratch of an operator; None where it is the reference kernel's."""


def _conv(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    source, weights, out = seen.input(0), seen.input(1), seen.output()
    if source is None or weights is None or out is None or any(len(t.shape) != 4 for t in (source, weights, out)):
        return None
    _, height, width, channels = weights.shape
    across, down = (seen.op.options.i32(place, 1) for place in (1, 2))
    dilated = seen.op.dilation != (1, 1)
    if seen.dtype() == "int8":
        narrow = _narrow(weights)
        unpacked = _unpacked(build, narrow)
        if build in _OLD:
            channels = source.shape[3]
        if height * width == 1 and (dilated or channels != source.shape[3]):
            columns = conv_scratch(build, 2, channels)[0] // 2  # never the simple 1x1
            return (*unpacked, columns)
        row = source.shape[1] == height == 1 and not dilated and width > 1
        if build == "arduino-mve" and row and out.shape[2] % 4 == 0:
            return unpacked
        if build in _NEW_MVE and row and (across * channels) % 4 == 0 and channels == source.shape[3]:
            return (_row_scratch(source.shape[2], out.shape[2], width, across, channels, same=seen.op.options.i8(0) == 0),)
        return conv_scratch(build, height * width, channels, strided=(across, down) != (1, 1), narrow=narrow)
    bias = seen.input(2)
    if seen.dtype() == "int16":
        values = height * width * channels
        if build in _OLD:
            small = values < _FAST_INT16 and not dilated
            return (4 * values,) if build == "arduino" and small else ()
        if bias is None or bias.dtype == "int64":
            return (8 * ((values + 7) // 8 * 8),) if build in _MVE else (4 * values,)
    return None


def _narrow(weights: FileTensor) -> int | None:
    """How many int4 weights there are; None where they are none."""
    return weights.elements if weights.dtype == "int4" else None


#: Values of a patch below which the int16 convolution of 2023 takes columns.
_FAST_INT16 = 512


def _row_scratch(before: int, after: int, kernel: int, stride: int, channels: int, *, same: bool) -> int:
    """Scratch of a convolution along one row with vectors: the padded ends (arm_convolve_1_x_n_s8_get_buffer_size_mve)."""
    total = max((after - 1) * stride + kernel - before, 0) if same else 0
    left = total // 2
    odd = ((after - 1) * stride + kernel - before) % 2
    rights = max(1, (left + odd + stride - 1) // stride) if left + odd else 0
    lefts = max(1, (left + stride - 1) // stride) if left else 0
    if rights + max(after - rights - lefts, 0) + lefts != after:
        return 4 * ((kernel * channels + 15) // 16 * 16)
    return max((kernel + left) * channels, (kernel - 1) * channels + (rights * channels if odd else left * channels))


def _depthwise(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    source, weights, out = seen.input(0), seen.input(1), seen.output()
    if source is None or weights is None or out is None or seen.dtype() != "int8" or any(len(t.shape) != 4 for t in (source, weights, out)):
        return None
    _, height, width, channels = weights.shape
    narrow = weights.dtype == "int4"
    dilated = seen.op.dilation != (1, 1)
    if build in _NEW_MVE and source.shape[3] == 1 and channels > 1 and not narrow:
        # Computed as a convolution, with a copy of the weights.
        return ((conv_scratch(build, height * width, 1)[0] if height * width > 1 else 0) + height * width * channels,)
    if source.shape[3] != out.shape[3] or source.shape[0] != 1:
        return _unpacked(build, _narrow(weights))
    return depthwise_scratch(build, height, width, channels, narrow=narrow, dilated=dilated)


def _dense(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    weights, out = seen.input(1), seen.output()
    if build in _OLD:
        return None
    if weights is None or out is None or not weights.shape or seen.dtype() != "int8" or weights.dtype != "int8":
        return () if weights is not None and weights.dtype == "int4" else None
    as_convolution = len(out.shape) > 2 and weights.shape[-1] % 4 == 0
    if as_convolution:
        return (8 * out.shape[-1],) if weights.scales < 2 else ()
    return dense_scratch(build, out.shape[-1], constant=_constant(seen))


def _constant(seen: Seen) -> bool:
    """Whether the file holds the weights of a dense layer, and its biases if it has any."""
    weights, bias = seen.input(1), seen.input(2)
    return weights is not None and weights.constant and (bias is None or bias.constant)


def _dense_kept(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    """Multipliers and shifts, which the kernel of 2023 keeps where it computes a dense layer as a convolution; today's keeps sums."""
    weights, out = seen.input(1), seen.output()
    if build not in _OLD:
        reference = needs(seen.op, seen.tensors, FAMILY_OF[build])
        if reference is None or weights is None or out is None or not weights.shape or not _constant(seen):
            return None
        if seen.dtype() != "int8" or weights.dtype != "int8" or (len(out.shape) > 2 and weights.shape[-1] % 4 == 0):
            return None
        return (*reference.persistent, *_given(dense_sums(build, out.shape[-1])))
    if weights is None or out is None or not weights.shape or seen.dtype() != "int8":
        return ()
    return arrays(out.shape[-1]) if len(out.shape) > 2 and weights.shape[-1] % 4 == 0 else ()


def _transposed(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    if build in _OLD:
        return None
    source, weights, out = seen.input(2), seen.input(1), seen.output()
    if source is None or weights is None or out is None or source.dtype != "int8" or any(len(t.shape) != 4 for t in (source, weights, out)):
        return None
    down, across = seen.op.options.i32(2), seen.op.options.i32(1)
    _, height, width, channels = weights.shape
    if max(down, across) <= 2 and channels > _TURNED_ABOVE:
        lanes = 16 if build in _MVE else 4
        return 4 * ((height * width * channels + lanes - 1) // lanes * lanes), weights.elements
    # As CMSIS-NN has it: the greater of kernel and stride, the vertical stride in both.
    row = ((source.shape[2] - 1) * across + max(width, down)) * out.shape[3]
    return 4 * row * max(height, down), 0


def _average(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    source = seen.input(0)
    if source is None or len(source.shape) != 4 or source.dtype not in {"int8", "int16"}:
        return None
    return pool_scratch(build, "avg_pool", source.shape[3])


def _reduced(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    reference = needs(seen.op, seen.tensors, FAMILY_OF[build])
    if reference is None or build not in _OLD:
        return None
    return averaged_scratch(build, reference.scratch) if len(reference.scratch) == len(_REDUCED) else ()


#: Buffers of a quantised reduction: sums, index, axes.
_REDUCED = ("sums", "index", "axes")


def _joined(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    """Of an int8 concatenation in 2023: a scale and a zero point for each input."""
    return (4 * len(seen.op.inputs),) * 2 if build in _OLD and seen.dtype() == "int8" else None


def _quantised_channels(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    """Of a convolution: no multipliers and shifts for floats."""
    return () if seen.dtype() == "float32" else None


def _matmul(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    out = seen.output()
    # Its second operand is computed, or as good as that.
    return dense_scratch(build, out.shape[-1], constant=False) if out is not None and out.shape and seen.dtype() == "int8" else None


def _given(size: int) -> tuple[int, ...]:
    return (size,) if size else ()


def _svdf(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    """Today's kernel with vectors adds sums of the weights of each filter, like a dense layer."""
    reference, features = needs(seen.op, seen.tensors, FAMILY_OF[build]), seen.input(1)
    if build in _OLD or reference is None or features is None or not features.shape or seen.dtype() != "int8":
        return None
    return (*reference.scratch, *dense_scratch(build, features.shape[0]))


def _svdf_kept(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    reference, features = needs(seen.op, seen.tensors, FAMILY_OF[build]), seen.input(1)
    if build in _OLD or reference is None or features is None or not features.shape or seen.dtype() != "int8":
        return None
    return (*reference.persistent, *_given(dense_sums(build, features.shape[0])))


def _lstm(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    reference = needs(seen.op, seen.tensors, "mcu")
    return reference.scratch[:3] if build not in _OLD and reference is not None and seen.dtype() in {"int8", "int16"} else None


def _lstm_sums(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    """Sums of the rows of the eight matrices, as wide as biases."""
    state = seen.input(18)
    if build in _OLD or state is None or len(state.shape) < 2 or seen.dtype() not in {"int8", "int16"}:
        return None
    reference = needs(seen.op, seen.tensors, "mcu")
    kept = () if reference is None else reference.persistent
    return (*kept, *((4 if seen.dtype() == "int8" else 8) * state.shape[1],) * 8)


def _as_reference(seen: Seen, build: Cmsis) -> tuple[int, ...] | None:
    return None


@dataclass(frozen=True, slots=True)
class CmsisKernel:
    """What is different of one operator."""

    structure: int
    """Bytes of the structure that it keeps."""
    old: int
    """The same in December 2023."""
    scratch: Scratch = _as_reference
    persistent: Scratch = _as_reference
    """Persistent buffers beside the structure."""


CMSIS_KERNELS: Mapping[str, CmsisKernel] = {
    "CONV_2D": CmsisKernel(60, 60, _conv, _quantised_channels),
    "DEPTHWISE_CONV_2D": CmsisKernel(60, 60, _depthwise, _quantised_channels),
    "FULLY_CONNECTED": CmsisKernel(72, 60, _dense, _dense_kept),
    "TRANSPOSE_CONV": CmsisKernel(76, 72, _transposed),
    "AVERAGE_POOL_2D": CmsisKernel(36, 36, _average),
    "MAX_POOL_2D": CmsisKernel(36, 36),
    "SOFTMAX": CmsisKernel(64, 64),
    "SVDF": CmsisKernel(40, 36, _svdf, _svdf_kept),
    "BATCH_MATMUL": CmsisKernel(36, 16, _matmul),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": CmsisKernel(912, 688, _lstm, _lstm_sums),
    # Reference kernels, which took otherwise in 2023.
    "MEAN": CmsisKernel(44, 40, _reduced),
    "SUM": CmsisKernel(44, 40, _reduced),
    "CONCATENATION": CmsisKernel(24, 24, persistent=_joined),
}


def cmsis_structure(name: str, build: Cmsis) -> int:
    """Bytes of the structure that the CMSIS-NN kernel of operator ``name`` keeps, or the reference kernel that stands in for it."""
    if name in CMSIS_KERNELS:
        kernel = CMSIS_KERNELS[name]
        return kernel.old if build in _OLD else kernel.structure
    return structure_of(name, KERNELS[name], FAMILY_OF[build])


def cmsis_needs(op: FileOp, tensors: Sequence[FileTensor], build: Cmsis) -> Needs | None:
    """What the CMSIS-NN kernel of ``op`` takes on a Cortex-M; None where the table of kernels does not have it."""
    reference = needs(op, tensors, FAMILY_OF[build])
    kernel = CMSIS_KERNELS.get(op.kind)
    if reference is None or kernel is None:
        return reference
    seen = Seen(op, tensors)
    scratch, persistent = kernel.scratch(seen, build), kernel.persistent(seen, build)
    return replace(
        reference,
        structure=cmsis_structure(op.kind, build),
        persistent=reference.persistent if persistent is None else persistent,
        scratch=reference.scratch if scratch is None else scratch,
    )
