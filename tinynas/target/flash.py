"""Flash of the interpreter and its kernels: what a linker keeps for a set of operators, section by section.

With a section for each function, what is linked for two operators is the union of what is linked for each: so the sections of every
operator alone, measured once, give the code of any set.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinynas.errors import InternalError
from tinynas.target.cores import Core
from tinynas.target.library import Tree, call, compile_source
from tinynas.target.probe import _SOURCES, link, operators_header

#: What lies in flash: code, constants, and the first content of variables.
FLASH_SECTIONS = (".text", ".rodata", ".data", ".init_array", ".vectors", ".ARM", ".glue", ".v4_bx", ".vfp11", ".iplt", ".rel")


@dataclass(frozen=True)
class Linked:
    """A program that was linked for a set of operators."""

    sections: Mapping[str, int]
    """Bytes of each input section that was kept, by "object: section"."""
    flash_bytes: int
    """Bytes of code, constants and initialised data in the file, padding included."""


def link_operators(tree: Tree, core: Core, library: Path, adds: Sequence[str]) -> Linked:
    """Link the least program whose resolver has ``adds`` (its methods, as ``AddConv2D``); the model itself is not in it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "probe_operators.h").write_text(operators_header(adds), encoding="utf-8")
        (folder / "model.cc").write_text(
            'extern "C" { extern const unsigned char tinynas_model[1]; const unsigned char tinynas_model[1] = {0}; }\n', encoding="utf-8"
        )
        flags = (*core.flags, f"-DTINYNAS_FLOAT_UNIT={int(core.float_unit)}", *tree.defines)
        flags = (*flags, "-ffunction-sections", "-fdata-sections", "-fno-exceptions", "-w", f"-I{folder}", *tree.includes)
        objects = []
        for source in (_SOURCES / "flash.cc", _SOURCES / "startup.cc", folder / "model.cc"):
            objects.append(folder / f"{source.stem}.o")
            compile_source(source, objects[-1], flags)
        target, chart = folder / "flash.elf", folder / "flash.map"
        link(core, [*objects, library], target, "--specs=nano.specs", f"-Wl,-Map={chart}")
        sizes = call(["arm-none-eabi-size", "-A", str(target)], "measure the program")
        return Linked(kept_sections(chart.read_text(encoding="utf-8", errors="replace")), flash_of(sizes))


def flash_of(sizes: str) -> int:
    """Bytes in flash by ``size -A``: everything allocated but what starts as zeros."""
    total = 0
    for name, size in re.findall(r"^(\.[\w.]+)\s+(\d+)\s+\d+$", sizes, re.MULTILINE):
        if name in {".text", ".data", ".ARM.extab", ".ARM.exidx", ".rodata"}:
            total += int(size)
    if not total:
        raise InternalError(f"no sizes in {sizes[:200]!r}")
    return total


def kept_sections(chart: str) -> dict[str, int]:
    """Input sections of a linker's map that lie in flash, with their bytes."""
    start = chart.find("Linker script and memory map")
    if start < 0:
        raise InternalError("the linker's map has no memory map")
    kept: dict[str, int] = {}
    pattern = re.compile(r"^ (\.[\w.$:]+|\*fill\*)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)(?: (.+))?$", re.MULTILINE)
    text = re.sub(r"^( \.[^\s]+)\n\s+0x", r"\1 0x", chart[start:], flags=re.MULTILINE)  # long names stand on a line of their own
    for section, _at, size, place in pattern.findall(text):
        if place and section.startswith(FLASH_SECTIONS) and int(size, 16):
            key = f"{Path(place).name.rpartition('/')[2]}: {section}"
            while key in kept:
                key += "'"
            kept[key] = int(size, 16)
    return kept
