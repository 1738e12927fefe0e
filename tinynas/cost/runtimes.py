"""RUNTIMES: what each inference runtime adds to the network's own bytes, and how well that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from tinynas.cost.kernel import Build
from tinynas.cost.work import Piece, Work
from tinynas.errors import UserError
from tinynas.graph import Shape

Evidence = Literal["exact", "fitted", "bound"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A way to run a network on a microcontroller and how its memory is modelled."""

    name: str
    title: str
    alignment: int
    """Bytes to which planned buffers are rounded up."""
    in_place_depthwise: bool
    """Whether a depthwise convolution writes over its input."""
    work_buffers: bool
    """Whether its generated code holds the buffers of :func:`work_buffers` for the whole inference."""
    pads_inside: bool
    """Whether its convolutions pad by themselves: a PAD of a file before one is no operator of its own."""
    scratch: Literal["reference", "cmsis-nn", "none"]
    """Which operators ask for scratch memory in the head."""
    tail: bool
    """Whether there is a persistent tail (TFLM's arena)."""
    on_host: bool
    """Whether tflite-micro's Python wheel runs these kernels, so that a host's arena can be held against the estimate."""
    plans: bool
    """Whether it takes a memory plan from the file, and its own planner is known."""
    flash: Literal["file", "weights", "weights and scales"]
    """What lies in flash: the .tflite file, or weights and biases (and a scale a channel) in generated code."""
    extra_bytes: int
    """SRAM beside activations that does not depend on the network."""
    patches: bool
    """Whether patch-based inference is supported."""
    code: int | Literal["linked"] | None
    """Flash of its own code: bytes that do not depend on the network, those of the table of linked code
    (:mod:`tinynas.cost.code_flash`), or None where that is not known."""
    evidence: dict[str, tuple[Evidence, str]]
    """Per figure (sram, flash; code where it is a number): how well it is known, and from what."""

    @property
    def build(self) -> Build:
        """Which of TFLM's kernels it runs, for the tables of what they take."""
        return "cmsis" if self.scratch == "cmsis-nn" else "mcu"


RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="tflm",
            title="TensorFlow Lite for Microcontrollers, reference kernels",
            alignment=16,
            in_place_depthwise=False,
            work_buffers=False,
            pads_inside=False,
            scratch="reference",
            tail=True,
            on_host=True,
            plans=True,
            flash="file",
            extra_bytes=0,
            patches=False,
            code="linked",
            evidence={
                "sram": ("exact", "head and 64-bit tail equal tflite-micro's byte for byte; 32-bit tail from TFLM's structures"),
                "flash": ("exact", "size of the file that tinynas writes"),
            },
        ),
        Runtime(
            name="tflm-cmsis-nn",
            title="TensorFlow Lite for Microcontrollers, CMSIS-NN kernels",
            alignment=16,
            in_place_depthwise=False,
            work_buffers=False,
            pads_inside=False,
            scratch="cmsis-nn",
            tail=True,
            on_host=False,
            plans=True,
            flash="file",
            extra_bytes=0,
            patches=False,
            code="linked",
            evidence={
                "sram": (
                    "fitted",
                    "scratch as measured on an emulated Cortex-M4 (heads of 32 of 32 networks); tail from TFLM's structures",
                ),
                "flash": ("exact", "size of the file that tinynas writes"),
            },
        ),
        Runtime(
            name="tinyengine",
            title="TinyEngine (MCUNet)",
            alignment=1,
            in_place_depthwise=True,
            work_buffers=True,
            pads_inside=True,
            scratch="none",
            tail=False,
            on_host=False,
            plans=False,
            flash="weights and scales",
            extra_bytes=0,
            patches=True,
            code=64_000,
            evidence={
                "sram": ("fitted", "equals 2 published PEAK_MEM figures to the byte and 5 of 5 rows of its README to the kB"),
                "flash": ("fitted", "equals 2 published MODEL_SIZE figures to the byte"),
                "code": ("bound", "about 64 kB by its authors' word, whatever the network; not measured"),
            },
        ),
        Runtime(
            name="stedgeai",
            title="ST Edge AI Core (X-CUBE-AI)",
            alignment=1,
            in_place_depthwise=False,
            work_buffers=False,
            pads_inside=False,
            scratch="none",
            tail=False,
            on_host=False,
            plans=False,
            flash="weights",
            extra_bytes=5 * 1024,
            patches=False,
            code=38 * 1024,
            evidence={
                "sram": ("bound", "activations alive + 5 KiB; 11 published networks take 0.51 to 1.00 of it"),
                "flash": ("exact", "weights and biases; within 0.07 KiB of ST's published figure on 77 of 78 zoo models"),
                "code": ("bound", "the largest library of 4 networks that ST's tool reports; they take 7, 28, 36 and 38 KiB"),
            },
        ),
    )
}


def scratch_bytes(runtime: Runtime, piece: Piece) -> tuple[int, ...]:
    """Bytes of each scratch buffer the kernel of ``piece`` asks for (live during that operator only)."""
    match runtime.scratch:
        case "reference":
            return piece.scratch
        case "cmsis-nn":
            return piece.cmsis_scratch
        case "none":
            return ()
    assert_never(runtime.scratch)


def static_bytes(runtime: Runtime, work: Work) -> int:
    """SRAM beside activations that lives for the whole inference.

    TinyEngine's generated code holds one work buffer (the padded int16 plane of a depthwise convolution, or two int16
    columns of a convolution's patches, whichever is largest) and the first convolution's int16 kernel.
    """
    if not runtime.work_buffers:
        return runtime.extra_bytes
    parts = [work_buffers(piece, work.shapes) for piece in work.pieces]
    return runtime.extra_bytes + max(buffer for buffer, _ in parts) + max(kernel for _, kernel in parts)


def work_buffers(piece: Piece, shapes: Sequence[Shape]) -> tuple[int, int]:
    """(work buffer, int16 kernel) bytes that TinyEngine keeps for ``piece``; arrays give arrays."""
    area = piece.kernel[0] * piece.kernel[1]
    if piece.kind == "dw":
        shape = shapes[piece.inputs[0]]
        # Of several images in a batch there is one at a time; a file's operator whose shape is not known is named among the uncounted.
        height, width = shape[-3:-1] if len(shape) >= 3 else (1, 1)
        return 2 * (height + piece.kernel[0] - 1) * (width + piece.kernel[1] - 1), 0
    if piece.kind == "conv":
        return 4 * area * piece.in_channels, 2 * area * piece.in_channels * piece.out_channels * (area == 9) * (piece.in_channels == 3)
    return 0, 0


def flash_bytes(runtime: Runtime, size_bytes: int, weights_bytes: int, channels: int) -> int:
    """Flash of a model: its file's ``size_bytes``, or what generated code holds of it; arrays give arrays."""
    match runtime.flash:
        case "file":
            return size_bytes
        case "weights":
            return weights_bytes
        case "weights and scales":
            return weights_bytes + 4 * channels
    assert_never(runtime.flash)


def why_no_code(runtime: str) -> str | None:
    """Why the flash of the code of ``runtime`` is not known for any network; None where it is known."""
    if runtime_named(runtime).code is not None:
        return None
    return f"the flash of the code of {runtime} is not known: give reserves.flash.runtime"


def runtime_names() -> str:
    """The names of RUNTIMES for people: ``a, b or c``."""
    *names, last = RUNTIMES
    return f"{', '.join(names)} or {last}" if names else last


def runtime_named(name: str) -> Runtime:
    """The runtime called ``name``. Raises UserError with the known names."""
    try:
        return RUNTIMES[name]
    except KeyError:
        raise UserError(f"unknown runtime {name!r}", f"known: {', '.join(RUNTIMES)}") from None
