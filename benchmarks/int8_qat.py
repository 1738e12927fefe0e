"""Where quantisation-aware training pays, and where it does not.

Writes results/benchmarks/int8_qat.{json,md}. From one float training, per network and bits of a weight: quantised
after training (PTQ); trained on with float weights and then quantised (the control: more epochs alone); trained on
with quantisation in the loop (QAT). Same images, same order, same learning rate. Accuracy on the validation images,
by the forward that equals tflite-micro.

    python benchmarks/int8_qat.py [--epochs 3] [--work FOLDER] [--out results/benchmarks]

Float weights are those of int8_accuracy.py (--work the same folder); missing ones are trained.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from int8_accuracy import CALIBRATION, DATA, NETWORKS, ROOT, architecture, int8_logits, trained
from torch import Tensor, nn

from tinynas import __version__
from tinynas.cost import estimate
from tinynas.data import Split, open_data
from tinynas.data.images.augment import make_augmenter
from tinynas.data.split import epoch_order
from tinynas.files import write_atomic
from tinynas.model import Network
from tinynas.quantize import FakeQuantNetwork, QuantOptions, finish_qat, fold, prepare_qat
from tinynas.quantize.floats import pixels
from tinynas.recipe import Augment

#: The two smallest networks of int8_accuracy: where a budget leaves least room.
CHOSEN = (1, 3)
BITS = (8, 4, 3, 2)
RATE, BATCH = 1e-3, 64


def train_on(module: nn.Module, train: Split, epochs: int, seed: int) -> float:
    """Train with flips and shifts, the rate falling linearly to 0; seconds."""
    started = time.perf_counter()
    shape = train.inputs.shape[1:]
    augment = make_augmenter(Augment(kind="light"), shape[0], shape[1], shape[2], seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.0)
    steps, step = epochs * (len(train) // BATCH), 0
    module.train()
    for epoch in range(epochs):
        order = epoch_order(len(train), seed=seed, epoch=epoch)
        for rows in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
            images, labels = augment(train.inputs[rows], epoch, rows), train.labels[rows]
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(module(pixels(images, module.graph.input)), torch.from_numpy(labels)).backward()
            optimizer.step()
            step += 1
    module.eval()
    return time.perf_counter() - started


def accuracy(logits: np.ndarray, split: Split) -> float:
    return float((logits.argmax(1) == split.labels).mean())


def integers(network: FakeQuantNetwork, images: np.ndarray) -> np.ndarray:
    return np.concatenate([network(pixels(images[i : i + 256], network.qgraph.graph.input)).numpy() for i in range(0, len(images), 256)])


def rows_of(name: str, network: Network, train: Split, val: Split, epochs: int) -> list[dict[str, Any]]:
    calibration = train.subset(CALIBRATION, 0).inputs
    state: dict[str, Tensor] = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        start = np.concatenate([network(pixels(val.inputs[i : i + 256], network.graph.input)).numpy() for i in range(0, len(val), 256)])
    control = Network(network.graph)
    control.load_state_dict(state)
    control_seconds = train_on(control, train, epochs, seed=1)
    with torch.no_grad():
        longer = np.concatenate([control(pixels(val.inputs[i : i + 256], network.graph.input)).numpy() for i in range(0, len(val), 256)])
    rows = []
    for bits in BITS:
        options = QuantOptions(bits=bits)
        module = prepare_qat(network, calibration, options)
        seconds = train_on(module, train, epochs, seed=1)
        rows.append(
            {
                "network": name,
                "bits": bits,
                "float": accuracy(start, val),
                "float_longer": accuracy(longer, val),
                "ptq": accuracy(int8_logits(fold(network), calibration, val.inputs, options), val),
                "ptq_longer": accuracy(int8_logits(fold(control), calibration, val.inputs, options), val),
                "qat": accuracy(integers(FakeQuantNetwork(finish_qat(module)), val.inputs), val),
                "seconds": seconds,
                "float_seconds": control_seconds,
                "images": len(val),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def page(document: dict[str, Any]) -> str:
    lines = [
        "# Quantisation-aware training: where it pays",
        "",
        f"Made by `python benchmarks/int8_qat.py --epochs {document['epochs']}`, tinynas {document['tinynas']}. Validation accuracy in",
        f"percent; {document['epochs']} more epochs from the same float weights. PTQ: quantised after the float training; longer: after",
        "as many more float epochs as QAT has; QAT: those epochs with quantisation in the loop. Weights on a grid of so many bits,",
        "activations on 8.",
        "",
        "| network | bits | float | float, longer | PTQ | PTQ, longer | QAT | QAT gains over PTQ, longer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        cells = " | ".join(f"{100 * row[key]:.1f}" for key in ("float", "float_longer", "ptq", "ptq_longer", "qat"))
        lines.append(f"| {row['network']} | {row['bits']} | {cells} | {100 * (row['qat'] - row['ptq_longer']):+.1f} |")
    ratio = statistics.mean(row["seconds"] / row["float_seconds"] for row in document["rows"])
    lines += [
        "",
        f"A QAT epoch took {ratio:.1f} times a float one. One standard error of an accuracy here is about 1.3 points.",
        "What this does not show: long QAT, other learning rates, files with less than 8 bits (the grid is there, the format is not).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--float-epochs", type=int, default=5, help="as --epochs of int8_accuracy.py")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tinynas-int8-accuracy")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for index in CHOSEN:
        name, base, side, channels, folder = NETWORKS[index]
        data = open_data(str(DATA / folder))
        arch = architecture(base, side, channels, len(data.labels))
        network = trained(f"{name}-{folder}", arch, data, options.float_epochs, options.work)
        shape = (side, side, channels)
        label = f"{name} ({estimate(network.graph).flash_bytes / 1024:.0f} KiB)"
        rows += rows_of(label, network, data.split("train", *shape), data.split("val", *shape), options.epochs)
    document = {"tinynas": __version__, "epochs": options.epochs, "rows": rows}
    write_atomic(options.out / "int8_qat.json", json.dumps(document, indent=1) + "\n")
    write_atomic(options.out / "int8_qat.md", page(document))


if __name__ == "__main__":
    main()
