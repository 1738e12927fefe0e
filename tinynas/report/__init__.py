"""Reports: one page a run, tables for the terminal, figures as plotly objects.

``figures`` makes numbers and pictures, ``page`` the HTML file, ``terminal`` tables and progress.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tinynas.files import write_atomic
from tinynas.runs import Run

__all__ = ["watch_report", "write_report", "write_space_picture"]


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
