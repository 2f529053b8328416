"""Whole numbers at a quantized model's inputs and outputs, and what says how to read them."""

import json
from collections.abc import Mapping

import numpy as np

from edgeq.core.profile import TensorType
from edgeq.core.ranges import Range
from edgeq.formats.onnx import Model
from edgeq.formats.onnx_links import Links, Node, links

IO_KEY = "edgeq.io"
"""Metadata: JSON, ``{name: [scale, zero point]}`` of inputs and outputs of whole numbers. ONNX
Runtime shows it on the device, where nothing else reads the graph."""

_STEPS = 255


def set_types(
    model: Model, inputs: TensorType, outputs: TensorType, ranges: Mapping[str, Range]
) -> None:
    """Make float32 inputs and outputs of a QDQ model int8 or uint8, with the calibrated scale."""
    from onnx import TensorProto

    scales: dict[str, tuple[float, int]] = {}
    for item in model.graph.input:
        if inputs != "float32" and item.type.tensor_type.elem_type == TensorProto.FLOAT:
            scales[item.name] = _scale(ranges[item.name], inputs)
            _take_whole(model, item.name, inputs, scales[item.name])
            item.type.tensor_type.elem_type = _element(inputs)
    for item in model.graph.output:
        if outputs != "float32" and item.type.tensor_type.elem_type == TensorProto.FLOAT:
            scales[item.name] = _give_whole(model, item.name, outputs, ranges[item.name])
            item.type.tensor_type.elem_type = _element(outputs)
    if scales:
        model.metadata_props.add(key=IO_KEY, value=json.dumps(scales))


def _take_whole(model: Model, name: str, dtype: TensorType, scale: tuple[float, int]) -> None:
    """Put a DequantizeLinear behind an input; a QuantizeLinear to the same type goes."""
    facts = links(model)
    takers = facts.takers_of(name)
    first = next((q for q in takers if q.op_type == "QuantizeLinear"), None)
    if first is not None and len(takers) == 1 and _parameters(first, facts) == (dtype, *scale):
        for dq in facts.takers_of(first.output[0]):
            _swap(dq, first.output[0], name)
        model.graph.node.remove(first)
        return
    result = f"{name}_float"
    for taker in takers:
        _swap(taker, name, result)
    node = _node(model, "DequantizeLinear", name, result, dtype, scale)
    model.graph.node.insert(0, node)


def _give_whole(model: Model, name: str, dtype: TensorType, seen: Range) -> tuple[float, int]:
    """Put a QuantizeLinear before an output; a DequantizeLinear of the same type goes."""
    facts = links(model)
    maker = facts.makers[name]
    if maker.op_type == "DequantizeLinear" and not facts.takers_of(name):
        kind, scale, zero = _parameters(maker, facts)
        q = facts.makers.get(maker.input[0])
        if kind == dtype and q is not None and facts.takers_of(maker.input[0]) == (maker,):
            q.output[0] = name
            model.graph.node.remove(maker)
            return scale, zero
    scale_zero = _scale(seen, dtype)
    result = f"{name}_float"
    for node in (maker, *facts.takers_of(name)):
        _swap(node, name, result)
    model.graph.node.append(_node(model, "QuantizeLinear", result, name, dtype, scale_zero))
    return scale_zero


def _scale(seen: Range, dtype: TensorType) -> tuple[float, int]:
    """Of a range that holds 0, as onnxruntime.quantization has them."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    smallest = int(np.iinfo(dtype).min)
    if high == low:
        return 1.0, smallest
    scale = np.float32((np.float64(np.float32(high)) - np.float64(np.float32(low))) / _STEPS)
    zero = int(np.rint(smallest - np.float64(np.float32(low)) / np.float64(scale)))
    return float(scale), zero


def _parameters(node: Node, facts: Links) -> tuple[str, float, int]:
    scale, zero = (facts.value(name) for name in node.input[1:3])
    if scale is None or zero is None or scale.size != 1:
        return "", 0.0, 0
    return zero.dtype.name, float(scale.item()), int(zero.item())


def _node(
    model: Model, op_type: str, source: str, target: str, dtype: TensorType,
    scale: tuple[float, int],
) -> Node:  # fmt: skip
    from onnx import helper, numpy_helper

    names = [f"{target}_edge_scale", f"{target}_edge_zero_point"]
    values = np.array(scale[0], np.float32), np.array(scale[1], dtype)
    for name, value in zip(names, values, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return helper.make_node(op_type, [source, *names], [target], f"{target}_edge")


def _swap(node: Node, old: str, new: str) -> None:
    for names in (node.input, node.output):
        for place, name in enumerate(names):
            if name == old:
                names[place] = new


def _element(dtype: TensorType) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
