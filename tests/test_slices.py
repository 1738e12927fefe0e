"""Weights of one network in another: what is taken computes what it did, and a table says what was not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tinynas.arch import Arch, ConvLayer, MBConv, load_arch
from tinynas.graph import Graph, lower
from tinynas.model import Network, module_name
from tinynas.train.slices import counterparts, slice_weights


def graph_of(
    *outs: int, depth: int = 2, kernel: int = 3, expand: float = 2, head: int = 10, classes: int = 3, channels: int = 3, **block: Any
) -> Graph:
    """Stages of ``outs`` channels, ``depth`` blocks each."""
    blocks = []
    carried = outs[0]
    for s, out in enumerate(outs):
        for b in range(depth):
            stride = 2 if b == 0 and s else 1
            residual = stride == 1 and out == carried
            blocks.append(MBConv(out=out, kernel=kernel, stride=stride, expand=expand, residual=residual, **block))
            carried = out
    stem, last = ConvLayer(out=outs[0], kernel=3, stride=2), ConvLayer(out=head, kernel=1) if head else None
    arch = Arch(
        height=20,
        width=23,
        channels=channels,
        classes=classes,
        stem=stem,
        blocks=tuple(blocks),
        stages=(depth,) * len(outs),
        head=last,
    )
    return lower(arch)


def trained(graph: Graph, seed: int = 0) -> Network:
    """A network whose norms have been somewhere, and whose classifier says something."""
    network = Network(graph, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.3, generator=generator)
    return network.eval()


def pictures(graph: Graph, count: int = 4) -> Tensor:
    height, width, channels = graph.input.shape
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.parametrize("block", [{}, {"attention": "se"}, {"attention": "spatial"}, {"act": "h_swish"}], ids=str)
def test_a_network_of_the_same_graph_is_the_same(block: dict[str, Any]) -> None:
    graph = graph_of(6, 8, **block)
    network = trained(graph)
    made = slice_weights(graph, network.state_dict(), graph, seed=3)
    assert {layer.kind for layer in made.layers} == {"taken"}
    assert [layer.name for layer in made.layers] == [layer.source for layer in made.layers]
    for key, value in made.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[key]), key


@settings(max_examples=12, deadline=None)
@given(
    kernels=st.sampled_from([(3, 5), (3, 3), (5, 7), (1, 3)]),
    expands=st.sampled_from([(2, 3), (2, 2), (1, 1), (3, 6)]),
    widths=st.sampled_from([((4, 6), (6, 9)), ((4, 6), (4, 8)), ((5, 5), (5, 7))]),
    attention=st.sampled_from(["none", "se"]),
    heads=st.sampled_from([(6, 10), (10, 10), (0, 0)]),
    seed=st.integers(0, 9),
)
def test_grown_and_cut_again_a_network_computes_the_same(
    kernels: tuple[int, int],
    expands: tuple[float, float],
    widths: tuple[tuple[int, ...], tuple[int, ...]],
    attention: str,
    heads: tuple[int, int],
    seed: int,
) -> None:
    small = graph_of(*widths[0], kernel=kernels[0], expand=expands[0], head=heads[0], attention=attention)
    large = graph_of(*widths[1], kernel=kernels[1], expand=expands[1], head=heads[1], attention=attention)
    if [op.inputs for op in small.ops] != [op.inputs for op in large.ops]:
        return  # a residual that the other has not
    network = trained(small, seed)
    expected = network(pictures(small))
    grown = slice_weights(small, network.state_dict(), large, seed=seed + 1)
    assert {layer.kind for layer in grown.layers} <= {"taken", "grown"}
    # Taken channels read none of the new ones, so what is new changes nothing.
    torch.testing.assert_close(grown.network.eval()(pictures(large)), expected, rtol=1e-4, atol=1e-5)
    state = _shuffled(large, _silenced(grown.network, small), seed)
    shuffled = Network(large)
    shuffled.load_state_dict(state)
    torch.testing.assert_close(shuffled.eval()(pictures(large)), expected, rtol=1e-4, atol=1e-5)
    # Silent channels are those that go, wherever they stand.
    cut = slice_weights(large, state, small, seed=seed + 2)
    torch.testing.assert_close(cut.network.eval()(pictures(small)), expected, rtol=1e-4, atol=1e-5)


def _silenced(network: Network, small: Graph) -> dict[str, Tensor]:
    """The state of ``network`` with all channels at nought that ``small`` has not."""
    for op in small.ops:
        if op.kind not in ("conv", "dw", "fc") or op.output in small.outputs:
            continue
        kept = small.shape(op.output)[-1]
        layer, norm = network.named_op(op.name)
        with torch.no_grad():
            for values in (layer.weight, layer.bias) if norm is None else (norm.weight, norm.bias):
                assert values is not None
                values[kept:] = 0
    return network.state_dict()


def _shuffled(graph: Graph, state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The same function with the channels between expansion and projection in another order."""
    state = {key: value.clone() for key, value in state.items()}
    generator = torch.Generator().manual_seed(seed)
    names = {op.name for op in graph.ops}
    for name in sorted(names):
        block, _, last = name.rpartition(".")
        if last != "expand":
            continue
        order = torch.randperm(len(state[f"{module_name(name)}.bn.weight"]), generator=generator)
        for part, axis in (("expand", 0), ("dw", 0), ("project", 1), ("gate", 0), ("squeeze", 1)):
            module = module_name(f"{block}.{part}")
            for key in [key for key in state if key.startswith(f"{module}.")]:
                if state[key].ndim > axis and (axis == 0 or (key.endswith("weight") and state[key].ndim > 1)):
                    state[key] = state[key].index_select(axis, order)
    return state


def test_channels_are_chosen_by_norm_and_alike_in_every_layer() -> None:
    small, large = graph_of(4, 4, expand=2), graph_of(4, 4, expand=3)
    network = trained(large)
    with torch.no_grad():
        network.named_op("s0.b0.project")[0].weight[:, [1, 5, 6, 10]] *= 0.01
    made = slice_weights(large, network.state_dict(), small).network
    kept = [0, 2, 3, 4, 7, 8, 9, 11]
    for name, axis in (("expand", 0), ("dw", 0), ("project", 1)):
        ours, theirs = made.named_op(f"s0.b0.{name}")[0].weight, network.named_op(f"s0.b0.{name}")[0].weight
        assert torch.equal(ours, theirs.index_select(axis, torch.tensor(kept)))
    norms = [{k: v for k, v in net.state_dict().items() if k.startswith("s0_b0_dw.bn.")} for net in (made, network)]
    assert len(norms[0]) == 4
    assert all(torch.equal(value, norms[1][key][kept]) for key, value in norms[0].items())


def test_of_a_deeper_stage_the_first_blocks_are_taken() -> None:
    shallow, deep = graph_of(4, 6, depth=1), graph_of(4, 6, depth=3)
    network = trained(deep)
    made = slice_weights(deep, network.state_dict(), shallow)
    assert {layer.kind for layer in made.layers} == {"taken"}
    assert torch.equal(made.network.named_op("s1.b0.dw")[0].weight, network.named_op("s1.b0.dw")[0].weight)
    back = slice_weights(shallow, made.network.state_dict(), deep)
    assert {layer.name for layer in back.layers if layer.kind == "new"} == {
        f"s{s}.b{b}.{part}" for s in (0, 1) for b in (1, 2) for part in ("expand", "dw", "project")
    }


def test_a_classifier_of_other_classes_or_behind_other_features_is_new() -> None:
    source = graph_of(4, head=8)
    state = trained(source).state_dict()
    other = slice_weights(source, state, graph_of(4, head=8, classes=5))
    assert [layer.name for layer in other.layers if layer.kind == "new"] == ["fc"]
    headless = slice_weights(source, state, graph_of(4, head=0))
    assert [layer.name for layer in headless.layers if layer.kind == "new"] == ["fc"]
    assert torch.equal(headless.network.named_op("fc")[0].weight, Network(graph_of(4, head=0), seed=0).named_op("fc")[0].weight)


def test_on_gray_pictures_gray_and_colour_see_the_same() -> None:
    colour, gray = graph_of(4, channels=3), graph_of(4, channels=1)
    network = trained(colour)
    picture = pictures(gray)
    expected = network(picture.expand(-1, 3, -1, -1))
    made = slice_weights(colour, network.state_dict(), gray)
    assert made.layers[0].kind == "cut"
    torch.testing.assert_close(made.network.eval()(picture), expected, rtol=1e-4, atol=1e-5)
    back = slice_weights(gray, made.network.state_dict(), colour).network.eval()
    torch.testing.assert_close(back(picture.expand(-1, 3, -1, -1)), expected, rtol=1e-4, atol=1e-5)


def test_kernels_are_cut_about_their_centre() -> None:
    wide, narrow = graph_of(4, kernel=7), graph_of(4, kernel=3)
    network = trained(wide)
    made = slice_weights(wide, network.state_dict(), narrow)
    assert torch.equal(made.network.named_op("s0.b1.dw")[0].weight, network.named_op("s0.b1.dw")[0].weight[:, :, 2:5, 2:5])
    assert {layer.kind for layer in made.layers if layer.name.endswith(".dw")} == {"cut"}


def test_a_block_of_other_operators_is_new_but_for_its_gate() -> None:
    plain, gated = graph_of(4, 6), graph_of(4, 6, attention="se")
    made = slice_weights(plain, trained(plain).state_dict(), gated)
    assert {layer.name.rpartition(".")[2] for layer in made.layers if layer.kind == "new"} == {"squeeze", "gate"}
    unexpanded = slice_weights(plain, trained(plain).state_dict(), graph_of(4, 6, expand=1))
    assert {layer.kind for layer in unexpanded.layers if layer.name.endswith(("dw", "project"))} == {"new"}


def test_a_convolution_without_batch_norm_gives_its_bias() -> None:
    import dataclasses

    graph = graph_of(4)
    bare = dataclasses.replace(graph, ops=tuple(dataclasses.replace(op, bn=False) if hasattr(op, "bn") else op for op in graph.ops))
    network = Network(bare, seed=1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                module.bias.uniform_(-0.5, 0.5)
    made = slice_weights(bare, network.state_dict(), graph)
    torch.testing.assert_close(made.network.eval()(pictures(graph)), network.eval()(pictures(graph)), rtol=1e-4, atol=1e-5)


def test_pairs_say_which_layer_stands_for_which() -> None:
    source, target = graph_of(4, 4, head=0), graph_of(4, 4, head=0)
    state = trained(source).state_dict()
    assert counterparts(source, target) == {op.name: op.name for op in source.ops if hasattr(op, "act") and op.kind in ("conv", "dw", "fc")}
    made = slice_weights(source, state, target, pairs={"s0.b0.dw": "s0.b1.dw"})
    assert [layer.name for layer in made.layers if layer.kind != "new"] == ["s0.b0.dw"]
    assert torch.equal(made.network.named_op("s0.b0.dw")[0].weight, state["s0_b1_dw.conv.weight"])


def test_weights_of_few_bits_start_on_grids_of_their_own() -> None:
    source, target = graph_of(4), graph_of(4, weight_bits=4)
    network = trained(source)
    made = slice_weights(source, network.state_dict(), target).network
    grid = made.grid_of("s0.b0.project")
    weight = network.named_op("s0.b0.project")[0].weight
    assert grid is not None
    assert torch.equal(made.named_op("s0.b0.project")[0].weight, weight)
    fresh = Network(target).grid_of("s0.b0.project")
    assert fresh is not None
    fresh.fit(weight)
    assert torch.equal(grid.log_step, fresh.log_step)


def test_networks_of_a_zoo_and_a_space_share_their_places() -> None:
    source, target = lower(load_arch("mcunet-vww1")), lower(load_arch("mcunet-tiny2"))
    made = slice_weights(source, trained(source).state_dict(), target)
    kinds = {layer.name: layer.kind for layer in made.layers}
    assert kinds["stem"] in ("taken", "cut", "grown")
    assert sum(kind != "new" for kind in kinds.values()) > len(kinds) // 2
