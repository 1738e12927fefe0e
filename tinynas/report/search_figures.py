"""Figures about a search: the front, its progress beside the baseline, what the limits cost. Numbers first, drawing second."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinynas import pareto
from tinynas.budget import Budget
from tinynas.cost.quantities import QUANTITIES
from tinynas.errors import counted
from tinynas.records import Trial
from tinynas.report.words import amount, percent, percent_ticks, subspace_input, title
from tinynas.report.words import text as escape

#: Source of the uniformly drawn networks that every search is compared with.
BASELINE = "baseline"

Drawing = dict[str, Any]
"""``{"data": [...], "layout": {...}}`` as plotly.js takes it, colors by name."""


def scored(trials: Sequence[Trial], cost: str = "macs") -> list[Trial]:
    """Trials with an accuracy and that cost; of one network the most trained counts."""
    latest: dict[str, Trial] = {}
    for trial in trials:
        if trial.state == "duplicate" or trial.accuracy is None or trial.costs.get(cost) is None:
            continue
        known = latest.get(trial.id)
        if known is None or trial.epochs >= known.epochs:
            latest[trial.id] = trial
    return list(latest.values())


def cost_of(trial: Trial, cost: str) -> float:
    """The cost of a trial that :func:`scored` let through."""
    value = trial.costs[cost]
    assert value is not None
    return float(value)


# The Pareto front --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dot:
    """One network: accuracy is a share of the validation images."""

    id: str
    cost: float
    accuracy: float
    """Expected after the farthest training of the search; what was seen, where the search has not said what it expects."""
    epochs: float
    source: str
    seen: float
    """Accuracy after its own ``epochs``."""


@dataclass(frozen=True)
class ParetoInfo:
    """Accuracy against one cost."""

    cost: str
    limit: float | None
    dots: tuple[Dot, ...]
    """Every scored network, cheapest first."""
    front: tuple[str, ...]
    """Ids that no other network beats in both, cheapest first."""
    baseline_front: tuple[str, ...]
    """The same among the uniformly drawn ones alone."""
    picked: tuple[str, ...]
    """Promoted networks."""
    refused: tuple[float, ...]
    """Costs of proposals over a limit; they were not trained."""

    @property
    def expected(self) -> bool:
        """True where accuracies are expectations rather than what was seen."""
        return any(dot.accuracy != dot.seen for dot in self.dots)


def pareto_info(trials: Sequence[Trial], budget: Budget, *, cost: str = "macs", picked: Collection[str] = ()) -> ParetoInfo:
    """The front of accuracy against ``cost`` among ``trials``."""
    known = sorted(scored(trials, cost), key=lambda t: (cost_of(t, cost), -(t.expected_accuracy or 0.0)))
    dots = tuple(Dot(t.id, cost_of(t, cost), t.expected_accuracy or 0.0, t.epochs, t.source, t.accuracy or 0.0) for t in known)
    refused = sorted(float(c) for t in trials if t.state == "infeasible" and (c := t.costs.get(cost)) is not None)
    return ParetoInfo(
        cost=cost,
        limit=budget.limits.get(cost),
        dots=dots,
        front=_front(dots),
        baseline_front=_front([dot for dot in dots if dot.source == BASELINE]),
        picked=tuple(dot.id for dot in dots if dot.id in picked),
        refused=tuple(refused),
    )


def _front(dots: Sequence[Dot]) -> tuple[str, ...]:
    return tuple(dots[i].id for i in pareto.front([(dot.accuracy, dot.cost) for dot in dots], (True, False)))


def draw_pareto(info: ParetoInfo, hover: Callable[[Dot], str] = lambda dot: "") -> Drawing:
    """``hover`` gives more lines about a network, escaped HTML."""
    marks = [*_refused_marks(info), *_front_lines(info), *_network_marks(info, hover), *_picked_marks(info)]
    return {"data": marks, "layout": _pareto_layout(info)}


def _dots(dots: Sequence[Dot], name: str, marker: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    places = {"x": [d.cost for d in dots], "y": [d.accuracy for d in dots]}
    return {"type": "scatter", "mode": "markers", "name": name, **places, **more, "marker": dict(marker)}


def _refused_marks(info: ParetoInfo) -> list[dict[str, Any]]:
    """Short strokes below all networks."""
    if not info.refused:
        return []
    low, costs = min((dot.accuracy for dot in info.dots), default=0.0), _thinned(info.refused)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "over a limit, not trained",
            "x": costs,
            "y": [low - 0.015] * len(costs),
            "marker": {"symbol": "line-ns-open", "size": 9, "color": "@faint", "line": {"width": 1}},
            "hoverinfo": "skip",
        }
    ]


def _front_lines(info: ParetoInfo) -> list[dict[str, Any]]:
    """A staircase through each front of at least two networks."""
    by_id = {dot.id: dot for dot in info.dots}
    fronts = (
        (info.baseline_front, "baseline's front", {"shape": "hv", "color": "@baseline", "width": 1.5, "dash": "dot"}),
        (info.front, "the front", {"shape": "hv", "color": "@front", "width": 2, "dash": "solid"}),
    )
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": [by_id[i].cost for i in ids],
            "y": [by_id[i].accuracy for i in ids],
            "line": line,
            "hoverinfo": "skip",
            "showlegend": False,
        }
        for ids, name, line in fronts
        if len(ids) > 1
    ]


def _network_marks(info: ParetoInfo, hover: Callable[[Dot], str]) -> list[dict[str, Any]]:
    """Every scored network: tried, drawn uniformly, or on the front."""
    by_id = {dot.id: dot for dot in info.dots}
    rest = [dot for dot in info.dots if dot.id not in info.front]
    groups: tuple[tuple[str, list[Dot], dict[str, Any]], ...] = (
        ("tried", [d for d in rest if d.source != BASELINE], {"size": 7, "color": "@cloud", "opacity": 0.75}),
        (
            "uniform baseline",
            [d for d in rest if d.source == BASELINE],
            {"size": 9, "color": "@baseline", "symbol": "diamond-open", "line": {"width": 1.6}},
        ),
        ("front", [by_id[i] for i in info.front], {"size": 11, "color": "@front", "line": {"width": 1.5, "color": "@paper"}}),
    )
    return [
        _dots(
            dots,
            name,
            marker,
            ids=[d.id for d in dots],
            customdata=[d.id for d in dots],
            text=[_dot_text(d, info.cost) + hover(d) for d in dots],
            hovertemplate="%{text}<extra></extra>",
        )
        for name, dots, marker in groups
    ]


def _picked_marks(info: ParetoInfo) -> list[dict[str, Any]]:
    """A ring around each network trained in full."""
    picked = [dot for dot in info.dots if dot.id in info.picked]
    ring = {"size": 19, "symbol": "circle-open", "color": "@picked", "line": {"width": 2.2}}
    return [_dots(picked, "trained in full", ring, hoverinfo="skip")] if picked else []


def _pareto_layout(info: ParetoInfo) -> dict[str, Any]:
    top, bottom = max((d.accuracy for d in info.dots), default=1.0), min((d.accuracy for d in info.dots), default=0.0)
    accuracy = "expected validation accuracy" if info.expected else "validation accuracy"
    layout: dict[str, Any] = {
        "xaxis": {**_axis(info.cost), **_cost_ticks(info)},
        "yaxis": {"title": {"text": accuracy}, "tickformat": percent_ticks((bottom, top))},
        "legend": {"y": -0.2, "yanchor": "top", "itemsizing": "trace"},
        "margin": {"l": 52, "r": 16, "t": 26, "b": 44},
        "shapes": [],
        "annotations": [],
    }
    if info.dots and top - bottom < 0.02:
        # A single dot has no range of its own, and accuracies end at 0 and 1.
        layout["yaxis"]["range"] = [max(0.0, bottom - 0.04), min(1.0, top + 0.02)]
    if info.limit is not None:
        layout |= _pareto_limit(info.cost, info.limit, max((d.cost for d in info.dots), default=1.0))
    return layout


def _pareto_limit(cost: str, limit: float, reach: float) -> dict[str, Any]:
    """The limit's line and its words; words alone where it lies far from all networks, which cost at most ``reach``."""
    near = limit <= 30 * reach
    note = {
        "xref": "x" if near else "paper",
        "yref": "paper",
        "x": (math.log10(limit) if QUANTITIES[cost].log else limit) if near else 1,
        "y": 1,
        "xanchor": "center" if near and limit < reach else "right",
        "yanchor": "bottom",
        "text": f"limit {amount(cost, limit)}" + ("" if near else ", far to the right"),
        "showarrow": False,
        "font": {"size": 12, "color": "@limit"},
    }
    return {"shapes": [_limit_line("x", limit)] if near else [], "annotations": [note]}


def _dot_text(dot: Dot, cost: str) -> str:
    seen = f"{percent(dot.seen)} after {counted(dot.epochs, 'epoch')}"
    said = seen if dot.accuracy == dot.seen else f"{percent(dot.accuracy)} expected ({seen})"
    return f"<b>{escape(dot.id)}</b>  {said}<br>{title(cost)} {amount(cost, dot.cost)}<br>proposed by: {escape(dot.source)}"


def _thinned(values: Sequence[float], most: int = 400) -> list[float]:
    step = max(1, math.ceil(len(values) / most))
    return list(values[::step])


def _limit_line(axis: str, value: float) -> dict[str, Any]:
    line = {"color": "@limit", "width": 2, "dash": "dash"}
    if axis == "x":
        return {"type": "line", "xref": "x", "yref": "paper", "x0": value, "x1": value, "y0": 0, "y1": 1, "line": line}
    return {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def _axis(cost: str) -> dict[str, Any]:
    log = QUANTITIES[cost].log
    return {"type": "log" if log else "linear", "title": {"text": title(cost) + (" (log scale)" if log else "")}}


def _cost_ticks(info: ParetoInfo) -> dict[str, Any]:
    values = [dot.cost for dot in info.dots] + ([info.limit] if info.limit is not None and info.dots else [])
    if not values or not QUANTITIES[info.cost].log:
        return {}
    return ticks(info.cost, min(values), max(values))


def ticks(cost: str, low: float, high: float) -> dict[str, Any]:
    """Tick values and texts of a log axis: round numbers, as coarse as leaves at least three; sizes in KiB."""
    sizes = QUANTITIES[cost].unit == "B"
    # Mantissas ever finer: powers of two in KiB for sizes, 1 2 5 and then tenths for counts.
    sets: tuple[tuple[float, ...], ...] = ((1,), (1, 1.5), (1, 1.25, 1.5, 1.75), tuple(1 + k / 16 for k in range(16)))
    if not sizes:
        sets = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(1 + k / 10 for k in range(90)))
    base, unit = (2.0, 1024.0) if sizes else (10.0, 1.0)
    chosen: list[float] = []
    for mantissas in sets:
        steps = (unit * m * base**k for k in range(-12, 24) for m in mantissas)
        chosen = [step for step in steps if 0.98 * low <= step <= 1.02 * high]
        if len(chosen) >= 3:
            break
    while len(chosen) > 7:
        chosen = chosen[::2]
    return {"tickmode": "array", "tickvals": chosen, "ticktext": [_short(cost, s) for s in chosen]}


def _short(cost: str, value: float) -> str:
    if QUANTITIES[cost].unit == "B":
        return f"{value:g} B" if value < 64 else f"{value / 1024:.6g} KiB" if value < 1024**2 else f"{value / 1024**2:.6g} MiB"
    for step, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= step:
            return f"{value / step:.6g}{letter}"
    return f"{value:g}"


# Progress beside the baseline --------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """What one way of proposing networks had reached after so much training."""

    name: str
    spent: tuple[float, ...]
    """Training images seen so far (or seconds), one a result."""
    best: tuple[float, ...]
    """Best validation accuracy so far."""
    volume: tuple[float, ...]
    """Hypervolume: the share of the box that the front covers (accuracy from worst to best, cost on its own scale)."""
    networks: int


@dataclass(frozen=True)
class ProgressInfo:
    """The search beside the uniform baseline, at equal training."""

    cost: str
    unit: str
    """``images`` or ``seconds``."""
    arms: tuple[Arm, ...]
    """The search first."""
    at: float | None
    """Training that both arms have had at least; None where one has none."""
    best_at: tuple[float, ...]
    volume_at: tuple[float, ...]
    noun: str = "image"
    """What the networks read, in the singular."""


def progress_info(
    history: Sequence[Trial],
    *,
    cost: str = "macs",
    box: tuple[tuple[float, float], tuple[float, float]] | None = None,
    seconds: Mapping[int, Sequence[float]] | None = None,
    noun: str = "image",
) -> ProgressInfo:
    """Best accuracy and hypervolume after every result, for the search and the baseline.

    ``history`` is every line of trials.jsonl in order: a network that was trained further appears again. ``box`` is
    (worst, best) of accuracy and of the cost on its own scale, by default what the run spans. ``seconds`` gives the training time of
    each line of a trial number in turn; without it training images are counted.
    """
    lines = [t for t in history if t.accuracy is not None and t.was_trained and t.costs.get(cost) is not None]
    if box is None:
        costs = [cost_of(t, cost) for t in lines] or [1.0]
        scaled = QUANTITIES[cost].scaled
        box = ((0.0, 1.0), (scaled(max(costs) * 1.05), scaled(min(costs) * 0.95)))
    arms = (
        _arm("search", [t for t in lines if t.source != BASELINE], cost, box, seconds),
        _arm("uniform baseline", [t for t in lines if t.source == BASELINE], cost, box, seconds),
    )
    both = min(arm.spent[-1] for arm in arms) if all(arm.spent for arm in arms) else None
    return ProgressInfo(
        cost=cost,
        unit="images" if seconds is None else "seconds",
        arms=arms,
        at=both,
        best_at=() if both is None else tuple(_value_at(arm, arm.best, both) for arm in arms),
        volume_at=() if both is None else tuple(_value_at(arm, arm.volume, both) for arm in arms),
        noun=noun,
    )


def _arm(
    name: str,
    lines: Sequence[Trial],
    cost: str,
    box: tuple[tuple[float, float], tuple[float, float]],
    seconds: Mapping[int, Sequence[float]] | None,
) -> Arm:
    spent, best, volume = [], [], []
    images: dict[int, int] = {}
    turn: dict[int, int] = {}
    points: dict[int, tuple[float, float]] = {}
    accuracies: dict[int, float] = {}
    total = 0.0
    (low, high), (dear, cheap) = box
    for trial in lines:
        number, accuracy = trial.number, trial.accuracy or 0.0
        if images.get(number) == trial.images:
            # Written again with what the search said at its end: no training.
            continue
        if seconds is None:
            total += max(0, trial.images - images.get(number, 0))
        else:
            steps, step = seconds.get(number, ()), turn.get(number, 0)
            total += steps[step] if step < len(steps) else 0.0
            turn[number] = step + 1
        images[number], accuracies[number] = trial.images, accuracy
        thrift = (QUANTITIES[cost].scaled(cost_of(trial, cost)) - dear) / (cheap - dear) if cheap != dear else 1.0
        points[number] = (min(1.0, (accuracy - low) / (high - low)), min(1.0, thrift))
        spent.append(total)
        best.append(max(accuracies.values()))
        volume.append(pareto.hypervolume(list(points.values()), (0.0, 0.0), (True, True)))
    return Arm(name, tuple(spent), tuple(best), tuple(volume), len(points))


def _value_at(arm: Arm, values: Sequence[float], spent: float) -> float:
    reached = [value for value, x in zip(values, arm.spent, strict=True) if x <= spent * (1 + 1e-9)]
    return reached[-1] if reached else 0.0


def draw_progress(info: ProgressInfo) -> Drawing:
    """Two panels over one axis: best accuracy and covered area."""
    data: list[dict[str, Any]] = []
    counted_in = f"{info.noun}s" if info.unit == "images" else info.unit
    looks = (("@front", "solid", "circle"), ("@baseline", "dot", "diamond"))
    for panel, (axis, fmt) in enumerate((("y", ".1%"), ("y2", ".3f"))):
        for arm, (color, dash, symbol) in zip(info.arms, looks, strict=True):
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(arm.spent) < 60 else "lines",
                    "name": arm.name,
                    "x": list(arm.spent),
                    "y": list(arm.best if axis == "y" else arm.volume),
                    "yaxis": axis,
                    "xaxis": "x" if axis == "y" else "x2",
                    "line": {"shape": "hv", "color": color, "dash": dash, "width": 2.2},
                    "marker": {"size": 5, "symbol": symbol},
                    "showlegend": panel == 0,
                    "legendgroup": arm.name,
                    "hovertemplate": f"{arm.name}: %{{y:{fmt}}} after %{{x:,.0f}} {counted_in}<extra></extra>",
                }
            )
    unit = f"training {counted_in} seen" if info.unit == "images" else "seconds of training"
    return {
        "data": data,
        "layout": {
            "grid": {"rows": 2, "columns": 1, "pattern": "independent", "roworder": "top to bottom", "ygap": 0.12},
            "xaxis": {"showticklabels": False, "matches": "x2", "rangemode": "tozero"},
            "xaxis2": {"title": {"text": unit}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "best accuracy"}, "tickformat": percent_ticks([y for arm in info.arms for y in arm.best])},
            "yaxis2": {"title": {"text": "hypervolume"}, "rangemode": "tozero"},
        },
    }


# What the limits cost ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """One limit, and the best accuracy reached within every smaller one."""

    cost: str
    limit: float
    steps: tuple[tuple[float, float], ...]
    """(cost, best accuracy of the networks up to that cost), ascending; where it rises only."""
    best_cost: float
    """What the most accurate network uses."""
    step: float
    """The change that is priced: 10 KiB, or a tenth of the limit where that is smaller or no size."""
    less: float
    """Accuracy lost with ``step`` less: read from the trials."""
    more: float | None
    """Accuracy that ``step`` more would bring by the trend below the limit; None where the limit does not bind or too little is known."""
    more_range: tuple[float, float] | None
    """10th and 90th percentile of ``more`` over resampled trials."""

    @property
    def binds(self) -> bool:
        """True where the most accurate network uses at least nine tenths of the limit."""
        return self.best_cost >= 0.9 * self.limit


@dataclass(frozen=True)
class LimitsInfo:
    """What each limit of the budget costs in accuracy."""

    limits: tuple[Limit, ...]
    networks: int


#: Fewer steps of the staircase than this make no trend.
MIN_STEPS = 4


def limits_info(trials: Sequence[Trial], budget: Budget, *, resamples: int = 200) -> LimitsInfo:
    """What each limit costs, read from the scored trials."""
    limits = []
    networks = 0
    for cost, limit in budget.limits.items():
        # To what is told of them: what is expected of two networks may differ by as little as keeps them in order.
        known = [(cost_of(t, cost), round(t.expected_accuracy or 0.0, 4)) for t in scored(trials, cost)]
        pairs = sorted(pair for pair in known if pair[0] <= limit)
        networks = max(networks, len(pairs))
        if len(pairs) < 2:
            continue
        steps = staircase(pairs)
        step = min(10 * 1024.0, limit / 10) if QUANTITIES[cost].unit == "B" else limit / 10
        best_cost, best = steps[-1]
        within = [accuracy for value, accuracy in steps if value <= limit - step]
        binds = best_cost >= 0.9 * limit
        scaled = QUANTITIES[cost].scaled
        more, spread = (_trend(pairs, limit, step, scaled), None) if binds else (None, None)
        if more is not None:
            spread = _spread(pairs, limit, step, resamples, scaled)
        limits.append(Limit(cost, limit, steps, best_cost, step, best - within[-1] if within else best, more, spread))
    return LimitsInfo(tuple(limits), networks)


def staircase(pairs: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """(cost, best accuracy so far) where it rises; ``pairs`` ascending by cost."""
    steps: list[tuple[float, float]] = []
    for cost, accuracy in pairs:
        if steps and accuracy <= steps[-1][1]:
            continue
        if steps and steps[-1][0] == cost:
            steps.pop()
        steps.append((cost, accuracy))
    return tuple(steps)


def _trend(pairs: Sequence[tuple[float, float]], limit: float, step: float, scaled: Callable[[float], float]) -> float | None:
    # Least squares of the staircase against the cost on its own scale over the upper three quarters; what the next step brings.
    upper = [(scaled(cost), accuracy) for cost, accuracy in staircase(pairs) if cost >= limit / 4]
    if len(upper) < MIN_STEPS:
        return None
    n = len(upper)
    mean_x, mean_y = sum(x for x, _ in upper) / n, sum(y for _, y in upper) / n
    spread = sum((x - mean_x) ** 2 for x, _ in upper)
    if spread == 0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in upper) / spread
    return max(0.0, slope * (scaled(limit + step) - scaled(limit)))


def _spread(
    pairs: Sequence[tuple[float, float]], limit: float, step: float, resamples: int, scaled: Callable[[float], float]
) -> tuple[float, float] | None:
    import random

    rng = random.Random(0)
    values = []
    for _ in range(resamples):
        drawn = sorted(rng.choices(pairs, k=len(pairs)))
        value = _trend(drawn, limit, step, scaled)
        if value is not None:
            values.append(value)
    if len(values) < resamples // 2:
        return None
    values.sort()
    return values[len(values) // 10], values[-1 - len(values) // 10]


def draw_limits(info: LimitsInfo) -> Drawing:
    """A staircase per limit, side by side."""
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"shapes": [], "annotations": [], "showlegend": False}
    layout["grid"] = {"rows": 1, "columns": max(1, len(info.limits)), "pattern": "coupled", "xgap": 0.12}
    for index, one in enumerate(info.limits):
        suffix = "" if index == 0 else str(index + 1)
        xs, ys = [cost for cost, _ in one.steps], [accuracy for _, accuracy in one.steps]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [*xs, max(one.limit, xs[-1])],
                "y": [*ys, ys[-1]],
                "xaxis": f"x{suffix}",
                "yaxis": "y",
                "line": {"shape": "hv", "color": "@front", "width": 2.2},
                "marker": {"size": [7] * len(xs) + [0.1]},
                "fill": "tozeroy",
                "fillcolor": "@wash",
                "text": [f"{percent(y)} with {amount(one.cost, x)}" for x, y in one.steps] + [""],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
        log = QUANTITIES[one.cost].log
        tick_values = ticks(one.cost, xs[0], max(one.limit, xs[-1])) if log else {}
        layout[f"xaxis{suffix}"] = {"type": "log" if log else "linear", "title": {"text": title(one.cost)}, **tick_values}
        layout["shapes"].append({**_limit_line("x", one.limit), "xref": f"x{suffix}"})
    lows = [one.steps[0][1] for one in info.limits]
    highs = [one.steps[-1][1] for one in info.limits]
    if lows:
        gap = max(max(highs) - min(lows), 0.01)
        layout["yaxis"] = {
            "title": {"text": "best accuracy"},
            "tickformat": percent_ticks((0.0, gap)),
            "range": [max(0.0, min(lows) - 0.2 * gap), max(highs) + 0.1 * gap],
        }
    return {"data": data, "layout": layout}


# Which sub-spaces were chosen --------------------------------------------------------------------------


@dataclass(frozen=True)
class SpaceCurve:
    """MACs of the networks that fit, of one (size of input, width)."""

    input: str
    """``48 px``, ``32x20 px``, ``49 frames of 40``."""
    width_mult: float
    share: float
    """Of the drawn networks that fit."""
    mean_macs: float
    quantiles: tuple[float, ...]
    """MACs at evenly spaced shares from 0 to 1."""
    chosen: bool


@dataclass(frozen=True)
class SpacesInfo:
    """The distributions that decide where a search looks."""

    curves: tuple[SpaceCurve, ...]


def spaces_info(rows: Sequence[Mapping[str, Any]]) -> SpacesInfo:
    """From the rows of ``tinynas spaces --budget B --json``; sub-spaces of which nothing fits are left out."""
    return SpacesInfo(
        tuple(
            SpaceCurve(
                subspace_input(row),
                float(row["width_mult"]),
                float(row["share"]),
                float(row["mean_macs"]),
                tuple(float(q) for q in row["macs_quantiles"]),
                bool(row["chosen"]),
            )
            for row in rows
            if row["macs_quantiles"]
        )
    )


def draw_spaces(info: SpacesInfo) -> Drawing:
    """Cumulative curves: the chosen ones in color, the others faint."""
    data: list[dict[str, Any]] = []
    shown: set[bool] = set()
    for curve in sorted(info.curves, key=lambda c: c.chosen):
        n = len(curve.quantiles)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "searched" if curve.chosen else "left out",
                "showlegend": curve.chosen not in shown,
                "x": list(curve.quantiles),
                "y": [i / (n - 1) if n > 1 else 1.0 for i in range(n)],
                "line": {"color": "@front" if curve.chosen else "@faint", "width": 2.2 if curve.chosen else 1, "dash": "solid"},
                "text": [
                    f"<b>{curve.input}, width x{curve.width_mult:g}</b><br>{percent(curve.share, 0)} of its networks fit, "
                    f"{amount('macs', curve.mean_macs)} MACs on average"
                ]
                * n,
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
        shown.add(curve.chosen)
    values = [q for curve in info.curves for q in curve.quantiles] or [1.0]
    return {
        "data": data,
        "layout": {
            "legend": {"itemsizing": "trace"},
            "xaxis": {"type": "log", "title": {"text": "MACs (log scale)"}, **ticks("macs", min(values), max(values))},
            "yaxis": {"title": {"text": "networks that fit, with at most so many"}, "tickformat": ".0%"},
        },
    }
