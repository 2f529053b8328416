import numpy as np
import pytest

from edgeq.core import calibration
from edgeq.core.model import TensorSpec
from edgeq.core.project import Input
from edgeq.core.samples import Samples
from edgeq.errors import DataError

SPEC = TensorSpec(name="x", shape=(1, 4), dtype="float32")


def samples(values, labels=None, names=(), origin="data", sha256="s"):
    return Samples(
        inputs=(np.asarray(values, np.float32),),
        labels=None if labels is None else np.asarray(labels, np.int64),
        label_names=names,
        origin=origin,
        sha256=sha256,
    )


def noise(count, seed=0, scale=1.0):
    return np.random.default_rng(seed).random((count, 4)) * scale


def test_samples_are_spread_evenly_over_a_source_without_labels():
    chosen, rest = calibration.choose(samples(np.arange(40).reshape(10, 4)), 5)
    assert chosen.inputs[0][:, 0].tolist() == [0, 8, 16, 24, 32]
    assert rest is not None
    assert rest.inputs[0][:, 0].tolist() == [4, 12, 20, 28, 36]


def test_samples_are_spread_over_the_classes_even_when_one_is_rare():
    labels = [0] * 50 + [1] * 2 + [2] * 48
    chosen, rest = calibration.choose(samples(noise(100), labels), 20)
    assert np.bincount(chosen.labels).tolist() == [9, 2, 9]
    assert rest is not None
    assert rest.count == 80


def test_all_samples_are_taken_when_there_are_no_more():
    given = samples(noise(10))
    assert calibration.choose(given, 10) == (given, None)
    assert calibration.choose(given, 100) == (given, None)


def test_another_choice_has_another_hash():
    one, _ = calibration.choose(samples(noise(10)), 5)
    other, _ = calibration.choose(samples(noise(10)), 4)
    assert one.sha256 != other.sha256 != "s"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_refused_with_its_sample(value):
    values = noise(5)
    values[3, 1] = value
    with pytest.raises(DataError, match="sample 3 of data has NaN"):
        calibration.refuse_unusable(samples(values), [SPEC])


def test_fractions_and_large_values_do_not_fit_a_whole_number_input():
    spec = TensorSpec(name="x", shape=(1, 4), dtype="uint8")
    calibration.refuse_unusable(samples([[0, 1, 2, 255]]), [spec])
    for values in ([[0.5, 0, 0, 0]], [[0, 0, 0, 256]], [[-1, 0, 0, 0]]):
        with pytest.raises(DataError, match="takes whole numbers"):
            calibration.refuse_unusable(samples(values), [spec])


def audit(one=None, other=None, settings=None, count=100):
    return " | ".join(calibration.audit(one, other, settings or Input(), count))


def test_good_data_gives_no_warning():
    assert audit(samples(noise(40)), samples(noise(40, seed=1))) == ""


def test_constant_and_repeated_samples_are_told():
    values = noise(40)
    values[7] = 0
    values[9] = values[8]
    said = audit(samples(values))
    assert "blank calibration samples, of one value only: 1 (number 7)" in said
    assert "calibration samples that are copies of others: 1" in said


def test_samples_in_both_sets_are_told():
    assert "evaluation samples that stand in the calibration data too: 3" in audit(
        samples(noise(40)), samples(np.concatenate([noise(3), noise(30, seed=1)]))
    )


def test_too_few_samples_are_told_by_what_is_used():
    assert "few calibration samples: 8;" in audit(samples(noise(8)))
    assert "few calibration samples: 10;" in audit(samples(noise(400)), count=10)


def test_missing_classes_are_told_by_name_or_number():
    one = samples(noise(40), [0, 1] * 20, ("cat", "dog"))
    other = samples(noise(60, seed=1), [0, 1, 2] * 20, ("cat", "cow", "dog"))
    assert "classes missing from the calibration data: cow" in audit(one, other)
    assert "classes missing from the evaluation data: cow" in audit(other, one)
    bare = audit(samples(noise(40), [0, 1] * 20), samples(noise(60, seed=1), [0, 1, 2] * 20))
    assert "classes missing from the calibration data: 2" in bare


def test_another_number_of_classes_than_the_models_is_told():
    named = samples(noise(40), [0, 1] * 20, ("cat", "dog"))
    bare = samples(noise(40), [0, 1] * 20)
    for one in (named, bare):
        assert calibration.audit(None, one, Input(), 40, 2) == ()
        assert calibration.audit(None, one, Input(), 40, None) == ()
    (said,) = calibration.audit(None, named, Input(), 40, 3)
    assert "2 class folders, the model 3 classes" in said
    assert "labels may be shifted" in said
    (said,) = calibration.audit(None, bare, Input(), 40, 3)
    assert "samples of 2 classes, the model 3" in said


def test_an_empty_class_folder_of_the_calibration_data_is_a_missing_class():
    one = samples(noise(40), [0, 2] * 20, ("cat", "cow", "dog"))
    other = samples(noise(60, seed=1), [0, 1, 2] * 20, ("cat", "cow", "dog"))
    assert "classes missing from the calibration data: cow" in audit(one, other)


def test_a_range_that_is_not_what_edgeq_toml_makes_is_told():
    settings = Input(scale=1 / 255)
    assert audit(samples(noise(40)), settings=settings) == ""
    assert "becomes" in audit(samples(noise(40, scale=255)), settings=settings)
    assert "was it scaled before?" in audit(samples(noise(40, scale=1 / 255)), settings=settings)


def test_ranges_that_lie_apart_are_told():
    assert "values beyond it will be cut off" in audit(
        samples(noise(40)), samples(noise(40, seed=1, scale=255))
    )
    assert "were they scaled differently?" in audit(
        samples(noise(40, scale=255)), samples(noise(40, seed=1))
    )
