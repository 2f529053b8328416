"""A Keras model trained in its environment, from the command line to the figures."""

import json
import os
import shutil
import signal
import subprocess
import zipfile

import h5py
import numpy as np
import pytest

from edgeq import digest, environments, worker
from edgeq.core.model import Source
from edgeq.core.samples import Samples
from edgeq.datasets import stored
from edgeq.qat import keras
from edgeq.qat.work import TrainRequest

EPOCHS = 4
pytestmark = pytest.mark.timeout(1200)  # the first builds an environment


@pytest.fixture(scope="session")
def trained(home, keras_models):
    """What the whole command says and writes."""
    words = ("--train", keras_models / "train.npz", "--evaluate", keras_models / "eval.npz",
             "--epochs", EPOCHS, "--learning-rate", 0.002)  # fmt: skip
    done = home.run(
        "qat", keras_models / "net.keras", *words,
        "-o", keras_models / "out.keras", "--json", keras_models / "out.json",
    )  # fmt: skip
    return words, done, json.loads((keras_models / "out.json").read_text())


def rows(report):
    return {row["name"]: row for row in report["rows"]}


def answers(path, features):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    outputs = []
    for sample in features:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(outputs)


def test_the_figures_are_those_of_the_files_that_convert_makes(home, keras_models, trained):
    _, _, report = trained
    data = np.load(keras_models / "eval.npz")
    expected = {}
    for name, source, precision in (
        ("float", "net.keras", "float32"),
        ("ptq", "net.keras", "int8"),
        ("qat", "out.keras", "int8"),
        ("qat-float", "out.keras", "float32"),
    ):
        target = keras_models / f"{name}.tflite"
        home.run(
            "convert", keras_models / source, "--device", "host", "-o", target,
            "--calibration", keras_models / "train.npz", "--precision", precision,
            "--min-agreement", 0,
        )  # fmt: skip
        expected[name] = answers(target, data["features"])
        assert rows(report)[name]["size_bytes"] == target.stat().st_size
    for name, outputs in expected.items():
        row = rows(report)[name]
        noise = np.sum((outputs.astype(float) - expected["float"]) ** 2)
        accuracy = np.mean(outputs.argmax(1) == data["labels"])
        agreement = np.mean(outputs.argmax(1) == expected["float"].argmax(1))
        assert row["accuracy"] == pytest.approx(accuracy, abs=1e-9)
        assert row["agreement"] == pytest.approx(agreement, abs=1e-9)
        if name == "float":
            assert row["sqnr_db"] is None
        else:
            ratio = 10 * np.log10(np.sum(expected["float"].astype(float) ** 2) / noise)
            assert row["sqnr_db"] == pytest.approx(ratio, abs=1e-3)
    own = expected["qat"].astype(float) - expected["qat-float"]
    ratio = 10 * np.log10(np.sum(expected["qat-float"].astype(float) ** 2) / np.sum(own**2))
    assert report["own_sqnr_db"] == pytest.approx(ratio, abs=1e-3)


def test_training_mends_what_plain_int8_breaks_and_the_report_says_what_to_take(trained):
    _, done, report = trained
    found = rows(report)
    assert found["float"]["accuracy"] > 0.8
    assert found["ptq"]["accuracy"] < found["qat"]["accuracy"] - 0.1
    assert report["best"] in ("ptq-cle", "qat")
    assert report["advice"] in done.stdout
    assert f"{found['qat']['accuracy']:.4f}" in done.stdout


def test_each_epoch_is_told_and_the_one_kept_is_the_best(trained):
    _, done, report = trained
    lines = [line for line in done.stderr.splitlines() if line.startswith("model: epoch ")]
    assert len(lines) == EPOCHS
    assert report["training"]["samples"] + report["training"]["kept_back"] == 1200
    epochs = report["training"]["epochs"]
    assert [epoch["number"] for epoch in epochs] == list(range(EPOCHS + 1))
    best = max(epochs[1:], key=lambda e: (e["validation_accuracy"], -e["validation_loss"]))
    assert report["training"]["best_epoch"] == best["number"]


def test_rounding_in_training_foretells_the_real_int8(trained):
    """Epoch 0 is the user's weights: what it has on the samples kept back is what int8 has."""
    _, _, report = trained
    foretold = report["training"]["epochs"][0]["validation_accuracy"]
    assert foretold == pytest.approx(rows(report)["ptq"]["accuracy"], abs=0.1)


def weights(path):
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as packed:
        found = {}
        with h5py.File(packed, "r") as file:
            file.visititems(
                lambda name, item: (
                    found.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
                )
            )
        return found


def test_killed_training_goes_on_and_gives_the_same_model(home, keras_models, trained):
    words, _, report = trained
    shutil.rmtree(home.places.cache / "training")
    again = keras_models / "again.keras"
    command = home.command(
        "qat",
        keras_models / "net.keras",
        *words,
        "-o",
        again,
        "--json",
        keras_models / "again.json",
    )
    with subprocess.Popen(
        command, env=home.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        for line in child.stderr:
            if line.startswith("model: epoch 2 of"):
                os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not again.exists()
    home.run(*command[3:])
    resumed = json.loads((keras_models / "again.json").read_text())
    assert resumed["training"]["resumed_at"] >= 1
    assert resumed["training"]["epochs"] == report["training"]["epochs"]
    one, other = weights(keras_models / "out.keras"), weights(again)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def request(folder, model, samples, suffix=".h5"):
    for name in ("training", "kept_back", "calibration"):
        (folder / name).mkdir()
        stored.write(samples, folder / name)
    kind = {".keras": "keras", ".h5": "keras-h5"}[model.suffix]
    return TrainRequest(
        source=Source(
            path=model, name=model.stem, kind=kind, sha256=digest.of_file(model), size_bytes=1
        ),
        input_names=("image", "more"), training=folder / "training",
        kept_back=folder / "kept_back", calibration=folder / "calibration", folder=folder,
        suffix=suffix, classes=None, epochs=4, learning_rate=3e-4, batch=16, seed=0,
    )  # fmt: skip


def train(home, given):
    python = environments.ensure("qat", home.places, lambda *_: None)
    return worker.call(keras.train, given, log=given.folder / "log", python=python)


def test_a_model_without_classes_learns_its_own_answers(home, keras_models, tmp_path):
    random = np.random.default_rng(0)
    arrays = (random.normal(size=(64, 8, 8, 2)), random.normal(size=(64, 6)))
    samples = Samples(
        inputs=tuple(array.astype(np.float32) for array in arrays), origin="", sha256=""
    )
    done = train(home, request(tmp_path, keras_models / "odd.h5", samples))
    assert done.objective == "the float model's own answers"
    assert done.check_max_abs_diff < 1e-4
    assert done.epochs[-1].validation_loss < done.epochs[0].validation_loss
    assert done.epochs[-1].validation_accuracy is None
    with h5py.File(done.path, "r") as file:
        assert "model_config" in file.attrs
