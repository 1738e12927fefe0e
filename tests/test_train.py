"""Trainer: learns, is deterministic, continues bit for bit, keeps to deadlines; losses against their papers."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from tinynas.arch import Arch, ConvLayer, MBConv
from tinynas.config import build
from tinynas.data import Split
from tinynas.errors import ConfigError, DataError, RunError
from tinynas.graph import Conv2D, Graph, lower
from tinynas.model import Network, normalise
from tinynas.quantize import FakeQuantNetwork
from tinynas.quantize.qat import QatNetwork, finish_qat
from tinynas.recipe import LEAST_IMAGES, Augment, LightAugment, Recipe
from tinynas.train import Diverged, EpochMetrics, Trainer, evaluate, make_loss, symmetric_cross_entropy
from tinynas.train.quantised import load_trained, save_trained

ARCH = Arch(
    height=12,
    width=12,
    channels=3,
    classes=2,
    stem=ConvLayer(out=8, kernel=3, stride=2),
    blocks=(MBConv(out=8, kernel=3, expand=2, residual=True), MBConv(out=12, kernel=3, stride=2, expand=2)),
)
GRAPH: Graph = lower(ARCH)


def images(n: int, seed: int, side: int = 12) -> Split:
    """Class 1 is brighter on its left half, under heavy noise: learnable, not trivial."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    pixels = rng.normal(120, 45, (n, side, side, 3))
    pixels[labels == 1, :, : side // 2] += 14
    return Split(pixels.clip(0, 255).astype(np.uint8), labels.astype(np.int64), tuple(f"image{i}" for i in range(n)))


TRAIN, VAL = images(512, 0), images(256, 1)


def recipe(**changes: object) -> Recipe:
    settings = {"epochs": 4, "batch_size": 64, "lr": 0.01, "warmup_epochs": 1, "augment": Augment(kind="none"), **changes}
    return Recipe.model_validate(settings)


def trainer(*, seed: int = 0, **changes: object) -> Trainer:
    return Trainer(GRAPH, TRAIN, VAL, recipe(**changes), seed=seed, device=torch.device("cpu"))


def state(t: Trainer) -> dict[str, torch.Tensor]:
    return t._tensors()


def same(a: Trainer, b: Trainer) -> bool:
    left, right = state(a), state(b)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def timeless(history: list[EpochMetrics]) -> list[tuple[object, ...]]:
    return [(m.epoch, m.loss, m.train_accuracy, m.val_accuracy, m.val_loss, m.images) for m in history]


def test_it_learns_and_reports_what_it_saw() -> None:
    t = trainer(epochs=6)
    seen: list[EpochMetrics] = []
    assert t.run(on_epoch=seen.append) == 6
    assert [m.epoch for m in seen] == [1, 2, 3, 4, 5, 6] and t.history == seen
    assert all(m.images == 512 and m.seconds > 0 for m in seen)
    assert seen[-1].val_accuracy > 0.85 and seen[-1].loss < seen[0].loss
    result = t.evaluate(VAL)
    assert result.logits.shape == (256, 2) and result.logits.dtype == np.float32
    assert result.accuracy == seen[-1].val_accuracy == float((result.logits.argmax(1) == VAL.labels).mean())


def test_same_seed_same_bits_other_seed_other_bits() -> None:
    runs = [trainer(seed=seed, epochs=2, dropout=0.2, augment=Augment(kind="light")) for seed in (0, 0, 1)]
    for t in runs:
        t.run()
    assert same(runs[0], runs[1]) and timeless(runs[0].history) == timeless(runs[1].history)
    assert not torch.equal(state(runs[0])["raw.stem.conv.weight"], state(runs[2])["raw.stem.conv.weight"])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("ema", [0.0, 1.0])
def test_saved_and_loaded_training_continues_bit_for_bit(tmp_path: Path, optimizer: str, ema: float) -> None:
    settings = {"optimizer": optimizer, "ema": ema, "dropout": 0.3, "augment": Augment(kind="light"), "lr": 0.01}
    through = trainer(**settings)
    through.run()
    first = trainer(**settings)
    first.run(until_epoch=2)
    first.save(tmp_path / "state")
    second = trainer(**settings)
    second.load(tmp_path / "state")
    assert second.epoch == 2
    second.run()
    assert same(through, second) and timeless(through.history) == timeless(second.history)


def test_rungs_continue_the_same_training() -> None:
    stepwise, through = trainer(), trainer()
    for epoch in (1, 2, 4):
        stepwise.run(until_epoch=epoch)
    through.run()
    assert same(stepwise, through)
    assert through.run() == 4 and len(through.history) == 4, "a finished training trains no more"


def test_state_of_another_training_is_refused(tmp_path: Path) -> None:
    t = trainer()
    t.run(until_epoch=1)
    t.save(tmp_path / "state")
    for other in (trainer(seed=1), trainer(lr=0.02), Trainer(GRAPH, images(300, 5), VAL, recipe(), seed=0)):
        with pytest.raises(RunError, match="another training"):
            other.load(tmp_path / "state")
    damaged = tmp_path / "damaged"
    damaged.write_bytes((tmp_path / "state").read_bytes()[:-100])
    with pytest.raises(RunError, match="cannot be read"):
        trainer().load(damaged)
    with pytest.raises(RunError, match="cannot be read"):
        trainer().load(tmp_path / "absent")


def test_deadline_undoes_the_epoch_it_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    t = trainer(epochs=50, ema=1.0)
    t.run(until_epoch=1)
    before = {key: tensor.clone() for key, tensor in state(t).items()}
    assert t.run(deadline=time.monotonic()) == 1
    assert all(torch.equal(before[key], tensor) for key, tensor in state(t).items())
    ticks = itertools.count()
    monkeypatch.setattr("tinynas.train.loop.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    reached = t.run(deadline=30)  # an epoch looks at the clock ten times: at its ends and before each of its eight steps
    assert reached == 4
    monkeypatch.undo()
    through = trainer(epochs=50, ema=1.0)
    through.run(until_epoch=reached)
    assert same(t, through)


def test_a_deadline_inside_the_first_epoch_leaves_a_fresh_training() -> None:
    t, fresh = trainer(), trainer()
    assert t.run(deadline=time.monotonic() - 1) == 0 and t.history == []
    t.run()
    fresh.run()
    assert same(t, fresh)


def test_schedule_warms_up_and_ends_at_zero() -> None:
    t = trainer(epochs=10, warmup_epochs=2, lr=1.0, schedule="cosine")
    rates = [t.learning_rate(step) for step in range(10 * t.steps_per_epoch)]
    warm = 2 * t.steps_per_epoch
    assert rates[: warm + 1] == sorted(rates[: warm + 1]) and rates[warm] == 1.0
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    assert 0 < rates[-1] < 0.01
    middle = warm + (len(rates) - warm) // 2
    assert rates[middle] == pytest.approx(0.5)
    constant = trainer(epochs=10, warmup_epochs=0, schedule="constant", lr=0.5)
    assert {constant.learning_rate(step) for step in range(100)} == {0.5}


def test_average_is_the_written_formula() -> None:
    t = trainer(ema=1.0, epochs=1)
    expected = {key: value.clone() for key, value in t._raw.state_dict().items()}
    for step, (x, y) in enumerate(t._batches(1, t.steps_per_epoch)):
        t._raw.train()
        t._step(x, y, step)
        decay = min(math.exp(-1 / t.steps_per_epoch), (1 + step) / (10 + step))
        for key, value in t._raw.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * value
    averaged = t.network.state_dict()
    assert any("running_var" in key for key in expected)
    for key, value in expected.items():
        torch.testing.assert_close(averaged[key], value)


def test_norms_of_averaged_weights_are_measured_on_training_images() -> None:
    t = trainer(ema=3.0, epochs=2, bn_images=100_000, optimizer="sgd", lr=0.05)
    t.run()
    layer, norm = t.network.named_op("stem")
    assert norm is not None and norm.running_mean is not None and norm.running_var is not None
    stem = GRAPH.ops[0]
    assert isinstance(stem, Conv2D)
    pad = stem.padding
    x = F.pad(normalise(torch.from_numpy(TRAIN.inputs), GRAPH.input), (pad.left, pad.right, pad.top, pad.bottom))
    with torch.no_grad():
        outputs = F.conv2d(x, layer.weight, stride=2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, outputs.mean(1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(norm.running_var, outputs.var(1), rtol=1e-2, atol=1e-3)


def test_subset_is_the_same_for_every_network_and_stratified() -> None:
    first, second = trainer(subset=100), trainer(subset=100)
    assert len(first.train.labels) == 100 and np.array_equal(first.train.inputs, second.train.inputs)
    assert abs(first.train.labels.mean() - TRAIN.labels.mean()) < 0.02
    assert first.run(until_epoch=1) == 1 and first.history[0].images == 64  # whole batches only


def test_fewer_images_than_a_batch_still_train() -> None:
    t = Trainer(GRAPH, images(10, 3), VAL, recipe(epochs=2), seed=0)
    t.run()
    assert [m.images for m in t.history] == [10, 10]


def test_divergence_is_an_error_with_a_remedy() -> None:
    with pytest.raises(Diverged, match="lower lr"):
        trainer(lr=100.0, optimizer="sgd", weight_decay=10.0, epochs=8, ema=0.0, warmup_epochs=0).run()


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_what_broke_in_the_last_step_of_an_epoch_is_divergence(loss: float, monkeypatch: pytest.MonkeyPatch) -> None:
    t = trainer(epochs=2)
    seen = Trainer.evaluate
    monkeypatch.setattr(Trainer, "evaluate", lambda self, split: replace(seen(self, split), loss=loss))
    with pytest.raises(Diverged, match=f"the validation loss became {loss} in epoch 1"):
        t.run()
    assert not t.history


def test_read_only_maps_train_and_evaluate_without_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", TRAIN.inputs)
    mapped = Split(np.load(tmp_path / "images.npy", mmap_mode="r"), TRAIN.labels, TRAIN.names)
    from_map, from_memory = Trainer(GRAPH, mapped, mapped, recipe(epochs=1), seed=0), Trainer(GRAPH, TRAIN, TRAIN, recipe(epochs=1), seed=0)
    from_map.run()
    from_memory.run()
    assert timeless(from_map.history) == timeless(from_memory.history)


def test_images_on_the_device_are_the_same_images_in_the_same_order() -> None:
    plain = {"augment": Augment(kind="none"), "epochs": 2}
    host = Trainer(GRAPH, TRAIN, VAL, recipe(**plain), seed=0, device=torch.device("cpu"))
    resident = Trainer(GRAPH, TRAIN, VAL, recipe(**plain), seed=0, device=torch.device("cpu"), resident=True)
    host.run()
    resident.run()
    assert timeless(host.history) == timeless(resident.history)
    light = {"augment": Augment(kind="light", light=LightAugment(flip=0, brightness=0, contrast=0)), "epochs": 6}
    resident = Trainer(GRAPH, TRAIN, VAL, recipe(**light), seed=0, device=torch.device("cpu"), resident=True)
    resident.run()
    assert resident.history[-1].val_accuracy > 0.8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_too() -> None:
    t = Trainer(GRAPH, TRAIN, VAL, recipe(epochs=6, precision="bfloat16"), seed=0)
    t.run()
    assert t.device.type == "cuda" and t.history[-1].val_accuracy > 0.8


def test_wrong_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(10, 10, 3\)"):
        Trainer(GRAPH, images(10, 0, side=10), VAL, recipe(), seed=0)
    empty = Split(TRAIN.inputs[:0], TRAIN.labels[:0], ())
    with pytest.raises(DataError, match="empty"):
        Trainer(GRAPH, TRAIN, empty, recipe(), seed=0)


def test_inherited_weights_start_ahead() -> None:
    parent = trainer(epochs=6)
    parent.run()
    heir = Trainer(GRAPH, TRAIN, VAL, recipe(), seed=9, weights=parent.network.state_dict())
    assert heir.evaluate(VAL).accuracy == parent.history[-1].val_accuracy


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    trainer(epochs=1, threads=before + 1).run()
    assert torch.get_num_threads() == before


# quantisation in the loop ----------------------------------------------------------------------------


def test_last_epochs_train_on_the_grids_that_go_into_the_file() -> None:
    t = trainer(epochs=6, qat_epochs=2)
    t.run(until_epoch=4)
    assert isinstance(t.trained, Network)
    before = t.evaluate(VAL).accuracy
    t.run()
    trained = t.trained
    assert isinstance(trained, QatNetwork) and [m.epoch for m in t.history] == [1, 2, 3, 4, 5, 6]
    assert t.history[-1].val_accuracy > before - 0.03
    qgraph = finish_qat(trained)
    assert qgraph.tensors == trained.tensors
    integers = FakeQuantNetwork(qgraph)(normalise(torch.from_numpy(VAL.inputs), GRAPH.input)).argmax(1).numpy()
    agreement = (integers == t.evaluate(VAL).logits.argmax(1)).mean()
    assert agreement > 0.98, "what was trained is what the integers compute"


def test_quantised_epochs_have_their_own_rate() -> None:
    t = trainer(epochs=10, qat_epochs=4, warmup_epochs=1, lr=1.0, qat_lr=0.01, schedule="cosine")
    steps = t.steps_per_epoch
    assert t.learning_rate(6 * steps - 1) < 0.02, "the float cosine ends before"
    assert t.learning_rate(6 * steps) == 0.01 and t.learning_rate(8 * steps) == pytest.approx(0.005)


@pytest.mark.parametrize("stop", [3, 5])
def test_quantised_training_continues_bit_for_bit(tmp_path: Path, stop: int) -> None:
    settings = {"epochs": 6, "qat_epochs": 3, "augment": Augment(kind="light")}
    through, first, second = trainer(**settings), trainer(**settings), trainer(**settings)
    through.run()
    first.run(until_epoch=stop)
    first.save(tmp_path / "state")
    second.load(tmp_path / "state")
    second.run()
    assert same(through, second) and timeless(through.history) == timeless(second.history)
    assert isinstance(second.trained, QatNetwork) and isinstance(through.trained, QatNetwork)
    assert second.trained.tensors == through.trained.tensors


def test_files_hold_either_kind_of_network(tmp_path: Path) -> None:
    t = trainer(epochs=3, qat_epochs=1)
    t.run(until_epoch=2)
    save_trained(t.trained, tmp_path / "float", {"a": "b"})
    t.run()
    save_trained(t.trained, tmp_path / "int8", {})
    floats, quantised = load_trained(GRAPH, tmp_path / "float"), load_trained(GRAPH, tmp_path / "int8")
    assert isinstance(floats, Network) and isinstance(quantised, QatNetwork) and isinstance(t.trained, QatNetwork)
    assert quantised.tensors == t.trained.tensors
    assert np.array_equal(evaluate(quantised, VAL).logits, t.evaluate(VAL).logits)
    other = lower(ARCH.model_copy(update={"blocks": ARCH.blocks[:1]}))
    for name in ("float", "int8"):
        with pytest.raises(RunError, match="does not hold this network's weights"):
            load_trained(other, tmp_path / name)


# losses ---------------------------------------------------------------------------------------------

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0]])
LABELS = torch.tensor([0, 1])


def test_sce_equals_the_paper_computed_by_hand() -> None:
    alpha, beta, clip = 0.7, 0.3, 1e-4
    p = torch.softmax(LOGITS, 1)
    onehot = F.one_hot(LABELS, 3).float()
    cross = -(onehot * p.log()).sum(1).mean()
    reverse = -(p * onehot.clamp(clip, 1.0).log()).sum(1).mean()
    loss = symmetric_cross_entropy(LOGITS, LABELS, alpha=alpha, beta=beta, clip=clip)
    assert loss.item() == pytest.approx((alpha * cross + beta * reverse).item(), rel=1e-6)


def test_sce_without_reverse_part_is_cross_entropy_smoothed_or_not() -> None:
    for smoothing in (0.0, 0.1):
        loss = symmetric_cross_entropy(LOGITS, LABELS, alpha=1.0, beta=0.0, clip=1e-4, label_smoothing=smoothing)
        expected = F.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert make_loss(recipe(loss="ce", label_smoothing=smoothing))(LOGITS, LABELS).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_wrong_label_pulls_less_under_sce() -> None:
    sure = torch.tensor([[8.0, -8.0]], requires_grad=True)
    wrong = torch.tensor([1])
    (ce,) = torch.autograd.grad(F.cross_entropy(sure, wrong), sure)
    (sce,) = torch.autograd.grad(symmetric_cross_entropy(sure, wrong, alpha=0.1, beta=1.0, clip=1e-4), sure)
    assert sce.abs().max() < 0.2 * ce.abs().max()


# the recipe -----------------------------------------------------------------------------------------


def test_recipe_faults_name_the_key() -> None:
    with pytest.raises(ConfigError, match="qat_epochs 9 leaves none of the 4 epochs"):
        build({"epochs": 4, "qat_epochs": 9}, Recipe, source="--set")
    with pytest.raises(ConfigError, match="sce_alpah"):
        build({"sce_alpah": 1}, Recipe, source="--set")
    with pytest.raises(ValidationError):
        Recipe(lr=-1)
    with pytest.raises(ConfigError, match="nothing is learnt"):
        build({"sce_alpha": 0, "sce_beta": 0}, Recipe, source="--set")


def test_proxy_and_full_differ_by_settings_only() -> None:
    assert type(Recipe.proxy()) is type(Recipe.full()) is Recipe
    assert Recipe.proxy().schedule == "constant", "a rung must not depend on how long the training may become"
    assert Recipe.full(epochs=7).epochs == 7


def test_a_full_training_of_few_images_passes_over_them_more_often() -> None:
    usual = Recipe.full()
    few = usual.lengthened(202)
    assert few == usual.model_copy(update={"epoch_images": LEAST_IMAGES // 60}) and few.epochs * few.epoch_images >= LEAST_IMAGES
    assert usual.lengthened(LEAST_IMAGES // 60) is usual, "enough of them"
    assert usual.lengthened(LEAST_IMAGES // 60 - 1).epoch_images == LEAST_IMAGES // 60
    for said in ({"epoch_images": 100}, {"subset": 50}):
        assert Recipe.full(**said).lengthened(202) == Recipe.full(**said)
