"""What CMSIS-NN's kernels take, by hand from its sources; and the options of custom operators, sound and broken."""

from __future__ import annotations

import random

import pytest
from flatbuffers import flexbuffers
from one_op import T, one_op, options
from op_files import VARIANTS, chain, lstm, op_file, weighted

from tinynas.arch import Arch
from tinynas.cost import estimate
from tinynas.cost.flexbuffer import map_integers
from tinynas.cost.kernel import Needs, aligned
from tinynas.cost.tail import open_tail_bytes, tail_bytes
from tinynas.cost.tflite import parse_model
from tinynas.cost.work import from_graph
from tinynas.export.tflite import dummy_file
from tinynas.graph import lower


def taken(file: bytes, number: int = 0) -> tuple[Needs, Needs]:
    """(reference kernel, CMSIS-NN's) of an operator of a file, on a Cortex-M."""
    needs = parse_model(file).estimate("tflm-cmsis-nn").work.pieces[number].needs
    assert needs is not None
    return needs["mcu"], needs["cmsis"]


def dense(shape: tuple[int, ...], *, scales: int = 1, dtype: str = "int8") -> bytes:
    out = (*shape[:-1], 6)
    weights = T((6, shape[-1]), "float32" if dtype == "float32" else "int8", data=0, scale=[1 / 16] * scales)
    bias = T((6,), {"int8": "int32", "int16": "int64", "float32": "float32"}[dtype], data=0, scale=1 / 256)
    return one_op("FULLY_CONNECTED", [T(shape, dtype), weights, bias], [T(out, dtype)], options("FullyConnectedOptions", keepNumDims=True))


def depthwise(kernel: tuple[int, int], channels: int, *, inputs: int | None = None, dilation: int = 1) -> bytes:
    weights = T((1, *kernel, channels), data=0, scale=[1 / 16] * channels, axis=3)
    multiplier = channels // (inputs or channels)
    chosen = options(
        "DepthwiseConv2DOptions", strideW=1, strideH=1, depthMultiplier=multiplier, dilationWFactor=dilation, dilationHFactor=dilation
    )
    bias = T((channels,), "int32", data=0, scale=1 / 256)
    return one_op("DEPTHWISE_CONV_2D", [T((1, 9, 9, inputs or channels)), weights, bias], [T((1, 9, 9, channels))], chosen)


@pytest.mark.parametrize(
    ("file", "scratch"),
    [
        (op_file("CONV_2D", "int8"), (4 * 72,)),  # two int16 columns of 3 * 3 * 8
        (op_file("CONV_2D", "int16"), (4 * 72,)),
        (op_file("CONV_2D", "float32"), ()),
        (chain("CONV_2D"), ()),  # 1x1
        (chain("CONV_2D", "int16"), (4 * 8,)),
        (weighted("CONV_2D", "int8", "int4"), (4 * 72,)),
        (depthwise((3, 3), 6), ()),
        (depthwise((5, 3), 6), (2 * 15 * 6,)),
        (depthwise((5, 3), 6, dilation=2), ()),
        (depthwise((5, 3), 6, inputs=3), ()),
        (weighted("DEPTHWISE_CONV_2D", "int8", "int4"), (2 * 9 * 6,)),
        (dense((1, 16)), ()),
        (dense((1, 5, 16)), (8 * 6,)),  # as a 1x1 convolution: multipliers and shifts
        (dense((1, 5, 16), scales=6), ()),
        (dense((1, 5, 18)), ()),
        (dense((1, 5, 16), dtype="int16"), ()),
        (op_file("AVERAGE_POOL_2D", "int8"), (4 * 8,)),
        (op_file("AVERAGE_POOL_2D", "int16"), (4 * 8,)),
        (op_file("AVERAGE_POOL_2D", "float32"), ()),
        (op_file("MAX_POOL_2D", "int8"), ()),
        # 8 channels, no more than 16: (4 * 2 + 3) columns of 6 outputs, 3 rows
        (op_file("TRANSPOSE_CONV", "int8"), (4 * 11 * 6 * 3, 0)),
        (op_file("TRANSPOSE_CONV", "int16"), (8 * 12 * 10 * 6,)),
        (op_file("MEAN", "int8"), (32, 16, 8)),
        (op_file("SVDF", "int8"), (32, 32)),
        (lstm("int8", batch=2, units=6), (24, 24, 24)),
        (lstm("float32", batch=2, units=6), (48, 48, 48, 48)),
    ],
)
def test_scratch_by_hand(file: bytes, scratch: tuple[int, ...]) -> None:
    _, cmsis = taken(file)
    assert cmsis.scratch == scratch


def test_persistent_buffers_by_hand() -> None:
    reference, cmsis = taken(lstm("int8", batch=2, units=6))
    assert (reference.persistent_bytes, cmsis.persistent_bytes) == (688, 912 + 8 * aligned(4 * 6))
    reference, cmsis = taken(lstm("int16", batch=2, units=6))
    assert cmsis.persistent_bytes - 912 == 8 * aligned(8 * 6)
    reference, cmsis = taken(dense((1, 16)))
    assert (reference.persistent_bytes, cmsis.persistent_bytes) == (48, 80)
    reference, cmsis = taken(op_file("MAX_POOL_2D", "int8"))
    assert (reference.persistent_bytes, cmsis.persistent_bytes) == (32, 48)


@pytest.mark.parametrize(
    ("file", "scratch", "kept"),
    [
        (dense((1, 16)), (24,), 32),  # sums of 6 outputs
        (dense((1, 5, 18)), (24,), 32),
        (dense((1, 5, 16)), (8 * 6,), 0),  # as a 1x1 convolution
        (dense((1, 16), dtype="int16"), (), 0),
        (op_file("SVDF", "int8"), (32, 32, 4 * 8), 32),  # sums of 8 filters
        (op_file("SVDF", "float32"), (32,), 0),
        (op_file("CONV_2D", "int8"), (4 * 80,), 0),  # four int8 columns of 72, in 16s
    ],
)
def test_sums_of_weights_are_scratch_or_kept(file: bytes, scratch: tuple[int, ...], kept: int) -> None:
    needs = parse_model(file).estimate("tflm-cmsis-nn").work.pieces[0].needs
    assert needs is not None
    small, fast = needs["cmsis-mve"], needs["cmsis-mve-speed"]
    assert small.scratch == scratch
    assert fast.scratch == (scratch[:-1] if kept else scratch)
    assert fast.persistent_bytes == small.persistent_bytes + kept


def test_a_dense_layer_on_a_core_with_vectors() -> None:
    # 20 classes: 80 B in the tail, or as scratch, whose handle takes a word.
    graph = lower(Arch.model_validate({"height": 16, "width": 16, "classes": 20, "stem": {"out": 8}}))
    work = from_graph(graph)
    slow, fast = tail_bytes(work, "cmsis-mve"), tail_bytes(work, "cmsis-mve-speed")
    assert open_tail_bytes(work, "cmsis-mve-speed") == open_tail_bytes(work, "cmsis-mve") + 80 - 4
    assert fast == slow + 80
    assert [[piece.scratch_of(build) for piece in work.pieces if piece.kind == "fc"] for build in ("cmsis-mve", "cmsis-mve-speed")] == [
        [(80,)],
        [()],
    ]
    read = parse_model(dummy_file(graph)).estimate("tflm-cmsis-nn", core="cortex-m55")
    made = estimate(graph, "tflm-cmsis-nn", core="cortex-m55")
    assert tail_bytes(read.work, "cmsis-mve-speed") == fast
    assert (made.sram_bytes, made.by_version) == (read.sram_bytes, read.by_version)


@pytest.mark.parametrize("name", VARIANTS)
def test_cmsis_never_keeps_less_than_the_reference(name: str) -> None:
    file = VARIANTS[name]()
    for number in range(len(parse_model(file).ops)):
        reference, cmsis = taken(file, number)
        floats = name == "chain of float"  # whose convolutions keep no multipliers and shifts
        assert cmsis.persistent_bytes >= reference.persistent_bytes or floats
        assert cmsis.options == reference.options


def test_integers_of_a_map() -> None:
    said = {"a": 1, "long name": -70_000, "yes": True, "no": False, "half": 0.5, "text": "x", "list": [1, 2], "big": 2**40}
    assert map_integers(bytes(flexbuffers.Dumps(said))) == {"a": 1, "long name": -70_000, "yes": 1, "no": 0, "big": 2**40}
    for other in ([1, 2], 3, "x", {}):
        assert map_integers(bytes(flexbuffers.Dumps(other))) == {}
    assert map_integers(b"") == {}


def test_broken_maps_give_no_numbers_and_no_error() -> None:
    sound = bytes(flexbuffers.Dumps({"max_detections": 10, "num_classes": 90, "scale": 0.5}))
    generator = random.Random(7)
    for _ in range(3000):
        data = bytearray(sound)
        for _ in range(generator.randrange(1, 4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        assert all(isinstance(value, int) for value in map_integers(bytes(data[: generator.randrange(1, len(data) + 1)])).values())
