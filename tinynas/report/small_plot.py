"""A small plot of the front for the terminal: accuracy over a cost, while a search runs. Drawn by plotext."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from tinynas.cost.quantities import QUANTITIES
from tinynas.report.words import amount, percent, title

#: Terminals with less room than this show the bar alone.
MIN_WIDTH, MIN_HEIGHT = 40, 20
MAX_WIDTH, HEIGHT = 76, 9

Point = tuple[float, float, bool]
"""(cost, accuracy, whether it is on the front)."""


def staircase(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """The front as a line: costs and accuracies of its corners. Up to the next network's cost nothing better than the last is known."""
    xs: list[float] = []
    ys: list[float] = []
    for x, y, on_front in sorted(points):
        if on_front:
            if xs:
                xs.append(x)
                ys.append(ys[-1])
            xs.append(x)
            ys.append(y)
    return xs, ys


@dataclass(frozen=True)
class FrontPlot:
    """The networks trained so far, the front among them as a line; nothing where there is no room or fewer than two networks."""

    points: Sequence[Point]
    cost: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if len(self.points) < 2 or options.max_width < MIN_WIDTH or console.size.height < MIN_HEIGHT:
            return
        ascii_only = options.ascii_only
        yield Text.assemble("accuracy over ", title(self.cost), ": ", ("o", "green"), " front, ", (_dot(ascii_only), "blue"), " others")
        yield self.drawing(min(options.max_width - 1, MAX_WIDTH), HEIGHT, ascii_only)

    def drawing(self, width: int, height: int, ascii_only: bool) -> Text:
        """``height`` lines of at most ``width`` columns; colors are rich's, which drops them where they are not wanted."""
        import plotext as plt

        scaled = QUANTITIES[self.cost].scaled
        dots = [(scaled(x), y) for x, y, on_front in self.points if not on_front]
        front = [(scaled(x), y) for x, y, on_front in self.points if on_front]
        costs = sorted(x for x, _, _ in self.points)
        accuracies = [y for _, y, _ in self.points]
        with contextlib.redirect_stdout(io.StringIO()):  # it warns on stdout, where JSON may be
            plt.clear_figure()
            plt.limit_size(False, False)
            plt.plot_size(width, height)
            for paint in (plt.canvas_color, plt.axes_color, plt.ticks_color):
                paint("default")
            plt.frame(not ascii_only)
            if dots:
                plt.scatter(*zip(*dots, strict=True), marker=_dot(ascii_only), color="blue")
            xs, ys = staircase([(scaled(x), y, on_front) for x, y, on_front in self.points])
            if len(xs) > 1 and not ascii_only:
                plt.plot(xs, ys, marker="braille", color="green")
            if front:
                plt.scatter(*zip(*front, strict=True), marker="o", color="green")
            low, high = min(accuracies), max(accuracies)
            plt.ylim(*_room(low, high))
            plt.yticks([low, high] if high > low else [low], [percent(y) for y in ([low, high] if high > low else [low])])
            plt.xlim(*_room(scaled(costs[0]), scaled(costs[-1])))
            marks = [costs[0], costs[-1]] if costs[-1] > costs[0] else costs[:1]
            plt.xticks([scaled(x) for x in marks], [amount(self.cost, x) for x in marks])
            drawn = str(plt.build())
            plt.clear_figure()
        text = Text.from_ansi(drawn)
        text.no_wrap = True
        return text


def _dot(ascii_only: bool) -> str:
    return "." if ascii_only else "·"


def _room(low: float, high: float) -> tuple[float, float]:
    # A margin, so that no dot lies on the frame; and some width where all are equal.
    margin = 0.04 * (high - low) or 0.01 * abs(high) or 1.0
    return low - margin, high + margin
