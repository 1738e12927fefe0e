"""What TFLM's reference kernel of each operator takes in the arena, and which element types it accepts: one row an operator.

From TFLM's sources: sizes are those of the structures named in the comments, compiled for both targets by benchmarks/tflm_sizes.py;
what a kernel asks for beside them is what its Prepare function asks for. tests/test_kernels.py holds a file of every row and
element type against tflite-micro's own interpreter.

A kernel takes, beside its node: the options of the operator as parsed (on their own alignment), persistent buffers in the tail (each
on 16 bytes), and scratch in the head while it runs. Every operator that TFLM's resolver of all operators has is here, but for the
custom operators of signal processing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinynas.cost import kernel_checks as checks
from tinynas.cost import kernel_sizes as sizes
from tinynas.cost.custom_kernels import CUSTOM_KERNELS
from tinynas.cost.kernel import INT_BYTES, Family, Kernel, Needs, Seen, both, parsed, quantized, target_of
from tinynas.cost.schema import FileOp, FileTensor, words

_QUANTIZED = "int8 int16 float32"
_CONVOLUTION = "float32/float32/float32 int8/int8/int8 int8/int4/int8 int16/int8/int16"
_ACTIVATION = parsed((1, 1), (4, 4))
_ADDED = parsed((2, 1), (8, 4))
_TWO_INTS = parsed((8, 4), (8, 4))
_ONE_INT = parsed((4, 4), (4, 4))
_REDUCED = parsed((1, 1), (1, 1))
_POOLED = parsed((40, 4), (40, 4))
_SHAPED = parsed((36, 4), (36, 4))
_FLOAT = "float32"


def _pairs(first: str, second: str) -> str:
    """Every type of the one with every type of the other."""
    return " ".join(f"{a}/{b}" for a in words(first) for b in words(second))


def _comparison(types: str) -> Kernel:
    return Kernel(types, "i0 i1", data=both(32))


KERNELS: Mapping[str, Kernel] = {
    # sums and products
    "CONV_2D": Kernel(
        _CONVOLUTION,
        "i0 i1 o0",
        parsed((28, 4), (28, 4)),
        {"mcu": 56, "host": 80},
        sizes.per_channel(0),
        sizes.unpacked_weights,
        checks.weights_quantized(0),
    ),
    "DEPTHWISE_CONV_2D": Kernel(
        "float32/float32 int8/int8 int8/int4 int16/int8",
        "i0 i1",
        parsed((28, 4), (28, 4)),
        {"mcu": 56, "host": 80},
        sizes.per_channel(3),
        sizes.unpacked_weights,
        checks.weights_quantized(3),
    ),
    "FULLY_CONNECTED": Kernel(
        _CONVOLUTION,
        "i0 i1 o0",
        parsed((5, 1), (32, 8)),
        {"mcu": 48, "host": 72},
        sizes.dense_channels,
        sizes.unpacked_weights,
        checks.dense,
    ),
    "TRANSPOSE_CONV": Kernel(
        "float32/float32 int8/int8 int16/int8",
        "i2 i1",
        parsed((16, 4), (20, 4)),
        {"mcu": 72, "host": 88},
        sizes.per_channel(0),
        sizes.transposed,
        checks.weights_quantized(-4),
    ),
    "BATCH_MATMUL": Kernel(
        _QUANTIZED, "i0 i1 o0", parsed((3, 1), (3, 1)), {"mcu": 16, "host": 32}, sizes.matmul, check=checks.ranks(2, 5, "i0", "i1")
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Kernel(
        "float32/float32/float32 float32/int8/float32 int8/int8/int16 int16/int8/int16",
        "i0 i2 i19",
        parsed((16, 4), (16, 4)),
        both(688),
        scratch=sizes.lstm,
        check=checks.lstm_inputs,
    ),
    "SVDF": Kernel(
        "float32/float32/float32/float32 int8/int8/int16/int16 int8/int8/int8/int8",
        "i0 i1 i2 i4",
        parsed((8, 4), (12, 4)),
        both(36),
        scratch=sizes.svdf,
        check=checks.state,
    ),
    "EMBEDDING_LOOKUP": Kernel(
        "int32/float32/float32 int32/int8/float32 int32/int8/int8",
        "i0 i1 o0",
        more=lambda seen, target: (*sizes.new_dims(seen, target), {"mcu": 8, "host": 16}[target]),
    ),
    # element by element
    "ADD": Kernel("int8 int16 float32 int32", "o0", _ADDED, both(60), check=checks.plain_int32),
    "SUB": Kernel("int8 int16 float32 int32", "o0", _ADDED, both(52), check=checks.plain_int32),
    "MUL": Kernel("int8 int16 float32 int32", "i0 i1", _ACTIVATION, both(36), check=checks.zero_at_int16("i0", "i1", "o0")),
    "DIV": Kernel("int8 float32 int32", "i0 i1 o0", _ACTIVATION, both(28), check=checks.plain_int32),
    "MAXIMUM": Kernel("int8 int16 float32 int32 int64", "o0"),
    "MINIMUM": Kernel("int8 int16 float32 int32 int64", "o0"),
    "SQUARED_DIFFERENCE": Kernel("int8 int16 float32 int32", "i0 i1 o0", data=both(112), check=checks.zero_at_int16("i0", "i1", "o0")),
    "FLOOR_DIV": Kernel(_FLOAT, "i0 i1 o0"),
    "FLOOR_MOD": Kernel(_FLOAT, "i0 i1 o0"),
    "ADD_N": Kernel("int8 float32", "i0 o0", more=sizes.only_int8(40), scratch=sizes.added, check=checks.added_up),
    "LOGICAL_AND": Kernel("", ""),
    "LOGICAL_OR": Kernel("", ""),
    "LOGICAL_NOT": Kernel("bool"),
    "EQUAL": _comparison("int8 float32 int32 int64 bool"),
    "NOT_EQUAL": _comparison("int8 float32 int32 int64 bool"),
    "GREATER": _comparison("int8 int16 float32 int32 int64"),
    "GREATER_EQUAL": _comparison("int8 float32 int32 int64"),
    "LESS": _comparison("int8 float32 int32 int64"),
    "LESS_EQUAL": _comparison("int8 float32 int32 int64"),
    "ABS": Kernel(_QUANTIZED, data=both(28), check=checks.rooted),
    "RSQRT": Kernel(_QUANTIZED, data=both(28), check=checks.rooted),
    "CEIL": Kernel(_FLOAT),
    "COS": Kernel(_FLOAT),
    "EXP": Kernel(_FLOAT),
    "FLOOR": Kernel(_FLOAT),
    "LOG": Kernel(_FLOAT),
    "NEG": Kernel(_FLOAT, slots="i0"),
    "ROUND": Kernel(_FLOAT),
    "SIN": Kernel(_FLOAT),
    "SQRT": Kernel(_FLOAT),
    "SQUARE": Kernel(_FLOAT),
    "ZEROS_LIKE": Kernel("int8 float32 int32 int64", slots="i0"),
    # activations
    "RELU": Kernel(_QUANTIZED, slots="i0", data=both(28), check=checks.zero_at_int16("i0", "o0")),
    "RELU6": Kernel(_QUANTIZED, slots="i0", data=both(8)),
    "ELU": Kernel("int8 float32", data=both(256)),
    "HARD_SWISH": Kernel("int8 float32", slots="i0", data=both(20)),
    "LEAKY_RELU": Kernel(_QUANTIZED, options=_ONE_INT, data=both(24)),
    "PRELU": Kernel("float32/float32 int8/int8 int16/int8", "i0 i1", data=both(28)),
    "LOGISTIC": Kernel(_QUANTIZED, data=both(16), check=checks.fixed_grid({("int8", "int8"): (0, -128), ("int16", "int16"): (2**-15, 0)})),
    "TANH": Kernel(_QUANTIZED, data=both(16), check=checks.fixed_grid({("int16", "int16"): (2**-15, 0)})),
    "SOFTMAX": Kernel(
        "int8/int8 int8/int16 int16/int16 float32/float32",
        options=_ONE_INT,
        data={"mcu": 56, "host": 80},
        more=sizes.softmax_tables,
        check=checks.fixed_grid({("int8", "int8"): (2**-8, -128), ("int8", "int16"): (2**-16, -32768), ("int16", "int16"): (2**-15, 0)}),
    ),
    "LOG_SOFTMAX": Kernel("int8 float32", more=sizes.log_softmax, check=checks.fixed_grid({("int8", "int8"): (16 / 256, 127)})),
    "L2_NORMALIZATION": Kernel("int8 float32", options=_ACTIVATION, data=both(4), check=checks.ranks(0, 4)),
    # windows and reductions
    "AVERAGE_POOL_2D": Kernel(_QUANTIZED, "i0", _POOLED, both(32), check=checks.same_grid),
    "MAX_POOL_2D": Kernel(_QUANTIZED, "i0", _POOLED, both(32), check=checks.same_grid),
    "L2_POOL_2D": Kernel(_FLOAT, "i0 o0", _POOLED, more=sizes.new_dims, check=checks.ranks(4, 4, "i0", "o0")),
    "MEAN": Kernel(_QUANTIZED, "i0", _REDUCED, both(44), scratch=sizes.summed),
    "SUM": Kernel(_QUANTIZED, "i0", _REDUCED, both(44), scratch=sizes.summed),
    "REDUCE_MAX": Kernel("int8 float32", "i0", _REDUCED, both(44), scratch=sizes.compared),
    "REDUCE_MIN": Kernel("int8 float32", "i0", _REDUCED, both(44), scratch=sizes.compared),
    "REDUCE_ALL": Kernel("bool", "i0", _REDUCED, both(44), scratch=sizes.compared),
    "ARG_MAX": Kernel("int8/int32/int32 float32/int32/int32", "i0 i1 o0", _ACTIVATION),
    "ARG_MIN": Kernel("int8/int32/int32 float32/int32/int32", "i0 i1 o0", _ACTIVATION),
    "CUMSUM": Kernel("int8/int32/int8 float32/int32/float32", "i0 i1 o0", parsed((2, 1), (2, 1)), more=sizes.only_int8(36)),
    # between element types
    "QUANTIZE": Kernel(
        "float32/int8 float32/int16 int32/int8 int32/int16 int16/int8 int16/int16 int16/int32 int8/int8 int8/uint8 int8/int16 "
        "int8/int32 uint8/int8",
        data=both(32),
        check=checks.requantized,
    ),
    "DEQUANTIZE": Kernel("int8/float32 int16/float32 uint8/float32", data=both(32)),
    "CAST": Kernel(
        _pairs("int8 int16 int32 uint32 float32 bool", "int8 int16 int32 uint32 float32"),
        options=_ADDED,
    ),
    # moving values
    "RESHAPE": Kernel("", "i0 o0", _SHAPED, more=sizes.reshaped),
    "SQUEEZE": Kernel("", "", _SHAPED),
    "EXPAND_DIMS": Kernel(_QUANTIZED, "i0", check=checks.constant(1)),
    "SHAPE": Kernel("", "", _ACTIVATION),
    "PAD": Kernel("int8 int16 float32 int32", data=both(56), check=checks.padded),
    "PADV2": Kernel("int8 int16 float32 int32", "i0 i2 o0", data=both(56), check=checks.padded),
    "MIRROR_PAD": Kernel("int8 float32", "o0", _ACTIVATION, both(20), scratch=sizes.mirrored),
    "TRANSPOSE": Kernel(_QUANTIZED, check=checks.constant(1, rank=5)),
    "CONCATENATION": Kernel(
        "int8 int16 float32 int32 int64 bool", options=_TWO_INTS, data={"mcu": 24, "host": 80}, check=checks.concatenated
    ),
    "SPLIT": Kernel("int8 int16 float32 int32", "i1", _ONE_INT, check=checks.constant(0)),
    "SPLIT_V": Kernel("int8 int16 float32 int32", "i0", _ONE_INT, check=checks.constant(2)),
    "SLICE": Kernel(" ".join(f"{t}/{at}/{at}" for t in words("int8 int16 float32 int32 bool") for at in ("int32", "int64")), "i0 i1 i2"),
    "STRIDED_SLICE": Kernel(
        "int8 int16 float32 int32 bool", "o0", parsed((24, 4), (24, 4)), both(84), check=checks.constant(1, 2, 3, rank=4)
    ),
    "PACK": Kernel("int8 int16 float32 int32 int64", "o0", _TWO_INTS),
    "UNPACK": Kernel("int8 int16 float32 int32", "i0", _TWO_INTS),
    "SPACE_TO_DEPTH": Kernel("int8 float32", options=_ONE_INT, more=sizes.new_dims, check=checks.ranks(4, 4)),
    "DEPTH_TO_SPACE": Kernel("int8 float32", options=_ONE_INT, more=sizes.new_dims, check=checks.ranks(4, 4)),
    "SPACE_TO_BATCH_ND": Kernel("int8 float32", data=both(4), check=checks.ranks(3, 4, "i0", "o0")),
    "BATCH_TO_SPACE_ND": Kernel("int8 float32", check=checks.ranks(3, 4, "i0", "o0")),
    "GATHER": Kernel("int8/int32 float32/int32", "i0 i1", _TWO_INTS, more=sizes.new_dims),
    "GATHER_ND": Kernel("int8/int32 float32/int32", "i0 i1", more=sizes.new_dims),
    "REVERSE_V2": Kernel(
        " ".join(f"{t}/int32/{t}" for t in words("int8 int16 float32 uint8 int32 int64 bool")), "i0 i1 o0", check=checks.ranks(0, 6)
    ),
    "BROADCAST_TO": Kernel("", "", check=checks.constant(1, rank=5)),
    "BROADCAST_ARGS": Kernel("int32 int64", "i0 i1 o0"),
    "FILL": Kernel("int8 float32 int32", "i1 o0", check=checks.constant(0)),
    "SELECT_V2": Kernel("bool/int8/int8 bool/int16/int16 bool/float32/float32", "i0 i1 i2", data=both(1)),
    "DYNAMIC_UPDATE_SLICE": Kernel(
        " ".join(f"{t}/{t}/{at}" for t in words("int8 int16 float32 int32") for at in ("int32", "int64")), "i0 i1 i2"
    ),
    "RESIZE_BILINEAR": Kernel("int8/int32 float32/int32", "i0 i1", parsed((2, 1), (2, 1)), check=checks.bilinear),
    "RESIZE_NEAREST_NEIGHBOR": Kernel("int8/int32 int16/int32 float32/int32", "i0 i1", parsed((2, 1), (2, 1)), check=checks.constant(1)),
    # other graphs of the file, and state
    "IF": Kernel("bool", "i0", _TWO_INTS, both(8)),
    "WHILE": Kernel("", "", _TWO_INTS, both(8)),
    "CALL_ONCE": Kernel("", "", _ONE_INT, both(8)),
    "VAR_HANDLE": Kernel("", "", parsed((8, 4), (16, 8)), both(4)),
    "READ_VARIABLE": Kernel("", ""),
    # The wheel is built with weight compression, for which it keeps a number.
    "ASSIGN_VARIABLE": Kernel("", "", data={"mcu": 0, "host": 4}),
}


#: Parsed options that another family has otherwise than the Cortex-M of today.
_OPTIONS: Mapping[Family, Mapping[str, tuple[int, int]]] = {
    # Without the type of a quantised bias, and of a strided slice without its offset.
    "arduino": {"CONV_2D": (24, 4), "FULLY_CONNECTED": (4, 1), "STRIDED_SLICE": (20, 4)},
    # Enumerations of 4 bytes.
    "espressif": {
        **dict.fromkeys(("ADD", "SUB", "CAST"), (8, 4)),
        **dict.fromkeys(("MUL", "DIV", "ARG_MAX", "ARG_MIN", "L2_NORMALIZATION", "MIRROR_PAD", "SHAPE"), (4, 4)),
        "FULLY_CONNECTED": (16, 4),
        "SVDF": (12, 4),
        "TRANSPOSE_CONV": (20, 4),
    },
}
#: Structures of reference kernels that another family has otherwise.
_STRUCTURES: Mapping[Family, Mapping[str, int]] = {
    "arduino": {
        "FULLY_CONNECTED": 36,
        "RELU6": 2,
        **dict.fromkeys(("ABS", "RSQRT"), 20),
        **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ALL"), 40),
    },
}


def options_of(name: str, kernel: Kernel, family: Family) -> tuple[int, int]:
    """(size, alignment) of the parsed options of operator ``name``."""
    return _OPTIONS.get(family, {}).get(name, kernel.options[target_of(family)])


def structure_of(name: str, kernel: Kernel, family: Family) -> int:
    """Bytes of the structure that the reference kernel of operator ``name`` keeps."""
    return _STRUCTURES.get(family, {}).get(name, kernel.data[target_of(family)])


def kernel_of(op: FileOp) -> Kernel | None:
    """The row of ``op``; None where the table does not have it."""
    return CUSTOM_KERNELS.get(op.custom_name) if op.kind == "CUSTOM" else KERNELS.get(op.kind)


def needs(op: FileOp, tensors: Sequence[FileTensor], family: Family) -> Needs | None:
    """What the reference kernel of ``op`` takes in ``family``; None where the table does not have it."""
    kernel = kernel_of(op)
    if kernel is None:
        return None
    seen, target = Seen(op, tensors), target_of(family)
    if op.kind in _TEMPS:
        held = [tensor for name in words(_TEMPS[op.kind]) if (tensor := seen.slot(name)) is not None]
    else:
        held = [*seen.inputs(), *[tensors[t] for t in op.outputs]]
    return Needs(
        options_of(op.kind, kernel, family),
        structure_of(op.kind, kernel, family),
        kernel.more(seen, target),
        kernel.scratch(seen, target),
        sum([_record(tensor, family) for tensor in held]),
    )


def _record(tensor: FileTensor, family: Family) -> int:
    """Bytes of a TfLiteTensor with its TfLiteAffineQuantization and zero points."""
    size, quantization, alignment = RECORD_BYTES[family]
    if quantized(tensor):
        size += quantization + INT_BYTES * (1 + tensor.scales)
    return (size + alignment - 1) & -alignment


#: Sizes of TfLiteTensor and TfLiteAffineQuantization, and the alignment of both.
RECORD_BYTES: Mapping[Family, tuple[int, int, int]] = {
    "mcu": (32, 12, 4),
    "host": (64, 24, 8),
    "arduino": (64, 12, 4),
    "espressif": (40, 12, 4),
}
#: What differs from every input and output once, by operator: Prepare functions call others that look at the same tensors again.
_TEMPS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), "o0 i0 i1 i0 i1 i2 o0"),
    "TRANSPOSE_CONV": "o0 i2 i1 i2 i1 i3 o0",
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_ALL"), "i0 o0 i1 i0 i1 o0"),
    "TANH": "i0 i0 o0",
    **dict.fromkeys(words("RESHAPE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND"), "i0 o0"),
    "ADD_N": "i0 o0 i1",
    "CONCATENATION": "o0 i0",
    **dict.fromkeys(words("EQUAL NOT_EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL"), "i0 i1"),
    **dict.fromkeys(words("RELU6 SPLIT IF READ_VARIABLE"), "i0"),
    "SPLIT_V": "i2",
    "ASSIGN_VARIABLE": "i1",
    **dict.fromkeys(
        words("FLOOR ARG_MAX ARG_MIN LOGICAL_AND LOGICAL_OR MAXIMUM MINIMUM NEG PACK UNPACK SHAPE WHILE CALL_ONCE VAR_HANDLE"), ""
    ),
}


def refusal(op: FileOp, tensors: Sequence[FileTensor]) -> str | None:
    """Why TFLM's kernel of ``op`` fails, in words ("CONV_2D with float32 input and int8 weights (hybrid)"); None where it runs.

    An operator that the table does not have is not judged.
    """
    kernel = kernel_of(op)
    if kernel is None:
        return None
    seen = Seen(op, tensors)
    slots = kernel.slots.split()
    found = [seen.slot(name) for name in slots]
    if kernel.types and any(tensor is None for tensor in found):
        return f"{op.title} without {_slot_word(op.kind, slots[found.index(None)])}"
    types = [tensor.dtype for tensor in found if tensor is not None]
    patterns = [word.split("/") if "/" in word else [word] * len(slots) for word in kernel.types.split()]
    if kernel.types and types not in patterns:
        return f"{op.title} with {_described(op.kind, slots, types, patterns)}{_why(op, found)}"
    reason = kernel.check(seen)
    return None if reason is None else f"{op.title} with {reason}"


def caution(op: FileOp, tensors: Sequence[FileTensor]) -> str | None:
    """What must be said of ``op``, which TFLM takes and does wrongly; None where nothing is."""
    seen = Seen(op, tensors)
    if op.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" and (seen.dtype(0), seen.dtype(2)) == ("float32", "int8"):
        return f"{op.title} with float32 input and int8 weights (hybrid): tflite-micro reads the weights as floats, its answers are wrong"
    return None


#: Operators that multiply by weights: both types are named.
_WEIGHTED = frozenset(words("CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM SVDF"))
_WORDS = {
    "CONV_2D": {"i1": "weights"},
    "DEPTHWISE_CONV_2D": {"i1": "weights"},
    "FULLY_CONNECTED": {"i1": "weights"},
    "TRANSPOSE_CONV": {"i1": "weights", "i2": "input"},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {"i2": "weights", "i19": "cell state"},
    "SVDF": {"i1": "feature weights", "i2": "time weights", "i4": "state"},
    "PRELU": {"i1": "slopes"},
    "PADV2": {"i2": "padding value"},
    "SELECT_V2": {"i0": "condition", "i1": "input", "i2": "input"},
}


def _slot_word(kind: str, slot: str) -> str:
    if slot in _WORDS.get(kind, {}):
        return _WORDS[kind][slot]
    if slot == "i0":
        return "input"
    return "output" if slot[0] == "o" else f"input {slot[1:]}"


def _described(kind: str, slots: Sequence[str], types: Sequence[str], patterns: Sequence[Sequence[str]]) -> str:
    """ "int16 input" where nothing takes that, "float32 input and int8 weights" where it is the combination that nothing takes."""
    if len(set(types)) == 1 and kind not in _WEIGHTED:
        return f"{types[0]} {'output' if slots[0][0] == 'o' else 'input'}"
    nearest = min(patterns, key=lambda pattern: sum(a != b for a, b in zip(types, pattern, strict=True)))
    wrong = [place for place, (a, b) in enumerate(zip(types, nearest, strict=True)) if a != b]
    if any(types[place] in [pattern[place] for pattern in patterns] for place in wrong):
        wrong = list(range(len(types)))
    named = [(types[place], _slot_word(kind, slots[place])) for place in wrong]
    if len(named) > 2 and named[-1] == (named[0][0], "output"):
        named.pop()
    words = [f"{t} {word}" for t, word in named]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _why(op: FileOp, found: Sequence[FileTensor | None]) -> str:
    types = [tensor.dtype for tensor in found if tensor is not None]
    if types[0] == "float32" and {"int8", "int4"} & set(types[1:]) and op.kind in _WEIGHTED:
        return " (hybrid)"
    if op.kind == "DEQUANTIZE" and found[0] is not None and found[0].constant and types[0] == "float16":
        return " (float16 weights)"
    return ""
