"""A worker process of a search: ``python -m tinynas.search RUN INDEX SETTINGS``; started by the search itself."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from types import FrameType
from typing import Never

from tinynas.errors import TinynasError


def _stop(_signal: int, _frame: FrameType | None) -> Never:
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    # The parent holds the other end of stdin; it closes when the parent ends, by whatever signal.
    # os.read, because a thread inside sys.stdin's lock aborts the interpreter at its end.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(5)
    os._exit(1)


def main() -> int:
    """Work for the run; 0 when the search is over, 2 for a fault of the user's, 1 for one of ours."""
    signal.signal(signal.SIGTERM, _stop)
    run, index, changes = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        from tinynas.search.engine import join

        reason = join(run, {key: value for key, value in changes.items() if value is not None}, index, lambda _trial: None)
        sys.stdout.write(f"{reason}\n")
    except TinynasError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
