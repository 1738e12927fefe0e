"""Reads any .tflite without TensorFlow: the same cost table for models made by others.

A .tflite is a flatbuffer and comes from strangers: every offset, length and index is checked before use, so a
broken file gives a ModelFileError and nothing else. Field numbers and operator codes are those of TensorFlow
Lite's public schema (version 3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinynas.cost.estimator import Cost, file_cost
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.work import DTYPE_BYTES, Piece, Work, conv_cmsis_scratch, depthwise_cmsis_scratch, mean_scratch, pool_cmsis_scratch
from tinynas.errors import ModelFileError

#: Larger files are refused: no microcontroller model comes near, and reading must stay bounded.
MAX_FILE_BYTES = 256 * 1024 * 1024
_MAX_ITEMS = 100_000
_MAX_RANK = 8


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: Builtin operator codes, in order.
_OPERATORS = _words(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR "
    "FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION "
    "LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH "
    "CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER "
    "BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE "
    "BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM "
    "ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE "
    "TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK "
    "LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD "
    "RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N "
    "GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE "
    "NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL "
    "PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE "
    "HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE "
    "ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU "
    "DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 "
    "UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT"
)

_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64"}

#: Operators that move, scale or compare values: no MACs by our convention (see :mod:`tinynas.cost.work`).
_NO_MACS = frozenset(
    _words(
        "ADD SUB MUL DIV MAXIMUM MINIMUM AVERAGE_POOL_2D MAX_POOL_2D MEAN SUM REDUCE_MAX RESHAPE SQUEEZE EXPAND_DIMS SOFTMAX "
        "LOGISTIC TANH RELU RELU6 RELU_N1_TO_1 LEAKY_RELU PRELU HARD_SWISH ELU PAD PADV2 MIRROR_PAD TRANSPOSE QUANTIZE "
        "DEQUANTIZE CONCATENATION SPLIT SPLIT_V SLICE STRIDED_SLICE PACK UNPACK SHAPE CAST RESIZE_BILINEAR "
        "RESIZE_NEAREST_NEIGHBOR SPACE_TO_DEPTH DEPTH_TO_SPACE ABS NEG SQRT RSQRT SQUARE EXP LOG GATHER FILL ARG_MAX ARG_MIN"
    )
)

_SHORT = {
    "CONV_2D": "conv",
    "DEPTHWISE_CONV_2D": "dw",
    "FULLY_CONNECTED": "fc",
    "AVERAGE_POOL_2D": "avg_pool",
    "MAX_POOL_2D": "max_pool",
}


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor of the file; ``shape`` with its batch dimension, ``constant`` where the file holds its content."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool
    scales: int
    """Number of quantisation scales: 0 for float, 1 per tensor, more per channel."""

    @property
    def elements(self) -> int:
        """Number of elements."""
        n = 1
        for size in self.shape:
            n *= size
        return n

    @property
    def size_bytes(self) -> int:
        """Bytes of its content."""
        return self.elements * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class FileOp:
    """An operator of the file, by TensorFlow Lite's name; tensor index -1 is an omitted input."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stride: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the cost models need of a .tflite."""

    name: str
    size_bytes: int
    tensors: tuple[FileTensor, ...]
    ops: tuple[FileOp, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    plan: tuple[int, ...] | None
    """Offsets of TFLM's OfflineMemoryAllocation metadata, one a tensor; None where the file has none."""

    def estimate(self, runtime: str = "tflm", *, core: str | None = None, clock_mhz: float | None = None) -> Cost:
        """The cost of the model as it is in the file: its own operators, its own memory plan if it has one.

        Raises ModelFileError naming every operator that the table does not know, UserError for an unknown runtime.
        """
        chosen, work = runtime_named(runtime), to_work(self)
        if chosen.in_place_depthwise:
            work = _without_pads(work)  # TinyEngine's convolutions pad by themselves
        return file_cost(work, chosen, self.size_bytes, self.plan, core=core, clock_mhz=clock_mhz)

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constant tensors (a tensor counts once, shared content for each of its tensors)."""
        return sum(t.size_bytes for t in self.tensors if t.constant)


def _broken(what: str) -> ModelFileError:
    return ModelFileError(f"the file is broken: {what}", "copy or export the model again")


class _Bytes:
    """Bound-checked little-endian reads."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def _unpack(self, form: struct.Struct, at: int) -> int:
        if not 0 <= at <= len(self.data) - form.size:
            raise _broken(f"it points to byte {at:,}, outside its {len(self.data):,} B")
        value: int = form.unpack_from(self.data, at)[0]
        return value

    _U8, _U16, _U32, _I8, _I32 = (struct.Struct("<" + c) for c in "BHIbi")

    def u32(self, at: int) -> int:
        return self._unpack(self._U32, at)

    def i32(self, at: int) -> int:
        return self._unpack(self._I32, at)

    def field(self, table: int, number: int) -> int:
        """Position of field ``number`` of the table at ``table``; 0 where it is left at its default."""
        vtable = table - self.i32(table)
        slot = 4 + 2 * number
        if slot + 2 > self._unpack(self._U16, vtable):
            return 0
        offset = self._unpack(self._U16, vtable + slot)
        return table + offset if offset else 0

    def scalar(self, table: int, number: int, form: struct.Struct, default: int = 0) -> int:
        at = self.field(table, number)
        return self._unpack(form, at) if at else default

    def child(self, table: int, number: int) -> int:
        """Position of the table or vector in field ``number``; 0 where there is none."""
        at = self.field(table, number)
        return at + self.u32(at) if at else 0

    def vector(self, table: int, number: int, item_bytes: int, *, limit: int = _MAX_ITEMS) -> tuple[int, int]:
        """(position of the first item, number of items) of the vector in field ``number``."""
        at = self.child(table, number)
        if not at:
            return 0, 0
        count = self.u32(at)
        if count > limit or at + 4 + count * item_bytes > len(self.data):
            raise _broken(f"a list at byte {at:,} claims {count:,} items")
        return at + 4, count

    def ints(self, table: int, number: int, *, limit: int = _MAX_ITEMS) -> tuple[int, ...]:
        at, count = self.vector(table, number, 4, limit=limit)
        return struct.unpack_from(f"<{count}i", self.data, at) if count else ()

    def tables(self, table: int, number: int) -> list[int]:
        at, count = self.vector(table, number, 4)
        return [at + 4 * i + self.u32(at + 4 * i) for i in range(count)]

    def text(self, table: int, number: int) -> str:
        at, count = self.vector(table, number, 1)
        return self.data[at : at + count].decode("utf-8", "replace") if count else ""


def read_model(path: str | Path) -> ModelFile:
    """The model in the .tflite at ``path``. Raises ModelFileError for unreadable, broken and unsupported files."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelFileError(f"{path}: {size:,} B is larger than {MAX_FILE_BYTES:,} B", "is this a .tflite file?")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}", "give the path of a .tflite file") from None
    try:
        return parse_model(data, path.stem)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error.message}", error.hint) from None


def parse_model(data: bytes, name: str = "model") -> ModelFile:
    """The model in ``data``. Raises ModelFileError for broken and unsupported content."""
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise ModelFileError("is not a .tflite file (no TFL3 mark at byte 4)", "give a TensorFlow Lite model")
    read = _Bytes(data)
    model = read.u32(0)
    version = read.scalar(model, 0, _Bytes._U32)
    if version != 3:
        raise ModelFileError(f"is of schema version {version}; version 3 is supported", "convert the model again")
    codes = [_operator_name(read, code) for code in read.tables(model, 1)]
    subgraphs = read.tables(model, 2)
    if len(subgraphs) != 1:
        raise ModelFileError(f"holds {len(subgraphs)} subgraphs; one is supported (no IF, WHILE or CALL)", None)
    buffers = read.tables(model, 4)
    graph = subgraphs[0]
    tensors = tuple([_tensor(read, at, buffers) for at in read.tables(graph, 0)])
    ops = tuple([_operator(read, at, codes, tensors) for at in read.tables(graph, 3)])
    inputs, outputs = read.ints(graph, 1), read.ints(graph, 2)
    if not ops or not tensors:
        raise _broken("it has no operators")
    for index in (*inputs, *outputs):
        if not 0 <= index < len(tensors):
            raise _broken(f"an input or output is tensor {index} of {len(tensors)}")
    return ModelFile(name, len(data), tensors, ops, inputs, outputs, _plan(read, model, buffers, len(tensors)))


def _operator_name(read: _Bytes, code: int) -> str:
    number = max(read.scalar(code, 0, _Bytes._I8), read.scalar(code, 3, _Bytes._I32))
    if number == 32:
        return f"CUSTOM:{read.text(code, 1)[:60]}"
    return _OPERATORS[number] if 0 <= number < len(_OPERATORS) else f"operator {number}"


def _tensor(read: _Bytes, at: int, buffers: list[int]) -> FileTensor:
    name = read.text(at, 3)
    number = read.scalar(at, 1, _Bytes._I8)
    if number not in _TYPES:
        raise ModelFileError(f"tensor {name!r} has the unsupported element type {number}", "supported: " + ", ".join(_TYPES.values()))
    shape = read.ints(at, 0, limit=_MAX_RANK)
    if any(not 0 < size < 2**24 for size in shape):
        raise ModelFileError(f"tensor {name!r} has the shape {list(shape)}; every dimension must be known", "convert with fixed shapes")
    buffer = read.scalar(at, 2, _Bytes._U32)
    if buffer >= len(buffers):
        raise _broken(f"tensor {name!r} has buffer {buffer} of {len(buffers)}")
    constant_bytes = read.vector(buffers[buffer], 0, 1, limit=MAX_FILE_BYTES)[1]
    quantization = read.child(at, 4)
    scales = read.vector(quantization, 2, 4)[1] if quantization else 0
    tensor = FileTensor(name, shape, _TYPES[number], constant_bytes > 0, scales)
    if tensor.constant and constant_bytes < tensor.size_bytes:
        raise _broken(f"tensor {name!r} needs {tensor.size_bytes:,} B and has {constant_bytes:,} B")
    return tensor


def _operator(read: _Bytes, at: int, codes: list[str], tensors: tuple[FileTensor, ...]) -> FileOp:
    index = read.scalar(at, 0, _Bytes._U32)
    if index >= len(codes):
        raise _broken(f"an operator has code {index} of {len(codes)}")
    kind = codes[index]
    inputs, outputs = read.ints(at, 1), read.ints(at, 2)
    for tensor in (*inputs, *outputs):
        if not -1 <= tensor < len(tensors):
            raise _broken(f"{kind} uses tensor {tensor} of {len(tensors)}")
    if not outputs or -1 in outputs:
        raise _broken(f"{kind} has no output")
    stride = (1, 1)
    options = read.child(at, 4)
    if options and kind in {"CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"}:
        stride = (read.scalar(options, 2, _Bytes._I32), read.scalar(options, 1, _Bytes._I32))
    return FileOp(kind, inputs, outputs, stride)


def _plan(read: _Bytes, model: int, buffers: list[int], tensors: int) -> tuple[int, ...] | None:
    for entry in read.tables(model, 6):
        if read.text(entry, 0) != "OfflineMemoryAllocation":
            continue
        buffer = read.scalar(entry, 1, _Bytes._U32)
        if buffer >= len(buffers):
            raise _broken(f"the memory plan is buffer {buffer} of {len(buffers)}")
        at, count = read.vector(buffers[buffer], 0, 1)
        values = struct.unpack_from(f"<{count // 4}i", read.data, at)
        if len(values) < 3 or values[2] != tensors or len(values) != 3 + tensors:
            raise _broken("its memory plan does not fit its tensors")
        return values[3:]
    return None


def to_work(model: ModelFile) -> Work:
    """The work of a model file. Raises ModelFileError naming every operator that the table does not know."""
    unknown = sorted({op.kind for op in model.ops if op.kind not in _NO_MACS and op.kind not in _COUNTED})
    if unknown:
        raise ModelFileError(
            f"{model.name}: unknown operator{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}",
            "known: " + ", ".join(sorted(_NO_MACS | set(_COUNTED))),
        )
    tensors = model.tensors
    pieces = tuple([_piece(index, op, tensors) for index, op in enumerate(model.ops)])
    return Work(
        sizes=tuple([0 if t.constant else t.size_bytes for t in tensors]),
        shapes=tuple([t.shape[1:] if len(t.shape) > 1 and t.shape[0] == 1 else t.shape for t in tensors]),
        pieces=pieces,
        inputs=model.inputs,
        outputs=model.outputs,
        tensor_count=len(tensors),
        input_scales=tuple([tensors[i].scales for i in model.inputs]),
        output_scales=tuple([tensors[i].scales for i in model.outputs]),
    )


def _without_pads(work: Work) -> Work:
    """``work`` with every PAD gone: its readers read what it padded."""
    source: dict[int, int] = {}
    pieces = []
    for piece in work.pieces:
        inputs = tuple([source.get(t, t) for t in piece.inputs])
        if piece.kind == "pad" and piece.outputs[0] not in work.outputs:
            source[piece.outputs[0]] = inputs[0]
        else:
            pieces.append(replace(piece, inputs=inputs))
    return replace(work, pieces=tuple(pieces)) if pieces else work


_Counter = Callable[[FileOp, Sequence[FileTensor]], tuple[int, tuple[int, int]]]


def _conv_macs(op: FileOp, tensors: Sequence[FileTensor]) -> tuple[int, tuple[int, int]]:
    weights = _weights(op, tensors, rank=4).shape
    return tensors[op.outputs[0]].elements * weights[1] * weights[2] * weights[3], (weights[1], weights[2])


def _depthwise_macs(op: FileOp, tensors: Sequence[FileTensor]) -> tuple[int, tuple[int, int]]:
    weights = _weights(op, tensors, rank=4).shape
    return tensors[op.outputs[0]].elements * weights[1] * weights[2], (weights[1], weights[2])


def _dense_macs(op: FileOp, tensors: Sequence[FileTensor]) -> tuple[int, tuple[int, int]]:
    return tensors[op.outputs[0]].elements * _weights(op, tensors, rank=2).shape[1], (1, 1)


def _transposed_macs(op: FileOp, tensors: Sequence[FileTensor]) -> tuple[int, tuple[int, int]]:
    weights = _weights(op, tensors, rank=4).shape
    source = op.inputs[2] if len(op.inputs) > 2 else -1
    if source < 0:
        raise _broken("TRANSPOSE_CONV has no input")
    return tensors[source].elements * weights[0] * weights[1] * weights[2], (weights[1], weights[2])


#: Operators with MACs: one formula each.
_COUNTED: Mapping[str, _Counter] = {
    "CONV_2D": _conv_macs,
    "DEPTHWISE_CONV_2D": _depthwise_macs,
    "FULLY_CONNECTED": _dense_macs,
    "TRANSPOSE_CONV": _transposed_macs,
}


def _weights(op: FileOp, tensors: Sequence[FileTensor], rank: int) -> FileTensor:
    tensor = tensors[op.inputs[1]] if len(op.inputs) > 1 and op.inputs[1] >= 0 else None
    if tensor is None or len(tensor.shape) != rank:
        raise _broken(f"{op.kind} has no weights of {rank} dimensions")
    return tensor


def _piece(index: int, op: FileOp, tensors: Sequence[FileTensor]) -> Piece:
    kind = _SHORT.get(op.kind, op.kind.lower())
    if not any(t >= 0 for t in op.inputs):
        raise _broken(f"{op.kind} has no input")
    macs, kernel = _COUNTED[op.kind](op, tensors) if op.kind in _COUNTED else (0, (1, 1))
    constants = [tensors[t] for t in op.inputs if t >= 0 and tensors[t].constant]
    # Shapes, axes and paddings are constants too, but no parameters of the network.
    parameters = constants if op.kind in _COUNTED or op.kind in {"ADD", "SUB", "MUL", "DIV", "PRELU"} else []
    biases = sum(t.elements for t in parameters if t.dtype == "int32") if op.kind in _COUNTED else 0
    out = tensors[op.outputs[0]]
    present = [tensors[t] for t in op.inputs if t >= 0]
    source = next((t for t in present if not t.constant), present[0])
    if kind in {"conv", "dw"} and (len(source.shape) != 4 or len(out.shape) != 4):
        raise _broken(f"{op.kind} does not work on images")
    channels_in = source.shape[-1] if source.shape else 1
    channels_out = out.shape[-1] if out.shape else 1
    scratch: tuple[int, ...] = ()
    cmsis: tuple[int, ...] = ()
    if op.kind == "MEAN":
        axes = tensors[op.inputs[1]].elements if len(op.inputs) > 1 and op.inputs[1] >= 0 else 1
        quantized = source.dtype in {"int8", "uint8", "int16"}
        scratch = mean_scratch(len(source.shape), axes, out.elements)[0 if quantized else 1 :]
        cmsis = scratch
    elif source.dtype == "int8":
        if kind == "conv":
            cmsis = conv_cmsis_scratch(kernel[0] * kernel[1], channels_in)
        elif kind == "dw":
            cmsis = depthwise_cmsis_scratch(*kernel, channels_out)
        elif kind in {"avg_pool", "max_pool"}:
            cmsis = pool_cmsis_scratch(kind, channels_in)
    return Piece(
        kind,
        f"{index}:{kind}",
        tuple([t for t in op.inputs if t >= 0 and not tensors[t].constant]) or (op.inputs[0],),
        op.outputs,
        macs,
        sum(t.elements for t in parameters) - biases,
        biases,
        sum(t.size_bytes for t in parameters),
        kernel,
        op.stride,
        channels_in,
        channels_out,
        scratch,
        cmsis,
    )
