"""CORES: Cortex-M processors that qemu emulates, with the flags that compile for them and the memory of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from tinynas.errors import UserError


@dataclass(frozen=True, slots=True)
class Core:
    """A processor, and the emulated board it runs on."""

    name: str
    title: str
    flags: tuple[str, ...]
    """Compiler flags of the processor: instruction set and floating point."""
    machine: str
    """Machine of qemu."""
    code: tuple[int, int]
    """(address, bytes) of the memory that holds code; the vector table is at its start."""
    data: tuple[int, int]
    """(address, bytes) of the memory that holds variables and the stack."""
    heap: tuple[int, int]
    """(address, bytes) of the memory that holds what is read from files: models and arenas."""
    float_unit: bool
    clock_hz: int = 25_000_000
    """Clock of the machine's SysTick, by which instructions are counted."""
    note: str = ""
    """Where the machine is not the core itself."""


_MIB = 1 << 20
# Memory maps: Arm's application notes AN385, AN386, AN500, AN505 and AN547, as qemu's documentation of the machines gives them.
_MPS2 = ((0x0000_0000, 4 * _MIB), (0x2000_0000, 4 * _MIB), (0x2100_0000, 16 * _MIB))
_MPS2_HEAP_60 = ((0x0000_0000, 4 * _MIB), (0x2000_0000, 4 * _MIB), (0x6000_0000, 16 * _MIB))

CORES: dict[str, Core] = {
    core.name: core
    for core in (
        Core(
            "cortex-m0plus",
            "Cortex-M0+",
            ("-mcpu=cortex-m0plus", "-mthumb", "-mfloat-abi=soft"),
            "mps2-an385",
            *_MPS2,
            float_unit=False,
            note="code for the Cortex-M0+ on an emulated Cortex-M3, which runs it unchanged: qemu has no Cortex-M0+ with enough memory",
        ),
        Core("cortex-m3", "Cortex-M3", ("-mcpu=cortex-m3", "-mthumb", "-mfloat-abi=soft"), "mps2-an385", *_MPS2, float_unit=False),
        Core(
            "cortex-m4",
            "Cortex-M4F",
            ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
            "mps2-an386",
            *_MPS2,
            float_unit=True,
        ),
        Core(
            "cortex-m7",
            "Cortex-M7F",
            ("-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
            "mps2-an500",
            *_MPS2_HEAP_60,
            float_unit=True,
        ),
        Core(
            "cortex-m33",
            "Cortex-M33F",
            ("-mcpu=cortex-m33", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
            "mps2-an505",
            (0x1000_0000, 4 * _MIB),
            (0x3800_0000, 4 * _MIB),
            (0x8000_0000, 16 * _MIB),
            float_unit=True,
            clock_hz=20_000_000,
        ),
        Core(
            "cortex-m55",
            "Cortex-M55",
            # GCC 12 writes vcvtne for a conditional conversion, which assemblers of this core read as another instruction.
            ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard", "-fno-if-conversion2"),
            "mps3-an547",
            (0x1000_0000, 512 * 1024),
            (0x3100_0000, 4 * _MIB),
            (0x7000_0000, 16 * _MIB),
            float_unit=True,
            clock_hz=32_000_000,
        ),
    )
}


def core_named(name: str) -> Core:
    """The core called ``name``: ``cortex-m4``, or short, ``m4``. Raises UserError with the known names."""
    key = name.lower().replace("_", "-").replace("m0+", "m0plus")
    key = key if key.startswith("cortex-") else f"cortex-{key}"
    try:
        return CORES[key]
    except KeyError:
        raise UserError(f"unknown target {name!r}", f"known: {', '.join(CORES)}") from None
