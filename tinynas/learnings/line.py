"""AdaptLine: what ``tinynas adapt`` was asked for, checked, and its documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tinynas import __version__
from tinynas.adapt.budget import UpdateBudget, load_update_budget
from tinynas.adapt.learner import Learner
from tinynas.adapt.learning import learn, one_thread
from tinynas.adapt.plans import plan
from tinynas.adapt.schemes import SCHEMES, Scheme, scheme_named
from tinynas.adapt.tasks import Task
from tinynas.errors import UserError
from tinynas.export.pixels import AUTO
from tinynas.files import write_atomic
from tinynas.learnings.comparing import Setup, compare, open_task, table, table_csv
from tinynas.learnings.folder import board_learner, board_learning, build_folder, write_folder
from tinynas.model import write_tensors
from tinynas.quantize.floats import torch_layout
from tinynas.weights.learnable import graph_of

OnStep = Callable[[str, int, int], None]
OnNote = Callable[[str], None]
#: Files of a comparison.
ROWS, TABLE_CSV, TABLE_JSON = "rows.jsonl", "table.csv", "table.json"


@dataclass(frozen=True)
class AdaptLine:
    """The words of a command."""

    net: str
    budgets: tuple[str, ...]
    data: str | None
    schemes: tuple[str, ...]
    seeds: tuple[int, ...]
    old: str | None
    init: str | None
    pixels: str
    overrides: Mapping[str, tuple[str, ...]]
    """``data``, ``old`` and ``""`` (the budgets)."""

    @property
    def setup(self) -> Setup:
        """Where everything is. Raises UserError without data."""
        if self.data is None:
            raise UserError("--data is missing", "say what is to be learned: an image folder, a data set name, or hf:owner/name")
        return Setup(self.net, self.data, self.init, self.pixels, self.old, tuple(self.overrides["data"]), tuple(self.overrides["old"]))

    def loaded(self, *, several: bool) -> list[UpdateBudget]:
        """The budgets. Raises UserError where there are none, or more than one is of use."""
        if not self.budgets:
            raise UserError("--budget is missing", 'write a YAML such as "extra: 64 KiB" and give its path')
        if not several and len(self.budgets) > 1:
            raise UserError(f"--budget: {len(self.budgets)} budgets, and one is of use here", "compare takes several")
        budgets = [load_update_budget(path, self.overrides[""]) for path in self.budgets]
        if (self.old is not None or self.overrides["old"]) and all(budget.learning.head == "replace" for budget in budgets):
            said = f"--set old.{self.overrides['old'][0]}" if self.old is None else f"--old {self.old}"
            raise UserError(f"{said}: learning.head=replace leaves nothing of the old classes", "leave one of them out")
        return budgets

    def chosen(self) -> list[Scheme]:
        """The schemes; all where none is named."""
        return [scheme_named(name) for name in self.schemes or SCHEMES]

    def plan(self, *, on_step: OnStep | None = None, on_note: OnNote | None = None) -> dict[str, Any]:
        """What each scheme would update, and what it takes."""
        (budget,) = self.loaded(several=False)
        chosen = self.chosen()
        if self.data is None:
            if self.init is not None or self.old is not None or self.pixels != AUTO or self.overrides["data"] or self.overrides["old"]:
                raise UserError("--init, --old, --pixels and data settings are for images, and there are none", "add --data")
            rows = plan(graph_of(self.net), budget, chosen, seed=self.seeds[0], on_step=on_step)
            about: dict[str, Any] = {"net": self.net, "data": None}
        else:
            task = open_task(self.setup, budget, self.seeds[0])
            _tell(task, on_note)
            rows = plan(task, budget, chosen, seed=self.seeds[0], on_step=on_step)
            about = _about(task) | {"data": self.data}
        return {"tinynas": __version__, **about, "budget": budget.model_dump(mode="json"), "schemes": [row.to_json() for row in rows]}

    def run(self, out: Path | None, *, on_step: OnStep | None = None, on_note: OnNote | None = None) -> dict[str, Any]:
        """One learning; ``out`` becomes the folded network that it ends in (.safetensors)."""
        (budget,) = self.loaded(several=False)
        if len(self.schemes) != 1:
            raise UserError(
                f"--scheme: {len(self.schemes)} schemes, and a run learns by one", f"one of {', '.join(SCHEMES)}; compare takes several"
            )
        if len(self.seeds) != 1:
            raise UserError("--seeds: a run has one", "compare takes several")
        if out is not None and out.suffix != ".safetensors":
            raise UserError(f"{out}: what was learned is written as .safetensors", "name it so")
        (scheme,) = self.chosen()
        task = open_task(self.setup, budget, self.seeds[0])
        _tell(task, on_note)
        learned = learn(task, scheme, budget, seed=self.seeds[0], on_epoch=on_step)
        if out is not None:
            write_learned(learned.learner, task, out)
        document = {"tinynas": __version__, **_about(task), "data": self.data, "budget": budget.model_dump(mode="json")}
        return {**document, **learned.to_json(), "out": None if out is None else str(out)}

    def export(self, out: Path | None, *, on_note: OnNote | None = None) -> dict[str, Any]:
        """The firmware folder ``out`` of a network that learns by one scheme."""
        (budget,) = self.loaded(several=False)
        if out is None:
            raise UserError("--out is missing", "name the folder")
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: is a file", "name a folder")
        if len(self.schemes) != 1:
            raise UserError(f"--scheme: {len(self.schemes)} schemes, and a folder learns by one", "one of classifier, bias, last")
        (scheme,) = self.chosen()
        task = open_task(self.setup, budget, self.seeds[0])
        _tell(task, on_note)
        with one_thread():
            learner = board_learner(task, budget)
            learning = board_learning(task, learner, budget, scheme, self.seeds[0])
            made = build_folder(task, learning, budget, scheme.name)
        write_folder(made, out, on_note)
        document = {"tinynas": __version__, **_about(task), "data": self.data, "budget": budget.model_dump(mode="json")}
        return {**document, **made.to_json(), "out": str(out), "files": sorted(made.files)}

    def compare(
        self, out: Path | None, *, jobs: int, on_row: Callable[[dict[str, Any], int, int], None] | None, on_note: OnNote | None
    ) -> dict[str, Any]:
        """All rows and the table of them, in the folder ``out``."""
        if out is None:
            raise UserError("--out is missing", "name the folder for rows and table; finished rows in it are not made again")
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: is a file", "name a folder")
        budgets = self.loaded(several=True)
        task = open_task(self.setup, budgets[0], self.seeds[0])
        _tell(task, on_note)
        names = [scheme.name for scheme in self.chosen()]
        rows = compare(self.setup, names, budgets, self.seeds, out / ROWS, jobs=jobs, on_row=on_row)
        lines = table(rows)
        write_atomic(out / TABLE_CSV, table_csv(lines))
        document = {
            "tinynas": __version__,
            **_about(task),
            "data": self.data,
            "budgets": [budget.model_dump(mode="json") for budget in budgets],
            "seeds": list(self.seeds),
            "table": lines,
            "files": {"rows": str(out / ROWS), "csv": str(out / TABLE_CSV), "json": str(out / TABLE_JSON)},
        }
        write_atomic(out / TABLE_JSON, json.dumps(document, indent=2) + "\n")
        return {**document, "rows": rows}


def _about(task: Task) -> dict[str, Any]:
    return {
        "net": task.net.title,
        "noun": task.net.input.noun,
        "labels": list(task.labels),
        "old_classes": task.old,
        "train_images": len(task.train.labels),
        "replayed": task.replayed,
        "notes": list(task.notes),
    }


def _tell(task: Task, on_note: OnNote | None) -> None:
    for text in task.notes if on_note is not None else ():
        on_note(text)  # type: ignore[misc]


def write_learned(learner: Learner, task: Task, path: Path) -> None:
    """The folded network that was learned, weights and biases by operator, with its classes: ``promote --init`` and ``adapt`` read it."""
    floats = learner.floats()
    tensors: dict[str, torch.Tensor] = {}
    for name, op in learner.ops.items():
        tensors[f"{name}.weight"] = torch.from_numpy(torch_layout(op, floats.weights[name]).copy())
        tensors[f"{name}.bias"] = torch.from_numpy(floats.biases[name].copy())
    write_tensors(tensors, path, {"labels": json.dumps(list(task.labels)), "learned": task.net.sha256})
