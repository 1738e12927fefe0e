"""int8 against float on trained networks: our exporter beside TensorFlow's converter on the same weights.

Writes results/benchmarks/int8_accuracy.{json,md} and int8_choices.{json,md} (how calibration, equalisation and bias
correction compare; the quantiser's defaults follow from it).

    python benchmarks/int8_accuracy.py [--epochs 8] [--work FOLDER] [--out results/benchmarks] [--no-tensorflow]

Trains 13 networks of different sizes on the images of ``TINYNAS_TEST_DATA`` (or ../shared/data beside the repository)
with tinynas's trainer; weights are kept in --work, so a second run only measures. TensorFlow is looked for as
``tinynas export --exporter tensorflow`` does (TINYNAS_TENSORFLOW_PYTHON). Accuracy is computed by tflite-micro's
reference kernels on validation and test images and, for the choices, on validation images by the forward that equals
them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cosine import COSINE

from tinynas import __version__
from tinynas.api import load_space
from tinynas.arch import Arch, load_arch
from tinynas.data import DataSet, Split, open_data
from tinynas.errors import MissingExtraError
from tinynas.export import build_model
from tinynas.export.keras import second_opinion
from tinynas.export.sandbox import kernels_name, run_tflm
from tinynas.files import write_atomic
from tinynas.graph import lower
from tinynas.model import Network, load_weights, save_weights
from tinynas.quantize import FakeQuantNetwork, QuantOptions, fold, predict, quantize
from tinynas.quantize.floats import FloatGraph, pixels
from tinynas.recipe import Recipe
from tinynas.train import Trainer

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TINYNAS_TEST_DATA", ROOT.parent / "shared" / "data")) / "images"
CALIBRATION = 256

#: (name, architecture, side in pixels, channels, images)
NETWORKS: tuple[tuple[str, str, int, int, str], ...] = (
    ("mcunet-tiny2@48", "mcunet-tiny2", 48, 3, "tin20"),
    ("mcunet-tiny2@32", "mcunet-tiny2", 32, 3, "tin20"),
    ("mcunet-tiny2@32 grey", "mcunet-tiny2", 32, 1, "tin20"),
    ("colabnas-k4c5@48", "colabnas-k4c5", 48, 3, "tin20"),
    ("colabnas-k8c5@32", "colabnas-k8c5", 32, 3, "tin20"),
    ("mobilenetv1-0.25@32", "mobilenetv1-0.25", 32, 3, "tin20"),
    ("mobilenetv2-0.35@32", "mobilenetv2-0.35", 32, 3, "tin20"),
    ("tiny space 1@32", "tiny:1", 32, 3, "tin20"),
    ("mcunet-tiny2@48", "mcunet-tiny2", 48, 3, "person64"),
    ("mcunet-tiny2@32", "mcunet-tiny2", 32, 3, "person64"),
    ("colabnas-k8c5@48", "colabnas-k8c5", 48, 3, "person64"),
    ("tiny space 2@32", "tiny:2", 32, 3, "person64"),
    ("tiny space 3@40", "tiny:3", 40, 3, "person64"),
)


def architecture(name: str, side: int, channels: int, classes: int) -> Arch:
    if name.startswith("tiny:"):
        import random

        draw = random.Random(int(name.removeprefix("tiny:")))
        arch = load_space("tiny").sample(lambda _, count: draw.randrange(count), classes)
    else:
        arch = load_arch(name)
    return Arch.model_validate({**arch.model_dump(), "height": side, "width": side, "channels": channels, "classes": classes})


def trained(tag: str, arch: Arch, data: DataSet, epochs: int, work: Path) -> Network:
    path = work / f"{tag.replace(' ', '_')}-{arch.id}-{epochs}.safetensors"
    graph = lower(arch)
    if not path.exists():
        shape = graph.input.shape
        trainer = Trainer(graph, data.split("train", *shape), data.split("val", *shape), Recipe(epochs=epochs, **COSINE), seed=0)
        trainer.run()
        save_weights(trainer.network, path, {})
    return load_weights(graph, path)


def held_out(data: DataSet, shape: tuple[int, int, int]) -> Split:
    """Validation and test images together: no weights were fitted to either, and more images say more."""
    val, test = data.split("val", *shape), data.split("test", *shape)
    images = np.concatenate([np.asarray(val.inputs), np.asarray(test.inputs)])
    return Split(images, np.concatenate([val.labels, test.labels]), (*val.names, *test.names))


def int8_logits(floats: FloatGraph, calibration: np.ndarray, images: np.ndarray, options: QuantOptions) -> np.ndarray:
    network = FakeQuantNetwork(quantize(floats, calibration, options))
    return np.concatenate(
        [network.real(network(pixels(images[i : i + 256], floats.graph.input))).numpy() for i in range(0, len(images), 256)]
    )


def choices(floats: FloatGraph, calibration: np.ndarray, val: Split) -> list[dict[str, Any]]:
    wanted = predict(floats, val.inputs)
    right = float((wanted.argmax(1) == val.labels).mean())
    rows = []
    for method, equalize, correct, weights in product(("minmax", "percentile", "mse"), (False, True), (False, True), ("max", "mse")):
        if weights == "mse" and (equalize or method != "mse"):
            continue
        options = QuantOptions(calibration=method, equalize=equalize, bias_correction=correct, weights=weights)
        logits = int8_logits(floats, calibration, val.inputs, options)
        rows.append(
            {
                "calibration": method,
                "weights": weights,
                "equalize": equalize,
                "bias_correction": correct,
                "loss_points": 100 * (right - float((logits.argmax(1) == val.labels).mean())),
                "agreement": float((logits.argmax(1) == wanted.argmax(1)).mean()),
                "snr_db": float(10 * np.log10((wanted**2).mean() / ((logits - wanted) ** 2).mean())),
            }
        )
    return rows


def measure(row: dict[str, Any], floats: FloatGraph, calibration: Split, test: Split, labels: Sequence[str], *, tensorflow: bool) -> None:
    started = time.perf_counter()
    exported = build_model(floats, calibration.inputs, labels=labels)
    seconds = time.perf_counter() - started
    logits = predict(floats, test.inputs)
    measured = run_tflm(exported.model, test.inputs)
    predicted, reference = measured.outputs.argmax(1), logits.argmax(1)
    row["tinynas"] = {
        "accuracy": float((predicted == test.labels).mean()),
        "agreement": float((predicted == reference).mean()),
        "file_bytes": len(exported.model),
        "estimated_bytes": exported.estimated_bytes,
        "arena_bytes": measured.head_bytes + measured.tail_bytes,
        "head_bytes": measured.head_bytes,
        "seconds": seconds,
    }
    row["float_accuracy"] = float((reference == test.labels).mean())
    row["images"] = len(test)
    if not tensorflow:
        return
    opinion = second_opinion(
        floats, calibration.inputs, exported.model, test.inputs, truth=test.labels, float_logits=logits, our_seconds=seconds
    )
    theirs = opinion["tensorflow"]
    row["tinynas"]["rms_error"] = opinion["tinynas"]["rms_error"]
    row["tensorflow"] = {
        "accuracy": theirs["accuracy"],
        "agreement": theirs["float_agreement"],
        "rms_error": theirs["rms_error"],
        "file_bytes": theirs["file_bytes"],
        "arena_bytes": theirs["arena_bytes"]["head"] + theirs["arena_bytes"]["tail"],
        "head_bytes": theirs["arena_bytes"]["head"],
        "seconds": theirs["wall_seconds"],
        "peak_rss_bytes": theirs["peak_rss_bytes"],
    }
    row["operators_equal"], row["versions"] = opinion["operators_equal"], opinion["versions"]


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def losses(side: str) -> list[float]:
        return [100 * (row["float_accuracy"] - row[side]["accuracy"]) for row in rows if side in row]

    ours = losses("tinynas")
    both = [row for row in rows if "tensorflow" in row]
    found: dict[str, Any] = {
        "networks": len(rows),
        "mean_loss_points": statistics.mean(ours),
        "worst_loss_points": max(ours),
        "mean_agreement": statistics.mean(row["tinynas"]["agreement"] for row in rows),
        "max_seconds": max(row["tinynas"]["seconds"] for row in rows),
        "size_estimates_exact": all(row["tinynas"]["estimated_bytes"] == row["tinynas"]["file_bytes"] for row in rows),
    }
    if both:
        found |= {
            "tensorflow_mean_loss_points": statistics.mean(losses("tensorflow")),
            "standard_error_of_the_difference_points": difference_error(both),
            "mean_rms_error_ratio": statistics.mean(row["tinynas"]["rms_error"] / row["tensorflow"]["rms_error"] for row in both),
            "tensorflow_mean_agreement": statistics.mean(row["tensorflow"]["agreement"] for row in both),
            "files_larger_than_tensorflow": sum(row["tinynas"]["file_bytes"] > row["tensorflow"]["file_bytes"] for row in both),
            "arenas_larger_than_tensorflow": sum(row["tinynas"]["arena_bytes"] > row["tensorflow"]["arena_bytes"] for row in both),
            "mean_file_ratio": statistics.mean(row["tinynas"]["file_bytes"] / row["tensorflow"]["file_bytes"] for row in both),
            "mean_arena_ratio": statistics.mean(row["tinynas"]["arena_bytes"] / row["tensorflow"]["arena_bytes"] for row in both),
            "tensorflow_mean_seconds": statistics.mean(row["tensorflow"]["seconds"] for row in both),
        }
    return found


def difference_error(rows: list[dict[str, Any]]) -> float:
    """Standard error of the difference of the two mean losses, over the networks, in points."""
    differences = [100 * (row["tensorflow"]["accuracy"] - row["tinynas"]["accuracy"]) for row in rows]
    return statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")


def accuracy_page(document: dict[str, Any]) -> str:
    found = document["summary"]
    lines = [
        "# int8 accuracy: tinynas and TensorFlow's converter on the same weights",
        "",
        f"Made by `python benchmarks/int8_accuracy.py --epochs {document['epochs']}`, tinynas {document['tinynas']},",
        f"{document['kernels']}, {document['versions']}.",
        "",
        f"{found['networks']} networks, trained briefly ({document['epochs']} epochs: accuracies are not the networks' best). Images:",
        "validation and test together (2,360 of tin20, 2,112 of person64), none trained on. Accuracy by tflite-micro for both files;",
        "agreement: share of images on which the int8 file says what the float network says. Arena on the 64-bit host: head + tail.",
        "Seconds: quantise and write; TensorFlow: the whole process. Single differences below about 1 point mean nothing.",
        "",
        "| network | images | float | int8 | TF int8 | agree | TF agree | file B | TF file B | arena B | TF arena B | s | TF s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in document["networks"]:
        ours, theirs = row["tinynas"], row.get("tensorflow")

        def cell(key: str, form: str, theirs: dict[str, Any] | None = theirs) -> str:
            return "-" if theirs is None else format(theirs[key], form)

        lines.append(
            f"| {row['name']} | {row['data']} | {100 * row['float_accuracy']:.1f} | {100 * ours['accuracy']:.1f} | "
            f"{'-' if theirs is None else format(100 * theirs['accuracy'], '.1f')} | {100 * ours['agreement']:.1f} | "
            f"{'-' if theirs is None else format(100 * theirs['agreement'], '.1f')} | {ours['file_bytes']:,} | {cell('file_bytes', ',')} | "
            f"{ours['arena_bytes']:,} | {cell('arena_bytes', ',')} | {ours['seconds']:.2f} | {cell('seconds', '.1f')} |"
        )
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [
        f"| {key.replace('_', ' ')} | {value if isinstance(value, (bool, int)) else round(value, 3)} |" for key, value in found.items()
    ]
    lines += [
        "",
        "The quantiser's defaults were chosen by agreement on the validation images, which are part of these; the difference of the two",
        "mean losses is smaller than its standard error. What this does not show: fully trained networks, whose margins are wider,",
        "and the accuracy on other data.",
        "",
    ]
    return "\n".join(lines)


def choices_page(document: dict[str, Any]) -> str:
    lines = [
        "# How to quantise: what was tried",
        "",
        "Made by `python benchmarks/int8_accuracy.py`. Means over the networks of int8_accuracy, on their validation images (no choice",
        "looks at test images). SNR: float logits against their int8 error, ruled by the largest logits; loss in points",
        "of accuracy, where the standard error of one network is about 0.4.",
        "",
        "| activation ranges | weight scales | equalise | bias correction | SNR dB | agreement % | loss points |",
        "|---|---|---|---|---|---|---|",
    ]
    yes = {True: "yes", False: "no"}
    for row in document["means"]:
        how = f"{row['calibration']} | {row['weights']} | {yes[row['equalize']]} | {yes[row['bias_correction']]}"
        lines.append(f"| {how} | {row['snr_db']:.2f} | {100 * row['agreement']:.2f} | {row['loss_points']:+.2f} |")
    chosen = QuantOptions()
    lines += [
        "",
        f"Default: ranges {chosen.calibration}, weights {chosen.weights}, equalise {yes[chosen.equalize]}, "
        f"bias correction {yes[chosen.bias_correction]}.",
        "The rule: the highest agreement with the float network, among rows with weight scales from the largest weight (searching",
        "them gains nothing that can be told apart). The differences are small: where weights have a scale per channel, any row is",
        "usable.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tinynas-int8-accuracy")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("--no-tensorflow", action="store_true")
    parser.add_argument("--train-only", action="store_true", help="fill --work and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    tried: list[list[dict[str, Any]]] = []
    tensorflow = not options.no_tensorflow
    for name, base, side, channels, folder in NETWORKS:
        data = open_data(str(DATA / folder))
        arch = architecture(base, side, channels, len(data.labels))
        network = trained(f"{name}-{folder}", arch, data, options.epochs, options.work)
        print(f"{name} on {folder}: trained", flush=True)
        if options.train_only:
            continue
        shape = (side, side, channels)
        floats, calibration = fold(network), data.split("train", *shape).subset(CALIBRATION, 0)
        tried.append(choices(floats, np.asarray(calibration.inputs), data.split("val", *shape)))
        row: dict[str, Any] = {"name": name, "data": folder, "arch": arch.id}
        try:
            measure(row, floats, calibration, held_out(data, shape), data.labels, tensorflow=tensorflow)
        except MissingExtraError as error:
            print(f"without TensorFlow: {error}", flush=True)
            tensorflow = False
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.train_only:
        return
    versions = next((row["versions"] for row in rows if "versions" in row), {})
    document = {
        "tinynas": __version__,
        "epochs": options.epochs,
        "kernels": kernels_name(),
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()) or "no TensorFlow",
        "summary": summary(rows),
        "networks": rows,
    }
    means = [
        {
            key: value if isinstance(value, (bool, str)) else statistics.mean(run[i][key] for run in tried)
            for key, value in tried[0][i].items()
        }
        for i in range(len(tried[0]))
    ]
    means.sort(key=lambda row: -row["agreement"])
    choice_document = {"tinynas": __version__, "means": means, "networks": tried}
    write_atomic(options.out / "int8_accuracy.json", json.dumps(document, indent=1) + "\n")
    write_atomic(options.out / "int8_accuracy.md", accuracy_page(document))
    write_atomic(options.out / "int8_choices.json", json.dumps(choice_document, indent=1) + "\n")
    write_atomic(options.out / "int8_choices.md", choices_page(choice_document))
    print(json.dumps(document["summary"], indent=1))


if __name__ == "__main__":
    main()
