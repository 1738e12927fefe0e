"""Figures about one network: its shape, memory, layers, training, confusion. Numbers first, drawing second."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from tinynas import metrics
from tinynas.budget import Budget
from tinynas.config import format_size
from tinynas.cost import Cost
from tinynas.cost.memory import aligned, plan_offline
from tinynas.cost.runtimes import runtime_named
from tinynas.errors import counted
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Kind, Mean, Mul, Pool2D, Resize
from tinynas.records import Trial, network_figures, of_network
from tinynas.report.search_figures import Drawing
from tinynas.report.words import axes_text, count, percent, percent_ticks, shape
from tinynas.report.words import text as escape

#: Color names of kernel sizes, by the longer side; anything larger takes the last.
KERNEL_COLORS = {1: "@k1", 2: "@k3", 3: "@k3", 5: "@k5", 7: "@k7", 9: "@k9"}
#: Kernels of one color in one picture, such as 5x5, 5x3 and 5x1, are told apart by hatching.
HATCHES = ("", "/", "x", ".", "-", "|", "+", "\\")
KINDS: dict[Kind | Literal["input"], str] = {
    "input": "input",
    "conv": "convolution",
    "dw": "depthwise convolution",
    "add": "residual add",
    "mul": "gate",
    "mean": "global average",
    "fc": "fully connected layer",
    "max_pool": "max pooling",
    "avg_pool": "average pooling",
    "hard_swish": "h-swish",
    "resize": "resizing",
}


# The architecture as a strip ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """One operator's output."""

    name: str
    kind: Kind | Literal["input"]
    kernel: tuple[int, int] | None
    """Height and width of its window; None where there is none."""
    stride: tuple[int, int]
    height: int
    width: int
    channels: int
    params: int
    macs: int
    dilation: tuple[int, int] = (1, 1)

    @property
    def side(self) -> float:
        """Mean of height and width."""
        return (self.height + self.width) / 2


@dataclass(frozen=True)
class StripInfo:
    """A network from input to classifier."""

    segments: tuple[Segment, ...]
    residuals: tuple[tuple[int, int], ...]
    """(segment whose output is kept, segment that adds it)."""
    heard: bool = False
    """Whether maps are frames x features, of sound, and not pixels."""


def strip_info(graph: Graph, cost: Cost) -> StripInfo:
    """Every tensor of ``graph`` in order; the input is segment 0."""
    height, width, channels = graph.input.shape
    segments = [Segment("input", "input", None, (1, 1), height, width, channels, 0, 0)]
    made_by = {graph.inputs[0]: 0}
    residuals = []
    for op, row in zip(graph.ops, cost.layers, strict=True):
        kernel: tuple[int, int] | None = None
        stride = dilation = (1, 1)
        match op:
            case Conv2D() | DepthwiseConv2D():
                kernel, stride, dilation = op.kernel, op.stride, op.dilation
            case Pool2D():
                kernel, stride = op.kernel, op.stride
            case Add() | Mul():
                residuals.append((min(made_by[t] for t in op.inputs), len(segments)))
            case Mean() | FullyConnected() | HardSwish() | Resize():
                pass
            case _:
                assert_never(op)
        out = graph.shape(op.output)
        height, width, channels = out if len(out) == 3 else (1, 1, out[0])
        made_by[op.output] = len(segments)
        segments.append(Segment(op.name, op.kind, kernel, stride, height, width, channels, row.params, row.macs, dilation))
    return StripInfo(tuple(segments), tuple(residuals), graph.input.kind == "features")


def kernel_color(segment: Segment) -> str:
    """The color name of a segment: its kernel's longer side; operators without one are faint."""
    if segment.kernel is None:
        return "@faint"
    longer = max(segment.kernel)
    return KERNEL_COLORS.get(longer, KERNEL_COLORS[min(9, longer | 1)])


def _by_size(segment: Segment) -> tuple[int, int]:
    # Smaller kernels first, what has none last.
    return (1 << 20, 0) if segment.kernel is None else (max(segment.kernel), min(segment.kernel))


def _square(segment: Segment) -> bool:
    return segment.kernel is None or segment.kernel[0] == segment.kernel[1]


def draw_strip(info: StripInfo) -> Drawing:
    """Bars: height is resolution (of height and width the mean), width is channels, color is the kernel."""
    total = sum(segment.channels for segment in info.segments)
    gap, least = 0.004 * total, 0.006 * total
    left, spans = 0.0, []
    for segment in info.segments:
        width = max(float(segment.channels), least)
        spans.append((left, width))
        left += width + gap
    groups: dict[str, list[int]] = {}
    for index, segment in enumerate(info.segments):
        groups.setdefault("input, add, pool, classifier" if segment.kernel is None else shape(segment.kernel), []).append(index)
    data = []
    colors: list[str] = []
    # The square kernel of each color first, else its smallest, so that it is plain.
    order = sorted(groups, key=lambda n: (not _square(info.segments[groups[n][0]]), _by_size(info.segments[groups[n][0]])))
    hatches: dict[str, str] = {}
    for name in order:
        color = kernel_color(info.segments[groups[name][0]])
        hatches[name] = HATCHES[colors.count(color) % len(HATCHES)]
        colors.append(color)
    for name in sorted(order, key=lambda n: _by_size(info.segments[groups[n][0]])):
        members = [info.segments[i] for i in groups[name]]
        marker: dict[str, Any] = {"color": kernel_color(members[0]), "line": {"width": 0}}
        if hatches[name]:
            marker["pattern"] = {"shape": hatches[name], "size": 5}
        data.append(
            {
                "type": "bar",
                "name": name,
                "x": [spans[i][0] + spans[i][1] / 2 for i in groups[name]],
                "width": [spans[i][1] for i in groups[name]],
                "y": [m.side for m in members],
                "base": [-m.side / 2 for m in members],
                "marker": marker,
                "text": [_segment_text(m, info.heard) for m in members],
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    top = max(segment.side for segment in info.segments) / 2
    arcs = []
    for start, end in info.residuals:
        x0, x1 = spans[start][0] + spans[start][1] / 2, spans[end][0] + spans[end][1] / 2
        y0 = max(info.segments[i].side for i in range(start, end + 1)) / 2
        y1 = y0 + 0.16 * top
        arcs.append(
            {
                "type": "path",
                "path": f"M {x0:.2f},{y0 + 0.03 * top:.2f} C {x0:.2f},{y1:.2f} {x1:.2f},{y1:.2f} {x1:.2f},{y0 + 0.03 * top:.2f}",
                "line": {"color": "@muted", "width": 1.4},
            }
        )
    side = round(2 * top)
    square = all(segment.height == segment.width for segment in info.segments)
    return {
        "data": data,
        "layout": {
            "barmode": "overlay",
            "shapes": arcs,
            "xaxis": {
                "title": {"text": "channels, operator after operator"},
                "showticklabels": False,
                "showgrid": False,
                "range": [-gap * 3, left],
            },
            "yaxis": {
                "title": {
                    "text": "mean of frames and features"
                    if info.heard
                    else "pixels a side"
                    if square
                    else "pixels, mean of height and width"
                },
                "range": [-1.08 * top, 1.35 * top],
                "tickmode": "array",
                "tickvals": [-top, -top / 2, 0, top / 2, top],
                "ticktext": [str(side), str(side // 2), "0", str(side // 2), str(side)],
            },
        },
    }


def _segment_text(segment: Segment, heard: bool) -> str:
    kernel = f"{shape(segment.kernel)} " if segment.kernel is not None else ""
    stride = f", stride {axes_text(segment.stride)}" if segment.stride != (1, 1) else ""
    stride += f", dilation {axes_text(segment.dilation)}" if segment.dilation != (1, 1) else ""
    unit = "" if heard else " px"
    size = f"{shape((segment.height, segment.width))}{unit}, {segment.channels} channels"
    head = f"<b>{escape(segment.name)}</b>  {kernel}{KINDS[segment.kind]}{stride}<br>{size}"
    return head + (f"<br>{count(segment.macs)} MACs, {count(segment.params)} parameters" if segment.params else "")


# Memory ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """A tensor in the arena: bytes from ``offset``, needed from operator ``first`` to ``last``."""

    name: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryInfo:
    """What lies in SRAM while each operator runs. Bytes."""

    ops: tuple[str, ...]
    boxes: tuple[Box, ...]
    """Empty where the runtime's own placement is not modelled."""
    live: tuple[int, ...]
    """Tensors and scratch alive, per operator."""
    head: int
    tail: int
    """The runtime's persistent structures, on top of the head."""
    front_end: int
    """What a front end takes beside them; 0 without one."""
    limit: float | None
    peak: int
    """Operator at which most is alive."""
    at_peak: tuple[str, ...]
    """Tensors alive there, largest first."""


def memory_info(graph: Graph, cost: Cost, budget: Budget | None = None) -> MemoryInfo:
    """Live tensors by operator, where the plan puts them, and the limit."""
    # Compiled code keeps rows of tensors: it has no plan of whole ones.
    plan = plan_offline(graph, cost.runtime, cost.core) if runtime_named(cost.runtime).frame is None else None
    lifetimes = graph.lifetimes
    fits = plan is not None and plan.head_bytes == cost.head_bytes and plan.order == tuple(range(len(graph.ops)))
    boxes = [
        Box(tensor.name, offset, aligned(tensor.elements), *lifetimes[index])
        for index, (tensor, offset) in enumerate(zip(graph.tensors, () if plan is None else plan.offsets, strict=plan is not None))
        if offset >= 0
    ]
    alive = [
        (aligned(tensor.elements), tensor.name)
        for tensor, (first, last) in zip(graph.tensors, lifetimes, strict=True)
        if first <= cost.peak_index <= last
    ]
    return MemoryInfo(
        ops=tuple(op.name for op in graph.ops),
        boxes=tuple(boxes) if fits else (),
        live=tuple(row.live_bytes for row in cost.layers),
        head=cost.head_bytes,
        tail=cost.tail_bytes,
        front_end=0 if cost.front_end is None else cost.front_end.sram_bytes,
        limit=None if budget is None else budget.limits.get("sram_bytes"),
        peak=cost.peak_index,
        at_peak=tuple(name for _, name in sorted(alive, reverse=True)),
    )


#: Bytes of a unit of the memory map's axis.
_KIB = 1024


def draw_memory(info: MemoryInfo) -> Drawing:
    """The arena as a map: operators from left to right, addresses upwards."""
    total = info.head + info.tail + info.front_end
    near = info.limit is not None and info.limit <= 1.7 * total
    top = max(total, info.limit or 0) if near else total
    # Where the limit is far above, its words have a line of their own over those of the peak.
    last, reach = len(info.ops) - 0.5, (1.27 if near or info.limit is None else 1.45) * top
    shapes, notes = _memory_limit(info, reach, near=near)
    return {
        "data": [_tensor_marks(info) if info.boxes else _alive_marks(info), *_tail_marks(info)],
        "layout": {
            "barmode": "overlay",
            "showlegend": False,
            "shapes": shapes,
            "annotations": [_peak_note(info, 1.12 * top / _KIB, len(info.ops)), *_tail_notes(info), *notes],
            "xaxis": {"title": {"text": "operator"}, "range": [-0.6, last + 0.1], "showgrid": False, **_op_ticks(info.ops)},
            "yaxis": {"title": {"text": "KiB of SRAM"}, "range": [0, reach / _KIB], "nticks": 6},
        },
    }


def _tensor_marks(info: MemoryInfo) -> dict[str, Any]:
    """A box a tensor: as long as it is needed, where the plan puts it."""
    at_peak = [box.first <= info.peak <= box.last for box in info.boxes]
    return {
        "type": "bar",
        "name": "tensors",
        "x": [(box.first + box.last) / 2 for box in info.boxes],
        "width": [box.last - box.first + 0.92 for box in info.boxes],
        "base": [box.offset / _KIB for box in info.boxes],
        "y": [box.size / _KIB for box in info.boxes],
        "marker": {
            "color": ["@front" if hot else "@faint" for hot in at_peak],
            "opacity": 0.85,
            "line": {"width": 0.8, "color": "@paper"},
        },
        "text": [
            f"<b>{escape(box.name)}</b>  {format_size(box.size)}<br>at {box.offset:,} B, needed from {escape(info.ops[box.first])}"
            f" to {escape(info.ops[box.last])}"
            for box in info.boxes
        ],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
    }


def _alive_marks(info: MemoryInfo) -> dict[str, Any]:
    """A bar an operator, where the placement is not known."""
    return {
        "type": "bar",
        "name": "alive",
        "x": list(range(len(info.live))),
        "y": [size / _KIB for size in info.live],
        "marker": {"color": ["@front" if i == info.peak else "@faint" for i in range(len(info.live))]},
        "text": [f"<b>{escape(op)}</b>  {format_size(size)}" for op, size in zip(info.ops, info.live, strict=True)],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
    }


def _bands(info: MemoryInfo) -> list[tuple[str, int, int]]:
    """What lies above the head, as (whose it is, first byte, bytes)."""
    found = [("the runtime's own structures", info.head, info.tail), ("the front end", info.head + info.tail, info.front_end)]
    return [band for band in found if band[2]]


def _tail_marks(info: MemoryInfo) -> list[dict[str, Any]]:
    """A band for each part above the head."""
    last = len(info.ops) - 0.5
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": [-0.5, last, last, -0.5, -0.5],
            "y": [y / _KIB for y in (first, first, first + taken, first + taken, first)],
            "fill": "toself",
            "fillcolor": "@wash",
            "line": {"width": 0.8, "color": "@muted"},
            "hoverinfo": "skip",
        }
        for name, first, taken in _bands(info)
    ]


def _tail_notes(info: MemoryInfo) -> list[dict[str, Any]]:
    return [
        {
            "x": len(info.ops) - 0.5,
            "y": (first + taken / 2) / _KIB,
            "xanchor": "right",
            "text": f"{name}, {format_size(taken)}",
            "showarrow": False,
            "font": {"size": 11.5, "color": "@muted"},
            "xshift": -6,
        }
        for name, first, taken in _bands(info)
    ]


def _memory_limit(info: MemoryInfo, reach: float, *, near: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(lines, notes) of the limit: a line where it is ``near``, words at the top of the picture (``reach`` bytes) where it is not."""
    if info.limit is None:
        return [], []
    dash = {"color": "@limit", "width": 2, "dash": "dash"}
    y = info.limit / _KIB
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": dash}
    times = info.limit / (info.head + info.tail + info.front_end)
    right = info.peak > len(info.ops) / 2
    note = {
        "xref": "paper",
        "x": 0 if right else 1,
        "y": y if near else reach / _KIB,
        "xanchor": "left" if right else "right",
        "yanchor": "bottom" if near else "top",
        "text": f"limit {format_size(round(info.limit))}" + ("" if near else f", {times:.1f} times what is needed"),
        "showarrow": False,
        "font": {"size": 12, "color": "@limit"},
    }
    return [line] if near else [], [note]


def _peak_note(info: MemoryInfo, above: float, ops: int) -> dict[str, Any]:
    # Above everything, where no box is; the arrow comes down to the peak.
    right = info.peak > ops / 2
    return {
        "x": info.peak,
        "y": info.head / 1024,
        "text": f"<b>peak {format_size(info.head)} at {escape(info.ops[info.peak])}</b>",
        "showarrow": True,
        "arrowhead": 2,
        "arrowsize": 0.9,
        "arrowwidth": 1.4,
        "arrowcolor": "@ink",
        "axref": "x",
        "ayref": "y",
        "ax": info.peak + (-0.06 if right else 0.06) * ops,
        "ay": above,
        "xanchor": "right" if right else "left",
        "yanchor": "bottom",
        "font": {"size": 12, "color": "@ink"},
    }


def _op_ticks(ops: Sequence[str], most: int = 14) -> dict[str, Any]:
    step = max(1, -(-len(ops) // most))
    shown = list(range(0, len(ops), step))
    return {"tickmode": "array", "tickvals": shown, "ticktext": [ops[i] for i in shown], "tickangle": -45}


# Layers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """One operator's work and bytes."""

    name: str
    kind: str
    """Of :data:`tinynas.graph.Kind`, or, in a file of others, TFLite's name in lower case."""
    output: tuple[int, ...]
    macs: int
    weights_bytes: int
    live_bytes: int
    weight_bits: int | None = None
    """Bits of a weight; None where it has none."""


@dataclass(frozen=True)
class LayersInfo:
    """Where the multiplications and the flash go."""

    layers: tuple[Layer, ...]
    macs: int
    weights_bytes: int
    heaviest: tuple[str, float]
    """(operator, its share of all MACs)."""
    biggest: tuple[str, float]
    """(operator, its share of all weights)."""


def kind_words(kind: str) -> str:
    """What people call an operator of ``kind``; one that only files of others have keeps TFLite's name."""
    known: dict[str, str] = {str(name): words for name, words in KINDS.items()}
    return known.get(kind, kind.upper())


def layers_info(cost: Cost) -> LayersInfo:
    """Rows of a cost, and what dominates."""
    layers = tuple(Layer(r.name, r.kind, r.output_shape, r.macs, r.weights_bytes, r.live_bytes, r.weight_bits) for r in cost.layers)
    heavy = max(layers, key=lambda layer: layer.macs)
    big = max(layers, key=lambda layer: layer.weights_bytes)
    macs, weights = max(1, cost.macs), max(1, cost.weights_bytes)
    return LayersInfo(layers, cost.macs, cost.weights_bytes, (heavy.name, heavy.macs / macs), (big.name, big.weights_bytes / weights))


def draw_layers(info: LayersInfo) -> Drawing:
    """Two panels over one axis: MACs and weight bytes of every operator."""
    x = list(range(len(info.layers)))
    few = any(layer.weight_bits not in (None, 8) for layer in info.layers)
    panels = (
        ("MACs", [layer.macs for layer in info.layers], "y", "@front", [count(layer.macs) for layer in info.layers]),
        (
            "weights",
            [layer.weights_bytes / 1024 for layer in info.layers],
            "y2",
            "@good",
            [
                format_size(layer.weights_bytes) + (f" of {layer.weight_bits} bits" if few and layer.weight_bits else "")
                for layer in info.layers
            ],
        ),
    )
    data = [
        {
            "type": "bar",
            "name": name,
            "x": x,
            "y": values,
            "xaxis": "x" if axis == "y" else "x2",
            "yaxis": axis,
            "marker": {"color": color},
            "text": [
                f"<b>{escape(layer.name)}</b>  {kind_words(layer.kind)} to {shape(layer.output)}<br>{name} {text}"
                for layer, text in zip(info.layers, texts, strict=True)
            ],
            "textposition": "none",
            "hovertemplate": "%{text}<extra></extra>",
        }
        for name, values, axis, color, texts in panels
    ]
    names = [layer.name for layer in info.layers]
    return {
        "data": data,
        "layout": {
            "showlegend": False,
            "grid": {"rows": 2, "columns": 1, "pattern": "independent", "roworder": "top to bottom", "ygap": 0.14},
            "xaxis": {"showticklabels": False, "showgrid": False, "range": [-0.6, len(names) - 0.4]},
            "xaxis2": {"showgrid": False, "range": [-0.6, len(names) - 0.4], **_op_ticks(names)},
            "yaxis": {"title": {"text": "MACs"}, "rangemode": "tozero", "tickformat": "~s"},
            "yaxis2": {"title": {"text": "KiB of weights"}, "rangemode": "tozero"},
        },
    }


# Training ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingInfo:
    """Curves of the full training, or what the search's short training showed. Accuracies are shares."""

    epochs: tuple[float, ...]
    loss: tuple[float, ...]
    train: tuple[float, ...]
    val: tuple[float, ...]
    best: int | None
    """Index of the epoch that was kept."""
    proxy: tuple[tuple[float, float], ...]
    """(epochs, validation accuracy) at the search's rungs; in epochs of the full training where there was one."""


def training_info(history_csv: str | None, history: Sequence[Trial] = (), best_epoch: int | None = None) -> TrainingInfo:
    """Curves from the text of train.csv (None where the network was not promoted) and from its lines in trials.jsonl."""
    rows = list(csv.DictReader(io.StringIO(history_csv))) if history_csv else []

    def column(name: str) -> tuple[float, ...]:
        return tuple(float(row[name]) for row in rows if row.get(name) not in (None, ""))

    epochs = column("epoch")
    # An epoch of the search may be a share of the images: counted in images, both curves have one axis.
    per_epoch = (column("images") or (0.0,))[0]
    shown = [t for t in history if t.accuracy is not None and t.state != "duplicate"]
    proxy = {(t.images / per_epoch if per_epoch and t.images else t.epochs): t.accuracy or 0.0 for t in shown}
    return TrainingInfo(
        epochs=epochs,
        loss=column("loss"),
        train=column("train_accuracy"),
        val=column("val_accuracy"),
        best=epochs.index(best_epoch) if best_epoch is not None and best_epoch in epochs else None,
        proxy=tuple(sorted(proxy.items())),
    )


def draw_training(info: TrainingInfo) -> Drawing:
    """Accuracy above, loss below (where there is one)."""
    data: list[dict[str, Any]] = []

    def line(name: str, x: Sequence[float], y: Sequence[float], color: str, dash: str, axis: str = "y", fmt: str = ".1%") -> None:
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(x) < 20 else "lines",
                "name": name,
                "x": list(x),
                "y": list(y),
                "xaxis": "x" if axis == "y" else "x2",
                "yaxis": axis,
                "line": {"color": color, "width": 2, "dash": dash},
                "marker": {"size": 5},
                "hovertemplate": f"{name}: %{{y:{fmt}}} at epoch %{{x:.3g}}<extra></extra>",
            }
        )

    if info.val:
        line("validation", info.epochs, info.val, "@front", "solid")
    if info.train:
        line("training (augmented)", info.epochs, info.train, "@muted", "dot")
    if info.proxy:
        line("in the search", [x for x, _ in info.proxy], [y for _, y in info.proxy], "@baseline", "dash")
        data[-1]["mode"] = "lines+markers"
        data[-1]["marker"] = {"size": 8, "symbol": "diamond"}
    if info.best is not None:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "kept",
                "x": [info.epochs[info.best]],
                "y": [info.val[info.best]],
                "marker": {"size": 13, "symbol": "circle-open", "color": "@picked", "line": {"width": 2.4}},
                "hovertemplate": "the epoch kept: %{y:.1%}<extra></extra>",
            }
        )
    layout: dict[str, Any] = {
        "yaxis": {"title": {"text": "accuracy"}, "tickformat": percent_ticks([*info.train, *info.val])},
        "xaxis": {"title": {"text": "epoch"}, "rangemode": "tozero"},
    }
    if info.loss:
        line("loss", info.epochs, info.loss, "@good", "solid", "y2", ".3f")
        data[-1]["showlegend"] = False
        layout["grid"] = {"rows": 2, "columns": 1, "pattern": "independent", "roworder": "top to bottom", "ygap": 0.14}
        layout["xaxis"] = {"showticklabels": False, "matches": "x2", "rangemode": "tozero"}
        layout["xaxis2"] = {"title": {"text": "epoch"}, "rangemode": "tozero"}
        layout["yaxis2"] = {"title": {"text": "training loss"}}
    return {"data": data, "layout": layout}


# Confusion ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConfusionInfo:
    """Which class is taken for which: rows are true classes."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    """Of each true class."""
    accuracy: float
    balanced_accuracy: float
    """Mean over the classes that occur."""
    worst: tuple[tuple[str, str, float], ...]
    """(true, taken for, share of the true class), most frequent first; at most three."""
    noun: str = "image"
    """What was judged, in the singular."""


def confusion_info(counts: Sequence[Sequence[int]], labels: Sequence[str], title: str, noun: str = "image") -> ConfusionInfo:
    """Shares and summary of a confusion matrix (N, N)."""
    totals = [sum(row) for row in counts]
    shares = tuple(tuple(n / total if total else 0.0 for n in row) for row, total in zip(counts, totals, strict=True))
    mistakes = sorted(
        ((share, i, j) for i, row in enumerate(shares) for j, share in enumerate(row) if i != j and share > 0),
        key=lambda m: (-m[0], m[1], m[2]),
    )
    return ConfusionInfo(
        title=title,
        labels=tuple(labels) if len(labels) == len(counts) else tuple(str(i) for i in range(len(counts))),
        counts=tuple(tuple(row) for row in counts),
        shares=shares,
        accuracy=metrics.accuracy(counts),
        balanced_accuracy=metrics.balanced_accuracy(counts),
        worst=tuple((_label(labels, counts, i), _label(labels, counts, j), share) for share, i, j in mistakes[:3]),
        noun=noun,
    )


def _label(labels: Sequence[str], counts: Sequence[Sequence[int]], index: int) -> str:
    return labels[index] if len(labels) == len(counts) else str(index)


def draw_confusion(info: ConfusionInfo) -> Drawing:
    """A square of shares; numbers in it up to twelve classes."""
    n = len(info.labels)
    # Labels are untrusted text: escaped, and kept off the axis' own parsing by numeric positions.
    names = [escape(label if len(label) <= 22 else label[:21] + "…") for label in info.labels]
    step = max(1, -(-n // 24))
    where = list(range(0, n, step))
    heat: dict[str, Any] = {
        "type": "heatmap",
        "x": list(range(n)),
        "y": list(range(n)),
        "z": [list(row) for row in info.shares],
        "customdata": [
            [
                f"<b>{names[i]}</b> taken for <b>{names[j]}</b><br>{counted(c, info.noun)}, {percent(s)} of the class"
                if i != j
                else f"<b>{names[i]}</b> known<br>{counted(c, info.noun)}, {percent(s)} of the class"
                for j, (c, s) in enumerate(zip(counts, shares, strict=True))
            ]
            for i, (counts, shares) in enumerate(zip(info.counts, info.shares, strict=True))
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "@low"], [1, "@high"]],
        "showscale": False,
        "xgap": 2 if n <= 24 else 0,
        "ygap": 2 if n <= 24 else 0,
    }
    if n <= 12:
        heat["text"] = [
            [f"{c:,}" if n > 4 else f"{c:,}<br>{percent(s)}" for c, s in zip(*rows, strict=True)]
            for rows in zip(info.counts, info.shares, strict=True)
        ]
        heat["texttemplate"] = "%{text}"
    tick = {"tickmode": "array", "tickvals": where, "ticktext": [names[i] for i in where], "showgrid": False, "ticks": ""}
    return {
        "data": [heat],
        "layout": {
            "xaxis": {**tick, "title": {"text": "taken for"}, "tickangle": 0 if n <= 4 else -45, "constrain": "domain"},
            "yaxis": {**tick, "title": {"text": "true class"}, "autorange": "reversed", "tickangle": -90 if n <= 3 else 0},
        },
    }


# Estimated against measured ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Promise:
    """A figure before and after."""

    what: str
    estimated: float | None
    measured: float | None
    unit: str
    """``B`` or ``share``."""

    @property
    def difference(self) -> float | None:
        """Measured minus estimated."""
        return None if self.estimated is None or self.measured is None else self.measured - self.estimated


@dataclass(frozen=True)
class PromisesInfo:
    """What was promised and what came."""

    rows: tuple[Promise, ...]


def promises_info(report: Mapping[str, Any]) -> PromisesInfo:
    """Rows from an export report: flash, arena (here and on an emulated core), accuracy (float and int8), agreement."""
    rows = []
    compiled = isinstance(report.get("firmware"), Mapping)
    for key, what in (("flash_bytes", "the .tflite file"), ("arena_bytes", "SRAM: the arena on this computer (64 bit)")):
        pair = report.get(key)
        if isinstance(pair, Mapping):
            if key != "arena_bytes" or not compiled:  # TFLM's arena says nothing of a network that it does not run
                rows.append(Promise(what, _number(pair.get("estimated")), _number(pair.get("measured")), "B"))
            target = _number(pair.get("microcontroller_estimated"))
            if target is not None:
                where = f"the work area of {pair.get('runtime')}" if compiled else "the arena on the microcontroller (32 bit)"
                rows.append(Promise(f"SRAM: {where}", target, None, "B"))
    verified = report.get("verified")
    if of_network(verified) and isinstance(verified, Mapping):
        for what, promised, measured in network_figures(verified):
            rows.append(
                Promise(f"{what}, {verified['runtime']} on an emulated {verified['target']}", _number(promised), _number(measured), "B")
            )
    elif isinstance(verified, Mapping):
        what = f"arena to start on an emulated {verified.get('target')}, {verified.get('kernels')} kernels"
        rows.append(
            Promise(f"SRAM: {what}", _number(verified.get("promised_arena_bytes")), _number(verified.get("needed_arena_bytes")), "B")
        )
    accuracy = report.get("accuracy")
    if isinstance(accuracy, Mapping):
        where = f" on {accuracy['split']}" if accuracy.get("split") else ""
        rows.append(Promise(f"accuracy{where}: float, then int8", _number(accuracy.get("float")), _number(accuracy.get("int8")), "share"))
    agreement = report.get("agreement")
    if isinstance(agreement, Mapping):
        agreement = next((agreement[key] for key in ("overall", "argmax", "all", "share") if key in agreement), None)
    if _number(agreement) is not None:
        rows.append(Promise("int8 and float name the same class", 1.0, _number(agreement), "share"))
    return PromisesInfo(tuple(rows))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def draw_promises(info: PromisesInfo) -> Drawing:
    """Measured as a share of estimated, one bar a row."""
    rows = [row for row in info.rows if row.estimated and row.measured is not None]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": [(row.measured or 0.0) / (row.estimated or 1.0) for row in rows],
                "y": [escape(row.what) for row in rows],
                "marker": {"color": "@front"},
                "hovertemplate": "%{y}: measured is %{x:.2%} of estimated<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"tickformat": ".0%", "title": {"text": "measured as a share of estimated"}},
            "yaxis": {"autorange": "reversed"},
            "shapes": [
                {
                    "type": "line",
                    "yref": "paper",
                    "x0": 1,
                    "x1": 1,
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": "@limit", "width": 2, "dash": "dash"},
                }
            ],
        },
    }
