"""Errors of layers against running both models by hand; reasons of errors made on purpose."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq.core import fusion, matching, reasons
from edgeq.core.graph import Graph, Op, Tensor
from edgeq.core.layers import Tally
from edgeq.core.samples import Samples
from edgeq.formats import onnx as onnx_files
from edgeq.inspection import layers, tflite
from edgeq.inspection import onnx as onnx_reader
from edgeq.inspection.judging import Pair
from tests.inspection.test_onnx import convolutional, quantized, saved

READERS = {"tflite": tflite.read, "onnx": onnx_reader.read}


def compared(format_, artifact, plain, inputs):
    raw = READERS[format_](artifact)
    computed = fusion.fused(raw, all_kinds=True)
    pair = Pair(
        format=format_, artifact=artifact, raw=raw, computed=computed, plain_path=plain,
        plain=READERS[format_](plain), numbers={place: place for place in range(len(raw.ops))},
    )  # fmt: skip
    samples = Samples(inputs=(inputs,), origin="here", sha256="0")
    return layers.compare(pair, samples, "float", "data", lambda *_: None)


def ratio(plain, other):
    return 10 * np.log10((plain**2).sum() / ((plain - other) ** 2).sum())


def tflite_values(path, inputs, names):
    """Tensors of a .tflite by name, dequantized, one row a sample; without edgeq's reader."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    made = Interpreter(
        str(path), experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )  # fmt: skip
    made.allocate_tensors()
    (source,) = made.get_input_details()
    scale, zero = source["quantization"]
    rows = {}
    for sample in inputs:
        value = sample[None]
        if scale:
            value = np.clip(np.rint(value / scale) + zero, -128, 127).astype(np.int8)
        made.set_tensor(source["index"], value)
        made.invoke()
        for detail in made.get_tensor_details():
            if detail["name"] not in names:
                continue
            scale_of, zero_of = detail["quantization"]
            raw = made.get_tensor(detail["index"]).astype(np.float64)
            real = (raw - zero_of) * scale_of if scale_of else raw
            rows.setdefault(detail["name"], []).append(real)
    return {name: np.concatenate(found) for name, found in rows.items()}


def test_the_error_of_each_tflite_tensor_is_what_running_both_by_hand_gives(built):
    inputs = np.load(built.folder / "net.npy")[:10]
    paths = built.folder / "net_int8.tflite", built.folder / "net.tflite"
    found = compared("tflite", *paths, inputs)
    assert found.unmatched == ()
    ours = tflite_values(paths[0], inputs, {layer.tensor for layer in found.layers})
    theirs = tflite_values(paths[1], inputs, {layer.float_tensor for layer in found.layers})
    for layer in found.layers:
        by_hand = ratio(theirs[layer.float_tensor], ours[layer.tensor])
        assert layer.sqnr_db == pytest.approx(by_hand, abs=1e-6)
    kinds = sorted(layer.operator for layer in found.layers)
    assert kinds == [
        "ADD", "CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "FULLY_CONNECTED",
        "MEAN", "SOFTMAX", "TRANSPOSE_CONV", "input",
    ]  # fmt: skip
    figures = [layer.sqnr_db for layer in found.layers]
    assert figures == sorted(figures)


def test_the_first_operators_own_error_is_all_of_its_error(built):
    inputs = np.load(built.folder / "net.npy")[:10]
    found = compared(
        "tflite", built.folder / "net_int8.tflite", built.folder / "net.tflite", inputs
    )
    first = next(layer for layer in found.layers if layer.number == 0)
    assert first.own_sqnr_db == pytest.approx(first.sqnr_db, abs=1e-9)
    assert 30 < first.weight_sqnr_db < 60


def test_an_operators_own_error_is_that_of_exact_inputs_rounded_to_their_type(built):
    inputs = np.load(built.folder / "net.npy")[:10]
    artifact, plain = built.folder / "net_int8.tflite", built.folder / "net.tflite"
    layer = next(
        one for one in compared("tflite", artifact, plain, inputs).layers if one.operator == "MEAN"
    )
    net = tflite.read(artifact)
    mean = next(op for op in net.ops if op.kind == "MEAN")
    source, result = (net.tensors[n] for n in (mean.inputs[0], mean.outputs[0]))
    float_net = tflite.read(plain)
    behind = next(op for op in float_net.ops if op.kind == "MEAN").inputs[0]
    name = float_net.tensors[behind].name
    values = tflite_values(plain, inputs, {name, layer.float_tensor})
    by_hand = rounded(result, rounded(source, values[name]).mean(axis=(1, 2)))
    expected = values[layer.float_tensor].reshape(by_hand.shape)
    # the kernel rounds its rescaling in fixed point
    assert layer.own_sqnr_db == pytest.approx(ratio(expected, by_hand), abs=0.5)


def rounded(tensor, values):
    (scale,), (zero,) = tensor.quantization.scales, tensor.quantization.zero_points
    return (np.clip(np.rint(values / scale) + zero, -128, 127) - zero) * scale


def onnx_values(path, inputs):
    """All tensors of an .onnx by name, one row a sample."""
    import onnxruntime

    made = onnx.load(path)
    for node in made.graph.node:
        made.graph.output.extend(
            onnx.ValueInfoProto(name=n) for n in node.output if n != made.graph.output[0].name
        )
    session = onnxruntime.InferenceSession(made.SerializeToString())
    names = [item.name for item in session.get_outputs()]
    runs = [session.run(names, {"x": sample[None]}) for sample in inputs]
    return {name: np.concatenate([run[i] for run in runs]) for i, name in enumerate(names)}


def test_the_error_of_each_onnx_tensor_is_what_running_both_by_hand_gives(tmp_path):
    inputs = np.random.default_rng(3).normal(size=(6, 4, 8, 8)).astype(np.float32)
    artifact, plain = quantized(convolutional(), tmp_path), tmp_path / "m.onnx"
    found = compared("onnx", artifact, plain, inputs)
    ours, theirs = onnx_values(artifact, inputs), onnx_values(plain, inputs)
    assert found.unmatched == ()
    assert {"r1", "c2", "a", "p", "g", "y"} <= {layer.float_tensor for layer in found.layers}
    for layer in found.layers:
        name = layer.float_tensor
        expected = theirs[name] if name != "x" else inputs
        # with all tensors to be shown ONNX Runtime computes the softmax in float
        dequantized = plain_run(artifact, inputs) if name == "y" else ours[f"{name}{_DEQUANTIZED}"]
        assert layer.sqnr_db == pytest.approx(ratio(expected, dequantized), abs=0.05)


_DEQUANTIZED = "_DequantizeLinear_Output"


def plain_run(path, inputs):
    runner = onnx_files.runner(path)
    return np.concatenate([runner.run([sample[None]])[0] for sample in inputs])


def dense(tmp_path, weights, name, scale=None, bias=None, output="y"):
    """``y = x W + b`` in float, or with ``y`` in uint8 of one scale."""
    node = helper.make_node
    arrays = {"w": weights, "b": np.zeros(weights.shape[1]) if bias is None else bias}
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()]
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["t" if scale else output])]
    if scale:
        constants += [
            numpy_helper.from_array(np.float32(scale), "s"),
            numpy_helper.from_array(np.uint8(128), "z"),
        ]
        nodes += [
            node("QuantizeLinear", ["t", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], [output]),
        ]
    width = weights.shape[0]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, width))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    return saved(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path, name,
    )  # fmt: skip


def judged(tmp_path, weights, inputs, scale):
    plain = dense(tmp_path, weights, "plain.onnx")
    artifact = dense(tmp_path, weights, "artifact.onnx", scale)
    found = compared("onnx", artifact, plain, inputs.astype(np.float32))
    return next(layer for layer in found.layers if layer.operator == "Add")


def test_a_range_that_is_too_small_is_called_saturated(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(50, 16))
    layer = judged(tmp_path, np.eye(16), inputs, scale=1.0 / 128)
    beyond = np.mean((inputs < -1) | (inputs > 127 / 128))
    assert layer.clipped_share == pytest.approx(beyond, abs=1e-3)
    share = f"{100 * beyond:.2g} %"
    assert layer.reasons[0].startswith(f"saturated: {share} of the values lie beyond -1 to 0.992")
    assert "calibrate" in layer.advice[0]


def test_one_value_far_out_is_called_an_outlier(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(2000, 16))
    inputs[7, 3] = 60
    layer = judged(tmp_path, np.eye(16), inputs, scale=0.5)
    assert layer.reasons[0].startswith("range outliers: the largest value is")
    assert "--keep-float 'y'" in layer.advice[0]


def test_channels_far_apart_are_named_and_equalization_offered(tmp_path):
    scales = np.array([100.0] + [1.0] * 15)
    inputs = np.random.default_rng(0).normal(size=(50, 16))
    layer = judged(tmp_path, np.diag(scales), inputs, scale=2.5)
    assert layer.channel_spread > 50
    assert any("channels" in reason for reason in layer.reasons)
    assert "--equalize" in " ".join(layer.advice)


def test_channels_that_vanish_below_one_step_are_counted(tmp_path):
    scales = np.array([100.0] * 12 + [0.01] * 4)
    inputs = np.random.default_rng(0).normal(size=(50, 16))
    layer = judged(tmp_path, np.diag(scales), inputs, scale=8.0)
    assert layer.lost_channels == 4
    assert any(reason.startswith("lost channels: 4 of 16") for reason in layer.reasons)


def test_channels_that_are_always_zero_are_dead(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(50, 16))
    layer = judged(tmp_path, np.diag([1.0] * 8 + [0.0] * 8), inputs, scale=0.05)
    assert layer.dead_channels == 8
    assert any(reason.startswith("dead channels: 8 of 16") for reason in layer.reasons)


def test_a_range_that_nobody_uses_is_named(tmp_path):
    inputs = np.random.default_rng(0).uniform(-1, 1, size=(50, 16))
    layer = judged(tmp_path, np.eye(16), inputs, scale=0.5)
    assert any(reason.startswith("unused range") for reason in layer.reasons)


def moved(tmp_path, name, scales=()):
    """``x`` times 1, reshaped; ``scales``: of the uint8 behind each of the two."""
    node, arrays, nodes = helper.make_node, {"one": np.float32(1), "s": np.int64([1, 16])}, []
    given = "x"
    for place, (kind, constant) in enumerate((("Mul", "one"), ("Reshape", "s"))):
        result = f"t{place}" if scales else ["m", "y"][place]
        nodes.append(node(kind, [given, constant], [result]))
        given = result
        if scales:
            arrays |= {f"s{place}": np.float32(scales[place]), f"z{place}": np.uint8(128)}
            settings = [f"s{place}", f"z{place}"]
            nodes.append(node("QuantizeLinear", [result, *settings], [f"q{place}"]))
            given = ["m", "y"][place]
            nodes.append(node("DequantizeLinear", [f"q{place}", *settings], [given]))
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 16))],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in arrays.items()],
    )  # fmt: skip
    return saved(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path, name,
    )  # fmt: skip


@pytest.mark.parametrize(("second", "blamed"), [(0.2, False), (1.7, True)])
def test_an_operator_that_only_moves_values_is_given_no_advice(tmp_path, second, blamed):
    inputs = np.random.default_rng(0).normal(size=(40, 4, 4)).astype(np.float32)
    plain = moved(tmp_path, "plain.onnx")
    artifact = moved(tmp_path, "artifact.onnx", (0.2, second))
    layers_ = {layer.operator: layer for layer in compared("onnx", artifact, plain, inputs).layers}
    assert layers_["Mul"].advice
    assert layers_["Reshape"].sqnr_db < reasons.FINE_DB
    # unless it rounds them to another scale
    assert bool(layers_["Reshape"].advice) == bool(layers_["Reshape"].reasons) == blamed


def test_other_weights_are_not_called_rounding(tmp_path):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(4, 4, 8, 8)).astype(np.float32)
    artifact = quantized(convolutional(), tmp_path)
    other = saved(convolutional(), tmp_path, "other.onnx")  # new random weights
    found = compared("onnx", artifact, other, inputs)
    first = next(layer for layer in found.layers if layer.operator == "Conv")
    assert first.reasons[0].startswith("other weights")


def test_equalized_channels_are_compared_with_their_scales_undone():
    generator = np.random.default_rng(1)
    plain = generator.normal(size=(20, 5, 5, 6))
    factors = np.array([0.1, 4.0, 1.0, 2.0, 0.5, 8.0])
    noise = 0.01 * generator.normal(size=plain.shape)
    tally = Tally(-1, None)
    for one, other in zip(plain, (plain + noise) * factors, strict=True):
        tally.add(one[None], other[None])
    error = tally.error()
    assert error.factors == pytest.approx(factors, rel=1e-3)
    assert error.sqnr_db == pytest.approx(ratio(plain, plain + noise), abs=0.1)


def test_noise_alone_is_not_taken_for_equalization():
    generator = np.random.default_rng(1)
    plain = generator.normal(size=(20, 5, 5, 6))
    tally = Tally(-1, None)
    for one in plain:
        tally.add(one[None], (one + 0.5 * generator.normal(size=one.shape))[None])
    assert tally.error().factors is None


def test_equal_tensors_have_no_ratio_and_no_reason():
    tally = Tally(-1, (-1.0, 1.0))
    tally.add(np.ones((1, 4)), np.ones((1, 4)))
    error = tally.error()
    assert (error.sqnr_db, error.max_abs_error) == (None, 0.0)
    layer = reasons.Layer(
        name="t", error=error, own_db=None, input_db=None, weight_db=None, limits=None, bits=8
    )
    assert reasons.findings(layer) == ()


def test_the_noise_of_rounding_is_as_the_formula_says():
    generator = np.random.default_rng(2)
    plain = generator.uniform(-1, 1, size=(1, 200_000))
    low, high = -1.0, 1.0
    step = (high - low) / 255
    tally = Tally(-1, (low, high))
    tally.add(plain, np.rint(plain / step) * step)
    error = tally.error()
    layer = reasons.Layer(
        name="t", error=error, own_db=None, input_db=None, weight_db=None,
        limits=(low, high), bits=8,
    )  # fmt: skip
    assert reasons.rounding_db(layer) == pytest.approx(error.sqnr_db, abs=0.05)


def simple(names, ops, shapes, conversions=frozenset()):
    tensors = tuple(
        Tensor(name=n, shape=s, dtype="float32") for n, s in zip(names, shapes, strict=True)
    )
    made = tuple(Op(kind=k, name=k, inputs=i, outputs=o) for k, i, o in ops)
    return Graph(tensors=tensors, ops=made, inputs=(0,), outputs=(), conversions=conversions)


def test_tensors_without_a_common_name_are_matched_by_their_place():
    shape = [(1, 4)] * 4
    plain = simple(
        ["x", "a", "b", "c"], [("D", (0,), (1,)), ("R", (1,), (2,)), ("D", (2,), (3,))], shape
    )
    other = simple(
        ["in", "p", "q", "r"], [("D", (0,), (1,)), ("R", (1,), (2,)), ("D", (2,), (3,))], shape
    )
    found = matching.match(other, other, plain, lambda *_: 1.0)
    assert found.pairs == {0: 0, 1: 1, 2: 2, 3: 3}
    assert found.unmatched == ()


def test_two_that_look_alike_are_told_apart_by_their_weights():
    names, shape = ["x", "a", "b"], [(1, 4)] * 3
    plain = simple(names, [("D", (0,), (1,)), ("D", (0,), (2,))], shape)
    other = simple(["x", "p", "q"], [("D", (0,), (2,)), ("D", (0,), (1,))], shape)
    alike = {(2, 2): 0.1, (2, 1): 0.99, (1, 2): 0.98, (1, 1): 0.2}
    found = matching.match(
        other, other, plain, lambda one, two: alike[one.outputs[0], two.outputs[0]]
    )
    assert found.pairs == {0: 0, 2: 1, 1: 2}


def test_what_the_float_model_lacks_is_said_to_be_unmatched():
    plain = simple(["x", "a"], [("D", (0,), (1,))], [(1, 4)] * 2)
    other = simple(["x", "a", "n"], [("D", (0,), (1,)), ("N", (1,), (2,))], [(1, 4)] * 3)
    found = matching.match(other, other, plain, lambda *_: 1.0)
    assert found.unmatched == (2,)


def test_a_conversion_is_stepped_over():
    plain = simple(["x", "a"], [("D", (0,), (1,))], [(1, 4)] * 2)
    other = simple(
        ["x", "x_quantized", "a"], [("Q", (0,), (1,)), ("D", (1,), (2,))], [(1, 4)] * 3,
        frozenset({"Q"}),
    )  # fmt: skip
    assert matching.match(other, other, plain, lambda *_: 1.0).pairs == {0: 0, 1: 0, 2: 1}
