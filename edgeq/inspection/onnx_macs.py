"""Multiply-accumulates of ONNX operators by the shapes of their inputs."""

from collections.abc import Callable, Sequence

from edgeq.core import macs
from edgeq.core.macs import Shape
from edgeq.inspection.onnx_ops import Node, attribute_of


def macs_of(node: Node, shapes: Sequence[Shape], result: Shape) -> int | None:
    """Multiply-accumulates of a node; None where they cannot be counted."""
    if node.op_type in _UNCOUNTED:
        return None
    count = _COUNTS.get(node.op_type)
    return count(node, shapes, result) if count else 0


def _side(shape: Shape, axis: int) -> int | None:
    return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None


def _shape(shapes: Sequence[Shape], place: int) -> Shape:
    return shapes[place] if place < len(shapes) else None


def _convolution(weights_place: int) -> "Count":
    def count(_: Node, shapes: Sequence[Shape], result: Shape) -> int | None:
        weights = _shape(shapes, weights_place)  # (outputs, inputs by groups, kernel …)
        return macs.convolution(result, weights[2:] if weights else (None,), _side(weights, 1))

    return count


def _transposed(_: Node, shapes: Sequence[Shape], __: Shape) -> int | None:
    weights = _shape(shapes, 1)  # (inputs, outputs by groups, kernel …)
    kernel = weights[2:] if weights else (None,)
    return macs.transposed(_shape(shapes, 0), kernel, _side(weights, 1))


def _matmul(_: Node, shapes: Sequence[Shape], result: Shape) -> int | None:
    return macs.product(result, _side(_shape(shapes, 0), -1))


def _gemm(node: Node, shapes: Sequence[Shape], result: Shape) -> int | None:
    return macs.product(
        result, _side(_shape(shapes, 0), 0 if attribute_of(node, "transA", 0) else 1)
    )


def _packed_matmul(node: Node, _: Sequence[Shape], result: Shape) -> int | None:
    return macs.product(result, attribute_of(node, "K", 0) or None)


def _recurrent(_: Node, shapes: Sequence[Shape], __: Shape) -> int | None:
    # X is (time, batch, inputs); W and R hold all gates of all directions
    source = _shape(shapes, 0)
    return macs.recurrent((_side(source, 0), _side(source, 1)), [_shape(shapes, i) for i in (1, 2)])


Count = Callable[[Node, Sequence[Shape], Shape], int | None]
_COUNTS: dict[str, Count] = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "QLinearMatMul": _matmul,
    "Gemm": _gemm,
    "QGemm": _gemm,
    "MatMulNBits": _packed_matmul,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
_UNCOUNTED = frozenset(
    {
        "Einsum", "Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention",
        "DeformConv", "If", "Loop", "Scan", "DFT", "STFT", "FusedMatMul", "FusedGemm",
        "NhwcFusedConv", "NhwcConv", "DynamicQuantizeLSTM", "ConvTransposeWithDynamicPads",
    }
)  # fmt: skip
