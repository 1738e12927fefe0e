"""The trainer's arithmetic by hand: rates, averages, batches, means, losses and defaults."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from test_train import GRAPH, TRAIN, VAL, images, recipe, trainer

from tinynas.arch import MBConv
from tinynas.data import Split
from tinynas.data.split import epoch_order
from tinynas.errors import ConfigError, RunError
from tinynas.graph import lower
from tinynas.model import BatchNorm, normalise
from tinynas.quantize.qat import QatNetwork
from tinynas.recipe import Augment, Recipe
from tinynas.train import Trainer, evaluate, make_loss, symmetric_cross_entropy
from tinynas.train.feed import make_feed
from tinynas.train.group import barrier, process_group, rank
from tinynas.train.loop import deciding
from tinynas.train.quantised import SCALES, ZERO_POINTS, calibration_rows, grids_in, state_of

CPU = torch.device("cpu")

# Rates


def test_rates_of_a_warm_up_that_ends_inside_an_epoch() -> None:
    t = trainer(epochs=4, warmup_epochs=1.5, lr=0.26, schedule="cosine")  # 8 steps an epoch: 12 of warm-up, 20 of cosine
    assert t.steps_per_epoch == 8
    assert [t.learning_rate(step) for step in (0, 1, 11)] == pytest.approx([0.26 / 13, 0.26 * 2 / 13, 0.26 * 12 / 13])
    assert t.learning_rate(12) == 0.26
    assert [t.learning_rate(step) for step in (17, 22, 31)] == pytest.approx(
        [0.26 * 0.5 * (1 + math.cos(math.pi * k / 20)) for k in (5, 10, 19)]
    )
    assert t.learning_rate(32) == pytest.approx(0) == t.learning_rate(40)
    # To a quarter of the peak in place of 0.
    t = trainer(epochs=4, warmup_epochs=1.5, lr=0.26, schedule="cosine", lr_end=0.25)
    assert t.learning_rate(12) == 0.26
    assert [t.learning_rate(step) for step in (17, 22, 31)] == pytest.approx(
        [0.065 + 0.195 * 0.5 * (1 + math.cos(math.pi * k / 20)) for k in (5, 10, 19)]
    )
    assert t.learning_rate(32) == pytest.approx(0.065) == t.learning_rate(40)


def test_rates_at_a_constant_peak_and_with_fractions_of_a_step() -> None:
    t = trainer(epochs=4, warmup_epochs=0.3, schedule="constant", lr=0.5)  # 2.4 steps
    assert [t.learning_rate(step) for step in range(5)] == pytest.approx([0.5 / 3.4, 1 / 3.4, 1.5 / 3.4, 0.5, 0.5])


def test_rates_of_the_last_phase_are_its_own_even_inside_the_warm_up() -> None:
    t = trainer(epochs=3, qat_epochs=1, warmup_epochs=2.5, lr=0.21, qat_lr=0.04, schedule="cosine", lr_end=0.5)
    assert t.learning_rate(15) == pytest.approx(0.21 * 16 / 21)
    assert [t.learning_rate(step) for step in (16, 18, 20, 24)] == pytest.approx([0.04, 0.02 * (1 + math.cos(math.pi / 4)), 0.02, 0])
    constant = trainer(epochs=3, qat_epochs=1, warmup_epochs=0, schedule="constant", lr=0.3, qat_lr=0.04)
    assert [constant.learning_rate(step) for step in (0, 15, 16, 20)] == pytest.approx([0.3, 0.3, 0.04, 0.02])
    plain = trainer(epochs=2, warmup_epochs=0, lr=0.3, qat_lr=0.04, schedule="cosine")
    assert plain.learning_rate(16) == pytest.approx(0), "without a last phase its rate is never seen"


@pytest.mark.parametrize(
    ("settings", "batch", "steps"),
    [
        ({"batch_size": 64}, 64, 8),
        ({"batch_size": 100}, 100, 5),
        ({"batch_size": 600}, 512, 1),
        ({"batch_size": 64, "epoch_images": 200}, 64, 3),
        ({"batch_size": 64, "epoch_images": 10}, 64, 1),
        ({"batch_size": 64, "epoch_images": 9999}, 64, 156),  # nineteen passes and a half
        ({"batch_size": 600, "epoch_images": 1100}, 512, 2),
        ({"batch_size": 64, "subset": 130}, 64, 2),
        ({"batch_size": 64, "subset": 512}, 64, 8),
        ({"batch_size": 64, "subset": 1}, 2, 1),  # at least one of each class
    ],
)
def test_steps_of_an_epoch(settings: dict[str, int], batch: int, steps: int) -> None:
    t = trainer(**settings)
    assert (t.batch_size, t.steps_per_epoch) == (batch, steps)
    assert t.run(until_epoch=1) == 1 and t.history[0].images == batch * steps


def test_a_subset_of_everything_is_the_split_itself() -> None:
    assert trainer(subset=512).train is TRAIN and trainer(subset=0).train is TRAIN and trainer(subset=511).train is not TRAIN


# Batches and means


def test_batches_follow_the_order_of_the_epoch_without_a_gap() -> None:
    t = trainer(batch_size=100)
    for epoch in (1, 2):
        seen = [(x, y) for x, y in t._batches(epoch, t.steps_per_epoch)]
        order = epoch_order(512, seed=0, epoch=epoch)
        assert len(seen) == 5
        for index, (x, y) in enumerate(seen):
            rows = order[100 * index : 100 * index + 100]
            assert torch.equal(x, normalise(torch.from_numpy(TRAIN.inputs[rows]), GRAPH.input))
            assert y.tolist() == TRAIN.labels[rows].tolist()


def _asked(feed: Any, asked: list[int], number: int, rows: Any) -> Any:
    asked.append(number)
    return feed(number, rows)


def test_an_epoch_of_more_images_than_there_are_is_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    t = trainer(batch_size=100, epoch_images=1300)
    for epoch in (1, 2):
        numbers = [3 * epoch - 2, 3 * epoch - 1, 3 * epoch]
        order = np.concatenate([epoch_order(512, seed=0, epoch=number) for number in numbers])
        seen = np.concatenate([y.numpy() for _, y in t._batches(epoch, t.steps_per_epoch)])
        assert t.steps_per_epoch == 13 and seen.tolist() == TRAIN.labels[order[:1300]].tolist()
        # Each pass is augmented as an epoch of its own.
        asked: list[int] = []
        monkeypatch.setattr(t, "_feed", partial(_asked, t._feed, asked))
        list(t._batches(epoch, t.steps_per_epoch))
        monkeypatch.undo()
        assert asked == [numbers[100 * batch // 512] for batch in range(13)]


def test_an_epoch_reports_means_over_its_steps() -> None:
    # So small a rate that no weight moves: every step's loss and hits can be computed beside it.
    t = trainer(lr=1e-30, weight_decay=0.0, ema=0.0, loss="ce", epochs=2, optimizer="sgd", warmup_epochs=0)
    twin = copy.deepcopy(t.network).train()
    losses, hits = [], 0
    with torch.no_grad():
        for epoch in (1, 2):
            for x, y in t._batches(epoch, t.steps_per_epoch):
                logits = twin(x)
                losses.append(float(F.cross_entropy(logits, y)))
                hits += int((logits.argmax(1) == y).sum())
    t.run()
    assert [m.loss for m in t.history] == pytest.approx([np.mean(losses[:8]), np.mean(losses[8:])], rel=1e-6)
    assert sum(m.train_accuracy * m.images for m in t.history) == pytest.approx(hits)
    assert [m.images for m in t.history] == [512, 512]


def test_evaluation_counts_every_image_once() -> None:
    t = trainer(epochs=2)
    t.run()
    split = images(600, 7)
    network = t.network.eval()
    with torch.no_grad():
        logits = network(normalise(torch.from_numpy(split.inputs), GRAPH.input))
    for count in (1, 255, 256, 257, 600):
        part = split.take(np.arange(count))
        result = evaluate(t.network, part)
        assert result.logits.shape == (count, 2)
        np.testing.assert_allclose(result.logits, logits[:count].numpy(), atol=1e-5)
        truth = torch.from_numpy(split.labels[:count])
        assert result.accuracy == pytest.approx(float((logits[:count].argmax(1) == truth).float().mean()))
        assert result.loss == pytest.approx(float(F.cross_entropy(logits[:count], truth)), rel=1e-5)
    assert not t.network.training


# Steps


def test_a_step_of_nesterov_momentum_by_hand() -> None:
    t = trainer(optimizer="sgd", lr=0.01, weight_decay=0.3, warmup_epochs=0, schedule="constant", ema=0.0, loss="ce")
    weights = {name: p.detach().clone() for name, p in t.network.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in weights.items()}
    for step, (x, y) in enumerate(t._batches(1, 3)):
        twin = copy.deepcopy(t.network).train()
        F.cross_entropy(twin(x), y).backward()
        loss, hits = t._step(x, y, step)
        assert 0 <= int(hits) <= 64 and not loss.requires_grad
        for name, p in twin.named_parameters():
            assert p.grad is not None
            gradient = p.grad + (0.3 * weights[name] if p.ndim > 1 else 0)
            velocity[name] = 0.9 * velocity[name] + gradient
            weights[name] = weights[name] - 0.01 * (gradient + 0.9 * velocity[name])
        for name, p in t.network.named_parameters():
            torch.testing.assert_close(p.detach(), weights[name], rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_a_first_step_of_adamw_moves_by_the_rate_and_decays_weights_alone() -> None:
    t = trainer(lr=0.01, weight_decay=0.5, warmup_epochs=0, schedule="constant", ema=0.0, loss="ce")
    before = {name: p.detach().clone() for name, p in t.network.named_parameters()}
    x, y = next(t._batches(1, 1))
    t._step(x, y, 0)
    for name, p in t.network.named_parameters():
        # Without a history the step is the gradient's sign, but where the gradient is as small as the optimiser's epsilon.
        assert p.grad is not None
        step = 0.01 * p.grad / (p.grad.abs() + 1e-8)
        torch.testing.assert_close(p.detach(), before[name] * (1 - 0.01 * 0.5 if p.ndim > 1 else 1) - step, rtol=1e-4, atol=1e-5)


def test_steps_are_counted_over_all_epochs() -> None:
    for epochs in (1, 3):
        t = trainer(epochs=4, warmup_epochs=2)
        t.run(until_epoch=epochs)
        assert {group["lr"] for group in t._optimizer.param_groups} == {t.learning_rate(8 * epochs - 1)}


def test_the_average_looks_back_no_further_than_its_limits() -> None:
    for ema, step, decay in (
        (2.0, 0, 0.1),
        (2.0, 40, 41 / 50),
        (2.0, 10**6, math.exp(-1 / 16)),
        (1000.0, 10**4, 10_001 / 10_010),
        (1000.0, 10**7, math.exp(-1 / 8000)),
    ):
        t = trainer(ema=ema)
        assert t._average is not None
        with torch.no_grad():
            for p, q in zip(t._raw.parameters(), t._average.parameters(), strict=True):
                p.fill_(0.0)
                q.fill_(1.0)
            for p, q in zip(t._raw.buffers(), t._average.buffers(), strict=True):
                p.fill_(3)
                q.fill_(3)
        t._update_average(step)
        for value in t._average.parameters():
            assert value.flatten()[0].item() == pytest.approx(decay, rel=1e-5), (ema, step)
    long = trainer(ema=1000.0, batch_size=2)  # a horizon of 256,000 steps
    assert long._average is not None
    with torch.no_grad():
        for p, q in zip(long._raw.parameters(), long._average.parameters(), strict=True):
            p.fill_(0.0)
            q.fill_(1.0)
    long._update_average(10**7)
    assert all(value.flatten()[0].item() == pytest.approx(0.9999, abs=2e-6) for value in long._average.parameters())


def test_averages_in_the_last_phase_count_its_own_steps() -> None:
    t = trainer(epochs=3, qat_epochs=1, ema=2.0)
    t.run(until_epoch=2)
    t._quantise()
    assert isinstance(t._raw, QatNetwork) and isinstance(t._average, QatNetwork)
    assert all(torch.equal(p, q) for p, q in zip(t._raw.parameters(), t._average.parameters(), strict=True))
    with torch.no_grad():
        for p, q in zip(t._raw.parameters(), t._average.parameters(), strict=True):
            p.fill_(0.0)
            q.fill_(1.0)
    t._update_average(16)  # the first of the phase: (1 + 0) / (10 + 0)
    assert all(value.flatten()[0].item() == pytest.approx(0.1, rel=1e-5) for value in t._average.parameters())
    t._update_average(18)
    assert all(value.flatten()[0].item() == pytest.approx(0.1 * 3 / 12, rel=1e-5) for value in t._average.parameters())


@pytest.mark.parametrize(("bn_images", "batches"), [(1, 1), (64, 1), (65, 2), (128, 2), (100_000, 8)])
def test_norms_are_means_over_so_many_batches(bn_images: int, batches: int) -> None:
    t = trainer(bn_images=bn_images, ema=2.0, epochs=1)
    assert t._average is not None
    twin = copy.deepcopy(t._average)
    t._estimate_norms(1)
    assert not t._average.training
    stem = twin.named_op("stem")[1]
    assert stem is not None
    means = []
    twin.train()
    with torch.no_grad():
        for x, _ in t._batches(1, batches):
            stem.momentum = 1.0
            twin(x)
            assert stem.running_mean is not None
            means.append(stem.running_mean.clone())
    found = t._average.named_op("stem")[1]
    assert found is not None
    torch.testing.assert_close(found.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-6)


def test_norms_are_averaged_where_none_are_measured() -> None:
    t = trainer(bn_images=0, ema=2.0, epochs=1)
    t.run()
    momenta = [m.momentum for m in t.network.modules() if isinstance(m, BatchNorm)]
    fresh = [m.momentum for m in trainer().network.modules() if isinstance(m, BatchNorm)]
    assert momenta == fresh
    measured = trainer(bn_images=64, ema=2.0, epochs=1)
    measured.run()
    a, b = t.network.named_op("stem")[1], measured.network.named_op("stem")[1]
    assert a is not None and b is not None and a.running_mean is not None and b.running_mean is not None
    assert not torch.allclose(a.running_mean, b.running_mean, rtol=1e-3)


def test_epochs_asked_for_and_epochs_there_are() -> None:
    t = trainer(epochs=3)
    assert t.epoch == 0 and t.run(until_epoch=2) == 2 and t.run(until_epoch=1) == 2 and t.run(until_epoch=99) == 3
    assert trainer(epochs=2).run() == 2


def test_weights_given_are_where_the_training_starts() -> None:
    parent = trainer(epochs=1, ema=0.0)
    parent.run()
    given = parent.network.state_dict()
    for ema in (0.0, 1.0):
        heir = Trainer(GRAPH, TRAIN, VAL, recipe(ema=ema), seed=3, device=CPU, weights=given)
        assert all(torch.equal(heir._raw.state_dict()[key], value) for key, value in given.items())
        assert all(torch.equal(heir.network.state_dict()[key], value) for key, value in given.items())
        assert (heir.trained is heir._raw) == (ema == 0.0)


def test_threads_are_used_and_given_back() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    few = images(16, 4)
    settings = recipe(epochs=1, threads=before + 1)
    Trainer(GRAPH, few, few, settings, seed=0, device=CPU).run(on_epoch=lambda _: seen.append(torch.get_num_threads()))
    assert seen == [before + 1] and torch.get_num_threads() == before
    with pytest.raises(RuntimeError, match="stop"):
        Trainer(GRAPH, few, few, settings, seed=0, device=CPU).run(on_epoch=_stop)
    assert torch.get_num_threads() == before


def _stop(_: object) -> None:
    raise RuntimeError("stop")


# Quantisation in the loop


def test_calibration_images_are_drawn_once_each_and_sorted() -> None:
    rows = calibration_rows(1000, 512, 0)
    assert len(rows) == 512 == len(set(rows.tolist())) and rows.tolist() == sorted(rows.tolist())
    assert rows.min() >= 0 and rows.max() < 1000 and not np.array_equal(rows, np.arange(512))
    assert np.array_equal(rows, calibration_rows(1000, 512, 0)) and not np.array_equal(rows, calibration_rows(1000, 512, 1))
    assert calibration_rows(5, 512, 0).tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(rows, np.sort(np.random.default_rng((0, 0xCA11)).permutation(1000)[:512]))


def test_grids_are_in_the_state_and_come_back() -> None:
    t = trainer(epochs=2, qat_epochs=1)
    t.run()
    network = t.trained
    assert isinstance(network, QatNetwork)
    state = state_of(network)
    assert state[SCALES].tolist() == [q.scale for q in network.tensors] and state[ZERO_POINTS].tolist() == [
        q.zero_point for q in network.tensors
    ]
    assert grids_in(state) == network.tensors
    assert grids_in({f"raw.{key}": value for key, value in state.items()}, "raw.") == network.tensors
    assert grids_in(state, "raw.") is None


def test_the_state_of_the_last_phase_is_complete(tmp_path: Path) -> None:
    for ema in (0.0, 1.0):
        t = trainer(epochs=2, qat_epochs=1, ema=ema)
        t.run()
        t.save(tmp_path / "state")
        other = trainer(epochs=2, qat_epochs=1, ema=ema)
        other.load(tmp_path / "state")
        assert other.history == t.history and other.epoch == 2 and other.run() == 2
        assert np.array_equal(other.evaluate(VAL).logits, t.evaluate(VAL).logits)
        assert (other._average is None) == (ema == 0.0)


def test_a_state_goes_on_with_other_threads_but_not_with_another_validation(tmp_path: Path) -> None:
    t = trainer(epochs=2)
    t.run(until_epoch=1)
    t.save(tmp_path / "state")
    other = trainer(epochs=2, threads=2)
    other.load(tmp_path / "state")
    assert other.epoch == 1
    fewer = Split(VAL.inputs[:200], VAL.labels[:200], VAL.names[:200])
    with pytest.raises(RunError, match="another training"):
        Trainer(GRAPH, TRAIN, fewer, recipe(epochs=2), seed=0, device=CPU).load(tmp_path / "state")


# Feeds


@pytest.mark.parametrize("resident", [None, False, True])
def test_feeds_give_the_images_asked_for(resident: bool | None) -> None:
    feed = make_feed(TRAIN, Augment(kind="none"), 0, CPU, resident)
    rows = np.asarray([5, 3, 3, 511], np.int64)
    pixels, labels = feed(1, rows)
    assert (
        pixels.dtype == torch.uint8
        and torch.equal(pixels, torch.from_numpy(TRAIN.inputs[rows]))
        and labels.tolist() == TRAIN.labels[rows].tolist()
    )
    host = make_feed(TRAIN, Augment(kind="none"), 0, CPU, False)
    assert (type(feed) is type(host)) == (resident is not True), "a processor reads from the map unless told otherwise"


def test_a_gpu_keeps_the_images_where_they_are_less_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinynas.train.feed._Host", lambda *_: "host")
    monkeypatch.setattr("tinynas.train.feed._Resident", lambda *_: "resident")
    size = TRAIN.inputs.nbytes
    for free, wanted in ((size * 10 // 4, "host"), (size * 10 // 4 + 10, "resident")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10 * free))
        assert make_feed(TRAIN, Augment(kind="none"), 0, torch.device("cuda")) == wanted
        assert make_feed(TRAIN, Augment(kind="none"), 0, torch.device("cuda"), resident=wanted == "host") != wanted
        assert make_feed(TRAIN, Augment(kind="none"), 0, CPU) == "host"


# Several processes


def test_two_processes_of_one_mind_report_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # The other process is thought to hold the same numbers: a sum over both doubles what is here.
    summed: list[int] = []

    def double(tensor: torch.Tensor) -> None:
        summed.append(tensor.numel())
        tensor.mul_(2)

    monkeypatch.setattr("tinynas.train.loop.dist.all_reduce", double)
    settings = {"lr": 1e-30, "weight_decay": 0.0, "optimizer": "sgd", "loss": "ce", "warmup_epochs": 0, "epochs": 1, "ema": 1.0}
    t = trainer(**settings)
    t.rank, t.world = 1, 2
    twin = copy.deepcopy(t._raw).train()
    losses, hits = [], 0
    order = epoch_order(512, seed=0, epoch=1)
    with torch.no_grad():
        for start in range(0, 512, 64):
            rows = order[start : start + 64][1::2]
            labels = torch.from_numpy(TRAIN.labels[rows])
            logits = twin(normalise(torch.from_numpy(TRAIN.inputs[rows]), GRAPH.input))
            losses.append(float(F.cross_entropy(logits, labels)))
            hits += int((logits.argmax(1) == labels).sum())
    t.run()
    (metrics,) = t.history
    assert metrics.images == 512 and metrics.loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert metrics.train_accuracy == pytest.approx(2 * hits / 512)
    parameters = sum(p.numel() for p in t._raw.parameters())
    assert summed.count(parameters) == 8, "one message a step"
    stem, expected = t._raw.named_op("stem")[1], twin.named_op("stem")[1]
    assert stem is not None and expected is not None
    torch.testing.assert_close(stem.running_mean, expected.running_mean)
    torch.testing.assert_close(stem.running_var, expected.running_var)


def test_two_processes_sum_no_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    # Spatial attention has whole numbers among its buffers, which rows and columns are read.
    monkeypatch.setattr("tinynas.train.loop.dist.all_reduce", lambda tensor: tensor.mul_(2))
    arch = GRAPH.arch.model_copy(update={"blocks": (MBConv(out=8, attention="spatial"), *GRAPH.arch.blocks)})
    t = Trainer(lower(arch), TRAIN, VAL, Recipe(epochs=1, batch_size=64), seed=0)
    t.rank, t.world = 1, 2
    before = {name: b.clone() for name, b in t._raw.named_buffers() if not b.is_floating_point()}
    t.run()
    assert before and all(torch.equal(dict(t._raw.named_buffers())[name], b) for name, b in before.items())


def test_gradients_of_two_processes_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinynas.train.loop.dist.all_reduce", lambda tensor: tensor.mul_(2).add_(6))  # the other's are 6 more
    t = trainer(optimizer="sgd", lr=0.01, weight_decay=0.0, warmup_epochs=0, schedule="constant", ema=0.0, loss="ce")
    x, y = next(t._batches(1, 1))
    twin = copy.deepcopy(t.network).train()
    F.cross_entropy(twin(x), y).backward()
    before = {name: p.detach().clone() for name, p in t.network.named_parameters()}
    t.world = 2
    t._step(x, y, 0)
    gradients = dict(twin.named_parameters())
    for name, p in t.network.named_parameters():
        gradient = gradients[name].grad
        assert gradient is not None
        torch.testing.assert_close(p.detach(), before[name] - 0.01 * 1.9 * (gradient + 3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("world", [None, "1", "2"])
def test_a_group_is_joined_only_where_there_are_several(monkeypatch: pytest.MonkeyPatch, world: str | None) -> None:
    said: list[object] = []
    monkeypatch.setattr(dist, "init_process_group", said.append)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: said.append("over"))
    monkeypatch.setattr("tinynas.train.group.pick_device", lambda: CPU)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    with process_group() as device:
        assert device == CPU
        said.append("inside")
    assert said == (["gloo", "inside", "over"] if world == "2" else ["inside"])
    barrier()
    assert rank() == 0


# Losses and the recipe

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0]])
LABELS = torch.tensor([0, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_symmetric_cross_entropy_by_hand(smoothing: float) -> None:
    rows = []
    for logits, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        total = sum(math.exp(v) for v in logits)
        p = [math.exp(v) / total for v in logits]
        target = [(1 - smoothing) * (k == label) + smoothing / 3 for k in range(3)]
        cross = -sum(t * math.log(q) for t, q in zip(target, p, strict=True))
        reverse = -sum(q * math.log(1.0 if k == label else 1e-3) for k, q in enumerate(p))
        rows.append(2.0 * cross + 0.5 * reverse)
    wanted = sum(rows) / 2
    settings = {"alpha": 2.0, "beta": 0.5, "clip": 1e-3, "label_smoothing": smoothing}
    assert symmetric_cross_entropy(LOGITS, LABELS, **settings).item() == pytest.approx(wanted, rel=1e-6)
    named = recipe(loss="sce", sce_alpha=2.0, sce_beta=0.5, sce_clip=1e-3, label_smoothing=smoothing)
    assert make_loss(named)(LOGITS, LABELS).item() == pytest.approx(wanted, rel=1e-6)


def test_the_default_recipe_is_the_one_that_was_measured() -> None:
    # results/benchmarks/recipes_first.md and schedules.md: what these were measured against. A new default is a new measurement.
    plain = {
        "epochs": 60,
        "batch_size": 64,
        "optimizer": "adamw",
        "lr": 5e-3,
        "weight_decay": 0.05,
        "warmup_epochs": 2.0,
        "schedule": "constant",
        "lr_end": 0.0,
        "loss": "sce",
        "sce_alpha": 1.0,
        "sce_beta": 0.1,
        "sce_clip": 1e-4,
        "label_smoothing": 0.0,
        "ema": 3.0,
        "bn_images": 1024,
        "dropout": 0.0,
        "subset": 0,
        "epoch_images": 0,
        "threads": 1,
        "precision": "float32",
        "qat_epochs": 0,
        "qat_lr": 5e-4,
        "few_bits_from": 0.0,
        "branches": "none",
        # Nothing is begun with, nobody teaches.
        "init": None,
        "init_pixels": "auto",
        "freeze": 0,
        "old_lr": 1.0,
        "teacher": None,
        "teacher_pixels": "auto",
        "teacher_temperature": 4.0,
        "teacher_weight": 0.5,
    }
    found = Recipe().model_dump()
    augment = found.pop("augment")
    assert found == plain and Recipe.full() == Recipe()
    assert augment["kind"] == "light" and set(augment["light"].values()) == {"auto"}
    light = {"flip": 0.5, "rotate": 10.0, "zoom": 0.15, "shift": 0.08, "brightness": 0.08, "contrast": 0.1}
    assert Recipe().augment.settled().light.model_dump() == light
    proxy = Recipe.proxy().model_dump()
    proxy.pop("augment")
    assert proxy == {**plain, "epochs": 12, "schedule": "constant", "warmup_epochs": 0.5, "ema": 1.0, "bn_images": 512}
    assert Recipe.proxy(epochs=3, ema=0.5).ema == 0.5 and Recipe.proxy(epochs=3).epochs == 3


def test_phases_have_to_fit() -> None:
    from tinynas.config import build

    assert Recipe(epochs=4, qat_epochs=3).qat_epochs == 3
    for epochs in (4, 5):
        with pytest.raises(ConfigError, match="leaves none"):
            build({"epochs": 4, "qat_epochs": epochs}, Recipe, source="--set")
    for alpha, beta in ((0, 0.1), (1, 0)):
        assert Recipe(sce_alpha=alpha, sce_beta=beta).loss == "sce"
    assert Recipe(loss="ce", sce_alpha=0, sce_beta=0).loss == "ce"
    with pytest.raises(ConfigError, match="nothing is learnt"):
        build({"sce_alpha": 0, "sce_beta": 0}, Recipe, source="--set")


def test_a_record_says_where_a_cosine_ends_if_it_does_not_end_at_0() -> None:
    # What says nothing is left out: states and records of before stay what they were.
    assert "lr_end" not in deciding(Recipe(), GRAPH) and "lr_end" not in deciding(Recipe(lr_end=0.2), GRAPH)
    assert "lr_end" not in deciding(Recipe(schedule="cosine"), GRAPH)
    assert deciding(Recipe(schedule="cosine", lr_end=0.2), GRAPH)["lr_end"] == 0.2
