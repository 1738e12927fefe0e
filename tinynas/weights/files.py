"""A .tflite of anyone as a network in float: weights dequantised by their scales, padding and stray operators undone.

What quantisers and converters put around a network is taken away: QUANTIZE and DEQUANTIZE, PAD in front of convolutions, means and
reshapes in pieces, arithmetic with constants (which goes into the weights), softmax at the end. What is left is a
:class:`~tinynas.graph.Graph` with the file's own padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.arch import Activation, reach
from tinynas.cost.schema import ACTIVATIONS, SAME
from tinynas.errors import ModelFileError
from tinynas.export.facts import read_facts
from tinynas.export.pixels import ASSUMED, NAMED, parse_pixels, read_pixels
from tinynas.graph import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    HardSwish,
    Mean,
    Mul,
    Op,
    Padding,
    Pool2D,
    Tensor,
    same_padding,
)
from tinynas.inputs import Input, kind_of_channels
from tinynas.shrink import model as files
from tinynas.weights.layers import FileNet, Floats, Known, Layer

#: Read as what goes in.
_IDLE = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST", "FAKE_QUANT"})
#: Work out shapes, which are known.
_SHAPES = frozenset({"SHAPE", "STRIDED_SLICE", "PACK", "SLICE", "GATHER", "RANGE"})
_RESHAPES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
_ENDS = frozenset({"SOFTMAX", "LOGISTIC"})


class _Unknown(Exception):
    """The network cannot be rebuilt; its layers still can be read."""


@dataclass(frozen=True)
class _Value:
    """A tensor of the file: a tensor of the graph, and what is still to be done to it."""

    tensor: int
    axes: str
    """What its dimensions are: ``nhwc``, ``nchw``, ``nc``, ...; ``f`` stands for height, width and channels in one."""
    factor: Floats | None = None
    offset: Floats | None = None
    """It is factor * tensor + offset, for each channel."""
    pad: Padding = field(default_factory=Padding)
    ended: bool = False
    """A softmax or logistic function stands behind it."""


def read_file(path: Path, title: str, pixels: str = "auto") -> Known:
    """The weights, and where all operators are known the network, of the .tflite at ``path``.

    ``pixels`` as ``tinynas evaluate --pixels`` takes it. Raises ModelFileError for broken files and for files without weights,
    UserError for pixels that are not understood.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}", "give the path of a .tflite file") from None
    try:
        facts = read_facts(data)
        graph = files.read(data).main
        layers = _layers(graph)
    except ModelFileError as error:
        raise ModelFileError(f"{title}: {error.message}", error.hint) from None
    if not layers:
        raise ModelFileError(f"{title}: has no convolution and no fully connected layer with weights in it", "give a trained network")
    reading = read_pixels(facts, pixels)
    chosen, known_from = _pixels(facts, pixels, reading.known_from, reading.known)
    net, why = None, ""
    try:
        if facts.layout != "nhwc" or facts.input_rotation:
            raise _Unknown("its input is turned, or has its channels in front")
        net = _Rebuilding(graph, facts.input_shape).net()
        layers = tuple(net.layers.values())
    except _Unknown as error:
        why = str(error)
    notes = (
        ()
        if not facts.input_rotation
        else (f"the file reads images turned by {facts.input_rotation} degrees: its kernels are turned back",)
    )
    if facts.input_rotation == 180:
        layers = tuple(
            replace(layer, weight=np.ascontiguousarray(layer.weight[..., ::-1, ::-1])) if layer.kernel else layer for layer in layers
        )
    digest = hashlib.sha256(data).hexdigest()
    return Known(title, "a .tflite model", digest, layers, facts.labels, chosen, known_from, net, why, notes)


def _pixels(facts: Any, given: str, known_from: str, known: bool) -> tuple[Any, str]:
    from tinynas.export.pixels import Pixels

    channels = facts.input_shape[2]
    if given != "auto":
        return parse_pixels(given, channels), "as told"
    grid = facts.pixel_grid
    if facts.formula_known:
        source = facts.input
        return Pixels(source.formula, (float(source.zero_point),), (1 / source.scale,)), known_from
    if facts.told.mean and not facts.told.problem:
        return Pixels("the file's metadata", facts.told.mean, facts.told.std), known_from
    if grid is not None:
        # Each of the grid's steps is a byte.
        return Pixels("the file's input grid", (float(grid.zero_point - grid.limits[0]),), (1 / grid.scale,)), known_from
    return NAMED[ASSUMED], known_from if known else "assumed: nothing in the file tells; say it with recipe.init_pixels"


# weights -----------------------------------------------------------------------------------------------


def _constant(tensor: files.Tensor) -> NDArray[Any] | None:
    if isinstance(tensor.data, np.ndarray):
        return tensor.data
    dtype = {"uint8": "u1", "float16": "<f2", "int16": "<i2"}.get(tensor.dtype)
    if dtype is None or tensor.data is None or tensor.sparsity is not None:
        return None
    values = np.frombuffer(tensor.data, dtype)
    return values.reshape(tensor.dims) if values.size == tensor.elements else None


def _real(tensor: files.Tensor, axis: int) -> Floats | None:
    """The real numbers of a constant, its scales along ``axis``; None where it is no constant that is understood."""
    values = _constant(tensor)
    if values is None:
        return None
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if not tensor.scale.size or tensor.details[0]:
        return None
    shape = [1] * values.ndim
    if tensor.scale.size > 1:
        if not values.ndim or values.shape[axis] != tensor.scale.size:
            return None
        shape[axis] = tensor.scale.size
    scale = tensor.scale.astype(np.float64).reshape(shape if tensor.scale.size > 1 else ())
    zero = tensor.zero_point.astype(np.float64)
    each = zero.size > 1 and zero.size == tensor.scale.size
    shift: Any = zero.reshape(shape) if each else zero[0] if zero.size else 0.0
    return np.asarray((values - shift) * scale, np.float32)


def _weights(graph: files.Subgraph, op: files.Op, constant: Callable[[int, int], Floats | None]) -> tuple[Floats, Floats] | None:
    """Weight in TFLite's layout and bias of a weighted operator; None where they are not in the file."""
    axis = 3 if op.kind == "DEPTHWISE_CONV_2D" else 0
    weight = constant(op.inputs[1], axis) if len(op.inputs) > 1 and op.inputs[1] >= 0 else None
    if weight is None or weight.ndim != (2 if op.kind == "FULLY_CONNECTED" else 4):
        return None
    rows = weight.shape[axis]
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return weight, np.zeros(rows, np.float32)
    tensor = graph.tensors[op.inputs[2]]
    values = _constant(tensor)
    if values is None or values.size != rows:
        return None
    if values.dtype.kind == "f":
        return weight, values.reshape(-1).astype(np.float32)
    # The integers count products of input and weight steps, whatever the bias's own scale says.
    source, filters = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
    if not source.scale.size:
        return None
    steps = source.scale[0].astype(np.float64) * filters.scale.astype(np.float64)
    return weight, np.asarray(values.reshape(-1) * steps, np.float32)


def _torch(kind: str, weight: Floats) -> Floats:
    order = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "FULLY_CONNECTED": (0, 1)}[kind]
    return np.ascontiguousarray(weight.transpose(order))


def _layers(graph: files.Subgraph) -> tuple[Layer, ...]:
    """Every layer with weights as it stands, for files whose network is not rebuilt."""
    kinds: dict[str, Any] = {"CONV_2D": "conv", "DEPTHWISE_CONV_2D": "dw", "FULLY_CONNECTED": "fc"}
    found = []
    for op in graph.ops:
        if op.kind not in kinds:
            continue
        read = _weights(graph, op, lambda tensor, axis: _real(graph.tensors[tensor], axis))
        if read is None:
            continue
        weight, kind = _torch(op.kind, read[0]), kinds[op.kind]
        if kind == "dw" and graph.tensors[op.inputs[0]].channels == 1:
            kind = "conv"  # several kernels over one channel
        found.append(Layer(f"{op.kind} {op.number}", kind, weight, read[1]))
    if found and found[-1].kind == "conv" and found[-1].kernel == (1, 1):
        found[-1] = replace(found[-1], kind="fc", weight=found[-1].weight[:, :, 0, 0])
    return tuple(found)


# the network -------------------------------------------------------------------------------------------


class _Rebuilding:
    """Walks the file's operators and writes the graph."""

    def __init__(self, graph: files.Subgraph, shape: tuple[int, int, int]) -> None:
        self.file = graph
        self.tensors = [Tensor("input", shape)]
        self.ops: list[Op] = []
        self.layers: dict[str, Layer] = {}
        self.numbers: dict[str, int] = {}
        self.values = {graph.inputs[0]: _Value(0, "nhwc")}
        self.reals: dict[int, Floats] = {}
        self.readers: dict[int, int] = {}
        for op in graph.ops:
            for tensor in op.inputs:
                self.readers[tensor] = self.readers.get(tensor, 0) + 1
        if graph.tensors[graph.inputs[0]].dims[1:] != shape:
            raise _Unknown("its input is no image of height, width and channels")

    def net(self) -> FileNet:
        for op in self.file.ops:
            self.step(op)
        end = self.values.get(self.file.outputs[0])
        if end is None or len(self.file.outputs) != 1 or end.axes not in ("nc", "f") or end.factor is not None:
            raise _Unknown("its output is no list of scores")
        shape = self.tensors[0].shape
        assert len(shape) == 3
        source = Input(shape[0], shape[1], shape[2], kind_of_channels(shape[2]))
        graph = Graph(tuple(self.tensors), tuple(self.ops), source, (0,), (end.tensor,))
        if not isinstance(self.ops[-1], FullyConnected):
            raise _Unknown(f"it ends in {self.ops[-1].kind}, not in a classifier")
        return FileNet(graph, self.layers, self.numbers)

    def fail(self, op: files.Op, why: str = "is not known here") -> _Unknown:
        return _Unknown(f"its operator {op.number} ({op.title}) {why}")

    def const(self, tensor: int, axis: int) -> Floats | None:
        return self.reals[tensor] if tensor in self.reals else _real(self.file.tensors[tensor], axis)

    def read(self, op: files.Op, place: int = 0) -> _Value:
        value = self.values.get(op.inputs[place])
        if value is None:
            raise self.fail(op, "reads what is not known")
        return value

    def plain(self, op: files.Op, place: int = 0) -> _Value:
        """An input that is nothing but a tensor of the graph."""
        value = self.read(op, place)
        if value.factor is not None or not value.pad.none or value.ended or value.axes not in ("nhwc", "nc"):
            raise self.fail(op, "reads what was scaled, padded or turned")
        return value

    def tensor(self, name: str, shape: tuple[int, ...]) -> int:
        self.tensors.append(Tensor(name, shape))
        return len(self.tensors) - 1

    def put(self, op: files.Op, value: _Value) -> None:
        self.values[op.outputs[0]] = value

    def add(self, op: files.Op, made: Op, axes: str) -> None:
        self.ops.append(made)
        self.numbers[made.name] = op.number
        self.put(op, _Value(made.output, axes))

    def act(self, op: files.Op) -> Activation:
        number = int(getattr(op.options, "fusedActivationFunction", 0) or 0)
        if number not in ACTIVATIONS:
            raise self.fail(op, f"has the activation {number}, which is not known here")
        return ACTIVATIONS[number]

    def step(self, op: files.Op) -> None:
        kind = op.kind
        if kind in _IDLE:
            self.idle(op)
        elif kind in _SHAPES:
            pass
        elif kind in _RESHAPES:
            self.reshape(op)
        elif kind in _ENDS:
            self.put(op, replace(self.read(op), ended=True))
        elif kind in ("PAD", "PADV2", "MIRROR_PAD"):
            self.pad(op)
        elif kind == "TRANSPOSE":
            self.transpose(op)
        elif kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            self.windowed(op)
        elif kind == "FULLY_CONNECTED":
            self.dense(op)
        elif kind in ("ADD", "SUB", "MUL", "DIV"):
            self.arithmetic(op)
        elif kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
            self.pool(op)
        elif kind == "MEAN":
            self.mean(op)
        elif kind in ("RELU", "RELU6"):
            self.activation(op)
        elif kind == "HARD_SWISH":
            value = self.plain(op)
            output = self.tensor(f"op{op.number}", self.tensors[value.tensor].shape)
            self.add(op, HardSwish(f"op{op.number}", (value.tensor,), output), value.axes)
        else:
            raise self.fail(op)

    def idle(self, op: files.Op) -> None:
        if op.inputs[0] in self.values:
            self.put(op, self.values[op.inputs[0]])
            return
        real = self.const(op.inputs[0], 0)
        if real is None:
            raise self.fail(op, "reads what is not known")
        self.reals[op.outputs[0]] = real

    def reshape(self, op: files.Op) -> None:
        value = self.values.get(op.inputs[0])
        if value is None:
            real = self.const(op.inputs[0], 0)
            if real is not None:
                self.reals[op.outputs[0]] = real.reshape(self.file.tensors[op.outputs[0]].dims)
                return
            raise self.fail(op, "reads what is not known")
        shape = self.tensors[value.tensor].shape
        dims = [n for n in self.file.tensors[op.outputs[0]].dims if n != 1]
        if len(shape) == 1 and dims in ([shape[0]], []):
            self.put(op, replace(value, axes="nc"))
        elif len(shape) == 3 and dims == [n for n in shape if n != 1] and len(self.file.tensors[op.outputs[0]].dims) == 4:
            self.put(op, value)
        elif len(shape) == 3 and dims == [int(np.prod(shape))] and value.axes == "nhwc" and value.pad.none:
            self.put(op, replace(value, axes="f"))
        else:
            raise self.fail(op, "puts dimensions together in a way that is not known here")

    def pad(self, op: files.Op) -> None:
        value, pads = self.read(op), _constant(self.file.tensors[op.inputs[1]])
        if op.kind == "MIRROR_PAD" or len(op.inputs) > 2 or pads is None or pads.shape != (4, 2) or value.axes != "nhwc":
            raise self.fail(op, "pads with something other than zeros around an image")
        if pads[0].any() or pads[3].any() or pads.min() < 0:
            raise self.fail(op, "pads along channels")
        if value.offset is not None and pads.any():
            raise self.fail(op, "pads what was shifted")
        (top, bottom), (left, right), old = pads[1], pads[2], value.pad
        padding = Padding(old.top + int(top), old.bottom + int(bottom), old.left + int(left), old.right + int(right))
        self.put(op, replace(value, pad=padding))

    def transpose(self, op: files.Op) -> None:
        value, order = self.read(op), _constant(self.file.tensors[op.inputs[1]])
        if order is None or order.size != len(value.axes) or not value.pad.none:
            raise self.fail(op, "turns what is not known")
        self.put(op, replace(value, axes="".join(value.axes[int(i)] for i in order.reshape(-1))))

    def folded(self, value: _Value, weight: Floats, bias: Floats, *, depthwise: bool) -> tuple[Floats, Floats]:
        """``weight`` (PyTorch's layout) and ``bias`` over what ``value`` was before its factor and offset."""
        if value.factor is None or value.offset is None:
            return weight, bias
        channels = self.tensors[value.tensor].shape[-1]
        factor, offset = (np.broadcast_to(part, (channels,)).astype(np.float64) for part in (value.factor, value.offset))
        shape = (-1, 1, 1, 1) if depthwise else (1, -1, *([1] * (weight.ndim - 2)))
        spread = weight * offset.reshape(shape)
        more = spread.reshape(len(weight), -1).sum(1)
        return np.asarray(weight * factor.reshape(shape), np.float32), np.asarray(bias + more, np.float32)

    def windowed(self, op: files.Op) -> None:
        value, found, options = self.read(op), _weights(self.file, op, self.const), op.options
        if found is None or options is None or value.ended:
            raise self.fail(op, "has no weights in the file")
        weight, bias = _torch(op.kind, found[0]), found[1]
        shape, rows = self.tensors[value.tensor].shape, len(weight)
        depthwise = op.kind == "DEPTHWISE_CONV_2D" and shape[-1] > 1
        name, act = f"op{op.number}", self.act(op)
        if weight.shape[1] != (1 if depthwise else shape[-1]) or (depthwise and rows != shape[-1]):
            raise self.fail(op, "has channels in groups")
        weight, bias = self.folded(value, weight, bias, depthwise=depthwise)
        kernel = (weight.shape[2], weight.shape[3])
        if value.axes == "nhwc" and shape[:2] == kernel == (1, 1) and value.pad.none and not depthwise:
            value = self.spot(op, value)
            shape = self.tensors[value.tensor].shape
        if value.axes == "nc" and kernel == (1, 1) and not depthwise:
            output = self.tensor(name, (rows,))
            self.layers[name] = Layer(f"{op.kind} {op.number}", "fc", np.ascontiguousarray(weight[:, :, 0, 0]), bias)
            self.add(op, FullyConnected(name, (value.tensor,), output, shape[0], rows, act), "nc")
            return
        if value.axes != "nhwc":
            raise self.fail(op, "reads no image")
        stride, pad = (int(options.strideH), int(options.strideW)), value.pad
        down, across = (
            int(apart) if taps > 1 else 1 for apart, taps in zip((options.dilationHFactor, options.dilationWFactor), kernel, strict=True)
        )
        spans = reach(kernel, (down, across))
        sizes = (shape[0] + pad.top + pad.bottom, shape[1] + pad.left + pad.right)
        if options.padding == SAME:
            (top, bottom), (left, right) = (same_padding(sizes[i], spans[i], stride[i]) for i in (0, 1))
            pad = Padding(pad.top + top, pad.bottom + bottom, pad.left + left, pad.right + right)
            sizes = (sizes[0] + top + bottom, sizes[1] + left + right)
        out = tuple((sizes[i] - spans[i]) // stride[i] + 1 for i in (0, 1))
        # A kernel that never reaches the last row needs no padding there.
        unused = [sizes[i] - spans[i] - (out[i] - 1) * stride[i] for i in (0, 1)]
        pad = Padding(pad.top, max(0, pad.bottom - unused[0]), pad.left, max(0, pad.right - unused[1]))
        output = self.tensor(name, (*out, rows))
        if depthwise:
            made: Op = DepthwiseConv2D(name, (value.tensor,), output, rows, kernel, stride, pad, act, bn=False, dilation=(down, across))
        else:
            made = Conv2D(name, (value.tensor,), output, shape[-1], rows, kernel, stride, pad, act, bn=False, dilation=(down, across))
        self.layers[name] = Layer(f"{op.kind} {op.number}", "dw" if depthwise else "conv", weight, bias)
        self.add(op, made, "nhwc")

    def spot(self, op: files.Op, value: _Value) -> _Value:
        """A map of one place as a list of its channels."""
        name = f"op{op.number}.mean"
        output = self.tensor(name, self.tensors[value.tensor].shape[-1:])
        self.ops.append(Mean(name, (value.tensor,), output))
        self.numbers[name] = op.number
        return replace(value, tensor=output, axes="nc")

    def dense(self, op: files.Op) -> None:
        value, found = self.read(op), _weights(self.file, op, self.const)
        if found is None or value.ended:
            raise self.fail(op, "has no weights in the file")
        weight, bias = found
        name, act, rows, shape = f"op{op.number}", self.act(op), len(found[0]), self.tensors[value.tensor].shape
        tensor = value.tensor
        if value.axes in ("f", "nhwc") and shape[:2] == (1, 1):
            value = self.spot(op, value)
            tensor, shape = value.tensor, self.tensors[value.tensor].shape
        if value.axes == "f":
            if weight.shape[1] != int(np.prod(shape)) or value.factor is not None:
                raise self.fail(op, "reads something other than what lies before it")
            # A flattened map: a convolution as large as the map. Its one place is then averaged, which changes nothing.
            window, padding = (shape[0], shape[1]), Padding()
            whole = np.ascontiguousarray(weight.reshape(rows, *shape).transpose(0, 3, 1, 2))
            output = self.tensor(f"{name}.map", (1, 1, rows))
            self.layers[name] = Layer(f"{op.kind} {op.number}", "conv", whole, bias)
            self.add(op, Conv2D(name, (tensor,), output, shape[2], rows, window, (1, 1), padding, act, bn=False), "nhwc")
            self.add(op, Mean(f"{name}.mean", (output,), self.tensor(f"{name}.mean", (rows,))), "nc")
            return
        if value.axes != "nc" or weight.shape[1] != shape[-1]:
            raise self.fail(op, "reads no list of numbers")
        weight, bias = self.folded(value, weight, bias, depthwise=False)
        output = self.tensor(name, (rows,))
        self.layers[name] = Layer(f"{op.kind} {op.number}", "fc", weight, bias)
        self.add(op, FullyConnected(name, (tensor,), output, shape[0], rows, act), "nc")

    def arithmetic(self, op: files.Op) -> None:
        real = [None if tensor in self.values else self.const(tensor, -1) for tensor in op.inputs]
        if real[0] is None and real[1] is None:
            self.two(op)
            return
        place = 0 if real[0] is None else 1
        constant, value, act = real[1 - place], self.read(op, place), self.act(op)
        channels = self.tensors[value.tensor].shape[-1]
        if constant is None or constant.size not in (1, channels) or value.axes not in ("nhwc", "nc") or not value.pad.none or value.ended:
            raise self.fail(op, "computes with a constant of another shape")
        numbers = np.broadcast_to(constant.reshape(-1).astype(np.float64), (channels,))
        factor, offset = np.ones(channels), np.zeros(channels)
        match op.kind:
            case "ADD":
                offset = numbers
            case "SUB":
                factor, offset = (factor, -numbers) if place == 0 else (-factor, numbers)
            case "MUL":
                factor = numbers
            case _:
                if place or not numbers.all():
                    raise self.fail(op, "divides a constant")
                factor = 1 / numbers
        if act == "none" and self._into_producer(op, op.inputs[place], value, factor, offset):
            return
        if value.factor is not None and value.offset is not None:
            factor, offset = value.factor * factor, value.offset * factor + offset
        if act != "none":
            raise self.fail(op, "activates what a constant was added to or multiplied with")
        self.put(op, replace(value, factor=factor.astype(np.float32), offset=offset.astype(np.float32)))

    def _into_producer(self, op: files.Op, source: int, value: _Value, factor: NDArray[Any], offset: NDArray[Any]) -> bool:
        """Fold the arithmetic into the linear layer that made its input, where nothing else reads that."""
        makers = [made for made in self.ops if made.output == value.tensor]
        if value.factor is not None or not makers or self.readers.get(source, 0) != 1:
            return False
        made = makers[0]
        if not isinstance(made, (Conv2D, DepthwiseConv2D, FullyConnected)) or made.act != "none":
            return False
        layer = self.layers[made.name]
        weight = layer.weight * factor.reshape(-1, *([1] * (layer.weight.ndim - 1)))
        bias = np.asarray(layer.bias * factor + offset, np.float32)
        self.layers[made.name] = replace(layer, weight=np.asarray(weight, np.float32), bias=bias)
        self.put(op, value)
        return True

    def two(self, op: files.Op) -> None:
        if op.kind not in ("ADD", "MUL"):
            raise self.fail(op)
        one, other, name, act = self.plain(op, 0), self.plain(op, 1), f"op{op.number}", self.act(op)
        shapes = [self.tensors[value.tensor].shape for value in (one, other)]
        if op.kind == "MUL" and shapes[0] != shapes[1] and len(shapes[0]) == 1:
            one, other, shapes = other, one, shapes[::-1]
        if shapes[0] != shapes[1] and (op.kind == "ADD" or shapes[1] != shapes[0][-1:]):
            raise self.fail(op, "joins tensors of different shapes")
        output = self.tensor(name, shapes[0])
        made = Add if op.kind == "ADD" else Mul
        self.add(op, made(name, (one.tensor, other.tensor), output, act), one.axes)

    def pool(self, op: files.Op) -> None:
        value, options, name = self.read(op), op.options, f"op{op.number}"
        shape, kind = self.tensors[value.tensor].shape, "avg" if op.kind == "AVERAGE_POOL_2D" else "max"
        if self.act(op) != "none" or value.axes != "nhwc" or value.ended:
            raise self.fail(op, "pools what is not known here")
        kernel, stride = (int(options.filterHeight), int(options.filterWidth)), (int(options.strideH), int(options.strideW))
        out = self.file.tensors[op.outputs[0]].dims[1:3]
        if kind == "avg" and out == (1, 1) and kernel == shape[:2] and value.pad.none:
            output = self.tensor(name, shape[-1:])
            self.ops.append(Mean(name, (value.tensor,), output))
            self.numbers[name] = op.number
            self.put(op, replace(value, tensor=output, axes="nc"))
            return
        pads = [(0, 0), (0, 0)]
        if options.padding == SAME:
            pads = [same_padding(shape[i], kernel[i], stride[i]) for i in (0, 1)]
        padding = Padding(*pads[0], *pads[1])
        if not value.pad.none and kind == "max" and padding.none and value.factor is None and self.positive(value.tensor):
            padding = value.pad  # zeros are never larger than what an activation leaves
        elif not value.pad.none or (kind == "avg" and not padding.none) or (value.factor is not None and (value.factor <= 0).any()):
            raise self.fail(op, "pools what was padded or turned round")
        output = self.tensor(name, (*out, shape[-1]))
        self.ops.append(Pool2D(name, "avg" if kind == "avg" else "max", (value.tensor,), output, kernel, stride, padding))
        self.numbers[name] = op.number
        self.put(op, replace(value, tensor=output))

    def positive(self, tensor: int) -> bool:
        made = next((made for made in self.ops if made.output == tensor), None)
        return isinstance(made, (Conv2D, DepthwiseConv2D, Add)) and made.act != "none"

    def mean(self, op: files.Op) -> None:
        value, axes, name = self.read(op), _constant(self.file.tensors[op.inputs[1]]), f"op{op.number}"
        if axes is None or not value.pad.none or value.ended:
            raise self.fail(op, "averages what is not known")
        over = {value.axes[int(axis)] for axis in axes.reshape(-1)}
        left = "".join(axis for axis in value.axes if axis not in over)
        if not over <= {"h", "w"}:
            raise self.fail(op, "averages over more than height and width")
        if {"h", "w"} & set(left):
            if op.options is not None and op.options.keepDims:
                raise self.fail(op, "averages over one direction and keeps it")
            self.put(op, replace(value, axes=left))
            return
        output = self.tensor(name, self.tensors[value.tensor].shape[-1:])
        self.ops.append(Mean(name, (value.tensor,), output))
        self.numbers[name] = op.number
        self.put(op, replace(value, tensor=output, axes="nc"))

    def activation(self, op: files.Op) -> None:
        value = self.plain(op)
        index = next((i for i, made in enumerate(self.ops) if made.output == value.tensor), None)
        made = None if index is None else self.ops[index]
        if index is None or not isinstance(made, (Conv2D, DepthwiseConv2D, FullyConnected, Add, Mul)) or made.act != "none":
            raise self.fail(op, "activates what is no linear layer")
        if self.readers.get(op.inputs[0], 0) != 1:
            raise self.fail(op, "activates what others read without")
        self.ops[index] = replace(made, act="relu" if op.kind == "RELU" else "relu6")
        self.put(op, value)
