"""Classifiers as others make them, of a few operators: mean of each channel, a dense layer, and what stands around these."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Numbers = tuple[str, float, int]
"""Element type, scale and zero point; of a float tensor the last two say nothing."""
FLOAT: Numbers = ("float32", 0.0, 0)
_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int16": 7, "int8": 9}
_NUMPY = {"float32": "<f4", "int32": "<i4"}


@dataclass(frozen=True)
class Operator:
    """An operator with one changing input and one output."""

    kind: str
    constants: tuple[np.ndarray, ...] = ()
    to: Numbers = FLOAT
    shape: tuple[int, ...] | None = None
    """Of the output, where it is another than the input's."""


class _Writer:
    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.operatorCodes, self.model.metadata = 3, [], []
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def buffer(self, data: bytes) -> int:
        made = schema.BufferT()
        made.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def tensor(self, name: str, shape: Sequence[int], numbers: Numbers, data: bytes | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name.encode(), list(shape), _TYPES[numbers[0]]
        made.buffer = 0 if data is None else self.buffer(data)
        if numbers[1]:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [numbers[1]], [numbers[2]]
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def operator(self, kind: str, inputs: Sequence[int], output: int) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(self.model.operatorCodes) - 1, list(inputs), [output]
        options = {
            "FULLY_CONNECTED": "FullyConnectedOptions",
            "MEAN": "ReducerOptions",
            "MUL": "MulOptions",
            "ADD": "AddOptions",
            "SUB": "SubOptions",
            "DIV": "DivOptions",
        }
        if kind in options:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, options[kind])
            made.builtinOptions = getattr(schema, options[kind] + "T")()
        self.graph.operators.append(made)

    def bytes(self) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def chain(
    shape: Sequence[int],
    operators: Sequence[Operator],
    *,
    source: Numbers = FLOAT,
    metadata: bytes | None = None,
    more_inputs: int = 0,
    more_outputs: int = 0,
) -> bytes:
    """A .tflite of ``operators`` one behind the other, reading ``shape`` (with its batch)."""
    writer = _Writer()
    at = writer.tensor("image", shape, source)
    writer.graph.inputs = [at] + [writer.tensor(f"more{i}", (1, 4), FLOAT) for i in range(more_inputs)]
    results = []
    for number, op in enumerate(operators):
        constants = [
            writer.tensor(f"c{number}", value.shape, (str(value.dtype), 0.0, 0), value.astype(_NUMPY[str(value.dtype)]).tobytes())
            for value in op.constants
        ]
        shape = shape if op.shape is None else op.shape
        result = writer.tensor(f"t{number}", shape, op.to)
        writer.operator(op.kind, [at, *constants], result)
        at = result
        results.append(result)
    writer.graph.outputs = results[::-1][: 1 + more_outputs]
    if metadata is not None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = b"TFLITE_METADATA", writer.buffer(metadata)
        writer.model.metadata = [entry]
    return writer.bytes()


def judge_of_brightness(
    cut: float | Sequence[float],
    *,
    side: tuple[int, int] = (6, 8),
    channels: int = 3,
    outputs: int = 2,
    gain: float = 4.0,
    layout: str = "nhwc",
    source: Numbers = FLOAT,
    quantize: Numbers | None = None,
    before: Sequence[Operator] = (),
    behind: Sequence[Operator] = (),
    **more: Any,
) -> bytes:
    """A network that says "bright" (its last output, or its only one) where the mean over channels of (input - ``cut``) is above 0.

    ``cut`` is in real units of what the dense layer reads, behind ``before``: one number, or one a channel.
    """
    height, width = side
    shape = {"nhwc": (1, height, width, channels), "nchw": (1, channels, height, width), "nhw": (1, height, width)}[layout]
    steps: list[Operator] = []
    if quantize is not None:
        steps += [Operator("QUANTIZE", to=quantize), Operator("DEQUANTIZE")]
    elif source[0] != "float32":
        steps.append(Operator("DEQUANTIZE"))
    steps += before
    axes = np.array([2, 3] if layout == "nchw" else [1, 2], np.int32)
    mean_shape = (1,) if layout == "nhw" else (1, channels)
    steps.append(Operator("MEAN", (axes,), shape=mean_shape))
    if layout == "nhw":
        steps.append(Operator("RESHAPE", (np.array([1, 1], np.int32),), shape=(1, 1)))
    weights = np.full((outputs, channels), gain / channels, np.float32)
    bias = np.full(outputs, -gain * float(np.mean(cut)), np.float32)
    if outputs > 1:
        weights[:-1] *= -1
        bias[:-1] *= -1
    steps.append(Operator("FULLY_CONNECTED", (weights, bias), shape=(1, outputs)))
    return chain(shape, [*steps, *behind], source=source, **more)


def tflite_metadata(mean: Sequence[float] = (), std: Sequence[float] = (), files: Sequence[tuple[str, str]] = ()) -> bytes:
    """TFLITE_METADATA by hand: NormalizationOptions of the input, and label files (name, locale) of the output."""
    b = flatbuffers.Builder(256)

    def table(fields: dict[int, tuple[str, Any]], slots: int) -> int:
        b.StartObject(slots)
        for slot, (kind, value) in fields.items():
            (b.PrependUOffsetTRelativeSlot if kind == "offset" else b.PrependUint8Slot)(slot, value, 0)
        return int(b.EndObject())

    def floats(values: Sequence[float]) -> int:
        return int(b.CreateNumpyVector(np.asarray(values, np.float32)))

    def offsets(values: Sequence[int]) -> int:
        b.StartVector(4, len(values), 4)
        for value in reversed(values):
            b.PrependUOffsetTRelative(value)
        return int(b.EndVector())

    source: dict[int, tuple[str, Any]] = {}
    if mean:
        options = table({0: ("offset", floats(mean)), 1: ("offset", floats(std))}, 2)
        source[4] = ("offset", offsets([table({0: ("byte", 1), 1: ("offset", options)}, 2)]))
    target: dict[int, tuple[str, Any]] = {}
    if files:
        made = []
        for name, locale in files:
            names = {0: ("offset", b.CreateString(name)), 2: ("byte", 2)}
            made.append(table(names | ({3: ("offset", b.CreateString(locale))} if locale else {}), 5))
        target[6] = ("offset", offsets(made))
    ends = {2: ("offset", offsets([table(source, 7)])), 3: ("offset", offsets([table(target, 7)]))}
    root = table({3: ("offset", offsets([table(ends, 7)]))}, 8)
    b.Finish(root, file_identifier=b"M001")
    return bytes(b.Output())


def with_files(model: bytes, **files: str) -> bytes:
    """``model`` with a zip of text files behind it, as tflite-support writes them; ``labels_txt`` becomes labels.txt."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_txt", ".txt"), text)
    return model + packed.getvalue()
