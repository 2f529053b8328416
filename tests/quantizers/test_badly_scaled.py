"""A digits net that plain int8 breaks (scripts/bench/badly_scaled.py), mended and counted."""

from pathlib import Path

import numpy as np
import pytest

from edgeq.core.samples import Samples
from edgeq.ports import Recipe
from edgeq.quantizers import tflite
from edgeq.quantizers.tflite_requantizer import Requantizer
from tests.fakes import small_nets

DATA = Path(__file__).parents[1] / "data" / "badly_scaled"


@pytest.fixture(scope="module")
def requantizer(tmp_path_factory):
    content = (DATA / "badly_scaled.tflite").read_bytes()
    pivot = small_nets.pivot(content, tmp_path_factory.mktemp("net"))
    features = np.load(DATA / "calibration.npz")["features"]
    samples = Samples(inputs=(features,), origin="digits", sha256="")
    return Requantizer(pivot, samples)


def accuracy(content, name):
    held = np.load(DATA / f"{name}.npz")
    answers = small_nets.answers(content, held["features"])
    return float(np.mean(answers.argmax(axis=1) == held["labels"]))


@pytest.mark.parametrize("name", ["eval", "heldback"])
def test_plain_int8_breaks_it_and_equalization_mends_it(requantizer, name):
    original = accuracy(requantizer.quantize(Recipe(precision="float32")), name)
    assert original > 0.97
    for weights in ("minmax", "octav"):
        plain = requantizer.quantize(Recipe(precision="int8", weights=weights))
        assert accuracy(plain, name) < 0.5
    mended = requantizer.quantize(Recipe(precision="int8", equalize=True))
    assert accuracy(mended, name) >= original - 0.01


def test_corrected_biases_bring_the_mended_net_closer(requantizer):
    features = np.load(DATA / "eval.npz")["features"]
    expected = small_nets.answers(requantizer.quantize(Recipe(precision="float32")), features)

    def sqnr_db(recipe):
        found = small_nets.answers(requantizer.quantize(recipe), features)
        return small_nets.sqnr_db(expected, found)

    mended = sqnr_db(Recipe(precision="int8", equalize=True))
    assert mended > 35
    assert sqnr_db(Recipe(precision="int8", equalize=True, correct_bias=True)) > mended + 1


def test_the_equalized_float_net_answers_as_before(requantizer):
    features = np.load(DATA / "eval.npz")["features"]
    before, after = (
        small_nets.answers(
            requantizer.quantize(Recipe(precision="float32", equalize=equalize)), features
        )
        for equalize in (False, True)
    )
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_model_without_pairs_says_that_it_was_not_equalized(tmp_path):
    net = small_nets.Net(1, 4)
    net.dense(np.eye(3, 4))
    pivot = small_nets.pivot(net.content(), tmp_path)
    recipe = Recipe(precision="int8", equalize=True)
    made = tflite.make().quantize(pivot, recipe, small_nets.samples(pivot), tmp_path)
    assert made.warnings == ("not equalized: no two layers with channels to equalize",)
