"""The journal: torn lines are mended, writes are whole or not at all, a left-over lock file costs a moment."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from search_runs import accounted, session_of

from tinynas import files
from tinynas.api import PreparedSearch, prepare_search
from tinynas.errors import DiskError, RunError
from tinynas.runs import Run
from tinynas.search.journal import LEFT_OVER_SECONDS, Journal, mend
from tinynas.search.work import Worker

A, B, C = (
    json.dumps({"op_code": n, "worker_id": "w", "user_attr": {"x": '{"op_code":9}'}}, separators=(",", ":")).encode() for n in (4, 8, 6)
)


class Full:
    """An open file on a disk that has room for ``room`` bytes more, over all such files."""

    room = 0

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: memoryview) -> int:
        if not Full.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._file.write(data[: Full.room])
        Full.room -= written
        return written


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Leaves so many bytes of room from now on."""
    original = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
        file = original(self, mode, *args, **more)
        return Full(file) if mode.startswith("a") and more.get("buffering") == 0 else file

    def fill(room: int) -> None:
        Full.room = room
        monkeypatch.setattr(Path, "open", opened)

    return fill


@pytest.mark.parametrize(
    ("torn", "mended"),
    [
        (b"", b""),
        (A + b"\n" + B + b"\n", A + b"\n" + B + b"\n"),
        (A + b"\n" + B[:-20], A + b"\n"),
        (A + b"\n" + B, A + b"\n"),
        (A + b"\n\n", A + b"\n"),
        (A + b"\n\n \r\n" + B + b"\n\n\n", A + b"\n" + B + b"\n"),
        (A + b"\r\n" + B + b"\r\n", A + b"\r\n" + B + b"\r\n"),
        (A + b"\n" + B[:31] + C + b"\n" + A + b"\n", A + b"\n" + C + b"\n" + A + b"\n"),
        (A + b"\n" + B[:31] + C[:12] + A + b"\n", A + b"\n" + A + b"\n"),
        (A + b"\n" + B[:31] + b"\n", A + b"\n"),
        (A + b"\n" + b"\0" * 512, A + b"\n"),
        (A + b"\n" + b"\0" * 512 + b"\n", A + b"\n"),
        (A + b"\n" + b"\0" * 512 + C + b"\n", A + b"\n" + C + b"\n"),
        (A[:15], b""),
    ],
)
def test_what_is_left_of_a_line_goes(tmp_path: Path, torn: bytes, mended: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(torn)
    before = path.stat().st_ino
    mend(path)
    assert path.read_bytes() == mended
    assert (path.stat().st_ino == before) == (torn == mended), "what is whole is not touched"
    read = list(Journal(path).read_logs(0))
    assert read == [json.loads(line) for line in mended.splitlines()]


@pytest.mark.parametrize("line", [b'{"op_code":5,"worker', b'{"other": 1}', b"[]", b"\xff\xfe"])
def test_damage_amid_good_lines_is_said_and_nothing_is_thrown_away(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(A + b"\n" + line + b"\n" + B + b"\n")
    with pytest.raises(RunError, match=r"journal, line 2: is no record"):
        mend(path)
    assert path.read_bytes() == A + b"\n" + line + b"\n" + B + b"\n"


def test_another_file_is_not_emptied(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"dear diary\n")
    with pytest.raises(RunError, match="is no journal"):
        mend(path)
    assert path.read_bytes() == b"dear diary\n"
    mend(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("room", [0, 1, 40, 60])
def test_a_write_that_fails_leaves_the_journal_as_it_was(tmp_path: Path, full_disk: Callable[[int], None], room: int) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append_logs([json.loads(A)])
    full_disk(room)
    with pytest.raises(DiskError, match="No space left"):
        journal.append_logs([json.loads(B)])
    assert path.read_bytes() == A + b"\n"
    assert not journal._outside.path.exists()
    full_disk(10**6)
    with pytest.raises(DiskError):
        journal.append_logs([json.loads(C)])
    # What this process believes is not what was written: another begins with what was.
    assert path.read_bytes() == A + b"\n"
    other = Journal(path)
    other.append_logs([json.loads(C)])
    assert path.read_bytes() == A + b"\n" + C + b"\n"


def test_lines_of_a_log_are_whole_or_not_there(tmp_path: Path, full_disk: Callable[[int], None]) -> None:
    path = tmp_path / "log.jsonl"
    files.append_line(path, {"a": 1})
    full_disk(4)
    with pytest.raises(DiskError):
        files.append_line(path, {"b": 2})
    full_disk(100)
    files.append_line(path, {"c": 3})
    assert path.read_bytes() == b'{"a":1}\n{"c":3}\n'


def test_what_belongs_together_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    storage = optuna.storages.JournalStorage(Journal(path))
    writes: list[int] = []
    append = files.append_bytes
    monkeypatch.setattr("tinynas.search.journal.append_bytes", lambda path, data: writes.append(data.count(b"\n")) or append(path, data))
    study = optuna.create_study(storage=storage)
    writes.clear()
    with storage._backend.together():
        trial = study.ask()
        trial.set_user_attr("seen", 1)
        assert study.get_trials()[0].user_attrs == {"seen": 1}, "it is known in the block"
        study.tell(trial, 2.0)
        assert writes == []
    assert len(writes) == 1 and writes[0] >= 3
    again = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(Journal(path)))
    assert (again.trials[0].value, again.trials[0].user_attrs) == (2.0, {"seen": 1})
    for value in (3.0, 4.0):
        study.tell(study.ask(), value)
    assert [t.value for t in study.trials] == [t.value for t in again.trials] == [2.0, 3.0, 4.0]
    # Optuna's own reader sees the same.
    plain = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    assert [t.value for t in optuna.load_study(study_name=None, storage=plain).trials] == [2.0, 3.0, 4.0]


def test_a_left_over_lock_file_costs_a_moment_and_a_held_one_is_respected(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    lock = tmp_path / "journal.lock"
    lock.touch()
    started = time.monotonic()
    journal.append_logs([{"op_code": 1}])
    assert LEFT_OVER_SECONDS < time.monotonic() - started < LEFT_OVER_SECONDS + 3
    assert not lock.exists()
    # Optuna's own tools make the same file for the length of a write.
    lock.touch()
    threading.Timer(0.3, lock.unlink).start()
    started = time.monotonic()
    journal.append_logs([{"op_code": 2}])
    assert 0.2 < time.monotonic() - started < LEFT_OVER_SECONDS
    assert [log["op_code"] for log in journal.read_logs(0)] == [1, 2]


@pytest.mark.parametrize("damage", ["cut", "blank", "glued"])
def test_a_search_goes_on_after_its_journal_was_torn(prepared: Callable[..., PreparedSearch], damage: str) -> None:
    one = prepared(trials=2)
    one.go()
    before = {trial.id: trial.images for trial in one.run.trials()}
    journal = one.run.journal_file
    data = journal.read_bytes()
    journal.write_bytes(
        {"cut": data[:-20], "blank": data + b"\n", "glued": data + data.splitlines()[-1][:20] + data.splitlines()[-1] + b"\n"}[damage]
    )
    result = prepare_search(None, out=one.run.path, resume=True, trials=3).go()
    assert result.counts.trained == 3
    assert {trial.id: trial.images for trial in one.run.trials()}.items() >= before.items()
    accounted(one.run, 3)


def test_a_journal_that_is_gone_is_not_begun_anew(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2, rungs=[1])
    one.go()
    before = one.run.trials_file.read_bytes()
    for content in (None, b"", b'{"op_code":0,"wor'):
        one.run.journal_file.unlink() if content is None else one.run.journal_file.write_bytes(content)
        with pytest.raises(RunError, match="holds nothing of the 2 networks"):
            prepare_search(None, out=one.run.path, resume=True, trials=3).go()
    assert one.run.trials_file.read_bytes() == before


@pytest.mark.parametrize("room", [0, 300, 900, 2000, 4500])
def test_a_search_on_a_full_disk_ends_with_a_message_and_goes_on_with_room(
    prepared: Callable[..., PreparedSearch], full_disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    one = prepared(trials=3, rungs=[1])
    full_disk(room)
    with pytest.raises(DiskError, match="No space left") as caught:
        one.go()
    assert "--resume" in str(caught.value)
    monkeypatch.undo()
    # Before the first proposal was written there is nothing to go on with, and no folder in the way.
    begun = one.run.path.exists()
    before = {trial.id: trial.images for trial in Run.open(one.run.path).trials()} if begun else {}
    again = prepare_search(None, out=one.run.path, resume=True) if begun else prepared(trials=3, rungs=[1])
    assert again.go().counts.trained == 3
    assert {trial.id: trial.images for trial in one.run.trials()}.items() >= before.items()
    accounted(one.run, 3)


def test_the_lock_is_held_for_moments(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposing is done before the lock is taken, and is not done again with it."""
    one = prepared(trials=12, rungs=[1])
    session = session_of(one)
    worker = Worker(session)
    thought: list[bool] = []
    propose = worker.proposer.propose

    def watched(*args: Any, **more: Any) -> Any:
        thought.append(session.study._storage._backend._pending is not None)
        return propose(*args, **more)

    monkeypatch.setattr(worker.proposer, "propose", watched)
    worker.run()
    # A proposal that is refused is replaced under the lock.
    refused = sum(not trial.was_trained for trial in one.run.trials())
    assert thought.count(False) >= 12
    assert thought.count(True) <= refused
