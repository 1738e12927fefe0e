"""What a row of the tables of TFLM's kernels is, and what an operator is given to its formulas as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tinynas.cost.schema import FileOp, FileTensor

Target = Literal["mcu", "host"]
"""A 32-bit Cortex-M, and the 64-bit machine that runs tflite-micro's Python wheel."""
TARGETS: tuple[Target, ...] = ("mcu", "host")
Family = Literal["mcu", "host", "arduino", "espressif"]
"""Whose structures a build has: today's TFLM on a Cortex-M, on the 64-bit machine, TFLM of December 2023 as Arduino's builder compiles
it (without TF_LITE_STATIC_MEMORY), and today's as Espressif's compilers do (enumerations of 4 bytes)."""
Build = Literal[
    "mcu",
    "host",
    "cmsis",
    "cmsis-plain",
    "cmsis-mve",
    "cmsis-mve-speed",
    "arduino",
    "arduino-plain",
    "arduino-mve",
    "esp",
    "esp-nn",
    "esp-nn-s3-1.1",
    "esp-nn-s3-1.2",
    "esp-nn-s3",
]
"""Kernels with the structures of a family: reference kernels; CMSIS-NN's (:mod:`tinynas.cost.cmsis`) on cores with DSP instructions,
without them (``plain``) and with vectors (``mve``; ``speed`` as TFLM's makefile builds them); reference kernels as Espressif builds
them, and esp-nn's (:mod:`tinynas.cost.esp`)."""
FAMILY_OF: Mapping[Build, Family] = {
    "mcu": "mcu",
    "host": "host",
    "cmsis": "mcu",
    "cmsis-plain": "mcu",
    "cmsis-mve": "mcu",
    "cmsis-mve-speed": "mcu",
    "arduino": "arduino",
    "arduino-plain": "arduino",
    "arduino-mve": "arduino",
    "esp": "espressif",
    "esp-nn": "espressif",
    "esp-nn-s3-1.1": "espressif",
    "esp-nn-s3-1.2": "espressif",
    "esp-nn-s3": "espressif",
}


def target_of(family: Family) -> Target:
    """Whose word size a family has."""
    return "host" if family == "host" else "mcu"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the kernel of one operator takes in the arena on one target, in bytes, beside its node."""

    options: tuple[int, int]
    """Size and alignment of its parsed options; (0, 1) where there are none."""
    structure: int
    """The structure that it keeps, in the tail on 16 bytes, asked for before all others; 0 where it keeps none."""
    persistent: tuple[int, ...]
    """Other buffers in the tail, each on 16 bytes, in the order in which they are asked for."""
    scratch: tuple[int, ...]
    """Buffers in the head while it runs."""
    temporary: int = 0
    """Bytes of tensor records in the head, all at once, while its Prepare function runs."""

    @property
    def persistent_bytes(self) -> int:
        """Bytes of all persistent buffers as they lie in the tail."""
        return aligned(self.structure) + sum([aligned(size) for size in self.persistent])


def aligned(size: int) -> int:
    """``size`` rounded up to the 16 bytes of TFLM's persistent and planned buffers; arrays give arrays."""
    return (size + 15) & ~15


@dataclass(frozen=True, slots=True)
class Seen:
    """An operator with its tensors at hand."""

    op: FileOp
    tensors: Sequence[FileTensor]

    def input(self, number: int) -> FileTensor | None:
        """Input ``number``; None where it is left out."""
        inputs = self.op.inputs
        return self.tensors[inputs[number]] if number < len(inputs) and inputs[number] >= 0 else None

    def inputs(self) -> list[FileTensor]:
        """Those inputs that are there."""
        return [self.tensors[t] for t in self.op.inputs if t >= 0]

    def output(self, number: int = 0) -> FileTensor | None:
        """Output ``number``; None where there are fewer."""
        return self.tensors[self.op.outputs[number]] if number < len(self.op.outputs) else None

    def slot(self, name: str) -> FileTensor | None:
        """The tensor called ``i0``, ``i1``, ... or ``o0``, ..."""
        number = int(name[1:])
        return self.input(number) if name[0] == "i" else self.output(number)

    def dtype(self, number: int = 0) -> str:
        """Element type of input ``number``; "" where it is left out."""
        tensor = self.input(number)
        return "" if tensor is None else tensor.dtype


Sizes = Callable[[Seen, Target], tuple[int, ...]]
Check = Callable[[Seen], str | None]
POINTER_BYTES: Mapping[Target, int] = {"mcu": 4, "host": 8}
EVAL_TENSOR_BYTES: Mapping[Target, int] = {"mcu": 12, "host": 24}
INT_BYTES = 4


def _nothing(seen: Seen, target: Target) -> tuple[int, ...]:
    return ()


def _fine(seen: Seen) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Kernel:
    """One operator of TFLM."""

    types: str
    """Accepted element types: words with a type for each of ``slots`` parted by "/", or one for all of them. "" takes any."""
    slots: str = "i0 o0"
    """Tensors whose types the kernel looks at: i0 and so on are inputs, o0 outputs."""
    options: Mapping[Target, tuple[int, int]] = field(default_factory=lambda: dict.fromkeys(TARGETS, (0, 1)))
    """Size and alignment of the parsed options (TfLite...Params); none unless given."""
    data: Mapping[Target, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))
    """Size of the structure that the kernel keeps (OpData); none unless given."""
    more: Sizes = _nothing
    """Persistent buffers beside ``data``."""
    scratch: Sizes = _nothing
    check: Check = _fine
    """What its Prepare function refuses beside element types, in words that follow "with"."""


def both(size: int) -> dict[Target, int]:
    """One size for both targets."""
    return {"mcu": size, "host": size}


def parsed(mcu: tuple[int, int], host: tuple[int, int]) -> dict[Target, tuple[int, int]]:
    """(size, alignment) of parsed options on each target."""
    return {"mcu": mcu, "host": host}


def quantized(tensor: FileTensor) -> bool:
    """Whether TFLM sees scales and zero points: it needs both."""
    return tensor.scales > 0 and tensor.zero_points > 0
