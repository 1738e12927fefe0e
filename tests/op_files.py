"""A .tflite for each operator of tflite-micro's all-operators resolver and each element type: what the contract test runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from one_op import Net, T, one_op, options

from tinynas.cost.schema import words

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
            chosen = options(
                "DepthwiseConv2DOptions", padding=0, strideW=1, strideH=1, depthMultiplier=1, dilationWFactor=1, dilationHFactor=1
            )
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
        inputs += [
            T((batch, units), dtype, variable=True),
            T((batch, units), "float32" if floating else "int16", variable=True, scale=1 / 2048),
        ]
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


MOVED = words(
    "RESHAPE SQUEEZE EXPAND_DIMS PAD PADV2 MIRROR_PAD TRANSPOSE CONCATENATION SPLIT SPLIT_V SLICE STRIDED_SLICE PACK UNPACK SHAPE "
    "SPACE_TO_DEPTH DEPTH_TO_SPACE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND GATHER GATHER_ND REVERSE_V2 BROADCAST_TO BROADCAST_ARGS FILL "
    "SELECT_V2 DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR"
)


def op_file(kind: str, dtype: str) -> bytes:
    """The .tflite of operator ``kind`` with activations of ``dtype``. Raises KeyError for an operator that has none here."""
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
    *words(
        "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D PRELU ARG_MAX ARG_MIN CAST QUANTIZE DEQUANTIZE ADD_N CUMSUM BATCH_MATMUL "
        "UNIDIRECTIONAL_SEQUENCE_LSTM SVDF"
    ),
)


def _matmul(dtype: str, left: bool, right: bool, *, constant: bool = False) -> bytes:
    a = T((2, 4, 3) if left else (2, 3, 4), dtype)
    b = T((2, 5, 4) if right else (2, 4, 5), dtype, data=0 if constant else None)
    return one_op("BATCH_MATMUL", [a, b], [T((2, 3, 5), dtype)], options("BatchMatMulOptions", adjX=left, adjY=right))


def _reduced(kind: str, shape: tuple[int, ...], axes: tuple[int, ...], out: tuple[int, ...], dtype: str, *, scalar: bool = False) -> bytes:
    axis = T((), "int32", data=axes[0]) if scalar else _ints(*axes)
    return one_op(kind, [T(shape, dtype), axis], [T(out, dtype)], options("ReducerOptions", keepDims=True))


def _sum_of(count: int, dtype: str) -> bytes:
    return one_op("ADD_N", [T((3, 5), dtype) for _ in range(count)], [T((3, 5), dtype)], options("AddNOptions"))


def _narrow(kind: str) -> bytes:
    """int4 weights: one scale for a dense layer, one a channel for convolutions."""
    return weighted(kind, "int8", "int4", per_channel=kind != "FULLY_CONNECTED")


def chain(kinds: str, dtype: str = "int8") -> bytes:
    """Operators one behind the other on one map."""
    net = Net()
    (x,) = (net.tensor(T(MAP, dtype)),)
    for kind in kinds.split():
        if kind in UNARY:
            named = UNARY[kind]
            (x,) = net.op(kind, [x], [_out(kind, MAP, dtype)], options(named[0], **named[1]) if named else None)
        elif kind in BINARY:
            (x,) = net.op(kind, [x, T(MAP, dtype, data=1)], [T(MAP, dtype)], options(BINARY[kind]))
        elif kind == "CONV_2D":
            made = T((8, 1, 1, 8), _weights(dtype), data=0, scale=None if dtype == "float32" else [1 / 16] * 8)
            (x,) = net.op(kind, [x, made, _bias(dtype, 8)], [T(MAP, dtype)], options("Conv2DOptions", strideW=1, strideH=1))
        elif kind == "FULLY_CONNECTED":
            made = T((8, 8), _weights(dtype), data=0)
            dense = options("FullyConnectedOptions", keepNumDims=True)
            (x,) = net.op(kind, [x, made, _bias(dtype, 8)], [T(MAP, dtype)], dense)
        elif kind == "CONCATENATION":
            (x,) = net.op(kind, [x, T(MAP, dtype, data=0)], [T((*MAP[:3], 16), dtype)], options("ConcatenationOptions", axis=3))
            (x, _) = net.op("SPLIT", [T((), "int32", data=3), x], [T(MAP, dtype), T(MAP, dtype)], options("SplitOptions", numSplits=2))
        else:
            raise KeyError(kind)
    return net.file([x])


def detection(boxes: int = 7, classes: int = 3, most: int = 4) -> bytes:
    """TFLite_Detection_PostProcess, the last step of SSD."""
    from flatbuffers import flexbuffers

    said = {"max_detections": most, "max_classes_per_detection": 1, "num_classes": classes, "use_regular_nms": False}
    scales = {"nms_score_threshold": 0.1, "nms_iou_threshold": 0.5, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0}
    inputs = [T((1, boxes, 4), "float32"), T((1, boxes, classes + 1), "float32"), T((boxes, 4), "float32", data=1)]
    outputs = [T((1, most, 4), "float32"), T((1, most), "float32"), T((1, most), "float32"), T((1,), "float32")]
    name = "TFLite_Detection_PostProcess"
    return one_op("CUSTOM", inputs, outputs, custom=name, custom_options=bytes(flexbuffers.Dumps(said | scales)))


def signal(name: str, inputs: list[T], outputs: list[T], **said: int) -> bytes:
    """A custom operator of an audio front end."""
    from flatbuffers import flexbuffers

    return one_op("CUSTOM", inputs, outputs, custom=f"Signal{name}", custom_options=bytes(flexbuffers.Dumps(said)))


def rfft(dtype: str, length: int) -> bytes:
    """SignalRfft of frames as long as the transform."""
    frame, spectrum = T((1, length), dtype, scale=0), T((1, length + 2), dtype, scale=0)
    kind = {"int16": 7, "int32": 2, "float32": 0}[dtype]
    return signal("Rfft", [frame], [spectrum], T=kind, fft_length=length)


def spectral_subtraction(channels: int) -> bytes:
    """SignalFilterBankSpectralSubtraction."""
    names = "alternate_one_minus_smoothing alternate_smoothing clamping min_signal_remaining one_minus_smoothing smoothing smoothing_bits"
    said = dict.fromkeys((*words(names), "spectral_subtraction_bits"), 1)
    made = [T((channels,), "uint32") for _ in range(3)]
    return signal("FilterBankSpectralSubtraction", made[:1], made[1:], num_channels=channels, **said)


def filter_bank(channels: int) -> bytes:
    """SignalFilterBank."""
    tables = [T((n,), "int16", data=0, scale=0) for n in (8, 8, channels, channels, channels)]
    return signal("FilterBank", [T((64,), "uint32"), *tables], [T((channels,), "uint64")], num_channels=channels)


_16 = {"dtype": "int16", "scale": 0}

#: Other forms of operators, each by a name.
VARIANTS: dict[str, Callable[[], bytes]] = {
    **{f"{kind} int4 weights": (lambda kind=kind: _narrow(kind)) for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")},
    **{f"{kind} one scale": (lambda kind=kind: weighted(kind, "int8", "int8", per_channel=False)) for kind in WEIGHTED},
    **{f"{kind} one scale int16": (lambda kind=kind: weighted(kind, "int16", "int8", per_channel=False)) for kind in WEIGHTED},
    **{f"{kind} no bias": (lambda kind=kind: weighted(kind, "int8", "int8", bias=False)) for kind in WEIGHTED},
    **{f"{kind} 37 channels": (lambda kind=kind: weighted(kind, "int8", "int8", channels=37)) for kind in WEIGHTED},
    **{f"{kind} 1 channel": (lambda kind=kind: weighted(kind, "int8", "int8", channels=1)) for kind in WEIGHTED},
    **{
        f"BATCH_MATMUL {d} adj {a} {b}": (lambda d=d, a=a, b=b: _matmul(d, a, b))
        for d in ("int8", "int16", "float32")
        for a in (False, True)
        for b in (False, True)
    },
    "BATCH_MATMUL by a constant": lambda: _matmul("int8", False, False, constant=True),
    "MEAN of rank 3": lambda: _reduced("MEAN", (1, 7, 9), (1,), (1, 1, 9), "int8"),
    "MEAN over a scalar axis": lambda: _reduced("MEAN", (1, 7, 9), (2,), (1, 7, 1), "int8", scalar=True),
    "MEAN of everything": lambda: _reduced("MEAN", (2, 3, 4, 5), (0, 1, 2, 3), (1, 1, 1, 1), "float32"),
    "SUM over 3 axes": lambda: _reduced("SUM", (1, 4, 3, 5), (1, 2, 3), (1, 1, 1, 1), "int16"),
    "REDUCE_MAX of rank 2": lambda: _reduced("REDUCE_MAX", (6, 50), (1,), (6, 1), "int8"),
    **{f"ADD_N {count} {d}": (lambda count=count, d=d: _sum_of(count, d)) for count in (2, 3, 9) for d in ("int8", "float32")},
    "CONCATENATION of 10": lambda: one_op(
        "CONCATENATION", [T((1, 3)) for _ in range(10)], [T((1, 30))], options("ConcatenationOptions", axis=1)
    ),
    "SOFTMAX int8 to int16": lambda: one_op(
        "SOFTMAX", [T((1, 9))], [T((1, 9), "int16", scale=2**-16, zero=-32768)], options("SoftmaxOptions", beta=1.0)
    ),
    "SVDF int8 state": lambda: svdf("int8", state="int8"),
    "SVDF rank 2": lambda: svdf("int8", rank=2),
    "SVDF rank 2 float": lambda: svdf("float32", rank=2),
    "LSTM batch 1": lambda: lstm("int8", batch=1, units=11),
    "LSTM hybrid": lambda: lstm("float32", weights="int8"),
    "LSTM float, two layers": lambda: lstm("float32", batch=1, units=4, layers=2),
    "LSTM int16, two layers": lambda: lstm("int16", batch=3, units=4, layers=2),
    "GATHER of rank 2 by rank 2": lambda: one_op(
        "GATHER", [T((6, 5)), T((2, 3), "int32", data=1)], [T((2, 3, 5))], options("GatherOptions", axis=0)
    ),
    "SignalWindow": lambda: signal("Window", [T((1, 64), **_16), T((64,), data=1, **_16)], [T((1, 64), **_16)], shift=12),
    "SignalFftAutoScale": lambda: signal("FftAutoScale", [T((64,), **_16)], [T((64,), **_16), T((), "int32")]),
    **{
        f"SignalRfft {d} {length}": (lambda d=d, length=length: rfft(d, length))
        for d in ("int16", "int32", "float32")
        for length in (64, 512)
    },
    "SignalEnergy": lambda: signal("Energy", [T((66,), **_16)], [T((33,), "uint32")], start_index=2, end_index=30),
    "SignalFramer": lambda: signal(
        "Framer", [T((1, 160), **_16)], [T((1, 1, 400), **_16), T((), "bool")], frame_size=400, frame_step=160, prefill=1
    ),
    "SignalFramer of 3": lambda: signal(
        "Framer", [T((3, 64), **_16)], [T((3, 2, 48), **_16), T((), "bool")], frame_size=48, frame_step=32, prefill=0
    ),
    "SignalDelay": lambda: signal("Delay", [T((2, 30), **_16)], [T((2, 30), **_16)], delay_length=11),
    "SignalStacker": lambda: signal(
        "Stacker",
        [T((5,), **_16)],
        [T((20,), **_16), T((), "bool")],
        num_channels=5,
        stacker_left_context=2,
        stacker_right_context=1,
        stacker_step=2,
    ),
    **{
        f"SignalOverlapAdd {d}": (
            lambda d=d: signal("OverlapAdd", [T((2, 3, 40), d, scale=0)], [T((2, 60), d, scale=0)], T=7 * (d == "int16"), frame_step=20)
        )
        for d in ("int16", "float32")
    },
    **{
        f"SignalIrfft {d}": (lambda d=d, n=n: signal("Irfft", [T((1, 130), d, scale=0)], [T((1, 128), d, scale=0)], T=n, fft_length=128))
        for d, n in (("int16", 7), ("int32", 2), ("float32", 0))
    },
    "SignalFilterBank": lambda: filter_bank(5),
    "SignalFilterBank of 40": lambda: filter_bank(40),
    "SignalFilterBankSquareRoot": lambda: signal("FilterBankSquareRoot", [T((9,), "uint64"), T((), "int32")], [T((9,), "uint32")]),
    "SignalFilterBankSpectralSubtraction": lambda: spectral_subtraction(7),
    "SignalPCAN": lambda: signal(
        "PCAN", [T((9,), "uint32"), T((9,), "uint32"), T((125,), data=0, **_16)], [T((9,), "uint32")], snr_shift=6
    ),
    "SignalFilterBankLog": lambda: signal("FilterBankLog", [T((9,), "uint32")], [T((9,), **_16)], input_correction_bits=3, output_scale=64),
    "CIRCULAR_BUFFER": lambda: one_op("CUSTOM", [T((1, 1, 1, 8))], [T((1, 5, 1, 8))], custom="CIRCULAR_BUFFER"),
    "detection of few": detection,
    "detection of many": lambda: detection(300, 90, 20),
    "DEQUANTIZE behind QUANTIZE": lambda: _there_and_back(),
    "RESHAPE of a scalar": lambda: one_op(
        "RESHAPE", [T((1,)), T((0,), "int32", data=b"")], [T(())], options("ReshapeOptions", newShape=[])
    ),
    "chain of unary ones": lambda: chain("RELU HARD_SWISH RELU6 LEAKY_RELU ABS ELU"),
    "chain of int16": lambda: chain("RELU ADD CONV_2D SUB MUL LEAKY_RELU FULLY_CONNECTED", "int16"),
    "chain of float": lambda: chain("CEIL EXP MUL DIV FLOOR CONV_2D TANH SQUARE CONCATENATION FULLY_CONNECTED LOG", "float32"),
    "chain of small structures": lambda: chain("MUL SUB MUL FULLY_CONNECTED ADD RELU6 SUB FULLY_CONNECTED CONCATENATION MUL"),
    "chain without structures": lambda: chain("SIN COS SQRT ROUND NEG MAXIMUM MINIMUM", "float32"),
    "chain of tables": lambda: chain("ELU ADD ELU SQUARED_DIFFERENCE ELU"),
}


def _there_and_back() -> bytes:
    net = Net()
    (x,) = net.op("QUANTIZE", [T(MAP, "float32")], [T(MAP)], options("QuantizeOptions"))
    (x,) = net.op("QUANTIZE", [x], [T(MAP, "int16")], options("QuantizeOptions"))
    net.op("DEQUANTIZE", [x], [T(MAP, "float32")], options("DequantizeOptions"))
    return net.file()


def _dynamic_range(kind: str) -> Callable[[], bytes]:
    return lambda: weighted(kind, "float32", "int8")


def _half_weights() -> bytes:
    """float16 weights as TensorFlow's converter writes them: widened at run time."""
    net = Net()
    (wide,) = net.op("DEQUANTIZE", [T((4, 16), "float16", data=0)], [T((4, 16), "float32")], options("DequantizeOptions"))
    net.op("FULLY_CONNECTED", [T((1, 16), "float32"), wide, None], [T((1, 4), "float32")], options("FullyConnectedOptions"))
    return net.file()


#: Files that TFLM refuses for another reason than the element type of activations alone, with words that the reason must hold.
REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    **{f"{kind} hybrid": (f"{kind} with float32 input and int8 weights (hybrid)", _dynamic_range(kind)) for kind in WEIGHTED},
    "float16 weights": ("DEQUANTIZE with float16 input (float16 weights)", _half_weights),
    "CONV_2D of 2018": ("CONV_2D with uint8 input and uint8 weights", lambda: weighted("CONV_2D", "uint8", "uint8", per_channel=False)),
    "FULLY_CONNECTED int4 a channel": ("int4 weights of several scales", lambda: weighted("FULLY_CONNECTED", "int8", "int4")),
    "TRANSPOSE_CONV int4": ("TRANSPOSE_CONV with int4 weights", lambda: weighted("TRANSPOSE_CONV", "int8", "int4")),
    "CONV_2D int16 by int4": ("int16 input and int4 weights", lambda: weighted("CONV_2D", "int16", "int4")),
    "CONCATENATION of 11": (
        "11 inputs",
        lambda: one_op("CONCATENATION", [T((1, 3)) for _ in range(11)], [T((1, 33))], options("ConcatenationOptions", axis=1)),
    ),
    "CONCATENATION of two scales": (
        "another scale",
        lambda: one_op("CONCATENATION", [T((1, 3)), T((1, 3), scale=1.0)], [T((1, 6))], options("ConcatenationOptions", axis=1)),
    ),
    "CONCATENATION with an activation": (
        "an activation",
        lambda: one_op("CONCATENATION", [T((1, 3))], [T((1, 3))], options("ConcatenationOptions", axis=1, fusedActivationFunction=1)),
    ),
    "pooling that scales": (
        "another scale",
        lambda: one_op(
            "MAX_POOL_2D",
            [T(MAP)],
            [T((1, 3, 5, 8), scale=0.5)],
            options("Pool2DOptions", strideW=1, strideH=2, filterWidth=1, filterHeight=2),
        ),
    ),
    "SOFTMAX on another grid": (
        "the scale 0.0625",
        lambda: one_op("SOFTMAX", [T((1, 9))], [T((1, 9))], options("SoftmaxOptions", beta=1.0)),
    ),
    "LOGISTIC on another grid": ("the zero point 0", lambda: one_op("LOGISTIC", [T((1, 9))], [T((1, 9), scale=1 / 256)])),
    "LOGISTIC int16 on another grid": (
        "int16 output of the scale 0.0625",
        lambda: one_op("LOGISTIC", [T((1, 9), "int16")], [T((1, 9), "int16")]),
    ),
    "TANH int16 on another grid": ("int16 output of the scale", lambda: one_op("TANH", [T((1, 9), "int16")], [T((1, 9), "int16")])),
    "LOG_SOFTMAX on another grid": ("int8 output of the scale", lambda: one_op("LOG_SOFTMAX", [T((1, 9))], [T((1, 9))])),
    "RELU int16 off zero": ("the int16 zero point 3", lambda: one_op("RELU", [T((1, 9), "int16", zero=3)], [T((1, 9), "int16")])),
    "MUL int16 off zero": (
        "the int16 zero point 3",
        lambda: one_op("MUL", [T((1, 9), "int16"), T((1, 9), "int16")], [T((1, 9), "int16", zero=3)], options("MulOptions")),
    ),
    "MUL of two types": (
        "MUL with",
        lambda: one_op("MUL", [T((1, 9)), T((1, 9), "float32")], [T((1, 9))], options("MulOptions")),
    ),
    "quantised int32": (
        "quantised int32",
        lambda: one_op("ADD", [T((1, 9), "int32", scale=1.0), T((1, 9), "int32")], [T((1, 9), "int32")], options("AddOptions")),
    ),
    "ADD_N of two scales": (
        "several scales",
        lambda: one_op("ADD_N", [T((1, 9)), T((1, 9), scale=1.0)], [T((1, 9))], options("AddNOptions")),
    ),
    "ADD_N of two shapes": ("several shapes", lambda: one_op("ADD_N", [T((1, 9)), T((1, 1))], [T((1, 9))], options("AddNOptions"))),
    "paddings at run time": ("input 1 worked out at run time", lambda: one_op("PAD", [T((1, 9)), T((2, 2), "int32")], [T((1, 9))])),
    "padding of another type": (
        "PADV2 with int16 input and float32 padding value",
        lambda: one_op(
            "PADV2",
            [T((1, 9), "int16"), T((2, 2), "int32", data=0), T((), "float32", data=0)],
            [T((1, 9), "int16")],
            options("PadV2Options"),
        ),
    ),
    "permutation at run time": ("input 1 worked out at run time", lambda: one_op("TRANSPOSE", [T((1, 9)), T((2,), "int32")], [T((1, 9))])),
    "axis of SPLIT at run time": (
        "input 0 worked out at run time",
        lambda: one_op("SPLIT", [T((), "int32"), T((1, 9))], [T((1, 9))], options("SplitOptions", numSplits=1)),
    ),
    "axis of EXPAND_DIMS at run time": (
        "input 1 worked out at run time",
        lambda: one_op("EXPAND_DIMS", [T((1, 9)), T((1,), "int32")], [T((1, 1, 9))], options("ExpandDimsOptions")),
    ),
    "size of a resize at run time": (
        "input 1 worked out at run time",
        lambda: one_op("RESIZE_NEAREST_NEIGHBOR", [T(MAP), T((2,), "int32")], [T(MAP)], options("ResizeNearestNeighborOptions")),
    ),
    "bilinear resize with both corners and centers": (
        "at once",
        lambda: one_op(
            "RESIZE_BILINEAR", [T(MAP), _ints(6, 5)], [T(MAP)], options("ResizeBilinearOptions", alignCorners=True, halfPixelCenters=True)
        ),
    ),
    "STRIDED_SLICE of rank 5": (
        "5 dimensions",
        lambda: one_op(
            "STRIDED_SLICE",
            [T((1, *MAP)), _ints(*[0] * 5), _ints(1, *MAP), _ints(*[1] * 5)],
            [T((1, *MAP))],
            options("StridedSliceOptions"),
        ),
    ),
    "TRANSPOSE of rank 6": (
        "6 dimensions",
        lambda: one_op("TRANSPOSE", [T((1, 1, *MAP)), _ints(*range(6))], [T((1, 1, *MAP))], options("TransposeOptions")),
    ),
    "L2_NORMALIZATION of rank 5": ("5 dimensions", lambda: one_op("L2_NORMALIZATION", [T((1, *MAP))], [T((1, *MAP), scale=1 / 128)])),
    "SPACE_TO_DEPTH of rank 3": (
        "3 dimensions",
        lambda: one_op("SPACE_TO_DEPTH", [T((2, 2, 1))], [T((1, 1, 4))], options("SpaceToDepthOptions", blockSize=2)),
    ),
    "BATCH_MATMUL of rank 6": (
        "6 dimensions",
        lambda: one_op(
            "BATCH_MATMUL", [T((1, 1, 1, 1, 3, 4)), T((1, 1, 1, 1, 4, 3))], [T((1, 1, 1, 1, 3, 3))], options("BatchMatMulOptions")
        ),
    ),
    "CIRCULAR_BUFFER of float": (
        "CUSTOM CIRCULAR_BUFFER with float32 input",
        lambda: one_op("CUSTOM", [T((1, 1, 1, 8), "float32")], [T((1, 5, 1, 8), "float32")], custom="CIRCULAR_BUFFER"),
    ),
    "LSTM int8 by float": ("int8 input, float32 weights", lambda: lstm("int8", weights="float32")),
    "GATHER by int64": (
        "GATHER with int64 input 1",
        lambda: one_op("GATHER", [T((6, 5)), T((2,), "int64", data=1)], [T((2, 5))], options("GatherOptions", axis=0)),
    ),
    "ARG_MAX to int64": (
        "ARG_MAX with int64 output",
        lambda: one_op("ARG_MAX", [T(MAP), T((), "int32", data=3)], [T(MAP[:3], "int64")], options("ArgMaxOptions", outputType=4)),
    ),
    "QUANTIZE of float to uint8": (
        "float32 input and uint8 output",
        lambda: one_op("QUANTIZE", [T((1, 9), "float32")], [T((1, 9), "uint8")]),
    ),
    "bilinear resize of int16": (
        "RESIZE_BILINEAR with int16 input",
        lambda: one_op("RESIZE_BILINEAR", [T(MAP, "int16"), _ints(6, 5)], [T(MAP, "int16")], options("ResizeBilinearOptions")),
    ),
    "DEQUANTIZE of int32": ("int32 input", lambda: one_op("DEQUANTIZE", [T((1, 9), "int32")], [T((1, 9), "float32")])),
    "CAST to int64": ("int64 output", lambda: one_op("CAST", [T((1, 9))], [T((1, 9), "int64")], options("CastOptions"))),
    "weights without a scale": (
        "int8 weights without a scale",
        lambda: one_op(
            "CONV_2D",
            [T(MAP), T((4, 1, 1, 8), data=0, scale=0), _bias("int8", 4)],
            [T((1, 6, 5, 4))],
            options("Conv2DOptions", strideW=1, strideH=1),
        ),
    ),
    "biases of another scale": (
        "biases of another scale",
        lambda: one_op(
            "FULLY_CONNECTED",
            [T((1, 8)), T((4, 8), data=0), T((4,), "int32", data=0, scale=1.0)],
            [T((1, 4))],
            options("FullyConnectedOptions"),
        ),
    ),
}
