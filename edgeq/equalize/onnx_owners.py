"""Which channel of a layer each element of a later tensor belongs to."""

from dataclasses import dataclass

import numpy as np

from edgeq.core.equalization import Places
from edgeq.formats.onnx import Model
from edgeq.formats.onnx_links import Links, Node

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reached:
    """A layer that alone takes the tensor; ``owners`` has the shape of its input."""

    node: Node
    owners: Places


class Tracker:
    """Follows a tensor to the layer that takes it, as long as all between scales with it.

    Those are ops with f(s x) = s f(x) for any scale s > 0 of each channel.
    """

    def __init__(self, model: Model, facts: Links) -> None:
        self._facts = facts
        infos = (*model.graph.value_info, *model.graph.output, *model.graph.input)
        self._shapes = {
            item.name: tuple(int(side.dim_value) for side in item.type.tensor_type.shape.dim)
            for item in infos
        }

    def follow(self, name: str, channels_axis: int, channels: int) -> Reached | None:
        """From a layer's output; None: it ends elsewhere, or is taken twice."""
        shape = self._shape(name)
        if shape is None or not shape or shape[channels_axis] != channels:
            return None
        along = [-1 if i == channels_axis % len(shape) else 1 for i in range(len(shape))]
        owners: Places | None = np.broadcast_to(np.arange(channels).reshape(along), shape)
        while owners is not None:
            takers = self._facts.takers_of(name)
            if name in self._facts.outputs or len(takers) != 1:
                return None
            node = takers[0]
            if node.input[0] != name or list(node.input).count(name) != 1:
                return None
            if node.op_type in _LAYERS:
                return Reached(node=node, owners=owners)
            owners = self._through(node, owners)
            name = node.output[0]
        return None

    def _shape(self, name: str) -> tuple[int, ...] | None:
        """None when it is unknown or open."""
        shape = self._shapes.get(name)
        return shape if shape is not None and all(side > 0 for side in shape) else None

    def _through(self, node: Node, owners: Places) -> Places | None:
        """The owners of a node's output; None: it does not scale along."""
        after = self._shape(node.output[0])
        if after is None or len(list(filter(None, node.output))) != 1:
            return None
        match node.op_type:
            case "Relu" | "LeakyRelu" | "Identity":
                return owners
            case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze":
                return owners.reshape(after)
            case "Transpose":
                order = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), None)
                return owners.transpose(order)
            case "Pad":
                return self._padded(node, owners)
            case _:
                axes = self._mixed_axes(node, owners.ndim)
                return None if axes is None else _shrunk(owners, axes, after)

    def _mixed_axes(self, node: Node, rank: int) -> tuple[int, ...] | None:
        """Along which a node takes a mean or a maximum; None: it does something else."""
        match node.op_type:
            case "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool":
                return tuple(range(2, rank))
            case "ReduceMean" | "ReduceMax":
                return self._numbers(node, "axes", 1)
            case _:
                return None

    def _padded(self, node: Node, owners: Places) -> Places | None:
        """With zeros, which no scale changes, so they may count as their neighbours' channel."""
        mode = next((a.s for a in node.attribute if a.name == "mode"), b"constant")
        values = [self._facts.value(name) for name in node.input[2:] if name]
        if mode != b"constant" or any(value is None or np.any(value != 0) for value in values):
            return None
        pads = self._numbers(node, "pads", 1)
        if pads is None or len(pads) != 2 * owners.ndim or min(pads) < 0:
            return None
        return np.pad(
            owners, list(zip(pads[: owners.ndim], pads[owners.ndim :], strict=True)), "edge"
        )

    def _numbers(self, node: Node, name: str, place: int) -> tuple[int, ...] | None:
        """An attribute that newer opsets take as an input."""
        for item in node.attribute:
            if item.name == name:
                return tuple(int(number) for number in item.ints)
        value = self._facts.value(node.input[place]) if len(node.input) > place else None
        return None if value is None else tuple(int(number) for number in value.reshape(-1))


def _shrunk(owners: Places, axes: tuple[int, ...], after: tuple[int, ...]) -> Places | None:
    """Of an op that mixes elements along axes; None when they are of several channels."""
    smallest: Places = owners.min(axis=axes, keepdims=True)
    if np.any(owners != smallest):
        return None
    sides = smallest.shape
    if len(after) != len(sides):  # the axes are dropped
        return smallest.reshape(after)
    return np.broadcast_to(smallest, after)
