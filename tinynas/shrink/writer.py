"""Writes a changed .tflite again: any operator, its options and custom data as they were; equal pieces once.

A flatbuffer is laid out front to back, parents before children. Leaves (shapes, names, scales, contents) and tables with the same
bytes and the same children are one piece. Tables of options, of which there are a hundred kinds, are packed by the schema's own
code as small buffers of their own and laid in whole.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynas.cost.schema import TYPES
from tinynas.errors import InternalError
from tinynas.shrink.model import Model, Op, Signature, Subgraph, Tensor, content

_VERSION = 3
_MOST_OLD_CODE = 127


class _Item:
    """A piece of the file: its bytes, where it must be aligned, with holes for offsets to other pieces."""

    __slots__ = ("align", "at", "data", "lead", "refs", "root", "vtable")

    def __init__(self, data: bytes, refs: Sequence[tuple[int, _Item]] = (), vtable: bytes = b"", align: int = 4, lead: int = 0) -> None:
        self.data, self.refs, self.vtable, self.align = data, tuple(refs), vtable, align
        self.lead = lead
        """Bytes before the place that must be aligned: the length of a vector."""
        self.root = 0
        """Where offsets to it lead."""
        self.at = -1


class _Pieces:
    """Makes pieces, equal ones once."""

    def __init__(self) -> None:
        self.known: dict[Any, _Item] = {}
        self.items: list[_Item] = []

    def _one(self, key: Any, item: _Item) -> _Item:
        if key not in self.known:
            self.known[key] = item
            self.items.append(item)
        return self.known[key]

    def table(self, fields: dict[int, tuple[str, Any]]) -> _Item:
        """A table of ``fields``: number -> (form of :mod:`struct` or "ref", value). Fields that are left out are at their default."""
        numbers = sorted(fields, key=lambda n: (-(4 if fields[n][0] == "ref" else struct.calcsize(fields[n][0])), n))
        data, offsets, refs = bytearray(4), {}, []
        for number in numbers:
            form, value = fields[number]
            size = 4 if form == "ref" else struct.calcsize(form)
            data += bytes(-len(data) % size)
            offsets[number] = len(data)
            if form == "ref":
                refs.append((len(data), value))
                data += bytes(4)
            else:
                data += struct.pack("<" + form, value)
        count = max(fields, default=-1) + 1
        vtable = struct.pack(f"<{count + 2}H", 4 + 2 * count, len(data), *(offsets.get(n, 0) for n in range(count)))
        data += bytes(-len(data) % 4)
        return self._one((vtable, bytes(data), tuple((at, id(item)) for at, item in refs)), _Item(bytes(data), refs, vtable))

    def vector(self, form: str, values: Sequence[Any] | np.ndarray[Any, Any]) -> _Item:
        """A vector of numbers."""
        size = struct.calcsize(form)
        data = np.asarray(values, "<" + np.dtype(form).str[1:]).tobytes()
        return self._leaf(struct.pack("<I", len(data) // size) + data, max(4, size))

    def text(self, value: bytes) -> _Item:
        """A string."""
        return self._leaf(struct.pack("<I", len(value)) + value + b"\0", 4)

    def content(self, value: bytes, align: int) -> _Item:
        """A vector of bytes, the first of which is aligned."""
        return self._leaf(struct.pack("<I", len(value)) + value, align)

    def _leaf(self, data: bytes, align: int) -> _Item:
        data += bytes(-len(data) % 4)
        return self._one((align, data), _Item(data, align=align, lead=4))

    def refs(self, items: Sequence[_Item]) -> _Item:
        """A vector of tables."""
        data = struct.pack("<I", len(items)) + bytes(4 * len(items))
        return self._one((len(items), tuple(map(id, items))), _Item(data, [(4 + 4 * i, item) for i, item in enumerate(items)]))

    def packed(self, value: Any) -> _Item:
        """A table (and all below it) that the schema's own code packs."""
        import flatbuffers

        builder = flatbuffers.Builder(256)
        builder.Finish(value.Pack(builder))
        data = bytes(builder.Output())
        item = _Item(data + bytes(-len(data) % 4), align=8)
        item.root = struct.unpack_from("<I", data)[0]
        return self._one(("packed", data), item)


def write(model: Model, *, names: bool = False, one_zero: bool = True) -> bytes:
    """The file of ``model``. ``names``: keep the names of all tensors, not of inputs and outputs alone. ``one_zero``: one zero point
    stands for all channels where theirs are equal, which TFLM takes and LiteRT does not."""
    return _Writing(model, names, one_zero).file()


class _Writing:
    def __init__(self, model: Model, names: bool, one_zero: bool) -> None:
        self.model, self.names, self.one_zero, self.make = model, names, one_zero, _Pieces()
        self.codes: list[tuple[int, bytes | None, int]] = []
        self.buffers: list[_Item] = [self.make.table({})]
        self.buffer_of: dict[bytes, int] = {}

    def file(self) -> bytes:
        make, model = self.make, self.model
        self.numbers = [used(graph) for graph in model.subgraphs]
        graphs = [self._subgraph(graph, number) for graph, number in zip(model.subgraphs, self.numbers, strict=True)]
        codes = []
        for number, custom, version in self.codes:
            fields: dict[int, tuple[str, Any]] = {0: ("b", min(number, _MOST_OLD_CODE))}
            if number > 0:
                fields[3] = ("i", number)
            if custom is not None:
                fields[1] = ("ref", make.text(custom))
            if version != 1:
                fields[2] = ("i", version)
            codes.append(make.table(fields))
        entries = [make.table({0: ("ref", make.text(name)), 1: ("I", self._buffer(data))}) for name, data in model.metadata]
        root: dict[int, tuple[str, Any]] = {0: ("I", _VERSION), 1: ("ref", make.refs(codes)), 2: ("ref", make.refs(graphs))}
        if model.description is not None:
            root[3] = ("ref", make.text(model.description))
        if entries:
            root[6] = ("ref", make.refs(entries))
        if model.signatures:
            root[7] = ("ref", make.refs([self._signature(signature) for signature in model.signatures]))
        root[4] = ("ref", make.refs(self.buffers))
        return _laid_out(make.items, make.table(root))

    def _buffer(self, data: bytes) -> int:
        if data not in self.buffer_of:
            self.buffer_of[data] = len(self.buffers)
            self.buffers.append(self.make.table({0: ("ref", self.make.content(data, 16))}))
        return self.buffer_of[data]

    def _subgraph(self, graph: Subgraph, number: dict[int, int]) -> _Item:
        make = self.make
        ends = graph.ends
        tensors = [self._tensor(graph.tensors[t], self.names or t in ends) for t in number]
        ops = [self._op(op, number) for op in graph.ops]
        fields: dict[int, tuple[str, Any]] = {
            0: ("ref", make.refs(tensors)),
            1: ("ref", make.vector("i", [number[t] for t in graph.inputs])),
            2: ("ref", make.vector("i", [number[t] for t in graph.outputs])),
            3: ("ref", make.refs(ops)),
        }
        if graph.name:
            fields[4] = ("ref", make.text(graph.name))
        return make.table(fields)

    def _tensor(self, tensor: Tensor, named: bool) -> _Item:
        make = self.make
        fields: dict[int, tuple[str, Any]] = {}
        if tensor.shape is not None:
            fields[0] = ("ref", make.vector("i", tensor.shape))
        if tensor.dtype != TYPES[0]:
            fields[1] = ("b", TYPES.index(tensor.dtype))
        data = content(tensor)
        if data:
            fields[2] = ("I", self._buffer(data))
        if named and tensor.name is not None:
            fields[3] = ("ref", make.text(tensor.name))
        if tensor.quantized:
            fields[4] = ("ref", self._quantization(tensor))
        if tensor.is_variable:
            fields[5] = ("b", 1)
        if tensor.sparsity is not None:
            fields[6] = ("ref", make.packed(tensor.sparsity))
        if tensor.has_rank:
            fields[8] = ("b", 1)
        if tensor.variants is not None:
            fields[9] = ("ref", make.refs([make.packed(variant) for variant in tensor.variants]))
        return make.table(fields)

    def _quantization(self, tensor: Tensor) -> _Item:
        make = self.make
        fields: dict[int, tuple[str, Any]] = {}
        if tensor.scale.size:
            fields[2] = ("ref", make.vector("f", tensor.scale))
        if tensor.zero_point.size:
            same = self.one_zero and (tensor.zero_point == tensor.zero_point[0]).all()
            fields[3] = ("ref", make.vector("q", tensor.zero_point[:1] if same else tensor.zero_point))
        kind, details = tensor.details
        if details is not None:
            fields[4], fields[5] = ("B", kind), ("ref", make.packed(details))
        if tensor.axis:
            fields[6] = ("i", tensor.axis)
        return make.table(fields)

    def _op(self, op: Op, number: dict[int, int]) -> _Item:
        make = self.make
        if op.code not in self.codes:
            self.codes.append(op.code)
        fields: dict[int, tuple[str, Any]] = {
            1: ("ref", make.vector("i", [number.get(t, -1) for t in op.inputs])),
            2: ("ref", make.vector("i", [number[t] for t in op.outputs])),
        }
        if code := self.codes.index(op.code):
            fields[0] = ("I", code)
        if op.options_type:
            fields[3] = ("B", op.options_type)
            if op.options is not None:
                fields[4] = ("ref", make.packed(op.options))
        if op.custom is not None:
            fields[5] = ("ref", make.content(op.custom, 16))
        if op.custom_format:
            fields[6] = ("b", op.custom_format)
        if op.mutating:
            fields[7] = ("ref", make.content(bytes(op.mutating), 4))
        if op.intermediates:
            fields[8] = ("ref", make.vector("i", [number.get(t, -1) for t in op.intermediates]))
        kind, options2 = op.options2
        if kind:
            fields[11] = ("B", kind)
            if options2 is not None:
                fields[12] = ("ref", make.packed(options2))
        return make.table(fields)

    def _signature(self, signature: Signature) -> _Item:
        make, number = self.make, self.numbers[signature.subgraph]
        fields: dict[int, tuple[str, Any]] = {}
        for place, entries in ((0, signature.inputs), (1, signature.outputs)):
            maps = []
            for name, tensor in entries:
                entry: dict[int, tuple[str, Any]] = {} if name is None else {0: ("ref", make.text(name))}
                if number[tensor]:
                    entry[1] = ("I", number[tensor])
                maps.append(make.table(entry))
            fields[place] = ("ref", make.refs(maps))
        if signature.key is not None:
            fields[2] = ("ref", make.text(signature.key))
        if signature.subgraph:
            fields[4] = ("I", signature.subgraph)
        return make.table(fields)


def used(graph: Subgraph) -> dict[int, int]:
    """The new number of each tensor that something refers to, in the old order."""
    used = graph.ends
    for op in graph.ops:
        used.update(op.inputs, op.outputs, op.intermediates)
    used.discard(-1)
    return {tensor: number for number, tensor in enumerate(sorted(used))}


def _laid_out(items: Sequence[_Item], root: _Item) -> bytes:
    # Pieces were made children first; parents lie before them. What must be aligned most comes last.
    parents_first = items[::-1]
    order = sorted(parents_first, key=lambda item: (item.align > 4, item.align > 8))
    vtables: dict[bytes, int] = {}
    at = 8
    for item in order:
        if item.vtable and item.vtable not in vtables:
            vtables[item.vtable] = at
            at += len(item.vtable)
    at += -at % 4
    for item in order:
        item.at = at + -(at + item.lead) % item.align
        at = item.at + len(item.data)
    out = bytearray(at + -at % 16)
    struct.pack_into("<I4s", out, 0, root.at, b"TFL3")
    for vtable, place in vtables.items():
        out[place : place + len(vtable)] = vtable
    for item in order:
        out[item.at : item.at + len(item.data)] = item.data
        if item.vtable:
            struct.pack_into("<i", out, item.at, item.at - vtables[item.vtable])
        for hole, target in item.refs:
            offset = target.at + target.root - item.at - hole
            if offset <= 0:
                raise InternalError("a flatbuffer offset points backwards", "please report this with the model")
            struct.pack_into("<I", out, item.at + hole, offset)
    return bytes(out)
