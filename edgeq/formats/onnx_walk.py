"""All that an .onnx file holds, wherever it stands in it: subgraphs, functions, attributes."""

from collections.abc import Iterator
from typing import Any

Model = Any  # onnx.ModelProto, which has no types


def nodes(model: Model) -> Iterator[Any]:
    """All nodes, those of subgraphs and functions too."""
    for part in (*graphs(model), *model.functions):
        yield from part.node


def graphs(model: Model) -> Iterator[Any]:
    """The graph, those that train it, and all graphs inside their nodes' attributes."""
    waiting = [model.graph]
    for training in model.training_info:
        waiting += (training.initialization, training.algorithm)
    for function in model.functions:
        waiting += _inner(function)
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += _inner(graph)


def tensors(model: Model) -> Iterator[Any]:
    """Every tensor that a file can hold."""
    every = list(graphs(model))
    for graph in every:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for part in (*every, *model.functions):
        for attribute in _attributes(part):
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def names(model: Model) -> Iterator[Any]:
    """All that names something: text, or bytes where the file is damaged."""
    for graph in graphs(model):
        for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            yield item.name
    for node in nodes(model):
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (item.domain for item in model.opset_import)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output)


def _inner(part: Any) -> list[Any]:  # noqa: ANN401  see Model
    """Graphs in the attributes of a graph's or function's nodes."""
    return [
        graph
        for attribute in _attributes(part)
        for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs)
    ]


def _attributes(part: Any) -> Iterator[Any]:  # noqa: ANN401  see Model
    for node in part.node:
        yield from node.attribute
    yield from getattr(part, "attribute_proto", ())  # a function's defaults
