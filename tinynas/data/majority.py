"""Which kind of files a place holds most of: images, sounds, or features in files, by their endings."""

from __future__ import annotations

import os
from collections import Counter
from itertools import islice
from pathlib import Path

SOUNDS = frozenset({".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".w64"})
IMAGES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".dib",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tif",
        ".tiff",
        ".gif",
        ".jp2",
        ".avif",
    }
)
FEATURES = frozenset({".bin"})
ENOUGH = 5000
"""So many files are looked at, and so many lines of a table."""


def most_of(place: Path) -> str | None:
    """``"images"``, ``"sounds"`` or ``"features"``: what most files below a folder are, or most that a table names; None for neither."""
    try:
        names = _below(place) if place.is_dir() else _named_in(place)
        kinds = Counter(kind for name in names if (kind := _kind(name)) is not None)
    except OSError:
        return None
    if not kinds and not place.is_dir():
        return most_of(place.parent)  # a table that leaves the endings out
    # Models and weights are .bin files too: beside anything else they do not count.
    if len(kinds) > 1:
        del kinds["features"]
    return kinds.most_common(1)[0][0] if kinds else None


def _kind(name: str) -> str | None:
    end = os.path.splitext(name.strip().lower())[1]  # noqa: PTH122
    return "sounds" if end in SOUNDS else "images" if end in IMAGES else "features" if end in FEATURES else None


def _below(folder: Path) -> list[str]:
    found: list[str] = []
    for _, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += files[: ENOUGH - len(found)]
        if len(found) >= ENOUGH:
            break
    return found


def _named_in(table: Path) -> list[str]:
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", errors="replace") as file:
        return [
            cell.strip("\"' ") for line in islice(file, ENOUGH) for cell in line.replace(";", ",").replace("\t", ",").rstrip().split(",")
        ]
