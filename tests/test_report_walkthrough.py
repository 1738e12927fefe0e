"""docs/walkthrough.md: its code blocks run from top to bottom as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "walkthrough.md"


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "walkthrough"}
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, flags=re.S | re.M))
    assert len(blocks) >= 10
    for block in blocks:
        # Blank lines in front keep the line numbers of the page in a traceback.
        code = "\n" * text.count("\n", 0, block.start(1)) + block[1]
        exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102  our own documentation
    printed = capsys.readouterr().out
    assert "1674512" in printed
    assert "stm32f746" in printed
    assert (tmp_path / "results" / "walkthrough" / "report.html").is_file()
