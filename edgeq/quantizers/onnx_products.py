"""Matrix products in few bits that need no calibration."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from edgeq.formats import onnx as files
from edgeq.formats.onnx import Model
from edgeq.formats.onnx_links import Links, Node, links

Floats = npt.NDArray[np.float32]

_DYNAMIC = ("MatMul", "Gemm", "LSTM")
_CONTRIB = "com.microsoft"
_BITS = 4
_BLOCK = 32
_PLAIN_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}
_MATRIX = 2


def dynamic(model: Model, skip: Collection[str], *, reduce_range: bool) -> Model:
    """Matrix products and LSTMs in int8, their activations quantized at run time.

    Never convolutions: the dynamic ones were measured to take 5 to 13 times as long as float32.

    Args:
        model: Every node named.
        skip: Names of nodes that stay in float32.
        reduce_range: See ``ports.Recipe``.
    """
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode, QuantType

    quantizer = ONNXQuantizer(
        files.copy(model),
        per_channel=True,
        reduce_range=reduce_range,
        mode=QuantizationMode.IntegerOps,
        static=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=None,
        nodes_to_quantize=[],
        nodes_to_exclude=sorted(skip),
        op_types_to_quantize=list(_DYNAMIC),
        extra_options={"MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    return quantizer.model.model


def four_bit_products(model: Model, skip: Collection[str]) -> Model:
    """Products with a constant matrix in 4 bits, each 32 numbers of it with a scale of their own.

    MatMulNBits is ONNX Runtime's own operator, since version 1.17: docs/ContribOperators.md there.
    """
    made = files.copy(model)
    facts = links(made)
    changed = False
    for node in list(made.graph.node):
        matrix = None if node.name in skip else _matrix(node, facts)
        if matrix is not None:
            _replace(made, node, matrix)
            changed = True
    if changed and _CONTRIB not in {item.domain for item in made.opset_import}:
        made.opset_import.add(domain=_CONTRIB, version=1)
    _drop_unused_constants(made)
    return made


def _matrix(node: Node, facts: Links) -> Floats | None:
    """The constant factor, of shape (N, K): answers by inputs; None: this is no such product."""
    from onnx import helper

    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type not in ("MatMul", "Gemm") or node.input[0] in facts.constants:
        return None
    plain = all(given.get(name, usual) == usual for name, usual in _PLAIN_GEMM.items())
    values = facts.value(node.input[1])
    if not plain or values is None or values.dtype != np.float32 or values.ndim != _MATRIX:
        return None
    if values.size < _BLOCK:
        return None
    return values.astype(np.float32) if given.get("transB", 0) else values.T.astype(np.float32)


def _replace(model: Model, node: Node, matrix: Floats) -> None:
    from onnx import helper, numpy_helper

    packed, scales = _packed(matrix)
    names = [f"{node.name}_{suffix}" for suffix in ("int4", "int4_scales")]
    model.graph.initializer.append(numpy_helper.from_array(packed, names[0]))
    model.graph.initializer.append(numpy_helper.from_array(scales, names[1]))
    bias = node.input[2] if len(node.input) > _MATRIX else ""
    result = f"{node.name}_product" if bias else node.output[0]
    product = helper.make_node(
        "MatMulNBits",
        [node.input[0], *names],
        [result],
        name=node.name,
        domain=_CONTRIB,
        K=matrix.shape[1],
        N=matrix.shape[0],
        bits=_BITS,
        block_size=_BLOCK,
    )
    place = list(model.graph.node).index(node)
    output = node.output[0]
    model.graph.node.remove(node)
    model.graph.node.insert(place, product)
    if bias:
        name = f"{node.name}_bias"
        added = helper.make_node("Add", [result, bias], [output], name=name)
        model.graph.node.insert(place + 1, added)


def _packed(matrix: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Numbers plus 8, two a byte, of shape (N, blocks, 16), and scales of shape (N * blocks,)."""
    rows, columns = matrix.shape
    blocks = -(-columns // _BLOCK)
    padded = np.zeros((rows, blocks * _BLOCK), np.float32)
    padded[:, :columns] = matrix
    parts = padded.reshape(rows, blocks, _BLOCK)
    # the value furthest from 0 becomes -8, which has no counterpart at +8
    furthest = np.take_along_axis(parts, np.abs(parts).argmax(axis=2)[..., None], axis=2)
    scales = np.where(furthest == 0, 1, furthest / -8).astype(np.float32)
    whole = np.clip(np.rint(parts / scales) + 8, 0, 15).astype(np.uint8)
    packed = (whole[..., 0::2] | (whole[..., 1::2] << np.uint8(4))).astype(np.uint8)
    return packed, scales.ravel()


def _drop_unused_constants(model: Model) -> None:
    facts = links(model)
    for name, tensor in facts.constants.items():
        if not facts.takers_of(name) and name not in facts.outputs:
            model.graph.initializer.remove(tensor)
