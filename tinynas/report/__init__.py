"""Reports: one page a run, tables for the terminal, figures as plotly objects.

``figures`` makes numbers and pictures, ``page`` the HTML file, ``terminal`` tables and progress.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tinynas.errors import counted, printable
from tinynas.files import write_atomic
from tinynas.records import listening_words
from tinynas.runs import Run

if TYPE_CHECKING:
    from tinynas.report.figures import Info

__all__ = ["watch_report", "write_compare_picture", "write_evaluation_picture", "write_report", "write_space_picture"]


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
    from tinynas.report.figures import compare_info

    info = compare_info(rows, nets)
    head = (
        f"{counted(len(info.nets), 'network')} on {counted(len(info.boards), 'board')}: the limit that decides, and the share of it "
        f"that is used; worst first. On {counted(info.fitting, 'board')} every network fits."
    )
    return _write_picture("tinynas compare", [(head, info)], path)


def write_evaluation_picture(document: Mapping[str, Any], path: Path) -> Path:
    """Write ``tinynas evaluate --json`` as a picture, likewise: the stream, the ROC curve and the confusion, each where it is told."""
    from tinynas.report.figures import confusion_info, curve_info, stream_info

    name = printable(f"{document['model']} on {document['data']}, {document['split']}")
    shown: list[tuple[str, Info]] = []
    if (stream := stream_info(document)) is not None:
        shown.append((f"{name}. As it listens: {listening_words(document['stream'])[2]}.", stream))
    if (curve := curve_info(document)) is not None:
        shown.append((f"{name}: found, and false alarms.", curve))
    if counts := document.get("confusion"):
        labels = [str(label) for label in document.get("labels") or range(len(counts))]
        noun = str(document["kind"])
        right = f"{100 * document['accuracy']:.1f} % of {counted(document['n'], noun)} right"
        shown.append((f"{name}: {right}.", confusion_info(counts, labels, "int8", noun)))
    return _write_picture("tinynas evaluate", shown, path)


def _write_picture(title: str, shown: Sequence[tuple[str, Info]], path: Path) -> Path:
    """One HTML file of figures, words above each, light or dark as the reader's system is."""
    from tinynas.report.figures import plot
    from tinynas.report.theme import MODES, picture_page

    parts = ""
    for head, info in shown:
        parts += f"<p>{html.escape(head)}</p>"
        for mode in MODES:
            div = plot(info, mode=mode).to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
            parts += f'<div class="{mode}">{div}</div>'
    page = picture_page(title, parts)
    write_atomic(path, page)
    return path
