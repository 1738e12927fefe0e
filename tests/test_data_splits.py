"""Carving splits, and what a Split does: by hand arithmetic."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from data_cases import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.data import Split
from tinynas.data.split import apportion, epoch_order
from tinynas.data.splits import _deviation, _fill, _orders, carve
from tinynas.errors import DataError


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=120), st.integers(0, 5))
def test_carving_is_a_partition_that_keeps_groups(images: list[tuple[int, int]], seed: int) -> None:
    labels = np.array([label for label, _ in images])
    groups = [str(group) for _, group in images]
    splits = carve(labels, groups, {"test": 0.2, "val": 0.2}, seed)
    for group in set(groups):
        assert len({splits[i] for i, g in enumerate(groups) if g == group}) == 1
    for label in set(labels):  # every class can be trained on
        assert "train" in {splits[i] for i in np.flatnonzero(labels == label)}
    order = np.random.default_rng(seed).permutation(len(images))
    again = carve(labels[order], [groups[i] for i in order], {"test": 0.2, "val": 0.2}, seed)
    assert list(again) == [splits[i] for i in order]


# by hand -----------------------------------------------------------------------------------------------


def in_order(names: list[str], seed: int) -> list[str]:
    """The order of the draw, by its definition."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())


def split_of(labels: list[int], groups: list[str], shares: dict[str, float], seed: int = 0) -> list[str]:
    return [str(split) for split in carve(np.array(labels), groups, shares, seed)]


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_single_records_are_carved_class_by_class_in_the_order_of_the_draw(seed: int) -> None:
    # 10 of class 0: 20 % and 30 % are 2 and 3. 5 of class 1: 1, and 1.5, which rounds to 2.
    names = [f"a{i}" for i in range(10)] + [f"b{i}" for i in range(5)]
    found = dict(zip(names, split_of([0] * 10 + [1] * 5, names, {"test": 0.2, "val": 0.3}, seed), strict=True))
    first, second = in_order(names[:10], seed), in_order(names[10:], seed)
    assert [found[name] for name in first] == ["test"] * 2 + ["val"] * 3 + ["train"] * 5
    assert [found[name] for name in second] == ["test"] + ["val"] * 2 + ["train"] * 2


@pytest.mark.parametrize(
    ("count", "shares", "expected"),
    [
        (1, (0.4, 0.4), (0, 0, 1)),  # the only one is for training
        (2, (0.4, 0.4), (1, 0, 1)),  # the second for the first split
        (2, (0.8, 0.05), (1, 0, 1)),
        (3, (0.05, 0.05), (1, 1, 1)),  # one each, however small the share
        (3, (0.8, 0.05), (1, 1, 1)),  # and however large
        (4, (0.5, 0.25), (2, 1, 1)),
        (5, (0.8, 0.05), (3, 1, 1)),
        (5, (0.05, 0.8), (1, 3, 1)),
        (9, (0.5, 0.25), (4, 2, 3)),  # 4.5 and 2.25, rounded to even and down
    ],
)
@pytest.mark.parametrize("twice", [1, 2], ids=["single records", "groups of two"])
def test_small_classes_by_hand(count: int, shares: tuple[float, float], expected: tuple[int, int, int], twice: int) -> None:
    if twice == 2 and count == 9:  # of 18 records 9 and 4 are wanted: a fifth group fills 1 and overshoots by 1, which is enough
        expected = (5, 2, 2)
    groups = [f"g{i}" for i in range(count) for _ in range(twice)]
    found = split_of([0] * len(groups), groups, {"test": shares[0], "val": shares[1]})
    assert tuple(found.count(split) // twice for split in ("test", "val", "train")) == expected


def test_groups_fill_a_split_while_they_fill_more_than_they_overshoot() -> None:
    # 40 records, 10 are wanted. Whatever the order: groups of 6 and 4 fill it; of two groups of 6 the second fills 4 and
    # overshoots by 2, of 6 and 20 the second fills 4 and overshoots by 16.
    sizes = {"a": 6, "b": 4, "c": 10, "d": 20}
    groups = [name for name, size in sizes.items() for _ in range(size)]
    for seed in range(6):
        found = split_of([0] * 40, groups, {"val": 0.25}, seed)
        assert found.count("val") == 10 and found.count("train") == 30


def test_the_nearest_draw_of_few_groups_wins_by_share_and_by_class() -> None:
    # Two classes, four groups; 25 % of each class are 5 records. Alone in val, "c" (5 and 5) is off by nothing, "a" (10
    # and 0) by 5/20 in both classes although its number is right, "b" likewise.
    content = {"a": (10, 0), "b": (0, 10), "c": (5, 5), "d": (5, 5)}
    labels = [label for zeros, ones in content.values() for label in [0] * zeros + [1] * ones]
    groups = [name for name, counts in content.items() for _ in range(sum(counts))]
    for seed in range(6):
        found = split_of(labels, groups, {"val": 0.25}, seed)
        inside = {group for group, split in zip(groups, found, strict=True) if split == "val"}
        assert inside in ({"c"}, {"d"})


def test_a_class_in_one_group_stays_in_training_and_binds_no_other() -> None:
    # Class 1 is in group "mixed" only, so that group trains; the other two groups of class 0 may be given away.
    groups = ["mixed"] * 4 + ["b"] * 2 + ["c"] * 2
    found = split_of([0, 0, 1, 1, 0, 0, 0, 0], groups, {"test": 0.3, "val": 0.3})
    assert found[:4] == ["train"] * 4 and sorted({found[4], found[6]}) == ["test", "val"]


def test_a_split_for_which_all_groups_are_too_large_still_gets_one() -> None:
    # 10 % of 30 are 3; every group has 10, fills 3 and overshoots by 7: the last in the order is taken all the same.
    groups = [name for name in "abc" for _ in range(10)]
    found = split_of([0] * 30, groups, {"val": 0.1})
    assert found.count("val") == 10
    assert split_of([0] * 20, groups[:20], {"val": 0.1}).count("val") == 10
    assert split_of([0] * 10, groups[:10], {"val": 0.1}).count("val") == 0


def test_groups_are_given_in_order_by_what_they_fill() -> None:
    def filled(groups: list[dict[int, int]], wanted: list[list[int]]) -> list[int]:
        return _fill(groups, np.array(wanted), range(len(groups))).tolist()

    # 10 wanted: 6 fit; of 9 more 4 fill and 5 overshoot, which is too much; of 8, 4 and 4 is just enough; then it is full.
    assert filled([{0: 6}, {0: 9}, {0: 8}, {0: 1}], [[10]]) == [0, -1, 0, -1]
    # What the first split has no use for goes to the second; of two classes the sums count: 1 + 5 of 10, then 0 + 4 of 9.
    assert filled([{0: 4}, {0: 4}, {0: 4}, {0: 4}], [[4], [4]]) == [0, 1, -1, -1]
    assert filled([{0: 5, 1: 5}, {0: 5, 1: 4}, {0: 1}, {1: 1}], [[1, 9]]) == [0, -1, -1, 0]
    # Nothing fits: each split gets the last that training can spare, and none of what the other has.
    assert filled([{0: 10}, {0: 10}, {0: 10}], [[2], [2]]) == [-1, 1, 0]
    assert filled([{0: 2}, {0: 10}, {0: 10}], [[2], [2]]) == [0, -1, 1]


def test_the_deviation_is_of_the_whole_and_of_each_class() -> None:
    # 8 of class 0, 2 of class 2, none of class 1; asked are 2 and 1. In split 0 are 4 and 1: off by 2 of 10, by 2 of 8 and 0 of 2.
    labels = np.array([0] * 8 + [2] * 2)
    assigned = np.array([0, 0, 0, 0, -1, -1, -1, -1, 0, -1])
    assert _deviation(assigned, labels, np.array([[2.0, 0.0, 1.0]])) == pytest.approx(2 / 10 + (2 / 8 + 0 / 2) / 2)
    # A second split of which 1 and 0 are asked, and that is empty: off by 1 of 10, and by 1 of 8.
    assert _deviation(assigned, labels, np.array([[2.0, 0.0, 1.0], [1.0, 0.0, 0.0]])) == pytest.approx(
        2 / 10 + (2 / 8) / 2 + 1 / 10 + (1 / 8) / 2
    )


def test_three_records_for_three_splits_and_training() -> None:
    found = split_of([0] * 3, ["a", "b", "c"], {"1": 0.2, "2": 0.2, "3": 0.2})
    assert sorted(found) == ["1", "2", "train"]


def test_many_groups_are_drawn_once_and_few_often() -> None:
    def orders(count: int) -> list[list[int]]:
        return _orders([f"g{i}" for i in range(count)], 3)

    assert len(orders(201)) == 1 and len(orders(200)) == 50
    names = [f"g{i}" for i in range(200)]
    assert [names[i] for i in orders(200)[0]] == in_order(names, 3)
    assert len({tuple(order) for order in orders(200)}) == 50 and all(sorted(order) == list(range(200)) for order in orders(200))


def test_adding_images_moves_few_others() -> None:
    def split(n: int) -> dict[str, str]:
        found = carve(np.zeros(n, np.int64), [f"image{i}" for i in range(n)], {"test": 0.15, "val": 0.15}, 0)
        return {f"image{i}": str(found[i]) for i in range(n)}

    before, after = split(1000), split(1050)
    assert sum(before[name] != after[name] for name in before) < 60


def test_subset_is_stratified_seeded_and_nested() -> None:
    split = toy()
    small, large = split.subset(15, 3), split.subset(30, 3)
    assert np.bincount(small.labels).tolist() == [10, 5] and np.bincount(large.labels).tolist() == [20, 10]
    assert set(small.names) < set(large.names)
    assert small.names == split.subset(15, 3).names != split.subset(15, 4).names
    assert split.subset(0, 3) is split and split.subset(500, 3) is split
    assert np.array_equal(small.inputs[0], split.inputs[int(small.names[0])])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(lambda c: sum(c) > 0), st.data())
def test_apportion_is_exact_and_fair(counts: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, sum(counts)))
    quotas = apportion(np.array(counts), n)
    assert all(0 <= q <= c for q, c in zip(quotas, counts, strict=True))
    nonempty = sum(c > 0 for c in counts)
    assert sum(quotas) == max(n, nonempty) if n < nonempty else sum(quotas) == n
    assert all(q >= 1 for q, c in zip(quotas, counts, strict=True) if c)


def test_an_epoch_has_every_input_once_and_its_order_follows_from_seed_and_epoch() -> None:
    order = epoch_order(50, seed=1, epoch=2)
    assert sorted(order.tolist()) == list(range(50)) != order.tolist()
    assert np.array_equal(order, epoch_order(50, seed=1, epoch=2))
    assert not np.array_equal(order, epoch_order(50, seed=1, epoch=3))
    assert not np.array_equal(order, epoch_order(50, seed=2, epoch=2))


def test_a_split_has_a_label_and_a_name_for_every_input() -> None:
    split = toy(50)
    with pytest.raises(DataError):
        Split(split.inputs, split.labels[:3], split.names)
