"""Weights of few bits: their gradients by hand, and their grids through training, folding, files and resumption."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import ARCH, TRAIN, VAL, images, recipe, same, timeless

from tinynas.arch import Arch
from tinynas.graph import WEIGHTED, FullyConnected, few_bits, lower
from tinynas.lsq import LEAST_STEP, WeightGrid, largest, least_error_step, on_grid
from tinynas.model import Network, normalise
from tinynas.quantize import FakeQuantNetwork, QuantOptions, finish_qat, fold, prepare_qat, quantize
from tinynas.quantize.equalize import equalize
from tinynas.quantize.floats import pixels, predict
from tinynas.train import Trainer, evaluate
from tinynas.train.loop import deciding, free_epochs
from tinynas.train.quantised import load_trained, save_trained
from tinynas.train.slices import slice_weights


def with_bits(arch: Arch, weights: int = 4, depthwise: int = 8, stem: int = 8, classifier: int = 8) -> Arch:
    document = arch.model_dump()
    document["stem"]["weight_bits"], document["classifier_bits"] = stem, classifier
    for block in document["blocks"]:
        block |= {"weight_bits": weights, "depthwise_bits": depthwise}
    return Arch.model_validate(document)


MIXED = with_bits(ARCH, 4, 2, 8, 4)
ALL = with_bits(ARCH, 4, 4, 4, 4)


def trainer(arch: Arch = MIXED, **changes: object) -> Trainer:
    return Trainer(lower(arch), TRAIN, VAL, recipe(**changes), seed=0, device=torch.device("cpu"))


# The grid


def test_gradients_by_hand() -> None:
    # Two channels of two weights, steps 0.5 and 1, three levels: 0.3 rounds to one step, 0.9 lies beyond the grid's end of 0.5;
    # -0.4 rounds to 0 and -0.6 to the end, inside it.
    weight = torch.tensor([[0.3, 0.9], [-0.4, -0.6]], requires_grad=True)
    step = torch.tensor([0.5, 1.0], requires_grad=True)
    out = on_grid(weight, step, 1)
    assert out.tolist() == [[0.5, 0.5], [0.0, -1.0]]
    out.backward(torch.tensor([[2.0, 3.0], [5.0, 7.0]]))  # type: ignore[no-untyped-call]
    assert weight.grad is not None and step.grad is not None
    assert weight.grad.tolist() == [[2.0, 0.0], [5.0, 7.0]]
    scale = 1 / math.sqrt(2 * 1)
    by_hand = [(2 * (1 - 0.6) + 3 * 1) * scale, (5 * (0 + 0.4) + 7 * (-1 + 0.6)) * scale]
    assert step.grad.tolist() == pytest.approx(by_hand, rel=1e-6)


def test_the_gradient_of_a_step_counts_its_weights_and_levels() -> None:
    weight = torch.full((1, 9), 3.0)
    step = torch.tensor([0.1], requires_grad=True)
    on_grid(weight, step, 7).sum().backward()  # type: ignore[no-untyped-call]
    assert step.grad is not None  # every weight lies beyond the end, where the slope is 7
    assert float(step.grad) == pytest.approx(9 * 7 / math.sqrt(9 * 7), rel=1e-6)


def test_one_step_serves_a_whole_layer() -> None:
    grid = WeightGrid(2, 4, whole=True)
    weight = torch.tensor([[7.0, 0.2], [-3.0, 0.4]])
    grid.fit(weight)
    assert grid.log_step.shape == (1,)
    assert grid(weight).tolist() == torch.round(weight / grid.step).mul(grid.step).tolist()


@pytest.mark.parametrize("bits", [2, 4])
def test_the_first_step_is_nearly_that_of_least_error(bits: int) -> None:
    weight = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    most = largest(bits)

    def error(row: torch.Tensor, step: float) -> float:
        return float((row - (row / step).round().clamp(-most, most) * step).square().sum())

    for row, step in zip(weight, least_error_step(weight, most), strict=True):
        best = min(error(row, float(candidate)) for candidate in np.linspace(0.05, 4, 2000))
        assert error(row, float(step)) < 1.02 * best
        assert error(row, float(step)) < error(row, float(row.abs().max()) / most)


def test_a_channel_of_zeros_has_a_step() -> None:
    assert least_error_step(torch.zeros(2, 3), 7).tolist() == pytest.approx([LEAST_STEP] * 2)


# Networks


def test_bits_of_a_network_are_those_of_its_graph() -> None:
    graph = lower(MIXED)
    assert few_bits(lower(ARCH)) == {}
    assert few_bits(graph) == {op.name: op.weight_bits for op in graph.ops if isinstance(op, WEIGHTED) and op.name != "stem"}
    assert set(few_bits(graph).values()) == {2, 4}
    network = Network(graph)
    assert network.grid_of("stem") is None
    for name, bits in few_bits(graph).items():
        grid = network.grid_of(name)
        assert grid is not None
        layer, _ = network.named_op(name)
        levels = torch.unique((grid(layer.weight) / grid.step.reshape(-1, *[1] * (layer.weight.ndim - 1))).round())
        assert len(levels) <= 2**bits - 1 and levels.abs().max() == largest(bits)


def test_networks_of_8_bits_are_what_they_were() -> None:
    assert not [key for key in Network(lower(ARCH)).state_dict() if "grid" in key]
    plain, coarse = Network(lower(ARCH), seed=3).state_dict(), Network(lower(MIXED), seed=3).state_dict()
    assert all(torch.equal(plain[key], coarse[key]) for key in plain)


def lively(arch: Arch) -> Network:
    """Batch norm that has seen images, signs of both kinds among its factors."""
    network = Network(lower(arch), seed=1).train()
    with torch.no_grad():
        network(normalise(torch.from_numpy(TRAIN.inputs[:64]), network.graph.input))
        for name, parameter in network.named_parameters():
            if name.endswith("bn.weight"):
                parameter.uniform_(-1.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return network.eval()


@pytest.mark.parametrize("arch", [MIXED, ALL])
def test_folding_keeps_integers(arch: Arch) -> None:
    """A factor of batch norm goes into the step: the file's integers are those that were trained, up to their sign."""
    network = lively(arch)
    floats = fold(network)
    x = VAL.inputs[:32]
    with torch.no_grad():
        np.testing.assert_allclose(predict(floats, x), network(pixels(x, network.graph.input)).numpy(), atol=1e-4)
    qgraph = quantize(floats, x, QuantOptions(equalize=False))
    for name in few_bits(network.graph):
        layer, _ = network.named_op(name)
        grid = network.grid_of(name)
        assert grid is not None
        with torch.no_grad():
            whole = (grid(layer.weight) / grid.step.reshape(-1, *[1] * (layer.weight.ndim - 1))).round().int().numpy()
        assert sorted(np.abs(whole).ravel()) == sorted(np.abs(qgraph.weights[name].astype(int)).ravel())
        np.testing.assert_array_equal(qgraph.weight_scales[name], floats.steps[name])


def test_equalising_moves_steps_and_no_integer() -> None:
    network = lively(ALL)
    floats, x = fold(network), VAL.inputs[:64]
    moved = equalize(floats, x)
    np.testing.assert_allclose(predict(moved, x), predict(floats, x), atol=1e-3)
    plain, after = (quantize(f, x, QuantOptions(equalize=False)) for f in (floats, moved))
    for name in plain.weights:
        np.testing.assert_array_equal(plain.weights[name], after.weights[name])


def test_what_is_trained_is_what_the_integers_do() -> None:
    t = trainer(ALL, epochs=4)
    t.run()
    qgraph = quantize(fold(t.network), TRAIN.inputs[:200])
    network = FakeQuantNetwork(qgraph)
    integers = network(pixels(VAL.inputs, qgraph.graph.input)).argmax(1).numpy()
    accuracy = float((integers == VAL.labels).mean())
    assert t.history[-1].val_accuracy > 0.7
    assert accuracy > t.history[-1].val_accuracy - 0.03


def test_children_inherit_weights_of_any_bits_and_fit_their_own_grids() -> None:
    parent = Network(lower(ARCH), seed=5)
    made = slice_weights(lower(ARCH), parent.state_dict(), lower(MIXED), seed=6)
    child = made.network
    assert {layer.kind for layer in made.layers} == {"taken"}
    t = Trainer(lower(MIXED), TRAIN, VAL, recipe(epochs=1), seed=0, device=torch.device("cpu"), weights=child.state_dict())
    t._set_grids(1, fit=True)
    assert isinstance(t._raw, Network)
    for name, bits in few_bits(t.graph).items():
        layer, grid = t._raw.named_op(name)[0], t._raw.grid_of(name)
        assert grid is not None
        wanted = least_error_step(layer.weight, largest(bits), whole=name == "fc")
        torch.testing.assert_close(grid.step, wanted)


# Training


def test_steps_are_learned_and_have_no_decay() -> None:
    t = trainer(epochs=2)
    before = {name: p.detach().clone() for name, p in t._raw.named_parameters() if name.endswith("log_step")}
    t.run()
    after = dict(t._raw.named_parameters())
    assert before and all(not torch.equal(value, after[name]) for name, value in before.items())
    decayed = {id(p) for group in t._optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert not decayed & {id(p) for name, p in after.items() if name.endswith("log_step")}


def test_float_epochs_come_first_where_the_recipe_says_so() -> None:
    plain = Trainer(lower(ARCH), TRAIN, VAL, recipe(epochs=4), seed=0, device=torch.device("cpu"))
    late = trainer(epochs=4, few_bits_from=0.5)
    assert (free_epochs(late.recipe, late.graph), free_epochs(late.recipe, plain.graph)) == (2, 0)
    plain.run(until_epoch=2)
    late.run(until_epoch=2)
    assert timeless(late.history) == timeless(plain.history)
    assert not fold(late.network).steps
    late.run()
    assert set(fold(late.network).steps) == set(few_bits(late.graph))
    # The grids were fitted to the weights at the switch, not to those at the beginning.
    assert all(grid is not None and grid.on for grid in map(late.network.grid_of, few_bits(late.graph)))


def test_the_share_of_float_epochs_decides_nothing_about_8_bits() -> None:
    a, b = recipe(few_bits_from=0.0), recipe(few_bits_from=0.5)
    assert deciding(a, lower(ARCH)) == deciding(b, lower(ARCH)) != deciding(a, lower(MIXED)) != deciding(b, lower(MIXED))


@pytest.mark.parametrize("changes", [{}, {"few_bits_from": 0.5}, {"few_bits_from": 0.4, "qat_epochs": 2}, {"ema": 0.0, "qat_epochs": 1}])
def test_a_resumed_training_has_the_same_bits(tmp_path: Path, changes: dict[str, object]) -> None:
    through = trainer(epochs=4, **changes)
    through.run()
    first = trainer(epochs=4, **changes)
    for stop in (1, 2, 3):
        first.run(until_epoch=stop)
        first.save(tmp_path / "state")
        second = trainer(epochs=4, **changes)
        second.load(tmp_path / "state")
        assert np.array_equal(second.evaluate(VAL).logits, first.evaluate(VAL).logits)
        second.run()
        assert same(through, second) and timeless(through.history) == timeless(second.history), stop


# Files


@pytest.mark.parametrize("qat", [0, 1])
def test_bits_and_steps_are_in_the_file(tmp_path: Path, qat: int) -> None:
    t = trainer(epochs=2, qat_epochs=qat)
    t.run()
    save_trained(t.trained, tmp_path / "w", {})
    back = load_trained(lower(MIXED), tmp_path / "w")
    assert np.array_equal(evaluate(back, VAL).logits, t.evaluate(VAL).logits)
    before, after = (finish_qat(n) if not isinstance(n, Network) else quantize(fold(n), TRAIN.inputs[:64]) for n in (t.trained, back))
    for op in before.graph.ops:
        if isinstance(op, WEIGHTED):
            np.testing.assert_array_equal(before.weights[op.name], after.weights[op.name])
            np.testing.assert_array_equal(before.weight_scales[op.name], after.weight_scales[op.name])
            assert np.abs(before.weights[op.name]).max() <= largest(op.weight_bits)
            assert len(after.weight_scales[op.name]) == (1 if isinstance(op, FullyConnected) else len(after.biases[op.name]))


def test_a_network_put_on_few_bits_by_option_comes_back_on_them(tmp_path: Path) -> None:
    network = prepare_qat(lively(ARCH), TRAIN.inputs[:64], QuantOptions(bits=4)).eval()
    save_trained(network, tmp_path / "w", {})
    back = load_trained(lower(ARCH), tmp_path / "w")
    assert not isinstance(back, Network) and back.options.bits == 4
    assert np.array_equal(evaluate(back, VAL).logits, evaluate(network, VAL).logits)
    wider = prepare_qat(lively(ARCH), TRAIN.inputs[:64]).eval()
    assert not np.array_equal(evaluate(back, VAL).logits, evaluate(wider, VAL).logits)


def test_quantisation_in_the_loop_goes_on_from_the_learned_steps() -> None:
    network = lively(ALL)
    module = prepare_qat(network, TRAIN.inputs[:64], QuantOptions(equalize=False))
    first = finish_qat(module)
    after = quantize(fold(network), TRAIN.inputs[:64], QuantOptions(equalize=False))
    for name in few_bits(network.graph):
        np.testing.assert_array_equal(first.weights[name], after.weights[name])
    x = pixels(images(16, 7).inputs, network.graph.input)
    module(x).square().sum().backward()
    steps = [p for name, p in module.named_parameters() if name.endswith("log_step")]
    assert len(steps) == len(few_bits(network.graph)) and all(p.grad is not None and p.grad.abs().max() > 0 for p in steps)
