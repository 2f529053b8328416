"""The small models that the conversion tests load, made with Keras and TensorFlow."""

import json
import os
import shutil
import zipfile
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1")

import h5py
import keras
import numpy as np
import tensorflow as tf

L = keras.layers


def build(folder: Path) -> None:
    keras.utils.set_random_seed(1)
    small = cnn()
    small.save(folder / "cnn.h5")
    small.save(folder / "cnn.keras")
    small.export(folder / "cnn_saved", verbose=False)
    small.save_weights(folder / "only.weights.h5")
    keras2(folder / "cnn.h5", folder / "cnn_keras2.hdf5")
    tflite(small, folder / "cnn.tflite", batch=1)
    tflite(small, folder / "cnn_dynamic.tflite", batch=None)
    tflite(small, folder / "cnn_batch4.tflite", batch=4)
    tflite(small, folder / "cnn_dynamic_range.tflite", batch=1, optimize=True)
    (folder / "cnn_int8.tflite").write_bytes(int8(small))
    with_depthwise = mobilenet()
    with_depthwise.save(folder / "mobilenet_plain.h5")
    keras2(folder / "mobilenet_plain.h5", folder / "mobilenet.h5")
    autoencoder().save(folder / "autoencoder.h5")
    streaming().save(folder / "streaming_plain.h5")
    keras2(folder / "streaming_plain.h5", folder / "streaming.h5")
    two_by_two().save(folder / "two_by_two.keras")
    two_by_two().export(folder / "two_by_two_saved", verbose=False)
    open_sides().save(folder / "open_sides.keras")
    open_time().save(folder / "open_time.keras")
    tokens().save(folder / "tokens.keras")
    binary().save(folder / "binary.keras")
    recurrent().save(folder / "recurrent.keras")
    recurrent(unroll=True).save(folder / "unrolled.keras")
    unpreparable().save(folder / "unpreparable.keras")
    broken().save(folder / "nan.keras")
    nested().save(folder / "nested.keras")
    separable().save(folder / "separable_plain.h5")
    keras2(folder / "separable_plain.h5", folder / "separable.h5")
    deep().save(folder / "deep_plain.h5")
    keras2(folder / "deep_plain.h5", folder / "deep.h5")
    keras.Sequential([keras.Input((4,))]).save(folder / "empty.keras")
    keras.Sequential([L.Dense(2)]).save(folder / "unbuilt.keras")
    fixed_batch().save(folder / "fixed_batch.keras")
    lambdas(folder)
    saved_models(folder)
    several_signatures(folder / "signatures.tflite")


def cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            L.Conv2D(8, 3, padding="same", use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv2D(16, 3, strides=2, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(3, activation="softmax"),
        ],
        name="cnn",
    )


def mobilenet() -> keras.Model:
    image = keras.Input((24, 24, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    for filters, strides in ((16, 1), (32, 2), (32, 1)):
        x = L.ZeroPadding2D(1)(x) if strides == 2 else x
        x = L.DepthwiseConv2D(3, strides=strides, padding="valid" if strides == 2 else "same")(x)
        x = L.ReLU(6.0)(L.BatchNormalization()(x))
        x = L.Conv2D(filters, 1, use_bias=False)(x)
        x = L.ReLU(6.0)(L.BatchNormalization()(x))
    x = L.Flatten()(L.AveragePooling2D(6)(x))
    return keras.Model(image, L.Dense(2, activation="softmax")(L.Dropout(0.1)(x)), name="mobilenet")


def autoencoder() -> keras.Model:
    x = inputs = keras.Input((40,))
    for width in (32, 32, 8, 32):
        x = L.Activation("relu")(L.BatchNormalization()(L.Dense(width)(x)))
    return keras.Model(inputs, L.Dense(40)(x))


def streaming() -> keras.Model:
    sound = keras.Input((30, 1, 40))
    x = sound
    for width in (16, 24):
        x = L.DepthwiseConv2D((3, 1), padding="valid", use_bias=False)(x)
        x = L.Conv2D(width, 1, activation="relu")(x)
    return keras.Model(sound, L.Dense(3, activation="softmax")(L.Flatten()(x)))


def two_by_two() -> keras.Model:
    left, right = keras.Input((4,), name="left"), keras.Input((6,), name="right")
    both = L.Concatenate()([L.Dense(5, activation="relu")(left), L.Dense(5)(right)])
    outputs = {"first": L.Dense(2, name="first")(both), "second": L.Dense(3, name="second")(both)}
    return keras.Model([left, right], outputs)


def open_sides() -> keras.Model:
    image = keras.Input((None, None, 3), name="picture")
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu")(image))
    return keras.Model(image, L.Dense(2)(x))


def open_time() -> keras.Model:
    sound = keras.Input((None, 5), name="sound")
    return keras.Model(sound, L.GlobalAveragePooling1D()(L.Conv1D(4, 3)(sound)))


def tokens() -> keras.Model:
    words = keras.Input((6,), dtype="int32", name="words")
    x = L.GlobalAveragePooling1D()(L.Embedding(20, 8)(words))
    return keras.Model(words, L.Dense(4, activation="softmax")(x))


def binary() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), L.Dense(8, "relu"), L.Dense(1, "sigmoid")])


def unpreparable() -> keras.Model:
    """Weights of channels so far apart that XNNPACK refuses the int8 scales."""
    x = image = keras.Input((8, 8, 1))
    x = L.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="apart")(x)
    x = L.Conv2D(16, 1, activation="relu", name="together")(x)
    model = keras.Model(image, L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(x)))
    scale = np.logspace(-4, 4, 16).astype(np.float32)
    kernel, bias = model.get_layer("apart").get_weights()
    model.get_layer("apart").set_weights([kernel * scale[None, None, :, None], bias * scale])
    kernel, bias = model.get_layer("together").get_weights()
    model.get_layer("together").set_weights([kernel / scale[None, None, :, None], bias])
    return model


def recurrent(unroll: bool = False) -> keras.Model:
    sound = keras.Input((10, 4))
    return keras.Model(sound, L.Dense(2)(L.LSTM(6, unroll=unroll)(sound)))


def fixed_batch() -> keras.Model:
    inputs = keras.Input(batch_shape=(8, 4), name="eight")
    return keras.Model(inputs, L.Dense(3)(inputs))


def broken() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), L.Dense(2)])
    model.layers[-1].set_weights([np.full((4, 2), np.nan), np.zeros(2)])
    return model


def nested() -> keras.Model:
    """A trained model inside another, with an optimizer of its own."""
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu")], name="inner")
    inner.compile("adam", "mse")
    inner.fit(np.zeros((2, 4)), np.zeros((2, 3)), verbose=0)
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, L.Dense(2)(inner(inputs)))
    outer.compile("adam", "mse", metrics=["mae"])
    return outer


def separable() -> keras.Model:
    x = image = keras.Input((8, 8, 3))
    x = L.SeparableConv2D(4, 3, activation="relu")(x)
    x = L.Conv2DTranspose(2, 3)(x)
    return keras.Model(image, L.Dense(2)(L.GlobalMaxPooling2D()(x)))


def deep() -> keras.Model:
    """Its config is longer than the 64 KiB that HDF5 keeps in an object's header."""
    x = inputs = keras.Input((4,))
    for _ in range(45):
        x = L.Activation("relu")(L.Dense(4)(x))
    return keras.Model(inputs, x)


class Doubled(L.Layer):
    def call(self, inputs):
        return inputs * 2


def lambdas(folder: Path) -> None:
    inputs = keras.Input((4,))
    hostile = keras.Model(
        inputs,
        L.Lambda(
            lambda x: (
                __import__("pathlib").Path(__import__("os").environ["EDGEQ_TEST_TRACE"]).touch(),
                x * 2.0,
            )[1],
            output_shape=(4,),
        )(inputs),
    )
    hostile.save(folder / "lambda.h5")
    hostile.save(folder / "lambda.keras")
    harmless = keras.Model(
        inputs, L.Dense(2)(L.Lambda(lambda x: x * 2.0, output_shape=(4,))(inputs))
    )
    harmless.save(folder / "harmless_lambda.h5")
    harmless.save(folder / "harmless_lambda.keras")
    keras.Model(inputs, Doubled()(inputs)).save(folder / "custom.keras")
    keras.Model(inputs, Doubled()(inputs)).save(folder / "custom.h5")
    config_with(folder / "custom.keras", folder / "get_file.keras")


def config_with(source: Path, target: Path) -> None:
    """A .keras whose config names a function of keras that downloads."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            if name == "config.json":
                config = json.loads(data)
                layer = config["config"]["layers"][1]
                layer.update(
                    module="keras.utils",
                    class_name="get_file",
                    registered_name=None,
                    config={"fname": "x", "origin": "http://127.0.0.1:1/x"},
                )
                data = json.dumps(config).encode()
            after.writestr(name, data)


def keras2(source: Path, target: Path) -> None:
    """The file as Keras 2 would have written it."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = json.dumps(as_keras2(config)).encode()
        file.attrs["keras_version"] = b"2.4.0"


def as_keras2(node: object) -> object:
    if isinstance(node, list):
        return [as_keras2(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("class_name") == "__keras_tensor__":
        return node
    if node.get("class_name") == "DTypePolicy":
        return node["config"]["name"]
    out = {k: as_keras2(v) for k, v in node.items() if k not in ("module", "registered_name")}
    out.pop("build_config", None)
    if isinstance(out.get("config"), dict):
        as_keras2_layer(out["class_name"], out["config"])
    if "inbound_nodes" in out:
        out["inbound_nodes"] = [keras2_node(n) for n in out["inbound_nodes"]]
        out["inbound_nodes"] = [n for n in out["inbound_nodes"] if n]
    return out


def as_keras2_layer(kind: str, config: dict) -> None:
    if kind == "InputLayer":
        config["batch_input_shape"] = config.pop("batch_shape", None)
        config["ragged"] = config["sparse"] = False
        config.pop("optional", None)
    if kind in ("DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"):
        config["groups"] = 1
    if kind == "SeparableConv2D":
        config["kernel_initializer"] = config["depthwise_initializer"]
        config["kernel_regularizer"] = config["kernel_constraint"] = None


def keras2_node(node: dict) -> list:
    history = [a["config"]["keras_history"] for a in node["args"] if isinstance(a, dict)]
    return [[*h, {}] for h in history]


def tflite(model: keras.Model, path: Path, batch: int | None, optimize: bool = False) -> None:
    inputs = keras.Input(batch_shape=(batch, *model.inputs[0].shape[1:]), name="image")
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, model(inputs)))
    if optimize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    path.write_bytes(converter.convert())


def int8(model: keras.Model) -> bytes:
    inputs = keras.Input(batch_shape=(1, *model.inputs[0].shape[1:]))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, model(inputs)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [np.random.rand(1, *model.inputs[0].shape[1:]).astype("float32")] for _ in range(4)
    )
    return converter.convert()


def saved_models(folder: Path) -> None:
    class Trained(tf.Module):
        """With optimizer slots, as Keras 2 saved them."""

        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(np.ones((4, 2), np.float32))
            self.optimizer = tf.keras.optimizers.Adam()
            self.optimizer.build([self.weight])

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": x @ self.weight}

    trained = Trained()
    tf.saved_model.save(trained, str(folder / "slots_saved"), trained.__call__)

    class Reader(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def __call__(self, x):
            text = tf.io.read_file("/etc/hostname")
            return {"y": x + tf.cast(tf.strings.length(text), tf.float32)}

    reader = Reader()
    tf.saved_model.save(reader, str(folder / "reads_file_saved"), reader.__call__)

    class Runs(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": tf.ensure_shape(tf.py_function(lambda v: v, [x], tf.float32), [None, 4])}

    runs = Runs()
    tf.saved_model.save(runs, str(folder / "py_function_saved"), runs.__call__)

    class TwoDoors(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def one(self, x):
            return {"y": x + 1.0}

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def two(self, x):
            return {"y": x + 2.0}

    doors = TwoDoors()
    signatures = {"one": doors.one, "two": doors.two}
    tf.saved_model.save(doors, str(folder / "two_doors_saved"), signatures)
    graph_style(folder / "v1_saved")


def graph_style(path: Path) -> None:
    """A SavedModel as TensorFlow 1 wrote it."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        weight = v1.get_variable("w", initializer=np.ones((4, 2), np.float32), use_resource=False)
        y = tf.matmul(x, weight, name="y")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"features": x}, {"scores": y})


def several_signatures(path: Path) -> None:
    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
        def one(self, x):
            return {"y": x + 1.0}

        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
        def two(self, x):
            return {"y": x * 2.0}

    module = Two()
    tf.saved_model.save(module, str(path.with_suffix("")), {"one": module.one, "two": module.two})
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(path.with_suffix("")), signature_keys=["one", "two"]
    )
    path.write_bytes(converter.convert())
    shutil.rmtree(path.with_suffix(""))
