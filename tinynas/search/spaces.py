"""Space choice, TinyNAS's first stage: which sizes of input and which widths are worth searching under a budget.

For each (size of input, width multiplier) networks are drawn and costed, and those that fit are kept; an image's size
is its resolution, a sound's follows from the parameters of the front end. Under a memory limit, the sub-space whose
fitting networks can spend the most MACs holds the most accurate ones (MCUNet, arXiv 2007.10319). A front wants good
networks at every size, so the rule is applied once for each MACs band, with the band's upper edge as a further limit
that most networks of the sub-space must keep. Between whole spaces the same rule holds: where the user names none,
the shipped space that leads is searched. Where the budget limits MACs as well, most spaces can spend them, and the rule says
little between those: of spaces that are level by it the one is searched whose networks do as much work with the fewest weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tinynas.arch import Axes, pair
from tinynas.budget import Budget
from tinynas.search.feasible import Feasible, Pool, strata
from tinynas.search.pool import draw_pool
from tinynas.space import InputSize, Space, resolution_text

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""

#: Resolutions up to this many times the images' own are searched.
ENLARGE = 1.5
#: Sets the space choice's random draws apart from those of other stages with the same seed.
STREAM = 0x5BACE
#: Networks drawn for each sub-space, as in MCUNet.
DRAWS = 1000
#: Fewer fitting networks than this say nothing about a sub-space.
MIN_FITTING = 10
#: Of a sub-space that speaks for its space beside other spaces, at least this share must fit: what just fits of a larger
#: one has many MACs, but its networks are too thin.
CLEARLY = 0.05
#: Under a limit on MACs sub-spaces with at least this share of the most MACs are level. Two searches at mcunet-tiny2's costs led here;
#: three more, on people, on meters and at mcunet-vww0's costs on tin20, agreed; at these on people all are level
#: (results/benchmarks/search_spaces.md).
LEVEL = 0.85
#: Share of a sub-space's networks that must be within a band's limit.
MOSTLY = 0.75
QUANTILES = tuple(i / 20 for i in range(21))


@dataclass(frozen=True)
class SubSpace:
    """One (size of input, width multiplier) and what fits of it."""

    size: InputSize
    width_mult: float
    genes: tuple[int, ...]
    """The choices of the space's ``size_genes`` and width multiplier, by index."""
    drawn: int
    fitting: int
    mean_macs: float
    """Of the networks that fit; 0 where none does."""
    macs_quantiles: tuple[float, ...] = ()
    """MACs of the networks that fit, at 0 %, 5 %, ..., 100 %: the CDF."""
    mean_params: float = 0.0
    """Parameters of the networks that fit; 0 where none does, or where they were counted."""
    bands: tuple[int, ...] = ()
    """MACs bands it was chosen for (0 is the cheapest); empty where it was not chosen."""
    counted_share: float | None = None
    """Share of its networks that fit, where they were counted because a draw hardly ever fits."""

    @property
    def resolution(self) -> Axes:
        """Of images a side, or (height, width), in pixels; of sounds (frames, features)."""
        return self.size.resolution

    @property
    def text(self) -> str:
        """For people: ``48px x0.5``, ``49 frames of 40, x0.5``."""
        return f"{self.size.text}{'' if self.size.front_end is None else ','} x{self.width_mult:g}"

    @property
    def share(self) -> float:
        """Share of its networks that fit: of those drawn, or counted."""
        return self.fitting / max(1, self.drawn) if self.counted_share is None else self.counted_share

    @property
    def chosen(self) -> bool:
        """True where the search looks here."""
        return bool(self.bands)

    def to_json(self) -> dict[str, Any]:
        """A row of ``tinynas spaces --budget B --json``."""
        size = self.size
        return {
            "resolution": size.resolution if isinstance(size.resolution, int) else list(size.resolution),
            **({} if size.front_end is None else {"input": size.text, "front_end": dict(size.front_end)}),
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
        shown = ", ".join(row.text for row in sorted(self.chosen, key=lambda r: (r.size.numbers, pair(r.resolution), r.width_mult)))
        rest = ""
        if len(self.chosen) > 1 and all(row.fitting < MIN_FITTING or row.counted_share is not None for row in self.chosen):
            rest = "; few fit, so all that hold some are searched"
        elif len({row.bands for row in self.chosen}) > 1:
            rest = "; the others lead at smaller sizes"
        sized = "resolution" if top.size.front_end is None else "input"
        return (
            f"{len(self.chosen)} of {len(self.rows)} ({sized}, width) sub-spaces of {self.space}: {shown}. "
            f"At {top.text} the networks that fit have the most MACs ({top.mean_macs / 1e6:.1f} M on average, "
            f"{_percent(top.share)} fit){rest}."
        )

    def text(self) -> str:
        """The table for a terminal."""
        wide = max(len("resolution"), *(len(row.size.text) for row in self.rows))
        lines = [f"{'input':>{wide}} {'width':>6} {'fit':>6} {'mean MACs':>10} {'median':>8} {'largest':>8}  searched for"]
        for row in self.rows:
            middle, most = (
                [f"{q / 1e6:.2f} M" for q in (row.macs_quantiles[10], row.macs_quantiles[-1])] if row.macs_quantiles else ["-", "-"]
            )
            bands = ", ".join(f"band {band + 1}" for band in row.bands)
            mean = f"{row.mean_macs / 1e6:.2f} M" if row.fitting else "-"
            fit = _percent(row.share)
            lines.append(f"{row.size.text:>{wide}} {row.width_mult:>6g} {fit:>6} {mean:>10} {middle:>8} {most:>8}  {bands}")
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
    max_resolution: Size | None = None,
    max_macs: float | None = None,
) -> SpaceTable:
    """Every sub-space of ``space`` under ``budget``, the largest mean MACs first; those to search carry their bands.

    ``max_resolution`` and ``max_macs`` leave out what the images or the time do not support. Raises BudgetError
    where nothing fits.
    """
    feasible = Feasible(space, classes, budget)
    rows, fitting = _drawn(feasible, seed, draws, max_resolution, max_macs)
    if not any(len(macs) for macs in fitting):
        # The pool says which limit binds; an image or time limit that leaves nothing is lifted instead.
        if max_resolution is not None or max_macs is not None:
            return rank_spaces(space, budget, classes=classes, seed=seed, draws=draws, bands=bands, keep=keep)
        return _of_rare(feasible, draw_pool(feasible, draws, np.random.default_rng((seed, STREAM))), bands)
    chosen = _choose(fitting, bands, keep)
    rows = [replace(row, bands=tuple(chosen.get(i, ()))) for i, row in enumerate(rows)]
    return SpaceTable(space.name, budget.name, tuple(sorted(rows, key=lambda row: -row.mean_macs)))


def _drawn(
    feasible: Feasible, seed: int, draws: int, max_resolution: Size | None, max_macs: float | None = None
) -> tuple[list[SubSpace], list[NDArray[np.float64]]]:
    """Every sub-space, and the MACs of those of its ``draws`` draws that fit."""
    space = feasible.space
    rng = np.random.default_rng((seed, STREAM))
    rows, fitting = [], []
    for size in space.sizes:
        for w, width in enumerate(space.width_mult):
            genotypes, genes = feasible.draw(draws, rng), (*size.choices, w)
            genotypes[:, feasible.choice] = genes
            costs = feasible.costs(genotypes)
            fits = feasible.fits(costs)
            if max_macs is not None:
                fits &= costs["macs"] <= max_macs
            if max_resolution is not None and not within(size, max_resolution):
                fits &= False
            macs = costs["macs"][fits]
            params = float(costs["params"][fits].mean()) if len(macs) else 0.0
            rows.append(SubSpace(size, width, genes, draws, len(macs), *_mean_and_quantiles(macs), params))
            fitting.append(macs)
    return rows, fitting


def _mean_and_quantiles(macs: NDArray[np.float64]) -> tuple[float, tuple[float, ...]]:
    return (float(macs.mean()), tuple(float(x) for x in np.quantile(macs, QUANTILES))) if len(macs) else (0.0, ())


def choose_space(
    spaces: Sequence[Space], budget: Budget, *, classes: int = 2, seed: int = 0, native_size: Size = (0, 0)
) -> tuple[Space, str]:
    """The same rule between spaces: the one whose best sub-space has the most MACs within ``budget``, and a sentence for people.

    Where the budget limits MACs, of those that are ``LEVEL`` by it the one whose networks have the fewest parameters. Only sub-spaces count
    of which ``CLEARLY`` something fits; where there is none, the largest share of draws that fit
    decides, and where no draw fits, whose smallest network is farthest below the limits. ``native_size``: the images' own
    (height, width) in pixels, zeros where it is not known. Raises BudgetError, that of the space that comes nearest, where nothing fits.
    """
    clearly: list[tuple[SubSpace, Space]] = []
    hardly: list[tuple[float, Space]] = []
    said: list[str] = []
    # One limit for all: a space that only has larger resolutions would lead by enlarging images.
    known = [size for space in spaces if (size := largest_size(space, native_size)) is not None]
    largest = min(known, key=lambda size: size[0] * size[1]) if known else None
    for space in spaces:
        if largest is not None and not any(within(size, largest) for size in space.sizes):
            said.append(f"{space.name} none of {resolution_text(largest)} px or less")
            continue
        rows, _ = _drawn(Feasible(space, classes, budget), seed, DRAWS, largest)
        clear = [row for row in rows if row.share >= CLEARLY]
        share = max(row.share for row in rows)
        if clear:
            clearly += [(row, space) for row in clear]
            said.append(f"{space.name} {max(row.mean_macs for row in clear) / 1e6:.2f} M")
        elif share:
            hardly.append((share, space))
            said.append(f"{space.name} hardly any that fits")
        else:
            said.append(f"{space.name} none drawn that fits")
    fewest = ""
    if clearly:
        lead, chosen = max(clearly, key=lambda one: one[0].mean_macs)
        level = [(row.mean_params, space) for row, space in clearly if row.mean_macs >= LEVEL * lead.mean_macs]
        if budget.macs is not None and len({space.name for _, space in level}) > 1:
            level.sort(key=lambda one: one[0])
            chosen = level[0][1]
            least: dict[str, float] = {}
            for params, space in level:
                least.setdefault(space.name, params)
            fewest = (
                f"; level under a limit on MACs, by fewest parameters: {', '.join(f'{name} {n / 1e3:.0f} k' for name, n in least.items())}"
            )
    elif hardly:
        chosen = max(hardly, key=lambda one: one[0])[1]
    else:
        chosen = _with_the_smallest(spaces, budget, classes)
    sized = "resolution" if chosen.front_end is None else "input"
    why = f"mean MACs of what fits, in the best ({sized}, width) of each shipped space: {'; '.join(said)}{fewest}"
    return chosen, f"space {chosen.name} ({why}). --space takes another."


def _with_the_smallest(spaces: Sequence[Space], budget: Budget, classes: int) -> Space:
    excess: dict[int, float] = {}
    for index, space in enumerate(spaces):
        feasible = Feasible(space, classes, budget)
        excess[index] = float(feasible.excess(feasible.costs(feasible.smallest_network()[None, :])).max())
    nearest = spaces[min(excess, key=lambda index: excess[index])]
    if min(excess.values()) > 0:
        raise Feasible(nearest, classes, budget).nothing_fits(DRAWS * len(nearest.sizes) * len(nearest.width_mult), None)
    return nearest


def largest_size(space: Space, native_size: Size) -> Size | None:
    """The largest (height, width) worth searching for images of ``native_size``; None where all are, or the size is not known (of sounds
    there is none).

    Enlarging images adds nothing to see, but more work on each of them: worth it up to a point. The smallest input of the
    space is always worth it.
    """
    if not all(native_size) or space.front_end is not None:
        return None
    height, width = pair(min(space.sizes, key=lambda size: size.numbers).resolution)
    return max(int(ENLARGE * native_size[0]), height), max(int(ENLARGE * native_size[1]), width)


def within(size: InputSize, largest: Size) -> bool:
    """Whether an input enlarges images by no more than those of ``largest`` in both directions together.

    A square input of a portrait image is stretched one way and shrunk the other: the pixels decide.
    """
    return size.numbers <= largest[0] * largest[1]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == 0 or share >= 0.005 else "< 1%"


def _of_rare(feasible: Feasible, pool: Pool, bands: int) -> SpaceTable:
    """The table where a draw hardly ever fits: from the counted pool, every sub-space that has a network of it, for all bands."""
    space = feasible.space
    subspaces = list(product(space.sizes, enumerate(space.width_mult)))
    rows = []
    for size, (w, width) in subspaces:
        genes = (*size.choices, w)
        macs = pool.costs["macs"][(pool.genotypes[:, feasible.choice] == genes).all(axis=1)]
        # All sub-spaces are equally large.
        share = pool.share * len(macs) / len(pool) * len(subspaces)
        searched = tuple(range(bands)) if len(macs) else ()
        rows.append(SubSpace(size, width, genes, pool.drawn, len(macs), *_mean_and_quantiles(macs), bands=searched, counted_share=share))
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
    # Where a few fit here and there, no sub-space can be told from another: all that hold some are searched.
    return chosen or {i: list(range(len(limits))) for i, macs in enumerate(fitting) if len(macs)}
