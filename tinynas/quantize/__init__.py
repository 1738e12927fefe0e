"""Quantisation: a float network's weights and ranges put on integer grids, and the integer arithmetic itself.

::

    floats = fold(network)                       # batch norm folded, TFLite's layout
    qgraph = quantize(floats, calibration)       # uint8 images (N, H, W, C)
    logits = FakeQuantNetwork(qgraph)(images)    # the .tflite's integers, batched

Names are loaded on first use: the file writer needs the grids alone, not PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tinynas.quantize.grid import QuantizedGraph, TensorQuant

if TYPE_CHECKING:
    from tinynas.quantize.calibrate import QuantOptions, quantize
    from tinynas.quantize.fake import FakeQuantNetwork
    from tinynas.quantize.floats import FloatGraph, fold, predict
    from tinynas.quantize.qat import QatNetwork, finish_qat, prepare_qat

__all__ = [
    "FakeQuantNetwork",
    "FloatGraph",
    "QatNetwork",
    "QuantOptions",
    "QuantizedGraph",
    "TensorQuant",
    "finish_qat",
    "fold",
    "predict",
    "prepare_qat",
    "quantize",
]

_HOMES = {
    "QuantOptions": "calibrate",
    "quantize": "calibrate",
    "FakeQuantNetwork": "fake",
    "FloatGraph": "floats",
    "fold": "floats",
    "predict": "floats",
    "QatNetwork": "qat",
    "finish_qat": "qat",
    "prepare_qat": "qat",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
