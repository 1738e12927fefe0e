"""Standard output and error: any character on any terminal, and a reader that goes away."""

from __future__ import annotations

import codecs
import io
import os
import sys

from tinynas.errors import printable

#: What stands in for our own characters where the terminal's encoding lacks them: one column each where tables hold them.
STAND_INS = {
    **dict.fromkeys("–—−", "-"),
    **dict.fromkeys("…", "~"),
    **dict.fromkeys("·•", "-"),
    **dict.fromkeys("█▉▊▋▌▍▎▏●", "#"),
    **dict.fromkeys("━─╸╺", "-"),
    **dict.fromkeys("│┃┤├", "|"),
    **dict.fromkeys("┌┐└┘┬┴┼", "+"),
    **dict.fromkeys("→", ">"),
    **dict.fromkeys("×", "x"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("≤", "<="),
    **dict.fromkeys("≥", ">="),
    **dict.fromkeys("µ", "u"),
}


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """Handler of encoding errors: a stand-in for characters of ours, an escape for those of others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    written = (STAND_INS.get(char) or printable(char) for char in wrong)
    return "".join(text if text.isascii() else text.encode("ascii", "backslashreplace").decode() for text in written), error.end


codecs.register_error("tinynas", _stand_in)


def ready() -> None:
    """Make standard output and error such that writing to them does not fail for what is written, or for being closed.

    Characters that an encoding lacks are replaced; what is written to a closed stream (``>&-``) goes nowhere.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # The lowest free number is taken: it is the closed stream's own, which no file of ours must get.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="tinynas")


def reader_gone() -> None:
    """The reader (``head``, ``less``) has gone: what is still to be written goes nowhere, at exit too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
