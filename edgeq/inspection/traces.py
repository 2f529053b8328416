"""Models that can be looked into while they run, by format."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edgeq.core.graph import Graph
from edgeq.core.profile import Format
from edgeq.inspection import trace_onnx, trace_tflite
from edgeq.inspection.tensors import Array


class Trace(Protocol):
    """A model that shows its tensors."""

    def run(self, inputs: Sequence[Array]) -> dict[int, Array]:
        """The wanted tensors as they are stored, for inputs in the model's order."""


class Cut(Protocol):
    """A model cut between its operators: ``inputs`` are to be fed, ``outputs`` come out."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def run(self, feed: Mapping[int, Array]) -> dict[int, Array]:
        """Each operator's outputs for the inputs given, as they are stored."""


def constants(format_: Format, path: Path, graph: Graph) -> dict[int, Array]:
    """Values of the constants, as they are stored; without those of a type that NumPy lacks."""
    match format_:
        case "tflite":
            return trace_tflite.constants(path, graph)
        case "onnx":
            return trace_onnx.constants(path, graph)


def trace(format_: Format, path: Path, graph: Graph, wanted: Collection[int]) -> Trace:
    """A model that shows the wanted tensors.

    Raises:
        ModelError: its runtime cannot load it.
    """
    match format_:
        case "tflite":
            return trace_tflite.Trace(path, graph, wanted)
        case "onnx":
            return trace_onnx.Trace(path, graph, wanted)


def cut(format_: Format, path: Path, raw: Graph, computed: Graph) -> Cut:
    """A model cut between its operators.

    Raises:
        ModelError: it does not bear it.
    """
    match format_:
        case "tflite":
            return trace_tflite.Cut(path, raw, computed)
        case "onnx":
            return trace_onnx.Cut(path, raw, computed)
