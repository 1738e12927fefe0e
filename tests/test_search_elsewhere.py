"""What a search asks of a cluster, with an engine that does it at once in this process: tasks get all they need, and no more is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from adapt_cases import COLORS, write_images
from cluster_engine import Engine
from search_runs import RECIPE, SPACE, budget, session_of, small_search, wait_until
from test_given_features import write_features
from test_multilabel import blocks
from test_space_sound import sounds

from tinynas.api import PreparedSearch, load_space, prepare_search
from tinynas.data import open_data
from tinynas.errors import RunError, UserError
from tinynas.recipe import Recipe
from tinynas.search import Place, SearchEvent, SearchSettings, cluster, remote
from tinynas.search.cluster import Cluster, Workers
from tinynas.search.work import Worker

FEW = {"rungs": [1, 2], "recipe": RECIPE, "pool": 60, "baseline": 1, "start": 1}


# equal to the same search without a cluster -----------------------------------------------------------


def make_inherit(folder: Path, stripes: str, out: Path) -> PreparedSearch:
    return small_search(stripes, out, trials=7, rungs=[1], inherit=True, pool=8, baseline=2, start=2)


def make_slices(folder: Path, stripes: str, out: Path) -> PreparedSearch:
    return small_search(stripes, out, trials=3, slices=0.3)


def make_int8(folder: Path, stripes: str, out: Path) -> PreparedSearch:
    return small_search(stripes, out, trials=2, rungs=[1], objectives=["int8_accuracy", "flash"])


def make_learned(folder: Path, stripes: str, out: Path) -> PreparedSearch:
    if not (folder / "colors").exists():
        write_images(folder / "colors", tuple(COLORS), train=24, test=10, seed=0)
    adapt = {"ram": "300 KiB", "learning": {"epochs": 2, "lr": 0.05, "images": 8, "replay": 4}}
    settings = {**FEW, "adapt": adapt, "objectives": ["adapted_accuracy"]}
    return prepare_search(
        budget(runtime="tflm"),
        space=SPACE,
        data=str(folder / "colors"),
        out=out,
        trials=2,
        workers=1,
        overrides=["data.held_out=[violet,yellow]"],
        settings=SearchSettings.model_validate(settings),
    )


def make_several(folder: Path, stripes: str, out: Path) -> PreparedSearch:
    table = folder / "blocks" / "labels.csv"
    if not table.exists():
        blocks(folder / "blocks", 60)
    settings = SearchSettings.model_validate(FEW)
    return prepare_search(
        budget(), space=SPACE, data=str(table), out=out, trials=2, workers=1, overrides=["data.multilabel=true"], settings=settings
    )


def make_sounds(folder: Path, stripes: str, out: Path) -> PreparedSearch:
    for label, pitch in (("low", 400.0), ("high", 2400.0)):
        (folder / "tones" / label).mkdir(parents=True, exist_ok=True)
        for number in range(14):
            draw = np.random.default_rng((number, int(pitch)))
            wave = 0.3 * np.sin(2 * np.pi * pitch * draw.uniform(0.8, 1.25) * np.arange(6400) / 16000) + draw.normal(0, 0.05, 6400)
            soundfile.write(folder / "tones" / label / f"{number}.wav", wave, 16000)
    recipe = {"augment": {"sound": {"variants": 2}}, "batch_size": 8}
    return small_search(str(folder / "tones"), out, space=sounds(), trials=2, rungs=[1], recipe=recipe, pool=40, baseline=1, start=1)


def make_features(folder: Path, stripes: str, out: Path) -> PreparedSearch:
    if not (folder / "features").exists():
        write_features(folder / "features", each=16)
    overrides = ["data.features=12x8", "rungs=[1]", "pool=40", "baseline=1", "start=1", "recipe.batch_size=8"]
    return prepare_search(
        budget(), space=load_space("micro", ["resolution=[[12,8]]", "color=gray"]), data=str(folder / "features"), out=out, trials=2,
        workers=1, overrides=overrides,
    )  # fmt: skip


KINDS = [make_inherit, make_slices, make_int8, make_learned, make_several, make_sounds, make_features]


@pytest.mark.parametrize("make", KINDS, ids=[make.__name__.removeprefix("make_") for make in KINDS])
def test_tasks_get_what_they_need_and_no_more_is_sent(
    make: Callable[[Path, str, Path], PreparedSearch], engine: Engine, stripes: str, tmp_path: Path
) -> None:
    plain = make(tmp_path, stripes, tmp_path / "plain")
    plain.go()
    one = replace(make(tmp_path, stripes, tmp_path / "run"), cluster=Place("tcp://nowhere:1"))
    one.go()
    assert one.run.trials_file.read_bytes() == plain.run.trials_file.read_bytes()
    assert sum(what == "train" for what, _ in engine.taken) == len(one.run.log("times")), "none had to be asked for again"
    # What lies there is what was sent: once, and without any test images.
    root = tmp_path / "one" / "cluster"
    files = [path for path in root.rglob("*") if path.suffix in (".npy", ".safetensors")]
    assert sum(size for _, size in engine.sent) == sum(path.stat().st_size for path in files)
    assert files and not any(path.name.startswith("test-") for path in files)
    if make is make_inherit:
        assert any(trial.parent for trial in plain.run.trials()), "one began with its parent's weights"


# once for a machine -----------------------------------------------------------------------------------


def test_processes_of_one_machine_are_sent_one_copy(prepared: Callable[..., PreparedSearch], engine: Engine, tmp_path: Path) -> None:
    engine.workers |= {"tcp://one:2": tmp_path / "one", "tcp://two:1": tmp_path / "two"}
    replace(prepared(trials=4, rungs=[1]), cluster=Place("tcp://nowhere:1")).go()
    there = {
        name: sum(path.stat().st_size for path in (tmp_path / name / "cluster").rglob("*") if path.suffix in (".npy", ".safetensors"))
        for name in ("one", "two")
    }
    sent = {name: sum(size for address, size in engine.sent if address.startswith(f"tcp://{name}:")) for name in there}
    assert sent == there and sent["one"] == sent["two"] > 0
    # Another search of the same images sends nothing.
    engine.sent.clear()
    replace(prepared("again", trials=2, rungs=[1]), cluster=Place("tcp://nowhere:1")).go()
    assert engine.sent == []


def test_who_came_just_now_may_take_a_training_and_it_goes_to_who_has_the_images(
    prepared: Callable[..., PreparedSearch], engine: Engine, tmp_path: Path
) -> None:
    # The engine gives to whoever is there; nothing was brought to a worker that has not said yet who it is.
    engine.workers["tcp://a:1"] = tmp_path / "a"
    engine.hangs.add(("hello", "tcp://a:1"))
    assert replace(prepared(trials=5, rungs=[1]), cluster=Place("tcp://nowhere:1")).go().counts.trained == 5
    took = [address for what, address in engine.taken if what == "train"]
    assert took[:2] == ["tcp://a:1", "tcp://one:1"] and took.count("tcp://one:1") == 5
    assert not any(address.startswith("tcp://a:") for address, _ in engine.sent)


def test_a_machine_is_served_by_whichever_of_its_workers_has_time(
    prepared: Callable[..., PreparedSearch], engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FIRST_SECONDS", 0.0)
    engine.workers["tcp://one:2"] = tmp_path / "one"
    engine.hangs |= {("lacking", "tcp://one:1"), ("receive", "tcp://one:1")}
    assert replace(prepared(trials=2, rungs=[1]), cluster=Place("tcp://nowhere:1")).go().counts.trained == 2
    asked = [address for what, address in engine.taken if what in ("lacking", "receive")]
    assert asked and set(asked) == {"tcp://one:2"}


def test_a_machine_that_does_not_answer_is_asked_once_and_given_nothing(
    prepared: Callable[..., PreparedSearch], engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FIRST_SECONDS", 0.0)
    engine.workers["tcp://a:1"] = tmp_path / "a"
    engine.hangs.add(("lacking", "tcp://a:1"))
    assert replace(prepared(trials=4, rungs=[1]), cluster=Place("tcp://nowhere:1")).go().counts.trained == 4
    assert [what for what, address in engine.taken if address == "tcp://a:1"] == ["hello", "lacking"]


def test_where_no_machine_answers_the_search_waits_for_one(
    prepared: Callable[..., PreparedSearch], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FIRST_SECONDS", 0.0)
    engine.hangs.add(("lacking", "tcp://one:1"))
    one = Cluster(Place("tcp://nowhere:1"), engine)
    one._wait_for_workers()
    session, said = session_of(prepared(trials=1, rungs=[1])), list[str]()
    view: Any = SimpleNamespace(emit=lambda kind, message="": said.append(message), refresh=lambda: None, workers=0)
    crew = Workers(session, view, one)
    try:
        job: Any = Worker(session).decide()
        crew.begin(job)
        wait_until(lambda: crew._flights[job.number].allowed == [])
        for _ in range(3):
            one._looked = 0.0
            assert crew.ended(0.0) == []
        assert engine.taken == [("hello", "tcp://one:1"), ("lacking", "tcp://one:1")], "it is asked once"
        assert said.count("no machine takes images: waiting for one to answer") == 1
        engine.hangs.clear()
        engine.futures[-1].answers = True  # it has, at last
        told = []
        wait_until(lambda: bool(told.extend(crew.ended(0.05)) or told))
        assert told[0][0] == job and told[0][1].scores
    finally:
        crew.close()


# workers that cannot, and that hang -------------------------------------------------------------------


def test_a_worker_that_cannot_is_left_out_by_name_and_the_others_go_on(
    prepared: Callable[..., PreparedSearch], engine: Engine, tmp_path: Path
) -> None:
    engine.workers["tcp://bad:1"] = tmp_path / "bad"
    engine.others["tcp://bad:1"] = ModuleNotFoundError("No module named 'torch'", name="torch")
    events: list[SearchEvent] = []
    one = replace(prepared(trials=3, rungs=[1]), cluster=Place("tcp://nowhere:1"))
    assert one.go(events.append).counts.trained == 3
    told = [event.message for event in events if event.kind == "worker"]
    assert [message for message in told if "tcp://bad:1" in message] == [
        "--cluster tcp://nowhere:1: the worker tcp://bad:1 cannot train for this search: it has no torch: nothing is given to it"
    ]
    assert [address for what, address in engine.taken if what != "hello"].count("tcp://bad:1") == 0


def test_a_training_that_a_worker_took_which_cannot_goes_to_another(
    prepared: Callable[..., PreparedSearch], engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It came, and was given a task, before it was asked who it is: the engine does not wait.
    answered, strays = remote._answered, iter([True, False, True])

    def other(work: Any, task: str | None = None) -> str:
        if task is not None and next(strays, False):
            return json.dumps({"versions": {**remote.versions(), "torch": "1.0"}})
        return answered(work, task)

    monkeypatch.setattr(remote, "_answered", other)
    one = replace(prepared(trials=2, rungs=[1]), cluster=Place("tcp://nowhere:1"))
    assert one.go().counts.trained == 2
    assert sum(what == "train" for what, _ in engine.taken) == 4
    # Where all are such, it is one error.
    monkeypatch.setattr(remote, "_answered", lambda work, task=None: other(work) if task is None else json.dumps({"versions": {}}))
    with pytest.raises(UserError, match="the worker that took a training cannot train for this search: it has tinynas None, here"):
        replace(prepared("none", trials=2, rungs=[1]), cluster=Place("tcp://nowhere:1")).go()


def test_only_workers_that_cannot_are_an_error_that_says_why(prepared: Callable[..., PreparedSearch], engine: Engine) -> None:
    engine.others["tcp://one:1"] = AttributeError("no 'hello'")
    one = replace(prepared(trials=1), cluster=Place("tcp://nowhere:1"))
    with pytest.raises(UserError, match=r"the worker tcp://one:1 cannot train .*it has no tinynas of this version \(no 'hello'\)"):
        one.go()


def test_nobody_waits_for_a_worker_that_hangs_and_alone_it_is_named(
    prepared: Callable[..., PreparedSearch], engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.workers["tcp://slow:1"] = tmp_path / "slow"
    engine.hangs.add(("hello", "tcp://slow:1"))
    engine.late = engine.slow = 3
    one = replace(prepared(trials=2, rungs=[1]), cluster=Place("tcp://nowhere:1"))
    result = one.go()
    assert result.counts.trained == 2 and all(engine.taken.count(("hello", address)) == 1 for address in engine.workers)
    del engine.workers["tcp://one:1"]
    monkeypatch.setattr(cluster, "HELLO_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"1 worker did not answer in 0 s: tcp://slow:1") as caught:
        replace(prepared("slow", trials=1), cluster=Place("tcp://nowhere:1")).go()
    assert "busy with other work" in str(caught.value.hint)


def test_a_speed_that_nobody_measures_is_an_error(engine: Engine, stripes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, arch = open_data(stripes, seed=0), SPACE.decode(SPACE.canonical([0] * len(SPACE.genes)), 3)
    one = Cluster(Place("tcp://nowhere:1"), engine)
    one._wait_for_workers()
    assert one.seconds_per_image(data, Recipe.proxy(), 0, arch) > 0
    engine.hangs.add(("pace", "tcp://one:1"))
    monkeypatch.setattr(cluster, "PACE_SECONDS", 0.0)
    with pytest.raises(UserError, match="no worker measured its training speed in 0 s"):
        one.seconds_per_image(data, Recipe.proxy(), 0, arch)
    assert engine.futures[-1].cancelled
    engine.hangs.clear()

    class CancelledError(Exception):
        """As the engine's."""

    engine.others["tcp://one:1"] = CancelledError()
    with pytest.raises(RunError, match="its scheduler does not answer any more"):
        one.seconds_per_image(data, Recipe.proxy(), 0, arch)


def test_what_workers_that_went_had_is_begun_again_where_others_are_refused(
    prepared: Callable[..., PreparedSearch], engine: Engine, tmp_path: Path
) -> None:
    engine.workers["tcp://bad:1"] = tmp_path / "bad"
    engine.others["tcp://bad:1"] = ModuleNotFoundError("No module named 'torch'", name="torch")
    one = Cluster(Place("tcp://nowhere:1"), engine)
    one._wait_for_workers()
    session = session_of(prepared(trials=2, rungs=[1]))
    view: Any = SimpleNamespace(emit=lambda *_: None, refresh=lambda: None, workers=0)
    crew = Workers(session, view, one)
    try:
        job: Any = Worker(session).decide()
        engine.hangs.add(("train", "tcp://one:1"))
        crew.begin(job)
        flight = crew._flights[job.number]
        wait_until(lambda: flight.future is not None)
        first = flight.future
        assert flight.allowed == ["tcp://one:1"]
        del engine.workers["tcp://one:1"]
        assert crew.ended(0.0) == [] and flight.future is first, "nobody is there: it waits"
        engine.workers["tcp://three:1"] = tmp_path / "three"
        told = []
        wait_until(lambda: bool(told.extend(crew.ended(0.05)) or told))
        assert first.cancelled and told[0][0] == job and told[0][1].scores
        assert [address for what, address in engine.taken if what == "train"] == ["tcp://one:1", "tcp://three:1"]
    finally:
        crew.close()


@pytest.mark.parametrize("limits", [{"trials": 6}, {"timeout": 60.0}], ids=["trials", "timeout"])
def test_what_came_back_is_kept_where_the_scheduler_ends(
    prepared: Callable[..., PreparedSearch], engine: Engine, limits: dict[str, Any]
) -> None:
    one = replace(prepared(rungs=[1], **limits), cluster=Place("tcp://nowhere:1"))

    def watch(event: SearchEvent) -> None:
        if event.kind == "trial" and event.counts.trained == 2:
            engine.status = "closed"
            engine.hangs.add(("train", "tcp://one:1"))

    with pytest.raises(RunError, match="its scheduler does not answer any more") as caught:
        one.go(watch)
    assert "--resume" in str(caught.value.hint)
    kept = one.run.trials()
    assert 2 <= len(kept) < 6 and one.run.front()
    # It goes on with another scheduler, and does nothing twice.
    engine.status = "running"
    engine.hangs.clear()
    replace(one, settings=one.settings.model_copy(update={"trials": len(kept) + 1, "timeout": None})).go()
    after = one.run.trials()
    assert len(after) == len(kept) + 1 and {trial.id for trial in kept} < {trial.id for trial in after}
