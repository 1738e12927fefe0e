"""The main line through the command line: search, pareto, promote, export, evaluate, report; kills and resumes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tinynas.cli import run as cli
from tinynas.graph import few_bits, lower
from tinynas.model import Network
from tinynas.quantize import fold
from tinynas.runs import Run
from tinynas.train.quantised import load_trained

SPACE = """\
name: test
resolution: [16, 24]
width_mult: [0.5, 1.0]
divisor: 4
stem: {out: 8}
stages:
  - {out: 8,  depth: 1,      kernel: [3],    expand: 1,      stride: 1}
  - {out: 16, depth: [1, 2], kernel: [3, 5], expand: [2, 3], stride: 2}
  - {out: 24, depth: [1, 2], kernel: [3, 5], expand: [2, 3], stride: 2}
"""
BUDGET = """\
name: test board
core: cortex-m4
clock_mhz: 64
sram: 32 KiB
flash: 144 KiB
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tinynas", *arguments]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space, a budget and images of two easy classes: stripes and blobs."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "space.yaml").write_text(SPACE)
    (folder / "budget.yaml").write_text(BUDGET)
    rng = np.random.default_rng(0)
    for label in ("blobs", "stripes"):
        (folder / "images" / label).mkdir(parents=True)
        for index in range(80):
            image = rng.integers(0, 90, (28, 28, 3), dtype=np.uint8)
            if label == "stripes":
                image[:, :: int(rng.integers(3, 6))] += 120
            else:
                cv2.circle(image, tuple(int(v) for v in rng.integers(8, 20, 2)), int(rng.integers(4, 8)), (200, 180, 190), -1)
            cv2.imwrite(str(folder / "images" / label / f"{index}.png"), image)
    return folder


def inputs(place: Path) -> list[str]:
    return ["--budget", str(place / "budget.yaml"), "--space", str(place / "space.yaml"), "--data", str(place / "images")]


def five(place: Path, out: Path) -> list[str]:
    """The words of a search of five networks with one worker."""
    few = ["--trials", "5", "--workers", "1", "--seed", "3", "--set", "pool=200", "--set", "rungs=[1,2,4]"]
    return ["search", *inputs(place), *few, "--out", str(out)]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = cli([*arguments, "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


@pytest.fixture(scope="module")
def searched(place: Path) -> Path:
    """A finished search of five networks, made here; in a process of its own is the one that is killed."""
    out = place / "run"
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as errors:
        code = cli([*five(place, out), "--json"])
    assert code == 0, errors.getvalue()
    (place / "search.json").write_text(said.getvalue())
    return out


@pytest.mark.xdist_group("line")
def test_search_prints_its_contract(place: Path, searched: Path) -> None:
    document = json.loads((place / "search.json").read_text())
    assert document["run"] == str(searched)
    assert document["trials"]["trained"] >= 5
    assert set(document["trials"]) == {"proposed", "infeasible", "duplicate", "trained", "failed"}
    limits = Run.open(searched).budget.limits
    assert document["front"]
    for row in document["front"]:
        assert 0 <= row["accuracy"] <= 1
        assert row["sram_bytes"] <= limits["sram_bytes"]
        assert row["flash_bytes"] + 50_000 < row["program_bytes"] <= limits["program_bytes"] == 144 * 1024
    for name in (
        "config.yaml",
        "space.yaml",
        "budget.yaml",
        "env.json",
        "trials.jsonl",
        "trials.csv",
        "front.json",
        "report.html",
        "study.journal",
    ):
        assert (searched / name).is_file(), name


@pytest.mark.xdist_group("line")
def test_pareto_is_the_front_of_the_search(place: Path, searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "pareto", str(searched)) == json.loads((place / "search.json").read_text())["front"]
    assert cli(["pareto", str(searched)]) == 0
    assert f"tinynas promote {searched} best" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.xdist_group("line")
def test_estimate_of_a_run_is_the_trial_s_cost(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = Run.open(searched).front()[0]
    document = answer(capsys, "estimate", f"{searched}:{row['id']}", "--budget", str(searched / "budget.yaml"))
    assert document["fits"] is True
    for name in ("macs", "sram_bytes", "flash_bytes"):
        assert document[name] == row[name]


@pytest.mark.xdist_group("line")
def test_promote_and_export_keep_every_promise(place: Path, searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "promote", str(searched), "best", "--epochs", "6")
    (row,) = document["promoted"]
    assert row["accuracy"]["split"] == "test"
    assert row["accuracy"]["float"] > 0.7
    assert abs(row["accuracy"]["float"] - row["accuracy"]["int8"]) < 0.1
    assert row["flash_bytes"]["estimated"] == row["flash_bytes"]["measured"]
    assert row["arena_bytes"]["estimated"] == row["arena_bytes"]["measured"]
    (front,) = [one for one in Run.open(searched).front() if one["id"] == row["id"]]
    shared = row["cost"].keys() & front.keys()
    assert {name: row["cost"][name] for name in shared} == {name: front[name] for name in shared} and "program_bytes" in shared
    net = Run.open(searched).net_dir(row["id"])
    for name in ("arch.yaml", "metrics.json", "weights.safetensors", "train.csv", "model_int8.tflite", "export.json", "MODEL_CARD.md"):
        assert (net / name).is_file(), name
    assert (net / "c" / "model_data.cc").is_file()
    measured = answer(capsys, "evaluate", str(net / "model_int8.tflite"), "--data", str(place / "images"), "--split", "test")
    assert measured["accuracy"] == pytest.approx(row["accuracy"]["int8"], abs=1e-9)
    assert sum(map(sum, measured["confusion"])) == measured["n"]
    again = answer(capsys, "promote", str(searched), "best", "--epochs", "6")
    assert again["promoted"][0]["accuracy"] == row["accuracy"]
    exported = answer(capsys, "export", str(searched), row["id"], "--out", str(place / "exported"), "--format", "tflite,c")
    assert Path(exported["files"]["tflite"]).read_bytes() == (net / "model_int8.tflite").read_bytes()
    foreign = answer(capsys, "estimate", str(net / "model_int8.tflite"))
    assert foreign["macs"] == answer(capsys, "estimate", f"{searched}:{row['id']}")["macs"]
    page = answer(capsys, "report", str(searched))["report"]
    assert "http://" not in Path(page).read_text(encoding="utf-8")[:2000]


@pytest.mark.xdist_group("line")
def test_mixed_bits_from_the_search_to_the_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bits are a switch of a space that exists; what is found is trained on its grids and exported as it was trained."""
    out = place / "coarse"
    bits = ["--set", "space.weight_bits=4", "--set", "space.depthwise_bits=[8,4]", "--set", "space.classifier_bits=[4,8]"]
    small = ["--set", "epoch_images=60", "--set", "rungs=[1]", "--set", "pool=50", "--trials", "3", "--workers", "1"]
    found = answer(capsys, "search", *inputs(place), *bits, *small, "--out", str(out))
    run = Run.open(out)
    net_id = found["front"][0]["id"]
    layers = few_bits(lower(run.arch(net_id)))
    assert len(layers) >= 5 and "stem" not in layers and set(layers.values()) == {4}
    assert run.space.weight_bits == (4,) and [trial.genotype for trial in run.trials() if trial.id == net_id]
    code = cli(["promote", str(out), net_id, "--epochs", "6", "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert f"{net_id}: weights of 4 bits in {len(layers)} layers: trained on grids with learned steps from epoch 1 on" in " ".join(
        shown.err.split()
    )
    (row,) = json.loads(shown.out)["promoted"]
    assert row["flash_bytes"]["estimated"] == row["flash_bytes"]["measured"] == found["front"][0]["flash_bytes"]
    assert row["arena_bytes"]["estimated"] == row["arena_bytes"]["measured"]
    assert row["accuracy"]["float"] > 0.7 and abs(row["accuracy"]["float"] - row["accuracy"]["int8"]) < 0.1
    trained = load_trained(lower(run.arch(net_id)), run.weights_file(net_id))
    assert isinstance(trained, Network) and set(fold(trained).steps) == set(layers)
    net = run.net_dir(net_id)
    measured = answer(capsys, "evaluate", str(net / "model_int8.tflite"), "--data", str(place / "images"), "--split", "test")
    assert measured["accuracy"] == pytest.approx(row["accuracy"]["int8"], abs=1e-9)
    exported = answer(capsys, "export", str(out), net_id, "--out", str(place / "exported-coarse"), "--format", "tflite")
    assert Path(exported["files"]["tflite"]).read_bytes() == (net / "model_int8.tflite").read_bytes()
    assert cli(["search", "--resume", "--out", str(out), "--set", "space.weight_bits=[8,4]"]) == 2
    assert "space.weight_bits 4, not 8, 4" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow  # by the command line what test_search_engine shows of the call
@pytest.mark.xdist_group("line")
def test_equal_searches_write_equal_trials(place: Path, searched: Path) -> None:
    out = place / "again"
    subprocess.run(command(*five(place, out)), check=True, capture_output=True)
    assert (out / "trials.jsonl").read_bytes() == (searched / "trials.jsonl").read_bytes()


def _wait_for(path: Path, lines: int, process: subprocess.Popen[bytes], timeout: float = 90) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.05)


@pytest.mark.xdist_group("line")
def test_a_killed_search_resumes_with_nothing_lost_or_doubled(place: Path, searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "killed"
    arguments = command(*five(place, out))
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _wait_for(out / "trials.jsonl", 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {trial.number: trial for trial in Run.open(out).trials()}
    assert before, "killed before anything was finished"
    answer(capsys, "search", "--resume", "--out", str(out))
    whole = Run.open(searched).trials()
    after = Run.open(out).trials()
    assert [(t.number, t.id, t.scores, t.epochs) for t in after] == [(t.number, t.id, t.scores, t.epochs) for t in whole]


@pytest.mark.xdist_group("line")
def test_ctrl_c_exits_130_and_prints_the_command_that_continues(place: Path) -> None:
    out = place / "stopped"
    arguments = [*inputs(place), "--trials", "50", "--workers", "1", "--out", str(out)]
    process = subprocess.Popen(command("search", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False)
    _wait_for(out / "trials.jsonl", 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()
    assert f"tinynas search --resume --out {out}" in errors.decode()
    assert "Traceback" not in errors.decode()


@pytest.mark.slow  # by the command line what test_promote shows of the call
@pytest.mark.xdist_group("line")
def test_a_killed_promote_resumes(place: Path, searched: Path) -> None:
    run = Run.open(searched)
    net_id = sorted(row["id"] for row in run.front())[0]
    arguments = ["promote", str(searched), net_id, "--epochs", "12", "--seed", "7"]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None and not run.checkpoint_dir(net_id).exists():
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command(*arguments, "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["promoted"]
    assert row["id"] == net_id
    epochs = [line.split(",")[0] for line in run.train_csv(net_id).read_text().splitlines()[1:]]
    assert epochs == [str(epoch) for epoch in range(1, 13)]


@pytest.mark.xdist_group("line")
def test_resume_refuses_other_inputs(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["search", "--resume", "--out", str(searched), "--budget", "rp2040", "--space", "tiny"]) == 2
    shown = capsys.readouterr().err
    assert "budget test board, not rp2040" in shown and "space test, not tiny" in shown
    assert cli(["search", "--resume", "--out", str(searched), "--seed", "17", "--objective", "sram"]) == 2
    shown = capsys.readouterr().err
    assert ", not 17" in shown and "not sram" in shown and "--trials" in shown


def test_spaces_without_a_space_chooses_one_and_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["spaces", "--budget", "mcunet-tiny2"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("for two classes and images of any size: space micro (mean MACs of what fits")
    assert "sub-spaces of micro" in shown
    assert "next: tinynas search --budget mcunet-tiny2 --space micro" in shown
    rows = answer(capsys, "spaces", "--budget", "stm32f746")
    assert {row["space"] for row in rows} == {"mcunet"}
    assert any(row["chosen"] for row in rows)
    named = answer(capsys, "spaces", "--budget", "stm32f746", "--space", str(place / "space.yaml"))
    assert {row["space"] for row in named} == {"test"}
