"""CUDA graphs: forward and backward of a training step recorded once and replayed, where a step is many small kernels.

A network for a microcontroller keeps a GPU waiting for its launches: some 500 kernels of a few microseconds each for a step.
Replayed from a graph they cost two launches. The arithmetic is the same; nothing of it enters records or checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]
"""Normalised images (B, C, H, W) to logits (B, classes), in training mode."""


class _Recorded(nn.Module):
    # The recorder replaces `forward` of the module that it is given: of this one, so that the network stays as it is.
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images))


def recorded(network: nn.Module, images: Tensor) -> Forward:
    """``network`` in training mode as CUDA graphs for batches shaped like ``images``, whose values do not matter; its state stays.

    The returned call reads and writes the network's own tensors, so weights may be loaded in place at any time. Once the network's
    modules or what they do change, it has to be recorded again.
    """
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    module = _Recorded(network).train()
    # Steps of grids that are off have no gradient.
    call = torch.cuda.make_graphed_callables(module, (images.clone(),), allow_unused_input=True)
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            buffer.copy_(before[name])  # the trial runs before the recording moved batch norm's statistics
    return cast(Forward, call)
