"""lower(Arch): shapes, SAME padding per side, order, residuals; refusals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cost import archs

from tinynas.arch import Arch, MBConv, load_arch
from tinynas.errors import ArchError
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Mean, Padding, Pool2D, lower, mid_channels, same_padding


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        # TFLite SAME: stride 2 on an even input pads only after the image.
        (48, 3, 2, (0, 1)),
        (49, 3, 2, (1, 1)),
        (48, 3, 1, (1, 1)),
        (48, 1, 1, (0, 0)),
        (48, 1, 2, (0, 0)),
        (48, 5, 2, (1, 2)),
        (47, 5, 2, (2, 2)),
        (6, 7, 2, (2, 3)),
        (3, 7, 1, (3, 3)),
        (1, 3, 2, (1, 1)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected


@given(st.integers(1, 200), st.integers(1, 11), st.integers(1, 4))
def test_same_padding_gives_the_output_size_rounded_up(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    assert 0 <= before <= after <= before + 1
    padded = size + before + after
    if padded >= kernel:
        assert (padded - kernel) // stride + 1 == -(-size // stride)


def test_mcunet_tiny2_operator_by_operator() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    assert [op.name for op in graph.ops[:4]] == ["stem", "s0.b0.dw", "s0.b0.project", "s1.b0.expand"]
    assert [op.name for op in graph.ops[-2:]] == ["pool", "fc"]
    assert len(graph.ops) == 1 + 2 + 7 * 3 + 3 + 2
    stem = graph.ops[0]
    assert isinstance(stem, Conv2D)
    assert stem.padding == Padding(0, 1, 0, 1)
    assert not stem.padding.none
    assert graph.shape(stem.output) == (24, 24, 12)
    assert sum(isinstance(op, Add) for op in graph.ops) == 3
    assert isinstance(graph.ops[-2], Mean)
    assert isinstance(graph.ops[-1], FullyConnected)
    assert graph.classes == 2
    assert graph.shape(graph.logits) == (2,)


def test_residual_reads_the_block_input_and_its_output() -> None:
    arch = Arch.model_validate(
        {"height": 8, "width": 6, "classes": 3, "stem": {"out": 4}, "blocks": [{"kind": "mbconv", "out": 4, "expand": 3, "residual": True}]}
    )
    graph = lower(arch)
    add = graph.ops[4]
    assert isinstance(add, Add)
    assert add.inputs == (graph.ops[0].output, graph.ops[3].output)
    first, last = graph.lifetimes[graph.ops[0].output]
    assert (first, last) == (0, 4)
    assert graph.lifetimes[graph.inputs[0]] == (0, 0)
    assert graph.lifetimes[graph.logits] == (len(graph.ops) - 1, len(graph.ops) - 1)
    assert graph.shape(add.output) == (8, 6, 4)


def test_all_block_kinds() -> None:
    arch = Arch.model_validate(
        {
            "height": 20,
            "width": 15,
            "channels": 1,
            "classes": 5,
            "blocks": [
                {"kind": "conv", "out": 4, "kernel": 5, "stride": 2},
                {"kind": "pool", "op": "avg"},
                {"kind": "separable", "out": 6},
                {"kind": "mbconv", "out": 8},
            ],
            "head": {"out": 12, "kernel": 1},
        }
    )
    graph = lower(arch)
    kinds = [type(op).__name__ for op in graph.ops]
    assert kinds == ["Conv2D", "Pool2D", "DepthwiseConv2D", "Conv2D", "DepthwiseConv2D", "Conv2D", "Conv2D", "Mean", "FullyConnected"]
    assert graph.shape(graph.ops[0].output) == (10, 8, 4)
    pool = graph.ops[1]
    assert isinstance(pool, Pool2D)
    assert graph.shape(pool.output) == (5, 4, 4)  # VALID: rounded down
    assert isinstance(graph.ops[-1], FullyConnected)
    assert graph.ops[-1].in_features == 12


@settings(max_examples=80, deadline=None)
@given(archs())
def test_every_operator_reads_what_exists_and_shapes_chain(arch: Arch) -> None:
    graph = lower(arch)
    known = {graph.inputs[0]}
    for op in graph.ops:
        assert set(op.inputs) <= known
        assert op.output not in known
        known.add(op.output)
        source, target = graph.shape(op.inputs[0]), graph.shape(op.output)
        if isinstance(op, (Conv2D, DepthwiseConv2D)):
            assert target[:2] == tuple(-(-size // stride) for size, stride in zip(source[:2], op.stride, strict=True))
            assert source[2] == (op.in_channels if isinstance(op, Conv2D) else op.channels)
            assert target[2] == (op.out_channels if isinstance(op, Conv2D) else op.channels)
        elif isinstance(op, Add):
            assert graph.shape(op.inputs[1]) == source == target
    assert known == set(range(len(graph.tensors)))
    assert graph.classes == arch.classes
    assert len({op.name for op in graph.ops}) == len(graph.ops)


def test_mid_channels() -> None:
    assert mid_channels(MBConv(out=8, expand=1), 12) == 12
    assert mid_channels(MBConv(out=8, expand=3), 12) == 36
    assert mid_channels(MBConv(out=8, expand=2.5), 5) == 12  # half to even, as Python rounds
    assert mid_channels(MBConv(out=8, expand=3, mid=40), 12) == 40


def test_refusals_say_what_to_do() -> None:
    base = {"height": 8, "width": 8, "classes": 2, "stem": {"out": 4}}
    with pytest.raises(ArchError, match="residual"):
        lower(Arch.model_validate({**base, "blocks": [{"kind": "mbconv", "out": 8, "residual": True}]}))
    with pytest.raises(ArchError, match="does not fit"):
        lower(Arch.model_validate({**base, "blocks": [{"kind": "pool", "kernel": 9}]}))
