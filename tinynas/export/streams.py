"""How good a .tflite is on a stream: false alarms an hour and missed events, its scores smoothed over overlapping windows, or over the
answers of a network that takes frame by frame, as its firmware smooths them.

How they are smoothed is chosen on the validation recordings, and told; the test recordings only count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from tinynas.data import DataSet, Split
from tinynas.data.labels import PASSIVE, parts_of
from tinynas.data.records import Recording
from tinynas.errors import DataError
from tinynas.front_end import FrontEnd
from tinynas.metrics import Smoothing, StreamCount, count_stream, detections, moving_average, sigmoid, softmax

WINDOWS = (1, 2, 3, 4, 6, 8, 12)
THRESHOLDS = (*(number / 20 for number in range(2, 20)), 0.97, 0.98, 0.99, 0.995)
BATCH = 256
TOGETHER = 20_000
"""Windows that are judged in one go."""

Scores = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Inputs (N, H, W, C) -> probabilities (N, classes)."""


@dataclass(frozen=True)
class Stream:
    """How a stream is judged."""

    hop_ms: int | None = None
    """From one window to the next; a quarter of the clip by default."""
    false_alarms: float = 1.0
    """So many an hour are allowed where the smoothing is chosen."""
    refractory: float = 1.0
    """Seconds after a detection in which there is no other one of its class."""
    runtime: str | None = None
    """What runs the model on the board: one that takes frame by frame is judged so; None: the export's report beside the file says it."""

    def hop_of(self, front_end: FrontEnd) -> int:
        """:attr:`hop_ms`, or what it is by default."""
        return self.hop_ms or max(1, front_end.clip_ms // 4)


@dataclass(frozen=True)
class Heard:
    """A recording as a network hears it."""

    seconds: float
    times: NDArray[np.float64]
    """(T,): where each window, or the last frame of each answer, ends, in seconds."""
    scores: NDArray[np.float64]
    """(T, classes): what is averaged."""
    events: Mapping[int, Sequence[tuple[float, float]]]
    """(start, end) in seconds, by class."""


Told = Callable[[Heard, Smoothing], Mapping[int, Sequence[float]]]
"""A recording, smoothed so -> the times in seconds at which each class, by its number, is told."""


@dataclass(frozen=True)
class Ear:
    """How recordings are heard, and what of their scores is told."""

    by: Literal["windows", "frames"]
    hop_ms: int
    """From one row of scores to the next."""
    refractory: float
    """Seconds after a detection in which there is no other one."""
    hear: Callable[[DataSet, str], list[Heard]]
    """All recordings of a split. Raises DataError where no table says when events are."""
    told: Told
    thresholds: tuple[float, ...] = THRESHOLDS
    """Those that are tried."""


def window_ear(front_end: FrontEnd, scores: Scores, hop_ms: int, refractory: float) -> Ear:
    """A network that hears whole clips, every ``hop_ms``."""
    return Ear("windows", hop_ms, refractory, lambda data, split: heard(data, split, front_end, hop_ms, scores), by_windows)


def by_windows(recording: Heard, smoothing: Smoothing) -> Mapping[int, Sequence[float]]:
    """Each class where the average of its last scores reaches its threshold, by itself."""
    return by_themselves(moving_average(recording.scores, smoothing.windows), recording, smoothing)


def by_themselves(smooth: NDArray[np.float64], recording: Heard, smoothing: Smoothing) -> Mapping[int, Sequence[float]]:
    """Each class where ``smooth`` (T, classes), made of the scores of ``recording``, reaches its threshold."""
    return {
        number: detections(smooth[:, number], recording.times, smoothing.of(number), smoothing.refractory)
        for number in range(smooth.shape[1])
    }


def probabilities(outputs: NDArray[np.float64], *, several: bool = False) -> NDArray[np.float64]:
    """Outputs of a classifier (N, classes) as probabilities: as they are where they are some, by softmax where they are logits.

    ``several``: of each class by itself, so that logits go through a sigmoid.
    """
    if several:
        return outputs if ((outputs >= 0) & (outputs <= 1)).all() else sigmoid(outputs)
    if (outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=0.05):
        return outputs
    return softmax(outputs)


def timed(data: DataSet, split: str, front_end: FrontEnd) -> list[Recording]:
    """The recordings of ``split`` that are as long as a clip, and of which a table says when events are."""
    files = dict.fromkeys(data.records[i].file for i in data.rows(split))
    recordings = [data.recordings[file] for file in files if file is not None and file in data.recordings]
    return [recording for recording in recordings if recording.events and recording.length >= front_end.clip_ms]


def heard(data: DataSet, split: str, front_end: FrontEnd, hop_ms: int, scores: Scores) -> list[Heard]:
    """Every recording of ``split``, in windows every ``hop_ms``. Raises DataError where no table says when events are."""
    number = class_numbers(data)
    recordings = judged_recordings(data, split, front_end)
    found: list[Heard] = []
    waiting: list[tuple[Recording, NDArray[np.uint8]]] = []

    def judge() -> None:
        # A call of a model starts a process: many recordings go through it together.
        outputs = scores(np.concatenate([inputs for _, inputs in waiting]))
        begin = 0
        for recording, inputs in waiting:
            times = (np.arange(len(inputs)) * _hop(front_end, hop_ms) + front_end.clip_samples) / front_end.sample_rate
            found.append(Heard(recording.length / 1000, times, outputs[begin : begin + len(inputs)], events_of(recording, number)))
            begin += len(inputs)
        waiting.clear()

    for recording in recordings:
        waiting.append((recording, _windows(recording, front_end, hop_ms, data)))
        if sum(len(inputs) for _, inputs in waiting) >= TOGETHER:
            judge()
    if waiting:
        judge()
    return found


def judged_recordings(data: DataSet, split: str, front_end: FrontEnd) -> list[Recording]:
    """What :func:`timed` gives. Raises DataError where that is none."""
    recordings = timed(data, split, front_end)
    if not recordings:
        raise DataError(
            f"{data.name}: the split {split} has no recording with events",
            "give a table (CSV) with the columns path, label, start and end, in seconds, of recordings longer than a clip",
        )
    return recordings


def class_numbers(data: DataSet) -> dict[str, int]:
    """The number of the class that each label of a table is."""
    if not data.several:
        return {record.label: int(target) for record, target in zip(data.records, data.targets, strict=True)}
    names = {label: data.options.label_map.get(label, label) for record in data.records for label in parts_of(record.label)}
    return {label: data.labels.index(name) for label, name in names.items() if name in data.labels}


def events_of(recording: Recording, number: Mapping[str, int]) -> dict[int, list[tuple[float, float]]]:
    """Class -> (start, end) in seconds of its events in ``recording``; ``number`` of each label."""
    events: dict[int, list[tuple[float, float]]] = {}
    for start, end, label in recording.events:
        if label in number:
            events.setdefault(number[label], []).append((start / 1000, end / 1000))
    return events


def _hop(front_end: FrontEnd, hop_ms: int) -> int:
    return max(1, front_end.sample_rate * hop_ms // 1000)


def _windows(recording: Recording, front_end: FrontEnd, hop_ms: int, data: DataSet) -> NDArray[np.uint8]:
    """The inputs (N, H, W, C) that a network has while ``recording`` goes by."""
    assert data.signal.waves is not None, "sounds"
    whole = samples_of(recording, front_end)
    if len(whole) < front_end.clip_samples:  # by rounding
        whole = np.pad(whole, (0, front_end.clip_samples - len(whole)))
    views = np.lib.stride_tricks.sliding_window_view(whole, front_end.clip_samples)[:: _hop(front_end, hop_ms)]
    parts = [data.signal.waves.read(np.ascontiguousarray(views[i : i + BATCH]), front_end) for i in range(0, len(views), BATCH)]
    return np.concatenate(parts)


def samples_of(recording: Recording, front_end: FrontEnd) -> NDArray[np.int16]:
    """All of ``recording`` (n,) at the rate of ``front_end``."""
    sound = recording.read(0, recording.length)
    samples = sound.samples if sound.rate == front_end.sample_rate else soxr.resample(sound.samples, sound.rate, front_end.sample_rate)
    whole: NDArray[np.int16] = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype(np.int16)
    return whole


def counted(
    recordings: Sequence[Heard], labels: Sequence[str], smoothing: Smoothing, late: float, told: Told = by_windows
) -> dict[str, StreamCount]:
    """Events, missed events and false alarms of each class that is listened for."""
    counts = {label: StreamCount(0, 0, 0) for label in labels if label not in PASSIVE}
    for recording in recordings:
        found = told(recording, smoothing)
        for number, label in enumerate(labels):
            if label in counts:
                counts[label] += count_stream(found[number], recording.events.get(number, ()), late)
    return counts


def choose(
    recordings: Sequence[Heard],
    labels: Sequence[str],
    most: float,
    refractory: float,
    late: float,
    *,
    several: bool = False,
    told: Told = by_windows,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Smoothing:
    """The smoothing that misses the fewest events with at most ``most`` false alarms an hour; where none keeps to that, the one with the
    fewest. Of equal ones the one that waits for fewer windows, then the higher threshold. ``several``: each class has its own. ``told``:
    what is told of a recording, by those of ``thresholds``."""
    hours = sum(recording.seconds for recording in recordings) / 3600

    def badness(smoothing: Smoothing) -> tuple[float, ...]:
        total = sum(counted(recordings, labels, smoothing, late, told).values(), StreamCount(0, 0, 0))
        rate = total.false_alarms / hours
        thresholds = [smoothing.of(number) for number in range(len(labels))]
        return (max(0.0, rate - most), total.missed, rate, smoothing.windows, -sum(thresholds))

    def of_each(windows: int) -> Smoothing:
        tried = {cut: counted(recordings, labels, Smoothing(windows, cut, refractory), late, told) for cut in thresholds}
        chosen = each_threshold(tried, int(most * hours + 1e-9))
        return Smoothing(windows, tuple(chosen.get(label, thresholds[-1]) for label in labels), refractory)

    if several:
        return min(map(of_each, WINDOWS), key=badness)
    return min((Smoothing(windows, threshold, refractory) for windows, threshold in product(WINDOWS, thresholds)), key=badness)


def each_threshold(tried: Mapping[float, Mapping[str, StreamCount]], allowed: int) -> dict[str, float]:
    """Of each class a threshold, by what classes do at each (threshold -> class -> counts): the fewest events are missed by all of them
    together, with at most ``allowed`` false alarms of all, and of those the fewest. Where none keeps to that, each has its fewest."""
    labels = list(next(iter(tried.values())))
    falling = sorted(tried, reverse=True)  # of equal ones the higher threshold
    fewest = {label: min(falling, key=lambda cut: (tried[cut][label].false_alarms, tried[cut][label].missed)) for label in labels}
    if sum(tried[cut][label].false_alarms for label, cut in fewest.items()) > allowed:
        return fewest
    room = min(allowed, sum(max(row[label].false_alarms for row in tried.values()) for label in labels))
    # By the false alarms that the classes so far have together: the fewest events that they miss, and which threshold the last one has.
    never = np.iinfo(np.int64).max // 2
    missed = np.full(room + 1, never)
    missed[0] = 0
    taken = []
    for label in labels:
        found, which = np.full(room + 1, never), np.zeros(room + 1, np.int64)
        for number, cut in enumerate(falling):
            count = tried[cut][label]
            if count.false_alarms <= room:
                here = np.full(room + 1, never)
                here[count.false_alarms :] = missed[: room + 1 - count.false_alarms] + count.missed
                better = here < found
                found, which = np.where(better, here, found), np.where(better, number, which)
        missed = found
        taken.append(which)
    left, chosen = int(missed.argmin()), {}
    for label, which in zip(reversed(labels), reversed(taken), strict=True):
        chosen[label] = falling[int(which[left])]
        left -= tried[chosen[label]][label].false_alarms
    return chosen


def stream_report(data: DataSet, split: str, front_end: FrontEnd, ear: Ear, most: float) -> dict[str, Any]:
    """What ``evaluate --stream --json`` says: how recordings are heard (``by``), smoothing, where it was chosen and what it did there
    (``expected``), hours, events, missed, false_alarms, their rates, classes, and the curve of misses over false alarms an hour, one
    threshold for all classes. Of several labels at once each class has a threshold of its own, in ``thresholds``. Raises DataError."""
    late = front_end.clip_ms / 1000
    chosen_on = "val" if split != "val" and len(data.members.get("val", ())) else split
    tuned = ear.hear(data, chosen_on)
    tried: dict[str, Any] = {"told": ear.told, "thresholds": ear.thresholds}
    smoothing = choose(tuned, data.labels, most, ear.refractory, late, several=data.several, **tried)
    judged = tuned if chosen_on == split else ear.hear(data, split)

    def hours_of(recordings: Sequence[Heard]) -> float:
        return sum(recording.seconds for recording in recordings) / 3600

    hours = hours_of(judged)

    def figures(total: StreamCount, hours: float = hours) -> dict[str, Any]:
        return {
            "events": total.events,
            "missed": total.missed,
            "miss_rate": total.missed / total.events if total.events else None,
            "false_alarms": total.false_alarms,
            "false_alarms_per_hour": total.false_alarms / hours,
        }

    def all_of(counts: Mapping[str, StreamCount]) -> StreamCount:
        return sum(counts.values(), StreamCount(0, 0, 0))

    by_class = counted(judged, data.labels, smoothing, late, ear.told)

    def at(threshold: float) -> StreamCount:
        return all_of(counted(judged, data.labels, Smoothing(smoothing.windows, threshold, ear.refractory), late, ear.told))

    curve = [{"threshold": threshold, **figures(at(threshold))} for threshold in ear.thresholds]
    return {
        "by": ear.by,
        "recordings": len(judged),
        "hours": hours,
        "hop_ms": ear.hop_ms,
        "allowed_per_hour": most,
        "smoothing": {
            "windows": smoothing.windows,
            "threshold": None if isinstance(smoothing.threshold, tuple) else smoothing.threshold,
            "thresholds": {label: smoothing.of(number) for number, label in enumerate(data.labels) if label in by_class}
            if isinstance(smoothing.threshold, tuple)
            else None,
            "refractory_s": ear.refractory,
            "chosen_on": chosen_on,
        },
        **figures(all_of(by_class)),
        "classes": {label: figures(count) for label, count in by_class.items()},
        "expected": figures(all_of(counted(tuned, data.labels, smoothing, late, ear.told)), hours_of(tuned)),
        "curve": curve,
    }


def no_labels(inputs: NDArray[np.uint8]) -> Split:
    """Inputs of which nothing is known, as a split that a model is run on."""
    return Split(inputs, np.zeros(len(inputs), np.int64), ("",) * len(inputs), kind="sound")
