"""Running a .tflite file with a look at every tensor, and operator by operator."""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.graph import Graph, fixed, present
from edgeq.core.macs import elements
from edgeq.errors import ModelError
from edgeq.inspection import tflite
from edgeq.inspection.tensors import Array

_THREADS = 2
_TYPES = frozenset(
    {"float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "int4"}
)


def constants(path: Path, graph: Graph) -> dict[int, Array]:
    """Values of the constants, as they are stored; without those of a type that NumPy lacks."""
    model = tflite.load(path)
    found = {}
    for number, (tensor, entry) in enumerate(
        zip(graph.tensors, model.subgraphs[0].tensors, strict=True)
    ):
        data = model.buffers[entry.buffer].data
        if tensor.constant and data is not None and tensor.dtype in _TYPES:
            values = _unpacked(bytes(data), tensor.dtype, elements(tensor.shape) or 0)
            if values.size == elements(tensor.shape):
                found[number] = values.reshape([side or 0 for side in tensor.shape or ()])
    return found


def _unpacked(data: bytes, dtype: str, count: int) -> Array:
    if dtype != "int4":
        return np.frombuffer(data, dtype)
    packed = np.frombuffer(data, np.int8)  # two a byte, the first in the low half
    return np.stack([packed << 4 >> 4, packed >> 4], axis=1).ravel()[:count]


class Trace:
    """A model that gives the values of all its tensors.

    Raises:
        ModelError: LiteRT cannot load it.
    """

    def __init__(self, path: Path, graph: Graph, wanted: Collection[int]) -> None:
        self._interpreter = _interpreter(path.name, path.read_bytes())
        self._graph = graph
        self._wanted = tuple(wanted)

    def run(self, inputs: Sequence[Array]) -> dict[int, Array]:
        """The wanted tensors as they are stored, for inputs in the model's order."""
        feed = dict(zip(self._graph.inputs, inputs, strict=True))
        return _run(self._interpreter, feed, {number: number for number in self._wanted})


class Cut:
    """A model cut between its operators: each gets its inputs from outside.

    Attributes:
        inputs: Numbers of the tensors to feed.
        outputs: Numbers of those that come out.

    Raises:
        ModelError: the model does not bear it.
    """

    def __init__(self, path: Path, raw: Graph, computed: Graph) -> None:
        del computed  # nothing is fused in a .tflite
        model = tflite.load(path)
        if len(model.subgraphs) > 1 or any(tensor.variable for tensor in raw.tensors):
            raise ModelError("a model with state or branches cannot be cut")
        self._places = _cut(model, raw)
        self.inputs = tuple(int(number) for number in model.subgraphs[0].inputs)
        self.outputs = tuple(self._places)
        self._interpreter = _interpreter(path.name, _packed(model))

    def run(self, feed: Mapping[int, Array]) -> dict[int, Array]:
        """Each operator's outputs for the inputs given, as they are stored."""
        return _run(self._interpreter, feed, self._places)


def _cut(model: Any, raw: Graph) -> dict[int, int]:  # noqa: ANN401  see tflite.load
    """Give every operator outputs of its own; from an output's number to the new one's."""
    main = model.subgraphs[0]
    constants = fixed(raw)
    inputs: dict[int, None] = {}
    places: dict[int, int] = {}
    for op, stored in zip(raw.ops, main.operators, strict=True):
        moving = [number for number in present(op.inputs) if number not in constants]
        if not moving:
            continue
        inputs.update(dict.fromkeys(moving))
        outputs = []
        for number in op.outputs:
            twin = copy(main.tensors[number])
            twin.name = b"%s/%d" % (tflite.text(twin.name).encode(), number)
            main.tensors.append(twin)
            places[number] = len(main.tensors) - 1
            outputs.append(places[number])
        stored.outputs = np.asarray(outputs, np.int32)
    main.inputs = np.asarray(list(inputs), np.int32)
    main.outputs = np.asarray(list(places.values()), np.int32)
    model.signatureDefs = None
    return places


def _packed(model: Any) -> bytes:  # noqa: ANN401  see tflite.load
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _interpreter(name: str, content: bytes) -> Any:  # noqa: ANN401  the library has no types
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        # a delegate computes its part of the graph out of sight
        made = Interpreter(
            model_content=content,
            num_threads=_THREADS,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        made.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"LiteRT cannot load {name}: {_line(error)}") from error
    return made


def _run(
    interpreter: Any,  # noqa: ANN401  see _interpreter
    feed: Mapping[int, Array],
    wanted: Mapping[int, int],
) -> dict[int, Array]:
    try:
        for number, values in feed.items():
            interpreter.set_tensor(number, values)
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"LiteRT cannot run the model: {_line(error)}") from error
    found = {number: _value(interpreter, place) for number, place in wanted.items()}
    return {number: values for number, values in found.items() if values is not None}


def _value(interpreter: Any, number: int) -> Array | None:  # noqa: ANN401  see _interpreter
    try:
        values = np.asarray(interpreter.get_tensor(number))
    except (ValueError, RuntimeError):  # not in memory, or no type of NumPy's
        return None
    return values if values.dtype.kind in "fiub" else None


def _line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:200].removesuffix(".")
