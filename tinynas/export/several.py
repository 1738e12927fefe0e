"""Several labels at once: the threshold of each output of a file, chosen on validation inputs, and how good it is, class by class.

Networks answer in 256 steps, so that a threshold is a whole number: a class is there where its output is at least it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.errors import DataError, UserError
from tinynas.export.folder import Thresholds
from tinynas.export.judge import Rule, last_operator
from tinynas.export.sandbox import Inspected
from tinynas.metrics import sigmoid
from tinynas.several import Cut, choose_cuts, class_figures

#: In the place of a split: the .tflite's own metadata hold the thresholds.
FILE = "file"


@dataclass(frozen=True)
class ClassCuts:
    """From where on each class of the data is there, in real units of the file's outputs."""

    rule: Rule
    cuts: tuple[Cut, ...]
    raw: tuple[int, ...] | None
    """The same of each output of the file, in its own order and its own steps; None for float outputs without any."""
    split: str | None
    """Of the inputs that they were chosen on, or :data:`FILE` that says them; None where there were none, and each stands for a half."""
    logits: bool
    """Whether the outputs are logits; else they are probabilities."""

    def figures(self, outputs: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, Any]:
        """:func:`tinynas.several.class_figures` of real ``outputs`` (N, K) for classes ``truth`` (N, classes); each class with its
        ``threshold``: ``raw``, ``value``, ``probability``, and ``chosen_on``, None where it stands for a half."""
        found = class_figures(self.cuts, truth, scores_of(self.rule, outputs))
        for number, (row, cut) in enumerate(zip(found["classes"], self.cuts, strict=True)):
            probability = float(sigmoid(np.array(cut.threshold))) if self.logits else min(1.0, max(0.0, cut.threshold))
            row["threshold"] = {
                "raw": None if self.raw is None else self.raw[self.rule.columns[number]],
                "value": cut.threshold,
                "probability": probability,
                "chosen_on": self.split if cut.chosen else None,
            }
        return found

    def decision(self, element: str) -> Thresholds:
        """For the code around a network with outputs of ``element``. Raises UserError for float ones."""
        if element == "float32" or self.raw is None:
            raise UserError(
                "the firmware folder tells several labels at once by whole numbers, and this file's outputs are float",
                "leave --io at int8, or leave the format c out",
            )
        where = "a probability of a half" if self.split is None else f"the highest F1 of each on {self.split} inputs"
        lines = [f"A class is there where its output is at least its threshold: {where}."]
        missing = [cut.label for cut in self.cuts if not cut.chosen] if self.split is not None else []
        if missing:
            lines.append(f"Nothing to choose it on, so a half: {', '.join(missing)}.")
        return Thresholds(self.raw, tuple(lines))


def scores_of(rule: Rule, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of real ``outputs`` (N, K) those of the data's classes, in their order (N, classes)."""
    return outputs[:, list(rule.columns[: len(rule.labels) - rule.others])]


def check_several(model: Inspected, labels: Sequence[str], rule: Rule) -> None:
    """Raise DataError where outputs of ``model`` cannot be several ``labels`` at once."""
    if rule.single or last_operator(model.file) == "SOFTMAX":
        why = "has a single output" if rule.single else "ends in a softmax: its answers exclude each other"
        raise DataError(f"the data have several labels at once ({len(labels)} classes), and the model {why}", "leave data.multilabel out")


def choose(
    model: Inspected, rule: Rule, outputs: NDArray[np.float64] | None, truth: NDArray[np.int64] | None, split: str | None
) -> ClassCuts:
    """The thresholds with the highest F1 on real ``outputs`` (N, K) of inputs of classes ``truth`` (N, classes), those of ``split``; where
    there are none those that the file says, or a half."""
    labels = rule.labels[: len(rule.labels) - rule.others]
    grid, logits = model.facts.score_grid, last_operator(model.file) != "LOGISTIC"
    half = 0.0 if logits else 0.5
    told = model.facts.thresholds
    if outputs is None or truth is None or not len(outputs):
        cuts, split = [Cut(label, half, False) for label in labels], None
        if grid is not None and told is not None:
            said = [told[column] - grid.zero_point for column in rule.columns[: len(labels)]]
            cuts, split = [Cut(label, step * grid.scale, True) for label, step in zip(labels, said, strict=True)], FILE
    elif grid is None:
        cuts = choose_cuts(labels, truth, scores_of(rule, outputs), half)
    else:
        # Elements are whole numbers; real values of one step can differ in their last bit.
        steps = np.rint(scores_of(rule, outputs) / grid.scale)
        cuts = [replace(cut, threshold=cut.threshold * grid.scale) for cut in choose_cuts(labels, truth, steps, half / grid.scale)]
    if grid is None:
        return ClassCuts(rule, tuple(cuts), None, split, logits)
    whole = [math.ceil(round(cut.threshold / grid.scale, 6)) for cut in cuts]
    # Half a step below: no answer lies on it.
    cuts = [replace(cut, threshold=(step - 0.5) * grid.scale) for cut, step in zip(cuts, whole, strict=True)]
    raw = [0] * model.facts.classes
    for column, step in zip(rule.columns, whole, strict=False):
        raw[column] = step + grid.zero_point
    return ClassCuts(rule, tuple(cuts), tuple(raw), split, logits)
