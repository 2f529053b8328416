"""The order of a graph's nodes."""

import heapq
from collections.abc import Iterator
from typing import Any

from edgeq.errors import ModelError

Node = Any
"""``onnx.NodeProto``, which has no types."""


def is_sorted(graph: Any) -> bool:  # noqa: ANN401  see Node
    """Whether every node stands behind those whose results it reads."""
    pending = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        if any(name in pending for name in _read_by(node)):
            return False
        pending.difference_update(node.output)
    return True


def sort(graph: Any) -> None:  # noqa: ANN401  see Node
    """Put nodes behind those whose results they read; else in the order they have.

    ONNX demands it, ONNX Runtime does not, and some tools write files that are not sorted.

    Raises:
        ModelError: they wait for each other in a circle.
    """
    nodes = list(graph.node)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    waits = [{makers[name] for name in _read_by(node) if name in makers} for node in nodes]
    readers: dict[int, list[int]] = {}
    for place, before in enumerate(waits):
        for one in before:
            readers.setdefault(one, []).append(place)
    ready = [place for place, before in enumerate(waits) if not before]
    order = []
    while ready:
        place = heapq.heappop(ready)
        order.append(place)
        for reader in readers.get(place, ()):
            waits[reader].discard(place)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise ModelError(
            "the model is damaged: its nodes wait for each other in a circle",
            hint="export or download it again",
        )
    if order != sorted(order):
        del graph.node[:]
        graph.node.extend(nodes[place] for place in order)


def _read_by(node: Node) -> Iterator[str]:
    """Names that a node reads, those that its inner graphs take from outside too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            for one in inner.node:
                yield from _read_by(one)
