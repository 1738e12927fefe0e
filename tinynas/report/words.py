"""Numbers as people read them: the same words in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from tinynas.arch import Arch, Axes, ConvLayer, MBConv, Pool, Separable, pair
from tinynas.config import format_size
from tinynas.inputs import InputKind

#: Title and unit of every cost, in the order in which they are shown.
COSTS: dict[str, tuple[str, str]] = {
    "macs": ("MACs", ""),
    "params": ("parameters", ""),
    "weights_bytes": ("weights", "B"),
    "flash_bytes": ("flash", "B"),
    "sram_bytes": ("SRAM", "B"),
    "latency_ms": ("latency", "ms"),
}


KIND_WORDS: dict[InputKind, str] = {"rgb": "RGB", "gray": "gray", "features": "features"}


def count(number: float) -> str:
    """``1,674,512`` as ``1.67 M``; three digits, SI steps."""
    for step, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= step * 0.9995:
            value = number / step
            return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f} {letter}"
    return f"{number:g}" if number == int(number) else f"{number:.2f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share (0..1) as ``84.2 %``; a dash where it is not known."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def points(difference: float, digits: int = 1) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.{digits}f} points"


def milliseconds(value: float) -> str:
    """A latency with three digits."""
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def amount(name: str, value: float | None) -> str:
    """The cost ``name`` for people: KiB, M, ms; a dash where it is not known."""
    if value is None:
        return "–"
    unit = COSTS.get(name, ("", "B" if name.endswith("_bytes") else "ms" if name.endswith("_ms") else ""))[1]
    if unit == "B":
        return format_size(round(value))
    return milliseconds(value) if unit == "ms" else count(value)


def title(name: str) -> str:
    """What people call the cost ``name``."""
    return COSTS.get(name, (name.removesuffix("_bytes").replace("_", " "), ""))[0]


def duration(seconds: float) -> str:
    """``4m12s``; tenths below ten seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"


def shape(sizes: Sequence[int]) -> str:
    """``48x48x3``."""
    return "x".join(str(size) for size in sizes)


def summary(arch: Arch) -> list[str]:
    """An architecture in a few short lines: input, stem, runs of blocks by width, head."""
    lines = [f"input {arch.height}x{arch.width} {KIND_WORDS[arch.input.kind]}"]
    if arch.stem is not None:
        lines.append(f"stem {_conv(arch.stem)}")
    run: list[str] = []
    width: int | None = None
    for block in arch.blocks:
        out = None if isinstance(block, Pool) else block.out
        if run and out is not None and out != width:
            lines.append(" ".join(run))
            run = []
        if not run and out is not None:
            run = [f"{out} ch:"]
        width = out if out is not None else width
        run.append(_block(block))
    if run:
        lines.append(" ".join(run))
    if arch.head is not None:
        lines.append(f"head {_conv(arch.head)}")
    return lines


def _conv(conv: ConvLayer) -> str:
    kernel = pair(conv.kernel)
    return f"{kernel[0]}x{kernel[1]} to {conv.out}" + (f", stride {axes_text(conv.stride)}" if pair(conv.stride) != (1, 1) else "")


def axes_text(size: Axes) -> str:
    """A size for both directions, ``3``, or height x width: ``3x5``."""
    return str(size) if isinstance(size, int) else shape(size)


def _block(block: MBConv | Separable | ConvLayer | Pool) -> str:
    stride = f"s{axes_text(block.stride)}" if pair(block.stride) != (1, 1) else ""
    kernel = axes_text(block.kernel)
    match block:
        case MBConv():
            ratio = f"e{block.expand:g}" if block.mid is None or block.expand == 1 else f"m{block.mid}"
            return f"k{kernel}{ratio}{stride}{'+' if block.residual else ''}"
        case Separable():
            return f"sep{kernel}{stride}"
        case ConvLayer():
            return f"conv{kernel}{stride}"
        case Pool():
            return f"{block.op}pool{kernel}{stride}"
    assert_never(block)
