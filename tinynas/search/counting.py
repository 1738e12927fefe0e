"""Exact counting over stages: how to draw uniformly what rejection does not find.

Where under one network in ten thousand fits, drawing at random finds nothing. But the additive costs (MACs, flash) of
a network are sums over its blocks, and memory is a maximum over them; so the networks that fit can be counted block by
block from the end (a knapsack over rounded-down costs), and drawn with probability proportional to the counts. What is
drawn is then checked with the exact estimator, because costs were rounded down in its favour: to whole cells, and by all
that the file may share between a block and the others. The costs of blocks are those of the batch estimator's tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from tinynas.cost.batch import ChoiceAxis, Table
from tinynas.cost.front_end import front_end_cost
from tinynas.search.feasible import Feasible, Pool
from tinynas.space import Gene

#: Steps that the remaining flash (or MACs) are rounded down to.
CELLS = 96
#: Networks drawn by count for each that is wanted, at most: costs rounded down let some through that do not fit.
OVERDRAW = 20

_Left: TypeAlias = tuple[int, ...]
Place: TypeAlias = tuple[int, int]
"""What a block stands on: indices of the map and of the channels, in the tables of its stage."""
Start: TypeAlias = tuple[int, dict[str, int], int, Place, _Left]
"""(networks, genes of the beginning and the end, width multiplier gene, place behind the stem, what is left)."""


class _Costs:
    """Bytes alive and cells used by each row of a table."""

    def __init__(self, counter: Counter, table: Table) -> None:
        tables, rows = counter.tables, table.rows[:-1]
        self.counts = table.counts
        self.live = tables.head_of(rows)
        shares = [tables.additive(name, rows) * CELLS / limit for name, limit in zip(counter.names, counter.limits, strict=True)]
        self.used = np.floor(np.stack(shares, axis=1)).astype(np.int64) if shares else np.zeros((len(rows), 0), dtype=np.int64)

    def row(self, indices: tuple[int, ...]) -> int:
        """Number of the row at ``indices``."""
        at = 0
        for count, index in zip(self.counts, indices, strict=True):
            at = at * count + index
        return at


class Counter:
    """Counts and draws the networks of a feasible set by their blocks."""

    def __init__(self, feasible: Feasible) -> None:
        self.feasible, self.space = feasible, feasible.space
        limits = dict(feasible.budget.limits)
        if feasible.max_macs is not None:
            limits["macs"] = min(limits.get("macs", float("inf")), feasible.max_macs)
        self.tables = feasible.tables
        files = {name: limits.pop(name) for name in ("flash_bytes", "program_bytes") if name in limits}
        if "program_bytes" in files:  # what the code that every network needs leaves to the file
            files["program_bytes"] -= self.tables.base_code_bytes(feasible.budget.core)
        # Learning takes no less than inference does.
        self.sram = min(limits.get("sram_bytes", float("inf")), limits.get("update_sram_bytes", float("inf")))
        if front_ends := [each.front_end for each in self.space.inputs if each.front_end is not None]:
            # What the cheapest of them takes is no network's: the counts stay bounds from above.
            on: dict[str, Any] = {"core": feasible.budget.core, "compiled": self.tables.runtime.frame is not None}
            every = 1 if self.tables.runtime.stream else None
            costs = [front_end_cost(each, feasible.classes, **on, every=every) for each in front_ends]
            self.sram -= min(cost.sram_bytes for cost in costs)
            files = {name: limit - min(getattr(cost, name) for cost in costs) for name, limit in files.items()}
        if files:
            limits["flash_bytes"] = max(1.0, min(files.values()))
        self.names = [name for name in ("flash_bytes", "macs") if name in limits]
        self.limits = [limits[name] for name in self.names]
        self.full: _Left = tuple(CELLS for _ in self.names)
        self._stem = _Costs(self, self.tables.stem)
        self._first = [_Costs(self, stage.first) for stage in self.tables.stages]
        self._others = [[_Costs(self, other) for other in stage.others] for stage in self.tables.stages]
        self._last = _Costs(self, self.tables.last)
        self._after_stage = lru_cache(maxsize=None)(self._count_stage)
        self._after_block = lru_cache(maxsize=None)(self._count_block)

    def _take(self, left: _Left, costs: _Costs, row: int) -> _Left | None:
        """What is left behind a row of a table; None where too much is alive in it, or too little is left."""
        if costs.live[row] > self.sram:
            return None
        rest = tuple(cells - int(used) for cells, used in zip(left, costs.used[row], strict=True))
        return None if min(rest, default=0) < 0 else rest

    # counting from the end --------------------------------------------------------------------------

    def _stage_choices(self, stage: int, width: int) -> Iterator[tuple[int, int, int, int, int, int]]:
        """(out gene, stride gene, depth gene, channels behind, depth, point of the axis of bits)."""
        one, tables = self.space.stages[stage], self.tables.stages[stage]
        ways = product(range(len(one.out)), range(len(one.stride)), enumerate(one.depth), tables.distinct())
        for o, s, (d, depth), bits in ways:
            yield o, s, d, int(tables.out_of[width, o]), depth, bits

    def _count_stage(self, stage: int, width: int, last: tuple[int, int], place: Place, left: _Left) -> int:
        if stage == len(self.space.stages):
            return int(self._take(left, self._last, self._last.row((*place, width, *last))) is not None)
        return sum(
            self._after_block(stage, width, last, 0, depth, stride, bits, place, out, left)
            for _, stride, _, out, depth, bits in self._stage_choices(stage, width)
        )

    def _block_choices(
        self, stage: int, index: int, stride: int, bits: int, place: Place, out: int, left: _Left
    ) -> Iterator[tuple[int, int, Place, _Left]]:
        """(point of the axis of windows, expand gene, place behind the block, what is left)."""
        one, tables = self.space.stages[stage], self.tables.stages[stage]
        if index == 0:
            costs = self._first[stage]
            at: tuple[int, ...] = (*place, out, stride)
            behind = (int(tables.map_of[place[0], stride]), out)
        else:
            costs, at, behind = self._others[stage][tables.others_of[index]], place, place
        windows = range(len(tables.blocks[index][0]))
        for k, e in product(windows, range(len(one.expand) if tables.expands(bits) else 1)):
            rest = self._take(left, costs, costs.row((*at, k, e, bits)))
            if rest is not None:
                yield k, e, behind, rest

    def _count_block(
        self,
        stage: int,
        width: int,
        last: tuple[int, int],
        index: int,
        depth: int,
        stride: int,
        bits: int,
        place: Place,
        out: int,
        left: _Left,
    ) -> int:
        if index == depth:
            return self._after_stage(stage + 1, width, last, place, left)
        return sum(
            self._after_block(stage, width, last, index + 1, depth, stride, bits, behind, out, rest)
            for _, _, behind, rest in self._block_choices(stage, index, stride, bits, place, out, left)
        )

    # drawing from the beginning ---------------------------------------------------------------------

    def starts(self) -> list[Start]:
        """Every choice of image, width, stem and end that some network has, with the number of networks that have it."""
        result: list[Start] = []
        space = self.space
        first = [gene for gene in space.genes if gene.stage < 0 and gene.name not in ("head.out", "head.weight_bits", "classifier_bits")]
        genes = [range(len(gene.choices)) for gene in first]
        inputs, choice = len(space.input_genes), self.feasible.choice
        allowed = {tuple(int(i) for i in one) for one in self.feasible.subspaces}
        base = self.tables.base_bytes()
        cells = tuple(
            int(base / limit * CELLS) if name == "flash_bytes" else 0 for name, limit in zip(self.names, self.limits, strict=True)
        )
        left = tuple(full - used for full, used in zip(self.full, cells, strict=True))
        for outer in product(*genes):
            w, so, k, ss, *stem_bits = outer[inputs:]
            if allowed and tuple(outer[at] for at in choice) not in allowed:
                continue
            if any(index and gene.only_with and not self._acts(gene, first, outer) for gene, index in zip(first, outer, strict=True)):
                continue  # the same network
            shape = int(self.tables.shape_of_input[space.input_number(outer)])
            rest = self._take(left, self._stem, self._stem.row((shape, w, so, k, ss, *(stem_bits or [0]))))
            if rest is None:
                continue
            place = (int(self.tables.map_of_stem[shape, ss]), int(self.tables.channels_of_stem[w, so]))
            for head, bits in product(range(len(self.space.head.out)), range(len(self.tables.last_bits))):
                end = {"head.out": head, **self._genes_at(self.tables.last_bits, bits)}
                if end.get("head.weight_bits") and not self.space.head.out[head]:
                    continue  # the same network
                count = self._after_stage(0, w, (head, bits), place, rest)
                if count:
                    chosen = {gene.name: index for gene, index in zip(first, outer, strict=True)}
                    result.append((count, chosen | end, w, place, rest))
        return result

    @staticmethod
    def _acts(gene: Gene, first: Sequence[Gene], outer: Sequence[int]) -> bool:
        at = next(number for number, other in enumerate(first) if other.name == gene.only_with)
        return gene.acts_with(first[at].choices[outer[at]])

    def _genes_at(self, axis: ChoiceAxis, point: int) -> dict[str, int]:
        """The genes that choose a point of an axis."""
        indices = np.unravel_index(point, axis.counts)
        return {
            self.space.genes[column].name: int(index) for column, index in zip(axis.columns, indices, strict=True) if column is not None
        }

    def draw(self, starts: list[Start], rng: np.random.Generator) -> list[int]:
        """One genotype, every counted network alike."""
        _, chosen, width, place, left = starts[_pick([entry[0] for entry in starts], rng)]
        genes = dict(chosen)
        last = genes["head.out"], int(self.tables.last_bits.number([genes.get(gene.name, 0) for gene in self.space.genes]))
        for stage in range(len(self.space.stages)):
            choices = list(self._stage_choices(stage, width))
            counts = [
                self._after_block(stage, width, last, 0, depth, stride, bits, place, out, left)
                for _, stride, _, out, depth, bits in choices
            ]
            o, stride, d, out, depth, bits = choices[_pick(counts, rng)]
            genes |= {f"s{stage}.out": o, f"s{stage}.stride": stride, f"s{stage}.depth": d}
            genes |= self._genes_at(self.tables.stages[stage].bits, bits)
            for index in range(depth):
                blocks = list(self._block_choices(stage, index, stride, bits, place, out, left))
                ways = [self._after_block(stage, width, last, index + 1, depth, stride, bits, to, out, rest) for _, _, to, rest in blocks]
                k, e, place, left = blocks[_pick(ways, rng)]
                genes |= {f"s{stage}.b{index}.expand": e, **self._genes_at(self.tables.stages[stage].blocks[index][0], k)}
        return [genes.get(gene.name, 0) for gene in self.space.genes]


def _pick(weights: list[int], rng: np.random.Generator) -> int:
    # The counts exceed any float: compare integers.
    total = sum(weights)
    target = int(rng.integers(0, 1 << 62)) * total >> 62
    for index, weight in enumerate(weights):
        target -= weight
        if target < 0:
            return index
    return len(weights) - 1


def count_feasible(feasible: Feasible, rng: np.random.Generator, count: int) -> Pool | None:
    """A pool of ``count`` networks that fit, drawn by exact counting; None where none is counted."""
    counter = Counter(feasible)
    starts = counter.starts()
    if not starts:
        return None
    drawn = fitting = 0
    found: dict[bytes, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
    while len(found) < count and drawn < OVERDRAW * count:
        rows = np.array([counter.draw(starts, rng) for _ in range(min(256, count))], dtype=np.int64)
        fits = feasible.fits(feasible.costs(rows))
        drawn += len(rows)
        fitting += int(fits.sum())
        before = len(found)
        found.update({row.tobytes(): row for row in rows[fits]})
        if drawn >= 1024 and len(found) == before:
            break
    if not found:
        return None
    genotypes = np.array(list(found.values())[:count])
    total = sum(entry[0] for entry in starts)
    share = total / feasible.size * fitting / drawn
    return Pool(genotypes, feasible.costs(genotypes), drawn, share, counted=True)
