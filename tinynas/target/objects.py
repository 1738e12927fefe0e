"""Reads object files and archives of a 32-bit ELF tool chain: sections with their bytes, alignment and strings."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinynas.errors import InternalError

_MERGE, _STRINGS, _GROUP = 0x10, 0x20, 0x200
_NO_BITS = 8


@dataclass(frozen=True)
class Section:
    """One input section of a linker."""

    name: str
    size_bytes: int
    alignment: int
    shared: bool
    """Whether it belongs to a group of which a linker keeps one copy, from whichever object comes first."""
    strings: tuple[bytes, ...]
    """What a linker merges with equal strings of other objects, without the final zero; empty for all else."""


def archive_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each member of a GNU archive. Raises InternalError for anything else."""
    data = path.read_bytes()
    if not data.startswith(b"!<arch>\n"):
        raise InternalError(f"{path} is no archive")
    at, names = 8, b""
    while at + 60 <= len(data):
        name, size = data[at : at + 16].decode("ascii").rstrip(), int(data[at + 48 : at + 58])
        body = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
        if name == "//":
            names = body
        elif name not in {"/", "/SYM64/"}:
            if name.startswith("/"):  # a long name: an offset into the table of names
                start = int(name[1:])
                name = names[start : names.index(b"/\n", start)].decode()
            yield name.rstrip("/"), body


def object_sections(data: bytes) -> list[Section]:
    """The sections of an object file. Raises InternalError for what is no 32-bit little-endian ELF."""
    if data[:6] != b"\x7fELF\x01\x01":
        raise InternalError("an object file is no 32-bit little-endian ELF")
    (headers,) = struct.unpack_from("<I", data, 32)
    each, count, names_at = struct.unpack_from("<3H", data, 46)
    rows = [struct.unpack_from("<10I", data, headers + each * number) for number in range(count)]
    names = data[rows[names_at][4] : rows[names_at][4] + rows[names_at][5]]
    found = []
    for name, kind, flags, _, offset, size, _, _, alignment, width in rows:
        merged = flags & _MERGE and flags & _STRINGS and width == 1 and kind != _NO_BITS
        strings = tuple(data[offset : offset + size].split(b"\0")[:-1]) if merged else ()
        if merged and alignment > 1:  # zeros fill up to the next string
            strings = _spaced(data[offset : offset + size], alignment)
        text = names[name : names.index(b"\0", name)].decode()
        found.append(Section(text, size, max(alignment, 1), bool(flags & _GROUP), strings))
    return found


def _spaced(content: bytes, alignment: int) -> tuple[bytes, ...]:
    strings, at = [], 0
    while at < len(content):
        end = content.index(b"\0", at)
        strings.append(content[at:end])
        at = (end + 1 + alignment - 1) // alignment * alignment
    return tuple(strings)
