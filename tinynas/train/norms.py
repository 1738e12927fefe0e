"""Batch norm statistics measured anew, for weights that were averaged after the statistics were gathered."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tinynas.model import BatchNorm


def reestimate_norms(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every batch norm in ``network`` by their mean over ``batches``, in place.

    ``batches``: what ``network`` takes, float (B, C, H, W) of equal sizes. An average of weights (EMA) has statistics of its own,
    which the average of statistics only resembles.
    """
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    if not norms:
        return
    was_training, momenta = network.training, [norm.momentum for norm in norms]
    network.train()
    try:
        with torch.no_grad():
            for count, batch in enumerate(batches, 1):
                for norm in norms:
                    norm.momentum = 1.0 / count  # the running value becomes the mean of all batches so far
                network(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.train(was_training)
