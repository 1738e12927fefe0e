"""Networks as people make them, through TensorFlow's converter: run as a script by a Python that has TensorFlow.

python tests/converter_nets.py FOLDER      writes FOLDER/<net>_<kind>.tflite
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Float, weights alone as int8, all int8, activations as int16.
KINDS = ("float", "dynamic", "int8", "int16")


def nets(tf: Any) -> dict[str, Callable[[], Any]]:
    """Models by name."""
    keras, layers = tf.keras, tf.keras.layers

    def model(shape: tuple[int, ...], body: Callable[[Any], Any]) -> Callable[[], Any]:
        def make() -> Any:
            start = keras.Input(shape, batch_size=1)
            return keras.Model(start, body(start))

        return make

    def cnn(x: Any) -> Any:
        x = layers.MaxPool2D()(layers.Conv2D(8, 3, activation="relu")(x))
        x = layers.Conv2D(12, 3, padding="same", activation="relu6")(x)
        return layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))

    def flat(x: Any) -> Any:
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2)(x)))
        x = layers.Dense(20, activation="relu")(layers.Flatten()(layers.AveragePooling2D(2)(x)))
        return layers.Dense(3, activation="sigmoid")(x)

    def unrolled(x: Any) -> Any:
        return layers.Dense(3)(layers.LSTM(6, unroll=True)(x))

    def gates(x: Any) -> Any:
        return layers.Dense(3)(layers.GRU(6, unroll=True)(x))

    def unet(x: Any) -> Any:
        above = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
        below = layers.Conv2D(12, 3, padding="same", activation="relu")(layers.MaxPool2D()(above))
        up = layers.Conv2DTranspose(8, 2, strides=2, padding="same")(below)
        return layers.Conv2D(1, 1, activation="sigmoid")(layers.Concatenate()([above, up]))

    def squeezed(x: Any) -> Any:
        x = layers.Activation("swish")(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)))
        inside = layers.Activation("swish")(layers.DepthwiseConv2D(3, padding="same")(x))
        gate = layers.Conv2D(2, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(inside))
        gated = layers.Multiply()([inside, layers.Conv2D(8, 1, activation="sigmoid")(gate)])
        return layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(layers.Add()([layers.Conv2D(8, 1)(gated), x])))

    def sequence(x: Any) -> Any:
        x = layers.MaxPool1D()(layers.Conv1D(8, 3, activation="relu")(x))
        return layers.Dense(2)(layers.GlobalMaxPooling1D()(layers.SeparableConv1D(8, 3)(x)))

    def attention(x: Any) -> Any:
        x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)]))
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(16)(layers.Dense(32, activation="relu")(x))]))
        return layers.Dense(3)(layers.GlobalAveragePooling1D()(x))

    return {
        "cnn": model((16, 16, 3), cnn),
        "flat": model((12, 12, 1), flat),
        "lstm": model((5, 4), unrolled),
        "gru": model((5, 4), gates),
        "unet": model((16, 16, 3), unet),
        "squeezed": model((24, 24, 3), squeezed),
        "sequence": model((32, 4), sequence),
        "attention": model((8, 16), attention),
    }


def convert(tf: Any, model: Any, kind: str) -> bytes:
    """The .tflite of ``model``."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)

    def samples() -> Iterator[list[Any]]:
        generator = np.random.default_rng(0)
        for _ in range(4):
            yield [generator.normal(size=model.inputs[0].shape).astype(np.float32)]

    if kind != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind.startswith("int"):
        converter.representative_dataset = samples
        sets = tf.lite.OpsSet
        int16 = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [int16 if kind == "int16" else sets.TFLITE_BUILTINS_INT8]
    return bytes(converter.convert())


def main() -> None:
    """Write the files; a pair that the converter refuses is printed and left out."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    import tensorflow as tf

    for name, make in nets(tf).items():
        model = make()
        for kind in KINDS:
            try:
                Path(sys.argv[1], f"{name}_{kind}.tflite").write_bytes(convert(tf, model, kind))
            except Exception as error:
                print(f"{name} {kind}: {type(error).__name__}", flush=True)


if __name__ == "__main__":
    main()
