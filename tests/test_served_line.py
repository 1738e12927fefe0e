"""By the command line: a CSV of attributes and a threshold for a rate of false alarms, in records, card, page and firmware."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tinynas.arch import Arch, ConvLayer
from tinynas.cli import run as tinynas
from tinynas.runs import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lamps on (a bright half) and off, by day and by night: at night half of the lamps are faint."""
    root = tmp_path_factory.mktemp("lamps")
    rng = np.random.default_rng(0)
    rows = [("name", "time", "wet")]
    for label in ("no_lamp", "lamp"):
        for i in range(200):
            night = i % 2
            image = rng.integers(40, 90, (16, 16, 3)).astype(np.uint8)
            if label == "lamp":
                image[:, :8] += np.uint8(20 if night and i % 4 == 1 else 120)
            path = root / "set" / label / f"{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
            rows.append((f"{label}/{i:03d}.png", "night" if night else "day", "yes" if i % 3 == 0 else "no"))
    with (root / "facts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    arch = Arch(height=16, width=16, channels=3, classes=2, stem=ConvLayer(out=8, stride=2))
    (root / "net.yaml").write_text(arch.to_yaml())
    (root / "board.yaml").write_text("name: board\nruntime: compiled-rows\nsram: 64 KiB\nflash: 256 KiB\ncore: cortex-m4\n")
    return root


@pytest.fixture(scope="module")
def promoted(folder: Path) -> Run:
    """Promoted with a threshold for one false alarm of ten."""
    out = folder / "run"
    command = [
        "promote",
        str(folder / "net.yaml"),
        "--budget",
        str(folder / "board.yaml"),
        "--data",
        str(folder / "set"),
        "--out",
        str(out),
    ]
    command += ["--set", f"data.attributes={folder / 'facts.csv'}", "--epochs", "3", "--false-alarms", "0.1"]
    command += ["--set", "recipe.batch_size=32", "--set", "recipe.augment.light.flip=0"]
    assert tinynas(command) == 0
    return Run.open(out)


def test_records_card_and_page_say_who_is_served(promoted: Run) -> None:
    net_id = next(iter(promoted.path.glob("nets/*"))).name
    artifact = promoted.artifact(net_id)
    assert artifact is not None
    report = artifact.report
    assert list(report["subsets"]) == ["time: day", "time: night", "wet: yes", "wet: no"]
    assert sum(report["subsets"][f"time: {part}"]["n"] for part in ("day", "night")) == report["n"] == 60
    assert report["positive"] == "lamp", "no_lamp is called after it"
    point = report["operating_point"]
    assert point["expected"]["false_alarms"]["value"] <= 0.1 and point["expected"]["false_alarms"]["of"] == 30
    assert point["chosen_on"] == "val" and point["measured"]["split"] == "test" and report["subsets_by"] == "threshold"
    assert {(gap["group"], gap["figure"]) for gap in report["gaps"]} == {
        (group, figure) for group in ("time", "wet") for figure in ("accuracy", "recall", "false_alarms")
    }
    card, page = (promoted.net_dir(net_id) / "MODEL_CARD.md").read_text(), promoted.report_file.read_text()
    assert "## Who is served how well" in card and "| time: night |" in card and "for 10 % of false alarms" in card
    assert "Who is served how well" in page and "time: night" in page and "chosen threshold" in page


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_firmware_decides_by_the_threshold_and_passes_its_self_test(promoted: Run, tmp_path: Path) -> None:
    net_id = next(iter(promoted.path.glob("nets/*"))).name
    artifact = promoted.artifact(net_id)
    assert artifact is not None
    assert tinynas(["export", str(promoted.path), net_id, "--out", str(tmp_path)]) == 0  # elsewhere, with the same threshold
    for c in (promoted.net_dir(net_id) / "c", tmp_path / "c"):
        assert f"_THRESHOLD ({artifact.report['operating_point']['raw']})" in (c / "model_settings.h").read_text()
    sources = ["network.c", "model_settings.c", "image_input.c", "classifier.c", "self_test.c", "self_test_data.c", "self_test_main.c"]
    subprocess.run(["gcc", "-std=c99", "-Wall", "-Werror", *sources, "-o", "program", "-lm"], cwd=tmp_path / "c", check=True, timeout=100)
    done = subprocess.run([str(tmp_path / "c" / "program")], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "self-test: PASS" in done.stdout


def test_evaluate_says_the_same_of_the_file(promoted: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net_id = next(iter(promoted.path.glob("nets/*"))).name
    artifact = promoted.artifact(net_id)
    assert artifact is not None
    command = ["evaluate", str(promoted.net_dir(net_id) / "model_int8.tflite"), "--data", str(folder / "set")]
    facts = ["--set", f"data.attributes={folder / 'facts.csv'}"]
    assert tinynas([*command, *facts, "--false-alarms", "0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for key in ("operating_point", "subsets", "gaps", "roc", "positive", "recall", "false_alarms"):
        assert found[key] == artifact.report[key], key
    assert tinynas([*command, *facts, "--false-alarms", "0.1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "chosen threshold" in said and "time: night" in said and "time, recall:" in said
    assert tinynas([*command, "--subsets"]) == 2
    assert "say them in a CSV file" in capsys.readouterr().err
    assert tinynas([*command, "--false-alarms", "0.01"]) == 2
    assert "the smallest rate that they can tell is 0.0333 (1 of 30)" in " ".join(capsys.readouterr().err.split())
    assert tinynas([*command, "--false-alarms", "0.1", "--threshold", "0.5"]) == 2
    assert "leave one out" in capsys.readouterr().err
