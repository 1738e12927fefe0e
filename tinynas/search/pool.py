"""The pool: networks that fit, drawn uniformly before anything is trained; by rejection, or by counting where few fit."""

from __future__ import annotations

import numpy as np

from tinynas.search.counting import count_feasible
from tinynas.search.feasible import CHUNK, COSTS, Feasible, Floats, Genotypes, Pool

#: Below this share of fitting draws, rejection is given up and networks are counted instead.
RARE = 1e-4


def draw_pool(feasible: Feasible, count: int, rng: np.random.Generator, *, max_draws: int = 200_000) -> Pool:
    """``count`` distinct networks that fit, drawn uniformly; fewer where the space holds no more.

    Rejection; where under 0.01 % of the draws fit, networks are counted exactly over the stages and drawn by
    their numbers; where that finds too few, because only the very smallest fit, those around the smallest network fill
    the pool. Raises BudgetError, with the limit that binds and the smallest value reached, where none fits.
    """
    found: list[Genotypes] = []
    kept: list[dict[str, Floats]] = []
    seen: set[bytes] = set()
    drawn = fitting = 0
    smallest: Floats | None = None
    while drawn < max_draws and len(seen) < min(count, feasible.size):
        rows = feasible.draw(min(CHUNK, max_draws - drawn), rng)
        costs = feasible.costs(rows)
        excess = feasible.excess(costs)
        fit = (excess <= 0).all(axis=1)
        drawn += len(rows)
        fitting += int(fit.sum())
        worst = excess.min(axis=0)
        smallest = worst if smallest is None else np.minimum(smallest, worst)
        new = [i for i in np.flatnonzero(fit) if not (rows[i].tobytes() in seen or seen.add(rows[i].tobytes()))]  # type: ignore[func-returns-value]
        found.append(rows[new])
        kept.append({name: values[new] for name, values in costs.items()})
    genotypes = np.concatenate(found)[:count]
    share = fitting / max(1, drawn)
    if share >= RARE or len(genotypes) >= min(count, feasible.size):
        return Pool(genotypes, {name: np.concatenate([k[name] for k in kept])[:count] for name in COSTS}, drawn, share)
    counted = count_feasible(feasible, rng, count)
    if counted is not None and len(counted) >= count:
        return counted
    # Counting draws too few of what only just fits: the networks around the smallest fill the pool.
    around = _around_the_smallest(feasible, count)
    known = [*genotypes, *(counted.genotypes if counted is not None else ()), *around]
    if not known:
        raise feasible.nothing_fits(drawn, smallest)
    distinct = np.array(list({row.tobytes(): row for row in known}.values())[:count])
    least = len(distinct) / feasible.size
    return Pool(distinct, feasible.costs(distinct), drawn, max(share, least, counted.share if counted else 0.0), counted is not None)


def _around_the_smallest(feasible: Feasible, count: int) -> Genotypes:
    """Up to ``count`` networks that fit, reached from the smallest by single changes; none where the smallest does not fit."""
    start = feasible.smallest_network()
    if not feasible.fits(feasible.costs(start[None, :]))[0]:
        return start[None, :][:0]
    seen = {start.tobytes()}
    queue = [start]
    for row in queue:
        if len(queue) >= count:
            break
        around = feasible.neighbours(row)
        for near in around[feasible.fits(feasible.costs(around))] if len(around) else []:
            if near.tobytes() not in seen:
                seen.add(near.tobytes())
                queue.append(near)
    return np.array(queue[:count])
