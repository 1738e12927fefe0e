"""search --objective adapted_accuracy: candidates learn held-out classes on the board, and what they reach is their score."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from adapt_cases import COLORS, write_images
from test_update_sram import line

from tinynas.adapt import candidates as module
from tinynas.adapt.candidates import Adaptation, Candidates, OutOfTime, open_new, with_room
from tinynas.adapt.learner import Learner, LostLearning
from tinynas.adapt.learning import learn
from tinynas.adapt.schemes import scheme_named
from tinynas.adapt.tasks import Learnable, make_task
from tinynas.arch import Arch, ConvLayer, MBConv
from tinynas.budget import LEARNING, Budget
from tinynas.config import n_bytes
from tinynas.data import DataOptions, DataSet, open_data
from tinynas.errors import DataError, UserError
from tinynas.graph import lower
from tinynas.model import Network
from tinynas.quantize import fold
from tinynas.recipe import Recipe
from tinynas.records import ADAPTED
from tinynas.runs import Run
from tinynas.search.schedule import score
from tinynas.search.training import Trainings
from tinynas.train import Trainer

HELD = ("violet", "yellow")
ARCH = Arch(height=16, width=16, classes=3, stem=ConvLayer(out=8, stride=2), blocks=(MBConv(out=16, expand=2, stride=2),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapted")


@pytest.fixture(scope="module")
def images(folder: Path) -> Path:
    return write_images(folder / "images", tuple(COLORS), train=24, test=10, seed=0)


@pytest.fixture(scope="module")
def data(images: Path) -> DataSet:
    return open_data(str(images), options=DataOptions(held_out=HELD))


def adaptation(**more: Any) -> Adaptation:
    learning = {"epochs": 3, "lr": 0.05, "images": 8, "replay": 4}
    return Adaptation.model_validate({"learning": {**learning, **more.pop("learning", {})}, **more})


def board(**more: Any) -> Budget:
    return Budget.model_validate({"name": "b", "sram": n_bytes(96 * 1024), "flash": n_bytes(1 << 20), "runtime": "tflm", **more})


def candidates(data: DataSet, folder: Path, *, limits: Budget | None = None, **more: Any) -> Candidates:
    chosen = adaptation(**more)
    return Candidates(chosen, with_room(limits or board(), chosen), open_new(chosen, data, seed=0), data, 0, folder)


def scores(one: Candidates, network: Network, epochs: int = 4) -> tuple[dict[str, float], str | None]:
    return one.scores(network, ARCH, epochs, macs=1e5, deadline=None)


@pytest.fixture(scope="module")
def network(data: DataSet) -> Network:
    graph = lower(ARCH)
    recipe = Recipe.proxy(epochs=4).model_copy(update={"batch_size": 12, "lr": 0.01})
    trainer = Trainer(graph, data.read_by(graph.input, "train"), data.read_by(graph.input, "val"), recipe, seed=0)
    trainer.run()
    return trainer.network


# classes that are held out -----------------------------------------------------------------------------


def test_held_out_classes_are_no_classes_of_the_data_and_lie_aside(images: Path, data: DataSet) -> None:
    whole = open_data(str(images))
    assert data.held_out is not None
    assert (data.labels, data.held_out.labels) == (("blue", "green", "red"), HELD)
    for split in ("train", "val", "test"):
        assert {**data.counts(split), **data.held_out.counts(split)} == whole.counts(split)
        names = [set(one.split(split, 16, 16, 3).names) for one in (whole, data, data.held_out)]
        assert names[1] | names[2] == names[0] and not names[1] & names[2]
    learned = data.held_out.split("train", 16, 16, 3)
    assert [Path(name).parent.name for name in learned.names] == [HELD[number] for number in learned.labels]
    assert len({whole.fingerprint, data.fingerprint, data.held_out.fingerprint}) == 3
    assert "held out, for learning on the board: violet, yellow" in data.notes


@pytest.mark.parametrize(
    ("held", "told"), [(("orange",), "there is no class 'orange'"), (("red", "green", "blue", "yellow"), "leaves 1 class")]
)
def test_what_cannot_be_held_out_is_refused(images: Path, held: tuple[str, ...], told: str) -> None:
    with pytest.raises(DataError, match=told):
        open_data(str(images), options=DataOptions(held_out=held))


# the score ---------------------------------------------------------------------------------------------


def test_the_score_is_the_mean_of_new_and_old_validation_accuracy_after_learning(data: DataSet, network: Network, tmp_path: Path) -> None:
    one = candidates(data, tmp_path)
    found, remark = scores(one, network)
    assert remark is None and found[ADAPTED] == (found["adapted_new"] + found["adapted_old"]) / 2
    # By what `adapt run` does, judged by validation images.
    assert data.held_out is not None
    net = Learnable("x", fold(network), data.labels, "x")
    budget = one.budget(ARCH, 3)
    task = make_task(net, data.held_out, data, budget.learning, seed=0, judged="val")
    learned = learn(task, scheme_named("last"), budget, seed=0)
    assert (found["adapted_new"], found["adapted_old"]) == (learned.after["new"], learned.after["old"])
    assert set(task.test.names) == set(data.held_out.split("val", 16, 16, 3).names)
    assert learned.before["new"] == 0.0 and found["adapted_new"] > 0.5
    assert "violet, yellow" in one.words() and "8 images each, 4 old images a class again" in one.words()


def test_repeats_are_averaged_and_a_replaced_head_knows_new_classes_alone(data: DataSet, network: Network, tmp_path: Path) -> None:
    short = {"epochs": 2, "lr": 0.05, "images": 3, "replay": 3}
    seeds = []
    for seed in (0, 1):
        one = candidates(data, tmp_path, learning=short)
        one.seed = seed
        seeds.append(scores(one, network)[0][ADAPTED])
    both, _ = scores(candidates(data, tmp_path, learning=short, repeats=2), network)
    assert both[ADAPTED] == pytest.approx(sum(seeds) / 2) and seeds[0] != seeds[1], seeds
    alone = candidates(data, tmp_path, learning={"head": "replace", "replay": 0})
    found, _ = scores(alone, network)
    assert "adapted_old" not in found and found[ADAPTED] == found["adapted_new"]
    assert "new classes alone" in alone.words()


def test_a_score_is_measured_once_for_what_decides_it(
    data: DataSet, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scores(candidates(data, tmp_path), network)
    done: list[str] = []
    monkeypatch.setattr(module, "learn", lambda *a, **k: done.append("learned") or learn(*a, **k))
    assert scores(candidates(data, tmp_path), network) == first and not done
    scores(candidates(data, tmp_path), network, 5)
    scores(candidates(data, tmp_path, learning={"lr": 0.02}), network, 5)
    scores(candidates(data, tmp_path, limits=board(sram=n_bytes(64 * 1024)), learning={"lr": 0.02}), network, 5)
    assert len(done) == 3
    next(tmp_path.glob("*.adapted.json")).write_text('{"key": 3}', encoding="utf-8")
    assert scores(candidates(data, tmp_path), network) == first
    assert len(done) == 4


def test_a_lost_learning_and_one_without_room_reach_nothing_and_say_why(
    data: DataSet, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = candidates(data, tmp_path)
    tight.board = tight.board.model_copy(update={"update_sram": n_bytes(1024)})
    found, remark = scores(tight, network)
    assert found == {ADAPTED: 0.0} and "the classifier alone does not fit" in (remark or "")

    def lose(*_: object) -> float:
        raise LostLearning("learning: the loss is no longer a number")

    monkeypatch.setattr(Learner, "_learn", lose)
    assert scores(candidates(data, tmp_path), network) == ({ADAPTED: 0.0}, "learning: the loss is no longer a number")


def test_a_learning_that_the_time_ends_leaves_the_training_to_whoever_goes_on(data: DataSet, network: Network, tmp_path: Path) -> None:
    one = candidates(data, tmp_path)
    with pytest.raises(OutOfTime):
        one.scores(network, ARCH, 4, macs=1e5, deadline=time.monotonic())
    assert not list(tmp_path.iterdir())
    recipe = Recipe.proxy(epochs=1).model_copy(update={"epoch_images": 24})
    trainings = Trainings(data, recipe, 0, tmp_path, scored={ADAPTED}, candidates=one)
    real, one.scores = one.scores, _too_late  # type: ignore[method-assign]
    cut = trainings.train(ARCH, 1)
    assert (cut.scores, cut.failure, cut.new_images > 0) == ({}, None, True)
    one.scores = real  # type: ignore[method-assign]
    whole = trainings.train(ARCH, 1)
    assert whole.new_images == 0 and ADAPTED in whole.scores and whole.learning > 0
    assert one.reserve(2e6) == pytest.approx(2 * one.reserve(1e6)) and one.reserve(1e6) > 0


def _too_late(*_: object, **__: object) -> Any:
    raise OutOfTime("late")


def test_the_boards_own_update_is_what_is_learned(data: DataSet, network: Network, tmp_path: Path) -> None:
    limits = board(update={"scheme": "last", "layers": 2})
    one = candidates(data, tmp_path, limits=limits)
    assert one.board == limits and one.scheme.name == "update" and "the classifier and 2 layers in front of it" in one.words()
    graph = lower(ARCH)
    assert limits.update is not None
    assert one.scheme.choose(type("Scene", (), {"graph": graph, "with_base": lambda scene, update: update})()) == limits.update.of(graph)  # type: ignore[arg-type]
    assert scores(one, network)[0][ADAPTED] > 0
    with pytest.raises(UserError, match=r"adapt.learning.batch 4: the update of b has 1"):
        candidates(data, tmp_path, limits=limits, learning={"batch": 4})


def test_a_board_without_an_update_gets_the_least_one() -> None:
    limits = with_room(board(), adaptation(ram=n_bytes(64 * 1024), learning={"batch": 4}))
    assert limits.update is not None and (limits.update.scheme, limits.update.batch) == ("classifier", 4)
    assert limits.limits[LEARNING] == 64 * 1024
    with pytest.raises(UserError, match=r"adapt.ram: 128.0 KiB is more than"):
        with_room(board(), adaptation(ram=n_bytes(128 * 1024)))
    with pytest.raises(UserError, match="nothing can be learned there"):
        with_room(board(runtime="tinyengine"), adaptation())


def test_the_search_goes_by_what_is_reached() -> None:
    low, high = {"accuracy": 0.9, ADAPTED: 0.4}, {"accuracy": 0.5, ADAPTED: 0.6}
    assert score(low, 0.2) < score(high, 0.2)
    assert score({"accuracy": 0.9}, 0.2) > score({"accuracy": 0.5}, 0.2)


# the line ----------------------------------------------------------------------------------------------

SPACE = """name: small
resolution: 16
width_mult: 1
stem: {out: [8, 12], kernel: 3, stride: 2}
stages: [{out: [8, 16, 24], depth: [1, 2], kernel: 3, expand: [1, 2, 3], stride: 2}]
head: {out: [0, 16]}
"""
SETS = ["pool=64", "baseline=1", "start=1", "rungs=[1]", "recipe.augment.kind=none", "recipe.batch_size=12", "adapt.learning.epochs=3"]
SETS += ["adapt.learning.lr=0.05", "adapt.learning.images=8", "adapt.learning.replay=4"]


def words(folder: Path, images: Path, out: Path, *more: object) -> list[object]:
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    (folder / "board.yaml").write_text("name: b\nruntime: tflm\nsram: 24 KiB\nflash: 1 MiB\n", encoding="utf-8")
    given = ["search", "--budget", folder / "board.yaml", "--space", folder / "space.yaml", "--data", images, "--workers", 1]
    return [*given, "--out", out, *[word for one in SETS for word in ("--set", one)], *more]


def test_a_search_by_the_line_is_resumed_and_the_same_again(folder: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = ("-o", "adapted_accuracy,macs", "--set", "data.held_out=[violet,yellow]")
    out, again = folder / "run", folder / "again"
    code, _, err = line(capsys, *words(folder, images, out, *held, "--trials", 2, "--json"))
    assert code == 0, err
    code, document, _ = line(capsys, "search", "--resume", "--out", out, "--trials", 3, "--json")
    assert code == 0 and document["trials"]["trained"] == 3
    run = Run.open(out)
    trained = [trial for trial in run.trials() if trial.was_trained]
    for trial in trained:
        assert trial.scores[ADAPTED] == pytest.approx((trial.scores["adapted_new"] + trial.scores["adapted_old"]) / 2)
        assert (trial.costs[LEARNING] or 0) <= 24 * 1024
    assert all({ADAPTED, "adapted_new", "adapted_old"} <= set(row) for row in document["front"])
    best = max(trained, key=lambda trial: trial.scores[ADAPTED])
    assert best.id in {row["id"] for row in document["front"]}
    assert run.env["labels"] == ["blue", "green", "red"]
    assert any(note.startswith("Each candidate learns violet, yellow") for note in run.read_json("plan")["notes"])
    assert run.budget.update is not None and run.budget.update.scheme == "classifier"
    assert "Each candidate learns violet, yellow on the board" in (out / "report.html").read_text(encoding="utf-8")
    code, _, _ = line(capsys, *words(folder, images, again, *held, "--trials", 3, "--json"))
    assert code == 0
    assert (out / "trials.jsonl").read_bytes() == (again / "trials.jsonl").read_bytes()


def test_what_is_learned_may_be_other_data_and_faults_are_said_first(
    folder: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_images(folder / "other", ("yellow", "red"), train=8, test=6, seed=3)
    out = folder / "elsewhere"
    given = ("-o", "adapted_accuracy", "--trials", 1, "--adapt-data", other)
    code, document, err = line(capsys, *words(folder, images, out, "--set", "data.labels=[blue,red,green]", *given, "--json"))
    assert code == 0, err
    assert document["front"][0]["adapted_new"] is not None
    for more, told in (
        (("-o", "adapted_accuracy"), "nothing is named that is to be learned"),
        (("-o", "adapted_accuracy", "--set", "data.held_out=[red]", "--adapt-data", other), "both held-out classes and other data"),
        (("-o", "macs", "--adapt-data", other), "nothing asks for what is learned on the board"),
        (("-o", "adapted_accuracy", "--adapt-data", "hf:someone/images"), "is not on this computer"),
        (("-o", "adapted_accuracy", "--adapt-data", other, "--set", "adapt.scheme=best"), "use one of full"),
    ):
        code, _, err = line(capsys, *words(folder, images, folder / "none", *more, "--trials", 1))
        assert code == 2 and told in err, err
        assert not (folder / "none").exists()
    next((other / "train" / "red").iterdir()).unlink()
    code, _, err = line(capsys, "search", "--resume", "--out", out, "--trials", 2)
    assert code == 2 and "these are not the images" in err


def test_how_is_kept_as_it_is_read() -> None:
    one = adaptation(ram="64 KiB", extra="1000 B", share=0.5)
    assert Adaptation.model_validate(one.model_dump(mode="json")) == one and one.ram == 65536 and one.extra == 1000
    assert Adaptation.model_validate(Adaptation().model_dump(mode="json")) == Adaptation()
