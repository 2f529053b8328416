import numpy as np
import pytest

from edgeq.core.model import TensorSpec
from edgeq.core.quality import classes_of, compare, guesses
from edgeq.errors import DataError, ModelError

SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
SWAPPED = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]], np.float32)


def test_the_formulas_on_numbers_reckoned_by_hand():
    one, other = np.array([[3.0, 4.0]], np.float32), np.array([[3.0, 3.0]], np.float32)
    quality = compare([one], [other], None, source="random")
    assert quality.sqnr_db == pytest.approx(10 * np.log10(25 / 1))
    assert quality.cosine == pytest.approx(21 / (5 * np.sqrt(18)))
    assert quality.samples == 1


def test_agreement_and_accuracy_with_labels():
    quality = compare([SCORES], [SWAPPED], np.array([0, 1, 0, 1]), source="evaluation")
    assert quality.top1_agreement == 0.75
    assert (quality.float_accuracy, quality.artifact_accuracy) == (1.0, 0.75)
    assert quality.accuracy_drop == 0.25
    assert quality.reasons == ()


def test_equal_answers_have_no_ratio_and_say_why():
    quality = compare([SCORES], [SCORES], None, source="random")
    assert quality.sqnr_db is None
    assert "sqnr_db: the artifact's outputs equal the float model's" in quality.reasons
    assert quality.cosine == pytest.approx(1.0)
    assert quality.accuracy_drop is None
    assert "accuracy: the samples have no labels" in quality.reasons


def test_a_float_model_of_zeros_has_no_ratio():
    zeros = np.zeros((2, 3), np.float32)
    quality = compare([zeros], [zeros + 1], None, source="random")
    assert quality.sqnr_db is None
    assert "sqnr_db: the float model's outputs are all 0" in quality.reasons
    assert quality.cosine == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_the_artifact_is_an_error(value):
    broken = SCORES.copy()
    broken[1, 0] = value
    with pytest.raises(ModelError, match="output 0 of the artifact is NaN"):
        compare([SCORES], [broken], None, source="random")


def test_the_worst_of_several_outputs_stands_for_all():
    noisy = SCORES + np.float32(0.1)
    quality = compare([SCORES, SCORES], [SCORES, noisy], None, source="random")
    assert quality.sqnr_db == compare([SCORES], [noisy], None, source="random").sqnr_db
    assert quality.top1_agreement is None
    assert "top1_agreement: the model has 2 outputs" in quality.reasons


def test_a_single_number_means_class_1_above_a_half():
    one = np.array([[0.2], [0.7], [0.6]], np.float32)
    other = np.array([[0.1], [0.9], [0.4]], np.float32)
    quality = compare([one], [other], np.array([0, 1, 1]), source="evaluation")
    assert quality.top1_agreement == pytest.approx(2 / 3)
    assert quality.float_accuracy == 1.0


def test_a_single_logit_means_class_1_above_zero():
    one = np.array([[-3.0], [0.2], [4.0]], np.float32)
    quality = compare([one], [one], np.array([0, 1, 1]), source="evaluation")
    assert quality.float_accuracy == 1.0


def test_a_single_number_outside_0_to_1_is_no_class_without_labels():
    prices, ruined = np.array([[0.5], [22.5], [7.0]], np.float32), np.ones((3, 1), np.float32)
    quality = compare([prices], [ruined], None, source="calibration")
    assert quality.top1_agreement is None
    assert any("one number outside 0 to 1" in reason for reason in quality.reasons)


def test_a_reconstruction_or_a_map_is_no_class_scores():
    rows = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    spec = TensorSpec(name="x", shape=(1, 6), dtype="float32")
    quality = compare([rows], [rows], np.zeros(4, np.int64), source="evaluation", inputs=[spec])
    assert quality.top1_agreement is None
    assert quality.float_accuracy is None
    assert any("reconstruction" in reason for reason in quality.reasons)
    image = rows.reshape(4, 3, 1, 2)
    assert compare([image], [image], None, source="random").top1_agreement is None


def test_probabilities_of_as_many_classes_as_features_are_class_scores():
    spec = TensorSpec(name="x", shape=(1, 2), dtype="float32")
    assert compare([SCORES], [SCORES], None, source="random", inputs=[spec]).top1_agreement == 1.0


def shaped(*shape):
    return TensorSpec(name="t", shape=shape, dtype="float32")


def test_the_number_of_classes_is_known_of_one_row_of_scores():
    image = (shaped(1, 8, 8, 3),)
    assert classes_of((shaped(1, 10),), image) == 10
    assert classes_of((shaped(1, 1, 1, 10),), image) == 10
    assert classes_of((shaped(1, 1),), image) is None
    assert classes_of((shaped(1, 4, 10),), image) is None
    assert classes_of((shaped(1, 10), shaped(1, 3)), image) is None
    assert classes_of((shaped(1, 64),), (shaped(1, 64),)) is None


@pytest.mark.parametrize(
    ("share", "samples", "classes", "guessed"),
    [
        (0.15, 100, 10, True),
        (0.16, 100, 10, False),
        (0.55, 100, 2, True),
        (0.60, 100, 2, False),
        (0.10, 19, 10, False),
        (0.10, 100, None, False),
    ],
)
def test_accuracy_at_chance_level_is_a_guess(share, samples, classes, guessed):
    labels = np.zeros(samples, np.int64)
    scores = np.tile(np.array([0.0, 1.0], np.float32), (samples, 1))
    scores[: round(share * samples)] = [1.0, 0.0]
    assert guesses(compare([scores], [scores], labels, source="evaluation"), classes) == guessed


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(DataError, match="a label is 2, but the model has 2 classes"):
        compare([SCORES], [SCORES], np.array([0, 1, 2, 0]), source="evaluation")
