"""Small float networks of the shapes that real ones have, with seeded random weights."""

from __future__ import annotations

import itertools

import numpy as np
from onnx import helper

from tests.fakes import tiny_onnx

PADS = [1, 1, 1, 1]


class Builder:
    """Collects nodes and constants; each method gives the name of its result."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self.nodes: list = []
        self.constants: dict = {}

    def weight(self, *shape: int, fan_in: int) -> str:
        name = f"w{len(self.constants)}"
        values = self._generator.normal(0, (2 / fan_in) ** 0.5, shape)
        self.constants[name] = values.astype(np.float32)
        return name

    def vector(self, size: int, low: float = -0.1, high: float = 0.1) -> str:
        name = f"v{len(self.constants)}"
        self.constants[name] = self._generator.uniform(low, high, size).astype(np.float32)
        return name

    def op(self, op_type: str, *inputs: str, output: str = "", **attributes) -> str:
        name = f"{op_type.lower()}{len(self.nodes)}"
        output = output or f"{name}_out"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name, **attributes))
        return output

    def conv(self, x: str, inputs: int, outputs: int, side=3, stride=1, group=1, output="") -> str:
        """With batch normalization and ReLU behind it, unless it makes an output."""
        weight = self.weight(outputs, inputs // group, side, side, fan_in=inputs // group * side**2)
        pads = [side // 2] * 4
        attributes = {"pads": pads, "strides": [stride] * 2, "group": group}
        if output:
            bias = self.vector(outputs)
            return self.op("Conv", x, weight, bias, output=output, **attributes)
        made = self.op("Conv", x, weight, **attributes)
        norm = [self.vector(outputs, 0.5, 1.5), self.vector(outputs), self.vector(outputs)]
        made = self.op("BatchNormalization", made, *norm, self.vector(outputs, 0.5, 1.5))
        return self.op("Relu", made)

    def dense(self, x: str, inputs: int, outputs: int, output: str = "") -> str:
        weight = self.weight(inputs, outputs, fan_in=inputs)
        return self.op("Gemm", x, weight, self.vector(outputs), output=output)


def residual(opset: int = 17, ir_version: int = 8) -> bytes:
    """NCHW ``image`` (1, 3, 24, 24) to ``scores`` (1, 10): two blocks with a shortcut."""
    b = Builder(1)
    x = b.conv("image", 3, 16)
    for _ in range(2):
        x = b.op("Relu", b.op("Add", b.conv(b.conv(x, 16, 16), 16, 16), x))
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    b.op("Softmax", b.dense(x, 16, 10), output="scores", axis=1)
    return _model(b, {"image": (1, 3, 24, 24)}, {"scores": (1, 10)}, opset, ir_version)


def depthwise(opset: int = 17, ir_version: int = 8) -> bytes:
    """NHWC ``image`` (1, 24, 24, 3) to ``scores`` (1, 12): as exporters from Keras write it."""
    b = Builder(2)
    x = b.conv(b.op("Transpose", "image", perm=[0, 3, 1, 2]), 3, 16, stride=2)
    for inputs, outputs in ((16, 32), (32, 32), (32, 64)):
        x = b.conv(b.conv(x, inputs, inputs, group=inputs), inputs, outputs, side=1)
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    b.op("Softmax", b.dense(x, 64, 12), output="scores", axis=1)
    return _model(b, {"image": (1, 24, 24, 3)}, {"scores": (1, 12)}, opset, ir_version)


def autoencoder(opset: int = 17, ir_version: int = 8) -> bytes:
    """``x`` (1, 128) to ``y`` (1, 128) through 8 numbers; matrices alone."""
    b = Builder(3)
    x, sides = "x", (128, 64, 64, 8, 64, 64)
    for inputs, outputs in itertools.pairwise(sides):
        x = b.op("Relu", b.dense(x, inputs, outputs))
    b.dense(x, 64, 128, output="y")
    return _model(b, {"x": (1, 128)}, {"y": (1, 128)}, opset, ir_version)


def pyramid(opset: int = 17, ir_version: int = 8) -> bytes:
    """NCHW ``image`` (1, 3, 32, 32) to ``boxes`` (1, 8, 8, 8) and ``mask`` (1, 1, 32, 32)."""
    b = Builder(4)
    wide = b.conv("image", 3, 16, stride=2)
    deep = b.conv(wide, 16, 32, stride=2)
    b.conv(deep, 32, 8, side=1, output="boxes")
    scales = "scales"
    b.constants[scales] = np.array([1, 1, 2, 2], np.float32)
    up = b.op("Resize", deep, "", scales, mode="nearest")
    x = b.conv(b.op("Concat", up, wide, axis=1), 48, 16)
    x = b.op("Resize", x, "", scales, mode="nearest")
    b.op("Sigmoid", b.conv(x, 16, 1, side=1, output="mask_logits"), output="mask")
    outputs = {"boxes": (1, 8, 8, 8), "mask": (1, 1, 32, 32)}
    return _model(b, {"image": (1, 3, 32, 32)}, outputs, opset, ir_version)


def attention(opset: int = 17, ir_version: int = 8) -> bytes:
    """``tokens`` (1, 16, 32) and ``bias`` (1, 16, 16) to ``mixed`` (1, 16, 32): one head."""
    b = Builder(5)
    query, key, value = (b.op("MatMul", "tokens", b.weight(32, 32, fan_in=32)) for _ in range(3))
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 2, 1]))
    weights = b.op("Softmax", b.op("Add", scores, "bias"), axis=-1)
    x = b.op("Add", b.op("MatMul", weights, value), "tokens")
    x = b.op("LayerNormalization", x, b.vector(32, 0.5, 1.5), b.vector(32), axis=-1)
    b.op("MatMul", x, b.weight(32, 32, fan_in=32), output="mixed")
    inputs = {"tokens": (1, 16, 32), "bias": (1, 16, 16)}
    return _model(b, inputs, {"mixed": (1, 16, 32)}, opset, ir_version)


ALL = {
    "residual": residual,
    "depthwise": depthwise,
    "autoencoder": autoencoder,
    "pyramid": pyramid,
    "attention": attention,
}


def _model(b: Builder, inputs: dict, outputs: dict, opset: int, ir_version: int) -> bytes:
    return tiny_onnx.model(
        b.nodes, inputs=inputs, outputs=outputs, constants=b.constants,
        opset=opset, ir_version=ir_version,
    )  # fmt: skip
