"""A causal network out of its .tflite: what a board computes that takes frame by frame, where the file holds the network of whole clips.

TFLite knows no padding in front alone: the file's kernels have rows of zeros behind instead, which are taken off again.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tinynas.arch import Activation, reach
from tinynas.cost.schema import ACTIVATIONS, SAME
from tinynas.cost.stepwise import check_streams
from tinynas.errors import UserError
from tinynas.graph import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    HardSwish,
    Mean,
    Op,
    Padding,
    Pool2D,
    Tensor,
    same_padding,
)
from tinynas.inputs import Input
from tinynas.quantize.grid import QuantizedGraph, TensorQuant
from tinynas.shrink.model import Op as FileOp
from tinynas.shrink.model import Subgraph, read


def read_stream(model: bytes, source: Input) -> QuantizedGraph:
    """The network of the int8 .tflite ``model``, which reads ``source``, as it is streamed.

    Raises ModelFileError for a broken file, UserError for one that is not of tinynas's operators in int8, or that reads rows which are yet
    to come.
    """
    return _Reading(read(model).main, source).network()


class _Reading:
    def __init__(self, graph: Subgraph, source: Input) -> None:
        self.graph, self.source = graph, source
        self.numbers: dict[int, int] = {}
        self.tensors: list[Tensor] = []
        self.grids: list[TensorQuant] = []
        self.ops: list[Op] = []
        self.weights: dict[str, NDArray[np.int8]] = {}
        self.scales: dict[str, NDArray[np.float32]] = {}
        self.biases: dict[str, NDArray[np.int32]] = {}

    def network(self) -> QuantizedGraph:
        if len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            raise _no_stream("it has several inputs or outputs")
        first = self._activation(self.graph.inputs[0])
        for op in self.graph.ops:
            self._add(op)
        outputs = (self.numbers[self.graph.outputs[0]],)
        graph = Graph(tuple(self.tensors), tuple(self.ops), self.source, (first,), outputs)
        check_streams(graph)
        return QuantizedGraph(graph, tuple(self.grids), self.weights, self.scales, self.biases)

    def _activation(self, index: int) -> int:
        """The number of tensor ``index`` of the file, which the graph has now."""
        tensor = self.graph.tensors[index]
        if not tensor.int8 or tensor.constant:
            raise _no_stream(f"its tensor {index} is no int8 activation")
        if index not in self.numbers:
            self.numbers[index] = len(self.tensors)
            self.tensors.append(Tensor(f"t{index}", tuple(tensor.dims[1:])))
            self.grids.append(TensorQuant(*tensor.grid))
        return self.numbers[index]

    def _add(self, op: FileOp) -> None:
        name = f"{op.kind.lower()} {op.number}"
        constant = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "MEAN": 1}.get(op.kind, 0)
        if len(op.inputs) <= constant or min(op.inputs) < 0:
            raise _no_stream(f"{op.title} has no {'axes' if op.kind == 'MEAN' else 'bias'}")
        inputs = tuple(self._activation(index) for index in op.inputs[: len(op.inputs) - constant])
        output = self._activation(op.outputs[0])
        act = self._act(op)
        match op.kind:
            case "CONV_2D" | "DEPTHWISE_CONV_2D":
                made = self._windowed(op, name, inputs, output, act)
            case "FULLY_CONNECTED":
                rows, columns = self._constants(op, name).shape
                made = FullyConnected(name, inputs, output, columns, rows, act)
            case "MAX_POOL_2D" | "AVERAGE_POOL_2D":
                made = self._pool(op, name, inputs, output)
            case "MEAN":
                axes = self.graph.tensors[op.inputs[1]].array
                if axes is None or sorted(np.asarray(axes).ravel().tolist()) != [1, 2]:
                    raise _no_stream(f"{op.title} is not over the whole map")
                made = Mean(name, inputs, output)
            case "ADD":
                made = Add(name, inputs, output, act)
            case "HARD_SWISH":
                made = HardSwish(name, inputs, output)
            case _:
                raise _no_stream(f"it has the operator {op.title}")
        self.ops.append(made)

    def _act(self, op: FileOp) -> Activation:
        number = int(getattr(op.options, "fusedActivationFunction", 0) or 0)
        if number not in ACTIVATIONS:
            raise _no_stream(f"{op.title} has the activation {number}")
        return ACTIVATIONS[number]

    def _constants(self, op: FileOp, name: str) -> NDArray[np.int8]:
        weight, bias = (self.graph.tensors[index] for index in op.inputs[1:3])
        if weight.array is None or bias.array is None or weight.array.dtype != np.int8 or bias.array.dtype != np.int32:
            raise _no_stream(f"{op.title}'s weights are not int8, or its biases not int32")
        self.weights[name], self.biases[name] = weight.array, bias.array
        self.scales[name] = weight.scale.astype(np.float32)
        return self.weights[name]

    def _windowed(self, op: FileOp, name: str, inputs: tuple[int, ...], output: int, act: Activation) -> Op:
        weights = self._constants(op, name)
        options, depthwise = op.options, op.kind == "DEPTHWISE_CONV_2D"
        stride, dilation = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
        kernel = cast("tuple[int, int]", weights.shape[1:3])
        padding = self._padding(op, inputs[0], kernel, stride, dilation)
        # Rows of zeros behind see what is yet to come, and change nothing.
        filled = np.flatnonzero(weights.any(axis=(0, 2, 3)))
        spare = kernel[0] - 1 - (int(filled[-1]) if len(filled) else 0)
        behind = min(spare, -(-padding.bottom // dilation[0]))
        self.weights[name] = weights[:, : kernel[0] - behind]
        kernel = (kernel[0] - behind, kernel[1])
        padding = Padding(padding.top, max(0, padding.bottom - behind * dilation[0]), padding.left, padding.right)
        scales = self.scales[name]
        if depthwise:
            channels = weights.shape[3]
            self.scales[name] = np.broadcast_to(scales, (channels,)).copy()
            return DepthwiseConv2D(name, inputs, output, channels, kernel, stride, padding, act, dilation=dilation)
        self.scales[name] = np.broadcast_to(scales, (weights.shape[0],)).copy()
        return Conv2D(name, inputs, output, weights.shape[3], weights.shape[0], kernel, stride, padding, act, dilation=dilation)

    def _pool(self, op: FileOp, name: str, inputs: tuple[int, ...], output: int) -> Op:
        kernel, stride = (op.options.filterHeight, op.options.filterWidth), (op.options.strideH, op.options.strideW)
        padding = self._padding(op, inputs[0], kernel, stride, (1, 1))
        return Pool2D(name, "max" if op.kind == "MAX_POOL_2D" else "avg", inputs, output, kernel, stride, padding)

    def _padding(self, op: FileOp, tensor: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Padding:
        if op.options.padding != SAME:
            return Padding()
        spans: Any = reach(kernel, dilation)
        sides = [same_padding(self.tensors[tensor].shape[axis], spans[axis], stride[axis]) for axis in (0, 1)]
        return Padding(*sides[0], *sides[1])


def _no_stream(why: str) -> UserError:
    return UserError(f"the file cannot be heard frame by frame: {why}", "give the int8 .tflite of a causal network that tinynas wrote")
