"""Reads flatbuffers that come from strangers: every offset, length and index is checked before use.

A broken file gives a ModelFileError and nothing else, and reading is bounded: lists that many tables share are paid for each time
they are read, out of an allowance that no file of a sane writer comes near.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TypeAlias

from tinynas.errors import ModelFileError

#: Items of one list.
_MAX_ITEMS = 100_000
#: Items of all lists and bytes of all texts that are read, beside one for each byte of the file.
_ALLOWANCE = 1_000_000
_MAX_TEXT = 1_000
#: Fields of one table; the schema's largest has 20.
_MAX_FIELDS = 1_000

U8, U16, U32, U64 = (struct.Struct("<" + c) for c in "BHIQ")
I8, I32, I64 = (struct.Struct("<" + c) for c in "biq")
_F32 = struct.Struct("<f")
_Truth: TypeAlias = bool


def broken(what: str) -> ModelFileError:
    """The error for a file whose structure is not sound."""
    return ModelFileError(f"the file is broken: {what}", "copy or export the model again")


class Reader:
    """Bound-checked little-endian reads in ``data``."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = _ALLOWANCE + len(data)
        self._table = -1
        """The table whose fields were looked up last."""
        self._fields: tuple[int, ...] = ()

    def unpack(self, form: struct.Struct, at: int) -> int:
        """The number of ``form`` at byte ``at``."""
        if not 0 <= at <= len(self.data) - form.size:
            raise broken(f"it points to byte {at:,}, outside its {len(self.data):,} B")
        value: int = form.unpack_from(self.data, at)[0]
        return value

    def f32(self, at: int) -> float:
        """The float at byte ``at``."""
        if not 0 <= at <= len(self.data) - 4:
            raise broken(f"it points to byte {at:,}, outside its {len(self.data):,} B")
        value: float = _F32.unpack_from(self.data, at)[0]
        return value

    def pay(self, count: int) -> None:
        """Count ``count`` items as read. Raises ModelFileError when the file makes its reader read too much."""
        self.left -= count
        if self.left < 0:
            raise broken("its lists are read again and again, for more items than a model of its size can have")

    def field(self, table: int, number: int) -> int:
        """Position of field ``number`` of the table at ``table``; 0 where it is left at its default."""
        if table != self._table:
            vtable = table - self.unpack(I32, table)
            count = self.unpack(U16, vtable) // 2 - 2
            if not 0 <= count <= _MAX_FIELDS or vtable + 4 + 2 * count > len(self.data):
                raise broken(f"a table at byte {table:,} claims {count} fields")
            self._table, self._fields = table, struct.unpack_from(f"<{count}H", self.data, vtable + 4)
        offset = self._fields[number] if number < len(self._fields) else 0
        return table + offset if offset else 0

    def scalar(self, table: int, number: int, form: struct.Struct, default: int = 0) -> int:
        """The number in field ``number``."""
        at = self.field(table, number)
        return self.unpack(form, at) if at else default

    def child(self, table: int, number: int) -> int:
        """Position of the table or vector in field ``number``; 0 where there is none."""
        at = self.field(table, number)
        return at + self.unpack(U32, at) if at else 0

    def vector(self, table: int, number: int, item_bytes: int, *, limit: int = _MAX_ITEMS) -> tuple[int, int]:
        """(position of the first item, number of items) of the vector in field ``number``."""
        at = self.child(table, number)
        if not at:
            return 0, 0
        count = self.unpack(U32, at)
        if count > limit or at + 4 + count * item_bytes > len(self.data):
            raise broken(f"a list at byte {at:,} claims {count:,} items")
        return at + 4, count

    def ints(self, table: int, number: int, *, limit: int = _MAX_ITEMS) -> tuple[int, ...]:
        """The int32 vector in field ``number``."""
        at, count = self.vector(table, number, 4, limit=limit)
        self.pay(count)
        return struct.unpack_from(f"<{count}i", self.data, at) if count else ()

    def tables(self, table: int, number: int) -> list[int]:
        """Positions of the tables in the vector in field ``number``."""
        at, count = self.vector(table, number, 4)
        self.pay(count)
        return [at + 4 * i + self.unpack(U32, at + 4 * i) for i in range(count)]

    def text(self, table: int, number: int) -> str:
        """The string in field ``number``, at most its first 1,000 bytes."""
        at, count = self.vector(table, number, 1)
        count = min(count, _MAX_TEXT)
        self.pay(count)
        return self.data[at : at + count].decode("utf-8", "replace") if count else ""


@dataclass(frozen=True, slots=True)
class Options:
    """An operator's table of options, read field by field; an absent table has all fields at their defaults.

    Field numbers and defaults are those of TensorFlow Lite's schema. Raises ModelFileError where the table is broken.
    """

    type: int = 0
    """Which table of the schema's union BuiltinOptions it is; 0 where there is none."""
    reader: Reader | None = field(default=None, repr=False, compare=False)
    at: int = 0

    def _field(self, number: int) -> tuple[Reader, int]:
        if self.reader is None or not self.at:
            return _NOTHING, 0
        return self.reader, self.reader.field(self.at, number)

    def _number(self, number: int, form: struct.Struct, default: int) -> int:
        reader, at = self._field(number)
        return reader.unpack(form, at) if at else default

    def i32(self, number: int, default: int = 0) -> int:
        """The int32 of field ``number``."""
        return self._number(number, I32, default)

    def u32(self, number: int, default: int = 0) -> int:
        """The uint32 of field ``number``."""
        return self._number(number, U32, default)

    def i8(self, number: int, default: int = 0) -> int:
        """The int8 of field ``number``: how enumerations are stored."""
        return self._number(number, I8, default)

    def f32(self, number: int, default: float = 0.0) -> float:
        """The float of field ``number``."""
        reader, at = self._field(number)
        return reader.f32(at) if at else default

    def ints(self, number: int) -> tuple[int, ...]:
        """The int32 vector of field ``number``."""
        return () if self.reader is None or not self.at else self.reader.ints(self.at, number)

    def text(self, number: int) -> str:
        """The string of field ``number``."""
        return "" if self.reader is None or not self.at else self.reader.text(self.at, number)

    def bool(self, number: int, default: int = 0) -> _Truth:
        """The truth value of field ``number``."""
        return self._number(number, U8, default) != 0


_NOTHING = Reader(b"")
#: Of an operator without a table.
NO_OPTIONS = Options()
