"""Train the demo's model on scikit-learn's handwritten digits and write it with its data.

    python scripts/train_digits.py [FOLDER]        default examples/digits

Needs scikit-learn and keras. Pixels are 0 to 16, as scikit-learn gives them; the model scales them
itself. Of 1,797 digits 1,257 train the model, 100 of those are kept for calibration, and the 540
others evaluate it.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SEED = 7


def main(folder: Path) -> None:
    import keras
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    keras.utils.set_random_seed(SEED)
    digits = load_digits()
    images = digits.images[..., None].astype(np.float32)
    train_x, eval_x, train_y, eval_y = train_test_split(
        images, digits.target, test_size=0.3, random_state=SEED, stratify=digits.target
    )
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Rescaling(1 / 16),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits_cnn",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train_x, train_y, epochs=40, batch_size=32, verbose=2)
    _, accuracy = model.evaluate(eval_x, eval_y, verbose=0)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "digits_cnn.h5", include_optimizer=False)
    np.savez_compressed(folder / "calibration.npz", features=train_x[:100].astype(np.uint8))
    np.savez_compressed(
        folder / "evaluation.npz", features=eval_x.astype(np.uint8), labels=eval_y.astype(np.int64)
    )
    print(f"accuracy on {len(eval_y)} held-back digits: {accuracy:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "examples/digits"))
