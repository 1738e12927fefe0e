"""Weights: a training begins where another ended. What a source holds, which of it fits a network, and a teacher.

::

    known = open_source("person.tflite")         # or RUN:ID, .safetensors, a PyTorch state dict, zoo:NAME
    begun = begin(graph, known, labels, images)  # weights for a Trainer, and a row a layer: taken, cut, new
"""

from tinynas.weights.begin import Begun, Row, begin
from tinynas.weights.layers import Known, Layer, Norm
from tinynas.weights.source import open_source
from tinynas.weights.teacher import open_teacher

__all__ = ["Begun", "Known", "Layer", "Norm", "Row", "begin", "open_source", "open_teacher"]
