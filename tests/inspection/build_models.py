"""Keras nets without batch normalization, as .tflite, and what Keras says of them."""

import json
import os
import sys
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1")

import keras
import numpy as np
import tensorflow as tf

L = keras.layers
SAMPLES = 24


def build(folder: Path) -> None:
    keras.utils.set_random_seed(3)
    facts = {}
    for name, model in (("net", net()), ("lstm", lstm())):
        randomized(model)
        facts[name] = model.count_params()
        pinned = keras.Model(
            inputs := keras.Input(batch_shape=(1, *model.input_shape[1:])), model(inputs)
        )
        samples = np.random.default_rng(4).normal(size=(SAMPLES, *model.input_shape[1:]))
        np.save(folder / f"{name}.npy", samples.astype(np.float32))
        convert(pinned, folder / f"{name}.tflite", None)
        if name == "net":
            convert(pinned, folder / "net_int8.tflite", samples.astype(np.float32))
    (folder / "branch.tflite").write_bytes(branch())
    (folder / "facts.json").write_text(json.dumps(facts))


def net() -> keras.Model:
    image = keras.Input((12, 12, 4))
    x = L.Conv2D(8, 3, strides=2, padding="same", groups=2, activation="relu")(image)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    y = L.Conv2D(8, 1)(x)
    x = L.Add()([x, y])
    x = L.Conv2DTranspose(6, 3, strides=2, padding="valid")(x)
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(image, L.Dense(5, activation="softmax")(L.Dense(7, activation="relu")(x)))


def lstm() -> keras.Model:
    sound = keras.Input((5, 3))
    return keras.Model(sound, L.Dense(2)(L.LSTM(4)(sound)))


def branch() -> bytes:
    """One of two branches, each reads ``x`` from outside."""

    @tf.function(input_signature=[tf.TensorSpec((1, 64))])
    def chosen(x: tf.Tensor) -> tf.Tensor:
        return tf.cond(
            tf.reduce_sum(x) > 0,
            lambda: tf.tile(tf.sin(x), [1, 4]),
            lambda: tf.tile(tf.cos(x), [1, 4]),
        )

    function = chosen.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()


def randomized(model: keras.Model) -> None:
    """Biases too: converters put equal constants together."""
    generator = np.random.default_rng(5)
    for layer in model.layers:
        layer.set_weights([w + 0.1 * generator.normal(size=w.shape) for w in layer.get_weights()])


def convert(model: keras.Model, path: Path, samples: np.ndarray | None) -> None:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())


if __name__ == "__main__":
    build(Path(sys.argv[1]))
