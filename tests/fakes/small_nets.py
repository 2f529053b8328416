"""Float .tflite nets of a few layers with weights of the test's choice, and their data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgeq.core.model import FloatModel, Source
from edgeq.core.samples import Samples
from edgeq.formats import tflite
from tests.fakes import tiny_model
from tests.fakes.tiny_model import FLOAT32, INT32

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
NONE, RELU, RELU6 = (
    schema.ActivationFunctionType.NONE,
    schema.ActivationFunctionType.RELU,
    schema.ActivationFunctionType.RELU6,
)
_OP = schema.BuiltinOperator
_OPTIONS = schema.BuiltinOptions


class Net:
    """Each method adds an op behind the last one, and gives the number of its output."""

    def __init__(self, *shape: int) -> None:
        self._tensors = [tiny_model._Tensor(name="x", shape=shape)]
        self._operators = []
        self.last = 0

    def conv(self, weights, bias=None, activation=RELU, stride=1, padding=SAME) -> int:
        """``weights``: (channels out, height, width, channels in)."""
        options = schema.Conv2DOptionsT()
        options.fusedActivationFunction = activation
        window = (weights.shape[1], stride, padding)
        shape = (*self._window(options, window), len(weights))
        inputs = self._layer(weights, np.zeros(len(weights)) if bias is None else bias)
        return self._add("CONV_2D", _OPTIONS.Conv2DOptions, options, inputs, shape)

    def depthwise(self, weights, bias=None, activation=RELU, stride=1, padding=SAME) -> int:
        """``weights``: (1, height, width, channels out)."""
        options = schema.DepthwiseConv2DOptionsT()
        options.fusedActivationFunction = activation
        channels = weights.shape[3]
        options.depthMultiplier = channels // self._tensors[self.last].shape[3]
        shape = (*self._window(options, (weights.shape[1], stride, padding)), channels)
        inputs = self._layer(weights, np.zeros(channels) if bias is None else bias)
        kind = _OPTIONS.DepthwiseConv2DOptions
        return self._add("DEPTHWISE_CONV_2D", kind, options, inputs, shape)

    def dense(self, weights, bias=None, activation=NONE) -> int:
        """``weights``: (outputs, inputs)."""
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        inputs = [self.last, self._constant("weights", weights)]
        inputs += [] if bias is None else [self._constant("bias", bias)]
        return self._add("FULLY_CONNECTED", _OPTIONS.FullyConnectedOptions, options, inputs,
                         (1, len(weights)))  # fmt: skip

    def pool(self, kind: str, size: int = 2) -> int:
        """``kind``: MAX_POOL_2D or AVERAGE_POOL_2D."""
        options = schema.Pool2DOptionsT()
        options.filterHeight = options.filterWidth = options.strideH = options.strideW = size
        options.padding = VALID
        _, height, width, channels = self._tensors[self.last].shape
        shape = (1, height // size, width // size, channels)
        return self._add(kind, _OPTIONS.Pool2DOptions, options, [self.last], shape)

    def mean(self) -> int:
        options = schema.ReducerOptionsT()
        axes = self._constant("axes", np.array([1, 2], np.int32), INT32)
        shape = (1, self._tensors[self.last].shape[3])
        return self._add("MEAN", _OPTIONS.ReducerOptions, options, [self.last, axes], shape)

    def pad(self) -> int:
        """One row and column of zeros on each side."""
        amounts = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
        places = self._constant("paddings", amounts, INT32)
        _, height, width, channels = self._tensors[self.last].shape
        shape = (1, height + 2, width + 2, channels)
        return self._add("PAD", _OPTIONS.PadOptions, schema.PadOptionsT(), [self.last, places],
                         shape)  # fmt: skip

    def flatten(self) -> int:
        shape = (1, int(np.prod(self._tensors[self.last].shape)))
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        target = self._constant("shape", np.array(shape, np.int32), INT32)
        return self._add("RESHAPE", _OPTIONS.ReshapeOptions, options, [self.last, target], shape)

    def relu(self) -> int:
        shape = self._tensors[self.last].shape
        return self._add("RELU", _OPTIONS.NONE, None, [self.last], shape)

    def softmax(self) -> int:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        shape = self._tensors[self.last].shape
        return self._add("SOFTMAX", _OPTIONS.SoftmaxOptions, options, [self.last], shape)

    def plus(self, other: int) -> int:
        options = schema.AddOptionsT()
        shape = self._tensors[self.last].shape
        return self._add("ADD", _OPTIONS.AddOptions, options, [self.last, other], shape)

    def content(self, *more_outputs: int) -> bytes:
        outputs = (self.last, *more_outputs)
        return tiny_model._pack(self._tensors, self._operators, (0,), outputs)

    def _window(self, options, window) -> tuple[int, int, int]:
        """Set kernel, stride and padding, and give the output's shape without its channels."""
        kernel, stride, options.padding = window
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        sides = self._tensors[self.last].shape[1:3]
        if options.padding == SAME:
            return (1, *(-(-side // stride) for side in sides))
        return (1, *((side - kernel) // stride + 1 for side in sides))

    def _layer(self, weights, bias) -> list[int]:
        return [self.last, self._constant("weights", weights), self._constant("bias", bias)]

    def _constant(self, name, values, dtype=FLOAT32) -> int:
        data = np.asarray(values, np.float32 if dtype == FLOAT32 else np.int32)
        self._tensors.append(
            tiny_model._Tensor(
                name=f"{name}_{len(self._tensors)}",
                shape=data.shape,
                dtype=dtype,
                data=data.tobytes(),
            )
        )
        return len(self._tensors) - 1

    def _add(self, op, kind, options, inputs, shape) -> int:
        self._tensors.append(
            tiny_model._Tensor(name=f"{op.lower()}_{len(self._tensors)}", shape=shape)
        )
        self.last = len(self._tensors) - 1
        self._operators.append(((getattr(_OP, op), kind, options), inputs, (self.last,)))
        return self.last


def separable(seed: int = 3, classes: int = 6) -> bytes:
    """Conv, depthwise, pointwise, mean, dense, softmax; input (1, 8, 8, 2)."""
    random = np.random.default_rng(seed)
    net = Net(1, 8, 8, 2)
    net.conv(random.normal(0, 0.4, (8, 3, 3, 2)), random.normal(0, 0.2, 8))
    net.depthwise(random.normal(0, 0.4, (1, 3, 3, 8)), random.normal(0, 0.2, 8))
    net.conv(random.normal(0, 0.5, (32, 1, 1, 8)), random.normal(0, 0.2, 32))
    net.mean()
    net.dense(random.normal(0, 0.5, (classes, 32)), random.normal(0, 0.2, classes))
    net.softmax()
    return net.content()


def pivot(content: bytes, folder: Path) -> FloatModel:
    """The file as a loader would give it."""
    path = folder / "pivot.tflite"
    path.write_bytes(content)
    tensors = tflite.Runner(path).tensors
    source = Source(path=path, name="net", kind="tflite", sha256="", size_bytes=len(content))
    return FloatModel(
        path=path,
        format="tflite",
        sha256="",
        source=source,
        inputs=tensors.inputs,
        outputs=tensors.outputs,
        check_samples=0,
        check_max_abs_diff=0.0,
    )


def samples(model: FloatModel, count: int = 40, seed: int = 5) -> Samples:
    random = np.random.default_rng(seed)
    inputs = (random.normal(0, 1, (count, *model.inputs[0].shape[1:])).astype(np.float32),)
    return Samples(inputs=inputs, origin="a test", sha256="")


def answers(content: bytes, inputs: np.ndarray, **options) -> np.ndarray:
    """Real values of the first output for each sample, reckoned from the file's own scales."""
    interpreter = Interpreter(model_content=content, **options)
    interpreter.allocate_tensors()
    given, asked = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for one in inputs:
        scale, zero_point = given["quantization"]
        if scale:
            limits = np.iinfo(given["dtype"])
            one = np.clip(np.rint(one / scale + zero_point), limits.min, limits.max)  # noqa: PLW2901
        interpreter.set_tensor(given["index"], one[None].astype(given["dtype"]))
        interpreter.invoke()
        raw = interpreter.get_tensor(asked["index"])[0].astype(np.float64)
        scale, zero_point = asked["quantization"]
        found.append((raw - zero_point) * scale if scale else raw)
    return np.array(found)


def sqnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    noise = float(np.sum((expected - found) ** 2))
    return float("inf") if noise == 0 else 10 * np.log10(float(np.sum(expected**2)) / noise)
