"""Who is served how well: parts and their gaps by hand, thresholds for a rate of false alarms, and both in the firmware's own code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from data_cases import make_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas import metrics
from tinynas.data import DataSet, open_data
from tinynas.data.subsets import FEWEST, gap_report, has_parts, splits_for, subset_report, worst_accuracy
from tinynas.errors import DataError, UserError
from tinynas.export.facts import Grid, ModelFacts
from tinynas.export.folder import Decision
from tinynas.export.judge import Rule
from tinynas.export.operating import check_wished, choose
from tinynas.export.served import Audience

TWO = Rule(("no", "yes"), (0, 1), "")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """200 test images of two classes by turns; the first 100 dark, the others bright; of every tenth nothing is said."""
    root = tmp_path_factory.mktemp("served")
    opened = open_data(make_folder(root / "set", {"no": 20, "yes": 20}), cache_dir=root / "cache")
    records = (opened.records * 5)[:200]
    known = np.arange(200) % 10 != 9
    dark = np.where(known, np.arange(200) < 100, -1).astype(np.int8)
    bright = np.where(known, np.arange(200) >= 100, -1).astype(np.int8)
    return replace(
        opened,
        records=records,
        targets=np.arange(200) % 2,
        members={"train": np.arange(200), "val": np.arange(200), "test": np.arange(200)},
        attributes={"light: dark": dark, "light: bright": bright},
    )


# parts ---------------------------------------------------------------------------------------------------


def test_parts_by_hand(data: DataSet) -> None:
    said = data.targets.copy()
    said[1:61:2] = 0  # of the dark 50 of class yes 30 are missed: of those 24 in places ending 1, 3, 5, 7
    said[100:104:2] = 1  # two of the bright ones of class no are taken for yes
    report = subset_report(data, {"test": said})
    dark, bright = report["light: dark"], report["light: bright"]
    assert (dark["group"], dark["part"], dark["n"], bright["n"]) == ("light", "dark", 90, 90)
    assert (dark["recall_n"], dark["false_alarms_n"]) == (40, 50), "places that end in 9 are of class yes"
    assert dark["recall"] == 16 / 40 and dark["recall_interval"] == list(metrics.wilson(16, 40))
    assert dark["false_alarms"] == 0 and dark["false_alarms_interval"] == list(metrics.wilson(0, 50))
    assert dark["accuracy"] == 66 / 90 and bright["accuracy"] == 88 / 90 and bright["false_alarms"] == 2 / 50
    assert dark["behind"] == pytest.approx(100 * 22 / 90) and bright["behind"] == 0
    assert worst_accuracy(report) == 66 / 90
    assert "f1" not in dark and has_parts(data) and splits_for(data, "test") == ("test",)
    gaps = {gap["figure"]: gap for gap in gap_report(report)}
    assert {name: (gap["best"], gap["worst"], gap["more_than_noise"]) for name, gap in gaps.items()} == {
        "accuracy": ("bright", "dark", True),
        "recall": ("bright", "dark", True),
        "false_alarms": ("dark", "bright", False),
    }
    assert gaps["recall"]["points"] == pytest.approx(60)
    # Holm: of the three the least likely counts three times, the likeliest once
    assert gaps["recall"]["p"] == pytest.approx(3 * metrics.fisher(metrics.Share(16, 40), metrics.Share(40, 40)))
    assert gaps["false_alarms"]["p"] == pytest.approx(metrics.fisher(metrics.Share(0, 50), metrics.Share(2, 50)))


def test_more_classes_have_accuracies_alone_and_small_parts_decide_nothing(data: DataSet) -> None:
    three = replace(data, labels=("a", "b", "c"))
    report = subset_report(three, {"test": data.targets})
    assert report["light: dark"]["recall"] is None and report["light: dark"]["recall_n"] == 0
    assert {gap["figure"] for gap in gap_report(report)} == {"accuracy"}
    few = {name: {"n": n, "accuracy": accuracy} for name, n, accuracy in (("x", FEWEST - 1, 0.1), ("y", FEWEST, 0.5), ("z", 90, 0.9))}
    assert worst_accuracy(few) == 0.5 and worst_accuracy({"x": few["x"]}) is None
    plain = replace(data, attributes={})
    assert not has_parts(plain)
    with pytest.raises(DataError, match="have no attributes"):
        subset_report(plain, {"test": data.targets})
    with pytest.raises(DataError, match="no parts can be made"):
        subset_report(replace(data, attributes={"near": data.attributes["light: dark"]}), {"test": data.targets})


# thresholds ----------------------------------------------------------------------------------------------


def facts(scale: float = 0.25, zero_point: int = 3, dtype: Any = "int8") -> ModelFacts:
    return ModelFacts((8, 8, 3), "int8", 1.0, 0, 2, dtype, scale, zero_point, ())


def point_of(elements: np.ndarray, truth: np.ndarray, wished: float, positive: int = 1, **more: Any) -> Any:
    known = facts(**more)
    real = (elements.astype(np.float64) - known.output_zero_point) * known.output_scale
    rule = TWO if elements.shape[1] == 2 else Rule(("no", "yes"), (0, 1), "", threshold=0.0)
    return choose(rule, real, truth, positive=positive, wished=wished, split="val", facts=known, last="FULLY_CONNECTED"), real


def test_a_threshold_by_hand() -> None:
    # differences yes - no: of class no -5, 1, 4, 10; of class yes 2, 8, 12
    differences, truth = np.array([-5, 1, 4, 10, 2, 8, 12]), np.array([0, 0, 0, 0, 1, 1, 1])
    elements = np.stack([np.zeros(7, np.int8), differences], 1)
    point, real = point_of(elements, truth, 0.25)  # one of four may be above: the threshold is over 4, half way to 8
    assert point.raw == 6 and point.rule.threshold == 6.5 * 0.25 and point.rule.yes == 1
    assert (point.recall, point.false_alarms) == (metrics.Share(2, 3), metrics.Share(1, 4))
    assert point.probability == pytest.approx(1 / (1 + np.exp(-1.625)))
    found = point.to_json()
    assert (found["of"], found["raw"], found["positive"], found["smallest"]) == ("difference of outputs", 6, "yes", 0.25)
    assert found["expected"]["recall"]["value"] == 2 / 3
    measured = point.measured(real, truth, "test")
    assert measured["split"] == "test" and measured["accuracy"]["value"] == 5 / 7 and measured["false_alarms"]["hits"] == 1
    turned, _ = point_of(elements, truth, 0.34, positive=0)  # for no, differences turned round: one of -12, -8, -2 may be above
    assert (
        turned.raw == -6
        and turned.recall == metrics.Share(3, 4)
        and turned.rule.positive == "no"
        and turned.false_alarms == metrics.Share(1, 3)
    )


def test_a_single_output_has_its_element_as_threshold() -> None:
    elements, truth = np.array([[-20], [4], [9], [30]], np.int8), np.array([0, 0, 1, 1])
    point, _ = point_of(elements, truth, 0.5)  # one of two may be above: over -20, half way to 4
    assert point.raw == -8 and point.rule.threshold == pytest.approx((-8 + 0.5 - 3) * 0.25) and point.rule.single
    assert point.to_json()["of"] == "output"
    with pytest.raises(DataError, match="the model's output speaks of yes"):
        point_of(elements, truth, 0.5, positive=0)


@given(st.lists(st.tuples(st.integers(-128, 127), st.integers(-128, 127), st.booleans()), min_size=6, max_size=60), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_no_threshold_finds_more_at_the_wished_rate(rows: list[tuple[int, int, bool]], tenths: int) -> None:
    elements = np.array([(no, yes) for no, yes, _ in rows], np.int8)
    truth = np.array([positive for _, _, positive in rows]).astype(np.int64)
    wished = tenths / 10
    negatives = int((truth == 0).sum())
    if negatives in (0, len(truth)) or wished * negatives < 1:
        return
    point, real = point_of(elements, truth, wished)
    margin = elements[:, 1].astype(int) - elements[:, 0]
    best = max(
        int((margin[truth == 1] > cut).sum()) for cut in range(-256, 256) if 10 * (margin[truth == 0] > cut).sum() <= tenths * negatives
    )
    assert point.recall.hits == best and 10 * point.false_alarms.hits <= tenths * negatives
    decision = point.decision()
    assert [decision.says(row) for row in elements] == point.rule.predict(real).tolist(), "whole numbers and real ones say the same"


def test_floats_have_a_threshold_between_two_answers() -> None:
    truth = np.array([0, 0, 1])
    real = np.array([[0.0, 1.0], [0.0, 1.5], [0.0, 2.5]])
    point = choose(TWO, real, truth, positive=1, wished=0.5, split="val", facts=facts(dtype="float32"), last="SOFTMAX")
    assert point.raw is None and point.rule.threshold == 1.25 and point.probability == 1.0
    assert point.decision().literal == "1.25e+00f"


@pytest.mark.parametrize(
    ("wished", "labels", "positive", "negatives", "words"),
    [
        (0.0, ("no", "yes"), 1, 100, "is no share"),
        (1.0, ("no", "yes"), 1, 100, "is no share"),
        (0.05, ("a", "b", "c"), None, 0, "has 3 classes; a threshold is between two"),
        (0.05, ("no", "yes"), 1, 19, r"holds 19 of class no: the smallest rate that they can tell is 0\.0526 \(1 of 19\)"),
        (0.05, ("no", "yes"), 0, 0, "holds 0 of class yes: they tell none"),
    ],
)
def test_a_rate_that_cannot_be_told(wished: float, labels: tuple[str, ...], positive: int | None, negatives: int, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        check_wished(wished, "set", labels, positive, negatives)
    assert caught.value.hint
    check_wished(0.05, "set", ("no", "yes"), 1, 20)


def test_an_audience_judges_parts_as_the_threshold_decides(data: DataSet) -> None:
    rng = np.random.default_rng(0)
    elements = rng.integers(-20, 20, (200, 2)) + 12 * np.stack([1 - data.targets, data.targets], 1)
    real = (elements - 3) * 0.25
    asked: list[str] = []

    def answers(name: str) -> np.ndarray:
        asked.append(name)
        return real

    plain = Audience(data)
    assert plain.figures(TWO, real, None, answers)["subsets_by"] == "largest output" and asked == []
    point = choose(TWO, real, data.targets, positive=1, wished=0.02, split="val", facts=facts(), last="FULLY_CONNECTED")
    found = Audience(data, false_alarms=0.02).figures(TWO, real, point, answers)
    assert found["subsets_by"] == "threshold" and asked == [], "the test is answered once"
    assert found["subsets"] == subset_report(data, {"test": point.rule.predict(real)})
    assert found["operating_point"]["measured"]["false_alarms"]["value"] <= 0.02
    area = np.trapezoid(found["roc"]["recall"], found["roc"]["false_alarms"])
    assert area == pytest.approx(metrics.auc(data.targets, TWO.margin(real, 1)), abs=0.01)
    assert "subsets" not in Audience(replace(data, attributes={})).figures(TWO, real, None, answers)


def test_top_five_of_more_than_ten_classes() -> None:
    outputs = np.tile(np.arange(11.0), (4, 1))
    truth = np.array([10, 6, 5, 0])
    found = Rule(tuple("abcdefghijk"), tuple(range(11)), "").score(outputs, truth)
    assert found["accuracy"] == 0.25 and found["top5"] == 0.5 and found["top5_interval"] == list(metrics.wilson(2, 4))
    assert "top5" not in Rule(tuple("abcdefghij"), tuple(range(10)), "").score(outputs[:, :10], truth % 10)


def test_grids_are_those_of_the_file() -> None:
    assert facts().score_grid == Grid(0.25, 3, "int8")
    assert Decision(1, 6, ("why",)).says(np.array([0, 6])) == 0 and Decision(1, 6, ("why",)).says(np.array([0, 7])) == 1
    assert Decision(0, -2, ("why",)).says(np.array([0, 1])) == 0 and Decision(0, -2, ("why",)).says(np.array([0, 2])) == 1
