"""What the instructions of a compiled network's kernels are linear in: how often the loops of tinynas/export/templates/compiled turn."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tinynas.cost.windows import taps, whole_windows
from tinynas.errors import InternalError
from tinynas.graph import Shape


def loop_group(kind: str, kernel: tuple[int, int], stride: tuple[int, int], bits: int = 8) -> str:
    """Operators whose instructions one formula counts; for weights of fewer ``bits`` than 8 there are others."""
    if kind in {"fc", "conv", "dw"}:
        group = kind if kind == "dw" or (kind == "conv" and kernel != (1, 1)) else "dense"
        return group if bits == 8 else f"{group} int{bits}"
    return "max_gather" if kind == "max_pool" and kernel[0] == stride[0] else kind


def loops(
    kind: str, kernel: tuple[int, int], stride: tuple[int, int], sources: Sequence[Shape], out: Shape, bits: int = 8
) -> dict[str, Any]:
    """Turns of the loops of an operator, by name; sizes may be integer arrays. A ``step`` computes a row, a ``pair`` two pixels at once,
    ``C/2`` pairs of channels, ``C/4`` fours of them, ``K`` multiplications an output, ``in`` places of windows that lie on the map.
    Weights of fewer ``bits`` than 8 lie in words, of which some are left over.

    Raises InternalError for a kind that has no kernel.
    """
    source = sources[0]
    outputs, channels = prod(out), out[-1]
    if kind == "fc":
        return products(1, 1, 1, channels, prod(source), bits)
    if kind == "mean":
        height, width, _ = source
        return {"step": height, "px": height * width, "in": prod(source), "C": channels}
    down, across, _ = out
    pixels = outputs // channels
    match kind:
        case "conv" if kernel == (1, 1):
            return products(down, down, across, channels, source[-1], bits)
        case "conv":
            (height, width, deep), area = source, kernel[0] * kernel[1]
            lines = taps(height, down, kernel[0], stride[0])  # rows of windows that lie on the map
            edges = pixels * kernel[0] - lines * whole_windows(width, across, kernel[1], stride[1])
            return products(down, down * (across - across // 2), across, channels, area * deep, bits) | {
                "px": pixels,
                "px lines": pixels * kernel[0],
                "copied": lines * across,
                "copied bytes": lines * taps(width, across, kernel[1], stride[1]) * deep,
                "set": edges,
                "set bytes": edges * kernel[1] * deep,
            }
        case "dw":
            (height, width, _), fours = source, -(-channels // 4)
            lines = taps(height, down, kernel[0], stride[0]) * fours
            threes = lines * whole_windows(width, across, kernel[1], stride[1]) if kernel[1] == 3 else 0
            block, word = 4 * kernel[0] * kernel[1], 32 // bits
            unpacked = (
                {"step C/4 words": down * fours * (block // word), "step C/4 rest": down * fours * (block % word)} if bits < 8 else {}
            )
            return unpacked | {
                "step": down,
                "step C/4": down * fours,
                "px C/4": pixels * fours,
                "px C/4 lines": pixels * fours * kernel[0],
                "lines": lines * across,
                "threes": threes,
                "in": lines * taps(width, across, kernel[1], stride[1]) - 3 * threes,
                "px C%4": pixels * (channels % 4),
            }
        case "add":
            return {"step": down, "out": outputs}
        case "hard_swish":
            return {"step": down, "out": outputs}
        case "mul" | "resize":
            return {"step": down, "px": pixels, "out": outputs}
        case "max_pool" | "avg_pool":
            return {"step": down, "px": pixels, "out": outputs, "out lines": outputs * kernel[0], "in": outputs * kernel[0] * kernel[1]}
    raise InternalError(f"the loops of {kind} are not known", "give them to tinynas.cost.compiled_loops")


def products(steps: Any, calls: Any, across: Any, channels: Any, columns: Any, bits: int = 8) -> dict[str, Any]:
    """The loops of matrix products: in ``calls`` of the kernel, for ``steps`` rows of ``across`` pixels, of ``columns`` numbers each, with
    weights of ``bits``."""
    pairs, singles, twos = steps * (across // 2), steps * (across % 2), -(-channels // 2)
    found = {"step": steps, "calls": calls, "pair": pairs, "single": singles, "px C": steps * across * channels}
    for name, count in (("pair", pairs), ("single", singles)):
        if bits < 8:
            words, rest = columns // (32 // bits), columns % (32 // bits)
            found |= {
                f"{name} C/2": count * twos,
                f"{name} C/2 words": count * twos * words,
                f"{name} C/2 words/4": count * twos * -(-words // 4),
                f"{name} C/2 rest/4": count * twos * (rest // 4),
                f"{name} C/2 rest%4": count * twos * (rest % 4),
                f"{name} C/2 rest bytes": count * twos * (rest * bits // 8),
                f"{name} C/2 rest bits": count * twos * (rest % (8 // bits)),
            }
            continue
        found |= {
            f"{name} C/2": count * twos,
            f"{name} C/2 K": count * twos * columns,
            f"{name} C/2 K/4": count * twos * (columns // 4),
            f"{name} C/2 K%4": count * twos * (columns % 4),
            f"{name} C/2 K/16": count * twos * -(-columns // 16),
        }
    return found
