"""PyTorch's files that are damaged, or that bring code."""

import json
import os
import pickle
import random
import zipfile

import pytest

from edgeq.errors import ModelError
from edgeq.loaders import torch_archive

pytestmark = pytest.mark.timeout(1800)


class Touch:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def changed(path, to, change):
    """A copy of a zip; ``change`` gets each member's name and contents, and gives new contents."""
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(to, "w") as after:
        for name in before.namelist():
            after.writestr(name, change(name, before.read(name)))
    return to


def in_json(replace):
    """A change of the model's graph."""

    def change(name, data):
        if "/models/" not in name or not name.endswith(".json"):
            return data
        return json.dumps(replace(json.loads(data))).encode()

    return change


def with_target(target):
    def replace(tree):
        tree["graph_module"]["graph"]["nodes"][0]["target"] = target
        return tree

    return in_json(replace)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.load_library",
        "_operator.attrgetter.__init__",
        "math.__loader__",
        "#extension:thing",
    ],
)
def test_a_graph_that_calls_anything_but_operators_is_refused(user, tmp_path, target):
    model = changed(user.models / "pictures.pt2", tmp_path / "evil.pt2", with_target(target))
    with pytest.raises(ModelError, match="which may run code") as caught:
        torch_archive.refuse_code(model, "torch-export")
    assert "--trust-model" in caught.value.hint


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').mkdir('x')",
        "s0.__class__",
        "exec(s0)",
        "Symbol('s0; import os')",
        "Float('1', precision=open('x'))",
    ],
)
def test_a_size_that_is_a_program_is_refused(user, tmp_path, expression):
    def change(name, data):
        if "/models/" not in name:
            return data
        return json.dumps(_with(json.loads(data), expression)).encode()

    model = changed(user.models / "open.pt2", tmp_path / "evil.pt2", change)
    with pytest.raises(ModelError, match="which may run code"):
        torch_archive.refuse_code(model, "torch-export")


def _with(tree, expression):
    if isinstance(tree, dict):
        return {
            key: expression if key == "expr_str" else _with(value, expression)
            for key, value in tree.items()
        }
    return [_with(item, expression) for item in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"use_pickle": false', b'"use_pickle": true'),
        (b'"path_name": "weight_0"', b'"path_name": "opaque_obj_0"'),
        (b'"path_name": "weight_0"', b'"path_name": "../../x"'),
    ],
)
def test_weights_that_are_pickles_are_refused(user, tmp_path, before, after):
    def change(name, data):
        return data.replace(before, after) if name.endswith("_config.json") else data

    model = changed(user.models / "pictures.pt2", tmp_path / "evil.pt2", change)
    with pytest.raises(ModelError, match="pickle"):
        torch_archive.refuse_code(model, "torch-export")


def test_harmless_models_are_not_refused(user):
    for path in user.models.glob("*.pt2"):
        torch_archive.refuse_code(path, "torch-export")
    for name in ("traced.pt", "scripted.pt", "words.pt"):
        torch_archive.refuse_code(user.models / name, "torchscript")


def test_a_script_that_touches_files_is_refused(user, tmp_path):
    def change(name, data):
        return data.replace(b"torch.relu(", b"torch.save(") if name.endswith(".py") else data

    model = changed(user.models / "traced.pt", tmp_path / "evil.pt", change)
    with pytest.raises(ModelError, match="touches files"):
        torch_archive.refuse_code(model, "torchscript")


def test_a_pickle_hidden_among_the_example_inputs_does_not_run(user, tmp_path):
    trace = tmp_path / "ran"
    evil = pickle.dumps(Touch(trace), protocol=2)
    inner = tmp_path / "inner.pt"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("inner/data.pkl", evil)
        archive.writestr("inner/version", "3\n")
        archive.writestr("inner/byteorder", "little")

    def change(name, data):
        return inner.read_bytes() if "/sample_inputs/" in name else data

    model = changed(user.models / "pictures.pt2", tmp_path / "evil.pt2", change)
    said = user.convert(model, tmp_path / "out.onnx", status=5).stderr
    assert "cannot load evil.pt2" in said
    assert not trace.exists()


def test_mutated_files_are_errors_of_one_sentence(user, tmp_path):
    """Seen from outside, where every file passes first."""
    generator = random.Random(5)
    refused = []
    for source in ("pictures.pt2", "open.pt2", "traced.pt", "scripted.pt", "module.pt"):
        whole = (user.models / source).read_bytes()
        for number in range(40):
            path = tmp_path / f"{number}.{source}"
            path.write_bytes(mutated(whole, generator))
            try:
                kind = torch_archive.kind_of(path)
                torch_archive.refuse_code(path, kind or "")
            except ModelError as error:
                refused.append(error.message)
    assert len(refused) > 80
    assert not any("\n" in message for message in refused)


@pytest.mark.parametrize("source", ["pictures.pt2", "traced.pt"])
@pytest.mark.parametrize("damage", ["weights", "graph", "half"])
def test_damage_that_only_pytorch_sees_is_an_error_of_one_sentence(user, tmp_path, source, damage):
    whole = user.models / source
    path = tmp_path / source
    if damage == "half":
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    elif damage == "weights":
        with zipfile.ZipFile(whole) as archive:
            folder = "weights/weight_0" if source.endswith("pt2") else "data/0"
            (info,) = [item for item in archive.infolist() if item.filename.endswith(folder)]
        data = bytearray(whole.read_bytes())
        data[info.header_offset + 200] ^= 0xFF
        path.write_bytes(data)
    else:
        changed(whole, path, spoil)
    (tmp_path / "edgeq.toml").write_text("[input]\nshape = [1, 3, 16, 12]\n")
    said = user.convert(path, tmp_path / "out.onnx", status=5).stderr
    error = [line for line in said.splitlines() if line.startswith("edgeq: ")]
    assert len(error) == 1
    assert source in error[0]


def spoil(name, data):
    """Names that the graph does not have; JSON and TorchScript stay what they are."""
    if name.endswith("models/model.json"):
        return data.replace(b'"name": "image"', b'"name": "nothing"', 1)
    return data.replace(b"image", b"nothing", 1) if name.endswith(".py") else data


def mutated(whole, generator):
    data = bytearray(whole)
    match generator.randrange(3):
        case 0:
            return bytes(data[: generator.randrange(1, len(data))])
        case 1:
            for _ in range(generator.randrange(1, 40)):
                data[generator.randrange(len(data))] = generator.randrange(256)
        case _:
            start = generator.randrange(len(data))
            del data[start : start + generator.randrange(1, 200)]
    return bytes(data)
