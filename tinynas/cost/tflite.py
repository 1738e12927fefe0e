"""Reads any .tflite without TensorFlow: the same cost table for models made by others.

A .tflite is a flatbuffer and comes from strangers: :mod:`tinynas.cost.flatbuffer` checks every offset, this module every index. A
broken file gives a ModelFileError and nothing else. Field numbers and operator codes are those of TensorFlow Lite's public
schema (version 3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from tinynas.cost.estimator import Cost, file_cost
from tinynas.cost.flatbuffer import I8, I32, I64, NO_OPTIONS, U8, U32, U64, Options, Reader, broken
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.work import Piece, Work, conv_cmsis_scratch, depthwise_cmsis_scratch, mean_scratch, pool_cmsis_scratch
from tinynas.errors import ModelFileError

#: Larger files are refused: no microcontroller model comes near, and reading must stay bounded.
MAX_FILE_BYTES = 256 * 1024 * 1024
#: Tensors, and operators, of all subgraphs together: so that planning their memory stays a matter of a second.
_MAX_TABLES = 20_000
_MAX_RANK = 8
_MAX_TENSOR_BYTES = 2**31 - 1


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
    "UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE "
    "STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM "
    "STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND "
    "STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR "
    "STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH "
    "STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE "
    "STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE "
    "STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE "
    "STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE"
)

#: Element types in the schema's order, and bits of an element in the file; 0 for those without a fixed size.
_TYPES = _words(
    "float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64 resource variant uint32 uint16 int4 "
    "bfloat16 int2 uint4 float8_e4m3fn float8_e5m2"
)
_BITS = (32, 16, 32, 8, 64, 0, 8, 16, 64, 8, 64, 128, 64, 32, 0, 32, 16, 4, 16, 2, 4, 8, 8)
FILE_BITS: Mapping[str, int] = dict(zip(_TYPES, _BITS, strict=True))

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
    """A tensor of the file."""

    name: str
    shape: tuple[int, ...]
    """With its batch dimension; () for a scalar."""
    dtype: str
    """Of :data:`FILE_BITS`."""
    constant: bool
    """Whether the file holds its content."""
    scales: int = 0
    """Number of quantisation scales: 0 for float, 1 per tensor, more per channel."""
    zero_points: int = 0
    """Number of zero points."""
    scale: float = 0.0
    """The first scale."""
    zero_point: int = 0
    """The first zero point."""
    axis: int = 0
    """The dimension to which several scales belong."""
    content: bytes | memoryview = b""
    """What the file holds of a constant; packed where elements are smaller than a byte."""
    buffer: int = 0
    """Number of its content in the file: tensors with one number share it; 0 holds nothing."""
    is_variable: bool = False
    """Whether it keeps its content between inferences."""
    sparse: bool = False
    dynamic: bool = False
    """Whether the file leaves a dimension of it open; ``shape`` then holds what a runtime takes that cannot resize."""

    @property
    def elements(self) -> int:
        """Number of elements; 0 where a dimension is not known (0 or less)."""
        return prod([max(size, 0) for size in self.shape])

    @property
    def size_bytes(self) -> int:
        """Bytes of its content in memory, where elements smaller than a byte take one; 0 for strings and variants."""
        return self.elements * ((FILE_BITS[self.dtype] + 7) // 8)

    @property
    def content_bytes(self) -> int:
        """Bytes that the file holds of a constant: fewer than ``size_bytes`` for packed, sparse and compressed ones."""
        return len(self.content)

    @property
    def unknown_shape(self) -> bool:
        """Whether a dimension is not known: 0 or less ([0] alone is how old files write a scalar)."""
        return self.shape != (0,) and any(size < 1 for size in self.shape)


@dataclass(frozen=True, slots=True)
class FileOp:
    """An operator of the file; tensor -1 is an omitted input."""

    kind: str
    """TensorFlow Lite's name, CUSTOM for all others."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...] = ()
    options: Options = NO_OPTIONS
    custom_name: str = ""
    custom_options: bytes = b""

    @property
    def title(self) -> str:
        """Its kind, with the name of a custom operator."""
        return f"CUSTOM {self.custom_name or '(without a name)'}" if self.kind == "CUSTOM" else self.kind

    @property
    def stride(self) -> tuple[int, int]:
        """(down, across) of convolutions and pooling; (1, 1) for others."""
        if self.kind not in {"CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"} or not self.options.type:
            return 1, 1
        return self.options.i32(2), self.options.i32(1)


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A graph of the file: the first one is what runs, others are called by its operators."""

    name: str
    tensors: range
    """Its tensors among :attr:`ModelFile.tensors`."""
    ops: range
    """Its operators among :attr:`ModelFile.ops`."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the cost models need of a .tflite. Tensors are numbered through all subgraphs."""

    name: str
    size_bytes: int
    tensors: tuple[FileTensor, ...]
    ops: tuple[FileOp, ...]
    inputs: tuple[int, ...]
    """Of the first subgraph."""
    outputs: tuple[int, ...]
    plan: tuple[int, ...] | None = None
    """Offsets of TFLM's OfflineMemoryAllocation metadata, one a tensor; None where the file has none."""
    subgraphs: tuple[Subgraph, ...] = ()

    def estimate(self, runtime: str = "tflm", *, core: str | None = None, clock_mhz: float | None = None) -> Cost:
        """The cost of the model as it is in the file: its own operators, its own memory plan if it has one.

        Raises ModelFileError naming every operator that the table does not know, UserError for an unknown runtime.
        """
        chosen, work = runtime_named(runtime), to_work(self)
        if chosen.pads_inside:
            work = _without_pads(work)
        return file_cost(work, chosen, self.size_bytes, self.plan, core=core, clock_mhz=clock_mhz)

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constant tensors (a tensor counts once, shared content for each of its tensors)."""
        return sum(t.content_bytes for t in self.tensors if t.constant)


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
    read = Reader(data)
    model = read.unpack(U32, 0)
    version = read.scalar(model, 0, U32)
    if version != 3:
        raise ModelFileError(f"is of schema version {version}; version 3 is supported", "convert the model again")
    codes = [_operator_name(read, code) for code in read.tables(model, 1)]
    contents = [_content(read, buffer) for buffer in read.tables(model, 4)]
    tensors: list[FileTensor] = []
    ops: list[FileOp] = []
    subgraphs: list[Subgraph] = []
    for graph in read.tables(model, 2):
        _subgraph(read, graph, codes, contents, tensors, ops, subgraphs)
    if not subgraphs or not ops or not subgraphs[0].tensors:
        raise broken("it has no operators")
    main = subgraphs[0]
    plan = _plan(read, model, contents, len(tensors))
    return ModelFile(name, len(data), tuple(tensors), tuple(ops), main.inputs, main.outputs, plan, tuple(subgraphs))


def _operator_name(read: Reader, code: int) -> tuple[str, str]:
    number = max(read.scalar(code, 0, I8), read.scalar(code, 3, I32))
    if number == 32:
        return "CUSTOM", read.text(code, 1)[:60]
    return (_OPERATORS[number] if 0 <= number < len(_OPERATORS) else f"operator {number}"), ""


def _content(read: Reader, buffer: int) -> memoryview:
    at, count = read.vector(buffer, 0, 1, limit=MAX_FILE_BYTES)
    offset, size = read.scalar(buffer, 1, U64), read.scalar(buffer, 2, U64)
    if offset > 1 and not count:  # content behind the flatbuffer
        if offset + size > len(read.data):
            raise broken(f"a content of {size:,} B lies at byte {offset:,}, outside its {len(read.data):,} B")
        at, count = offset, size
    return memoryview(read.data)[at : at + count]


def _subgraph(
    read: Reader,
    graph: int,
    codes: Sequence[tuple[str, str]],
    contents: Sequence[memoryview],
    tensors: list[FileTensor],
    ops: list[FileOp],
    subgraphs: list[Subgraph],
) -> None:
    first_tensor, first_op = len(tensors), len(ops)
    own, operators = read.tables(graph, 0), read.tables(graph, 3)
    for number, noun in ((first_tensor + len(own), "tensors"), (first_op + len(operators), "operators")):
        if number > _MAX_TABLES:
            raise ModelFileError(f"has {number:,} {noun} or more", f"no more than {_MAX_TABLES:,} are read")
    tensors += [_tensor(read, at, contents) for at in own]
    ops += [_operator(read, at, codes, first_tensor, len(own)) for at in operators]
    ends = []
    for listed in (read.ints(graph, 1), read.ints(graph, 2)):
        for index in listed:
            if not 0 <= index < len(own):
                raise broken(f"an input or output is tensor {index} of {len(own)}")
        ends.append(tuple([first_tensor + index for index in listed]))
    name = read.text(graph, 4)
    subgraphs.append(Subgraph(name, range(first_tensor, len(tensors)), range(first_op, len(ops)), ends[0], ends[1]))


def _tensor(read: Reader, at: int, contents: Sequence[memoryview]) -> FileTensor:
    name = read.text(at, 3)
    number = read.scalar(at, 1, I8)
    if not 0 <= number < len(_TYPES):
        raise ModelFileError(f"tensor {name!r} has the unknown element type {number}", "known: " + ", ".join(_TYPES))
    buffer = read.scalar(at, 2, U32)
    if buffer >= len(contents):
        raise broken(f"tensor {name!r} has buffer {buffer} of {len(contents)}")
    content = contents[buffer]
    scales = zero_points = axis = zero_point = 0
    scale = 0.0
    if quantization := read.child(at, 4):
        first, scales = read.vector(quantization, 2, 4)
        scale = read.f32(first) if scales else 0.0
        first, zero_points = read.vector(quantization, 3, 8)
        zero_point = read.unpack(I64, first) if zero_points else 0
        axis = read.scalar(quantization, 6, I32)
    tensor = FileTensor(
        name,
        read.ints(at, 0, limit=_MAX_RANK),
        _TYPES[number],
        len(content) > 0,
        scales,
        zero_points,
        scale,
        zero_point,
        axis,
        content,
        buffer,
        read.scalar(at, 5, U8) != 0,
        read.child(at, 6) != 0,
        -1 in read.ints(at, 7, limit=_MAX_RANK),
    )
    if tensor.size_bytes > _MAX_TENSOR_BYTES:
        raise broken(f"tensor {name!r} has the shape {list(tensor.shape)}, more than 2 GiB")
    needed = (tensor.elements * FILE_BITS[tensor.dtype] + 7) // 8
    if tensor.constant and not tensor.sparse and len(content) < needed:
        raise broken(f"tensor {name!r} needs {needed:,} B and has {len(content):,} B")
    return tensor


def _operator(read: Reader, at: int, codes: Sequence[tuple[str, str]], first: int, count: int) -> FileOp:
    index = read.scalar(at, 0, U32)
    if index >= len(codes):
        raise broken(f"an operator has code {index} of {len(codes)}")
    kind, custom_name = codes[index]
    lists = [read.ints(at, number) for number in (1, 2, 8)]
    for listed in lists:
        for tensor in listed:
            if not -1 <= tensor < count:
                raise broken(f"{kind} uses tensor {tensor} of {count}")
    if -1 in lists[1]:
        raise broken(f"{kind} leaves out an output")
    inputs, outputs, intermediates = [tuple([first + t if t >= 0 else -1 for t in listed]) for listed in lists]
    custom_at, custom_bytes = read.vector(at, 5, 1)
    read.pay(custom_bytes)
    table = read.child(at, 4)
    options = Options(read.scalar(at, 3, U8), read, table) if table else NO_OPTIONS
    return FileOp(kind, inputs, outputs, intermediates, options, custom_name, read.data[custom_at : custom_at + custom_bytes])


def _plan(read: Reader, model: int, contents: Sequence[memoryview], tensors: int) -> tuple[int, ...] | None:
    for entry in read.tables(model, 6):
        if read.text(entry, 0) != "OfflineMemoryAllocation":
            continue
        buffer = read.scalar(entry, 1, U32)
        if buffer >= len(contents):
            raise broken(f"the memory plan is buffer {buffer} of {len(contents)}")
        content = contents[buffer]
        read.pay(len(content) // 4)
        values = struct.unpack_from(f"<{len(content) // 4}i", content)
        if len(values) < 3 or values[2] != tensors or len(values) != 3 + tensors:
            raise broken("its memory plan does not fit its tensors")
        return values[3:]
    return None


def to_work(model: ModelFile) -> Work:
    """The work of a model file. Raises ModelFileError naming every operator that the table does not know."""
    if len(model.subgraphs) > 1:
        raise ModelFileError(f"holds {len(model.subgraphs)} subgraphs; one is supported (no IF, WHILE or CALL)", None)
    unknown = sorted({op.title for op in model.ops if op.kind not in _NO_MACS and op.kind not in _COUNTED})
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
        raise broken("TRANSPOSE_CONV has no input")
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
        raise broken(f"{op.kind} has no weights of {rank} dimensions")
    return tensor


def _piece(index: int, op: FileOp, tensors: Sequence[FileTensor]) -> Piece:
    kind = _SHORT.get(op.kind, op.kind.lower())
    if not any(t >= 0 for t in op.inputs):
        raise broken(f"{op.kind} has no input")
    if not op.outputs:
        raise broken(f"{op.kind} has no output")
    macs, kernel = _COUNTED[op.kind](op, tensors) if op.kind in _COUNTED else (0, (1, 1))
    constants = [tensors[t] for t in op.inputs if t >= 0 and tensors[t].constant]
    # Shapes, axes and paddings are constants too, but no parameters of the network.
    parameters = constants if op.kind in _COUNTED or op.kind in {"ADD", "SUB", "MUL", "DIV", "PRELU"} else []
    biases = sum(t.elements for t in parameters if t.dtype == "int32") if op.kind in _COUNTED else 0
    out = tensors[op.outputs[0]]
    present = [tensors[t] for t in op.inputs if t >= 0]
    source = next((t for t in present if not t.constant), present[0])
    if kind in {"conv", "dw"} and (len(source.shape) != 4 or len(out.shape) != 4):
        raise broken(f"{op.kind} does not work on images")
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
