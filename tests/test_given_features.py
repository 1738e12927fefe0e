"""Features in files, heard as a map or as a series: the space without its front end, the network of the same bytes, its firmware."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from test_compiled_firmware import built, folder

from tinynas.api import load_space
from tinynas.arch import Arch, ConvLayer, Separable
from tinynas.cli import run as tinynas
from tinynas.cost import estimate
from tinynas.cost.batch import BatchEstimator
from tinynas.export.formats import FORMATS
from tinynas.graph import lower
from tinynas.inputs import Input
from tinynas.quantize.grid import random_quantized
from tinynas.runs import Run
from tinynas.space import Space, input_text

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc)")

SERIES = {"resolution": [[9, 1], [12, 1]], "channels": 5, "stages": [{"out": 8, "kernel": [[3, 1]], "expand": [1, 2]}]}


def write_features(root: Path, frames: int = 12, features: int = 8, each: int = 12) -> Path:
    """Two classes: what rises and what falls with time."""
    rng = np.random.default_rng(0)
    for label, sign in (("up", 1), ("down", -1)):
        (root / label).mkdir(parents=True)
        for number in range(each):
            slope = sign * np.linspace(-60, 60, frames)[:, None] + rng.normal(0, 20, (frames, features))
            (root / label / f"{number}.bin").write_bytes(np.clip(slope, -128, 127).astype(np.int8).tobytes())
    return root


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = tinynas([*arguments, "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def test_a_series_of_given_features_is_an_input_of_its_own() -> None:
    space = Space.model_validate(SERIES)
    assert [given.shape for given in space.inputs] == [(9, 1, 5), (12, 1, 5)]
    assert {given.kind for given in space.inputs} == {"features"}
    assert [size.text for size in space.sizes] == ["9 frames of 5", "12 frames of 5"] and "9 frames of 5 to 12 frames" in space.describe()
    arch = space.sample(lambda _, n: n - 1, 3)
    assert arch.input == Input(12, 1, 5, "features") and input_text(arch.input) == "12 frames of 5"
    assert Space.model_validate(space.to_json()) == space
    for channels in (1, 3):  # which images have too
        assert Space.model_validate({**SERIES, "channels": channels}).sample(lambda *_: 0, 2).input.kind == "features"
    refused = [({"color": "gray"}, "color and channels"), ({"front_end": {}}, "channels are of images")]
    refused += [({"channels": None}, "both or neither"), ({"resolution": 16}, "both or neither")]
    for more, said in refused:
        with pytest.raises(ValidationError, match=said):
            Space.model_validate({**SERIES, **more})


@pytest.mark.parametrize("runtime", ["tflm", "compiled-rows"])
def test_its_costs_are_those_of_its_networks(runtime: str) -> None:
    space = Space.model_validate(SERIES)
    every = [(r, 0, 0, 0, 0, 0, 0, 0, 0, 0, e, 0) for r in (0, 1) for e in (0, 1)]
    assert all(space.holds(genotype) for genotype in every)
    costs = BatchEstimator(space, 3, runtime).estimate(every)
    for index, genotype in enumerate(every):
        assert costs.values(index) == estimate(lower(space.decode(genotype, 3)), runtime).values()


def test_it_is_the_map_of_the_same_bytes_to_what_is_around_it() -> None:
    series = Input(49, 1, 10, "features")
    assert series.as_map == Input(49, 10, 1, "gray")
    assert FORMATS["c"].holds(series) and not FORMATS["c"].holds(Input(49, 4, 10, "features"))
    for other in (Input(49, 10, 1, "gray"), Input(8, 8, 3), Input(49, 4, 10, "features")):
        assert other.as_map is other


@needs_gcc
@pytest.mark.parametrize("frame", ["kept", "rows"])
def test_its_firmware_takes_the_same_bytes(frame: Any, tmp_path: Path) -> None:
    arch = Arch(
        height=9,
        width=1,
        channels=5,
        input_kind="features",
        classes=3,
        stem=ConvLayer(out=8, kernel=(3, 1)),
        blocks=(Separable(out=8, kernel=(3, 1)),),
    )
    status, log = built(folder(tmp_path, frame, random_quantized(lower(arch), seed=1)))
    assert status == 0, log
    assert log.count("largest difference 0 steps: ok") == 2
    header = (tmp_path / "network.h").read_text()
    assert "DEMO_MODEL_WIDTH 5\n" in header and "DEMO_MODEL_CHANNELS 1\n" in header


def test_features_are_searched_as_a_map_by_name_and_as_a_series_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    data = ["--data", str(write_features(tmp_path / "data")), "--set", "data.features=12x8"]
    begin = ["search", "--budget", "nano33-ble-sense", *data, "--trials", "2", "--workers", "1"]
    small = ["--set", "epoch_images=16", "--set", "rungs=[1]", "--set", "pool=40", "--set", "space.width_mult=0.25"]
    series, maps = tmp_path / "series", tmp_path / "maps"
    answer(capsys, *begin, *small, "--out", str(series))
    run = Run.open(series)
    assert [given.shape for given in run.space.inputs] == [(12, 1, 8)] and run.space.front_end is None
    again = ["search", "--resume", "--out", str(series), "--set", "space.width_mult=0.25", "--trials", "2"]
    assert tinynas(again) == tinynas([*again, "--space", "listen-1d"]) == 0
    capsys.readouterr()
    answer(capsys, *begin, *small, "--space", "listen", "--out", str(maps))
    assert [given.shape for given in Run.open(maps).space.inputs] == [(12, 8, 1)]
    (row,) = answer(capsys, "promote", str(series), "best", "--epochs", "1", "--set", "epoch_images=16")["promoted"]
    assert row["problems"] == [] and row["arena_bytes"]["estimated"] == row["arena_bytes"]["measured"]
    net = series / "nets" / row["id"]
    assert (net / "c").is_dir() and (net / "model_int8.tflite").is_file()
    told = answer(capsys, "evaluate", str(net / "model_int8.tflite"), *data)
    assert told["accuracy"] == row["accuracy"]["int8"]
    (tmp_path / "own.yaml").write_text("name: own\nresolution: [[10, 1]]\nchannels: 8\nstages: [{out: 8, kernel: [[3, 1]]}]\n")
    assert tinynas([*begin, "--space", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "x")]) == 2
    assert "[[12, 1]] and channels: 8" in " ".join(capsys.readouterr().err.split())
    assert tinynas(["search", "--budget", "stm32f746", "--space", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "y")]) == 2
    assert "reads given features, and synthetic holds images" in " ".join(capsys.readouterr().err.split())


def test_spaces_of_either_layout_lose_their_front_end() -> None:
    from tinynas.api import _of_features

    shapes = {name: _of_features(load_space(name), (49, 10)).inputs[0].shape for name in ("listen", "listen-1d", "listen-stream")}
    assert shapes == {"listen": (49, 10, 1), "listen-1d": (49, 1, 10), "listen-stream": (49, 1, 10)}
    tiny = load_space("tiny")
    assert _of_features(tiny, (49, 10)) is tiny
