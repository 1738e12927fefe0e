"""The board table: microcontroller boards with their memory and where each figure comes from.

``boards.csv`` holds facts only. SRAM is what one program can use contiguously, flash what is left for program and
model. ``board_regions.csv`` has the memories of boards with several, and what a program usually puts there. What a network
may use of it is a budget's business: ``tinynas init --board NAME`` writes one.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

from tinynas.config import parse_size
from tinynas.errors import UserError
from tinynas.regions import USES, Use


@dataclass(frozen=True)
class BoardRegion:
    """One of several memories of a board."""

    name: str
    size_bytes: int
    slow: bool
    """Behind a bus that is many times slower than the core."""
    use: tuple[Use, ...]
    """What a program usually puts there."""
    source: str


@dataclass(frozen=True)
class Board:
    """One board as sold."""

    name: str
    """Short name, as ``tinynas init --board`` takes it."""
    board: str
    """Name as sold."""
    mcu: str
    core: str
    clock_mhz: float
    sram_bytes: int
    """Contiguous SRAM for one program."""
    flash_bytes: int
    """Flash for program and model."""
    note: str
    source: str
    regions: tuple[BoardRegion, ...] = ()
    """The memories of a board with several; none: all lies in one of ``sram_bytes``."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


@cache
def boards() -> tuple[Board, ...]:
    """All boards of the table, in its order."""
    regions: dict[str, list[BoardRegion]] = {}
    for row in _rows("board_regions.csv"):
        uses = [use for use in USES if use in row["use"].split()]
        found = BoardRegion(row["region"], parse_size(row["size"]), row["slow"] == "slow", tuple(uses), row["source"])
        regions.setdefault(row["board"], []).append(found)
    return tuple(
        Board(
            name=row["name"],
            board=row["board"],
            mcu=row["mcu"],
            core=row["core"],
            clock_mhz=float(row["clock_mhz"]),
            sram_bytes=parse_size(row["sram"]),
            flash_bytes=parse_size(row["flash"]),
            note=row["note"],
            source=row["source"],
            regions=tuple(regions.get(row["name"], ())),
        )
        for row in _rows("boards.csv")
    )


def _rows(name: str) -> csv.DictReader[str]:
    return csv.DictReader((resources.files("tinynas") / name).read_text(encoding="utf-8").splitlines())


def find_board(name: str) -> Board:
    """The board called ``name`` (case, spaces and dashes do not matter; its name as sold will do too).

    Raises UserError with the nearest names.
    """
    wanted = _plain(name)
    for board in boards():
        if wanted in (_plain(board.name), _plain(board.board)):
            return board
    by_key = {_plain(key): board.name for board in boards() for key in (board.mcu, board.board, board.name)}
    near = dict.fromkeys(by_key[key] for key in difflib.get_close_matches(wanted, by_key, n=3, cutoff=0.5))
    remedy = f"did you mean {', '.join(near)}?" if near else "list them with: tinynas init --boards"
    raise UserError(f"no board called {name!r} in the board table", remedy)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
