"""Bias correction of a float .onnx."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeq.core import bias
from edgeq.core.bias import Doubles, Window
from edgeq.formats import Array
from edgeq.formats import onnx as files
from edgeq.formats.onnx import Model
from edgeq.formats.onnx_links import Links, Node, links

_LAYERS = frozenset({"Conv", "Gemm"})
_DATA, _WEIGHTS, _BIAS = 0, 1, 2

Means = Mapping[str, Doubles]
"""Of each layer, by its node's name: what ``core.bias.shift`` takes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layer:
    """A node with constant weights and a constant bias, one number a channel, that only it takes.

    Attributes:
        weights: Output channels first, input channels last; a depthwise layer has none of those.
    """

    node: Node
    weights: Doubles
    depthwise: bool


def measure(model: Model, feeds: Iterable[Mapping[str, Array]]) -> Means:
    """The means of a float model over real inputs.

    Args:
        model: Simplified, every node named.
        feeds: Inputs by name.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    layers = tuple(_layers(model, links(model)))
    loaded = files.session(_showing(model, layers), "the float model")
    sums: dict[str, Doubles] = {}
    count = 0
    for feed in feeds:
        values = {**feed, **files.run(loaded, feed)}
        count += 1
        for layer in layers:
            node = layer.node
            mean = _mean(layer, values[node.input[_DATA]], values[node.output[0]].shape)
            sums[node.name] = sums.get(node.name, np.zeros(1)) + mean
    return {name: total / count for name, total in sums.items()}


def corrected(model: Model, quantized: Model, means: Means) -> Model:
    """A copy of the float model with other biases.

    Args:
        model: As given to ``measure``.
        quantized: What a recipe makes of it (QDQ); layers are found again by their nodes' names.
        means: Of ``model``.
    """
    from onnx import numpy_helper

    made = files.copy(model)
    facts, rounded = links(made), links(quantized)
    nodes = {node.name: node for node in quantized.graph.node}
    for layer in _layers(made, facts):
        mean, other = means.get(layer.node.name), nodes.get(layer.node.name)
        weights = None if other is None else _dequantized(other, rounded)
        if mean is None or weights is None:
            continue
        error = _channels_outside(layer.node, weights).reshape(layer.weights.shape) - layer.weights
        shift = bias.shift(error, mean, depthwise=layer.depthwise)
        tensor = facts.constants[layer.node.input[_BIAS]]
        values = numpy_helper.to_array(tensor)
        new = (values.astype(np.float64) - shift.reshape(values.shape)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    return made


def _showing(model: Model, layers: Iterable[_Layer]) -> Model:
    """A copy that also gives the inputs and outputs of layers."""
    from onnx import TensorProto, helper

    watched = files.copy(model)
    own = {item.name for item in (*model.graph.input, *model.graph.output)}
    both = [(layer.node.input[_DATA], layer.node.output[0]) for layer in layers]
    for name in dict.fromkeys(name for pair in both for name in pair):
        if name not in own:
            info = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            watched.graph.output.append(info)
    return watched


def _layers(model: Model, facts: Links) -> Iterator[_Layer]:
    for node in model.graph.node:
        weights = facts.value(node.input[_WEIGHTS]) if node.op_type in _LAYERS else None
        bias_name = node.input[_BIAS] if len(node.input) > _BIAS else ""
        if weights is None or not bias_name or len(facts.takers_of(bias_name)) != 1:
            continue
        channels = weights.shape[_channels_axis(node)]
        values = facts.value(bias_name)
        groups = int(_attribute(node, "group", 1))
        depthwise = groups > 1 and weights.shape[1] == 1
        plain = all(_attribute(node, name, 1.0) == 1 for name in ("alpha", "beta"))
        if values is None or values.size != channels or (groups > 1 and not depthwise) or not plain:
            continue
        outside = _channels_outside(node, weights.astype(np.float64))
        yield _Layer(
            node=node, weights=outside[..., 0] if depthwise else outside, depthwise=depthwise
        )


def _attribute(node: Node, name: str, default: float) -> float:
    for item in node.attribute:
        if item.name == name:
            return float(item.f if item.type == item.FLOAT else item.i)
    return default


def _channels_axis(node: Node) -> int:
    return 1 if node.op_type == "Gemm" and not _attribute(node, "transB", 0) else 0


def _channels_outside(node: Node, weights: Doubles) -> Doubles:
    """Output channels first, input channels last."""
    if node.op_type == "Gemm":
        return weights.T if _channels_axis(node) else weights
    return np.moveaxis(weights, 1, -1)


def _dequantized(node: Node, facts: Links) -> Doubles | None:
    """Real values of a layer's rounded weights; None: they are not rounded."""
    maker = facts.makers.get(node.input[_WEIGHTS])
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    parts = [facts.value(name) for name in maker.input]
    if any(part is None for part in parts):
        return None
    whole, scale, zero = (np.asarray(part, np.float64) for part in (*parts, np.zeros(1))[:3])
    axis = int(_attribute(maker, "axis", 1))
    along = [-1 if i == axis and scale.size > 1 else 1 for i in range(whole.ndim)]
    zero = zero if zero.size == scale.size else np.zeros(scale.size)
    found: Doubles = (whole - zero.reshape(along)) * scale.reshape(along)
    return found


def _mean(layer: _Layer, values: Array, after: tuple[int, ...]) -> Doubles:
    """Of the input of a layer, whose output has the shape ``after``."""
    if layer.node.op_type == "Gemm":
        turned = values.T if _attribute(layer.node, "transA", 0) else values
        dense: Doubles = np.asarray(turned, np.float64).mean(axis=0)
        return dense
    kernel = layer.weights.shape[1:] if layer.depthwise else layer.weights.shape[1:-1]
    ones = (1,) * len(kernel)
    window = Window(
        kernel=kernel,
        strides=_numbers(layer.node, "strides", ones),
        dilations=_numbers(layer.node, "dilations", ones),
        before=(0,) * len(kernel),
        steps=after[2:],
    )
    before = _before(layer.node, values.shape[2:], window)
    return bias.window_means(np.moveaxis(values, 1, -1), replace(window, before=before))


def _before(node: Node, sizes: tuple[int, ...], window: Window) -> tuple[int, ...]:
    """Zeros before the first element, by ONNX's definition of Conv."""
    mode = next((item.s.decode() for item in node.attribute if item.name == "auto_pad"), "NOTSET")
    if not mode.startswith("SAME"):
        return _numbers(node, "pads", window.before * 2)[: len(sizes)]
    parts = zip(sizes, window.steps, window.strides, window.kernel, window.dilations, strict=True)
    totals = [
        max((steps - 1) * stride + (side - 1) * dilation + 1 - size, 0)
        for size, steps, stride, side, dilation in parts
    ]
    return tuple(total - total // 2 if mode == "SAME_LOWER" else total // 2 for total in totals)


def _numbers(node: Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return next((tuple(item.ints) for item in node.attribute if item.name == name), default)
