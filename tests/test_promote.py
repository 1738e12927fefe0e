"""Promote: resumes after a kill with the same bits, trains nothing twice, reads the test split once, at the end."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tinynas.arch import Arch, ConvLayer, MBConv
from tinynas.budget import load_budget
from tinynas.config import load
from tinynas.data import DataOptions, Split
from tinynas.data.images.signal import image_signal
from tinynas.errors import RunError
from tinynas.graph import lower
from tinynas.inputs import Input
from tinynas.model import load_weights, read_tensors
from tinynas.promote import PromoteEvent, best_epoch, promote
from tinynas.quantize.qat import QatNetwork
from tinynas.recipe import Augment, Recipe
from tinynas.records import Trial
from tinynas.runs import Run
from tinynas.space import Space
from tinynas.train import EpochMetrics, evaluate
from tinynas.train.quantised import load_trained

SIDE = 12
NET = Arch(
    height=SIDE,
    width=SIDE,
    channels=3,
    classes=2,
    stem=ConvLayer(out=8, kernel=3, stride=2),
    blocks=(MBConv(out=8, kernel=3, expand=2, residual=True),),
)
OTHER = NET.model_copy(update={"head": ConvLayer(out=10, kernel=1)})
RECIPE = Recipe(epochs=5, batch_size=32, lr=0.02, warmup_epochs=1, ema=1.0, dropout=0.1, augment=Augment(kind="light"))


class Images:
    """A data set in memory that remembers which splits were asked for."""

    name = "noise"
    labels = ("dark", "bright")
    fingerprint = "f00d"
    notes = ()
    several = False
    signal = image_signal(DataOptions())

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.members = {"train": np.arange(160), "val": np.arange(96), "test": np.arange(80)}

    def read_by(self, network: Input, split: str) -> Split:
        return self.split(split, *network.shape)

    def split(self, split: str, height: int, width: int, channels: int) -> Split:
        self.asked.append(split)
        seed, n = {"train": (0, 160), "val": (1, 96), "test": (2, 80)}[split]
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, n)
        pixels = rng.normal(120, 50, (n, height, width, channels))
        pixels[labels == 1, :, : width // 2] += 20
        return Split(pixels.clip(0, 255).astype(np.uint8), labels.astype(np.int64), tuple(f"{split}{i}" for i in range(n)))


def new_run(path: Path, **env: str) -> Run:
    shipped = Path(__file__).parent.parent / "search_spaces" / "tiny.yaml"
    run = Run.create(path, config={}, space=load(shipped, Space), budget=load_budget("stm32f746"), env=env)
    run.write_arch(NET)
    run.write_arch(OTHER)
    return run


def go(run: Run, *ids: str, recipe: Recipe = RECIPE, seed: int = 0, data: Images | None = None) -> tuple[list[PromoteEvent], Images]:
    events: list[PromoteEvent] = []
    data = data or Images()
    promote(run, ids or (NET.id,), data=data, recipe=recipe, seed=seed, on_event=events.append)  # type: ignore[arg-type]
    return events, data


def test_promoted_network_is_on_disk_with_honest_figures(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    events, data = go(run)
    assert [e.kind for e in events] == ["started", *["epoch"] * 5, "done"]
    promoted = run.promoted(NET.id)
    assert promoted is not None and events[-1].promoted is not None
    assert json.dumps(promoted.to_json()) == json.dumps(events[-1].promoted.to_json())
    network = load_weights(lower(NET), run.weights_file(NET.id))
    test = data.split("test", SIDE, SIDE, 3)
    result = evaluate(network, test)
    assert promoted.test_accuracy == result.accuracy > 0.7
    assert promoted.test_images == 80 == sum(map(sum, promoted.confusion))
    assert sum(row[i] for i, row in enumerate(promoted.confusion)) / 80 == promoted.test_accuracy
    rows = list(csv.DictReader(run.train_csv(NET.id).read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    best = max(float(row["val_accuracy"]) for row in rows)
    assert promoted.val_accuracy == best == float(rows[promoted.best_epoch - 1]["val_accuracy"])
    assert evaluate(network, data.split("val", SIDE, SIDE, 3)).accuracy == best, "the stored weights are the best epoch's"
    assert not run.checkpoint_dir(NET.id).exists()
    assert read_tensors(run.weights_file(NET.id))[1]["arch"] == NET.id


def test_the_test_split_is_asked_for_once_and_last(tmp_path: Path) -> None:
    data = Images()
    seen: list[tuple[str, list[str]]] = []
    run = new_run(tmp_path / "run")
    promote(run, [NET.id], data=data, recipe=RECIPE, on_event=lambda e: seen.append((e.kind, list(data.asked))))  # type: ignore[arg-type]
    assert data.asked == ["train", "val", "test"]
    assert all("test" not in asked for kind, asked in seen if kind != "done")


def test_what_is_promoted_is_not_trained_again(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    go(run)
    weights = run.weights_file(NET.id).read_bytes()
    events, data = go(run, NET.id, OTHER.id, NET.id)
    assert [(e.kind, e.id) for e in events if e.kind != "epoch"] == [("known", NET.id), ("started", OTHER.id), ("done", OTHER.id)]
    assert run.weights_file(NET.id).read_bytes() == weights and data.asked == ["train", "val", "test"]
    events, _ = go(run, recipe=RECIPE.model_copy(update={"epochs": 2}))
    assert events[0].kind == "started" and run.promoted(NET.id).epochs == 2  # type: ignore[union-attr]


def test_a_training_that_ends_behind_what_the_search_had_shown_says_so(tmp_path: Path) -> None:
    def last(name: str, fingerprint: str, *accuracies: float) -> str | None:
        run = new_run(tmp_path / name, data=fingerprint)
        for number, accuracy in enumerate(accuracies):
            known = NET if number == 0 else OTHER
            run.append_trial(Trial(number, known.id, "trained", "model", scores={"accuracy": accuracy}, images=64_000 + number))
        events, _ = go(run, recipe=RECIPE.model_copy(update={"epochs": 1}))
        return events[-1].note

    now = go(new_run(tmp_path / "first"), recipe=RECIPE.model_copy(update={"epochs": 1}))[0][-1].promoted
    assert now is not None and 0.3 < now.val_accuracy < 0.9
    said = last("behind", "f00d", 0.99)
    assert said is not None
    assert said.startswith(
        f"the search had shown 99.0% of it on validation, after 64,000 images; this training comes to {now.val_accuracy:.1%}: "
    )
    assert last("ahead", "f00d", now.val_accuracy) is None
    # 96 images do not tell two points apart.
    assert last("alike", "f00d", now.val_accuracy + 0.02) is None
    assert last("another", "f00d", now.val_accuracy, 0.99) is None, "what another network showed"
    assert last("elsewhere", "beef", 0.99) is None, "of other images"
    assert last("never", "f00d") is None


def test_what_another_recipe_replaces_is_kept_and_it_is_said(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    first, _ = go(run)
    assert first[0].note is None
    files = {name: (run.net_dir(NET.id) / name).read_bytes() for name in ("weights.safetensors", "metrics.json", "train.csv")}
    again, _ = go(run, recipe=RECIPE.model_copy(update={"epochs": 2}))
    (kept,) = (run.net_dir(NET.id) / "earlier").iterdir()
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == files
    note = str(again[0].note)
    assert note.startswith("its training of before (5 epochs, ") and note.endswith(f"is kept in {kept.relative_to(run.path)}")
    assert run.promoted(NET.id).epochs == 2  # type: ignore[union-attr]
    # Back and forth: each has one place.
    for epochs in (5, 2):
        go(run, recipe=RECIPE.model_copy(update={"epochs": epochs}))
    assert len(list((run.net_dir(NET.id) / "earlier").iterdir())) == 2
    assert {file.name: file.read_bytes() for file in kept.iterdir() if file.suffix != ".csv" and file.name != "metrics.json"} == {
        "weights.safetensors": files["weights.safetensors"]
    }


def test_unknown_ids_are_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nonsense"):
        go(new_run(tmp_path / "run"), "nonsense")


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_promote import NET, RECIPE, Images, Run, promote
def on_event(event):
    print(event.kind, event.epoch, flush=True)
    if event.kind == "epoch" and event.epoch == {stop}:
        sys.stdin.read()
promote(Run(Path(sys.argv[1])), [NET.id], data=Images(), recipe=RECIPE, on_event=on_event)
"""


def test_kill_9_then_again_repeats_only_the_unfinished_epoch_and_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, killed = new_run(tmp_path / "whole"), new_run(tmp_path / "killed")
    go(whole)
    code = CHILD.format(tests=str(Path(__file__).parent), stop=3)
    child = subprocess.Popen([sys.executable, "-c", code, str(killed.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = []
    while "epoch 3" not in lines:
        line = child.stdout.readline()
        assert line, "the child died early"
        lines.append(line.strip())
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert killed.promoted(NET.id) is None and not killed.weights_file(NET.id).exists()
    events, data = go(killed)
    assert [(e.kind, e.epoch) for e in events] == [("resumed", 3), ("epoch", 4), ("epoch", 5), ("done", 5)]
    assert data.asked == ["train", "val", "test"]
    assert killed.weights_file(NET.id).read_bytes() == whole.weights_file(NET.id).read_bytes()
    first, second = whole.promoted(NET.id), killed.promoted(NET.id)
    assert first is not None and second is not None
    assert {**first.to_json(), "seconds": 0} == {**second.to_json(), "seconds": 0}


@pytest.mark.parametrize("lost", ["state", "cut"])
def test_a_damaged_checkpoint_says_what_to_do(tmp_path: Path, lost: str) -> None:
    run = new_run(tmp_path / "run")

    def stop(event: PromoteEvent) -> None:
        if event.kind == "epoch" and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(run, [NET.id], data=Images(), recipe=RECIPE, on_event=stop)  # type: ignore[arg-type]
    (state,) = [p for p in run.checkpoint_dir(NET.id).iterdir() if "epoch" not in p.name]
    if lost == "cut":
        state.write_bytes(state.read_bytes()[:50])
        with pytest.raises(RunError, match="remove it to start over"):
            go(run)
    else:
        state.unlink()
        assert go(run)[0][0].kind == "started"


def test_a_kill_between_the_last_state_and_its_row_leaves_the_row_in_the_history(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    last = RECIPE.epochs

    def stop(event: PromoteEvent) -> None:
        if event.kind == "epoch" and event.epoch == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(run, [NET.id], data=Images(), recipe=RECIPE, on_event=stop)  # type: ignore[arg-type]
    history = run.train_csv(NET.id)
    whole = history.read_text()
    history.write_text("".join(whole.splitlines(keepends=True)[:-1]))  # as the kill leaves it
    assert [e.kind for e in go(run)[0]] == ["resumed", "done"]
    assert history.read_text() == whole


def test_another_recipe_does_not_continue_the_wrong_checkpoint(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")

    def stop(event: PromoteEvent) -> None:
        if event.kind == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(run, [NET.id], data=Images(), recipe=RECIPE, on_event=stop)  # type: ignore[arg-type]
    events, _ = go(run, recipe=RECIPE.model_copy(update={"lr": 0.01}))
    assert events[0].kind == "started"


def test_best_epoch_breaks_ties_by_loss_and_respects_quantised_epochs() -> None:
    def metrics(epoch: int, accuracy: float, loss: float) -> EpochMetrics:
        return EpochMetrics(epoch, 0.0, 0.0, accuracy, loss, 0.0, 0)

    history = [metrics(1, 0.9, 0.5), metrics(2, 0.9, 0.4), metrics(3, 0.9, 0.4), metrics(4, 0.8, 0.3)]
    assert best_epoch(history, Recipe(epochs=4), lower(NET)).epoch == 2
    assert best_epoch(history, Recipe(epochs=4, qat_epochs=1), lower(NET)).epoch == 4


def test_quantised_promotion_stores_its_grids(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    events, data = go(run, recipe=RECIPE.model_copy(update={"qat_epochs": 2}))
    promoted = events[-1].promoted
    assert promoted is not None and promoted.qat and promoted.best_epoch > 3
    trained = load_trained(lower(NET), run.weights_file(NET.id))
    assert isinstance(trained, QatNetwork)
    assert evaluate(trained, data.split("test", SIDE, SIDE, 3)).accuracy == promoted.test_accuracy


def test_weights_of_few_bits_are_promoted_on_their_grids_and_it_is_said(tmp_path: Path) -> None:
    document = NET.model_dump()
    document["blocks"][0]["weight_bits"], document["classifier_bits"] = 4, 4
    coarse = Arch.model_validate(document)
    runs = [new_run(tmp_path / name) for name in ("whole", "killed")]
    for run in runs:
        run.write_arch(coarse)
    recipe = RECIPE.model_copy(update={"few_bits_from": 0.5})
    events, data = go(runs[0], coarse.id, recipe=recipe)
    said = "weights of 4 bits in 3 layers: trained on grids with learned steps from epoch 3 on (recipe.few_bits_from)"
    assert [event.note for event in events if event.note] == [said] and events[0].kind == "started"
    promoted = events[-1].promoted
    assert promoted is not None and promoted.best_epoch > 2 and promoted.recipe["few_bits_from"] == 0.5
    trained = load_trained(lower(coarse), runs[0].weights_file(coarse.id))
    assert evaluate(trained, data.split("test", SIDE, SIDE, 3)).accuracy == promoted.test_accuracy

    def stop(event: PromoteEvent) -> None:
        if event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        promote(runs[1], [coarse.id], data=Images(), recipe=recipe, on_event=stop)  # type: ignore[arg-type]
    events, _ = go(runs[1], coarse.id, recipe=recipe)
    assert (events[0].kind, events[0].epoch, events[0].note) == ("resumed", 2, said)
    assert runs[0].weights_file(coarse.id).read_bytes() == runs[1].weights_file(coarse.id).read_bytes()
    # Of 8 bits nothing is said, and what does not concern them does not make another training of it.
    plain, _ = go(runs[0], recipe=recipe)
    assert plain[0].note is None and "few_bits_from" not in plain[-1].promoted.recipe  # type: ignore[union-attr]
    assert [event.kind for event in go(runs[0], recipe=RECIPE)[0]] == ["known"]


PARALLEL = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_promote import NET, RECIPE, Images, Run, promote
from tinynas.train.group import rank
def on_event(event):
    if event.metrics: print(event.epoch, event.metrics.images, event.metrics.val_accuracy, flush=True)
(promoted,) = promote(Run(Path(sys.argv[1])), [NET.id], data=Images(), recipe=RECIPE, on_event=on_event)
print("test", promoted.test_accuracy, flush=True)
"""


@pytest.mark.slow
def test_two_processes_share_a_training_and_agree(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = PARALLEL.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(run.path)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [child.communicate(timeout=120)[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert len(outputs[0]) == 6 and len(outputs[1]) == 1, "only the first process reports epochs"
    assert all(line.split()[1] == "160" for line in outputs[0][:5]), "every image once an epoch, over both processes"
    assert outputs[0][-1] == outputs[1][-1], "both evaluate the same weights"
    promoted = run.promoted(NET.id)
    assert promoted is not None and promoted.test_accuracy > 0.6  # chance is 0.54
    assert all(torch.isfinite(t).all() for t in load_file(run.weights_file(NET.id)).values())
