"""Broken model files, made from a good one: for the tests and the benchmark of what is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator


def broken_files(good: bytes, *, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``count`` pairs (what was done, file): flipped bits, overwritten words, cut ends, swapped pieces, foreign content."""
    draw = random.Random(seed)
    structure = min(len(good), 6000)  # offsets and tables lie in front; weights behind them may be anything
    for index in range(count):
        data = bytearray(good)
        kind = index % 8
        if kind == 0:
            at = draw.randrange(structure)
            data[at] ^= 1 << draw.randrange(8)
            yield f"bit flip at {at}", bytes(data)
        elif kind == 1:
            places = [draw.randrange(len(data)) for _ in range(64)]
            for at in places:
                data[at] ^= 1 << draw.randrange(8)
            yield "64 bit flips anywhere", bytes(data)
        elif kind == 2:
            at = draw.randrange(structure // 4) * 4
            data[at : at + 4] = draw.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80", draw.randbytes(4)])
            yield f"word overwritten at {at}", bytes(data)
        elif kind == 3:
            yield "cut off", bytes(data[: draw.randrange(len(data))])
        elif kind == 4:
            first, second = sorted(draw.randrange(structure // 4) * 4 for _ in range(2))
            data[first : first + 4], data[second : second + 4] = data[second : second + 4], data[first : first + 4]
            yield f"words swapped at {first}, {second}", bytes(data)
        elif kind == 5:
            at, length = draw.randrange(structure), draw.randrange(4, 400)
            data[at : at + length] = draw.randbytes(length)
            yield f"{length} random bytes at {at}", bytes(data)
        elif kind == 6:
            for _ in range(4):
                at = draw.randrange(8, structure)
                data[at] = draw.randrange(256)
            yield "four bytes of the structure", bytes(data)
        else:
            foreign = [b"", b"\x89PNG\r\n\x1a\n" + draw.randbytes(500), b"PK\x03\x04" + draw.randbytes(200), draw.randbytes(4000)]
            foreign += [
                b"\x1c\0\0\0TFL3" + draw.randbytes(draw.randrange(4000)),
                bytes(data[:8]) + bytes(4000),
                b"#!/bin/sh\n",
                bytes(5000),
            ]
            yield "foreign file", draw.choice(foreign)
