"""Writes .tflite files of any subgraphs, as a converter would; and measures them with tflite-micro."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

flatbuffers = pytest.importorskip("flatbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

from one_op import options  # noqa: E402  it needs what is asked for above

_TYPES = {name.lower(): number for name, number in vars(schema.TensorType).items() if name.isupper()}


class Graph:
    """A subgraph under construction; tensors are named by the number that :meth:`tensor` gives."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.ops: list[tuple[str, str, Any]] = []
        self.contents: dict[int, Any] = {}
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def tensor(
        self,
        shape: Sequence[int] | None,
        dtype: str = "int8",
        *,
        data: Any = None,
        scales: int = 1,
        name: str | None = None,
        variable: bool = False,
        signature: Sequence[int] | None = None,
        sparse: bool = False,
    ) -> int:
        """Number of a new tensor, constant with ``data`` (bytes, values that fill the shape, or the number of another constant)."""
        made = schema.TensorT()
        made.name = name or f"t{len(self.tensors)}"
        made.shape = None if shape is None else list(shape)
        made.type, made.isVariable = _TYPES[dtype], variable
        made.shapeSignature = None if signature is None else list(signature)
        if scales and dtype.startswith(("int", "uint")) and dtype not in {"int32", "int64", "uint32"}:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [1 / 16] * scales, [0] * scales
        if sparse:
            made.sparsity = schema.SparsityParametersT()
            made.sparsity.traversalOrder = [0]
        if data is not None:
            filled = data if isinstance(data, bytes | _Same) else np.broadcast_to(np.asarray(data, dtype), shape or ()).tobytes()
            self.contents[len(self.tensors)] = filled
        self.tensors.append(made)
        return len(self.tensors) - 1

    def op(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None, **more: Any) -> None:
        """An operator by TFLite's name; ``more``: intermediates, custom_options, custom (its name)."""
        made = schema.OperatorT()
        made.inputs, made.outputs = list(inputs), list(outputs)
        if "intermediates" in more:
            made.intermediates = list(more["intermediates"])
        if "custom_options" in more:
            made.customOptions = list(more["custom_options"])
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.ops.append((kind, more.get("custom", ""), made))

    def ends(self, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
        """Itself, with these inputs and outputs."""
        self.inputs, self.outputs = list(inputs), list(outputs)
        return self


class _Same:
    """Content of the constant with this number in the graph of this number."""

    def __init__(self, graph: int, tensor: int) -> None:
        self.key = graph, tensor


def same(graph: int, tensor: int) -> _Same:
    """As ``data``: the content of a constant written before."""
    return _Same(graph, tensor)


def conv(graph: Graph, source: int, shape: Sequence[int], weights: int, biases: int = -1, dtype: str = "int8") -> int:
    """A 1x1 convolution of ``source`` to ``shape``; the number of its output."""
    out = graph.tensor(shape, dtype)
    graph.op("CONV_2D", [source, weights, biases], [out], options("Conv2DOptions", padding=0, strideW=1, strideH=1))
    return out


def file(*graphs: Graph, plan: Sequence[int] | None = None) -> bytes:
    """The .tflite of ``graphs``."""
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [], []
    model.buffers = [schema.BufferT()]
    codes: list[tuple[str, str]] = []
    buffers: dict[tuple[int, int], int] = {}
    for number, graph in enumerate(graphs):
        for index, content in graph.contents.items():
            if isinstance(content, _Same):
                graph.tensors[index].buffer = buffers[content.key]
                continue
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content, np.uint8)
            model.buffers.append(buffer)
            graph.tensors[index].buffer = buffers[number, index] = len(model.buffers) - 1
        made = schema.SubGraphT()
        made.tensors, made.operators = graph.tensors, []
        made.inputs, made.outputs = graph.inputs, graph.outputs
        for kind, custom, op in graph.ops:
            if (kind, custom) not in codes:
                codes.append((kind, custom))
                code = schema.OperatorCodeT()
                code.builtinCode = getattr(schema.BuiltinOperator, kind)
                code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
                code.customCode = custom or None
                model.operatorCodes.append(code)
            op.opcodeIndex = codes.index((kind, custom))
            made.operators.append(op)
        model.subgraphs.append(made)
    if plan is not None:
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(np.array([1, 0, len(plan), *plan], np.int32).tobytes(), np.uint8)
        model.buffers.append(buffer)
        entry.name, entry.buffer = "OfflineMemoryAllocation", len(model.buffers) - 1
        model.metadata = [entry]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


_CHILD = """
import json, os, sys, tempfile
from tflite_micro import runtime
head, kept = sys.stdin.buffer.readline(), os.dup(2)
for size, arena in json.loads(head):
    data, said, failed = sys.stdin.buffer.read(size), tempfile.TemporaryFile(), ""
    os.dup2(said.fileno(), 2)
    try:
        interpreter = runtime.Interpreter.from_bytes(data, arena_size=arena)
        interpreter.invoke()
        interpreter.print_allocations()
    except Exception as error:
        failed = str(error)
    os.dup2(kept, 2)
    said.seek(0)
    print(json.dumps([failed, said.read().decode(errors="replace")]), flush=True)
"""


def measure(*models: bytes, arenas: Sequence[int] = ()) -> list[tuple[int, int] | str]:
    """(head, tail) bytes of each model in tflite-micro's recording allocator after one inference, or what it says against the model.

    ``arenas``: bytes of the arena of each (default: plenty).
    """
    pytest.importorskip("tflite_micro")
    sizes = arenas or [1 << 20] * len(models)
    found: list[tuple[int, int] | str] = []
    while len(found) < len(models):
        left = models[len(found) :]
        sent = json.dumps([(len(m), size) for m, size in zip(left, sizes[len(found) :], strict=True)]).encode() + b"\n" + b"".join(left)
        done = subprocess.run([sys.executable, "-c", _CHILD], input=sent, capture_output=True, check=False)
        for line in done.stdout.splitlines():
            failed, said = json.loads(line)
            totals = dict(re.findall(r"Arena allocation (head|tail) (\d+) bytes", said))
            found.append(f"{said}{failed}" if failed else (int(totals["head"]), int(totals["tail"])))
        if len(found) < len(models):  # a kernel that gets no memory may crash
            found.append("the process died")
    return found
