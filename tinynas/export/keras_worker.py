"""Runs inside the TensorFlow interpreter: rebuilds a described network in Keras and converts it to int8.

A script of its own, on purpose: that interpreter may be another one without tinynas, so nothing of tinynas is
imported here. Usage: ``python keras_worker.py FOLDER`` with graph.json, weights.npz and calibration.npz in
FOLDER; writes model.tflite and report.json there. Exit status 3: TensorFlow cannot be imported.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

NO_TENSORFLOW = 3


def main(folder: Path) -> int:
    """Convert what lies in ``folder``; returns the exit status."""
    try:
        import keras
        import numpy as np
        import tensorflow as tf
    except ImportError as error:
        print(f"{error}", file=sys.stderr)
        return NO_TENSORFLOW

    graph = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
    with np.load(folder / "weights.npz", allow_pickle=False) as archive:
        weights = dict(archive)
    with np.load(folder / "calibration.npz", allow_pickle=False) as archive:
        images = archive["images"]

    started = time.perf_counter()
    model = build(keras, np, graph, weights)

    def representative() -> Any:
        for image in images:
            yield [((image.astype(np.float32) - graph["zero_point"]) * np.float32(graph["scale"]))[None]]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    content = converter.convert()
    seconds = time.perf_counter() - started

    (folder / "model.tflite").write_bytes(content)
    report = {"tensorflow": tf.__version__, "keras": keras.__version__, "seconds": seconds, "peak_rss_bytes": peak_rss_bytes()}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return 0


def build(keras: Any, np: Any, graph: Any, weights: Any) -> Any:
    """The Keras model, batch 1 (the converter's calibration needs the size fixed), with the weights set."""
    layers = keras.layers
    values = {graph["input"]: keras.Input(shape=tuple(graph["shape"]), batch_size=1, name="input")}
    loads: list[tuple[Any, list[Any]]] = []
    for index, op in enumerate(graph["ops"]):
        x, kind, name = values[op["inputs"][0]], op["kind"], op["name"]
        if kind in ("conv", "depthwise", "pool"):
            padding = op["padding"]
            if padding == "explicit":
                top, bottom, left, right = op["pixels"]
                x = layers.ZeroPadding2D(((top, bottom), (left, right)), name=f"{name}_pad")(x)
                padding = "valid"
            window = {"strides": tuple(op["stride"]), "padding": padding, "name": name}
        if kind == "conv":
            layer = layers.Conv2D(op["out"], tuple(op["kernel"]), **window)
            kernel = np.transpose(weights[f"w{index}"], (1, 2, 3, 0))  # OHWI -> HWIO
        elif kind == "depthwise":
            layer = layers.DepthwiseConv2D(tuple(op["kernel"]), **window)
            kernel = np.transpose(weights[f"w{index}"], (1, 2, 3, 0))  # 1HWC -> HWC1
        elif kind == "fc":
            layer = layers.Dense(op["out"], name=name)
            kernel = np.transpose(weights[f"w{index}"])  # OI -> IO
        elif kind == "pool":
            pooling = layers.MaxPooling2D if op["op"] == "max" else layers.AveragePooling2D
            values[op["output"]] = pooling(tuple(op["kernel"]), **window)(x)
            continue
        elif kind == "mean":
            values[op["output"]] = layers.GlobalAveragePooling2D(name=name)(x)
            continue
        elif kind == "add":
            y = layers.Add(name=name)([x, values[op["inputs"][1]]])
            values[op["output"]] = activation(layers, op, y)
            continue
        elif kind == "hard_swish":
            values[op["output"]] = layers.Activation("hard_silu", name=name)(x)
            continue
        elif kind == "resize":
            values[op["output"]] = layers.Lambda(nearest(tuple(op["size"])), name=name)(x)
            continue
        elif kind == "mul":
            gate = values[op["inputs"][1]]
            if op["gate"]:
                gate = layers.Reshape((1, 1, gate.shape[-1]), name=f"{name}_gate")(gate)
            values[op["output"]] = activation(layers, op, layers.Multiply(name=name)([x, gate]))
            continue
        else:
            raise ValueError(f"unknown operator {kind}")
        values[op["output"]] = activation(layers, op, layer(x))
        loads.append((layer, [kernel, weights[f"b{index}"]]))
    for layer, arrays in loads:
        layer.set_weights(arrays)
    return keras.Model(values[graph["input"]], values[graph["output"]])


def nearest(size: tuple[int, int]) -> Any:
    """What resizes a map to ``size`` as TFLite does by default, corners not aligned."""

    def resize(x: Any) -> Any:
        import tensorflow as tf

        return tf.compat.v1.image.resize_nearest_neighbor(x, size)

    return resize


def activation(layers: Any, op: Any, x: Any) -> Any:
    """``x`` through the operator's activation; the converter fuses it."""
    if op["act"] == "none":
        return x
    return layers.ReLU(max_value=6.0 if op["act"] == "relu6" else None, name=f"{op['name']}_act")(x)


def peak_rss_bytes() -> int | None:
    """Largest resident memory of this process, where the system tells."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


if __name__ == "__main__":
    # A script's folder comes first on the path, and there lies a keras.py that is not the library.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    sys.exit(main(Path(sys.argv[1])))
