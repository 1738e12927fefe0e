"""The command line: arguments in, one call, lines out. Heavy imports happen inside the commands.

Exit codes: 0 done; 2 the user's fault (one message); 1 ours; 130 interrupted. With ``--json`` exactly one
JSON document goes to stdout and everything else to stderr.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Never

__all__ = ["main", "run"]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code; nothing escapes as a traceback for a user's fault."""
    from tinynas.cli.app import run as run_line

    return run_line(arguments)


def main(arguments: Sequence[str] | None = None) -> Never:
    """Entry point of the console script."""
    try:
        code = run(arguments)
    except KeyboardInterrupt:  # while modules were imported, or while a fault was told
        sys.stderr.write("\ninterrupted\n")
        code = 130
    for number in (signal.SIGINT, signal.SIGTERM):  # from here on there is nothing left to tell: they just end the process
        signal.signal(number, signal.SIG_DFL)
    sys.exit(code)
