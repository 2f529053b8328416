"""Pairs of layers in a float .onnx."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeq.core import equalization
from edgeq.core.equalization import Floats, Layer, Pair, Places
from edgeq.equalize import Changes, changes_of
from edgeq.equalize.onnx_owners import Tracker
from edgeq.formats import onnx_graph
from edgeq.formats.onnx import Model
from edgeq.formats.onnx_links import Links, Node, links

_PRODUCTS = frozenset({"Gemm", "MatMul"})
_DATA, _WEIGHTS, _BIAS = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Site:
    """A layer in the graph.

    Attributes:
        node: The layer's own.
        last: The node that adds its bias; ``node`` where that is the same.
        bias: Name of the constant, or None.
        channels_axis: Of the output.
        in_axis: See ``core.equalization.Pair``.
    """

    node: Node
    last: Node
    layer: Layer
    bias: str | None
    channels_axis: int
    in_axis: int


def scale(content: bytes) -> tuple[bytes, Changes]:
    """See ``edgeq.equalize.Module``; batch normalization is folded first."""
    import onnx

    model = onnx.ModelProto()
    model.ParseFromString(content)
    # of a batch normalization, whole or in parts, only a convolution's weights and bias are left
    model = onnx_graph.simplified(model, "the model")
    facts = links(model)
    sites = tuple(_sites(model, facts))
    pairs = tuple(_pairs(sites, Tracker(model, facts)))
    layers = [site.layer for site in sites]
    equalized = equalization.equalize(layers, pairs)
    for number in {number for pair in pairs for number in (pair.first, pair.second)}:
        _replace(facts, sites[number], equalized.layers[number])
    names = [site.last.output[0] for site in sites]
    data = model.SerializeToString(deterministic=True)
    return data, changes_of(names, pairs, equalized.scales)


def _sites(model: Model, facts: Links) -> Iterator[_Site]:
    for node in model.graph.node:
        match node.op_type:
            case "Conv":
                site = _convolution(node, facts)
            case "Gemm" | "MatMul":
                site = _product(node, facts)
            case _:
                continue
        if site is not None:
            yield site


def _convolution(node: Node, facts: Links) -> _Site | None:
    weights = _own(node.input[_WEIGHTS], facts)
    if weights is None or weights.ndim < 3:  # noqa: PLR2004  channels out, channels in, an axis
        return None
    groups = _attribute(node, "group", 1)
    depthwise = groups > 1 and weights.shape[1] == 1
    if groups > 1 and not depthwise:
        return None
    return _site(node, facts, weights, 0, 0 if depthwise else 1, channels_axis=1)


def _product(node: Node, facts: Links) -> _Site | None:
    weights = _own(node.input[_WEIGHTS], facts)
    if weights is None or weights.ndim != 2 or _attribute(node, "transA", 0):  # noqa: PLR2004
        return None
    rows_out = node.op_type == "Gemm" and bool(_attribute(node, "transB", 0))
    out_axis = 0 if rows_out else 1
    return _site(node, facts, weights, out_axis, 1 - out_axis, channels_axis=-1)


def _site(
    node: Node, facts: Links, weights: Floats, out_axis: int, in_axis: int, channels_axis: int
) -> _Site | None:
    """None: it has a bias that cannot be scaled by channel."""
    channels = weights.shape[out_axis]
    last, name, bias = node, None, None
    if len(node.input) > _BIAS and node.input[_BIAS]:
        name = node.input[_BIAS]
        bias = _own(name, facts)
        if bias is None or bias.size != channels:
            return None
    elif (added := _added(node, facts, channels, channels_axis)) is not None:
        last, name, bias = added
    layer = Layer(
        weights=weights,
        out_axis=out_axis,
        bias=None if bias is None else bias.reshape(-1),
        depthwise=node.op_type == "Conv" and in_axis == 0,
    )
    return _Site(node=node, last=last, layer=layer, bias=name, channels_axis=channels_axis,
                 in_axis=in_axis)  # fmt: skip


def _added(
    node: Node, facts: Links, channels: int, channels_axis: int
) -> tuple[Node, str, Floats] | None:
    """An Add of one constant a channel that alone takes a layer's output."""
    takers = facts.takers_of(node.output[0])
    if len(takers) != 1 or takers[0].op_type != "Add" or node.output[0] in facts.outputs:
        return None
    name = next((other for other in takers[0].input if other != node.output[0]), "")
    values = _own(name, facts)
    if values is None or values.size != channels:
        return None
    # aligned at the last axis: (channels,) for a product, (channels, 1, 1) for a convolution
    weights = facts.value(node.input[_WEIGHTS])
    assert weights is not None  # noqa: S101  the caller has read it
    at = 1 if channels_axis == -1 else weights.ndim - 1
    fits = values.ndim >= at and values.shape[-at] == channels
    return (takers[0], name, values) if fits else None


def _own(name: str, facts: Links) -> Floats | None:
    """A float32 constant that one node takes."""
    values = facts.value(name) if name else None
    if values is None or values.dtype != np.float32:
        return None
    if len(facts.takers_of(name)) != 1 or name in facts.outputs:
        return None
    return values.astype(np.float32)


def _pairs(sites: tuple[_Site, ...], tracker: Tracker) -> Iterator[Pair]:
    numbers = {site.node.output[0]: number for number, site in enumerate(sites)}
    for number, first in enumerate(sites):
        channels = first.layer.weights.shape[first.layer.out_axis]
        found = tracker.follow(first.last.output[0], first.channels_axis, channels)
        if found is None or found.node.output[0] not in numbers:
            continue
        second = sites[numbers[found.node.output[0]]]
        owners = _owners(second, found.owners)
        if owners is not None:
            yield Pair(first=number, second=numbers[found.node.output[0]],
                       in_axis=second.in_axis, owners=owners)  # fmt: skip


def _owners(second: _Site, owners: Places) -> Places | None:
    """By place along the second layer's ``in_axis``.

    Args:
        second: The layer.
        owners: The channel that each element of its input, with its shape, belongs to.
    """
    across = 1 if second.channels_axis == 1 else owners.ndim - 1
    places = np.moveaxis(owners, across, 0).reshape(owners.shape[across], -1)
    if np.any(places != places[:, :1]):
        return None
    read = places[:, 0]
    size = second.layer.weights.shape[second.in_axis]
    if not second.layer.depthwise:
        return read if len(read) == size else None
    if size % len(read) or _attribute(second.node, "group", 1) != len(read):
        return None
    return np.repeat(read, size // len(read))


def _attribute(node: Node, name: str, default: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)


def _replace(facts: Links, site: _Site, layer: Layer) -> None:
    _set(facts, site.node.input[_WEIGHTS], layer.weights)
    if site.bias is not None and layer.bias is not None:
        _set(facts, site.bias, layer.bias)


def _set(facts: Links, name: str, values: Floats) -> None:
    from onnx import numpy_helper

    tensor = facts.constants[name]
    shape = tuple(tensor.dims)
    tensor.CopyFrom(numpy_helper.from_array(values.reshape(shape), name))
