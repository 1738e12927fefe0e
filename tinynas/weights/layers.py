"""What a source of weights holds: its layers in order, in PyTorch's layout, and what its first one reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinynas.export.pixels import Pixels
from tinynas.graph import Graph

Floats = NDArray[np.float32]
LayerKind = Literal["conv", "dw", "fc"]
#: What networks of ours read: (pixel - 128) / 128.
OURS = Pixels("(pixel-128)/128", (128.0,), (128.0,))


@dataclass(frozen=True)
class Norm:
    """Batch norm: gamma * (x - mean) / sqrt(var + eps) + beta, each (channels,)."""

    gamma: Floats
    beta: Floats
    mean: Floats
    var: Floats
    eps: float

    @property
    def factor(self) -> Floats:
        """gamma / sqrt(var + eps)."""
        return np.asarray(self.gamma.astype(np.float64) / np.sqrt(self.var.astype(np.float64) + self.eps), np.float32)


@dataclass(frozen=True)
class Layer:
    """A convolution, depthwise convolution or fully connected layer."""

    name: str
    """As people find it in the source."""
    kind: LayerKind
    weight: Floats
    """(out, in, kh, kw); depthwise (channels, 1, kh, kw); fully connected (out, in)."""
    bias: Floats
    """(out,); zeros where it has none."""
    norm: Norm | None = None
    """Batch norm behind it; None where there is none, or where it is folded into weight and bias."""

    @property
    def rows(self) -> int:
        """Output channels."""
        return len(self.weight)

    @property
    def columns(self) -> int:
        """Input channels; those of a depthwise convolution are its rows."""
        return self.rows if self.kind == "dw" else self.weight.shape[1]

    @property
    def kernel(self) -> tuple[int, ...]:
        """(kh, kw); () of a fully connected layer."""
        return self.weight.shape[2:]

    def folded(self) -> tuple[Floats, Floats]:
        """Weight and bias with batch norm in them."""
        if self.norm is None:
            return self.weight, self.bias
        factor = self.norm.factor
        weight = self.weight * factor.reshape(-1, *([1] * (self.weight.ndim - 1)))
        return weight, (self.norm.beta + (self.bias - self.norm.mean) * factor).astype(np.float32)


@dataclass(frozen=True)
class FileNet:
    """A network read out of a model file."""

    graph: Graph
    """With the file's own padding; operators have no batch norm."""
    layers: Mapping[str, Layer]
    """By the graph's operator names."""
    numbers: Mapping[str, int]
    """Operator names -> their numbers in the file."""


@dataclass(frozen=True)
class Known:
    """What a source holds."""

    title: str
    """As its user named it."""
    what: str
    """A .tflite model, a network of a run, ..."""
    sha256: str
    """Of the file that holds the weights."""
    layers: tuple[Layer, ...]
    """In the order in which they run; the last one is the classifier."""
    labels: tuple[str, ...] = ()
    """Names of the classes; empty where the source does not tell."""
    pixels: Pixels = OURS
    """What its first layer reads."""
    pixels_from: str = "as networks of tinynas"
    """Whence that is known."""
    net: FileNet | None = None
    """The whole network, where the source is a model file whose operators are all known."""
    why_no_net: str = ""
    """Where it is None: what stood in the way."""
    notes: tuple[str, ...] = field(default=())
    """What must be known of it."""

    @property
    def classes(self) -> int:
        """Outputs of the classifier."""
        return self.layers[-1].rows

    @property
    def labels_words(self) -> str:
        """Its classes for people."""
        return class_words(self.labels, self.classes)


def class_words(labels: tuple[str, ...], classes: int) -> str:
    """Classes for people: their names, or how many they are."""
    if not labels:
        return f"{classes} classes without names"
    more = f", ... ({len(labels)} classes)" if len(labels) > 12 else ""
    return f"{', '.join(labels[:12])}{more}"
