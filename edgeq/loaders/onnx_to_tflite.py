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
from edgeq.formats import onnx
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
    model = onnx.read(pinned)
    plain = partial(_convert, model, name, options, path)
    if not _images_out(model):
        return (plain,)
    return partial(_convert, _in_order(onnx.read(pinned)), name, options, path), plain


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


def _images_out(model: onnx.Model) -> list[Any]:
    """Outputs whose channels onnx2tf would move to the end."""
    return [
        item for item in model.graph.output if len(item.type.tensor_type.shape.dim) >= _IMAGE_RANK
    ]


def _in_order(model: onnx.Model) -> onnx.Model:
    """The model with outputs that go through one axis and back, which fixes the order of all."""
    from onnx import helper, numpy_helper

    graph = model.graph
    for item in _images_out(model):
        sides = [side.dim_value for side in item.type.tensor_type.shape.dim]
        inside, flat = f"{item.name}_inside", f"{item.name}_flat"
        for node in graph.node:
            for ends in (node.input, node.output):
                for place, name in enumerate(ends):
                    ends[place] = inside if name == item.name else name
        for before, after, shape in (
            (inside, flat, [1, math.prod(sides)]),
            (flat, item.name, sides),
        ):
            numbers = numpy_helper.from_array(np.array(shape, np.int64), f"{after}_shape")
            graph.initializer.append(numbers)
            graph.node.append(helper.make_node("Reshape", [before, numbers.name], [after]))
    return model
