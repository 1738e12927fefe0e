"""Fronts and hypervolumes against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas import pareto

coordinate = st.integers(0, 6).map(float)
points_2d = st.lists(st.tuples(coordinate, coordinate), max_size=12)
points_3d = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=7)


def brute_front(points: list[tuple[float, ...]], maximize: tuple[bool, ...]) -> set[tuple[float, ...]]:
    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        signed = [(x, y) if up else (-x, -y) for x, y, up in zip(a, b, maximize, strict=True)]
        return all(x >= y for x, y in signed) and any(x > y for x, y in signed)

    return {p for p in points if not any(beats(q, p) for q in points)}


@given(points_3d, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_front_is_what_nothing_dominates(points: list[tuple[float, ...]], maximize: tuple[bool, ...]) -> None:
    chosen = pareto.front(points, maximize)
    assert chosen == sorted(chosen)
    assert {points[i] for i in chosen} == brute_front(points, maximize)
    assert len({points[i] for i in chosen}) == len(chosen), "equal points are named once"


def test_the_knee_is_farthest_from_the_chord() -> None:
    # Scaled to 0..1, (accuracy, small cost): (0, 1), (0.5, 0.9), (0.8, 0.4), (1, 0). The sums 1, 1.4, 1.2, 1 less 1 are the distances
    # from the chord times the root of 2.
    front = [(0.5, 100.0), (0.7, 200.0), (0.82, 700.0), (0.9, 1100.0)]
    assert pareto.knee(front, (True, False)) == 1
    turned = [(cost, -accuracy) for accuracy, cost in front]
    assert pareto.knee(turned, (False, False)) == 1, "whichever way is better"
    assert pareto.knee([*front, (math.nan, 1.0)], (True, False)) == 1, "unknown figures take no part"
    # With a third objective that all share, nothing changes; with one that tells, it does.
    assert pareto.knee([(*point, 5.0) for point in front], (True, False, True)) == 1
    assert pareto.knee([(*point, float(i == 2)) for i, point in enumerate(front)], (True, False, True)) == 2


def test_the_knee_of_small_fronts() -> None:
    assert pareto.knee([], (True, False)) is None
    assert pareto.knee([(math.nan, 1.0)], (True, False)) is None
    assert pareto.knee([(0.5, 3.0)], (True, False)) == 0
    assert pareto.knee([(0.5, 3.0), (0.6, 4.0)], (True, False)) == 0, "both ends of a chord are as far from it: the first counts"
    assert pareto.knee([(0.3, 0.7), (0.1, 0.1), (0.2, 0.4)], (True, False)) == 0, "on a straight line all are"


@given(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=12))
def test_the_knee_is_the_farthest_by_geometry_too(points: list[tuple[float, ...]]) -> None:
    front = [points[i] for i in pareto.front(points, (True, False))]
    index = pareto.knee(front, (True, False))
    assert index is not None
    (a, b), (c, d) = min(front), max(front)
    # The chord from (a, b) to (c, d), in units of its own extent; the farther to the better side, the larger.
    width, height = (c - a) or 1.0, (d - b) or 1.0
    distances = [((x - a) / width - (y - b) / height) for x, y in front]
    assert distances[index] == pytest.approx(max(distances))


@given(points_2d)
def test_ranks_peel_fronts(points: list[tuple[float, ...]]) -> None:
    maximize = (True, False)
    ranks = pareto.ranks(points, maximize)
    left = list(range(len(points)))
    rank = 0
    while left:
        layer = brute_front([points[i] for i in left], maximize)
        assert {i for i in left if ranks[i] == rank} == {i for i in left if points[i] in layer}
        left = [i for i in left if points[i] not in layer]
        rank += 1


@settings(max_examples=60)
@given(points_3d)
def test_hypervolume_counts_unit_cells(points: list[tuple[float, ...]]) -> None:
    # On an integer grid the volume is the number of unit cells that some point covers.
    reference = (7.0, 7.0, 7.0)
    cells = sum(
        any(all(x <= cell for x, cell in zip(point, corner, strict=True)) for point in points)
        for corner in itertools.product(range(7), repeat=3)
    )
    assert pareto.hypervolume(points, reference, (False, False, False)) == pytest.approx(cells)


@given(points_2d)
def test_hypervolume_in_two_dimensions_and_both_directions(points: list[tuple[float, ...]]) -> None:
    cells = sum(any(point[0] > x and point[1] <= y for point in points) for x, y in itertools.product(range(7), repeat=2))
    assert pareto.hypervolume(points, (0.0, 7.0), (True, False)) == pytest.approx(cells)


def test_hypervolume_is_that_of_the_front() -> None:
    rng = np.random.default_rng(0)
    points = [tuple(row) for row in rng.random((200, 2))]
    chosen = [points[i] for i in pareto.front(points, (True, False))]
    assert pareto.hypervolume(chosen, (0.0, 1.0), (True, False)) == pytest.approx(pareto.hypervolume(points, (0.0, 1.0), (True, False)))


def test_points_beyond_the_reference_cover_nothing() -> None:
    assert pareto.hypervolume([(0.5, 2.0), (-1.0, 0.5)], (0.0, 1.0), (True, False)) == 0.0


def test_figures_that_are_not_finite_take_no_part() -> None:
    points = [(math.nan, 1.0), (0.5, math.inf), (0.4, 1.0)]
    assert pareto.front(points, (True, False)) == [2]
    assert pareto.ranks(points, (True, False)) == [-1, -1, 0]
    assert pareto.hypervolume(points, (0.0, 2.0), (True, False)) == pytest.approx(0.4)


def test_empty_and_lengths() -> None:
    assert pareto.front([], (True,)) == []
    assert pareto.hypervolume([], (0.0,), (True,)) == 0.0
    with pytest.raises(ValueError, match="coordinates"):
        pareto.hypervolume([(1.0, 1.0)], (0.0,), (True, False))
    with pytest.raises(ValueError, match="zip"):
        pareto.front([(1.0, 2.0), (1.0,)], (True, True))
