"""An .onnx file as a graph."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeq.core.graph import ABSENT, FLOATS, Graph, Op, Tensor
from edgeq.core.macs import Shape
from edgeq.errors import ModelError
from edgeq.formats import onnx as files
from edgeq.formats import onnx_order
from edgeq.inspection import onnx_macs, onnx_ops

CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_TYPES = {
    "float": "float32",
    "double": "float64",
    "float8e4m3fn": "float8",
    "float8e4m3fnuz": "float8",
    "float8e5m2": "float8",
    "float8e5m2fnuz": "float8",
    "float8e8m0": "float8",
    "float4e2m1": "float4",
}
_NAMED = 3  # in a note; the first ones say enough
_OWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


def read(path: Path) -> Graph:
    """The main graph of the file; functions are put in where they are called.

    Raises:
        ModelError: it is damaged, or keeps data in another file.
    """
    model = files.read(path)
    try:
        model, open_axes = prepared(model)
        return _Reader(model, open_axes).graph()
    except files.errors() as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{path.name} is damaged: {files.reason(error)}", hint="export or download it again"
        ) from error


def prepared(model: files.Model) -> tuple[files.Model, tuple[str, ...]]:
    """Functions put in, nodes sorted, an open batch taken as 1; and the open axes of the inputs.

    Raises:
        ModelError: the nodes wait for each other in a circle.
    """
    from onnx import inliner

    if model.functions:
        model = inliner.inline_local_functions(model)
    onnx_order.sort(model.graph)
    constants = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in constants]
    open_axes = [name for item in inputs for name in _pin_batch(item)]
    del model.graph.value_info[:]
    if open_axes:  # what stands there still speaks of the open axis
        for item in model.graph.output:
            item.type.tensor_type.ClearField("shape")
    return model, tuple(open_axes)


def _pin_batch(item: Any) -> list[str]:  # noqa: ANN401  protobuf's classes have no types
    """Make an open batch 1; the names of all open axes."""
    sides = list(enumerate(item.type.tensor_type.shape.dim))
    found = [axis for axis, side in sides if side.WhichOneof("value") != "dim_value"]
    if 0 in found:
        sides[0][1].dim_value = 1
    return [f"axis {axis} of {item.name}" for axis in found]


class _Reader:
    def __init__(self, model: files.Model, open_axes: tuple[str, ...]) -> None:
        self._model = model
        self._graph = model.graph
        self._inferred = onnx_ops.inferred(model)
        self._open_axes = open_axes
        self._constants = dict(onnx_ops.constants(self._graph))
        self._nodes = [node for node in self._graph.node if node.op_type != "Constant"]
        self._types = dict(self._known_types())
        self._scales = dict(onnx_ops.quantizations(self._nodes, self._constants))
        self._parameters = onnx_ops.trained(self._nodes, self._constants)
        self._numbers: dict[str, int] = {}
        self._tensors: list[Tensor] = []

    def graph(self) -> Graph:
        inputs = tuple(
            self._number(item.name)
            for item in self._graph.input
            if item.name not in self._constants
        )
        for name in self._constants:
            self._number(name)
        ops = tuple(self._op(place, node) for place, node in enumerate(self._nodes))
        outputs = tuple(self._number(item.name) for item in self._graph.output)
        return Graph(
            tensors=tuple(self._tensors),
            ops=ops,
            inputs=inputs,
            outputs=outputs,
            inner=tuple(self._inner()),
            input_names=tuple(self._tensors[n].name for n in inputs),
            output_names=tuple(self._tensors[n].name for n in outputs),
            open_axes=self._open_axes,
            notes=tuple(self._notes()),
            conversions=CONVERSIONS,
        )

    def _number(self, name: str) -> int:
        if not name:
            return ABSENT
        if name not in self._numbers:
            self._numbers[name] = len(self._tensors)
            self._tensors.append(self._tensor(name))
        return self._numbers[name]

    def _tensor(self, name: str) -> Tensor:
        constant = self._constants.get(name)
        dtype, shape = self._types.get(name, ("unknown", None))
        quantization = None
        if name in self._scales:
            quantization, number = self._scales[name]
            dtype = _type_name(number)
        if constant is not None:
            dtype, shape = _type_name(constant.dtype), constant.shape
        trained = dtype in FLOATS or quantization is not None or dtype in ("int4", "uint4")
        return Tensor(
            name=name,
            shape=shape,
            dtype=dtype,
            constant=constant is not None,
            parameter=constant is not None and trained and name in self._parameters,
            storage=len(self._tensors) if constant is not None else None,
            quantization=quantization,
            value=constant.value if constant is not None else None,
        )

    def _op(self, place: int, node: Any) -> Op:  # noqa: ANN401  protobuf's classes have no types
        nested = onnx_ops.has_graphs(node)
        own = set(node.input)
        names = (*node.input, *(n for n in onnx_ops.captured(node) if n not in own))
        inputs = tuple(self._number(name) for name in names)
        outputs = tuple(self._number(name) for name in node.output)
        shapes = [self._tensors[n].shape if n != ABSENT else None for n in inputs]
        result = self._tensors[outputs[0]].shape if outputs and outputs[0] != ABSENT else None
        builtin = node.domain in _OWN_DOMAINS
        return Op(
            kind=node.op_type if builtin else f"{node.domain}.{node.op_type}",
            name=node.name or (node.output[0] if node.output else node.op_type),
            inputs=inputs,
            outputs=outputs,
            macs=onnx_macs.macs_of(node, shapes, result) if builtin and not nested else None,
            builtin=builtin,
            parts=(place,),
            nested=nested,
        )

    def _known_types(self) -> Iterator[tuple[str, tuple[str, Shape]]]:
        floats = {
            name
            for node in self._nodes
            if node.domain == "com.microsoft" and node.op_type in onnx_ops.FLOAT_RESULTS
            for name in node.output
        }
        for item in self._inferred:
            kind = item.type.tensor_type
            shape: Shape = None
            if kind.HasField("shape"):
                shape = tuple(_side(side) for side in kind.shape.dim)
            dtype = "float32" if item.name in floats else _type_name(kind.elem_type)
            yield item.name, (dtype, shape)

    def _inner(self) -> Iterator[Tensor]:
        """Constants of the graphs inside nodes; numbered after all of the main graph's."""
        storage = len(self._tensors)
        for graph in onnx_ops.inner_graphs(self._graph):
            constants = dict(onnx_ops.constants(graph))
            trained = onnx_ops.trained(graph.node, constants)
            for name, constant in constants.items():
                storage += 1
                dtype = _type_name(constant.dtype)
                yield Tensor(
                    name=name,
                    shape=constant.shape,
                    dtype=dtype,
                    constant=True,
                    parameter=dtype in FLOATS and name in trained,
                    storage=storage,
                )

    def _notes(self) -> Iterator[str]:
        inner = {node.op_type for node in self._nodes if onnx_ops.has_graphs(node)}
        if inner:
            yield f"the graphs inside {', '.join(sorted(inner))} are not counted"
        if strange := list(self._not_finite()):
            more = f" and {len(strange) - _NAMED} more" if len(strange) > _NAMED else ""
            yield f"NaN or infinite values in the weights {', '.join(strange[:_NAMED])}{more}"

    def _not_finite(self) -> Iterator[str]:
        """Names of float parameters, those of inner graphs too, that hold such values."""
        for graph in (self._graph, *onnx_ops.inner_graphs(self._graph)):
            known = dict(onnx_ops.constants(graph))
            trained = onnx_ops.trained(graph.node, known)
            for name, constant in known.items():
                weight = name in trained and _type_name(constant.dtype) in FLOATS
                if weight and not onnx_ops.all_finite(constant):
                    yield name


def _side(side: Any) -> int | None:  # noqa: ANN401  see _op
    known = side.WhichOneof("value") == "dim_value" and side.dim_value >= 0
    return int(side.dim_value) if known else None


def _type_name(number: int) -> str:
    from onnx import TensorProto

    names: Mapping[int, str] = {value: key for key, value in TensorProto.DataType.items()}
    name = names.get(number, f"type {number}").lower()
    return _TYPES.get(name, name)
