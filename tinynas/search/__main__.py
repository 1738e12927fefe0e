"""A worker process of a search: ``python -m tinynas.search RUN INDEX``; started by the search itself, which tells the rest on stdin."""

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


def _tell(**words: str | None) -> None:
    # On a line of its own, whatever libraries printed before.
    sys.stdout.write(f"\n{json.dumps(words)}\n")
    sys.stdout.flush()


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(1)  # the parent is gone already
        line += byte
    return line


def _die_with_parent() -> None:
    # The parent holds the other end of stdin; it closes when the parent ends, by whatever signal.
    # os.read, because a thread inside sys.stdin's lock aborts the interpreter at its end.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(5)
    os._exit(1)


def main() -> int:
    """Work for the run; 0 when the search is over, 2 for a fault of the user's, 1 for one of ours. The last line printed says why."""
    signal.signal(signal.SIGTERM, _stop)
    run, index, told = sys.argv[1], int(sys.argv[2]), json.loads(_first_line())
    changes, clock = told["changes"], told["clock"]
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        from tinynas.search.clock import Clock
        from tinynas.search.engine import join

        reason = join(run, {key: value for key, value in changes.items() if value is not None}, index, Clock(**clock))
        _tell(reason=reason)
    except TinynasError as error:
        _tell(message=error.message, hint=error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
