"""Flash of the runtime's code: what a linker keeps of the interpreter, the kernels and the C library for a set of operators.

The table ``code_flash.json`` was measured (benchmarks/flash_table.py): for each core, runtime and version of its sources the bytes of a
program without operators, and classes of code, each with the operators any of which brings it. So a program takes the former and
every class that has one of its operators; a piece that many kernels share is counted once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any, TypeAlias

from tinynas.cost.compiled import code_bytes
from tinynas.cost.flash import OP_FORMS
from tinynas.cost.runtimes import Evidence, runtime_named
from tinynas.cost.work import WEIGHT_BITS
from tinynas.target.registrations import Alone

#: What an operator's name ends in that is computed by a kernel for int8 alone, and for int8 with weights of 4 bits alone.
INT8, INT4 = "int8", "int4"
_KERNELS: Mapping[Alone, str] = {"int8": INT8, "int4": INT4}
Uses: TypeAlias = Mapping[str, frozenset[Alone]]
"""Operators -> what their uses compute, where that is not int8 alone."""


_INT8_ALONE: frozenset[Alone] = frozenset({"int8"})


@dataclass(frozen=True)
class Column:
    """Code as it was linked for one core from one version of a runtime."""

    core: str
    runtime: str
    version: str
    """As a runtime's name pins it: ``2026-10``, ``arduino``."""
    source: str
    """Digest of the sources, and the compiler."""
    base_bytes: int
    """Interpreter, C library and start-up of a program without operators."""
    firmware_bytes: int
    """What the firmware folder adds to the least program: image converter, classifier, self-test; without model and test images."""
    operators: frozenset[str]
    """Those whose kernels it has, in the spelling of :func:`spelled`; with :data:`INT8` or :data:`INT4` behind it, an operator's
    kernel for these alone."""
    classes: tuple[tuple[frozenset[str], int], ...]
    """(operators any of which brings it, bytes)."""

    def registered(self, operators: frozenset[str], uses: Uses) -> frozenset[str]:
        """What a program adds for ``operators``: kernels for what their ``uses`` compute alone where there are any, for int8 where they
        are not given; the general ones for others."""
        found: set[str] = set()
        for name in operators:
            asked = uses.get(name, _INT8_ALONE)
            kernels = {name + _KERNELS[one] for one in asked if one}
            found |= kernels if "" not in asked and kernels <= self.operators else {name}
        return frozenset(found)

    def bytes_of(self, operators: frozenset[str]) -> int | None:
        """Bytes of a program with ``operators``; None where it lacks one of them."""
        if not operators <= self.operators:
            return None
        return self.base_bytes + sum(size for brought_by, size in self.classes if brought_by & operators)


@dataclass(frozen=True, slots=True)
class Code:
    """Flash beside the model."""

    runtime_bytes: int
    """Interpreter, kernels of the network's operators, C library; for generated code the generator's library."""
    firmware_bytes: int
    """The code that tinynas writes around the model; 0 for runtimes that do not run it."""
    evidence: Evidence
    note: str
    """From what the figure comes."""

    @property
    def total_bytes(self) -> int:
        """Both."""
        return self.runtime_bytes + self.firmware_bytes


def spelled(kind: str) -> str:
    """An operator's name as the table has it: of a kind of :data:`tinynas.graph.Kind`, or a TFLite name in any case."""
    form: Any = OP_FORMS.get(kind)  # type: ignore[call-overload]
    return (form.builtin if form is not None else kind).replace("_", "").lower()


def parse_columns(document: Mapping[str, Any]) -> tuple[Column, ...]:
    """The columns of a table as its file holds it: sets of operators as bits, one number of bytes for each column."""
    names = document["operators"]
    sets = [(_members(names, bits), sizes) for bits, sizes in document["classes"]]
    return tuple(
        Column(
            core=column["core"],
            runtime=column["runtime"],
            version=column["version"],
            source=f"{column['digest']}, {column['compiler']}",
            base_bytes=column["base_bytes"],
            firmware_bytes=column["firmware_bytes"],
            operators=_members(names, column["operators"]),
            classes=tuple((brought_by, sizes[number]) for brought_by, sizes in sets if sizes[number]),
        )
        for number, column in enumerate(document["columns"])
    )


def _members(names: list[str], bits: str) -> frozenset[str]:
    mask = int(bits, 16)
    return frozenset(name for number, name in enumerate(names) if mask >> number & 1)


@cache
def columns() -> tuple[Column, ...]:
    """The measured table."""
    return parse_columns(json.loads((resources.files("tinynas.cost") / "code_flash.json").read_text(encoding="utf-8")))


def code_of(kinds: Iterable[str], runtime: str, core: str | None, uses: Iterable[tuple[str, Alone]] = ()) -> Code | None:
    """Flash of the code that runs operators of ``kinds``; None where it is not known.

    ``uses`` are (kind, what it computes) of each operator, or of those alone that are not int8 in every use: they take the kernels for
    int8 and for weights of 4 bits alone, or general ones, as the firmware folder adds them.
    ``runtime`` may pin a version (``tflm-cmsis-nn@arduino``); else it is the largest of the versions measured. A core or runtime
    that was not measured gets the largest of those that were, as a bound.
    """
    known = runtime_named(runtime)
    if known.code == "linked":
        return _linked(frozenset(kinds), runtime, core, frozenset(uses))
    if known.code == "compiled":
        assert known.frame is not None
        bits: dict[str, frozenset[int]] = {}
        for kind, alone in uses:
            bits[spelled(kind)] = bits.get(spelled(kind), frozenset()) | {WEIGHT_BITS[alone]}
        size, measured = code_bytes(map(spelled, kinds), core, known.frame, bits)
        if known.stream:  # its driver is smaller than that of rows, its mean somewhat larger
            return Code(size, 0, "bound", "what compiled-rows takes")
        note = "as linked for Cortex-M0+, M3, M4, M7, M33 and M55, kernel by kernel, within 0.2 kB of the linker's figure"
        return (
            Code(size, 0, "fitted", note) if measured else Code(size, 0, "bound", f"{core or 'the core'} was not measured; the most {note}")
        )
    return None if known.code is None else Code(known.code, 0, *known.evidence["code"])


@lru_cache(maxsize=4096)
def _linked(kinds: frozenset[str], name: str, core: str | None, uses: frozenset[tuple[str, Alone]]) -> Code | None:
    found: dict[str, frozenset[Alone]] = {}
    for kind, alone in uses:
        found[spelled(kind)] = found.get(spelled(kind), frozenset()) | {alone}
    return linked_code(columns(), frozenset(map(spelled, kinds)), name, core, found)


def general(operators: Iterable[str]) -> Uses:
    """Uses of ``operators`` that take the general kernels."""
    return dict.fromkeys(operators, frozenset({""}))


def linked_code(table: Iterable[Column], operators: frozenset[str], name: str, core: str | None, uses: Uses | None = None) -> Code | None:
    """The code of ``operators`` by a ``table``: see :func:`code_of`."""
    plain, _, version = name.partition("@")
    of_core = [column for column in table if column.core == core] or list(table)
    of_runtime = [column for column in of_core if column.runtime == plain] or of_core
    chosen = [column for column in of_runtime if column.version == version] or of_runtime
    # Nobody knows what kernels of another runtime leave out.
    sets = [(column, column.registered(operators, (uses or {}) if column.runtime == plain else general(operators))) for column in chosen]
    known = [(size, column) for column, added in sets if (size := column.bytes_of(added)) is not None]
    if not known:
        return None
    size, largest = max(known, key=lambda one: one[0])
    said = f"as linked for {largest.core} with {largest.runtime} ({largest.version})"
    measured = (largest.core, largest.runtime) == (core, plain) and version in {"", largest.version}
    if not measured:
        what = f"{name} on {core}" if core is not None else f"{name} on a core that is not named"
        return Code(size, largest.firmware_bytes, "bound", f"{what} was not measured; the largest of those measured: {said}")
    return Code(size, largest.firmware_bytes, "fitted", f"{said}; sums of parts, within 1 % of the linker's figure")
