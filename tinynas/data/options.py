"""DataOptions: what can be said about data besides where it is. In YAML or as ``--set data.KEY=VALUE``."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from tinynas.config import Config

Share = Annotated[float, Field(gt=0, lt=0.9)]
GROUPS_PREFIX = "prefix:"
GROUPS_CSV = "csv:"
REST = "rest"


class SyntheticOptions(Config):
    """The built-in picture generator: a person-like figure, or not, on textured scenes with look-alike distractors."""

    train: Annotated[int, Field(ge=8, le=1_000_000)] = 6000
    """Training images."""
    val: Annotated[int, Field(ge=8, le=1_000_000)] = 1500
    """Validation images."""
    test: Annotated[int, Field(ge=8, le=1_000_000)] = 1500
    """Test images."""
    size: Annotated[int, Field(ge=16, le=512)] = 96
    """Side in pixels at which they are drawn; other resolutions are resized from it."""
    difficulty: Annotated[float, Field(ge=0, le=1)] = 0.25
    """0: large figures, calm scenes, clear contrast. 1: small, hidden, faint figures and many distractors."""
    label_noise: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of training labels that are flipped; validation and test labels are always right."""


class DataOptions(Config):
    """How data is read, split and labelled. The defaults suit most image folders."""

    seed: Annotated[int, Field(ge=0)] | None = 0
    """Seed of carved splits and of the synthetic images. It is not the seed of the search unless set to null, so that
    runs with different seeds, and ``tinynas evaluate``, agree on which images are test images."""
    fit: Literal["crop", "squash", "pad"] = "crop"
    """How an image takes on the network's height and width: ``crop`` cuts out the largest centred window of their
    ratio and scales it, ``squash`` scales each side by itself, ``pad`` shows all of it, to scale, on mid grey."""
    border: Literal["keep", "cut"] = "keep"
    """What to do with borders of one colour around images (bars of films, the rest of a canvas that a small picture lies on): ``cut``
    takes them away before ``fit``, so that the picture fills the input, as where a device cuts out of its frames what it is to tell."""
    groups: str | None = None
    """What belongs together and must not be on two sides of a split. ``prefix:__``: what has equal file names before the
    first ``__``. ``csv:FILE``: the columns ``name`` (path inside the folder, or file name) and ``group`` of a CSV file. Else a
    regular expression searched in each name (path inside the folder): equal matches (the parts in parentheses, or the
    whole match), such as ``crop(\\d+)`` for mirrored or neighbouring shots, or ``([^/]+/\\d+)_`` for a number that counts
    within its class."""
    attributes: Annotated[str, Field(min_length=1)] | None = None
    """A CSV file of what images show besides their class, for results told apart by it: a column ``name`` (path inside the folder, or file
    name), and one an attribute: yes and no (true, false, 1, 0), or words such as ``dark`` and ``bright``; a blank cell says nothing."""
    positive: str | None = None
    """Of two classes the one that recall and false alarms are of, such as ``person``; by default the one whose other is called after it
    (``no_person``, ``background``), else the second."""
    val_share: Share = 0.15
    """Share of the training images carved out for validation where the data has no validation split of its own."""
    test_share: Share = 0.15
    """Share carved out for the test where the data has no test split of its own."""
    labels: tuple[str, ...] | None = None
    """Use these classes only, in this order; others are left out and counted."""
    held_out: tuple[str, ...] = ()
    """These classes are left out and kept aside: what a search trains does not see them, and ``search --objective adapted_accuracy`` has
    its networks learn them on the board."""
    label_map: dict[str, str] = Field(default_factory=dict)
    """Renames labels; two labels with the same new name become one. Applied before ``labels`` and ``binary``."""
    binary: dict[str, tuple[str, ...]] | None = None
    """One new class and the labels that make it up; all others become ``no_<class>``. Such as ``{person: [man, woman]}``."""
    label_pattern: str | None = None
    """For files in folders: a regular expression searched in each name (path inside the folder), whose first part in parentheses is the
    label, such as ``([^/]+)_\\d+\\.jpg$`` for ``images/american_bulldog_12.jpg``. It goes before folders and tables."""
    multilabel: bool = False
    """Several labels at once: a cell of a table's label column may hold several, between ``;`` or ``|``, several rows of a file add up,
    as columns of 0 and 1 do, and a blank cell is none of the classes. Each class is then told by itself."""
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    """With ``multilabel``: what stands between labels besides ``;`` and ``|``, such as ``,``."""
    leaks: Literal["keep", "drop"] = "keep"
    """What to do with training data that is in validation or test too, byte for byte or by its group: ``keep`` reports
    it, ``drop`` leaves it out of training (and out of validation what is in the test). Splits that are carved out of one
    part here never have any."""
    _judged: bool = PrivateAttr(default=False)
    limit: Annotated[int, Field(ge=0)] = 0
    """At most this many images (or sounds) of each split, drawn by the seed, each class in its share; 0 for all."""
    clip: Annotated[int, Field(ge=20, le=60_000)] = 1000
    """Of sounds: how long a piece of a long recording is, in milliseconds. One that is less than half as long again is a piece by
    itself. Networks hear the middle of it as long as their front end says, and what lies around it where that is longer."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of sounds: how much of a piece of a long recording is in the next one too, as a share."""
    unknown: tuple[str, ...] | None = None
    """Of sounds: these classes become the one class ``unknown``; ``rest``: all that ``labels`` does not name."""
    unknown_share: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How many sounds of ``unknown`` are used at most, as a multiple of what the other classes have on average."""
    silence: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Of sounds: a class ``silence`` of so many pieces of the recordings of noise (``_background_noise_``), and of what lies between the
    events of a table, as a multiple of what the other classes have on average; 0: no such class. With ``multilabel`` there is no such
    class: at most so many pieces of none are used, those of noise among them; 0: all there are between events, and none of noise."""
    folds: dict[Literal["train", "val", "test"], tuple[str, ...]] = Field(default_factory=dict)
    """Of sounds: which folds are which split, such as ``{test: [4], val: [3]}``; all others are for training."""
    fold_pattern: str = r"(?:^|/)(\d+)-[^/]*$"
    """Where no table says the fold: a regular expression searched in each name (path inside the folder), whose first part in parentheses
    is it; by default the number before the first ``-`` of the file name, as in ESC-50."""
    features: str | None = None
    """Of features in files (``.bin``, one byte each): how many there are, such as ``49x10`` for 49 frames of 10."""
    revision: str | None = None
    """Commit, tag or branch of a Hugging Face data set; its main branch by default."""
    subset: str | None = None
    """Configuration name of a Hugging Face data set that has several."""
    image_column: str | None = None
    """Column with the image, or its number from 1 in a table without a header; found by its type or content where not given."""
    label_column: str | None = None
    """Column with the label, or its number from 1 in a table without a header; found by its type and name where not given."""
    original_labels: bool = False
    """Of a relabelled, prepared set with both labels: use the original ones."""
    splits: dict[Literal["train", "val", "test"], str] = Field(default_factory=dict)
    """Which split of a Hugging Face or parquet data set, or which sub-folder, is which here; guessed from their names where not given."""
    synthetic: SyntheticOptions = SyntheticOptions()
    """Settings of the data set ``synthetic``."""

    @property
    def judged(self) -> bool:
        """Whether the images only judge a finished model: a missing training part or an empty split is no fault then."""
        return self._judged

    def for_judging(self) -> Self:
        """The same options with :attr:`judged`; no setting of a user says that, because nothing can be trained then."""
        options = self.model_copy()
        options._judged = True
        return options

    @field_validator("groups", mode="before")
    @classmethod
    def _one_word(cls, given: object) -> object:
        if isinstance(given, dict):  # YAML reads "prefix: __" as a mapping
            raise ValueError(f'is one word without a space after the colon, such as "{GROUPS_PREFIX}__" or "{GROUPS_CSV}groups.csv"')
        return given

    @field_validator("groups")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        for start, what in ((GROUPS_PREFIX, f"the separator after the group, such as {GROUPS_PREFIX}__"), (GROUPS_CSV, "a file")):
            if pattern is not None and pattern.startswith(start):
                if pattern == start:
                    raise ValueError(f"{start} needs {what}")
                return pattern
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is neither {GROUPS_PREFIX}..., nor {GROUPS_CSV}..., nor a regular expression: {error}") from None
        return pattern

    @field_validator("folds", mode="before")
    @classmethod
    def _folds_in_words(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        listed = {split: folds if isinstance(folds, list | tuple) else [folds] for split, folds in given.items()}
        return {split: [str(fold) if isinstance(fold, int) else fold for fold in folds] for split, folds in listed.items()}

    @field_validator("unknown", mode="before")
    @classmethod
    def _one_or_several(cls, given: object) -> object:
        return [given] if isinstance(given, str) else given

    @field_validator("features")
    @classmethod
    def _a_shape(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", given):
            raise ValueError("is frames x features, such as 49x10")
        return given

    @field_validator("label_pattern", "fold_pattern")
    @classmethod
    def _has_a_part(cls, pattern: str | None) -> str | None:
        try:
            parts = re.compile(pattern or "()").groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        if not parts:
            raise ValueError("needs a part in parentheses: the label, such as ([a-z]+)")
        return pattern

    @field_validator("labels", "unknown", "held_out", mode="before")
    @classmethod
    def _words(cls, given: object) -> object:
        if isinstance(given, list) and any(isinstance(label, bool) for label in given):
            raise ValueError("YAML takes yes, no, on and off for truth values: put labels into quotes, such as ['yes', 'no']")
        return given

    @field_validator("labels")
    @classmethod
    def _at_least_two(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and len(set(labels)) < max(2, len(labels)):
            raise ValueError("needs at least two different labels, none of them twice")
        return labels

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.binary is not None and (len(self.binary) != 1 or not all(self.binary.values())):
            raise ValueError("binary needs exactly one class with at least one label, such as {person: [man, woman]}")
        if self.binary is not None and self.labels is not None:
            raise ValueError("labels and binary exclude each other: binary already names both classes")
        if self.multilabel:
            for name, given in (
                ("binary", self.binary),
                ("unknown", self.unknown),
                ("positive", self.positive),
                ("attributes", self.attributes),
            ):
                if given is not None:
                    raise ValueError(
                        f"{name} is about one label each, and multilabel says that there may be several: leave one of them out"
                    )
        elif self.label_separator is not None:
            raise ValueError("label_separator is what stands between several labels: say multilabel: true with it")
        if self.unknown == (REST,) and self.labels is None:
            raise ValueError("unknown: rest is all that labels does not name, and there are no labels")
        if self.val_share + self.test_share > 0.9:
            raise ValueError("val_share and test_share leave less than a tenth for training")
        return self
