"""Each kind of model, loaded for real, and each thing a loader must refuse."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeq import formats, sources, steps, worker
from edgeq.core.project import Input
from edgeq.errors import ModelError, WorkerError
from edgeq.loaders import keras_config, tensorflow
from edgeq.ports import LoadOptions

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(600)  # the first test here waits for all the models


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("cnn.h5", {"image": [1, 8, 8, 3]}, {"output_0": [1, 3]}),
        ("cnn.keras", {"image": [1, 8, 8, 3]}, {"output_0": [1, 3]}),
        ("cnn_keras2.hdf5", {"image": [1, 8, 8, 3]}, {"output_0": [1, 3]}),
        ("cnn_saved", {"image": [1, 8, 8, 3]}, {"output_0": [1, 3]}),
        ("cnn.tflite", {"image": [1, 8, 8, 3]}, {"output_0": [1, 3]}),
        ("cnn_dynamic.tflite", {"image": [1, 8, 8, 3]}, {"output_0": [1, 3]}),
        ("fixed_batch.keras", {"eight": [1, 4]}, {"output_0": [1, 3]}),
        (
            "two_by_two.keras",
            {"left": [1, 4], "right": [1, 6]},
            {"first": [1, 2], "second": [1, 3]},
        ),
        (
            "two_by_two_saved",
            {"left": [1, 4], "right": [1, 6]},
            {"first": [1, 2], "second": [1, 3]},
        ),
        ("slots_saved", {"x": [1, 4]}, {"y": [1, 2]}),
        ("v1_saved", {"features": [1, 4]}, {"scores": [1, 2]}),
        ("open_sides.keras sized", {"picture": [1, 12, 10, 3]}, {"output_0": [1, 2]}),
    ],
)
def test_a_model_becomes_a_pivot_with_batch_1_that_gives_its_answers(loaded, name, inputs, outputs):
    pivot = loaded.outcomes[name]
    assert "error" not in pivot, pivot
    assert {item["name"]: item["shape"] for item in pivot["inputs"]} == inputs
    assert {item["name"]: item["shape"] for item in pivot["outputs"]} == outputs
    assert pivot["check_samples"] == 8
    assert pivot["check_max_abs_diff"] < 1e-5
    assert pivot["left"] == ["pivot.tflite"]


@pytest.mark.parametrize(
    "name",
    [
        "cnn.h5",
        "cnn_saved",
        "cnn.tflite",
        "cnn_dynamic.tflite",
        "mobilenet.h5",
        "autoencoder.h5",
        "streaming.h5",
        "two_by_two.keras",
        "two_by_two_saved",
        "tokens.keras",
        "binary.keras",
        "nested.keras",
        "unrolled.keras",
        "separable.h5",
        "v1_saved",
    ],
)
def test_the_onnx_pivot_has_the_tflite_pivots_ends_and_numbers(loaded, name):
    as_onnx, as_tflite = loaded.outcomes[f"{name} onnx"], loaded.outcomes[name]
    assert "error" not in as_onnx, as_onnx
    assert as_onnx["left"] == ["pivot.onnx"]
    for side in ("inputs", "outputs"):
        ends = [
            {(item["name"], tuple(item["shape"])) for item in pivot[side]}
            for pivot in (as_onnx, as_tflite)
        ]
        assert ends[0] == ends[1]
    assert as_onnx["check_samples"] == 8
    assert as_onnx["check_max_abs_diff"] < 1e-5
    runners = [
        formats.of(Path(pivot["path"])).runner(Path(pivot["path"]))
        for pivot in (as_onnx, as_tflite)
    ]
    generator = np.random.default_rng(2)
    for _ in range(3):
        given = {
            spec.name: generator.uniform(0, 2, spec.shape).astype(spec.dtype)
            for spec in runners[0].tensors.inputs
        }
        answers = []
        for runner in runners:
            batch = [given[s.name].astype(s.dtype) for s in runner.tensors.inputs]
            names = [spec.name for spec in runner.tensors.outputs]
            answers.append(dict(zip(names, runner.run(batch), strict=True)))
        for output, array in answers[0].items():
            np.testing.assert_allclose(array, answers[1][output], atol=1e-5)


@pytest.mark.parametrize("name", ["nan.keras", "empty.keras"])
def test_what_is_no_tflite_pivot_is_no_onnx_pivot_either(loaded, name):
    assert loaded.outcomes[f"{name} onnx"]["error"] == "ModelError"
    assert loaded.outcomes[f"{name} onnx"]["message"] == loaded.outcomes[name]["message"]


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet.h5", "streaming.h5", "autoencoder.h5", "separable.h5", "deep.h5", "nested.keras",
        "binary.keras", "recurrent.keras",
    ],
)  # fmt: skip
def test_architectures_as_people_bring_them_load(loaded, name):
    pivot = loaded.outcomes[name]
    assert "error" not in pivot, pivot
    assert pivot["check_max_abs_diff"] < 1e-5


def test_whole_number_inputs_keep_their_type(loaded):
    (tokens,) = loaded.outcomes["tokens.keras"]["inputs"]
    assert tokens["dtype"] == "int32"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("lambda.h5", "has a Lambda layer ('lambda'), which is code", "--trust-model"),
        ("lambda.keras", "has a Lambda layer ('lambda'), which is code", "--trust-model"),
        ("custom.h5", "names the class Doubled", "SavedModel"),
        ("custom.keras", "Doubled ('doubled'), custom code", "SavedModel"),
        ("get_file.keras", "names the class keras.utils.get_file", "SavedModel"),
        ("py_function_saved", "has the op EagerPyFunc, which runs code", "--trust-model"),
        ("reads_file_saved", "has the op ReadFile", "--trust-model"),
        ("only.weights.h5", "holds only weights, not the model", "model.save(FILE)"),
        ("cnn_int8.tflite", "is already quantized", "float .tflite"),
        ("cnn_dynamic_range.tflite", "is already quantized", "float .tflite"),
        ("cnn_batch4.tflite", "input image of cnn_batch4.tflite takes a batch of 4", "batch of 1"),
        ("signatures.tflite", "has 2 signatures: one, two", "one signature"),
        ("two_doors_saved", "no signature 'serving_default', only: one, two", "signatures="),
        ("open_sides.keras", "input picture has the open shape (1, ?, ?, 3)", "[input] size"),
        ("open_time.keras", "input sound has the open shape (1, ?, 5)", "fixed shape"),
        ("nan.keras", "is NaN or infinite itself", "edgeq.toml"),
        ("empty.keras", "empty.keras is an empty model", "before it was built"),
        ("unbuilt.keras", "unbuilt.keras is an empty model", "before it was built"),
        ("custom.keras trusted", "Doubled is not known to Keras, and its code is no", "SavedModel"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_mend(loaded, name, message, hint):
    outcome = loaded.outcomes[name]
    assert outcome.get("error") == "ModelError", outcome
    assert message in outcome["message"]
    assert hint in outcome["hint"]


def test_a_lambda_runs_only_when_it_is_trusted(loaded):
    assert not loaded.outcomes["code ran untrusted"]
    assert loaded.outcomes["code ran trusted"]
    for name in ("lambda.h5", "lambda.keras", "harmless_lambda.h5", "harmless_lambda.keras"):
        outcome = loaded.outcomes[f"{name} trusted"]
        assert "error" not in outcome or "TensorFlow cannot convert" in outcome["message"], outcome


def test_the_known_layers_are_kerass_own_without_those_that_carry_code(loaded):
    own = set(loaded.outcomes["keras layers"])
    left_out = own - keras_config.KNOWN
    for name in ("Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "Layer"):
        assert name in left_out
    for name in ("Dense", "Conv2D", "DepthwiseConv2D", "BatchNormalization", "LSTM", "PReLU"):
        assert name not in left_out
    assert len(left_out) < 20, left_out


def test_a_lambda_is_refused_before_tensorflow_is_imported(loaded, tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edgeq import sources\n"
        "from edgeq.errors import ModelError\n"
        "from edgeq.loaders import keras\n"
        "from edgeq.ports import LoadOptions\n"
        "for name in sys.argv[2:]:\n"
        "    model = sources.identify_model(Path(name))\n"
        "    try:\n"
        "        options = LoadOptions(target='tflite')\n"
        "        keras.make().load(model.source, Path(sys.argv[1]), options, None)\n"
        "    except ModelError as error:\n"
        "        print(error.message)\n"
        "print('tensorflow' in sys.modules or 'keras' in sys.modules)\n"
    )
    names = [str(loaded.models / name) for name in ("lambda.h5", "lambda.keras", "custom.h5")]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert lines[-1] == "False"
    assert list(tmp_path.iterdir()) == []


# Below, everything is refused before TensorFlow would be imported, so in this process.


def load(path: Path, folder: Path) -> None:
    model = sources.identify_model(path)
    folder.mkdir(exist_ok=True)
    request = steps.LoadRequest(
        source=model.source,
        loader=model.loader,
        folder=folder,
        options=LoadOptions(target="tflite"),
        settings=Input(),
        data=None,
        reader=None,
    )
    steps.load(request, lambda *_: None)


def refusal(path: Path, tmp_path: Path) -> str:
    before = "tensorflow" in sys.modules
    with pytest.raises(ModelError) as caught:
        load(path, tmp_path / "pivot")
    assert ("tensorflow" in sys.modules) == before
    return caught.value.message


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("name", ["cnn.h5", "cnn.keras"])
def test_a_truncated_file_is_damaged(loaded, tmp_path, name, share):
    whole = (loaded.models / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    assert f"{name} is damaged" in refusal(tmp_path / name, tmp_path)


@pytest.mark.parametrize("name", ["m.h5", "m.hdf5", "m.keras", "m.tflite"])
@pytest.mark.parametrize(
    ("contents", "message"), [(b"", "is empty"), (b"hello world, no model", "contents are not")]
)
def test_an_empty_file_and_one_of_another_type_are_refused(tmp_path, name, contents, message):
    (tmp_path / name).write_bytes(contents)
    assert message in refusal(tmp_path / name, tmp_path)


@pytest.mark.parametrize("wrong", ["m.tflite", "m.keras"])
def test_a_file_under_the_name_of_another_kind_is_refused(loaded, tmp_path, wrong):
    shutil.copy(loaded.models / "cnn.h5", tmp_path / wrong)
    assert "but its contents are not" in refusal(tmp_path / wrong, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.onnx", "is called .onnx, but its contents are not"),
        ("m.pt", "is called .pt, but its contents are not"),
        ("m.pb", "is a bare TensorFlow graph, which edgeq does not take"),
        ("m.xyz", "is no kind of model that edgeq knows"),
    ],
)
def test_other_kinds_are_refused_with_those_taken(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"12345678")
    assert message in refusal(tmp_path / name, tmp_path)


def test_a_missing_file_and_a_folder_without_a_graph_are_refused(tmp_path):
    assert "there is no" in refusal(tmp_path / "missing.h5", tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("x")
    assert "without saved_model.pb" in refusal(tmp_path / "folder", tmp_path)


def test_a_hostile_name_is_taken_literally_and_one_that_is_no_text_is_refused(loaded, tmp_path):
    for name in ("$(touch x).tflite", "-oProxyCommand=x.tflite", "a\nb'\".tflite", "größe.tflite"):
        shutil.copy(loaded.models / "cnn.tflite", tmp_path / name)
        load(tmp_path / name, tmp_path / "pivot")
    assert not (tmp_path / "x").exists()
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.tflite"))
    shutil.copy(loaded.models / "cnn.tflite", odd)
    assert "is not UTF-8" in refusal(odd, tmp_path)


def test_a_file_over_2_gib_is_refused_unread(tmp_path):
    with (tmp_path / "m.h5").open("wb") as stream:
        stream.truncate((2 << 30) + 1)  # a hole, which takes no room
    assert "2.0 GiB; edgeq takes models up to 2 GiB" in refusal(tmp_path / "m.h5", tmp_path)


def test_an_hdf5_file_that_is_no_model_is_refused(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["numbers"] = np.zeros(3)
    assert "holds no Keras model" in refusal(tmp_path / "m.h5", tmp_path)


@pytest.mark.parametrize("link", [h5py.ExternalLink("/etc/passwd", "/"), h5py.SoftLink("/x")])
def test_an_hdf5_file_that_links_elsewhere_is_refused(loaded, tmp_path, link):
    shutil.copy(loaded.models / "cnn.h5", tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file["model_weights"]["elsewhere"] = link
    assert "has a link at 'elsewhere'" in refusal(tmp_path / "m.h5", tmp_path)


def test_weights_in_another_file_are_refused(loaded, tmp_path):
    shutil.copy(loaded.models / "cnn.h5", tmp_path / "m.h5")
    (tmp_path / "secret").write_bytes(b"x" * 400)
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.create_dataset("outside", (100,), "f4", external=[(str(tmp_path / "secret"), 0, 400)])
    assert "keeps the weights 'outside' in another file" in refusal(tmp_path / "m.h5", tmp_path)


def test_weights_larger_than_they_pack_are_refused(loaded, tmp_path):
    shutil.copy(loaded.models / "cnn.h5", tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.create_dataset("bomb", (1 << 30,), "f4", chunks=(1 << 20,), compression="gzip")
    assert "larger than 2 GiB" in refusal(tmp_path / "m.h5", tmp_path)


@pytest.mark.parametrize("config", [b"no json", b"[1, 2]", b'{"class_name": 3}', b"[" * 100_000])
def test_a_damaged_config_is_refused(loaded, tmp_path, config):
    shutil.copy(loaded.models / "cnn.h5", tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["model_config"] = config
    assert "config in m.h5 is damaged" in refusal(tmp_path / "m.h5", tmp_path)


@pytest.mark.parametrize(
    "extra",
    ["../outside", "/etc/cron.d/x", "assets/../../x", "assets/vocabulary.txt", "config.json"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_keras_zip_with_odd_members_is_refused(loaded, tmp_path, extra):
    shutil.copy(loaded.models / "cnn.keras", tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras", "a") as archive:
        archive.writestr(extra, "x")
    assert "does not belong into a .keras file" in refusal(tmp_path / "m.keras", tmp_path)
    assert not (tmp_path / "outside").exists()


def test_a_keras_zip_with_a_link_or_without_weights_is_refused(loaded, tmp_path):
    with zipfile.ZipFile(loaded.models / "cnn.keras") as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", "{}")
    assert "lacks model.weights.h5" in refusal(tmp_path / "m.keras", tmp_path)
    with zipfile.ZipFile(tmp_path / "m.keras", "a") as archive:
        link = zipfile.ZipInfo("model.weights.h5")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "does not belong" in refusal(tmp_path / "m.keras", tmp_path)


@pytest.mark.parametrize(
    "node",
    [
        {"class_name": "Lambda", "config": {"name": "evil"}},
        {"class_name": "Dense", "config": {"kernel_initializer": {"class_name": "__lambda__"}}},
        {"class_name": "function", "module": "builtins", "config": "exec"},
        {"class_name": "Dense", "module": "os", "config": {}},
        {"class_name": "get_file", "module": "keras.utils", "config": {}},
        {"class_name": "function", "module": "keras.src.ops.numpy", "config": "load"},
        {"class_name": "system", "module": "keras.ops", "config": {}},
        {"class_name": "TFSMLayer", "module": "keras.layers", "config": {"filepath": "/x"}},
        {"class_name": "Dense", "module": ["keras"], "config": {}},
        {"class_name": "TFOpLambda", "config": {"name": "tf.add"}},
    ],
)
def test_code_is_found_wherever_it_hides(node):
    deep = {"class_name": "Sequential", "config": {"layers": [{"x": [{"y": node}]}]}}
    for config in (node, deep):
        with pytest.raises(ModelError):
            keras_config.refuse_code(config, "m.h5")


def test_an_optimizers_config_is_no_concern_as_it_is_never_loaded():
    config = {
        "class_name": "Sequential",
        "config": {"layers": []},
        "compile_config": {"optimizer": {"class_name": "MyOptimizer", "module": "mine"}},
    }
    keras_config.refuse_code(config, "m.keras")
    assert "compile_config" not in json.dumps(keras_config.mend(config))


def test_old_configs_are_mended_and_new_ones_left_alone():
    old = {"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {"units": 1}}]}
    assert keras_config.mend(old)["config"]["layers"][0]["config"] == {"units": 1}
    lstm = {"class_name": "LSTM", "config": {"units": 2, "time_major": False}}
    assert keras_config.mend(lstm)["config"] == {"units": 2}
    assert keras_config.mend({"class_name": "Policy", "config": {"name": "float32"}}) == "float32"
    assert keras_config.mend({"class_name": "TensorShape", "items": [None, 4]}) == [None, 4]
    separable = {"kernel_initializer": "zeros", "kernel_constraint": None, "filters": 2}
    for kind in ("SeparableConv1D", "SeparableConv2D"):
        mended = keras_config.mend({"class_name": kind, "config": separable})
        assert mended["config"] == {"filters": 2}
    dropout = {"class_name": "SpatialDropout2D", "config": {"rate": 0.1, "noise_shape": None}}
    assert keras_config.mend(dropout)["config"] == {"rate": 0.1}
    simple = {"class_name": "SimpleRNN", "config": {"units": 2, "implementation": 2}}
    assert keras_config.mend(simple)["config"] == {"units": 2}
    grouped = {"class_name": "Conv2D", "config": {"groups": 2}}
    assert keras_config.mend(grouped) == grouped
    unlike = {"class_name": "DepthwiseConv2D", "config": {"groups": 2}}
    assert keras_config.mend(unlike) == unlike


def test_a_sequential_whose_first_layer_names_the_input_gets_an_input_layer():
    dense = {"name": "d", "units": 1, "batch_input_shape": [None, 4]}
    layers = [{"class_name": "Dense", "config": dense}]
    for config in (layers, {"name": "s", "layers": layers}):
        mended = keras_config.mend({"class_name": "Sequential", "config": config})
        first, second = mended["config"]["layers"]
        assert first["class_name"] == "InputLayer"
        assert first["config"]["batch_input_shape"] == [None, 4]
        assert second["config"] == {"name": "d", "units": 1}


def test_a_reason_is_the_line_that_tells_it():
    wrapped = (
        "Error when deserializing class 'X' using config={'name': 'x'}.\n\n"
        "Exception encountered: Unrecognized keyword arguments passed to X: {'groups': 1}"
    )
    said = tensorflow.reason(ValueError(wrapped))
    assert said == "Unrecognized keyword arguments passed to X: {'groups': 1}"
    called = "Exception encountered when calling E.call().\n\n\x1b[1m{{node a}} out of range\x1b[0m"
    assert tensorflow.reason(ValueError(called)) == "out of range"
    assert tensorflow.reason(ValueError("word " * 200)).endswith("word …")


@pytest.mark.parametrize("damage", ["half", "zeros", "head"])
def test_a_damaged_tflite_ends_a_child_at_most(loaded, tmp_path, damage):
    whole = (loaded.models / "cnn.tflite").read_bytes()
    contents = {
        "half": whole[: len(whole) // 2],
        "zeros": whole[:64] + bytes(len(whole) - 64),
        "head": whole[:8],
    }[damage]
    path = tmp_path / "m.tflite"
    path.write_bytes(contents)
    model = sources.identify_model(path)
    request = steps.LoadRequest(
        source=model.source,
        loader=model.loader,
        folder=tmp_path,
        options=LoadOptions(target="tflite"),
        settings=Input(),
        data=None,
        reader=None,
    )
    with pytest.raises((ModelError, WorkerError)):
        worker.call(steps.load, request, log=tmp_path / "log")
