"""Training: one recipe, one loop; proxy and full training differ by their Recipe (tinynas.recipe) only."""

from tinynas.train.loop import Diverged, EpochMetrics, EvalResult, Trainer, evaluate, pick_device
from tinynas.train.losses import make_loss, symmetric_cross_entropy

__all__ = [
    "Diverged",
    "EpochMetrics",
    "EvalResult",
    "Trainer",
    "evaluate",
    "make_loss",
    "pick_device",
    "symmetric_cross_entropy",
]
