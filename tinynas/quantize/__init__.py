"""Quantisation: a float network's weights and ranges put on integer grids, and the integer arithmetic itself."""

from tinynas.quantize.grid import QuantizedGraph, TensorQuant

__all__ = ["QuantizedGraph", "TensorQuant"]
