"""Figures and tables about learning on the board: memory through a step, accuracy over memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tinynas.config import format_size
from tinynas.errors import printable
from tinynas.files import write_atomic
from tinynas.report.theme import MODES, colored, layout, picture_page
from tinynas.report.words import amount, percent

#: Colors and marks of schemes, in turn.
_LOOKS = (
    ("@front", "circle"),
    ("@baseline", "square"),
    ("@good", "diamond"),
    ("@picked", "triangle-up"),
    ("@limit", "x"),
    ("@k5", "star"),
    ("@k9", "cross"),
    ("@muted", "triangle-down"),
    ("@k3", "pentagon"),
)


@dataclass(frozen=True)
class MemoryInfo:
    """Bytes alive in each operator of a step, forward and backward, by scheme."""

    schemes: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    """Names of the operators."""
    live: tuple[tuple[int, ...], ...]


def memory_info(plans: Sequence[Mapping[str, Any]]) -> MemoryInfo:
    """From the plans of ``adapt plan --json``; those without a choice are left out."""
    shown = [plan for plan in plans if plan["live"]]
    return MemoryInfo(
        tuple(plan["scheme"] for plan in shown),
        tuple(tuple(step["at"] for step in plan["live"]) for plan in shown),
        tuple(tuple(step["bytes"] for step in plan["live"]) for plan in shown),
    )


def draw_memory(info: MemoryInfo) -> dict[str, Any]:
    """A line a scheme: bytes alive over the operators of a step."""
    data = []
    for number, (scheme, steps, live) in enumerate(zip(info.schemes, info.steps, info.live, strict=True)):
        color, _ = _LOOKS[number % len(_LOOKS)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "line": {"shape": "hvh", "color": color, "width": 1.6},
                "name": escape(scheme),
                "x": list(range(len(live))),
                "y": [size / 1024 for size in live],
                "customdata": [escape(step) for step in steps],
                "hovertemplate": "%{customdata}<br>%{y:.1f} KiB<extra>" + escape(scheme) + "</extra>",
            }
        )
    axes = {
        "xaxis": {"title": {"text": "operators of a step: forward, loss, backward"}},
        "yaxis": {"title": {"text": "alive, KiB"}, "rangemode": "tozero"},
    }
    return {"data": data, "layout": {**axes, "height": 460, "showlegend": True}}


@dataclass(frozen=True)
class LearnedInfo:
    """Accuracy over memory: a point for each budget and scheme."""

    schemes: tuple[str, ...]
    bytes: tuple[tuple[int, ...], ...]
    """Memory beside inference."""
    new: tuple[tuple[float, ...], ...]
    old: tuple[tuple[float | None, ...], ...]
    budgets: tuple[tuple[str, ...], ...]


def learned_info(lines: Sequence[Mapping[str, Any]]) -> LearnedInfo:
    """From the table of ``adapt compare --json``: lines with a figure, by scheme, the least memory first."""
    # In the table's order, so that a scheme keeps its color.
    shown: dict[str, list[Mapping[str, Any]]] = {line["scheme"]: [] for line in lines if line["new"] is not None}
    for line in sorted((line for line in lines if line["new"] is not None), key=lambda line: int(line["extra_bytes"])):
        shown[line["scheme"]].append(line)
    return LearnedInfo(
        tuple(shown),
        tuple(tuple(line["extra_bytes"] for line in group) for group in shown.values()),
        tuple(tuple(line["new"] for line in group) for group in shown.values()),
        tuple(tuple(line["old"] for line in group) for group in shown.values()),
        tuple(tuple(line["budget"] for line in group) for group in shown.values()),
    )


def draw_learned(info: LearnedInfo, noun: str = "image") -> dict[str, Any]:
    """Two panels over one scale of memory: the new classes, and beside them what has become of the old ones, a line a scheme in both.

    Where nothing is known of the old classes there is one panel. ``noun``: what the network reads, in the singular.
    """
    both = any(value is not None for values in info.old for value in values)
    panels = [("new classes", info.new, "x", "y"), ("old classes", info.old, "x2", "y2")][: 1 + both]
    data: list[dict[str, Any]] = []
    for number, scheme in enumerate(info.schemes):
        color, mark = _LOOKS[number % len(_LOOKS)]
        for panel, (title, values, xaxis, yaxis) in enumerate(panels):
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": escape(scheme),
                    "legendgroup": escape(scheme),
                    "showlegend": panel == 0,
                    "xaxis": xaxis,
                    "yaxis": yaxis,
                    "line": {"color": color, "width": 1.4},
                    "marker": {"symbol": mark, "size": 9, "color": color},
                    "x": [size / 1024 for size in info.bytes[number]],
                    "y": [None if value is None else 100 * value for value in values[number]],
                    "customdata": [escape(budget) for budget in info.budgets[number]],
                    "hovertemplate": "budget %{customdata}<br>%{x:.1f} KiB<br>%{y:.1f} %<extra>" + f"{escape(scheme)}, {title}</extra>",
                }
            )
    axes: dict[str, Any] = {}
    for panel, (title, _, _, _) in enumerate(panels):
        end = "" if panel == 0 else "2"
        domain = [0.54 * panel, 0.46 + 0.54 * panel] if both else [0, 1]
        axes["xaxis" + end] = {
            "title": {"text": "memory of learning beside inference, KiB"},
            "type": "log",
            "domain": domain,
            "anchor": "y" + end,
            **_ticks([size / 1024 for sizes in info.bytes for size in sizes]),
        }
        axes["yaxis" + end] = {
            "title": {"text": f"{title}, right of test {escape(noun)}s, %"},
            "range": [-4, 104],
            "anchor": "x" + end,
            **({"matches": "y"} if panel else {}),
        }
    return {"data": data, "layout": {**axes, "height": 480, "showlegend": True}}


def _ticks(values: Sequence[float]) -> dict[str, Any]:
    """Powers of two that span ``values``, as many as there is room for, and a range with room at both ends: plotly's own ticks of a
    short log axis are digits without their power."""
    if not values:
        return {}
    low, high = math.log2(max(min(values), 1e-3)), math.log2(max(max(values), 1e-3))
    step = max(1, math.ceil((high - low) / 7))
    powers = range(math.floor(low), math.ceil(high) + 1, step)
    room = 0.06 * max(high - low, 1.0)
    marks = [2.0**power for power in powers]
    ends = [(low - room) * math.log10(2), (high + room) * math.log10(2)]
    return {"tickvals": marks, "ticktext": [f"{mark:,.0f}" if mark >= 1 else f"{mark:g}" for mark in marks], "range": ends}


def write_memory_picture(plans: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write what is alive through a step as one HTML file."""
    return _write(draw_memory(memory_info(plans)), "Memory through a step of learning", path)


def write_learned_picture(lines: Sequence[Mapping[str, Any]], path: Path, noun: str = "image") -> Path:
    """Write accuracy over memory as one HTML file."""
    return _write(draw_learned(learned_info(lines), noun), "Accuracy over memory of learning", path)


def _write(drawing: Mapping[str, Any], head: str, path: Path) -> Path:
    import plotly.graph_objects as go

    parts = f"<p>{escape(head)}</p>"
    for mode in MODES:
        shown = colored(drawing, mode)
        figure = go.Figure(data=shown["data"], layout={**shown["layout"], "template": {"layout": layout(mode)}})
        div = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False})
        parts += f'<div class="{mode}">{div}</div>'
    write_atomic(path, picture_page("tinynas adapt", parts))
    return path


# tables ---------------------------------------------------------------------------------------------------


def _table(*heads: str, left: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="left" if head in left else "right", no_wrap=True)
    return table


def plan_table(plans: Sequence[Mapping[str, Any]]) -> Table:
    """A line a scheme: whether it fits, and what it takes."""
    table = _table("scheme", "fits", "RAM", "beside\ninference", "MACs\na step", "parameters", "peak", left=("scheme", "fits", "peak"))
    for plan in plans:
        cost = plan["cost"]
        if cost is None:
            table.add_row(plan["scheme"], "", "", "", "", "", Text(printable(plan["problem"])))
            continue
        table.add_row(
            plan["scheme"],
            "yes" if plan["fits"] else "no",
            format_size(cost["ram_bytes"]),
            format_size(cost["extra_bytes"]),
            f"{cost['macs']['step']:,}",
            f"{cost['parameters']:,} ({percent(cost['share'])})",
            Text(printable(cost["peak"]["at"])),
        )
    return table


def layers_table(plan: Mapping[str, Any]) -> Table:
    """A line for each operator on the gradient's way, or with something to update."""
    table = _table("operator", "updated", "kept", "bits", "gradient", "of weights", "in RAM", "MACs back", left=("operator", "updated"))
    for row in plan["cost"]["layers"]:
        if not (row["on_path"] or row["parameters"]):
            continue
        sizes = (row["kept_bytes"], row["mask_bytes"], row["gradient_bytes"], row["weight_gradient_bytes"])
        held = row["copies_bytes"] + row["optimizer_bytes"]
        macs = row["macs_inputs"] + row["macs_weights"]
        shown = [format_size(size) if size else "" for size in (*sizes, held)]
        table.add_row(Text(printable(row["name"])), row["updated"], *shown, f"{macs:,}" if macs else "")
    return table


def learned_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each budget and scheme; shares are of the new and of the old classes."""
    remarks = [line["problem"] if line["new"] is None else "" if line["fits"] else "beyond the budget" for line in lines]
    last = (" ",) if any(remarks) else ()  # a column of nothing would take room from the figures
    heads = ("budget", "scheme", "new / old", "before", "beside\ninference", "MACs\na step", "seeds")
    table = _table(*heads, *last, left=("budget", "scheme", " "))

    def shares(new: float | None, old: float | None) -> str:
        return " / ".join("" if value is None else percent(value) for value in (new, old))

    for line, remark in zip(lines, remarks, strict=True):
        said = (Text(printable(remark)),) if last else ()
        start, seeds = (Text(printable(line["budget"])), line["scheme"]), str(line["seeds"])
        if line["new"] is None:
            table.add_row(*start, *[""] * 4, seeds, *said)
            continue
        table.add_row(
            *start,
            shares(line["new"], line["old"]),
            shares(line["new_before"], line["old_before"]),
            format_size(line["extra_bytes"]),
            amount("macs", line["macs"]),
            seeds,
            *said,
        )
    return table
