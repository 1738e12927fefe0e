"""What TFLM's kernels refuse beside element types, in words that follow "with": checks of tinynas.cost.kernels."""

from __future__ import annotations

from collections.abc import Mapping

from tinynas.cost.kernel import Check, Seen, quantized
from tinynas.cost.schema import FileTensor


def weights_quantized(axis: int) -> Check:
    """Weights have one scale, or one a channel of dimension ``axis`` (-4: of a transposed convolution, whose input is the third)."""

    def check(seen: Seen) -> str | None:
        weights, source = seen.input(1), seen.input(2 if axis < 0 else 0)
        if weights is None or source is None or source.dtype == "float32":
            return None
        if not quantized(weights):
            return f"{weights.dtype} weights without a scale"
        if not quantized(source):
            return f"{source.dtype} input without a scale"
        channels = weights.shape[abs(axis) % 4] if len(weights.shape) == 4 else 0
        if weights.scales not in {1, channels if axis >= 0 else weights.shape[0]}:
            return f"{weights.scales} scales of its weights"
        return None

    return check


def dense(seen: Seen) -> str | None:
    """Several scales of a dense layer are one an output; with one, biases have the scale of input times weights."""
    source, weights, bias, out = seen.input(0), seen.input(1), seen.input(2), seen.output()
    if source is None or weights is None or out is None or source.dtype == "float32":
        return None
    if not quantized(weights) or weights.scales < 2:
        # Both in single precision times double, as TFLM does: biases off by less than 2 % of an output step pass.
        wrong = bias is not None and abs(source.scale * weights.scale - (bias.scale if quantized(bias) else 0)) > 0.02 * out.scale
        return "biases of another scale than input times weights" if wrong else None
    if weights.dtype == "int4":
        return "int4 weights of several scales"
    if not 0 <= weights.axis < len(weights.shape) or weights.shape[weights.axis] != weights.scales:
        return f"{weights.scales} scales of its weights"
    return None


def zero_at_int16(*slots: str) -> Check:
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


def same_grid(seen: Seen) -> str | None:
    """Pooling keeps the scale of its input."""
    source, out = seen.input(0), seen.output()
    if source is None or out is None or source.dtype == "float32":
        return None
    if abs(source.scale - out.scale) > 1e-6 or source.zero_point != out.zero_point:
        return f"an output of another scale than its input's{_grids(out, source)}"
    return None


def joined_grid(seen: Seen) -> str | None:
    """CONCATENATION: int8 inputs are on the grid of the output."""
    out = seen.output()
    for tensor in seen.inputs() if out is not None else ():
        if out is not None and tensor.dtype == "int8" and (tensor.scale, tensor.zero_point) != (out.scale, out.zero_point):
            return f"an input of another scale than its output's{_grids(tensor, out)}"
    return None


def added_grid(seen: Seen) -> str | None:
    """ADD_N: int8 inputs are on one grid."""
    inputs = seen.inputs()
    for tensor in inputs[1:]:
        if tensor.dtype == "int8" and (tensor.scale, tensor.zero_point) != (inputs[0].scale, inputs[0].zero_point):
            return f"inputs of several scales{_grids(inputs[0], tensor)}"
    return None


def padded_grid(seen: Seen) -> str | None:
    """PAD: an int8 padding value is on the grid of the output."""
    value, out = seen.input(2), seen.output()
    if value is not None and out is not None and value.dtype == "int8" and (value.scale, value.zero_point) != (out.scale, out.zero_point):
        return f"a padding value of another scale than its output's{_grids(value, out)}"
    return None


ONE_GRID: Mapping[str, Check] = {
    "AVERAGE_POOL_2D": same_grid,
    "MAX_POOL_2D": same_grid,
    "CONCATENATION": joined_grid,
    "ADD_N": added_grid,
    "PADV2": padded_grid,
}
"""Operators of which the format demands one scale and zero point, and kernels with it: what is wrong with those of one."""


def _grids(*tensors: FileTensor) -> str:
    return f" ({' and '.join(f'{tensor.scale:g} around {tensor.zero_point}' for tensor in tensors)})"


def fixed_grid(grids: Mapping[tuple[str, str], tuple[float, int]]) -> Check:
    """Outputs whose (scale, zero point) are given by the types of input and output."""

    def check(seen: Seen) -> str | None:
        out = seen.output()
        if out is None or (seen.dtype(), out.dtype) not in grids:
            return None
        scale, zero = grids[seen.dtype(), out.dtype]
        if out.zero_point != zero or (scale and abs(out.scale - scale) > 1e-3 * scale):
            return f"an {out.dtype} output of the scale {out.scale:g} and the zero point {out.zero_point}"
        return zero_at_int16("i0")(seen)

    return check


def constant(*numbers: int, rank: int = 8) -> Check:
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


def concatenated(seen: Seen) -> str | None:
    """At most ten inputs of one type; int8 ones on the grid of the output."""
    inputs = seen.inputs()
    if len(inputs) > 10:
        return f"{len(inputs)} inputs (10 are the most)"
    if seen.op.options.i8(1):
        return "an activation"
    for tensor in inputs:
        if tensor.dtype != inputs[0].dtype:
            return f"{inputs[0].dtype} and {tensor.dtype} inputs"
        if tensor.dtype == "int16" and tensor.zero_point:
            return f"the int16 zero point {tensor.zero_point}"
    return joined_grid(seen)


def added_up(seen: Seen) -> str | None:
    """ADD_N: inputs of one type, shape and grid."""
    inputs = seen.inputs()
    for tensor in inputs[1:]:
        if tensor.dtype != inputs[0].dtype:
            return f"{inputs[0].dtype} and {tensor.dtype} inputs"
        if tensor.shape != inputs[0].shape:
            return "inputs of several shapes"
    return added_grid(seen)


def plain_int32(seen: Seen) -> str | None:
    """int32 is arithmetic without scales."""
    out = seen.output()
    if out is not None and out.dtype == "int32" and any(quantized(tensor) for tensor in seen.inputs()):
        return "quantised int32 inputs"
    if out is not None and out.dtype in {"int8", "int16"} and not quantized(out):
        return f"an {out.dtype} output without a scale"
    return None


def padded(seen: Seen) -> str | None:
    """Paddings in the file; a padding value on the grid of the output."""
    return padded_grid(seen) or constant(1, rank=5)(seen)


def rooted(seen: Seen) -> str | None:
    """ABS and RSQRT: int8 has scales, int16 is symmetric."""
    source, out = seen.input(0), seen.output()
    if source is not None and out is not None and source.dtype == "int8" and not (quantized(source) and quantized(out)):
        return "int8 without a scale"
    return zero_at_int16("i0", "o0")(seen)


def ranks(least: int, most: int, *slots: str) -> Check:
    """From ``least`` to ``most`` dimensions of each of ``slots`` (default: the first input)."""

    def check(seen: Seen) -> str | None:
        for name in slots or ("i0",):
            tensor = seen.slot(name)
            if tensor is not None and not least <= len(tensor.shape) <= most:
                return f"{len(tensor.shape)} dimensions"
        return None

    return check


def bilinear(seen: Seen) -> str | None:
    """A size in the file, and one way to place corners."""
    if seen.op.options.bool(2) and seen.op.options.bool(3):
        return "half_pixel_centers and align_corners at once"
    return constant(1)(seen)


def requantized(seen: Seen) -> str | None:
    """QUANTIZE writes on one grid."""
    out = seen.output()
    if out is not None and (not quantized(out) or out.scales != 1):
        return f"an {out.dtype} output of {out.scales} scales"
    return None


def lstm_inputs(seen: Seen) -> str | None:
    """The plain LSTM: no peepholes, projection, layer normalisation or coupled gates, and states that are variables."""
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


def state(seen: Seen) -> str | None:
    """SVDF: five inputs, the last a variable."""
    state = seen.input(4)
    if len(seen.op.inputs) != 5 or state is None or not state.is_variable:
        return "a state that is no variable tensor"
    return None
