"""What esp-nn's kernels ask for as scratch: by hand on both sides of each branch, and alike for graphs, arrays and files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_op import options
from test_cost import archs
from tflite_files import Graph, file

from tinynas.arch import Arch
from tinynas.cost import RUNTIMES, estimate
from tinynas.cost.esp import ESP, Esp, Window, conv_scratch, depthwise_scratch
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.tflite import parse_model
from tinynas.cost.work import from_graph
from tinynas.export.tflite import dummy_file
from tinynas.graph import lower, same_padding

Size = tuple[int, int]
S3: tuple[Esp, ...] = ("esp-nn-s3-1.1", "esp-nn-s3-1.2", "esp-nn-s3")


def window(size: tuple[int, int, int], kernel: Size, stride: Size = (1, 1), *, same: bool = True) -> Window:
    height, width, channels = size
    if same:
        outs = tuple(-(-pixels // step) for pixels, step in zip(size, stride, strict=False))
        (top, _), (left, _) = (same_padding(*of) for of in zip(size[:2], kernel, stride, strict=True))
    else:
        outs = tuple((pixels - reach) // step + 1 for pixels, reach, step in zip(size, kernel, stride, strict=False))
        top = left = 0
    return Window(height, width, channels, *outs, kernel, stride, top, left)


ONE, THREE = (1, 1), (3, 3)
#: Input, kernel, stride, outputs: bytes by version.
CONVOLUTIONS = {
    # 1x1. Weights 16 * 24, eight pixels as int16 16 * 16; later 24 a channel and 8 an output.
    ((8, 8, 16), ONE, (1, 1), 24): (384 + 256 + 32, 384 + 256 + 64, 384 + 192 + 64),
    # Channels that are no multiple of 8: the input as well, 64 pixels of 16.
    ((8, 8, 12), ONE, (1, 1), 24): (1024 + 384 + 256 + 32, 1024 + 384 + 256 + 64, 288 + 192 + 64),
    # Six pixels: none are turned.
    ((2, 3, 16), ONE, (1, 1), 24): (384 + 32, 384 + 64, 384 + 192 + 64),
    ((2, 4, 16), ONE, (1, 1), 24): (384 + 256 + 32, 384 + 256 + 64, 384 + 192 + 64),
    # One channel: eight turned pixels of eight channels are most.
    ((8, 8, 1), ONE, (1, 1), 1): (512 + 8 + 128 + 32, 512 + 8 + 128 + 64, 128 + 64),
    # 24 KiB of weights, and more: panels.
    ((8, 8, 128), ONE, (1, 1), 192): (24576 + 2048 + 32, 24576 + 2048 + 64, 3072 + 1536 + 64),
    ((8, 8, 128), ONE, (1, 1), 193): (24704 + 2048 + 32, 24704 + 2048 + 64, 3072 + 16384 + 64),
    # 1x1 with strides is as any other: nothing is padded; sums 4 * 24.
    ((8, 8, 16), ONE, (2, 2), 24): (384 + 96 + 32, 384 + 384 + 96 + 64, 384 + 96 + 64),
    # Rows of 9 and 15 bytes: columns of 32 and 48; strided, so that nothing is padded before.
    ((8, 8, 3), THREE, (2, 2), 16): (2304 + 64 + 32, 64 + 16 + 512 + 16 + 32 + 64, 64 + 16 + 512 + 16 + 32 + 64),
    ((8, 8, 5), THREE, (2, 2), 16): (2304 + 64 + 32, 64 + 16 + 768 + 16 + 48 + 64, 64 + 16 + 768 + 16 + 48 + 64),
    # Rows of 18 bytes are widened to 32; the padded input is 10 * 10 * 6, twice in early 2026.
    ((8, 8, 6), THREE, (1, 1), 16): (600 + 2304 + 64 + 32, 600 + 600 + 2304 + 1536 + 64 + 64, 600 + 1536 + 64 + 64),
    # Windows of 9 bytes are too short for columns, those of 18 are not.
    ((8, 8, 1), THREE, (1, 1), 16): (100 + 2304 + 64 + 32, 100 + 100 + 2304 + 768 + 64 + 64, 100 + 768 + 64 + 64),
    ((8, 8, 2), THREE, (1, 1), 16): (200 + 2304 + 64 + 32, 64 + 16 + 512 + 16 + 32 + 64, 64 + 16 + 512 + 16 + 32 + 64),
    # Behind a strided input a pixel more than is needed: 10 * 10 * 24 in early 2026, 9 * 9 * 24 today; rows of 72 widened to 80.
    ((8, 8, 24), THREE, (2, 2), 16): (4608 + 64 + 32, 2400 + 4608 + 3840 + 64 + 64, 1944 + 3840 + 64 + 64),
    # 3x3 of 16 channels to 16: 64 pixels, 16 at once: 40 * 144 + 16,384 + 96.
    ((8, 8, 16), THREE, (1, 1), 16): (1600 + 2304 + 64 + 32, 1600 + 1600 + 2304 + 2304 + 64 + 64, 5760 + 16384 + 96),
    # To 15 as others.
    ((8, 8, 16), THREE, (1, 1), 15): (1600 + 2160 + 60 + 32, 3200 + 2160 + 2160 + 60 + 64, 1600 + 2160 + 60 + 64),
    # Nine pixels of small weights: 144 * 17 + 64 + 32; of 36,864 B: 16 at once are more than 576 * 65; of 147,456 B less.
    ((6, 6, 16), THREE, (2, 2), 16): (2304 + 64 + 32, 1024 + 2304 + 2304 + 64 + 64, 2448 + 64 + 32),
    ((6, 6, 64), THREE, (2, 2), 64): (36864 + 256 + 32, 4096 + 36864 + 36864 + 256 + 64, 23040 + 16384 + 96),
    ((6, 6, 128), THREE, (2, 2), 128): (147456 + 512 + 32, 8192 + 147456 + 147456 + 512 + 64, 148608 + 512 + 32),
}
#: Input, kernel, stride, with SAME padding or not: bytes by version.
DEPTHWISE = {
    # Weights 144 and the padded input 10 * 10 * 16.
    ((8, 8, 16), THREE, (1, 1), True): (144 + 1600 + 16,) * 3,
    ((8, 8, 16), THREE, (2, 2), True): (144 + 1600 + 16,) * 3,
    ((8, 8, 16), THREE, (1, 1), False): (144 + 16,) * 3,
    # 24 channels: int16 copies, later 32 channels: weights 288, input 12 * 12 * 32, output 64 * 32; numbers 12 * 32.
    ((8, 8, 24), THREE, (1, 1), True): (2 * (216 + 1536) + 16, 288 + 4608 + 2048 + 64, 288 + 4608 + 2048 + 384 + 64),
    ((8, 8, 8), THREE, (1, 1), True): (2 * (72 + 512) + 16, 2 * (72 + 512) + 32, 2 * (72 + 512) + 32),
    # 12 channels are widened to 16: weights and input as int16, output, numbers 12 * 16.
    ((8, 8, 12), THREE, (1, 1), True): (32, 288 + 2048 + 1024 + 192 + 16, 288 + 2048 + 1024 + 192 + 16),
    ((8, 8, 4), (5, 5), (1, 1), True): (32, 400 + 1024 + 512 + 96 + 16, 400 + 1024 + 512 + 96 + 16),
    ((8, 8, 3), THREE, (1, 1), True): (32, 32, 32),
    # A large input, 98 * 98 * 16: in strips of 3 rows, later of 26, never of fewer than 3.
    ((96, 96, 16), THREE, (1, 1), True): (144 + 153664 + 16, 144 + 3 * 1568 + 16, 144 + 26 * 1568 + 32),
    ((10, 1000, 16), THREE, (1, 1), True): (144 + 192384 + 16, 144 + 3 * 16032 + 16, 144 + 3 * 16032 + 32),
    # 40 KiB, 32 * 80 * 16, is not large, 33 * 80 * 16 is.
    ((30, 78, 16), THREE, (1, 1), True): (144 + 40960 + 16,) * 3,
    ((31, 78, 16), THREE, (1, 1), True): (144 + 42240 + 16, 144 + 3 * 1280 + 16, 144 + 31 * 1280 + 32),
    # Padded above but not to the left: 14 * 10 * 16 and 5 * 4 * 16 beside the weights.
    ((9, 8, 16), THREE, (2, 2), True): (144 + 1408 + 16, 144 + 2240 + 320 + 64, 144 + 2240 + 320 + 192 + 64),
    # Other kernels: int16 copies, or five rows.
    ((8, 8, 16), (5, 5), (1, 1), True): (32, 2 * (400 + 1024) + 32, 2 * (400 + 1024) + 32),
    ((48, 48, 16), (5, 5), (1, 1), True): (32, 800 + 7680 + 32, 800 + 7680 + 32),
    # Along one column; two columns, and 24 channels, are as others.
    ((49, 1, 16), (4, 1), (1, 1), True): (32, 2 * (64 + 784) + 32, 64 + 128 + 64),
    ((49, 2, 16), (4, 1), (1, 1), True): (32, 2 * (64 + 1568) + 32, 2 * (64 + 1568) + 32),
    ((49, 1, 24), (4, 1), (1, 1), True): (32, 2 * (96 + 1176) + 32, 2 * (96 + 1176) + 32),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_by_hand(case: tuple[tuple[int, int, int], Size, Size, int]) -> None:
    size, kernel, stride, outputs = case
    at = window(size, kernel, stride)
    assert tuple(conv_scratch(build, at, outputs) for build in S3) == tuple((expected,) for expected in CONVOLUTIONS[case])
    assert conv_scratch("esp-nn", at, outputs) == ()


@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise_by_hand(case: tuple[tuple[int, int, int], Size, Size, bool]) -> None:
    size, kernel, stride, same = case
    at = window(size, kernel, stride, same=same)
    assert tuple(depthwise_scratch(build, at, 1) for build in S3) == tuple((expected,) for expected in DEPTHWISE[case])
    assert depthwise_scratch("esp-nn", at, 1) == ()


def test_multipliers_by_hand() -> None:
    at = window((8, 8, 3), THREE)
    assert [depthwise_scratch(build, at, 4)[0] for build in S3] == [2 * (108 + 192) + 16, 2 * (108 + 192) + 32, 2 * (108 + 192) + 32]
    assert [depthwise_scratch(build, at, 2)[0] for build in S3] == [32, 32, 32]


def test_a_strided_depthwise_is_padded_by_what_is_needed() -> None:
    at = window((96, 96, 16), THREE, (2, 2))
    # Nothing before; behind a pixel by what is needed, two with the stride counted in full: 26 rows of 97 or 98 pixels.
    assert depthwise_scratch("esp-nn-s3", at, 1) == (144 + 26 * 1568 + 32,)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3, 8, 12, 16, 24, 64, 130])), min_size=1, max_size=6),
    st.sampled_from([(1, 1), (3, 3), (5, 5), (4, 1), (1, 7)]),
    st.sampled_from([(1, 1), (2, 2), (2, 1)]),
    st.sampled_from([1, 15, 16, 40, 200]),
)
def test_arrays_give_arrays(sizes: list[tuple[int, int, int]], kernel: Size, stride: Size, outputs: int) -> None:
    each = [window(size, kernel, stride) for size in sizes]
    fields = ("height", "width", "channels", "out_height", "out_width")
    columns = {name: np.array([getattr(at, name) for at in each]) for name in fields}
    pads = {name: np.array([getattr(at, name) for at in each]) for name in ("top", "left")}
    at_once = Window(**columns, kernel=kernel, stride=stride, **pads)
    for build in S3:
        (convolved,), (deep,) = conv_scratch(build, at_once, outputs), depthwise_scratch(build, at_once, 1)
        assert np.broadcast_to(convolved, len(each)).tolist() == [conv_scratch(build, at, outputs)[0] for at in each]
        assert np.broadcast_to(deep, len(each)).tolist() == [depthwise_scratch(build, at, 1)[0] for at in each]


@settings(max_examples=40, deadline=None)
@given(archs())
def test_a_file_asks_for_what_its_graph_does(arch: Arch) -> None:
    graph = lower(arch)
    own, read = from_graph(graph), parse_model(dummy_file(graph)).estimate("tflm-esp-nn").work
    for build in ESP:
        made, found = (sorted(piece.scratch_of(build) for piece in work.pieces) for work in (own, read))
        assert made == found
        assert any(made)


def softmax(classes: int) -> bytes:
    graph = Graph()
    source, out = graph.tensor([1, classes]), graph.tensor([1, classes])
    graph.op("SOFTMAX", [source], [out], options("SoftmaxOptions", beta=1.0))
    return file(graph.ends([source], [out]))


def test_softmax_by_hand() -> None:
    for classes in (10, 1000):
        (piece,) = parse_model(softmax(classes)).estimate("tflm-esp-nn").work.pieces
        assert [piece.scratch_of(build) for build in ESP] == [(4 * classes,), (4 * classes,), (4 * classes,), (2064,)]


def test_an_s3_is_promised_more_than_an_esp32() -> None:
    graph = lower(Arch.model_validate({"height": 32, "width": 32, "classes": 2, "stem": {"out": 16}}))
    esp32, s3, whichever = (estimate(graph, "tflm-esp-nn", core=core) for core in ("xtensa-lx6", "xtensa-lx7", None))
    assert esp32.sram_bytes < s3.sram_bytes == whichever.sram_bytes
    assert [name for name, _ in s3.by_version] == ["esp32", "esp32s3-1.1", "esp32s3-1.2", "esp32s3"]
    # Exact where boards were measured, a bound elsewhere; without a core as well.
    known = [estimate(graph, name, core=core).evidence()["sram"][0] for name, core in ON]
    assert known == ["exact", "exact", "bound", "bound", "bound"]
    assert runtime_named("tflm-esp-nn@esp32s3", "xtensa-lx7").builds == (("esp32s3", "esp-nn-s3"),)
    assert RUNTIMES["tflm-esp-nn"].evidence["sram"][0] == "bound"


ON = [
    ("tflm-esp-nn", "xtensa-lx6"),
    ("tflm-esp-nn@esp32", "xtensa-lx7"),
    ("tflm-esp-nn", "xtensa-lx7"),
    ("tflm-esp-nn@esp32s3", "xtensa-lx7"),
    ("tflm-esp-nn", None),
]
