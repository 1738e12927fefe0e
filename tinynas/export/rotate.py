"""Networks that read their images upside down.

A network trained with symmetric padding (k // 2 on both sides) keeps its function under TFLite's SAME padding, which puts the odd
pixel after, when all its kernels and its input are turned by 180 degrees. The file's metadata says so (``input_rotation``); the
evaluation, the check and the firmware turn the images. Compiled code pads on whichever side: there the network is turned back, and
rows come from the top of the image as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tinynas.errors import UserError
from tinynas.graph import Conv2D, DepthwiseConv2D, Padding, Pool2D, Resize
from tinynas.quantize.grid import QuantizedGraph


def rotate_images(images: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """(N, H, W, C) or (H, W, C) images turned by 180 degrees."""
    return np.ascontiguousarray(np.flip(images, (-3, -2)))


def turned_back(qgraph: QuantizedGraph) -> QuantizedGraph:
    """The network that gives for an image what ``qgraph`` gives for the image turned by 180 degrees, number by number: its kernels are
    turned, and what is padded before a map is padded behind it.

    Raises UserError where a window leaves out the last rows or columns of its input: they would be the first ones; and where a map is
    resized by no whole number, which takes its nearest pixels from before.
    """
    graph = qgraph.graph
    weights, ops = dict(qgraph.weights), []
    for op in graph.ops:
        if isinstance(op, Conv2D | DepthwiseConv2D | Pool2D):
            if not isinstance(op, Pool2D):
                weights[op.name] = np.ascontiguousarray(np.flip(weights[op.name], (1, 2)))
            (height, width, _), (down, across, _) = graph.shape(op.inputs[0]), graph.shape(op.output)
            before = op.padding
            top = (down - 1) * op.stride[0] + op.reach[0] - height - before.top
            left = (across - 1) * op.stride[1] + op.reach[1] - width - before.left
            if top < 0 or left < 0:
                raise UserError(
                    f"{op.name} leaves out the last rows or columns of its input, which an image that is turned back has first",
                    "export the network as --format c, which turns the image",
                )
            op = replace(op, padding=Padding(top, before.top, left, before.left))
        if isinstance(op, Resize) and any(
            out % size for out, size in zip(graph.shape(op.output)[:2], graph.shape(op.inputs[0])[:2], strict=True)
        ):
            raise UserError(
                f"{op.name} enlarges its input by no whole number: turned back it would take other pixels",
                "export the network as --format c, which turns the image",
            )
        ops.append(op)
    return replace(qgraph, graph=replace(graph, ops=tuple(ops)), weights=weights)
