"""edgeq.formats.onnx: what is read, and what is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq.agent import onnxfile
from edgeq.agent.runtimes import onnxruntime
from edgeq.errors import ModelError
from edgeq.formats import onnx as files
from edgeq.quantizers import onnx_edges
from tests.fakes import tiny_onnx
from tests.onnx import mutants

EXTERNAL = TensorProto.EXTERNAL


def written(tmp_path, model) -> object:
    path = tmp_path / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def outside(location: str) -> TensorProto:
    tensor = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[1, 4])
    tensor.data_location = EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_answers_are_those_reckoned_by_hand(tmp_path):
    runner = files.Runner(written(tmp_path, tiny_onnx.float_model()))
    (answer,) = runner.run([np.array([[1, 2, 3, 4]], np.float32)])
    x = np.array([1, 2, 3, 4])
    assert answer.tolist() == [(tiny_onnx.WEIGHTS @ x + tiny_onnx.BIAS).tolist()]
    assert [(spec.name, spec.shape, spec.dtype) for spec in runner.tensors.inputs] == [
        ("x", (1, 4), "float32")
    ]


def test_whole_numbers_at_the_edges_have_their_scale(tmp_path):
    tensors = files.Runner(written(tmp_path, tiny_onnx.int8_model())).tensors
    (given,), (made,) = tensors.inputs, tensors.outputs
    assert (given.dtype, given.zero_point) == ("int8", tiny_onnx.INPUT_ZERO_POINT)
    assert given.scale == pytest.approx(tiny_onnx.INPUT_SCALE)
    assert (made.dtype, made.zero_point) == ("int8", tiny_onnx.OUTPUT_ZERO_POINT)
    assert made.scale == pytest.approx(tiny_onnx.OUTPUT_SCALE)


def test_inputs_and_outputs_keep_their_order(tmp_path):
    runner = files.Runner(written(tmp_path, tiny_onnx.two_in_two_out_model()))
    a, b = np.array([[2, 3]], np.float32), np.array([[5, 7]], np.float32)
    total, product = runner.run([a, b])
    assert total.tolist() == [[7, 10]]
    assert product.tolist() == [[10, 21]]


def test_op_names_reach_into_branches(tmp_path):
    names = files.op_names(written(tmp_path, mutants.branching_model()))
    assert names == ("Add", "Greater", "Identity", "If", "ReduceSum")


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd", ""])
def test_external_data_is_refused(tmp_path, location):
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    model = onnx.ModelProto.FromString(tiny_onnx.float_model())
    model.graph.initializer.append(outside(location))
    with pytest.raises(ModelError, match="keeps secret in another file") as caught:
        files.read(written(tmp_path, model))
    assert "one file" in caught.value.hint


@pytest.mark.parametrize("how", ["symlink", "hard link"])
def test_external_data_through_a_link_is_refused(tmp_path, how):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    link = tmp_path / "weights.bin"
    link.symlink_to(secret) if how == "symlink" else link.hardlink_to(secret)
    model = onnx.ModelProto.FromString(tiny_onnx.float_model())
    model.graph.initializer.append(outside("weights.bin"))
    with pytest.raises(ModelError, match="external data"):
        files.read(written(tmp_path, model))


def in_attribute(model):
    node = model.graph.node.add(op_type="Constant", output=["unused"])
    node.attribute.append(helper.make_attribute("value", tiny_tensor()))
    node.attribute[0].t.CopyFrom(outside("x"))


def in_branch(model):
    model.graph.node[-1].attribute[0].g.initializer.append(outside("x"))


def in_function(model):
    body = [helper.make_node("Constant", [], ["y"], value=tiny_tensor())]
    body[0].attribute[0].t.CopyFrom(outside("x"))
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "f", [], ["y"], body, opsets))


def in_sparse(model):
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(outside("x"))


def in_training(model):
    model.training_info.add().initialization.initializer.append(outside("x"))


def without_a_location(model):
    model.graph.initializer[0].data_location = EXTERNAL


def names_only(model):
    model.graph.initializer[0].external_data.add(key="location", value="x")


def tiny_tensor() -> TensorProto:
    return numpy_helper.from_array(np.zeros(1, np.float32))


@pytest.mark.parametrize(
    "hide",
    [in_attribute, in_branch, in_function, in_sparse, in_training, without_a_location, names_only],
)
def test_external_data_is_found_wherever_it_hides(tmp_path, hide):
    model = onnx.ModelProto.FromString(mutants.branching_model())
    hide(model)
    with pytest.raises(ModelError, match="external data"):
        files.read(written(tmp_path, model))


def test_a_compiled_part_is_refused(tmp_path):
    model = onnx.ModelProto.FromString(tiny_onnx.float_model())
    model.graph.node.add(op_type="EPContext", domain="com.microsoft", output=["z"])
    with pytest.raises(ModelError, match="EPContext"):
        files.read(written(tmp_path, model))


def test_a_link_to_the_model_itself_is_followed(tmp_path):
    path = written(tmp_path, tiny_onnx.float_model())
    link = tmp_path / "link.onnx"
    link.symlink_to(path)
    assert files.op_names(link) == ("Gemm",)


def test_more_than_two_gib_is_refused_unread(tmp_path):
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.truncate(2 << 30)  # sparse: it takes no room
    with pytest.raises(ModelError, match=r"huge\.onnx has 2\.0 GiB"):
        files.read(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "has no graph"),
        (b"\x08\x08", "has no graph"),
        (b"\xff" * 64, "no protobuf"),
        (tiny_onnx.conv_net()[:300], "no protobuf"),
        (b"<html>not found</html>", "is damaged"),
    ],
)
def test_damage_is_a_plain_sentence(tmp_path, data, says):
    with pytest.raises(ModelError, match=says):
        files.read(written(tmp_path, data))


def test_an_unknown_op_and_a_cycle_are_named(tmp_path):
    model = onnx.ModelProto.FromString(tiny_onnx.float_model())
    model.graph.node[0].op_type = "Frobnicate"
    with pytest.raises(ModelError, match="Frobnicate"):
        files.Runner(written(tmp_path, model))
    cyclic = onnx.ModelProto.FromString(tiny_onnx.two_in_two_out_model())
    cyclic.graph.node[0].input[0] = "product"
    cyclic.graph.node[1].input[0] = "sum"
    with pytest.raises(ModelError, match="ONNX Runtime cannot load") as caught:
        files.Runner(written(tmp_path, cyclic))
    assert "\n" not in caught.value.message


def test_a_tensor_larger_than_memory_is_an_error(tmp_path):
    shape = np.array([1 << 20, 1 << 20, 1 << 20], np.int64)
    data = tiny_onnx.model(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["total"], keepdims=0),
            helper.make_node("Add", ["x", "total"], ["y"]),
        ],
        inputs={"x": (1, 4)},
        outputs={"y": (1, 4)},
        constants={"shape": shape},
        checked=False,
    )
    with pytest.raises(ModelError):
        files.Runner(written(tmp_path, data)).run([np.zeros((1, 4), np.float32)])


def test_the_same_model_gives_the_same_bytes(tmp_path):
    model = files.read(written(tmp_path, tiny_onnx.conv_net()))
    files.write(model, tmp_path / "one.onnx")
    files.write(files.copy(model), tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_the_agent_knows_the_keys_that_the_host_writes(tmp_path):
    model = onnx.ModelProto.FromString(tiny_onnx.float_model())
    assert not onnxfile.read(written(tmp_path, model)).plain
    model.metadata_props.add(key=files.PLAIN_KEY, value="")
    assert onnxfile.read(written(tmp_path, model)).plain
    assert onnxruntime.IO_KEY == onnx_edges.IO_KEY
