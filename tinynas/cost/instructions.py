"""Executed instructions of TFLM's int8 kernels by operator: fixed for each call, and linear in what their loops count.

The table (instructions.json) is fitted by benchmarks/latency_counts.py on operators that ran on emulated cores, where every executed
instruction is counted. One entry is a core and its kernels: ``cortex-m4 cmsis-nn``, ``cortex-m4 reference``, and with ``@arduino`` those
of the Arduino library. Those of compiled networks (``cortex-m4 compiled``; compiled_instructions.json) are fitted by
benchmarks/compiled_counts.py on the operators of whole networks; what drives them is in, the pixels' conversion is not, as TFLM's is
not. An instruction is no cycle: that is what :mod:`tinynas.cost.latency` makes of measured times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import prod
from typing import Any

from tinynas.cost.compiled_loops import loop_group, loops
from tinynas.cost.windows import least, taps
from tinynas.cost.work import Piece, Work
from tinynas.graph import Shape

#: Version of a runtime -> version of the kernels' table; without one, the newest.
_KERNELS = {"tflm": "reference", "tflm-cmsis-nn": "cmsis-nn", "compiled": "compiled", "compiled-rows": "compiled"}
#: Operators of two inputs, of which one may be spread over the other.
SPREADING = frozenset({"add", "sub", "mul", "maximum", "minimum"})
#: Operators whose weights may have fewer bits than 8.
_OF_FEW_BITS = frozenset({"conv", "dw", "fc"})
#: Operators by which files work out shapes, on a few numbers of 4 bytes.
_OF_SHAPES = frozenset({"shape", "pack", "strided_slice"})


@dataclass(frozen=True, eq=False)
class Counts:
    """Instructions of one core with one library's kernels."""

    name: str
    groups: Mapping[str, Mapping[str, float]]
    """Group of operators -> term -> instructions for each; see :func:`terms`."""
    error: Mapping[str, tuple[float, float]]
    """Group -> (mean, largest) relative error on operators that the fit has not seen."""
    source: str
    compiled: bool = False
    """Whether they are of compiled networks, whose loops are others (:mod:`tinynas.cost.compiled_loops`)."""


@lru_cache(maxsize=1)
def tables() -> dict[str, Counts]:
    """All tables by name."""
    found = {}
    for file in ("instructions.json", "compiled_instructions.json"):
        read = json.loads(resources.files("tinynas.cost").joinpath(file).read_text(encoding="utf-8"))
        for name, made in read.items():
            errors = {group: (mean, worst) for group, (mean, worst) in made["error"].items()}
            found[name] = Counts(name, made["groups"], errors, made["source"], file.startswith("compiled"))
    return found


def counts_of(core: str | None, runtime: str) -> Counts | None:
    """The table of a core and runtime (with ``@version``, that version's where it was counted); None where nothing was counted."""
    plain, _, version = runtime.partition("@")
    if core is None or plain not in _KERNELS:
        return None
    name = f"{core} {_KERNELS[plain]}"
    return tables().get(f"{name}@{version}") or tables().get(name)


def _differ(value: Any, other: Any) -> bool:
    return value != other if isinstance(value, int) and isinstance(other, int) else bool((value != other).any())


def whole(value: Any) -> Any:
    """``value`` to the nearest whole number, halves to even; arrays give arrays."""
    return round(value) if isinstance(value, float | int) else value.round().astype("int64")


def group_of(kind: str, kernel: tuple[int, int], source: Shape, out: Shape, bits: int = 8) -> str:
    """Operators whose instructions one formula counts: a kernel may have several, by the path that it takes, and for weights of fewer
    ``bits`` than 8 there are others."""
    group = _group(kind, kernel, source, out)
    return group if bits == 8 else f"{group} int{bits}"


def _group(kind: str, kernel: tuple[int, int], source: Shape, out: Shape) -> str:
    match kind:
        case "conv":
            return "pointwise" if kernel == (1, 1) else "conv"
        case "dw":
            if source[-1] is not out[-1] and _differ(source[-1], out[-1]):
                return "dw multiplied"
            return "dw 3x3" if kernel == (3, 3) else "dw"
        case _:
            return kind


def terms(
    kind: str, kernel: tuple[int, int], stride: tuple[int, int], sources: Sequence[Shape], out: Shape, bits: int = 8
) -> dict[str, Any]:
    """What the instructions of an operator are linear in: how often its loops turn. Shapes are without the batch, or with it; sizes may
    be integer arrays. ``px`` is output pixels, ``C`` output channels, ``K`` multiplications an output, ``in`` those on the map alone.

    Weights of fewer ``bits`` than 8 are unpacked, once or for each output, and rows of an odd number of them begin within a byte.
    """
    found = _terms(kind, kernel, stride, sources, out)
    if bits == 8:
        return found
    outputs, channels = prod(out), out[-1]
    rows = outputs // channels
    columns = kernel[0] * kernel[1] * (1 if kind == "dw" else sources[0][-1])
    odd = columns % 2
    found |= {
        "K C": columns * channels,
        "px C odd K": outputs * odd,
        "px K C odd K": outputs * columns * odd,
        "px odd C": rows * (channels % 2),
    }
    return found


def _terms(kind: str, kernel: tuple[int, int], stride: tuple[int, int], sources: Sequence[Shape], out: Shape) -> dict[str, Any]:
    source = sources[0]
    inputs, outputs = prod(source), prod(out)
    channels = out[-1] if out else 1
    rows = outputs // channels
    match kind:
        case "conv" | "dw":
            (height, width, deep), (out_height, out_width) = source[-3:], out[-3:-1]
            down, across = taps(height, out_height, kernel[0], stride[0]), taps(width, out_width, kernel[1], stride[1])
            batch = rows // (out_height * out_width)
            area = kernel[0] * kernel[1]
            on_map = batch * down * across
            if kind == "dw" and channels is not deep and _differ(channels, deep):
                fours = 1 - least(channels // deep % 4, 1)
                found = {"call": 1, "px": rows, "px D": rows * deep}
                for name, count in (
                    ("px C", outputs),
                    ("in C", on_map * channels),
                    ("in D", on_map * deep),
                    ("rows C", batch * down * out_width * channels),
                    ("px area C", outputs * area),
                ):
                    found |= {f"{name} fours": count * fours, f"{name} others": count * (1 - fours)}
                return found
            if kind == "dw":
                return {
                    "call": 1,
                    "px": rows,
                    "px C": outputs,
                    "px C%4": rows * (channels % 4),
                    "px C/4": rows * (channels // 4),
                    "in": on_map,
                    "in C": on_map * channels,
                    "in C%4": on_map * (channels % 4),
                    "rows C/4": batch * down * out_width * (channels // 4),
                    "px area": rows * area,
                    "px area C": outputs * area,
                    "px area C%4": rows * area * (channels % 4),
                    "px C odd area": outputs * (area % 2),
                    "C": channels,
                }
            columns = area * deep
            found = {
                "call": 1,
                "px": rows,
                "px C": outputs,
                "px K": rows * columns,
                "px K C": outputs * columns,
                "px C K%4": outputs * (columns % 4),
                "px K odd C": rows * columns * (channels % 2),
                "odd px K C": (rows % 2) * columns * channels,
                "C": channels,
                "K C": columns * channels,
            }
            if kernel == (1, 1):
                strided, uneven = int(stride != (1, 1)), least(deep % 4, 1)
                lines = batch * out_height * strided  # each is a product of matrices by itself
                return found | {
                    "px K C strided": outputs * columns * strided,
                    "px K strided": rows * columns * strided,
                    "px strided": rows * strided,
                    "lines": lines,
                    "lines C": lines * channels,
                    "lines K C": lines * columns * channels,
                    "lines odd width K C": lines * (out_width % 2) * columns * channels,
                    "lines odd width C": lines * (out_width % 2) * channels,
                    "px C K%16/4": outputs * (columns % 16 // 4),
                    "px K single": rows * columns * (1 - least(channels - 1, 1)),
                    "px single": rows * (1 - least(channels - 1, 1)),
                    "px K C uneven": outputs * columns * uneven,
                    "px K uneven": rows * columns * uneven,
                    "px uneven": rows * uneven,
                }
            return found | {
                "px area": rows * area,
                "px area C": outputs * area,
                "in": on_map,
                "in C": on_map * channels,
                "in D": on_map * deep,
                "in D C": on_map * deep * channels,
            }
        case "fc":
            columns = inputs // rows
            return {
                "call": 1,
                "px": rows,
                "px C": outputs,
                "px K C": outputs * columns,
                "px C K%4": outputs * (columns % 4),
                "px K odd C": rows * columns * (channels % 2),
                "C": channels,
                "K C": columns * channels,
            }
        case "max_pool" | "avg_pool":
            (height, width, _), (out_height, out_width) = source[-3:], out[-3:-1]
            on_map = taps(height, out_height, kernel[0], stride[0]) * taps(width, out_width, kernel[1], stride[1])
            return {"call": 1, "px": rows, "px C": outputs, "px C%4": rows * (channels % 4), "in": on_map, "in C": on_map * channels}
        case "mean" | "sum":
            return {"call": 1, "n": inputs, "out": outputs, "px": inputs // (source[-1] if source else 1)}
        case _ if kind in SPREADING:
            sizes = [prod(shape) for shape in sources]
            spread = sum([least(abs(outputs - size), 1) for size in sizes])
            return {"call": 1, "out": outputs, "out%4": outputs % 4, "out spread": outputs * spread, "px spread": rows * spread}
        case "concatenation":
            return {"call": 1, "out": outputs, "out%4": outputs % 4, "pieces": len(sources), "px": rows, "px pieces": rows * len(sources)}
        case "resize":  # a copy of all channels for each pixel, faster where addresses are whole words
            uneven = least(channels % 4, 1)
            return {
                "call": 1,
                "lines": out[-3],
                "px": rows,
                "out": outputs * (1 - uneven),
                "out uneven": outputs * uneven,
                "px C%4": rows * (channels % 4),
                "px C%16/4": rows * (channels % 16 // 4),
                "px long": rows * least(channels // 16, 1),
            }
        case "pad":
            return {"call": 1, "n": inputs, "out": outputs, "px": rows, "px in": inputs // source[-1], "lines": out[0]}
        case _:
            return {"call": 1, "n": inputs, "out": outputs, "px": rows}


@lru_cache(maxsize=65536)
def _known(
    counts: str, kind: str, kernel: tuple[int, int], stride: tuple[int, int], sources: tuple[Shape, ...], out: Shape, bits: int
) -> int | None:
    """:func:`operator_instructions` of whole numbers, which repeat from network to network."""
    found: int | None = _count(tables()[counts], kind, kernel, stride, sources, out, bits)
    return found


def _count(
    counts: Counts, kind: str, kernel: tuple[int, int], stride: tuple[int, int], sources: Sequence[Shape], out: Shape, bits: int
) -> Any:
    if counts.compiled:
        group, found = loop_group(kind, kernel, stride, bits), loops(kind, kernel, stride, sources, out, bits)
    else:
        group, found = group_of(kind, kernel, sources[0], out, bits), terms(kind, kernel, stride, sources, out, bits)
    known = counts.groups.get(group)
    if known is None:
        return None
    total = sum([coefficient * found[term] for term, coefficient in known.items()])
    return whole(total)


def operator_instructions(counts: Counts, piece: Piece, work: Work) -> Any:
    """Executed instructions of an operator of ``work``, whole; None where nothing of its kind or element type was counted. Arrays give
    arrays."""
    if not piece.inputs or not piece.outputs or piece.dilation != (1, 1):  # of dilated kernels nothing was counted
        return None
    sources, out = tuple([work.shapes[tensor] for tensor in piece.inputs]), work.shapes[piece.outputs[0]]
    bits = piece.weight_bits if piece.kind in _OF_FEW_BITS else 8
    if not (isinstance(work.sizes[piece.inputs[0]], int) and isinstance(work.sizes[piece.outputs[0]], int)):
        return _count(counts, piece.kind, piece.kernel, piece.stride, sources, out, bits)
    kind, elements = piece.kind, prod(sources[0])
    if work.sizes[piece.inputs[0]] not in (0, elements) and kind not in _OF_SHAPES:
        if kind != "quantize" or work.sizes[piece.inputs[0]] != 4 * elements:
            return None
        kind = "quantize float"
    if kind in SPREADING and len(sources) == 1 and piece.weights:
        sources = (*sources, (piece.weights,))  # a constant
    return _known(counts.name, kind, piece.kernel, piece.stride, sources, out, bits)
