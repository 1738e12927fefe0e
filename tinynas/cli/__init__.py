"""The command line: arguments in, one call, lines out. Heavy imports happen inside the commands.

Exit codes: 0 done; 2 the user's fault (one message); 1 ours; 130 interrupted. With ``--json`` exactly one
JSON document goes to stdout and everything else to stderr.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Never

__all__ = ["main", "run"]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code; nothing escapes as a traceback for a user's fault."""
    from tinynas.cli.app import run as run_line

    return run_line(arguments)


def main(arguments: Sequence[str] | None = None) -> Never:
    """Entry point of the console script."""
    pressed = []

    def stop(number: int, _frame: FrameType | None) -> Never:
        pressed.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        code = run(arguments)
    except BaseException:
        # Ctrl-C while modules were imported, or while a fault was told. Before 3.12 Python makes a RuntimeError of it in __set_name__.
        if not pressed:
            raise
        sys.stderr.write("\ninterrupted\n")
        code = 130
    for number in (signal.SIGINT, signal.SIGTERM):  # from here on there is nothing left to tell: they just end the process
        signal.signal(number, signal.SIG_DFL)
    sys.exit(code)
