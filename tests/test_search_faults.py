"""What may go wrong around a search: folders begun at once, processes that print, hang or are stopped, trainings that keep failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from search_runs import accounted, session_of, states

from tinynas.api import PreparedSearch, load_space, prepare_search
from tinynas.budget import load_budget
from tinynas.errors import DiskError, RunError
from tinynas.files import LockHeldError, holder, locked
from tinynas.runs import Run
from tinynas.search import processes, study, work
from tinynas.search.clock import Clock
from tinynas.search.training import Outcome, Trainings, failed
from tinynas.train import Diverged

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals")


# folders ----------------------------------------------------------------------------------------------


def _at_once(what: Callable[[], Any], times: int = 8) -> list[Any]:
    gate, results = threading.Barrier(times), list[Any]()

    def one() -> None:
        gate.wait()
        try:
            results.append(what())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=one) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_searches_begun_at_once_have_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "results" / "run-3").mkdir(parents=True)
    paths = _at_once(lambda: Run.fresh_path("run", tmp_path / "results"))
    assert sorted(path.name for path in paths) == sorted(["run", "run-2", *(f"run-{n}" for n in range(4, 10))])
    assert all(path.is_dir() for path in paths)


def test_a_root_that_cannot_hold_runs_is_said(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(DiskError, match="results"):
        Run.fresh_path("run", tmp_path / "results")


def test_of_searches_that_are_told_one_folder_one_makes_it(tmp_path: Path) -> None:
    made = iter(range(8))

    def make() -> Run:
        number = next(made)
        return Run.create(
            tmp_path / "run", config={"seed": number}, space=load_space("tiny"), budget=load_budget("stm32f746"), env={"seed": number}
        )

    results = _at_once(make)
    refused = [one for one in results if isinstance(one, RunError)]
    assert len(refused) == 7 and all("holds a run already" in one.message for one in refused)
    run = Run.open(tmp_path / "run")
    assert run.config["seed"] == run.env["seed"]
    assert [run.path] == [one.path for one in results if isinstance(one, Run)]


def test_a_folder_that_could_not_be_made_is_not_half_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinynas import runs

    write = runs.write_atomic

    def full(path: Path, content: str | bytes) -> None:
        if path.name == "config.yaml":
            raise DiskError(f"{path}: no room")
        write(path, content)

    monkeypatch.setattr(runs, "write_atomic", full)
    with pytest.raises(DiskError):
        Run.create(tmp_path / "run", config={}, space=load_space("tiny"), budget=load_budget("stm32f746"), env={})
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state"]


def test_one_process_leads_a_search(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2, rungs=[1])
    with one.run.searching(), pytest.raises(RunError, match="another process is searching it") as caught:
        one.go()
    assert f"tinynas worker {one.run.path}" in str(caught.value)
    assert one.go().counts.trained == 2
    with pytest.raises(LockHeldError), one.run.searching(), locked(one.run.path / "other"), locked(one.run.path / "other", wait=False):
        pass  # another lock's trouble is not this one's


# locks ------------------------------------------------------------------------------------------------


def test_a_lock_that_is_not_let_go_of_is_said_with_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "LOCK_SECONDS", 0.2)
    path = tmp_path / "study.lock"
    started = time.monotonic()
    with locked(path), pytest.raises(RunError, match=r"has not let go of study\.lock") as caught, study.file_lock(path):
        pass
    assert 0.2 <= time.monotonic() - started < 5
    if sys.platform == "linux":
        assert f"kill -CONT {os.getpid()}" in str(caught.value)
        assert holder(path) is None, "nobody has it any more"
    with study.file_lock(path):
        pass


def test_a_process_without_a_sign_of_life_counts_as_gone(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    one = prepared(trials=2, rungs=[1])
    sleeper, other = session_of(one), session_of(one)
    stopped = work.Worker(sleeper)
    sleeper.study.join()
    job = stopped.decide()
    assert isinstance(job, study.Job)
    now = time.monotonic()
    monkeypatch.setattr(study.time, "monotonic", lambda: now)
    assert other.study.reclaim() == []
    now += study.SILENT_SECONDS - 1
    assert other.study.reclaim() == []
    path = one.run.state_dir() / "members" / sleeper.study.member
    os.utime(path, (1, 1))  # a sign of life, by whatever clock
    assert other.study.reclaim() == []
    now += study.SILENT_SECONDS - 1
    assert other.study.reclaim() == []
    now += 2
    with other.study.deciding():
        assert other.study.reclaim() == [job.net]
    monkeypatch.undo()
    work.Worker(other).run()
    records = [trial.to_json() for trial in one.run.trials()]
    # It goes on and comes too late: what it brings is not wanted any more.
    stopped._record(job, Outcome(1, 10, {"accuracy": 0.0, "val_loss": 9.0}, 1.0, 10))
    sleeper.study.leave()
    assert [trial.to_json() for trial in one.run.trials()] == records
    accounted(one.run, 2)


# processes --------------------------------------------------------------------------------------------

LOUD = "import os, sys; os.write(2, b'libpng warning: iCCP: too short\\n' * 40_000); os.write(1, b'x' * 300_000 + b'\\n'); "
TELL = 'print(\'\\n{"reason": "all done"}\', flush=True)'


def _script(code: str) -> processes.Process:
    return processes.Process([sys.executable, "-c", code], dict(os.environ), "first")


def test_a_worker_may_print_more_than_a_pipe_holds() -> None:
    process = _script(LOUD + "assert sys.stdin.readline() == 'first\\n'; " + TELL)
    end = time.monotonic() + 60
    while process.ended() is None:
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.05)
    assert process.ended() == 0
    assert process.told() == {"reason": "all done"}
    assert process.wrong().endswith("iCCP: too short") and len(process.wrong()) <= processes.KEPT_BYTES


def test_a_pipe_that_a_grandchild_holds_open_does_not_hold_us() -> None:
    process = _script(
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); " + TELL
    )
    process.end(30)
    assert process.told() == {"reason": "all done"}
    os.kill(int(process._kept["said"].split()[0]), signal.SIGTERM)


def _supervised(
    monkeypatch: pytest.MonkeyPatch, *codes: str, timeout: float | None = None, workers: int = 1
) -> tuple[str, list[str], float]:
    """``supervise`` over processes of these codes, one after the other: what it says, the events, the seconds."""
    waiting, events = list(codes), list[str]()
    started: list[processes.Process] = []

    def start(_session: Any, _index: int) -> processes.Process:
        started.append(_script(waiting.pop(0)))
        return started[-1]

    monkeypatch.setattr(processes, "_start", start)
    begun = time.monotonic()
    session: Any = SimpleNamespace(settings=SimpleNamespace(workers=workers, timeout=timeout), clock=Clock.begun(begun, timeout))
    view: Any = SimpleNamespace(refresh=list, emit=lambda kind, message="", **_: events.append(message) if message else None, workers=0)
    try:
        reason = processes.supervise(session, view)
    finally:
        assert all(process.popen.poll() is not None for process in started), "none is left behind"
    assert waiting == []
    return reason, events, time.monotonic() - begun


def test_workers_that_end_are_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _supervised(monkeypatch, LOUD + TELL, TELL, workers=2)[:2] == ("all done", [])


@POSIX
def test_a_worker_that_outlives_the_deadline_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.5)
    monkeypatch.setattr(processes, "ENDING_SECONDS", 1.0)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    reason, events, seconds = _supervised(monkeypatch, deaf, TELL, timeout=3.0, workers=2)
    assert reason == "the time is used"
    assert events == ["1 worker did not end in time: ended; --resume continues what they trained"]
    assert 1.0 + 0.5 <= seconds < 20


@POSIX
def test_a_stopped_worker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOPPED_SECONDS", 0.5)
    stop = "import os, signal, time; os.kill(os.getpid(), signal.SIGSTOP); time.sleep(300)"
    reason, events, seconds = _supervised(monkeypatch, stop, TELL)
    assert reason == "all done" and seconds < 60
    assert len(events) == 1 and "worker 1 was stopped for" in events[0]
    # One that is let go on in time is left alone.
    monkeypatch.setattr(processes, "STOPPED_SECONDS", 60.0)
    wake = "import os, signal, subprocess; subprocess.Popen(f'sleep 1; kill -CONT {os.getpid()}', shell=True); "
    woken = wake + "os.kill(os.getpid(), signal.SIGSTOP); "
    assert _supervised(monkeypatch, woken + TELL)[:2] == ("all done", [])


def test_workers_that_keep_dying_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    dying = ["import sys; sys.exit('no room for a thread')"] * (processes.DEATHS + 1)
    with pytest.raises(RunError, match=r"6 deaths of workers in a row.*no room for a thread"):
        _supervised(monkeypatch, *dying)


@pytest.mark.parametrize("code", ["pass", "import sys; sys.exit(2)", "print('done')", "print(1)"])
def test_a_worker_that_ends_without_a_word_died(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    reason, events, _ = _supervised(monkeypatch, code, TELL)
    assert reason == "all done"
    assert len(events) == 1 and events[0].startswith("worker 1 died (exit code")


def test_a_workers_message_is_the_searchs(monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.dumps({"message": "the disk is full", "hint": "make room"})
    with pytest.raises(RunError) as caught:
        _supervised(monkeypatch, LOUD + f"print({told!r}); sys.exit(2)")
    assert str(caught.value) == "a worker stopped: the disk is full\n  -> make room"


def test_a_worker_is_told_on_stdin_and_nothing_secret_is_among_its_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[Any] = []
    monkeypatch.setattr(processes, "Process", lambda *arguments: given.append(arguments))
    settings = SimpleNamespace(trials=3, timeout=60.0, workers=2, storage="postgresql://me:hush-42@host/db")
    session: Any = SimpleNamespace(settings=settings, run=Run(tmp_path), clock=Clock.begun(100.0, 60.0))
    processes._start(session, 1)
    command, environment, line = given[0]
    assert "hush-42" not in " ".join(command) and "hush-42" not in " ".join(environment.values())
    assert json.loads(line) == {
        "changes": {"trials": 3, "timeout": 60.0, "workers": 2, "storage": "postgresql://me:hush-42@host/db"},
        "clock": {"started": 100.0, "timeout": 60.0, "deadline": 158.0},
    }


def test_a_worker_whose_parent_is_gone_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tinynas.search", str(tmp_path), "0"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert done.returncode == 1 and done.stdout == b""


@pytest.mark.slow
def test_two_workers_one_stopped_for_good(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    from search_runs import workers_of

    monkeypatch.setattr(processes, "STOPPED_SECONDS", 1.0)
    one = prepared(trials=10, workers=2)
    stopped: list[int] = []

    def stop(event: Any) -> None:
        if event.kind == "trial" and not stopped and (alive := workers_of(one.run)):
            stopped.append(alive[0])
            os.kill(alive[0], signal.SIGSTOP)

    result = one.go(stop)
    assert stopped and result.counts.trained == 10
    accounted(one.run, 10)


# trainings that fail ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(11, "Resource temporarily unavailable"),
        RuntimeError("can't start new thread"),
        RuntimeError("could not create a primitive"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes\nmore"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_where_the_machine_fails_the_search_ends_and_no_network_is_marked(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    one = prepared(trials=3, rungs=[1])
    tried: list[str] = []

    def fail(_self: Trainings, arch: Any, *_: Any, **__: Any) -> Outcome:
        tried.append(arch.id)
        raise error

    monkeypatch.setattr(Trainings, "train", fail)
    with pytest.raises(RunError, match=f"{work.FAILURES} trainings in a row failed") as caught:
        one.go()
    assert caught.value.exit_code == 2 and (str(error).splitlines() or ["out of memory"])[0][:40] in caught.value.message
    assert len(tried) == work.FAILURES and len(set(tried)) == 3
    assert not one.run.path.exists() and "begin it again" in str(caught.value), "nothing was trained, nothing is in the way"
    monkeypatch.undo()
    assert prepared(trials=3, rungs=[1]).go().counts.trained == 3
    assert {trial.id for trial in one.run.trials()} == set(tried), "the same networks, trained now"
    accounted(one.run, 3)


def test_a_network_that_alone_is_too_large_is_given_up(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    one = prepared(trials=4, rungs=[1])
    original, tried = Trainings.train, list[str]()

    def train(self: Trainings, arch: Any, *arguments: Any, **more: Any) -> Outcome:
        tried.append(arch.id)
        if arch.id == tried[0]:
            raise MemoryError
        return original(self, arch, *arguments, **more)

    monkeypatch.setattr(Trainings, "train", train)
    result = one.go()
    assert result.counts.trained == 4
    (given_up,) = [trial for trial in one.run.trials() if trial.state == "failed"]
    assert given_up.id == tried[0] and given_up.reason == f"{study.MAX_RETRIES} times: out of memory"
    assert tried.count(tried[0]) == study.MAX_RETRIES


def test_what_a_network_showed_is_not_lost_where_a_longer_training_fails(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(trials=4, rungs=[1, 2])
    original, longer = Trainings.train, list[str]()

    def train(self: Trainings, arch: Any, until_epoch: int, **more: Any) -> Outcome:
        if until_epoch == 2:
            longer.append(arch.id)
            if arch.id == longer[0]:
                return failed(ValueError("no luck"))
        return original(self, arch, until_epoch, **more)

    monkeypatch.setattr(Trainings, "train", train)
    result = one.go()
    assert result.counts.trained == 4 and result.counts.failed == 0
    assert longer.count(longer[0]) == 1, "it is not tried again"
    record = next(trial for trial in one.run.trials() if trial.id == longer[0])
    assert record.state == "trained" and record.epochs == 1 and record.images > 0 and "accuracy" in record.scores
    assert record.reason == "training it further failed: ValueError: no luck"
    net = session_of(one).study.ledger().nets[longer[0]]
    assert net.left and not net.failed and net.rung == 0


def test_a_training_that_begins_again_and_is_cut_short_takes_nothing_back(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(trials=4, rungs=[1, 2])
    original, cut = Trainings.train, list[str]()

    def train(self: Trainings, arch: Any, until_epoch: int, **more: Any) -> Outcome:
        if until_epoch == 2 and not cut:
            # As where its state was lost, and the time was over after the first epoch anew.
            cut.append(arch.id)
            return replace(original(self, arch, 1, **more), scores={"accuracy": 0.01, "val_loss": 9.0, "loss_sum": 9.0}, new_images=64)
        return original(self, arch, until_epoch, **more)

    monkeypatch.setattr(Trainings, "train", train)
    one.go()
    written = [json.loads(line) for line in one.run.trials_file.read_text().splitlines()]
    of_it = [line for line in written if line["id"] == cut[0]]
    assert all(line["scores"]["accuracy"] > 0.01 for line in of_it)
    assert of_it[-1]["epochs"] == 2, "it was put back, and trained by another"


def test_where_too_little_time_is_left_to_begin_anything_the_search_ends(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(timeout=300, rungs=[1], epoch_images=64, explore=1.0)
    original, asked = Trainings.train, list[str]()

    def train(self: Trainings, arch: Any, until_epoch: int, **more: Any) -> Outcome:
        asked.append(arch.id)
        # As one that needs more time behind the training than is left.
        return original(self, arch, until_epoch, **more) if len(asked) <= 3 else Outcome(0, 0, {}, 0.0, 0)

    monkeypatch.setattr(Trainings, "train", train)
    result = one.go()
    assert result.reason == "the time is used" and result.seconds < 150
    assert result.counts.trained == 3 and len(asked) == 4, "and is not taken up again and again"


def test_of_many_states_those_that_exist_are_dropped_down_to_the_number_kept(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "KEPT_STATES", 3)
    one = prepared(trials=9, rungs=[1])
    one.go()
    assert len(list((one.run.state_dir() / "nets").glob("*.safetensors"))) == 3


def test_where_every_network_fails_the_search_ends_with_the_reason(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(trials=50, rungs=[1])

    def fail(*_: Any, **__: Any) -> Outcome:
        return replace(failed(ValueError("")), failure=Diverged("the loss became nan in epoch 1").message)

    monkeypatch.setattr(Trainings, "train", fail)
    with pytest.raises(RunError, match="5 trainings in a row failed, the last one: the loss became nan"):
        one.go()
    assert states(one.run) == ["failed"] * work.FAILURES
    monkeypatch.undo()
    # Another try counts from nothing, and goes on with other networks.
    assert prepare_search(None, out=one.run.path, resume=True, trials=2).go().counts.trained == 2


def test_what_was_found_before_trainings_kept_failing_can_be_used(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(trials=9, rungs=[1])
    original, count = Trainings.train, [0]

    def train(self: Trainings, *arguments: Any, **more: Any) -> Outcome:
        count[0] += 1
        return original(self, *arguments, **more) if count[0] <= 2 else failed(ValueError("no luck"))

    monkeypatch.setattr(Trainings, "train", train)
    with pytest.raises(RunError, match="ValueError: no luck"):
        one.go()
    assert one.run.resolve_id("best") in {trial.id for trial in one.run.trials() if trial.was_trained}


def test_failures_between_successes_do_not_end_the_search(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    one = prepared(trials=3, rungs=[1])
    original, count = Trainings.train, [0]

    def train(self: Trainings, *arguments: Any, **more: Any) -> Outcome:
        count[0] += 1
        return original(self, *arguments, **more) if count[0] % work.FAILURES == 0 else failed(ValueError("no luck"))

    monkeypatch.setattr(Trainings, "train", train)
    assert one.go().counts.trained == 3
    assert states(one.run).count("failed") == 3 * (work.FAILURES - 1)


def test_what_is_the_networks_and_what_the_machines() -> None:
    assert failed(MemoryError()).failure == "out of memory"
    assert failed(MemoryError("no 5 MB")).failure == "MemoryError: no 5 MB"
    assert failed(ValueError("memory of an elephant")).machine is False
    assert failed(RuntimeError("shapes differ\nat once")) == Outcome(0, 0, {}, 0.0, 0, "RuntimeError: shapes differ", False)
    assert failed(FileNotFoundError(2, "gone")).machine is True
