"""Bias correction of a float .tflite."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from edgeq.core import bias
from edgeq.core.bias import Doubles, Window
from edgeq.formats.tflite_graph import BIAS, DATA, WEIGHTS, Graph, Op, interpreter, run
from edgeq.ports import Batch

_SAME = 0  # schema.fbs, enum Padding


Means = Mapping[int, Doubles]
"""Of each layer, by the number of its weights: what ``core.bias.shift`` takes."""


def measure(content: bytes, batches: Iterable[Batch]) -> Means:
    """The means of a float .tflite over real inputs.

    Raises:
        ModelError: the file is damaged.
        ValueError, RuntimeError: LiteRT cannot run it.
    """
    graph = Graph(content)
    ops = [op for op in graph.layers() if _has_bias(op) and _reads_all(graph, op)]
    loaded = interpreter(content, preserve=True)
    sums: dict[int, Doubles] = {}
    count = 0
    for batch in batches:
        run(loaded, batch)
        count += 1
        for op in ops:
            mean = _mean(graph, op, loaded.get_tensor(op.inputs[DATA]))
            sums[op.inputs[WEIGHTS]] = sums.get(op.inputs[WEIGHTS], np.zeros(1)) + mean
    return {number: total / count for number, total in sums.items()}


def corrected(content: bytes, quantized: bytes, means: Means) -> bytes:
    """The float model with other biases.

    Args:
        content: A float .tflite.
        quantized: What a recipe makes of it; layers are found again by their weights' names.
        means: Of ``content``.

    Raises:
        ModelError: a file is damaged.
    """
    graph = Graph(content)
    for op, error in _errors(graph, Graph(quantized)):
        mean = means.get(op.inputs[WEIGHTS])
        if mean is None:
            continue
        depthwise = op.name == "DEPTHWISE_CONV_2D"
        error_by_channel = np.moveaxis(error[0], -1, 0) if depthwise else error
        shift = bias.shift(error_by_channel, mean, depthwise=depthwise)
        number = op.inputs[BIAS]
        graph.replace(number, graph.real(number) - shift)
    return graph.content()


def _errors(graph: Graph, quantized: Graph) -> Iterable[tuple[Op, Doubles]]:
    """Rounded weights less true ones, of each layer with a bias and rounded weights."""
    rounded = {
        tensor.name: number
        for number, tensor in enumerate(quantized.tensors)
        if tensor.constant and tensor.scales.size
    }
    for op in graph.layers():
        tensor = graph.tensors[op.inputs[WEIGHTS]]
        number = rounded.get(tensor.name)
        if _has_bias(op) and number is not None and quantized.tensors[number].shape == tensor.shape:
            yield op, quantized.real(number) - graph.real(op.inputs[WEIGHTS])


def _has_bias(op: Op) -> bool:
    return len(op.inputs) > BIAS and op.inputs[BIAS] >= 0


def _reads_all(graph: Graph, op: Op) -> bool:
    """Each output channel reads all input channels, or just one: no groups in between."""
    channels = graph.tensors[op.inputs[DATA]].shape[-1]
    return op.name != "CONV_2D" or graph.tensors[op.inputs[WEIGHTS]].shape[-1] == channels


def _mean(graph: Graph, op: Op, values: npt.NDArray[np.float32]) -> Doubles:
    shape = graph.tensors[op.inputs[WEIGHTS]].shape
    if op.name == "FULLY_CONNECTED":
        dense: Doubles = values.reshape(-1, shape[1]).mean(axis=0, dtype=np.float64)
        return dense
    options, kernel = op.options, shape[1:3]
    strides = (options.strideH, options.strideW)
    dilations = (options.dilationHFactor, options.dilationWFactor)
    steps = graph.tensors[op.outputs[0]].shape[1:3]
    sizes = values.shape[1:3]
    padding = [
        max((n - 1) * stride + (side - 1) * dilation + 1 - size, 0) // 2
        for n, stride, side, dilation, size in zip(
            steps, strides, kernel, dilations, sizes, strict=True
        )
    ]
    before = tuple(padding) if options.padding == _SAME else (0, 0)
    window = Window(kernel=kernel, strides=strides, dilations=dilations, before=before, steps=steps)
    return bias.window_means(values, window)
