"""A plan as tf-keras models: plain, and with int8 rounding in its way.

Rounding is what ai-edge-quantizer's int8 does: weights symmetric per output channel, the range
being their largest magnitude; activations by one range for a tensor, from calibration. Gradients
pass straight through (Jacob et al. 2018, "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", 3).

Imports tf-keras, so it is itself imported late.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.quantization import keras as tfmot

from edgeq.qat.plan import LINEAR, Plan, Step, rounded

Floats = npt.NDArray[np.float32]
_LEAST_RANGE = 1e-6  # of a tensor that is always 0
_KERNELS = {"DepthwiseConv2D": "depthwise_kernel"}
# Kernels whose output channels do not stand last: (height, width, outputs, inputs).
_PERMUTED = {"Conv2DTranspose": (0, 1, 3, 2)}
_DROPPING = frozenset({"Dropout", "SpatialDropout1D", "SpatialDropout2D"})
_RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}
_ACTIVATIONS = {"silu": "swish"}


@dataclass(slots=True)
class Built:
    """A tf-keras model and its parts by the plan's names.

    Attributes:
        tensors: Outputs of entries and steps, rounded where they are.
        variables: Of each step with weights, in the order of Keras' ``get_weights``.
        ranges: Of each tensor that is rounded.
        clock: Counts training steps; dropout's chance depends on it alone, so that training that
            was interrupted goes on as if it had not been.
    """

    model: Any = None
    tensors: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, list[Any]] = field(default_factory=dict)
    ranges: dict[str, "Range"] = field(default_factory=dict)
    clock: Any = field(default_factory=lambda: tf.Variable(0, dtype=tf.int32))

    def weights(self) -> dict[str, list[Floats]]:
        """Copies, by step."""
        return {name: [v.numpy() for v in group] for name, group in self.variables.items()}

    def set_weights(self, weights: Mapping[str, Sequence[Floats]]) -> None:
        for name, group in self.variables.items():
            for variable, value in zip(group, weights[name], strict=True):
                variable.assign(value)


class Range(tfmot.quantizers.Quantizer):  # type: ignore[misc]  # untyped library
    """Rounds a tensor to 256 steps between two ends, which are variables."""

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:  # noqa: ANN401, ARG002
        self.low, self.high = (
            layer.add_weight(f"{name}_{end}", shape=(), initializer="zeros", trainable=False)
            for end in ("low", "high")
        )
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **_: Any) -> Any:  # noqa: ANN401, ARG002
        return tf.quantization.fake_quant_with_min_max_vars(inputs, self.low, self.high)

    def get_config(self) -> dict[str, Any]:
        return {}

    def assign(self, low: float, high: float) -> None:
        """Both ends; 0 lies between them, as int8 must hold it exactly."""
        self.low.assign(min(low, 0.0))
        self.high.assign(max(high, 0.0, self.low.numpy() + _LEAST_RANGE))


class _Kernel(tfmot.quantizers.Quantizer):  # type: ignore[misc]  # untyped library
    """Rounds a kernel to -127 … 127 steps of each output channel's largest magnitude."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:  # noqa: ANN401, ARG002
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **_: Any) -> Any:  # noqa: ANN401, ARG002
        order = _PERMUTED.get(self._kind)
        kernel = tf.transpose(inputs, order) if order else inputs
        shape = kernel.shape
        channels = shape[-1] * shape[-2] if self._kind == "DepthwiseConv2D" else shape[-1]
        rows = tf.reshape(kernel, (-1, channels))
        ends = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(rows), axis=0), _LEAST_RANGE))
        rows = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            rows, -ends, ends, narrow_range=True
        )
        kernel = tf.reshape(rows, shape)
        return tf.transpose(kernel, order) if order else kernel

    def get_config(self) -> dict[str, Any]:
        return {"kind": self._kind}


class _Rounding(tfmot.QuantizeConfig):  # type: ignore[misc]  # untyped library
    """What of a layer is rounded; ``output``: None where another op takes it up unrounded."""

    def __init__(self, kind: str, output: Range | None) -> None:
        self._kind = kind
        self._output = output

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
        if self._kind not in LINEAR:
            return []
        return [(getattr(layer, self._attribute), _Kernel(self._kind))]

    def set_quantize_weights(self, layer: Any, quantize_weights: Sequence[Any]) -> None:  # noqa: ANN401
        for kernel in quantize_weights:
            setattr(layer, self._attribute, kernel)

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401, ARG002
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: Sequence[Any]) -> None:  # noqa: ANN401
        pass

    def get_output_quantizers(self, layer: Any) -> list[Range]:  # noqa: ANN401, ARG002
        return [self._output] if self._output else []

    def get_config(self) -> dict[str, Any]:
        return {"kind": self._kind, "output": self._output}

    @property
    def _attribute(self) -> str:
        return _KERNELS.get(self._kind, "kernel")


class _Dropout(tf_keras.layers.Layer):  # type: ignore[misc]  # untyped library
    """Dropout of elements, or of whole channels; ``place`` tells layers apart."""

    def __init__(self, step: Step, place: int, clock: Any) -> None:  # noqa: ANN401
        super().__init__(name=step.name)
        self._step = step
        self._place = place
        # a variable as an attribute would become the layer's weight
        self._now: Callable[[], Any] = lambda: clock

    def call(self, inputs: Any, training: bool = False) -> Any:  # noqa: ANN401
        if not training or not self._step.options["rate"]:
            return inputs
        seed = tf.stack([tf.constant(self._place), self._now()])
        shape = self._noise_shape(tf.shape(inputs))
        dropout: Any = tf.nn.experimental.stateless_dropout
        return dropout(inputs, self._step.options["rate"], seed=seed, noise_shape=shape)

    def _noise_shape(self, shape: Any) -> Any:  # noqa: ANN401
        sides = self._step.options.get("noise_shape")
        if self._step.kind != "Dropout":
            return tf.concat([shape[:1], tf.ones_like(shape[1:-1]), shape[-1:]], axis=0)
        if sides is None:
            return shape
        return tf.stack([shape[i] if side is None else side for i, side in enumerate(sides)])


def plain(plan: Plan) -> Built:
    """The model as it is."""
    return _build(plan, frozenset())


def rounding(plan: Plan) -> Built:
    """The model that rounds; all ranges are still 0."""
    return _build(plan, rounded(plan))


def _build(plan: Plan, names: frozenset[str]) -> Built:
    built = Built()
    inputs = [tf_keras.Input(e.shape, dtype=e.dtype, name=e.name) for e in plan.entries]
    for entry, given in zip(plan.entries, inputs, strict=True):
        built.tensors[entry.name] = given
        if entry.name in names:
            entered = Step(name=entry.name, kind="Identity", sources=(entry.name,))
            _add_rounded(built, entered, names)
    for step in plan.steps:
        if step.name in names or (names and step.kind in LINEAR):
            _add_rounded(built, step, names)
        else:
            _add(built, step)
    built.model = tf_keras.Model(inputs, [built.tensors[name] for name in plan.outputs])
    return built


def _add(built: Built, step: Step) -> None:
    layer = _layer(step, built)
    built.tensors[step.name] = layer(_fed(built, step))
    if layer.weights:
        built.variables[step.name] = list(layer.weights)


def _add_rounded(built: Built, step: Step, names: frozenset[str]) -> None:
    layer = _layer(step, built)
    output = Range() if step.name in names else None
    wrapper = tfmot.QuantizeWrapperV2(layer, _Rounding(step.kind, output))
    fed = _fed(built, step)
    wrapper.build([t.shape for t in fed] if isinstance(fed, list) else fed.shape)
    # a call puts the rounded kernel in the variable's place, so they are taken down before it
    if layer.weights:
        built.variables[step.name] = list(layer.weights)
    built.tensors[step.name] = wrapper(fed)
    if output:
        built.ranges[step.name] = output


def _fed(built: Built, step: Step) -> Any:  # noqa: ANN401  untyped library
    tensors = [built.tensors[name] for name in step.sources]
    return tensors[0] if len(tensors) == 1 else tensors


def _layer(step: Step, built: Built) -> Any:  # noqa: ANN401  untyped library
    if step.kind in _DROPPING:
        return _Dropout(step, len(built.tensors), built.clock)
    options = {
        _RENAMED.get((step.kind, name), name): value
        for name, value in step.options.items()
        if value is not None
    }
    if step.kind == "Activation":
        options["activation"] = _ACTIVATIONS.get(options["activation"], options["activation"])
    layer = getattr(tf_keras.layers, step.kind)(name=step.name, **options)
    if step.kind == "BatchNormalization":
        # as it runs on the device: the ranges belong to its moving averages, not to a batch's
        layer.trainable = False
    return layer
