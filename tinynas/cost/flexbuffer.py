"""Reads the numbers of a flexbuffer's map: how custom operators carry their options. Whatever is broken in it gives no numbers."""

from __future__ import annotations

_INT, _UINT, _INDIRECT_INT, _INDIRECT_UINT, _MAP, _BOOL = 1, 2, 6, 7, 9, 26
_MOST_ENTRIES = 1_000


def map_integers(data: bytes) -> dict[str, int]:
    """The integers and truth values of the map at the root of ``data``, by name; {} where there is no sound map."""
    try:
        return _integers(data)
    except (IndexError, UnicodeDecodeError):
        return {}


def _integers(data: bytes) -> dict[str, int]:
    # The end of the buffer: root value, its packed type (type << 2 | log2 of the width of its items), its width.
    width, packed = data[-1], data[-2]
    if packed >> 2 != _MAP:
        return {}
    place = len(data) - 2 - width
    item = 1 << (packed & 3)
    at = place - _number(data, place, width)
    count = _number(data, at - item, item)
    if count > _MOST_ENTRIES:
        return {}
    keys_place, keys_item = at - 3 * item, _number(data, at - 2 * item, item)
    keys = keys_place - _number(data, keys_place, item)
    found = {}
    for index in range(count):
        name_place = keys + index * keys_item
        name_at = name_place - _number(data, name_place, keys_item)
        value_place, value_type = at + index * item, _number(data, at + count * item + index, 1)
        kind, size = value_type >> 2, item
        if kind in {_INDIRECT_INT, _INDIRECT_UINT}:
            value_place, size = value_place - _number(data, value_place, item), 1 << (value_type & 3)
        elif kind not in {_INT, _UINT, _BOOL}:
            continue
        signed = kind in {_INT, _INDIRECT_INT}
        found[_text(data, name_at)] = _number(data, value_place, size, signed=signed)
    return found


def _number(data: bytes, at: int, width: int, *, signed: bool = False) -> int:
    if width not in {1, 2, 4, 8} or not 0 <= at <= len(data) - width:
        raise IndexError
    return int.from_bytes(data[at : at + width], "little", signed=signed)


def _text(data: bytes, at: int) -> str:
    if not 0 <= at < len(data):
        raise IndexError
    end = data.find(b"\0", at, at + 200)
    return data[at : end if end >= 0 else at].decode()
