"""Bias correction: the means against plain sums, and what it does to real quantized nets."""

import numpy as np
import pytest

from edgeq.biases import onnx as onnx_biases
from edgeq.biases import tflite as tflite_biases
from edgeq.core import bias
from edgeq.core.bias import Window
from edgeq.formats import onnx as onnx_files
from edgeq.formats.tflite_graph import Graph
from edgeq.ports import Recipe
from edgeq.quantizers.tflite_requantizer import Requantizer
from tests.fakes import small_nets
from tests.fakes.small_nets import NONE, RELU, SAME, VALID, Net
from tests.onnx import nets

RANDOM = np.random.default_rng


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_window_means_are_those_of_a_plain_loop(stride, before, dilation):
    values = RANDOM(1).normal(0, 1, (2, 7, 6, 3))
    steps = (3, 2)
    window = Window(
        kernel=(3, 2), strides=(stride,) * 2, dilations=(dilation,) * 2, before=(before,) * 2,
        steps=steps,
    )  # fmt: skip
    expected = np.zeros((3, 2, 3))
    for i, j, sample, row, column in np.ndindex(3, 2, 2, *steps):
        y = row * stride + i * dilation - before
        x = column * stride + j * dilation - before
        if 0 <= y < 7 and 0 <= x < 6:
            expected[i, j] += values[sample, y, x] / (2 * 3 * 2)
    np.testing.assert_allclose(bias.window_means(values, window), expected, atol=1e-12)


def layered(last, kind=NONE):
    random = RANDOM(2)
    net = Net(1, 9, 7, 3)
    net.conv(random.normal(0.1, 0.5, (6, 3, 3, 3)), random.normal(0, 1, 6), RELU)
    last(net, random, kind)
    return net.content()


def a_conv(net, random, kind, padding=SAME, stride=2):
    net.conv(random.normal(0.1, 0.5, (4, 3, 3, 6)), random.normal(0, 1, 4), kind, stride, padding)


def a_valid_conv(net, random, kind):
    a_conv(net, random, kind, VALID, 1)


def a_depthwise(net, random, kind):
    net.depthwise(random.normal(0.1, 0.5, (1, 3, 3, 12)), random.normal(0, 1, 12), kind, 2)


def a_dense(net, random, kind):
    net.mean()
    net.dense(random.normal(0.1, 0.5, (5, 6)), random.normal(0, 1, 5), kind)


LAYERS = [a_conv, a_valid_conv, a_depthwise, a_dense]


@pytest.mark.parametrize("last", LAYERS)
@pytest.mark.parametrize("precision", ["int8-dynamic", "int8"])
def test_the_mean_error_of_each_channel_goes(tmp_path, last, precision):
    """Rounded weights in a float net: what they do alone, reckoned by LiteRT itself."""
    content = layered(last)
    pivot = small_nets.pivot(content, tmp_path)
    samples = small_nets.samples(pivot)
    batches = [(x[None],) for x in samples.inputs[0]]
    quantized = Requantizer(pivot, samples).quantize(Recipe(precision=precision))
    means = tflite_biases.measure(content, batches)
    corrected = tflite_biases.corrected(content, quantized, means)
    assert len(means) == 2

    def mean_error(biases):
        """Of the last layer, whose input is the float one."""
        graph, rounded = Graph(content), Graph(quantized)
        op = graph.layers()[-1]
        name = graph.tensors[op.inputs[1]].name
        number = next(i for i, t in enumerate(rounded.tensors) if t.name == name)
        graph.replace(op.inputs[1], rounded.real(number))
        graph.replace(op.inputs[2], Graph(biases).array(op.inputs[2]))
        error = small_nets.answers(graph.content(), samples.inputs[0]) - small_nets.answers(
            content, samples.inputs[0]
        )
        return np.abs(error.reshape(-1, error.shape[-1]).mean(axis=0)).max()

    assert mean_error(content) > 5e-4
    assert mean_error(corrected) < 1e-5


def test_int8_with_corrected_biases_is_closer(tmp_path):
    """Weights that are not symmetric, so that rounding shifts what follows."""
    random = RANDOM(6)
    net = Net(1, 8, 8, 3)
    net.conv(random.gamma(1, 0.2, (12, 3, 3, 3)), random.normal(0, 0.1, 12))
    net.conv(random.normal(0.05, 0.1, (16, 3, 3, 12)), random.normal(0, 0.1, 16))
    net.mean()
    net.dense(random.normal(0, 0.4, (6, 16)), random.normal(0, 0.1, 6))
    pivot = small_nets.pivot(net.content(), tmp_path)
    requantizer = Requantizer(pivot, small_nets.samples(pivot))
    inputs = small_nets.samples(pivot, seed=9).inputs[0]
    expected = small_nets.answers(pivot.path.read_bytes(), inputs)
    plain, corrected = (
        small_nets.sqnr_db(expected, small_nets.answers(requantizer.quantize(recipe), inputs))
        for recipe in (
            Recipe(precision="int4-weights"),
            Recipe(precision="int4-weights", correct_bias=True),
        )
    )
    assert corrected > plain + 2


def test_int4_numbers_are_read_as_litert_reads_them(tmp_path):
    net = Net(1, 5)
    matrix = np.float32(np.arange(-7, 8).reshape(3, 5))
    net.dense(matrix)
    pivot = small_nets.pivot(net.content(), tmp_path)
    graph = Graph(Requantizer(pivot, None).quantize(Recipe(precision="int4-weights")))
    number = next(i for i, tensor in enumerate(graph.tensors) if tensor.dtype == "int4")
    scales = graph.tensors[number].scales
    np.testing.assert_allclose(scales, np.abs(matrix).max(axis=1) / 7, rtol=1e-6)
    expected = np.rint(matrix / scales[:, None]) * scales[:, None]
    np.testing.assert_allclose(graph.real(number), expected, rtol=1e-6)


def test_a_model_without_data_says_that_no_bias_was_corrected(tmp_path):
    pivot = small_nets.pivot(small_nets.separable(), tmp_path)
    requantizer = Requantizer(pivot, None)
    recipe = Recipe(precision="int8-dynamic", correct_bias=True)
    assert requantizer.quantize(recipe) == requantizer.quantize(Recipe(precision="int8-dynamic"))
    assert requantizer.notes(recipe) == ("no bias corrected: that needs calibration data",)


@pytest.mark.parametrize("name", ["residual", "depthwise", "autoencoder"])
def test_onnx_means_are_those_of_the_float_layers(tmp_path, name):
    """W E[x] + b must be the mean of what ONNX Runtime says the layer gives."""
    from onnx import TensorProto, helper, numpy_helper

    from edgeq.formats import onnx_graph

    (tmp_path / "a.onnx").write_bytes(nets.ALL[name]())
    model = onnx_graph.simplified(onnx_files.read(tmp_path / "a.onnx"), name)
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    feeds = [
        {model.graph.input[0].name: one.astype(np.float32)}
        for one in RANDOM(3).normal(0, 1, (5, *shape))
    ]
    means = onnx_biases.measure(model, feeds)
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    layers = [node for node in model.graph.node if node.name in means]
    assert len(layers) == sum(node.op_type in ("Conv", "Gemm") for node in model.graph.node)
    shown = onnx_files.copy(model)
    for node in layers:
        if node.output[0] not in {item.name for item in shown.graph.output}:
            shown.graph.output.append(
                helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
            )
    session = onnx_files.session(shown, name)
    outputs = [onnx_files.run(session, feed) for feed in feeds]
    for node in layers:
        mean, weights = means[node.name], constants[node.input[1]].astype(np.float64)
        seen = np.concatenate([one[node.output[0]] for one in outputs])
        axes = (0, *range(2, seen.ndim))
        if node.op_type == "Gemm":
            transposed = any(item.name == "transB" and item.i for item in node.attribute)
            found = mean @ (weights.T if transposed else weights)
        elif weights.shape[1] == 1:
            found = np.einsum("ohw,hwo->o", weights[:, 0], mean)
        else:
            found = np.einsum("oihw,hwi->o", weights, mean)
        expected = seen.mean(axis=axes) - constants[node.input[2]].reshape(-1)
        np.testing.assert_allclose(found, expected, atol=2e-5)
