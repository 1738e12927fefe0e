"""Figures of who is served how well: the ROC curve with the chosen threshold on it, the parts of the data as bars with intervals, and
missed events over false alarms an hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinynas.errors import counted
from tinynas.records import FIGURE_TITLES, interval_words
from tinynas.report.search_figures import Drawing
from tinynas.report.words import percent
from tinynas.report.words import text as escape

#: Colour of each figure's bars.
_COLORS = {"accuracy": "@good", "recall": "@k3", "false_alarms": "@limit"}


@dataclass(frozen=True)
class CurveInfo:
    """Recall over false alarms of one class of two."""

    positive: str
    false_alarms: tuple[float, ...]
    recall: tuple[float, ...]
    area: float | None
    chosen: tuple[float, float] | None
    """(false alarms, recall) on these images with the threshold in the firmware."""
    usual: tuple[float, float] | None
    """The same where the largest output decides."""


def curve_info(report: Mapping[str, Any]) -> CurveInfo | None:
    """The curve of an export's report; None where it has none."""
    curve = report.get("roc")
    if not curve:
        return None
    measured = (report.get("operating_point") or {}).get("measured") or {}
    shares = [measured.get(name) for name in ("false_alarms", "recall")]
    usual = [report.get(name) for name in ("false_alarms", "recall")]
    return CurveInfo(
        positive=curve["positive"],
        false_alarms=tuple(curve["false_alarms"]),
        recall=tuple(curve["recall"]),
        area=report.get("auc"),
        chosen=None if None in shares else (shares[0]["value"], shares[1]["value"]),  # type: ignore[index]
        usual=None if None in usual else (usual[0], usual[1]),  # type: ignore[arg-type]
    )


def draw_curve(info: CurveInfo) -> Drawing:
    """Recall over false alarms, with what decides marked."""
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "int8 file",
            "x": list(info.false_alarms),
            "y": list(info.recall),
            "line": {"color": "@good", "width": 2, "shape": "hv"},
            "hovertemplate": "%{y:.1%} found at %{x:.1%} of false alarms<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "chance",
            "x": [0, 1],
            "y": [0, 1],
            "line": {"color": "@muted", "width": 1, "dash": "dot"},
            "hoverinfo": "skip",
        },
    ]
    marks = ((info.usual, "largest output", "circle-open", "@ink"), (info.chosen, "chosen threshold", "diamond", "@limit"))
    for place, name, symbol, color in marks:
        if place is not None:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": [place[0]],
                    "y": [place[1]],
                    "marker": {"symbol": symbol, "size": 11, "color": color, "line": {"width": 2, "color": color}},
                    "hovertemplate": f"{name}: {percent(place[1])} found, {percent(place[0])} of false alarms<extra></extra>",
                }
            )
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "false alarms"}, "range": [-0.02, 1.02], "tickformat": ".0%"},
        "yaxis": {"title": {"text": f"recall of {escape(info.positive[:40])}"}, "range": [-0.02, 1.02], "tickformat": ".0%"},
        "legend": {"x": 0.98, "y": 0.04, "xanchor": "right", "yanchor": "bottom"},
    }
    return {"data": data, "layout": layout}


@dataclass(frozen=True)
class Bars:
    """One figure of every part that has it."""

    figure: str
    parts: tuple[str, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class PartsInfo:
    """How the parts of the data are served."""

    parts: tuple[str, ...]
    """In the report's order."""
    images: tuple[int, ...]
    bars: tuple[Bars, ...]
    noun: str = "image"
    """What was judged, in the singular."""


def parts_info(report: Mapping[str, Any], noun: str = "image") -> PartsInfo | None:
    """The parts of an export's report; None where it has none."""
    subsets = report.get("subsets")
    if not subsets:
        return None
    bars = []
    for figure in FIGURE_TITLES:
        known = {name: part for name, part in subsets.items() if None not in (part.get(figure), part.get(f"{figure}_interval"))}
        if known:
            intervals = [part[f"{figure}_interval"] for part in known.values()]
            values = tuple(part[figure] for part in known.values())
            bars.append(Bars(figure, tuple(known), values, tuple(low for low, _ in intervals), tuple(high for _, high in intervals)))
    return PartsInfo(tuple(subsets), tuple(part["n"] for part in subsets.values()), tuple(bars), noun)


def draw_parts(info: PartsInfo) -> Drawing:
    """A row a part, a bar a figure with its 95 % interval; the first part on top."""
    places = {name: i for i, name in enumerate(info.parts)}
    counts = {name: counted(n, info.noun) for name, n in zip(info.parts, info.images, strict=True)}
    data: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": FIGURE_TITLES[bars.figure],
            "x": list(bars.values),
            "y": [places[name] for name in bars.parts],
            "marker": {"color": _COLORS[bars.figure]},
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [high - value for high, value in zip(bars.high, bars.values, strict=True)],
                "arrayminus": [value - low for low, value in zip(bars.low, bars.values, strict=True)],
                "color": "@ink",
                "thickness": 1.2,
                "width": 3,
            },
            "customdata": [
                [f"<b>{escape(name)}</b>, {counts[name]}<br>{FIGURE_TITLES[bars.figure]} {interval_words(value, (low, high))}"]
                for name, value, low, high in zip(bars.parts, bars.values, bars.low, bars.high, strict=True)
            ],
            "hovertemplate": "%{customdata[0]}<extra></extra>",
        }
        for bars in info.bars
    ]
    names = [escape(name if len(name) <= 30 else name[:29] + "…") for name in info.parts]
    layout: dict[str, Any] = {
        "barmode": "group",
        "bargap": 0.3,
        "xaxis": {"range": [0, 1.02], "tickformat": ".0%"},
        "yaxis": {
            "tickvals": list(range(len(names))),
            "ticktext": [f"{name} ({n:,})" for name, n in zip(names, info.images, strict=True)],
            "range": [len(names) - 0.5, -0.5],
            "automargin": True,
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "height": 110 + 22 * len(info.bars) * len(names),
    }
    return {"data": data, "layout": layout}


@dataclass(frozen=True)
class StreamInfo:
    """Missed events over false alarms an hour, a point a threshold."""

    thresholds: tuple[float, ...]
    """Falling, so that false alarms rise."""
    false_alarms_per_hour: tuple[float, ...]
    missed: tuple[int, ...]
    events: int
    chosen: int | None
    """Which of the thresholds was chosen; None where each class has one of its own."""
    chosen_point: tuple[int, float]
    """(events missed, false alarms an hour) with what was chosen."""
    chosen_on: str
    """The split by which it was chosen."""
    allowed: float
    """False alarms an hour that were allowed there."""


def stream_info(report: Mapping[str, Any]) -> StreamInfo | None:
    """The stream of an export's or an evaluation's report; None where it has none."""
    stream = report.get("stream")
    if not stream:
        return None
    curve = sorted(stream["curve"], key=lambda row: -row["threshold"])
    thresholds = tuple(row["threshold"] for row in curve)
    smoothing = stream["smoothing"]
    return StreamInfo(
        thresholds=thresholds,
        false_alarms_per_hour=tuple(row["false_alarms_per_hour"] for row in curve),
        missed=tuple(row["missed"] for row in curve),
        events=stream["events"],
        chosen=thresholds.index(smoothing["threshold"]) if smoothing["threshold"] in thresholds else None,
        chosen_point=(stream["missed"], stream["false_alarms_per_hour"]),
        chosen_on=smoothing["chosen_on"],
        allowed=stream["allowed_per_hour"],
    )


def draw_stream(info: StreamInfo) -> Drawing:
    """Missed events over false alarms an hour, the chosen threshold marked, what was allowed a line."""
    shares = [missed / info.events if info.events else 0.0 for missed in info.missed]
    rates = list(info.false_alarms_per_hour)
    told = [
        f"threshold {threshold:g}<br>{missed:,} of {counted(info.events, 'event')} missed<br>{rate:.2f} false alarms an hour"
        for threshold, missed, rate in zip(info.thresholds, info.missed, rates, strict=True)
    ]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "thresholds",
            "x": rates,
            "y": shares,
            "text": told,
            "line": {"color": "@good", "width": 2},
            "marker": {"size": 5, "color": "@good"},
            "hovertemplate": "%{text}<extra></extra>",
        }
    ]
    lost, marked = info.chosen_point
    each = f"a threshold of each class<br>{lost:,} of {counted(info.events, 'event')} missed<br>{marked:.2f} false alarms an hour"
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"chosen on {info.chosen_on}",
            "x": [marked],
            "y": [lost / info.events if info.events else 0.0],
            "text": [each if info.chosen is None else told[info.chosen]],
            "marker": {"symbol": "diamond", "size": 12, "color": "@limit"},
            "hovertemplate": "chosen: %{text}<extra></extra>",
        }
    )
    # To the right of where the fewest are missed there are only more false alarms.
    fewest = min(rate for rate, share in zip(rates, shares, strict=True) if share == min(shares))
    reach = 1.15 * max(fewest, 2 * info.allowed, marked, 0.5)
    allowed = {"type": "line", "xref": "x", "yref": "paper", "x0": info.allowed, "x1": info.allowed, "y0": 0, "y1": 1}
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "false alarms an hour"}, "range": [-0.03 * reach, reach]},
        "yaxis": {"title": {"text": "events missed"}, "range": [-0.03, 1.05 * max(*shares, 0.1)], "tickformat": ".0%"},
        "shapes": [{**allowed, "line": {"color": "@muted", "width": 1.2, "dash": "dash"}}],
        "annotations": [
            {
                "x": info.allowed,
                "y": 1,
                "yref": "paper",
                "xanchor": "left",
                "yanchor": "top",
                "xshift": 4,
                "text": f"{info.allowed:g} an hour allowed",
                "showarrow": False,
                "font": {"size": 11.5, "color": "@muted"},
            }
        ],
        "legend": {"x": 0.98, "y": 0.98, "xanchor": "right", "yanchor": "top"},
    }
    return {"data": data, "layout": layout}
