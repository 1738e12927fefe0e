"""What ST's code generator takes: hand arithmetic of what is shared and of scratch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tinynas.arch import Arch, ConvLayer, MBConv
from tinynas.cost import estimate
from tinynas.cost.memory import lifetimes, shareable
from tinynas.cost.stedgeai import halves_shared, scratch_bytes
from tinynas.cost.work import Piece, Work
from tinynas.graph import lower


def piece(kind: str, kernel: tuple[int, int] = (1, 1), stride: tuple[int, int] = (1, 1), channels: tuple[int, int] = (1, 1)) -> Piece:
    return Piece(kind, "x", (0,), (1,), kernel=kernel, stride=stride, in_channels=channels[0], out_channels=channels[1])


@pytest.mark.parametrize(
    ("operator", "halves"),
    [
        (piece("conv"), 2),
        (piece("conv", (1, 1), (2, 2)), 2),
        (piece("conv", (3, 3), (2, 2)), 2),
        (piece("conv", (3, 3), (1, 2)), 2),
        (piece("conv", (3, 3)), 1),
        (piece("conv", (1, 3)), 1),
        (piece("dw", (3, 3)), 0),
        (piece("dw", (3, 3), (2, 2)), 1),
        (piece("add"), 2),
        (piece("mean"), 2),
        (piece("pad"), 2),
        (piece("fc"), 0),
        (piece("concatenation"), 0),
    ],
)
def test_what_lies_over_its_input(operator: Piece, halves: int) -> None:
    assert halves_shared(operator) == halves


def test_scratch_as_in_generated_code() -> None:
    # Sizes of the arrays conv2d_*_scratch0 in code that STM32Cube.AI generated.
    assert scratch_bytes(piece("dw", (3, 3), channels=(48, 48))) == (1777,)
    assert scratch_bytes(piece("dw", (3, 3), channels=(96, 96))) == (3553,)
    assert scratch_bytes(piece("conv", channels=(8, 48))) == (512,)
    assert scratch_bytes(piece("conv", channels=(48, 8))) == (272,)
    assert scratch_bytes(piece("conv", channels=(128, 256))) == (3072,)
    assert scratch_bytes(piece("conv", (3, 3), channels=(3, 16))) == (1036,)
    assert scratch_bytes(piece("conv", (3, 3), channels=(16, 16))) == (5248,)
    assert scratch_bytes(piece("add")) == ()


def test_a_fully_connected_network_to_the_byte() -> None:
    # MLPerf Tiny's ad01: 640 inputs, 128 outputs, the inputs once more in 16 bits. ST's tool reports 2,048 B.
    work = Work((640, 128), ((640,), (128,)), (piece("fc", channels=(640, 128)),), (0,), (1,), 4)
    assert 640 + 128 + scratch_bytes(work.pieces[0])[0] == 2048


def test_what_is_read_later_is_not_shared() -> None:
    add = replace(piece("add"), inputs=(0, 1), outputs=(2,))
    work = Work((100, 60, 100), ((100,), (60,), (100,)), (piece("conv"), add), (0,), (2,), 3)
    # The convolution's input is read by the addition; the larger of the two that the addition reads is written over.
    assert shareable(work, lifetimes(work)[1]) == {1: 100}


def test_a_network_by_hand() -> None:
    """8 channels of 16x16 are expanded to 32, convolved depthwise with stride 2, projected to 8."""
    blocks = (MBConv(out=8, kernel=3, expand=4, stride=2),)
    cost = estimate(lower(Arch(height=16, width=16, classes=2, stem=ConvLayer(out=8, kernel=3), blocks=blocks)), "stedgeai")
    wide, narrow = 32 * 16 * 16, 32 * 8 * 8
    assert [op.live_bytes for op in cost.layers][:4] == [
        8 * 256 + 3 * 256 - 3 * 256 // 2 + 36 * 27 + 4 * 8,
        wide + 4 * 8 + 10 * 32,
        wide + narrow - narrow // 2 + 37 * 32 + 1,
        narrow + 4 * 32 + 10 * 8,
    ]
    assert cost.sram_bytes == wide + narrow // 2 + 37 * 32 + 1
    assert cost.peak_op.endswith("dw")
