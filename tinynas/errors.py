"""The error tree: every fault a user can cause, each with a remedy.

::

    TinynasError                exit 1 unless a subclass says otherwise
    |-- UserError               exit 2: the user can mend it
    |   |-- ConfigError         a YAML/JSON file: all faults at once, each with file, place, value, rule, remedy
    |   |-- ArchError           an architecture that cannot be built
    |   |-- DataError           images, labels, splits, caches
    |   |-- BudgetError         nothing fits, or a limit that makes no sense
    |   |-- UnrunError          a network that a runtime does not run, so that what it would take there is not known
    |   |-- ModelFileError      a .tflite (or weights) file that is broken or foreign
    |   |-- RunError            a run folder: missing, locked, of another version, unknown id
    |   |-- DiskError           a file that cannot be written, read or locked: the disk is full, or permissions
    |   `-- MissingExtraError   an optional package is not installed; the hint is the install line
    `-- InternalError           exit 1: ours, please report
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """``1 network``, ``2 networks``, ``1,200 images``, ``7.5 minutes`` (three digits where it is no whole number)."""
    shown = f"{int(number):,}" if float(number).is_integer() else f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
    return f"{shown} {noun if shown == '1' else plural or noun + 's'}"


#: What is not seen on a terminal, or turns the text around it: control characters (escape sequences begin with one), marks of
#: direction, zero-width spaces, breaks of lines and paragraphs, bytes of names that are not UTF-8, tags. Not the joiners, which
#: scripts need.
_UNSEEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ud800-\\udfff\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object, *, lines: bool = False) -> str:
    """``text`` with everything written out that a terminal would obey or not show: ``a\\x1b[2Jb``, ``a\\u202eb``, ``caf\\xe9``.

    With ``lines`` the breaks between lines stay. A byte of a name that is not UTF-8 is ``\\xe9``; the escapes are those of
    Python's strings and of ``$'...'`` in a shell. Text that can be seen is given back as it is.
    """

    def escape(match: re.Match[str]) -> str:
        char = match[0]
        if char in _SHORT:
            return "\n" if lines and char == "\n" else _SHORT[char]
        code = ord(char)
        if code < 0x80 or 0xDC80 <= code <= 0xDCFF:
            return f"\\x{code & 0xFF:02x}"
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return _UNSEEN.sub(escape, str(text))


def shell_line(*words: object) -> str:
    """A command of these words that can be pasted into a shell, whatever they hold.

    Words with what cannot be seen are written as ``$'...'`` (bash, zsh, ksh, busybox); a path that begins with ``-`` is no option.
    """
    return " ".join(_shell_word(f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)) for word in words)


def _shell_word(word: str) -> str:
    if printable(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(f"\\{char}" if char in "\\'" else printable(char) for char in word) + "'"


class TinynasError(Exception):
    """Base of all errors tinynas raises on purpose.

    ``message`` says what is wrong and where; ``hint`` says what to do about it.
    """

    exit_code: int = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  -> {self.hint}"


class UserError(TinynasError):
    """A fault the user can mend: one message, exit code 2, no traceback."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a configuration: where, what was found, which rule it breaks, how to mend it."""

    place: str
    value: str | None
    rule: str
    remedy: str | None = None

    def __str__(self) -> str:
        found = "" if self.value is None else f" (got {self.value})"
        remedy = "" if self.remedy is None else f"; {self.remedy}"
        return f"{self.place}: {self.rule}{found}{remedy}"


class ConfigError(UserError):
    """A configuration file or option with one or more faults, all reported at once."""

    def __init__(self, source: str | Path, faults: Sequence[Fault], hint: str | None = None) -> None:
        self.source = str(source)
        self.faults = tuple(faults)
        lines = [f"{self.source}: {counted(len(self.faults), 'fault')}"]
        lines += [f"  - {fault}" for fault in self.faults]
        super().__init__("\n".join(lines), hint)


class ArchError(UserError):
    """An architecture that cannot be built (shapes, residuals, resolution too small)."""


class DataError(UserError):
    """Images, labels, splits or caches that cannot be used."""


class BudgetError(UserError):
    """Nothing fits the budget, or a limit makes no sense."""


class UnrunError(UserError):
    """A network that a runtime does not run, so that what it would take there is not known; ``reasons`` say why, the runtime named once
    beside them.
    """

    def __init__(self, message: str, hint: str | None = None, *, reasons: Sequence[str]) -> None:
        super().__init__(message, hint)
        self.reasons = tuple(reasons)


class ModelFileError(UserError):
    """A model file that is broken, foreign or unsupported."""


class RunError(UserError):
    """A run folder that is missing, locked, of another version, or lacks the id asked for."""


class DiskError(UserError):
    """A file that cannot be written, read or locked: the disk is full, or permissions forbid it."""


class MissingExtraError(UserError):
    """An optional package is needed; the hint is the exact install line."""


class InternalError(TinynasError):
    """A bug of ours: an invariant does not hold."""

    exit_code = 1
