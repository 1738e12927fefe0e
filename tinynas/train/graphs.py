"""CUDA graphs: the forward and backward pass of a training step recorded once and replayed, where a step is many small kernels.

A network for a microcontroller keeps a GPU waiting for its launches: some 500 kernels of a few microseconds each for a step.
Replayed from a graph they cost one. The arithmetic is the same; nothing of it enters records or checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Gradients = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Normalised images (B, C, H, W) and labels (B,) in; gradients are left in the parameters; the loss and the number of hits come back."""

#: Steps before the recording: libraries choose their kernels and allocate in them.
WARM_UP = 3


class RecordedGradients:
    """``compute`` of ``network`` as a CUDA graph for batches shaped like ``images`` and ``labels``, whose values do not matter.

    The network's state stays as it is. Parameters may be changed in place at any time, as optimisers and loading do, and their
    gradients must not be removed in between. Once the modules or what they do change, it has to be recorded again.
    """

    def __init__(self, network: nn.Module, compute: Gradients, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.clone(), labels.clone()
        before = {name: buffer.clone() for name, buffer in network.named_buffers()}
        stream = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                network.zero_grad(set_to_none=True)
                compute(self.images, self.labels)
        torch.cuda.current_stream(images.device).wait_stream(stream)
        network.zero_grad(set_to_none=True)  # those of the graph lie in its own memory, and stay there
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = compute(self.images, self.labels)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])  # the steps before the recording moved batch norm's statistics

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See :data:`Gradients`; the two that come back are overwritten by the next call."""
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        return self.result
