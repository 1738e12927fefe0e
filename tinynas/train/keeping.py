"""Whether a change that augmentation makes keeps the label: asked of the data, through a small network, before a training begins.

A mirrored photograph shows the same thing; a mirrored digit, letter or sign shows another one, or none that ever occurs. Nobody but the
data can tell. A small network is trained without any change of its images. Of its validation images it is asked twice: as they are, and
changed. Where a change costs it much of what it knows, far beyond the noise, the change is unfamiliar, or it changes labels. A second
network tells these apart: it is trained alike, but with the change. Where it is worse than the first on untouched images, beyond the
noise (or, of mirroring and of a change that costs nearly half of what is known, no better), the change teaches what is not so here, and
is left out, or halved where half of it costs little. Otherwise it stays.

Noise is the standard error of a paired difference, over images or, where that is larger, over groups (the frames of one track).
results/benchmarks/label_keeping.md shows what this answers on four data sets, and what the answers are worth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinynas.arch import Arch, ConvLayer, Separable, classes_for
from tinynas.data import DataSet, Split
from tinynas.graph import lower
from tinynas.recipe import Augment, Recipe
from tinynas.records import LabelAnswer, LabelAnswers
from tinynas.train.feed import AUGMENTERS
from tinynas.train.loop import Trainer

#: Pixels of the small network's input, in the shape that the data have.
PIXELS = 24 * 24
#: Training and validation images, at most; more where there are many classes.
TRAIN_IMAGES, VAL_IMAGES = 2000, 2000
CLASS_IMAGES, MOST_IMAGES = 40, 6000
#: Images that a network sees in its training: a few seconds on one core.
SEEN = 12_000
#: With fewer it learns too little to be asked.
LEAST_SEEN = 2000
#: A change is looked into where it costs more than this share of what the network knows above guessing ...
MUCH = 0.2
#: ... and so many standard errors; and where so many of two classes' right images are taken for the other class.
SURE = 3.0
EXCHANGED, EXCHANGED_IMAGES = 0.5, 8
#: Beyond this share a change has to show that it teaches something; below, that it does harm. Mirroring has to where it costs much at
#: all: of photographs it costs 5 % of what is known at most, of signs and digits 36 to 70 % (eight seeds of four data sets). Two trainings
#: differ by more than the noise of images: by one seed signs were a point better with mirroring, and lost five in full training.
HEAVY = 0.4
#: A second network is better, or worse, where the difference is beyond so many standard errors.
BEYOND = 2.0


@dataclass(frozen=True)
class Question:
    """One change of an image, and the settings that make it."""

    name: str
    kind: Literal["light", "wake-vision"]
    fields: tuple[str, ...]
    """Settings of that kind of augmentation."""
    certain: tuple[str, ...] = ()
    """Of these the probabilities: the question is asked of images that are all changed."""
    halves: bool = True
    """Whether half of it is a smaller change."""
    heavy: float = HEAVY
    """Share of what the network knows beyond which the change has to show that it teaches something."""


_LIGHT_OFF = {"flip": 0.0, "rotate": 0.0, "zoom": 0.0, "shift": 0.0, "brightness": 0.0, "contrast": 0.0}
_WHOLE = (1.0, 1.0)
_STRONG_OFF = {
    "crop_scale": _WHOLE,
    "crop_ratio": _WHOLE,
    **dict.fromkeys(("flip", "color", "blur", "affine", "weather", "dropout"), 0.0),
}
QUESTIONS: tuple[Question, ...] = (
    Question("mirroring", "light", ("flip",), certain=("flip",), halves=False, heavy=MUCH),
    Question("rotation", "light", ("rotate",)),
    Question("zoom", "light", ("zoom",)),
    Question("shift", "light", ("shift",)),
    Question("light", "light", ("brightness", "contrast")),
    Question("mirroring", "wake-vision", ("flip",), certain=("flip",), halves=False, heavy=MUCH),
    Question("crops", "wake-vision", ("crop_scale", "crop_ratio")),
    Question("colour", "wake-vision", ("color",), certain=("color",), halves=False),
    Question("shift, scale and rotation", "wake-vision", ("affine",), certain=("affine",), halves=False),
)
"""What is asked of each kind of augmentation."""


def open_questions(augment: Augment, known: Sequence[LabelAnswer] = ()) -> list[Question]:
    """What has to be asked about ``augment``: every change of which a setting is ``auto``, and that no answer is ``known`` of."""
    given = augment.light if augment.kind == "light" else augment.wake_vision
    asked = [q for q in QUESTIONS if q.kind == augment.kind and any(getattr(given, name) == "auto" for name in q.fields)]
    return [q for q in asked if _answer(q, augment, known) is None]


def settled(augment: Augment, known: Sequence[LabelAnswer]) -> Augment:
    """``augment`` in numbers: ``auto`` as the answers say, and as usual where none does. Numbers that were given stay."""
    given = augment.light if augment.kind == "light" else augment.wake_vision
    found: dict[str, Any] = {}
    for question in open_questions(augment):
        answer = _answer(question, augment, known)
        if answer is not None:
            found |= {name: _tuple(value) for name, value in answer.used.items() if getattr(given, name) == "auto"}
    whole = augment.settled()
    return whole.changed(light=found) if augment.kind == "light" else whole.changed(wake_vision=found)


def _answer(question: Question, augment: Augment, known: Sequence[LabelAnswer]) -> LabelAnswer | None:
    settings = _settings(question, augment)
    same = (a for a in known if a.question == question.name and {name: _tuple(v) for name, v in a.settings.items()} == settings)
    return next(same, None)


def _settings(question: Question, augment: Augment) -> dict[str, Any]:
    strengths = augment.light.strengths if question.kind == "light" else augment.wake_vision.strengths
    return {name: getattr(strengths, name) for name in question.fields}


def _alone(question: Question, settings: Mapping[str, Any]) -> Augment:
    """An augmentation that does this and nothing else."""
    if question.kind == "light":
        return Augment(kind="light").settled().changed(light={**_LIGHT_OFF, **settings})
    return Augment(kind="wake-vision").settled().changed(wake_vision={**_STRONG_OFF, **settings})


def _half(name: str, value: Any) -> Any:
    match name:
        case "crop_scale":
            return tuple((1 + share) / 2 for share in value)
        case "crop_ratio":
            return tuple(math.sqrt(ratio) for ratio in value)
        case _:
            return value / 2


def _none(question: Question) -> dict[str, Any]:
    off = _LIGHT_OFF if question.kind == "light" else _STRONG_OFF
    return {name: off[name] for name in question.fields}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# asking -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """Right or wrong of each validation image, and what it was taken for."""

    right: NDArray[np.bool_]
    predicted: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share right."""
        return float(self.right.mean())


class Asker:
    """A small network of one data set, trained without changes; it answers questions."""

    def __init__(self, data: DataSet, *, seed: int = 0, seen: int = SEEN, seconds: float | None = None) -> None:
        """Trains on ``seen`` images, or as many as ``seconds`` allow."""
        classes = classes_for(data.labels)
        most = min(max(TRAIN_IMAGES, CLASS_IMAGES * classes), MOST_IMAGES)
        few = {"train": data.members["train"][:most], "val": data.members["val"][:VAL_IMAGES]}
        data = replace(data, members={**data.members, **few})
        height, width = input_size(data.native_size)
        channels = 3 if 3 in data.signal.channels else data.signal.channels[0]
        self.arch = small_network(height, width, channels, classes)
        self.labels, self.seed = data.labels, seed
        self.train_split, self.val = (data.split(name, height, width, channels) for name in ("train", "val"))
        self.epochs = max(1, round(seen / len(self.train_split)))
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.plain = self._trained(Augment(kind="none"), self._deadline)
        self.epochs = self.plain.epoch  # the second one is trained alike
        self.judged = self._judge(self.plain, self.val) if self.epochs else None
        counts = np.bincount(self.val.labels, minlength=classes)
        self.chance = float(counts.max() / counts.sum())

    @property
    def knows(self) -> bool:
        """Whether the network knows enough, above naming the most frequent class, to be asked."""
        if self.judged is None:
            return False
        noise = math.sqrt(self.chance * (1 - self.chance) / len(self.val))
        return self.judged.accuracy - self.chance > max(SURE * noise, 0.03)

    def answer(self, question: Question, augment: Augment) -> LabelAnswer:
        """What :attr:`plain`, and where need be a second network, say of the change at the strength that ``augment`` has."""
        assert self.judged is not None, "it knows nothing: see knows"
        settings = _settings(question, augment)
        looked = self.look(question, settings)
        found = LabelAnswer(question.name, settings, "kept", settings, self.judged.accuracy, looked.accuracy, self.error(looked))
        pairs = self.exchanged(looked)
        if not self.costs_much(looked) and not pairs:
            return found
        among = np.isin(self.val.labels, [label for pair in pairs for label in pair])
        where = np.ones(len(self.val), np.bool_) if self.costs_much(looked) else among
        second = self._judge(self._trained(_alone(question, settings), None), self.val)
        gain, noise = self.gain(second, where)
        names = tuple((self.labels[a], self.labels[b]) for a, b in pairs)
        found = replace(found, trained=second.accuracy, trained_error=self.error(second), exchanged=names)
        # What costs so much is not merely unfamiliar: the second network has to be better. Of anything else, it must not be worse.
        better, worse = gain > BEYOND * noise, gain < -BEYOND * noise
        if better or not (worse or self.share_lost(looked) > question.heavy):
            return found
        half = {name: _half(name, value) for name, value in settings.items()}
        if question.halves and not self.costs_much(self.look(question, half)):
            return replace(found, verdict="halved", used=half)
        return replace(found, verdict="off", used=_none(question))

    def look(self, question: Question, settings: Mapping[str, Any]) -> Judged:
        """What the network without changes makes of changed validation images."""
        augment = _alone(question, {name: 1.0 if name in question.certain else value for name, value in settings.items()})
        change = AUGMENTERS[self.val.kind].host(augment, self.val, self.seed + 1)
        inputs = change(np.array(self.val.inputs), 0, np.arange(len(self.val)))
        return self._judge(self.plain, replace(self.val, inputs=inputs))

    def costs_much(self, looked: Judged) -> bool:
        """Whether so many fewer are right that it is neither noise nor a trifle."""
        assert self.judged is not None
        drop = self.judged.accuracy - looked.accuracy
        return drop > SURE * self.error(looked) and self.share_lost(looked) > MUCH

    def share_lost(self, looked: Judged) -> float:
        """What the change costs, as a share of what the network knows above guessing."""
        assert self.judged is not None
        return (self.judged.accuracy - looked.accuracy) / (self.judged.accuracy - self.chance)

    def exchanged(self, looked: Judged) -> list[tuple[int, int]]:
        """Pairs of classes of which most images that were right are taken for the other class, both ways."""
        assert self.judged is not None
        classes, right = self.arch.classes, self.judged.right
        taken = np.zeros((classes, classes), np.int64)
        np.add.at(taken, (self.val.labels[right], looked.predicted[right]), 1)
        known = taken.sum(1)
        most = (taken > EXCHANGED * known[:, None]) & (known >= EXCHANGED_IMAGES)[:, None]
        return [(a, b) for a in range(classes) for b in range(a + 1, classes) if most[a, b] and most[b, a]]

    def gain(self, other: Judged, where: NDArray[np.bool_]) -> tuple[float, float]:
        """(images right, as a share, that ``other`` has more, its standard error) among those ``where``."""
        assert self.judged is not None
        difference = other.right[where].astype(np.float64) - self.judged.right[where]
        return float(difference.mean()), standard_error(difference, None if self.val.groups is None else self.val.groups[where])

    def error(self, other: Judged) -> float:
        """Standard error of the difference in accuracy."""
        return self.gain(other, np.ones(len(self.val), np.bool_))[1]

    def _trained(self, augment: Augment, deadline: float | None) -> Trainer:
        recipe = Recipe.proxy(epochs=self.epochs, lr=1e-2, loss="ce", augment=augment)
        trainer = Trainer(lower(self.arch), self.train_split, self.val, recipe, seed=self.seed)
        trainer.run(deadline=deadline)
        return trainer

    def _judge(self, trainer: Trainer, split: Split) -> Judged:
        predicted = trainer.evaluate(split).logits.argmax(1)
        return Judged(predicted == split.labels, predicted)


def ask(
    data: DataSet, augment: Augment, answers: LabelAnswers | None = None, *, seed: int = 0, seen: int = SEEN, seconds: float | None = None
) -> tuple[LabelAnswers, list[str]]:
    """(what is known of ``data`` with what ``augment`` leaves open, a line for people for each thing found now).

    ``answers`` are what is known already; of other data they count for nothing. Networks see ``seen`` images at most, or train about
    ``seconds``; nothing is asked, and nothing said, with fewer than ``LEAST_SEEN``.
    """
    if answers is None or answers.data != data.fingerprint:
        answers = LabelAnswers(data.fingerprint)
    changes = AUGMENTERS.get(data.signal.kind)
    if changes is None or not changes.asked:
        return answers, []
    questions = open_questions(augment, answers.known())
    if not questions or seen < LEAST_SEEN or not len(data.members["val"]):
        return answers, []
    if data.several:
        return answers, ["whether augmentation keeps labels is not asked where there may be several at once; it stays as usual"]
    asker = Asker(data, seed=seed, seen=min(seen, SEEN), seconds=None if seconds is None else seconds / 2)
    if not asker.knows:
        return answers, ["whether augmentation keeps labels here could not be told: a small network learnt too little; it stays as usual"]
    found = [asker.answer(question, augment) for question in questions]
    lines = [answer.text(augment.kind) for answer in found if answer.trained is not None]
    kept = [answer.question for answer in found if answer.trained is None]
    if kept:
        lines.append(f"augmentation that keeps labels here: {', '.join(kept)}")
    return answers.with_more(found), lines


def input_size(native: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of about ``PIXELS`` in the shape of ``native``, each a multiple of 4 and at least 8."""
    scale = math.sqrt(PIXELS / (native[0] * native[1]))
    height, width = (max(8, 4 * round(side * scale / 4)) for side in native)
    return height, width


def small_network(height: int, width: int, channels: int, classes: int) -> Arch:
    """The network that is asked: about 0.17 M MACs."""
    blocks = (Separable(out=32, stride=2), Separable(out=64, stride=2), Separable(out=96))
    return Arch(height=height, width=width, channels=channels, classes=classes, stem=ConvLayer(out=16, stride=2), blocks=blocks)


def standard_error(difference: NDArray[np.float64], groups: NDArray[np.int64] | None) -> float:
    """Of the mean of ``difference`` (N,): over images, or over ``groups`` (N,) where that is larger; infinite for fewer than two."""
    if len(difference) < 2:
        return math.inf
    rest = difference - difference.mean()
    error = math.sqrt(float(rest @ rest) / (len(rest) - 1) / len(rest))
    if groups is None:
        return error
    sums = np.bincount(np.unique(groups, return_inverse=True)[1].reshape(-1), rest)
    return max(error, math.sqrt(float(sums @ sums)) / len(rest))
