"""Flash of the interpreter and its kernels: what a linker keeps for a set of operators, part by part.

With a section for each function, what is linked for two operators is the union of what is linked for each: so the parts of every
operator alone, measured once, give the code of any set. Three things would break that sum, and are counted so that they do not:
functions that several objects define (a linker keeps one copy), strings that several objects hold (equal ones are merged), and the
program that adds the operators, which grows with each.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tinynas.errors import InternalError
from tinynas.target.cores import Core
from tinynas.target.library import Tree, call, compile_source, kernel_defines
from tinynas.target.objects import Section, archive_members, object_sections
from tinynas.target.probe import _SOURCES, link
from tinynas.target.registrations import added, int8_functions, int8_includes

#: Input sections that lie in flash: code, constants, and the first content of variables.
FLASH_SECTIONS = (".text", ".rodata", ".data", ".init_array", ".vectors", ".ARM.ex", ".glue", ".v4_bx", ".vfp11", ".iplt")
#: Sections begin on even addresses or on multiples of 4; what they are rounded up to stands for the linker's fill between them.
_FILL = 4


@dataclass(frozen=True)
class Linked:
    """A program that was linked for a set of operators."""

    parts: Mapping[str, int]
    """Bytes of each section and string that was kept, by what it is in any program: "object: section", a section alone where objects
    share it, or a string. Their sum is up to 0.6 % more than :attr:`flash_bytes`: a linker also merges strings that end alike."""
    program_bytes: int
    """Bytes of the function that adds the operators and runs the model; not among the parts."""
    flash_bytes: int
    """Bytes of code, constants and initialised data in the file, padding included."""


def link_operators(tree: Tree, core: Core, library: Path, adds: Sequence[str]) -> Linked:
    """Link the least program whose resolver has ``adds``; the model itself is not in it.

    They are its methods, as ``AddMean``; ``AddConv2DInt8`` is ``AddConv2D`` with the kernel for int8 alone.
    """
    (linked,) = link_programs(tree, core, library, [adds])
    return linked


def link_programs(tree: Tree, core: Core, library: Path, programs: Sequence[Sequence[str]]) -> Iterator[Linked]:
    """Link a program for each set of resolver methods, all of them compiled at once. Raises UserError with the tool chain's words."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        objects = compile_programs(tree, core, library, programs, folder)
        for number in range(len(programs)):
            yield link_program(core, [*objects, library], folder / "flash.elf", program_name(number))


def program_name(number: int) -> str:
    """The function that is main in program ``number``."""
    return f"tinynas_program_{number}"


def compile_programs(tree: Tree, core: Core, library: Path, programs: Sequence[Sequence[str]], folder: Path) -> list[Path]:
    """Objects in ``folder`` that hold a program for each set of resolver methods (:func:`link_operators`), for the kernels of
    ``library``."""
    methods = sorted({name for adds in programs for name in adds})
    lines = [int8_includes(methods), int8_functions(methods, "TINYNAS")]
    for number, adds in enumerate(programs):
        calls = "; ".join(f"ok = {added(name)} == kTfLiteOk && ok" for name in adds)
        lines.append(f"PROGRAM({program_name(number)}, {max(len(adds), 1)}, {calls})\n")
    (folder / "flash_programs.h").write_text("".join(lines), encoding="utf-8")
    (folder / "model.cc").write_text(
        'extern "C" { extern const unsigned char tinynas_model[1]; const unsigned char tinynas_model[1] = {0}; }\n', encoding="utf-8"
    )
    return compile_all(tree, core, library, (_SOURCES / "flash.cc", _SOURCES / "startup.cc", folder / "model.cc"), folder)


def compile_all(tree: Tree, core: Core, library: Path, sources: Sequence[Path], folder: Path) -> list[Path]:
    """Objects of ``sources`` in ``folder`` for the kernels of ``library``, with a section for each function; headers may lie in
    ``folder`` too."""
    flags = (*core.flags, f"-DTINYNAS_FLOAT_UNIT={int(core.float_unit)}", *tree.defines, *kernel_defines(library))
    flags = (*flags, "-ffunction-sections", "-fdata-sections", "-fno-exceptions", "-w", f"-I{folder}", *tree.includes)
    objects = []
    for source in sources:
        objects.append(folder / f"{source.stem}.o")
        compile_source(source, objects[-1], flags)
    return objects


def link_program(core: Core, objects: Sequence[Path], target: Path, main: str | None = None) -> Linked:
    """Link ``objects`` into ``target``, with the function called ``main`` as main (None: theirs); what is not used is dropped."""
    chart = target.with_suffix(".map")
    named = () if main is None else (f"-Wl,--defsym=main={main}",)
    link(core, objects, target, "--specs=nano.specs", f"-Wl,-Map={chart}", *named)
    sizes = call(["arm-none-eabi-size", "-A", str(target)], "measure the program")
    parts = kept_parts(chart.read_text(encoding="utf-8", errors="replace"))
    program = sum(parts.pop(key) for key in list(parts) if main is not None and key.endswith(f": .text.{main}"))
    return Linked(parts, program, flash_of(sizes))


def flash_of(sizes: str) -> int:
    """Bytes in flash by ``size -A``: everything allocated but what starts as zeros."""
    total = 0
    for name, size in re.findall(r"^(\.[\w.]+)\s+(\d+)\s+\d+$", sizes, re.MULTILINE):
        if name in {".text", ".data", ".ARM.extab", ".ARM.exidx", ".rodata"}:
            total += int(size)
    if not total:
        raise InternalError(f"no sizes in {sizes[:200]!r}")
    return total


def kept_parts(chart: str) -> dict[str, int]:
    """What a linker's map says lies in flash: :attr:`Linked.parts`. Strings are read from the objects that the map names."""
    start = chart.find("Linker script and memory map")
    if start < 0:
        raise InternalError("the linker's map has no memory map")
    kept: dict[str, int] = {}
    text = re.sub(r"^( \.[^\s]+)\n\s+0x", r"\1 0x", chart[start:], flags=re.MULTILINE)  # long names stand on a line of their own
    for name, size, place in re.findall(r"^ (\.\S+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+) (\S.*)$", text, re.MULTILINE):
        if not name.startswith(FLASH_SECTIONS) or not int(size, 16):
            continue
        path, member = _place(place)
        found = _sections(path, member, _changed(path)).get(name)
        if found is None:  # made by the linker itself
            kept[f"linker: {name}"] = kept.get(f"linker: {name}", 0) + int(size, 16)
        elif found[0].strings:
            for section in found:
                for string in section.strings:
                    key = f"string {section.alignment}: {string.decode('latin-1')}"
                    kept[key] = _rounded(len(string) + 1, section.alignment)
        else:
            key = name if found[0].shared else f"{Path(path).name}({member}): {name}"
            while key in kept and not found[0].shared:
                key += "'"
            kept[key] = _rounded(int(size, 16), found[0].alignment)
    return kept


def _rounded(size: int, alignment: int) -> int:
    step = min(alignment, _FILL)
    return -(-size // step) * step


def _place(place: str) -> tuple[str, str]:
    archive, bracket, member = place.rpartition("(")
    return (archive, member.removesuffix(")")) if bracket and place.endswith(")") else (place, "")


def _changed(path: str) -> int | None:
    """When the file was written; None where it is none. A path is used again for other content."""
    return Path(path).stat().st_mtime_ns if Path(path).is_file() else None


@lru_cache(maxsize=2048)
def _sections(path: str, member: str, changed: int | None) -> Mapping[str, list[Section]]:
    if changed is None:
        return {}
    sections: dict[str, list[Section]] = {}
    for section in object_sections(_members(path, changed)[member] if member else Path(path).read_bytes()):
        sections.setdefault(section.name, []).append(section)
    return sections


@lru_cache(maxsize=8)
def _members(path: str, _changed: int) -> Mapping[str, bytes]:
    return dict(archive_members(Path(path)))


def classes_of(base: Linked, alone: Mapping[str, Linked]) -> dict[frozenset[str], int]:
    """Bytes that come with any of a set of operators, by that set: of ``base``, a program without operators, and of each one's own.

    What a set of operators takes is ``base.flash_bytes`` and every class that has one of them.
    """
    bringers: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    classes: dict[frozenset[str], int] = {}
    for name, linked in alone.items():
        for part in linked.parts.keys() - base.parts.keys():
            bringers.setdefault(part, set()).add(name)
            sizes[part] = max(sizes.get(part, 0), linked.parts[part])
        classes[frozenset({name})] = linked.program_bytes - base.program_bytes
    for part, names in bringers.items():
        classes[frozenset(names)] = classes.get(frozenset(names), 0) + sizes[part]
    return classes


def union_bytes(base_bytes: int, classes: Mapping[frozenset[str], int], names: Sequence[str]) -> int:
    """Bytes of a program with the operators ``names``."""
    chosen = frozenset(names)
    return base_bytes + sum(size for brought_by, size in classes.items() if brought_by & chosen)
