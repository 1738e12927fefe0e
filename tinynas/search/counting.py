"""Exact counting over stages: how to draw uniformly what rejection does not find.

Where under one network in ten thousand fits, drawing at random finds nothing. But the additive costs (MACs, flash) of
a network are sums over its blocks, and memory is a maximum over them; so the networks that fit can be counted block by
block from the end (a knapsack over rounded-down costs), and drawn with probability proportional to the counts. What is
drawn is then checked with the exact estimator, because costs were rounded down in its favour: to whole cells, and by all
that the file may share between a block and the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import TypeAlias

import numpy as np

from tinynas.arch import Arch, Block, ConvLayer, MBConv
from tinynas.cost import Cost, estimate
from tinynas.cost.flash import shared_terms
from tinynas.cost.runtimes import runtime_named
from tinynas.graph import lower, mid_channels
from tinynas.search.feasible import Feasible, Pool
from tinynas.space import make_divisible

#: Steps that the remaining flash (or MACs) are rounded down to.
CELLS = 96
#: Networks drawn by count for each that is wanted, at most: costs rounded down let some through that do not fit.
OVERDRAW = 20

_Left: TypeAlias = tuple[int, ...]
Start: TypeAlias = tuple[int, tuple[int, ...], float, int, int, _Left]
"""(networks, first genes and head gene, width multiplier, side and width after the stem, what is left)."""


class Counter:
    """Counts and draws the networks of a feasible set by their blocks."""

    def __init__(self, feasible: Feasible) -> None:
        self.feasible, self.space = feasible, feasible.space
        limits = dict(feasible.budget.limits)
        if feasible.max_macs is not None:
            limits["macs"] = min(limits.get("macs", float("inf")), feasible.max_macs)
        self.sram = limits.get("sram_bytes", float("inf"))
        self.names = [name for name in ("flash_bytes", "macs") if name in limits]
        self.limits = [limits[name] for name in self.names]
        self.full: _Left = tuple(CELLS for _ in self.names)
        self._after_stage = lru_cache(maxsize=None)(self._count_stage)
        self._after_block = lru_cache(maxsize=None)(self._count_block)
        self._block_cost = lru_cache(maxsize=None)(self._cost_of_block)

    # costs of parts ---------------------------------------------------------------------------------

    def _estimate(self, side: int, channels: int, stem: ConvLayer, blocks: tuple[Block, ...] = (), head: ConvLayer | None = None) -> Cost:
        image = 1 if channels == 1 else 3
        arch = Arch(height=side, width=side, channels=image, classes=self.feasible.classes, stem=stem, blocks=blocks, head=head)
        return estimate(lower(arch), self.feasible.budget.runtime)

    def _cost_of_block(self, side: int, width: int, block: MBConv) -> tuple[float, tuple[float, ...]]:
        # The block behind a stem that hands it (side, side, width); what the stem costs alone is taken off.
        # A stride of 4 makes maps smaller than the smallest image.
        stem = ConvLayer(out=width, kernel=1, stride=4, act=self.space.act)
        alone, both = self._estimate(4 * side, 3, stem), self._estimate(4 * side, 3, stem, (block,))
        live = max(row.live_bytes for row in both.layers if row.name.startswith("b0."))
        head = (block.out - width) * self.feasible.classes
        own = both.flash_bytes - alone.flash_bytes - head - self._shared(width, block)
        shares = {"flash_bytes": max(0, own), "macs": both.macs - alone.macs - head}
        return float(live), tuple(shares[name] for name in self.names)

    def _shared(self, width: int, block: MBConv) -> int:
        # The file holds these once for each channel count, however many convolutions have it.
        if runtime_named(self.feasible.budget.runtime).flash != "file":
            return 0
        terms = shared_terms({mid_channels(block, width), block.out} - {width}, ())
        return terms.front + terms.quantisation

    def _take(self, left: _Left, used: tuple[float, ...]) -> _Left | None:
        rest = tuple(cells - int(use / limit * CELLS) for cells, use, limit in zip(left, used, self.limits, strict=True))
        return None if min(rest, default=0) < 0 else rest

    # counting from the end --------------------------------------------------------------------------

    def _stage_choices(self, stage: int, mult: float) -> Iterator[tuple[int, int, int, int, int, int]]:
        one = self.space.stages[stage]
        for (o, out), (s, stride), (d, depth) in product(enumerate(one.out), enumerate(one.stride), enumerate(one.depth)):
            yield o, s, d, make_divisible(out * mult, self.space.divisor), stride, depth

    def _count_stage(self, stage: int, mult: float, side: int, width: int, left: _Left) -> int:
        if stage == len(self.space.stages):
            return 1
        return sum(
            self._after_block(stage, mult, 0, depth, stride, side, width, out, left)
            for _, _, _, out, stride, depth in self._stage_choices(stage, mult)
        )

    def _block_choices(
        self, stage: int, index: int, stride: int, side: int, width: int, out: int, left: _Left
    ) -> Iterator[tuple[int, int, int, _Left]]:
        one = self.space.stages[stage]
        stride = stride if index == 0 else 1
        for (k, kernel), (e, expand) in product(enumerate(one.kernel), enumerate(one.expand)):
            block = MBConv(out=out, kernel=kernel, stride=stride, expand=expand, residual=stride == 1 and out == width, act=self.space.act)
            live, used = self._block_cost(side, width, block)
            rest = self._take(left, used) if live <= self.sram else None
            if rest is not None:
                yield k, e, -(-side // stride), rest

    def _count_block(
        self, stage: int, mult: float, index: int, depth: int, stride: int, side: int, width: int, out: int, left: _Left
    ) -> int:
        if index == depth:
            return self._after_stage(stage + 1, mult, side, width, left)
        return sum(
            self._after_block(stage, mult, index + 1, depth, stride, after, out, out, rest)
            for _, _, after, rest in self._block_choices(stage, index, stride, side, width, out, left)
        )

    # drawing from the beginning ---------------------------------------------------------------------

    def starts(self) -> list[Start]:
        """Every beginning (image, width, stem, head) that some network has, with the number of networks that have it."""
        space = self.space
        result: list[Start] = []
        genes = [list(enumerate(gene.choices)) for gene in space.genes[:6]]
        allowed = {tuple(int(i) for i in pair) for pair in self.feasible.subspaces}
        for (r, side), (c, color), (w, mult), (so, stem_out), (sk, stem_kernel), (ss, stem_stride) in product(*genes):
            if allowed and (r, w) not in allowed:
                continue
            stem = ConvLayer(out=make_divisible(stem_out * mult, space.divisor), kernel=stem_kernel, stride=stem_stride, act=space.act)
            channels = 3 if color == "rgb" else 1
            for h, head_out in enumerate(space.head.out):
                head = ConvLayer(out=make_divisible(head_out * mult, space.divisor), kernel=1, act=space.act) if head_out else None
                base = self._estimate(side, channels, stem)
                if base.layers[0].live_bytes > self.sram:
                    continue
                narrow = min(make_divisible(out * mult, space.divisor) for out in space.stages[-1].out)
                # The classifier's weights: its input may be narrower than the stem.
                less = max(0, stem.out - narrow) * self.feasible.classes
                used = [(base.flash_bytes if name == "flash_bytes" else base.macs) - less for name in self.names]
                if head is not None:
                    # At least what it costs behind the narrowest last stage.
                    used = [u + narrow * head.out if name == "flash_bytes" else u for u, name in zip(used, self.names, strict=True)]
                rest = self._take(self.full, tuple(used))
                if rest is None:
                    continue
                after = -(-side // stem_stride)
                count = self._after_stage(0, mult, after, stem.out, rest)
                if count:
                    result.append((count, (r, c, w, so, sk, ss, h), mult, after, stem.out, rest))
        return result

    def draw(self, starts: list[Start], rng: np.random.Generator) -> list[int]:
        """One genotype, every counted network alike."""
        start = _pick([entry[0] for entry in starts], rng)
        _, outer, mult, side, width, left = starts[start]
        genotype = list(outer[:6])
        for stage, one in enumerate(self.space.stages):
            choices = list(self._stage_choices(stage, mult))
            counts = [self._after_block(stage, mult, 0, depth, stride, side, width, out, left) for _, _, _, out, stride, depth in choices]
            o, s, d, out, stride, depth = choices[_pick(counts, rng)]
            genotype += [o, s, d]
            for index in range(max(one.depth)):
                if index >= depth:
                    genotype += [0, 0]
                    continue
                blocks = list(self._block_choices(stage, index, stride, side, width, out, left))
                ways = [self._after_block(stage, mult, index + 1, depth, stride, after, out, out, rest) for _, _, after, rest in blocks]
                k, e, side, left = blocks[_pick(ways, rng)]
                width = out
                genotype += [k, e]
        return [*genotype, outer[6]]


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
    share = total / feasible.space.size * fitting / drawn
    return Pool(genotypes, feasible.costs(genotypes), drawn, share, counted=True)
