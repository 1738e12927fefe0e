"""Losses over logits (B, classes) and labels: integers (B,), or shares of the classes (B, classes)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from tinynas.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(recipe: Recipe, *, several: bool = False) -> Loss:
    """The loss that ``recipe`` names; a mean over the batch. ``several``: each class by itself, and labels are (B, classes)."""
    if several:
        alpha, beta = (1.0, 0.0) if recipe.loss == "ce" else (recipe.sce_alpha, recipe.sce_beta)
        return partial(binary_cross_entropy, alpha=alpha, beta=beta, clip=recipe.sce_clip, label_smoothing=recipe.label_smoothing)
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
    shares = labels if labels.ndim == 2 else None
    cross = F.nll_loss(log_p, labels) if shares is None else -(shares * log_p).sum(1).mean()
    if label_smoothing:
        cross = (1.0 - label_smoothing) * cross - label_smoothing * log_p.mean()
    if shares is not None:
        reverse = -(log_p.exp() * shares.clamp_min(clip).log()).sum(1).mean()
        return alpha * cross + beta * reverse
    p_label = log_p.gather(1, labels[:, None]).exp()
    return alpha * cross + (beta * -math.log(clip)) * (1.0 - p_label).mean()


def binary_cross_entropy(
    logits: Tensor, labels: Tensor, *, alpha: float = 1.0, beta: float = 0.0, clip: float = 1e-4, label_smoothing: float = 0.0
) -> Tensor:
    """``alpha * CE + beta * RCE`` of each class by itself, which is there or is not; mean over batch and classes.

    ``labels`` (B, classes) are 1 where a class is there, 0 where not, or shares. Of two answers RCE = -log(clip) * |label - p| where the
    label is 0 or 1; the smoothed target of the cross entropy is (1 - s) * label + s / 2.
    """
    truth = labels.to(logits.dtype)
    smooth = truth * (1.0 - label_smoothing) + label_smoothing / 2
    loss = alpha * F.binary_cross_entropy_with_logits(logits, smooth)
    if beta:
        p, there, absent = logits.sigmoid(), truth.clamp_min(clip).log(), (1.0 - truth).clamp_min(clip).log()
        loss = loss - beta * (p * there + (1.0 - p) * absent).mean()
    return loss


def taught(hard: Tensor, logits: Tensor, said: Tensor, *, weight: float, temperature: float) -> Tensor:
    """``(1 - weight) * hard + weight * T^2 * KL(teacher || learner)``, both softened by the temperature T (Hinton, arXiv 1503.02531).

    ``hard``: the loss of the labels; ``said``: the teacher's logits (B, classes). T^2 keeps the gradient's size whatever T is.
    """
    log_p, log_q = F.log_softmax(logits / temperature, dim=1), F.log_softmax(said / temperature, dim=1)
    soft = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return (1.0 - weight) * hard + (weight * temperature**2) * soft
