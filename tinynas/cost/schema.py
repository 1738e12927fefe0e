"""What a .tflite is made of: names of operators and element types, tensors, operators, subgraphs.

Numbers and field positions are those of TensorFlow Lite's public schema (version 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from tinynas.arch import Activation
from tinynas.cost.flatbuffer import NO_OPTIONS, Options


def words(text: str) -> tuple[str, ...]:
    """``text`` split at its blanks."""
    return tuple(text.split())


#: Fused activations that networks of ours have, by their numbers, and the numbers of the two ways to pad.
ACTIVATIONS: dict[int, Activation] = {0: "none", 1: "relu", 3: "relu6"}
SAME, VALID = 0, 1
#: Builtin operator codes, in order.
OPERATORS = words(
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


def packed_bytes(elements: Any, bits: int) -> Any:
    """Bytes of so many elements of ``bits`` in a file: packed where they are smaller than a byte, the last byte filled up. Arrays give
    arrays."""
    return (elements * bits + 7) // 8


#: Element types in the schema's order, and bits of an element in the file; 0 for those without a fixed size.
TYPES = words(
    "float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64 resource variant uint32 uint16 int4 "
    "bfloat16 int2 uint4 float8_e4m3fn float8_e5m2"
)
_BITS = (32, 16, 32, 8, 64, 0, 8, 16, 64, 8, 64, 128, 64, 32, 0, 32, 16, 4, 16, 2, 4, 8, 8)
FILE_BITS: Mapping[str, int] = dict(zip(TYPES, _BITS, strict=True))


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
    outside: bool = False
    """Whether its content lies behind the flatbuffer, where TFLM does not look."""
    dynamic: bool = False
    """Whether the file leaves a dimension of it open; ``shape`` then holds what a runtime takes that cannot resize."""
    open: tuple[int, ...] = ()
    """Which dimensions those are."""

    @property
    def elements(self) -> int:
        """Number of elements; 0 where a dimension is not known (0 or less)."""
        return prod([max(size, 0) for size in self.shape])

    @property
    def size_bytes(self) -> int:
        """Bytes of its content in memory, where elements smaller than a byte take one; 0 for strings and variants."""
        return self.elements * ((FILE_BITS[self.dtype] + 7) // 8)

    @property
    def needed_bytes(self) -> int:
        """Bytes that its elements take in the file, packed where they are smaller than a byte."""
        needed: int = packed_bytes(self.elements, FILE_BITS[self.dtype])
        return needed

    @property
    def stored_bytes(self) -> int:
        """Bytes that the file holds of it: those that are there of sparse ones and strings; 0 where it is no constant."""
        if not self.constant:
            return 0
        return len(self.content) if self.sparse or not FILE_BITS[self.dtype] else self.needed_bytes

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

    @property
    def dilation(self) -> tuple[int, int]:
        """(down, across) of convolutions; (1, 1) for others."""
        first = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 5}.get(self.kind)
        if first is None or not self.options.type:
            return 1, 1
        return self.options.i32(first + 1, 1), self.options.i32(first, 1)


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A graph of the file: the first one is what runs, others are called by its operators."""

    name: str
    tensors: range
    """Its tensors among those of the file."""
    ops: range
    """Its operators among those of the file."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
