"""TFLM's kernels of custom operators by name: rows of tinynas.cost.kernels.

Their options are flexbuffers, whose names and order are those of the files under kernels/ and signal/micro/kernels.
"""

from __future__ import annotations

from collections.abc import Mapping

from tinynas.cost.flexbuffer import map_integers
from tinynas.cost.kernel import POINTER_BYTES, Kernel, Seen, Target, both
from tinynas.cost.kernel_checks import ranks


def _detected(seen: Seen, target: Target) -> tuple[int, ...]:
    """Of SSD's last step: boxes, scores and their order."""
    boxes, classes = seen.input(0), seen.input(1)
    if boxes is None or classes is None or len(boxes.shape) != 3 or len(classes.shape) != 3:
        return ()
    said = map_integers(seen.op.custom_options)
    most, labels, count = max(said.get("max_detections", 0), 0), max(said.get("num_classes", 0), 0), boxes.shape[1]
    by_detection = 4 * most * count
    return (
        count,
        16 * count,
        4 * classes.shape[1] * classes.shape[2],
        4 * count,
        4 * count,
        by_detection,
        by_detection,
        4 * count,
        by_detection,
        4 * max(labels, most) * count,
        4 * min(count, most) * count,
    )


def _said(seen: Seen, name: str) -> int:
    """The number ``name`` of a custom operator's options; 0 where it is not there."""
    return max(map_integers(seen.op.custom_options).get(name, 0), 0)


def _rfft_state(seen: Seen, target: Target) -> tuple[int, ...]:
    """What kissfft keeps for a real transform: a record of pointers, one of a complex transform of half its length, twiddles."""
    half, number = _said(seen, "fft_length") // 2, {"int16": 2, "int32": 4, "float32": 4}.get(seen.dtype(), 4)
    pointers, complex_number = 3 * POINTER_BYTES[target], 2 * number
    inner = aligned_to(264 + complex_number * half, POINTER_BYTES[target])
    return (pointers + inner + complex_number * (half * 3 // 2),)


def _irfft_state(seen: Seen, target: Target) -> tuple[int, ...]:
    """The inverse in floats keeps a pointer and an int32 more."""
    return (_rfft_state(seen, target)[0] + (2 * POINTER_BYTES[target] if seen.dtype() == "float32" else 0),)


def aligned_to(size: int, alignment: int) -> int:
    """``size`` rounded up to a multiple of ``alignment``, a power of two."""
    return (size + alignment - 1) & -alignment


def _rfft_scratch(seen: Seen, target: Target) -> tuple[int, ...]:
    return (_said(seen, "fft_length") * {"int16": 2, "int32": 4, "float32": 4}.get(seen.dtype(), 4),)


def _ring(capacity: int, target: Target) -> int:
    """CircularBuffer with its int16 content, which it keeps twice."""
    return {"mcu": 24, "host": 40}[target] + 4 * capacity


def _rings(outer: int, capacity: int, target: Target) -> tuple[int, ...]:
    """One a channel, with two arrays of pointers."""
    return (*(POINTER_BYTES[target] * outer,) * 2, *(_ring(capacity, target),) * outer)


def _rows(seen: Seen) -> tuple[int, int]:
    """(rows, length of a row) of the first input."""
    source = seen.input(0)
    if source is None or not source.shape or source.shape[-1] < 1:
        return 0, 0
    return min(source.elements // source.shape[-1], _MOST_ROWS), source.shape[-1]


_MOST_ROWS = 10_000


def _framed(seen: Seen, target: Target) -> tuple[int, ...]:
    size, step = _said(seen, "frame_size"), max(_said(seen, "frame_step"), 1)
    return _rings(_rows(seen)[0], (size + step - 1) // step * step, target)


def _delayed(seen: Seen, target: Target) -> tuple[int, ...]:
    outer, length = _rows(seen)
    return _rings(outer, length + _said(seen, "delay_length"), target)


def _stacked(seen: Seen, target: Target) -> tuple[int, ...]:
    frames = _said(seen, "stacker_left_context") + _said(seen, "stacker_right_context") + 1
    return (_ring(_said(seen, "num_channels") * frames, target),)


def _overlapped(seen: Seen, target: Target) -> tuple[int, ...]:
    source = seen.input(0)
    if source is None or len(source.shape) < 2 or source.shape[-2] < 1:
        return ()
    outer = _rows(seen)[0] // source.shape[-2]
    return (POINTER_BYTES[target] * outer, *(source.size_bytes // max(source.elements, 1) * source.shape[-1],) * outer)


#: Custom operators by name: those of networks that find objects, and of audio front ends.
CUSTOM_KERNELS: Mapping[str, Kernel] = {
    "SignalWindow": Kernel("int16", "i0 i1 o0", data=both(8)),
    "SignalFftAutoScale": Kernel("int16/int16/int32", "i0 o0 o1"),
    "SignalRfft": Kernel("int16 int32 float32", data={"mcu": 32, "host": 48}, more=_rfft_state, scratch=_rfft_scratch),
    "SignalEnergy": Kernel("int16/uint32", data=both(8)),
    "SignalFilterBank": Kernel(
        "uint32/uint64", data={"mcu": 36, "host": 64}, more=lambda seen, target: (8 * (_said(seen, "num_channels") + 1),)
    ),
    "SignalFilterBankSquareRoot": Kernel("uint64/int32/uint32", "i0 i1 o0"),
    "SignalFilterBankSpectralSubtraction": Kernel(
        "uint32/uint32/uint32",
        "i0 o0 o1",
        data={"mcu": 44, "host": 56},
        more=lambda seen, target: (4 * _said(seen, "num_channels"),),
    ),
    "SignalFramer": Kernel("int16/int16/bool", "i0 o0 o1", data={"mcu": 28, "host": 40}, more=_framed),
    "SignalDelay": Kernel("int16", data={"mcu": 20, "host": 32}, more=_delayed),
    "SignalStacker": Kernel("int16/int16/bool", "i0 o0 o1", data={"mcu": 36, "host": 56}, more=_stacked),
    "SignalOverlapAdd": Kernel("int16 float32", data={"mcu": 24, "host": 32}, more=_overlapped),
    "SignalIrfft": Kernel("int16 int32 float32", data={"mcu": 24, "host": 32}, more=_irfft_state),
    "SignalPCAN": Kernel("uint32/uint32/int16/uint32", "i0 i1 i2 o0", data=both(4)),
    "SignalFilterBankLog": Kernel("uint32/int16", data=both(8)),
    "CIRCULAR_BUFFER": Kernel("int8", data=both(8), check=ranks(4, 4, "i0", "o0")),
    "TFLite_Detection_PostProcess": Kernel("float32", "i0 i1", data=both(112), scratch=_detected, check=ranks(3, 3, "i0", "i1")),
}
