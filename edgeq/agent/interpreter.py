"""The interpreter that LiteRT and tflite-runtime have in common, as a ``Runner``.

Inputs and outputs are counted by ``get_input_details()`` and ``get_output_details()``, the
subgraph's order; a signature may list them in another one.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path

from edgeq import wire
from edgeq.agent.ports import Array, Tensor

SUFFIX = ".tflite"

Interpreter = typing.Any  # of either package; they have no type in common


class InterpreterRunner:
    """A loaded model; ``invoke`` is the interpreter's own method, with nothing around it."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._inputs = [int(detail["index"]) for detail in interpreter.get_input_details()]
        self._outputs = [int(detail["index"]) for detail in interpreter.get_output_details()]
        self.inputs = tuple(_tensor(detail) for detail in interpreter.get_input_details())
        self.outputs = tuple(_tensor(detail) for detail in interpreter.get_output_details())
        self.invoke: typing.Callable[[], None] = interpreter.invoke

    def resize(self, shapes: typing.Sequence[tuple[int, ...]]) -> None:
        for index, tensor, shape in zip(self._inputs, self.inputs, shapes):
            if shape != tensor.shape:
                self._interpreter.resize_tensor_input(index, list(shape))
        self._interpreter.allocate_tensors()

    def set(self, position: int, value: Array) -> None:
        self._interpreter.set_tensor(self._inputs[position], value)

    def get(self, position: int) -> Array:
        return self._interpreter.get_tensor(self._outputs[position])

    def placements(self) -> tuple[wire.Placement, ...]:
        return ()  # XNNPACK says so on standard error; see measure.py


def providers() -> tuple[str, ...]:
    return ()


def check(model: Path) -> None:
    """Nothing to look for: a .tflite names no other files."""


def version_of(package: types.ModuleType, distribution: str) -> str:
    """A package's own word, else that of its metadata, which unpacked wheels carry too."""
    own = getattr(package, "__version__", "")
    if own:
        return str(own)
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _tensor(detail: dict[str, typing.Any]) -> Tensor:
    import numpy as np

    shape = tuple(int(size) for size in detail["shape"])
    signature = tuple(int(size) for size in detail.get("shape_signature", ()))
    scale, zero_point = detail["quantization"]
    return Tensor(
        name=str(detail["name"]),
        shape=shape,
        signature=signature or shape,
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )
