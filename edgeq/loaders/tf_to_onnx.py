"""TensorFlow's functions and float .tflite files as .onnx, by tf2onnx."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgeq.core.model import Source
from edgeq.errors import ModelError
from edgeq.formats import onnx as files
from edgeq.formats.onnx import Model
from edgeq.formats.tflite import Runner
from edgeq.loaders import tensorflow
from edgeq.loaders.onnx import write_pivot
from edgeq.ports import LoadOptions

_OPSET = 18  # the newest that tf2onnx 1.17 writes


def keras_ways(
    source: Source,
    model: Any,  # noqa: ANN401  Keras is untyped
    options: LoadOptions,
    path: Path,
) -> tuple[Callable[[], None], ...]:
    """To write a built Keras model with a fixed batch as .onnx, the best first."""
    write = partial(tensorflow.convert_keras, source, model)
    return (
        partial(convert_keras, source, model, options, path),
        partial(export_keras, source, model, options, path),
        partial(through_tflite, source, write, options, path),
    )


def convert_function(source: Source, function: Any, options: LoadOptions, path: Path) -> None:  # noqa: ANN401
    """Write a concrete function as .onnx; its dict of outputs gives their names.

    Raises:
        ModelError: tf2onnx cannot.
    """
    import tf2onnx

    class Traced:
        """What tf2onnx wants of a ``tf.function``."""

        def get_concrete_function(self) -> Any:  # noqa: ANN401  TensorFlow is untyped
            return function

    def make() -> Model:
        return tf2onnx.convert.from_function(Traced(), input_signature=(), opset=_OPSET)[0]

    _write(source, make, options, path)


def convert_keras(source: Source, model: Any, options: LoadOptions, path: Path) -> None:  # noqa: ANN401
    """Write a built Keras model with a fixed batch as .onnx.

    Raises:
        ModelError: tf2onnx cannot.
    """
    import keras
    import tensorflow as tf

    specs = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]

    def answers(*arrays: Any) -> dict[str, Any]:  # noqa: ANN401
        given = keras.tree.pack_sequence_as(model.input, list(arrays))
        outputs = model(given, training=False)
        if isinstance(outputs, dict):
            named = outputs
        else:
            flat = keras.tree.flatten(outputs)
            named = {f"output_{i}": value for i, value in enumerate(flat)}
        # an output that is an input itself has no node of its own
        return {name: tf.identity(value) for name, value in named.items()}

    try:
        function = tf.function(answers).get_concrete_function(*specs)
    except tensorflow.errors() as error:
        raise _cannot(source, error) from error
    convert_function(source, function, options, path)


def export_keras(source: Source, model: Any, options: LoadOptions, path: Path) -> None:  # noqa: ANN401
    """The same with Keras' own export, which mends some of tf2onnx.

    Raises:
        ModelError: it cannot.
    """
    inputs = [tensor.name for tensor in model.inputs]
    outputs = (
        [] if isinstance(model.output, dict) else [f"output_{i}" for i in range(len(model.outputs))]
    )

    def make() -> Model:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / "keras.onnx"
            model.export(str(made), format="onnx", verbose=False, opset_version=_OPSET)
            exported = files.read(made)
        return renamed(exported, inputs, outputs)

    _write(source, make, options, path)


def convert_tflite(source: Source, tflite: Path, options: LoadOptions, path: Path) -> None:
    """Write a float .tflite that LiteRT has loaded as .onnx, with the same names.

    Raises:
        ModelError: tf2onnx cannot.
    """
    import tf2onnx

    tensors = Runner(tflite).tensors

    def make() -> Model:
        made = tf2onnx.convert.from_tflite(str(tflite), opset=_OPSET)[0]
        inputs, outputs = ([spec.name for spec in s] for s in (tensors.inputs, tensors.outputs))
        return renamed(made, inputs, outputs)

    _write(source, make, options, path)


def through_tflite(
    source: Source, write: Callable[[Path], None], options: LoadOptions, path: Path
) -> None:
    """For what tf2onnx does not know, but TFLite's converter breaks into simpler ops.

    Raises:
        ModelError: either cannot.
    """
    tflite = path.with_suffix(".tflite")
    write(tflite)
    convert_tflite(source, tflite, options, path)
    tflite.unlink()


def renamed(model: Model, inputs: Sequence[str], outputs: Sequence[str]) -> Model:
    """The model with other names of its inputs and outputs, in order; empty: they stay."""
    graph = model.graph
    ends = [*zip(graph.input, inputs, strict=False), *zip(graph.output, outputs, strict=False)]
    names = {item.name: name for item, name in ends}
    taken = set(names.values())
    for node in graph.node:
        for side in (node.input, node.output):
            for place, name in enumerate(side):
                side[place] = names.get(name, f"{name}_inside" if name in taken else name)
    for item in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        item.name = names.get(item.name, f"{item.name}_inside" if item.name in taken else item.name)
    return model


def _write(source: Source, make: Callable[[], Model], options: LoadOptions, path: Path) -> None:
    try:
        made = make()
    except tensorflow.errors() as error:
        raise _cannot(source, error) from error
    write_pivot(made, source.path.name, options, path)


def _cannot(source: Source, error: Exception) -> ModelError:
    return ModelError(
        f"tf2onnx cannot convert {source.path.name} to .onnx: {tensorflow.reason(error)}",
        hint="--format tflite",
    )
