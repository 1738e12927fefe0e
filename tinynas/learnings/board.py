"""What learning on the board computes, bit for bit: the code of adapt.h in numpy, with its order of sums and its exponential.

:class:`tinynas.adapt.Learner` with ``learning.mode=board`` computes the same in PyTorch, whose sums run in another order. All numbers are
float32, and each product is rounded before it is added.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinynas.errors import InternalError
from tinynas.export.adapt_code import MAGIC, BoardLearning, clears_of
from tinynas.graph import WEIGHTED, Add, Conv2D, DepthwiseConv2D, FullyConnected, Mean, Op

_F = np.float32
_FNV, _FNV_PRIME = 2166136261, 16777619
#: Cephes' polynomial of e^x - 1 - x over x^2 on [-ln 2 / 2, ln 2 / 2].
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)

Reals = NDArray[np.float32]


def exp_of(x: Reals) -> Reals:
    """e^x of x <= 0, as the code has it: 0 below -80."""
    held = np.maximum(x, _F(-80))
    n = np.trunc(held * _F(1.44269504) - _F(0.5)).astype(_F)
    r = held - n * _F(0.693359375)
    r = r - n * _F(-2.12194440e-4)
    p = np.full_like(r, _F(_EXP[0]))
    for factor in _EXP[1:]:
        p = p * r + _F(factor)
    p = p * (r * r) + r
    p = p + _F(1)
    scale = ((n.astype(np.int32) + 127) << 23).view(_F)
    return np.where(x >= _F(-80), p * scale, _F(0)).astype(_F)


def softmax_of(logits: Reals) -> Reals:
    """Probabilities (K,), summed from the first class on."""
    shown = exp_of(logits - logits.max())
    total = _F(0)
    for one in shown:
        total = _F(total + one)
    return shown / total


class BoardReference:
    """The memory of learning and what a step does to it."""

    def __init__(self, learning: BoardLearning) -> None:
        self.learning = learning
        self.weights: dict[str, Reals] = {}
        self.biases: dict[str, Reals] = {}
        self._sums: dict[tuple[str, str], Reals] = {}
        self._slow: dict[tuple[str, str], Reals] = {}
        self._waiting = 0
        for op in learning.ops:
            if not isinstance(op, WEIGHTED):
                continue
            fixed = learning.qgraph.weights[op.name]
            if learning.weighted(op):
                steps = learning.steps(op)
                shaped = steps if isinstance(op, DepthwiseConv2D) else steps.reshape(-1, *[1] * (fixed.ndim - 1))
                self.weights[op.name] = (shaped * fixed.astype(_F)).astype(_F)
            if learning.biased(op):
                self.biases[op.name] = learning.first_biases(op).copy()

    # forward ------------------------------------------------------------------------------------------

    def _read(self, tensor: int, values: dict[int, Reals]) -> tuple[Reals, np.float32]:
        """(numbers as they are read, (H, W, C); what they are multiplied by)."""
        if tensor in self.learning.apart.kept:
            return values[tensor], _F(self.learning.qgraph.tensors[tensor].scale)
        return values[tensor], _F(1)

    def _start(self, kept: NDArray[np.int8]) -> dict[int, Reals]:
        values: dict[int, Reals] = {}
        at = 0
        for tensor in self.learning.apart.kept:
            shape = _map(self.learning.graph.shape(tensor))
            count = int(np.prod(shape))
            zero = self.learning.qgraph.tensors[tensor].zero_point
            values[tensor] = (kept[at : at + count].astype(np.int32) - zero).astype(_F).reshape(shape)
            at += count
        return values

    def _forward(self, kept: NDArray[np.int8]) -> tuple[dict[int, Reals], dict[str, NDArray[np.bool_]]]:
        values, masks = self._start(kept), {}
        for op in self.learning.ops:
            sums = self._sums_of(op, values)
            act = "none" if isinstance(op, Mean) else op.act  # type: ignore[union-attr]
            if act == "relu":
                masks[op.name] = sums > 0
            if act == "relu6":
                masks[op.name] = (sums >= 0) & (sums <= _F(6))
            if act != "none":
                sums = np.where(sums < 0, _F(0), sums)
            values[op.output] = np.where(sums > _F(6), _F(6), sums).astype(_F) if act == "relu6" else sums.astype(_F)
        return values, masks

    def _sums_of(self, op: Op, values: dict[int, Reals]) -> Reals:
        learning = self.learning
        read, scale = self._read(op.inputs[0], values)
        match op:
            case Mean():
                return (_added(read) * (scale * _share(read))).reshape(1, 1, -1)
            case Add():
                other, factor = self._read(op.inputs[1], values)
                return scale * read + factor * other
            case Conv2D() | DepthwiseConv2D() | FullyConnected():
                weight = self._weight(op)
                height, width, out = _map(learning.graph.shape(op.output))
                total = np.zeros((height, width, out), _F)
                for ky, kx, rows, columns, pixels in _windows(op, read, height, width):
                    if isinstance(op, DepthwiseConv2D):
                        total[rows, columns] += weight[0, ky, kx] * pixels
                        continue
                    for c in range(read.shape[-1]):
                        total[rows, columns] += weight[:, ky, kx, c] * pixels[:, :, c : c + 1]
                step = scale if op.name in self.weights else scale * learning.steps(op)
                bias = self.biases.get(op.name)
                return total * step + (learning.first_biases(op) if bias is None else bias)
            case _:
                raise InternalError(f"{op.name}: {op.kind} is not computed on the board")

    def _weight(self, op: Conv2D | DepthwiseConv2D | FullyConnected) -> Reals:
        """(O, H, W, I), or (1, H, W, C): what is learned, or the model's integers."""
        known = self.weights.get(op.name)
        weight = self.learning.qgraph.weights[op.name].astype(_F) if known is None else known
        return weight.reshape(weight.shape[0], 1, 1, -1) if isinstance(op, FullyConnected) else weight

    def logits(self, kept: NDArray[np.int8]) -> Reals:
        """(K,) of one input by its kept bytes."""
        return self._forward(kept)[0][self.learning.graph.logits].reshape(-1)

    # learning -----------------------------------------------------------------------------------------

    def step(self, kept: NDArray[np.int8], label: int, rate: float) -> None:
        """Learn one input of class ``label`` from its ``kept`` bytes."""
        learning, rate = self.learning, float(_F(rate))
        values, masks = self._forward(kept)
        logits = values[learning.graph.logits]
        gradient = softmax_of(logits.reshape(-1))
        gradient[label] = gradient[label] - _F(1)
        gradients = {learning.graph.logits: gradient.reshape(logits.shape)}
        for op, clears in reversed(list(zip(learning.ops, clears_of(learning), strict=True))):
            arrived = gradients[op.output]
            if op.name in masks:
                arrived = np.where(masks[op.name], arrived, _F(0)).astype(_F)
            for side, tensor in enumerate(dict.fromkeys(op.inputs)):
                if tensor not in learning.apart.gradients:
                    continue
                if clears & (1 << side):
                    gradients[tensor] = np.zeros_like(values[tensor])
                self._pass(op, arrived, gradients[tensor])
            if not isinstance(op, WEIGHTED):
                continue
            if op.name in self.weights:
                self._descend("weight", op.name, self._weight_gradient(op, arrived, values), rate)
            if op.name in self.biases:
                self._descend("bias", op.name, _added(arrived), rate)
        self._waiting += 1
        if self._waiting == learning.batch:
            self.flush(rate)

    def _pass(self, op: Op, arrived: Reals, passed: Reals) -> None:
        match op:
            case Mean():
                passed += arrived * _share(passed)
            case Add():
                passed += arrived
            case Conv2D() | DepthwiseConv2D() | FullyConnected():
                weight, fixed = self._weight(op), op.name not in self.weights
                scaled = arrived * self.learning.steps(op) if fixed else arrived
                height, width, outputs = arrived.shape
                kernel, stride, top, left = _window(op)
                for y in range(height):
                    for x in range(width):
                        for out in range(1 if isinstance(op, DepthwiseConv2D) else outputs):
                            for ky in range(kernel[0]):
                                for kx in range(kernel[1]):
                                    row, column = y * stride[0] + ky - top, x * stride[1] + kx - left
                                    if not (0 <= row < passed.shape[0] and 0 <= column < passed.shape[1]):
                                        continue
                                    factor = scaled[y, x] if isinstance(op, DepthwiseConv2D) else scaled[y, x, out]
                                    passed[row, column] += factor * weight[out, ky, kx]
            case _:
                raise InternalError(f"{op.name}: {op.kind} passes no gradient on the board")

    def _weight_gradient(self, op: Conv2D | DepthwiseConv2D | FullyConnected, arrived: Reals, values: dict[int, Reals]) -> Reals:
        read, scale = self._read(op.inputs[0], values)
        height, width, _ = arrived.shape
        weight = self._weight(op)
        total = np.zeros_like(weight)
        for ky, kx, rows, columns, pixels in _windows(op, read, height, width):
            for i, y in enumerate(rows.reshape(-1)):
                for j, x in enumerate(columns.reshape(-1)):
                    if isinstance(op, DepthwiseConv2D):
                        total[0, ky, kx] += arrived[y, x] * pixels[i, j]
                    else:
                        total[:, ky, kx] += arrived[y, x][:, None] * pixels[i, j][None, :]
        return (total * scale).reshape(self.weights[op.name].shape)

    def _descend(self, kind: str, name: str, gradient: Reals, rate: float) -> None:
        if self.learning.batch == 1:
            self._move(kind, name, gradient, rate)
            return
        known = self._sums.get((kind, name))
        self._sums[kind, name] = gradient if known is None else known + gradient

    def _move(self, kind: str, name: str, gradient: Reals, rate: float) -> None:
        if self.learning.momentum > 0:
            slow = self._slow.get((kind, name), np.zeros_like(gradient))
            gradient = self._slow[kind, name] = _F(self.learning.momentum) * slow + gradient
        held = self.weights if kind == "weight" else self.biases
        held[name] = held[name] - _F(rate) * gradient

    def flush(self, rate: float) -> None:
        """The end of a batch: what was added up moves the parameters."""
        if self.learning.batch > 1 and self._waiting:
            share = _F(1) / _F(self._waiting)
            for (kind, name), total in self._sums.items():
                self._move(kind, name, total * share, rate)
            self._sums = {}
        self._waiting = 0

    # what is kept of it -------------------------------------------------------------------------------

    def parameters(self) -> Reals:
        """All that is learned, as a blob holds it: of each operator weights, then biases."""
        parts = []
        for op in self.learning.ops:
            parts += [held[op.name].reshape(-1) for held in (self.weights, self.biases) if op.name in held]
        return np.concatenate(parts)

    def sum(self) -> int:
        """FNV-1a of all parameters."""
        return fnv(self.parameters().astype("<f4").tobytes())

    def blob(self) -> bytes:
        """What the board saves."""
        words = np.array([MAGIC, self.learning.key, self.learning.parameters], "<u4").tobytes()
        body = words + self.parameters().astype("<f4").tobytes()
        return body + np.array([fnv(body)], "<u4").tobytes()


def fnv(data: bytes) -> int:
    """FNV-1a of 32 bits."""
    total = _FNV
    for byte in data:
        total = (total ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return total


def _map(shape: Sequence[int]) -> tuple[int, int, int]:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, shape[0])


def _added(values: Reals) -> Reals:
    """Sums (C,) over the pixels of (H, W, C), from the first on."""
    total = np.zeros(values.shape[-1], _F)
    for pixel in values.reshape(-1, values.shape[-1]):
        total = total + pixel
    return total


def _share(values: Reals) -> np.float32:
    return _F(_F(1) / _F(values.shape[0] * values.shape[1]))


def _window(op: Conv2D | DepthwiseConv2D | FullyConnected) -> tuple[tuple[int, int], tuple[int, int], int, int]:
    if isinstance(op, FullyConnected):
        return (1, 1), (1, 1), 0, 0
    return op.kernel, op.stride, op.padding.top, op.padding.left


def _windows(
    op: Conv2D | DepthwiseConv2D | FullyConnected, read: Reals, height: int, width: int
) -> list[tuple[int, int, NDArray[np.int64], NDArray[np.int64], Reals]]:
    """By place of the kernel, in order: output rows (R, 1) and columns (1, C) that it reads inside of the map for, and what it reads."""
    kernel, stride, top, left = _window(op)
    found = []
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            ys = np.array([y for y in range(height) if 0 <= y * stride[0] + ky - top < read.shape[0]], np.int64)
            xs = np.array([x for x in range(width) if 0 <= x * stride[1] + kx - left < read.shape[1]], np.int64)
            if len(ys) and len(xs):
                pixels = read[(ys * stride[0] + ky - top)[:, None], (xs * stride[1] + kx - left)[None, :]]
                found.append((ky, kx, ys[:, None], xs[None, :], pixels))
    return found
