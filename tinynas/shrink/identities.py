"""Operators that give back what they read, and operators whose results nobody reads."""

from __future__ import annotations

import numpy as np

from tinynas.shrink.arithmetic import Range
from tinynas.shrink.channels import Look, look
from tinynas.shrink.model import Op, Subgraph, Tensor
from tinynas.shrink.rules import RULES, paddings
from tinynas.shrink.weighted import WEIGHTED

#: Operators without effect but their outputs: they may go where nobody reads those.
_PURE = frozenset(RULES) | WEIGHTED | {"SHAPE", "STRIDED_SLICE", "SLICE", "PACK", "UNPACK", "SPLIT", "SPLIT_V", "TRANSPOSE", "CAST",
    "GATHER", "DEQUANTIZE", "SOFTMAX", "TRANSPOSE_CONV", "SUM", "PADV2", "FILL", "DIV", "RSQRT", "SQUARED_DIFFERENCE"}  # fmt: skip
#: Operators of one activation, beside constants, whose values are followed element by element.
_ELEMENTWISE = frozenset({"ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "QUANTIZE"})


def without_identities(graph: Subgraph) -> list[Op]:
    """Take out of ``graph`` what does nothing; the operators that are gone."""
    gone: list[Op] = []
    _fix_shapes(graph)
    known: list[Look] = []  # what tensors hold, once it is asked for: taking out what does nothing changes none of it
    needed: set[int] = set()  # operators that were found to do something
    while found := _first_identity(graph, known, needed):
        op, source = found
        graph.ops = [other for other in graph.ops if other is not op]
        _rewire(graph, op.outputs[0], source)
        gone.append(op)
    while dead := [op for op in graph.ops if _dead(graph, op)]:
        graph.ops = [op for op in graph.ops if not any(op is other for other in dead)]
        gone += dead
    return gone


def _fix_shapes(graph: Subgraph) -> None:
    """A RESHAPE whose shape is computed gets the one that the file gives its output: TFLM takes no other."""
    for op in graph.ops:
        if op.kind != "RESHAPE" or len(op.inputs) != 2 or op.inputs[1] < 0 or len(op.outputs) != 1:
            continue
        shape, source, target = (graph.tensors[t] for t in (op.inputs[1], op.inputs[0], op.outputs[0]))
        if (
            shape.constant
            or shape.dtype != "int32"
            or min((*target.dims, *source.dims), default=0) < 1
            or source.elements != target.elements
        ):
            continue
        fixed = Tensor(None, (len(target.dims),), "int32", np.array(target.dims, "<i4"))
        graph.tensors.append(fixed)
        op.inputs[1] = len(graph.tensors) - 1


def _dead(graph: Subgraph, op: Op) -> bool:
    read = {t for other in graph.ops for t in (*other.inputs, *other.intermediates)} | graph.ends
    variables = any(graph.tensors[t].is_variable for t in (*op.inputs, *op.outputs) if t >= 0)
    return op.kind in _PURE and not variables and not op.intermediates and not read & set(op.outputs)


def _first_identity(graph: Subgraph, known: list[Look], needed: set[int]) -> tuple[Op, int] | None:
    """(an operator that does nothing and may go, the tensor that stands for its output)."""
    for op in graph.ops:
        if len(op.outputs) != 1 or not op.inputs or min(op.inputs) < 0 or op.intermediates:
            continue
        source = _passes(graph, op)
        if source is None and op.kind in _ELEMENTWISE and op.number not in needed:
            known += [] if known else [look(graph)]
            source = _gives_back(graph, op, known[0])
        if source is not None and _may_stand_for(graph, source, op.outputs[0]):
            return op, source
        needed.add(op.number)
    return None


def _alike(source: Tensor, target: Tensor) -> bool:
    same = source.dtype == target.dtype and source.dims == target.dims and source.details[0] == target.details[0] == 0
    return same and np.array_equal(source.scale, target.scale) and np.array_equal(source.zero_point, target.zero_point)


def _passes(graph: Subgraph, op: Op) -> int | None:
    """The input that ``op`` passes on whatever it holds; None where it may change it."""
    source, target = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if not _alike(source, target):
        return None
    options = op.options
    match op.kind:
        case "RESHAPE" | "SQUEEZE" | "EXPAND_DIMS":
            idle = True
        case "PAD":
            idle = paddings(graph, op) is False
        case "CONCATENATION":
            idle = len(op.inputs) == 1 and options is not None and options.fusedActivationFunction == 0
        case "TRANSPOSE":
            order = graph.tensors[op.inputs[1]].array if len(op.inputs) == 2 else None
            idle = order is not None and order.reshape(-1).tolist() == list(range(len(source.dims)))
        case "MAX_POOL_2D" | "AVERAGE_POOL_2D":
            window = () if options is None else (options.filterHeight, options.filterWidth, options.strideH, options.strideW)
            idle = window == (1, 1, 1, 1) and options.fusedActivationFunction == 0
        case _:
            idle = False
    return op.inputs[0] if idle else None


def _gives_back(graph: Subgraph, op: Op, known: Look) -> int | None:
    """The input that an elementwise ``op`` gives back for everything that it can hold: each value of each channel is tried."""
    rule, target = RULES[op.kind], graph.tensors[op.outputs[0]]
    read = rule.read(op)
    moving = [t for t in read if graph.tensors[t].array is None]
    if len(moving) != 1 or not all(graph.tensors[t].int8 for t in (*read, *op.outputs)) or not target.dims:
        return None
    source = moving[0]
    held = known.range(source)
    constants = {t: known.range(t) for t in read if t != source}
    if not _alike(graph.tensors[source], target) or not all(constant.constant.all() for constant in constants.values()):
        return None
    for value in range(int(held.low.min()), int(held.high.max()) + 1):
        point = Range(np.full(target.channels, value), np.full(target.channels, value))
        given = rule.holds(graph, op, [constants.get(t, point) for t in read])
        if given is None:
            return None
        can = (held.low <= value) & (value <= held.high)
        if (can & ((given.low != value) | (given.high != value))).any():
            return None
    return source


def _may_stand_for(graph: Subgraph, source: int, target: int) -> bool:
    if any(graph.tensors[t].is_variable for t in (source, target)):
        return False
    made = any(source in op.outputs for op in graph.ops)
    return target not in graph.ends or (source not in graph.ends and made)


def _rewire(graph: Subgraph, target: int, source: int) -> None:
    # The outside keeps its tensor: what wrote the other then writes it.
    kept, dropped = (target, source) if target in graph.ends else (source, target)
    for op in graph.ops:
        op.inputs = [kept if t == dropped else t for t in op.inputs]
        op.outputs = [kept if t == dropped else t for t in op.outputs]
