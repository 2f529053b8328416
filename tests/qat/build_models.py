"""The models and data of the training tests: ``python -m tests.qat.build_models FOLDER``."""

import os
import sys
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1")

import keras
import numpy as np
from sklearn.datasets import load_digits

L = keras.layers


def build(folder: Path) -> None:
    keras.utils.set_random_seed(4)
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    train_x, train_y = images[:1200], digits.target[:1200]
    np.savez(folder / "train.npz", features=train_x, labels=train_y)
    np.savez(folder / "eval.npz", features=images[1200:], labels=digits.target[1200:])
    model = net()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(train_x, train_y, epochs=12, batch_size=32, verbose=0)
    spread_badly(model)
    model.save(folder / "net.keras")
    odd().save(folder / "odd.h5")


def net() -> keras.Model:
    image = keras.Input((8, 8, 1), name="image")
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="first")(image)
    x = L.ReLU()(L.BatchNormalization(momentum=0.8, name="first_bn")(x))
    x = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="deep")(x)
    x = L.ReLU()(L.BatchNormalization(momentum=0.8, name="deep_bn")(x))
    x = L.Conv2D(24, 1, activation="relu", name="point")(x)
    head = [keras.Input((24,)), L.Dropout(0.1), L.Dense(10, activation="softmax", name="out")]
    return keras.Model(image, keras.Sequential(head, name="head")(L.GlobalAveragePooling2D()(x)))


def spread_badly(model: keras.Model) -> None:
    """Channels of one tensor 10,000 times apart, taken back by the next layer: the same answers."""
    scale = np.logspace(0, -4, 8).astype(np.float32)
    gamma, beta, *moving = model.get_layer("first_bn").get_weights()
    model.get_layer("first_bn").set_weights([gamma * scale, beta * scale, *moving])
    kernel, *bias = model.get_layer("deep").get_weights()
    model.get_layer("deep").set_weights([kernel / scale[None, None, :, None], *bias])


def odd() -> keras.Model:
    """Two inputs, two outputs, no choice of a class, and the rarer layers."""
    image, more = keras.Input((8, 8, 2), name="image"), keras.Input((6,), name="more")
    x = L.SeparableConv2D(4, 3, strides=2, padding="same", activation="silu")(image)
    x = L.LeakyReLU(0.1)(L.Conv2DTranspose(3, 2, strides=2)(x))
    x = L.SpatialDropout2D(0.2)(L.ZeroPadding2D(1)(x))
    x = L.Concatenate()([x, L.UpSampling2D(2)(L.AveragePooling2D(2)(x))])
    x = L.Flatten()(L.MaxPooling2D(2)(x))
    y = L.Reshape((6, 1))(L.Rescaling(0.5, offset=0.1)(more))
    y = L.GlobalMaxPooling1D()(L.Conv1D(5, 3, activation="relu6")(y))
    first = L.Dense(3, name="first")(L.Concatenate()([x, y]))
    second = L.BatchNormalization(name="second")(L.Add()([L.Dense(5, "tanh")(x), y]))
    return keras.Model([image, more], [first, second])


if __name__ == "__main__":
    build(Path(sys.argv[1]))
