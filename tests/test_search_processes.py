"""Processes that search side by side, killed and interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from search_runs import SPACE, accounted, budget, start_process, wait_until, workers_of

from tinynas.api import PreparedSearch, prepare_search
from tinynas.search import SearchSettings, worker


@pytest.mark.slow
def test_eight_workers_two_hundred_trials_two_killed(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=200, workers=8, rungs=[1], pool=2000)
    process = start_process(one.run.path)
    wait_until(lambda: len(workers_of(one.run)) == 8 and len(one.run.trials()) >= 5, 180)
    for pid in workers_of(one.run)[:2]:
        os.kill(pid, signal.SIGKILL)
    _, wrong = process.communicate(timeout=600)
    assert process.returncode == 0, wrong
    accounted(one.run, 200)


@pytest.mark.slow
def test_the_parent_killed_takes_its_workers_along_and_resumes(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=12, workers=2)
    process = start_process(one.run.path)
    wait_until(lambda: len(one.run.trials()) >= 3, 120)
    process.kill()
    process.communicate()
    wait_until(lambda: not workers_of(one.run), 30)
    finished = {(row["id"], row["epochs"]) for row in one.run.log("times")}
    again = start_process(one.run.path)
    _, wrong = again.communicate(timeout=300)
    assert again.returncode == 0, wrong
    accounted(one.run, 12)
    assert finished <= {(row["id"], row["epochs"]) for row in one.run.log("times")}


@pytest.mark.slow
def test_ctrl_c_exits_130_with_the_command_that_continues(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=30, workers=2)
    process = start_process(one.run.path)
    wait_until(lambda: len(one.run.trials()) >= 2, 120)
    process.send_signal(signal.SIGINT)
    _, wrong = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"tinynas search --resume --out {one.run.path}" in wrong
    assert workers_of(one.run) == []
    assert one.run.front()


@pytest.mark.slow
def test_a_worker_joins_a_running_search(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=16, workers=1)
    process = start_process(one.run.path)
    wait_until(lambda: (one.run.path / "clock.json").exists(), 120)
    done = worker(one.run.path)
    _, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong
    assert done > 0
    accounted(one.run, 16)


@pytest.mark.slow
def test_workers_find_the_files_of_the_datas_options_where_they_were_moved(stripes: str, tmp_path: Path) -> None:
    """A worker process reads the run's folder alone: what the command that resumes says of the files has to be there."""
    names = [f"{label}/{n}.png" for label in ("across", "down", "slanted") for n in range(64)]
    files = {"groups": tmp_path / "groups.csv", "attributes": tmp_path / "light.csv"}
    for column, file in (("group", files["groups"]), ("light", files["attributes"])):
        file.write_text(
            "\n".join([f"name,{column}", *(f"{name},{'ab'[i % 2] if column == 'light' else name[:-5]}" for i, name in enumerate(names))])
        )
    said = (f"data.groups=csv:{files['groups']}", f"data.attributes={files['attributes']}")
    settings = SearchSettings.model_validate({"rungs": [1], "pool": 200, "baseline": 2, "start": 2, "recipe": {"batch_size": 32}})
    one = prepare_search(budget(), space=SPACE, data=stripes, out=tmp_path / "run", settings=settings, trials=4, workers=2, overrides=said)
    for name, file in files.items():
        files[name] = file.rename(tmp_path / f"moved-{file.name}")
    again = start_process(one.run.path, "--set", f"data.groups=csv:{files['groups']}", "--set", f"data.attributes={files['attributes']}")
    _, wrong = again.communicate(timeout=300)
    assert again.returncode == 0, wrong
    accounted(one.run, 4)
