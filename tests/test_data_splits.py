"""Carving splits, and what a Split does: by hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from data_cases import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.data import Split, batches
from tinynas.data.split import apportion
from tinynas.data.splits import carve
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


def test_batches_cover_all_once_and_follow_from_seed_and_epoch() -> None:
    split = toy(50)
    seen = [(images, labels) for images, labels in batches(split, 16, seed=1, epoch=2)]
    assert [len(labels) for _, labels in seen] == [16, 16, 16, 2]
    everything = np.concatenate([images.reshape(len(images), -1) for images, _ in seen])
    assert np.array_equal(np.sort(everything, 0), np.sort(split.inputs.reshape(50, -1), 0))
    again = list(batches(split, 16, seed=1, epoch=2))
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(seen, again, strict=True))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(seen, batches(split, 16, seed=1, epoch=3), strict=True))
    plain = np.concatenate([labels for _, labels in batches(split, 7, seed=1, epoch=0, shuffle=False)])
    assert np.array_equal(plain, split.labels)
    with pytest.raises(DataError):
        next(batches(split, 0, seed=0, epoch=0))
    with pytest.raises(DataError):
        Split(split.inputs, split.labels[:3], split.names)
