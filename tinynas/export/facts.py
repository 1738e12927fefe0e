"""What a .tflite classifier says of itself: shapes, scales, operators, tinynas's metadata; and what its input's numbers mean."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinynas.cost.tflite import parse_model
from tinynas.errors import ModelFileError
from tinynas.inputs import Input, kind_of_channels

DType = Literal["int8", "uint8", "float32"]


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

    @property
    def input_rotation(self) -> int:
        """Degrees by which images must be turned before the network: 0 or 180."""
        rotation = self.metadata.get("input_rotation", 0)
        return rotation if isinstance(rotation, int) else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names from the metadata; empty where the file has none."""
        labels = self.metadata.get("labels", ())
        return tuple(str(label) for label in labels) if isinstance(labels, list) else ()

    @property
    def input(self) -> Input:
        """What the network reads: by the formula in the metadata; else each of the 256 steps of a quantised input is a byte, whatever
        its scale says that means, and a float input is taken to be made as tinynas makes it."""
        said = self.metadata.get("input")
        found = Input.read(said, self.input_shape) if isinstance(said, str) else None
        if found is not None:
            return found
        kind = kind_of_channels(self.input_shape[2])
        if self.input_dtype == "float32":
            return Input(*self.input_shape, kind)
        stored = self.input_zero_point + (128 if self.input_dtype == "int8" else 0)
        return Input(*self.input_shape, kind, self.input_scale, stored)


def read_facts(model: bytes) -> ModelFacts:
    """Shapes, scales, operators and metadata of a .tflite classifier.

    Raises ModelFileError where the file is broken, does not classify one input (height, width, channels), or has types that the
    firmware code does not handle.
    """
    from ai_edge_litert import schema_py_generated as schema

    if len(model) < 8 or model[4:8] != b"TFL3":
        raise ModelFileError("the model is not a .tflite file (no TFL3 identifier)", "give the file that tinynas export wrote")
    parse_model(model)  # every offset is checked there; the generated reader trusts them
    try:
        table = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        return _facts(table, schema)
    except ModelFileError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError, struct.error) as error:
        raise ModelFileError(f"the model file is broken: {error}", "copy or export the model again") from None


def _facts(model: Any, schema: Any) -> ModelFacts:
    graph = model.subgraphs[0]
    if len(model.subgraphs) != 1 or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ModelFileError("the model has several graphs, inputs or outputs", "a classifier has one of each")
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    types = {schema.TensorType.INT8: "int8", schema.TensorType.UINT8: "uint8", schema.TensorType.FLOAT32: "float32"}
    source, target = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    for tensor in (source, target):
        if tensor.type not in types:
            raise ModelFileError("the model's input and output must be int8, uint8 or float32", "export it again with --io int8")
    shape = [int(n) for n in source.shape]
    if len(shape) != 4 or shape[0] != 1:
        raise ModelFileError(f"the model's input has the shape {shape}", "it must be [1, height, width, channels]")
    operators = []
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        operators.append(names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?"))
    input_scale, input_zero = _quantisation(source)
    output_scale, output_zero = _quantisation(target)
    return ModelFacts(
        (shape[1], shape[2], shape[3]),
        types[source.type],  # type: ignore[arg-type]
        input_scale,
        input_zero,
        int(np.prod([int(n) for n in target.shape], dtype=np.int64)),
        types[target.type],  # type: ignore[arg-type]
        output_scale,
        output_zero,
        tuple(operators),
        _metadata(model),
    )


def _quantisation(tensor: Any) -> tuple[float, int]:
    quantisation = tensor.quantization
    if quantisation is None or quantisation.scale is None or len(quantisation.scale) == 0:
        return 1.0, 0
    return float(np.float32(quantisation.scale[0])), int(quantisation.zeroPoint[0])


def _metadata(model: Any) -> dict[str, Any]:
    # tinynas writes one JSON object; every entry that is one is read, so that its name may change.
    found: dict[str, Any] = {}
    for entry in model.metadata or ():
        data = model.buffers[entry.buffer].data
        try:
            document = json.loads(bytes(bytearray(data)).decode()) if data is not None else None
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
