"""Figures about networks beside boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log2
from typing import Any

from tinynas.budget import UNKNOWN
from tinynas.report.search_figures import Drawing
from tinynas.report.words import amount, percent, short_names, title


@dataclass(frozen=True)
class Cell:
    """One network on one board."""

    share: float | None
    """Of the binding limit that is used; None: it does not run there, or the figure is not known."""
    fits: bool
    text: str
    """In the cell; says all that its color says."""
    lines: tuple[str, ...]
    """For people: each limit with what is used of it, or why the network does not run."""


@dataclass(frozen=True)
class CompareInfo:
    """Networks across, boards down, the worst first."""

    nets: tuple[str, ...]
    boards: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    """By board and network."""

    @property
    def fitting(self) -> int:
        """Boards on which every network fits."""
        return sum(all(cell.fits for cell in row) for row in self.cells)


def compare_info(rows: Sequence[Mapping[str, Any]], nets: Sequence[str]) -> CompareInfo:
    """From the rows of ``tinynas compare NET... --json``: networks in the order of ``nets``, boards in that of the rows."""
    boards = tuple(dict.fromkeys(row["board"] for row in rows))
    found = {(row["board"], row["net"]): _cell(row) for row in rows}
    return CompareInfo(tuple(nets), boards, tuple(tuple(found[board, net] for net in nets) for board in boards))


def _cell(row: Mapping[str, Any]) -> Cell:
    if row["runs"] is False:
        return Cell(None, False, "does not run", tuple(row["reasons"]) or ("the runtime refuses it",))
    lines = [f"{title(name)} {amount(name, row[name])} of {amount(name, limit)}" for name, limit in row["limits"].items()]
    lines += [f"{title(name)} {amount(name, row[name])}" for name in ("latency_ms",) if name not in row["limits"] and row[name] is not None]
    over, what = row["excess"][row["binding"]], title(row["binding"])
    if over >= UNKNOWN:
        return Cell(None, False, f"{what} not known", tuple(lines))
    return Cell(1 + over, row["fits"], f"{'fits' if row['fits'] else 'no'}, {what} {percent(1 + over, 0)}", tuple(lines))


#: Letters of a name that a column has room for.
_LETTERS = 26
#: Times a limit from which on the color stays the same.
_MOST = 8.0


def _heat(cell: Cell) -> float:
    """0 to 1: the share of a limit that is kept; 1 to 2: on a log scale by how much it is exceeded."""
    if cell.share is None:
        return 2.0
    return cell.share if cell.fits else 1.0 + max(1e-3, min(1.0, log2(max(cell.share, 1.0)) / log2(_MOST)))


def draw_compare(info: CompareInfo) -> Drawing:
    """A cell for each network on each board: the limit that decides and the share of it that is used."""
    # Names are untrusted text: escaped, and kept off the axes' own parsing by numeric positions.
    nets = [escape(net if len(net) <= _LETTERS else "…" + net[1 - _LETTERS :]) for net in short_names(info.nets)]
    boards = [escape(board if len(board) <= _LETTERS else "…" + board[1 - _LETTERS :]) for board in info.boards]
    heat: dict[str, Any] = {
        "type": "heatmap",
        "x": list(range(len(nets))),
        "y": list(range(len(boards))),
        "z": [[_heat(cell) for cell in row] for row in info.cells],
        "text": [[escape(cell.text).replace("no, ", "<b>no</b>, ", 1) for cell in row] for row in info.cells],
        "texttemplate": "%{text}",
        "textfont": {"size": 11.5, "color": "@ink"},
        "customdata": [
            [f"<b>{net}</b> on <b>{board}</b><br>{'<br>'.join(map(escape, cell.lines))}" for net, cell in zip(nets, row, strict=True)]
            for board, row in zip(boards, info.cells, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "zmin": 0,
        "zmax": 2,
        "colorscale": [[0, "@low"], [0.5, "@full"], [0.5, "@over"], [1, "@beyond"]],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }
    tick = {"tickmode": "array", "showgrid": False, "ticks": ""}
    return {
        "data": [heat],
        "layout": {
            "xaxis": {**tick, "tickvals": heat["x"], "ticktext": nets, "side": "top", "tickangle": 0},
            "yaxis": {**tick, "tickvals": heat["y"], "ticktext": boards, "autorange": "reversed"},
            "width": 230 + 175 * len(nets),
            "height": 70 + 25 * len(boards),
        },
    }
