"""Real .onnx files of a few hundred bytes to some kilobytes, written with onnx.helper.

The matrix and the numbers are those of ``tiny_model``, so that answers can be reckoned by hand.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8  # taken by every onnxruntime since 1.14
WEIGHTS = np.array([[1, 0, 0, 0], [0, 2, 0, -1], [0.5, 0.5, 0.5, 0.5]], dtype=np.float32)
BIAS = np.array([0.0, 1.0, -1.0], dtype=np.float32)
INPUT_SCALE, INPUT_ZERO_POINT = 0.05, -3
WEIGHT_SCALE = 0.02
OUTPUT_SCALE, OUTPUT_ZERO_POINT = 0.1, 5
SEED = 11


def float_model() -> bytes:
    """``y = WEIGHTS @ x + BIAS``; input ``x`` float32 (1, 4), output ``y`` float32 (1, 3)."""
    return model(
        [helper.make_node("Gemm", ["x", "weights", "bias"], ["y"], name="gemm", transB=1)],
        inputs={"x": (1, 4)},
        outputs={"y": (1, 3)},
        constants={"weights": WEIGHTS, "bias": BIAS},
    )


def int8_model() -> bytes:
    """The same in int8 (QDQ); input and output are int8 with the scales and zero points above."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_float"]),
        helper.make_node("DequantizeLinear", ["weights", "w_scale", "w_zero"], ["w_float"]),
        helper.make_node("Gemm", ["x_float", "w_float", "bias"], ["y_float"], transB=1),
        helper.make_node("QuantizeLinear", ["y_float", "y_scale", "y_zero"], ["y"]),
    ]
    constants = {
        "weights": np.rint(WEIGHTS / WEIGHT_SCALE).clip(-127, 127).astype(np.int8),
        "bias": BIAS,
        "x_scale": np.float32(INPUT_SCALE),
        "x_zero": np.int8(INPUT_ZERO_POINT),
        "w_scale": np.float32(WEIGHT_SCALE),
        "w_zero": np.int8(0),
        "y_scale": np.float32(OUTPUT_SCALE),
        "y_zero": np.int8(OUTPUT_ZERO_POINT),
    }
    int8 = TensorProto.INT8
    return model(
        nodes, inputs={"x": (1, 4)}, outputs={"y": (1, 3)}, constants=constants, dtype=int8
    )


def dynamic_batch_model() -> bytes:
    """``float_model`` whose batch is called N."""
    return model(
        [helper.make_node("Gemm", ["x", "weights", "bias"], ["y"], name="gemm", transB=1)],
        inputs={"x": ("N", 4)},
        outputs={"y": ("N", 3)},
        constants={"weights": WEIGHTS, "bias": BIAS},
    )


def two_in_two_out_model() -> bytes:
    """Inputs ``a`` and ``b`` float32 (1, 2); outputs ``a + b`` and ``a * b``."""
    return model(
        [
            helper.make_node("Add", ["a", "b"], ["sum"], name="add"),
            helper.make_node("Mul", ["a", "b"], ["product"], name="mul"),
        ],
        inputs={"a": (1, 2), "b": (1, 2)},
        outputs={"sum": (1, 2), "product": (1, 2)},
        constants={},
    )


def wide_model(width: int = 512) -> bytes:
    """One ``width`` by ``width`` float matrix: big enough that a run takes tens of microseconds."""
    weights = np.random.default_rng(7).normal(0, 0.01, (width, width)).astype(np.float32)
    return model(
        [helper.make_node("MatMul", ["x", "weights"], ["y"], name="matmul")],
        inputs={"x": (1, width)},
        outputs={"y": (1, width)},
        constants={"weights": weights},
    )


def conv_net(opset: int = OPSET, ir_version: int = IR_VERSION, side: int = 16) -> bytes:
    """Two convolutions, a depthwise one, pooling, a matrix and softmax, of seeded random weights.

    Input ``image`` float32 (1, 3, side, side), NCHW; output ``scores`` float32 (1, 10).
    """
    rng = np.random.default_rng(SEED)

    def weight(*shape: int) -> np.ndarray:
        fan_in = float(np.prod(shape[1:]))
        return rng.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)

    constants = {
        "w1": weight(16, 3, 3, 3), "b1": rng.normal(0, 0.1, 16).astype(np.float32),
        "w2": weight(16, 1, 3, 3), "b2": rng.normal(0, 0.1, 16).astype(np.float32),
        "w3": weight(32, 16, 1, 1), "b3": rng.normal(0, 0.1, 32).astype(np.float32),
        "w4": weight(10, 32), "b4": rng.normal(0, 0.1, 10).astype(np.float32),
    }  # fmt: skip
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node(
            "Conv", ["image", "w1", "b1"], ["c1"], name="conv1", pads=pads, strides=[2, 2]
        ),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="depthwise", pads=pads, group=16),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], name="conv3"),
        helper.make_node("Relu", ["c3"], ["r3"], name="relu3"),
        helper.make_node("GlobalAveragePool", ["r3"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["logits"], name="dense", transB=1),
        helper.make_node("Softmax", ["logits"], ["scores"], name="softmax", axis=1),
    ]
    return model(
        nodes,
        inputs={"image": (1, 3, side, side)},
        outputs={"scores": (1, 10)},
        constants=constants,
        opset=opset,
        ir_version=ir_version,
    )


def model(
    nodes: list,
    *,
    inputs: dict,
    outputs: dict,
    constants: dict,
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
    dtype: int = TensorProto.FLOAT,
    checked: bool = True,
) -> bytes:
    """A model of these nodes; ``dtype`` is of all inputs and outputs."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = ir_version
    if checked:
        onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString(deterministic=True)
