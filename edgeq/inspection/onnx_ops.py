"""What the inputs of ONNX operators mean: scales, constants, settings."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.core.graph import Quantization

Node = Any
"""``onnx.NodeProto``, which has no types."""

# Places of inputs that say how, not what: bounds, scales, zero points, first states.
_SETTINGS: dict[str, frozenset[int]] = {
    "QuantizeLinear": frozenset({1, 2}),
    "DequantizeLinear": frozenset({1, 2}),
    "Clip": frozenset({1, 2}),
    "Resize": frozenset({1, 2, 3}),
    "Upsample": frozenset({1}),
    "Pad": frozenset({1, 2, 3}),
    "Dropout": frozenset({1, 2}),
    "OneHot": frozenset({1, 2}),
    "Range": frozenset({0, 1, 2}),
    "LSTM": frozenset({4, 5, 6}),
    "GRU": frozenset({4, 5}),
    "RNN": frozenset({4, 5}),
    "ConvInteger": frozenset({2, 3}),
    "MatMulInteger": frozenset({2, 3}),
    "QLinearConv": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearMatMul": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearAdd": frozenset({1, 2, 4, 5, 6, 7}),
    "QLinearMul": frozenset({1, 2, 4, 5, 6, 7}),
    "QGemm": frozenset({1, 2, 4, 5, 7, 8}),
    "MatMulNBits": frozenset({2, 3}),
}
# (the tensor's place, its scale's, its zero point's); the output is place -1
_SCALED: dict[str, tuple[tuple[int, int, int], ...]] = {
    "QuantizeLinear": ((-1, 1, 2),),
    "DequantizeLinear": ((0, 1, 2),),
    "QLinearConv": ((0, 1, 2), (3, 4, 5), (-1, 6, 7)),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5), (-1, 6, 7)),
    "QLinearAdd": ((0, 1, 2), (3, 4, 5), (-1, 6, 7)),
    "QLinearMul": ((0, 1, 2), (3, 4, 5), (-1, 6, 7)),
    "QGemm": ((0, 1, 2), (3, 4, 5), (-1, 7, 8)),
    **dict.fromkeys(
        (
            "QLinearAveragePool",
            "QLinearGlobalAveragePool",
            "QLinearLeakyRelu",
            "QLinearSigmoid",
            "QLinearSoftmax",
        ),
        ((0, 1, 2), (-1, 3, 4)),
    ),
}
_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Operators of com.microsoft that shape inference does not know: the plain one, and its inputs.
_PLAIN: dict[str, tuple[str, tuple[int, ...]]] = {
    "QuantizeLinear": ("Identity", (0,)),
    "DequantizeLinear": ("Identity", (0,)),
    "QLinearSigmoid": ("Identity", (0,)),
    "QLinearLeakyRelu": ("Identity", (0,)),
    "QLinearSoftmax": ("Identity", (0,)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QGemm": ("Gemm", (0, 3)),
    "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "MatMulIntegerToFloat": ("MatMul", (0, 1)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
}
FLOAT_RESULTS = frozenset({"DequantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"})
"""Operators whose result is float32, whatever the plain one's would be."""
_OWN_ATTRIBUTES = frozenset({"channels_last", "axis", "block_size", "alpha", "opset"})
_AT_RUN_TIME = Quantization(scales=(), zero_points=())
_UINT8 = 2  # onnx.proto, TensorProto.DataType
_WHOLE_SCALES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant:
    """``dtype``: ONNX's number. ``value``: of a constant with one number. ``proto``: None: none."""

    shape: tuple[int, ...]
    dtype: int
    value: float | None
    proto: Any


def settings(kind: str) -> frozenset[int]:
    """Places of a kind's inputs that hold settings, not trained numbers."""
    return _SETTINGS.get(kind, frozenset())


def trained(nodes: Iterable[Node], known: Mapping[str, Constant]) -> frozenset[str]:
    """Names of constants that some node, or one in a graph inside, reads as more than a setting."""
    return frozenset(name for node in nodes for name in _trained_by(node) if name in known)


def _trained_by(node: Node) -> Iterator[str]:
    no_weights = settings(node.op_type)
    yield from (name for place, name in enumerate(node.input) if place not in no_weights)
    for graph in graphs_of(node):
        own = _own_names(graph)
        for inner in graph.node:
            yield from (name for name in _trained_by(inner) if name not in own)


def captured(node: Node) -> tuple[str, ...]:
    """Names that the graphs inside a node take from outside it, each once."""
    found: dict[str, None] = {}
    for graph in graphs_of(node):
        own = _own_names(graph)
        read = (name for inner in graph.node for name in (*inner.input, *captured(inner)))
        returned = (item.name for item in graph.output)
        found.update((name, None) for name in (*read, *returned) if name and name not in own)
    return tuple(found)


def _own_names(graph: Any) -> set[str]:  # noqa: ANN401  see Node
    """What a graph defines itself; ONNX forbids it to define an outer graph's names anew."""
    own = {item.name for item in (*graph.input, *graph.initializer)}
    own.update(item.values.name for item in graph.sparse_initializer)
    own.update(name for node in graph.node for name in node.output)
    return own


def graphs_of(node: Node) -> Iterator[Any]:
    """Graphs in the attributes of a node: branches, bodies of loops."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def has_graphs(node: Node) -> bool:
    """Whether a node runs graphs inside it."""
    return next(graphs_of(node), None) is not None


def inner_graphs(graph: Any) -> Iterator[Any]:  # noqa: ANN401  see Node
    """Graphs in the attributes of nodes, and those inside them."""
    for node in graph.node:
        for inner in graphs_of(node):
            yield inner
            yield from inner_graphs(inner)


def constants(graph: Any) -> Iterator[tuple[str, Constant]]:  # noqa: ANN401  see Node
    """Initializers and the results of Constant nodes, by name."""
    from onnx import helper

    for item in graph.initializer:
        yield item.name, _constant(item)
    for item in graph.sparse_initializer:
        dense = Constant(
            shape=tuple(item.dims), dtype=item.values.data_type, value=None, proto=None
        )
        yield item.values.name, dense
    for node in graph.node:
        if node.op_type != "Constant" or not node.output:
            continue
        attribute = node.attribute[0]
        if attribute.name == "value":
            yield node.output[0], _constant(attribute.t)
        else:
            value = np.asarray(helper.get_attribute_value(attribute))
            kind = value.dtype if value.dtype.kind in "fi" else np.dtype("S")
            wide = {"f": np.float32, "i": np.int64}.get(kind.kind)
            number = helper.np_dtype_to_tensor_dtype(np.dtype(wide)) if wide else 8
            single = float(value.reshape(-1)[0]) if wide and value.size == 1 else None
            yield (
                node.output[0],
                Constant(shape=value.shape, dtype=int(number), value=single, proto=None),
            )


def inferred(model: Any) -> list[Any]:  # noqa: ANN401  see Node
    """Inputs, outputs and all between with their shapes; types of quantized ones may be wrong."""
    import onnx

    made = type(model)()
    made.CopyFrom(model)
    for node in made.graph.node:
        if node.domain != "com.microsoft" or node.op_type not in _PLAIN:
            continue
        kind, places = _PLAIN[node.op_type]
        inputs = [node.input[place] for place in places if place < len(node.input)]
        attributes = [item for item in node.attribute if item.name not in _OWN_ATTRIBUTES]
        node.op_type, node.domain = kind, ""
        del node.input[:], node.attribute[:]
        node.input.extend(inputs)
        node.attribute.extend(attributes)
    known = onnx.shape_inference.infer_shapes(made, data_prop=True).graph
    return [*known.value_info, *known.input, *known.output]


def quantizations(
    nodes: Sequence[Node], known: Mapping[str, Constant]
) -> Iterator[tuple[str, tuple[Quantization, int]]]:
    """Scales and zero points of tensors and their types (ONNX's numbers), by name."""
    for node in nodes:
        if node.op_type == "DynamicQuantizeLinear" and node.output:
            yield node.output[0], (_AT_RUN_TIME, _UINT8)
        for tensor, scale, zero_point in _SCALED.get(node.op_type, ()):
            sources = [
                known.get(node.input[place]) if place < len(node.input) else None
                for place in (scale, zero_point)
            ]
            name = node.output[0] if tensor == -1 else node.input[tensor]
            found = _quantization(node, sources[0], sources[1])
            if found:
                dtype = (
                    sources[1].dtype if sources[1] else attribute_of(node, "output_dtype", _UINT8)
                )
                yield name, (found, dtype or _UINT8)


def all_finite(constant: Constant) -> bool:
    """Whether no value is NaN or infinite; True where NumPy lacks the type."""
    if constant.proto is None:
        return constant.value is None or math.isfinite(constant.value)
    array = _array(constant.proto)
    try:
        return array is None or bool(np.all(np.isfinite(array)))
    except TypeError:  # a type of ml_dtypes that has no infinity
        return True


def _constant(tensor: Any) -> Constant:  # noqa: ANN401  see Node
    shape = tuple(int(side) for side in tensor.dims)
    value = None
    if math.prod(shape) == 1:
        array = _array(tensor)
        if array is not None and array.size == 1 and array.dtype.kind in "fiu":
            value = float(array.reshape(-1)[0])
    return Constant(shape=shape, dtype=tensor.data_type, value=value, proto=tensor)


def _array(tensor: Any) -> Any:  # noqa: ANN401  an array, or None where NumPy has no such type
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError):
        return None


def _quantization(
    node: Node, scale: Constant | None, zero_point: Constant | None
) -> Quantization | None:
    if scale is None or scale.proto is None or math.prod(scale.shape) > _WHOLE_SCALES:
        return None
    scales = _array(scale.proto)
    points = _array(zero_point.proto) if zero_point is not None and zero_point.proto else None
    if scales is None or scales.size == 0 or not np.all(np.isfinite(scales)):
        return None
    flat = tuple(float(value) for value in scales.astype(np.float64).reshape(-1))
    block = attribute_of(node, "block_size", 0)
    axis = None
    if len(flat) > 1:  # QLinearConv's weights have their channels first
        axis = attribute_of(node, "axis", 1) if node.op_type in _QDQ else 0
    return Quantization(
        scales=flat,
        zero_points=(0,) if points is None else tuple(int(value) for value in points.reshape(-1)),
        axis=axis,
        block=block or None,
    )


def attribute_of(node: Node, name: str, default: int) -> int:
    """A whole number among a node's attributes."""
    return next((int(item.i) for item in node.attribute if item.name == name), default)
