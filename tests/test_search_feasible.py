"""What fits: the pool, the repair, the exact counts, the space choice."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.budget import Budget, load_budget
from tinynas.config import load, n_bytes, shipped
from tinynas.cost import estimate
from tinynas.errors import BudgetError
from tinynas.graph import lower
from tinynas.search import pool as pool_module
from tinynas.search.counting import Counter, count_feasible
from tinynas.search.feasible import Feasible, as_genotype
from tinynas.search.pool import RARE, draw_pool
from tinynas.search.spaces import choose_space, rank_spaces
from tinynas.space import Space

TINY = load(shipped("search_spaces")["tiny"], Space)
MCUNET = load(shipped("search_spaces")["mcunet"], Space)
MICRO = load(shipped("search_spaces")["micro"], Space)
SMALL = Space.model_validate(
    {
        "name": "small",
        "resolution": [16, 24],
        "width_mult": [0.5, 1.0],
        "divisor": 4,
        "stem": {"out": [8, 16]},
        "stages": [
            {"out": [8, 16], "depth": [1, 2], "kernel": [3, 5], "expand": [1, 3]},
            {"out": 24, "depth": 1, "kernel": [3, 7], "expand": [2, 4], "stride": [1, 2]},
        ],
        "head": {"out": [0, 32]},
    }
)
#: Small, with bits of weights; some networks have no head, whose bits then do not act.
COARSE = Space.model_validate(
    {
        **SMALL.model_dump(exclude={"resolution", "stages"}),
        "name": "coarse",
        "resolution": 16,
        "stages": [
            {"out": [8, 16], "depth": [1, 2], "kernel": 3, "expand": [1, 3], "depthwise_bits": [8, 4]},
            {"out": 24, "kernel": [3, 7], "expand": 2},
        ],
        "weight_bits": [8, 4],
        "classifier_bits": [8, 4],
    }
)


def budget(flash: int = 10**6, sram: int = 10**6, **more: Any) -> Budget:
    file_alone = {"flash": {"runtime": n_bytes(0)}}  # the limit is the file's, not the code's too
    return Budget.model_validate({"name": "test", "flash": n_bytes(flash), "sram": n_bytes(sram), "reserves": file_alone, **more})


def every_genotype(space: Space) -> np.ndarray:
    rows = itertools.product(*(range(len(gene.choices)) for gene in space.genes))
    return np.array(sorted({space.canonical(row) for row in rows}))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_canonical_rows_are_those_of_the_space(seed: int) -> None:
    for space in (MCUNET, COARSE):
        feasible = Feasible(space, 2, load_budget("stm32f746"))
        raw = np.random.default_rng(seed).integers(0, feasible.sizes, size=(20, len(feasible.sizes)))
        for row, canonical in zip(raw, feasible.canonical(raw), strict=True):
            assert as_genotype(canonical) == space.canonical(as_genotype(row))


def test_pool_fits_by_the_single_estimator_and_is_distinct() -> None:
    limits = load_budget("nano33-ble-sense")
    feasible = Feasible(MCUNET, 2, limits)
    pool = draw_pool(feasible, 300, np.random.default_rng(0))
    assert len(pool) == 300
    assert len({as_genotype(row) for row in pool.genotypes}) == 300
    for index in range(0, 300, 10):
        cost = estimate(lower(MCUNET.decode(as_genotype(pool.genotypes[index]), 2)), limits.runtime, core=limits.core)
        assert limits.fits(cost)
        assert cost.macs == pool.costs["macs"][index]
    assert 0 < pool.share < 1


def test_pool_finds_everything_that_fits() -> None:
    limits = budget(macs=400_000)
    feasible = Feasible(SMALL, 2, limits)
    pool = draw_pool(feasible, 10**6, np.random.default_rng(0), max_draws=150_000)
    everything = every_genotype(SMALL)
    fitting = {as_genotype(g) for g in everything[feasible.fits(feasible.costs(everything))]}
    assert {as_genotype(g) for g in pool.genotypes} == fitting


def test_nothing_fits_names_the_limit_and_the_smallest_value() -> None:
    with pytest.raises(BudgetError) as caught:
        draw_pool(Feasible(MCUNET, 2, budget(flash=2_000)), 10, np.random.default_rng(0))
    assert "flash_bytes: the smallest network needs" in str(caught.value)
    assert "the limit is 2.0 KiB" in str(caught.value)
    assert "sram_bytes" not in caught.value.message
    assert caught.value.exit_code == 2


def test_where_the_time_is_too_short_for_any_the_time_is_named() -> None:
    feasible = Feasible(SMALL, 2, budget(), max_macs=1.0)
    with pytest.raises(BudgetError, match=r"can be trained in the time given: the smallest has .* MACs?, and so much") as caught:
        draw_pool(feasible, 10, np.random.default_rng(0))
    assert "--timeout" in str(caught.value)


def test_repair_gives_the_nearest_that_fits() -> None:
    limits = budget(macs=300_000)
    feasible = Feasible(SMALL, 2, limits)
    everything = every_genotype(SMALL)
    fitting = everything[feasible.fits(feasible.costs(everything))]
    wrong = everything[~feasible.fits(feasible.costs(everything))]
    for genotype in wrong[:: max(1, len(wrong) // 25)]:
        repaired = feasible.repair(genotype)
        assert repaired is not None
        assert feasible.fits(feasible.costs(repaired[None, :]))[0]
        assert feasible.distance(repaired[None, :], genotype)[0] >= feasible.distance(fitting, genotype).min() > 0


def test_subspaces_and_trainable_macs_narrow_everything() -> None:
    feasible = Feasible(MCUNET, 2, load_budget("stm32f746"), subspaces=[(1, 0), (2, 3)], max_macs=8e6)
    pool = draw_pool(feasible, 200, np.random.default_rng(0))
    resolution, width = MCUNET.gene_index["resolution"], MCUNET.gene_index["width_mult"]
    assert {(g[resolution], g[width]) for g in pool.genotypes} == {(1, 0), (2, 3)}
    assert pool.costs["macs"].max() <= 8e6
    for around in (feasible.neighbours(pool.genotypes[0]), feasible.inside(feasible.draw(50, np.random.default_rng(1)))):
        assert {(g[resolution], g[width]) for g in around} <= {(1, 0), (2, 3)}


@pytest.mark.parametrize("limits", [{"flash": 9_000}, {"macs": 250_000}, {"flash": 10_000, "macs": 300_000}])
@pytest.mark.parametrize("space", [SMALL, COARSE], ids=lambda space: space.name)
def test_counts_bound_the_truth_and_draws_cover_it(space: Space, limits: dict[str, int]) -> None:
    feasible = Feasible(space, 2, budget(**limits))
    everything = every_genotype(space)
    fitting = {as_genotype(g) for g in everything[feasible.fits(feasible.costs(everything))]}
    counted = sum(start[0] for start in Counter(feasible).starts())
    # Costs are rounded down, so the count is of a slightly larger set, never of a smaller one.
    assert len(fitting) <= counted <= 1.6 * len(fitting) + 5
    pool = count_feasible(feasible, np.random.default_rng(0), 100_000)
    assert pool is not None
    assert {as_genotype(g) for g in pool.genotypes} <= fitting
    assert len(pool) >= 0.9 * len(fitting)
    assert pool.share == pytest.approx(len(fitting) / space.size, rel=0.15)


@pytest.mark.parametrize("quantile", [0.005, 0.05, 0.5])
@pytest.mark.parametrize("space", [MICRO, TINY, MCUNET], ids=lambda space: space.name)
def test_counts_bound_the_truth_where_blocks_share_bytes_of_the_file(space: Space, quantile: float) -> None:
    # Cuts small enough to look at every network. Convolutions of as many channels share a vector of zero points.
    stages = [
        {"out": stage.out[:2], "depth": stage.depth[:1], "kernel": 3, "expand": stage.expand[:2], "stride": stage.stride[-1:]}
        for stage in space.stages[:4]
    ]
    one = {"resolution": 32, "width_mult": space.width_mult[:1], "stem": {"out": space.stem.out[:1]}, "head": {"out": 0}}
    cut = Space.model_validate({**space.model_dump(), **one, "stages": stages})
    everything = every_genotype(cut)
    flash = Feasible(cut, 2, budget()).costs(everything)["flash_bytes"]
    limit = int(np.quantile(flash, quantile, method="higher"))
    counted = sum(start[0] for start in Counter(Feasible(cut, 2, budget(flash=limit))).starts())
    assert 0 < (flash <= limit).sum() <= counted


def test_flash_that_the_code_takes_is_counted_as_taken() -> None:
    """A limit on model and code counts as many networks as what the code of every network leaves for the file."""
    everything = every_genotype(SMALL)
    program = Feasible(SMALL, 2, budget()).costs(everything)["program_bytes"]
    limit = int(np.quantile(program, 0.3, method="higher"))
    feasible = Feasible(SMALL, 2, budget(flash=limit, reserves={}))
    assert list(feasible.budget.limits) == ["sram_bytes", "program_bytes"]
    fitting = {as_genotype(g) for g in everything[program <= limit]}
    counter = Counter(feasible)
    code = counter.tables.base_code_bytes(None)
    assert 30_000 < code <= (program - Feasible(SMALL, 2, budget()).costs(everything)["flash_bytes"]).min()
    counted = sum(start[0] for start in counter.starts())
    assert len(fitting) <= counted == sum(start[0] for start in Counter(Feasible(SMALL, 2, budget(flash=limit - code))).starts())
    pool = count_feasible(feasible, np.random.default_rng(0), 500)
    assert pool is not None and {as_genotype(g) for g in pool.genotypes} <= fitting and len(pool) == 500
    repaired = feasible.repair(everything[int(program.argmax())])
    assert repaired is not None and as_genotype(repaired) in fitting
    assert not Counter(Feasible(SMALL, 2, budget(flash=int(program.min()) // 2, reserves={}))).starts()


def test_a_loose_budget_counts_every_network() -> None:
    for space in (SMALL, COARSE):
        counted = sum(start[0] for start in Counter(Feasible(space, 2, budget(10**9, 10**9))).starts())
        assert counted == space.size


def test_shares_are_of_what_is_searched() -> None:
    whole = Feasible(MCUNET, 2, load_budget("stm32f746"))
    part = Feasible(MCUNET, 2, load_budget("stm32f746"), subspaces=[(0, 0), (1, 2), (2, 1)])
    assert whole.size == MCUNET.size
    assert part.size * len(MCUNET.resolution) * len(MCUNET.width_mult) == 3 * MCUNET.size
    few = Feasible(SMALL, 2, budget(), subspaces=[(0, 0)])
    rows = every_genotype(SMALL)
    assert few.size == len(np.unique(few.inside(rows), axis=0))
    pool = count_feasible(few, np.random.default_rng(0), 10)
    assert pool is not None and pool.share == pytest.approx(1.0), "all of the sub-space fits"


def test_counted_draws_are_uniform() -> None:
    feasible = Feasible(SMALL, 2, budget(10**9, 10**9))
    counter, rng = Counter(feasible), np.random.default_rng(0)
    starts = counter.starts()
    depth = [counter.draw(starts, rng)[SMALL.gene_index["s0.depth"]] for _ in range(800)]
    # Of 4 + 16 block choices of the first stage, 16 are of depth 2.
    assert np.mean(depth) == pytest.approx(16 / 20, abs=0.05)
    counter, rng = Counter(Feasible(COARSE, 2, budget(10**9, 10**9))), np.random.default_rng(0)
    starts, at = counter.starts(), COARSE.gene_index
    rows = np.array([counter.draw(starts, rng) for _ in range(800)])
    assert all(map(COARSE.holds, rows.tolist())) and all(COARSE.canonical(row) == tuple(row) for row in rows.tolist())
    # With a head its bits double the networks: two of three have one.
    assert rows[:, at["head.out"]].mean() == pytest.approx(2 / 3, abs=0.05)
    for name in ("s0.weight_bits", "s0.depthwise_bits", "s1.weight_bits", "classifier_bits"):
        assert rows[:, at[name]].mean() == pytest.approx(1 / 2, abs=0.055)


def test_rare_networks_are_found_by_counting() -> None:
    feasible = Feasible(MCUNET, 2, budget(flash=46_000, sram=30_000))
    pool = draw_pool(feasible, 100, np.random.default_rng(0), max_draws=20_000)
    assert pool.counted
    assert 0 < pool.share < RARE
    assert len(pool) == 100
    assert feasible.fits(pool.costs).all()


def test_space_choice_spends_the_memory_and_serves_every_size() -> None:
    table = rank_spaces(MCUNET, load_budget("stm32f746"), draws=200)
    assert len(table.rows) == len(MCUNET.resolution) * len(MCUNET.width_mult)
    means = [row.mean_macs for row in table.rows]
    assert means == sorted(means, reverse=True)
    assert table.rows[0].chosen, "the largest mean MACs, TinyNAS's rule"
    assert {band for row in table.chosen for band in row.bands} == {0, 1, 2, 3}
    assert len(table.chosen) <= 12
    for row in table.rows:
        assert list(row.macs_quantiles) == sorted(row.macs_quantiles)
        assert bool(row.macs_quantiles) == bool(row.fitting)
    text = table.text()
    assert f"{table.rows[0].resolution}px x{table.rows[0].width_mult:g}" in text
    assert table.to_json()[0]["chosen"] is True


def test_space_choice_follows_the_budget() -> None:
    large = rank_spaces(MCUNET, load_budget("stm32h743"), draws=200).rows[0]
    small = rank_spaces(MCUNET, load_budget("rp2040"), draws=200, max_macs=4e6).rows[0]
    assert large.mean_macs > small.mean_macs
    capped = rank_spaces(MCUNET, load_budget("stm32f746"), draws=100, max_resolution=(64, 64))
    assert all(row.resolution <= 64 for row in capped.rows if row.fitting)


def test_space_choice_where_nothing_fits() -> None:
    with pytest.raises(BudgetError, match="the smallest network needs"):
        rank_spaces(MCUNET, budget(flash=2_000), draws=50)
    # A time or image limit that leaves nothing is lifted rather than called the user's fault.
    assert rank_spaces(MCUNET, load_budget("stm32f746"), draws=50, max_resolution=(8, 8)).chosen


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        (load_budget("stm32f746"), MCUNET),
        # What fits of tiny has more MACs, by a tenth, and a third more parameters.
        (load_budget("mcunet-tiny2"), MICRO),
        # Without a limit on MACs that does not count.
        (budget(flash=512 * 1024, sram=48 * 1024), TINY),
        # ColabNAS k8c5's costs: a file of 41 kB.
        (budget(flash=41_772, sram=31_300, macs=2_086_995), MICRO),
        # Of mcunet nothing fits, of tiny one draw in hundreds.
        (budget(flash=24 * 1024, sram=64 * 1024), MICRO),
    ],
    ids=lambda value: value.name,
)
def test_the_space_with_the_most_macs_within_the_budget_is_chosen(limits: Budget, chosen: Space) -> None:
    space, why = choose_space([MCUNET, MICRO, TINY], limits)
    assert space is chosen
    assert all(one.name in why for one in (MCUNET, MICRO, TINY))


def test_spaces_level_under_a_limit_on_macs_are_told_by_their_fewest_parameters() -> None:
    limits = load_budget("mcunet-tiny2")
    _, why = choose_space([MCUNET, MICRO, TINY], limits)
    told = re.search(r"; level under a limit on MACs, by fewest parameters: micro (\d+) k, tiny (\d+) k\)", why)
    assert told is not None, "mcunet has 0.5 M MACs"
    for space, thousands in zip((MICRO, TINY), map(int, told.groups()), strict=True):
        clear = [row for row in rank_spaces(space, limits).rows if row.share >= 0.05]
        most = max(row.mean_macs for row in rank_spaces(TINY, limits).rows if row.share >= 0.05)
        assert round(min(row.mean_params for row in clear if row.mean_macs >= 0.85 * most) / 1e3) == thousands
    # mcunet-vww0's costs, images of 48 px: of mcunet 5.1 M MACs and 205 k parameters, of tiny 4.7 M and 95 k.
    larger = budget(flash=460_000, sram=110_400, macs=5_961_280)
    assert choose_space([MCUNET, MICRO, TINY], larger, native_size=(48, 48))[0] is TINY
    free = limits.model_copy(update={"macs": None})
    assert "level" not in choose_space([MCUNET, MICRO, TINY], free)[1]


def test_where_no_space_fits_the_nearest_one_says_so() -> None:
    smallest = {space.name: Feasible(space, 2, budget()) for space in (MCUNET, TINY)}
    needs = {name: float(f.costs(f.smallest_network()[None, :])["flash_bytes"][0]) for name, f in smallest.items()}
    nearest = min(needs, key=lambda name: needs[name])
    with pytest.raises(BudgetError, match=f"no network of space '{nearest}' fits"):
        choose_space([MCUNET, TINY], budget(flash=2_000))


def test_images_decide_with_the_budget() -> None:
    # Of images of 32 pixels no network above 48 pixels is searched: what fits of mcunet has fewer MACs.
    whole, small = (choose_space([MCUNET, TINY], load_budget("stm32f746"), native_size=(side, side))[1] for side in (0, 32))
    megas = [float(re.search(r"mcunet ([0-9.]+) M", why).group(1)) for why in (whole, small)]  # type: ignore[union-attr]
    assert megas[1] < megas[0] / 2


@pytest.mark.parametrize("spare", [0, 400])
def test_where_only_the_very_smallest_fit_they_are_found_and_ranked(spare: int) -> None:
    feasible = Feasible(MCUNET, 2, budget())
    smallest = int(feasible.costs(feasible.smallest_network()[None, :])["flash_bytes"][0])
    limits = budget(flash=smallest + spare)
    feasible = Feasible(MCUNET, 2, limits)
    pool = draw_pool(feasible, 50, np.random.default_rng(0), max_draws=2_000)
    assert feasible.fits(feasible.costs(pool.genotypes)).all()
    found = {as_genotype(row) for row in pool.genotypes}
    assert as_genotype(feasible.smallest_network()) in found
    assert len(found) == len(pool) <= 50
    assert len(pool) >= (5 if spare else 1)
    table = rank_spaces(MCUNET, limits, draws=20)
    assert table.chosen
    assert all(row.chosen == (row.fitting > 0) for row in table.rows)
    assert all(row.share < 1e-6 for row in table.rows)
    assert "< 1%" in table.text()


def test_the_networks_around_the_smallest_are_all_that_fit_where_few_do() -> None:
    everything = every_genotype(SMALL)
    costs = Feasible(SMALL, 2, budget()).costs(everything)["flash_bytes"]
    limits = budget(flash=int(np.sort(costs)[7]))
    feasible = Feasible(SMALL, 2, limits)
    around = {as_genotype(row) for row in pool_module._around_the_smallest(feasible, 100)}
    fitting = {as_genotype(row) for row in everything[costs <= limits.limits["flash_bytes"]]}
    assert around == fitting
    assert len(pool_module._around_the_smallest(feasible, 3)) == 3


def test_where_hardly_a_draw_fits_no_sub_space_is_left_out() -> None:
    table = rank_spaces(MICRO, budget(flash=20 * 1024, sram=32 * 1024))
    assert max(row.fitting for row in table.rows) < 10, "or this tests nothing"
    assert sum(row.chosen for row in table.rows) == sum(row.fitting > 0 for row in table.rows) > 1
    assert "few fit" in table.explain()


@pytest.mark.parametrize("seed", range(3))
def test_what_just_fits_of_a_larger_space_does_not_lead(seed: int) -> None:
    # Of mcunet one network in a hundred fits there, with three times the MACs.
    assert choose_space([MCUNET, MICRO, TINY], budget(flash=48 * 1024, sram=256 * 1024), seed=seed)[0] is MICRO


PORTRAIT = Space.model_validate(
    {
        "name": "portrait",
        "resolution": [[16, 10], [12, 8]],
        "width_mult": [0.5, 1.0],
        "divisor": 4,
        "stem": {"out": [4, 8], "kernel": [3, [1, 3]], "stride": [2, [2, 1]]},
        "stages": [{"out": [4, 8], "depth": [1, 2], "kernel": [3, [5, 3]], "expand": [1, 2], "stride": [1, [2, 1]]}],
    }
)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_portrait_networks_are_counted_exactly_where_they_can_be_looked_at(share: float) -> None:
    everything = every_genotype(PORTRAIT)
    costs = Feasible(PORTRAIT, 3, budget()).costs(everything)
    limits = budget(flash=int(np.quantile(costs["flash_bytes"], share)), sram=int(np.quantile(costs["sram_bytes"], 0.6)))
    feasible = Feasible(PORTRAIT, 3, limits)
    fitting = everything[feasible.fits(costs)]
    counted = sum(entry[0] for entry in Counter(feasible).starts())
    assert len(fitting) <= counted <= len(everything), "rounded down, the counting misses nothing that fits"
    pool = count_feasible(feasible, np.random.default_rng(0), len(fitting))
    assert pool is not None
    assert {as_genotype(row) for row in pool.genotypes} <= {as_genotype(row) for row in fitting}
    table = rank_spaces(PORTRAIT, limits, draws=100, max_resolution=(12, 8))
    assert {row.resolution for row in table.rows if row.fitting} == {(12, 8)}
    assert "12x8px" in table.explain()
    assert "16x10" in table.text()
    assert table.to_json()[0]["resolution"] in ([16, 10], [12, 8])
