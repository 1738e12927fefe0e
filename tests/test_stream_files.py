"""A causal network read back from its .tflite, and what a stream of it answers over recordings of any length."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from test_stream import drawn

from tinynas.cost import plan_offline
from tinynas.errors import UserError
from tinynas.export import stream_files, stream_reference
from tinynas.export.sandbox import run_tflm
from tinynas.export.stream_files import read_stream
from tinynas.export.stream_reference import stream_answers
from tinynas.export.tflite import ModelMeta, serialize, storable
from tinynas.graph import lower
from tinynas.quantize.grid import QuantizedGraph, random_quantized
from tinynas.shrink.model import read


def written(qgraph: QuantizedGraph) -> bytes:
    held = storable(qgraph)
    return serialize(held, ModelMeta("0123456789", tuple(f"c{i}" for i in range(qgraph.graph.classes))), plan_offline(held.graph))


def recording(qgraph: QuantizedGraph, count: int) -> NDArray[np.uint8]:
    _, width, channels = qgraph.graph.input.shape
    return np.random.default_rng(count).integers(0, 256, (count, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_a_file_holds_the_stream_that_it_was_written_from(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    qgraph = random_quantized(lower(drawn(seed)), seed=seed)
    model, height = written(qgraph), qgraph.graph.input.shape[0]
    again = read_stream(model, qgraph.graph.input)
    assert [op.kind for op in again.graph.ops] == [op.kind for op in storable(qgraph).graph.ops]
    frames = recording(qgraph, 3 * height + 5)
    at, answers = stream_answers(qgraph, frames)
    assert len(at) > 1 and np.array_equal(stream_answers(again, frames)[1], answers) and stream_answers(again, frames)[0] == at
    # The first answer is the clip's, by TFLM's kernels; frames that no window reaches do not matter.
    clip = frames[None, :height]
    assert np.array_equal(run_tflm(model, clip).outputs[0], answers[0])
    # However the recording is cut into pieces, and answers are put together.
    monkeypatch.setattr(stream_reference, "FRAMES", 7)
    monkeypatch.setattr(stream_reference, "ANSWERS", 2)
    cut = stream_answers(qgraph, frames)
    assert cut[0] == at and np.array_equal(cut[1], answers)
    assert stream_answers(qgraph, frames[: at[0]])[0] == [] and len(stream_answers(qgraph, frames[: at[0] + 1])[1]) == 1


def test_what_is_no_stream_is_refused() -> None:
    arch = drawn(0)
    looks = random_quantized(lower(arch.model_copy(update={"causal": False})), seed=1)
    with pytest.raises(UserError, match="reads rows that are yet to come"):
        read_stream(written(looks), looks.graph.input)
    qgraph = random_quantized(lower(arch), seed=1)
    given = serialize(storable(qgraph), ModelMeta("0123456789", io="uint8"), None)
    with pytest.raises(UserError, match="cannot be heard frame by frame"):
        read_stream(given, qgraph.graph.input)
    # A row of weights behind the zeros is one that sees what comes.
    held = storable(qgraph)
    name = next(name for name, weight in held.weights.items() if weight.ndim == 4 and not weight[:, -1].any())
    seeing = {**held.weights, name: held.weights[name] | 1}
    with pytest.raises(UserError, match="reads rows that are yet to come"):
        read_stream(written(dataclasses.replace(held, weights=seeing)), qgraph.graph.input)


def test_what_the_file_does_not_say_is_not_guessed() -> None:
    qgraph = random_quantized(lower(drawn(0)), seed=1)
    model, source = written(qgraph), qgraph.graph.input
    kinds = {op.kind for op in read(model).main.ops}
    assert {"FULLY_CONNECTED", "MEAN"} <= kinds and kinds & {"CONV_2D", "DEPTHWISE_CONV_2D"}
    for kind in sorted(kinds & {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"}):
        for bias in ([], [-1]):
            network = read(model).main
            op = next(op for op in network.ops if op.kind == kind)
            op.inputs = type(op.inputs)([*op.inputs[:2], *bias])
            with pytest.raises(UserError, match="has no bias"):
                stream_files._Reading(network, source).network()
    network = read(model).main
    op = next(op for op in network.ops if op.kind == "MEAN")
    network.tensors[op.inputs[1]].data = np.array([1, 3], np.int32)
    with pytest.raises(UserError, match="is not over the whole map"):
        stream_files._Reading(network, source).network()
