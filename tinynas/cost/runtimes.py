"""RUNTIMES: what each inference runtime adds to the network's own bytes, and how well that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinynas.cost.work import Piece
from tinynas.errors import UserError

Evidence = Literal["exact", "fitted", "bound"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A way to run a network on a microcontroller and how its memory is modelled."""

    name: str
    title: str
    planner: Literal["offline", "inplace-depthwise", "inplace"]
    """How activations are placed; see :mod:`tinynas.cost.memory`."""
    scratch: Literal["reference", "cmsis-nn", "none"]
    """Which operators ask for scratch memory in the head."""
    tail: bool
    """Whether there is a persistent tail (TFLM's arena)."""
    flash: Literal["file", "weights"]
    """What lies in flash: the .tflite file or weights and biases in generated code."""
    patches: bool
    """Whether patch-based inference is supported."""
    evidence: dict[str, tuple[Evidence, str]]
    """Per figure: how well it is known, and from what."""


RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            "tflm",
            "TensorFlow Lite for Microcontrollers, reference kernels",
            "offline",
            "reference",
            True,
            "file",
            False,
            {},
        ),
        Runtime(
            "tflm-cmsis-nn",
            "TensorFlow Lite for Microcontrollers, CMSIS-NN kernels",
            "offline",
            "cmsis-nn",
            True,
            "file",
            False,
            {},
        ),
        Runtime("tinyengine", "TinyEngine (MCUNet)", "inplace-depthwise", "none", False, "weights", True, {}),
        Runtime("stedgeai", "ST Edge AI Core (X-CUBE-AI)", "inplace", "none", False, "weights", False, {}),
    )
}


def scratch_bytes(runtime: Runtime, piece: Piece) -> tuple[int, ...]:
    """Bytes of each scratch buffer the kernel of ``piece`` asks for (live during that operator only)."""
    if runtime.scratch == "reference":
        return piece.scratch
    return piece.cmsis_scratch if runtime.scratch == "cmsis-nn" else ()


def runtime_named(name: str) -> Runtime:
    """The runtime called ``name``. Raises UserError with the known names."""
    try:
        return RUNTIMES[name]
    except KeyError:
        raise UserError(f"unknown runtime {name!r}", f"known: {', '.join(RUNTIMES)}") from None
