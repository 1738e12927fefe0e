"""Costs of an update: hand arithmetic, a second count by walking forward and backward, and properties that any update must have."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from test_any_graph import close, random_graph

from tinynas.arch import Arch, ConvLayer, MBConv, load_arch
from tinynas.cost import estimate
from tinynas.cost.backward import ARITHMETICS, UpdateCost, estimate_update, gradients_needed
from tinynas.cost.memory import aligned, buffers_of, greedy, written_over
from tinynas.cost.runtimes import RUNTIMES, most_scratch
from tinynas.cost.updates import (
    Part,
    Update,
    biases_of,
    columns_of,
    full_update,
    inputs_part,
    last_biases,
    last_layers,
    outputs_part,
    weighted_of,
    whole,
)
from tinynas.cost.work import from_graph
from tinynas.errors import UserError
from tinynas.graph import WEIGHTED, Add, Builder, Graph, HardSwish, Mul, Pool2D, lower, outputs_of


def tiny() -> Graph:
    """4 x 4 x 3 -> convolution 3 x 3 to 8 channels, ReLU6 -> mean -> 2 classes."""
    build = Builder((4, 4, 3))
    return close(build, build.conv("conv", 0, 8, (3, 3), (1, 1), "relu6"), classes=2)


def row(cost: UpdateCost, name: str) -> dict[str, int]:
    return {key: value for key, value in next(r for r in cost.rows if r.name == name).to_json().items() if isinstance(value, int)}


# By hand


def test_all_of_two_operators_by_hand() -> None:
    cost = estimate_update(tiny(), full_update(tiny()))
    conv, fc = row(cost, "conv"), row(cost, "fc")
    assert (conv["parameters"], fc["parameters"]) == (3 * 8 * 9 + 8, 8 * 2 + 2)
    assert (conv["kept_bytes"], conv["mask_bytes"]) == (4 * 4 * 3, 4 * 4 * 8 // 8)
    assert (fc["kept_bytes"], fc["mask_bytes"]) == (8, 0)
    assert (conv["gradient_bytes"], row(cost, "pool")["gradient_bytes"], fc["gradient_bytes"]) == (4 * 128, 4 * 8, 4 * 2)
    assert (conv["weight_gradient_bytes"], fc["weight_gradient_bytes"]) == (4 * 224, 4 * 18)
    # Integers and float32 masters: 1 + 4 bytes a weight, 4 + 4 a bias.
    assert (conv["copies_bytes"], fc["copies_bytes"]) == (216 * 5 + 8 * 8, 16 * 5 + 2 * 8)
    # The gradient of an image is of no use, so the convolution passes none on.
    assert [(r.macs_forward, r.macs_inputs, r.macs_weights, r.macs_update) for r in cost.rows] == [
        (16 * 216, 0, 16 * 216, 224),
        (0, 0, 0, 0),
        (16, 16, 16, 18),
    ]
    assert cost.macs == 3456 + 16 + 16 + 3456 + 16 + 242
    # In the backward of the convolution: image, mask, gradient that arrived, that of the weights, both copies, the logits that are kept.
    assert cost.peak == "backward of conv"
    assert max(cost.live) == 48 + 16 + 512 + 896 + aligned(1144) + 96 + 16 == cost.head_bytes
    assert cost.ram_bytes == aligned(cost.head_bytes + cost.inference.tail_bytes)
    assert 0 in cost.work.pieces[-1].inputs  # the image itself: what is kept whole is not copied


def test_biases_by_hand() -> None:
    graph = tiny()
    update = Update({op.name: biases_of(op) for op in weighted_of(graph)})
    cost = estimate_update(graph, update, momentum=True)
    assert [r.kept_bytes for r in cost.rows] == [0, 0, 0]
    assert [r.mask_bytes for r in cost.rows] == [16, 0, 0]
    assert [r.optimizer_bytes for r in cost.rows] == [32, 0, 8]
    assert [r.macs_update for r in cost.rows] == [16, 0, 4]
    assert (cost.total("macs_weights"), cost.total("macs_inputs")) == (0, 16)
    assert cost.parameters == 10


def test_the_classifier_alone_needs_no_way_back() -> None:
    cost = estimate_update(tiny(), last_layers(tiny(), 1))
    assert [r.on_path for r in cost.rows] == [False, False, True]
    assert cost.total("mask_bytes") == cost.total("macs_inputs") == 0
    assert cost.total("kept_bytes") == 8


def test_channels_of_outputs_keep_the_whole_input_and_those_of_inputs_a_part() -> None:
    graph = tiny()
    conv = weighted_of(graph)[0]
    rows, columns = (estimate_update(graph, Update({"conv": part})) for part in (outputs_part(conv, [1, 6]), inputs_part(conv, [2])))
    assert row(rows, "conv")["kept_bytes"] == 48
    assert row(rows, "conv")["parameters"] == 2 * 27 + 2
    assert row(rows, "conv")["macs_weights"] == 16 * 2 * 27
    assert row(columns, "conv")["kept_bytes"] == 16
    assert row(columns, "conv")["parameters"] == 8 * 9 + 8
    assert row(columns, "conv")["macs_weights"] == 16 * 8 * 9


def test_a_depthwise_convolution_keeps_the_channels_that_are_updated() -> None:
    build = Builder((6, 6, 8))
    graph = close(build, build.depthwise("dw", 0, (3, 3), (1, 1), "relu6"))
    dw = weighted_of(graph)[0]
    for part in (outputs_part(dw, [0, 3, 7]), inputs_part(dw, [0, 3, 7])):
        assert row(estimate_update(graph, Update({"dw": part})), "dw")["kept_bytes"] == 3 * 36
    assert columns_of(dw) == 1


@pytest.mark.parametrize(("kernel", "each"), [((16, 16), 1), ((17, 16), 2)])
def test_the_place_of_a_maximum_takes_a_byte_for_as_many_places_as_a_byte_tells(kernel: tuple[int, int], each: int) -> None:
    build = Builder((17, 16, 3))
    graph = close(build, build.pool("max", build.pointwise("conv", 0, 4, "none"), "max", kernel, (1, 1)))
    assert row(estimate_update(graph, full_update(graph)), "max")["mask_bytes"] == each * (17 - kernel[0] + 1) * 4


def test_a_plan_is_never_above_the_greedy_one_and_below_it_where_that_leaves_gaps() -> None:
    better = 0
    for graph in GRAPHS:
        cost = estimate_update(graph, full_update(graph), momentum=True)
        _, head = greedy(buffers_of(cost.work, RUNTIMES["tflm"])[0])
        assert max(cost.live) <= cost.head_bytes <= head
        better += cost.head_bytes < head
    assert better


def test_element_types_are_what_the_table_says() -> None:
    graph = tiny()
    update = full_update(graph)
    costs = {name: estimate_update(graph, update, arithmetic=name, momentum=True) for name, one in ARITHMETICS.items() if not one.apart}
    assert row(costs["int8"], "conv")["gradient_bytes"] == 128
    assert row(costs["int32"], "conv")["gradient_bytes"] == row(costs["float32"], "conv")["gradient_bytes"] == 512
    paper = row(costs["mcunetv3"], "conv")
    assert (paper["copies_bytes"], paper["optimizer_bytes"], paper["weight_gradient_bytes"]) == (216 + 8 * 4, 0, 224)
    assert row(costs["float32"], "conv")["optimizer_bytes"] == 4 * 224
    build = Builder((4, 4, 3))
    linear = close(build, build.conv("conv", 0, 8, (3, 3), (1, 1), "none"))
    masks = [row(estimate_update(linear, full_update(linear), arithmetic=name), "conv")["mask_bytes"] for name in ("int8", "mcunetv3")]
    assert masks == [0, 16]


def test_a_sum_of_gradients_lives_through_the_step_where_several_inputs_make_one() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    update = last_layers(graph, 4)
    one, many = (estimate_update(graph, update, batch=batch) for batch in (1, 8))
    sums = sum(aligned(r.weight_gradient_bytes) for r in one.rows)
    assert many.live[0] == one.live[0] + sums
    assert many.macs == 8 * (one.macs - one.total("macs_update")) + one.total("macs_update")


# Properties


GRAPHS = [random_graph(seed) for seed in range(12) if seed != 2] + [
    lower(
        Arch(
            height=16,
            width=12,
            classes=3,
            stem=ConvLayer(out=8, stride=2),
            blocks=(MBConv(out=8, expand=2, residual=True, attention=attention, act=act),),  # type: ignore[arg-type]
        )
    )
    for attention in ("none", "se", "spatial")
    for act in ("relu6", "h_swish")
]


def random_update(graph: Graph, rng: random.Random) -> Update:
    parts = {}
    for op in weighted_of(graph):
        some = rng.sample(range(outputs_of(op)), rng.randint(0, outputs_of(op)))
        columns = rng.sample(range(columns_of(op)), rng.randint(0, columns_of(op)))
        parts[op.name] = rng.choice(
            [Part(), biases_of(op), whole(op), outputs_part(op, some), Part(tuple(sorted(some)), tuple(sorted(columns)))]
        )
    return Update(parts)


def more(graph: Graph, update: Update, rng: random.Random) -> Update:
    """``update`` and something else."""
    other = random_update(graph, rng)
    parts = {}
    for op in weighted_of(graph):
        mine, theirs = update.of(op), other.of(op)
        rows, columns, biases = (tuple(sorted({*getattr(mine, side), *getattr(theirs, side)})) for side in ("rows", "columns", "biases"))
        parts[op.name] = Part(rows, columns, biases)
    return Update(parts)


@pytest.mark.parametrize("graph", GRAPHS, ids=range(len(GRAPHS)))
def test_updating_more_never_costs_less(graph: Graph) -> None:
    rng = random.Random(len(graph.ops))
    for _ in range(4):
        update = random_update(graph, rng)
        larger = more(graph, update, rng)
        assert larger.covers(update)
        one, two = (estimate_update(graph, each, momentum=True, planned=False) for each in (update, larger))
        assert one.head_bytes <= two.head_bytes
        assert one.ram_bytes <= two.ram_bytes
        assert one.macs <= two.macs
        for name in ("kept_bytes", "mask_bytes", "gradient_bytes", "copies_bytes", "optimizer_bytes"):
            assert one.total(name) <= two.total(name), name
        assert one.parameters <= two.parameters


@pytest.mark.parametrize("runtime", [name for name, kind in RUNTIMES.items() if kind.builds])
def test_nothing_updated_is_inference(runtime: str) -> None:
    for graph in [GRAPHS[0], GRAPHS[-1], lower(load_arch("mcunet-tiny2"))]:
        cost, plain = estimate_update(graph, Update(), runtime=runtime), estimate(graph, runtime)
        assert (cost.ram_bytes, cost.head_bytes, cost.macs) == (plain.sram_bytes, plain.head_bytes, plain.macs)
        assert (cost.parameters, cost.extra_bytes, cost.share) == (0, 0, 0.0)
        assert cost.live == plain.live
        empty = Update({op.name: Part() for op in weighted_of(graph)})
        assert estimate_update(graph, empty, runtime=runtime).ram_bytes == plain.sram_bytes


@pytest.mark.parametrize("graph", GRAPHS[::3], ids=range(len(GRAPHS[::3])))
def test_in_a_plan_nothing_that_is_alive_overlaps(graph: Graph) -> None:
    cost = estimate_update(graph, random_update(graph, random.Random(1)), momentum=True)
    buffers, tensors = buffers_of(cost.work, RUNTIMES["tflm"])
    placed = [(cost.offsets[t], b) for t, b in zip(tensors, buffers, strict=True) if t >= 0 and cost.offsets[t] >= 0]
    over = {frozenset(pair) for pair in written(cost)}
    ids = [t for t in tensors if t >= 0 and cost.offsets[t] >= 0]
    for i, (at, one) in enumerate(placed):
        assert at + one.size <= cost.head_bytes
        for j, (other_at, other) in enumerate(placed[:i]):
            together = one.first <= other.last and other.first <= one.last
            apart = at + one.size <= other_at or other_at + other.size <= at
            assert not together or apart or frozenset((ids[i], ids[j])) in over
    assert max(cost.live) <= cost.head_bytes


def written(cost: UpdateCost) -> Iterable[tuple[int, int]]:
    """Pairs of tensors of which one may lie over the other."""
    return [(cost.work.pieces[index].outputs[0], source) for index, source in written_over(cost.work, RUNTIMES["tflm"]).items()]


# A second route: who is in memory when, by walking there and back


def walked(graph: Graph, update: Update, gradient: int) -> list[int]:
    """Bytes alive in each step with batch 1 and float32 masters, no scratch and nothing in place: from first principles."""
    count = len(graph.ops)
    forward_reads = [set(op.inputs) for op in graph.ops]
    producer = {op.output: i for i, op in enumerate(graph.ops)}

    def reaches(tensor: int) -> bool:  # whether anything updated lies on a way to it
        if tensor not in producer:
            return False
        op = graph.ops[producer[tensor]]
        own = isinstance(op, WEIGHTED) and bool(update.of(op).biases or (update.of(op).rows and update.of(op).columns))
        return own or any(reaches(t) for t in op.inputs)

    size = [t.elements for t in graph.tensors]
    steps = [f"f{i}" for i in range(count)] + ["loss"] + [f"b{i}" for i in reversed(range(count)) if reaches(graph.ops[i].output)]
    when = {step: at for at, step in enumerate(steps)}
    if not reaches(graph.logits):
        steps = steps[:count]
    born: dict[str, int] = {}
    used: dict[str, list[int]] = {}
    weight: dict[str, int] = {}

    def thing(name: str, size: int, made: int, *reads: int) -> None:
        born.setdefault(name, made)
        weight[name] = -(-size // 16) * 16
        used.setdefault(name, [made]).extend(reads)

    for t in range(len(graph.tensors)):
        thing(f"t{t}", size[t], when[f"f{producer[t]}"] if t in producer else 0, *[i for i in range(count) if t in forward_reads[i]])
    thing(f"t{graph.logits}", size[graph.logits], count - 1, len(steps) - 1)
    if len(steps) > count:
        again: dict[int, set[int]] = {}
        readers: dict[int, list[int]] = {}
        alias: dict[int, str] = {graph.logits: f"g{graph.logits}"}
        thing(f"g{graph.logits}", gradient * size[graph.logits], when["loss"])
        for step in steps[count + 1 :]:
            i = int(step[1:])
            op, at = graph.ops[i], when[step]
            used[alias[op.output]].append(at)
            if getattr(op, "act", "none") != "none":
                thing(f"m{i}", -(-size[op.output] // 8), i, at)
            if isinstance(op, Pool2D) and op.op == "max" and reaches(op.inputs[0]):
                thing(f"m{i}", size[op.output], i, at)
            if isinstance(op, WEIGHTED):
                part = update.of(op)
                weights = part.weights_of(op)
                if weights or part.biases:
                    thing(f"w{i}", 4 * (weights + len(part.biases)), at)
                    thing(f"c{i}", 5 * weights + 8 * len(part.biases), 0, len(steps) - 1)
                if weights:
                    channels = part.rows if op.kind == "dw" else part.columns
                    again.setdefault(op.inputs[0], set()).update(channels)
                    readers.setdefault(op.inputs[0], []).append(at)
            if isinstance(op, Mul):
                for mine, other in ((0, 1), (1, 0)):
                    if reaches(op.inputs[mine]):
                        again.setdefault(op.inputs[other], set()).update(range(graph.shape(op.inputs[other])[-1]))
                        readers.setdefault(op.inputs[other], []).append(at)
            if isinstance(op, HardSwish) and reaches(op.inputs[0]):
                again.setdefault(op.inputs[0], set()).update(range(graph.shape(op.inputs[0])[-1]))
                readers.setdefault(op.inputs[0], []).append(at)
            free = isinstance(op, Add | Mul | HardSwish)
            for t in op.inputs:
                if reaches(t):
                    if t in alias:
                        used[alias[t]].append(at)
                    elif free and size[t] == size[op.output]:
                        alias[t], free = alias[op.output], False
                    else:
                        alias[t] = f"g{t}"
                        thing(f"g{t}", gradient * size[t], at)
        for t, channels in again.items():
            if len(channels) == graph.shape(t)[-1]:
                used[f"t{t}"].extend(readers[t])
            else:
                last = max(i for i in range(count) if t in forward_reads[i])
                thing(f"p{t}", size[t] // graph.shape(t)[-1] * len(channels), last + 1, *readers[t])
    return [sum(weight[name] for name in weight if born[name] <= at <= max(used[name])) for at in range(len(steps))]


@pytest.mark.parametrize("graph", GRAPHS, ids=range(len(GRAPHS)))
def test_what_is_alive_equals_a_walk_there_and_back(graph: Graph) -> None:
    rng = random.Random(7 * len(graph.ops))
    for _ in range(3):
        update = random_update(graph, rng)
        cost = estimate_update(graph, update, planned=False)
        found, work = list(cost.live), cost.work
        by_name = {op.name: op for op in graph.ops}
        ordered = replace(graph, ops=tuple(by_name[r.name] for r in cost.rows))  # as the plan of inference runs them
        runtime = RUNTIMES["tflm"]
        for index, piece in enumerate(work.pieces):
            found[index] -= most_scratch(runtime, piece)
        for index in written_over(work, runtime):  # a gate's product over its map in forward
            found[index] += aligned(work.sizes[work.pieces[index].outputs[0]])
        assert found == walked(ordered, update, 4)


def test_the_way_back_ends_at_the_first_operator_that_is_updated() -> None:
    graph = lower(load_arch("mcunet-tiny2"))
    ops = weighted_of(graph)
    for count in (1, 5, len(ops)):
        cost = estimate_update(graph, last_biases(graph, count), planned=False)
        path = [r.name for r in cost.rows if r.on_path]
        assert path[0] == ops[len(ops) - count].name
        first = next(r for r in cost.rows if r.on_path)
        assert not first.passes
        assert {graph.ops[r.index].output for r in cost.rows if r.on_path} == gradients_needed(graph, last_biases(graph, count))


# Faults and forms


def test_faults_are_named() -> None:
    graph = tiny()
    for parts, word in (
        ({"cnv": Part()}, "no weighted operator 'cnv'"),
        ({"conv": Part((0, 8), (0,))}, "from 0 to 7"),
        ({"conv": Part((0,), (3,))}, "from 0 to 2"),
        ({"conv": Part((1, 0), (0,))}, "sorted"),
        ({"fc": Part(biases=(0, 0))}, "each once"),
    ):
        with pytest.raises(UserError, match=word):
            estimate_update(graph, Update(parts))
    with pytest.raises(UserError, match="use a runtime of TFLM"):
        estimate_update(graph, Update(), runtime="tinyengine")
    with pytest.raises(UserError, match="at least 1"):
        estimate_update(graph, Update(), batch=0)
    with pytest.raises(UserError, match="float32, int32"):
        estimate_update(graph, Update(), arithmetic="float16")


def test_an_update_survives_json() -> None:
    graph = GRAPHS[-1]
    update = random_update(graph, random.Random(3))
    again = Update.read(update.to_json(graph), graph)
    assert all(again.of(op) == update.of(op) or update.of(op).nothing for op in weighted_of(graph))
    with pytest.raises(UserError, match="no part of this network"):
        Update.read({"stem": {"rows": "all"}}, graph)


def test_words_say_what_is_updated() -> None:
    conv = weighted_of(tiny())[0]
    parts = (Part(), biases_of(conv), whole(conv), outputs_part(conv, [1]), inputs_part(conv, [0, 1]))
    assert [part.words(conv) for part in parts] == ["nothing", "biases", "all", "1 of 8 output channels", "2 of 3 input channels"]
    assert from_graph(tiny()).pieces[0].macs == 3456
