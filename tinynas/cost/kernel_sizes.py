"""Buffers that TFLM's reference kernels ask for beside their structure: formulas of tinynas.cost.kernels."""

from __future__ import annotations

from tinynas.cost.kernel import EVAL_TENSOR_BYTES, INT_BYTES, POINTER_BYTES, Seen, Sizes, Target, quantized

#: Arrays that a kernel keeps of its output channels, multipliers and shifts, and bytes of each a channel.
CHANNEL_ARRAYS, CHANNEL_BYTES = 2, 4


def arrays(channels: int) -> tuple[int, ...]:
    """Bytes of what a kernel keeps of so many output channels."""
    return (CHANNEL_BYTES * channels,) * CHANNEL_ARRAYS


def per_channel(axis: int) -> Sizes:
    """Multipliers and shifts of convolutions: for each output channel, whatever the element type."""

    def sizes(seen: Seen, target: Target) -> tuple[int, ...]:
        weights = seen.input(1)
        return arrays(weights.shape[axis]) if weights is not None and len(weights.shape) == 4 else ()

    return sizes


def dense_channels(seen: Seen, target: Target) -> tuple[int, ...]:
    """Of a dense layer only where its weights have several scales (TensorFlow's converter since 2.16)."""
    weights = seen.input(1)
    if weights is None or seen.dtype() == "float32" or not quantized(weights) or weights.scales < 2:
        return ()
    return arrays(weights.scales)


def unpacked_weights(seen: Seen, target: Target) -> tuple[int, ...]:
    """int4 weights are unpacked to a byte each while the operator runs."""
    weights = seen.input(1)
    return (weights.elements,) if weights is not None and weights.dtype == "int4" else ()


def transposed(seen: Seen, target: Target) -> tuple[int, ...]:
    """Accumulators of all outputs; int16 biases are widened beside them."""
    out, bias = seen.output(), seen.input(3)
    if out is None or seen.dtype(2) not in {"int8", "int16"}:
        return ()
    if seen.dtype(2) == "int8":
        return (4 * out.elements,)
    return (8 * out.elements, *((8 * bias.elements,) if bias is not None and bias.dtype == "int16" else ()))


def new_dims(seen: Seen, target: Target) -> tuple[int, ...]:
    """A writable copy of the output's shape (TfLiteIntArray)."""
    out = seen.output()
    return (INT_BYTES * (1 + len(out.shape)),) if out is not None else ()


def reshaped(seen: Seen, target: Target) -> tuple[int, ...]:
    """A shape of its own where the file leaves one open."""
    out = seen.output()
    return new_dims(seen, target) if out is not None and -1 in out.shape else ()


def softmax_tables(seen: Seen, target: Target) -> tuple[int, ...]:
    """Two tables of 513 int16."""
    return (1026, 1026) if seen.dtype() == "int16" else ()


def only_int8(size: int) -> Sizes:
    """A structure that is there for int8 alone."""

    def sizes(seen: Seen, target: Target) -> tuple[int, ...]:
        return (size,) if seen.dtype() == "int8" else ()

    return sizes


def log_softmax(seen: Seen, target: Target) -> tuple[int, ...]:
    """A structure that is there for int8 alone."""
    # LogSoftmaxOpData holds two size_t.
    return ({"mcu": 28, "host": 40}[target],) if seen.dtype() == "int8" else ()


def matmul(seen: Seen, target: Target) -> tuple[int, ...]:
    """Scales, transposed copies of its operands, and the output's shape."""
    found: list[int] = [28] if seen.dtype() in {"int8", "int16"} else []
    for number, transposed in ((0, seen.op.options.bool(0)), (1, not seen.op.options.bool(1))):
        tensor = seen.input(number)
        if transposed and tensor is not None:
            found += [EVAL_TENSOR_BYTES[target], INT_BYTES * (1 + len(tensor.shape)), tensor.size_bytes]
    return (*found, *new_dims(seen, target))


def mean_scratch(rank: int, axes: int, outputs: int) -> tuple[int, ...]:
    """Scratch of an int8 MEAN: sums, index and axis arrays, all int32; ``rank`` counts the batch."""
    return 4 * outputs, 4 * rank, 4 * axes


def summed(seen: Seen, target: Target) -> tuple[int, ...]:
    """Of MEAN and SUM: sums only where they are quantised."""
    source, axes, out = seen.input(0), seen.input(1), seen.output()
    if source is None or axes is None or out is None:
        return ()
    return mean_scratch(len(source.shape), axes.elements, out.elements)[0 if source.dtype in {"int8", "int16"} else 1 :]


def compared(seen: Seen, target: Target) -> tuple[int, ...]:
    """REDUCE_MAX and its like compare in place: index and axis arrays alone."""
    return summed(seen, target)[-2:]


def mirrored(seen: Seen, target: Target) -> tuple[int, ...]:
    """Two arrays as long as the shape."""
    source = seen.input(0)
    return () if source is None else (INT_BYTES * len(source.shape),) * 2


def added(seen: Seen, target: Target) -> tuple[int, ...]:
    """A pointer an input."""
    return (POINTER_BYTES[target] * len(seen.op.inputs),)


def svdf(seen: Seen, target: Target) -> tuple[int, ...]:
    """Accumulators of all filters, and of all units where it is quantised."""
    source, filters = seen.input(0), seen.input(1)
    if source is None or filters is None or not source.shape or not filters.shape:
        return ()
    batch, count = source.shape[0], filters.shape[0]
    rank = max(seen.op.options.i32(0), 1)
    return (4 * batch * count, *((4 * batch * (count // rank),) if source.dtype == "int8" else ()))


def lstm(seen: Seen, target: Target) -> tuple[int, ...]:
    """A buffer for each gate, of the cell state's type; batch and units as its Prepare function reads them."""
    source, state, cell = seen.input(0), seen.input(18), seen.input(19)
    if source is None or state is None or cell is None or len(source.shape) < 2 or len(state.shape) < 2:
        return ()
    batch = source.shape[1 if seen.op.options.bool(3) else 0]
    element = {"float32": 4, "int16": 2}.get(cell.dtype, 0)
    return (batch * state.shape[1] * element,) * 4
