"""A digits net that plain int8 breaks: depthwise separable, its channels scaled badly on purpose.

    python scripts/bench/badly_scaled.py FOLDER

Writes ``badly_scaled.h5``, ``badly_scaled.tflite``, ``calibration.npz`` (100 of the training
digits), ``eval.npz`` and ``heldback.npz`` (270 digits each, which trained nothing). Needs
scikit-learn and keras; takes some 30 s. The tests have a copy of all but the .h5 in
tests/data/badly_scaled.

Between two layers with a ReLU between them, channel c of the first is multiplied by f(c) and what
the second does with it divided by f(c), which changes no answer. One scale for a whole activation
tensor then has no steps left for the small channels (Nagel et al. 2019, "Data-Free Quantization
Through Weight Equalization and Bias Correction", section 3).
"""

import itertools
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
SEED = 11
SPREAD_DECADES = 3.0
"""Between the smallest and the largest f."""
NAMES = ("first", "depthwise_1", "pointwise_1", "depthwise_2", "pointwise_2")
EPOCHS = 25


def write(folder: Path) -> float:
    """Write all files, and give the float model's accuracy on ``eval.npz``."""
    import keras
    import numpy as np
    import tensorflow as tf
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    keras.utils.set_random_seed(SEED)
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    train_x, rest_x, train_y, rest_y = train_test_split(
        images, digits.target.astype(np.int64), test_size=540, random_state=SEED
    )
    model = _net(keras)
    model.compile(keras.optimizers.Adam(4e-3), "sparse_categorical_crossentropy")
    model.fit(train_x, train_y, epochs=EPOCHS, batch_size=32, verbose=0)
    _scale_badly(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "badly_scaled.h5", include_optimizer=False)
    one = keras.Input(batch_shape=(1, 8, 8, 1), name="image")
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(one, model(one)))
    (folder / "badly_scaled.tflite").write_bytes(converter.convert())
    half = len(rest_x) // 2
    np.savez_compressed(folder / "calibration.npz", features=train_x[:100])
    np.savez_compressed(folder / "eval.npz", features=rest_x[:half], labels=rest_y[:half])
    np.savez_compressed(folder / "heldback.npz", features=rest_x[half:], labels=rest_y[half:])
    answers = model.predict(rest_x[:half], verbose=0).argmax(axis=1)
    return float(np.mean(answers == rest_y[:half]))


def _net(keras: Any) -> Any:  # noqa: ANN401  a module without types
    layers = keras.layers

    def with_relu(layer: Any) -> list[Any]:  # noqa: ANN401  Keras layers
        return [layer, layers.BatchNormalization(name=f"{layer.name}_bn"), layers.ReLU()]

    same: Any = {"padding": "same", "use_bias": False}
    first, depthwise_1, pointwise_1, depthwise_2, pointwise_2 = NAMES
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            *with_relu(layers.Conv2D(16, 3, **same, name=first)),
            *with_relu(layers.DepthwiseConv2D(3, **same, name=depthwise_1)),
            *with_relu(layers.Conv2D(32, 1, **same, name=pointwise_1)),
            *with_relu(layers.DepthwiseConv2D(3, **same, name=depthwise_2)),
            *with_relu(layers.Conv2D(48, 1, **same, name=pointwise_2)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="badly_scaled",
    )


def _scale_badly(model: Any) -> None:  # noqa: ANN401  a Keras model
    import numpy as np

    random = np.random.default_rng(SEED)
    for before, after in itertools.pairwise(NAMES):
        norm, second = model.get_layer(f"{before}_bn"), model.get_layer(after)
        gamma, beta, mean, variance = norm.get_weights()
        factors = 10 ** random.uniform(-SPREAD_DECADES / 2, SPREAD_DECADES / 2, len(gamma))
        norm.set_weights([gamma * factors, beta * factors, mean, variance])
        # (height, width, channels in, channels out); of a depthwise kernel the last is 1
        (kernel,) = second.get_weights()
        second.set_weights([kernel / factors[:, None]])


if __name__ == "__main__":
    print(f"float accuracy {write(Path(sys.argv[1])):.3f}")
