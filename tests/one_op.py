"""Writes .tflite files of one operator, and of a few in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_NAMES = {name.lower(): number for name, number in vars(schema.TensorType).items() if name.isupper()}


@dataclass(frozen=True)
class T:
    """A tensor of a file; with ``data`` it is a constant, else the network's input where no operator writes it."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    data: Any = None
    scale: float | Sequence[float] | None = None
    """Default: 1/16 for int8, uint8, int16 and int4, none for others; a list is one a channel."""
    zero: int = 0
    axis: int = 0
    variable: bool = False
    open: bool = False
    """Whether the shape signature leaves the first dimension open."""


QUANTIZED = ("int8", "uint8", "int16", "int4")


def _content(tensor: T) -> bytes | None:
    if tensor.data is None:
        return None
    if isinstance(tensor.data, bytes):
        return tensor.data
    count = int(np.prod(tensor.shape)) if tensor.shape else 1
    if tensor.dtype == "int4":
        return bytes((count + 1) // 2)
    values = np.broadcast_to(np.asarray(tensor.data), tensor.shape)
    return np.ascontiguousarray(values.astype(tensor.dtype)).tobytes()


def _quantization(tensor: T) -> Any:
    scale = tensor.scale
    if scale is None:
        if tensor.dtype not in QUANTIZED:
            return None
        scale = 1 / 16
    scales = [scale] if isinstance(scale, int | float) else list(scale)
    if not scales or scales == [0]:
        return None
    made = schema.QuantizationParametersT()
    made.scale, made.zeroPoint, made.quantizedDimension = scales, [tensor.zero] * len(scales), tensor.axis
    return made


@dataclass
class Net:
    """A file under construction: tensors and operators of one subgraph, in order."""

    tensors: list[T] = field(default_factory=list)
    ops: list[Any] = field(default_factory=list)
    codes: list[tuple[int, str]] = field(default_factory=list)

    def tensor(self, tensor: T | None) -> int:
        """Number of a new tensor; -1 for None."""
        if tensor is None:
            return -1
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def op(
        self,
        kind: str,
        inputs: Sequence[T | int | None],
        outputs: Sequence[T | int],
        options: Any = None,
        *,
        intermediates: Sequence[T] = (),
        custom: str = "",
        custom_options: bytes = b"",
    ) -> list[int]:
        """Adds an operator by TFLite's name; tensors are new ones or numbers of those there. Returns its outputs."""
        made = schema.OperatorT()
        code = (getattr(schema.BuiltinOperator, kind), custom)
        if code not in self.codes:
            self.codes.append(code)
        made.opcodeIndex = self.codes.index(code)
        made.inputs = [t if isinstance(t, int) else self.tensor(t) for t in inputs]
        written = [t if isinstance(t, int) else self.tensor(t) for t in outputs]
        made.outputs = written
        if intermediates:
            made.intermediates = [self.tensor(t) for t in intermediates]
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        if custom_options:
            made.customOptions = list(custom_options)
        self.ops.append(made)
        return written

    def file(self, outputs: Sequence[int] | None = None) -> bytes:
        """The .tflite; ``outputs`` are those of the last operator unless named."""
        model = schema.ModelT()
        model.version = 3
        model.operatorCodes = []
        for number, custom in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
            code.customCode = custom or None
            model.operatorCodes.append(code)
        model.buffers = [schema.BufferT()]
        graph = schema.SubGraphT()
        graph.tensors = []
        for number, tensor in enumerate(self.tensors):
            made = schema.TensorT()
            made.name = f"t{number}".encode()
            made.shape, made.type = list(tensor.shape), _NAMES[tensor.dtype]
            made.isVariable = tensor.variable
            made.quantization = _quantization(tensor)
            if tensor.open:
                made.shapeSignature = [-1, *tensor.shape[1:]]
            content = _content(tensor)
            if content is None:
                made.buffer = 0
            else:
                buffer = schema.BufferT()
                buffer.data = np.frombuffer(content, np.uint8)
                model.buffers.append(buffer)
                made.buffer = len(model.buffers) - 1
            graph.tensors.append(made)
        written = {t for op in self.ops for t in op.outputs}
        read = {t for op in self.ops for t in op.inputs}
        graph.inputs = [
            t for t, tensor in enumerate(self.tensors) if t in read and t not in written and tensor.data is None and not tensor.variable
        ]
        graph.outputs = list(self.ops[-1].outputs if outputs is None else outputs)
        graph.operators = self.ops
        model.subgraphs = [graph]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def one_op(kind: str, inputs: Sequence[T | None], outputs: Sequence[T], options: Any = None, **more: Any) -> bytes:
    """The .tflite of one operator."""
    net = Net()
    net.op(kind, inputs, outputs, options, **more)
    return net.file()


def options(name: str, **fields: Any) -> Any:
    """The options table called ``name`` of the schema with ``fields`` (in the schema's camelCase)."""
    made = getattr(schema, name + "T")()
    for key, value in fields.items():
        assert hasattr(made, key), (name, key)
        setattr(made, key, value)
    return made
