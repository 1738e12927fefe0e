"""Figures: ``<name>_info(...)`` returns numbers, ``plot(info)`` draws them as a plotly figure.

>>> from tinynas.report.figures import pareto_info, plot
>>> info = pareto_info(run.trials(), run.budget)     # doctest: +SKIP
>>> info.front                                       # doctest: +SKIP
>>> plot(info).show()                                # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from tinynas.report.board_figures import CompareInfo, compare_info, draw_compare
from tinynas.report.net_figures import (
    ConfusionInfo,
    LayersInfo,
    MemoryInfo,
    PromisesInfo,
    StripInfo,
    TrainingInfo,
    confusion_info,
    draw_confusion,
    draw_layers,
    draw_memory,
    draw_promises,
    draw_strip,
    draw_training,
    layers_info,
    memory_info,
    promises_info,
    strip_info,
    training_info,
)
from tinynas.report.search_figures import (
    Drawing,
    LimitsInfo,
    ParetoInfo,
    ProgressInfo,
    SpacesInfo,
    draw_limits,
    draw_pareto,
    draw_progress,
    draw_spaces,
    limits_info,
    pareto_info,
    progress_info,
    spaces_info,
)
from tinynas.report.served_figures import (
    CurveInfo,
    PartsInfo,
    StreamInfo,
    curve_info,
    draw_curve,
    draw_parts,
    draw_stream,
    parts_info,
    stream_info,
)
from tinynas.report.theme import Mode, colored, layout

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Info: TypeAlias = (
    ParetoInfo
    | ProgressInfo
    | LimitsInfo
    | StripInfo
    | MemoryInfo
    | LayersInfo
    | TrainingInfo
    | ConfusionInfo
    | PromisesInfo
    | SpacesInfo
    | CompareInfo
    | CurveInfo
    | PartsInfo
    | StreamInfo
)

__all__ = [
    "Info",
    "compare_info",
    "confusion_info",
    "curve_info",
    "draw",
    "layers_info",
    "limits_info",
    "memory_info",
    "pareto_info",
    "parts_info",
    "plot",
    "progress_info",
    "promises_info",
    "spaces_info",
    "stream_info",
    "strip_info",
    "training_info",
]


def draw(info: Info) -> Drawing:
    """The figure of ``info`` for plotly.js: data and layout with colours by name (see :mod:`tinynas.report.theme`)."""
    match info:
        case ParetoInfo():
            return draw_pareto(info)
        case ProgressInfo():
            return draw_progress(info)
        case LimitsInfo():
            return draw_limits(info)
        case StripInfo():
            return draw_strip(info)
        case MemoryInfo():
            return draw_memory(info)
        case LayersInfo():
            return draw_layers(info)
        case TrainingInfo():
            return draw_training(info)
        case ConfusionInfo():
            return draw_confusion(info)
        case PromisesInfo():
            return draw_promises(info)
        case SpacesInfo():
            return draw_spaces(info)
        case CompareInfo():
            return draw_compare(info)
        case CurveInfo():
            return draw_curve(info)
        case PartsInfo():
            return draw_parts(info)
        case StreamInfo():
            return draw_stream(info)


def plot(info: Info, *, mode: Mode = "light") -> Figure:
    """The figure of ``info`` as a plotly object, to show, change or save as HTML."""
    import plotly.graph_objects as go

    drawing: dict[str, Any] = colored(draw(info), mode)
    template = {"layout": layout(mode)}
    return go.Figure(data=drawing["data"], layout={**drawing["layout"], "template": template})
