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


# by hand -----------------------------------------------------------------------------------------------


def test_confident_disagreement_by_hand() -> None:
    given = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    own = np.array([7, 6, 2, 5, 7, 6, 3, 4]) / 8  # both thresholds are 20/8/4 = 5/8
    probabilities = np.where(given[:, None] == np.arange(2), own[:, None], 1 - own[:, None])
    names = tuple("abcdefgh")
    found = confident_disagreement(probabilities, given, names, ("no", "yes"))
    # c: 6/8 for yes is above 5/8. g: 5/8 for no is just there. h: 4/8 is below both thresholds, so its label stands.
    assert [(s.name, s.label, s.suggested, s.probability, s.own) for s in found.suspects] == [
        ("c", "no", "yes", 6 / 8, 2 / 8),
        ("g", "yes", "no", 5 / 8, 3 / 8),
    ]
    assert found.share == 2 / 8 and found.by_class == {"no": 1 / 4, "yes": 1 / 4} and found.judged == 8
    assert found.accuracy == 5 / 8  # c and g are wrong, and h's tie goes to the first class
    shown = found.to_json(limit=1)
    assert [suspect["name"] for suspect in shown["suspects"]] == ["c"] and shown["share"] == 2 / 8 and shown["judged"] == 8


def test_of_several_classes_above_their_threshold_the_likeliest_counts() -> None:
    # Thresholds: a 0.5, b 0.25; c is nobody's label, so it is never suggested below certainty, and 0 of it are wrong.
    probabilities = np.array([[0.5, 0.375, 0.125], [0.5, 0.0, 0.5], [0.375, 0.25, 0.375], [0.625, 0.25, 0.125]])
    found = confident_disagreement(probabilities, np.array([0, 0, 1, 1]), tuple("wxyz"), ("a", "b", "c"))
    assert [(s.name, s.suggested) for s in found.suspects] == [("z", "a")]  # w is above b's too, but more above a's
    assert found.by_class == {"a": 0.0, "b": 0.5, "c": 0.0}
    certain = confident_disagreement(np.array([[0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]), np.array([0, 1]), tuple("wx"), ("a", "b", "c"))
    assert certain.suspects[0].suggested == "c" and certain.suspects[0].probability == 1.0


def split_of(labels: list[int], pixels: list[int], groups: list[int] | None = None) -> Split:
    inputs = np.array(pixels, np.uint8).reshape(-1, 1, 1, 1)
    return Split(inputs, np.array(labels), tuple(map(str, range(len(labels)))), None if groups is None else np.array(groups))


def test_folds_are_of_equal_size_and_every_record_is_judged_once() -> None:
    sizes: list[tuple[int, int, int]] = []
    seen: list[str] = []

    def scorer(train: Split, held_out: Split, fold: int) -> np.ndarray:
        sizes.append((fold, len(train), len(held_out)))
        seen.extend(held_out.names)
        return np.eye(2)[held_out.labels]

    found = estimate_noise(split_of([0] * 6 + [1] * 3, list(range(9))), ("a", "b"), scorer, folds=3)
    assert sizes == [(0, 6, 3), (1, 6, 3), (2, 6, 3)] and sorted(seen) == [str(i) for i in range(9)]
    assert found.share == 0 and found.accuracy == 1


@pytest.mark.parametrize(("pixels", "groups"), [([1, 2, 3, 4, 1, 2, 3, 4], None), (list(range(8)), [0, 1, 2, 3, 0, 1, 2, 3])])
def test_equal_inputs_and_groups_are_judged_together(pixels: list[int], groups: list[int] | None) -> None:
    def scorer(train: Split, held_out: Split, fold: int) -> np.ndarray:
        pairs = sorted(held_out.names)
        assert [str(int(name) + 4) for name in pairs if int(name) < 4] == [name for name in pairs if int(name) >= 4]
        return np.eye(2)[held_out.labels]

    estimate_noise(split_of([0, 1] * 4, pixels, groups), ("a", "b"), scorer, folds=2)


def test_what_cannot_be_judged_is_refused() -> None:
    def right(train: Split, held_out: Split, fold: int) -> np.ndarray:
        return np.eye(2)[held_out.labels]

    few = split_of([0, 0, 1, 1], [1, 2, 3, 4])
    assert estimate_noise(few, ("a", "b"), right, folds=2).judged == 4
    with pytest.raises(DataError, match="'a' has 2 images; judging in 3 folds"):
        estimate_noise(few, ("a", "b"), right, folds=3)
    with pytest.raises(DataError, match="needs at least 2"):
        estimate_noise(few, ("a", "b"), right, folds=1)
    with pytest.raises(DataError, match=r"returned \(2, 3\), not \(2, 2\)"):
        estimate_noise(few, ("a", "b"), lambda train, held_out, fold: np.zeros((len(held_out), 3)), folds=2)
    with pytest.raises(DataError, match="groups are too few"):
        estimate_noise(split_of([0, 1] * 4, list(range(8)), [0] * 8), ("a", "b"), right, folds=2)
