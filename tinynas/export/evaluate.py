"""evaluate: how good a .tflite is on labelled images, computed with TFLM's own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.data import DataSet, Split
from tinynas.data.labels import passive_classes
from tinynas.errors import DataError, ModelFileError, UserError, counted
from tinynas.export.facts import real_outputs
from tinynas.export.judge import Rule, rule_of, warnings_of
from tinynas.export.pixels import AUTO, Reading, candidates, read_pixels
from tinynas.export.rotate import rotate_images
from tinynas.export.sandbox import RESOLVERS, Inspected, inspect, kernels_name, run_litert, run_tflm
from tinynas.export.served import Audience
from tinynas.export.several import check_several
from tinynas.export.streams import Stream, no_labels, probabilities, stream_report, window_ear
from tinynas.front_end import FrontEnd
from tinynas.inputs import KIND_CHANNELS

#: Images on which ranges are tried that the input might have, where nothing tells.
SAMPLE = 200
#: Two ranges of the input differ by so much accuracy or AUC.
_DIFFERENT = 0.05


def read_file(path: str | Path) -> Inspected:
    """The model in a file, its structure checked. Raises ModelFileError naming the file."""
    path = Path(path)
    try:
        return inspect(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}", "give the path of a .tflite file") from None
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error.message}", error.hint) from None


def input_shape(path: str | Path) -> tuple[int, int, int]:
    """(height, width, channels) of what the model in ``path`` reads. Raises ModelFileError."""
    return read_file(path).facts.input_shape


def evaluate(
    model: str | Path | Inspected,
    split: Split,
    labels: Sequence[str],
    *,
    pixels: str = AUTO,
    threshold: str | float | None = None,
    sample: Split | None = None,
    sample_name: str = "the sample",
    workers: int = 1,
) -> dict[str, Any]:
    """What ``tinynas evaluate --json`` says of the model on ``split``: accuracy, balanced_accuracy, auc, n, confusion with its labels,
    kernels, pixels (the input's range, and whence it is known), threshold (of a single output), warnings.

    Works with int8, uint8 and float classifiers with one output per class, or one output for two classes. Images are
    turned first where the file's metadata asks for it. Kernels are tflite-micro's; a model that they do not run
    is run on LiteRT's, and ``kernels`` says so. ``pixels`` as :func:`tinynas.export.pixels.read_pixels`, ``threshold`` as
    :func:`tinynas.export.judge.rule_of`; where nothing tells the input's range, several are tried on ``sample``.
    Raises ModelFileError for broken files and DataError for images and labels that do not fit the model.
    """
    inspected = model if isinstance(model, Inspected) else read_file(model)
    return _evaluated(inspected, split, labels, pixels, threshold, sample, sample_name, workers)[0]


def evaluate_splits(
    path: str | Path,
    data: DataSet,
    split: str,
    *,
    subsets: bool = False,
    pixels: str = AUTO,
    threshold: str | float | None = None,
    false_alarms: float | None = None,
    workers: int = 1,
    front_end: FrontEnd | None = None,
    stream: Stream | None = None,
) -> dict[str, Any]:
    """:func:`evaluate` of the model in ``path`` on the part ``split`` of ``data``, named, and what :class:`Audience` tells of it.

    ``split`` may be ``all``. ``front_end``: how sounds become the model's input where the file does not tell it; ``stream``: also as
    it listens to whole recordings. Parts are judged where the data's attributes make any; with ``subsets`` they must. ``false_alarms``:
    the rate for which a threshold is chosen on the validation part. Ranges of the input are tried on validation images, too, where there
    are any: not on those of the test. Raises UserError and DataError where that cannot be.
    """
    if threshold is not None and false_alarms is not None:
        raise UserError("--threshold and --false-alarms both say where yes begins", "leave one out")
    audience = Audience(data, split, false_alarms, subsets)
    audience.check()
    inspected = read_file(path)
    shape = inspected.facts.input_shape
    if data.signal.kind == "image" and shape[2] not in data.signal.channels:
        kinds = " or ".join(f"{count} ({kind})" for kind, count in KIND_CHANNELS.items())
        raise DataError(
            f"{path}: reads {shape[0]}x{shape[1]} with {counted(shape[2], 'channel')}; images have {kinds}",
            "is it a model of images? tinynas estimate works with any model",
        )
    hears = front_end_of(inspected, data, str(path), front_end)

    def part(name: str) -> Split:
        return data.split(name, *shape, front_end=hears)

    judged = part(split)
    if not len(judged):
        held = ", ".join(f"{name} {len(rows):,}" for name, rows in data.members.items())
        raise DataError(
            f"{data.name}: the split {split} holds no {data.signal.kind} to evaluate on ({held})",
            "choose another with --split, or --split all",
        )
    trial = "val" if len(data.members.get("val", ())) else split
    sample = None
    if not read_pixels(inspected.facts, pixels).known:
        sample = (judged if trial == split else part(trial)).subset(SAMPLE, seed=0)
    document: dict[str, Any] = {"model": str(path), "data": data.name, "kind": data.signal.kind, "split": split}
    name = f"{len(sample)} {data.signal.kind}s of the split {trial}" if sample is not None else ""
    found, rule, reading, outputs = _evaluated(inspected, judged, data.labels, pixels, threshold, sample, name, workers, data.positive)

    def answers(name: str) -> NDArray[np.float64]:
        return run(inspected, part(name), reading, workers)[0]

    if data.several:
        truth = data.targets[data.rows(split)]
        document |= found | {"several": audience.class_cuts(inspected, rule, answers).figures(outputs, truth)}
    else:
        point = audience.point(inspected, rule, answers)
        document |= found | audience.figures(rule, outputs, point, answers)
    if stream is not None:
        document["stream"] = _streamed(inspected, Path(path), data, split, reading, workers, hears, stream)
    return document


def front_end_of(inspected: Inspected, data: DataSet, path: str, given: FrontEnd | None = None) -> FrontEnd | None:
    """What makes the model's input out of ``data``: None unless these are sounds. Raises DataError where that is not known, or where a
    model of sounds is to judge images, UserError where one is ``given`` for anything else."""
    told, shape = inspected.facts.front_end, inspected.facts.input_shape
    if data.signal.waves is None:
        if given is not None:
            raise UserError(f"--front-end: says how sounds become the model's input, and {data.name} holds none", "leave it out")
        if told is not None and data.signal.kind == "image":
            raise DataError(f"{path}: hears sound ({told.summary}); {data.name} holds images", "give recordings with --data")
        return None
    front_end = given or told
    size = "x".join(map(str, shape))
    if front_end is None:
        raise DataError(f"{path}: reads {size}, and nothing says how sounds become that", "say whose front end it has: --front-end NET")
    if front_end.shape != shape:
        made = "x".join(map(str, front_end.shape))
        raise DataError(f"{path}: reads {size}, and the front end makes {made}", "give the front end that it was trained with")
    return front_end


def _streamed(
    inspected: Inspected, path: Path, data: DataSet, split: str, reading: Reading, workers: int, front_end: FrontEnd | None, stream: Stream
) -> dict[str, Any]:
    # PyTorch computes whole recordings: nothing else here loads it.
    from tinynas.export.stream_ear import heard_by_frames, stream_ear
    from tinynas.export.stream_files import read_stream

    if front_end is None:
        raise DataError(f"{data.name}: a stream is of sounds, and these are {data.signal.kind}s", "leave --stream out")
    labels = inspected.facts.labels
    order = [labels.index(label) for label in data.labels] if sorted(labels) == sorted(data.labels) else None
    if heard_by_frames(inspected.data, path, stream.runtime):
        if inspected.facts.classes != len(data.labels):
            raise _other_classes(inspected.facts.classes, data)
        qgraph = read_stream(inspected.data, replace(inspected.facts.input, front_end=front_end))
        ear = stream_ear(qgraph, stream.refractory, order, several=data.several, passive=passive_classes(data.labels))
        if stream.hop_ms is not None and stream.hop_ms != ear.hop_ms:
            raise UserError(
                f"--hop {stream.hop_ms}: {path} streams, and answers every {ear.hop_ms} ms",
                "leave --hop out; --runtime tflm judges it by windows",
            )
        return stream_report(data, split, front_end, ear, stream.false_alarms)

    def scores(inputs: NDArray[np.uint8]) -> NDArray[np.float64]:
        outputs, _ = run(inspected, no_labels(inputs), reading, workers)
        if outputs.shape[1] != len(data.labels):
            raise _other_classes(outputs.shape[1], data)
        return probabilities(outputs, several=data.several)[:, slice(None) if order is None else order]

    ear = window_ear(front_end, scores, stream.hop_of(front_end), stream.refractory)
    return stream_report(data, split, front_end, ear, stream.false_alarms)


def _other_classes(outputs: int, data: DataSet) -> DataError:
    return DataError(f"the model has {counted(outputs, 'output')}, the data {counted(len(data.labels), 'class', 'classes')}")


def _evaluated(
    inspected: Inspected,
    split: Split,
    labels: Sequence[str],
    pixels: str,
    threshold: str | float | None,
    sample: Split | None,
    sample_name: str,
    workers: int,
    positive: int | None = None,
) -> tuple[dict[str, Any], Rule, Reading, NDArray[np.float64]]:
    reading = read_pixels(inspected.facts, pixels)
    rule_of(inspected, labels, threshold=threshold)  # what does not fit is said before anything runs
    outputs, kernels = run(inspected, split, reading, workers)
    rule = rule_of(inspected, labels, outputs, threshold=threshold)
    if split.several:
        check_several(inspected, labels, rule)
    figures = rule.score(outputs, split.labels, positive)
    how, warnings = reading.to_json(), [reading.warning] if reading.warning else []
    if not reading.known and sample is not None and len(sample):
        tried = _tried(inspected, reading, sample, labels, threshold, workers)
        how |= {"tried": tried, "tried_on": sample_name}
        warnings += _doubts(reading, tried, sample_name)
    warnings += [] if split.several else warnings_of(rule, outputs, split.labels, figures)
    return {**figures, **rule.to_json(), "pixels": how, "kernels": kernels, "warnings": warnings}, rule, reading, outputs


def run(inspected: Inspected, split: Split, reading: Reading, workers: int = 1) -> tuple[NDArray[np.float64], str]:
    """(outputs (N, K) in real units, what computed them) of the images of ``split``: the one way by which models are judged.

    Raises DataError for images that do not fit the model and ModelFileError where neither tflite-micro nor LiteRT runs it.
    """
    facts = inspected.facts
    if not len(split):
        raise DataError(f"the split holds no {split.kind} to evaluate on", f"choose another split or give more {split.kind}s")
    if split.inputs.shape[1:] != facts.input_shape:
        raise DataError(f"the {split.kind}s are {split.inputs.shape[1:]}, the model reads {facts.input_shape}")
    images = _prepared(inspected, split, reading)
    try:
        return real_outputs(run_tflm(inspected, images, workers=workers, table=reading.table).outputs, facts), kernels_name()
    except ModelFileError as refusal:
        outputs, resolver = _run_litert(inspected, images, reading, ("BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"), refusal)
        which = "reference" if resolver == "BUILTIN_REF" else "optimised"
        return outputs, f"LiteRT {which} kernels ({resolver}), because tflite-micro does not run the model: {refusal.message}"


def _prepared(inspected: Inspected, split: Split, reading: Reading) -> NDArray[np.uint8]:
    images = np.asarray(split.inputs)
    if inspected.facts.input_rotation:
        images = rotate_images(images).astype(np.uint8)
    return np.ascontiguousarray(images[..., ::-1]) if reading.bgr else images


def _run_litert(
    inspected: Inspected, images: NDArray[np.uint8], reading: Reading, resolvers: Sequence[str], refusal: ModelFileError | None = None
) -> tuple[NDArray[np.float64], str]:
    said = [f"tflite-micro: {refusal.message}"] if refusal is not None else []
    for resolver in resolvers:
        try:
            return real_outputs(run_litert(inspected, images, resolver=resolver, table=reading.table), inspected.facts), resolver
        except ModelFileError as error:
            said.append(f"LiteRT ({resolver}): {error.message}")
    raise ModelFileError(
        f"no runtime here runs the model: {'; '.join(said)}",
        "the file is broken or uses what these runtimes lack; convert or export it again",
    )


def _tried(
    inspected: Inspected, used: Reading, sample: Split, labels: Sequence[str], threshold: str | float | None, workers: int
) -> dict[str, dict[str, float | None]]:
    """Accuracy and AUC on ``sample`` by range of the input. LiteRT's fast kernels suffice for that."""
    found: dict[str, dict[str, float | None]] = {}
    for name, reading in candidates(inspected.facts, used).items():
        try:
            outputs, _ = _run_litert(inspected, _prepared(inspected, sample, reading), reading, RESOLVERS[::-1])
        except ModelFileError:
            outputs, _ = run(inspected, sample, reading, workers)
        if np.isfinite(outputs).all():
            figures = rule_of(inspected, labels, outputs, threshold=threshold).score(outputs, sample.labels)
            one = {"accuracy": figures["accuracy"], "auc": figures["auc"]}
            found[name] = {"mean_average_precision": figures["mean_average_precision"]} if sample.several else one
    return found


def _doubts(used: Reading, tried: dict[str, dict[str, float | None]], sample_name: str) -> list[str]:
    """A warning where ranges that the input might have give very different scores."""

    def known(name: str) -> list[float]:
        return [value for value in tried[name].values() if value is not None]

    def quality(name: str) -> float:
        return sum(known(name)) / len(known(name))

    def differ(one: str, other: str) -> bool:
        return any(abs(a - b) >= _DIFFERENT for a, b in zip(known(one), known(other), strict=True))

    if used.name not in tried:
        return []
    best = max(tried, key=quality)
    if not any(differ(best, name) for name in tried):
        return []
    scores = ", ".join(f"{name} {_figures(row)}" for name, row in sorted(tried.items(), key=lambda item: -quality(item[0])))
    said = f"nothing in the file says what range its input has, and it matters: on {sample_name}, {scores}. {used.name} was used"
    if differ(best, used.name):
        return [f"{said}; if the network was trained with {best}, add --pixels {best}"]
    return [f"{said}; say what it was trained with by --pixels"]


def _figures(row: dict[str, float | None]) -> str:
    if "mean_average_precision" in row:
        return f"{100 * (row['mean_average_precision'] or 0.0):.1f} %"
    area = "" if row["auc"] is None else f" (AUC {row['auc']:.2f})"
    return f"{100 * (row['accuracy'] or 0.0):.1f} %{area}"
