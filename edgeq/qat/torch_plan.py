"""A PyTorch program's graph as a plan: which op is which layer, and which are not covered."""

from typing import Any

from edgeq.errors import ModelError
from edgeq.qat.plan import Entry, Plan, Step

# By the name of the ATen op without overload and the underscore of those that work in place.
_KINDS = {
    "linear": "Dense",
    "conv1d": "Conv1D",
    "conv2d": "Conv2D",
    "conv_transpose2d": "Conv2DTranspose",
    "batch_norm": "BatchNormalization",
    "relu": "ReLU",
    "relu6": "ReLU",
    "hardtanh": "ReLU",
    "clamp": "ReLU",
    "leaky_relu": "LeakyReLU",
    "softmax": "Softmax",
    "add": "Add",
    "sub": "Subtract",
    "mul": "Multiply",
    "div": "Multiply",
    "cat": "Concatenate",
    "concat": "Concatenate",
    "maximum": "Maximum",
    "minimum": "Minimum",
    "matmul": "Dot",
    "bmm": "Dot",
    "mean": "GlobalAveragePooling2D",
    "avg_pool1d": "AveragePooling1D",
    "avg_pool2d": "AveragePooling2D",
    "adaptive_avg_pool1d": "GlobalAveragePooling1D",
    "adaptive_avg_pool2d": "GlobalAveragePooling2D",
}
_ACTIVATIONS = frozenset(
    {"sigmoid", "tanh", "hardsigmoid", "hardswish", "silu", "gelu", "elu", "selu", "softplus",
     "softsign", "exp", "log_softmax"}
)  # fmt: skip
_MOVING = frozenset(
    {"max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "flatten", "view",
     "reshape", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "clone", "dropout",
     "feature_dropout", "alpha_dropout", "slice", "select", "pad", "constant_pad_nd", "expand",
     "upsample_nearest2d", "detach", "alias", "t", "identity", "getitem", "to", "chunk", "split"}
)  # fmt: skip
_CLAMPED = {"hardtanh", "clamp"}
_RELU6 = 6.0


def parse(graph: Any) -> Plan:  # noqa: ANN401  a torch.fx.Graph
    """The plan of the graph of ``ExportedProgram.module()``; steps are called as its nodes.

    Raises:
        ModelError: an op that quantization-aware training does not cover; with its layer's name.
    """
    entries = []
    steps: list[Step] = []
    outputs: tuple[str, ...] = ()
    known: set[str] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            entries.append(_entry(node))
            known.add(node.name)
        elif node.op == "output":
            outputs = tuple(fed.name for fed in node.all_input_nodes)
        elif node.op == "call_function" and _is_values(node):
            sources = tuple(fed.name for fed in node.all_input_nodes if fed.name in known)
            if sources:  # else it is made of constants alone
                steps.append(_step(node, sources))
                known.add(node.name)
    return Plan(entries=tuple(entries), steps=tuple(steps), outputs=outputs)


def layer_of(node: Any) -> str:  # noqa: ANN401  a torch.fx.Node
    """The user's name of the layer that a node belongs to; the node's own where there is none."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(name) for name, _ in stack.values()]
    return (names[-1] if names else "") or str(node.name)


def _entry(node: Any) -> Entry:  # noqa: ANN401  see layer_of
    value = node.meta["val"]
    sides = tuple(side if isinstance(side, int) else None for side in value.shape[1:])
    return Entry(name=node.name, shape=sides, dtype=str(value.dtype).removeprefix("torch."))


def _is_values(node: Any) -> bool:  # noqa: ANN401  see layer_of
    """A tensor of floats, or several; sizes and checks are computed too, and are not trained."""
    import torch

    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, torch.Tensor) and first.dtype.is_floating_point


def _step(node: Any, sources: tuple[str, ...]) -> Step:  # noqa: ANN401  see layer_of
    op = _op_name(node)
    kind = _KINDS.get(op) or ("Activation" if op in _ACTIVATIONS else None)
    if op in _MOVING:
        kind = "Identity"
    if kind is None:
        raise ModelError(
            f"quantization-aware training does not cover {node.target}, an op of layer "
            f"{layer_of(node)!r}",
            hint="convert the model without it: edgeq convert, perhaps with --precision auto",
        )
    options: dict[str, object] = {}
    if op in _CLAMPED:
        ends = [float(end) for end in node.args[1:3] if isinstance(end, int | float)]
        kind = "ReLU" if ends == [0.0, _RELU6] else "Clip"
        options = {"max_value": 6} if kind == "ReLU" else {}
    if op == "relu6":
        options = {"max_value": 6}
    if kind == "Activation":
        options = {"activation": op}
    return Step(name=node.name, kind=kind, options=options, sources=sources)


def _op_name(node: Any) -> str:  # noqa: ANN401  see layer_of
    """``aten.relu_.default`` is ``relu``."""
    name = getattr(node.target, "__name__", str(node.target))
    return str(name).split(".")[0].rstrip("_")
