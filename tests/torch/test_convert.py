"""PyTorch's models as a user converts them; the numbers are those that PyTorch gave itself."""

import numpy as np
import pytest

from edgeq import formats

pytestmark = pytest.mark.timeout(1800)  # the first test waits for the environment


def answers(path, data):
    """Of a converted file, sample by sample, by output name."""
    runner = formats.of(path).runner(path)
    specs = runner.tensors.inputs
    count = len(next(iter(data.values())))
    found = {spec.name: [] for spec in runner.tensors.outputs}
    for place in range(count):
        batch = [data[spec.name][place : place + 1].astype(spec.dtype) for spec in specs]
        for name, array in zip(found, runner.run(batch), strict=True):
            found[name].append(array)
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def assert_equal(user, name, path):
    with np.load(user.models / f"{name}.data.npz") as stored:
        data = dict(stored)
    with np.load(user.models / f"{name}.answers.npz") as wanted:
        found = answers(path, data)
        assert sorted(found) == sorted(wanted.files)
        for output in wanted.files:
            scale = np.abs(wanted[output]).max()
            np.testing.assert_allclose(found[output], wanted[output], atol=2e-6 * max(scale, 1))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("pictures", "onnx"),
        ("pictures", "tflite"),
        ("open", "onnx"),
        ("features", "tflite"),
        ("two", "onnx"),
        ("two", "tflite"),
    ],
)
def test_an_exported_program_gives_pytorchs_numbers(user, tmp_path, name, form):
    path = tmp_path / f"{name}.{form}"
    user.convert(user.models / f"{name}.pt2", path)
    assert_equal(user, name, path)
    shapes = [spec.shape[0] for spec in formats.of(path).runner(path).tensors.inputs]
    assert set(shapes) == {1}


@pytest.mark.parametrize(
    ("name", "form"),
    [("traced", "onnx"), ("traced", "tflite"), ("scripted", "onnx"), ("words", "tflite")],
)
def test_torchscript_gives_pytorchs_numbers_with_shapes_from_the_data(user, tmp_path, name, form):
    path = tmp_path / f"{name}.{form}"
    data = user.models / f"{name}.data.npz"
    user.convert(user.models / f"{name}.pt", path, "--calibration", data)
    assert_equal(user, name, path)


def test_torchscript_takes_shapes_from_edgeq_toml(user, tmp_path):
    model = tmp_path / "traced.pt"
    model.write_bytes((user.models / "traced.pt").read_bytes())
    project = tmp_path / "edgeq.toml"
    said = user.convert(model, tmp_path / "out.onnx", status=5).stderr
    assert "traced.pt says not what shape its inputs have (image)" in said
    assert "[input] shape = [1, 3, 224, 224]" in said
    project.write_text("[input]\nshape = [1, 3, 16, 12]\n")
    user.convert(model, tmp_path / "out.onnx")
    assert_equal(user, "traced", tmp_path / "out.onnx")
    project.write_text("[input]\nshape = [2, 3, 16, 12]\n")
    said = user.convert(model, tmp_path / "two.onnx", status=5).stderr
    assert "a batch of 2" in said
    project.write_text("[input]\nshape = [1, 4, 16, 12]\n")
    said = user.convert(model, tmp_path / "four.onnx", status=5).stderr
    assert "is [input] shape in edgeq.toml right?" in said


def test_open_sides_are_closed_by_edgeq_toml(user, tmp_path):
    model = tmp_path / "sides.pt2"
    model.write_bytes((user.models / "sides.pt2").read_bytes())
    said = user.convert(model, tmp_path / "out.onnx", status=5).stderr
    assert "input image has the open shape (1, 3, ?, ?)" in said
    (tmp_path / "edgeq.toml").write_text("[input]\nsize = [10, 14]\n")
    user.convert(model, tmp_path / "out.onnx")
    (spec,) = formats.of(tmp_path / "out.onnx").runner(tmp_path / "out.onnx").tensors.inputs
    assert spec.shape == (1, 3, 10, 14)


def test_a_fixed_batch_is_refused_with_the_way_out(user, tmp_path):
    said = user.convert(user.models / "batch4.pt2", tmp_path / "out.onnx", status=5).stderr
    assert "input image of batch4.pt2 takes a batch of 4" in said
    assert "torch.export.Dim('batch')" in said


def test_half_precision_is_refused_with_the_way_out(user, tmp_path):
    said = user.convert(user.models / "half.pt2", tmp_path / "out.tflite", status=5).stderr
    assert "half.pt2 computes in float16" in said
    assert "model.float()" in said


@pytest.mark.parametrize("name", ["module.pt", "old_module.pt", "weights.pth", "checkpoint.ckpt"])
def test_pickles_are_refused_with_how_to_export(user, tmp_path, name):
    said = user.convert(user.models / name, tmp_path / "out.onnx", status=5).stderr
    what = "a pickled object of class __main__.Pictures" if "module" in name else "only weights"
    assert what in said
    assert "torch.export.save(" in said
    assert "torch.jit.save(" in said


def test_the_exporters_paths_do_not_get_into_the_artifact(user, tmp_path):
    user.convert(user.models / "pictures.pt2", tmp_path / "out.onnx")
    assert b"build_models.py" in (user.models / "pictures.pt2").read_bytes()
    assert b"build_models.py" not in (tmp_path / "out.onnx").read_bytes()
