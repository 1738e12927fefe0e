"""What Espressif's kernels of TFLM (esp-tflite-micro with esp-nn) take in the arena where that is not what the reference kernels take.

From esp-tflite-micro's micro/kernels/esp_nn (conv, depthwise_conv, softmax; its fully_connected, pooling, add and mul ask for nothing more
than the reference kernels) and esp-nn's ..._get_scratch_size functions. Each of the three operators asks for at most one buffer.

``esp-nn`` is what the ESP32 and the ESP32-S2 run, its portable C: convolutions ask for no scratch, a softmax for a table of exponentials.
The vector kernels of the ESP32-S3 copy filters and padded inputs to aligned places, and were rewritten again and again:

- ``esp-nn-s3-1.1``: as from 2023 on, the releases 1.0 and 1.1.
- ``esp-nn-s3-1.2``: as from early 2026 on, 1.2 to 1.3; where those differ, whatever asks for most.
- ``esp-nn-s3``: as in autumn 2026, 1.4 and 1.5; likewise.

Not looked up are the kernels of the ESP32-P4 and those that esp-tflite-micro 1.4 may have added. The buffers of a second core lie outside
the arena. Sizes may be integer arrays, which give arrays; kernels and strides are numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

from tinynas.cost.kernel import Needs, Seen
from tinynas.cost.kernels import KERNELS, needs, structure_of
from tinynas.cost.schema import FileOp, FileTensor

Esp = Literal["esp-nn", "esp-nn-s3-1.1", "esp-nn-s3-1.2", "esp-nn-s3"]
"""Builds of esp-nn's kernels, of :data:`tinynas.cost.kernel.Build`."""
ESP: tuple[Esp, ...] = get_args(Esp)

#: Structures that are larger than the reference kernels': with the number of a scratch buffer, and where it is aligned to 8 bytes.
_STRUCTURES: Mapping[str, int] = {"CONV_2D": 60, "DEPTHWISE_CONV_2D": 60, "SOFTMAX": 64}

#: Bytes of padded input above which a depthwise convolution works in strips, and of int16 copies above which it works row by row.
_WHOLE, _WHOLE_INT16 = 40 * 1024, 48 * 1024
#: Bytes of weights above which output channels are computed in panels, and the room in which a panel's outputs are gathered.
_PANEL, _GATHERED = 24 * 1024, 16 * 1024
#: Output pixels of a 3x3 convolution that are computed at once.
_AT_ONCE = 16
#: Tables of exponentials of the newest softmax: two of 256 numbers, and room to align them.
_TABLES = 2 * 256 * 4 + 16


class Window(NamedTuple):
    """Where a convolution's kernel goes: over an input of ``height`` by ``width`` pixels of ``channels``, padded first by ``top`` and
    ``left``; ``out_height`` by ``out_width`` pixels come out."""

    height: Any
    width: Any
    channels: Any
    out_height: Any
    out_width: Any
    kernel: tuple[int, int]
    stride: tuple[int, int]
    top: Any
    left: Any
    dilation: tuple[int, int] = (1, 1)
    """esp-nn does not look at it when it says what it asks for; TFLM then computes with the reference kernel."""

    @property
    def area(self) -> int:
        """Pixels of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def elements(self) -> Any:
        """Of the input."""
        return self.height * self.width * self.channels

    def ends(self, *, rest: bool) -> tuple[Any, Any]:
        """(down, across) pixels that outputs reach beyond the input: below and right of it if ``rest``, with ``top`` and ``left`` counted
        as esp-nn does where it pads nothing before, which is a stride more than it needs, less one."""
        (kernel_down, kernel_across), (down, across) = self.kernel, self.stride
        if rest:
            return (
                _positive((self.out_height - 1) * down + kernel_down - self.top - self.height),
                _positive((self.out_width - 1) * across + kernel_across - self.left - self.width),
            )
        return (
            _positive(self.out_height * down + kernel_down - 1 - self.height),
            _positive(self.out_width * across + kernel_across - 1 - self.width),
        )


def _positive(size: Any) -> Any:
    return size * (size > 0)


def _most(a: Any, b: Any) -> Any:
    return a + (b - a) * (b > a)


def _least(a: Any, b: Any) -> Any:
    return a + (b - a) * (b < a)


def _either(which: Any, a: Any, b: Any) -> Any:
    """``a`` where ``which`` holds, else ``b``."""
    return b + (a - b) * (which * 1)


def _up(size: Any, step: int) -> Any:
    return (size + step - 1) // step * step


def conv_scratch(build: Esp, window: Window, outputs: Any) -> tuple[Any, ...]:
    """Scratch of an int8 convolution to ``outputs`` channels."""
    match build:
        case "esp-nn":
            return ()
        case "esp-nn-s3-1.1":
            return (_conv_2023(window, outputs),)
        case "esp-nn-s3-1.2":
            return (_conv_2026(window, outputs),)
        case "esp-nn-s3":
            return (_conv_newest(window, outputs),)


def _plain(window: Window) -> Any:
    """Whether it is a 1x1 convolution without strides and padding."""
    return (window.kernel == (1, 1) and window.stride == (1, 1)) * 1 * (window.top == 0) * (window.left == 0)


def _turned(window: Window) -> Any:
    """Eight pixels of a 1x1 convolution, turned, as int16."""
    return 16 * _up(window.channels, 8) * (window.height * window.width >= 8)


def _pointwise(window: Window, outputs: Any) -> Any:
    """Copies of a 1x1 convolution up to early 2026: weights, and the input where its channels are no multiple of 8."""
    channels = _up(window.channels, 8)
    return window.height * window.width * channels * (window.channels % 8 != 0) + channels * outputs + _turned(window)


def _twice_padded(window: Window) -> Any:
    """The input padded after as much as before; 0 where it is not padded before."""
    padded = (window.height + 2 * window.top) * (window.width + 2 * window.left) * window.channels
    return padded * ((window.top + window.left) > 0)


def _rows(window: Window, outputs: Any) -> Any:
    """Weights with each row of the kernel widened to 16 bytes."""
    return _up(window.kernel[1] * window.channels, 16) * window.kernel[0] * outputs


def _columns(window: Window, outputs: Any) -> Any:
    """Columns of a kernel whose rows are short, all weights beside them."""
    column = _up(window.area * window.channels, 16)
    return 4 * outputs + 16 + outputs * column + 16 + column


def _short(window: Window) -> Any:
    """Whether a kernel's rows are short, but not the kernel."""
    return (window.kernel[1] * window.channels < 16) * (window.area * window.channels >= 16)


def _conv_2023(window: Window, outputs: Any) -> Any:
    general = _twice_padded(window) + window.area * _up(window.channels, 16) * outputs + 4 * outputs
    return _either(_plain(window), _pointwise(window, outputs), general) + 32


def _conv_2026(window: Window, outputs: Any) -> Any:
    below, right = window.ends(rest=False)
    behind = (window.height + below) * (window.width + right) * window.channels * ((below + right) > 0)
    weights = window.area * _up(window.channels, 16) * outputs + _rows(window, outputs)
    general = _twice_padded(window) + behind + weights + 4 * outputs
    spatial = _either(_short(window), _columns(window, outputs), general)
    # A margin of 32 at first, soon 64.
    return _either(_plain(window), _pointwise(window, outputs), spatial) + 64


def _conv_newest(window: Window, outputs: Any) -> Any:
    channels = window.channels
    panel = (24 * channels + _GATHERED) * (channels * outputs > _PANEL)
    pointwise = _most(_most(_turned(window), 24 * channels + 8 * outputs), panel) + 64
    below, right = window.ends(rest=True)
    padded = (window.height + window.top + below) * (window.width + window.left + right) * channels
    general = padded * ((window.top + window.left + below + right) > 0) + _rows(window, outputs) + 4 * outputs + 64
    spatial = _either(_short(window), _columns(window, outputs) + 64, general)
    if window.kernel == (3, 3):
        # Pixel by pixel with a copy of the weights, or 16 pixels at once: that hangs on outputs at first, later on the weights' bytes.
        column = 9 * channels
        single = column * (outputs + 1) + 4 * outputs + 32
        many = (window.out_height * window.out_width >= _AT_ONCE) * 1 + (column * outputs > _PANEL) > 0
        at_once = (_AT_ONCE * column + 24 * column + _GATHERED + 64 + 32) * many
        spatial = _either((channels % 16 == 0) * (outputs >= 16), _most(single, at_once), spatial)
    return _either(_plain(window), pointwise, spatial)


def depthwise_scratch(build: Esp, window: Window, multiplier: int) -> tuple[Any, ...]:
    """Scratch of an int8 depthwise convolution with ``multiplier`` outputs an input channel."""
    match build:
        case "esp-nn":
            return ()
        case "esp-nn-s3-1.1":
            return (_depthwise_2023(window, multiplier),)
        case "esp-nn-s3-1.2":
            # At first for any padding, later for the same on all sides only.
            first, later = (_depthwise_2026(window, multiplier, uneven=uneven) for uneven in (True, False))
            return (_most(first, later),)
        case "esp-nn-s3":
            first, later = (_depthwise_newest(window, multiplier, exact=exact) for exact in (False, True))
            return (_most(first, later),)


def _both_int16(window: Window, multiplier: int) -> Any:
    """Weights and input as int16."""
    return 2 * (window.area * window.channels * multiplier + window.elements)


def _padding(window: Window) -> tuple[Any, Any]:
    """(down, across) pixels by which esp-nn pads: twice what is before, or else what outputs reach beyond."""
    below, right = window.ends(rest=False)
    padded = (window.top + window.left) > 0
    return _either(padded, 2 * window.top, below), _either(padded, 2 * window.left, right)


def _depthwise_2023(window: Window, multiplier: int) -> Any:
    if multiplier != 1 or window.kernel != (3, 3):
        return _both_int16(window, multiplier) + 16 if multiplier % 4 == 0 else 32
    down, across = _padding(window)
    padded = (window.height + down) * (window.width + across) * window.channels * ((down + across) > 0)
    by_eight = _either(window.channels % 16 == 0, 9 * window.channels + padded, _both_int16(window, 1)) + 16
    return _either(window.channels % 8 == 0, by_eight, 32)


def _even(window: Window) -> Any:
    """Whether as much is padded above as to the left."""
    return window.top == window.left


def _depthwise_2026(window: Window, multiplier: int, *, uneven: bool) -> Any:
    if multiplier != 1:
        return _both_int16(window, multiplier) + 32 if multiplier % 4 == 0 else 32
    if window.kernel != (3, 3):
        return _either(window.channels % 8 == 0, _int16_rows(window), _padded_channels(window))
    down, across = _padding(window)
    row, weights = (window.width + across) * window.channels, 9 * window.channels
    whole = (window.height + down) * row
    vectors = weights + _either(whole <= _WHOLE, whole, 3 * row) * ((down + across) > 0) + 16
    fits = (window.channels % 16 == 0) if uneven else (window.channels % 16 == 0) * _even(window)
    by_eight = _either(fits, vectors, _sixteen_channels(window))
    return _either(window.channels % 8 == 0, by_eight, _padded_channels(window))


def _depthwise_newest(window: Window, multiplier: int, *, exact: bool) -> Any:
    """With a padding that is ``exact``, or as in early 2026."""
    if multiplier != 1:
        return _both_int16(window, multiplier) + 32 if multiplier % 4 == 0 else 32
    channels = window.channels
    if window.kernel == (3, 3):
        if exact:
            below, right = window.ends(rest=True)
            down, across = window.top + below, window.left + right
        else:
            down, across = _padding(window)
        row, weights = (window.width + across) * channels, 9 * channels
        rows = _least(_most((_WHOLE - weights - 32) // row, 3), window.height + down)
        whole = (window.height + down) * row
        strips = _either(whole <= _WHOLE, whole + 16, rows * row + 32)
        vectors = weights + _either((down + across) > 0, strips, 16)
        fits = (channels % 16 == 0) if exact else (channels % 16 == 0) * _even(window)
        by_eight = _either(fits, vectors, _sixteen_channels(window) + 12 * _up(channels, 16) * (channels >= 12))
    else:
        by_eight = _int16_rows(window)
    found = _either(channels % 8 == 0, by_eight, _padded_channels(window))
    if window.kernel[1] == window.stride[1] == 1:
        # Along one column: sums, a window of rows and a copy of the weights.
        column = (window.width == 1) * (window.out_width == 1) * (window.left == 0) * (channels % 16 == 0)
        found = _either(column, 4 * channels + 2 * window.kernel[0] * channels + 64, found)
    return found


def _sixteen_channels(window: Window) -> Any:
    """Of a 3x3 kernel: weights, padded input and output with channels widened to 16; with few channels weights and input as int16."""
    channels = _up(window.channels, 16)
    below, right = window.ends(rest=False)
    padded = (window.height + 2 * window.top + below) * (window.width + 2 * window.left + right) * channels
    widened = 9 * channels + padded + window.out_height * window.out_width * channels + 64
    return _either(window.channels >= 12, widened, _both_int16(window, 1) + 32)


def _int16_rows(window: Window) -> Any:
    """Weights and input as int16, or, of a large input, as many rows as the kernel has."""
    whole = _both_int16(window, 1)
    rows = 2 * window.area * window.channels + 2 * window.width * window.kernel[0] * window.channels
    return _either(whole <= _WHOLE_INT16, whole, rows) + 32


def _padded_channels(window: Window) -> Any:
    """Weights and input as int16, output, biases, shifts and multipliers, with channels widened to 8; next to nothing for 3 or fewer."""
    channels = _up(window.channels, 8)
    copies = _up(2 * window.area * channels, 16)
    copies = _up(copies + 2 * window.height * window.width * channels, 16)
    copies = _up(copies + window.out_height * window.out_width * channels, 16)
    return _either(window.channels > 3, copies + 12 * channels + 16, 32)


def softmax_scratch(build: Esp, width: int) -> tuple[int, ...]:
    """Scratch of an int8 softmax over ``width`` classes."""
    return (_TABLES,) if build == "esp-nn-s3" else (4 * width,)


def esp_structure(name: str) -> int:
    """Bytes of the structure that the kernel of operator ``name`` keeps."""
    return _STRUCTURES.get(name, structure_of(name, KERNELS[name], "espressif"))


def _window(seen: Seen) -> Window | None:
    """Of a convolution in a file; None where its shapes are not those of one."""
    source, weights, out = seen.input(0), seen.input(1), seen.output()
    if source is None or weights is None or out is None:
        return None
    if any(len(t.shape) != 4 or t.unknown_shape for t in (source, weights, out)):
        return None
    options = seen.op.options
    sides = []
    for axis, dilation in enumerate(seen.op.dilation):
        reach = (weights.shape[1 + axis] - 1) * dilation + 1
        step = options.i32(2 - axis)
        # TFLite's SAME rule: the odd pixel goes after.
        sides.append(max((out.shape[1 + axis] - 1) * step + reach - source.shape[1 + axis], 0) // 2)
    return Window(
        height=source.shape[1],
        width=source.shape[2],
        channels=source.shape[3],
        out_height=out.shape[1],
        out_width=out.shape[2],
        kernel=(weights.shape[1], weights.shape[2]),
        stride=(options.i32(2), options.i32(1)),
        top=sides[0],
        left=sides[1],
        dilation=seen.op.dilation,
    )


def esp_needs(op: FileOp, tensors: Sequence[FileTensor], build: Esp) -> Needs | None:
    """What the kernel of ``op`` takes; None where the table of kernels does not have it."""
    reference = needs(op, tensors, "espressif")
    if reference is None or op.kind not in _STRUCTURES:
        return reference
    seen = Seen(op, tensors)
    return replace(reference, structure=esp_structure(op.kind), scratch=(*reference.scratch, *_file_scratch(seen, build)))


def _file_scratch(seen: Seen, build: Esp) -> tuple[int, ...]:
    source, out = seen.input(0), seen.output()
    if source is None or out is None or source.dtype != "int8":
        return ()
    if seen.op.kind == "SOFTMAX":
        return softmax_scratch(build, source.shape[1]) if out.dtype == "int8" and len(source.shape) > 1 else ()
    window = _window(seen)
    if window is None:
        return ()
    if seen.op.kind == "CONV_2D":
        return conv_scratch(build, window, out.shape[3])
    return depthwise_scratch(build, window, seen.op.options.i32(3))
