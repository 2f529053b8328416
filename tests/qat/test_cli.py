"""What ``edgeq qat`` refuses before anything is trained."""

import shutil

import numpy as np
import pytest

from tests.fakes import tiny_model
from tests.qat.conftest import ROOT, Home

DIGITS = ROOT / "examples" / "digits"


@pytest.fixture
def bare(tmp_path):
    return Home(path=tmp_path / "home")


def refused(bare, *words, status):
    done = bare.run("qat", *words, "--epochs", 1, status=status)
    assert done.stdout == ""
    assert not (bare.path / "cache" / "environments").exists()
    return done.stderr


def test_a_model_that_holds_no_layers_is_refused_with_what_to_name_instead(bare, tmp_path):
    (tmp_path / "m.tflite").write_bytes(tiny_model.float_model())
    told = refused(bare, tmp_path / "m.tflite", "--train", DIGITS / "evaluation.npz", status=5)
    assert "is tflite, which cannot be trained" in told
    assert "name the Keras model" in told


def test_a_file_of_another_kind_is_not_written(bare, tmp_path):
    told = refused(
        bare, DIGITS / "digits_cnn.h5", "--train", DIGITS / "evaluation.npz",
        "-o", tmp_path / "out.tflite", status=2,
    )  # fmt: skip
    assert "such a model's file ends in .keras or .h5" in told


def test_the_model_itself_is_not_overwritten(bare, tmp_path):
    model = tmp_path / "m.h5"
    shutil.copy(DIGITS / "digits_cnn.h5", model)
    before = model.read_bytes()
    told = refused(bare, model, "--train", DIGITS / "evaluation.npz", "-o", model, status=2)
    assert "is the model itself" in told
    assert model.read_bytes() == before


def test_data_that_is_not_there_is_said_before_the_model_is_loaded(bare, tmp_path):
    told = refused(bare, DIGITS / "digits_cnn.h5", "--train", tmp_path / "none.npz", "-o",
                   tmp_path / "o.keras", status=5)  # fmt: skip
    assert f"there is no {tmp_path / 'none.npz'}" in told
    assert "load" not in told


def test_a_label_that_the_model_has_no_class_for_is_refused(bare, tmp_path):
    data = np.load(DIGITS / "evaluation.npz")
    np.savez(tmp_path / "t.npz", features=data["features"], labels=data["labels"] + 5)
    told = refused(bare, DIGITS / "digits_cnn.h5", "--train", tmp_path / "t.npz", "-o",
                   tmp_path / "o.keras", status=5)  # fmt: skip
    assert "a label in" in told
    assert "is 14, but the model has 10 classes" in told
