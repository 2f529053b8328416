"""Who makes and who takes the tensors of a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.formats.onnx import Model

Node = Any
"""``onnx.NodeProto``, which has no types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Of the graph as it was when ``links`` looked.

    Attributes:
        makers: The node that makes a tensor; none for inputs and constants.
        takers: The nodes that take it, in the graph's order, each once.
        constants: Initializers.
        outputs: Names of the graph's outputs.
        floats: Tensors that are known to be float32, constants left out.
    """

    makers: Mapping[str, Node]
    takers: Mapping[str, tuple[Node, ...]]
    constants: Mapping[str, Any]
    outputs: frozenset[str]
    floats: frozenset[str]

    def takers_of(self, name: str) -> tuple[Node, ...]:
        return self.takers.get(name, ())

    def value(self, name: str) -> npt.NDArray[np.generic] | None:
        """Of a constant; None: it is none."""
        from onnx import numpy_helper

        tensor = self.constants.get(name)
        return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))


def links(model: Model) -> Links:
    """Look at a model's graph; what subgraphs take of it counts as taken by their node."""
    from onnx import TensorProto

    makers: dict[str, Node] = {}
    takers: dict[str, list[Node]] = {}
    for node in model.graph.node:
        makers |= dict.fromkeys(filter(None, node.output), node)
        for name in dict.fromkeys((*node.input, *_taken_inside(node))):
            takers.setdefault(name, []).append(node)
    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return Links(
        makers=makers,
        takers={name: tuple(found) for name, found in takers.items()},
        constants={item.name: item for item in model.graph.initializer},
        outputs=frozenset(item.name for item in model.graph.output),
        floats=frozenset(
            item.name for item in infos if item.type.tensor_type.elem_type == TensorProto.FLOAT
        ),
    )


def _taken_inside(node: Node) -> list[str]:
    """Names that the graphs in a node's attributes take, whoever makes them."""
    found: list[str] = []
    waiting = [node]
    while waiting:
        for attribute in waiting.pop().attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting += graph.node
                found += [name for inner in graph.node for name in inner.input]
                found += [item.name for item in graph.output]
    return found
