"""Metrics: by hand, and by counting pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas import metrics


def test_confusion_counts_true_rows_and_predicted_columns() -> None:
    assert metrics.confusion(np.array([0, 1, 0, 2]), np.array([0, 1, 1, 2]), 3) == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_metrics_by_hand() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 1, 1, 2, 0])
    table = metrics.confusion(truth, predicted, 3)
    assert table == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert metrics.accuracy(table) == 4 / 6
    assert metrics.balanced_accuracy(table) == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert metrics.auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert metrics.auc(np.array([0, 1, 0, 1]), np.zeros(4)) == 0.5, "ties count half"
    assert metrics.auc(np.array([1, 1]), np.zeros(2)) is None
    brute = np.random.default_rng(0)
    labels, scores = brute.integers(0, 2, 80), brute.integers(0, 9, 80).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels == 1] for b in scores[labels == 0]]
    assert metrics.auc(labels, scores) == pytest.approx(np.mean(pairs))
    found = metrics.agreement(np.array([0, 1]), np.array([0, 0]), np.array([0, 0]), ("a", "b"))
    assert found == {"overall": 0.5, "per_class": {"a": 0.5, "b": None}}


def test_softmax_by_hand_and_of_large_logits() -> None:
    found = metrics.softmax(np.array([[0.0, np.log(3.0)], [1000.0, 1000.0]]))
    assert found == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]))


def test_an_area_over_several_classes_is_the_mean_of_those_that_occur() -> None:
    truth, scores = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0], [0.1, 0.9, 0.0]])
    # class 0: (0.9, 0.2) against (0.3, 0.1): 3 of 4 pairs; class 1: (0.7, 0.9) against (0.1, 0.8): 3 of 4; class 2: none
    assert metrics.auc(truth, scores) == 0.75


@pytest.mark.parametrize("figure", [metrics.accuracy, metrics.balanced_accuracy])
def test_without_predictions_there_is_no_figure(figure: object) -> None:
    assert callable(figure)
    with pytest.raises(ValueError, match="no predictions"):
        figure([[0, 0], [0, 0]])


def test_smoothing_and_detections_by_hand() -> None:
    scores = np.array([0.0, 1.0, 1.0, 0.0, 0.2, 0.9])
    assert metrics.moving_average(scores, 2).tolist() == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.1, 0.55])
    assert metrics.moving_average(scores, 9).tolist() == pytest.approx([0, 1 / 2, 2 / 3, 2 / 4, 2.2 / 5, 3.1 / 6])
    assert metrics.moving_average(np.stack([scores, -scores], 1), 2)[:, 1].tolist() == pytest.approx([0.0, -0.5, -1.0, -0.5, -0.1, -0.55])
    times = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    assert metrics.detections(scores, times, 0.9, 0.0) == [0.5, 1.0, 2.5]
    assert metrics.detections(scores, times, 0.9, 1.0) == [0.5, 2.5]
    assert metrics.detections(scores, times, 1.0, 0.5) == [0.5, 1.0]


def test_events_met_and_missed_by_hand() -> None:
    events = [(1.0, 2.0), (5.0, 6.0), (9.0, 9.5)]
    assert metrics.count_stream([1.5, 1.8, 4.0, 6.4], events, late=0.5) == metrics.StreamCount(events=3, missed=1, false_alarms=1)
    assert metrics.count_stream([6.6, 9.0], events, late=0.5) == metrics.StreamCount(3, 2, 1)
    assert metrics.count_stream([], events, 1.0) == metrics.StreamCount(3, 3, 0)
    assert metrics.StreamCount(3, 2, 1) + metrics.StreamCount(1, 0, 4) == metrics.StreamCount(4, 2, 5)


# how well a share is known -----------------------------------------------------------------------------


def test_wilsons_interval_by_hand() -> None:
    # z = 1.959964, z^2 = 3.841459; 8 of 10: (8 + 1.920729 -+ sqrt(3.841459 * (8*2/10 + 0.960365))) / 13.841459
    low, high = metrics.wilson(8, 10)
    assert low == pytest.approx((9.920729 - math.sqrt(3.841459 * 2.560365)) / 13.841459, abs=1e-6)
    assert (low, high) == pytest.approx((0.49016, 0.94332), abs=1e-4)
    assert metrics.wilson(0, 20) == pytest.approx((0, 3.841459 / 23.841459)), "without a hit: z^2 / (n + z^2)"
    assert metrics.wilson(20, 20)[1] == 1.0
    for hits, n in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="is no share"):
            metrics.wilson(hits, n)


@given(st.integers(1, 400), st.data())
@settings(max_examples=60, deadline=None)
def test_wilsons_bounds_are_the_shares_from_which_the_score_test_just_differs(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = metrics.wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    assert metrics.wilson(n - hits, n) == pytest.approx((1 - high, 1 - low)), "misses mirror hits"
    for bound in {low, high} - {0.0, 1.0}:  # (p - q)^2 = z^2 q (1 - q) / n defines it
        assert (hits / n - bound) ** 2 == pytest.approx(3.8414588 * bound * (1 - bound) / n)


def test_fishers_test_by_hand() -> None:
    # Fisher's tea: 4 cups each, 3 right. Of 70 draws 1, 16, 36, 16, 1 have 0..4: those no likelier than 16 are 1 + 16 + 16 + 1
    assert metrics.fisher(metrics.Share(3, 4), metrics.Share(1, 4)) == pytest.approx(34 / 70)
    assert metrics.fisher(metrics.Share(4, 4), metrics.Share(0, 4)) == pytest.approx(2 / 70)
    assert metrics.fisher(metrics.Share(2, 4), metrics.Share(2, 4)) == 1.0


@given(st.integers(1, 30), st.integers(1, 30), st.data())
@settings(max_examples=40, deadline=None)
def test_fishers_test_in_logarithms_is_that_in_whole_numbers(a: int, b: int, data: st.DataObject) -> None:
    one = metrics.Share(data.draw(st.integers(0, a)), a)
    other = metrics.Share(data.draw(st.integers(0, b)), b)
    exact = metrics.fisher(one, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_EXACT", 0)
        assert metrics.fisher(one, other) == pytest.approx(exact)
    assert metrics.fisher(other, one) == pytest.approx(exact)
    assert 0 < exact <= 1


def test_holms_correction_by_hand() -> None:
    # sorted 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5 * 1: and none below the one before it
    assert metrics.holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert metrics.holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert metrics.holm([0.7, 0.9]) == [1.0, 1.0]
    assert metrics.holm([]) == []


def test_recall_and_false_alarms_by_hand() -> None:
    truth, said = np.array([True, True, True, False, False]), np.array([True, True, False, True, False])
    assert metrics.recall(truth, said) == metrics.Share(2, 3)
    assert metrics.false_alarms(truth, said) == metrics.Share(1, 2)
    assert metrics.recall(~truth[:3], said[:3]) is None and metrics.false_alarms(truth[:3], said[:3]) is None
    found = metrics.Share(2, 3).to_json()
    assert (found["value"], found["hits"], found["of"]) == (2 / 3, 2, 3) and found["low"] < 2 / 3 < found["high"]


def test_top_counts_classes_that_are_better() -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.5, 0.3, 0.2], [0.2, 0.2, 0.2]])
    assert metrics.top(np.array([2, 2, 1]), scores, 1) == metrics.Share(0, 3)
    assert metrics.top(np.array([2, 2, 1]), scores, 2) == metrics.Share(2, 3), "of equal scores the lower number goes first"
    assert metrics.top(np.array([2, 2, 2]), scores, 3) == metrics.Share(3, 3)


def test_a_curve_by_hand() -> None:
    positive, scores = np.array([True, True, False, False]), np.array([3.0, 2.0, 2.0, 1.0])
    alarms, found, levels = metrics.roc(positive, scores)
    assert levels == [3, 2, 1, -math.inf]
    assert found == [0, 0.5, 1, 1] and alarms == [0, 0, 0.5, 1], "above 3: none; above 2: the first; above 1: three of them"
    area = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(alarms, alarms[1:], found, found[1:], strict=False))
    assert area == metrics.auc(positive.astype(np.int64), scores) == 0.875
    with pytest.raises(ValueError, match="both classes"):
        metrics.roc(np.array([True]), np.array([1.0]))
