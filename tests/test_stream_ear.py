"""A stream judged as its board hears it: what is told of a recording is what hear.c tells of it, and the command says so."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_sound_firmware import needs_gcc
from test_sound_streams import HEARS, OPTIONS, beeps
from test_stream_firmware import SEPARABLE, listened, model_of, network, written

from tinynas.cli import run as tinynas
from tinynas.cost import plan_offline
from tinynas.data import DataSet, open_data
from tinynas.data.labels import passive_classes
from tinynas.errors import UserError
from tinynas.export.board_ear import OneTold, chances, moving_sums
from tinynas.export.folder import Thresholds
from tinynas.export.stream_ear import heard_by_frames, stream_ear
from tinynas.export.stream_files import read_stream
from tinynas.export.stream_reference import stream_answers
from tinynas.export.streams import Heard, counted, samples_of, timed
from tinynas.export.tflite import ModelMeta, serialize, storable
from tinynas.front_end import FrontEnd
from tinynas.metrics import Smoothing
from tinynas.quantize import QuantizedGraph
from tinynas.quantize.grid import TensorQuant
from tinynas.sound.features import features, recorded

LABELS = ["a", "b", "c"]
NOISE = HEARS.model_copy(update={"noise_reduction": True})


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataSet]:
    root = tmp_path_factory.mktemp("beeps")
    table = beeps(root / "set")
    return table, open_data(table, options=OPTIONS, cache_dir=root / "cache")


def sounds(data: DataSet, front_end: FrontEnd) -> NDArray[np.int16]:
    """The first recording of the test split, in whole strides as a microphone's driver gives them."""
    samples = samples_of(timed(data, "test", front_end)[0], front_end)
    return samples[: len(samples) // front_end.stride * front_end.stride]


@pytest.fixture(scope="module")
def streaming(recordings: tuple[Path, DataSet]) -> QuantizedGraph:
    """Random weights; biases and the outputs' grid are such that over a recording no class is surer than another on average."""
    qgraph = network(NOISE, kernel=5, blocks=SEPARABLE)
    frames = recorded(sounds(recordings[1], NOISE), NOISE)
    (last,) = [op.name for op in qgraph.graph.ops if op.output == qgraph.graph.logits]

    def with_grid(scale: float, biases: NDArray[np.int32]) -> QuantizedGraph:
        grids = [*qgraph.tensors]
        grids[qgraph.graph.logits] = TensorQuant(float(np.float32(scale)), 0)
        return replace(qgraph, tensors=tuple(grids), biases={**qgraph.biases, last: biases})

    scale, outputs = qgraph.tensors[qgraph.graph.logits].scale, np.full((1, 3), 127, np.int8)
    while np.abs(outputs.astype(int)).max() > 120:  # nothing is cut off
        scale *= 4
        _, outputs = stream_answers(with_grid(scale, qgraph.biases[last]), frames)
    mean = outputs.mean(0) * scale / qgraph.bias_scales(last)
    return with_grid(scale * outputs.std(0).max() / 30, qgraph.biases[last] - np.rint(mean).astype(np.int32))


@needs_gcc
@pytest.mark.parametrize("labels", [("a", "b", "c"), ("a", "silence", "c")])
def test_what_is_told_of_a_recording_is_what_its_firmware_tells(
    recordings: tuple[Path, DataSet], streaming: QuantizedGraph, labels: tuple[str, ...], tmp_path: Path
) -> None:
    """Front end with its noise's estimate, network, chances, averages, the class told and the quiet behind it: of the file alone."""
    _, data = recordings
    model = model_of(streaming)
    again = read_stream(model, streaming.graph.input)
    ear = stream_ear(again, 1.0, several=False, passive=passive_classes(labels))
    found = ear.hear(data, "test")[0]
    assert ear.by == "frames" and ear.hop_ms == 4 * NOISE.stride_ms and ear.refractory == NOISE.frames * NOISE.stride_ms / 1000
    samples = sounds(data, NOISE)
    told: set[int] = set()
    _, answers = listened(
        written(tmp_path, streaming, labels=list(labels)), samples, "-DDEMO_MODEL_THRESHOLD=45", "-DDEMO_MODEL_SMOOTHED=3"
    )
    frames = sorted(answers)
    ends = (np.array(frames) * NOISE.stride + NOISE.window) / NOISE.sample_rate
    assert np.allclose(found.times[: len(frames)], ends) and 0 <= len(found.times) - len(frames) <= 1
    events = ear.told(found, Smoothing(3, 0.45, ear.refractory))
    for number in range(3):
        by_board = [end for end, frame in zip(ends.tolist(), frames, strict=True) if answers[frame][3] == number]
        assert [time for time in events[number] if time <= ends[-1] + 1e-9] == pytest.approx(by_board), number
        told |= {number} if by_board else set()
    assert len(told) > 1 and told.isdisjoint(passive_classes(labels)), "several classes were told"
    assert not events[1] if "silence" in labels else events[1]
    assert sum(len(times) for times in events.values()) < len(frames) / 4, "and then nothing for a clip"


def test_of_equal_answers_the_files_first_is_told_whatever_the_order_of_the_data(streaming: QuantizedGraph) -> None:
    scores = np.array([[127.0, 127.0, 1.0]])  # the file's classes 1, 0 and 2
    found = Heard(1.0, np.array([0.5]), scores, {})
    for passive, told in ((), [1]), ((0,), [1]), ((1,), []):
        ear = stream_ear(streaming, 1.0, [1, 0, 2], several=False, passive=passive)
        events = ear.told(found, Smoothing(1, 0.45, ear.refractory))
        assert [number for number in range(3) if events[number]] == told


@needs_gcc
def test_several_at_once_are_there_where_the_firmware_says_so(
    recordings: tuple[Path, DataSet], streaming: QuantizedGraph, tmp_path: Path
) -> None:
    _, data = recordings
    raw = (20, -10, 60)
    c = written(tmp_path, streaming, decision=Thresholds(raw, ("test",)))
    _, answers = listened(c, sounds(data, NOISE))
    grid = streaming.tensors[streaming.graph.logits]
    ear = stream_ear(streaming, 0.0, several=True)
    found = ear.hear(data, "test")[0]
    cuts = tuple(float(1 / (1 + np.exp(-(cut - 1e-6 - grid.zero_point) * grid.scale))) for cut in raw)
    events = ear.told(found, Smoothing(4, cuts, 0.0))
    outputs = np.array([words[:3] for _, words in sorted(answers.items())])
    sums, counts = moving_sums(outputs.astype(np.int64), 4)
    there = sums >= counts[:, None] * np.array(raw)
    assert 0 < there.sum() < there.size
    for number in range(3):
        expected = found.times[: len(there)][there[:, number]]
        assert [time for time in events[number] if time <= found.times[len(there) - 1]] == pytest.approx(expected.tolist())


def test_told_by_hand() -> None:
    # Chances of 255: of outputs far apart all, of equal ones a share, rounded.
    assert chances(np.array([[127, -128, -128], [3, 3, -128], [0, 0, 0]], np.int8), 0.5).tolist() == [
        [255, 0, 0],
        [128, 128, 0],
        [85, 85, 85],
    ]
    scores = np.array([[255, 0], [0, 255], [0, 255], [255, 0], [255, 0], [255, 0]], np.int64)
    one = OneTold(every=2, refractory=5)
    # Averages of two: 100, 50 / 50 (the first of equals), 100 % of the second, 50 / 50, 100, 100. A class is told and five frames pass.
    assert one.told(scores, 2, 51) == [(0, 0), (4, 0)], "the second class was surest while it was quiet"
    assert OneTold(2, 4).told(scores, 2, 51) == [(0, 0), (2, 1), (4, 0)]
    assert OneTold(2, 0).told(scores, 2, 50) == [(0, 0), (1, 0), (2, 1), (3, 0), (4, 0), (5, 0)]
    assert one.times(scores, np.arange(6) / 2, 2, 51) == {0: [0.0, 2.0], 1: []}
    assert one.told(scores[:0], 2, 50) == []
    # Where the first is no event it is not told, and the second is heard at once.
    assert OneTold(2, 5, passive=(0,)).told(scores, 2, 51) == [(2, 1)]
    assert OneTold(2, 0, passive=(0, 1)).told(scores, 1, 1) == []


def test_a_recording_of_any_length_has_the_frames_of_a_clip_that_is_as_long() -> None:
    front = NOISE.model_copy(update={"pcan": True, "sample_rate": 11025, "layout": "series"})
    draw = np.random.default_rng(0).integers(-9000, 9000, 3 * front.clip_samples).astype(np.int16)
    clip = features(draw[None, : front.clip_samples], front)[0]
    frames = recorded(draw, front)
    assert np.array_equal(frames[: front.frames], clip) and frames.shape[1:] == clip.shape[1:]
    assert len(frames) == 1 + (len(draw) - front.window) // front.stride
    assert len(recorded(draw[: front.window], front)) == 1


def test_the_command_hears_frames_where_the_board_does(
    recordings: tuple[Path, DataSet],
    streaming: QuantizedGraph,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, data = recordings
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model_int8.tflite"
    held = storable(streaming)
    labels = ("silence", "low", "high")  # in another order than the data's
    model.write_bytes(serialize(held, ModelMeta("0123456789", labels), plan_offline(held.graph)))
    sets = ["data.clip=400", "data.silence=1", "data.folds={val: 1, test: 2}"]
    command = ["evaluate", str(model), "--data", str(table), *(word for text in sets for word in ("--set", text)), "--stream"]

    def said(*more: str) -> dict[str, Any]:
        assert tinynas([*command, *more, "--json"]) == 0, capsys.readouterr().err
        found: dict[str, Any] = json.loads(capsys.readouterr().out)["stream"]
        return found

    found = said("--runtime", "compiled-stream")
    assert (found["by"], found["hop_ms"], found["events"]) == ("frames", 80, 18)
    passive = (data.labels.index("silence"),)
    ear = stream_ear(streaming, 1.0, [labels.index(label) for label in data.labels], several=False, passive=passive)
    smoothing = Smoothing(found["smoothing"]["windows"], found["smoothing"]["threshold"], found["smoothing"]["refractory_s"])
    counts = counted(ear.hear(data, "test"), data.labels, smoothing, 0.4, ear.told)
    assert {label: (row["missed"], row["false_alarms"]) for label, row in found["classes"].items()} == {
        label: (count.missed, count.false_alarms) for label, count in counts.items()
    }
    assert set(counts) == {"low", "high"} and smoothing.refractory == pytest.approx(NOISE.frames * 0.02)
    assert {row["threshold"] for row in found["curve"]}.isdisjoint({0.995}), "a board's are whole percent"
    # The export's report beside the file says it, of this very file alone.
    report = {"report": {"runtime": "compiled-stream"}, "sha256": sha256(model.read_bytes()).hexdigest()}
    (tmp_path / "export.json").write_text(json.dumps(report))
    assert heard_by_frames(model.read_bytes(), model, None) and not heard_by_frames(model.read_bytes(), model, "tflm")
    assert not heard_by_frames(b"other", model, None)
    (tmp_path / "export.json").write_text("[]")
    assert not heard_by_frames(model.read_bytes(), model, None)
    (tmp_path / "export.json").write_text(json.dumps(report))
    assert tinynas([*command, "--hop", "100"]) == 2
    assert "answers every 80 ms" in capsys.readouterr().err
    whole = [word for word in command if word != "--stream"]
    for option, given in (("--hop", "100"), ("--runtime", "compiled-stream")):
        assert tinynas([*whole, option, given]) == 2 and f"{option} {given}: says how recordings are heard" in capsys.readouterr().err
    assert tinynas([*command, "--runtime", "nonsense"]) == 2 and "nonsense" in capsys.readouterr().err
    with pytest.raises(UserError, match="unknown runtime"):
        heard_by_frames(b"", model, "nonsense")


def test_what_hears_given_features_is_no_stream(streaming: QuantizedGraph) -> None:
    bare = replace(streaming.graph, input=replace(streaming.graph.input, front_end=None))
    with pytest.raises(Exception, match="without a front end"):
        stream_ear(replace(streaming, graph=bare), 1.0, several=False)
