"""A search on a cluster: the same results as in one process, plain data on the way, machines lost and found."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from cluster_engine import Engine
from search_runs import RECIPE, SPACE, accounted, start_process, wait_until

from tinynas.api import PreparedSearch
from tinynas.data import DataSet, open_data
from tinynas.data.replica import NotHereError, files_of, pack, unpack
from tinynas.errors import DataError, MissingExtraError, RunError, UserError
from tinynas.inputs import Input
from tinynas.model import read_tensors
from tinynas.recipe import Recipe
from tinynas.search import Place, SearchEvent, remote
from tinynas.search.cluster import Shared, _on_worker, _result
from tinynas.search.training import Trainings

HERE = Path(__file__).parent
dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="Dask is not installed: pip install 'tinynas[cluster]' (constraints.txt)"
)


# what is sent ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(stripes: str) -> DataSet:
    return open_data(stripes, seed=0)


INPUT = Input(12, 12, 3)


def same_state(one: Path, other: Path) -> None:
    """All but the seconds that epochs took."""
    (ours, said), (theirs, told) = read_tensors(one), read_tensors(other)
    assert ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    histories = [[{**epoch, "seconds": 0} for epoch in json.loads(metadata["history"])] for metadata in (said, told)]
    assert histories[0] == histories[1] and said["of"] == told["of"]


def test_a_data_set_elsewhere_reads_what_was_brought(images: DataSet, tmp_path: Path) -> None:
    recipe = Recipe.model_validate({**Recipe.proxy().model_dump(), **RECIPE})
    there = unpack(pack(images), tmp_path)
    with pytest.raises(NotHereError):
        there.read_by(INPUT, "val")
    files = files_of(images, INPUT, recipe.augment)
    assert [path.name.split("-")[0] for path in files] == ["train", "val"], "the test split stays where it is"
    for path in files:
        copy = tmp_path / path.relative_to(images.cache)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    for name in ("train", "val"):
        ours, theirs = images.read_by(INPUT, name), there.read_by(INPUT, name)
        assert np.array_equal(ours.inputs, theirs.inputs) and np.array_equal(ours.labels, theirs.labels)
        assert ours.names == theirs.names and ours.kind == theirs.kind and theirs.groups is None
    with pytest.raises(NotHereError):
        there.read_by(INPUT, "test")
    assert pack(there) == pack(images), "nothing that is sent is lost, and equal data are equal bytes"
    # A new field of a data set must be sent, or be known to stay.
    stays = {"notes", "bad", "leaks", "straddles", "duplicates", "read", "cache", "recordings", "on_progress", "held_out"}
    sent = {"name", "signal", "labels", "fingerprint", "records", "targets", "members", "options", "groups", "attributes"}
    assert {field.name for field in fields(DataSet)} == stays | sent


def test_groups_and_attributes_are_sent_too(images: DataSet, tmp_path: Path) -> None:
    from tinynas.data import Groups

    of = np.arange(len(images.records)) // 2
    rich = replace(images, groups=Groups(tuple(map(str, range(of.max() + 1))), of), attributes={"light: dark": (of % 2).astype(np.int8)})
    there = unpack(pack(rich), tmp_path)
    assert rich.groups is not None and there.groups is not None
    assert there.groups.names == rich.groups.names and np.array_equal(there.groups.of, of)
    assert np.array_equal(there.values("light: dark", "val"), rich.values("light: dark", "val"))
    assert there.positive == rich.positive and there.native_size == rich.native_size and there.counts("train") == rich.counts("train")


def test_sounds_bring_their_variants(tmp_path: Path) -> None:
    import soundfile

    from tinynas.front_end import FrontEnd
    from tinynas.recipe import Augment

    for label in ("hiss", "hum"):
        (tmp_path / "sounds" / label).mkdir(parents=True)
        for number in range(10):
            wave = np.random.default_rng((number, len(label))).normal(0, 0.1, 1600)
            soundfile.write(tmp_path / "sounds" / label / f"{number}.wav", wave, 8000)
    hears = FrontEnd(sample_rate=8000, clip_ms=200, bins=12)
    heard, network = open_data(str(tmp_path / "sounds"), seed=0), Input(*hears.shape, "features", front_end=hears)
    augment = Augment.model_validate({"sound": {"variants": 2}})
    files = files_of(heard, network, augment)
    assert len(files) == 4, "both splits, and two variants of the training sounds"
    assert len(files_of(heard, network, Augment(kind="none"))) == 2
    there = unpack(pack(heard), tmp_path / "there")
    for path in files:
        (tmp_path / "there" / path.relative_to(heard.cache)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "there" / path.relative_to(heard.cache))
    ours, theirs = heard.read_by(network, "train"), there.read_by(network, "train")
    assert ours.anew is not None and theirs.anew is not None and np.array_equal(ours.inputs, theirs.inputs)
    for number in (0, 1):
        assert np.array_equal(ours.anew.variant(augment.sound, number), theirs.anew.variant(augment.sound, number))
    with pytest.raises(NotHereError):
        theirs.anew.variant(augment.sound, 2)


@pytest.mark.parametrize("content", [b"", b"no data set", pack.__doc__.encode() * 9])  # type: ignore[union-attr]
def test_what_is_no_data_set_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no data set"):
        unpack(content, tmp_path)


def test_files_arrive_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path))
    content = bytes(range(250))
    size, digest = len(content), hashlib.sha256(content).hexdigest()
    asked = json.dumps({"inputs/a.npy": [size, digest]})

    def send(*pieces: tuple[int, bytes]) -> list[dict[str, Any]]:
        return [json.loads(remote.receive("inputs/a.npy", "token", offset, piece, size, digest)) for offset, piece in pieces]

    assert json.loads(remote.lacking(asked)) == {"names": ["inputs/a.npy"]}
    # The second piece twice: its first answer was lost.
    assert send((0, content[:100]), (100, content[100:200]), (100, content[100:200])) == [{"whole": False}] * 3
    assert json.loads(remote.lacking(asked)) == {"names": ["inputs/a.npy"]}
    assert send((200, content[200:])) == [{"whole": True}]
    assert json.loads(remote.lacking(asked)) == {"names": []}
    assert (tmp_path / "cluster/inputs/a.npy").read_bytes() == content
    # As long, other content: it is sent again, and what arrives damaged is not kept.
    (tmp_path / "cluster/inputs/a.npy").write_bytes(content[::-1])
    assert json.loads(remote.lacking(asked)) == {"names": ["inputs/a.npy"]}
    assert "arrived damaged" in send((0, bytes(size)))[0]["error"][0]
    assert json.loads(remote.lacking(asked)) == {"names": ["inputs/a.npy"]}
    assert len(list((tmp_path / "cluster/inputs").iterdir())) == 1
    assert "no name" in json.loads(remote.receive("../a", "t", 0, b"", 0, ""))["error"][0]


def test_a_task_gives_what_a_training_here_gives(images: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.proxy().model_copy(update={"augment": Recipe.model_validate(RECIPE).augment, "batch_size": 32, "epochs": 2})
    arch = SPACE.decode(SPACE.canonical([0] * len(SPACE.genes)), 3)
    here = Trainings(images, recipe, 3, tmp_path)
    shared = Shared(images, recipe, 3)
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "there"))
    task = {**shared.task, "arch": arch.model_dump(mode="json"), "epochs": 1, "seconds": None, "parent": None}

    def train(state: bytes | None, **changes: Any) -> tuple[dict[str, Any], bytes | None]:
        answer, left = remote.train(json.dumps({**task, **changes}), state, None)
        return json.loads(answer), left

    assert train(None) == ({"lacking": True}, None)
    for name, path in shared.files(arch, recipe).items():
        target = tmp_path / "there/cluster" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    told: list[dict[str, Any]] = []
    state: bytes | None = None
    for epochs in (1, 2):
        ours = asdict(here.train(arch, epochs))
        answer, state = train(state, epochs=epochs)
        told.append(answer["outcome"])
        assert {**ours, "seconds": 0} == {**told[-1], "seconds": 0}
        assert state is not None
        (tmp_path / "state").write_bytes(state)
        same_state(tmp_path / "state", here.state_file(arch.id))
    assert told[1]["images"] == 2 * told[0]["images"] and told[0]["scores"] != told[1]["scores"]
    # No time is left: nothing is trained, and the state is the one that was sent.
    answer, left = train(None, seconds=-1.0)
    assert answer["outcome"]["epochs"] == 0 and left is None
    other = {**task["versions"], "torch": "0.1"}
    assert train(None, versions=other)[0] == {"versions": remote.versions()}
    assert "is of other images" in train(None, fingerprint="f" * 64)[0]["error"][0]
    # A task that the engine took back ends after its epoch, and gives nothing.
    task_state = SimpleNamespace(state="cancelled")
    worker = SimpleNamespace(get_current_task=lambda: "key", state=SimpleNamespace(tasks={"key": task_state}))
    monkeypatch.setitem(sys.modules, "distributed.worker", cast(Any, SimpleNamespace(get_worker=lambda: worker)))
    assert train(None, epochs=2) == ({"unwanted": True}, None)
    task_state.state = "executing"
    assert train(None, epochs=2)[0]["outcome"]["epochs"] == 2


def test_a_network_that_takes_its_workers_along_is_given_up() -> None:
    class KilledWorker(Exception):
        pass

    def result() -> Any:
        raise KilledWorker("key")

    answer, state = _result(SimpleNamespace(result=result))
    outcome = remote.outcome_in(json.loads(answer))
    assert state is None and not outcome.machine and outcome.scores == {}
    assert outcome.failure == "its workers died one after the other while training it (out of memory?)"


def test_without_dask_it_says_what_to_install(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError) as caught:
        replace(prepared(trials=1), cluster=Place("tcp://127.0.0.1:1")).go()
    assert "pip install 'tinynas[cluster]'" in str(caught.value.hint)


# a cluster on this machine --------------------------------------------------------------------------


@dataclass
class Nodes:
    """A scheduler and workers, each with a cache of its own, as on machines that share nothing."""

    folder: Path
    address: str
    processes: dict[str, subprocess.Popen[bytes]]
    stopped: bool = False

    def start(self, name: str) -> None:
        environment = {**os.environ, "TINYNAS_CACHE": str(self.folder / name / "cache")}
        self._run(
            name,
            "dask_worker",
            self.address,
            "--nthreads",
            "1",
            "--no-nanny",
            "--name",
            name,
            environment=environment,
            said="Registered to",
        )

    def start_scheduler(self) -> None:
        # The scheduler does not see this tree.
        elsewhere = [path for path in sys.path if path and Path(path).resolve() != HERE.parent]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(elsewhere)}
        host, port = self.address.removeprefix("tcp://").split(":")
        self._run("scheduler", "dask_scheduler", "--host", host, "--port", port, environment=environment, said="Scheduler at")

    def _run(self, name: str, module: str, *arguments: str, environment: dict[str, str], said: str) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        with (self.folder / name / "log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"],
                cwd=self.folder / name,
                env=environment,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: said in (self.folder / name / "log").read_text(), 120)

    def files(self, name: str) -> dict[str, int]:
        """What was sent there, and which file of the disk each is."""
        root = self.folder / name / "cache/cluster"
        return {str(path.relative_to(root)): path.stat().st_ino for path in root.rglob("*.*") if path.suffix != ".lock"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    found = Nodes(tmp_path_factory.mktemp("cluster"), address, {})
    try:
        found.start_scheduler()
        found.start("one")
        yield found
    finally:
        for process in found.processes.values():
            process.kill()
            process.wait()


@dask
def test_a_cluster_finds_what_one_process_finds(prepared: Callable[..., PreparedSearch], nodes: Nodes) -> None:
    # One training at a time: the decisions are those of one process, and so is all that follows.
    plain, one = prepared("plain", trials=3), replace(prepared("one", trials=3), cluster=Place(nodes.address))
    plain.go()
    events: list[SearchEvent] = []
    one.go(events.append)
    assert one.run.trials_file.read_bytes() == plain.run.trials_file.read_bytes()
    assert max(event.workers for event in events) == 1
    states = list((plain.run.state_dir() / "nets").glob("*.safetensors"))
    assert len(states) == 3
    for path in states:
        same_state(path, one.run.state_dir() / "nets" / path.name)
    accounted(one.run, 3)
    sent = nodes.files("one")
    assert any("train-" in name for name in sent) and not any("test-" in name for name in sent)


@dask
@pytest.mark.slow
def test_nothing_is_lost_with_a_worker(prepared: Callable[..., PreparedSearch], nodes: Nodes) -> None:
    from distributed import Client

    nodes.start("two")
    with Client(nodes.address) as client:
        # They have imported what they need: they answer at once who they are, and share the work from the beginning.
        client.gather([client.submit(_on_worker, "hello", workers=[name], pure=False) for name in ("one", "two")])
    before = nodes.files("one")
    events: list[SearchEvent] = []
    killed = threading.Event()

    def kill() -> None:
        nodes.processes["two"].kill()
        killed.set()

    def watch(event: SearchEvent) -> None:
        if event.workers == 2 and not nodes.stopped:
            # Stopped, it keeps its training, or is being sent images: it dies with it. Between two trainings it has nothing to lose.
            nodes.processes["two"].send_signal(signal.SIGSTOP)
            with Client(nodes.address) as client:
                nodes.stopped = any(client.processing(workers=["two"]).values())
            if nodes.stopped:
                threading.Timer(0.2, kill).start()
            else:
                nodes.processes["two"].send_signal(signal.SIGCONT)
        events.append(event)

    one = replace(prepared(trials=12, rungs=[1]), cluster=Place(nodes.address))
    result = one.go(watch)
    assert killed.is_set() and result.counts.trained == 12 and result.counts.failed == 0
    accounted(one.run, 12)
    assert any(event.kind == "worker" and "is gone; another takes" in event.message for event in events)
    assert max(event.workers for event in events) == 2
    # Another run of the same images: a machine that had them was not sent them again.
    assert {file: number for file, number in nodes.files("one").items() if file in before} == before


@dask
@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_goes_on(prepared: Callable[..., PreparedSearch], nodes: Nodes) -> None:
    one = prepared(trials=4, rungs=[1])
    process = start_process(one.run.path, "--cluster", nodes.address)
    wait_until(lambda: len(one.run.trials()) >= 1, 300)
    process.send_signal(signal.SIGINT)
    _, wrong = process.communicate(timeout=180)
    assert process.returncode == 130, wrong
    assert f"tinynas search --resume --out {one.run.path} --cluster {nodes.address}" in wrong
    assert one.run.front() and len(one.run.trials()) < 4
    # It goes on here, without the cluster, from what came back.
    one.go()
    accounted(one.run, 4)


@dask
def test_another_version_on_a_worker_is_one_error(
    prepared: Callable[..., PreparedSearch], nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = remote.versions()
    monkeypatch.setattr(remote, "versions", lambda: {**ours, "torch": "1.0", "numpy": "1.0"})
    one = replace(prepared("other", trials=1), cluster=Place(nodes.address))
    with pytest.raises(UserError) as caught:
        one.go()
    message = caught.value.message
    assert f"it has torch {ours['torch']}, here 1.0; numpy {ours['numpy']}, here 1.0" in message
    assert nodes.address in message and "same versions" in str(caught.value.hint)
    assert not one.run.path.exists()


@dask
def test_nobody_answers(prepared: Callable[..., PreparedSearch], monkeypatch: pytest.MonkeyPatch) -> None:
    from tinynas.search import cluster

    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.3)
    one = replace(prepared("none", trials=1), cluster=Place("tcp://127.0.0.1:9"))
    with pytest.raises(UserError, match="no scheduler answers there"):
        one.go()
    assert not one.run.path.exists()


@dask
@pytest.mark.slow
def test_a_scheduler_that_dies_ends_the_search(prepared: Callable[..., PreparedSearch], nodes: Nodes) -> None:
    one = prepared(trials=4, rungs=[1])

    def watch(event: SearchEvent) -> None:
        if event.kind == "trial":
            nodes.processes["scheduler"].kill()

    with pytest.raises(RunError, match="its scheduler does not answer any more") as caught:
        replace(one, cluster=Place(nodes.address)).go(watch)
    assert "--resume" in str(caught.value.hint)
    assert 1 <= len(one.run.trials()) < 4
    one.go()
    accounted(one.run, 4)


def test_a_worker_that_cannot_say_who_it_is_is_named_in_the_end(engine: Engine, tmp_path: Path) -> None:
    from tinynas.search import cluster

    engine.workers, engine.others = {"tcp://b:1": tmp_path}, {"tcp://b:1": RuntimeError("no disk")}
    one = cluster.Cluster(Place("tcp://a:1"), cast(Any, engine))
    assert all(one.look() == (set(), set()) for _ in range(cluster.TRIES)) and one.slots() == 0 and one.refused() == []
    one.look()
    [error] = one.refused()
    assert "tcp://b:1 cannot train" in error.message and "(RuntimeError: no disk)" in error.message
    assert len(engine.taken) == cluster.TRIES + 1 and one.look() == (set(), set()) and one.refused() == []
    assert len(engine.taken) == cluster.TRIES + 1, "it is left alone"
