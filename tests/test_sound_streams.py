"""Networks judged on a stream: windows, scores, smoothing chosen on validation recordings, and the command that says it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console

from tinynas.arch import Arch, ConvLayer
from tinynas.cli import run
from tinynas.data import DataOptions, DataSet, open_data
from tinynas.errors import DataError
from tinynas.export.deliver import ExportRow
from tinynas.export.model import export_model
from tinynas.export.served import Audience
from tinynas.export.streams import Heard, choose, counted, each_threshold, heard, probabilities
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.front_end import FrontEnd
from tinynas.graph import lower
from tinynas.metrics import StreamCount
from tinynas.quantize import fold, quantize
from tinynas.recipe import Augment, Recipe, SoundAugment
from tinynas.records import Artifact
from tinynas.report.figures import draw, stream_info
from tinynas.report.terminal import evaluation_table, promoted_table
from tinynas.train import Trainer

RATE = 8000
HEARS = FrontEnd(sample_rate=RATE, clip_ms=400, bins=12, noise_reduction=False, pcan=False)


def beeps(root: Path) -> Path:
    """Nine recordings of 12 s: faint noise with three high and three low beeps."""
    lines = ["path,label,start,end,fold"]
    for number in range(9):
        draw = np.random.default_rng(number)
        wave = draw.normal(0, 0.003, 12 * RATE)
        for i, hertz in enumerate((400, 2000, 400, 2000, 400, 2000)):
            start = 0.5 + 2 * i + draw.uniform(0, 0.5)
            first = round(start * RATE)
            wave[first : first + RATE // 2] += 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE // 2) / RATE)
            lines.append(f"r{number}.wav,{'low' if hertz == 400 else 'high'},{start:.3f},{start + 0.5:.3f},{number // 3}")
        root.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / f"r{number}.wav", wave, RATE)
    (root / "events.csv").write_text("\n".join(lines) + "\n")
    return root / "events.csv"


OPTIONS = DataOptions(clip=400, silence=1.0, folds={"val": ("1",), "test": ("2",)})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataSet]:
    root = tmp_path_factory.mktemp("beeps")
    table = beeps(root / "set")
    return table, open_data(table, options=OPTIONS, cache_dir=root / "cache")


def loudest(data: DataSet, inputs: np.ndarray) -> np.ndarray:
    """A network by hand: the share of the low, of the high bins, and of little at all."""
    mean = inputs[..., 0].astype(float).mean(axis=1)
    low, high = mean[:, :5].max(1), mean[:, 7:].max(1)
    raw = {"low": low, "high": high, "silence": np.full(len(mean), 90.0)}
    scores = np.stack([raw[label] for label in data.labels], 1)
    return np.asarray(np.exp(scores / 8) / np.exp(scores / 8).sum(1, keepdims=True))


def test_windows_of_a_recording_and_what_is_in_it(recorded: tuple[Path, DataSet]) -> None:
    _, data = recorded
    found = heard(data, "test", HEARS, 100, lambda inputs: loudest(data, inputs))
    assert len(found) == 3 and found[0].seconds == 12.0
    assert found[0].times[0] == 0.4 and found[0].times[-1] == 12.0 and len(found[0].times) == 117
    assert {data.labels[number]: len(events) for number, events in found[0].events.items()} == {"low": 3, "high": 3}
    smoothing = choose(heard(data, "val", HEARS, 100, lambda inputs: loudest(data, inputs)), data.labels, 1.0, 1.0, 0.4)
    total = counted(found, data.labels, smoothing, 0.4)
    assert set(total) == {"low", "high"}, "silence is no event"
    assert total == {"low": StreamCount(9, 0, 0), "high": StreamCount(9, 0, 0)}


def test_the_smoothing_is_chosen_by_misses_at_so_many_false_alarms() -> None:
    times = np.arange(10.0)
    scores = np.zeros((10, 1))
    scores[[2, 6, 7], 0] = 0.9, 0.8, 0.8  # one window too many at 2; the event is at 6 to 7
    recording = Heard(3600.0, times, scores, {0: [(5.5, 7.5)]})
    found = choose([recording], ["word"], most=1.0, refractory=1.0, late=0.0)
    assert found.windows == 2 and counted([recording], ["word"], found, 0.0)["word"] == StreamCount(1, 0, 0)
    scores[7] = 0.0  # now nothing tells the event from the false alarm but that it is fainter
    for most, expected in ((1.0, StreamCount(1, 0, 1)), (0.5, StreamCount(1, 1, 0))):
        chosen = choose([recording], ["word"], most=most, refractory=1.0, late=0.0)
        assert counted([recording], ["word"], chosen, 0.0)["word"] == expected


def test_outputs_as_probabilities() -> None:
    assert np.allclose(probabilities(np.array([[0.25, 0.75]])), [[0.25, 0.75]])
    assert np.allclose(probabilities(np.array([[0.0, np.log(3.0)]])), [[0.25, 0.75]])


def test_the_whole_line_from_recordings_to_a_judged_file(
    recorded: tuple[Path, DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, data = recorded
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    height, width, channels = HEARS.shape
    arch = Arch(
        height=height, width=width, channels=channels, classes=3, front_end=HEARS, stem=ConvLayer(out=8, stride=2), head=ConvLayer(out=16)
    )
    train, val = data.read_by(arch.input, "train"), data.read_by(arch.input, "val")
    augment = Augment(sound=SoundAugment(variants=2, mixup=0.1, time_masks=0))
    recipe = Recipe(epochs=25, batch_size=8, lr=0.02, warmup_epochs=0, ema=0, augment=augment)
    trainer = Trainer(lower(arch), train, val, recipe, seed=0, device=torch.device("cpu"))
    trainer.run()
    assert trainer.history[-1].val_accuracy > 0.8
    model = tmp_path / "beeps.tflite"
    model.write_bytes(serialize(quantize(fold(trainer.network), train.inputs), ModelMeta(arch.id, data.labels)))
    net = tmp_path / "arch.yaml"
    net.write_text(json.dumps(arch.model_dump(mode="json")))
    sets = ["data.clip=400", "data.silence=1", "data.folds={val: 1, test: 2}"]
    command = ["evaluate", str(model), "--data", str(table), *(word for text in sets for word in ("--set", text))]
    assert run([*command, "--stream", "--front-end", str(net), "--hop", "100", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "sound" and document["accuracy"] > 0.8
    stream = document["stream"]
    assert stream["events"] == 18 and stream["recordings"] == 3 and stream["hours"] == pytest.approx(0.01)
    assert stream["smoothing"]["chosen_on"] == "val" and stream["missed"] <= 3
    assert stream["false_alarms_per_hour"] == pytest.approx(stream["false_alarms"] / 0.01)
    misses = [row["missed"] for row in stream["curve"]]
    assert misses == sorted(misses), "a higher threshold misses no fewer"
    assert stream["allowed_per_hour"] == 1.0 and stream["expected"]["events"] == 18
    drawn = stream_info(document)
    assert drawn is not None and drawn.chosen is not None and drawn.chosen_on == "val"
    assert drawn.thresholds[drawn.chosen] == stream["smoothing"]["threshold"]
    assert (drawn.missed[drawn.chosen], drawn.false_alarms_per_hour[drawn.chosen]) == (stream["missed"], stream["false_alarms_per_hour"])
    picture = tmp_path / "stream.html"
    assert run([*command, "--stream", "--front-end", str(net), "--hop", "100", "--draw", str(picture)]) == 0
    assert "chosen on val" in picture.read_text() and f"picture: {picture}" in capsys.readouterr().out
    assert run([*command, "--draw", "stream.svg"]) == 2 and "written as HTML" in capsys.readouterr().err
    artifact = export_model(
        trainer.network,
        calibration=np.asarray(train.inputs),
        labels=data.labels,
        out=tmp_path / "export",
        evaluation=data.read_by(arch.input, "test"),
        split_name="test",
        audience=Audience(data),
    )
    listened = artifact.report["stream"]
    assert listened["events"] == 18 and listened["hop_ms"] == 100 and listened["smoothing"]["chosen_on"] == "val"
    assert listened["curve"] == stream["curve"], "by promote as by evaluate"
    assert Artifact.from_json(artifact.to_json()) == artifact
    told = ExportRow(artifact.id, tmp_path, artifact.report["files"], artifact.report).to_json()
    assert told["stream"] == listened and told["cost"]["flash_bytes"] > told["flash_bytes"]["measured"], "the front end is code"
    said = Console(width=160)
    with said.capture() as lines:
        said.print(promoted_table([told]))
    assert "as it listens: " in lines.get() and "file (estimated)" in lines.get()
    console = Console(width=120)
    with console.capture() as shown:
        console.print(evaluation_table(document))
    assert "false alarms an hour" in shown.get() and "sounds" in shown.get()
    assert run(command) == 0 and "100.00 %" in capsys.readouterr().out, "the file says through what it hears"


def test_the_curve_shows_the_chosen_threshold_and_no_more_than_matters() -> None:
    def row(threshold: float, missed: int, rate: float) -> dict[str, float]:
        return {"threshold": threshold, "missed": missed, "events": 10, "false_alarms_per_hour": rate}

    curve = [row(0.1, 0, 400.0), row(0.5, 0, 3.0), row(0.9, 2, 0.5), row(0.99, 10, 0.0)]
    smoothing = {"threshold": 0.9, "chosen_on": "val"}
    stream = {"events": 10, "missed": 2, "false_alarms_per_hour": 0.5, "allowed_per_hour": 1.0, "curve": curve}
    info = stream_info({"stream": {**stream, "smoothing": smoothing}})
    assert info is not None and info.thresholds == (0.99, 0.9, 0.5, 0.1) and info.chosen == 1
    drawn = draw(info)
    line, chosen = drawn["data"]
    assert line["x"] == [0.0, 0.5, 3.0, 400.0] and line["y"] == [1.0, 0.2, 0.0, 0.0]
    assert (chosen["x"], chosen["y"]) == ([0.5], [0.2])
    assert 3.0 < drawn["layout"]["xaxis"]["range"][1] < 5.0, "400 an hour would hide all the rest"
    each = stream_info({"stream": {**stream, "smoothing": {"threshold": None, "thresholds": {"a": 0.3}, "chosen_on": "val"}}})
    assert each is not None and each.chosen is None
    (mark,) = draw(each)["data"][1:]
    assert (mark["x"], mark["y"]) == ([0.5], [0.2]) and mark["text"][0].startswith("a threshold of each class")
    assert stream_info({}) is None


def test_each_class_has_the_threshold_by_which_all_together_miss_least() -> None:
    draw, cuts, labels = np.random.default_rng(0), (0.2, 0.5, 0.8), ("a", "b", "c")
    for _ in range(40):
        allowed = int(draw.integers(0, 8))
        tried = {cut: {label: StreamCount(9, int(draw.integers(0, 6)), int(draw.integers(0, 5))) for label in labels} for cut in cuts}

        def told(chosen: Sequence[float], tried: dict[float, dict[str, StreamCount]] = tried) -> tuple[int, int]:
            counts = [tried[cut][label] for cut, label in zip(chosen, labels, strict=True)]
            return sum(count.missed for count in counts), sum(count.false_alarms for count in counts)

        ways = [told(chosen) for chosen in product(cuts, repeat=3)]
        chosen = each_threshold(tried, allowed)
        found = told([chosen[label] for label in labels])
        within = [way for way in ways if way[1] <= allowed]
        assert found == min(within) if within else found[1] == min(way[1] for way in ways)


def test_a_threshold_of_each_class_is_of_that_class() -> None:
    times, scores = np.arange(6.0), np.array([[0.3, 0.6], [0.3, 0.6], [0.3, 0.9], [0.6, 0.6], [0.3, 0.6], [0.3, 0.6]])
    recording = Heard(3600.0, times, scores, {0: [(3.0, 3.5)], 1: [(2.0, 2.5)]})
    found = choose([recording], ["faint", "loud"], most=0.0, refractory=1.0, late=0.0, several=True)
    assert found.windows == 1 and 0.3 < found.of(0) <= 0.6 < found.of(1) <= 0.9
    assert counted([recording], ["faint", "loud"], found, 0.0) == {"faint": StreamCount(1, 0, 0), "loud": StreamCount(1, 0, 0)}
    one = choose([recording], ["faint", "loud"], most=0.0, refractory=1.0, late=0.0)
    assert sum(counted([recording], ["faint", "loud"], one, 0.0).values(), StreamCount(0, 0, 0)).missed == 1, "of one for both"


def test_what_is_no_stream_is_refused(recorded: tuple[Path, DataSet], tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(4):
            path = tmp_path / "set" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.random.default_rng(i).normal(0, 0.1, RATE // 2), RATE)
    data = open_data(tmp_path / "set", cache_dir=tmp_path / "cache", options=DataOptions(leaks="keep", clip=400))
    with pytest.raises(DataError, match="no recording with events"):
        heard(data, "train", HEARS, 100, lambda inputs: np.zeros((len(inputs), 2)))
