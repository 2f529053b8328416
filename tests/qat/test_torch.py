"""A PyTorch program trained in its environment."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from edgeq import digest, environments, worker
from edgeq.core.model import Source
from edgeq.core.samples import Samples
from edgeq.datasets import stored
from edgeq.errors import ModelError
from edgeq.qat import checkpoint, torch
from edgeq.qat.work import TrainRequest
from tests.qat.conftest import ROOT

pytestmark = pytest.mark.timeout(1200)  # the first builds an environment


@pytest.fixture(scope="session")
def programs(home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    places = np.random.default_rng(0).permutation(len(images))
    for name, some in (("train", places[:900]), ("eval", places[900:])):
        np.savez(folder / f"{name}.npz", features=images[some], labels=digits.target[some])
    python = environments.ensure("torch", home.places, lambda *_: None)
    script = ROOT / "tests" / "qat" / "build_programs.py"
    subprocess.run([python, script, folder], check=True, capture_output=True)
    return folder


def request(folder, program, name="image", epochs=2):
    data = np.load(program.parent / "train.npz")
    samples = Samples(
        inputs=(data["features"][:48],), labels=data["labels"][:48], origin="", sha256=""
    )
    for part in ("training", "kept_back", "calibration"):
        (folder / part).mkdir(parents=True)
        stored.write(samples, folder / part)
    source = Source(
        path=program, name="p", kind="torch-export", sha256=digest.of_file(program), size_bytes=1
    )
    return TrainRequest(
        source=source, input_names=(name,), training=folder / "training",
        kept_back=folder / "kept_back", calibration=folder / "calibration", folder=folder,
        suffix=".pt2", classes=10, epochs=epochs, learning_rate=1e-3, batch=32, seed=0,
    )  # fmt: skip


def train(home, given):
    python = environments.ensure("torch", home.places, lambda *_: None)
    return worker.call(torch.train, given, log=given.folder / "log", python=python)


def test_a_program_is_trained_converted_and_compared(home, programs, tmp_path):
    home.run(
        "qat", programs / "open.pt2", "--train", programs / "train.npz",
        "--evaluate", programs / "eval.npz", "--epochs", 2,
        "-o", tmp_path / "out.pt2", "--json", tmp_path / "out.json",
    )  # fmt: skip
    report = json.loads((tmp_path / "out.json").read_text())
    found = {row["name"]: row for row in report["rows"]}
    assert found["float"]["accuracy"] > 0.8
    assert found["qat"]["accuracy"] >= found["ptq"]["accuracy"] - 0.02
    assert report["training"]["objective"] == "labels, categorical cross-entropy of logits"
    assert report["warnings"] == []
    done = home.run(
        "convert", tmp_path / "out.pt2", "--device", "host", "-o", tmp_path / "out.tflite",
        "--calibration", programs / "train.npz", "--evaluate", programs / "eval.npz",
        "--precision", "int8",
    )  # fmt: skip
    assert f"{found['qat']['accuracy']:.4f} artifact" in done.stdout


def test_a_batch_of_one_learns_as_an_open_one_does_and_says_that_it_is_slow(
    home, programs, tmp_path
):
    open_batch = train(home, request(tmp_path / "open", programs / "open.pt2", epochs=1))
    one = train(home, request(tmp_path / "one", programs / "one.pt2", epochs=1))
    assert open_batch.warnings == ()
    assert "open batch" in one.warnings[0]
    for a, b in zip(open_batch.epochs, one.epochs, strict=True):
        assert b.validation_loss == pytest.approx(a.validation_loss, rel=0.02)


def test_a_training_that_goes_on_ends_where_an_unbroken_one_does(home, programs, tmp_path):
    whole = train(home, request(tmp_path / "whole", programs / "open.pt2", epochs=2))
    broken = request(tmp_path / "broken", programs / "open.pt2", epochs=1)
    train(home, broken)
    resumed = train(home, replace(broken, epochs=2))
    assert resumed.resumed_at == 1
    assert resumed.epochs == whole.epochs
    one, other = (checkpoint.load(tmp_path / name) for name in ("whole", "broken"))
    assert all(np.array_equal(one.state[name], other.state[name]) for name in one.state)


def test_an_op_that_cannot_be_trained_is_named_with_its_layer(home, programs, tmp_path):
    with pytest.raises(ModelError, match=r"does not cover aten\.lstm.*layer 'memory'"):
        train(home, request(tmp_path / "r", programs / "recurrent.pt2", name="sound"))
