"""Losses over logits (B, classes) and integer labels (B,)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from tinynas.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(recipe: Recipe) -> Loss:
    """The loss that ``recipe`` names; a mean over the batch."""
    if recipe.loss == "ce":
        return partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
    return partial(
        symmetric_cross_entropy,
        alpha=recipe.sce_alpha,
        beta=recipe.sce_beta,
        clip=recipe.sce_clip,
        label_smoothing=recipe.label_smoothing,
    )


def symmetric_cross_entropy(
    logits: Tensor, labels: Tensor, *, alpha: float, beta: float, clip: float, label_smoothing: float = 0.0
) -> Tensor:
    """``alpha * CE + beta * RCE`` (Wang et al., arXiv 1908.06112), mean over the batch.

    RCE = -sum_k p_k log(max(onehot_k, clip)) = -log(clip) * (1 - p_label): bounded, so a wrong label cannot dominate.
    """
    log_p = F.log_softmax(logits, dim=1)
    cross = F.nll_loss(log_p, labels)
    if label_smoothing:
        cross = (1.0 - label_smoothing) * cross - label_smoothing * log_p.mean()
    p_label = log_p.gather(1, labels[:, None]).exp()
    return alpha * cross + (beta * -math.log(clip)) * (1.0 - p_label).mean()
