"""The thresholds of several labels at once in the .tflite's own metadata: in the place of spaces, so that the file is not a byte longer.

tinynas's metadata are one JSON object, filled up with spaces to a size that is known before training (:mod:`tinynas.cost.flash`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

THRESHOLDS = "thresholds"
"""The key: of each output, in its own steps, from where on its class is there."""


def with_thresholds(model: bytes, raw: Sequence[int]) -> bytes:
    """``model`` with the thresholds of its outputs in its metadata; as it is where it has none of tinynas's, or they have no room."""
    begin = model.find(b'{"tinynas":')
    # A vector of bytes in a flatbuffer: its length lies before it.
    text = model[begin : begin + int.from_bytes(model[begin - 4 : begin], "little")] if begin >= 4 else b""
    old = text.rstrip(b" ")
    new = old[:-1] + f',"{THRESHOLDS}":{json.dumps([int(value) for value in raw], separators=(",", ":"))}}}'.encode()
    if not old.endswith(b"}") or len(new) > len(text):
        return model
    return model[:begin] + new.ljust(len(text)) + model[begin + len(text) :]


def told_thresholds(metadata: object, classes: int) -> tuple[int, ...] | None:
    """The thresholds of ``classes`` outputs by a file's ``metadata``; None where they say none, or none that fit."""
    said = metadata.get(THRESHOLDS) if isinstance(metadata, dict) else None
    if not isinstance(said, list) or len(said) != classes or not all(type(value) is int and -255 <= value <= 511 for value in said):
        return None
    return tuple(said)
