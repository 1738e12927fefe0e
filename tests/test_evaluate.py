"""Evaluation of files that others made: the range of the input, the threshold, class names, splits, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from foreign_models import FLOAT, Numbers, Operator, chain, judge_of_brightness, tflite_metadata, with_files

from tinynas.cli import run as cli
from tinynas.data import DataOptions, Split, open_data
from tinynas.errors import DataError, ModelFileError, UserError
from tinynas.export.evaluate import evaluate, evaluate_splits
from tinynas.export.judge import Rule, rule_of, warnings_of
from tinynas.export.metadata import read_told
from tinynas.export.pixels import NAMED, parse_pixels, read_pixels
from tinynas.export.sandbox import Inspected, inspect

LABELS = ("dark", "light")
MIDDLE = 125
"""Between the brightness of the two classes of :func:`shades`."""
IMAGENET = float(np.mean([(MIDDLE - m) / s for m, s in zip((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), strict=True)]))
"""The mean over channels of a pixel of MIDDLE, as torchvision's ImageNet normalisation gives it: 0.18."""


def shades(count: int = 40, height: int = 6, width: int = 8, channels: int = 3) -> Split:
    """Dark images (85 +- 25) and light ones (165 +- 25), by turns."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    level = np.where(labels, 165, 85) + rng.integers(-25, 26, count)
    images = level[:, None, None, None] + rng.integers(-9, 10, (count, height, width, channels))
    return Split(images.astype(np.uint8), labels.astype(np.int64), tuple(map(str, range(count))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as files, without splits."""
    root = tmp_path_factory.mktemp("shades")
    split = shades(80)
    for name, image, label in zip(split.names, split.inputs, split.labels, strict=True):
        (root / LABELS[label]).mkdir(exist_ok=True)
        cv2.imwrite(str(root / LABELS[label] / f"{name}.png"), image)
    return root


def judged(model: bytes, split: Split | None = None, labels: tuple[str, ...] = LABELS, **options: Any) -> dict[str, Any]:
    return evaluate(inspect(model), shades() if split is None else split, labels, **options)


# The range of the input


@pytest.mark.parametrize(
    ("text", "byte_0", "byte_255"),
    [
        ("0..1", [0], [1]),
        ("-1..1", [-1], [1]),
        ("0..255", [0], [255]),
        ("-128..127", [-128], [127]),
        ("-0.5..0.5", [-0.5], [0.5]),
        ("imagenet", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]),
        (
            "0.485,0.456,0.406,0.229,0.224,0.225",
            [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
            [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225],
        ),
        ("[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], [2.2489, 2.4286, 2.64]),
        ("0.5,0.5", [-1], [1]),
        ("0,1", [0], [1]),
        ("127.5,127.5", [-1], [1]),
        ("127,128", [-127 / 128], [1]),
        ("0,255", [0], [1]),
        ("caffe", [-103.939, -116.779, -123.68], [151.061, 138.221, 131.32]),
    ],
)
def test_ranges_by_hand(text: str, byte_0: list[float], byte_255: list[float]) -> None:
    real = parse_pixels(text, 3).real()
    assert real[0].tolist() == pytest.approx(byte_0, abs=1e-9) and real[255].tolist() == pytest.approx(byte_255, abs=1e-4)
    assert np.diff(real, axis=0).std(axis=0).max() < 1e-9, "a straight line between"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0-1", "is not understood"),
        ("", "is not understood"),
        ("0.5", "is not understood"),
        ("0.5,0.5,0.5", "is not understood"),
        ("1..0", "the smaller one"),
        ("0..1e999", "the smaller one"),
        ("1e9,1", "and sane"),
        ("0.5,0", "every std must be above 0"),
        ("0.5,-0.5", "every std must be above 0"),
        ("0.1,0.2,0.3,0.4", "is for 2 channels, the model reads 3"),
    ],
)
def test_ranges_that_are_none(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        parse_pixels(text, 3)
    assert caught.value.hint
    with pytest.raises(UserError, match="is for 3 channels, the model reads 1"):
        parse_pixels("imagenet", 1)


@pytest.mark.parametrize(
    ("cut", "options"),
    [
        (MIDDLE / 255, "0..1"),
        (MIDDLE / 127.5 - 1, "-1..1"),
        (MIDDLE, "0..255"),
        (IMAGENET, "imagenet"),
        (IMAGENET, "0.485,0.456,0.406,0.229,0.224,0.225"),
        (MIDDLE - (103.939 + 116.779 + 123.68) / 3, "caffe"),
        (MIDDLE / 255, "bgr:0..1"),
    ],
)
def test_a_float_input_is_made_as_told(cut: float, options: str) -> None:
    found = judged(judge_of_brightness(cut), pixels=options)
    assert found["accuracy"] == 1.0 and found["warnings"] == []
    assert found["pixels"]["range"] == options and found["pixels"]["known_from"] == "given with --pixels"


def test_bgr_turns_the_channels_round() -> None:
    """Red and blue images, told apart by the first channel."""
    images = np.zeros((20, 6, 8, 3), np.uint8)
    labels = np.arange(20) % 2
    images[labels == 0, ..., 0], images[labels == 1, ..., 2] = 200, 200
    weights = np.array([[1, 0, 0], [-1, 0, 0]], np.float32)
    dense = Operator("FULLY_CONNECTED", (weights, np.array([0, 0.5], np.float32)), shape=(1, 2))
    model = chain((1, 6, 8, 3), [Operator("MEAN", (np.array([1, 2], np.int32),), shape=(1, 3)), dense])
    split = Split(images, labels, tuple(map(str, labels)))
    assert [judged(model, split, pixels=way)["accuracy"] for way in ("0..1", "bgr:0..1")] == [1.0, 0.0]


IMAGENET_GRID: Numbers = ("int8", 0.01866, -14)
"""As TensorFlow's converter finds it: -2.13..2.63."""


@pytest.mark.parametrize(
    ("numbers", "cut", "name"),
    [
        (IMAGENET_GRID, IMAGENET, "imagenet"),
        (("uint8", 0.01866, 114), IMAGENET, "imagenet"),
        (("int8", 1 / 255, -128), MIDDLE / 255, "0..1"),
        (("int8", 1 / 127.5, 0), MIDDLE / 127.5 - 1, "-1..1"),
        (("int8", 1.0, -128), float(MIDDLE), "0..255"),
    ],
)
@pytest.mark.parametrize("behind_float", [False, True])
def test_a_quantisation_tells_the_range(numbers: Numbers, cut: float, name: str, behind_float: bool) -> None:
    model = judge_of_brightness(cut, **{"quantize" if behind_float else "source": numbers})
    found = judged(model)
    assert found["accuracy"] == 1.0 and found["warnings"] == []
    assert found["pixels"]["range"] == name and found["pixels"]["known"]
    assert found["pixels"]["known_from"].startswith("the QUANTIZE behind" if behind_float else "the quantisation of the input")


def test_each_step_of_a_grid_of_pixels_is_one() -> None:
    """Rounding pixels of -1..1 onto that grid would merge every other pair; firmware takes the byte as it is."""
    facts = inspect(judge_of_brightness(0, source=("int8", 2 / 255, -1))).facts
    for way in ("auto", "-1..1", "127.5,127.5"):
        assert read_pixels(facts, way).table.tolist() == list(range(-128, 128)), way
    channels = read_pixels(inspect(judge_of_brightness(0, source=IMAGENET_GRID)).facts).table
    assert channels.shape == (256, 3) and channels.dtype == np.int8
    wanted = np.rint((MIDDLE / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]) / 0.01866) - 14
    assert channels[MIDDLE].tolist() == wanted.tolist()


def test_what_the_grid_cannot_hold_is_said() -> None:
    model = judge_of_brightness(0.5, source=("int8", 1 / 255, -128))
    (warning,) = judged(model, pixels="-1..1")["warnings"][:1]
    assert "the file's own input range is 0..1; 50 % of pixel values are cut off" in warning
    assert judged(model, pixels="0..1")["warnings"] == []


@pytest.mark.parametrize(("mean", "std"), [((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)), ((127.5,), (127.5,)), ((0.0,), (255.0,))])
def test_tflite_metadata_tell_the_range(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    cut = float(np.mean((MIDDLE - np.array(mean)) / np.array(std)))
    found = judged(judge_of_brightness(cut, metadata=tflite_metadata(mean, std)))
    assert found["accuracy"] == 1.0 and found["pixels"]["known_from"] == "the file's TFLite metadata (NormalizationOptions)"
    assert found["pixels"]["range"] == {3: "imagenet", 1: "-1..1" if mean[0] else "0..1"}[len(mean)]


def test_tflite_metadata_that_do_not_fit_are_said() -> None:
    """Some tools write mean 0 and std 1 into quantised files: bytes."""
    found = judged(judge_of_brightness(MIDDLE / 255, source=("int8", 1 / 255, -128), metadata=tflite_metadata([0], [1])))
    assert found["accuracy"] == 1.0 and found["pixels"]["range"] == "0..1"
    assert "TFLite metadata say pixel" in found["warnings"][0]
    two = judged(judge_of_brightness(MIDDLE / 127.5 - 1, metadata=tflite_metadata([1, 2], [1, 2])))
    assert not two["pixels"]["known"] and "normalise 2 channels, the input has 3" in two["warnings"][0]


def times(value: float) -> Operator:
    return Operator("MUL", (np.array([value], np.float32),))


def plus(value: float) -> Operator:
    return Operator("ADD", (np.array([value], np.float32),))


@pytest.mark.parametrize(
    ("before", "cut", "name"),
    [
        ([times(1 / 255)], MIDDLE / 255, "0..255"),
        ([times(1 / 127.5), plus(-1)], MIDDLE / 127.5 - 1, "0..255"),
        ([Operator("DIV", (np.array([255], np.float32),))], MIDDLE / 255, "0..255"),
        ([times(2), plus(-1)], MIDDLE / 127.5 - 1, "0..1"),
        ([Operator("SUB", (np.array([0.45], np.float32),)), times(4.4)], (MIDDLE / 255 - 0.45) * 4.4, "0..1"),
    ],
)
def test_arithmetic_behind_the_input_tells_the_range(before: list[Operator], cut: float, name: str) -> None:
    found = judged(judge_of_brightness(cut, before=before))
    assert found["accuracy"] == 1.0 and found["pixels"]["range"] == name and found["pixels"]["known"]


@pytest.mark.parametrize(
    "before", [[plus(0.5)], [times(2.0)], [times(2), plus(0.2)], [times(100)], [plus(-123)], [times(0.0)], [times(1e-9)]]
)
def test_arithmetic_that_may_be_anything_tells_nothing(before: list[Operator]) -> None:
    assert not read_pixels(inspect(judge_of_brightness(0.5, before=before)).facts).known


def test_where_nothing_tells_the_range_several_are_tried_on_validation_images(folder: Path, tmp_path: Path) -> None:
    data = open_data(folder, cache_dir=tmp_path)
    path = tmp_path / "model.tflite"
    path.write_bytes(judge_of_brightness(MIDDLE / 255))
    found = evaluate_splits(path, data, "test")
    assert found["accuracy"] == 0.5, "the warning chooses nothing"
    val = len(data.members["val"])
    assert found["pixels"]["tried_on"] == f"{val} images of the split val" and found["pixels"]["tried"]["0..1"]["accuracy"] == 1.0
    assert (
        found["pixels"]["known"] is False
        and "add --pixels 0..1" in found["warnings"][0]
        and f"{val} images of the split val" in found["warnings"][0]
    )
    told = evaluate_splits(path, data, "test", pixels="0..1")
    assert told["accuracy"] == 1.0 and told["warnings"] == [] and "tried" not in told["pixels"]
    path.write_bytes(judge_of_brightness(MIDDLE / 127.5 - 1, gain=40))
    best = evaluate_splits(path, data, "test")
    assert best["accuracy"] == 1.0 and "-1..1 was used; say what it was trained with" in best["warnings"][0]
    rng = np.random.default_rng(0)
    dense = Operator("FULLY_CONNECTED", (np.zeros((2, 3), np.float32), rng.normal(size=2).astype(np.float32)), shape=(1, 2))
    path.write_bytes(chain((1, 6, 8, 3), [Operator("MEAN", (np.array([1, 2], np.int32),), shape=(1, 3)), dense]))
    assert evaluate_splits(path, data, "test")["warnings"] == [], "all ranges alike"


def test_the_steps_of_an_odd_grid_are_tried_too(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(judge_of_brightness(MIDDLE / 255, source=("int8", 4 / 255, -128)))  # holds 0..4
    found = evaluate_splits(path, open_data(folder, cache_dir=tmp_path), "test")
    assert found["accuracy"] == 0.5 and found["pixels"]["tried"]["0..1"]["accuracy"] == 1.0
    assert (
        "assumed: each step of the quantisation of the input" in found["pixels"]["known_from"] and "--pixels 0..1" in found["warnings"][0]
    )


# The threshold of a single output


def single(behind: list[Operator], *, cut: float = MIDDLE / 255, **options: Any) -> Inspected:
    return inspect(judge_of_brightness(cut, outputs=1, source=("uint8", 1 / 255, 0), behind=behind, **options))


PROBABILITY: Numbers = ("uint8", 1 / 256, 0)


@pytest.mark.parametrize(
    "behind",
    [
        [],
        [Operator("QUANTIZE", to=PROBABILITY)],
        [Operator("QUANTIZE", to=PROBABILITY), Operator("DEQUANTIZE")],
        [Operator("RESHAPE", (np.array([1], np.int32),), shape=(1,))],
    ],
)
def test_a_sigmoid_is_found_behind_whatever_changes_its_type_or_shape(behind: list[Operator]) -> None:
    sigmoid, logit = (rule_of(single([*front, *behind]), LABELS) for front in ([Operator("LOGISTIC")], []))
    assert (sigmoid.threshold, sigmoid.threshold_from) == (0.5, "the network ends in a sigmoid")
    probable = any(op.to == PROBABILITY for op in behind)  # a range of 0..1 says the same without a sigmoid
    assert logit.threshold == (pytest.approx(127.5 / 256) if probable else 0.0)


def test_an_earlier_sigmoid_is_no_threshold() -> None:
    assert rule_of(single([Operator("LOGISTIC"), times(2), plus(-1)]), LABELS).threshold == 0.0


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        (("uint8", 0.00518233, 62), (127.5 - 62) * 0.00518233),
        (("int8", 0.00518233, -66), (-0.5 + 66) * 0.00518233),
        (("uint8", 1 / 255, 0), 0.5),
        (("uint8", 0.05, 120), 0.0),
        (("uint8", 1.0, 0), 0.0),
    ],
)
def test_the_range_of_an_output_tells_a_probability(numbers: Numbers, wanted: float) -> None:
    """The middle of its raw values, as raw/255 >= 0.5 has it."""
    rule = rule_of(single([Operator("QUANTIZE", to=numbers)]), LABELS)
    assert rule.threshold == pytest.approx(wanted)
    raw = np.arange(256) - (128 if numbers[0] == "int8" else 0)
    if wanted:
        says = rule.predict((raw[:, None] - numbers[2]) * numbers[1])
        assert says.tolist() == [int(n / 255 >= 0.5) for n in range(256)]


def test_the_range_in_front_of_a_dequantize_tells_it_too() -> None:
    behind = [Operator("QUANTIZE", to=("int8", 0.00518233, -66)), Operator("DEQUANTIZE")]
    rule = rule_of(single(behind), LABELS)
    assert rule.threshold == pytest.approx(65.5 * 0.00518233) and "-0.321..1" in rule.threshold_from
    assert rule_of(single(behind), LABELS, threshold="raw:-0.5").threshold == pytest.approx(rule.threshold)
    with pytest.raises(UserError, match="no raw values"):
        rule_of(single([]), LABELS, threshold="raw:3")


def test_answers_between_0_and_1_are_probabilities() -> None:
    model = inspect(judge_of_brightness(0.5, outputs=1))
    answers = np.linspace(0, 0.9, 20)[:, None]
    assert rule_of(model, LABELS, answers).threshold == 0.5
    assert rule_of(model, LABELS, answers[:10]).threshold == rule_of(model, LABELS, answers - 0.1).threshold == 0.0
    assert rule_of(model, LABELS, 2 * answers).threshold == 0.0


def test_a_threshold_can_be_given() -> None:
    model = single([Operator("QUANTIZE", to=("uint8", 0.05, 120))])
    for given, wanted in ((0.25, 0.25), ("0.25", 0.25), ("raw:125", 0.25), ("-1e-3", -0.001)):
        rule = rule_of(model, LABELS, threshold=given)  # type: ignore[arg-type]
        assert rule.threshold == pytest.approx(wanted) and rule.threshold_from == "given with --threshold"
    for given in ("half", "nan", "raw:", ""):
        with pytest.raises(UserError, match="is no number"):
            rule_of(model, LABELS, threshold=given)
    with pytest.raises(UserError, match="single output; this one has 2"):
        rule_of(inspect(judge_of_brightness(0.5)), LABELS, threshold=0.5)


def test_auc_and_accuracy_that_disagree_are_a_warning() -> None:
    model = judge_of_brightness(0, outputs=1)  # every image is above 0
    found = judged(model, pixels="0..1")
    assert (found["accuracy"], found["auc"], found["threshold"]["value"]) == (0.5, 1.0, 0.0)
    (warning,) = found["warnings"]
    assert "0 is probably the wrong threshold" in warning and "--threshold" in warning
    best = float(warning.split("; ")[1].split(" tells")[0])
    again = judged(model, pixels="0..1", threshold=best)
    assert again["accuracy"] == 1.0 and again["warnings"] == []


def test_doubts_need_images_and_a_distance() -> None:
    """16 of each class at least; a balanced accuracy 8 points below what the AUC allows, 12 for two outputs."""
    rule = Rule(LABELS, (0, 1), "the data's own order", threshold=0.0)
    for count, doubted in ((16, True), (15, False)):
        truth = np.repeat([0, 1], count)
        values = np.where(truth, 2.0, 1.0)[:, None]
        assert bool(warnings_of(rule, values, truth, rule.score(values, truth))) == doubted
    truth = np.repeat([0, 1], 50)
    two = replace(rule, threshold=None)
    for auc, balanced, one, both in (
        (1.0, 0.93, 0, 0),
        (1.0, 0.91, 1, 0),
        (1.0, 0.87, 1, 1),
        (0.5, 0.43, 0, 0),
        (0.36, 0.4, 0, 0),
        (0.34, 0.4, 1, 1),
    ):
        figures = {"auc": auc, "balanced_accuracy": balanced}
        found = [len(warnings_of(way, np.zeros((100, 1)), truth, figures)) for way in (rule, two)]
        assert found == [one, both], (auc, balanced)


def test_the_best_threshold_is_right_by_trying_all() -> None:
    rng = np.random.default_rng(3)
    truth = np.arange(60) % 2
    outputs = (truth + rng.normal(3, 1, 60))[:, None]
    for columns in ((0, 1), (1, 0)):
        rule = Rule(LABELS, columns, "the data's own order", threshold=0.0)
        figures = rule.score(outputs if columns == (0, 1) else -outputs - 9, truth)
        values = outputs if columns == (0, 1) else -outputs - 9
        rule = replace(rule, threshold=-99.0)
        figures = rule.score(values, truth)
        (warning,) = warnings_of(rule, values, truth, figures)
        best = float(warning.split("; ")[1].split(" tells")[0])
        reached = replace(rule, threshold=best).score(values, truth)["balanced_accuracy"]
        tried = [
            replace(rule, threshold=float(t)).score(values, truth)["balanced_accuracy"]
            for t in np.linspace(values.min(), values.max(), 999)
        ]
        assert reached >= max(tried) - 1e-9


# Class names


def test_names_in_the_file_are_matched_by_name(tmp_path: Path) -> None:
    plain = judge_of_brightness(MIDDLE / 255, metadata=tflite_metadata([0], [255], [("labels.txt", "")]))
    split = shades()
    turned = Split(split.inputs, 1 - split.labels, split.names)  # of the classes (light, dark)
    model = with_files(plain, labels_txt="dark\nlight\n")
    straight, other = judged(model, split), judged(model, turned, ("light", "dark"))
    assert straight["accuracy"] == other["accuracy"] == straight["auc"] == other["auc"] == 1.0
    assert other["labels"] == ["light", "dark"] and other["confusion"] == [[20, 0], [0, 20]]
    assert straight["order_known_from"] == "the file's own class names"
    # Without names the data's order is taken: nothing else is known, and the figures say that it is wrong.
    blind = judged(plain, turned, ("light", "dark"))
    assert blind["accuracy"] == 0.0 and "turn them round with --set 'data.labels=[dark, light]'" in blind["warnings"][0]


@pytest.mark.parametrize("labels", [("Dark", "LIGHT"), ("dark ", "light")])
def test_names_that_differ_in_case_and_dashes_only_are_the_same(labels: tuple[str, ...]) -> None:
    model = inspect(with_files(judge_of_brightness(0.5), labels_txt="light\ndark"))
    assert rule_of(model, labels).columns == (1, 0)
    words = inspect(with_files(judge_of_brightness(0.5), labels_txt="no person\nperson"))
    assert rule_of(words, ("person", "no_person")).columns == (1, 0)


def test_names_that_do_not_match_are_an_error_naming_both() -> None:
    model = inspect(with_files(judge_of_brightness(0.5), labels_txt="cat\nlight"))
    with pytest.raises(DataError, match="the data's classes are dark, light; the file's own are cat, light") as caught:
        rule_of(model, LABELS)
    assert "--set 'data.label_map={dark: cat}'" in str(caught.value.hint)
    with pytest.raises(DataError, match="a, dark"):
        rule_of(model, ("a", "dark"))


@pytest.mark.parametrize("names", ["0\n1", "class_0\nclass_1", "0 0\n1 1", "a\nb\nc", "x", "x\nx", ""])
def test_numbers_and_lists_of_another_length_are_no_names(names: str) -> None:
    rule = rule_of(inspect(with_files(judge_of_brightness(0.5), labels_txt=names)), LABELS)
    assert rule.columns == (0, 1) and not rule.named and rule.order_from.startswith("the data's own order")


def test_numbers_and_names_alike_but_for_case_are_matched_where_the_data_have_them() -> None:
    digits = inspect(with_files(judge_of_brightness(0.5, outputs=3), labels_txt="0\n1\n2"))
    assert rule_of(digits, ("2", "0", "1")).columns == (2, 0, 1) and rule_of(digits, ("a", "b", "c")).columns == (0, 1, 2)
    cases = inspect(with_files(judge_of_brightness(0.5), labels_txt="a\nA"))
    assert rule_of(cases, ("A", "a")).columns == (1, 0)
    with pytest.raises(DataError, match="the file's own are a, A: it has no b"):
        rule_of(cases, ("a", "b"))


def test_numbered_label_lines_are_read() -> None:
    assert rule_of(inspect(with_files(judge_of_brightness(0.5), labels_txt="0 light\n1 dark\n\n")), LABELS).columns == (1, 0)


def test_a_single_output_speaks_of_the_class_that_the_file_names() -> None:
    for names, columns in (("light", (0, 1)), ("dark", (1, 0)), ("dark\nlight", (0, 1)), ("light\ndark", (1, 0))):
        model = judge_of_brightness(MIDDLE / 255, outputs=1)
        rule = rule_of(inspect(with_files(model, labels_txt=names)), LABELS)
        assert rule.columns == columns and rule.positive == names.split()[-1]
        found = judged(with_files(model, labels_txt=names), pixels="0..1")
        assert found["accuracy"] == found["auc"] == float(columns == (0, 1))
    with pytest.raises(DataError, match="the file's own are cat"):
        rule_of(inspect(with_files(judge_of_brightness(0.5, outputs=1), labels_txt="cat")), LABELS)
    with pytest.raises(DataError, match=r"1 output, the data 3 classes \(a, b, c\)"):
        rule_of(inspect(judge_of_brightness(0.5, outputs=1)), ("a", "b", "c"))


def test_more_outputs_than_classes() -> None:
    three = judge_of_brightness(MIDDLE / 255, outputs=3)
    with pytest.raises(DataError, match=r"3 outputs, the data 2 classes \(dark, light\)") as caught:
        rule_of(inspect(three), LABELS)
    assert "background" in str(caught.value.hint)
    # Named: the two are judged among all three; what is taken for the third is wrong.
    rule = rule_of(inspect(with_files(three, labels_txt="light\ngrey\ndark")), LABELS)
    assert rule.columns == (2, 0, 1) and rule.labels == ("dark", "light", "grey")
    outputs = np.array([[0.1, 0.0, 0.9], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1]])
    assert rule.predict(outputs).tolist() == [0, 2, 1]
    scores = rule.score(outputs, np.array([0, 0, 1]))
    assert scores["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert scores["auc"] == (3 / 4 + 1) / 2, "dark: one pair right, one tied; light: both right"
    many = rule_of(inspect(with_files(judge_of_brightness(0.5, outputs=4), labels_txt="a\nlight\nb\ndark")), LABELS)
    assert many.labels == ("dark", "light", "(other)") and many.predict(np.eye(4)).tolist() == [2, 1, 2, 0]


def test_outputs_in_another_order_are_noticed() -> None:
    rule = Rule(("a", "b", "c"), (0, 1, 2), "the data's own order")
    truth = np.arange(30) % 3
    (warning,) = warnings_of(rule, np.zeros((30, 3)), truth, rule.score(np.eye(3)[(truth + 1) % 3], truth))
    assert "a is taken for b, b is taken for c, c is taken for a" in warning
    for right in (truth, np.zeros(30, int), np.random.default_rng(0).integers(0, 3, 30)):
        assert warnings_of(rule, np.zeros((30, 3)), truth, rule.score(np.eye(3)[right], truth)) == []


# TFLite's metadata


def test_label_files_are_chosen_by_locale() -> None:
    metadata = tflite_metadata(files=[("de.txt", "de"), ("en.txt", "en"), ("plain.txt", "")])
    packed = with_files(b"model", de_txt="dunkel\nhell", en_txt="dark\nlight", plain_txt="d\nl")
    assert read_told(packed, metadata).labels == ("d", "l")
    assert read_told(packed, tflite_metadata(files=[("de.txt", "de"), ("en.txt", "en-US")])).labels == ("dark", "light")
    assert read_told(packed, tflite_metadata(files=[("gone.txt", "")])).labels == ()
    assert read_told(b"no zip", metadata).labels == () and read_told(packed, None).labels == ()


def test_broken_metadata_harm_nothing() -> None:
    """Every byte of the metadata replaced: never anything but what it says or a problem; the model is evaluated all the same."""
    good = tflite_metadata([127.5], [127.5], [("labels.txt", "")])
    packed = with_files(b"model", labels_txt="dark\nlight")
    seen = set()
    for at in range(len(good)):
        for value in (0, 1, 127, 128, 255):
            told = read_told(packed, good[:at] + bytes([value]) + good[at + 1 :])
            seen.add(bool(told.problem))
    assert seen == {True, False} and read_told(packed, good).std == (127.5,)
    for at in range(0, len(packed), 3):
        assert len(read_told(packed[:at] + b"\xff" + packed[at + 1 :], good).labels) in (0, 2)
    for text in (b"", b"\x00" * 7, good[:20], b"junk junk junk"):
        assert read_told(packed, text).problem
    found = judged(judge_of_brightness(MIDDLE / 127.5 - 1, metadata=good[:20]))
    assert found["accuracy"] == 1.0 and "TFLite metadata cannot be read" in found["warnings"][0]
    for values in (([0.0], [0.0]), ([float("nan")], [1.0]), ([1, 2, 3], [1, 2])):
        assert "normalises by mean" in read_told(b"", tflite_metadata(*values)).problem


# Splits and forms


def test_all_images_of_a_folder_are_judged(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(judge_of_brightness(MIDDLE / 255))
    said = run_json(capsys, str(path), "--data", str(folder), "--split", "all", "--pixels", "0..1")
    assert (said["n"], said["accuracy"], said["split"]) == (80, 1.0, "all")
    few = tmp_path / "few"  # one image a class: nothing could be split
    for label, value in (("dark", 60), ("light", 200)):
        (few / label).mkdir(parents=True)
        cv2.imwrite(str(few / label / "1.png"), np.full((9, 12, 3), value, np.uint8))
    assert run_json(capsys, str(path), "--data", str(few), "--split", "all", "--pixels", "0..1")["n"] == 2
    assert cli(["evaluate", str(path), "--data", str(few)]) == 2
    assert "the split test holds no image to evaluate on (train 2, val 0, test 0)" in capsys.readouterr().err
    (tmp_path / "only").mkdir()
    few.rename(tmp_path / "only" / "test")
    assert run_json(capsys, str(path), "--data", str(tmp_path / "only"), "--pixels", "0..1")["n"] == 2
    assert cli(["evaluate", str(path), "--data", str(tmp_path / "only"), "--split", "whole"]) == 2
    assert "or all" in capsys.readouterr().err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code = cli(["evaluate", *arguments, "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    document: dict[str, Any] = json.loads(shown.out)
    return document


def test_the_command_shows_names_range_threshold_and_warnings(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(judge_of_brightness(MIDDLE / 255, outputs=1))
    assert cli(["evaluate", str(path), "--data", str(folder), "--split", "all"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "true class \\ taken for dark light" in out and "WARNING" in out and "--pixels 0..1" in out
    assert "light above 0" in out and "assumed: nothing in the file" in out
    told = run_json(capsys, str(path), "--data", str(folder), "--split", "all", "--pixels", "0..1", "--threshold", "0.1")
    assert told["labels"] == ["dark", "light"] and told["threshold"] == {
        "value": 0.1,
        "known_from": "given with --threshold",
        "positive": "light",
    }
    below = run_json(capsys, str(path), "--data", str(folder), "--pixels", "-1..1", "--threshold", "-0.5")
    assert (below["pixels"]["range"], below["threshold"]["value"]) == ("-1..1", -0.5)
    for wrong in (["--pixels", "zero"], ["--threshold", "x"]):
        assert cli(["evaluate", str(path), "--data", str(folder), *wrong]) == 2
        assert "->" in capsys.readouterr().err
    for unread, said in (
        (["--front-end", "ds-cnn-kws"], "--front-end: says how sounds become the model's input"),
        (["--alarms-an-hour", "2"], "--alarms-an-hour 2.0: says how recordings are heard, and none are"),
    ):
        assert cli(["evaluate", str(path), "--data", str(folder), *unread]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("layout", "channels"), [("nchw", 3), ("nchw", 1), ("nhw", 1), ("nhwc", 1)])
@pytest.mark.parametrize("side", [(6, 8), (9, 5)])
def test_inputs_of_other_forms(layout: str, channels: int, side: tuple[int, int]) -> None:
    model = inspect(judge_of_brightness(MIDDLE / 255, layout=layout, channels=channels, side=side))
    assert model.facts.input_shape == (*side, channels)
    assert evaluate(model, shades(24, *side, channels), LABELS, pixels="0..1")["accuracy"] == 1.0


def test_channels_in_front_are_the_right_pixels() -> None:
    """A network that reads one place of one channel."""
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 6, 3), dtype=np.uint8)
    weights = np.zeros((2, 72), np.float32)
    weights[1, 2 * 24 + 3 * 6 + 1] = 1  # channel 2, row 3, column 1
    flat = Operator("RESHAPE", (np.array([1, 72], np.int32),), shape=(1, 72))
    dense = Operator("FULLY_CONNECTED", (weights, np.array([100, 0], np.float32)), shape=(1, 2))
    labels = (images[:, 3, 1, 2] > 100).astype(np.int64)
    found = judged(chain((1, 3, 4, 6), [flat, dense]), Split(images, labels, tuple(map(str, labels))), pixels="0..255")
    assert found["accuracy"] == 1.0 and 0 < labels.mean() < 1


DENSE = Operator("FULLY_CONNECTED", (np.ones((2, 3), np.float32), np.zeros(2, np.float32)), shape=(1, 2))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (judge_of_brightness(0.5, more_inputs=1), r"2 inputs \('image' \[1, 6, 8, 3\] float32; 'more0' \[1, 4\] float32\)"),
        (judge_of_brightness(0.5, more_outputs=1), r"2 outputs \('t1' \[1, 2\] float32; 't0' \[1, 3\] float32\)"),
        (chain((8, 6, 8, 3), [DENSE]), "reads 8 images at a time"),
        (chain((1, 144), [DENSE]), r"the shape \[1, 144\]"),
        (chain((1, 6, 8, 3), [DENSE], source=("int16", 0.001, 0)), r"input is 'image' \[1, 6, 8, 3\] int16"),
    ],
)
def test_files_that_are_no_classifier_of_images_say_why(model: bytes, said: str) -> None:
    with pytest.raises(ModelFileError, match=said) as caught:
        inspect(model)
    assert caught.value.hint


def test_impossible_quantisations_are_refused() -> None:
    for scale in (float("nan"), float("inf"), -1.0, 1e30):
        for end in ("source", "quantize"):
            with pytest.raises(ModelFileError, match="has the scale"):
                inspect(judge_of_brightness(0.5, **{end: ("int8", scale, 0)}))  # type: ignore[arg-type]
    # A float tensor's quantisation says nothing of its numbers: some converters leave one there.
    model = judge_of_brightness(
        MIDDLE / 255, source=("float32", 0.01, 3), behind=[Operator("RESHAPE", (np.array([1, 2], np.int32),), ("float32", 0.01, 3))]
    )
    assert judged(model, pixels="0..1")["accuracy"] == 1.0 and inspect(model).facts.output_scale == 1.0


def test_maps_and_strange_channels_say_why(folder: Path, tmp_path: Path) -> None:
    data = open_data(folder, cache_dir=tmp_path)
    path = tmp_path / "model.tflite"
    path.write_bytes(chain((1, 6, 8, 3), [times(1.0)]))
    with pytest.raises(ModelFileError, match=r"output has the shape \[1, 6, 8, 3\]"):
        evaluate_splits(path, data, "test")
    path.write_bytes(judge_of_brightness(0.5, channels=4))
    with pytest.raises(DataError, match=r"6x8 with 4 channels; images have 3 \(rgb\) or 1 \(gray\)"):
        evaluate_splits(path, data, "test")


# Kernels, and one function for all


def test_where_tflite_micro_refuses_litert_is_named() -> None:
    found = judged(judge_of_brightness(MIDDLE / 255, quantize=PROBABILITY))  # QUANTIZE to uint8 is no kernel of TFLM
    assert found["accuracy"] == 1.0
    assert found["kernels"].startswith("LiteRT reference kernels (BUILTIN_REF), because tflite-micro does not run the model: ")
    broken = chain((1, 6, 8, 3), [Operator("MEAN", (np.array([7, 9], np.int32),), shape=(1, 3)), DENSE])
    with pytest.raises(ModelFileError, match=r"tflite-micro: .*; LiteRT \(BUILTIN_REF\): "):
        judged(broken)


@pytest.mark.parametrize("to", [FLOAT, ("int8", 1 / 256, -128), PROBABILITY])
def test_subsets_are_judged_by_the_same_threshold(folder: Path, tmp_path: Path, to: Numbers) -> None:
    """A sigmoid behind which the type changes: the parts' images are those of the whole."""
    behind = [Operator("LOGISTIC"), Operator("QUANTIZE", to=to)] if to is not FLOAT else [Operator("LOGISTIC")]
    path = tmp_path / "model.tflite"
    path.write_bytes(judge_of_brightness(150 / 255, outputs=1, gain=30.0, source=("int8", 1 / 255, -128), behind=behind))
    data = open_data(
        folder, cache_dir=tmp_path, options=DataOptions.model_validate({"label_map": {"dark": "no_person", "light": "person"}})
    )
    data = replace(data, attributes={"near": np.ones(len(data.records), np.int8)})
    for split in ("test", "all"):
        found = evaluate_splits(path, data, split, subsets=True)
        assert found["threshold"]["value"] == 0.5 and 0.5 < found["accuracy"] < 1
        part = found["subsets"]["distance: near"]
        assert part["n"] == found["n"] and part["accuracy"] == found["accuracy"]


def test_named_ranges_are_what_their_names_say() -> None:
    for name in ("0..1", "-1..1", "0..255", "-128..127"):
        low, high = map(float, name.split(".."))
        assert (NAMED[name].real()[0, 0], NAMED[name].real()[255, 0]) == pytest.approx((low, high))
    assert NAMED["0..255"].formula == "pixel" and NAMED["0..1"].formula == "pixel/255" and NAMED["-1..1"].formula == "(pixel-127.5)/127.5"
