"""Learning on the board: schemes under budgets, steps by hand, forgetting, and the line of commands."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from adapt_cases import Case, make_case
from test_cost_tflite import benchmark

from tinynas.adapt import SCHEMES, Learner, Learning, UpdateBudget, learn, load_update_budget, make_task, scheme_named
from tinynas.adapt import sparse as sparse_update
from tinynas.adapt.learner import LostLearning, with_classes
from tinynas.adapt.learning import key_of
from tinynas.adapt.plans import plan
from tinynas.adapt.scenes import Contributions, Scene, Velocities, _similarity, fill, fisher, most, neurons_of, ratio_channels
from tinynas.adapt.schemes import choose
from tinynas.adapt.tasks import Task
from tinynas.cli import run
from tinynas.config import ConfigError, build, n_bytes
from tinynas.cost.updates import Part, Update, biases_of, full_update, inputs_part, last_biases, last_layers, outputs_part, weighted_of
from tinynas.data import Split
from tinynas.data.split import epoch_order
from tinynas.errors import BudgetError, UserError
from tinynas.learnings.comparing import Setup, compare, open_task, table, work
from tinynas.quantize import FakeQuantNetwork
from tinynas.quantize.floats import pixels, predict
from tinynas.weights.learnable import open_learnable


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("adapt"))


def setup_of(case: Case) -> Setup:
    return Setup(str(case.arch), str(case.new), str(case.weights), old=str(case.old))


def budget_of(*, extra: int = 12 * 1024, **learning: Any) -> UpdateBudget:
    given = {"epochs": 2, "lr": 0.05, "batch": 4, "measure_images": 8, **learning}
    return UpdateBudget(name="small", extra=n_bytes(extra), learning=Learning(**given))


@pytest.fixture(scope="module")
def task(case: Case) -> Task:
    return open_task(setup_of(case), budget_of(), 0)


def scene_of(task: Task, budget: UpdateBudget, seed: int = 0) -> Scene:
    learner = Learner(task.floats, budget.learning, calibration=np.array(task.train.inputs))
    return Scene(learner, budget, seed, task.train, task.val)


# Tasks


def test_a_task_has_one_list_of_classes_and_the_old_outputs_stay(task: Task) -> None:
    assert task.labels == ("blue", "green", "red", "violet", "yellow")
    assert task.old == 3
    assert set(task.train.labels) == {3, 4}
    assert task.old_test is not None and set(task.old_test.labels) == {0, 1, 2}
    images = task.old_test.inputs
    before, now = predict(task.net.floats, images), predict(task.floats, images)
    assert np.allclose(before, now[:, :3], atol=1e-6)
    assert (before.argmax(1) == task.old_test.labels).mean() > 0.8


def test_a_replaced_head_has_the_new_classes_alone(case: Case) -> None:
    task = open_task(setup_of(case), budget_of(head="replace"), 0)
    assert (task.labels, task.old, task.old_test) == (("violet", "yellow"), 0, None)
    assert set(task.train.labels) == {0, 1}


def test_images_and_replay_are_counted_by_class(case: Case) -> None:
    task = open_task(setup_of(case), budget_of(images=3, replay=2), 0)
    assert np.bincount(task.train.labels).tolist() == [2, 2, 2, 3, 3]
    assert task.replayed == 6


def test_old_images_take_turns(case: Case) -> None:
    task = open_task(setup_of(case), budget_of(images=3, replay=6, again=2), 0)
    assert np.bincount(task.train.labels).tolist() == [6, 6, 6, 3, 3]
    epochs = [task.rows_of(epoch, again=2, seed=0) for epoch in range(12)]
    for rows in epochs:
        assert rows[:6].tolist() == list(range(6))  # all that is new
        assert np.bincount(task.train.labels[rows]).tolist() == [2, 2, 2, 3, 3]
        assert (np.diff(rows) > 0).all()
    assert len({tuple(rows) for rows in epochs}) > 6
    assert set(np.concatenate(epochs)) == set(range(24))
    assert task.rows_of(3, again=0, seed=0).tolist() == list(range(24))
    assert [tuple(task.rows_of(3, again=2, seed=seed)) for seed in (0, 0, 1)].count(tuple(epochs[3])) == 2
    learner, seen = Learner(task.floats, Learning()), []
    learner._learn = lambda kept, labels, lr: seen.append(int(labels[0])) or 0.0  # type: ignore[assignment, func-returns-value]
    learner.epoch(task.train, last_layers(task.floats.graph, 1), seed=0, epoch=0, epochs=1, chosen=epochs[0])
    assert np.bincount(seen).tolist() == [2, 2, 2, 3, 3]
    with pytest.raises(ConfigError, match="again 3: of 2 old images"):
        build({"extra": "1 KiB", "learning": {"replay": 2, "again": 3}}, UpdateBudget, source="a test")


@pytest.mark.parametrize("name", SCHEMES)
def test_new_outputs_alone_leave_the_old_ones_as_they_were(case: Case, name: str) -> None:
    budget = budget_of(outputs="new", replay=2, epochs=1)
    task = open_task(setup_of(case), budget, 0)
    learned = learn(task, scheme_named(name), budget, followed=False)
    last = weighted_of(task.floats.graph)[-1].name
    begun, now = task.floats.weights[last], learned.learner.floats().weights[last]
    assert not np.array_equal(begun[3:], now[3:])
    assert np.array_equal(begun[:3], now[:3]) == (name != "full")
    if name == "classifier":
        assert learned.parameters == 2 * (now.shape[1] + 1)


def test_new_outputs_are_known_by_new_classes(case: Case, task: Task) -> None:
    from tinynas.data import open_data

    budget = budget_of(outputs="new")
    known = replace(task.net, labels=("violet", "yellow", "red"))
    with pytest.raises(UserError, match="no class that the network does not know"):
        make_task(known, open_data(str(case.new), seed=0), None, budget.learning, seed=0)
    with pytest.raises(UserError, match="which classes are new"):
        plan(task.floats.graph, budget, [scheme_named("last")])


def test_classes_of_old_images_that_the_network_does_not_know_are_refused(case: Case, task: Task) -> None:
    from tinynas.data import open_data

    images = open_data(str(case.new), seed=0)
    with pytest.raises(UserError, match="does not know the class"):
        make_task(task.net, images, images, Learning(), seed=0)
    with pytest.raises(UserError, match="no old images"):
        make_task(task.net, images, None, Learning(replay=1), seed=0)
    assert "not measured" in make_task(task.net, images, None, Learning(), seed=0).notes[-1]


def test_weights_that_are_not_there_are_named(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="without weights"):
        open_learnable(str(case.arch))
    wider = tmp_path / "wider.yaml"
    wider.write_text(case.arch.read_text(encoding="utf-8").replace("out: 16", "out: 24"), encoding="utf-8")
    with pytest.raises(UserError, match="has no weights for"):
        open_learnable(str(wider), init=str(case.weights), images=np.zeros((8, 16, 16, 3), np.uint8))


# Steps, by a second route


def some_update(task: Task) -> Update:
    stem, expand, dw, *_, last = weighted_of(task.floats.graph)
    return Update(
        {
            stem.name: outputs_part(stem, [1, 4]),
            expand.name: inputs_part(expand, [0, 5]),
            dw.name: Part(biases=(2,)),
            last.name: outputs_part(last, range(5)),
        }
    )


def test_a_step_is_plain_sgd_on_what_is_named_and_nothing_else(task: Task) -> None:
    learner = Learner(task.floats, Learning(lr=0.1, momentum=0.5))
    update = some_update(task)
    images, labels = np.array(task.train.inputs[:4]), np.array(task.train.labels[:4])
    slow: dict[str, torch.Tensor] = {}
    for _ in range(2):
        before = {f"{name}.{kind}": value.clone() for name in learner.ops for kind, value in named(learner, name)}
        whole = learner.copy()
        with whole.gradients_of(full_update(task.floats.graph)):
            F.cross_entropy(whole.forward(pixels(images, whole.graph.input)), torch.from_numpy(labels)).backward()
            gradients = {f"{name}.{kind}": value.grad.clone() for name in whole.ops for kind, value in named(whole, name)}  # type: ignore[union-attr]
        learner.step(images, labels, update, 0.1)
        for name, op in learner.ops.items():
            part = update.of(op)
            for kind, value in named(learner, name):
                mask = torch.zeros_like(value)
                if kind == "bias":
                    mask[list(part.biases)] = 1
                elif part.weighted:
                    for place in product(part.rows, part.columns):
                        mask[place] = 1
                key = f"{name}.{kind}"
                slow[key] = 0.5 * slow.get(key, torch.zeros_like(value)) + gradients[key] * mask
                assert torch.allclose(value, before[key] - 0.1 * slow[key], atol=1e-6), key
                assert torch.equal(value[mask == 0], before[key][mask == 0]), key


def named(learner: Learner, name: str) -> Sequence[tuple[str, torch.Tensor]]:
    return [("weight", learner.weights[name]), ("bias", learner.biases[name])]


def test_scaled_gradients_of_integers_move_real_weights_as_float_sgd_does(task: Task) -> None:
    """MCUNetV3, section 3.1: with W = s * q, the gradient of q times s^-2 gives q the relative step that W gets."""
    images, labels = np.array(task.train.inputs[:4]), np.array(task.train.labels[:4])
    update = last_layers(task.floats.graph, 3)
    for qas in (True, False):
        learner = Learner(task.floats, Learning(mode="int8", qas=qas), calibration=np.array(task.train.inputs))
        assert learner.grids is not None
        real = learner.copy()
        with real.gradients_of(update):
            F.cross_entropy(real.forward(pixels(images, real.graph.input)), torch.from_numpy(labels)).backward()
            of_integers = {name: real.weights[name].grad.clone() for name in update.parts}  # type: ignore[union-attr]
        before = {name: learner.weights[name].clone() for name in update.parts}
        learner.step(images, labels, update, 0.01)
        for name in update.parts:
            scale = learner.grids.scales[name].reshape(-1, *[1] * (learner.weights[name].ndim - 1))
            moved = (learner.weights[name] - before[name]) * scale
            of_reals = of_integers[name] / scale  # chain rule: dL/dW = dL/dq / s
            assert torch.allclose(moved, -0.01 * of_reals, rtol=1e-3, atol=1e-7) is qas


def test_what_int8_learning_ends_in_is_the_integer_network(task: Task) -> None:
    learner = Learner(task.floats, Learning(mode="int8", batch=4), calibration=np.array(task.train.inputs))
    learner.epoch(task.train, last_layers(task.floats.graph, 2), seed=0, epoch=0, epochs=1)
    logits = FakeQuantNetwork(learner.integers())(pixels(np.array(task.test.inputs), learner.graph.input)).numpy()
    assert np.array_equal(learner.logits(task.test.inputs), logits.astype(np.float32))
    # The float forward that learns is that arithmetic but for single steps.
    assert learner.grids is not None
    quant = learner.grids.qgraph.tensors[learner.graph.logits]
    with torch.no_grad():
        forward = learner.forward(pixels(np.array(task.test.inputs), learner.graph.input)).numpy() / quant.scale + quant.zero_point
    assert np.abs(forward - logits).max() <= 4


def test_a_lost_learning_is_told(task: Task) -> None:
    learner = Learner(task.floats, Learning(lr=10.0))
    with pytest.raises(LostLearning, match="no longer a number"):
        for _ in range(200):
            learner.epoch(task.train, full_update(task.floats.graph), seed=0, epoch=0, epochs=1)


def test_rates_fall_along_half_a_cosine(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(Learner, "_learn", lambda self, kept, labels, lr: rates.append(lr) or 0.0)
    learner = Learner(task.floats, Learning(lr=0.2, batch=16))
    for epoch in range(2):
        learner.epoch(task.train, Update(), seed=0, epoch=epoch, epochs=2)
    assert rates == pytest.approx([0.2, 0.1 * (1 + 2**-0.5), 0.1, 0.1 * (1 - 2**-0.5)])


Slow = dict[tuple[str, str], torch.Tensor]


def learn_plainly(learner: Learner, split: Split, update: Update, epoch: int, epochs: int, slow: Slow) -> float:
    """An epoch as it is written down: the whole network for every step, nothing remembered, elements by their indices."""
    learning, losses = learner.learning, []
    order = epoch_order(len(split.labels), seed=0, epoch=epoch)
    steps = -(-len(order) // learning.batch)
    for number in range(steps):
        rows = order[number * learning.batch : (number + 1) * learning.batch]
        rate = learning.lr * 0.5 * (1 + math.cos(math.pi * (epoch * steps + number) / (epochs * steps)))
        learner.aim(update)  # of the mode board: what stays integer
        with learner.gradients_of(update):
            x = pixels(np.array(split.inputs[rows]), learner.graph.input)
            loss = F.cross_entropy(learner.forward(x), torch.from_numpy(np.array(split.labels[rows])))
            loss.backward()  # type: ignore[no-untyped-call]
            for name, op in learner.ops.items():
                part = update.of(op)
                columns = [0] if op.kind == "dw" else part.columns
                sides = {"weight": (torch.tensor(part.rows, dtype=torch.long)[:, None], torch.tensor(columns)[None, :])}
                sides["bias"] = (torch.tensor(part.biases),)
                for kind, value in named(learner, name):
                    if value.grad is None:
                        continue
                    place = sides[kind]
                    gradient = (learner._scaled if kind == "weight" else learner._scaled_bias)(op, value.grad)[place]
                    if learning.momentum:
                        moved = slow.setdefault((name, kind), torch.zeros_like(value))
                        moved[place] = learning.momentum * moved[place] + gradient
                        gradient = moved[place]
                    with torch.no_grad():
                        value[place] -= rate * gradient
        losses.append(float(loss.detach()) * len(rows))
    return sum(losses) / len(order)


@pytest.mark.parametrize(
    ("mode", "batch", "momentum"), [("float", 1, 0.5), ("float", 3, 0.0), ("int8", 1, 0.5), ("board", 1, 0.0)], ids=lambda value: str(value)
)
def test_what_no_step_changes_is_worked_out_once_and_every_bit_is_the_same(task: Task, mode: str, batch: int, momentum: float) -> None:
    learning = Learning(mode=mode, batch=batch, momentum=momentum, lr=0.05)  # type: ignore[arg-type]
    fast, plain = (Learner(task.floats, learning, calibration=np.array(task.train.inputs)) for _ in range(2))
    split = task.train.take(np.arange(8))
    graph, slow = task.floats.graph, Slow()
    shallow = last_layers(graph, 2)
    deep = last_biases(graph, 4) if mode == "board" else some_update(task)
    # The front grows by what was learned, and shrinks again: what is remembered of the first shallow epoch is wrong in the last.
    for epoch, update in enumerate((shallow, shallow, deep, shallow)):
        losses = fast.epoch(split, update, seed=0, epoch=epoch, epochs=4), learn_plainly(plain, split, update, epoch, 4, slow)
        assert losses[0] == losses[1]
        for name in fast.ops:
            for (_, one), (_, other) in zip(named(fast, name), named(plain, name), strict=True):
                assert torch.equal(one, other), (name, epoch)


def test_one_image_is_put_through_the_front_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, seen = Learner(task.floats, Learning()), []
    split, update = task.train.take(np.arange(6)), last_layers(task.floats.graph, 1)
    front = Learner._front
    monkeypatch.setattr(Learner, "_front", lambda self, x: seen.append(len(x)) or front(self, x))
    for epoch in range(3):
        learner.epoch(split, update, seed=0, epoch=epoch, epochs=3)
    assert seen == [1] * 6
    learner.epoch(task.train.take(np.arange(6)), update, seed=0, epoch=0, epochs=1)  # others, as far as one can tell
    assert len(seen) == 12
    monkeypatch.setattr("tinynas.adapt.learner.REMEMBERED_BYTES", 0)
    for epoch in range(2):
        learner.copy().epoch(split, update, seed=0, epoch=epoch, epochs=2)
    assert len(seen) == 24


# What schemes look at


def test_similarity_by_hand() -> None:
    before = np.array([[[1, 0], [0, 0], [2, 2], [0, 0]]], np.float32)
    now = np.array([[[0, 3], [0, 0], [5, 5], [1, 1]]], np.float32)
    assert _similarity(before, now) == pytest.approx([0, 1, 1, 0])


def test_velocities_follow_their_recursion(task: Task) -> None:
    learner = Learner(task.floats, Learning(lr=0.5, batch=4))
    seen = Velocities(learner, np.array(task.val.inputs), mu=0.5)
    outputs = [seen.before]
    velocity: dict[str, np.ndarray] = {}
    phi = {name: np.ones(len(values)) for name, values in learner.biases.items()}
    for epoch in range(2):
        learner.epoch(task.train, full_update(task.floats.graph), seed=0, epoch=epoch, epochs=2)
        found = seen.after_epoch(learner)
        outputs.append(seen.before)
        for name in learner.ops:
            now = _similarity(outputs[-2][name], outputs[-1][name])
            velocity[name] = now - phi[name] - 0.5 * velocity.get(name, np.zeros(len(now)))
            phi[name] = now
            assert found[name] == pytest.approx(velocity[name])
    assert max(np.abs(values).max() for values in velocity.values()) > 1e-4


def test_fisher_information_is_that_of_each_image_alone(task: Task) -> None:
    learner = Learner(task.floats, Learning())
    split = task.train.take(range(3))
    found = fisher(learner, split)
    names = {op.output: name for name, op in learner.ops.items()}
    wanted = {name: np.zeros(len(values)) for name, values in found.items()}
    for row in range(3):
        seen: dict[str, torch.Tensor] = {}
        other = learner.copy()
        with other.gradients_of(full_update(other.graph)):

            def see(tensor: int, values: torch.Tensor, seen: dict[str, torch.Tensor] = seen) -> None:
                if tensor in names:
                    values.retain_grad()
                    seen[names[tensor]] = values

            logits = other.forward(pixels(np.array(split.inputs[row : row + 1]), other.graph.input), see)
            F.cross_entropy(logits, torch.from_numpy(split.labels[row : row + 1])).backward()
        for name, values in seen.items():
            assert values.grad is not None
            wanted[name] += (
                (values.detach() * values.grad).flatten(2).sum(2) if values.ndim == 4 else values.detach() * values.grad
            ).numpy()[0] ** 2
    for name in found:
        assert found[name] == pytest.approx(wanted[name] / 6, rel=1e-3, abs=1e-9)


def test_shares_of_channels_are_those_of_largest_norm() -> None:
    norms = np.array([3.0, 1.0, 4.0, 2.0])
    assert ratio_channels(norms, 0.5) == (0, 2)
    assert ratio_channels(norms, 0.01) == (2,)
    assert ratio_channels(norms, 1.0) == (0, 1, 2, 3)


def test_the_most_that_fits_is_found_in_few_questions() -> None:
    for limit, reach in product(range(40), range(45)):
        asked: list[int] = []
        found = most(limit, lambda count, reach=reach, asked=asked: asked.append(count) or count <= reach)  # type: ignore[misc]
        assert found == min(limit, reach)
        assert 0 not in asked and max(asked, default=0) <= limit and len(set(asked)) == len(asked)
        assert len(asked) <= 2 * (min(limit, reach) + 1).bit_length() + 1


def test_filling_takes_all_that_fits_in_the_order_that_is_given(task: Task) -> None:
    """By trying neuron by neuron."""
    scene = scene_of(task, budget_of(extra=9 * 1024))
    neurons = neurons_of(scene)
    order = [neurons[i] for i in np.random.default_rng(3).permutation(len(neurons))]
    ops = {op.name: op for op in scene.ops}
    taken: dict[str, set[int]] = {}
    for name, channel in order:
        wider = {key: set(value) for key, value in taken.items()}
        wider.setdefault(name, set()).add(channel)
        if scene.fits(Update(dict(scene.base.parts) | {key: outputs_part(ops[key], value) for key, value in wider.items()})):
            taken = wider
    found = fill(scene, order)
    assert {name: set(part.rows) for name, part in found.parts.items() if name in taken} == taken
    assert 0 < sum(map(len, taken.values())) < len(neurons)


def test_the_sparse_choice_is_the_best_of_all_that_fit(task: Task) -> None:
    """Against all combinations, with invented gains."""
    for extra, macs in ((7 * 1024, None), (11 * 1024, 330_000)):
        budget = UpdateBudget(name="x", extra=n_bytes(extra), macs=macs, learning=Learning())
        scene = scene_of(task, budget)
        rng = np.random.default_rng(extra)
        parts = sparse_update.parts_of(scene)
        free = [op.name for op in scene.ops[:-1]][-4:]
        gains = Contributions(
            {0: 0.0, 2: 0.3, 4: 0.35},
            {key: float(rng.uniform(0, 1)) if key[0] in free and key[1] in (0.25, 1.0) else -1.0 for key in parts},
        )
        best = -1.0
        options = [[None, 0.25, 1.0] for _ in free]
        from tinynas.cost.updates import last_biases

        for depth, gain in gains.depths.items():
            inside = {op.name for op in scene.ops[len(scene.ops) - 1 - depth : -1]}
            for ratios in product(*options):
                chosen = {(name, ratio) for name, ratio in zip(free, ratios, strict=True) if ratio is not None}
                if not {name for name, _ in chosen} <= inside:
                    continue
                update = Update(dict(last_biases(scene.graph, depth + 1).parts) | {key[0]: parts[key] for key in chosen})
                value = gain + sum(gains.weights[key] for key in chosen)
                if value > best and scene.fits(update):
                    best = value
        found = sparse_update.choose(scene, gains)
        assert scene.fits(found)
        assert worth(scene, found, gains, parts) == pytest.approx(best)


def worth(scene: Scene, update: Update, gains: Contributions, parts: dict[tuple[str, float], Part]) -> float:
    depth = sum(not part.nothing for part in update.parts.values()) - 1
    total = gains.depths[depth]
    for key, part in parts.items():
        if update.parts.get(key[0]) == part:
            total += gains.weights[key]
    return total


# The contract of a scheme


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("limits", [{"extra": 6 * 1024}, {"share": 0.3}, {"macs": 1_200_000}], ids=["extra", "share", "macs"])
def test_a_scheme_keeps_to_the_budget_says_what_it_is_and_does_the_same_again(task: Task, name: str, limits: dict[str, Any]) -> None:
    limits = {key: n_bytes(value) if key == "extra" else value for key, value in limits.items()}
    budget = UpdateBudget(name="limit", learning=Learning(batch=4, measure_images=4), **limits)
    scheme = SCHEMES[name]
    assert scheme.name == name and scheme.title and scheme.choose.__doc__
    found = []
    for _ in range(2):
        scene = scene_of(task, budget, seed=5)
        scene.contributions = Contributions(
            {depth: 0.1 * depth for depth in sparse_update.depths_of(scene)},
            {key: 0.01 * len(part.columns) for key, part in sparse_update.parts_of(scene).items()},
        )
        scene.epoch, scene.velocities = 1, {op.name: np.linspace(-1, 1, len(scene.learner.biases[op.name])) for op in scene.ops}
        update, cost = choose(scheme, scene)
        update.check(scene.graph)
        assert scheme.reference or budget.fits(cost)
        assert update.covers(scene.base)
        assert cost.parameters == update.parameters(scene.graph)
        found.append(update)
    assert found[0] == found[1]


def test_schemes_that_choose_anew_do(task: Task) -> None:
    scene = scene_of(task, budget_of(extra=9 * 1024))
    first = scheme_named("random").choose(scene)
    scene.epoch = 1
    assert scheme_named("random").choose(scene) != first
    ops = {op.name: op for op in scene.ops}
    scene.velocities = {name: np.zeros(len(scene.learner.biases[name])) for name in ops}
    scene.velocities["s1.b0.project"][3] = -9.0  # falls fast: its size counts, not its sign
    assert 3 in scheme_named("velocity").choose(scene).parts["s1.b0.project"].rows


def test_a_larger_budget_takes_more_of_the_last_layers(task: Task) -> None:
    counts = []
    for extra in (2, 8, 64):
        update, _ = choose(scheme_named("last"), scene_of(task, budget_of(extra=extra * 1024)))
        counts.append(len(update.parts))
    assert counts[0] < counts[1] < counts[2] == len(weighted_of(task.floats.graph))


def test_a_limit_may_be_reached_and_not_passed(task: Task) -> None:
    update = last_layers(task.floats.graph, 2)
    free = scene_of(task, budget_of(extra=1 << 20))
    cost = free.cost(update)
    for name, value in (("ram", cost.ram_bytes), ("extra", cost.extra_bytes), ("macs", cost.macs), ("share", cost.share)):
        for less in (0, 1e-9 if name == "share" else 1):
            limit = value - less
            budget = UpdateBudget(learning=free.budget.learning, **{name: n_bytes(int(limit)) if name in ("ram", "extra") else limit})
            assert budget.fits(cost) is (less == 0), name
            assert scene_of(task, budget).fits(update) is (less == 0), name


def test_su_takes_the_largest_preset_that_fits(task: Task) -> None:
    wide, narrow = (scheme_named("su").choose(scene_of(task, budget_of(extra=extra))) for extra in (1 << 20, 6 * 1024))
    graph = task.floats.graph
    # 52 - 48 = 4 from the end of the convolutions: all of the first convolution of the last block but one.
    convolutions = weighted_of(graph)[:-1]
    assert len(wide.parts[convolutions[-4].name].rows) == len(biases(convolutions[-4]))
    assert wide.parameters(graph) > narrow.parameters(graph)


def biases(op: Any) -> tuple[int, ...]:
    return biases_of(op).biases


def test_tinytrain_takes_the_layer_of_largest_score_first(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of(task, budget_of(extra=4 * 1024))
    layers = [op.name for op in scene.ops[:-1]]
    best = layers[-1]
    information = {op.name: np.full(len(biases(op)), 1e-6 if op.name != best else 1e6) for op in scene.ops}
    information[best][5] = 2e6
    monkeypatch.setattr("tinynas.adapt.schemes.fisher", lambda learner, split: information)
    part = scheme_named("tinytrain").choose(scene).parts[best]
    assert part.rows and 5 in part.rows
    alone = next(
        ratio
        for ratio in (1.0, 0.5, 0.25, 0.125)
        if scene.fits(Update(dict(scene.base.parts) | {best: outputs_part(scene.ops[-2], ratio_channels(information[best], ratio))}))
    )
    assert len(part.rows) == len(ratio_channels(information[best], alone))


def test_momentum_of_what_is_no_longer_updated_is_dropped(task: Task) -> None:
    learner = Learner(task.floats, Learning(momentum=0.9, batch=4))
    stem, *_, last = weighted_of(task.floats.graph)
    images, labels = np.array(task.train.inputs[:4]), np.array(task.train.labels[:4])
    learner.step(images, labels, Update({stem.name: outputs_part(stem, [0, 1, 2]), last.name: outputs_part(last, [3, 4])}), 0.1)
    learner.forget_momentum(Update({stem.name: Part((1,), (0, 2), (2,))}))
    slow, slow_bias = learner._momenta[stem.name]
    assert slow[1, [0, 2]].abs().sum() > 0 and slow[[0, 2]].abs().sum() == 0 and slow[1, 1].abs().sum() == 0
    assert slow_bias[2] != 0 and slow_bias[[0, 1]].abs().sum() == 0
    assert all(tensor.abs().sum() == 0 for tensor in learner._momenta[last.name])


def test_a_budget_below_the_classifier_is_refused_and_a_plan_says_so(task: Task) -> None:
    budget = budget_of(extra=64)
    for name in ("classifier", "last", "random", "sparse", "tinytrain", "su"):
        with pytest.raises(BudgetError, match="the classifier alone does not fit: extra"):
            choose(scheme_named(name), scene_of(task, budget))
    (row,) = plan(task, budget, [scheme_named("last")])
    assert (row.fits, row.cost) == (False, None)
    assert "classifier alone" in row.problem


def test_a_plan_of_a_graph_alone_says_what_it_lacks(task: Task) -> None:
    rows = {row.scheme.name: row for row in plan(task.floats.graph, budget_of(), list(SCHEMES.values()))}
    assert "--data" in rows["sparse"].problem and rows["sparse"].cost is None
    assert rows["bias"].fits and rows["bias"].cost is not None
    assert not rows["full"].fits


# Learning


def test_learning_is_the_same_again_and_measures_old_and_new(task: Task) -> None:
    budget = budget_of(epochs=3)
    one, two = (learn(task, scheme_named("velocity"), budget, seed=1) for _ in range(2))
    assert {**one.to_json(), "seconds": 0} == {**two.to_json(), "seconds": 0}
    assert one.before["old"] is not None and one.before["old"] > 0.8 and one.before["new"] == 0.0
    assert one.after["new"] is not None and one.after["new"] > 0.8
    assert one.fits and one.cost.ram_bytes == max(epoch.ram_bytes for epoch in one.epochs)


def test_what_was_known_before_is_measured_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    accuracy = Learner.accuracy
    monkeypatch.setattr(Learner, "accuracy", lambda self, split: asked.append(id(split)) or accuracy(self, split))
    budget = budget_of(epochs=1)
    task = open_task(setup_of(case), budget, 7)
    first, second = (learn(task, scheme_named(name), budget) for name in ("classifier", "last"))
    assert first.before == second.before and first.before is not second.before
    assert asked.count(id(task.old_test)) == 3  # before, and behind each


def test_replay_keeps_what_was_known(case: Case) -> None:
    budget = budget_of(replay=8, epochs=4)
    replayed = learn(open_task(setup_of(case), budget, 0), scheme_named("last"), budget)
    plain = budget_of(epochs=4)
    alone = learn(open_task(setup_of(case), plain, 0), scheme_named("last"), plain)
    assert replayed.after["old"] is not None and alone.after["old"] is not None
    assert replayed.after["old"] > alone.after["old"] + 0.3


def test_int8_learns_too(task: Task) -> None:
    learned = learn(task, scheme_named("last"), budget_of(mode="int8", epochs=3))
    assert learned.after["new"] is not None and learned.after["new"] > 0.8


def test_rows_resume_in_any_number_of_processes_and_keys_know_what_decides(case: Case, tmp_path: Path) -> None:
    rows_file = tmp_path / "out" / "rows.jsonl"
    budgets = [budget_of(epochs=1), replace_budget(budget_of(extra=64, epochs=1), "none")]
    seen: list[int] = []
    first = compare(setup_of(case), ["last"], budgets[:1], [0], rows_file)
    again = compare(setup_of(case), ["last", "bias"], budgets, [0, 1], rows_file, on_row=lambda row, done, total: seen.append(done))
    assert seen == list(range(2, 9))
    assert again[0] == first[0]
    lines = {(line["budget"], line["scheme"]): line for line in table(again)}
    assert lines["small", "last"]["seeds"] == 2 and lines["small", "last"]["new_sd"] is not None
    assert lines["none", "last"]["new"] is None and "classifier alone" in lines["none", "last"]["problem"]
    task = open_task(setup_of(case), budgets[0], 0)
    keys = {
        key_of(task, "last", budgets[0], 0),
        key_of(task, "bias", budgets[0], 0),
        key_of(task, "last", budgets[0], 1),
        key_of(task, "last", budget_of(epochs=2), 0),
        key_of(replace(task, fingerprint="other"), "last", budgets[0], 0),
    }
    assert len(keys) == 5
    assert key_of(task, "last", replace_budget(budgets[0], "renamed"), 0) in keys
    with pytest.raises(UserError, match="a name of its own"):
        compare(setup_of(case), ["last"], [budgets[0], budgets[0]], [0], rows_file)


def replace_budget(budget: UpdateBudget, name: str) -> UpdateBudget:
    return budget.model_copy(update={"name": name})


def test_contributions_are_measured_once(case: Case, tmp_path: Path) -> None:
    from tinynas.learnings.comparing import Job

    budget = budget_of(epochs=1, measure_images=4)
    row = work(Job(setup_of(case), "sparse", budget, 0, tmp_path))
    (kept,) = tmp_path.glob("contributions-*.json")
    before = kept.read_bytes()
    wider = budget_of(extra=20 * 1024, epochs=1, measure_images=4)
    assert work(Job(setup_of(case), "sparse", wider, 0, tmp_path))["extra_bytes"] >= row["extra_bytes"] > 0
    assert kept.read_bytes() == before and list(tmp_path.glob("*.json")) == [kept]
    kept.write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        work(Job(setup_of(case), "sparse", budget, 0, tmp_path))


# The line


def line(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str]:
    capsys.readouterr()
    code = run([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, json.loads(out) if "--json" in words and out else out, err


def test_plan_run_and_compare_on_the_line(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = (case.arch, "--init", case.weights, "--budget", case.budget, "--data", case.new, "--old", case.old)
    code, document, _ = line(capsys, "adapt", "plan", *net, "--scheme", "last,bias", "--draw", tmp_path / "plan.html", "--json")
    assert code == 0
    assert [row["scheme"] for row in document["schemes"]] == ["last", "bias"]
    assert document["schemes"][0]["cost"]["extra_bytes"] <= 12 * 1024
    assert "plotly" in (tmp_path / "plan.html").read_text(encoding="utf-8").lower()
    learned = tmp_path / "learned.safetensors"
    code, document, _ = line(capsys, "adapt", "run", *net, "--scheme", "last", "--out", learned, "--json")
    assert code == 0
    assert document["accuracy"]["after"]["new"] > 0.8
    # What was learned is a network that can be learned on from.
    more = (case.arch, "--init", learned, "--budget", case.budget, "--data", case.new)
    code, document, _ = line(capsys, "adapt", "run", *more, "--scheme", "classifier", "--set", "learning.lr=0.0001", "--json")
    assert (code, document["labels"]) == (0, ["blue", "green", "red", "violet", "yellow"])
    assert document["accuracy"]["before"]["new"] > 0.8
    out = tmp_path / "out"
    schemes = ("--scheme", "classifier,bias", "--seeds", "0", "--out", out, "--set", "learning.epochs=1", "--draw", tmp_path / "c.html")
    code, document, _ = line(capsys, "adapt", "compare", *net, *schemes, "--json")
    assert code == 0
    with (out / "table.csv").open(encoding="utf-8") as file:
        assert [row["scheme"] for row in csv.DictReader(file)] == ["classifier", "bias"]
    assert json.loads((out / "table.json").read_text(encoding="utf-8"))["table"] == document["table"]
    code, text, _ = line(capsys, "adapt", "compare", *net, *schemes)
    assert code == 0 and "classifier" in text
    assert len((out / "rows.jsonl").read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.slow
def test_two_processes_make_the_rows_of_one(case: Case, tmp_path: Path) -> None:
    budget = budget_of(epochs=1)
    rows = [
        compare(setup_of(case), ["classifier", "bias"], [budget], [0], tmp_path / str(jobs) / "rows.jsonl", jobs=jobs) for jobs in (1, 2)
    ]
    assert [{**row, "seconds": 0} for row in rows[0]] == [{**row, "seconds": 0} for row in rows[1]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "mcunet-tiny2"], "--budget is missing"),
        (["plan", "mcunet-tiny2", "-b", "nowhere.yaml"], "there is no such update budget"),
        (["plan", "mcunet-tiny2", "-b", "U", "--scheme", "best"], "use one of full"),
        (["plan", "mcunet-tiny2", "-b", "U", "--set", "extra=12"], "needs a unit"),
        (["plan", "mcunet-tiny2", "-b", "U", "--set", "runtime=tinyengine"], "TFLM's runtimes alone"),
        (["plan", "mcunet-tiny2", "-b", "U", "--set", "learning.arithmetic=fp4"], "use one of float32"),
        (["plan", "mcunet-tiny2", "-b", "U", "--init", "x.safetensors"], "add --data"),
        (["plan", "mcunet-tiny2", "-b", "U", "--pixels", "bogus"], "add --data"),
        (["plan", "mcunet-tiny2", "-b", "U", "--old", "x", "--set", "learning.head=replace"], "nothing of the old classes"),
        (["plan", "ARCH", "--init", "WEIGHTS", "-b", "U", "--data", "nowhere", "--set", "old.limit=3"], "--set old.limit=3: there are no"),
        (["plan", "mcunet-tiny2", "-b", "U", "--draw", "x.png"], "written as HTML"),
        (["plan", "mcunet-tiny2", "-b", "U", "--layers"], "name it with --scheme"),
        (["run", "mcunet-tiny2", "-b", "U", "--data", "synthetic"], "0 schemes"),
        (["run", "mcunet-tiny2", "-b", "U", "--scheme", "last"], "--data is missing"),
        (["run", "mcunet-tiny2", "-b", "U", "-b", "U", "--scheme", "last"], "2 budgets"),
        (["run", "mcunet-tiny2", "-b", "U", "--scheme", "last", "--out", "x.bin"], "as .safetensors"),
        (["compare", "mcunet-tiny2", "-b", "U", "--data", "synthetic"], "--out is missing"),
        (["compare", "mcunet-tiny2", "-b", "U", "--seeds", "0,0"], "each once"),
        (["compare", "nothing", "-b", "U", "--data", "NEW", "--out", "o"], "nothing"),
    ],
)
def test_a_users_fault_is_one_message(case: Case, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    places = {"U": case.budget, "NEW": case.new, "ARCH": case.arch, "WEIGHTS": case.weights}
    filled = [str(places.get(word, word)) for word in words]
    code, _, err = line(capsys, "adapt", *filled)
    assert code == 2, err
    assert said in err
    assert err.count("error:") == 1


def test_a_budget_without_a_limit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "free.yaml"
    path.write_text("name: free\n", encoding="utf-8")
    code, _, err = line(capsys, "adapt", "plan", "mcunet-tiny2", "-b", path)
    assert code == 2
    assert "limits nothing" in err


def test_a_classifier_for_more_classes_begins_with_the_old_rows() -> None:
    from tinynas.arch import load_arch
    from tinynas.graph import lower
    from tinynas.model import Network
    from tinynas.quantize import fold

    floats = fold(Network(lower(load_arch("mcunet-tiny2")), seed=1).eval())
    made = with_classes(floats, 2, 3, head="extend", seed=0)
    assert made.graph.classes == 5
    assert np.array_equal(made.weights["fc"][:2], floats.weights["fc"])
    assert made.biases["fc"][2:] == pytest.approx(np.full(3, floats.biases["fc"].mean()))
    assert with_classes(floats, 2, 0, head="extend", seed=0) is floats


def test_a_network_of_a_run_and_a_tflite_learn_the_same_way(case: Case, tmp_path: Path) -> None:
    from tinynas.api import load_space
    from tinynas.arch import load_arch
    from tinynas.budget import load_budget
    from tinynas.export.tflite import ModelMeta, serialize
    from tinynas.runs import Run, data_place

    path = tmp_path / "run"
    settings = {"objectives": ["accuracy", "macs"], "seed": 0}
    made = Run.create(
        path,
        config={**data_place(str(case.old), path), "data_options": {}, "settings": settings},
        space=load_space("tiny"),
        budget=load_budget("stm32f746"),
        env={"labels": ["blue", "green", "red"]},
    )
    arch = load_arch(str(case.arch))
    made.write_arch(arch)
    made.weights_file(arch.id).write_bytes(case.weights.read_bytes())
    setup = Setup(f"{path}:{arch.id}", str(case.new))
    task = open_task(setup, budget_of(), 0)
    assert (task.old, task.labels[:3]) == (3, ("blue", "green", "red"))
    assert task.old_test is not None and len(task.old_test.labels) == 36  # the run's own images
    by_file = open_task(setup_of(case), budget_of(), 0)
    images = task.test.inputs
    assert np.allclose(predict(task.floats, images), predict(by_file.floats, images), atol=1e-5)
    learner = Learner(task.net.floats, Learning(mode="int8"), calibration=np.array(task.train.inputs))
    file = tmp_path / "net.tflite"
    file.write_bytes(serialize(learner.integers(), ModelMeta("net", flavour="lean"), None))
    of_file = open_task(Setup(str(file), str(case.new), old=None), budget_of(), 0)
    assert of_file.labels[:3] == ("output 0", "output 1", "output 2")
    assert of_file.old_test is None
    # What they tell themselves is not told beside them; said before images are read.
    for net, more, said in (
        (setup.net, {"pixels": "0..1"}, "--pixels 0..1: what networks of runs read is known"),
        (setup.net, {"init": "x"}, "--init: .* has weights of its own"),
        (str(file), {"init": "x"}, "--init: .* has weights of its own"),
    ):
        with pytest.raises(UserError, match=said):
            open_task(Setup(net, "nowhere", **more), budget_of(), 0)
    whole, quantised = predict(task.net.floats, images), predict(of_file.net.floats, images)
    assert np.abs(whole - quantised).max() < 0.25 * np.abs(whole).max()
    one, two = (choose(scheme_named("last"), scene_of(each, budget_of()))[1] for each in (task, of_file))
    assert (one.ram_bytes, one.macs) == (two.ram_bytes, two.macs)


def test_figures_show_what_the_documents_say(task: Task, tmp_path: Path) -> None:
    from tinynas.report.adapt_figures import draw_learned, draw_memory, layers_table, learned_info, memory_info, write_learned_picture

    plans = [row.to_json() for row in plan(task.floats.graph, budget_of(), [scheme_named("bias"), scheme_named("sparse")])]
    info = memory_info(plans)
    assert info.schemes == ("bias",)
    assert max(info.live[0]) == plans[0]["cost"]["live_bytes"]
    assert info.steps[0][0] == "forward of stem" and info.steps[0][-1].startswith("backward of")
    assert [trace["name"] for trace in draw_memory(info)["data"]] == ["bias"]
    assert layers_table(plans[0]).row_count == sum(row["on_path"] for row in plans[0]["cost"]["layers"])
    lines = [
        {"scheme": "<b>", "budget": "b", "new": 0.5, "old": None, "extra_bytes": 2048},
        {"scheme": "last", "budget": "b", "new": 0.75, "old": 0.25, "extra_bytes": 4096},
        {"scheme": "last", "budget": "a", "new": 0.5, "old": 0.5, "extra_bytes": 1024},
        {"scheme": "last", "budget": "c", "new": None, "old": None, "extra_bytes": None},
    ]
    learned = learned_info(lines)
    assert learned.bytes == ((2048,), (1024, 4096)) and learned.new == ((0.5,), (0.5, 0.75)), "in the order of the table"
    drawn = draw_learned(learned)
    traces = drawn["data"]
    assert [(trace["name"], trace["yaxis"], trace["showlegend"]) for trace in traces] == [
        ("&lt;b&gt;", "y", True),
        ("&lt;b&gt;", "y2", False),
        ("last", "y", True),
        ("last", "y2", False),
    ]
    assert [trace["y"] for trace in traces] == [[50.0], [None], [50.0, 75.0], [50.0, 25.0]]
    axis = drawn["layout"]["xaxis"]
    assert axis["ticktext"] == ["1", "2", "4"] and axis["range"][0] < 0 < math.log10(4) < axis["range"][1]
    alone = draw_learned(learned_info([line | {"old": None} for line in lines]))
    assert {trace["yaxis"] for trace in alone["data"]} == {"y"} and "xaxis2" not in alone["layout"]
    page = write_learned_picture(lines, tmp_path / "x.html").read_text(encoding="utf-8")
    assert "<b>, new" not in page


def test_the_page_of_docs_holds_what_is_read_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import re
    import runpy

    page = (Path(__file__).parent.parent / "docs" / "adapt.md").read_text(encoding="utf-8")
    blocks: dict[str, str] = {}
    for language, block in re.findall(r"^```(yaml|python)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        blocks.setdefault(language, block)  # the first of each
    monkeypatch.chdir(tmp_path)
    Path("update.yaml").write_text(blocks["yaml"], encoding="utf-8")
    Path("example.py").write_text(blocks["python"], encoding="utf-8")
    budget = load_update_budget("update.yaml")
    assert (budget.extra, budget.learning.images) == (64 * 1024, 20)
    capsys.readouterr()
    runpy.run_path("example.py")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["last", "bias"]
    named = set(re.findall(r"^\| `(\w+)` \|", page.split("## Schemes")[1], re.MULTILINE))
    assert named == set(SCHEMES)


def test_the_help_names_all_schemes() -> None:
    from tinynas.cli.adapt import SchemesOption

    assert SchemesOption.__metadata__[0].help.startswith(", ".join(SCHEMES))


def test_the_benchmark_lists_each_job_once_and_tells_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")  # it takes from its neighbours
    made = benchmark("adapt_schemes")
    jobs = made.jobs(["tin20", "voice"], [0, 1])
    assert len(set(jobs)) == len(jobs) == 2 * (2 * (2 + 3 * len(made.SCHEMES) + len(made.WITHOUT_REPLAY)) + 1)
    assert {*made.SCHEMES, "full"} == set(SCHEMES)
    row = {"data": "tin20", "seed": 0, "extra_kib": 16, "scheme": "last", "replay": 0, "net": "n", "problem": ""}
    figures = {"new": 0.5, "old": 0.25, "extra_bytes": 8192, "macs": 1000, "parameters": 10, "old_before": 0.75, "new_before": 0.0}
    figures |= {"new_images": 40, "old_images": 1920, "epochs": 10}
    page = made.page(
        [
            row | figures,
            row | figures | {"seed": 1, "new": 0.7},
            row | figures | {"scheme": "su", "new": 0.9},
            row | {"scheme": "bias", "problem": "does not fit"},
        ]
    )
    assert "| 0 | 16 | su | 90.0% | 25.0% | 8.0 | 1,000 | 10 | 1 |\n| 0 | 16 | last | 60.0% | 25.0% | 8.0 | 1,000 | 10 | 2 |" in page
    assert "40 new test inputs and 1,920 old ones; before learning 0.0% and 75.0% of them" in page
    assert "- tin20, bias, 16 KiB: does not fit" in page
