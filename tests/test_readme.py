"""Every command that README and docs show parses, every shipped YAML loads, and the quick commands run."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
from files_list import PAGE, files_page

from tinynas.api import load_net, load_space
from tinynas.budget import load_budget
from tinynas.cli import run
from tinynas.cli.app import app, register
from tinynas.config import shipped
from tinynas.cost import estimate
from tinynas.graph import lower

register()
ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "results" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
#: Where the words of the file tree begin.
COLUMN = 42
QUICK = {"budgets", "estimate", "schema", "--version", "--help"}


def shown_commands(text: str) -> list[str]:
    """Command lines of shell blocks: ``$ tinynas ...`` in console blocks, plain lines in sh and bash blocks."""
    commands: list[str] = []
    for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        joined = body.replace("\\\n", " ")
        for line in joined.splitlines():
            bare = line.strip().removeprefix("$ ") if language == "console" else line.strip()
            prompt = line.strip().startswith("$ ") or language in {"sh", "bash"}
            if prompt and bare.startswith("tinynas "):
                commands.append(re.sub(r"\s+#.*$", "", bare))
    return commands


COMMANDS = sorted({command for page in PAGES if page.exists() for command in shown_commands(page.read_text(encoding="utf-8"))})


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shown_command_parses(command: str) -> None:
    words = shlex.split(command)[1:]
    target: Any = typer.main.get_command(app)
    if words[0].startswith("-"):
        return
    name = "tinynas"
    while hasattr(target, "commands"):
        name, words = words[0], words[1:]
        assert name in target.commands, f"{command}: there is no command {name}"
        target = target.commands[name]
    target.make_context(name, list(words))  # parses; runs nothing


@pytest.mark.parametrize("command", [c for c in COMMANDS if shlex.split(c)[1] in QUICK and "results/" not in c and "..." not in c])
def test_a_quick_command_runs(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert run(shlex.split(command)[1:]) == 0, capsys.readouterr().err


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")) if page.exists() else []:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        if not page.exists():
            continue
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in link and not link.startswith("mailto:"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def tree() -> list[str]:
    """The lines of the file tree that ends the README."""
    return README.split("## Files")[1].split("```")[1].strip("\n").splitlines()


def named(lines: list[str]) -> list[str]:
    """What the lines name: the words before the words about them, which begin in one column."""
    return [word.rstrip("/") for line in lines for word in line[:COLUMN].split()]


def there(folder: Path) -> list[str]:
    """Files and folders directly under ``folder`` that git keeps."""
    done = subprocess.run(["git", "ls-files", "-z", "--cached"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return sorted({path.partition("/")[0] for path in done.stdout.split("\0") if path})


def test_the_file_tree_of_the_readme_is_short_and_says_what_each_is() -> None:
    assert len(tree()) <= 30
    for line in tree()[1:]:
        assert line[COLUMN - 1] == " " and line[COLUMN:].strip(), line
        assert "..." not in line and "…" not in line, line


def test_the_file_tree_of_the_readme_names_what_is_there_and_nothing_else() -> None:
    inside = named([line for line in tree() if line.startswith(" ")])
    outside = ["tinynas", *named([line for line in tree()[1:] if not line.startswith(" ")])]
    assert sorted(inside) == there(ROOT / "tinynas")
    assert sorted(outside) == there(ROOT)


def test_the_list_of_modules_is_what_its_script_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == files_page(), "run python tests/files_list.py"


def test_the_results_list_every_table_and_the_script_that_made_it() -> None:
    rows = [line for line in RESULTS.splitlines() if "](benchmarks/" in line]
    files = [file for row in rows for file in re.findall(r"\]\(benchmarks/([^)]+)\)", row)]
    assert sorted(files) == sorted(path.name for path in (ROOT / "results" / "benchmarks").iterdir())
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 5, row
        assert all(cells), row
        if cells[3] == "the commands are in it":
            continue
        script = ROOT / cells[3].strip("`")
        said = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
        for file in re.findall(r"\]\(benchmarks/([^)]+)\)", row):
            assert file.startswith(script.stem) or file.split(".")[0] in said, f"{script.name} does not say that it makes {file}"


def test_five_rows_of_the_readme_say_what_was_measured() -> None:
    part = README.split("## What was measured")[1].split("\n## ")[0]
    assert len([line for line in part.splitlines() if line.startswith("| ")]) == 1 + 5


@pytest.mark.parametrize("name", shipped("budgets"))
def test_every_shipped_budget_loads_and_leaves_room(name: str) -> None:
    budget = load_budget(name)
    assert all(limit > 0 for limit in budget.limits.values())
    assert budget.sources


@pytest.mark.parametrize("name", shipped("search_spaces"))
def test_every_shipped_space_loads_and_its_ends_can_be_built(name: str) -> None:
    space = load_space(name)
    for pick in (lambda _, n: 0, lambda _, n: n - 1):
        assert estimate(lower(space.sample(pick, 2))).macs > 0


@pytest.mark.parametrize("name", shipped("zoo"))
def test_every_zoo_network_is_estimated(name: str) -> None:
    cost = estimate(lower(load_net(name)))
    assert cost.macs > 0
    assert cost.sram_bytes > 0
