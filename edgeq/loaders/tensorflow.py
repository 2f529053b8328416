"""What the loaders that need TensorFlow share: its converter and its errors."""

import re
import textwrap
from pathlib import Path
from typing import Any

from edgeq.core.model import Source
from edgeq.errors import ModelError

# What Keras and TensorFlow raise for a model that they cannot take. TensorFlow's own errors have
# no common root but Exception; ``convert`` and ``translate`` add them.
ERRORS = (
    ValueError, TypeError, KeyError, AttributeError, OSError, RuntimeError, ImportError,
    NotImplementedError, IndexError, AssertionError,
)  # fmt: skip
_REASON_CHARACTERS = 300
_CAUSE = "Exception encountered:"
_CALL = "Exception encountered when calling"
_NOISE = re.compile(r"\x1b\[\d+m|\{\{.*?\}\}")  # bold letters, names of graph nodes


def version() -> str:
    import tensorflow as tf

    text: str = tf.__version__
    return text


def errors() -> tuple[type[Exception], ...]:
    """``ERRORS`` and TensorFlow's own; imports TensorFlow."""
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    return (*ERRORS, tf.errors.OpError, ConverterError)


def convert_keras(source: Source, model: Any, path: Path) -> None:  # noqa: ANN401  untyped
    """Write a built Keras model with a fixed batch as .tflite.

    Raises:
        ModelError: TensorFlow cannot.
    """
    import tensorflow as tf

    _write(source, tf.lite.TFLiteConverter.from_keras_model(model), path)


def convert_function(source: Source, function: Any, module: Any, path: Path) -> None:  # noqa: ANN401
    """Write a concrete function that is an attribute of ``module`` as .tflite.

    Raises:
        ModelError: TensorFlow cannot.
    """
    import tensorflow as tf

    _write(source, tf.lite.TFLiteConverter.from_concrete_functions([function], module), path)


def reason(error: BaseException) -> str:
    """The line that says most: what Keras wrapped into longer ones, else the first."""
    text = _NOISE.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith(_CALL):
        del lines[0]
    causes = [line for line in lines if line.startswith(_CAUSE)]
    telling = causes[-1].removeprefix(_CAUSE).strip() if causes else ""
    telling = telling or (lines[0] if lines else type(error).__name__)
    return textwrap.shorten(telling, _REASON_CHARACTERS, placeholder=" …")


def _write(source: Source, converter: Any, path: Path) -> None:  # noqa: ANN401  untyped
    try:
        flatbuffer = converter.convert()
    except errors() as error:
        raise ModelError(
            f"TensorFlow cannot convert {source.path.name} to .tflite: {_converter_reason(error)}",
            hint="edgeq takes models of TFLite's built-in ops: https://ai.google.dev/edge/litert",
        ) from error
    path.write_bytes(flatbuffer)


def _converter_reason(error: Exception) -> str:
    text = str(error)
    for start in ("Flex ops: ", "Custom ops: "):
        if start in text:
            ops = text.split(start, 1)[1].split("\n", 1)[0].strip()
            return f"it has no {ops}"[:_REASON_CHARACTERS]
    return reason(error)
