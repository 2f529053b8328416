"""Real .tflite files of a few hundred bytes, written with LiteRT's own schema.

Each is one operator whose answer can be reckoned by hand; the arrays are at the top.
"""

from __future__ import annotations

from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

WEIGHTS = np.array([[1, 0, 0, 0], [0, 2, 0, -1], [0.5, 0.5, 0.5, 0.5]], dtype=np.float32)
BIAS = np.array([0.0, 1.0, -1.0], dtype=np.float32)
INPUT_SCALE, INPUT_ZERO_POINT = 0.05, -3
WEIGHT_SCALE = 0.02
OUTPUT_SCALE, OUTPUT_ZERO_POINT = 0.1, 5
FLOAT32 = schema.TensorType.FLOAT32
INT8 = schema.TensorType.INT8
INT32 = schema.TensorType.INT32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: int = FLOAT32
    data: bytes = b""
    scale: float | None = None
    zero_point: int = 0
    signature: tuple[int, ...] | None = None


def float_model(weights: np.ndarray = WEIGHTS) -> bytes:
    """``y = weights @ x + BIAS``; input ``x`` float32 (1, 4), output ``y`` float32 (1, 3)."""
    return _fully_connected(
        _Tensor(name="x", shape=(1, 4)),
        _Tensor(name="weights", shape=(3, 4), data=weights.astype(np.float32).tobytes()),
        _Tensor(name="bias", shape=(3,), data=BIAS.tobytes()),
        _Tensor(name="y", shape=(1, 3)),
    )


def int8_model() -> bytes:
    """The same in int8; input and output are int8 with the scales and zero points above."""
    weights = np.rint(WEIGHTS / WEIGHT_SCALE).clip(-127, 127).astype(np.int8)
    bias = np.rint(BIAS / (INPUT_SCALE * WEIGHT_SCALE)).astype(np.int32)
    return _fully_connected(
        _Tensor(name="x", shape=(1, 4), dtype=INT8, scale=INPUT_SCALE, zero_point=INPUT_ZERO_POINT),
        _Tensor(
            name="weights", shape=(3, 4), dtype=INT8, data=weights.tobytes(), scale=WEIGHT_SCALE
        ),
        _Tensor(
            name="bias",
            shape=(3,),
            dtype=INT32,
            data=bias.tobytes(),
            scale=INPUT_SCALE * WEIGHT_SCALE,
        ),
        _Tensor(
            name="y", shape=(1, 3), dtype=INT8, scale=OUTPUT_SCALE, zero_point=OUTPUT_ZERO_POINT
        ),
    )


def dynamic_batch_model() -> bytes:
    """``float_model`` whose batch is -1 in the signature."""
    return _fully_connected(
        _Tensor(name="x", shape=(1, 4), signature=(-1, 4)),
        _Tensor(name="weights", shape=(3, 4), data=WEIGHTS.tobytes()),
        _Tensor(name="bias", shape=(3,), data=BIAS.tobytes()),
        _Tensor(name="y", shape=(1, 3), signature=(-1, 3)),
    )


def two_in_two_out_model() -> bytes:
    """Inputs ``a`` and ``b`` float32 (1, 2); outputs ``a + b`` and ``a * b``."""
    tensors = [_Tensor(name=name, shape=(1, 2)) for name in ("a", "b", "sum", "product")]
    add = (schema.BuiltinOperator.ADD, schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    mul = (schema.BuiltinOperator.MUL, schema.BuiltinOptions.MulOptions, schema.MulOptionsT())
    return _pack(tensors, [(add, (0, 1), (2,)), (mul, (0, 1), (3,))], (0, 1), (2, 3))


def wide_model(width: int = 512) -> bytes:
    """One ``width`` by ``width`` float matrix: big enough that a run takes tens of microseconds."""
    weights = np.random.default_rng(7).normal(0, 0.01, (width, width)).astype(np.float32)
    return _fully_connected(
        _Tensor(name="x", shape=(1, width)),
        _Tensor(name="weights", shape=(width, width), data=weights.tobytes()),
        _Tensor(name="bias", shape=(width,), data=np.zeros(width, np.float32).tobytes()),
        _Tensor(name="y", shape=(1, width)),
    )


def greedy_model(size_bytes: int) -> bytes:
    """``float_model``'s shapes; on the way to its output it fills that much memory."""
    columns = size_bytes // 4 // 4
    multiples = np.array([1, columns], np.int32)
    tensors = [
        _Tensor(name="x", shape=(1, 4)),
        _Tensor(name="multiples", shape=(2,), dtype=INT32, data=multiples.tobytes()),
        _Tensor(name="many", shape=(1, 4 * columns)),
        _Tensor(name="begin", shape=(2,), dtype=INT32, data=np.array([0, 0], np.int32).tobytes()),
        _Tensor(name="size", shape=(2,), dtype=INT32, data=np.array([1, 3], np.int32).tobytes()),
        _Tensor(name="y", shape=(1, 3)),
    ]
    tile = (schema.BuiltinOperator.TILE, schema.BuiltinOptions.TileOptions, schema.TileOptionsT())
    cut = (schema.BuiltinOperator.SLICE, schema.BuiltinOptions.SliceOptions, schema.SliceOptionsT())
    return _pack(tensors, [(tile, (0, 1), (2,)), (cut, (2, 3, 4), (5,))], (0,), (5,))


def _fully_connected(x: _Tensor, weights: _Tensor, bias: _Tensor, y: _Tensor) -> bytes:
    options = schema.FullyConnectedOptionsT()
    operator = (
        schema.BuiltinOperator.FULLY_CONNECTED,
        schema.BuiltinOptions.FullyConnectedOptions,
        options,
    )
    return _pack([x, weights, bias, y], [(operator, (0, 1, 2), (3,))], (0,), (3,))


def _pack(tensors, operators, inputs, outputs) -> bytes:
    model = schema.ModelT()
    model.version = 3
    model.description = "tiny"
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    graph.tensors = [_tensor(tensor, model.buffers) for tensor in tensors]
    graph.operators, model.operatorCodes = [], []
    for (code, options_type, options), op_inputs, op_outputs in operators:
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs, operator.outputs = list(op_inputs), list(op_outputs)
        operator.builtinOptionsType, operator.builtinOptions = options_type, options
        graph.operators.append(operator)
        operator_code = schema.OperatorCodeT()
        operator_code.builtinCode = operator_code.deprecatedBuiltinCode = code
        operator_code.version = 4 if tensors[0].dtype == INT8 else 1
        model.operatorCodes.append(operator_code)
    model.subgraphs = [graph]
    model.signatureDefs = [_signature(tensors, inputs, outputs)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(tensor: _Tensor, buffers: list) -> schema.TensorT:
    buffer = schema.BufferT()
    if tensor.data:
        buffer.data = np.frombuffer(tensor.data, dtype=np.uint8)
    buffers.append(buffer)
    packed = schema.TensorT()
    packed.name, packed.shape, packed.type = tensor.name, list(tensor.shape), tensor.dtype
    packed.buffer = len(buffers) - 1
    if tensor.signature is not None:
        packed.shapeSignature = list(tensor.signature)
    if tensor.scale is not None:
        packed.quantization = schema.QuantizationParametersT()
        packed.quantization.scale = [tensor.scale]
        packed.quantization.zeroPoint = [tensor.zero_point]
    return packed


def _signature(tensors, inputs, outputs) -> schema.SignatureDefT:
    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.inputs = [_named(tensors[index].name, index) for index in inputs]
    signature.outputs = [_named(tensors[index].name, index) for index in outputs]
    signature.subgraphIndex = 0
    return signature


def _named(name: str, index: int) -> schema.TensorMapT:
    named = schema.TensorMapT()
    named.name, named.tensorIndex = name, index
    return named
