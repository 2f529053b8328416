"""A pinned .onnx as a float .tflite, by onnx2tf in its own environment."""

import math
import os
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import worker
from edgeq.errors import ModelError
from edgeq.formats import onnx, tflite
from edgeq.loaders import onnx2tf_work
from edgeq.packages import find
from edgeq.ports import LoadOptions

ENVIRONMENT = "onnx2tf"
_IMAGE_RANK = 4


def ways(
    pinned: Path, name: str, options: LoadOptions, path: Path
) -> tuple[Callable[[], None], ...]:
    """To write ``path``, the best first; each raises ModelError where onnx2tf cannot.

    Args:
        pinned: An .onnx of fixed shapes, batch 1.
        name: Of the user's file.
        options: See there; ``pythons`` has the environment.
        path: To write.
    """
    models = [onnx.read(pinned)]
    if _images_out(models[0]):
        models = [*(_in_order(onnx.read(pinned), how) for how in (_squeezed, _flattened)), *models]
    return tuple(partial(_convert, model, name, options, path) for model in models)


def tools() -> dict[str, str]:
    """Name and version, as the environment's list pins it."""
    found = re.search(r"^onnx2tf==(\S+)", find(ENVIRONMENT).main.path.read_text(), re.MULTILINE)
    return {"onnx2tf": found[1]} if found else {}


def _convert(model: onnx.Model, name: str, options: LoadOptions, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="onnx2tf-") as folder:
        given, made = Path(folder) / "given.onnx", Path(folder) / "made"
        onnx.write(model, given)
        made.mkdir()
        reply = worker.call(
            onnx2tf_work.convert,
            onnx2tf_work.Request(onnx=given, folder=made, name=name),
            log=options.log or Path(os.devnull),
            python=options.pythons[ENVIRONMENT],
        )
        reply.path.replace(path)
    try:
        tflite.Runner(path)
    except ModelError as error:  # what it has no operator for becomes a custom one
        raise ModelError(
            f"onnx2tf cannot convert {name} to .tflite: "
            + error.message.replace(path.name, "what it made"),
            hint="--format onnx",
        ) from error


def _images_out(model: onnx.Model) -> list[Any]:
    """Outputs whose channels onnx2tf would move to the end."""
    return [
        item for item in model.graph.output if len(item.type.tensor_type.shape.dim) >= _IMAGE_RANK
    ]


def _in_order(
    model: onnx.Model, how: Callable[[onnx.Model, str, str, list[int]], None]
) -> onnx.Model:
    """The model with outputs that take another shape and back, which fixes the order of axes."""
    for item in _images_out(model):
        sides = [side.dim_value for side in item.type.tensor_type.shape.dim]
        inside = f"{item.name}_inside"
        for node in model.graph.node:
            for ends in (node.input, node.output):
                for place, name in enumerate(ends):
                    ends[place] = inside if name == item.name else name
        how(model, inside, item.name, sides)
    return model


def _squeezed(model: onnx.Model, before: str, after: str, sides: list[int]) -> None:
    longer = f"{after}_longer"
    _append(model, "Reshape", before, longer, [*sides, 1])
    _append(model, "Squeeze", longer, after, [len(sides)])


def _flattened(model: onnx.Model, before: str, after: str, sides: list[int]) -> None:
    """For what onnx2tf cannot do with the first way."""
    flat = f"{after}_flat"
    _append(model, "Reshape", before, flat, [1, math.prod(sides)])
    _append(model, "Reshape", flat, after, sides)


def _append(model: onnx.Model, kind: str, before: str, after: str, numbers: list[int]) -> None:
    from onnx import helper, numpy_helper

    constant = numpy_helper.from_array(np.array(numbers, np.int64), f"{after}_numbers")
    model.graph.initializer.append(constant)
    model.graph.node.append(helper.make_node(kind, [before, constant.name], [after]))
