"""The model card: every figure comes from a record, what no record holds is unknown, and its code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tinynas.arch import load_arch
from tinynas.cost import RUNTIMES, Cost, estimate
from tinynas.export.card import _confusion, _interval, model_card
from tinynas.graph import lower
from tinynas.records import Artifact, Promoted

ARCH = load_arch("mcunet-tiny2")
PROMOTED = Promoted(
    id=ARCH.id,
    epochs=40,
    best_epoch=37,
    val_accuracy=0.8512,
    test_accuracy=0.8437,
    test_images=960,
    seconds=342.4,
    seed=7,
    recipe={"epochs": 40, "lr": 0.003, "loss": "ce", "augment": {"kind": "light", "flip": True}},
    confusion=((400, 60), (90, 410)),
)
REPORT: dict[str, Any] = {
    "accuracy": {"float": 0.8437, "int8": 0.8417, "split": "test"},
    "agreement": {"overall": 0.9875, "per_class": {"no_person": 0.99, "person": 0.985}},
    "flash_bytes": {"estimated": 84288, "measured": 84288},
    "arena_bytes": {"estimated": 33210, "measured": 33216, "head": 27648, "tail": 5568, "microcontroller_estimated": 31000},
    "balanced_accuracy": 0.8376,
    "auc": 0.91234,
    "n": 960,
    "kernels": "TFLM reference (tflite-micro)",
    "confusion": [[398, 62], [90, 410]],
}
ARTIFACT = Artifact(id=ARCH.id, file="model_int8.tflite", format="tflite", sha256="ab" * 32, report=REPORT)
COSTS = {
    "tflm": {
        "macs": 1_674_512,
        "params": 39_018,
        "flash_bytes": 84_288,
        "program_bytes": 153_600,
        "sram_bytes": 33_210,
        "latency_ms": None,
    },
    "tflm-cmsis-nn": {
        "macs": 1_674_512,
        "params": 39_018,
        "flash_bytes": 84_288,
        "program_bytes": 153_600,
        "sram_bytes": 34_001,
        "latency_ms": 123.456,
    },
}


def full(**changes: Any) -> str:
    options: dict[str, Any] = {
        "labels": ("no_person", "person"),
        "promoted": PROMOTED,
        "artifact": ARTIFACT,
        "costs": COSTS,
        "data": {
            "name": "person64",
            "fingerprint": "c0ffee",
            "splits": {"train": 7680, "val": 480, "test": 960},
            "notes": ["validation was carved from train"],
        },
        "budget": {"name": "stm32f746", "board": "Discovery", "runtime": "tflm", "limits": {"sram_bytes": 262_144, "macs": 5_000_000}},
        "environment": {"python": "3.11.7", "platform": "Linux", "versions": {"torch": "2.13.0"}},
        "firmware": True,
        **changes,
    }
    return model_card(ARCH, **options)


def test_every_figure_of_the_records_is_there() -> None:
    card = full()
    for figure in (
        "84.4 %",  # float, test
        "85.1 %",  # float, validation
        "84.2 %",  # int8
        "98.8 %",  # agreement
        "99.0 %",
        "84,288 B (82.3 KiB)",
        "33,216 B",
        "33,210 B",
        "31,000 B",
        "balanced accuracy 83.8 %",
        "AUC 91.2 %",
        "1,674,512",
        "123.5 ms",
        "best by validation: 37",
        "342 s",
        "960",
        "augment kind | light",
        "validation was carved from train",
        "sram_bytes 262,144 B",
        "macs 5,000,000",
        "c0ffee",
        "abab",
        "TFLM reference (tflite-micro)",
    ):
        assert figure in card, figure
    assert "**no_person** | 400 | 60 | 87.0 %" in card
    assert "**person** | 90 | 410 | 82.0 %" in card
    assert "**no_person** | 398 | 62 | 86.5 %" in card
    assert "`tflm` | 1,674,512 | 39,018 | 84,288 B (82.3 KiB) | 153,600 B (150.0 KiB) | 33,210 B (32.4 KiB) | unknown (no evidence)" in card


def test_the_same_records_give_the_same_text_and_valid_tables() -> None:
    assert full() == full()
    for card in (full(), model_card(ARCH)):
        block: list[str] = []
        for line in [*card.splitlines(), ""]:
            if line.startswith("|"):
                block.append(line)
            elif block:
                columns = {len(re.findall(r"(?<!\\)\|", row)) for row in block}
                assert len(columns) == 1, block
                assert set(block[1]) <= set("|-")
                block = []
        assert card.endswith("\n")
        assert "None" not in card
        assert not re.search(r"\bnan\b", card)


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    card = model_card(ARCH)
    sections = dict(re.findall(r"## (.+?)\n\n(.*?)(?=\n## |\Z)", card, flags=re.DOTALL))
    assert set(sections) >= {"Intended use", "Data", "Training", "Results", "Costs", "Limits", "Licenses", "How to run", "Provenance"}
    for title in ("Data", "Training", "Results", "Costs", "Licenses", "Provenance"):
        assert "nknown" in sections[title], title
    results = sections["Results"]
    assert not re.search(r"\d %(?! interval)", results.replace("95 % interval", "")), results  # no figure from nowhere
    assert "has not been measured" in sections["Limits"]
    assert "How the weights came about is unknown" in sections["Limits"]
    assert "| Weights | unknown |" in sections["Licenses"]
    assert "tinynas export --format tflite,c" in sections["How to run"]


def test_licences_are_given_by_the_publisher() -> None:
    card = full(licences={"weights": "CC-BY-4.0", "data": "ImageNet terms: research only"})
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "CC-BY-4.0"
    assert front["pipeline_tag"] == "image-classification"
    assert "| Data | ImageNet terms: research only |" in card
    assert yaml.safe_load(full(licences={"weights": 'odd: "one"'}).split("---")[1])["license"] == "odd:  one "


def test_many_classes_show_the_most_frequent_mistakes() -> None:
    n = 30
    matrix = np.eye(n, dtype=int) * 10
    matrix[3, 5], matrix[7, 1], matrix[8, 8] = 9, 4, 0
    labels = [f"k{i}" for i in range(n)]
    promoted = Promoted.from_json({**PROMOTED.to_json(), "confusion": tuple(map(tuple, matrix.tolist()))})
    card = full(promoted=promoted, labels=labels, artifact=None)
    assert "The most frequent mistakes of 30 classes." in card
    assert card.index("| k3 | k5 | 9 |") < card.index("| k7 | k1 | 4 |")
    assert card.count("| k3 |") == 1


def test_a_class_without_images_has_no_recall() -> None:
    promoted = Promoted.from_json({**PROMOTED.to_json(), "confusion": ((5, 1), (0, 0))})
    assert "**person** | 0 | 0 | unknown" in full(promoted=promoted)


def test_wilson_interval_by_its_definition() -> None:
    """The ends p of the interval solve |p - x| = z sqrt(p (1 - p) / n)."""
    low, high = (float(part) / 100 for part in re.findall(r"[\d.]+", _interval(0.8437, 960)))
    for end in (low, high):
        assert abs(abs(end - 0.8437) - 1.96 * (end * (1 - end) / 960) ** 0.5) < 6e-4
    assert _interval(1.0, 50).endswith("100.0 %")
    assert _interval(None, 960) == _interval(0.5, None) == "unknown"


def test_odd_names_break_nothing() -> None:
    card = full(labels=("a|b", "<script>`x`"), name="my *net*\n# x")
    assert "# my \\*net\\* # x" in card
    assert "a\\|b" in card
    assert "<script>" not in card.replace("\\<script\\>", "").split("```")[0]


@pytest.mark.parametrize("rotation", [0, 180])
def test_the_code_of_the_card_runs(tmp_path: Path, rotation: int) -> None:
    """The host example on a real file prints the class that TFLM's kernels give for the (turned) image."""
    import cv2
    from test_firmware import tiny_model

    from tinynas.arch import Arch, ConvLayer
    from tinynas.export.sandbox import run_tflm

    model = tiny_model(3, 12, 16)
    arch = Arch(height=12, width=16, channels=3, classes=3, stem=ConvLayer(out=8))
    image = np.random.default_rng(2).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
    (tmp_path / "model_int8.tflite").write_bytes(model)
    card = model_card(arch, labels=("one", "two's", "three"), input_rotation=rotation)
    code = card.split("```python\n")[1].split("```")[0].replace("image.jpg", "image.png")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    shown = np.ascontiguousarray(image[::-1, ::-1]) if rotation else image
    assert done.stdout.strip() == ("one", "two's", "three")[int(run_tflm(model, shown[None]).outputs[0].argmax())]


def test_the_card_of_a_run_holds_what_the_run_holds(tmp_path: Path) -> None:
    from tinynas.api import load_space
    from tinynas.budget import load_budget
    from tinynas.data import DataOptions, open_data
    from tinynas.export.card import data_facts, run_card, write_card
    from tinynas.runs import Run

    env = {"seed": 3, "data": "f00d", "labels": ["no_person", "person"]}
    run = Run.create(tmp_path / "r", config={"data": "synthetic"}, space=load_space("tiny"), budget=load_budget("stm32f746"), env=env)
    run.write_arch(ARCH)
    bare = run_card(run, ARCH.id)
    assert "turned by 180" not in bare and "turned by 180" in run_card(run, ARCH.id, input_rotation=180)
    assert "no_person, person" in bare
    assert "`f00d`" in bare
    assert "no record of the training" in bare
    for runtime in ("tflm", "tflm-cmsis-nn", "tinyengine", "stedgeai"):
        assert f"| `{runtime}` | 1,674,512 |" in bare
    run.write_promoted(PROMOTED)
    run.write_artifact(ARTIFACT)
    (run.net_dir(ARCH.id) / "c").mkdir()
    options = DataOptions.model_validate({"limit": 40})
    path = write_card(run, ARCH.id[:5], data=data_facts(open_data("synthetic", cache_dir=tmp_path / "cache", options=options)))
    assert path == tmp_path / "r" / "nets" / ARCH.id / "MODEL_CARD.md"
    card = path.read_text(encoding="utf-8")
    assert "84.4 %" in card
    assert "train 40, val 40, test 40" in card
    assert "the folder `c/` beside this file" in card
    assert "stm32f746 (STM32F746G-DISCO)" in card


def test_of_many_classes_the_twenty_most_frequent_mistakes_are_shown() -> None:
    matrix = [[100 if i == j else 50 - i if j == i + 1 else 0 for j in range(22)] for i in range(22)]
    text = _confusion(matrix, [f"c{i}" for i in range(22)])
    assert text.count("\n| c") == 20 and "| c0 | c1 | 50 |" in text and "| c19 | c20 | 31 |" in text and "| c20 | c21 |" not in text
    square = _confusion([row[:20] for row in matrix[:20]], [f"c{i}" for i in range(20)])
    assert "Rows are true classes" in square and square.count("\n| **c") == 20


def test_how_well_each_figure_is_known_is_on_the_card() -> None:
    runtimes = {name: runtime for name, runtime in RUNTIMES.items() if not runtime.stream}
    costs = {name: estimate(lower(ARCH), name).to_json() for name in runtimes}
    card = full(costs=costs)
    for name, runtime in runtimes.items():
        (row,) = [line for line in card.splitlines() if line.startswith(f"| `{name}` |")]
        assert f"), {runtime.evidence['flash'][0]} |" in row and f"), {runtime.evidence['sram'][0]} |" in row
        assert runtime.evidence["sram"][1] in card
    assert card.count("no memory plan of this runtime is known to the byte") == 2
    partly = full(costs={"tflm": partly_known("reverse").to_json()})
    (row,) = [line for line in partly.splitlines() if line.startswith("| `tflm` |")]
    assert "KiB), at least |" in row and "KiB), exact |" in row
    assert "the runtime's own part for reverse is not known, so SRAM is at least this" in partly


def partly_known(*kinds: str) -> Cost:
    """The cost of ARCH if its first operators were of ``kinds`` that TFLM's tail is not known for."""
    cost = estimate(lower(ARCH))
    first, rest = cost.work.pieces[: len(kinds)], cost.work.pieces[len(kinds) :]
    pieces = (*(replace(piece, kind=kind) for piece, kind in zip(first, kinds, strict=True)), *rest)
    return replace(cost, work=replace(cost.work, pieces=pieces))


def test_estimate_says_how_well_each_figure_is_known() -> None:
    from rich.console import Console

    from tinynas.report.terminal import cost_table, known_lines

    for name, runtime in RUNTIMES.items():
        cost = estimate(lower(ARCH.model_copy(update={"causal": runtime.stream})), name)
        document = cost.to_json()
        assert (document["exact_plan"], document["at_least"]) == (runtime.plans or runtime.frame is not None, [])
        assert cost.code is not None
        told = {figure: known for figure, known in runtime.evidence.items() if figure != "code"}
        told["program"] = (cost.code.evidence, f"model and code, {cost.code.note}")
        for line, (figure, known) in zip(known_lines(cost), told.items(), strict=True):
            most = f"; of {len(cost.by_version)} versions in use {cost.version} asks for most"
            assert line == f"{figure}: {known[0]}, {known[1]}{most if figure == 'sram' and len(cost.by_version) > 1 else ''}"
            assert document["evidence"][figure] == list(known)
    (sram, *_), (alone, *_) = (known_lines(estimate(lower(ARCH), name, core="cortex-m4")) for name in ("tflm-cmsis-nn", "tflm"))
    assert sram.endswith("; of 2 versions in use arduino asks for most") and "versions in use" not in alone
    short = partly_known("reverse", "transpose")
    sram, flash, program = known_lines(short)
    assert program.startswith("program: bound, model and code, tflm on a core that is not named was not measured")
    assert sram.startswith("sram: at least, ") and sram.endswith("; the runtime's part of reverse, transpose is not known")
    assert flash.startswith("flash: exact, ")
    for cost, wanted in ((short, True), (estimate(lower(ARCH)), False)):
        console = Console(width=200)
        with console.capture() as seen:
            console.print(cost_table(cost))
        (row,) = [line for line in seen.get().splitlines() if line.startswith("SRAM")]
        assert ("at least" in row) == wanted


def test_sizes_are_height_by_width_and_features_are_no_photographs() -> None:
    from tinynas.arch import Arch, ConvLayer

    portrait = Arch(height=32, width=20, channels=1, classes=10, stem=ConvLayer(out=8, kernel=(5, 3)))
    card = model_card(portrait)
    assert "| Input | 32 x 20 (height x width) grayscale, real = (pixel-128)/128 |" in card
    assert "height, width = 32, 20" in card and "5x3 convolution to 8 channels" in card and "pipeline_tag: image-classification" in card
    sound = Arch(height=49, width=10, channels=1, input_kind="features", classes=4, stem=ConvLayer(out=8, kernel=(10, 4), stride=2))
    card = model_card(sound)
    assert "| Input | 49 x 10 (height x width) features of 1 channel, real = (value-128)/128 |" in card
    assert "pipeline_tag" not in card and "cv2" not in card and "RGB565" not in card
    assert "tinynas writes no code for this input; nothing in it makes features" in card


def test_a_folder_without_the_model_file_says_how_to_get_it() -> None:
    card = full(artifact=Artifact(id=ARCH.id, file="c", format="c", sha256="ab" * 32, report=REPORT))
    assert "`tinynas export --format tflite` writes the .tflite" in card and "cv2" not in card
    assert "SRAM on the microcontroller, `tflm-cmsis-nn` | 31,000 B" in full(
        artifact=Artifact(
            id=ARCH.id,
            file="model_int8.tflite",
            format="tflite",
            sha256="ab" * 32,
            report={**REPORT, "arena_bytes": {**REPORT["arena_bytes"], "runtime": "tflm-cmsis-nn"}},
        )
    )


def test_control_characters_of_names_do_not_reach_the_card() -> None:
    arch = load_arch("mcunet-tiny2")
    text = model_card(arch, labels=["a\x1b[2Jb", "c\u202ed"], data={"name": "e\x07f\x9b", "notes": ["g\x00h"]})
    assert not set("\x1b\x07\x9b\x00\u202e") & set(text)
    assert r"a\\x1b\[2Jb" in text and r"e\\x07f\\u009b" in text
