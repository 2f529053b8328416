"""Running an .onnx file with a look at every tensor, and operator by operator."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.fusion import TO_FLOAT
from edgeq.core.graph import Graph, Op, fixed, present, producers
from edgeq.errors import ModelError
from edgeq.formats import onnx as files
from edgeq.inspection import onnx as reader
from edgeq.inspection.tensors import Array

_TYPES = frozenset(
    {"float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"}
)


def constants(path: Path, graph: Graph) -> dict[int, Array]:
    """Values of the constants, as they are stored; without those of a type that NumPy lacks."""
    from onnx import numpy_helper

    stored = {item.name: item for item in files.read(path).graph.initializer}
    found = {}
    for number, tensor in enumerate(graph.tensors):
        if tensor.name in stored and tensor.dtype in _TYPES:
            found[number] = np.asarray(numpy_helper.to_array(stored[tensor.name]))
    return found


class Trace:
    """A model that gives the values of tensors.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """

    def __init__(self, path: Path, graph: Graph, wanted: Collection[int]) -> None:
        self._model, _ = reader.prepared(files.read(path))
        self._names = {number: graph.tensors[number].name for number in wanted}
        self._inputs = tuple(graph.tensors[number].name for number in graph.inputs)
        there = {item.name for item in self._model.graph.output}
        given = {item.name for item in self._model.graph.input}
        for name in dict.fromkeys(self._names.values()):
            if name not in there | given:
                self._model.graph.output.add().name = name
        self._session = files.session(self._model, path.name)

    def run(self, inputs: Sequence[Array]) -> dict[int, Array]:
        """The wanted tensors as they are stored, for inputs in the model's order."""
        feed = dict(zip(self._inputs, inputs, strict=True))
        found = {**files.run(self._session, feed), **feed}
        values = {number: np.asarray(found[name]) for number, name in self._names.items()}
        return {number: array for number, array in values.items() if array.dtype.kind in "fiub"}


class Cut:
    """A model cut between its operators: each gets its inputs from outside.

    Attributes:
        inputs: Numbers of the tensors to feed.
        outputs: Numbers of those that come out.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """

    def __init__(self, path: Path, raw: Graph, computed: Graph) -> None:
        model, _ = reader.prepared(files.read(path))
        cut = _Cutter(model, raw, computed)
        made = cut.model()
        self._names = {number: raw.tensors[number].name for number in cut.inputs}
        self._outputs = cut.outputs
        self.inputs = tuple(cut.inputs)
        self.outputs = tuple(cut.outputs)
        self._session = files.session(made, path.name)

    def run(self, feed: Mapping[int, Array]) -> dict[int, Array]:
        """Each operator's outputs for the inputs given, as they are stored."""
        named = {self._names[number]: values for number, values in feed.items()}
        found = files.run(self._session, named)
        return {number: np.asarray(found[name]) for number, name in self._outputs.items()}


class _Cutter:
    """Copies each operator with what was fused to it, under names of its own."""

    def __init__(self, model: files.Model, raw: Graph, computed: Graph) -> None:
        self._source = model
        self._raw = raw
        self._computed = computed
        self._constants = fixed(raw)
        self._producers = producers(raw)
        self._nodes = [node for node in model.graph.node if node.op_type != "Constant"]
        self.inputs: dict[int, None] = {}
        self.outputs: dict[int, str] = {}

    def model(self) -> files.Model:
        made = type(self._source)()
        made.CopyFrom(self._source)
        graph = made.graph
        del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
        graph.node.extend(node for node in self._source.graph.node if node.op_type == "Constant")
        graph.node.extend(self._constant_nodes())
        for place, op in enumerate(self._computed.ops):
            if any(number not in self._constants for number in present(op.inputs)):
                graph.node.extend(self._copies(place, op))
        for number in self.inputs:
            graph.input.append(self._declared(number))
        for name in self.outputs.values():
            graph.output.add().name = name
        return made

    def _constant_nodes(self) -> Iterator[Any]:
        for op, node in zip(self._raw.ops, self._nodes, strict=True):
            if all(number in self._constants for number in present(op.inputs)):
                yield node

    def _copies(self, place: int, op: Op) -> list[Any]:
        """The operator's nodes: what makes its inputs float, itself, what was fused to it."""
        parts = [*self._feeders(op), *op.parts]
        made = {
            number: f"{self._raw.tensors[number].name}/{place}"
            for part in parts
            for number in present(self._raw.ops[part].outputs)
        }
        copies = []
        for part in parts:
            raw, copy = self._raw.ops[part], type(self._nodes[part])()
            copy.CopyFrom(self._nodes[part])
            for slot, number in enumerate(raw.inputs):
                if number in made:
                    copy.input[slot] = made[number]
                elif number >= 0 and number not in self._constants:
                    self.inputs[number] = None
            for slot, number in enumerate(raw.outputs):
                if number in made:
                    copy.output[slot] = made[number]
            copy.name = f"{copy.name}/{place}/{part}"
            copies.append(copy)
        for number in present(op.outputs):
            self.outputs[number] = made[number]
        return copies

    def _feeders(self, op: Op) -> list[int]:
        """DequantizeLinear operators that fusion took away."""
        needed = []
        for number in present(self._raw.ops[op.parts[0]].inputs):
            if number in self._constants or number in op.inputs:
                continue
            source = self._producers.get(number)
            if source is not None and self._raw.ops[source].kind == TO_FLOAT:
                needed.append(source)
        return list(dict.fromkeys(needed))

    def _declared(self, number: int) -> Any:  # noqa: ANN401  protobuf's classes have no types
        from onnx import TensorProto, helper

        tensor = self._raw.tensors[number]
        if tensor.dtype not in _TYPES:
            raise ModelError(f"the type of {tensor.name} is not known before it runs")
        kinds = {"float32": "FLOAT", "float64": "DOUBLE"}
        kind = TensorProto.DataType.Value(kinds.get(tensor.dtype, tensor.dtype.upper()))
        return helper.make_tensor_value_info(tensor.name, kind, tensor.shape)
