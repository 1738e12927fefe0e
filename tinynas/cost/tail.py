"""The persistent tail of TFLM's arena: interpreter, nodes, tensors and kernel data."""

from __future__ import annotations

from typing import Literal

from tinynas.cost.work import Work

Target = Literal["mcu", "host"]


def tail_bytes(work: Work, target: Target = "mcu", *, cmsis: bool = False) -> int:
    """Tail bytes on a 32-bit Cortex-M (``mcu``) or in the 64-bit Python wheel (``host``)."""
    kinds = [piece.kind for piece in work.pieces]
    convs = kinds.count("conv") + kinds.count("dw")
    channels = sum(piece.out_channels for piece in work.pieces if piece.kind in {"conv", "dw"})
    if target == "host":
        return 1169 + 244 * convs + 160 * kinds.count("add") + 8 * channels
    return 502 + 160 * convs + 112 * kinds.count("add") + 8 * channels + (80 if cmsis else 0)
