"""Who is served how well by a file: parts, the gaps between them, the ROC curve and a threshold, for promote and evaluate alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas import metrics
from tinynas.data import DataSet
from tinynas.data.subsets import gap_report, has_parts, splits_for, subset_report
from tinynas.errors import DataError
from tinynas.export.judge import Rule, last_operator
from tinynas.export.operating import OPTION, OperatingPoint, check_wished, choose
from tinynas.export.sandbox import Inspected
from tinynas.export.several import ClassCuts, check_several
from tinynas.export.several import choose as choose_cuts

#: Points of a ROC curve that are kept: more are not told apart on a page.
CURVE_POINTS = 200
VALIDATION = "val"
"""The split that thresholds are chosen on."""


@dataclass(frozen=True)
class Audience:
    """What a file is judged on besides its accuracy."""

    data: DataSet
    split: str = "test"
    """Whose images it answers."""
    false_alarms: float | None = None
    """The rate that a threshold is chosen for; None: the largest output decides."""
    asked: bool = False
    """Whether parts were asked for: then they must be there."""

    def check(self) -> None:
        """Raise UserError or DataError where the wished threshold cannot be told from the data; before anything is trained."""
        if self.false_alarms is not None and self.data.several:
            raise DataError(
                f"{OPTION}: {self.data.name} has several labels at once: each class has a threshold of its own, by its highest F1",
                "leave it out",
            )
        if self.asked and self.data.several:
            raise DataError(f"{self.data.name}: parts of data with several labels at once are not judged", "leave --subsets out")
        if self.false_alarms is not None:
            data, positive = self.data, self.data.positive
            counts = data.counts(VALIDATION)
            negatives = 0 if positive is None else counts[data.labels[1 - positive]]
            check_wished(self.false_alarms, data.name, data.labels, positive, negatives, VALIDATION)

    def point(self, model: Inspected, rule: Rule, answers: Callable[[str], NDArray[np.float64]]) -> OperatingPoint | None:
        """The threshold, chosen on validation images; None where none is wished. ``answers`` gives outputs (N, K) of a split."""
        self.check()
        if self.false_alarms is None or self.data.positive is None:
            return None
        return choose(
            rule,
            answers(VALIDATION),
            self.data.targets[self.data.rows(VALIDATION)],
            positive=self.data.positive,
            wished=self.false_alarms,
            split=VALIDATION,
            facts=model.facts,
            last=last_operator(model.file),
        )

    def class_cuts(self, model: Inspected, rule: Rule, answers: Callable[[str], NDArray[np.float64]]) -> ClassCuts:
        """Of several labels at once: the thresholds of all classes, chosen on validation inputs where there are some."""
        check_several(model, self.data.labels, rule)
        rows = self.data.members.get(VALIDATION, ())
        if not len(rows):
            return choose_cuts(model, rule, None, None, None)
        return choose_cuts(model, rule, answers(VALIDATION), self.data.targets[rows], VALIDATION)

    def figures(
        self, rule: Rule, outputs: NDArray[np.float64], point: OperatingPoint | None, answers: Callable[[str], NDArray[np.float64]]
    ) -> dict[str, Any]:
        """``roc``, ``operating_point``, ``subsets`` with ``subsets_by`` and ``gaps``: each where it can be told.

        ``outputs`` (N, K) are those of :attr:`split`. Parts are judged as the firmware decides: by the threshold where there is one.
        """
        data, found = self.data, dict[str, Any]()
        truth = data.targets[data.rows(self.split)]
        if data.positive is not None and (curve := _curve(rule, outputs, truth, data.positive)) is not None:
            found["roc"] = curve
        if point is not None:
            found["operating_point"] = {**point.to_json(), "measured": point.measured(outputs, truth, self.split)}
        if self.asked or has_parts(data):
            deciding = rule if point is None else point.rule
            given = {name: outputs if name == self.split else answers(name) for name in splits_for(data, self.split)}
            subsets = subset_report(data, {name: deciding.predict(values) for name, values in given.items()})
            by = "threshold" if deciding.threshold is not None else "largest output"
            found |= {"subsets": subsets, "subsets_by": by, "gaps": gap_report(subsets)}
        return found


def _curve(rule: Rule, outputs: NDArray[np.float64], truth: NDArray[np.int64], positive: int) -> dict[str, Any] | None:
    yes = truth == positive
    if yes.all() or not yes.any():
        return None
    alarms, recall, _ = metrics.roc(yes, rule.margin(outputs, positive))
    kept = np.unique(np.linspace(0, len(alarms) - 1, min(len(alarms), CURVE_POINTS)).round().astype(int))
    return {"positive": rule.labels[positive], "false_alarms": [alarms[i] for i in kept], "recall": [recall[i] for i in kept]}
