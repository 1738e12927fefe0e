"""Reports: one page a run, tables for the terminal, figures as plotly objects.

``figures`` makes numbers and pictures, ``page`` the HTML file, ``terminal`` tables and progress.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tinynas.errors import counted
from tinynas.files import write_atomic
from tinynas.runs import Run

__all__ = ["watch_report", "write_compare_picture", "write_report", "write_space_picture"]


def write_report(run: Run, *, running: bool | None = None) -> Path:
    """Write ``report.html`` of ``run``; while a search is ``running`` (default: as its files tell) the open page looks for news.

    Raises RunError where the run is damaged or the disk is full.
    """
    from tinynas.report.page import render, search_is_running

    write_atomic(run.report_file, render(run, running=search_is_running(run) if running is None else running))
    return run.report_file


def watch_report(run: Run, *, every: float = 10.0, on_write: Callable[[Path], None] | None = None) -> None:
    """Write the page anew whenever the run has news, until its search ends or Ctrl-C."""
    from tinynas.report.page import search_is_running, stale

    try:
        while True:
            running = search_is_running(run)
            if stale(run) or not running:
                path = write_report(run, running=running)
                if on_write is not None:
                    on_write(path)
            if not running:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        write_report(run, running=False)
        raise


class _Rows(Protocol):
    def to_json(self) -> Sequence[Mapping[str, Any]]: ...


def write_space_picture(table: _Rows, path: Path) -> Path:
    """Write the distributions of MACs behind a space choice (``tinynas spaces --budget B``) as one HTML file."""
    from tinynas.report.figures import plot, spaces_info

    figure = plot(spaces_info(table.to_json()))
    figure.update_layout(template={"layout": {"paper_bgcolor": "white"}}, height=560)
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    write_atomic(path, page)
    return path


def write_compare_picture(rows: Sequence[Mapping[str, Any]], nets: Sequence[str], path: Path) -> Path:
    """Write the rows of ``tinynas compare NET... --json`` as a picture: one HTML file, light or dark as the reader's system is."""
    from plotly.offline import get_plotlyjs

    from tinynas.report.figures import compare_info, plot
    from tinynas.report.theme import FONT, PALETTES, Mode

    info = compare_info(rows, nets)
    modes: tuple[Mode, ...] = ("light", "dark")
    divs = {
        mode: plot(info, mode=mode).to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False}) for mode in modes
    }
    head = (
        f"{counted(len(info.nets), 'network')} on {counted(len(info.boards), 'board')}: the limit that decides, and the share of it "
        f"that is used; worst first. On {counted(info.fitting, 'board')} every network fits."
    )
    light, dark = PALETTES["light"], PALETTES["dark"]
    style = (
        f"body{{margin:16px;font-family:{FONT};color:{light['ink']};background:{light['paper']}}}.dark{{display:none}}"
        f"@media(prefers-color-scheme:dark){{body{{color:{dark['ink']};background:{dark['paper']}}}.dark{{display:block}}.light{{display:none}}}}"
    )
    parts = "".join(f'<div class="{mode}">{div}</div>' for mode, div in divs.items())
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>tinynas compare</title><style>{style}</style>'
        f"<script>{get_plotlyjs()}</script></head><body><p>{head}</p>{parts}</body></html>"
    )
    write_atomic(path, page)
    return path
