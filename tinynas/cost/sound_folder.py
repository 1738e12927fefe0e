"""Flash of what stands between a front end and an answer in the folder of a network as C: what hears, the classifier, the labels.

Code was measured of linked programs (sound_folder.json, written by benchmarks/sound_folder.py); tables and labels follow from the classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Literal

from tinynas.cost.flash import LABEL_BYTES

#: How much of sound the network takes in one call: a whole clip, or one frame of a stream.
Around = Literal["clip", "frame"]
#: More than the most that was measured: other numbers of frames and classes take a few other instructions.
SPARE_CODE_BYTES = 64
#: The table of e^-x by which a stream that tells one class has its chances: a number of two bytes for each step of an output, at most 256.
CHANCES_BYTES = 512
#: Two tables of thresholds, of two bytes a class, where several classes may be there at once.
_THRESHOLD_TABLES, _THRESHOLD_BYTES = 2, 2
_POINTER_BYTES = 4


@lru_cache(maxsize=1)
def measured() -> Mapping[str, Mapping[str, int]]:
    """Core -> what the network takes and what is told (``clip one``, ``frame several``) -> bytes of code, by arm-none-eabi-gcc 12.2 at
    -O2, the C library's functions included."""
    found: Mapping[str, Mapping[str, int]] = json.loads(
        resources.files("tinynas.cost").joinpath("sound_folder.json").read_text(encoding="utf-8")
    )
    return found


def around_bytes(takes: Around, classes: int, core: str | None) -> int:
    """Bytes of flash that are promised for what stands around front end and network, whatever is told: one class of the ``classes`` or
    several at once. Labels have :data:`tinynas.cost.flash.LABEL_BYTES` each on average, their ends included; :func:`longer_bytes` says
    what others take more. On a ``core`` that was not measured the most of those that were."""
    own = None if core is None else measured().get(core)
    tables = tuple(measured().values()) if own is None else (own,)
    constants = table_bytes(takes, classes)
    code = max(table[f"{takes} {told}"] + constants[told] for table in tables for told in constants)
    return code + SPARE_CODE_BYTES + classes * (_POINTER_BYTES + LABEL_BYTES)


def table_bytes(takes: Around, classes: int) -> dict[str, int]:
    """By what is told (``one``, ``several``): bytes of its tables, at most; the labels aside."""
    return {"one": CHANCES_BYTES * (takes == "frame"), "several": _THRESHOLD_TABLES * _aligned(_THRESHOLD_BYTES * classes)}


def label_bytes(labels: Sequence[str]) -> int:
    """Bytes that ``labels`` take in C: a pointer, and the text in UTF-8 with its end, on full words."""
    return sum(_POINTER_BYTES + _aligned(len(label.encode()) + 1) for label in labels)


def longer_bytes(labels: Sequence[str]) -> int:
    """Bytes that ``labels`` take more than :func:`around_bytes` promises for them."""
    return max(0, label_bytes(labels) - len(labels) * (_POINTER_BYTES + LABEL_BYTES))


def _aligned(size: int) -> int:
    return -(-size // 4) * 4
