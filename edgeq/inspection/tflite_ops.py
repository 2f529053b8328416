"""Multiply-accumulates of TensorFlow Lite's operators by the shapes of their inputs."""

from collections.abc import Callable, Sequence
from typing import Any

from edgeq.core import macs
from edgeq.core.macs import Shape


def macs_of(kind: str, op: Any, shapes: Sequence[Shape], result: Shape) -> int | None:  # noqa: ANN401
    """Of one operator; None where they cannot be counted.

    Args:
        kind: Its name in the schema.
        op: The schema's object, for its options.
        shapes: Of its inputs; None for one that is left out.
        result: Of its first output.
    """
    if kind in _UNCOUNTED:
        return None
    count = _COUNTS.get(kind)
    return count(shapes, result, op) if count else 0


Count = Callable[[Sequence[Shape], Shape, Any], int | None]


def _side(shape: Shape, axis: int) -> int | None:
    return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None


def _convolution(shapes: Sequence[Shape], result: Shape, _: Any) -> int | None:  # noqa: ANN401  see macs_of
    # weights: (outputs, height, width, inputs by groups)
    weights = shapes[1]
    return macs.convolution(result, (_side(weights, 1), _side(weights, 2)), _side(weights, 3))


def _depthwise(shapes: Sequence[Shape], result: Shape, _: Any) -> int | None:  # noqa: ANN401  see macs_of
    weights = shapes[1]  # (1, height, width, outputs)
    return macs.convolution(result, (_side(weights, 1), _side(weights, 2)), 1)


def _transposed(shapes: Sequence[Shape], _: Shape, __: Any) -> int | None:  # noqa: ANN401  see macs_of
    weights = shapes[1]  # (outputs, height, width, inputs); the input comes third
    return macs.transposed(shapes[2], (_side(weights, 1), _side(weights, 2)), _side(weights, 0))


def _convolution_3d(shapes: Sequence[Shape], result: Shape, _: Any) -> int | None:  # noqa: ANN401  see macs_of
    weights = shapes[1]  # (depth, height, width, inputs, outputs)
    return macs.convolution(result, (_side(weights, i) for i in range(3)), _side(weights, 3))


def _transposed_3d(shapes: Sequence[Shape], _: Shape, __: Any) -> int | None:  # noqa: ANN401  see macs_of
    weights = shapes[1]  # (depth, height, width, outputs, inputs); the input comes third
    return macs.transposed(shapes[2], (_side(weights, i) for i in range(3)), _side(weights, 3))


def _dense(shapes: Sequence[Shape], result: Shape, _: Any) -> int | None:  # noqa: ANN401  see macs_of
    return macs.product(result, _side(shapes[1], 1))  # weights: (outputs, inputs)


def _matmul(shapes: Sequence[Shape], result: Shape, op: Any) -> int | None:  # noqa: ANN401  see macs_of
    swapped = bool(op.builtinOptions and op.builtinOptions.adjX)
    return macs.product(result, _side(shapes[0], -2 if swapped else -1))


def _lstm(shapes: Sequence[Shape], _: Shape, __: Any) -> int | None:  # noqa: ANN401  see macs_of
    # tensorflow/lite/kernels/lstm_shared.h: 1 to 8 are the gates' matrices, 16 the projection's
    weights = [shape for shape in (*shapes[1:9], *shapes[16:17]) if shape is not None]
    return macs.recurrent((_side(shapes[0], 0), _side(shapes[0], 1)), weights)


def _rnn(shapes: Sequence[Shape], _: Shape, __: Any) -> int | None:  # noqa: ANN401  see macs_of
    steps = (_side(shapes[0], 0), _side(shapes[0], 1))
    return macs.recurrent(steps, [shape for shape in shapes[1:3] if shape is not None])


_COUNTS: dict[str, Count] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _convolution_3d,
    "CONV_3D_TRANSPOSE": _transposed_3d,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _matmul,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _rnn,
}
# they multiply too, but in ways that their shapes alone do not tell
_UNCOUNTED = frozenset(
    {
        "LSTM", "RNN", "SVDF", "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN",
        "RFFT2D", "WHILE", "IF", "CALL_ONCE", "STABLEHLO_CONVOLUTION",
        "STABLEHLO_DOT_GENERAL", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE", "STABLEHLO_CUSTOM_CALL",
    }
)  # fmt: skip
