"""Processes that search side by side, killed and interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from search_runs import accounted, start_process, wait_until, workers_of

from tinynas.api import PreparedSearch
from tinynas.search import worker


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
