"""A study in a real PostgreSQL server, started here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cluster_engine import Engine
from search_runs import session_of, start_process, wait_until, workers_of

from tinynas.api import PreparedSearch, prepare_search
from tinynas.errors import UserError
from tinynas.search import Place, SearchEvent, study
from tinynas.search.prepare import open_session
from tinynas.search.study import Study
from tinynas.search.work import Worker


@dataclass
class Server:
    url: str
    start: Callable[[], None]
    stop: Callable[[], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real PostgreSQL server, started here on a loopback port as an ordinary user."""
    pytest.importorskip("psycopg2", reason="the PostgreSQL client is not installed: pip install 'tinynas[postgresql]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    binary = Path(shutil.which("pg_ctl") or (found[-1] if found else ""))
    if not binary.is_file():
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    import pwd
    import socket

    folder = tmp_path_factory.mktemp("postgres")
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:
        # The server refuses to run as root.
        account = pwd.getpwnam("postgres")
        folder = Path(f"/tmp/tinynas-postgres-{os.getpid()}")
        folder.mkdir(mode=0o700)
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user = {"user": account.pw_uid, "group": account.pw_gid}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = folder / "data", folder / "log"

    def call(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **as_user)
        assert done.returncode == 0, done.stderr + done.stdout

    initdb = str(binary.with_name("initdb"))
    call(initdb, "-D", str(data), "-A", "trust", "-U", "tinynas", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"

    def start() -> None:
        call(str(binary), "-D", str(data), "-l", str(log), "-o", options, "-w", "start")

    def stop() -> None:
        call(str(binary), "-D", str(data), "-m", "immediate", "stop")

    start()
    try:
        yield Server(f"postgresql://tinynas@127.0.0.1:{port}/postgres", start, stop)
    finally:
        stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(server: Server) -> str:
    """Its URL."""
    return server.url


@pytest.mark.slow
def test_a_study_in_postgresql(prepared: Callable[..., PreparedSearch], postgres: str) -> None:
    one = prepared(trials=6, storage=postgres)
    result = one.go()
    assert result.counts.trained == 6
    assert not one.run.journal_file.exists()
    study = open_session(one.run, one.space, one.budget, one.data, one.settings).study
    assert study.needs_heartbeat
    assert sum(trial.state.name == "COMPLETE" for trial in study.trials()) == len(one.run.log("times"))


@pytest.mark.slow
def test_workers_on_postgresql_may_die(prepared: Callable[..., PreparedSearch], postgres: str) -> None:
    one = prepared("killed", trials=14, workers=2, storage=postgres)
    process = start_process(one.run.path)
    wait_until(lambda: len(workers_of(one.run)) == 2 and len(one.run.trials()) >= 2, 120)
    os.kill(workers_of(one.run)[0], signal.SIGKILL)
    _, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong
    jobs = [(row["id"], row["epochs"]) for row in one.run.log("times")]
    assert len(jobs) == len(set(jobs))
    assert sum(t.was_trained for t in one.run.trials()) == 14


@pytest.mark.slow
def test_a_heartbeat_that_stops_hands_the_trial_on(
    prepared: Callable[..., PreparedSearch], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another machine that does not share file locks is known to be alive by Optuna's heartbeat alone.
    from tinynas.search import study as module

    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(module, "GRACE_SECONDS", 2)
    monkeypatch.setattr(Study, "alive", lambda *_: True)
    one = prepared("silent", trials=2, storage=postgres)
    session = session_of(one)
    job = Worker(session).decide()
    assert isinstance(job, study.Job)
    session.study.heartbeat(job.number)
    time.sleep(3)
    other = session_of(one)
    Worker(other).run()
    records = [t for t in one.run.trials() if t.id == job.net]
    assert [t.state for t in records] == ["trained"]


@pytest.mark.slow
def test_a_server_that_goes_away_in_the_middle_of_a_search_on_a_cluster(
    prepared: Callable[..., PreparedSearch], server: Server, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(prepared(trials=5, rungs=[1], storage=server.url), cluster=Place("tcp://nowhere:1"))
    went: list[int] = []

    def watch(event: SearchEvent) -> None:
        if event.kind != "trial" or event.counts.trained in went:
            return
        went.append(event.counts.trained)
        if event.counts.trained == 1:  # for a moment
            server.stop()
            threading.Timer(1.0, server.start).start()
        if event.counts.trained == 3:  # for good
            server.stop()
            monkeypatch.setattr(study, "AWAY_SECONDS", 0.2)

    try:
        with pytest.raises(UserError) as caught:
            one.go(watch)
    finally:
        server.start()
    assert server.url in caught.value.message and "continue with --resume; nothing finished is lost" in str(caught.value.hint)
    assert sum(trial.was_trained for trial in one.run.trials()) == 3 and one.run.front()
    result = prepare_search(None, out=one.run.path, resume=True, cluster="tcp://nowhere:1").go()
    jobs = [(row["id"], row["epochs"]) for row in one.run.log("times")]
    assert result.counts.trained == 5 and len(jobs) == len(set(jobs))
    trained = [given for what, given in engine.taken if what == "train"]
    assert len(trained) <= 6, "what was under way when it went is trained again, and nothing else"
