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

from tinynas.errors import ConfigError, TinynasError, UserError, printable, shell_line
from tinynas.files import process_number

if TYPE_CHECKING:
    from tinynas.report.console import PlainConsole

JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout; progress goes to stderr.")]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", "-b", metavar="B", help="A budget YAML or a shipped name (see: tinynas budgets).")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", "-d", metavar="D", help="A folder of images or sounds (one in it for each class), a data set name, or hf:owner/name."
    ),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override one setting; may be given several times.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
TflmOption = Annotated[
    str | None, typer.Option("--tflm", metavar="DIR", help="A tree of TFLM's sources, or the Arduino library's. Default: $TFLM_DIR.")
]
KernelsOption = Annotated[
    str | None, typer.Option("--kernels", metavar="K", help="cmsis-nn or reference. Default: the run's; cmsis-nn for a file.")
]
DrawOption = Annotated[Path | None, typer.Option("--draw", metavar="FILE.html", help="Also draw it as a picture.")]


def check_picture(draw: Path | None) -> None:
    """Raise UserError where ``draw`` cannot be written as a picture: before anything is computed."""
    if draw is not None and draw.suffix.lower() not in {".html", ".htm"}:
        raise UserError(f"{draw}: pictures are written as HTML, not as {draw.suffix or 'a file without an ending'}", "name it .html")


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


def console() -> PlainConsole:
    """The console for people: stdout, or stderr where stdout carries JSON. It obeys nothing in what it prints."""
    from tinynas.report.console import PlainConsole

    return PlainConsole(stderr=session.json_mode)


def say(line: object, style: str | None = None) -> None:
    """Print one line for people: as it is, whatever it holds, and never broken up, so that what it quotes can be copied."""
    from rich.text import Text

    console().print(Text(printable(line), style or ""), soft_wrap=True)


def note(line: str) -> None:
    """Print what a user should know while work goes on; with ``--json`` on stderr."""
    console().print(printable(line), style="yellow", markup=False, soft_wrap=True)


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


def next_step(*command: object) -> None:
    """Print the command that comes next, of these words, quoted for a shell."""
    next_steps([(command, None)])


def next_steps(commands: Sequence[tuple[Sequence[object], str | None]]) -> None:
    """Print the commands that may come next, one a line, each (its words, what is said about it)."""
    from rich.text import Text

    lines = [shell_line(*command) for command, _ in commands]
    for number, (line, (_, about)) in enumerate(zip(lines, commands, strict=True)):
        text = Text.assemble(("next: " if number == 0 else "      ", "dim"), (line, "bold"))
        if about:
            text.append(" " * (max(map(len, lines)) - len(line)) + f"  # {printable(about)}", "dim")
        console().print(text, soft_wrap=True)


def report_error(error: TinynasError) -> int:
    """Print one clear message for ``error`` and return its exit code."""
    process = process_number()
    if session.json_mode and not session.json_printed and process == 0:
        document: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        if isinstance(error, ConfigError):
            document["faults"] = [{"place": f.place, "value": f.value, "rule": f.rule, "remedy": f.remedy} for f in error.faults]
        with contextlib.suppress(OSError):  # where nothing can be written, the exit code tells
            emit({"error": document})
    label = "error" if isinstance(error, UserError) else "internal error (please report)"
    label = f"process {process}: {label}" if process else label
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    head = f"\x1b[31m{label}:\x1b[0m" if color else f"{label}:"
    with contextlib.suppress(OSError):
        # A break within a name must not look like a line of ours: those behind the first are set in.
        first, *more = printable(error, lines=True).split("\n")
        sys.stderr.write("\n".join([f"{head} {first}", *(line if line.startswith("  ") else f"  {line}" for line in more)]) + "\n")
    return error.exit_code


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
