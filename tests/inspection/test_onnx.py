import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from edgeq.core import fusion
from edgeq.core.graph import computes, fixed, liveness_peak, parameter_count
from edgeq.core.inspection import ModelSection
from edgeq.errors import ModelError
from edgeq.inspection import facts, trace_onnx
from edgeq.inspection import onnx as reader
from edgeq.inspection.facts import Wanted

SECTION = ModelSection(source="m", kind="onnx", format="onnx", size_bytes=1, sha256="", pivot=False)
GENERATOR = np.random.default_rng(11)


def weights(name, *shape):
    return numpy_helper.from_array(GENERATOR.normal(0, 0.3, shape).astype(np.float32), name)


def model(nodes, initializers, shape=(1, 4, 8, 8), outputs=("y",), **changes):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializers,
        **changes,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolutional():
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1], group=2),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"]),
        node("Add", ["r1", "c2"], ["a"]),
        node("GlobalAveragePool", ["a"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["g"], transB=1),
        node("Softmax", ["g"], ["y"]),
    ]
    constants = [weights("w1", 8, 2, 3, 3), weights("b1", 8), weights("w2", 8, 8, 1, 1)]
    constants += [weights("b2", 8), weights("w3", 5, 8), weights("b3", 5)]
    return model(nodes, constants)


class Inputs(CalibrationDataReader):
    def __init__(self, shape=(1, 4, 8, 8)):
        self._left = iter({"x": GENERATOR.normal(size=shape).astype(np.float32)} for _ in range(8))

    def get_next(self):
        return next(self._left, None)


def saved(made, tmp_path, name="m.onnx"):
    path = tmp_path / name
    onnx.save(made, path)
    return path


def quantized(made, tmp_path, activations=QuantType.QUInt8, **options):
    path = tmp_path / "q.onnx"
    quantize_static(
        saved(made, tmp_path), path, Inputs(), per_channel=True, activation_type=activations,
        weight_type=QuantType.QInt8, extra_options=options,
    )  # fmt: skip
    return path


def inspected(path, wanted=None):
    return facts.inspection(SECTION, reader.read(path), wanted)


def test_parameters_and_macs_by_hand(tmp_path):
    found = inspected(saved(convolutional(), tmp_path))
    assert found.parameters == 8 * 18 + 8 + 8 * 8 + 8 + 5 * 8 + 5
    by_kind = {kind.kind: kind.macs for kind in found.kinds}
    assert by_kind["Conv"] == 4 * 4 * 8 * (3 * 3 * 2) + 4 * 4 * 8 * 8
    assert by_kind["Gemm"] == 5 * 8
    assert found.macs.total == by_kind["Conv"] + by_kind["Gemm"]
    # relu's output lives on for the addition, beside the convolution's input (itself) and output
    assert found.activations.peak_bytes == 3 * 4 * (8 * 4 * 4)


@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8])
def test_quantizing_changes_neither_parameters_nor_macs(tmp_path, activations):
    plain = inspected(saved(convolutional(), tmp_path))
    found = inspected(quantized(convolutional(), tmp_path, activations))
    assert (found.parameters, found.macs) == (plain.parameters, plain.macs)
    # the float input beside itself in int8 is more than the rest, a quarter of what it was
    assert found.activations.peak_bytes == (4 + 1) * (4 * 8 * 8)
    assert found.float_operators == ()
    assert {t.quantization.scales for t in found.tensors if t.name == "w1_quantized"} == {8}


def runtime_kinds(path, tmp_path):
    """What ONNX Runtime itself makes of the file, without its names for integer operators."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    plain = {"QGemm": "Gemm"}
    return sorted(
        plain.get(n.op_type, n.op_type.removeprefix("QLinear"))
        for n in nodes
        if n.op_type not in ("QuantizeLinear", "DequantizeLinear")
    )


def test_what_is_put_together_is_what_onnx_runtime_puts_together(tmp_path):
    path = quantized(convolutional(), tmp_path)
    graph = fusion.fused(reader.read(path))
    constants = fixed(graph)
    mine = sorted(op.kind for op in graph.ops if op.kind not in graph.conversions)
    assert mine == runtime_kinds(path, tmp_path)
    assert {computes(graph, op, constants) for op in graph.ops} == {"integer", "conversion"}


def test_an_operator_without_an_integer_kernel_stays_in_float(tmp_path):
    made = convolutional()
    made.graph.node[-1].op_type = "Softplus"
    path = quantized(made, tmp_path)
    wanted = Wanted(profile="p", runtime="onnxruntime", precision="int8", optimization="all")
    found = inspected(path, wanted)
    assert found.runtime.lacking == ("Softplus",)
    assert [found.operators[n].kind for n in found.float_operators] == ["Softplus"]
    assert "Softplus" in runtime_kinds(path, tmp_path)


def test_sixteen_bit_activations_are_computed_in_float(tmp_path):
    path = quantized(convolutional(), tmp_path, QuantType.QInt16)
    found = inspected(path)
    kinds = {found.operators[n].kind for n in found.float_operators}
    assert {"Conv", "Gemm", "Add"} <= kinds
    assert found.macs.total == inspected(saved(convolutional(), tmp_path)).macs.total


def test_nothing_is_put_together_where_the_profile_switches_it_off(tmp_path):
    path = quantized(convolutional(), tmp_path)
    wanted = Wanted(profile="p", runtime="onnxruntime", precision="int8", optimization="basic")
    assert len(inspected(path, wanted).operators) == len(onnx.load(path).graph.node)


def test_an_open_batch_is_taken_as_one(tmp_path):
    made = convolutional()
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    found = inspected(saved(made, tmp_path))
    assert found.open_axes == ("axis 0 of x",)
    assert found.macs == inspected(saved(convolutional(), tmp_path, "b.onnx")).macs
    made.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "high"
    found = inspected(saved(made, tmp_path))
    assert found.open_axes == ("axis 0 of x", "axis 2 of x")
    assert found.macs.total is None
    assert found.activations.peak_bytes is None
    assert set(found.unavailable) == {"macs.total", "activations.peak_bytes"}


def test_a_transposed_convolution_a_batched_product_and_a_recurrent_layer(tmp_path):
    node = helper.make_node
    transposed = model(
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])], [weights("w", 4, 3, 2, 2)]
    )
    assert inspected(saved(transposed, tmp_path)).macs.total == 4 * 8 * 8 * (3 * 2 * 2)
    batched = model([node("MatMul", ["x", "w"], ["y"])], [weights("w", 4, 8, 6)])
    assert inspected(saved(batched, tmp_path)).macs.total == sum(
        1 for _ in itertools.product(range(4), range(8), range(6), range(8))
    )
    sound = model(
        [node("LSTM", ["x", "w", "r", "", "", "h", "c"], ["y"], hidden_size=3)],
        [
            weights("w", 1, 12, 5), weights("r", 1, 12, 3),
            weights("h", 1, 1, 3), weights("c", 1, 1, 3),
        ],
        shape=(7, 1, 5),
    )  # fmt: skip
    found = inspected(saved(sound, tmp_path))
    assert found.macs.total == 7 * (12 * 5 + 12 * 3)
    assert found.parameters == 12 * 5 + 12 * 3


def test_weights_inside_a_branch_count_as_parameters(tmp_path):
    node = helper.make_node
    branch = helper.make_graph(
        [node("Mul", ["x", "inner"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [weights("inner", 8)],
    )
    condition = numpy_helper.from_array(np.array(True), "yes")
    made = model([node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)], [condition])
    found = inspected(saved(made, tmp_path))
    assert found.parameters == 16  # it stands in both branches
    assert found.macs.total is None
    assert any("inside If" in note for note in found.notes)


def branching(captured_weights, hidden):
    """An If with a constant condition; its branches convolve the x outside them."""
    kernels = numpy_helper.from_array(np.full((16, 4, 1, 1), 0.5, np.float32), "w")
    inside = [] if captured_weights else [kernels]
    node = helper.make_node
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("Conv", ["x", "w"], ["z"])], "then", [], [result], inside)
    if hidden:  # one graph further in
        again = node("If", ["yes"], ["z2"], then_branch=branch, else_branch=branch)
        branch = helper.make_graph(
            [again], "outer", [], [helper.make_tensor_value_info("z2", TensorProto.FLOAT, None)]
        )
    condition = numpy_helper.from_array(np.array(True), "yes")
    return model(
        [node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)],
        [condition, *([kernels] if captured_weights else [])],
        shape=(1, 4, 4, 4),
    )


@pytest.mark.parametrize("captured_weights", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
def test_what_a_branch_takes_from_outside_lives_until_then(tmp_path, captured_weights, hidden):
    path = saved(branching(captured_weights, hidden), tmp_path)
    net = reader.read(path)
    (branch,) = net.ops
    names = [net.tensors[number].name for number in branch.inputs]
    assert names == ["yes", "x", *(["w"] if captured_weights else [])]
    assert not fixed(net) & set(branch.outputs)
    found = inspected(path)
    assert found.activations.peak_bytes == 4 * (4 * 4 * 4) + 4 * (16 * 4 * 4)
    # in the branches themselves it stands once for each of the two, or of the two in each
    copies = 1 if captured_weights else 4 if hidden else 2
    assert found.parameters == copies * 16 * 4
    assert found.operators[0].computes == "float"


def test_the_body_of_a_loop_keeps_what_it_takes_from_outside_alive(tmp_path):
    node, info = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Add", ["carried", "r"], ["next"]), node("Identity", ["going"], ["go_on"])],
        "body",
        [
            info("turn", TensorProto.INT64, ()), info("going", TensorProto.BOOL, ()),
            info("carried", TensorProto.FLOAT, (1, 4, 8, 8)),
        ],
        [info("go_on", TensorProto.BOOL, ()), info("next", TensorProto.FLOAT, (1, 4, 8, 8))],
    )  # fmt: skip
    made = model(
        [
            node("Relu", ["x"], ["r"]),
            node("Sigmoid", ["x"], ["s"]),
            node("Loop", ["times", "", "s"], ["y"], body=body),
        ],
        [numpy_helper.from_array(np.int64(3), "times")],
    )
    made.graph.output[0].CopyFrom(info("y", TensorProto.FLOAT, (1, 4, 8, 8)))
    net = reader.read(saved(made, tmp_path))
    assert [net.tensors[n].name for n in net.ops[-1].inputs if n >= 0] == ["times", "s", "r"]
    assert liveness_peak(net).size_bytes == 3 * 4 * (4 * 8 * 8)


def test_a_float_tensor_that_a_branch_takes_is_not_fused_away(tmp_path):
    node = helper.make_node
    branch = helper.make_graph(
        [node("Mul", ["d", "d"], ["z"])], "then", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    scales = [
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.float32(0.1), "s"),
        numpy_helper.from_array(np.uint8(128), "z0"),
    ]
    nodes = [
        node("QuantizeLinear", ["x", "s", "z0"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z0"], ["d"]),
        node("If", ["yes"], ["b"], then_branch=branch, else_branch=branch),
        node("Relu", ["b"], ["y"]),
    ]
    raw = reader.read(saved(model(nodes, scales), tmp_path))
    together = fusion.fused(raw, all_kinds=True)
    kinds = [op.kind for op in together.ops]
    assert kinds.count("DequantizeLinear") == 1
    run = trace_onnx.Cut(tmp_path / "m.onnx", raw, together)
    names = {raw.tensors[number].name: number for number in run.inputs}
    assert "d" in names
    feed = {n: np.full((1, 4, 8, 8), 3, _NUMPY[raw.tensors[n].dtype]) for n in run.inputs}
    results = {raw.tensors[n].name: values for n, values in run.run(feed).items()}
    assert np.all(results["b"] == 9)


_NUMPY = {"float32": np.float32, "uint8": np.uint8}


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_noted(tmp_path, wrong):
    made = convolutional()
    assert not any("NaN" in note for note in inspected(saved(made, tmp_path)).notes)
    values = numpy_helper.to_array(made.graph.initializer[2]).copy()
    values[0, 0] = wrong
    made.graph.initializer[2].CopyFrom(numpy_helper.from_array(values, "w2"))
    assert "NaN or infinite values in the weights w2" in inspected(saved(made, tmp_path)).notes


def test_a_model_without_operators_computes_nothing(tmp_path):
    found = inspected(saved(model([], [], outputs=("x",)), tmp_path))
    assert "it computes nothing" in found.notes
    assert found.operators == ()


def test_external_data_is_refused(tmp_path):
    made = convolutional()
    path = tmp_path / "m.onnx"
    onnx.save(made, path, save_as_external_data=True, size_threshold=0)
    with pytest.raises(ModelError, match="external data"):
        reader.read(path)


def test_a_function_counts_as_what_it_holds(tmp_path):
    node = helper.make_node
    body = helper.make_function(
        "own", "Doubled", ["a", "w"], ["b"], [node("MatMul", ["a", "w"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    made = model([node("Doubled", ["x", "w"], ["y"], domain="own")], [weights("w", 8, 3)])
    made.functions.append(body)
    made.opset_import.append(helper.make_opsetid("own", 1))
    net = reader.read(saved(made, tmp_path))
    assert [op.kind for op in net.ops] == ["MatMul"]
    assert net.ops[0].macs == 4 * 8 * 3 * 8
    assert parameter_count(net) == 24
    assert liveness_peak(net).size_bytes == 4 * (4 * 8 * 8 + 4 * 8 * 3)


def test_nodes_that_are_not_sorted_are_read_in_the_order_of_execution(tmp_path):
    made = convolutional()
    straight = inspected(saved(made, tmp_path, "straight.onnx"))
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    found = inspected(saved(made, tmp_path))
    assert (found.operators, found.macs) == (straight.operators, straight.macs)
    assert found.activations == straight.activations


def test_nodes_in_a_circle_are_refused(tmp_path):
    made = convolutional()
    made.graph.node[0].input[0] = "r1"
    with pytest.raises(ModelError, match="in a circle"):
        reader.read(saved(made, tmp_path))
