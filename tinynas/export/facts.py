"""What a .tflite classifier says of itself: shapes, scales, operators, metadata; and what its input's numbers mean."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinynas.cost.flash import told_front_end
from tinynas.cost.tflite import parse_model
from tinynas.errors import ModelFileError
from tinynas.export.metadata import BUFFER_NAME, NOTHING, Told, read_told
from tinynas.export.told_thresholds import told_thresholds
from tinynas.front_end import FrontEnd
from tinynas.inputs import KIND_CHANNELS, Input, kind_of_channels

DType = Literal["int8", "uint8", "float32"]
Layout = Literal["nhwc", "nchw", "nhw"]
"""How the input's dimensions lie: batch, height, width, channels; channels in front; or a gray image without channels."""
#: Operators that keep state from one call to the next.
_STATEFUL = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"})
_IMAGE_CHANNELS = frozenset(KIND_CHANNELS.values())


@dataclass(frozen=True)
class Grid:
    """Quantisation of a tensor of bytes: real = (element - zero_point) * scale."""

    scale: float
    zero_point: int
    dtype: Literal["int8", "uint8"] = "int8"

    @property
    def limits(self) -> tuple[int, int]:
        """The first and the last element."""
        return (-128, 127) if self.dtype == "int8" else (0, 255)

    @property
    def ends(self) -> npt.NDArray[np.float64]:
        """(2,): what they mean."""
        return (np.asarray(self.limits, dtype=np.float64) - self.zero_point) * self.scale


@dataclass(frozen=True)
class ModelFacts:
    """What the firmware must know of a model file."""

    input_shape: tuple[int, int, int]
    """(height, width, channels)."""
    input_dtype: DType
    input_scale: float
    """1 for float inputs."""
    input_zero_point: int
    classes: int
    output_dtype: DType
    output_scale: float
    output_zero_point: int
    operators: tuple[str, ...]
    """Names in execution order, such as CONV_2D."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What tinynas wrote into the file about itself; empty for files of others."""
    told: Told = NOTHING
    """What TensorFlow Lite's metadata say."""
    layout: Layout = "nhwc"
    output_shape: tuple[int, ...] = ()
    quantize: Grid | None = None
    """Of a QUANTIZE right behind a float input."""
    scaling: tuple[float, float] | None = None
    """(factor, offset) of constant arithmetic right behind a float input, the mean over channels."""
    dequantize: Grid | None = None
    """Of what a DEQUANTIZE right in front of a float output reads."""
    variables: bool = False
    """Whether tensors keep their content between calls (LSTM, SVDF)."""

    @property
    def pixel_grid(self) -> Grid | None:
        """The 256 steps that the input has, by its own quantisation or by a QUANTIZE right behind it; None for other float inputs."""
        return self.quantize if self.input_dtype == "float32" else Grid(self.input_scale, self.input_zero_point, self.input_dtype)

    @property
    def score_grid(self) -> Grid | None:
        """The 256 steps that the output has, by its own quantisation or in front of a DEQUANTIZE; None for other float outputs."""
        return self.dequantize if self.output_dtype == "float32" else Grid(self.output_scale, self.output_zero_point, self.output_dtype)

    @property
    def formula_known(self) -> bool:
        """Whether tinynas's metadata say what the input's numbers mean."""
        said = self.metadata.get("input")
        return isinstance(said, str) and Input.read(said, self.input_shape) is not None

    @property
    def input_rotation(self) -> int:
        """Degrees by which images must be turned before the network: 0 or 180."""
        rotation = self.metadata.get("input_rotation", 0)
        return rotation if isinstance(rotation, int) else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names from tinynas's metadata, or from a label file of TFLite's; empty where the file has none."""
        labels = self.metadata.get("labels", ())
        return tuple(str(label) for label in labels) if isinstance(labels, list) and labels else self.told.labels

    @property
    def thresholds(self) -> tuple[int, ...] | None:
        """Of several labels at once: from where on each output says that its class is there, in its own steps, by tinynas's metadata."""
        return told_thresholds(self.metadata, self.classes)

    @property
    def front_end(self) -> FrontEnd | None:
        """What makes its input out of sound, by tinynas's metadata; None where they say nothing, or nothing that makes such an input."""
        return told_front_end(self.metadata, self.input_shape)

    @property
    def input(self) -> Input:
        """What the network reads: by the formula in the metadata; else each of the 256 steps of a quantised input is a byte, whatever
        its scale says that means, and a float input is taken to be made as tinynas makes it."""
        said = self.metadata.get("input")
        found = Input.read(said, self.input_shape) if isinstance(said, str) else None
        if found is not None:
            return replace(found, kind="features", front_end=self.front_end) if self.front_end is not None else found
        kind = kind_of_channels(self.input_shape[2])
        if self.input_dtype == "float32":
            return Input(*self.input_shape, kind)
        stored = self.input_zero_point + (128 if self.input_dtype == "int8" else 0)
        return Input(*self.input_shape, kind, self.input_scale, stored)


def read_facts(model: bytes, *, kept: bool = False) -> ModelFacts:
    """Shapes, scales, operators and metadata of a .tflite classifier; of one that learns further outputs may be ``kept`` behind its own.

    Raises ModelFileError where the file is broken, does not classify one input (height, width, channels), or has types that the
    firmware code does not handle.
    """
    from ai_edge_litert import schema_py_generated as schema

    if len(model) < 8 or model[4:8] != b"TFL3":
        raise ModelFileError("the model is not a .tflite file (no TFL3 identifier)", "give the file that tinynas export wrote")
    parse_model(model)  # every offset is checked there; the generated reader trusts them
    try:
        table = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        return _facts(model, table, schema, kept)
    except ModelFileError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError, struct.error) as error:
        raise ModelFileError(f"the model file is broken: {error}", "copy or export the model again") from None


def _facts(data: bytes, model: Any, schema: Any, kept: bool) -> ModelFacts:
    graph = model.subgraphs[0]
    type_names = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    sources, targets = ([graph.tensors[i] for i in (() if ends is None else ends)] for ends in (graph.inputs, graph.outputs))
    targets = targets[:1] if kept else targets
    for tensors, noun, what in ((sources, "input", "reads one image"), (targets, "output", "gives one list of scores")):
        if len(tensors) != 1:
            listed = "; ".join(_described(tensor, type_names) for tensor in tensors[:4])
            raise ModelFileError(
                f"the model has {len(tensors)} {noun}s ({listed}); a classifier {what}", f"convert the part of it that has one {noun}"
            )
    (source,), (target,) = sources, targets
    types = {schema.TensorType.INT8: "int8", schema.TensorType.UINT8: "uint8", schema.TensorType.FLOAT32: "float32"}
    for tensor, noun in ((source, "input"), (target, "output")):
        if tensor.type not in types:
            raise ModelFileError(
                f"the model's {noun} is {_described(tensor, type_names)}; it must be int8, uint8 or float32",
                f"convert the model with an {noun} of type int8, uint8 or float32",
            )
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = [names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?") for code in model.operatorCodes]
    operators = tuple(codes[op.opcodeIndex] for op in graph.operators)
    if stateful := sorted(_STATEFUL & set(operators)):
        raise ModelFileError(
            f"the model keeps state between calls ({', '.join(stateful)}): it reads a stream, piece by piece",
            "a classifier of single images is needed; tinynas estimate works with it",
        )
    metadata = _metadata(model)
    shape, layout = _image_shape([int(n) for n in source.shape], ours="tinynas" in metadata)
    input_scale, input_zero = _quantisation(source, types[source.type])
    output_scale, output_zero = _quantisation(target, types[target.type])
    dims = tuple(int(n) for n in target.shape)
    behind = _behind(graph, codes, int(graph.inputs[0])) if types[source.type] == "float32" else []
    told = next((_buffer(model, entry) for entry in model.metadata or () if (entry.name or b"").decode() == BUFFER_NAME), None)
    return ModelFacts(
        shape,
        types[source.type],  # type: ignore[arg-type]
        input_scale,
        input_zero,
        int(np.prod(dims, dtype=np.int64)),
        types[target.type],  # type: ignore[arg-type]
        output_scale,
        output_zero,
        operators,
        metadata,
        read_told(data, told),
        layout,
        dims,
        _quantize_grid(graph, behind, types),
        _scaling(model, graph, behind, int(graph.inputs[0]), schema),
        _dequantize_grid(graph, codes, types),
        any(tensor.isVariable for tensor in graph.tensors),
    )


def _described(tensor: Any, type_names: dict[int, str]) -> str:
    name = (tensor.name or b"").decode("utf-8", "replace")[:40]
    return f"{name!r} {[int(n) for n in tensor.shape]} {type_names.get(tensor.type, f'type {tensor.type}')}"


def _image_shape(shape: list[int], *, ours: bool) -> tuple[tuple[int, int, int], Layout]:
    # ((height, width, channels), how they lie); PyTorch's converters leave the channels in front, files of tinynas never do
    if shape and shape[0] != 1 and len(shape) in (3, 4):
        raise ModelFileError(
            f"the model's input has the shape {shape}: it reads {shape[0]} images at a time",
            "convert it with a batch of 1, as a microcontroller needs",
        )
    if len(shape) == 3:
        return (shape[1], shape[2], 1), "nhw"
    if len(shape) != 4:
        raise ModelFileError(f"the model's input has the shape {shape}", "an image classifier reads [1, height, width, channels]")
    if not ours and shape[1] in _IMAGE_CHANNELS and shape[3] not in _IMAGE_CHANNELS:
        return (shape[2], shape[3], shape[1]), "nchw"
    return (shape[1], shape[2], shape[3]), "nhwc"


def _quantisation(tensor: Any, numeric: str) -> tuple[float, int]:
    """(scale, zero point) of a tensor of type ``numeric``; (1, 0) of floats. Raises ModelFileError for impossible ones."""
    quantisation = tensor.quantization
    if numeric == "float32" or quantisation is None or quantisation.scale is None or len(quantisation.scale) == 0:
        return 1.0, 0
    scale, zero_point = float(np.float32(quantisation.scale[0])), int(quantisation.zeroPoint[0])
    if not 1e-15 < scale < 1e15 or abs(zero_point) > 2**31:
        raise ModelFileError(
            f"the model file is broken: a tensor has the scale {scale:g} and zero point {zero_point}", "copy or export the model again"
        )
    return scale, zero_point


def _behind(graph: Any, codes: list[str], tensor: int) -> list[tuple[str, Any]]:
    """(kind, operator) of the only reader of ``tensor``, of its result's only reader, and so on: four at most."""
    found: list[tuple[str, Any]] = []
    while len(found) < 4:
        readers = [op for op in graph.operators if op.inputs is not None and tensor in op.inputs]
        if len(readers) != 1 or len(readers[0].outputs) != 1:
            break
        found.append((codes[readers[0].opcodeIndex], readers[0]))
        tensor = int(readers[0].outputs[0])
    return found


def _quantize_grid(graph: Any, behind: list[tuple[str, Any]], types: dict[int, str]) -> Grid | None:
    while behind and behind[0][0] in ("RESHAPE", "TRANSPOSE"):
        behind = behind[1:]
    return _grid(graph.tensors[behind[0][1].outputs[0]], types) if behind and behind[0][0] == "QUANTIZE" else None


def _dequantize_grid(graph: Any, codes: list[str], types: dict[int, str]) -> Grid | None:
    makers = [op for op in graph.operators if int(graph.outputs[0]) in op.outputs and codes[op.opcodeIndex] == "DEQUANTIZE"]
    return _grid(graph.tensors[makers[0].inputs[0]], types) if makers else None


def _grid(tensor: Any, types: dict[int, str]) -> Grid | None:
    dtype = types.get(tensor.type, "")
    return Grid(*_quantisation(tensor, dtype), dtype) if dtype in ("int8", "uint8") else None  # type: ignore[arg-type]


def _scaling(model: Any, graph: Any, behind: list[tuple[str, Any]], tensor: int, schema: Any) -> tuple[float, float] | None:
    factor, offset, found = 1.0, 0.0, False
    for kind, op in behind:
        others = [int(i) for i in op.inputs if int(i) != tensor]
        if kind not in ("MUL", "ADD", "SUB", "DIV") or len(others) != 1 or (int(op.inputs[0]) != tensor and kind in ("SUB", "DIV")):
            break
        constant = graph.tensors[others[0]]
        data = model.buffers[constant.buffer].data
        if data is None or constant.type != schema.TensorType.FLOAT32 or not len(data) or len(data) % 4:
            break
        values = np.frombuffer(bytes(bytearray(data)), "<f4").astype(np.float64)
        value = float(values.mean()) if (np.abs(values) < 1e15).all() else 0.0
        if value == 0 and kind in ("MUL", "DIV"):
            break
        match kind:
            case "MUL":
                factor, offset = factor * value, offset * value
            case "DIV":
                factor, offset = factor / value, offset / value
            case "ADD":
                offset += value
            case _:
                offset -= value
        tensor, found = int(op.outputs[0]), True
    return (factor, offset) if found else None


def _buffer(model: Any, entry: Any) -> bytes:
    data = model.buffers[entry.buffer].data
    return b"" if data is None else bytes(bytearray(data))


def _metadata(model: Any) -> dict[str, Any]:
    # tinynas writes one JSON object; every entry that is one is read, so that its name may change.
    found: dict[str, Any] = {}
    for entry in model.metadata or ():
        try:
            document = json.loads(_buffer(model, entry).decode())
        except (ValueError, UnicodeDecodeError):
            continue
        if isinstance(document, dict):
            found.update(document)
    return found


def input_table(facts: ModelFacts, source: Input | None = None) -> npt.NDArray[Any]:
    """The input element (256,) of every stored byte: the real number that ``source`` (default: the file's own) gives it, on the
    file's input grid."""
    real = (facts.input if source is None else source).real(np.arange(256, dtype=np.float64))
    if facts.input_dtype == "float32":
        return np.asarray(real, dtype=np.float32)
    low, high = (-128, 127) if facts.input_dtype == "int8" else (0, 255)
    grid = np.rint(real / facts.input_scale) + facts.input_zero_point
    return np.asarray(np.clip(grid, low, high), dtype=facts.input_dtype)


def real_outputs(outputs: npt.NDArray[Any], facts: ModelFacts) -> npt.NDArray[np.float64]:
    """Outputs (N, classes) in real units."""
    return (outputs.astype(np.float64) - facts.output_zero_point) * facts.output_scale
