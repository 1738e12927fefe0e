"""A .tflite as something that can be changed: tensors with their contents as arrays, operators with their options.

Everything of a file is kept that a runtime reads: operators that are not known here keep their options and custom data byte for
byte, further subgraphs stay as they are. The structure is checked by :func:`tinynas.cost.tflite.parse_model` first; whatever else
is broken gives a ModelFileError.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.cost.flatbuffer import I8, I32, U8, U32, Reader
from tinynas.cost.schema import OPERATORS, TYPES
from tinynas.cost.tflite import MAX_FILE_BYTES, parse_model
from tinynas.errors import ModelFileError

#: numpy's element types of the constants that are computed with; others stay bytes.
_DTYPES: dict[str, np.dtype[Any]] = {
    "int8": np.dtype("i1"),
    "int4": np.dtype("i1"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "float32": np.dtype("<f4"),
}
#: Metadata: where TFLM puts each tensor.
PLAN_NAME = b"OfflineMemoryAllocation"
#: Scales beyond this or its inverse are no scales of a network.
_FINE = 1e-20


@dataclass
class Tensor:
    """A tensor of a subgraph."""

    name: bytes | None
    shape: tuple[int, ...] | None
    """None where the file gives none (which is read as a scalar)."""
    dtype: str
    """Of :data:`tinynas.cost.schema.TYPES`."""
    data: NDArray[Any] | bytes | None = None
    """What the file holds of a constant: an array in its shape (int4 unpacked into int8), or bytes; None where it holds nothing."""
    scale: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    zero_point: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    axis: int = 0
    """The dimension to which several scales belong."""
    quantized: bool = False
    """Whether it has a table of quantisation."""
    details: tuple[int, Any] = (0, None)
    """Quantisation of a custom kind."""
    is_variable: bool = False
    sparsity: Any = None
    has_rank: bool = False
    variants: Any = None
    planned: int = -1
    """Its place in the file's memory plan, bytes from the beginning of the arena; -1 where the plan gives none."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Its shape; () where it has none."""
        return self.shape or ()

    @property
    def channels(self) -> int:
        """Its last dimension; 0 of a scalar."""
        return self.dims[-1] if self.dims else 0

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int(np.prod(self.dims, dtype=np.int64))

    @property
    def constant(self) -> bool:
        """Whether the file holds its content."""
        return self.data is not None

    @property
    def int8(self) -> bool:
        """Whether it is int8 with one scale and zero point that are fit to compute with, as activations are."""
        if self.dtype != "int8" or self.scale.size != 1 or self.zero_point.size > 1 or self.details[0] or self.sparsity is not None:
            return False
        return _FINE < self.real_scale < 1 / _FINE and -128 <= self.zero <= 127

    @property
    def real_scale(self) -> float:
        """Its one scale."""
        return float(self.scale[0])

    @property
    def zero(self) -> int:
        """Its one zero point."""
        return int(self.zero_point[0]) if self.zero_point.size else 0

    @property
    def grid(self) -> tuple[float, int]:
        """(scale, zero point) of :attr:`int8` tensors."""
        return self.real_scale, self.zero

    @property
    def array(self) -> NDArray[Any] | None:
        """Its content as an array; None where it is no constant of a type that is computed with."""
        return self.data if isinstance(self.data, np.ndarray) else None


@dataclass
class Op:
    """An operator of a subgraph; tensor -1 is an omitted input."""

    kind: str
    code: tuple[int, bytes | None, int]
    """(number, name of a custom operator, version)."""
    inputs: list[int]
    outputs: list[int]
    options: Any = None
    """The schema's object, None where it has no table; of type :attr:`options_type`."""
    options_type: int = 0
    options2: tuple[int, Any] = (0, None)
    custom: bytes | None = None
    custom_format: int = 0
    intermediates: list[int] = field(default_factory=list)
    mutating: list[int] = field(default_factory=list)
    number: int = 0
    """Its place in the original file, by which it is told."""

    @property
    def title(self) -> str:
        """Its kind, with the name of a custom operator."""
        if self.kind != "CUSTOM":
            return self.kind
        name = (self.code[1] or b"")[:60].decode("utf-8", "replace")
        return "CUSTOM " + ("".join(c if c.isalnum() or c in " _-.:/+" else "?" for c in name) or "(without a name)")


@dataclass
class Subgraph:
    """A graph of the file."""

    name: bytes | None
    tensors: list[Tensor]
    ops: list[Op]
    inputs: list[int]
    outputs: list[int]
    signed: set[int] = field(default_factory=set)
    """Tensors that signatures name."""

    @property
    def ends(self) -> set[int]:
        """Tensors that the outside sees."""
        return {*self.inputs, *self.outputs, *self.signed}


@dataclass
class Signature:
    """What LiteRT's signatures call the inputs and outputs of a subgraph."""

    inputs: list[tuple[bytes | None, int]]
    outputs: list[tuple[bytes | None, int]]
    key: bytes | None
    subgraph: int


@dataclass
class Model:
    """A whole file."""

    subgraphs: list[Subgraph]
    metadata: list[tuple[bytes, bytes]]
    """(name, content)."""
    signatures: list[Signature]
    description: bytes | None

    @property
    def main(self) -> Subgraph:
        """The subgraph that runs."""
        return self.subgraphs[0]


def _schema() -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema


def read(data: bytes) -> Model:
    """The file ``data``. Raises ModelFileError where it is broken or keeps contents elsewhere."""
    parse_model(data)
    try:
        return _Reading(data).model()
    except ModelFileError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError, struct.error) as error:
        raise ModelFileError(f"the model file is broken: {error}", "copy or export the model again") from None


class _Reading:
    def __init__(self, data: bytes) -> None:
        self.data, self.reader = data, Reader(data)
        self.root = self.reader.unpack(U32, 0)
        self.schema = _schema()
        self.buffers = [self._content(at) for at in self.reader.tables(self.root, 4)]

    def model(self) -> Model:
        read, root = self.reader, self.root
        if read.tables(root, 9):
            raise ModelFileError("the file keeps contents in other files", "convert the model into one file")
        codes = []
        for at in read.tables(root, 1):
            number = max(read.scalar(at, 0, I8), read.scalar(at, 3, I32))
            codes.append((number, self._bytes(at, 1), read.scalar(at, 2, I32, 1)))
        metadata = [(self._bytes(at, 0) or b"", self.buffers[read.scalar(at, 1, U32)] or b"") for at in read.tables(root, 6)]
        graphs = [self._subgraph(at, codes) for at in read.tables(root, 2)]
        signatures = [self._signature(at) for at in read.tables(root, 7)]
        for signature in signatures:
            graph = graphs[signature.subgraph]
            graph.signed.update(tensor for _, tensor in (*signature.inputs, *signature.outputs))
            if max(graph.signed, default=0) >= len(graph.tensors):
                raise ModelFileError("the model file is broken: a signature names a tensor that is not there", "export the model again")
        return Model(graphs, metadata, signatures, self._bytes(root, 3))

    def _content(self, buffer: int) -> bytes | None:
        at, count = self.reader.vector(buffer, 0, 1, limit=MAX_FILE_BYTES)
        if not count:
            # Files above 2 GB keep contents behind the flatbuffer; TFLM does not look there.
            if self.reader.scalar(buffer, 1, struct.Struct("<Q")) > 1:
                raise ModelFileError("the file keeps contents behind its flatbuffer, where TFLM does not look", "convert the model again")
            return None
        return self.data[at : at + count]

    def _bytes(self, table: int, number: int) -> bytes | None:
        if not self.reader.child(table, number):
            return None
        at, count = self.reader.vector(table, number, 1, limit=MAX_FILE_BYTES)
        return self.data[at : at + count]

    def _subgraph(self, at: int, codes: list[tuple[int, bytes | None, int]]) -> Subgraph:
        read = self.reader
        tensors = [self._tensor(tensor) for tensor in read.tables(at, 0)]
        ops = [self._op(op, codes, number) for number, op in enumerate(read.tables(at, 3))]
        return Subgraph(self._bytes(at, 4), tensors, ops, list(read.ints(at, 1)), list(read.ints(at, 2)))

    def _object(self, name: str, at: int) -> Any:
        # A table as the generated schema's object: a field that it does not know would be lost.
        made = getattr(self.schema, name)()
        made.Init(self.data, at)
        return getattr(self.schema, name + "T").InitFromObj(made)

    def _union(self, name: str, number: int, at: int) -> Any:
        if not number or not at:
            return None
        names = {value: key for key, value in vars(getattr(self.schema, name)).items() if not key.startswith("_")}
        if number not in names:
            raise ModelFileError(
                f"the file has {name} of type {number}, which this version does not know and could not write again",
                "update ai-edge-litert, or convert the model with an older converter",
            )
        return self._object(names[number], at)

    def _tensor(self, at: int) -> Tensor:
        read = self.reader
        shape = read.ints(at, 0) if read.child(at, 0) else None
        tensor = Tensor(self._bytes(at, 3), shape, TYPES[read.scalar(at, 1, I8)], is_variable=read.scalar(at, 5, U8) != 0)
        tensor.has_rank = read.scalar(at, 8, U8) != 0
        if sparsity := read.child(at, 6):
            tensor.sparsity = self._object("SparsityParameters", sparsity)
        if read.child(at, 9):
            tensor.variants = [self._object("VariantSubType", variant) for variant in read.tables(at, 9)]
        if table := read.child(at, 4):
            tensor.quantized = True
            scale_at, scales = read.vector(table, 2, 4)
            zero_at, zeros = read.vector(table, 3, 8)
            tensor.scale = np.frombuffer(self.data, "<f4", scales, scale_at).astype(np.float32) if scales else tensor.scale
            tensor.zero_point = np.frombuffer(self.data, "<i8", zeros, zero_at).astype(np.int64) if zeros else tensor.zero_point
            tensor.axis = read.scalar(table, 6, I32)
            kind = read.scalar(table, 4, U8)
            tensor.details = (kind, self._union("QuantizationDetails", kind, read.child(table, 5)))
        tensor.data = _array(tensor, self.buffers[read.scalar(at, 2, U32)])
        return tensor

    def _op(self, at: int, codes: list[tuple[int, bytes | None, int]], number: int) -> Op:
        read = self.reader
        code = codes[read.scalar(at, 0, U32)]
        if read.scalar(at, 9, struct.Struct("<Q")) > 1:
            raise ModelFileError("the file keeps an operator's options behind its flatbuffer", "convert the model again")
        kind = OPERATORS[code[0]] if 0 <= code[0] < len(OPERATORS) else f"operator {code[0]}"
        lists = [list(read.ints(at, place)) for place in (1, 2, 8)]
        options_type, options2_type = read.scalar(at, 3, U8), read.scalar(at, 11, U8)
        first, count = read.vector(at, 7, 1)
        return Op(
            kind,
            code,
            lists[0],
            lists[1],
            self._union("BuiltinOptions", options_type, read.child(at, 4)),
            options_type,
            (options2_type, self._union("BuiltinOptions2", options2_type, read.child(at, 12))),
            self._bytes(at, 5),
            read.scalar(at, 6, I8),
            lists[2],
            list(self.data[first : first + count]),
            number,
        )

    def _signature(self, at: int) -> Signature:
        read = self.reader
        maps = []
        for place in (0, 1):
            maps.append([(self._bytes(entry, 0), read.scalar(entry, 1, U32)) for entry in read.tables(at, place)])
        return Signature(maps[0], maps[1], self._bytes(at, 2), read.scalar(at, 4, U32))


def _array(tensor: Tensor, content: bytes | None) -> NDArray[Any] | bytes | None:
    if content is None or tensor.sparsity is not None or tensor.dtype not in _DTYPES or any(n < 0 for n in tensor.dims):
        return content
    if tensor.dtype == "int4":
        packed = np.frombuffer(content, np.uint8)
        nibbles = np.stack([packed & 15, packed >> 4], 1).reshape(-1)[: tensor.elements].astype(np.int8)
        return ((nibbles ^ 8) - 8).reshape(tensor.dims)
    values = np.frombuffer(content, _DTYPES[tensor.dtype])
    # A content that does not fill the shape (a scalar of shape [0], trailing bytes) is kept as it is.
    return values.reshape(tensor.dims).copy() if values.size == tensor.elements else content


def content(tensor: Tensor) -> bytes | None:
    """The bytes that a file holds of ``tensor``."""
    if tensor.data is None or isinstance(tensor.data, bytes):
        return tensor.data
    if tensor.dtype == "int4":
        nibbles = tensor.data.reshape(-1).astype(np.uint8) & 15
        nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8)).reshape(-1, 2)
        return (nibbles[:, 0] | nibbles[:, 1] << 4).astype(np.uint8).tobytes()
    return np.ascontiguousarray(tensor.data).tobytes()


def separate(graph: Subgraph) -> None:
    """Give every operator constants of its own, so that one can be changed without the other; the writer stores equal ones once."""
    ends = graph.ends
    uses = Counter(tensor for op in graph.ops for tensor in op.inputs if tensor >= 0)
    for op in graph.ops:
        for place, tensor in enumerate(op.inputs):
            if tensor < 0 or uses[tensor] < 2 or tensor in ends or not graph.tensors[tensor].constant or graph.tensors[tensor].is_variable:
                continue
            uses[tensor] -= 1
            old = graph.tensors[tensor]
            copied = Tensor(**{name: getattr(old, name) for name in old.__dataclass_fields__})
            copied.data = old.data.copy() if isinstance(old.data, np.ndarray) else old.data
            graph.tensors.append(copied)
            op.inputs[place] = len(graph.tensors) - 1


def join(graph: Subgraph) -> None:
    """Let equal constants be one tensor again: each costs a runtime memory of its own."""
    ends, first, stands_for = graph.ends, dict[tuple[object, ...], int](), dict[int, int]()
    for number, tensor in enumerate(graph.tensors):
        data = content(tensor)
        if data is None or number in ends or tensor.is_variable or tensor.sparsity is not None or tensor.details[0] or tensor.variants:
            continue
        grid = (tensor.quantized, tensor.scale.tobytes(), tensor.zero_point.tobytes(), tensor.axis)
        stands_for[number] = first.setdefault((data, tensor.shape, tensor.dtype, tensor.has_rank, *grid), number)
    for op in graph.ops:
        op.inputs = [stands_for.get(tensor, tensor) for tensor in op.inputs]
