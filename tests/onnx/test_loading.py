"""edgeq.loaders.onnx: from a user's .onnx to the pivot."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq import sources
from edgeq.errors import ModelError
from edgeq.formats import onnx as files
from edgeq.formats import onnx_graph
from tests.fakes import tiny_onnx
from tests.onnx import mutants, nets

VERSIONS = [(11, 6), (12, 7), (13, 7), (15, 8), (17, 8), (19, 9), (21, 10), (23, 11), (25, 13),
            (26, 13), (27, 13), (28, 14)]  # fmt: skip


@pytest.mark.parametrize(("opset", "ir_version"), VERSIONS)
def test_every_opset_from_11_to_the_newest_is_taken(desk, opset, ir_version):
    pivot = desk.load(tiny_onnx.conv_net(opset, ir_version))
    made = files.read(pivot.path)
    assert files.opset(made) == min(max(opset, 13), onnx_graph.runtime_opset())
    assert made.ir_version == onnx_graph.ir_for(files.opset(made))
    assert pivot.check_samples == 8
    assert pivot.check_max_abs_diff < 1e-6
    assert [(spec.name, spec.shape) for spec in pivot.inputs] == [("image", (1, 3, 16, 16))]
    assert [(spec.name, spec.shape) for spec in pivot.outputs] == [("scores", (1, 10))]


def test_softmax_keeps_its_old_meaning_when_the_opset_is_raised(desk):
    node = helper.make_node("Softmax", ["x"], ["y"], "softmax")  # before 13: over all but the first
    data = tiny_onnx.model(
        [node], inputs={"x": (1, 3, 5)}, outputs={"y": (1, 3, 5)}, constants={}, opset=11
    )
    pivot = desk.load(data)
    (answer,) = files.Runner(pivot.path).run([np.zeros((1, 3, 5), np.float32)])
    assert answer.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", nets.ALL)
def test_each_kind_of_network_keeps_its_answers(desk, name):
    pivot = desk.load(nets.ALL[name]())
    assert pivot.check_max_abs_diff < 1e-4
    assert "BatchNormalization" not in files.op_names(pivot.path)


def test_several_inputs_and_outputs_keep_names_and_order(desk):
    pivot = desk.load(tiny_onnx.two_in_two_out_model())
    assert [spec.name for spec in pivot.inputs] == ["a", "b"]
    assert [spec.name for spec in pivot.outputs] == ["sum", "product"]


def test_an_open_batch_becomes_one(desk):
    pivot = desk.load(tiny_onnx.dynamic_batch_model())
    assert pivot.inputs[0].shape == (1, 4)
    assert pivot.outputs[0].shape == (1, 3)


@pytest.mark.parametrize(
    ("sides", "shape"),
    [((None, 3, None, None), (1, 3, 20, 24)), ((None, None, None, 3), (1, 20, 24, 3))],
)
def test_open_sides_come_from_the_project_file(desk, sides, shape):
    axes = {"axes": [2, 3], "keepdims": 0} if sides[1] else {"axes": [1, 2], "keepdims": 0}
    named = tuple(side or f"side{place}" for place, side in enumerate(sides))
    data = tiny_onnx.model(
        [helper.make_node("ReduceMean", ["image"], ["y"], "mean", **axes)],
        inputs={"image": named}, outputs={"y": ("N", 3)}, constants={},
    )  # fmt: skip
    assert desk.load(data, "sized.onnx", image_size=(20, 24)).inputs[0].shape == shape
    with pytest.raises(ModelError, match="open shape"):
        desk.load(data, "open.onnx")


def test_constants_listed_as_inputs_are_no_inputs(desk):
    model = onnx.ModelProto.FromString(tiny_onnx.float_model())
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    pivot = desk.load(model.SerializeToString())
    assert [spec.name for spec in pivot.inputs] == ["x"]


def test_loading_twice_gives_the_same_bytes(desk):
    one, two = (desk.load(nets.residual(), f"{name}.onnx") for name in ("one", "two"))
    assert one.sha256 == two.sha256


def test_recurrent_and_branching_models_are_taken(desk):
    assert desk.load(mutants.recurrent_model(), "lstm.onnx").outputs[0].shape == (1, 4)
    assert desk.load(mutants.branching_model(), "if.onnx").outputs[0].shape == (1, 4)


def test_an_output_whose_length_depends_on_the_values_is_refused(desk):
    data = tiny_onnx.model(
        [
            helper.make_node("NonZero", ["x"], ["places"], "where"),
            helper.make_node("Cast", ["places"], ["y"], "cast", to=TensorProto.FLOAT),
        ],
        inputs={"x": (1, 8)}, outputs={"y": (2, "n")}, constants={},
    )  # fmt: skip
    # |x| > 1 of random numbers would do, but NonZero wants exact zeros: whole numbers have them
    model = onnx.ModelProto.FromString(data)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    with pytest.raises(ModelError, match="depends on the input's values"):
        desk.load(model.SerializeToString())


def half(model):
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for item in (*model.graph.input, *model.graph.output):
        item.type.tensor_type.elem_type = TensorProto.FLOAT16


def batch_of_four(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def without_a_shape(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


def without_nodes(model):
    del model.graph.node[:]


def without_inputs(model):
    del model.graph.input[:]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (half, "computes in float16"),
        (batch_of_four, "takes a batch of 4"),
        (without_a_shape, "says not what shape it has"),
        (without_nodes, "computes nothing"),
        (without_inputs, "has no inputs|cannot load"),
    ],
)
def test_what_cannot_be_a_pivot_is_refused_with_the_reason(desk, change, says):
    model = onnx.ModelProto.FromString(tiny_onnx.float_model())
    change(model)
    with pytest.raises(ModelError, match=says):
        desk.load(model.SerializeToString())


def test_a_quantized_model_is_refused(desk):
    with pytest.raises(ModelError, match="already quantized"):
        desk.load(tiny_onnx.int8_model())


def test_a_git_lfs_pointer_and_a_foreign_file_are_told_apart(tmp_path):
    pointer = tmp_path / "pointer.onnx"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match="Git LFS"):
        sources.identify_model(pointer)
    page = tmp_path / "page.onnx"
    page.write_text("<html>404</html>")
    with pytest.raises(ModelError, match="its contents are not"):
        sources.identify_model(page)
    net = tmp_path / "net.ONNX"
    net.write_bytes(tiny_onnx.float_model())
    assert sources.identify_model(net).source.kind == "onnx"


def test_a_newer_opset_is_lowered_only_where_the_answers_stay(tmp_path):
    model = files.read(_written(tmp_path, nets.attention(17, 8)))
    with pytest.raises(ModelError, match="LayerNormalization"):
        onnx_graph.at_opset(model, 15, "net.onnx")  # which came with 17
    lowered = onnx_graph.at_opset(model, 17, "net.onnx")
    assert files.opset(lowered) == 17
    plain = files.read(_written(tmp_path, nets.residual(21, 10)))
    assert files.opset(onnx_graph.at_opset(plain, 15, "net.onnx")) == 15


def _written(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return path
