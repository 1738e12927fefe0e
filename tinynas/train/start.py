"""Start: what a training begins with where it does not begin from nothing, and who teaches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Start:
    """Weights of before."""

    weights: Mapping[str, Tensor]
    """The whole state of a :class:`tinynas.model.Network`."""
    sha256: str
    """Of the file they come from: another content is another training."""
    old: frozenset[str] = frozenset()
    """Modules with weights of before: they are trained at ``recipe.old_lr`` times the rate."""
    frozen: frozenset[str] = frozenset()
    """Modules that are not trained, nor their batch norm's statistics measured."""


class Teacher(Protocol):
    """Another network, which says what it makes of the very images that are learnt from."""

    @property
    def sha256(self) -> str:
        """Of the file with its weights."""
        ...

    def to(self, device: torch.device) -> None:
        """Move it to ``device``."""
        ...

    def logits(self, images: Tensor) -> Tensor:
        """(B, classes) in the order of the learner's classes, of what the learner reads: float (B, C, H, W)."""
        ...
