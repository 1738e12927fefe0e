"""What a classifier's outputs say: which output is which class, above which threshold a single one says yes, and how good that is.

::

    rule = rule_of(inspected, labels, outputs)   # outputs (N, K) in real units decide where nothing else tells
    rule.predict(outputs), rule.score(outputs, truth)
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas import metrics
from tinynas.cost.tflite import ModelFile
from tinynas.errors import DataError, ModelFileError, UserError, counted
from tinynas.export.facts import ModelFacts
from tinynas.export.sandbox import Inspected

#: Operators that may stand behind the last one that decides what an output means.
_RETYPED = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST"})
#: Images (of each class) below which figures raise no doubt, and answers that all lie in 0..1 say nothing.
_ENOUGH = 16
OTHER = "(other)"
"""The column of the confusion for outputs of a model that are no class of the data."""


@dataclass(frozen=True)
class Rule:
    """How outputs become classes of the data."""

    labels: tuple[str, ...]
    """The data's classes; behind them :data:`OTHER` where the model has more."""
    columns: tuple[int, ...]
    """The output of each class of the data, and then all others; of a single output, (number of the class that it says no to, yes to)."""
    order_from: str
    """Whence the order is known."""
    named: bool = False
    """Whether the file's own names gave the order."""
    threshold: float | None = None
    """Of a single output: above it, the image is of class :attr:`positive`."""
    threshold_from: str = ""
    yes: int | None = None
    """Of two outputs with a threshold: the class that is said where its output exceeds the other's by more than :attr:`threshold`."""
    others: bool = False
    """Whether the last of :attr:`labels` stands for several outputs that are no class of the data."""

    @property
    def positive(self) -> str:
        """The class that a single output speaks of, or that the threshold between two is for."""
        return self.labels[self.columns[1] if self.yes is None else self.yes]

    @property
    def single(self) -> bool:
        """Whether there is one output."""
        return self.threshold is not None and self.yes is None

    def margin(self, outputs: NDArray[np.float64], positive: int) -> NDArray[np.float64]:
        """How much outputs (N, K) speak for class ``positive`` of two (N,), in their own unit: what a threshold is compared with."""
        if self.single:
            return outputs[:, 0] if self.columns[1] == positive else -outputs[:, 0]
        return np.asarray(outputs[:, self.columns[positive]] - outputs[:, self.columns[1 - positive]])

    def predict(self, outputs: NDArray[np.float64]) -> NDArray[np.int64]:
        """Classes (N,) as positions in :attr:`labels`."""
        if self.threshold is not None:
            yes = self.columns[1] if self.yes is None else self.yes
            return np.where(self.margin(outputs, yes) > self.threshold, yes, 1 - yes).astype(np.int64)
        return np.asarray(np.minimum(outputs[:, list(self.columns)].argmax(1), len(self.labels) - 1), dtype=np.int64)

    def score(self, outputs: NDArray[np.float64], truth: NDArray[np.int64], positive: int | None = None) -> dict[str, Any]:
        """accuracy with its interval (95 %), balanced_accuracy, auc, n and confusion of real outputs (N, K) for classes (N,).

        Of more than ten classes also ``top5`` with its interval; of two, where one is ``positive``, its name, ``recall`` and
        ``false_alarms`` with theirs (None without an image). Raises ModelFileError for NaN.
        """
        if not np.isfinite(outputs).all():
            raise ModelFileError("the model's outputs are not finite", "the file is broken or was trained badly")
        predicted = self.predict(outputs)
        table = metrics.confusion(truth, predicted, len(self.labels))
        more: dict[str, Any] = {}
        known = len(self.labels) - self.others
        if known > metrics.TOP_FROM:
            more |= metrics.named("top5", metrics.top(truth, outputs[:, list(self.columns)]))
        if positive is not None and known == 2:
            is_yes, said_yes = truth == positive, predicted == positive
            more["positive"] = self.labels[positive]
            more |= metrics.named("recall", metrics.recall(is_yes, said_yes))
            more |= metrics.named("false_alarms", metrics.false_alarms(is_yes, said_yes))
        return {
            **metrics.named("accuracy", metrics.share(predicted == truth)),
            **more,
            "balanced_accuracy": metrics.balanced_accuracy(table),
            "auc": metrics.auc(truth, self._scores(outputs)) if len(self.labels) > 1 else None,
            "n": len(truth),
            "confusion": table,
        }

    def _scores(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.single:
            return self.margin(outputs, 1)
        ordered = outputs[:, list(self.columns)]
        if ordered.shape[1] == 2:
            return self.margin(outputs, 1)
        return _probabilities(ordered)[:, : len(self.labels) - self.others]

    def to_json(self) -> dict[str, Any]:
        """``labels``, whence their order is known, and for a single output its threshold."""
        document: dict[str, Any] = {"labels": list(self.labels), "order_known_from": self.order_from}
        if self.threshold is not None:
            document["threshold"] = {"value": self.threshold, "known_from": self.threshold_from, "positive": self.positive}
        return document


def rule_of(
    model: Inspected, labels: Sequence[str], outputs: NDArray[np.float64] | None = None, *, threshold: str | float | None = None
) -> Rule:
    """The rule by which outputs of ``model`` become one of ``labels``, the data's.

    Names in the file are matched with the data's; without names, outputs are the data's classes in order. ``threshold`` (real
    units, or ``raw:X`` in the output's own) is for single outputs; without it the last operators, the output's quantisation, and then
    real ``outputs`` (N, 1) tell.
    Raises DataError where outputs and classes cannot be matched, naming both, and UserError for an impossible ``threshold``.
    """
    facts = model.facts
    _check_output(facts)
    if facts.classes > 1 or len(labels) == 1:
        if threshold is not None:
            raise UserError(f"--threshold is for models with a single output; this one has {facts.classes}", "leave it out")
        return _order(facts, tuple(labels))
    if len(labels) != 2:
        raise DataError(
            f"the model has 1 output, the data {len(labels)} classes ({_listed(labels)})",
            "a single output tells two classes apart: choose them with --set data.labels=[...] or --set data.binary={class: [...]}",
        )
    positive, known = _positive(facts, tuple(labels))
    value, why = _threshold(model.file, facts, outputs, threshold)
    return Rule(tuple(labels), (1 - positive, positive), known, known != _unnamed(facts), value, why)


def warnings_of(rule: Rule, outputs: NDArray[np.float64], truth: NDArray[np.int64], figures: Mapping[str, Any]) -> list[str]:
    """What the figures of :meth:`Rule.score` themselves make doubtful: a threshold beside the mark, classes in another order."""
    area, labels = figures["auc"], rule.labels
    if len(labels) > 2:
        order = _other_order(figures["confusion"], labels)
        return [f"the model's outputs are probably in another order than {rule.order_from}: {order}"] if order else []
    if len(labels) < 2 or area is None or min(np.bincount(truth, minlength=2)) < _ENOUGH:
        return []
    if area < 0.35:
        remedy = "are the files in the right folders?"
        if not rule.named:
            remedy = f"turn them round with --set {shlex.quote(f'data.labels=[{labels[1]}, {labels[0]}]')}"
        return [
            f"the area under the ROC curve is {area:.2f}, below 0.5: the model seems to mean {labels[1]} where {labels[0]} is taken "
            f"(by {rule.order_from}); {remedy}"
        ]
    balanced, usual = figures["balanced_accuracy"], _usual(area)
    if balanced >= usual - (0.08 if rule.single else 0.12):
        return []
    doubt = (
        f"the area under the ROC curve is {area:.2f} but the balanced accuracy only {100 * balanced:.1f} % ({100 * usual:.0f} % is usual): "
    )
    if rule.threshold is None or not rule.single:
        return [f"{doubt}the outputs favour one class, as with another range of the input than in training (--pixels)"]
    best = _best_threshold(outputs[:, 0], truth == rule.columns[1])
    return [
        f"{doubt}{rule.threshold:.4g} is probably the wrong threshold ({rule.threshold_from}); {best:.4g} tells these apart best; "
        "say it with --threshold, chosen on other data than those you report on"
    ]


def _usual(area: float) -> float:
    """The balanced accuracy at the best threshold of two normal distributions of one variance with that area under the ROC curve."""
    return 1.0 if area >= 1 else NormalDist().cdf(NormalDist().inv_cdf(area) / 2**0.5)


# The order of classes ---------------------------------------------------------------------------------


def _check_output(facts: ModelFacts) -> None:
    wide = [n for n in facts.output_shape if n != 1]
    if len(wide) > 1:
        raise ModelFileError(
            f"the model's output has the shape {list(facts.output_shape)}",
            "a classifier gives [1, classes]; maps and boxes cannot be evaluated",
        )


def _names(facts: ModelFacts, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The file's own class names; () where it has none, or numbers in their place that the data's ``labels`` are not."""
    names = facts.labels
    if (len(names) != facts.classes and not (facts.classes == 1 and len(names) == 2)) or len(set(names)) < len(names):
        return ()
    numbers = all(re.fullmatch(rf"(class[ _-]?)?{i}", name) for i, name in enumerate(names))
    return () if numbers and not set(labels) <= set(names) else names


def _order(facts: ModelFacts, labels: tuple[str, ...]) -> Rule:
    names = _names(facts, labels)
    if not names:
        if facts.classes != len(labels):
            hint = "one output may be for the background: " if facts.classes == len(labels) + 1 else ""
            classes = counted(len(labels), "class", "classes")
            raise DataError(
                f"the model has {counted(facts.classes, 'output')}, the data {classes} ({_listed(labels)})",
                f"{hint}evaluate it on data with its own classes",
            )
        return Rule(labels, tuple(range(len(labels))), _unnamed(facts))
    found = _matched(labels, names, data=labels)
    rest = tuple(i for i in range(len(names)) if i not in found)
    if not rest:
        return Rule(labels, tuple(found), "the file's own class names", named=True)
    return Rule(
        (*labels, names[rest[0]] if len(rest) == 1 else OTHER), (*found, *rest), "the file's own class names", named=True, others=True
    )


def _unnamed(facts: ModelFacts) -> str:
    why = (
        "the file names no classes"
        if not facts.labels
        else f"the file's names ({_listed(facts.labels)}) do not fit its {facts.classes} outputs"
    )
    return f"the data's own order: {why}"


def _positive(facts: ModelFacts, labels: tuple[str, ...]) -> tuple[int, str]:
    """(position of the class that the single output speaks of, whence that is known)."""
    names = facts.labels if len(facts.labels) == 1 and not facts.labels[0].isdecimal() else _names(facts, labels)
    if not names:
        return 1, _unnamed(facts)
    if len(names) == 1:
        return _matched(names, labels, data=labels)[0], "the file's own class name"
    return _matched(labels, names, data=labels).index(1), "the file's own class names"


def _matched(wanted: Sequence[str], names: Sequence[str], *, data: Sequence[str]) -> list[int]:
    """The position in ``names`` of each of ``wanted``: by its exact name, else by one that differs in case, spaces or dashes only.

    One of both are the classes of the ``data``, the other those of the file.
    """
    found = {name: i for i, name in enumerate(names)}
    loose = Counter(_plain(name) for name in names)
    loosely = {_plain(name): i for i, name in enumerate(names) if loose[_plain(name)] == 1}
    places = [found.get(name, loosely.get(_plain(name), -1)) for name in wanted]
    if -1 in places or len(set(places)) < len(places):
        file = names if data is wanted else wanted
        known = {_plain(name) for name in file}
        taken = {_plain(name) for name in data}
        unknown, spare = [name for name in data if _plain(name) not in known], [name for name in file if _plain(name) not in taken]
        pairs = ", ".join(f"{a}: {b}" for a, b in zip(unknown or data, spare or file, strict=False))
        lacking = f": it has no {_listed(unknown)}" if unknown else ""
        raise DataError(
            f"the data's classes are {_listed(data)}; the file's own are {_listed(file)}{lacking}",
            "evaluate it on data with the file's classes, choose classes with --set data.labels=[...], or, where they mean the same, "
            f"rename them: --set {shlex.quote(f'data.label_map={{{pairs}}}')}",
        )
    return places


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")


def _other_order(table: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """How classes would have to be exchanged, where most images of each class are taken for one other class; "" elsewhere."""
    counts = np.asarray(table)
    taken = counts.argmax(1)
    total = counts.sum()
    if not counts.sum(1).all() or len(set(taken.tolist())) < len(counts):
        return ""
    right, exchanged = np.trace(counts) / total, counts[np.arange(len(counts)), taken].sum() / total
    if exchanged < 0.5 or exchanged < right + 0.2:
        return ""
    return ", ".join(f"{labels[i]} is taken for {labels[int(j)]}" for i, j in enumerate(taken[:6]) if i != j)


# The threshold of a single output ---------------------------------------------------------------------


def _threshold(file: ModelFile, facts: ModelFacts, outputs: NDArray[np.float64] | None, given: str | float | None) -> tuple[float, str]:
    if given is not None:
        return parse_threshold(given, facts), "given with --threshold"
    kind, grid = last_operator(file), facts.score_grid
    if kind == "LOGISTIC":
        return 0.5, "the network ends in a sigmoid"
    if grid is not None:
        low, high = grid.ends
        if -0.4 <= low <= 0.2 and 0.8 <= high <= 1.25:
            # The middle of the raw values: 0.5 where the range is 0..1, and what a reader of raw bytes compares with.
            return float(low + high) / 2, f"the middle of the output's range {low:.3g}..{high:.3g}, which is that of a probability"
    if outputs is not None and len(outputs) >= _ENOUGH and outputs.min() >= 0 and 0.5 < outputs.max() <= 1:
        return 0.5, "all outputs lie in 0..1"
    return 0.0, "the output is taken for a logit: no sigmoid at the end, no range of a probability"


def parse_threshold(text: str | float, facts: ModelFacts) -> float:
    """``--threshold`` in real units; ``raw:127.5`` is in those of the file's quantised output. Raises UserError."""
    word = str(text).strip().lower()
    raw = word.startswith("raw:")
    try:
        value = float(word.removeprefix("raw:"))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise UserError(
            f"--threshold {text}: is no number", "give it in the output's real units, such as 0.5, or as raw:127.5 of a quantised output"
        )
    grid = facts.score_grid
    if raw and grid is None:
        raise UserError(f"--threshold {text}: the output is float and has no raw values", "give the threshold in real units, such as 0.5")
    return (value - grid.zero_point) * grid.scale if raw and grid is not None else value


def last_operator(file: ModelFile) -> str:
    """The kind of the operator that decides what the output means: behind it only its type or shape changes."""
    tensor = file.outputs[0]
    for op in reversed(file.ops):
        if tensor not in op.outputs:
            continue
        if op.kind not in _RETYPED or not op.inputs:
            return op.kind
        tensor = op.inputs[0]
    return ""


def _best_threshold(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Above which scores (N,) tell ``positive`` (N,) from the others with the highest balanced accuracy: between two of them."""
    levels = np.unique(scores)
    yes, no = np.sort(scores[positive]), np.sort(scores[~positive])
    found = 1 - np.searchsorted(yes, levels, side="right") / len(yes)
    rejected = np.searchsorted(no, levels, side="right") / len(no)
    best = int(np.argmax(found + rejected))
    return float((levels[best] + levels[min(best + 1, len(levels) - 1)]) / 2)


def _probabilities(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    # Already probabilities (a model that ends in softmax) or logits: an image's scores must be comparable with another's.
    sums = outputs.sum(1)
    if outputs.min() >= 0 and np.abs(sums - 1).max() < 0.05:
        return outputs
    return metrics.softmax(outputs)
