"""Records: what the stages tell each other, frozen and plain; JSON in and out.

Sizes are bytes, accuracies are shares (0..1), and a figure that is not known is None, never 0.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, create_model

from tinynas.errors import RunError

NetId = Annotated[str, Field(pattern=r"^[0-9a-f]{10}$")]
"""``Arch.id``. It names a folder, so nothing else is taken for one."""

TrialState = Literal["trained", "infeasible", "duplicate", "failed", "stopped"]
"""``trained``: has a score. ``stopped``: dropped at a low rung (its score is of that rung).
``infeasible`` and ``duplicate`` cost no training. ``failed``: training raised; ``reason`` says what."""


WORST_SUBSET = "worst_subset_accuracy"
"""The score that is the accuracy of the part of the validation images that is served worst, by the data's attributes."""
ADAPTED = "adapted_accuracy"
"""The score that is the accuracy after learning classes on the board that the network was not trained on; see
:mod:`tinynas.adapt.candidates`."""
ADAPTED_PARTS = ("adapted_new", "adapted_old")
"""What it is the mean of: validation accuracy of what was learned, and of what the network knew before."""
ASKED_SCORES = ("int8_accuracy", WORST_SUBSET, ADAPTED)
"""The accuracies that are measured only where an objective needs them."""
EXPECTED = "expected_accuracy"
"""The score that a search adds when it ends, see :attr:`Trial.expected_accuracy`."""
PROMISED = "promised_accuracy"
"""And the one that ranks its networks: what is expected, and what larger networks have to come (docs/search.md). No forecast."""


def expected_accuracy(scores: Mapping[str, Any]) -> float | None:
    """What scores (or a row of the front) say is expected; what was seen, where they do not say."""
    value: float | None = scores.get(EXPECTED, scores.get("accuracy"))
    return value


Share = Annotated[float, Field(ge=0, le=1)]


def _square(matrix: Any) -> Any:
    if any(len(row) != len(matrix) for row in matrix):
        raise ValueError("should be as wide as high")
    return matrix


Confusion = Annotated[tuple[tuple[Annotated[int, Field(ge=0)], ...], ...], AfterValidator(_square)]
"""Counts: rows are true classes, columns what the network said."""


def _tuples(value: Any) -> Any:
    # Frozen records hold tuples, tuples of tuples too; what lies in their dicts is left as JSON has it.
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


_STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore", protected_namespaces=())


def document(name: str, *needed: str, **fields: Any) -> Any:
    """The kind, for :func:`wrong`, of a mapping whose values under these keys are of these kinds; only those ``needed`` must be there."""
    made = {key: (kind, ... if key in needed else None) for key, kind in fields.items()}
    return create_model(name, __config__=_STRICT, **made)  # type: ignore[call-overload]


def rows(kind: Any) -> Any:
    """The kind, for :func:`wrong`, of a list of such documents."""
    return list[kind]


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    if dataclasses.is_dataclass(kind):
        kind = document(str(kind), **typing.get_type_hints(kind, include_extras=True))  # which keys there are is checked before
    return TypeAdapter(kind)


def wrong(kind: Any, value: object) -> str | None:
    """What keeps ``value`` from being of ``kind`` (a record's class, :func:`document`, or a list of one): the first fault, or None.

    Nothing is converted: ``"5"`` is no number, and 5 no truth.
    """
    try:
        _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        rule = first["msg"].replace("Input should", "should").replace("String should", "should").removeprefix("Value error, ")
        rule = rule.partition(" or instance of ")[0]
        found = repr(first["input"])
        return f"{place + ' ' if place else ''}{rule} (got {found if len(found) <= 60 else found[:57] + '...'})"
    return None


class JsonRecord:
    """JSON in and out for frozen dataclasses; unknown and missing keys, and values of another type, are a :class:`RunError`."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict in field order."""
        document = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_json` wrote."""
        if not isinstance(document, Mapping):
            raise RunError(f"a {cls.__name__} record is a {type(document).__name__}, not a mapping", "the file is damaged; restore it")
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = set(document) - set(fields)
        needed = {n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
        if unknown or needed - set(document):
            problem = f"unknown keys {sorted(unknown)}" if unknown else f"missing keys {sorted(needed - set(document))}"
            raise RunError(f"a {cls.__name__} record has {problem}", "it was written by another version of tinynas; use that version")
        values = {key: _tuples(value) for key, value in document.items()}
        fault = wrong(cls, values)
        if fault is not None:
            raise RunError(f"a {cls.__name__} record's {fault}", "the file is damaged; restore it")
        return cls(**values)


@dataclass(frozen=True)
class Trial(JsonRecord):
    """One proposal of a search, with its reason and costs. Holds no wall-clock time, so equal searches write equal bytes."""

    number: Annotated[int, Field(ge=0)]
    """Order of proposal, from 0."""
    id: NetId
    """``Arch.id``; the architecture itself is in ``nets/<id>/arch.yaml`` and in ``genotype``."""
    state: TrialState
    source: str
    """Who proposed it, such as ``baseline`` (uniform feasible), ``start``, ``model``, ``tpe``."""
    genotype: tuple[int, ...] = ()
    """Gene indices of the run's space."""
    costs: dict[str, float | None] = field(default_factory=dict)
    """``macs``, ``params``, ``weights_bytes``, ``flash_bytes``, ``sram_bytes``, ``latency_ms``."""
    excess: dict[str, float] = field(default_factory=dict)
    """Share over each limit; positive is over."""
    scores: dict[str, float] = field(default_factory=dict)
    """``accuracy`` (validation), :data:`ASKED_SCORES`, ``loss_sum``, ..."""
    epochs: float = 0
    """Proxy epochs trained."""
    images: int = 0
    """Training images seen."""
    parent: str | None = None
    """Id of the network it was mutated from."""
    reason: str | None = None
    """Why it is infeasible, duplicate, stopped or failed."""

    @property
    def was_trained(self) -> bool:
        """True where it has a score, whether it was stopped at a low rung or not."""
        return self.state in ("trained", "stopped")

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy, 0..1, or None where it was not trained."""
        return self.scores.get("accuracy")

    @property
    def expected_accuracy(self) -> float | None:
        """What it is expected to reach if trained as far as the farthest of its search, allowing for luck (docs/search.md).

        What was seen, where the search has not said what it expects.
        """
        return expected_accuracy(self.scores)


def as_promised(record: Trial) -> Trial:
    """The record with the accuracies that rank it in place of those seen, as far as the search has said them: float's is what it promises
    (what is expected, in runs that say no more), and all others move as that does, within 0..1."""
    promised = record.scores.get(PROMISED, record.expected_accuracy)
    if promised is None or record.accuracy is None or promised == record.accuracy:
        return record
    change = promised - record.accuracy
    moved = {name: min(1.0, max(0.0, value + change)) for name, value in record.scores.items() if name in ("accuracy", *ASKED_SCORES)}
    return replace(record, scores={**record.scores, **moved})


@dataclass(frozen=True)
class LabelAnswer(JsonRecord):
    """What was found of one change that augmentation makes: does it keep labels? Accuracies are shares of validation images."""

    question: str
    settings: dict[str, Any]
    """As they were asked about."""
    verdict: Literal["kept", "halved", "off"]
    used: dict[str, Any]
    """As they are used from now on."""
    plain: float
    """Accuracy of the network that was trained without changes, on images as they are."""
    changed: float
    """The same network's on changed images."""
    error: float
    """Standard error of their difference."""
    trained: float | None = None
    """Accuracy of the network that was trained with the change, on images as they are; None: there was no need of one."""
    trained_error: float | None = None
    """Standard error of its difference from ``plain``."""
    exchanged: tuple[tuple[str, str], ...] = ()
    """Classes that the change takes for each other."""

    def text(self, kind: str) -> str:
        """One sentence for people; ``kind`` is the augmentation's."""
        figures = f"a small network knows {self.plain:.0%} of validation images, and {self.changed:.0%} of them changed"
        if self.trained is not None:
            figures += f"; trained with it, it knows {self.trained:.0%}"
        if self.exchanged:
            some = ", ".join(f"{a} and {b}" for a, b in self.exchanged[:3])
            figures += f"; it takes {some}{', ...' if len(self.exchanged) > 3 else ''} for each other"
        back = " ".join(f"recipe.augment.{kind.replace('-', '_')}.{name}={_written(value)}" for name, value in self.settings.items())
        if self.verdict == "kept":
            return f"{self.question} is unfamiliar, not wrong, here ({figures}): {self.verdict}"
        return f"{self.question} changes labels here ({figures}): {self.verdict}; --set {back} overrides"


@dataclass(frozen=True)
class LabelAnswers(JsonRecord):
    """What is known of the changes that augmentation makes to one data set: ``augment.json``."""

    data: str
    """Its fingerprint."""
    answers: tuple[dict[str, Any], ...] = ()
    """As :meth:`LabelAnswer.to_json` writes them."""

    def known(self) -> list[LabelAnswer]:
        """The answers. Raises RunError for one that is none."""
        return [LabelAnswer.from_json(document) for document in self.answers]

    def with_more(self, answers: Sequence[LabelAnswer]) -> LabelAnswers:
        """These and further ones."""
        return replace(self, answers=(*self.answers, *(answer.to_json() for answer in answers)))


def _written(value: Any) -> str:
    return f"[{','.join(f'{v:g}' for v in value)}]" if isinstance(value, (tuple, list)) else f"{value:g}"


@dataclass(frozen=True)
class Promoted(JsonRecord):
    """A network after full training."""

    id: NetId
    epochs: int
    best_epoch: int
    """Chosen by validation accuracy."""
    val_accuracy: Share
    test_accuracy: Share
    """Float accuracy on the test split, read once."""
    test_images: int
    seconds: float
    seed: int
    recipe: dict[str, Any] = field(default_factory=dict)
    confusion: Confusion = ()
    """Test confusion of the float network: rows are true classes."""
    several: dict[str, Any] = field(default_factory=dict)
    """Of several labels at once, on the test split, class by class (:func:`tinynas.several.class_figures`), with a ``threshold`` of each
    logit, chosen on validation; the accuracies are mean average precision then, and there is no confusion. Empty of one label each."""
    qat: bool = False
    """Trained with quantisation in the loop."""
    stages: tuple[dict[str, Any], ...] = ()
    """What the stages before this training reached, in their order; empty where it stands alone."""
    init: dict[str, Any] = field(default_factory=dict)
    """What weights it began with, layer by layer; empty where they were drawn at random."""


_Figures = document(
    "figures", estimated=float | None, measured=float | None, microcontroller_estimated=float | None, head=float | None, tail=float | None
)
_Count = Annotated[int, Field(ge=0)]
_Firmware = document(
    "firmware",
    *("digest", "images", "equal_images", "program_bytes", "failed"),
    **dict.fromkeys(["digest", "failed"], str),
    **dict.fromkeys(["images", "equal_images", "program_bytes"], _Count),
    **dict.fromkeys(["arena_bytes", "used_arena_bytes", "static_bytes", "listening_bytes"], _Count | None),
)
_Verified = document(
    "verified",
    *("target", "kernels", "tree", "compiler", "emulator", "promised_arena_bytes", "needed_arena_bytes", "used_arena_bytes"),
    *("equal_outputs", "compared_outputs", "model_bytes", "code_bytes", "instructions", "problems", "good"),
    **dict.fromkeys(["target", "kernels", "tree", "compiler", "emulator", "not_compared", "refused", "no_firmware"], str),
    **dict.fromkeys(["used_arena_bytes", "needed_arena_bytes", "promised_code_bytes", "promised_program_bytes"], _Count | None),
    **dict.fromkeys(
        ["promised_arena_bytes", "promised_flash_bytes", "model_bytes", "code_bytes", "equal_outputs", "compared_outputs"], _Count
    ),
    instructions=rows(document("row", "op", "instructions", op=str, instructions=_Count)),
    firmware=_Firmware | None,
    notes=list[str],
    problems=list[str],
    good=bool,
)
_VerifiedNetwork = document(
    "verified network",
    *(
        "target",
        "runtime",
        "compiler",
        "emulator",
        "promised_work_bytes",
        "reserved_work_bytes",
        "used_work_bytes",
        "promised_stack_bytes",
        "stack_bytes",
    ),
    *("promised_network_bytes", "network_bytes", "equal_outputs", "compared_outputs", "instructions", "inference_instructions"),
    *("refused", "firmware", "problems", "good"),
    **dict.fromkeys(["target", "runtime", "compiler", "emulator", "not_compared", "refused", "folder"], str),
    **dict.fromkeys(["promised_work_bytes", "promised_stack_bytes", "reserved_work_bytes", "equal_outputs", "compared_outputs"], _Count),
    **dict.fromkeys(["used_work_bytes", "stack_bytes", "promised_network_bytes", "network_bytes", "inference_instructions"], _Count | None),
    **dict.fromkeys(["promised_static_bytes", "static_bytes", "promised_folder_bytes", "folder_bytes"], _Count | None),
    step_instructions=float | None,
    instructions=rows(document("row", "op", "instructions", op=str, instructions=_Count)),
    firmware=_Firmware,
    notes=list[str],
    problems=list[str],
    good=bool,
)


def of_network(verified: Any) -> bool:
    """Whether what verifying found is of a compiled network, not of a model that TFLM runs."""
    return isinstance(verified, Mapping) and "promised_work_bytes" in verified


def once(verified: Mapping[str, Any]) -> str:
    """What a compiled network that was verified does at once: ``an inference``, or ``a step`` of a stream."""
    return "an inference" if verified.get("step_instructions") is None else "a step"


def instructions_words(verified: Mapping[str, Any]) -> str:
    """The executed instructions of a compiled network that was verified and ran."""
    most, mean = verified["inference_instructions"], verified.get("step_instructions")
    return f"{most:,} instructions" if mean is None else f"{most:,} instructions in the longest step, {mean:,.0f} on average"


def network_figures(verified: Mapping[str, Any]) -> list[tuple[str, int | None, int | None]]:
    """(what, promised, measured) bytes of a compiled network that was verified, for whoever shows them."""
    firmware, promised = verified["firmware"], verified.get("promised_static_bytes")
    static = [] if promised is None else [("SRAM with the front end", promised, verified["static_bytes"])]
    folder = verified.get("promised_folder_bytes")
    heard = [] if folder is None else [("flash: with front end and all around", folder, verified["folder_bytes"])]
    return [
        ("work area", verified["promised_work_bytes"], verified["used_work_bytes"]),
        *static,
        (f"stack of {once(verified)}", verified["promised_stack_bytes"], verified["stack_bytes"]),
        ("flash: the network", verified["promised_network_bytes"], verified["network_bytes"]),
        *heard,
        ("flash: all that is linked", None, firmware["program_bytes"]),
    ]


def firmware_words(firmware: Mapping[str, Any]) -> str:
    """What the folder of a compiled network takes (``firmware`` of an export's report)."""
    converter = f" and {firmware['converter_bytes']:,} B of the image converter" if firmware["converter_bytes"] else ""
    stack = f", {firmware['stack_bytes']:,} B of stack" if firmware.get("stack_bytes") is not None else ""
    code = "" if firmware["code_bytes"] is None else f" and about {firmware['code_bytes']:,} B of code"
    return (
        f"The folder {firmware.get('folder', 'c')}/ holds the network itself as C99, for {firmware['runtime']}: "
        f"{firmware['work_bytes']:,} B of work area"
        f"{stack}{converter}, {firmware['flash_bytes']:,} B of constants{code}."
    )


FIGURE_TITLES = {"accuracy": "accuracy", "recall": "recall", "false_alarms": "false alarms"}
"""The figures of every part of the data, by their keys in reports."""


def interval_words(value: float | None, interval: Sequence[float] | None) -> str:
    """A share with its 95 % interval, ``91.2 % (88.0 to 93.7 %)``; a dash where there is none."""
    if value is None or interval is None:
        return "–"
    low, high = interval
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"


def gap_words(gap: Mapping[str, Any]) -> str:
    """One of a report's ``gaps`` in a sentence."""
    if not gap["points"]:
        return f"{gap['group']}, {FIGURE_TITLES[gap['figure']]}: {gap['best']} and {gap['worst']} alike"
    noise = "more than noise" if gap["more_than_noise"] else "no more than noise"
    p = "p below 0.0001" if gap["p"] < 0.0001 else f"p {gap['p']:.2g}"
    return (
        f"{gap['group']}, {FIGURE_TITLES[gap['figure']]}: {gap['worst']} is {gap['points']:.1f} points worse than {gap['best']}, "
        f"{noise} ({p})"
    )


def threshold_words(point: Mapping[str, Any]) -> tuple[str, str, str]:
    """A report's ``operating_point``: the threshold, what is expected of it (by the split it was chosen on), what was measured."""

    def said(shares: Mapping[str, Any], *names: str) -> str:
        known = [(FIGURE_TITLES[name], shares[name]) for name in names if shares[name] is not None]
        return ", ".join(f"{title} {interval_words(share['value'], (share['low'], share['high']))}" for title, share in known)

    steps = "" if point["raw"] is None else f"{point['of']} above {point['raw']} steps, "
    where = f"{steps}probability above {point['probability']:.4f}, for {100 * point['wished']:g} % of false alarms"
    expected = f"{said(point['expected'], 'recall', 'false_alarms')} on the {point['chosen_on']} split, which chose it"
    split = point["measured"]["split"]
    where_measured = "other data" if split is None else f"the {split} split"
    measured = f"{said(point['measured'], 'accuracy', 'recall', 'false_alarms')} on {where_measured}"
    return f"{point['positive']}: {where}", expected, measured


def _cuts(each: Mapping[str, float]) -> str:
    said = [f"{label} {cut:g}" for label, cut in list(each.items())[:_SHOWN_CUTS]]
    return ", ".join([*said, *(["..."] if len(each) > _SHOWN_CUTS else [])])


#: Thresholds of classes that a sentence names.
_SHOWN_CUTS = 10


def listening_words(stream: Mapping[str, Any]) -> tuple[str, str, str]:
    """A report's ``stream``: how its scores are smoothed, what is expected of that (by the split it was chosen on), what was measured."""

    def said(found: Mapping[str, Any]) -> str:
        return f"{found['missed']:,} of {found['events']:,} events missed, {found['false_alarms_per_hour']:.2f} false alarms an hour"

    smoothing = stream["smoothing"]
    noun = "answer" if stream.get("by") == "frames" else "window"
    windows = f"1 {noun}" if smoothing["windows"] == 1 else f"the mean of {smoothing['windows']} {noun}s"
    each = smoothing.get("thresholds")
    cut = f"{smoothing['threshold']:g} on" if each is None else "a threshold of each class on (" + _cuts(each) + ")"
    how = f"{windows}, one every {stream['hop_ms']:,} ms, tells from {cut}"
    return (
        f"{how}; at most {stream['allowed_per_hour']:g} false alarms an hour were wished",
        f"{said(stream['expected'])} on the {smoothing['chosen_on']} split, which chose it",
        f"{said(stream)}, in {stream['hours']:.2f} hours of {stream['recordings']:,} recordings",
    )


_OfModel: Any = Annotated[_Verified, Tag("of a model")]
_OfNetwork: Any = Annotated[_VerifiedNetwork, Tag("of a network")]
_EitherVerified: Any = Annotated[_OfModel | _OfNetwork, Discriminator(lambda found: "of a network" if of_network(found) else "of a model")]
_Interval: Any = Annotated[list[Share], Field(min_length=2, max_length=2)]
_Part: Any = document(
    "part",
    *("group", "part", "n", "accuracy", "accuracy_interval"),
    **dict.fromkeys(["group", "part"], str),
    n=Annotated[int, Field(ge=1)],
    **dict.fromkeys(["accuracy", "recall", "false_alarms"], Share | None),
    **dict.fromkeys(["accuracy_interval", "recall_interval", "false_alarms_interval"], _Interval | None),
)
_GAP: Any = document(
    "gap",
    *("group", "figure", "best", "worst", "points", "p", "more_than_noise"),
    **dict.fromkeys(["group", "best", "worst"], str),
    figure=Literal["accuracy", "recall", "false_alarms"],
    points=float,
    p=float,
    more_than_noise=bool,
)
_SHARE: Any = document("share", "value", "low", "high", value=Share, low=Share, high=Share)
_POINT: Any = document(
    "threshold",
    *("wished", "positive", "chosen_on", "of", "raw", "probability", "expected", "measured"),
    wished=Share,
    **dict.fromkeys(["positive", "chosen_on", "of"], str),
    raw=int | None,
    probability=Share,
    expected=document("expected", "recall", "false_alarms", recall=_SHARE, false_alarms=_SHARE),
    measured=document(
        "measured",
        *("split", "accuracy", "recall", "false_alarms"),
        split=str | None,
        **dict.fromkeys(["accuracy", "recall", "false_alarms"], _SHARE | None),
    ),
)
_Class: Any = document(
    "class",
    *("label", "positives", "average_precision", "precision", "recall", "f1", "threshold"),
    label=str,
    positives=_Count,
    **dict.fromkeys(["average_precision", "precision", "recall", "f1"], Share | None),
    **dict.fromkeys(["precision_interval", "recall_interval"], _Interval | None),
    threshold=document(
        "threshold",
        *("raw", "value", "probability", "chosen_on"),
        raw=int | None,
        value=float,
        probability=Share,
        chosen_on=str | None,
    ),
)
_Several: Any = document(
    "several",
    *("mean_average_precision", "f1", "inputs", "none", "classes"),
    **dict.fromkeys(["mean_average_precision", "f1"], Share),
    **dict.fromkeys(["inputs", "none"], _Count),
    classes=rows(_Class),
)
CLASS_COLUMNS = ("class", "there", "average precision", "precision", "recall", "F1", "from", "chosen on")


def class_rows(several: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A report's ``several``: a row of :data:`CLASS_COLUMNS` for each class, for whoever shows them."""

    def share(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f} %"

    found = []
    for row in several["classes"]:
        threshold = row["threshold"]
        step = f"{threshold['value']:.3g}" if threshold["raw"] is None else f"{threshold['raw']}"
        shares = [interval_words(row[key], row[f"{key}_interval"]) for key in ("precision", "recall")]
        begins = f"{step} ({share(threshold['probability'])})"
        chosen = threshold["chosen_on"] or "nothing: a half"
        found.append((row["label"], f"{row['positives']:,}", share(row["average_precision"]), *shares, share(row["f1"]), begins, chosen))
    return found


_EVENTS: dict[str, Any] = {
    **dict.fromkeys(["events", "missed", "false_alarms"], _Count),
    "miss_rate": Share | None,
    "false_alarms_per_hour": Annotated[float, Field(ge=0)],
}
_STREAM: Any = document(
    "stream",
    *("recordings", "hours", "hop_ms", "allowed_per_hour", "smoothing", "expected", "curve", *_EVENTS),
    by=str,
    recordings=_Count,
    hours=Annotated[float, Field(gt=0)],
    hop_ms=_Count,
    allowed_per_hour=Annotated[float, Field(ge=0)],
    smoothing=document(
        "smoothing",
        *("windows", "threshold", "refractory_s", "chosen_on"),
        windows=_Count,
        threshold=Share | None,
        thresholds=dict[str, Share] | None,
        refractory_s=float,
        chosen_on=str,
    ),
    expected=document("events", *_EVENTS, **_EVENTS),
    curve=rows(document("events", "threshold", *_EVENTS, threshold=Share, **_EVENTS)),
    **_EVENTS,
)
_Report = document(
    "report",
    several=_Several | None,
    accuracy=document("accuracy", float=Share | None, int8=Share | None, split=str | None) | None,
    agreement=document("agreement", overall=Share | None) | Share | None,
    flash_bytes=_Figures | None,
    arena_bytes=_Figures | None,
    confusion=Annotated[list[list[Annotated[int, Field(ge=0)]]], AfterValidator(_square)] | None,
    balanced_accuracy=float | None,
    auc=float | None,
    n=int | None,
    labels=list[str] | None,
    problems=list[str],
    files=dict[str, str],
    dead_channels=_Count | None,
    kernels=str | None,
    runtime=str | None,
    cost=dict[str, float] | None,
    firmware=document(
        "compiled",
        *("runtime", "frame", "work_bytes", "converter_bytes", "flash_bytes"),
        **dict.fromkeys(["runtime", "frame"], str),
        **dict.fromkeys(["work_bytes", "converter_bytes", "flash_bytes"], _Count),
        folder=Literal["c", "compiled", "stream"],
        code_bytes=_Count | None,
        stack_bytes=_Count | None,
    )
    | None,
    verified=_EitherVerified | None,
    **dict.fromkeys(["top5", "recall", "false_alarms"], Share | None),
    **{f"{name}_interval": _Interval | None for name in ("accuracy", "top5", "recall", "false_alarms")},
    positive=str | None,
    subsets_by=str | None,
    subsets=dict[str, _Part] | None,
    gaps=rows(_GAP) | None,
    roc=document("roc", "positive", "false_alarms", "recall", positive=str, false_alarms=list[Share], recall=list[Share]) | None,
    operating_point=_POINT | None,
    stream=_STREAM | None,
)


@dataclass(frozen=True)
class Artifact(JsonRecord):
    """An exported file with every promised figure beside the measured one."""

    id: NetId
    file: str
    """File name inside the network's folder."""
    format: str
    sha256: str
    report: dict[str, Any] = field(default_factory=dict)
    """The export report: accuracy, agreement, flash_bytes and arena_bytes estimated and measured, checks."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_json` wrote; what is read of the report is of the types that reports have."""
        artifact = super().from_json(document)
        if (fault := wrong(_Report, artifact.report)) is not None:
            raise RunError(f"an export report's {fault}", "the file is damaged; restore it")
        return artifact
