"""The console: what comes from outside is shown as it is, never obeyed, and on any terminal.

Names of files, classes and runs may hold rich's markup (``x[/y]``), codes of emoji (``:smile:``), escape sequences or marks that
turn the line around. None of it is read: markup and emoji are off, so styles are given as :class:`rich.text.Text` or by
``style=``, and what cannot be seen is written out (:func:`tinynas.errors.printable`). Imports rich only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any, Never

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from tinynas.errors import printable

#: Columns of output that goes to a file or a program: there no line is cut and no table is folded.
UNBOUNDED = 1000


class PlainConsole(Console):
    """A console that obeys nothing in the text it prints. Output that goes to no terminal has room for every line, unless
    ``COLUMNS`` says otherwise."""

    def __init__(self, file: IO[str] | None = None, **options: Any) -> None:
        super().__init__(file=file, markup=False, emoji=False, highlight=False, **options)
        if not self.is_terminal and options.get("width") is None and not os.environ.get("COLUMNS", "").isdigit():
            self.width = UNBOUNDED

    def render_str(self, text: str, **options: Any) -> Text:
        """``text`` with what cannot be seen written out; line breaks stay."""
        return super().render_str(printable(text, lines=True), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything. Nothing reaches the terminal past this, so it is cleaned here as well."""
        return self._clean(super().render(renderable, options))

    @staticmethod
    def _clean(segments: Iterable[Segment]) -> Iterator[Segment]:
        for segment in segments:
            yield segment if segment.control else segment._replace(text=printable(segment.text, lines=True))

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        # Tables fill their last column with blanks, which a file or a program has no use for.
        text = super()._render_buffer(buffer)
        return text if self.is_terminal else re.sub(r"(?<! ) +(?=\n)", "", text)

    def on_broken_pipe(self) -> Never:
        """The reader (``head``, ``less``) has gone; who called decides what that means."""
        raise BrokenPipeError
