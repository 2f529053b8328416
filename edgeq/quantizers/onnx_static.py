"""Static int8 for ONNX Runtime: QDQ by its own quantizer, from ranges measured here.

Beyond what ``quantize_static`` makes: the last matrix products answer in float32, which their sums
of 32 bits can, and what follows them (softmax and the like) stays in float32.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.core.ranges import Range
from edgeq.errors import ConfigError
from edgeq.formats import onnx as files
from edgeq.formats.onnx import Model
from edgeq.formats.onnx_links import Links, Node, links
from edgeq.ports import Recipe

_PRODUCTS = frozenset({"Gemm", "MatMul"})
_WEIGHTED = _PRODUCTS | {"Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Einsum"}
# Their int8 form loses more than it gains: a softmax in 1/256 steps, and normalizations which ONNX
# Runtime's CPU has no int8 kernel for.
_FLOAT_OPS = frozenset(
    {"Softmax", "LayerNormalization", "InstanceNormalization", "BatchNormalization", "CumSum",
     "TopK", "EmbedLayerNormalization", "GatherElements"}
)  # fmt: skip
_STANDARD_16_BIT_OPSET = 21
_INFERRED = "onnx.infer", "onnxruntime.quant"  # its quantizer would write a file to infer again


@dataclass(frozen=True, slots=True, kw_only=True)
class Static:
    """How activations are kept.

    Attributes:
        wide: In 16 bits instead of 8.
        kept: Names of nodes that stay in float32.
    """

    recipe: Recipe
    wide: bool
    kept: frozenset[str]


def quantized(model: Model, ranges: Mapping[str, Range], how: Static) -> Model:
    """A QDQ model; inputs and outputs stay float32.

    Args:
        model: Simplified, its shapes inferred, every node named.
        ranges: Of its float32 tensors.
        how: See there.
    """
    tail = float_tail(model)
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantType

    kinds = {
        ("int8", False): QuantType.QInt8, ("int8", True): QuantType.QInt16,
        ("uint8", False): QuantType.QUInt8, ("uint8", True): QuantType.QUInt16,
    }  # fmt: skip
    copy = files.copy(model)
    copy.metadata_props.add(key=_INFERRED[0], value=_INFERRED[1])
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=how.recipe.reduce_range and not how.wide,
        weight_qType=QuantType.QInt8,
        activation_qType=kinds[how.recipe.activations, how.wide],
        tensors_range=_tensors_data(ranges),
        nodes_to_quantize=[],
        nodes_to_exclude=sorted({*how.kept, *tail, *_left(model)}),
        op_types_to_quantize=sorted(_quantizable()),
        extra_options={
            "ActivationSymmetric": how.recipe.symmetric,
            # a transposition in front of the first layer moves bytes, not floats
            "ForceQuantizeNoInputCheck": True,
            "UseQDQContribOps": how.wide and files.opset(model) < _STANDARD_16_BIT_OPSET,
        },
    )
    quantizer.quantize_model()
    made = quantizer.model.model
    files.drop_metadata(made, _INFERRED[0])
    _answer_in_float(made, frozenset((*tail, *how.kept)))
    return made


def nodes_kept(model: Model, names: Sequence[str]) -> frozenset[str]:
    """Names of the nodes that tensors or nodes of these names mean.

    Raises:
        ConfigError: there is none of a name; the hint has the nearest.
    """
    by_name = {name: node.name for node in model.graph.node for name in (*node.output, node.name)}
    for name in names:
        if name not in by_name:
            close = difflib.get_close_matches(name, by_name, n=1, cutoff=0.0)
            raise ConfigError(
                f"keep_float names {name!r}, which the model does not have",
                hint=f"did you mean {close[0]!r}?" if close else "",
            )
    return frozenset(by_name[name] for name in names)


def float_tail(model: Model) -> frozenset[str]:
    """Names of the nodes between the last matrix products and the outputs.

    Only of outputs that matrix products alone lead to: what follows a convolution is large.
    """
    facts = links(model)
    tail: set[str] = set()
    others: set[str] = set()
    for output in facts.outputs:
        behind, sources = _behind(output, facts)
        last = all(node is not None and node.op_type in _PRODUCTS for node in sources)
        (tail if last else others).update(behind)
    tail -= others
    return frozenset(tail - _leaving(model, facts, tail))


def _behind(output: str, facts: Links) -> tuple[set[str], list[Node | None]]:
    """Names of the weightless nodes that an output comes from, and what they start from.

    None stands for an input of the model.
    """
    behind: set[str] = set()
    sources: list[Node | None] = []
    waiting = [output]
    while waiting:
        name = waiting.pop()
        node = facts.makers.get(name)
        if node is None:
            sources += [] if name in facts.constants else [None]
        elif node.op_type in _WEIGHTED:
            sources.append(node)
        elif node.name not in behind:
            behind.add(node.name)
            waiting += filter(None, node.input)
    return behind, sources


def _leaving(model: Model, facts: Links, tail: Collection[str]) -> set[str]:
    """Those of ``tail`` that something outside it needs too."""
    left: set[str] = set()
    for node in reversed(model.graph.node):
        takers = [taker for name in node.output for taker in facts.takers_of(name)]
        if node.name in tail and any(t.name not in tail or t.name in left for t in takers):
            left.add(node.name)
    return left


def _left(model: Model) -> frozenset[str]:
    return frozenset(node.name for node in model.graph.node if node.op_type in _FLOAT_OPS)


def _quantizable() -> set[str]:
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return {*QDQRegistry, *QLinearOpsRegistry}


def _tensors_data(ranges: Mapping[str, Range]) -> object:
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    return TensorsData(
        CalibrationMethod.MinMax,
        {name: (np.float32(item.low), np.float32(item.high)) for name, item in ranges.items()},
    )


def _answer_in_float(model: Model, float_nodes: Collection[str]) -> None:
    """Take Q and DQ away between a matrix product and nodes in float32, or an output."""
    facts = links(model)
    for q in list(model.graph.node):
        maker = facts.makers.get(q.input[0]) if q.op_type == "QuantizeLinear" else None
        if maker is None or not (maker.op_type in _PRODUCTS or maker.name in float_nodes):
            continue
        dqs = facts.takers_of(q.output[0])
        takers = [taker for dq in dqs for taker in facts.takers_of(dq.output[0])]
        if all(taker.name in float_nodes for taker in takers):
            _bypass(model, facts, q, dqs)


def _bypass(model: Model, facts: Links, q: Node, dqs: Collection[Node]) -> None:
    """What took the result of ``dqs`` takes the input of ``q``."""
    for dq in dqs:
        result = dq.output[0]
        for taker in facts.takers_of(result):
            for place, name in enumerate(taker.input):
                if name == result:
                    taker.input[place] = q.input[0]
        if result in facts.outputs:
            _rename(facts, q.input[0], result)
        model.graph.node.remove(dq)
    model.graph.node.remove(q)


def _rename(facts: Links, name: str, new: str) -> None:
    """Call a tensor by the name of the output that it becomes."""
    maker = facts.makers[name]
    for node in (maker, *facts.takers_of(name)):
        for names in (node.input, node.output):
            for place, old in enumerate(names):
                if old == name:
                    names[place] = new
