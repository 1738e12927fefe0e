"""The study: what is written down, what a death leaves behind and who goes on with it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from search_runs import session_of, states

from tinynas.api import PreparedSearch, prepare_search
from tinynas.errors import DiskError, RunError, UserError
from tinynas.files import append_line, disk_error
from tinynas.runs import Run
from tinynas.search import study, worker
from tinynas.search.prepare import open_session
from tinynas.search.work import Worker


def test_a_run_goes_on_where_its_folder_was_renamed(prepared: Callable[..., PreparedSearch], tmp_path: Path) -> None:
    one = prepared(trials=3)
    one.go()
    before = {t.id for t in one.run.trials()}
    moved = one.run.path.rename(tmp_path / "renamed")
    result = prepare_search(None, out=moved, resume=True, trials=4).go()
    assert result.counts.trained == 4
    assert before < {t.id for t in Run.open(moved).trials()}
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(Run.open(moved).journal_file)))
    assert len(storage.get_all_studies()) == 1
    jobs = [(row["id"], row["rung"]) for row in Run.open(moved).log("times")]
    assert len(jobs) == len(set(jobs)), "nothing is trained again"


def test_another_objective_cannot_continue_a_run(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2)
    one.go()
    settings = one.settings.model_copy(update={"objectives": ("accuracy", "sram")})
    with pytest.raises(RunError, match="other objectives"):
        open_session(one.run, one.space, one.budget, one.data, settings)


@pytest.mark.parametrize("url", ["nonsense", "postgresql://nobody@127.0.0.1:1/none"])
def test_a_storage_that_cannot_be_reached(prepared: Callable[..., PreparedSearch], url: str) -> None:
    if url != "nonsense":
        pytest.importorskip("psycopg2", reason="the PostgreSQL client is not installed")
    with pytest.raises(UserError, match="--storage") as caught:
        prepared(trials=2, storage=url).go()
    assert caught.value.exit_code == 2


def test_work_of_a_dead_process_is_handed_on(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3)
    session = session_of(one)
    dead = Worker(session)
    session.study.join()
    job = dead.decide()
    assert isinstance(job, study.Job)
    survivor = session_of(one)
    assert survivor.study.alive(session.study.member)
    assert survivor.study.reclaim() == []
    assert session.study._member is not None
    session.study._member.close()  # what the kernel does to a killed process
    with survivor.study.deciding():
        assert survivor.study.reclaim() == [job.net]
        assert survivor.study.reclaim() == []
    reason = Worker(survivor).run()
    trials = one.run.trials()
    assert [t.id for t in trials if t.number == job.proposal] == [job.net]
    assert len(trials) == 3, reason


def test_a_network_that_kills_its_workers_is_given_up(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=2)
    session = session_of(one)
    session.study.join()
    job = Worker(session).decide()
    assert isinstance(job, study.Job)
    number = job.number
    for _ in range(study.MAX_RETRIES):
        session.study.hand_back(number, count_retry=True)
        number = session.study.trials()[-1].number
        if _ < study.MAX_RETRIES - 1:
            session.study.claim_waiting()
    session.study.leave()
    Worker(session).run()
    record = next(t for t in one.run.trials() if t.id == job.net)
    assert record.state == "failed"
    assert "died 3 times" in str(record.reason)
    assert states(one.run).count("trained") + states(one.run).count("stopped") == 2


def test_a_training_that_cannot_be_handed_back_keeps_no_other(
    prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(prepared(trials=3))
    begun: list[study.Job] = []
    hand_back, tried = session.study.hand_back, list[int]()

    def interrupt(_seconds: float) -> Any:
        raise KeyboardInterrupt

    def first_fails(number: int, **rest: Any) -> None:
        tried.append(number)
        if len(tried) == 1:
            raise RuntimeError("the lock")
        hand_back(number, **rest)

    monkeypatch.setattr(session.study, "hand_back", first_fails)
    crew: Any = SimpleNamespace(free=lambda: 2 - len(begun), begin=begun.append, ended=interrupt, close=lambda: None)
    with pytest.raises(KeyboardInterrupt):
        Worker(session).run(crew)
    assert tried == [job.number for job in begun] and len(tried) == 2


def test_a_record_that_a_kill_kept_from_disk_is_mended(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3, rungs=[1])
    one.go()
    lines = one.run.trials_file.read_bytes().splitlines(keepends=True)
    one.run.trials_file.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    assert len(one.run.trials()) == 2
    session = session_of(one)
    session.study.mend()
    assert b"".join(lines) == one.run.trials_file.read_bytes()


def test_ctrl_c_waits_for_the_lock(tmp_path: Path) -> None:
    # Started in the background, Python leaves SIGINT ignored: the test brings its own handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt), study.file_lock(tmp_path / "lock"):
            signal.raise_signal(signal.SIGINT)
            done.append("finished what the lock protects")
        assert done
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_full_disk_is_one_message(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    one = prepared(trials=3)
    written: list[int] = []
    from tinynas import runs

    def full(path: Path, document: dict[str, Any]) -> None:
        written.append(1)
        if len(written) > 3:
            raise disk_error(path, OSError(28, "No space left on device"))
        append_line(path, document)

    monkeypatch.setattr(runs, "append_line", full)
    with pytest.raises(DiskError, match="No space left") as caught:
        one.go()
    assert "--resume" in str(caught.value)
    monkeypatch.undo()
    assert prepare_search(None, out=one.run.path, resume=True).go().counts.trained == 3
    jobs = [(row["id"], row["rung"]) for row in one.run.log("times")]
    assert len(jobs) >= 3
    assert len(jobs) == len(set(jobs)), "nothing is trained twice"


def test_whoever_looks_at_a_study_sees_the_values_that_were_chosen(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=4)
    one.go()
    # As a run of an older version: without a word of values.
    lines = [json.loads(line) for line in one.run.journal_file.read_text().splitlines()]
    values = [line for line in lines if "choices" in line.get("user_attr", {}) or "choices" in line.get("user_attrs", {})]
    assert values
    for line in values:
        line.get("user_attrs", {}).pop("choices", None)
    older = [json.dumps(line, separators=(",", ":")) for line in lines if "choices" not in line.get("user_attr", {})]
    one.run.journal_file.write_text("\n".join(older) + "\n")
    known = len(session_of(one).study.trials())
    assert prepare_search(None, out=one.run.path, resume=True, trials=8).go().counts.trained == 8
    study = session_of(one).study.optuna
    genes = {gene.name: gene.choices for gene in one.space.genes if len(gene.choices) > 1}
    assert study.user_attrs["choices"] == {name: list(choices) for name, choices in genes.items()}
    assert study.user_attrs["choices"]["resolution"] == [12, 16]
    new = [trial for trial in study.trials if trial.number >= known and "genotype" in trial.user_attrs]
    assert new
    for trial in new:
        assert trial.user_attrs["choices"].keys() == genes.keys()
        genotype = one.space.canonical([trial.params.get(gene.name, 0) for gene in one.space.genes])
        arch = one.space.decode(genotype, 3)
        assert trial.user_attrs["choices"]["resolution"] == arch.height


def test_a_study_that_lost_networks_is_not_gone_on_with(prepared: Callable[..., PreparedSearch]) -> None:
    one = prepared(trials=3, rungs=[1])
    one.go()
    records, journal = one.run.trials_file.read_bytes(), one.run.journal_file.read_bytes()
    lines = journal.splitlines(keepends=True)
    second = next(number for number, line in enumerate(lines) if one.run.trials()[1].id.encode() in line)
    one.run.journal_file.write_bytes(b"".join(lines[:second]))
    with pytest.raises(RunError, match=r"lacks 2 networks that trials\.jsonl holds"):
        prepare_search(None, out=one.run.path, resume=True).go()
    with pytest.raises(RunError, match="lacks 2 networks"):
        worker(one.run.path)
    assert one.run.trials_file.read_bytes() == records
    one.run.journal_file.write_bytes(journal)
    assert prepare_search(None, out=one.run.path, resume=True, trials=4).go().counts.trained == 4


@pytest.mark.parametrize("damage", ["missing", "empty", "of another kind"])
def test_a_storages_name_is_not_made_up(prepared: Callable[..., PreparedSearch], tmp_path: Path, damage: str) -> None:
    one = prepared(trials=1, rungs=[1], storage=f"sqlite:///{tmp_path}/a.db")
    one.go()
    name = one.run.state_dir() / "study_name"
    kept = name.read_bytes()
    if damage == "missing":
        name.unlink()
    else:
        name.write_bytes(b"" if damage == "empty" else b"\xff\xfe")
    with pytest.raises(RunError, match=f"study_name: is {'missing' if damage == 'missing' else 'damaged'}"):
        prepare_search(None, out=one.run.path, resume=True, trials=2).go()
    name.write_bytes(kept)
    assert prepare_search(None, out=one.run.path, resume=True, trials=2).go().counts.trained == 2


def test_a_database_that_is_started_anew_is_waited_for(
    prepared: Callable[..., PreparedSearch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    class Away:
        """An engine whose server answers again after so many looks."""

        def __init__(self, engine: Any, looks: int) -> None:
            self.engine, self.looks, self.asked = engine, looks, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

        def connect(self) -> Any:
            self.asked += 1
            if self.asked <= self.looks:
                raise OperationalError("SELECT 1", {}, Exception("the server is starting up"))
            return self.engine.connect()

    assert study.AWAY_SECONDS < study.GRACE_SECONDS - study.HEARTBEAT_SECONDS, "what is under way is not taken for dead meanwhile"
    monkeypatch.setattr(study, "AWAY_LOOK", 0.0)
    session = session_of(prepared(trials=2, storage=f"sqlite:///{tmp_path}/a.db"))
    backend: Any = session.study._storage
    away = Away(backend._backend.engine, 3)
    monkeypatch.setattr(backend._backend, "engine", away)
    assert isinstance(Worker(session).decide(), study.Job) and away.asked > 3
    # Too long: it is waited for once, and what is asked of it is one error.
    away.asked, away.looks = 0, 10**9
    monkeypatch.setattr(study, "AWAY_SECONDS", 0.05)
    asked = []
    for _ in range(2):
        before = away.asked
        with pytest.raises(UserError, match="the server is starting up") as caught, session.study.deciding():
            raise OperationalError("INSERT", {}, Exception("the server is starting up")) from Exception("the server is starting up")
        asked.append(away.asked - before)
    assert asked[0] > 1 == asked[1] and "--resume" in str(caught.value.hint)
