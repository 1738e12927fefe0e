"""What the commands share: options, output, the message of an error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinynas.errors import ConfigError, TinynasError, UserError
from tinynas.files import process_number

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout; progress goes to stderr.")]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", "-b", metavar="B", help="A budget YAML or a shipped name (see: tinynas budgets).")
]
DataOption = Annotated[
    str | None,
    typer.Option("--data", "-d", metavar="D", help="An image folder (class per directory), a data set name, or hf:owner/name."),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override one setting; may be given several times.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]


@dataclass
class Session:
    """State of one invocation, so that an interruption can print the command that continues."""

    continue_command: str | None = None
    json_mode: bool = False
    json_printed: bool = False
    interrupted: bool = False
    """Ctrl-C was pressed. Python drops a KeyboardInterrupt that falls into a destructor or a C callback; this stays."""
    arguments: list[str] = field(default_factory=list)


session = Session()


def check_interrupted() -> None:
    """Raise the KeyboardInterrupt that was dropped, if one was; for callbacks of long work."""
    if session.interrupted:
        raise KeyboardInterrupt


def console() -> Console:
    """The console for people: stdout, or stderr where stdout carries JSON."""
    from rich.console import Console

    return Console(stderr=session.json_mode, highlight=False, soft_wrap=not sys.stdout.isatty())


def emit(document: Any) -> None:
    """Print the one JSON document of ``--json``."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False, default=_plain) + "\n")
    session.json_printed = True


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def next_step(command: str) -> None:
    """Print the command that comes next."""
    console().print(f"[dim]next:[/dim] [bold]{command}[/bold]")


def report_error(error: TinynasError) -> int:
    """Print one clear message for ``error`` and return its exit code."""
    process = process_number()
    if session.json_mode and not session.json_printed and process == 0:
        document: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        if isinstance(error, ConfigError):
            document["faults"] = [{"place": f.place, "value": f.value, "rule": f.rule, "remedy": f.remedy} for f in error.faults]
        emit({"error": document})
    label = "error" if isinstance(error, UserError) else "internal error (please report)"
    label = f"process {process}: {label}" if process else label
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    head = f"\x1b[31m{label}:\x1b[0m" if colour else f"{label}:"
    sys.stderr.write(f"{head} {error}\n")
    return error.exit_code


def quote(arguments: Sequence[str]) -> str:
    """``arguments`` as one shell line."""
    import shlex

    return shlex.join(arguments)


@contextlib.contextmanager
def counting_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A callable (what, done, of how many) that draws a bar on a terminal and is silent elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out = console()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=out,
        disable=not out.is_terminal,
        transient=True,
    ) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show
