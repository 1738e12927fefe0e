"""A stream judged as the board hears it: whole recordings frame by frame through front end and network, and what its firmware tells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from tinynas.cost.runtimes import runtime_named
from tinynas.cost.stepwise import plan_steps
from tinynas.data import DataSet
from tinynas.errors import InternalError
from tinynas.export.board_ear import OneTold, chances
from tinynas.export.stream_reference import stream_answers
from tinynas.export.streams import (
    THRESHOLDS,
    Ear,
    Heard,
    by_themselves,
    class_numbers,
    events_of,
    judged_recordings,
    samples_of,
)
from tinynas.metrics import Smoothing, moving_average, sigmoid
from tinynas.quantize.grid import QuantizedGraph
from tinynas.sound.features import recorded


def stream_ear(
    qgraph: QuantizedGraph, refractory: float, order: Sequence[int] | None = None, *, several: bool, passive: tuple[int, ...] = ()
) -> Ear:
    """The board that streams ``qgraph``; its outputs are those of the data's classes in ``order`` (None: their own), of which the
    ``passive`` are no events.

    One class is told at a time, the surest, where its average reaches a threshold in whole percent, and then nothing for a clip, as hear.h
    has it: what it tells is what hear.c tells, bit for bit. Of ``several`` labels at once each is there where the average of its outputs is
    at least its threshold, which is counted once in ``refractory`` seconds. Raises UserError where it cannot be streamed.
    """
    graph = qgraph.graph
    front_end = graph.input.front_end
    if front_end is None:
        raise InternalError("a stream of sound without a front end")
    plan, grid = plan_steps(graph), qgraph.tensors[graph.logits]
    columns = list(range(graph.classes)) if order is None else list(order)
    # Of equal averages the file's first is told, whatever the order of the data's classes.
    one = OneTold(plan.every, front_end.frames, tuple(columns[number] for number in passive))

    def hear(data: DataSet, split: str) -> list[Heard]:
        number, found = class_numbers(data), []
        for recording in judged_recordings(data, split, front_end):
            samples = samples_of(recording, front_end)
            if len(samples) < front_end.clip_samples:  # by rounding
                samples = np.pad(samples, (0, front_end.clip_samples - len(samples)))
            at, outputs = stream_answers(qgraph, recorded(samples, front_end))
            real = (outputs.astype(np.float64) - grid.zero_point) * grid.scale
            scores = real if several else chances(outputs, grid.scale).astype(np.float64)
            times = (np.array(at) * front_end.stride + front_end.window) / front_end.sample_rate
            found.append(Heard(recording.length / 1000, times, scores[:, columns], events_of(recording, number)))
        return found

    def one_told(recording: Heard, smoothing: Smoothing) -> Mapping[int, Sequence[float]]:
        scores = np.zeros(recording.scores.shape, np.int64)
        scores[:, columns] = recording.scores
        told = one.times(scores, recording.times, smoothing.windows, round(100 * smoothing.of(0)))
        return {number: told[column] for number, column in enumerate(columns)}

    def several_told(recording: Heard, smoothing: Smoothing) -> Mapping[int, Sequence[float]]:
        return by_themselves(sigmoid(moving_average(recording.scores, smoothing.windows)), recording, smoothing)

    hop_ms = plan.every * front_end.stride_ms
    if several:
        return Ear("frames", hop_ms, refractory, hear, several_told)
    whole = tuple(cut for cut in THRESHOLDS if abs(100 * cut - round(100 * cut)) < 1e-6)
    return Ear("frames", hop_ms, front_end.frames * front_end.stride / front_end.sample_rate, hear, one_told, whole)


def heard_by_frames(model: bytes, path: Path, runtime: str | None) -> bool:
    """Whether the .tflite ``model`` at ``path`` streams on the board: by ``runtime``, or where that is None by the export's report of this
    very file beside it. Raises UserError for an unknown runtime."""
    if runtime is None:
        try:
            report = json.loads((path.parent / "export.json").read_text(encoding="utf-8"))
            said = report["report"]["runtime"] if report["sha256"] == sha256(model).hexdigest() else None
        except (OSError, ValueError, KeyError, TypeError):
            return False  # it lies there alone
        runtime = said if isinstance(said, str) else None
    return runtime is not None and runtime_named(runtime).stream
