"""An .onnx as .tflite, against ONNX Runtime's answers for the user's file."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from edgeq import packages, pythons
from edgeq.errors import HostError
from edgeq.formats import tflite

pytestmark = pytest.mark.timeout(900)  # the first test waits for the environment


@pytest.fixture(scope="session")
def python():
    """Of the version that onnx2tf needs; None when this machine has none."""
    try:
        return pythons.find("onnx2tf", packages.find("onnx2tf").python)
    except HostError:
        return None


def weights(*shape, name):
    values = np.random.default_rng(len(name) + sum(shape)).standard_normal(shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def write(path, nodes, inputs, outputs, constants):
    ends = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in side]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "test", *ends, constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def pictures(path):
    """Channels first, an open batch, and a picture as output that is used inside too."""
    write(
        path,
        [
            helper.make_node("Conv", ["image", "W"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["features"]),
            helper.make_node("GlobalAveragePool", ["features"], ["b"]),
            helper.make_node("Flatten", ["b"], ["c"]),
            helper.make_node("MatMul", ["c", "V"], ["d"]),
            helper.make_node("Softmax", ["d"], ["scores"], axis=1),
        ],
        [("image", TensorProto.FLOAT, ["N", 3, 12, 10])],
        [
            ("features", TensorProto.FLOAT, ["N", 4, 12, 10]),
            ("scores", TensorProto.FLOAT, ["N", 5]),
        ],
        [weights(4, 3, 3, 3, name="W"), weights(4, 5, name="V")],
    )


def channels_last(path):
    """As Keras' export has it: a transpose at each end."""
    write(
        path,
        [
            helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["t", "W"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Transpose", ["b"], ["features"], perm=[0, 2, 3, 1]),
        ],
        [("image", TensorProto.FLOAT, [1, 12, 10, 3])],
        [("features", TensorProto.FLOAT, [1, 12, 10, 4])],
        [weights(4, 3, 3, 3, name="W")],
    )


def cube(path):
    """As many channels as rows and columns: a wrong order would have the right shape."""
    write(
        path,
        [helper.make_node("Conv", ["image", "W"], ["a"], pads=[1, 1, 1, 1]),
         helper.make_node("Tanh", ["a"], ["features"])],
        [("image", TensorProto.FLOAT, [1, 4, 4, 4])],
        [("features", TensorProto.FLOAT, [1, 4, 4, 4])],
        [weights(4, 4, 3, 3, name="W")],
    )  # fmt: skip


def words(path):
    """Whole numbers of 64 bits, which a .tflite has with 32."""
    write(
        path,
        [
            helper.make_node("Gather", ["E", "ids"], ["e"]),
            helper.make_node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["m", "D"], ["scores"]),
        ],
        [("ids", TensorProto.INT64, [1, 7])],
        [("scores", TensorProto.FLOAT, [1, 3])],
        [weights(20, 6, name="E"), weights(6, 3, name="D")],
    )


def two_by_two(path):
    write(
        path,
        [
            helper.make_node("MatMul", ["left", "P"], ["p"]),
            helper.make_node("Add", ["p", "right"], ["q"]),
            helper.make_node("Sigmoid", ["q"], ["first"]),
            helper.make_node("Neg", ["q"], ["second"]),
        ],
        [("left", TensorProto.FLOAT, [1, 5]), ("right", TensorProto.FLOAT, [1, 3])],
        [("first", TensorProto.FLOAT, [1, 3]), ("second", TensorProto.FLOAT, [1, 3])],
        [weights(5, 3, name="P")],
    )


@pytest.mark.parametrize("build", [pictures, channels_last, cube, words, two_by_two])
def test_the_numbers_and_the_layout_are_the_sources(user, python, tmp_path, build):
    model, made = tmp_path / "model.onnx", tmp_path / "model.tflite"
    build(model)
    if python is None:
        said = user.convert(model, made, status=1).stderr
        assert "the environment onnx2tf needs Python 3.12 or newer" in said
        return
    user.convert(model, made)
    source = onnxruntime.InferenceSession(model)
    runner = tflite.Runner(made)
    generator = np.random.default_rng(3)
    for _ in range(5):
        given = {
            item.name: generator.integers(0, 20, (1, *item.shape[1:])).astype(np.int64)
            if "int" in item.type
            else generator.standard_normal((1, *item.shape[1:])).astype(np.float32)
            for item in source.get_inputs()
        }
        wanted = dict(
            zip([o.name for o in source.get_outputs()], source.run(None, given), strict=True)
        )
        batch = [given[spec.name].astype(spec.dtype) for spec in runner.tensors.inputs]
        for spec, array in zip(runner.tensors.outputs, runner.run(batch), strict=True):
            np.testing.assert_allclose(array, wanted[spec.name], atol=5e-6)


def test_without_a_fitting_python_the_error_says_what_to_install(tmp_path):
    wanted = packages.find("onnx2tf").python
    nothing = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    with pytest.raises(HostError, match=r"onnx2tf needs Python 3\.12 or newer") as caught:
        pythons.find("onnx2tf", wanted, environ=nothing, own=None)
    assert "python3.12" in caught.value.hint
    assert os.environ["HOME"] not in caught.value.message


def test_an_operator_that_a_tflite_cannot_have_is_an_error_of_one_sentence(user, python, tmp_path):
    model = tmp_path / "model.onnx"
    write(
        model,
        [
            helper.make_node(
                "TfIdfVectorizer",
                ["x"],
                ["y"],
                mode="TF",
                min_gram_length=1,
                max_gram_length=1,
                max_skip_count=0,
                ngram_counts=[0],
                ngram_indexes=[0, 1],
                pool_int64s=[3, 4],
            )
        ],
        [("x", TensorProto.INT64, [1, 6])],
        [("y", TensorProto.FLOAT, [1, 2])],
        [],
    )
    status = 1 if python is None else 5
    said = user.convert(model, Path(tmp_path / "model.tflite"), status=status).stderr
    assert len([line for line in said.splitlines() if line.startswith("edgeq: ")]) == 1
    if python:
        assert "onnx2tf cannot convert model.onnx" in said
        assert "--format onnx" in said
