"""Batch norm statistics measured anew, for weights that were averaged after the statistics were gathered."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tinynas.quantize.floats import pixels


def reestimate_norms(network: nn.Module, images: NDArray[np.uint8], *, batch: int = 256) -> None:
    """Replace the running statistics of every batch norm in ``network`` by those of ``images`` (N, H, W, C) uint8, in place.

    The mean over equally sized batches; a short last one is left out unless it is the only one. An average of
    weights (EMA) has statistics of its own, which the average of statistics only resembles.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    was_training, momenta = network.training, [m.momentum for m in norms]
    device = next(network.parameters()).device
    starts = [s for s in range(0, len(images), batch) if s + batch <= len(images)] or [0]
    network.train()
    try:
        with torch.no_grad():
            for count, start in enumerate(starts, 1):
                for norm in norms:
                    norm.momentum = 1.0 / count  # the running value becomes the mean of all batches so far
                network(pixels(images[start : start + batch]).to(device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.train(was_training)
