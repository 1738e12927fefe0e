"""Networks beside boards: what fits where, and which limit decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinynas.boards import boards as known_boards
from tinynas.boards import find_board
from tinynas.budget import Budget, load_budget
from tinynas.config import build, parse_yaml, shipped
from tinynas.cost import Cost
from tinynas.cost.quantities import QUANTITIES
from tinynas.errors import UnrunError, UserError
from tinynas.init import budget_text


@dataclass(frozen=True)
class Fit:
    """One network on one board."""

    net: str
    board: str
    budget: Budget
    cost: Cost | None
    """None where the runtime does not run the network, and nothing is known of it there."""
    refused: tuple[str, ...] = ()
    """Why there is no cost."""

    @property
    def runs(self) -> bool | None:
        """Whether the board's runtime runs it; None where that is not known."""
        return False if self.cost is None else self.cost.runs

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it does not."""
        return self.refused if self.cost is None else self.cost.reasons

    @property
    def excess(self) -> dict[str, float]:
        """(value - limit) / limit for each limit of the board's budget; :data:`tinynas.budget.UNKNOWN` where nothing is known."""
        return self.budget.excess({} if self.cost is None else self.cost)

    @property
    def fits(self) -> bool:
        """Whether no limit is exceeded."""
        return self.cost is not None and self.budget.fits(self.cost)

    @property
    def binding(self) -> str:
        """The quantity whose limit is exceeded most, or is nearest."""
        excess = self.excess
        return max(excess, key=lambda name: excess[name])

    def to_json(self) -> dict[str, Any]:
        """A row of ``compare --json``."""
        return {
            "net": self.net,
            "board": self.board,
            "runtime": self.budget.runtime,
            "runs": self.runs,
            "reasons": list(self.reasons),
            **(dict.fromkeys(QUANTITIES) if self.cost is None else self.cost.values()),
            **self.budget.told(self.cost),
            "binding": self.binding,
        }


def board_budget(name: str) -> Budget:
    """What a network may use on the board called ``name``: a budget YAML, a shipped budget, or a board of the table with the reserves
    that ``tinynas init --board`` writes. Raises UserError with the nearest names.
    """
    if name in shipped("budgets") or name.endswith((".yaml", ".yml")) or Path(name).is_file():
        return load_budget(name)
    board = find_board(name)
    source = f"board {board.name}"
    return build(parse_yaml(budget_text(board), source)[0], Budget, source=source)


def all_boards() -> tuple[str, ...]:
    """Names of every board of the table."""
    return tuple(board.name for board in known_boards())


def compare(nets: Sequence[str], boards: Sequence[str], estimate: Callable[[str, Budget], Cost]) -> list[Fit]:
    """Every network on every board, worst first: what does not run, then by how far the binding limit is exceeded.

    ``estimate`` gives the cost of a network under a budget; that a runtime does not run one is a row like all others. Raises UserError
    where one is named twice or none is named.
    """
    for what, names in (("network", nets), ("board", boards)):
        if not names:
            raise UserError(f"no {what} is given", f"name at least one {what}")
        if twice := sorted({name for name in names if list(names).count(name) > 1}):
            raise UserError(f"the {what} {twice[0]} is given twice", "name each once")
    budgets = {name: board_budget(name) for name in boards}
    fits = [_fit(net, board, budget, estimate) for net in nets for board, budget in budgets.items()]
    return sorted(fits, key=lambda fit: (fit.runs is not False, -fit.excess[fit.binding]))


def _fit(net: str, board: str, budget: Budget, estimate: Callable[[str, Budget], Cost]) -> Fit:
    try:
        return Fit(net, board, budget, estimate(net, budget))
    except UnrunError as error:
        return Fit(net, board, budget, None, error.reasons)


def by_board(fits: Sequence[Fit]) -> Mapping[str, Sequence[Fit]]:
    """``fits`` by board, the board on which a network is furthest over its limits first."""
    rows: dict[str, list[Fit]] = {}
    for fit in fits:
        rows.setdefault(fit.board, []).append(fit)
    return rows
