"""Every command that README and docs show parses, every shipped YAML loads, and the quick commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tinynas.api import load_net, load_space
from tinynas.budget import load_budget
from tinynas.cli import run
from tinynas.cli.app import app, register
from tinynas.config import shipped
from tinynas.cost import estimate
from tinynas.graph import lower

register()
ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
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


def test_the_file_tree_of_the_readme_is_whole() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "tinynas").iterdir()):
        if path.name.startswith("__pycache__") or path.name in {"py.typed", "shipped"}:
            continue
        assert path.name in text, f"{path.name} is missing from the file tree"


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
