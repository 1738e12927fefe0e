"""Figures: the numbers behind them are right, and every one of them draws."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from typing import Any

import pytest

from tinynas import api
from tinynas.budget import load_budget
from tinynas.graph import lower
from tinynas.records import Trial
from tinynas.report import figures, search_figures, theme
from tinynas.report.net_figures import draw_confusion, kernel_color

BUDGET = load_budget("stm32f746", ["macs=4000000"])


def trial(number: int, accuracy: float | None, macs: int, *, source: str = "tpe", state: str = "trained", **more: Any) -> Trial:
    scores = {} if accuracy is None else {"accuracy": accuracy}
    costs = {"macs": macs, "sram_bytes": macs // 50, "flash_bytes": macs // 20, "latency_ms": None}
    return Trial(number, more.pop("id", f"net{number}"), state, source, costs=costs, scores=scores, **more)  # type: ignore[arg-type]


def test_pareto_info_finds_fronts_baseline_and_refusals() -> None:
    trials = [
        trial(0, 0.60, 1_000_000),
        trial(1, 0.70, 2_000_000, source="baseline"),
        trial(2, 0.65, 2_500_000),
        trial(3, 0.80, 3_000_000),
        trial(4, None, 9_000_000, state="infeasible"),
        trial(5, 0.99, 100, state="duplicate"),
        trial(6, None, 1_500_000, state="failed"),
        trial(7, 0.69, 1_900_000, source="baseline"),
    ]
    info = figures.pareto_info(trials, BUDGET, picked={"net3"})
    assert info.front == ("net0", "net7", "net1", "net3")
    assert info.baseline_front == ("net7", "net1")
    assert info.refused == (9_000_000,)
    assert info.picked == ("net3",)
    assert info.limit == 4_000_000
    assert [dot.cost for dot in info.dots] == sorted(dot.cost for dot in info.dots)
    assert len(info.dots) == 5
    assert figures.pareto_info(trials, BUDGET, cost="latency_ms").dots == ()


def test_a_network_trained_further_counts_once_with_its_last_score() -> None:
    trials = [trial(0, 0.5, 10, id="a", epochs=1), trial(1, 0.6, 10, id="a", epochs=3)]
    assert [dot.accuracy for dot in figures.pareto_info(trials, BUDGET).dots] == [0.6]


def test_what_is_expected_is_drawn_and_what_was_seen_is_said() -> None:
    short = trial(0, 0.50, 1_000_000, epochs=1)
    long = trial(1, 0.55, 900_000, epochs=8)
    short.scores["expected_accuracy"], long.scores["expected_accuracy"] = 0.62, 0.55
    info = figures.pareto_info([short, long], BUDGET)
    assert info.expected
    assert info.front == ("net1", "net0"), "by what was seen the cheaper one beats the other in both"
    drawn = search_figures.draw_pareto(info)
    texts = [text for trace in drawn["data"] for text in trace.get("text", ())]
    assert any("62.0 % expected (50.0 % after 1 epoch)" in text for text in texts)
    assert any("<b>net1</b>  55.0 % after 8 epochs" in text for text in texts)
    assert drawn["layout"]["yaxis"]["title"]["text"] == "expected validation accuracy"
    assert not figures.pareto_info([trial(0, 0.5, 10)], BUDGET).expected


def test_progress_compares_at_equal_training() -> None:
    history = [
        trial(0, 0.5, 1_000_000, source="baseline", images=100),
        trial(1, 0.6, 1_000_000, images=100),
        trial(1, 0.7, 1_000_000, images=300),
        trial(2, 0.9, 2_000_000, images=100),
        trial(3, 0.55, 1_500_000, source="baseline", images=150),
        trial(4, None, 1_500_000, state="failed"),
    ]
    box = ((0.5, 1.0), (math.log(4e6), math.log(1e6)))
    info = figures.progress_info(history, box=box)
    search, baseline = info.arms
    assert search.spent == (100, 300, 400)
    assert search.best == (0.6, 0.7, 0.9)
    assert baseline.spent == (100, 250)
    assert (info.at, info.best_at) == (250, (0.6, 0.55))
    assert search.networks == 2
    # The box is 1 wide in both: 0.4 of accuracy over all of the cost axis, then 0.4 more over half of it.
    assert search.volume[1] == pytest.approx(0.4)
    assert search.volume[2] == pytest.approx(0.4 + 0.4 * 0.5)
    assert baseline.volume[0] == 0.0


def test_progress_by_seconds_and_with_one_arm_only() -> None:
    history = [trial(0, 0.5, 10, images=100), trial(0, 0.6, 10, images=300), trial(0, 0.6, 10, images=300, state="stopped")]
    info = figures.progress_info(history, seconds={0: [2.0, 5.0]})
    assert info.arms[0].spent == (2.0, 7.0), "what was only marked as stopped was not trained again"
    assert info.at is None
    assert info.unit == "seconds"
    assert figures.progress_info([]).at is None


def test_progress_volume_equals_the_area_counted_by_hand() -> None:
    rng = random.Random(1)
    history = [trial(n, rng.random(), 10 ** rng.randint(3, 6), images=1) for n in range(30)]
    info = figures.progress_info(history, box=((0.0, 1.0), (math.log(1e7), math.log(1e2))))
    grid = 2000
    covered = 0.0
    for step in range(grid):
        cost = 1e7 * (1e2 / 1e7) ** ((step + 0.5) / grid)
        covered += max((t.accuracy or 0.0 for t in history if (t.costs["macs"] or 0.0) <= cost), default=0.0) / grid
    assert info.arms[0].volume[-1] == pytest.approx(covered, abs=2e-3)


def test_limits_price_what_binds_and_say_what_does_not() -> None:
    # Accuracy grows by 10 points with each doubling of MACs; the limit is at 4 M, SRAM is far from its limit.
    trials = [trial(n, 0.1 * math.log2(macs / 1e5), round(macs)) for n, macs in enumerate(1e5 * 1.1**k for k in range(39))]
    info = figures.limits_info(trials, BUDGET)
    by_cost = {one.cost: one for one in info.limits}
    macs = by_cost["macs"]
    assert macs.binds
    assert macs.step == 400_000
    assert macs.more == pytest.approx(0.1 * math.log2(1.1), rel=0.02)
    low, high = macs.more_range or (0, 0)
    assert low <= macs.more <= high
    assert macs.less == pytest.approx(0.1 * math.log2(1.1), abs=0.015)
    sram = by_cost["sram_bytes"]
    assert not sram.binds
    assert (sram.step, sram.less, sram.more) == (10 * 1024, 0.0, None)
    assert figures.limits_info(trials[:1], BUDGET).limits == ()


def test_limits_say_nothing_about_more_where_too_little_is_known() -> None:
    info = figures.limits_info([trial(0, 0.5, 3_900_000), trial(1, 0.6, 3_950_000)], BUDGET)
    (macs,) = (one for one in info.limits if one.cost == "macs")
    assert macs.binds
    assert macs.more is None
    assert macs.less == 0.6


def test_staircase_rises_only() -> None:
    assert search_figures.staircase([(1, 0.5), (2, 0.4), (2, 0.6), (3, 0.6), (4, 0.7)]) == ((1, 0.5), (2, 0.6), (4, 0.7))


@pytest.mark.parametrize("cost", ["macs", "sram_bytes", "latency_ms"])
@pytest.mark.parametrize("low", [3.0, 900.0, 34_000.0, 1.7e6])
@pytest.mark.parametrize("factor", [1.3, 2.0, 8.0, 100.0])
def test_axes_have_three_to_seven_ticks_inside(cost: str, low: float, factor: float) -> None:
    ticks = search_figures.ticks(cost, low, low * factor)
    assert 3 <= len(ticks["tickvals"]) <= 7
    assert all(0.98 * low <= value <= 1.02 * low * factor for value in ticks["tickvals"])
    assert len(set(ticks["ticktext"])) == len(ticks["ticktext"])


NET = api.load_net("mcunet-tiny2")
GRAPH = lower(NET)
COST = api.estimate(NET)


def test_strip_is_the_graph() -> None:
    info = figures.strip_info(GRAPH, COST)
    assert len(info.segments) == len(GRAPH.ops) + 1
    assert (info.segments[0].height, info.segments[0].channels) == (48, 3)
    assert sum(s.macs for s in info.segments) == COST.macs == 1_674_512
    assert [(info.segments[a].name, info.segments[b].name) for a, b in info.residuals] == [
        ("s1.b0.project", "s1.b1.add"),
        ("s2.b0.project", "s2.b1.add"),
        ("s3.b0.project", "s3.b1.add"),
    ]
    assert {s.kernel for s in info.segments if s.kind == "dw"} == {(3, 3), (5, 5)}
    assert len({kernel_color(s) for s in info.segments}) == 4


def test_memory_adds_up_to_the_estimate_and_names_the_peak() -> None:
    info = figures.memory_info(GRAPH, COST, BUDGET)
    assert -(-(info.head + info.tail) // 16) * 16 == COST.sram_bytes  # an arena of full 16 bytes
    assert info.ops[info.peak] == COST.peak_op
    for op in range(len(info.ops)):
        alive = [box for box in info.boxes if box.first <= op <= box.last]
        assert sum(box.size for box in alive) <= info.live[op] <= info.head
        # No two tensors share a byte while both are needed.
        spans = sorted((box.offset, box.offset + box.size) for box in alive)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert all(end <= info.head for _, end in spans)
    assert set(info.at_peak) == {box.name for box in info.boxes if box.first <= info.peak <= box.last}
    assert info.limit == BUDGET.limits["sram_bytes"]


@pytest.mark.parametrize("runtime", ["tflm", "tflm-cmsis-nn", "tinyengine", "stedgeai"])
def test_memory_and_layers_of_every_runtime(runtime: str) -> None:
    cost = api.estimate(NET, runtime=runtime)
    info = figures.memory_info(GRAPH, cost)
    assert max(info.live) <= info.head
    figures.plot(info)
    layers = figures.layers_info(cost)
    assert sum(layer.macs for layer in layers.layers) == layers.macs == cost.macs
    assert sum(layer.weights_bytes for layer in layers.layers) == layers.weights_bytes


def test_layers_name_what_dominates() -> None:
    info = figures.layers_info(COST)
    heaviest = max(COST.layers, key=lambda row: row.macs)
    assert info.heaviest == (heaviest.name, heaviest.macs / COST.macs)
    assert 0 < info.biggest[1] < 1


def test_training_reads_both_sources() -> None:
    csv = "epoch,loss,train_accuracy,val_accuracy\n1,0.7,0.5,0.55\n2,0.5,0.6,0.65\n3,0.4,0.7,0.6\n"
    history = [trial(0, 0.5, 10, epochs=1), trial(0, 0.58, 10, epochs=3), trial(0, 0.58, 10, epochs=3, state="stopped")]
    info = figures.training_info(csv, history, best_epoch=2)
    assert info.val == (0.55, 0.65, 0.6)
    assert info.best == 1
    assert info.proxy == ((1, 0.5), (3, 0.58))
    with_images = figures.training_info(
        csv.replace("\n", ",1000\n").replace("accuracy,1000", "accuracy,images"), [trial(0, 0.5, 10, epochs=4, images=2000)]
    )
    assert with_images.proxy == ((2.0, 0.5),)
    short = figures.training_info(None, history)
    assert short.val == ()
    assert figures.draw(short)["data"][0]["x"] == [1, 3]


def test_confusion_counts_shares_and_worst_mistakes() -> None:
    info = figures.confusion_info([[90, 10, 0], [30, 70, 0], [0, 0, 0]], ["a", "b", "<i>c</i>"], "int8")
    assert info.accuracy == pytest.approx(0.8)
    assert info.balanced_accuracy == pytest.approx(0.8)
    assert info.worst == (("b", "a", 0.3), ("a", "b", 0.1))
    assert info.shares[2] == (0.0, 0.0, 0.0)
    drawing = draw_confusion(info)
    assert drawing["layout"]["xaxis"]["ticktext"][2] == "&lt;i&gt;c&lt;/i&gt;"
    assert "<i>" not in str(drawing)


def test_confusion_of_many_classes_stays_readable() -> None:
    n = 100
    info = figures.confusion_info([[5 if i == j else 0 for j in range(n)] for i in range(n)], [f"class {i}" for i in range(n)], "float")
    drawing = draw_confusion(info)
    assert len(drawing["layout"]["xaxis"]["tickvals"]) <= 25
    assert "texttemplate" not in drawing["data"][0]
    assert info.worst == ()


def test_promises_put_estimated_beside_measured() -> None:
    report = {
        "flash_bytes": {"estimated": 100, "measured": 100},
        "arena_bytes": {"estimated": 50, "measured": 66, "microcontroller_estimated": 40},
        "accuracy": {"float": 0.9, "int8": 0.89, "split": "test"},
        "agreement": 0.99,
    }
    rows = figures.promises_info(report).rows
    assert [row.difference for row in rows if row.measured is not None] == pytest.approx([0, 16, -0.01, -0.01])
    assert [(row.estimated, row.difference) for row in rows if row.measured is None] == [(40, None)]
    assert figures.promises_info({}).rows == ()
    (row,) = figures.promises_info({"agreement": {"overall": 0.97, "per_class": {}}, "accuracy": None}).rows
    assert row.measured == 0.97


ROWS = [{"resolution": 48, "width_mult": 0.5, "share": 0.4, "mean_macs": 2e6, "macs_quantiles": [1e6, 2e6, 3e6], "chosen": True}]
COMPARED = {
    "net": "a",
    "board": "pico",
    "fits": False,
    "runs": True,
    "reasons": [],
    "sram_bytes": 2048,
    "flash_bytes": 1024,
    "latency_ms": None,
    "limits": {"sram_bytes": 1024, "flash_bytes": 2048},
    "binding": "sram_bytes",
    "excess": {"sram_bytes": 1.0, "flash_bytes": -0.5},
}
MEASURED = {name: {"value": value, "low": 0.0, "high": 1.0} for name, value in (("recall", 0.9), ("false_alarms", 0.04))}
SERVED: dict[str, Any] = {
    "auc": 0.95,
    "roc": {"positive": "<b>", "false_alarms": [0.0, 0.5, 1.0], "recall": [0.2, 0.9, 1.0]},
    "recall": 0.95,
    "false_alarms": 0.1,
    "operating_point": {"measured": MEASURED},
    "subsets": {
        "light: <i>": {"n": 40, "accuracy": 0.75, "accuracy_interval": [0.6, 0.86], "recall": None, "recall_interval": None},
        "light: dark": {"n": 9, "accuracy": 1.0, "accuracy_interval": [0.7, 1.0], "recall": 0.5, "recall_interval": [0.2, 0.8]},
    },
}
INFOS = {
    "pareto": lambda: figures.pareto_info([trial(0, 0.6, 10**6), trial(1, 0.7, 2 * 10**6)], BUDGET, picked={"net0"}),
    "pareto of nothing": lambda: figures.pareto_info([], BUDGET),
    "progress": lambda: figures.progress_info([trial(0, 0.6, 10**6, images=5), trial(1, 0.7, 10**6, source="baseline", images=5)]),
    "limits": lambda: figures.limits_info([trial(n, 0.6 + n / 100, (n + 1) * 10**5) for n in range(9)], BUDGET),
    "limits of nothing": lambda: figures.limits_info([], BUDGET),
    "strip": lambda: figures.strip_info(GRAPH, COST),
    "memory": lambda: figures.memory_info(GRAPH, COST, BUDGET),
    "layers": lambda: figures.layers_info(COST),
    "training": lambda: figures.training_info("epoch,loss,train_accuracy,val_accuracy\n1,0.7,0.5,0.55\n"),
    "confusion": lambda: figures.confusion_info([[3, 1], [0, 4]], ["a", "b"], "float"),
    "promises": lambda: figures.promises_info({"flash_bytes": {"estimated": 1, "measured": 1}}),
    "compare": lambda: figures.compare_info([COMPARED, {**COMPARED, "net": "<b>", "runs": False, "reasons": ["no"]}], ["a", "<b>"]),
    "curve": lambda: figures.curve_info(SERVED),
    "parts": lambda: figures.parts_info(SERVED),
    "spaces": lambda: figures.spaces_info([*ROWS, {**ROWS[0], "chosen": False}, {**ROWS[0], "macs_quantiles": []}]),
}


def test_a_curve_shows_what_decides() -> None:
    info = figures.curve_info(SERVED)
    assert info is not None and info.chosen == (0.04, 0.9) and info.usual == (0.1, 0.95) and info.area == 0.95
    drawing = figures.draw(info)
    assert [trace["name"] for trace in drawing["data"]] == ["int8 file", "chance", "largest output", "chosen threshold"]
    assert (drawing["data"][3]["x"], drawing["data"][3]["y"]) == ([0.04], [0.9])
    assert "&lt;b&gt;" in drawing["layout"]["yaxis"]["title"]["text"]
    plain = figures.curve_info({**SERVED, "operating_point": None, "recall": None})
    assert plain is not None and (plain.chosen, plain.usual) == (None, None) and len(figures.draw(plain)["data"]) == 2
    assert figures.curve_info({}) is None and figures.parts_info({"subsets": {}}) is None


def test_parts_have_a_bar_a_figure_with_its_interval() -> None:
    info = figures.parts_info(SERVED)
    assert info is not None and info.images == (40, 9)
    assert [(bars.figure, bars.parts) for bars in info.bars] == [("accuracy", ("light: <i>", "light: dark")), ("recall", ("light: dark",))]
    accuracy, recall = figures.draw(info)["data"]
    assert accuracy["error_x"]["array"] == pytest.approx([0.11, 0]) and accuracy["error_x"]["arrayminus"] == pytest.approx([0.15, 0.3])
    assert recall["y"] == [1] and "&lt;i&gt;" in accuracy["customdata"][0][0]


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("name", INFOS)
def test_every_figure_draws_as_a_plotly_object(name: str, mode: theme.Mode) -> None:
    import plotly.graph_objects as go

    figure = figures.plot(INFOS[name](), mode=mode)
    assert isinstance(figure, go.Figure)
    text = figure.to_json()
    assert '"@' not in text, "a colour name was left unresolved"


def _luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _contrast(a: str, b: str) -> float:
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_marks_stand_out_from_the_ground(mode: theme.Mode) -> None:
    palette = theme.PALETTES[mode]
    for ground in ("paper", "ground"):
        for name in ("ink", "muted", "limit", "picked", "good", "front"):
            assert _contrast(palette[name], palette[ground]) >= 4.5, f"{name} on {ground}"
        assert _contrast(palette["baseline"], palette[ground]) >= 3.0
    for cell in ("low", "full", "over", "beyond"):
        assert _contrast(palette["ink"], palette[cell]) >= 4.5, f"ink on {cell}"
    assert set(theme.PALETTES["light"]) == set(theme.PALETTES["dark"])


def test_sizes_that_differ_are_said_as_height_by_width() -> None:
    arch = NET.model_copy(update={"height": 40, "width": 24})
    first, *blocks = arch.blocks
    arch = arch.model_copy(update={"blocks": (first.model_copy(update={"kernel": (3, 5), "stride": (1, 2)}), *blocks)})
    graph = lower(arch)
    info = figures.strip_info(graph, api.estimate(graph))
    by_name = {segment.name: segment for segment in info.segments}
    depthwise = by_name["s0.b0.dw"]
    assert (depthwise.kernel, depthwise.stride, depthwise.height, depthwise.width) == ((3, 5), (1, 2), 20, 6)
    drawn = figures.draw(info)
    texts = {text for trace in drawn["data"] for text in trace["text"]}
    assert any(text.startswith("<b>s0.b0.dw</b>  3x5 depthwise convolution, stride 1x2<br>20x6 px, 12 channels") for text in texts)
    assert any(text.startswith("<b>input</b>  input<br>40x24 px") for text in texts)
    assert drawn["layout"]["yaxis"]["title"]["text"] == "pixels, mean of height and width"
    assert "3x5" in {trace["name"] for trace in drawn["data"]}
    assert kernel_color(depthwise) == kernel_color(by_name["s3.b0.dw"])
    looks = {trace["name"]: (trace["marker"]["color"], trace["marker"].get("pattern", {}).get("shape", "")) for trace in drawn["data"]}
    assert looks["3x5"] == (looks["5x5"][0], "/") and looks["5x5"][1] == "", "one color, told apart by hatching"
    assert len(set(looks.values())) == len(looks)
    square = figures.draw(figures.strip_info(GRAPH, COST))
    assert square["layout"]["yaxis"]["title"]["text"] == "pixels a side"


def test_curves_of_spaces_say_height_by_width() -> None:
    row = {"width_mult": 0.5, "share": 0.5, "mean_macs": 1e6, "macs_quantiles": [1e6, 2e6], "chosen": True}
    info = figures.spaces_info([{**row, "resolution": [32, 20]}, {**row, "resolution": 48}])
    assert [curve.input for curve in info.curves] == ["32x20 px", "48 px"]
    texts = [trace["text"][0] for trace in figures.draw(info)["data"]]
    assert texts[0].startswith("<b>32x20 px, width x0.5</b>")


@pytest.mark.parametrize(("share", "lines", "text"), [(1.5, 1, "limit "), (1.75, 0, ", 1.8 times what is needed"), (0.5, 1, "limit ")])
def test_a_limit_far_above_the_arena_is_words_not_a_line(share: float, lines: int, text: str) -> None:
    used = COST.head_bytes + COST.tail_bytes  # what is drawn; an arena of full 16 bytes is set aside for it
    info = dataclasses.replace(figures.memory_info(GRAPH, COST), limit=share * used)
    drawn = figures.draw(info)["layout"]
    assert len(drawn["shapes"]) == lines
    assert text in drawn["annotations"][-1]["text"]
    reach = 1.27 * max(used, share * used) if lines else 1.45 * used
    assert drawn["yaxis"]["range"] == [0, pytest.approx(reach / 1024)]
    peak, limit = drawn["annotations"][0], drawn["annotations"][-1]
    line_of_words = 0.09 * reach / 1024  # 15 of 170 pixels
    under = limit["y"] - line_of_words if limit["yanchor"] == "top" else limit["y"]
    assert not (under < peak["ay"] + line_of_words and peak["ay"] < under + line_of_words), "their words lie over each other"


def test_memory_of_a_network_that_hears_has_its_front_end_in_it() -> None:
    net = api.load_net("ds-cnn-kws")
    budget = load_budget("stm32l4r5")
    cost = api.estimate(net, budget)
    info = figures.memory_info(lower(net), cost, budget)
    assert cost.front_end is not None and info.front_end == cost.front_end.sram_bytes
    assert info.head + info.tail + info.front_end <= cost.values()["sram_bytes"]
    drawn = figures.draw(info)
    bands = {trace["name"]: trace for trace in drawn["data"] if trace["type"] == "scatter"}
    top = (info.head + info.tail + info.front_end) / 1024
    assert max(bands["the front end"]["y"]) == top and min(bands["the front end"]["y"]) == max(bands["the runtime's own structures"]["y"])
    times = budget.limits["sram_bytes"] / 1024 / top
    assert f"{times:.1f} times what is needed" in drawn["layout"]["annotations"][-1]["text"]
