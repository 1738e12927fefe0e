"""Several labels at once: from the table to the firmware, for sounds and for images alike."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
import torch
from search_runs import RECIPE, SPACE, budget
from test_firmware import needs_wheel, on_host, tflm_outputs, tiny_model
from test_sound_firmware import model_of, needs_gcc, network, ran

from tinynas import metrics, several
from tinynas.api import prepare_search
from tinynas.cli import run
from tinynas.config import build
from tinynas.data import DataOptions, DataSet, open_data
from tinynas.data.info import describe
from tinynas.data.labels import joined_labels, parts_of
from tinynas.data.noise import estimate_noise
from tinynas.data.sounds.folder import to_the_end
from tinynas.data.split import class_counts, strata_of
from tinynas.errors import ConfigError, DataError, UserError
from tinynas.export.compiled_firmware import build_compiled_firmware
from tinynas.export.facts import read_facts
from tinynas.export.firmware import measured_arena, write_firmware
from tinynas.export.folder import Thresholds
from tinynas.export.judge import Rule
from tinynas.export.sandbox import inspect, run_tflm
from tinynas.export.several import check_several, choose, scores_of
from tinynas.export.told_thresholds import told_thresholds, with_thresholds
from tinynas.objectives import OBJECTIVES, of_several
from tinynas.recipe import Recipe
from tinynas.report import write_report
from tinynas.search import SearchSettings
from tinynas.search.prepare import check_goals
from tinynas.train.feed import mixed
from tinynas.train.losses import make_loss

COLOURS = ("blue", "green", "red")
RATE = 8000
TONES = {"low": 500.0, "mid": 1200.0, "high": 2600.0}


def blocks(root: Path, count: int, *, seed: int = 0, between: str = ";") -> Path:
    """Images of which each of three channels is bright or not, by itself, and a table of which are."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    rows = []
    for i in range(count):
        image = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
        there = rng.random(3) < 0.45
        image[..., there] += 150
        cv2.imwrite(str(root / f"{i:03d}.png"), image)
        rows.append([f"{i:03d}.png", between.join(name for name, is_there in zip(COLOURS, there, strict=True) if is_there)])
    return table(root / "labels.csv", ["file_name", "label"], rows)


def table(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def tones(seconds: float, *parts: tuple[str, float, float], seed: int = 0) -> np.ndarray:
    """Noise, and in it tones by name from a start to an end, in seconds."""
    count = round(seconds * RATE)
    time, sound = np.arange(count) / RATE, 0.01 * np.random.default_rng(seed).standard_normal(count)
    for name, start, end in parts:
        sound += 0.2 * np.sin(2 * np.pi * TONES[name] * time) * ((time >= start) & (time < end))
    return sound


def write(path: Path, sound: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, RATE)


def opened(place: Path, tmp_path: Path, *options: str) -> DataSet:
    given = build({}, DataOptions, source="options", overrides=("multilabel=true", *options))
    return open_data(place, cache_dir=tmp_path / "cache", options=given)


def labels_of(data: DataSet) -> dict[str, str]:
    return {record.name: data.said_of(i) for i, record in enumerate(data.records)}


# tables -------------------------------------------------------------------------------------------------


def test_a_cell_holds_several_labels_one_or_none(tmp_path: Path) -> None:
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8, 3), 20 * i, np.uint8))
    cells = ["owl; fox", "fox|owl", "owl", "", "fox;;owl;fox", "owl,fox"] + ["owl", "fox"] * 3
    place = table(tmp_path / "all.csv", ["file_name", "label"], [(f"{i}.png", cell) for i, cell in enumerate(cells)])
    data = opened(place, tmp_path, "label_separator=','")
    assert data.labels == ("fox", "owl") and data.several and data.positive is None
    found = labels_of(data)
    assert [found[f"{i}.png"] for i in range(6)] == ["fox, owl", "fox, owl", "owl", "none", "fox, owl", "fox, owl"]
    assert "several labels at once: 4 of 12 images have more than one, 1 none" in data.notes
    # A comma is one class's name where nobody says that it is none.
    assert "owl,fox" in opened(place, tmp_path).labels


def test_objectives_of_one_class_are_refused(tmp_path: Path) -> None:
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8, 3), 20 * i, np.uint8))
    cells = [(f"{i}.png", ("owl; fox", "fox", "owl")[i % 3]) for i in range(12)]
    data = opened(table(tmp_path / "all.csv", ["file_name", "label"], cells), tmp_path)
    for name, said in (("adapted_accuracy", "is of one class for each image"), ("wake-vision-score", "needs an accuracy")):
        with pytest.raises(DataError, match=said):
            check_goals([name], data)


def test_rows_of_one_file_add_up_and_so_do_columns(tmp_path: Path) -> None:
    for i in range(10):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8, 3), 20 * i, np.uint8))
    rows = [(f"{i}.png", ("a", "b")[i % 2]) for i in range(10)]
    one = opened(table(tmp_path / "rows.csv", ["file", "label"], [*rows, ("3.png", "a"), ("3.png", "c"), ("4.png", "")]), tmp_path)
    assert labels_of(one)["3.png"] == "a, b, c" and labels_of(one)["4.png"] == "a"
    hot = [(f"{i}.png", int(i % 2 == 0), int(i % 2 == 1 or i == 4), int(i == 3)) for i in range(9)] + [("9.png", 0, 0, 0)]
    other = opened(table(tmp_path / "hot.csv", ["file", "a", "b", "c"], hot), tmp_path)
    assert labels_of(other)["4.png"] == "a, b" and labels_of(other)["3.png"] == "b, c" and labels_of(other)["9.png"] == "none"
    # Without the option both are faults that name it.
    for name in ("rows.csv", "hot.csv"):
        with pytest.raises(DataError, match=r"several|is a here") as caught:
            open_data(tmp_path / name, cache_dir=tmp_path / "cache")
        assert "--set data.multilabel=true" in str(caught.value.hint)


def test_events_that_overlap_a_piece_are_its_labels(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"r{i}.wav", tones(4, seed=i))
    events = [
        ("r0.wav", "low", 0.2, 1.9),  # of the pieces 0-1 and 1-2 each 0.8 and 0.9 s: at least half a piece
        ("r0.wav", "mid;high", 1.9, 2.1),  # shorter than a piece: half of it is in each of two
        ("r0.wav", "high", 3.6, 3.7),
        ("r1.wav", "low", 0.7, 1.4),  # 0.3 s of 0.7 are less than half
        *((f"r{i}.wav", name, 0, 1) for i in (2, 3) for name in TONES),
        ("r3.wav", "mid", "", ""),  # of all of the recording
    ]
    split = {"r0.wav": "train", "r1.wav": "train", "r2.wav": "val", "r3.wav": "test"}
    rows = [(*event, split[event[0]]) for event in events]
    data = opened(table(tmp_path / "events.csv", ["path", "label", "start", "end", "split"], rows), tmp_path)
    found = labels_of(data)
    pieces = ["0.000-1.000", "1.000-2.000", "2.000-3.000", "3.000-4.000"]
    assert [found[f"r0.wav@{piece}"] for piece in pieces] == ["low", "high, low, mid", "high, mid", "high"]
    assert [found[f"r1.wav@{piece}"] for piece in pieces] == ["none", "low", "none", "none"]
    assert [found[f"r3.wav@{piece}"] for piece in pieces] == ["high, low, mid", "mid", "mid", "mid"]
    assert [event[2] for event in data.recordings["r0.wav"].events] == ["low", "high", "mid", "high"]
    fewer = opened(tmp_path / "events.csv", tmp_path, "silence=0.5")
    # In training 8 labels of three classes, half as many as of each are 1 of 3 pieces; in validation 3 labels, and 1 of 3.
    assert sum(name == "none" for name in labels_of(fewer).values()) == 2
    assert "2 pieces of no class used, of 6" in fewer.notes


def test_every_event_is_in_a_piece() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        length = rng.uniform(1500, 9000)
        start = rng.uniform(0, length - 20)
        end = rng.uniform(start + 10, length)
        for overlap in (0.0, 0.5):
            shared = [(min(b, end) - max(a, start), b - a) for a, b in to_the_end(length, 1000, overlap)]
            assert any(2 * both >= min(piece, end - start) for both, piece in shared)


def test_splits_share_out_the_rarest_class_and_data_info_counts_by_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for i in range(120):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        rows.append((f"{i}.png", ";".join(["usual"] * (i % 5 > 0) + ["rare"] * (i % 12 == 0))))
    data = opened(table(tmp_path / "t.csv", ["file", "label"], rows), tmp_path)
    document = describe(data)
    assert [document["splits"][split]["rare"] for split in ("train", "val", "test")] == [6, 2, 2]  # of 10
    assert document["several"]["train"]["inputs"] == len(data.rows("train"))
    assert sum(part["none"] for part in document["several"].values()) == sum(1 for _, label in rows if not label)
    split = data.split("train", 8, 8, 3)
    assert split.labels.shape == (len(split), 2) and len(split.of_class(0)) == 6 == split.labels[:, 0].sum()
    few = split.subset(20, seed=0)
    assert few.labels.sum(0)[0] >= 1 and len(few) == 20
    # The fingerprint is of the labels: another label of one image makes another.
    again = opened(table(tmp_path / "t.csv", ["file", "label"], [(rows[0][0], "usual"), *rows[1:]]), tmp_path)
    assert again.fingerprint != data.fingerprint == opened(table(tmp_path / "t.csv", ["file", "label"], rows[::-1]), tmp_path).fingerprint


def test_strata_are_the_rarest_class_of_each() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [1, 0, 1], [0, 1, 0]])
    # 4 of class 0, 3 of class 1, 2 of class 2
    assert strata_of(labels).tolist() == [1, 0, 3, 2, 2, 1]
    assert strata_of(np.array([2, 0])).tolist() == [2, 0]
    assert class_counts(labels, 3).tolist() == [4, 3, 2]


def test_labels_are_chosen_and_renamed_each_by_itself(tmp_path: Path) -> None:
    place = blocks(tmp_path / "b", 30)
    data = opened(place, tmp_path, "labels=[red, cool]", "label_map={blue: cool}")
    whole = labels_of(opened(place, tmp_path))
    assert data.labels == ("red", "cool") and len(data.records) == 30
    for name, said in labels_of(data).items():
        before = whole[name].split(", ")
        assert said == (", ".join(["red"] * ("red" in before) + ["cool"] * ("blue" in before)) or "none")
    assert any("labels of other classes forgotten" in note for note in data.notes)
    assert joined_labels(parts_of("b|a ;b")) == "a;b" and joined_labels([]) == ""


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("binary={warm: [red]}", "binary is about one label each"),
        ("positive=red", "positive is about one label each"),
        ("attributes=a.csv", "attributes is about one label each"),
        ("unknown=rest", "unknown is about one label each"),
    ],
)
def test_what_is_about_one_label_is_refused_by_name(tmp_path: Path, option: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        opened(tmp_path, tmp_path, option)


def test_faults_are_one_clear_message_each(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="label_separator"):
        build({}, DataOptions, source="options", overrides=("label_separator=','",))
    with pytest.raises(DataError, match="synthetic: multilabel: here each image has one label"):
        open_data("synthetic", cache_dir=tmp_path, options=DataOptions(multilabel=True))
    place = blocks(tmp_path / "b", 30)
    with pytest.raises(DataError, match="there is no label 'grean'"):
        opened(place, tmp_path, "labels=[grean, red]")
    rows = [(f"{i:03d}.png", "red" if i % 3 else "") for i in range(30)]
    with pytest.raises(DataError, match="have the one class 'red'"):
        opened(table(tmp_path / "b" / "one.csv", ["file", "label"], rows), tmp_path)
    with pytest.raises(DataError, match="no image has a label"):
        opened(table(tmp_path / "b" / "nothing.csv", ["file", "label"], [(name, "") for name, _ in rows]), tmp_path)
    split = [(f"{i:03d}.png", "" if i > 19 else ("red", "blue")[i % 2], ("train", "val", "test")[i // 10]) for i in range(30)]
    with pytest.raises(DataError, match="test: no image is of any class"):
        opened(table(tmp_path / "b" / "parts.csv", ["file", "label", "split"], split), tmp_path)
    with pytest.raises(DataError, match="noise of labels"):
        estimate_noise(opened(place, tmp_path).split("train", 8, 8, 3), COLOURS, lambda *_: np.zeros((1, 3)))


# figures ------------------------------------------------------------------------------------------------


def test_average_precision_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    # Positives at places 1, 3 and 4: (1/1 + 2/3 + 3/4) / 3.
    assert metrics.average_precision(np.array([True, False, True, True, False]), scores) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    # Equal scores are one step: of two at the top one is positive, so both positives are found at precisions 1/2 and 2/3.
    assert metrics.average_precision(np.array([True, False, True]), np.array([1.0, 1.0, 0.0])) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics.average_precision(np.array([False, False]), np.array([1.0, 0.0])) is None
    truth = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    table_ = np.array([[0.9, 0.1, 0.5], [0.5, 0.9, 0.2], [0.1, 0.2, 0.1]])
    # Class 0: (1 + 2/3) / 2; class 1: (1 + 2/2) / 2; class 2 has none and is left out.
    assert metrics.mean_average_precision(truth, table_) == pytest.approx(((1 + 2 / 3) / 2 + 1.0) / 2)
    assert metrics.score_of(truth, table_) == metrics.mean_average_precision(truth, table_)
    assert metrics.score_of(np.array([0, 1, 0]), table_[:, :2]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="of any class"):
        metrics.mean_average_precision(np.zeros((2, 2), np.int64), table_[:2, :2])


def test_average_precision_by_another_route() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        count = int(rng.integers(1, 40))
        positive, scores = rng.random(count) < 0.4, rng.integers(0, 8, count).astype(float)
        # Every positive's precision: of those with at least its score, how many are positive.
        each = [positive[scores >= score].mean() for score in scores[positive]]
        found = metrics.average_precision(positive, scores)
        assert found is None if not each else found == pytest.approx(np.mean(each))
        best = metrics.best_cut(positive, scores)
        if best is None:
            assert not positive.any()
            continue
        threshold, f1 = best
        said = scores >= threshold
        assert f1 == pytest.approx(2 * (said & positive).sum() / (said.sum() + positive.sum()))
        cuts = {2 * ((scores >= level) & positive).sum() / ((scores >= level).sum() + positive.sum()) for level in scores}
        assert f1 == pytest.approx(max(cuts))
        # Of any increasing function of the scores the order is the same, and so are both figures.
        assert metrics.average_precision(positive, metrics.sigmoid(scores - 4)) == pytest.approx(found)


def test_thresholds_and_figures_of_classes_by_hand() -> None:
    truth = np.array([[1, 0], [1, 0], [0, 0], [0, 0]])
    scores = np.array([[4.0, 1.0], [2.0, 0.0], [1.0, -3.0], [-1.0, -2.0]])
    cuts = several.choose_cuts(("a", "b"), truth, scores, half=0.0)
    assert cuts == [several.Cut("a", 1.5, True), several.Cut("b", 0.0, False)]  # the middle of 2 and 1; nothing to choose b on
    later = np.array([[1, 1], [0, 1], [0, 0], [1, 0]])
    found = several.class_figures(cuts, later, scores)
    a, b = found["classes"]
    assert (a["positives"], a["precision"], a["recall"], a["f1"]) == (2, 1 / 2, 1 / 2, 1 / 2)
    assert (b["positives"], b["precision"], b["recall"], b["f1"]) == (2, 1.0, 1.0, 1.0)
    assert a["average_precision"] == pytest.approx((1 + 2 / 4) / 2) and b["average_precision"] == 1.0
    assert found["mean_average_precision"] == pytest.approx(0.875) and found["f1"] == 0.75
    assert (found["inputs"], found["none"]) == (4, 1)
    nothing = several.class_figures(cuts, np.array([[1, 0]]), np.array([[0.0, -1.0]]))["classes"]
    assert nothing[0]["precision"] is None and nothing[0]["f1"] == 0.0 and nothing[1]["f1"] is None
    assert metrics.sigmoid(np.array([0.0, 1000.0, -1000.0])).tolist() == [0.5, 1.0, 0.0]


# training -----------------------------------------------------------------------------------------------


def test_the_loss_of_several_labels_by_hand() -> None:
    logits, labels = torch.tensor([[0.0, 2.0], [-1.0, 0.5]]), torch.tensor([[1, 0], [0, 1]])
    p = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    there = labels.numpy()
    plain = float(-np.where(there, np.log(p), np.log(1 - p)).mean())
    assert float(make_loss(Recipe(loss="ce"), several=True)(logits, labels)) == pytest.approx(plain, rel=1e-6)
    smooth = 0.8 * there + 0.1
    softened = float(-(smooth * np.log(p) + (1 - smooth) * np.log(1 - p)).mean())
    assert float(make_loss(Recipe(loss="ce", label_smoothing=0.2), several=True)(logits, labels)) == pytest.approx(softened, rel=1e-6)
    # Reverse: -log(clip) for each share of the answer that is on the wrong side.
    reverse = float(-np.log(1e-4) * np.abs(there - p).mean())
    both = make_loss(Recipe(loss="sce", sce_alpha=0.7, sce_beta=0.3), several=True)(logits, labels)
    assert float(both) == pytest.approx(0.7 * plain + 0.3 * reverse, rel=1e-5)


def test_mixed_inputs_have_the_labels_of_both() -> None:
    inputs, labels = torch.zeros((6, 1, 1, 1), dtype=torch.uint8), torch.tensor([[1, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]])
    inputs[:, 0, 0, 0] = torch.arange(6) * 40
    found, truth = mixed(inputs, labels, 2, 0.4, np.random.default_rng(5))
    draw = np.random.default_rng(5)
    other, share = draw.permutation(6), draw.beta(0.4, 0.4, 6)[:, None]
    assert truth.numpy() == pytest.approx(labels.numpy() * share + labels.numpy()[other] * (1 - share), abs=1e-6)
    assert truth.shape == (6, 2) and found.dtype == torch.uint8


def test_the_search_goes_by_mean_average_precision(tmp_path: Path) -> None:
    assert of_several(("accuracy", "macs")) == ("mean_average_precision", "macs") == of_several(("macs",))
    assert of_several(("int8_accuracy", "macs")) == ("int8_accuracy", "macs")
    assert OBJECTIVES["mean_average_precision"].maximize
    data = opened(blocks(tmp_path / "b", 30), tmp_path)
    check_goals(("mean_average_precision", "macs"), data)
    with pytest.raises(DataError, match="wake-vision-score needs an accuracy"):
        check_goals(("wake-vision-score",), data)
    rows = [(f"{i:03d}.png", COLOURS[i % 3]) for i in range(30)]
    single = open_data(table(tmp_path / "b" / "one.csv", ["file", "label"], rows), cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match="mean_average_precision is for several labels at once"):
        check_goals(("mean_average_precision", "macs"), single)


# files --------------------------------------------------------------------------------------------------


def test_thresholds_are_whole_steps_of_the_file_and_of_its_order(tmp_path: Path) -> None:
    inspected = inspect(tiny_model(3, 8, 8))  # outputs 0.0371 * (element + 5)
    elements = np.array([[40, -60, 3], [20, -90, 7], [11, -100, 9], [-9, -120, 1]])
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]])
    real = 0.0371 * (elements + 5.0)
    rule = Rule(("a", "b", "c"), (1, 0, 2), "for this test")  # the data's first class is the file's second output
    cuts = choose(inspected, rule, real, truth, "val")
    # a is output 1: from -60 and -90 on is best (2 of 2), the middle to the next below, -100, is -95. b is output 0: its one positive has
    # 20, and 40 is above it: both are said, from the middle of 20 and 11 on. c has no positive: a half, which is a logit of 0, element -5.
    assert cuts.raw == (16, -95, -5)
    assert [cut.chosen for cut in cuts.cuts] == [True, True, False] and cuts.split == "val"
    figures = cuts.figures(real, truth)
    assert [row["threshold"]["raw"] for row in figures["classes"]] == [-95, 16, -5]  # in the data's order
    assert [row["threshold"]["chosen_on"] for row in figures["classes"]] == ["val", "val", None]
    decision = cuts.decision("int8")
    for row, said in zip(elements, several.said(cuts.cuts, scores_of(rule, real)), strict=True):
        assert decision.there(row) == [int(said[1]), int(said[0]), int(said[2])]
        assert decision.says(row) == int(np.argmax(row - np.array([16, -95, -5])))
    assert choose(inspected, rule, None, None, None).raw == (-5, -5, -5)
    with pytest.raises(UserError, match="outputs are float"):
        cuts.decision("float32")
    with pytest.raises(DataError, match="single output"):
        check_several(inspected, ("a", "b"), Rule(("a", "b"), (0, 1), "", threshold=0.0))


@needs_wheel
def test_the_folder_around_tflm_says_which_classes_are_there(tmp_path: Path) -> None:
    model = tiny_model(3, 12, 16)
    images = np.random.default_rng(1).integers(0, 256, (2, 12, 16, 3), dtype=np.uint8)
    outputs = tflm_outputs(model, images).astype(int)
    # Of the first image the first class at its threshold, the second one below, the third above it.
    raw = (int(outputs[0, 0]), int(outputs[0, 1]) + 1, int(outputs[0, 2]) - 1)
    decision = Thresholds(raw, ("why */ \\",))
    assert decision.there(outputs[0]) == [1, 0, 1] and decision.says(outputs[0]) == 2
    write_firmware(tmp_path, model, labels=["a", "b", "c"], images=images, arena=measured_arena(model), decision=decision)
    # The second threshold is one step lower than the folder was made for: the self-test notices that, and that alone.
    settings = (tmp_path / "model_settings.h").read_text()
    assert f"_THRESHOLDS {{{raw[0]}, {raw[1]}, {raw[2]}}}" in settings
    (tmp_path / "model_settings.h").write_text(settings.replace(f" {raw[1]},", f" {raw[1] - 1},"))
    status, said = on_host(tmp_path)
    assert status != 0 and said.count(": ok") == 2 and 'image 0: class "b" is there' in said and said.count("class ") == 1, said


HEARER = r"""
#include <stdio.h>
#include "classifier.h"
#include "hear.h"
static int calls = -1;
static const int levels[][3] = {LEVELS};
int demo_model_think(const uint8_t *ring, int oldest) {
  (void)ring;
  (void)oldest;
  ++calls;
  return 1;
}
int demo_model_level(int class_index) { return levels[calls][class_index]; }
int main(void) {
  static int16_t silence[DEMO_MODEL_STRIDE];
  int seen = -1;
  demo_model_hear_start();
  while (calls < (int)(sizeof levels / sizeof levels[0]) - 1) {
    const int found = demo_model_hear(silence, DEMO_MODEL_STRIDE);
    if (calls == seen) continue;
    seen = calls;
    printf("%d %d%d%d %d\n", found, demo_model_there(0), demo_model_there(1), demo_model_there(2), demo_model_score(0));
  }
  return demo_model_there(3) + demo_model_there(-1);
}
"""


@needs_gcc
@pytest.mark.parametrize("frame", ["kept", "rows"])
def test_the_folder_of_sound_averages_each_class(tmp_path: Path, frame: Any) -> None:
    qgraph = network()
    raw = (10, -128, 90)
    files = build_compiled_firmware(
        qgraph, model_of(qgraph), frame=frame, labels=["a", "b", "c"], images=None, name="demo", decision=Thresholds(raw, ("test",))
    )
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    status, said = ran(tmp_path, "self_test_main.c")
    assert status == 0 and said.rstrip().endswith("demo_model self-test: PASS"), said
    if frame == "rows":
        return
    there = (tmp_path / "self_test_data.c").read_text()
    (tmp_path / "self_test_data.c").write_text(
        there.replace("there[1][DEMO_MODEL_CLASSES] = {\n    {", "there[1][DEMO_MODEL_CLASSES] = {\n    {1 - ")
    )
    status, said = ran(tmp_path, "self_test_main.c")
    assert status == 1 and "other classes are there than should be" in said
    levels = np.random.default_rng(0).integers(-128, 128, (12, 3))
    levels[4:8, 0] = [11, 9, 10, 9]  # 39 of 40: below by a quarter of a step
    levels[8, 0] = 12
    text = ", ".join("{" + ", ".join(map(str, row)) + "}" for row in levels.tolist())
    (tmp_path / "hearer.c").write_text(HEARER.replace("LEVELS", text))
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "hearer.c", "hear.c", "front_end.c", "-o", "hearer"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=100)
    printed = subprocess.run([tmp_path / "hearer"], capture_output=True, text=True, check=True, timeout=100).stdout.split("\n")[:-1]
    assert len(printed) == len(levels)
    for at, line in enumerate(printed):
        last = levels[max(0, at - 3) : at + 1]
        margins = last.sum(0) - len(last) * np.array(raw)
        found = int(margins.argmax()) if margins.max() >= 0 else -1
        bits = "".join(str(int(margin >= 0)) for margin in margins)
        assert line == f"{found} {bits} {int(margins[0] / len(last))}"
    assert printed[7].split()[1][0] == "0" and printed[8].split()[1][0] == "1"


def test_thresholds_take_no_byte_of_the_file() -> None:
    model = model_of(network())
    said = with_thresholds(model, (-128, 127, 5))
    assert len(said) == len(model) and read_facts(said).thresholds == (-128, 127, 5) and read_facts(model).thresholds is None
    assert {**read_facts(said).metadata, "thresholds": None} == {**read_facts(model).metadata, "thresholds": None}
    inputs = np.random.default_rng(0).integers(0, 256, (2, *read_facts(model).input_shape), dtype=np.uint8)
    assert np.array_equal(run_tflm(said, inputs).outputs, run_tflm(model, inputs).outputs)
    assert with_thresholds(model, range(1000)) == model, "no room"
    assert with_thresholds(b"abc", (1, 2)) == b"abc"
    assert told_thresholds({"thresholds": [1, 2]}, 3) is None and told_thresholds({"thresholds": [1, 2.5, True]}, 3) is None


# all of it ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of tones mixed together with a table of events, and a network, trained and exported through the command line."""
    root = tmp_path_factory.mktemp("heard")
    rng, rows = np.random.default_rng(0), []
    for i in range(18):
        parts = [(name, float(at), float(at) + 0.8) for name in TONES for at in rng.uniform(0, 3.2, int(rng.integers(1, 3)))]
        write(root / "s" / f"r{i}.wav", tones(4, *parts, seed=i))
        rows += [(f"r{i}.wav", name, f"{start:.3f}", f"{end:.3f}") for name, start, end in parts]
    table(root / "s" / "events.csv", ["path", "label", "start", "end"], rows)
    (root / "net.yaml").write_text(
        "height: 24\nwidth: 1\nchannels: 20\nclasses: 3\nstem: {out: 16, kernel: [3, 1], stride: [2, 1]}\n"
        "blocks: [{kind: separable, out: 16, kernel: [3, 1]}]\n"
        "front_end: {clip_ms: 400, window_ms: 32, stride_ms: 16, bins: 20, sample_rate: 8000, layout: series}\n"
    )
    (root / "budget.yaml").write_text("name: test\nflash: 1000 KiB\nsram: 1000 KiB\nruntime: compiled\n")
    data = ["--data", str(root / "s" / "events.csv"), "--set", "data.multilabel=true", "--set", "data.clip=400"]
    recipe = ["epochs=12", "batch_size=16", "lr=0.02", "augment.kind=none", "ema=0.5", "warmup_epochs=0.5"]
    sets = [word for setting in recipe for word in ("--set", setting)]
    command = ["promote", str(root / "net.yaml"), "--budget", str(root / "budget.yaml"), *data, "--out", str(root / "run"), *sets, "--json"]
    assert run(command) == 0
    return root


def test_a_network_of_tones_is_trained_exported_judged_and_built(heard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (net,) = (heard / "run" / "nets").iterdir()
    record = json.loads((net / "metrics.json").read_text())
    assert record["confusion"] == [] and record["test_accuracy"] == record["several"]["mean_average_precision"] > 0.6
    data = ["--data", str(heard / "s" / "events.csv"), "--set", "data.multilabel=true", "--set", "data.clip=400"]
    capsys.readouterr()
    assert run(["evaluate", str(net / "model_int8.tflite"), *data, "--stream", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # The document by another route: the file's own outputs, counted here.
    opened_again = opened(heard / "s" / "events.csv", heard, "clip=400")
    front_end = read_facts((net / "model_int8.tflite").read_bytes()).front_end
    assert front_end is not None
    split = opened_again.split("test", *front_end.shape, front_end=front_end)
    outputs = run_tflm(inspect((net / "model_int8.tflite").read_bytes()), np.asarray(split.inputs)).outputs.astype(int)
    for number, row in enumerate(found["several"]["classes"]):
        there, said = split.labels[:, number] > 0, outputs[:, number] >= row["threshold"]["raw"]
        assert row["label"] == ("high", "low", "mid")[number] and row["positives"] == there.sum()
        assert row["recall"] == pytest.approx(said[there].mean())
        assert row["average_precision"] == pytest.approx(np.mean([there[outputs[:, number] >= at].mean() for at in outputs[there, number]]))
    assert found["several"]["none"] == int((split.labels.sum(1) == 0).sum()) and "accuracy" not in found
    assert found["stream"]["events"] > 0 and set(found["stream"]["classes"]) == set(TONES)
    content = (net / "model_int8.tflite").read_bytes()
    raws = tuple(row["threshold"]["raw"] for row in found["several"]["classes"])
    assert read_facts(content).thresholds == raws, "the file says them too"
    assert choose(inspect(content), Rule(opened_again.labels, (0, 1, 2), "the file"), None, None, None).raw == raws, (
        "which count where there is nothing to choose on"
    )
    smoothing = found["stream"]["smoothing"]
    assert smoothing["threshold"] is None and set(smoothing["thresholds"]) == set(TONES), "each class has its own"
    export = json.loads((net / "export.json").read_text())["report"]
    assert export["problems"] == [] and export["several"] == found["several"]
    card = (net / "MODEL_CARD.md").read_text()
    assert "Mean average precision" in card and "| high | " in card and "Confusion" not in card
    page = (heard / "run" / "report.html").read_text()
    assert "Table of classes" in page and "mean average precision" in page
    if shutil.which("gcc"):
        status, said_ = ran(net / "c", "self_test_main.c")
        assert status == 0 and "self-test: PASS" in said_
        cuts = ", ".join(str(row["threshold"]["raw"]) for row in found["several"]["classes"])
        assert f"_THRESHOLDS {{{cuts}}}" in (net / "c" / "model_settings.h").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--false-alarms", "0.1"], "each class has a threshold of its own"),
        (["--threshold", "0.5"], "--threshold is for models with a single output"),
        (["--subsets"], "parts of data with several labels at once are not judged"),
    ],
)
def test_what_is_for_one_label_is_refused_of_a_file(heard: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    (net,) = (heard / "run" / "nets").iterdir()
    data = ["--data", str(heard / "s" / "events.csv"), "--set", "data.multilabel=true", "--set", "data.clip=400"]
    capsys.readouterr()
    assert run(["evaluate", str(net / "model_int8.tflite"), *data, *options]) == 2
    assert said in capsys.readouterr().err


def test_a_search_of_images_goes_by_it(tmp_path: Path) -> None:
    rest = SearchSettings.model_validate({"rungs": [1], "recipe": RECIPE, "pool": 100, "baseline": 1, "start": 1})
    place = str(blocks(tmp_path / "b", 60))
    prepared = prepare_search(
        budget(), space=SPACE, data=place, out=tmp_path / "run", settings=rest, trials=1, workers=1, overrides=["data.multilabel=true"]
    )
    prepared.go()
    (trial,) = [trial for trial in prepared.run.trials() if trial.was_trained]
    assert prepared.run.config["settings"]["objectives"] == ["mean_average_precision", "macs"]
    assert trial.accuracy is not None and 0.2 < trial.accuracy <= 1
    page = write_report(prepared.run).read_text()
    assert "reaches a mean average precision" in page and "of the validation images right" not in page
