"""What TFLM's reference kernel of each operator takes in the arena, and which element types it accepts: one row an operator.

From TFLM's sources: sizes are those of the structures named in the comments, compiled for both targets by benchmarks/tflm_sizes.py;
what a kernel asks for beside them is what its Prepare function asks for. tests/test_kernels.py holds a file of every row and
element type against tflite-micro's own interpreter.

A kernel takes, beside its node: the options of the operator as parsed (on their own alignment), persistent buffers in the tail (each
on 16 bytes), and scratch in the head while it runs. Every operator that TFLM's resolver of all operators has is here, but for the
custom operators of signal processing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tinynas.cost.flexbuffer import map_integers
from tinynas.cost.schema import FileOp, FileTensor, words

Target = Literal["mcu", "host"]
"""A 32-bit Cortex-M, and the 64-bit machine that runs tflite-micro's Python wheel."""
Build = Literal["mcu", "host", "cmsis"]
"""Kernels on a target; ``cmsis`` are CMSIS-NN's on the Cortex-M (:mod:`tinynas.cost.cmsis`)."""
TARGETS: tuple[Target, ...] = ("mcu", "host")


@dataclass(frozen=True, slots=True)
class Needs:
    """What the kernel of one operator takes in the arena on one target, in bytes, beside its node."""

    options: tuple[int, int]
    """Size and alignment of its parsed options; (0, 1) where there are none."""
    structure: int
    """The structure that it keeps, in the tail on 16 bytes, asked for before all others; 0 where it keeps none."""
    persistent: tuple[int, ...]
    """Other buffers in the tail, each on 16 bytes, in the order in which they are asked for."""
    scratch: tuple[int, ...]
    """Buffers in the head while it runs."""
    temporary: int = 0
    """Bytes of tensor records in the head, all at once, while its Prepare function runs."""

    @property
    def persistent_bytes(self) -> int:
        """Bytes of all persistent buffers as they lie in the tail."""
        return aligned(self.structure) + sum([aligned(size) for size in self.persistent])


def aligned(size: int) -> int:
    """``size`` rounded up to the 16 bytes of TFLM's persistent and planned buffers; arrays give arrays."""
    return (size + 15) & ~15


@dataclass(frozen=True, slots=True)
class Seen:
    """An operator with its tensors at hand."""

    op: FileOp
    tensors: Sequence[FileTensor]

    def input(self, number: int) -> FileTensor | None:
        """Input ``number``; None where it is left out."""
        inputs = self.op.inputs
        return self.tensors[inputs[number]] if number < len(inputs) and inputs[number] >= 0 else None

    def inputs(self) -> list[FileTensor]:
        """Those inputs that are there."""
        return [self.tensors[t] for t in self.op.inputs if t >= 0]

    def output(self, number: int = 0) -> FileTensor | None:
        """Output ``number``; None where there are fewer."""
        return self.tensors[self.op.outputs[number]] if number < len(self.op.outputs) else None

    def slot(self, name: str) -> FileTensor | None:
        """The tensor called ``i0``, ``i1``, ... or ``o0``, ..."""
        number = int(name[1:])
        return self.input(number) if name[0] == "i" else self.output(number)

    def dtype(self, number: int = 0) -> str:
        """Element type of input ``number``; "" where it is left out."""
        tensor = self.input(number)
        return "" if tensor is None else tensor.dtype


Sizes = Callable[[Seen, Target], tuple[int, ...]]
Check = Callable[[Seen], str | None]
_POINTER: Mapping[Target, int] = {"mcu": 4, "host": 8}
_EVAL_TENSOR: Mapping[Target, int] = {"mcu": 12, "host": 24}
_INT_BYTES = 4


def _nothing(seen: Seen, target: Target) -> tuple[int, ...]:
    return ()


def _fine(seen: Seen) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Kernel:
    """One operator of TFLM."""

    types: str
    """Accepted element types: words with a type for each of ``slots`` parted by "/", or one for all of them. "" takes any."""
    slots: str = "i0 o0"
    """Tensors whose types the kernel looks at: i0 and so on are inputs, o0 outputs."""
    options: Mapping[Target, tuple[int, int]] = field(default_factory=lambda: dict.fromkeys(TARGETS, (0, 1)))
    """Size and alignment of the parsed options (TfLite...Params); none unless given."""
    data: Mapping[Target, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))
    """Size of the structure that the kernel keeps (OpData); none unless given."""
    more: Sizes = _nothing
    """Persistent buffers beside ``data``."""
    scratch: Sizes = _nothing
    check: Check = _fine
    """What its Prepare function refuses beside element types, in words that follow "with"."""


def _both(size: int) -> dict[Target, int]:
    return {"mcu": size, "host": size}


def _parsed(mcu: tuple[int, int], host: tuple[int, int]) -> dict[Target, tuple[int, int]]:
    return {"mcu": mcu, "host": host}


# Sizes that depend on the operator -------------------------------------------------------------------------


#: Arrays that a kernel keeps of its output channels, multipliers and shifts, and bytes of each a channel.
CHANNEL_ARRAYS, CHANNEL_BYTES = 2, 4


def _arrays(channels: int) -> tuple[int, ...]:
    return (CHANNEL_BYTES * channels,) * CHANNEL_ARRAYS


def _per_channel(axis: int) -> Sizes:
    """Multipliers and shifts of convolutions: for each output channel, whatever the element type."""

    def sizes(seen: Seen, target: Target) -> tuple[int, ...]:
        weights = seen.input(1)
        return _arrays(weights.shape[axis]) if weights is not None and len(weights.shape) == 4 else ()

    return sizes


def _dense_channels(seen: Seen, target: Target) -> tuple[int, ...]:
    """Of a dense layer only where its weights have several scales (TensorFlow's converter since 2.16)."""
    weights = seen.input(1)
    if weights is None or seen.dtype() == "float32" or not _quantized(weights) or weights.scales < 2:
        return ()
    return _arrays(weights.scales)


def _unpacked_weights(seen: Seen, target: Target) -> tuple[int, ...]:
    """int4 weights are unpacked to a byte each while the operator runs."""
    weights = seen.input(1)
    return (weights.elements,) if weights is not None and weights.dtype == "int4" else ()


def _transposed(seen: Seen, target: Target) -> tuple[int, ...]:
    """Accumulators of all outputs; int16 biases are widened beside them."""
    out, bias = seen.output(), seen.input(3)
    if out is None or seen.dtype(2) not in {"int8", "int16"}:
        return ()
    if seen.dtype(2) == "int8":
        return (4 * out.elements,)
    return (8 * out.elements, *((8 * bias.elements,) if bias is not None and bias.dtype == "int16" else ()))


def _new_dims(seen: Seen, target: Target) -> tuple[int, ...]:
    """A writable copy of the output's shape (TfLiteIntArray)."""
    out = seen.output()
    return (_INT_BYTES * (1 + len(out.shape)),) if out is not None else ()


def _reshaped(seen: Seen, target: Target) -> tuple[int, ...]:
    out = seen.output()
    return _new_dims(seen, target) if out is not None and -1 in out.shape else ()


def _softmax_tables(seen: Seen, target: Target) -> tuple[int, ...]:
    """Two tables of 513 int16."""
    return (1026, 1026) if seen.dtype() == "int16" else ()


def _only_int8(size: int) -> Sizes:
    """A structure that is there for int8 alone."""

    def sizes(seen: Seen, target: Target) -> tuple[int, ...]:
        return (size,) if seen.dtype() == "int8" else ()

    return sizes


def _log_softmax(seen: Seen, target: Target) -> tuple[int, ...]:
    # LogSoftmaxOpData holds two size_t.
    return ({"mcu": 28, "host": 40}[target],) if seen.dtype() == "int8" else ()


def _matmul(seen: Seen, target: Target) -> tuple[int, ...]:
    """Scales, transposed copies of its operands, and the output's shape."""
    found: list[int] = [28] if seen.dtype() in {"int8", "int16"} else []
    for number, transposed in ((0, seen.op.options.bool(0)), (1, not seen.op.options.bool(1))):
        tensor = seen.input(number)
        if transposed and tensor is not None:
            found += [_EVAL_TENSOR[target], _INT_BYTES * (1 + len(tensor.shape)), tensor.size_bytes]
    return (*found, *_new_dims(seen, target))


def mean_scratch(rank: int, axes: int, outputs: int) -> tuple[int, ...]:
    """Scratch of an int8 MEAN: sums, index and axis arrays, all int32; ``rank`` counts the batch."""
    return 4 * outputs, 4 * rank, 4 * axes


def _summed(seen: Seen, target: Target) -> tuple[int, ...]:
    source, axes, out = seen.input(0), seen.input(1), seen.output()
    if source is None or axes is None or out is None:
        return ()
    return mean_scratch(len(source.shape), axes.elements, out.elements)[0 if source.dtype in {"int8", "int16"} else 1 :]


def _compared(seen: Seen, target: Target) -> tuple[int, ...]:
    """REDUCE_MAX and its like compare in place: index and axis arrays alone."""
    return _summed(seen, target)[-2:]


def _mirrored(seen: Seen, target: Target) -> tuple[int, ...]:
    source = seen.input(0)
    return () if source is None else (_INT_BYTES * len(source.shape),) * 2


def _added(seen: Seen, target: Target) -> tuple[int, ...]:
    """A pointer an input."""
    return (_POINTER[target] * len(seen.op.inputs),)


def _svdf(seen: Seen, target: Target) -> tuple[int, ...]:
    source, filters = seen.input(0), seen.input(1)
    if source is None or filters is None or not source.shape or not filters.shape:
        return ()
    batch, count = source.shape[0], filters.shape[0]
    rank = max(seen.op.options.i32(0), 1)
    return (4 * batch * count, *((4 * batch * (count // rank),) if source.dtype == "int8" else ()))


def _lstm(seen: Seen, target: Target) -> tuple[int, ...]:
    """A buffer for each gate, of the cell state's type; batch and units as its Prepare function reads them."""
    source, state, cell = seen.input(0), seen.input(18), seen.input(19)
    if source is None or state is None or cell is None or len(source.shape) < 2 or len(state.shape) < 2:
        return ()
    batch = source.shape[1 if seen.op.options.bool(3) else 0]
    element = {"float32": 4, "int16": 2}.get(cell.dtype, 0)
    return (batch * state.shape[1] * element,) * 4


# What is refused beside element types ---------------------------------------------------------------------


def _quantized(tensor: FileTensor) -> bool:
    """Whether TFLM sees scales and zero points: it needs both."""
    return tensor.scales > 0 and tensor.zero_points > 0


def _weights_quantized(axis: int) -> Check:
    def check(seen: Seen) -> str | None:
        weights, source = seen.input(1), seen.input(2 if axis < 0 else 0)
        if weights is None or source is None or source.dtype == "float32":
            return None
        if not _quantized(weights):
            return f"{weights.dtype} weights without a scale"
        if not _quantized(source):
            return f"{source.dtype} input without a scale"
        channels = weights.shape[abs(axis) % 4] if len(weights.shape) == 4 else 0
        if weights.scales not in {1, channels if axis >= 0 else weights.shape[0]}:
            return f"{weights.scales} scales of its weights"
        return None

    return check


def _dense(seen: Seen) -> str | None:
    source, weights, bias, out = seen.input(0), seen.input(1), seen.input(2), seen.output()
    if source is None or weights is None or out is None or source.dtype == "float32":
        return None
    if not _quantized(weights) or weights.scales < 2:
        # Both in single precision times double, as TFLM does: biases off by less than 2 % of an output step pass.
        wrong = bias is not None and abs(source.scale * weights.scale - (bias.scale if _quantized(bias) else 0)) > 0.02 * out.scale
        return "biases of another scale than input times weights" if wrong else None
    if weights.dtype == "int4":
        return "int4 weights of several scales"
    if not 0 <= weights.axis < len(weights.shape) or weights.shape[weights.axis] != weights.scales:
        return f"{weights.scales} scales of its weights"
    return None


def _zero_at_int16(*slots: str) -> Check:
    """int16 tensors are symmetric."""

    def check(seen: Seen) -> str | None:
        if seen.dtype() != "int16":
            return None
        for name in slots:
            tensor = seen.slot(name)
            if tensor is not None and tensor.dtype == "int16" and tensor.zero_point:
                return f"the int16 zero point {tensor.zero_point}"
        return None

    return check


def _same_grid(seen: Seen) -> str | None:
    """Pooling keeps the scale of its input."""
    source, out = seen.input(0), seen.output()
    if source is None or out is None or source.dtype == "float32":
        return None
    if abs(source.scale - out.scale) > 1e-6 or source.zero_point != out.zero_point:
        return "an output of another scale than its input's"
    return None


def _fixed_grid(grids: Mapping[tuple[str, str], tuple[float, int]]) -> Check:
    """Outputs whose (scale, zero point) are given by the types of input and output."""

    def check(seen: Seen) -> str | None:
        out = seen.output()
        if out is None or (seen.dtype(), out.dtype) not in grids:
            return None
        scale, zero = grids[seen.dtype(), out.dtype]
        if out.zero_point != zero or (scale and abs(out.scale - scale) > 1e-3 * scale):
            return f"an {out.dtype} output of the scale {out.scale:g} and the zero point {out.zero_point}"
        return _zero_at_int16("i0")(seen)

    return check


def _constant(*numbers: int, rank: int = 8) -> Check:
    """Inputs that must be in the file, and the most dimensions of the first one."""

    def check(seen: Seen) -> str | None:
        for number in numbers:
            tensor = seen.input(number)
            if tensor is not None and not tensor.constant:
                return f"input {number} worked out at run time"
        source = seen.input(0)
        if source is not None and len(source.shape) > rank:
            return f"{len(source.shape)} dimensions"
        return None

    return check


def _concatenated(seen: Seen) -> str | None:
    inputs, out = seen.inputs(), seen.output()
    if len(inputs) > 10:
        return f"{len(inputs)} inputs (10 are the most)"
    if seen.op.options.i8(1):
        return "an activation"
    for tensor in inputs:
        if tensor.dtype != inputs[0].dtype:
            return f"{inputs[0].dtype} and {tensor.dtype} inputs"
        if out is not None and tensor.dtype == "int8" and (tensor.scale != out.scale or tensor.zero_point != out.zero_point):
            return "an input of another scale than its output's"
        if tensor.dtype == "int16" and tensor.zero_point:
            return f"the int16 zero point {tensor.zero_point}"
    return None


def _added_up(seen: Seen) -> str | None:
    inputs = seen.inputs()
    for tensor in inputs[1:]:
        if tensor.dtype != inputs[0].dtype:
            return f"{inputs[0].dtype} and {tensor.dtype} inputs"
        if tensor.shape != inputs[0].shape:
            return "inputs of several shapes"
        if tensor.dtype == "int8" and (tensor.scale, tensor.zero_point) != (inputs[0].scale, inputs[0].zero_point):
            return "inputs of several scales"
    return None


def _plain_int32(seen: Seen) -> str | None:
    """int32 is arithmetic without scales."""
    out = seen.output()
    if out is not None and out.dtype == "int32" and any(_quantized(tensor) for tensor in seen.inputs()):
        return "quantised int32 inputs"
    if out is not None and out.dtype in {"int8", "int16"} and not _quantized(out):
        return f"an {out.dtype} output without a scale"
    return None


def _padded(seen: Seen) -> str | None:
    value, out = seen.input(2), seen.output()
    if value is not None and out is not None and value.dtype == "int8" and (value.scale, value.zero_point) != (out.scale, out.zero_point):
        return "a padding value of another scale than its output's"
    return _constant(1, rank=5)(seen)


def _rooted(seen: Seen) -> str | None:
    source, out = seen.input(0), seen.output()
    if source is not None and out is not None and source.dtype == "int8" and not (_quantized(source) and _quantized(out)):
        return "int8 without a scale"
    return _zero_at_int16("i0", "o0")(seen)


def _ranks(least: int, most: int, *slots: str) -> Check:
    def check(seen: Seen) -> str | None:
        for name in slots or ("i0",):
            tensor = seen.slot(name)
            if tensor is not None and not least <= len(tensor.shape) <= most:
                return f"{len(tensor.shape)} dimensions"
        return None

    return check


def _bilinear(seen: Seen) -> str | None:
    if seen.op.options.bool(2) and seen.op.options.bool(3):
        return "half_pixel_centers and align_corners at once"
    return _constant(1)(seen)


def _requantized(seen: Seen) -> str | None:
    out = seen.output()
    if out is not None and (not _quantized(out) or out.scales != 1):
        return f"an {out.dtype} output of {out.scales} scales"
    return None


def _lstm_inputs(seen: Seen) -> str | None:
    if len(seen.op.inputs) != 24:
        return f"{len(seen.op.inputs)} inputs (24 are needed)"
    for number, what in ((9, "peephole"), (10, "peephole"), (11, "peephole"), (16, "projection"), (20, "layer normalisation")):
        if seen.input(number) is not None:
            return f"{what} weights"
    for number in (1, 5, 12):
        if seen.input(number) is None:
            return "a coupled input gate (CIFG)"
    for number in (18, 19):
        state = seen.input(number)
        if state is None or not state.is_variable:
            return "a state that is no variable tensor"
    return None


def _state(seen: Seen) -> str | None:
    state = seen.input(4)
    if len(seen.op.inputs) != 5 or state is None or not state.is_variable:
        return "a state that is no variable tensor"
    return None


# The table ------------------------------------------------------------------------------------------------

_QUANTIZED = "int8 int16 float32"
_CONVOLUTION = "float32/float32/float32 int8/int8/int8 int8/int4/int8 int16/int8/int16"
_ACTIVATION = _parsed((1, 1), (4, 4))
_ADDED = _parsed((2, 1), (8, 4))
_TWO_INTS = _parsed((8, 4), (8, 4))
_ONE_INT = _parsed((4, 4), (4, 4))
_REDUCED = _parsed((1, 1), (1, 1))
_POOLED = _parsed((40, 4), (40, 4))
_SHAPED = _parsed((36, 4), (36, 4))
_FLOAT = "float32"


def _pairs(first: str, second: str) -> str:
    """Every type of the one with every type of the other."""
    return " ".join(f"{a}/{b}" for a in words(first) for b in words(second))


def _comparison(types: str) -> Kernel:
    return Kernel(types, "i0 i1", data=_both(32))


KERNELS: Mapping[str, Kernel] = {
    # sums and products
    "CONV_2D": Kernel(
        _CONVOLUTION,
        "i0 i1 o0",
        _parsed((28, 4), (28, 4)),
        {"mcu": 56, "host": 80},
        _per_channel(0),
        _unpacked_weights,
        _weights_quantized(0),
    ),
    "DEPTHWISE_CONV_2D": Kernel(
        "float32/float32 int8/int8 int8/int4 int16/int8",
        "i0 i1",
        _parsed((28, 4), (28, 4)),
        {"mcu": 56, "host": 80},
        _per_channel(3),
        _unpacked_weights,
        _weights_quantized(3),
    ),
    "FULLY_CONNECTED": Kernel(
        _CONVOLUTION, "i0 i1 o0", _parsed((24, 4), (32, 8)), {"mcu": 48, "host": 72}, _dense_channels, _unpacked_weights, _dense
    ),
    "TRANSPOSE_CONV": Kernel(
        "float32/float32 int8/int8 int16/int8",
        "i2 i1",
        _parsed((16, 4), (20, 4)),
        {"mcu": 72, "host": 88},
        _per_channel(0),
        _transposed,
        _weights_quantized(-4),
    ),
    "BATCH_MATMUL": Kernel(
        _QUANTIZED, "i0 i1 o0", _parsed((3, 1), (3, 1)), {"mcu": 16, "host": 32}, _matmul, check=_ranks(2, 5, "i0", "i1")
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Kernel(
        "float32/float32/float32 float32/int8/float32 int8/int8/int16 int16/int8/int16",
        "i0 i2 i19",
        _parsed((16, 4), (16, 4)),
        _both(688),
        scratch=_lstm,
        check=_lstm_inputs,
    ),
    "SVDF": Kernel(
        "float32/float32/float32/float32 int8/int8/int16/int16 int8/int8/int8/int8",
        "i0 i1 i2 i4",
        _parsed((8, 4), (12, 4)),
        _both(36),
        scratch=_svdf,
        check=_state,
    ),
    "EMBEDDING_LOOKUP": Kernel(
        "int32/float32/float32 int32/int8/float32 int32/int8/int8",
        "i0 i1 o0",
        more=lambda seen, target: (*_new_dims(seen, target), {"mcu": 8, "host": 16}[target]),
    ),
    # element by element
    "ADD": Kernel("int8 int16 float32 int32", "o0", _ADDED, _both(60), check=_plain_int32),
    "SUB": Kernel("int8 int16 float32 int32", "o0", _ADDED, _both(52), check=_plain_int32),
    "MUL": Kernel("int8 int16 float32 int32", "i0 i1", _ACTIVATION, _both(36), check=_zero_at_int16("i0", "i1", "o0")),
    "DIV": Kernel("int8 float32 int32", "i0 i1 o0", _ACTIVATION, _both(28), check=_plain_int32),
    "MAXIMUM": Kernel("int8 int16 float32 int32 int64", "o0"),
    "MINIMUM": Kernel("int8 int16 float32 int32 int64", "o0"),
    "SQUARED_DIFFERENCE": Kernel("int8 int16 float32 int32", "i0 i1 o0", data=_both(112), check=_zero_at_int16("i0", "i1", "o0")),
    "FLOOR_DIV": Kernel(_FLOAT, "i0 i1 o0"),
    "FLOOR_MOD": Kernel(_FLOAT, "i0 i1 o0"),
    "ADD_N": Kernel("int8 float32", "i0 o0", more=_only_int8(40), scratch=_added, check=_added_up),
    "LOGICAL_AND": Kernel("", ""),
    "LOGICAL_OR": Kernel("", ""),
    "LOGICAL_NOT": Kernel("bool"),
    "EQUAL": _comparison("int8 float32 int32 int64 bool"),
    "NOT_EQUAL": _comparison("int8 float32 int32 int64 bool"),
    "GREATER": _comparison("int8 int16 float32 int32 int64"),
    "GREATER_EQUAL": _comparison("int8 float32 int32 int64"),
    "LESS": _comparison("int8 float32 int32 int64"),
    "LESS_EQUAL": _comparison("int8 float32 int32 int64"),
    "ABS": Kernel(_QUANTIZED, data=_both(28), check=_rooted),
    "RSQRT": Kernel(_QUANTIZED, data=_both(28), check=_rooted),
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
    "RELU": Kernel(_QUANTIZED, slots="i0", data=_both(28), check=_zero_at_int16("i0", "o0")),
    "RELU6": Kernel(_QUANTIZED, slots="i0", data=_both(8)),
    "ELU": Kernel("int8 float32", data=_both(256)),
    "HARD_SWISH": Kernel("int8 float32", slots="i0", data=_both(20)),
    "LEAKY_RELU": Kernel(_QUANTIZED, options=_ONE_INT, data=_both(24)),
    "PRELU": Kernel("float32/float32 int8/int8 int16/int8", "i0 i1", data=_both(28)),
    "LOGISTIC": Kernel(_QUANTIZED, data=_both(16), check=_fixed_grid({("int8", "int8"): (0, -128), ("int16", "int16"): (2**-15, 0)})),
    "TANH": Kernel(_QUANTIZED, data=_both(16), check=_fixed_grid({("int16", "int16"): (2**-15, 0)})),
    "SOFTMAX": Kernel(
        "int8/int8 int8/int16 int16/int16 float32/float32",
        options=_ONE_INT,
        data={"mcu": 64, "host": 80},
        more=_softmax_tables,
        check=_fixed_grid({("int8", "int8"): (2**-8, -128), ("int8", "int16"): (2**-16, -32768), ("int16", "int16"): (2**-15, 0)}),
    ),
    "LOG_SOFTMAX": Kernel("int8 float32", more=_log_softmax, check=_fixed_grid({("int8", "int8"): (16 / 256, 127)})),
    "L2_NORMALIZATION": Kernel("int8 float32", options=_ACTIVATION, data=_both(4), check=_ranks(0, 4)),
    # windows and reductions
    "AVERAGE_POOL_2D": Kernel(_QUANTIZED, "i0", _POOLED, _both(32), check=_same_grid),
    "MAX_POOL_2D": Kernel(_QUANTIZED, "i0", _POOLED, _both(32), check=_same_grid),
    "L2_POOL_2D": Kernel(_FLOAT, "i0 o0", _POOLED, more=_new_dims, check=_ranks(4, 4, "i0", "o0")),
    "MEAN": Kernel(_QUANTIZED, "i0", _REDUCED, _both(44), scratch=_summed),
    "SUM": Kernel(_QUANTIZED, "i0", _REDUCED, _both(44), scratch=_summed),
    "REDUCE_MAX": Kernel("int8 float32", "i0", _REDUCED, _both(44), scratch=_compared),
    "REDUCE_MIN": Kernel("int8 float32", "i0", _REDUCED, _both(44), scratch=_compared),
    "REDUCE_ALL": Kernel("bool", "i0", _REDUCED, _both(44), scratch=_compared),
    "ARG_MAX": Kernel("int8/int32/int32 float32/int32/int32", "i0 i1 o0", _ACTIVATION),
    "ARG_MIN": Kernel("int8/int32/int32 float32/int32/int32", "i0 i1 o0", _ACTIVATION),
    "CUMSUM": Kernel("int8/int32/int8 float32/int32/float32", "i0 i1 o0", _parsed((2, 1), (2, 1)), more=_only_int8(36)),
    # between element types
    "QUANTIZE": Kernel(
        "float32/int8 float32/int16 int32/int8 int32/int16 int16/int8 int16/int16 int16/int32 int8/int8 int8/uint8 int8/int16 "
        "int8/int32 uint8/int8",
        data=_both(32),
        check=_requantized,
    ),
    "DEQUANTIZE": Kernel("int8/float32 int16/float32 uint8/float32", data=_both(32)),
    "CAST": Kernel(
        _pairs("int8 int16 int32 uint32 float32 bool", "int8 int16 int32 uint32 float32"),
        options=_ADDED,
    ),
    # moving values
    "RESHAPE": Kernel("", "i0 o0", _SHAPED, more=_reshaped),
    "SQUEEZE": Kernel("", "", _SHAPED),
    "EXPAND_DIMS": Kernel(_QUANTIZED, "i0", check=_constant(1)),
    "SHAPE": Kernel("", "", _ACTIVATION),
    "PAD": Kernel("int8 int16 float32 int32", data=_both(56), check=_padded),
    "PADV2": Kernel("int8 int16 float32 int32", "i0 i2 o0", data=_both(56), check=_padded),
    "MIRROR_PAD": Kernel("int8 float32", "o0", _ACTIVATION, _both(20), scratch=_mirrored),
    "TRANSPOSE": Kernel(_QUANTIZED, check=_constant(1, rank=5)),
    "CONCATENATION": Kernel("int8 int16 float32 int32 int64 bool", options=_TWO_INTS, data={"mcu": 24, "host": 80}, check=_concatenated),
    "SPLIT": Kernel("int8 int16 float32 int32", "i1", _ONE_INT, check=_constant(0)),
    "SPLIT_V": Kernel("int8 int16 float32 int32", "i0", _ONE_INT, check=_constant(2)),
    "SLICE": Kernel(" ".join(f"{t}/{at}/{at}" for t in words("int8 int16 float32 int32 bool") for at in ("int32", "int64")), "i0 i1 i2"),
    "STRIDED_SLICE": Kernel("int8 int16 float32 int32 bool", "o0", _parsed((24, 4), (24, 4)), _both(84), check=_constant(1, 2, 3, rank=4)),
    "PACK": Kernel("int8 int16 float32 int32 int64", "o0", _TWO_INTS),
    "UNPACK": Kernel("int8 int16 float32 int32", "i0", _TWO_INTS),
    "SPACE_TO_DEPTH": Kernel("int8 float32", options=_ONE_INT, more=_new_dims, check=_ranks(4, 4)),
    "DEPTH_TO_SPACE": Kernel("int8 float32", options=_ONE_INT, more=_new_dims, check=_ranks(4, 4)),
    "SPACE_TO_BATCH_ND": Kernel("int8 float32", data=_both(4), check=_ranks(3, 4, "i0", "o0")),
    "BATCH_TO_SPACE_ND": Kernel("int8 float32", check=_ranks(3, 4, "i0", "o0")),
    "GATHER": Kernel("int8/int32 float32/int32", "i0 i1", _TWO_INTS, more=_new_dims),
    "GATHER_ND": Kernel("int8/int32 float32/int32", "i0 i1", more=_new_dims),
    "REVERSE_V2": Kernel(
        " ".join(f"{t}/int32/{t}" for t in words("int8 int16 float32 uint8 int32 int64 bool")), "i0 i1 o0", check=_ranks(0, 6)
    ),
    "BROADCAST_TO": Kernel("", "", check=_constant(1, rank=5)),
    "BROADCAST_ARGS": Kernel("int32 int64", "i0 i1 o0"),
    "FILL": Kernel("int8 float32 int32", "i1 o0", check=_constant(0)),
    "SELECT_V2": Kernel("bool/int8/int8 bool/int16/int16 bool/float32/float32", "i0 i1 i2", data=_both(1)),
    "DYNAMIC_UPDATE_SLICE": Kernel(
        " ".join(f"{t}/{t}/{at}" for t in words("int8 int16 float32 int32") for at in ("int32", "int64")), "i0 i1 i2"
    ),
    "RESIZE_BILINEAR": Kernel("int8/int32 float32/int32", "i0 i1", _parsed((2, 1), (2, 1)), check=_bilinear),
    "RESIZE_NEAREST_NEIGHBOR": Kernel("int8/int32 int16/int32 float32/int32", "i0 i1", _parsed((2, 1), (2, 1)), check=_constant(1)),
    # other graphs of the file, and state
    "IF": Kernel("bool", "i0", _TWO_INTS, _both(8)),
    "WHILE": Kernel("", "", _TWO_INTS, _both(8)),
    "CALL_ONCE": Kernel("", "", _ONE_INT, _both(8)),
    "VAR_HANDLE": Kernel("", "", _parsed((8, 4), (16, 8)), _both(4)),
    "READ_VARIABLE": Kernel("", ""),
    "ASSIGN_VARIABLE": Kernel("", "", data={"mcu": 4, "host": 4}),
}


def _detected(seen: Seen, target: Target) -> tuple[int, ...]:
    """Of SSD's last step: boxes, scores and their order."""
    boxes, classes = seen.input(0), seen.input(1)
    if boxes is None or classes is None or len(boxes.shape) != 3 or len(classes.shape) != 3:
        return ()
    said = map_integers(seen.op.custom_options)
    most, labels, count = max(said.get("max_detections", 0), 0), max(said.get("num_classes", 0), 0), boxes.shape[1]
    by_detection = 4 * most * count
    return (
        count,
        16 * count,
        4 * classes.shape[1] * classes.shape[2],
        4 * count,
        4 * count,
        by_detection,
        by_detection,
        4 * count,
        by_detection,
        4 * max(labels, most) * count,
        4 * min(count, most) * count,
    )


def _said(seen: Seen, name: str) -> int:
    """The number ``name`` of a custom operator's options; 0 where it is not there."""
    return max(map_integers(seen.op.custom_options).get(name, 0), 0)


def _rfft_state(seen: Seen, target: Target) -> tuple[int, ...]:
    """What kissfft keeps for a real transform: a record of pointers, one of a complex transform of half its length, twiddles."""
    half, number = _said(seen, "fft_length") // 2, {"int16": 2, "int32": 4, "float32": 4}.get(seen.dtype(), 4)
    pointers, complex_number = 3 * _POINTER[target], 2 * number
    inner = aligned_to(264 + complex_number * half, _POINTER[target])
    return (pointers + inner + complex_number * (half * 3 // 2),)


def _irfft_state(seen: Seen, target: Target) -> tuple[int, ...]:
    """The inverse in floats keeps a pointer and an int32 more."""
    return (_rfft_state(seen, target)[0] + (2 * _POINTER[target] if seen.dtype() == "float32" else 0),)


def aligned_to(size: int, alignment: int) -> int:
    """``size`` rounded up to a multiple of ``alignment``, a power of two."""
    return (size + alignment - 1) & -alignment


def _rfft_scratch(seen: Seen, target: Target) -> tuple[int, ...]:
    return (_said(seen, "fft_length") * {"int16": 2, "int32": 4, "float32": 4}.get(seen.dtype(), 4),)


def _ring(capacity: int, target: Target) -> int:
    """CircularBuffer with its int16 content, which it keeps twice."""
    return {"mcu": 24, "host": 40}[target] + 4 * capacity


def _rings(outer: int, capacity: int, target: Target) -> tuple[int, ...]:
    """One a channel, with two arrays of pointers."""
    return (*(_POINTER[target] * outer,) * 2, *(_ring(capacity, target),) * outer)


def _rows(seen: Seen) -> tuple[int, int]:
    """(rows, length of a row) of the first input."""
    source = seen.input(0)
    if source is None or not source.shape or source.shape[-1] < 1:
        return 0, 0
    return min(source.elements // source.shape[-1], _MOST_ROWS), source.shape[-1]


_MOST_ROWS = 10_000


def _framed(seen: Seen, target: Target) -> tuple[int, ...]:
    size, step = _said(seen, "frame_size"), max(_said(seen, "frame_step"), 1)
    return _rings(_rows(seen)[0], (size + step - 1) // step * step, target)


def _delayed(seen: Seen, target: Target) -> tuple[int, ...]:
    outer, length = _rows(seen)
    return _rings(outer, length + _said(seen, "delay_length"), target)


def _stacked(seen: Seen, target: Target) -> tuple[int, ...]:
    frames = _said(seen, "stacker_left_context") + _said(seen, "stacker_right_context") + 1
    return (_ring(_said(seen, "num_channels") * frames, target),)


def _overlapped(seen: Seen, target: Target) -> tuple[int, ...]:
    source = seen.input(0)
    if source is None or len(source.shape) < 2 or source.shape[-2] < 1:
        return ()
    outer = _rows(seen)[0] // source.shape[-2]
    return (_POINTER[target] * outer, *(source.size_bytes // max(source.elements, 1) * source.shape[-1],) * outer)


#: Custom operators by name: those of networks that find objects, and of audio front ends.
CUSTOM_KERNELS: Mapping[str, Kernel] = {
    "SignalWindow": Kernel("int16", "i0 i1 o0", data=_both(8)),
    "SignalFftAutoScale": Kernel("int16/int16/int32", "i0 o0 o1"),
    "SignalRfft": Kernel("int16 int32 float32", data={"mcu": 32, "host": 48}, more=_rfft_state, scratch=_rfft_scratch),
    "SignalEnergy": Kernel("int16/uint32", data=_both(8)),
    "SignalFilterBank": Kernel(
        "uint32/uint64", data={"mcu": 28, "host": 56}, more=lambda seen, target: (8 * (_said(seen, "num_channels") + 1),)
    ),
    "SignalFilterBankSquareRoot": Kernel("uint64/int32/uint32", "i0 i1 o0"),
    "SignalFilterBankSpectralSubtraction": Kernel(
        "uint32/uint32/uint32",
        "i0 o0 o1",
        data={"mcu": 44, "host": 56},
        more=lambda seen, target: (4 * _said(seen, "num_channels"),),
    ),
    "SignalFramer": Kernel("int16/int16/bool", "i0 o0 o1", data={"mcu": 28, "host": 40}, more=_framed),
    "SignalDelay": Kernel("int16", data={"mcu": 20, "host": 32}, more=_delayed),
    "SignalStacker": Kernel("int16/int16/bool", "i0 o0 o1", data={"mcu": 36, "host": 56}, more=_stacked),
    "SignalOverlapAdd": Kernel("int16 float32", data={"mcu": 24, "host": 32}, more=_overlapped),
    "SignalIrfft": Kernel("int16 int32 float32", data={"mcu": 24, "host": 32}, more=_irfft_state),
    "SignalPCAN": Kernel("uint32/uint32/int16/uint32", "i0 i1 i2 o0", data=_both(4)),
    "SignalFilterBankLog": Kernel("uint32/int16", data=_both(8)),
    "CIRCULAR_BUFFER": Kernel("int8", data=_both(8), check=_ranks(4, 4, "i0", "o0")),
    "TFLite_Detection_PostProcess": Kernel("float32", "i0 i1", data=_both(112), scratch=_detected, check=_ranks(3, 3, "i0", "i1")),
}


def kernel_of(op: FileOp) -> Kernel | None:
    """The row of ``op``; None where the table does not have it."""
    return CUSTOM_KERNELS.get(op.custom_name) if op.kind == "CUSTOM" else KERNELS.get(op.kind)


def needs(op: FileOp, tensors: Sequence[FileTensor], target: Target) -> Needs | None:
    """What the kernel of ``op`` takes on ``target``; None where the table does not have it."""
    kernel = kernel_of(op)
    if kernel is None:
        return None
    seen = Seen(op, tensors)
    if op.kind in _TEMPS:
        held = [tensor for name in words(_TEMPS[op.kind]) if (tensor := seen.slot(name)) is not None]
    else:
        held = [*seen.inputs(), *[tensors[t] for t in op.outputs]]
    return Needs(
        kernel.options[target],
        kernel.data[target],
        kernel.more(seen, target),
        kernel.scratch(seen, target),
        sum([_record(tensor, target) for tensor in held]),
    )


def _record(tensor: FileTensor, target: Target) -> int:
    """Bytes of a TfLiteTensor with its TfLiteAffineQuantization and zero points."""
    size, quantization, alignment = _RECORDS[target]
    if _quantized(tensor):
        size += quantization + _INT_BYTES * (1 + tensor.scales)
    return (size + alignment - 1) & -alignment


#: Sizes of TfLiteTensor and TfLiteAffineQuantization, and the alignment of both.
_RECORDS: Mapping[Target, tuple[int, int, int]] = {"mcu": (32, 12, 4), "host": (64, 24, 8)}
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


_WEIGHTS = {
    "CONV_2D": {"i1": "weights"},
    "DEPTHWISE_CONV_2D": {"i1": "weights"},
    "FULLY_CONNECTED": {"i1": "weights"},
    "TRANSPOSE_CONV": {"i1": "weights", "i2": "input"},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {"i2": "weights", "i19": "cell state"},
    "SVDF": {"i1": "feature weights", "i2": "time weights", "i4": "state"},
    "PRELU": {"i1": "slopes"},
    "SELECT_V2": {"i0": "condition", "i1": "input", "i2": "input"},
}


def _slot_word(kind: str, slot: str) -> str:
    if slot in _WEIGHTS.get(kind, {}):
        return _WEIGHTS[kind][slot]
    if slot == "i0":
        return "input"
    return "output" if slot[0] == "o" else f"input {slot[1:]}"


def _described(kind: str, slots: Sequence[str], types: Sequence[str], patterns: Sequence[Sequence[str]]) -> str:
    """ "int16 input" where nothing takes that, "float32 input and int8 weights" where it is the combination that nothing takes."""
    if len(set(types)) == 1 and kind not in _WEIGHTS:
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
    if types[0] == "float32" and {"int8", "int4"} & set(types[1:]) and op.kind in _WEIGHTS:
        return " (hybrid)"
    if op.kind == "DEQUANTIZE" and found[0] is not None and found[0].constant and types[0] == "float16":
        return " (float16 weights)"
    return ""
