"""Weights trained elsewhere with symmetric padding (k // 2 on both sides), imported exactly.

PyTorch pads a strided convolution on both sides alike; TFLite's SAME puts the odd pixel after. On even inputs
the windows of the two are one pixel apart. Turning every kernel and the input image by 180 degrees maps the
one onto the other exactly, without a PAD operator: a symmetric window that starts at ``i * s - p`` becomes a
window that starts at ``i' * s + n + p - k - (out - 1) * s``, which is SAME's start wherever
``before == (out - 1) * s + k - n - p``. That holds for every stride 1 and 2 with an odd kernel larger than 1,
on odd and even sizes; other windows are refused by name, never approximated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

import numpy as np
import numpy.typing as npt

from tinynas.errors import ArchError
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mean, Mul, Pool2D

if TYPE_CHECKING:
    from tinynas.model import Network

#: What the metadata of a rotated model says: the image must be turned by this many degrees before the network.
INPUT_ROTATION = 180

FloatArray = npt.NDArray[np.float32]


def symmetric_output(size: int, kernel: int, stride: int) -> int:
    """Output pixels of a window with symmetric padding ``kernel // 2``: floor((n + 2p - k) / s) + 1."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def needs_rotation(graph: Graph) -> bool:
    """True where symmetric padding and the graph's own padding differ for some convolution."""
    return any(
        before != kernel // 2 or symmetric_output(size, kernel, stride) != out for _, size, kernel, stride, before, out in _windows(graph)
    )


def rotation_faults(graph: Graph) -> list[str]:
    """Why the rotation would not be exact for ``graph``, one line an operator; empty where it is exact."""
    faults = []
    for name, size, kernel, stride, before, out in _windows(graph):
        symmetric = symmetric_output(size, kernel, stride)
        if symmetric != out:
            faults.append(f"{name}: kernel {kernel} with symmetric padding gives {symmetric} of {size} pixels, the graph {out}")
        elif before != (out - 1) * stride + kernel - size - kernel // 2:
            faults.append(f"{name}: kernel {kernel}, stride {stride} on {size} pixels does not land on SAME's windows when turned")
    for op in graph.ops:
        match op:
            case Pool2D():
                for size, kernel, stride in zip(graph.shape(op.inputs[0])[:2], op.kernel, op.stride, strict=True):
                    if (size - kernel) % stride:
                        faults.append(
                            f"{op.name}: pooling {kernel}/{stride} leaves out the last of {size} pixels, which turns into the first"
                        )
            case Conv2D() | DepthwiseConv2D():
                pass  # above
            case Add() | Mul() | Mean() | FullyConnected():
                pass  # the same for every pixel
            case _:
                assert_never(op)
    return faults


def rotate_weights(graph: Graph, weights: Mapping[str, FloatArray], *, spatial: tuple[int, int] = (1, 2)) -> dict[str, FloatArray]:
    """``weights`` with every convolution kernel turned by 180 degrees; the classifier is left as it is.

    ``spatial`` are the height and width axes: (1, 2) for TFLite's layout (OHWI, 1HWC), (2, 3) for PyTorch's
    (O, I, H, W). The result is contiguous and shares nothing with the input.
    Raises ArchError naming every operator for which the rotation would not be exact.
    """
    _check(graph)
    turned = {name: np.array(value) for name, value in weights.items()}
    for op in graph.ops:
        if isinstance(op, (Conv2D, DepthwiseConv2D)):
            turned[op.name] = np.ascontiguousarray(np.flip(weights[op.name], spatial))
    return turned


def rotate_network(network: Network) -> None:
    """Turn every kernel of ``network`` in place; twice is the identity. Raises ArchError as :func:`rotate_weights`."""
    import torch

    _check(network.graph)
    with torch.no_grad():
        for op in network.graph.ops:
            if isinstance(op, (Conv2D, DepthwiseConv2D)):
                weight = network.named_op(op.name)[0].weight
                weight.copy_(weight.flip((2, 3)))


def rotate_images(images: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """(N, H, W, C) or (H, W, C) images turned by 180 degrees, as the firmware and the evaluation do for a rotated model."""
    axes = (-3, -2)
    return np.ascontiguousarray(np.flip(images, axes))


def _check(graph: Graph) -> None:
    faults = rotation_faults(graph)
    if faults:
        raise ArchError(
            "weights trained with symmetric padding cannot be imported exactly:\n" + "\n".join(f"  - {fault}" for fault in faults),
            "train this network with tinynas (it pads as TFLite does), or export it elsewhere with explicit PAD operators",
        )


def _windows(graph: Graph) -> list[tuple[str, int, int, int, int, int]]:
    # (operator, input pixels, kernel, stride, padding before, output pixels) of every convolution, both directions
    rows = []
    for op in graph.ops:
        if isinstance(op, (Conv2D, DepthwiseConv2D)):
            befores = (op.padding.top, op.padding.left)
            for axis, before in enumerate(befores):
                rows.append(
                    (op.name, graph.shape(op.inputs[0])[axis], op.kernel[axis], op.stride[axis], before, graph.shape(op.output)[axis])
                )
    return rows
