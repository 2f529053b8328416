"""Cross-layer equalization: the rule on arrays, and on .tflite and .onnx nets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgeq import equalize
from edgeq.core import equalization
from edgeq.core.equalization import Layer, Pair
from edgeq.formats import onnx as onnx_files
from edgeq.formats.tflite_graph import Graph
from tests.fakes import small_nets, tiny_onnx
from tests.fakes.small_nets import NONE, RELU, RELU6, SAME, VALID, Net
from tests.onnx.nets import Builder

EXACT = 1e-5
RANDOM = np.random.default_rng


def dense_pair(first, second, bias=None):
    channels = len(first)
    layers = [
        Layer(weights=np.float32(first), out_axis=0, bias=bias),
        Layer(weights=np.float32(second), out_axis=0, bias=None),
    ]
    return layers, [Pair(first=0, second=1, in_axis=1, owners=np.arange(channels))]


def ranges(layer, axis):
    return np.abs(layer.weights).max(axis=tuple(i for i in range(layer.weights.ndim) if i != axis))


def test_both_ranges_become_the_mean_of_the_two():
    layers, pairs = dense_pair([[4, -8], [0.5, 0.25]], [[1, 2], [-0.5, 8]])
    made = equalization.equalize(layers, pairs)
    np.testing.assert_allclose(made.scales[0], [np.sqrt(8 / 1), np.sqrt(0.5 / 8)], rtol=1e-6)
    for layer, axis in zip(made.layers, (0, 1), strict=True):
        np.testing.assert_allclose(ranges(layer, axis), [np.sqrt(8), 2], rtol=1e-6)


def test_the_given_arrays_stay_as_they_are():
    layers, pairs = dense_pair([[4, -8], [0.5, 0.25]], [[1, 2], [-0.5, 8]], np.float32([1, 2]))
    before = [layer.weights.copy() for layer in layers]
    equalization.equalize(layers, pairs)
    for layer, weights in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer.weights, weights)
    np.testing.assert_array_equal(layers[0].bias, [1, 2])


def test_a_chain_settles_with_equal_ranges_in_all_pairs():
    random = RANDOM(1)
    weights = [random.normal(0, 1, (6, 6)) * 10 ** random.uniform(-1, 1, (6, 1)) for _ in range(4)]
    layers = [Layer(weights=np.float32(one), out_axis=0, bias=None) for one in weights]
    pairs = [Pair(first=i, second=i + 1, in_axis=1, owners=np.arange(6)) for i in range(3)]
    made = equalization.equalize(layers, pairs)
    for pair in pairs:
        before, after = made.layers[pair.first], made.layers[pair.second]
        np.testing.assert_allclose(ranges(before, 0), ranges(after, 1), rtol=5e-3)


@pytest.mark.parametrize("dead", [0.0, 1e-9, 2e-4])
def test_a_dead_channel_is_left_alone(dead):
    layers, pairs = dense_pair([[1, 2], [dead, dead / 2], [0.1, 0.2]], np.ones((4, 3)))
    made = equalization.equalize(layers, pairs)
    assert made.scales[0][1] == 1
    assert np.all(made.scales[0][[0, 2]] != 1)
    np.testing.assert_array_equal(made.layers[0].weights[1], layers[0].weights[1])
    np.testing.assert_array_equal(made.layers[1].weights[:, 1], layers[1].weights[:, 1])


def test_a_channel_that_nobody_reads_is_left_alone():
    second = np.ones((4, 3))
    second[:, 2] = 0
    layers, pairs = dense_pair(np.ones((3, 2)) * [[1], [7], [3]], second)
    assert equalization.equalize(layers, pairs).scales[0][2] == 1


def test_a_badly_scaled_channel_is_not_taken_for_a_dead_one():
    factors = np.array([1e-4, 1.0, 1e4])
    layers, pairs = dense_pair(np.ones((3, 2)) * factors[:, None], np.ones((2, 3)) / factors)
    made = equalization.equalize(layers, pairs)
    np.testing.assert_allclose(made.scales[0], factors, rtol=1e-5)


def test_scaling_beyond_a_depthwise_layer_does_not_kill_a_channel():
    """Its weights alone look dead, as the layer after it makes up for them."""
    f, g = np.array([1.0, 1.0, 30.0]), np.array([1.0, 300.0, 1 / 300])
    layers = [
        Layer(weights=np.float32(np.ones((3, 2)) * f[:, None]), out_axis=0, bias=None),
        Layer(weights=np.float32(np.ones((1, 2, 2, 3)) * g / f), out_axis=3, bias=None,
              depthwise=True),
        Layer(weights=np.float32(np.ones((4, 3)) / g), out_axis=0, bias=None),
    ]  # fmt: skip
    pairs = [
        Pair(first=0, second=1, in_axis=3, owners=np.arange(3)),
        Pair(first=1, second=2, in_axis=1, owners=np.arange(3)),
    ]
    made = equalization.equalize(layers, pairs)
    np.testing.assert_allclose(made.layers[0].weights, 1, rtol=5e-3)
    np.testing.assert_allclose(made.layers[1].weights, 1, rtol=5e-3)


class Chain:
    """A net of all kinds of layers, drawn, its channels scaled badly."""

    def __init__(self, draw):
        self._draw = draw
        self._random = RANDOM(draw(st.integers(0, 2**16)))
        self.net = Net(1, 8, 8, 3)

    def shape(self):
        return self.net._tensors[self.net.last].shape

    def scaled(self, *shape, axis):
        factors = 10 ** self._random.uniform(-1, 1, shape[axis])
        along = [-1 if i == axis else 1 for i in range(len(shape))]
        return self._random.normal(0, 0.5, shape) * factors.reshape(along)

    def bias(self, channels):
        return self._random.normal(0, 1, channels)

    def conv(self):
        made = self._draw(st.integers(1, 5))
        kernel = self.scaled(made, 3, 3, self.shape()[3], axis=0)
        padding = self._draw(st.sampled_from([SAME, VALID]))
        stride = self._draw(st.integers(1, 2))
        self.net.conv(kernel, self.bias(made), self._activation(), stride, padding)

    def depthwise(self):
        made = self.shape()[3] * self._draw(st.integers(1, 2))
        kernel = self.scaled(1, 3, 3, made, axis=3)
        self.net.depthwise(kernel, self.bias(made), self._activation())

    def largest(self):
        self.net.pool("MAX_POOL_2D")

    def average(self):
        self.net.pool("AVERAGE_POOL_2D")

    def zeros(self):
        self.net.pad()

    def relu(self):
        self.net.relu()

    def _activation(self):
        return self._draw(st.sampled_from([NONE, RELU]))


def tflite_chain(draw):
    chain = Chain(draw)
    chain.conv()
    kinds = st.sampled_from(["conv", "depthwise", "largest", "average", "zeros", "relu"])
    for kind in draw(st.lists(kinds, max_size=4)):
        if min(chain.shape()[1:3]) >= 3:
            getattr(chain, kind)()
    chain.net.mean() if draw(st.booleans()) else chain.net.flatten()
    chain.net.dense(chain.scaled(4, chain.shape()[1], axis=0), chain.bias(4), RELU)
    chain.net.dense(chain.scaled(3, 4, axis=0), chain.bias(3))
    return chain.net.content()


def reference(content, inputs):
    """Without XNNPACK, as a second opinion on what the net computes."""
    from ai_edge_litert.interpreter import OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return small_nets.answers(content, inputs, experimental_op_resolver_type=kind)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_a_tflite_net_gives_the_same_answers(tmp_path_factory, data):
    content = tflite_chain(data.draw)
    folder = tmp_path_factory.mktemp("net")
    (folder / "a.tflite").write_bytes(content)
    made = equalize.equalize(folder / "a.tflite", folder / "b.tflite")
    assert made.changes
    inputs = RANDOM(8).normal(0, 1, (6, 8, 8, 3)).astype(np.float32)
    before, after = (
        reference((folder / name).read_bytes(), inputs) for name in ("a.tflite", "b.tflite")
    )
    assert np.max(np.abs(before - after)) <= EXACT * np.max(np.abs(before))
    assert made.max_relative_diff <= EXACT


def pairs_in(content, folder):
    (folder / "a.tflite").write_bytes(content)
    made = equalize.equalize(folder / "a.tflite", folder / "b.tflite")
    if made.changes is None:
        assert (folder / "b.tflite").read_bytes() == content
        assert made.reason == "no two layers with channels to equalize"
        return 0
    return len(made.changes.pairs)


def weights(*shape, seed=1):
    return RANDOM(seed).normal(0, 1, shape) * np.linspace(1, 9, shape[0]).reshape(
        [-1] + [1] * (len(shape) - 1)
    )


def two(between=None, activation=RELU):
    net = Net(1, 6, 6, 2)
    net.conv(weights(3, 3, 3, 2), weights(3), activation)
    if between:
        between(net)
    net.conv(weights(4, 3, 3, 3), weights(4), NONE)
    return net


@pytest.mark.parametrize(
    "between",
    [
        None,
        lambda net: net.relu(),
        lambda net: net.pad(),
        lambda net: net.pool("MAX_POOL_2D"),
        lambda net: net.pool("AVERAGE_POOL_2D"),
    ],
    ids=["nothing", "relu", "zeros", "largest", "mean"],
)
def test_ops_that_scale_with_their_input_may_stand_between(tmp_path, between):
    assert pairs_in(two(between).content(), tmp_path) == 1


def test_relu6_between_is_left_alone(tmp_path):
    assert pairs_in(two(activation=RELU6).content(), tmp_path) == 0


def test_a_softmax_between_is_left_alone(tmp_path):
    net = Net(1, 4)
    net.dense(weights(5, 4), weights(5))
    net.softmax()
    net.dense(weights(3, 5))
    assert pairs_in(net.content(), tmp_path) == 0


def test_a_tensor_that_two_ops_read_is_left_alone(tmp_path):
    net = Net(1, 6, 6, 2)
    first = net.conv(weights(3, 3, 3, 2), weights(3))
    net.conv(weights(3, 3, 3, 3), weights(3), NONE)
    net.plus(first)
    assert pairs_in(net.content(), tmp_path) == 0


def test_an_output_of_the_model_is_left_alone(tmp_path):
    net = Net(1, 6, 6, 2)
    first = net.conv(weights(3, 3, 3, 2), weights(3))
    net.conv(weights(3, 3, 3, 3), weights(3), NONE)
    assert pairs_in(net.content(first), tmp_path) == 0


def test_a_flattened_image_knows_its_channels(tmp_path):
    net = Net(1, 4, 4, 2)
    net.conv(weights(3, 3, 3, 2), weights(3))
    net.flatten()
    net.dense(weights(5, 48), weights(5))
    content = net.content()
    assert pairs_in(content, tmp_path) == 1
    after = Graph((tmp_path / "b.tflite").read_bytes())
    first, second = (after.array(op.inputs[1]) for op in after.layers())
    by_channel = np.abs(second).reshape(5, 16, 3).max(axis=(0, 1))
    np.testing.assert_allclose(by_channel, np.abs(first).max(axis=(1, 2, 3)), rtol=2e-3)


def test_dead_channels_of_a_file_keep_their_bytes(tmp_path):
    net = Net(1, 6, 6, 2)
    kernel = weights(4, 3, 3, 2)
    kernel[1] *= 1e-7
    net.conv(kernel, weights(4))
    depthwise = RANDOM(3).normal(0, 1, (1, 3, 3, 4))
    net.depthwise(depthwise, weights(4))
    net.conv(weights(3, 1, 1, 4), weights(3), NONE)
    content = net.content()
    assert pairs_in(content, tmp_path) == 2
    before, after = Graph(content), Graph((tmp_path / "b.tflite").read_bytes())
    for op, axis in zip(before.layers(), (0, 3, None), strict=True):
        if axis is not None:
            old, new = (graph.array(op.inputs[1]).take(1, axis) for graph in (before, after))
            np.testing.assert_array_equal(old, new)


def test_a_change_of_the_outputs_is_not_used(tmp_path, monkeypatch):
    net = two()
    (tmp_path / "a.tflite").write_bytes(net.content())
    monkeypatch.setattr(equalize, "TOLERANCE", 0.0)
    made = equalize.equalize(tmp_path / "a.tflite", tmp_path / "b.tflite")
    assert made.changes is None
    assert made.reason.startswith("equalized, the float outputs differ by")
    assert (tmp_path / "b.tflite").read_bytes() == net.content()


def onnx_net(build):
    b = Builder(9)
    outputs = build(b)
    return tiny_onnx.model(
        b.nodes, inputs={"x": (1, 3, 8, 8)}, outputs={"y": outputs}, constants=b.constants
    )


def badly_scaled(b):
    """Each channel of each layer by a factor of its own."""
    for name, values in b.constants.items():
        if name.startswith("w"):
            factors = 10 ** RANDOM(len(name)).uniform(-1, 1, len(values))
            scaled = values * factors.reshape([-1] + [1] * (values.ndim - 1))
            b.constants[name] = scaled.astype(np.float32)


def everything(b):
    """Four pairs: normalized, depthwise, pointwise, pooled and flattened, dense, dense."""
    x = b.conv("x", 3, 6)
    x = b.conv(x, 6, 6, group=6)
    x = b.conv(x, 6, 5, side=1)
    x = b.op("Flatten", b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    x = b.op("Relu", b.dense(x, 80, 7))
    x = b.op("MatMul", x, b.weight(7, 4, fan_in=7))
    b.op("Add", x, b.vector(4), output="y")
    badly_scaled(b)
    return (1, 4)


def channels_last(b):
    """As exporters from Keras write a dense layer behind a convolution."""
    x = b.conv("x", 3, 6)
    x = b.op("Transpose", x, perm=[0, 2, 3, 1])
    b.constants["shape"] = np.array([1, 384], np.int64)
    x = b.op("Reshape", x, "shape")
    x = b.op("Add", b.op("MatMul", x, b.weight(384, 8, fan_in=384)), b.vector(8))
    b.dense(b.op("Relu", x), 8, 3, output="y")
    badly_scaled(b)
    return (1, 3)


def padded_and_averaged(b):
    x = b.conv("x", 3, 6)
    b.constants["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    x = b.op("Pad", x, "pads")
    x = b.op("Conv", x, b.weight(4, 6, 3, 3, fan_in=54), b.vector(4))
    x = b.op("LeakyRelu", x, alpha=0.2)
    b.constants["axes"] = np.array([2, 3], np.int64)
    x = b.op("Squeeze", b.op("GlobalAveragePool", x), "axes")
    b.dense(x, 4, 3, output="y")
    badly_scaled(b)
    return (1, 3)


@pytest.mark.parametrize(
    ("build", "pairs"), [(everything, 4), (channels_last, 2), (padded_and_averaged, 2)]
)
def test_an_onnx_net_gives_the_same_answers(tmp_path, build, pairs):
    before, after = tmp_path / "a.onnx", tmp_path / "b.onnx"
    before.write_bytes(onnx_net(build))
    made = equalize.equalize(before, after)
    assert len(made.changes.pairs) == pairs
    assert made.changes.largest_scale > 1.5
    inputs = RANDOM(8).normal(0, 1, (6, 1, 3, 8, 8)).astype(np.float32)
    old, new = (onnx_files.Runner(path) for path in (before, after))
    for one in inputs:
        want, got = old.run([one])[0], new.run([one])[0]
        assert np.max(np.abs(want - got)) <= EXACT * np.max(np.abs(want))


def test_the_largest_weights_of_an_onnx_pair_are_equal_afterwards(tmp_path):
    (tmp_path / "a.onnx").write_bytes(onnx_net(channels_last))
    equalize.equalize(tmp_path / "a.onnx", tmp_path / "b.onnx")
    model = onnx_files.read(tmp_path / "b.onnx")
    found = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    kernel, first, second = (
        found[node.input[1]]
        for node in model.graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm")
    )
    own = np.abs(kernel).max(axis=(1, 2, 3))
    np.testing.assert_allclose(np.abs(first).reshape(64, 6, 8).max(axis=(0, 2)), own, rtol=5e-3)
    np.testing.assert_allclose(np.abs(second).max(axis=1), np.abs(first).max(axis=0), rtol=5e-3)


def clipped(b, x):
    b.constants.update(low=np.float32(0), high=np.float32(6))
    return b.op("Clip", x, "low", "high")


@pytest.mark.parametrize(
    "between",
    [clipped, lambda b, x: b.op("Sigmoid", x), lambda b, x: b.op("Mul", x, x)],
    ids=["clip", "sigmoid", "square"],
)
def test_an_onnx_op_that_does_not_scale_is_left_alone(tmp_path, between):
    def build(b):
        x = b.op("Conv", "x", b.weight(4, 3, 3, 3, fan_in=27), b.vector(4))
        b.op("Conv", between(b, x), b.weight(2, 4, 1, 1, fan_in=4), b.vector(2), output="y")
        return (1, 2, 6, 6)

    (tmp_path / "a.onnx").write_bytes(onnx_net(build))
    made = equalize.equalize(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert made.changes is None
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()
