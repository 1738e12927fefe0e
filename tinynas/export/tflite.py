"""Writes .tflite files: canonical (same input, same bytes), small, without TensorFlow.

A .tflite is a flatbuffer of TensorFlow Lite's schema, version 3. It is written front to back, parents before
children, in the order that :mod:`tinynas.cost.flash` adds up; the table layouts are taken from there. What makes
it small: one vtable per layout, one options table per distinct options, one vector of zero points per channel
count, shapes shared between an operator's input and output, Buffer tables in the padding between constants.

In the file, activations have the ids they have in the graph; weights, biases and axes follow in operator order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from tinynas import __version__
from tinynas.arch import Activation
from tinynas.cost.flash import (
    BUFFER,
    EMPTY,
    END_FORMS,
    ENDS,
    IO_NAMES,
    METADATA,
    METADATA_NAME,
    MODEL,
    MODEL_METADATA,
    OP_FORMS,
    OPERATOR,
    OPERATOR_CODE,
    OPERATOR_CODED,
    OPERATOR_PLAIN,
    PLAN_NAME,
    QUANTIZATION,
    QUANTIZATION_LAST,
    SUBGRAPH,
    Flavour,
    Form,
    Io,
    OpForm,
    OptionKey,
    bias_name,
    houses_table,
    metadata_json,
    op_terms,
    options_form,
    paired_outputs,
    same_window,
    tensor_form,
    weights_name,
)
from tinynas.cost.memory import MemoryPlan
from tinynas.cost.schema import ACTIVATIONS, VALID
from tinynas.errors import ArchError, InternalError
from tinynas.export.formats import MODEL_FILE, Made
from tinynas.files import write_atomic
from tinynas.graph import (
    WEIGHTED,
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    HardSwish,
    Mean,
    Mul,
    Op,
    Pool2D,
    Resize,
    Weighted,
    Windowed,
    padded_as_same,
    same_padding,
    zeros_behind,
)
from tinynas.quantize.grid import QuantizedGraph, TensorQuant, largest, random_quantized

SCHEMA_VERSION = 3
# Numbers of TensorFlow Lite's schema.
_INT8, _UINT8, _INT32, _INT4 = 9, 3, 2, 17
#: Bits of a weight -> the type of its tensor.
_WEIGHT_TYPES: dict[int, int] = {8: _INT8, 4: _INT4}
_NUMBERS: dict[Activation, int] = {act: number for number, act in ACTIVATIONS.items()}
_CHANNELS_LAST = 3


@dataclass(frozen=True)
class ModelMeta:
    """What a file says about itself, and the choices of its form."""

    arch_id: str
    labels: tuple[str, ...] = ()
    version: str = __version__
    io: Io = "int8"
    flavour: Flavour = "full"
    input_rotation: int = 0
    """Degrees by which images must be turned before the network: 0, or 180 for weights trained with symmetric padding."""


class _Item:
    """A piece of the file: its bytes, with holes for offsets to other pieces."""

    __slots__ = ("at", "data", "refs", "vtable")

    def __init__(self, data: bytes | bytearray, refs: Iterable[tuple[int, _Item]] = (), vtable: bytes | None = None) -> None:
        self.data, self.refs, self.vtable = data, list(refs), vtable
        self.at = -1


_Value: TypeAlias = "int | _Item | None"


def _table(form: Form, values: Mapping[int, _Value]) -> _Item:
    data, refs = bytearray(form.size), []
    offsets = form.offsets()
    for number, size in form.fields:
        value, at = values[number], offsets[number]
        if isinstance(value, _Item):
            refs.append((at, value))
        elif value is not None:
            data[at : at + size] = value.to_bytes(size, "little", signed=value < 0)
    return _Item(data, refs, form.vtable())


def _ints(values: Sequence[int]) -> _Item:
    return _Item(struct.pack(f"<I{len(values)}i", len(values), *values))


def _list(items: Sequence[_Item]) -> _Item:
    return _Item(bytearray(struct.pack("<I", len(items)) + bytes(4 * len(items))), [(4 + 4 * i, item) for i, item in enumerate(items)])


def _text(text: str) -> _Item:
    data = text.encode()
    return _Item((struct.pack("<I", len(data)) + data + b"\0").ljust((len(data) + 8) & ~3, b"\0"))


def _zeros(count: int) -> _Item:
    return _Item(struct.pack("<I", count) + bytes(8 * count))


def _zero_point(value: int) -> _Item:
    return _Item(struct.pack("<Iq", 1, value))


def _floats(values: NDArray[np.float32] | Sequence[float]) -> _Item:
    array = np.asarray(values, dtype="<f4").reshape(-1)
    return _Item(struct.pack("<I", array.size) + array.tobytes())


def _content(data: bytes) -> _Item:
    return _Item(struct.pack("<I", len(data)) + data + bytes(-len(data) % 4))


@dataclass
class _Section:
    """Pieces that lie one behind the other."""

    items: list[_Item] = field(default_factory=list)

    def add(self, item: _Item) -> _Item:
        self.items.append(item)
        return item


class _Writer:
    """Collects the pieces by section and lays them out."""

    def __init__(self) -> None:
        self.tables, self.leaves, self.quantisation, self.scales = _Section(), _Section(), _Section(), _Section()
        self.contents: list[tuple[_Item, _Item]] = []  # (Buffer table, content)

    def buffer(self, data: bytes) -> int:
        """Keep ``data``; gives its index in the list of buffers (0 is the empty one)."""
        content = _content(data)
        self.contents.append((_table(BUFFER, {0: content}), content))
        return len(self.contents)

    def finish(self, root: _Item) -> bytes:
        """The file."""
        order = sorted(range(len(self.contents)), key=lambda i: -houses_table(len(self.contents[i][1].data) - 4))
        housed: dict[int, _Item] = {}
        loose = []
        for position, i in enumerate(order):
            table = self.contents[i][0]
            before = order[position - 1]
            if position and houses_table(len(self.contents[before][1].data) - 4):
                housed[before] = table
            else:
                loose.append(table)
        front = self.tables.items + self.leaves.items + loose
        everything = front + self.quantisation.items + self.scales.items + [item for pair in self.contents for item in pair]
        vtables: dict[bytes, int] = {}
        at = 8
        for item in everything:
            if item.vtable is not None and item.vtable not in vtables:
                vtables[item.vtable] = at
                at += len(item.vtable)
        at = _place(front, (at + 3) & ~3)
        at = _place(self.quantisation.items, (at + 7) & ~7)
        at = _place(self.scales.items, at)
        for i in order:
            at = _place([self.contents[i][1]], at + (12 - at) % 16)
            if i in housed:
                at = _place([housed[i]], at)
        out = bytearray(at + (12 - at) % 16)
        struct.pack_into("<I4s", out, 0, root.at, b"TFL3")
        for vtable, position in vtables.items():
            out[position : position + len(vtable)] = vtable
        for item in everything:
            out[item.at : item.at + len(item.data)] = item.data
            if item.vtable is not None:
                struct.pack_into("<i", out, item.at, item.at - vtables[item.vtable])
            for hole, target in item.refs:
                offset = target.at - item.at - hole
                if target.at < 0 or offset <= 0:
                    raise InternalError("a flatbuffer offset points backwards", "please report this with the architecture")
                struct.pack_into("<I", out, item.at + hole, offset)
        return bytes(out)


def _place(items: Iterable[_Item], at: int) -> int:
    for item in items:
        item.at = at
        at += len(item.data)
    return at


def packed_weights(weights: NDArray[np.int8], bits: int) -> bytes:
    """``weights`` as a file holds them: a byte each, or two in a byte, the first in its low half; an odd one leaves the last half 0.

    Raises InternalError for integers that ``bits`` do not hold.
    """
    most = largest(bits)
    if weights.size and int(np.abs(weights.astype(np.int16)).max()) > most:
        raise InternalError(f"weights reach beyond the {most} of {bits} bits", "please report this with the architecture")
    flat = weights.astype(np.int8).reshape(-1)
    if bits == 8:
        return flat.tobytes()
    halves = np.zeros(flat.size + flat.size % 2, dtype=np.uint8)
    halves[: flat.size] = flat.view(np.uint8) & 15
    return (halves[0::2] | halves[1::2] << 4).astype(np.uint8).tobytes()


def dummy_file(
    graph: Graph,
    *,
    labels: Sequence[str] | None = None,
    io: Io = "int8",
    flavour: Flavour = "full",
    plan: MemoryPlan | None = None,
    seed: int = 0,
) -> bytes:
    """A file of ``graph`` with random weights and plausible grids: it runs and costs what a trained one will."""
    names = tuple(str(i) for i in range(graph.classes)) if labels is None else tuple(labels)
    arch_id = graph.arch.id if graph.arch is not None else "0" * 10
    return serialize(random_quantized(graph, seed=seed), ModelMeta(arch_id, names, io=io, flavour=flavour), plan)


def serialize(qgraph: QuantizedGraph, meta: ModelMeta, plan: MemoryPlan | None = None) -> bytes:
    """The .tflite of ``qgraph``. The same arguments give the same bytes, on every machine.

    ``plan`` is written as TFLM's offline memory plan, and its operator order becomes the file's.
    Raises ArchError for paddings that TFLite has no word for, and for weights of two bits, which no kernel of TFLM reads.
    """
    unwritten = [op.name for op in qgraph.graph.ops if isinstance(op, WEIGHTED) and op.weight_bits not in _WEIGHT_TYPES]
    if unwritten:
        raise ArchError(
            f"weights of {' or '.join(map(str, sorted(_WEIGHT_TYPES, reverse=True)))} bits can be written into a .tflite; "
            f"those of {', '.join(unwritten[:3])}{' and others' if len(unwritten) > 3 else ''} have 2",
            "TFLM has no kernel for weights of 2 bits: give them 4, or compile the network (runtime: compiled)",
        )
    return _Model(qgraph, meta, plan).bytes()


def storable(qgraph: QuantizedGraph) -> QuantizedGraph:
    """``qgraph`` as a .tflite can hold it, with the same outputs: weights of 2 bits in 4 (the same integers), and kernels padded in front
    alone with rows of zeros behind (:func:`tinynas.graph.zeros_behind`)."""
    return replace(with_zeros_behind(qgraph), graph=storable_graph(qgraph.graph))


def with_zeros_behind(qgraph: QuantizedGraph) -> QuantizedGraph:
    """``qgraph`` with kernels that TFLite's SAME pads; itself where it needs none."""
    behind = zeros_behind(qgraph.graph)
    if not behind:
        return qgraph
    weights = dict(qgraph.weights)
    for name, rows in behind.items():
        weights[name] = np.pad(weights[name], ((0, 0), (0, rows), (0, 0), (0, 0)))
    return replace(qgraph, graph=padded_as_same(qgraph.graph), weights=weights)


def storable_graph(graph: Graph) -> Graph:
    """``graph`` with weights of 4 bits where it has 2, and kernels that SAME pads; itself where nothing changes."""
    graph = padded_as_same(graph)
    few = [isinstance(op, WEIGHTED) and op.weight_bits not in _WEIGHT_TYPES for op in graph.ops]
    if not any(few):
        return graph
    ops = [replace(op, weight_bits=4) if narrow and isinstance(op, WEIGHTED) else op for narrow, op in zip(few, graph.ops, strict=True)]
    return replace(graph, ops=tuple(ops))


class _Model:
    def __init__(self, qgraph: QuantizedGraph, meta: ModelMeta, plan: MemoryPlan | None) -> None:
        self.qgraph, self.meta, self.plan = qgraph, meta, plan
        self.graph: Graph = qgraph.graph
        self.full = meta.flavour == "full"
        self.ops = self.graph.ops if plan is None else tuple(self.graph.ops[i] for i in plan.order)
        self.out = _Writer()
        self.tensors: list[_Item] = []
        self.operators: list[_Item] = []
        self.options: dict[tuple[Form, bytes], _Item] = {}
        self.option_items = _Section()
        self.shapes: dict[tuple[int, ...], _Item] = {}
        self.zero_owners: dict[int, str] = {}
        for op in sorted(self.ops, key=lambda op: isinstance(op, FullyConnected)):
            if isinstance(op, WEIGHTED):
                self.zero_owners.setdefault(qgraph.weight_scales[op.name].size, op.name)
        self.zeros = {count: _zeros(count) for count in self.zero_owners}
        self.axes: tuple[_Item, int] | None = None
        self.empty = _table(EMPTY, {})
        kinds = {op.kind for op in self.ops}
        self.codes: dict[str, OpForm] = {kind: form for kind, form in OP_FORMS.items() if kind in kinds}
        self.codes |= {kind: form for kind, form in END_FORMS.items() if kind in ENDS[meta.io]}
        self.code_index = {kind: index for index, kind in enumerate(self.codes)}

    def bytes(self) -> bytes:
        """Everything put together: parents first."""
        leaves = self.out.leaves
        self._activations()
        inputs, outputs = self._body()
        narrow = {op.kind for op in self.ops if isinstance(op, WEIGHTED) and op.weight_bits < 8}
        codes = [
            _table(OPERATOR_CODE, {0: form.code, 2: form.narrow if kind in narrow else form.version}) for kind, form in self.codes.items()
        ]
        metadata = self._metadata()
        lists = {
            "tensors": _list(self.tensors),
            "operators": _list(self.operators),
            "codes": _list(codes),
            "buffers": _list([self.empty, *(table for table, _ in self.out.contents)]),
        }
        subgraph = _table(SUBGRAPH, {0: lists["tensors"], 1: inputs, 2: outputs, 3: lists["operators"]})
        subgraphs = _list([subgraph])
        fields: dict[int, _Value] = {0: SCHEMA_VERSION, 1: lists["codes"], 2: subgraphs, 4: lists["buffers"]}
        entries: list[_Item] = []
        if metadata:
            entries = [_list(metadata), *metadata]
            fields[6] = entries[0]
        root = _table(MODEL_METADATA if metadata else MODEL, fields)
        parents = [root, lists["codes"], subgraphs, lists["buffers"], *entries, *codes, subgraph]
        parents += [lists["tensors"], inputs, lists["operators"], *self.operators, *self.tensors, *self.option_items.items]
        self.out.tables.items = parents
        leaves.add(self.empty)
        return self.out.finish(root)

    # Tensors

    def _activations(self) -> None:
        graph, quants = self.graph, self.qgraph.tensors
        producers = {op.output: op for op in graph.ops}
        paired = paired_outputs(graph.ops)
        partners = {max(op.inputs): min(op.inputs) for op in graph.ops if isinstance(op, Add)}
        shapes: dict[int, _Item] = {}
        grids: dict[int, _Item] = {}
        for tensor, spec in enumerate(graph.tensors):
            op = producers.get(tensor)
            if op is not None and graph.shape(op.inputs[0]) == spec.shape:
                shapes[tensor] = shapes[op.inputs[0]]
            elif tensor in paired:
                shapes[tensor] = shapes[partners[tensor]]
            else:
                shapes[tensor] = self.out.leaves.add(_ints((1, *spec.shape)))
            grids[tensor] = grids[op.inputs[0]] if isinstance(op, Pool2D | Resize) else self._grid(quants[tensor])
            self._tensor(shapes[tensor], spec.name, _INT8, grids[tensor])
        self.io_shapes = shapes[graph.inputs[0]], shapes[graph.outputs[0]]

    def _grid(self, quant: TensorQuant) -> _Item:
        scale = self.out.scales.add(_floats([quant.scale]))
        zero_point = _zero_point(quant.zero_point)
        grid = self.out.quantisation.add(_table(QUANTIZATION, {2: scale, 3: zero_point}))
        self.out.quantisation.add(zero_point)
        return grid

    def _tensor(self, shape: _Item, name: str, dtype: int, grid: _Item | None, buffer: int = 0) -> int:
        form = tensor_form(name=self.full, buffer=buffer > 0, quantized=grid is not None, typed=dtype != 0)
        label = self.out.leaves.add(_text(name)) if self.full else None
        self.tensors.append(_table(form, {0: shape, 1: dtype, 2: buffer, 3: label, 4: grid}))
        return len(self.tensors) - 1

    def _zero_points(self, op: Op, count: int, shape: _Item) -> _Item:
        # The weight shape of the first operator with this many channels lies before the zero points and aligns them.
        if self.zero_owners[count] == op.name:
            self.out.quantisation.items += [shape, self.zeros[count]]
        else:
            self.out.leaves.add(shape)
        return self.zeros[count]

    def _weights(self, op: Weighted) -> tuple[int, int]:
        name, q = op.name, self.qgraph
        weights, scales, biases = q.weights[name], q.weight_scales[name], q.biases[name]
        out, leaves = self.out, self.out.leaves
        last = isinstance(op, DepthwiseConv2D)
        values: dict[int, _Value] = {2: out.scales.add(_floats(scales)), 6: _CHANNELS_LAST}
        shape = _ints(weights.shape)
        zero_points = values[3] = self._zero_points(op, scales.size, shape)
        grid = leaves.add(_table(QUANTIZATION_LAST if last else QUANTIZATION, values))
        content = out.buffer(packed_weights(weights, op.weight_bits))
        weight = self._tensor(shape, weights_name(op.name), _WEIGHT_TYPES[op.weight_bits], grid, content)
        bias_grid = None
        if self.full:
            bias_scales = out.scales.add(_floats(self.qgraph.bias_scales(op.name)))
            bias_grid = leaves.add(_table(QUANTIZATION, {2: bias_scales, 3: zero_points}))
        bias_shape = self._shape((biases.size,))
        return weight, self._tensor(bias_shape, bias_name(op.name), _INT32, bias_grid, out.buffer(biases.astype("<i4").tobytes()))

    def _shape(self, shape: tuple[int, ...]) -> _Item:
        if shape not in self.shapes:
            self.shapes[shape] = self.out.leaves.add(_ints(shape))
        return self.shapes[shape]

    # Operators

    def _body(self) -> tuple[_Item, _Item]:
        graph, io, leaves = self.graph, self.meta.io, self.out.leaves
        operators: list[tuple[str, Op | None, list[int], int]] = []
        for op in self.ops:
            constants: list[int] = []
            if isinstance(op, WEIGHTED):
                constants = list(self._weights(op))
            elif isinstance(op, Mean):
                constants = [self._mean_axes(op)]
            elif isinstance(op, Resize):
                constants = [self._size(op)]
            operators.append((op.kind, op, [*op.inputs, *constants], op.output))
        first, last = graph.inputs[0], graph.outputs[0]
        if io != "int8":
            dtype = _UINT8 if io == "uint8" else 0
            grids = [TensorQuant(q.scale, q.zero_point + 128) for q in (self.qgraph.tensors[first], self.qgraph.tensors[last])]
            ends = [
                self._tensor(shape, name, dtype, self._grid(grid) if io == "uint8" else None)
                for shape, name, grid in zip(self.io_shapes, IO_NAMES, grids, strict=True)
            ]
            operators.insert(0, (ENDS[io][0], None, [ends[0]], first))
            operators.append((ENDS[io][1], None, [last], ends[1]))
            first, last = ends
        outputs = None
        for kind, operation, inputs, output in operators:
            outputs = leaves.add(_ints([output]))
            values: dict[int, _Value] = {0: self.code_index[kind], 1: leaves.add(_ints(inputs)), 2: outputs}
            form = OPERATOR_PLAIN
            if operation is not None:
                form = OPERATOR_CODED if self.code_index[kind] else OPERATOR
                values |= {3: self.codes[kind].options, 4: self._options(operation)}
            self.operators.append(_table(form, values))
        assert outputs is not None
        if len(graph.outputs) > 1:  # the list of one output is that of the operator that writes it
            outputs = leaves.add(_ints([last, *graph.outputs[1:]]))
        return _ints([first]), outputs

    def _mean_axes(self, op: Mean) -> int:
        if self.axes is None:
            self.axes = self.out.leaves.add(_ints([2])), self.out.buffer(struct.pack("<2i", 1, 2))
        shape, buffer = self.axes
        return self._tensor(shape, f"{op.name}.axes", _INT32, None, buffer)

    def _size(self, op: Resize) -> int:
        shape, content = self.out.leaves.add(_ints([2])), struct.pack("<2i", *self.graph.shape(op.output)[:2])
        return self._tensor(shape, f"{op.name}.size", _INT32, None, self.out.buffer(content))

    def _options(self, op: Op) -> _Item:
        key = self._option_key(op)
        form = options_form(key)
        if form is EMPTY:
            return self.empty
        values: dict[int, _Value]
        match op:
            case Conv2D():
                values = {0: VALID, 1: op.stride[1], 2: op.stride[0], 3: _NUMBERS[op.act], 4: op.dilation[1], 5: op.dilation[0]}
            case DepthwiseConv2D():
                steps, apart = {1: op.stride[1], 2: op.stride[0]}, {5: op.dilation[1], 6: op.dilation[0]}
                values = {0: VALID, **steps, 3: 1, 4: _NUMBERS[op.act], **apart}
            case Pool2D():
                values = {0: VALID, 1: op.stride[1], 2: op.stride[0], 3: op.kernel[1], 4: op.kernel[0]}
            case FullyConnected() | Add() | Mul():
                values = {0: _NUMBERS[op.act]}
            case Mean() | HardSwish() | Resize():
                raise InternalError(f"{op.name}: has no options to write")
            case _:
                assert_never(op)
        table = _table(form, values)
        shared = self.options.setdefault((form, bytes(table.data)), table)
        if shared is table:
            self.option_items.add(table)
        return shared

    def _option_key(self, op: Op) -> OptionKey:
        if isinstance(op, (Conv2D, DepthwiseConv2D, Pool2D)):
            self._check_padding(op)
        spec = self.graph.tensors[op.output]
        source = self.graph.shape(op.inputs[0])
        return op_terms(op, source, spec.shape, spec.name, full=self.full, shares_shape=False).key

    def _check_padding(self, op: Windowed) -> None:
        # TFLite knows two paddings; whatever else a graph may say cannot be written.
        source, target = self.graph.shape(op.inputs[0]), self.graph.shape(op.output)
        pad = op.padding
        if same_window(op.stride, source, target):
            right = all(
                same_padding(size, kernel, stride) == found
                for size, kernel, stride, found in zip(
                    source[:2], op.reach, op.stride, ((pad.top, pad.bottom), (pad.left, pad.right)), strict=True
                )
            )
        else:
            right = pad.none and all(
                (size - kernel) // stride + 1 == out
                for size, kernel, stride, out in zip(source[:2], op.reach, op.stride, target[:2], strict=True)
            )
        if not right:
            raise ArchError(
                f"{op.name}: its padding is neither TFLite's SAME nor none",
                "pad as tinynas.graph.same_padding does; for a causal network: storable",
            )

    # Metadata

    def _metadata(self) -> list[_Item]:
        entries: list[tuple[str, bytes]] = []
        if self.plan is not None:
            # TFLM's format: version, subgraph, count, then an offset or -1 (planned by the runtime) for each tensor.
            offsets = [*self.plan.offsets, *[-1] * (len(self.tensors) - len(self.plan.offsets))]
            entries.append((PLAN_NAME, struct.pack(f"<3i{len(offsets)}i", 1, 0, len(offsets), *offsets)))
        if self.full:
            meta = self.meta
            text = metadata_json(
                meta.labels,
                classes=self.graph.shape(self.graph.outputs[0])[-1],
                formula=self.graph.input.written,
                arch_id=meta.arch_id,
                version=meta.version,
                input_rotation=meta.input_rotation,
            )
            entries.append((METADATA_NAME, text))
        leaves = self.out.leaves
        return [_table(METADATA, {0: leaves.add(_text(name)), 1: self.out.buffer(data)}) for name, data in entries]


def write_format(made: Made, folder: Path) -> Path:
    """The format ``tflite``: the model as it is."""
    write_atomic(folder / MODEL_FILE, made.model)
    return folder / MODEL_FILE
