"""The estimate of wrong labels."""

from __future__ import annotations

import numpy as np
import pytest
from data_cases import toy

from tinynas.data import Split
from tinynas.data.noise import confident_disagreement, estimate_noise
from tinynas.errors import DataError


def test_label_noise_is_found_where_it_was_put() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 900)
    pixels = (rng.normal(0, 30, (900, 2, 2, 1)) + 40 + 80 * truth[:, None, None, None]).clip(0, 255).astype(np.uint8)
    given = truth.copy()
    wrong = rng.choice(900, 90, replace=False)
    given[wrong] = (given[wrong] + 1) % 3
    split = Split(pixels, given, tuple(f"image{i}" for i in range(900)))
    folds: list[set[str]] = []

    def scorer(train: Split, held_out: Split, fold: int) -> np.ndarray:
        folds.append(set(held_out.names))
        assert not set(train.names) & set(held_out.names)
        centres = np.array([train.inputs[train.labels == k].mean() for k in range(3)])
        distance = (held_out.inputs.mean((1, 2, 3))[:, None] - centres[None]) ** 2 / 800
        score = np.exp(-distance)
        return np.asarray(score / score.sum(1, keepdims=True))

    found = estimate_noise(split, ("a", "b", "c"), scorer, folds=3)
    assert len(folds) == 3 and set().union(*folds) == set(split.names) and found.judged == 900
    assert 0.07 < found.share < 0.14 and found.accuracy > 0.8
    truly = {f"image{i}" for i in wrong}
    assert sum(s.name in truly for s in found.suspects[:60]) >= 55
    assert all(a.probability - a.own >= b.probability - b.own - 1e-9 for a, b in zip(found.suspects, found.suspects[1:], strict=False))
    clean = confident_disagreement(np.eye(3)[truth] * 0.9 + 0.03, truth, split.names, ("a", "b", "c"))
    assert clean.share == 0 and clean.suspects == ()
    with pytest.raises(DataError, match="at least 5"):
        estimate_noise(toy(6), ("a", "b"), scorer, folds=5)
