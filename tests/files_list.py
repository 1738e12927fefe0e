"""docs/files.md, from the first sentence of each module's docstring: ``python tests/files_list.py`` writes it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "files.md"
FOLDERS = ("tinynas", "benchmarks", "tests")


def first_sentence(path: Path) -> str:
    """The first sentence of the module's docstring, without markup. Raises ValueError where there is none."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not said:
        raise ValueError(f"{path}: a module says in the first sentence of its docstring what it is for")
    sentence = re.split(r"\.\s", " ".join(said.split("\n\n")[0].split()))[0].removesuffix(".")
    return re.sub(r":\w+:", "", sentence).replace("~tinynas.", "tinynas.").replace("``", "`")


def files_page(root: Path = ROOT) -> str:
    """The page: a table for each folder that holds modules, folders in order."""
    lines = ["# Modules", "", "Made by `python tests/files_list.py` from the first sentence of each docstring; a test compares.", ""]
    modules = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"), key=lambda p: (p.parent, p.name))]
    folder = None
    for path in modules:
        if path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip():
            continue
        if path.parent != folder:
            folder = path.parent
            lines += [*([""] if lines[-1] else []), f"## {folder.relative_to(root)}/", "", "| module | what it is for |", "|---|---|"]
        lines.append(f"| `{path.name}` | {first_sentence(path).replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(files_page(), encoding="utf-8")
