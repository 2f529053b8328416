"""Which operators a runtime computes in quantized integers; all others stay in float.

LiteRT and tflite-runtime: read from TensorFlow's ``lite/tools/versioning/op_version.cc`` (an
operator whose version rises with int8 or int16 inputs has a kernel for them) and tried: models of
one operator were run in LiteRT 2.3.0 and tflite-runtime 2.14.0 without delegates.
ONNX Runtime: its CPU provider fuses DequantizeLinear, operator, QuantizeLinear into one integer
kernel for the operators in ``qdq_selector_action_transformer.cc``, and has the QLinear operators.
"""

from typing import Literal

from edgeq.core.profile import Precision, RuntimeKind

Bits = Literal[8, 16]

_COPYING = frozenset(
    {
        "BATCH_TO_SPACE_ND", "BROADCAST_TO", "CAST", "CONCATENATION", "EXPAND_DIMS", "FILL",
        "GATHER", "GATHER_ND", "MIRROR_PAD", "PACK", "PAD", "PADV2", "RESHAPE",
        "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "SCATTER_ND", "SELECT",
        "SELECT_V2", "SHAPE", "RANK", "SLICE", "SPACE_TO_BATCH_ND", "SPLIT", "SPLIT_V", "SQUEEZE",
        "STRIDED_SLICE", "TRANSPOSE", "UNPACK",
    }
)  # fmt: skip
_COMPUTING = frozenset(
    {
        "ABS", "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "EQUAL",
        "EXP", "FULLY_CONNECTED", "GREATER_EQUAL", "LEAKY_RELU", "LESS", "LOGISTIC", "LSTM",
        "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "REDUCE_MAX", "REDUCE_MIN",
        "REDUCE_PROD", "RELU", "RELU6", "SOFTMAX", "SUB", "SUM", "SVDF", "TANH", "TOPK_V2",
        "TRANSPOSE_CONV", "UNIDIRECTIONAL_SEQUENCE_LSTM",
    }
)  # fmt: skip
_ONLY_8 = frozenset(
    {
        "ARG_MAX", "ARG_MIN", "DEPTH_TO_SPACE", "DYNAMIC_UPDATE_SLICE", "ELU", "EMBEDDING_LOOKUP",
        "GELU", "GREATER", "HARD_SWISH", "L2_NORMALIZATION", "LESS_EQUAL", "LOG_SOFTMAX",
        "NOT_EQUAL", "ONE_HOT", "PRELU", "RELU_0_TO_1", "RELU_N1_TO_1", "RSQRT", "SPACE_TO_DEPTH",
        "SQUARED_DIFFERENCE", "TILE",
    }
)  # fmt: skip
_TFLITE_RUNTIME: dict[Bits, frozenset[str]] = {
    8: _COPYING | _COMPUTING | _ONLY_8,
    16: (_COPYING | _COMPUTING) - {"LSTM", "SVDF"},
}
_LITERT: dict[Bits, frozenset[str]] = {
    8: _TFLITE_RUNTIME[8] | {"DIV", "LOG", "NEG", "SQRT"},
    16: _TFLITE_RUNTIME[16]
    | {
        "DIV", "DYNAMIC_UPDATE_SLICE", "GELU", "GREATER", "LESS_EQUAL", "LOG", "NEG", "NOT_EQUAL",
        "PRELU", "RSQRT", "SQRT", "TILE",
    },
}  # fmt: skip
_FUSED_16 = frozenset(
    {
        "Expand", "Flatten", "Gather", "GatherElements", "Reshape", "Slice", "Split", "Squeeze",
        "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
FUSED: dict[Bits, frozenset[str]] = {
    8: _FUSED_16
    | {
        "Add", "ArgMax", "AveragePool", "Concat", "Conv", "Gemm", "GlobalAveragePool", "LeakyRelu",
        "MatMul", "MaxPool", "Mul", "ReduceMax", "ReduceMin", "Resize", "Sigmoid", "Softmax",
        "Where",
    },
    16: _FUSED_16,
}  # fmt: skip
"""What ONNX Runtime's CPU provider fuses between DequantizeLinear and QuantizeLinear."""
_ABSORBED = frozenset({"Relu", "Clip"})
"""Fall away where the quantized range ends where they cut."""
_ONNX_INTEGER = frozenset(
    {
        "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear",
        "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool",
        "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere",
        "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM", "QAttention",
        "QLinearReduceMean", "MatMulNBits",
    }
)  # fmt: skip
_NAMES: dict[RuntimeKind, str] = {
    "litert": "LiteRT",
    "tflite_runtime": "tflite-runtime",
    "onnxruntime": "ONNX Runtime, CPU provider",
    "benchmark_model": "benchmark_model",
}


def name(runtime: RuntimeKind) -> str:
    """What people call a runtime."""
    return _NAMES[runtime]


def bits(precision: Precision) -> Bits | None:
    """Of the activations that a precision asks for; None: they stay in float."""
    match precision:
        case "int8" | "mixed":
            return 8
        case "int16x8":
            return 16
        case "int8-dynamic" | "int4-weights" | "fp16" | "float32":
            return None


def has_kernel(kind: str, runtime: RuntimeKind, width: Bits) -> bool:
    """Whether the runtime computes this kind of operator in integers of ``width`` bits."""
    match runtime:
        case "litert" | "benchmark_model":  # which are built from the same source
            return kind in _LITERT[width]
        case "tflite_runtime":
            return kind in _TFLITE_RUNTIME[width]
        case "onnxruntime":
            return kind in FUSED[width] | _ABSORBED | _ONNX_INTEGER
