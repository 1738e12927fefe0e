"""Files of several subgraphs, with state, and what a runtime does not run: figures against tflite-micro's, or by hand."""

from __future__ import annotations

import random
import struct
import time
from itertools import pairwise

import numpy as np
import pytest
from one_op import options
from tflite_files import Graph, conv, file, measure, same

from tinynas.budget import load_budget
from tinynas.cost import RUNTIMES
from tinynas.cost.file_work import _COUNTED, _NO_MACS
from tinynas.cost.latency import UNTIMED, kind_of, why_untimed
from tinynas.cost.scopes import walk
from tinynas.cost.tflite import ModelFile, parse_model
from tinynas.errors import ModelFileError

#: Runtimes of .tflite files; compiled code is made of networks.
OF_FILES = sorted(name for name, runtime in RUNTIMES.items() if runtime.frame is None)

WIDTH = 64


def chain(operators: int, *, unused: int = 0) -> Graph:
    """Reshapes one after the other."""
    graph = Graph()
    last = first = graph.tensor([1, WIDTH])
    for _ in range(operators):
        source, last = last, graph.tensor([1, WIDTH])
        graph.op("RESHAPE", [source], [last], options("ReshapeOptions", newShape=[1, WIDTH]))
    for _ in range(unused):
        graph.tensor([1, 100])
    return graph.ends([first], [last])


def branching(then: int = 1, other: int = 2, *, unused_input: bool = False, kind: str = "IF") -> Graph:
    """A reshape, an IF, a reshape."""
    graph = chain(1)
    condition = graph.tensor([1], "bool")
    extra = graph.tensor([1, 500])
    chosen, last = graph.tensor([1, WIDTH]), graph.tensor([1, WIDTH])
    graph.op(kind, [condition, graph.outputs[0]], [chosen], options("IfOptions", thenSubgraphIndex=then, elseSubgraphIndex=other))
    graph.op("RESHAPE", [chosen], [last], options("ReshapeOptions", newShape=[1, WIDTH]))
    return graph.ends([condition, *graph.inputs, *([extra] if unused_input else [])], [last])


def looping(times: int = 1, condition: int = 1, body: int = 2) -> Graph:
    """WHILE loops one after the other."""
    graph = Graph()
    last = first = graph.tensor([1, WIDTH])
    for _ in range(times):
        source, last = last, graph.tensor([1, WIDTH])
        graph.op("WHILE", [source], [last], options("WhileOptions", condSubgraphIndex=condition, bodySubgraphIndex=body))
    return graph.ends([first], [last])


def never() -> Graph:
    """A condition that does not hold."""
    graph = Graph()
    return graph.ends([graph.tensor([1, WIDTH])], [graph.tensor([], "bool", data=False)])


def stateful(variables: int, *, once: bool = False) -> Graph:
    """Resource variables, each assigned from the one before and read; with ``once``, CALL_ONCE of subgraph 1 comes first."""
    graph = Graph()
    last = first = graph.tensor([1, WIDTH])
    if once:
        graph.op("CALL_ONCE", [], [], options("CallOnceOptions", initSubgraphIndex=1))
    for number in range(variables):
        handle, source, last = graph.tensor([], "resource"), last, graph.tensor([1, WIDTH])
        graph.op("VAR_HANDLE", [], [handle], options("VarHandleOptions", container="", sharedName=f"v{number}"))
        graph.op("ASSIGN_VARIABLE", [handle, source], [], options("AssignVariableOptions"))
        graph.op("READ_VARIABLE", [handle], [last], options("ReadVariableOptions"))
    return graph.ends([first], [last])


def initial(variables: int) -> Graph:
    """Assigns zeros to resource variables."""
    graph = Graph()
    for number in range(variables):
        handle, zeros = graph.tensor([], "resource"), graph.tensor([1, WIDTH], data=0)
        graph.op("VAR_HANDLE", [], [handle], options("VarHandleOptions", container="", sharedName=f"v{number}"))
        graph.op("ASSIGN_VARIABLE", [handle, zeros], [], options("AssignVariableOptions"))
    return graph


def variable() -> Graph:
    """A chain beside two tensors that keep their content."""
    graph = chain(2)
    graph.tensor([1, 640], variable=True)
    graph.tensor([1, 7], variable=True)
    return graph


def ended(*, constant: bool) -> Graph:
    """Outputs that are an input, or a constant."""
    graph = chain(1)
    more = graph.tensor([1, WIDTH], data=3) if constant else graph.inputs[0]
    return graph.ends(graph.inputs, [*graph.outputs, more])


def unread() -> Graph:
    """An output that nothing reads, an input that nothing reads, and an operator's input that nothing writes."""
    graph = chain(1)
    unused, written, added = graph.tensor([1, 999]), graph.tensor([1, WIDTH]), graph.tensor([1, WIDTH])
    graph.op("RESHAPE", [graph.inputs[0]], [written], options("ReshapeOptions", newShape=[1, WIDTH]))
    graph.op("ADD", [graph.outputs[0], graph.tensor([1, WIDTH])], [added], options("AddOptions"))
    return graph.ends([graph.inputs[0], unused], [added])


FILES = {
    "if": file(branching(), chain(2), chain(3)),
    "if with an unused input": file(branching(unused_input=True), chain(2), chain(3, unused=2)),
    "if, and subgraphs that nobody calls": file(branching(), chain(2), chain(3), chain(4, unused=1), chain(1)),
    "if with an empty branch": file(branching(), chain(2), chain(0)),
    "both branches one subgraph": file(branching(1, 1), chain(2)),
    "while": file(looping(), never(), chain(2)),
    "two while of the same subgraphs": file(looping(2), never(), chain(3)),
    "resource variables": file(stateful(3)),
    "resource variables, initialised once": file(stateful(4, once=True), initial(4)),
    "variable tensors": file(variable()),
    "variable tensors in the file's plan": file(variable(), plan=[0, 64, 128, 192, -1]),
    "output is input": file(ended(constant=False)),
    "output is a constant": file(ended(constant=True)),
    "tensors without reader or writer": file(unread()),
    "unused tensors": file(chain(2, unused=5)),
    "nothing but an input": file(chain(0), chain(2)),
}


def test_head_and_tail_equal_tflite_micros() -> None:
    for (name, data), real in zip(FILES.items(), measure(*FILES.values()), strict=True):
        cost = parse_model(data).estimate()
        assert (cost.head_bytes, cost.host_arena_bytes - cost.head_bytes) == real, name
        assert cost.runs is True, (name, cost.reasons)
        assert cost.unknown == (), name


def test_state_lies_in_the_tail() -> None:
    # 640 and 7 B, each on 16 B: 656 B more than without, beside a tensor's structure for each.
    plain, kept = parse_model(file(chain(2))).estimate(), parse_model(file(variable())).estimate()
    assert kept.work.variables == (640, 7)
    assert kept.head_bytes == plain.head_bytes
    assert 0 <= kept.tail_bytes - plain.tail_bytes - 656 - 2 * 12 < 16
    assert parse_model(FILES["resource variables, initialised once"]).estimate().work.resources == (WIDTH,) * 4


def test_what_nothing_touches_lies_beside_each_other() -> None:
    # Five tensors of 100 B, all at once, are more than two of 64.
    assert parse_model(FILES["unused tensors"]).estimate().head_bytes == 5 * 112


# MACs ----------------------------------------------------------------------------------------------------


def convolved(*widths: int) -> Graph:
    """1x1 convolutions on 4 x 4 pixels."""
    graph = Graph()
    last = first = graph.tensor([1, 4, 4, widths[0]])
    for before, after in pairwise(widths):
        weights, biases = graph.tensor([after, 1, 1, before], data=1, scales=after), graph.tensor([after], "int32", data=0)
        last = conv(graph, last, [1, 4, 4, after], weights, biases)
    return graph.ends([first], [last])


def calling(kind: str, **numbers: int) -> Graph:
    """One operator that calls subgraphs with an image."""
    graph = Graph()
    source, out, condition = graph.tensor([1, 4, 4, 4]), graph.tensor([1, 4, 4, 4]), graph.tensor([1], "bool")
    inputs, outputs = ([condition, source], [out]) if kind == "IF" else ([], []) if kind == "CALL_ONCE" else ([source], [out])
    name = {"IF": "If", "WHILE": "While", "CALL_ONCE": "CallOnce", "CALL": "Call"}[kind]
    graph.op(kind, inputs, outputs, options(f"{name}Options", **numbers))
    return graph.ends(inputs, outputs)


def test_macs_of_called_subgraphs() -> None:
    small, large = 16 * 2 * 4 * 4, 16 * (4 * 6 + 6 * 4)  # 4 -> 4 -> 4 channels, 4 -> 6 -> 4
    branches = convolved(4, 4, 4), convolved(4, 6, 4)
    for order in ((1, 2), (2, 1)):
        model = parse_model(file(calling("IF", thenSubgraphIndex=order[0], elseSubgraphIndex=order[1]), *branches))
        cost = model.estimate()
        assert cost.macs == large
        assert [row.macs for row in cost.layers] == [0, 0, 0, 16 * 24, 16 * 24]
    loop = parse_model(file(calling("WHILE", condSubgraphIndex=1, bodySubgraphIndex=2), never(), convolved(4, 6, 4))).estimate()
    assert loop.macs == large
    assert "one pass of each WHILE" in loop.work.notes[0]
    assert "decided at run time" in str(why_untimed(loop.work))
    once = parse_model(file(calling("CALL_ONCE", initSubgraphIndex=1), convolved(4, 4, 4))).estimate()
    assert (once.macs, once.params) == (0, 2 * (16 + 4))
    assert small < large
    called = parse_model(file(calling("CALL", subgraph=1), convolved(4, 4, 4))).estimate()
    assert called.macs == small
    assert called.reasons == ("CALL: TFLM has no such operator",)


def test_shared_weights_count_once() -> None:
    graph = Graph()
    first = graph.tensor([1, 4, 4, 4])
    weights, biases = graph.tensor([4, 1, 1, 4], data=1, scales=4), graph.tensor([4], "int32", data=0)
    again = graph.tensor([4, 1, 1, 4], data=same(0, weights), scales=4)  # another tensor, the same content
    last = conv(graph, first, [1, 4, 4, 4], weights, biases)
    last = conv(graph, conv(graph, last, [1, 4, 4, 4], weights, biases), [1, 4, 4, 4], again, biases)
    cost = parse_model(file(graph.ends([first], [last]))).estimate("stedgeai")
    assert (cost.params, cost.weights_bytes, cost.flash_bytes) == (16 + 4, 16 + 16, 32)
    assert cost.macs == 3 * 16 * 16
    assert [row.params for row in cost.layers] == [20, 0, 0]
    other = parse_model(file(convolved(4, 4, 4, 4))).estimate("stedgeai")
    assert (other.macs, other.params) == (cost.macs, 3 * cost.params)


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_on_every_runtime(batch: int) -> None:
    graph = Graph()
    source, out = graph.tensor([batch, 6, 8, 4]), graph.tensor([batch, 6, 8, 4])
    weights, biases = graph.tensor([1, 3, 3, 4], data=1, scales=4), graph.tensor([4], "int32", data=0)
    chosen = options("DepthwiseConv2DOptions", padding=0, strideW=1, strideH=1, depthMultiplier=1)
    graph.op("DEPTHWISE_CONV_2D", [source, weights, biases], [out], chosen)
    model = parse_model(file(graph.ends([source], [out])))
    for runtime in OF_FILES:
        cost = model.estimate(runtime)
        assert (cost.macs, cost.params) == (batch * 6 * 8 * 4 * 9, 36 + 4)
    # TinyEngine keeps one padded int16 plane of a depthwise convolution.
    assert model.estimate("tinyengine").head_bytes == batch * 6 * 8 * 4 + 2 * 8 * 10


def one(kind: str, inputs: list[int], shape: list[int], graph: Graph, dtype: str = "float32", chosen: object = None) -> ModelFile:
    out = graph.tensor(shape, dtype)
    graph.op(kind, inputs, [out], chosen)
    return parse_model(file(graph.ends(inputs[:1], [out])))


def test_macs_by_hand() -> None:
    graph = Graph()
    left, right = graph.tensor([2, 3, 5], "float32"), graph.tensor([2, 5, 7], "float32")
    product = options("BatchMatMulOptions", adjX=False, adjY=False)
    assert one("BATCH_MATMUL", [left, right], [2, 3, 7], graph, chosen=product).estimate().macs == 2 * 3 * 5 * 7
    graph = Graph()
    left, right = graph.tensor([2, 5, 3], "float32"), graph.tensor([2, 5, 7], "float32")
    turned = options("BatchMatMulOptions", adjX=True, adjY=False)
    assert one("BATCH_MATMUL", [left, right], [2, 3, 7], graph, chosen=turned).estimate().macs == 2 * 3 * 5 * 7
    graph = Graph()
    volume, kernel = graph.tensor([1, 4, 6, 6, 2], "float32"), graph.tensor([3, 3, 3, 2, 5], "float32", data=0)
    assert one("CONV_3D", [volume, kernel], [1, 2, 4, 4, 5], graph).estimate().macs == 2 * 4 * 4 * 5 * 27 * 2
    graph = Graph()
    sequence = graph.tensor([1, 10, 6], "float32")
    matrices = [graph.tensor([8, n], "float32", data=0) for n in (6, 6, 6, 6, 8, 8, 8, 8)]
    biases = [graph.tensor([8], "float32", data=0) for _ in range(4)]
    states = [graph.tensor([1, 8], "float32", variable=True) for _ in range(2)]
    inputs = [sequence, *matrices, -1, -1, -1, *biases, -1, -1, *states, -1, -1, -1, -1]
    cell = options("UnidirectionalSequenceLSTMOptions", fusedActivationFunction=4)
    cost = one("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [1, 10, 8], graph, chosen=cell).estimate()
    assert (cost.macs, cost.params) == (10 * 4 * 8 * (6 + 8), 4 * 8 * (6 + 8) + 4 * 8)
    assert "unidirectional_sequence_lstm" in str(why_untimed(cost.work)) or "float32" in str(why_untimed(cost.work))
    assert cost.work.variables == (32, 32)


def test_every_operator_with_macs_is_timed_or_said_to_be_untimed() -> None:
    kinds = {parse_kind(kind) for kind in _COUNTED}
    assert {kind for kind in kinds if kind not in UNTIMED} == {"conv", "dw", "fc", "transpose_conv"}
    assert kinds >= UNTIMED
    assert all(kind_of(kind, (1, 1)) for kind in kinds - UNTIMED)
    assert not _NO_MACS & set(_COUNTED)


def parse_kind(kind: str) -> str:
    return {"CONV_2D": "conv", "DEPTHWISE_CONV_2D": "dw", "FULLY_CONNECTED": "fc"}.get(kind, kind.lower())


# what does not run ---------------------------------------------------------------------------------------


def dense(data: str, weights: str, *, content: object = 1, **more: object) -> Graph:
    graph = Graph()
    source = graph.tensor([1, 8], data)
    matrix = graph.tensor([4, 8], weights, data=content, **more)  # type: ignore[arg-type]
    out = graph.tensor([1, 4], data)
    graph.op("FULLY_CONNECTED", [source, matrix, -1], [out], options("FullyConnectedOptions"))
    return graph.ends([source], [out])


def halved() -> Graph:
    """float16 weights, turned into float32 when the model runs."""
    graph = Graph()
    source, stored, matrix, out = graph.tensor([1, 8], "float32"), graph.tensor([4, 8], "float16", data=1), 0, 0
    matrix, out = graph.tensor([4, 8], "float32"), graph.tensor([1, 4], "float32")
    graph.op("DEQUANTIZE", [stored], [matrix], options("DequantizeOptions"))
    graph.op("FULLY_CONNECTED", [source, matrix, -1], [out], options("FullyConnectedOptions"))
    return graph.ends([source], [out])


def custom(name: str) -> Graph:
    graph = Graph()
    source, out = graph.tensor([1, 8]), graph.tensor([1, 8])
    graph.op("CUSTOM", [source], [out], custom=name)
    return graph.ends([source], [out])


def shaped(shape: list[int], signature: list[int] | None = None, dtype: str = "int8") -> Graph:
    graph = Graph()
    source, out = graph.tensor([1, WIDTH], name="in"), graph.tensor(shape, dtype, name="grown", signature=signature)
    graph.op("RESHAPE", [source], [out], options("ReshapeOptions", newShape=[1, WIDTH]))
    return graph.ends([source], [out])


REFUSED = {
    "hybrid": (dense("float32", "int8"), "FULLY_CONNECTED with float32 input and int8 weights (hybrid)"),
    "float16": (halved(), "DEQUANTIZE with float16 input"),
    "custom": (custom("MyOperator"), "CUSTOM MyOperator: TFLM has no such operator"),
    "dynamic": (shaped([1, 0]), "the shape [1, 0] of 'grown'"),
    "branches of other sizes": (branching(1, 1), "IF (operator 1) and its subgraphs with inputs or outputs of other sizes"),
}


def test_what_is_refused_is_said_and_tflite_micro_refuses_it() -> None:
    files = [file(*([graph, convolved(4, 6)] if name.startswith("branches") else [graph])) for name, (graph, _) in REFUSED.items()]
    budget = load_budget("stm32f746")
    for (name, (_, reason)), data, real in zip(REFUSED.items(), files, measure(*files), strict=True):
        assert isinstance(real, str), name
        cost = parse_model(data).estimate(core="cortex-m7", clock_mhz=216.0)
        assert cost.runs is False, name
        assert cost.reasons[0].startswith(reason), (name, cost.reasons)
        assert cost.latency_ms is None
        assert not budget.fits(cost)
        document = cost.to_json()
        assert (document["runs"], document["reasons"]) == (False, list(cost.reasons))
        elsewhere = parse_model(data).estimate("stedgeai")
        assert (elsewhere.runs, elsewhere.reasons) == (None, ())


@pytest.mark.parametrize("plan", [[0, 64], [-1] * 4, []])
def test_a_memory_plan_of_other_tensors(plan: list[int]) -> None:
    data = file(chain(2), plan=plan)
    cost = parse_model(data).estimate()
    assert cost.reasons == (f"a memory plan (OfflineMemoryAllocation) of {len(plan)} tensors where there are 3",)
    assert isinstance(measure(data)[0], str)


def test_custom_operators_are_named() -> None:
    said = {
        "ethos-u": "it runs on an Arm Ethos-U",
        "edgetpu-custom-op": "it runs on a Coral Edge TPU",
        "FlexErf": "it is one of TensorFlow's own (Select TF ops)",
        "[bold]\x1b[31m": "TFLM has no such operator",
    }
    for name, why in said.items():
        cost = parse_model(file(custom(name))).estimate()
        shown = name.replace("[", "?").replace("]", "?").replace("\x1b", "?")
        assert cost.reasons == (f"CUSTOM {shown}: {why}",)
        assert cost.work.uncounted == (f"CUSTOM {shown}",)
        assert cost.unknown == (f"custom {shown}".lower(),)
        assert cost.to_json()["layers"][0]["kind"] == f"custom {shown}".lower()


def test_figures_of_what_does_not_run_are_known_all_the_same() -> None:
    cost = parse_model(file(halved())).estimate()
    assert (cost.macs, cost.params, cost.weights_bytes) == (32, 32, 64)  # two bytes a weight
    sparse = parse_model(file(dense("int8", "int8", content=bytes(5), sparse=True))).estimate()
    assert (sparse.macs, sparse.params, sparse.weights_bytes) == (32, 32, 5)
    assert "sparse weights" in sparse.reasons[0]
    text = parse_model(file(dense("int8", "int8"), Graph().ends([], []))).tensors
    assert len(text) == 3
    words = chain(1)
    words.tensor([1], "string", name="words")
    assert parse_model(file(words)).estimate().reasons == ("string tensors ('words')",)


def test_packed_weights_take_half_a_byte() -> None:
    cost = parse_model(file(dense("int8", "int4", content=bytes(16)))).estimate()
    assert (cost.params, cost.weights_bytes, cost.runs) == (32, 16, True)
    assert why_untimed(cost.work) is None
    with pytest.raises(ModelFileError, match="needs 16 B and has 15 B"):
        parse_model(file(dense("int8", "int4", content=bytes(15))))


def test_open_dimensions_are_said_and_taken_as_the_file_says() -> None:
    batch = parse_model(file(shaped([1, WIDTH], [-1, WIDTH]))).estimate()
    assert batch.runs is True
    assert batch.work.notes == ("the file leaves the batch open: the figures are of 1",)
    sized = parse_model(file(shaped([1, WIDTH], [-1, -1]))).estimate()
    assert sized.work.notes[0].startswith("the file leaves sizes open")
    assert f"'grown' is taken as [1, {WIDTH}]" in sized.work.notes[0]


def test_intermediates_without_a_shape_are_no_fault() -> None:
    graph = chain(1)
    sized, out = graph.tensor([0], "int16"), graph.tensor([1, WIDTH])
    graph.op("RESHAPE", [graph.outputs[0]], [out], options("ReshapeOptions", newShape=[1, WIDTH]), intermediates=[sized])
    assert parse_model(file(graph.ends(graph.inputs, [out]))).estimate().runs is True


def test_content_behind_the_flatbuffer() -> None:
    data = file(dense("int8", "int8"))
    model = parse_model(data)
    assert model.estimate().runs is True
    weights = model.tensors[1]
    assert (weights.outside, bytes(weights.content)) == (False, b"\1" * 32)


# hostile files ------------------------------------------------------------------------------------------


def test_calls_without_end() -> None:
    itself = parse_model(file(calling("CALL_ONCE", initSubgraphIndex=0))).estimate()
    assert itself.reasons == ("CALL_ONCE (operator 0) calls the subgraph 0 that it is part of",)
    outside = parse_model(file(calling("CALL_ONCE", initSubgraphIndex=7))).estimate()
    assert outside.reasons[0] == "CALL_ONCE (operator 0) calls subgraph 7 of 1"
    # Each subgraph calls the next one twice: 2^20 visits.
    doubled = [branching(n + 1, n + 1) for n in range(20)]
    with pytest.raises(ModelFileError, match="without end"):
        parse_model(file(*doubled, chain(1))).estimate()
    deep = [calling("CALL_ONCE", initSubgraphIndex=n + 1) for n in range(60)]
    with pytest.raises(ModelFileError, match="50 deep"):
        parse_model(file(*deep, chain(1))).estimate()


@pytest.mark.parametrize("seed", range(4))
def test_corrupted_bytes_never_crash(seed: int) -> None:
    generator = random.Random(seed)
    files = [*FILES.values(), file(convolved(4, 6, 4)), file(halved()), file(dense("int8", "int4", content=bytes(16)))]
    for _ in range(150):
        changed = bytearray(generator.choice(files))
        for _ in range(generator.choice([1, 1, 2, 10])):
            at = generator.randrange(len(changed) - 4) & ~3
            word = generator.choice([0, 1, 2, 2**31, 2**32 - 1, len(changed), generator.randrange(300), generator.randrange(2**32)])
            struct.pack_into("<I", changed, at, word)
        try:
            cost = parse_model(bytes(changed)).estimate(generator.choice(OF_FILES), core="cortex-m7", clock_mhz=100.0)
            assert len(cost.layers) == len(cost.to_json()["layers"])
        except ModelFileError as error:
            assert error.message


def test_lists_that_are_read_again_and_again() -> None:
    # 20,000 operators share one list of 20,000 inputs: a file of some hundred kB.
    graph = chain(1)
    (_, _, op) = graph.ops[0]
    data = bytearray(file(graph))
    started = time.process_time()
    huge = struct.pack("<I", 90_000) + bytes(4 * 90_000)
    assert len(data) and op is not None
    at = bytes(data).index(struct.pack("<II", 1, 0))  # the operator's list of inputs: tensor 0 alone
    pad = -len(data) % 4
    data += bytes(pad) + huge
    # Every reference to that list now means the long one, as far as offsets reach it.
    for place in range(0, at, 4):
        if struct.unpack_from("<I", data, place)[0] == at - place:
            struct.pack_into("<I", data, place, len(data) - len(huge) - place)
    try:
        parse_model(bytes(data)).estimate()
    except ModelFileError as error:
        assert error.message
    assert time.process_time() - started < 2


@pytest.mark.parametrize("unused", [3_000])
def test_many_tensors_are_planned_in_time(unused: int) -> None:
    data = file(chain(2, unused=unused))
    started = time.process_time()
    assert parse_model(data).estimate().head_bytes == unused * 112
    assert time.process_time() - started < 5


def test_a_walk_by_hand() -> None:
    model = parse_model(FILES["if"])
    found = walk(model.ops, model.subgraphs, len(model.tensors), [0] * len(model.ops))
    # Scope 0: inputs. 1: reshape. 2: IF; 3 to 5 its first branch, 6 to 9 its second. 10: reshape.
    assert found.moments == ((1, 1), (2, 9), (10, 10), (4, 4), (5, 5), (7, 7), (8, 8), (9, 9))
    names = {index: (found.first[index], found.last[index]) for index in range(len(model.tensors))}
    assert names[model.inputs[1]] == (0, 1)
    assert names[model.ops[0].outputs[0]] == (1, 9)
    assert names[model.outputs[0]] == (10, 10)
    assert names[3] == (-1, -1)  # touched by nothing
    assert np.all(np.array(found.times) == [1, 1, 1, 1, 1, 0, 0, 0])
    # An input that is an output lives from the first scope to the last.
    model = parse_model(FILES["output is input"])
    found = walk(model.ops, model.subgraphs, len(model.tensors), [0] * len(model.ops))
    assert (found.first[model.inputs[0]], found.last[model.inputs[0]]) == (0, 1)
    assert model.inputs[0] in model.outputs
