"""A .tflite for each operator of tflite-micro's all-operators resolver and each element type: what the contract test runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from one_op import QUANTIZED, Net, T, one_op, options

#: Element types that are tried for each operator.
TYPES = ("int8", "int16", "float32", "uint8", "int32", "int64", "bool", "float16", "uint32")

#: Output grids that kernels insist on: (scale, zero point) by operator and type.
GRIDS = {
    ("LOGISTIC", "int8"): (1 / 256, -128),
    ("LOGISTIC", "int16"): (1 / 32768, 0),
    ("TANH", "int8"): (1 / 128, 0),
    ("TANH", "int16"): (1 / 32768, 0),
    ("SOFTMAX", "int8"): (1 / 256, -128),
    ("SOFTMAX", "int16"): (1 / 32768, 0),
    ("LOG_SOFTMAX", "int8"): (16 / 256, 127),
    ("L2_NORMALIZATION", "int8"): (1 / 128, 0),
}

MAP = (1, 6, 5, 8)
UNARY: dict[str, tuple[str, dict[str, Any]] | None] = {
    "ABS": ("AbsOptions", {}),
    "CEIL": None,
    "COS": ("CosOptions", {}),
    "ELU": None,
    "EXP": ("ExpOptions", {}),
    "FLOOR": None,
    "HARD_SWISH": ("HardSwishOptions", {}),
    "L2_NORMALIZATION": ("L2NormOptions", {}),
    "LEAKY_RELU": ("LeakyReluOptions", {"alpha": 0.1}),
    "LOG": None,
    "LOGICAL_NOT": ("LogicalNotOptions", {}),
    "LOGISTIC": None,
    "LOG_SOFTMAX": ("LogSoftmaxOptions", {}),
    "NEG": ("NegOptions", {}),
    "RELU": None,
    "RELU6": None,
    "ROUND": None,
    "RSQRT": None,
    "SIN": None,
    "SOFTMAX": ("SoftmaxOptions", {"beta": 1.0}),
    "SQRT": None,
    "SQUARE": ("SquareOptions", {}),
    "TANH": None,
    "ZEROS_LIKE": ("ZerosLikeOptions", {}),
}
BINARY = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
    "FLOOR_DIV": "FloorDivOptions",
    "FLOOR_MOD": "FloorModOptions",
    "LOGICAL_AND": "LogicalAndOptions",
    "LOGICAL_OR": "LogicalOrOptions",
}
COMPARISONS = {
    "EQUAL": "EqualOptions",
    "NOT_EQUAL": "NotEqualOptions",
    "GREATER": "GreaterOptions",
    "GREATER_EQUAL": "GreaterEqualOptions",
    "LESS": "LessOptions",
    "LESS_EQUAL": "LessEqualOptions",
}
REDUCERS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ALL")


def _out(kind: str, shape: tuple[int, ...], dtype: str) -> T:
    scale, zero = GRIDS.get((kind, dtype), (None, 0))
    return T(shape, dtype, scale=scale, zero=zero)


def _ints(*values: int) -> T:
    return T((len(values),), "int32", data=list(values))


def _bias(dtype: str, count: int) -> T:
    kind = {"float32": "float32", "int16": "int64"}.get(dtype, "int32")
    return T((count,), kind, data=0, scale=None if kind == "float32" else 1 / 256)


def _weights(dtype: str) -> str:
    return {"int16": "int8", "uint8": "uint8", "float32": "float32", "float16": "float16"}.get(dtype, "int8")


def weighted(kind: str, dtype: str, weights: str, *, channels: int = 6, per_channel: bool = True, bias: bool = True) -> bytes:
    """A convolution, depthwise convolution, transposed convolution or dense layer."""
    scale = None if weights in ("float32", "float16") else [1 / 16] * channels if per_channel else 1 / 16
    more = [_bias(dtype, channels)] if bias else []
    match kind:
        case "CONV_2D":
            made = T((channels, 3, 3, 8), weights, data=0, scale=scale)
            chosen = options("Conv2DOptions", padding=0, strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1)
            return one_op(kind, [T(MAP, dtype), made, *more], [T((1, 6, 5, channels), dtype)], chosen)
        case "DEPTHWISE_CONV_2D":
            made = T((1, 3, 3, channels), weights, data=0, scale=scale, axis=3)
            chosen = options("DepthwiseConv2DOptions", padding=0, strideW=1, strideH=1, depthMultiplier=1, dilationWFactor=1, dilationHFactor=1)
            return one_op(kind, [T((1, 6, 5, channels), dtype), made, *more], [T((1, 6, 5, channels), dtype)], chosen)
        case "TRANSPOSE_CONV":
            made = T((channels, 3, 3, 8), weights, data=0, scale=scale)
            chosen = options("TransposeConvOptions", padding=0, strideW=2, strideH=2)
            inputs = [_ints(1, 12, 10, channels), made, T(MAP, dtype), *more]
            return one_op(kind, inputs, [T((1, 12, 10, channels), dtype)], chosen)
        case _:
            made = T((channels, 16), weights, data=0, scale=scale)
            return one_op(kind, [T((1, 16), dtype), made, *more], [T((1, channels), dtype)], options("FullyConnectedOptions"))


WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def lstm(dtype: str, *, weights: str | None = None, batch: int = 2, units: int = 6, layers: int = 1) -> bytes:
    """UNIDIRECTIONAL_SEQUENCE_LSTM as TensorFlow's converter writes it."""
    floating = dtype in ("float32", "float16")
    weights = weights or ("float32" if floating else "int8")
    net = Net()
    x = T((batch, 5, 4), dtype)
    for _ in range(layers):
        width = 4 if x == T((batch, 5, 4), dtype) else units
        bias = "float32" if floating else "int64" if dtype == "int16" else "int32"
        inputs: list[Any] = [x]
        inputs += [T((units, width), weights, data=0) for _ in range(4)]
        inputs += [T((units, units), weights, data=0) for _ in range(4)]
        inputs += [None] * 3
        inputs += [T((units,), bias, data=0) for _ in range(4)]
        inputs += [None] * 2
        inputs += [T((batch, units), dtype, variable=True), T((batch, units), "float32" if floating else "int16", variable=True, scale=1 / 2048)]
        inputs += [None] * 4
        chosen = options("UnidirectionalSequenceLSTMOptions", fusedActivationFunction=4, timeMajor=False)
        middle = [] if floating else [T((0,), "int16", scale=1 / 4096) for _ in range(4)] + [T((0,), dtype, scale=1 / 128)]
        (x,) = net.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [T((batch, 5, units), dtype)], chosen, intermediates=middle)
    return net.file()


def svdf(dtype: str, *, state: str | None = None, rank: int = 1) -> bytes:
    """SVDF of 8 filters over 4 inputs with a memory of 5."""
    time = state or ("float32" if dtype in ("float32", "float16") else "int8" if dtype == "uint8" else "int16")
    feature = dtype if dtype in ("float32", "float16") else "int8"
    inputs = [
        T((1, 4), dtype),
        T((8, 4), feature, data=0),
        T((8, 5), time, data=0),
        T((8 // rank,), "float32" if dtype == "float32" else "int32", data=0, scale=1 / 256),
        T((1, 40), time, variable=True),
    ]
    return one_op("SVDF", inputs, [T((1, 8 // rank), dtype)], options("SVDFOptions", rank=rank, fusedActivationFunction=0))


def _moved(kind: str, dtype: str) -> bytes | None:
    """Operators that move values."""
    x = T(MAP, dtype)
    match kind:
        case "RESHAPE":
            return one_op(kind, [x, _ints(1, 30, 8)], [T((1, 30, 8), dtype)], options("ReshapeOptions", newShape=[1, 30, 8]))
        case "SQUEEZE":
            return one_op(kind, [x], [T(MAP[1:], dtype)], options("SqueezeOptions", squeezeDims=[0]))
        case "EXPAND_DIMS":
            return one_op(kind, [x, T((1,), "int32", data=0)], [T((1, *MAP), dtype)], options("ExpandDimsOptions"))
        case "PAD":
            paddings = T((4, 2), "int32", data=[[0, 0], [1, 1], [1, 1], [0, 0]])
            return one_op(kind, [x, paddings], [T((1, 8, 7, 8), dtype)], options("PadOptions"))
        case "PADV2":
            paddings = T((4, 2), "int32", data=[[0, 0], [1, 1], [1, 1], [0, 0]])
            return one_op(kind, [x, paddings, T((), dtype, data=0)], [T((1, 8, 7, 8), dtype)], options("PadV2Options"))
        case "MIRROR_PAD":
            paddings = T((4, 2), "int32", data=[[0, 0], [1, 1], [1, 1], [0, 0]])
            return one_op(kind, [x, paddings], [T((1, 8, 7, 8), dtype)], options("MirrorPadOptions", mode=0))
        case "TRANSPOSE":
            return one_op(kind, [x, _ints(0, 2, 1, 3)], [T((1, 5, 6, 8), dtype)], options("TransposeOptions"))
        case "CONCATENATION":
            return one_op(kind, [x, T(MAP, dtype), T(MAP, dtype)], [T((1, 6, 5, 24), dtype)], options("ConcatenationOptions", axis=-1))
        case "SPLIT":
            parts = [T((1, 6, 5, 4), dtype), T((1, 6, 5, 4), dtype)]
            return one_op(kind, [T((), "int32", data=3), x], parts, options("SplitOptions", numSplits=2))
        case "SPLIT_V":
            parts = [T((1, 6, 5, 3), dtype), T((1, 6, 5, 5), dtype)]
            return one_op(kind, [x, _ints(3, 5), T((), "int32", data=3)], parts, options("SplitVOptions", numSplits=2))
        case "SLICE":
            return one_op(kind, [x, _ints(0, 1, 1, 0), _ints(1, 3, 2, 8)], [T((1, 3, 2, 8), dtype)], options("SliceOptions"))
        case "STRIDED_SLICE":
            cut = [x, _ints(0, 0, 0, 0), _ints(1, 6, 5, 8), _ints(1, 2, 1, 1)]
            return one_op(kind, cut, [T((1, 3, 5, 8), dtype)], options("StridedSliceOptions"))
        case "PACK":
            return one_op(kind, [x, T(MAP, dtype)], [T((2, *MAP), dtype)], options("PackOptions", valuesCount=2, axis=0))
        case "UNPACK":
            parts = [T((5, 8), dtype) for _ in range(6)]
            return one_op(kind, [T((6, 5, 8), dtype)], parts, options("UnpackOptions", num=6, axis=0))
        case "SHAPE":
            return one_op(kind, [x], [T((4,), "int32")], options("ShapeOptions", outType=2))
        case "SPACE_TO_DEPTH":
            return one_op(kind, [T((1, 6, 4, 3), dtype)], [T((1, 3, 2, 12), dtype)], options("SpaceToDepthOptions", blockSize=2))
        case "DEPTH_TO_SPACE":
            return one_op(kind, [T((1, 3, 2, 12), dtype)], [T((1, 6, 4, 3), dtype)], options("DepthToSpaceOptions", blockSize=2))
        case "SPACE_TO_BATCH_ND":
            crops = T((2, 2), "int32", data=0)
            return one_op(kind, [T((1, 6, 4, 3), dtype), _ints(2, 2), crops], [T((4, 3, 2, 3), dtype)], options("SpaceToBatchNDOptions"))
        case "BATCH_TO_SPACE_ND":
            crops = T((2, 2), "int32", data=0)
            return one_op(kind, [T((4, 3, 2, 3), dtype), _ints(2, 2), crops], [T((1, 6, 4, 3), dtype)], options("BatchToSpaceNDOptions"))
        case "GATHER":
            return one_op(kind, [x, _ints(0, 2, 1)], [T((1, 6, 5, 3), dtype)], options("GatherOptions", axis=3))
        case "GATHER_ND":
            places = T((2, 2), "int32", data=0)
            return one_op(kind, [T((3, 4, 5), dtype), places], [T((2, 5), dtype)], options("GatherNdOptions"))
        case "REVERSE_V2":
            return one_op(kind, [x, _ints(1)], [T(MAP, dtype)], options("ReverseV2Options"))
        case "BROADCAST_TO":
            return one_op(kind, [T((1, 1, 1, 8), dtype), _ints(*MAP)], [T(MAP, dtype)], options("BroadcastToOptions"))
        case "BROADCAST_ARGS":
            return one_op(kind, [T((2,), dtype), T((2,), dtype)], [T((2,), dtype)])
        case "FILL":
            return one_op(kind, [_ints(2, 3), T((), dtype)], [T((2, 3), dtype)], options("FillOptions"))
        case "SELECT_V2":
            return one_op(kind, [T(MAP, "bool"), x, T(MAP, dtype)], [T(MAP, dtype)], options("SelectV2Options"))
        case "DYNAMIC_UPDATE_SLICE":
            return one_op(kind, [T((4, 6), dtype), T((1, 6), dtype), _ints(2, 0)], [T((4, 6), dtype)], options("DynamicUpdateSliceOptions"))
        case "EMBEDDING_LOOKUP":
            return one_op(kind, [_ints(0, 2), T((4, 6), dtype, data=0)], [T((2, 6), dtype)])
        case "RESIZE_BILINEAR":
            return one_op(kind, [x, _ints(12, 10)], [T((1, 12, 10, 8), dtype)], options("ResizeBilinearOptions"))
        case "RESIZE_NEAREST_NEIGHBOR":
            return one_op(kind, [x, _ints(12, 10)], [T((1, 12, 10, 8), dtype)], options("ResizeNearestNeighborOptions"))
        case _:
            return None


MOVED = tuple(
    "RESHAPE SQUEEZE EXPAND_DIMS PAD PADV2 MIRROR_PAD TRANSPOSE CONCATENATION SPLIT SPLIT_V SLICE STRIDED_SLICE PACK UNPACK SHAPE "
    "SPACE_TO_DEPTH DEPTH_TO_SPACE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND GATHER GATHER_ND REVERSE_V2 BROADCAST_TO BROADCAST_ARGS FILL "
    "SELECT_V2 DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR".split()
)


def _one(kind: str, dtype: str) -> bytes:
    if kind in UNARY:
        named = UNARY[kind]
        return one_op(kind, [T(MAP, dtype)], [_out(kind, MAP, dtype)], options(named[0], **named[1]) if named else None)
    if kind in BINARY:
        by = T(MAP, dtype, data=1)
        return one_op(kind, [T(MAP, dtype), by], [T(MAP, dtype)], options(BINARY[kind]))
    if kind in COMPARISONS:
        return one_op(kind, [T(MAP, dtype), T(MAP, dtype)], [T(MAP, "bool")], options(COMPARISONS[kind]))
    if kind in REDUCERS:
        return one_op(kind, [T(MAP, dtype), _ints(1, 2)], [T((1, 8), dtype)], options("ReducerOptions", keepDims=False))
    if kind in WEIGHTED:
        return weighted(kind, dtype, _weights(dtype))
    if kind in MOVED:
        made = _moved(kind, dtype)
        assert made is not None
        return made
    match kind:
        case "AVERAGE_POOL_2D" | "MAX_POOL_2D" | "L2_POOL_2D":
            chosen = options("Pool2DOptions", padding=1, strideW=1, strideH=2, filterWidth=1, filterHeight=2)
            return one_op(kind, [T(MAP, dtype)], [T((1, 3, 5, 8), dtype)], chosen)
        case "PRELU":
            alpha = T((1, 1, 8), "int8" if dtype == "int16" else dtype, data=0)
            return one_op(kind, [T(MAP, dtype), alpha], [T(MAP, dtype)])
        case "ARG_MAX" | "ARG_MIN":
            chosen = options("ArgMaxOptions" if kind == "ARG_MAX" else "ArgMinOptions", outputType=2)
            return one_op(kind, [T(MAP, dtype), T((), "int32", data=3)], [T(MAP[:3], "int32")], chosen)
        case "CAST":
            return one_op(kind, [T(MAP, dtype)], [T(MAP, "float32")], options("CastOptions"))
        case "QUANTIZE":
            return one_op(kind, [T(MAP, dtype)], [T(MAP, "int8")], options("QuantizeOptions"))
        case "DEQUANTIZE":
            return one_op(kind, [T(MAP, dtype)], [T(MAP, "float32")], options("DequantizeOptions"))
        case "ADD_N":
            return one_op(kind, [T(MAP, dtype) for _ in range(5)], [T(MAP, dtype)], options("AddNOptions"))
        case "CUMSUM":
            return one_op(kind, [T(MAP, dtype), T((), "int32", data=1)], [T(MAP, dtype)], options("CumsumOptions"))
        case "BATCH_MATMUL":
            return one_op(kind, [T((2, 3, 4), dtype), T((2, 4, 5), dtype)], [T((2, 3, 5), dtype)], options("BatchMatMulOptions"))
        case "UNIDIRECTIONAL_SEQUENCE_LSTM":
            return lstm(dtype)
        case "SVDF":
            return svdf(dtype)
        case _:
            raise KeyError(kind)


KINDS = (
    *UNARY,
    *BINARY,
    *COMPARISONS,
    *REDUCERS,
    *WEIGHTED,
    *MOVED,
    *(
        "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D PRELU ARG_MAX ARG_MIN CAST QUANTIZE DEQUANTIZE ADD_N CUMSUM BATCH_MATMUL "
        "UNIDIRECTIONAL_SEQUENCE_LSTM SVDF"
    ).split(),
)
