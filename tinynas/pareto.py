"""Pareto fronts and hypervolumes of plain numbers.

A point is a sequence of floats; ``maximize`` says for each coordinate which way is better. Points with a
coordinate that is not finite are never on a front and cover no volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = Sequence[float]


def dominates(a: Point, b: Point, maximize: Sequence[bool]) -> bool:
    """True where ``a`` is at least as good as ``b`` everywhere and better somewhere."""
    better = False
    for x, y, up in zip(a, b, maximize, strict=True):
        if x == y:
            continue
        if (x > y) != up:
            return False
        better = True
    return better


def front(points: Sequence[Point], maximize: Sequence[bool]) -> list[int]:
    """Indices of the points that no other dominates, in ascending order; of equal points the first counts."""
    chosen: list[int] = []
    seen: set[tuple[float, ...]] = set()
    # Sorted by the first objective, best first, a point can only be dominated by those before it.
    for index in sorted(_finite(points), key=lambda i: (_losses(points[i], maximize), i)):
        point = tuple(points[index])
        if point in seen or any(dominates(points[other], point, maximize) for other in chosen):
            continue
        seen.add(point)
        chosen.append(index)
    return sorted(chosen)


def knee(points: Sequence[Point], maximize: Sequence[bool]) -> int | None:
    """Index of the knee of a front: beyond it, more of one objective costs much of another. None where no point is finite.

    Each coordinate is scaled to 0 (the worst of the points) .. 1 (the best); the knee is the point with the largest sum. The two
    ends of a front of two objectives are (0, 1) and (1, 0) then, where the sum is 1: the knee is the point farthest from the
    chord between them. Scale a coordinate beforehand where ratios count rather than differences. Of equal points the first counts.
    """
    known = _finite(points)
    if not known:
        return None
    losses = {i: _losses(points[i], maximize) for i in known}
    ends = [(min(column), max(column)) for column in zip(*losses.values(), strict=True)]

    def gain(index: int) -> float:
        # Where all points have the same value of an objective, it does not tell them apart.
        shares = ((high - x) / (high - low) for x, (low, high) in zip(losses[index], ends, strict=True) if high > low)
        return float(sum(shares))

    # Sums that differ in their last bits only are equal: which end of a chord is meant must not hang on rounding.
    return max(known, key=lambda i: (round(gain(i), 9), -i))


def ranks(points: Sequence[Point], maximize: Sequence[bool]) -> list[int]:
    """Front number of every point: 0 on the front, 1 on the front of what is left, and so on; -1 where not finite."""
    import numpy as np

    result = [-1] * len(points)
    left = _finite(points)
    if not left:
        return result
    losses = np.array([_losses(points[i], maximize) for i in left])
    no_worse = np.asarray((losses[:, None, :] <= losses[None, :, :]).all(axis=2))
    # beats[i, j]: the i-th dominates the j-th (no worse anywhere, and not the other way round).
    beats = no_worse & ~no_worse.T
    alive = np.ones(len(left), dtype=np.bool_)
    rank = 0
    while alive.any():
        layer = alive & ~beats[alive].any(axis=0)
        for index in np.flatnonzero(layer):
            result[left[index]] = rank
        alive &= ~layer
        rank += 1
    return result


def hypervolume(points: Sequence[Point], reference: Point, maximize: Sequence[bool]) -> float:
    """Volume that the points dominate, up to ``reference`` (the worst values that count); exact, in the product of the units.

    Points no better than the reference in some coordinate cover nothing. Raises ValueError where lengths differ.
    """
    if len(reference) != len(maximize):
        raise ValueError(f"reference has {len(reference)} coordinates, maximize {len(maximize)}")
    worst = _losses(reference, maximize)
    inside = [_losses(points[i], maximize) for i in _finite(points)]
    return _volume([p for p in inside if all(x < w for x, w in zip(p, worst, strict=True))], worst)


def _finite(points: Sequence[Point]) -> list[int]:
    return [i for i, point in enumerate(points) if all(math.isfinite(x) for x in point)]


def _losses(point: Point, maximize: Sequence[bool]) -> tuple[float, ...]:
    return tuple(-x if up else float(x) for x, up in zip(point, maximize, strict=True))


def _volume(points: list[tuple[float, ...]], worst: tuple[float, ...]) -> float:
    # Slicing along the last coordinate: between two neighbouring values the covered area is constant.
    if not points:
        return 0.0
    if len(worst) == 1:
        return worst[0] - min(p[0] for p in points)
    if len(worst) == 2:
        area, height = 0.0, worst[1]
        for x, y in sorted(points):
            if y < height:
                area += (worst[0] - x) * (height - y)
                height = y
        return area
    ordered = sorted(points, key=lambda p: p[-1])
    total = 0.0
    for index, point in enumerate(ordered):
        upper = ordered[index + 1][-1] if index + 1 < len(ordered) else worst[-1]
        if upper > point[-1]:
            total += (upper - point[-1]) * _volume([p[:-1] for p in ordered[: index + 1]], worst[:-1])
    return total
