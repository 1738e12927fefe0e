"""Searches small enough to run in a moment, for the tests of the search; the fixtures are in conftest.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import optuna

from tinynas.api import PreparedSearch, prepare_search
from tinynas.budget import Budget
from tinynas.config import n_bytes
from tinynas.runs import Run
from tinynas.search import SearchSettings, prepare
from tinynas.search.prepare import open_session
from tinynas.space import Space

SPACE = Space.model_validate(
    {
        "name": "test",
        "resolution": [12, 16],
        "width_mult": [0.5, 1.0],
        "divisor": 4,
        "stem": {"out": [8, 16]},
        "stages": [{"out": [8, 16], "depth": [1, 2], "kernel": [3, 5], "expand": [1, 3], "stride": 2}],
        "head": {"out": [0, 32]},
    }
)
RECIPE = {"augment": {"kind": "none"}, "batch_size": 32}


def budget(flash: int = 10**6, **more: Any) -> Budget:
    file_alone = {"flash": {"runtime": n_bytes(0)}}
    return Budget.model_validate({"name": "test", "flash": n_bytes(flash), "sram": n_bytes(10**6), "reserves": file_alone, **more})


def write_stripes(folder: Path) -> str:
    """Stripes of three directions, 16 px, 64 images each, in ``folder``; its path."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    for label, wave in {"across": x, "down": y, "slanted": x + y}.items():
        (folder / label).mkdir()
        for index in range(64):
            stripes = 90 * np.sin(wave * 1.3 + rng.uniform(0, 6))[..., None] + 120 + rng.normal(0, 35, (16, 16, 3))
            cv2.imwrite(str(folder / label / f"{index}.png"), stripes.clip(0, 255).astype(np.uint8))
    return str(folder)


def small_search(data: str, out: Path, *, limits: Budget | None = None, space: Space = SPACE, **settings: Any) -> PreparedSearch:
    """A search of ``SPACE`` that is done in seconds."""
    settings = {"rungs": [1, 2], "recipe": RECIPE, "pool": 200, "baseline": 3, "start": 3, "workers": 1, **settings}
    named = {key: settings.pop(key) for key in ("objectives", "trials", "timeout", "workers", "seed", "storage") if key in settings}
    rest = SearchSettings.model_validate(settings)
    return prepare_search(limits or budget(), space=space, data=data, out=out, settings=rest, **named)


def states(run: Run) -> list[str]:
    return [trial.state for trial in run.trials()]


def session_of(one: PreparedSearch) -> prepare.Session:
    prepare.prepare(one.run, one.space, one.budget, one.data, one.settings, lambda *_: None)
    return open_session(one.run, one.space, one.budget, one.data, one.settings)


def start_process(path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tinynas", "search", "--resume", "--out", str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(run: Run) -> list[int]:
    folder = run.state_dir() / "members"
    alive = []
    for path in folder.glob("*") if folder.exists() else ():
        pid = int(path.name.split("-")[-2])
        try:
            os.kill(pid, 0)
        except OSError:
            continue
        alive.append(pid)
    return sorted(alive)


def wait_until(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def accounted(run: Run, networks: int) -> None:
    """Every network was trained once to each rung, and is in trials.jsonl."""
    jobs = [(row["id"], row["epochs"]) for row in run.log("times")]
    assert len(jobs) == len(set(jobs)), "no training is done twice"
    trials = run.trials()
    assert [t.number for t in trials] == list(range(len(trials)))
    assert sum(t.was_trained for t in trials) == networks
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(run.journal_file)))
    left = [t for t in optuna.load_study(study_name=None, storage=storage).trials if t.state.name in ("RUNNING", "WAITING")]
    assert left == []
