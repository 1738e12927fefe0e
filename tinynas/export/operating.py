"""Where to say yes: the threshold of a two-class network for a wished false-alarm rate, chosen on validation images.

::

    point = choose(rule, outputs, truth, positive=1, wished=0.05, split="val", facts=facts, last=last_operator(file))
    point.rule.predict(outputs)          # as the firmware will decide

Networks answer in 256 steps, so that a threshold is a whole number: of a single output its element, of two outputs by how much the
positive class's element exceeds the other's.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas import metrics
from tinynas.errors import DataError, InternalError, UserError, counted
from tinynas.export.facts import ModelFacts
from tinynas.export.folder import Decision
from tinynas.export.judge import Rule

OPTION = "--false-alarms"


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what it does to the images that it was chosen on."""

    rule: Rule
    """The rule with the threshold."""
    positive: int
    """Number of the class that it says yes to."""
    wished: float
    split: str
    """Of the images that it was chosen on."""
    raw: int | None
    """In the outputs' own steps: yes where they are above it. None for float outputs."""
    probability: float
    """The same as a probability of the positive class."""
    recall: metrics.Share
    false_alarms: metrics.Share

    def to_json(self) -> dict[str, Any]:
        """As ``export.json`` and ``evaluate --json`` hold it; ``expected`` is of the images that it was chosen on."""
        return {
            "wished": self.wished,
            "positive": self.rule.labels[self.positive],
            "chosen_on": self.split,
            "of": "output" if self.rule.single else "difference of outputs",
            "raw": self.raw,
            "value": self.rule.threshold,
            "probability": self.probability,
            "expected": {"recall": self.recall.to_json(), "false_alarms": self.false_alarms.to_json()},
            "smallest": 1 / self.false_alarms.of,
        }

    def decision(self) -> Decision:
        """For the code around a network of two outputs; a single one's is its user's. Raises InternalError for that."""
        if self.rule.single or self.rule.threshold is None:
            raise InternalError("the firmware folder's networks have an output a class")
        kind, label = "steps of the outputs" if self.raw is not None else "real units", self.rule.labels[self.positive]
        return Decision(
            self.positive,
            self.rule.threshold if self.raw is None else self.raw,
            (
                f'Yes ("{label}", class {self.positive}) where its output is above the other by more than this, in {kind}:',
                f"a probability of {self.probability:.4f}. Chosen on the {self.split} split for a false-alarm rate of {self.wished:g};",
                f"there {_words(self.false_alarms)} false alarms, and {_words(self.recall)} of class {self.positive} found.",
            ),
        )

    def measured(self, outputs: NDArray[np.float64], truth: NDArray[np.int64], split: str | None) -> dict[str, Any]:
        """What it does to other images: accuracy, recall and false alarms with intervals, None where there is none to count."""
        predicted = self.rule.predict(outputs)
        yes, said = truth == self.positive, predicted == self.positive
        shares = {
            "accuracy": metrics.share(predicted == truth),
            "recall": metrics.recall(yes, said),
            "false_alarms": metrics.false_alarms(yes, said),
        }
        return {"split": split, **{name: None if share is None else share.to_json() for name, share in shares.items()}}


def _words(share: metrics.Share) -> str:
    low, high = share.interval
    return f"{100 * share.value:.1f} % ({100 * low:.1f} to {100 * high:.1f} % with 95 % confidence, {share.hits} of {share.of})"


def check_wished(wished: float, name: str, labels: tuple[str, ...], positive: int | None, negatives: int, split: str = "val") -> None:
    """Raise UserError or DataError where ``negatives`` images of ``split`` tell no threshold for ``wished``: before work begins."""
    if not 0 < wished < 1:
        raise UserError(f"{OPTION} {wished:g}: is no share of inputs", "give a number between 0 and 1, such as 0.05 for one of twenty")
    if positive is None:
        raise DataError(
            f"{OPTION}: {name} has {counted(len(labels), 'class', 'classes')}; a threshold is between two",
            "make one class of several: --set data.binary={CLASS: [...]}",
        )
    if wished * negatives < 1:
        other = labels[1 - positive]
        smallest = f"the smallest rate that they can tell is {1 / negatives:.3g} (1 of {negatives:,})" if negatives else "they tell none"
        raise DataError(
            f"{OPTION} {wished:g}: {name}'s {split} split holds {negatives:,} of class {other}: {smallest}",
            f"wish for that or more, or add some of {other} to {split}" if negatives else f"add some of {other} to {split}",
        )


def choose(
    rule: Rule,
    outputs: NDArray[np.float64],
    truth: NDArray[np.int64],
    *,
    positive: int,
    wished: float,
    split: str,
    facts: ModelFacts,
    last: str,
) -> OperatingPoint:
    """The threshold with the most recall of those with at most ``wished`` false alarms on outputs (N, K) of images of classes (N,).

    Between two answers that were seen, it lies in their middle. ``last``: the network's last operator, which tells logits from
    probabilities. Raises UserError and DataError as :func:`check_wished`.
    """
    yes = truth == positive
    check_wished(wished, "the data", rule.labels, positive, int((~yes).sum()), split)
    if not yes.any():
        raise DataError(f"{OPTION}: {split} holds nothing of class {rule.labels[positive]}", "add some, or carve the splits anew")
    if rule.single and rule.columns[1] != positive:
        spoken, wanted = rule.positive, rule.labels[positive]
        raise DataError(
            f"{OPTION}: the model's output speaks of {spoken}, and false alarms are of {wanted}",
            f"choose for the other class: --set {shlex.quote(f'data.positive={spoken}')}",
        )
    margin, grid = rule.margin(outputs, positive), facts.score_grid
    raw, value = None, 0.0
    if grid is None:
        value = _cut(margin[yes], margin[~yes], wished)
    else:
        # Elements are whole numbers; real values of one step can differ in their last bit.
        zero_point = grid.zero_point if rule.single else 0
        steps = np.rint(margin / grid.scale) + zero_point
        raw = math.floor(_cut(steps[yes], steps[~yes], wished))
        value = (raw + 0.5 - zero_point) * grid.scale  # half a step above: no answer lies on it
    why = f"chosen on {split} for {wished:g} of false alarms"
    chosen = replace(rule, threshold=value, threshold_from=why, yes=None if rule.single else positive)
    said = chosen.predict(outputs) == positive
    recall, alarms = metrics.recall(yes, said), metrics.false_alarms(yes, said)
    assert recall is not None and alarms is not None
    return OperatingPoint(chosen, positive, wished, split, raw, _probability(value, rule.single, last), recall, alarms)


def _cut(yes: NDArray[np.float64], no: NDArray[np.float64], wished: float) -> float:
    """Above which at most ``wished`` of the negative answers are, and as many positive ones as can be: between two answers."""
    allowed = min(len(no) - 1, math.floor(wished * len(no) + 1e-9))
    lowest = float(np.sort(no)[::-1][allowed])  # answers equal to it stay below the threshold, too
    above = np.concatenate([yes[yes > lowest], no[no > lowest]])
    return (lowest + float(above.min())) / 2 if len(above) else lowest


def _probability(value: float, single: bool, last: str) -> float:
    """What a threshold in real units is as a probability of the positive class."""
    if last == "SOFTMAX":
        return min(1.0, max(0.0, (1 + value) / 2))  # p - (1 - p) = 2 p - 1
    if single and last == "LOGISTIC":
        return min(1.0, max(0.0, value))
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
