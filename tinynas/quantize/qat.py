"""Quantisation-aware training: the network trained on the very grids that go into the file.

::

    module = prepare_qat(network, train_images)     # an nn.Module; forward gives logits, gradients pass the rounding
    ...train its parameters as usual, at a low learning rate...
    qgraph = finish_qat(module)                     # export_model(..., qgraph=qgraph) writes its grids unchanged

Batch norm is folded first: its statistics are those of inference, which is what the integers will see. Activation
grids are calibrated once and stay; weight grids follow the largest weight of a channel, those of fewer than 8 bits are learned
(:mod:`tinynas.lsq`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tinynas.graph import WEIGHTED, FullyConnected, Op, Pool2D, Resize, Weighted
from tinynas.lsq import WeightGrid
from tinynas.quantize.calibrate import QuantOptions, assemble, check_images, quantize
from tinynas.quantize.equalize import equalize
from tinynas.quantize.floats import FloatGraph, apply, fold, tflite_layout, torch_layout, walk
from tinynas.quantize.grid import QuantizedGraph, TensorQuant, largest

if TYPE_CHECKING:
    from tinynas.model import Network

#: Weight scale of a channel whose weights are all zero.
_LEAST_SCALE = 1e-12


class QatNetwork(nn.Module):
    """A folded network whose weights and activations lie on their integer grids; gradients pass the rounding unchanged.

    Parameters: ``weights`` and ``biases`` by operator (PyTorch's layout), ``grids`` of those of few bits. Takes and gives what
    :class:`tinynas.model.Network` does: normalised images (B, C, H, W) to logits (B, classes).
    """

    def __init__(self, floats: FloatGraph, tensors: tuple[TensorQuant, ...], options: QuantOptions) -> None:
        super().__init__()
        self.graph, self.tensors, self.options = floats.graph, tensors, options
        self.weights, self.biases, self.grids = nn.ParameterDict(), nn.ParameterDict(), nn.ModuleDict()
        for op in floats.graph.ops:
            if isinstance(op, WEIGHTED):
                weight = torch.from_numpy(torch_layout(op, floats.weights[op.name]).copy())
                if weight.ndim == 4:
                    weight = weight.contiguous(memory_format=torch.channels_last)
                self.weights[_key(op)] = nn.Parameter(weight)
                self.biases[_key(op)] = nn.Parameter(torch.from_numpy(floats.biases[op.name].copy()))
                if op.weight_bits < 8:
                    whole = isinstance(op, FullyConnected)
                    grid = self.grids[_key(op)] = WeightGrid(len(weight), op.weight_bits, whole=whole)
                    if op.name in floats.steps:
                        with torch.no_grad():
                            grid.log_step.copy_(torch.from_numpy(floats.steps[op.name]).log())
                    else:
                        grid.fit(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) from normalised images (B, C, H, W)."""
        return walk(self.graph, x, self._step)

    def _step(self, op: Op, read: list[Tensor]) -> Tensor:
        return self._on_grid(apply(self.graph, op, read, lambda weighted: (self._weight(weighted), self.biases[_key(weighted)])), op)

    def _weight(self, op: Weighted) -> Tensor:
        weight, most = self.weights[_key(op)], largest(self.options.bits)
        if _key(op) in self.grids:
            learned: Tensor = self.grids[_key(op)](weight)
            return learned
        with torch.no_grad():
            axes = tuple(range(1, weight.ndim))
            reach = weight.abs().amax() if isinstance(op, FullyConnected) else weight.abs().amax(axes)
            scale = (reach / most).clamp_(min=_LEAST_SCALE)
        if isinstance(op, FullyConnected):
            zero = torch.zeros(1, dtype=torch.int32, device=weight.device)
            return torch.fake_quantize_per_tensor_affine(weight, scale.reshape(1), zero, -most, most)
        zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -most, most)

    def _on_grid(self, values: Tensor, op: Op) -> Tensor:
        if isinstance(op, Resize) or (isinstance(op, Pool2D) and op.op == "max"):
            return values  # is on its input's grid already
        quant = self.tensors[op.output]
        return torch.fake_quantize_per_tensor_affine(values, quant.scale, quant.zero_point, -128, 127)

    def floats(self) -> FloatGraph:
        """The float network under the grids; weights of few bits lie on theirs."""
        weights: dict[str, NDArray[np.float32]] = {}
        biases: dict[str, NDArray[np.float32]] = {}
        steps: dict[str, NDArray[np.float32]] = {}
        for op in self.graph.ops:
            if isinstance(op, WEIGHTED):
                weight: Tensor = self.weights[_key(op)]
                if _key(op) in self.grids:
                    grid = self.grids[_key(op)]
                    assert isinstance(grid, WeightGrid)
                    weight, steps[op.name] = grid(weight), grid.step.detach().cpu().numpy()
                weights[op.name] = tflite_layout(op, weight.detach().cpu().numpy())
                biases[op.name] = self.biases[_key(op)].detach().cpu().numpy().copy()
        return FloatGraph(self.graph, weights, biases, steps=steps)


def prepare_qat(network: Network | FloatGraph, calibration: NDArray[np.uint8], options: QuantOptions | None = None) -> QatNetwork:
    """``network`` ready for quantisation-aware training; activation grids from uint8 images (N, H, W, C).

    The network itself is not changed. Raises DataError for images that do not fit.
    """
    options = options or QuantOptions()
    floats = network if isinstance(network, FloatGraph) else fold(network)
    if options.equalize:
        check_images(floats, calibration)
        floats = equalize(floats, np.asarray(calibration[: options.images]))
    grids = quantize(floats, calibration, options.model_copy(update={"equalize": False})).tensors
    return QatNetwork(floats, grids, options.model_copy(update={"weights": "max"}))


def finish_qat(module: QatNetwork) -> QuantizedGraph:
    """The integer network that ``module`` was trained as: its activation grids unchanged, its weights rounded."""
    return assemble(module.floats(), module.tensors, module.options)


def _key(op: Op) -> str:
    return op.name.replace(".", "_")
