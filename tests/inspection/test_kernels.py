"""The table of integer kernels against LiteRT itself: models of one operator, run."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq.core import kernels

UNARY = [
    "ABS",
    "CEIL",
    "COS",
    "ELU",
    "EXP",
    "FLOOR",
    "GELU",
    "HARD_SWISH",
    "L2_NORMALIZATION",
    "LEAKY_RELU",
    "LOG",
    "LOGISTIC",
    "LOG_SOFTMAX",
    "NEG",
    "RELU",
    "RELU6",
    "RELU_0_TO_1",
    "RELU_N1_TO_1",
    "ROUND",
    "RSQRT",
    "SIN",
    "SOFTMAX",
    "SQRT",
    "SQUARE",
    "TANH",
    "ZEROS_LIKE",
    "LOCAL_RESPONSE_NORMALIZATION",
]
BINARY = [
    "ADD",
    "ADD_N",
    "ATAN2",
    "DIV",
    "MAXIMUM",
    "MINIMUM",
    "MUL",
    "POW",
    "PRELU",
    "SQUARED_DIFFERENCE",
    "SUB",
]
OPTIONS = {
    "ADD": schema.AddOptionsT, "DIV": schema.DivOptionsT, "GELU": schema.GeluOptionsT,
    "L2_NORMALIZATION": schema.L2NormOptionsT, "LEAKY_RELU": schema.LeakyReluOptionsT,
    "MUL": schema.MulOptionsT, "SOFTMAX": schema.SoftmaxOptionsT, "SUB": schema.SubOptionsT,
    "LOCAL_RESPONSE_NORMALIZATION": schema.LocalResponseNormalizationOptionsT,
}  # fmt: skip
# Where the kernel takes one output scale and zero point only.
FIXED = {
    8: {
        "LOGISTIC": (1 / 256, -128), "SOFTMAX": (1 / 256, -128), "TANH": (1 / 128, 0),
        "LOG_SOFTMAX": (16 / 256, 127), "L2_NORMALIZATION": (1 / 128, 0),
    },
    16: dict.fromkeys(("LOGISTIC", "SOFTMAX", "TANH"), (1 / 32768, 0)),
}  # fmt: skip
SHAPE = (1, 2, 2, 4)


def tensor(name, bits, scale, zero_point):
    made = schema.TensorT()
    made.name, made.shape, made.buffer = name, list(SHAPE), 0
    made.type = schema.TensorType.INT8 if bits == 8 else schema.TensorType.INT16
    made.quantization = schema.QuantizationParametersT()
    made.quantization.scale, made.quantization.zeroPoint = [scale], [zero_point]
    return made


def one_operator(kind, bits):
    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    inputs = 1 if kind in UNARY else 2
    graph.name = "main"
    graph.tensors = [tensor(f"in{i}", bits, 0.05, 0) for i in range(inputs)]
    graph.tensors.append(tensor("out", bits, *FIXED[bits].get(kind, (0.05, 0))))
    graph.inputs, graph.outputs = list(range(inputs)), [inputs]
    operator.inputs, operator.outputs = graph.inputs, graph.outputs
    if kind in OPTIONS:
        operator.builtinOptions = OPTIONS[kind]()
        name = OPTIONS[kind].__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        if kind == "SOFTMAX":
            operator.builtinOptions.beta = 1.0
        if kind in ("ADD", "SUB"):
            operator.builtinOptions.potScaleInt16 = False
    graph.operators, model.operatorCodes, model.subgraphs = [operator], [code], [graph]
    model.version, model.buffers = 3, [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def runs(content, bits):
    """Whether LiteRT computes it; every input is 5 steps, as some take no number below 0."""
    try:
        made = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        made.allocate_tensors()
        for detail in made.get_input_details():
            made.set_tensor(detail["index"], np.full(SHAPE, 5, np.int8 if bits == 8 else np.int16))
        made.invoke()
    except (ValueError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("bits", [8, 16])
def test_litert_runs_what_the_table_says_and_nothing_else(bits):
    wrong = {
        kind: runs(one_operator(kind, bits), bits)
        for kind in (*UNARY, *BINARY)
        if runs(one_operator(kind, bits), bits) != kernels.has_kernel(kind, "litert", bits)
    }
    assert wrong == {}


def test_older_runtimes_have_no_more_than_newer_ones():
    for bits in (8, 16):
        for kind in (*UNARY, *BINARY):
            older = kernels.has_kernel(kind, "tflite_runtime", bits)
            assert not older or kernels.has_kernel(kind, "litert", bits)


def test_only_precisions_with_integer_activations_need_kernels():
    assert [kernels.bits(p) for p in ("int8", "mixed", "int16x8")] == [8, 8, 16]
    assert {kernels.bits(p) for p in ("int8-dynamic", "int4-weights", "fp16", "float32")} == {None}
