"""Metrics: by hand, and by counting pairs."""

from __future__ import annotations

import numpy as np
import pytest

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
