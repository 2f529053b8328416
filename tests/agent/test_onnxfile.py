"""A .onnx is looked through before ONNX Runtime opens it: nothing outside the file, no nonsense."""

import random
import struct

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq import wire
from edgeq.agent import onnxfile
from edgeq.agent.ports import FailureError
from tests.agent.test_onnx import RUNTIME, predict
from tests.agent.test_predict import SAMPLES
from tests.fakes import tiny_onnx

CHANGED = 3000


def external(location="weights.bin"):
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "outside")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def in_an_initializer(model, tensor):
    model.graph.initializer.append(tensor)


def in_a_sparse_initializer(model, tensor):
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def in_the_indices_of_a_sparse_attribute(model, tensor):
    node = model.graph.node.add(op_type="Constant", output=["c"])
    node.attribute.add(name="sparse_value", type=11).sparse_tensor.indices.CopyFrom(tensor)


def in_a_constant(model, tensor):
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_a_list_of_tensors(model, tensor):
    node = model.graph.node.add(op_type="Odd", domain="odd", output=["c"])
    node.attribute.add(name="many", type=9).tensors.extend([external(), tensor])


def in_a_branch_of_a_branch(model, tensor):
    inner = helper.make_graph([], "inner", [], [], [tensor])
    middle = helper.make_graph(
        [helper.make_node("If", ["c"], ["d"], then_branch=inner)], "middle", [], []
    )
    node = model.graph.node.add(op_type="Odd", domain="odd", output=["e"])
    node.attribute.add(name="graphs", type=10).graphs.append(middle)


def in_a_function(model, tensor):
    function = model.functions.add(name="f", domain="f")
    function.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_a_functions_default(model, tensor):
    model.functions.add(name="f", domain="f").attribute_proto.add(name="a", type=4).t.CopyFrom(
        tensor
    )


def in_a_training_graph(model, tensor):
    model.training_info.add().algorithm.initializer.append(tensor)


PLACES = [
    in_an_initializer, in_a_sparse_initializer, in_the_indices_of_a_sparse_attribute,
    in_a_constant, in_a_list_of_tensors, in_a_branch_of_a_branch, in_a_function,
    in_a_functions_default, in_a_training_graph,
]  # fmt: skip


def model_with(place, tensor):
    model = onnx.load_from_string(tiny_onnx.conv_net())
    place(model, tensor)
    return model.SerializeToString()


def read(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return onnxfile.read(path)


def names_other_files(message):
    """What the library's own reader finds, by its descriptors instead of our table."""
    if message.DESCRIPTOR.name == "TensorProto":
        return message.data_location == TensorProto.EXTERNAL or bool(message.external_data)
    for field, value in message.ListFields():
        if field.message_type is not None:
            items = [value] if hasattr(value, "DESCRIPTOR") else value
            if any(names_other_files(item) for item in items):
                return True
    return False


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_weights_in_another_file_are_refused_wherever_they_are_named(tmp_path, place):
    for half in ("both", "location", "data"):
        tensor = external()
        if half == "location":
            tensor.ClearField("external_data")
        if half == "data":
            tensor.ClearField("data_location")
        with pytest.raises(FailureError, match=r"refused: .*another file") as caught:
            read(tmp_path, model_with(place, tensor))
        assert caught.value.kind == "model"


@pytest.mark.parametrize("location", ["../secret.bin", "link.bin", "hard.bin", "{}/secret.bin"])
def test_a_file_elsewhere_is_never_read_by_the_agent(lasting, tmp_path, location):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.bin").symlink_to(secret)
    (folder / "hard.bin").hardlink_to(secret)
    model = tiny_onnx.model(
        [helper.make_node("Add", ["x", "outside"], ["y"])],
        inputs={"x": (1, 4)}, outputs={"y": (1, 4)}, constants={}, checked=False,
    )  # fmt: skip
    loaded = onnx.load_from_string(model)
    loaded.graph.initializer.append(external(location.format(tmp_path)))
    path = folder / "model.onnx"
    path.write_bytes(loaded.SerializeToString())
    assert predict(lasting, tiny_onnx.float_model(), SAMPLES)[0].shape == (4, 3)  # puts in.npz
    request = wire.Predict(str(path), "scratch/in.npz", "scratch/none.npz", RUNTIME)
    answer = lasting.ask(request)
    assert (answer.kind, "model.onnx is refused" in answer.message) == ("model", True), answer
    answer = lasting.ask(wire.Measure(str(path), "scratch/in.npz", RUNTIME, processes=1))
    assert (answer.kind, "model.onnx is refused" in answer.message) == ("model", True), answer


def test_good_models_pass_and_tell_what_tensorrt_must_know(tmp_path):
    assert read(tmp_path, tiny_onnx.conv_net()) == onnxfile.Contents()
    assert read(tmp_path, tiny_onnx.int8_model()) == onnxfile.Contents(quantized=True)
    half = onnx.load_from_string(tiny_onnx.float_model())
    half.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float16), "half"))
    assert read(tmp_path, half.SerializeToString()) == onnxfile.Contents(half=True)


def test_a_part_that_was_compiled_for_one_device_is_refused(tmp_path):
    model = onnx.load_from_string(tiny_onnx.float_model())
    model.graph.node.add(op_type="EPContext", domain="com.microsoft", output=["e"])
    with pytest.raises(FailureError, match="EPContext"):
        read(tmp_path, model.SerializeToString())


def test_a_graph_in_two_pieces_is_looked_through_in_both(tmp_path):
    """Protobuf puts pieces of one message together."""
    piece = onnx.ModelProto()
    piece.graph.initializer.append(external())
    for data in (
        tiny_onnx.conv_net() + piece.SerializeToString(),
        piece.SerializeToString() + tiny_onnx.conv_net(),
    ):
        assert names_other_files(onnx.load_from_string(data))
        with pytest.raises(FailureError, match="refused"):
            read(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\0\0", "without a number"),
        (b"hello world, this is no model", "is not a .onnx"),
        (b"\x3a\xff\xff\xff\xff\x0f", "ends after the file"),
        (b"\x3a\x80", "does not end"),
        (b"\x08" + b"\xff" * 11, "does not end"),
        (b"\xba\x80\x80\x80\x80\x01\x00", "does not end"),  # field 7 in six bytes
        (b"\xba\x80\x80\x80\x10\x00", "without a number"),  # field 7, were it cut to 32 bits
        (b"\x3b\x3c", "of no kind"),  # a group
        (b"\x3f", "of no kind"),
        (b"\x39\x00", "ends after the file"),
        (b"TFL3" + bytes(100), "is not a .onnx"),
    ],
)
def test_what_is_no_onnx_is_told_in_one_sentence(tmp_path, data, said):
    with pytest.raises(FailureError, match=said) as caught:
        read(tmp_path, data)
    assert "\n" not in caught.value.message
    assert caught.value.kind == "model"


def test_a_graph_nested_four_thousand_times_is_no_trouble(tmp_path):
    data = b""
    for _ in range(4000):  # graph > node > attribute > graph, built from the inside
        for field in (6, 5, 1):
            data = bytes([field << 3 | 2]) + _varint(len(data)) + data
    assert read(tmp_path, b"\x3a" + _varint(len(data)) + data) == onnxfile.Contents()


def test_no_changed_file_gets_past_that_the_library_would_find_to_name_others(tmp_path):
    """Random changes of models that name other files: whatever protobuf still reads is refused."""
    noise = random.Random(5)
    sources = [model_with(place, external("a" * 40)) for place in PLACES]
    still_external = 0
    for _ in range(CHANGED):
        data = changed(noise, noise.choice(sources))
        try:
            model = onnx.ModelProto.FromString(data)
        except Exception:  # noqa: BLE001 - protobuf's, whichever it is built with
            continue
        if not names_other_files(model):
            continue
        still_external += 1
        with pytest.raises(FailureError):
            read(tmp_path, data)
    assert still_external > CHANGED // 3


def changed(noise, data):
    """A copy with a few bytes flipped, taken away, doubled, or a number replaced."""
    data = bytearray(data)
    for _ in range(noise.choice([1, 1, 2, 5])):
        at = noise.randrange(len(data))
        match noise.randrange(5):
            case 0:
                data[at] ^= 1 << noise.randrange(8)
            case 1:
                del data[at : at + noise.choice([1, 4, 100])]
            case 2:
                data[at:at] = data[at : at + noise.choice([1, 8, 64])]
            case 3:
                data[at : at + 4] = struct.pack("<i", noise.choice([-1, 0, 1 << 30, 127]))
            case 4:
                data[at] = noise.randrange(256)
        if not data:
            return b"\0"
    return bytes(data)


def _varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
