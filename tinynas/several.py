"""Several labels at once: from where on each class is said to be there, and how good that is, class by class. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas import metrics


@dataclass(frozen=True)
class Cut:
    """From where on a class is said to be there."""

    label: str
    threshold: float
    """Yes where the score is at least so much, in the scores' own unit."""
    chosen: bool
    """Whether it is the best by F1; else no input that it could be chosen on is of the class, and it stands for a half."""


def choose_cuts(labels: Sequence[str], truth: NDArray[np.int64], scores: NDArray[np.float64], half: float) -> list[Cut]:
    """The threshold of each class with the highest F1 on ``scores`` (N, classes) of inputs whose classes ``truth`` (N, classes) marks.

    ``half``: the score that a probability of a half has. Raises ValueError without an input.
    """
    cuts = []
    for number, label in enumerate(labels):
        best = metrics.best_cut(truth[:, number] > 0, scores[:, number])
        cuts.append(Cut(label, half if best is None else best[0], best is not None))
    return cuts


def said(cuts: Sequence[Cut], scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, classes): which are said to be there."""
    return np.asarray(scores >= np.array([cut.threshold for cut in cuts]))


def class_figures(cuts: Sequence[Cut], truth: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, Any]:
    """``mean_average_precision``, ``f1`` (mean over the classes that occur), ``inputs``, how many are of ``none``, and ``classes``: of each
    its ``label``, ``positives``, ``average_precision``, ``precision``, ``recall`` (with intervals) and ``f1``.

    None where a class has no input, or is never said. Raises ValueError where no input is of any class.
    """
    answers = said(cuts, scores)
    rows: list[dict[str, Any]] = []
    for number, cut in enumerate(cuts):
        there, yes = truth[:, number] > 0, answers[:, number]
        positives = int(there.sum())
        row: dict[str, Any] = {
            "label": cut.label,
            "positives": positives,
            "average_precision": metrics.average_precision(there, scores[:, number]),
            **metrics.named("precision", metrics.share(there[yes])),
            **metrics.named("recall", metrics.recall(there, yes)),
            "f1": 2 * int((there & yes).sum()) / (int(yes.sum()) + positives) if positives else None,
        }
        rows.append(row)
    return {
        "mean_average_precision": metrics.mean_average_precision(truth, scores),
        "f1": float(np.mean([row["f1"] for row in rows if row["f1"] is not None])),
        "inputs": len(truth),
        "none": int((truth.sum(1) == 0).sum()),
        "classes": rows,
    }
