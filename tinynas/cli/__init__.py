"""The command line: arguments in, one call, lines out. Heavy imports happen inside the commands.

Exit codes: 0 done; 2 the user's fault (one message); 1 ours; 130 interrupted. With ``--json`` exactly one
JSON document goes to stdout and everything else to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tinynas.cli.app import app, run

__all__ = ["app", "main", "run"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    sys.exit(run(arguments))
