"""The figures that follow from a graph alone, each against another way to reckon it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.core import macs
from edgeq.core.graph import (
    ABSENT,
    Graph,
    Op,
    Quantization,
    Tensor,
    computes,
    fixed,
    liveness_peak,
    parameter_count,
)

SCALE = Quantization(scales=(0.1,), zero_points=(0,))


def tensor(size=1, dtype="int8", **changes):
    return Tensor(name="t", shape=(size,), dtype=dtype, **changes)


def op(inputs, outputs, kind="ADD"):
    return Op(kind=kind, name=kind, inputs=tuple(inputs), outputs=tuple(outputs))


def graph(tensors, ops, inputs, outputs, **changes):
    return Graph(tensors=tuple(tensors), ops=tuple(ops), inputs=inputs, outputs=outputs, **changes)


@st.composite
def random_graphs(draw):
    """Operators that read any earlier tensors and write one or two new ones."""
    first = draw(st.integers(1, 3))
    sizes = [draw(st.integers(1, 50)) for _ in range(first)]
    ops = []
    for _ in range(draw(st.integers(1, 12))):
        inputs = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3))
        outputs = list(range(len(sizes), len(sizes) + draw(st.integers(1, 2))))
        sizes += [draw(st.integers(1, 50)) for _ in outputs]
        ops.append(op(inputs, outputs))
    outputs = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3, unique=True))
    return graph(map(tensor, sizes), ops, tuple(range(first)), tuple(outputs))


def simulated_peak(net):
    """Run it with a table of live tensors, freeing each when nothing later wants it."""
    live = set(net.inputs)
    peak = sum(net.tensors[n].size_bytes for n in live)
    for step, now in enumerate(net.ops):
        wanted = {n for one in net.ops[step:] for n in one.inputs} | set(net.outputs)
        live = (live & wanted) | set(now.outputs)
        peak = max(peak, sum(net.tensors[n].size_bytes for n in live))
    return peak


@settings(max_examples=150, deadline=None)
@given(random_graphs())
def test_the_peak_is_that_of_a_simulated_run(net):
    assert liveness_peak(net).size_bytes == simulated_peak(net)


def test_constants_and_what_follows_from_them_do_not_count_as_activations():
    tensors = [tensor(4), tensor(100, constant=True), tensor(100), tensor(4)]
    ops = [op([1], [2], "DEQUANTIZE"), op([0, 2], [3])]
    net = graph(tensors, ops, (0,), (3,))
    assert fixed(net) == {1, 2}
    assert liveness_peak(net).size_bytes == 8
    assert liveness_peak(net).op == 1


def test_state_lives_all_the_time():
    tensors = [tensor(4), tensor(10, variable=True), tensor(4), tensor(4)]
    ops = [op([0], [2]), op([2, 1], [3])]
    assert liveness_peak(graph(tensors, ops, (0,), (3,))).size_bytes == 4 + 4 + 10


def test_an_open_shape_makes_the_peak_unknown():
    open_ = Tensor(name="t", shape=(1, None), dtype="int8")
    assert liveness_peak(graph([open_, tensor()], [op([0], [1])], (0,), (1,))) is None


def test_four_bits_take_half_a_byte():
    assert tensor(7, "int4").size_bytes == 4
    assert Tensor(name="t", shape=(), dtype="float32").size_bytes == 4
    assert tensor(3, "string").size_bytes is None


def test_a_parameter_that_two_operators_read_counts_once():
    tensors = [tensor(2), tensor(6, constant=True, parameter=True), tensor(2), tensor(2)]
    ops = [op([0, 1], [2]), op([2, 1], [3])]
    assert parameter_count(graph(tensors, ops, (0,), (3,))) == 6


def multiplied(source, weights, stride, groups):
    """A convolution by hand that counts its products; zeros of the padding are multiplied too."""
    high, wide, _ = source.shape
    outputs, kh, kw, depth = weights.shape
    padded = np.pad(source, ((kh // 2,) * 2, (kw // 2,) * 2, (0, 0)))
    products = 0
    for y, x, o in itertools.product(
        range(0, high, stride), range(0, wide, stride), range(outputs)
    ):
        first = (o * groups // outputs) * depth
        for i, j, c in itertools.product(range(kh), range(kw), range(depth)):
            _ = padded[y + i, x + j, first + c] * weights[o, i, j, c]
            products += 1
    return products


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 2), (2, 4)])
def test_a_convolution_counts_as_many_as_doing_it_multiplies(stride, groups):
    weights = np.ones((8, 3, 3, 4 // groups))
    side = len(range(0, 6, stride))
    counted = macs.convolution((1, side, side, 8), (3, 3), 4 // groups)
    assert counted == multiplied(np.ones((6, 6, 4)), weights, stride, groups)


def test_a_transposed_convolution_multiplies_each_input_with_the_whole_kernel():
    products = sum(1 for _ in itertools.product(range(5 * 5 * 3), range(2 * 2), range(7)))
    assert macs.transposed((1, 5, 5, 3), (2, 2), 7) == products


def test_matrix_products_and_recurrent_layers():
    assert macs.product((2, 3, 5), 7) == 2 * 3 * 5 * 7
    assert macs.recurrent((10, 1), [(16, 3), (16, 4)]) == 10 * (16 * 3 + 16 * 4)
    assert macs.product((None, 3), 7) is None
    assert macs.recurrent((10, 1), [None]) is None


@pytest.mark.parametrize(
    ("dtypes", "weights", "expected"),
    [
        (("float32", "float32"), None, "float"),
        (("int8", "int8"), "int8", "integer"),
        (("float32", "float32"), "int8", "hybrid"),
        (("float32", "float32"), "float32", "float"),
        (("int32", "int32"), None, "other"),
        (("int8", "float32"), None, "integer"),
    ],
)
def test_what_an_operator_computes_in(dtypes, weights, expected):
    scales = [SCALE if name == "int8" else None for name in dtypes]
    tensors = [tensor(1, n, quantization=s) for n, s in zip(dtypes, scales, strict=True)]
    if weights:
        scale = SCALE if weights == "int8" else None
        tensors.append(tensor(1, weights, constant=True, quantization=scale))
    net = graph(tensors, [op([0, 2 if weights else ABSENT], [1])], (0,), (1,))
    assert computes(net, net.ops[0], fixed(net)) == expected
