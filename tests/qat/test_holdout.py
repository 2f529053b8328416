import numpy as np
import pytest

from edgeq.core import calibration, holdout
from edgeq.core.samples import Samples
from edgeq.errors import DataError


def samples(labels, count=None):
    count = len(labels) if labels is not None else count
    values = np.arange(count, dtype=np.float32).reshape(-1, 1)
    numbers = None if labels is None else np.asarray(labels, np.int64)
    return Samples(inputs=(values,), labels=numbers, origin="data.npz", sha256="s")


def test_each_class_gives_a_tenth_and_nothing_is_lost():
    all_of_them = samples([0] * 100 + [1] * 50 + [2] * 3)
    training, kept = holdout.split(all_of_them, seed=1)
    assert np.bincount(kept.labels).tolist() == [10, 5, 1]
    both = np.concatenate([training.inputs[0], kept.inputs[0]])
    assert sorted(both[:, 0].tolist()) == list(range(153))


def test_the_same_seed_keeps_the_same_and_another_one_others():
    data = samples(None, count=200)
    kept = [holdout.split(data, seed=seed)[1].inputs[0][:, 0].tolist() for seed in (1, 1, 2)]
    assert kept[0] == kept[1] != kept[2]
    assert len(kept[0]) == 20
    assert kept[0] == sorted(kept[0])


def test_classes_of_one_sample_each_still_leave_some_to_keep():
    training, kept = holdout.split(samples(list(range(30))), seed=0)
    assert (training.count, kept.count) == (27, 3)


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match=r"data\.npz has 19 samples, too few to train on"):
        holdout.split(samples(None, count=19), seed=0)


def test_samples_in_both_sets_are_counted_once():
    assert calibration.shared(samples([0, 0, 1]), samples([5, 5])) == 2
