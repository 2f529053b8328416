"""Pairs of layers in a float .tflite, whose tensors are all channels-last."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeq.core import equalization
from edgeq.core.equalization import Layer, Pair
from edgeq.equalize import Changes, changes_of
from edgeq.formats.tflite_graph import BIAS, DATA, LAYERS, WEIGHTS, Graph, Op

_IN_AXES = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}
_RELU_AT_MOST = (0, 1)  # schema.fbs, enum ActivationFunctionType: NONE, RELU; RELU6 has a fixed cap


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Ops that are layers, and pairs of them by their number in ``ops``."""

    ops: tuple[Op, ...]
    layers: tuple[Layer, ...]
    pairs: tuple[Pair, ...]


def scale(content: bytes) -> tuple[bytes, Changes]:
    """See ``edgeq.equalize.Module``."""
    graph = Graph(content)
    found = _find(graph)
    equalized = equalization.equalize(found.layers, found.pairs)
    touched = {number for pair in found.pairs for number in (pair.first, pair.second)}
    for number in touched:
        op, layer = found.ops[number], equalized.layers[number]
        graph.replace(op.inputs[WEIGHTS], layer.weights)
        if layer.bias is not None:
            graph.replace(op.inputs[BIAS], layer.bias)
    names = tuple(graph.tensors[op.outputs[0]].name for op in found.ops)
    return graph.content(), changes_of(names, found.pairs, equalized.scales)


def _find(graph: Graph) -> _Found:
    readers = graph.readers()
    ops = graph.layers()
    numbers = {op.place: number for number, op in enumerate(ops)}
    pairs = [
        Pair(
            first=number,
            second=numbers[second.place],
            in_axis=_IN_AXES[second.name],
            owners=owners,
        )
        for number, first in enumerate(ops)
        if (second := _reader_of(graph, first, readers)) is not None and second.place in numbers
        and (owners := _owners(graph, first, second)) is not None
    ]  # fmt: skip
    layers = tuple(_layer(graph, op) for op in ops)
    return _Found(ops=ops, layers=layers, pairs=tuple(pairs))


def _layer(graph: Graph, op: Op) -> Layer:
    has_bias = len(op.inputs) > BIAS and op.inputs[BIAS] >= 0
    return Layer(
        weights=graph.array(op.inputs[WEIGHTS]).astype(np.float32),
        out_axis=LAYERS[op.name],
        bias=graph.array(op.inputs[BIAS]).astype(np.float32) if has_bias else None,
        depthwise=op.name == "DEPTHWISE_CONV_2D",
    )


def _reader_of(graph: Graph, first: Op, readers: Mapping[int, tuple[Op, ...]]) -> Op | None:
    """The layer that alone reads a layer's output, perhaps through ops that scale with it."""
    op = first
    while _activation(op) in _RELU_AT_MOST:
        output = op.outputs[0]
        if output in graph.outputs or len(readers.get(output, ())) != 1:
            return None
        reader = readers[output][0]
        if reader.inputs[DATA] != output:
            return None
        if reader.name in LAYERS:
            return reader
        if not _scales_along(graph, reader):
            return None
        op = reader
    return None


def _activation(op: Op) -> int:
    return int(getattr(op.options, "fusedActivationFunction", 0))


def _scales_along(graph: Graph, op: Op) -> bool:
    """Whether f(s x) = s f(x) for a scale s > 0 of each channel, and channels stay last."""
    data = graph.tensors[op.inputs[DATA]]
    match op.name:
        case "RELU" | "LEAKY_RELU" | "MAX_POOL_2D" | "AVERAGE_POOL_2D":
            return True
        case "RESHAPE" | "SQUEEZE":
            # rows of a multiple of all channels: place j of a row is still of channel j modulo C
            after = graph.tensors[op.outputs[0]].shape
            return bool(data.shape and after) and after[-1] % max(data.shape[-1], 1) == 0
        case "MEAN" if graph.tensors[op.inputs[1]].constant:
            axes = np.atleast_1d(graph.array(op.inputs[1])) % len(data.shape)
            return len(data.shape) - 1 not in axes
        case "PAD" if graph.tensors[op.inputs[1]].constant:  # with zeros
            return not np.any(graph.array(op.inputs[1])[-1])
        case _:
            return False


def _owners(graph: Graph, first: Op, second: Op) -> equalization.Places | None:
    """See ``core.equalization.Pair``; None when the sizes do not fit."""
    channels = graph.tensors[first.inputs[WEIGHTS]].shape[LAYERS[first.name]]
    read = graph.tensors[second.inputs[DATA]].shape[-1]
    places = graph.tensors[second.inputs[WEIGHTS]].shape[_IN_AXES[second.name]]
    if not channels or read % channels or places % channels:
        return None
    match second.name:
        case "DEPTHWISE_CONV_2D":
            if places % read:
                return None
            return np.arange(places) // (places // read) % channels
        case "CONV_2D" if places != read:  # grouped
            return None
        case _:
            return np.arange(places) % channels
