"""Branches that fold: what is trained is the network that is saved, to the rounding of float32."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tinynas.arch import Arch, ConvLayer, MBConv, load_arch
from tinynas.data import Split
from tinynas.errors import RunError
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.graph import Builder, Graph, lower
from tinynas.inputs import Input
from tinynas.model import ConvBN, Network
from tinynas.quantize import fold, quantize
from tinynas.quantize.qat import QatNetwork
from tinynas.recipe import Recipe
from tinynas.train import Trainer
from tinynas.train.branches import BranchedConv, add_branches, branch_kernels, fold_branches, plain_state
from tinynas.train.loop import deciding
from tinynas.train.quantised import load_trained, save_trained


def one_conv(kind: Literal["conv", "dw"], size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], out: int) -> Graph:
    """A convolution of 3 or more channels and what makes it a classifier."""
    build = Builder((*size, 3))
    x = 0
    x = build.conv("it", x, out, kernel, stride, "relu6") if kind == "conv" else build.depthwise("it", x, kernel, stride, "none")
    logits = build.dense("fc", build.mean("pool", x), 2, output="logits")
    return Graph(tuple(build.tensors), tuple(build.ops), Input(*size, 3), (0,), (logits,))


def unsettled(network: Network, seed: int) -> None:
    """Norms that have been somewhere, of either sign."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.5, generator=generator)
                module.running_var.uniform_(0.2, 3.0, generator=generator)
                module.weight.normal_(0, 1.0, generator=generator)
                module.bias.normal_(0, 0.5, generator=generator)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["conv", "dw"]),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    kernel=st.tuples(st.sampled_from([1, 2, 3, 5, 7]), st.sampled_from([1, 2, 3, 4, 5, 7])),
    stride=st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2])),
    out=st.sampled_from([3, 5]),
    seed=st.integers(0, 99),
)
def test_what_folds_computes_what_it_did(
    kind: Literal["conv", "dw"], size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], out: int, seed: int
) -> None:
    graph = one_conv(kind, size, kernel, stride, out)
    network = Network(graph, seed=seed)
    add_branches(network, seed=seed)
    unsettled(network, seed)
    network.eval()
    folded = fold_branches(network)
    assert not any(isinstance(module, BranchedConv) for module in folded.modules())
    assert folded.state_dict().keys() == Network(graph).state_dict().keys()
    x = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(seed))
    branched, single = network.get_submodule("it")(x), folded.get_submodule("it")(x)
    torch.testing.assert_close(single, branched, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(folded.eval()(x), network(x), rtol=1e-4, atol=1e-4)


def test_the_branches_of_a_kernel_see_its_middle_row_column_and_pixel() -> None:
    graph = one_conv("conv", (6, 6), (3, 3), (2, 2), 3)
    op = graph.ops[0]
    assert op.kind == "conv" and branch_kernels(op) == ((1, 3), (3, 1), (1, 1))  # type: ignore[arg-type]
    # 3x3 with stride 2 on an even side pads behind alone: its middle is the pixel (2y + 1, 2x + 1).
    network = Network(graph)
    add_branches(network, seed=0)
    module = network.get_submodule("it")
    assert isinstance(module, BranchedConv)
    x = torch.randn(1, 3, 6, 6)
    tall, wide, dot = module.branches[1].conv, module.branches[0].conv, module.branches[2].conv
    behind = F.pad(x, (0, 1, 0, 1))
    for branch, conv, expected in (
        (module.branches[0], wide, F.conv2d(behind[:, :, 1::2], wide.weight, stride=(1, 2))),
        (module.branches[1], tall, F.conv2d(behind[:, :, :, 1::2], tall.weight, stride=(2, 1))),
        (module.branches[2], dot, F.conv2d(x[:, :, 1::2, 1::2], dot.weight)),
    ):
        branch.bn = nn.Identity()
        torch.testing.assert_close(branch(x), expected[:, :, :3, :3], msg=str(conv))


def test_what_is_branched_and_what_is_not() -> None:
    graph = lower(
        Arch(
            height=16,
            width=16,
            classes=2,
            stem=ConvLayer(out=4, kernel=3, stride=2),
            blocks=(
                MBConv(out=4, kernel=5, expand=2, residual=True, attention="spatial"),
                MBConv(out=6, kernel=3, expand=2, stride=2, weight_bits=4, depthwise_bits=4),
            ),
            head=ConvLayer(out=6, kernel=1),
        )
    )
    network = Network(graph)
    add_branches(network, seed=0)
    branched = {name: module for name, module in network.named_children() if isinstance(module, BranchedConv)}
    assert {name: len(module.branches) + (module.skip is not None) for name, module in branched.items()} == {
        "stem": 3,
        "s0_b0_dw": 3,
        "s0_b0_look": 3,
        "head": 1,
    }
    plain = {name for name, module in network.named_children() if isinstance(module, ConvBN)}
    assert plain == {"s0_b0_widen", "s0_b0_gate", "s0_b0_expand", "s0_b0_project", "s1_b0_expand", "s1_b0_dw", "s1_b0_project"}


def test_branches_vary_together_as_the_convolution_did() -> None:
    graph = one_conv("dw", (32, 32), (3, 3), (1, 1), 3)
    x = torch.randn(16, 3, 32, 32)
    plain, branched = Network(graph, seed=1), Network(graph, seed=1)
    add_branches(branched, seed=1)
    single, many = (network.train().get_submodule("it")(x).std().item() for network in (plain, branched))
    assert single == pytest.approx(1.0, abs=0.01)
    # As far as the branches are independent.
    assert 0.6 < many < 1.6


def test_branches_beside_trained_weights_change_nothing_at_first() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    plain = Network(graph, seed=3).eval()
    network = Network(graph, seed=3)
    add_branches(network, seed=0, trained=True)
    x = torch.randn(2, 3, graph.input.height, graph.input.width)
    assert torch.equal(network.eval()(x), plain(x))
    network.train()(x).square().sum().backward()
    gains = [m.skip.weight.grad for m in network.modules() if isinstance(m, BranchedConv) and m.skip is not None]
    assert gains and all(gain is not None and gain.abs().sum() > 0 for gain in gains)


def split(n: int, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    inputs = rng.integers(0, 160, (n, 16, 16, 3), dtype=np.uint8)
    inputs[labels == 1, 4:12, 4:12] += 90
    return Split(inputs, labels.astype(np.int64), tuple(map(str, range(n))))


GRAPH = lower(
    Arch(
        height=16,
        width=16,
        classes=2,
        stem=ConvLayer(out=4, kernel=3, stride=2),
        blocks=(MBConv(out=4, kernel=3, expand=2, residual=True), MBConv(out=6, kernel=5, expand=2, stride=2)),
    )
)


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"epochs": 3, "batch_size": 16, "warmup_epochs": 0.5, "ema": 1.0, "branches": "fold", "bn_images": 32, **changes})


def trainer(graph: Graph = GRAPH, weights: dict[str, Tensor] | None = None, **changes: Any) -> Trainer:
    return Trainer(graph, split(64), split(32, 1), recipe(**changes), seed=0, weights=weights, resident=False)


@pytest.mark.parametrize("changes", [{}, {"ema": 0.0}, {"ema": 0.0, "qat_epochs": 1}, {"qat_epochs": 1, "optimizer": "sgd", "lr": 0.05}])
def test_a_training_goes_on_to_the_same_bits(changes: dict[str, Any], tmp_path: Path) -> None:
    through = trainer(**changes)
    through.run()
    first = trainer(**changes)
    for epoch in (1, 2, 3):
        first.run(epoch)
        first.save(tmp_path / "state")
        second = trainer(**changes)
        second.load(tmp_path / "state")
        assert second._tensors().keys() == first._tensors().keys()
        first = second
    for key, value in through._tensors().items():
        assert torch.equal(value, first._tensors()[key]), key
    strip = [dataclasses.replace(m, seconds=0.0) for m in through.history]
    assert strip == [dataclasses.replace(m, seconds=0.0) for m in first.history]
    assert isinstance(first.trained, QatNetwork) == ("qat_epochs" in changes)


def test_validation_saving_and_export_see_one_convolution(tmp_path: Path) -> None:
    t = trainer()
    t.run()
    assert any(isinstance(module, BranchedConv) for module in t._raw.modules())
    network = t.network
    assert not any(isinstance(module, BranchedConv) for module in network.modules())
    assert t.evaluate(t.val).accuracy == t.history[-1].val_accuracy
    save_trained(t.trained, tmp_path / "net", {})
    loaded = load_trained(GRAPH, tmp_path / "net")
    assert isinstance(loaded, Network)
    x = torch.from_numpy(t.val.inputs[:8]).permute(0, 3, 1, 2).float() / 128 - 1
    assert torch.equal(loaded(x), network.eval()(x))
    assert t._average is not None
    torch.testing.assert_close(t._average.eval()(x), loaded(x), rtol=1e-4, atol=1e-5)
    plain = Network(GRAPH).eval()
    plain.load_state_dict(plain_state(GRAPH, t._average.state_dict()))
    assert torch.equal(plain(x), loaded(x))
    assert plain_state(GRAPH, plain.state_dict()).keys() == plain.state_dict().keys()
    # The file has as many operators and bytes as ever.
    sizes = {len(serialize(quantize(fold(n), t.train.inputs[:16]), ModelMeta("0123456789"))) for n in (network, Network(GRAPH, seed=4))}
    assert len(sizes) == 1


def test_a_network_with_branches_is_never_quantised_by_mistake() -> None:
    t = trainer()
    assert isinstance(t._raw, Network)
    with pytest.raises(AssertionError, match="folded"):
        fold(t._raw)


def test_states_of_trainings_with_and_without_branches_are_not_mixed_up(tmp_path: Path) -> None:
    t = trainer()
    t.run(1)
    t.save(tmp_path / "state")
    with pytest.raises(RunError, match="another training"):
        trainer(branches="none").load(tmp_path / "state")
    # Nothing changed for those that were trained before there were branches.
    assert "branches" not in deciding(recipe(branches="none"), GRAPH)
    assert deciding(recipe(), GRAPH)["branches"] == "fold"


def test_given_weights_are_where_a_training_with_branches_begins() -> None:
    parent = trainer(branches="none")
    parent.run(2)
    child = trainer(weights=parent.network.state_dict())
    x = torch.from_numpy(parent.val.inputs[:8]).permute(0, 3, 1, 2).float() / 128 - 1
    torch.testing.assert_close(child.network.eval()(x), parent.network.eval()(x), rtol=1e-4, atol=1e-5)
