"""Space choice, TinyNAS's first stage: which resolutions and widths are worth searching under a budget.

For each (resolution, width multiplier) networks are drawn and costed, and those that fit are kept. Under a memory
limit, the sub-space whose fitting networks can spend the most MACs holds the most accurate ones (MCUNet,
arXiv 2007.10319). A front wants good networks at every size, so the rule is applied once for each MACs band, with the
band's upper edge as a further limit that most networks of the sub-space must keep. Between whole spaces the same rule
holds: where the user names none, the shipped space that leads is searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.budget import Budget
from tinynas.errors import BudgetError
from tinynas.search.feasible import Feasible, Pool, strata
from tinynas.search.pool import draw_pool
from tinynas.space import Space

#: Resolutions up to this many times the images' own are searched.
ENLARGE = 1.5
#: Networks drawn for each sub-space, as in MCUNet.
DRAWS = 1000
#: Fewer fitting networks than this say nothing about a sub-space.
MIN_FITTING = 10
#: Share of a sub-space's networks that must be within a band's limit.
MOSTLY = 0.75
QUANTILES = tuple(i / 20 for i in range(21))


@dataclass(frozen=True)
class SubSpace:
    """One (resolution, width multiplier) and what fits of it."""

    resolution: int
    width_mult: float
    genes: tuple[int, int]
    """Their indices in the space."""
    drawn: int
    fitting: int
    mean_macs: float
    """Of the networks that fit; 0 where none does."""
    macs_quantiles: tuple[float, ...] = ()
    """MACs of the networks that fit, at 0 %, 5 %, ..., 100 %: the CDF."""
    bands: tuple[int, ...] = ()
    """MACs bands it was chosen for (0 is the cheapest); empty where it was not chosen."""

    @property
    def share(self) -> float:
        """Share of the drawn networks that fit."""
        return self.fitting / max(1, self.drawn)

    @property
    def chosen(self) -> bool:
        """True where the search looks here."""
        return bool(self.bands)

    def to_json(self) -> dict[str, Any]:
        """A row of ``tinynas spaces --budget B --json``."""
        return {
            "resolution": self.resolution,
            "width_mult": self.width_mult,
            "drawn": self.drawn,
            "share": self.share,
            "mean_macs": self.mean_macs,
            "macs_quantiles": list(self.macs_quantiles),
            "bands": list(self.bands),
            "chosen": self.chosen,
        }


@dataclass(frozen=True)
class SpaceTable:
    """The sub-spaces of one space under one budget, the largest mean MACs first."""

    space: str
    budget: str
    rows: tuple[SubSpace, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Rows of ``tinynas spaces --budget B --json``."""
        return [{"space": self.space, **row.to_json()} for row in self.rows]

    @property
    def chosen(self) -> tuple[SubSpace, ...]:
        """The sub-spaces that a search looks at."""
        return tuple(row for row in self.rows if row.chosen)

    def explain(self) -> str:
        """One sentence for people: what was chosen and why."""
        top = max(self.chosen, key=lambda row: (max(row.bands), row.mean_macs))
        shown = ", ".join(
            f"{row.resolution}px x{row.width_mult:g}" for row in sorted(self.chosen, key=lambda r: (r.resolution, r.width_mult))
        )
        return (
            f"{len(self.chosen)} of {len(self.rows)} (resolution, width) sub-spaces of {self.space}: {shown}. "
            f"At {top.resolution}px x{top.width_mult:g} the networks that fit have the most MACs ({top.mean_macs / 1e6:.1f} M on average, "
            f"{top.share:.0%} fit); the others lead at smaller sizes."
        )

    def text(self) -> str:
        """The table for a terminal."""
        lines = [f"{'resolution':>10} {'width':>6} {'fit':>6} {'mean MACs':>10} {'median':>8} {'largest':>8}  searched for"]
        for row in self.rows:
            quantiles = [f"{q / 1e6:.2f} M" for q in (row.macs_quantiles[10], row.macs_quantiles[-1])] if row.macs_quantiles else ["-", "-"]
            bands = ", ".join(f"band {band + 1}" for band in row.bands)
            mean = f"{row.mean_macs / 1e6:.2f} M" if row.fitting else "-"
            lines.append(
                f"{row.resolution:>10} {row.width_mult:>6g} {row.share:>6.0%} {mean:>10} {quantiles[0]:>8} {quantiles[1]:>8}  {bands}"
            )
        return "\n".join([*lines, "", self.explain()])


def rank_spaces(
    space: Space,
    budget: Budget,
    *,
    classes: int = 2,
    seed: int = 0,
    draws: int = DRAWS,
    bands: int = 4,
    keep: int = 3,
    max_resolution: int | None = None,
    max_macs: float | None = None,
) -> SpaceTable:
    """Every sub-space of ``space`` under ``budget``, the largest mean MACs first; those to search carry their bands.

    ``max_resolution`` and ``max_macs`` leave out what the images or the time do not support. Raises BudgetError
    where nothing fits.
    """
    feasible = Feasible(space, classes, budget)
    res_gene, width_gene = space.gene_index["resolution"], space.gene_index["width_mult"]
    rng = np.random.default_rng((seed, 0x5BACE))
    rows, fitting = [], []
    for r, resolution in enumerate(space.resolution):
        for w, width in enumerate(space.width_mult):
            genotypes = feasible.draw(draws, rng)
            genotypes[:, res_gene], genotypes[:, width_gene] = r, w
            costs = feasible.costs(genotypes)
            fits = feasible.fits(costs)
            if max_macs is not None:
                fits &= costs["macs"] <= max_macs
            if max_resolution is not None and resolution > max_resolution:
                fits &= False
            macs = costs["macs"][fits]
            quantiles = tuple(float(x) for x in np.quantile(macs, QUANTILES)) if len(macs) else ()
            rows.append(SubSpace(resolution, width, (r, w), draws, len(macs), float(macs.mean()) if len(macs) else 0.0, quantiles))
            fitting.append(macs)
    if not any(len(macs) for macs in fitting):
        # The pool says which limit binds; an image or time limit that leaves nothing is lifted instead.
        if max_resolution is not None or max_macs is not None:
            return rank_spaces(space, budget, classes=classes, seed=seed, draws=draws, bands=bands, keep=keep)
        return _of_rare(feasible, draw_pool(feasible, draws, rng))
    chosen = _choose(fitting, bands, keep)
    rows = [replace(row, bands=tuple(chosen.get(i, ()))) for i, row in enumerate(rows)]
    return SpaceTable(space.name, budget.name, tuple(sorted(rows, key=lambda row: -row.mean_macs)))


def choose_space(spaces: Sequence[Space], budget: Budget, *, classes: int = 2, seed: int = 0, native_size: int = 0) -> tuple[Space, str]:
    """The space whose best sub-space has the most MACs within ``budget`` (the same rule, between spaces), and a sentence for people.

    ``native_size``: the images' own side in pixels, 0 where it is not known. Raises BudgetError where nothing of any
    space fits: that of the space that comes nearest.
    """
    leads: list[tuple[bool, float, Space]] = []
    said: list[str] = []
    errors: list[tuple[float, int, BudgetError]] = []
    # One limit for all: a space that only has larger resolutions would lead by enlarging images.
    side = min((largest_side(space, native_size) for space in spaces), key=lambda side: side or 0)
    for space in spaces:
        if side is not None and min(space.resolution) > side:
            said.append(f"{space.name} none of {side} px or less")
            continue
        try:
            table = rank_spaces(space, budget, classes=classes, seed=seed, max_resolution=side)
        except BudgetError as error:
            errors.append((_least_excess(Feasible(space, classes, budget)), len(errors), error))
            said.append(f"{space.name} none that fits")
            continue
        enough = [row for row in table.rows if row.share >= MIN_FITTING / DRAWS]
        best = max(enough or table.rows, key=lambda row: row.mean_macs)
        # The mean of a handful says little: among spaces of which hardly anything fits, that with most to choose from.
        leads.append((bool(enough), best.mean_macs if enough else max(row.share for row in table.rows), space))
        said.append(f"{space.name} {'' if enough else 'hardly any that fits, '}{best.mean_macs / 1e6:.2f} M")
    if not leads:
        raise min(errors, key=lambda entry: entry[:2])[2]
    chosen = max(leads, key=lambda lead: lead[:2])[2]
    why = f"mean MACs of what fits, in the best (resolution, width) of each shipped space: {'; '.join(said)}"
    return chosen, f"space {chosen.name} ({why}). --space takes another."


def largest_side(space: Space, native_size: int) -> int | None:
    """The largest resolution worth searching for images of ``native_size`` pixels; None where all are, or the size is not known.

    Enlarging images adds nothing to see, but more work on each of them: worth it up to a point.
    """
    return max(int(ENLARGE * native_size), min(space.resolution)) if native_size else None


def _least_excess(feasible: Feasible) -> float:
    return float(feasible.excess(feasible.costs(feasible.smallest_network()[None, :])).max())


def _of_rare(feasible: Feasible, pool: Pool) -> SpaceTable:
    """The table where a draw hardly ever fits: from the counted pool, every sub-space that has a network of it, for all bands."""
    space = feasible.space
    genes = [space.gene_index["resolution"], space.gene_index["width_mult"]]
    # As many draws as would have been needed to find the pool, shared evenly.
    drawn = round(len(pool) / max(pool.share, 1e-18) / (len(space.resolution) * len(space.width_mult)))
    rows = []
    for (r, resolution), (w, width) in product(enumerate(space.resolution), enumerate(space.width_mult)):
        macs = pool.costs["macs"][(pool.genotypes[:, genes] == (r, w)).all(axis=1)]
        some = bool(len(macs))
        quantiles = tuple(float(x) for x in np.quantile(macs, QUANTILES)) if some else ()
        mean = float(macs.mean()) if some else 0.0
        rows.append(SubSpace(resolution, width, (r, w), drawn, len(macs), mean, quantiles, (0,) if some else ()))
    return SpaceTable(space.name, feasible.budget.name, tuple(sorted(rows, key=lambda row: -row.mean_macs)))


def _choose(fitting: Sequence[NDArray[np.float64]], bands: int, keep: int) -> dict[int, list[int]]:
    everything = np.concatenate(list(fitting))
    edges = strata(everything, bands)
    limits = [*edges, float(everything.max())]
    chosen: dict[int, list[int]] = {}
    for index, limit in enumerate(limits):
        # Below the largest band a sub-space counts where most of its networks are within the band's limit: one whose
        # smallest networks just reach it would lead by mean MACs with networks that are too thin.
        means = {
            i: float(macs[macs <= limit].mean())
            for i, macs in enumerate(fitting)
            if len(macs) >= MIN_FITTING and (index == len(limits) - 1 or np.quantile(macs, MOSTLY) <= limit)
        }
        for i in sorted(means, key=lambda i: -means[i])[:keep]:
            chosen.setdefault(i, []).append(index)
    if not chosen:
        best = max(range(len(fitting)), key=lambda i: float(fitting[i].mean()) if len(fitting[i]) else 0.0)
        chosen[best] = [len(limits) - 1]
    return chosen
